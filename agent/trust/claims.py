"""Claims and types of signed objects: who may issue them, content, validity (rules O3, O4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum, auto
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.core.i18n import N_, Text, text_of
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.jws import MAP

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
DURATION = re.compile(
    r"P(?:(\d{1,4})D)?(?:T(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,8})S)?)?", re.ASCII
)
UNITS = (86_400, 3600, 60, 1)
LATEST = 253_402_300_799
"""9999-12-31: the last time that can be shown"""
LARGEST_AT, FINEST_AT = 12, -30
"""powers of ten that limit the digits of a number"""


Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")]
Jti = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{7,63}$")]
"""id of an object: a UUIDv7, or any 8 to 64 characters never used before"""
Kid = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seconds = Annotated[int, Field(ge=0, le=LATEST)]
"""since 1970 UTC"""


Day = Annotated[str, Field(pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
"""month and day: `06-30`"""

Place = Annotated[str, Field(pattern=r"^[DCB][0-9A-Z]{14}$")]
Building = Annotated[str, Field(pattern=r"^B[0-9A-Z]{14}$")]
Occupancy = Annotated[str, Field(pattern=r"^H[0-9A-Z]{14}$")]
Recipient = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]


EXAMPLES = {
    **dict.fromkeys(("iat", "nbf", "exp", "given_at", "withdrawn_at", "at"),
                    N_("Unix seconds, a whole number such as 1795000000")),
    **dict.fromkeys(("from", "to", "start"), N_("text in UTC such as 2026-11-24T18:00:00Z")),
    **dict.fromkeys(("dur", "rand", "max_dur", "min_gap", "max_time_day", "notice", "step"),
                    N_("a duration such as PT30M")),
    **dict.fromkeys(("val", "min", "max"), N_("a number such as -1.5, not text")),
    "billing": N_("a list of days, each month and day such as 06-30"),
    "date": N_("a day such as 2026-05-12"),
    "sha256": N_("64 digits of 0-9 a-f"),
    "jti": N_("8 to 64 of A-Z a-z 0-9 . _ - that begin with a letter or digit"),
    "kid": N_("the 43 characters of a key's thumbprint"),
    "place": N_("an id such as D84G7ZWYRD6Z1GQ, without dashes"),
    **dict.fromkeys(("occ", "sub"), N_("an id such as H84G7ZWYRD6Z11W, without dashes")),
    "recipient": N_("a DNS name in lower case"),
    "recipients": N_("a list of one DNS name in lower case"),
}  # fmt: skip
"""the expected form of a claim, by its name"""
WHOLE = N_("a whole number")
"""expected form of `from` and `to` in a request, where they are not times"""
OF_WRONG_TYPE = ("_type", "_parsing", "pattern_mismatch", "_equal", "_from_float")
"""endings of pydantic's error types for a value of the wrong form"""
Role = Literal[
    "grid_operator",
    "building_manager",
    "boiler_operator",
    "residents_council",
    "occupant",
    "consent_collector",
    "registry",
    "updater",
    "recipient",
]
Act = Literal["limit", "setpoint", "offset", "pause", "mode", "release", "cancel", "test"]
GIVES_BACK = frozenset({"release", "cancel"})
REVOKES = "dr-revoke+jwt"
ROOT, WITNESS = "root", "witness"
"""roles that no trust list assigns: a root key, and this gateway's key as witness of a vote"""
OCCUPANT = "occupant"
"""acts for its own dwelling only, so never for another occupant"""
RECIPIENT = "recipient"
"""signs receipts under its own name, so never for another recipient"""
ALONE = frozenset({OCCUPANT, RECIPIENT})
"""roles whose holders do not act for each other"""
COMMANDING = frozenset({"grid_operator", "building_manager", "boiler_operator"})
GRANTING = frozenset({"building_manager", "boiler_operator", "residents_council", "occupant"})
REGISTERING = frozenset({"building_manager", "registry"})


LONGEST_ACCEPTANCE = 48 * 3600
"""seconds from `iat` to `exp` of objects with `Dated.ACCEPTANCE`"""
LONGEST_STANDING = 24 * 31 * 86_400
"""seconds from the start to `exp` of a grant: 24 months"""


def moment(text: str) -> int:
    """Unix seconds of `2026-11-24T18:00:00Z`. Raises ValueError."""
    # fromisoformat also takes other forms, which another reader may understand differently
    if not MOMENT.fullmatch(text):
        raise ValueError(Text("expected a time in UTC such as 2026-11-24T18:00:00Z"))
    return int(datetime.fromisoformat(text).timestamp())


