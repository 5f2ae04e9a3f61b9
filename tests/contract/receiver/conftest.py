import itertools

import psycopg
import pytest

from hil.postgres import ACCOUNT, postgres
from receiver.databases import open_store, prepare

NUMBER = itertools.count()


@pytest.fixture(scope="package")
def server():
    """The folder of a PostgreSQL's socket; its database `prepared` has the tables."""
    with postgres() as host:
        with psycopg.connect(host=host, user=ACCOUNT, autocommit=True) as db:
            db.execute("CREATE DATABASE prepared")
        prepare(address_of(host, "prepared"))
        yield host


def address_of(host, name):
    return f"postgresql://{ACCOUNT}@/{name}?host={host}"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path):
    """The address of an empty database with its tables."""
    if request.param == "sqlite":
        address = str(tmp_path / "receiver.db")
        prepare(address)
        return address
    host, name = request.getfixturevalue("server"), f"receiver_{next(NUMBER)}"
    with psycopg.connect(host=host, user=ACCOUNT, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name} TEMPLATE prepared")
    return address_of(host, name)


@pytest.fixture
def store(database):
    opened = open_store(database)
    yield opened
    opened.close()
