"""The building as configured, put together: lines with their devices, outlets with their spools."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.buffer.batch import BatchHead
from agent.buffer.spool import Spool
from agent.buffer.thread import OneThread, in_own_thread
from agent.drivers import driver
from agent.errors import Refused
from agent.link import Link
from agent.pipeline.directory import directory
from agent.pipeline.gate import Gate
from agent.pipeline.intake import Intake
from agent.pipeline.ledger import Ledger
from agent.pipeline.poll import Account, Device, Poller
from agent.registry.gate import Common, Policy, policy
from agent.uplink.delivery import Delivery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from agent.buffer.announced import Item
    from agent.clock import Clock
    from agent.config import Config
    from agent.drivers.base import Reads
    from agent.model import MarkKey, Point, Reading
    from agent.registry.identity import Identity
    from agent.registry.registry import Registry

log = logging.getLogger(__name__)


@dataclass
class Line:
    """One link with the devices on it."""

    link: Link
    devices: dict[str, Device]
    poller: Poller | None = None
    """None: nothing is polled, a person only asks"""


@dataclass
class Outlet:
    """One recipient: the account of its slots, its spool, and how delivery goes."""

    name: str
    settings: Any
    """of the transport, as configured"""
    transport: str
    spool: Spool
    thread: OneThread
    ledger: Ledger
    intake: Intake
    delivery: Delivery
    told: Mapping[str, Item]
    """what its recipient had been told of the building when this outlet was opened"""


@dataclass
class House:
    """Everything that calls may use: what is configured, and what of it is open."""

    config: Config
    identity: Identity | None
    """None: `gardien key new` has not been run"""
    registry: Registry
    clock: Clock
    lines: dict[str, Line]
    outlets: dict[str, Outlet]
    started: float
    """wall time"""
    reload: Callable[[], Awaitable[dict[str, Any]]] | None = None
    """takes the configuration anew; None: no daemon runs"""

    def device(self, name: str) -> tuple[Line, Device]:
        """A configured device with its line. Raises Refused where there is none of that name."""
        for line in self.lines.values():
            if name in line.devices:
                return line, line.devices[name]
        known = ", ".join(sorted(self.config.devices)[:10]) or "none"
        raise Refused(f'no device "{name}" is configured; there are: {known}')

    def pin_all(self) -> None:
        """Bind assignments that name only a device to the serial number it has said already."""
        for line in self.lines.values():
            for device in line.devices.values():
                if device.serial:
                    self.identified(device.name, device.serial)

    def identified(self, device: str, serial: str) -> None:
        """Bind assignments that name only this device to the serial number that it says."""
        try:
            pinned = self.registry.pin(
                device, serial, "gardien", f"{device} said so", self.clock.now()
            )
        except Refused as error:
            log.error("%s says that it is %s: %s", device, serial, error)  # noqa: TRY400 -- no bug
            return
        if pinned:
            log.info("%s is meter %s from now on", device, serial)


def lines_of(config: Config) -> dict[str, Line]:
    """Every configured line, nothing opened yet."""
    points = config.points()
    lines = {name: Line(Link(name, *_opening(link)), {}) for name, link in config.links.items()}
    for name, device in config.devices.items():
        lines[device.link].devices[name] = Device(name, points[name], config.serial_point(name))
    return lines


def _opening(link: Any) -> tuple[Callable[[], AbstractAsyncContextManager[Reads]], int]:
    """How a line is opened, and how many of its devices may be asked at once."""
    found = driver(link.driver)
    return partial(found.open, link.settings), getattr(found, "at_once", 1)


@asynccontextmanager
async def open_outlet(house: House, name: str) -> AsyncIterator[Outlet]:
    """Open one recipient's spool; what intake still holds is committed on leaving."""
    config, who = house.config, house.identity
    if who is None:
        raise Refused("this gateway has no identity yet: run `gardien key new`")
    settings = config.uplinks[name].settings
    head = BatchHead(who.gateway, settings.recipient, config.privacy.policy)
    path = config.state / f"spool-{settings.recipient}.db"
    opening = partial(Spool.open, path, who.spool_key, head, config.spool.max)
    async with in_own_thread(f"spool {name}", opening) as (spool, thread):
        if spool.set_aside:
            log.error("the spool of %s was damaged and set aside as %s", name, spool.set_aside)
        gate = Gate(house.registry, policy_of(config), settings.recipient)
        marks = await thread.run(spool.marks)
        ledger = Ledger(gate, points_by_key(config.points()), marks, config.zone)
        append = partial(thread.run, spool.append)
        intake = Intake(append, config.spool.flush)
        word = config.uplinks[name].transport
        told = await thread.run(spool.announced)
        outlet = Outlet(name, settings, word, spool, thread, ledger, intake, Delivery(), told)
        try:
            yield outlet
        finally:
            await intake.commit()


async def resume(outlet: Outlet, now: float) -> None:
    """Close the slots that went by while the agent was down, in one commit with the new marks."""
    rows: list[Reading] = outlet.ledger.resume(now)
    await outlet.thread.run(outlet.spool.append, rows, dict(outlet.ledger.marks))


def directory_of(house: House, outlet: Outlet) -> Mapping[str, Item]:
    """What its recipient needs to read the rows, as it stands now."""
    return directory(
        house.registry,
        outlet.ledger.gate.policy,
        outlet.settings.recipient,
        outlet.ledger.owed,
        outlet.told,
        house.config.building.timezone,
    )


def new_poller(house: House, line: Line, before: Poller | None = None) -> Poller:
    """A line's poller; devices are known by the serial numbers they last said.

    `before`: the one whose work it goes on with.
    """
    accounts = [Account(outlet.ledger, outlet.intake) for outlet in house.outlets.values()]
    for account in accounts:
        for (name, _), mark in account.ledger.marks.items():
            if name in line.devices and mark.serial and line.devices[name].serial is None:
                line.devices[name].serial = mark.serial
    poller = Poller(
        line.link,
        list(line.devices.values()),
        accounts,
        house.clock,
        house.identified,
        house.config.zone,
    )
    if before is not None:
        poller.go_on_from(before)
    return poller


def policy_of(config: Config) -> Policy:
    """The privacy policy with the building's own basis for common areas."""
    common = config.privacy.common
    if common is None:
        return policy(config.privacy.policy)
    return policy(config.privacy.policy, Common(common.basis, config.midnight(common.from_)))


def points_by_key(points: Mapping[str, Sequence[Point]]) -> dict[MarkKey, list[Point]]:
    """The configured points, by device and step."""
    found: dict[MarkKey, list[Point]] = {}
    for device, group in points.items():
        for point in group:
            found.setdefault((device, point.every), []).append(point)
    return found
