"""An uplink is taken out of the file without losing what waits for its recipient (rule G1).
Rule T27.
"""

import asyncio
import json
import sqlite3
import time
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from agent.api import calls, uplinks
from agent.buffer.batch import read
from agent.buffer.database import in_own_thread
from agent.buffer.orphaned_spools import spool_of
from agent.buffer.spool import CAP, Spool
from agent.config.check import check
from agent.core.atomic_write import later
from agent.core.errors import Refused
from agent.core.model import Lane, Retraction
from agent.core.storage import made, volatile
from agent.gateway.gateway import Gateway
from hil.broker import broker
from hil.platform.child import Platform
from hil.process import free_port
from tests.command import gardien
from tests.contract.buffer.conftest import HEAD
from tests.contract.gateway.running import at_work, configured, owed, put, settled
from tests.unit.buffer.rows import reading

NOW = int(time.time())
WITHOUT = """\
building: {{name: Les Alpins}}
clock: {{source: system}}
state: {state}
spool: {{max: 50MB, flush: 200ms}}
"""


async def epoch(house: Gateway) -> str:
    recipient = house.recipients["centre"]
    return await recipient.thread.run(lambda: recipient.spool.epoch)


def without(folder: Path) -> None:
    text = WITHOUT.format(state=folder / "state")
    (folder / "config.yaml").write_text(text, encoding="utf-8")


def test_an_uplink_with_a_backlog_cannot_be_taken_out_and_the_remedy_is_told(tmp_path: Path):
    async def scenario() -> None:
        config = configured(tmp_path, f"mqtt://127.0.0.1:{free_port()}")
        async with at_work(config) as house:
            await put(house, 5)
            without(tmp_path)
            with pytest.raises(Refused, match="gardien uplink close centre --drain"):
                await calls.reload(house, calls.NOBODY)
            assert await owed(house) == 5

    asyncio.run(scenario())


def test_a_spool_that_no_uplink_names_is_told_by_check_and_listed_and_dropped_by_word(
    tmp_path: Path,
):
    async def scenario() -> None:
        async with at_work(configured(tmp_path, f"mqtt://127.0.0.1:{free_port()}")) as house:
            await put(house, 5)

    asyncio.run(scenario())
    without(tmp_path)
    status, said = check(tmp_path / "config.yaml")
    assert status == 1
    assert "5 values for r.example are kept but not sent: it has no uplink any more" in said

    at = ("--config", str(tmp_path / "config.yaml"))
    shown = gardien("uplink", "list", *at)
    assert "5 values waiting for r.example" in shown.output
    drained = gardien("uplink", "close", "r.example", "--drain", *at)
    assert drained.exit_code == 1
    assert check(tmp_path / "config.yaml")[0] == 1, "nothing was lost by asking"
    dropped = gardien("uplink", "close", "r.example", "--drop", "--yes", *at)
    assert "5 values destroyed" in dropped.output
    assert check(tmp_path / "config.yaml")[0] == 0
    assert not list((tmp_path / "state").glob("spool-*"))


def test_a_closed_uplink_delivers_what_waits_keeps_nothing_new_and_goes_without_loss(
    tmp_path: Path,
):
    async def scenario() -> None:
        async with broker() as far:
            config = configured(tmp_path, far.url)
            async with at_work(config) as house:
                await put(house, 5)
                answer = await uplinks.close(house, None, name="centre", how="drain")
                assert answer["waits"] == 5
            async with (
                Platform(far.port, tmp_path / "platform.db") as platform,
                at_work(config) as house,
            ):
                assert "r.example" in house.recipients.closing, "a restart does not reopen it"
                assert all(line.poller.accounts == [] for line in house.lines.values())
                await settled(house)
                assert (await platform.report())["rows"] == 5
                without(tmp_path)
                await calls.reload(house, calls.NOBODY)
                assert "r.example" not in house.recipients.closing
                assert house.recipients == {}

    asyncio.run(scenario())


