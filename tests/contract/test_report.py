"""The commissioning report of a real gateway with 40 flats: content, signature, pages, who may."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import zlib
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest

from agent.api.calls import CALLS
from agent.api.registry import Caller
from agent.api.report.document import TYP, verified
from agent.api.report.report_page import css_text, page
from agent.api.roles import Role
from agent.core.clock import Clock, ClockEvidence
from agent.core.errors import Refused
from agent.registry import identity
from agent.registry.inputs import FactorResult
from agent.trust.audit import canonical
from agent.trust.sign import Signer
from agent.trust.strict import encoded
from hil.building import Building
from tests.command import gardien
from tests.contract.gateway.running import at_work
from tests.waiting import until

SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
SCRIPT = '<script>alert("A-1")</script>'
LONG = "Entrée-" + "W" * 50
NAME = 'Les "Alpins" </style><b>\\'
LABELS = [SCRIPT, LONG, *(f"A-{n:02}" for n in range(3, 41))]
LINES, METERS = 4, 10
OWN_FACTOR = ", points: {energy_import: {scale: 1}}"
"""of the meters of the first line: their factor must be proven, because a person has written it"""


def configuration(folder, building, more=""):
    links = "".join(
        f"  riser-{n}: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 500ms}}\n"
        for n, port in enumerate(building.ports)
    )
    devices = "".join(
        f"  m-{n:02}: {{link: riser-{n // METERS}, address: {n % METERS + 1},"
        f" profile: eastron-sdm120, every: 1s{OWN_FACTOR if n < METERS else ''}}}\n"
        for n in range(LINES * METERS)
    )
    return (
        f"building: {{name: {json.dumps(NAME)}, timezone: Europe/Paris}}\n"
        f"links:\n{links}devices:\n{devices}"
        "uplinks:\n  centre: {recipient: centre.example, transport: mqtt,"
        ' url: "mqtt://127.0.0.1:9"}\n'
        f"privacy: {{policy: DEMO-1}}\nclock: {{source: system}}\nstate: {folder / 'state'}\n{more}"
    )


def by_calculation(house, label, method):
    """Record what readings have shown, as the gateway does after a day."""
    (meter,) = (
        one for one in house.registry.installations() if house.registry.label(one.place) == label
    )
    point = next(one for one in house.config.points()[meter.device] if one.channel == "elec.imp")
    result = FactorResult(
        meter, "elec.imp", method, Decimal(1), Decimal("1.306"), point.to_prove, ""
    )
    house.registry.prove_factors([result], "gardien", "readings of a day", house.clock.now())


async def nothing(_):
    pass


ALICE = Caller("alice", nothing)


async def two_visits(folder):
    """Commission a building of 40 flats, and visit it again after some changes."""
    (folder / "state").mkdir(mode=0o700)
    identity.mint(folder / "state")
    path = folder / "config.yaml"
    async with Building.open(lines=LINES, meters=METERS) as building:
        path.write_text(configuration(folder, building))
        async with at_work(path) as house:

            def ask(call, /, by=ALICE, **args):
                return CALLS[call](house, by, **args)

            rows = "\n".join(
                f'"{label.replace(chr(34), 2 * chr(34))}";dwelling;2020-01-01' for label in LABELS
            )
            await ask("place.import", text=f"label;type;since\n{rows}\n", name="p.csv")
            for n, label in enumerate(LABELS[:-1]):  # the last one has no meter
                await ask("meter.assign", device=f"m-{n:02}", dwelling=label)
            await until(lambda: all(one.answered for one in house.lines.devices()))
            first = await ask("report.commissioning")
            reader = Caller("marie", nothing, frozenset({Role.MANAGER}))
            managers = await ask("report.commissioning", by=reader)
            looks = [(one.who, one.what) for one in house.access_log.of()]
            with pytest.raises(Refused, match="give your name with --as"):
                await ask("report.commissioning", by=Caller("root", nothing))
            named = await ask("report.commissioning", by=Caller("root", nothing), named="Jean")

            async def verify(device, place, times=1):
                """Compare with what the display shows, which has one decimal."""
                points = (await ask("read", device=device))["points"].values()
                index = next(one["value"] for one in points if one["channel"] == "elec.imp")
                value = str((times * Decimal(index)).quantize(Decimal("0.1")))
                return await ask("meter.verify", place=place, shown={"elec.imp": value})

            proof = await verify("m-02", "A-03")
            assert proof["results"][0]["agrees"]
            wrong = await verify("m-06", "A-07", times=10)
            assert wrong["results"][0]["factor"]["proof"] == "wrong"
            by_calculation(house, "A-08", "power")
            by_calculation(house, "A-09", "sum")
            building.silence(0, 5)
            await until(lambda: house.lines.find("m-04")[1].failures)
            await ask("meter.assign", device="m-39", dwelling=LABELS[-1])
            second = await ask("report.commissioning", since=first["file"])
    return {"first": first, "managers": managers, "named": named, "second": second, "looks": looks,
            "state": folder / "state", "config": path}  # fmt: skip


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    return asyncio.run(two_visits(tmp_path_factory.mktemp("visits")))


def test_the_report_has_every_meter_with_nameplate_place_index_and_line(visits):
    report = visits["first"]["report"]
    jsonschema.validate(json.loads(visits["first"]["file"]), json.loads(SCHEMA.read_text()))
    assert len(report["devices"]) == 40
    assert (report["building"], report["by"]) == (NAME, "alice")
    for device in report["devices"]:
        assert (device["maker"], device["model"]) == ("Eastron", "SDM120")
        assert re.fullmatch("[0-9]{8}", device["serial"])
        (index,) = device["indexes"]
        assert (index["channel"], index["unit"]) == ("elec.imp", "kWh")
        assert device["answer_ms"] is not None
    placed = {one["label"] for device in report["devices"] for one in device["measures"]}
    assert placed == set(LABELS[:-1])
    assert [one["label"] for one in report["places"] if not one["metered"]] == [LABELS[-1]]
    assert [(one["devices"], one["silent"]) for one in report["lines"]] == [(10, 0)] * 4
    assert all(one["requests"] and one["busy_percent"] is not None for one in report["lines"])
    assert report["findings"]  # a device has no place
    assert not report["backup"]["configured"]


def test_the_next_report_states_what_has_changed(visits):
    report = visits["second"]["report"]
    sentences = [one["text"] for one in report["changes"]]
    assert report["since"]["made"] == visits["first"]["report"]["made"]
    assert report["since"]["sha256"] == visits["first"]["sha256"]
    assert "1 meter was proven by its display: A-03" in sentences
    assert "m-04 (A-05) does not answer" in sentences
    assert any("measures A-40 now, before no place" in one for one in sentences)
    proofs = [one for each in report["devices"] for one in each["measures"] if one["proof"]["who"]]
    assert [(one["label"], one["proof"]["method"], one["proof"]["who"]) for one in proofs] == [
        ("A-03", "display", "alice")
    ]


def test_factors_are_stated_by_method_and_wrong_ones_by_their_error(visits):
    report = visits["second"]["report"]
    factors = {
        one["label"]: each
        for device in report["devices"]
        for one in device["measures"]
        for each in one["factors"]
    }
    assert len(factors) == 40
    proofs = {label: one["proof"] for label, one in factors.items() if one["proof"] != "none"}
    assert proofs == {"A-03": "display", "A-07": "wrong", "A-08": "power", "A-09": "sum"}
    assert {label: factors[label]["who"] for label in proofs} == {
        "A-03": "alice", "A-07": "alice", "A-08": "gardien", "A-09": "gardien",
    }  # fmt: skip
    assert all(factors[label]["at"] for label in proofs)
    assert Decimal(factors["A-03"]["excludes"]) < 2
    assert factors["A-07"]["factor"] == "0.1"
    assert [one["needed"] for one in factors.values()].count(True) == METERS
    sentences = [one["text"] for one in report["changes"]]
    assert "the factor of 1 meter was proven by its display: A-03" in sentences
    assert "the factor of 1 meter is wrong, the values are 10 times too low: A-07" in sentences
    whole = verified(visits["second"]["file"], "r")
    html = {language: page(*whole, language).replace("\xa0", " ") for language in ("en", "fr")}
    assert "✗ factor WRONG: the values are 10 times too low" in html["en"]
    assert "✗ facteur FAUX : les valeurs sont 10 fois trop basses" in html["fr"]
    assert "proven, or with nothing to prove: 33 of 40" in html["en"]
    assert "1,31 ou plus entre les deux" in html["fr"]


def test_only_installers_get_indexes_and_the_access_log_notes_it(visits):
    report = visits["managers"]["report"]
    assert not report["has_readings"]
    assert not any(device["indexes"] for device in report["devices"])
    assert "kWh" not in visits["managers"]["file"]
    assert visits["looks"] == [("alice", "report")]
    assert visits["named"]["report"]["by"] == "Jean (root)"
    kept = (visits["state"] / "report.json").read_text()
    assert "m-39" in kept
    assert "kWh" not in kept


def test_a_report_with_one_other_byte_proves_nothing(visits):
    text = visits["first"]["file"]
    good = verified(text, "r")
    assert good[1] == visits["first"]["sha256"]
    refused = 0
    positions = [*range(0, len(text), 1009), *range(len(text) - 120, len(text), 5)]
    for at in positions:
        other = "1" if text[at] != "1" else "2"
        try:
            assert verified(text[:at] + other + text[at + 1 :], "r") == good
        except Refused:
            refused += 1
    assert refused > len(positions) * 0.8  # the others are spaces between members
    assert verified(json.dumps(json.loads(text), indent=4), "r") == good


def test_right_after_the_start_the_report_waits_for_the_first_reading_of_a_slow_meter(tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    identity.mint(tmp_path / "state")
    path = tmp_path / "config.yaml"

    async def report():
        async with Building.open(lines=1, meters=1) as building:
            building.slow(0, 1, 1.0)
            path.write_text(
                "building: {name: A}\nlinks:\n"
                f"  a: {{driver: modbus-tcp, host: 127.0.0.1, port: {building.ports[0]},"
                " timeout: 4s}\n"
                "devices: {m: {link: a, address: 1, profile: eastron-sdm120, every: 1h}}\n"
                f"uplinks: {{}}\nclock: {{source: system}}\nstate: {tmp_path / 'state'}\n"
            )
            async with at_work(path) as house:
                return (await CALLS["report.commissioning"](house, ALICE))["report"]

    (device,) = asyncio.run(report())["devices"]
    assert len(device["indexes"]) == 1
    assert not device["silent"]


def test_the_report_names_the_clock_that_a_person_keeps_and_until_when(tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    identity.mint(tmp_path / "state")
    path = tmp_path / "config.yaml"
    path.write_text(f"building: {{name: A}}\nuplinks: {{}}\nstate: {tmp_path / 'state'}\n")
    unserviced = partial(ClockEvidence, kernel=False, touched=None)
    clock = Clock("ntp", tmp_path / "clock.json", evidence=unserviced, rtc=lambda: None)

    async def report():
        async with at_work(path, clock) as house:
            before = (await CALLS["report.commissioning"](house, ALICE))["report"]
            given = {"at": datetime.fromtimestamp(clock.now()).astimezone().isoformat()}
            assert (await CALLS["clock.set"](house, ALICE, **given))["taken"]
            await until(lambda: clock.dates)
            return before, (await CALLS["report.commissioning"](house, ALICE))["report"]

    before, after = asyncio.run(report())
    assert (before["clock"], before["clock_person_until"]) == ("untrusted", None)
    assert before["clock_problem"]
    assert (after["clock"], after["clock_problem"]) == ("person", None)
    until_then = datetime.fromisoformat(after["clock_person_until"]).timestamp()
    assert abs(until_then - clock.person_until) < 2


def stranger(visits, **changed):
    """The report as somebody else signs it."""
    by = Signer.new("mallory")
    report = visits["first"]["report"] | {"key": dict(by.key.jwk), "kid": by.kid} | changed
    header, _, signature = by.sign_text(TYP, canonical(report).decode()).decode().split(".")
    return json.dumps({"report": report, "signature": f"{header}..{signature}"})


def test_another_key_is_told_from_the_gateways(visits, tmp_path):
    path = tmp_path / "r.json"
    path.write_text(stranger(visits))
    kid = visits["first"]["report"]["kid"]
    told = gardien("report", "verify", path, "--kid", kid)
    assert told.exit_code
    assert "signed with the key" in str(told.exception)
    path.write_text(visits["first"]["file"])
    told = gardien("report", "verify", path, "--kid", kid)
    assert (told.exit_code, kid in told.output, visits["first"]["sha256"] in told.output) == (
        0, True, True,
    )  # fmt: skip
    told = gardien("report", "verify", path, "--out", tmp_path / "r.html", "--lang", "fr")
    assert told.exit_code == 0
    assert "compare the fingerprint" in told.output
    assert "Rapport de mise en service" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    "changed",
    [
        {"findings": [{"code": "x"}]},
        {"changes": [{"text": "", "message": "{x:>9999999999}", "values": {"x": "1"}}]},
        {"changes": [{"text": "", "message": "{x.__class__}", "values": {"x": "1"}}]},
        {"timezone": "Nowhere/Else"},
        {"devices": "many"},
        {"schema": "gardien/report/9"},
        {"key": {"kty": "RSA"}},
        {"changes": [{"text": "", "message": "{x:d}", "values": {"x": "1"}}]},
        {"changes": [{"text": "", "message": "{x}", "values": {"x": {"decimal": "1e9999"}}}]},
        {"changes": [{"text": "", "message": "{x}", "values": {"x": {"decimal": "many"}}}]},
        {"changes": [{"text": "", "message": "{x}", "values": {"x": {"seconds": 10**15}}}]},
        {"changes": [{"text": "", "message": "{x}", "values": {"x": "2026-13-01T00:00:00Z"}}]},
    ],
)
def test_a_document_that_anybody_signed_is_no_report_unless_it_is_whole(visits, changed):
    with pytest.raises(Refused, match="no commissioning report of this version"):
        verified(stranger(visits, **changed), "r")


def nested(part, names):
    """The part of a document that these names lead to."""
    for name in names:
        part = part[name]
    return part


@pytest.mark.parametrize("value", ["yesterday", "2026-11-31T10:00:00Z", "0001-01-01T00:00:00Z"])
@pytest.mark.parametrize(
    "member",
    [
        "made", "started", "clock_person_until", "since.made", "uplinks.0.last_receipt",
        "devices.0.answered", "devices.0.indexes.0.at", "devices.0.measures.0.since",
        "devices.0.measures.0.proof.at", "devices.0.measures.0.factors.0.at",
        "findings.0.since", "findings.0.until",
    ],
)  # fmt: skip
def test_a_malformed_time_is_named_and_not_shown(visits, tmp_path, member, value):
    *names, last = (int(one) if one.isdecimal() else one for one in member.split("."))
    report = json.loads(json.dumps(visits["second"]["report"]))
    del report["key"], report["kid"]
    nested(report, names)[last] = value
    path = tmp_path / "r.json"
    path.write_text(stranger(visits, **report))
    told = gardien("report", "verify", path, "--out", tmp_path / "r.html")
    assert isinstance(told.exception, Refused)
    where = "" if member.startswith("findings") else f"{member}: "
    assert f": {where}{value} is no time" in str(told.exception)
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("value", ["", "1e9", "NaN", "0", "-1", "1" * 70])
@pytest.mark.parametrize("member", ["factor", "excludes"])
def test_a_malformed_factor_is_named(visits, member, value):
    report = json.loads(json.dumps(visits["second"]["report"]))
    del report["key"], report["kid"]
    report["devices"][0]["measures"][0]["factors"][0][member] = value
    with pytest.raises(Refused, match=rf"factors\.0\.{member}: .*is no number"):
        verified(stranger(visits, **report), "r")


def test_a_signature_for_another_purpose_is_none(visits):
    """A detached signature of the same key over the same bytes, of another type."""
    whole = json.loads(visits["first"]["file"])
    keys = identity.load(visits["state"])
    by = Signer(keys.gateway, keys.signing_key)
    content = canonical(whole["report"])
    grant = by.sign_text("dr-grant+jwt", content.decode()).decode()
    good = by.sign_text(TYP, content.decode()).decode()
    assert good == whole["signature"].replace("..", f".{encoded(content)}.")
    for wrong in (grant.replace(f".{encoded(content)}.", ".."), good):
        with pytest.raises(Refused, match="not what the gateway"):
            verified(json.dumps(whole | {"signature": wrong}), "r")


class Outline(HTMLParser):
    """The elements of a page, its text, and the tables without headings."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.levels = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("language", ["fr", "en"])
