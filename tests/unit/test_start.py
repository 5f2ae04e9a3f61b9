"""A start that is told to end does so at once; what runs already ends in its own order."""

import asyncio
from pathlib import Path

import pytest

from agent import app
from agent.app import _stop_start
from agent.config import load
from agent.core.errors import NotRecorded, Refused
from agent.core.state import AGENT, owned
from agent.core.tasks import Wakeup, end
from agent.registry import identity
from tests.virtual_time import PatientLoop, clocks_at, run


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


UNREADABLE = Path("/proc/self/mem")
"""a file of which the first byte cannot be read: EIO"""


@pytest.mark.parametrize("name", ["keys/identity.json", "audit/000000000001.jsonl"])
def test_a_start_from_a_disk_that_cannot_be_read_is_refused_and_blames_no_file(tmp_path, name):
    """Rules A1, A16."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    identity.mint(state)
    config = tmp_path / "config.yaml"
    config.write_text(f"building: {{name: Les Alpins}}\nstate: {state}\n", encoding="utf-8")
    with app.opened(load(config)) as gateway:
        gateway.audit("test", {})
    (state / name).unlink()
    (state / name).symlink_to(UNREADABLE)
    with (
        pytest.raises(Refused, match="the disk reports errors") as refused,
        app.opened(load(config)),
    ):
        pass
    assert "damaged" not in str(refused.value)


def test_a_start_that_fails_for_another_reason_names_that(tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    identity.mint(state)
    (state / "keys" / "identity.json").unlink()
    config = tmp_path / "config.yaml"
    config.write_text(f"building: {{name: Les Alpins}}\nstate: {state}\n", encoding="utf-8")
    with pytest.raises(Refused, match="is damaged"), app.opened(load(config)):
        pass


def test_a_small_file_is_read_as_soon_as_the_disk_can_read_it(tmp_path):
    """Rule A18."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    config = tmp_path / "config.yaml"
    config.write_text(f"building: {{name: Les Alpins}}\nstate: {state}\n", encoding="utf-8")
    (state / "moves.json").symlink_to(UNREADABLE)

    async def scenario(gateway):
        tending = asyncio.ensure_future(app._tend_storage(gateway))
        wakeup = Wakeup(gateway.moves.changed)
        with pytest.raises(NotRecorded):
            gateway.moves.order("a", "mqtts://a", "mqtts://b", 1e9)
        (state / "moves.json").unlink()
        await wakeup.wait()
        gateway.moves.order("a", "mqtts://a", "mqtts://b", 1e9)
        await end([tending])

    with clocks_at(1e9, PatientLoop) as play, app.opened(load(config)) as gateway:
        play(scenario(gateway))
    assert "mqtts://b" in (state / "moves.json").read_text(encoding="utf-8")
