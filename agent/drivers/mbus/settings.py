"""Options of an M-Bus line, and the time that reading a meter takes on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from agent.core.i18n import Text
from agent.core.settings import Duration, Host, from_the_root
from agent.drivers.mbus import frame
from agent.drivers.mbus.line import BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.model import Point

SELECTED, ASKED, ANSWERED = 18, 5, 115
"""bytes of a selection with its E5, of a request, and of a typical answer"""
REACTION_BITS = 33
"""bit times after which a meter typically answers"""


def _rate(value: int) -> int:
    if value not in frame.BAUD_RATES:
        raise ValueError(
            Text(
                "the baud rates of M-Bus are {rates}",
                rates=", ".join(map(str, frame.BAUD_RATES)),
            )
        )
    return value


class LineSettings(BaseModel):
    """Options of every M-Bus line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    baudrate: Annotated[int, AfterValidator(_rate)] = Field(
        default=2400,
        description="Baud rate of the meters. One with another rate has it in its address: @300.",
        examples=[2400],
    )
    listen: Annotated[Duration, Field(ge=0, le=600)] = Field(
        default=60.0,
        description="How long a scan listens for another master before it sends anything.",
        examples=["60s"],
    )

    def seconds(self, points: Sequence[Point]) -> float:
        """Seconds for reading one meter, at least; see `agent.drivers.base.Budgets`."""
        address = frame.parse(points[0].address)
        asked = ASKED if address.primary is not None else SELECTED + ASKED
        waits = (2 if address.primary is None else 1) * REACTION_BITS
        return ((asked + ANSWERED) * BITS + waits) / (address.baudrate or self.baudrate)


class SerialSettings(LineSettings):
    """Options of a `driver: mbus` link."""

    port: Annotated[str, AfterValidator(from_the_root)] = Field(
        min_length=1,
        description="The serial port of the level converter.",
        examples=["/dev/serial/by-id/usb-FTDI_FT232R-if00-port0"],
    )
    latency: Annotated[Duration, Field(ge=0, le=5)] = Field(
        default=0.05,
        description="Delay that the converter and its driver add to an answer.",
        examples=["50ms"],
    )


class MbusTcpSettings(LineSettings):
    """Options of a `driver: mbus-tcp` link."""

    host: Host = Field(
        min_length=1,
        description="Name or address of the converter on the network.",
        examples=["192.168.10.30"],
    )
    port: int = Field(ge=1, le=65535, description="Its TCP port.", examples=[10001])
    latency: Annotated[Duration, Field(ge=0, le=5)] = Field(
        default=0.2,
        description="Delay that the network and the converter add to an answer.",
        examples=["200ms"],
    )
