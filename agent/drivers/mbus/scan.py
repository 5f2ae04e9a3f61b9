"""Who is on the line: the meters expected, then all by their numbers, then all primary addresses.

Selecting by `4FFFFFFF` is answered by every meter whose number begins with 4. Their answers lie on
top of each other, where every 0 wins (a wired AND): several E5 look like one, and several telegrams
may look like a sound one of a meter that does not exist, or like that of just one of them. So a
number counts only once the meter has been selected by all of it and has answered alone, and beside
a meter that has next to nothing to say others are looked for all the same. Never writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.drivers.base import Found, Progress
from agent.drivers.mbus import request
from agent.drivers.mbus.address import LAST_PRIMARY, WILD, Address
from agent.drivers.mbus.decode import decode
from agent.drivers.mbus.errors import MbusError
from agent.drivers.mbus.found import entry, told_apart, unreadable
from agent.drivers.mbus.heard import foreign
from agent.drivers.mbus.words import MEDIA
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agent.drivers.base import Wish
    from agent.drivers.mbus.line import Line
    from agent.drivers.mbus.telegram import Telegram

DIGITS = "0123456789ABCDE"
LENGTH = 8
ATTEMPTS = 3
"""a question that nobody answers is asked so often: noise must not hide a meter"""
QUIET_ATTEMPTS = 2
"""the same where most questions are answered by nobody"""
ENOUGH_BITS = 12
"""set bits in its indexes by which a telegram is one meter's: one hidden below has them all"""
LOOK_EVERY = 5.0
"""seconds between two looks while listening for another master"""
INDEXES = frozenset({"energy", "volume", "mass", "HCA units", "counter"})


@dataclass(slots=True)
class Search:
    """One scan: what it has found, and how much there is to do yet."""

    line: Line
    known: set[str] = field(default_factory=set)
    """stations that were found"""
    numbers: set[str | None] = field(default_factory=set)
    """ids that were found"""
    done: int = 0
    total: int = len(DIGITS)

    def progress(self, words: str) -> Progress:
        """How far it is, with the time that the rest takes at this speed."""
        one = self.line.window(request.selection(request.ANY_ID), self.line.baudrate)
        left = max(0, self.total - self.done) * one * QUIET_ATTEMPTS
        about = f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"  # noqa: PLR2004
        return Progress(self.done, self.total, f"{words}, {len(self.known)} found, {about} to go")

    async def anybody(self, question: bytes) -> bool:
        """Whether anything at all is heard when a selection is sent."""
        for _ in range(QUIET_ATTEMPTS):
            answer = await self.line.chorus(question)
            if answer.noise:
                return True
        return False

    async def said(self, station: int = request.SELECTED, attempts: int = ATTEMPTS) -> bytes:
        """The sound frame of whoever is selected; empty where they disagree or nobody is."""
        for _ in range(attempts):
            answer = await self.line.frame(request.ask(station, fcb=True))
            if answer.data:
                return answer.data
        return b""

    async def alone(self, address: Address) -> Telegram | None:
        """The telegram of exactly this meter; None where there is no such meter, or several."""
        for _ in range(ATTEMPTS):
            if (await self.line.acknowledged(request.select(address))).data:
                break
        else:
            return None
        try:
            telegram = decode(await self.said())
        except MbusError:
            return None
        return telegram if address.fits(telegram) else None


async def scan(line: Line, wish: Wish, listen: float) -> AsyncIterator[Found | Progress]:
    """Search the line; see `agent.drivers.base.Discovers`.

    `wish.first` and `wish.last` are primary addresses, and then only those are searched; or `first`
    is a number with wildcards, `45FFFFFF`. Raises Refused where another master speaks.
    """
    primaries, prefix = _bounds(wish)
    async for progress in _listened(line, listen):
        yield progress
    search = Search(line)
    if prefix is not None:
        for number in wish.expected:
            async for found in _expected(search, number):
                yield found
        async for found in _below(search, prefix):
            yield found
    if primaries:
        async for found in _primary(search, primaries):
            yield found


def _bounds(wish: Wish) -> tuple[range, str | None]:
    """The primary addresses and the beginning of the numbers to be searched; None: no numbers."""
    first, last = wish.first, wish.last
    if len(first) == LENGTH and not last and set(first.upper()) <= {*DIGITS, WILD}:
        return range(0), first.upper().rstrip(WILD)
    if not first and not last:
        return range(1, LAST_PRIMARY + 1), ""
    if (first or "0").isdecimal() and (last or "0").isdecimal():
        wanted = range(int(first or 0), int(last or LAST_PRIMARY) + 1)
        if wanted and wanted[-1] <= LAST_PRIMARY:
            return wanted, None
    raise Refused(
        f"an M-Bus line is searched from --first to --last of 0 to {LAST_PRIMARY}, or below a"
        " beginning of the number: --first 45FFFFFF"
    )


