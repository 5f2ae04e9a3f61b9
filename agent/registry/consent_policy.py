"""May this reading leave, for this recipient, and at which step? Default: no (rule P1). Pure.

Three questions are asked here, of one set of rules: `steps_wanted` before rows are made,
`may_leave` when one is spooled, `still_covers` when it is sealed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.errors import Refused
from agent.model import ValueKind, Why
from agent.registry.aggregate import FEWEST, ID, tells_of_few
from agent.registry.dates import DAY, MONTH, midnight_of, slot_before
from agent.registry.problems import did_you_mean
from agent.registry.records import Consent, Duty, Occupancy, covers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.model import Channel, Series

FLOORS = {"FR-1": 600, "DEMO-1": 1}
"""seconds: no row of a dwelling at a finer step ever leaves; DEMO-1 is for loopback only"""
LONGEST_UNSENT = 60 * DAY
"""seconds after its slot at which a dwelling's row that nobody received is destroyed"""
NOT_OCCUPIED = {
    Why.VACANT: "the dwelling is vacant",
    Why.OCCUPANCY: "it is unknown whether somebody lives there",
}
"""why nothing leaves of a dwelling that nobody is known to live in: vacant, or unknown"""
LONGEST_KEPT = 62 * DAY
"""seconds for which the registers of 00:00 are kept for a duty (`register_kept`)"""


@dataclass(frozen=True, slots=True)
class CommonBasis:
    """Why readings of common areas may leave, and since when (a vote, a contract)."""

    evidence: str
    since: int


@dataclass(frozen=True, slots=True)
class Policy:
    """A named set of limits, with the building's own basis for common areas."""

    name: str
    floor: int
    """seconds: the finest step of a dwelling's row"""
    common: CommonBasis | None = None
    zone: ZoneInfo | None = None
    """at whose midnights days and months begin; None: UTC"""
    fewest: int = FEWEST
    """dwellings of which a sum tells at least"""


def policy(
    name: str, common: CommonBasis | None = None, zone: ZoneInfo | None = None, fewest: int = FEWEST
) -> Policy:
    """Find a policy by its name. Raises Refused on an unknown one."""
    if name not in FLOORS:
        raise Refused(f'"{name}" is not a privacy policy{did_you_mean(name, FLOORS)}')
    return Policy(name, FLOORS[name], common, zone, fewest)


@dataclass(frozen=True, slots=True)
class Basis:
    """Why a row may leave."""

    id: str
    """of the consent or duty, or `common`"""
    occupancy: str | None


class GateFacts(Protocol):
    """What the gate asks of the registry."""

    def occupancy_at(self, place: str, t: int) -> Occupancy | None:
        """Who lives in the place at t."""
        ...

    def occupancies_of(self, place: str) -> Sequence[Occupancy]:
        """Everybody who ever lived there, in order."""
        ...

    def lived_in_before(self, place: str, t: int) -> bool:
        """Whether an occupancy of the place began at or before t."""
        ...

    def consents_of(self, occupancy: str, recipient: str) -> Sequence[Consent]:
        """List the consents of these people to this recipient that were not withdrawn, the one
        hardest to lose first.
        """
        ...

    def duties_of(self, channel: str) -> Sequence[Duty]:
        """List the duties that name a channel, the one hardest to lose first."""
        ...

    def ever_agreed(self, place: str, recipient: str) -> Sequence[Consent]:
        """Every consent of whoever lived there to this recipient, withdrawn ones too."""
        ...

    def dwellings(self) -> Sequence[str]:
        """Every dwelling, by id."""
        ...


