"""A building survives its gateway: backed up from the one, restored on another, read on.
Rule K12.
"""

import json
import shutil
import subprocess

import pytest

from tests.system.test_daemon import House, building  # noqa: F401 -- a fixture
from tests.waiting import wait_until

RECIPIENT = "centre.example"


@pytest.fixture
def safe(tmp_path):
    """A recovery certificate, and its key, made with the command that people have."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", tmp_path / "recovery.key", "-out", tmp_path / "recovery.crt",
         "-days", "3650", "-subj", "/CN=recovery"],
        check=True, capture_output=True,
    )  # fmt: skip
    return tmp_path / "recovery.crt", tmp_path / "recovery.key"


def reads(house):
    """The place and the latest index of the one device, as the daemon tells them."""
    said = json.loads(house("status", "--json", status=1))["devices"]["m-1"]
    value = said["latest"].get("energy_import", {}).get("value")
    return said["place"], value, list(said["held"].values())


def waits(house):
    return json.loads(house("status", "--json", status=1))["uplinks"]["centre"]["backlog"]["slots"]


def restoring(backup, key, old):
    lost = json.loads((old.state / "keys" / "identity.json").read_text())["gateway"]
    return ("restore", str(backup), "--key", str(key), "--gateway", lost, "--yes")


def test_a_building_is_restored_on_another_gateway_and_read_on(tmp_path, building, safe):  # noqa: F811
    certificate, key = safe
    old = House(tmp_path, building["port"])
    try:
        old("key", "new")
        (old.config.parent / "profiles").mkdir()
        (old.config.parent / "profiles/ours.yaml").write_text("points: {}\n")
        old("place", "new", "A-3-12", "--since", "2026-01-01", "--as", "me")
        old("meter", "assign", "m-1", "A-3-12", "--as", "me")
        old("consent", "give", "A-3-12", "--recipient", RECIPIENT, "--channel", "elec.imp",
            "--purpose", "suivi", "--step", "1s", "--as", "me")  # fmt: skip
        daemon = old.up()
        wait_until(lambda: reads(old)[1] is not None)
        wait_until(lambda: waits(old) > 0)
        before = json.loads(old("status", "--json", status=1))
        old("backup", str(tmp_path / "building"), "--to", str(certificate))
        sealed = (tmp_path / "building").read_bytes()
        assert b"A-3-12" not in sealed
        daemon.kill()
        daemon.wait()

        (tmp_path / "new").mkdir()
        new = House(tmp_path / "new", building["port"])
        new.config.unlink()
        state = ("--state", str(new.state))
        other = tmp_path / "other.key"
        shutil.copy(tmp_path / "state" / "keys" / "gateway.pem", other)
        said = new("restore", str(tmp_path / "building"), "--key", str(other), *state, status=1)
        assert "is encrypted for another key than" in said
        new(*restoring(tmp_path / "building", key, old), *state)
        assert new.config.read_text() == old.config.read_text()
        assert (new.config.parent / "profiles/ours.yaml").exists()
        new.config.write_text(new.config.read_text().replace(str(old.state), str(new.state)))
        said = new(*restoring(tmp_path / "building", key, old), status=1)
        assert "holds a building already" in said

        keys = ("gateway.pem", "spool.key", "identity.json")
        assert all(
            (old.state / "keys" / name).read_bytes() != (new.state / "keys" / name).read_bytes()
            for name in keys
        )
        new.up()
        wait_until(lambda: reads(new)[1] is not None)
        wait_until(lambda: waits(new) > 0)
        place, _, held = reads(new)
        after = json.loads(new("status", "--json", status=1))
        assert (place, held) == ("A-3-12", [])
        assert after["gateway"] == before["gateway"]
        assert after["authority"]["audience"] != before["authority"]["audience"]
        assert after["uplinks"]["centre"]["epoch"] != before["uplinks"]["centre"]["epoch"]
        (consent,) = json.loads(new("consent", "list", "--json"))["consents"]
        assert consent["in_force"]
        assert "the chain is intact" in new("audit", "verify")
    finally:
        for daemon in [*old.daemons, *new.daemons]:
            daemon.kill()
            daemon.wait()


def test_what_is_no_building_file_restores_nothing(tmp_path, safe):
    certificate, key = safe
    house = House(tmp_path, 9)
    house("key", "new")
    before = (house.state / "keys" / "gateway.pem").read_bytes()
    (tmp_path / "x").write_bytes(b"nothing")
    assert "the backup cannot be decrypted with" in house(
        "restore", str(tmp_path / "x"), "--key", str(key), status=1
    )
    house("backup", str(tmp_path / "b"), "--to", str(certificate))
    sealed = bytearray((tmp_path / "b").read_bytes())
    sealed[len(sealed) // 2] ^= 1
    (tmp_path / "b").write_bytes(sealed)
    house("restore", str(tmp_path / "b"), "--key", str(key), status=1)
    said = house("backup", str(tmp_path / "b"), "--to", str(tmp_path / "x"), status=1)
    assert "no certificate" in said
    assert (house.state / "keys" / "gateway.pem").read_bytes() == before
