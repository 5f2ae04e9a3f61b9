"""Small files of the state directory, and what each counts as when it is missing or damaged."""

import json
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from agent.acquisition.sums import HELD, SENT, Group, Groups, Totals
from agent.api import visit
from agent.api.protection.breach import Breaches
from agent.buffer import orphaned_spools
from agent.core.atomic_write import StateFile, later
from agent.core.clock import BUILT, Clock, ClockEvidence, ClockTrust
from agent.core.errors import NotRecorded, Refused
from agent.gateway.backup import BuildingFile, PostRestoreGate
from agent.gateway.export_log import ExportReport, Exports
from agent.gateway.page_persons import PagePersons
from agent.gateway.uplink_state import Moves, Traffic, UplinkShutdown
from agent.uplink.base import Cursors
from agent.uplink.files.folder import RemoteFile

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


UNREADABLE = Path("/proc/self/mem")
"""a file of which the first byte cannot be read: EIO"""


@contextmanager
def unread(file):
    """The disk cannot read a file that is there: EIO."""
    aside = file.rename(file.with_suffix(".aside"))
    file.symlink_to(UNREADABLE)
    yield
    assert file.is_symlink(), "it was replaced"
    aside.replace(file)


def read_again(folder):
    for file in StateFile.unread.copy():
        if file.path.parent == folder:
            file.read_again()()


