"""A UDP peer that answers requests with any bytes a test likes. It shares no code with anything."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Answerer = Callable[[int, int, bytes], "list[bytes]"]
    """invoke id, service, parameters → APDUs"""


def frame(apdu: bytes) -> bytes:
    """An Original-Unicast-NPDU (annex J) with an NPDU that is not routed."""
    npdu = b"\x01\x00" + apdu
    return b"\x81\x0a" + (len(npdu) + 4).to_bytes(2, "big") + npdu


class _Liar(asyncio.DatagramProtocol):
    def __init__(self, answer: Answerer) -> None:
        self.answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        apdu = data[6:]
        if apdu and apdu[0] >> 4 == 0:
            for reply in self.answer(apdu[2], apdu[3], apdu[4:]):
                self.transport.sendto(reply, addr)  # type: ignore[attr-defined]


@asynccontextmanager
async def liar(answer: Answerer) -> AsyncIterator[str]:
    """Serve on a loopback address of its own; gives `IP:PORT`."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Liar(answer), local_addr=("127.0.9.9", 0)
    )
    try:
        host, port = transport.get_extra_info("sockname")
        yield f"{host}:{port}"
    finally:
        transport.close()
