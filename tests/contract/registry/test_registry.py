"""The registry on a real disk: one write a change, everything or nothing, never overwritten."""

import cProfile
import errno
import os
import pstats
import stat
from functools import partial

import pytest

from agent.core.errors import NotRecorded, Refused
from agent.core.quantities import channels
from agent.registry.consent_policy import Basis, may_leave, policy
from agent.registry.index import Unknown
from agent.registry.inputs import (
    NewAlias,
    NewConsent,
    NewInstallation,
    NewOccupancy,
    NewPlace,
    NewWithdrawal,
)
from agent.registry.place import shown
from agent.registry.records import Installation
from agent.registry.registry import Registry

NOW = 1_790_000_000.5
HOME = "D84G7ZWYRD6Z1GQ"
FR, DEMO = policy("FR-1"), policy("DEMO-1")
BY = ("alice", "a test", NOW)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "registry.json"


@pytest.fixture
def registry(path):
    registry = Registry.open(path)
    registry.add_places([NewPlace("A-3-12", "dwelling", HOME), NewPlace("A-3-13", "logement")], *BY)
    return registry


def consent(place="A-3-12", step=1800, **more):
    return NewConsent(place, "a.example", ("heat",), step, "advice", **more)


def everything(registry):
    lists = (registry.places, registry.occupancies, registry.installations, registry.consents)
    return registry.revision, [each() for each in lists]


def test_what_was_recorded_is_there_when_it_is_opened_again(registry, path):
    registry.install([NewInstallation("A-3-12", serial="45")], *BY)
    registry.consent([consent()], *BY, FR)
    assert everything(Registry.open(path)) == everything(registry)
    assert registry.revision == 3


def test_a_registry_that_is_not_there_is_empty_and_makes_no_file(path):
    assert everything(Registry.open(path)) == (0, [[], [], [], []])
    assert not path.exists()


def test_a_meter_and_a_consent_make_a_reading_leave(registry):
    t = int(NOW) + 1800
    registry.install([NewInstallation("A-3-12", serial="45")], *BY)
    found = registry.whose("m", "45", "heat", t)
    assert isinstance(found, Installation)
    gate = (registry, FR, found.place, channels()["heat"], 1800, t, "a.example")
    assert not isinstance(may_leave(*gate), Basis)
    (given,) = registry.consent([consent()], *BY, FR)
    assert may_leave(*gate) == Basis(given.id, given.occupancy)


def test_every_fact_bears_its_author_date_source_and_revision(registry):
    """Rule I11."""
    (meter,) = registry.install(
        [NewInstallation("A-3-12", serial="45", where="meters.csv:2")], "bob", "meters.csv", NOW
    )
    assert (meter.word.who, meter.word.when) == ("bob", int(NOW))
    assert (meter.word.source, meter.word.revision) == ("meters.csv:2", 2)


def test_one_wrong_row_and_nothing_is_recorded(registry, path):
    """Rule I12."""
    before = path.read_bytes()
    rows = [
        NewInstallation("A-3-12", serial="45", where="m.csv:2"),
        NewInstallation("A-3-14", serial="46", where="m.csv:3"),
        NewInstallation("A-3-13", serial="0045", where="m.csv:4"),
        NewInstallation("A-3-13", where="m.csv:5"),
        NewInstallation("A-3-13", serial="47", channel="heta", where="m.csv:6"),
    ]
    with pytest.raises(Refused) as refused:
        registry.install(rows, *BY)
    lines = str(refused.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"m.csv:{n}" for n in (3, 4, 5, 6)]
    assert 'did you mean "A-3-13" or "A-3-12"' in lines[0]
    assert "meter 0045 measures A-3-13" in lines[1]
    assert "meter 45 measures A-3-12" in lines[1]
    assert "m.csv:2" in lines[1]
    assert 'did you mean "heat"' in lines[3]
    assert path.read_bytes() == before
    assert registry.installations() == []


