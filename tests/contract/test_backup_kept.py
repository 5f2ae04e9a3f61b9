"""The backup kept beside a gateway says what people said last, or status complains."""

import asyncio
import contextlib
import json
import shutil
import subprocess

import pytest

from agent.api import backup
from agent.api.calls import NOBODY, status
from agent.api.registry import CALLS, Caller
from agent.app import visited
from agent.gateway.gateway import Waits
from agent.registry import identity
from tests.waiting import until


@pytest.fixture
def site(tmp_path):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", tmp_path / "safe.key", "-out", tmp_path / "safe.crt",
         "-subj", "/CN=recovery"],
        check=True, capture_output=True,
    )  # fmt: skip
    config = tmp_path / "config.yaml"
    config.write_text(
        f"building: {{name: Test}}\nstate: {tmp_path / 'state'}\nclock: {{source: system}}\n"
        f"backup: {{to: {tmp_path / 'safe.crt'}, folder: {tmp_path / 'stick'}}}\n"
    )
    (tmp_path / "state").mkdir()
    identity.mint(tmp_path / "state")
    return tmp_path


def test_what_the_configuration_names_beside_itself_comes_along_and_no_private_key(site):
    """Rule K10."""
    config, pem = site / "config.yaml", (site / "safe.crt").read_text()
    both = site / "both.pem"
    both.write_text(pem + (site / "safe.key").read_text())
    (site / "platform-ca.pem").write_text(pem + pem)
    (site / "lines.yaml").write_text(f"# {site}/platform-ca.pem, {site}/safe.key, {both}\n")
    (site / "other.pem").write_text(pem)
    (site / "profiles").mkdir()
    (site / "profiles/our-meter.yaml").write_text("# ours\n")
    config.write_text(config.read_text() + f"links: !include lines.yaml  # {site}/away.pem\n")
    assert backup.texts(config) == {
        name: (site / name).read_text()
        for name in (
            "config.yaml",
            "lines.yaml",
            "profiles/our-meter.yaml",
            "safe.crt",
            "platform-ca.pem",
        )
    }


def test_each_change_is_in_the_file_and_a_stick_that_is_away_is_told(site):
    def labels():
        files = list((site / "stick").glob("*.building"))
        if not files:
            return None
        found, _ = backup.opened(files[0].read_bytes(), site / "safe.key")
        assert found["files"]["config.yaml"] == (site / "config.yaml").read_text()
        return "A-3-12" in json.dumps(found["registry"])

    async def scenario():
        async with visited(site / "config.yaml") as house:
            house.waits = Waits(backup=0.05)
            job = asyncio.create_task(backup.keep(house, site / "config.yaml"))
            await until(lambda: house.building.problem)
            events = (await status(house, NOBODY))["events"]
            assert any("backup is not up to date" in str(one) for one in events)
            (site / "stick").mkdir()
            await until(lambda: labels() is False)
            assert not house.building.problem
            place = {"label": "A-3-12", "type": "dwelling"}
            await CALLS["place.new"](house, Caller("dupont", None), **place)
            await until(labels)
            (written,) = (site / "stick").iterdir()
            assert b"A-3-12" not in written.read_bytes()
            at = written.stat().st_mtime_ns
            await asyncio.sleep(0.3)
            assert written.stat().st_mtime_ns == at, "nothing had changed"
            shutil.rmtree(site / "stick")
            await until(lambda: house.building.problem)
            job.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await job

    asyncio.run(scenario())
