"""Whose data a breach concerns, until when the authority must be told, and what is missing."""

import json
from dataclasses import replace

import pytest

from agent.api.protection.breach import Breach, Breaches, Concern, missing
from agent.config import parse
from agent.core.errors import NotRecorded, Refused
from agent.registry.consent_policy import LONGEST_KEPT, LONGEST_UNSENT, policy
from agent.registry.dossier import DisclosedValues
from agent.registry.inputs import NewConsent, NewDuty, NewOccupancy, NewPlace, NewWithdrawal
from agent.registry.registry import Registry
from tests.unit.config.samples import SMALL

DAY = 86_400
NOW = 1_790_000_000
BY = ("marie", "a list")
US, MANAGER = "energie.metropole.example", "syndic.example"
CONFIG = parse(SMALL, "config.yaml")
CONTACT = "{name: Marie, contact: marie@regie.example}"
NAMED = parse(SMALL + f"privacy: {{controller: {CONTACT}, dpo: {CONTACT}}}\n", "x").privacy
BOTH = {"fr": "un", "en": "one"}
WHOLE = Breach(
    "2026-1", NOW, BOTH, BOTH, BOTH, began=NOW - DAY, kinds=("confidentiality",),
    stores=("spool",), risk="high", notified=NOW + 3600, told=NOW + 3600,
)  # fmt: skip


@pytest.fixture
def registry(tmp_path):
    """A-1: somebody moved out 100 days ago, others live there since; A-2: nobody is known."""
    registry = Registry.open(tmp_path / "registry.json")
    registry.add_places([NewPlace("A-1", "dwelling", since=NOW - 400 * DAY)], *BY, NOW - 400 * DAY)
    registry.add_places([NewPlace("A-2", "dwelling", occupied=False)], *BY, NOW - 400 * DAY)
    registry.occupy([NewOccupancy("move_out", "A-1", until=NOW - 100 * DAY)], *BY, NOW - 100 * DAY)
    new = NewOccupancy("move_in", "A-1", since=NOW - 100 * DAY, reference="B-2")
    registry.occupy([new], *BY, NOW - 100 * DAY)
    return registry


def agree(registry, days, *, recipient=US, until=None):
    row = NewConsent(
        "A-1", recipient, ("elec.imp",), DAY, "advice", since=NOW - days * DAY, until=until
    )
    registry.consent([row], *BY, float(NOW - days * DAY), policy("FR-1"))


def oblige(registry, days):
    row = NewDuty(MANAGER, "décret 2020-886", ("cw",), since=NOW - days * DAY)
    registry.oblige([row], *BY, float(NOW - days * DAY))


def whose(registry, disclosed=(), **said):
    breach = Breach("2026-1", NOW, began=NOW, **said)
    found = Concern(breach, registry, CONFIG, disclosed, NOW).all()
    place = {one.id: one.label for one in registry.places()}
    return [
        (place[one.place], one.home and (one.home.reference or "first"), one.stores)
        for one in found
    ]


def test_the_authority_must_be_told_72_hours_after_it_was_noticed():
    """Rule P25."""
    assert WHOLE.deadline - NOW == 72 * 3600


def test_a_whole_record_misses_nothing():
    assert missing(WHOLE, NAMED) == []


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        ({"what": {"fr": "un"}}, []),
        ({"measures": {}}, ["measures"]),
        ({"began": None}, ["began"]),
        ({"kinds": ()}, ["kinds"]),
        ({"stores": ()}, ["scope"]),
        ({"stores": (), "keys": ("spool",)}, []),
        ({"stores": (), "keys": ("signing",)}, ["stores"]),
        ({"stores": (), "places": ("D1",)}, ["stores"]),
        ({"stores": (), "recipients": (US,)}, []),
        ({"risk": ""}, ["risk"]),
        ({"notified": None}, ["notified"]),
        ({"told": None}, ["told"]),
        ({"risk": "none", "notified": None, "told": None}, []),
        ({"risk": "risk", "told": None}, []),
        ({"notified": NOW + 72 * 3600}, []),
        ({"notified": NOW + 72 * 3600 + 1}, ["delay"]),
    ],
)
def test_what_is_missing_is_named(change, lacks):
    assert missing(replace(WHOLE, **change), NAMED) == lacks


def test_who_is_responsible_is_missed_where_the_configuration_does_not_say():
    assert missing(WHOLE, CONFIG.privacy) == ["controller", "dpo"]


def test_nobody_is_concerned_by_values_of_a_recipient_that_gets_none(registry):
    assert whose(registry, stores=("spool",)) == []


def test_those_are_concerned_whose_values_may_wait(registry):
    agree(registry, 50)
    assert whose(registry, stores=("spool", "registers")) == [("A-1", "B-2", ("spool",))]


def test_values_go_back_for_as_long_as_they_may_wait(registry):
    """Who moved out 100 days ago is concerned by what goes back that far, and not by what waits."""
    agree(registry, 200)
    edge = Breach("2026-1", NOW - 100 * DAY + LONGEST_UNSENT, stores=("spool",))

    def found(breach):
        return [one.home.until for one in Concern(breach, registry, CONFIG, (), NOW).all()]

    assert found(edge) == []
    assert found(replace(edge, noticed=edge.noticed - 1)) == [NOW - 100 * DAY]
    assert whose(registry, stores=("disclosed",)) == [("A-1", "first", ("disclosed",))]


