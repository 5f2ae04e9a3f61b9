"""Input that may be a mistake: a question for each, with the value that was written and the value
that may be meant (rules I26, I27, I28, I29, I30). Pure.

A doubt is resolved by writing the value again: at the terminal, or with `--confirm VALUE`.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from decimal import Decimal
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import Text, _, joined
from agent.registry.dates import in_local_time, moment, months_later, text_in_local_time
from agent.registry.facts.declaration import number
from agent.registry.records import serial_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from agent.registry.records import Place

DAY = 86_400
SOON = 31 * DAY
"""moves are often recorded a month ahead, also into the next year"""
NOTICE = 92 * DAY
"""the longest notice that occupants give: three months"""
LONGEST_LEASE = 10 * 366 * DAY
"""an end of a lease later than this is a typing error"""
HALF_A_YEAR = 183 * DAY
"""ahead of which a consent rarely begins"""
NEAR = 0.85
"""similarity of two names of recipients that differ by a typing error"""
SHORT_NUMBER = 4
"""a shorter serial number with a letter is taken for a name"""
MARGIN = Decimal("1.2")
"""factor above its rating that a meter may count"""
SHARE, LEAST = Decimal("0.2"), Decimal(1000)
"""of a meter without a known rating: it may count on by this share of its last reading, or by this
many units, whichever is more
"""
NEAR_THE_END = Decimal("0.9")
"""share of the highest index above which the index may have rolled over"""
MOST_SHOWN = 20
"""doubts of a list that are shown; further ones are counted"""

ALIKE = str.maketrans(
    {
        **dict.fromkeys("OoΟοОоՕօ", "0"),
        **dict.fromkeys("IlΙІӀ|ӏ", "1"),
        **dict(
            zip(
                "АВЕКМНРСТУХЅЈаеіјкрсухѕΑΒΕΖΗΚΜΝΡΤΥΧανρυ",
                "ABEKMHPCTYXSJaeijkpcyxsABEZHKMNPTYXavpu",
                strict=True,
            )
        ),
    }
)
"""letters that look like another character: Cyrillic, Greek and Armenian ones like Latin ones, O
like 0, and I and l like 1
"""
ONLY_DIGITS = str.maketrans({"O": "0", "o": "0", "I": "1", "l": "1", "|": "1"})
GROUPS = re.compile(r"[0-9]+|[^\W\d_]+")


class DoubtKind(StrEnum):
    """What may be mistaken."""

    LABEL = "label"
    SERIAL = "serial"
    RECIPIENT = "recipient"
    INDEX = "index"
    DATE = "date"


@dataclass(frozen=True, slots=True)
class DoubtfulValue:
    """A value that may be mistaken, what may be meant instead, and the question about both."""

    kind: DoubtKind
    value: str
    """to be written again if it is right"""
    other: str
    question: Text
    where: str = ""
    """`places.csv:17`; empty: a single command"""

    def wire(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "kind": str(self.kind), "value": self.value, "other": self.other,
            "question": self.question.wire(), "where": self.where,
        }  # fmt: skip

    @classmethod
    def of(cls, wire: Mapping[str, Any]) -> Self:
        """Rebuild a doubt from its JSON form."""
        question = Text.of(wire["question"])
        return cls(DoubtKind(wire["kind"]), wire["value"], wire["other"], question, wire["where"])

    def in_zone(self, zone: str) -> Self:
        """The same with its times in the building's time zone."""
        return replace(
            self,
            value=in_local_time(self.value, zone),
            other=in_local_time(self.other, zone),
            question=text_in_local_time(self.question, zone),
        )

    def is_meant(self, typed: str) -> bool:
        """Whether a person has typed the value again; a date or a number in any form."""
        return not confirmations([typed], "UTC").isdisjoint(confirmations([self.value], "UTC"))

    def sentence(self) -> Text:
        """The question with its line."""
        return joined(": ", [self.where, self.question] if self.where else [self.question])


