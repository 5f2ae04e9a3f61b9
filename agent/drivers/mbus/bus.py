"""The M-Bus driver, for a level converter on a serial port or on the network.

It selects a meter, requests its telegrams, and checks that it is the right one.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from agent.core import clock
from agent.core.clock import monotonic
from agent.core.i18n import EMPTY, Text, text_of
from agent.core.model import Sample, Why
from agent.drivers.base import StoredHistory, Wish
from agent.drivers.line_disturbance import How
from agent.drivers.mbus import frame, registers
from agent.drivers.mbus.decode import decode
from agent.drivers.mbus.frame import ACKNOWLEDGE
from agent.drivers.mbus.line import MbusLine, over_serial, over_tcp
from agent.drivers.mbus.registers import rehearse
from agent.drivers.mbus.scan import scan
from agent.drivers.mbus.settings import MbusTcpSettings, SerialSettings
from agent.drivers.mbus.telegram import ApplicationError, MbusError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from agent.core.model import Point
    from agent.drivers.base import Found, Progress
    from agent.drivers.line_disturbance import Turn
    from agent.drivers.mbus.frame import MeterAddress
    from agent.drivers.mbus.line import MbusWire, Reply
    from agent.drivers.mbus.registers import Register
    from agent.drivers.mbus.settings import LineSettings
    from agent.drivers.mbus.telegram import Telegram
    from agent.drivers.trace import Record

FULL, SURE_AFTER = 0.9, 3600.0
"""share of the time above which a line is overloaded, and seconds of measurement before that is
reported
"""
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


class Mbus:
    """An open M-Bus line."""

    def __init__(self, wire: MbusWire, settings: LineSettings, latency: float) -> None:
        self.line = MbusLine(wire, settings.baudrate, latency)
        self.master = MbusMaster(self.line)
        self.listen = settings.listen
        self._since = monotonic()
        self._answer_ms: dict[str, float] = {}
        self._failed: dict[str, int] = {}
        """by address: readings without an answer since the line was opened"""
        self._clocks: dict[str, tuple[str, float]] = {}
        """by address: the time that the meter gave, and the wall time then"""
        self._odd: dict[str, dict[str, Any]] = {}
        """by address: what contradicts itself in the last telegrams; see `ObservableBus.health`"""
        self._nameplates: dict[str, dict[str, str]] = {}
        """by address: maker and version, as the meter reports them"""

    @staticmethod
    def check(point: Point) -> None:
        """Raise ValueError if `address` is not a meter's or `at` is not a register."""
        frame.parse(point.address)
        registers.parse(point.at)

    rehearse = staticmethod(rehearse)

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one meter; see `agent.drivers.base.Reads`."""
        address = frame.parse(points[0].address)
        wanted = [registers.at(point.at, address.input) for point in points]
        began = monotonic()
        readout = await self.master.readout(address, lambda telegrams: _all_in(wanted, telegrams))
        if readout.telegrams:
            self._answer_ms[points[0].address] = (monotonic() - began) * 1000
            head = readout.telegrams[0]
            plate = {"maker": head.manufacturer, "version": head.version}
            self._nameplates[points[0].address] = {n: str(v) for n, v in plate.items() if v}
            if meter_time := registers.clock(readout.telegrams):
                self._clocks[points[0].address] = meter_time, readout.at
            self._odd[points[0].address] = registers.odd(readout.telegrams)
        else:
            self._failed[points[0].address] = self._failed.get(points[0].address, 0) + 1
        return [_sample(*pair, readout) for pair in zip(points, wanted, strict=True)]

    async def record(
        self, points: Sequence[Point], serial: Point | None
    ) -> tuple[list[Sample], dict[str, Any]]:
        """Read and record a meter; see `agent.drivers.base.RecordsDevices`."""
        every = [serial, *points] if serial else [*points]
        address = frame.parse(every[0].address)
        wanted = [registers.at(point.at, address.input) for point in every]
        readout = await self.master.readout(address, lambda telegrams: _all_in(wanted, telegrams))
        samples = [_sample(*pair, readout) for pair in zip(every, wanted, strict=True)]
        return samples, registers.recorded(readout.telegrams) if readout.telegrams else {}

    def health(self) -> Mapping[str, Any]:
        """How the line was used since it was opened; see `agent.drivers.base.ObservableBus`."""
        share = min(1.0, self.line.busy / max(1.0, monotonic() - self._since))
        figures: dict[str, Any] = {"requests": self.line.asked, "busy": round(share, 4)}
        figures["answer_ms"], figures["failed"] = dict(self._answer_ms), dict(self._failed)
        figures["clocks"], figures["odd"] = dict(self._clocks), dict(self._odd)
        figures["nameplates"] = dict(self._nameplates)
        figures["words"] = Text("busy {share:.0%} of the time", share=share)
        if self._answer_ms:
            slowest = max(self._answer_ms, key=lambda address: self._answer_ms[address])
            figures["words"] = Text(
                "busy {share:.0%} of the time; slowest: address {address}, {number:.0f} ms",
                share=share, address=slowest, number=self._answer_ms[slowest],
            )  # fmt: skip
        if share > FULL and monotonic() - self._since > SURE_AFTER:
            figures["worry"] = Text(
                "the line is busy {share:.0%} of the time: read some devices less often",
                share=share,
            )
        return figures

    async def discover(self, wish: Wish) -> AsyncIterator[Found | Progress]:
        """Search the line; see `agent.drivers.base.Discovers`."""
        async for step in scan(self.line, wish, self.listen if wish.listen else 0.0):
            self.line.turn = ""
            self.master.begin_anew()
            yield step

    def record_to(self, record: Record | None) -> None:
        """Pass on all bytes; see `agent.drivers.base.Traceable`."""
        self.line.wire.record = record

    def turn(self) -> Turn:
        """What was heard since the last call; see `agent.drivers.base.Attributes`."""
        return self.line.listener.take()

    @staticmethod
    def whose(address: str) -> str:
        """The meter that is asked; see `agent.drivers.base.Attributes`."""
        return name_of(frame.parse(address))

    @staticmethod
    def station(address: str) -> str:
        """The meter that is asked; see `agent.drivers.base.Stations`."""
        return frame.parse(address).station

    @staticmethod
    def number(address: str) -> str | None:
        """The number in an address; see `agent.drivers.base.Seeks`. None for an input."""
        wanted = frame.parse(address)
        return wanted.id if wanted.primary is None and wanted.input is None else None

    @staticmethod
    def kept(point: Point) -> StoredHistory | None:
        """Monthly and due-date values; see `agent.drivers.base.Recalls`."""
        register = registers.parse(point.at)
        if register.quantity not in registers.INDEXES or register.storage or register.identity:
            return None

        def time(storage: int) -> Point:
            at = f"time-point/storage={storage}" if storage else "time-point"
            return replace(point, name=at, at=at, unit="1", scale=Decimal(1), channel=None)

        def value(storage: int) -> Point:
            at = f"{point.at}/storage={storage}"
            return replace(point, name=at, at=at)

        pairs = ((time(n), value(n)) for n in range(1, registers.STORAGES))
        return StoredHistory(point, time(0), tuple(pairs))

    async def seek(self) -> AsyncIterator[Found | Progress]:
        """Search all numbers. It does not listen for another master first, since this line is being
        read by this gateway.
        """
        async for step in scan(self.line, Wish(first=frame.ANY_ID), 0.0):
            self.line.turn = ""
            self.master.begin_anew()
            yield step


class MbusSerial(Mbus):
    """An open M-Bus line behind a serial port."""

    Settings = SerialSettings

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: SerialSettings) -> AsyncIterator[Self]:
        """Open the port; close it on leaving. Raises LinkLost if it cannot."""
        async with over_serial(settings.port, settings.baudrate) as wire:
            yield cls(wire, settings, settings.latency)


class MbusTcp(Mbus):
    """An open M-Bus line behind a converter on the network."""

    Settings = MbusTcpSettings

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: MbusTcpSettings) -> AsyncIterator[Self]:
        """Connect; close on leaving. Raises LinkLost if it cannot."""
        async with over_tcp(settings.host, settings.port) as wire:
            yield cls(wire, settings, settings.latency)


def _all_in(wanted: Sequence[Register], telegrams: Sequence[Telegram]) -> bool:
    return all(
        register.quantity in registers.HEADER or register.of(telegrams) for register in wanted
    )


def _sample(point: Point, wanted: Register, readout: Readout) -> Sample:
    if not readout.telegrams:
        return Sample(point, readout.at, why=readout.why, detail=readout.detail)
    try:
        value = registers.point_value(wanted, readout.telegrams, point.unit)
    except registers.Unfit as unfit:
        # The register may be in a telegram that is missing: that is silence, not a wrong register.
        if readout.why and not wanted.of(readout.telegrams):
            return Sample(point, readout.at, why=readout.why, detail=readout.detail)
        return Sample(point, readout.at, why=Why.BAD, detail=text_of(unfit))
    return Sample(point, readout.at, value)


if TYPE_CHECKING:
    Enough = Callable[[Sequence[Telegram]], bool]


class Readout(NamedTuple):
    """The telegrams of one meter, or why there are none."""

    at: float
    """wall time of the first telegram, or of the end of the wait for it"""
    telegrams: tuple[Telegram, ...] = ()
    why: Why | None = None
    """SILENT or BAD if telegrams are missing"""
    detail: Text = EMPTY
    """what went wrong"""


class _Failed(Exception):
    """There is no telegram; the message gives the reason."""

    def __init__(self, why: Why, detail: Text, *, final: bool = False) -> None:
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
        at, why, detail = clock.seconds(), None, EMPTY
        try:
            while telegrams[-1].more and not enough(telegrams) and len(telegrams) < MOST_TELEGRAMS:
                telegrams.append(await self._asked(address))
        except _Failed as failed:
            why = failed.why
            detail = Text(
                "telegram {number} is missing: {detail}",
                number=len(telegrams) + 1,
                detail=failed.detail,
            )
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
        failed = _Failed(Why.SILENT, EMPTY)
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
        await self._acknowledged(frame.reset(_station(address)), address, Text("does not answer"))
        self._fcb[_station(address)] = True

    async def _select(self, address: MeterAddress) -> None:
        """Select a meter. This resets its frame count bit, so the next request has it set."""
        silent = Text("does not answer when it is selected")
        await self._acknowledged(frame.select(address), address, silent)
        self._fcb[frame.SELECTED] = True

    async def _acknowledged(self, question: bytes, address: MeterAddress, silent: Text) -> None:
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
                Why.SILENT, Text("cannot be heard: another device sends all the time"), final=True
            )

    async def _asked(self, address: MeterAddress, attempts: int = ATTEMPTS) -> Telegram:
        """The next telegram of a meter.

        Repetitions keep the frame count bit, so that the meter repeats its telegram instead of
        sending the next one.
        """
        station = _station(address)
        failed = _Failed(Why.SILENT, EMPTY)
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
            raise _Failed(Why.BAD, Text("acknowledges, but sends no data"), final=True)
        if not answer.data:
            heard = (
                Text(": {number} bytes that make no sense", number=len(answer.noise))
                if answer.noise
                else ""
            )
            raise _Failed(Why.SILENT, Text("does not answer{heard}", heard=heard))
        try:
            telegram = decode(answer.data)
        except MbusError as error:
            # Such an answer has no number, so only a primary address shows which meter sent it.
            if address.primary is None or answer.data[5] == address.primary:
                self._pause = isinstance(error, ApplicationError) and error.code == TOO_BUSY
                raise _Failed(Why.BAD, text_of(error), final=not self._pause) from error
            raise _Failed(Why.SILENT, Text("another meter answered")) from error
        if not address.fits(telegram):
            self.line.listener.other(telegram.id or str(telegram.address), clock.monotonic())
            raise _Failed(
                Why.SILENT, Text("another meter answered: {telegram}", telegram=_name(telegram))
            )
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
                Why.SILENT,
                Text("was meter {before} before, and is {id} now", before=before, id=telegram.id),
                final=True,
            )


def _station(address: MeterAddress) -> int:
    return frame.SELECTED if address.primary is None else address.primary


def name_of(address: MeterAddress) -> str:
    """The name of a meter in the evidence of `line_disturbance`."""
    return address.id or str(address.primary)


def _name(telegram: Telegram) -> str:
    return telegram.id or Text("without a number, address {address}", address=telegram.address)
