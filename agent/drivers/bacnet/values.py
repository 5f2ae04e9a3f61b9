"""The value of an object: its own unit and scale, and the sample, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from agent.core.i18n import EMPTY, Text, joined
from agent.core.model import Sample, Why
from agent.core.quantities import EXACT, factor, spoken
from agent.core.quantities import units as all_units
from agent.drivers.bacnet.codec import (
    ACCUMULATOR,
    ENGINEERING_UNITS,
    NO_UNITS,
    OBJECTS,
    PRESENT_VALUE,
    PRIORITY_ARRAY,
    PROPERTIES,
    RELINQUISH_DEFAULT,
    SCALE,
    UNITS,
    UNKNOWN_OBJECT,
    UNKNOWN_PROPERTY,
    Content,
    ObjectId,
    Ref,
    Refusal,
    type_name,
    unit_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.core.model import Point

DAY = 86_400.0
RETRY = 600.0
"""seconds after which `units` that a device refused is read again"""

WITH_UNITS = frozenset(
    OBJECTS[name]
    for name in (
        "analog-input", "analog-output", "analog-value", "averaging", "accumulator",
        "pulse-converter", "integer-value", "large-analog-value", "positive-integer-value",
        "staging",
    )
)  # fmt: skip
PROPRIETARY = 128
"""the first object type that manufacturers define; it may have `units` too"""
COUNTED = frozenset(
    {PRESENT_VALUE, PROPERTIES["max-pres-value"], 190, 191}  # value-before-change, value-set
)
"""properties of an accumulator that are counts"""
MEASURED = COUNTED | {
    PRIORITY_ARRAY, RELINQUISH_DEFAULT, PROPERTIES["min-pres-value"], PROPERTIES["cov-increment"],
    25, 45, 59, 106,  # deadband, high-limit, low-limit, resolution
    125, 135, 136,  # average-value, maximum-value, minimum-value
}  # fmt: skip
"""properties of other objects that are in the object's units"""
LAST_STANDARD = 255
"""greater numbers of units are defined by manufacturers"""
SHIFTED = frozenset({63, 64})
"""degrees-kelvin and degrees-fahrenheit, which no factor converts to °C"""
ROUNDED = Fraction(1, 100)
"""greatest relative difference between a configured `scale` and the exact ratio of two units"""
ALSO = {62: ("K",), 63: ("K",), 98: ("%RH",), 29: ("%",)}
"""configured units that are accepted too: a setpoint shift is often in °C, a humidity in %"""
FAULT, OUT_OF_SERVICE = 1, 3
"""bits of the status flags (21, BACnetStatusFlags); 0 is in-alarm, 2 is overridden"""
LONGEST = 200
"""characters of a text that are kept"""


class Conversion(NamedTuple):
    """How a number of an object is converted."""

    factor: Decimal = Decimal(1)
    fault: Text = EMPTY
    """why the value must not be used, and what to do; empty: it may be used"""
    note: Text = EMPTY
    """what a person should know about a value that is used"""


@lru_cache(maxsize=4096)
def own_refs(ref: Ref) -> tuple[Ref, ...]:
    """The properties of the object that give the unit of a property."""
    kind = ref.object.type
    if ref.element == 0 or (kind not in WITH_UNITS and kind < PROPRIETARY):
        return ()
    if kind == ACCUMULATOR:
        counted = ref.property in COUNTED
        return (Ref(ref.object, SCALE), Ref(ref.object, UNITS)) if counted else ()
    return (Ref(ref.object, UNITS),) if ref.property in MEASURED else ()


@dataclass(frozen=True, slots=True)
class _Entry:
    """The last answer of a device for `units` or `scale`."""

    value: Decimal | None
    """None: the object has no such property, or the device refused it"""
    refused: str
    """why the value is not known; empty: it is known, or the object has none"""
    due: float
    """monotonic: when to read it again"""


