"""What two commissioning reports differ in is stated in sentences, in both languages."""

from dataclasses import replace
from datetime import UTC, date, timedelta
from zoneinfo import ZoneInfo

import pytest

from agent.api.report.changes import MOST, changes
from agent.api.report.document import (
    MESSAGE,
    BackupReport,
    CertificateReport,
    DeviceReport,
    FactorReport,
    LineReport,
    MeasuredPlace,
    MeterProof,
    PlaceReport,
    Report,
    UnreadMeter,
    UplinkReport,
    exact,
    signed,
    verified,
)
from agent.api.report.gather import Kept
from agent.api.report.report_page import ReportView
from agent.core.finding import Finding, Severity
from agent.core.i18n import Text
from agent.registry.identity import Identity
from agent.trust.audit import canonical
from agent.trust.sign import Signer

SIGNER = Signer.new("gateway")
WHO = Identity("G84G7ZWYRD6Z1GQ", "s", b"", SIGNER.private)


def measured(  # noqa: PLR0913 -- what differs
    label, method="none", channel=None, multiplier="1", *, factor=None, needed=True
):
    factors = [] if factor is None else [
        FactorReport(
            channel="elec.imp", proof=factor, needed=needed, at=None, who=None, excludes=None,
            factor="10" if factor == "wrong" else None,
        )
    ]  # fmt: skip
    return MeasuredPlace(
        place=f"D{label}", label=label, type="dwelling", channel=channel, since=None,
        multiplier=multiplier, proof=MeterProof(method=method), factors=factors,
    )  # fmt: skip


def device(name, serial, *measures, **more):
    plain = {
        "device": name, "line": "riser", "address": "1", "profile": "eastron-sdm120",
        "maker": "Eastron", "model": "SDM120", "version": None, "serial": serial,
        "recorded_serial": serial, "silent": False, "answered": None, "problem": None,
        "answer_ms": 3, "failed": 0, "clock_drift_s": None, "measures": list(measures),
        "indexes": [],
    }  # fmt: skip
    return DeviceReport(**plain | more)


def uplink(name, recipient="centre.example"):
    return UplinkReport(
        uplink=name, recipient=recipient, transport="mqtt", url="mqtts://a", connected=True,
        last_receipt=None, waiting=0,
    )  # fmt: skip


def line(name):
    return LineReport(
        line=name, driver="modbus-tcp", open=True, problem=None, devices=2, silent=0, requests=1,
        busy_percent=2, worry=None, disturbers=[],
    )  # fmt: skip


def finding(what, code="silent"):
    text = Text("{what}", what=what)
    made = Finding(code=code, subject=Text(what), what=text, severity=Severity.LATER)
    return exact(made.wire())


