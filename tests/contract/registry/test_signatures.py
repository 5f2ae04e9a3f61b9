"""When a consent was signed: not in the future, not before the occupancy, and how long it lasts."""

import json
import re

import pytest

from agent.api import facts
from agent.core.errors import Refused
from agent.registry.consent_policy import policy
from agent.registry.inputs import NewConsent, NewWithdrawal
from agent.registry.registry import Registry

NOW = 1_795_752_000.0
"""2026-11-27 05:00 in Paris"""
BEFORE_MIDNIGHT = NOW + 18 * 3600 + 57 * 60
DAY = 86400
PLACES = "label;type;since\nA-1;dwelling;2025-01-01\nA-2;D;\nHall;C;\n"
HEADINGS = "logement;recipient;channels;purpose;scope"
ROW = "A-1;centre.example;heat;advice;daily"
US, FR = "centre.example", policy("FR-1")


def at(now=NOW):
    return {"who": "alice", "now": now, "zone": "Europe/Paris"}


@pytest.fixture
def registry(tmp_path):
    registry = Registry.open(tmp_path / "registry.json")
    facts.place_import(registry, **at(), text=PLACES, name="p.csv")
    return registry


def listed(registry, now=NOW, row=ROW, **cells):
    """Bring a list of one line with further columns."""
    text = ";".join([HEADINGS, *cells]) + "\n" + ";".join([row, *cells.values()]) + "\n"
    return facts.consent_give(registry, **at(now), text=text, name="c.csv")["consents"]


def typed(registry, now=NOW, **words):
    asked = {"places": ["A-1"], "recipient": US, "channels": ["heat"], "purpose": "advice"}
    return facts.consent_give(registry, **at(now), **asked, **words)["consents"]


def withdraw(registry, now):
    facts.consent_withdraw(registry, who="bob", now=now, place="A-1")


def in_force(registry):
    (home,) = [one for one in registry.occupancies() if registry.label(one.place) == "A-1"]
    return registry.consents_of(home.id, US)


def moved(registry, since="2026-11-01", reference="B-2", now=NOW - 30 * DAY):
    """Other people live in A-1 since then."""
    facts.occupancy_move_out(registry, **at(now), place="A-1", at=since)
    words = {"place": "A-1", "since": since, "reference": reference}
    (home,) = facts.occupancy_move_in(registry, **at(now), **words)["occupancies"]
    return home


# in the future


@pytest.mark.parametrize(
    ("given", "now"),
    [
        ("27/11/2062", NOW),
        ("2026-11-28", NOW),
        ("2026-11-28", BEFORE_MIDNIGHT),
        ("2026-11-27T18:00", NOW),
    ],
)
def test_a_list_has_no_signature_of_a_day_to_come(registry, given, now):
    """Rule P5."""
    with pytest.raises(
        Refused, match=r"^c\.csv:2: given: .* is in the future .*the date of the signature"
    ):
        listed(registry, now, given=given)
    assert registry.consents() == []


def test_a_list_may_have_todays_signatures(registry):
    assert listed(registry, given="2026-11-27")


def test_a_command_has_no_signature_beyond_five_minutes(registry):
    """Rule P5."""
    with pytest.raises(Refused, match=r"^given: .* is in the future"):
        typed(registry, given="2026-11-27T05:06")
    assert typed(registry, given="2026-11-27T05:04")


def test_neither_does_any_other_door(registry):
    (home,) = registry.occupancies_of(registry.place("A-1").id)
    late = NewConsent(
        "", US, ("heat",), 1800, "advice", occupancy=home.id, id="c-1", given=int(NOW) + 301
    )
    with pytest.raises(Refused, match="in the future"):
        registry.consent([late], "collector", "object", NOW, FR)


@pytest.mark.parametrize("cells", [{"since": "2026-12-31"}, {"since": "2026-11-28"}])
def test_a_list_gives_nothing_again_by_a_date_from_which_it_shall_count(registry, cells):
    (home,) = registry.occupancies_of(registry.place("A-1").id)
    listed(registry, **cells)
    withdraw(registry, NOW + 60)
    assert listed(registry, NOW + 3600, **cells) == []
    assert listed(registry, NOW + 60 * DAY, **cells) == []
    assert list(registry.consents_of(home.id, US)) == []


def test_a_future_signature_that_an_earlier_version_took_defeats_no_withdrawal(registry):
    listed(registry, given="2026-11-20")
    stored = json.dumps(registry.stored())
    given = registry.consents()[0].given
    for later in (NOW + 30 * 365 * DAY, 253_402_300_799):  # 2056, and the last second of 9999
        registry._path.write_text(stored.replace(str(given), str(int(later))))
        old = Registry.open(registry._path)
        assert in_force(old)
        withdraw(old, NOW + 60)
        assert not in_force(old)
        with pytest.raises(Refused, match="in the future"):
            listed(old, NOW + 120, given="2056-11-19")
        assert not in_force(old)


