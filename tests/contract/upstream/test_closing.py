"""An uplink is taken out of the file without losing what waits for its recipient (invariant 1)."""

import asyncio
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent import calls
from agent.cli import app
from agent.config.check import check
from agent.errors import Refused
from agent.house import House
from agent.model import Lane
from agent.upstream import uplinks
from hil.broker import broker
from hil.platform.child import Platform
from hil.process import free_port
from tests.contract.upstream.running import at_work, configured, owed, put, settled

NOW = int(time.time())
WITHOUT = """\
building: {{name: Les Alpins}}
clock: {{source: system}}
state: {state}
spool: {{max: 50MB, flush: 200ms}}
"""


async def epoch(house: House) -> str:
    outlet = house.outlets["centre"]
    return await outlet.thread.run(lambda: outlet.spool.epoch)


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
    assert "5 values still wait for r.example, which no uplink names any more" in said

    at = ("--config", str(tmp_path / "config.yaml"))
    shown = CliRunner().invoke(app, ["uplink", "list", *at])
    assert "5 values for r.example" in shown.output
    drained = CliRunner().invoke(app, ["uplink", "close", "r.example", "--drain", *at])
    assert drained.exit_code == 1
    assert check(tmp_path / "config.yaml")[0] == 1, "nothing was lost by asking"
    dropped = CliRunner().invoke(app, ["uplink", "close", "r.example", "--drop", "--yes", *at])
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
                assert "r.example" in house.closing, "a restart does not reopen it"
                assert all(line.poller.accounts == [] for line in house.lines.values())
                await settled(house)
                assert (await platform.report())["rows"] == 5
                without(tmp_path)
                await calls.reload(house, calls.NOBODY)
                assert "r.example" not in house.closing
                assert house.outlets == {}

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


def test_batches_that_were_refused_are_sent_again_by_word(tmp_path: Path):
    port = free_port()

    async def scenario() -> None:
        async with at_work(configured(tmp_path, f"mqtt://127.0.0.1:{port}")) as house:
            await put(house, 5)
            outlet = house.outlets["centre"]
            batch = await outlet.outbox.seal(Lane.BACKFILL, 2**40, 5_000, 48_000)
            assert batch is not None
            await outlet.outbox.quarantine(batch.id, "the platform refuses the batch: 400")
            said = (await calls.status(house, calls.NOBODY))["uplinks"]["centre"]
            assert said["backlog"]["quarantined_why"] == "the platform refuses the batch: 400"
            assert said["largest_batch"] is None
            with pytest.raises(Refused, match='no uplink "center"; there are: centre'):
                await uplinks.retry(house, None, name="center")
            async with (
                broker(port) as far,
                Platform(far.port, tmp_path / "platform.db") as platform,
            ):
                answer = await uplinks.retry(house, None, name="centre")
                assert answer["batches"] == 1
                await platform.holds(5)

    asyncio.run(scenario())
    at = ("--config", str(tmp_path / "config.yaml"))
    told = CliRunner().invoke(app, ["uplink", "retry", "centre", *at])
    assert "gardien is not running: start it" in str(told.exception)