def test_the_page_is_accessible_and_hostile_names_are_only_text(visits, language):
    report, sha256 = verified(visits["second"]["file"], "r")
    html = page(report, sha256, language)
    assert page(*verified(visits["second"]["file"], "r"), language) == html
    outline = Outline(html)
    tags = [tag for tag, _ in outline.tags]
    assert not {"script", "b", "img", "link", "iframe"} & set(tags)
    assert tags.count("style") == 1
    text = "".join(outline.text)
    assert SCRIPT in text
    assert LONG in text
    assert NAME in text
    assert dict(outline.tags)["html"] == {"lang": language}
    assert all(after - before <= 1 for before, after in zip(outline.levels, outline.levels[1:]))  # noqa: B905
    assert all("scope" in attrs for tag, attrs in outline.tags if tag == "th")
    assert sha256 in text
    assert text.count(report.kid) == 2
    assert "counter(pages)" in html
    assert "size:A4" in html
    for device in report.devices:
        assert device.serial in text
    english = {"Summary", "Open findings", "does not answer", "Installer"}
    assert all((one in text) == (language == "en") for one in english - {"does not answer"})


def test_a_name_cannot_end_the_style_sheet():
    written = css_text('a"}</style><script>é\\')
    assert re.fullmatch(r"(?:[a-z]|\\[0-9a-f]{6})+", written)


