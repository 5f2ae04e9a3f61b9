import pytest

from agent.core.errors import Refused
from agent.registry.labels import SCHEMES, scheme, value_of


@pytest.mark.parametrize("known", SCHEMES.values(), ids=SCHEMES)
def test_every_example_is_a_value_of_its_scheme(known):
    """Rule I6."""
    assert value_of(known, known.example) == known.example


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("PRM", "19 123 456 789 012", "19123456789012"),
        ("rnb", "d8t7-tqq4-jhmy", "D8T7TQQ4JHMY"),
        ("lot", "0034", "34"),
        ("fr.ban", "01093_0041_00131_bis", "01093_0041_00131_bis"),
        ("fr.invariant", "2A 123 456 78 90", "2A1234567890"),
        ("PCE", "GI123456", "GI123456"),
        ("de.malo", "48662918097", "48662918097"),
        ("gs1.gsrn", "871234567890123456", "871234567890123456"),
        ("bis:desigo", "Bldg/3 / 12", "Bldg/3 / 12"),
    ],
)
def test_values_are_read_as_people_write_them(name, written, value):
    assert value_of(scheme(name), written) == value


@pytest.mark.parametrize(
    ("name", "written", "why"),
    [
        ("PRM", "1912345678901", "it has 13 characters, not 14"),
        ("PRM", "1912345678901O", "letter O where a zero belongs"),
        ("de.malo", "41373559242", "check characters"),
        ("es.cups", "ES1234123456789012JX", "check characters"),
        ("rnb", "D8T7TQQ4JHM0", "does not look like D8T7TQQ4JHMY"),
        ("lot", "flat", "does not look like 34"),
        ("bis:desigo", "", "does not look like"),
        ("bis:desigo", "a\nb", "does not look like"),
    ],
)
def test_a_wrong_value_is_refused_in_words(name, written, why):
    """Rule I6."""
    with pytest.raises(Refused, match=why):
        value_of(scheme(name), written)


@pytest.mark.parametrize("name", ["fr.prn", "", "bis:", "bis:a b"])
def test_an_unknown_scheme_is_refused_with_what_there_is(name):
    with pytest.raises(Refused, match=r"did you mean|possible are "):
        scheme(name)
