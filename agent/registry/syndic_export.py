"""Compare the exports of the building manager's software (leases and moves) with the registry.
Pure.

A clear difference becomes a change to record; a doubtful one waits for a person. A missing row
means nothing.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import N_, Text
from agent.registry import parsers, sheet
from agent.registry.dates import DAY
from agent.registry.inputs import NewOccupancy
from agent.registry.labels import label_key
from agent.registry.lots import NO_END
from agent.registry.parsers import LONGEST_LABEL
from agent.registry.place import shown
from agent.registry.records import Occupancy, Provenance

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence

    from agent.registry.index import RegistryIndex
    from agent.registry.records import Place

LEASES, MOVES = ("reference", "since", "until"), ("move", "date")
"""columns of a list of leases, and of a list of moves, besides `dwelling`"""
ONLY = "only "
"""prefix of our name for a column that selects rows"""
FEW_ENDS = 3
"""leases that may always end in one export, even in a small building"""
MOST_ENDS = 4
"""beyond FEW_ENDS, at most one lease in this many may end in one export"""
MOST_DOUBTS = 500
"""rows of one export that may wait for a person; with more it is not this building's export"""
FOR_EVER = 2**62
AUTHOR = "syndic export"
"""author of what an export records"""
NOT_RECORDED_YET = Provenance("", 0, "", 0)
"""provenance of what is not recorded yet"""


class Lease(StrEnum):
    """What a row states: a lease, a move in or a move out."""

    LEASE = "lease"
    IN = "move_in"
    OUT = "move_out"


class Doubt(StrEnum):
    """Why a row waits for a person."""

    UNREADABLE = "unreadable"
    NO_DWELLING = "no_dwelling"
    AMBIGUOUS = "ambiguous"
    COMMON = "common"
    NO_LEASE = "no_lease"
    UNDATED = "undated"
    TWICE = "twice"
    TOGETHER = "together"
    OVERLAP = "overlap"
    ELSEWHERE = "elsewhere"
    DATES = "dates"
    END_GONE = "end_gone"
    NEVER = "never"
    NOBODY = "nobody"
    LEFT = "left"
    MANY = "many"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One row of an export."""

    where: str
    """`baux.csv:17`"""
    states: Lease
    dwelling: str
    """the dwelling's name in the software"""
    reference: str | None = None
    since: int | None = None
    until: int | None = None
    """also the date of a move out"""
    fault: str = ""
    """why the row cannot be read"""

    @property
    def key(self) -> str:
        """Hash of what the row states, wherever it is in the file."""
        parts = [self.states, label_key(self.dwelling), self.reference, self.since, self.until]
        # without the file and the line: a dismissed row stays dismissed in the next export
        whole = json.dumps([*parts, self.fault])
        return hashlib.sha256(whole.encode()).hexdigest()[:32]

    @property
    def id(self) -> str:
        """The first characters of the key, for people to type."""
        return self.key[:8]

    @property
    def subject(self) -> tuple[str, ...]:
        """What the row is about: a later row with the same subject replaces it."""
        return (self.states, label_key(self.dwelling), self.reference or "")

    def plain(self) -> dict[str, Any]:
        """The row as plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Export:
    """The content of one file."""

    rows: list[ExportRow]
    left: int = 0
    """rows that are not selected: of other buildings, of cellars"""


@dataclass(slots=True)
class ClearChange:
    """A clear difference, with the notice to record."""

    row: ExportRow
    notice: NewOccupancy
    place: Place
    takes: tuple[Occupancy, int] | None = None
    """the occupancy whose readings are retracted, and since when; None: none are"""
    ends: bool = False
    """whether it ends an occupancy"""


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A difference that a person must decide."""

    row: ExportRow
    why: Doubt
    place: Place | None = None
    """the dwelling, where it is known"""
    other: str = ""
    """what contradicts the row, in the registry or in the file"""
    homes: tuple[Occupancy, ...] = ()
    """the recorded occupancies concerned"""


@dataclass(slots=True)
class Comparison:
    """All differences between an export and the registry."""

    changes: list[ClearChange] = field(default_factory=list)
    doubts: list[Doubtful] = field(default_factory=list)
    same: int = 0


