"""Checks of the single fields of a row.

Each function returns the field in its canonical form, or raises Refused or ValueError with a
message for the person who wrote it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.core.channels import channels as known_channels
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import _
from agent.core.model import ValueKind
from agent.registry.dates import DAY, MONTH, months_later
from agent.registry.facts.declaration import number
from agent.registry.facts.meter import MOST
from agent.registry.problems import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from agent.registry.consent_policy import Policy

LONGEST_LABEL = 80
LONGEST_WORD = 200
LONGEST_CONSENT = 36
"""months from the signature (rule P5)"""
CLOCKS_DIFFER = 300
"""seconds by which the time of a signature may be ahead of the gateway's clock"""
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
    """A text that is printable, not empty and not too long."""
    stripped = given.strip()
    if not stripped:
        raise Refused(f"{name}: it is empty")
    # a control character would change what terminals and logs show
    if len(stripped) > longest or not stripped.isprintable():
        raise Refused(f"{name}: more than {longest} characters, or one that cannot be printed")
    return stripped


def prefix(written: str) -> str:
    """The first letter of an id for a type of place as people write it."""
    if not written.strip():
        raise Refused("type: it is empty; of merged cells only the first row has the value")
    first = TYPES.get(written.strip().casefold())
    if first is None:
        types = ", ".join(name for name in TYPES if len(name) > 1)
        raise Refused(
            _('type: "{word}" is not one of {types}', word=written, types=types)
            + did_you_mean(written, TYPES)
        )
    return first


def channel(name: str) -> str:
    """The name of an existing channel."""
    if name not in known_channels():
        raise Refused(
            f'channel: there is no channel "{name}"{did_you_mean(name, known_channels())}'
        )
    return name


def channels(names: Sequence[str]) -> tuple[str, ...]:
    """Names of existing channels, sorted, each once; at least one."""
    if not names:
        raise Refused("channels: name each of them, one by one")
    return tuple(sorted({channel(name) for name in names}))


def personal(names: Sequence[str]) -> tuple[str, ...]:
    """Channels that the catalogue explains: no other channel of a dwelling ever leaves."""
    for name in channels(names):
        if known_channels()[name].en is None:
            raise Refused(f"channels: {name} of a dwelling never leaves: no consent is needed")
    return channels(names)


def registers(names: Sequence[str]) -> tuple[str, ...]:
    """Channels that are cumulative indexes: a duty covers nothing else."""
    for name in channels(names):
        if known_channels()[name].kind is not ValueKind.REG:
            raise Refused(f"channels: {name} is not an index, and a duty covers indexes only")
    return channels(names)


def recipient(name: str) -> str:
    """A DNS name, in lower case."""
    lower = name.strip().casefold()
    if not DNS_NAME.fullmatch(lower):
        raise Refused(f'recipient: "{name}" is not a DNS name such as energie.metropole.example')
    return lower


def step(step: int, policy: Policy) -> int:
    """A step in seconds that the policy allows: a part of a day, DAY or MONTH."""
    if step > DAY and step != MONTH:
        raise Refused(f"step: {step} s is neither a day, nor part of one, nor a month")
    if step < policy.floor:
        raise Refused(
            f"step: {step} s is finer than the {policy.floor} s that policy {policy.name} allows"
        )
    return step


def until(until: int | None, since: int, signed: int) -> int:
    """The end of a consent that begins at `since` and was signed at `signed`; None: the latest
    possible end.
    """
    latest = months_later(signed, LONGEST_CONSENT)
    if latest <= since:
        raise Refused(
            _(
                "given: the consent was signed on {signed} and ended on {latest}, since a"
                " consent lasts {months} months at most. It was not recorded; remove it"
                " from the list, or have a new one signed",
                months=LONGEST_CONSENT, signed=stamp(signed), latest=stamp(latest),
            )
        )  # fmt: skip
    if until is None:
        return latest
    if not since < until <= latest:
        raise Refused(
            f"until: {stamp(until)} is not between {stamp(since)} and {stamp(latest)}: "
            f"a consent lasts {LONGEST_CONSENT} months at most, counted from its signature"
        )
    return until


def index(written: str, name: str) -> Decimal:
    """What a meter shows, with a decimal point or comma."""
    value = number(written)
    if value is None or not 0 <= value < MOST:
        zeros = "; it has a letter O where a zero belongs" if "O" in written.upper() else ""
        raise Refused(f'{name}: "{written}" is not what a meter shows, such as 8412.5{zeros}')
    return value
