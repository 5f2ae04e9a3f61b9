"""The house at work: a job for each line, each recipient, and each thing that needs a look."""

from __future__ import annotations

import logging
from asyncio import Lock, sleep
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from agent.buffer.disclosed import words_of
from agent.buffer.leftover import destroy
from agent.buffer.shelf import Shelf
from agent.buffer.thread import in_own_thread
from agent.enrolment import renewal
from agent.errors import SpoolFull
from agent.house import (
    House,
    new_poller,
    open_steering,
)
from agent.lifetime import Jobs
from agent.outlet import open_outlet, resume
from agent.pipeline.registers import Registers
from agent.pipeline.unclaimed import Unclaimed
from agent.registry.gate import LONGEST_UNSENT
from agent.seek import seek
from agent.state import judged
from agent.upstream.deliver import deliver
from agent.upstream.seats import take_seats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.lines import Line

log = logging.getLogger(__name__)

TEND_EVERY = 1500.0
"""seconds between two rounds of upkeep: rows lie under the gateway's own key for two at most"""
OBEY_EVERY = 1.0
"""seconds between two looks at the registry, whoever has changed it"""
SHELVE_EVERY = 300.0
"""seconds that readings of unknown meters stay in memory before they are brought to the disk"""
WAITING_EVERY = 60.0
"""seconds between two looks at signed objects that wait"""
ONE_READ = 60.0
"""seconds that a reload waits for the read under way on a line"""


@asynccontextmanager
async def running(house: House, config_path: Path) -> AsyncIterator[Running]:
    """Open the spools and start every job; on leaving, what waits is committed."""
    async with AsyncExitStack() as stack:
        here = Running(house, config_path, stack)
        house.reopen, house.close = here.reopen, here.close
        take_seats(house)
        house.closing.only(one.settings.recipient for one in house.config.uplinks.values())
        for line in house.lines.values():
            here.jobs.start(f"line {line.link.name}", line.link.serve())
        house.steering = await stack.enter_async_context(open_steering(house))
        # before any uplink: what the agent before us left commanded is given back
        await house.steering.recover()
        if house.identity is not None:
            await here.open_shelves(house.identity.spool_key)
        for name in house.config.uplinks:
            await here.open_outlet(name)
        for line in house.lines.values():
            here.start_polling(line)
        here.jobs.start("controls", house.steering.keeper.run())
        here.jobs.start("upkeep", here.tend())
        here.jobs.start("obey", here.obey())
        here.jobs.start("sums", here.add_up())
        if house.unclaimed is not None:  # a job that ends by itself ends the agent
            here.jobs.start("unclaimed", here.give_back())
        here.jobs.start("waiting", here.take_what_waited())
        here.jobs.start("seek", seek(house))
        here.jobs.start("certificate", here.renew())
        yield here


