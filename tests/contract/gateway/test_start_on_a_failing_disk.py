"""What a start on a failing disk leaves open is decided when a spool is opened."""

import asyncio

import pytest

from agent.app import opened
from agent.config import load
from agent.core.errors import Refused
from agent.gateway.recipient import memory_of, open_recipient
from agent.registry import identity
from agent.registry.inputs import NewPlace

CONFIG = """\
building: {{name: Les Alpins}}
uplinks:
  centre: {{recipient: centre.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}}
privacy: {{policy: FR-1}}
clock: {{source: system}}
state: {state}
"""
SPOOL = "spool-centre.example.db"


@pytest.fixture
def config(tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    identity.mint(tmp_path / "state")
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.format(state=tmp_path / "state"), encoding="utf-8")
    return load(file)


async def opens(gateway):
    """Open the recipient. Returns whether its marks may be on a disk that cannot be read."""
    async with open_recipient(gateway, "centre") as recipient:
        return recipient.ledger.marks_unknown


def test_a_spool_that_was_not_compared_with_the_registry_is_compared_as_it_is_opened(config):
    """Rules A16, T7: the registry may lack withdrawals."""
    with opened(config) as gateway:
        gateway.registry.add_places([NewPlace("A-1", "D")], "me", "a test", gateway.clock.now())
        asyncio.run(opens(gateway))
    for file in config.state.glob("registry*"):
        file.unlink()
    spool = (config.state / SPOOL).rename(config.state / "away")
    with opened(config) as gateway:  # as if the disk had not answered when it was looked for
        spool.rename(config.state / SPOOL)
        with pytest.raises(Refused, match="applied change 1, but the registry ends at change 0"):
            asyncio.run(opens(gateway))


def test_a_spool_in_memory_knows_that_the_marks_are_on_the_disk(config):
    """Rule A17."""
    with opened(config) as gateway:
        assert not asyncio.run(opens(gateway))
        gateway.registry.mute = True
        assert asyncio.run(opens(gateway))


def test_what_memory_has_closed_is_kept_until_the_disk_has_it(config):
    """Rules A4, M10: a kill before that must not have the running slot read again."""
    file = memory_of(config.state, "centre.example")
    with opened(config) as gateway:
        gateway.registry.mute = True
        asyncio.run(opens(gateway))
    assert file.exists()

    async def begins_and_goes_on(gateway):
        async with open_recipient(gateway, "centre") as recipient:
            assert not recipient.kept
            assert file.exists(), "though all of it is delivered"
        async with open_recipient(gateway, "centre", recipient) as again:
            assert again is recipient
        assert not file.exists()

    with opened(config) as gateway:
        asyncio.run(begins_and_goes_on(gateway))
