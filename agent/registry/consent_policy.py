"""Whether a reading may leave for a recipient, and at which step. Default: no (rule P1). Pure.

Three questions are answered by one set of rules: `steps_wanted` before rows are made, `may_leave`
when a row is spooled, `still_covers` when it is sealed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.core.errors import Refused
from agent.core.i18n import Text
from agent.core.model import ValueKind, Why
from agent.registry.aggregate import FEWEST, ID, tells_of_few
from agent.registry.dates import DAY, MONTH, midnight_of, slot_before
from agent.registry.records import Consent, Duty, Occupancy, covers
from agent.registry.sheet import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.core.model import Channel, Series

FLOORS = {"FR-1": 600, "DEMO-1": 1}
"""seconds: no row of a dwelling at a finer step ever leaves; DEMO-1 is for loopback only"""
LONGEST_UNSENT = 60 * DAY
"""seconds after its slot at which a dwelling's undelivered row is destroyed"""
NOT_OCCUPIED = {
    Why.VACANT: Text("the dwelling is vacant"),
    Why.OCCUPANCY: Text("it is unknown whether somebody lives there"),
}
"""why nothing leaves of a dwelling without recorded occupants"""
LONGEST_KEPT = 62 * DAY
"""seconds for which midnight readings are kept for a duty (`register_kept`)"""


@dataclass(frozen=True, slots=True)
class CommonBasis:
    """Why readings of common areas may leave (a vote, a contract), and since when."""

    evidence: str
    since: int


@dataclass(frozen=True, slots=True)
class Policy:
    """A named set of limits, with the building's basis for common areas."""

    name: str
    floor: int
    """seconds: the finest step of a dwelling's row"""
    common: CommonBasis | None = None
    zone: ZoneInfo | None = None
    """time zone whose midnights begin days and months; None: UTC"""
    fewest: int = FEWEST
    """dwellings that a sum must cover at least"""


def policy(
    name: str, common: CommonBasis | None = None, zone: ZoneInfo | None = None, fewest: int = FEWEST
) -> Policy:
    """A policy by its name. Raises Refused if it is unknown."""
    if name not in FLOORS:
        raise Refused(
            '"{name}" is not a privacy policy{did_you_mean}',
            name=name,
            did_you_mean=did_you_mean(name, FLOORS),
        )
    return Policy(name, FLOORS[name], common, zone, fewest)


@dataclass(frozen=True, slots=True)
class Basis:
    """Why a row may leave."""

    id: str
    """of the consent or duty, or `common`"""
    occupancy: str | None


class GateFacts(Protocol):
    """What the policy needs to know from the registry."""

    mute: bool
    """whether consents and duties are not known at present (rule A8)"""

    def occupancy_at(self, place: str, t: int) -> Occupancy | None:
        """Who lives in the place at t."""
        ...

    def occupancies_of(self, place: str) -> Sequence[Occupancy]:
        """All occupancies of the place, in order of time."""
        ...

    def lived_in_before(self, place: str, t: int) -> bool:
        """Whether an occupancy of the place began at or before t."""
        ...

    def consents_of(self, occupancy: str, recipient: str) -> Sequence[Consent]:
        """Consents of an occupancy to a recipient that are not withdrawn, the one hardest to lose
        first.
        """
        ...

    def duties_of(self, channel: str) -> Sequence[Duty]:
        """Duties that name a channel, the one hardest to lose first."""
        ...

    def ever_agreed(self, place: str, recipient: str) -> Sequence[Consent]:
        """Every consent of the place's occupants to this recipient, including withdrawn ones."""
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
    """The steps at which rows are made of what is read every `every` seconds, each with its basis;
    or why none are made.

    Each consent needs its own step, or the next coarser one that is a multiple of `every` and
    divides a day; a duty needs MONTH, for the manager. A finer basis covers coarser steps too: so
    those of consents and duties that have ended stay, also of people before (rule R16). A row of
    slot t is made at a step if t is a slot of that step. Between two `turns` the answer for a
    register does not change.
    """
    if place[:1] in ("C", "B"):
        common = _common_or_building(facts, policy, place, channel, every, t, recipient)
        return common if isinstance(common, Why) else {every: common}
    steps = steps_made(facts, policy, place, channel, every, recipient)
    # without any step the question is still asked once, for the reason of the refusal
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
    """The basis on which a reading of slot `t` (seconds UTC) at `step` seconds may leave, or why it
    may not.

    A row of a common area or the building leaves on the policy's common basis; a total of the whole
    building only while it does not cover too few dwellings. A row of a dwelling leaves only if the
    catalogue explains its channel and somebody lives there: the monthly index to the building
    manager by a duty; anything else by a consent that covers recipient, channel, step and t and is
    not withdrawn. A quantity over a period must lie in the occupancy and the consent for the whole
    period. Of several bases the one hardest to lose is named: a duty, then the coarsest consent.

    OCCUPANCY: it is unknown whether anybody lives there; VACANT: nobody does; CONSENT: no basis;
    FEW: too few dwellings in a total.
    """
    if place[:1] in ("C", "B"):
        return _common_or_building(facts, policy, place, channel, step, t, recipient)
    if place[:1] != "D" or channel.en is None:
        return Why.CONSENT
    at = _instant(channel.kind, t)
    home = facts.occupancy_at(place, at)
    if home is None:
        return Why.VACANT if facts.lived_in_before(place, at) else Why.OCCUPANCY
    # the duty comes first: a row on a consent would be retracted when that is withdrawn
    if step >= MONTH and channel.kind is ValueKind.REG:
        for duty in _duties_at(facts, channel, t, recipient):
            return Basis(duty.id, home.id)
    start = _period_start(channel.kind, step, t, policy)
    # a quantity that began before the move-in is partly the previous occupants'
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
    """The duty by which the index of the midnight `t` leaves, because occupants changed or a bill
    is due; None: it does not leave.

    It is a row at step DAY that no plan announces. It belongs to those who move in, or else to
    those who moved out; if that is later on this day, to those who still live there. On a billing
    date a vacant dwelling has none.
    """
    if place[:1] != "D" or channel.kind is not ValueKind.REG or channel.en is None:
        return None
    homes = facts.occupancies_of(place)
    # without occupancies that never were: their interval is empty
    moved = [home for home in homes if home.since < (home.until or t + 1)]
    home = next((home for home in moved if home.since == t), None)
    home = home or next((home for home in moved if home.until == t), None)
    home = home or next((home for home in moved if _leaves_on_day(home, t, policy)), None)
    for duty in _duties_at(facts, channel, t, recipient):
        if home is not None:
            return Basis(duty.id, home.id)
        if midnight_of(t, policy.zone) in duty.billing:
            there = facts.occupancy_at(place, t)
            return Basis(duty.id, there.id) if there else None
    return None


