"""The types of signed objects: who may issue them, their audience, and their validity."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from agent.trust import claims
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.jws import MAP

if TYPE_CHECKING:
    from agent.trust.claims import ObjectClaims

REVOKES = "dr-revoke+jwt"
ROOT, WITNESS = "root", "witness"
"""roles that no trust list assigns: a root key, and this gateway's key as witness of a vote"""
OCCUPANT = "occupant"
"""acts for its own dwelling only, so never for another occupant"""
COMMANDING = frozenset({"grid_operator", "building_manager", "boiler_operator"})
GRANTING = frozenset({"building_manager", "boiler_operator", "residents_council", "occupant"})
REGISTERING = frozenset({"building_manager", "registry"})


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
        claims.Command, COMMANDING, Addressed.STATE, Dated.ACCEPTANCE, widens=True
    ),
    "dr-grant+jwt": ObjectKind(
        claims.GrantClaims, GRANTING | {WITNESS}, Addressed.BUILDING, Dated.STANDING, widens=True
    ),
    REVOKES: ObjectKind(
        claims.Revocation, GRANTING | COMMANDING | {ROOT}, Addressed.ANY, Dated.RECORD
    ),
    "consent+jwt": ObjectKind(
        claims.ConsentClaims,
        frozenset({"consent_collector", "building_manager"}),
        Addressed.ANY,
        Dated.RECORD,
    ),
    "occupancy+jwt": ObjectKind(claims.OccupancyClaims, REGISTERING, Addressed.ANY, Dated.RECORD),
    "duty+jwt": ObjectKind(claims.DutyClaims, REGISTERING, Addressed.ANY, Dated.RECORD),
    MAP: ObjectKind(claims.PlaceMap, REGISTERING, Addressed.ANY, Dated.RECORD),
    "time+jwt": ObjectKind(claims.Time, frozenset({"registry", ROOT}), Addressed.ANY, Dated.RECORD),
    "request+jwt": ObjectKind(
        claims.Request,
        frozenset({"registry", "grid_operator"}),
        Addressed.STATE,
        Dated.ACCEPTANCE,
    ),
    "uplink-move+jws": ObjectKind(
        claims.UplinkMove, frozenset({"registry"}), Addressed.STATE, Dated.ACCEPTANCE, widens=True
    ),
}
"""by typ; `trust-list+jws` has several signatures and is read by `trust_list.py`"""

LONGEST_ACCEPTANCE = 48 * 3600
"""seconds from `iat` to `exp` of objects with `Dated.ACCEPTANCE`"""
LONGEST_STANDING = 24 * 31 * 86_400
"""seconds from the start to `exp` of a grant: 24 months"""


def kind_of(typ: str) -> ObjectKind:
    """The type with this name. Raises Forged."""
    if typ not in KINDS:
        raise Forged(ObjectCode.TYP, f"this gateway accepts no objects of type {typ[:40]!r}")
    return KINDS[typ]


def roles_for(kind: ObjectKind, model: ObjectClaims) -> frozenset[str]:
    """Roles that may issue an object. Any role that could grant may also release."""
    if isinstance(model, claims.Command) and model.gives_back:
        return kind.roles | GRANTING
    return kind.roles


def needs_no_clock(model: ObjectClaims) -> bool:
    """Whether it is accepted with an untrusted clock: it ends a right, or it sets the clock."""
    match model:
        case claims.Command():
            return model.gives_back
        case claims.ConsentClaims():
            return model.status != "given"
        case claims.Revocation() | claims.Time():
            return True
        case _:
            return False
