"""A real device, a real journal, and a process that is killed between any two steps.

As a program it is told what to do line by line: `run FOLDER SETTINGS FATAL` has a child take an
order, hold, and give back, and dies (SIGKILL) at its FATALth step; `release FOLDER` gives back as
`gardien control release --all` does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path

from agent.cli.control import given_back
from agent.control.context import ControlDependencies
from agent.control.controller import Controller
from agent.control.guard import GuardReading
from agent.control.model import (
    AcceptedOrder,
    ConfiguredControl,
    ControlOrder,
    Modality,
    Moment,
    OrderState,
    WriteTarget,
)
from agent.control.point_access import access_to
from agent.control.records import Transaction
from agent.control.writer import Bounds, JournalWriter
from agent.core.clock import boot_id, monotonic, seconds
from agent.core.state import owned
from agent.core.storage import Storage
from agent.drivers import driver
from tests.contract.control.pretend import ZONE, agreed

LIMIT = "holding/1100/uint32 write@5004/uint16 alone"
TARGET, BEFORE = Decimal(16), Decimal(32)
LASTS = 600.0
QUICK = Bounds(stalled=0.2, ends=0.8, probed=0.3, tried=0.1, noted=0.1)


def register(port: int) -> WriteTarget:
    settings = f'{{"host": "127.0.0.1", "port": {port}}}'
    return WriteTarget(
        "cars", "modbus-tcp", settings, "wallbox", "limit", "255", LIMIT, "A", "0.001"
    )


class Plant:
    """One control on a device that answers its real protocol, held by a keeper over a journal."""

    def __init__(self, writer: JournalWriter, place: WriteTarget, slot: int | None, step) -> None:
        self.writer, self.place, self.step = writer, place, step
        self.later = 0.0
        """seconds by which the clocks are ahead"""
        modality: Modality = replace(agreed(), guards=(), inhibit=None, name="it")
        slots = (slot, slot)
        self.fit = ConfiguredControl(modality, place, slots, BEFORE if slot is None else None, "v1")
        dependencies = ControlDependencies(
            now=self.now, zone=ZONE, look=lambda *_: GuardReading(None, 0.0, 60), access=self.hand,
            save=writer.save, note=writer.note, call=writer.call, failing=lambda: writer.failing,
        )  # fmt: skip
        self.controller = Controller(writer.journal, dependencies, {"it": self.fit}, writer=writer)

    def now(self) -> Moment:
        return Moment(seconds() + self.later, monotonic() + self.later, boot_id(), trusted=True)

    def hand(self, place: WriteTarget, slot: int | None):
        return Hand(access_to(None, place, slot), self.step)

    def order(self, jti: str = "one", value: Decimal = TARGET) -> AcceptedOrder:
        start = self.now().wall
        order = ControlOrder(
            jti, "it", "metropole", "grid_operator", "offset", value, "K", start, LASTS
        )
        return AcceptedOrder(order, OrderState.SCHEDULED, start, back=0.0, accepted=start)

    def quick(self, bounds: Bounds = QUICK) -> None:
        """From now on a second is a minute: a busy machine has taken what came before."""
        self.writer._bounds = bounds

    async def take(self, event: AcceptedOrder) -> None:
        """An order that was decided on; the control has passed its test."""
        memo = replace(self.writer.journal.memo(self.fit.key), tested="v1", swept=True)
        await self.writer.save(Transaction(events=[event], memos=[(self.fit.key, memo)]))

    async def hold(self, event: AcceptedOrder | None = None) -> None:
        await self.take(event or self.order())
        await self.controller.tend("it")


class Hand:
    """A plug, each request a step."""

    def __init__(self, access, step) -> None:
        self._plug, self._step = access, step

    async def look(self, *, whole: bool = False):
        self._step("look")
        return await self._plug.look(whole=whole)

    async def write(self, value) -> None:
        self._step("write")
        await self._plug.write(value)
        self._step("written")


@asynccontextmanager
async def plant(  # noqa: PLR0913, PLR0917 -- each a part of its own
    folder: Path,
    place: WriteTarget,
    slot: int | None = None,
    step=lambda _: None,
    storage: Storage | None = None,
    bounds: Bounds | None = None,
):
    opening = JournalWriter.open(
        folder / "control.sqlite",
        lambda _: (place.device, place.point),
        storage or Storage(),
        lambda: Moment(seconds(), monotonic(), boot_id(), trusted=True),
        bounds,
    )
    async with opening as writer:
        _counted(writer, step)
        yield Plant(writer, place, slot, step)


def _counted(writer: JournalWriter, step) -> None:
    """Each write to the disk and to the copy is a step before and after."""

    def around(name, call):
        def made(*args, **more):
            step(f"before {name}")
            made = call(*args, **more)
            step(f"after {name}")
            return made

        return made

    for what, name in (
        (writer.journal, "write"),
        (writer.copy, "save"),
        (writer.copy, "close_record"),
    ):
        setattr(what, name, around(name, getattr(what, name)))


async def scenario(folder: Path, place: WriteTarget, slot: int | None, fatal: int) -> None:
    steps = [0]

    def step(_: str) -> None:
        steps[0] += 1
        if steps[0] == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    with owned(folder, "gardien run"):
        async with plant(folder, place, slot, step) as here:
            await here.hold()
            assert here.writer.journal.records
            here.later = LASTS + 1
            await here.controller.tend("it")
            assert not here.writer.journal.records


def in_child(call) -> int:
    pid = os.fork()
    if not pid:
        status = 1
        try:
            call()
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def released(folder: Path) -> None:
    print(json.dumps([asdict(one) for one in given_back(folder, limits=False)]), flush=True)


def main() -> None:
    import agent.control.recovery
    import agent.gateway.controls  # noqa: F401

    for name in ("modbus-tcp", "bacnet"):
        driver(name)  # no child has to import it
    for line in sys.stdin:
        word, folder, *rest = json.loads(line)
        if word == "run":
            place, slot, fatal = WriteTarget(**rest[0]), rest[1], rest[2]
            doing = lambda: asyncio.run(scenario(Path(folder), place, slot, fatal))  # noqa: E731, B023
            print(json.dumps(in_child(doing)), flush=True)
        else:
            in_child(lambda: released(Path(folder)))  # noqa: B023


if __name__ == "__main__":
    main()
