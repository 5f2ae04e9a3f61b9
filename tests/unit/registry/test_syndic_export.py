"""What the syndic's software exports, compared with the registry: clear, or for a person."""

from dataclasses import replace

import pytest

from agent.core.errors import Refused
from agent.registry.index import RegistryIndex
from agent.registry.parsers import when
from agent.registry.records import Alias, Occupancy, Place, Provenance
from agent.registry.syndic_export import AUTHOR, Doubt, accepted, compare, parse

ZONE = "Europe/Paris"
NOW = when("2026-11-27", ZONE)
WORD = Provenance("marie", NOW, "baux.csv:2", 1)
HEADINGS = {"dwelling": "Lot", "reference": "N° bail", "since": "Entrée", "until": "Sortie"}
MOVES = {"dwelling": "Lot", "move": "Mouvement", "date": "Le", "reference": "N° bail"}
WORDS = {"Entrée": "move_in", "Sortie": "move_out"}
PLACES = [
    Place("D84G7ZWYRD6Z1GQ", "A-1", WORD),
    Place("DRDV1EWZEPEEXY9", "A-2", WORD),
    Place("CZS2YFSTBQQ5WDC", "Hall", WORD),
]


def at(day):
    return when(day, ZONE)


def home(reference, since, until=None, place=PLACES[0], id_="H1"):
    return Occupancy(id_, place.id, at(since), at(until), WORD, reference)


def leases(*rows, **more):
    text = "\n".join(["Lot;N° bail;Entrée;Sortie", *rows, ""])
    return parse(text, "baux.csv", HEADINGS, ZONE, move_words=WORDS, **more).rows


def moves(*rows, **more):
    text = "\n".join(["Lot;Mouvement;Le;N° bail", *rows, ""])
    return parse(text, "mvt.csv", MOVES, ZONE, move_words=WORDS, **more).rows


def against(rows, *homes, held=None):
    return compare(RegistryIndex([*PLACES, *homes]), rows, NOW, held)


def clear(rows, *homes):
    made = against(rows, *homes)
    assert not made.doubts
    return [
        (one.notice.event, one.notice.since, one.notice.until, one.notice.reference)
        for one in made.changes
    ]


def doubtful(rows, *homes):
    made = against(rows, *homes)
    return [(one.row.where, one.why) for one in made.doubts]


def test_a_new_lease_in_a_dwelling_with_nobody_is_clear():
    rows = leases("A-1;B-1;2026-11-01;", "A-2;B-2;01/12/2026;31/12/2999")
    assert clear(rows) == [
        ("lease", at("2026-11-01"), None, "B-1"),
        ("lease", at("2026-12-01"), None, "B-2"),
    ]


def test_an_end_that_appears_is_clear_and_then_who_moves_in():
    rows = leases("A-1;B-2;2026-12-01;", "A-1;B-1;2020-01-01;2026-12-01")
    assert clear(rows, home("B-1", "2020-01-01")) == [
        ("move_out", None, at("2026-12-01"), None),
        ("lease", at("2026-12-01"), None, "B-2"),
    ]


def test_who_lives_there_without_a_lease_is_known_by_it_from_now_on():
    (change,) = against(leases("A-1;B-1;2020-01-01;"), home(None, "2026-01-01")).changes
    assert change.takes is None


def test_a_lease_that_begins_or_ends_otherwise_than_those_without_one_did_waits():
    """It may be the lease of others; a person who accepts it says that it is theirs."""
    lived = home(None, "2022-07-01", "2026-11-01")
    for row in ("A-1;B-1;2022-08-01;", "A-1;B-1;2022-07-01;2026-12-01"):
        rows = leases(row)
        assert doubtful(rows, lived) == [("baux.csv:2", Doubt.DATES)]
        (notice,) = accepted(RegistryIndex([*PLACES, lived]), rows[0], NOW)
        assert (notice.event, notice.reference) == ("lease", "B-1")
    assert not doubtful(leases("A-1;B-1;2022-07-01;2026-11-01"), lived)


def test_a_row_of_those_who_left_for_others_by_a_person_s_word_says_nothing_new():
    rows = leases("A-1;B-1;2020-01-01;", "A-1;B-2;2025-01-01;")
    left, came = home("B-1", "2020-01-01", "2025-01-01"), home("B-2", "2025-01-01", id_="H2")
    assert against(rows, left, came).same == 2
    exported = replace(left, word=replace(WORD, who=AUTHOR))
    assert doubtful(rows, exported, came) == [("baux.csv:2", Doubt.END_GONE)]


def test_the_same_export_says_nothing_new():
    known = home("B-1", "2020-01-01", "2026-12-01")
    made = against(leases("A-1;B-1;2020-01-01;2026-12-01"), known)
    assert (made.changes, made.doubts, made.same) == ([], [], 1)


