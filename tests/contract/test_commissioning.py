"""Meters as people list and read them, against meters that answer on real sockets."""

import asyncio
import csv
import datetime as dt
import io
import json
import re
import shlex
import socket
import subprocess
import sys
import time
from decimal import Decimal
from inspect import signature
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from agent.api import commission, privacy
from agent.api.calls import CALLS
from agent.api.registry import Caller
from agent.api.roles import NEEDS, Right, Role
from agent.app import visited
from agent.cli.status import _device_row
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.model import Reading, Sample, Series
from agent.gateway.recipient import open_recipient
from agent.gateway.supervisor import record_factors
from agent.registry import identity, place
from agent.registry.doubts import NeedsConfirmation
from agent.registry.index import Unknown
from tests.command import gardien
from tests.contract.registry.test_background_change import held

OWN = "energy_import: {scale: 1}"
"""a factor that a person has written must be proven"""
CONFIG = """\
building: {{name: Test, timezone: Europe/Paris, shared_accounts: [installer]}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 2s}}
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120, every: 15min, points: {{{own}}}}}
  m-2: {{link: riser, address: 2, profile: eastron-sdm120, every: 15min}}
  m-3: {{link: riser, address: 3, profile: eastron-sdm120, every: 15min}}
  m-9: {{link: riser, address: 9, profile: eastron-sdm120, every: 15min}}
uplinks:
  centre: {{recipient: centre.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}}
privacy: {{policy: FR-1}}
clock: {{source: system}}
state: {state}
"""


