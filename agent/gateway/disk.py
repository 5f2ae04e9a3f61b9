"""The disk of the state directory: the threads that write to it, and the stores that cannot."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

from agent.buffer.database import DiskThread
from agent.core.atomic_write import SILENT, DiskWriter
from agent.core.errors import StorageFailed
from agent.core.storage import Storage, probed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
REGISTRY, STATE = "the registry", "the state folder"
"""names of the registry and of the state directory among the stores"""
LONG_LOOK = 60.0
"""seconds for a look at years of files"""


class StateDisk:
    """One thread for each file, and the faults of all stores of one state directory."""

    def __init__(self, state: Path, now: Callable[[], float]) -> None:
        self._state = state
        self.storage = Storage(now)
        """the stores that cannot be written now"""
        self._threads: dict[str, DiskThread] = {}
        """by store: the thread that last had its file open"""
        self._asking = asyncio.Lock()
        self._reading: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def thread(self, store: str, patience: float | None = None) -> DiskThread:
        """Return a new thread for a file on the disk.

        Raises StorageFailed while the earlier thread of this file, or the thread of the small
        files, still waits for the disk: else each attempt on a disk that hangs would leave one more
        thread behind, and a start would wait for each of its stores in turn.
        """
        if self._waits(store):
            raise StorageFailed(SILENT)
        self._threads[store] = DiskThread(store, patience)
        return self._threads[store]

    def _waits(self, store: str) -> bool:
        of_file = store in self._threads and not self._threads[store].over
        return of_file or DiskWriter.hangs()

    async def ask(self) -> None:
        """Return once the disk has answered, or is known to hang.

        Call it before the event loop itself writes: a disk that hangs would stop the loop.
        """
        async with self._asking:
            if DiskWriter.silent():
                return
            try:
                thread = self.thread(STATE)
                try:
                    await thread.run(probed, self._state)
                finally:
                    # `int` does nothing. The thread runs it once the disk answers: see `over`.
                    await thread.leave(int)
            except StorageFailed:
                self.storage.failed(STATE, SILENT)

    async def read(self, call: Callable[..., T], *args: object, patience: float | None = None) -> T:
        """Return what a function returns that only looks at files, one look after the other.

        Raises StorageFailed if the disk does not answer within `patience` (rule A1: 10 s), and at
        once while it still owes this function an answer.
        """
        of = call.__name__
        async with self._reading[of]:
            thread = self.thread(of, patience)
            try:
                return await thread.run(call, *args)
            finally:
                await thread.leave(int)

    def look(self) -> None:
        """Clear the fault of the state directory if the disk has answered `ask` by now."""
        if STATE in self.storage.faults and not self._waits(STATE):
            self.storage.recovered(STATE)

    def failure(self) -> str:
        """Say why the disk cannot be written; empty if it can."""
        return next((one.reason for one in self.storage.faults.values()), "")

    def silence(self) -> str:
        """Say that the disk does not answer, if a store found that out; empty otherwise.

        The registry's own fault does not count: it is derived from those of the other stores.
        """
        others = (fault for store, fault in self.storage.faults.items() if store != REGISTRY)
        return SILENT if any(one.reason == SILENT for one in others) else ""
