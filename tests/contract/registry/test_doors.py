"""Moves, exchanges, consents and duties through the commands' calls: one set of checks."""

import json
from decimal import Decimal

import pytest

from agent.api import facts
from agent.core.clock import stamp
from agent.core.errors import NotYet, Refused
from agent.registry.consent_policy import policy
from agent.registry.inputs import NewConsent, NewOccupancy, NewWithdrawal
from agent.registry.place import shown
from agent.registry.registry import Registry

NOW = 1_790_000_000.0
BY = {"who": "alice", "now": NOW}
PARIS = {**BY, "zone": "Europe/Paris"}
HOME = "D84G7ZWYRD6Z1GQ"
PLACES = "label;type;id;since\nA-1;dwelling;D84G7-ZWYRD-6Z1GQ;2025-01-01\nA-2;D;;\nHall;C;;\n"
US, FR = "centre.example", policy("FR-1")


@pytest.fixture
def registry(tmp_path):
    registry = Registry.open(tmp_path / "registry.json")
    facts.place_import(registry, **PARIS, text=PLACES, name="places.csv")
    return registry


def reopened(registry):
    return Registry.open(registry._path)


def taken(registry):
    return [one for _, found in registry.effects(0) for one in found]


def give(registry, **more):
    asked = {"places": ["A-1"], "recipient": US, "channels": ["heat"], "purpose": "advice"}
    return facts.consent_give(registry, **PARIS, **asked | more)["consents"]


def leases(registry, *rows, **more):
    text = "\n".join(["logement;bail;entrée;sortie", *rows])
    return facts.occupancy_import(registry, **PARIS, text=text, name="l.csv", **more)["occupancies"]


# occupancies


def test_one_moves_out_and_another_in_at_the_buildings_midnight(registry):
    facts.occupancy_move_out(registry, **PARIS, place="A-1", at="2026-05-01")
    facts.occupancy_move_in(registry, **PARIS, place="A-1", since="2026-05-01", reference="B-7")
    old, new = facts.occupancy_list(registry, **BY, place="A-1")["occupancies"]
    json.dumps([old, new])
    assert old["until"] == new["since"] == "2026-04-30T22:00:00Z"
    assert (new["reference"], new["in_force"], old["in_force"]) == ("B-7", True, False)
    assert reopened(registry).occupancies() == registry.occupancies()
    (late,) = taken(registry)
    assert (late.reason, late.occupancy) == ("moved", old["id"])
    assert late.until == late.ver + 1  # what is read from now on is decided by what is known then


def test_two_at_once_are_refused_with_both_named(registry):
    """Rule I14."""
    with pytest.raises(Refused) as refused:
        facts.occupancy_move_in(registry, **PARIS, place="A-1", since="2026-05-01", reference="B-7")
    said = str(refused.value)
    assert said.startswith("A-1 (D84G7-ZWYRD-6Z1GQ) is occupied by H")
    assert (
        "(alice, 2026-09-21, places.csv:2), so nobody else can move in on 2026-04-30T22:00" in said
    )
    assert "gardien occupancy move-out" in said
    with pytest.raises(Refused, match="that is recorded already"):
        facts.occupancy_move_in(registry, **PARIS, place="A-1", since="2025-01-01")


def test_who_moves_in_before_those_of_a_later_date_is_told_both_ways_out(registry):
    home = registry.occupancies_of(registry.place("A-1").id)[0]
    with pytest.raises(Refused) as refused:
        facts.occupancy_move_in(registry, **PARIS, place="A-1", since="2020-05-01")
    said = str(refused.value)
    assert f"gardien occupancy correct A-1 --id {shown(home.id)} --since DATE" in said
    assert f'gardien occupancy move-in A-1 --since DATE --until "{stamp(home.since)}"' in said


def test_nobody_moves_out_where_nobody_ever_lived_and_the_refusal_says_what_that_means(registry):
    with pytest.raises(Refused, match=r"stays unknown.*If the dwelling is empty, do nothing"):
        facts.occupancy_move_out(registry, **PARIS, place="A-2", at="2026-01-01")


