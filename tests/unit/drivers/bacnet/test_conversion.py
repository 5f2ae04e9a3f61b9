"""What an object's own units and scale make of a value. Rule F11."""

import re
from decimal import Decimal

import pytest

from agent.core.model import Point
from agent.drivers.bacnet import codec
from agent.drivers.bacnet.codec import SCALE, UNITS, ObjectId, Ref, Refusal
from agent.drivers.bacnet.values import OwnProperties, convert, own_refs

METER, SENSOR = ObjectId(23, 3), ObjectId(0, 1)
INDEX, VALUE = Ref(METER, 85), Ref(SENSOR, 85)
WH, KWH, MWH, CELSIUS, KELVIN, FAHRENHEIT, PERCENT = 18, 19, 146, 62, 63, 64, 98
KILOVAR_HOURS, NO_UNITS = 243, 95


def point(unit="kWh", scale="1", channel="heat"):
    return Point("d", "p", "1", "x", 60, channel, unit, Decimal(scale))


def answer(value):
    """A ReadProperty answer of accumulator 3's scale."""
    return bytes.fromhex("0c05c0000319bb3e" + value + "3f")


@pytest.mark.parametrize(
    ("value", "scale"),
    [
        ("19ff", "0.1"),
        ("1900", "1"),
        ("1903", "1000"),
        ("1afff4", "1e-12"),
        ("0c3dcccccd", "0.1"),  # float32(0.1), not 0.100000001490116
        ("0c3c23d70a", "0.01"),
        ("0c40000000", "2"),
    ],
)
def test_a_scale_is_read_exactly_whichever_kind_it_is(value, scale):
    (read,) = codec.read_answer(answer(value), Ref(METER, SCALE))
    assert read == Decimal(scale)


@pytest.mark.parametrize(
    "value", ["197f", "1980", "0c7fc00000", "0c7f800000", "0b3dcccc", "2900", ""]
)
def test_a_scale_that_makes_no_sense_is_refused(value):
    read = codec.read_answer(answer(value), Ref(METER, SCALE))
    assert not read or isinstance(read[0], Refusal)


@pytest.mark.parametrize(
    ("units", "wanted"),
    [
        (KWH, point()),
        (MWH, point("kWh", "1000")),
        (KWH, point("kWh", "40")),  # transformers
        (NO_UNITS, point()),
        (None, point()),
        (CELSIUS, point("Cel", channel="temp")),
        (CELSIUS, point("K", channel="state.offset")),
        (KELVIN, point("K", channel=None)),
        (PERCENT, point("%RH", channel="rh")),
        (PERCENT, point("1", "0.01", channel="elec.pf")),
        (KILOVAR_HOURS, point("kvarh", channel="elec.react.imp")),
        (FAHRENHEIT, point("1", channel=None)),
        # units that gardien does not convert, by hand
        (126, point("kWh", "0.27778")),  # megajoules
        (20, point("kWh", "0.000293071")),  # btus
        (120, point("K", "0.5556", None)),  # delta-degrees-fahrenheit
    ],
)
def test_the_same_unit_is_taken_however_it_is_said(units, wanted):
    assert convert(wanted, units)[:2] == (1, "")


@pytest.mark.parametrize(
    ("units", "wanted", "words"),
    [
        (MWH, point(), "is in MWh, and `unit` says kWh: write `unit: MWh`"),
        (WH, point("kWh", "0.1"), "write `unit: Wh`"),
        (CELSIUS, point(), r"is it the right object\? if so, write `unit: Cel`"),
        (FAHRENHEIT, point("Cel", channel="temp"), "degrees-fahrenheit.*set the object to °C"),
        (FAHRENHEIT, point("K", channel=None), "degrees-fahrenheit"),
        (KELVIN, point("Cel", channel="temp"), "degrees-kelvin"),
        (PERCENT, point("1", channel="elec.pf"), "write `unit: %`"),
        (KWH, point("1", channel="hca"), "write `unit: kWh`"),
        (85, point("m3/h", channel=None), "or write as `scale` how many m³/h one of it is"),
        (17, point(), "is in kJ, and `unit` says kWh: write `scale: 0.0002777778`"),
        (126, point("kWh", "3.6"), "write `scale: 0.2777778`"),
        (FAHRENHEIT, point("Cel", "0.5556", "temp"), "set the object to °C in the controller$"),
        (CELSIUS, point("kWh", "2"), r"is it the right object\?"),
        (255, point(), "is in 255"),
    ],
)
def test_another_unit_is_bad_and_says_what_to_write(units, wanted, words):
    assert re.search(words, convert(wanted, units).fault)


@pytest.mark.parametrize(
    ("units", "wanted", "note"),
    [
        (NO_UNITS, point(), "no-units; kWh is taken from the configuration"),
        (FAHRENHEIT, point("1", channel=None), "in degrees-fahrenheit, and no unit is configured"),
        (300, point(), "its maker's unit 300; kWh is taken from the configuration"),
        (-5, point(), "kWh is taken from the configuration"),
        (10**30, point(), "kWh is taken from the configuration"),
        (NO_UNITS, point("1", channel=None), ""),
        (None, point(), ""),
    ],
)
def test_where_one_side_names_no_unit_a_person_is_told(units, wanted, note):
    assert note in convert(wanted, units).note
    assert bool(note) == bool(convert(wanted, units).note)


