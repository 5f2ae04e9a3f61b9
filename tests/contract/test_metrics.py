"""The numbers of a gateway for monitoring: what they state, whom they name, and who can read them.

The alert rules and their tests are run by promtool, which reads the exposition too.
"""

import asyncio
import json
import os
import re
import subprocess
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import jsonschema
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from agent.api import metrics
from agent.api.calls import ALL, CALLS, SHARED_FOR, Description, described
from agent.api.metric_types import BY_NAME, METRICS
from agent.api.registry import Caller
from agent.api.roles import Role
from agent.app import visited
from agent.cli import command_line
from agent.core.clock import monotonic
from agent.core.model import Quality, Reading, Series, Why
from agent.gateway.delivery import document, news
from agent.registry import identity
from agent.web.metrics import exposition
from tests.contract.gateway.running import at_work
from tests.waiting import until

TOP = Path(__file__).parents[2]
RULES = TOP / "docs/prometheus"
SERIAL = "EL-100"
"""what the number of each meter begins with: letters too, or a value could look like it"""
FLATS = [f"A-{floor}-{door}" for floor in range(1, 6) for door in range(1, 6)]
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
CONFIG = """\
building: {{name: Les Alpins, timezone: Europe/Paris}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: 9}}
devices:
{flats}
  boiler-meter:
    {{link: riser, address: 200, profile: eastron-sdm120, every: 15min, place: {cellar}}}
uplinks:
  centre: {{recipient: r.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}}
  theirs: {{recipient: s.example, transport: mqtt, url: "mqtt://127.0.0.1:9", data: 50MB/month}}
privacy: {{policy: FR-1, common: {{basis: AG du 12 mai, from: 2020-01-01}}}}
clock: {{source: system}}
state: {state}
"""
CELLAR = "CZS2YFSTBQQ5WDC"
ALICE = Caller("alice", None)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A building of flats whose devices are named after them, at work: what its calls answer."""
    folder = tmp_path_factory.mktemp("m")
    state = folder / "state"
    state.mkdir(mode=0o700)
    identity.mint(state)
    flats = "\n".join(
        f"  flat-{flat}: {{link: riser, address: {n}, profile: eastron-sdm120, every: 15min}}"
        for n, flat in enumerate(FLATS, 1)
    )
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(flats=flats, state=state, cellar=CELLAR))

    async def scenario():
        async with at_work(config) as house:
            for n, flat in enumerate(FLATS):
                where = {"label": flat, "type": "dwelling", "since": "2024-09-01"}
                await CALLS["place.new"](house, ALICE, **where)
                meter = {"device": f"flat-{flat}", "dwelling": flat, "serial": f"{SERIAL}{n}"}
                await CALLS["meter.assign"](house, ALICE, **meter)
            await CALLS["place.new"](house, ALICE, label="B-9", type="dwelling")
            for n, device in enumerate(house.lines.devices()):
                device.serial, device.answered = f"{SERIAL}{n}", time.time() - n
            # of the last device another number than recorded: its finding names it and its flat
            [*house.lines.devices()][-2].serial = "99"
            series = Series(CELLAR, "elec.imp", "REG", "kWh", 900, "boiler-meter", None, "common")
            rows = [Reading(series, 900, Decimal(1), Quality.MEASURED)]
            rows += [Reading(series, 1800, None, Quality.MISSING, why=Why.SILENT, span=4)]
            house.recipients["centre"].intake.take(rows, {})
            house.jobs.failures |= Counter({"control radiator-A-1-1": 2, "poll riser": 1})
            house.jobs.failures |= Counter({"uplink theirs": 3})
            answer = await described(house)
            shared = Description(house)
            moment = await asyncio.gather(*(shared.get() for _ in range(3)))
            assert moment[0].keys() == answer.keys()
            assert all(one is moment[0] for one in moment), "made once for all of a moment"
            over = monotonic() + SHARED_FOR
            await until(lambda: monotonic() > over)
            assert await shared.get() is not moment[0], "later it is made again"
            answer["faults"].append({"component": "control radiator-A-1-1", "uplink": None})
            made = await metrics.families(house, answer)
            whole = (await ALL["status"](house, ALICE))["events"]
            reader = Caller("paul", None, frozenset({Role.READER}))
            answered = await CALLS["metrics"](house, reader)
            answer["faults"].pop()
            return made, answer, whole, answered

    return asyncio.run(scenario())


def series(families):
    """Each sample of the families, by name and labels."""
    return {
        (one["name"], *sorted(sample["labels"].items())): sample["value"]
        for one in families
        for sample in one["samples"]
    }


def test_no_number_names_a_dwelling_or_a_device_that_measures_one(seen):
    made, _, events, _ = seen
    assert "A-5-5" in json.dumps(events), "people at the gateway see which flat it is"
    text = exposition(made)[0].decode()
    for never in ("flat", "Alpins", SERIAL, "B-9", *FLATS):
        assert never not in text
    assert 'gardien_device_answer_timestamp_seconds{device="boiler-meter",line="riser"}' in text
    assert len([one for one in text.splitlines() if one.startswith("gardien_device_")]) == 1


def resident_now():
    """Bytes in memory of this process: that of all tests that it has run before, too."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_reader_gets_all_of_it_and_what_it_says_is_what_status_says(seen):
    made, answer, events, answered = seen
    numbers = series(answered["families"])
    assert numbers.keys() | {("gardien_components_failed", ("component", "control"))} == (
        series(made).keys()
    )
    shared = [one for one in events if not one["private"]]
    assert any(one["private"] for one in events), "dwellings of unknown occupancy"
    counted = sum(value for key, value in numbers.items() if key[0] == "gardien_findings")
    assert counted == len(shared) > 0
    worst = {key[1][1]: value for key, value in numbers.items() if key[0] == "gardien_health"}
    assert worst == {"lost": 1, "equipment": 0, "waiting": 0, "later": 0, "fine": 0}
    assert numbers["gardien_line_open", ("line", "riser")] == 0
    assert numbers["gardien_line_devices", ("line", "riser")] == len(FLATS) + 1
    assert numbers["gardien_connected", ("recipient", "r.example")] == 0
    assert numbers["gardien_spool_limit_bytes", ("recipient", "r.example")] > 1e6
    assert numbers["gardien_data_budget_bytes", ("recipient", "s.example")] == 50_000_000
    assert numbers["gardien_clock_state", ("state", answer["clock"])] == 1
    resident = numbers["process_resident_memory_bytes",]
    assert resident / 2 < resident_now() < 2 * resident
    assert 0 < numbers["gardien_uptime_seconds",] < 86_400