@pytest.mark.parametrize(
    ("notice", "why"),
    [
        ({"place": "A-1", "at": "2024-01-01"}, "no occupants are recorded before 2023-12-31"),
        ({"place": "Hall", "at": "2026-01-01"}, "Hall .* is a common; only dwellings"),
        ({"place": "B-9", "at": "2026-01-01"}, 'no place "B-9"'),
        ({"place": "A-1", "at": "2026-02-29"}, "February 2026 has 28 days"),
        ({"place": "A-1", "at": "2O26-02-01"}, "letter O where a zero"),
        ({"id": "HEAT", "at": "2026-02-01"}, "has 4 characters"),
        ({"id": "H4STZ-RK0YB-09136"}, "this registry has no occupancy H4STZ-RK0YB-09136"),
    ],
)
def test_a_notice_that_cannot_be_is_refused(registry, notice, why):
    before = registry.revision
    with pytest.raises(Refused, match=why):
        facts.occupancy_move_out(registry, **PARIS, **notice)
    assert registry.revision == before


def test_a_list_of_leases_takes_over_who_was_known_without_reference(registry):
    (known,) = facts.occupancy_list(registry, **BY, place="A-1")["occupancies"]
    new = leases(
        registry, "A-1;B-1;01/03/2019;31/08/2025", "A-1;B-2;2025-08-31;", "A-2;B-3;2020-02-29;"
    )
    assert {one["reference"] for one in new} == {"B-1", "B-2", "B-3"}
    homes = {one["reference"]: one for one in facts.occupancy_list(registry, **BY)["occupancies"]}
    assert homes["B-2"]["id"] == known["id"] or homes["B-1"]["id"] == known["id"]
    assert homes["B-1"]["since"] == "2019-02-28T23:00:00Z"
    assert homes["B-1"]["until"] == homes["B-2"]["since"]
    assert len(homes) == 3


def test_the_same_list_again_changes_nothing_and_a_later_one_brings_up_to_date(registry):
    rows = ["A-2;B-3;2020-02-29;"]
    leases(registry, *rows)
    before = registry.revision
    assert leases(registry, *rows) == []
    assert registry.revision == before
    (ended,) = leases(registry, "A-2;B-3;2020-02-29;2026-08-31")
    assert ended["until"] == "2026-08-30T22:00:00Z"


def test_a_list_may_name_who_moves_in_before_who_moves_out(registry):
    leases(registry, "A-1;B-1;2025-01-01;")
    leases(registry, "A-1;B-2;2026-08-01;", "A-1;B-1;2025-01-01;2026-08-01")
    assert [one.reference for one in registry.occupancies_of(HOME)] == ["B-1", "B-2"]


def test_wrong_rows_of_a_list_are_all_told_and_a_preview_records_nothing(registry):
    before = registry.revision
    with pytest.raises(Refused) as refused:
        leases(registry, "A-1;B-1;2026-02-29;", "A-9;B-2;2026-01-01;", "A-2;;2026-01-01;")
    lines = str(refused.value).splitlines()
    assert [line.split()[0] for line in lines] == ["l.csv:2:", "l.csv:3:", "l.csv:4:"]
    assert leases(registry, "A-2;B-3;2020-01-01;", preview=True)
    assert registry.revision == before


def test_an_occupancy_that_never_was_leaves_room_for_the_right_one(registry):
    facts.occupancy_correct(registry, **PARIS, place="A-1", since="2025-01-01", until="2025-01-01")
    (one,) = facts.occupancy_move_in(registry, **PARIS, place="A-1", since="2025-01-01")[
        "occupancies"
    ]
    assert registry.occupancy_at(HOME, int(NOW)).id == one["id"]


def test_a_move_out_of_the_wrong_dwelling_is_taken_back(registry):
    (home,) = facts.occupancy_list(registry, **BY, place="A-1")["occupancies"]
    give(registry)
    facts.occupancy_move_out(registry, **PARIS, place="A-1", at="2026-05-01")
    assert registry.occupancy_at(HOME, int(NOW)) is None
    facts.occupancy_correct(registry, **PARIS, place="A-1", stays=True)
    assert registry.occupancy_at(HOME, int(NOW)).id == home["id"]
    with pytest.raises(Refused, match=r"their move-out is not recorded; .* --id"):
        facts.occupancy_correct(registry, **PARIS, place="A-1", stays=True)
    with pytest.raises(Refused, match="until: occupants who have not moved out have no end date"):
        facts.occupancy_correct(registry, **PARIS, place="A-1", stays=True, until="2026-06-01")


