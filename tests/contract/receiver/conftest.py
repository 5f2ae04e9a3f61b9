import time

import psycopg
import pytest

from hil.postgres import ACCOUNT, postgres
from receiver.databases import is_postgres, open_store, prepare
from receiver.postgres import PostgresStore
from receiver.sqlite import SqliteStore
from tests.depth import depth

TABLES = (
    "sender", "epoch", "batch", "reading", "source", "series", "directory", "retraction", "refused",
    "tally", "building", "object",
)  # fmt: skip


@pytest.fixture(scope="package")
def server():
    """The address of a database of PostgreSQL that has the tables."""
    with postgres() as host:
        address = f"postgresql://{ACCOUNT}@/{ACCOUNT}?host={host}"
        prepare(address)
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path):
    """The address of an empty database with its tables."""
    if request.param == "sqlite":
        address = str(tmp_path / "receiver.db")
        prepare(address)
        return address
    address = request.getfixturevalue("server")
    with psycopg.connect(address, autocommit=True) as db:
        for table in TABLES:  # many databases would be many files
            db.execute(f"DELETE FROM {table}")
    return address


class Compacted:
    """A store whose months are all written anew after every fifth batch."""

    batches = 0

    def take(self, batch):
        receipt = super().take(batch)
        self.batches += 1
        if self.batches % 5 == 1:
            anew(self)
            assert list(self.compact(int(time.time()) + 100 * 365 * 86_400, None))
        return receipt


class CompactedSqlite(Compacted, SqliteStore):
    pass


class CompactedPostgres(Compacted, PostgresStore):
    pass


def anew(store):
    """As if no month had been compacted yet: the tests share their partitions."""
    if store.folder == "postgresql":
        for (name,) in store.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'reading'::regclass"
        ).fetchall():
            store.execute(f"ALTER TABLE {name} SET WITHOUT CLUSTER")


@pytest.fixture(params=["as it comes", *depth([], ["compacted"])])
def store(database, request):
    if request.param == "compacted":
        opened = (CompactedPostgres if is_postgres(database) else CompactedSqlite)(database)
    else:
        opened = open_store(database)
    yield opened
    opened.close()
