"""A plan that shows a fault becomes the smallest that still does: same oracle, same clause.

First events are left out, in halves, then quarters, down to single ones (delta debugging); then
days, dwellings, recipients, lines and options; then each number becomes a simpler one. This is
repeated until nothing more can be left out, or until so many runs were made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.sim import plan as plans
from tests.sim.plan import DAY, HOUR, Plan

Sort = tuple[str, str]
Runs = Callable[[Plan], set[Sort]]
"""runs a plan, and says what the judge found"""
RUNS = 400
SHORTEST = 0.05
"""days"""
QUIETEST = (HOUR, plans.QUIET)
"""seconds of the end, in which all must come right: of less than three hours little is judged"""


def sort_of(text: str) -> Sort:
    """Of a finding as it is printed: which oracle, by which clause."""
    oracle, _, rest = text.partition(": ")
    clause = re.match(r"[A-Z]\d+\b", rest)
    return oracle, clause.group() if clause else ""


def complaints(plan: Plan) -> list[str]:
    """What the judge says of a plan; a run that is broken shows nothing."""
    from tests.sim import run

    (outcome,) = run.run_all([plan])
    return [] if outcome.broken else outcome.faults


class Shrinking:
    """One plan on its way; `log` is told of each smaller one, and how small it is."""

    def __init__(
        self,
        plan: Plan,
        sort: Sort,
        runs: Runs,
        log: Callable[[Plan, str], None] = lambda *_: None,
        most: int = RUNS,
    ) -> None:
        self.plan, self.sort, self.runs, self.log, self.most = plan, sort, runs, log, most
        self.made = 0
        self._known: dict[str, bool] = {plans.dump(plan): True}

    def smallest(self) -> Plan:
        """Shrink until nothing more can be left out."""
        while True:
            before = plans.dump(self.plan)
            # first what makes all further runs cheaper
            for candidates in (self._quieter, self._smaller):
                self._first(candidates)
            self._events()
            for candidates in (self._shorter, self._smaller, self._earlier, self._simpler):
                self._first(candidates)
            if plans.dump(self.plan) == before or self.made >= self.most:
                return self.plan

    def _take(self, candidate: Plan) -> bool:
        """Whether a smaller plan still shows the fault; then it is the plan."""
        text = plans.dump(candidate)
        if text not in self._known:
            if plans.check(candidate) or self.made >= self.most:
                return False
            self.made += 1
            self._known[text] = self.sort in self.runs(candidate)
        if self._known[text]:
            self.plan = candidate
            events, days = len(candidate["events"]), candidate["days"]
            building = candidate["building"]
            self.log(candidate, f"run {self.made}: {events} events, {days:g} days, {building}")
        return self._known[text]

    def _events(self) -> None:
        size = max(1, len(self.plan["events"]) // 2)
        while size:
            at = 0
            while at < len(self.plan["events"]):
                events = self.plan["events"]
                left = events[:at] + events[at + size :]
                if not self._take(self.plan | {"events": left}):
                    at += size
            size //= 2

    def _first(self, candidates: Callable[[], Iterator[Plan]]) -> None:
        """Take smaller plans as long as there are any; begin again after each."""
        while any(self._take(candidate) for candidate in candidates()):
            pass

    def _earlier(self) -> Iterator[Plan]:
        """All from one event on comes earlier, with an hour or ten minutes before it."""
        events, last = self.plan["events"], 0.0
        for index, event in enumerate(events):
            for gap in (600.0, 3600.0, float(DAY)):
                by = event["at"] - last - gap
                if by > 1:
                    moved = [each | {"at": round(each["at"] - by, 1)} for each in events[index:]]
                    yield self.plan | {"events": events[:index] + moved}
            last = event["at"]

    def _quieter(self) -> Iterator[Plan]:
        for quiet in QUIETEST:
            if quiet < self.plan.get("quiet", 2 * DAY):
                yield self.plan | {"quiet": quiet}

    def _shorter(self) -> Iterator[Plan]:
        last = max((event["at"] for event in self.plan["events"]), default=0.0) / DAY
        for days in (SHORTEST, math.ceil(20 * last) / 20, math.ceil(last)):
            if max(SHORTEST, last) <= days < self.plan["days"]:
                yield self.plan | {"days": days}

    def _smaller(self) -> Iterator[Plan]:
        building = self.plan["building"]
        for name in ("dwellings", "recipients", "controls"):
            least = 0 if name == "controls" else 1
            for number in sorted({least, building[name] // 2, building[name] - 1}):
                if least <= number < building[name]:
                    yield self._built(**{name: number})
        for line in building["lines"]:
            if len(building["lines"]) > 1:
                yield self._built(lines=[one for one in building["lines"] if one != line])
        for name in ("sums", "withheld", "common", "signed"):
            if building[name]:
                yield self._built(**{name: False})

    def _built(self, **more: Any) -> Plan:
        return self.plan | {"building": self.plan["building"] | more}

    def _simpler(self) -> Iterator[Plan]:
        for index, event in enumerate(self.plan["events"]):
            for name, value in event.items():
                for other in _simpler_values(event["do"], name, value):
                    events = list(self.plan["events"])
                    events[index] = event | {name: other}
                    events.sort(key=lambda event: event["at"])
                    yield self.plan | {"events": events}


ORDER = {"aim": "any", "by": "command", "how": "down", "flaw": ""}
"""the simplest of some choices"""


def _simpler_values(do: str, name: str, value: Any) -> list[Any]:
    """Values that say the same with less; each is simpler than the one before it would allow."""
    if name in ("do", "seed"):
        return []
    if name == "at":
        return [at for at in _rounded(value) if at < value or len(repr(at)) < len(repr(value))]
    if isinstance(value, (bool, str)):
        simple, kind = ORDER.get(name), plans.EVENTS[do].get(name)
        good = simple not in (None, value) and kind is not None and kind.admits(simple)
        return [simple] if good else []
    return [number for number in _rounded(value) if _size(number) < _size(value)]


def _rounded(value: float) -> list[Any]:
    """0, 1 and round numbers near, simplest first."""
    whole = isinstance(value, int)
    units = [unit for unit in (DAY, 3600, 600, 60, 10, 1) if abs(value) >= unit]
    numbers = [0, 1, *(round(value / unit) * unit for unit in units)]
    return list(dict.fromkeys(int(number) if whole else float(number) for number in numbers))


def _size(number: float) -> tuple[int, float]:
    digits = repr(number).rstrip("0").replace(".", "").lstrip("-0")
    return len(digits), abs(number)


def save(plan: Plan, folder: Path, name: str, sort: Sort) -> Path:
    """Keep a plan as a case; `shows` says what it has found."""
    path = folder / f"{name}.json"
    path.write_text(plans.dump(plan | {"shows": list(sort)}), encoding="utf-8")
    return path