def inflated(pdf):
    """The streams of a PDF."""
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        with suppress(zlib.error):
            yield zlib.decompress(stream)


@pytest.mark.skipif(not shutil.which("weasyprint"), reason="apt install weasyprint")
def test_the_pdf_is_the_same_each_time(visits, tmp_path):
    source = tmp_path / "r.json"
    source.write_text(visits["second"]["file"])
    made = []
    for name in ("a.pdf", "b.pdf"):
        told = gardien("report", "verify", source, "--out", tmp_path / name, "--lang", "fr")
        assert told.exit_code == 0, told.exception
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    assert made[0].startswith(b"%PDF-1.7")
    objects = b"".join(inflated(made[0]))
    assert b"/StructTreeRoot" in objects  # tagged, for those who listen to it
    assert 4 <= len(re.findall(rb"/Type ?/Page\b", objects)) <= 9


def test_without_weasyprint_a_pdf_is_refused_before_anything_is_asked(visits, tmp_path):
    command = [Path(sys.executable).with_name("gardien"), "report", "--out", tmp_path / "r.pdf"]
    told = subprocess.run(
        [*command, "--config", visits["config"]], env={"PATH": str(tmp_path)}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert told.returncode
    assert "weasyprint" in told.stderr
    assert not list(tmp_path.iterdir())


def test_a_report_is_made_by_a_running_gateway_only(visits, tmp_path):
    told = gardien("report", "--out", tmp_path, "--as", "alice", "--config", visits["config"])
    assert "gardien is not running" in str(told.exception)
    assert not list(tmp_path.iterdir())
