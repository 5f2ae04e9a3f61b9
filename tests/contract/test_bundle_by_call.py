"""The support bundle at the press of a button: made beside the agent, and fetched in pieces."""

import asyncio
import base64
import hashlib
import io
import json
import os
import tarfile

import pytest

from agent.api import bundle
from agent.core.errors import Refused
from agent.core.storage import volatile
from agent.registry import identity
from hil.process import free_port
from tests.command import gardien
from tests.contract.gateway.running import at_the_door

CONFIG = """\
# Mme Planteau lives on the third floor
building: {{name: Test}}
links: {{riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 100ms}}}}
devices:
  m-A-3-12: {{link: riser, address: 1, profile: eastron-sdm120}}
clock: {{source: system}}
state: {state}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(port=free_port(), state=tmp_path / "state"))
    (tmp_path / "state").mkdir(mode=0o700)
    identity.mint(tmp_path / "state")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "broker").write_text("hunter22\n")
    done = gardien("place", "new", "A-3-12", "--since", "2026-01-01", "--as", "Eva", "-c", path)
    assert done.exit_code == 0, done.output
    return path


async def fetched(call, name):
    content, at = b"", 0
    while at is not None:
        piece = await call("bundle.read", bundle=name, at=at)
        content, at = content + base64.b64decode(piece["data"]), piece["next"]
    return content


def test_a_bundle_is_made_and_fetched_and_names_nobody(config, monkeypatch):
    monkeypatch.setattr(bundle, "PIECE", 1_000)
    folder = volatile(config.with_name("state"))

    async def story():
        async with at_the_door(config) as (house, call):
            with pytest.raises(Refused, match="give your name"):
                await call("bundle")
            making = asyncio.ensure_future(call("bundle", named="Eva"))
            async with asyncio.timeout(60):
                while not house.daemon.bundling.locked():
                    await asyncio.sleep(0)
            with pytest.raises(Refused, match="is being made"):
                await call("bundle", named="Eva")
            answer = await making
            content = await fetched(call, answer["bundle"])
            assert len(content) == answer["size"]
            assert hashlib.sha256(content).hexdigest() == answer["sha256"]
            (file,) = folder.glob("bundle-*")
            assert file.stat().st_mode & 0o777 == 0o600
            for wrong in ({"bundle": "../../etc/passwd"}, {"bundle": "0" * 16},
                          {"bundle": answer["bundle"], "at": -1}):  # fmt: skip
                with pytest.raises(Refused):
                    await call("bundle.read", **wrong)
            # what stops the command is said, and leaves no file
            monkeypatch.setattr(bundle, "LARGEST", 1_000)
            with pytest.raises(Refused, match="no support bundle was made"):
                await call("bundle", named="Eva")
            assert not list(folder.glob("bundle-*"))
            return content

    content = asyncio.run(story())
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        texts = {one.name: tar.extractfile(one).read().decode() for one in tar}
    assert json.loads(texts["gardien-support/status.json"])["building"] == "Test"
    whole = "\n".join([*texts, *texts.values()])
    assert "A-3-12" not in whole
    assert "Planteau" not in whole
    assert "hunter22" not in whole
    assert ("may not read the whole log" in whole) == bool(os.geteuid())
