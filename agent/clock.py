"""What time it is, and whether that may be believed (domain words: docs/clock.md).

Slots, consents and batches are dated by the wall clock, so every part asks here and nowhere else.
`ntp` believes it while a time service keeps it, or kept it not long ago and it has not stepped
since; `system` believes it always, which is for loopback only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

from agent import timesync
from agent.atomic_write import DiskWriter
from agent.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.timesync import ClockEvidence

log = logging.getLogger(__name__)

DAY = 86_400.0
TRUSTED_FOR = DAY
"""seconds for which a clock is trusted after a time service has last kept it"""
HELD_FOR = 7 * DAY
"""seconds for which it is held over after that"""
SERVICED = 3600.0
"""seconds within which timesyncd sets the clock again, and touches its file"""
STEP = 2.0
"""seconds by which wall and monotonic time may part between two looks before it is a clock step"""
DRIFT = 10.0
"""seconds by which a clock that a step has reversed may lie beside where it was before"""
SLACK = 120.0
"""seconds by which a clock may lie before the last proved time, or beside the RTC (holdover)"""
BUILT = 1_767_225_600.0
"""2026-01-01: this version did not exist before"""
NOT_BELIEVED = "not believed: "
"""how the outcome begins of a signed time that changes nothing"""
REMEMBER_EVERY = 3600.0
"""seconds between two writes of what the clock remembers: flash wears out"""
HISTORY = "clock-history.json"
"""name of the file beside `clock.json` that says who vouched, and which steps there were"""
STEPS_KEPT, KEPT_PERIODS = 20, 50
BY_HAND, BY_SERVICE, BY_PLATFORM = "a person", "a time service", "the platform"
"""who may vouch for the clock"""


class ClockTrust(StrEnum):
    """How far the wall clock may be believed (rule C7)."""

    TRUSTED = "trusted"
    HOLDOVER = "holdover"
    UNTRUSTED = "untrusted"


def seconds() -> float:
    """The wall clock: seconds since 1970 UTC."""
    return time.time()


def monotonic() -> float:
    """Seconds that never step; comparable within one boot only."""
    return time.monotonic()


def stamp(at: float) -> str:
    """A moment in RFC 3339, UTC, whole seconds: `2026-11-24T10:15:00Z`."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of the clock from earlier looks; survives on disk."""

    boot: str
    proved: float | None
    """monotonic: when a time service last kept it in this boot; None: never, or it stepped since"""
    apart: float
    """wall − monotonic, at the last look"""
    floor: float
    """the latest wall time that was proved: no earlier one is believed"""


class Period(NamedTuple):
    """A time in which the wall clock was not moved: a boot or a clock step begins a new one."""

    boot: str
    apart: float
    """wall − monotonic, when it began"""
    began: float
    """monotonic seconds; of a period that an earlier process began: when it was first seen"""


@dataclass(slots=True)
class History:
    """Who vouched for the clock, and how it was moved; survives on disk, for people and proofs."""

    boot: str = ""
    kept: list[float] = field(default_factory=list)
    """wall − monotonic of the periods of this boot in which somebody vouched, in order"""
    vouched: tuple[str, float] | None = None
    """who did last, and when (wall)"""
    steps: list[tuple[float, float]] = field(default_factory=list)
    """the last ones: when (wall, before the step), and by how many seconds"""

    def note(self, by: str, wall: float, apart: float) -> None:
        """Somebody vouched for the clock as it stands now."""
        self.vouched = (by, wall)
        if not self.kept or abs(self.kept[-1] - apart) > STEP:
            self.kept = [*self.kept, apart][-KEPT_PERIODS:]

    def reverses(self, apart: float) -> bool:
        """Whether the clock stands again where it was vouched for before, in this boot. What was
        vouched for in between was wrong, and proves nothing from here on.
        """
        same = [i for i, one in enumerate(self.kept) if abs(one - apart) <= DRIFT]
        if not same or same[-1] == len(self.kept) - 1:
            return False
        del self.kept[same[-1] + 1 :]
        return True


def step(before: Memory, wall: float, steady: float) -> float:
    """Seconds by which the wall clock was moved since the last look; 0: it was not."""
    moved = (wall - steady) - before.apart
    return moved if abs(moved) > STEP else 0.0


