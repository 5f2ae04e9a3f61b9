"""Read and check what people write in options and cells: dates, steps, scopes, indexes, names."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import N_, Text, joined, text_of
from agent.core.model import ValueKind
from agent.core.quantities import channels as known_channels
from agent.core.quantities import factor, spoken, units
from agent.registry.dates import DAY, MONTH, moment, months_later
from agent.registry.facts.declaration import REQUIRED, Field, Kind, number
from agent.registry.facts.meter import MOST
from agent.registry.sheet import plain
from agent.registry.words import CHANNELS, PLACES, LotKind, kind_of, unknown
from agent.registry.words import SCOPES as SCOPE_WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from decimal import Decimal

    from agent.registry.consent_policy import Policy
    from agent.registry.inputs import Input
    from agent.registry.sheet import SheetRow

LONGEST_LABEL = 80
LONGEST_WORD = 200
LONGEST_CONSENT = 36
"""months from the signature (rule P5)"""
CLOCKS_DIFFER = 300
"""seconds by which the time of a signature may be ahead of the gateway's clock"""
DNS_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9-]{1,63}")
R = TypeVar("R", bound="Input")

SCOPES = {"monthly": MONTH, "daily": DAY, "loadcurve": 1800}
"""finest step in seconds of each scope; a load curve of 10 min needs an explicit step"""
A_DATE = re.compile(
    r"[0-9]{1,2}-(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|janv|févr|mars|avr|mai|juin|juil"
    r"|août|sept|déc)\.?(?:-[0-9]{2})?|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{2}/[0-9]{2}/[0-9]{4}"
)
"""what a spreadsheet program makes of a name such as 3-1: 03-janv"""
WITH_UNIT = re.compile(r"([0-9][0-9\s.,]*?)\s*([A-Za-z]{1,6}[3³]?)")
"""a number and its unit: 8 412,5 kWh"""
UNIT_WORDS = {"m³": "m3", "litre": "l", "litres": "l", "liter": "l", "liters": "l"}
SEVERAL = {
    Kind.TEXTS: re.compile(r"\s+"),
    # `heat=8412,5 cw=12,3`; a blank may also separate thousands, or a unit
    Kind.INDEXES: re.compile(r"\s*[;\n]\s*|(?<=[0-9])\s+(?=[^\W\d][^=;]*=)"),
}
"""what separates the entries of one cell"""
LAST_WORD = re.compile(r"\s*([A-Za-z]+)\s*$")
LONG_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)?[eE]\+?[0-9]+")
"""what a spreadsheet program makes of a long number: 4,51E+07"""


def text(given: str, name: str, longest: int) -> str:
    """A text that is printable, not empty and not too long."""
    stripped = given.strip()
    if not stripped:
        raise Refused("{name}: it is empty", name=name)
    # a control character would change what terminals and logs show
    if len(stripped) > longest or not stripped.isprintable():
        raise Refused(
            "{name}: more than {longest} characters, or one that cannot be printed",
            name=name,
            longest=longest,
        )
    return stripped


def prefix(written: str) -> str:
    """The first letter of an id for a type of place as people write it."""
    if not written.strip():
        raise Refused(N_("type: it is empty; of merged cells only the first row has the value"))
    kind = kind_of(written)
    if kind in {LotKind.PART, LotKind.OTHER}:
        raise Refused(
            N_('type: "{word}" is not a dwelling: write dwelling, common or building'), word=written
        )
    if kind is None:
        raise unknown("type", written, [name for name in PLACES.all() if len(name) > 1])
    return kind[0].upper()


def checked_channel(name: str) -> str:
    """The name of an existing channel."""
    if name not in known_channels():
        usual = [terms[0] for terms in CHANNELS.terms.values()]
        raise unknown("channel", name, [*usual, *known_channels(), *CHANNELS.all()])
    return name


def channel(written: str) -> str:
    """A channel, by its name or by a word for it: `heat`, `chauffage`. An unknown word is returned
    as it is, and refused by `checked_channel`.
    """
    term = written.strip()
    return CHANNELS.find(term) or _titles().get(plain(term)) or term.casefold()


def unit_of(written: str) -> str:
    """The unit of a channel, by its name or by a word for it; empty: there is no such channel."""
    known = known_channels().get(channel(written))
    return known.unit if known else ""


@cache
def _titles() -> dict[str, str]:
    """The channels by the names that letters and forms use for them."""
    return {
        plain(title): name
        for name, known in known_channels().items()
        for title in (known.fr, known.en)
        if title
    }


def channels(names: Sequence[str]) -> tuple[str, ...]:
    """Names of existing channels, sorted, each once; at least one."""
    if not names:
        raise Refused("channels: name each of them, one by one")
    return tuple(sorted({checked_channel(name) for name in names}))


