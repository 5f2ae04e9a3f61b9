"""The configuration taken anew: what changed is reopened, and nothing else.

Between two reads the pollers stand still, what they have read is committed, and they go on with the
new configuration; lines and uplinks that stand unchanged in it stay open.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.config import load
from agent.errors import Refused
from agent.house import midnights, new_poller, points_by_key, policy_of
from agent.lines import lines_of
from agent.outlet import forget_closed
from agent.upstream.deliver import deliver

if TYPE_CHECKING:
    from agent.config import Config
    from agent.house import House
    from agent.lines import Line
    from agent.running import Running

log = logging.getLogger(__name__)

AT_A_START = ("state", "clock", "spool", "trust")
"""sections that an agent takes when it starts, and never again"""


async def reload(here: Running) -> dict[str, Any]:
    """Take the configuration anew. Raises Refused, and then nothing was changed.

    The answer names what was opened, closed and changed.
    """
    async with here.one_at_a_time:
        new = load(here.path)
        await _refuse(here.house, new)
        done = await _change(here, new)
    words = ", ".join(f"{what} {name}" for what, names in done.items() for name in names)
    log.warning("reloaded: %s", words or "nothing had changed")
    return {"changed": done}


async def _refuse(house: House, new: Config) -> None:
    """What cannot be changed while the agent runs, and what would lose readings."""
    for word in AT_A_START:
        if getattr(house.config, word) != getattr(new, word):
            raise Refused(f"`{word}` is taken at a start only: systemctl restart gardien")
    if new.uplinks and house.identity is None:
        raise Refused("this gateway has no identity yet: run `gardien key new` and restart")
    for name, outlet in house.outlets.items():
        if _recipient(new, name) == outlet.settings.recipient:
            continue
        backlog = await outlet.thread.run(outlet.spool.backlog)
        if waits := backlog.slots + backlog.batch_rows:
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
    dead = [n for n, one in house.outlets.items() if _recipient(new, n) != one.settings.recipient]
    for name in dead:
        await here.close_outlet(name)
    house.config = new
    forget_closed(house)
    changed = [name for name in house.outlets if await _renew(here, old, name)]
    fresh = [name for name in new.uplinks if name not in house.outlets]
    for name in fresh:
        await here.open_outlet(name)
    opened = [name for name in lines if name not in house.lines or name in gone]
    moved = _go_on(here, lines, opened)
    if house.steering is not None:
        here.jobs.start("controls", house.steering.keeper.run())
    return {
        "line closed": gone,
        "line opened": opened,
        "devices of line": moved,
        "uplink closed": dead,
        "uplink opened": fresh,
        "uplink": changed,
        "control": steered,
    }


async def _steer(here: Running, new: Config) -> list[str]:
    """Give back what the new configuration defines otherwise, while the old lines are open."""
    if here.house.steering is None:
        return []
    await here.jobs.stop("controls")
    return await here.house.steering.adopt(new)


async def _renew(here: Running, old: Config, name: str) -> bool:
    """Give an open outlet the new points and rules; deliver anew if its transport changed."""
    house, outlet = here.house, here.house.outlets[name]
    ledger, new = outlet.ledger, house.config
    # on a full disk rows wait in memory with their marks: those slots are closed, too
    marks = await outlet.intake.closed(partial(outlet.thread.run, outlet.spool.marks))
    await outlet.thread.run(outlet.spool.days, midnights(new))
    points, withholds = points_by_key(new.points()), new.uplinks[name].withheld
    ledger.renew(points, marks, policy_of(new), new.zone, withholds=withholds)
    if old.uplinks[name] == new.uplinks[name]:
        return False
    await here.jobs.stop(f"uplink {name}")
    outlet.settings, outlet.transport = new.uplinks[name].settings, new.uplinks[name].transport
    here.jobs.start(f"uplink {name}", deliver(house, outlet))
    return True


def _go_on(here: Running, lines: dict[str, Line], opened: list[str]) -> list[str]:
    """Poll again: lines that stayed keep their connection, devices that stayed their health."""
    house, moved = here.house, []
    kept, house.lines = house.lines, lines
    for name, line in lines.items():
        if name in opened:
            here.jobs.start(f"line {name}", line.link.serve())
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
        line.poller = new_poller(house, line, before.poller)
        here.jobs.start(f"poll {name}", line.poller.run())
    return moved


def _recipient(config: Config, name: str) -> str | None:
    uplink = config.uplinks.get(name)
    return uplink.settings.recipient if uplink else None
