"""Which new meter may have taken a silent one's place: said only where there is no choice. Pure."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

PATIENCE = 86_400.0
"""seconds of silence after which a meter that is addressed by its number is looked for"""


class Silent(NamedTuple):
    """A meter that does not answer now."""

    number: str
    label: str | None
    """of the place that it measures"""
    kind: str
    """its profile: a heat meter is not replaced by a water meter"""
    since: float
    """wall time of its last answer"""


class New(NamedTuple):
    """A meter on the line that nobody has configured."""

    kind: str
    about: str
    """`45999001, heat, 0.012 MWh`"""


def proposals(
    silent: Sequence[Silent], new: Sequence[New], now: float, zone: ZoneInfo
) -> list[str]:
    """What a person is asked, for each kind of meter of which one has been silent long enough.

    Every meter of the kind that is silent now counts, however short: it may be the one.
    """
    said = []
    for kind in dict.fromkeys(one.kind for one in silent if now - one.since >= PATIENCE):
        lost = [one for one in silent if one.kind == kind]
        found = [one for one in new if one.kind == kind]
        if not found:
            continue
        names, there = _list([_name(one) for one in lost]), _list([one.about for one in found])
        if len(lost) == len(found) == 1:
            since = dt.datetime.fromtimestamp(lost[0].since, zone)
            said.append(
                f"{names} silent since {since:%a %H:%M}; new on the line: {there}. Exchange?"
            )
        else:
            said.append(
                f"{names} silent; new on the line: {there}. Which took whose place only the plates"
                " can tell"
            )
    return said


def _name(one: Silent) -> str:
    return f"{one.number} ({one.label})" if one.label else one.number


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, ["; ".join(names[:-1]), names[-1]]))
