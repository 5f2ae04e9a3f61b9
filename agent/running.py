"""The house at work: a job for each line and each recipient, and the configuration taken anew.

A reload reopens what changed and nothing else: between two reads the pollers stand still, what they
have read is committed, and they go on with the new configuration; lines and uplinks that stand
unchanged in it stay open.
"""

from __future__ import annotations

import logging
import random
from asyncio import Lock, sleep
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from agent.config import load
from agent.errors import Refused, UplinkLost
from agent.house import (
    House,
    directory_of,
    lines_of,
    new_poller,
    open_outlet,
    points_by_key,
    policy_of,
    resume,
)
from agent.lifetime import Jobs, keep_open
from agent.uplink import pacing, transport
from agent.uplink.forward import forward
from agent.uplink.outbox import SpoolOutbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path
    from typing import Any

    from agent.config import Config
    from agent.house import Line, Outlet
    from agent.uplink.base import Uplink

log = logging.getLogger(__name__)

FORGET_EVERY = 3600.0
"""seconds between two looks for receipted batches that were kept long enough"""
LONGEST_WAIT = 300.0
"""seconds between two attempts at an uplink: a fleet must not come back all at once"""
ONE_READ = 60.0
"""seconds that a reload waits for the read under way on a line"""


@asynccontextmanager
async def running(house: House, config_path: Path) -> AsyncIterator[Running]:
    """Open the spools and start every job; on leaving, what waits is committed."""
    async with AsyncExitStack() as stack:
        here = Running(house, config_path, stack)
        house.reload = here.reload
        for name in house.config.uplinks:
            await here.open_outlet(name)
        for line in house.lines.values():
            here.start_line(line)
        here.jobs.start("forget", here.forget())
        yield here


