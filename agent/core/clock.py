"""The time, and whether it can be trusted (docs/clock.md, rules C7, C15, C17).

Slots, consents and batches are dated by the wall clock. Every component takes the time from here.
With the source `ntp`, the clock is trusted while a time service sets it, and for some time after if
it has not stepped. With the source `system` it is always trusted; that is allowed on loopback only.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from agent.core.atomic_write import StateFile
from agent.core.errors import NotRecorded, Refused
from agent.core.i18n import Text
from agent.core.log_fields import LogEvent, fields
from agent.core.tasks import LOOK, Change, pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Tell = Callable[[], None]
    WatchesSettings = Callable[[Tell], AbstractContextManager[bool]]

log = logging.getLogger(__name__)

DAY = 86_400.0
TRUSTED_FOR = DAY
"""seconds for which the clock stays trusted after a time service last set it"""
HELD_FOR = 7 * DAY
"""seconds after the last proof at which holdover ends"""
SERVICED = 3600.0
"""longest time in seconds in which timesyncd sets the clock again and touches its file"""
STEP = 2.0
"""seconds by which wall and monotonic time must part between two checks to be a clock step"""
DRIFT = 10.0
"""seconds by which the clock may differ from an earlier period and still count as back in it"""
SLACK = 120.0
"""seconds by which the clock may lie before the floor, or differ from the RTC (holdover)"""
BUILT = 1_767_225_600.0
"""2026-01-01: no correct clock shows an earlier time, since this version did not exist"""
NOT_BELIEVED = "not believed: "
"""first words of the outcome of a signed time that changes nothing"""
UNTOLD = 1.0
"""seconds between two looks at the clock while nobody tells when it is set, or while it dates
nothing
"""
REMEMBER_EVERY = 3600.0
"""seconds between two writes of the clock's state, to spare the flash"""
HISTORY = "clock-history.json"
"""file beside `clock.json`: who confirmed the clock, and its steps"""
STEPS_KEPT, KEPT_PERIODS = 20, 50
BY_HAND, BY_SERVICE, BY_PLATFORM = Text("a person"), Text("a time service"), Text("the platform")
"""who can confirm the clock"""
NO_TIME_SERVICE = Text(
    "no time service sets the clock: switch it on (sudo timedatectl set-ntp true), and let NTP"
    " through the firewall (UDP port 123). Without a network: gardien clock set"
)
TIMESYNCD = Path("/run/systemd/timesync/synchronized")
BOOT = Path("/proc/sys/kernel/random/boot_id")
RTC = Path("/sys/class/rtc/rtc0/since_epoch")

STA_UNSYNC = 0x40
MOST_ERROR = 16_000_000
"""microseconds at which the kernel's error is unknown (timedate1 uses the same limit)"""


class ClockTrust(StrEnum):
    """How far the wall clock can be trusted (rule C7)."""

    TRUSTED = "trusted"
    HOLDOVER = "holdover"
    UNTRUSTED = "untrusted"


def seconds() -> float:
    """Return the wall time in seconds since 1970 UTC."""
    return time.time()


def monotonic() -> float:
    """Return monotonic seconds. They never step, and compare only within one boot."""
    return time.monotonic()


def stamp(at: float) -> str:
    """Format a time as RFC 3339 in UTC with whole seconds: `2026-11-24T10:15:00Z`."""
    return datetime.fromtimestamp(int(at), UTC).isoformat().removesuffix("+00:00") + "Z"


@dataclass(frozen=True, slots=True)
class Memory:
    """What earlier checks have established about the clock. It is kept on the disk."""

    boot: str
    proved: float | None
    """monotonic time of the last proof in this boot; None: never, or the clock stepped since"""
    apart: float
    """wall − monotonic time at the last check, in seconds"""
    floor: float
    """the latest proved wall time: no earlier time is trusted"""


class Period(NamedTuple):
    """A time without a clock step. A boot or a step begins a new period."""

    boot: str
    apart: float
    """wall − monotonic time when it began, in seconds"""
    began: float
    """monotonic seconds; if an earlier process began the period, when this process first saw it"""


