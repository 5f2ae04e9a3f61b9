"""The backup is at the platform after each change, without keeping a batch waiting.
Rule K11.
"""

import asyncio
import json
import subprocess

from agent.api import backup, calls
from agent.api.registry import CALLS, Caller
from agent.core.tasks import end
from agent.gateway.delivery import _wait_for_batches
from agent.gateway.gateway import Waits
from agent.uplink.pacing import Delivery
from hil.broker import broker
from hil.platform.buildings import Buildings
from hil.platform.child import Platform
from tests.contract.gateway.running import at_work, configured, put, settled
from tests.waiting import until

GATEWAY = Caller("dupont", None)


QUICK = Waits(backup=0.1, upload=0.1)


def backed_up(folder, url, more="", options=""):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", folder / "safe.key", "-out", folder / "safe.crt",
         "-subj", "/CN=recovery"],
        check=True, capture_output=True,
    )  # fmt: skip
    path = configured(folder, url, more)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"backup: {{to: {folder / 'safe.crt'}{options}}}\n")
    return path


async def told(house):
    return (await calls.status(house, calls.NOBODY))["uplinks"]["centre"]["building"]


def labels(folder, house):
    """What a new gateway would know by what the platform keeps."""
    path = Buildings.beside(folder / "platform.db").path(house.identity.gateway)
    if not path.exists():
        return None
    found, _ = backup.opened(path.read_bytes(), folder / "safe.key")
    documents = (found["registry"] or {}).get("documents", {})
    return "A-3-12" in json.dumps(documents or found["registry"])


def test_every_change_is_at_the_platform_and_a_building_is_made_of_it(tmp_path):
    async def scenario():
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db"),  # else the first offer meets nobody
            at_work(path := backed_up(tmp_path, far.url), waits=QUICK) as house,
        ):
            job = asyncio.create_task(backup.keep(house, path))

            async def held():
                one = await told(house)
                return one is not None and one["held"]

            await until(held)
            assert labels(tmp_path, house) is False
            first = house.building.latest.sha256
            place = {"label": "A-3-12", "type": "dwelling"}
            await CALLS["place.new"](house, GATEWAY, **place)

            async def newer():
                return house.building.latest.sha256 != first and await held()

            await until(newer)
            assert labels(tmp_path, house) is True
            await put(house, 5)
            await settled(house)
            await end([job])
            path.unlink()

    asyncio.run(scenario())


def test_nobody_is_offered_it_who_is_not_to_have_it(tmp_path):
    async def scenario():
        path = backed_up(tmp_path, "mqtt://127.0.0.1:9", options=", uplinks: []")
        async with at_work(path, waits=QUICK) as house:
            job = asyncio.create_task(backup.keep(house, path))

            async def sealed():
                return house.building.latest is not None

            await until(sealed)
            assert await told(house) is None
            await end([job])

    asyncio.run(scenario())


def test_a_metered_line_whose_month_is_ahead_keeps_it_for_later(tmp_path):
    async def scenario():
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db"),
            at_work(path := backed_up(tmp_path, far.url, "data: 20MB/month"), waits=QUICK) as house,
        ):
            await put(house, 3)
            await settled(house)
            # never all of it: what is used up is served once a day
            used = int(20e6 * min(1.0, house.traffic.share(house.clock.now()) + 0.1)) - 1
            house.traffic.count("r.example", used, house.clock.now())
            job = asyncio.create_task(backup.keep(house, path))
            await asyncio.sleep(0.7)
            assert (await told(house))["held"] is False
            house.traffic.count("r.example", -used, house.clock.now())

            async def held():
                return (await told(house))["held"]

            await until(held)
            await CALLS["place.new"](house, GATEWAY, label="A-1", type="dwelling")
            await asyncio.sleep(0.7)
            assert not await held(), "one a day is enough"
            await end([job])

    asyncio.run(scenario())


def test_a_backlog_under_way_goes_before_each_part():
    async def scenario():
        batches = Delivery()
        turn = asyncio.create_task(_wait_for_batches(batches, 60.0))
        await asyncio.sleep(0.3)
        assert not turn.done()
        batches.rest(idle=True)
        async with asyncio.timeout(30):
            await turn
        batches.rest(idle=False)
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.timeout(30):
            await _wait_for_batches(batches, 0.8)
        assert loop.time() - start > 0.7, "not for ever: a backlog may last for days"

    asyncio.run(scenario())
