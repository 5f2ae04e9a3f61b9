"""The spool key is rotated under a running agent, or without one, whatever ends in between: each
row is delivered exactly once. Guards rules G1, G2 (docs/decisions/031).
"""

import asyncio
import json
import time
from decimal import Decimal
from pathlib import Path

import pytest

from agent.api import keys
from agent.api.calls import NOBODY, status
from agent.api.registry import Caller
from agent.app import visited
from agent.buffer.batch import BatchHead
from agent.buffer.keys import NotOurs
from agent.buffer.orphaned_spools import destroy, spool_of
from agent.buffer.spool import Spool
from agent.core.errors import Refused
from agent.core.model import Reading, Series
from agent.core.storage import made
from agent.gateway import key_rotation
from agent.gateway.recipient import memory_of
from agent.registry import identity
from hil.broker import broker
from hil.platform.child import Platform
from hil.process import free_port
from tests.command import gardien
from tests.contract.buffer.far import seal_all
from tests.contract.gateway.running import RECIPIENT, at_work, configured, put, settled
from tests.waiting import until

BEFORE, CAP = 3_000, 50_000_000
FORMER = "former.example"
START = int(time.time()) - 10_000


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return configured(tmp_path, f"mqtt://127.0.0.1:{free_port()}")


def key_of(config: Path) -> identity.Identity:
    return identity.load(config.parent / "state")


def leave_a_spool(config: Path, rows: int = 0) -> None:
    """Of a recipient whose uplink has been taken out."""
    series = Series("CZS2YFSTBQQ5WDC", "elec.imp", "REG", "kWh", 1, "m1", None, "common")
    with Spool.open(*former(config)) as spool:
        spool.probe()
        for slot in range(START, START + rows, 20):
            lot = [Reading(series, slot + n, Decimal(slot + n), "V") for n in range(20)]
            spool.append(lot, {})


def former(config: Path):
    who = key_of(config)
    path = spool_of(config.parent / "state", FORMER)
    return path, who.spool_key, BatchHead(who.gateway, FORMER, "DEMO-1"), CAP


async def done(house) -> bool:
    return key_rotation.standing(house) is None


async def delivered(folder: Path) -> int:
    """How many rows arrive in the end, each once."""
    async with broker() as far, Platform(far.port, folder / "platform.db") as platform:
        async with at_work(configured(folder, far.url)) as house:
            await settled(house)
        counted = await platform.report()
        for never in ("alarms", "differing_batches", "overlapping_slots", "seq_gaps"):
            assert counted[never] == 0, never
        assert counted["rows"] == counted["slots"]
        return counted["rows"]


def test_a_running_agent_rotates_while_its_uplink_is_away_and_all_is_delivered_once(
    config: Path, tmp_path: Path
):
    """Rule K6."""
    leave_a_spool(config)
    old, told = key_of(config), []

    async def tell(words) -> None:
        told.append(words)

    async def scenario() -> int:
        async with at_work(config) as house:
            for n in range(0, BEFORE, 500):
                await put(house, 500, START + n)
            asked = [keys.rotate(house, Caller("me", tell), what="spool") for _ in range(2)]
            rotating = asyncio.gather(*asked)
            rows = BEFORE
            while not rotating.done():
                await put(house, 1, START + rows)
                rows += 1
                await asyncio.sleep(0.05)
            answer, other = rotating.result()
            assert other["spool"]["done"]
            assert not other["spool"]["begun"], "two who ask at once draw one key"
            await put(house, 5, START + rows)
            assert answer["spool"]["done"]
            assert answer["spool"]["begun"]
            assert answer["spool"]["files"] == 4
            assert answer["spool"]["bytes"] > 50_000
            assert (await status(house, NOBODY))["rotation"] is None
            return rows + 5

    rows = asyncio.run(scenario())
    assert told
    assert told[0]["of"] > 0
    new = key_of(config)
    assert (new.spool_key_before, new.gateway) == (None, old.gateway)
    assert new.spool_key != old.spool_key
    assert old.spool_key not in (tmp_path / "state/keys/spool.key").read_bytes()
    path, _, *words = former(config)
    with pytest.raises(NotOurs):
        Spool.open(path, old.spool_key, *words).__enter__()
    assert asyncio.run(delivered(tmp_path)) == rows


@pytest.mark.parametrize("files", [0, 2, 4])
def test_what_ends_in_the_middle_is_gone_on_with_at_the_next_start(config: Path, files: int):
    """`files`: so many are under the new key when everything ends."""
    leave_a_spool(config)

    async def scenario() -> None:
        async with at_work(config) as house:
            await put(house, 100, START)
        async with visited(config) as house:
            await key_rotation.begin(house, "me")
            for file in key_rotation.files(house.config.state)[:files]:
                await key_rotation._file(house, file, house.identity.spool_key, None)
        assert key_of(config).spool_key_before is not None
        async with at_work(config) as house:
            await put(house, 100, START + 100)
            await until(lambda: done(house))
            recipient = house.recipients["centre"]
            batches = await recipient.thread.run(seal_all, recipient.spool)
            assert sum(batch.rows for batch in batches) == 200
        assert key_of(config).spool_key_before is None

    asyncio.run(scenario())


