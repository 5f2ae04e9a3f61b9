"""Which refusals enter the audit chain as records, and which are only counted. Pure.

Anybody can send invalid objects, and an owner of a key can send orders that are refused. Their
records must not displace decisions from the chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SINGLE_RECORDS = 5
"""refusals of one sender with one code that get records of their own in an hour"""
HOUR = 3600.0
BURST = 200
"""records that may be written in a row"""
AT_START = 20
"""of them after a start, so that forcing restarts gains nothing"""
A_DAY = 48
"""records a day in the long run: 20 MB in five years"""
DAY = 86_400.0
MOST_SENDERS = 100
"""pairs of sender and code that are counted separately"""
OTHERS = ("object.refused", "", "")

Key = tuple[str, str, str]
"""type of the record, sender, code"""


@dataclass(slots=True)
class _Counted:
    since: float
    written: int = 0
    more: int = 0


class Repeated:
    """Counts refusals without a record of their own, by sender and code."""

    def __init__(self, now: float) -> None:
        self._left, self._at = float(AT_START), now
        self._of: dict[Key, _Counted] = {}

    def writes(self, type_: str, body: Mapping[str, Any], now: float) -> bool:
        """Whether a refusal gets its own record now; otherwise it is counted."""
        key = (type_, str(body.get("kid") or body.get("via", "")), str(body["code"]))
        # bounded: a trust list may name 200 keys, and each can be refused with many codes
        if key not in self._of and len(self._of) >= MOST_SENDERS:
            key = OTHERS
        counted = self._of.setdefault(key, _Counted(now))
        if counted.written < SINGLE_RECORDS and not counted.more and self._allowed(now):
            counted.written += 1
            return True
        counted.more += int(body.get("count", 1))
        return False

    def due(self, now: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """Type and body of a summary record for each count that is an hour old."""
        for key, counted in list(self._of.items()):
            if now - counted.since < HOUR:
                continue
            # the count stays until a record is allowed: no refusal is forgotten
            if counted.more and not self._allowed(now):
                return
            del self._of[key]
            if counted.more:
                type_, sender, code = key
                yield type_, {"from": sender, "code": code, "more": str(counted.more)}

    def _allowed(self, now: float) -> bool:
        self._left = min(BURST, self._left + max(0.0, now - self._at) * A_DAY / DAY)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
