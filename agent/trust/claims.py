"""The claims of each type of object (rules O3, O4): one strict model for each type.

An unknown claim is refused, since it might be a limit that this version does not know.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from agent.trust.claim_types import (
    Building,
    ClaimsModel,
    Day,
    Duration,
    Jti,
    Kid,
    Moment,
    Name,
    Number,
    Occupancy,
    Place,
    Recipient,
    Seconds,
    Sha256,
    Text,
    Word,
)

Role = Literal[
    "grid_operator",
    "building_manager",
    "boiler_operator",
    "residents_council",
    "occupant",
    "consent_collector",
    "registry",
    "updater",
]
Act = Literal["limit", "setpoint", "offset", "pause", "mode", "release", "cancel", "test"]
GIVES_BACK = frozenset({"release", "cancel"})


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
    val: Number | Text | None = None
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
    why: Text | None = None
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
    windows: Annotated[list[Text], Field(max_length=50)] | None = None
    season: Text | None = None
    emerg: bool = False


class ConsentEvidence(ClaimsModel):
    """The document on which a grant is based."""

    kind: Literal["vote", "contract", "form"]
    ref: Text
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    majority: Text | None = None
    result: Text | None = None
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
    reason: Text | None = None

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

    ref: Text
    sha256: Sha256


class ConsentClaims(ObjectClaims):
    """A consent of the occupants for one purpose, or its refusal or withdrawal."""

    sub: Occupancy
    place: Place
    status: Literal["given", "refused", "withdrawn"]
    controller: Name | None = None
    recipients: Annotated[list[Recipient], Field(min_length=1, max_length=1)] | None = None
    """exactly one: each recipient has its own consent, which is withdrawn separately"""
    purpose: Text | None = None
    data: ConsentData | None = None
    basis: Literal["consent"] = "consent"
    given_at: Seconds | None = None
    method: Literal["paper", "web", "app", "oral-recorded"] | None = None
    notice: NoticeClaims | None = None
    proof: Proof | None = None
    prev: Jti | None = None
    withdrawn_at: Seconds | None = None
    withdrawn_via: Text | None = None
    after: Word | None = None
    """given: the mark of the last withdrawal or refusal that the occupants knew of"""
    withdrawals: Annotated[list[Jti], Field(max_length=20)] | None = None
    """given: ids of the issuer's own withdrawals that they also knew of"""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needed = {
            "given": ("recipients", "purpose", "data", "nbf", "exp", "given_at"),
            "refused": ("recipients", "purpose"),
            "withdrawn": ("prev", "withdrawn_at"),
        }[self.status]
        missing = [name for name in needed if getattr(self, name) is None]
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
    ref: Text | None = None
    """the manager's own reference, such as a lease number"""


class DutyClaims(ObjectClaims):
    """A legal or contractual duty of the building manager to send indexes to one recipient."""

    recipient: Recipient
    channels: Annotated[list[Word], Field(min_length=1, max_length=50)]
    reference: Text
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
    url: Text