def look(before: Memory, wall: float, steady: float, proved: float | None) -> Memory:
    """What is known after one look; `proved`: monotonic time for which there is evidence. Pure.

    A step that nobody vouches for takes the trust away until a time service keeps the clock again;
    so does a time before the last proved one, whoever vouches for it.
    """
    known = before.proved if not step(before, wall, steady) else None
    if proved is not None and wall >= before.floor - SLACK:
        known = proved if known is None else max(known, proved)
    floor = max(before.floor, wall) if known is not None and known == proved else before.floor
    return Memory(before.boot, known, wall - steady, floor)


def judge(now: Memory, wall: float, steady: float, rtc: float | None) -> ClockTrust:
    """How far the clock may be believed. Pure.

    After a boot, an RTC that agrees is holdover, seven days from the last proved time at most.
    """
    if wall < now.floor - SLACK:
        return ClockTrust.UNTRUSTED
    if now.proved is not None:
        age = steady - now.proved
        if age <= TRUSTED_FOR:
            return ClockTrust.TRUSTED
        return ClockTrust.HOLDOVER if age <= HELD_FOR else ClockTrust.UNTRUSTED
    agrees = rtc is not None and abs(rtc - wall) <= SLACK
    return ClockTrust.HOLDOVER if agrees and wall <= now.floor + HELD_FOR else ClockTrust.UNTRUSTED


