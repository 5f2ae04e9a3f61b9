"""`gardien control test`: apply, read back, release, and once more from the journal alone.

No order is accepted before the test has passed: nobody has seen this point released (rule H22).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control.guard import measured, plain
from agent.control.hold import Holder, Setpoint
from agent.control.model import TEST, LossRule, No, OrderCode, same
from agent.control.point_access import beat, look_whole, watched
from agent.control.records import Phase, Transaction
from agent.core.errors import Refused
from agent.core.i18n import Text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.control.model import ConfiguredControl, Modality, WatchdogTarget
    from agent.control.point_access import PointAccess
    from agent.control.records import HoldRecord
    from agent.control.release import Release
    from agent.core.model import Value

    Say = Callable[[str], Awaitable[None]]

LASTS = 120.0
"""seconds by which a test must be over in any case, without the time for the device's watchdog"""
SLACK = 1.1
LATE = 2.0
"""A device may be 10 % and 2 s late: its clock is not exact, and it checks only now and then."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The results of a test that passed."""

    value: Decimal
    applied_s: float
    """seconds from the first request until the value was read back"""
    released_s: float
    """seconds until the release was confirmed"""
    recovered_s: float
    """the same for a release from the journal alone"""
    fell_back_s: float | None = None
    """seconds from the last refresh of the device's watchdog until it had fallen back"""


@dataclass(frozen=True, slots=True)
class Fallen:
    """How the device fell back."""

    seconds: float
    """from the last refresh of its watchdog; after a silent line, an upper bound"""
    value: Decimal


