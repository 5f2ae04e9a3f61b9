"""The table of objects: who may issue which, to whom it must be addressed, and how it is dated."""

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
"""roles that no trust list gives: a root key, and our own key as witness of an assembly's vote"""
OCCUPANT = "occupant"
"""speaks for the own dwelling only, and so never for another occupant"""
COMMANDING = frozenset({"grid_operator", "building_manager", "boiler_operator"})
GRANTING = frozenset({"building_manager", "boiler_operator", "residents_council", "occupant"})
REGISTERING = frozenset({"building_manager", "registry"})


class Addressed(Enum):
    """What its `aud` must name."""

    STATE = auto()
    """this gateway in its present state: a lost or restored state invalidates what was before"""
    BUILDING = auto()
    """this gateway or its building"""
    ANY = auto()
    """may be absent: what it says names its place by itself"""


class Dated(Enum):
    """What its `nbf` and `exp` bound."""

    ACCEPTANCE = auto()
    """it may be taken between them only"""
    STANDING = auto()
    """what it says stands between them; one that is over is not taken"""
    RECORD = auto()
    """what it says concerns the time between them, whenever that is"""


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """One kind of object."""

    model: type[ObjectClaims]
    roles: frozenset[str]
    addressed: Addressed
    dated: Dated
    widens: bool = False
    """refused once the trust list has expired: what it allows could not be there without it"""


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
"""by typ; `trust-list+jws` has signatures of several and is read by `trust.py`"""

LONGEST_ACCEPTANCE = 48 * 3600
"""seconds from `iat` to `exp` of what is bounded in its acceptance"""
LONGEST_STANDING = 24 * 31 * 86_400
"""seconds from its begin to `exp` of a grant: 24 months"""


def kind_of(typ: str) -> ObjectKind:
    """Look a kind up. Raises Forged."""
    if typ not in KINDS:
        raise Forged(ObjectCode.TYP, f"no object of kind {typ[:40]!r} is taken here")
    return KINDS[typ]


def roles_for(kind: ObjectKind, model: ObjectClaims) -> frozenset[str]:
    """Who may issue this one: giving back is for any role that could have authorized."""
    if isinstance(model, claims.Command) and model.gives_back:
        return kind.roles | GRANTING
    return kind.roles


def needs_no_clock(model: ObjectClaims) -> bool:
    """Whether it is taken whatever the clock says: it takes back, or it is about the clock."""
    match model:
        case claims.Command():
            return model.gives_back
        case claims.ConsentClaims():
            return model.status != "given"
        case claims.Revocation() | claims.Time():
            return True
        case _:
            return False
