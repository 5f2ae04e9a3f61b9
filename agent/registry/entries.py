"""What people ask the registry to record: one row each, as they wrote it, with its line."""

from __future__ import annotations

from dataclasses import dataclass

EVERY_CHANNEL = None


@dataclass(frozen=True, slots=True)
class NewPlace:
    """A place and its label."""

    label: str
    type: str
    """dwelling, common or building, as people write it"""
    id: str | None = None
    """already minted elsewhere; None: mint one"""
    since: int | None = None
    """when its present occupancy began; None: now"""
    where: str = ""
    """`places.csv:17`; empty: a command's own words"""
    fault: str = ""
    """what the reader of the file found wrong with this row, for people"""


@dataclass(frozen=True, slots=True)
class NewInstallation:
    """A meter in a place."""

    place: str
    """id or label"""
    device: str | None = None
    serial: str | None = None
    channel: str | None = EVERY_CHANNEL
    since: int | None = None
    where: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class NewConsent:
    """What the people of one dwelling agreed to."""

    place: str
    """id or label"""
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
    """None: 36 months after `since`, which is the most"""
    where: str = ""
    fault: str = ""
