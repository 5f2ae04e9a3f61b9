"""What people mistype is questioned with both values, and ordinary input is not. Rules I26, I27,
I28, I29, I30, I32.
"""

import json
from dataclasses import replace
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from agent.api import facts
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.registry.doubts import (
    ALIKE,
    DAY,
    DoubtKind,
    LabelDoubts,
    LastReading,
    NeedsConfirmation,
    SerialDoubts,
    confirmations,
    index_doubts,
    label_forms,
    recipient_doubts,
    unlikely_move,
)
from agent.registry.inputs import NewOccupancy, NewPlace
from agent.registry.place import mint
from agent.registry.registry import Registry
from tests.unit.registry.building import NOW, US, called

BY = {"who": "marie", "now": float(NOW)}
TODAY = stamp(NOW)[:10]
DIGITS = st.text("0123456789", min_size=1, max_size=8)


@pytest.fixture
def registry(tmp_path):
    registry = Registry.open(tmp_path / "registry.json")
    facts.place_new(registry, **BY, label="A-0-1", type="dwelling", since="2026-01-01", zone="UTC")
    return registry


def labels(*known):
    return LabelDoubts([called(mint("D"), label) for label in known])


def ordinary():
    """Labels of 200 dwellings and what is beside them, as managers number them."""
    stairs = [
        f"{stair}-{floor}-{door}"
        for stair, floor, door in product("ABCILO", range(11), range(1, 13))
    ]
    doors = [
        f"Bât {block} {floor}e {side}"
        for block, floor, side in product("ABC", range(1, 6), ("gauche", "droite", "face"))
    ]
    flats = [str(floor * 100 + door) for floor, door in product(range(1, 10), range(1, 13))]
    lots = [f"lot {number}" for number in range(1, 201)]
    roman = [f"Escalier {number}" for number in ("I", "II", "III", "IV", "V", "VI", "IX", "XI")]
    others = ["Hall", "Loge", "Local vélos", "Chaufferie", "Local poubelles", "T2 bis", "T2", "T3"]
    return stairs, doors, flats, lots, roman, others


@pytest.mark.parametrize("building", ordinary(), ids=lambda names: names[0])
def test_ordinary_numbering_raises_no_question(building):
    every = LabelDoubts([])
    assert len(building) >= 8
    assert [doubt for label in building for doubt in every.about(label, "")] == []


@pytest.mark.parametrize(
    ("known", "new"),
    [
        ("A-0-1", "A-O-1"),
        ("A-0-1", "A-o-1"),
        ("A-0-1", "А-0-1"),
        ("A-0-1", "Α-0-1"),
        ("A-1-1", "A-l-1"),
        ("A-1-1", "A-I-1"),
        ("A-1-1", "A-1-01"),
        ("A-1-1", "A–1–1"),
        ("A-1-1", "A 1 1"),
        ("A-1-11", "A1-11"),
        ("Loge", "L0ge"),
        ("Ｂ-2", "В-2"),
    ],
)
def test_a_label_that_looks_like_another_is_questioned_with_both(known, new):
    (doubt,) = labels(known).about(new, "p.csv:2")
    assert (doubt.kind, doubt.value, doubt.other) == (DoubtKind.LABEL, new, known)
    assert doubt.question.count(f'"{new}"') >= 2
    assert doubt.question.count(f'"{known}"') >= 2


def test_a_letter_of_another_alphabet_is_named():
    (doubt,) = labels("A-0-1").about("А-0-1", "")
    assert "Cyrillic capital letter a" in doubt.question


LOOKALIKES = {
    seen: sorted(chr(code) for code, to in ALIKE.items() if to == seen) for seen in ALIKE.values()
}


@given(st.from_regex(r"[A-H]-[0-9]{1,2}-[0-9]{1,2}", fullmatch=True), st.data())
def test_no_single_character_that_looks_alike_escapes(label, data):
    at = data.draw(st.integers(0, len(label) - 1))
    instead = LOOKALIKES.get(label[at], [])
    assume(instead)
    new = label[:at] + data.draw(st.sampled_from(instead)) + label[at + 1 :]
    assert list(labels(label).about(new, ""))


NUMBERS = st.lists(st.integers(0, 130), min_size=2, max_size=4)


@given(NUMBERS, NUMBERS)
@example([1, 11], [11, 1])
@example([10, 1], [1, 1])
def test_different_numbers_never_look_alike(first, second):
    """No false alarm, whatever the numbers of stairs, floors and doors."""
    one, two = ("-".join(map(str, numbers)) for numbers in (first, second))
    assert (set(label_forms(f"A-{one}")) & set(label_forms(f"A-{two}")) == set()) == (
        first != second
    )


