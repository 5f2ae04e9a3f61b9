"""Who disturbs a line that others share: whose bytes were heard, by turns, and what follows. Pure.

A device has the line from its question to the next one's. What is heard meanwhile and belongs to no
answer counts against it only if the line was quiet when it was asked: what goes on from before is
not its doing, whoever is asked next. One turn proves nothing, for interference may meet anybody: a
device is named after three of its last ten turns, and only where nearly all that was heard belongs
to a few. Where it belongs to many, the line is disturbed, and nobody is named.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from zoneinfo import ZoneInfo

QUIET = 0.25
"""seconds without a byte after which what is heard next has another cause"""
DRAINED_WITHIN = 2.0
"""seconds for which a line is waited for to become quiet behind one that disturbs it"""
TALKED_OUT = 10.0
"""seconds for which one that goes on and on is waited out: whoever is asked then is not heard"""
LATE_WITHIN = 2.0
"""seconds behind a silent turn in which what is heard may be its late answer"""
MEANT = 4
"""bytes that make no sense: fewer are a spark, and nobody's"""
TURNS = 10
"""of each device that are remembered"""
LAST, NAMED = 2, 3
"""of them disturbed: from then on it is asked after all others, and named"""
FEW = 2 / 3
"""of all disturbed turns on the line: so many belong to those who are named"""
AGAIN = 3
"""devices of whom more than one of the last turns was disturbed: then the line is"""
RECENT = 5
"""turns of each device that say how the line is now"""
APART = 60.0
"""seconds between two turns of such as go on and on"""
FORGOTTEN, MOST = 2 * 86_400.0, 1000
"""seconds without a word of it after which a device is forgotten, and devices that are remembered:
bytes on a line may say anything
"""
REST, LONGEST_REST = 60.0, 3600.0
"""seconds that one that disturbs and does not answer is left alone: first, and at most"""


class How(StrEnum):
    """What a device did, in words for people."""

    NOISE = "sends bytes that are not an answer"
    MORE = "sends more than its answer"
    TWICE = "sends its answer twice"
    OTHER = "answers with the address of another device"
    LATE = "answers after its timeout: a longer `timeout` (M-Bus: `latency`) may help"
    SPEAKS = "sends while other devices are read"
    HANGS_UP = "makes the gateway close the connection"


@dataclass(frozen=True, slots=True)
class Turn:
    """What was heard since somebody was asked last."""

    broke: Mapping[str, How] = field(default_factory=dict)
    """by address, what somebody did"""
    noisy: bool = False
    """the one that was asked did not get through, whoever's fault that is"""
    loud: bool = False
    """somebody still spoke when its turn should have been over"""