def parse(  # noqa: PLR0913 -- what the configuration says
    text: str,
    name: str,
    headings: Mapping[str, str],
    zone: str,
    *,
    move_words: Mapping[str, str],
    last_day: bool = False,
    only: Mapping[str, Sequence[str]] | None = None,
) -> Export:
    """Read an export. Raises Refused, with the line, if the file is not an export or may be
    incomplete.

    `headings`: the software's heading for each of our columns. `move_words`: values of the column
    `move`, with `move_in` or `move_out`. `only`: further headings, with the values that a row must
    have to be read. A row that cannot be read has its fault.
    """
    # the software may still be writing: half a row could state another date
    if not text.endswith(("\n", "\r")):
        line = text.count("\n") + 1
        raise Refused(
            "{name}:{line}: the file ends within this line and may be incomplete, so"
            " nothing of it was recorded; export it again",
            name=name,
            line=line,
        )
    wanted = {
        heading: {sheet.plain(one) for one in values} for heading, values in (only or {}).items()
    }
    ours = {heading: name for name, heading in headings.items()}
    ours |= {heading: f"{ONLY}{heading}" for heading in wanted}
    line, first = sheet.headings(text, name, ours)
    present = {sheet.plain(heading) for heading in first}
    columns = {one: word for one, word in ours.items() if sheet.plain(one) in present}
    moves = {*MOVES} <= {*columns.values()} or not {*LEASES} <= headings.keys()
    for column in ("dwelling", *(MOVES if moves else LEASES)):
        if column not in columns.values():
            raise Refused(_missing_column(name, line, headings[column]))
    for heading in wanted.keys() - columns.keys():
        raise Refused(_missing_column(name, line, heading))
    read = sheet.read(text, name, columns, ("dwelling",), notes=set(columns.values()))
    # totals and footers are counted with the rows that are not selected
    taken = [one for one in read if not one.note and (one.fault or _is_wanted(one, wanted))]
    reader = _RowReader(zone, {sheet.plain(word): to for word, to in move_words.items()}, last_day)
    make = reader.move if moves else reader.lease
    return Export([make(one) for one in taken], len(read) - len(taken))


def _missing_column(name: str, line: int, heading: str) -> str:
    return Text(
        '{name}:{line}: the column "{heading}" is missing, so nothing of the file was'
        " recorded; `syndic` in the configuration names this column",
        name=name,
        line=line,
        heading=heading,
    )


def _is_wanted(line: sheet.SheetRow, wanted: Mapping[str, Container[str]]) -> bool:
    cells = line.cells
    return all(sheet.plain(cells.get(f"{ONLY}{one}", "")) in of for one, of in wanted.items())


@dataclass(frozen=True, slots=True)
class _RowReader:
    zone: str
    move_words: Mapping[str, str]
    last_day: bool

    def lease(self, line: sheet.SheetRow) -> ExportRow:
        cells = dict(line.cells)
        if NO_END.search(cells.get("until", "")):
            del cells["until"]
        (since, until), fault = parsers.dated(
            replace(line, cells=cells), self.zone, "since", "until"
        )
        reference, fault = _reference(cells, fault)
        return ExportRow(
            line.where, Lease.LEASE, _name(cells), reference, since, self._end(until), fault
        )

    def move(self, line: sheet.SheetRow) -> ExportRow:
        cells = line.cells
        (date,), fault = parsers.dated(line, self.zone, "date")
        reference, fault = _reference(cells, fault)
        written = cells.get("move", "")
        states = self.move_words.get(sheet.plain(written))
        if states is None and not fault:
            fault = Text(
                'move: "{written}" is neither of the words for in and out',
                written=written[:LONGEST_LABEL],
            )
        if states == Lease.OUT:
            return ExportRow(
                line.where, Lease.OUT, _name(cells), reference, None, self._end(date), fault
            )
        return ExportRow(line.where, Lease.IN, _name(cells), reference, date, None, fault)

    def _end(self, at: int | None) -> int | None:
        """The midnight after the last day, if the software states the last day."""
        if at is None or not self.last_day:
            return at
        here = dt.datetime.fromtimestamp(at, ZoneInfo(self.zone))
        return int((here + dt.timedelta(days=1)).timestamp())


