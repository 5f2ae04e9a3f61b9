"""Rule I8."""

import pytest

from agent.core.errors import Refused
from agent.registry.labels import Labels, in_order
from tests.unit.registry.building import HOME, NEIGHBOUR, PLANT, called


@pytest.fixture
def labels():
    known = [called(HOME, "A-3-12"), called(NEIGHBOUR, "A-31-2"), called(PLANT, "Chaufferie Été")]
    return Labels({place.id: place for place in known})


@pytest.mark.parametrize(
    "text", ["A-3-12", "a-3-12 ", HOME, "d84g7 zwyrd 6zlgq", "D84G7-ZWYRD-6Z1GQ"]
)
def test_a_place_is_found_by_label_or_id(labels, text):
    assert labels.find(text).id == HOME


def test_punctuation_and_accents_are_forgiven_where_one_place_is_left(labels):
    assert labels.find("chaufferie ete").id == PLANT


def test_where_several_places_are_left_they_are_named(labels):
    with pytest.raises(Refused, match=r"A-3-12 \(D84G7-ZWYRD-6Z1GQ\) or A-31-2"):
        labels.find("A312")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("A-3-13", 'no place "A-3-13"; did you mean "A-3-12"'),
        ("D84G7-ZWYRD-6Z1GV", "check characters do not match"),
        ("B6ASQ-Z1Y2K-SAA3Y", "no place B6ASQ-Z1Y2K-SAA3Y in this registry"),
        ("", 'no place ""'),
    ],
)
def test_an_unknown_place_is_refused_with_what_is_near(labels, text, why):
    with pytest.raises(Refused, match=why):
        labels.find(text)


def test_labels_are_in_the_order_in_which_people_walk():
    labels = ["Étage 2", "b-10", "A-10", "B-9", "A-2", "Etage 10", "", "²", "٣"]
    ordered = sorted(labels, key=in_order)
    assert ordered[:1] == [""]
    assert [one for one in ordered if one not in {"", "²", "٣"}] == [
        "A-2", "A-10", "B-9", "b-10", "Étage 2", "Etage 10",
    ]  # fmt: skip