def test_slots_count_by_quality_and_reason_and_failures_by_what_the_component_does(seen):
    made, *_ = seen
    numbers, to = series(made), ("recipient", "r.example")
    measured = ("gardien_slots_total", ("quality", "measured"), ("reason", ""), to)
    assert numbers[measured] == 1
    silent = ("gardien_slots_total", ("quality", "missing"), ("reason", "silent"), to)
    assert numbers[silent] == 4, "one row of four slots"
    failures = {key[1][1]: value for key, value in numbers.items() if "failures" in key[0]}
    assert failures == {"control": 2, "poll": 1, "uplink": 3}


def test_both_formats_are_read_by_the_parsers_of_prometheus_with_the_same_numbers(seen):
    made, *_ = seen
    text, plain = exposition(made, "text/plain")
    modern, other = exposition(made, OPENMETRICS)
    assert plain.startswith("text/plain; version=")
    assert other.startswith(OPENMETRICS)
    assert exposition(made)[1] == plain == exposition(made, "*/*")[1]
    first = [*text_string_to_metric_families(text.decode())]
    second = [*openmetrics.text_string_to_metric_families(modern.decode())]
    wanted = series(made)
    for families in (first, second):
        read = {
            (one.name, *sorted(one.labels.items())): one.value
            for family in families
            for one in family.samples
        }
        assert read == pytest.approx(wanted)
    units = {one.name: one.unit for one in second}
    assert units["gardien_written_bytes"] == "bytes"


