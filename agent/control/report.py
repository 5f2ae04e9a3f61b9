"""What becomes of orders, written down: state and outcome together, and in the audit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control.guard import plain
from agent.control.model import OrderState
from agent.control.records import FINAL, Outcome, Transaction

if TYPE_CHECKING:
    from agent.control.context import ControlContext
    from agent.control.model import AcceptedOrder, No
    from agent.model import Value


async def refused(ground: ControlContext, event: AcceptedOrder, no: No) -> None:
    """It was accepted, and is not done after all."""
    order = event.order
    body = {"jti": order.jti, "control": order.control, "code": str(no)}
    ground.world.audit("control.refused", body | {"grants": [*event.grants]})
    told = _outcome(event, OrderState.REJECTED, ground.world.now().wall, no.words, str(no))
    await ground.world.note(
        Transaction(events=[replace(event, state=OrderState.REJECTED)], outcomes=[told])
    )


async def end(ground: ControlContext, event: AcceptedOrder, state: OrderState, words: str) -> None:
    """It is over without a give-back of its own, or before one."""
    if event.state in FINAL and event.state is not OrderState.SUPERSEDED:
        return
    await say(ground, replace(event, state=state), state, words)


async def say(
    ground: ControlContext,
    event: AcceptedOrder,
    state: OrderState,
    words: str,
    pre: Value | None = None,
) -> None:
    """Keep and report a state, with the power before (of a begin) or after.

    `pre`: of a begin, what stood there before.
    """
    body = {"jti": event.order.jti, "control": event.order.control}
    ground.world.audit(f"control.{state.lower()}", body)
    power = ground.world.power(event.order.control)
    told = _outcome(event, state, ground.world.now().wall, words)
    told = replace(told, pre="" if pre is None else str(pre))
    told = (
        replace(told, before=power) if state is OrderState.STARTED else replace(told, after=power)
    )
    await ground.world.note(Transaction(events=[event], outcomes=[told]))


def _outcome(
    event: AcceptedOrder, state: OrderState, at: float, words: str, code: str = ""
) -> Outcome:
    order = event.order
    value = "" if order.value is None else plain(order.value)
    return Outcome(order.jti, order.control, state, at, code, words, value, by=order.by)