async def _listened(line: Line, listen: float) -> AsyncIterator[Progress]:
    """Hear whether somebody else asks on this line. Raises Refused if so."""
    heard, left = b"", listen
    while left > 0:
        done = int(listen - left)
        yield Progress(done, int(listen), "listening for another master on the line")
        heard += await line.quiet(min(LOOK_EVERY, left))
        if foreign(heard):
            raise Refused(
                "another master asks the meters on this line; two at once make both misread:"
                " disconnect it, or take the readings from it"
            )
        left -= LOOK_EVERY


async def _expected(search: Search, number: str) -> AsyncIterator[Found | Progress]:
    digits = number.strip().upper()
    if len(digits) != LENGTH or not set(digits) <= set(DIGITS):
        yield Progress(0, 0, f'"{number}" is not the number of an M-Bus meter: eight digits')
        return
    address = Address(id=digits)
    telegram = await search.alone(address)
    if telegram:
        yield _note(search, address, telegram)
    else:
        yield Progress(0, 0, f"{digits} is expected, and does not answer")


async def _below(search: Search, prefix: str) -> AsyncIterator[Found | Progress]:
    """Search all numbers that begin so; a stack, so that the deepest is done first."""
    todo = [prefix]
    while todo:
        here = todo.pop()
        if here != prefix:
            search.done += 1
        question = request.selection(here.ljust(LENGTH, WILD))
        if not await search.anybody(question):
            yield search.progress(f"nobody at {here or 'all'}")
            continue
        if len(here) == LENGTH:
            async for found in _at(search, here):
                yield found
            continue
        one, alone = await _one_of(search)
        if one:
            yield one
        if not alone:
            todo += [here + digit for digit in reversed(DIGITS)]
            search.total += len(DIGITS)
        yield search.progress(f"searched {here or 'all'}")


async def _one_of(search: Search) -> tuple[Found | None, bool]:
    """The meter that a sound answer names, if it is new, and whether nobody else can be there."""
    try:
        heard = decode(await search.said(attempts=1))
    except MbusError:
        return None, False
    if heard.id is None or WILD in heard.id:
        return None, False
    address = Address(id=heard.id)
    telegram = await search.alone(address)
    if telegram is None:
        return None, False
    new = address.station not in search.known
    return _note(search, address, telegram) if new else None, weight(telegram) >= ENOUGH_BITS


def weight(telegram: Telegram) -> int:
    """The set bits in a meter's indexes: what one hidden below it would have to share."""
    return sum(
        int.from_bytes(record.data, "little").bit_count()
        for record in telegram.records
        if record.quantity in INDEXES and record.value is not None
    )


async def _at(search: Search, number: str) -> AsyncIterator[Found | Progress]:
    """Who has exactly this number: one meter, or several to be told apart."""
    address = Address(id=number)
    if address.station in search.known:
        return
    if telegram := await search.alone(address):
        yield _note(search, address, telegram)
        return
    if not (await search.line.acknowledged(request.select(address))).data:
        return  # noise, the first time
    several = 0
    for kind in _kinds():
        if not await search.anybody(request.selection(number, kind=kind)):
            continue
        async for found in _of_kind(search, number, kind):
            several += isinstance(found, Found)
            yield found
    if not several:
        search.known.add(address.station)
        yield unreadable(address)


def _kinds() -> Iterator[bytes]:
    for medium in MEDIA:
        yield bytes((request.ANY, medium))


async def _of_kind(search: Search, number: str, kind: bytes) -> AsyncIterator[Found | Progress]:
    """The meters of one number and one medium, by their versions where there are several."""
    for version in (request.ANY, *range(request.ANY)):
        wanted = bytes((version, kind[1]))
        if not await search.anybody(request.selection(number, kind=wanted)):
            continue
        try:
            said = decode(await search.said())
        except MbusError:
            if version == request.ANY:
                yield search.progress(f"two meters of one number: {number}")
            continue
        address = Address(None, number, said.manufacturer, said.version, said.medium)
        telegram = await search.alone(address)
        if telegram and address.station not in search.known:
            yield told_apart(_note(search, address, telegram))
        if version == request.ANY and telegram and weight(telegram) >= ENOUGH_BITS:
            return


async def _primary(search: Search, addresses: range) -> AsyncIterator[Found | Progress]:
    search.done, search.total = 0, len(addresses)
    for number in addresses:
        search.done += 1
        if not await search.anybody(request.reset(number)):
            yield search.progress(f"nobody at address {number}")
            continue
        address = Address(number)
        try:
            telegram = decode(await search.said(number))
        except MbusError:
            yield unreadable(address)
            continue
        if address.fits(telegram) and telegram.id not in search.numbers:
            yield _note(search, address, telegram)
        yield search.progress(f"asked address {number}")


def _note(search: Search, address: Address, telegram: Telegram) -> Found:
    search.known.add(address.station)
    search.numbers.add(telegram.id)
    return entry(address, telegram)
