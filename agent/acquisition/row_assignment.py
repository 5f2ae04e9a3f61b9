"""Assigns a slot of a point to its series, for one recipient: whose it is, and whether it may
leave.

The quantity at a place across an exchange of meters is (closing − last) + … + (now − opening): rule
M7. If nobody read the closing index, the old meter's last good reading is used, and the sum is an
estimate.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache, partial
from heapq import merge
from typing import TYPE_CHECKING, NamedTuple

from agent.acquisition.timetable import following, is_slot, running_slot
from agent.core.i18n import N_
from agent.core.model import Flag, Quality, Reading, Series, ValueKind, Why
from agent.core.quantities import channels
from agent.registry.consent_policy import (
    LONGEST_UNSENT,
    NOT_OCCUPIED,
    Basis,
    boundary_index,
    may_leave,
    steps_agreed,
    steps_made,
    steps_wanted,
    still_covers,
)
from agent.registry.dates import DAY, MONTH
from agent.registry.index import Unknown
from agent.registry.records import EXACT, covers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from agent.core.model import Channel, Point, Retraction
    from agent.registry.consent_policy import Policy
    from agent.registry.records import Installation
    from agent.registry.registry import Registry

NO_BASIS = Basis("", None)
TEN_YEARS = 10 * 366 * 86_400
LONGER = 3 * DAY
"""seconds by which two periods may exceed twice their step: months, and long days"""
QUARTER = 900
"""seconds: midnight is a multiple of it in every time zone"""
FOREVER = 1 << 62


class ExpectedSeries(NamedTuple):
    """A series of which the recipient is owed every slot."""

    place: str
    channel: str
    kind: str
    unit: str
    step: int

    @classmethod
    def of(cls, series: Series) -> ExpectedSeries:
        """The series that the recipient is owed, whatever meter, people and basis it has."""
        return cls(series.place, series.channel, series.kind, series.unit, series.step)


@dataclass(frozen=True, slots=True)
class Withholding:
    """Why the rows of a point are withheld; for people, never sent."""

    reason: str
    why: Why | None = None
    """the registry's code for the reason; None: the reason lies elsewhere"""


class Assignment(NamedTuple):
    """The assignment of a point's slots, valid until the next change in the registry."""

    series: tuple[Series, ...] | Withholding
    """one series for each step at which rows may leave, or why none may"""
    meter: Installation | None = None
    """the meter of the values; None: no meter of a dwelling, or it is not known"""
    meters: Sequence[Installation] = ()
    """for an index and its consumption: that meter with its predecessors and successors, in
    order
    """
    withheld: tuple[tuple[Series, Why], ...] = ()
    """series of which a recipient that asks for it learns that rows are withheld, and why"""
    unproven: bool = False
    """whether nothing has proven yet that the meter's factor is right (rule F15)"""

    def measured(self, point: Point, shown: Decimal) -> Decimal:
        """What an index of the meter, or a difference of two, means for the place, exact."""
        if self.meter is None:
            return shown
        if point.derived and self.meters:
            return EXACT.multiply(shown, self.meter.multiplier)
        return self.meter.measured(shown)


class _PointAssignment(NamedTuple):
    answers: tuple[int, bool]
    held: bool
    since: int
    until: int
    answer: Assignment


