"""Load the configuration again while the agent runs. Only what has changed is opened again.

The pollers stop between two reads, their readings are committed, and they go on with the new
configuration. Lines and uplinks that did not change stay open.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.config import load
from agent.core.errors import Refused
from agent.core.log_fields import LogEvent, fields
from agent.core.tasks import error_text
from agent.gateway.gateway import midnights, new_poller, points_by_key, policy_of
from agent.gateway.lines import lines_of
from agent.gateway.recipient import NOT_COUNTED, forget_closed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config import Config
    from agent.core.model import MarkKey, SlotMark
    from agent.gateway.gateway import Gateway, Recipient
    from agent.gateway.lines import LinkDevices
    from agent.gateway.supervisor import Running

log = logging.getLogger(__name__)

AT_A_START = ("state", "clock", "spool", "trust")
"""sections that are read only when the agent starts"""
IN_PLACE = ("building", "privacy", "enrolment", "updates", "backup", "syndic")
"""sections that are read at each use: nothing must be opened or closed for them"""


async def reload(running: Running) -> dict[str, Any]:
    """Load the configuration again. Raises Refused; then nothing was changed.

    The answer names what was opened, closed and changed.
    """
    async with running.one_at_a_time:
        new = await asyncio.to_thread(load, running.path, whole=True)
        await _refuse(running.gateway, new)
        try:
            done = await _change(running, new)
        finally:
            running.go_on()  # after an error too: a line must never stay without its poller
    summary = ", ".join(f"{what} {name}" for what, names in done.items() for name in names)
    log.warning(
        "configuration reloaded: %s", summary or "no changes", extra=fields(LogEvent.RELOADED)
    )
    return {"changed": done}


async def _refuse(gateway: Gateway, new: Config) -> None:
    """Raise Refused for a change that needs a restart, or that would lose readings."""
    for section in AT_A_START:
        if getattr(gateway.config, section) != getattr(new, section):
            raise Refused(
                f"`{section}` has changed and is only read at a start, so nothing was reloaded:"
                " sudo systemctl restart gardien"
            )
    if new.uplinks and gateway.identity is None:
        raise Refused(
            "this gateway has no identity yet, so it can have no uplinks: gardien key new; then"
            " sudo systemctl restart gardien"
        )
    for name, recipient in gateway.unopened.items():
        if _recipient(new, name) != recipient.settings.recipient:
            raise Refused(
                f"uplinks.{name}: its spool is not open, so the values that wait in it cannot be"
                " counted. Put the uplink back. Why it is not open: gardien status"
            )
    for name, recipient in gateway.recipients.items():
        if _recipient(new, name) == recipient.settings.recipient:
            continue
        if recipient.kept:
            raise Refused(NOT_COUNTED.format(name))
        if waits := await recipient.waiting():
            raise Refused(
                f"uplinks.{name}: {waits} values still wait for {recipient.settings.recipient}. Put"
                f" the uplink back, and first: gardien uplink close {name} --drain (or --drop)"
            )


async def _change(running: Running, new: Config) -> dict[str, list[str]]:
    gateway, old = running.gateway, running.gateway.config
    lines = lines_of(new)
    # Release first, on the old lines: the new configuration may not have them any more.
    steered = await _steer(running, new)
    for name in gateway.lines:
        await running.stand_still(name)
    closed = [name for name in gateway.lines if old.links[name] != new.links.get(name)]
    for name in closed:
        await running.jobs.stop(f"line {name}")
    recipients = {**gateway.recipients, **gateway.unopened}
    removed = [
        name for name, one in recipients.items() if _recipient(new, name) != one.settings.recipient
    ]
    for name in removed:
        await running.close_outlet(name)
    gateway.config = new
    forget_closed(gateway)
    changed = [name for name in list(gateway.recipients) if await _renew(running, old, name)]
    added = [name for name in new.uplinks if name not in gateway.recipients]
    for name in added:
        await _open(running, name)
    opened = [name for name in lines if name not in gateway.lines or name in closed]
    moved = _go_on(running, lines, opened)
    return {
        "line closed": closed,
        "line opened": opened,
        "devices of line": moved,
        "uplink closed": removed,
        "uplink opened": added,
        "uplink": changed,
        "control": steered,
        "setting": _settings(old, new),
    }


def _settings(old: Config, new: Config) -> list[str]:
    """Return the changed options of the sections that are read at each use, such as
    `building.roles`. A section that was added or removed is named as a whole.
    """
    changed: list[str] = []
    for section in IN_PLACE:
        before, after = getattr(old, section), getattr(new, section)
        if before is None or after is None:
            changed += [section] if before is not after else []
            continue
        options = type(after).model_fields
        changed += [
            f"{section}.{option}"
            for option in options
            if getattr(before, option) != getattr(after, option)
        ]
    return changed


async def _steer(running: Running, new: Config) -> list[str]:
    """Release the controls whose definition changes, while the old lines are still open."""
    if running.gateway.steering is None:
        running.jobs.retry("controls")
        return []
    await running.stop_controls()
    try:
        return await running.gateway.steering.adopt(new)
    finally:
        running.start_controls()


async def _open(running: Running, name: str) -> None:
    """Open the spool of an uplink at once. One that waits to be opened gets the new points."""
    await running.jobs.stop(f"spool {name}")
    waiting = running.gateway.unopened.get(name)
    if waiting is not None:
        _adopt(running.gateway, waiting, dict(waiting.ledger.marks))
    await running.open_recipient(name)


async def _renew(running: Running, old: Config, name: str) -> bool:
    """Give an open recipient the new points and rules; return whether its uplink was reopened."""
    gateway, recipient = running.gateway, running.gateway.recipients[name]
    try:
        # On a full disk rows wait in memory with their marks, so those slots are closed too. The
        # marks of the disk alone would close them a second time.
        marks = await recipient.intake.closed(partial(recipient.thread.run, recipient.spool.marks))
        await recipient.thread.run(recipient.spool.days, midnights(gateway.config))
    except Exception as error:  # noqa: BLE001 -- only this spool fails; it is opened again
        gateway.jobs.faults.log(error, f"the spool of {name}: {error_text(error)}", f"spool {name}")
        await _open(running, name)
        return True
    _adopt(gateway, recipient, marks)
    if old.uplinks[name] == gateway.config.uplinks[name]:
        return False
    await running.deliver_anew(recipient)
    return True


def _adopt(gateway: Gateway, recipient: Recipient, marks: Mapping[MarkKey, SlotMark]) -> None:
    """Give a recipient the points, rules and transport of the new configuration."""
    new, uplink = gateway.config, gateway.config.uplinks[recipient.name]
    # Faults of devices that are no longer configured would stay for ever.
    gateway.jobs.faults.forget(f"rows {recipient.name}")
    points, withholds = points_by_key(new.points()), uplink.withheld
    recipient.ledger.renew(points, marks, policy_of(new), new.zone, withholds=withholds)
    recipient.settings, recipient.transport = uplink.settings, uplink.transport


def _go_on(running: Running, lines: dict[str, LinkDevices], opened: list[str]) -> list[str]:
    """Poll again. Unchanged lines keep their connection, unchanged devices their statistics."""
    gateway, moved = running.gateway, []
    before_lines, gateway.lines = gateway.lines, lines
    for name, line in lines.items():
        if name in opened:
            running.serve_line(line)
            running.start_polling(line)
            continue
        before = before_lines[name]
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
            line.poller = new_poller(gateway, line, before.poller)
        running.go_on_polling(line)
    return moved


def _recipient(config: Config, name: str) -> str | None:
    uplink = config.uplinks.get(name)
    return uplink.settings.recipient if uplink else None
