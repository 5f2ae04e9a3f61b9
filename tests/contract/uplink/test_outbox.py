"""What people took back while the agent was down is applied before anything is sealed or sent.
Guards rule G3 (rules T2, T7)."""

import asyncio
from pathlib import Path

import pytest

from agent.buffer.batch import read
from agent.core.clock import Clock, ClockEvidence
from agent.core.errors import Refused
from agent.core.model import Lane
from agent.uplink.outbox import SpoolOutbox
from tests.contract.uplink.house import house, series
from tests.contract.uplink.test_by_broker import Registry


@pytest.mark.parametrize("first", ["seal", "unreceipted"])
def test_whatever_is_asked_first_after_a_start_knows_what_was_taken_back(
    tmp_path: Path, first: str
):
    async def scenario() -> None:
        registry = Registry()
        async with house(tmp_path) as at:
            await at.read(slot=1_764_000_000)
            assert await at.outbox.seal(Lane.LIVE, 0, 5_000, 48_000)
            await at.read(slot=1_764_000_001)
        registry.withdraw(3)
        async with house(tmp_path) as at:
            outbox = SpoolOutbox(at.spool, at.thread, at.clock, bases=registry)
            assert outbox.behind
            if first == "seal":
                told = await outbox.seal(Lane.LIVE, 0, 5_000, 48_000)
                assert told is not None
                assert told.rows == 0, "first what is to be erased"
                fresh = await outbox.seal(Lane.LIVE, 0, 5_000, 48_000)
                assert fresh is not None
                assert series(3).place not in {row.series.place for row in read(fresh.payload)}
                assert fresh.rows == 9
            else:
                (void,) = await outbox.unreceipted()
                assert void.void is not None
            assert not outbox.behind

    asyncio.run(scenario())


def test_a_registry_older_than_the_spool_is_refused_and_asked_no_more(tmp_path: Path):
    """Rule K15."""

    async def scenario() -> None:
        registry = Registry()
        registry.withdraw(3)
        async with house(tmp_path) as at:
            await SpoolOutbox(at.spool, at.thread, at.clock, bases=registry).catch_up()
            older = SpoolOutbox(at.spool, at.thread, at.clock, bases=Registry())
            async with asyncio.timeout(10):
                with pytest.raises(Refused, match="Put the newer registry"):
                    await older.catch_up()

    asyncio.run(scenario())


def test_nothing_is_sealed_while_the_clock_is_untrusted(tmp_path: Path):
    """Rule C12."""

    async def scenario() -> None:
        kept = False
        clock = Clock("ntp", evidence=lambda: ClockEvidence(kept, None), rtc=lambda: None)
        async with house(tmp_path) as at:
            await at.read()
            outbox = SpoolOutbox(at.spool, at.thread, clock)
            assert await outbox.seal(Lane.LIVE, 0, 5_000, 48_000) is None
            kept = True
            assert await outbox.seal(Lane.LIVE, 0, 5_000, 48_000)

    asyncio.run(scenario())
