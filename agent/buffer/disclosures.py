"""Counts the values of dwellings that a recipient has received: by day of receipt, place, channel,
basis and occupancy; and which slots these are, with those whose absence was announced.

There are no values here. Counts change in the transaction that applies the receipt, so no value is
counted twice or not at all. They are kept five years. The ids of places, bases and occupancies are
stored as tokens, with the sealed ids beside them: five years of who lived where are more sensitive
than a day's readings.
"""

from __future__ import annotations

import hmac
import json
from collections import defaultdict
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import zstandard

from agent.buffer.batch import read_rows
from agent.buffer.keys import SealBroken, SealedTable, SpoolKeys
from agent.core.slot_runs import ANY, VALUE, SlotRun, joined, run_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from agent.buffer.database import Database
    from agent.buffer.keys import Commit
    from agent.core.model import BatchId, Reading

    Read = Callable[..., list[tuple[Any, ...]]]

DAY = 86_400
YEARS = 5 * 366 * DAY
"""seconds for which counts are kept"""
# disclosed_of: the part of each count whose occupancy is known.
# counted, counted_of: counted values that are sent again, in the same or in other batches
TABLES = (
    """CREATE TABLE IF NOT EXISTS disclosed(day INTEGER, place TEXT, channel TEXT, basis TEXT,
    n INTEGER NOT NULL, PRIMARY KEY(day, place, channel, basis)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS disclosed_of(day INTEGER, place TEXT, channel TEXT, basis TEXT,
    occupancy TEXT, n INTEGER NOT NULL,
    PRIMARY KEY(day, place, channel, basis, occupancy)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS counted(epoch TEXT, seq INTEGER,
    PRIMARY KEY(epoch, seq)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS counted_of(place TEXT, channel TEXT, basis TEXT, occupancy TEXT,
    n INTEGER NOT NULL, PRIMARY KEY(place, channel, basis, occupancy)) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS word(token TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS received(n INTEGER PRIMARY KEY, place TEXT, channel TEXT,
    basis TEXT, occupancy TEXT, meter TEXT, runs TEXT NOT NULL,
    UNIQUE(place, channel, basis, occupancy, meter))""",
    # what receipts add to `received`: to rewrite the runs of all series at each receipt would cost
    # the flash 100 MB a day in a building of 500 dwellings
    "CREATE TABLE IF NOT EXISTS received_since(day INTEGER NOT NULL, runs TEXT NOT NULL)",
)
TOKEN = "#"  # noqa: S105 -- it is none
"""prefix of the token of an id; no id begins with it"""
ROW = 80
"""bytes of a count, about"""
AT_ONCE = 500
"""counts that are rewritten in one commit"""
HIDDEN = {
    "disclosed": (("day", "place", "channel", "basis"), (1, 3)),
    "disclosed_of": (("day", "place", "channel", "basis", "occupancy"), (1, 3, 4)),
    "counted_of": (("place", "channel", "basis", "occupancy"), (0, 2, 3)),
}
"""tables with ids: the columns of their keys, and which of these are ids"""
IN_CLEAR = """SELECT EXISTS(SELECT 1 FROM disclosed WHERE place>='A') OR EXISTS(SELECT 1 FROM
    disclosed_of WHERE place>='A') OR EXISTS(SELECT 1 FROM counted_of WHERE place>='A')"""
RECEIVED, RECEIVED_IDS = "place, channel, basis, occupancy, meter", (0, 2, 3, 4)
NEW_SERIES, NEW_RUN = 400, 64
"""bytes that a new series, and a run added to one, take in the file at most"""
MOST_NOTED = 64_000
"""bytes of `received_since` after which it is added to `received`; else once a day"""
ALL = """
SELECT day, place, channel, basis, occupancy, n FROM disclosed_of
UNION ALL
SELECT day, place, channel, basis, '', n - known FROM (
    SELECT *, coalesce((SELECT sum(n) FROM disclosed_of AS of WHERE of.day=disclosed.day
        AND of.place=disclosed.place AND of.channel=disclosed.channel
        AND of.basis=disclosed.basis), 0) AS known FROM disclosed)
    WHERE n > known
"""


