"""The dossier of a place: everything that the gateway knows of it and of its occupants at a date.
Pure.

Every answer about a dwelling (`privacy explain`, the letter and its table, `disclosures`, `access`,
`hotline`) is printed from its dossier, so that no two answers contradict each other. A dossier
names no other dwelling and nobody who lives there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from agent.core.clock import stamp
from agent.core.model import FOR_GOOD
from agent.core.slot_runs import MISSING, VALUE, WITHHELD, beyond, remaining
from agent.registry.access_log import EVERYBODY
from agent.registry.dates import day_written_out, next_midnight
from agent.registry.records import Duty, covers, serial_key
from agent.registry.retractions import FOR_EVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.core.i18n import Text
    from agent.core.slot_runs import SlotRun
    from agent.registry.access_log import AccessEntry
    from agent.registry.explain import Explanation
    from agent.registry.records import (
        Consent,
        ConsentMark,
        Dated,
        Form,
        Installation,
        Occupancy,
        Place,
        Provenance,
    )
    from agent.registry.registry import Registry

STATES = (
    *("none", "asked", "cannot_ask", "confirmed"),
    *("asked_part", "cannot_ask_part", "confirmed_part"),
)
"""states of the erasure of received values; of several that apply the first counts"""


@dataclass(frozen=True, slots=True)
class DisclosedValues:
    """How many values one recipient received on one day."""

    day: str
    recipient: str
    place: str
    channel: str
    basis: str
    values: int
    occupancy: str = ""
    """whose they were; empty: an earlier version did not record it"""
    erasure: str = ""
    """state of their erasure; see `erasure_state`"""


class Erasure(NamedTuple):
    """A retraction: values that a recipient must erase."""

    recipient: str
    place: str
    channel: str | None
    """None: any, as for the next two members"""
    basis: str | None
    occupancy: str | None
    since: int
    until: int | None
    reason: str
    """as in `Retraction`"""
    asked: int
    """since when it is demanded, Unix second"""
    rows: int | None
    """how many rows the recipient reports as erased; None: not confirmed"""
    linked: bool
    """whether the recipient has an uplink through which it is asked"""
    meter: str | None = None
    """None: of any"""
    ver: int = FOR_GOOD
    """rows with a higher version stay"""

    def concerns(self, series: ReceivedRuns) -> bool:
        """Whether it is about rows of this series, as far as time, version and meter allow."""
        return (
            (self.recipient, self.place) == (series.recipient, series.place)
            and self.channel in (None, series.channel)
            and self.basis in (None, series.basis)
            and self.occupancy in (None, series.occupancy)
        )

    def takes(self, received: DisclosedValues) -> bool:
        """Whether these received values are, or may be, among those to erase."""
        return (
            (self.recipient, self.place) == (received.recipient, received.place)
            and self.channel in (None, received.channel)
            and self.basis in (None, received.basis)
            and (not received.occupancy or self.occupancy in (None, received.occupancy))
        )


class ReceivedRuns(NamedTuple):
    """The slots of one series that a recipient has received."""

    recipient: str
    place: str
    channel: str
    basis: str
    """empty: that of a withheld row"""
    occupancy: str
    """empty, as above"""
    runs: tuple[SlotRun, ...]

    def concerns(self, home: Occupancy) -> bool:
        """Whether they are of an occupancy."""
        if self.place != home.place or self.occupancy:
            return self.occupancy == home.id
        return True

    def of(self, home: Occupancy) -> ReceivedRuns:
        """The part in the time of an occupancy, of rows that name none."""
        if self.occupancy:
            return self
        runs = self.runs
        before = [part for run in runs for part in run.outside(-FOR_EVER, home.since)]
        if home.until is not None:
            before = [part for run in before for part in run.outside(home.until, None)]
        return self._replace(runs=tuple(before))

    def count(self, kind: str) -> int:
        """Slots of one kind of row."""
        return sum(run.slots for run in self.runs if run.kind == kind)

    def left(self, kind: str, erasures: Iterable[Erasure]) -> tuple[int, int]:
        """How many slots of one kind the recipient still has, at least and at most."""
        spans: dict[bool, list[tuple[int, int | None, int, str | None]]] = {True: [], False: []}
        for erasure in erasures:
            if erasure.concerns(self) and (erasure.linked or erasure.rows is not None):
                span = (erasure.since, erasure.until, erasure.ver, erasure.meter)
                spans[erasure.rows is not None].append(span)
        runs = [run for run in self.runs if run.kind == kind]
        confirmed = spans[True]
        return remaining(runs, [*confirmed, *spans[False]])[0], remaining(runs, confirmed)[1]

    def beyond(self, known: Iterable[ReceivedRuns]) -> ReceivedRuns:
        """The slots that are not among the known ones of the same series."""
        same = [one for one in known if one[:-1] == self[:-1]]
        return self._replace(
            runs=tuple(beyond([run for one in same for run in one.runs], self.runs))
        )


class WithheldNotice(NamedTuple):
    """A recipient is informed that a channel is withheld, without any value (`withheld: true`)."""

    recipient: str
    place: str
    channel: str
    step: int
    """seconds"""
    why: str


class RecipientKnowledge(NamedTuple):
    """What a recipient was told, or will be, of a dwelling and its people besides values."""

    recipient: str
    facts: tuple[str, ...]
    """names of texts `fact_…` in texts.yaml"""
    schemes: tuple[str, ...]
    """schemes of the dwelling's aliases"""


