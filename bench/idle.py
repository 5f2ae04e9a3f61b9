"""How often an idle agent wakes: `python -m bench.idle [SECONDS]`.

One meter over Modbus TCP that is read every 15 minutes, one uplink over MQTT to a broker, a
watchdog of 30 s as in the package's unit. Counted by thread: how often it went to sleep (voluntary
context switches, as the kernel counts them), and how often it woke after a rest. CPU is
the operating system's own account of the process.
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.agent import GARDIEN, cpu_seconds
from hil.broker import broker
from hil.building import Building
from hil.platform.child import Platform

SETTLED = 90
"""seconds after the start in which the first batches leave, and each component counts as well"""
REST = 0.2
"""seconds of rest after which work counts as another wake"""
CONFIG = """\
building: {{name: Bench}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}}}
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120, every: 15min}}
uplinks:
  centre: {{recipient: centre.example, transport: mqtt, url: "{url}"}}
privacy: {{policy: DEMO-1}}
clock: {{source: system}}
state: {state}
"""


def switches(pid):
    """How often each thread of a process went to sleep: the one of the event loop, and others."""
    counts = Counter()
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = dict(
            line.split(":", 1) for line in (task / "status").read_text().splitlines() if ":" in line
        )
        name = "event loop" if task.name == str(pid) else f"thread {int(task.name) - pid}"
        counts[name] = int(status["voluntary_ctxt_switches"])
    return counts


async def counted(pid, seconds):
    """Sleeps and wakes by thread, and CPU seconds."""
    before, cpu, wakes, worked = switches(pid), cpu_seconds(pid), Counter(), {}
    first, until = before, time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(REST / 10)
        now, at = switches(pid), time.monotonic()
        for name in (name for name, count in now.items() if count != before[name]):
            wakes[name] += at - worked.get(name, 0.0) > REST
            worked[name] = at
        before = now
    return before - first, wakes, cpu_seconds(pid) - cpu


async def run(folder, seconds):
    address = str(folder / "notify")
    async with (
        broker() as mosquitto,
        Platform(mosquitto.port, folder / "platform.db"),
        Building.open(lines=1, meters=1) as building,
    ):
        config = folder / "config.yaml"
        config.write_text(
            CONFIG.format(port=building.ports[0], url=mosquitto.url, state=folder / "state")
        )
        key = await asyncio.create_subprocess_exec(
            GARDIEN, "key", "new", "--config", config, stdout=-3
        )
        await key.wait()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(address)
            asyncio.get_running_loop().add_reader(systemd, systemd.recv, 100)
            agent = await asyncio.create_subprocess_exec(
                GARDIEN, "run", "--config", config, stderr=-3,
                env=os.environ | {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"},
            )  # fmt: skip
            await asyncio.sleep(SETTLED)
            slot = -time.time() % 900
            if slot < seconds + SETTLED:  # not while the meter is read
                await asyncio.sleep(slot + SETTLED)
            result = await counted(agent.pid, seconds)
            agent.send_signal(signal.SIGTERM)
            await agent.wait()
            asyncio.get_running_loop().remove_reader(systemd)
    return result


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 120
    with tempfile.TemporaryDirectory() as folder:
        sleeps, wakes, cpu = asyncio.run(run(Path(folder), seconds))
    print(f"an idle agent, {seconds:.0f} s")
    for name in sorted(sleeps, key=lambda one: -wakes[one]):
        rate = wakes[name] * 10 / seconds
        print(f"  {name:24} {sleeps[name]:6} sleeps {rate:8.2f} wakes in 10 s")
    print(f"  CPU {1000 * cpu / seconds:.2f} ms/s")


if __name__ == "__main__":
    main()
