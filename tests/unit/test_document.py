"""What one recipient hears of the gateway: of itself, never of dwellings or other recipients."""

import copy
import json
from pathlib import Path

import jsonschema

from agent.acquisition.device import Device
from agent.api.calls import _link
from agent.api.diagnosis import running
from agent.core.model import Point
from agent.drivers.line_disturbance import How, Turn
from agent.drivers.link import Link
from agent.gateway.delivery import document, news
from agent.gateway.lines import LinkDevices

NOON = 1_800_014_400
SCHEMA = json.loads(Path("docs/status.schema.json").read_text(encoding="utf-8"))
BASE = {"schema": "gardien/status/1", "gateway": "G1", "recipient": "mine.example"}


def uplink(recipient, **of):
    delivery = {"connected_since": "2026-11-24T10:00:00Z", "alarm": "", "lost": ""}
    backlog = dict.fromkeys(
        ("rows", "slots", "batches", "batch_rows", "quarantined", "used", "cap"), 0
    )
    return {
        "recipient": recipient,
        "epoch": "5f1c00000000",
        "backlog": backlog | {"oldest": None, "quarantined_since": None, "quarantined_why": ""},
        "delivery": delivery | of,
        "held_devices": 1,
        "shed_rows": 0,
        "data": {"month": "2026-11", "used": 5, "budget": None, "said": ""},
    }


def answer():
    made = {
        "now": "2026-11-24T10:15:00Z",
        "started": "2026-11-24T10:00:00Z",
        "version": "0.1.0",
        "configuration": "0" * 64,
        "clock": "trusted",
        "clock_said": "",
        "links": {
            "riser": {
                "open": True,
                "error": "",
                "devices": 2,
                "silent": 1,
                "proposals": [],
                "health": {},
                "disturbers": [],
                "disturbed": {"devices": 0, "of": 0},
            }
        },
        "devices": {
            "flat-A-3-12": {"failures": 1, "place": "A-3-12", "serial": "21889001"},
            "flat-A-3-13": {"failures": 0, "place": "A-3-13", "serial": "21889002"},
        },
        "uplinks": {
            "mine": uplink("mine.example"),
            "theirs": uplink("theirs.example", connected_since=None, lost="no route"),
        },
        "disk": {"free": 1, "total": 2},
        "faults": [
            fault("uplink mine", "mine"),
            fault("uplink theirs", "theirs"),
            fault("poll riser"),
            fault("poll riser"),
        ],
        "holds": [{"control": "boiler-offset", "until": "2026-11-24T11:00:00Z", "left": 2700}],
        "certificate": {"not_after": "2027-02-22T00:00:00Z", "days_left": 90, "alarm": ""},
    }
    return made | {"events": [one.wire() for one in running.findings(made)]}


def fault(component, uplink=None):
    return {
        "component": component, "since": "2026-11-24T10:00:00Z", "error": "KeyError",
        "words": "KeyError: A-3-12", "next_try": "2026-11-24T10:16:00Z", "uplink": uplink,
    }  # fmt: skip


def test_a_recipient_hears_nothing_of_dwellings_or_of_other_recipients():
    """Rule P24."""
    said = json.dumps(document(answer(), "mine"))
    for never in ("A-3-12", "A-3-13", "21889001", "flat", "theirs", "no route"):
        assert never not in said
    assert "no route" in json.dumps(document(answer(), "theirs"))


def test_it_is_as_the_published_schema_says():
    """Rule T31."""
    jsonschema.validate(BASE | {"state": "offline"}, SCHEMA)
    told = document(answer() | {"authority": {"audience": "G1.0123"}}, "mine")
    assert told["audience"] == "G1.0123"
    jsonschema.validate(BASE | {"state": "online"} | told, SCHEMA)


def test_what_lasts_is_news_and_what_passes_is_none():
    before = document(answer(), "mine")
    after = copy.deepcopy(before)
    after["at"], after["disk"]["free"], after["data"]["used"] = "later", 0, 99
    after["holds"][0]["left"] = 2640
    after["faults"][0]["next_try"] = None
    assert not news(before, after)
    after["holds"] = []
    assert news(before, after)
    after = copy.deepcopy(before)
    del after["faults"][0]
    assert news(before, after)
    after = copy.deepcopy(before)
    after["devices"]["silent"] = 2
    assert news(before, after)


def test_a_refused_batch_says_since_when_why_and_what_to_do():
    made = answer()
    made["uplinks"]["mine"]["backlog"] |= {
        "quarantined": 2,
        "quarantined_since": 1_795_600_000.0,
        "quarantined_why": "the platform refuses the batch: 400",
    }
    (text,) = [one.text for one in running.findings(made) if one.code == "quarantine"]
    assert (
        "2 batches refused: the platform refuses the batch: 400, since 2026-11-25T09:46:40Z" in text
    )
    assert "until 2026-11-26T09:46:40Z" in text
    assert "gardien uplink retry mine" in text


