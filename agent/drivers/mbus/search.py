"""The state of one search of a line: requests, time left, and what was found, for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.core.i18n import Text, joined
from agent.core.settings import took
from agent.drivers.base import Found, Progress
from agent.drivers.mbus import frame
from agent.drivers.mbus.decode import decode
from agent.drivers.mbus.frame import WILD, MeterAddress
from agent.drivers.mbus.line import BITS
from agent.drivers.mbus.registers import INDEXES, MEDIA
from agent.drivers.mbus.settings import ANSWERED, ASKED, REACTION_BITS, SELECTED
from agent.drivers.mbus.telegram import MbusError, medium, status

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from agent.drivers.mbus.line import MbusLine
    from agent.drivers.mbus.telegram import Telegram

PROFILES = {
    "electricity": "mbus-electricity",
    "gas": "mbus-gas",
    "heat": "mbus-heat",
    "cooling": "mbus-cooling",
    "warm-water": "mbus-warm-water",
    "cold-water": "mbus-cold-water",
    "hca": "mbus-hca",
}
"""by medium, in the order of MEDIA: a meter for heat and cooling gets the profile of heat"""
SHOWN = ("energy", "volume", "HCA units", "counter")
ATTEMPTS = 3
"""attempts of a request without an answer, since noise may hide the answer"""
QUIET_ATTEMPTS = 2
"""the same for requests that mostly have no answer"""
ENOUGH_BITS = 12
"""set bits in the indexes of a telegram from which it is that of a single meter: a second meter
below it would need all of them set too
"""
MOST_TELEGRAMS = 5
"""telegrams that one meter is asked for in a scan, including collisions with others"""
MOST_ON_THE_WAY = 3
"""telegrams of these before its whole number is known"""
LENGTH = 8
"""digits of a number"""
DIGITS = "0123456789ABCDE"


def entry(address: MeterAddress, telegram: Telegram) -> Found:
    """The result for a meter that was read."""
    profile = next(
        (PROFILES[medium_name] for medium_name, codes in MEDIA.items() if telegram.medium in codes),
        "",
    )
    settings: dict[str, str] = {"address": address.station}
    warnings = []
    if profile:
        settings["profile"] = profile
    else:
        warnings.append(
            Text(
                "{medium}: no profile fits; name what to read under `points`",
                medium=medium(telegram.medium),
            )
        )
    if telegram.encrypted:
        warnings.append(Text("its telegram is encrypted: it cannot be read"))
    if telegram.status:
        warnings.append(Text("it reports: {status}", status=status(telegram.status)))
    settings["every"] = "1h"
    return Found(_name(address), settings, _about(telegram), tuple(warnings), telegram.id)


def unreadable(address: MeterAddress) -> Found:
    """The result for an address that answers without a readable telegram."""
    warning = Text(
        "answers, but its telegram cannot be read: are there two meters with this {what}, or is the"
        " line disturbed?",
        what=Text("number") if address.primary is None else Text("primary address"),
    )
    settings = {"address": address.station, "every": "1h"}
    return Found(
        _name(address),
        settings,
        Text("unreadable, at {address}", address=address.station),
        (warning,),
    )


def unread(address: MeterAddress) -> Found:
    """The result for one or more meters that acknowledge an address and were not read."""
    warning = Text(
        "answers to its address, but could not be read within the five telegrams that a scan asks a"
        " meter for: scan again with --first {id}, which also tells whether there are two",
        id=address.id,
    )
    settings = {"address": address.station, "every": "1h"}
    return Found(
        _name(address),
        settings,
        Text("not read, at {address}", address=address.station),
        (warning,),
    )


def other_number(asked: MeterAddress, telegram: Telegram) -> Found:
    """The result for a meter that answers to a number or address that is not in its telegram."""
    named = telegram.id or Text(
        "a meter without a number, address {address}", address=telegram.address
    )
    if asked.primary is None:
        warning = Text(
            "{named} answered when {number} was asked for: it cannot be read by that number;"
            " compare the plate, and write the number that it says or its primary address",
            named=named,
            number=asked.id,
        )
    else:
        warning = Text(
            "{named}, which says it has address {own}, answered at address {address}: it cannot be"
            " read there; write its number as the address",
            named=named,
            own=telegram.address,
            address=asked.primary,
        )
    settings = {"address": asked.station, "every": "1h"}
    about = Text("{meter}, answered for {address}", meter=_about(telegram), address=asked.station)
    return Found(_name(asked), settings, about, (warning,), telegram.id)


def any_number(device: Found) -> Found:
    """Add the warning that the meter answers to every number."""
    warning = Text(
        "answers whatever number is asked for, so no other meter can be searched by its number"
        " while it is on the line: disconnect it and scan again"
    )
    return replace(device, warnings=(*device.warnings, warning))


def any_kind(device: Found) -> Found:
    """Add the warning that the meter answers to every version and medium."""
    warning = Text(
        "another meter has the same number, and this one answers whatever version and medium is"
        " asked for: disconnect one of the two and scan again"
    )
    return replace(device, warnings=(*device.warnings, warning))


def any_address(device: Found) -> Found:
    """Add the warning that the meter answers at every primary address."""
    warning = Text(
        "answers at every primary address, so no other meter can be searched by its primary"
        " address while it is on the line: disconnect it and scan again"
    )
    return replace(device, warnings=(*device.warnings, warning))


def told_apart(device: Found) -> Found:
    """Add the warning that another meter has the same number."""
    warning = Text("another meter has the same number: its address tells them apart")
    return replace(device, warnings=(*device.warnings, warning))


def _name(address: MeterAddress) -> str:
    return f"mbus-{address.station}".replace("+", "-")


def _about(telegram: Telegram) -> Text:
    name = " ".join(part for part in (telegram.manufacturer, telegram.id) if part)
    about = [name or Text("a meter"), medium(telegram.medium), *_index(telegram)]
    return joined(", ", about)


def _index(telegram: Telegram) -> list[Text]:
    for record in telegram.records:
        if record.quantity in SHOWN and not record.storage and isinstance(record.value, Decimal):
            value, unit = record.value, record.unit
            if unit == "Wh":
                value, unit = value / 1000, "kWh"
            return [Text("{value:f} {unit}", value=value.normalize(), unit=unit)]
    return []


@dataclass(slots=True)
class Search:
    """The state of one scan: what it has found, and what is still to be done."""

    line: MbusLine
    total: int
    """steps that are known so far"""
    most: int = MOST_TELEGRAMS
    """telegrams that the search by number may request from one meter"""
    done: int = 0
    """steps that are done"""
    known: set[str] = field(default_factory=set)
    """stations of the meters that were found"""
    numbers: set[str | None] = field(default_factory=set)
    """numbers of the meters that were found"""
    misdirected: dict[tuple[object, ...], str] = field(default_factory=dict)
    """meters that answered to a number or address that is not theirs, with the one that was asked
    """
    requests: list[MeterAddress] = field(default_factory=list)
    """the selections after which a telegram was requested"""
    sent: int = 0
    """telegrams that any one meter may have sent so far, at most"""
    prefixes: dict[str, bool] = field(default_factory=dict)
    """prefixes that were answered and not searched yet, with whether to request a telegram there"""
    opened: tuple[str, float] | None = None
    """the prefix whose next digit is being asked for, and the line's busy seconds when that began
    """
    selections: int = 0
    """selections that are certainly still to be sent"""
    addresses: int = 0
    """primary addresses that are still to be asked"""
    expected: list[str] = field(default_factory=list)
    """expected numbers that are still to be asked for"""
    ended: bool = False
    """the search by number ends, because a meter answers to the numbers of others"""
    readings: list[float] = field(default_factory=list)
    """seconds that selecting and reading each meter took"""
    costs: dict[int, list[float]] = field(default_factory=dict)
    """by the length of a prefix: seconds that searching each one took"""

    def progress(self, text: str) -> Progress:
        """The progress, with an estimate of the time that is left."""
        left = took(round(self.left()))
        message = Text(
            "{what}, {number} found, about {time} to go",
            what=text, number=len(self.known), time=left,
        )  # fmt: skip
        return Progress(self.done, self.total, message)

    def left(self) -> float:
        """Seconds that the rest takes, as estimated from what is known so far."""
        select, reset = self._window(numbers_from("")), self._window(None)
        numbers = QUIET_ATTEMPTS * self.selections * select
        numbers += sum(self._below(prefix, read=read) for prefix, read in self.prefixes.items())
        # What is below a prefix is known only once all its digits were asked for. Until then its
        # estimate from before is used, less the time that it has taken.
        if self.opened:
            prefix, since = self.opened
            numbers = max(numbers, self._below(prefix, read=False) - (self.line.busy - since))
        addresses = QUIET_ATTEMPTS * self.addresses * reset
        return numbers + addresses + len(self.expected) * self._reading()

    def _window(self, selection: MeterAddress | None) -> float:
        """Seconds that a selection takes; None: a reset."""
        question = frame.select(selection) if selection else frame.reset(0)
        return self.line.window(question, self.line.baudrate)

    def _reading(self) -> float:
        """Seconds for selecting and reading one meter."""
        bits = (SELECTED + ASKED + ANSWERED) * BITS + 2 * REACTION_BITS
        typical = bits / self.line.baudrate
        return (typical + sum(self.readings)) / (1 + len(self.readings))

    def _below(self, prefix: str, *, read: bool) -> float:
        """Seconds for the numbers with a prefix, by known numbers, else by what others took."""
        numbers = {
            number
            for number in (*self.expected, *self.numbers)
            if number and number.startswith(prefix)
        }
        if numbers:
            return self._descent(prefix, numbers, read=read)
        level = QUIET_ATTEMPTS * len(DIGITS) * self._window(numbers_from(""))
        # Mostly one meter, which is then read at once; or several that differ in the next digit.
        levels = 0.5 if read else 1.0
        if prefix and not read:  # mostly several of one batch, which differ in their last digits
            levels = LENGTH - len(prefix)
        others = self.costs.get(len(prefix), [])
        return (self._reading() + levels * level + sum(others)) / (1 + len(others))

    def _descent(self, prefix: str, numbers: Collection[str], *, read: bool) -> float:
        """Seconds to find these numbers, all of which begin with the prefix."""
        if len(prefix) == LENGTH or (read and len(numbers) == 1):
            return self._reading()
        below: dict[str, list[str]] = {}
        for number in numbers:
            below.setdefault(number[: len(prefix) + 1], []).append(number)
        silent = len(DIGITS) - len(below)
        seconds = self._window(numbers_from("")) * (QUIET_ATTEMPTS * silent + len(below))
        read = len(below) > 1 or not prefix
        return seconds + sum(
            self._descent(branch, members, read=read) for branch, members in below.items()
        )

    async def anybody(self, question: bytes) -> bool:
        """Whether anything at all is heard after a selection."""
        for _ in range(QUIET_ATTEMPTS):
            answer = await self.line.chorus(question)
            if answer.noise:
                return True
        return False

    async def certainly(self, question: bytes) -> bool:
        """Whether a request is answered two times out of three, so not only by noise."""
        answered = silent = 0
        while answered < QUIET_ATTEMPTS and silent < QUIET_ATTEMPTS:
            heard = (await self.line.chorus(question)).noise
            answered, silent = answered + bool(heard), silent + (not heard)
        return answered == QUIET_ATTEMPTS

    def asked(self, selection: MeterAddress) -> int:
        """Telegrams that one meter of this selection may have sent in this scan, at most."""
        for_parts = Counter(
            earlier.id
            for earlier in self.requests
            if not _covers(earlier, selection) and _overlap(earlier, selection)
        )
        return self.passed(selection) + max(for_parts.values(), default=0)

    def passed(self, selection: MeterAddress) -> int:
        """Telegrams that all meters of this selection were asked for at once."""
        return sum(_covers(earlier, selection) for earlier in self.requests)

    def may_ask(self, selection: MeterAddress, most: int | None = None) -> bool:
        """Whether one more telegram from the meters of this selection is within the limit."""
        return self.asked(selection) < (self.most if most is None else most)

    async def selected(self, selection: MeterAddress) -> bool:
        """Send a selection until a meter acknowledges it. Returns whether one did."""
        for _ in range(ATTEMPTS):
            if (await self.line.acknowledged(frame.select(selection))).data:
                return True
        return False

    async def telegram(self, selection: MeterAddress, keep: int = 0) -> Telegram | None:
        """The valid telegram of the meter that is selected.

        None if several answer or none does, or if the limit of telegrams is reached. `keep`: the
        number of telegrams that must be left for later.
        """
        if not self.may_ask(selection, self.most - keep):
            return None
        # Counted before the answer: a telegram that is lost in noise has been sent all the same.
        self.requests.append(selection)
        self.sent = max(self.sent, self.asked(selection))
        answer = await self.line.frame(frame.ask(frame.SELECTED, fcb=True))
        return _decoded(answer.data) if answer.data else None

    async def at_primary(self, address: int, attempts: int = ATTEMPTS) -> Telegram | None:
        """The valid telegram of the meter at a primary address; None: there is none."""
        for _ in range(attempts):
            answer = await self.line.frame(frame.ask(address, fcb=True))
            if answer.data:
                return _decoded(answer.data)
        return None

    async def alone(self, address: MeterAddress, keep: int = 0) -> Telegram | None:
        """Select and read a meter that is alone at its address; its telegram may have any number.

        None if there is no such meter, or several. The request is repeated only if `keep` telegrams
        are left for later.
        """
        began = self.line.busy
        if not self.may_ask(address) or not await self.selected(address):
            return None
        telegram = await self.telegram(address)
        if telegram:
            self.readings.append(self.line.busy - began)
        return telegram or await self.telegram(address, keep)

    def spare_attempts(self) -> int:
        """How often any meter may still be asked within the limit; at least once."""
        return max(1, min(ATTEMPTS, MOST_TELEGRAMS - self.sent))

    def note(self, address: MeterAddress, telegram: Telegram) -> Found:
        """Note a meter that was found, and return its result."""
        self.known.add(address.station)
        self.numbers.add(telegram.id)
        return entry(address, telegram)

    def answered_elsewhere(self, telegram: Telegram, asked: str) -> bool:
        """Note a meter that answered to an address that is not its own. Returns whether it did so
        before, for a different one.

        `asked`: a primary address, or a number or its first digits.
        """
        # A prefix of the earlier number is the same branch of the search, not a second address.
        identity = (telegram.id, telegram.manufacturer, telegram.version, telegram.medium)
        before = self.misdirected.get(identity, asked)
        self.misdirected[identity] = asked
        return not (asked.startswith(before) or before.startswith(asked))


def numbers_from(prefix: str) -> MeterAddress:
    """The selection of all numbers with a prefix."""
    return MeterAddress(id=prefix.ljust(LENGTH, WILD))


def unmistakable(telegram: Telegram) -> bool:
    """Whether a telegram must be that of a single meter, since a meter hidden below it would need
    the same bits set in its indexes.
    """
    set_bits = sum(
        int.from_bytes(record.data, "little").bit_count()
        for record in telegram.records
        if record.quantity in INDEXES and record.value is not None
    )
    return set_bits >= ENOUGH_BITS


def _decoded(frame: bytes) -> Telegram | None:
    try:
        return decode(frame)
    except MbusError:
        return None


def _pairs(left: MeterAddress, right: MeterAddress) -> Iterable[tuple[object, object]]:
    """The parts of two selections, pair by pair; None: a wildcard."""
    for first, second in zip(left.id, right.id, strict=True):
        yield _digit(first), _digit(second)
    yield left.manufacturer, right.manufacturer
    yield left.version, right.version
    yield left.medium, right.medium
    wild = WILD * LENGTH
    fabrications = zip(left.fabrication or wild, right.fabrication or wild, strict=True)
    for first, second in fabrications:
        yield _digit(first), _digit(second)


def _digit(digit: str) -> str | None:
    return None if digit == WILD else digit


def _covers(wide: MeterAddress, narrow: MeterAddress) -> bool:
    """Whether the selection `wide` selects every meter that `narrow` selects."""
    return all(wider is None or wider == narrower for wider, narrower in _pairs(wide, narrow))


def _overlap(left: MeterAddress, right: MeterAddress) -> bool:
    """Whether both selections can select the same meter."""
    return all(
        first is None or second is None or first == second for first, second in _pairs(left, right)
    )
