"""One Modbus TCP connection, over pymodbus, with the ways in which that can mislead us closed.

- Its own timeout goes through `asyncio.wait_for`, which before Python 3.12 swallows a cancellation
  that meets an answer, and after a few silent devices it hangs up on all the others. So its
  timeout is off and ours stands around it.
- A connection that drops in mid-request is noticed at once, not after the timeout.
- A frame that contradicts itself is an answer nobody can use, not a crash of the connection.
- An answer must carry our transaction, unit, function and count; pymodbus lets transaction 0 pass.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from agent import clock
from agent.drivers.modbus.answer import Answer, in_step, refusal, whole
from agent.errors import LinkLost
from agent.model import Why

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.drivers.modbus.plan import Block

# It dumps a dozen frames for each late answer; what matters reaches people through our samples.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

REQUESTS: dict[str, type[ModbusPDU]] = {
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
}
BITS = frozenset({"coil", "discrete"})
BACKLOG = 4096
"""bytes of late answers that may arrive in one piece; pymodbus' 264 would throw ours away too"""
UNACKNOWLEDGED = 10_000
"""ms for which the host may leave our bytes unacknowledged until the line counts as lost"""


class _Garbled(ModbusPDU):
    """An answer to our request that contradicts itself."""


class _Decoder(DecodePDU):
    """Never None, at which pymodbus would raise inside the event loop and drop the connection."""

    def decode(self, frame: bytes) -> ModbusPDU:
        return (whole(frame) and super().decode(frame)) or _Garbled()


class Wire:
    """An open connection to one host; one request at a time."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.name = f"{host}:{port}"
        self.timeout = timeout
        self.asking = False
        self.client = AsyncModbusTcpClient(
            host, port=port, retries=0, reconnect_delay=0, trace_connect=self._connection
        )
        self.client.ctx.framer.decoder = _Decoder(is_server=False)
        self.client.ctx.max_buffer_size = BACKLOG
        self.client.ctx.comm_params.timeout_connect = None  # type: ignore[assignment]

    def _connection(self, made: bool) -> None:
        answer = self.client.ctx.response_future
        if not made and self.asking and not answer.done():
            answer.set_exception(ConnectionException("dropped in the middle of a request"))

    async def connect(self) -> None:
        """Connect, or raise LinkLost with the reason, which pymodbus' own connect hides."""
        params = self.client.ctx.comm_params
        try:
            async with asyncio.timeout(self.timeout):
                transport, _ = await asyncio.get_running_loop().create_connection(
                    lambda: self.client.ctx, params.host, params.port
                )
        except TimeoutError as error:
            raise LinkLost(f"{self.name} does not answer within {self.timeout:g} s") from error
        except (OSError, UnicodeError) as error:  # a host name with an empty label is the latter
            raise LinkLost(f"{self.name} cannot be reached: {_reason(error)}") from error
        transport.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED
        )

    async def ask(self, unit: int, block: Block) -> Answer:
        """Read one block of one unit. Raises LinkLost when the line is gone or out of step."""
        if not in_step(self.client.ctx.recv_buffer):
            raise LinkLost(f"{self.name} sent a broken frame")
        request = REQUESTS[block.table](dev_id=unit, address=block.start, count=block.count)
        self.asking = True
        try:
            async with asyncio.timeout(self.timeout):
                response = await self.client.execute(False, request)
        except TimeoutError:
            return Answer(
                clock.seconds(), why=Why.SILENT, detail=f"no answer in {self.timeout:g} s"
            )
        except ConnectionException as error:
            raise LinkLost(f"{self.name} closed the connection") from error
        finally:
            self.asking = False
        return self._checked(request, response, block)

    def _checked(self, request: ModbusPDU, response: ModbusPDU, block: Block) -> Answer:
        at = clock.seconds()
        if response.transaction_id != request.transaction_id or response.dev_id != request.dev_id:
            return Answer(at, why=Why.BAD, detail="answer to another request")
        if isinstance(response, _Garbled):
            return Answer(at, why=Why.BAD, detail="garbled answer")
        if response.function_code & 0x7F != request.function_code:
            return Answer(at, why=Why.BAD, detail=f"answer to function {response.function_code}")
        if response.isError():
            return refusal(response.exception_code, at)
        bits = block.table in BITS
        cells = response.bits if bits else response.registers
        expected = -(-block.count // 8) * 8 if bits else block.count
        if len(cells) != expected:
            detail = f"{len(cells)} values in the answer, {expected} asked for"
            return Answer(at, why=Why.BAD, detail=detail)
        return Answer(at, cells)


def _reason(error: OSError | UnicodeError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number and number > 0 else str(error)


@asynccontextmanager
async def connected(host: str, port: int, timeout: float) -> AsyncIterator[Wire]:  # noqa: ASYNC109 -- of each request, not of this block
    """Connect within `timeout` seconds, close on leaving. Raises LinkLost if it cannot."""
    wire = Wire(host, port, timeout)
    try:
        await wire.connect()
        yield wire
    finally:
        wire.client.close()
