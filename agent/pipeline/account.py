"""One recipient as the reader of a line sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agent.pipeline.intake import Intake
    from agent.pipeline.ledger import Ledger


class Account(NamedTuple):
    """Its slots, and the room in front of its spool."""

    ledger: Ledger
    intake: Intake