MORE_MAY_LEAVE = ("meter", "unreadable", "leftover", "clock")
"""kinds of gaps because of which more may leave than is known"""


class KnowledgeGap(NamedTuple):
    """Something that the gateway cannot know about the people of a dwelling."""

    kind: str
    """name of a text `gap_…` in texts.yaml"""
    recipient: str = ""
    detail: str = ""

    def placeholders(self, language: str | None) -> dict[str, str]:
        """What its texts need. The detail of `restored` is a date: in this language, or ISO."""
        detail = self.detail
        if self.kind == "restored" and language is not None:
            detail = day_written_out(detail, language)
        return {"recipient": self.recipient, "detail": detail}


@dataclass(frozen=True, slots=True)
class HeldValue:
    """One value that is still on the gateway."""

    recipient: str
    """for whom it waits; empty: it is kept for a duty"""
    basis: str
    channel: str
    step: int
    since: int | None
    """of a quantity over a period: its beginning"""
    t: int
    value: str
    """with its own digits; empty: missing"""
    unit: str
    quality: str
    remark: str


@dataclass(frozen=True, slots=True)
class AggregateEntry:
    """A sum over dwellings for one recipient, with its members."""

    recipient: str
    channel: str
    step: int | None
    """seconds; None: it is not sent"""
    why: Text
    """when it is sent, or why it is not"""
    since: int | None = None
    until: int | None = None
    """end of the time for which its group is fixed"""
    members: tuple[str, ...] = ()
    """dwellings, by id"""
    counts: int = 0
    """how many of its members the recipient is not sent one by one"""
    last: int | None = None
    """the last slot closed since the start"""
    n: int | None = None
    """how many dwellings were in that slot's sum; None: it was not sent"""


class SumShare(NamedTuple):
    """The part of one dwelling in a sum over dwellings: without the others."""

    recipient: str
    channel: str
    step: int | None
    """seconds; None: it is not sent"""
    why: str
    """when it is sent, or why it is not"""
    since: int | None
    until: int | None
    dwellings: int
    """how many dwellings are in the sum"""
    counts: int
    """how many of them the recipient is not sent one by one"""
    n: int | None
    """how many dwellings were in the last sum; None: it was not sent"""


class DeviceState(NamedTuple):
    """A configured device, as the agent last heard of it."""

    name: str
    serial: str | None
    """serial number that it reports; None: not known yet"""
    numbered: bool
    """whether it can report one"""
    answered: float | None = None
    """when it last answered the running agent; None: not since its start"""
    failures: int = 0
    """consecutive reads without an answer"""
    problem: str = ""
    """of the last read, for people"""
    closed: int | None = None
    """the last time for which it was read, or for which it is recorded why not"""


class MeterState(NamedTuple):
    """A meter of the place: how it was proven, and when it last answered."""

    installation: Installation
    proof: str
    """see `Installation.proof`"""
    device: DeviceState | None
    """None: no device has reported its number"""
    recorded: Provenance
    """who recorded first that it is the meter of this place"""


class RecipientState(NamedTuple):
    """How far the delivery to a recipient works."""

    recipient: str
    connected_since: float | None = None
    last_receipt: float | None = None
    problem: str = ""


