"""A scan or a read with everything that was heard meanwhile, as the calls have it."""

from __future__ import annotations

from types import SimpleNamespace

from agent.drivers.analysis import Observations, analyser
from agent.drivers.base import Found, Wish
from agent.drivers.trace import Recorder, heading


class Hearing:
    """Records an open driver; `odd`, `values` and `lines` (of the trace) are there after `end`."""

    def __init__(self, driver, kind: str, settings) -> None:
        self.driver, self.kind, self.settings = driver, kind, settings
        self.recorder = Recorder()
        driver.record_to(self.recorder)

    def end(self) -> Hearing:
        self.driver.record_to(None)
        known = vars(self.settings) if isinstance(self.settings, SimpleNamespace) else (
            self.settings.model_dump())  # fmt: skip
        explaining, self.heard = analyser(self.kind, known), Observations()
        events, self.frames = self.recorder.take(), []
        for event in events:
            self.frames += explaining.feed(event)
        self.frames += explaining.end()
        self.heard.take(self.frames)
        self.odd = {(one["device"], one["kind"]): one for one in self.heard.odd_by_device()}
        head = heading("line", self.kind, "2026-11-28T12:00:00Z", self.settings)
        self.lines = [*head, *(event.line() for event in events)]
        return self


async def scanned(driver, kind, settings, wish=None):
    """What a search found, and the Hearing."""
    hearing = Hearing(driver, kind, settings)
    found = [step async for step in driver.discover(wish or Wish()) if isinstance(step, Found)]
    return found, hearing.end()
