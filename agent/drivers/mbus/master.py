"""Read out a meter: select it, request its telegrams, repeat, check that it is the right one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from agent.core import clock
from agent.core.model import Why
from agent.drivers.line_disturbance import How
from agent.drivers.mbus import frame
from agent.drivers.mbus.decode import decode
from agent.drivers.mbus.frame import ACKNOWLEDGE
from agent.drivers.mbus.telegram import ApplicationError, MbusError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.drivers.mbus.address import MeterAddress
    from agent.drivers.mbus.line import MbusLine, Reply
    from agent.drivers.mbus.telegram import Telegram

    Enough = Callable[[Sequence[Telegram]], bool]

ATTEMPTS = 3
"""a request is repeated twice (EN 13757-2, 5.7.4)"""
MOST_TELEGRAMS = 32
"""telegrams of one readout, in case a meter announces another one without end"""
PAUSE = 1.0
"""seconds to wait when a meter reports that it is busy"""
DFC = 0x10
"""bit of the C field of an answer by which a meter asks for a pause"""
TOO_BUSY = 0x08
"""application error: ask again later"""
NO_DATA = bytes((ACKNOWLEDGE,))


class Readout(NamedTuple):
    """The telegrams of one meter, or why there are none."""

    at: float
    """wall time of the first telegram, or of the end of the wait for it"""
    telegrams: tuple[Telegram, ...] = ()
    why: Why | None = None
    """SILENT or BAD if telegrams are missing"""
    detail: str = ""
    """what went wrong"""


class _Failed(Exception):
    """There is no telegram; the message gives the reason."""

    def __init__(self, why: Why, detail: str, *, final: bool = False) -> None:
        super().__init__(detail)
        self.why, self.detail, self.final = why, detail, final
        """final: repeating the request would not help, or would hide the fault"""


class MbusMaster:
    """Reads meters on one open line, and keeps track of their frame count bits."""

    def __init__(self, line: MbusLine) -> None:
        self.line = line
        self._fcb: dict[int, bool] = {}
        """by link address: the frame count bit of the next request; a missing one is reset first"""
        self._numbers: dict[int, str | None] = {}
        """by primary address: the meter's number in its last telegram"""
        self.pause = PAUSE
        self._pause = False
        """the meter asked for a pause before the next request"""

    async def readout(self, address: MeterAddress, enough: Enough) -> Readout:
        """Read telegrams of a meter until `enough` is true or none are left. Raises LinkLost."""
        self.line.turn, self.line.spoilt = name_of(address), False
        listener = self.line.listener
        readout = await self._readout(address, enough)
        if readout.why is Why.SILENT and self.line.spoilt:
            listener.blame(name_of(address), How.NOISE)
            listener.spoilt()
        elif readout.why is Why.SILENT:
            await self.line.silent()
        if self.line.spoilt or listener.watched[name_of(address)]:
            await self.line.drain()
        return readout

    async def _readout(self, address: MeterAddress, enough: Enough) -> Readout:
        try:
            telegrams = [await self._first(address)]
        except _Failed as failed:
            self._fcb.pop(_station(address), None)
            return Readout(clock.seconds(), why=failed.why, detail=failed.detail)
        at, why, detail = clock.seconds(), None, ""
        try:
            while telegrams[-1].more and not enough(telegrams) and len(telegrams) < MOST_TELEGRAMS:
                telegrams.append(await self._asked(address))
        except _Failed as failed:
            why, detail = failed.why, f"telegram {len(telegrams) + 1} is missing: {failed.detail}"
        if telegrams[0].more:
            # The meter is in the middle of a readout: without a reset, the next one would begin
            # with a later telegram.
            self._fcb.pop(_station(address), None)
        return Readout(at, tuple(telegrams), why, detail)

    def begin_anew(self) -> None:
        """Forget all frame count bits, after others have sent requests."""
        self._fcb.clear()

    async def _first(self, address: MeterAddress) -> Telegram:
        if address.primary is not None:
            if address.primary not in self._fcb:
                await self._reset(address)
            return await self._asked(address)
        failed = _Failed(Why.SILENT, "")
        # Selected again for each attempt: another meter may have answered, or the selection may
        # be lost.
        for _ in range(ATTEMPTS):
            await self._select(address)
            try:
                return await self._asked(address, attempts=1)
            except _Failed as error:
                failed = error
                if error.final:
                    break
        raise failed

    async def _reset(self, address: MeterAddress) -> None:
        await self._acknowledged(frame.reset(_station(address)), address, "does not answer")
        self._fcb[_station(address)] = True

    async def _select(self, address: MeterAddress) -> None:
        """Select a meter. This resets its frame count bit, so the next request has it set."""
        silent = "does not answer when it is selected"
        await self._acknowledged(frame.select(address), address, silent)
        self._fcb[frame.SELECTED] = True

    async def _acknowledged(self, question: bytes, address: MeterAddress, silent: str) -> None:
        for _ in range(ATTEMPTS):
            answer = await self.line.acknowledged(question, address.baudrate)
            if answer.data:
                return
            self._unless_loud()
        raise _Failed(Why.SILENT, silent)

    def _unless_loud(self) -> None:
        """Raise _Failed if a meter sends without end: then no other can be heard."""
        if self.line.loud:
            raise _Failed(
                Why.SILENT, "cannot be heard: another device sends all the time", final=True
            )

    async def _asked(self, address: MeterAddress, attempts: int = ATTEMPTS) -> Telegram:
        """The next telegram of a meter.

        Repetitions keep the frame count bit, so that the meter repeats its telegram instead of
        sending the next one.
        """
        station = _station(address)
        failed = _Failed(Why.SILENT, "")
        for _ in range(attempts):
            if self._pause:
                await asyncio.sleep(self.pause)
            question = frame.ask(station, self._fcb[station])
            answer = await self.line.frame(question, address.baudrate)
            if not answer.data:
                self._unless_loud()
            # DFC: the meter cannot take another request yet, and would not answer it.
            self._pause = bool(answer.data) and bool(answer.data[4] & DFC)
            try:
                telegram = self._heard(answer, address)
            except _Failed as error:
                failed = error
                if error.final:
                    break
            else:
                self._fcb[station] = not self._fcb[station]
                return telegram
        raise failed

    def _heard(self, answer: Reply, address: MeterAddress) -> Telegram:
        if answer.noise == NO_DATA:
            raise _Failed(Why.BAD, "acknowledges, but sends no data", final=True)
        if not answer.data:
            heard = f": {len(answer.noise)} bytes that make no sense" if answer.noise else ""
            raise _Failed(Why.SILENT, f"does not answer{heard}")
        try:
            telegram = decode(answer.data)
        except MbusError as error:
            # Such an answer has no number, so only a primary address shows which meter sent it.
            if address.primary is None or answer.data[5] == address.primary:
                self._pause = isinstance(error, ApplicationError) and error.code == TOO_BUSY
                raise _Failed(Why.BAD, str(error), final=not self._pause) from error
            raise _Failed(Why.SILENT, "another meter answered") from error
        if not address.fits(telegram):
            self.line.listener.other(telegram.id or str(telegram.address), clock.monotonic())
            raise _Failed(Why.SILENT, f"another meter answered: {_name(telegram)}")
        self._same_as_before(address, telegram)
        return telegram

    def _same_as_before(self, address: MeterAddress, telegram: Telegram) -> None:
        """Check that the meter at a primary address is the one that answered before.

        If it is not, the reading is silent once. After that the poller reads the serial number
        again, so that no value of a replaced meter counts for the old one.
        """
        if address.primary is None:
            return
        before = self._numbers.get(address.primary, telegram.id)
        self._numbers[address.primary] = telegram.id
        if before != telegram.id:
            raise _Failed(
                Why.SILENT, f"was meter {before} before, and is {telegram.id} now", final=True
            )


def _station(address: MeterAddress) -> int:
    return frame.SELECTED if address.primary is None else address.primary


def name_of(address: MeterAddress) -> str:
    """The name of a meter in the evidence of `line_disturbance`."""
    return address.id or str(address.primary)


def _name(telegram: Telegram) -> str:
    return telegram.id or f"without a number, address {telegram.address}"