def test_the_answer_to_a_withdrawal_states_when_the_consent_was_given(registry):
    """A withdrawal is a later version of a consent that was given when it was first recorded."""
    (consent,) = listed(registry)
    answer = facts.consent_withdraw(registry, who="bob", now=NOW + DAY, place="A-1")
    (ended,) = answer["consents"]
    assert ended["given"] == consent["given"] != ended["withdrawn"]


# before the people moved in


def test_a_consent_that_was_signed_before_the_people_moved_in_is_refused(registry):
    """Rule P6."""
    moved(registry)
    with pytest.raises(Refused) as refused:
        listed(registry, given="2026-10-31")
    said = str(refused.value)
    assert said.startswith("c.csv:2: given: A-1 (D")
    assert "before this occupancy began on 2026-10-31T23:00:00Z" in said
    assert "write B-2 in a column `lease` (--lease B-2)" in said
    assert said.endswith("gardien occupancy correct A-1 --since DATE")
    with pytest.raises(Refused, match="before this occupancy began"):
        typed(registry, given="2026-10-31")
    assert typed(registry, given="2026-11-01")


@pytest.mark.parametrize("heading", ["bail", "n° de bail", "Lease"])
def test_it_counts_if_a_list_names_their_lease(registry, heading):
    """Rule P6."""
    home = moved(registry)
    (one,) = listed(registry, given="2026-10-31", **{heading: "B-2"})
    assert one["occupancy"] == home["id"]


@pytest.mark.parametrize("name", ["reference", "shown", "id"])
def test_it_counts_if_a_command_names_their_lease_or_occupancy(registry, name):
    home = moved(registry)
    (one,) = typed(registry, given="2026-10-31", lease=home[name])
    assert one["occupancy"] == home["id"]


def test_a_lease_that_is_not_recorded_is_said_with_what_to_do(registry):
    with pytest.raises(Refused, match=r'c\.csv:2: .* no lease "B-9" yet.*occupancy import LIST'):
        listed(registry, given="2026-10-31", bail="B-9")
    moved(registry)
    old = registry.occupancies_of(registry.place("A-1").id)[0].id
    with pytest.raises(Refused, match=r"lease H\S+ does not include 2026-11-27"):
        listed(registry, given="2026-10-31", bail=old)


def test_a_row_of_people_who_withdrew_and_moved_out_leaves_the_other_rows_alone(registry):
    listed(registry, NOW - 60 * DAY)
    withdraw(registry, NOW - 50 * DAY)
    old = registry.occupancies_of(registry.place("A-1").id)[0].id
    moved(registry)
    head, bail, row = f"{HEADINGS};lease", old, ROW.replace("heat", "cw")
    text = f"{head}\n{row};{bail}\n{ROW};B-2\n"
    answer = facts.consent_give(registry, **at(NOW), text=text, name="c.csv")
    assert [one["occupancy"] != old for one in answer["consents"]] == [True]
    (said,) = answer["without_effect"]
    assert "c.csv:2: the occupants with lease" in said


def test_who_is_to_move_in_agrees_by_name_only_and_from_then_on(registry):
    home = moved(registry, since="2027-01-01")
    with pytest.raises(Refused, match="before this occupancy began on 2026-12-31"):
        listed(registry, given="2026-11-27", since="2027-01-01")
    with pytest.raises(Refused, match="does not say which of them consented"):
        listed(registry, NOW + 60 * DAY)
    (one,) = listed(registry, given="2026-11-20", bail="B-2")
    assert (one["occupancy"], one["since"]) == (home["id"], "2026-12-31T23:00:00Z")
    assert listed(registry, NOW + DAY, given="2026-11-20", bail="B-2") == []
    assert len(registry.consents()) == 1


def test_a_lease_that_is_named_is_not_taken_for_that_of_those_who_moved_out(registry):
    listed(registry, NOW - 60 * DAY)
    moved(registry)
    with pytest.raises(Refused, match="does not say which of them consented"):
        listed(registry)
    assert listed(registry, bail="B-2")


def test_the_day_on_which_a_dwelling_was_recorded_is_early_enough(registry):
    """Its occupancy begins at 05:00, and a list has whole days."""
    facts.occupancy_move_in(registry, **at(), place="A-2")
    assert listed(registry, row=ROW.replace("A-1", "A-2"), given="2026-11-27")


def test_what_an_earlier_version_recorded_stays_and_may_be_brought_again(registry):
    (one,) = listed(registry, given="2026-11-20")
    text = json.dumps(registry.stored())
    moved_in = str(registry.occupancies_of(one["place"])[0].since)
    registry._path.write_text(text.replace(moved_in, str(int(NOW) - 3 * DAY)))
    old = Registry.open(registry._path)
    before = old.revision
    assert listed(old, NOW + 60, given="2026-11-20") == []
    assert (old.revision, len(in_force(old))) == (before, 1)


