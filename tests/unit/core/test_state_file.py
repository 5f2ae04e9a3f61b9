"""Small files of the state directory, and what each counts as when it is missing or damaged."""

import json
from zoneinfo import ZoneInfo

import pytest

from agent.acquisition.sums import SENT, Groups, Totals
from agent.api.protection.breach import Breaches
from agent.buffer import orphaned_spools
from agent.core.atomic_write import StateFile
from agent.core.clock import Clock, ClockTrust
from agent.core.errors import NotRecorded, Refused
from agent.gateway.backup import BuildingFile, PostRestoreGate
from agent.gateway.export_log import Exports
from agent.gateway.uplink_state import Moves, Traffic, UplinkShutdown
from agent.uplink.base import Cursors

US = "centre.example"
PARIS = ZoneInfo("Europe/Paris")


def breaches(folder):
    try:
        return Breaches(folder).all()
    except Refused as error:
        return "move it to another folder" in str(error)


FILES = {
    "data.json": (lambda at: Traffic(at, PARIS).of(US, 1e9).used, 0, 0),
    "moves.json": (lambda at: Moves(at).of(US, "mqtts://a", 1e9), None, None),
    "closing.json": (lambda at: US in UplinkShutdown(at), False, False),
    "removed.json": (lambda at: UplinkShutdown(at).removed(US), None, None),
    # the file exists, so there was a restore: nothing may leave yet
    "restored": (lambda at: PostRestoreGate(at).listens, False, True),
    "building.json": (lambda at: BuildingFile(at).latest, None, None),
    "syndic.json": (lambda at: Exports(at).proposals, [], []),
    "totals.json": (lambda at: Totals(at / "totals.json").held("D", "elec.imp"), False, False),
    "rest.json": (lambda at: Groups(at / "rest.json").of("elec.imp"), [], []),
    "cursors.json": (lambda at: Cursors(at / "cursors.json").of(US, "https://a"), "", ""),
    # the record is then known to be incomplete
    f"disclosed-{US}.json": (lambda at: orphaned_spools.kept(at, US), ([], True), ([], False)),
    # a record that cannot be read is never written over
    "breaches.json": (breaches, [], True),
    "clock.json": (lambda at: Clock("ntp", at / "clock.json").trust, *[ClockTrust.UNTRUSTED] * 2),
    "clock-history.json": (lambda at: Clock("ntp", at / "clock.json").history.steps, [], []),
}
DAMAGE = {
    "empty": b"", "cut": b'{"a": [1', "another form": b"7", "zeros": bytes(64),
    "another encoding": b'{"a": "\xff"}', "nested": b"[" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_counts_as(tmp_path, name):
    read, missing, _ = FILES[name]
    assert read(tmp_path) == missing


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_counts_as(tmp_path, name, damage):
    read, _, damaged = FILES[name]
    (tmp_path / name).write_bytes(DAMAGE[damage])
    assert read(tmp_path) == damaged
    assert (tmp_path / name).read_bytes() == DAMAGE[damage], "reading repairs nothing"


def test_breaches_of_a_newer_version_are_not_read(tmp_path):
    (tmp_path / "breaches.json").write_text('{"schema": "gardien/breaches/9", "breaches": []}')
    with pytest.raises(Refused, match="another version of gardien wrote this file"):
        Breaches(tmp_path).all()


def test_what_was_saved_is_read_again_and_the_file_is_for_its_owner_alone(tmp_path):
    file = StateFile(tmp_path / "a.json", dict, dict, indent=1, ensure_ascii=False)
    file.save({"é": 1})
    assert file.load() == {"é": 1}
    assert file.path.read_text(encoding="utf-8") == '{\n "é": 1\n}'
    assert file.path.stat().st_mode & 0o777 == 0o600
    file.path.unlink()
    file.path.mkdir()
    with pytest.raises(NotRecorded, match=r"a\.json cannot be written"):
        file.save({})


def test_without_a_path_nothing_is_kept():
    file = StateFile(None, dict, dict)
    file.save({"a": 1})
    file.save_later({"a": 1})
    assert file.load() == {}


def test_an_index_keeps_its_state_over_a_restart(tmp_path):
    (tmp_path / "totals.json").write_text(json.dumps({"D/elec.imp": SENT, "E/elec.imp": "held"}))
    totals = Totals(tmp_path / "totals.json")
    assert (totals.held("D", "elec.imp"), totals.held("E", "elec.imp")) == (False, True)
