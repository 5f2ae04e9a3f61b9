"""A1: what people ask of a gateway is answered while its disk does not answer."""

import asyncio
import threading

import pytest

from agent.core.atomic_write import SILENT
from agent.core.errors import StorageFailed
from agent.gateway.disk import StateDisk


@pytest.fixture
def disk(tmp_path):
    return StateDisk(tmp_path, lambda: 0.0)


def test_a_look_at_files_does_not_wait_for_a_disk_that_hangs(disk):
    answers, calls = threading.Event(), []

    def look():
        calls.append(1)
        answers.wait()
        return len(calls)

    async def asked():
        for _ in range(3):  # only the first one begins: no more threads wait than one
            with pytest.raises(StorageFailed, match=str(SILENT)):
                await disk.read(look, patience=0.1)
        assert len(calls) == 1
        answers.set()
        while True:
            try:
                return await disk.read(look, patience=0.1)
            except StorageFailed:
                await asyncio.sleep(0)

    assert asyncio.run(asked()) == 2


def test_a_look_waits_for_no_other_kind_of_look(disk):
    answers = threading.Event()

    async def asked():
        slow = asyncio.create_task(disk.read(wait, patience=60.0))
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(5):
                assert await disk.read(int, "1") == 1
        finally:
            answers.set()
        return await slow

    def wait():
        return answers.wait()

    assert asyncio.run(asked())


def test_each_look_at_files_gets_its_own_answer(disk):
    async def asked():
        return await asyncio.gather(*(disk.read(int, text) for text in "123"))

    assert asyncio.run(asked()) == [1, 2, 3]


def test_an_error_of_a_look_at_files_reaches_who_asked(disk):
    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(disk.read(int, "no number"))
    assert asyncio.run(disk.read(int, "1")) == 1