@given(st.text(max_size=20))
def test_any_text_has_forms(label):
    assert len(label_forms(label)) == 2


def test_each_of_two_labels_of_one_list_is_compared():
    every = labels()
    assert not list(every.about("B-O-1", "p.csv:2"))
    (doubt,) = every.about("B-0-1", "p.csv:3")
    assert (doubt.other, doubt.where) == ("B-O-1", "p.csv:3")


def about_serial(serial, *known):
    return [
        (d.value, d.other)
        for d in SerialDoubts([(one, "A-1") for one in known]).about(serial, "A-2", "")
    ]


@pytest.mark.parametrize("serial", ["45l23477", "4512O477", "45I23477", "4512o477"])
def test_a_letter_among_the_digits_of_a_serial_number_is_questioned(serial):
    digits = serial.replace("l", "1").replace("I", "1").replace("O", "0").replace("o", "0")
    assert about_serial(serial) == [(serial, digits)]
    assert about_serial(serial, digits) == [(serial, digits)]


@pytest.mark.parametrize(
    "serial", ["45123477", "1ESY1160123456", "LGZ0012345678", "SON-12", "IO", "O1", "KAM2O"]
)
def test_an_ordinary_serial_number_is_not_questioned(serial):
    assert about_serial(serial, "45123478", "1ESY1160123457") == []


@given(st.lists(DIGITS, unique=True, max_size=30))
def test_numbers_are_never_taken_for_one_another(serials):
    every = SerialDoubts([])
    assert [doubt for serial in serials for doubt in every.about(serial, "A-1", "")] == []


def test_a_confirmed_serial_number_is_not_questioned_again_with_its_zeros_and_blanks():
    assert about_serial("0045l23477", "45l23477") == []
    assert about_serial("45l2 3477", "45l23477") == []


def asked_about(closed, last, hours=24, **more):
    reading = LastReading(Decimal(last), NOW - hours * 3600, **more)
    return [d.other for d in index_doubts("A-1", Decimal(closed), NOW, reading, "kWh")]


@pytest.mark.parametrize("closed", ["8412", "8412.9", "8413", "8500", "9411", "10000"])
def test_a_closing_index_near_the_last_reading_is_not_questioned(closed):
    assert asked_about(closed, "8412.4") == []


@pytest.mark.parametrize("closed", ["84120", "841.2", "8402", "812", "18412", "0"])
def test_a_closing_index_far_from_the_last_reading_is_questioned(closed):
    assert asked_about(closed, "8412.4") == ["8412.4"]


def test_the_rating_says_how_far_is_far():
    assert asked_about("8500", "8412", hours=24, rating=Decimal(5)) == []
    assert asked_about("8600", "8412", hours=24, rating=Decimal(5)) == ["8412"]
    assert asked_about("8600", "8412", hours=48, rating=Decimal(5)) == []


def test_a_roll_over_is_not_questioned():
    assert asked_about("12", "99990", rolls_at=Decimal(100_000)) == []
    assert asked_about("12", "99990") == []
    assert asked_about("12", "50000", rolls_at=Decimal(100_000)) == ["50000"]


@given(st.decimals(0, 10**7, places=1), st.decimals(0, 20, places=1))
def test_a_day_of_consumption_is_never_questioned(last, more):
    assert asked_about(last + more, last) == []


def test_dates_are_questioned_where_they_are_unlikely():
    new_year = 1_798_761_600  # 2027-01-01
    november = new_year - 34 * DAY
    assert unlikely_move(new_year + 14 * DAY, november), "a month and more ahead, in the next year"
    assert not unlikely_move(new_year + 14 * DAY, new_year - 10 * DAY)
    assert not unlikely_move(NOW + 90 * DAY, NOW), "three months' notice"
    assert unlikely_move(NOW + 93 * DAY, NOW)
    assert not unlikely_move(NOW - 4000 * DAY, NOW)


def test_an_unknown_recipient_is_questioned_only_where_others_are_known():
    typed = "energie.metropol.example"
    assert list(recipient_doubts(US, (), (), "")) == []
    assert list(recipient_doubts(US, (US,), (), "")) == []
    for configured, recorded in (((US, "syndic.example"), ()), ((), (US, "syndic.example"))):
        (doubt,) = recipient_doubts(typed, configured, recorded, "c.csv:3")
        assert (doubt.other, doubt.where) == (US, "c.csv:3")
    (doubt,) = recipient_doubts("third.example", ("syndic.example", US), (), "")
    assert doubt.other == "syndic.example"
    assert list(recipient_doubts("third.example", (), (US, "syndic.example"), "")) == []


