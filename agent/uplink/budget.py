"""What a schedule needs of a metered line, and how far it must be stretched to fit. Pure.

Bytes as the line counts them: both directions, TLS, TCP and IP headers and acknowledgements too.
The constants were measured with `python -m bench.volume` (design note 025); what they give is an
estimate, 10 % too low to 25 % too high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from agent.i18n import _
from agent.settings import shown, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DAY, MONTH = 86_400.0, 30.5
SEGMENT, HEADERS = 1_400, 52
"""bytes of payload in a TCP segment of a mobile line, and of its IP and TCP headers"""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one transport needs, in bytes."""

    batch: int
    """of a batch without rows, compressed"""
    dwelling: float
    """of the first row of a dwelling in a batch: its ids are random"""
    device: float
    """of the first row of each further device"""
    series: float
    """of the first row of each further series of a device"""
    row: float
    """of each further row of an index"""
    momentary: float
    """of each further row of a momentary value or a mean, whose digits are random"""
    exchange: int
    """of sending a batch, beside its payload: topic or request, receipt, TLS and TCP"""
    sign: int
    """of a keep-alive, or a look for objects, with its answer"""
    status: int
    """of one report on the state of the gateway"""
    opening: int
    """of a new connection"""


COSTS: Mapping[str, Costs] = {
    "mqtt": Costs(310, 48, 17, 8.5, 3.3, 4.6, 870, 210, 1_400, 7_500),
    "https": Costs(310, 48, 17, 8.5, 3.3, 4.6, 980, 560, 1_900, 6_700),
    "files": Costs(1_510, 51, 20, 13.2, 12.6, 13.2, 4_300, 1_270, 5_400, 6_000),
}
"""measured with `python -m bench.volume`"""
OPENINGS = 2
"""connections a day that are made anew, since they broke"""
KEPT_OPEN = 75.0
"""seconds after which an HTTPS server closes an idle connection (nginx: keepalive_timeout)"""
STATUS_EVERY = 900.0
LONGEST_UNASKED = 900.0
"""seconds for which an HTTPS platform's answers to batches stand for looks for objects"""
MARGIN = 0.85
"""of what is allowed is planned for: lines break, and platforms ask again"""
SEALS = (120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 43_200.0, 86_400.0)
KEEPALIVES = (60.0, 120.0, 300.0, 600.0, 1200.0)
LOOKS = (1800.0, 3600.0)
"""further intervals between two looks for objects, over HTTPS and by files"""
RARE_LOOKS = (7200.0, 14_400.0)
"""the same, where nothing else fits: a withdrawal may take so long to arrive"""