class SelfTest:
    """A test of a control at which nothing is held.

    `say` reports progress to the person who waits.
    """

    def __init__(self, controller: Release, control: ConfiguredControl, say: Say) -> None:
        self._controller, self._control, self._say = controller, control, say
        self._dependencies, self._holder = controller.dependencies, controller.holder
        self._access = self._dependencies.access(control.place, control.slots[0])

    @property
    def _steady(self) -> float:
        return self._dependencies.now().steady

    async def run(self) -> Passed:
        """Test the control, and record that the test passed.

        Raises Refused if the test fails, LinkLost, WriteRefused, SpoolFull, StorageFailed.
        """
        control, journal, say = self._control, self._controller.journal, self._say
        if journal.open_records(control.key):
            release = f"gardien control release {control.name}"
            raise Refused(
                "{name} is held now. Release it first: {release}",
                name=control.name,
                release=release,
            )
        self._check_not_forbidden()
        free = await self._free_slots()
        before = await look_whole(self._access)
        base = before.effective if isinstance(before.effective, Decimal) else None
        _, fallback = await watched(self._dependencies.access, control.watchdog, control.fallback)
        setpoint = self._setpoint(probe(control.modality, base, fallback))
        unit = control.modality.unit
        there = measured(base, unit) if base is not None else before.effective
        await say(
            Text(
                "{measured} is written; {there} is in force now",
                measured=measured(setpoint.value, unit),
                there=there,
            )
        )
        began = self._steady
        record = await self._begin(setpoint)
        applied = self._steady
        await say(Text("the value was read back; now it is released"))
        await self._release(self._holder, record, self._access)
        released = self._steady
        await say(
            Text("the release was confirmed; now the same again, released from the journal alone")
        )
        recovered = await self._release_from_journal(setpoint)
        fallen = await self._let_watchdog_run_out(setpoint) if control.watchdog else None
        after = await look_whole(self._access)
        if not same(after.effective, before.effective, control.modality.tolerance):
            reason = Text(
                "{effective} is in force now, and it was {effective_2} before",
                effective=after.effective,
                effective_2=before.effective,
            )
            raise Refused("released, but {reason}: find out who else writes there", reason=reason)
        # `given_back` is cleared, so that the releases of the test do not delay the first order
        memo = replace(
            journal.memo(control.key), tested=control.fingerprint, free=free, given_back=None,
            fallback=fallen.value if fallen else None,
            fell_back_s=fallen.seconds if fallen else None,
        )  # fmt: skip
        await self._dependencies.save(Transaction(memos=[(control.key, memo)]))
        seconds = applied - began, released - applied, recovered, memo.fell_back_s
        return Passed(setpoint.value, *seconds)

    def _check_not_forbidden(self) -> None:
        no = self._controller.forbidden(self._control)
        if not no:
            return
        for guard in self._control.modality.guards:
            if no.code is OrderCode.GUARD and guard.name == no.field:
                raise Refused(
                    "{no}: {reason} (guard {guard} is {device}/{point}; is {device} switched on?)",
                    no=no,
                    reason=no.reason,
                    guard=guard.name,
                    device=guard.device,
                    point=guard.point,
                )
        raise Refused("{no}: {reason}", no=no, reason=no.reason)

    async def _free_slots(self) -> tuple[int, ...]:
        """Our priorities at the point. All must be empty, so that a later value there is ours.

        Raises Refused if one is not.
        """
        control, free = self._control, []
        for slot in control.slots if control.modality.limits.emergency else control.slots[:1]:
            if slot is not None:
                standing = await self._dependencies.access(control.place, slot).look()
                if standing.ours is not None:
                    raise Refused(
                        "{ours} stands at priority {slot} of {name} and is not ours: find out who"
                        " set it, and have it emptied",
                        ours=standing.ours,
                        slot=slot,
                        name=control.place.name,
                    )
                free.append(slot)
        return tuple(free)

    def _setpoint(self, value: Decimal) -> Setpoint:
        control = self._control
        lasts = LASTS + (4 * longest(control.watchdog) if control.watchdog else 0.0)
        return Setpoint(
            control.name, TEST, control.place, control.slots[0], value, control.restore,
            self._dependencies.now().wall + lasts, lasts, control.modality.tolerance,
            fallback=control.fallback, watchdog=control.watchdog,
        )  # fmt: skip

    async def _begin(self, setpoint: Setpoint) -> HoldRecord:
        record = await self._holder.begin(setpoint, self._access, None)
        if record is None:
            raise Refused("somebody at the plant has taken over")
        if isinstance(record, No):
            raise Refused("{record}: {reason}", record=record, reason=record.reason)
        if record.phase is not Phase.APPLIED:
            left = await self._holder.release(record, self._access)
            given = Text("it was released") if left is None else Text("it is not released yet")
            raise Refused("{words}; {given}", words=record.words, given=given)
        return record

    async def _release(self, holder: Holder, record: HoldRecord, access: PointAccess) -> None:
        left = await holder.release(record, access)
        if left is not None:
            raise Refused("it is not released: {alarm}; the agent goes on trying", alarm=left.alarm)

    async def _release_from_journal(self, setpoint: Setpoint) -> float:
        journal, record = self._controller.journal, await self._begin(setpoint)
        pulled = self._steady
        left: HoldRecord = await self._dependencies.call(journal.reread, record.number)
        access = self._dependencies.access(left.place, left.slot)
        await self._release(Holder(journal, self._dependencies), left, access)
        return self._steady - pulled

    # -- the device's own watchdog

    async def _let_watchdog_run_out(self, setpoint: Setpoint) -> Fallen:
        record = await self._begin(setpoint)
        assert record.dog is not None
        fallen = await self._wait_for_fallback(record, record.dog)
        record = record.knowing(fallen.value)
        await self._dependencies.save(Transaction(record))
        await self._say(
            Text(
                "the device fell back after {seconds:.1f} s; now it is released",
                seconds=fallen.seconds,
            )
        )
        await self._release(self._holder, record, self._access)
        return fallen

    async def _wait_for_fallback(self, record: HoldRecord, watchdog: WatchdogTarget) -> Fallen:
        """Wait until the device has fallen back by itself, as its watchdog runs out (rule H23).

        It is read meanwhile. If it does not fall back, it may take a read for a sign of life. Then
        the line stays silent for as long, and the device is read once afterwards.

        Raises Refused if it does not, or not in time, or to another value than configured;
        LinkLost, WriteRefused.
        """
        name, within = self._control.name, f"{timeout(watchdog):g} s"
        await self._say(
            Text(
                "now its watchdog is not refreshed: the device should fall back within {within}",
                within=within,
            )
        )
        fallen = await self._read_until_fallen(record, watchdog)
        if fallen is None:
            reason = Text("while it is read; now again, with a silent line for as long")
            await self._say(
                Text("it does not fall back within {within} {reason}", within=within, reason=reason)
            )
            fallen = await self._read_after_silence(record, watchdog)
        if fallen is None:
            raise Refused(
                "{name} did not fall back within {within}: this `device_watchdog` releases"
                " nothing once the gateway is gone",
                name=name,
                within=within,
            )
        expected, value = record.fallback, plain(fallen.value)
        if expected is not None and not same(fallen.value, expected, record.tolerance):
            raise Refused(
                "{name} fell back to {value}, not to {expected} as configured",
                name=name,
                value=value,
                expected=expected,
            )
        if fallen.seconds <= watchdog.pause:
            raise Refused(
                "{name} fell back after {seconds:.1f} s, but its watchdog is refreshed only"
                " every {pause:g} s: set `timeout` to that of the device",
                name=name,
                seconds=fallen.seconds,
                pause=watchdog.pause,
            )
        return fallen

    async def _read_until_fallen(
        self, record: HoldRecord, watchdog: WatchdogTarget
    ) -> Fallen | None:
        began, access = self._steady, self._dependencies.access(record.place, record.slot)
        # about twenty reads within the timeout, so that the measured time is close
        between = min(5.0, max(0.25, timeout(watchdog) / 20))
        while (gone := self._steady - began) <= longest(watchdog):
            fallen = self._fallen(record, (await access.look()).ours, gone)
            if fallen is not None:
                return fallen
            self._check_not_forbidden()
            self._controller.turned = self._steady
            await self._dependencies.wait(between)
        return None

    async def _read_after_silence(
        self, record: HoldRecord, watchdog: WatchdogTarget
    ) -> Fallen | None:
        await beat(self._dependencies.access, record)
        left, began = longest(watchdog), self._steady
        # silent on purpose: not a standstill for systemd's watchdog
        self._controller.turned = began + left
        await self._dependencies.quiet(record.place, left)
        value = (await self._dependencies.access(record.place, record.slot).look()).ours
        return self._fallen(record, value, self._steady - began)

    def _fallen(self, record: HoldRecord, value: Value | None, seconds: float) -> Fallen | None:
        """How the device fell back; None: the value is ours still."""
        if any(same(value, ours, record.tolerance) for ours in record.known):
            return None
        if not isinstance(value, Decimal):
            raise Refused(
                "{name} fell back to {value}, which is not a number",
                name=self._control.name,
                value=value,
            )
        return Fallen(seconds, value)