def test_a_moment_within_the_day_that_an_export_states_is_that_day():
    known = home("B-1", "2020-01-01T09:30+01:00", "2026-11-01T18:00+01:00")
    assert against(leases("A-1;B-1;2020-01-01;2026-11-01"), known).same == 1
    assert doubtful(leases("A-1;B-1;2020-01-02;2026-11-01"), known) == [("baux.csv:2", Doubt.DATES)]
    out = moves("A-1;Sortie;2026-11-01;", "A-1;Entrée;2020-01-01;")
    assert against(out, known).same == 2


def test_no_row_of_a_large_export_is_taken_for_another():
    """With 32 bits, two of 50,000 rows would be alike."""
    rows = leases(*(f"A-1;B-{n};2020-01-01;" for n in range(50_000)))
    assert len({row.key for row in rows}) == 50_000


def test_a_row_that_is_missing_says_nothing():
    """Rule I25."""
    other = home("B-9", "2021-01-01", place=PLACES[1], id_="H9")
    assert against(leases("A-1;B-1;2020-01-01;"), home("B-1", "2020-01-01"), other).same == 1


@pytest.mark.parametrize(
    ("row", "known", "why"),
    [
        ("A-1;B-2;2026-11-01;", ["B-1", "2020-01-01"], Doubt.OVERLAP),
        ("A-1;B-1;2021-01-01;", ["B-1", "2020-01-01"], Doubt.DATES),
        ("A-1;B-1;2020-01-01;2019-01-01", ["B-1", "2020-01-01"], Doubt.DATES),
        ("A-1;B-1;2020-01-01;2026-12-01", ["B-1", "2020-01-01", "2026-11-01"], Doubt.DATES),
        ("A-1;B-1;2020-01-01;", ["B-1", "2020-01-01", "2026-11-01"], Doubt.END_GONE),
        ("A-1;B-1;2020-01-01;", ["B-1", "2020-01-01", "2020-01-01"], Doubt.NEVER),
        ("A-2;B-1;2026-11-01;", ["B-1", "2020-01-01"], Doubt.ELSEWHERE),
        ("A-2;B-2;2026-11-01;2026-10-01", ["B-1", "2020-01-01"], Doubt.DATES),
        ("A-2;B-2;;", ["B-1", "2020-01-01"], Doubt.UNDATED),
        ("A-9;B-2;2026-11-01;", ["B-1", "2020-01-01"], Doubt.NO_DWELLING),
        ("Hall;B-2;2026-11-01;", ["B-1", "2020-01-01"], Doubt.COMMON),
        ("A-1;;;", ["B-1", "2020-01-01"], Doubt.NO_LEASE),
        ("A-2;B-2;32/11/2026;", ["B-1", "2020-01-01"], Doubt.UNREADABLE),
    ],
)
def test_what_is_doubtful_waits_for_a_person(row, known, why):
    """Rule I25."""
    assert doubtful(leases(row), home(*known)) == [("baux.csv:2", why)]


def test_a_row_without_a_lease_states_nothing_of_a_dwelling_with_nobody():
    assert against(leases("A-2;;;")).same == 1


def test_two_leases_of_one_dwelling_wait_both_but_not_one_that_is_recorded_so():
    rows = leases("A-1;B-1;2026-11-01;", "A-1;B-2;2026-11-15;")
    assert doubtful(rows) == [("baux.csv:2", Doubt.TOGETHER), ("baux.csv:3", Doubt.TOGETHER)]
    assert doubtful(rows, home("B-1", "2026-11-01")) == [("baux.csv:3", Doubt.OVERLAP)]
    behind = leases("A-1;B-1;2020-01-01;", "A-1;B-2;2021-01-01;2022-01-01", "A-1;B-3;2025-01-01;")
    assert {where for where, _ in doubtful(behind)} == {"baux.csv:2", "baux.csv:3", "baux.csv:4"}


def test_one_lease_with_two_dates_waits_and_one_of_two_tenants_does_not():
    twice = leases("A-1;B-1;2026-11-01;", "A-1;B-1;2026-11-01;2026-12-01")
    assert {why for _, why in doubtful(twice)} == {Doubt.TWICE}
    assert len(clear(leases("A-1;B-1;2026-11-01;", "A-1;B-1;2026-11-01;"))) == 1


def test_a_name_of_two_dwellings_waits_until_a_person_says_which_is_meant():
    lots = [Alias(f"a{n}", place.id, "bis:x", "7", 0, None, WORD) for n, place in enumerate(PLACES)]
    rows = leases("7;B-1;2026-11-01;")
    made = compare(RegistryIndex([*PLACES, *lots[:2]]), rows, NOW)
    assert [one.why for one in made.doubts] == [Doubt.AMBIGUOUS]
    assert len(compare(RegistryIndex([*PLACES, lots[0]]), rows, NOW).changes) == 1