def test_the_names_are_conventional(seen):
    """By the linter of Prometheus itself."""
    text, _ = exposition(seen[0])
    lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, b"")


def test_each_number_is_declared_with_its_labels_and_made(seen):
    for family in seen[0]:
        for sample in family["samples"]:
            assert set(sample["labels"]) == set(BY_NAME[family["name"]].labels), family["name"]
    assert len(BY_NAME) == len(METRICS)
    code = (TOP / "agent/api/metrics.py").read_text()
    assert [one.name for one in METRICS if f'"{one.name}"' not in code] == []


def test_a_recipient_gets_its_own_numbers_and_nothing_of_another(seen):
    """Rule P24."""
    _, answer, *_ = seen
    numbers = answer["metrics"]["centre"]
    assert numbers["slots_total"] | {"missing silent": 4, "measured": 1} == numbers["slots_total"]
    assert "measured" not in answer["metrics"]["theirs"]["slots_total"]
    assert numbers["line_openings_total"] == {"riser": 0}
    assert "metrics" not in document(answer, "theirs"), "its line is metered"
    whole = json.dumps(document(answer, "centre"))
    for never in ("s.example", "theirs", "flat", "boiler", "component_failures", *FLATS):
        assert never not in whole


def test_labels_that_others_chose_are_escaped_in_both():
    """The name of a sensor is what the machine's maker wrote."""
    labels = {"zone": "thermal_zone0", "sensor": 'a "b"\\\nc'}
    made = metrics._grouped([("gardien_temperature_celsius", 40.5, labels)])
    (plain,) = text_string_to_metric_families(exposition(made)[0].decode())
    text, _ = exposition(made, OPENMETRICS)
    (modern,) = openmetrics.text_string_to_metric_families(text.decode())
    assert plain.samples[0].labels == modern.samples[0].labels == labels


