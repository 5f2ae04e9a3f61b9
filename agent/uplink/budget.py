"""What a schedule needs of a metered line, and how far it must be stretched to fit. Pure.

Bytes as the line counts them: both directions, TLS, TCP and IP headers and acknowledgements too.
The constants were measured on batches of ours (design note 025); what they give is an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from agent.settings import shown, size
from agent.words import _

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DAY, MONTH = 86_400.0, 30.5
HEAD = 310
"""bytes of a batch without rows, compressed"""
PER_SERIES = 48
"""bytes of a series in a batch, compressed: its ids are random"""
PER_ROW = 6.5
"""bytes of a further row of a series in a batch, compressed"""
SEGMENT, HEADERS = 1_400, 52
SIGNS: Mapping[str, int] = {"mqtt": 270, "https": 700, "files": 900}
"""bytes of one sign of life: a keep-alive, or a look for objects, with its answer"""
HANDSHAKES = 2 * 6_000
"""bytes a day of connections made anew"""
STATUS: Mapping[str, int] = {"mqtt": 1_900, "https": 2_500, "files": 7_000}
"""bytes of one report on how the gateway is"""
STATUS_EVERY = 900.0
EXCHANGE: Mapping[str, int] = {"mqtt": 900, "https": 1_050, "files": 5_000}
"""bytes of sending one batch beside its payload, with its receipt"""
ROUNDS = 2
"""batches that one reading round makes, as it crosses a moment of sealing"""
MARGIN = 0.85
"""of what is allowed is planned for: lines break, and platforms ask again"""
SEALS = (120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 43_200.0, 86_400.0)
KEEPALIVES = (60.0, 120.0, 300.0, 600.0, 1200.0)


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
class Load:
    """What an uplink carries, and how."""

    transport: str
    series: Mapping[int, int]
    """how many values are read at each step, in seconds"""
    seal: float
    keepalive: float
    """seconds between two signs of life, or two looks for what the platform has for us"""


def rows_a_day(load: Load) -> float:
    """Values read in a day."""
    return sum(number * DAY / step for step, number in load.series.items())


def batches_a_day(load: Load) -> float:
    """Batches in a day: one an interval, where there is something in it."""
    moments = sum(DAY / step for step in load.series)
    return min(DAY / load.seal, ROUNDS * moments)


def a_month(load: Load) -> int:
    """Bytes in a month of 30.5 days."""
    batches, rows = batches_a_day(load), rows_a_day(load)
    series = sum(number * min(batches, DAY / step) for step, number in load.series.items())
    payload = batches * HEAD + series * PER_SERIES + max(0.0, rows - series) * PER_ROW
    segments = payload / SEGMENT * HEADERS
    exchange = batches * EXCHANGE.get(load.transport, max(EXCHANGE.values()))
    signs = SIGNS.get(load.transport, 0) * DAY / load.keepalive if load.keepalive else 0.0
    status = STATUS.get(load.transport, 0) * DAY / status_every(load.seal)
    return int(MONTH * (payload + segments + exchange + signs + status + HANDSHAKES))


def status_every(seal: float) -> float:
    """Seconds between two reports of a gateway without news."""
    return max(STATUS_EVERY, 12 * seal)


def stretched(load: Load, budget: int, longest_keepalive: float = KEEPALIVES[-1]) -> Load | None:
    """The liveliest schedule that fits into so many bytes a month; None if none does.

    A longer keep-alive comes before a longer seal interval: it costs nobody a minute of delay.
    """
    return next(
        (one for one in _ever_slower(load, longest_keepalive) if a_month(one) <= budget * MARGIN),
        None,
    )


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
    whole = size * (1 + HEADERS / SEGMENT) + EXCHANGE["files"]
    return used + whole <= budget * min(1.0, share + 0.1)


def _ever_slower(load: Load, longest: float) -> Iterator[Load]:
    seals = [load.seal, *(seal for seal in SEALS if seal > load.seal)]
    alive = [load.keepalive]
    if load.keepalive:
        alive += [one for one in KEEPALIVES if load.keepalive < one <= longest]
    for seal in seals:
        for keepalive in alive:
            yield replace(load, seal=seal, keepalive=keepalive)
