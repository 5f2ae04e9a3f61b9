"""A thread whose calls wait for a disk: one that does not answer is not waited for."""

import asyncio
import threading
from contextlib import contextmanager, nullcontext

import pytest

from agent.buffer.database import DiskThread, OneThread, _report_answer, in_own_thread
from agent.core.errors import StorageFailed


def disk_thread():
    return DiskThread("spool", stalled_after=0.2)


def test_a_disk_that_does_not_answer_is_a_failure_of_all_calls_and_not_waited_for():
    """Rule A1."""
    stuck, made = threading.Event(), []

    async def main():
        thread = disk_thread()
        first = asyncio.ensure_future(thread.run(stuck.wait, 60))
        second = asyncio.ensure_future(thread.run(made.append, "second"))
        for call in (first, second):
            with pytest.raises(StorageFailed, match="does not answer"):
                await call
        with pytest.raises(StorageFailed):
            await thread.run(made.append, "third")
        await thread.leave(lambda: made.append("last"))
        assert not thread.over
        assert not made
        stuck.set()
        while not thread.over:
            await asyncio.sleep(0.01)
        assert made == ["last"]  # what had not begun was not made

    asyncio.run(main())


def test_a_long_call_that_the_disk_goes_on_answering_is_waited_for():
    def long():
        for _ in range(30):
            threading.Event().wait(0.02)
            _report_answer()
        return "done"

    async def main():
        thread = disk_thread()
        assert await thread.run(long) == "done"
        await thread.leave(int)

    asyncio.run(main())


def test_a_call_that_says_that_the_disk_fails_is_the_last():
    """Rule A5."""

    def fails():
        raise StorageFailed("the disk reports errors")

    async def main():
        thread = disk_thread()
        with pytest.raises(StorageFailed):
            await thread.run(fails)
        with pytest.raises(StorageFailed, match="reports errors"):
            await thread.run(int)
        await thread.leave(int)

    asyncio.run(main())


def test_what_was_being_opened_when_the_disk_froze_is_closed_when_it_thaws():
    stuck, said = threading.Event(), []

    @contextmanager
    def spool():
        stuck.wait(60)
        said.append("open")
        yield said
        said.append("closed")

    async def main():
        with pytest.raises(StorageFailed):
            async with in_own_thread("spool", spool, disk_thread()):
                pytest.fail("it is not open")
        assert not said
        stuck.set()
        async with asyncio.timeout(60):
            while said != ["open", "closed"]:
                await asyncio.sleep(0.01)

    asyncio.run(main())


def test_a_cancelled_call_is_waited_for_and_a_stuck_one_is_not():
    stuck = threading.Event()

    async def main():
        thread = disk_thread()
        call = asyncio.ensure_future(thread.run(stuck.wait, 60))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        stuck.set()
        await thread.leave(int)

    asyncio.run(main())


def test_who_asks_what_is_closed_in_between_hears_of_storage():
    """Rule A1."""

    async def main():
        async with in_own_thread("spool", lambda: nullcontext("open")) as (_, thread):
            pass
        with pytest.raises(StorageFailed, match="closed"):
            await thread.run(list)

    asyncio.run(main())


@pytest.mark.parametrize("kind", [OneThread, DiskThread])
def test_who_asks_what_is_being_closed_hears_of_storage(kind):
    """Rule A1: the call would find a file that is closed."""
    may_close, made = threading.Event(), []

    async def main():
        thread = kind("spool")
        closing = asyncio.ensure_future(thread.leave(lambda: may_close.wait(60)))
        await asyncio.sleep(0)
        late = asyncio.ensure_future(thread.run(made.append, "late"))
        await asyncio.sleep(0)
        may_close.set()
        with pytest.raises(StorageFailed, match="closed"):
            await late
        await closing
        assert not made

    asyncio.run(main())


def test_who_is_cancelled_again_and_again_waits_no_longer_for_a_disk_that_does_not_answer():
    """Rule A1: whoever stops a task cancels it until it has ended."""
    stuck = threading.Event()

    async def main():
        thread = disk_thread()
        call = asyncio.ensure_future(thread.run(stuck.wait, 60))
        for _ in range(200):
            await asyncio.wait([call], timeout=0.05)
            if call.done():
                break
            call.cancel()
        assert call.cancelled()
        assert thread.failed
        stuck.set()
        thread.close()

    asyncio.run(main())
