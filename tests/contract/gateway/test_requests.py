"""What the platform asks by signed requests: done once, whichever way it came, and no more than it
may have.
"""

import asyncio
import time
from pathlib import Path

import pytest

from agent.core.errors import Refused
from agent.gateway import delivery
from agent.trust.claims import Request
from hil.broker import broker
from hil.platform.child import Platform
from tests.contract.gateway.running import at_work, configured, put, settled
from tests.waiting import until

NOW = int(time.time())


def asked(act: str, **more: object) -> Request:
    about = {"iss": "platform", "jti": "j", "iat": NOW, "exp": NOW + 60, "aud": "a"}
    rest = {"epoch": None, "from_": None, "to": None, "device": None}
    return Request.model_construct(**about | rest | {"recipient": "r.example", "act": act} | more)


def test_batches_that_are_asked_for_come_again_byte_for_byte(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db") as platform,
            at_work(configured(tmp_path, far.url)) as house,
        ):
            await put(house, 5)
            await settled(house)
            centre = house.recipients["centre"]
            epoch = await centre.thread.run(lambda: centre.spool.epoch)
            said = await delivery.obey(house, asked("resend", epoch=epoch, from_=1, to=50))
            assert said.endswith("batches are sent again")

            async def again() -> bool:
                return (await platform.report())["resent_batches"] >= 1

            await until(again)
            await settled(house)
            counted = await platform.report()
            assert counted["differing_batches"] == counted["duplicate_rows"] == 0
            assert counted["rows"] == 5

    asyncio.run(scenario())


def test_the_directory_is_told_anew_when_it_is_asked_for(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db") as platform,
            at_work(configured(tmp_path, far.url)) as house,
        ):
            await put(house, 1)
            await settled(house)
            before = (await platform.report())["batches"]
            await delivery.obey(house, asked("directory"))

            async def told() -> bool:
                return (await platform.report())["batches"] > before

            await until(told)

    asyncio.run(scenario())


def test_what_waits_goes_at_once_when_a_reading_is_asked_for(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db") as platform,
            at_work(configured(tmp_path, far.url, seal="1h")) as house,
        ):

            async def at_rest() -> bool:
                return house.recipients["centre"].delivery.idle

            await until(at_rest)
            await put(house, 5)
            await asyncio.sleep(2)
            assert (await platform.report())["rows"] == 0
            await delivery.obey(house, asked("read-now"))
            await platform.holds(5)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "wrong",
    [
        asked("resend"),
        asked("resend", epoch="5f1c00000000", from_=5, to=1),
        asked("resend", epoch="5f1c00000000", from_=1, to=10**9),
        asked("directory", recipient="other.example"),
        asked("read-now", device="no-such-device"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_words(tmp_path: Path, wrong: Request):
    async def scenario() -> None:
        async with broker() as far, at_work(configured(tmp_path, far.url)) as house:
            with pytest.raises(Refused):
                await delivery.obey(house, wrong)

    asyncio.run(scenario())
