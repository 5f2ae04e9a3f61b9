"""The commissioning report as a document: its members, its signature, and how both are checked.

A file is one JSON object: `report`, and `signature`, a JWS with detached payload (RFC 7515,
appendix F) over the report's canonical form (RFC 8785). So people and programs read the report as
it is, and spaces and line ends may change on the way, but nothing that it states.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

from agent.core.errors import Refused
from agent.core.finding import Finding
from agent.core.i18n import N_, Size, Text
from agent.registry.dates import STAMP, text_in_local_time
from agent.registry.place import shown
from agent.trust.audit import canonical
from agent.trust.error_codes import Forged
from agent.trust.jws import Key, header_of
from agent.trust.sign import Signer
from agent.trust.strict import encoded, json_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.registry.identity import Identity

SCHEMA = "gardien/report/1"
TYP = "commissioning-report+jws"
MOST_BYTES = 16_000_000
DEEPEST = 24
"""levels of brackets: a finding may name meters, each with a reason that has values"""
MOST_MARKS = 3_000_000
"""most strings, brackets, commas and colons in a file; 40 flats have about 10,000"""
MOST_DIGITS = 99
EPOCH = "1970-01-01T00:00:00Z"

MESSAGE = re.compile(r"(?:[^{}]|{{|}}|{\w+(?:![rs])?(?::\+?,?[0-9]{0,2}(?:\.[0-9])?[a-zA-Z%]?)?})*")
"""a message with simple fields only"""


@dataclass(frozen=True, slots=True)
class _Checked:
    """A text that must have a form: whoever reads a report would stumble over another one."""

    check: Callable[[str], object]

    def __get_pydantic_core_schema__(self, source: type, handler: Callable[[type], Any]) -> Any:
        from pydantic_core import core_schema  # noqa: PLC0415 -- commands start without it

        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, text: str) -> str:
        self.check(text)
        return text


def _time(text: str) -> None:
    with suppress(ValueError):
        if STAMP.fullmatch(text) and datetime.fromisoformat(text).year >= 1970:  # noqa: PLR2004
            return
    raise ValueError(Text("{text} is no time", text=text[:40]))


def _number(text: str) -> None:
    if not NUMBER.fullmatch(text):
        raise ValueError(Text("{text} is no number", text=text[:40]))


def _ratio(text: str) -> None:
    _number(text)
    if not 0 < Decimal(text) < 10**12:
        raise ValueError(Text("{text} is no number", text=text[:40]))


Time = Annotated[str, _Checked(_time)]
"""as `stamp` writes it"""
Number = Annotated[str, _Checked(_number)]
Ratio = Annotated[str, _Checked(_ratio)]
Sentence = dict[str, Any]
"""a text with its message and values (`Text.wire`), to be shown in any language"""

NUMBER = re.compile(r"-?[0-9]{1,60}(?:\.[0-9]{1,60})?")
UNREADABLE = N_("{file} is no commissioning report of this version: {why}")
CHANGED = N_(
    "{file}: its content is not what the gateway {gateway} signed, so it proves nothing. Ask for"
    " the file again"
)
OTHER_KEY = N_(
    "{file}: signed with the key {kid}, not with {expected}. If the keys of the gateway were"
    " replaced, compare the key with a report on paper"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterProof:
    """How it is known that a meter measures a place."""

    method: str
    """`display`, `load`, `power`, `sum`, `serial` (the recorded number is the reported one), or
    `none`"""
    at: Time | None = None
    """when it was proven"""
    who: str | None = None
    """who proved it"""
    value: str | None = None
    """what the display showed, with its unit"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorReport:
    """Whether the factor of an index is proven, or wrong."""

    channel: str
    proof: str
    """`display`, `load`, `power` or `sum`: proven; `wrong`; `none`"""
    needed: bool
    """whether it must be proven; else the meter states its unit, or two sources its profile"""
    at: Time | None
    who: str | None
    """`gardien` for `power` and `sum`"""
    excludes: Ratio | None
    """an error of this size and more is excluded"""
    factor: Ratio | None
    """if it is wrong: how many times too high the values are"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPlace:
    """A place that a meter measures."""

    place: str
    """its id"""
    label: str
    type: str
    """`dwelling`, `common` or `building`"""
    channel: str | None
    """the quantity; null: all quantities of the meter"""
    since: Time | None
    """null: the configuration names the place"""
    multiplier: Number = "1"
    offset: Number = "0"
    opened: dict[str, Number] = field(default_factory=dict)
    """the recorded index at the start, by channel"""
    proof: MeterProof
    factors: list[FactorReport] = field(default_factory=list)
    """of the indexes of energy and volume of a dwelling"""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRead:
    """An index that the gateway has read."""

    channel: str
    value: Number
    unit: str
    at: Time


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReport:
    """A device on a line, with its nameplate."""

    device: str
    line: str
    address: str
    profile: str | None
    maker: str | None
    """of its profile, or as the device reports it"""
    model: str | None
    version: str | None
    """the version of its firmware, as the device reports it; null: it does not report one"""
    serial: str | None
    """as the device last reported it; null: it reports none, or has never answered"""
    recorded_serial: str | None
    """as people recorded it"""
    silent: bool
    answered: Time | None
    """its last answer"""
    problem: Sentence | None
    answer_ms: int | None
    failed: int
    """readings without an answer since the line was opened"""
    clock_drift_s: int | None
    """seconds by which its own clock is ahead; null: it has none, or it was not read"""
    measures: list[MeasuredPlace]
    indexes: list[IndexRead]
    """empty too if the report has no readings"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineReport:
    """A line, and how well it works."""

    line: str
    driver: str
    open: bool
    problem: Sentence | None
    """why it is not open"""
    devices: int
    silent: int
    requests: int | None
    busy_percent: int | None
    """how much of the time it is in use; null: not known for this kind of line"""
    worry: Sentence | None
    disturbers: list[str]
    """devices that disturb it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadMeter:
    """A meter that is recorded for a place, and is not read."""

    label: str
    meter: str
    """its serial number and device, as recorded"""
    channel: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceReport:
    """A recorded place."""

    place: str
    label: str
    type: str
    metered: bool
    """whether a meter is recorded for it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkReport:
    """An uplink to a recipient."""

    uplink: str
    recipient: str
    transport: str
    url: str
    connected: bool
    last_receipt: Time | None
    waiting: int
    """values without a receipt"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateReport:
    """A certificate."""

    subject: str
    not_after: Time | None
    alarm: Sentence | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageReport:
    """The web page of the gateway, where it is open."""

    addresses: list[str]
    """on which it listens, as `ADDRESS:PORT`"""
    fingerprint: str | None
    """SHA-256 of its certificate, to compare when a browser warns; null: unreadable"""
    not_after: Time | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """The backup, and for which recovery certificate it is encrypted."""

    configured: bool
    recovery: CertificateReport | None
    """null: no certificate, or it cannot be read"""
    made: Time | None
    held_by: list[str]
    """recipients that have confirmed that they hold the latest one"""
    folder: str | None
    problem: Sentence | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlReport:
    """A point that may be commanded."""

    control: str
    point: str
    alarm: Sentence | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The report with which this one was compared."""

    made: Time
    by: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the gateway states at a visit. All numbers are whole, all times in UTC."""

    schema: str = SCHEMA
    made: Time
    by: str
    """who made it: the account, and the name that was given on a shared account"""
    building: str
    timezone: str
    building_place: str | None
    gateway: str
    key: dict[str, str]
    """the gateway's public key (JWK)"""
    kid: str
    """its fingerprint (RFC 7638)"""
    version: str
    system: str
    started: Time
    configuration: str
    """fingerprint of the configuration in use"""
    settings: dict[str, str]
    """options of lines, devices and uplinks as they are written, without secrets"""
    clock: str
    """`trusted`, `holdover`, `untrusted`, or `person`: a person has given the time"""
    clock_source: str
    """of the configuration"""
    clock_problem: Sentence | None
    certificate: CertificateReport | None
    backup: BackupReport
    uplinks: list[UplinkReport]
    lines: list[LineReport]
    devices: list[DeviceReport]
    places: list[PlaceReport]
    unread_meters: list[UnreadMeter]
    controls: list[ControlReport]
    has_readings: bool
    """whether indexes are in it: only installers may see those of dwellings"""
    findings: list[dict[str, Any]]
    """what is open: what, its cost, who must act, and the next step"""
    clock_person_until: Time | None = None
    """until when the time that a person has given counts"""
    page: PageReport | None = None
    """null: no web page listens"""
    since: Earlier | None = None
    """null: there was no earlier report"""
    changes: list[Sentence] = field(default_factory=list)
    """what has changed since then"""

    def without_readings(self) -> Report:
        """The same without any index."""
        devices = [
            replace(one, indexes=[], measures=[replace(two, opened={}) for two in one.measures])
            for one in self.devices
        ]
        return replace(self, devices=devices, has_readings=False)


