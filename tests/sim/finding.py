"""A finding of the judge."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What was not as the rules say: which oracle, by which clause, when (true time), and the
    indexes of the records of the journal that show it.
    """

    oracle: str
    clause: str
    text: str
    at: float
    near: tuple[int, ...] = ()

    @property
    def sort(self) -> tuple[str, str]:
        """What shrinking keeps: any finding of this oracle by this clause."""
        return self.oracle, self.clause

    def __str__(self):
        when = dt.datetime.fromtimestamp(self.at, dt.UTC).isoformat(" ", "milliseconds")
        near = f" [{', '.join(map(str, dict.fromkeys(self.near)))}]" if self.near else ""
        return f"{self.oracle}: {self.clause} at {when}: {self.text}{near}"
