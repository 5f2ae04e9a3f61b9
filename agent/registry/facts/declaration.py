"""How a fact is declared: each field once, with its option, its argument of the call and its
column.
"""

from __future__ import annotations

import re
from decimal import Decimal
from enum import Enum, auto
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REQUIRED: Any = Parameter.empty
"""default of a field that people must state"""
UNSET: Any = object()
"""the command line has the default of the call"""


UNRELATED = frozenset((
    "adresse", "address", "annexe", "annexes", "appel", "cle", "civilite", "code", "code postal",
    "commentaire", "commentaires", "date d acte", "date d achat", "date d acquisition", "email",
    "e mail", "loyer", "mail", "mandat", "nom", "name", "nom prenom", "observation", "observations",
    "portable", "prenom", "quote part", "remarque", "remarques", "residence", "solde", "tantieme",
    "tantiemes", "milliemes", "telephone", "tel", "ville", "surface carrez", "superficie", "etage",
    "niveau", "nature", "usage", "reference", "ref", "compte", "n compte", "date",
))  # fmt: skip
"""headings in lists of a syndic that are never a misspelt one of ours, as `plain` of
agent/registry/sheet.py makes them
"""


class Kind(Enum):
    """What people write into a field."""

    TEXT = auto()
    TEXTS = auto()
    """several texts: an option that may be repeated"""
    MOMENT = auto()
    """a time, or a date in the building's time zone"""
    INDEXES = auto()
    """what a meter showed: `8412,5`, or `heat=8412.5` for each channel"""
    FLAG = auto()
    """false or true; the option turns its default into the other"""
    FILE = auto()
    """a table in a file; the call takes its `text` and `name`"""


TYPES = {Kind.TEXTS: "Sequence[str]", Kind.INDEXES: "Sequence[str]", Kind.FLAG: "bool"}
"""annotations of a call's arguments; those of all other kinds are texts"""


class Field(NamedTuple):
    """One field of a fact."""

    name: str
    """of the call's argument and of the column"""
    help: str = ""
    """of the option"""
    kind: Kind = Kind.TEXT
    default: Any = None
    """of the call's argument"""
    assumed: Any = UNSET
    """default on the command line, if another than the call's"""
    argument: bool = False
    """whether it has a place on the command line instead of an option"""
    option: str = ""
    """name on the command line, if another than `name`"""
    metavar: str | None = None
    headings: tuple[str, ...] = ()
    """further headings that people write above its column, in French and English"""
    read: Callable[[str], Any] | None = None
    """from a text to the value; raises Refused. None: the text itself"""
    member: str = ""
    """member of the input (agent/registry/inputs.py), if another than `name`"""
    absent: Any = None
    """value of the member if nothing is stated"""
    prefixed: bool = True
    """whether the message about a wrong date begins with the name of the field"""
    exact: bool = False
    """whether no similar heading is taken for a mistake: other columns resemble it"""
    titles: tuple[str, str] = ("", "")
    """its name for people, in French and English"""
    spoilt_as: str = ""
    """`date` or `number`: what a spreadsheet program makes of such a name"""

    @property
    def to(self) -> str:
        """The member of the input."""
        return self.member or self.name

    @property
    def repeated(self) -> bool:
        """Whether it takes several texts."""
        return self.kind is Kind.TEXTS or self.kind is Kind.INDEXES

    @property
    def plain(self) -> bool:
        """Whether a cell is its value as it is."""
        # words for a channel are read by agent/registry/parsers.py
        own = self.read is None and not self.spoilt_as and self.name != "channel"
        return self.kind is Kind.TEXT and own

    def parameters(self) -> list[Parameter]:
        """The arguments of the call."""
        if self.kind is Kind.FILE:
            required = self.default is REQUIRED
            return [
                _parameter("text", "str" if required else "str | None", self.default),
                _parameter("name", "str", REQUIRED if required else ""),
            ]
        optional = "str | None" if self.default is None else "str"
        default = () if self.repeated and self.default is None else self.default
        return [_parameter(self.name, TYPES.get(self.kind, optional), default)]


