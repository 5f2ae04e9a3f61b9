"""A metered line: counted across restarts, slowed down when a month runs ahead of its budget.
Rule T32.
"""

import asyncio
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.api import calls
from agent.config.check import summary
from agent.config.estimates import affordable
from agent.config.load import parse
from agent.core.atomic_write import later
from agent.gateway.gateway import Waits
from agent.gateway.uplink_state import Traffic
from hil.broker import broker
from hil.platform.child import Platform
from tests.contract.gateway.running import at_work, configured, put, settled
from tests.waiting import until

PARIS = ZoneInfo("Europe/Paris")
NOVEMBER = 1_795_000_000.0
DAY = 86_400


def test_a_months_count_survives_a_restart_and_begins_anew_with_the_month(tmp_path: Path):
    traffic = Traffic(tmp_path, PARIS)
    traffic.count("r.example", 1_000, NOVEMBER)
    traffic.remember(NOVEMBER)
    assert later.settle(60)
    again = Traffic(tmp_path, PARIS)
    again.count("r.example", 500, NOVEMBER)
    assert again.of("r.example", NOVEMBER).used == 1_500
    assert again.of("r.example", NOVEMBER + 20 * DAY).used == 0
    assert 0 < again.share(NOVEMBER) < 1


@pytest.mark.parametrize("text", ["", "[]", '{"r": 1}', '{"r": ["2026-11", "x"]}', "\x00"])
def test_a_damaged_count_begins_anew(tmp_path: Path, text: str):
    (tmp_path / "data.json").write_text(text, encoding="utf-8")
    assert Traffic(tmp_path, PARIS).of("r", NOVEMBER).used == 0


def test_what_moves_is_counted_and_shown(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db"),
            at_work(
                configured(tmp_path, far.url, "data: 50MB/month"), waits=Waits(usage=0.2)
            ) as house,
        ):
            await put(house, 5)
            await settled(house)

            async def counted() -> dict[str, int] | None:
                data = (await calls.status(house, calls.NOBODY))["uplinks"]["centre"]["data"]
                return data if data["used"] > 1_000 else None

            data = await until(counted)
            assert data["used"] < 100_000
            assert data["budget"] == 50_000_000

    asyncio.run(scenario())


def test_a_month_that_is_used_up_is_told_and_goes_more_slowly(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db"),
            at_work(
                configured(tmp_path, far.url, "data: 50MB/month"), waits=Waits(usage=0.2)
            ) as house,
        ):
            await put(house, 5)
            await settled(house)
            recipient = house.recipients["centre"]
            budget, now = house.config.uplinks["centre"].data, time.time()
            assert house.traffic.slowed(60.0, "r.example", budget, now) == 60.0
            house.traffic.count("r.example", 60_000_000, time.time())
            assert house.traffic.slowed(60.0, "r.example", budget, now) == DAY

            async def reopened() -> bool:
                return "data are used up too fast" in recipient.delivery.lost

            await until(reopened)
            answer = await calls.status(house, calls.NOBODY)
            assert any(one["code"] == "data" for one in answer["events"])

    asyncio.run(scenario())


METERS = "".join(
    f"  d{n}: {{link: plant, address: {n}, profile: eastron-sdm120, every: 15min}}\n"
    for n in range(1, 61)
)
CONFIG = f"""\
building: {{name: Les Alpins}}
links: {{plant: {{driver: modbus-tcp, host: 192.168.10.20}}}}
devices:
{METERS}uplinks:
  centre: {{recipient: r.example, transport: mqtt, url: "mqtts://p.example", data: 12MB/month}}
state: /var/lib/gardien
"""


def test_the_agent_takes_the_slower_settings_that_check_has_told():
    config = parse(CONFIG, "config.yaml")
    settings = affordable(config, "centre")
    assert settings.seal > config.uplinks["centre"].settings.seal
    assert settings.keepalive > config.uplinks["centre"].settings.keepalive
    assert "reduced to" in summary(config)
    roomy = parse(CONFIG.replace("12MB", "500MB"), "config.yaml")
    assert affordable(roomy, "centre") == roomy.uplinks["centre"].settings


def test_what_became_of_an_order_does_not_wait_for_the_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def scenario() -> None:
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db") as platform,
            at_work(configured(tmp_path, far.url, seal="1h")) as house,
        ):
            assert house.steering
            await asyncio.sleep(2)
            before = (await platform.report())["batches"]
            told = {"outcomes/1-1": {"id": "1-1", "state": "REJECTED"}}
            monkeypatch.setattr(house.steering, "outcomes", lambda *_: told)
            house.decided.tell()

            async def heard() -> bool:
                return (await platform.report())["batches"] > before

            await until(heard, 20)

    asyncio.run(scenario())