class NeedsConfirmation(Refused):
    """Nothing was recorded: a person must first confirm or correct the doubtful values."""

    def __init__(self, doubts: Sequence[DoubtfulValue], more: int = 0) -> None:
        self.doubts = tuple(doubts[:MOST_SHOWN])
        self.more = more + len(doubts) - len(self.doubts)
        """doubts that are only counted"""
        super().__init__(joined("\n", [doubt.sentence() for doubt in self.doubts]))

    def in_zone(self, zone: str) -> NeedsConfirmation:
        """The same with its times in the building's time zone."""
        return NeedsConfirmation([doubt.in_zone(zone) for doubt in self.doubts], self.more)

    def wire(self) -> dict[str, Any]:
        """The JSON form."""
        return {"doubts": [doubt.wire() for doubt in self.doubts], "more": self.more}

    @classmethod
    def of(cls, wire: Mapping[str, Any]) -> Self:
        """Rebuild the error from its JSON form."""
        return cls([DoubtfulValue.of(doubt) for doubt in wire["doubts"]], wire["more"])

    def in_language(self) -> str:
        """The questions in the reader's language, one for each line, and how to answer them."""
        lines = [self.text.in_language()]
        if self.more:
            lines.append(_("… and {number} more doubtful values", number=self.more))
        values = dict.fromkeys(doubt.value for doubt in self.doubts)
        options = " ".join(f"--confirm {_quoted(value)}" for value in values)
        how = _(
            "nothing was recorded. Correct what is wrong. If a value is right, add it to the same"
            " command: {options}",
            options=options,
        )
        return "\n".join([*lines, how])


class LastReading(NamedTuple):
    """The last index of a meter that the gateway knows, in its channel's unit."""

    value: Decimal
    at: float
    rating: Decimal | None = None
    """greatest quantity in an hour"""
    rolls_at: Decimal | None = None
    """where the index rolls over to 0"""


def confirmations(typed: Iterable[str], zone: str | None) -> frozenset[str]:
    """What a person confirms, as written and in the forms in which doubts name values."""
    confirmed = set[str]()
    for text in typed:
        written = " ".join(text.split())
        confirmed |= {written, text.strip()}
        if (value := number(written)) is not None:
            confirmed.add(format(value, "f"))
        try:
            confirmed.add(stamp(moment(written, zone)))
        except ValueError:
            continue
    return frozenset(confirmed)


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[\w.,:+-]+", value) else f'"{value}"'


def label_forms(label: str) -> tuple[str, str]:
    """Labels that share a form look alike: as people see it, and as its numbers and words."""
    plain = unicodedata.normalize("NFKC", label)
    seen = re.sub(r"[\W_]+", "-", plain.translate(ALIKE).casefold()).strip("-")
    groups = GROUPS.findall(plain.casefold())
    # a number may have leading zeros: A-1-01 is A-1-1
    parts = "-".join(group.lstrip("0") or "0" if group.isdigit() else group for group in groups)
    return seen, f"#{parts}"  # no label has a form of the other kind


