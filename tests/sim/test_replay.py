"""A support case becomes a plan that repeats it, and a foreign file becomes one sentence."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from agent.api.redaction import redact
from agent.gateway.flight_recorder import FlightRecord, devices_hash, read
from tests.sim import bundle, plan, replay
from tests.sim.command import of_replay

CONFIG = """\
links:
  riser: {driver: modbus-rtu, port: /dev/ttyUSB0}
  heating: {driver: bacnet, address: 192.0.2.3/24}
  radio: {driver: enocean, port: /dev/ttyUSB1}
devices:
  device-1: {link: riser, address: 1, profile: eastron-sdm120}
  device-2: {link: riser, address: 2, profile: eastron-sdm120}
  device-3: {link: riser, address: 3, profile: eastron-sdm120}
  device-4: {link: heating, address: 7}
  boiler: {link: heating, address: 9}
uplinks:
  town: {recipient: town.example, transport: mqtt, receipt: signed}
  also: {recipient: town.example, transport: https}
  flex: {recipient: flex.example, transport: https, withheld: true}
controls:
  curve: {point: boiler/set}
"""
HASH = devices_hash([("riser", "eastron-sdm120")] * 3 + [("heating", "")] * 2)
BEGIN = 1_798_758_000
HOUR, DAY = 3600, 86_400
RUN = """
import json, sys
from pathlib import Path
from tests.sim import run
run.surroundings()
run.imported()
folder = Path(sys.argv[2])
run.own_folder = lambda: (folder, None)
outcome = run.perform(json.loads(Path(sys.argv[1]).read_text()), judged=False)
sys.exit(outcome.broken or None)
"""
STORY = {
    "schema": 1, "seed": 17, "begin": BEGIN, "days": 0.55, "quiet": 600, "kind": "field",
    "building": {"dwellings": 1, "recipients": 2, "lines": ["modbus", "mbus"], "controls": 0,
                 "sums": False, "withheld": False, "common": True, "signed": False},
    "events": [
        {"at": 1000, "do": "line", "line": 1, "for": 3000, "seed": 1},
        {"at": 4500, "do": "device", "device": 0, "how": "silent", "for": 7200, "seed": 2},
        {"at": 8000, "do": "uplink", "recipient": 1, "how": "down", "for": 5000, "seed": 3},
        {"at": 20000, "do": "kill", "aim": "any", "nth": 1, "back": 600, "seed": 4},
        {"at": 24000, "do": "clock.step", "by": 1500, "seed": 5},
        {"at": 30000, "do": "power", "aim": "any", "nth": 1, "back": 900, "wall": 0, "seed": 6},
        {"at": 34000, "do": "stop", "back": 120, "seed": 7},
        {"at": 37000, "do": "clock.service", "on": False, "seed": 8},
        {"at": 38000, "do": "clock.step", "by": -700, "seed": 9},
        {"at": 43000, "do": "clock.service", "on": True, "seed": 10},
    ],
}  # fmt: skip


def written(folder, records, config=CONFIG, **more):
    """A bundle. `records`: of the flight recorder, or the text of flight.json."""
    text = records if isinstance(records, str) else json.dumps([r.document() for r in records])
    file = folder / "bundle.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        for name, part in {"config/config.yaml": config, "flight.json": text, **more}.items():
            if part is not None:
                entry = tarfile.TarInfo(f"gardien-support/{name}")
                entry.size = len(part.encode())
                tar.addfile(entry, io.BytesIO(part.encode()))
    return file


def start(life=1, up=100, at=BEGIN, **more):
    facts = {"version": "1", "boot": "a", "new_boot": life == 1, "after": "", "devices": HASH}
    return FlightRecord(life, up, at, "start", facts=facts | more)


def after(seconds, kind, subject="", detail="", life=1, **more):
    """So many seconds after the first start, with a right clock."""
    return FlightRecord(life, 100 + seconds, BEGIN + seconds, kind, subject, detail, **more)


def events_of(folder, records, do=None, **more):
    made, lines = replay.replay(written(folder, records), seed=3, **more)
    assert plan.check(made) == []
    return [event for event in made["events"] if do in (None, event["do"])], lines


# Round trip


def lived(folder, made):
    """Live a plan; what the flight recorder remembers."""
    folder.mkdir()
    file = folder / "plan.json"
    file.write_text(json.dumps(made), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(file), str(folder)],
        check=False, capture_output=True, text=True, timeout=600,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return read(folder / "state")


def moments(records):
    """What happened, with its seconds since the first record, in its order."""
    kinds = {"start", *replay.LOST, *replay.BACK_AGAIN, "clock-stepped"}
    return [(r.kind, r.subject, r.detail, r.devices, r.at - records[0].at)
            for r in records if r.kind in kinds]  # fmt: skip


@pytest.mark.timeout(1_300)
def test_what_a_gateway_lived_through_comes_back_at_about_the_same_times(tmp_path):
    first = lived(tmp_path / "field", STORY)
    config = redact((tmp_path / "field" / "config.yaml").read_text(encoding="utf-8"))
    made, _ = replay.replay(written(tmp_path, first, config))
    # until here the set-up was an hour before the begin
    second = lived(tmp_path / "bench", made | {"quiet": 600, "days": 0.65})
    assert made["building"] == STORY["building"]
    then, now = moments(first), moments(second)
    assert len({kind for kind, *_ in then}) == 8, then
    for kind, subject, detail, devices, at in then:
        # a silent device is noticed when it is read; the time service takes its time
        near = 1900 if kind.startswith("device") else 700
        wanted = at + replay.world.BEFORE if at else 0
        same = [one[4] for one in now if one[:4] == (kind, subject, detail, devices)]
        assert any(abs(one - wanted) < near for one in same), (kind, subject, wanted, same)
    assert len(now) <= len(then) + 2, (then, now)


# What becomes what


def test_the_building_is_that_of_the_redacted_configuration(tmp_path):
    made, lines = replay.replay(written(tmp_path, [start()]))
    assert made["building"] == {
        "dwellings": 2, "recipients": 2, "lines": ["modbus", "bacnet"], "controls": 1,
        "sums": False, "withheld": True, "common": False, "signed": True,
    }  # fmt: skip
    assert "note: 3 lines are configured, 2 are simulated" in lines
    assert not any("devices are not those" in line for line in lines)
    other = start(devices="00000000")
    assert any("not those of the conf" in line for line in events_of(tmp_path, [other])[1])


def test_a_plan_in_which_nobody_consents_says_so(tmp_path):
    given = after(900, "calls", facts={"consent.give": 1})
    notes = [events_of(tmp_path, records)[1] for records in ([start()], [start(), given])]
    assert [any("nobody consents" in line for line in lines) for lines in notes] == [True, False]


def test_losses_have_the_names_and_numbers_of_the_building(tmp_path):
    records = [
        start(),
        after(1000, "line-lost", "heating"),
        after(1500, "line-restored", "heating"),
        after(2000, "device-silent", "riser", devices=((2, 3),)),
        after(2500, "device-answers", "riser", devices=((3, 3),)),
        after(3000, "uplink-lost", "flex"),
        after(4000, "uplink-restored", "flex"),
        after(5000, "line-lost", "radio"),
    ]
    whole, _ = replay.replay(written(tmp_path, records))
    made, house = whole["events"], bundle.houses.house(whole)
    lines = [event for event in made if event["do"] == "line"]
    assert [(event["line"], event["at"], event["for"]) for event in lines] == [(1, 1000, 500)]
    devices = {event["device"]: event["for"] for event in made if event["do"] == "device"}
    riser = [n for n, one in enumerate(house.fittings) if one.line == 0]
    assert devices == {riser[1]: 3000, riser[2]: 500}
    uplinks = [event for event in made if event["do"] == "uplink"]
    assert [(event["recipient"], event["for"]) for event in uplinks] == [(1, 1000)]


def test_what_is_lost_over_lives_is_one_loss(tmp_path):
    records = [
        start(), after(1000, "line-lost", "riser"),
        start(2, 5100, BEGIN + 5000, after="end"), after(5010, "line-lost", "riser", life=2),
        after(7000, "line-restored", "riser", life=2),
        after(8000, "line-lost", "riser", life=2), start(3, 9100, BEGIN + 9000, after="end"),
        after(20_000, "delivery-delayed", "flex", life=3),
    ]  # fmt: skip
    made, _ = events_of(tmp_path, records, "line")
    assert [(event["at"], event["for"]) for event in made] == [(1000, 6000), (8000, 1000)]


def test_lives_end_as_they_ended(tmp_path):
    records = [
        start(), after(900, "stop"), start(2, 1300, BEGIN + 1200, after="stop"),
        start(3, 9100, BEGIN + 9000, after="end"),
        start(4, 60, BEGIN + 20_000 + 7200, boot="b", new_boot=True, after="end"),
        FlightRecord(4, 660, BEGIN + 20_600, "clock-stepped", "", "-7200"),
        FlightRecord(4, 660, BEGIN + 20_600, "clock-trust-changed", "", "trusted"),
        FlightRecord(5, 5060, BEGIN + 25_000, "start", count=5000, lasted=40_000,
                     facts=start().facts | {"new_boot": False, "after": "end"}),
    ]  # fmt: skip
    made, lines = events_of(tmp_path, records)
    does = [event["do"] for event in made]
    assert does[:3] == ["stop", "kill", "power"]
    assert set(does[3:]) == {"kill"}
    assert len(does) == 3 + replay.MOST
    stop, kill, power = made[:3]
    assert (stop["at"], stop["back"]) == (900, 300)
    assert kill["at"] + kill["back"] == 9000
    assert (power["at"] + power["back"], power["wall"]) == (20_000, 7200)
    # the time service of that boot needed 10 minutes
    own = replay.Stream(replay.Stream(power["seed"]).getrandbits(64) + 1)
    assert own.uniform(*replay.world.SERVICE) == pytest.approx(690, abs=60)
    assert any("start" in line and "kill" in line for line in lines)


def test_what_flaps_ten_thousand_times_becomes_a_dozen(tmp_path):
    records = [
        start(),
        after(1000, "line-lost", "riser", count=10_000, lasted=14_400),
        after(1001, "line-restored", "riser", count=10_000, lasted=14_400),
    ]
    made, lines = events_of(tmp_path, records, "line")
    assert len(made) == replay.MOST
    assert all(event["at"] >= 1000 and event["at"] + event["for"] <= 15_402 for event in made)
    assert any("10000 times" in line for line in lines)


def test_a_clock_that_was_wrong_for_long_had_no_time_service(tmp_path):
    untrusted = ("clock-trust-changed", "", "untrusted")
    records = [
        start(),
        after(10_000, "clock-stepped", "", "-1500"), after(10_000, *untrusted),
        after(60_000, "clock-stepped", "", "+1500"),
        after(60_000, "clock-trust-changed", "", "trusted"),
    ]  # fmt: skip
    wrong = [FlightRecord(r.life, r.up, r.at - 1500, r.kind, r.subject, r.detail)
             for r in records[1:3]]  # fmt: skip
    made, _ = events_of(tmp_path, [records[0], *wrong, *records[3:]])
    off, step, on = made
    assert (off["do"], off["on"], step["do"], step["by"]) == (
        "clock.service", False, "clock.step", -1500,
    )  # fmt: skip
    assert off["at"] < step["at"] == 10_000
    assert (on["on"], on["at"]) == (True, pytest.approx(60_000, abs=15))


def test_the_stores_share_a_disk(tmp_path):
    records = [
        start(),
        after(1000, "store-failed", "the spool of flex", "EROFS"),
        after(1060, "store-failed", "registry", "EROFS"),
        after(4000, "store-recovered", "the spool of flex"),
        after(4030, "store-recovered", "registry"),
        after(20_000, "record-not-written", "clock.json", "ENOSPC"),
        after(21_000, "record-not-written", "findings.json"),
        after(90_000, "record-not-written", "shelf"),
    ]
    made, _ = events_of(tmp_path, records, "disk")
    assert [(event["how"], event["at"], event["for"]) for event in made] == [
        ("readonly", 1000, 3000), ("full", 20_000, 1600),
    ]  # fmt: skip


def test_people_do_the_nearest_thing_over_the_time_of_the_counts(tmp_path):
    facts = {"occupancy.move_in": 2, "occupancy.move_out": 2, "consent.withdraw": 3,
             "control.opt_out": 1, "status": 5000, "scan": 4}  # fmt: skip
    records = [start(), after(5000, "calls", "", "", lasted=14_000, count=5012, facts=facts)]
    made, lines = events_of(tmp_path, records)
    counts = {do: sum(event["do"] == do for event in made) for do in plan.EVENTS}
    assert {do: count for do, count in counts.items() if count} == {
        "move": 2, "withdraw": 3, "opt-out": 1, "look": replay.MOST,
    }  # fmt: skip
    assert all(5000 <= event["at"] <= 19_000 for event in made)
    moves = [event["notice"] for event in made if event["do"] == "move"]
    assert moves == [0, 0], "the call is made then"
    assert any("call scan" in line and "nothing" in line for line in lines)
    assert events_of(tmp_path, records) == events_of(tmp_path, records)


def test_long_quiet_times_lose_whole_days(tmp_path):
    records = [start(), after(1000, "line-lost", "riser"), after(2000, "line-restored", "riser"),
               after(500 * DAY, "reload-refused")]  # fmt: skip
    with pytest.raises(bundle.Unusable, match="squeeze"):
        events_of(tmp_path, records)
    made, lines = events_of(tmp_path, records, squeeze=2)
    assert [event["do"] for event in made] == ["line", "reload"]
    assert made[1]["at"] % DAY == 0
    assert 2 * DAY <= made[1]["at"] <= 3 * DAY
    assert any("left out" in line for line in lines)


# Hostile bundles

NO_FLIGHT = "no flight.json"
TORN = "torn"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "no records"), ("", TORN), ("[" * 100_000, TORN), ('{"life": 1}', TORN),
        ('[{"life": 1, "up"', TORN), (None, NO_FLIGHT), ('[1, "x", null, [], {}]', "no records"),
    ],
)  # fmt: skip
def test_a_bundle_without_records_says_so_in_a_sentence(tmp_path, text, reason):
    file = written(tmp_path, "" if text is None else text, **{"flight.json": text})
    with pytest.raises(bundle.Unusable, match=reason):
        replay.replay(file)


def test_a_foreign_file_is_refused_with_a_sentence(tmp_path, capsys):
    whole = written(tmp_path, [start()]).read_bytes()
    with zipfile.ZipFile(tmp_path / "foreign.zip", "w") as archive:
        archive.writestr("gardien-support/flight.json", "[]")
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty").touch()
    text = json.dumps([start().document()]) + " " * bundle.LARGEST
    written(tmp_path, text).rename(tmp_path / "bomb.tar.gz")
    for name in ("foreign.zip", "cut.tar.gz", "empty", "bomb.tar.gz", "missing"):
        given = SimpleNamespace(bundle=tmp_path / name, seed=None, squeeze=None)
        assert of_replay(given) == 2
        text = capsys.readouterr().err
        assert len(text.splitlines()) == 1, text
        assert "Traceback" not in text


def test_a_configuration_that_cannot_be_read_is_said(tmp_path):
    for text in ("links: {a: [", "&a [*a, *a]", "", "42"):
        with pytest.raises(bundle.Unusable, match="configuration"):
            replay.replay(written(tmp_path, [start()], text))
    odd = "links: 7\ndevices: {a: 3, b: {link: [1]}}\nuplinks: [1]\ncontrols: x\nprivacy: 9\n"
    made, _ = replay.replay(written(tmp_path, [start()], odd))
    assert plan.check(made) == []


WILD = ["start", "stop", "calls", *replay.LOST, *replay.BACK_AGAIN, *replay.DISK, *replay.CLOCK,
        *replay.SINGLE, "object-refused", "\x1b[2Jx", ""]  # fmt: skip
NUMBERS = [0, 1, 2, 60, 5000, BEGIN, -1, 10**9, 2**39, 10**30, True]


def wild(rng):
    """A document of whatever content."""
    number = lambda: rng.choice(NUMBERS)  # noqa: E731 -- short
    return {
        "life": rng.choice((1, 2, 3, 3, -5)), "up": number(), "kind": rng.choice(WILD),
        "at": rng.choice((BEGIN, BEGIN + 1000, BEGIN + 10**6, number())),
        "subject": rng.choice(("riser", "flex", "town", "curve", "none", "\x1b[31m")),
        "detail": rng.choice(("", "trusted", "untrusted", "+30", "9" * 5000, "9" * 400, "EIO")),
        "count": rng.choice((1, 1, 3, number())), "lasted": rng.choice((0, 0, 900, number())),
        "devices": rng.choice(((), ((1, 2),), ((number(), number()),), ((float("inf"), 1),))),
        "facts": rng.choice(({}, {"status": number()}, {"scan": "x"}, {"consent.give": 1e300},
                             {"new_boot": [], "version": [1], "devices": {}})),
    }  # fmt: skip


def test_no_record_whatever_makes_a_plan_that_cannot_be_carried_out(tmp_path):
    made = 0
    for seed in range(300):
        rng = random.Random(seed)
        documents = [start().document(), *(wild(rng) for _ in range(rng.randrange(1, 12)))]
        try:
            found, lines = replay.replay(written(tmp_path, json.dumps(documents)), squeeze=1)
        except bundle.Unusable:
            continue
        made += 1
        assert plan.check(found) == []
        assert all(line.isprintable() for line in lines)
    assert made > 50
