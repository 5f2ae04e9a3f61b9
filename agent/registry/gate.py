"""May this reading leave, for this recipient? Default: no (domain.md 2.2). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.errors import Refused
from agent.model import Kind, Why
from agent.registry.documents import Consent, Occupancy, covers
from agent.registry.problems import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model import Channel

FLOORS = {"FR-1": 600, "DEMO-1": 1}
"""seconds: no row of a dwelling at a finer step ever leaves; DEMO-1 is for loopback only"""


@dataclass(frozen=True, slots=True)
class Common:
    """Why readings of common areas may leave, and since when (a vote, a contract)."""

    evidence: str
    since: int


@dataclass(frozen=True, slots=True)
class Policy:
    """A named set of limits, with the building's own basis for common areas."""

    name: str
    floor: int
    """seconds: the finest step of a dwelling's row"""
    common: Common | None = None


def policy(name: str, common: Common | None = None) -> Policy:
    """Find a policy by its name. Raises Refused on an unknown one."""
    if name not in FLOORS:
        raise Refused(f'"{name}" is no privacy policy{did_you_mean(name, FLOORS)}')
    return Policy(name, FLOORS[name], common)


@dataclass(frozen=True, slots=True)
class Basis:
    """Why a row may leave."""

    id: str
    """of the consent, or `common`"""
    occupancy: str | None


class Facts(Protocol):
    """What the gate asks of the registry."""

    def occupancy_at(self, place: str, t: int) -> Occupancy | None:
        """Who lives in the place at t."""
        ...

    def lived_in_before(self, place: str, t: int) -> bool:
        """Whether an occupancy of the place began at or before t."""
        ...

    def consents_of(self, occupancy: str, recipient: str) -> Sequence[Consent]:
        """List the consents of these people to this recipient."""
        ...


def may_leave(  # noqa: PLR0913, PLR0917 -- the question has as many parts
    facts: Facts, policy: Policy, place: str, channel: Channel, step: int, t: int, recipient: str
) -> Basis | Why:
    """Why a reading of slot `t` (seconds UTC) at `step` seconds may leave, or why not.

    A common area's or a building's row leaves on the policy's common basis. A dwelling's row, of
    whatever channel, leaves only with a consent of the people living there at t that covers
    recipient, channel, step and t. A quantity over a period must lie in both for all of it.
    OCCUPANCY: nobody said who lives there; VACANT: nobody does; CONSENT: no basis.
    """
    if place[:1] in ("C", "B"):
        return _common(policy, t)
    if place[:1] != "D":
        return Why.CONSENT
    home = facts.occupancy_at(place, t)
    if home is None:
        return Why.VACANT if facts.lived_in_before(place, t) else Why.OCCUPANCY
    began = t - step if channel.kind in (Kind.INT, Kind.AVG) else t
    if step < policy.floor or began < home.since:
        return Why.CONSENT
    for consent in facts.consents_of(home.id, recipient):
        if (
            covers(consent, t)
            and consent.since <= began
            and channel.name in consent.channels
            and step >= consent.step
        ):
            return Basis(consent.id, home.id)
    return Why.CONSENT


def _common(policy: Policy, t: int) -> Basis | Why:
    if policy.common is None or not policy.common.evidence or t < policy.common.since:
        return Why.CONSENT
    return Basis("common", None)
