"""Whether every part still comes round: what the word to systemd's watchdog stands for.

A loop that turns is not enough: one task may wait for ever beside it. So each says when it last
came round, and has a bound of its own. A link or an uplink that tries again comes round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.storage import HOLDS_END_AFTER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.gateway import Gateway, Recipient

LINE_WITHIN = 300.0
"""seconds: one device of many blocks on a slow serial line, behind a search, or one try to open"""
CONTROL_WITHIN = 300.0
"""seconds: a control's guards are looked at every ten, a device may be slow to answer"""
COMMIT_WITHIN = 3 * HOLDS_END_AFTER
"""seconds beyond the flush interval for whoever brings readings to the disk. A disk that does not
answer is a fault of its store, and named as that: nobody is ended for it"""
OPENED_WITHIN = 300.0
"""seconds: opening, or closing, a file that waits for a slow card"""
UPLINK_WITHIN = 900.0
"""seconds: the longest wait between two attempts, and the longest attempt"""


def late(gateway: Gateway, now: float) -> list[str]:
    """Name the parts that have not come round within their bound; `now` is monotonic."""
    return [name for name, within, turned in _components(gateway, now) if now - turned > within]


def _components(gateway: Gateway, now: float) -> Iterator[tuple[str, float, float]]:
    """Each part that must come round; what is parked waits for its next attempt: it is not late."""
    parked = gateway.jobs.parked
    for name, line in gateway.lines.items():
        if line.link.error and not parked(f"line {name}"):
            yield f"opening line {name}", LINE_WITHIN, line.link.turned
        elif line.poller is not None and line.devices and not parked(f"poll {name}"):
            turned = max(line.poller.turned, line.link.turned)
            yield f"reading line {name}", LINE_WITHIN, turned
    if gateway.steering is not None:
        controller = gateway.steering.keeper
        for name, looked in controller.looked.items():
            if name in controller.fits and not parked(f"control {name}"):
                yield (
                    f"looking after control {name}",
                    CONTROL_WITHIN,
                    max(looked, controller.turned),
                )
    for name, recipient in gateway.outlets.items():
        if not recipient.thread.stalled(now):
            flush = gateway.config.spool.flush
            yield from _recipient_components(
                name, recipient, flush, parked=parked(f"uplink {name}")
            )
    for name, began in gateway.jobs.opening().items():
        yield f"opening {name}", OPENED_WITHIN, began


def _recipient_components(
    name: str, recipient: Recipient, flush: float, *, parked: bool
) -> Iterator[tuple[str, float, float]]:
    yield f"storing for {name}", flush + COMMIT_WITHIN, recipient.intake.turned
    if not parked:
        yield f"sending to {name}", UPLINK_WITHIN, recipient.delivery.turned
