"""An idle agent sleeps until something is due (docs/decisions/058)."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager

from agent import app
from agent.core import clock
from agent.gateway import liveness
from agent.registry import identity
from hil.broker import broker
from hil.platform.child import Platform
from tests.virtual_time import PatientLoop, clocks_at

BEGIN = 1_800_000_060.0
"""a minute after a quarter hour"""
SETTLED, MINUTES = 120.0, 6
TASKS = "/agent/core/tasks.py"
"""how a task sleeps; its caller is who wakes"""
CONFIG = """\
building: {{name: Test}}
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


class WatchedLoop(PatientLoop):
    """Notes who set each timer that fires, by the moment at which it does."""

    grace = 0.15  # the disk is real, and must not seem to hang

    def __init__(self):
        super().__init__()
        self.woken = {}

    def call_at(self, when, callback, *args, context=None):
        who = _who()

        def fired(*given):
            self.woken.setdefault(self.time(), Counter())[who] += 1
            callback(*given)

        return super().call_at(when, fired, *args, context=context)


def _who():
    """The function of the agent that sleeps."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/agent/" in name and not name.endswith(TASKS):
            return f"{name.rpartition('/agent/')[2]}: {frame.f_code.co_qualname}"
        frame = frame.f_back
    return "asyncio"


@contextmanager
def building():
    process = subprocess.Popen(
        [sys.executable, "-m", "hil.building", "--lines", "1", "--meters", "1"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield json.loads(process.stdout.readline())["lines"][0]["port"]
    process.terminate()
    process.wait()
    process.stdout.close()


async def idles(config):
    """Run the whole agent until it has nothing to do, and for some minutes more; who woke then."""
    ready = asyncio.get_running_loop().create_future()

    async def serve_socket(gateway, _):
        ready.set_result(gateway)
        await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    agent = asyncio.ensure_future(app.run(config, serve_socket))
    gateway = await ready
    await asyncio.sleep(SETTLED)
    loop.woken.clear()
    await asyncio.sleep(60 * MINUTES)
    woken = dict(loop.woken)
    late = liveness.late(gateway, clock.monotonic())
    assert not late, "what sleeps does not hang (rule G12)"
    agent.cancel()
    await asyncio.wait([agent])
    return woken


def test_an_idle_agent_wakes_less_than_once_in_ten_seconds(tmp_path):
    config, state = tmp_path / "config.yaml", tmp_path / "state"
    state.mkdir(mode=0o700)
    identity.mint(state)
    with asyncio.Runner() as real, building() as port:
        mosquitto = broker()
        running = real.run(mosquitto.__aenter__())
        platform = Platform(running.port, tmp_path / "platform.db")
        real.run(platform.__aenter__())
        config.write_text(CONFIG.format(port=port, url=running.url, state=state))
        try:
            with clocks_at(BEGIN, WatchedLoop) as run:
                woken = run(idles(config))
        finally:
            real.run(platform.__aexit__(None, None, None))
            real.run(mosquitto.__aexit__(None, None, None))
    by_task = Counter()
    for who in woken.values():
        by_task.update(who)
    report = "\n".join(f"{count:5} {who}" for who, count in by_task.most_common())
    assert 0 < len(woken) < 6 * MINUTES, f"{len(woken)} wakes in {MINUTES} minutes:\n{report}"