class Clock:
    """The agent's clock; its trust decides whether slots may be closed and commands begun."""

    def __init__(  # noqa: PLR0913, PLR0917 -- each a clock of its own, to be moved by tests
        self,
        source: Literal["system", "ntp"],
        file: Path | None = None,
        wall: Callable[[], float] = seconds,
        steady: Callable[[], float] = monotonic,
        evidence: Callable[[], ClockEvidence] = timesync.evidence,
        rtc: Callable[[], float | None] = timesync.rtc,
        boot: Callable[[], str] = timesync.boot_id,
    ) -> None:
        self.source = source
        self._file, self._wall, self._steady = file, wall, steady
        self._evidence, self._rtc = evidence, rtc
        self._touched: int | None = None
        name, apart = boot(), wall() - steady()
        self._memory = _recall(file, name, apart)
        self.history = _recall_history(file, name)
        self.period = Period(name, self._memory.apart, steady())
        self._guarded, self._let_in, self._marks = False, 0, 0.0
        self.agreed = False
        """a time service and the platform's signed word agree on the time of this period"""
        self._moved_on: float | None = None
        self._first = True
        self._trust = ClockTrust.TRUSTED if source == "system" else ClockTrust.UNTRUSTED
        self.steps: list[float] = []
        """seconds by which the wall clock was moved since the start, each time"""

    @property
    def trust(self) -> ClockTrust:
        """Whether the wall clock may be believed now: not while closed slots lie ahead of it."""
        self.look()
        return ClockTrust.UNTRUSTED if self.ahead > SLACK else self._trust

    @property
    def dates(self) -> bool:
        """Whether readings may be dated by it now.

        By holdover only in the boot in which it was proved: an RTC may be hours wrong, and what was
        sent with a wrong date has to be taken back. Until then readings wait; so they do while
        slots are closed that lie ahead of it, and until a new period was let in.
        """
        return self.believed and self.entered and self.ahead <= 0

    @property
    def believed(self) -> bool:
        """Whether somebody vouches for it, whatever was dated before."""
        self.look()
        trusted = self._trust is not ClockTrust.UNTRUSTED
        return trusted and (self.source == "system" or self._memory.proved is not None)

    @property
    def ahead(self) -> float:
        """Seconds by which the last closed slot lies ahead of it; at most 0: by none."""
        return self._marks - self.now()

    @property
    def floor(self) -> float:
        """The latest wall time that was proved: no earlier one is believed."""
        return self._memory.floor

    def await_entry(self) -> None:
        """Date nothing in any period from now on, the present one included, until `let_in`."""
        self._guarded, self._let_in = True, -1

    @property
    def ages(self) -> bool:
        """Whether things may be destroyed for their age by it: for a day not, after a clock that
        somebody had vouched for was set forward by more than a day.
        """
        return self._moved_on is None or self._steady() - self._moved_on > DAY

    @property
    def entered(self) -> bool:
        """Whether the present period was let in."""
        return not self._guarded or self._let_in == len(self.steps)

    def closed_to(self, marks: float) -> None:
        """Slots are closed up to this one, whoever believes the clock now."""
        self._marks = marks

    def let_in(self, number: int, marks: float) -> None:
        """What was closed in the periods before is on the disk, up to the slot `marks`.

        `number`: of the period, as `len(steps)` was when that was seen to.
        """
        self._let_in, self._marks = number, marks

    @property
    def distrust_reason(self) -> str:
        """Why it may not be believed, for people; empty while it may."""
        if self.dates:
            return ""
        if self.ahead > 0:
            return (
                f"marks lie {span_of(self.ahead)} ahead of the clock: compare the date and time"
                " that `gardien clock` shows with a watch; it says what to do"
            )
        if self.now() < self._memory.floor - SLACK:
            last = stamp(self._memory.floor)
            return f"the clock says {stamp(self.now())}, but it has been {last} already"
        return (
            "no time service keeps the clock: see `timedatectl`, and whether the network lets NTP"
            " through (UDP port 123)"
        )

    def now(self) -> float:
        """The wall clock: seconds since 1970 UTC."""
        return self._wall()

    def steady(self) -> float:
        """Seconds that never step; comparable within one boot only."""
        return self._steady()

    async def until(self, when: float) -> None:
        """Return at the wall time `when`, or within a second of a step of the clock beyond it."""
        while (left := when - self.now()) > 0:
            await asyncio.sleep(min(left, 1.0))

    def look(self) -> None:
        """Look whether it stepped, and who keeps it."""
        wall, steady = self._wall(), self._steady()
        if moved := step(self._memory, wall, steady):
            self.steps.append(moved)
            self.period, self.agreed = (
                self.period._replace(apart=wall - steady, began=steady),
                False,
            )
            self.history.steps = [*self.history.steps, (wall - moved, moved)][-STEPS_KEPT:]
            if moved > DAY and (self.source == "system" or self._memory.proved is not None):
                self._moved_on = steady
            log.error("the clock stepped by %+.0f s", moved, extra=fields(LogEvent.CLOCK_STEPPED))
        if self.source == "system":
            self._memory = replace(self._memory, apart=wall - steady)
            return
        proof = self._proof(wall, steady)
        if proof is not None:
            if self.history.reverses(wall - steady) and wall < self._memory.floor:
                log.warning(
                    "a clock step was reversed: the floor is set back to %s", stamp(wall),
                    extra=fields(LogEvent.CLOCK_FLOOR_LOWERED),
                )  # fmt: skip
                self._memory = replace(self._memory, floor=wall)
            if wall >= self._memory.floor - SLACK:
                self.history.note(BY_SERVICE, wall, wall - steady)
        self._memory = look(self._memory, wall, steady, proof)
        # an RTC is slow to read, and asked only where nothing else can answer
        rtc = self._rtc() if self._memory.proved is None else None
        trust = judge(self._memory, wall, steady, rtc)
        if trust is not self._trust:
            log.warning(
                "the clock is %s now (was %s): %s", trust, self._trust, stamp(wall),
                extra=fields(LogEvent.CLOCK_TRUST_CHANGED),
            )  # fmt: skip
        self._trust = trust

    def _proof(self, wall: float, steady: float) -> float | None:
        """The monotonic time for which there is evidence, if this look brought any."""
        evidence = self._evidence()
        touched, self._touched = self._touched, evidence.touched
        first, self._first = self._first, False
        if evidence.kernel or (not first and evidence.touched not in (None, touched)):
            return steady
        if first and evidence.touched is not None and self._memory.proved is None:
            # it was kept before we came, in this boot; how long ago only the wall clock can say
            age = wall - evidence.touched / 1e9
            return steady - age if 0 <= age < steady else None
        return None

    def _serviced(self, wall: float) -> bool:
        """Whether a time service keeps the clock as it stands, or set it within the hour."""
        evidence = self._evidence()
        set_at = None if evidence.touched is None else evidence.touched / 1e9
        return evidence.kernel or (set_at is not None and 0 <= wall - set_at <= SERVICED)

    def at_least(self, moment: float) -> None:
        """No earlier time is believed: somebody whose word counts was at work then."""
        if self.source == "ntp" and moment > self._memory.floor:
            self._memory = replace(self._memory, floor=moment)
            self.remember()

    def take_signed_time(self, moment: float) -> str:
        """The platform says, signed, what time it is; what that changes, in words.

        A wall clock that agrees is kept by it as by a time service. One that does not agree is not
        moved: that is not ours to do. The floor falls only where a time service agrees, too.
        """
        wall, steady = self._wall(), self._steady()
        if self.source == "system":
            return "the clock is believed as it is"
        if abs(wall - moment) > SLACK:
            return f"{NOT_BELIEVED}the clock is {wall - moment:+.0f} s off"
        if wall < self._memory.floor - SLACK:
            if not self._serviced(wall):
                last = stamp(self._memory.floor)
                return f"{NOT_BELIEVED}it has been {last} already: a time service must agree"
            log.warning(
                "the clock's floor is set back to %s", stamp(moment),
                extra=fields(LogEvent.CLOCK_FLOOR_LOWERED),
            )  # fmt: skip
        floor = wall if wall < self._memory.floor - SLACK else max(self._memory.floor, moment)
        self.look()
        self._memory = replace(self._memory, proved=steady, apart=wall - steady, floor=floor)
        self.history.note(BY_PLATFORM, wall, wall - steady)
        self.agreed = self._serviced(wall)
        self.look()
        self.remember()
        return "the clock agrees"

    def standing(self) -> dict[str, object]:
        """What is known of it, for people: moments as `stamp` writes them, lengths in seconds."""
        trust, history = self.trust, self.history
        by, at = history.vouched or ("", 0.0)
        return {
            "now": stamp(self.now()),
            "trust": trust.value,
            "source": self.source,
            "floor": stamp(self.floor),
            "vouched": {"by": by, "at": stamp(at)} if by else None,
            "steps": [{"at": stamp(at), "seconds": round(by)} for at, by in history.steps],
            "said": self.distrust_reason,
        }

    def set_right(self) -> None:
        """A person says that the clock is right now: it may lie before the last proved time."""
        self.look()
        wall = self._wall()
        self._memory = replace(self._memory, floor=min(self._memory.floor, wall))
        self.history.note(BY_HAND, wall, self.period.apart)
        self.remember()

    async def serve(self) -> None:
        """Look every second and remember every hour, for ever."""
        remembered = None
        while True:
            proved = self.trust is ClockTrust.TRUSTED
            due = remembered is None or self.steady() - remembered >= REMEMBER_EVERY
            if self.source == "ntp" and proved and due:
                self.remember()
                remembered = self.steady()
            await asyncio.sleep(1.0)

    def remember(self) -> None:
        """Write what is known, durably, so that a restart or a boot begins from it."""
        if self._file is None or self.source == "system":
            return
        file, history, memory = self._file, asdict(self.history), asdict(self._memory)
        with suppress(OSError):  # it is for people; what counts is told below
            DiskWriter.make(lambda: _put(file.with_name(HISTORY), history))
        try:
            DiskWriter.make(lambda: _put(file, memory))
        except OSError as error:
            log.warning(
                "%s could not be written: %s", self._file, error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, store=file.name),
            )  # fmt: skip