# meters


def meters(registry):
    return facts.meter_list(registry, **BY)["meters"]


def test_an_exchange_ends_one_meter_and_begins_the_other_with_both_indexes(registry):
    facts.meter_assign(
        registry, **PARIS, device="m", dwelling="A-1", serial="1", channel="heat",
        since="2026-01-01", index=["10,5"], multiplier="10",
    )  # fmt: skip
    facts.meter_exchange(
        registry, **PARIS, place="A-1", serial="2", channel="heat", at="2026-05-12",
        closing=["8412.25"], opening=["heat=0"],
    )  # fmt: skip
    old, new = meters(reopened(registry))
    assert (old["opened"], old["closed"]) == ({"heat": "10.5"}, {"heat": "8412.25"})
    assert old["until"] == new["since"] == "2026-05-11T22:00:00Z"
    assert (new["serial"], new["device"], new["opened"]) == ("2", "m", {"heat": "0"})
    assert new["multiplier"] == "10"
    (late,) = taken(registry)
    assert (late.reason, late.meter, late.channel) == ("exchanged", "1", "heat")


def test_an_index_means_its_multiple_exactly(registry):
    facts.meter_assign(
        registry, **PARIS, device="m", dwelling="A-1", serial="1", channel="heat",
        multiplier="0.1", offset="-3.25",
    )  # fmt: skip
    (meter,) = registry.installations()
    shown = Decimal("12345678901234567890.123456789")
    assert str(meter.measured(shown)) == "1234567890123456785.7623456789"


def test_behind_an_input_another_meter_counts_on_under_the_same_number(registry):
    facts.meter_assign(
        registry, **PARIS, device="k", dwelling="A-1", serial="45120042/2", channel="cw",
        multiplier="0.1", since="2026-01-01",
    )  # fmt: skip
    facts.meter_exchange(
        registry, **PARIS, place="A-1", serial="45120042/2", at="2026-02-01", offset="-500.2"
    )
    old, new = registry.installations()
    assert (old.until, old.serial, new.multiplier) == (new.since, new.serial, old.multiplier)
    assert new.measured(Decimal(5003)) == Decimal("0.1")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"place": "Hall"}, "no meter is recorded there"),
        ({"place": "A-1"}, r"name one of them with --old: 1 \(m\) \(heat\), 3 \(cw\)"),
        ({"place": "A-1", "old": "9"}, "none of them is 9"),
        ({"place": "A-1", "old": "1", "serial": "0001"}, "serial number of the old one"),
        ({"place": "A-1", "old": "1", "serial": "4"}, "4 .*, but meter 4 measures heat A-2"),
        ({"place": "A-1", "old": "1", "serial": "2", "closing": ["cw=1"]}, "measures heat, not cw"),
        ({"place": "A-1", "old": "1", "serial": "2", "closing": ["1"]}, "of which quantity"),
        ({"place": "A-1", "old": "1", "serial": "2", "at": "2025-01-01"}, "no meter is recorded"),
    ],
)
def test_an_exchange_that_cannot_be_is_refused(registry, words, why):
    facts.meter_assign(
        registry, **PARIS, device="m", dwelling="A-1", serial="1", channel="heat",
        since="2026-01-01",
    )  # fmt: skip
    text = "serial;dwelling;channel\n3;A-1;cw\n4;A-2;heat\n"
    facts.meter_import(registry, **PARIS, text=text, name="m.csv")
    with pytest.raises(Refused, match=why):
        facts.meter_exchange(registry, **PARIS, **words)


