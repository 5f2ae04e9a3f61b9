"""The tables of a spool, whose spool it is, and what it remembers of its slots."""

from __future__ import annotations

import json
import secrets
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from agent.buffer.database import Damaged, Database
from agent.buffer.keys import OTHER, NotOurs, SealBroken, SealedTable, fingerprint, fingerprints
from agent.core.clock import DRIFT, STEP
from agent.core.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.buffer.batch import BatchHead
    from agent.buffer.keys import SpoolKeys
    from agent.core.clock import Period
    from agent.core.model import MarkKey, Reading, SlotMark, Told

APPLICATION = 0x67617264  # "gard"
FORMAT = 2
"""of the file; the number states which versions can read it"""
OLDEST = 2
"""the format of the release before this one. A new file begins with it, and this version can use
it. While an upgrade is on trial the file stays in it, so that going back loses nothing (note 012)
"""
ROTATED = 100
"""added to the format number of a file whose key was rotated: a version without rotation would not
find the owners of its rows, so it must refuse the file with a message
"""
# covering index: rows are counted, and an owner's blocks found, without reading a body
LANES = "CREATE INDEX block_lane ON block(t1, t0, n, slots, owner, mixed)"
TABLES = (
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    "CREATE TABLE series(number INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    """CREATE TABLE block(no INTEGER PRIMARY KEY, t0 INTEGER NOT NULL, t1 INTEGER NOT NULL,
    n INTEGER NOT NULL, slots INTEGER NOT NULL, body BLOB NOT NULL,
    owner INTEGER NOT NULL, mixed INTEGER NOT NULL)""",
    LANES,
    """CREATE TABLE mark(device TEXT, step INTEGER, slot INTEGER NOT NULL, heard INTEGER NOT NULL,
    serial TEXT, PRIMARY KEY(device, step)) WITHOUT ROWID""",
    """CREATE TABLE batch(no INTEGER PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL,
    lane TEXT NOT NULL, state INTEGER NOT NULL, sha256 TEXT NOT NULL, rows INTEGER NOT NULL,
    at REAL NOT NULL, reason TEXT, body BLOB NOT NULL, UNIQUE(epoch, seq))""",
    "CREATE INDEX batch_state ON batch(state, at, rows)",
    f"PRAGMA application_id={APPLICATION}",
    f"PRAGMA user_version={OLDEST}",
)
"""the tables of a file in the format OLDEST"""
STEPS = {
    1: (
        "ALTER TABLE block ADD COLUMN owner INTEGER NOT NULL DEFAULT 0",
        # 2: these blocks cannot be divided, for their numbers leave no room in between
        "ALTER TABLE block ADD COLUMN mixed INTEGER NOT NULL DEFAULT 2",
        "DROP INDEX block_lane",
        LANES,
    ),
}
"""the changes from each format to the next"""


MOST_EPOCHS = 1000
"""epochs whose last number is kept"""
MOST = 16
"""periods that are kept: 5 kB each with 500 devices"""
LAST, HIGHEST = "version", "highest"
"""facts of the spool: the last version given, and the highest slot that was closed when marks were
set back
"""


def claim(
    database: Database, path: Path, keys: SpoolKeys, head: BatchHead, *, on_trial: bool
) -> None:
    """Make an empty file the spool of this gateway for this recipient, or check that it is.

    `on_trial`: of an upgrade: the file stays in the format of the version before. Raises
    Refused if the file is of another gateway or recipient or under another key, Damaged if its own
    facts are inconsistent.
    """
    application = database.scalar("PRAGMA application_id")
    if application != APPLICATION:
        if application or database.scalar("SELECT count(*) FROM sqlite_master"):
            raise Refused(
                "{path} is not a spool of gardien: move it away, or configure another folder",
                path=path,
            )
        _create(database, keys, head)
    _bring_up(database, path, on_trial=on_trial)
    meta = Meta(database)
    _compare(meta, path, keys, head)
    _ = meta["epoch"], meta["seq"]  # raises Damaged here rather than when a batch is due


def _bring_up(database: Database, path: Path, *, on_trial: bool) -> None:
    """Convert a file of an older format, each step in one transaction."""
    rotated, version = divmod(int(database.scalar("PRAGMA user_version")), ROTATED)
    if version > FORMAT:
        raise Refused(
            "{path} was written by a newer gardien (format {version}, this one knows"
            " {format}): install that version again",
            path=path,
            version=version,
            format=FORMAT,
        )
    while version < FORMAT and not (on_trial and version >= OLDEST):
        with database.transaction():
            for change in STEPS[version]:
                database.write(change)
            version += 1
            database.write(f"PRAGMA user_version={rotated * ROTATED + version}")


def rekeyed(database: Database, keys: SpoolKeys) -> None:
    """Note that the file is under the present key from now on, inside the caller's transaction."""
    meta = Meta(database)
    gateway, recipient, _ = json.loads(str(meta["identity"]))
    _identify(meta, gateway, recipient, keys)
    version = int(database.scalar("PRAGMA user_version")) % ROTATED
    database.write(f"PRAGMA user_version={ROTATED + version}")


def _identify(meta: Meta, gateway: str, recipient: str, keys: SpoolKeys) -> None:
    identity = json.dumps([gateway, recipient, fingerprint(keys)])
    meta["identity"] = identity
    meta["sum"] = zlib.crc32(identity.encode())


def _create(database: Database, keys: SpoolKeys, head: BatchHead) -> None:
    with database.transaction():
        for table in TABLES:
            database.write(table)
        meta = Meta(database)
        _identify(meta, head.gateway, head.recipient, keys)
        meta["epoch"] = new_epoch()
        meta["seq"] = 1


def _compare(meta: Meta, path: Path, keys: SpoolKeys, head: BatchHead) -> None:
    identity = str(meta["identity"])
    if zlib.crc32(identity.encode()) != meta["sum"]:  # damage must not look like a wrong key
        raise Damaged(f"the identity in {path} is damaged")
    gateway, recipient, under = json.loads(identity)
    if (gateway, recipient) != (head.gateway, head.recipient):
        raise NotOurs(
            "{path} is the spool of gateway {gateway} to {recipient}, not of {gateway_2} to"
            " {recipient_2}: move it away, or restore the state of gateway {gateway}",
            path=path,
            gateway=gateway,
            recipient=recipient,
            gateway_2=head.gateway,
            recipient_2=head.recipient,
        )
    if under not in fingerprints(keys):
        raise NotOurs(OTHER.format(path=path))


def new_epoch() -> str:
    """A new name for a count of batches, never used before: 48 random bits."""
    return secrets.token_hex(6)


class Meta:
    """The single facts of a spool, by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __getitem__(self, name: str) -> int | float | str:
        value: int | float | str | None = self._database.scalar(
            "SELECT value FROM meta WHERE name=?", name
        )
        if value is None:
            raise Damaged(f"the spool lacks its {name}")
        return value

    def number(self, name: str) -> float | None:
        """A number that may be missing."""
        value: float | None = self._database.scalar("SELECT value FROM meta WHERE name=?", name)
        return value

    def text(self, name: str) -> str | None:
        """A text that may be missing."""
        value: str | None = self._database.scalar("SELECT value FROM meta WHERE name=?", name)
        return value

    def add(self, name: str, count: int) -> None:
        """Add to a counter, which begins at 0."""
        self[name] = int(self.number(name) or 0) + count

    def __setitem__(self, name: str, value: float | str) -> None:
        self._database.write("INSERT OR REPLACE INTO meta VALUES(?,?)", name, value)


def past_epochs(meta: Meta) -> dict[str, int]:
    """The number of the last batch of each past epoch, as far as it is known."""
    known: dict[str, int] = json.loads(meta.text("epochs") or "{}")
    before = meta.text("before_epoch")
    return known if before is None else {before: int(meta["before_seq"])} | known


def end_epoch(meta: Meta) -> None:
    """Keep the last number of the epoch that ends now. Inside the caller's transaction."""
    known = past_epochs(meta) | {str(meta["epoch"]): int(meta["seq"]) - 1}
    meta["epochs"] = json.dumps(dict(list(known.items())[-MOST_EPOCHS:]))


class ClockPeriod(NamedTuple):
    """One clock period."""

    no: int
    boot: str
    apart: float
    """wall time minus monotonic time, seconds"""
    began: float
    """monotonic time"""
    wrong: bool
    """whether its clock was proved wrong and its slots were retracted"""
    marks: dict[MarkKey, int]
    """the last closed slot of each device and step at its beginning"""


class Wrong(NamedTuple):
    """The slots that a wrong clock closed: those after `since` and up to `until`."""

    since: dict[MarkKey, int]
    """a key that is missing here was first closed by the wrong clock"""
    until: dict[MarkKey, int]
    entries: tuple[int, ...] = ()
    """the numbers of the periods"""
    began: int = 0
    """Unix second before which no such slot lies; earlier rows of a missing key are right"""

    def closed(self, key: MarkKey, slot: int) -> bool:
        """Whether the wrong clock closed this slot of a device."""
        since = self.since.get(key)
        after = slot >= self.began if since is None else slot > since
        return after and slot <= self.until.get(key, -1)


class Periods:
    """The stored periods. Every change belongs inside the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.write(
            "CREATE TABLE IF NOT EXISTS period(no INTEGER PRIMARY KEY, boot TEXT NOT NULL,"
            " apart REAL NOT NULL, began REAL NOT NULL, wrong INTEGER NOT NULL, marks BLOB)"
        )

    def known(self) -> list[ClockPeriod]:
        """The stored periods in order; the last one is the present period."""
        rows = self._database.read(
            "SELECT no, boot, apart, began, wrong, marks FROM period ORDER BY no"
        )
        return [
            ClockPeriod(no, boot, apart, began, bool(wrong), _opened(marks))
            for no, boot, apart, began, wrong, marks in rows
        ]

    def continues(self, period: Period) -> bool:
        """Whether this is the period that was entered last."""
        last = self._database.read("SELECT boot, apart FROM period ORDER BY no DESC LIMIT 1")
        return any(
            # A restart of the agent within one boot continues its period.
            boot == period.boot and abs(apart - period.apart) <= STEP
            for boot, apart in last
        )

    def enter(self, period: Period, marks: dict[MarkKey, int]) -> None:
        """Begin a period at these marks, and forget the oldest one."""
        self._database.write(
            "INSERT INTO period(boot, apart, began, wrong, marks) VALUES(?,?,?,0,?)",
            period.boot, period.apart, period.began, _packed(marks),
        )  # fmt: skip
        self._database.write(
            "DELETE FROM period WHERE no NOT IN (SELECT no FROM period ORDER BY no DESC LIMIT ?)",
            MOST,
        )

    def put_right(self, numbers: Sequence[int], marks: dict[MarkKey, int]) -> None:
        """Mark these periods as wrong, after their slots were retracted: the present period begins
        at these marks.
        """
        self._database.write_all(
            "UPDATE period SET wrong=1 WHERE no=?", [(number,) for number in numbers]
        )
        self._database.write(
            "UPDATE period SET marks=? WHERE no=(SELECT max(no) FROM period)", _packed(marks)
        )


def _packed(marks: dict[MarkKey, int]) -> bytes:
    return zlib.compress(json.dumps([[*key, slot] for key, slot in marks.items()]).encode())


def _opened(packed: bytes) -> dict[MarkKey, int]:
    return {(device, step): slot for device, step, slot in json.loads(zlib.decompress(packed))}


def wrong(known: Sequence[ClockPeriod], *, agreed: bool) -> Wrong | None:
    """The slots that a wrong clock closed, if that is proved; the last period is the present one.
    Pure.

    Proof is a step and its reversal within one boot, or a time service and the platform that agree
    on the time of the present period (`agreed`).
    """
    if not known:
        return None
    now, before = known[-1], known[:-1]
    anchors = [i for i, period in enumerate(before) if not period.wrong and _same(period, now)]
    if anchors:
        first = anchors[-1] + 1
    elif agreed:
        first = min(_contradicted(known), default=len(before))
    else:
        return None
    taken = [period for period in before[first:] if not period.wrong]
    if not taken:
        return None
    began = int(min(period.began + period.apart for period in (*taken, now)))
    return Wrong(taken[0].marks, now.marks, tuple(period.no for period in taken), began)


def _same(first: ClockPeriod, second: ClockPeriod) -> bool:
    return first.boot == second.boot and abs(first.apart - second.apart) <= DRIFT


def _contradicted(known: Sequence[ClockPeriod]) -> Iterator[int]:
    """The periods that cannot be right if the last one is right, back to the first that can be.

    Of the present boot: those with another wall clock. Of an earlier boot: those that closed slots
    which lay in the future when the present boot began, and others of the same boot with the same
    clock.
    """
    now = known[-1]
    contradicted: list[ClockPeriod] = []
    # The begin of this boot in the present wall time, which is assumed to be right.
    began = min(period.began for period in known if period.boot == now.boot) + now.apart
    for i in range(len(known) - 2, -1, -1):
        period, ended = known[i], known[i + 1].marks
        if period.boot != now.boot:
            early = max(ended.values(), default=0) > began
            if not early and not any(_same(period, other) for other in contradicted):
                return
        contradicted.append(period)
        yield i


class Versions:
    """Gives each row that needs one its version. Every change belongs inside a transaction."""

    def __init__(self, meta: Meta) -> None:
        self._meta = meta
        self.last, self.highest = 0, -1
        self.restore()

    def given(
        self, rows: Sequence[Reading], now: float | None, last: int | None = None
    ) -> tuple[list[Reading], int]:
        """The rows with their versions, and the last version given: `keep` it in their commit.

        A version is the Unix second at which the row was made (`now`, unless the row states it), or
        the last version plus one where that is later. A row needs a version if it was made out of
        schedule, or if its slot is at or below the highest slot that was ever closed.
        """
        last = self.last if last is None else last
        versioned: list[Reading] = []
        taken = _Slots()
        for row in rows:
            if row.ver is None and row.t > self.highest:
                versioned.append(row)
                continue
            made = int(now or 0) if row.ver is None else row.ver
            # One version serves several rows, but never two rows of the same slot.
            if taken.empty or made > last or taken.has(row):
                last, taken = max(made, last + 1), _Slots()
            taken.add(row)
            versioned.append(replace(row, ver=last))
        return versioned, last

    def keep(self, last: int) -> None:
        """Give no version at or below this one from now on."""
        if last != int(self._meta.number(LAST) or 0):  # a commit that failed may have left `last`
            self._meta[LAST] = last
        self.last = last

    def close(self, highest: int) -> None:
        """Slots up to this one were closed: rows for them need versions from now on."""
        self._meta[HIGHEST] = self.highest = max(highest, self.highest)

    def restore(self) -> None:
        """Reload from the disk after a failed transaction."""
        self.last = int(self._meta.number(LAST) or 0)
        self.highest = int(self._meta.number(HIGHEST) or -1)


class _Slots:
    """The slots in the rows of one version."""

    def __init__(self) -> None:
        self._single: dict[tuple[object, ...], set[int]] = {}
        self._runs: dict[tuple[object, ...], list[tuple[int, int]]] = {}

    @property
    def empty(self) -> bool:
        return not self._single and not self._runs

    def add(self, row: Reading) -> None:
        key, first, last = _extent(row)
        if first == last:
            self._single.setdefault(key, set()).add(first)
        else:
            self._runs.setdefault(key, []).append((first, last))

    def has(self, row: Reading) -> bool:
        """Whether one of the row's slots is among them."""
        key, first, last = _extent(row)
        singles = self._single.get(key, set())
        alone = first in singles if first == last else any(first <= t <= last for t in singles)
        return alone or any(a <= last and first <= b for a, b in self._runs.get(key, ()))


def _extent(row: Reading) -> tuple[tuple[object, ...], int, int]:
    of = row.series
    key = (of.place, of.channel, of.kind, of.step)
    return key, row.t, row.t + (row.span - 1) * of.step


class States:
    """The last reports. Every change belongs inside the caller's transaction."""

    def __init__(self, database: Database, keys: SpoolKeys) -> None:
        self._database, self._sealer = database, keys.sealer("told")
        database.write(
            "CREATE TABLE IF NOT EXISTS told(device TEXT, step INTEGER, body BLOB NOT NULL,"
            " PRIMARY KEY(device, step)) WITHOUT ROWID"
        )

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation."""
        return SealedTable("told", ("device", "step"), "{} {}".format, lambda *_: self._sealer)

    def read(self) -> dict[MarkKey, Told]:
        """The last reports, by device and step. A body that does not open counts as not
        reported.
        """
        states = {}
        for device, step, body in self._database.read("SELECT device, step, body FROM told"):
            try:
                statements = json.loads(self._sealer.unseal(body, f"{device} {step}"))
            except SealBroken:
                continue
            states[device, step] = tuple((name, value) for name, value in statements)
        return states

    def write(self, marks: Mapping[MarkKey, SlotMark]) -> None:
        """Keep the reports of these marks, and no others of their devices."""
        # Compare first: writing unchanged reports would cost a page in every commit.
        before = self.read()
        new = {
            key: mark.states for key, mark in marks.items() if mark.states != before.get(key, ())
        }
        self._database.write_all(
            "INSERT OR REPLACE INTO told VALUES(?,?,?)",
            [
                (*key, self._sealed(key, statements))
                for key, statements in new.items()
                if statements
            ],
        )
        self._database.write_all(
            "DELETE FROM told WHERE device=? AND step=?", [key for key in new if not new[key]]
        )

    def _sealed(self, key: MarkKey, statements: Told) -> bytes:
        return self._sealer.seal(json.dumps(statements).encode(), f"{key[0]} {key[1]}")