class RowAssignment:
    """Assigns rows for one recipient. Answers are cached until something may change.

    `withholds`: the recipient gets a row without value where one is withheld. `held`: whether the
    index of a building's own meter is withheld for good (see `Totals`).
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
        """`held`: whether the index of the building's own meter is withheld for good"""
        self._cache: dict[tuple[str, str, str | None], _PointAssignment] = {}

    def at(self, point: Point, serial: str | None, t: int) -> Assignment:
        """The assignment of a point at time t, for a device that reports `serial`.

        A change in the registry counts from the next call on.
        """
        key = (point.device, point.name, serial)
        cached, held = self._cache.get(key), self.held(point.place or "", point.channel or "")
        if (
            cached is None
            or (cached.answers, cached.held) != (self.registry.answers, held)
            or not cached.since <= t < cached.until
        ):
            # Valid until the next change of any fact: the registry is asked once, not for every
            # slot.
            until = next(self._turning(t, t + TEN_YEARS, point), t + TEN_YEARS)
            answer = self._assign(point, serial, t)
            known = (self.registry.answers, held, t, until, answer)
            cached = self._cache[key] = _PointAssignment(*known)
        return cached.answer

    def serial_at(self, point: Point, serial: str | None, t: int) -> str | None:
        """The serial number to expect at t of a device that last reported `serial`: after a
        recorded exchange, that of the new meter. Without it, slots that were missed at an exchange
        would be nobody's, and the recipient would wait for them for ever.
        """
        if serial is None or point.place is not None or self.at(point, serial, t).meter is not None:
            return serial
        ended = [
            meter
            for meter in self.registry.meters_called(serial)
            if meter.device in {None, point.device} and meter.channel in {None, point.channel}
            if meter.until is not None and meter.until <= t
        ]
        if not ended:
            return serial
        last = max(ended, key=lambda meter: meter.until or 0)
        for meter in succession(last, self.registry.meters_of(last.place)):
            if covers(meter, t) and meter.device in {None, point.device}:
                return meter.serial
        return serial

    def makes(self, point: Point, series: ExpectedSeries) -> bool:
        """Whether rows of a series are made of a point at its place, if a basis covers them."""
        if point.channel is None or point.channel != series.channel:
            return False
        channel, steps = channels()[point.channel], {point.every}
        if not point.derived and series.place[:1] == "D":
            of = (series.place, channel, point.every, self.recipient)
            steps = steps_made(self.registry, self.policy, *of)
        kind = channel.derived if point.derived else channel.kind
        return kind == series.kind and series.step in steps

    def boundary(self, point: Point, serial: str | None, t: int) -> Series | None:
        """The series of a midnight index that a duty needs: occupants moved, or a bill is due. No
        plan announces it.
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
        """The series of the month end at t that a duty needs, if the registry learned only later
        who lived there then: on the day itself the row could not be theirs. None: there is no such
        row.
        """
        planned = self.at(point, serial, t).series
        if isinstance(planned, Withholding) or not is_slot(t, MONTH, self.policy.zone):
            return None
        duties = {duty.id for duty in self.registry.duties_of(str(point.channel))}
        for series in planned:
            if series.step == MONTH and series.basis in duties and series.occupancy is not None:
                return series if self.registry.first_recorded_at(series.occupancy) > t else None
        return None

    def turns(self, start: int, end: int, point: Point | None = None) -> list[int]:
        """The times in (start, end] at which an assignment may change, and `end` itself.

        A quantity over a period must lie wholly within its basis. So for a derived point each
        change counts again at the first slot whose period lies wholly after it.
        """
        return [*self._turning(start, end, point), end]

    def _turning(self, start: int, end: int, point: Point | None) -> Iterator[int]:
        """The times of `turns` before `end`, calculated only as far as the caller iterates."""
        common, step = self.policy.common, point.every if point and point.derived else 0
        # Changes shortly before `start` count, too: their period may end after it.
        edges = self.registry.turns(start - 2 * step - LONGER if step else start, end)
        if common is not None:
            insort(edges, common.since)
        last = start
        for turn in merge(edges, (self._lies_after(edge, step) for edge in edges) if step else ()):
            if last < turn < end:
                yield turn
                last = turn

    def _lies_after(self, turn: int, step: int) -> int:
        """The first slot whose period begins at or after a time. A day may be short or long."""
        zone = self.policy.zone
        begins = following(running_slot(step, turn - 1, zone), step, zone)
        return following(begins, step, zone)

    def _assign(self, point: Point, serial: str | None, t: int) -> Assignment:
        if point.channel is None:
            return Assignment(Withholding(N_("no channel is configured for it")))
        channel = channels()[point.channel]
        index = channel.kind is ValueKind.REG
        if point.derived:
            channel = replace(channel, kind=channel.derived)
        place, number, meter = point.place, serial, None
        meters: Sequence[Installation] = ()
        unproven = False
        if place is None:
            # a quantity over (t − step, t] belongs to the occupants until t
            at = t - 1 if point.derived else t
            installation = self.registry.whose(point.device, serial, channel.name, at)
            if isinstance(installation, Unknown):
                return Assignment(Withholding(installation.value))
            place, number, meter = installation.place, installation.serial or serial, installation
            meters = succession(installation, self.registry.meters_of(place)) if index else ()
            unproven = not self.registry.factor_proven(
                meter, channel.name, point.to_prove, confirmed=point.confirmed
            )
        bases = self._bases(point, place, channel, t)
        withheld: tuple[tuple[Series, Why], ...] = ()
        if self.withholds:
            withheld = tuple(self._withheld(point, place, channel, bases, t))
        if isinstance(bases, Why):
            return Assignment(
                Withholding(_withholding_reasons()[bases], bases),
                meter,
                meters,
                withheld,
                unproven,
            )
        series = [_series(place, channel, step, number, basis) for step, basis in bases.items()]
        return Assignment(tuple(series), meter, meters, withheld, unproven)

    def _withheld(
        self, point: Point, place: str, channel: Channel, bases: Mapping[int, Basis] | Why, t: int
    ) -> Iterator[tuple[Series, Why]]:
        """The series that are withheld, at each step that the recipient was ever to have, or once a
        day.

        They state only that the channel exists: no meter and no occupancy.
        """
        why = bases if isinstance(bases, Why) else Why.CONSENT
        query = (self.registry, self.policy, place, channel, point.every, t, self.recipient)
        if place[0] == "D":
            steps = steps_agreed(*query) if channel.en is not None else set()
            if point.derived:
                steps &= {point.every}
            elif not steps and isinstance(bases, Why) and channel.en is not None:
                # A recipient that never had a basis here must not learn whether somebody lives
                # here, so every such dwelling looks the same.
                steps, why = {DAY}, Why.CONSENT
        else:
            steps = {point.every} if why is Why.FEW else set()
        for step in sorted(steps):
            if isinstance(bases, Why) or step not in bases:
                yield _series(place, channel, step, None, NO_BASIS), why

    def _bases(
        self, point: Point, place: str, channel: Channel, t: int
    ) -> Mapping[int, Basis] | Why:
        """The steps at which rows may be made, each with its basis; or why there are none.

        Differences of two indexes are made only at the step of reading. At a coarser step the
        indexes say the same.
        """
        query = (self.registry, self.policy, place, channel, point.every, t, self.recipient)
        if not point.derived:
            for_good = channel.kind is ValueKind.REG and self.held(place, channel.name)
            return Why.FEW if for_good else steps_wanted(*query)
        basis = may_leave(*query)
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
def _withholding_reasons() -> dict[Why, str]:
    return {
        Why.CONSENT: N_("no consent covers it"),
        **NOT_OCCUPIED,
        Why.FEW: N_(
            "it would reveal the consumption of a few dwellings that are not sent one by one"
        ),
    }


class _RecipientBases(NamedTuple):
    answers: tuple[int, bool]
    since: int
    until: int
    stands: bool


class RegistryBases:
    """Answers from the registry for one spool. The spool's thread calls `stands`, too."""

    def __init__(
        self, assignment: Callable[[], RowAssignment], last_closed: Callable[[], int] = int
    ) -> None:
        self._assignment, self._last_closed = assignment, last_closed
        """`_assignment` returns the current one: a new configuration brings a new one.
        `_last_closed` returns the last closed slot where that lies ahead of the clock, else 0.
        """
        self._cache: dict[Series, _RecipientBases] = {}

    def revision(self) -> int:
        """The number of the registry's last change."""
        return self._assignment().registry.revision

    def recorded(self) -> int:
        """The number of the last change that the registry has on the disk."""
        return self._assignment().registry.last_recorded

    @property
    def mute(self) -> bool:
        """Whether the registry cannot answer at present (see Registry.mute)."""
        return self._assignment().registry.mute

    def stands(self, series: Series, t: int) -> bool:
        """Whether a row of slot t may still leave, on the basis that it carries."""
        assignment = self._assignment()
        if not series.basis:  # the row says only that something is withheld
            return assignment.withholds
        answers, cached = assignment.registry.answers, self._cache.get(series)
        if cached is not None and cached.answers == answers and cached.since <= t < cached.until:
            return cached.stands
        stands = still_covers(
            assignment.registry, assignment.policy, series, t, assignment.recipient
        )
        # Quantities over a period are not cached: the basis must cover the whole period, so the
        # answer may change between two changes of the registry.
        if series.kind not in (ValueKind.INT, ValueKind.AVG):
            next_change = next(iter(assignment.registry.turns(t, t + TEN_YEARS)), t + TEN_YEARS)
            self._cache[series] = _RecipientBases(answers, t, next_change, stands)
        return stands

    def exchange_rows(self, after: int, now: float) -> list[Reading]:
        """The indexes at exchanges of meters that the changes after number `after` recorded, as far
        as a basis covers their instant (rules R14, P29).
        """
        of = self._assignment()
        rows = []
        for index in of.registry.exchange_indexes(after):
            place, channel = index.place, channels()[index.channel]
            if not now - LONGEST_UNSENT < index.t <= now or of.held(place, channel.name):
                continue
            # as a row of the coarsest step: the duty, or else the consent that is hardest to lose
            basis = may_leave(of.registry, of.policy, place, channel, MONTH, index.t, of.recipient)
            if channel.kind is ValueKind.REG and isinstance(basis, Basis):
                series = _series(place, channel, 0, index.meter, basis)
                # a second later than now: the change may have retracted an earlier version
                made = int(now) + 1
                flags = f"{Flag.EXCHANGED}+{Flag.MANUAL}"
                rows.append(
                    Reading(series, index.t, index.value, Quality.RAW, flags=flags, ver=made)
                )
        return rows

    def kept(self, rows: Sequence[Reading]) -> list[Reading]:
        """The rows that may still be stored: a basis covers them, and their meter was there."""
        if self.mute:
            return list(rows)
        return [row for row in rows if self.stands(row.series, row.t) and self._was_there(row)]

    def _was_there(self, row: Reading) -> bool:
        """Whether the meter of a row was in its dwelling then, as far as it is recorded with its
        number. A change that takes a slot from it retracts only what is stored before (rule I22).
        """
        of, at = row.series, row.t
        if of.kind in (ValueKind.INT, ValueKind.AVG):
            at -= 1  # they cover the time before
        meters = [
            meter
            for meter in self._assignment().registry.meters_of(of.place)
            if of.meter and meter.serial == of.meter and meter.channel in (None, of.channel)
        ]
        return not meters or any(covers(meter, at) for meter in meters)

    def taken_back(self, after: int) -> tuple[int, list[Retraction]]:
        """The number of the registry's last change, and the retractions that this recipient is owed
        for the changes after number `after`.

        A recipient that never had a basis in a dwelling learns nothing of its changes.
        """
        assignment = self._assignment()
        revision = assignment.registry.revision
        retractions = [
            retraction
            for _, taken in assignment.registry.effects(after, self._last_closed())
            for retraction in taken
        ]
        return revision, [retraction for retraction in retractions if self._concerns(retraction)]

    def _concerns(self, retraction: Retraction) -> bool:
        registry, recipient = self._assignment().registry, self._assignment().recipient
        if retraction.recipient is not None or retraction.place[:1] != "D":
            return retraction.recipient in (None, recipient)
        if any(duty.recipient == recipient for duty in registry.duties()):
            return True
        given = (consent for consent in registry.consents() if consent.recipient == recipient)
        return any(consent.place == retraction.place for consent in given)