def test_a_meter_that_never_measured_a_place_may_be_given_to_another(registry):
    facts.meter_assign(
        registry, **PARIS, device="m", dwelling="A-2", serial="1", since="2026-01-01"
    )
    facts.meter_remove(registry, **PARIS, place="A-2", never=True)
    facts.meter_assign(
        registry, **PARIS, device="m", dwelling="A-1", serial="1", since="2026-01-01"
    )
    assert registry.whose("m", "1", "heat", int(NOW)).place == HOME
    (wrong,) = taken(registry)
    assert (wrong.reason, wrong.meter) == ("corrected", "1")


# aliases


def test_a_name_is_unique_both_ways_at_any_instant(registry):
    """Rule I7."""

    def name(place, value, **more):
        return facts.alias_add(registry, **PARIS, place=place, scheme="PRM", value=value, **more)

    name("A-1", "19123456789012", since="2026-01-01")
    with pytest.raises(Refused, match=r"A-2 .* is PRM 19123456789012 .*, but A-1 .* is PRM 1912"):
        name("A-2", "19123456789012")
    with pytest.raises(Refused, match=r"A-1 .*, but A-1 .* is PRM 19123456789012"):
        name("A-1", "19123456789099")
    facts.alias_end(registry, **PARIS, place="A-1", scheme="PRM", at="2026-06-01")
    name("A-2", "19123456789012", since="2026-06-01")
    name("A-1", "19123456789099", since="2026-06-01")
    assert registry.place("PRM 19123456789012").label == "A-2"


def test_a_buildings_name_is_shared_and_finds_no_dwelling(registry):
    """Rule I7."""
    for place in ("A-1", "A-2"):
        facts.alias_add(registry, **BY, place=place, scheme="RNB", value="D8T7TQQ4JHMY")
    with pytest.raises(Refused, match="no place"):
        registry.place("D8T7TQQ4JHMY")


def test_lots_of_a_list_are_places_and_their_further_names(registry):
    text = "lot;type;label\n12;appartement;B-1\n112;cave;B-1\n9;parking;A-1\n7;bureau;B-2\n"
    with pytest.raises(Refused, match=r"p\.csv: nothing was recorded, because .* left out: 1;"):
        facts.place_import(registry, **PARIS, text=text, name="p.csv")
    done = facts.place_import(
        registry, **PARIS, text=text, name="p.csv", types=["dwelling", "cave", "parking"]
    )
    assert ([one["label"] for one in done["places"]], done["lots"]) == (["B-1"], 3)
    assert done["not_taken"] == {"bureau": 1}
    assert registry.place("lot 112").label == "B-1"
    assert registry.place("lot 9").label == "A-1"


# bases


def test_a_consent_is_withdrawn_at_once_and_not_given_again_by_an_older_paper(registry):
    (one,) = give(registry, scope="daily")
    assert (one["scope"], one["step"]) == ("daily", 86400)
    facts.consent_withdraw(registry, **BY | {"who": "dupont"}, place="A-1")
    (gone,) = facts.consent_list(registry, **BY)["consents"]
    assert (gone["who"], gone["recorded"]["who"]) == ("dupont", BY["who"])
    assert (gone["id"], gone["in_force"], gone["withdrawn"]) == (
        one["id"], False, "2026-09-21T14:13:20Z",
    )  # fmt: skip
    (home,) = registry.occupancies_of(HOME)
    assert list(registry.consents_of(home.id, US)) == []
    text = "place;recipient;channels;purpose;given\nA-1;centre.example;heat;advice;2026-09-01\n"
    answer = facts.consent_give(registry, **PARIS, text=text, name="c.csv")
    assert answer["consents"] == []
    assert "but since then: withdrawn from all recipients on" in answer["without_effect"][0]
    with pytest.raises(Refused, match=r"but since then: withdrawn from all recipients on"):
        give(registry, scope="daily")
    (mark,) = facts.consent_marks(registry, **BY, places=["A-1"])["marks"]
    assert give(registry, scope="daily", after=[mark["mark"]])


def test_a_channel_is_withdrawn_and_the_others_stay(registry):
    give(registry, channels=["heat", "cw"])
    (left,) = facts.consent_withdraw(registry, **BY, place="A-1", channels=["cw"])["consents"]
    assert (left["channels"], left["in_force"]) == (["heat"], True)
    assert [one.channel for one in taken(registry)] == ["cw"]


