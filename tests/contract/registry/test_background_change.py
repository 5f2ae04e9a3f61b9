"""A long list is checked and written beside the loop, which goes on reading and commanding."""

import asyncio
import fnmatch
import gc
import os
import time
from contextlib import nullcontext
from functools import partial

import pytest

from agent.api import facts
from agent.core.atomic_write import Reserve
from agent.core.errors import NotRecorded, Refused
from agent.registry.background_change import SHORT, TRIES, change_in_background, fold_log
from agent.registry.inputs import NewPlace
from agent.registry.registry import Registry

BY = {"who": "alice", "now": 1_790_000_000.0, "zone": "Europe/Paris"}
OTHERS = ("bob", "a test", 1_790_000_001.0)


@pytest.fixture
def registry(tmp_path):
    return Registry.open(tmp_path / "registry.json")


def of(lines, **more):
    """A call that brings a list of so many dwellings."""
    rows = [f"A-{n};dwelling" for n in range(lines)]
    text = "\n".join(["label;type", *rows, *more.pop("rows", ())])
    return partial(facts.place_import, **BY, text=text, name="p.csv", **more)


def everything(registry):
    return registry.revision, registry.places(), registry.occupancies()


def drafts(folder):
    """What is neither the registry's nor of its one log."""
    names = {path.name for path in folder.iterdir()} - {"registry.json", Reserve.FILE}
    (log,) = fnmatch.filter(names, "registry-*.log")
    return names - {log}


async def held(work):
    """What is computed while the work is under way, and the most of it between two turns of the
    loop: seconds of this process alone, whoever else keeps the machine busy. What other tests have
    left in memory is kept from the garbage collector meanwhile: a pass over it takes 40 ms.
    """
    gc.freeze()
    task, began, longest = asyncio.create_task(work), time.process_time(), 0.0
    while not task.done():
        before = time.process_time()
        await asyncio.sleep(0.001)
        longest = max(longest, time.process_time() - before)
    whole = time.process_time() - began
    await asyncio.gather(task, return_exceptions=True)
    gc.unfreeze()
    return whole, longest


@pytest.mark.parametrize("more", [{"rows": ["B;dweling"]}, {"preview": True}, {}])
def test_the_loop_turns_while_a_long_list_is_checked_and_written(registry, more):
    whole, longest = asyncio.run(held(change_in_background(registry, of(10_000, **more))))
    assert longest < whole / 2


def test_what_was_made_beside_holds_and_is_on_the_disk(registry, tmp_path):
    asyncio.run(change_in_background(registry, of(3)))
    assert [place.label for place in registry.places()] == ["A-0", "A-1", "A-2"]
    assert everything(Registry.open(tmp_path / "registry.json")) == everything(registry)
    registry.add_places([NewPlace("Z", "dwelling")], *OTHERS)
    assert everything(Registry.open(tmp_path / "registry.json")) == everything(registry)
    assert drafts(tmp_path) == set()


@pytest.mark.parametrize("more", [{"rows": ["B;dweling"]}, {"preview": True}])
def test_what_is_refused_or_only_looked_at_leaves_nothing(registry, tmp_path, more):
    registry.add_places([NewPlace("Z", "dwelling")], *OTHERS)
    before = everything(registry)
    with nullcontext() if "preview" in more else pytest.raises(Refused, match=r"p\.csv:5:"):
        asyncio.run(change_in_background(registry, of(3, **more)))
    assert everything(registry) == before
    assert drafts(tmp_path) == set()


def disturbed(registry, change, *theirs):
    """A change while which others record places, one at each try."""
    loop, left = asyncio.get_running_loop(), list(theirs)

    async def record():
        registry.add_places([left.pop(0)], *OTHERS)

    def made(draft):
        answer = change(draft)
        if left:
            asyncio.run_coroutine_threadsafe(record(), loop).result()
        return answer

    return change_in_background(registry, made)