class PastOrder(NamedTuple):
    """What was done with equipment by one order."""

    place: str | None
    """place of the device, by id; empty: it measures no dwelling; None: not known"""
    control: str
    equipment: str
    value: str
    unit: str
    by: str
    """who requested it; empty: nobody, or it is not recorded"""
    failsafe: bool
    """whether it is the limit that applies while the platform is not heard"""
    authorization: str
    """the votes and contracts under which it was accepted"""
    reason: str
    """as stated in the order"""
    received: float
    begun: float | None
    """None: it did not begin"""
    ended: float | None
    state: str
    """of the order: `COMPLETED`, `REJECTED`…"""
    result: str
    """why it ended, or was refused"""
    seen: str
    """the worst values of the guards, such as the lowest room temperature"""
    released: bool
    """whether the device has confirmed the release"""
    action: str = ""
    """what the value is: `offset`, `setpoint`…; empty: no longer configured"""


class DutyDate(NamedTuple):
    """A date whose index a duty requires."""

    at: int
    why: str
    """`month`, `bill`, `moved_in` or `moved_out`"""


class Holding(NamedTuple):
    """How many values of one kind a recipient has received, and how many it still has."""

    recipient: str
    channel: str
    basis: str
    received: int
    least: int
    most: int
    """`least` differs from `most` while the gateway cannot know it exactly"""


class Announcement(NamedTuple):
    """How many slots a recipient was told to have no value, and of how many it still knows it."""

    recipient: str
    channel: str
    kind: str
    """MISSING or WITHHELD of agent/core/slot_runs.py"""
    received: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class DossierSources:
    """What the gateway has of all places, besides its registry, as of one moment."""

    building: str
    zone: ZoneInfo
    now: float
    explanations: Sequence[Explanation] = ()
    notices: Sequence[WithheldNotice] = ()
    sums: Sequence[AggregateEntry] = ()
    devices: Sequence[DeviceState] = ()
    recipients: Sequence[RecipientState] = ()
    """those with an uplink"""
    running: bool = False
    """whether the agent runs"""
    closing: frozenset[str] = frozenset()
    """recipients for whom nothing more is collected"""
    disclosed: Sequence[DisclosedValues] = ()
    received: Sequence[ReceivedRuns] = ()
    unconfirmed: Sequence[ReceivedRuns] = ()
    """what recipients may have received without having confirmed it"""
    erasures: Sequence[Erasure] = ()
    held: Sequence[HeldValue] = ()
    known: Sequence[RecipientKnowledge] = ()
    gaps: Sequence[KnowledgeGap] = ()
    looks: Sequence[AccessEntry] = ()
    orders: Sequence[PastOrder] = ()
    keep_days: int = 0
    """days for which copies of received values are kept"""
    responsible: Sequence[str] = ()
    """the controller and the data protection officer, one line each"""
    names: Mapping[str, str] = field(default_factory=dict)
    """what people call recipients, by DNS name"""


