"""Loops whose time jumps: a day goes by in a second."""

from __future__ import annotations

import asyncio
import selectors
import time
from contextlib import contextmanager
from unittest import mock


class _Jumps(selectors.SelectSelector):
    """Where nothing is to be done, the time jumps to what comes next."""

    def __init__(self, grace: float) -> None:
        super().__init__()
        self.now, self.grace = 1_000.0, grace

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout and not (ready := super().select(self.grace)):
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on a clock of its own, which does not wait."""

    grace = 0.0

    def __init__(self) -> None:
        self.selector = _Jumps(self.grace)
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now

    async def shutdown_default_executor(self, timeout=None):  # noqa: ASYNC109 -- asyncio's own
        """Wait for the threads in real time: this loop's would be over before they have ended."""
        del timeout
        await super().shutdown_default_executor()


class PatientLoop(VirtualLoop):
    """One whose time stands still while bytes may be on their way in the kernel."""

    grace = 0.002
    """real seconds for which bytes are waited for before the time jumps"""


@contextmanager
def clocks_at(wall, loop=VirtualLoop):
    """Let `time` tell the time of a virtual loop, from `wall` on; give what runs a coroutine."""
    with asyncio.Runner(loop_factory=loop) as runner:
        now = runner.get_loop().time
        origin = wall - now()
        with (
            mock.patch.object(time, "monotonic", now),
            mock.patch.object(time, "time", side_effect=lambda: origin + now()),
        ):
            yield runner.run


def run(story, loop=VirtualLoop):
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(story)