def _name(cells: Mapping[str, str]) -> str:
    return cells.get("dwelling", "")[:LONGEST_LABEL]


def _reference(cells: Mapping[str, str], fault: str) -> tuple[str | None, str]:
    reference = " ".join(cells.get("reference", "").split())
    if len(reference) > LONGEST_LABEL or not reference.isprintable():
        return reference[:LONGEST_LABEL], fault or Text("reference: too long, or not printable")
    return reference or None, fault


def compare(
    index: RegistryIndex,
    rows: Iterable[ExportRow],
    now: float,
    held: Mapping[str, tuple[Doubt, str]] | None = None,
) -> Comparison:
    """What is to be recorded of these rows, and what waits for a person.

    `held`: clear rows, by key, that wait nevertheless. If more leases would end than is plausible,
    all of these wait.
    """
    # a repeated row would contradict itself
    distinct = list({row.key: row for row in rows}.values())
    made = _Comparing(index, distinct, int(now), held or {}).compare()
    # a truncated or foreign export would end many leases and retract their readings
    ends = [change for change in made.changes if change.ends]
    lived_in = sum(home.until is None or home.until > now for home in index.occupancies)
    if len(ends) > max(FEW_ENDS, lived_in // MOST_ENDS):
        many = {change.row.key: (Doubt.MANY, str(len(ends))) for change in ends}
        return _Comparing(index, distinct, int(now), {**(held or {}), **many}).compare()
    return made


class _Comparing:
    """One comparison; each row is compared with the result of those before it."""

    def __init__(
        self,
        index: RegistryIndex,
        rows: Sequence[ExportRow],
        now: int,
        held: Mapping[str, tuple[Doubt, str]],
    ) -> None:
        self._index, self._now, self._held = index, now, held
        self._comparison = Comparison()
        self._rows: dict[str, list[ExportRow]] = {}
        self._places: dict[str, Place] = {}
        self._by_reference = {home.reference: home for home in index.occupancies if home.reference}
        self._homes: dict[str, dict[str, Occupancy]] = {}
        self._pending: dict[str, ClearChange] = {}
        """changes by the id of an occupancy that this comparison creates"""
        for row in rows:
            self._find_dwelling(row)

    def compare(self) -> Comparison:
        """Compare one dwelling after the other: ends before beginnings, each in order of time."""
        for id_, rows in self._rows.items():
            place = self._places[id_]
            self._homes[id_] = {home.id: home for home in self._index.occupancies_of(id_)}
            unsure = _contradictions(rows, self._homes[id_].values())
            for row, why, other in unsure.values():
                self._doubt(row, why, other, place=place)
            sure = [row for row in rows if row.key not in unsure]
            for row in sorted(sure, key=self._order):
                if row.states is Lease.LEASE:
                    self._lease(row, place)
                elif row.states is Lease.OUT:
                    self._move_out(row, place)
                else:
                    self._move_in(row, place)
        return self._comparison

    def _order(self, row: ExportRow) -> tuple[int, int]:
        known = row.states is Lease.LEASE and self._by_reference.get(row.reference or "")
        # of a move out and a move in on one day, the move out comes first
        if row.states is Lease.OUT:
            return (row.until or 0, 0)
        return (0, 0) if known else (row.since or 0, 1)

    def _find_dwelling(self, row: ExportRow) -> None:
        """Find the dwelling of a row. A row that cannot be read, or whose dwelling is unknown,
        waits.
        """
        if row.fault or not row.dwelling:
            self._doubt(row, Doubt.UNREADABLE, row.fault or Text("dwelling: it is empty"))
            return
        near = self._index.labels.meant(row.dwelling)
        if len(near) != 1:
            why = Doubt.AMBIGUOUS if near else Doubt.NO_DWELLING
            self._doubt(row, why, ", ".join(one.label for one in near[:5]))
        elif near[0].id[0] != "D":
            self._doubt(row, Doubt.COMMON, place=near[0])
        else:
            self._places[near[0].id] = near[0]
            self._rows.setdefault(near[0].id, []).append(row)

    def _lease(self, row: ExportRow, place: Place) -> None:
        homes = list(self._homes[place.id].values())
        if row.reference is None:
            self._without_lease(row, place, homes)
            return
        mine = [home for home in homes if home.reference == row.reference]
        if lived := [home for home in mine if home.until is None or home.since < home.until]:
            self._known_lease(row, place, lived[-1])
        # a person has recorded that this lease never was
        elif mine:
            self._doubt(row, Doubt.NEVER, place=place, homes=mine)
        elif row.since is None:
            self._doubt(row, Doubt.UNDATED, place=place)
        elif row.until is not None and row.until <= row.since:
            self._doubt(row, Doubt.DATES, place=place)
        elif (other := self._by_reference.get(row.reference)) and other.place != place.id:
            label = self._index.places[other.place].label
            self._doubt(row, Doubt.ELSEWHERE, label, place=place, homes=[other])
        else:
            self._begins(row, place, row.since, row.until)

    def _without_lease(self, row: ExportRow, place: Place, homes: Sequence[Occupancy]) -> None:
        """A row without a lease states nothing if it has no date and nobody is recorded to live
        there.
        """
        there = [home for home in homes if home.until is None and home.since <= self._now]
        if there or row.since is not None or row.until is not None:
            self._doubt(row, Doubt.NO_LEASE, place=place, homes=there)
        else:
            self._comparison.same += 1

    def _known_lease(self, row: ExportRow, place: Place, home: Occupancy) -> None:
        """Compare a recorded lease; only an end that appears is a clear difference."""
        if row.since is not None and not _agrees(row.since, home.since):
            self._doubt(row, Doubt.DATES, place=place, homes=[home])
        elif _agrees(row.until, home.until) or (row.until is None and self._was_decided(home)):
            self._comparison.same += 1
        elif row.until is None:
            self._doubt(row, Doubt.END_GONE, place=place, homes=[home])
        elif home.until is None and row.until > home.since:
            self._ends(row, place, home, row.until)
        else:
            self._doubt(row, Doubt.DATES, place=place, homes=[home])

    def _was_decided(self, home: Occupancy) -> bool:
        """Whether a person has recorded that these people left when the next ones moved in. A row
        that still lists them then states nothing new.
        """
        homes = self._homes[home.place].values()
        return home.word.who != AUTHOR and any(one.since == home.until for one in homes)

    def _move_out(self, row: ExportRow, place: Place) -> None:
        if (at := row.until) is None:
            self._doubt(row, Doubt.UNDATED, place=place)
            return
        homes = self._homes[place.id].values()
        ended = (home for home in homes if home.since < at and _agrees(at, home.until))
        if any(_may_be(home, row) for home in ended):
            self._comparison.same += 1
            return
        there = [one for one in homes if one.since < at and (one.until is None or at < one.until)]
        if not there:
            self._doubt(row, Doubt.NOBODY, place=place)
        elif there[0].until is not None or not _may_be(there[0], row):
            self._doubt(row, Doubt.DATES, place=place, homes=there)
        else:
            self._ends(row, place, there[0], at)

    def _move_in(self, row: ExportRow, place: Place) -> None:
        if (at := row.since) is None:
            self._doubt(row, Doubt.UNDATED, place=place)
            return
        homes = self._homes[place.id].values()
        lived = [one for one in homes if one.until is None or one.since < one.until]
        same = [home for home in lived if _agrees(at, home.since) and _may_be(home, row)]
        # people who are recorded without a lease get the lease of this row: `_begins`
        if same and (row.reference is None or same[0].reference):
            self._comparison.same += 1
        else:
            self._begins(row, place, at, None)

    def _begins(self, row: ExportRow, place: Place, since: int, until: int | None) -> None:
        """Record new occupants: clear if nobody is recorded there, or somebody without a lease."""
        homes = self._homes[place.id].values()
        there = [home for home in homes if _overlaps(home, since, until)]
        if not there:
            notice = NewOccupancy(
                "lease" if row.reference else "move_in", place.id, None, since, until,
                row.reference, where=row.where,
            )  # fmt: skip
            change = ClearChange(row, notice, place)
            new = Occupancy(
                Text("new {key}", key=row.key),
                place.id,
                since,
                until,
                NOT_RECORDED_YET,
                row.reference,
            )
            self._pending[new.id] = change
            self._apply(new, change)
            return
        home = there[0]
        if len(there) > 1 or home.reference is not None or row.reference is None:
            self._doubt(row, Doubt.OVERLAP, place=place, homes=there)
            return
        ends_otherwise = (
            until is not None and home.until is not None and not _agrees(until, home.until)
        )
        if since > home.since or ends_otherwise:
            # somebody lived there before the lease, or left at another time: maybe other people
            self._doubt(row, Doubt.DATES, place=place, homes=there)
            return
        now = replace(home, since=since, until=until or home.until, reference=row.reference)
        notice = NewOccupancy("lease", place.id, None, since, until, row.reference, where=row.where)
        change = ClearChange(row, notice, place, self._taken_back(home, now))
        change.ends = now.until != home.until
        self._apply(now, change)

    def _ends(self, row: ExportRow, place: Place, home: Occupancy, at: int) -> None:
        now = replace(home, until=at)
        if home.id in self._pending:  # they move in and out in the same export
            self._pending[home.id].notice = replace(self._pending[home.id].notice, until=at)
            self._homes[place.id][home.id] = now
            return
        notice = NewOccupancy("move_out", place.id, home.id, None, at, where=row.where)
        self._apply(now, ClearChange(row, notice, place, self._taken_back(home, now), ends=True))

    def _apply(self, home: Occupancy, change: ClearChange) -> None:
        # clear, but the registry refused it before, or too many leases would end
        if change.row.key in self._held:
            why, other = self._held[change.row.key]
            self._doubt(change.row, why, other, place=change.place)
            return
        self._homes[home.place][home.id] = home
        self._comparison.changes.append(change)

    def _taken_back(self, before: Occupancy, after: Occupancy) -> tuple[Occupancy, int] | None:
        """The occupancy and the time from which on its readings are no longer its own; None: none
        are.
        """
        lost_from = []
        if after.since > before.since:
            lost_from.append(before.since)
        if after.until is not None and (before.until is None or after.until < before.until):
            lost_from.append(max(after.until, before.since))
        first = min(lost_from, default=self._now)
        return (before, first) if first < self._now else None

    def _doubt(
        self,
        row: ExportRow,
        why: Doubt,
        other: str = "",
        place: Place | None = None,
        homes: Iterable[Occupancy] = (),
    ) -> None:
        self._comparison.doubts.append(Doubtful(row, why, place, other, tuple(homes)))


def _contradictions(
    rows: Sequence[ExportRow], homes: Collection[Occupancy]
) -> dict[str, tuple[ExportRow, Doubt, str]]:
    """The leases of one dwelling that contradict another row of the same export, by key. A row that
    agrees with the registry is not in doubt.
    """
    doubts: dict[str, tuple[ExportRow, Doubt, str]] = {}
    of = {home.reference: home for home in homes if home.reference}
    leases = [row for row in rows if row.states is Lease.LEASE and row.reference]
    by_reference: dict[str, ExportRow] = {}
    for row in leases:
        other = by_reference.setdefault(str(row.reference), row)
        # both wait: the file does not say which of them is right
        if other is not row:
            doubts[row.key] = (row, Doubt.TWICE, other.where)
            doubts[other.key] = (other, Doubt.TWICE, row.where)
    new = [row for row in leases if not _recorded_so(of.get(row.reference or ""), row)]
    dated = [row for row in new if row.since is not None and row.key not in doubts]
    last: ExportRow | None = None
    for row in sorted(dated, key=lambda row: row.since or 0):
        if last is not None and (last.until is None or (row.since or 0) < last.until):
            doubts.setdefault(last.key, (last, Doubt.TOGETHER, row.where))
            doubts[row.key] = (row, Doubt.TOGETHER, last.where)
        # the lease that ends last: a later row may overlap it, and not the row before
        if last is None or (last.until is not None and (row.until or FOR_EVER) > last.until):
            last = row
    return doubts


def _recorded_so(home: Occupancy | None, row: ExportRow) -> bool:
    """Whether an occupancy is recorded as a row states it."""
    return home is not None and _agrees(row.since, home.since) and _agrees(row.until, home.until)


def _agrees(stated: int | None, recorded: int | None) -> bool:
    """Whether a recorded time lies in the day that an export states."""
    if stated is None or recorded is None:
        return stated is recorded
    # an export has dates only, while a person may have recorded the hour
    return 0 <= recorded - stated < DAY


def _may_be(home: Occupancy, row: ExportRow) -> bool:
    return row.reference is None or home.reference in {None, row.reference}


def _overlaps(home: Occupancy, since: int, until: int | None) -> bool:
    if home.until is not None and home.until <= max(since, home.since):
        return False
    return until is None or home.since < until


def accepted(index: RegistryIndex, row: ExportRow, now: float) -> list[NewOccupancy]:
    """The notices that record a waiting row which a person accepts. Raises Refused, with what to do
    instead, if the row does not say enough.
    """
    made = compare(index, [row], now)
    if not made.doubts:
        return [change.notice for change in made.changes]
    (doubt,) = made.doubts
    if doubt.why in {Doubt.DATES, Doubt.END_GONE} and len(doubt.homes) == 1:
        (home,) = doubt.homes
        if (
            row.states is Lease.LEASE and home.reference is None
        ):  # the lease is that of these occupants
            return [NewOccupancy("lease", home.place, None, row.since, row.until, row.reference)]
        return [_correction(home, row)]
    if doubt.why in {Doubt.OVERLAP, Doubt.ELSEWHERE} and row.since is not None:
        return list(_replacement(doubt, row, row.since))
    raise _remedy(doubt)


def _correction(home: Occupancy, row: ExportRow) -> NewOccupancy:
    """The correction that makes an occupancy agree with a row."""
    stays = row.states is Lease.LEASE and row.until is None and home.until is not None
    return NewOccupancy("correct", home.place, home.id, row.since, row.until, None, stays)


def _replacement(doubt: Doubtful, row: ExportRow, since: int) -> Iterator[NewOccupancy]:
    """The occupants of a row move in; those who are recorded there move out at that time."""
    assert doubt.place is not None
    for home in doubt.homes if doubt.why is Doubt.OVERLAP else ():
        if home.since >= since:
            raise Refused(
                N_(
                    "{place}: {home} is recorded there since {since} and cannot have moved"
                    " out at {at}; correct the dates: gardien occupancy correct {place}"
                    " --id {home}"
                ),
                place=doubt.place.label,
                home=shown(home.id),
                since=stamp(home.since),
                at=stamp(since),
            )
        yield NewOccupancy("correct", home.place, home.id, None, since)
    event = "lease" if row.reference else "move_in"
    yield NewOccupancy(event, doubt.place.id, None, since, row.until, row.reference)


def _remedy(doubt: Doubtful) -> Refused:
    """What to do about a row that cannot be accepted."""
    name = doubt.place.label if doubt.place else doubt.row.dwelling
    if doubt.why in {Doubt.NO_DWELLING, Doubt.AMBIGUOUS}:
        return Refused(
            N_(
                'no single dwelling is known as "{name}"; name the dwelling, and the row is'
                " then recorded by itself: gardien place alias add DWELLING bis:syndic"
                ' "{name}"'
            ),
            name=name,
        )
    if doubt.why is Doubt.UNREADABLE:
        return Refused(
            N_("{where}: {what}: correct the row in the software, or dismiss it"),
            where=doubt.row.where,
            what=doubt.other,
        )
    return Refused(
        N_(
            "{name}: the row does not say enough to be recorded; record what is right"
            " (gardien occupancy move-in, move-out or correct), then dismiss the row"
        ),
        name=name,
    )