class Disclosure(NamedTuple):
    """Number of values that were received on one day."""

    day: str
    """UTC, of the receipt"""
    place: str
    channel: str
    basis: str
    occupancy: str
    """whose values they were; empty: an earlier version counted them without it"""
    values: int


class SeriesCount(NamedTuple):
    """Number of values of one series."""

    place: str
    channel: str
    basis: str
    occupancy: str
    values: int
    runs: tuple[SlotRun, ...] = ()
    """the slots of its rows; empty: an earlier version noted the count"""

    @property
    def slots(self) -> tuple[SlotRun, ...]:
        """As `runs`; if they are not known, a run whose times are not known."""
        unknown = SlotRun(VALUE, 0, 0, 0, self.values, ANY)
        return self.runs or ((unknown,) if self.values else ())


class ReceivedSlots(NamedTuple):
    """The slots of one series that the recipient has received, with and without a value."""

    place: str
    channel: str
    basis: str
    occupancy: str
    runs: tuple[SlotRun, ...]


class TokenIdentity(Protocol):
    """The part of the gateway's identity that is needed here."""

    @property
    def gateway(self) -> str:
        """The id of the gateway."""
        ...

    @property
    def spool_key(self) -> bytes:
        """The key of everything on the disk."""
        ...

    @property
    def spool_key_before(self) -> bytes | None:
        """The earlier key of everything that is not under the present one yet; None: there is
        none.
        """
        ...


class DisclosureTokens:
    """Makes and reads tokens of ids, with the gateway's key."""

    def __init__(self, keys: SpoolKeys) -> None:
        self._keys, self._sealer = keys, keys.sealer("id")

    def token(self, id_: str) -> str:
        """The token of an id, always the same; empty for an empty id."""
        if not id_ or id_.startswith(TOKEN):
            return id_
        secret = self._keys.secret("id's token")
        return TOKEN + hmac.digest(secret, id_.encode(), sha256)[:12].hex()

    def seal(self, id_: str, token: str = "") -> bytes:
        """The sealed id, bound to its token or to the given one."""
        return self._sealer.seal(id_.encode(), token or self.token(id_))

    def sealed(self, rewrite: Callable[..., None]) -> SealedTable:
        """The sealed bodies for a key rotation."""
        return SealedTable("word", ("token",), str, lambda _: self._sealer, rewrite=rewrite)

    def known(self, rows: Iterable[tuple[str, bytes]]) -> dict[str, str]:
        """Ids by their tokens."""
        ids = {}
        for token, body in rows:
            try:
                ids[token] = self._sealer.unseal(body, token).decode()
            except SealBroken:
                continue  # the token is shown instead
        return ids


