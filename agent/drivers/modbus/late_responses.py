"""What devices still owe: answers that did not come in time, and may come for another question.

An RTU answer does not say which question it is for, only how long it is. So after a timeout no
answer of the same length is asked for until that one has come, or can hardly come any more.
"""

from __future__ import annotations

from agent.clock import monotonic
from agent.drivers.modbus.answer import BITS, READS, REFUSED, expected_size
from agent.drivers.modbus.plan import LONGEST_OF
from agent.drivers.modbus.rtu import find

OWED_FOR = 60.0
"""seconds after which an answer that never came is not feared any more"""
LATEST = 10
"""timeouts after which a device that reads no cell more than it is asked for is believed again"""

Debts = dict[int, tuple[float, bytes]]
"""by the length of the answer: when it was asked for, and how"""


class LateResponses:
    """The answers that the units of one line owe."""

    def __init__(self) -> None:
        self.slowest = 0.0
        """seconds of the slowest answer so far, late ones too"""
        self._by_unit: dict[int, Debts] = {}
        self._unpadded: set[int] = set()
        """units that refused a cell more than was wanted"""

    def of(self, unit: int) -> Debts:
        """What one unit owes and may still come."""
        since = monotonic() - OWED_FOR
        left = {size: one for size, one in self._by_unit.get(unit, {}).items() if one[0] > since}
        self._by_unit[unit] = left
        return left

    def asked(self, unit: int, pdu: bytes, at: float) -> None:
        """A question was sent, at a monotonic time: its answer is owed."""
        self._by_unit.setdefault(unit, {})[expected_size(pdu) or 0] = (at, pdu)

    def answered(self, unit: int, pdu: bytes) -> None:
        """The answer has come, or one that nobody could read."""
        self._by_unit[unit].pop(expected_size(pdu) or 0, None)

    def refused(self, unit: int, function: int) -> None:
        """A refusal has come, which does not say of what: of the question that has waited longest,
        for answers come in order, and those behind it may still come.
        """
        owed = self._by_unit[unit]
        waiting = [(at, size) for size, (at, pdu) in owed.items() if pdu[0] == function]
        if waiting:
            at, size = min(waiting)
            self.took(min(monotonic() - at, OWED_FOR))
            del owed[size]

    def has(self, unit: int, pdu: bytes) -> bool:
        """Whether an answer is one that a unit owes."""
        if pdu[0] & REFUSED:
            return any(asked[0] == pdu[0] & ~REFUSED for _, asked in self.of(unit).values())
        return len(pdu) in self.of(unit)

    def took(self, seconds: float) -> None:
        """An answer took so long."""
        self.slowest = max(self.slowest, seconds)

    def patience(self, timeout: float) -> float:
        """Seconds for which the answer to a question may still come."""
        return min(OWED_FOR, max(LATEST * timeout, 2 * self.slowest))

    def refused_more(self, unit: int) -> None:
        """A unit does not read a cell more than is wanted."""
        self._unpadded.add(unit)

    def longer(self, unit: int, pdu: bytes) -> bytes | None:
        """The same read with an answer of a length that is not owed; None where there is none."""
        if pdu[0] not in READS or unit in self._unpadded:
            return None
        owed = self.of(unit)
        start, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        step, most = 8 if pdu[0] in BITS else 1, LONGEST_OF[pdu[0]]
        for more in range(count + step, min(most, 0x10000 - start) + 1, step):
            longer = pdu[:3] + more.to_bytes(2, "big")
            if expected_size(longer) not in owed:
                return longer
        return None

    def settle(self, heard: bytes | bytearray) -> bool:
        """Take answers that came late off what their units owe; whether there were any."""
        settled = False
        for unit, owed in self._by_unit.items() if heard else ():
            refusals: set[int] = set()
            for size, (at, pdu) in list(owed.items()):
                came = find(heard, unit, pdu).pdu
                settled |= bool(came)
                if came and came[0] & REFUSED:
                    refusals.add(pdu[0])
                elif came:
                    self.took(min(monotonic() - at, OWED_FOR))
                    del owed[size]
            for function in refusals:
                self.refused(unit, function)
        return settled
