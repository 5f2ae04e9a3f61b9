"""What people ask the registry to record: one input per row, as written, with its line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from agent.registry.facts.place import Particulars

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from agent.registry.doubts import LastReading
    from agent.registry.records import Installation

EVERY_CHANNEL = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What every row has."""

    where: str = ""
    """`places.csv:17`; empty: a single command"""
    fault: str = ""
    """what is wrong with the row, as found while reading the file"""
    confirmed: frozenset[str] | None = None
    """doubtful values that the person has confirmed; None: nobody can be asked (a signed object, an
    export), so nothing is questioned
    """


@dataclass(frozen=True, slots=True)
class NewPlace(Input, Particulars):
    """A place, its label, and what else people state of it."""

    label: str
    type: str
    """dwelling, common or building, as people write it"""
    id: str | None = None
    """minted elsewhere; None: mint one"""
    since: int | None = None
    """beginning of its present occupancy; None: now"""
    occupied: bool = True
    """whether somebody is assumed to live there, if it is a dwelling"""


@dataclass(frozen=True, slots=True)
class NewAlias(Input):
    """An alias of a place."""

    place: str
    """id or label"""
    scheme: str
    value: str
    since: int | None = None
    until: int | None = None
    note: str = ""
    ends: bool = False
    """the alias ends at `until`, or now if that is None"""
    part: str = ""
    """type of a lot in which nobody lives: a cellar, a parking space"""


@dataclass(frozen=True, slots=True)
class NewOccupancy(Input):
    """One notice about who lives in a dwelling from when to when."""

    event: str
    """`move_in`, `move_out` (at `until`), `correct` (each date that is given), or `lease`: a row of
    the manager's list, which states a whole lease, past, present or future
    """
    place: str = ""
    """id or label; may be empty if `id` is given"""
    id: str | None = None
    """`H…`, minted elsewhere; None: mint one, or find it"""
    since: int | None = None
    until: int | None = None
    reference: str | None = None
    stays: bool = False
    """of a correction: the occupants have not moved out"""


@dataclass(frozen=True, slots=True)
class NewInstallation(Input):
    """A meter that measures a place."""

    place: str
    """id or label"""
    device: str | None = None
    serial: str | None = None
    channel: str | None = EVERY_CHANNEL
    since: int | None = None
    multiplier: Decimal | None = None
    offset: Decimal | None = None
    index: Mapping[str, Decimal] | None = None
    """what the meter showed at `since`, by channel"""


@dataclass(frozen=True, slots=True)
class NewExchange(Input):
    """A meter was replaced or removed."""

    place: str
    old: str | None = None
    """serial number or device name; None: the only meter there"""
    channel: str | None = None
    """selects among several meters there"""
    device: str | None = None
    """of the new meter; None: the same device name"""
    serial: str | None = None
    """of the new meter; None: the first number that its device reports"""
    at: int | None = None
    closing: Mapping[str, Decimal] | None = None
    """last index of the old meter by channel; None: not known"""
    opening: Mapping[str, Decimal] | None = None
    multiplier: Decimal | None = None
    """None: the old meter's"""
    offset: Decimal | None = None
    """None: nothing is added to the new meter's index"""
    last: Mapping[str, LastReading] | None = None
    """the old meter's last readings by channel, as far as the gateway knows"""
    followed: bool = True
    """whether there is a new meter; False: the old one was removed"""
    never: bool = False
    """the meter never measured this place: the assignment was wrong from the beginning"""


@dataclass(frozen=True, slots=True)
class NewMultiplier(NewExchange):
    """The multiplier of a meter was wrong; `never`: from the beginning, else until `at`."""

    every: tuple[str, ...] = ()
    """all channels of its device; empty: not known"""


@dataclass(frozen=True, slots=True)
class NewConsent(Input):
    """A consent of the occupants of one dwelling."""

    place: str
    """id or label; may be empty if `occupancy` is given"""
    recipient: str
    """DNS name"""
    channels: tuple[str, ...]
    step: int
    """finest step in seconds"""
    purpose: str
    """exactly one"""
    since: int | None = None
    """None: now"""
    until: int | None = None
    """None: 36 months after the signature, the longest possible time"""
    occupancy: str | None = None
    """`H…`; None: the occupancy at `since`"""
    id: str | None = None
    """id of the signed object; None: draw one"""
    given: int | None = None
    """when it was signed; None: now"""
    method: str = ""
    proof: str = ""
    lease: str | None = None
    """reference of the lease, or `H…`, of those who signed; None: the occupancy at `since`"""
    after: tuple[str, ...] = ()
    """mark of the last withdrawal that the occupants knew of"""
    withdrawals: tuple[str, ...] = ()
    """numbers of the issuer's own withdrawals that were known as well"""
    replaces: str | None = None
    """id of the consent that ends where this one begins; `any`: whichever conflicts with it"""
    configured: frozenset[str] = frozenset()
    """recipients in the configuration"""


@dataclass(frozen=True, slots=True)
class NewWithdrawal(Input):
    """A withdrawal or refusal of the occupants of one dwelling."""

    id: str | None = None
    """one consent; None: all that the other members select"""
    place: str = ""
    recipient: str | None = None
    purpose: str | None = None
    channels: tuple[str, ...] = ()
    """only these; empty: all"""
    occupancy: str | None = None
    """`H…`, as in a signed object"""
    number: str = ""
    """number of the signed object"""
    refused: bool = False
    """a request was refused"""
    configured: frozenset[str] = frozenset()
    """recipients in the configuration"""


@dataclass(frozen=True, slots=True)
class NewAnswer(Input):
    """A consent form with its answers."""

    form: str
    """its number"""
    answers: tuple[str, ...]
    """for each box `yes`, `no` or empty"""
    signed: int | None
    method: str = ""
    proof: str = ""
    place: str = ""
    """dwelling according to the row; empty: not given"""


@dataclass(frozen=True, slots=True)
class NewDuty(Input):
    """What the building manager must or may receive of all dwellings."""

    recipient: str
    reference: str
    channels: tuple[str, ...]
    since: int | None = None
    until: int | None = None
    billing: tuple[str, ...] = ()
    """days of the year, as people write them"""
    id: str | None = None
    """id of the signed object; None: draw one"""
    configured: frozenset[str] = frozenset()
    """recipients in the configuration"""


class FactorResult(NamedTuple):
    """What a comparison has shown about the factor of a meter; see `FactorProof`."""

    meter: Installation
    channel: str
    method: str
    factor: Decimal
    excludes: Decimal
    point: str
    evidence: str
