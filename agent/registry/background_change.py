"""A change that takes seconds, such as a list of 50,000 rows, made while the event loop goes on
reading and commanding. A thread checks it on a copy of the registry, and writes a new snapshot if
it is long; it is then adopted as a whole.

There is still only one writer: only the event loop adopts a change, and only if nothing else has
changed meanwhile. Otherwise the whole change is checked again.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from agent.core.atomic_write import DiskWriter
from agent.core.errors import NotRecorded, Refused
from agent.core.tasks import Change, pause
from agent.registry.registry import Registry
from agent.registry.storage import to_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.registry.records import Document
    from agent.registry.storage import Staged

T = TypeVar("T")
TRIES = 5
SHORT = 200
"""documents that the event loop can write itself"""
FOLDED_EVERY = 60.0
"""seconds between two looks at the length of the log"""
NUMBERS = count(1)
"""of drafts: a cancelled draft may still be written while the next one is, so each has its own
file
"""


class RegistryDraft(Registry):
    """A copy of a registry that a thread may change. Nothing of it is in force before it is
    submitted.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._path, self._storage, self._index = registry.state()
        self._origin = self._index
        self.mute, self.changed = registry.mute, Change()
        self._complete = registry.written
        self.unrecorded, self._notes, self._last_good = (), None, None
        self._added: list[Document] = []
        self._staged: Staged | None = None

    def _write(self, documents: Sequence[Document] = ()) -> None:
        self._added += documents  # on the disk once it is submitted

    def stage(self, *, anyway: bool = False) -> None:
        """Write the snapshot with a long change; `anyway`: with any or none. Raises NotRecorded."""
        if anyway or len(self._added) > SHORT or (self._added and not self._complete):
            try:
                rows = map(to_row, self._documents)
                self._staged = self._storage.stage(rows, f"draft{next(NUMBERS)}")
            except OSError as error:
                raise self._not_recorded(error) from error

    def _disk_failed(self, error: Exception, _: Sequence[Document]) -> None:
        # a draft puts nothing in force: `change_in_background` repeats the change on the registry
        raise self._not_recorded(error) from error

    def submit(self) -> bool:
        """Whether the change is in force now; False if the registry was changed meanwhile."""
        # nothing to write: the answer is right only if the registry is still the same
        if not self._added and self._staged is None:
            return self._registry.state()[-1] is self._origin
        adopted = self._registry.adopt(self._added, self._index, self._origin, self._staged)
        if not adopted and self._staged is not None:
            with suppress(OSError):
                DiskWriter.make(partial(self._staged.path.unlink, missing_ok=True))
        return adopted


async def change_in_background(registry: Registry, change: Callable[[Registry], T]) -> T:
    """Make a change in a thread. Raises Refused as the change does, or if others changed the
    registry each time.
    """
    for _ in range(TRIES):
        draft = RegistryDraft(registry)
        try:
            answer = await asyncio.to_thread(partial(_without_garbage_collection, change, draft))
            if draft.submit():
                return answer
        except NotRecorded:  # the registry puts in force what only restricts, even without the disk
            return change(registry)
    raise Refused(
        "others changed the registry each time this was checked, so nothing was recorded: try again"
    )


async def fold_log(registry: Registry) -> bool:
    """Begin a new log with a new snapshot, in a thread. False, without effect, if others changed
    the registry meanwhile. Raises NotRecorded if the disk does not accept it.
    """
    draft = RegistryDraft(registry)
    stage = partial(RegistryDraft.stage, anyway=True)
    await asyncio.to_thread(partial(_without_garbage_collection, stage, draft))
    return draft.submit()


async def keep_log_short(registry: Registry, every: float = FOLDED_EVERY) -> None:
    """Begin a new log whenever it is long. Never returns."""
    while True:
        await pause(every)
        if registry.long_log:
            with suppress(NotRecorded):  # a long log harms nothing, and changes report the disk
                await fold_log(registry)


def _without_garbage_collection(change: Callable[[RegistryDraft], T], draft: RegistryDraft) -> T:
    """Run a change without garbage collections. A collection examines all objects that a long list
    creates and stops every thread meanwhile. What is left over is freed with this thread.
    """
    # each collection visits all objects of the list and delays readings and commands
    collects = gc.isenabled()
    gc.disable()
    try:
        answer = change(draft)
        draft.stage()
    except Refused as error:
        # the traceback would keep all rows of the list in memory for as long as the error
        error.__traceback__ = error.__context__ = None
        raise
    else:
        return answer
    finally:
        if collects:
            gc.enable()