@dataclass(frozen=True, slots=True)
class Dossier:
    """Everything that the gateway knows about one place and its occupants."""

    building: str
    place: Place
    zone: ZoneInfo
    now: float
    at: int
    """the date for which it is, Unix second"""
    home: Occupancy | None
    """None: the dwelling is vacant or its occupancy unknown"""
    moved_in: Provenance | None
    """who notified that they moved in"""
    moved_out: Provenance | None
    """who notified that they moved out"""
    former: Sequence[Occupancy]
    """the other occupancies of the place, whose data are not in this dossier"""
    meters: Sequence[MeterState]
    explanations: Sequence[Explanation]
    consents: Sequence[Consent]
    duties: Sequence[Duty]
    disclosed: Sequence[DisclosedValues]
    keep_days: int
    received: Sequence[ReceivedRuns] = ()
    unconfirmed: Sequence[ReceivedRuns] = ()
    """what the recipients may have received without having confirmed it"""
    held: Sequence[HeldValue] = ()
    marks: Sequence[ConsentMark] = ()
    forms: Sequence[Form] = ()
    stopped: Sequence[Consent] = ()
    """consents that were withdrawn just now"""
    summed: Sequence[SumShare] = ()
    here: bool = True
    """whether they live there at that date, or nobody does"""
    stop: bool = False
    """whether they asked to withdraw all their consents"""
    recipients: Mapping[str, RecipientState] = field(default_factory=dict)
    running: bool = False
    vacant_since: int | None = None
    """if `home` is None: since when it is vacant; None: its occupancy is unknown"""
    notices: Sequence[WithheldNotice] = ()
    known: Sequence[RecipientKnowledge] = ()
    erasures: Sequence[Erasure] = ()
    gaps: Sequence[KnowledgeGap] = ()
    """what the gateway cannot know"""
    looks: Sequence[AccessEntry] = ()
    """who looked at their data on this gateway"""
    orders: Sequence[PastOrder] = ()
    """orders on equipment of the dwelling, or on common equipment while they lived there"""
    responsible: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def linked(self) -> frozenset[str]:
        """The recipients with an uplink."""
        return frozenset(self.recipients)

    @property
    def withheld(self) -> list[Explanation]:
        """The quantities of which a recipient is sent nothing in any form."""
        sent = {(one.recipient, one.channel) for one in self.explanations if one.step is not None}
        kept = {
            (one.recipient, one.channel): one
            for one in self.explanations
            if (one.recipient, one.channel) not in sent
        }
        return list(kept.values())

    def ends(self, until: int | None) -> int | None:
        """When something that ends at `until` ends for these people: at their move-out at the
        latest.
        """
        gone = None if self.home is None else self.home.until
        return min((one for one in (until, gone) if one is not None), default=None)

    def standing(self, basis: Consent | Duty) -> str:
        """State of a consent or a duty at that date, as the name of a text."""
        until = self.ends(basis.until)
        if self.at < basis.since:
            return "begins_later"
        if until is not None and until <= self.at:
            return "ended"
        if isinstance(basis, Duty) and not self.concerned_by(basis):
            return "concerns_nothing"
        return "in_force" if basis.recipient in self.linked else "in_force_no_uplink"

    def concerned_by(self, duty: Duty) -> bool:
        """Whether a meter of the place measures what a duty requires, as far as is known."""
        if not self.here or self.lacks_any("meter"):
            return bool(self.meters)
        return any(one.channel in duty.channels for one in self.explanations)

    def lacks_any(self, kind: str) -> bool:
        """Whether there is a gap of this kind, whomever it is about."""
        return any(one.kind == kind for one in self.gaps)

    def lacks(self, kind: str, recipient: str = "") -> bool:
        """Whether there is a gap of this kind."""
        return any(one.kind == kind and one.recipient == recipient for one in self.gaps)

    def duty_dates(self, duty: Duty) -> list[DutyDate]:
        """The next date of each kind whose index the duty requires of these people."""
        if self.home is None or not self.here or not self.concerned_by(duty):
            return []
        begins = max(self.at, duty.since, self.home.since)
        dates = [DutyDate(next_midnight(begins, self.zone, None), "month")]
        dates += [
            DutyDate(next_midnight(begins, self.zone, billing), "bill") for billing in duty.billing
        ]
        moves = ((self.home.since, "moved_in"), (self.home.until, "moved_out"))
        dates += [DutyDate(at, why) for at, why in moves if at is not None and at >= self.at]
        until = self.ends(duty.until)
        # the index at the move-out belongs to those who leave
        return sorted(
            one
            for one in dates
            if (until is None or one.at < until or one.at == self.home.until)
            and (duty.until is None or one.at < duty.until)
        )

    def holdings(self) -> list[Holding]:
        """What each recipient has received of these people, and what of it it still has, with what
        it may have received without having confirmed it (rule P28).
        """
        received: dict[tuple[str, str, str], list[DisclosedValues]] = {}
        for values in self.disclosed:
            key = (values.recipient, values.channel, values.basis)
            received.setdefault(key, []).append(values)
        slots: dict[tuple[str, str, str], list[ReceivedRuns]] = {}
        for runs in self.received:
            slots.setdefault((runs.recipient, runs.channel, runs.basis), []).append(runs)
        may_have: dict[tuple[str, str, str], int] = {}
        for runs in self.unconfirmed:
            key = (runs.recipient, runs.channel, runs.basis)
            _, more = runs.beyond(slots.get(key, ())).left(VALUE, self.erasures)
            may_have[key] = may_have.get(key, 0) + more
        holdings = []
        for key in sorted(received.keys() | {key for key, more in may_have.items() if more}):
            parts = received.get(key, [])
            least, most = _remaining(parts, slots.get(key, ()), self.erasures)
            number = sum(one.values for one in parts)
            holdings.append(Holding(*key, number, least, most + may_have.get(key, 0)))
        return holdings

    def erasure_of(self, values: DisclosedValues) -> str:
        """State of the erasure of received values, as `erasure_state`; if nothing or all of their
        kind is left, a confirmed erasure of a part says so.
        """
        state = erasure_state(values, self.erasures)
        if state == "confirmed_part":
            key = (values.recipient, values.channel, values.basis)
            holding = next(one for one in self.holdings() if one[:3] == key)
            if not holding.most:
                return "confirmed"
            if holding.least == holding.received:
                return "none"
        return state

    def announcements(self) -> list[Announcement]:
        """What the recipients were told without a value: that one is missing, or is withheld."""
        totals: dict[tuple[str, str, str], list[tuple[int, int, int]]] = {}
        for runs in self.received:
            for kind in (MISSING, WITHHELD):
                if received := runs.count(kind):
                    key = (runs.recipient, runs.channel, kind)
                    left = runs.left(kind, self.erasures)
                    totals.setdefault(key, []).append((received, *left))
        return [
            Announcement(*key, *(sum(column) for column in zip(*counts, strict=True)))
            for key, counts in sorted(totals.items())
        ]


