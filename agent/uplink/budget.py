"""Data budget: the bytes that a schedule needs on a metered line, and a schedule that fits. Pure.

Bytes are those that the line bills: both directions, with TLS, TCP and IP headers and
acknowledgements. The constants were measured with `python -m bench.volume` (decision 025). The
result is an estimate, between 10 % too low and 25 % too high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from agent.core.i18n import Text
from agent.core.settings import shown, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DAY, MONTH = 86_400.0, 30.5
SEGMENT, HEADERS = 1_400, 52
"""bytes of payload in a TCP segment on a mobile line, and of its IP and TCP headers"""


@dataclass(frozen=True, slots=True)
class Costs:
    """The data that one transport needs, in bytes."""

    batch: int
    """a batch without rows, compressed"""
    dwelling: float
    """first row of a dwelling in a batch, whose ids are random"""
    device: float
    """first row of each further device"""
    series: float
    """first row of each further series of a device"""
    row: float
    """each further row of an index"""
    momentary: float
    """each further row of an instant or a mean, whose digits are random"""
    exchange: int
    """sending a batch, without its payload: topic or request, receipt, TLS and TCP"""
    sign: int
    """a keep-alive, or a poll for objects, with its answer"""
    status: int
    """one status document"""
    opening: int
    """a new connection"""


COSTS: Mapping[str, Costs] = {
    "mqtt": Costs(310, 48, 17, 8.5, 3.3, 4.6, 870, 210, 1_400, 7_500),
    "https": Costs(310, 48, 17, 8.5, 3.3, 4.6, 980, 560, 1_900, 6_700),
    "files": Costs(1_510, 51, 20, 13.2, 12.6, 13.2, 4_300, 1_270, 5_400, 6_000),
}
"""measured with `python -m bench.volume`"""
OPENINGS = 2
"""connections a day that are lost and opened again"""
KEPT_OPEN = 75.0
"""seconds after which an HTTPS server closes an idle connection (nginx: keepalive_timeout)"""
STATUS_EVERY = 900.0
LONGEST_UNASKED = 900.0
"""seconds for which answers of an HTTPS platform to batches replace polls for objects"""
MARGIN = 0.85
"""share of the budget that is planned for; the rest is for lost connections and repeated
requests"""
SEALS = (120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 43_200.0, 86_400.0)
KEEPALIVES = (60.0, 120.0, 300.0, 600.0, 1200.0)
LOOKS = (1800.0, 3600.0)
"""further poll intervals of HTTPS and files, in seconds"""
RARE_LOOKS = (7200.0, 14_400.0)
"""poll intervals if nothing else fits: a withdrawal may take so long to arrive"""


def allowance(text: object) -> int:
    """Bytes of `50MB/month`. Raises ValueError with a message for people."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    number, _slash, per = text.partition("/") if isinstance(text, str) else ("", "", "")
    if per.strip() != "month":
        raise ValueError(
            Text("expected a data volume such as 50MB/month, found {text}", text=shown(text))
        )
    return size(number.strip())


Allowance = Annotated[int, BeforeValidator(allowance, json_schema_input_type=str)]
"""bytes a month; written `50MB/month`"""


@dataclass(frozen=True, slots=True)
class ReadStream:
    """The values that are read with one step."""

    step: int
    """seconds"""
    dwellings: int
    """dwellings with a value at this step"""
    devices: int
    """devices with a value at this step, in dwellings and elsewhere"""
    values: int
    """values of all these devices"""
    momentary: int = 0
    """of these values, instants and means"""
    takes: float = 0.0
    """seconds to read all of them once"""


@dataclass(frozen=True, slots=True)
class UplinkLoad:
    """The values that an uplink carries, and its intervals."""

    transport: str
    streams: tuple[ReadStream, ...]
    seal: float
    keepalive: float
    """seconds between two keep-alives, or two polls for objects"""


def rows_a_day(load: UplinkLoad) -> float:
    """Values read in a day."""
    return sum(of.values * DAY / of.step for of in load.streams)


def batches_a_day(load: UplinkLoad) -> float:
    """Batches in a day: one for each interval with values.

    A round of reading makes one batch, and one more for each seal during the round.
    """
    rounds = _moments(frozenset(of.step for of in load.streams))
    crossed = sum(DAY / of.step * min(of.takes, of.step) / load.seal for of in load.streams)
    return min(DAY / load.seal, rounds + crossed)


