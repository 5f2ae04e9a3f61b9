"""Serve one recipient for as long as the agent runs: keep its uplink open and use it."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.config.data_budget import affordable
from agent.core.clock import monotonic
from agent.core.errors import UplinkLost
from agent.core.log_fields import LogEvent, fields
from agent.core.tasks import ConnectionFields, keep_open, together
from agent.enrolment import credential
from agent.gateway.recipient import outcomes
from agent.gateway.upstream.backup_upload import kept, offer
from agent.gateway.upstream.certificate_proof import Proving
from agent.gateway.upstream.route import Route
from agent.gateway.upstream.status_document import document, news
from agent.uplink import budget, pacing, transport
from agent.uplink.base import GatewayFacts
from agent.uplink.forward import forward

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from agent.gateway.gateway import Gateway, Recipient
    from agent.uplink.base import Uplink

LONGEST_WAIT = 300.0
"""seconds between two attempts at an uplink: a fleet must not reconnect all at once"""
LOOK = 60.0
"""seconds between two checks whether the status has changed"""
URGENT = 2.0
"""seconds between two checks for outcomes of orders"""
COUNT = 10.0
"""seconds between two readings of the data counter"""


async def deliver(gateway: Gateway, recipient: Recipient) -> None:
    """Send batches, status and backups, and count the data used; runs for ever."""
    recipient.delivery.turned = monotonic()
    gateway_id = gateway.identity.gateway if gateway.identity else ""
    objects = partial(gateway.carried, via=recipient.name)
    delivery = recipient.delivery
    facts = GatewayFacts(
        gateway_id,
        credential.path(gateway.config.state),
        objects,
        gateway.cursors,
        gateway.inbox.audience.exact if gateway.inbox else "",
        partial(kept, gateway, recipient),
        delivery.all_came,
        recipient.name,
    )
    chosen, settings = transport(recipient.transport), affordable(gateway.config, recipient.name)
    for spool, thread in recipient.spools:
        await thread.run(spool.packs, chosen.packing(settings, facts))
    rhythm = settings.rhythm
    delivery.alarm_after = rhythm.alarm
    delivery.by_broker = getattr(settings, "receipt", "") == "broker"

    route, proving = Route(gateway, recipient, settings), Proving(gateway, recipient)

    async def serve(uplink: Uplink) -> None:
        seal = slowed(gateway, recipient, rhythm.seal)
        now = replace(rhythm, seal=seal, phase=pacing.phase(gateway_id, seal))
        sending = forward(recipient.outbox, uplink, now, delivery, gateway.clock, random.Random())
        jobs: dict[str, Callable[[], Awaitable[None]]] = {
            "traffic": partial(_count, gateway, recipient, uplink),
            "status": partial(_report, gateway, recipient, uplink, seal),
            "backup": partial(offer, gateway, recipient, uplink),
            "outcomes": partial(_hurry_outcomes, gateway, recipient),
            "move": route.watch,
            "certificate": proving.watch,
        }
        # all but `sending` are supervised by themselves: their errors must not stop deliveries
        await together(sending, *(beside(what, run) for what, run in jobs.items()))

    def beside(what: str, run: Callable[[], Awaitable[None]]) -> Coroutine[Any, Any, None]:
        return gateway.jobs.alone(
            f"{what} {recipient.name}", run, UplinkLost, uplink=recipient.name
        )

    @asynccontextmanager
    async def opening() -> AsyncIterator[Uplink]:
        proving.opening()
        try:
            async with chosen.open(route.settings(), facts) as uplink:
                yield uplink
        except UplinkLost as error:
            await proving.lost(error)
            raise

    logged = ConnectionFields(
        fields(LogEvent.UPLINK_LOST, **recipient.names),
        fields(LogEvent.UPLINK_RESTORED, **recipient.names),
    )
    name, health = f"uplink {recipient.name}", (delivery.good, delivery.lose)
    await keep_open(name, opening, serve, UplinkLost, LONGEST_WAIT, *health, logged=logged)


def slowed(gateway: Gateway, recipient: Recipient, seal: float) -> float:
    """The seal interval in seconds, longer while this month's data run ahead of the budget."""
    allowed = gateway.config.uplinks[recipient.name].data
    if allowed is None:
        return seal
    now = gateway.clock.now()
    used = gateway.traffic.of(recipient.settings.recipient, now).used
    return budget.slowed(seal, used, allowed, gateway.traffic.share(now))


async def _count(gateway: Gateway, recipient: Recipient, uplink: Uplink) -> None:
    """Count the bytes that the line carries.

    Raises UplinkLost, so that the uplink reopens more slowly, when the budget is far exceeded.
    """
    moved: Callable[[], int] = getattr(uplink, "used", lambda: 0)
    before, recipient_name = 0, recipient.settings.recipient
    pace = slowed(gateway, recipient, recipient.settings.seal)
    try:
        while True:
            await asyncio.sleep(COUNT)
            before, added = (total := moved()), total - before
            gateway.traffic.count(recipient_name, added, gateway.clock.now())
            if slowed(gateway, recipient, recipient.settings.seal) > 2 * pace:
                raise UplinkLost(
                    "this month's data are used up too fast: reopening with longer intervals"
                )
    finally:
        # on every end: otherwise the bytes since the last count would be missing in the budget
        gateway.traffic.count(recipient_name, moved() - before, gateway.clock.now())


async def _hurry_outcomes(gateway: Gateway, recipient: Recipient) -> None:
    """Have outcomes of orders sent at once, however slowly readings go over a metered line."""
    known: frozenset[str] = frozenset()
    while True:
        fresh = frozenset(outcomes(gateway, recipient))
        if fresh - known:
            recipient.delivery.hurry = True
        known = fresh
        await asyncio.sleep(URGENT)


async def _no_status(_: dict[str, Any]) -> None:
    """For transports that carry no status."""


async def _report(gateway: Gateway, recipient: Recipient, uplink: Uplink, seal: float) -> None:
    """Send the status document: at once after a change, else at regular intervals."""
    send_status: Callable[[dict[str, Any]], Awaitable[None]] = getattr(uplink, "tell", _no_status)
    sent: dict[str, Any] = {}
    sent_at = monotonic() - budget.status_every(seal)
    while True:
        fresh = document(await gateway.describe(), recipient.name) if gateway.describe else {}
        due = monotonic() - sent_at >= budget.status_every(seal)
        if due or news(sent, fresh):
            await send_status(fresh)
            sent, sent_at = fresh, monotonic()
        await asyncio.sleep(LOOK)
