"""What becomes of orders, written down: state and outcome together, and in the audit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control.guard import plain
from agent.control.model import State
from agent.control.records import FINAL, Change, Outcome

if TYPE_CHECKING:
    from agent.control.ground import Ground
    from agent.control.model import Event, No
    from agent.model import Value


async def refused(ground: Ground, event: Event, no: No) -> None:
    """It was accepted, and is not done after all."""
    order = event.order
    body = {"jti": order.jti, "control": order.control, "code": str(no)}
    ground.world.audit("control.refused", body | {"grants": [*event.grants]})
    told = _outcome(event, State.REJECTED, ground.world.now().wall, no.words, str(no))
    await ground.world.note(Change(events=[replace(event, state=State.REJECTED)], outcomes=[told]))


async def end(ground: Ground, event: Event, state: State, words: str) -> None:
    """It is over without a give-back of its own, or before one."""
    if event.state in FINAL and event.state is not State.SUPERSEDED:
        return
    await say(ground, replace(event, state=state), state, words)


async def say(
    ground: Ground, event: Event, state: State, words: str, pre: Value | None = None
) -> None:
    """Keep and report a state, with the power before (of a begin) or after.

    `pre`: of a begin, what stood there before.
    """
    body = {"jti": event.order.jti, "control": event.order.control}
    ground.world.audit(f"control.{state.lower()}", body)
    power = ground.world.power(event.order.control)
    told = _outcome(event, state, ground.world.now().wall, words)
    told = replace(told, pre="" if pre is None else str(pre))
    told = replace(told, before=power) if state is State.STARTED else replace(told, after=power)
    await ground.world.note(Change(events=[event], outcomes=[told]))


def _outcome(event: Event, state: State, at: float, words: str, code: str = "") -> Outcome:
    order = event.order
    value = "" if order.value is None else plain(order.value)
    return Outcome(order.jti, order.control, state, at, code, words, value, by=order.by)