def leases(registry, row, now=NOW):
    text = f"logement;bail;entrée\n{row}\n"
    return facts.occupancy_import(registry, **at(now), text=text, name="l.csv")["occupancies"]


def test_a_list_of_leases_that_comes_later_gives_no_consent_to_who_moved_in_since(registry):
    listed(registry, NOW - 60 * DAY, given="2026-09-20")
    with pytest.raises(
        Refused, match=r"^l\.csv:2: since: A-1 .* before lease B-2 begins .*move-out"
    ):
        leases(registry, "A-1;B-2;2026-11-01")
    assert leases(registry, "A-1;B-2;2026-09-20")  # the same people: they signed on that day


def test_it_names_those_who_moved_in_once_the_others_have_moved_out(registry):
    (one,) = listed(registry, NOW - 60 * DAY, given="2026-09-20")
    facts.occupancy_move_out(registry, **at(), place="A-1", at="2026-11-01")
    (home,) = leases(registry, "A-1;B-2;2026-11-01")
    assert home["id"] != one["occupancy"]
    assert list(registry.consents_of(home["id"], US)) == []


def test_it_gives_it_to_the_same_people_by_the_word_of_a_person(registry):
    (one,) = listed(registry, NOW - 60 * DAY, given="2026-09-20")
    facts.occupancy_correct(registry, **at(), place="A-1", since="2026-11-01")
    (home,) = leases(registry, "A-1;B-2;2026-11-01")
    assert home["id"] == one["occupancy"]


# how long it lasts


@pytest.mark.parametrize(
    ("cells", "until"),
    [
        ({"given": "2026-03-10"}, "2029-03-09"),
        ({"given": "2026-03-10", "since": "2026-12-01"}, "2029-03-09"),
        ({"given": "2026-03-10", "since": "2026-03-01"}, "2029-03-09"),
        ({"since": "2026-03-01"}, "2029-02-28"),
        ({"since": "2027-03-01"}, "2029-11-27"),
        ({}, "2029-11-27"),
    ],
)
def test_a_consent_ends_36_months_after_its_signature(registry, cells, until):
    """Of one that does not say when it was signed: after it was recorded, or began before that.
    Rule P5.
    """
    (one,) = listed(registry, **cells)
    assert one["until"][:10] == until
    withdraw(registry, NOW + 1)


def test_no_end_is_later_than_36_months_after_the_signature(registry):
    with pytest.raises(Refused, match=r"c\.csv:2: until: .* counted from its signature"):
        listed(registry, given="2026-03-10", until="2029-03-11")
    assert listed(registry, given="2026-03-10", until="2029-03-10")


def test_a_paper_that_is_older_than_36_months_gives_nothing(registry):
    facts.occupancy_correct(registry, **at(), place="A-1", since="2020-01-01")
    with pytest.raises(Refused, match=r"c\.csv:2: given: .* ended on 2026-11-09.* new one signed"):
        listed(registry, given="2023-11-10")
    assert registry.consents() == []


def test_a_consent_that_an_earlier_version_counted_from_its_import_ends_in_time(registry):
    listed(registry, given="2026-03-10")
    first, last = (registry.consents()[0].until, 1_890_446_400)  # 2029-11-27
    stored = json.dumps(registry.stored())
    registry._path.write_text(stored.replace(str(first), str(last)))
    old = Registry.open(registry._path)
    (consent,) = old.consents()
    assert consent.until == first
    assert [one.until for one in in_force(old)] == [first]
    # a sum that was made meanwhile counted on its rows
    assert [one.until for one in old.ever_agreed(consent.place, US)] == [last]
    assert listed(old, NOW + 60, given="2026-03-10") == []
    old.withdraw([NewWithdrawal(consent.id)], "bob", "a test", NOW + 61)
    (taken,) = [one for _, found in old.effects(0) for one in found]
    assert (taken.reason, taken.until) == ("withdrawn", None)
    json.dumps(facts.consent_list(old, who="alice", now=NOW)["consents"])


# what people see


def test_a_french_manager_reads_it_in_french(registry, monkeypatch):
    monkeypatch.setenv("LANGUAGE", "fr")
    moved(registry)
    for cells, said in (
        ({"given": "27/11/2062"}, r"given \(signé le\) : .* est dans le futur"),
        ({"given": "2026-10-31"}, r"avant le début de cette occupation .* colonne `bail`"),
        ({"bail": "B-9"}, r'lease \(bail\) : aucun bail "B-9"'),
        ({"given": "2022-10-31", "bail": "B-2"}, r"36 mois au plus"),
    ):
        with pytest.raises(Refused) as refused:
            listed(registry, **cells)
        assert re.search(rf"^c\.csv:2 : .*{said}", refused.value.text.in_language())


def test_columns_of_others_are_not_taken_for_a_lease(registry):
    assert listed(registry, Mail="a@b.example", Bailleur="Dupont", Classe="D")
