"""Proposes which new meter may have replaced a silent one. Pure.

A pair is named only if there is one silent and one new meter of a kind.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

PATIENCE = 86_400.0
"""seconds of silence after which a meter that is addressed by its number is considered missing"""


class Silent(NamedTuple):
    """A meter that does not answer at present."""

    number: str
    label: str | None
    """label of the place that it measures"""
    kind: str
    """its profile: a heat meter is not replaced by a water meter"""
    since: float
    """wall time of its last answer"""


class New(NamedTuple):
    """A meter on the line that is not configured."""

    kind: str
    about: str
    """`45999001, heat, 0.012 MWh`"""


def proposals(
    silent: Sequence[Silent], new: Sequence[New], now: float, zone: ZoneInfo
) -> list[str]:
    """One question for each kind of meter of which one has been silent long enough.

    All silent meters of the kind count, even those that are silent for a short time: each may be
    the one that was replaced.
    """
    questions = []
    for kind in dict.fromkeys(meter.kind for meter in silent if now - meter.since >= PATIENCE):
        lost = [meter for meter in silent if meter.kind == kind]
        candidates = [meter for meter in new if meter.kind == kind]
        if not candidates:
            continue
        names = _list([_name(meter) for meter in lost])
        there = _list([meter.about for meter in candidates])
        if len(lost) == len(candidates) == 1:
            since = dt.datetime.fromtimestamp(lost[0].since, zone)
            questions.append(
                f"{names} silent since {since:%a %H:%M}; new on the line: {there}. Exchange?"
            )
        else:
            questions.append(
                f"{names} silent; new on the line: {there}. Read their type plates to see which"
                " meter replaced which"
            )
    return questions


def _name(meter: Silent) -> str:
    return f"{meter.number} ({meter.label})" if meter.label else meter.number


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, ["; ".join(names[:-1]), names[-1]]))