def test_a_retraction_that_waits_keeps_its_uplink_until_it_is_delivered(tmp_path: Path):
    """No value waits any more, and the recipient has not been asked to erase what it has."""
    whose = ("r.example", "D1", None, "H1", "c1", None)
    withdrawn = Retraction("R1", *whose, 0, None, NOW, "withdrawn")

    async def scenario() -> None:
        async with broker() as far, at_work(configured(tmp_path, far.url)) as house:
            recipient = house.recipients["centre"]
            spool, revision = recipient.spool, house.registry.revision
            await recipient.thread.run(partial(spool.apply, revision + 1, [withdrawn], NOW))
            answer = await uplinks.close(house, None, name="centre", how="drain")
            assert (answer["waits"], answer["retractions"]) == (0, 1)
            without(tmp_path)
            with pytest.raises(Refused, match="1 retractions still wait"):
                await calls.reload(house, calls.NOBODY)
            recipient.delivery.send_now()
            async with Platform(far.port, tmp_path / "platform.db"):
                while await recipient.unreceipted_retractions():
                    await asyncio.sleep(0.05)
            await calls.reload(house, calls.NOBODY)
            assert house.recipients == {}

    asyncio.run(scenario())


def test_a_dropped_backlog_is_gone_and_the_uplink_begins_anew_with_another_epoch(tmp_path: Path):
    async def scenario() -> None:
        async with at_work(configured(tmp_path, f"mqtt://127.0.0.1:{free_port()}")) as house:
            await put(house, 5)
            before = await epoch(house)
            answer = await uplinks.close(house, None, name="centre", how="drop")
            assert (answer["dropped"], answer["waits"]) == (5, 0)
            assert await epoch(house) != before
            listed = await uplinks.listed(house, None)
            assert listed["uplinks"]["centre"]["closing"]

    asyncio.run(scenario())


def test_what_memory_keeps_from_a_failed_disk_waits_too_and_is_dropped_too(tmp_path: Path):
    config = configured(tmp_path, f"mqtt://127.0.0.1:{free_port()}")

    async def scenario() -> None:
        async with at_work(config) as house:
            recipient = house.recipients["centre"]
            beside = volatile(house.config.state) / spool_of(Path(), "r.example").name
            made(beside.parent)
            opening = partial(Spool.open, beside, house.identity.spool_key, HEAD, CAP)
            async with in_own_thread("memory", opening) as (memory, thread):
                recipient.in_memory = memory, thread
                await put(house, 5)
                await thread.run(memory.append, [reading(slot=n) for n in range(3)], {})
                without(tmp_path)
                with pytest.raises(Refused, match="8 values still wait"):
                    await calls.reload(house, calls.NOBODY)
                answer = await uplinks.close(house, None, name="centre", how="drop")
                assert (answer["dropped"], answer["waits"]) == (8, 0)
                assert not beside.exists()

    asyncio.run(scenario())


def test_batches_that_were_refused_are_sent_again_by_word(tmp_path: Path):
    port = free_port()

    async def scenario() -> None:
        async with at_work(configured(tmp_path, f"mqtt://127.0.0.1:{port}")) as house:
            await put(house, 5)
            recipient = house.recipients["centre"]
            batch = await recipient.outbox.seal(Lane.BACKFILL, 2**40, 5_000, 48_000)
            assert batch is not None
            await recipient.outbox.quarantine(batch.id, "the platform refuses the batch: 400")
            said = (await calls.status(house, calls.NOBODY))["uplinks"]["centre"]
            assert said["backlog"]["quarantined_why"] == "the platform refuses the batch: 400"
            assert said["largest_batch"] is None
            await put(house, 5, first=int(time.time()) - 600)
            larger = await recipient.outbox.seal(Lane.BACKFILL, 2**40, 5_000, 48_000)
            assert larger is not None
            assert await recipient.outbox.split(larger, "413")
            said = (await calls.status(house, calls.NOBODY))["uplinks"]["centre"]
            assert said["largest_batch"] == len(larger.payload) // 2
            with pytest.raises(Refused, match='no uplink "center"; there are: centre'):
                await uplinks.retry(house, None, name="center")
            async with (
                broker(port) as far,
                Platform(far.port, tmp_path / "platform.db") as platform,
            ):
                answer = await uplinks.retry(house, None, name="centre")
                assert answer["batches"] == 1
                await platform.holds(10)
            assert recipient.outbox.most_bytes() is None

    asyncio.run(scenario())
    at = ("--config", str(tmp_path / "config.yaml"))
    told = gardien("uplink", "retry", "centre", *at)
    assert "gardien is not running, and only a running gateway delivers" in str(told.exception)


