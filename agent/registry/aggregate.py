"""Sums over the dwellings that a recipient is not sent one by one (rules S3, S5). Pure.

The members of a sum are fixed for a calendar month, and a sum over few dwellings is not sent. So
for a dwelling that consented to nothing, a recipient can only compute sums over at least `fewest`
dwellings from all that it receives of a slot (design note 029).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from agent.registry.dates import DAY
from agent.registry.records import EXACT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from agent.registry.records import Consent, Duty, Occupancy

HALF_HOUR = 1800
STEPS = {
    "elec.imp": HALF_HOUR,
    "elec.exp": HALF_HOUR,
    "heat": HALF_HOUR,
    "cool": HALF_HOUR,
    "gas": DAY,
    "cw": DAY,
    "dhw": DAY,
}
"""finest step in seconds of each channel that can be summed over dwellings"""
SEEN_BY = {"elec.power": "elec.imp", "elec.apparent": "elec.imp", "elec.current": "elec.imp"}
"""channels of a whole building that reveal what another channel adds up to"""
ID = "rest"
"""id of the basis of such a sum"""
FEWEST, FLOOR = 11, 10
"""dwellings that a sum needs: the default, and the least that may be configured"""
PART = Decimal("0.8")
"""share of the group that must be in a sum"""
SHARE = Decimal("0.5")
"""greatest share that one dwelling may have of the day's quantity of those not sent alone"""


class SumFacts(Protocol):
    """What a sum needs to know from the registry."""

    mute: bool
    """whether consents and duties are not known at present (rule A8)"""

    def occupancy_at(self, place: str, t: int) -> Occupancy | None:
        """Who lives in the place at t."""
        ...

    def lived_in_before(self, place: str, t: int) -> bool:
        """Whether an occupancy of the place began at or before t."""
        ...

    def occupancies_of(self, place: str) -> Sequence[Occupancy]:
        """All occupancies of the place, in order of time."""
        ...

    def ever_agreed(self, place: str, recipient: str) -> Sequence[Consent]:
        """Every consent of the place's occupants to this recipient, including withdrawn ones."""
        ...

    def duties_of(self, channel: str) -> Sequence[Duty]:
        """List the duties that name a channel."""
        ...

    def dwellings(self) -> Sequence[str]:
        """Every dwelling, by id."""
        ...


@dataclass(frozen=True, slots=True)
class Group:
    """The dwellings in a recipient's sum of one channel, over [since, until)."""

    since: int
    until: int
    members: frozenset[str]

    def has(self, start: int, end: int) -> bool:
        """Whether a quantity over (start, end] falls into the group's time."""
        return self.since <= start and end <= self.until


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of one slot and the number of dwellings in it."""

    n: int
    value: Decimal


def sent_alone(  # noqa: PLR0913, PLR0917 -- the question has as many parts
    facts: SumFacts, place: str, channel: str, since: int, until: int, recipient: str
) -> bool:
    """Whether the recipient has, or may have had, rows of this dwelling alone at any instant of
    [since, until], by a consent (even a withdrawn one) or by a duty.

    A consent ends with its occupancy. An end counts only from when it was recorded, because rows
    left until then.
    """
    for duty in facts.duties_of(channel):
        if duty.recipient == recipient and _meet(duty.since, duty.until, since, until):
            return True
    for consent in facts.ever_agreed(place, recipient):
        if channel in consent.channels and _meet(
            consent.since, _ends(facts, consent), since, until
        ):
            return True
    return False


def _ends(facts: SumFacts, consent: Consent) -> int:
    """The last instant at which a row can have left by a consent."""
    ends = [consent.until] if consent.withdrawn is None else [consent.until, consent.withdrawn]
    # an end in the past that was recorded late: rows left until it was recorded
    ends = [max(min(ends), consent.word.when)]
    for home in facts.occupancies_of(consent.place):
        if home.id == consent.occupancy and home.until is not None:
            ends.append(max(home.until, home.word.when))
    return min(ends)


def formed(  # noqa: PLR0913, PLR0917 -- the question has as many parts
    facts: SumFacts, measured: Iterable[str], channel: str, since: int, until: int, recipient: str
) -> Group:
    """The group of the month that begins at `since`: dwellings that are measured, occupied, and not
    sent alone.
    """
    return Group(
        since,
        until,
        frozenset(
            place
            for place in measured
            if facts.occupancy_at(place, since) is not None
            and not sent_alone(facts, place, channel, since, since, recipient)
        ),
    )


def sum_of_slot(
    group: Collection[str],
    flows: Mapping[str, Decimal],
    apart: Collection[str],
    day: Mapping[str, Decimal],
    fewest: int,
) -> Sum | None:
    """The sum of a slot; None if too few dwellings would be in it.

    `flows`: quantity of the slot by dwelling, without estimates. `apart`: members of which the
    recipient has had rows of their own since the group began; they stay in the sum but do not count
    towards `fewest`. `day`: quantity by dwelling over the day up to the slot.
    """
    in_it = [place for place in group if place in flows]
    # who knows a dwelling's own rows can subtract them, so it hides no other one
    unknown = [place for place in in_it if place not in apart]
    if len(unknown) < fewest or len(in_it) < PART * len(group):
        return None
    # if one dwelling had most of the day's quantity, the sum would reveal it
    over = {place: max(Decimal(0), day.get(place, Decimal(0))) for place in unknown}
    whole = _total(over.values())
    if whole and max(over.values()) > EXACT.multiply(SHARE, whole):
        return None
    # in a fixed order, so that the same values always give the same digits
    return Sum(len(in_it), _total(flows[place] for place in sorted(in_it)))


def unnamed(facts: SumFacts, channel: str, t: int, recipient: str) -> int:
    """How many dwellings occupied at t are not sent alone: a total of the whole building tells
    about them.
    """
    return sum(
        facts.occupancy_at(place, t) is not None
        and not sent_alone(facts, place, channel, t, t, recipient)
        for place in facts.dwellings()
    )


def _unknown(facts: SumFacts, t: int) -> int:
    """How many dwellings there are whose occupancy has never been recorded."""
    return sum(
        facts.occupancy_at(place, t) is None and not facts.lived_in_before(place, t)
        for place in facts.dwellings()
    )


def tells_of_few(facts: SumFacts, channel: str, t: int, recipient: str, fewest: int) -> bool:
    """Whether a total of the whole building, less what is sent one by one, would cover too few
    dwellings.

    If no occupants are recorded in the others, it may cover the dwellings whose occupancy is
    unknown. While nobody knows what is sent one by one, it does.
    """
    # the building's power reveals its energy, so it is judged like the energy
    of = {channel, SEEN_BY.get(channel, channel)}
    if not of & STEPS.keys():
        return False
    others = [unnamed(facts, one, t, recipient) for one in of]
    return facts.mute or any(0 < (one or _unknown(facts, t)) < fewest for one in others)


def step_of(channel: str, reads: Iterable[int], *, finest: int | None = None) -> int:
    """The step of a sum over readings at these steps, in seconds: the channel's own step, or the
    next coarser one that is a multiple of all of them; a day fits all.
    """
    least, reads = STEPS[channel] if finest is None else finest, set(reads)
    whole = (s for s in range(least, DAY, least) if DAY % s == 0)
    return next((s for s in whole if all(s % every == 0 for every in reads)), DAY)


def _meet(begins: int, ends: int | None, since: int, until: int) -> bool:
    return begins <= until and (ends is None or since < ends)


def _total(values: Iterable[Decimal]) -> Decimal:
    whole = Decimal(0)
    for value in values:
        whole = EXACT.add(whole, value)
    return whole
