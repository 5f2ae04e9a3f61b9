"""The simulated devices of one recipe: two lines of Modbus TCP, and one serial line."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hil.building import Building
from hil.curves import load
from hil.meter import Meter
from hil.serial_line import SerialLine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

METERS = 6
FACTORY = 1
"""the address that a new meter has"""


async def lines(ports: Sequence[int], serials: Mapping[tuple[int, int], int]) -> None:
    """Serve the lines on `ports` until ended; a port of 0 is a line that does not answer."""
    async with Building.open(lines=len(ports), meters=METERS, ports=ports) as building:
        for at, serial in serials.items():
            building.meters[at].serial = serial
        await asyncio.Event().wait()


async def serial_line(port: Path, trouble: str) -> None:
    """Serve a serial line, whose port is the link `port`, until ended.

    `two`: two meters with one address; `deaf`: the meters speak at another rate; `busy`: another
    program holds the port.
    """
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(SerialLine.open(9600))
        began = time.time() // 86_400 * 86_400
        for serial in (24638001, 24638002)[: 1 + (trouble == "two")]:
            meter = Meter(0, FACTORY, serial, load(serial, 0, FACTORY, began))
            line.add(FACTORY, partial(_answer, meter))
        line.trouble.deaf = lambda: trouble == "deaf"
        with ExitStack() as held:
            if trouble == "busy":
                other = os.open(line.port, os.O_RDWR | os.O_NOCTTY)
                held.callback(os.close, other)
                fcntl.flock(other, fcntl.LOCK_EX)
            await asyncio.to_thread(port.symlink_to, line.port)
            await asyncio.Event().wait()


def _answer(meter: Meter, pdu: bytes) -> bytes:
    return meter.answer(pdu, time.time())[0]