def test_every_kind_of_trouble_is_an_event_of_its_own():
    made = answer()
    made["clock_said"], made["certificate"]["alarm"] = "no time", "it ends"
    made["storage"] = {"faults": {}, "controls": "the disk is read-only"}
    made["links"]["riser"] |= {"open": False, "error": "pulled out"}
    mine = made["uplinks"]["mine"]
    mine["delivery"]["alarm"], mine["backlog"]["quarantined"], mine["shed_rows"] = "deaf", 1, 2
    mine["data"]["said"] = "used up"
    found = {one.code for one in running.findings(made)}
    assert found == {
        "clock", "certificate", "storage", "line-down", "not-consuming", "quarantine", "shed",
        "data", "uplink-down", "fault",
    }  # fmt: skip


def test_a_disk_that_fails_is_named_with_what_it_means_and_what_to_do():
    made = answer()
    fault = {"reason": "the disk does not answer", "since": "2026-11-27T07:00:00Z"}
    made["storage"] = {"faults": {"the journal of the controls": fault}, "controls": ""}
    (silent,) = [one.text for one in running.findings(made) if one.code == "storage"]
    assert silent == (
        "the journal of the controls cannot be written: the disk does not answer, since"
        " 2026-11-27T07:00:00Z. If this persists, replace the disk or card: docs/replace.md"
    )
    made["storage"]["faults"]["the spool of mine"] = {**fault, "reason": "the disk is read-only"}
    made["uplinks"]["mine"]["kept"] = "memory"
    lost, _ = [one.text for one in running.findings(made) if one.code == "storage"]
    assert lost == (
        "new readings are kept in memory only, because the disk is read-only, since"
        " 2026-11-27T07:00:00Z. Undelivered readings are lost in a power cut. Replace the disk or"
        " card: docs/replace.md"
    )
    made["uplinks"]["mine"]["kept"] = ""
    made["storage"]["controls"] = "the disk is read-only"
    (released,) = [one.text for one in running.findings(made) if one.code == "storage"]
    assert released == (
        "all controls are released, because the disk is read-only, since 2026-11-27T07:00:00Z."
        " No order is carried out until the disk works. Replace the disk or card: docs/replace.md"
    )


def test_who_breaks_the_line_is_named_here_and_to_nobody_else():
    link = Link("riser", nobody)
    for n in range(12):
        turn = Turn({"17": How.TWICE})
        link.disturbed.ended("17", turn, n * 60.0, NOON + n, answered=True)
        for other in ("1", "2", "3"):
            link.disturbed.ended(other, Turn(), n * 60.0, NOON + n, answered=True)
    device = Device("sdm-17", [Point("sdm-17", "energy", "17", "input/72/float32", 60)])
    made = answer()
    made["links"]["riser"] = _link(LinkDevices(link, {"sdm-17": device}), NOON + 60.0)
    made["links"]["riser"]["open"] = True
    made["events"] = [one.wire() for one in running.findings(made)]
    here = next(one["here"] for one in made["events"] if one["code"] == "line-disturbed")
    assert here.startswith("sdm-17 disturbs line riser: 12 times today. It sends its answer twice;")
    assert "or disconnect it" in here
    told = document(made, "mine")
    jsonschema.validate(BASE | {"state": "online"} | told, SCHEMA)
    assert "line riser: a device disturbs the line" in json.dumps(told)
    assert "sdm-17" not in json.dumps(told)
    tomorrow = _link(LinkDevices(link, {"sdm-17": device}), NOON + 86_400.0)["disturbers"]
    assert [one["today"] for one in tomorrow] == [0]


def test_a_line_that_is_disturbed_as_a_whole_says_with_how_many_devices():
    made = answer()
    made["links"]["riser"]["disturbed"] = {"devices": 20, "of": 25}
    (found,) = (one for one in running.findings(made) if one.code == "line-disturbed")
    assert found.text.startswith("line riser is disturbed: errors with 20 of 25 devices")


def nobody():
    raise AssertionError


def test_readings_that_contradict_each_other_are_named_here_and_to_nobody_else():
    made = answer()
    kinds = ("month-end", "hotter-return", "beyond-fuse")
    since = "2026-11-20T07:00:00Z"
    odd = [{"kind": kind, "since": since, "points": ["energy"]} for kind in kinds]
    made["devices"]["h-3"] = {**next(iter(made["devices"].values())), "link": "riser", "odd": odd}
    made["events"] = [one.wire() for one in running.findings(made)]
    here = [one["here"] for one in made["events"] if one["code"] == "implausible"]
    assert here[0].startswith("h-3: the month-end index that it stored is above its present index")
    assert "since 2026-11-20T07:00:00Z. It counts too little heat or none." in here[1]
    assert "gardien read h-3" in json.dumps(made["events"])
    assert len(here) == len(kinds)
    told = document(made, "mine")
    jsonschema.validate(BASE | {"state": "online"} | told, SCHEMA)
    assert "line riser: the readings of a device contradict each other" in json.dumps(told)
    assert "h-3" not in json.dumps(told)
