"""The two databases by their address: a path for SQLite, `postgresql://…` for PostgreSQL."""

from __future__ import annotations

import queue
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from receiver.store import Unavailable, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.store import Store


def is_postgres(address: str) -> bool:
    """Whether an address is of PostgreSQL."""
    return address.startswith(("postgresql://", "postgres://"))


def open_store(address: str) -> Store:
    """Open a database whose tables exist. Raises Unavailable."""
    if is_postgres(address):
        from receiver.postgres import PostgresStore  # noqa: PLC0415 -- SQLite needs no driver

        return PostgresStore(address)
    from receiver.sqlite import SqliteStore  # noqa: PLC0415 -- for symmetry

    return SqliteStore(address)


def prepare(address: str) -> None:
    """Make the tables and views, or bring them up to date. Raises Unavailable."""
    store = open_store(address)
    try:
        migrate(_yoyo(address), store)
    finally:
        store.close()


def _yoyo(address: str) -> str:
    if is_postgres(address):
        return "postgresql+psycopg://" + address.partition("://")[2]
    return f"sqlite:///{Path(address).absolute()}"


class Pool:
    """A few open databases for many threads. What failed is closed, and opened anew when needed."""

    def __init__(self, address: str, size: int = 4) -> None:
        self._address = address
        self._free: queue.LifoQueue[Store | None] = queue.LifoQueue()
        for _ in range(size):
            self._free.put(None)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """One that nobody else uses meanwhile. Raises Unavailable."""
        store = self._free.get()
        try:
            store = store or open_store(self._address)
            yield store
        except Unavailable:
            if store is not None:
                store.close()
                store = None
            raise
        finally:
            self._free.put(store)

    def close(self) -> None:
        """Close all that are free."""
        while not self._free.empty():
            store = self._free.get()
            if store is not None:
                store.close()
