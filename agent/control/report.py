"""Recording what becomes of orders: state, outcome and an entry of the audit chain."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control.guard import plain
from agent.control.model import OrderState
from agent.control.records import FINAL, Outcome, Transaction

if TYPE_CHECKING:
    from agent.control.context import ControlContext
    from agent.control.model import AcceptedOrder, No
    from agent.core.model import Value


async def report_refusal(context: ControlContext, event: AcceptedOrder, no: No) -> None:
    """Record that an accepted order is refused after all."""
    order = event.order
    body = {"jti": order.jti, "control": order.control, "code": str(no)}
    context.dependencies.audit("control.refused", body | {"grants": [*event.grants]})
    outcome = _outcome(
        event, OrderState.REJECTED, context.dependencies.now().wall, no.reason, str(no)
    )
    await context.dependencies.note(
        Transaction(events=[replace(event, state=OrderState.REJECTED)], outcomes=[outcome])
    )


async def end(
    context: ControlContext, event: AcceptedOrder, state: OrderState, reason: str
) -> None:
    """Record that an order is over, unless it is already."""
    if event.state in FINAL and event.state is not OrderState.SUPERSEDED:
        return
    await report_state(context, replace(event, state=state), state, reason)


async def report_state(
    context: ControlContext,
    event: AcceptedOrder,
    state: OrderState,
    reason: str,
    pre: Value | None = None,
) -> None:
    """Record and report a state of an order, with the power of the plant at this moment.

    `pre`: at the begin, the value that stood there before.
    """
    body = {"jti": event.order.jti, "control": event.order.control}
    context.dependencies.audit(f"control.{state.lower()}", body)
    power = context.dependencies.power(event.order.control)
    outcome = _outcome(event, state, context.dependencies.now().wall, reason)
    outcome = replace(outcome, pre="" if pre is None else str(pre))
    outcome = (
        replace(outcome, before=power)
        if state is OrderState.STARTED
        else replace(outcome, after=power)
    )
    await context.dependencies.note(Transaction(events=[event], outcomes=[outcome]))


def _outcome(
    event: AcceptedOrder, state: OrderState, at: float, reason: str, code: str = ""
) -> Outcome:
    order = event.order
    value = "" if order.value is None else plain(order.value)
    return Outcome(order.jti, order.control, state, at, code, reason, value, by=order.by)
