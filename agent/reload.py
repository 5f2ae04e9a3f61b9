"""The configuration taken anew: what changed is reopened, and nothing else.

Between two reads the pollers stand still, what they have read is committed, and they go on with the
new configuration; lines and uplinks that stand unchanged in it stay open.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.config import load
from agent.errors import Refused
from agent.gateway import midnights, new_poller, points_by_key, policy_of
from agent.lines import lines_of
from agent.log_fields import LogEvent, fields
from agent.recipient import NOT_COUNTED, forget_closed
from agent.tasks import said

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config import Config
    from agent.gateway import Gateway, Recipient
    from agent.lines import LinkDevices
    from agent.model import MarkKey, SlotMark
    from agent.supervisor import Running

log = logging.getLogger(__name__)

AT_A_START = ("state", "clock", "spool", "trust")
"""sections that an agent takes when it starts, and never again"""
IN_PLACE = ("building", "privacy", "enrolment", "updates", "backup", "syndic")
"""sections that are looked at anew at each use: nothing is opened or closed for them"""


async def reload(here: Running) -> dict[str, Any]:
    """Take the configuration anew. Raises Refused, and then nothing was changed.

    The answer names what was opened, closed and changed.
    """
    async with here.one_at_a_time:
        new = await asyncio.to_thread(load, here.path, whole=True)
        await _refuse(here.house, new)
        try:
            done = await _change(here, new)
        finally:
            here.go_on()
    words = ", ".join(f"{what} {name}" for what, names in done.items() for name in names)
    log.warning("reloaded: %s", words or "nothing had changed", extra=fields(LogEvent.RELOADED))
    return {"changed": done}


async def _refuse(house: Gateway, new: Config) -> None:
    """What cannot be changed while the agent runs, and what would lose readings."""
    for word in AT_A_START:
        if getattr(house.config, word) != getattr(new, word):
            raise Refused(f"`{word}` is taken at a start only: systemctl restart gardien")
    if new.uplinks and house.identity is None:
        raise Refused("this gateway has no identity yet: run `gardien key new` and restart")
    for name, outlet in house.unopened.items():
        if _recipient(new, name) != outlet.settings.recipient:
            raise Refused(
                f"uplinks.{name}: its spool is not open, and nobody knows what waits in"
                " it: put it back; `gardien status` says why it is not open"
            )
    for name, outlet in house.outlets.items():
        if _recipient(new, name) == outlet.settings.recipient:
            continue
        if outlet.kept:
            raise Refused(NOT_COUNTED.format(name))
        if waits := await outlet.waiting():
            raise Refused(
                f"uplinks.{name}: {waits} values still wait for {outlet.settings.recipient}:"
                f" put it back, and first run `gardien uplink close {name} --drain` (or --drop)"
            )


async def _change(here: Running, new: Config) -> dict[str, list[str]]:
    house, old = here.house, here.house.config
    lines = lines_of(new)
    steered = await _steer(here, new)
    for name in house.lines:
        await here.stand_still(name)
    gone = [name for name in house.lines if old.links[name] != new.links.get(name)]
    for name in gone:
        await here.jobs.stop(f"line {name}")
    known = {**house.outlets, **house.unopened}
    dead = [name for name, one in known.items() if _recipient(new, name) != one.settings.recipient]
    for name in dead:
        await here.close_outlet(name)
    house.config = new
    forget_closed(house)
    changed = [name for name in list(house.outlets) if await _renew(here, old, name)]
    fresh = [name for name in new.uplinks if name not in house.outlets]
    for name in fresh:
        await _open(here, name)
    opened = [name for name in lines if name not in house.lines or name in gone]
    moved = _go_on(here, lines, opened)
    return {
        "line closed": gone,
        "line opened": opened,
        "devices of line": moved,
        "uplink closed": dead,
        "uplink opened": fresh,
        "uplink": changed,
        "control": steered,
        "setting": _settings(old, new),
    }


def _settings(old: Config, new: Config) -> list[str]:
    """What differs in the sections that are taken in place: `building.roles`, or all of `syndic`
    where it was not there before, or is no more.
    """
    found: list[str] = []
    for section in IN_PLACE:
        before, after = getattr(old, section), getattr(new, section)
        if before is None or after is None:
            found += [section] if before is not after else []
            continue
        options = type(after).model_fields
        found += [
            f"{section}.{option}"
            for option in options
            if getattr(before, option) != getattr(after, option)
        ]
    return found


async def _steer(here: Running, new: Config) -> list[str]:
    """Give back what the new configuration defines otherwise, while the old lines are open."""
    if here.house.steering is None:
        here.jobs.retry("controls")
        return []
    await here.stop_controls()
    try:
        return await here.house.steering.adopt(new)
    finally:
        here.start_controls()


async def _open(here: Running, name: str) -> None:
    """Open an uplink's spool at once; one that waits to be opened again has the new points."""
    await here.jobs.stop(f"spool {name}")
    waiting = here.house.unopened.get(name)
    if waiting is not None:
        _adopt(here.house, waiting, dict(waiting.ledger.marks))
    await here.open_outlet(name)


async def _renew(here: Running, old: Config, name: str) -> bool:
    """Give an open outlet the new points and rules; deliver anew if its transport changed."""
    house, outlet = here.house, here.house.outlets[name]
    try:
        # on a full disk rows wait in memory with their marks: those slots are closed, too
        marks = await outlet.intake.closed(partial(outlet.thread.run, outlet.spool.marks))
        await outlet.thread.run(outlet.spool.days, midnights(house.config))
    except Exception as error:  # noqa: BLE001 -- its spool alone does not work
        house.jobs.faults.log(error, f"the spool of {name}: {said(error)}", f"spool {name}")
        await _open(here, name)
        return True
    _adopt(house, outlet, marks)
    if old.uplinks[name] == house.config.uplinks[name]:
        return False
    await here.deliver_anew(outlet)
    return True


def _adopt(house: Gateway, outlet: Recipient, marks: Mapping[MarkKey, SlotMark]) -> None:
    """Go on with the points, rules and transport of the new configuration."""
    new, uplink = house.config, house.config.uplinks[outlet.name]
    house.jobs.faults.forget(f"rows {outlet.name}")  # of devices that may be there no more
    points, withholds = points_by_key(new.points()), uplink.withheld
    outlet.ledger.renew(points, marks, policy_of(new), new.zone, withholds=withholds)
    outlet.settings, outlet.transport = uplink.settings, uplink.transport


def _go_on(here: Running, lines: dict[str, LinkDevices], opened: list[str]) -> list[str]:
    """Poll again: lines that stayed keep their connection, devices that stayed their health."""
    house, moved = here.house, []
    kept, house.lines = house.lines, lines
    for name, line in lines.items():
        if name in opened:
            here.serve_line(line)
            here.start_polling(line)
            continue
        before = kept[name]
        line.link = before.link
        same = {
            device: before.devices[device]
            for device in line.devices
            if device in before.devices
            and before.devices[device].points == line.devices[device].points
        }
        if len(same) != len(line.devices) or len(same) != len(before.devices):
            moved.append(name)
        line.devices.update(same)
        if before.poller is not None:
            line.poller = new_poller(house, line, before.poller)
        here.go_on_polling(line)
    return moved


def _recipient(config: Config, name: str) -> str | None:
    uplink = config.uplinks.get(name)
    return uplink.settings.recipient if uplink else None
