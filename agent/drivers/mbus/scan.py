"""Search an M-Bus line: the expected meters, then all numbers, then all primary addresses.

Every meter whose number begins with 4 answers to the selection `4FFFFFFF`. So the numbers form a
tree, and only branches with an answer are searched. A short telegram may hide that of another
meter, so the search goes on below it: see `search`, which also limits the telegrams that a meter is
asked for. Never writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.core.i18n import Text
from agent.core.settings import took
from agent.drivers.base import Found, Progress
from agent.drivers.mbus import frame
from agent.drivers.mbus.frame import LAST_PRIMARY, WILD, MeterAddress, foreign
from agent.drivers.mbus.search import (
    DIGITS,
    LENGTH,
    MOST_ON_THE_WAY,
    MOST_TELEGRAMS,
    Search,
    any_address,
    any_kind,
    any_number,
    numbers_from,
    other_number,
    told_apart,
    unmistakable,
    unread,
    unreadable,
)
from agent.drivers.mbus.telegram import MAKERS, MEDIA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.drivers.base import Wish
    from agent.drivers.mbus.line import MbusLine
    from agent.drivers.mbus.telegram import Telegram

NOBODYS = 0xFE
"""no meter has this version and medium: a meter that answers does not compare them"""
NOBODYS_FABRICATION = "E" * LENGTH
"""no meter has this fabrication number: a meter that answers does not compare it"""
NOBODYS_NUMBER = "EEEEEEEE"
"""no meter has this number, or a number that begins with its first seven digits"""
NOBODYS_ADDRESS = 252
"""reserved (EN 13757-2, 5.7.5): no meter has this primary address"""
LOOK_EVERY = 5.0
"""seconds between two checks while listening for another master"""


async def apart(search: Search, number: str) -> AsyncIterator[Found | Progress]:
    """All meters with this number; if they cannot be distinguished, one unreadable result."""
    unused_kind = MeterAddress(None, number, None, NOBODYS, NOBODYS)
    if await search.certainly(frame.select(unused_kind)):
        yield await _of_any_kind(search, unused_kind)
        return
    devices: dict[str, Found] = {}
    search.total += len(MEDIA)
    search.selections += len(MEDIA)
    for medium in MEDIA:
        search.done += 1
        search.selections -= 1
        yield search.progress(Text("two meters of one number, {number}", number=number))
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
    if not await search.anybody(frame.select(all_versions)):
        return
    known = None
    if telegram := await search.telegram(all_versions):
        address = MeterAddress(None, number, telegram.manufacturer, telegram.version, medium)
        # A collision of telegrams may look like a meter that does not exist. Such a meter does not
        # acknowledge its selection.
        if address.fits(telegram) and await search.anybody(frame.select(address)):
            known = telegram.version
            yield search.note(address, telegram)
            if unmistakable(telegram):
                return
    unused_kind = all_versions._replace(version=NOBODYS)
    if not await search.certainly(frame.select(unused_kind)):
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
        if await search.anybody(frame.select(kind)):
            kinds.append(kind)
        yield search.progress(Text("{id}: version {version:02X}", id=among.id, version=version))
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
        yield search.progress(Text("{id}: makers, {maker}", id=kind.id, maker=maker))
        address = kind._replace(manufacturer=maker)
        if address.station in search.known or not await search.anybody(frame.select(address)):
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
    if await search.certainly(frame.select(among._replace(fabrication=NOBODYS_FABRICATION))):
        return
    todo = [""]
    while todo:
        prefix = todo.pop()
        yield search.progress(
            Text("{id}: fabrication numbers {value}", id=among.id, value=prefix or Text("of all"))
        )
        address = among._replace(fabrication=prefix.ljust(LENGTH, WILD))
        if not await search.anybody(frame.select(address)):
            continue
        if len(prefix) < LENGTH:
            todo += [prefix + str(digit) for digit in reversed(range(10))]
        elif (telegram := await search.telegram(address)) and address.fits(telegram):
            yield search.note(address, telegram)
        elif not search.may_ask(address):
            search.known.add(address.station)
            yield unread(address)


async def scan(line: MbusLine, wish: Wish, listen: float) -> AsyncIterator[Found | Progress]:
    """Search the line; see `agent.drivers.base.Discovers`.

    If `wish.first` and `wish.last` are primary addresses, only these are searched. `first` may
    instead be a number with wildcards, `45FFFFFF`. Raises Refused if another master uses the line.
    """
    primaries, prefix = _bounds(wish)
    search = Search(line, len(primaries) + (0 if prefix is None else len(DIGITS)))
    search.addresses = len(primaries)
    if prefix is not None:
        search.expected, search.prefixes = _numbers(wish), {prefix: False}
        search.most = MOST_TELEGRAMS - bool(primaries)  # one telegram for the primary address
    async for progress in _listened(line, listen, search.left()):
        yield progress
    if prefix is not None:
        async for step in _by_number(search, prefix, wish):
            yield step
    if wish.expected_only:
        return
    async for step in _primary(search, primaries):
        yield step
    if not search.known:
        text = Text(
            "no meter answers: check that the level converter has power and that the meters use"
            " {baudrate} baud",
            baudrate=line.baudrate,
        )
        yield Progress(search.total, search.total, text, stays=True)


def _bounds(wish: Wish) -> tuple[range, str | None]:
    """The primary addresses to search, and the first digits of the numbers; None: no numbers."""
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
        "an M-Bus line is searched by primary address, --first and --last from 0 to"
        " {last_primary}, or by the first digits of the number: --first 45FFFFFF",
        last_primary=LAST_PRIMARY,
    )


async def _listened(line: MbusLine, listen: float, then: float) -> AsyncIterator[Progress]:
    """Listen for another master for `listen` seconds; `then`: seconds that the search takes.

    Raises Refused if there is one.
    """
    heard, left = b"", listen
    while left > 0:
        done = int(listen - left)
        text = Text(
            "listening for another master; the search then takes at least {time}",
            time=took(round(then)),
        )
        yield Progress(done, int(listen), text)
        heard += await line.quiet(min(LOOK_EVERY, left))
        if foreign(heard):
            raise Refused(
                "another master reads the meters on this line, and two masters disturb each other:"
                " disconnect it, or take the readings from it"
            )
        left -= LOOK_EVERY


def _numbers(wish: Wish) -> list[str]:
    """The expected serial numbers that are valid M-Bus numbers."""
    digits = [number.strip().upper() for number in wish.expected]
    return list(
        {number for number in digits if len(number) == LENGTH and set(number) <= set(DIGITS)}
    )


async def _by_number(search: Search, prefix: str, wish: Wish) -> AsyncIterator[Found | Progress]:
    """The expected meters, then all whose numbers begin with the prefix, if they are wanted."""
    any_selection = MeterAddress(id=NOBODYS_NUMBER)
    any_wildcard = numbers_from(NOBODYS_NUMBER[:-1])
    answers_any_number = await search.certainly(frame.select(any_selection))
    for number in () if answers_any_number else dict.fromkeys(wish.expected):
        yield await _expected(search, number)
        yield search.progress(Text("asked for {number}", number=number))
        if search.ended:
            break
    search.expected.clear()
    if search.ended:
        search.prefixes.clear()
        return
    if wish.expected_only:
        text = Text(
            "the listed meters were asked for. Searching for others takes about {time}, and longer"
            " if there are any",
            time=took(round(search.left())),
        )
        yield Progress(search.done, search.total, text, stays=True)
        return
    if not await search.anybody(frame.select(numbers_from(prefix))):
        search.prefixes.clear()
        search.done += len(DIGITS)
        yield search.progress(
            Text("no meter with a number from {prefix}", prefix=prefix)
            if prefix
            else Text("no meter answers by its number")
        )
        return
    if answers_any_number or await search.certainly(frame.select(any_wildcard)):
        search.prefixes.clear()
        search.done += len(DIGITS)
        yield await _answers_all(search, any_selection if answers_any_number else any_wildcard)
        return
    search.total -= len(DIGITS)  # counted with each digit that is searched
    async for step in _below(search, prefix):
        yield step


async def _answers_all(search: Search, selection: MeterAddress) -> Found | Progress:
    """The meter that answers to every number, so that no other can be found by its number."""
    await search.selected(selection)
    telegram = await search.telegram(selection)
    known = telegram is not None and telegram.id in search.numbers
    if telegram and telegram.id and WILD not in telegram.id and not known:
        return any_number(search.note(MeterAddress(id=telegram.id), telegram))
    subject = (
        Text("{id} answers", id=telegram.id)
        if telegram and known
        else Text("meters on this line answer")
    )
    text = Text(
        "{subject} whatever number is asked for, so no other meter can be searched by its number:"
        " disconnect what does so and scan again",
        subject=subject,
    )
    return Progress(search.done, search.total, text, stays=True)


async def _expected(search: Search, number: str) -> Found | Progress:
    digits = number.strip().upper()
    if len(digits) != LENGTH or not set(digits) <= set(DIGITS):
        text = Text(
            '"{number}" is not the number of an M-Bus meter, which has eight digits', number=number
        )
        return Progress(search.done, search.total, text, stays=True)
    address = MeterAddress(id=digits)
    if digits not in search.expected:
        return search.progress(Text("already asked for {digits}", digits=digits))
    search.expected.remove(digits)
    telegram = await search.alone(address)
    if telegram and address.fits(telegram):
        return search.note(address, telegram)
    if telegram:
        return _of_another(search, address, telegram)
    text = Text("meter {digits} is expected, but does not answer", digits=digits)
    return Progress(search.done, search.total, text, stays=True)


def _of_another(search: Search, asked: MeterAddress, telegram: Telegram) -> Found | Progress:
    """The result if another meter answered than the one that was asked for."""
    if search.answered_elsewhere(telegram, asked.id):
        search.ended = True
        text = Text(
            "{id} answered when {id_2} was asked for, as it did for another number: the search by"
            " number ends here; disconnect it and scan again",
            id=telegram.id,
            id_2=asked.id,
        )
        return Progress(search.done, search.total, text, stays=True)
    search.known.add(asked.station)
    return other_number(asked, telegram)


async def _below(search: Search, prefix: str) -> AsyncIterator[Found | Progress]:
    """Search all numbers with a prefix that was answered."""
    began = search.line.busy
    read = search.prefixes.pop(prefix)
    if len(prefix) == LENGTH:
        async for step in _at(search, prefix):
            yield step
    else:
        hidden = True
        if read:
            device, hidden = await _meter_named(search, prefix)
            if device:
                yield device
        if hidden and not search.ended:
            async for step in _children(search, prefix):
                yield step
    search.costs.setdefault(len(prefix), []).append(search.line.busy - began)


async def _children(search: Search, prefix: str) -> AsyncIterator[Found | Progress]:
    """Search a prefix by its next digit."""
    search.total += len(DIGITS)
    search.selections += len(DIGITS)
    search.opened = prefix, search.line.busy
    answered = []
    for digit in DIGITS:
        search.done += 1
        search.selections -= 1
        longer = prefix + digit
        if await search.anybody(frame.select(numbers_from(longer))):
            answered.append(longer)
            search.prefixes[longer] = True
        yield search.progress(Text("asked for numbers from {longer}", longer=longer))
    search.opened = None
    for longer in answered:
        # A single branch holds the same meters as its prefix. If these were read already without
        # a result, reading again would only cost them another telegram.
        read = len(answered) > 1 or not search.passed(numbers_from(longer))
        search.prefixes[longer] = read and search.passed(numbers_from(longer)) < MOST_ON_THE_WAY
    for longer in answered:
        if search.ended:
            search.prefixes.pop(longer)
            continue
        async for step in _below(search, longer):
            yield step
        yield search.progress(Text("searched {longer}", longer=longer))


async def _meter_named(search: Search, prefix: str) -> tuple[Found | Progress | None, bool]:
    """The meter that a valid answer names, if it is new; and whether others may be hidden there."""
    selection = numbers_from(prefix)
    if not search.may_ask(selection) or not await search.selected(selection):
        return None, True
    heard = await search.telegram(selection)
    if heard is None or heard.id is None or WILD in heard.id:
        return None, True
    address = MeterAddress(id=heard.id)
    if not heard.id.startswith(prefix):
        return _of_another_branch(search, prefix, heard), True
    if address.station in search.known:
        return None, not unmistakable(heard)
    telegram = await search.alone(address, keep=1)
    if telegram is None or not address.fits(telegram):
        return None, True
    return search.note(address, telegram), not unmistakable(telegram)


def _of_another_branch(search: Search, prefix: str, heard: Telegram) -> Found | Progress | None:
    """The result if a meter answers whose number does not have the prefix.

    Digits that all meters share survive every collision, so it is the answer of a single meter. If
    the same meter does so a second time, the search by number ends.
    """
    if not search.answered_elsewhere(heard, prefix):
        return None  # it may be selectable by another number than it sends: see `_at`
    search.ended = True
    address = MeterAddress(id=heard.id or "")
    if address.station not in search.known:
        return any_number(search.note(address, heard))
    text = Text(
        "{id} answered when numbers from {prefix} were asked for: the search by number ends here;"
        " disconnect it and scan again",
        id=heard.id,
        prefix=prefix,
    )
    return Progress(search.done, search.total, text, stays=True)


async def _at(search: Search, number: str) -> AsyncIterator[Found | Progress]:
    """The meters with exactly this number: one, or several to be distinguished."""
    address = MeterAddress(id=number)
    if address.station in search.known:
        return
    telegram = await search.alone(address, keep=1)
    if telegram and address.fits(telegram):
        yield search.note(address, telegram)
    elif telegram:
        yield _of_another(search, address, telegram)
    elif not (await search.line.acknowledged(frame.select(address))).data:
        return  # it was noise
    elif search.may_ask(address):
        async for step in apart(search, number):
            yield step
    else:
        search.known.add(address.station)
        yield unread(address)


async def _primary(search: Search, addresses: range) -> AsyncIterator[Found | Progress]:
    if addresses and await search.certainly(frame.reset(NOBODYS_ADDRESS)):
        search.addresses = 0
        yield await _answers_everywhere(search)
        return
    attempts = search.spare_attempts()
    for number in addresses:
        search.done += 1
        search.addresses -= 1
        if not await search.anybody(frame.reset(number)):
            yield search.progress(Text("no meter at address {number}", number=number))
            continue
        address = MeterAddress(number)
        telegram = await search.at_primary(number, attempts)
        if telegram is None:
            yield unreadable(address)
            continue
        if not address.fits(telegram):
            again = search.answered_elsewhere(telegram, f"address {number:03}")
            yield other_number(address, telegram)
            if again:
                # It answers at the addresses of others. Each further address would cost it a
                # telegram.
                return
        elif telegram.id not in search.numbers:
            yield search.note(address, telegram)
        yield search.progress(Text("asked address {number}", number=number))


async def _answers_everywhere(search: Search) -> Found | Progress:
    """The meter that answers at every primary address, so that no other can be found by address."""
    telegram = await search.at_primary(NOBODYS_ADDRESS, attempts=1)
    if telegram and telegram.address <= LAST_PRIMARY and telegram.id not in search.numbers:
        return any_address(search.note(MeterAddress(telegram.address), telegram))
    subject = Text("{id} answers", id=telegram.id) if telegram else Text("several meters answer")
    text = Text(
        "{subject} at every primary address, so these cannot be searched: disconnect what answers"
        " everywhere and scan again",
        subject=subject,
    )
    return Progress(search.done, search.total, text, stays=True)
