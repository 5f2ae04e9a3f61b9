"""The M-Bus driver: a level converter on a serial port, or one on the network."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from agent.clock import monotonic
from agent.drivers.mbus import address as addresses
from agent.drivers.mbus import registers
from agent.drivers.mbus.line import BITS, Line
from agent.drivers.mbus.master import Master
from agent.drivers.mbus.scan import scan
from agent.drivers.mbus.wire import over_serial, over_tcp
from agent.model import Sample, Why
from agent.settings import Duration  # noqa: TC001 -- pydantic evaluates it

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from agent.drivers.base import Found, Progress, Wish
    from agent.drivers.mbus.master import Readout
    from agent.drivers.mbus.registers import Register
    from agent.drivers.mbus.telegram import Telegram
    from agent.drivers.mbus.wire import Wire
    from agent.model import Point

SELECTED, ASKED, ANSWERED = 18, 5, 115
"""bytes of a selection with its E5, of a question, and of what a meter commonly answers"""
REACTION_BITS = 33
"""bit times for which a meter commonly thinks"""

FULL, SURE_AFTER = 0.9, 3600.0
"""share of the time from which a line is too full, and seconds before that is said"""


def _rate(value: int) -> int:
    if value not in addresses.BAUD_RATES:
        raise ValueError(f"M-Bus speaks {', '.join(map(str, addresses.BAUD_RATES))} baud")
    return value


class LineSettings(BaseModel):
    """What every M-Bus line has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    baudrate: Annotated[int, AfterValidator(_rate)] = Field(
        default=2400,
        description="How fast the meters speak; one at another speed has @300 in its address.",
        examples=[2400],
    )
    listen: Annotated[Duration, Field(ge=0, le=600)] = Field(
        default=60.0,
        description="How long a scan listens for another master before it says anything.",
        examples=["60s"],
    )

    def seconds(self, points: Sequence[Point]) -> float:
        """What reading one meter takes at best; see `agent.drivers.base.Budgets`."""
        address = addresses.parse(points[0].address)
        asked = ASKED if address.primary is not None else SELECTED + ASKED
        waits = (2 if address.primary is None else 1) * REACTION_BITS
        return ((asked + ANSWERED) * BITS + waits) / (address.baudrate or self.baudrate)


class SerialSettings(LineSettings):
    """Options of a `driver: mbus` link."""

    port: str = Field(
        min_length=1,
        description="The serial port of the level converter.",
        examples=["/dev/serial/by-id/usb-FTDI_FT232R-if00-port0"],
    )
    latency: Annotated[Duration, Field(ge=0, le=5)] = Field(
        default=0.05,
        description="What the converter and its driver add to the time of an answer.",
        examples=["50ms"],
    )


class TcpSettings(LineSettings):
    """Options of a `driver: mbus-tcp` link."""

    host: str = Field(
        min_length=1,
        description="Name or address of the converter on the network.",
        examples=["192.168.10.30"],
    )
    port: int = Field(ge=1, le=65535, description="Its TCP port.", examples=[10001])
    latency: Annotated[Duration, Field(ge=0, le=5)] = Field(
        default=0.2,
        description="What the network and the converter add to the time of an answer.",
        examples=["200ms"],
    )


class Mbus:
    """An open M-Bus line."""

    def __init__(self, wire: Wire, settings: LineSettings, latency: float) -> None:
        self.line = Line(wire, settings.baudrate, latency)
        self.master = Master(self.line)
        self.listen = settings.listen
        self._since = monotonic()
        self._answer_ms: dict[str, float] = {}

    @staticmethod
    def check(point: Point) -> None:
        """Raise ValueError on an `address` that is no meter's or an `at` that is no register."""
        addresses.parse(point.address)
        registers.parse(point.at)

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one meter; see `agent.drivers.base.Reads`."""
        address = addresses.parse(points[0].address)
        wanted = [registers.at(point.at, address.input) for point in points]
        began = monotonic()
        readout = await self.master.readout(address, lambda said: _all_in(wanted, said))
        if readout.telegrams:
            self._answer_ms[points[0].address] = (monotonic() - began) * 1000
        return [_sample(*pair, readout) for pair in zip(points, wanted, strict=True)]

    def health(self) -> Mapping[str, Any]:
        """How the line is used since it was opened; see `agent.drivers.base.Watched`."""
        share = min(1.0, self.line.busy / max(1.0, monotonic() - self._since))
        told: dict[str, Any] = {"requests": self.line.asked, "busy": round(share, 4)}
        told["answer_ms"] = dict(self._answer_ms)
        told["words"] = f"busy {share:.0%} of the time, head-room {1 - share:.0%}"
        if share > FULL and monotonic() - self._since > SURE_AFTER:
            told["worry"] = f"busy {share:.0%} of the time: read something less often"
        return told

    async def discover(self, wish: Wish) -> AsyncIterator[Found | Progress]:
        """Search the line; see `agent.drivers.base.Discovers`."""
        async for found in scan(self.line, wish, self.listen):
            yield found


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

    Settings = TcpSettings

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: TcpSettings) -> AsyncIterator[Self]:
        """Connect; close on leaving. Raises LinkLost if it cannot."""
        async with over_tcp(settings.host, settings.port) as wire:
            yield cls(wire, settings, settings.latency)


def _all_in(wanted: Sequence[Register], said: Sequence[Telegram]) -> bool:
    return all(one.quantity == registers.ID or one.of(said) for one in wanted)


def _sample(point: Point, wanted: Register, readout: Readout) -> Sample:
    if not readout.telegrams:
        return Sample(point, readout.at, why=readout.why, detail=readout.detail)
    try:
        value = registers.value(wanted, readout.telegrams, point.unit)
    except registers.Unfit as why:
        detail = f"{why}; {readout.detail}" if readout.detail else str(why)
        return Sample(point, readout.at, why=Why.BAD, detail=detail)
    return Sample(point, readout.at, value)
