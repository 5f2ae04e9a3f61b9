"""Several meters with the same number: distinguish them by medium, version, maker and fabrication
number.

Selections show which meters are there, since a meter only acknowledges them. Each meter is read
once, within the limit of telegrams in a scan (see `search`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.drivers.base import Found
from agent.drivers.mbus import request
from agent.drivers.mbus.address import WILD, MeterAddress
from agent.drivers.mbus.device_types import MAKERS, MEDIA
from agent.drivers.mbus.scan_result import any_kind, told_apart, unread, unreadable
from agent.drivers.mbus.search import LENGTH, unmistakable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.drivers.base import Progress
    from agent.drivers.mbus.search import Search

NOBODYS = 0xFE
"""no meter has this version and medium: a meter that answers does not compare them"""
NOBODYS_FABRICATION = "E" * LENGTH
"""no meter has this fabrication number: a meter that answers does not compare it"""


async def apart(search: Search, number: str) -> AsyncIterator[Found | Progress]:
    """All meters with this number; if they cannot be distinguished, one unreadable result."""
    unused_kind = MeterAddress(None, number, None, NOBODYS, NOBODYS)
    if await search.certainly(request.select(unused_kind)):
        yield await _of_any_kind(search, unused_kind)
        return
    devices: dict[str, Found] = {}
    search.total += len(MEDIA)
    search.selections += len(MEDIA)
    for medium in MEDIA:
        search.done += 1
        search.selections -= 1
        yield search.progress(f"two meters of one number, {number}")
        async for step in _of_medium(search, number, medium):
            if isinstance(step, Found):
                devices[step.name] = step
            else:
                yield step
    for device in devices.values():
        yield told_apart(device) if len(devices) > 1 else device
    if not devices:
        address = MeterAddress(id=number)
        search.known.add(address.station)
        yield unreadable(address)


async def _of_any_kind(search: Search, unused_kind: MeterAddress) -> Found:
    """The meter that answers to any version, so that others with its number cannot be found."""
    telegram = await search.telegram(unused_kind)
    if telegram is None or telegram.id != unused_kind.id:
        address = MeterAddress(id=unused_kind.id)
        search.known.add(address.station)
        return unreadable(address)
    address = MeterAddress(
        None, unused_kind.id, telegram.manufacturer, telegram.version, telegram.medium
    )
    return any_kind(search.note(address, telegram))


async def _of_medium(search: Search, number: str, medium: int) -> AsyncIterator[Found | Progress]:
    """The meters with one number and one medium, by version if there are several."""
    all_versions = MeterAddress(None, number, None, None, medium)
    if not await search.anybody(request.select(all_versions)):
        return
    known = None
    if telegram := await search.telegram(all_versions):
        address = MeterAddress(None, number, telegram.manufacturer, telegram.version, medium)
        # A collision of telegrams may look like a meter that does not exist. Such a meter does not
        # acknowledge its selection.
        if address.fits(telegram) and await search.anybody(request.select(address)):
            known = telegram.version
            yield search.note(address, telegram)
            if unmistakable(telegram):
                return
    unused_kind = all_versions._replace(version=NOBODYS)
    if not await search.certainly(request.select(unused_kind)):
        async for step in _by_version(search, all_versions, known):
            yield step
    elif known is None:
        yield await _of_any_kind(search, unused_kind)


async def _by_version(
    search: Search, among: MeterAddress, known: int | None
) -> AsyncIterator[Found | Progress]:
    """The meters with one number and one medium, by version; `known`: a version found already."""
    kinds = []
    search.total += NOBODYS
    search.selections += NOBODYS
    for version in range(NOBODYS):
        search.done += 1
        search.selections -= 1
        kind = among._replace(version=version)
        if await search.anybody(request.select(kind)):
            kinds.append(kind)
        yield search.progress(f"{among.id}: version {version:02X}")
    for kind in kinds:
        if kind.version == known:
            continue
        telegram = None
        if len(kinds) > 1 and await search.selected(kind):
            telegram = await search.telegram(kind)
        if telegram is None:
            async for step in _by_maker(search, kind):
                yield step
            continue
        address = kind._replace(manufacturer=telegram.manufacturer)
        if not address.fits(telegram):
            return  # the same meter again: it answers to versions that are not its own
        yield search.note(address, telegram)


async def _by_maker(search: Search, kind: MeterAddress) -> AsyncIterator[Found | Progress]:
    """The meters with one number, version and medium: by maker, else by fabrication number."""
    search.total += len(MAKERS)
    search.selections += len(MAKERS)
    for maker in MAKERS:
        search.done += 1
        search.selections -= 1
        yield search.progress(f"{kind.id}: makers, {maker}")
        address = kind._replace(manufacturer=maker)
        if address.station in search.known or not await search.anybody(request.select(address)):
            continue
        may_ask = search.may_ask(address)
        telegram = await search.telegram(address)
        if telegram and address.fits(telegram):
            yield search.note(address, telegram)
            continue
        several = False
        async for step in _by_fabrication(search, address):
            several |= isinstance(step, Found)
            yield step
        if not several and not may_ask:
            search.known.add(address.station)
            yield unread(address)


async def _by_fabrication(search: Search, among: MeterAddress) -> AsyncIterator[Found | Progress]:
    """The meters that differ only in their fabrication numbers (enhanced selection)."""
    if await search.certainly(request.select(among._replace(fabrication=NOBODYS_FABRICATION))):
        return
    todo = [""]
    while todo:
        prefix = todo.pop()
        yield search.progress(f"{among.id}: fabrication numbers {prefix or 'of all'}")
        address = among._replace(fabrication=prefix.ljust(LENGTH, WILD))
        if not await search.anybody(request.select(address)):
            continue
        if len(prefix) < LENGTH:
            todo += [prefix + str(digit) for digit in reversed(range(10))]
        elif (telegram := await search.telegram(address)) and address.fits(telegram):
            yield search.note(address, telegram)
        elif not search.may_ask(address):
            search.known.add(address.station)
            yield unread(address)