def seconds(text: str) -> int:
    """Seconds of an ISO 8601 duration such as `PT30M` or `P1D`. Raises ValueError."""
    match = DURATION.fullmatch(text)
    # all parts of the pattern are optional, so `P` and `PT` would mean 0 s
    if not match or text.endswith(("P", "T")):
        raise ValueError(Text("expected a duration such as PT30M, PT1H30M or P1D"))
    return sum(int(part or 0) * unit for part, unit in zip(match.groups(), UNITS, strict=True))


def _a_moment(text: str) -> str:
    moment(text)
    return text


def _a_duration(text: str) -> str:
    seconds(text)
    return text


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError(Text("expected text on one line"))
    return text


def _ordinary(value: int | Decimal) -> int | Decimal:
    """Limit size and digits of a number: arithmetic with 1e9999999 would exhaust the memory."""
    size = value.adjusted() if isinstance(value, Decimal) else len(str(abs(value))) - 1
    finest = value.as_tuple().exponent if isinstance(value, Decimal) else 0
    if not isinstance(finest, int) or size >= LARGEST_AT or finest < FINEST_AT:
        raise ValueError(
            Text("expected a number below 10^12 with at most 30 digits behind the point")
        )
    return value


Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
"""name of a key owner, as in the trust list"""


Line = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_printable)]


Moment = Annotated[str, AfterValidator(_a_moment)]


Duration = Annotated[str, AfterValidator(_a_duration)]


Number = Annotated[int | Decimal, AfterValidator(_ordinary)]


def _needed(name: str, kind: str) -> str | None:
    """The expected form of a claim, if it fits this kind of error."""
    if name in {"from", "to"} and not kind.startswith(("string", "value_error")):
        return WHOLE
    if name == "sub" and kind != "string_pattern_mismatch":
        return None  # in a grant `sub` is the name of a key
    return EXAMPLES.get(name)


def fault_of(error: ValidationError) -> Text:
    """What is wrong with the first invalid claim, and which form it must have."""
    first = error.errors(include_url=False, include_input=False)[0]
    names = [part for part in first["loc"] if isinstance(part, str)]
    while names and names[-1] not in EXAMPLES and not EXAMPLES.keys().isdisjoint(names):
        names.pop()  # pydantic's name of the union member that it tried
    where = f"`{'.'.join(names)[:80]}`" if names else ""
    kind, needed = first["type"], _needed(names[-1] if names else "", first["type"])
    if names and kind == "extra_forbidden":
        return Text("{where} is not a claim of this type: remove it", where=where)
    if names and kind == "missing":
        missing = Text("the claim {where} is missing", where=where)
        return missing + (Text(": {needed}", needed=Text(needed)) if needed else "")
    if needed and kind.endswith(OF_WRONG_TYPE):
        late = Text(" (this looks like milliseconds)") if kind == "less_than_equal" else ""
        return Text("{where} must be {needed}{late}", where=where, needed=Text(needed), late=late)
    wrong = Text(first["msg"])
    if kind == "value_error":
        wrong = text_of(first["ctx"]["error"])
    elif kind == "literal_error":
        wrong = Text("expected one of {known}", known=first["ctx"]["expected"])
    return Text("{where}: {wrong}", where=where, wrong=wrong) if where else wrong


class ClaimsModel(BaseModel):
    """A mapping in the claims. An unknown member is an error, since it might be a limit."""

    # built at first use: most gateways see few types, and memory is short
    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", populate_by_name=False, defer_build=True
    )


class ObjectClaims(ClaimsModel):
    """Claims of every object: issuer, id and times."""

    iss: Name
    jti: Jti
    iat: Seconds
    aud: Word | None = None
    nbf: Seconds | None = None
    exp: Seconds | None = None


class Cmd(ClaimsModel):
    """The action of an order, its target, start and duration."""

    act: Act
    tgt: Annotated[list[Word], Field(min_length=1, max_length=100)]
    val: Number | Line | None = None
    unit: Word | None = None
    start: Moment | None = None
    dur: Duration | None = None
    rand: Duration | None = None
    ref: Jti | None = None
    resume: bool = False


class Command(ObjectClaims):
    """An order within grants; `exp` is the last moment at which it may be accepted."""

    aud: Word
    exp: Seconds
    seq: Annotated[int, Field(ge=0, le=2**53)]
    cmd: Cmd
    auth: Annotated[list[Jti], Field(default_factory=list, max_length=20)]
    prio: Annotated[int, Field(ge=0, le=100)] = 50
    emerg: bool = False
    why: Line | None = None
    prog: Word | None = None

    @property
    def gives_back(self) -> bool:
        """Whether it only releases equipment; such an order is always accepted (rule H9)."""
        return self.cmd.act in GIVES_BACK


