"""Options of a `driver: bacnet` link."""

from __future__ import annotations

import fcntl
import ipaddress
import re
import socket
import struct
from typing import Annotated, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from agent.core.errors import LinkLost
from agent.core.i18n import Text
from agent.core.settings import Duration
from agent.drivers.bacnet.codec import OBJECTS, PRESENT_VALUE, PROPERTIES, ObjectId, Ref

LAST_INSTANCE = 4_194_302
"""4,194,303 stands for any device (clause 20.2.14)"""
BYTE, NET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)", r"\d{1,5}"
HOST = rf"{BYTE}(?:\.{BYTE}){{3}}(?::\d{{1,5}})?"
ADDRESS = re.compile(
    rf"(?P<instance>\d{{1,7}})(?:@(?P<where>{HOST}|{NET}:[0-9a-fx]+(?:@{HOST})?))?", re.ASCII
)
AT = re.compile(
    r"(?P<type>[a-z][a-z-]*|\d{1,4}),(?P<instance>\d{1,7})"
    r"(?:/(?P<property>[a-z][a-z-]*|\d{1,7})(?:\[(?P<index>\d{1,6})\])?)?",
    re.ASCII,
)
INTERFACE = re.compile(r"[A-Za-z][\w.@-]{0,14}", re.ASCII)
SIOCGIFADDR, SIOCGIFNETMASK = 0x8915, 0x891B
OPERATOR = 8
"""the priority of a manual operator at the plant (135-2020, table 19-1)"""
MINIMUM_ON_OFF = 6
LAST_PORT = 65_535


class BacnetAddress(NamedTuple):
    """The instance number of a device and, if it is configured, its network address."""

    instance: int
    station: str = ""
    """`10.0.0.7`, `10.0.0.7:47809`, `2001:12`, `2001:12@10.0.0.1`; empty: found by Who-Is"""


def address(written: str) -> BacnetAddress:
    """Parse `1201`, `1201@10.0.0.7` or `1201@2001:12`. Raises ValueError."""
    match = ADDRESS.fullmatch(written)
    if not match or int(match["instance"]) > LAST_INSTANCE:
        raise ValueError(
            Text(
                '"{written}" is not a BACnet device: write its instance number, 0 to'
                " {last_instance}, such as 1201; where Who-Is does not reach it, add its"
                " address, 1201@10.0.0.7, or behind a router NETWORK:STATION, 1201@2001:12",
                written=written,
                last_instance=LAST_INSTANCE,
            )
        )
    return BacnetAddress(int(match["instance"]), match["where"] or "")


def at(written: str) -> Ref:
    """Parse `analog-input,1`, `accumulator,3/scale` or `2,7/87[13]`. Raises ValueError."""
    match = AT.fullmatch(written)
    if not match:
        raise ValueError(
            Text(
                '"{written}" is not OBJECT,INSTANCE, such as analog-input,1; to read another'
                " property than its present value, add that property: analog-input,1/units",
                written=written,
            )
        )
    kind = _number(match["type"], OBJECTS, "object type")
    instance, index = int(match["instance"]), match["index"]
    if kind > 1023 or instance > LAST_INSTANCE:  # noqa: PLR2004 -- ten bits and twenty-two
        raise ValueError(
            Text(
                '"{written}": types go to 1023, instances to {last_instance}',
                written=written,
                last_instance=LAST_INSTANCE,
            )
        )
    prop = (
        _number(match["property"], PROPERTIES, "property") if match["property"] else PRESENT_VALUE
    )
    return Ref(ObjectId(kind, instance), prop, None if index is None else int(index))


def _number(written: str, names: object, what: str) -> int:
    if written.isdigit():
        return int(written)
    known: dict[str, int] = dict(names)  # type: ignore[call-overload]
    if written not in known:
        raise ValueError(
            Text(
                'the {what} "{written}" is not known: write its number',
                written=written,
                what=what,
            )
        )
    return known[written]


def _own(written: str) -> str:
    if INTERFACE.fullmatch(written):
        return written
    try:
        interface = ipaddress.IPv4Interface(written)
    except ValueError:
        interface = None
    if interface is None or "/" not in written:
        raise ValueError(
            Text(
                '"{written}" is neither an address with its prefix length, such as'
                " 192.168.10.5/24, nor the name of an interface, such as eth0",
                written=written,
            )
        )
    return written


