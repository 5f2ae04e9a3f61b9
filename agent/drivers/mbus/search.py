"""One search of a line: the questions that it asks, and what it has found so far.

Answers of several meters lie on top of each other, where every 0 wins (a wired AND): several E5
look like one, and several telegrams may look like a sound one of a meter that does not exist, or
like that of just one of them. So a number counts only once the meter has been selected by all of it
and has answered alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.drivers.base import Progress
from agent.drivers.mbus import request
from agent.drivers.mbus.decode import decode
from agent.drivers.mbus.errors import MbusError
from agent.drivers.mbus.found import entry
from agent.drivers.mbus.registers import INDEXES
from agent.settings import took

if TYPE_CHECKING:
    from agent.drivers.base import Found
    from agent.drivers.mbus.address import Address
    from agent.drivers.mbus.line import Line
    from agent.drivers.mbus.telegram import Telegram

ATTEMPTS = 3
"""a question that nobody answers is asked so often: noise must not hide a meter"""
QUIET_ATTEMPTS = 2
"""the same where most questions are answered by nobody"""
ENOUGH_BITS = 12
"""set bits in its indexes by which a telegram is one meter's: one hidden below has them all"""


@dataclass(slots=True)
class Search:
    """One scan: what it has found, and how much there is to do yet."""

    line: Line
    total: int
    """steps, of those known so far"""
    done: int = 0
    known: set[str] = field(default_factory=set)
    """stations that were found"""
    numbers: set[str | None] = field(default_factory=set)
    """ids that were found"""

    def progress(self, words: str) -> Progress:
        """How far it is, with the time that the rest takes at this speed."""
        one = self.line.window(request.selection(request.ANY_ID), self.line.baudrate)
        left = max(0, self.total - self.done) * one * QUIET_ATTEMPTS
        said = f"{words}, {len(self.known)} found, {took(round(left))} to go"
        return Progress(self.done, self.total, said)

    async def anybody(self, question: bytes) -> bool:
        """Whether anything at all is heard when a selection is sent."""
        for _ in range(QUIET_ATTEMPTS):
            answer = await self.line.chorus(question)
            if answer.noise:
                return True
        return False

    async def said(self, station: int = request.SELECTED, attempts: int = ATTEMPTS) -> bytes:
        """The sound frame of whoever is selected; empty where they disagree or nobody is."""
        for _ in range(attempts):
            answer = await self.line.frame(request.ask(station, fcb=True))
            if answer.data:
                return answer.data
        return b""

    async def alone(self, address: Address) -> Telegram | None:
        """The telegram of exactly this meter; None where there is no such meter, or several."""
        for _ in range(ATTEMPTS):
            if (await self.line.acknowledged(request.select(address))).data:
                break
        else:
            return None
        try:
            telegram = decode(await self.said())
        except MbusError:
            return None
        return telegram if address.fits(telegram) else None

    def note(self, address: Address, telegram: Telegram) -> Found:
        """Remember a meter that was found."""
        self.known.add(address.station)
        self.numbers.add(telegram.id)
        return entry(address, telegram)


def unmistakable(telegram: Telegram) -> bool:
    """Whether this can be only one meter's: its indexes have bits that a hidden one would need."""
    set_bits = sum(
        int.from_bytes(record.data, "little").bit_count()
        for record in telegram.records
        if record.quantity in INDEXES and record.value is not None
    )
    return set_bits >= ENOUGH_BITS
