"""The store: one batch in one transaction, and the receipt that states what is stored.

The statements are the same for both databases. They differ in how time is written, in how many rows
are inserted at once, and in partitions: `sqlite.py`, `postgres.py`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from receiver.batch import (
    FIRST_SLOT,
    LAST_SLOT,
    Batch,
    Id,
    Rejected,
    Retraction,
    Row,
    Source,
    second,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

SCHEMA = Path(__file__).with_name("schema")
VIEWS = Path(__file__).with_name("views.sql")
MACRO = re.compile(
    r"\b(AT|SEC|MOMENT|SHOW|NUM|AMONG|SERIES)\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)|\bNOW\b|\?"
)
FIRST_YEAR, END_YEAR = 2020, 2041
"""years of the calendar"""
AGAIN_SECONDS = 600
"""after this time an object without an outcome is published again"""


class Unavailable(Exception):
    """The database cannot be reached, or cannot write. The batch comes again."""


class SignedObject(NamedTuple):
    """A signed object for a gateway."""

    n: int
    gateway: str
    recipient: str
    body: str
    expires: int | None
    typ: str


class Numbered(NamedTuple):
    """A row with the numbers of its series and of its source."""

    series: int
    source: int
    row: Row


class Store(ABC):
    """An open database. Not for two threads at once."""

    folder: str
    """with the migrations, in `schema`"""
    macros: dict[str, str]

    def __init__(self) -> None:
        self._change = 0
        """of the transaction"""
        self._numbers: dict[tuple[int, Source], tuple[int, int]] = {}

    # -- what the databases do differently

    @abstractmethod
    def execute(self, sql: str, values: Sequence[object] = ()) -> Any:
        """Run one statement; a cursor. Raises Unavailable."""

    @abstractmethod
    def select(self, sql: str) -> Any:
        """Run a statement of people as it is written, without permission to write; a cursor."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[object]:
        """Commit at the end of the block, or nothing of it. Raises Unavailable."""

    @abstractmethod
    def insert(self, rows: Sequence[Numbered], again: bool) -> int:
        """Store rows unless their key exists; how many were stored."""

    @abstractmethod
    def many(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        """Run one statement for each of many tuples."""

    @abstractmethod
    def among(self, numbers: Iterable[int]) -> object:
        """Numbers as the parameter of AMONG(?)."""

    @abstractmethod
    def prepare(self, batch: Batch) -> None:
        """Make what the rows of a batch need, before its transaction."""

    @abstractmethod
    def compact(self, before: int, tablespace: str | None) -> Iterator[str]:
        """Write what is older than an instant in less space; a sentence for each part. Raises
        ValueError.
        """

    @abstractmethod
    def alone(self) -> AbstractContextManager[object]:
        """Keep others from making tables and views meanwhile."""

    @abstractmethod
    def view(self, statement: str) -> None:
        """Make a view, or make it anew."""

    @abstractmethod
    def stream(self, sql: str, values: Sequence[object]) -> Iterator[Sequence[Any]]:
        """Run one statement, whose rows need not fit into memory."""

    @abstractmethod
    def begin_change(self) -> int:
        """The number of the present change. No export ends it before this transaction ends, which
        must not hold another lock yet.
        """

    @abstractmethod
    def end_change(self) -> int:
        """End the present change; its number. All that belongs to it is committed."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @classmethod
    def sql(cls, text: str) -> str:
        """Write a statement for this database."""
        return _translated(text, tuple(cls.macros.items()))

    # -- batches

    def take(self, batch: Batch) -> dict[str, Any]:
        """Store a batch, once; the receipt, after the commit. Raises Rejected and Unavailable.

        Whatever is stored first under an id stays. Rules T3, T19, T20.
        """
        self.prepare(batch)
        try:
            with self.transaction():
                self._change = self.begin_change()
                sender = self._lock(batch)
                if self._is_new(sender, batch):
                    for retraction in batch.retract:
                        self.retract(sender, batch.id, retraction)
                    self.add(sender, batch)
                    self._learn(sender, batch)
                return self.receipt(sender, batch.id)
        except BaseException:
            self._numbers.clear()  # some may be of the transaction that was undone
            raise

    def receipt(self, sender: int, about: Id) -> dict[str, Any]:
        """What is stored under an id, and the retractions that concern it."""
        where = (sender, about.epoch, about.seq)
        (sha256,) = self.execute(
            "SELECT sha256 FROM batch WHERE sender = ? AND epoch = ? AND seq = ?", where
        ).fetchone()
        retracted = self.execute(
            "SELECT id, removed FROM retraction WHERE sender = ? AND epoch = ? AND seq = ?"
            " UNION SELECT r.id, r.removed FROM refused f JOIN retraction r"
            " ON r.sender = f.sender AND r.id = f.id"
            " WHERE f.sender = ? AND f.epoch = ? AND f.seq = ? ORDER BY id",
            where * 2,
        ).fetchall()
        stored = {"stored": [[about.seq, sha256]]}
        return (
            head(about) | stored | ({"retracted": list(map(list, retracted))} if retracted else {})
        )

    def count(self, gateway: str, what: str, words: str = "", n: int = 1) -> None:
        """Count an event that people should know of: `gardien-receiver status` shows them."""
        self.execute(
            "INSERT INTO tally VALUES (?, ?, ?, NOW, ?) ON CONFLICT (gateway, what) DO UPDATE"
            " SET n = tally.n + excluded.n, last_at = NOW, words = excluded.words",
            (gateway, what, n, words[:400]),
        )

    def _lock(self, batch: Batch) -> int:
        """The number of the gateway and recipient; until the commit nobody else stores for them."""
        slots = [
            t for (source, _), rows in batch.rows.items() if source.step
            for row in rows for t in (row.t, row.last or row.t)
        ]  # fmt: skip
        (sender,) = self.execute(
            "INSERT INTO sender (gateway, recipient, batches, first_slot, last_slot)"
            " VALUES (?, ?, 1, ?, ?) ON CONFLICT (gateway, recipient) DO UPDATE SET"
            " batches = sender.batches + 1,"
            " first_slot = CASE WHEN sender.first_slot < coalesce(excluded.first_slot, 9999999999)"
            " THEN sender.first_slot ELSE excluded.first_slot END,"
            " last_slot = CASE WHEN sender.last_slot > coalesce(excluded.last_slot, 0)"
            " THEN sender.last_slot ELSE excluded.last_slot END RETURNING id",
            (
                batch.id.gateway,
                batch.id.recipient,
                min(slots, default=None),
                max(slots, default=None),
            ),
        ).fetchone()
        return int(sender)

    def _is_new(self, sender: int, batch: Batch) -> bool:
        slots = sum(row.slots for rows in batch.rows.values() for row in rows)
        new = self.execute(
            "INSERT INTO batch (sender, epoch, seq, sha256, void, lane, kept, created, slots,"
            " bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (sender, batch.id.epoch, batch.id.seq, batch.sha256, batch.void, batch.lane,
             batch.kept, batch.created, slots, batch.size),
        ).rowcount  # fmt: skip
        if new:
            return True
        (sha256,) = self.execute(
            "SELECT sha256 FROM batch WHERE sender = ? AND epoch = ? AND seq = ?",
            (sender, batch.id.epoch, batch.id.seq),
        ).fetchone()
        copy = sha256 == batch.sha256
        self.count(
            batch.id.gateway,
            "copies" if copy or batch.void else "other-bytes",
            f"batch {batch.id.seq} of epoch {batch.id.epoch}",
        )
        return False

    # -- retractions

    def retract(self, sender: int, brought_by: Id, retraction: Retraction) -> None:
        """Remove the rows that a retraction covers, and note how many. Rule T19."""
        removed = sum(
            self._remove(series, kind, step, sources, retraction)
            for series, kind, step, sources in self._touched(sender, retraction)
        )
        self.execute(
            "INSERT INTO retraction (change, sender, id, place, channel, occupancy, basis, meter,"
            " since, until, ver, reason, epoch, seq, removed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (sender, id) DO UPDATE SET change = excluded.change,"
            " epoch = excluded.epoch, seq = excluded.seq,"
            " removed = retraction.removed + excluded.removed",
            (self._change, sender, *retraction, brought_by.epoch, brought_by.seq, removed),
        )
        if removed and retraction.reason == "clock":
            # the newest slot may have been one of the future, and would be owed up to there
            self.execute(
                "UPDATE sender SET last_slot = (SELECT max((SELECT max(SEC(r.t)) FROM reading r"
                " WHERE r.series = s.id)) FROM series s WHERE s.sender = sender.id AND s.step > 0)"
                " WHERE id = ?",
                (sender,),
            )

    def _touched(
        self, sender: int, retraction: Retraction
    ) -> Iterator[tuple[int, str, int, list[int]]]:
        """The series of its dwelling that it concerns, each with the sources that it concerns."""
        series: dict[tuple[int, str, int], list[int]] = defaultdict(list)
        for number, kind, step, source, *names in self.execute(
            "SELECT s.id, s.kind, s.step, o.id, s.channel, o.occupancy, o.basis, o.meter"
            " FROM series s JOIN source o ON o.series = s.id WHERE s.sender = ? AND s.place = ?",
            (sender, retraction.place),
        ).fetchall():
            if retraction.concerns(*names):
                series[number, kind, step].append(source)
        for (number, kind, step), sources in series.items():
            yield number, kind, step, sources

    def _remove(
        self, series: int, kind: str, step: int, sources: list[int], retraction: Retraction
    ) -> int:
        first, end = retraction.slots(kind)
        first, end = max(first, FIRST_SLOT), min(end or LAST_SLOT, LAST_SLOT)
        which = "source AMONG(?) AND ver <= ?"
        values = (series, self.among(sources), retraction.ver)
        removed: int = self.execute(
            f"DELETE FROM reading WHERE series = ? AND {which} AND last IS NULL"
            " AND t >= AT(?) AND t < AT(?)",
            (*values, first, end),
        ).rowcount
        for source, again, *members in self.execute(
            f"SELECT source, again, {SPAN} FROM reading WHERE series + 0 = ? AND {which}"
            " AND last >= ? AND t < AT(?)",
            (*values, first, end),
        ).fetchall():
            row = _span(members, step)
            self.execute(
                "DELETE FROM reading WHERE series = ? AND t = AT(?) AND ver = ?",
                (series, row.t, row.ver),
            )
            left = list(row.parts(step, lambda t: first <= t < end))
            self.insert([Numbered(series, source, part) for part in left], bool(again))
            removed += row.slots - sum(part.slots for part in left)
        return removed

    def standing(self, sender: int, places: set[str]) -> dict[str, list[Retraction]]:
        """The retractions of dwellings, by dwelling."""
        found: dict[str, list[Retraction]] = defaultdict(list)
        names = sorted(places)
        for part in (names[n : n + 500] for n in range(0, len(names), 500)):
            for members in self.execute(
                "SELECT id, place, channel, occupancy, basis, meter, since, until, ver, reason"
                f" FROM retraction WHERE sender = ? AND place IN ({', '.join('?' * len(part))})",
                (sender, *part),
            ):
                retraction = Retraction(*members)
                found[retraction.place].append(retraction)
        return found

    # -- rows

    def add(self, sender: int, batch: Batch) -> None:
        """Store the rows that no retraction covers. Rules T6, T19."""
        standing = self.standing(sender, {source.place for source, _ in batch.rows})
        refusing: set[str] = set()
        single: dict[bool, list[Numbered]] = {False: [], True: []}
        spans: list[tuple[Numbered, int, bool]] = []
        for (source, again), rows in batch.rows.items():
            series, number = self._number(sender, source)
            by = [one for one in standing.get(source.place, ()) if one.concerns(
                source.channel, source.occupancy, source.basis, source.meter)]  # fmt: skip
            left = self._left(source, rows, by, refusing) if by else rows
            for row in left:
                if row.slots == 1:
                    single[again].append(Numbered(series, number, row))
                else:
                    spans += [(Numbered(series, number, part), source.step, again)
                              for part in months(row, source.step)]  # fmt: skip
        self.many(
            "INSERT INTO refused VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [(sender, batch.id.epoch, batch.id.seq, id_) for id_ in sorted(refusing)],
        )
        twice = 0
        for again, numbered in single.items():
            twice += self._add_single(numbered, again)
        for span, step, again in spans:
            twice += self._add_span(span, step, again)
        if twice:
            self.count(
                batch.id.gateway,
                "rows-twice",
                f"batch {batch.id.seq} of epoch {batch.id.epoch}",
                twice,
            )

    @staticmethod
    def _left(
        source: Source, rows: list[Row], by: list[Retraction], refusing: set[str]
    ) -> list[Row]:
        """What the retractions leave of rows; adds those that cover any to `refusing`."""

        def leaves(t: int, ver: int) -> bool:
            covering = [one.id for one in by if one.covers(source.kind, t, ver)]
            refusing.update(covering)
            return bool(covering)

        left: list[Row] = []
        for row in rows:
            left += row.parts(source.step, lambda t, ver=row.ver: leaves(t, ver))  # type: ignore[misc]
        return left

    def _add_single(self, rows: list[Numbered], again: bool) -> int:
        """Store rows of one slot; how many state a slot twice, neither marked `again`."""
        if not rows:
            return 0
        spans = self._spans(rows)
        twice = 0
        if spans:
            kept = []
            for one in rows:
                over = [span_again for t, last, ver, span_again in spans.get(one.series, ())
                        if t <= one.row.t <= last and ver == one.row.ver]  # fmt: skip
                if not over:
                    kept.append(one)
                twice += bool(over) and not again and not any(over)
            rows = kept
        missing = len(rows) - self.insert(rows, again)
        if not missing or again:
            return twice
        # all of these keys exist now; stored rows that are marked `again` were there before
        marked = sum(
            bool(row and row[0])
            for row in (
                self.execute(
                    "SELECT again FROM reading WHERE series = ? AND t = AT(?) AND ver = ?",
                    (one.series, one.row.t, one.row.ver),
                ).fetchone()
                for one in rows
            )
        )
        return twice + missing - marked

    def _spans(self, rows: list[Numbered]) -> dict[int, list[tuple[int, int, int, bool]]]:
        """Stored spans that may contain the slots of rows, by series."""
        first, last = min(one.row.t for one in rows), max(one.row.t for one in rows)
        found: dict[int, list[tuple[int, int, int, bool]]] = defaultdict(list)
        for series, *span in self.execute(
            "SELECT series, SEC(t), last, ver, again FROM reading"
            " WHERE series + 0 AMONG(?) AND last >= ? AND t >= AT(?) AND t <= AT(?)",
            (self.among({one.series for one in rows}), first, month_of(first), last),
        ):
            found[series].append(tuple(span))
        return found

    def _add_span(self, span: Numbered, step: int, again: bool) -> int:
        """Store the slots of a span that no row of its version states yet; how many of them are
        stated by a row where neither is marked `again`.
        """
        row = span.row
        stated: dict[int, bool] = {}
        for t, last, marked in self.execute(
            "SELECT SEC(t), last, again FROM reading WHERE series = ? AND ver = ?"
            " AND t >= AT(?) AND t <= AT(?) UNION ALL"
            " SELECT SEC(t), last, again FROM reading WHERE series + 0 = ? AND ver = ?"
            " AND last >= ? AND t >= AT(?) AND t < AT(?)",
            (span.series, row.ver, row.t, row.last or row.t,
             span.series, row.ver, row.t, month_of(row.t), row.t),
        ):  # fmt: skip
            for slot in range(t, (last or t) + 1, step):
                stated[slot] = bool(marked)
        left = [span._replace(row=part) for part in row.parts(step, stated.__contains__)]
        self.insert(left, again)
        twice = [slot for slot in range(row.t, (row.last or row.t) + 1, step) if slot in stated]
        return 0 if again else sum(not stated[slot] for slot in twice)

    def _number(self, sender: int, source: Source) -> tuple[int, int]:
        """The numbers of a series and of a source; made at their first row."""
        known = self._numbers.get((sender, source))
        if known is None:
            series = self._numbered(
                "series", "sender, place, channel, kind, step", (sender, *source[:4])
            )
            number = self._numbered(
                "source", "series, unit, meter, occupancy, basis", (series, *source[4:])
            )
            known = self._numbers[sender, source] = (series, number)
        return known

    def _numbered(self, table: str, columns: str, values: tuple[object, ...]) -> int:
        select = f"SELECT id FROM {table} WHERE ({columns}) = (?, ?, ?, ?, ?)"
        found = self.execute(select, values).fetchone()
        if found is None:
            found = self.execute(
                f"INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, ?) RETURNING id", values
            ).fetchone()
        return int(found[0])

    # -- the directory

    def _learn(self, sender: int, batch: Batch) -> None:
        """Keep the directory: of two items the one of the later batch stays. Rule T21."""
        if not batch.directory:
            return
        rank = self._rank(sender, batch)
        items = [
            (sender, name, key_of(item), rank, batch.id.seq, item.get("place"), channels_of(item),
             item.get("step"), *moments_of(item), json.dumps(item, ensure_ascii=False))
            for name, list_ in batch.directory.items() if name != "before" for item in list_
        ]  # fmt: skip
        self.many(
            "INSERT INTO directory VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (sender, list, id) DO UPDATE SET rank = excluded.rank,"
            " seq = excluded.seq, place = excluded.place, channels = excluded.channels,"
            " step = excluded.step, since = excluded.since, until = excluded.until,"
            " body = excluded.body"
            " WHERE (directory.rank, directory.seq) <= (excluded.rank, excluded.seq)",
            items,
        )
        for item in batch.directory.get("zone", ()):
            self._zone(sender, str(item.get("timezone")))
        for outcome in batch.directory.get("outcomes", ()):
            self.execute(
                "UPDATE object SET outcome = ? WHERE gateway = ? AND recipient = ?"
                " AND (sha256 = ? OR jti = ?)",
                (json.dumps(outcome), batch.id.gateway, batch.id.recipient,
                 outcome.get("sha256"), outcome.get("jti")),
            )  # fmt: skip

    def _rank(self, sender: int, batch: Batch) -> int:
        """Epochs in their order: an epoch is later than the one that it names as `before`."""
        known = self.execute("SELECT epoch, rank FROM epoch WHERE sender = ?", (sender,))
        ranks: dict[str, int] = dict(known.fetchall())
        before: Any = batch.directory.get("before")
        if isinstance(before, list) and len(before) == 2:  # noqa: PLR2004 -- epoch and last seq
            name, last = str(before[0]), before[1] if isinstance(before[1], int) else None
            if name not in ranks:
                # what comes of it later is older than what this epoch has brought
                ranks[name] = min(ranks.values(), default=0) - 1
            self._rank_is(sender, name, ranks[name], last)
            if ranks.get(batch.id.epoch, ranks[name]) <= ranks[name]:
                ranks[batch.id.epoch] = max(ranks.values()) + 1
        rank = ranks.setdefault(batch.id.epoch, max(ranks.values(), default=0) + 1)
        self._rank_is(sender, batch.id.epoch, rank, None)
        return rank

    def _rank_is(self, sender: int, epoch: str, rank: int, last: int | None) -> None:
        self.execute(
            "INSERT INTO epoch VALUES (?, ?, ?, ?) ON CONFLICT (sender, epoch) DO UPDATE SET"
            " rank = excluded.rank, last_seq = coalesce(excluded.last_seq, epoch.last_seq)",
            (sender, epoch, rank, last),
        )

    def _zone(self, sender: int, name: str) -> None:
        try:
            zone = ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return
        self.execute("UPDATE sender SET zone = ? WHERE id = ?", (name, sender))
        if (
            self.execute("SELECT 1 FROM calendar WHERE zone = ? LIMIT 1", (name,)).fetchone()
            is None
        ):
            self.many(
                "INSERT INTO calendar VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(name, *line) for line in calendar(zone)],
            )

    # -- status, backups, objects

    def keep_status(self, gateway: str, recipient: str, text: bytes) -> dict[str, Any]:
        """Keep how a gateway is, as it states it. Raises Rejected."""
        try:
            status = json.loads(text, parse_constant=lambda _: None)
            if (status["gateway"], status["recipient"]) != (gateway, recipient):
                raise ValueError("a status of another gateway or recipient")
            written = json.dumps(status)
            if "\\u0000" in written:
                raise ValueError("a sign that cannot be stored")
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise Rejected(f"no status: {error}") from error
        with self.transaction():
            self.execute(
                "INSERT INTO sender (gateway, recipient, status, status_at) VALUES (?, ?, ?, NOW)"
                " ON CONFLICT (gateway, recipient) DO UPDATE SET status = excluded.status,"
                " status_at = excluded.status_at",
                (gateway, recipient, written),
            )
        return dict(status)

    def keep_building(
        self, gateway: str, recipient: str, made: str, revision: int, content: bytes
    ) -> dict[str, Any]:
        """Keep a backup; the receipt. Of several, the one made last stays, and those whose revision
        is higher: the gateway was restored from an old one.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        with self.transaction():
            self.execute(
                "INSERT INTO building (gateway, recipient, sha256, made, revision, content)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (gateway, recipient, sha256, made, revision, content),
            )
            self.execute(
                "DELETE FROM building WHERE gateway = ? AND recipient = ? AND EXISTS (SELECT 1"
                " FROM building n WHERE n.gateway = building.gateway"
                " AND n.recipient = building.recipient AND n.made > building.made"
                " AND n.revision >= building.revision)",
                (gateway, recipient),
            )
        word = {"schema": "gardien/building-receipt/1", "gateway": gateway}
        return word | {"recipient": recipient, "sha256": sha256}

    def add_object(self, gateway: str, recipient: str, body: str) -> int:
        """Keep a signed object for a gateway, byte for byte; its number, which orders them."""
        body = body.strip()
        claims, typ = claims_of(body)
        expires, jti = claims.get("exp"), claims.get("jti")
        with self.transaction():
            (n,) = self.execute(
                "INSERT INTO object (gateway, recipient, body, sha256, jti, typ, expires)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING n",
                (
                    gateway,
                    recipient,
                    body,
                    hashlib.sha256(body.encode()).hexdigest(),
                    jti,
                    typ,
                    expires,
                ),
            ).fetchone()
        return int(n)

    def objects(self, gateway: str, after: int, now: float) -> list[SignedObject]:
        """The objects of a gateway after that number, oldest first, without those that expired."""
        return [SignedObject(*row) for row in self.execute(
            f"SELECT {OBJECT} FROM object WHERE gateway = ? AND n > ?"
            " AND (expires IS NULL OR expires > ?) ORDER BY n LIMIT 500",
            (gateway, after, int(now)),
        )]  # fmt: skip

    def has_object(self, gateway: str, n: int) -> bool:
        """Whether a gateway has, or had, an object of that number."""
        found = self.execute("SELECT 1 FROM object WHERE gateway = ? AND n = ?", (gateway, n))
        return found.fetchone() is not None

    def gateways(self) -> list[str]:
        """All that were heard of."""
        return [name for (name,) in self.execute("SELECT DISTINCT gateway FROM sender ORDER BY 1")]

    def unsent(self, now: float) -> list[SignedObject]:
        """Objects that were never published, or long ago and have no outcome yet."""
        return [SignedObject(*row) for row in self.execute(
            f"SELECT {OBJECT} FROM object WHERE outcome IS NULL AND sent < ?"
            " AND (expires IS NULL OR expires > ?) ORDER BY n LIMIT 500",
            (int(now) - AGAIN_SECONDS, int(now)),
        )]  # fmt: skip

    def sent(self, n: int, now: float) -> None:
        """Note that an object was published."""
        with self.transaction():
            self.execute("UPDATE object SET sent = ? WHERE n = ?", (int(now), n))


SPAN = "SEC(t), ver, q, why, flags, last"
OBJECT = "n, gateway, recipient, body, expires, coalesce(typ, '')"


def _span(members: Sequence[Any], step: int) -> Row:
    t, ver, q, why, flags, last = members
    row = Row(int(t), int(ver), None, q, why=why, flags=flags, slots=(last - int(t)) // step + 1)
    return row.until_last(step)


def head(about: Id) -> dict[str, Any]:
    """The first members of a receipt."""
    gateway, recipient, epoch, _ = about
    members = {"schema": "gardien/receipt/1", "gateway": gateway, "recipient": recipient}
    return members | {"epoch": epoch}


def rejection(about: Id, sha256: str, reason: str) -> dict[str, Any]:
    """A receipt for bytes that are never accepted. Rule T4."""
    return head(about) | {"rejected": [[about.seq, sha256, reason]]}


def month_of(t: int) -> int:
    """The beginning of a month of UTC."""
    return _month_of_day(t // 86_400)


@lru_cache(maxsize=10_000)
def _month_of_day(day: int) -> int:
    at = datetime.fromtimestamp(day * 86_400, UTC)
    return int(datetime(at.year, at.month, 1, tzinfo=UTC).timestamp())


def month_after(t: int) -> int:
    """The beginning of the next month of UTC."""
    return month_of(month_of(t) + 32 * 86_400)


def months(row: Row, step: int) -> Iterator[Row]:
    """A span, cut at the months of UTC: what overlaps it is then found within a month."""
    t, last = row.t, row.t + (row.slots - 1) * step
    while t <= last:
        slots = min(last - t, month_after(t) - 1 - t) // step + 1
        yield row._replace(t=t, slots=slots).until_last(step)
        t += slots * step


def calendar(zone: ZoneInfo) -> Iterator[tuple[str, str, int, int]]:
    """Days and months of a time zone: period, name, first second, end."""
    day, end = date(FIRST_YEAR, 1, 1), date(END_YEAR, 1, 1)
    while day < end:
        after = day + timedelta(days=1)
        yield "day", day.isoformat(), _midnight(day, zone), _midnight(after, zone)
        if day.day == 1:
            after = (day + timedelta(days=32)).replace(day=1)
            yield "month", day.isoformat()[:7], _midnight(day, zone), _midnight(after, zone)
        day += timedelta(days=1)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def key_of(item: dict[str, Any]) -> str:
    """The key of an item of the directory in its list."""
    names = [str(item.get(name, "")) for name in ("place", "channel", "kind", "step")]
    return str(item.get("id", "/".join(names)))


def channels_of(item: dict[str, Any]) -> str | None:
    """The channels of a basis or a series, between commas; None: all."""
    names = item.get("channels") or ([item["channel"]] if item.get("channel") else None)
    return f",{','.join(names)}," if names else None


def moments_of(item: dict[str, Any]) -> tuple[int | None, int | None]:
    """`since` and `until` as Unix seconds."""
    since, until = item.get("since"), item.get("until")
    return since and second(since), until and second(until)


def claims_of(body: str) -> tuple[dict[str, Any], str | None]:
    """Claims and type of a signed object, unverified: the gateway verifies it."""
    if body.startswith("{"):
        return {}, "trust-list+jws"  # the only one with several signatures
    try:
        parts = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in body.split(".")[:2]]
        return dict(parts[1]), parts[0].get("typ")
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}, None


@lru_cache(maxsize=500)
def _translated(text: str, macros: tuple[tuple[str, str], ...]) -> str:
    of = dict(macros)

    def replacement(match: re.Match[str]) -> str:
        name = match[1] or match[0]
        return of[name].replace("{}", _translated(match[2], macros)) if match[1] else of[name]

    return MACRO.sub(replacement, text)


def migrate(uri: str, store: Store) -> None:
    """Bring tables and views up to date. For one process, before others open the database."""
    from yoyo import get_backend, read_migrations  # noqa: PLC0415 -- once, at a start

    with store.alone():
        # yoyo's own lock would stay if this process were killed
        with get_backend(uri) as backend:
            migrations = read_migrations(str(SCHEMA / store.folder))
            backend.apply_migrations(backend.to_apply(migrations))
        text = VIEWS.read_text("utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        if store.execute("SELECT views FROM made").fetchall() == [(digest,)]:
            return
        with store.transaction():
            for statement in text.split(";\n"):
                if statement.strip():
                    store.view(statement)
            store.execute("DELETE FROM made")
            store.execute("INSERT INTO made VALUES (?)", (digest,))
