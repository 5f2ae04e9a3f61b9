"""What a recipient is told besides rows: the directory, and retractions until it receipts them."""

from __future__ import annotations

import hmac
import json
import zlib
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from agent.buffer.batch import write_directory, write_retractions
from agent.buffer.disclosures import TOKEN
from agent.buffer.keys import SealBroken, SealedTable
from agent.buffer.outbox import digest
from agent.core.clock import stamp
from agent.core.model import Lane, Retraction, SealedBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent.buffer.batch import Stamp
    from agent.buffer.database import Database
    from agent.buffer.disclosures import Read
    from agent.buffer.keys import SpoolKeys
    from agent.buffer.schema import Meta
    from agent.core.model import Series

MOST, BYTES = 100, 300
"""retractions in one batch, and bytes of each before compression"""
# a retraction that must be sent again is no longer confirmed
CONFIRMED = "SELECT id, CASE WHEN body IS NULL OR epoch='' THEN erased END FROM retraction"
Item = dict[str, Any]
"""plain data; its key begins with the name of its list: `places/D84G7…`"""
GROWING = ("outcomes/",)
"""lists whose items are each sent once; only the latest are offered"""
ENDS = "ends/"
"""begins the key of members that end an item which was sent; they are added to it (rule T34)"""
# Not WITHOUT ROWID: there an item of more than 231 bytes takes a page of its own. 2,000 outcomes
# then left no room for readings in the smallest file, which is all that a full disk allows.
TABLE = """CREATE TABLE IF NOT EXISTS announced
    (key TEXT PRIMARY KEY, epoch TEXT NOT NULL, body BLOB NOT NULL)"""
NOT_SENT, LOST = "", "lost"
"""the epochs of an item that must be sent; LOST: even if it has ended, as the batch with that end
did not arrive
"""
SECRET = "announced key"  # noqa: S105 -- what it is for
AT_ONCE = 200
"""entries that are rewritten in one commit"""
MOST_TEXT = 40_000
"""characters of items in one batch: they compress, so a batch never nears the size of a message"""


MOST_KEPT = 10_000
"""retractions of a wrong clock that are kept after they were sent"""


