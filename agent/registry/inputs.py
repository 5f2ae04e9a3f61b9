"""What people ask the registry to record: one row each, as they wrote it, with its line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

EVERY_CHANNEL = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What every row has."""

    where: str = ""
    """`places.csv:17`; empty: a command's own words"""
    fault: str = ""
    """what the reader of the file found wrong with this row, for people"""


@dataclass(frozen=True, slots=True)
class NewPlace(Input):
    """A place and its label."""

    label: str
    type: str
    """dwelling, common or building, as people write it"""
    id: str | None = None
    """already minted elsewhere; None: mint one"""
    since: int | None = None
    """when its present occupancy began; None: now"""
    occupied: bool = True
    """whether somebody is taken to live there, if it is a dwelling"""


@dataclass(frozen=True, slots=True)
class NewAlias(Input):
    """Another system's name of a place."""

    place: str
    """id or label"""
    scheme: str
    value: str
    since: int | None = None
    until: int | None = None
    note: str = ""
    ends: bool = False
    """it holds until `until`, now if that is None, and no longer"""
    part: str = ""
    """what it is, of a lot that nobody lives in: a cellar, a parking space"""


@dataclass(frozen=True, slots=True)
class NewOccupancy(Input):
    """Who lives in a dwelling from when to when: what one notice says."""

    event: str
    """`move_in`, `move_out` (at `until`), `correct` (each end that is given), or `lease`: a row of
    the manager's own list, which states a lease as it stands, begun or ended before or not"""
    place: str = ""
    """id or label; may be empty where `id` is known"""
    id: str | None = None
    """`H…`, minted elsewhere; None: mint one, or find it"""
    since: int | None = None
    until: int | None = None
    reference: str | None = None
    stays: bool = False
    """of a correction: nobody has moved out, whatever was recorded"""


@dataclass(frozen=True, slots=True)
class NewInstallation(Input):
    """A meter in a place."""

    place: str
    """id or label"""
    device: str | None = None
    serial: str | None = None
    channel: str | None = EVERY_CHANNEL
    since: int | None = None
    multiplier: Decimal | None = None
    offset: Decimal | None = None
    index: Mapping[str, Decimal] | None = None
    """what it showed at `since`, by channel"""


@dataclass(frozen=True, slots=True)
class NewExchange(Input):
    """Another meter took the place of one, or none did."""

    place: str
    old: str | None = None
    """serial number or device; None: the only meter there"""
    channel: str | None = None
    """which of several meters there"""
    device: str | None = None
    """of the new meter; None: the old one's"""
    serial: str | None = None
    """of the new meter; None: what its device says first"""
    at: int | None = None
    closing: Mapping[str, Decimal] | None = None
    """what the old meter showed last, by channel; None: nobody knows"""
    opening: Mapping[str, Decimal] | None = None
    multiplier: Decimal | None = None
    """None: the old meter's"""
    offset: Decimal | None = None
    """None: nothing is added to what the new meter shows"""
    followed: bool = True
    """whether there is a new meter; False: the old one was taken away"""
    never: bool = False
    """it never measured this place: the assignment was wrong from its beginning"""


@dataclass(frozen=True, slots=True)
class NewConsent(Input):
    """What the people of one dwelling agreed to."""

    place: str
    """id or label; may be empty where `occupancy` is known"""
    recipient: str
    """DNS name"""
    channels: tuple[str, ...]
    step: int
    """seconds: the finest step agreed to"""
    purpose: str
    """exactly one"""
    since: int | None = None
    """None: now"""
    until: int | None = None
    """None: 36 months after the signature, which is the most"""
    occupancy: str | None = None
    """`H…`; None: who lives there at `since`"""
    id: str | None = None
    """of the signed object; None: draw one"""
    given: int | None = None
    """when the people said so; None: now"""
    method: str = ""
    proof: str = ""
    lease: str | None = None
    """the reference of the lease, or `H…`, of who signed; None: who lives there at `since`"""
    after: tuple[str, ...] = ()
    """the last withdrawal that was known when it was given, by its mark"""
    withdrawals: tuple[str, ...] = ()
    """numbers of the issuer's own that were known, too"""
    replaces: str | None = None
    """id of the consent that ends where this one begins; `any`: whichever stands against it"""


@dataclass(frozen=True, slots=True)
class NewWithdrawal(Input):
    """What the people of one dwelling no longer agree to."""

    id: str | None = None
    """one consent; None: all that the other words fit"""
    place: str = ""
    recipient: str | None = None
    purpose: str | None = None
    channels: tuple[str, ...] = ()
    """only these; none named: all"""
    occupancy: str | None = None
    """`H…`, of a signed object"""
    number: str = ""
    """of the signed object"""
    refused: bool = False
    """they were asked, and said no"""


@dataclass(frozen=True, slots=True)
class NewAnswer(Input):
    """A consent form that came back."""

    form: str
    """its number"""
    answers: tuple[str, ...]
    """of each box `yes`, `no` or empty"""
    signed: int | None
    method: str = ""
    proof: str = ""
    place: str = ""
    """whose it is by the row; empty: the row does not say"""


@dataclass(frozen=True, slots=True)
class NewDuty(Input):
    """What the building manager must or may have of all dwellings."""

    recipient: str
    reference: str
    channels: tuple[str, ...]
    since: int | None = None
    until: int | None = None
    billing: tuple[str, ...] = ()
    """days of the year, as people write them"""
    id: str | None = None
    """of the signed object; None: draw one"""