def test_of_many_wrong_rows_twenty_are_told(registry):
    """Rule I12."""
    rows = [NewInstallation("nowhere", serial=str(n), where=f"m.csv:{n}") for n in range(50)]
    with pytest.raises(Refused) as refused:
        registry.install(rows, *BY)
    lines = str(refused.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "… and 30 more"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (NewPlace("a-3-12", "D"), r"already: A-3-12 \(D84G7-ZWYRD-6Z1GQ\)"),
        (NewPlace("B", "D", HOME), r"already: A-3-12 \(D84G7-ZWYRD-6Z1GQ\)"),
        (NewPlace("B", "dweling"), '"dweling" is not known; did you mean "dwelling"'),
        (NewPlace("B", "common", HOME), "is the id of a dwelling, not of a common"),
        (NewPlace("B", "D", "D84G7ZWYRD6Z1GV"), "check characters"),
        (NewPlace(" ", "D"), "label: it is empty"),
        (NewPlace("a\x00b", "D"), "cannot be printed"),
        (NewPlace("CZS2Y-FSTBQ-Q5WDC", "C"), "is an id"),
        (NewPlace("B", "D", since=60), "2000 and 2100"),
    ],
)
def test_a_wrong_place_is_refused(registry, row, why):
    """Rule I4."""
    with pytest.raises(Refused, match=why):
        registry.add_places([NewPlace("fine", "D"), row], *BY)
    assert len(registry.places()) == 2


@pytest.mark.parametrize("second", [NewPlace("b", "D"), NewPlace("C", "D", "DRDV1EWZEPEEXY9")])
def test_two_rows_of_one_file_may_not_name_one_place(registry, second):
    first = NewPlace("B", "D", "DRDV1EWZEPEEXY9", where="p.csv:2")
    with pytest.raises(Refused, match=r'exists already: "B" of p\.csv:2'):
        registry.add_places([first, second], *BY)


def test_a_label_may_be_any_number(registry):
    registry.add_places([NewPlace(str(number), "D") for number in range(200)], *BY)
    assert registry.place("1").label == "1"


def test_only_a_dwelling_gets_an_occupancy_and_it_begins_when_said(registry):
    added = registry.add_places(
        [NewPlace("Hall", "C"), NewPlace("B-1", "D", since=1_700_000_000)], *BY
    )
    homes = {home.place: home.since for home in registry.occupancies()}
    assert added[0].id not in homes
    assert homes[added[1].id] == 1_700_000_000
    assert homes[HOME] == int(NOW)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (consent(step=599), "finer than the 600 s that policy FR-1 allows"),
        (consent("Hall"), 'no place "Hall"'),
        (consent(since=1_700_000_000), "at 2023-11-14T22:13:20Z it is unknown whether"),
        (consent(until=int(NOW) + 37 * 31 * 86400), "36 months at most"),
        (consent(until=int(NOW)), "is not between"),
        (NewConsent("A-3-12", "a example", ("heat",), 1800, "x"), "not a DNS name"),
        (NewConsent("A-3-12", "a.example", (), 1800, "x"), "channels: name each"),
        (NewConsent("A-3-12", "a.example", ("het",), 1800, "x"), 'did you mean "heat"'),
        (NewConsent("A-3-12", "a.example", ("heat",), 1800, ""), "purpose: it is empty"),
    ],
)
def test_a_wrong_consent_is_refused(registry, row, why):
    with pytest.raises(Refused, match=why):
        registry.consent([row], *BY, FR)


def test_a_consent_lasts_36_months_and_the_demo_may_go_finer(registry):
    (given,) = registry.consent([consent(step=1)], *BY, DEMO)
    assert (given.since, given.until - given.since) == (int(NOW), 1096 * 86400)


def test_a_common_area_does_not_consent(registry):
    registry.add_places([NewPlace("Hall", "C")], *BY)
    with pytest.raises(Refused, match="only dwellings have consents"):
        registry.consent([consent("Hall")], *BY, FR)


def test_a_consent_given_twice_is_refused(registry):
    registry.consent([consent()], *BY, FR)
    with pytest.raises(Refused, match=r"A-3-12 .* lets a.example have heat .* recorded already"):
        registry.consent([consent()], *BY, FR)


