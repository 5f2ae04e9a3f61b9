"""Liveness: systemd restarts a gateway of which a component makes no progress within its bound."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.core.clock import monotonic
from agent.core.log_fields import LogEvent, fields
from agent.core.storage import HOLDS_END_AFTER
from agent.core.systemd import notify, watchdog_period
from agent.core.tasks import pause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.gateway.gateway import Gateway, Recipient

log = logging.getLogger(__name__)

LINE_WITHIN = 300.0
"""seconds for one attempt to open, or for one device with many blocks on a slow line in a search"""
CONTROL_WITHIN = 300.0
"""seconds for one round of a control, or for each of its requests: guards are checked every ten
seconds, but a round has many requests, and devices may be slow"""
COMMIT_WITHIN = 3 * HOLDS_END_AFTER
"""seconds beyond the flush interval for a commit. A disk that does not answer is a fault of its
store; a restart would not help"""
OPENED_WITHIN = 300.0
"""seconds for opening or closing a file on a slow card"""
UPLINK_WITHIN = 900.0
"""seconds for the longest wait between two attempts together with the longest attempt"""
LONGEST_REST = 3600.0
"""seconds between two rounds of the watchdog task if systemd asks for no notification"""


async def watch(gateway: Gateway) -> None:
    """Notify systemd's watchdog twice as often as it asks; stop notifying once a component hangs.

    systemd then ends the process (SIGABRT) and starts it again. Nothing accepted is lost: it is on
    the disk.
    """
    period, hung = watchdog_period(), False
    while True:
        await pause(period or LONGEST_REST)
        hanging = late(gateway, monotonic())
        if hanging and not hung:
            log.error(
                "gardien hangs: %s. If this lasts, systemd restarts it", ", ".join(hanging),
                extra=fields(LogEvent.COMPONENT_HANGS),
            )  # fmt: skip
        hung = bool(hanging)
        if period and not hung:
            notify("WATCHDOG=1")


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
    if gateway.steering:
        controller = gateway.steering.controller
        for name, looked in controller.looked.items():
            if name in controller.controls and not parked(f"control {name}"):
                yield (
                    f"looking after control {name}",
                    CONTROL_WITHIN,
                    max(looked, controller.turned, controller.advanced(name)),
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
