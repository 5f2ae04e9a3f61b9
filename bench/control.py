"""Time from a signed order to the value at the device, and what the agent adds to the bus.

    python -m bench.control

A simulated BACnet controller on loopback has 50 setpoints. The grant is signed and stored. Each
order is signed, parsed, verified, decided, committed to the journal, written and read back.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.control.context import ControlDependencies
from agent.control.controller import Controller
from agent.control.model import ConfiguredControl, Limits, LossRule, Modality, Moment, WriteTarget
from agent.control.orders import Orders
from agent.control.point_access import access_to
from agent.control.records import Phase, Transaction
from agent.control.writer import JournalWriter
from agent.core.clock import ClockTrust
from agent.core.model import Point
from agent.core.storage import Storage
from agent.drivers.bacnet.bus import Bacnet
from agent.drivers.bacnet.settings import BacnetSettings
from agent.drivers.link import Link
from agent.trust.sign import Signer, new_jti
from agent.trust.verify import Audience, Member, VerificationContext, verify
from hil.bacnet.controller import analog_command, controller, free_udp_port

ASSETS = 50
ORDERS = 30
COUNT = itertools.count(1)
US = Audience("G84G7ZWYRD6Z1GQ", "5f1c9e0a", "B6ASQZ1Y2KSAA3Y")
CENTRE, MANAGER = Signer.new("metropole"), Signer.new("syndic")
MEMBERS = {
    CENTRE.kid: Member(CENTRE.key, CENTRE.name, "grid_operator"),
    MANAGER.kid: Member(MANAGER.key, MANAGER.name, "building_manager"),
}


def moment() -> Moment:
    return Moment(time.time(), time.monotonic(), "bench", trusted=True)


def modality(name: str) -> Modality:
    limits = Limits(least=Decimal(-2), most=Decimal(1), duration=7200.0)
    return Modality(
        name, "offset", LossRule.SHIFT, "K", limits, "heating", require=("building_manager",)
    )


def order(*targets: str, value: float = -1.5, seconds: int = 600) -> bytes:
    now = int(time.time())
    claims = {
        "iss": CENTRE.name, "jti": new_jti(now), "iat": now, "exp": now + 600, "aud": US.exact,
        "seq": next(COUNT),
        "cmd": {"act": "offset", "tgt": list(targets), "val": Decimal(str(value)), "unit": "K",
                "dur": f"PT{seconds}S"},
    }  # fmt: skip
    return CENTRE.sign("dr-command+jwt", claims)


def grant() -> bytes:
    now = int(time.time())
    claims = {
        "iss": MANAGER.name, "jti": new_jti(now), "iat": now, "nbf": now - 60, "exp": now + 86_400,
        "aud": US.building, "sub": CENTRE.name, "role": "building_manager",
        "scope": {"assets": ["kind:heating"], "acts": ["offset"]}, "lim": {},
        "evid": {"kind": "contract", "ref": "bench", "date": "2026-01-01", "sha256": "0" * 64},
    }  # fmt: skip
    return MANAGER.sign("dr-grant+jwt", claims)


def known() -> VerificationContext:
    return VerificationContext(MEMBERS, US, time.time(), ClockTrust.TRUSTED)


async def bench(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        objects = [
            analog_command(n, f"offset {n}", 0, "delta-degrees-kelvin") for n in range(ASSETS)
        ]
        station = f"127.0.3.1/32:{free_udp_port()}"
        there = await stack.enter_async_context(controller(station, 1201, objects))
        settings = BacnetSettings(
            address="127.0.0.1/8", port=free_udp_port(), ask=(there.station,), timeout=2.0
        )
        link = Link("bms", partial(Bacnet.open, settings), Bacnet.at_once)
        serving = asyncio.create_task(link.serve())
        stack.callback(serving.cancel)
        await link.tried()
        fits = {}
        for n in range(ASSETS):
            place = WriteTarget(
                "bms", "bacnet", "{}", "boiler", f"offset-{n}", "1201", f"analog-value,{n}"
            )
            fits[f"offset-{n}"] = ConfiguredControl(
                modality(f"offset-{n}"), place, (13, 10), None, "v1"
            )
        opening = JournalWriter.open(
            folder / "control.sqlite", lambda n: fits[n].key, Storage(), moment
        )
        writer = await stack.enter_async_context(opening)
        journal = writer.journal
        dependencies = ControlDependencies(
            now=moment, zone=ZoneInfo("Europe/Paris"), look=lambda _device, _point: None,
            access=lambda place, slot: access_to(link, place, slot),
            save=writer.save, note=writer.note, call=writer.call,
        )  # fmt: skip
        control_loop = Controller(journal, dependencies, fits)
        for fit in fits.values():
            memo = replace(journal.memo(fit.key), tested="v1", swept=True)
            await writer.save(Transaction(memos=[(fit.key, memo)]))
        orders = Orders(control_loop)
        await orders.take(verify(grant(), known()))
        for run in control_loop.rounds().values():
            stack.callback(asyncio.create_task(run()).cancel)
        await asyncio.sleep(0.2)
        await one_after_the_other(link, control_loop, orders)
        await all_at_once(there, control_loop, orders)


async def one_after_the_other(link: Link, controller: Controller, orders: Orders) -> None:
    taken, bus = [], []
    point = Point("boiler", "offset-0", "1201", "analog-value,0", 0, writable=True)
    for n in range(ORDERS):
        began = time.perf_counter()
        await link.held(point)
        await link.read([point])
        await link.held(point)
        await link.write(point, Decimal(0), 10)
        await link.held(point)
        bus.append(time.perf_counter() - began)
        await link.write(point, None, 10)
        name = f"offset-{n}"
        raw = order(name)
        began = time.perf_counter()
        await orders.take(verify(raw, known()))
        while not any(row.control == name and row.phase is Phase.APPLIED for row in
                      controller.journal.records.values()):  # fmt: skip
            await asyncio.sleep(0)
        taken.append(time.perf_counter() - began)
    print(f"{ORDERS} orders, one after the other, each from its bytes to its value read back")
    print(f"  median {statistics.median(taken) * 1000:6.1f} ms, worst {max(taken) * 1000:.1f} ms")
    print(f"  the same five requests alone {statistics.median(bus) * 1000:6.1f} ms")


async def all_at_once(there: object, controller: Controller, orders: Orders) -> None:
    names = [f"offset-{n}" for n in range(ORDERS, ASSETS)] + [f"offset-{n}" for n in range(ORDERS)]
    began = time.perf_counter()
    await orders.take(verify(order(*names, value=-1.0), known()))
    while sum(row.phase is Phase.APPLIED and row.target == Decimal(-1) for row in
              controller.journal.records.values()) < ASSETS:  # fmt: skip
        await asyncio.sleep(0.001)
    held = time.perf_counter() - began
    standing = [there.there("analog-value", n).priorityArray[12].real for n in range(ASSETS)]
    assert all(abs(value + 1) < 0.01 for value in standing), standing
    cpu = time.process_time()
    await asyncio.sleep(20)
    cpu = time.process_time() - cpu
    began = time.perf_counter()
    await controller.release_controls("the bench ends", names)
    gone = time.perf_counter() - began
    assert not controller.journal.records
    print(f"{ASSETS} held at once by one order: {held * 1000:.0f} ms until the last was read back,")
    print(f"  {cpu / 20 * 100:.2f} % of a core to hold them (with the simulated controller in it),")
    print(f"  {gone * 1000:.0f} ms until the last was released and confirmed")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(bench(Path(name)))