@dataclass(slots=True)
class History:
    """Who confirmed the clock, and how it stepped. It is kept on the disk."""

    boot: str = ""
    kept: list[float] = field(default_factory=list)
    """wall − monotonic time of the confirmed periods of this boot, in order"""
    vouched: tuple[str, float] | None = None
    """who confirmed the clock last, and when (wall time)"""
    steps: list[tuple[float, float]] = field(default_factory=list)
    """the last steps: wall time before the step, and the seconds by which the clock moved"""
    person: float | None = None
    """wall − monotonic time when a person stated the time in this boot, and nothing better has
    confirmed the clock since
    """
    touched: int | None = None
    """when timesyncd had synchronized before the last step of this boot (as `ClockEvidence`)"""

    def note(self, by: str, wall: float, apart: float) -> None:
        """Record that the clock was confirmed at wall time `wall`."""
        self.vouched, self.person = (by, wall), None
        if not self.kept or abs(self.kept[-1] - apart) > STEP:
            self.kept = [*self.kept, apart][-KEPT_PERIODS:]

    def reverses(self, apart: float) -> bool:
        """Return whether the clock is back in an earlier confirmed period of this boot.

        The confirmations in between were wrong. They are forgotten.
        """
        if not self.kept or abs(self.kept[-1] - apart) <= DRIFT:
            return False
        same = [i for i, one in enumerate(self.kept) if abs(one - apart) <= DRIFT]
        if same:
            del self.kept[same[-1] + 1 :]
        return bool(same)


def step(before: Memory, wall: float, steady: float) -> float:
    """Return the seconds by which the wall clock stepped since the last check; 0 if it did not."""
    moved = (wall - steady) - before.apart
    return moved if abs(moved) > STEP else 0.0


def look(before: Memory, wall: float, steady: float, proved: float | None) -> Memory:
    """Return what is known after one check. `proved`: monotonic time of new evidence. Pure.

    After a step without evidence, the clock is not trusted until a time service sets it again.
    Evidence for a time before the floor does not count, whoever gives it.
    """
    # A step voids the proof: what was proved is the old relation of wall and monotonic time.
    known = before.proved if not step(before, wall, steady) else None
    if proved is not None and wall >= before.floor - SLACK:
        known = proved if known is None else max(known, proved)
    floor = max(before.floor, wall) if known is not None and known == proved else before.floor
    return Memory(before.boot, known, wall - steady, floor)


def judge(now: Memory, wall: float, steady: float, rtc: float | None) -> ClockTrust:
    """Decide how far the clock can be trusted (rule C7). Pure.

    After a boot without a time service, an RTC that agrees gives holdover, for at most seven days
    from the floor.
    """
    if wall < now.floor - SLACK:
        return ClockTrust.UNTRUSTED
    if now.proved is not None:
        age = steady - now.proved
        if age <= TRUSTED_FOR:
            return ClockTrust.TRUSTED
        return ClockTrust.HOLDOVER if age <= HELD_FOR else ClockTrust.UNTRUSTED
    # Without the limit of seven days, an RTC that is set wrong would be trusted for ever.
    agrees = rtc is not None and abs(rtc - wall) <= SLACK
    return ClockTrust.HOLDOVER if agrees and wall <= now.floor + HELD_FOR else ClockTrust.UNTRUSTED


def evidence(timesyncd: Path = TIMESYNCD) -> ClockEvidence:
    """Collect the evidence. This costs two system calls."""
    try:
        touched: int | None = timesyncd.stat().st_mtime_ns
    except OSError:
        touched = None
    return ClockEvidence(_kernel_keeps_time(), touched)


def boot_id(path: Path = BOOT) -> str:
    """Return the id of this boot: monotonic times compare only within one boot.

    The unit's sandbox hides /proc/sys, so the unit states it (`GARDIEN_BOOT`).
    """
    try:
        return path.read_text(encoding="ascii").strip().replace("-", "")
    except OSError:
        return os.environ.get("GARDIEN_BOOT") or f"unknown-{os.getppid()}"