def test_what_is_confirmed_is_compared_as_it_was_written():
    assert "A-O-1" in confirmations(["A-O-1"], "UTC")
    assert "A-0-1" not in confirmations(["A-O-1"], "UTC")
    assert "45l2  34" in confirmations([" 45l2  34"], "UTC")
    assert "8412.5" in confirmations(["8412,5"], "UTC")
    assert "2027-01-14T23:00:00Z" in confirmations(["15/01/2027"], "Europe/Paris")


# through the calls


def test_nothing_is_recorded_before_the_value_is_written_again(registry):
    new = {"label": "A-O-1", "type": "dwelling"}
    for confirm in ([], ["A-0-1"], ["yes"], ["a-o-1"], ["A-O-2"]):
        with pytest.raises(NeedsConfirmation) as doubtful:
            facts.place_new(registry, **BY, **new, confirm=confirm)
        assert [doubt.value for doubt in doubtful.value.doubts] == ["A-O-1"]
    assert len(registry.places()) == 1
    facts.place_new(registry, **BY, **new, confirm=["A-O-1"])
    place = registry.place("A-O-1")
    assert place.word.who == "marie"
    assert place.word.source == "gardien place new; confirmed: A-O-1"


def test_every_doubtful_row_of_a_list_is_reported_and_nothing_recorded(registry):
    table = {"text": "label;type\nA-O-1;D\nB-1;D\nB-l;D\nB-2;D\n", "name": "p.csv"}
    with pytest.raises(NeedsConfirmation) as doubtful:
        facts.place_import(registry, **BY, **table, confirm=["A-O-1"])
    assert [doubt.where for doubt in doubtful.value.doubts] == ["p.csv:4"]
    with pytest.raises(NeedsConfirmation) as doubtful:
        facts.place_import(registry, **BY, **table, preview=True)
    assert [doubt.where for doubt in doubtful.value.doubts] == ["p.csv:2", "p.csv:4"]
    assert doubtful.value.in_language().endswith("--confirm A-O-1 --confirm B-l")
    assert len(registry.places()) == 1
    answer = facts.place_import(registry, **BY, **table, confirm=["A-O-1", "B-l"])
    assert registry.place("B-l").word.source == "p.csv:4; confirmed: B-l"
    assert registry.place("B-2").word.source == "p.csv:5"
    assert len(answer["places"]) == 4
    assert facts.place_import(registry, **BY, **table)["unchanged"] == 4


def test_a_wrong_row_is_reported_together_with_doubtful_ones(registry):
    table = {"text": "label;type\nA-O-1;D\nB-1;dweling\n", "name": "p.csv"}
    with pytest.raises(Refused) as refused:
        facts.place_import(registry, **BY, **table)
    assert not isinstance(refused.value, NeedsConfirmation)
    assert [line.split()[0] for line in str(refused.value).splitlines()][:2] == [
        "p.csv:3:",
        "p.csv:2:",
    ]


def test_a_long_list_of_doubts_is_cut_and_counted(registry):
    rows = "".join(f"C-{n};D\nC-0{n};D\n" for n in range(1, 31))
    with pytest.raises(NeedsConfirmation) as doubtful:
        facts.place_import(registry, **BY, text=f"label;type\n{rows}", name="p.csv")
    assert (len(doubtful.value.doubts), doubtful.value.more) == (20, 10)
    again = NeedsConfirmation.of(json.loads(json.dumps(doubtful.value.wire())))
    assert again.in_language() == doubtful.value.in_language()
    assert "10 more" in again.in_language()


def test_a_text_with_other_groups_of_digits_finds_no_place(registry):
    facts.place_new(registry, **BY, label="A-1-11", type="dwelling")
    for right in ("A-1-11", "a 1 11", "A1-11", "A111"):
        assert registry.place(right).label == "A-1-11"
    for wrong in ("A-11-1", "A-1-1-1", "A 11 1"):
        with pytest.raises(Refused, match="A-1-11"):
            registry.place(wrong)
    with pytest.raises(Refused, match='did you mean "A-1-11"'):
        facts.meter_assign(registry, **BY, device="m-1", dwelling="A-11-1")


