"""Stores readings that have no recipient yet: sealed, and for a limited time.

One file beside the spools, used from one thread. When it is full, the oldest values are removed.
Values of a known dwelling (midnight indexes for a duty) are under a key of that dwelling, which is
destroyed with the last of them.
"""

from __future__ import annotations

import json
import logging
import zlib
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from agent.buffer.database import Damaged, Database, set_aside, suspicion
from agent.buffer.keys import (
    NOBODY,
    PersonKeys,
    Rotation,
    SealBroken,
    SealedTable,
    SpoolKeys,
    check_key,
)
from agent.core.errors import SpoolFull
from agent.core.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.buffer.keys import Sealer

log = logging.getLogger(__name__)

STEP = 512 * 1024
"""bytes that the file takes at its first start, and by which it grows"""
CAP = 20 * 1024 * 1024
"""bytes: 60 days of about 60 meters every quarter of an hour"""


class UnassignedValue(NamedTuple):
    """One value as it was read, before the registry could assign it."""

    device: str
    point: str
    step: int
    slot: int
    serial: str | None
    value: str
    """its own digits, before `Point.scale`"""
    at: float
    quality: str
    flags: tuple[str, ...]


class UnassignedStore:
    """The store of one kind of values; use `open`."""

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        key: bytes,
        max_bytes: int = CAP,
        *,
        on_trial: bool = False,
        before: bytes | None = None,
    ) -> Iterator[UnassignedStore]:
        """Open or create the store under the gateway's key; a damaged file is set aside.

        `before`: the earlier key, during a rotation. Raises Refused if the file was rotated and is
        under neither.

        `on_trial`: an upgrade is on trial, so the file stays readable for the version before.
        """
        if suspicion(path).exists():
            set_aside(path)
        keys = partial(SpoolKeys, key, "shelf", "nobody", before)
        try:
            store = cls(path, keys(), max_bytes, on_trial=on_trial)
        except Damaged:
            set_aside(path)
            store = cls(path, keys(), max_bytes, on_trial=on_trial)
        try:
            yield store
        finally:
            store._database.close()

    def __init__(self, path: Path, keys: SpoolKeys, max_bytes: int, *, on_trial: bool) -> None:
        self._database = Database(path, max_bytes, STEP, STEP)
        # A margin, so that a commit of new values still fits.
        self._most = max_bytes * 3 // 4
        try:
            self._open_parts(path, keys, on_trial=on_trial)
        except BaseException:
            self._database.close()
            raise

    def _open_parts(self, path: Path, keys: SpoolKeys, *, on_trial: bool) -> None:
        check_key(self._database, path, keys)
        self._keys, self._rotation = keys, Rotation(self._database, keys)
        self._sealer, self._person_keys = keys.sealer("kept"), PersonKeys(self._database, keys)
        self._database.write(
            "CREATE TABLE IF NOT EXISTS kept(no INTEGER PRIMARY KEY, t1 INTEGER NOT NULL,"
            " n INTEGER NOT NULL, body BLOB NOT NULL, owner INTEGER NOT NULL DEFAULT 0)"
        )
        columns = self._database.read("SELECT name FROM pragma_table_info('kept')")
        if ("owner",) not in columns:
            # an earlier version ignores the column: its values are under the gateway's key
            self._database.write("ALTER TABLE kept ADD COLUMN owner INTEGER NOT NULL DEFAULT 0")
        self.on_trial = on_trial
        if keys.rotating:
            with suppress(SpoolFull):  # the caller of `rekey` tries again
                self._begin_rotation()

    def rekey(self, key: bytes) -> None:
        """See `Spool.rekey`."""
        if not self._keys.under(key):
            self._keys.renew(key)
        self._begin_rotation()

    def _begin_rotation(self) -> None:
        if self._rotation.begun:
            return
        with self._database.transaction():
            secrets = self._rotation.begin()
            self._person_keys.rotate(secrets)
        self._person_keys.named_by(secrets)

    def rekey_step(self) -> bool:
        """See `Spool.rekey_step`."""

        def commit(change: Callable[[], int]) -> int:
            with self._database.transaction():
                return change()

        def sealer(_no: int, owner: int) -> Sealer:
            return self._under(owner)

        table = SealedTable("kept", ("no",), lambda *_: "kept", sealer, ("owner",))
        return self._rotation.step([table], commit, self._person_keys.forget_before)

    @property
    def rekeyed(self) -> tuple[int, int]:
        """See `Spool.rekeyed`."""
        return self._rotation.passed, self._database.used()

    def add(self, values: Sequence[UnassignedValue], place: str = "") -> None:
        """Store values, at least one, in one commit; the oldest make room.

        `place`: the id of their dwelling, if it is known.
        """
        self.add_each({place: values})

    def add_each(self, values_of: Mapping[str, Sequence[UnassignedValue]]) -> None:
        """Store values of several dwellings by id, each under its own key, in one commit.

        Values without room on a full disk, after the oldest were removed, are given up and logged.
        """
        try:
            while self._database.used() > self._most and self._drop_oldest():
                pass
            # On a full disk the file cannot grow: the oldest values make room one entry at a time.
            while not self._inserted(values_of):
                if not self._drop_oldest():
                    return _given_up(values_of)
        except SpoolFull:  # there is not even room for a deletion
            _given_up(values_of)

    def put_back(self, no: int, left: Mapping[str, Sequence[UnassignedValue]]) -> None:
        """Keep only these values of an entry, by dwelling: in one commit, so that none is stored
        twice.

        Raises SpoolFull; then the entry is unchanged.
        """
        try:
            with self._database.transaction():
                self._database.write("DELETE FROM kept WHERE no=?", no)
                self._insert(left)
                self._destroy_keys()
        except SpoolFull:
            self._person_keys.reload()
            raise
        self._database.fold()  # else the log would still have the removed values

    def each(self) -> Iterator[tuple[int, list[UnassignedValue]]]:
        """Number and values of every entry, the oldest first. An entry that does not open is
        removed.
        """
        for (no,) in self._database.read("SELECT no FROM kept ORDER BY no"):
            owner, body = self._database.read("SELECT owner, body FROM kept WHERE no=?", no)[0]
            try:
                values = json.loads(zlib.decompress(self._under(owner).unseal(body, "kept")))
            except (SealBroken, ValueError, zlib.error):
                self.remove([no])
                continue
            yield no, [UnassignedValue(*value)._replace(flags=tuple(value[-1])) for value in values]

    def remove(self, numbers: Sequence[int]) -> None:
        """Remove entries, from the log as well."""
        with self._database.transaction():
            self._database.write_all("DELETE FROM kept WHERE no=?", [(no,) for no in numbers])
            self._destroy_keys()
        self._database.fold()

    def destroy(self, wrong: Callable[[UnassignedValue], bool]) -> None:
        """Destroy the values that are `wrong`, in one commit. Raises SpoolFull: then none is."""
        left_of = {}
        for no, values in list(self.each()):
            left = [value for value in values if not wrong(value)]
            if len(left) < len(values):
                left_of[no] = left
        if left_of:
            with self._database.transaction():
                for no, left in left_of.items():
                    self._replace(no, left)
                self._destroy_keys()
            self._database.fold()

    def _replace(self, no: int, left: Sequence[UnassignedValue]) -> None:
        if not left:
            self._database.write("DELETE FROM kept WHERE no=?", no)
            return
        owner = self._database.scalar("SELECT owner FROM kept WHERE no=?", no)
        self._database.write(
            "UPDATE kept SET t1=?, n=?, body=? WHERE no=?",
            max(value.slot for value in left), len(left), self._sealed(left, owner), no,
        )  # fmt: skip

    def expire(self, before: int) -> int:
        """Destroy entries whose last slot is earlier. Return the number of values."""
        old = self._database.read("SELECT no, n FROM kept WHERE t1<?", before)
        if old:
            self.remove([no for no, _ in old])
        return sum(n for _, n in old)

    def count(self) -> int:
        """Number of stored values."""
        count: int = self._database.scalar("SELECT coalesce(sum(n), 0) FROM kept")
        return count

    def _inserted(self, values_of: Mapping[str, Sequence[UnassignedValue]]) -> bool:
        try:
            with self._database.transaction():
                self._insert(values_of)
        except SpoolFull:
            self._person_keys.reload()
            return False
        return True

    def _insert(self, values_of: Mapping[str, Sequence[UnassignedValue]]) -> None:
        for place, values in values_of.items():
            own_key = place and not self.on_trial
            owner = self._person_keys.number_at(place) if own_key else NOBODY
            self._database.write(
                "INSERT INTO kept(t1, n, body, owner) VALUES(?,?,?,?)",
                max(value.slot for value in values),
                len(values),
                self._sealed(values, owner),
                owner,
            )

    def _sealed(self, values: Sequence[UnassignedValue], owner: int) -> bytes:
        text = zlib.compress(json.dumps(values, separators=(",", ":")).encode(), 1)
        return self._under(owner).seal(text, "kept")

    def _drop_oldest(self) -> bool:
        with self._database.transaction():
            sql = "DELETE FROM kept WHERE no=(SELECT min(no) FROM kept)"
            dropped = self._database.write(sql) > 0
            self._destroy_keys()
        return dropped

    def _destroy_keys(self) -> None:
        """Destroy the keys of dwellings without values."""
        left = {owner for (owner,) in self._database.read("SELECT DISTINCT owner FROM kept")}
        for number in set(self._person_keys.numbers()) - left:
            self._person_keys.destroy(number)

    def _under(self, owner: int) -> Sealer:
        """The sealer of an owner. Raises SealBroken if the key was destroyed."""
        return self._sealer if owner == NOBODY else self._person_keys.sealer(owner)


def _given_up(values_of: Mapping[str, Sequence[UnassignedValue]]) -> None:
    number = sum(map(len, values_of.values()))
    log.error(
        "the disk is full: %d values of meters without a known place are given up", number,
        extra=fields(LogEvent.STORE_FULL, store="shelf"),
    )  # fmt: skip