def test_the_status_has_them_by_its_schema_within_its_size_and_is_not_sent_for_them(seen):
    _, answer, *_ = seen
    before = document(answer, "centre")
    schema = json.loads((TOP / "docs/status.schema.json").read_text())
    base = {"schema": "gardien/status/1", "gateway": "G1", "recipient": "r.example"}
    jsonschema.validate(base | {"state": "online"} | before, schema)
    for bad in ({"uptime_seconds": "12"}, {"line_open": {"riser": None}}, {"A-1-1": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(base | {"state": "online", "metrics": bad}, schema)
    after = before | {"metrics": {}}
    assert not news(before, after)

    # it is sent without compression
    assert 400 < len(json.dumps(before)) - len(json.dumps(after)) < 1_000


def test_orders_that_have_ended_without_a_release_are_counted():
    free = {
        "jti": None, "until": None, "action": "offset", "opted_out": "", "forbidden": "",
    }  # fmt: skip
    held = free | {"jti": "j-1", "until": "2026-11-24T11:00:00Z"}
    controls = {
        "free": free,
        "held": held,
        "held-too": held,
        "late": held | {"until": "2026-11-24T09:59:59Z"},
        "failsafe": free | {"jti": "failsafe"},
        "gone": free | {"jti": "j-2", "action": None},
        "opted-out": free | {"opted_out": "no"},
    }
    holds = [
        {"control": "held", "until": "2026-11-24T11:00:00Z", "left": 3600},
        {"control": "failsafe", "until": None, "left": None},
    ]
    answer = {"controls": controls, "now": "2026-11-24T10:00:00Z", "holds": holds}
    numbers = series(metrics._grouped(metrics._controls(answer)))
    assert numbers == {
        ("gardien_controls",): 7,
        ("gardien_controls_in_force",): 5,
        ("gardien_controls_overdue",): 2,
        ("gardien_controls_opted_out",): 1,
        ("gardien_controls_forbidden",): 0,
        ("gardien_control_left_seconds", ("control", "held")): 3600,
    }


def test_a_line_says_how_it_is_used_in_seconds():
    health = {"requests": 50, "busy": 0.25, "failed": {"1": 2, "7": 3}}
    health |= {"answer_ms": {"1": 20.0, "2": 60.0}, "strays": 4}
    link = {"open": True, "opened": 2, "devices": 3, "silent": 1, "health": health}
    noise = {"how": "sends its answer twice"}
    numbers = series(metrics._grouped(metrics._line("riser", link | {"disturbers": [noise]})))
    on = ("line", "riser")
    assert numbers["gardien_line_errors_total", ("kind", "silent"), on] == 5
    assert numbers["gardien_line_errors_total", ("kind", "stray"), on] == 4
    assert numbers["gardien_line_answer_mean_seconds", on] == pytest.approx(0.04)
    assert numbers["gardien_line_answer_slowest_seconds", on] == pytest.approx(0.06)
    assert numbers["gardien_line_disturbing_devices", ("kind", "twice"), on] == 1


def test_without_a_daemon_or_a_spool_the_call_still_answers(tmp_path):
    (tmp_path / "config.yaml").write_text(
        f"building: {{name: x}}\nclock: {{source: system}}\nstate: {tmp_path / 'state'}\n"
    )
    (tmp_path / "state").mkdir(mode=0o700)

    async def asked():
        async with visited(tmp_path / "config.yaml") as house:
            return (await CALLS["metrics"](house, ALICE))["families"]

    families = asyncio.run(asked())
    assert ("gardien_controls",) in series(families)
    assert b"gardien_build_info" in exposition(families, OPENMETRICS)[0]


def rules():
    groups = YAML(typ="safe").load(RULES / "alerts.yaml")["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_alerts_are_valid_and_fire_when_they_should_and_only_then():
    for words in (
        ["check", "rules", "--lint-fatal", "--lint=all", "alerts.yaml"],
        ["check", "config", "--syntax-only", "prometheus.yaml"],
        ["test", "rules", "alerts.test.yaml"],
    ):
        ran = subprocess.run(["promtool", *words], cwd=RULES, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    tested = (RULES / "alerts.test.yaml").read_text()
    assert [one["alert"] for one in rules() if f'alertname="{one["alert"]}"' not in tested] == []


def test_the_alerts_use_numbers_labels_and_states_that_there_are(seen):
    made = series(seen[0])
    labels = {name: set(one.labels) for name, one in BY_NAME.items()} | {"up": {"job"}}
    for rule in rules():
        used = re.findall(r"\b(gardien_\w+|up)\b(?:\{(.*?)\})?", rule["expr"])
        assert used, rule["alert"]
        for name, matchers in used:
            chosen = dict(re.findall(r"(\w+)[=!~]+\"(.*?)\"", matchers))
            assert set(chosen) <= labels[name], (rule["alert"], name)
            states = {dict(key[1:]).get("state") for key in made if key[0] == name}
            assert chosen.get("state") in states | {None}, (rule["alert"], chosen)


def test_each_alert_says_in_both_languages_what_to_do_with_commands_that_there_are():
    def commands(command, words=()):
        for name, one in getattr(command, "commands", {}).items():
            yield " ".join((*words, name))
            yield from commands(one, (*words, name))

    known = set(commands(command_line()))
    for rule in rules():
        texts = rule["annotations"]
        assert set(texts) == {"summary", "summary_fr", "action", "action_fr"}, rule["alert"]
        typed = {}
        for name in ("action", "action_fr"):
            typed[name] = re.findall(r"gardien ([a-z][a-z-]*(?: [a-z]+)?)", texts[name])
            assert set(typed[name]) <= known, (rule["alert"], typed)
        assert typed["action"] == typed["action_fr"], rule["alert"]
        for english in ("summary", "action"):
            placed = re.findall(r"\{\{.*?\}\}", texts[english])
            assert placed == re.findall(r"\{\{.*?\}\}", texts[f"{english}_fr"]), rule["alert"]
