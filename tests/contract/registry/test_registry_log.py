"""The registry's log in a running gateway, in a backup, and at an upgrade."""

import asyncio
import base64
import json
import subprocess
from decimal import Decimal

import pytest

from agent.api import backup
from agent.api.registry import Caller
from agent.app import _draw_marks, visited
from agent.core.state import JUDGED
from agent.registry import identity
from agent.registry.background_change import keep_log_short
from agent.registry.inputs import FactorResult, NewInstallation, NewPlace
from agent.registry.registry import Registry
from agent.registry.storage import TABLE, WORTH_FOLDING

NOW = 1_790_000_000.0
LONG = ("alice", "x" * WORTH_FOLDING, NOW)
BY = ("alice", "a test", NOW)


def place(registry, label, by=BY):
    registry.add_places([NewPlace(label, "dwelling")], *by)


def logs(folder):
    return sorted(folder.glob("registry-*.log"))


@pytest.fixture
def site(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "config.yaml").write_text(
        f"building: {{name: Test}}\nstate: {tmp_path / 'state'}\nclock: {{source: system}}\n"
    )
    identity.mint(tmp_path / "state")
    return tmp_path


def test_a_running_gateway_begins_a_new_log_when_it_is_long(site):
    async def run():
        async with visited(site / "config.yaml") as gateway, asyncio.timeout(60):
            place(gateway.registry, "A")
            place(gateway.registry, "B", LONG)
            assert gateway.registry.long_log
            task = asyncio.create_task(keep_log_short(gateway.registry, every=0.01))
            while gateway.registry.long_log:
                assert not task.done()
                await asyncio.sleep(0.01)
            task.cancel()
            (log,) = logs(site / "state")
            assert log.read_bytes() == b""
            place(gateway.registry, "C")

    asyncio.run(run())
    places = Registry.open(site / "state/registry.json").places()
    assert [one.label for one in places] == ["A", "B", "C"]


def test_a_backup_has_snapshot_and_log_as_one_and_is_restored_as_one_file(site):
    """Earlier versions restore it, too, and people may copy the restored file."""
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    files = ["-keyout", site / "safe.key", "-out", site / "safe.crt", "-subj", "/CN=recovery"]
    subprocess.run([*make, "-nodes", *files], check=True, capture_output=True)

    async def run():
        async with visited(site / "config.yaml") as gateway:
            place(gateway.registry, "A"), place(gateway.registry, "B")
            return backup._content(gateway, {})

    content = json.loads(json.dumps(asyncio.run(run())))
    assert logs(site / "state")
    assert list(content["registry"]) == [TABLE]
    labels = [row.get("label") for row in content["registry"][TABLE].values()]
    assert [label for label in labels if label] == ["A", "B"]
    (site / "new").mkdir()
    backup.restore(content, site / "new", "me")
    assert list(json.loads((site / "new/registry.json").read_bytes())) == [TABLE]
    assert logs(site / "new") == []
    assert [one.label for one in Registry.open(site / "new/registry.json").places()] == ["A", "B"]


def test_a_factor_that_is_proven_or_wrong_is_so_after_a_restore(site):
    """The restored gateway reads the same meters: nobody proves them again. Rule F16."""
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    files = ["-keyout", site / "safe.key", "-out", site / "safe.crt", "-subj", "/CN=recovery"]
    subprocess.run([*make, "-nodes", *files], check=True, capture_output=True)

    def state_of(registry):
        meters = {one.serial: one for one in registry.installations()}
        return {
            serial: registry.factor_proof(meter, "elec.imp", f"point-{serial}")
            for serial, meter in meters.items()
        }

    async def run():
        async with visited(site / "config.yaml") as gateway:
            registry = gateway.registry
            place(registry, "A")
            (home,) = registry.places()
            meters = [
                NewInstallation(home.id, serial=serial, since=1_700_000_000) for serial in "12"
            ]
            registry.install(meters, *BY)
            first, second = registry.installations()
            results = [
                FactorResult(first, "elec.imp", "display", Decimal(1), Decimal("1.029"),
                             "point-1", "ratio=1.0001;digits=5"),
                FactorResult(second, "elec.imp", "sum", Decimal("0.1"), Decimal("3.21"),
                             "point-2", "ratio=0.1"),
            ]  # fmt: skip
            registry.prove_factors(results, *BY)
            caller = Caller("alice", None)
            pem = (site / "safe.crt").read_text()
            file = await backup.backup(gateway, caller, certificate=pem, files={})
            return file["file"], state_of(registry)

    sealed, before = asyncio.run(run())
    content, _signer = backup.opened(base64.b64decode(sealed), site / "safe.key")
    (site / "new").mkdir()
    backup.restore(content, site / "new", "me")
    after = state_of(Registry.open(site / "new/registry.json"))
    assert after == before
    assert [(one.method, str(one.factor), one.word.who) for one in after.values()] == [
        ("display", "1", "alice"), ("sum", "0.1", "alice"),
    ]  # fmt: skip


def test_an_upgrade_on_trial_writes_what_the_version_before_reads(tmp_path):
    path, notes = tmp_path / "registry.json", tmp_path / "run" / "notes"

    def opened():
        registry = Registry.open(path, notes)
        _draw_marks(registry, tmp_path, NOW)
        return registry

    (tmp_path / JUDGED).write_text("")
    registry = opened()
    place(registry, "A"), place(registry, "B")
    assert list(json.loads(path.read_bytes())) == [TABLE]
    # after a failure of the disk, a start writes what the notes have
    registry._complete, registry._last_good = False, registry.revision - 1
    registry._write_notes()
    registry = opened()
    assert registry.written
    assert [one.label for one in registry.places()] == ["A"]
    place(registry, "C")
    assert list(json.loads(path.read_bytes())) == [TABLE]
    assert logs(tmp_path) == []
    (tmp_path / JUDGED).unlink()
    _draw_marks(registry, tmp_path, NOW)
    place(registry, "D")
    assert list(json.loads(path.read_bytes())) == [TABLE, "log"]
    place(registry, "E")
    (log,) = logs(tmp_path)
    assert log.read_bytes().count(b"\n") == 1
    # the next upgrade goes on with the log: the version before it has begun it
    (tmp_path / JUDGED).write_text("")
    place(opened(), "F")
    assert logs(tmp_path) == [log]
    assert [one.label for one in Registry.open(path).places()] == ["A", "C", "D", "E", "F"]
