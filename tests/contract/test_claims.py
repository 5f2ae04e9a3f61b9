"""No command states that it did what it did not do: the act itself fails, on a real disk."""

import asyncio
import os
import shutil
import subprocess

import pytest

from agent.core.atomic_write import later
from agent.registry import identity
from hil.broker import broker
from hil.ca import CA
from hil.platform.child import Platform
from hil.platform.ledger import tell_to_reject
from tests.command import gardien
from tests.contract.buffer.test_full_disk import hog
from tests.contract.gateway.running import at_work, configured, put
from tests.contract.test_diagnosis import written
from tests.waiting import until

WRITERS = (
    ("backup", "FILE", "--to", "ca.pem"),
    ("key", "csr", "--out", "FILE"),
    ("privacy", "register", "--to", "FILE.html"),
    ("support-bundle", "--out", "FILE"),
    ("sign", "key", "Dupont", "--out", "FILE"),
)
KEPT = "what was there before"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    shutil.copy(CA().file(folder), folder / "ca.pem")
    return written(folder)


@pytest.mark.parametrize("words", WRITERS, ids=lambda words: words[0])
def test_a_file_that_could_not_be_written_is_not_called_written(gateway, small_disk, words):
    full = small_disk / "full"
    full.mkdir()
    replaces = words[0] in {"backup", "key", "privacy"}

    def typed(path):
        places = {"FILE": path, "FILE.html": f"{path}.html", "ca.pem": gateway.parent / "ca.pem"}
        line = [str(places.get(word, word)) for word in words]
        if words[0] != "sign":
            line += ["--config", str(gateway)]
        return gardien(*line, env={"GARDIEN_AS": "alice"})

    fine = typed(gateway.parent / words[0])
    assert (fine.exit_code, bool(fine.output)) == (0, True), fine.output
    earlier = full / ("page.html" if words[0] == "privacy" else "page")
    if replaces:
        earlier.write_text(KEPT)
    hog(small_disk)
    failed = typed(full / "page")
    assert failed.exit_code == 1
    assert "No space left on device" in str(failed.exception)
    assert failed.output == "", "nothing is claimed"
    left = {path.name: path.read_text() for path in full.iterdir()}
    assert left == ({earlier.name: KEPT} if replaces else {})


def test_an_edit_that_the_disk_does_not_take_is_not_called_made(small_disk):
    path = written(small_disk)
    before = path.read_bytes()
    hog(small_disk)
    failed = gardien("config", "set", "building.name", "Les Cimes", "--config", path)
    assert failed.exit_code == 1
    assert "cannot be written: No space left on device" in str(failed.exception)
    assert "Cimes" not in failed.output
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_reset_that_could_not_destroy_the_keys_says_so(tmp_path):
    path = written(tmp_path)
    keys = tmp_path / "state" / identity.KEYS
    subprocess.run(["mount", "--bind", keys, keys], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", keys], check=True)
        failed = gardien("factory-reset", "--yes", "--config", path)
    finally:
        subprocess.run(["umount", keys], check=True)
    assert failed.exit_code == 1
    assert "not everything is destroyed" in str(failed.exception)
    assert "is empty" not in failed.output
    assert list(keys.iterdir())


def test_an_uplink_with_a_batch_in_quarantine_is_not_called_empty(tmp_path):
    async def asked():
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db"),
            at_work(configured(tmp_path, far.url)) as house,
        ):
            tell_to_reject(tmp_path / "platform.db", 1)
            await put(house, 3)
            recipient = house.recipients["centre"]

            async def refused():
                return (await recipient.thread.run(recipient.spool.backlog)).quarantined

            await until(refused)
            return await recipient.waiting()

    assert asyncio.run(asked()) == 3
    assert later.settle(5)
