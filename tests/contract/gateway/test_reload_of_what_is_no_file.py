"""Guards rule G8: what is no configuration is refused at once, and the one at work stays."""

import asyncio
import os
import socket
import subprocess
from pathlib import Path

import pytest

from agent.config.check import check
from agent.config.files import Files
from agent.config.load import checked
from agent.core.errors import ConfigError, Refused
from hil.stage import GARDIEN
from tests.contract.gateway.running import at_work, configured


def emptied(path: Path, _: str) -> None:
    path.write_text("", encoding="utf-8")


def half_written(path: Path, text: str) -> None:
    path.write_text(text[: text.index("50MB") + 3], encoding="utf-8")


def cut_in_the_last_line(path: Path, text: str) -> None:
    path.write_text(text.rstrip(), encoding="utf-8")


def binary(path: Path, _: str) -> None:
    path.write_bytes(bytes(range(256)) * 10)


def nothing_but_zeros(path: Path, _: str) -> None:
    path.write_bytes(bytes(4096))


def pipe(path: Path, _: str) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path, _: str) -> None:
    path.unlink()
    path.mkdir()


def device(path: Path, _: str) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def door(path: Path, _: str) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as here:
        here.bind(os.path.relpath(path))


WORDS = {
    emptied: "the file is empty",
    half_written: ":7:17: a `,` or the closing `}` is missing",
    cut_in_the_last_line: ":7:1: the file ends within this line and may be half written",
    binary: "this is not a text file",
    nothing_but_zeros: "U+0000 cannot stand in a configuration",
    pipe: "not a regular file but a folder, a pipe or a device: name a file",
    folder: "not a regular file but a folder, a pipe or a device: name a file",
    device: "not a regular file but a folder, a pipe or a device: name a file",
    door: "cannot be read: No such device or address",
}


@pytest.mark.parametrize("becomes", WORDS)
def test_what_is_no_configuration_is_refused_at_once_and_the_old_one_stays(tmp_path, becomes):
    config = configured(tmp_path, "mqtt://127.0.0.1:1")
    text = config.read_text(encoding="utf-8")

    async def scenario() -> None:
        async with at_work(config) as house:
            before = house.config
            becomes(config, text)
            with pytest.raises(Refused) as refusal:
                async with asyncio.timeout(60):
                    await house.daemon.reload()
            assert WORDS[becomes] in str(refusal.value)
            assert house.config is before
            assert set(house.recipients) == {"centre"}

    asyncio.run(scenario())
    status, said = check(config)
    assert status == 1
    assert WORDS[becomes] in said
    assert "with this file" in said  # whether the agent starts with it
    assert "Correct it, then: gardien check" in said


@pytest.mark.parametrize("becomes", [emptied, pipe])
def test_the_command_tells_what_is_wrong_with_the_file_and_not_that_no_agent_runs(
    tmp_path, becomes
):
    config = configured(tmp_path, "mqtt://127.0.0.1:1")
    becomes(config, "")
    words = [GARDIEN, "reload", "--config", str(config)]
    run = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert run.returncode
    assert WORDS[becomes] in " ".join(run.stderr.split())
    assert "not running" not in run.stderr


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(tmp_path):
    config = configured(tmp_path, "mqtt://127.0.0.1:1")
    files = Files(config)
    files.text()
    new = config.with_suffix(".new")
    new.write_text(config.read_text(encoding="utf-8"), encoding="utf-8")
    new.replace(config)
    with pytest.raises(ConfigError, match="changed while it was read: try again"):
        checked(files, whole=True)
    assert checked(Files(config), whole=True).uplinks


def test_a_reload_tells_the_settings_that_it_took_in_place(tmp_path):
    config = configured(tmp_path, "mqtt://127.0.0.1:1")
    text = config.read_text(encoding="utf-8")
    more = "name: Les Alpins, shared_accounts: [console], roles: {manager: [alice]}"
    columns = "{dwelling: Lot, reference: Bail, since: Entrée, until: Sortie}"
    syndic = f"syndic: {{path: {tmp_path}, columns: {columns}}}\n"

    async def scenario() -> None:
        async with at_work(config) as house:
            for words, settings in (
                (text.replace("name: Les Alpins", more) + syndic,
                 ["building.shared_accounts", "building.roles", "syndic"]),
                (text.replace("name: Les Alpins", more), ["syndic"]),
                (text.replace("name: Les Alpins", more), []),
            ):  # fmt: skip
                config.write_text(words, encoding="utf-8")
                changed = (await house.daemon.reload())["changed"]
                assert {what for what, names in changed.items() if names} <= {"setting"}
                assert changed["setting"] == settings

    asyncio.run(scenario())
