"""The commissioning report as an A4 page: HTML made from the signed document alone. Pure.

The same page becomes the PDF, so that what is printed is what was signed. Texts are in words.yaml.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from agent.api.proofs import NONE, WRONG, rounded, too_much
from agent.api.report.changes import PROVEN
from agent.core.finding import ACTORS, Actor, Finding, Severity, to_type
from agent.core.i18n import Text, in_language
from agent.core.quantities import spoken
from agent.registry.dates import text_in_local_time, time_written_out, written_out
from agent.registry.page import label, render, texts
from agent.registry.place import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.api.report.document import (
        CertificateReport,
        DeviceReport,
        FactorReport,
        LineReport,
        MeasuredPlace,
        Report,
        Sentence,
    )

TEXTS = Path(__file__).with_name("words.yaml")
MOST_LABELS = 60
"""places that one line names; more are counted"""


def page(report: Report, sha256: str, language: str) -> str:
    """Return the report as one HTML file that needs no other. `sha256`: of what was signed."""
    view = ReportView(report, language)
    return render(
        "api/report/page.html",
        language=language,
        title=f"{view.title} · {report.building}",
        view=view,
        report=report,
        sha256=sha256,
        say=view.say, header=css_text(f"{report.building} · {view.title}"),
        footer=css_text(f"{shown(report.gateway)} · {view.day(report.made)}"),
    )  # fmt: skip


def css_text(text: str) -> str:
    """Return a text as a string of CSS: whatever could end it, or the style sheet, is escaped."""
    return "".join(c if c.isascii() and c.isalnum() else f"\\{ord(c):06x}" for c in text)


class ReportView:
    """What the template shows of a report, in one language and in the building's time."""

    def __init__(self, report: Report, language: str) -> None:
        self.report, self.language = report, language
        self._texts, self._zone = texts(TEXTS, language), ZoneInfo(report.timezone)
        self.title = self.say("title")
        self.findings = [self._finding(Finding.of(one)) for one in report.findings]

    def say(self, name: str, /, **values: Any) -> str:
        """Return a text of words.yaml."""
        text: str = self._texts[name]
        shown_values = {name: in_language(value, self.language) for name, value in values.items()}
        return text.format(**shown_values) if values else text

    def known(self, kind: str, value: str, /, **values: str) -> str:
        """Return the text for a value of the document; one of a later version as it is."""
        name = f"{kind}_{value}"
        return self.say(name, **values) if name in self._texts else value

    def day(self, at: str | None) -> str:
        """Return the day of a time."""
        return "–" if at is None else written_out(self._seconds(at), self._zone, self.language)

    def time(self, at: str | None) -> str:
        """Return a time with its minutes."""
        return "–" if at is None else time_written_out(self._seconds(at), self._zone, self.language)

    def short(self, at: str | None) -> str:
        """Return a time in figures, for a cell."""
        if at is None:
            return "–"
        here = datetime.fromisoformat(at).astimezone(self._zone)
        return f"{here:%d/%m/%Y %H:%M}" if self.language == "fr" else f"{here:%Y-%m-%d %H:%M}"

    def _seconds(self, at: str) -> float:
        return datetime.fromisoformat(at).timestamp()

    def sentence(self, wire: Sentence | None) -> str:
        """Return a sentence of the report in the language of the page."""
        return self._local(Text.of(wire)) if wire else ""

    def _local(self, text: Text) -> str:
        return text_in_local_time(text, self.report.timezone).in_language(self.language)

    def number(self, value: str, unit: str = "") -> str:
        """Return a value as people write it, with all its digits."""
        plain = in_language(Decimal(value), self.language)
        return f"{plain} {spoken(unit)}".strip()

    def many(self, number: int, name: str, **values: Any) -> str:
        """Return `name` for one, `name_many` for several."""
        single = number < 2 if self.language == "fr" else number == 1  # noqa: PLR2004 -- plural
        return self.say(name if single else f"{name}_many", number=number, **values)

    def listed(self, labels: Iterable[str]) -> str:
        """Return labels in one line; many are counted."""
        each = list(dict.fromkeys(labels))
        more = len(each) - MOST_LABELS
        rest = [self.say("more", number=more)] if more > 0 else []
        return ", ".join([*each[:MOST_LABELS], *rest])

    # the summary

    @property
    def summary(self) -> list[tuple[bool, str]]:
        """Whether each point is in order, and its sentence."""
        report, homes = self.report, self._homes()
        answering = sum(not one.silent for one in report.devices)
        proven = [one for one in homes if one.proof.method in PROVEN]
        factors = self._factors()
        settled = len(factors) - len(self._unproven_factors()) - len(self._wrong_factors())
        return [
            (answering == len(report.devices),
             self.say("answering", number=answering, all=len(report.devices))),
            (len(proven) == len(homes),
             self.say("proven", number=len(proven), all=len(homes))),
            (settled == len(factors),
             self.say("factors_proven", number=settled, all=len(factors))),
            (not self.without_meter,
             self.many(len(self.without_meter), "without_meter") if self.without_meter
             else self.say("all_metered")),
            *([(False, self.many(len(report.unread_meters), "unread"))]
              if report.unread_meters else []),
            (not self.unplaced,
             self.many(len(self.unplaced), "unplaced") if self.unplaced
             else self.say("all_placed")),
            (report.clock == "trusted", self.clock),
            (report.backup.recovery is not None and not report.backup.problem, self.backup),
            (all(one.connected for one in report.uplinks) and bool(report.uplinks),
             self.say("uplinks_connected", number=sum(one.connected for one in report.uplinks),
                      all=len(report.uplinks)) if report.uplinks else self.say("no_uplink")),
            (not self.findings,
             self.many(len(self.findings), "open") if self.findings
             else self.say("nothing_open")),
        ]  # fmt: skip

    def _homes(self) -> list[MeasuredPlace]:
        measured = (place for device in self.report.devices for place in device.measures)
        return [one for one in measured if one.type == "dwelling"]

    def _factors(self) -> list[tuple[MeasuredPlace, FactorReport]]:
        return [(one, each) for one in self._homes() for each in one.factors]

    def _unproven_factors(self) -> list[str]:
        return [one.label for one, each in self._factors() if each.needed and each.proof == NONE]

    def _wrong_factors(self) -> list[str]:
        return [f"{one.label} ({self._error(each)})" for one, each in self._factors()
                if each.needed and each.proof == WRONG]  # fmt: skip

    def _error(self, factor: FactorReport) -> str:
        return too_much(Decimal(factor.factor or 1)).in_language(self.language)

    @property
    def unproven(self) -> list[str]:
        """The dwellings with a meter that no person or calculation has proven."""
        return [one.label for one in self._homes() if one.proof.method not in PROVEN]

    @property
    def without_meter(self) -> list[str]:
        """The dwellings without a meter."""
        return [one.label for one in self.report.places
                if one.type == "dwelling" and not one.metered]  # fmt: skip

    @property
    def unplaced(self) -> list[DeviceReport]:
        """The devices for which no place is recorded."""
        return [one for one in self.report.devices if not one.measures]

    @property
    def silent(self) -> list[DeviceReport]:
        """The devices that do not answer."""
        return [one for one in self.report.devices if one.silent]

    # findings

    def _finding(self, finding: Finding) -> Mapping[str, Any]:
        actor = ACTORS.get(finding.actor) if finding.actor is not Actor.NOBODY else None
        costs = [finding.cost, *finding.also]
        return {
            "what": self._local(finding.what),
            "since": self.say("since", time=self.time(finding.since)) if finding.since else "",
            "costs": [self._local(one) for one in costs if one],
            "lost": finding.severity is Severity.LOST,
            "actor": Text(actor).in_language(self.language) if actor else self.say("nobody"),
            "command": to_type(finding.command).in_language(self.language),
        }

    # lines and meters

    def devices(self, line: LineReport) -> Sequence[DeviceReport]:
        """Return the devices on a line."""
        return [one for one in self.report.devices if one.line == line.line]

    def quality(self, line: LineReport) -> list[str]:
        """Return sentences about how well a line works, and how much headroom it has."""
        devices = self.devices(line)
        made = [self.say("line_answering", number=line.devices - line.silent, all=line.devices)]
        if line.busy_percent is not None:
            made.append(self.say("busy", busy=line.busy_percent, free=100 - line.busy_percent))
        times = sorted((one.answer_ms, one.device) for one in devices if one.answer_ms is not None)
        if times:
            middle = times[len(times) // 2][0]
            made.append(self.say("times", middle=middle, most=times[-1][0], device=times[-1][1]))
        failed = sum(one.failed for one in devices)
        if line.requests is not None:
            made.append(self.say("requests", failed=failed, requests=line.requests))
        if len(quantities := self.quantities(line)) == 1:
            made.append(self.say("quantity", name=label(quantities.pop(), self.language)))
        if line.disturbers:
            made.append(self.say("disturbers", devices=", ".join(line.disturbers)))
        return made + [self.sentence(one) for one in (line.problem, line.worry) if one]

    def quantities(self, line: LineReport) -> set[str]:
        """Return the quantities of the indexes on a line."""
        return {one.channel for device in self.devices(line) for one in device.indexes}

    def places(self, device: DeviceReport) -> list[str]:
        """Return what a device measures, with the quantity where a place has several meters."""
        return [
            # "heat (heating)" would put parentheses into parentheses
            one.label
            + (f" ({label(one.channel, self.language).partition(' (')[0]})" if one.channel else "")
            for one in device.measures
        ] or [self.say("no_place")]

    def nameplate(self, device: DeviceReport) -> str:
        """Return maker, model and version."""
        version = self.say("version", version=device.version) if device.version else ""
        return " ".join(part for part in (device.maker, device.model, version) if part)

    def remarks(self, device: DeviceReport) -> list[str]:
        """Return what is odd about a device."""
        made = []
        if device.silent:
            made.append(self.say("silent"))
        if device.recorded_serial and not device.serial:
            made.append(self.say("not_read"))
        if device.clock_drift_s is not None and abs(device.clock_drift_s) >= 300:  # noqa: PLR2004
            made.append(self.say("drift", minutes=device.clock_drift_s // 60))
        for place in device.measures:
            if Decimal(place.multiplier) != 1:
                made.append(self.say("multiplied", factor=self.number(place.multiplier)))
            if Decimal(place.offset):
                made.append(self.say("offset", offset=self.number(place.offset)))
        return made

    def indexes(self, device: DeviceReport) -> list[tuple[str, str, str]]:
        """Return quantity, index and time of each index of a device."""
        return [
            (label(one.channel, self.language), self.number(one.value, one.unit),
             self.short(one.at))
            for one in device.indexes
        ]  # fmt: skip

    def proofs(self, device: DeviceReport) -> list[str]:
        """Return how it is proven what a device measures, and its factors, each proof once."""
        made = []
        for proof in (place.proof for place in device.measures):
            text = self.known("proof", proof.method)
            if proof.value:
                text += f" ({proof.value})"
            if proof.at:
                text = self.say("proof_by", proof=text, at=self.short(proof.at),
                                who=proof.who)  # fmt: skip
            made.append(text)
        factors = [each for place in device.measures for each in place.factors]
        several = len({each.channel for each in factors}) > 1
        made += [self._factor(each, several=several) for each in factors]
        return list(dict.fromkeys(made)) or ["–"]

    def _factor(self, factor: FactorReport, *, several: bool) -> str:
        name = "unneeded" if not factor.needed else factor.proof
        error = self._error(factor) if factor.proof == WRONG else ""
        excludes = (
            in_language(rounded(Decimal(factor.excludes)), self.language) if factor.excludes else ""
        )
        text = self.known("factor", name, excludes=excludes, error=error)
        if several:
            text = f"{label(factor.channel, self.language)}{self.say('colon')} {text}"
        if factor.needed and factor.at:
            text = self.say("proof_by", proof=text, at=self.short(factor.at), who=factor.who)
        return text

    # the gateway

    @property
    def clock(self) -> str:
        """Return the state of the clock."""
        until = self.time(self.report.clock_person_until)
        return self.known("clock", self.report.clock, until=until)

    @property
    def backup(self) -> str:
        """Return the state of the backup."""
        backup = self.report.backup
        if not backup.configured:
            return self.say("no_backup")
        if backup.recovery is None:
            return self.say("no_recovery")
        if backup.made is None:
            return self.say("backup_not_made")
        name = "backup_held" if backup.held_by else "backup_kept"
        return self.say(name, time=self.time(backup.made), holders=", ".join(backup.held_by))

    def certificate(self, certificate: CertificateReport | None) -> tuple[str, Sentence | None]:
        """Return a certificate with its end, and what is wrong with it."""
        if certificate is None:
            return self.say("no_certificate"), None
        end = self.day(certificate.not_after)
        return self.say("certificate", name=certificate.subject, day=end), certificate.alarm

    @property
    def gateway(self) -> str:
        """Return the gateway's id, as people compare it."""
        return shown(self.report.gateway)

    @property
    def equipment(self) -> list[tuple[str, str]]:
        """Return the rows about clock, backup and certificates."""
        report = self.report
        given = report.clock == "person"
        source = self.known("source", "person" if given else report.clock_source)
        backup = report.backup
        folder = self.say("folder", folder=backup.folder) if backup.folder else ""
        rows = [
            ("clock", f"{self.clock} ({source})", report.clock_problem),
            ("backup", "; ".join(part for part in (self.backup, folder) if part), backup.problem),
            ("recovery", *self.certificate(backup.recovery)),
            ("own_certificate", *self.certificate(report.certificate)),
        ]
        if page := report.page:
            where = ", ".join(f"https://{address}" for address in page.addresses)
            rows.append(("page", where, None))
            if page.fingerprint:
                end = self.day(page.not_after)
                text = self.say("certificate", name=f"SHA-256 {page.fingerprint}", day=end)
                rows.append(("page_certificate", text, None))
        return [
            (self.say(name), f"{text}. {self.sentence(problem)}" if problem else text)
            for name, text, problem in rows
        ]

    @property
    def gaps(self) -> list[tuple[str, list[str]]]:
        """Return what is missing, and where."""
        rows = [
            ("gap_silent", [self._with_places(one) for one in self.silent]),
            ("gap_unproven", list(dict.fromkeys(self.unproven))),
            ("gap_factor_wrong", self._wrong_factors()),
            ("gap_factor", list(dict.fromkeys(self._unproven_factors()))),
            ("gap_without_meter", self.without_meter),
            ("gap_unplaced", [self._with_serial(one) for one in self.unplaced]),
            ("gap_unread", [f"{one.meter} ({one.label})" for one in self.report.unread_meters]),
        ]
        return [(name, labels) for name, labels in rows if labels]

    def _with_places(self, device: DeviceReport) -> str:
        return f"{device.device} ({', '.join(self.places(device))})"

    def _with_serial(self, device: DeviceReport) -> str:
        return f"{device.device} ({device.serial})" if device.serial else device.device

    @property
    def acknowledged(self) -> str:
        """Return what is signed."""
        number = len(self.findings)
        name = "acknowledged_none" if not number else "acknowledged_one" if number == 1 else ""
        return self.say(name) if name else self.say("acknowledged", number=number)
