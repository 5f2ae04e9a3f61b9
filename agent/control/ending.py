"""Ending what is held or waits: by an order, by a person, or with the agent or its definition."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control import schedule
from agent.control.fallback import fall_back
from agent.control.hold_record import Phase
from agent.control.model import OrderState
from agent.control.records import Outcome, Transaction
from agent.control.release_retry import give_back
from agent.control.report import end
from agent.control.setpoint import FAILSAFE
from agent.control.stop import forbidden

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord


async def cancel(ground: ControlContext, name: str, words: str, jti: str = "") -> list[str]:
    """End one order, or (without `jti`) whatever stands or waits; gives what was ended.

    A failsafe that is ended so is not entered again before the next word of the centre.
    """
    fit, ended = ground.fits[name], []
    async with ground.lock(name):
        for event in ground.journal.of(fit.key):
            mine = event.order.control == name and (not jti or event.order.jti == jti)
            resumes = event.state is OrderState.SUPERSEDED and event.order.resume
            if mine and (event.state in schedule.WAITING or resumes):
                await end(ground, event, OrderState.CANCELLED, words)
                ended.append(event.order.jti)
        if not jti and await _spend(ground, fit):
            ended.append(FAILSAFE)
        for row in ground.journal.open_rows(fit.key):
            if row.jti in ended:
                await give_back(ground, row.releasing(OrderState.CANCELLED, words))
    return ended


async def let_go(ground: ControlContext, words: str, names: Iterable[str]) -> None:
    """Give these controls back now; what has not begun stays scheduled.

    A limit falls back to its failsafe while the agent ends, for nobody hears the centre then.
    """
    await asyncio.gather(*(_let_go(ground, words, ground.fits[name]) for name in names))


async def _let_go(ground: ControlContext, words: str, fit: ConfiguredControl) -> None:
    async with ground.lock(fit.name):
        rows = ground.rows(fit)
        for event in ground.going(fit):
            await end(ground, event, OrderState.ABORTED, words)
        limited = [row for row in rows if row.phase is not Phase.RELEASING]
        if ground.closing and fit.modality.failsafe and limited and not forbidden(ground, fit):
            await fall_back(ground, fit, limited)
            rows = [row for row in rows if row not in limited]
        for row in rows:
            await give_back(ground, row.releasing(OrderState.ABORTED, words))


async def abandon(ground: ControlContext, name: str, words: str) -> int:
    """Close by hand what cannot be given back; gives how many rows. What stands there stays.

    Whatever is in force ends first, and what can be given back is.
    """
    async with ground.lock(name):
        if fit := ground.fits.get(name):
            for event in ground.going(fit):
                await end(ground, event, OrderState.CANCELLED, words)
            await _spend(ground, fit)
        for row in _of(ground, name):
            ground.waits.pop(row.number, None)
            await give_back(ground, row.releasing(OrderState.CANCELLED, words))
        left = _of(ground, name)
        for row in left:
            now = ground.world.now().wall
            told = Outcome(row.jti, name, OrderState.FAILED, now, words=words, closed=True)
            await ground.world.note(Transaction(replace(row, phase=Phase.CLOSED), outcomes=[told]))
            ground.waits.pop(row.number, None)
        ground.alarms.pop(name, None)
    return len(left)


def _of(ground: ControlContext, name: str) -> list[HoldRecord]:
    return [row for row in ground.journal.rows.values() if row.control == name]


async def _spend(ground: ControlContext, fit: ConfiguredControl) -> bool:
    """Leave the failsafe, not to be entered again before the next word of the centre."""
    memo = ground.journal.memo(fit.key)
    if not memo.watch.since:
        return False
    watch = replace(memo.watch, since=None, age=0.0, spent=True)
    await ground.remember(fit.key, replace(memo, watch=watch))
    return True
