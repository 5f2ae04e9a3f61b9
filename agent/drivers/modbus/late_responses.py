"""Answers that are overdue, and that must not be taken for the answer to a later request.

An RTU answer does not tell which request it is for; it can only be recognized by its length.
Therefore, after a timeout, no answer of the same length is requested from that unit until the
overdue one has arrived, or is unlikely to arrive any more.
"""

from __future__ import annotations

from agent.core.clock import monotonic
from agent.drivers.modbus.answer import BITS, READS, REFUSED, expected_size
from agent.drivers.modbus.plan import LONGEST_OF
from agent.drivers.modbus.rtu import find

OWED_FOR = 60.0
"""seconds after which an overdue answer is no longer expected"""
LATEST = 10
"""timeouts for which a unit is not asked that cannot be asked for a longer answer instead"""

Overdue = dict[int, tuple[float, bytes]]
"""by the length of the overdue answer in bytes: monotonic time of the request, and its PDU"""


class LateResponses:
    """The overdue answers of all units of one line."""

    def __init__(self) -> None:
        self.slowest = 0.0
        """seconds of the slowest answer so far, including late ones"""
        self._by_unit: dict[int, Overdue] = {}
        self._unpadded: set[int] = set()
        """units that refused a read of one cell more than needed"""

    def of(self, unit: int) -> Overdue:
        """The overdue answers of one unit that may still arrive."""
        since = monotonic() - OWED_FOR
        left = {
            size: overdue
            for size, overdue in self._by_unit.get(unit, {}).items()
            if overdue[0] > since
        }
        self._by_unit[unit] = left
        return left

    def asked(self, unit: int, pdu: bytes, at: float) -> None:
        """Note a request sent at a monotonic time."""
        # 0: an answer whose length is not known beforehand (43/14).
        self._by_unit.setdefault(unit, {})[expected_size(pdu) or 0] = (at, pdu)

    def answered(self, unit: int, pdu: bytes) -> None:
        """Note that the answer to a request has arrived, intact or not."""
        self._by_unit[unit].pop(expected_size(pdu) or 0, None)

    def refused(self, unit: int, function: int) -> None:
        """Note an exception. It does not tell which request it answers.

        It is taken for the oldest one of its function, since a device answers in order. The answers
        to later requests may still arrive.
        """
        overdue = self._by_unit[unit]
        waiting = [(at, size) for size, (at, pdu) in overdue.items() if pdu[0] == function]
        if waiting:
            at, size = min(waiting)
            self.took(min(monotonic() - at, OWED_FOR))
            del overdue[size]

    def has(self, unit: int, pdu: bytes) -> bool:
        """Whether an answer is one that is overdue from a unit."""
        if pdu[0] & REFUSED:
            return any(asked[0] == pdu[0] & ~REFUSED for _, asked in self.of(unit).values())
        return len(pdu) in self.of(unit)

    def took(self, seconds: float) -> None:
        """Note how long an answer took."""
        self.slowest = max(self.slowest, seconds)

    def patience(self, timeout: float) -> float:
        """Seconds after a request during which its answer may still arrive."""
        return min(OWED_FOR, max(LATEST * timeout, 2 * self.slowest))

    def refused_more(self, unit: int) -> None:
        """Note that a unit refuses to read more cells than needed."""
        self._unpadded.add(unit)

    def longer(self, unit: int, pdu: bytes) -> bytes | None:
        """The same read with more cells, so that its answer has a length that is not overdue.

        None if there is no such read.
        """
        if pdu[0] not in READS or unit in self._unpadded:
            return None
        overdue = self.of(unit)
        start, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        # An answer with bits is longer only by a whole byte, which is eight more bits.
        step, most = 8 if pdu[0] in BITS else 1, LONGEST_OF[pdu[0]]
        for more in range(count + step, min(most, 0x10000 - start) + 1, step):
            longer = pdu[:3] + more.to_bytes(2, "big")
            if expected_size(longer) not in overdue:
                return longer
        return None

    def settle(self, heard: bytes | bytearray) -> bool:
        """Remove late answers among received bytes from the overdue ones. Returns whether there
        were any.
        """
        settled = False
        for unit, overdue in self._by_unit.items() if heard else ():
            # One exception is found again for each overdue request of its function, but it answers
            # only one of them.
            refusals: set[int] = set()
            for size, (at, pdu) in list(overdue.items()):
                came = find(heard, unit, pdu).pdu
                settled |= bool(came)
                if came and came[0] & REFUSED:
                    refusals.add(pdu[0])
                elif came:
                    self.took(min(monotonic() - at, OWED_FOR))
                    del overdue[size]
            for function in refusals:
                self.refused(unit, function)
        return settled
