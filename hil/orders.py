"""The control port of the pretend building: how a test tells it to misbehave."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from hil.visits import visits

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from hil.building import Building

GRAMMAR = """\
The control port (127.0.0.1) takes one order a line and answers each with a line of JSON.
LINE counts from 0, UNIT from 1:

    silence LINE UNIT           the meter answers nothing more
    speak LINE UNIT             it answers again, at once
    slow LINE UNIT SECONDS      it holds every answer back
    refuse LINE UNIT ADDRESS    it refuses every block with this address
    allow LINE UNIT             it refuses nothing
    draw LINE UNIT WATTS        something is switched on behind it, and stays on
    exchange LINE UNIT          another meter is put in its place
    count                       how many requests came, answered or not
"""


def obey(building: Building, order: str) -> dict[str, Any]:
    """Carry out one order; one not understood is answered with `error`, and changes nothing."""
    try:
        return _carry_out(building, order.split())
    except (KeyError, ValueError) as error:
        return {"error": f"not understood: {order.strip()!r} ({error})"}


def _carry_out(building: Building, words: list[str]) -> dict[str, Any]:
    match words:
        case ["silence", line, unit]:
            done = building.silence(int(line), int(unit))
        case ["speak", line, unit]:
            done = building.speak(int(line), int(unit))
        case ["slow", line, unit, seconds]:
            done = building.slow(int(line), int(unit), float(seconds))
        case ["refuse", line, unit, address]:
            done = building.refuse(int(line), int(unit), int(address))
        case ["allow", line, unit]:
            done = building.allow(int(line), int(unit))
        case ["draw", line, unit, watts]:
            done = building.draw(int(line), int(unit), float(watts))
        case ["exchange", line, unit]:
            done = building.exchange(int(line), int(unit))
        case ["count"]:
            done = {"requests": building.requests}
        case _:
            raise ValueError("no such order")
    return done


@asynccontextmanager
async def taking_orders(building: Building, port: int = 0) -> AsyncIterator[int]:
    """Take orders on 127.0.0.1; gives the port."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while order := await reader.readline():
            writer.write(json.dumps(obey(building, order.decode())).encode() + b"\n")
            await writer.drain()

    async with visits(listen, port) as taken:
        yield taken
