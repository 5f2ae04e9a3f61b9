"""The notation of device addresses and of points. Pure; its error messages are for people."""

from __future__ import annotations

import re
from typing import NamedTuple

from agent.core.i18n import _
from agent.drivers.bacnet.names import OBJECTS, PRESENT_VALUE, PROPERTIES
from agent.drivers.bacnet.services import Ref
from agent.drivers.bacnet.tags import ObjectId

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
            _(
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
            _(
                '"{written}" is not OBJECT,INSTANCE, such as analog-input,1; to read another'
                " property than its present value, add that property: analog-input,1/units",
                written=written,
            )
        )
    kind = _number(match["type"], OBJECTS, "object type")
    instance, index = int(match["instance"]), match["index"]
    if kind > 1023 or instance > LAST_INSTANCE:  # noqa: PLR2004 -- ten bits and twenty-two
        raise ValueError(
            _(
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
            _(
                'the {what} "{written}" is not known: write its number',
                written=written,
                what=what,
            )
        )
    return known[written]