def timeout(watchdog: WatchdogTarget) -> float:
    """Seconds after which the device should fall back."""
    return 2 * watchdog.pause


def longest(watchdog: WatchdogTarget) -> float:
    """Seconds after which the device must have fallen back."""
    return timeout(watchdog) * SLACK + LATE


def probe(modality: Modality, base: Decimal | None, fallback: Value | None = None) -> Decimal:
    """The nearest agreed value that differs from the value in force and from the fallback.

    `base`: the value in force; `fallback`: the value to which the device's watchdog falls back. A
    limit is tested below `base`, because a limit never raises a value. Raises Refused if there is
    no such value.
    """
    limits = modality.limits
    least, most = limits.least, limits.most
    if modality.choices:
        candidates = list(modality.choices)
    else:
        assert least is not None
        assert most is not None
        by = modality.step or (most - least) / 10
        near = [base + by, base - by] if base is not None else []
        if modality.step:
            near = [one // by * by for one in near]
        candidates = [one for one in (*near, least, most) if least <= one <= most]
    for value in candidates:
        lower = modality.kind is not LossRule.LIMIT or base is None or value < base
        if lower and not any(same(value, one, modality.tolerance) for one in (base, fallback)):
            return value
    raise Refused(
        "{name}: no agreed value differs from {base}, which is in force",
        name=modality.name,
        base=base,
    )
