"""A device is read before it is saved, and the configuration is shown and changed over the door."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from agent.api.calls import CALLS
from agent.api.roles import EVERY_ROLE
from agent.config import load
from agent.core.errors import Refused
from agent.registry import identity
from hil.modbus_server import Reply, serving
from hil.serial_line import Registers
from tests.command import gardien
from tests.contract.gateway.running import at_work

CONFIG = """\
# ours; broker password: hunter22
building: {{name: Test}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}}}
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120}}
clock: {{source: system}}
state: {state}
"""
CELLS = Registers({
    (4, 12): 0x4402, (4, 13): 0, (4, 72): 0x449A, (4, 73): 0x5225,
    (3, 64512): 0x0145, (3, 64513): 0xE5D2,
}, fills=True)  # fmt: skip
ENTRY = {
    "link": "riser", "address": 2, "profile": "eastron-sdm120",
    "points": {"energy_import": {}, "active_power": {}},
}  # fmt: skip


def answers(unit, pdu):
    return Reply(CELLS(pdu)) if unit in {1, 2} else None


def story(tmp_path, told, *, works=True):
    """A gateway at work on a line with two meters, of which one is configured."""

    async def made():
        (tmp_path / "state").mkdir(mode=0o700)
        identity.mint(tmp_path / "state")
        tmp_path.chmod(0o755)
        async with serving(answers) as port:
            config = tmp_path / "config.yaml"
            config.write_text(CONFIG.format(port=port, state=tmp_path / "state"))
            if not works:
                return await told(None, config)
            async with at_work(config) as house:
                return await told(house, config)

    return asyncio.run(made())


async def silent(_):
    pass


@dataclass(frozen=True)
class Person:
    """A caller as the page makes them."""

    page: bool
    reason: str = ""
    login: str = "x"
    who: str = "eva"
    progress: object = silent
    roles: frozenset = EVERY_ROLE

    def may(self, _right):
        return True


def test_a_device_is_read_before_it_is_saved_and_the_page_shows_indexes_with_a_reason(
    tmp_path,
):
    async def told(house, config):
        tried = CALLS["device.try"]
        before = config.read_text()
        answers = [
            await tried(house, person, entry=ENTRY)
            for person in (
                Person(False, who="paul"),
                Person(True),
                Person(True, "new meter of A-3"),
            )
        ]
        assert config.read_text() == before
        assert "new-device" not in house.config.devices
        looks = [(one.who, one.what, one.place) for one in house.access_log.of()]
        return answers, looks

    (local, page, reason), looks = story(tmp_path, told)
    assert local["ok"]
    assert local["serial"] == "21358034"
    assert local["points"]["energy_import"]["value"].startswith("1234.567")
    assert local["points"]["energy_import"]["unit"] == "kWh"
    assert local["points"]["active_power"]["value"] == "520"
    assert {one["value"] for one in page["points"].values()} == {None}
    assert page["points"]["energy_import"]["withheld"]
    assert page["serial"] == "21358034"
    # a momentary value of a dwelling shows when somebody is at home
    assert reason["points"]["energy_import"] == local["points"]["energy_import"] | {
        "at": reason["points"]["energy_import"]["at"]
    }
    assert reason["points"]["active_power"]["value"] is None
    assert looks == [("paul", "device.try", ""), ("eva", "device.try", "")]


def test_an_entry_that_could_not_be_saved_is_not_read(tmp_path):
    async def told(house, _config):
        wrong = [
            ENTRY | {"profile": "../../etc/passwd"}, ENTRY | {"address": "1"},
            ENTRY | {"link": "nowhere"}, ENTRY | {"every": {"a": "b"}}, {"link": "riser"}, {},
        ]  # fmt: skip
        refusals = []
        for entry in wrong:
            with pytest.raises(Refused) as refused:
                await CALLS["device.try"](house, Person(False), entry=entry)
            refusals.append(str(refused.value))
        silent = await CALLS["device.try"](house, Person(False), entry=ENTRY | {"address": 9})
        return refusals, silent

    refusals, silent = story(tmp_path, told)
    assert "configured already" in refusals[1]
    assert "nowhere" in refusals[2]
    assert not silent["ok"]
    assert {one["why"] for one in silent["points"].values()} == {"silent"}


def test_where_no_program_of_root_listens_the_agent_writes_its_own_file(tmp_path):
    async def told(house, config):
        call = CALLS["config.devices.add"]
        answer = await call(house, Person(False), devices={"m-2": ENTRY})
        assert answer["added"] == ["m-2"]
        assert "m-2" in load(config).devices
        assert "m-2" in house.lines["riser"].devices
        shown = await CALLS["config.show"](house, Person(False))
        config.write_text(config.read_text() + "spool: {max: none}\n")
        wrong = await CALLS["config.show"](house, Person(False))
        with pytest.raises(Refused, match=r"spool\.max"):
            await call(house, Person(False), devices={"m-3": ENTRY | {"address": 3}})
        return shown, wrong

    shown, wrong = story(tmp_path, told)
    assert shown["problems"] == []
    assert [(one["line"], one["where"]) for one in wrong["problems"]] == [
        (wrong["files"][0]["text"].count("\n"), "spool.max")
    ]
    (file,) = shown["files"]
    assert "m-2" in file["text"]
    assert "hunter22" not in file["text"]


ALONE = """
import asyncio, sys
from pathlib import Path
from agent.api.configuration import _by_ourselves
from agent.core.errors import Refused
try:
    asyncio.run(_by_ourselves(Path(sys.argv[1]), {}))
except Refused as error:
    print(error)
"""


def test_an_agent_that_may_not_write_says_what_to_do(open_folder):
    config = open_folder / "config.yaml"
    config.write_text("building: {name: Test}\n")
    config.chmod(0o444)
    open_folder.chmod(0o755)
    other = {} if os.geteuid() else {"user": 65534, "group": 65534, "extra_groups": ()}
    done = subprocess.run(
        [sys.executable, "-c", ALONE, config], check=True, capture_output=True, text=True, **other
    )
    assert "only root may write" in done.stdout
    assert "sudo gardien web open" in done.stdout
    assert config.read_text() == "building: {name: Test}\n"


def test_the_command_reads_a_device_that_is_not_configured(tmp_path):
    async def told(_house, config):
        return await asyncio.to_thread(
            gardien, "read", "--try", "riser", "2", "--profile", "eastron-sdm120", "-c", config
        )

    result = story(tmp_path, told, works=False)
    assert result.exit_code == 0, result.output
    assert "serial number 21358034" in result.output
    assert "1234.567" in result.output
