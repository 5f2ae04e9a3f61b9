"""Which device disturbs a shared line, by the bytes heard in each turn. Pure.

A device's turn lasts from its request to the next request on the line. Bytes of a turn that belong
to no answer count against that device only if the line was quiet when it was asked: bytes that
continue from an earlier turn have another cause. One turn proves nothing, since interference may
hit any device. Therefore a device is named after three disturbed turns of its last ten, and only
if a few devices account for nearly all disturbed turns. If many do, the line itself is disturbed,
and no device is named. Rule F9.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.core.i18n import N_

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from zoneinfo import ZoneInfo

QUIET = 0.25
"""seconds without a byte after which the next bytes have another cause"""
DRAINED_WITHIN = 2.0
"""seconds to wait at most until the line is quiet after a device that disturbs it"""
TALKED_OUT = 10.0
"""the same after a device that sends without end: a request meanwhile would not be heard"""
LATE_WITHIN = 2.0
"""seconds after a silent turn in which bytes may be that device's late answer"""
MEANT = 4
"""bytes of noise that count; fewer may be a spark and count against no device"""
TURNS = 10
"""turns of each device that are remembered"""
LAST, NAMED = 2, 3
"""disturbed turns among them from which a device is read after all others, and is named"""
FEW = 2 / 3
"""share of all disturbed turns on the line that the named devices must account for"""
AGAIN = 3
"""devices with more than one recent disturbed turn from which the line counts as disturbed"""
RECENT = 5
"""last turns of each device that show the present state of the line"""
APART = 60.0
"""seconds between two turns of devices that send without end"""
FORGOTTEN, MOST = 2 * 86_400.0, 1000
"""seconds without a sign of a device after which it is forgotten, and devices remembered at most:
noise can look like any address, so the number must be bounded
"""
REST, LONGEST_REST = 60.0, 3600.0
"""seconds for which a device that disturbs and does not answer is not read: first, and at most"""


class How(StrEnum):
    """How a device disturbs the line, as a phrase for people."""

    NOISE = N_("sends bytes that are not an answer")
    MORE = N_("sends more than its answer")
    TWICE = N_("sends its answer twice")
    OTHER = N_("answers with the address of another device")
    LATE = N_("answers after its timeout: a longer `timeout` (M-Bus: `latency`) may help")
    SPEAKS = N_("sends while other devices are read")
    HANGS_UP = N_("makes the gateway close the connection")


@dataclass(frozen=True, slots=True)
class Turn:
    """What was heard since the last request."""

    broke: Mapping[str, How] = field(default_factory=dict)
    """by address, how a device disturbed the line"""
    noisy: bool = False
    """the answer of the device that was asked did not arrive intact, whatever the cause"""
    loud: bool = False
    """bytes still came when the turn should have been over"""