def test_a_device_is_bound_to_the_serial_number_it_said_first(registry, path):
    """Rule I17."""
    t = int(NOW)
    registry.install([NewInstallation("A-3-12", device="sdm")], *BY)
    assert registry.whose("sdm", "45", "heat", t) is Unknown.NOT_PINNED
    (pinned,) = registry.pin("sdm", "45", "gardien", "said by the device", NOW)
    assert registry.whose("sdm", "45", "heat", t) == pinned
    assert registry.pin("sdm", "46", "gardien", "said by the device", NOW) == []
    assert registry.whose("sdm", "46", "heat", t) is Unknown.SERIAL_DIFFERS
    assert Registry.open(path).whose("sdm", "45", "heat", t) == pinned


def test_a_pin_that_changes_nothing_writes_nothing(registry, path):
    before = path.stat().st_ino
    assert registry.pin("sdm", "45", *BY) == []
    assert (path.stat().st_ino, registry.revision) == (before, 1)


def test_a_device_that_says_the_serial_number_of_another_homes_meter_is_not_bound(registry):
    registry.install(
        [NewInstallation("A-3-12", device="sdm"), NewInstallation("A-3-13", serial="45")], *BY
    )
    with pytest.raises(Refused, match=r"measures A-3-12 .* but meter 45 measures A-3-13"):
        registry.pin("sdm", "45", *BY)


def test_many_devices_are_bound_in_one_change_but_for_those_that_cannot_be_who_they_say(registry):
    registry.add_places([NewPlace("A-3-14", "dwelling")], *BY)
    meters = [("A-3-12", "one", None), ("A-3-13", "two", None), ("A-3-14", None, "47")]
    registry.install([NewInstallation(*said) for said in meters], *BY)
    before, said = registry.revision, {"one": "45", "two": "47", "three": "48"}
    pinned, refused = registry.pin_all(said, "gardien", "said so", NOW)
    assert [(one.device, one.serial, one.word.source) for one in pinned] == [
        ("one", "45", "one said so")
    ]
    assert list(refused) == ["two"]
    assert "but meter 47 measures A-3-14" in refused["two"]
    assert registry.revision == before + 1
    assert registry.pin_all({"one": "45", "three": "48"}, "gardien", "said so", NOW) == ([], {})


def calls_of(work):
    """How many functions are called in it: the same however busy the machine is."""
    profile = cProfile.Profile()
    profile.runcall(work)
    return pstats.Stats(profile).total_calls


def test_a_device_that_is_bound_already_costs_the_same_in_a_large_building(tmp_path):
    costs = []
    for dwellings in (10, 200):
        registry = Registry.open(tmp_path / f"{dwellings}.json")
        labels = [f"A-{n}" for n in range(dwellings)]
        registry.add_places([NewPlace(label, "dwelling") for label in labels], *BY)
        registry.install([NewInstallation(label, serial=label) for label in labels], *BY)
        said = {f"m{n}": str(n) for n in range(10)}

        def tried(registry=registry, said=said):
            registry.pin_all(said, "gardien", "said so", NOW)
            for device, serial in said.items():
                registry.pin(device, serial, *BY)

        costs.append(calls_of(tried))
    assert costs[0] == costs[1]


