"""No name of a dwelling, of who lives there, of a meter or a device is left in a text."""

import json
import re
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from agent.cli.bundle import ANYWHERE, Pseudonyms, without_comments
from agent.registry.place import mint
from tests.depth import examples

WORDS = st.text(
    st.characters(categories=("L", "N", "P", "S", "Zs"), max_codepoint=0x17F),
    min_size=3,
    max_size=24,
).map(str.strip).filter(lambda word: len(word) >= 3)  # fmt: skip
SERIALS = st.from_regex(r"[A-Z]{0,3}[0-9]{4,10}", fullmatch=True)
AROUND = st.sampled_from((" ", "\n", '"', "'", "/", "=", ": ", ", ", "(", ")"))
ENCODINGS = (
    str, json.dumps, lambda one: json.dumps(one, ensure_ascii=False), repr, quote,
    lambda one: repr(one.encode()), str.upper,
)  # fmt: skip


@st.composite
def buildings(draw):
    """Rows as the registry's file has them, and every name in them."""
    rows, names = [], []
    for _ in range(draw(st.integers(1, 4))):
        place, occupancy, device = mint("D"), mint("H"), draw(WORDS)
        label, alias, reference = draw(WORDS), draw(WORDS), draw(WORDS)
        serial = draw(SERIALS)
        rows += [
            {"kind": "place", "id": place, "label": label},
            {"kind": "alias", "id": "a", "place": place, "value": alias, "note": ""},
            {"kind": "occupancy", "id": occupancy, "place": place, "reference": reference},
            {"kind": "installation", "id": "i", "place": place, "device": device, "serial": serial},
        ]
        names += [place, occupancy, device, label, alias, reference, serial]
    return {"_default": {str(n): row for n, row in enumerate(rows)}}, names


@examples(5, 200)
@given(building=buildings(), data=st.data())
def test_no_name_of_a_random_building_is_left_in_any_encoding(building, data):
    told, names = building
    text = ""
    for name in names:
        encode = data.draw(st.sampled_from(ENCODINGS))
        text += data.draw(AROUND) + encode(name) + data.draw(AROUND)
    known = Pseudonyms()
    known.learn(told)
    shown = known.replace(text)
    ours = re.compile(
        "(dwelling|occupancy|meter|device|basis)-[0-9]+"
    )  # a name may be a part of it
    left = ours.sub("", shown.lower())
    for name in names:
        for encode in ENCODINGS:
            form = encode(name)
            form = form.removeprefix("b").strip("\"'").lower()
            # a short one may be a part of a word that says nothing of it
            inside = (
                form in left
                if len(form) >= ANYWHERE
                else re.search(rf"(?<![^\W_]){re.escape(form)}(?![^\W_])", left)
            )
            assert not inside, (name, form)


def test_the_same_thing_has_the_same_word_under_each_of_its_names():
    known, place = Pseudonyms(), mint("D")
    known.learn([{"id": place, "label": "A-3-12"}, {"place": place, "value": "lot 40-1"}])
    spaced = f"{place[:5]} {place[5:10]}-{place[10:]}".lower()
    shown = known.replace(f"{place} {spaced} A-3-12 a-3-12 'lot 40-1'")
    assert shown == "dwelling-1 dwelling-1 dwelling-1 dwelling-1 'dwelling-1'"


def test_an_id_that_nobody_recorded_is_replaced_too():
    place, occupancy = mint("D"), mint("H")
    shown = Pseudonyms().replace(f"{place} {occupancy} {place}")
    assert shown == "dwelling-1 occupancy-1 dwelling-1"


def test_what_is_common_plant_and_whatever_else_helps_stays():
    common, building = mint("C"), mint("B")
    known = Pseudonyms()
    known.learn([
        {"id": common, "label": "Boiler room"}, {"id": building, "label": "Les Alpins"},
        {"place": common, "device": "boiler-room-1", "serial": None},
        {"id": mint("D"), "label": "12"},
    ])  # fmt: skip
    text = f"2026-12-12T12:00:12 boiler-room-1 of {common} and {building} on /dev/ttyUSB12"
    assert known.replace(text, numbers=True) == text


def test_a_place_with_a_short_name_is_replaced_where_it_stands_for_one():
    known = Pseudonyms()
    known.learn([{"id": mint("D"), "label": "12"}])
    shown = known.in_place({"m": {"place": "12", "rests_s": 12, "free": 80532172800}})
    assert shown == {"m": {"place": "dwelling-1", "rests_s": 12, "free": 80532172800}}
    known.learn({"device": "sdm-3-12", "serial": "45678901"})
    assert known.in_place({"sdm-3-12": ["45678901", 45678901]}) == {
        "device-1": ["meter-1", 45678901]
    }


def test_the_proof_of_a_consent_is_a_name_and_that_of_a_meter_a_word_of_ours():
    known = Pseudonyms()
    known.learn([
        {"id": "c1", "place": mint("D"), "recipient": "r.example", "proof": "scan-0412.pdf"},
        {"id": "i1", "place": mint("D"), "serial": "90001234", "proof": "none"},
    ])  # fmt: skip
    assert known.replace("none of scan-0412.pdf") == "none of paper-1"


def test_a_meter_that_nobody_recorded_has_a_word_of_its_own():
    known = Pseudonyms()
    text = "sdm-17: 45678901 may have taken its place; 45678901 answers; pid 4567, 12.345678901 s"
    shown = known.replace(text, numbers=True)
    assert shown.count("meter-1") == 2
    assert "12.345678901 s" in shown
    assert "4567," in shown


def test_what_people_wrote_beside_the_configuration_is_not_told():
    text = 'a: 1 # Mme Martin, 3e\n# A-3-12\nb: "x#y"\n  # c\n'
    shown = without_comments(text)
    assert "Martin" not in shown
    assert "A-3-12" not in shown
    assert 'b: "x#y"' in shown
