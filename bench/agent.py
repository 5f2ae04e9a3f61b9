"""The whole agent: `python -m bench.agent`. 40 devices x 25 values every 10 s over Modbus TCP.

CPU and memory are the operating system's own account of the process; READY and the first request
are measured from the start of the process, the request by a server that only answers.
"""

import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from hil.broker import broker
from hil.platform.child import Platform

GARDIEN = Path(sys.executable).with_name("gardien")
DEVICES, VALUES, EVERY, ROUNDS = 40, 25, 10, 6
PORTS = 4
CONFIG = """\
building: {{name: Bench}}
links:
{links}
devices:
{devices}
uplinks:
  centre: {{recipient: centre.example, transport: mqtt, url: "{url}", seal: 60s}}
privacy: {{policy: DEMO-1, common: {{basis: bench, from: 2026-01-01}}}}
clock: {{source: system}}
state: {state}
"""


class Device:
    """Answers every read of holding registers with ones, as fast as it can."""

    def __init__(self):
        self.requests, self.first = 0, None

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readexactly(7)
                body = await reader.readexactly(int.from_bytes(head[4:6]) - 1)
                self.first = self.first or time.time()
                self.requests += 1
                cells = b"\x3f\x80\x00\x00" * (int.from_bytes(body[3:5]) // 2)
                pdu = bytes([body[0], len(cells)]) + cells
                writer.write(head[:4] + (len(pdu) + 1).to_bytes(2) + head[6:] + pdu)
        except (asyncio.IncompleteReadError, ConnectionError):  # the agent is killed at the end
            writer.close()


def configuration(folder, ports, url):
    """Common plant, so that all of it may leave; three runs of registers a device."""
    links = "\n".join(
        f"  l{n}: {{driver: modbus-tcp, host: 127.0.0.1, port: {p}}}" for n, p in enumerate(ports)
    )
    names = ["temp", "co2", "rh", "elec.power", "elec.voltage"]
    devices = []
    for n in range(DEVICES):
        points = "\n".join(
            f"      v{v}: {{at: holding/{(v % 3) * 200 + 2 * v}/float32{channel(v, names)}}}"
            for v in range(VALUES)
        )
        place = PLACES[n]
        devices.append(
            f"  d{n}:\n    link: l{n % PORTS}\n    address: {n + 1}\n    every: {EVERY}s\n"
            f"    place: {place}\n    points:\n{points}"
        )
    text = CONFIG.format(links=links, devices="\n".join(devices), url=url, state=folder / "state")
    (folder / "config.yaml").write_text(text)


def channel(v, names):
    """Five of the values are readings; the others are read and shown, as on a controller."""
    units = {"temp": "Cel", "co2": "ppm", "rh": '"%RH"', "elec.power": "W", "elec.voltage": "V"}
    if v >= len(names):
        return ""
    return f", channel: {names[v]}, unit: {units[names[v]]}"


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def running(agent):
    """A moment later; RuntimeError if the agent has ended meanwhile."""
    await asyncio.sleep(0.01)
    if agent.returncode is not None:
        raise RuntimeError("the agent ended: run it by hand to see why")


async def one_run(folder, seconds):
    device = Device()
    servers = [await asyncio.start_server(device.serve, "127.0.0.1", 0) for _ in range(PORTS)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    async with broker() as mosquitto, Platform(mosquitto.port, folder / "platform.db"):
        configuration(folder, ports, mosquitto.url)
        key = await asyncio.create_subprocess_exec(
            GARDIEN, "key", "new", "--config", folder / "config.yaml", stdout=-3
        )
        await key.wait()
        began = time.time()
        agent = await asyncio.create_subprocess_exec(
            GARDIEN, "run", "--config", folder / "config.yaml", stderr=-3,
            env=os.environ | {"MALLOC_ARENA_MAX": "1"},  # as the unit of the package has it
        )  # fmt: skip
        while not (folder / "state" / "gardien.sock").exists():
            await running(agent)
        ready = time.time() - began
        while device.first is None:
            await running(agent)
        first = device.first - began
        await asyncio.sleep(EVERY)
        cpu, requests, since = cpu_seconds(agent.pid), device.requests, time.monotonic()
        await asyncio.sleep(seconds)
        spent = time.monotonic() - since
        used = 100 * (cpu_seconds(agent.pid) - cpu) / spent
        memory = memory_mb(agent.pid)
        per_round = (device.requests - requests) / (spent / EVERY)
        agent.send_signal(signal.SIGTERM)
        await agent.wait()
    for server in servers:
        server.close()
    return ready, first, used, memory, per_round


def places():
    from agent.registry.place import mint

    return [mint("C") for _ in range(DEVICES)]


PLACES = places()


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    runs = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(asyncio.run(one_run(Path(folder), seconds)))
    ready, first, used, memory, per_round = (
        statistics.median(col) for col in zip(*runs, strict=True)
    )
    print(f"the whole agent: {DEVICES} devices x {VALUES} values every {EVERY} s, medians of 3")
    print(f"  start to READY             {ready:7.2f} s     aim below 1.5")
    print(f"  start to the first request {first:7.2f} s     aim below 1.5")
    print(f"  CPU                        {used:7.2f} %     aim below 2; peers 0.9 to 7.7")
    print(f"  RSS                        {memory:7.1f} MB    aim below 65; peers 71 to 112")
    print(f"  Modbus requests a round    {per_round:7.0f}")


if __name__ == "__main__":
    main()
