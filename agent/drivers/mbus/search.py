"""One search of a line: the questions that it asks, and what it has found so far.

Answers of several meters lie on top of each other, where every 0 wins (a wired AND): several E5
look like one, and several telegrams may look like a sound one of a meter that does not exist, or
like that of just one of them. So a number counts only once the meter has been selected by all of it
and has answered alone.

Every telegram costs a battery meter some of its life, and a collision costs each meter in it one.
So a search counts the telegrams that it has asked for, by selection, and never asks a meter for
more than `MOST_TELEGRAMS`. An acknowledgement (E5) costs next to nothing and is not counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.drivers.base import Progress
from agent.drivers.mbus import request
from agent.drivers.mbus.address import WILD, MeterAddress
from agent.drivers.mbus.decode import decode
from agent.drivers.mbus.errors import MbusError
from agent.drivers.mbus.line import BITS
from agent.drivers.mbus.registers import INDEXES
from agent.drivers.mbus.scan_result import entry
from agent.drivers.mbus.settings import ANSWERED, ASKED, REACTION_BITS, SELECTED
from agent.settings import took

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from agent.drivers.base import Found
    from agent.drivers.mbus.line import MbusLine
    from agent.drivers.mbus.telegram import Telegram

ATTEMPTS = 3
"""a question that nobody answers is asked so often: noise must not hide a meter"""
QUIET_ATTEMPTS = 2
"""the same where most questions are answered by nobody"""
ENOUGH_BITS = 12
"""set bits in its indexes by which a telegram is one meter's: one hidden below has them all"""
MOST_TELEGRAMS = 5
"""that one meter is asked for in one scan, whoever else answers at the same time"""
MOST_ON_THE_WAY = 3
"""of them before its whole number is known"""
LENGTH = 8
"""digits of a number"""
DIGITS = "0123456789ABCDE"