OWNERS = {
    "moves.json": (
        Moves,
        lambda it, name: it.order(name, "mqtts://a", "mqtts://b", 1e9),
        lambda it, name: it.of(name, "mqtts://a", 1e9),
    ),
    "closing.json": (
        UplinkShutdown,
        lambda it, name: it.begin(name, 1e9),
        lambda it, name: name in it,
    ),
    "removed.json": (UplinkShutdown, lambda it, name: it.begin(name, 1e9), UplinkShutdown.removed),
    "data.json": (
        lambda at: Traffic(at, PARIS),
        lambda it, name: (it.count(name, 7, 1e9), it.remember(1e9)),
        lambda it, name: it.of(name, 1e9).used,
    ),
    "page-persons.json": (
        PagePersons, lambda it, name: it.add_scraper(name, "root", 1), PagePersons.get,
    ),
    "rest.json": (
        lambda at: Groups(at / "rest.json"),
        lambda it, name: it.add(name, Group(0, 9, frozenset())),
        lambda it, name: it.over(name, 0, 9),
    ),
    "syndic.json": (
        Exports,
        lambda it, name: it.took(RemoteFile(name, 1, 1), "", ExportReport(name, 1), ["a", "b"]),
        lambda it, name: it.knows(RemoteFile(name, 1, 1)),
    ),
    "cursors.json": (
        lambda at: Cursors(at / "cursors.json"),
        lambda it, name: it.keep(name, "https://a", "7"),
        lambda it, name: it.of(name, "https://a"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OWNERS)
def test_what_could_not_be_read_is_not_replaced_and_counts_once_it_is_read(tmp_path, name):
    """Rule A18."""
    opened, act, has = OWNERS[name]
    act(opened(tmp_path), "a")
    assert later.settle(10)
    with unread(tmp_path / name):
        owner = opened(tmp_path)
        assert not has(owner, "a")
        with suppress(NotRecorded):
            act(owner, "b")
        read_again(tmp_path)
        assert not has(owner, "a")
        assert later.settle(10)
    with suppress(NotRecorded):
        act(owner, "b")
    read_again(tmp_path)
    assert has(owner, "a")
    act(owner, "b")
    assert later.settle(10)
    assert has(opened(tmp_path), "a")
    assert has(opened(tmp_path), "b")


def test_what_is_refused_because_a_file_cannot_be_read_names_the_disk(tmp_path, caplog):
    (tmp_path / "page-persons.json").symlink_to(UNREADABLE)
    with pytest.raises(NotRecorded, match=r"is not replaced.*Input/output error.*replace the disk"):
        PagePersons(tmp_path).add_scraper("a", "root", 1)
    assert "Add its people again" not in caplog.text


def test_a_visit_that_cannot_be_read_has_not_ended(tmp_path):
    """Rule A18."""
    gateway = SimpleNamespace(config=SimpleNamespace(state=tmp_path))
    (tmp_path / "visit.json").symlink_to(UNREADABLE)
    with pytest.raises(Refused, match=r"visit\.json: .*Input/output error"):
        visit._file(gateway).load()


def test_bytes_that_were_counted_while_the_file_could_not_be_read_are_added(tmp_path):
    before = Traffic(tmp_path, PARIS)
    before.count(US, 7, 1e9)
    assert later.settle(10)
    with unread(tmp_path / "data.json"):
        traffic = Traffic(tmp_path, PARIS)
        traffic.count(US, 5, 1e9)
    read_again(tmp_path)
    assert traffic.of(US, 1e9).used == 12


def test_an_index_of_the_building_is_withheld_while_nobody_can_read_which(tmp_path):
    """Rules S10, A18."""
    file = tmp_path / "totals.json"
    file.write_text(json.dumps({"B1/elec.imp": SENT, "B1/gas": HELD}))
    with unread(file):
        totals = Totals(file)
        held = [totals.held(*it) for it in (("B1", "elec.imp"), ("B1", "gas"), ("D1", "elec.imp"))]
        assert held == [True, True, False]
    read_again(tmp_path)
    assert (totals.held("B1", "elec.imp"), totals.held("B1", "gas")) == (False, True)


def test_after_a_restore_nothing_leaves_until_it_is_known_that_nothing_is_awaited(tmp_path):
    """Rules A18, T9."""
    file = tmp_path / "restored"
    file.write_text('{"made": "2026-11-01", "unproved": ["a"]}')
    with unread(file):
        gate = PostRestoreGate(tmp_path)
        assert gate.listens
    read_again(tmp_path)
    assert (gate.listens, gate.made) == (False, "2026-11-01")


def test_the_floor_of_the_clock_is_that_of_the_file_once_it_is_read(tmp_path):
    """Rules C9, A18."""
    file, served = tmp_path / "clock.json", ClockEvidence(kernel=True, touched=None)

    def clock(wall):
        return Clock(
            "ntp", file, lambda: wall, lambda: 5.0, lambda: served, lambda: None, lambda: "b"
        )

    proved = clock(BUILT + 9e6)
    assert proved.trust is ClockTrust.TRUSTED
    proved.remember()
    with unread(file):
        wrong = clock(BUILT + 1e6)
        assert wrong.trust is ClockTrust.TRUSTED
        wrong.remember()
    read_again(tmp_path)
    assert wrong.floor == proved.floor
    assert wrong.trust is ClockTrust.UNTRUSTED


def test_a_persons_time_does_not_pass_for_a_time_service_where_the_history_cannot_be_read(tmp_path):
    """Rules C17, A18."""
    file = tmp_path / "clock.json"

    def clock():
        none = ClockEvidence(kernel=False, touched=None)
        return Clock(
            "ntp", file, lambda: BUILT + 9e6, lambda: 5.0, lambda: none, lambda: None, lambda: "b"
        )

    stated = clock()
    stated.take_person_time()
    assert stated.by_person
    with unread(tmp_path / "clock-history.json"):
        after = clock()
        assert after.trust is ClockTrust.UNTRUSTED
        after.remember()
    read_again(tmp_path)
    assert after.history.person == stated.history.person


def test_a_spool_is_not_destroyed_while_the_record_of_earlier_ones_cannot_be_read(tmp_path):
    """Rules P18, A18."""
    file = tmp_path / f"disclosed-{US}.json"
    file.write_text('{"disclosures": [], "complete": false}')
    spool = orphaned_spools.spool_of(tmp_path, US)
    spool.touch()
    with unread(file), pytest.raises(NotRecorded):
        orphaned_spools.destroy(tmp_path, US, 1e9, None)
    assert spool.exists()
    orphaned_spools.destroy(tmp_path, US, 1e9, None)
    assert not spool.exists()