def _station(written: str) -> str:
    host, colon, port = written.partition(":")
    try:
        ipaddress.IPv4Address(host)
        if colon and not 1 <= int(port) <= LAST_PORT:
            raise ValueError(port)
    except ValueError:
        raise ValueError(
            Text(
                '"{written}" is not an address such as 192.168.20.1 or 192.168.20.1:47809',
                written=written,
            )
        ) from None
    return written


Station = Annotated[str, AfterValidator(_station)]


class Slots(BaseModel):
    """The gateway's priorities in a priority array; 1 is the strongest, 16 the weakest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    demand_response: int = Field(
        default=13, ge=1, le=16, description="Priority of ordinary commands.", examples=[13]
    )
    emergency: int = Field(
        default=10, ge=1, le=16, description="Priority of emergency commands.", examples=[10]
    )
    reason: str = Field(
        default="",
        max_length=200,
        description="Who has permitted overruling the plant's operators: needed for 1 to 8.",
        examples=["agreed with the boiler's operator on 12 May 2026"],
    )

    @model_validator(mode="after")
    def _never_above_people(self) -> Self:
        both = (self.demand_response, self.emergency)
        if MINIMUM_ON_OFF in both:
            raise ValueError(
                Text(
                    "priority 6 is reserved for the controller's minimum on and off times: take"
                    " another"
                )
            )
        if both[0] == both[1]:
            raise ValueError(
                Text("demand_response and emergency have the same priority: give each its own")
            )
        # From 8 on, a person's switch at the plant would have no effect, so somebody must answer
        # for it.
        if min(both) <= OPERATOR and not self.reason.strip():
            raise ValueError(
                Text(
                    "priority {min} overrules the operators at the plant, who use priority 8:"
                    " take 9 to 16, or write in `reason` who has permitted it",
                    min=min(both),
                )
            )
        return self

    @property
    def ours(self) -> tuple[int, int]:
        """Both priorities, ordinary first."""
        return (self.demand_response, self.emergency)


class BacnetSettings(BaseModel):
    """Options of a `driver: bacnet` link."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Annotated[str, AfterValidator(_own)] = Field(
        description="The gateway's address with its prefix length, or the interface that has it.",
        examples=["192.168.10.5/24", "eth0"],
    )
    port: int = Field(
        default=47808, ge=1, le=65535, description="The gateway's UDP port.", examples=[47808]
    )
    timeout: Annotated[Duration, Field(ge=0.1, le=60)] = Field(
        default=3.0,
        description="How long to wait for one answer; a request is sent three times within it.",
        examples=["3s"],
    )
    bbmd: Station | None = Field(
        default=None,
        description="BBMD at which to register as a foreign device, where no broadcast arrives.",
        examples=["192.168.20.1"],
    )
    ttl: Annotated[Duration, Field(ge=10, le=65_535)] = Field(
        default=600.0,
        description="How long a registration with the BBMD lasts.",
        examples=["10min"],
    )
    ask: tuple[Station, ...] = Field(
        default=(),
        description="Stations that are asked directly by Who-Is, beside the broadcast.",
        examples=[["192.168.30.7"]],
    )
    cov: Annotated[Duration, Field(ge=0, le=86_400)] = Field(
        default=300.0,
        description="Lifetime of a subscription to changes of value (COV), for points that are read"
        " every 30s or more often; 0s: no subscriptions.",
        examples=["5min"],
    )
    slots: Slots = Field(
        default_factory=Slots,
        description="The gateway's priorities in the priority arrays of controllers.",
        examples=[{}],
    )

    @property
    def host(self) -> str:
        """The gateway's own IP address or interface, without the prefix length."""
        return self.address.partition("/")[0]


def station(address: str, port: int) -> str:
    """The gateway's station, `IP/BITS:PORT`. Raises LinkLost if the interface has no address."""
    if INTERFACE.fullmatch(address):
        ip, mask = _of_interface(address, SIOCGIFADDR), _of_interface(address, SIOCGIFNETMASK)
        address = str(ipaddress.IPv4Interface(f"{ip}/{mask}"))
    return f"{address}:{port}"


def _of_interface(name: str, ioctl_request: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", name.encode())
        try:
            return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), ioctl_request, request)[20:24])
        except OSError as error:
            raise LinkLost("interface {name}: {reason}", name=name, reason=error) from error
