"""A charger's own watchdog: named by its profile, refreshed it stands, left alone it gives back.

Guards rules G6, H23.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from agent.config.load import parse
from agent.core.errors import Refused
from agent.core.model import Point
from agent.core.quantities import from_raw, to_raw
from agent.drivers.modbus.bus import ModbusTcp
from hil.charger import Charger
from hil.modbus_server import Reply, serving
from tests.contract.drivers.modbus.peer import settings

if TYPE_CHECKING:
    from agent.config import Config

TEXT = """
building: {name: Test}
state: /nowhere
links: {cars: {driver: modbus-tcp, host: 127.0.0.1}}
devices:
  wallbox:
    link: cars
    address: 255
    profile: keba-p30
    points: {current_limit: {every: 1min, writable: true}}
uplinks: {}
"""


class Time:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def config() -> Config:
    return parse(TEXT, "test.yaml")


def limit_of(config: Config) -> Point:
    return next(one for one in config.points()["wallbox"] if one.name == "current_limit")


def test_the_profile_names_a_watchdog_and_how_often_it_wants_a_word(config: Config) -> None:
    watchdog = config.watchdog("wallbox")
    assert watchdog
    assert (watchdog.point.at.split()[1], watchdog.pause, watchdog.raw_timeout) == (
        "write@5018/uint16",
        30.0,
        60,
    )
    assert [watchdog.on(Decimal(n)) for n in (0, 1, 60, 61, 600)] == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_refreshed_it_keeps_the_limit_and_left_alone_it_falls_back_by_itself(
    config: Config,
) -> None:
    watchdog, limit, time = config.watchdog("wallbox"), limit_of(config), Time()
    charger = Charger(wanted=20_000, now=time)
    assert watchdog

    async def attack() -> None:
        answering = serving(lambda _, pdu: Reply(charger(pdu)))
        async with answering as port, ModbusTcp.open(settings(port)) as driver:

            async def stands() -> Decimal:
                value = (await driver.held(limit)).ours[0]
                assert isinstance(value, Decimal)
                return from_raw(limit, value)

            await driver.write(watchdog.fallback, to_raw(watchdog.fallback, Decimal(10)), None)
            await driver.write(watchdog.point, watchdog.raw_timeout, None)
            assert watchdog.on((await driver.held(watchdog.point)).ours[0])  # type: ignore[arg-type]
            await driver.write(limit, to_raw(limit, Decimal("6.5")), None)
            for _ in range(5):
                time.now += watchdog.pause
                await driver.write(watchdog.point, watchdog.raw_timeout, None)
                assert (await stands(), charger.current) == (Decimal("6.5"), 6500)
            time.now += float(watchdog.timeout) + 1
            assert (await stands(), charger.current, charger.fallbacks) == (10, 10_000, 1)

    asyncio.run(attack())


def test_a_value_the_register_cannot_say_is_refused_before_a_word_is_sent(config: Config) -> None:
    limit = limit_of(config)

    async def attack() -> None:
        asked: list[bytes] = []
        async with (
            serving(lambda _, pdu: asked.append(pdu)) as port,
            ModbusTcp.open(settings(port)) as driver,
        ):
            for value in ("6.0005", "65.536", "-1"):
                with pytest.raises(Refused):
                    await driver.write(limit, to_raw(limit, Decimal(value)), None)
        assert asked == []

    asyncio.run(attack())


def test_a_value_is_scaled_exactly_or_not_at_all() -> None:
    def point(scale: str) -> Point:
        return Point("boiler", "offset", "1", "holding/0/int16", 60, unit="K", scale=Decimal(scale))

    assert to_raw(point("0.1"), Decimal("-1.5")) == -15
    assert from_raw(point("0.1"), Decimal(-15)) == Decimal("-1.5")
    with pytest.raises(
        Refused, match=r"boiler/offset: 1 K is not an exact multiple of the scale 0\.3"
    ):
        to_raw(point("0.3"), Decimal(1))