class DisclosureCounts:
    """The counts of one recipient. Every change belongs inside the caller's transaction."""

    def __init__(self, database: Database, tokens: DisclosureTokens, *, on_trial: bool) -> None:
        """`on_trial`: during an upgrade ids are written as the version before reads them."""
        self._database, self._tokens = database, tokens
        for table in TABLES:
            database.write(table)
        self._meters: dict[str, str] = {}
        """numbers of meters"""
        self._with_slots = True
        self.room: Callable[[], int] = int
        """bytes for slots; the spool replaces it: as many as rows may still fill"""
        self._on_trial = on_trial and not database.scalar("SELECT EXISTS(SELECT 1 FROM word)")

    def begin_hiding(self) -> bool:
        """Set the tables aside in which an earlier version wrote ids in clear. Return whether they
        have ids to hide. Not while an upgrade is on trial.
        """
        if self._on_trial:
            return False
        if not self._clear() and self._database.scalar(IN_CLEAR):
            for table in HIDDEN:
                self._database.write(f"ALTER TABLE {table} RENAME TO {table}_clear")
            for table in TABLES:
                self._database.write(table)
        return bool(self._clear())

    def hide(self) -> bool:
        """Count the next rows of those tables again, under tokens. False: none is left, and the
        pages of the tables are overwritten.

        New tables are needed: pages that are rewritten in place would keep the old text in their
        gaps.
        """
        for table in self._clear():
            columns, ids = HIDDEN[table]
            names = ", ".join(columns)
            rows = self._database.read(f"SELECT {names}, n FROM {table}_clear LIMIT {AT_ONCE}")  # noqa: S608 -- ours
            for row in rows:
                self._move(table, row, self._written(row[:-1], ids), f"{table}_clear")
            if not rows:
                self._database.write(f"DROP TABLE {table}_clear")
            return True
        return False

    @property
    def stages(self) -> tuple[SealedTable, Days]:
        """What a rotation of the gateway's key changes: the tokens, and the counts under them."""
        days = Days(self._database, self._tokens, self._moved, self._move_slots)
        return self._tokens.sealed(self._put_id), days

    def _put_id(self, token: str, body: bytes) -> None:
        id_ = body.decode()
        self._written([id_], (0,))
        sealed = self._tokens.seal(id_, token)
        self._database.write("UPDATE word SET body=? WHERE token=?", sealed, token)

    def rotate(self) -> None:
        """Rewrite the counts of values that are sent again under the present tokens, inside the
        caller's transaction.
        """
        known = self._tokens.known(self._database.read("SELECT token, body FROM word"))
        names = ", ".join(HIDDEN["counted_of"][0])
        rows = self._database.read(f"SELECT {names}, n FROM counted_of")  # noqa: S608 -- ours
        self._moved("counted_of", [row for row in rows if {*row} & known.keys()], known)

    def _moved(self, table: str, rows: Iterable[Any], known: Mapping[str, str]) -> None:
        _columns, ids = HIDDEN[table]
        for row in rows:
            values = [known.get(value, value) for value in row]
            self._move(table, row, self._written(values[:-1], ids))

    def _clear(self) -> list[str]:
        names = {name for (name,) in self._database.read("SELECT name FROM sqlite_master")}
        return [table for table in HIDDEN if f"{table}_clear" in names]

    def _move(
        self, table: str, row: Sequence[Any], values: Sequence[Any], before: str = ""
    ) -> None:
        """Count a row under other values of its key."""
        columns, _ = HIDDEN[table]
        where = " AND ".join(f"{column}=?" for column in columns)
        self._database.write(f"DELETE FROM {before or table} WHERE {where}", *row[:-1])  # noqa: S608 -- ours
        self._database.write(
            f"INSERT INTO {table} VALUES({'?, ' * len(columns)}?) ON CONFLICT({', '.join(columns)})"
            " DO UPDATE SET n = n + excluded.n",
            *values,
            row[-1],
        )

    def _written(
        self,
        values: Sequence[Any],
        ids: Sequence[int] = (0, 2, 3),
        known: dict[str, str] | None = None,
    ) -> list[Any]:
        """Values as the tables have them: those at the positions `ids` as tokens. `known`: tokens
        that were stored in this transaction already.
        """
        if self._on_trial:
            return list(values)
        written = list(values)
        known = {} if known is None else known
        for at in ids:
            if values[at] in known:
                written[at] = known[values[at]]
                continue
            token = written[at] = known[values[at]] = self._tokens.token(values[at])
            # The sealed id is stored once, however many counts use its token.
            if token and not self._database.read("SELECT 1 FROM word WHERE token=?", token):
                sealed = self._tokens.seal(values[at])
                self._database.write("INSERT INTO word VALUES(?,?)", token, sealed)
        return written

    def payload(self, payload: bytes | None, now: float) -> None:
        """Count the values of a received batch, as it was sealed; None: it is damaged."""
        if payload is None:
            return
        document = json.loads(zstandard.ZstdDecompressor().decompress(payload))
        counts: dict[bool, list[SeriesCount]] = {False: [], True: []}
        for of in document.get("series", ()):
            if of["place"][:1] == "D":
                counts[bool(of.get("again"))] += counts_of(read_rows(of))
        for again, of_series in counts.items():
            self.add(of_series, now, again=again)

    def sent_again(self, id_: BatchId) -> None:
        """Note that a counted batch is sent again on request."""
        self._database.write("INSERT OR IGNORE INTO counted VALUES(?,?)", id_.epoch, id_.seq)

    def was_counted(self, epoch: str, seq: int) -> bool:
        """Whether a batch was counted before it was sent again. The note is removed."""
        return bool(self._database.write("DELETE FROM counted WHERE epoch=? AND seq=?", epoch, seq))

    def returned(self, rows: Iterable[Reading]) -> None:
        """Note that counted values will be sent again, in another batch."""
        for count in counts_of(rows):
            if count.place[:1] == "D" and count.values:
                self._database.write(
                    "INSERT INTO counted_of VALUES(?,?,?,?,?) ON CONFLICT(place, channel, basis,"
                    " occupancy) DO UPDATE SET n = n + excluded.n",
                    *self._written(count[:4]),
                    count.values,
                )

    def forget(self, now: float) -> None:
        """Delete counts older than five years."""
        self._database.write("DELETE FROM disclosed WHERE day<?", _day(now - YEARS))
        self._database.write("DELETE FROM disclosed_of WHERE day<?", _day(now - YEARS))
        noted = _noted(self._database.read)
        for n, text in self._database.read("SELECT n, runs FROM received"):
            runs = _runs(text)
            left = [run for run in runs if run.last >= now - YEARS]
            if not left and n not in noted:
                self._database.write("DELETE FROM received WHERE n=?", n)
            elif left != runs:
                self._keep_slots(n, left)
        self._database.write(
            "DELETE FROM counted WHERE NOT EXISTS (SELECT 1 FROM batch WHERE"
            " batch.epoch=counted.epoch AND batch.seq=counted.seq)"
        )
        self.tidy()

    def tidy(self) -> None:
        """Delete the ids that no count uses."""
        self._database.write(
            "DELETE FROM word WHERE token NOT IN (SELECT place FROM disclosed UNION SELECT basis"
            " FROM disclosed UNION SELECT occupancy FROM disclosed_of UNION SELECT place FROM"
            " counted_of UNION SELECT basis FROM counted_of UNION SELECT occupancy FROM counted_of"
            " UNION SELECT place FROM received UNION SELECT basis FROM received UNION SELECT"
            " occupancy FROM received UNION SELECT meter FROM received)"
        )

    def all(self, place: str = "") -> list[Disclosure]:
        """All counts, or those of one place, by day."""
        return disclosures(self._database.read, self._tokens, place)

    def add(self, counts: Iterable[SeriesCount], now: float, *, again: bool = False) -> None:
        """Count values as received now. `again`: only those that are not counted already."""
        day, counts = _day(now), list(counts)
        had = self._had(counts)
        tokens: dict[str, str] = {}
        slots: dict[SlotRun, list[int]] = defaultdict(list)
        """numbers of series by runs that they have received"""
        with_slots = self._with_slots and not self._on_trial  # on trial ids are in clear
        room = self.room() if with_slots else 0
        for count in counts:
            # Only dwellings: readings of common areas are not personal data.
            if count.place[:1] != "D":
                continue
            # Counted when they were received the first time.
            counted = self._counted(count) if again else 0
            values = count.values - min(count.values, max(counted, had.get(count[:4], 0)))
            if not values and not count.runs:
                continue
            place, channel, basis, occupancy = key = self._written(count[:4], known=tokens)
            for run in count.runs if with_slots else ():
                of = (*key, *self._written([run.meter], (0,), tokens))
                if (n := self._known_number(of)) is None:
                    room -= NEW_SERIES
                    if room < 0:
                        continue  # letters state least and most of it
                    n = self._number(of)
                slots[run._replace(meter="")].append(n)
            if values:
                self._database.write(
                    "INSERT INTO disclosed VALUES(?,?,?,?,?) ON CONFLICT(day, place, channel,"
                    " basis) DO UPDATE SET n = n + excluded.n",
                    *(day, place, channel, basis, values),
                )
                self._database.write(
                    "INSERT INTO disclosed_of VALUES(?,?,?,?,?,?) ON CONFLICT(day, place, channel,"
                    " basis, occupancy) DO UPDATE SET n = n + excluded.n",
                    *(day, place, channel, basis, occupancy, values),
                )
        if with_slots:
            self._note_slots(slots, day, room)

    def _had(self, counts: Iterable[SeriesCount]) -> dict[tuple[str, ...], int]:
        """By series, how many of these values were received in the same version before: the other
        spool of the recipient had kept them too.
        """
        had: dict[tuple[str, ...], int] = {}
        anew = [
            (count[:4], run)
            for count in counts
            for run in count.runs
            if count.place[:1] == "D" and run.kind == VALUE and run.ver > 0
        ]
        noted = _noted(self._database.read) if anew else {}
        for key, run in anew:
            of = *self._written(key), *self._written([run.meter], (0,))
            if (n := self._known_number(of)) is not None:
                stored = self._database.scalar("SELECT runs FROM received WHERE n=?", n)
                known, new = joined(_runs(stored), noted.get(n, ())), run._replace(meter="")
                both = sum(one.slots for one in (*known, new))
                had[key] = had.get(key, 0) + both - sum(one.slots for one in joined(known, [new]))
        return had

    def slots(self) -> list[ReceivedSlots]:
        """The slots of all dwellings that the recipient has received, also of those that it has
        erased since.
        """
        return received_slots(self._database.read, self._tokens)

    def _number(self, key: Sequence[str]) -> int:
        """The number of a series in `received`. `key`: RECEIVED, as tokens."""
        if (n := self._known_number(key)) is None:
            sql = f"INSERT INTO received({RECEIVED}, runs) VALUES(?,?,?,?,?,'[]') RETURNING n"
            n = int(self._database.scalar(sql, *key))
        return n

    def _known_number(self, key: Sequence[str]) -> int | None:
        sql = f"SELECT n FROM received WHERE ({RECEIVED})=(?,?,?,?,?)"  # noqa: S608 -- ours
        n = self._database.scalar(sql, *key)
        return None if n is None else int(n)

    def _note_slots(self, slots: Mapping[SlotRun, Sequence[int]], day: int, room: int) -> None:
        """Note the slots of one receipt, in `room` bytes."""
        size, first = self._database.read(
            "SELECT coalesce(sum(length(runs)), 0), min(day) FROM received_since"
        )[0]
        if size > MOST_NOTED or first not in {None, day}:
            new = sum(map(len, _noted(self._database.read).values())) * NEW_RUN
            if new <= room:
                self._gather_slots()
            elif size > MOST_NOTED:
                return
        if slots:
            # without the meter, which is the last member: it belongs to the series
            runs = [[*run[:-1], _ranges(series)] for run, series in slots.items()]
            text = json.dumps(runs, separators=(",", ":"))
            self._database.write("INSERT INTO received_since VALUES(?,?)", day, text)

    def _gather_slots(self) -> None:
        """Add the notes of receipts to the runs of their series."""
        for n, new in _noted(self._database.read).items():
            self._put_slots(n, new)
        self._database.write("DELETE FROM received_since")

    @contextmanager
    def without_slots(self) -> Iterator[None]:
        """Only count: a full disk may have no room for more."""
        self._with_slots = False
        try:
            yield
        finally:
            self._with_slots = True

    def _put_slots(self, n: int, new: Iterable[SlotRun]) -> None:
        stored = self._database.scalar("SELECT runs FROM received WHERE n=?", n)
        self._keep_slots(n, joined(_runs(stored), new))

    def _keep_slots(self, n: int, runs: Iterable[SlotRun]) -> None:
        text = json.dumps([run[:-1] for run in runs], separators=(",", ":"))
        self._database.write("UPDATE received SET runs=? WHERE n=?", text, n)

    def _move_slots(self, rows: Iterable[Sequence[str]], known: Mapping[str, str]) -> None:
        """Put slots under the present tokens."""
        self._gather_slots()
        for n, *key, _text in rows:
            runs = _runs(self._database.scalar("SELECT runs FROM received WHERE n=?", n))
            self._database.write("DELETE FROM received WHERE n=?", n)
            ids = [known.get(value, value) for value in key]
            self._put_slots(self._number(self._written(ids, RECEIVED_IDS)), runs)

    def adopt(self, others: Iterable[Disclosure], slots: Sequence[ReceivedSlots] = ()) -> None:
        """Add the counts of another spool of the same recipient."""
        had = self._had(SeriesCount(*of[:4], 0, of.runs) for of in slots)
        for of in () if self._on_trial else slots:
            for run in of.runs:
                key = [*self._written(of[:4]), *self._written([run.meter], (0,))]
                self._put_slots(self._number(key), [run._replace(meter="")])
        for disclosure in others:
            at = datetime.fromisoformat(disclosure.day).replace(tzinfo=UTC).timestamp()
            count = SeriesCount(*disclosure[1:])
            known = min(count.values, had.get(count[:4], 0))
            had[count[:4]] = had.get(count[:4], 0) - known
            self.add([count._replace(values=count.values - known)], at)

    def __bool__(self) -> bool:
        """Whether anything is counted."""
        tables = ("disclosed", "received")
        return any(self._database.scalar(f"SELECT EXISTS(SELECT 1 FROM {one})") for one in tables)  # noqa: S608 -- ours

    def clear(self) -> None:
        """Forget all counts and slots: another spool has them. What is known of values that are
        sent again stays.
        """
        for table in ("disclosed", "disclosed_of", "received", "received_since"):
            self._database.write(f"DELETE FROM {table}")  # noqa: S608 -- ours
        self.tidy()

    def _counted(self, count: SeriesCount) -> int:
        """How many of these values are counted already. The note is reduced by as many."""
        key = self._written(count[:4])
        known = self._database.scalar(
            "SELECT n FROM counted_of WHERE place=? AND channel=? AND basis=? AND occupancy=?",
            *key,
        )
        used = min(int(known or 0), count.values)
        if used:
            self._database.write(
                "UPDATE counted_of SET n=n-? WHERE place=? AND channel=? AND basis=?"
                " AND occupancy=?",
                *(used, *key),
            )
            self._database.write("DELETE FROM counted_of WHERE n=0")
        return used