def test_nothing_to_withdraw_is_said(registry):
    """It counts all the same: what was signed before may be on its way."""
    assert facts.consent_withdraw(registry, **BY, place="A-1")["consents"] == []
    with pytest.raises(Refused, match="but since then"):
        give(registry)
    with pytest.raises(Refused, match="no such consent is left"):
        facts.consent_withdraw(registry, **BY, place="A-1", purpose="research")
    with pytest.raises(Refused, match="no consent has the id nonsense"):
        facts.consent_withdraw(registry, **BY, id="nonsense")


def test_after_a_withdrawal_of_one_purpose_an_older_consent_to_a_third_gives_nothing(registry):
    """Rules D1, D9."""
    (kept,) = give(registry)
    give(registry, recipient="other.example", purpose="research", channels=["cw"])
    facts.consent_withdraw(registry, **BY, place="A-1", purpose="research")
    with pytest.raises(Refused, match="but since then"):
        give(registry, recipient="third.example", purpose="research", channels=["cw"])
    (home,) = registry.occupancies_of(HOME)
    assert [one.id for one in registry.consents_of(home.id, US)] == [kept["id"]]


def test_a_list_with_a_consent_of_those_who_moved_out_is_taken_again(registry):
    leases(registry, "A-2;B-1;2025-01-01;")
    text = "place;recipient;channels;purpose;lease\nA-2;centre.example;heat;advice;B-1\n"
    facts.consent_give(registry, **PARIS, text=text, name="c.csv")
    facts.occupancy_move_out(registry, **PARIS, place="A-2", at="2026-05-01")
    (gone,) = facts.consent_list(registry, **BY)["consents"]
    assert (gone["in_force"], gone["moved_out"]) == (False, "2026-04-30T22:00:00Z")
    text += "A-1;centre.example;heat;advice;\n"
    answer = facts.consent_give(registry, **PARIS, text=text, name="c.csv")
    assert ([one["label"] for one in answer["consents"]], answer["unchanged"]) == (["A-1"], 1)


def test_a_narrower_consent_ends_the_one_that_stood(registry):
    (wide,) = give(registry, step="30min")
    with pytest.raises(Refused, match="but A-1"):
        give(registry, scope="monthly")
    old, new = give(registry, scope="monthly", replace=True)
    assert (old["id"], old["replaced_by"]) == (wide["id"], new["id"])
    assert old["until"] == new["since"]
    assert taken(registry) == []


def test_a_narrower_consent_of_last_week_takes_back_what_was_finer_since(registry):
    give(registry, since="2026-09-01", step="30min")
    give(registry, since="2026-09-15", scope="monthly", replace=True)
    (late,) = taken(registry)
    assert (late.reason, late.since) == ("corrected", 1_789_423_200)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"scope": "daily", "step": "30min"}, "step: 30min is loadcurve, not daily"),
        ({"scope": "hourly"}, 'scope: "hourly" is not known'),
        ({"step": "2d"}, "neither a day"),
        ({"step": "5min"}, "finer than the 600 s"),
        ({"recipient": None}, "recipient"),
        ({"channels": []}, "channels: name each"),
        ({"places": ["D84G7-ZWYRD-6Z1GR"]}, "check characters do not match"),
        ({"places": ["DRDV1-EWZEP-EEXY9"]}, "no place DRDV1-EWZEP-EEXY9 in this registry"),
    ],
)
def test_a_consent_that_cannot_be_is_refused(registry, words, why):
    with pytest.raises(Refused, match=why):
        give(registry, **words)


def signed(occupancy="H4STZRK0YB09136", **more):
    """As a signed object says it."""
    return NewConsent("", US, ("heat",), 1800, "advice", occupancy=occupancy, **more)


