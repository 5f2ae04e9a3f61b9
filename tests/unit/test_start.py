"""A start that is told to end does so at once; what runs already ends in its own order."""

import asyncio

from agent.app import _stop_start


def test_a_start_that_hangs_is_cancelled_when_it_is_told_to_end():
    async def scenario():
        told, started = asyncio.Event(), asyncio.Event()
        serving = asyncio.ensure_future(asyncio.Event().wait())
        told.set()
        await _stop_start(told, started, serving)
        return serving.cancelled()

    assert asyncio.run(scenario())


def test_an_agent_that_has_started_is_left_to_end_by_itself():
    async def scenario():
        told, started = asyncio.Event(), asyncio.Event()
        serving = asyncio.ensure_future(asyncio.Event().wait())
        told.set(), started.set()
        await _stop_start(told, started, serving)
        running = not serving.done()
        serving.cancel()
        return running

    assert asyncio.run(scenario())
