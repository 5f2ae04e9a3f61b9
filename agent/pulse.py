"""Whether every part still comes round: what the word to systemd's watchdog stands for.

A loop that turns is not enough: one task may wait for ever beside it. So each says when it last
came round, and has a bound of its own. A link or an uplink that tries again comes round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.storage import HOLDS_END_AFTER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.house import House

LINE_WITHIN = 300.0
"""seconds: one device of many blocks on a slow serial line, behind a search, or one try to open"""
CONTROL_WITHIN = 300.0
"""seconds: a control's guards are looked at every ten, a device may be slow to answer"""
COMMIT_WITHIN = 3 * HOLDS_END_AFTER
"""seconds beyond the flush interval for whoever brings readings to the disk. A disk that does not
answer is a fault of its store, and named as that: nobody is ended for it"""
UPLINK_WITHIN = 900.0
"""seconds: the longest wait between two attempts, and the longest attempt"""


def late(house: House, now: float) -> list[str]:
    """Name the parts that have not come round within their bound; `now` is monotonic."""
    return [name for name, within, turned in _rounds(house, now) if now - turned > within]


def _rounds(house: House, now: float) -> Iterator[tuple[str, float, float]]:
    for name, line in house.lines.items():
        if line.link.error:
            yield f"opening line {name}", LINE_WITHIN, line.link.turned
        elif line.poller is not None and line.devices:
            turned = max(line.poller.turned, line.link.turned)
            yield f"reading line {name}", LINE_WITHIN, turned
    if house.steering is not None and (keeper := house.steering.keeper).fits and keeper.turned:
        yield "looking after the controls", CONTROL_WITHIN, keeper.turned
    for name, outlet in house.outlets.items():
        if outlet.thread.stalled(now):
            continue
        within = house.config.spool.flush + COMMIT_WITHIN
        yield f"storing for {name}", within, outlet.intake.turned
        yield f"sending to {name}", UPLINK_WITHIN, outlet.delivery.turned