def rtc(path: Path = RTC) -> float | None:
    """Return the time of the battery-backed clock in Unix seconds; None if there is none."""
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


class Clock:
    """The agent's clock. Its trust decides whether slots are closed and orders begin."""

    def __init__(  # noqa: PLR0913, PLR0917 -- each a clock of its own, to be moved by tests
        self,
        source: Literal["system", "ntp"],
        file: Path | None = None,
        wall: Callable[[], float] = seconds,
        steady: Callable[[], float] = monotonic,
        evidence: Callable[[], ClockEvidence] = evidence,
        rtc: Callable[[], float | None] = rtc,
        boot: Callable[[], str] = boot_id,
        watch: WatchesSettings | None = None,
        notes: Path | None = None,
    ) -> None:
        """`notes`: a file that survives kill -9, for what the disk does not record; its folder may
        be missing.

        `watch`: calls a function whenever the wall clock is set, within a block, and gives
        whether it can do that. None: the kernel, for the clocks of this machine; nobody, for
        others.
        """
        self.source = source
        self.changed = Change()
        """the clock has stepped, or what it may be used for has changed"""
        machine = wall is seconds and steady is monotonic
        self._watch = watch or (told_by_kernel if machine else told_by_nobody)
        self._is_served = False
        self._wall, self._steady = wall, steady
        self._evidence, self._rtc = evidence, rtc
        self._touched: int | None = None
        self._looked = 0.0
        """when the evidence was last read, by the monotonic clock"""
        name, apart = boot(), wall() - steady()
        empty = Memory("", None, apart, BUILT)
        self._file = StateFile(file, partial(_known, boot=name, empty=empty), lambda: empty)
        noted = _noted(notes, name, empty)
        known = self._file.load(self._take_memory)
        self._notes = notes
        self._looked_before = known.boot == name or self._file.unreadable
        """whether an earlier process may have looked at the clock in this boot"""
        if noted is not None:  # later than what the disk has
            known, self._looked_before = noted[0], True
        self._memory = replace(known, boot=name)
        self._history_file = StateFile(
            file and file.with_name(HISTORY), partial(_history, boot=name), lambda: History(name)
        )
        self.history = self._history_file.load(self._take_history)
        if noted is not None:
            self.history = noted[1]
        elif self._history_file.unreadable:
            # a person's time must not pass for that of a time service (rule C17)
            self._memory = replace(self._memory, proved=None)
        self.period = Period(name, self._memory.apart, steady())
        self._guarded, self._let_in, self._marks = False, 0, 0.0
        self.agreed = False
        """a time service and a signed time of the platform agree in this period"""
        self._moved_on: float | None = None
        self._first = True
        self._trust = ClockTrust.TRUSTED if source == "system" else ClockTrust.UNTRUSTED
        self.steps: list[float] = []
        """the steps since the start, in seconds"""
        self._announced = self._uses()

    def _take_memory(self, stored: Memory) -> None:
        self._memory = replace(self._memory, floor=max(self._memory.floor, stored.floor))

    def _take_history(self, stored: History) -> None:
        here = self.history
        stored.kept, stored.steps = stored.kept + here.kept, stored.steps + here.steps
        if here.vouched is not None:
            stored.vouched, stored.person = here.vouched, None
        if here.touched is not None:
            stored.touched = here.touched
        self.history = stored

    def _uses(self) -> tuple[object, ...]:
        known = self._memory.proved is not None
        dates = self._is_believed() and self.entered and self.ahead <= 0
        return len(self.steps), self._trust, known, self.by_person, self.agreed, self.entered, dates

    def _announce(self) -> None:
        """Wake those who depend on the clock if it has changed for them."""
        if self._announced != (uses := self._uses()):
            self._announced = uses
            self.changed.tell()

    def bound(self, seconds: float) -> float:
        """Return how long a task may sleep that wants `seconds` and is woken by `changed`.

        As long as it wants while `serve` looks. Otherwise no longer than `UNTOLD`; and as long for
        what is due already while the clock dates nothing, since it waits for the clock.
        """
        if self._is_served and (seconds > 0 or self.dates):
            return seconds
        return min(seconds, UNTOLD) if seconds > 0 else UNTOLD

    @property
    def trust(self) -> ClockTrust:
        """How far the clock can be trusted now. Not at all while closed slots lie in its future."""
        # Look at each use: between two rounds of `serve` the clock may step, and a slot closed with
        # the new time could not be opened again.
        self.look()
        doubtful = self.ahead > SLACK or self.by_person
        return ClockTrust.UNTRUSTED if doubtful else self._trust

    @property
    def by_person(self) -> bool:
        """Whether only a person's word keeps the clock (rule C17): readings are dated by it, but
        no order begins, nothing that ends with time is accepted, and nothing is destroyed.
        """
        return self.history.person is not None and self._memory.proved is not None

    @property
    def sealing_trust(self) -> ClockTrust:
        """How far the clock can be trusted to decide which rows may be sent.

        By a person's word for seven days after the last proved time: so it cannot prolong a consent
        by more than a battery-backed clock can (rule C7).
        """
        trust = self.trust
        if self.by_person and self.dates and self.now() <= self._memory.floor + HELD_FOR:
            return ClockTrust.HOLDOVER
        return trust

    @property
    def dates(self) -> bool:
        """Whether readings may be dated by this clock now.

        In holdover only in the boot in which the clock was proved: an RTC may be wrong by hours,
        and rows sent with a wrong date must be taken back. Readings also wait while closed slots
        lie in the future, and until a new period is admitted (`let_in`).
        """
        return self.believed and self.entered and self.ahead <= 0

    @property
    def believed(self) -> bool:
        """Whether the clock itself is trusted, whatever slots were closed before."""
        self.look()
        return self._is_believed()

    def _is_believed(self) -> bool:
        trusted = self._trust is not ClockTrust.UNTRUSTED
        return trusted and (self.source == "system" or self._memory.proved is not None)

    @property
    def ahead(self) -> float:
        """Seconds by which the last closed slot lies in the future; 0 or less if it does not."""
        return self._marks - self.now()

    @property
    def floor(self) -> float:
        """The latest proved wall time: no earlier time is trusted."""
        return self._memory.floor

    def await_entry(self) -> None:
        """Date no readings until `let_in`, now and after each later step."""
        self._guarded, self._let_in = True, -1
        self._announce()

    @property
    def ages(self) -> bool:
        """Whether rows may be destroyed because of their age.

        Not for one day after a trusted clock was set forward by more than a day: if that was wrong,
        young rows would look old.
        """
        return self._moved_on is None or self._steady() - self._moved_on > DAY

    @property
    def entered(self) -> bool:
        """Whether the present period is admitted."""
        return not self._guarded or self._let_in == len(self.steps)

    def closed_to(self, marks: float) -> None:
        """Note the last closed slot, in Unix seconds."""
        self._marks = marks

    def let_in(self, number: int, marks: float) -> None:
        """Admit a period: all slots closed before it are on the disk, the last one at `marks`.

        `number`: the period, as the value of `len(steps)` when the caller checked it. A step since
        then has begun another period, which is not admitted.
        """
        self._let_in, self._marks = number, marks
        self._announce()

    @property
    def distrust_reason(self) -> str:
        """Say why readings are not dated now, and what to do; empty if they are."""
        if self.dates:
            return ""
        if self.ahead > 0:
            return Text(
                "marks lie {span_of} ahead of the clock: compare the clock with a watch. This"
                " shows both and says what to do: gardien clock",
                span_of=span_of(self.ahead),
            )
        if self.now() < self._memory.floor - SLACK:
            last = stamp(self._memory.floor)
            return Text(
                "the clock shows {stamp}, but {last} was proved already",
                stamp=stamp(self.now()),
                last=last,
            )
        return NO_TIME_SERVICE

    @property
    def doubted_since(self) -> float | None:
        """The wall time at which the doubt of `distrust_reason` began; None: it is not known.

        That is the first step since the last confirmation, by the clock as it was before the step;
        else the end of the time for which a confirmation counts.
        """
        confirmed = self.history.vouched[1] if self.history.vouched else None
        steps = [at for at, _ in self.history.steps if confirmed is None or at >= confirmed]
        if steps:
            return steps[0]
        over = confirmed is not None and self.now() - confirmed > HELD_FOR
        return confirmed + HELD_FOR if confirmed is not None and over else None

    def now(self) -> float:
        """Return the wall time in seconds since 1970 UTC."""
        return self._wall()

    def steady(self) -> float:
        """Return monotonic seconds. They never step, and compare only within one boot."""
        return self._steady()

    def look(self) -> None:
        """Check for a step and for evidence, and update the trust."""
        self._look()
        self._announce()

    def _look(self) -> None:
        wall, steady = self._wall(), self._steady()
        if moved := step(self._memory, wall, steady):
            self.steps.append(moved)
            self.history.touched = self._evidence().touched if self._first else self._touched
            self.period, self.agreed = (
                self.period._replace(apart=wall - steady, began=steady),
                False,
            )
            self.history.steps = [*self.history.steps, (wall - moved, moved)][-STEPS_KEPT:]
            if moved > DAY and (self.source == "system" or self._memory.proved is not None):
                self._moved_on = steady
            log.error(
                "the clock stepped by %+.0f s", moved,
                extra=fields(LogEvent.CLOCK_STEPPED, detail=f"{moved:+.0f}"),
            )  # fmt: skip
        if self.source == "system":
            self._memory = replace(self._memory, apart=wall - steady)
            return
        proof = self._proof(wall, steady)
        if proof is not None:
            if self.history.reverses(wall - steady) and wall < self._memory.floor:
                log.warning(
                    "a clock step was reversed: times from %s on are accepted again", stamp(wall),
                    extra=fields(LogEvent.CLOCK_FLOOR_LOWERED),
                )  # fmt: skip
                self._memory = replace(self._memory, floor=wall)
            if wall >= self._memory.floor - SLACK:
                self._corrects_person(wall - steady)
                self.history.note(BY_SERVICE, wall, wall - steady)
        self._memory = look(self._memory, wall, steady, proof)
        # Reading an RTC is slow, so it is read only if there is no other evidence.
        rtc = self._rtc() if self._memory.proved is None else None
        trust = judge(self._memory, wall, steady, rtc)
        if trust is ClockTrust.TRUSTED and self.by_person:
            trust = ClockTrust.HOLDOVER
        if trust is not self._trust:
            # a command that works without the daemon prints warnings: good news is for the journal
            level = logging.WARNING if trust is ClockTrust.UNTRUSTED else logging.INFO
            log.log(
                level, "the clock is now %s (was %s); it shows %s", trust, self._trust, stamp(wall),
                extra=fields(LogEvent.CLOCK_TRUST_CHANGED, detail=trust.value),
            )  # fmt: skip
        self._trust = trust

    def _corrects_person(self, apart: float) -> None:
        """Note if a time service contradicts what a person stated in this boot: that is proof."""
        stated = self.history.person
        if stated is not None and abs(apart - stated) > SLACK:
            self.agreed = True

    def _proof(self, wall: float, steady: float) -> float | None:
        """Return the monotonic time of the evidence that this check brought; None if none."""
        evidence = self._evidence()
        touched, self._touched = self._touched, evidence.touched
        # The first check has no earlier one to compare with: an old file is no new synchronization.
        first, self._first = self._first, False
        if first and self._looked_before and self._memory.proved is None:
            # An earlier process has seen a step, and the file may be older than that (rule C8).
            self.history.touched = evidence.touched
        looked, self._looked = self._looked, steady
        if evidence.kernel:
            return steady
        if not first and evidence.touched not in (None, touched):
            # Touched shortly before a step, the file is new and says nothing of the clock that we
            # see now: by that clock it is as old as the step is wide (rule C8).
            age = wall - evidence.touched / 1e9
            if -STEP <= age <= steady - looked + STEP:
                return steady
            self.history.touched = evidence.touched
        is_newer = evidence.touched != self.history.touched
        if first and evidence.touched is not None and is_newer and self._memory.proved is None:
            # timesyncd synchronized before this process began. How long ago, only the wall clock
            # tells; an age longer than the uptime would mean that the clock stepped since.
            age = wall - evidence.touched / 1e9
            return steady - age if 0 <= age < steady else None
        return None

    def _serviced(self, wall: float) -> bool:
        """Whether a time service keeps the clock now, or set it within the last hour and since the
        last step: of a clock that has stepped, what was set before says nothing.
        """
        evidence = self._evidence()
        if evidence.touched is None or evidence.touched == self.history.touched:
            return evidence.kernel
        return evidence.kernel or 0 <= wall - evidence.touched / 1e9 <= SERVICED

    def at_least(self, moment: float) -> None:
        """Raise the floor to a time at which a trusted author signed something."""
        if self.source == "ntp" and moment > self._memory.floor:
            self._memory = replace(self._memory, floor=moment)
            self.remember()

    def take_signed_time(self, moment: float, waited: float = 0.0) -> str:
        """Compare the clock with a signed time of the platform, which has waited here for so many
        seconds since it arrived. Return the outcome as text.

        If they agree, the clock is proved as by a time service. If not, the clock is left alone:
        gardien never sets the machine's clock. The floor is lowered only if a time service agrees
        too.
        """
        wall, steady = self._wall(), self._steady()
        if self.source == "system":
            return Text("the clock is believed as it is")
        # A clock that is behind would come to agree with a signed time that waits for long.
        if abs(wall - waited - moment) > SLACK:
            if moment < wall:
                self.at_least(moment)  # it was signed then, so it is later now
            return Text(
                "{not_believed}the clock is {wall:+.0f} s off",
                not_believed=NOT_BELIEVED,
                wall=wall - waited - moment,
            )
        if wall < self._memory.floor - SLACK:
            if not self._serviced(wall):
                last = stamp(self._memory.floor)
                return Text(
                    "{not_believed}{last} was proved already: a time service must agree",
                    not_believed=NOT_BELIEVED,
                    last=last,
                )
            log.warning(
                "the signed time is accepted: times from %s on are accepted again", stamp(moment),
                extra=fields(LogEvent.CLOCK_FLOOR_LOWERED),
            )  # fmt: skip
        floor = wall if wall < self._memory.floor - SLACK else max(self._memory.floor, moment)
        # Look first: `apart` is set below, and that would hide a step that nobody has noticed yet.
        self.look()
        self._memory = replace(self._memory, proved=steady, apart=wall - steady, floor=floor)
        self._corrects_person(wall - steady)
        self.history.note(BY_PLATFORM, wall, wall - steady)
        self.agreed = self.agreed or self._serviced(wall)
        self.look()
        self.remember()
        return Text("the clock agrees")

    def standing(self) -> dict[str, object]:
        """Describe the clock for people: times as `stamp` writes them, durations in seconds."""
        trust, history = self.trust, self.history
        by, at = history.vouched or ("", 0.0)
        return {
            "now": stamp(self.now()),
            "trust": trust.value,
            "person": self.by_person,
            "source": self.source,
            "floor": stamp(self.floor),
            "vouched": {"by": by, "at": stamp(at)} if by else None,
            "steps": [{"at": stamp(at), "seconds": round(by)} for at, by in history.steps],
            "said": self.distrust_reason,
        }

    def set_right(self) -> None:
        """Take a person's word that the clock is right now, even if it lies before the floor."""
        self.look()
        wall = self._wall()
        self._memory = replace(self._memory, floor=min(self._memory.floor, wall))
        self.history.note(BY_HAND, wall, self.period.apart)
        self.remember()

    def off_by(self, moment: float) -> float:
        """The seconds by which the clock is ahead of a time that a person states.

        Raises Refused if something better keeps the clock, or if that time cannot be right.
        """
        self.look()
        wall = self._wall()
        if self.source == "system":
            raise Refused(
                "nothing was changed: the configuration trusts this computer's clock as it is"
            )
        if self._serviced(wall):
            raise Refused(
                "nothing was changed: a time service keeps the clock, better than a person can"
            )
        if moment < self._memory.floor - SLACK:
            raise Refused(
                "nothing was changed: {moment} cannot be right, because {last} was proved already."
                " If that proof was wrong: gardien clock reset --wrong-since WHEN",
                moment=stamp(moment),
                last=stamp(self._memory.floor),
            )
        return wall - moment

    def take_person_time(self) -> None:
        """Take a person's word that the clock is right (rule C17), after `off_by`.

        The floor stays, so a time service that is right is never refused later. Raises NotRecorded.
        """
        wall, steady = self._wall(), self._steady()
        self.history.vouched, self.history.person = (BY_HAND, wall), wall - steady
        # before it counts: after a restart it must not pass for the word of a time service
        self._history_file.save(asdict(self.history))
        self._memory = replace(self._memory, proved=steady, apart=wall - steady)
        self.look()
        self.remember()

    @property
    def person_until(self) -> float | None:
        """When a person's word ends, in Unix seconds; None if something better keeps the clock."""
        proved = self._memory.proved
        return (
            self.now() + HELD_FOR - self.steady() + proved
            if self.by_person and proved is not None
            else None
        )

    async def serve(self) -> None:
        """Check the clock at once when it is set, look for evidence, and store what is known every
        hour. Never returns.

        Only this looks again and again; all others sleep until `changed` (see `bound`).
        """
        remembered = None
        with self._watch(self.look) as heard:
            self._is_served = True
            try:
                while True:
                    proved = self.trust is ClockTrust.TRUSTED
                    due = remembered is None or self.steady() - remembered >= REMEMBER_EVERY
                    if self.source == "ntp" and proved and due:
                        self.remember()
                        remembered = self.steady()
                    # nothing announces that a time service keeps the clock
                    await pause(LOOK if heard and self.dates else UNTOLD)
            finally:
                self._is_served = False

    def remember(self) -> None:
        """Store what is known, durably, so that a restart or a boot goes on from it."""
        if self.source == "system":
            return
        recorded = False
        with suppress(NotRecorded):  # a failure of the other file is logged
            self._history_file.save(asdict(self.history))
            recorded = True
        try:
            self._file.save(asdict(self._memory))
        except NotRecorded as error:
            extra = fields(LogEvent.RECORD_NOT_WRITTEN, store=self._file.name)
            log.warning("%s", error, extra=extra)
            recorded = False
        if self._notes is not None:
            with suppress(OSError):
                self._note(self._notes, recorded=recorded)

    def _note(self, notes: Path, *, recorded: bool) -> None:
        """Note for a later process of this boot what the disk does not record. Without it that
        process would see no step in between.
        """
        if recorded:
            notes.unlink(missing_ok=True)
            return
        content = {"memory": asdict(self._memory), "history": asdict(self.history)}
        new = notes.with_suffix(".new")
        new.write_text(json.dumps(content), encoding="utf-8")
        new.replace(notes)


