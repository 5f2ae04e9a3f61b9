"""Find components that hang. systemd's watchdog is notified only while there are none.

A running event loop does not prove that every task makes progress. Each component therefore records
when it last completed a round, and has its own bound. A line or an uplink that retries makes
progress.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.storage import HOLDS_END_AFTER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.gateway.gateway import Gateway, Recipient

LINE_WITHIN = 300.0
"""seconds for one attempt to open, or for one device with many blocks on a slow line in a search"""
CONTROL_WITHIN = 300.0
"""seconds for one round of a control: guards are checked every ten, but devices may be slow"""
COMMIT_WITHIN = 3 * HOLDS_END_AFTER
"""seconds beyond the flush interval for a commit. A disk that does not answer is a fault of its
store; a restart would not help"""
OPENED_WITHIN = 300.0
"""seconds for opening or closing a file on a slow card"""
UPLINK_WITHIN = 900.0
"""seconds for the longest wait between two attempts together with the longest attempt"""


def late(gateway: Gateway, now: float) -> list[str]:
    """Name the components that made no progress within their bound. `now`: monotonic seconds."""
    return [name for name, within, turned in _components(gateway, now) if now - turned > within]


def _components(gateway: Gateway, now: float) -> Iterator[tuple[str, float, float]]:
    """Yield each component with its bound and the time of its last progress.

    Parked components are left out: they wait for their next attempt.
    """
    parked = gateway.jobs.parked
    for name, line in gateway.lines.items():
        # A line that is down stops its poller too: report the cause, not both.
        if line.link.error and not parked(f"line {name}"):
            yield f"opening line {name}", LINE_WITHIN, line.link.turned
        elif line.poller is not None and line.devices and not parked(f"poll {name}"):
            turned = max(line.poller.turned, line.link.turned)
            yield f"reading line {name}", LINE_WITHIN, turned
    if gateway.steering is not None:
        controller = gateway.steering.controller
        for name, looked in controller.looked.items():
            if name in controller.controls and not parked(f"control {name}"):
                yield (
                    f"looking after control {name}",
                    CONTROL_WITHIN,
                    max(looked, controller.turned),
                )
    for name, recipient in gateway.recipients.items():
        if not recipient.thread.stalled(now):  # a disk that hangs is a fault of its store
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
