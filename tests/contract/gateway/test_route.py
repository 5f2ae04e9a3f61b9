"""An uplink that moves: proved by a receipt, same epoch and seq, nothing lost or twice.
Rule T28.
"""

import asyncio
import time
from pathlib import Path

import pytest

from agent.api import calls
from agent.core.clock import Clock
from agent.core.errors import Refused
from agent.gateway import delivery
from agent.gateway.gateway import Waits
from agent.trust.claims import UplinkMove
from hil.broker import broker
from hil.platform.child import Fetching, Platform
from hil.process import free_port
from tests.contract.gateway.running import at_work, configured, put, settled
from tests.waiting import until

NOW = int(time.time())


def ordered(url: str) -> UplinkMove:
    return UplinkMove.model_construct(
        iss="platform", jti="j", iat=NOW, exp=NOW + 60, aud="a", recipient="r.example", url=url
    )


def test_a_move_counts_once_it_brought_a_receipt_and_goes_on_counting(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as old,
            broker() as new,
            Platform(old.port, tmp_path / "old.db") as here,
            Platform(new.port, tmp_path / "new.db") as there,
        ):
            config = configured(tmp_path, old.url)
            async with at_work(config) as house:
                await put(house, 5)
                await settled(house)
                await delivery.move(house, ordered(new.url))

                async def proved() -> bool:
                    move = house.moves.of("r.example", old.url, NOW)
                    return move is not None and move.proved is not None

                await until(proved)
                await put(house, 5, NOW + 100)
                await settled(house)
            async with at_work(config) as house:
                await put(house, 5, NOW + 200)
                await settled(house)
            first, second = await here.report(), await there.report()
            assert (first["rows"], second["rows"]) == (5, 10)
            assert second["differing_batches"] == 0

    asyncio.run(scenario())


def test_an_address_without_a_platform_never_counts_and_the_old_one_goes_on(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as old,
            broker() as deaf,
            Platform(old.port, tmp_path / "old.db") as here,
        ):
            async with at_work(configured(tmp_path, old.url), waits=Waits(proof=1.0)) as house:
                for turn, url in enumerate((deaf.url, f"mqtt://127.0.0.1:{free_port()}")):
                    await delivery.move(house, ordered(url))
                    await put(house, 5, NOW + 100 + 100 * turn)
                    await settled(house)
                    move = house.moves.of("r.example", old.url, NOW)
                    assert move is not None
                    assert move.proved is None
            assert (await here.report())["rows"] == 10

    asyncio.run(scenario())


def test_an_address_that_can_be_none_is_refused(tmp_path: Path):
    async def scenario() -> None:
        async with at_work(configured(tmp_path, f"mqtt://127.0.0.1:{free_port()}")) as house:
            for url in ("mqtt://platform.example", "https://x.example", "mqtts://a:b@c.example"):
                with pytest.raises(Refused, match="is not a valid address"):
                    await delivery.move(house, ordered(url))
            other = ordered("mqtts://x.example").model_copy(update={"recipient": "other"})
            with pytest.raises(Refused, match="sends nothing to other"):
                await delivery.move(house, other)

    asyncio.run(scenario())


def test_an_exchange_folder_moves_to_another_folder_and_to_nothing_else(tmp_path: Path):
    # a folder may be a share of anybody's, so this is no demonstration; this machine may lack NTP
    clock = Clock("system", tmp_path / "clock.json")

    async def scenario() -> None:
        old, new = (exchange(tmp_path / name) for name in ("old", "new"))
        config = configured(tmp_path, "")
        text = config.read_text(encoding="utf-8").replace(
            'transport: mqtt, url: "", ', f"transport: files, path: {old}, container: none, "
        )
        for before, after in (
            ("seal: 200ms", "seal: 200ms, poll: 200ms"), ("DEMO-1", "FR-1"), ("system", "ntp"),
        ):  # fmt: skip
            text = text.replace(before, after)
        config.write_text(text, encoding="utf-8")
        async with (
            Fetching(old, tmp_path / "old.db", None) as here,
            Fetching(new, tmp_path / "new.db", None) as there,
            at_work(config, clock) as house,
        ):
            for url in ("sftp://us@x.example/", "file://x.example/mnt", "file:mnt", str(new)):
                with pytest.raises(Refused, match="is not a folder"):
                    await delivery.move(house, ordered(url))
            await put(house, 5)
            await settled(house)
            await delivery.move(house, ordered(new.as_uri()))

            async def proved() -> bool:
                move = house.moves.of("r.example", old.as_uri(), NOW)
                return move is not None and move.proved is not None

            await until(proved)
            await put(house, 5, NOW + 100)
            await settled(house)
            first, second = await here.report(), await there.report()
            assert (first["rows"], second["rows"]) == (5, 5)
            (before,), (after,) = first["epochs"], second["epochs"]
            assert (after["epoch"], after["first"]) == (before["epoch"], before["last"] + 1)
            listed = await calls.CALLS["uplink.list"](house, calls.NOBODY)
            assert listed["uplinks"]["centre"]["moved"] == {"to": new.as_uri(), "proved": True}
            with pytest.raises(Refused, match="is its address already"):
                await delivery.move(house, ordered(old.as_uri()))

    asyncio.run(scenario())


def exchange(root: Path) -> Path:
    (root / "in").mkdir(parents=True)
    (root / "out/objects").mkdir(parents=True)
    return root