class OwnProperties:
    """The `units` and `scale` of all objects of one line, read at first use and then daily."""

    def __init__(self, refresh: float = DAY) -> None:
        self.refresh = refresh
        """seconds after which they are read again"""
        self._known: dict[int, dict[Ref, _Entry]] = {}

    def due(self, instance: int, refs: Sequence[Ref], now: float) -> list[Ref]:
        """The units and scales for `refs` that must be read now."""
        known = self._known.get(instance, {})
        wanted: dict[Ref, None] = {}
        for ref in refs:
            for own in own_refs(ref):
                if own not in known or now >= known[own].due:
                    wanted[own] = None
        return list(wanted)

    def take(self, instance: int, contents: Mapping[Ref, Content], now: float) -> None:
        """Store units and scales that were read. If a device refuses one that is known, the known
        value is kept.
        """
        known = self._known.setdefault(instance, {})
        for ref, content in contents.items():
            if ref.property in (UNITS, SCALE) and ref.element is None:
                known[ref] = self._entry(ref, content, known.get(ref), now)

    def _entry(self, ref: Ref, content: Content, before: _Entry | None, now: float) -> _Entry:
        value, refused = _number(content)
        code = content.code if isinstance(content, Refusal) else None
        if not refused:
            return _Entry(value, "", now + self.refresh)
        if before is not None and before.value is not None:
            return _Entry(before.value, "", now + RETRY)
        if code == UNKNOWN_PROPERTY:
            return _Entry(None, "", now + self.refresh)
        # Without its scale an accumulator has no value, and a controller that is being programmed
        # does not know its objects for a while: both are asked for at each read.
        at_once = ref.property == SCALE or code == UNKNOWN_OBJECT
        return _Entry(None, refused, now if at_once else now + RETRY)

    def knows(self, instance: int, ref: Ref) -> bool:
        """Whether the device has answered for the unit of a property, also by a refusal."""
        known = self._known.get(instance, {})
        return all(own in known for own in own_refs(ref))

    def ask_again(self, instance: int) -> None:
        """Read all again at the next read of a device. After a silence it may run another program,
        or be another controller.
        """
        known = self._known.get(instance, {})
        known.update({ref: _Entry(entry.value, entry.refused, 0.0) for ref, entry in known.items()})

    def conversion(self, instance: int, ref: Ref, point: Point) -> Conversion:
        """The conversion of a property to the configured unit of its point."""
        if not self.knows(instance, ref):
            return Conversion(fault=Text("the object's unit could not be read yet"))
        known = self._known.get(instance, {})
        entries = {own.property: known[own] for own in own_refs(ref)}
        scale, units = entries.get(SCALE), entries.get(UNITS)
        if scale is not None and scale.refused:
            problem = Text(
                "the object's scale could not be read ({refused})", refused=scale.refused
            )
            return Conversion(
                fault=Text("{problem}: the count has no meaning without it", problem=problem)
            )
        if units is None:
            return Conversion()
        made = convert(
            point, None if units.value is None else int(units.value), scale.value if scale else None
        )
        notes = [made.note] if made.note else []
        if scale is not None and scale.value is None:
            notes.append(Text("the object has no scale: compare with the meter's display"))
        if units.refused:
            notes.append(
                Text("the object's units could not be read ({refused})", refused=units.refused)
            )
        return made._replace(note=joined("; ", notes))


def _number(content: Content) -> tuple[Decimal | None, str]:
    """The number in a property, and the reason if there is none."""
    if isinstance(content, Refusal):
        return None, content.reason
    item = content[0] if len(content) == 1 else None
    if isinstance(item, Refusal):
        return None, item.reason
    return (item, "") if isinstance(item, Decimal) else (None, Text("not a number"))


def convert(point: Point, units: int | None, scale: Decimal | None = None) -> Conversion:
    """The conversion for a point, by the units and the scale of its object. Pure.

    `units`: the BACnet number of the unit; None: the object has none. `scale`: of an accumulator.
    """
    if scale is not None and scale <= 0:
        return Conversion(
            fault=Text("the object's scale is {scale}, which is not valid", scale=scale)
        )
    own, by = Decimal(1) if scale is None else scale, Decimal(1)
    note = _unstated(point, units)
    if _says(units) and (point.unit != "1" or point.channel):
        known = _factor(point, units)
        if known is None:
            return _by_hand(point, units, own)
        by, note = known, EMPTY
    if point.scale == by or own == by == 1:
        return Conversion(own, note=note)
    better = Text("write `unit: {unit}` and leave `scale` out", unit=_unit(point, units))
    if own != 1 and point.scale == EXACT.multiply(own, by):
        # The configuration is from before gardien applied the object's scale, and contains that
        # scale: applying both would count it twice.
        return Conversion(
            note=Text(
                "the object's scale {own} is applied by itself now: {better}",
                own=own,
                better=better,
            )
        )
    if own != 1 and point.scale != 1:
        problem = Text(
            "the object's scale {own} is applied by itself, and `scale` says {scale}",
            own=own,
            scale=point.scale,
        )
        ratio = Text("a transformer's ratio must be set in the controller")
        return Conversion(
            own,
            fault=Text(
                "{problem}: {better} ({ratio})", problem=problem, better=better, ratio=ratio
            ),
        )
    return Conversion(own, fault=_mismatch(point, units))


def _says(units: int | None) -> TypeGuard[int]:
    """Whether `units` is a known unit: not `no-units`, and not defined by a manufacturer."""
    return units is not None and units != NO_UNITS and 0 <= units <= LAST_STANDARD


def _factor(point: Point, units: int) -> Decimal | None:
    """The configured units in one unit of the object; None: they cannot be compared."""
    if point.unit in ALSO.get(units, ()):
        return Decimal(1)
    return factor(ENGINEERING_UNITS.get(units) or "", point.unit)