def exact(wire: Any) -> Any:
    """Return the wire form of a text without fractions, for which the canonical form has no form.

    They become Decimals, and durations whole seconds.
    """
    if isinstance(wire, float):
        return {"decimal": repr(wire)}
    if isinstance(wire, list):
        return [exact(part) for part in wire]
    if isinstance(wire, dict):
        if wire.keys() == {"seconds"}:
            return {"seconds": round(wire["seconds"])}
        if isinstance(values := wire.get("values"), dict):  # a value may be called `seconds`, too
            kept = {name: exact(value) for name, value in values.items()}
            rest = {name: part for name, part in wire.items() if name != "values"}
            return exact(rest) | {"values": kept}
        return {name: exact(part) for name, part in wire.items()}
    return wire


def _sentences(stated: Any, zone: str) -> None:
    """Check each sentence in a document that anybody may have signed: a field of a message could
    be as wide as the memory. Raises ValueError, LookupError, TypeError or ArithmeticError.
    """
    if isinstance(stated, list):
        for part in stated:
            _sentences(part, zone)
    elif isinstance(stated, dict):
        for part in stated.values():
            _sentences(part, zone)
        if (
            stated.keys() == {"decimal"}
            and abs(Decimal(stated["decimal"]).adjusted()) > MOST_DIGITS
        ):
            raise ValueError(stated["decimal"][:100])
        # without values nothing is filled in, and braces are the sentence's own
        for name in {"message", "plural"} & stated.keys() if stated.get("values") else ():
            if not MESSAGE.fullmatch(stated[name]):
                raise ValueError(stated[name][:100])
        if "message" in stated:
            text_in_local_time(Text.of(stated), zone).in_language()  # it can be shown