def test_a_consent_that_was_withdrawn_before_concerns_nobody(registry):
    agree(registry, 99)
    (home,) = [one for one in registry.occupancies() if one.until is None]
    row = NewWithdrawal(occupancy=home.id)
    registry.withdraw([row], *BY, NOW - 70 * DAY)
    assert whose(registry, stores=("spool",)) == []
    assert whose(registry, stores=("disclosed",)) == [("A-1", "B-2", ("disclosed",))]


def test_the_indexes_of_midnight_concern_those_of_a_duty(registry):
    oblige(registry, 300)
    assert LONGEST_KEPT < 100 * DAY
    assert whose(registry, stores=("registers",)) == [("A-1", "B-2", ("registers",))]


def test_the_registry_concerns_all_who_ever_lived_there_and_names_where_nobody_is_known(registry):
    assert whose(registry, stores=("registry",)) == [
        ("A-1", "first", ("registry",)),
        ("A-1", "B-2", ("registry",)),
        ("A-2", None, ("registry",)),
    ]


def test_of_a_recipient_all_are_concerned_whose_values_it_may_have(registry):
    agree(registry, 300, until=NOW - 200 * DAY)
    assert whose(registry, recipients=(US,)) == [("A-1", "first", ())]
    assert whose(registry, recipients=(MANAGER,)) == []


def test_a_recipient_that_is_named_narrows_the_stores(registry):
    agree(registry, 50)
    assert whose(registry, stores=("spool",), recipients=(MANAGER,)) == []
    assert whose(registry, stores=("spool",), recipients=(US,)) == [("A-1", "B-2", ("spool",))]


def test_what_was_received_counts_also_where_no_right_is_recorded(registry):
    home = next(one for one in registry.occupancies() if one.until is None)
    count = DisclosedValues("2026-09-01", US, home.place, "elec.imp", "c", 7, home.id)
    assert whose(registry, [count], recipients=(US,)) == [("A-1", "B-2", ())]
    unsure = replace(count, occupancy="")
    assert len(whose(registry, [unsure], recipients=(US,))) == 2
    assert whose(registry, [replace(count, place="D9")], recipients=(US,)) == []


def test_dwellings_that_are_named_alone_are_concerned(registry):
    place = registry.place("A-1").id
    assert whose(registry, places=(place,)) == [("A-1", "B-2", ())]
    assert whose(registry, places=(place,), stores=("log",)) == [
        ("A-1", "first", ("log",)),
        ("A-1", "B-2", ("log",)),
    ]


def test_people_who_are_named_alone_are_concerned_and_not_those_after_them(registry):
    first = next(one for one in registry.occupancies() if one.until is not None)
    assert whose(registry, homes=(first.id,)) == [("A-1", "first", ())]
    assert whose(registry, homes=(first.id,), stores=("registry",)) == [
        ("A-1", "first", ("registry",))
    ]


def test_a_record_is_the_same_after_it_was_kept(tmp_path):
    kept = Breaches(tmp_path)
    one = WHOLE.with_step(NOW, "marie", "new").with_step(NOW + 5, "marie", "add", "risk what:fr")
    kept.save(one)
    kept.save(replace(WHOLE, id="2026-2"))
    again = Breaches(tmp_path)
    assert again.get("2026-1") == one
    assert again.get("2026-1").hash == one.hash != WHOLE.hash
    assert [found.id for found in again.all()] == ["2026-1", "2026-2"]
    assert (again.next_number(2026), again.next_number(2027)) == ("2026-3", "2027-1")
    assert (tmp_path / "breaches.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "gardien/breaches/1"}', "\xff"])
def test_a_file_that_cannot_be_read_is_told_and_never_written_over(tmp_path, content):
    file = tmp_path / "breaches.json"
    file.write_bytes(content.encode("latin-1"))
    for act in (Breaches(tmp_path).all, lambda: Breaches(tmp_path).save(WHOLE)):
        with pytest.raises(Refused, match=r"breaches\.json cannot be read"):
            act()
    assert file.read_bytes() == content.encode("latin-1")


def test_a_file_of_a_later_version_is_left_alone(tmp_path):
    text = json.dumps({"schema": "gardien/breaches/2", "breaches": []})
    (tmp_path / "breaches.json").write_text(text)
    with pytest.raises(Refused, match="another version"):
        Breaches(tmp_path).save(WHOLE)


def test_what_the_disk_does_not_take_is_not_recorded(tmp_path):
    (tmp_path / "breaches.new").mkdir()
    with pytest.raises(NotRecorded):
        Breaches(tmp_path).save(WHOLE)
    assert Breaches(tmp_path).all() == []


def test_there_is_no_breach_of_an_unknown_number(tmp_path):
    with pytest.raises(Refused, match='no breach "2026-9"; there are: none'):
        Breaches(tmp_path).get("2026-9")