class Running:
    """See the module; `running` makes it."""

    def __init__(self, house: House, config_path: Path, stack: AsyncExitStack) -> None:
        self.house, self.jobs = house, Jobs()
        self.path, self._stack = config_path, stack
        self._outlets: dict[str, AsyncExitStack] = {}
        self.one_at_a_time = Lock()

    async def open_outlet(self, name: str) -> None:
        """Open a recipient's spool, account for the time it was closed, begin to deliver."""
        own = self._outlets[name] = await self._stack.enter_async_context(AsyncExitStack())
        outlet = await own.enter_async_context(open_outlet(self.house, name))
        self.house.outlets[name] = outlet
        if self.house.clock.dates and outlet.settings.recipient not in self.house.closing:
            await resume(outlet, self.house.clock.now())
        self.jobs.start(f"intake {name}", outlet.intake.serve())
        self.jobs.start(f"uplink {name}", deliver(self.house, outlet))

    async def close_outlet(self, name: str) -> None:
        """Deliver to a recipient no more; what intake holds is committed."""
        for job in ("uplink", "intake"):
            await self.jobs.stop(f"{job} {name}")
        del self.house.outlets[name]
        await self._outlets.pop(name).aclose()

    def start_polling(self, line: Line) -> None:
        """Poll the devices of a line."""
        line.poller = new_poller(self.house, line)
        self.jobs.start(f"poll {line.link.name}", line.poller.run())

    async def tend(self) -> None:
        """The spools' upkeep; receipted batches go once they were kept as long as configured."""
        while True:
            for outlet in list(self.house.outlets.values()):
                before = self.house.clock.now() - self.house.config.spool.keep
                await outlet.thread.run(outlet.spool.forget, before)
                await outlet.outbox.tend(LONGEST_UNSENT)
            await sleep(TEND_EVERY)

    async def open_shelves(self, key: bytes) -> None:
        """Keep what meters say while nobody knows whose they are, and their midnights."""
        state, enter = self.house.config.state, self._stack.enter_async_context
        before = judged(state)
        opening = partial(Shelf.open, state / "shelf.db", key, judged=before)
        shelf, thread = await enter(in_own_thread("shelf", opening))
        self.house.unclaimed = Unclaimed(self.house.registry, shelf, thread)
        self._stack.push_async_callback(self.house.unclaimed.commit)
        opening = partial(Shelf.open, state / "registers.db", key, judged=before)
        shelf, thread = await enter(in_own_thread("registers", opening))
        self.house.registers = Registers(self.house.registry, shelf, thread)
        self._stack.push_async_callback(self.house.registers.commit)

    async def give_back(self) -> None:
        """Give readings of meters that nobody knew to whom they are, once that is known, and to the
        manager what a change of occupant told late makes his.
        """
        house, unclaimed, registers = self.house, self.house.unclaimed, self.house.registers
        rested = 0.0
        while unclaimed is not None and registers is not None:
            changed = unclaimed.asked != house.registry.revision
            if house.clock.dates and (changed or unclaimed.full or rested >= SHELVE_EVERY):
                try:
                    for shelved in (unclaimed, registers):
                        await shelved.tend(house.clock.now(), house.accounts(), house.point)
                except SpoolFull as error:
                    log.warning("what waits for a fact is looked at later: %s", error)
                    await sleep(SHELVE_EVERY)
                rested = 0.0
            await sleep(OBEY_EVERY)
            rested += OBEY_EVERY

    async def obey(self) -> None:
        """Apply what the registry takes back, also while no uplink is open."""
        while True:
            await self.house.obey()
            await sleep(OBEY_EVERY)

    async def add_up(self) -> None:
        """Make the sums over dwellings, slot by slot."""
        while True:
            await self.house.add_up()
            await sleep(OBEY_EVERY)

    async def renew(self) -> None:
        """Keep the certificate valid, where there is one."""
        house = self.house
        gateway = house.identity.gateway if house.identity else ""
        state, clock = house.config.state, house.clock
        await renewal.keep_valid(state, gateway, clock, lambda: house.config.enrolment)

    async def reopen(self) -> None:
        """Try uplinks that are not connected again at once: what kept them out may be gone."""
        async with self.one_at_a_time:
            for name, outlet in self.house.outlets.items():
                if outlet.delivery.connected_since is None:
                    await self.jobs.stop(f"uplink {name}")
                    self.jobs.start(f"uplink {name}", deliver(self.house, outlet))

    async def close(self, name: str, drop: bool) -> int:
        """Keep nothing more for an uplink; `drop`: destroy what waits. How many values were."""
        async with self.one_at_a_time:
            house, outlet = self.house, self.house.outlets[name]
            for link in house.lines:
                await self.stand_still(link)
            house.closing.begin(outlet.settings.recipient)
            dropped = 0
            if drop:
                backlog = await outlet.thread.run(outlet.spool.backlog)
                dropped = backlog.slots + backlog.batch_rows
                await self.close_outlet(name)
                recipient = outlet.settings.recipient
                words = words_of(house.identity, recipient)
                destroy(house.config.state, recipient, house.clock.now(), words)
                await self.open_outlet(name)
            for link, line in house.lines.items():
                line.poller = new_poller(house, line, line.poller)
                self.jobs.start(f"poll {link}", line.poller.run())
            return dropped

    async def take_what_waited(self) -> None:
        """Try signed objects again that came before what they hang on, or before the time."""
        while True:
            await self.house.registry_changed()
            await sleep(WAITING_EVERY)

    async def stand_still(self, name: str) -> None:
        """End a line's poller between two reads, and bring what it read to the disk."""
        poller = self.house.lines[name].poller
        if poller is not None:
            poller.finish()
        await self.jobs.stop(f"poll {name}", ONE_READ)
        for outlet in self.house.outlets.values():
            await outlet.intake.commit()