DEVICES = [device("m-1", "11", measured("A-1")), device("m-2", "22", measured("A-2"))]
BEFORE = Report(
    made="2026-11-28T10:00:00Z", by="alice (root)", building="Les Alpins", timezone="Europe/Paris",
    building_place=None, gateway=WHO.gateway, key=dict(SIGNER.key.jwk), kid=SIGNER.kid,
    version="0.1.0", system="Linux", started="2026-11-28T09:00:00Z", configuration="0",
    settings={"devices/m-1/every": "15min", "devices/m-2/every": "15min"}, clock="trusted",
    clock_source="ntp", clock_problem=None, certificate=None,
    backup=BackupReport(configured=False, recovery=None, made=None, held_by=[], folder=None,
                        problem=None),
    uplinks=[uplink("centre")], lines=[line("riser")], devices=DEVICES,
    places=[PlaceReport(place=f"DA-{n}", label=f"A-{n}", type="dwelling", metered=True)
            for n in (1, 2)],
    unread_meters=[], controls=[], has_readings=False, findings=[],
)  # fmt: skip
FIRST, SECOND = DEVICES
RECOVERY = CertificateReport(subject="safe", not_after="2030-01-01T00:00:00Z", alarm=None)
CHANGES = {
    "nothing": ({}, []),
    "exchanged": (
        {"devices": [FIRST, device("m-2", "33", measured("A-2"))]},
        ["A-2: the meter 22 was exchanged for 33 (device m-2)"],
    ),
    "exchanged and not recorded": (
        {"devices": [FIRST, device("m-2", "33")]},
        ["m-2 reports the meter 33 now, before 22 (A-2): the exchange is not recorded"],
    ),
    "swapped places": (
        {"devices": [device("m-1", "11", measured("A-2")), device("m-2", "22", measured("A-1"))]},
        ["m-1 (meter 11) measures A-2 now, before A-1",
         "m-2 (meter 22) measures A-1 now, before A-2"],
    ),
    "under another name": (
        {"devices": [FIRST, device("m-9", "22", measured("A-2"))]},
        ["the meter 22 is now the device m-9 on line riser, before m-2"],
    ),
    "added": (
        {"devices": [*DEVICES, device("m-3", None)]},
        ["new device m-3 on line riser: without a serial number, for no place"],
    ),
    "removed": (
        {"devices": [FIRST]}, ["the device m-2 was removed: 22, of A-2"],
    ),
    "at another address": (
        {"devices": [FIRST, replace(SECOND, address="7", line="hall")]},
        ["m-2 is now at address 7 of line hall, before at 1 of riser"],
    ),
    "silent": (
        {"devices": [FIRST, replace(SECOND, silent=True)]}, ["m-2 (A-2) does not answer"],
    ),
    "proven": (
        {"devices": [device("m-1", "11", measured("A-1", "display")),
                     device("m-2", "22", measured("A-2", "display"))]},
        ["2 meters were proven by its display: A-1, A-2"],
    ),
    "the number alone": ({"devices": [FIRST, device("m-2", "22", measured("A-2", "serial"))]}, []),
    "multiplied": (
        {"devices": [FIRST, device("m-2", "22", measured("A-2", multiplier="40"))]},
        ["A-2: the index is multiplied by 40 now, before by 1"],
    ),
    "places": (
        {"places": [*BEFORE.places[:1], PlaceReport(place="DB", label="B", type="dwelling",
                                                    metered=False)]},
        ["1 new place: B", "1 place is not recorded any more: A-2"],
    ),
    "another label": (
        {"places": [replace(BEFORE.places[0], label="1er gauche"), BEFORE.places[1]]},
        ["A-1 is called 1er gauche now"],
    ),
    "option": (
        {"settings": {"devices/m-1/every": "1h", "devices/m-2/every": "15min",
                      "devices/m-2/reads_a_day": "9", "devices/m-3/every": "1h"}},
        ["option devices: m-1: every: 1h now, before 15min",
         "option devices: m-2: reads_a_day: 9 now, before not set"],
    ),
    "uplinks": (
        {"uplinks": [uplink("second")]},
        ["new uplink second to centre.example", "the uplink centre was removed"],
    ),
    "another recipient": (
        {"uplinks": [uplink("centre", "b.example")]},
        ["the uplink centre goes to b.example now, before to centre.example"],
    ),
    "lines": ({"lines": [line("hall")]}, ["new line hall", "line riser was removed"]),
    "upgraded": ({"version": "0.2.0"}, ["gardien 0.2.0 runs now, before 0.1.0"]),
    "replaced": (
        {"kid": "other"},
        ["the gateway has new keys: it was replaced, or restored from its backup"],
    ),
    "clock": ({"clock": "untrusted"}, ["the clock is not trusted now"]),
    "clock of a person": ({"clock": "person"}, ["a person has given the time"]),
    "clock in holdover": ({"clock": "holdover"}, []),
    "factors": (
        {"devices": [device("m-1", "11", measured("A-1", factor="power")),
                     device("m-2", "22", measured("A-2", factor="wrong"))]},
        ["the factor of 1 meter was proven by its power: A-1",
         "the factor of 1 meter is wrong, the values are 10 times too high: A-2"],
    ),
    "a factor that needs no proof": (
        {"devices": [device("m-1", "11", measured("A-1", factor="none", needed=False)),
                     device("m-2", "22", measured("A-2", factor="none"))]},
        [],
    ),
    "backup": (
        {"backup": replace(BEFORE.backup, configured=True, recovery=RECOVERY)},
        ["a backup is now kept, for the recovery certificate safe"],
    ),
    "finding": ({"findings": [finding("m-2 is odd")]}, ["new finding: m-2 is odd"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_stated_once(name):
    changed, sentences = CHANGES[name]
    made = changes(BEFORE, replace(BEFORE, **changed))
    assert list(map(str, made)) == sentences
    for one in made:  # also in French, and in the form in which a report carries it
        assert Text.of(exact(one.wire())).in_language("fr") != str(one)
        assert MESSAGE.fullmatch(one.message)


def test_a_factor_that_is_not_proven_any_more_is_stated():
    was = [device("m-1", "11", measured("A-1", factor="sum")), SECOND]
    now = [device("m-1", "11", measured("A-1", factor="none")), SECOND]
    made = changes(replace(BEFORE, devices=was), replace(BEFORE, devices=now))
    assert list(map(str, made)) == ["the factor of 1 meter is not proven any more: A-1"]


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("clock set by a person, until 5 December 2026 at 11:00", "time given by a person")),
        ("fr", ("horloge réglée par une personne, jusqu'au 5 décembre 2026 à 11:00",
                "heure donnée par une personne")),
    ],
)  # fmt: skip
def test_the_page_names_a_clock_that_a_person_keeps(language, words):
    given = replace(BEFORE, clock="person", clock_person_until="2026-12-05T10:00:00Z")
    view = ReportView(given, language)
    assert [good for good, text in view.summary if words[0] in text] == [False]
    assert all(one in view.equipment[0][1] for one in words)
    assert "service" in ReportView(BEFORE, language).equipment[0][1]


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_page_does_not_call_meters_that_were_not_found_in_order(language):
    lost = UnreadMeter(label="A-2", meter="22", channel="heat")
    says = ReportView(BEFORE, language).say
    found = ReportView(replace(BEFORE, unread_meters=[lost]), language).summary
    assert (True, says("all_metered")) in found
    assert (False, says("unread", number=1)) in found
    assert len(found) == len(ReportView(BEFORE, language).summary) + 1