def argument(name: str, help_: str, *, default: Any = REQUIRED, **more: Any) -> Field:
    """A field with a place on the command line."""
    return Field(name, help_, default=default, argument=True, **more)


def flag(name: str, help_: str, *, default: bool = False, option: str = "") -> Field:
    """A field that is false or true."""
    return Field(name, help_, Kind.FLAG, default=default, option=option)


class FactCommand(NamedTuple):
    """A command and its call."""

    call: str
    """such as `occupancy.move_in`"""
    help: str
    fields: tuple[Field, ...]
    """in the order in which the help shows them"""
    changes: bool
    """whether it records something, and therefore needs an author"""
    group: str
    """what people type before its name"""

    @property
    def name(self) -> str:
        """The command's name in its group."""
        return self.call.partition(".")[2].replace("_", "-")

    @property
    def source(self) -> str:
        """The source of what it records: the command as people type it."""
        return f"gardien {self.group} {self.name}"

    def signature(self, *more: Parameter) -> Signature:
        """The signature of its function in the registry; `more`: what only the gateway gives."""
        common = [_parameter("who", "str", REQUIRED), _parameter("now", "float", REQUIRED)]
        if self.changes:
            common.append(_parameter("zone", "str | None", None))
        mine = [parameter for field in self.fields for parameter in field.parameters()]
        return Signature([*common, *mine, *more])


def stated(call: str, help_: str, *fields: Field, group: str = "") -> FactCommand:
    """A command that records what people state; `group`: as typed, if another than in `call`."""
    return FactCommand(call, help_, fields, True, group or call.partition(".")[0])


def listed(call: str, help_: str, *fields: Field) -> FactCommand:
    """A command that changes nothing."""
    return stated(call, help_, *fields)._replace(changes=False)


def given(name: str, type_: str, default: Any = REQUIRED) -> Parameter:
    """An argument that the gateway gives to a call, beside what people state."""
    return _parameter(name, type_, default)


def _parameter(name: str, type_: str, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=type_)


def columns(fields: Iterable[Field]) -> dict[str, str]:
    """The columns of a sheet: each heading that people may write, with the name of its field."""
    named = list(fields)
    return {field.name: field.name for field in named} | {
        heading: field.name for field in named for heading in field.headings
    }


def required(fields: Iterable[Field]) -> list[str]:
    """The columns that a sheet must have."""
    return [field.name for field in fields if field.default is REQUIRED]


def exact(fields: Iterable[Field]) -> frozenset[str]:
    """The headings to which no similar one is a mistake."""
    return frozenset(columns(field for field in fields if field.exact))


def number(text: str) -> Decimal | None:
    """A number as people write it: `8412.5`, `8 412,5`, `8.412,5`, `8,412.5`; None: it is not one.

    A single comma or point is the decimal one.
    """
    plain = "".join(text.split())
    for thousands, decimal in ((".", ","), (",", ".")):
        if re.fullmatch(rf"[+-]?[0-9]{{1,3}}(\{thousands}[0-9]{{3}})+\{decimal}[0-9]+", plain):
            plain = plain.replace(thousands, "")
    plain = plain.replace(",", ".")
    # Decimal alone would accept 1e9, NaN and Infinity
    if not re.fullmatch(r"[+-]?[0-9]{1,20}(\.[0-9]{1,9})?", plain):
        return None
    return Decimal(plain)


SINCE = Field(
    "since", "Start: 2026-07-12 (at 00:00) or 2026-07-12T09:30+02:00; default: now.", Kind.MOMENT
)
UNTIL = Field("until", "End; default: none.", Kind.MOMENT)
AT = Field(
    "at", "When: 2026-07-12 (at 00:00) or 2026-07-12T09:30+02:00; default: now.", Kind.MOMENT
)
FILE = argument("file", "", kind=Kind.FILE)
CONFIRM = Field(
    "confirm",
    "A value that seems doubtful and is right, written again; may be repeated.",
    Kind.TEXTS,
    metavar="VALUE",
    member="confirmed",
)
PREVIEW = flag("preview", "Only check the file and show what it would change.")