def _by_hand(point: Point, units: int, own: Decimal) -> Conversion:
    """The conversion if gardien does not convert the object's unit, but the point's `scale` may: MJ
    to kWh.
    """
    if point.scale != 1 and units not in SHIFTED:
        note = Text("`scale` converts {units} to {unit}", units=unit_name(units), unit=point.unit)
        ratio, scale = _ratio(point, units), Fraction(point.scale)
        if ratio is None and ENGINEERING_UNITS.get(units) is None:
            if own == 1:
                return Conversion(note=note)
            problem = Text(
                "the object is in {units} and has a scale of its own, {own}",
                units=unit_name(units),
                own=own,
            )
            unclear = Text(
                "whether `scale` contains that is not known: set the object to {unit}",
                unit=point.unit,
            )
            return Conversion(
                own,
                fault=Text(
                    "{problem}; {unclear} in the controller", problem=problem, unclear=unclear
                ),
            )
        if ratio is not None and abs(scale / ratio - 1) <= ROUNDED:
            return Conversion(own, note=note)
        if ratio is not None and abs(scale / (ratio * Fraction(own)) - 1) <= ROUNDED:
            return Conversion(note=note)  # the configured scale already contains the object's
    return Conversion(own, fault=_mismatch(point, units))


def _ratio(point: Point, units: int) -> Fraction | None:
    """As `_factor`, but also for a ratio that is not a finite decimal."""
    known = all_units()
    ours, theirs = known.get(point.unit), known.get(ENGINEERING_UNITS.get(units) or "")
    return theirs[1] / ours[1] if ours and theirs and ours[0] == theirs[0] else None


def _unstated(point: Point, units: int | None) -> Text:
    """A note if only one of the object and the configuration gives a unit; else empty."""
    if units is not None and not _says(units) and point.unit != "1":
        no_units = units == NO_UNITS
        says = unit_name(units) if no_units else Text("its maker's unit {number}", number=units)
        return Text(
            "the object says {says}; {unit} is taken from the configuration",
            says=says,
            unit=spoken(point.unit),
        )
    if _says(units) and point.unit == "1" and ENGINEERING_UNITS.get(units) != "1":
        return Text("the object is in {unit}, and no unit is configured", unit=unit_name(units))
    return EMPTY


def _unit(point: Point, units: int | None) -> str:
    """The unit to configure: that of the object if it gives one, else the configured one."""
    return (ENGINEERING_UNITS.get(units) if _says(units) else None) or point.unit


def _mismatch(point: Point, units: int | None) -> Text:
    """The message if the object's unit is not the configured one: the difference and the remedy."""
    assert units is not None
    problem = Text(
        "the object is in {units}, and `unit` says {unit}", units=unit_name(units), unit=point.unit
    )
    ours, ratio, wanted = ENGINEERING_UNITS.get(units), _ratio(point, units), spoken(point.unit)
    if ours is None:
        what = Text("set the object to {unit} in the controller", unit=wanted or "no-units")
        if units not in SHIFTED:
            what += Text(", or write as `scale` how many {unit} one of it is", unit=wanted)
        return Text("{problem}; gardien does not convert that: {what}", problem=problem, what=what)
    if ratio is None:
        return Text(
            "{problem}: is it the right object? if so, write `unit: {unit}`",
            problem=problem,
            unit=ours,
        )
    if factor(ours, point.unit) is None:
        scale = f"{float(ratio):.7g}"
        return Text("{problem}: write `scale: {scale}`", problem=problem, scale=scale)
    whole = Text("{problem}: write `unit: {unit}`", problem=problem, unit=ours)
    if point.scale == 1:
        return whole
    return whole + Text(", and `scale` only for a correction (transformers)")


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
        return Sample(
            point, at, why=Why.BAD, detail=Text("{why}; it shows {value}", why=why, value=value)
        )
    if isinstance(value, Decimal):
        value = EXACT.multiply(value, conversion.factor)
    return Sample(point, at, value, detail=conversion.note)


def _value(content: Content) -> tuple[Decimal | str, Text | None]:
    if isinstance(content, Refusal):
        return "", content.reason
    if len(content) != 1:
        return "", Text("{number} values where one was expected", number=len(content))
    item = content[0]
    if isinstance(item, Refusal):
        return "", item.reason
    if item is None:
        return "", Text("no value (NULL)")
    if isinstance(item, ObjectId):
        return f"{type_name(item.type)},{item.instance}", None
    return (item if isinstance(item, Decimal) else item[:LONGEST]), None


def _flagged(flags: Content | None) -> Text | None:
    if flags is None or isinstance(flags, Refusal) or not flags or not isinstance(flags[0], str):
        return None
    bits = flags[0].ljust(4, "0")
    if bits[OUT_OF_SERVICE] == "1":
        return Text("out of service")
    return Text("fault") if bits[FAULT] == "1" else None


def entry(content: Content) -> dict[str, Any]:
    """A property's content as `value`, or as `error`; several values are separated by blanks."""
    if isinstance(content, Refusal):
        return {"value": None, "error": content.reason}
    return {"value": " ".join(map(_item, content))}


def _item(item: object) -> str:
    if isinstance(item, Refusal):
        return f"({item.reason})"
    if isinstance(item, ObjectId):
        return f"{type_name(item.type)},{item.instance}"
    return format(item, "f") if isinstance(item, Decimal) else "NULL" if item is None else str(item)