@pytest.mark.parametrize(
    ("scale", "units", "wanted", "factor"),
    [
        ("0.1", KWH, point(), "0.1"),
        ("0.1", NO_UNITS, point(), "0.1"),
        ("100", WH, point("kWh", "0.001"), "100"),  # in Wh; then the point's own factor
        ("1", KWH, point("kWh", "40"), "1"),
        # written before the object's scale was read, and right all the time
        ("0.1", KWH, point("kWh", "0.1"), "1"),
        ("100", WH, point("kWh", "0.1"), "1"),
        ("1000", WH, point(), "1"),
        ("100", 126, point("kWh", "0.27778"), "100"),  # megajoules
        ("100", 126, point("kWh", "27.778"), "1"),
    ],
)
def test_a_count_is_multiplied_by_its_scale_once(scale, units, wanted, factor):
    made = convert(wanted, units, Decimal(scale))
    assert (made.factor, made.fault) == (Decimal(factor), "")
    assert bool(made.note) or Decimal(factor) == Decimal(scale)


@pytest.mark.parametrize(
    ("scale", "units", "wanted", "words"),
    [
        ("0.1", KWH, point("kWh", "4"), "leave `scale` out"),
        ("0.1", MWH, point(), "write `unit: MWh`"),
        ("0.1", 20, point("kWh", "0.000293071"), "btus"),  # whose is it?
        ("0", KWH, point(), "scale is 0"),
        ("-1", KWH, point(), "scale is -1"),
    ],
)
def test_a_scale_that_does_not_fit_is_bad(scale, units, wanted, words):
    assert words in convert(wanted, units, Decimal(scale)).fault


def test_only_what_is_measured_has_a_unit():
    assert own_refs(INDEX) == (Ref(METER, SCALE), Ref(METER, UNITS))
    assert own_refs(VALUE) == (Ref(SENSOR, UNITS),)
    assert own_refs(Ref(ObjectId(2, 7), 87, 13)) == (Ref(ObjectId(2, 7), UNITS),)
    assert own_refs(Ref(ObjectId(200, 1), 85)) == (Ref(ObjectId(200, 1), UNITS),)
    for other in (
        Ref(SENSOR, 28),
        Ref(METER, 186),
        Ref(ObjectId(3, 1), 85),
        Ref(ObjectId(2, 7), 87, 0),
    ):
        assert own_refs(other) == ()


def taken(own, at, scale=(Decimal("0.1"),), units=(Decimal(KWH),)):
    own.take(7, {Ref(METER, SCALE): scale, Ref(METER, UNITS): units}, at)
    return own.conversion(7, INDEX, point())


def test_both_are_read_at_first_and_daily():
    own = OwnProperties()
    assert own.due(7, [INDEX], 0) == [Ref(METER, SCALE), Ref(METER, UNITS)]
    assert "could not be read" in own.conversion(7, INDEX, point()).fault
    assert not own.knows(7, INDEX)
    assert taken(own, 0).factor == Decimal("0.1")
    assert own.due(7, [INDEX], 86_399) == []
    assert own.due(7, [INDEX], 86_400) == [Ref(METER, SCALE), Ref(METER, UNITS)]
    assert own.due(8, [INDEX], 0) != []
    assert taken(own, 86_400, units=(Decimal(MWH),)).fault
    own.ask_again(7)
    assert own.due(7, [INDEX], 86_401) == [Ref(METER, SCALE), Ref(METER, UNITS)]


def test_a_scale_that_is_refused_is_asked_for_again_and_never_left_out():
    own, denied = OwnProperties(), Refusal("read access denied", 27)
    assert "scale could not be read (read access denied)" in taken(own, 0, scale=denied).fault
    assert own.due(7, [INDEX], 0) == [Ref(METER, SCALE)]
    assert taken(own, 1).fault == ""
    assert taken(own, 90_000, scale=denied) == taken(own, 90_001)  # as it was last known


def test_an_object_without_them_is_read_as_before():
    own, lacks = OwnProperties(), Refusal("unknown property", 32)
    made = taken(own, 0, scale=lacks, units=lacks)
    assert (made.factor, made.fault) == (1, "")
    assert "no scale: compare with the meter's display" in made.note
    assert own.due(7, [INDEX], 1) == []


def test_a_controller_that_is_being_programmed_does_not_lose_its_scale():
    own, unknown = OwnProperties(), Refusal("unknown object", 31)
    assert taken(own, 0, scale=unknown, units=unknown).fault
    assert own.due(7, [INDEX], 0) == [Ref(METER, SCALE), Ref(METER, UNITS)]
    assert taken(own, 1).factor == Decimal("0.1")
    for refused in (unknown, Refusal("unknown property", 32)):
        assert taken(own, 90_000, scale=refused, units=refused).factor == Decimal("0.1")


def test_units_that_are_refused_are_told_of_and_asked_for_again():
    own = OwnProperties()
    made = taken(own, 0, units=Refusal("device busy", 3))
    assert (made.factor, made.fault) == (Decimal("0.1"), "")
    assert "units could not be read (device busy)" in made.note
    assert own.due(7, [INDEX], 599) == []
    assert own.due(7, [INDEX], 600) == [Ref(METER, UNITS)]