CHANGES = {
    "place": lambda one: one.add_places([NewPlace("new", "dwelling")], *BY),
    "alias": lambda one: one.name([NewAlias("A-7", "bis:x", "7")], *BY),
    "meter": lambda one: one.install([NewInstallation("A-7", serial="new", channel="cw")], *BY),
    "move": lambda one: one.occupy([NewOccupancy("move_out", "A-7", until=int(NOW) + 1)], *BY),
    "consent": lambda one: one.consent([consent("A-8")], *BY, FR),
    "withdrawal": lambda one: one.withdraw([NewWithdrawal(place="A-7")], *BY),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_costs_the_same_in_a_large_building(tmp_path, change):
    costs, written = [], []
    for dwellings in (40, 800):
        path = tmp_path / f"{dwellings}.json"
        registry = Registry.open(path)
        labels = [f"A-{n}" for n in range(dwellings)]
        registry.add_places([NewPlace(label, "dwelling") for label in labels], *BY)
        registry.name([NewAlias(label, "fr.lot", label[2:]) for label in labels], *BY)
        registry.install([NewInstallation(label, serial=label) for label in labels], *BY)
        registry.consent([consent(label) for label in labels if label != "A-8"], *BY, FR)
        registry.name([NewAlias("A-1", "bis:x", "1")], *BY)
        (log,) = tmp_path.glob(f"{dwellings}-*.log")
        before = path.read_bytes(), log.stat().st_size
        costs.append(calls_of(partial(CHANGES[change], registry)))
        assert path.read_bytes() == before[0]
        written.append(log.stat().st_size - before[1])
    assert costs[1] < 1.5 * costs[0]  # a place in a sorted list takes a few more steps
    assert written[1] < written[0] + 20 < 1500


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"documents":{},"other":{}}',
        b'{"documents":{"1":{"kind":"grant"}}}',
        b'{"documents":{"1":{"kind":"place","id":"D"}}}',
        b'{"documents":[1]}',
        b'{"documents":null}',
    ],
)
def test_a_file_that_is_no_registry_is_refused_and_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(Refused, match=r"registry.json: this is not a registry"):
        Registry.open(path)
    assert path.read_bytes() == content


def full(which):
    def fsync(descriptor):
        if which(os.fstat(descriptor).st_mode):
            raise OSError(28, "No space left on device")
        os.fsync(descriptor)

    return fsync


def test_a_full_disk_changes_nothing_and_is_said(registry, path):
    before = path.read_bytes()
    blocked = Registry(path, full(stat.S_ISREG))
    with pytest.raises(Refused, match="could not be written"):
        blocked.add_places([NewPlace("B", "D")], *BY)
    assert everything(blocked) == everything(registry)
    assert path.read_bytes() == before


def test_what_came_to_the_disk_only_perhaps_does_not_hold_and_is_written_over(tmp_path):
    path = tmp_path / "new.json"
    doubtful = Registry(path, full(lambda mode: stat.S_ISDIR(mode) and path.exists()))
    before = everything(doubtful)
    with pytest.raises(Refused, match="was not recorded"):
        doubtful.add_places([NewPlace("B", "D")], *BY)
    assert everything(doubtful) == before
    assert Registry.open(path).place("B")
    doubtful._storage._fsync = os.fsync
    doubtful.add_places([NewPlace("C", "D")], *BY)
    assert everything(doubtful) == everything(Registry.open(path))
    with pytest.raises(Refused):
        doubtful.place("B")


def failing(path, notes):
    """A registry whose disk fails until it is mended."""
    found, mended = Registry(path, notes=notes), []

    def fsync(descriptor):
        if not mended:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(descriptor)

    found._storage._fsync = fsync
    return found, lambda: mended.append(True)


def test_a_consent_was_given_when_it_was_first_recorded_whatever_became_of_it(registry, path):
    """Rule P22: people are told when they consented, not when they withdrew."""
    (given,) = registry.consent([consent()], *BY, FR)
    later = ("alice", "a test", NOW + 86_400)
    registry.consent([consent(step=86_400, replaces="any")], *later, FR)
    registry.withdraw([NewWithdrawal(id=given.id)], "alice", "a test", NOW + 2 * 86_400)
    for book in (registry, Registry(path)):
        days = sorted(one.given_at - int(NOW) for one in book.consents())
        assert days == [0, 86_400]


