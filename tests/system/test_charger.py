"""The whole agent on a charger: a capacity limit, its failsafe, and the charger's own watchdog.

Guards rule G6: whoever dies, the charger is at its failsafe or given back. The judge is the
charger itself.
"""

import asyncio
import threading
from contextlib import contextmanager

from hil.charger import Charger
from hil.modbus_server import Reply, serving
from tests.system.test_control import Building
from tests.waiting import until

CONFIG = """\
building: {{name: Les Alpins}}
links: {{cars: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}}}}}
devices:
  wallbox:
    link: cars
    address: 255
    points:
      limit: {{at: "holding/1100/uint32 write@5004/uint16 alone", unit: A, scale: 0.001,
        every: 1h, writable: true}}
      timeout: {{at: "holding/1602/uint32 write@5018/uint16 alone", unit: s,
        every: 1h, writable: true}}
controls:
  wallbox-limit:
    point: wallbox/limit
    equipment: cars
    modality: {{action: limit, min: 6, max: 32, max_duration: 4h, failsafe: {{value: 10}}}}
    require: [building_manager]
    restore: preimage
    device_watchdog: {{point: wallbox/timeout, timeout: 4s, fallback: 0}}
privacy: {{policy: DEMO-1}}
clock: {{source: system}}
trust: {{threshold: 1}}
state: {state}
"""
NAME = "wallbox-limit"


class Wallbox(Building):
    def guard_known(self):
        return True

    def trusted(self):
        raw = self.people.trust().decode()
        sha256 = self.asked("trust.look", text=raw)["sha256"]
        self.asked("trust.accept", text=raw, sha256=sha256, named="a test")
        self.audience = self.asked("trust.show")["audience"]
        gateway = self.audience.partition(".")[0]
        grant = self.people.grant("building_manager", gateway, ("cars", "limit"), unit="A")
        self.asked("object.accept", text=grant.decode(), named="a test")

    def limit(self, amperes):
        raw = self.people.order(self.audience, [NAME], amperes, 600, act="limit", unit="A")
        answer = self.asked("object.accept", text=raw.decode(), named="a test")
        return answer["targets"][NAME]


@contextmanager
def charging(charger):
    """Serve it beside the test, whose own loop is busy with the agent."""
    ready, port = threading.Event(), []
    loop = asyncio.new_event_loop()

    async def serve():
        async with serving(lambda _, pdu: Reply(charger(pdu))) as at:
            port.append(at)
            ready.set()
            await ended.wait()

    ended = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield port[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def test_a_limit_its_failsafe_and_the_chargers_own_watchdog(tmp_path):
    charger = Charger(wanted=32_000, shortest=4)

    async def attack(port):
        here = Wallbox(tmp_path, None)
        here.config.write_text(CONFIG.format(port=port, state=here.state))
        await here.gardien("key", "new")
        await here.start()
        try:
            assert charger.limit == 32_000  # never tested: not even the failsafe is written
            said = await here.gardien("control", "test", NAME)
            assert "the device should fall back within 4 s" in said
            assert charger.fallbacks == 1
            fell = here.asked("control.list")["controls"][NAME]["fell_back_s"]
            assert 4.0 <= fell < 20.0  # as a busy machine sees it
            assert f"released by the device after    {fell:.1f} s" in said
            # the centre has not been heard since the start
            await until(lambda: charger.limit == 10_000)
            assert charger.failsafe_timeout == 4
            here.trusted()
            assert here.limit("16")["state"] == "SCHEDULED"
            await until(lambda: charger.limit == 16_000)
            assert here.limit("40")["code"] == "E_RANGE"
            before = charger.fallbacks
            await here.kill()
            await until(lambda: charger.current == 0 and charger.fallbacks > before)
            await here.start()
            await until(lambda: charger.limit == 10_000)
            history = await here.gardien("control", "history")
            assert "broken off: restart" in history
            await here.end()
            assert charger.limit == 10_000  # a limit is not let go of because the agent ends
            await here.gardien("control", "release", "--all", "--limits")
            assert (charger.limit, charger.failsafe_timeout) == (32_000, 0)
        finally:
            if here.agent is not None:
                await here.kill()

    with charging(charger) as port:
        asyncio.run(attack(port))


def test_a_limit_whose_journal_was_lost_is_said_and_given_back_by_hand(tmp_path):
    charger = Charger(wanted=32_000)
    charger.limit = 6_000  # by an agent whose journal nobody has any more

    async def attack(port):
        here = Wallbox(tmp_path, None)
        text = CONFIG.format(port=port, state=here.state)
        dog = "{point: wallbox/timeout, timeout: 4s, fallback: 0}"
        here.config.write_text(text.replace(dog, "none-accepted"))
        await here.gardien("key", "new")
        (here.state / "control.sqlite").write_bytes(b"what a power cut has left" * 400)
        await here.start()
        try:
            # not the first one, which may be that the line is not open yet
            await until(
                lambda: "--to" in str(here.asked("control.list")["controls"][NAME]["alarm"])
            )
            said = await here.gardien("control", "list", status=1)
            assert f"gardien control release {NAME} --to VALUE" in " ".join(said.split())
            said = await here.gardien("control", "release", NAME, "--to", "much", status=1)
            assert '"much" is not a value' in said
            assert charger.limit == 6_000
            said = await here.gardien("control", "release", NAME, "--to", "32")
            assert f"{NAME}: set back to 32, confirmed" in said
            assert charger.limit == 32_000
            assert not here.asked("control.list")["controls"][NAME]["alarm"]
            await here.gardien("control", "test", NAME)
            said = await here.gardien("control", "release", NAME, "--to", "10", status=1)
            assert "the journal" in said
            await here.end()
        finally:
            if here.agent is not None:
                await here.kill()

    with charging(charger) as port:
        asyncio.run(attack(port))