class Retracting:
    """The queue. Every change belongs inside the caller's transaction."""

    def __init__(self, database: Database, keys: SpoolKeys) -> None:
        self._database = database
        self._sealer = keys.sealer("retraction")
        database.write(
            "CREATE TABLE IF NOT EXISTS retraction(no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
            " epoch TEXT, seq INTEGER, erased INTEGER, body BLOB)"
        )

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation."""
        return SealedTable(
            "retraction", ("no",), lambda _, id_: str(id_), lambda *_: self._sealer, ("id",)
        )

    def add(self, retractions: Iterable[Retraction]) -> None:
        """Queue retractions that are not queued yet."""
        self.queue(as_plain(retraction) for retraction in retractions)

    def queue(self, plain: Iterable[dict[str, Any]]) -> None:
        """Queue retractions in the form in which they are sent; one that was sent before is sent
        again.
        """
        self._database.write_all(
            "INSERT INTO retraction(id, body) VALUES(?,?) ON CONFLICT(id) DO UPDATE SET epoch=NULL,"
            " seq=NULL, body=excluded.body",
            [(item["id"], self._seal(item)) for item in plain],
        )

    def ids(self) -> list[str]:
        """The ids of all retractions, whether or not the recipient has them."""
        return [id_ for (id_,) in self._database.read("SELECT id FROM retraction")]

    def waiting(self) -> int:
        """How many have not been sent."""
        count: int = self._database.scalar(
            "SELECT count(*) FROM retraction WHERE epoch IS NULL AND body IS NOT NULL"
        )
        return count

    def unreceipted(self) -> int:
        """How many the recipient has not receipted, sent or not."""
        count: int = self._database.scalar(
            "SELECT count(*) FROM retraction WHERE body IS NOT NULL AND epoch IS NOT ''"
        )
        return count

    def next_batch(self, label: Stamp, most: int) -> SealedBatch:
        """Make the next batch of retractions, of at most `most` bytes or of one; there must be
        some.
        """
        rows = self._database.read(
            "SELECT no, id, body FROM retraction WHERE epoch IS NULL AND body IS NOT NULL"
            " ORDER BY no LIMIT ?",
            min(MOST, max(1, most // BYTES)),
        )
        plain = []
        for no, id_, body in rows:
            try:
                plain.append(json.loads(self._sealer.unseal(body, id_)))
            except (SealBroken, ValueError):
                # Damaged: without a body it is never chosen again, and does not block the others.
                self._database.write("UPDATE retraction SET body=NULL WHERE no=?", no)
        payload = write_retractions(label, plain)
        self._database.write_all(
            "UPDATE retraction SET epoch=?, seq=? WHERE no=?",
            [(label.id.epoch, label.id.seq, no) for no, *_ in rows],
        )
        return SealedBatch(label.id, Lane.LIVE, payload, digest(payload), 0)

    def stored(self, epoch: str, seq: int) -> None:
        """The recipient has stored the batch: it keeps these retractions for good."""
        sql = "SELECT no, id, body FROM retraction WHERE epoch=? AND seq=? AND body IS NOT NULL"
        rows = self._database.read(sql, epoch, seq)
        # Those of a wrong clock are in no registry: people are told of them from here.
        kept = {item["id"] for item in self._by_the_clock(row[1:] for row in rows)}
        gone = [(no,) for no, id_, _ in rows if id_ not in kept]
        self._database.write_all("UPDATE retraction SET body=NULL WHERE no=?", gone)
        # an empty epoch: stored, and the body stays
        self._database.write("UPDATE retraction SET epoch='' WHERE epoch=? AND seq=?", epoch, seq)
        self._database.write(
            "UPDATE retraction SET body=NULL WHERE epoch='' AND body IS NOT NULL AND no <= (SELECT"
            " max(no) FROM retraction) - ?",
            MOST_KEPT,
        )

    def by_the_clock(self) -> list[dict[str, Any]]:
        """The retractions of what a wrong clock closed, in the form in which they are sent."""
        rows = self._database.read("SELECT id, body FROM retraction WHERE body IS NOT NULL")
        return self._by_the_clock(rows)

    def clock_ranges(self) -> list[Retraction]:
        """The same, to be compared with rows."""
        return [
            Retraction(
                *(item["id"], None, item["place"], item["channel"], None, None, None),
                *(_second(item["from"]), _second(item["to"]), item["ver"], item["reason"]),
            )
            for item in self.by_the_clock()
        ]

    def _by_the_clock(self, rows: Iterable[tuple[str, bytes]]) -> list[dict[str, Any]]:
        items = []
        for id_, body in rows:
            try:
                items.append(json.loads(self._sealer.unseal(body, id_)))
            except (SealBroken, ValueError):
                continue
        return [item for item in items if item.get("reason") == "clock"]

    def erased(self, confirmed: Sequence[tuple[str, int]]) -> tuple[str, ...]:
        """Record how many rows the recipient removed. Return the ids that were never sent from
        here.
        """
        known = {id_ for (id_,) in self._database.read("SELECT id FROM retraction")}
        self._database.write_all(
            "UPDATE retraction SET erased=? WHERE id=?", [(rows, id_) for id_, rows in confirmed]
        )
        return tuple(id_ for id_, _ in confirmed if id_ not in known)

    def confirmed(self) -> dict[str, int | None]:
        """By id, how many rows the recipient has erased, as it reports; None: not confirmed."""
        return confirmed(self._database.read)

    def _seal(self, plain: dict[str, Any]) -> bytes:
        return self._sealer.seal(json.dumps(plain).encode(), plain["id"])


def confirmed(read: Read) -> dict[str, int | None]:
    """See `Retracting.confirmed`; `read` queries the spool's file."""
    return dict(read(CONFIRMED))


def _second(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())


def as_plain(retraction: Retraction) -> dict[str, Any]:
    """The retraction as it is sent (docs/batch.schema.json)."""
    members = {
        "id": retraction.id,
        "place": retraction.place,
        "channel": retraction.channel,
        "occupancy": retraction.occupancy,
        "basis": retraction.basis,
        "meter": retraction.meter,
        "from": stamp(retraction.since),
        "to": None if retraction.until is None else stamp(retraction.until),
        "ver": retraction.ver,
        "reason": retraction.reason,
    }
    return {name: value for name, value in members.items() if value is not None}


def series_key(place: str, channel: str, kind: str, step: int) -> str:
    """The key of a series in the directory: whatever its meter, people and basis."""
    return f"series/{place}/{channel}/{kind}/{step}"


