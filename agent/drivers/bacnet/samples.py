"""Convert the content of a property to a sample: the value, or why there is none. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from agent.core.model import Sample, Why
from agent.drivers.bacnet.conversion import Conversion
from agent.drivers.bacnet.names import type_name
from agent.drivers.bacnet.tags import ObjectId, Refusal
from agent.drivers.scaled import EXACT

if TYPE_CHECKING:
    from agent.core.model import Point
    from agent.drivers.bacnet.services import Content

FAULT, OUT_OF_SERVICE = 1, 3
"""bits of the status flags (21, BACnetStatusFlags); 0 is in-alarm, 2 is overridden"""
LONGEST = 200
"""characters of a text that are kept"""
AS_IT_IS = Conversion()


def sample(
    point: Point,
    at: float,
    content: Content,
    flags: Content | None = None,
    conversion: Conversion = AS_IT_IS,
) -> Sample:
    """The sample of one property, in the configured unit.

    A value is bad if its object has a fault or is out of service, since then it does not show what
    is measured (12.2.10), and if it is in another unit than the configured one.
    """
    value, why = _value(content)
    if why is not None:
        return Sample(point, at, why=Why.BAD, detail=why)
    if not isinstance(value, Decimal):
        conversion = AS_IT_IS
    # The value is kept in the detail: it helps the person who looks for the cause.
    why = _flagged(flags) or conversion.fault
    if why:
        return Sample(point, at, why=Why.BAD, detail=f"{why}; it shows {value}")
    if isinstance(value, Decimal):
        value = EXACT.multiply(value, conversion.factor)
    return Sample(point, at, value, detail=conversion.note)


def _value(content: Content) -> tuple[Decimal | str, str | None]:
    if isinstance(content, Refusal):
        return "", content.reason
    if len(content) != 1:
        return "", f"{len(content)} values where one was expected"
    item = content[0]
    if isinstance(item, Refusal):
        return "", item.reason
    if item is None:
        return "", "no value (NULL)"
    if isinstance(item, ObjectId):
        return f"{type_name(item.type)},{item.instance}", None
    return (item if isinstance(item, Decimal) else item[:LONGEST]), None


def _flagged(flags: Content | None) -> str | None:
    if flags is None or isinstance(flags, Refusal) or not flags or not isinstance(flags[0], str):
        return None
    bits = flags[0].ljust(4, "0")
    if bits[OUT_OF_SERVICE] == "1":
        return "out of service"
    return "fault" if bits[FAULT] == "1" else None
