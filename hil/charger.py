"""A pretend charger for electric vehicles, with the registers of a KEBA P30 and its failsafe.

It charges with what it is allowed and the car wants. Once its failsafe is on, it must be written to
again and again; when it is not, it goes back to its failsafe current by itself, and stays there
until it is told another limit. It shares no code with the driver.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SERIAL = 18416790
VOLTAGE = 230
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
READ, WRITE = 3, 6
LEAST, MOST = 6_000, 63_000
"""mA that may be written; 0 stops charging"""
LIMIT, FAILSAFE_CURRENT, FAILSAFE_TIMEOUT = 5004, 5016, 5018
TIMEOUTS = range(10, 601)
"""seconds; 0: no failsafe"""


class Charger:
    """One charger; call it with a request PDU."""

    def __init__(
        self,
        wanted: int = 16_000,
        now: Callable[[], float] = time.monotonic,
        shortest: int = TIMEOUTS.start,
    ) -> None:
        self.shortest = shortest
        """seconds of its failsafe timeout at least: fewer than it really takes, for a test"""
        self.wanted = wanted
        """mA that the car would take"""
        self.limit, self.failsafe_current, self.failsafe_timeout = 32_000, 0, 0
        self.fallbacks = 0
        """how often it went back by itself"""
        self._now = now
        self._told = self._counted = now()
        self._joules = 0.0

    def __call__(self, pdu: bytes) -> bytes:
        """Answer one request."""
        self._pass()
        function, address, word = pdu[0], _word(pdu, 1), _word(pdu, 3)
        if function == READ:
            value = self._readable().get(address)
            if value is None or word != 2:
                return bytes([function | 0x80, ILLEGAL_ADDRESS])
            return bytes([function, 4]) + value.to_bytes(4, "big")
        if function == WRITE:
            code = self._write(address, word)
            return bytes([function | 0x80, code]) if code else pdu
        return bytes([function | 0x80, ILLEGAL_FUNCTION])

    @property
    def current(self) -> int:
        """The mA it charges with now."""
        self._pass()
        allowed = min(self.limit, self.wanted)
        return allowed if allowed >= LEAST else 0

    def _readable(self) -> dict[int, int]:
        current = self.current
        return {
            1008: current,
            1010: current,
            1012: current,
            1014: SERIAL,
            1020: 3 * current * VOLTAGE,
            1036: int(self._joules / 360),
            1100: self.limit,
            1600: self.failsafe_current,
            1602: self.failsafe_timeout,
        }

    def _write(self, address: int, word: int) -> int:
        """Take a word; 0, or why not."""
        if address in {LIMIT, FAILSAFE_CURRENT}:
            if word and not LEAST <= word <= MOST:
                return ILLEGAL_VALUE
            if address == LIMIT:
                self.limit = word
            else:
                self.failsafe_current = word
        elif address == FAILSAFE_TIMEOUT:
            if word and not self.shortest <= word < TIMEOUTS.stop:
                return ILLEGAL_VALUE
            self.failsafe_timeout = word
        else:
            return ILLEGAL_ADDRESS
        self._told = self._now()
        return 0

    def _pass(self) -> None:
        """Let the time pass that has passed: charge, and fall back where nobody has spoken."""
        now = self._now()
        over = self._told + self.failsafe_timeout if self.failsafe_timeout else now + 1
        if now > over and self.limit != self.failsafe_current:
            self._charge(over)
            self.limit, self.fallbacks = self.failsafe_current, self.fallbacks + 1
        self._charge(now)

    def _charge(self, until: float) -> None:
        amperes = min(self.limit, self.wanted) / 1000
        self._joules += max(0.0, until - self._counted) * 3 * amperes * VOLTAGE
        self._counted = max(until, self._counted)


def _word(pdu: bytes, at: int) -> int:
    return int.from_bytes(pdu[at : at + 2], "big")