def sha256_of(report: Report) -> str:
    """The hash of a report's canonical form, in hex: printed on its pages, and in the chain."""
    return hashlib.sha256(canonical(asdict(report))).hexdigest()


def signed(report: Report, by: Identity) -> str:
    """The file of a report, signed by the gateway."""
    stated = asdict(report)
    compact = Signer(by.gateway, by.signing_key).sign_text(TYP, canonical(stated).decode())
    header, _payload, signature = compact.decode().split(".")
    whole = {"report": stated, "signature": f"{header}..{signature}"}
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def verified(text: str, file: str, kid: str = "") -> tuple[Report, str]:
    """Read a report and the hash of what was signed; check its signature by the key that it names.

    Members of later versions are left out; they are signed, and part of the hash.

    `kid`: the fingerprint that this key must have; empty: any. Whether it is the gateway's key is
    for the reader to compare. Raises Refused.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 -- commands start without it

    try:
        if len(text) > MOST_BYTES:
            raise ValueError(Text("it has more than {size}", size=Size(MOST_BYTES)))
        whole = json_of(text, "JSON", marks=MOST_MARKS, deepest=DEEPEST)
        stated, (header, payload, signature) = whole["report"], whole["signature"].split(".")
        if stated["schema"] != SCHEMA:
            raise ValueError(str(stated["schema"]))
        key, parsed = Key.read(stated["key"]), header_of(header)
        report = TypeAdapter(Report).validate_python(stated)
        ZoneInfo(report.timezone)
        _sentences(stated, report.timezone)
        for finding in map(Finding.of, report.findings):
            _time(finding.since or EPOCH)
            _time(finding.until or EPOCH)
        content = canonical(stated)
    except ValidationError as error:
        first = error.errors()[0]
        where, why = ".".join(map(str, first["loc"])), first.get("ctx", {}).get("error", "")
        named = Text("{where}: {why}", where=where, why=why) if why else where
        raise Refused(UNREADABLE, file=file, why=named) from None
    except (
        ValueError, LookupError, TypeError, AttributeError, ArithmeticError, Forged
    ) as error:  # fmt: skip
        raise Refused(UNREADABLE, file=file, why=error) from None
    fits = not payload and parsed["typ"] == TYP and parsed["kid"] == key.kid == report.kid
    if not fits or not key.signed(f"{header}.{encoded(content)}.{signature}"):
        raise Refused(CHANGED, file=file, gateway=shown(report.gateway))
    if kid and kid != key.kid:
        raise Refused(OTHER_KEY, file=file, kid=key.kid, expected=kid)
    return report, hashlib.sha256(content).hexdigest()


def stated_by(text: str) -> Mapping[str, Any]:
    """The report in a file that `signed` has just made, as plain data."""
    whole: dict[str, Any] = json.loads(text)
    report: dict[str, Any] = whole["report"]
    return report
