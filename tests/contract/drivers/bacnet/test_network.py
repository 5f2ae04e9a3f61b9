"""Real broadcast, a BBMD and a router: in network namespaces, as root only (they touch no network
of the machine), and a router on loopback for everybody."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from bacpypes3.pdu import Address

from agent.drivers.base import Found, Wish
from hil.bacnet.controller import Faults, analog_input, free_udp_port
from hil.bacnet.router import routed
from tests.contract.drivers.bacnet.net import net, point, values

ROOT = str(Path(__file__).parents[4])


def test_devices_behind_a_router_are_read_one_at_a_time():
    async def attack():
        async with net() as on:
            things = [[analog_input(1, "t", 20 + n, "degrees-celsius")] for n in range(3)]
            router = f"127.0.3.1:{free_udp_port()}"
            slow = Faults(slow=0.05)
            devices = {701 + n: objects for n, objects in enumerate(things)}
            async with routed(router, 2001, devices, slow) as seen:
                line = await on.driver(timeout=1.5)
                asked = [
                    [point("analog-input,1", f"{701 + n}@2001:0x0{n + 1}@{router}")]
                    for n in range(3)
                ]
                got = await asyncio.gather(*(line.read(one) for one in asked))
                assert [values(one) for one in got] == [[Decimal(20 + n)] for n in range(3)]
                assert seen.most_at_once == 1
                # as I-Am-Router-To-Network would have said
                await line.wire._network.update_router_references(None, Address(router), [2001])
                line.directory.forget(702)
                bare = await line.read([point("analog-input,1", "702@2001:0x02")])
                assert values(bare) == [Decimal(21)]
                found = await on.driver(port=free_udp_port(), timeout=1.5)
                # in place of the broadcast that loopback has not
                found.directory.ask.append(Address(f"2001:*@{router}"))
                numbers = [
                    step.entry["address"]
                    async for step in found.discover(Wish())
                    if isinstance(step, Found)
                ]
                assert numbers == ["701", "702", "703"]
                by_number = await found.read([point("analog-input,1", 702)])
                assert values(by_number) == [Decimal(21)]

    asyncio.run(attack())


CONTROLLERS = """
import asyncio, sys
from contextlib import AsyncExitStack
from hil.bacnet.controller import analog_input, controller
async def main():
    async with AsyncExitStack() as stack:
        for n in (11, 12, 13):
            objects = [analog_input(1, "t", 20 + n, "degrees-celsius")]
            await stack.enter_async_context(controller(f"10.99.0.{n}/24:47808", 1200 + n, objects))
        print("ready", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""

CLIENT = """
import asyncio, json, sys
from agent.drivers.bacnet.bus import Bacnet
from agent.drivers.bacnet.settings import BacnetSettings
from agent.drivers.base import Found, Wish
from agent.core.model import Point
async def main(**settings):
    async with Bacnet.open(BacnetSettings(timeout=1.5, **settings)) as line:
        await asyncio.sleep(0.5)
        (read,) = await line.read([Point("d", "t", "1212", "analog-input,1", 60)])
        found = [s.entry["address"] async for s in line.discover(Wish()) if isinstance(s, Found)]
        health = line.health()
        print(json.dumps([str(read.value), found, health["bbmd"], health.get("worry", "")]))
asyncio.run(main(**json.loads(sys.argv[1])))
"""

BBMD = """
import asyncio
from bacpypes3.app import Application
from bacpypes3.basetypes import BDTEntry, IPMode
from bacpypes3.local.device import DeviceObject
from bacpypes3.local.networkport import NetworkPortObject
async def main():
    device = DeviceObject(objectIdentifier=("device", 99), objectName="bbmd", vendorIdentifier=999)
    at = "10.99.0.9/24:47808"
    port = NetworkPortObject(at, objectIdentifier=("network-port", 1), objectName="n")
    port.bacnetIPMode = IPMode.bbmd
    port.bbmdAcceptFDRegistrations = True
    port.bbmdForeignDeviceTable = []
    port.bbmdBroadcastDistributionTable = [BDTEntry("10.99.0.9:47808")]
    app = Application.from_object_list([device, port])
    await asyncio.sleep(0.3)
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""

LAYOUT = """
netns add {gw}; netns add {far}; netns add {d}
link add gv{n} netns {gw} type veth peer name dv{n} netns {d}
link add fv{n} netns {far} type veth peer name ev{n} netns {d}
-n {gw} addr add 10.99.0.1/24 brd + dev gv{n}
-n {far} addr add 10.98.0.1/24 brd + dev fv{n}
-n {d} addr add 10.98.0.2/24 brd + dev ev{n}
-n {d} addr add 10.99.0.9/24 brd + dev dv{n}; -n {d} addr add 10.99.0.11/24 brd + dev dv{n}
-n {d} addr add 10.99.0.12/24 brd + dev dv{n}; -n {d} addr add 10.99.0.13/24 brd + dev dv{n}
-n {gw} link set lo up; -n {far} link set lo up; -n {d} link set lo up
-n {gw} link set gv{n} up; -n {d} link set dv{n} up; -n {far} link set fv{n} up
-n {d} link set ev{n} up; -n {far} route add default via 10.98.0.2
"""


@pytest.fixture(scope="module")
def spaces():
    """Ours, one behind an IP router, and the controllers' (which is that router)."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    n = os.getpid() % 100_000
    names = {"gw": f"gw{n}", "far": f"far{n}", "d": f"d{n}"}
    try:
        for command in LAYOUT.format(n=n, **names).replace("\n", ";").split(";"):
            if command.strip():
                done = subprocess.run(["ip", *command.split()], capture_output=True, text=True)
                if done.returncode:
                    pytest.skip(f"network namespaces cannot be made here: {done.stderr.strip()}")
        yield names
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def inside(space, program, *words):
    return subprocess.Popen(
        ["ip", "netns", "exec", space, sys.executable, "-c", program, *words],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": ROOT},
    )  # fmt: skip


def asked_from(space, **settings):
    with inside(space, CLIENT, json.dumps(settings)) as client:
        return json.loads(client.communicate(timeout=30)[0])


def test_one_broadcast_finds_every_controller_on_the_network(spaces):
    with inside(spaces["d"], CONTROLLERS) as controllers:
        try:
            assert controllers.stdout.readline() == "ready\n"
            said = asked_from(spaces["gw"], address=f"gv{spaces['gw'][2:]}")
            assert said == ["32", ["1211", "1212", "1213"], "", ""]
        finally:
            controllers.kill()


def test_a_foreign_device_registers_with_a_bbmd_and_hears_the_other_network(spaces):
    with (
        inside(spaces["d"], CONTROLLERS) as controllers,
        inside(spaces["d"], BBMD) as bbmd,
    ):
        try:
            assert controllers.stdout.readline() == bbmd.stdout.readline() == "ready\n"
            said = asked_from(spaces["far"], address="10.98.0.1/24", bbmd="10.99.0.9")
            assert said[0] == "32"
            assert said[1][-3:] == ["1211", "1212", "1213"]
            assert said[2:] == ["registered", ""]
            alone = asked_from(spaces["far"], address="10.98.0.1/24", bbmd="10.99.0.77")
            assert alone[:2] == ["None", []]
            assert alone[3].startswith("the BBMD 10.99.0.77: no answer yet")
        finally:
            controllers.kill()
            bbmd.kill()
