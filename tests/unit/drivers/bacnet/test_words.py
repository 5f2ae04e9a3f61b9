"""What people write and read: addresses, points, settings, guesses, EDE files."""

import pytest
from pydantic import ValidationError

from agent.core.errors import Refused
from agent.core.model import Point
from agent.core.quantities import channels, units
from agent.drivers.bacnet import ede, settings
from agent.drivers.bacnet.bus import Bacnet
from agent.drivers.bacnet.codec import ObjectId, Ref
from agent.drivers.bacnet.ede import Thing, channel_of, points, slug
from agent.drivers.bacnet.settings import BacnetSettings, Slots


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1201", (1201, "")),
        ("0", (0, "")),
        ("4194302", (4194302, "")),
        ("7@10.0.0.7", (7, "10.0.0.7")),
        ("7@10.0.0.7:47809", (7, "10.0.0.7:47809")),
        ("7@2001:12", (7, "2001:12")),
        ("7@2001:0x0c@10.0.0.1", (7, "2001:0x0c@10.0.0.1")),
    ],
)
def test_addresses_are_read(written, read):
    assert settings.address(written) == read


@pytest.mark.parametrize(
    "written", ["", "x", "4194303", "-1", "7@", "7@10.0.0.256", "7@host", "12@", "7 @10.0.0.7", "٣"]
)
def test_what_is_no_address_is_refused_with_an_example(written):
    with pytest.raises(ValueError, match="such as"):
        Bacnet.check(Point("d", "p", written, "analog-input,1", 60))


@pytest.mark.parametrize(
    ("written", "ref"),
    [
        ("analog-input,1", Ref(ObjectId(0, 1), 85)),
        ("2,7", Ref(ObjectId(2, 7), 85)),
        ("multi-state-value,3/state-text[2]", Ref(ObjectId(19, 3), 110, 2)),
        ("700,1/1234", Ref(ObjectId(700, 1), 1234)),
    ],
)
def test_points_are_read(written, ref):
    assert settings.at(written) == ref


@pytest.mark.parametrize(
    "written",
    ["analog-input", "analog-inputt,1", "analog-input,4194303", "1024,1", "analog-input,1/colour",
     "analog-input,1/units[x]", "input/72/float32", ""],
)  # fmt: skip
def test_what_is_no_point_is_refused(written):
    with pytest.raises(ValueError, match=r"analog-input,1|not known|types go"):
        settings.at(written)


def test_a_priority_that_overrules_people_needs_a_reason():
    """Rule F6."""
    assert Slots().ours == (13, 10)
    assert Slots(emergency=8, reason="operator's word of 12 May").ours == (13, 8)
    for wrong in (
        {"emergency": 8},
        {"emergency": 8, "reason": "  "},
        {"emergency": 6, "reason": "because"},
        {"demand_response": 10},
        {"emergency": 0},
        {"demand_response": 17},
    ):
        with pytest.raises(ValidationError):
            Slots(**wrong)


@pytest.mark.parametrize("address", ["192.168.10.5/24", "eth0", "br-lan.5"])
def test_our_own_address_or_an_interface_is_taken(address):
    assert BacnetSettings(address=address).port == 47808


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "192.168.10.5"},
        {"address": "192.168.10.500/24"},
        {"address": "1/24/3"},
        {"address": "eth0", "bbmd": "host"},
        {"address": "eth0", "ask": ["10.0.0.7:0"]},
        {"address": "eth0", "instance": 4},
        {},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        BacnetSettings.model_validate(wrong)


def thing(name, units_=None, number=1, kind=0, *, commandable=False):
    return Thing(ObjectId(kind, number), name, "", units_, commandable)


@pytest.mark.parametrize(
    ("name", "unit", "channel"),
    [
        ("T départ chauffage", 62, "temp.supply"),
        ("Rücklauf", 62, "temp.return"),
        ("Wärmemenge", 19, "heat"),
        ("Energie active import", 19, "elec.imp"),
        ("Eau froide", 80, "cw"),
        ("ECS volume", 80, "dhw"),
        ("Hall", 62, "temp"),
        ("CO2", 96, "co2"),
        ("P", 48, "elec.power"),
        ("setpoint", 121, None),
        ("some counter", 80, None),
        ("speed", 98, None),
        ("T depart", 64, None),  # Fahrenheit
    ],
)
def test_channels_are_guessed_from_units_and_names(name, unit, channel):
    assert channel is None or channel in channels()
    assert channel_of(thing(name, unit)) == channel


def test_no_two_points_have_one_channel_or_one_name():
    made, warnings = points([thing("Hall", 62, n) for n in (1, 2, 3)])
    assert [one.get("channel") for one in made.values()] == ["temp", None, None]
    assert len(made) == 3
    assert len(warnings) == 2
    assert all(one["unit"] in units() for one in made.values())


def test_names_fit_the_configuration():
    assert slug("Température/Départ n°1", "x") == "temperature-depart-n-1"
    assert slug("***", "ai-1") == "ai-1"


EDE = """# Engineering-Data-Exchange;;
VERSION_OF_LAYOUT;2.1
#keyname;Device obj.-instance;object-name;object-type;object-instance;settable;unit-code
K;1201;Chaufferie;8;1201;N;
K;1201;T vers départ;0;1;N;62
K;1201;Offset;2;7;Y;121
# a remark;;;;
K;1202;Compteur elec;accumulator;1;N;19
K;1202;broken;x;1;N;
K;99999999;broken;0;1;N;
"""


def test_an_ede_file_becomes_devices():
    boiler, meter = ede.read(EDE, "plant.csv")
    assert boiler.name == "chaufferie"
    assert boiler.entry == {
        "address": "1201",
        "points": {
            "t-vers-depart": {"at": "analog-input,1", "channel": "temp.supply", "unit": "Cel"},
            "offset": {"at": "analog-value,7", "unit": "K"},
        },
    }
    assert boiler.warnings == ("not understood and left out: plant.csv:9, plant.csv:10",)
    assert meter.entry["points"]["compteur-elec"]["channel"] == "elec.imp"
    for one in (boiler, meter):
        for name, options in one.entry["points"].items():
            Bacnet.check(Point(one.name, name, one.entry["address"], options["at"], 60))


@pytest.mark.parametrize("separator", [",", "\t"])
def test_other_separators_and_windows_text_are_read(separator):
    text = EDE.replace(";", separator).encode("cp1252")
    assert len(ede.read(ede.text_of(text), "plant.csv")) == 2


@pytest.mark.parametrize("text", ["", "a;b\n1;2\n", EDE[: EDE.index("K;")]])
def test_what_is_no_ede_file_is_refused(text):
    with pytest.raises(Refused, match="EDE file"):
        ede.read(text, "plant.csv")