def dossier(  # noqa: PLR0913 -- its facts
    registry: Registry,
    sources: DossierSources,
    place: Place,
    home: Occupancy | None,
    at: int,
    *,
    stopped: Sequence[Consent] | None = None,
    past: bool = False,
) -> Dossier:
    """The dossier of a place at a time: what holds then by what is recorded now, and what had
    happened until then. `home`: the occupants whose dossier it is; None: nobody
    lives there. `stopped`: they asked to end all their consents, and these were ended. `past`: the
    time is a past one that somebody named, not that of the question.
    """
    present = registry.occupancy_at(place.id, at)
    here = home is None or home == present
    consents = [one for one in registry.consents() if home and one.occupancy == home.id]
    installed = registry.meters_of(place.id)
    ids = {one.id for one in consents} | {one.id for one in installed}
    first = registry.first_provenance(ids | ({home.id} if home else set()))
    duties = registry.duties() if place.type == "dwelling" else ()
    meters = [
        MeterState(
            one,
            one.proof({serial_key(two.serial) for two in sources.devices if two.serial}),
            _device_of(one, sources.devices),
            first[one.id],
        )
        for one in installed
        if home is None or overlaps(one, home)
    ]
    lasted = registry.lasted(home) if home else (0, None)
    # Without a past date everything counts: a wrong clock may have dated it in the future.
    ends = at if past else FOR_EVER
    unidentified = [
        KnowledgeGap("meter", "", meter.installation.meter)
        for meter in meters
        if here and covers(meter.installation, at) and _unidentified(meter, sources.devices)
    ]
    return Dossier(
        building=sources.building,
        place=place,
        zone=sources.zone,
        now=sources.now,
        at=at,
        home=home,
        moved_in=first[home.id] if home else None,
        moved_out=home.word if home and home.until is not None else None,
        former=[one for one in registry.occupancies_of(place.id) if one != home],
        vacant_since=registry.occupancy_state(place.id, at)[1] if home is None else None,
        meters=meters,
        explanations=[one for one in sources.explanations if here and one.place == place.id],
        consents=consents,
        marks=registry.marks(home.id) if home else [],
        forms=[one for one in registry.forms() if home and one.occupancy == home.id],
        duties=[one for one in duties if (overlaps(one, home) if home else covers(one, at))],
        disclosed=[
            one
            for one in sources.disclosed
            if home and one.place == place.id and (not past or one.day <= stamp(at)[:10])
            if is_of_occupancy(one, home, registry.consents())
        ],
        # by slots, so that nothing of it is known as of an earlier date
        received=[
            one.of(home) for one in sources.received if home and not past and one.concerns(home)
        ],
        unconfirmed=[
            one.of(home) for one in sources.unconfirmed if home and not past and one.concerns(home)
        ],
        erasures=[
            one
            for one in sources.erasures
            if home and one.place == place.id and _erases_of_occupancy(one, home, lasted)
        ],
        # what waited at an earlier date is not recorded
        held=sources.held if home and not past else [],
        known=sources.known,
        gaps=[*unidentified, *sources.gaps],
        summed=[
            SumShare(
                *(one.recipient, one.channel, one.step, one.why, one.since, one.until),
                *(len(one.members), one.counts, one.n),
            )
            for one in sources.sums
            if here and place.id in one.members and one.recipient not in sources.closing
        ],
        notices=[one for one in sources.notices if here and one.place == place.id],
        looks=[
            one
            for one in sources.looks
            if one.place in (place.id, EVERYBODY)
            and one.at <= ends
            and (
                (home is not None and one.occupancy == home.id)
                if one.occupancy
                else registry.occupancy_at(place.id, one.at) == home
            )
        ],
        orders=[
            one for one in sources.orders if one.received <= ends and _concerns(one, place, home)
        ],
        keep_days=sources.keep_days,
        stopped=stopped or (),
        stop=stopped is not None,
        here=here,
        recipients={one.recipient: one for one in sources.recipients},
        running=sources.running,
        responsible=sources.responsible,
        names=sources.names,
    )


