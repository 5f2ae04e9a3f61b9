"""Read what people write in options and cells: dates, steps, scopes, indexes. All functions raise
Refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from agent.core.errors import Refused
from agent.core.settings import duration
from agent.registry import fields
from agent.registry.dates import DAY, MONTH, moment
from agent.registry.facts.declaration import REQUIRED, Field, Kind
from agent.registry.problems import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from decimal import Decimal

    from agent.registry.inputs import Input
    from agent.registry.sheet import SheetRow

R = TypeVar("R", bound="Input")

SCOPES = {"monthly": MONTH, "daily": DAY, "loadcurve": 1800}
"""finest step in seconds of each scope; a load curve of 10 min needs an explicit step"""
FRENCH_SCOPES = {
    "mensuel": "monthly", "mensuelle": "monthly", "journalier": "daily", "journalière": "daily",
    "quotidien": "daily", "courbe de charge": "loadcurve", "cdc": "loadcurve",
}  # fmt: skip
A_DATE = re.compile(
    r"[0-9]{1,2}-(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|janv|févr|mars|avr|mai|juin|juil"
    r"|août|sept|déc)\.?(?:-[0-9]{2})?|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{2}/[0-9]{2}/[0-9]{4}"
)
"""what a spreadsheet program makes of a name such as 3-1: 03-janv"""
LONG_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)?[eE]\+?[0-9]+")
"""what a spreadsheet program makes of a long number: 4,51E+07"""


def when(text: str | None, zone: str | None, name: str = "") -> int | None:
    """A time, or a date as midnight in the building's time zone; None if nothing is written."""
    try:
        return None if not text else moment(text, zone)
    except ValueError as error:
        raise Refused(f"{name}: {error}" if name else str(error)) from error


def step(scope: str | None, text: str | None) -> int:
    """The finest step of a consent in seconds, from `daily` or `10min`; if both are given they must
    agree. Neither given: a load curve of 30 min.
    """
    named = None if not scope else SCOPES[_scope(scope)]
    if not text:
        return named or SCOPES["loadcurve"]
    seconds = _seconds(text)
    if named is not None and scope_of(seconds) != scope_of(named):
        raise Refused(f"step: {text} is {scope_of(seconds)}, not {scope_of(named)}")
    return seconds


def indexes(given: Sequence[str], known: Sequence[str], name: str) -> dict[str, Decimal] | None:
    """What a meter showed: `8412,5`, or `heat=8412.5` for each channel.

    `known`: the channels that it measures; a number alone is for the only one.
    """
    by_channel: dict[str, Decimal] = {}
    for written in given:
        channel, equals, number = written.rpartition("=")
        if not equals:
            if len(known) != 1:
                which = f" it measures {', '.join(known)};" if known else ""
                raise Refused(f"{name}: of which quantity?{which} write heat={number}")
            channel = known[0]
        by_channel[fields.channel(channel.strip())] = fields.index(number, name)
    return by_channel or None


def dated(line: SheetRow, zone: str | None, *columns: str) -> tuple[list[int | None], str]:
    """The times in these columns of a row, and what is wrong with the row."""
    moments: list[int | None] = []
    faults = [line.fault] if line.fault else []
    for column in columns:
        try:
            moments.append(when(line.cells.get(column), zone, column))
        except Refused as error:
            moments.append(None)
            faults.append(str(error))
    return moments, "; ".join(faults)


def members(
    fields: Iterable[Field], stated: Mapping[str, Any], zone: str | None, known: Sequence[str] = ()
) -> dict[str, Any]:
    """The members of an input, by what people state in these fields. Raises Refused.

    `known`: the channels that a device measures.
    """
    quantities = [stated["channel"]] if stated.get("channel") else known
    return {field.to: _value(field, stated.get(field.name), zone, quantities) for field in fields}


def rows(
    make: Callable[..., R], fields: Iterable[Field], lines: Iterable[SheetRow], zone: str | None
) -> list[R]:
    """The input of each row, with what is wrong in it: all dates, or else the first other fault."""
    # a list may have 50,000 rows, and most cells of optional columns are empty
    blank = [(field, field.to, _value(field, None, zone, ()), field.plain) for field in fields]
    inputs = []
    for line in lines:
        quantities = [line.cells["channel"]] if "channel" in line.cells else ()
        values: dict[str, Any] = {}
        dates, others = [line.fault] if line.fault else [], list[str]()
        for field, member, empty, plain in blank:
            cell = line.cells.get(field.name)
            if cell is None or plain:
                values[member] = empty if cell is None else cell
                continue
            values[member] = empty
            try:
                _must_be_whole(field, cell)
                stated = cell.split() if field.repeated else cell
                values[member] = _value(field, stated, zone, quantities)
            except Refused as error:
                (dates if field.kind is Kind.MOMENT else others).append(str(error))
        fault = "; ".join(dates) or "".join(others[:1])
        inputs.append(make(**values, where=line.where, fault=fault))
    return inputs


def _value(field: Field, stated: Any, zone: str | None, quantities: Sequence[str]) -> Any:
    """The member of an input; `stated` is as the call takes it, None if it is absent."""
    if stated is None:
        stated = "" if field.default is REQUIRED else field.default
    if field.kind is Kind.MOMENT:
        return when(stated, zone, field.name if field.prefixed else "")
    if field.kind is Kind.INDEXES:
        return indexes(stated or (), quantities, field.name)
    if field.kind is Kind.TEXTS:
        return tuple(stated or ())
    if field.read is not None:
        return field.read(stated) if stated else field.absent
    return field.absent if stated is None else stated


def _must_be_whole(field: Field, cell: str) -> None:
    """Refuse a cell that a spreadsheet program has spoilt."""
    if not field.spoilt_as:
        return
    spoilt = lost_digits if field.spoilt_as == "number" else made_a_date
    if fault := spoilt(cell, field.name):
        raise Refused(fault)


def lost_digits(cell: str, column: str) -> str:
    """The fault of a number whose digits a spreadsheet program dropped; empty: none."""
    if not LONG_NUMBER.fullmatch(cell):
        return ""
    return (
        f'{column}: the spreadsheet program has made "{cell}" of a long number, and its last digits'
        f" are lost: format the column as text and type the number again"
    )


def made_a_date(cell: str, column: str) -> str:
    """The fault of a name such as 3-1 that a spreadsheet program turned into a date; empty:
    none.
    """
    if not A_DATE.fullmatch(cell.casefold()):
        return ""
    return (
        f'{column}: the spreadsheet program has made the date "{cell}" of what was a name:'
        f" format the column as text and type the name again"
    )


def listed(cell: str) -> tuple[str, ...]:
    """Several values in one cell: `heat, cw` or `heat cw`."""
    return tuple(word for word in re.split(r"[\s,/+]+", cell) if word)


def scope_of(seconds: int) -> str:
    """The scope of a consent by its finest step."""
    if seconds > DAY:
        return "monthly"
    return "daily" if seconds == DAY else "loadcurve"


def _scope(written: str) -> str:
    plain = written.strip().casefold()
    plain = FRENCH_SCOPES.get(plain, plain)
    if plain not in SCOPES:
        raise Refused(f'scope: "{written}" is no scope{did_you_mean(plain, SCOPES)}')
    return plain


def _seconds(text: str) -> int:
    if text.strip().casefold() in ("month", "1month", "mois"):
        return MONTH
    try:
        seconds = duration(text)
    except ValueError as error:
        raise Refused(f"step: {error}") from error
    if seconds != int(seconds) or seconds < 1:
        raise Refused(f"step: {text} is not a whole number of seconds")
    return int(seconds)
