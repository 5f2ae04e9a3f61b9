"""A start that is told to end does so at once; what runs already ends in its own order."""

import asyncio

from agent import app
from agent.app import _stop_start
from agent.core.state import AGENT, owned
from tests.virtual_time import run


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


def test_an_agent_ends_when_the_lock_of_its_state_is_lost_and_not_before(tmp_path):
    async def scenario(lose):
        told = asyncio.Event()
        with owned(tmp_path, AGENT) as holds:
            asyncio.get_running_loop().call_later(1.5 * app.LOCK_LOOK, lose or told.set)
            return await app._until_stopped(told, holds, tmp_path)

    def replaced():
        (tmp_path / "lock").unlink()
        (tmp_path / "lock").touch()

    assert run(scenario(None)) == ""
    assert "Another agent may own the state" in run(scenario(replaced))
    assert "was removed" in run(scenario((tmp_path / "lock").unlink))