def test_A_g_a_withdrawal_holds_while_the_disk_fails_and_after_kill_9(registry, path, tmp_path):  # noqa: N802
    """It was acknowledged from memory, and the consent was in force again. Rule A7."""
    (given,) = registry.consent([consent()], *BY, FR)
    broken, mend = failing(path, tmp_path / "notes")
    kept = path.read_bytes()
    (gone,) = broken.withdraw([NewWithdrawal(id=given.id)], *BY)
    assert broken.unrecorded[0] == gone
    assert not broken.consents_of(given.occupancy, given.recipient)
    path.write_bytes(kept)  # what is in the page cache is not on the disk
    after = Registry(path, broken._storage._fsync, tmp_path / "notes")
    assert not after.consents_of(given.occupancy, given.recipient)
    assert (after.revision, after.written) == (broken.revision, False)
    assert broken.last_recorded == after.last_recorded == registry.revision
    mend()
    assert after.retry()
    assert after.last_recorded == after.revision
    assert not after.unrecorded
    assert everything(Registry.open(path)) == everything(after)
    assert not Registry.open(path, tmp_path / "notes").unrecorded


def test_a_consent_stands_if_the_disk_does_not_record_the_one_that_replaces_it(
    registry, path, tmp_path
):
    """It had ended, so its slots had no rows, and the recipient heard of an end that nobody had
    recorded. Rule A10.
    """
    (given,) = registry.consent([consent()], *BY, FR)
    broken, mend = failing(path, tmp_path / "notes")
    later = ("alice", "a test", NOW + 86_400)
    narrower = consent(step=86_400, replaces="any")
    with pytest.raises(NotRecorded):
        broken.consent([narrower], *later, FR)
    assert broken.consents_of(given.occupancy, given.recipient) == (given,)
    assert not broken.unrecorded
    mend()
    broken.consent([narrower], *later, FR)
    old, new = sorted(broken.consents(), key=lambda each: each.since)
    assert (old.until, old.replaced) == (new.since, new.id)


def test_A_h_nothing_is_allowed_while_the_disk_fails(registry, path, tmp_path):  # noqa: N802
    """A consent was accepted in memory, and a withdrawal later found nothing. Rule A10."""
    (given,) = registry.consent([consent()], *BY, FR)
    broken, mend = failing(path, tmp_path / "notes")
    for change in (
        lambda: broken.add_places([NewPlace("B", "D")], *BY),
        lambda: broken.install([NewInstallation("A-3-12", serial="46")], *BY),
        lambda: broken.consent([consent("A-3-13")], *BY, FR),
    ):
        with pytest.raises(NotRecorded):
            change()
    assert everything(broken) == everything(registry)
    broken.withdraw([NewWithdrawal(id=given.id)], *BY)
    mend()
    broken.add_places([NewPlace("C", "D")], *BY)
    assert not broken.unrecorded
    again = Registry.open(path)
    assert everything(again) == everything(broken)
    assert sorted(again.ids_after(registry.revision)) == [registry.revision + 1, broken.revision]


def test_the_end_of_a_move_holds_where_its_beginning_does_not(registry, path, tmp_path):
    """The answer said that nothing was recorded, and no more. Rules A7, A10."""
    home = registry.occupancies()[0]
    broken, mend = failing(path, tmp_path / "notes")
    rows = [
        NewOccupancy("move_out", home.place, until=int(NOW) + 10),
        NewOccupancy("move_in", home.place, since=int(NOW) + 10),
    ]
    with pytest.raises(NotRecorded, match=f"In force.*the end of {shown(home.id)}. The rest was"):
        broken.occupy(rows, *BY)
    ends = {one.id: one.until for one in broken.occupancies() if one.place == home.place}
    assert ends == {home.id: int(NOW) + 10}
    mend()
    broken.occupy(rows, *BY)
    old, new = (one for one in broken.occupancies() if one.place == home.place)
    assert (old.id, old.until, new.since, new.until) == (home.id, new.since, int(NOW) + 10, None)
    assert everything(Registry.open(path)) == everything(broken)


def test_a_registry_that_may_have_forgotten_allows_nothing(registry):
    """Rule A8: the disk fails at a start, and this boot has left no notes."""
    (given,) = registry.consent([consent()], *BY, FR)
    registry.mute = True
    assert not registry.consents_of(given.occupancy, given.recipient)
    assert not registry.ever_agreed(given.place, given.recipient)
    assert not registry.duties_of("heat")
