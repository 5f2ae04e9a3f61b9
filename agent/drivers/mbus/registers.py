"""The notation of M-Bus points (`at`), and the value of a point in its unit.

id                        the meter's number, which is its serial number; of an input 45120042/2
status                    the status byte, whose bits are alarms; 0: no alarm
energy                    the present energy, without tariff, subunit and modifiers
heat:energy               the same, but only of a meter whose medium is heat
volume/storage=1          the volume at the last due date
power/maximum             a function: maximum, minimum or error
energy/tariff=2/subunit=1
volume/leakage            with a modifier of a VIFE, named as in `gardien decode`
raw=0406                  the exact bytes of DIB and VIB
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

from agent.core.clock import seconds
from agent.core.errors import Refused
from agent.core.i18n import Text, text_of
from agent.core.model import Sample, Why
from agent.core.quantities import factor, return_hotter
from agent.drivers.mbus import tables, telegram
from agent.drivers.mbus.blocks import COMBINABLE_PAGE, EXTENSION_PAGE, Function, meaning
from agent.drivers.mbus.decode import decode
from agent.drivers.mbus.frame import checksum
from agent.drivers.mbus.telegram import medium as medium_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.core.model import Point, Value
    from agent.drivers.mbus.telegram import MeterValue, Telegram

ID, STATUS = "id", "status"
HEADER = (ID, STATUS)
"""values that are in the header, not in a record"""
MEDIA = {
    "electricity": (0x02,),
    "gas": (0x03,),
    "heat": (0x04, 0x0C, 0x0D),
    "cooling": (0x0A, 0x0B, 0x0D),
    "warm-water": (0x06, 0x15),
    "cold-water": (0x07, 0x16),
    "hca": (0x08,),
}
"""by medium in the notation, the device types of EN 13757-7 that it accepts"""
INDEXES = frozenset({"energy", "volume", "mass", "HCA units", "counter"})
"""quantities that a meter counts up, and stores at the ends of months"""
STORAGES = 33
"""one past the last storage number that is read: two years of months, and due dates"""
HEAT_ONLY = frozenset({0x04, 0x0C})
"""media of heat meters that never cool"""
NUMBERED = re.compile(r"(storage|tariff|subunit)=([0-9]{1,9})", re.ASCII)
RAW = re.compile(r"raw=((?:[0-9A-Fa-f]{2}){2,64})", re.ASCII)
HEAD = bytes.fromhex("08 01 72 78 56 34 12 2D 2C 01")
"""beginning of an answer of meter 1: number 12345678, maker KAM, version 1"""
PLAIN_LONG = 0x72
"""CI field of an answer with the long header, least significant byte first"""
LENGTH, VARIABLE = 0x0F, 0x0D
"""bits of a DIF that give the length of the data, and the value that says: in the data"""
MOST_RECORDED = 230
"""bytes of records in one telegram, with its header"""
MEASURED = frozenset({
    "energy", "volume", "mass", "power", "volume flow", "mass flow", "flow temperature",
    "return temperature", "temperature difference", "external temperature", "pressure",
    "HCA units", "voltage", "current", "frequency", "relative humidity",
    "reactive energy", "apparent energy", "reactive power", "apparent power", "counter",
})  # fmt: skip
"""quantities that a recording keeps: all others may tell whose meter it is"""
STATE = bytes(4)
"""access number, status, no security"""


class Unfit(ValueError):
    """The telegrams hold no value for a point; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Register:
    """One register, as the `at` of a point names it."""

    quantity: str
    """as the decoder names it, or `id` or `status`; "" with `identity`"""
    medium: str = ""
    """a key of MEDIA; "": any"""
    function: Function = Function.INSTANTANEOUS
    storage: int = 0
    tariff: int = 0
    subunit: int = 0
    modifiers: tuple[str, ...] = ()
    identity: bytes = b""
    """DIB and VIB, if the register is named by them"""

    def of(self, telegrams: Sequence[Telegram]) -> list[MeterValue]:
        """The records of this register."""
        return [record for telegram in telegrams for record in telegram.records if self._is(record)]

    def _is(self, record: MeterValue) -> bool:
        if self.identity:
            return record.identity == self.identity
        where = (record.function, record.storage, record.tariff, record.subunit)
        return (
            record.quantity == self.quantity
            and where == (self.function, self.storage, self.tariff, self.subunit)
            and sorted(record.modifiers) == sorted(self.modifiers)
        )


