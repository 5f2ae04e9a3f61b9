"""Findings are acknowledged over the calls and the command, by those whom they concern."""

import asyncio
from dataclasses import replace

import pytest

from agent.api.calls import CALLS
from agent.api.registry import Caller
from agent.api.roles import Role
from agent.app import visited
from agent.core.errors import Refused
from agent.core.finding import Finding
from agent.gateway.delivery import _events
from agent.registry import identity
from tests.command import gardien

CONFIG = """\
building: {{name: Test}}
links: {{riser: {{driver: modbus-tcp, host: 127.0.0.1, port: 9}}}}
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120}}
uplinks: {{centre: {{recipient: r.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}}}}
clock: {{source: system}}
state: {state}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(state=tmp_path / "state"))
    (tmp_path / "state").mkdir(mode=0o700)
    identity.mint(tmp_path / "state")
    return path


def made(config, story):
    async def opened():
        async with visited(config) as house:
            for device in house.lines.devices():
                device.serial, device.answered = "4711", house.clock.now()
            return await story(house)

    return asyncio.run(opened())


INSTALLER = Caller("marie", None, frozenset({Role.INSTALLER}))
MANAGER = replace(INSTALLER, who="alice", roles=frozenset({Role.MANAGER}))
OPERATOR = replace(INSTALLER, who="omar", roles=frozenset({Role.OPERATOR}))
READER = replace(INSTALLER, who="paul", roles=frozenset({Role.READER}))


async def finding(house, caller=INSTALLER, code="unassigned"):
    events = map(Finding.of, (await CALLS["status"](house, caller))["events"])
    return next(one for one in events if one.code == code)


def test_who_may_acknowledge_and_everybody_sees_by_whom(config):
    async def story(house):
        call, wanted = CALLS["finding.acknowledge"], await finding(house)
        args = {"finding": wanted.id, "note": "Mme Roux's meter, Tuesday"}
        with pytest.raises(Refused, match="for others to acknowledge"):
            await call(house, OPERATOR, **args)
        with pytest.raises(Refused, match="give your name"):
            await call(house, replace(INSTALLER, who="root"), **args)
        for wrong in ({"days": 31}, {"days": -1}, {"note": " "}, {"note": "x" * 201},
                      {"finding": ""}, {"finding": "nowhere"}):  # fmt: skip
            with pytest.raises(Refused):
                await call(house, INSTALLER, **args | wrong)
        assert (await finding(house)).fine is False
        answer = await call(house, MANAGER, **args)
        assert not answer["counts"]
        known = await finding(house)
        assert known.fine
        assert known.acknowledged.who == "alice"
        assert known.acknowledged.note == "Mme Roux's meter, Tuesday"
        status = await CALLS["status"](house, INSTALLER)
        first = _events(status, "centre")
        for event in status["events"]:
            event["acknowledged"] = None
        assert _events(status, "centre") == first, "platforms see no difference"
        seen = await finding(house, READER)
        assert seen.acknowledged.note == ""
        assert seen.acknowledged.who == "alice"
        with pytest.raises(Refused, match="begins with"):
            await call(house, INSTALLER, **args | {"finding": "n"})

    made(config, story)


def test_the_command_lists_findings_with_their_ids_and_acknowledges_one(config):
    listed = gardien("finding", "list", "-c", config)
    assert listed.exit_code == 0, listed.output
    name = next(word for word in listed.output.split() if word.startswith("line-down:"))
    done = gardien("finding", "acknowledge", name, "CA is closed", "--as", "Eva", "-c", config)
    assert done.exit_code == 0, done.output
    assert "acknowledged until" in done.output
    assert "still counts: readings are lost" in done.output
    again = gardien("finding", "list", "-c", config)
    assert "Eva" in again.output
    assert "CA is closed" in again.output
    ended = gardien("finding", "acknowledge", name, "no", "--days", 0, "--as", "Eva", "-c", config)
    assert "counts again" in ended.output