def personal(names: Sequence[str]) -> tuple[str, ...]:
    """Channels that the catalogue explains: no other channel of a dwelling ever leaves."""
    for name in channels(names):
        if known_channels()[name].en is None:
            raise Refused(
                "channels: {name} of a dwelling never leaves: no consent is needed", name=name
            )
    return channels(names)


def registers(names: Sequence[str]) -> tuple[str, ...]:
    """Channels that are cumulative indexes: a duty covers nothing else."""
    for name in channels(names):
        if known_channels()[name].kind is not ValueKind.REG:
            raise Refused(
                "channels: {name} is not an index, and a duty covers indexes only", name=name
            )
    return channels(names)


def recipient(name: str) -> str:
    """A DNS name, in lower case."""
    lower = name.strip().casefold()
    if not lower:
        raise Refused(
            "recipient: it is missing. Name it, such as energie.metropole.example; a list needs the"
            ' column "recipient" or "destinataire"'
        )
    if not DNS_NAME.fullmatch(lower):
        raise Refused(
            'recipient: "{name}" is not a DNS name such as energie.metropole.example', name=name
        )
    return lower


def checked_step(step: int, policy: Policy) -> int:
    """A step in seconds that the policy allows: a part of a day, DAY or MONTH."""
    if step > DAY and step != MONTH:
        raise Refused("step: {step} s is neither a day, nor part of one, nor a month", step=step)
    if step < policy.floor:
        raise Refused(
            "step: {step} s is finer than the {floor} s that policy {name} allows",
            step=step,
            floor=policy.floor,
            name=policy.name,
        )
    return step


def until(until: int | None, since: int, signed: int) -> int:
    """The end of a consent that begins at `since` and was signed at `signed`; None: the latest
    possible end.
    """
    latest = months_later(signed, LONGEST_CONSENT)
    if latest <= since:
        raise Refused(
            "given: the consent was signed on {signed} and ended on {latest}, since a"
                " consent lasts {months} months at most. It was not recorded; remove it"
                " from the list, or have a new one signed",
                months=LONGEST_CONSENT, signed=stamp(signed), latest=stamp(latest)
        )  # fmt: skip
    if until is None:
        return latest
    if not since < until <= latest:
        raise Refused(
            "until: {stamp} is not between {stamp_2} and {stamp_3}: a consent lasts"
            " {longest_consent} months at most, counted from its signature",
            stamp=stamp(until),
            stamp_2=stamp(since),
            stamp_3=stamp(latest),
            longest_consent=LONGEST_CONSENT,
        )
    return until


def index(written: str, name: str, unit: str = "") -> Decimal:
    """What a meter shows, with a decimal point or comma, and perhaps its unit. `unit`: that of the
    channel, to which another one is converted.
    """
    digits, stated = _with_unit(written)
    value = number(digits)
    if value is not None and stated:
        value = _converted(value, stated, unit, name)
    if value is None or not 0 <= value < MOST:
        zeros = Text("; it has a letter O where a zero belongs") if "O" in written.upper() else ""
        raise Refused(
            '{name}: "{written}" is not what a meter shows, such as 8412.5{zeros}',
            name=name,
            written=written,
            zeros=zeros,
        )
    return value


def _with_unit(written: str) -> tuple[str, str]:
    """A number and the unit after it: `8 412,5 kWh`; no unit: an empty text."""
    match = WITH_UNIT.fullmatch(written.strip())
    return (match[1], match[2]) if match else (written, "")


def _converted(value: Decimal, stated: str, unit: str, name: str) -> Decimal | None:
    """A value in the unit of its channel; None: there is no such unit. Raises Refused for a unit of
    something else.
    """
    named = {plain(one): one for one in units()} | UNIT_WORDS
    # in the right case first: mWh is not MWh
    theirs = stated if stated in units() else named.get(plain(stated), "")
    if theirs not in units():
        return None
    times = factor(theirs, unit)
    if times is None:
        raise Refused(
            N_('{name}: "{stated}" is not a unit of this quantity: write the value in {unit}'),
            name=name, stated=stated, unit=spoken(unit) or unit or "-",
        )  # fmt: skip
    return value * times


def when(text: str | None, zone: str | None, name: str = "") -> int | None:
    """A time, or a date as midnight in the building's time zone; None if nothing is written."""
    try:
        return None if not text else moment(text, zone)
    except ValueError as error:
        raise Refused(
            Text("{name}: {error}", name=name, error=error) if name else text_of(error)
        ) from error


