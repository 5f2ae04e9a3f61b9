"""What really happened in a building in a year, and when its gateway was told.

The script of the year writes it, the checker judges by it; neither asks the code that is judged.
Times are Unix seconds, spans half-open `[start, end)`, an open end is None (rule I9).
`told` is when the gateway learned of a fact: a fact that is not told yet binds nobody.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from zoneinfo import ZoneInfo

DAY = 86_400


class Step(StrEnum):
    """How fine a row is: the three scopes of a consent (rule P3)."""

    MONTHLY = "monthly"
    DAILY = "daily"
    LOADCURVE = "loadcurve"


@dataclass(frozen=True, slots=True)
class Stay:
    """An occupancy: who lived where, and when each of its ends was told."""

    occupancy: str
    place: str
    start: int
    told: int
    end: int | None = None
    end_told: int | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A meter at a place, and when the gateway was told of it; `indexed`: with the indexes of both
    meters at the exchange.
    """

    meter: str
    place: str
    channel: str
    start: int
    told: int
    end: int | None = None
    indexed: bool = False


@dataclass(frozen=True, slots=True)
class Consent:
    """What an occupant allowed one recipient; `seconds` is the finest step of a load curve."""

    id: str
    occupancy: str
    recipient: str
    channels: frozenset[str]
    step: Step
    start: int
    told: int
    end: int
    seconds: int = 1800
    withdrawn: int | None = None
    replaced: int | None = None


@dataclass(frozen=True, slots=True)
class Duty:
    """What the manager has to know by law: month-end indexes, and those of a change of occupant."""

    id: str
    recipient: str
    channels: frozenset[str]
    start: int
    told: int
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a recipient (an outage) or a meter (a silence) did not answer."""

    who: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Shared:
    """Something common that is read once a day, and since when it may leave."""

    place: str
    channel: str
    meter: str
    start: int


@dataclass(frozen=True, slots=True)
class Summed:
    """A sum over dwellings that one recipient is to have, asked for since `start`; its slots are
    `step` seconds long.
    """

    recipient: str
    channel: str
    place: str
    step: int
    start: int


@dataclass(frozen=True, slots=True)
class Held:
    """A row as a recipient holds it; `step` in seconds, `stored` when it came to it."""

    place: str
    channel: str
    kind: str
    step: int
    t: int
    q: str
    v: Decimal | None
    stored: int
    basis: str = ""
    occupancy: str = ""
    meter: str = ""
    ver: int = 0
    delay: int = 0
    flags: str = ""
    n: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Truth:
    """The year. `register(meter, t)` is what the meter's display showed at `t`; `every` the seconds
    between the reads of a place's channel; of `flows` what flowed between two reads is asked for
    too. `starts`: when the agent was started again.
    """

    zone: ZoneInfo
    begin: int
    register: Callable[[str, int], Decimal]
    every: Mapping[tuple[str, str], int]
    stays: list[Stay] = field(default_factory=list)
    fitted: list[Fitted] = field(default_factory=list)
    consents: list[Consent] = field(default_factory=list)
    duties: list[Duty] = field(default_factory=list)
    outages: list[Span] = field(default_factory=list)
    silences: list[Span] = field(default_factory=list)
    withheld: frozenset[str] = frozenset()
    shared: list[Shared] = field(default_factory=list)
    sums: list[Summed] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    flows: frozenset[str] = frozenset()
