"""Which series a slot of a point belongs to, for one recipient: whose it is, and may it leave."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, replace
from functools import cache
from heapq import merge
from typing import TYPE_CHECKING, NamedTuple

from agent.channels import channels
from agent.model import Series, ValueKind, Why
from agent.pipeline.timetable import following, is_slot, running_slot
from agent.registry.consent_policy import (
    NOT_OCCUPIED,
    Basis,
    boundary_index,
    may_leave,
    steps_agreed,
    steps_wanted,
)
from agent.registry.dates import DAY, MONTH
from agent.registry.exchange import succession
from agent.registry.index import Unknown
from agent.registry.records import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from decimal import Decimal

    from agent.model import Channel, Point
    from agent.registry.consent_policy import Policy
    from agent.registry.records import Installation
    from agent.registry.registry import Registry

NO_BASIS = Basis("", None)
TEN_YEARS = 10 * 366 * 86_400
LONGER = 3 * DAY
"""seconds by which two periods may be longer than twice their step: months, and long days"""
QUARTER = 900
"""seconds: midnight is a multiple of it in every zone"""


@dataclass(frozen=True, slots=True)
class Withholding:
    """Why a point's rows stay here; for people, never sent."""

    words: str
    why: Why | None = None
    """where the registry says so"""


class Assignment(NamedTuple):
    """What the registry says of a point's slots, from one turn to the next."""

    series: tuple[Series, ...] | Withholding
    """one for each step at which rows may leave, or why none may"""
    meter: Installation | None = None
    """whose the values are; None: of no dwelling's meter, or nobody knows"""
    meters: Sequence[Installation] = ()
    """of an index and what flowed by it: that meter, and those whose place it took or that took
    its place, in order
    """
    withheld: tuple[tuple[Series, Why], ...] = ()
    """series of which a recipient who wants to know is told that rows are held back, and why"""

    def measured(self, point: Point, shown: Decimal) -> Decimal:
        """What a meter's index, or a difference of two, means for the place, exact."""
        if self.meter is None:
            return shown
        if point.derived and self.meters:
            return EXACT.multiply(shown, self.meter.multiplier)
        return self.meter.measured(shown)


class _PointAssignment(NamedTuple):
    answers: tuple[int, bool]
    since: int
    until: int
    answer: Assignment