def steps_wanted(  # noqa: PLR0913, PLR0917 -- the question has as many parts
    facts: GateFacts,
    policy: Policy,
    place: str,
    channel: Channel,
    every: int,
    t: int,
    recipient: str,
) -> Mapping[int, Basis] | Why:
    """At which steps rows are to be made of what is read every `every` seconds, each with its
    basis; or why none are.

    Each consent wants its own step, or the next coarser one that is a multiple of `every` and of
    which a day has a whole number; a duty wants MONTH, for the manager. A row of slot t is made at
    a step if t is a slot of that step. Between two `turns` the answer for a register stays.
    """
    if place[:1] in ("C", "B"):
        common = _common_or_building(facts, policy, place, channel, every, t, recipient)
        return common if isinstance(common, Why) else {every: common}
    steps = _duty_steps(facts, channel, t, recipient)
    if home := facts.occupancy_at(place, _instant(channel.kind, t)):
        for consent in facts.consents_of(home.id, recipient):
            if channel.name in consent.channels:
                steps.add(_step_of(consent, every, policy))
    answer: Basis | Why = Why.CONSENT
    bases: dict[int, Basis] = {}
    for step in sorted(steps or {every}):
        answer = may_leave(facts, policy, place, channel, step, t, recipient)
        if isinstance(answer, Basis):
            bases[step] = answer
    return bases or (answer if isinstance(answer, Why) else Why.CONSENT)


def may_leave(  # noqa: PLR0913, PLR0917 -- the question has as many parts
    facts: GateFacts,
    policy: Policy,
    place: str,
    channel: Channel,
    step: int,
    t: int,
    recipient: str,
) -> Basis | Why:
    """Why a reading of slot `t` (seconds UTC) at `step` seconds may leave, or why not.

    A common area's or a building's row leaves on the policy's common basis, a total of the whole
    building only while it does not tell of few dwellings. A dwelling's, of a channel of the
    catalogue, leaves only while somebody lives there: to the building manager the
    monthly index as a duty says; to anybody with a consent that covers recipient, channel, step
    and t, and was not withdrawn. A quantity over a period must lie in both for all of it. Of
    several bases the one hardest to lose is named: a duty, then the coarsest consent.
    OCCUPANCY: it is unknown whether somebody lives there; VACANT: nobody does; CONSENT: no basis;
    FEW: too few dwellings stand in a total.
    """
    if place[:1] in ("C", "B"):
        return _common_or_building(facts, policy, place, channel, step, t, recipient)
    if place[:1] != "D" or channel.en is None:
        return Why.CONSENT
    at = _instant(channel.kind, t)
    home = facts.occupancy_at(place, at)
    if home is None:
        return Why.VACANT if facts.lived_in_before(place, at) else Why.OCCUPANCY
    if step >= MONTH and channel.kind is ValueKind.REG:
        for duty in _duties_at(facts, channel, t, recipient):
            return Basis(duty.id, home.id)
    start = _period_start(channel.kind, step, t, policy)
    if step >= policy.floor and start >= home.since:
        for consent in facts.consents_of(home.id, recipient):
            if (
                covers(consent, at)
                and consent.since <= start
                and channel.name in consent.channels
                and step >= consent.step
            ):
                return Basis(consent.id, home.id)
    return Why.CONSENT


def boundary_index(  # noqa: PLR0913, PLR0917 -- as above
    facts: GateFacts, policy: Policy, place: str, channel: Channel, t: int, recipient: str
) -> Basis | None:
    """By which duty the index of the midnight `t` leaves: somebody moved, or a bill is due.

    It is a row at step DAY that no plan announces. Who moves in is named, else who moved out; on a
    billing date a vacant dwelling has none.
    """
    if place[:1] != "D" or channel.kind is not ValueKind.REG or channel.en is None:
        return None
    homes = facts.occupancies_of(place)
    moved = [home for home in homes if home.since < (home.until or t + 1)]
    home = next((home for home in moved if home.since == t), None)
    home = home or next((home for home in moved if home.until == t), None)
    for duty in _duties_at(facts, channel, t, recipient):
        if home is not None:
            return Basis(duty.id, home.id)
        if midnight_of(t, policy.zone) in duty.billing:
            there = facts.occupancy_at(place, t)
            return Basis(duty.id, there.id) if there else None
    return None


def register_kept(facts: GateFacts, place: str, channel: Channel, t: int) -> bool:
    """Whether the register of the midnight `t` is kept for 62 days, should a late notice need it.

    It leaves for nothing but `boundary_index` and the month ends of people told of later.
    """
    if place[:1] != "D" or channel.kind is not ValueKind.REG:
        return False
    return any(covers(duty, t) for duty in facts.duties_of(channel.name))


