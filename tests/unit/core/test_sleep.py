"""How tasks sleep until something changes or is due (docs/decisions/058)."""

import asyncio
import math
import time

import pytest

from agent.core.clock import Clock, told_by_kernel
from agent.core.tasks import Change, Wakeup, pause, to_next, until
from tests import virtual_time


def now():
    return asyncio.get_running_loop().time()


def test_a_change_wakes_all_who_depend_on_it_and_nobody_else():
    async def story():
        clock, registry, woken = Change(), Change(), []

        async def task(name, *changes):
            await Wakeup(*changes).wait()
            woken.append(name)

        tasks = [
            asyncio.ensure_future(task(*one))
            for one in (("a", clock, registry), ("b", registry), ("c", clock))
        ]
        await asyncio.sleep(1)
        registry.tell()
        await asyncio.sleep(1)
        assert woken == ["a", "b"]
        assert clock.waiting
        assert not registry.waiting
        tasks[2].cancel()
        await asyncio.wait(tasks)
        assert not clock.waiting, "who was cancelled does not wait any more"

    virtual_time.run(story())


def test_what_changes_while_a_task_works_ends_its_next_sleep_at_once():
    async def story():
        change = Change()
        wakeup, began = Wakeup(change), now()
        change.tell()
        await wakeup.wait()
        assert now() == began
        await wakeup.wait(5.0)
        assert now() == began + 5, "once"
        change.tell()
        wakeup.look()
        await wakeup.wait(5.0)
        assert now() == began + 10, "it looked after the change"

    virtual_time.run(story())


def test_a_task_that_is_due_already_lets_the_others_run():
    async def story():
        ran = []
        asyncio.get_running_loop().call_soon(ran.append, 1)
        await Wakeup().wait(-1.0)
        assert ran

    virtual_time.run(story())


def test_an_event_ends_a_wait_and_so_does_the_time():
    async def story():
        event, began = asyncio.Event(), now()
        assert not await until(event, 3.0)
        assert now() == began + 3
        asyncio.get_running_loop().call_later(2, event.set)
        assert await until(event, math.inf)
        assert now() == began + 5

    virtual_time.run(story())


def test_looks_of_one_period_and_of_its_multiples_share_their_moments():
    async def story():
        moments = set()

        async def looks(begin, period):
            await asyncio.sleep(begin)
            for _ in range(int(60 / period)):
                await pause(period)
                moments.add(round(now(), 6) % 60)

        await asyncio.gather(looks(0.1, 15), looks(3.7, 30), looks(11.0, 60))
        assert moments == {0, 15, 30, 45}
        await pause(15.0)
        assert to_next(15.0) == pytest.approx(15.0), "not at once again"

    virtual_time.run(story())


def test_the_kernel_calls_when_its_timer_is_ready():
    """As after a setting of the clock, which no test may make: here the time itself comes."""

    async def story():
        called = asyncio.Event()
        with told_by_kernel(called.set, int(time.time()) + 1) as told:
            assert told
            await asyncio.wait_for(called.wait(), 30)
            called.clear()
            await asyncio.sleep(0)
            assert not called.is_set(), "once"
        with told_by_kernel(called.set) as told:
            assert told
        assert not called.is_set()

    asyncio.run(story())


def test_a_loop_that_cannot_watch_files_is_told_nothing():
    class Bare(virtual_time.VirtualLoop):
        def add_reader(self, *_):
            if not hasattr(self, "_ready_made"):
                return super().add_reader(*_)
            raise NotImplementedError

    async def story():
        asyncio.get_running_loop()._ready_made = True
        with told_by_kernel(lambda: None) as told:
            assert not told

    virtual_time.run(story(), Bare)


def test_a_step_wakes_who_sleeps_until_a_time_of_the_clock():
    """Rule C8: at once if somebody tells, else within a second."""

    class Told:
        def __init__(self, tells):
            self.tells, self.tell = tells, lambda: None

        def __call__(self, tell):
            self.tell = tell
            return self

        def __enter__(self):
            return self.tells

        def __exit__(self, *_):
            pass

    async def story(tells):
        told, ahead = Told(tells), 0.0
        clock = Clock("system", wall=lambda: 1e9 + ahead + now(), steady=now, watch=told)
        serving = asyncio.ensure_future(clock.serve())
        await asyncio.sleep(1.0)
        wakeup, due = Wakeup(clock.changed), clock.now() + 1_000
        began, looks = now(), 0

        async def sleeps():
            nonlocal looks
            while (left := due - clock.now()) > 0:
                await wakeup.wait(clock.bound(left))
                looks += 1

        sleeping = asyncio.ensure_future(sleeps())
        await asyncio.sleep(100.5)
        assert looks == 0, "only the clock itself looks"
        ahead = 3_600.0
        if tells:
            told.tell()
        await sleeping
        assert now() - began <= 100.5 if tells else now() - began <= 101.5
        serving.cancel()

    for tells in (True, False):
        virtual_time.run(story(tells))


def test_who_waits_until_the_clock_dates_again_is_woken_within_a_second():
    """Here the closed slots lie in its future for a while; nothing announces the end of that."""

    async def story():
        clock = Clock("system", wall=lambda: 1e9 + now(), steady=now)
        serving = asyncio.ensure_future(clock.serve())
        await asyncio.sleep(1.0)
        clock.closed_to(clock.now() + 50.0)
        wakeup, began, looks = Wakeup(clock.changed), now(), 0
        while not clock.dates:
            await wakeup.wait(clock.bound(1_000.0))
            looks += 1
        assert 50.0 <= now() - began <= 51.0
        assert looks <= 2, "only the clock itself looks"
        serving.cancel()

    virtual_time.run(story())


def test_a_clock_that_is_not_the_machines_has_nobody_who_tells():
    clock = Clock("system", wall=lambda: 1e9, steady=lambda: 1.0)
    assert clock.bound(3_600.0) == 1.0
    assert clock.bound(0.5) == 0.5
    assert clock.bound(-5.0) == 1.0, "what is due waits for the clock, and must not spin"
