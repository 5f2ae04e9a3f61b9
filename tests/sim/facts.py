"""What a journal states, sorted: who could know what when, what the devices showed, what was sent.

Written from docs/rules, as the judge is. A fact that a person or an object stated binds the gateway
from the moment at which it was answered (rule P13); between question and answer, and for ever if
the answer was lost, both states of it are right: `known` is then None.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

DAY = 86_400
MONTH = 30 * DAY
NEVER = float("inf")
QUIET = ("look", "order", "cancel", "release", "opt-out", "inhibit", "priority", "guard")
"""events that disturb no reading and no delivery"""
QUARANTINED = 27 * 3600.0
"""seconds for which what a recipient refused may wait (T17): a day, and `SETTLES`"""
SETTLES = 3 * 3600.0
"""seconds after the last fault in which all is as it should be, and before the end of the quiet
time in which something may still be on its way: no wait of the rules is longer than an hour, but
for what a recipient refused (T17) and what became too old (P14)
"""
DELIVERED = 7200.0
"""seconds after which all of the spool in memory is delivered, if nothing hinders it"""
NOTICED = 120.0
"""seconds in which the agent finds that a disk only fails to write, or can be written again: it
writes and tries each minute
"""
RECOVERED = 60.0
"""seconds after a receipt in which the withdrawal that it names is recorded"""
SLACK = RTC_AGREES = 120.0
STEPPED = 2.0
"""seconds by which a clock that moves has not stepped (rule C8)"""
REMEMBERED = 3720.0
"""seconds by which the last proved time that is on the disk may lie before the last proved one"""
BACK = 10.0
"""seconds by which a clock that is back may differ from what it was (rule C4)"""
UNKEPT = 8 * DAY + 32_000
"""seconds after which a clock that no service keeps surely is untrusted (rule C7): the kernel needs
hours to see that nobody keeps it
"""
FLOWS = ("INT", "AVG")
"""kinds that are of the time (t − step, t]"""


class Record(NamedTuple):
    """As in tests.sim.world: what happened, at which true time."""

    at: float
    kind: str
    what: Mapping[str, Any]


@dataclass
class Life:
    """One process of the agent, in true time."""

    number: int
    begin: float
    boot: str = ""
    ready: float = NEVER
    end: float = NEVER
    how: str = ""
    text: str = ""
    index: int = 0


@dataclass
class Trouble:
    """An event of the plan while it takes effect."""

    do: str
    begin: float
    end: float
    what: Mapping[str, Any]
    index: int


@dataclass
class Basis:
    """A consent or duty of which a recipient was to profit; times without `asked` are as stated."""

    id: str
    kind: str
    recipient: str
    channels: frozenset[str]
    step: int
    since: float
    until: float
    asked: float
    known: float | None
    place: str = ""
    occupancy: str = ""
    given: float | None = None
    """when its paper was signed, if somebody stated that"""
    ended: float = NEVER
    """from when its end was asked for; never required afterwards"""
    ended_known: float | None = None
    """when `until` was answered, if it was stated afterwards"""
    gone: float = NEVER
    """from when its withdrawal was answered; never allowed afterwards"""
    doubted: bool = False
    """whether a withdrawal was asked for, which erases all of its rows"""
    only_noted: list[tuple[float, float]] = field(default_factory=list)
    """when its withdrawal was in force though the disk could not record it (rule A7)"""
    unrecorded: bool = False
    """whether it was accepted although the disk could not record it (rule A10)"""
    index: int = 0
    purpose: str = ""


@dataclass
class Stay:
    """An occupancy, and when each of its ends was known."""

    id: str
    place: str
    since: float
    known: float | None
    until: float = NEVER
    until_asked: float = NEVER
    until_known: float | None = None
    only_noted: list[tuple[float, float, float]] = field(default_factory=list)
    """from when to when an end was in force though the disk could not record it, and that end (rule
    A7)
    """


@dataclass
class Fitted:
    """A meter at a place and channel, as recorded."""

    meter: str
    place: str
    channel: str
    device: Any
    line: Any
    since: float
    known: float | None
    reports: bool = True
    """whether the device tells its number; if not, nothing is sent before somebody has proven it"""
    until: float = NEVER
    until_asked: float = NEVER
    until_known: float | None = None
    closing: str | None = None
    opening: str | None = None
    closing_asked: list[str] = field(default_factory=list)
    """closing indexes that somebody stated without an answer"""
    removed: bool = False
    """whether nobody put another one in"""
    multiplier: Decimal = Decimal(1)
    offset: Decimal = Decimal(0)

    def index(self, shown: Decimal) -> Decimal:
        """The index of the place, of one of the meter (rule I20)."""
        return shown * self.multiplier + self.offset


class Answer(NamedTuple):
    """A value that a meter gave."""

    at: float
    wall: float
    value: Decimal
    odd: bool = False
    """whether the meter is broken and does not show this"""


@dataclass(frozen=True)
class Row:
    """A row as it was sent; a run of missing slots is one."""

    place: str
    channel: str
    kind: str
    step: int
    t: int
    q: str
    v: str | None = None
    why: str | None = None
    meter: str | None = None
    occupancy: str | None = None
    basis: str = ""
    d: int = 0
    span: int = 1
    ver: int | None = None
    again: bool = False
    flags: str = ""
    n: int | None = None
    unit: str = ""

    @property
    def slot(self) -> tuple[str, str, str, int, int]:
        return self.place, self.channel, self.kind, self.step, self.t

    @property
    def at(self) -> int:
        """The instant by which the row belongs to an interval [from, to) (rule I10)."""
        return self.t - 1 if self.kind in FLOWS else self.t


@dataclass
class Batch:
    """What has one sha256, and when it left."""

    recipient: str
    epoch: str
    seq: int
    sha256: str
    rows: list[Row]
    retract: list[Mapping[str, Any]]
    directory: Mapping[str, list[Mapping[str, Any]]]
    void: str | None
    lane: str
    kept: str | None
    """what its own bytes say; a void never says it"""
    size: int
    index: int
    created: str = ""
    sent: list[tuple[float, int]] = field(default_factory=list)
    stored: float = NEVER
    of_memory: bool = False
    """whether its epoch is one of a spool in memory (rule A2)"""

    @property
    def id(self) -> tuple[str, str, int]:
        return self.recipient, self.epoch, self.seq


@dataclass
class Held:
    """A row at the platform."""

    row: Row
    batch: Batch
    at: float


@dataclass
class Platform:
    """What one recipient holds at the end, as the SQL of docs/platform.md makes it."""

    places: dict[str, dict[tuple[Any, ...], Held]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    slots: dict[tuple[Any, ...], list[Held]] = field(default_factory=dict)
    retracted: dict[str, dict[str, Mapping[str, Any]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    items: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    told_by: dict[tuple[str, str], Batch] = field(default_factory=dict)
    """the batch of each item"""
    collisions: list[tuple[Row, Batch, Held]] = field(default_factory=list)

    def store(self, batch: Batch, at: float) -> None:
        for one in batch.retract:
            self.retracted[one["place"]][one["id"]] = one
            rows = self.places[one["place"]]
            for key in [key for key, held in rows.items() if covers(one, held.row)]:
                del rows[key]
        for row in expanded(batch.rows):
            if not any(covers(one, row) for one in self.retracted[row.place].values()):
                self._keep(row, batch, at)
        for name, items in batch.directory.items():
            for item in items if name != "before" else ():
                key = name, identity(name, item)
                before = self.told_by.get(key, batch)
                # of an epoch, the item of the later batch counts, whichever arrives first
                if before.epoch != batch.epoch or before.seq <= batch.seq:
                    self.items[key], self.told_by[key] = item, batch

    def _keep(self, row: Row, batch: Batch, at: float) -> None:
        key = (*row.slot, row.ver or 0)
        held = self.places[row.place].get(key)
        if held is None:
            self.places[row.place][key] = Held(row, batch, at)
        elif not row.again and not held.row.again:
            self.collisions.append((row, batch, held))

    @property
    def rows(self) -> list[Held]:
        return [held for rows in self.places.values() for held in rows.values()]

    def sort(self) -> None:
        """By slot, the row with the highest version last."""
        by_slot = defaultdict(list)
        for held in sorted(self.rows, key=lambda held: held.row.ver or 0):
            by_slot[held.row.slot].append(held)
        self.slots = dict(by_slot)


def identity(name: str, item: Mapping[str, Any]) -> str:
    """What an item of a directory is of."""
    if name == "series":
        return "/".join(str(item.get(part)) for part in ("place", "channel", "kind", "step"))
    if name == "outcomes":
        return "/".join(str(item.get(part)) for part in ("jti", "state", "asset", "at"))
    return str(item.get("id", name))


def expanded(rows: Iterable[Row]) -> Iterator[Row]:
    """Each slot of a run by itself."""
    for row in rows:
        if row.span == 1:
            yield row
            continue
        values = {name: getattr(row, name) for name in Row.__dataclass_fields__}
        for n in range(row.span):
            yield Row(**(values | {"t": row.t + n * row.step, "span": 1}))


def second(moment: Any) -> float:
    """A time of a document, in Unix seconds."""
    if isinstance(moment, str):
        return dt.datetime.fromisoformat(moment).timestamp()
    return float(moment)


def covers(retraction: Mapping[str, Any], row: Row) -> bool:
    """Whether a retraction erases this row (docs/platform.md)."""
    since = retraction.get("since", retraction.get("from"))
    until = retraction.get("until", retraction.get("to"))
    return (
        retraction["place"] == row.place
        and (row.ver or 0) <= int(retraction["ver"])
        and all(
            retraction.get(name) in (None, getattr(row, name))
            for name in ("channel", "occupancy", "basis", "meter")
        )
        and second(since) <= row.at
        and (until is None or row.at < second(until))
    )


@dataclass
class Numbers:
    """Which meter each device stated to be, and what of another meter is taken for its (I33)."""

    given: dict[Any, tuple[float, str]] = field(default_factory=dict)
    """by device: when it last gave a number, and which; none once it must be asked again (I16)"""
    last: dict[tuple[Any, str], Decimal] = field(default_factory=dict)
    """by device and channel: its last answer"""
    taken: dict[tuple[str, str], list[Answer]] = field(default_factory=lambda: defaultdict(list))
    """by meter and channel: answers of another meter in its place"""
    moments: dict[Any, list[float]] = field(default_factory=lambda: defaultdict(list))
    """by device: each time that it gave a number"""

    def answered(self, answer: Answer, what: Mapping[str, Any]) -> None:
        """Another meter is taken for the one before if it shows no less, for at most a day."""
        asked, meter = self.given.get(what["device"], (0.0, what["meter"]))
        key = what["device"], what["channel"]
        last, self.last[key] = self.last.get(key, answer.value), answer.value
        if meter != what["meter"] and last <= answer.value and answer.at - asked <= DAY:
            self.taken[meter, what["channel"]].append(answer)


class Facts:
    """A plan and its journal, sorted."""

    def __init__(self, plan: Mapping[str, Any], journal: Sequence[Any]) -> None:
        self.plan = plan
        self.journal = [Record(*record) for record in journal]
        self.building: Mapping[str, Any] = {}
        self.lives: list[Life] = []
        self.troubles: list[Trouble] = []
        self.configured: list[tuple[float, Mapping[str, Any]]] = []
        self.clock: list[tuple[float, float, bool]] = []
        self.kept: list[tuple[float, float, bool]] = []
        """(at, apart, whether a service has set it so): of the clock"""
        self.by_rtc: list[bool] = []
        """whether a battery-backed clock agrees with it, for each of these"""
        self.bases: dict[str, Basis] = {}
        self.stays: list[Stay] = []
        self.fitted: list[Fitted] = []
        self.doubts: list[tuple[str, float, float, str | None]] = []
        """(place, from, to, recipient): what is recorded of that place, for that recipient or for
        all, is not known then"""
        self.answers: dict[tuple[str, str], list[Answer]] = defaultdict(list)
        self.numbers = Numbers()
        self.silent: dict[Any, list[float]] = defaultdict(list)
        self.batches: dict[str, Batch] = {}
        self.platforms: dict[str, Platform] = defaultdict(Platform)
        self._given: dict[str, float] = {}
        self.counted: dict[tuple[float, str], Counter[Any]] = {}
        """at a look, by recipient, channel, basis and occupancy: the values that a recipient has"""
        self.settled: dict[tuple[float, str], Counter[Any]] = {}
        """of these, those whose receipt was given a minute before"""
        self.forgotten: dict[tuple[float, str], Counter[Any]] = {}
        """of those that a recipient holds, those of which a power cut may have lost the record"""
        self.cuts: list[float] = []
        """when the machine lost its power"""
        self.receipts: list[tuple[float, Mapping[str, Any], int]] = []
        self.writes: list[tuple[float, Mapping[str, Any], int]] = []
        self.calls: list[tuple[float, Mapping[str, Any], int]] = []
        self.objects: dict[str, tuple[float, Mapping[str, Any], int]] = {}
        self.acked: dict[str, float] = {}
        self.spools: list[tuple[float, Mapping[str, Any], int]] = []
        self.statuses: list[tuple[float, Mapping[str, Any], int]] = []
        self.wakes: list[tuple[float, Mapping[str, Any], int]] = []
        self.swaps: list[tuple[float, Mapping[str, Any], int]] = []
        self.heartbeats: list[tuple[float, float]] = []
        """(when it arrived, the time that it states): signed time, each time it was brought"""
        self.end = self.journal[-1].at if self.journal else 0.0
        self._read()
        self.restored: list[tuple[str, float, Any, int]] = []
        """(clause, asked, fact, index): consents that the repetition of a list has given"""
        self.outcomes = self._all_outcomes()
        self._learn()
        self._sort()
        self.zone = ZoneInfo(self.building.get("zone", "Europe/Paris"))
        self._dates()

    def _sort(self) -> None:
        for platform in self.platforms.values():
            platform.sort()

    # records

    def _read(self) -> None:
        for index, record in enumerate(self.journal):
            reader = getattr(self, "_" + record.kind.replace(".", "_"), None)
            if reader is not None:
                reader(record.at, record.what, index)
        last = max([0.0, *(float(event["at"]) for event in self.plan["events"])])
        quiet = self.plan["begin"] + max(self.plan["days"] * DAY, last)
        for trouble in self.troubles:  # whatever lasts longer ends then
            trouble.end = max(trouble.begin, min(trouble.end, quiet))
        memory = {batch.id[:2] for batch in self.batches.values() if batch.kept}
        for batch in self.batches.values():
            batch.of_memory = batch.id[:2] in memory

    def _building(self, at: float, what: Mapping[str, Any], _index: int) -> None:
        self.building = what
        for place in what.get("places", ()):
            if place.get("occupancy"):
                self.stays.append(
                    Stay(place["occupancy"], place["place"], second(place["since"]), at)
                )
        for meter in what.get("meters", ()):
            self.fitted.append(
                Fitted(
                    meter["meter"],
                    meter["place"],
                    meter["channel"],
                    meter.get("device"),
                    meter.get("line"),
                    second(meter.get("since", 0)),
                    at,
                    meter.get("reports", True),
                    multiplier=Decimal(str(meter.get("multiplier") or 1)),
                    offset=Decimal(str(meter.get("offset") or 0)),
                )
            )

    def _life_begun(self, at: float, what: Mapping[str, Any], index: int) -> None:
        self.numbers.given.clear()
        self.lives.append(Life(what["life"], at, what.get("boot", ""), index=index))

    def _life_ready(self, at: float, _what: Mapping[str, Any], _index: int) -> None:
        self.lives[-1].ready = at

    def _life_ended(self, at: float, what: Mapping[str, Any], index: int) -> None:
        life = self.lives[-1]
        life.end, life.how, life.text = at, what["how"], str(what.get("text", ""))
        life.index = index
        self.cuts += [at] if life.how == "power" else []

    def _event(self, at: float, what: Mapping[str, Any], index: int) -> None:
        number = what.get("index")
        if what.get("ended"):
            for trouble in self.troubles:
                if trouble.what.get("index") == number and trouble.end == NEVER:
                    trouble.end = at
            return
        do = what.get("do") or self.plan["events"][number]["do"]
        lasts = "for" in what and do != "opt-out"
        self.troubles.append(Trouble(do, at, NEVER if lasts else at, what, index))
        if do == "power" and self.lives and self.lives[-1].end <= at:  # while no agent ran
            self.cuts.append(at)

    def _configured(self, at: float, what: Mapping[str, Any], _index: int) -> None:
        self.configured.append((at, what))

    def _clock(self, at: float, what: Mapping[str, Any], _index: int) -> None:
        self.clock.append((at, what["apart"], bool(what["service"])))
        self.kept.append((at, what["apart"], what.get("kept", bool(what["service"]))))
        rtc = what.get("rtc")
        self.by_rtc.append(rtc is not None and abs(rtc - what["apart"]) <= RTC_AGREES)

    def _meter(self, at: float, what: Mapping[str, Any], index: int) -> None:
        self.swaps.append((at, what, index))

    def _heartbeat(self, at: float, what: Mapping[str, Any], _index: int) -> None:
        self.heartbeats.append((at, float(what["signed"])))

    def _answer(self, at: float, what: Mapping[str, Any], _index: int) -> None:
        if what.get("value") is not None:
            answer = Answer(at, what["wall"], Decimal(what["value"]), what.get("odd", False))
            self.answers[what["meter"], what["channel"]].append(answer)
            self.numbers.answered(answer, what)

    def reported(self, meter: str, channel: str) -> list[Answer]:
        """The answers that are read as this meter's, in the order of time."""
        own, key = self.answers.get((meter, channel), []), (meter, channel)
        return sorted([*own, *self.numbers.taken[key]]) if key in self.numbers.taken else own

    def _number(self, at: float, what: Mapping[str, Any], _index: int) -> None:
        self.numbers.given[what["device"]] = at, what["meter"]
        self.numbers.moments[what["device"]].append(at)

    def _opened(self, _at: float, what: Mapping[str, Any], _index: int) -> None:
        for meter in self.building.get("meters", ()):
            if meter.get("line") == what["line"]:
                self.numbers.given.pop(meter["device"], None)

    def _silent(self, at: float, what: Mapping[str, Any], _index: int) -> None:
        self.silent[what["device"]].append(at)
        self.numbers.given.pop(what["device"], None)

    def _write(self, at: float, what: Mapping[str, Any], index: int) -> None:
        self.writes.append((at, what, index))

    def _call(self, at: float, what: Mapping[str, Any], index: int) -> None:
        self.calls.append((at, what, index))
        for fact in what.get("means") or ():  # the registry has changed one of its meters
            if fact["fact"] in {"exchange", "removal"} and what.get("outcome") == "accepted":
                self.numbers.given.pop(fact.get("device"), None)

    def _object(self, at: float, what: Mapping[str, Any], index: int) -> None:
        if what.get("acked"):
            self.acked.setdefault(what["jti"], at)
        else:
            self.objects.setdefault(what["jti"], (at, what, index))

    def _sent(self, at: float, what: Mapping[str, Any], index: int) -> None:
        batch = self.batches.get(what["sha256"])
        if batch is None:
            rows = [
                Row(**{name: row[name] for name in Row.__dataclass_fields__ if name in row})
                for row in what.get("rows") or ()
            ]
            batch = Batch(
                what["recipient"],
                what["epoch"],
                what["seq"],
                what["sha256"],
                rows,
                list(what.get("retract") or ()),
                what.get("directory") or {},
                what.get("void"),
                what.get("lane", ""),
                what.get("kept"),
                what.get("bytes", 0),
                index,
                what.get("created") or "",
            )
            self.batches[what["sha256"]] = batch
        batch.sent.append((at, index))

    def _stored(self, at: float, what: Mapping[str, Any], _index: int) -> None:
        batch = self.batches.get(what["sha256"])
        if batch is not None and not what.get("again") and batch.stored == NEVER:
            batch.stored = at
            self.platforms[batch.recipient].store(batch, at)

    def _receipt(self, at: float, what: Mapping[str, Any], index: int) -> None:
        self.receipts.append((at, what, index))
        for _, sha256, *_ in what.get("stored") or ():
            self._given.setdefault(sha256, at)

    def _spools(self, at: float, what: Mapping[str, Any], index: int) -> None:
        self.spools.append((at, what, index))

    def _status(self, at: float, what: Mapping[str, Any], index: int) -> None:
        self.statuses.append((at, what, index))
        place = what.get("place") or ""
        counted, settled, forgotten = Counter[Any](), Counter[Any](), Counter[Any]()
        for name, platform in self.platforms.items():
            for held in platform.places[place].values():
                row = held.row
                if row.v is not None:
                    key = name, row.channel, row.basis, row.occupancy
                    counted[key] += 1
                    settled[key] += self._given.get(held.batch.sha256, at) < at - 60
                    forgotten[key] += self.may_be_forgotten(held.batch)
        self.counted[at, place], self.settled[at, place] = counted, settled
        self.forgotten[at, place] = forgotten

    def undone(self, at: float, recipient: str, id_: str) -> bool:
        """Whether a power cut may have undone a withdrawal that was sent from memory, and that is
        not in force again by then (A, remaining risks; D12).
        """
        return at <= self.bases[id_].gone and any(
            one.get("reason") == "withdrawn" and one.get("basis") == id_
            for batch in self.batches.values()
            if batch.recipient == recipient and self.may_be_forgotten(batch, at)
            for one in batch.retract
        )

    def may_be_forgotten(self, batch: Batch, at: float = NEVER) -> bool:
        """Whether the power was cut before the disk has taken over what a recipient received from
        memory (A, remaining risks). The record of memory is taken over once all of it is delivered.
        """
        sent = batch.sent[0][0]
        for cut in [cut for cut in self.cuts if batch.kept and sent < cut <= at]:
            failing = [one for one in self.troubles if one.do == "disk" and one.begin < cut]
            works = max((one.end for one in failing), default=sent)
            delivered = works + DELIVERED
            hindered = self.during(works, delivered, "uplink", "reload", "upgrade")
            if delivered > cut or hindered or self.down(works, delivered):
                return True
        return False

    def _wakes(self, at: float, what: Mapping[str, Any], index: int) -> None:
        self.wakes.append((at, what, index))

    # what people stated

    def _all_outcomes(self) -> dict[str, set[str]]:
        states: dict[str, set[str]] = defaultdict(set)
        for batch in self.batches.values():
            for item in batch.directory.get("outcomes", ()):
                states[str(item.get("jti"))].add(str(item.get("state", item.get("status", ""))))
        return states

    @cached_property
    def flawed(self) -> set[str]:
        """The numbers of objects that must change nothing."""
        objects = (one.what for one in self.journal if one.kind == "object")
        return {what["jti"] for what in objects if what.get("flaw")}

    @cached_property
    def steps(self) -> dict[tuple[str, str], dict[str, str]]:
        """The states of each order at a control, by the ids of their outcomes."""
        steps: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        for batch in self.batches.values():
            for item in batch.directory.get("outcomes", ()):
                if "control" in item:
                    steps[str(item["jti"]), item["control"]][item["id"]] = item["state"]
        return steps

    def _first_accepted(self) -> dict[str, float]:
        """When each object was accepted, by the clock of the gateway."""
        first: dict[str, float] = {}
        for batch in self.batches.values():
            for item in batch.directory.get("outcomes", ()):
                if item.get("state") == "ACCEPTED" and item.get("at") and item.get("jti"):
                    at = second(item["at"])
                    first[item["jti"]] = min(at, first.get(item["jti"], at))
        return first

    @cached_property
    def _acks(self) -> dict[str, list[float]]:
        """When each object was acknowledged."""
        acks: dict[str, list[float]] = defaultdict(list)
        for one in self.journal:
            if one.kind == "object" and one.what.get("acked"):
                acks[one.what["jti"]].append(one.at)
        return acks

    def _acknowledged(self, jti: str, accepted: Mapping[str, float]) -> float | None:
        """When an object that was accepted was surely in force: at its first acknowledgement, but
        what was refused for the disk (rule A10) may be accepted when it is sent again, and what
        waited (O7, O21, D2) is accepted without another acknowledgement.
        """
        acks = self._acks.get(jti, [])
        if jti in accepted and "WAITING" in self.outcomes[jti]:
            at = accepted[jti] + 1  # the clock may have been set just before, in the same second
            return at - self.apart(at)
        if jti not in accepted or "REJECTED" not in self.outcomes[jti]:
            return acks[0] if acks else None
        later = [at for at in acks if at + self.apart(at) > accepted[jti] - 2]
        return next(iter(later), acks[-1] if acks else None)

    def _learn(self) -> None:
        """Take the facts in the order in which they were answered."""
        stated, accepted = [], self._first_accepted()
        for at, what, index in self.calls:
            outcome = what.get("outcome") or ("refused" if "refused" in what else "accepted")
            asked = second(what.get("asked", at))
            sure = outcome == "accepted" and not what.get("lost") and not what.get("unrecorded")
            known = at if sure else None  # unrecorded: in force until the machine crashes (rule A7)
            if outcome == "refused" and not self._in_force_but_not_recorded(what):
                continue
            order = asked if known is None else known
            stated += [(order, asked, known, fact, index) for fact in what.get("means") or ()]
        for jti, (at, what, index) in self._users():
            states = self.outcomes.get(jti, set())
            is_order = str(what.get("typ", "")).startswith("dr-")  # a copy may be rejected later
            refused = "REJECTED" in states and not states & {"ACCEPTED", "WAITING"}
            if refused and not is_order and not self._perhaps_recorded(jti, at):
                continue
            known = self._acknowledged(jti, accepted) if is_order or "ACCEPTED" in states else None
            order = at if known is None else known
            if known is not None and "WAITING" in states:
                order -= 1  # a withdrawal may have come in the same second, just after it
            means = what.get("means") or what.get("instead") or ()
            stated += [(order, at, known, fact, index) for fact in means]
        self.stated = [tuple(one) for _, *one in sorted(stated, key=lambda it: it[0])]
        for asked, known, fact, index in self.stated:
            learn = getattr(self, "_learn_" + fact["fact"].replace(".", "_"), None)
            if learn is not None:
                learn(asked, known, fact, index)
        self._learn_lost_withdrawals()

    def _perhaps_recorded(self, jti: str, at: float) -> bool:
        """Whether the agent ended before it acknowledged an object: it may be in force, though its
        outcome is not recorded, and be refused when it is sent again after a withdrawal.
        """
        end = next((life.end for life in self.lives if life.begin <= at <= life.end), NEVER)
        return end < NEVER and not any(at <= ack <= end for ack in self._acks.get(jti, ()))

    def _users(self) -> Iterator[tuple[str, tuple[float, Mapping[str, Any], int]]]:
        """The object that has used each number: the first one, or, if that was refused, a later one
        that was not (rule O8).
        """
        refused = {
            item["sha256"]
            for batch in self.batches.values()
            for item in batch.directory.get("outcomes", ())
            if item.get("state") == "REJECTED" and "sha256" in item and "control" not in item
        }
        later: dict[str, tuple[float, Mapping[str, Any], int]] = {}
        for index, one in enumerate(self.journal):
            if one.what.get("instead") and one.what.get("sha256") not in refused:
                later.setdefault(one.what["jti"], (one.at, one.what, index))
        for jti, first in self.objects.items():
            free = first[1].get("sha256") in refused
            yield jti, later.get(jti, first) if free else first

    @staticmethod
    def _in_force_but_not_recorded(what: Mapping[str, Any]) -> bool:
        """Rule A7: while the disk fails, an end of a permission is in force though not recorded."""
        ends = {"withdraw", "leave", "duty.end"}
        return any(fact["fact"] in ends for fact in what.get("means") or ())

    def _doubt(
        self, place: str, asked: float, known: float | None, recipient: str | None = None
    ) -> None:
        self.doubts.append((place, asked, NEVER if known is None else known, recipient))

    def _repetition(self, asked: float, fact: Any, index: int) -> None:
        """D4, D10, I13: what is handed in once more gives no consent after a withdrawal or move."""
        what = self.journal[index].what
        if what.get("do") != "again":
            return
        names = {basis.occupancy for basis in self.bases.values() if basis.place == fact["place"]}
        gone = [
            basis.gone
            for basis in self.bases.values()
            if basis.occupancy == fact["occupancy"]
            and basis.recipient == fact["recipient"]
            and basis.gone < asked
        ]
        # one that was first handed in after the last withdrawal, and not refused, knew of it (D2)
        knew = any(
            call.get("args") == what.get("args")
            and "refused" not in call
            and call.get("do") != "again"
            for at, call, _ in self.calls
            if gone and max(gone) < second(call.get("asked", at)) < asked
        )
        if gone and not knew:
            self.restored.append(("D4", asked, fact, index))
        elif names and fact["occupancy"] not in names:
            self.restored.append(("D10", asked, fact, index))

    def _learn_consent(self, asked: float, known: float | None, fact: Any, index: int) -> None:
        self._doubt(fact["place"], asked, known, fact.get("recipient"))
        if fact["id"] in self.bases:
            return
        self._repetition(asked, fact, index)
        # A later consent may replace an earlier one, which then ends by the clock of the gateway:
        # one that is behind may end it before it began.
        ends = min(asked, asked + self.apart(asked))
        for basis in self.bases.values():
            if basis.occupancy == fact["occupancy"] and basis.recipient == fact["recipient"]:
                basis.ended = min(basis.ended, ends)
        self.bases[fact["id"]] = Basis(
            fact["id"],
            "consent",
            fact["recipient"],
            frozenset(fact["channels"]),
            int(fact["step"]),
            second(fact["since"]),
            second(fact["until"]),
            asked,
            known,
            fact["place"],
            fact["occupancy"],
            fact.get("given"),
            unrecorded=bool(self.journal[index].what.get("unrecorded")),
            index=index,
            purpose=fact.get("purpose", ""),
        )

    def _learn_consent_lost(self, asked: float, _known: None, fact: Any, _index: int) -> None:
        """A consent whose answer was lost may have replaced earlier ones, even if it is refused
        when it is asked for again: after a boot with a clock that is behind they overlap.
        """
        for basis in self.bases.values():
            if (basis.occupancy, basis.recipient) == (fact["occupancy"], fact["recipient"]):
                basis.ended = min(basis.ended, asked)

    def _crash(self, since: float) -> float:
        """When the machine lost its power next, whether an agent ran then or not."""
        return next((cut for cut in self.cuts if cut >= since), NEVER)

    def _learn_withdraw(self, asked: float, known: float | None, fact: Any, index: int) -> None:
        self._doubt(fact["place"], asked, known, fact.get("recipient"))
        whose = fact["occupancy"] or self._lives_there_again(fact["place"], asked)
        for basis in self.bases.values():
            if (
                basis.kind == "consent"
                and basis.occupancy == whose
                and fact.get("recipient") in (None, basis.recipient)
            ):
                basis.ended, basis.doubted = min(basis.ended, asked), True
                if self.journal[index].what.get("unrecorded"):
                    basis.only_noted.append((self.journal[index].at, self._crash(asked)))
                if known is not None and basis.asked <= asked and known < basis.gone:
                    basis.gone, basis.index = known, index

    def _lives_there_again(self, place: str, asked: float) -> str:
        """A7: whose end was only noted and undone by a crash, and has not been recorded since: the
        gateway takes what is asked for the place as theirs. Empty: nobody's.
        """
        stay = next((stay for stay in reversed(self.stays) if stay.place == place), None)
        if stay is None or stay.until_known is not None:
            return ""
        return stay.id if any(crash < asked for _, crash, _ in stay.only_noted) else ""

    def _learn_lost_withdrawals(self) -> None:
        """D12: a withdrawal that a crash has undone is in force again soon after a receipt has
        named its retraction.
        """
        taken_back = defaultdict(set)
        for batch in self.batches.values():
            for one in batch.retract:
                if one.get("reason") == "withdrawn":
                    taken_back[batch.recipient, one.get("basis")].add(one["id"])
        for basis in self.bases.values():
            ids = taken_back[basis.recipient, basis.id]
            crashes = [crash for _, crash in basis.only_noted]
            for at, what, index in self.receipts:
                named = {id_ for id_, *_ in what.get("retracted") or ()} & ids
                if named and min(crashes, default=NEVER) < at and self._recorded(at, what, basis):
                    basis.gone, basis.index = at + RECOVERED, index
                    break

    def _recorded(self, at: float, what: Mapping[str, Any], basis: Basis) -> bool:
        """Whether a receipt for the recipient of a basis came while nothing hindered the agent from
        recording what it says.
        """
        calm = not self.during(at, at + RECOVERED, "disk") and not self.down(at, at + RECOVERED)
        return calm and what.get("of", basis.recipient) == what["recipient"] == basis.recipient

    def _learn_leave(self, asked: float, known: float | None, fact: Any, index: int) -> None:
        self._doubt(fact["place"], min(asked, fact["at"]), known)
        call = self.journal[index]
        for stay in self.stays:
            if stay.id == fact["occupancy"]:
                stay.until_asked = min(stay.until_asked, asked)
                if call.what.get("unrecorded"):
                    noted = call.at, self._crash(asked), second(fact["at"])
                    stay.only_noted.append(noted)
                if known is not None:
                    stay.until, stay.until_known = second(fact["at"]), known

    def _learn_enter(self, asked: float, known: float | None, fact: Any, _index: int) -> None:
        self._doubt(fact["place"], min(asked, fact["at"]), known)
        who = fact["occupancy"], fact["place"]  # a lost answer leaves the first one empty
        if who not in {(stay.id, stay.place) for stay in self.stays}:
            self.stays.append(Stay(*who, second(fact["at"]), known))

    def _learn_exchange(self, asked: float, known: float | None, fact: Any, _index: int) -> None:
        at = second(fact["at"])
        self._doubt(fact["place"], min(asked, at), known)
        line, reports = None, True
        for fitted in self.fitted:
            if fitted.device is not None and fitted.device == fact.get("device"):
                reports = fitted.reports  # the same device asks the new meter for its number
            if fitted.meter == fact["old"] and fitted.channel == fact["channel"]:
                line = fitted.line
                fitted.until_asked = min(fitted.until_asked, asked)
                if known is not None:
                    fitted.until, fitted.until_known = at, known
                    fitted.closing = fact.get("closing")
                elif fact.get("closing"):
                    fitted.closing_asked.append(fact["closing"])
        self.fitted.append(
            Fitted(
                fact["new"],
                fact["place"],
                fact["channel"],
                fact.get("device"),
                line,
                at,
                known,
                reports,
                opening=fact.get("opening"),
                multiplier=Decimal(str(fact.get("multiplier") or 1)),
                offset=Decimal(str(fact.get("offset") or 0)),
            )
        )

    def _learn_removal(self, asked: float, known: float | None, fact: Any, _index: int) -> None:
        at = second(fact["at"])
        self._doubt(fact["place"], min(asked, at), known)
        for fitted in self.fitted:
            if fitted.meter == fact["old"] and fitted.channel == fact["channel"]:
                fitted.until_asked = min(fitted.until_asked, asked)
                if known is not None:
                    fitted.until, fitted.until_known = at, known
                    fitted.closing, fitted.removed = fact.get("closing"), True
                elif fact.get("closing"):
                    fitted.closing_asked.append(fact["closing"])

    def _learn_duty(self, asked: float, known: float | None, fact: Any, index: int) -> None:
        self.bases.setdefault(
            fact["id"],
            Basis(
                fact["id"],
                "duty",
                fact["recipient"],
                frozenset(fact["channels"]),
                DAY,
                second(fact["since"]),
                second(fact.get("until") or NEVER),
                asked,
                known,
                index=index,
            ),
        )

    def _learn_duty_end(self, asked: float, known: float | None, fact: Any, index: int) -> None:
        for basis in self.bases.values():
            if basis.id == fact["id"]:
                basis.ended = min(basis.ended, asked)
                if known is not None:
                    if second(fact["at"]) < basis.until:
                        basis.until, basis.ended_known = second(fact["at"]), known
                    basis.index = index

    def removed_from(self, recipient: str) -> float:
        """From when on the configuration has no uplink to a recipient, and no agent was ready that
        had one: slots that were open then are stated once there is an uplink again (rule T27).
        """
        without = [at for at, what in self.configured if recipient not in what["recipients"]]
        if not without:
            return NEVER
        ended = [life.end for life in self.lives if life.ready <= without[0]][-1:]
        return min(without[0], *ended)

    def left_to_the_disk(self, recipient: str, t: int, step: int) -> bool:
        """Whether only the spool on the disk could state a slot, because the agent was down or the
        power was cut since (A2, A4), and the uplink was taken out before the disk had recovered, or
        whether it waited for a recipient that was not there any more before its uplink was taken
        out, by a start: the slot is stated once there is an uplink again (rule T27).
        """
        removed = self.removed_from(recipient)
        away = [one for one in self._uplink_troubles(recipient) if one.what.get("how") == "down"]
        if any(one.begin < t + step and removed <= one.end for one in away):
            return any(self.unlinked_from(recipient) <= life.begin for life in self.lives)
        failed = any(
            one.do == "disk" and one.begin < t + step and removed <= one.end + SLACK
            for one in self.troubles
        )
        return failed and (self.down(t, t + step) or any(t <= cut <= removed for cut in self.cuts))

    def unlinked_from(self, recipient: str) -> float:
        """From when on, until the end, a recipient has no uplink: nothing reaches it."""
        since = NEVER
        for at, what in self.configured:
            if recipient in what["recipients"]:
                since = NEVER
            elif since == NEVER:
                since = at
        return since

    def refused_from(self, recipient: str) -> float:
        """From when on rows may still be in quarantine at the end (rule T17: for a day)."""
        moments = [
            one.begin
            for one in self._uplink_troubles(recipient)
            if one.what.get("how") == "refuses" and one.end > self.end - QUARANTINED
        ]
        return min(moments, default=NEVER)

    def _uplink_troubles(self, recipient: str) -> list[Trouble]:
        names = list(self.building["recipients"])
        return [
            one
            for one in self.troubles
            if one.do == "uplink" and names[one.what["recipient"] % len(names)] == recipient
        ]

    @cached_property
    def unheeded(self) -> dict[str, list[Mapping[str, Any]]]:
        """By recipient: the retractions of batches that it rejected by a receipt within the last
        day, and does not have yet. They are sent under another id once the day is over (T4, T17).
        """
        signed = self.building["recipients"][0] if self.building.get("signed") else None
        rejected = {
            (what["recipient"], sha256)
            for at, what, _ in self.receipts
            if at > self.end - QUARANTINED and (what["recipient"] != signed or what.get("signed"))
            for _, sha256, *_ in what.get("rejected") or ()
        }
        retractions: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for batch in self.batches.values():
            if (batch.recipient, batch.sha256) in rejected and batch.stored == NEVER:
                retractions[batch.recipient] += batch.retract
        return retractions

    def every(self, fitted: Fitted) -> int:
        """Seconds between two slots of a meter's point, at first."""
        for meter in self.building.get("meters", ()):
            if (meter["place"], meter["channel"]) == (fitted.place, fitted.channel):
                return int(meter["every"])
        return DAY

    def period_at(self, fitted: Fitted, at: float) -> tuple[int, float]:
        """Seconds between two slots of a meter's point at a moment, and since when that is so."""
        every, since = self.every(fitted), 0.0
        for moment, what in self.configured:
            now = int(what["every"].get(fitted.device, every))
            if moment <= at and now != every:
                every, since = now, self.runs_from(moment)
        return every, since

    def periods(self, fitted: Fitted) -> Iterator[tuple[int, float, float]]:
        """Each period at which a meter is read: seconds between two slots, and from when until when
        its slots need a row, whatever the agent did at the changes.
        """
        every, since = self.every(fitted), 0.0
        for at, what in self.configured:
            now = int(what["every"].get(fitted.device, every))
            if now != every:
                yield every, since, self._ends_before(at, every)
                every, since = now, self.runs_from(at)
        yield every, since, NEVER

    def runs_from(self, at: float) -> float:
        """When an agent was ready first, from a moment on."""
        ready = (life for life in self.lives if life.ready < NEVER)
        return next((max(at, life.ready) for life in ready if at < life.end), self.end)

    def other_period_from(self, fitted: Fitted) -> float:
        """From when on a slot of its first period needs no row: it is read at another period."""
        _, _, until = next(self.periods(fitted))
        return until

    def _ends_before(self, changed: float, every: int) -> float:
        """From when on a slot of a period needs no row, if that is changed then. If the agent was
        down, this begins with the slot that was running when it ended (M3). A life that was not
        ready has closed none, and what was closed in memory only is unknown after a power cut (A2).
        """
        ended = [life.end for life in self.lives if life.ready <= changed][-1:]
        ended += [
            fault.begin
            for fault in self.troubles
            if fault.do == "disk"
            and self.rebooted(fault.begin, min(fault.end, changed))
            and not any(life.ready < changed and fault.end < life.end for life in self.lives)
        ]
        return min([changed, *(end - every for end in ended if end < changed)])

    # time

    def _dates(self) -> None:
        begin = int(self.plan["begin"]) - 70 * DAY
        first = dt.datetime.fromtimestamp(begin, self.zone)
        first = first.replace(hour=0, minute=0, second=0, microsecond=0)
        days = [first + dt.timedelta(days=n) for n in range(int((self.end - begin) / DAY) + 3)]
        self.midnights = [int(day.timestamp()) for day in days]
        self.firsts = {int(day.timestamp()) for day in days if day.day == 1}
        self._midnights = set(self.midnights)

    def midnight_before(self, at: float) -> int | None:
        """The midnight with which the day of a moment begins; None: before the plan, or never."""
        n = bisect_right(self.midnights, at)
        return self.midnights[n - 1] if 0 < n < len(self.midnights) else None

    def on_step(self, step: int, t: int) -> bool:
        """Whether a step has a slot at `t` (rule M9)."""
        if step == MONTH:
            return t in self.firsts
        return t in self._midnights if step == DAY else t % step == 0

    def slots(self, step: int, since: float, until: float) -> Iterator[int]:
        """The slots in [since, until)."""
        if step >= DAY:
            low = bisect_left(self.midnights, since)
            high = bisect_left(self.midnights, until)
            yield from (t for t in self.midnights[low:high] if self.on_step(step, t))
            return
        yield from range(-int(-since // step) * step, -int(-until // step) * step, step)

    def read_until(self, fitted: Fitted, step: int, t: int) -> tuple[float, float]:
        """Until when what is read of a meter is of slot `t`: surely, and at the latest, as its
        period may change in the slot.
        """
        step = min(step, DAY)
        changes = [at for at, _ in self.configured if t < at < t + step]
        periods = [self.period_at(fitted, at)[0] for at in (t, *changes)]
        return t + min(step, *periods), t + min(step, max(periods))

    def taken_out(self, meter: str) -> float:
        """When somebody really took a meter out, whatever is recorded."""
        return next((at for at, what, _ in self.swaps if what["old"] == meter), NEVER)

    def apart(self, at: float) -> float:
        """By how much the wall clock is wrong at a true time."""
        n = bisect_right([moment for moment, *_ in self.clock], at)
        return self.clock[n - 1][1] if n else 0.0

    def reached(self, wall: float, since: float) -> float:
        """When the wall clock first shows a time or a later one, from a true time on."""
        begins = [since, *(at for at, *_ in self.clock if at > since)]
        for begin, end in zip(begins, [*begins[1:], NEVER], strict=True):
            at = max(begin, wall - self.apart(begin))
            if at < end:
                return at
        return NEVER

    def untrusted(self) -> Iterator[tuple[float, float]]:
        """When the clock cannot count as trusted or in holdover (rules C7, C9): it is wrong by more
        than five minutes while no service keeps it, and no battery-backed clock agrees, or both lie
        before the last time that was proved; or no service has kept it for more than eight days.
        """
        proved, unserved = NEVER, NEVER
        ends = [at for at, *_ in self.clock[1:]] + [self.end]
        for n, ((at, apart, service), end) in enumerate(zip(self.clock, ends, strict=False)):
            _, before, kept = self.kept[n - 1] if n else (0.0, 0.0, True)
            if kept:  # when a life begins, what is proved is on the disk at once
                begun = [one.ready + before for one in self.lives if one.ready + 60 < at]
                proved = max(at + before - REMEMBERED, *begun[-1:])
            if not service and abs(apart) > 300:
                before_floor = proved - apart - SLACK
                yield at + 120, min(end, before_floor) if self.by_rtc[n] else end
            unserved = NEVER if service else min(unserved, at)
            yield unserved + UNKEPT, end

    @property
    def proven(self) -> list[float]:
        """By how much the clock was wrong at times at which a service kept it; 0 among them."""
        return sorted({0.0, *(apart for _, apart, kept in self.kept if kept)})

    def crept(self, at: float) -> float:
        """By how much the wall clock is wrong at a true time by moves of at most 2 s, none of which
        counts as a step (rule C8), since a service kept it; 0: also by another one.
        """
        before = 0.0
        crept: float | None = 0.0
        for moment, apart, kept in self.kept:
            if moment > at:
                break
            if kept:
                crept = 0.0
            elif crept is not None and abs(apart - before) <= STEPPED:
                crept += apart - before
            else:
                crept = None
            before = apart
        return crept or 0.0

    @cached_property
    def vouched(self) -> list[tuple[float, float, float]]:
        """(from, to, apart): when signed time kept a clock that no service kept and that was
        wrong: it may differ from what was signed, which may have been under way for some time,
        by `SLACK` when that arrives (rule C13); moves of at most 2 s are no steps (rule C8).
        """
        ends = [at for at, *_ in self.kept[1:]] + [self.end]
        spans, goes_on, before = [], False, 0.0
        for (at, apart, kept), end in zip(self.kept, ends, strict=False):
            agreed = (
                came
                for came, signed in self.heartbeats
                if at <= came < end
                and abs(self._first_came(came, signed) + apart - signed) <= SLACK
            )
            goes_on = goes_on and not kept and abs(apart - before) <= STEPPED
            begin = at if goes_on else next(agreed, NEVER)
            goes_on, before = not kept and begin < end, apart
            if goes_on and apart:
                spans.append((begin, end, apart))
        return spans

    def _first_came(self, came: float, signed: float) -> float:
        """When a signed time first arrived in this life: what was not recorded is sent again, and
        is compared as if it came then (rule C13).
        """
        begin = max((life.begin for life in self.lives if life.begin <= came), default=0.0)
        first = (at for at, same in self.heartbeats if same == signed and begin <= at <= came)
        return next(first, came)

    @cached_property
    def dated(self) -> list[tuple[float, float, float]]:
        """(from, to, apart): when readings were made that a vouched clock has dated: those of
        before, too, which have waited for it in the same life (rule C11).
        """
        waited = []
        for begin, end, apart in self.vouched:
            starts = [life.begin for life in self.lives if life.begin <= begin]
            waited.append((max(self._unkept_since(begin), *starts), end, apart))
        return waited

    def _unkept_since(self, moment: float) -> float:
        """Since when readings may wait at this moment: since a service, or signed time, last kept
        the clock. They are dated by the time that passes: steps meanwhile do not matter (rule C11).
        """
        since, before, was_kept = 0.0, 0.0, True
        for at, apart, kept in self.kept:
            if at > moment:
                break
            stepped = abs(apart - before) > STEPPED
            if was_kept or (stepped and any(end == at for _, end, _ in self.vouched)):
                since = at
            before, was_kept = apart, kept
        return since

    def reversed_at(self, end: float) -> float:
        """When it is proven that a clock that was vouched until then was wrong: a service has kept
        the right time before, in the same life, and does so again (rule C4). NEVER: it is not.
        """
        right = next(
            (at for at, apart, kept in self.kept if at >= end and kept and not apart), NEVER
        )
        for life in self.lives:
            before = any(
                life.ready <= at < end and kept and not apart for at, apart, kept in self.kept
            )
            first = life is self.lives[0] and bool(self.kept) and self.kept[0][2]
            if life.ready < end and right < life.end and (before or first):
                return right
        return NEVER

    @cached_property
    def contents(self) -> Mapping[tuple[str, str, int], set[str]]:
        """The hashes of all bytes that each id of a batch had."""
        found = defaultdict[tuple[str, str, int], set[str]](set)
        for one in self.batches.values():
            found[one.id].add(one.sha256)
        return found

    @property
    def clock_doubted_from(self) -> float:
        """From when on the plan disturbs the clock or its time service."""
        moments = [at for at, apart, service in self.clock if abs(apart) > 1 or not service]
        return min(moments, default=NEVER)

    @property
    def calm_from(self) -> float:
        """When the last fault has ended, and the last life was ready."""
        moments = [one.begin if one.end == NEVER else one.end for one in self.troubles]
        starts = [life.ready for life in self.lives if life.ready < NEVER]
        return max([*moments, *starts[-1:], self.plan["begin"] + self.plan["days"] * DAY])

    def doubtful_clock(self) -> Iterator[tuple[float, float]]:
        """When the clock was wrong, or kept by nobody."""
        begin = None
        for at, apart, kept in [*self.kept, (self.end, 0.0, True)]:
            if abs(apart) > 1 or not kept:
                begin = at if begin is None else begin
            elif begin is not None:
                yield begin, at
                begin = None

    def doubtful_at(self, at: float) -> bool:
        """Whether the clock was wrong then, or kept by nobody."""
        return any(begin <= at < end for begin, end in self.doubtful_clock())

    def clock_doubted(self, since: float, until: float) -> bool:
        """Whether the clock was wrong, or kept by nobody, within this time or an hour around it.

        Once it is right and kept again, the rules date each slot as before: by a wrong clock that
        nobody keeps nothing is dated (rules C8, C10).
        """
        begin = None
        for at, apart, service in [*self.clock, (self.end, 0.0, True)]:
            if abs(apart) > 1 or not service:
                begin = at if begin is None else begin
            elif begin is not None:
                if begin - 3600 <= until and since <= at + 3600:
                    return True
                begin = None
        return False

    def calm(self, since: float, until: float) -> bool:
        """Whether one life, with no event of any kind, lasted over all of this time."""
        return self.calm_but(since, until)

    def calm_but(self, since: float, until: float, *dos: str, clock: bool = False) -> bool:
        """Whether one life, with no event but of these kinds, lasted over all of this time.

        `clock`: even if the clock was wrong, or kept by nobody.
        """
        if not clock and self.clock_doubted(since, until):
            return False
        lived = any(life.ready <= since and until <= life.end for life in self.lives)
        return lived and not any(
            trouble.begin < until and since < trouble.end + 1
            for trouble in self.troubles
            if trouble.do not in (*QUIET, *dos)
        )

    def rebooted(self, since: float, until: float) -> bool:
        """Whether the machine lost its power within this time."""
        return any(since <= cut <= until for cut in self.cuts)

    def without_notes(self, at: float) -> bool:
        """Whether the disk has failed from a boot on until then, or the agent may not have found
        yet that it works: it may have no notes of what ended, and keeps nothing of dwellings (A8).
        """
        lives = [life for life in self.lives if life.begin <= at]
        boot = next((life for life in lives if life.boot == lives[-1].boot), None)
        if boot is None or boot is self.lives[0]:
            return False
        until, faults = 0.0, self.during(boot.begin, boot.ready, "disk")
        while ends := [fault.end + NOTICED for fault in faults if fault.end + NOTICED > until]:
            until = max(ends)
            faults = self.during(until - NOTICED, until, "disk")
        return until >= at

    def unheard(self, at: float, recipient: str) -> bool:
        """Whether somebody may have given a recipient a basis without having seen the answer."""
        return any(
            what.get("lost")
            and what["asked"] <= at
            and what["name"].startswith(("consent", "duty"))
            and (what.get("args") or {}).get("recipient", recipient) == recipient
            for _, what, _ in self.calls
        )

    def during(self, since: float, until: float, *dos: str) -> list[Trouble]:
        """The troubles of these kinds that touch this time."""
        return [
            trouble
            for trouble in self.troubles
            if trouble.do in dos and trouble.begin <= until and since <= trouble.end
        ]

    def down(self, since: float, until: float) -> bool:
        """Whether no life was ready at some moment of this time."""
        return not any(life.ready <= since and until <= life.end for life in self.lives)

    def proof(self, apart: float) -> float:
        """When it was proven, within one life, that a clock was wrong by so much: a service kept it
        right before, and does so again (rule C4); NEVER: it was not.
        """
        changes = [*self.kept, (self.end, 0.0, True)]
        for life in self.lives:
            lived = [one for one in changes if life.ready <= one[0] - 120 and one[0] < life.end]
            wrong = [at for at, by, kept in lived if kept and by == apart]
            right = [at for at, by, kept in lived if kept and not by and wrong and at > wrong[0]]
            if right and (self.kept[0][0] < wrong[0] or not apart):
                return right[0]
        return NEVER

    def stepped_back(self, at: float) -> bool:
        """Whether it was proven by then that a clock was wrong which no service kept: within one
        boot it stepped and came back to what a service had kept, and does so again (rule C4). Lives
        saw all three.
        """
        by_boot: dict[str, list[Life]] = defaultdict(list)
        for life in self.lives:
            by_boot[life.boot].append(life)
        ends = [moment for moment, *_ in self.kept[1:]] + [self.end]
        spans = list(zip(self.kept, ends, strict=False))
        for lives in by_boot.values():
            seen = [
                (begin, apart, kept)
                for (begin, apart, kept), end in spans
                if begin <= at and any(one.ready < end and begin < one.end for one in lives)
            ]
            for n, (_, apart, kept) in enumerate(seen):
                wrong = [m for m in range(n, len(seen)) if abs(seen[m][1] - apart) > BACK]
                if (
                    kept
                    and wrong
                    and any(
                        again and abs(back - apart) <= BACK for _, back, again in seen[wrong[0] :]
                    )
                ):
                    return True
        return False

    def doubted(self, place: str, since: float, until: float, recipient: str | None = None) -> bool:
        """Whether it is open what is recorded of a place, for a recipient, then."""
        return any(
            where == place
            and begin <= until
            and since <= end
            and (recipient is None or whose in (None, recipient))
            for where, begin, end, whose in self.doubts
        )
