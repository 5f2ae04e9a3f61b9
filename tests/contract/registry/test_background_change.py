"""A long list is checked and written beside the loop, which goes on reading and commanding."""

import asyncio
import time
from contextlib import nullcontext
from functools import partial

import pytest

from agent.core.atomic_write import Reserve
from agent.core.errors import Refused
from agent.registry import calls
from agent.registry.background_change import TRIES, change_in_background
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
    return partial(calls.place_import, **BY, text=text, name="p.csv", **more)


def everything(registry):
    return registry.revision, registry.places(), registry.occupancies()


def files(folder):
    return [path.name for path in folder.iterdir() if path.name != Reserve.FILE]


async def held(work):
    """What is computed while the work is under way, and the most of it between two turns of the
    loop: seconds of this process alone, whoever else keeps the machine busy.
    """
    task, began, longest = asyncio.create_task(work), time.process_time(), 0.0
    while not task.done():
        before = time.process_time()
        await asyncio.sleep(0.001)
        longest = max(longest, time.process_time() - before)
    whole = time.process_time() - began
    await asyncio.gather(task, return_exceptions=True)
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
    assert files(tmp_path) == ["registry.json"]


@pytest.mark.parametrize("more", [{"rows": ["B;dweling"]}, {"preview": True}])
def test_what_is_refused_or_only_looked_at_leaves_nothing(registry, tmp_path, more):
    registry.add_places([NewPlace("Z", "dwelling")], *OTHERS)
    before = everything(registry)
    with nullcontext() if "preview" in more else pytest.raises(Refused, match=r"p\.csv:5:"):
        asyncio.run(change_in_background(registry, of(3, **more)))
    assert everything(registry) == before
    assert files(tmp_path) == ["registry.json"]


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
    assert files(tmp_path) == ["registry.json"]


def test_what_others_record_meanwhile_is_checked_against(registry, tmp_path):
    async def run():
        await disturbed(registry, of(2), NewPlace("A-1", "common"))

    with pytest.raises(Refused, match=r'p\.csv:3: "A-1" exists already'):
        asyncio.run(run())
    assert [place.label for place in registry.places()] == ["A-1"]
    assert files(tmp_path) == ["registry.json"]


def test_who_is_overtaken_each_time_is_told(registry, tmp_path):
    async def run():
        await disturbed(registry, of(2), *(NewPlace(f"Z-{n}", "dwelling") for n in range(TRIES)))

    with pytest.raises(Refused, match="try again"):
        asyncio.run(run())
    assert len(registry.places()) == TRIES
    assert files(tmp_path) == ["registry.json"]