class GrantScope(ClaimsModel):
    """The scope of a grant: controls by name or as `kind:heating`, and actions."""

    assets: Annotated[list[Word], Field(min_length=1, max_length=200)]
    acts: Annotated[list[Act], Field(min_length=1)]


class Lim(ClaimsModel):
    """Limits of a grant: range, duration, frequency. An absent limit is that of the modality."""

    min: Number | None = None
    max: Number | None = None
    unit: Word | None = None
    max_dur: Duration | None = None
    min_gap: Duration | None = None
    max_day: Annotated[int, Field(ge=0, le=1000)] | None = None
    max_time_day: Duration | None = None
    notice: Duration | None = None
    windows: Annotated[list[Line], Field(max_length=50)] | None = None
    season: Line | None = None
    emerg: bool = False


class ConsentEvidence(ClaimsModel):
    """The document on which a grant is based."""

    kind: Literal["vote", "contract", "form"]
    ref: Line
    date: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    majority: Line | None = None
    result: Line | None = None
    sha256: Sha256


class GrantClaims(ObjectClaims):
    """A standing authorization by the holder of a role; it is valid from `nbf` to `exp`."""

    sub: Name
    """who may issue orders under it"""
    aud: Word
    exp: Seconds
    role: Role
    occ: Occupancy | None = None
    scope: GrantScope
    lim: Lim
    evid: ConsentEvidence


class Revoked(ClaimsModel):
    """One revoked grant, object or key."""

    jti: Jti | None = None
    kid: Kid | None = None
    at: Seconds | None = None
    reason: Line | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.jti is None) == (self.kid is None):
            raise ValueError("either jti or kid")
        return self


class Revocation(ObjectClaims):
    """A revocation: immediate and permanent. `ver` increases with each one of an issuer."""

    ver: Annotated[int, Field(ge=1, le=2**53)]
    rev: Annotated[list[Revoked], Field(min_length=1, max_length=100)]


class ConsentData(ClaimsModel):
    """The channels and the finest step of a consent."""

    channels: Annotated[list[Word], Field(min_length=1, max_length=50)]
    step: Duration | Literal["P1M"]


class NoticeClaims(ClaimsModel):
    """The notice that the occupants received."""

    version: Word
    sha256: Sha256
    lang: Annotated[str, Field(pattern=r"^[a-z]{2}$")]


class Proof(ClaimsModel):
    """Reference to the signed paper, which its collector keeps."""

    ref: Line
    sha256: Sha256


NEEDED = {
    "given": ("recipients", "purpose", "data", "nbf", "exp", "given_at"),
    "refused": ("recipients", "purpose"),
    "withdrawn": ("prev", "withdrawn_at"),
}
"""claims of a consent that each status requires"""


