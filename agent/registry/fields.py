"""What each field of a row must be, in words for the person who wrote it.

Each function returns the field in its one form, or raises Refused or ValueError.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.channels import channels as known_channels
from agent.clock import stamp
from agent.errors import Refused
from agent.registry.dates import months_later
from agent.registry.problems import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.registry.gate import Policy

LONGEST_LABEL = 80
LONGEST_WORD = 200
LONGEST_CONSENT = 36
"""months (domain.md 2.2)"""
DNS_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9-]{1,63}")
TYPES = {
    "dwelling": "D",
    "logement": "D",
    "appartement": "D",
    "d": "D",
    "common": "C",
    "commun": "C",
    "partie commune": "C",
    "parties communes": "C",
    "c": "C",
    "building": "B",
    "bâtiment": "B",
    "batiment": "B",
    "immeuble": "B",
    "b": "B",
}


def text(given: str, name: str, longest: int) -> str:
    """Let any printable text pass that is not empty."""
    stripped = given.strip()
    if not stripped:
        raise Refused(f"{name}: it is empty")
    if len(stripped) > longest or not stripped.isprintable():
        raise Refused(f"{name}: more than {longest} characters, or one that cannot be printed")
    return stripped


def prefix(word: str) -> str:
    """Find the first letter of an id for a type as people write it."""
    first = TYPES.get(word.strip().casefold())
    if first is None:
        raise Refused(f'type: "{word}" is not a type{did_you_mean(word, TYPES)}')
    return first


def channel(name: str) -> str:
    """Let the name of a channel pass that exists."""
    if name not in known_channels():
        raise Refused(
            f'channel: there is no channel "{name}"{did_you_mean(name, known_channels())}'
        )
    return name


def channels(names: Sequence[str]) -> tuple[str, ...]:
    """Let names of channels pass, each once."""
    if not names:
        raise Refused("channels: a consent names its channels, one by one")
    return tuple(sorted({channel(name) for name in names}))


def recipient(name: str) -> str:
    """Let a DNS name pass, in lower case."""
    lower = name.strip().casefold()
    if not DNS_NAME.fullmatch(lower):
        raise Refused(f'recipient: "{name}" is no DNS name such as energie.metropole.example')
    return lower


def step(step: int, policy: Policy) -> int:
    """Let a step in seconds pass that the policy allows."""
    if step < policy.floor:
        raise Refused(
            f"step: {step} s is finer than the {policy.floor} s that policy {policy.name} allows"
        )
    return step


def until(until: int | None, since: int) -> int:
    """End a consent that begins at `since`; None: as late as it may."""
    latest = months_later(since, LONGEST_CONSENT)
    if until is None:
        return latest
    if not since < until <= latest:
        raise Refused(
            f"until: {stamp(until)} is not between {stamp(since)} and {stamp(latest)}: "
            f"a consent lasts {LONGEST_CONSENT} months at most"
        )
    return until
