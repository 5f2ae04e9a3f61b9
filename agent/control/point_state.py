"""The decision input for one point, from the journal and the dependencies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control.decision_input import DecisionFacts
from agent.control.stamps import elapsed

if TYPE_CHECKING:
    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.stamps import Moment


def decision_input(
    context: ControlContext, control: ConfiguredControl, now: Moment
) -> DecisionFacts:
    """Gather what is known of a control's point at this moment."""
    journal, dependencies = context.journal, context.dependencies
    memo = journal.memo(control.key)
    out = memo.opted_out is not None and elapsed(memo.opted_out, now) < memo.opt_lasts
    return DecisionFacts(
        now=now,
        zone=dependencies.zone,
        grants=tuple(journal.grants.values()),
        events=journal.of(control.key),
        look=dependencies.look,
        given_back=memo.given_back,
        locked=(memo.locked, memo.lock_lasts) if memo.locked else None,
        opted_out=memo.opt_words if out else "",
        tested=memo.tested == control.fingerprint,
        home=lambda occupancy: dependencies.home(occupancy, control.place.device),
    )