class ShownIndex(NamedTuple):
    """What a meter showed at an instant, as it shows it, before any multiplier."""

    t: int
    value: Decimal


class Forgotten(NamedTuple):
    """An index at this instant was known before a restart, and is lost."""

    t: int
    value: None = None


class Flow(NamedTuple):
    """The quantity at a place between two readings."""

    quantity: Decimal
    exchanged: bool
    """whether more than one meter measured it (flag EXCH)"""
    estimated: bool
    """whether a closing or opening index was missing (quality E)"""


def flow(
    meters: Sequence[Installation], channel: str, last: ShownIndex | Forgotten, now: ShownIndex
) -> Flow | None:
    """The quantity between two good readings of a place; None if no meter measured for some time,
    an index fell, or an index that counts is lost.

    `meters`: all that ever measured the place, in order. Without a closing index nothing is counted
    after the meter's `last` reading; without an opening index nothing is counted for that meter.
    """
    chain = meters_between(meters, channel, last.t, now.t)
    if not chain or chain[0].since > last.t:
        return None
    total, estimated = Decimal(0), False
    for meter, next_meter in zip(chain, [*chain[1:], None], strict=True):
        if next_meter is not None and meter.until != next_meter.since:
            return None
        begins = last.value if meter is chain[0] else dict(meter.opened).get(channel)
        ends = now.value if next_meter is None else dict(meter.closed).get(channel)
        if meter is chain[0] and begins is None and ends is not None:
            return None  # the index at `last` is forgotten, so its part cannot be computed
        if begins is None or ends is None:
            estimated = True
        elif ends < begins:
            return None
        else:
            shown = EXACT.subtract(ends, begins)
            total = EXACT.add(total, EXACT.multiply(shown, meter.multiplier))
    return Flow(total, len(chain) > 1, estimated)


