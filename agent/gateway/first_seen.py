"""Since when each finding is there, through restarts of the agent.

For findings that do not know their own beginning. The time is that of the first diagnosis that made
the finding; the agent makes one each minute.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from agent.core.atomic_write import StateFile
from agent.core.clock import STEP, stamp

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agent.core.clock import Clock
    from agent.core.finding import Finding

FILE = "findings.json"
AFTER_START = 3600.0
"""seconds after a start in which no time from before is forgotten: some meters are read hourly"""


class FirstSeen:
    """The first times of the present findings, by what tells them apart."""

    def __init__(self, state: Path, clock: Clock) -> None:
        self._clock = clock
        self._file = StateFile[dict[str, float]](
            state / FILE,
            lambda stored: {name: float(since) for name, since in stored.items()},
            missing=dict,
            sort_keys=True,
        )
        self._seen = self._file.load(partial(setattr, self, "_seen"))
        self._here: set[str] = set()
        """those that this process saw first, by a clock that may be set right later"""
        self._began = clock.steady()
        self._apart = clock.now() - self._began

    def dated(self, findings: Iterable[Finding], *, keep: bool) -> list[Finding]:
        """Return the findings, each with its id and its beginning. `keep`: write the times to
        the disk.

        A finding that is not among them is over: if it comes back, it begins anew.
        """
        made, now = list(findings), self._clock.now()
        apart, before = now - self._clock.steady(), dict(self._seen)
        if abs(moved := apart - self._apart) > STEP:
            self._seen |= {one: self._seen[one] + moved for one in self._here & self._seen.keys()}
        self._apart = apart
        names = [_name(finding) for finding in made]
        self._here |= {name for name in names if name not in self._seen}
        fresh = self._clock.steady() - self._began < AFTER_START
        earlier = {name: at for name, at in self._seen.items() if fresh and name not in self._here}
        self._seen = earlier | {name: self._seen.get(name, now) for name in names}
        if keep and self._seen != before:
            # nobody waits for it: on a disk that fails, the times are in memory only
            self._file.save_later(self._seen)
        return [
            replace(
                finding, id=name.replace(" ", ":"), since=finding.since or stamp(self._seen[name])
            )
            for name, finding in zip(names, made, strict=True)
        ]


def _name(finding: Finding) -> str:
    parts = (finding.subject, finding.uplink or "", finding.cause, finding.about)
    # hashed: causes may contain names of devices, and these the labels of dwellings
    return f"{finding.code} {sha256(json.dumps(parts).encode()).hexdigest()[:16]}"