class Days:
    """Replaces the tokens of the earlier key in the counts, day by day. The two tables of a day
    change in one commit.
    """

    def __init__(
        self,
        database: Database,
        tokens: DisclosureTokens,
        move: Callable[[str, Iterable[Any], Mapping[str, str]], None],
        move_slots: Callable[[Iterable[Any], Mapping[str, str]], None],
    ) -> None:
        self._database, self._tokens, self._move = database, tokens, move
        self._move_slots = move_slots
        self._before: dict[str, str] | None = None
        """ids by tokens of the earlier key"""
        self._day = -1

    def step(self, commit: Commit) -> int:
        """Replace the next day. Return the bytes; 0: none is left."""
        if self._before is None:
            known = self._tokens.known(self._database.read("SELECT token, body FROM word"))
            self._before = {at: id_ for at, id_ in known.items() if self._tokens.token(id_) != at}
        # Both tables of a day in one commit, or their difference would show as values without
        # occupancy.
        tables = ("disclosed", "disclosed_of")
        sql = "SELECT min(day) FROM {} WHERE day>?"
        days = [self._database.scalar(sql.format(table_), self._day) for table_ in tables]
        if not (left := [day for day in days if day is not None]):
            return self._slots(commit)
        day, before = min(left), self._before

        def rewrite() -> int:
            size = 1
            for table in tables:
                names = ", ".join(HIDDEN[table][0])
                sql = f"SELECT {names}, n FROM {table} WHERE day=?"  # noqa: S608 -- ours
                rows = [row for row in self._database.read(sql, day) if {*row} & before.keys()]
                self._move(table, rows, before)
                size += len(rows) * ROW
            return size

        size = commit(rewrite)
        self._day = day
        return size

    def _slots(self, commit: Commit) -> int:
        """Replace the tokens of the next slots. Return the bytes; 0: none is left."""
        before = self._before or {}
        all_rows = self._database.read("SELECT * FROM received")
        rows = [row for row in all_rows if {*row} & before.keys()][:AT_ONCE]

        def rewrite() -> int:
            self._move_slots(rows, before)
            return len(rows) * ROW

        return commit(rewrite) if rows else 0


