"""Demand response set up on open lines: controls, journal, controller and orders."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.config.control_definitions import fits
from agent.control.ad_hoc_link import AdHocLink
from agent.control.controller import Controller
from agent.control.dependencies import ControlDependencies
from agent.control.model import OrderCode
from agent.control.orders import Orders
from agent.control.point_access import LinePoint
from agent.control.setpoint import FAILSAFE
from agent.control.settings import split
from agent.control.stamps import Moment, elapsed
from agent.control.writer import Bounds, JournalWriter
from agent.core.clock import stamp
from agent.core.errors import LinkLost, StorageFailed
from agent.core.log_fields import LogEvent, fields
from agent.core.storage import Storage
from agent.core.timesync import boot_id
from agent.gateway.controls.point_readings import PointReadings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from agent.config import Config
    from agent.control.dependencies import Audit
    from agent.control.hold_record import HoldRecord, WriteTarget
    from agent.control.point_access import PointAccess
    from agent.control.records import Key, Outcome
    from agent.core.clock import Clock
    from agent.core.model import Point, Sample, Value
    from agent.drivers.base import PointSlots
    from agent.drivers.link import Link
    from agent.trust.revocations import TakenBack

log = logging.getLogger(__name__)

FILE = "control.sqlite"
TRIED_WITHIN = 10.0
"""seconds to wait for a line to be opened"""
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

    def outcomes(self, recipient: str = "") -> dict[str, dict[str, Any]]:
        """What became of orders, as a recipient is told. By id, for the directory.

        It is told about common plant only: what is done in a dwelling concerns those who live there
        (rule H30). For its own orders, by the name of its key, it is also told that a control does
        not exist.
        """
        journal = self.controller.journal
        return {
            f"outcomes/{one.n}-{int(one.at)}": _outcome_document(one)
            for one in list(journal.recent)
            if self._common(one.control, device := self._device_of(one))
            or (not device and self._misnamed(one, recipient))
        }

    def _device_of(self, outcome: Outcome) -> str:
        return outcome.device or self.controller.journal.device_of(outcome.jti, outcome.control)

    def _misnamed(self, outcome: Outcome, recipient: str) -> bool:
        own = bool(recipient) and outcome.by == recipient
        return (
            own and outcome.code == OrderCode.ASSET and outcome.control not in self.config.controls
        )

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
                    "the agent was stopped", list(self.controller.controls)
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
        new = fits(config)
        old = self.controller.controls
        zone = config.zone != self.config.zone
        changed = [name for name, control in old.items() if zone or new.get(name) != control]
        try:
            async with asyncio.timeout(ENDED_WITHIN):
                await self.controller.release_controls("the configuration was changed", changed)
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


@asynccontextmanager
async def open_steering(  # noqa: PLR0913 -- each a part of its own
    config: Config,
    clock: Clock,
    link_of: Callable[[WriteTarget], Link | None],
    latest: Callable[[str, str], Sample | None],
    audit: Audit,
    *,
    home: Callable[[str, str], tuple[float, float] | None],
    ask: Callable[[str], Awaitable[None]],
    witness: str = "",
    taken: Sequence[TakenBack] = (),
    storage: Storage | None = None,
    bounds: Bounds | None = None,
) -> AsyncIterator[Steering]:
    """Open the journal, and set up the controls. Nothing is written to a device yet.

    `witness`: our own key, whose grants count only if this gateway may witness votes; `taken`:
    revocations, including those from before the journal; `storage`: notes which disks fail.
    """
    boot, made = boot_id(), fits(config)

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
        dependencies = ControlDependencies(
            now=now,
            zone=config.zone,
            look=lambda device, point: None,  # noqa: ARG005 -- replaced below
            access=lambda place, slot: access_to(link_of(place), place, slot),
            save=writer.save,
            note=writer.note,
            read=writer.call,
            audit=lambda kind, body: writer.behind(partial(audit, kind, body)),
            failing=lambda: writer.failing,
            home=home,
            ask=ask,
            quiet=lambda place, seconds: quiet(link_of(place), seconds),
        )
        controller = Controller(journal, dependencies, made, writer=writer)
        here = Steering(config, controller, Orders(controller, writer.call, writer.refuse), writer)
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


def _outcome_document(outcome: Outcome) -> dict[str, Any]:
    document = {
        "id": f"{outcome.n}-{int(outcome.at)}",
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
    return {key: value for key, value in document.items() if value or key == "jti"}


def access_to(link: Link | None, place: WriteTarget, slot: int | None) -> PointAccess:
    """Access to a point over the open line, or over one that is opened for each request."""
    return LinePoint(
        LineReference(link) if link else AdHocLink(place.driver, place.settings), place, slot
    )


async def quiet(link: Link | None, seconds: float) -> None:
    """Wait some seconds, while this gateway sends nothing on the line."""
    await (link.quiet(seconds) if link else asyncio.sleep(seconds))


class LineReference:
    """A configured line that may not be open yet."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def _tried(self) -> Link:
        try:
            async with asyncio.timeout(TRIED_WITHIN):
                await self._link.tried()
        except TimeoutError:
            raise LinkLost(f"{self._link.name} could not be opened yet") from None
        return self._link

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """See `Reads`."""
        return await (await self._tried()).read(points)

    async def write(self, point: Point, value: Value | None, slot: int | None) -> None:
        """See `Writes`."""
        await (await self._tried()).write(point, value, slot)

    async def held(self, point: Point) -> PointSlots:
        """See `Writes`."""
        return await (await self._tried()).held(point)