def span_of(seconds: float) -> str:
    """A length of time, for people: `23:59 h`, or days where it is longer than two."""
    if seconds >= 2 * DAY:
        return f"{seconds / DAY:,.0f} days"
    minutes = -(-int(seconds) // 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"


def _put(path: Path, what: object) -> None:
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="ascii") as file:
        json.dump(what, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _recall_history(file: Path | None, boot: str) -> History:
    """What was noted; what is of an earlier boot proves nothing in this one."""
    try:
        stored = json.loads(file.with_name(HISTORY).read_text(encoding="ascii")) if file else {}
        vouched = stored["vouched"]
        known = History(
            str(stored["boot"]),
            [float(one) for one in stored["kept"]],
            (str(vouched[0]), float(vouched[1])) if vouched else None,
            [(float(at), float(moved)) for at, moved in stored["steps"]],
        )
    except (OSError, ValueError, TypeError, LookupError):
        return History(boot)
    return known if known.boot == boot else replace(known, boot=boot, kept=[])


def _recall(file: Path | None, boot: str, apart: float) -> Memory:
    """What was remembered; of an earlier boot only the floor."""
    empty = Memory(boot, None, apart, BUILT)
    try:
        known = Memory(**json.loads(file.read_text(encoding="ascii"))) if file else empty
        floor = max(BUILT, float(known.floor))
    except (OSError, ValueError, TypeError):
        return empty
    return known if known.boot == boot else replace(empty, floor=floor)