def test_what_others_record_meanwhile_is_not_lost(registry, tmp_path):
    async def run():
        await disturbed(registry, of(2), NewPlace("Z", "dwelling"))

    asyncio.run(run())
    assert [place.label for place in registry.places()] == ["A-0", "A-1", "Z"]
    assert everything(Registry.open(tmp_path / "registry.json")) == everything(registry)
    assert drafts(tmp_path) == set()


def test_what_others_record_meanwhile_is_checked_against(registry, tmp_path):
    async def run():
        await disturbed(registry, of(2), NewPlace("A-1", "common"))

    with pytest.raises(Refused, match=r'p\.csv:3: "A-1" exists already'):
        asyncio.run(run())
    assert [place.label for place in registry.places()] == ["A-1"]
    assert drafts(tmp_path) == set()


def test_who_is_overtaken_each_time_is_told(registry, tmp_path):
    async def run():
        await disturbed(registry, of(2), *(NewPlace(f"Z-{n}", "dwelling") for n in range(TRIES)))

    with pytest.raises(Refused, match="try again"):
        asyncio.run(run())
    assert len(registry.places()) == TRIES
    assert drafts(tmp_path) == set()


def test_a_long_list_is_a_new_snapshot_and_a_short_one_a_line(registry, tmp_path):
    asyncio.run(change_in_background(registry, of(1)))
    path = tmp_path / "registry.json"
    before = path.read_bytes()
    asyncio.run(change_in_background(registry, of(0, rows=["B;dwelling"])))
    assert path.read_bytes() == before
    asyncio.run(change_in_background(registry, of(SHORT + 1, rows=["C;dwelling"])))
    assert path.stat().st_size > len(before) + 100 * SHORT
    assert everything(Registry.open(path)) == everything(registry)
    assert drafts(tmp_path) == set()


def test_a_log_is_folded_while_the_loop_turns(registry, tmp_path):
    # long against the 5 ms and more after which a thread gives way, beside other work too
    path = tmp_path / "registry.json"
    asyncio.run(change_in_background(registry, of(40_000)))
    for n in range(3):
        registry.add_places([NewPlace(f"Z-{n}", "dwelling")], *OTHERS)
    (log,) = tmp_path.glob("registry-*.log")
    before, answers = path.stat().st_size, everything(registry)
    whole, longest = asyncio.run(held(fold_log(registry)))
    assert longest < whole / 2
    assert path.stat().st_size > before
    assert not log.exists()
    assert everything(registry) == everything(Registry.open(path)) == answers
    registry.add_places([NewPlace("Y", "dwelling")], *OTHERS)
    assert everything(Registry.open(path)) == everything(registry)
    assert drafts(tmp_path) == set()


def test_what_others_record_while_a_log_is_folded_is_not_lost(registry, tmp_path):
    async def run():
        registry.add_places([NewPlace("A", "dwelling")], *OTHERS)
        folded = asyncio.create_task(fold_log(registry))
        await asyncio.sleep(0)  # the thread has begun
        registry.add_places([NewPlace("B", "dwelling")], *OTHERS)
        return await folded

    assert asyncio.run(run()) is False
    assert [place.label for place in Registry.open(tmp_path / "registry.json").places()] == [
        "A",
        "B",
    ]
    assert drafts(tmp_path) == set()


def test_a_disk_that_refuses_the_snapshot_leaves_the_log_in_force(tmp_path):
    path, broken = tmp_path / "registry.json", []

    def fsync(descriptor):
        if broken:
            raise OSError(28, "No space left on device")
        os.fsync(descriptor)

    registry = Registry(path, fsync)
    registry.add_places([NewPlace("A", "dwelling")], *OTHERS)
    registry.add_places([NewPlace("B", "dwelling")], *OTHERS)
    broken.append(True)
    with pytest.raises(NotRecorded):
        asyncio.run(fold_log(registry))
    assert registry.written
    broken.clear()
    registry.add_places([NewPlace("C", "dwelling")], *OTHERS)
    assert everything(Registry.open(path)) == everything(registry)
    assert drafts(tmp_path) == set()
