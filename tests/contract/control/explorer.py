"""Runs the real hold, journal and keeper through every place where they can be cut off.

The judge looks at the device alone: nothing stays commanded two minutes after its end once agent
and device are both there, nothing is written without a row, no order is applied twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from agent.control.controller import Controller
from agent.control.model import AcceptedOrder
from agent.control.records import Transaction
from tests.contract.control.pretend import BEGIN, Crash, Site

TICK = 10.0
BOUND = 120.0
Further = Callable[[Controller], Awaitable[None]]
Act = Callable[[Site], Further | None]
"""changes the world, or gives what is then asked of the agent, if one is there"""


@dataclass
class Plan:
    """What happens in one run."""

    events: list[AcceptedOrder]
    acts: dict[float, Act]
    """at which second something happens to the world"""
    lasts: float = 600.0
    down: float = 20.0
    """how long the agent is away after the crash"""
    reboot: Act | None = None
    """what the crash does to the clocks; None: only the process died"""


async def run(site: Site, plan: Plan, fatal: int = -1) -> list[str]:
    """One run; what was found wrong."""
    site.steps.fatal = fatal
    alive = False
    back_at = 0.0
    acts = sorted(plan.acts.items())
    truth = site.truth
    there_since = 0.0
    while truth.at <= plan.lasts:
        asked = []
        while acts and acts[0][0] <= truth.at:
            asked.append(acts.pop(0)[1](site))
        try:
            if not alive and truth.at >= back_at:
                alive, first = True, back_at == 0.0
                await _started(site, plan.events if first else [])
            if alive:
                for further in filter(None, asked):
                    await further(site.controller)
                await site.controller.tend("it")
                await site.controller.release_unconfigured()
        except Crash:
            site.die()
            alive, back_at = False, truth.at + plan.down
            if plan.reboot:
                plan.reboot(site)
        site.device.live()
        if not (alive and truth.reachable):
            there_since = truth.at
        _judge(site, plan, there_since)
        truth.at += TICK
    return site.findings


async def _started(site: Site, events: list[AcceptedOrder]) -> None:
    site.start()
    for one in events:
        site.journal.save(Transaction(events=[one]))
    await site.controller.recover()


def _judge(site: Site, plan: Plan, there_since: float) -> None:
    at = site.truth.at
    standing = site.device.slots.get(13) if site.device.array else site.device.register
    for one in plan.events:
        end = one.end - BEGIN
        if standing == one.order.value and at > max(end, there_since) + BOUND:
            site.findings.append(f"{at:.0f}: {standing} stands there, {at - end:.0f} s too long")
        begun = _begun(site, one.order.value)
        if begun > 1 and not one.order.resume:
            site.findings.append(f"{at:.0f}: {one.order.jti} was begun {begun} times")


def _begun(site: Site, value: Decimal | None) -> int:
    """How often a value was put there over another one, and not again after a failed read-back."""
    begun, before = 0, object()
    for _, written in site.device.log:
        begun += written == value and before != value
        before = written
    return begun


def every_cut(make: Callable[[], tuple[Site, Plan]]) -> Iterator[tuple[int, list[str]]]:
    """Cut at each step in turn, until there is no such step."""
    with asyncio.Runner() as runner:
        fatal = 0
        while True:
            fatal += 1
            site, plan = make()
            try:
                findings = runner.run(run(site, plan, fatal))
                yield fatal, findings
                if site.steps.fatal != -1:
                    return
            finally:
                site.close()