def succession(meter: Installation, meters: Sequence[Installation]) -> list[Installation]:
    """A meter with its predecessors and successors, in order of time.

    `meters`: all that ever measured the place. Two meters that measured at the same time do not
    succeed each other: a dwelling's electricity meter and heat meter, for example, even if both are
    recorded for all channels.
    """
    chain = [meter]
    # meters of the same device, then of the same channel, are the likelier successors
    for other in sorted(meters, key=partial(_distance, meter)):
        if not any(_together(other, member) for member in chain):
            chain.append(other)
    return sorted(chain, key=lambda member: member.since)


def _distance(first: Installation, second: Installation) -> tuple[bool, bool]:
    return second.device != first.device, second.channel != first.channel


def _together(first: Installation, second: Installation) -> bool:
    ends = (first.until or FOREVER, second.until or FOREVER)
    return first == second or (first.since < ends[1] and second.since < ends[0])


def meters_between(
    meters: Sequence[Installation], channel: str, start: int, end: int
) -> list[Installation]:
    """Meters that measured the channel after `start` and up to `end`; a meter installed exactly at
    `end` counts with its opening index.
    """
    return [
        one
        for one in meters
        if one.channel in (None, channel)
        and one.since <= end
        and one.since != one.until
        and (one.until is None or one.until > start)
    ]