@pytest.fixture(scope="module")
def building():
    process = subprocess.Popen(
        [sys.executable, "-m", "hil.building", "--lines", "1", "--meters", "3"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = json.loads(process.stdout.readline())
    yield said["lines"][0] | {"control": said["control"]}
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture
def config(tmp_path, building):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(own=OWN, port=building["port"], state=tmp_path / "state"))
    (tmp_path / "state").mkdir()
    return path


def asked(config, *calls, who="alice"):
    """The answers to several calls of one visitor."""

    async def progress(words):
        pass

    async def made():
        async with visited(config) as house:
            asker = Caller(who, progress)
            return [await CALLS[name](house, asker, **words) for name, words in calls]

    return asyncio.run(made())


def test_the_loop_turns_while_a_visitor_brings_a_long_list(config):
    rows = [f"A-{n};dwelling" for n in range(10_000)]
    words = {"text": "\n".join(["label;type", *rows, "B;dweling"]), "name": "p.csv"}

    async def made():
        async with visited(config) as house:
            return await held(CALLS["place.import"](house, Caller("alice", None), **words))

    whole, longest = asyncio.run(made())
    assert longest < whole / 2


def places(*labels):
    since = {"since": stamp(time.time())}  # they live there from now on
    return [("place.new", {"label": label, "type": "dwelling", **since}) for label in labels]


def test_a_list_and_the_lines_are_joined(config, building):
    one, two, three = (meter["serial"] for meter in building["meters"])
    text = f"serial;dwelling;device\n{one};A-1;\n{two};A-2;m-1\n777;A-3;\n{three};A-4;\n;A-5;m-9\n"
    *_, answer = asked(
        config,
        *places("A-1", "A-2", "A-3", "A-4", "A-5"),
        ("meter.import", {"text": text, "name": "m.csv", "preview": True}),
    )
    joined = answer["joined"]
    assert [(each["label"], each["device"]) for each in joined["matched"]] == [
        ("A-1", "m-1"),
        ("A-4", "m-3"),
    ]
    assert [(each["label"], each["why"][:20]) for each in joined["silent"]] == [
        ("A-2", "m-2 reports this number, not m-1"[:20]),
        ("A-3", "no device reports this number"[:20]),
        ("A-5", "m-9 does not answer: "[:20]),
    ]
    assert [each["device"] for each in joined["unlisted"]] == ["m-2"]


def test_a_list_that_is_brought_again_is_joined_as_before(config, building):
    serials = [meter["serial"] for meter in building["meters"]]
    text = "serial;dwelling\n" + "".join(f"{one};A-{n}\n" for n, one in enumerate(serials))
    once = ("meter.import", {"text": text, "name": "m.csv"})
    more = ("meter.import", {"text": text + "777;A-0\n", "name": "m.csv", "preview": True})
    *_, first, again, new = asked(config, *places("A-0", "A-1", "A-2"), once, once, more)
    assert again["meters"] == []
    assert again["joined"] == first["joined"]
    assert (len(new["joined"]["matched"]), len(new["joined"]["silent"])) == (3, 1)


def test_a_meter_that_was_just_assigned_is_not_said_to_be_of_nobody(config):
    identity.mint(config.with_name("state"))

    async def once():
        async with visited(config) as house:
            asker = Caller("alice", None)
            async with open_recipient(house, "centre") as recipient:
                house.recipients["centre"] = recipient
                points = [point.name for point in house.lines.find("m-1")[1].points]
                recipient.ledger.held["m-1"] = dict.fromkeys(points, Unknown.NO_INSTALLATION)
                said = [(await CALLS["status"](house, asker))["devices"]["m-1"]["held"]]
                for name, words in places("A-1"):
                    await CALLS[name](house, asker, **words)
                words = {"device": "m-1", "dwelling": "A-1", "serial": "45"}
                await CALLS["meter.assign"](house, asker, **words)
                house.lines.find("m-1")[1].serial = "45"
                said.append((await CALLS["status"](house, asker))["devices"]["m-1"]["held"])
                recipient.ledger.held["m-1"] = {"its mean": "no consent covers it"}
                shown = (await CALLS["status"](house, asker))["devices"]["m-1"]
                shown["answered"] = "2026-01-01T00:00:00Z"
                return [*said, _device_row("m-1", shown, ["centre", "other"])[-1]]

    before, after, row = asyncio.run(once())
    assert row == "fine; not sent to centre: its mean: no consent covers it"
    assert "gardien meter assign" in before["centre"]
    assert after == {"centre": "its place has been recorded since: sent from its next reading on"}


def test_a_meter_that_does_not_answer_is_told_with_what_to_look_at(config):
    said = gardien("read", "m-9", "-c", str(config))
    assert said.exit_code == 1
    assert "Search the line for devices: gardien scan riser" in said.output


def shown(config, device):
    (answer,) = asked(config, ("read", {"device": device}))
    return answer["points"]["energy_import"]["value"]


def test_what_people_read_on_a_meter_is_compared_and_what_agrees_is_recorded(config, building):
    one, two, _ = (meter["serial"] for meter in building["meters"])
    text = f"serial;dwelling\n{one};A-1\n{two};A-2\n"
    asked(config, *places("A-1", "A-2"), ("meter.import", {"text": text, "name": "m.csv"}))
    mine, other = (Decimal(shown(config, name)).quantize(Decimal("0.1")) for name in ("m-1", "m-2"))
    # the serial-only installations are found once the meters have said who they are
    words = {"place": "A-1", "shown": {"elec.imp": str(mine)}}
    right, wrong, listed = asked(
        config,
        ("meter.verify", words),
        ("meter.verify", {"place": "A-1", "shown": {"elec.imp": str(other)}}),
        ("meter.list", {}),
    )
    assert right["results"][0]["agrees"]
    assert not wrong["results"][0]["agrees"]
    assert [each["label"] for each in wrong["results"][0]["shown_by"]] == ["A-2"]
    assert {each["label"]: each["proof"] for each in listed["meters"]} == {
        "A-1": "display",
        "A-2": "serial",
    }


def test_of_several_meters_of_a_dwelling_the_one_that_shows_it_is_proven(config, building):
    meter = "  m-3: {link: riser, address: 3, profile: eastron-sdm120, every: 15min}"
    water = "  w-3: {link: riser, address: 3, every: 15min, points: {volume: "
    water += "{at: input/72/float32, channel: cw, unit: m3}}}"
    config.write_text(config.read_text().replace(meter, water))
    one, two, _ = (meter["serial"] for meter in building["meters"])
    text = f"serial;dwelling;device\n{one};A-1;m-1\n;A-1;w-3\n{two};A-1;m-2\n"
    asked(config, *places("A-1"), ("meter.import", {"text": text, "name": "m.csv"}))
    for name, channel, point in (
        ("w-3", "cw", "volume"),
        ("m-1", "elec.imp", "energy_import"),
        ("m-2", "elec.imp", "energy_import"),
    ):
        (answer,) = asked(config, ("read", {"device": name}))
        # as people read it, for the meter counts on meanwhile
        value = str(Decimal(answer["points"][point]["value"]).quantize(Decimal("0.1")))
        (told,) = asked(config, ("meter.verify", {"place": "A-1", "shown": {channel: value}}))
        assert told["results"][0]["agrees"], name
    (listed,) = asked(config, ("meter.list", {}))
    assert [each["proof"] for each in listed["meters"]] == ["display"] * 3


def told_to(building, *orders):
    """Orders to the pretend building, as its control port takes them."""
    with socket.create_connection(("127.0.0.1", building["control"])) as line:
        for order in orders:
            line.sendall(f"{order}\n".encode())
            assert "error" not in json.loads(line.makefile().readline())


def test_a_meter_is_proven_by_what_is_switched_on_there(config, building):
    one, two, _ = (meter["serial"] for meter in building["meters"])
    text = f"serial;dwelling;device\n{one};A-1;m-1\n{two};A-2;m-2\n"
    asked(config, *places("A-1", "A-2"), ("meter.import", {"text": text, "name": "m.csv"}))

    async def switched_on(watts, place):
        async def progress(words):
            if "now switch" in words["text"]:
                told_to(building, f"draw 0 1 {watts}")

        async with visited(config) as house:
            asker, words = Caller("alice", progress), {"place": place, "channel": "elec.imp"}
            call = CALLS["meter.load"]
            if not watts:
                return await call(house, asker, **words, seconds=0.5)
            answer = await call(house, asker, **words, seconds=1.0)
            return answer, (await CALLS["meter.list"](house, asker))["meters"]

    right, listed = asyncio.run(switched_on(9_000, "A-1"))
    assert right["agrees"], right
    assert {each["label"]: each["proof"] for each in listed}["A-1"] == "load"
    wrong, listed = asyncio.run(switched_on(90_000, "A-2"))
    assert (wrong["agrees"], wrong["moved"]["label"]) == (False, "A-1")
    assert {each["label"]: each["proof"] for each in listed}["A-2"] != "load"
    with pytest.raises(Refused, match=r"--for must be 1 to 900 seconds, not 0\.5"):
        asyncio.run(switched_on(0, "A-1"))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"place": "A-1", "shown": {}}, "the value that the meter shows is missing"),
        ({"place": "A-1", "shown": {"heta": "1"}}, 'did you mean "heat"'),
        ({"place": "A-1", "shown": {"heat": "84I2"}}, "not what a meter shows"),
        ({"place": "A-1", "shown": {"heat": "1"}}, "no meter of this place"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused(config, words, why):
    asked(config, *places("A-1"))
    with pytest.raises(Refused, match=why):
        asked(config, ("meter.verify", words))


@pytest.mark.parametrize("account", ["root", "installer"])
def test_who_changes_the_registry_from_a_shared_account_says_who_he_is(config, account):
    new = {"label": "A-1", "type": "dwelling"}
    with pytest.raises(Refused, match=f'several people use the account "{account}"'):
        asked(config, ("place.new", new), who=account)
    (answer,) = asked(config, ("place.new", new | {"named": "marie"}), who=account)
    assert answer["places"][0]["who"] == f"marie ({account})"
    (answer,) = asked(config, ("place.list", {}), who=account)
    assert len(answer["places"]) == 1


def test_what_leaves_and_what_stays_is_explained_for_any_date(config):
    year = dt.datetime.now(dt.UTC).year + 2
    consent = {
        "places": ["A-1"], "recipient": "centre.example", "channels": ["elec.imp"],
        "purpose": "advice", "scope": "daily",
        "since": f"{year}-01-01", "confirm": [f"{year}-01-01"],
    }  # fmt: skip
    asked(
        config, *places("A-1", "A-2"),
        ("meter.assign", {"device": "m-1", "dwelling": "A-1", "serial": "1"}),
        ("consent.give", consent),
    )  # fmt: skip
    now, later, letter = asked(
        config,
        ("privacy.explain", {}),
        ("privacy.explain", {"at": f"{year}-02-01", "place": "A-1"}),
        ("privacy.person", {"place": "A-1", "stop": True, "language": "en"}),
    )
    found = {row["device"]: (row["label"], row["leaves"], row["why"]) for row in now["rows"]}
    assert found["m-1"] == ("A-1", False, "no consent, and no duty, covers it")
    assert found["m-2"][0] is None
    assert "gardien meter assign" in found["m-2"][2]
    (row,) = later["rows"]
    assert (row["leaves"], row["step"], row["why"]) == (True, 86400, "advice")
    assert letter["withdrawn"] == [{"recipient": "centre.example", "purpose": "advice"}]
    assert "No value measured in your dwelling leaves the building today" in letter["letter"]
    assert "consent" in letter["csv"]


def test_a_letter_is_whole_and_harmless_whatever_the_names_are(config):
    name = {"label": "<script>alert(1)</script>", "type": "dwelling"}
    duty = {
        "reference": "=HYPERLINK(1)", "recipient": "manager.example", "channels": ["heat"],
        "confirm": ["manager.example"],
    }  # fmt: skip
    *_, fr, en = asked(
        config,
        ("place.new", name),
        ("duty.add", duty),
        ("privacy.person", {"place": name["label"]}),
        ("privacy.person", {"place": name["label"], "language": "en"}),
    )
    for answer in (fr, en):
        assert "<script" not in answer["letter"]
        assert "{" not in answer["letter"].split("</style>")[1]
        assert ";=HYPERLINK" not in answer["csv"]
    with pytest.raises(Refused, match="language"):
        asked(config, ("privacy.person", {"place": name["label"], "language": "de"}))


def test_who_sees_data_of_a_dwelling_is_noted_and_of_nothing_else(config):
    """Rule P19."""
    *_, listed = asked(
        config, *places("A-1"),
        ("meter.assign", {"device": "m-1", "dwelling": "A-1"}),
        ("read", {"device": "m-1"}),
        ("read", {"device": "m-1"}),
        ("read", {"device": "m-2"}),
        ("privacy.person", {"place": "A-1"}),
        ("place.list", {}),
        ("privacy.access", {"place": "A-1"}),
    )  # fmt: skip
    found = [(one["who"], one["what"], one["label"]) for one in listed["looks"]]
    assert found == [("alice", "read", "A-1"), ("alice", "privacy.person", "A-1")]


NO_RECORD = {
    "status", "scan", "line.find", "configuration", "trust.look", "object.preview", "object.list",
    "control.dry_run", "control.vote", "meter.match", "meter.walk", "visit.show", "visit.keep",
    "visit.open",
    "uplink.file",  # what is carried, is recorded by uplink.carry
    "control.witness", "control.confirm",  # from a person's own account only
}  # fmt: skip
"""calls that change nothing, beside those of the rights to see, or record otherwise who it was"""
SEEING = {Right.SEE_GATEWAY, Right.SEE_PLANT, Right.SEE_PLACES, Right.SEE_PEOPLE}
GIVEN = {
    "str": "x", "Sequence[str]": ["A-1"], "dict[str, str]": {}, "dict[str, Any]": {},
    "Mapping[str, str]": {"heat": "1"},
    "float": 1.0,
}  # fmt: skip


def test_whatever_changes_something_or_shows_a_dwelling_asks_root_who_it_is(config):
    """A call that is new, and records nobody, must be one of those above. Rule U13."""

    asked = [name for name, right in NEEDS.items() if right not in SEEING and name not in NO_RECORD]

    async def once():
        async with visited(config) as house:
            for call, words in places("A-1"):
                await CALLS[call](house, Caller("alice", None), **words)
            house.steering, known = SimpleNamespace(), {"place": "A-1", "device": "m-1"}
            try:
                for name in asked:
                    needed = [
                        one for one in signature(CALLS[name]).parameters.values()
                        if one.kind is one.KEYWORD_ONLY and one.default is one.empty
                    ]  # fmt: skip
                    args = {one.name: known.get(one.name, GIVEN[one.annotation]) for one in needed}
                    with pytest.raises(Refused, match="give your name"):
                        await CALLS[name](house, Caller("root", None), **args)
            finally:
                house.steering = None

    asyncio.run(once())


def test_the_record_of_a_key_names_the_person(config):
    identity.mint(config.with_name("state"))

    async def once():
        async with visited(config) as house:
            await CALLS["key.csr"](house, Caller("root", None), named="Eva")
            return house.audit.chain.latest("certificate.requested")

    assert asyncio.run(once()) == {"by": "Eva (root)"}


def test_a_look_from_a_shared_account_is_a_persons_and_of_common_plant_it_is_nobodys(config):
    config.write_text(
        config.read_text().replace("address: 3,", "address: 3, place: CZS2Y-FSTBQ-Q5WDC,")
    )

    async def once():
        async with visited(config) as house:
            root, installer = Caller("root", None), Caller("installer", None)
            for name, words in places("A-1"):
                await CALLS[name](house, Caller("alice", None), **words)
            await CALLS["meter.assign"](house, Caller("alice", None), device="m-1", dwelling="A-1")
            for asker in (root, installer):
                with pytest.raises(Refused, match="give your name with --as NAME"):
                    await CALLS["read"](house, asker, device="m-1")
                await CALLS["read"](house, asker, device="m-3")
                await CALLS["read"](house, asker, device="m-1", named="Eva")
            # one that is commanded, and a dwelling's all the same
            controls = {"x": SimpleNamespace(point="m-1/relay")}
            house.config = house.config.model_copy(update={"controls": controls})
            with pytest.raises(Refused, match="give your name"):
                await CALLS["read"](house, root, device="m-1")
            return (await CALLS["privacy.access"](house, root))["looks"]

    found = [(one["who"], one["what"]) for one in asyncio.run(once())]
    assert found == [("Eva (root)", "read"), ("Eva (installer)", "read")]


def test_a_trace_needs_the_right_to_see_meters_and_is_in_the_access_log(config):
    config.write_text(
        config.read_text().replace("address: 3,", "address: 3, place: CZS2Y-FSTBQ-Q5WDC,")
    )
    lines = []

    async def progress(message):
        lines.extend(message.get("trace", ()))

    async def once():
        async with visited(config) as house:
            operator = Caller("otto", progress, frozenset({Role.OPERATOR}))
            assert (await CALLS["read"](house, operator, device="m-3"))["ok"]
            assert lines == []
            with pytest.raises(Refused, match="may not record one"):
                await CALLS["read"](house, operator, device="m-3", trace=True)
            await CALLS["read"](house, Caller("alice", progress), device="m-3", trace=True)
            await CALLS["scan"](house, Caller("bob", progress), link="riser", first="1",
                                last="1", trace=True)  # fmt: skip
            return (await CALLS["privacy.access"](house, Caller("alice", None)))["looks"]

    looks = [(one["who"], one["what"]) for one in asyncio.run(once())]
    assert sorted(looks) == [("alice", "trace"), ("bob", "trace")]
    assert lines.count("# gardien trace 1") == 2


def test_another_serial_number_than_recorded_is_named_by_a_read_and_by_a_scan(config):
    asked(
        config, *places("A-1", "A-2"),
        ("meter.assign", {"device": "m-1", "dwelling": "A-1", "serial": "24637099"}),
        ("meter.assign", {"device": "m-2", "dwelling": "A-2", "serial": "24637002"}),
    )  # fmt: skip
    other, same, search = asked(
        config,
        ("read", {"device": "m-1"}),
        ("read", {"device": "m-2"}),
        ("scan", {"link": "riser", "first": "1", "last": "2"}),
    )
    assert same["odd"] == []
    serials = [one for one in search["odd"] if one["kind"] == "serial"]
    assert serials == other["odd"]
    (odd,) = serials
    assert (odd["device"], odd["name"], odd["kind"]) == ("1", "m-1", "serial")
    assert odd["sentence"].startswith(
        "m-1 reports the serial number 24637001, and 24637099 is recorded: is it another meter?"
    )


def valued(device):
    return any(one["value"] is not None for one in device["latest"].values())


def test_a_status_shows_of_dwellings_what_a_role_may_see_and_notes_whoever_sees_values(config):
    config.write_text(
        config.read_text().replace("address: 3,", "address: 3, place: CZS2Y-FSTBQ-Q5WDC,")
    )

    async def once():
        async with visited(config) as house:
            for name, words in places("A-1"):
                await CALLS[name](house, Caller("alice", None), **words)
            await CALLS["meter.assign"](house, Caller("alice", None), device="m-1", dwelling="A-1")
            for device in ("m-1", "m-3"):
                line, found = house.lines.find(device)
                await line.link.tried()
                for sample in await line.link.read(found.points[:1]):
                    found.latest[sample.point.name] = sample
            askers = {str(role): Caller("eva", None, frozenset({role})) for role in Role}
            shown = {name: await CALLS["status"](house, one) for name, one in askers.items()}
            shown["root"] = await CALLS["status"](house, Caller("root", None))
            shown["not one"] = await CALLS["status"](house, Caller("root", None), named="root")
            shown["Eva"] = await CALLS["status"](house, Caller("root", None), named="Eva")
            with pytest.raises(Refused, match=r"m-1.* measures a dwelling.*gardien-installer"):
                await CALLS["read"](house, askers["operator"], device="m-1")
            assert (await CALLS["read"](house, askers["operator"], device="m-3"))["ok"]
            looks = (await CALLS["privacy.access"](house, Caller("alice", None)))["looks"]
            return {name: one["devices"] for name, one in shown.items()}, looks

    shown, looks = asyncio.run(once())
    for name, devices in shown.items():
        assert valued(devices["m-3"]), name
        assert ("m-1" in devices) == (name not in {"operator", "reader"}), name
        if home := devices.get("m-1"):
            assert home["latest"], name
            assert valued(home) == (name in {"installer", "Eva"}), name
    assert [(one["who"], one["what"]) for one in looks] == [
        ("eva", "status"), ("Eva (root)", "status"),
    ]  # fmt: skip


def test_a_meter_that_has_said_its_number_cannot_be_two_dwellings(config, building):
    serial = building["meters"][0]["serial"]
    text = f"serial;dwelling\n{serial};A-1\n"

    async def once():
        async with visited(config) as house:
            asker = Caller("alice", None)
            for name, words in places("A-1", "A-2"):
                await CALLS[name](house, asker, **words)
            await CALLS["meter.import"](house, asker, text=text, name="m.csv", join_lines=False)
            house.lines.find("m-1")[1].serial = serial
            with pytest.raises(Refused, match=r"measures A-2 .* but .* measures A-1 .* m.csv:2"):
                await CALLS["meter.assign"](house, asker, device="m-1", dwelling="A-2")
            with pytest.raises(Refused, match='no device "m-7" is configured'):
                await CALLS["meter.assign"](house, asker, device="m-7", dwelling="A-2")
            house.lines.find("m-2")[1].serial = building["meters"][1]["serial"]
            await CALLS["meter.assign"](house, asker, device="m-2", dwelling="A-2")
            return (await CALLS["meter.list"](house, asker))["meters"]

    found = {one["label"]: (one["device"], one["proof"]) for one in asyncio.run(once())}
    assert found == {"A-1": (None, "serial"), "A-2": ("m-2", "none")}, "a number only it has said"


def test_a_consent_for_somebody_whom_nothing_is_sent_to_is_recorded_and_told(config):
    consent = {
        "places": ["A-1"], "recipient": "center.example", "channels": ["elec.imp"],
        "purpose": "advice", "scope": "daily",
    }  # fmt: skip
    with pytest.raises(NeedsConfirmation, match=r"or is .centre\.example. meant"):
        asked(config, *places("A-1"), ("consent.give", consent))
    confirmed = consent | {"confirm": ["center.example"]}
    (answer,) = asked(config, ("consent.give", confirmed))
    assert len(answer["consents"]) == 1
    assert answer["without_uplink"] == ["center.example"]


def test_a_channel_in_plain_words_is_told_as_it_is_understood(config):
    gardien(
        "place",
        "new",
        "A-1",
        "--type",
        "dwelling",
        "--since",
        "2024-01-01",
        "--as",
        "a",
        "-c",
        config,
    )
    give = (
        "consent", "give", "A-1", "--recipient", "centre.example", "--purpose", "advice",
        "--scope", "daily", "--as", "a", "-c", config,
    )  # fmt: skip
    shown = " ".join(gardien(*give, "--channel", "heating").output.split())
    assert '"heating" was understood as heat' in shown
    assert "gardien consent withdraw A-1 --recipient centre.example" in shown
    assert "understood" not in gardien(*give, "--channel", "elec.imp", "--replace").output


def test_a_duty_to_somebody_whom_nothing_is_sent_to_is_recorded_and_told(config):
    duty = {"reference": "décret", "recipient": "syndic.example", "channels": ["heat"]}
    (answer,) = asked(config, ("duty.add", duty | {"confirm": ["syndic.example"]}))
    assert answer["without_uplink"] == ["syndic.example"]


def test_only_a_dwelling_has_people_to_be_told(config):
    new = ("place.new", {"label": "Hall", "type": "common"})
    with pytest.raises(
        Refused, match="Hall is no dwelling, so nothing was written: only a dwelling"
    ):
        asked(config, new, ("privacy.person", {"place": "Hall"}))


def kept(slot, place, occupancy, basis):
    series = Series(place, "elec.imp", "REG", "kWh", 86_400, "1", occupancy, basis)
    return Reading(series, slot, Decimal("12.50"), "V")


def test_the_table_for_people_has_their_values_that_wait_and_not_those_of_before(config):
    """Articles 15 and 20 of the GDPR: with their digits, and only theirs. Rules P13, P22."""
    consent = {
        "places": ["A-1"], "recipient": "centre.example", "channels": ["elec.imp"],
        "purpose": "advice", "scope": "daily",
    }  # fmt: skip

    identity.mint(config.with_name("state"))

    async def once():
        async with visited(config) as house:
            asker = Caller("alice", None)
            for name, words in (*places("A-1", "A-2"), ("consent.give", consent)):
                await CALLS[name](house, asker, **words)
            (basis,) = house.registry.consents()
            slot = int(house.clock.now())
            rows = [
                kept(slot, basis.place, basis.occupancy, basis.id),
                kept(slot + 60, basis.place, "HBEFORE", basis.id),
                kept(slot + 60, "DOTHER", "HOTHER", basis.id),
            ]
            async with open_recipient(house, "centre") as recipient:
                await recipient.thread.run(recipient.spool.append, rows, {})
            ask = CALLS["privacy.person"]
            before = await ask(house, asker, place="A-1", language="en")
            after = await ask(house, asker, place="A-1", language="en", stop=True)
            return slot, basis, before, after

    slot, basis, before, after = asyncio.run(once())
    found = list(csv.DictReader(io.StringIO(before["csv"]), delimiter=";"))
    (value,) = [one for one in found if one["fact"] == "waits"]
    assert (value["value"], value["unit"], value["quality"]) == ("12.50", "kWh", "V")
    assert (value["recipient"], value["id"]) == ("centre.example", basis.id)
    assert (value["channels"], value["until"]) == (
        "elec.imp",
        dt.datetime.fromtimestamp(slot, ZoneInfo("Europe/Paris")).isoformat(),
    )
    assert "not confirmed by the recipient: 1." in before["letter"]
    assert "waits" not in after["csv"], "it was withdrawn, and is destroyed"


def test_who_has_moved_out_may_still_ask_and_stop_what_waits(config):
    consent = {
        "places": ["A-1"], "recipient": "centre.example", "channels": ["elec.imp"],
        "purpose": "advice", "scope": "daily",
    }  # fmt: skip
    identity.mint(config.with_name("state"))

    async def once():
        async with visited(config) as house:
            asker = Caller("alice", None)
            for name, words in (*places("A-1"), ("consent.give", consent)):
                await CALLS[name](house, asker, **words)
            (basis,) = house.registry.consents()
            slot = int(house.clock.now())
            async with open_recipient(house, "centre") as recipient:
                row = kept(slot, basis.place, basis.occupancy, basis.id)
                await recipient.thread.run(recipient.spool.append, [row], {})
            at = stamp(slot + 1)
            await asyncio.sleep(1.2)
            await CALLS["occupancy.move_out"](house, asker, place="A-1", at=at)
            await CALLS["occupancy.move_in"](house, asker, place="A-1", since=at)
            ask = CALLS["privacy.person"]
            new = await ask(house, asker, place="A-1", language="en")
            old = {"place": "A-1", "language": "en", "occupancy": basis.occupancy}
            before = await ask(house, asker, **old)
            after = await ask(house, asker, **old, stop=True)
            with pytest.raises(Refused, match="A-1 has no occupancy"):
                await ask(house, asker, place="A-1", occupancy=place.mint("H"))
            return new, before, after

    new, before, after = asyncio.run(once())
    assert "waits;" not in new["csv"]
    assert before["csv"].count("waits;") == 1
    assert "Nothing new is sent, but values that were measured already may" in before["letter"]
    assert "No new value is sent for you" in after["letter"]
    assert after["withdrawn"] == [{"recipient": "centre.example", "purpose": "advice"}]
    assert "waits;" not in after["csv"]


def test_every_call_of_commissioning_and_privacy_is_at_the_door():
    assert commission.CALLS.keys() | privacy.CALLS.keys() <= CALLS.keys()


def test_an_overlap_is_told_in_the_buildings_own_days(config):
    new = ("place.new", {"label": "A-3-12", "type": "dwelling"})
    first = ("occupancy.move_in", {"place": "A-3-12", "since": "2026-07-12"})
    again = ("occupancy.move_in", {"place": "A-3-12", "since": "2026-07-20"})
    with pytest.raises(Refused, match=r"2026-07-12 → … .*on 2026-07-20") as refused:
        asked(config, new, first, again)
    assert "2026-07-11T22" not in str(refused.value)


def first_dwelling(building, **meter):
    """A-1 with the first meter."""
    fields = {"dwelling": "A-1", "device": "m-1", "serial": str(building["meters"][0]["serial"])}
    return [*places("A-1"), ("meter.assign", fields | meter)]


def proofs_of(config):
    (answer,) = asked(config, ("meter.proofs", {}))
    return [
        (one["label"], one["channel"], one["proof"], one["factor"], one["needed"])
        for one in answer["proofs"]
    ]


def verify(config, value, **more):
    words = {"place": "A-1", "shown": {"elec.imp": str(value)}, **more}
    (answer,) = asked(config, ("meter.verify", words))
    return answer["results"][0]


def scaled(config, scale):
    """Let somebody write another factor into the file."""
    config.write_text(config.read_text().replace(OWN, f"energy_import: {{scale: {scale}}}"))


def index(config):
    """What the display of the first meter shows."""
    return Decimal(shown(config, "m-1")).quantize(Decimal("0.1"))


def test_one_look_at_the_display_proves_the_factor(config, building):
    """Rules F15, F16."""
    asked(config, *first_dwelling(building))
    assert proofs_of(config) == [("A-1", "elec.imp", "none", None, True)]
    said = gardien("meter", "proofs", "-c", str(config))
    assert said.exit_code == 1
    assert "Read the display and type: gardien meter verify A-1 --elec.imp" in " ".join(
        said.output.split()
    )
    result = verify(config, index(config))
    assert result["factor"]["proof"] == "display"
    assert proofs_of(config) == [("A-1", "elec.imp", "display", None, True)]
    said = gardien("meter", "proofs", "-c", str(config))
    assert said.exit_code == 0
    assert "alice" in said.output
    # another factor in the file is another matter
    scaled(config, "0.1")
    assert proofs_of(config)[0][2] == "none"


@pytest.mark.parametrize(("scale", "error"), [("10", "10"), ("0.001", "0.001")])
def test_a_wrong_factor_is_named_with_its_error(config, building, scale, error):
    right = index(config)
    asked(config, *first_dwelling(building))
    scaled(config, scale)
    result = verify(config, right)
    assert not result["agrees"]
    assert Decimal(result["factor"]["factor"]) == Decimal(error)
    assert proofs_of(config) == [("A-1", "elec.imp", "wrong", error, True)]
    (status,) = asked(config, ("status", {}))
    (found,) = [one for one in status["events"] if one["code"] == "factor-wrong"]
    times = "10 times too high" if scale == "10" else "1000 times too low"
    assert times in found["here"]
    assert "m-1 (A-1)" in found["here"]
    assert "A-1" not in found["text"]
    said = gardien("meter", "proofs", "-c", str(config))
    assert said.exit_code == 1
    assert times in said.output


def test_a_display_that_contradicts_a_confirmed_factor_counts_until_another_agrees(
    config, building
):
    """Rules F15, F16: two sources confirm the profile, so no proof is needed."""
    config.write_text(config.read_text().replace(f"points: {{{OWN}}}", "points: {}"))
    asked(config, *first_dwelling(building))
    assert verify(config, index(config))["factor"] is None
    assert proofs_of(config) == [("A-1", "elec.imp", "none", None, False)]
    result = verify(config, index(config) / 10)
    assert result["factor"]["proof"] == "wrong"
    assert proofs_of(config) == [("A-1", "elec.imp", "wrong", "10", True)]
    (status,) = asked(config, ("status", {}))
    (found,) = [one for one in status["events"] if one["code"] == "factor-wrong"]
    assert "10 times too high" in found["here"]
    assert "m-1 (A-1)" in found["here"]
    assert verify(config, index(config))["factor"]["proof"] == "display"
    assert proofs_of(config) == [("A-1", "elec.imp", "none", None, False)]
    (status,) = asked(config, ("status", {}))
    assert "factor-wrong" not in {one["code"] for one in status["events"]}


def test_a_slip_of_the_pen_is_no_error_of_a_confirmed_factor(config, building):
    config.write_text(config.read_text().replace(f"points: {{{OWN}}}", "points: {}"))
    asked(config, *first_dwelling(building))
    result = verify(config, index(config) * Decimal("0.108"))
    assert (result["agrees"], result["factor"]) == (False, None)
    assert proofs_of(config) == [("A-1", "elec.imp", "none", None, False)]


def test_the_multiplier_is_corrected_by_the_command_that_is_named(config, building):
    config.write_text(config.read_text().replace(f"points: {{{OWN}}}", "points: {}"))
    two = "points: {energy_import: {}, energy_export: {}}"  # one meter for both channels
    config.write_text(config.read_text().replace("points: {}", two))
    asked(config, *first_dwelling(building, since=stamp(time.time() - 200_000)))
    verify(config, index(config) / 10)
    said = gardien("meter", "proofs", "-c", str(config))
    text = " ".join(said.output.split())
    assert "`scale` or `unit` of the point energy_import of m-1" in text
    (command,) = re.findall(r"gardien (meter correct .*?) \(--always", text)
    done = gardien(*shlex.split(command), "--as", "alice", "-c", str(config))
    assert done.exit_code == 0, done.output
    recorded = asked(config, ("meter.list", {}))[0]["meters"]
    assert sorted(
        (one["channel"], one["multiplier"]) for one in recorded if one["until"] is None
    ) == [("elec.exp", "1"), ("elec.imp", "0.1")]
    assert {one[2:] for one in proofs_of(config)} == {("none", None, False)}


def test_meters_whose_device_is_not_known_yet_are_counted(config, building):
    serial = str(building["meters"][0]["serial"])
    listed = f"serial;dwelling\n{serial};A-1\n"
    words = {"text": listed, "name": "m.csv", "join_lines": False}
    asked(config, *places("A-1"), ("meter.import", words))
    said = gardien("meter", "proofs", "-c", str(config))
    assert "left out: 1 meter, because gardien has not read" in " ".join(said.output.split())
    asked(config, ("meter.remove", {"place": "A-1", "never": True}), *first_dwelling(building)[1:])
    assert "left out" not in gardien("meter", "proofs", "-c", str(config)).output


def test_a_value_that_another_meter_shows_is_no_wrong_factor(config, building):
    asked(config, *first_dwelling(building))
    other = Decimal(shown(config, "m-2")).quantize(Decimal("0.1"))
    result = verify(config, other)
    assert result["shown_by"]
    assert result["factor"]["proof"] == "none"
    assert proofs_of(config)[0][2] == "none"


def test_a_multiplier_needs_the_plates_of_the_transformers(config, building):
    """Rule F19."""
    asked(config, *first_dwelling(building, channel="elec.imp", multiplier="40"))
    assert "--multiplier" in verify(config, index(config))["factor"]["sentence"]
    assert proofs_of(config)[0][2] == "none"
    result = verify(config, index(config), multiplier="100/5")
    assert (result["factor"]["proof"], result["factor"]["factor"]) == ("wrong", "2")
    assert verify(config, index(config), multiplier="200/5")["factor"]["proof"] == "display"
    assert proofs_of(config) == [("A-1", "elec.imp", "display", None, True)]
    for text in ("5/0", "x", "-1"):
        with pytest.raises(Refused, match="is no ratio such as 200/5"):
            verify(config, "1", multiplier=text)


def test_a_load_proves_the_factor_only_if_its_power_is_known(config, building):
    """Rule F16."""
    asked(config, *first_dwelling(building))
    made = []

    async def switched_on(watts, power):
        async def progress(words):
            if "now switch" in words["text"]:
                told_to(building, f"draw 0 1 {watts}")

        async with visited(config) as house:
            words = {"place": "A-1", "channel": "elec.imp", "seconds": 2.5, "power": power}
            try:
                made.append(await CALLS["meter.load"](house, Caller("alice", progress), **words))
            finally:
                told_to(building, f"draw 0 1 -{watts}")

    asyncio.run(switched_on(900_000, None))
    assert (made[-1]["agrees"], made[-1]["factor"]["proof"]) == (True, "none")
    assert proofs_of(config)[0][2] == "none"
    asyncio.run(switched_on(900_000, "90kW"))
    assert proofs_of(config)[0][2:4] == ("wrong", "10")
    asyncio.run(switched_on(900_000, "900 kW"))
    assert proofs_of(config)[0][2] == "load"
    for power in ("much", "8l/min", "-2W"):
        with pytest.raises(Refused, match=r"is no power or flow of elec\.imp"):
            asyncio.run(switched_on(0, power))


@pytest.mark.parametrize("unproven", ["flag", "withhold"])
def test_status_counts_the_factors_that_are_not_proven(config, building, unproven):
    text = config.read_text()
    config.write_text(text.replace("transport: mqtt,", f"unproven: {unproven}, transport: mqtt,"))
    asked(config, *first_dwelling(building))
    (status,) = asked(config, ("status", {}))
    (found,) = [one for one in status["events"] if one["code"] == "factor-unproven"]
    assert found["severity"] == ("later" if unproven == "flag" else "lost")
    assert found["text"].startswith("the factor of 1 meter is not proven, since ")
    assert ("UNPR" if unproven == "flag" else "neither sent to centre.example") in found["text"]


def test_what_a_day_has_shown_is_recorded_once_and_the_building_has_one_meter(config, building):
    asked(config, *first_dwelling(building, since=stamp(time.time() - 200_000)))
    text = config.read_text().replace("address: 9,", "address: 9, place: B6ASQ-Z1Y2K-SAA3Y,")
    config.write_text(text.replace(OWN, f"{OWN}, active_power: {{every: 1min}}"))

    async def once():
        async with visited(config) as house:
            device = next(one for one in house.lines.devices() if one.name == "m-1")
            device.serial = str(building["meters"][0]["serial"])
            index, power = device.points
            begin = int(house.clock.now()) // 900 * 900 - 90_000
            for t in range(begin, begin + 88_200, 60):
                read = [Sample(power, float(t), Decimal(500))]
                house.factor_days.note(device.points, t, read, None)
                if t % 900 == 0:
                    read = [Sample(index, float(t), Decimal(t - begin) / 7200)]
                    house.factor_days.note(device.points, t, read, None)
            record_factors(house)
            revision = house.registry.revision
            record_factors(house)
            assert house.registry.revision == revision
            return dict(house.factor_days.whole)

    assert asyncio.run(once()) == {"elec.imp": "m-9"}
    assert proofs_of(config) == [("A-1", "elec.imp", "power", None, True)]