@cache
def parse(at: str) -> Register:
    """Parse the `at` of a point. Raises ValueError with a message for its author."""
    before, colon, rest = at.partition(":")
    medium, rest = (before, rest) if colon else ("", at)
    if colon and medium not in MEDIA:
        raise ValueError(
            Text(
                '"{at}": "{medium}" is not a medium; the media are {media}',
                at=at,
                media=", ".join(MEDIA),
                medium=medium,
            )
        )
    if match := RAW.fullmatch(rest):
        return Register("", medium, identity=bytes.fromhex(match[1]))
    name, *parts = rest.split("/")
    quantity = quantities().get(name)
    if quantity is None:
        raise ValueError(
            Text(
                '"{at}": "{name}" is not a quantity; to see the quantities of a meter:'
                " gardien decode mbus",
                at=at,
                name=name,
            )
        )
    register = Register(quantity, medium)
    for part in parts:
        register = _with(register, part, at)
    return register


def _with(register: Register, part: str, at: str) -> Register:
    if match := NUMBERED.fullmatch(part):
        numbers: dict[str, Any] = {match[1]: int(match[2])}
        return replace(register, **numbers)
    if part in list(Function):
        return replace(register, function=Function(part))
    if modifier := modifiers().get(part):
        return replace(register, modifiers=(*register.modifiers, modifier))
    raise ValueError(
        Text(
            '"{at}": "{part}" is not storage=, tariff=, subunit=, maximum, minimum, error'
            " or a modifier of a value",
            at=at,
            part=part,
        )
    )


@cache
def quantities() -> dict[str, str]:
    """The decoder's names of quantities, by the name in `at`."""
    pages = (tables.PRIMARY_PAGE, tables.FB_PAGE, tables.FD_PAGE, tables.FDFD_PAGE)
    names = {row.quantity for page in pages for row in page}
    names |= {unit.quantity for unit in telegram.UNITS.values()}
    return {written(name): name for name in sorted(names.union(HEADER)) if name != "reserved"}


@cache
def modifiers() -> dict[str, str]:
    """The decoder's names of modifiers (VIFEs), by the name in `at`."""
    both = (*COMBINABLE_PAGE, *EXTENSION_PAGE)
    return {written(vife.text): vife.text for vife in both if vife.text and vife.effect != "error"}


def written(name: str) -> str:
    """A decoder's name as it is written in `at`: lower case, without blanks and commas."""
    return name.replace(",", "").replace(" ", "-").lower()


def odd(telegrams: Sequence[Telegram]) -> dict[str, Any]:
    """What contradicts itself in the telegrams of one meter; a member that they do not tell is left
    out.

    `month_end`: the indexes whose value at the last due date is above the present one, if it has
    not rolled over since. `hotter`: whether a heat meter's return is hotter than its supply.
    """
    indexes = [
        (record, record.value)
        for telegram in telegrams
        for record in telegram.records
        if record.quantity in INDEXES
        and record.function is Function.INSTANTANEOUS
        and isinstance(record.value, Decimal)
    ]
    present = {_kind(record): value for record, value in indexes if record.storage == 0}
    pairs = [
        (written(record.quantity), value, present[_kind(record)])
        for record, value in indexes
        if record.storage == 1 and _kind(record) in present
    ]
    result: dict[str, Any] = {}
    if pairs:
        result["month_end"] = [name for name, *both in pairs if _fallen(*both)]
    if (hotter := _hotter(telegrams)) is not None:
        result["hotter"] = hotter
    return result


def _kind(record: MeterValue) -> tuple[object, ...]:
    modifiers = tuple(sorted(record.modifiers))
    return record.quantity, record.unit, record.tariff, record.subunit, modifiers


def _fallen(stored: Decimal, present: Decimal) -> bool:
    end = Decimal(1).scaleb(stored.adjusted() + 1)
    rolled_over = stored > end * 9 / 10 and present < end / 10
    return stored > present and not rolled_over


def _hotter(telegrams: Sequence[Telegram]) -> bool | None:
    if telegrams[0].medium not in HEAT_ONLY:
        return None
    supply, back, *flows = (
        [record.value for record in parse(at).of(telegrams) if isinstance(record.value, Decimal)]
        for at in ("flow-temperature", "return-temperature", "volume-flow", "power")
    )
    if not supply or not back:
        return None
    return return_hotter(supply[0], back[0], [value for values in flows for value in values])