class RowAssignment:
    """The registry's answers for one recipient, asked once per stretch in which nothing changes.

    `withholds`: the recipient wants a row, without value, where one is held back.
    """

    def __init__(
        self,
        registry: Registry,
        policy: Policy,
        recipient: str,
        *,
        withholds: bool = False,
        held: Callable[[str, str], bool] = lambda _place, _channel: False,
    ) -> None:
        self.registry, self.policy, self.recipient = registry, policy, recipient
        self.withholds, self.held = withholds, held
        """`held`: whether the index of the building's own meter stays here for good"""
        self._known: dict[tuple[str, str, str | None], _PointAssignment] = {}

    def at(self, point: Point, serial: str | None, t: int) -> Assignment:
        """The answer for a point on a device that says `serial`, at t.

        A change in the registry counts from the next call on.
        """
        key = (point.device, point.name, serial)
        known = self._known.get(key)
        if (
            known is None
            or known.answers != self.registry.answers
            or not known.since <= t < known.until
        ):
            until = next(self._turning(t, t + TEN_YEARS, point), t + TEN_YEARS)
            answer = self._ask(point, serial, t)
            known = self._known[key] = _PointAssignment(self.registry.answers, t, until, answer)
        return known.answer

    def boundary(self, point: Point, serial: str | None, t: int) -> Series | None:
        """The series of the index of a midnight that a duty wants: somebody moved, or a bill is
        due. No plan announces it.
        """
        if point.channel is None or point.derived or t % QUARTER:
            return None
        if not is_slot(t, DAY, self.policy.zone):
            return None
        meter, channel = self.at(point, serial, t).meter, channels()[point.channel]
        if meter is None:
            return None
        basis = boundary_index(self.registry, self.policy, meter.place, channel, t, self.recipient)
        serial = meter.serial or serial
        return _series(meter.place, channel, DAY, serial, basis) if basis else None

    def month_end(self, point: Point, serial: str | None, t: int) -> Series | None:
        """The series of the month's end that a duty gives, if t is one and the gateway heard later
        of those who lived there then: it could not be theirs on the day.
        """
        wanted = self.at(point, serial, t).series
        if isinstance(wanted, Withholding) or not is_slot(t, MONTH, self.policy.zone):
            return None
        duties = {duty.id for duty in self.registry.duties_of(str(point.channel))}
        for one in wanted:
            if one.step == MONTH and one.basis in duties and one.occupancy is not None:
                return one if self.registry.first_recorded_at(one.occupancy) > t else None
        return None

    def turns(self, start: int, end: int, point: Point | None = None) -> list[int]:
        """Instants in (start, end] at which an answer may change, and `end` itself.

        A quantity over a period must lie whole within its basis, so of a derived point's each
        instant counts again at the first slot whose period lies after it.
        """
        return [*self._turning(start, end, point), end]

    def _turning(self, start: int, end: int, point: Point | None) -> Iterator[int]:
        """Those of `turns` before `end`, reckoned only as far as they are asked for."""
        common, step = self.policy.common, point.every if point and point.derived else 0
        edges = self.registry.turns(start - 2 * step - LONGER if step else start, end)
        if common is not None:
            insort(edges, common.since)
        last = start
        for turn in merge(edges, (self._lies_after(one, step) for one in edges) if step else ()):
            if last < turn < end:
                yield turn
                last = turn

    def _lies_after(self, turn: int, step: int) -> int:
        """The first slot whose period begins at or after an instant: a day may be short or long."""
        zone = self.policy.zone
        begins = following(running_slot(step, turn - 1, zone), step, zone)
        return following(begins, step, zone)

    def _ask(self, point: Point, serial: str | None, t: int) -> Assignment:
        if point.channel is None:
            return Assignment(Withholding("no channel is configured for it"))
        channel = channels()[point.channel]
        index = channel.kind is ValueKind.REG
        if point.derived:
            channel = replace(channel, kind=channel.derived)
        place, number, meter = point.place, serial, None
        meters: Sequence[Installation] = ()
        if place is None:
            # a quantity over (t − step, t] is of who was there until t
            at = t - 1 if point.derived else t
            found = self.registry.whose(point.device, serial, channel.name, at)
            if isinstance(found, Unknown):
                return Assignment(Withholding(found.value))
            place, number, meter = found.place, found.serial or serial, found
            meters = succession(found, self.registry.meters_of(place)) if index else ()
        bases = self._bases(point, place, channel, t)
        withheld: tuple[tuple[Series, Why], ...] = ()
        if self.withholds:
            withheld = tuple(self._withheld(point, place, channel, bases, t))
        if isinstance(bases, Why):
            return Assignment(Withholding(_held_words()[bases], bases), meter, meters, withheld)
        series = [_series(place, channel, step, number, basis) for step, basis in bases.items()]
        return Assignment(tuple(series), meter, meters, withheld)

    def _withheld(
        self, point: Point, place: str, channel: Channel, bases: Mapping[int, Basis] | Why, t: int
    ) -> Iterator[tuple[Series, Why]]:
        """What is withheld, at each step that the recipient ever was to have, or once a day.

        It says no more than that the channel exists: no meter, nobody who lives there.
        """
        why = bases if isinstance(bases, Why) else Why.CONSENT
        asked = (self.registry, self.policy, place, channel, point.every, t, self.recipient)
        if place[0] == "D":
            steps = steps_agreed(*asked) if channel.en is not None else set()
            if point.derived:
                steps &= {point.every}
            elif not steps and isinstance(bases, Why) and channel.en is not None:
                # who never had anything to do with the dwelling is not told who lives there
                steps, why = {DAY}, Why.CONSENT
        else:
            steps = {point.every} if why is Why.FEW else set()
        for step in sorted(steps):
            if isinstance(bases, Why) or step not in bases:
                yield _series(place, channel, step, None, NO_BASIS), why

    def _bases(
        self, point: Point, place: str, channel: Channel, t: int
    ) -> Mapping[int, Basis] | Why:
        """At which steps rows may be made, by which basis.

        Differences of two indexes are made at the step of reading only: at a coarser one the
        indexes say the same.
        """
        asked = (self.registry, self.policy, place, channel, point.every, t, self.recipient)
        if not point.derived:
            for_good = channel.kind is ValueKind.REG and self.held(place, channel.name)
            return Why.FEW if for_good else steps_wanted(*asked)
        basis = may_leave(*asked)
        return {point.every: basis} if isinstance(basis, Basis) else basis


def _series(place: str, channel: Channel, step: int, meter: str | None, basis: Basis) -> Series:
    return Series(
        place=place,
        channel=channel.name,
        kind=channel.kind,
        unit=channel.unit,
        step=step,
        meter=meter,
        occupancy=basis.occupancy,
        basis=basis.id,
    )


@cache
def _held_words() -> dict[Why, str]:
    return {
        Why.CONSENT: "no consent covers it",
        **NOT_OCCUPIED,
        Why.FEW: "it would tell of few dwellings that are not sent one by one",
    }