class Running:
    """See the module; `running` makes it."""

    def __init__(self, house: House, config_path: Path, stack: AsyncExitStack) -> None:
        self.house, self.jobs = house, Jobs()
        self._path, self._stack = config_path, stack
        self._outlets: dict[str, AsyncExitStack] = {}
        self._one_at_a_time = Lock()

    async def open_outlet(self, name: str) -> None:
        """Open a recipient's spool, account for the time it was closed, begin to deliver."""
        own = self._outlets[name] = await self._stack.enter_async_context(AsyncExitStack())
        outlet = await own.enter_async_context(open_outlet(self.house, name))
        self.house.outlets[name] = outlet
        if self.house.clock.dates:
            await resume(outlet, self.house.clock.now())
        self.jobs.start(f"intake {name}", outlet.intake.serve())
        self.jobs.start(f"uplink {name}", self._deliver(outlet))

    async def _close_outlet(self, name: str) -> None:
        for job in ("uplink", "intake"):
            await self.jobs.stop(f"{job} {name}")
        del self.house.outlets[name]
        await self._outlets.pop(name).aclose()

    def start_line(self, line: Line) -> None:
        """Keep a line open and poll its devices."""
        line.poller = new_poller(self.house, line)
        self.jobs.start(f"line {line.link.name}", line.link.serve())
        self.jobs.start(f"poll {line.link.name}", line.poller.run())

    async def forget(self) -> None:
        """Delete receipted batches once they have been kept as long as configured."""
        while True:
            for outlet in list(self.house.outlets.values()):
                before = self.house.clock.now() - self.house.config.spool.keep
                await outlet.thread.run(outlet.spool.forget, before)
            await sleep(FORGET_EVERY)

    async def reload(self) -> dict[str, Any]:
        """Take the configuration anew. Raises Refused, and then nothing was changed.

        The answer names what was opened, closed and changed.
        """
        async with self._one_at_a_time:
            new = load(self._path)
            await self._refuse(new)
            done = await self._change(new)
        words = ", ".join(f"{what} {name}" for what, names in done.items() for name in names)
        log.warning("reloaded: %s", words or "nothing had changed")
        return {"changed": done}

    async def _refuse(self, new: Config) -> None:
        """What cannot be changed while the agent runs, and what would lose readings."""
        old = self.house.config
        for word, before, after in (
            ("state", old.state, new.state),
            ("clock", old.clock, new.clock),
            ("spool", old.spool, new.spool),
        ):
            if before != after:
                raise Refused(f"`{word}` is taken at a start only: systemctl restart gardien")
        if new.uplinks and self.house.identity is None:
            raise Refused("this gateway has no identity yet: run `gardien key new` and restart")
        for name, outlet in self.house.outlets.items():
            if _recipient(new, name) == outlet.settings.recipient:
                continue
            backlog = await outlet.thread.run(outlet.spool.backlog)
            if waits := backlog.slots + backlog.batch_rows:
                raise Refused(
                    f"uplinks.{name}: {waits} values still wait for {outlet.settings.recipient}:"
                    " leave it until `gardien status` says 0"
                )

    async def _change(self, new: Config) -> dict[str, list[str]]:
        house, old = self.house, self.house.config
        lines = lines_of(new)
        for name in house.lines:
            await self._stand_still(name)
        gone = [name for name in house.lines if old.links[name] != new.links.get(name)]
        for name in gone:
            await self.jobs.stop(f"line {name}")
        dead = [
            n for n, one in house.outlets.items() if _recipient(new, n) != one.settings.recipient
        ]
        for name in dead:
            await self._close_outlet(name)
        house.config = new
        changed = [name for name in house.outlets if await self._renew(old, name)]
        fresh = [name for name in new.uplinks if name not in house.outlets]
        for name in fresh:
            await self.open_outlet(name)
        opened = [name for name in lines if name not in house.lines or name in gone]
        moved = self._go_on(lines, opened)
        return {
            "line closed": gone,
            "line opened": opened,
            "devices of line": moved,
            "uplink closed": dead,
            "uplink opened": fresh,
            "uplink": changed,
        }

    async def _stand_still(self, name: str) -> None:
        """End a line's poller between two reads, and bring what it read to the disk."""
        poller = self.house.lines[name].poller
        if poller is not None:
            poller.finish()
        await self.jobs.stop(f"poll {name}", ONE_READ)
        for outlet in self.house.outlets.values():
            await outlet.intake.commit()

    async def _renew(self, old: Config, name: str) -> bool:
        """Give an open outlet the new points and rules; deliver anew if its transport changed."""
        house, outlet = self.house, self.house.outlets[name]
        ledger, new = outlet.ledger, house.config
        marks = await outlet.thread.run(outlet.spool.marks)
        ledger.renew(points_by_key(new.points()), marks, policy_of(new), new.zone)
        if old.uplinks[name] == new.uplinks[name]:
            return False
        await self.jobs.stop(f"uplink {name}")
        outlet.settings, outlet.transport = new.uplinks[name].settings, new.uplinks[name].transport
        self.jobs.start(f"uplink {name}", self._deliver(outlet))
        return True

    def _go_on(self, lines: dict[str, Line], opened: list[str]) -> list[str]:
        """Poll again: lines that stayed keep their connection, devices that stayed their health."""
        house, moved = self.house, []
        kept, house.lines = house.lines, lines
        for name, line in lines.items():
            if name in opened:
                self.start_line(line)
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
            self.jobs.start(f"poll {name}", line.poller.run())
        return moved

    async def _deliver(self, outlet: Outlet) -> None:
        house = self.house
        gateway = house.identity.gateway if house.identity else ""
        opening = partial(transport(outlet.transport).open, outlet.settings, gateway)
        about = partial(directory_of, house, outlet)
        outbox = SpoolOutbox(outlet.spool, outlet.thread, house.clock, about)

        seal, delivery = outlet.settings.seal, outlet.delivery
        rhythm = pacing.Rhythm(seal=seal, phase=pacing.phase(gateway, seal))

        def serve(uplink: Uplink) -> Awaitable[None]:
            return forward(outbox, uplink, rhythm, delivery, house.clock, random.Random())

        name = f"uplink {outlet.name}"
        await keep_open(name, opening, serve, UplinkLost, LONGEST_WAIT, delivery.good)


def _recipient(config: Config, name: str) -> str | None:
    uplink = config.uplinks.get(name)
    return uplink.settings.recipient if uplink else None
