"""Calls about the clock: its state, the closed slots, and correcting a wrong clock (rule C4)."""

from __future__ import annotations

import datetime as dt
import re
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.api.registry import author
from agent.core.clock import DAY, stamp
from agent.core.errors import Refused
from agent.core.i18n import text_of
from agent.gateway.gateway import books
from agent.gateway.recipient import open_recipient
from agent.registry.dates import moment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agent.api.registry import Call, Caller
    from agent.gateway.gateway import Gateway

DOUBTFUL_DAYS = 400
"""after the last proved time: a later time may have a mistyped year"""
EXACT, MINUTE = 10.0, 60.0
"""seconds by which the clock may differ from a time with seconds, and from one without"""
HOUR = re.compile(r"[T ]\d\d:\d\d")
SECONDS = re.compile(r"[T ]\d\d:\d\d:\d\d")


async def show(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Describe the clock and the last closed slot of each recipient.

    `ahead`: seconds by which that slot lies in the future; negative if it is over.
    """
    del caller
    async with _spools(gateway):
        now = gateway.clock.now()
        marks = {
            name: {
                "recipient": book.recipient,
                "last": stamp(book.highest),
                "ahead": round(book.highest - now),
            }
            for name, book in zip(gateway.recipients, books(gateway), strict=True)
            if book.highest
        }
        return {**gateway.clock.standing(), "marks": marks}


async def set_time(
    gateway: Gateway, caller: Caller, *, at: str, named: str | None = None, yes: bool = False
) -> dict[str, Any]:
    """Take a person's word that it is `at` now (rule C17).

    `off`: seconds by which the clock is ahead of it. If `taken` is false, it is too far off: the
    machine's clock must be set to `at` first. Raises Refused.
    """
    who, clock = author(gateway, caller, named), gateway.clock
    if not HOUR.search(at):
        raise Refused("nothing was changed: write the day and the hour, such as 2026-07-12T09:30")
    try:
        moment_ = moment(at, gateway.config.building.timezone)
    except ValueError as error:
        raise Refused(text_of(error)) from error
    days = round((moment_ - clock.floor) / DAY)
    if days > DOUBTFUL_DAYS and not yes:
        raise Refused(
            "nothing was changed: that is {days} days after the last time that was proved here."
            " Look at the year; if it is right, add --yes",
            days=days,
        )
    within = EXACT if SECONDS.search(at) else MINUTE
    async with _spools(gateway):
        off = clock.off_by(moment_)
        if taken := abs(off) <= within:
            # audit first: if it breaks off, the chain still says who stated what
            body = {"by": who, "source": "person", "at": stamp(moment_), "off": round(off)}
            gateway.audit("clock.set", body)
            clock.take_person_time()
    return {"taken": taken, "off": round(off), "at": moment_, "now": stamp(clock.now())}


async def reset(
    gateway: Gateway, caller: Caller, *, wrong_since: str, named: str | None = None
) -> dict[str, Any]:
    """Retract the slots closed since `wrong_since`: the clock was wrong then, and is right now.

    Raises Refused.
    """
    who = author(gateway, caller, named)
    try:
        since = moment(wrong_since, gateway.config.building.timezone)
    except ValueError as error:
        raise Refused(text_of(error)) from error
    now = gateway.clock.now()
    if since > now:
        here = partial(dt.datetime.fromtimestamp, tz=gateway.config.zone)
        raise Refused(
            "nothing was changed: {moment} lies in the future, and the clock shows {now}. Write the"
            " time at which the clock began to be wrong, such as: gardien clock reset --wrong-since"
            " {day}T00:00",
            moment=here(since),
            now=here(now),
            day=f"{here(now):%Y-%m-%d}",
        )
    async with _spools(gateway):
        timekeeper = gateway.daemon.timekeeper(gateway)
        # Audit first: if the correction is broken off, the chain still says who ordered it.
        gateway.audit("clock.reset", {"by": who, "since": stamp(since)})
        corrected = await timekeeper.reset(float(since))
    return {
        "since": stamp(since),
        "done": [one._asdict() | {"ahead": round(one.ahead)} for one in corrected],
    }


@asynccontextmanager
async def _spools(gateway: Gateway) -> AsyncIterator[None]:
    """Have the spools open: those of the daemon or, if none runs, opened for this call."""
    async with AsyncExitStack() as stack:
        closed = [name for name in gateway.config.uplinks if name not in gateway.recipients]
        if not gateway.daemon and gateway.identity:
            for name in closed:
                gateway.recipients[name] = await stack.enter_async_context(
                    open_recipient(gateway, name)
                )
            stack.callback(gateway.recipients.clear)
        yield


CALLS: Mapping[str, Call] = {"clock.show": show, "clock.set": set_time, "clock.reset": reset}
"""calls by name"""