def _device_of(meter: Installation, devices: Iterable[DeviceState]) -> DeviceState | None:
    """The configured device that a meter is."""
    if meter.device is not None:
        return next((one for one in devices if one.name == meter.device), None)
    number = serial_key(str(meter.serial))
    return next((one for one in devices if one.serial and serial_key(one.serial) == number), None)


def _unidentified(meter: MeterState, devices: Iterable[DeviceState]) -> bool:
    """Whether it is not known yet which device a meter is."""
    installation = meter.installation
    if installation.device is None:
        return meter.device is None
    # it will be bound to the first serial number that the device gives
    silent = {one.name for one in devices if one.serial is None and one.numbered}
    return installation.serial is None and installation.device in silent


def _concerns(order: PastOrder, place: Place, home: Occupancy | None) -> bool:
    """Whether an order was on equipment of the place, or on common equipment of its occupants."""
    if order.place is None:
        return False
    if order.place != place.id and (order.place[:1] == "D" or place.type != "dwelling"):
        return False
    at = order.received if order.begun is None else order.begun
    return home is None or covers(home, int(at))


def is_of_occupancy(values: DisclosedValues, home: Occupancy, consents: Sequence[Consent]) -> bool:
    """Whether received values belong to an occupancy, not to the one before or after.

    Old records name no occupancy: the consent decides then, and without one the day.
    """
    if values.occupancy:
        return values.occupancy == home.id
    given = {consent.id: consent.occupancy for consent in consents}
    if values.basis in given:
        return given[values.basis] == home.id
    until = None if home.until is None else stamp(home.until)[:10]
    return values.day >= stamp(home.since)[:10] and (until is None or values.day <= until)


def _erases_of_occupancy(erasure: Erasure, home: Occupancy, lasted: tuple[int, int | None]) -> bool:
    """Whether an erasure removes rows of an occupancy. `lasted`: see `Registry.lasted`."""
    if erasure.occupancy is not None:
        return erasure.occupancy == home.id
    since, until = lasted
    ends = erasure.until is None or erasure.until > since
    return ends and (until is None or erasure.since <= until)


def overlaps(document: Dated, home: Occupancy) -> bool:
    """Whether a document holds at any time of an occupancy, including its last instant."""
    ends = document.until is None or document.until > home.since
    return (
        ends
        and (home.until is None or document.since <= home.until)
        and document.since != document.until
    )


def erasure_state(received: DisclosedValues, erasures: Iterable[Erasure]) -> str:
    """State of the erasure of received values: `asked` (not confirmed yet), `cannot_ask` (no
    uplink), `confirmed`; with `_part` if only some of them may be concerned; or `none`.
    """
    whole, part = set(), set()
    for erasure in erasures:
        if not erasure.takes(received):
            continue
        state = "asked" if erasure.linked else "cannot_ask"
        state = state if erasure.rows is None else "confirmed"
        if erasure.reason == "withdrawn" and erasure.basis == received.basis:
            whole.add(state)  # a withdrawal holds for ever, whenever the values arrive
        # other retractions concern a period; the record has days only, so perhaps a part of them
        elif received.day <= stamp(erasure.asked)[:10]:
            part.add(f"{state}_part")
    return next((state for state in STATES if state in whole | part), "none")


def _remaining(
    received: Sequence[DisclosedValues],
    slots: Sequence[ReceivedRuns],
    erasures: Sequence[Erasure],
) -> tuple[int, int]:
    """How many of these values of one kind the recipient still has, at least and at most.

    Of values that an earlier version counted, the slots are not known.
    """
    least = most = 0
    for values in received:
        state = erasure_state(values, erasures)
        most += 0 if state == "confirmed" else values.values
        least += values.values if state in {"none", "cannot_ask", "cannot_ask_part"} else 0
        if state == "confirmed_part":
            least += values.values
    parts = [one for one in erasures if one.rows and any(map(one.takes, received))]
    partial = sum(one.rows or 0 for one in parts if one.reason != "withdrawn")
    known = sum(one.count(VALUE) for one in slots)
    others = max(0, sum(one.values for one in received) - known)
    left = [one.left(VALUE, erasures) for one in slots]
    return (
        sum(one for one, _ in left) + min(others, max(0, least - partial - known)),
        sum(one for _, one in left) + min(others, most),
    )