@dataclass(slots=True)
class Search:
    """One scan: what it has found, and how much there is to do yet."""

    line: MbusLine
    total: int
    """steps, of those known so far"""
    most: int = MOST_TELEGRAMS
    """telegrams that the search by number asks one meter for"""
    done: int = 0
    known: set[str] = field(default_factory=set)
    """stations that were found"""
    numbers: set[str | None] = field(default_factory=set)
    """ids that were found"""
    strangers: dict[tuple[object, ...], str] = field(default_factory=dict)
    """meters that answered for another number or address than their own: for which one"""
    requests: list[MeterAddress] = field(default_factory=list)
    """the selections after which a telegram was asked for"""
    sent: int = 0
    """telegrams that any one meter may have sent so far, at most"""
    prefixes: dict[str, bool] = field(default_factory=dict)
    """beginnings of numbers that were answered and not searched yet: whether to read there"""
    opened: tuple[str, float] | None = None
    """the beginning whose next digit is being asked for, and since when, in seconds of the line"""
    selections: int = 0
    """selections that are certainly still to be made"""
    addresses: int = 0
    """primary addresses that are still to be asked"""
    expected: list[str] = field(default_factory=list)
    """numbers that are still to be asked for"""
    ended: bool = False
    """the search by number ends: a meter answers for the numbers of others"""
    readings: list[float] = field(default_factory=list)
    """seconds that it took to select and read each meter"""
    costs: dict[int, list[float]] = field(default_factory=dict)
    """by the length of a beginning: seconds that it took to search below each one"""

    def progress(self, text: str) -> Progress:
        """How far it is, with the time that the rest takes at this speed."""
        left = took(round(self.left()))
        message = f"{text}, {len(self.known)} found, about {left} to go"
        return Progress(self.done, self.total, message)

    def left(self) -> float:
        """Seconds that the rest takes, by what is known of it so far."""
        select, reset = self._window(numbers_from("")), self._window(None)
        numbers = QUIET_ATTEMPTS * self.selections * select
        numbers += sum(self._below(prefix, read=read) for prefix, read in self.prefixes.items())
        if self.opened:  # what is below it is known only when all its digits have been asked for
            prefix, since = self.opened
            numbers = max(numbers, self._below(prefix, read=False) - (self.line.busy - since))
        addresses = QUIET_ATTEMPTS * self.addresses * reset
        return numbers + addresses + len(self.expected) * self._reading()

    def _window(self, selection: MeterAddress | None) -> float:
        """Seconds that a selection takes, or (None) a reset."""
        question = request.select(selection) if selection else request.reset(0)
        return self.line.window(question, self.line.baudrate)

    def _reading(self) -> float:
        """Seconds in which one meter is selected and read."""
        bits = (SELECTED + ASKED + ANSWERED) * BITS + 2 * REACTION_BITS
        typical = bits / self.line.baudrate
        return (typical + sum(self.readings)) / (1 + len(self.readings))

    def _below(self, prefix: str, *, read: bool) -> float:
        """Seconds for the numbers that begin so: by those known, else by what others took."""
        numbers = {
            number
            for number in (*self.expected, *self.numbers)
            if number and number.startswith(prefix)
        }
        if numbers:
            return self._descent(prefix, numbers, read=read)
        level = QUIET_ATTEMPTS * len(DIGITS) * self._window(numbers_from(""))
        # one meter, mostly, which is then read at once; or several, and one digit more tells them
        levels = 0.5 if read else 1.0
        if prefix and not read:  # several of one batch, mostly, whose last digits tell them apart
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
        """Whether anything at all is heard when a selection is sent."""
        for _ in range(QUIET_ATTEMPTS):
            answer = await self.line.chorus(question)
            if answer.noise:
                return True
        return False

    async def certainly(self, question: bytes) -> bool:
        """Whether a question is answered, not by noise, which answers once: two times of three."""
        answered = silent = 0
        while answered < QUIET_ATTEMPTS and silent < QUIET_ATTEMPTS:
            heard = (await self.line.chorus(question)).noise
            answered, silent = answered + bool(heard), silent + (not heard)
        return answered == QUIET_ATTEMPTS

    def asked(self, selection: MeterAddress) -> int:
        """How many telegrams one meter that this selects may have sent in this scan, at most."""
        for_parts = Counter(
            earlier.id
            for earlier in self.requests
            if not _covers(earlier, selection) and _overlap(earlier, selection)
        )
        return self.passed(selection) + max(for_parts.values(), default=0)

    def passed(self, selection: MeterAddress) -> int:
        """How many telegrams all that this selects were asked for at once."""
        return sum(_covers(earlier, selection) for earlier in self.requests)

    def may_ask(self, selection: MeterAddress, most: int | None = None) -> bool:
        """Whether one more telegram of whoever this selects is within the bound."""
        return self.asked(selection) < (self.most if most is None else most)

    async def selected(self, selection: MeterAddress) -> bool:
        """Select, until somebody acknowledges it."""
        for _ in range(ATTEMPTS):
            if (await self.line.acknowledged(request.select(selection))).data:
                return True
        return False

    async def telegram(self, selection: MeterAddress, keep: int = 0) -> Telegram | None:
        """The sound telegram of whoever a selection fits, who must be selected.

        None where several answer or nobody does, or where no telegram may be asked for any more;
        `keep`: so many must remain for later.
        """
        if not self.may_ask(selection, self.most - keep):
            return None
        self.requests.append(selection)
        self.sent = max(self.sent, self.asked(selection))
        answer = await self.line.frame(request.ask(request.SELECTED, fcb=True))
        return _decoded(answer.data) if answer.data else None

    async def at_primary(self, address: int, attempts: int = ATTEMPTS) -> Telegram | None:
        """The sound telegram of whoever answers at a primary address."""
        for _ in range(attempts):
            answer = await self.line.frame(request.ask(address, fcb=True))
            if answer.data:
                return _decoded(answer.data)
        return None

    async def alone(self, address: MeterAddress, keep: int = 0) -> Telegram | None:
        """The telegram of the only meter that this selects, whatever number that says.

        None where there is no such meter, or several. Asked twice only where `keep` telegrams
        remain for later.
        """
        began = self.line.busy
        if not self.may_ask(address) or not await self.selected(address):
            return None
        telegram = await self.telegram(address)
        if telegram:
            self.readings.append(self.line.busy - began)
        return telegram or await self.telegram(address, keep)

    def spare_attempts(self) -> int:
        """How often a meter may be asked that has sent as much as any so far; at least once."""
        return max(1, min(ATTEMPTS, MOST_TELEGRAMS - self.sent))

    def note(self, address: MeterAddress, telegram: Telegram) -> Found:
        """Remember a meter that was found."""
        self.known.add(address.station)
        self.numbers.add(telegram.id)
        return entry(address, telegram)

    def answered_elsewhere(self, telegram: Telegram, asked: str) -> bool:
        """Remember who answered for another; whether it has done so before, for something else.

        `asked`: a primary address, or a number or the beginning of one.
        """
        identity = (telegram.id, telegram.manufacturer, telegram.version, telegram.medium)
        before = self.strangers.get(identity, asked)
        self.strangers[identity] = asked
        return not (asked.startswith(before) or before.startswith(asked))


def numbers_from(prefix: str) -> MeterAddress:
    """The selection of all numbers that begin so."""
    return MeterAddress(id=prefix.ljust(LENGTH, WILD))


def unmistakable(telegram: Telegram) -> bool:
    """Whether this can be only one meter's: its indexes have bits that a hidden one would need."""
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
    """What two selections ask for, part by part; None: any."""
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
    """Whether every meter that the other selects is selected by this one."""
    return all(wider is None or wider == narrower for wider, narrower in _pairs(wide, narrow))


def _overlap(left: MeterAddress, right: MeterAddress) -> bool:
    """Whether a meter can be selected by both."""
    return all(
        first is None or second is None or first == second for first, second in _pairs(left, right)
    )