@cache
def _moments(steps: frozenset[int]) -> int:
    """The number of times in a day at which something is read."""
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
    """Bytes a day for the rows of one step."""
    times = min(batches, DAY / of.step)
    first = (
        of.dwellings * costs.dwelling
        + (of.devices - of.dwellings) * costs.device
        + (of.values - of.devices) * costs.series
    )
    further = (of.values - of.momentary) * costs.row + of.momentary * costs.momentary
    return times * first + (DAY / of.step - times) * further


def signs_a_day(load: UplinkLoad) -> float:
    """Keep-alives or polls for objects in a day; a batch may replace one."""
    if not load.keepalive:
        return 0.0
    most = DAY / load.keepalive
    if load.transport == "files":
        return most
    between = DAY / max(1.0, batches_a_day(load))
    if load.transport == "mqtt":  # sent only after a pause of that length
        return max(0.0, math.ceil(between / load.keepalive) - 1) * DAY / between
    fewest = min(most, DAY / LONGEST_UNASKED)
    if (
        abs(between - load.keepalive) < 1
    ):  # both are due at the same time: half of the polls are needed
        return (most + fewest) / 2
    return fewest if between < load.keepalive else most


def openings_a_day(load: UplinkLoad) -> float:
    """New connections in a day."""
    batches, signs = batches_a_day(load), signs_a_day(load)
    idle = DAY / max(1.0, batches, signs)
    if load.transport == "https" and idle > KEPT_OPEN:
        return OPENINGS + batches + signs
    return OPENINGS


def status_every(seal: float) -> float:
    """Seconds between two status documents without changes."""
    return max(STATUS_EVERY, 12 * seal)


def stretched(
    load: UplinkLoad, budget: int, longest_keepalive: float = KEEPALIVES[-1]
) -> UplinkLoad | None:
    """The fastest schedule that fits into so many bytes a month; None if none does.

    The keep-alive is made longer before the seal interval, because that delays no reading.
    """
    return next(
        (
            candidate
            for candidate in _slower_schedules(load, longest_keepalive)
            if a_month(candidate) <= budget * MARGIN
        ),
        None,
    )


def slowest(load: UplinkLoad, longest_keepalive: float = KEEPALIVES[-1]) -> UplinkLoad:
    """The schedule that needs the fewest bytes, for a budget that is too small for any."""
    return min(_slower_schedules(load, longest_keepalive), key=a_month)


def slowed(seal: float, used: int, budget: int, share: float) -> float:
    """The seal interval when `used` bytes are used after `share` of the month, in [0, 1].

    If usage is more than a tenth ahead of the plan, the interval grows with its square. If the
    budget is used up, batches are sealed once a day.
    """
    if used >= budget:
        return max(seal, SEALS[-1])
    # on the first day of a month the share is nearly 0: any use would look far ahead of the plan
    ahead = used / (budget * max(share, 0.03))
    return min(max(seal, SEALS[-1]), seal * ahead * ahead) if ahead > 1.1 else seal  # noqa: PLR2004


def spare(size: int, used: int, budget: int, share: float) -> bool:
    """Whether `size` unplanned bytes may be sent after `share` of the month.

    They may if the schedule need not slow down for them; early in the month, up to a tenth of the
    budget.
    """
    whole = size * (1 + HEADERS / SEGMENT) + COSTS["files"].exchange
    return used + whole <= budget * min(1.0, share + 0.1)


def _slower_schedules(load: UplinkLoad, longest: float) -> Iterator[UplinkLoad]:
    seals = [load.seal, *(seal for seal in SEALS if seal > load.seal)]
    looks = load.transport != "mqtt"
    usual = [candidate for candidate in KEEPALIVES if candidate <= longest] + list(
        LOOKS if looks else ()
    )
    for keepalives in (usual, RARE_LOOKS if looks else ()):
        alive = (
            [candidate for candidate in keepalives if candidate > load.keepalive]
            if load.keepalive
            else []
        )
        if keepalives is usual:
            alive.insert(0, load.keepalive)
        for seal in seals:
            for keepalive in alive:
                yield replace(load, seal=seal, keepalive=keepalive)
