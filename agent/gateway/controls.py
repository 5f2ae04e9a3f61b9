"""Demand response set up on open lines: controls, journal, controller and orders."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from agent.config.config import control_definitions
from agent.control.context import ControlDependencies
from agent.control.controller import Controller
from agent.control.guard import GuardReading, measured, plain
from agent.control.journal import RECENT
from agent.control.model import FAILSAFE, Moment, OrderCode, elapsed, split
from agent.control.orders import Orders
from agent.control.point_access import access_to, quiet
from agent.control.writer import FILE, Bounds, JournalWriter
from agent.core.clock import boot_id, stamp
from agent.core.errors import Absent, StorageFailed
from agent.core.i18n import Text
from agent.core.log_fields import LogEvent, fields
from agent.core.quantities import channels, factor
from agent.core.storage import Storage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from agent.config import Config
    from agent.control.model import Key, WriteTarget
    from agent.control.records import HoldRecord, Outcome
    from agent.core.clock import Clock
    from agent.core.model import Point, Sample
    from agent.core.tasks import Change
    from agent.drivers.link import Link
    from agent.trust.verify import TakenBack


log = logging.getLogger(__name__)
RECOVERED_WITHIN = 30.0
"""seconds for which a start waits for releases; those that take longer go on beside the rest"""
ENDED_WITHIN = 15.0
"""seconds for which an orderly end, or a reload, waits for releases"""


@dataclass
class Steering:
    """The open parts of demand response."""

    config: Config
    controller: Controller
    orders: Orders
    writer: JournalWriter

    def outcomes(self, recipient: str = "", uplink: str = "") -> dict[str, dict[str, Any]]:
        """What became of orders, as a recipient is told. By id, for the directory.

        It is told about common plant only: what is done in a dwelling concerns those who live there
        (rule H30). That a control does not exist is told to the recipient over whose uplink the
        order arrived, and to the one that the key's name names.
        """
        journal = self.controller.journal
        return dict(
            _outcome_item(one)
            for one in list(journal.recent)
            if not one.internal
            if self._common(one.control, device := self._device_of(one))
            or (not device and self._misnamed(one, recipient, uplink))
        )

    def _device_of(self, outcome: Outcome) -> str:
        return outcome.device or self.controller.journal.device_of(outcome.jti, outcome.control)

    def _misnamed(self, outcome: Outcome, recipient: str, uplink: str) -> bool:
        own = (recipient and outcome.by == recipient) or (uplink and outcome.via == uplink)
        missing = outcome.code == OrderCode.ASSET and outcome.control not in self.config.controls
        return bool(own and missing)

    def holds(self) -> list[dict[str, Any]]:
        """The holds now, and for how long they last, as recipients are told: common plant only."""
        now, records = (
            self.controller.dependencies.now(),
            list(self.controller.journal.records.values()),
        )
        return [
            {"control": record.control, **_until(record, now)}
            for record in records
            if self._common(record.control, record.place.device)
        ]

    def _common(self, name: str, device: str) -> bool:
        """Whether a control is on common plant.

        The device of that time counts, even if the control has moved since. If that device has
        another name now, the control's present device counts.
        """
        control = self.config.controls.get(name)
        at = split(control.point)[0] if control else ""
        known = self.config.devices.get(device) or self.config.devices.get(at)
        return bool(known and known.place)

    async def recover(self) -> None:
        """Release the holds of an earlier process, before any uplink is opened (rule H17)."""
        try:
            async with asyncio.timeout(RECOVERED_WITHIN):
                await self.controller.recover()
        except TimeoutError:
            log.error(  # noqa: TRY400 -- no bug
                "not every control is released yet: the releases go on",
                extra=fields(LogEvent.RELEASE_PENDING),
            )

    async def end(self) -> None:
        """Release all controls before the lines close."""
        self.controller.closing = True
        try:
            async with asyncio.timeout(ENDED_WITHIN):
                await self.controller.release_controls(
                    Text("the agent was stopped"), list(self.controller.controls)
                )
        except TimeoutError:
            log.error(  # noqa: TRY400 -- no bug
                "not every control was released: gardien control release --all",
                extra=fields(LogEvent.RELEASE_PENDING),
            )

    async def adopt(self, config: Config) -> list[str]:
        """Release the controls that the new configuration changes, under the old one (rule H21).

        A device that cannot be reached stays RELEASE_PENDING. Returns the controls that changed.
        """
        new = control_definitions(config)
        old = self.controller.controls
        zone = config.zone != self.config.zone
        changed = [name for name, control in old.items() if zone or new.get(name) != control]
        try:
            async with asyncio.timeout(ENDED_WITHIN):
                reason = Text("the configuration was changed")
                await self.controller.release_controls(reason, changed)
        except TimeoutError:
            log.error(  # noqa: TRY400 -- no bug
                "not every control was released before the reload: the releases go on",
                extra=fields(LogEvent.RELEASE_PENDING),
            )
        self.config, self.controller.controls, self.controller.dependencies.zone = (
            config,
            new,
            config.zone,
        )
        return changed + [name for name in new if name not in old]


class NoControls(Absent, Steering):
    """In place of the controls while none are configured, or their journal is not open."""

    REASON = "no control is configured: see `controls` in the configuration"

    def outcomes(self, recipient: str = "", uplink: str = "") -> dict[str, dict[str, Any]]:
        """There are none."""
        del recipient, uplink
        return {}

    def holds(self) -> list[dict[str, Any]]:
        """There are none."""
        return []


@asynccontextmanager
async def open_steering(  # noqa: PLR0913 -- each a part of its own
    config: Config,
    clock: Clock,
    link_of: Callable[[WriteTarget], Link | None],
    latest: Callable[[str, str], Sample | None],
    audit: Callable[[str, Mapping[str, Any]], None],
    *,
    home: Callable[[str, str], tuple[float, float] | None],
    ask: Callable[[str], Awaitable[None]],
    witness: str = "",
    taken: Sequence[TakenBack] = (),
    storage: Storage | None = None,
    bounds: Bounds | None = None,
    decided: Change | None = None,
) -> AsyncIterator[Steering]:
    """Open the journal, and set up the controls. Nothing is written to a device yet.

    `witness`: our own key, whose grants count only if this gateway may witness votes; `taken`:
    revocations, including those from before the journal; `storage`: notes which disks fail;
    `decided`: told when what became of an order has changed.
    """
    boot, made = boot_id(), control_definitions(config)

    def now() -> Moment:
        trust = clock.trust
        return Moment(clock.now(), clock.steady(), boot, trust.value != "untrusted")

    def key_of(name: str) -> Key | None:
        control = made.get(name)
        return control.key if control else None

    storage = storage or Storage(clock.now)
    opening = JournalWriter.open(config.state / FILE, key_of, storage, now, bounds)
    async with opening as writer:
        journal = writer.journal
        journal.decided = decided or journal.decided
        journal.decided.tell()
        dependencies = ControlDependencies(
            now=now,
            zone=config.zone,
            look=lambda device, point: None,  # noqa: ARG005 -- replaced below
            access=lambda place, slot: access_to(link_of(place), place, slot),
            save=writer.save,
            note=writer.note,
            call=writer.call,
            audit=lambda kind, body: writer.behind(partial(audit, kind, body)),
            failing=lambda: writer.failing,
            home=home,
            ask=ask,
            quiet=lambda place, seconds: quiet(link_of(place), seconds),
        )
        controller = Controller(journal, dependencies, made, writer=writer)
        here = Steering(config, controller, Orders(controller, writer.refuse), writer)
        if not config.trust.witnessed:
            journal.silence(witness)
        # a new or restored journal does not contain the revocations of the trust store
        try:
            await writer.call(journal.learn, taken)
        except StorageFailed:
            journal.believe(taken)
        # a reload replaces the controls, so look them up each time
        journal.key_of = lambda name: (
            control.key if (control := controller.controls.get(name)) else None
        )
        readings = PointReadings(lambda: here.config, clock, latest)
        dependencies.look, dependencies.power = readings.seen, readings.power
        yield here


def _until(record: HoldRecord, now: Moment) -> dict[str, Any]:
    """The latest end of a hold, by the earlier of both clocks (rule H28); a failsafe has none."""
    if record.jti == FAILSAFE:
        return {"until": None, "left": None}
    left = min(record.end - now.wall, record.lasts - elapsed(record.begun, now))
    return {"until": stamp(record.end), "left": max(0, int(left))}


@lru_cache(maxsize=RECENT)
def _outcome_item(outcome: Outcome) -> tuple[str, dict[str, Any]]:
    """The key of an outcome in a directory, and what is told of it."""
    number = f"{outcome.n}-{int(outcome.at)}"
    document = {
        "id": number,
        "jti": outcome.jti,
        "control": outcome.control,
        "state": outcome.state.value,
        "at": stamp(outcome.at),
        "code": outcome.code,
        "words": outcome.words,
        "value": outcome.value,
        "before": outcome.before,
        "after": outcome.after,
        "pre": outcome.pre,
    }
    members = {key: value for key, value in document.items() if value or key == "jti"}
    return f"outcomes/{number}", members


class PointReadings:
    """The last readings of points, as far as a guard may rely on them.

    A broken sensor often still gives values: 3276.7 °C if its wire is cut, or the same value for
    days. With either, a guard would never trip. So neither value is used (channels.toml: `least`,
    `most`, `still`). The configuration is read anew for each reading, because it may change.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        clock: Clock,
        latest: Callable[[str, str], Sample | None],
    ) -> None:
        self._config, self._clock, self._latest = config, clock, latest
        self._still: dict[str, tuple[Decimal, float]] = {}
        """the value of a sensor, and since when it has not changed (monotonic)"""

    def seen(self, device: str, name: str) -> GuardReading:
        """The last value of a point, in its own unit, with its age and any doubt."""
        point, sample = self._config().point(f"{device}/{name}"), self._latest(device, name)
        if sample is None:
            return GuardReading(None, 0.0, point.every)
        age = self._clock.now() - sample.at
        if sample.why is not None or not isinstance(sample.value, Decimal):
            # an invalid value interrupts the time without a change
            self._still.pop(f"{device}/{name}", None)
            why = sample.detail
            doubt = Text("has no valid value: {why}", why=why) if why else None
            return GuardReading(None, age, point.every, doubt)
        value = sample.value * point.scale
        doubt = self._doubt(point, value)
        return GuardReading(None if doubt else value, age, point.every, doubt)

    def _doubt(self, point: Point, value: Decimal) -> Text | None:
        """Why a value is not plausible; None: it is."""
        channel = channels().get(point.channel or "")
        by = factor(point.unit, channel.unit) if channel else None
        if channel is None or by is None:
            return None
        comparable, since = value * by, self._since(f"{point.device}/{point.name}", value)
        low = channel.least is not None and comparable < channel.least
        if low or (channel.most is not None and comparable > channel.most):
            read = measured(value, point.unit)
            return Text("reads {value}, which is not plausible", value=read)
        if channel.still is not None and self._clock.steady() - since > channel.still:
            return Text(
                "has read {value} for more than {hours} h: it is stuck",
                value=measured(value, point.unit), hours=f"{channel.still / 3600:g}",
            )  # fmt: skip
        return None

    def _since(self, name: str, value: Decimal) -> float:
        known = self._still.get(name)
        if known is None or known[0] != value:
            known = self._still[name] = value, self._clock.steady()
        return known[1]

    def power(self, control: str) -> str:
        """The power of a control's plant now, with its unit; empty: it is not known."""
        options = self._config().controls.get(control)
        if options is None or options.measure is None:
            return ""
        point, sample = self._config().point(options.measure), self._latest(*split(options.measure))
        if sample is None or not isinstance(sample.value, Decimal):
            return ""
        return f"{plain(sample.value * point.scale)} {point.unit}"