def step(scope: str | None, text: str | None) -> int:
    """The finest step of a consent in seconds, from `daily` or `10min`; if both are given they must
    agree. Neither given: a load curve of 30 min.
    """
    named = None if not scope else SCOPES[SCOPE_WORDS.read(scope)]
    if not text:
        return named or SCOPES["loadcurve"]
    seconds = _seconds(text)
    if named is not None and scope_of(seconds) != scope_of(named):
        raise Refused(
            "step: {text} is {scope_of}, not {scope_of_2}",
            text=text,
            scope_of=scope_of(seconds),
            scope_of_2=scope_of(named),
        )
    return seconds


def indexes(given: Sequence[str], known: Sequence[str], name: str) -> dict[str, Decimal] | None:
    """What a meter showed: `8412,5`, or `heat=8412.5` for each channel.

    `known`: the channels that it measures; a number alone is for the only one.
    """
    by_channel: dict[str, Decimal] = {}
    for written in given:
        term, equals, value = written.rpartition("=")
        if not equals:
            if len(known) != 1:
                which = Text(" it measures {names};", names=", ".join(known)) if known else ""
                raise Refused(
                    "{name}: of which quantity?{which} write heat={number}",
                    name=name,
                    which=which,
                    number=value,
                )
            term = known[0]
        measured = checked_channel(channel(term))
        by_channel[measured] = index(value, name, known_channels()[measured].unit)
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
            faults.append(line.as_headed(error.text, column))
    return moments, joined("; ", faults)


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
        for field, member, empty, as_is in blank:
            cell = line.cells.get(field.name)
            if cell is None or as_is:
                values[member] = empty if cell is None else cell
                continue
            values[member] = empty
            try:
                _must_be_whole(field, cell)
                stated = SEVERAL[field.kind].split(cell) if field.repeated else cell
                values[member] = _value(field, stated, zone, quantities)
            except Refused as error:
                fault = line.as_headed(error.text, field.name)
                (dates if field.kind is Kind.MOMENT else others).append(fault)
        fault = joined("; ", dates) or joined("", others[:1])
        inputs.append(make(**values, where=line.where, fault=fault))
    return inputs


def _value(  # noqa: PLR0911 -- one for each kind
    field: Field, stated: Any, zone: str | None, quantities: Sequence[str]
) -> Any:
    """The member of an input; `stated` is as the call takes it, None if it is absent."""
    if stated is None:
        stated = "" if field.default is REQUIRED else field.default
    if field.kind is Kind.MOMENT:
        return when(stated, zone, field.name if field.prefixed else "")
    if field.kind is Kind.INDEXES:
        return indexes(stated or (), quantities, field.name)
    if field.name == "channels":
        return listed(", ".join(stated or ()))
    if field.name == "channel":
        return channel(stated) if stated else None
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
    return Text(
        '{column}: the spreadsheet program has made "{cell}" of a long number, and its'
        " last digits are lost: format the column as text and type the number again",
        column=column,
        cell=cell,
    )


def made_a_date(cell: str, column: str) -> str:
    """The fault of a name such as 3-1 that a spreadsheet program turned into a date; empty:
    none.
    """
    if not A_DATE.fullmatch(cell.casefold()):
        return ""
    return Text(
        '{column}: the spreadsheet program has made the date "{cell}" of what was a'
        " name: format the column as text and type the name again",
        column=column,
        cell=cell,
    )


def listed(cell: str) -> tuple[str, ...]:
    """The channels in one cell: `heat, cw`, `heat cw`, `chauffage et eau froide`."""
    names: list[str] = []
    for part in re.split(r"[,;/+\n]+|\s(?:et|and)\s", cell):
        # a name may have several words: `eau froide`; in `heat cw` each word is one
        apart = [channel(term) for term in part.split()]
        names += apart if all(name in known_channels() for name in apart) else [channel(part)]
    return tuple(names)


def scope_of(seconds: int) -> str:
    """The scope of a consent by its finest step."""
    if seconds > DAY:
        return "monthly"
    return "daily" if seconds == DAY else "loadcurve"


def _seconds(text: str) -> int:
    from agent.core.settings import ALSO, duration  # noqa: PLC0415 -- has pydantic, 4 MB

    if scope := SCOPE_WORDS.find(text):  # `jour`, `mois`
        return SCOPES[scope]
    try:
        # `10 minutes`, `30 mn`
        seconds = duration(LAST_WORD.sub(lambda unit: ALSO.get(unit[1].casefold(), unit[1]), text))
    except ValueError as error:
        raise Refused("step: {error}", error=error) from error
    if seconds != int(seconds) or seconds < 1:
        raise Refused("step: {text} is not a whole number of seconds", text=text)
    return int(seconds)