class Listener:
    """Collects the evidence on one open line, for its driver.

    `now`: monotonic seconds. An address is the destination of the driver's requests, as text.
    """

    def __init__(self) -> None:
        self.turn = ""
        """the device that was asked last"""
        self._fresh = False
        """the line was quiet when that device was asked"""
        self._since: str | None = None
        """the device in whose turn the present noise began; None: not known"""
        self._heard = float("-inf")
        """when noise was last heard"""
        self._broke: dict[str, How] = {}
        self._noisy = self._loud = False
        self._silent, self._silent_since = "", float("-inf")
        """the device that did not answer in its turn, and when that turn ended"""
        self.late: set[str] = set()
        """devices that may answer after their timeout, so that their silent turns are extended"""
        self._in_turns_of: dict[str, set[str]] = {}
        """by the address in an unexpected answer, the devices in whose turns it was heard"""
        self.watched: Counter[str] = Counter()
        """devices after which the driver waits for a quiet line, and for how many more turns"""

    def asks(self, address: str, now: float, *, busy: bool) -> None:
        """Note a request to a device; `busy`: the line was not quiet."""
        self._fresh = not busy and now - self._heard >= QUIET
        if self._fresh:
            self._since = None
        self.turn = address

    def noise(self, now: float) -> bool:
        """Note noise. Returns whether it counts against the device whose turn it is."""
        self._heard = now
        # It may be the end of a late answer. Blaming the present device would name the wrong one.
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
        """Note an answer without any other bytes: earlier noise is over."""
        self._heard, self._since = float("-inf"), None
        if self.watched[self.turn]:
            self.watched[self.turn] -= 1

    def blame(self, address: str, disturbance: How) -> None:
        """Note how a device disturbed the line."""
        if address in self._broke or len(self._broke) < MOST:
            self._broke[address] = disturbance
        if address == self.turn or address in self.watched or len(self.watched) < MOST:
            self.watched[address] = TURNS

    def silent(self, now: float) -> None:
        """Note that the device that was asked did not answer."""
        self._silent, self._silent_since = self.turn, now

    def _owing(self, now: float) -> bool:
        """Whether bytes heard now may be a late answer of the device that was asked before."""
        return self.turn != self._silent and now - self._silent_since < LATE_WITHIN

    def other(self, address: str, now: float) -> None:
        """Note an answer with the address of another device, and blame one of the two.

        If that device was silent before, its answer is late. If the address was heard in the turns
        of several devices, that device sends in their turns. If it was heard in the turns of one
        device only, this device answers with a wrong address.
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
        """Note that the answer of the device that was asked did not arrive intact."""
        self._noisy = True

    def drained(self, *, quiet: bool) -> None:
        """Note whether the line became quiet after the turn."""
        self._loud = not quiet

    def take(self) -> Turn:
        """Return what was noted since the last call, and begin anew."""
        turn = Turn(self._broke, self._noisy, self._loud)
        self._broke, self._noisy, self._loud = {}, False, False
        return turn


@dataclass(slots=True)
class _Device:
    """The turns of one device."""

    turns: deque[bool | None] = field(default_factory=lambda: deque(maxlen=TURNS))
    """for each turn, whether the device disturbed the line; None: it was silent, and its late
    answer may still come
    """
    noisy: deque[bool] = field(default_factory=lambda: deque(maxlen=RECENT))
    """for each turn, whether the answer did not arrive intact"""
    how: How = How.NOISE
    """how it disturbed the line last"""
    loud: bool = False
    """in its last turn it sent without end"""
    today: int = 0
    """disturbed turns on `day`, the day of the last one"""
    day: str = ""
    rest: float = 0.0
    """seconds for which it is not read"""
    heard_of: float = 0.0
    """monotonic: when it last had a turn or disturbed the line"""
    asked: float = 0.0
    """monotonic: when its last turn ended"""

    @property
    def disturbed_turns(self) -> int:
        """In how many of its last turns it disturbed the line."""
        return sum(turn is True for turn in self.turns)


class Disturbed:
    """Which devices disturb one line. Kept in memory only, so a restart begins anew."""

    def __init__(self, zone: ZoneInfo | None = None) -> None:
        self._zone = zone or UTC
        self._devices: dict[str, _Device] = {}
        self.suspects: set[str] = set()
        """devices that are read after all others"""
        self._loud = float("-inf")
        """when a turn ended in which a device sent without end"""

    def ended(self, address: str, turn: Turn, now: float, wall: float, *, answered: bool) -> None:
        """Evaluate a finished turn of a device; `now`: monotonic, `wall`: seconds since 1970."""
        device = self._devices.setdefault(address, _Device())
        device.heard_of = now
        # An undecided silent turn without a late answer meanwhile was a mere silence: it is no
        # evidence, and would push disturbed turns out of the last ten.
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
        # A turn counts once, however often the line was disturbed in it.
        if device.turns[-1]:
            return
        device.turns[-1] = True
        device.today = device.today + 1 if device.day == day else 1
        device.day = day

    def goes_last(self, address: str, now: float) -> bool:
        """Whether a device is read after all others; an hour after its last turn it is not."""
        if address not in self.suspects:
            return False
        return now - self._devices[address].asked < LONGEST_REST

    def waits(self, address: str, now: float) -> bool:
        """Whether a device that sends without end must wait, so that the others are read first.

        It waits APART seconds after any such device, and until those that were read longer ago
        have had their turn.
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
        """Whether a device's silence may be caused by another that sent without end just before."""
        device = self._devices.get(address)
        return now - self._loud < APART and not (device is not None and device.loud)

    def rest(self, address: str) -> float:
        """Seconds for which a device shall not be read; 0: it does not disturb the line."""
        device = self._devices.get(address)
        return device.rest if device else 0.0

    def disturbs(self, address: str) -> bool:
        """Whether a device is named as one that disturbs the line."""
        return address in self._disturbing()

    def named(self, wall: float) -> Iterator[tuple[str, How, int]]:
        """Each device that disturbs the line: its address, how it did so last, its disturbed turns
        today.
        """
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
            # Not even a device whose own address was heard: two that send at once can produce the
            # address of a third.
            return []
        # Otherwise somebody else disturbs the line too, and naming these would mislead.
        enough = sum(bad[address] for address in certain) >= FEW * sum(bad.values())
        return sorted(certain) if enough else []

    def noisy(self) -> tuple[int, int]:
        """How many devices had disturbed turns lately, and how many were read.

        The first number is 0 if the devices that disturb are known, or if at most a third of the
        devices is affected and fewer than AGAIN of them more than once.
        """
        asked = [device for device in self._devices.values() if device.noisy]
        bad = sum(any(device.noisy) or any(list(device.turns)[-RECENT:]) for device in asked)
        again = sum(sum(device.noisy) > 1 for device in asked)
        few = bad <= max(1, len(asked) // 3) and again < AGAIN
        return (0 if few or self._disturbing() else bad), len(asked)