class Listener:
    """Collects the evidence of one open line, for its driver.

    `now`: monotonic seconds. An address is whatever the driver's questions go to, as text.
    """

    def __init__(self) -> None:
        self.turn = ""
        """who was asked last"""
        self._fresh = False
        """the line was quiet when it was asked"""
        self._since: str | None = None
        """in whose turn what is heard began; None: nobody knows"""
        self._heard = float("-inf")
        """when bytes without sense were last heard"""
        self._broke: dict[str, How] = {}
        self._noisy = self._loud = False
        self._silent, self._silent_since = "", float("-inf")
        """who said nothing in its turn, and when that ended"""
        self.late: set[str] = set()
        """who may have answered when its time was over: it is waited for behind a silent turn"""
        self._in_turns_of: dict[str, set[str]] = {}
        """by a device's name, in whose turns it was said"""
        self.watched: Counter[str] = Counter()
        """behind whom the line is waited for to become quiet, and for how many turns yet"""

    def asks(self, address: str, now: float, *, busy: bool) -> None:
        """A question goes out; `busy`: though somebody still speaks."""
        self._fresh = not busy and now - self._heard >= QUIET
        if self._fresh:
            self._since = None
        self.turn = address

    def noise(self, now: float) -> bool:
        """Bytes without sense were heard; whether they count against whose turn it is."""
        self._heard = now
        if self._owing(now):
            self.late.add(self._silent)
            self._fresh, self._since = False, None
            return False
        if self._fresh and self._since is None:
            self._since = self.turn
        elif self._since != self.turn:
            self._fresh, self._since = False, None
        return self._since == self.turn

    def clean(self) -> None:
        """An answer came, and nothing else: whatever was heard before is over."""
        self._heard, self._since = float("-inf"), None
        if self.watched[self.turn]:
            self.watched[self.turn] -= 1

    def blame(self, address: str, disturbance: How) -> None:
        """Note what somebody did."""
        if address in self._broke or len(self._broke) < MOST:
            self._broke[address] = disturbance
        if address == self.turn or address in self.watched or len(self.watched) < MOST:
            self.watched[address] = TURNS

    def silent(self, now: float) -> None:
        """The one that was asked has said nothing."""
        self._silent, self._silent_since = self.turn, now

    def _owing(self, now: float) -> bool:
        """Whether what is heard now may be a late answer of the one that was asked before."""
        return self.turn != self._silent and now - self._silent_since < LATE_WITHIN

    def other(self, address: str, now: float) -> None:
        """Note an answer in the name of another device. That of one that was silent is late. Heard
        in the turns of several, that one speaks there; in those of one alone, the one that is asked
        answers in its name.
        """
        self.spoilt()
        if address == self._silent and self._owing(now):
            self.late.add(address)
            self.blame(address, How.LATE)
            return
        if address in self._in_turns_of or len(self._in_turns_of) < MOST:
            self._in_turns_of.setdefault(address, set()).add(self.turn)
        several = self._in_turns_of.get(address, set()) - {self.turn}
        if several:
            self.blame(address, How.SPEAKS)
        else:
            self.blame(self.turn, How.OTHER)

    def spoilt(self) -> None:
        """Note that the one that was asked did not get through."""
        self._noisy = True

    def drained(self, *, quiet: bool) -> None:
        """The line was waited for behind the turn."""
        self._loud = not quiet

    def take(self) -> Turn:
        """Give what was noted since this was called last."""
        turn = Turn(self._broke, self._noisy, self._loud)
        self._broke, self._noisy, self._loud = {}, False, False
        return turn


@dataclass(slots=True)
class _Device:
    """What is remembered of one device."""

    turns: deque[bool | None] = field(default_factory=lambda: deque(maxlen=TURNS))
    """of each, whether it disturbed the line; None: it was silent, and nothing was heard yet"""
    noisy: deque[bool] = field(default_factory=lambda: deque(maxlen=RECENT))
    """of each, whether it did not get through"""
    how: How = How.NOISE
    """what it did last"""
    loud: bool = False
    """in its last turn it went on and on"""
    today: int = 0
    """disturbed turns on `day`, the day of the last one"""
    day: str = ""
    rest: float = 0.0
    """seconds that it is left alone"""
    heard_of: float = 0.0
    """monotonic: when it last had a turn, or did something"""
    asked: float = 0.0
    """monotonic: when its last turn ended"""

    @property
    def disturbed_turns(self) -> int:
        """In how many of its last turns."""
        return sum(turn is True for turn in self.turns)


