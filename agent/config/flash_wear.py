"""Estimate what a schedule writes to the flash card, and how long a card lasts."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from agent.core.i18n import _
from agent.core.settings import written
from agent.drivers.base import Budgets

if TYPE_CHECKING:
    from agent.config.config import Config
    from agent.core.model import Point

DAY, YEAR = 86_400, 365
COMMIT = 15_000
"""bytes that one commit of a spool writes to the card. Measured on ext4: 9 kB with 2 rows, 19 kB
with 500; a batch of 50 rows and its receipt, which are two commits, 37 kB
"""
CARD, REWRITES, INSIDE = 8_000_000_000, 1_000, 10
"""a common small card: its bytes, how often each can be rewritten, and how many bytes it writes for
each byte that it receives; makers do not state the last, and ten is a cautious estimate
"""
LONG = 20
"""years, after which other parts fail first"""


def wear(config: Config) -> list[str]:
    """Lines on the bytes written a day and the life of a card; empty if nothing is stored."""
    commits = sum(_commits(config, uplink.settings.seal) for uplink in config.uplinks.values())
    if not commits:
        return []
    a_day = commits * COMMIT
    years = CARD * REWRITES / (a_day * INSIDE * YEAR)
    lasts = (
        _("over {number} years", number=LONG)
        if years > LONG
        else _("some {number:.2g} years", number=max(years, 0.1))
    )
    spares = _("a `flush` over {flush} makes it last longer", flush=written(config.spool.flush))
    return [
        _("some {size} a day, in {commits:,} commits", size=_size(a_day), commits=commits),
        _(
            "a card of {card} GB for {rewrites:,} rewrites lasts {lasts}",
            card=CARD // 10**9,
            rewrites=REWRITES,
            lasts=lasts,
        ),
        *([spares] if years <= LONG else []),
    ]


def _commits(config: Config, seal: float) -> int:
    """Commits a day for one recipient: of readings, batches and receipts."""
    read = [point for of in config.points().values() for point in of if not point.derived]
    points = [point for point in read if point.channel]
    at_most = DAY / config.spool.flush
    # devices that are read within one flush interval share a commit
    rows = min(at_most, sum(_windows(config, step, points) for step in {p.every for p in points}))
    batches = min(DAY / seal, rows)
    return ceil(rows + 2 * batches)


def _windows(config: Config, step: int, points: list[Point]) -> float:
    """Flush intervals a day in which rows of one step arrive; lines are read at the same time."""
    takes: dict[str, float] = {}
    by_device: dict[str, list[Point]] = {}
    for point in points:
        if point.every == step:
            by_device.setdefault(point.device, []).append(point)
    for device, of in by_device.items():
        link = config.devices[device].link
        settings = config.links[link].settings
        seconds = settings.seconds(of) if isinstance(settings, Budgets) else 0.0
        takes[link] = takes.get(link, 0.0) + seconds
    longest = min(step, max(takes.values(), default=0.0))
    return DAY / step * max(1, ceil(longest / config.spool.flush))


def _size(number: float) -> str:
    if number >= 10**9:
        return _("{number:.1f} GB", number=number / 1e9)
    return _("{number:,} MB", number=round(number / 1e6))