def test_more_ends_at_once_than_can_be_believed_wait_all():
    """Rule I25."""
    places = [Place(f"D{n}", f"B-{n}", WORD) for n in range(12)]
    homes = [home(f"L{n}", "2020-01-01", place=one, id_=f"H{n}") for n, one in enumerate(places)]
    for many, waits in ((3, 0), (4, 4)):
        rows = leases(*(f"B-{n};L{n};2020-01-01;2026-12-01" for n in range(many)))
        made = compare(RegistryIndex([*places, *homes]), rows, NOW)
        assert len(made.doubts) == waits
        assert {one.why for one in made.doubts} <= {Doubt.MANY}
        assert len(made.changes) == many - waits


def test_moves_are_compared_as_leases_are():
    rows = moves("A-1;Sortie;2026-11-26;", "A-1;ENTRÉE;2026-11-26;B-2")
    assert clear(rows, home("B-1", "2020-01-01")) == [
        ("move_out", None, at("2026-11-26"), None),
        ("lease", at("2026-11-26"), None, "B-2"),
    ]
    after = [home("B-1", "2020-01-01", "2026-11-26"), home("B-2", "2026-11-26", id_="H2")]
    assert against(rows, *after).same == 2
    assert doubtful(moves("A-2;Sortie;2026-11-26;")) == [("mvt.csv:2", Doubt.NOBODY)]
    assert doubtful(moves("A-2;Vendu;2026-11-26;")) == [("mvt.csv:2", Doubt.UNREADABLE)]
    other = moves("A-1;Sortie;2026-11-26;B-7")
    assert doubtful(other, home("B-1", "2020-01-01")) == [("mvt.csv:2", Doubt.DATES)]


def test_who_comes_and_leaves_in_one_export_is_one_change():
    rows = moves("A-1;Sortie;2026-11-20;", "A-1;Entrée;2026-11-01;")
    assert clear(rows) == [("move_in", at("2026-11-01"), at("2026-11-20"), None)]


def test_the_last_day_is_a_day_of_theirs_where_the_software_says_that():
    (row,) = leases("A-1;B-1;2026-03-01;2026-03-28", last_day=True)
    assert row.until == at("2026-03-29")
    (row,) = moves("A-1;Sortie;2026-03-28;", last_day=True)  # the day after has 23 hours
    assert row.until == at("2026-03-29")


def test_only_rows_of_this_building_are_read():
    text = "Lot;N° bail;Entrée;Sortie;Immeuble\nA-1;B-1;2026-11-01;;457\nA-1;B-7;2026-11-01;;458\n"
    export = parse(text, "b.csv", HEADINGS, ZONE, move_words=WORDS, only={"immeuble": ["457"]})
    assert ([row.reference for row in export.rows], export.left) == (["B-1"], 1)
    with pytest.raises(Refused, match=r'b\.csv:1: the column "Nature" is missing'):
        parse(text, "b.csv", HEADINGS, ZONE, move_words=WORDS, only={"Nature": ["x"]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Lot;N° bail;Entrée;Sortie\nA-1;B-1;2026-11-01;2026-1", "b.csv:2: the file ends within"),
        ("Lot;N° bail;Entrée\nA-1;B-1;2026-11-01\n", 'b.csv:1: the column "Sortie" is missing'),
        ('Lot;N° bail;Entrée;Sortie\n"A-1;B-1\n', 'b.csv:2: a " that opens'),
        ("Lot;N° bail;Entrée;Sortie\n", "no line below"),
        ("\n", "b.csv:1: the first line must be the headings"),
        ("Lot;N° bail;Entrée;Sortie\n" + ";" * 300 + "x\n", "b.csv:2: more than 256 columns"),
    ],
)
def test_what_is_no_whole_export_is_refused_with_its_line(text, said):
    with pytest.raises(Refused, match=said.replace("(", r"\(")):
        parse(text, "b.csv", HEADINGS, ZONE, move_words=WORDS)


def notices(row, *homes):
    found = accepted(RegistryIndex([*PLACES, *homes]), row, NOW)
    return [(one.event, one.id, one.since, one.until, one.stays) for one in found]


def test_what_a_person_accepts_is_recorded_as_the_row_states_it():
    known = home("B-1", "2020-01-01", "2026-11-01")
    (row,) = leases("A-1;B-1;2020-01-01;")
    assert notices(row, known) == [("correct", "H1", at("2020-01-01"), None, True)]
    (row,) = leases("A-1;B-1;2021-01-01;2026-12-01")
    assert notices(row, known) == [("correct", "H1", at("2021-01-01"), at("2026-12-01"), False)]
    (row,) = leases("A-1;B-2;2026-10-01;")
    assert notices(row, home("B-1", "2020-01-01")) == [
        ("correct", "H1", None, at("2026-10-01"), False),
        ("lease", None, at("2026-10-01"), None, False),
    ]
    with pytest.raises(Refused, match="moved out"):
        notices(row, home("B-1", "2026-10-15"))
    (row,) = leases("A-9;B-2;2026-10-01;")
    with pytest.raises(Refused, match="alias add DWELLING bis:syndic"):
        notices(row)