def tokens_of(identity: TokenIdentity, recipient: str) -> DisclosureTokens | None:
    """What reads the ids in the spool of a recipient; None: the gateway has no identity."""
    if not identity:
        return None
    key, before = identity.spool_key, identity.spool_key_before
    return DisclosureTokens(SpoolKeys(key, identity.gateway, recipient, before))


def disclosures(read: Read, tokens: DisclosureTokens | None, place: str = "") -> list[Disclosure]:
    """The counts of a spool, or those of one place, by day. `read` queries its file."""
    ids: Mapping[str, str] = tokens.known(read("SELECT token, body FROM word")) if tokens else {}
    counted = [
        Disclosure(
            _written(day), ids.get(at, at), channel, ids.get(basis, basis), ids.get(whose, whose), n
        )
        for day, at, channel, basis, whose, n in read(ALL)
    ]
    return sorted(disclosure for disclosure in counted if place in {"", disclosure.place})


def received_slots(read: Read, tokens: DisclosureTokens) -> list[ReceivedSlots]:
    """The received slots of a spool; `read` queries its file."""
    ids = tokens.known(read("SELECT token, body FROM word"))
    received, noted = [], _noted(read)
    for n, *key, text in read("SELECT * FROM received"):
        place, channel, basis, occupancy, meter = (ids.get(str(id_), str(id_)) for id_ in key)
        runs = tuple(run._replace(meter=meter) for run in joined(_runs(text), noted.get(n, ())))
        received.append(ReceivedSlots(place, channel, basis, occupancy, runs))
    return received