def test_a_consent_before_its_occupancy_waits(registry):
    with pytest.raises(NotYet, match="H4STZ-RK0YB-09136 is not recorded yet"):
        registry.consent([signed(id="c-1")], "collector", "object", NOW, FR)
    facts.occupancy_move_out(registry, **PARIS, place="A-1", at="2026-05-01")
    row = NewOccupancy("move_in", "A-1", "H4STZ-RK0YB-09136", 1_780_000_000)
    registry.occupy([row], "registry", "object", NOW)
    (consent,) = registry.consent([signed(id="c-1")], "collector", "object", NOW, FR)
    assert (consent.id, consent.place) == ("c-1", HOME)
    with pytest.raises(Refused, match="c-1 is recorded already"):
        registry.consent([signed(id="c-1")], "collector", "object", NOW, FR)


def test_a_consent_withdrawn_before_it_came_is_never_taken(registry):
    (home,) = registry.occupancies_of(HOME)
    registry.withdraw([NewWithdrawal("c-9")], "collector", "object", NOW)
    again = reopened(registry)
    with pytest.raises(Refused, match="withdrawn before it arrived"):
        again.consent([signed(home.id, id="c-9")], "collector", "object", NOW, FR)


def test_a_building_has_one_manager_at_a_time(registry):
    def duty(reference, recipient, **more):
        return facts.duty_add(
            registry, **PARIS, reference=reference, recipient=recipient, channels=["heat"], **more
        )["duties"]

    (one,) = duty("décret 2020-886", "manager.example", billing=["30/06"])
    assert one["billing"] == ["06-30"]
    with pytest.raises(Refused, match="one manager at a time"):
        duty("contract", "other.example")
    duty("contract", "manager.example")
    for reference in ("décret 2020-886", "contract"):
        facts.duty_end(registry, **PARIS, duty=reference, at="2026-10-01")
    duty("contract", "other.example", since="2026-10-01")
    assert taken(registry) == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"channels": ["temp"]}, "temp is not an index"),
        ({"billing": ["02-29"]}, "not a day of every year"),
        ({"until": "2020-01-01"}, "not after"),
        ({"recipient": "the manager"}, "not a DNS name"),
    ],
)
def test_a_duty_that_cannot_be_is_refused(registry, words, why):
    asked = {"reference": "contract", "recipient": "manager.example", "channels": ["heat"]}
    with pytest.raises(Refused, match=why):
        facts.duty_add(registry, **PARIS, **asked | words)


def test_a_registry_of_the_first_version_still_loads(tmp_path):
    word = {"who": "alice", "when": 1_790_000_000, "source": "x", "revision": 1}
    rows = [
        {"kind": "place", "id": HOME, "label": "A-1", "word": word},
        {"kind": "occupancy", "id": "H4STZRK0YB09136", "place": HOME, "since": 1, "until": None,
         "word": word},
        {"kind": "installation", "id": "i1", "place": HOME, "device": "m", "serial": "1",
         "pinned": False, "channel": None, "since": 1, "until": None, "word": word},
        {"kind": "consent", "id": "c1", "occupancy": "H4STZRK0YB09136", "place": HOME,
         "recipient": US, "channels": ["heat"], "step": 900, "purpose": "x", "since": 1,
         "until": 2_000_000_000, "word": word},
    ]  # fmt: skip
    path = tmp_path / "registry.json"
    table = {str(number): row for number, row in enumerate(rows, 1)}
    path.write_text(json.dumps({"documents": table}))
    registry = Registry.open(path)
    facts.consent_withdraw(registry, **BY, place="A-1")
    facts.meter_exchange(registry, **BY, place="A-1", serial="2")
    assert len(reopened(registry).installations()) == 2
    assert [one.reason for one in taken(reopened(registry))] == ["withdrawn"]


def test_one_wrong_line_in_50000_is_told_soon_and_the_file_refused(registry):
    rows = [f"B-{number};dwelling" for number in range(50_000)]
    rows[30_000] = "B-30000;dweling"
    with pytest.raises(Refused, match=r'^p.csv:30002: type: "dweling"'):
        facts.place_import(registry, **PARIS, text="\n".join(["label;type", *rows]), name="p.csv")
    all_wrong = "\n".join(["serial;dwelling", *(f"{n};Z-{n}" for n in range(50_000))])
    with pytest.raises(Refused, match="and 49980 more"):
        facts.meter_import(registry, **PARIS, text=all_wrong, name="m.csv")
    assert registry.revision == 1