METER = """\
links: {riser: {driver: modbus-tcp, host: 127.0.0.1, port: 1}}
devices:
  m1: {link: riser, address: 1, profile: eastron-sdm120, every: 60s, place: CZS2YFSTBQQ5WDC}
"""


def with_meter(config: Path) -> None:
    config.write_text(config.read_text(encoding="utf-8") + METER, encoding="utf-8")


async def told(house: Gateway) -> dict[str, int]:
    """Slots without a value in the spool of the recipient, by reason, of one series."""
    recipient, found = house.recipients["centre"], Counter()
    while batch := await recipient.outbox.seal(Lane.BACKFILL, 2**40, 50_000, 5_000_000):
        for row in read(batch.payload):
            if row.series.channel == "elec.imp" and row.series.kind == "REG":
                found[str(row.why)] += row.span
    return found


def test_slots_of_the_weeks_without_an_uplink_are_told_as_such(tmp_path: Path):
    """Removed while the agent was down, put back later by a reload; what was before is `agent`."""
    config = configured(tmp_path, f"mqtt://127.0.0.1:{free_port()}")
    with_meter(config)
    there, now = config.read_text(encoding="utf-8"), int(time.time()) // 60 * 60

    async def scenario() -> None:
        async with at_work(config) as house:
            assert house.recipients.closing.removed("r.example") is None
        with closing(sqlite3.connect(tmp_path / "state/spool-r.example.db")) as db, db:
            db.execute("INSERT OR REPLACE INTO mark VALUES('m1', 60, ?, 1, NULL)", [now - 7_200])
        without(tmp_path)
        with_meter(config)
        async with at_work(config) as house:
            assert house.recipients.closing.removed("r.example") == pytest.approx(
                time.time(), abs=30
            )
        record = tmp_path / "state/removed.json"
        assert list(json.loads(record.read_text())) == ["r.example"]
        record.write_text(json.dumps({"r.example": now - 3_600.0}))  # an hour has gone by
        async with at_work(config) as house:
            config.write_text(there, encoding="utf-8")
            await calls.reload(house, calls.NOBODY)
            reasons = await told(house)
            assert reasons["agent"] == 59
            assert reasons["uplink"] in {60, 61}
            assert house.recipients.closing.removed("r.example") is None
            assert await asyncio.to_thread(later.settle, 60)
            assert json.loads(record.read_text()) == {}

    asyncio.run(scenario())


def test_a_closed_uplink_counts_as_removed_from_the_moment_nothing_is_kept(tmp_path: Path):
    async def scenario() -> None:
        config = configured(tmp_path, f"mqtt://127.0.0.1:{free_port()}")
        there = config.read_text(encoding="utf-8")
        async with at_work(config) as house:
            before = time.time()
            await uplinks.close(house, None, name="centre", how="drain")
            since = house.recipients.closing.removed("r.example")
            assert since is not None
            assert before <= since <= time.time()
            without(tmp_path)
            await calls.reload(house, calls.NOBODY)
            assert house.recipients.closing.removed("r.example") == since
            config.write_text(there, encoding="utf-8")
            await calls.reload(house, calls.NOBODY)
            assert house.recipients.closing.removed("r.example") is None

    asyncio.run(scenario())