def rotate(config: Path, *more: str, language: str = "en"):
    words = ["key", "rotate", *more, "-c", str(config)]
    return gardien(*words, env={"LANGUAGE": language})


def test_without_an_agent_the_command_does_it_and_says_so_in_either_language(config: Path):
    async def begin() -> None:
        async with at_work(config) as house:
            await put(house, 100, START)

    asyncio.run(begin())
    old = key_of(config).spool_key
    said = rotate(config, language="fr")
    assert said.exit_code == 0, said.output
    assert "La clé de la file d'attente est remplacée" in said.output
    assert "Il n'y a pas de certificat" in said.output
    assert key_of(config).spool_key != old
    said = rotate(config, "spool")
    assert "The spool key is rotated: " in said.output
    assert "flash" in said.output or "card" in said.output
    answer = json.loads(rotate(config, "spool", "--json").stdout)
    assert answer["spool"]["done"]
    assert answer["certificate"] is None
    assert rotate(config, "both").exception is not None

    async def left() -> None:
        async with at_work(config) as house:
            recipient = house.recipients["centre"]
            batches = await recipient.thread.run(seal_all, recipient.spool)
            assert sum(batch.rows for batch in batches) == 100

    asyncio.run(left())


def test_a_rotation_that_was_broken_off_is_done_by_the_next_command_with_no_other_key(config: Path):
    """Rule K7."""

    async def begin() -> None:
        async with at_work(config) as house:
            await put(house, 100, START)
        async with visited(config) as house:
            await key_rotation.begin(house, "me")

    asyncio.run(begin())
    drawn = key_of(config).spool_key
    assert "rotating     the spool key, since " in gardien("key", "show", "-c", str(config)).output
    said = rotate(config, "spool")
    assert "that was under way is done" in said.output
    after = key_of(config)
    assert (after.spool_key, after.spool_key_before) == (drawn, None)


def test_a_rotation_waits_for_a_spool_that_is_closed_and_says_so(config: Path):
    async def scenario() -> None:
        async with at_work(config) as house:
            await put(house, 10, START)
            await key_rotation.begin(house, "me")
            recipient = house.recipients.pop("centre")
            with pytest.raises(Refused, match="spool of centre is not open"):
                await key_rotation.work(house)
            assert house.identity.spool_key_before is not None, "the old key is still needed"
            answer = await status(house, NOBODY)
            assert answer["rotation"]["since"]
            house.recipients["centre"] = recipient
            await key_rotation.work(house)
            assert key_rotation.standing(house) is None

    asyncio.run(scenario())


def test_it_is_refused_where_it_could_not_be_undone_or_ended_and_nothing_is_changed(config: Path):
    """Rule K7."""
    state = config.parent / "state"
    was = (state / "keys/spool.key").read_bytes()

    async def scenario() -> None:
        async with at_work(config) as house:

            async def refused(words: str) -> None:
                with pytest.raises(Refused, match=words):
                    await keys.rotate(house, NOBODY)
                assert (state / "keys/spool.key").read_bytes() == was

            (state / "upgrade").touch()
            await refused("an upgrade is on trial")
            (state / "upgrade").unlink()
            house.disk.storage.failed("the spool of centre", "the disk is read-only")
            await refused("the disk is read-only.*needs a working disk")
            house.disk.storage.recovered("the spool of centre")
            memory = memory_of(state, RECIPIENT)
            made(memory.parent)
            memory.touch()
            await refused("are in memory, because the disk failed")
            memory.unlink()
            recipient = house.recipients.pop("centre")
            await refused("spool centre: not open")
            house.recipients["centre"] = recipient

    asyncio.run(scenario())


def test_a_spool_that_is_destroyed_in_the_middle_is_no_fault(config: Path):
    who, last = key_of(config), spool_of(config.parent / "state", "z.example")
    with Spool.open(last, who.spool_key, BatchHead(who.gateway, "z.example", ""), CAP) as spool:
        spool.probe()

    async def scenario() -> None:
        async with at_work(config) as house:
            for n in range(0, 2_000, 20):
                await put(house, 20, START + n)
            await key_rotation.begin(house, "me")
            while "spool-r.example.db" not in house.rotation.files:
                await asyncio.sleep(0)
            destroy(house.config.state, "z.example", time.time(), None)
            assert key_rotation.standing(house) is not None
            await until(lambda: done(house))
            assert not last.exists(), "and none is begun in its place"

    asyncio.run(scenario())


def test_a_spool_that_is_found_damaged_in_the_middle_is_named_and_set_aside(config: Path):
    leave_a_spool(config, rows=4_000)
    path = former(config)[0]
    data = bytearray(path.read_bytes())
    pages = [at for at in range(0, len(data), 1024) if data.count(0, at, at + 1024) < 400]
    half = pages[len(pages) // 2]
    data[half : half + 3 * 1024] = b"damaged." * 384
    path.write_bytes(data)
    said = rotate(config, "spool", language="fr")
    assert said.exit_code == 1
    assert isinstance(said.exception, SystemExit), said.exception
    assert "Il reprend de lui-même" in said.output
    assert "spool-former.example.db is damaged" in said.output
    assert key_of(config).spool_key_before is not None
    said = rotate(config, "spool")
    assert said.exit_code == 0
    assert "spool-former.example.db.damaged was set aside" in said.output
