"""Who is on the line: the meters expected, then all by their numbers, then all primary addresses.

Selecting by `4FFFFFFF` is answered by every meter whose number begins with 4: so the numbers are a
tree, of which only the branches are climbed on which somebody is. Beside a meter that has next to
nothing to say, others are looked for all the same: see `search`. Never writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.drivers.base import Found, Progress
from agent.drivers.mbus import request
from agent.drivers.mbus.address import LAST_PRIMARY, WILD, Address
from agent.drivers.mbus.apart import LENGTH, apart
from agent.drivers.mbus.decode import decode
from agent.drivers.mbus.errors import MbusError
from agent.drivers.mbus.found import unreadable
from agent.drivers.mbus.heard import foreign
from agent.drivers.mbus.search import Search, unmistakable
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.drivers.base import Wish
    from agent.drivers.mbus.line import Line

DIGITS = "0123456789ABCDE"
LOOK_EVERY = 5.0
"""seconds between two looks while listening for another master"""


async def scan(line: Line, wish: Wish, listen: float) -> AsyncIterator[Found | Progress]:
    """Search the line; see `agent.drivers.base.Discovers`.

    `wish.first` and `wish.last` are primary addresses, and then only those are searched; or `first`
    is a number with wildcards, `45FFFFFF`. Raises Refused where another master speaks.
    """
    primaries, prefix = _bounds(wish)
    async for progress in _listened(line, listen):
        yield progress
    search = Search(line, len(primaries) + (0 if prefix is None else len(DIGITS)))
    if prefix is not None:
        for number in wish.expected:
            yield await _expected(search, number)
        async for found in _below(search, prefix):
            yield found
    async for found in _primary(search, primaries):
        yield found
    if not search.known:
        words = (
            "nobody answers: has the level converter power, do its meters speak"
            f" {line.baudrate} baud?"
        )
        yield Progress(search.total, search.total, words, stays=True)


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


async def _expected(search: Search, number: str) -> Found | Progress:
    digits = number.strip().upper()
    if len(digits) != LENGTH or not set(digits) <= set(DIGITS):
        words = f'"{number}" is not the number of an M-Bus meter: eight digits'
        return Progress(search.done, search.total, words, stays=True)
    address = Address(id=digits)
    if telegram := await search.alone(address):
        return search.note(address, telegram)
    words = f"{digits} is expected, and does not answer"
    return Progress(search.done, search.total, words, stays=True)


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
    return search.note(address, telegram) if new else None, unmistakable(telegram)


async def _at(search: Search, number: str) -> AsyncIterator[Found | Progress]:
    """Who has exactly this number: one meter, or several to be told apart."""
    address = Address(id=number)
    if address.station in search.known:
        return
    if telegram := await search.alone(address):
        yield search.note(address, telegram)
        return
    if (await search.line.acknowledged(request.select(address))).data:  # else noise, the first time
        async for found in apart(search, number):
            yield found


async def _primary(search: Search, addresses: range) -> AsyncIterator[Found | Progress]:
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
            yield search.note(address, telegram)
        yield search.progress(f"asked address {number}")