def point_value(register: Register, telegrams: Sequence[Telegram], unit: str) -> Value:
    """The register's value in `unit`, exact, with the meter's own digits. Raises Unfit.

    If several records with different values fit, none is used: the choice might change from one
    reading to the next.
    """
    head = telegrams[0]
    if register.medium and head.medium not in MEDIA[register.medium]:
        raise Unfit(
            Text(
                "the meter measures {medium_words}, not {medium}",
                medium_words=medium_words(head.medium),
                medium=register.medium,
            )
        )
    if register.quantity == ID:
        if head.id is None:
            raise Unfit(Text("the meter does not give its number"))
        # Each input of a collector belongs to a meter of its own, often of another dwelling, so the
        # number of the collector alone would not tell them apart.
        return f"{head.id}/{register.subunit}" if register.subunit else head.id
    if register.quantity == STATUS:
        if head.status is None:
            raise Unfit(Text("the meter does not give its status"))
        return Decimal(head.status)
    records = register.of(telegrams)
    if not records:
        encryption = next((record.encrypted for record in telegrams if record.encrypted), "")
        raise Unfit(
            Text("encrypted ({encryption}): no key", encryption=encryption)
            if encryption
            else Text("the meter has no such register")
        )
    fit = [record for record in records if factor(record.unit, unit) is not None] or records
    values = {_in(record, unit) for record in fit}
    if len(values) > 1:
        names = ", ".join(f"raw={record.identity.hex().upper()}" for record in fit)
        raise Unfit(
            Text(
                "{number} registers fit; write one of them as `at`: {names}",
                number=len(fit),
                names=names,
            )
        )
    return values.pop()


def _in(record: MeterValue, unit: str) -> Value:
    if record.value is None:
        raise Unfit(record.error or Text("no value"))
    if not isinstance(record.value, Decimal):
        return record.value
    times = factor(record.unit or "1", unit)
    if times is None:
        raise Unfit(
            Text(
                "the meter counts in {value}, not convertible to {unit}",
                value=record.unit or Text("no unit"),
                unit=unit,
            )
        )
    return _own_digits(record, record.value * times, times)


def _own_digits(record: MeterValue, converted: Decimal, times: Decimal) -> Decimal:
    """Remove zeros that were added only by converting from the base unit of the VIF."""
    exponent, shift = meaning(record.vib, "").exponent, times.adjusted()
    if record.vib[:1] in (b"", b"\x7c", b"\xfc") or times != Decimal(1).scaleb(shift):
        return converted
    last = Decimal(1).scaleb(min(0, exponent + shift))
    rounded = converted.quantize(last)
    return rounded if rounded == converted else converted


def clock(telegrams: Sequence[Telegram]) -> str | None:
    """The meter's present time, in ISO 8601 without a zone; None: it does not send it."""
    times = (time.value for time in Register("time point").of(telegrams))
    return next((time for time in times if isinstance(time, str) and "T" in time), None)


def at(written_at: str, input_number: int | None) -> Register:
    """The register of an `at`; for an input of a collector, the register of that input."""
    register = parse(written_at)
    return register if input_number is None else replace(register, subunit=input_number)


def frame(test: Mapping[str, Any]) -> bytes:
    """The telegram of the simulated meter. Raises ValueError if the test's records are invalid."""
    try:
        records = bytes.fromhex(str(test.get("records", "")))
        medium = int(str(test.get("medium", 0)), 0)
        counted = HEAD + bytes([medium]) + STATE + records
        length = bytes([len(counted)])
    except ValueError as error:
        what = '`medium` and `records` as a meter sends them, such as "0C 06 67 45 23 01"'
        raise ValueError(Text("expected {what}: {error}", what=what, error=error)) from error
    return b"\x68" + length * 2 + b"\x68" + counted + bytes([checksum(counted), 0x16])


def recorded(telegrams: Sequence[Telegram]) -> dict[str, Any]:
    """The records of a meter as a profile's `test`: measured values only.

    Numbers, names, dates, texts and what only the maker can read are left out, so that nothing
    identifies the meter or its owner. Raises Refused if such a test cannot hold its telegrams.
    """
    if any(answer.encrypted or answer.ci != PLAIN_LONG for answer in telegrams):
        raise Refused("telegrams that are encrypted, or of the fixed structure, cannot be recorded")
    kept = b""
    for record in (record for answer in telegrams for record in answer.records):
        sent = record.identity + record.data
        whole = record.dib and record.dib[0] & LENGTH != VARIABLE
        measured = record.quantity in MEASURED and isinstance(record.value, Decimal)
        if measured and whole and len(kept) + len(sent) <= MOST_RECORDED:
            kept += sent
    return {"medium": telegrams[0].medium or 0, "records": kept.hex(" ").upper()}


def rehearse(test: Mapping[str, Any], points: Sequence[Point]) -> list[Sample]:
    """See `agent.drivers.base.Rehearses`."""
    telegrams, now, samples = [decode(frame(test))], seconds(), []
    for point in points:
        try:
            value = point_value(parse(point.at), telegrams, point.unit)
            samples.append(Sample(point, now, value))
        except Unfit as error:
            samples.append(Sample(point, now, why=Why.BAD, detail=text_of(error)))
    return samples
