"""Which findings somebody has acknowledged, through restarts of the agent (docs/decisions/056).

An acknowledgement ends with its time, with its finding, or when the finding becomes worse.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.core.atomic_write import StateFile
from agent.core.clock import stamp
from agent.core.finding import RANK, Acknowledgement, Severity
from agent.gateway.first_seen import AFTER_START

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from agent.core.clock import Clock
    from agent.core.finding import Finding

FILE = "acknowledged.json"
DAY = 86_400.0
WORSE = 2
"""times as many devices, batches or dwellings as when it was acknowledged"""


@dataclass(frozen=True, slots=True)
class KnownFinding:
    """A finding as it was when somebody acknowledged it."""

    by: Acknowledgement
    until: float
    """seconds since 1970 UTC"""
    severity: Severity
    count: int

    def covers(self, finding: Finding, now: float) -> bool:
        """Whether it still holds for the finding as it is now."""
        more = finding.count > max(self.count, WORSE * self.count - 1)
        return now < self.until and not more and RANK[finding.severity] >= RANK[self.severity]


class Acknowledgements:
    """The acknowledged findings, by their id."""

    def __init__(self, state: Path, clock: Clock) -> None:
        self._clock, self._began = clock, clock.steady()
        self._file = StateFile[dict[str, KnownFinding]](
            state / FILE, _parsed, missing=dict, sort_keys=True
        )
        self._known = self._file.load(partial(setattr, self, "_known"))

    def applied(self, findings: Iterable[Finding], *, keep: bool) -> list[Finding]:
        """Return the findings, each with its acknowledgement. `keep`: forget what has ended.

        In the first hour after a start nothing is forgotten because its finding is not there: some
        meters are read hourly.
        """
        made, now = list(findings), self._clock.now()
        here = {finding.id: finding for finding in made}
        fresh = self._clock.steady() - self._began < AFTER_START
        known = {
            name: one
            for name, one in self._known.items()
            if (one.covers(here[name], now) if name in here else fresh and now < one.until)
        }
        if keep and known != self._known:
            self._known = known
            self._file.save_later(_plain(known))
        return [
            replace(finding, acknowledged=known[finding.id].by) if finding.id in known else finding
            for finding in made
        ]

    def add(self, findings: Iterable[Finding], who: str, note: str, days: float) -> Acknowledgement:
        """Record that somebody knows of findings. It is on the disk when this returns.

        `days` 0: they count again. Raises NotRecorded.
        """
        now = self._clock.now()
        until = now + days * DAY
        by = Acknowledgement(who, stamp(now), stamp(until), note)
        new = {one.id: KnownFinding(by, until, one.severity, one.count) for one in findings}
        known = {name: one for name, one in self._known.items() if name not in new}
        known |= new if days else {}
        self._file.save(_plain(known))
        self._known = known
        return by


def _plain(known: Mapping[str, KnownFinding]) -> dict[str, Any]:
    return {name: asdict(one) for name, one in known.items()}


def _parsed(stored: Mapping[str, Any]) -> dict[str, KnownFinding]:
    return {
        name: KnownFinding(
            Acknowledgement(**one["by"]),
            float(one["until"]),
            Severity(one["severity"]),
            int(one["count"]),
        )
        for name, one in stored.items()
    }