class Disturbed:
    """The devices of one line, as what was heard shows them; remembered by the process alone."""

    def __init__(self, zone: ZoneInfo | None = None) -> None:
        self._zone = zone or UTC
        self._devices: dict[str, _Device] = {}
        self.suspects: set[str] = set()
        """who is asked after all others"""
        self._loud = float("-inf")
        """when a turn ended in which one of them went on and on"""

    def ended(self, address: str, turn: Turn, now: float, wall: float, *, answered: bool) -> None:
        """A device's turn is over; `now`: monotonic, `wall`: since 1970."""
        device = self._devices.setdefault(address, _Device())
        device.heard_of = now
        if device.turns and device.turns[-1] is None:
            device.turns.pop()
        device.turns.append(False if answered else None)
        device.noisy.append(turn.noisy)
        device.asked = now
        day = self._day(wall)
        for disturber, how in turn.broke.items():
            if disturber in self._devices or len(self._devices) < MOST:
                self._count(self._devices.setdefault(disturber, _Device()), how, day, now)
        forgotten = [
            disturber
            for disturber, device in self._devices.items()
            if now - device.heard_of > FORGOTTEN
        ]
        for disturber in forgotten:
            del self._devices[disturber]
            self.suspects.discard(disturber)
        device.loud = turn.loud and address in turn.broke
        if device.loud:
            self._loud = now
        harmed = address in turn.broke and (turn.loud or not answered)
        if harmed and self.disturbs(address):
            device.rest = min(LONGEST_REST, max(REST, 2 * device.rest))
        elif answered and not harmed:
            device.rest = 0.0
        for disturber in {address, *turn.broke} & self._devices.keys():
            suspected = (
                self._devices[disturber].loud or self._devices[disturber].disturbed_turns >= LAST
            )
            (self.suspects.add if suspected else self.suspects.discard)(disturber)

    def _count(self, device: _Device, disturbance: How, day: str, now: float) -> None:
        device.heard_of = now
        if not device.turns:
            device.turns.append(None)
        device.how = disturbance
        if device.turns[-1]:
            return
        device.turns[-1] = True
        device.today = device.today + 1 if device.day == day else 1
        device.day = day

    def goes_last(self, address: str, now: float) -> bool:
        """Whether it is asked after all others; after an hour it has its turn all the same."""
        if address not in self.suspects:
            return False
        return now - self._devices[address].asked < LONGEST_REST

    def waits(self, address: str, now: float) -> bool:
        """Whether one that goes on and on is not asked yet, since it or another such one was asked
        a moment ago: the others have their turns first. They take turns.
        """
        device = self._devices.get(address)
        if device is None or not device.loud:
            return False
        before = (
            other.asked + other.rest < now < other.asked + LONGEST_REST
            for other in self._devices.values()
            if other.loud and other.asked < device.asked
        )
        return now - self._loud < APART or any(before)

    def spares(self, address: str, now: float) -> bool:
        """Whether its silence may be another's doing, who has gone on and on a moment ago."""
        device = self._devices.get(address)
        return now - self._loud < APART and not (device is not None and device.loud)

    def rest(self, address: str) -> float:
        """Seconds for which it is to be left alone; 0: it is not one that disturbs."""
        device = self._devices.get(address)
        return device.rest if device else 0.0

    def disturbs(self, address: str) -> bool:
        """Whether it disturbs the line."""
        return address in self._disturbing()

    def named(self, wall: float) -> Iterator[tuple[str, How, int]]:
        """Who disturbs the line, what it did last, and in how many turns today."""
        day = self._day(wall)
        for address in self._disturbing():
            device = self._devices[address]
            yield address, device.how, device.today if device.day == day else 0

    def _day(self, wall: float) -> str:
        return f"{datetime.fromtimestamp(wall, self._zone):%Y-%m-%d}"

    def _disturbing(self) -> list[str]:
        bad = {address: device.disturbed_turns for address, device in self._devices.items()}
        certain = {address for address, times in bad.items() if times >= NAMED}
        if sum(times > 0 for times in bad.values()) > max(1, len(bad) // 3):
            return []  # not even one that says its name: two at once may say that of a third
        enough = sum(bad[address] for address in certain) >= FEW * sum(bad.values())
        return sorted(certain) if enough else []

    def noisy(self) -> tuple[int, int]:
        """Of how many devices the last turns were disturbed, and of how many asked.

        (0, …) where it is known who disturbs them; or where a third of them at most is concerned,
        and hardly one more than once.
        """
        asked = [device for device in self._devices.values() if device.noisy]
        bad = sum(any(device.noisy) or any(list(device.turns)[-RECENT:]) for device in asked)
        again = sum(sum(device.noisy) > 1 for device in asked)
        few = bad <= max(1, len(asked) // 3) and again < AGAIN
        return (0 if few or self._disturbing() else bad), len(asked)