def _noted(read: Read) -> dict[int, list[SlotRun]]:
    """What `received_since` adds, by number of series."""
    noted: dict[int, list[SlotRun]] = defaultdict(list)
    for (text,) in read("SELECT runs FROM received_since"):
        for *run, ranges in json.loads(text):
            for first, last in ranges:
                for n in range(first, last + 1):
                    noted[n].append(SlotRun(*run))
    return noted


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Numbers, each once, as ranges [first, last]."""
    ranges: list[list[int]] = []
    for n in sorted({*numbers}):
        if ranges and ranges[-1][1] == n - 1:
            ranges[-1][1] = n
        else:
            ranges.append([n, n])
    return ranges


def _runs(text: str) -> list[SlotRun]:
    return [SlotRun(*run) for run in json.loads(text)]


def counts_of(rows: Iterable[Reading]) -> list[SeriesCount]:
    """Number of values in these rows, by series, and their slots if they are of a dwelling."""
    counts: dict[tuple[str, str, str, str], int] = {}
    runs: dict[tuple[str, str, str, str], list[SlotRun]] = defaultdict(list)
    for row in rows:
        series = row.series
        key = (series.place, series.channel, series.basis, series.occupancy or "")
        counts[key] = counts.get(key, 0) + (row.value is not None)
        if series.place[:1] == "D":
            runs[key].append(run_of(series, row.t, row.quality, row.span, row.ver))
    return [
        SeriesCount(*key, values, tuple(joined((), runs[key]))) for key, values in counts.items()
    ]


def _day(at: float) -> int:
    return int(at // DAY)


def _written(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).strftime("%Y-%m-%d")
