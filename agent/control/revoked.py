"""Ending orders whose grant or key was revoked, or whose occupancy has ended (rule H27)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control import schedule
from agent.control.model import No, OrderCode, OrderState
from agent.control.release_retry import try_release
from agent.control.report import end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord
    from agent.control.model import AcceptedOrder, Grant
    from agent.control.stamps import Moment

    Home = Callable[[str], tuple[float, float] | None]
    KeyTaken = Callable[[str, str, str], float | None]


def taken_back(
    event: AcceptedOrder, grants: Mapping[str, Grant], key_taken: KeyTaken, home: Home, now: Moment
) -> No | None:
    """The refusal of an order whose grant, occupancy or key no longer counts; None: all do. Pure.

    `key_taken`: when a key was revoked; `home`: begin and end of an occupancy.
    """
    for jti in event.grants:
        grant = grants.get(jti)
        if grant is None or grant.revoked is not None:
            role = grant.role if grant else ""
            return No(OrderCode.REVOKED, f"the grant of the {role} was revoked", role)
        if grant.occupancy is not None and now.trusted:
            stands = home(grant.occupancy)
            if stands is None or stands[1] <= now.wall:
                reason = f"the occupancy of the {grant.role} has ended"
                return No(OrderCode.REVOKED, reason, grant.role)
    order = event.order
    if key_taken(order.kid, order.by, order.role) is not None:
        return No(OrderCode.REVOKED, "the key that ordered it was revoked")
    return None


async def end_revoked(
    context: ControlContext, control: ConfiguredControl, records: list[HoldRecord]
) -> list[HoldRecord]:
    """End the orders that no longer count. Returns the hold records that stay."""
    journal, now = context.journal, context.dependencies.now()
    for event in journal.of(control.key):
        if event.state not in schedule.WAITING:
            continue
        no = taken_back(
            event, journal.grants, journal.key_taken,
            lambda occupancy: context.dependencies.home(occupancy, control.place.device), now,
        )  # fmt: skip
        if no is None:
            continue
        for record in records:
            if record.jti == event.order.jti:
                await try_release(
                    context, record.releasing(OrderState.ABORTED, f"{no}: {no.reason}")
                )
        records = [record for record in records if record.jti != event.order.jti]
        latest = journal.events[event.order.jti, event.order.control]
        await end(context, latest, OrderState.ABORTED, f"{no}: {no.reason}")
    return records