def span_of(seconds: float) -> str:
    """Format a duration for people: `23:59 h`, or in days from two days on."""
    if seconds >= 2 * DAY:
        return Text("{seconds:,.0f} days", seconds=seconds / DAY)
    minutes = -(-int(seconds) // 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"


def _history(stored: dict[str, Any], boot: str) -> History:
    """The stored history, without the periods of an earlier boot, which cannot be compared."""
    vouched = stored["vouched"]
    known = History(
        str(stored["boot"]),
        [float(one) for one in stored["kept"]],
        (str(vouched[0]), float(vouched[1])) if vouched else None,
        [(float(at), float(moved)) for at, moved in stored["steps"]],
        None if stored.get("person") is None else float(stored["person"]),
        None if stored.get("touched") is None else int(stored["touched"]),
    )
    here = known.boot == boot
    return known if here else replace(known, boot=boot, kept=[], person=None, touched=None)


def _noted(notes: Path | None, boot: str, empty: Memory) -> tuple[Memory, History] | None:
    """What an earlier process of this boot has noted, if the disk did not record it."""
    if notes is None:
        return None
    try:
        content = json.loads(notes.read_bytes())
        memory = _known(content["memory"], boot, empty)
        history = _history(content["history"], boot)
    except (OSError, ValueError, TypeError, LookupError):
        return None
    return (memory, history) if memory.boot == boot else None


def _known(stored: dict[str, Any], boot: str, empty: Memory) -> Memory:
    """What is stored of the clock. From an earlier boot only the floor is valid."""
    known = Memory(**stored)
    floor = max(BUILT, float(known.floor))
    return known if known.boot == boot else replace(empty, floor=floor)


class _Timex(ctypes.Structure):
    """The first fields of the kernel's `struct timex`, and space for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


@dataclass(frozen=True, slots=True)
class ClockEvidence:
    """The evidence for the wall clock at one check."""

    kernel: bool
    """a time service keeps the kernel's clock"""
    touched: int | None
    """when timesyncd last synchronized, in nanoseconds of the wall clock at that time"""


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@contextmanager
def told_by_nobody(tell: Tell) -> Iterator[bool]:
    """For a clock whose settings nobody announces."""
    del tell
    yield False


class _TimerSpec(ctypes.Structure):
    """The kernel's `struct itimerspec`."""

    _fields_ = (("interval", ctypes.c_long * 2), ("at", ctypes.c_long * 2))


NEVER = 2 ** (8 * ctypes.sizeof(ctypes.c_long) - 1) - 1
"""the latest wall time of `_TimerSpec`, in seconds; 2038 where it has 32 bit"""
TIMER_AT_TIME, TIMER_ENDS_WHEN_SET = 1, 2
"""TFD_TIMER_ABSTIME and TFD_TIMER_CANCEL_ON_SET of timerfd_settime(2)"""


@contextmanager
def told_by_kernel(tell: Tell, at: int = NEVER) -> Iterator[bool]:
    """Call `tell` on the event loop whenever the wall clock is set, or wakes from a suspension.

    Gives False if the kernel or the loop cannot do that. `at`: call it at this wall time too.
    """
    loop = asyncio.get_running_loop()
    timer = _timer(at)
    if timer is None:
        yield False
        return

    def was_set() -> None:
        with suppress(OSError):  # ECANCELED: that is how the kernel says it
            os.read(timer, 8)
        tell()

    try:
        try:
            loop.add_reader(timer, was_set)
        except NotImplementedError:  # the loop of a simulation
            yield False
            return
        try:
            yield True
        finally:
            loop.remove_reader(timer)
    finally:
        os.close(timer)


def _timer(at: int) -> int | None:
    """Return a timer of the wall clock that becomes readable when the clock is set; None where
    there is no such timer.
    """
    libc, spec = _libc(), _TimerSpec((0, 0), (at, 0))
    # a timer in the past would be readable all the time
    if time.time() > NEVER or not hasattr(libc, "timerfd_create"):
        return None
    timer: int = libc.timerfd_create(time.CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
    if timer < 0:
        return None
    flags = TIMER_AT_TIME | TIMER_ENDS_WHEN_SET
    if libc.timerfd_settime(timer, flags, ctypes.byref(spec), None) < 0:
        os.close(timer)
        return None
    return timer


def _kernel_keeps_time() -> bool:
    now = _Timex()
    if _libc().adjtimex(ctypes.byref(now)) < 0:
        return False
    return now.maxerror < MOST_ERROR and not now.status & STA_UNSYNC
