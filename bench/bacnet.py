"""What reading BACnet costs us, beside BAC0 and bare bacpypes3: `python -m bench.bacnet`.

The controllers run in a process of their own; each client is a process of its own, since BAC0
changes the whole process that it is imported into. Every way reads the same present values from
the same controller, one request after the other; CPU is the client's alone; medians over
repetitions in turn. The controllers answer from memory, so that the clients are measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace

from hil.bacnet.controller import analog_input, controller, free_udp_port

READ_MULTIPLE = 14
WAYS = ("gardien", "gardien with flags", "bacpypes3", "BAC0")


def remembers(one) -> None:
    """Let a controller answer a read it has answered before from memory: it is not measured."""
    (layer,) = one.link_layers.values()
    server, known, asked = layer.server, {}, {}
    pass_on, send = server.confirmation, server.local_transport.sendto

    async def arrives(pdu):
        data = bytes(pdu.pduData)
        if len(data) > 10 and data[6] >> 4 == 0 and data[9] == READ_MULTIPLE:
            number, what = data[8], data[10:]
            if what in known:
                answer = known[what]
                send(answer[:7] + bytes([number]) + answer[8:], pdu.pduSource.addrTuple)
                return
            asked[number] = what
        await pass_on(pdu)

    def sends(data, to):
        if data[6] >> 4 == 3 and data[7] in asked and data[8] == READ_MULTIPLE:
            known[asked.pop(data[7])] = bytes(data)
        send(data, to)

    server.confirmation, server.local_transport = (
        arrives,
        SimpleNamespace(sendto=sends, close=server.local_transport.close),
    )


async def serve(port: int, devices: int, values: int) -> None:
    async with AsyncExitStack() as stack:
        for n in range(devices):
            objects = [
                analog_input(i, f"t{i}", 20 + i / 10, "degrees-celsius")
                for i in range(1, values + 1)
            ]
            at = f"127.0.1.{n + 1}/32:{port}"
            remembers(await stack.enter_async_context(controller(at, 1001 + n, objects)))
        print("ready", flush=True)
        await asyncio.Event().wait()


async def timed(read, requests: int, values: int) -> dict[str, float]:
    for _ in range(3):
        await read()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(requests):
        await read()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu": cpu / requests / values, "rate": requests * values / wall}


async def gardien(there: str, values: int, requests: int, *, flags: bool) -> dict[str, float]:
    from agent.core.model import Point
    from agent.drivers.bacnet import bus
    from agent.drivers.bacnet.bus import Bacnet
    from agent.drivers.bacnet.settings import BacnetSettings

    if not flags:
        bus._with_flags = list  # noqa: SLF001 -- what the others read
    points = [Point("d", f"p{n}", "1001", f"analog-input,{n}", 60) for n in range(1, values + 1)]
    settings = BacnetSettings(address="127.0.0.1/8", port=free_udp_port(), ask=(there,), cov=0)
    async with Bacnet.open(settings) as line:

        async def read():
            assert (await line.read(points))[-1].value is not None

        return await timed(read, requests, values)


async def bare(there: str, values: int, requests: int) -> dict[str, float]:
    from bacpypes3.app import Application
    from bacpypes3.basetypes import PropertyIdentifier
    from bacpypes3.local.device import DeviceObject
    from bacpypes3.local.networkport import NetworkPortObject
    from bacpypes3.pdu import Address
    from bacpypes3.primitivedata import ObjectIdentifier

    device = DeviceObject(
        objectIdentifier=("device", 3999), objectName="bench", vendorIdentifier=999,
        maxApduLengthAccepted=1476, segmentationSupported="segmented-both",
    )  # fmt: skip
    port = NetworkPortObject(
        f"127.0.0.1/8:{free_udp_port()}", objectIdentifier=("network-port", 1), objectName="np"
    )
    app = Application.from_object_list([device, port])
    asked = []
    for n in range(1, values + 1):
        asked += [ObjectIdentifier(("analog-input", n)), [PropertyIdentifier("present-value")]]
    to = Address(there)

    async def read():
        assert (await app.read_property_multiple(to, asked))[-1][3] is not None

    result = await timed(read, requests, values)
    app.close()
    return result


async def bac0(there: str, values: int, requests: int) -> dict[str, float]:
    import BAC0

    BAC0.log_level("silence")
    names = {f"analogInput:{n}": ["presentValue"] for n in range(1, values + 1)}
    asked = {"address": there, "objects": names}
    async with BAC0.start(ip="127.0.0.1/8", port=free_udp_port(), ping=False) as it:

        async def read():
            result = await it.readMultiple(there, request_dict=asked)
            assert len(result) == values

        return await timed(read, requests, values)


async def client(way: str, there: str, values: int, requests: int) -> None:
    with contextlib.redirect_stdout(sys.stderr):
        if way.startswith("gardien"):
            result = await gardien(there, values, requests, flags="flags" in way)
        else:
            result = await {"bacpypes3": bare, "BAC0": bac0}[way](there, values, requests)
    print("RESULT " + json.dumps(result), flush=True)


def run(way: str, there: str, values: int, requests: int, home: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.bacnet", "--client", way, "--there", there]
    command += ["--values", str(values), "--requests", str(requests)]
    path = str(Path(__file__).parents[1])
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=home, check=False,
        env={"HOME": home, "PATH": "/usr/bin:/bin", "PYTHONPATH": path},
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stdout + done.stderr
    return json.loads(lines[0][7:])


def compared(values: int, requests: int, repetitions: int) -> dict[str, dict[str, float]]:
    port = free_udp_port()
    command = [sys.executable, "-m", "bench.bacnet", "--serve", str(port), "--values", str(values)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline() == "ready\n"
            with tempfile.TemporaryDirectory() as home:
                taken = {way: [] for way in WAYS}
                for _ in range(repetitions):
                    for way in WAYS:
                        taken[way].append(run(way, f"127.0.1.1:{port}", values, requests, home))
        finally:
            server.kill()
    return {
        way: {key: statistics.median(run[key] for run in runs) for key in ("cpu", "rate")}
        for way, runs in taken.items()
    }


async def house(devices: int, values: int, minutes: int) -> None:
    """The share of a core that the driver takes when every value is read every minute."""
    from agent.core.model import Point
    from agent.drivers.bacnet.bus import Bacnet
    from agent.drivers.bacnet.settings import BacnetSettings

    port = free_udp_port()
    command = [sys.executable, "-m", "bench.bacnet", "--serve", str(port)]
    command += ["--values", str(values), "--devices", str(devices)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: ASYNC220
        try:
            assert server.stdout.readline() == "ready\n"
            groups = [
                [
                    Point(f"d{d}", f"p{n}", f"{1001 + d}@127.0.1.{d + 1}:{port}", f"0,{n}", 60)
                    for n in range(1, values + 1)
                ]
                for d in range(devices)
            ]
            async with Bacnet.open(
                BacnetSettings(address="127.0.0.1/8", port=free_udp_port(), cov=0)
            ) as line:
                turns = asyncio.Semaphore(line.at_once)

                async def read(group):
                    async with turns:
                        assert all(s.why is None for s in await line.read(group))

                await asyncio.gather(*(read(group) for group in groups))
                cpu, wall = time.process_time(), time.perf_counter()
                for _ in range(minutes):
                    await asyncio.gather(*(read(group) for group in groups))
                cpu = (time.process_time() - cpu) / minutes
                wall = (time.perf_counter() - wall) / minutes
        finally:
            server.kill()
    print(
        f"{devices} devices x {values} values (with flags) a minute: {cpu * 1e3:.0f} ms CPU a"
        f" round, {cpu / 60:.2%} of a core; a round takes {wall:.2f} s"
    )


def show(taken: dict[str, dict[str, float]], values: int) -> None:
    print(f"{values} present values a request, one request after the other, on loopback; medians")
    print(f"{'':22}{'values/s':>12}{'CPU µs/value':>15}")
    for way, one in taken.items():
        print(f"{way:22}{one['rate']:12.0f}{one['cpu'] * 1e6:15.1f}")
    ours, bare_, bac0_ = taken["gardien"], taken["bacpypes3"], taken["BAC0"]
    print(
        f"gardien has {ours['rate'] / bac0_['rate']:.1f} times BAC0's values/s and"
        f" {ours['cpu'] / bare_['cpu']:.2f} times bare bacpypes3's CPU per value"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bacnet", description=__doc__)
    parser.add_argument("--values", type=int, default=20, help="in one request")
    parser.add_argument("--requests", type=int, default=200, help="in each repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--devices", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--client", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--there", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.serve:
        asyncio.run(serve(wanted.serve, wanted.devices, wanted.values))
    elif wanted.client:
        asyncio.run(client(wanted.client, wanted.there, wanted.values, wanted.requests))
    else:
        show(compared(wanted.values, wanted.requests, wanted.repetitions), wanted.values)
        asyncio.run(house(50, 40, 3))


if __name__ == "__main__":
    main()
