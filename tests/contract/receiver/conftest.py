import psycopg
import pytest

from hil.postgres import ACCOUNT, postgres
from receiver.databases import open_store, prepare

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


@pytest.fixture
def store(database):
    opened = open_store(database)
    yield opened
    opened.close()
