"""A change of a recipient's account and the hand-over of its rows are one step."""

import asyncio
from types import SimpleNamespace as Facts

import pytest

from agent.acquisition.ingest import Ingest, SlotAccount
from agent.core.model import SlotMark
from agent.core.tasks import Faults
from tests.unit.acquisition.test_ingest import Failing, row

KEY = ("a", 10)


@pytest.mark.parametrize("before", [None, SlotMark(0, heard=True)])
def test_a_mark_that_was_moved_before_an_error_is_moved_back_and_the_error_noted(before):
    async def scenario():
        faults, disk = Faults(), Failing()
        account = account_of(disk, before)

        def change():
            account.ledger.marks[KEY] = SlotMark(20, heard=True)
            raise KeyError("nobody")

        assert not account.take(KEY, change, faults)
        assert account.ledger.marks.get(KEY) == before
        assert [(one.component, one.uplink) for one in faults.all()] == [("rows centre", "centre")]
        assert account.take(KEY, lambda: closed(account), faults)
        assert not faults.all()
        await account.ingest.commit()
        assert disk.commits == [([row(10)], {KEY: SlotMark(10, heard=True)})]

    asyncio.run(scenario())


def test_whoever_waits_for_room_has_handed_over_his_rows_with_their_mark():
    async def scenario():
        disk = Failing()
        account = account_of(disk, SlotMark(0, heard=True), room=1)
        account.ingest.take([row(0)], {})
        assert account.take(KEY, lambda: closed(account), Faults())
        waits = asyncio.create_task(account.ingest.room())
        await asyncio.sleep(0)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert account.ledger.marks[KEY].slot == 10
        await account.ingest.commit()
        assert disk.commits == [([row(0), row(10)], {KEY: SlotMark(10, heard=True)})]
        async with asyncio.timeout(10):
            await account.ingest.room()

    asyncio.run(scenario())


def account_of(disk, before, room=100):
    intake = Ingest(disk.append, flush=60, room=room, uplink="centre")
    return SlotAccount(Facts(marks={KEY: before} if before else {}), intake)


def closed(account):
    account.ledger.marks[KEY] = SlotMark(10, heard=True)
    return [row(10)]
