"""One recipient served for as long as the agent runs: its uplink kept open, what goes over it."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.clock import monotonic
from agent.config.data_budget import affordable
from agent.enrolment import credential
from agent.errors import UplinkLost
from agent.log_fields import LogEvent, fields
from agent.recipient import outcomes
from agent.tasks import ConnectionFields, keep_open, together
from agent.uplink import budget, pacing, transport
from agent.uplink.base import GatewayFacts
from agent.uplink.forward import forward
from agent.upstream.backup_upload import kept, offer
from agent.upstream.certificate_proof import Proving
from agent.upstream.route import Route
from agent.upstream.status_document import document, news

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from agent.gateway import Gateway, Recipient
    from agent.uplink.base import Uplink

LONGEST_WAIT = 300.0
"""seconds between two attempts at an uplink: a fleet must not come back all at once"""
LOOK = 60.0
"""seconds between two looks for news to tell"""
URGENT = 2.0
"""seconds between two looks for outcomes"""
COUNT = 10.0
"""seconds between two looks at how much the line has moved"""


async def deliver(house: Gateway, outlet: Recipient) -> None:
    """Send what the spool holds, tell how we are, count what it costs; for ever."""
    outlet.delivery.turned = monotonic()
    gateway = house.identity.gateway if house.identity else ""
    objects = partial(house.carried, via=outlet.name)
    delivery = outlet.delivery
    station = GatewayFacts(
        gateway,
        credential.path(house.config.state),
        objects,
        house.cursors,
        house.reception.audience.exact if house.reception else "",
        partial(kept, house, outlet),
        delivery.all_came,
        outlet.name,
    )
    chosen, settings = transport(outlet.transport), affordable(house.config, outlet.name)
    for spool, thread in outlet.spools:
        await thread.run(spool.packs, chosen.packing(settings, station))
    rhythm = settings.rhythm
    delivery.alarm_after = rhythm.alarm
    delivery.by_broker = getattr(settings, "receipt", "") == "broker"

    route, proving = Route(house, outlet, settings), Proving(house, outlet)

    async def serve(uplink: Uplink) -> None:
        seal = slowed(house, outlet, rhythm.seal)
        now = replace(rhythm, seal=seal, phase=pacing.phase(gateway, seal))
        going = forward(outlet.outbox, uplink, now, delivery, house.clock, random.Random())
        besides: dict[str, Callable[[], Awaitable[None]]] = {
            "traffic": partial(_count, house, outlet, uplink),
            "status": partial(_report, house, outlet, uplink, seal),
            "building file": partial(offer, house, outlet, uplink),
            "outcomes": partial(_urge, house, outlet),
            "move": route.watch,
            "certificate": proving.watch,
        }
        await together(going, *(beside(what, run) for what, run in besides.items()))

    def beside(what: str, run: Callable[[], Awaitable[None]]) -> Coroutine[Any, Any, None]:
        return house.jobs.alone(f"{what} {outlet.name}", run, UplinkLost, uplink=outlet.name)

    @asynccontextmanager
    async def opening() -> AsyncIterator[Uplink]:
        proving.opening()
        try:
            async with chosen.open(route.settings(), station) as uplink:
                yield uplink
        except UplinkLost as error:
            await proving.lost(str(error))
            raise

    logged = ConnectionFields(
        fields(LogEvent.UPLINK_LOST, **outlet.names),
        fields(LogEvent.UPLINK_RESTORED, **outlet.names),
    )
    name, health = f"uplink {outlet.name}", (delivery.good, delivery.lose)
    await keep_open(name, opening, serve, UplinkLost, LONGEST_WAIT, *health, logged=logged)


def slowed(house: Gateway, outlet: Recipient, seal: float) -> float:
    """The seal interval for now: longer where the line's month is ahead of its budget."""
    allowed = house.config.uplinks[outlet.name].data
    if allowed is None:
        return seal
    now = house.clock.now()
    used = house.traffic.of(outlet.settings.recipient, now).used
    return budget.slowed(seal, used, allowed, house.traffic.share(now))


async def _count(house: Gateway, outlet: Recipient, uplink: Uplink) -> None:
    """Count what the line moves.

    Returns, to be opened anew, when it has got so far ahead of its budget that it must slow down.
    """
    moved: Callable[[], int] = getattr(uplink, "used", lambda: 0)
    before, recipient = 0, outlet.settings.recipient
    pace = slowed(house, outlet, outlet.settings.seal)
    try:
        while True:
            await asyncio.sleep(COUNT)
            before, added = (total := moved()), total - before
            house.traffic.count(recipient, added, house.clock.now())
            if slowed(house, outlet, outlet.settings.seal) > 2 * pace:
                raise UplinkLost("this month's data are going too fast: more slowly from here on")
    finally:
        house.traffic.count(recipient, moved() - before, house.clock.now())


async def _urge(house: Gateway, outlet: Recipient) -> None:
    """What became of orders goes at once, however slowly readings go over a metered line."""
    known: frozenset[str] = frozenset()
    while True:
        fresh = frozenset(outcomes(house, outlet))
        if fresh - known:
            outlet.delivery.hurry = True
        known = fresh
        await asyncio.sleep(URGENT)


async def _untold(_: dict[str, Any]) -> None:
    """Where the transport has no place for it."""


async def _report(house: Gateway, outlet: Recipient, uplink: Uplink, seal: float) -> None:
    """Tell the recipient how the gateway is: at once, when something has changed, and regularly."""
    tell: Callable[[dict[str, Any]], Awaitable[None]] = getattr(uplink, "tell", _untold)
    said: dict[str, Any] = {}
    told = monotonic() - budget.status_every(seal)
    while True:
        fresh = document(await house.describe(), outlet.name) if house.describe else {}
        due = monotonic() - told >= budget.status_every(seal)
        if due or news(said, fresh):
            await tell(fresh)
            said, told = fresh, monotonic()
        await asyncio.sleep(LOOK)