def test_a_place_names_its_quantity_in_one_word():
    heat = device("m-1", "11", measured("A-1", channel="heat"))
    assert ReportView(BEFORE, "fr").places(heat) == ["A-1 (chaleur)"]


def test_what_is_settled_is_stated_and_a_count_that_changes_is_not():
    two = replace(BEFORE, findings=[finding("odd"), finding("gone", "other")])
    one = replace(BEFORE, findings=[finding("odd")])
    assert list(map(str, changes(two, one))) == ["settled: gone"]


def test_many_options_are_counted():
    def report(value):
        return replace(BEFORE, settings={f"links/riser/o{n:02}": value for n in range(MOST + 3)})

    made = changes(report("1"), report("2"))
    assert (len(made), str(made[-1])) == (MOST + 1, "3 more options have changed")


def test_a_report_of_the_same_day_is_compared_with_the_visit_before(tmp_path):
    paris = ZoneInfo("Europe/Paris")

    def made_at(time):
        kept = Kept(tmp_path)
        earlier = kept.before(paris, time)
        kept.keep(signed(replace(BEFORE, made=time), WHO))
        return earlier and earlier[0].made

    assert made_at("2026-11-28T10:00:00Z") is None
    assert made_at("2026-11-28T11:00:00Z") is None
    # midnight is the building's
    assert made_at("2026-11-28T23:30:00Z") == "2026-11-28T11:00:00Z"
    assert made_at("2026-11-29T22:30:00Z") == "2026-11-28T11:00:00Z"
    assert made_at("2026-12-24T10:00:00Z") == "2026-11-29T22:30:00Z"
    assert Kept(tmp_path).before(UTC, "2026-12-25T10:00:00Z")[0].made == "2026-12-24T10:00:00Z"


def test_a_damaged_report_in_the_state_directory_counts_as_none(tmp_path):
    kept = Kept(tmp_path)
    kept.keep(signed(BEFORE, WHO).replace("Les Alpins", "Les Alpes"))
    assert Kept(tmp_path).before(UTC, "2026-12-25T10:00:00Z") is None


def test_what_was_signed_is_read_again_and_a_later_version_too():
    text = signed(BEFORE, WHO)
    report, sha256 = verified(text, "r.json", SIGNER.kid)
    assert report == BEFORE
    assert verified(signed(BEFORE, WHO), "r.json") == (report, sha256)


@pytest.mark.parametrize(
    "text",
    [
        Text("no answer in {seconds:g} s", seconds=0.5),
        Text("for {lasts}", lasts=timedelta(hours=2)),
        Text("{busy:.0%} of {days}", busy=0.04, days=[date(2026, 11, 28), Text("{n:,}", n=9.5)]),
    ],
)
def test_a_sentence_with_a_fraction_can_be_signed_and_reads_the_same(text):
    wire = exact(text.wire())
    assert canonical(wire)
    for language in ("en", "fr"):
        assert Text.of(wire).in_language(language) == text.in_language(language)