class ConsentClaims(ObjectClaims):
    """A consent of the occupants for one purpose, or its refusal or withdrawal."""

    sub: Occupancy
    place: Place
    status: Literal["given", "refused", "withdrawn"]
    controller: Name | None = None
    recipients: Annotated[list[Recipient], Field(min_length=1, max_length=1)] | None = None
    """exactly one: each recipient has its own consent, which is withdrawn separately"""
    purpose: Line | None = None
    data: ConsentData | None = None
    basis: Literal["consent"] = "consent"
    given_at: Seconds | None = None
    method: Literal["paper", "web", "app", "oral-recorded"] | None = None
    notice: NoticeClaims | None = None
    proof: Proof | None = None
    prev: Jti | None = None
    withdrawn_at: Seconds | None = None
    withdrawn_via: Line | None = None
    after: Word | None = None
    """given: the mark of the last withdrawal or refusal that the occupants knew of"""
    withdrawals: Annotated[list[Jti], Field(max_length=20)] | None = None
    """given: ids of the issuer's own withdrawals that they also knew of"""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        missing = [name for name in NEEDED[self.status] if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{self.status} without {', '.join(missing)}")
        return self


class OccupancyClaims(ObjectClaims):
    """The start or end of an occupancy, or a corrected date; it names no person."""

    place: Place
    occ: Occupancy
    event: Literal["move_in", "move_out", "correct"]
    from_: Annotated[Moment | None, Field(alias="from")] = None
    to: Moment | None = None
    ref: Line | None = None
    """the manager's own reference, such as a lease number"""


class DutyClaims(ObjectClaims):
    """A legal or contractual duty of the building manager to send indexes to one recipient."""

    recipient: Recipient
    channels: Annotated[list[Word], Field(min_length=1, max_length=50)]
    reference: Line
    status: Literal["given", "ended"] = "given"
    prev: Jti | None = None
    """ended: the duty that ends"""
    billing: Annotated[list[Day], Field(max_length=12)] | None = None
    from_: Annotated[Moment | None, Field(alias="from")] = None
    to: Moment | None = None


class PlaceMap(ObjectClaims):
    """Names of places in other systems: the CSV of rule I24 as one text."""

    ver: Annotated[int, Field(ge=1, le=2**53)]
    building: Building | None = None
    csv: Annotated[str, Field(min_length=1)]


class Time(ObjectClaims):
    """A statement of the current time, which is `iat`."""


class Request(ObjectClaims):
    """A request to resend batches, send the directory or read now."""

    aud: Word
    exp: Seconds
    act: Literal["resend", "read-now", "directory"]
    recipient: Recipient
    epoch: Word | None = None
    from_: Annotated[int | None, Field(alias="from", ge=0, le=2**53)] = None
    to: Annotated[int, Field(ge=0, le=2**53)] | None = None
    device: Word | None = None


class UplinkMove(ObjectClaims):
    """A new address of a recipient."""

    aud: Word
    exp: Seconds
    recipient: Recipient
    url: Line


class Addressed(Enum):
    """What `aud` must name."""

    STATE = auto()
    """this gateway in its present state: losing or restoring the state invalidates older objects"""
    BUILDING = auto()
    """this gateway or its building"""
    ANY = auto()
    """may be absent, since the claims name the place themselves"""


class Dated(Enum):
    """What `nbf` and `exp` limit."""

    ACCEPTANCE = auto()
    """the time in which it may be accepted"""
    STANDING = auto()
    """the time in which it is valid; an expired one is not accepted"""
    RECORD = auto()
    """the time that it describes, past or future"""


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """One type of object."""

    model: type[ObjectClaims]
    roles: frozenset[str]
    addressed: Addressed
    dated: Dated
    widens: bool = False
    """grants a right, and is therefore refused once the trust list has expired"""


KINDS: dict[str, ObjectKind] = {
    "dr-command+jwt": ObjectKind(
        Command, COMMANDING, Addressed.STATE, Dated.ACCEPTANCE, widens=True
    ),
    "dr-grant+jwt": ObjectKind(
        GrantClaims, GRANTING | {WITNESS}, Addressed.BUILDING, Dated.STANDING, widens=True
    ),
    REVOKES: ObjectKind(
        Revocation, GRANTING | COMMANDING | {ROOT, RECIPIENT}, Addressed.ANY, Dated.RECORD
    ),
    "consent+jwt": ObjectKind(
        ConsentClaims,
        frozenset({"consent_collector", "building_manager"}),
        Addressed.ANY,
        Dated.RECORD,
    ),
    "occupancy+jwt": ObjectKind(OccupancyClaims, REGISTERING, Addressed.ANY, Dated.RECORD),
    "duty+jwt": ObjectKind(DutyClaims, REGISTERING, Addressed.ANY, Dated.RECORD),
    MAP: ObjectKind(PlaceMap, REGISTERING, Addressed.ANY, Dated.RECORD),
    "time+jwt": ObjectKind(Time, frozenset({"registry", ROOT}), Addressed.ANY, Dated.RECORD),
    "request+jwt": ObjectKind(
        Request,
        frozenset({"registry", "grid_operator"}),
        Addressed.STATE,
        Dated.ACCEPTANCE,
    ),
    "uplink-move+jws": ObjectKind(
        UplinkMove, frozenset({"registry"}), Addressed.STATE, Dated.ACCEPTANCE, widens=True
    ),
}
"""by typ; `trust-list+jws` has several signatures and is read by `trust_list.py`"""


def kind_of(typ: str) -> ObjectKind:
    """The type with this name. Raises Forged."""
    if typ not in KINDS:
        raise Forged(
            ObjectCode.TYP, Text("this gateway accepts no objects of type {typ!r}", typ=typ[:40])
        )
    return KINDS[typ]


def roles_for(kind: ObjectKind, model: ObjectClaims) -> frozenset[str]:
    """Roles that may issue an object. Any role that could grant may also release."""
    if isinstance(model, Command) and model.gives_back:
        return kind.roles | GRANTING
    return kind.roles


def needs_no_clock(model: ObjectClaims) -> bool:
    """Whether it is accepted with an untrusted clock: it ends a right, or it sets the clock."""
    match model:
        case Command():
            return model.gives_back
        case ConsentClaims():
            return model.status != "given"
        case Revocation() | Time():
            return True
        case _:
            return False