class LabelDoubts:
    """Labels of new places against those of all others."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._labels = [place.label for place in places]
        self._by_form: dict[str, str] | None = None

    def about(self, label: str, where: str) -> Iterator[DoubtfulValue]:
        """Question a new label that looks like one before it; remember it."""
        if self._by_form is None:
            self._by_form = {form: old for old in self._labels for form in label_forms(old)}
        forms = label_forms(label)
        other = next((self._by_form[form] for form in forms if form in self._by_form), None)
        if other is not None:
            yield DoubtfulValue(
                DoubtKind.LABEL,
                label,
                other,
                Text(
                    'the label "{label}"{hint} looks like "{other}", which is another place, so'
                    ' people would record meters and consents for the wrong one. Is "{label}"'
                    ' right, or is "{other}" meant?',
                    label=label, other=other, hint=_foreign_letters(label, other),
                ),
                where,
            )  # fmt: skip
        self._by_form.update(dict.fromkeys(forms, label))


class AliasDoubts:
    """New aliases against those of other places in the same scheme."""

    def __init__(self, aliases: Iterable[tuple[str, str, str]]) -> None:
        """`aliases`: each as its scheme, its value, and the label of its place."""
        self._aliases = aliases
        self._by_form: dict[tuple[str, str], tuple[str, str]] | None = None

    def about(self, title: str, alias: tuple[str, str, str], where: str) -> Iterator[DoubtfulValue]:
        """Question a new alias that looks like one of another place; remember it."""
        if self._by_form is None:
            self._by_form = {}
            for known in self._aliases:
                self._learn(*known)
        scheme, value, label = alias
        others = (self._by_form.get((scheme, form)) for form in label_forms(value))
        other = next((one for one in others if one and one[0] != value and one[1] != label), None)
        if other is not None:
            yield DoubtfulValue(
                DoubtKind.LABEL,
                value,
                other[0],
                Text(
                    'the {scheme} "{value}"{hint} looks like "{other}", which belongs to {place},'
                    ' so data could be taken for those of the wrong place. Is "{value}" right, or'
                    ' is "{other}" meant?',
                    scheme=title, value=value, other=other[0], place=other[1],
                    hint=_foreign_letters(value, other[0]),
                ),
                where,
            )  # fmt: skip
        self._learn(*alias)

    def _learn(self, scheme: str, value: str, label: str) -> None:
        assert self._by_form is not None
        for form in label_forms(value):
            self._by_form.setdefault((scheme, form), (value, label))


def _foreign_letters(written: str, other: str) -> Text | str:
    """What nobody can see: letters of another alphabet, and letters among digits."""
    for value in (written, other):
        strange = [c for c in value if ord(c) > 0x24F and c.isalpha()]  # noqa: PLR2004 -- Latin
        if strange:
            names = ", ".join(unicodedata.name(c, c).capitalize() for c in strange)
            return Text(' ("{value}" has letters of another alphabet: {names})',
                        value=value, names=names)  # fmt: skip
    return ""


def grouped_otherwise(text: str, label: str) -> bool:
    """Whether a text has the digits of a label in other groups: A-11-1 is not A-1-11."""
    written, known = (re.findall(r"[0-9]+", name) for name in (text, label))
    both = len(written) > 1 and len(known) > 1
    return both and written != known and "".join(written) == "".join(known)


class SerialDoubts:
    """Serial numbers of new meters against those of all others."""

    def __init__(self, serials: Iterable[tuple[str, str]]) -> None:
        self._serials = serials
        """each with the label of its place"""
        self._by_form: dict[str, tuple[str, str]] | None = None

    def about(self, serial: str, label: str, where: str) -> Iterator[DoubtfulValue]:
        """Question a serial number that looks like another one, or has O or l for a digit."""
        if self._by_form is None:
            self._by_form = {_serial_form(old): (old, its) for old, its in self._serials}
        new = _serial_form(serial) not in self._by_form
        known, place = self._by_form.setdefault(_serial_form(serial), (serial, label))
        digits = serial.translate(ONLY_DIGITS)
        if serial_key(known) != serial_key(serial):
            yield DoubtfulValue(
                DoubtKind.SERIAL,
                serial,
                known,
                Text(
                    'the serial number "{serial}"{hint} looks like "{other}", the meter of'
                    ' {place}, so readings could belong to the wrong dwelling. Is "{serial}" right,'
                    ' or is "{other}" meant?',
                    serial=serial, other=known, place=place, hint=_foreign_letters(serial, known),
                ),
                where,
            )  # fmt: skip
        elif new and digits != serial and digits.isdigit() and len(digits) >= SHORT_NUMBER:
            yield DoubtfulValue(
                DoubtKind.SERIAL,
                serial,
                digits,
                Text(
                    'the serial number "{serial}" has a letter O, I or l among its digits. A meter'
                    ' that reports digits would not be recognized, and nothing of it sent. Is'
                    ' "{serial}" right, or is "{other}" meant?',
                    serial=serial, other=digits,
                ),
                where,
            )  # fmt: skip


def _serial_form(serial: str) -> str:
    return serial_key(unicodedata.normalize("NFKC", serial).translate(ALIKE))


def recipient_doubts(
    recipient: str, configured: Collection[str], recorded: Collection[str], where: str
) -> Iterator[DoubtfulValue]:
    """Question a recipient that is neither configured nor recorded. Before any is configured, only
    one that differs little from a recorded one.
    """
    known = sorted({*configured, *recorded})
    if not known or recipient in known:
        return
    near = get_close_matches(recipient, known, n=1, cutoff=0.0 if configured else NEAR)
    if not near:
        return
    yield DoubtfulValue(
        DoubtKind.RECIPIENT,
        recipient,
        near[0],
        Text(
            'nobody here knows the recipient "{recipient}": it has no uplink, no consent and no'
            ' duty, so nothing would be sent to it. If it is right, add an uplink for it, too'
            ' (`uplinks` of the configuration). Is "{recipient}" right, or is "{other}" meant?',
            recipient=recipient, other=near[0],
        ),
        where,
    )  # fmt: skip


def index_doubts(
    label: str, closed: Decimal, at: int, last: LastReading, unit: str
) -> Iterator[DoubtfulValue]:
    """Question a closing index below the last reading, or further above it than the meter can
    count.
    """
    counted = closed - last.value
    hours = max(Decimal(1), Decimal((at - last.at) / 3600))
    most = (
        max(SHARE * last.value, LEAST) if last.rating is None else last.rating * MARGIN * hours + 1
    )
    end = last.rolls_at or Decimal(1).scaleb(last.value.adjusted() + 1)
    if counted < 0 and last.value > NEAR_THE_END * end:
        counted += end
    # a display shows no decimals
    if -1 < counted <= most:
        return
    values = {
        "index": format(closed, "f"), "last": format(last.value, "f"), "unit": unit,
        "place": label, "at": stamp(last.at),
    }  # fmt: skip
    if counted < 0:
        question = Text(
            "{place}: the closing index {index} {unit} is below the last reading, {last} {unit} on"
            " {at}, and a meter does not count backwards. The consumption would be wrong. Is"
            " {index} right, or is {last} meant?",
            **values,
        )
    else:
        question = Text(
            "{place}: the closing index {index} {unit} is {more} {unit} above the last reading,"
            " {last} {unit} on {at}, more than the meter can count since then. The consumption"
            " would be wrong. Is {index} right, or is a value near {last} meant?",
            **values,
            more=format(counted, "f"),
        )
    yield DoubtfulValue(DoubtKind.INDEX, values["index"], values["last"], question)


def date_doubts(
    label: str, at: int, now: float, where: str, *, ahead: Callable[[int, float], bool]
) -> Iterator[DoubtfulValue]:
    """Question a date in the future; `ahead`: whether it is too far ahead for what it dates."""
    if not ahead(at, now):
        return
    meant = at
    while ahead(meant, now):
        meant = months_later(meant, -12)
    # near to today the day is mistyped rather than the year
    if at - now < SOON:
        meant = int(now)
    yield DoubtfulValue(
        DoubtKind.DATE,
        stamp(at),
        stamp(meant),
        Text(
            "{place}: {day} is in the future (it is now {today}), so nothing would change until"
            " then. If it is only planned, record it when it is done. Is {day} right, or is {other}"
            " meant?",
            place=label, day=stamp(at), today=stamp(int(now)), other=stamp(meant),
        ),
        where,
    )  # fmt: skip


def backdated_doubts(label: str, at: int, now: float, where: str) -> Iterator[DoubtfulValue]:
    """Question the end of an occupancy or a meter a year or more ago: all rows since would be
    erased, and in January many people write the year before.
    """
    meant = at
    while months_later(meant, 12) <= now:
        meant = months_later(meant, 12)
    if meant > at:
        yield DoubtfulValue(
            DoubtKind.DATE,
            stamp(at),
            stamp(meant),
            Text(
                "{place}: {day} is a year ago or more, and what was sent since then would be"
                " erased. Is {day} right, or is {other} meant?",
                place=label, day=stamp(at), other=stamp(meant),
            ),
            where,
        )  # fmt: skip


def unlikely_move(at: int, now: float) -> bool:
    """Whether a move is too far ahead: more than three months, or a month and in the next year."""
    next_year = stamp(at)[:4] != stamp(int(now))[:4]
    return at - now > (SOON if next_year else NOTICE)


def unlikely_consent(at: int, now: float) -> bool:
    """Whether a consent begins too far ahead."""
    return at - now > HALF_A_YEAR


def unlikely_lease_end(at: int, now: float) -> bool:
    """Whether a lease ends too far ahead."""
    return at - now > LONGEST_LEASE


def not_yet(at: int, now: float) -> bool:
    """Whether something that people have done is dated after today."""
    return at - now > DAY
