"""Several meters that have one number: told apart by medium, version, maker, fabrication number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.drivers.base import Found
from agent.drivers.mbus import request
from agent.drivers.mbus.address import WILD, Address
from agent.drivers.mbus.decode import decode
from agent.drivers.mbus.errors import MbusError
from agent.drivers.mbus.found import told_apart, unreadable
from agent.drivers.mbus.search import unmistakable
from agent.drivers.mbus.words import MAKERS, MEDIA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.drivers.base import Progress
    from agent.drivers.mbus.search import Search

LENGTH = 8
"""digits of a number"""


async def apart(search: Search, number: str) -> AsyncIterator[Found | Progress]:
    """Everybody who has this number; one whose telegram cannot be read where nobody tells apart."""
    several = 0
    for medium in MEDIA:
        yield search.progress(f"two meters of one number, {number}")
        async for found in _of_medium(search, number, medium):
            several += isinstance(found, Found)
            yield found
    if not several:
        address = Address(id=number)
        search.known.add(address.station)
        yield unreadable(address)


async def _of_medium(search: Search, number: str, medium: int) -> AsyncIterator[Found | Progress]:
    """The meters of one number and one medium, by their versions where there are several."""
    for version in (request.ANY, *range(request.ANY)):
        kind = bytes((version, medium))
        if not await search.anybody(request.selection(number, kind=kind)):
            if version == request.ANY:
                return
            yield search.progress(f"{number}: no version {version:02X}")
            continue
        try:
            said = decode(await search.said())
        except MbusError:
            yield search.progress(f"two meters of one number: {number}")
            if version != request.ANY:
                async for found in _by_maker(search, number, kind):
                    yield found
            continue
        address = Address(None, number, said.manufacturer, said.version, said.medium)
        telegram = await search.alone(address)
        if telegram and address.station not in search.known:
            yield told_apart(search.note(address, telegram))
        if version == request.ANY and telegram and unmistakable(telegram):
            return


async def _by_maker(search: Search, number: str, kind: bytes) -> AsyncIterator[Found | Progress]:
    """The meters of one number, version and medium: by their makers, else by fabrication number."""
    for maker in MAKERS:
        yield search.progress(f"{number}: makers, {maker}")
        address = Address(None, number, maker, kind[0], kind[1])
        if not await search.anybody(request.select(address)):
            continue
        if telegram := await search.alone(address):
            yield told_apart(search.note(address, telegram))
            continue
        async for found in _by_fabrication(search, address):
            yield found


async def _by_fabrication(search: Search, among: Address) -> AsyncIterator[Found | Progress]:
    """The meters that all but their fabrication numbers have in common (enhanced selection)."""
    todo = [""]
    while todo:
        here = todo.pop()
        yield search.progress(f"{among.id}: fabrication numbers {here or 'of all'}")
        address = among._replace(fabrication=here.ljust(LENGTH, WILD))
        if not await search.anybody(request.select(address)):
            continue
        if len(here) < LENGTH:
            todo += [here + str(digit) for digit in reversed(range(10))]
        elif telegram := await search.alone(address):
            yield told_apart(search.note(address, telegram))