def test_a_meter_is_questioned_by_its_number_its_date_and_its_closing_index(registry):
    facts.meter_assign(
        registry,
        **BY,
        device="m-1",
        dwelling="A-0-1",
        serial="4512",
        channel="heat",
        index=["8000"],
    )
    with pytest.raises(NeedsConfirmation, match="letter O, I or l"):
        facts.meter_assign(
            registry,
            **BY,
            device="m-2",
            dwelling="A-0-1",
            serial="4512O",
            channel="cw",
        )
    exchange = {
        "place": "A-0-1",
        "serial": "4600",
        "zone": "UTC",
        "who": "marie",
        "now": float(NOW + 2 * DAY),
    }
    with pytest.raises(NeedsConfirmation) as doubtful:
        facts.meter_exchange(registry, **exchange, at="2027-09-20", closing=["heat=7,5"])
    found = [(doubt.kind, doubt.value, doubt.other) for doubt in doubtful.value.doubts]
    assert found == [
        (DoubtKind.DATE, "2027-09-20T00:00:00Z", "2026-09-20T00:00:00Z"),
        (DoubtKind.INDEX, "7.5", "8000"),
    ]
    last = {"heat": LastReading(Decimal(8412), NOW + DAY)}
    with pytest.raises(
        NeedsConfirmation, match=r"84120 .* is 75708 .* above the last reading, 8412 "
    ):
        facts.meter_exchange(registry, **exchange, closing=["heat=84120"], last=last)
    facts.meter_exchange(registry, **exchange, closing=["heat=8413"], last=last)


def test_moves_and_leases_are_questioned_by_their_dates(registry):
    with pytest.raises(NeedsConfirmation, match="2027-09-20"):
        facts.occupancy_move_out(registry, **BY, place="A-0-1", at="2027-09-20", zone="UTC")
    later = {"who": "marie", "now": float(NOW + 120 * DAY), "zone": "UTC"}
    with pytest.raises(NeedsConfirmation, match=r"2026-01-05T.* 2027-01-05T.* meant"):
        facts.occupancy_move_out(registry, **later, place="A-0-1", at="2026-01-05")
    leases = {"name": "l.csv", "zone": "UTC"}
    facts.occupancy_import(
        registry,
        **BY,
        **leases,
        text="logement;bail;entrée;sortie\nA-0-1;B-1;2026-01-01;2029-12-31\n",
    )
    with pytest.raises(NeedsConfirmation, match=r"l.csv:2: A-0-1: 2062-"):
        facts.occupancy_import(
            registry,
            **BY,
            **leases,
            text="logement;bail;entrée;sortie\nA-0-1;B-1;2026-01-01;2062-09-30\n",
        )


def test_a_recipient_is_questioned_for_a_consent_a_withdrawal_and_a_duty(registry):
    known = {"recipients": [US], "zone": "UTC"}
    typed = "energie.metropol.example"
    for call, more in (
        (facts.consent_give, {"places": ["A-0-1"], "channels": ["heat"], "purpose": "p"}),
        (facts.consent_withdraw, {"place": "A-0-1"}),
        (facts.duty_add, {"reference": "décret", "channels": ["heat"]}),
    ):
        with pytest.raises(NeedsConfirmation, match=f'"{US}" meant'):
            call(registry, **BY, **more, **known, recipient=typed)
    assert not registry.consents()
    facts.consent_withdraw(registry, **BY, place="A-0-1", recipient=US, **known)


def test_a_consent_that_is_listed_again_is_not_questioned_again(registry):
    list_ = f"place;recipient;channels;purpose;since\nA-0-1;{US};heat;p;2027-06-20\n"
    given_ = {"text": list_, "name": "c.csv", "zone": "UTC", "recipients": [US]}
    with pytest.raises(NeedsConfirmation, match=r"c\.csv:2: A-0-1: 2027-06-20"):
        facts.consent_give(registry, **BY, **given_)
    facts.consent_give(registry, **BY, **given_, confirm=["20/06/2027"])
    assert facts.consent_give(registry, **BY, **given_)["unchanged"] == 1


def test_what_is_signed_or_exported_is_not_questioned(registry):
    """Rule I32."""
    home = registry.place("A-0-1").id
    occupancy = registry.occupancies()[0].id
    late = NewOccupancy("move_out", home, occupancy, until=NOW + 400 * DAY)
    assert registry.occupy([late], "régie", "occupancy+jwt 1", NOW)
    alike = NewPlace("A-O-1", "dwelling", mint("D"), occupied=False, where="map:2")
    with pytest.raises(NeedsConfirmation):
        registry.add_places(
            [replace(alike, confirmed=frozenset())], "régie", "place-map+jws 1", NOW
        )


def test_a_label_for_an_id_and_an_occupancy_for_a_place_are_refused(registry):
    home = registry.occupancies()[0].id
    with pytest.raises(Refused, match=f'"{home}" is the id of a.? occupancy, not of a dwelling'):
        registry.place(home)
    with pytest.raises(Refused, match=r'id: "A-0-1" is not an id.*occupancy list'):
        facts.occupancy_move_out(registry, **BY, place="A-0-1", id="A-0-1")
