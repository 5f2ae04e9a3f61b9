"""What the keeper of clock periods says while a spool cannot record one."""

import asyncio
import logging
from types import SimpleNamespace

from agent.acquisition.timekeeper import Timekeeper
from agent.core.errors import StorageFailed


def test_a_spool_that_cannot_record_the_period_is_logged_once(caplog):
    """Rule C2: it is tried again each second."""
    failing = [True]

    async def commit():
        if failing[0]:
            raise StorageFailed("the disk does not answer")

    async def enter(_period, *, agreed):
        assert not agreed

    clock = SimpleNamespace(
        entered=False, agreed=False, believed=True, steps=[], period=1, await_entry=lambda: None,
        closed_to=lambda _highest: None, let_in=lambda _number, _highest: None,
    )  # fmt: skip
    intake = SimpleNamespace(commit=commit, waits=0)
    book = SimpleNamespace(ingest=intake, enter=enter, highest=0)

    async def main():
        keeper = Timekeeper(clock, lambda: [book], list)
        for failing[0] in (True, True, True, False, True, True):
            await keeper.look()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