def allowance(text: object) -> int:
    """Bytes of `50MB/month`. Raises ValueError in words for people."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    number, _slash, per = text.partition("/") if isinstance(text, str) else ("", "", "")
    if per.strip() != "month":
        raise ValueError(
            _("expected what the line may move, such as 50MB/month, found {text}", text=shown(text))
        )
    return size(number.strip())


Allowance = Annotated[int, BeforeValidator(allowance, json_schema_input_type=str)]
"""bytes a month; written `50MB/month`"""


@dataclass(frozen=True, slots=True)
class ReadStream:
    """What is read at one step."""

    step: int
    """seconds"""
    dwellings: int
    """that have a value at this step"""
    devices: int
    """of dwellings and others that have one"""
    values: int
    """of all these devices together"""
    momentary: int = 0
    """of these values, those that are no index"""
    takes: float = 0.0
    """seconds that reading all of them once takes"""


@dataclass(frozen=True, slots=True)
class UplinkLoad:
    """What an uplink carries, and how."""

    transport: str
    streams: tuple[ReadStream, ...]
    seal: float
    keepalive: float
    """seconds between two signs of life, or two looks for what the platform has for us"""


def rows_a_day(load: UplinkLoad) -> float:
    """Values read in a day."""
    return sum(of.values * DAY / of.step for of in load.streams)


def batches_a_day(load: UplinkLoad) -> float:
    """Batches in a day: one an interval, where there is something in it.

    A round of reading makes one batch, and one more for each moment of sealing within it.
    """
    rounds = _moments(frozenset(of.step for of in load.streams))
    crossed = sum(DAY / of.step * min(of.takes, of.step) / load.seal for of in load.streams)
    return min(DAY / load.seal, rounds + crossed)


@cache
def _moments(steps: frozenset[int]) -> int:
    """At how many moments of a day something is read."""
    return len({slot for step in steps for slot in range(0, int(DAY), step)})


def a_month(load: UplinkLoad) -> int:
    """Bytes in a month of 30.5 days."""
    costs, batches = COSTS[load.transport], batches_a_day(load)
    payload = batches * costs.batch + sum(_payload(of, batches, costs) for of in load.streams)
    segments = payload / SEGMENT * HEADERS
    signs = signs_a_day(load) * costs.sign
    status = costs.status * DAY / status_every(load.seal)
    openings = openings_a_day(load) * costs.opening
    return int(MONTH * (payload + segments + batches * costs.exchange + signs + status + openings))


def _payload(of: ReadStream, batches: float, costs: Costs) -> float:
    """Bytes a day of the rows of one step."""
    times = min(batches, DAY / of.step)
    first = (
        of.dwellings * costs.dwelling
        + (of.devices - of.dwellings) * costs.device
        + (of.values - of.devices) * costs.series
    )
    further = (of.values - of.momentary) * costs.row + of.momentary * costs.momentary
    return times * first + (DAY / of.step - times) * further


def signs_a_day(load: UplinkLoad) -> float:
    """Keep-alives, or looks for objects, in a day: a batch may stand for them."""
    if not load.keepalive:
        return 0.0
    most = DAY / load.keepalive
    if load.transport == "files":
        return most
    between = DAY / max(1.0, batches_a_day(load))
    if load.transport == "mqtt":  # sent where nothing else was sent for so long
        return max(0.0, math.ceil(between / load.keepalive) - 1) * DAY / between
    few = min(most, DAY / LONGEST_UNASKED)
    if abs(between - load.keepalive) < 1:  # both fall due at once, and now one, now the other goes
        return (most + few) / 2
    return few if between < load.keepalive else most


def openings_a_day(load: UplinkLoad) -> float:
    """Connections made anew in a day."""
    batches, signs = batches_a_day(load), signs_a_day(load)
    idle = DAY / max(1.0, batches, signs)
    if load.transport == "https" and idle > KEPT_OPEN:
        return OPENINGS + batches + signs
    return OPENINGS


def status_every(seal: float) -> float:
    """Seconds between two reports of a gateway without news."""
    return max(STATUS_EVERY, 12 * seal)


def stretched(
    load: UplinkLoad, budget: int, longest_keepalive: float = KEEPALIVES[-1]
) -> UplinkLoad | None:
    """The liveliest schedule that fits into so many bytes a month; None if none does.

    A longer keep-alive comes before a longer seal interval: it costs nobody a minute of delay.
    """
    return next(
        (one for one in _ever_slower(load, longest_keepalive) if a_month(one) <= budget * MARGIN),
        None,
    )


def slowest(load: UplinkLoad, longest_keepalive: float = KEEPALIVES[-1]) -> UplinkLoad:
    """The schedule that needs least, for a budget into which none fits."""
    return min(_ever_slower(load, longest_keepalive), key=a_month)


def slowed(seal: float, used: int, budget: int, share: float) -> float:
    """The seal interval when `used` of the budget is gone after `share` of the month, in [0, 1].

    What is left must last: ahead of the plan by a tenth, it goes more slowly by as much as it is
    ahead; all gone, once a day.
    """
    if used >= budget:
        return max(seal, SEALS[-1])
    ahead = used / (budget * max(share, 0.03))
    return min(max(seal, SEALS[-1]), seal * ahead * ahead) if ahead > 1.1 else seal  # noqa: PLR2004


def spare(size: int, used: int, budget: int, share: float) -> bool:
    """Whether so many bytes that are not planned for may go, after `share` of the month.

    Not where what is planned would have to slow down for them; early in the month a tenth of it.
    """
    whole = size * (1 + HEADERS / SEGMENT) + COSTS["files"].exchange
    return used + whole <= budget * min(1.0, share + 0.1)


def _ever_slower(load: UplinkLoad, longest: float) -> Iterator[UplinkLoad]:
    seals = [load.seal, *(seal for seal in SEALS if seal > load.seal)]
    looks = load.transport != "mqtt"
    usual = [one for one in KEEPALIVES if one <= longest] + list(LOOKS if looks else ())
    for keepalives in (usual, RARE_LOOKS if looks else ()):
        alive = [one for one in keepalives if one > load.keepalive] if load.keepalive else []
        if keepalives is usual:
            alive.insert(0, load.keepalive)
        for seal in seals:
            for keepalive in alive:
                yield replace(load, seal=seal, keepalive=keepalive)