def still_covers(facts: GateFacts, policy: Policy, series: Series, t: int, recipient: str) -> bool:
    """Whether the basis that a row was spooled with covers it now: asked when it is sealed.

    Not whether it is too old: a dwelling's row is destroyed LONGEST_UNSENT after its slot.
    """
    if series.basis == ID:  # who stands in the sum was judged when it was made; it names nobody
        return series.place[:1] == "B"
    if series.place[:1] in ("C", "B"):
        common = _common(policy, series.kind, series.step, t)
        return series.basis == "common" and isinstance(common, Basis)
    at, start = _instant(series.kind, t), _period_start(series.kind, series.step, t, policy)
    homes = facts.occupancies_of(series.place)
    home = next((one for one in homes if one.id == series.occupancy), None)
    if home is None or start < home.since:
        return False
    for duty in facts.duties_of(series.channel):
        if duty.id == series.basis and duty.recipient == recipient:
            return covers(duty, t) and (covers(home, t) or home.until == t)
    for consent in facts.consents_of(home.id, recipient):
        if consent.id == series.basis:
            named = series.channel in consent.channels and series.step >= consent.step
            return named and covers(home, at) and covers(consent, at) and consent.since <= start
    return False


def steps_agreed(  # noqa: PLR0913, PLR0917 -- the question has as many parts
    facts: GateFacts,
    policy: Policy,
    place: str,
    channel: Channel,
    every: int,
    t: int,
    recipient: str,
) -> set[int]:
    """The steps at which the recipient was ever to have rows of a dwelling by a consent, though it
    has ended since, or has them by a duty.
    """
    steps = {
        _step_of(consent, every, policy)
        for consent in facts.ever_agreed(place, recipient)
        if channel.name in consent.channels
    }
    return steps | _duty_steps(facts, channel, t, recipient)


def _common_or_building(  # noqa: PLR0913, PLR0917 -- the question has as many parts
    facts: GateFacts,
    policy: Policy,
    place: str,
    channel: Channel,
    step: int,
    t: int,
    recipient: str,
) -> Basis | Why:
    """A common area or the building: the common basis. A total of the whole building also tells of
    each dwelling in it, less what is sent one by one.
    """
    common = _common(policy, channel.kind, step, t)
    if isinstance(common, Why) or place[:1] != "B":
        return common
    for at in {_period_start(channel.kind, step, t, policy), _instant(channel.kind, t)}:
        if tells_of_few(facts, channel.name, at, recipient, policy.fewest):
            return Why.FEW
    return common


def _common(policy: Policy, kind: str, step: int, t: int) -> Basis | Why:
    if policy.common is None or not policy.common.evidence:
        return Why.CONSENT
    if _period_start(kind, step, t, policy) < policy.common.since:
        return Why.CONSENT
    return Basis("common", None)


def _duties_at(facts: GateFacts, channel: Channel, t: int, recipient: str) -> list[Duty]:
    """The duties by which a recipient, the manager, is to have a channel at t."""
    duties = facts.duties_of(channel.name)
    return [one for one in duties if one.recipient == recipient and covers(one, t)]


def _duty_steps(facts: GateFacts, channel: Channel, t: int, recipient: str) -> set[int]:
    obliged = channel.kind is ValueKind.REG and _duties_at(facts, channel, t, recipient)
    return {MONTH} if obliged else set()


def _instant(kind: str, t: int) -> int:
    """A moment inside what a row of slot t speaks of: INT and AVG cover (t − step, t]."""
    return t - 1 if kind in (ValueKind.INT, ValueKind.AVG) else t


def _period_start(kind: str, step: int, t: int, policy: Policy) -> int:
    """Where the time begins that a row of slot t speaks of."""
    return t if _instant(kind, t) == t else slot_before(t, step, policy.zone)


def _step_of(consent: Consent, every: int, policy: Policy) -> int:
    """The step at which this consent's rows are made of what is read every `every` seconds."""
    finest = max(consent.step, policy.floor, every)
    if finest > DAY:
        return MONTH
    step = -(-finest // every) * every
    while DAY % step:
        step += every
    return step