def _leaves_on_day(home: Occupancy, t: int, policy: Policy) -> bool:
    """Whether people who live there at the midnight `t` move out on the day that it begins."""
    if home.until is None or not covers(home, t):
        return False
    return slot_before(home.until + 1, DAY, policy.zone) == t


def register_kept(facts: GateFacts, place: str, channel: Channel, t: int) -> bool:
    """Whether the index of the midnight `t` is kept for 62 days, in case a late notice needs it.

    It leaves only through `boundary_index` and as a month's end of occupants who are recorded late.
    """
    if place[:1] != "D" or channel.kind is not ValueKind.REG:
        return False
    return any(covers(duty, t) for duty in facts.duties_of(channel.name))


def still_covers(facts: GateFacts, policy: Policy, series: Series, t: int, recipient: str) -> bool:
    """Whether the basis with which a row was spooled covers it now, when it is sealed.

    The age of the row is not checked here: a dwelling's row is destroyed LONGEST_UNSENT after its
    slot.
    """
    if series.basis == ID:  # its members were decided when it was made; it names nobody
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
            # the index at the move-out belongs to those who leave
            return covers(duty, t) and (covers(home, t) or home.until == t)
    for consent in facts.consents_of(home.id, recipient):
        if consent.id == series.basis:
            named = series.channel in consent.channels
            # an index at an exchange has no step (rule P29)
            named = named and (series.step >= consent.step or not series.step)
            return named and covers(home, at) and covers(consent, at) and consent.since <= start
    return False


def steps_made(  # noqa: PLR0913, PLR0917 -- the question has as many parts
    facts: GateFacts, policy: Policy, place: str, channel: Channel, every: int, recipient: str
) -> set[int]:
    """The steps at which rows are made of a dwelling's readings, as far as a basis covers them."""
    steps = _steps_of_consents(facts, policy, place, channel, every, recipient)
    duties = facts.duties_of(channel.name) if channel.kind is ValueKind.REG else ()
    return steps | ({MONTH} if any(duty.recipient == recipient for duty in duties) else set())


def _steps_of_consents(  # noqa: PLR0913, PLR0917 -- the question has as many parts
    facts: GateFacts, policy: Policy, place: str, channel: Channel, every: int, recipient: str
) -> set[int]:
    return {
        _step_of(consent, every, policy)
        for consent in facts.ever_agreed(place, recipient)
        if channel.name in consent.channels
    }


def steps_agreed(  # noqa: PLR0913, PLR0917 -- the question has as many parts
    facts: GateFacts,
    policy: Policy,
    place: str,
    channel: Channel,
    every: int,
    t: int,
    recipient: str,
) -> set[int]:
    """The steps at which the recipient was ever to receive rows of a dwelling, by a consent (even
    an ended one) or by a duty.
    """
    steps = _steps_of_consents(facts, policy, place, channel, every, recipient)
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
    """The common basis, for a common area or the building. A total of the whole building also tells
    about each dwelling in it, less what is sent one by one, so it is refused if it covers too few.
    """
    common = _common(policy, channel.kind, step, t)
    if isinstance(common, Why) or place[:1] != "B":
        return common
    # at both ends of the period: occupants may have moved in between
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
    """The duties by which a recipient receives a channel at t."""
    duties = facts.duties_of(channel.name)
    return [one for one in duties if one.recipient == recipient and covers(one, t)]


def _duty_steps(facts: GateFacts, channel: Channel, t: int, recipient: str) -> set[int]:
    obliged = channel.kind is ValueKind.REG and _duties_at(facts, channel, t, recipient)
    return {MONTH} if obliged else set()


def _instant(kind: str, t: int) -> int:
    """A time within what a row of slot t covers: INT and AVG cover (t − step, t]."""
    return t - 1 if kind in (ValueKind.INT, ValueKind.AVG) else t


def _period_start(kind: str, step: int, t: int, policy: Policy) -> int:
    """When the time begins that a row of slot t covers."""
    return t if _instant(kind, t) == t else slot_before(t, step, policy.zone)


def _step_of(consent: Consent, every: int, policy: Policy) -> int:
    """The step of this consent's rows, made of what is read every `every` seconds."""
    finest = max(consent.step, policy.floor, every)
    if finest > DAY:
        return MONTH
    # the next multiple of `every`, then the next one that divides a day
    step = -(-finest // every) * every
    while DAY % step:
        step += every
    return step