class Announced:
    """The items as last sent, and the series of stored rows, which must be sent before these. Every
    change belongs inside the caller's transaction.
    """

    def __init__(
        self,
        database: Database,
        keys: SpoolKeys,
        meta: Meta,
        label: Callable[[float, str], Stamp],
        *,
        on_trial: bool,
    ) -> None:
        """`on_trial`: an upgrade is on trial, so keys are written as the version before reads
        them.
        """
        self._database, self._meta, self._label = database, meta, label
        self._sealer, self._keys = keys.sealer("announced"), keys
        database.write(TABLE)
        self._items: dict[str, tuple[str, str]] = {}
        self._texts: dict[str, tuple[Item, str]] = {}
        """the items of the last comparison, as JSON: most of them come again unchanged"""
        entries = database.read("SELECT key, epoch, body FROM announced")
        if self._clear():
            entries += database.read("SELECT key, epoch, body FROM announced_clear")
        # Once a key is under a token, the version before cannot read the table anyway.
        self._on_trial = on_trial and not any(key.startswith(TOKEN) for key, *_ in entries)
        for written, epoch, body in entries:
            try:
                plain = zlib.decompress(self._sealer.unseal(body, written)).decode()
                key, text = json.loads(plain) if written.startswith(TOKEN) else (written, plain)
            except (SealBroken, zlib.error, ValueError):
                continue  # the item is sent again
            self._items[key] = epoch, text

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation. An entry gets another token, too."""
        return SealedTable(
            "announced", ("key",), lambda key, _: str(key), lambda *_: self._sealer, ("epoch",),
            rewrite=self._put_anew,
        )  # fmt: skip

    def _put_anew(self, written: str, epoch: str, body: bytes) -> None:
        key, text = written, zlib.decompress(body).decode()
        if written.startswith(TOKEN):
            key, text = json.loads(text)
        self._database.write("DELETE FROM announced WHERE key=?", written)
        self._keep(key, epoch, text)

    def begin_hiding(self) -> bool:
        """Set the table aside in which an earlier version wrote keys in clear. Return whether it
        has keys to hide. Not while an upgrade is on trial.
        """
        if self._on_trial:
            return False
        if not self._clear() and self._database.read("SELECT 1 FROM announced WHERE key>='A'"):
            self._database.write("ALTER TABLE announced RENAME TO announced_clear")
            self._database.write(TABLE)
        return self._clear()

    def hide(self) -> bool:
        """Rewrite the next of those entries under tokens, because a key names a dwelling. False:
        none is left, and the pages of the table are overwritten.
        """
        if not self._clear():
            return False
        rows = self._database.read("SELECT key FROM announced_clear LIMIT ?", AT_ONCE)
        for (key,) in rows:
            self._database.write("DELETE FROM announced_clear WHERE key=?", key)
            if key in self._items:
                self._keep(key, *self._items[key])
        if not rows:
            self._database.write("DROP TABLE announced_clear")
        return True

    def _clear(self) -> bool:
        sql = "SELECT 1 FROM sqlite_master WHERE name='announced_clear'"
        return bool(self._database.read(sql))

    def all(self) -> dict[str, Item]:
        """Every item as last sent, or as it must be sent."""
        return {key: json.loads(text) for key, (_, text) in self._items.items()}

    def owe(self, series: Mapping[str, Item]) -> dict[str, str]:
        """Keep series of which a row is being stored, as not sent: a restart would forget that the
        recipient is owed them. Return what is new, for `learn` under no epoch, once the transaction
        is committed.
        """
        new = {}
        for key, item in series.items():
            known = json.loads(self._items[key][1]) if key in self._items else item
            if key not in self._items or item["since"] < known["since"]:
                new[key] = json.dumps(known | {"since": item["since"]}, ensure_ascii=False)
        for key, text in new.items():
            self._keep(key, NOT_SENT, text)
        return new

    def explains(self, series: Series) -> bool:
        """Whether no item must be sent in this epoch before a row of a series (rule T21)."""
        key = series_key(series.place, series.channel, series.kind, series.step)
        epoch, _ = self._items.get(key, (None, ""))
        # a row without a basis says that something is withheld: the directory has nothing of it
        return epoch in {None, str(self._meta["epoch"])} or not series.basis

    def differs(self, directory: Mapping[str, Item]) -> bool:
        """Whether something must still be sent."""
        return any(self._changed(directory))

    def next_batch(
        self, directory: Mapping[str, Item], now: float, trust: str, most: int
    ) -> tuple[SealedBatch, dict[str, str]]:
        """Make a batch of the next changed items, as many as fit; there must be some. Also return
        the items for `learn`, once the transaction is committed.

        `most`: bytes that the platform accepts; one item is sent in any case.
        """
        label, first = self._label(now, trust), self._first()
        chosen: dict[str, str] = {}
        size = 0
        for key, text in self._changed(directory):
            if chosen and size + len(text) > min(MOST_TEXT, most):
                break
            chosen[key], size = text, size + len(text)
        lists: dict[str, Any] = {}
        for key, text in chosen.items():
            lists.setdefault(key.partition("/")[0], []).append(json.loads(text))
        # Items of growing lists are sent once; remembering them for ever would fill the spool.
        for key in self._passed(directory):
            self._drop(key)
        payload = write_directory(label, (self._before() if first else {}) | lists)
        for key, text in chosen.items():
            self._keep(key, label.id.epoch, text)
        return SealedBatch(label.id, Lane.LIVE, payload, digest(payload), 0), chosen

    def resend_all(self) -> None:
        """Treat everything as not sent, as in a new epoch."""
        self._mark(NOT_SENT, {epoch for epoch, _ in self._items.values()} - {LOST})

    def not_arrived(self, epoch: str) -> None:
        """Treat as not sent what was sent in an epoch, even what has ended: a batch of it did not
        arrive.
        """
        self._mark(LOST, {epoch, NOT_SENT})

    def _mark(self, state: str, epochs: set[str]) -> None:
        self._database.write_all(
            "UPDATE announced SET epoch=? WHERE epoch=?", [(state, epoch) for epoch in epochs]
        )
        self._items = {
            key: (state if epoch in epochs else epoch, text)
            for key, (epoch, text) in self._items.items()
        }

    def learn(self, epoch: str, items: Mapping[str, str]) -> None:
        """Note items that are in a committed batch, or were kept as not sent."""
        self._items.update({key: (epoch, text) for key, text in items.items()})

    def _changed(self, directory: Mapping[str, Item]) -> list[tuple[str, str]]:
        epoch = str(self._meta["epoch"])
        changed, before = [], self._texts
        self._texts = {}
        # Compared as text: that is what was sent, and an equal item must not be sent again.
        for key, item in directory.items():
            if not key.startswith(ENDS):
                known_item, text = before.get(key, (None, ""))
                if known_item != item:
                    text = json.dumps(item, ensure_ascii=False)
                self._texts[key] = item, text
                if self._items.get(key) != (epoch, text):
                    changed.append((key, text))
            elif known := self._items.get(name := key.removeprefix(ENDS)):
                # Not again in a new epoch: nobody needs it there, and it was never to be known.
                text = json.dumps(json.loads(known[1]) | item, ensure_ascii=False)
                if (LOST, text) == known or text != known[1]:
                    changed.append((name, text))
        return changed

    def _passed(self, directory: Mapping[str, Item]) -> list[str]:
        """Keys of growing lists that were sent and are no longer offered."""
        return [key for key in self._items if key.startswith(GROWING) and key not in directory]

    def _first(self) -> bool:
        epoch = str(self._meta["epoch"])
        return not any(epoch_of == epoch for epoch_of, _ in self._items.values())

    def _before(self) -> Item:
        seq = self._meta.number("before_seq")
        return {} if seq is None else {"before": [str(self._meta["before_epoch"]), int(seq)]}

    def _drop(self, key: str) -> None:
        self._database.write("DELETE FROM announced WHERE key=?", self._written(key))
        # During a rotation the entry may still be under its earlier token.
        if before := self._keys.derive_before(SECRET):
            self._database.write("DELETE FROM announced WHERE key=?", _token(before, key))

    def _keep(self, key: str, epoch: str, text: str) -> None:
        self._drop(key)
        written = self._written(key)
        plain = text if written == key else json.dumps([key, text])
        body = self._sealer.seal(zlib.compress(plain.encode(), 1), written)
        self._database.write("INSERT INTO announced VALUES(?,?,?)", written, epoch, body)

    def _written(self, key: str) -> str:
        """A key as the table has it."""
        if self._on_trial:
            return key
        return _token(self._keys.secret(SECRET), key)


def _token(secret: bytes, key: str) -> str:
    return TOKEN + hmac.digest(secret, key.encode(), sha256)[:12].hex()
