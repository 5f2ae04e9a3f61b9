"""A withdrawal holds until the people knowingly consent again. Marks decide this, not dates. Pure.

Each withdrawal and refusal draws a mark for an occupancy and a recipient, or for all recipients; a
restore draws one for every occupancy. A consent counts only if it knows all marks: it names the
last one it knows, which covers the earlier ones, and its issuer's own withdrawals by their numbers.
Dates cannot decide, because clocks may be wrong, and paper, lists and objects may arrive in any
order, late or twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.core.clock import stamp
from agent.core.errors import NotYet, Refused
from agent.core.i18n import _

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from agent.registry.records import ConsentMark


class Marks(NamedTuple):
    """The withdrawals and refusals of an occupancy that concern a recipient, in the order in which
    they were recorded.
    """

    drawn: tuple[ConsentMark, ...]
    pending: bool
    """a withdrawal has no mark yet, because the previous version could not read marks"""


class Unknowing(Refused):
    """A consent does not know these marks."""

    def __init__(self, message: str, marks: Sequence[ConsentMark]) -> None:
        super().__init__(message)
        self.marks = tuple(marks)


def unknown(
    marks: Marks, after: Collection[str], withdrawals: Collection[str], issuer: str
) -> list[ConsentMark]:
    """The marks that a consent does not know; empty: it counts.

    `after`: it knows all marks up to the last of these. `withdrawals`: numbers of its issuer's own.
    Raises NotYet if one of these has not arrived, or has no mark yet.
    """
    if marks.pending:
        raise NotYet("a withdrawal has no mark yet, because an upgrade is on trial")
    # a number counts only with its issuer: another issuer's consent must not know it by chance
    own = {mark.number: mark.id for mark in marks.drawn if mark.number and mark.word.who == issuer}
    for number in withdrawals:
        if number not in own:
            raise NotYet(f"the withdrawal {number}, which it names, has not arrived yet")
    known = {own[number] for number in withdrawals}
    # naming a mark covers all earlier ones: people saw the list up to that mark
    first = max((n for n, mark in enumerate(marks.drawn, 1) if mark.id in after), default=0)
    return [mark for mark in marks.drawn[first:] if mark.id not in known]


def sentence(mark: ConsentMark) -> str:
    """What was withdrawn or refused, when, to whom and by whom, with the mark."""
    facts = {
        "to": mark.recipient or _("all recipients"), "on": stamp(mark.word.when),
        "who": mark.word.who, "mark": mark.id,
    }  # fmt: skip
    match mark.cause:
        case "refused":
            return _("refused to {to} on {on} by {who}: mark {mark}", **facts)
        case "restored":
            return _("the gateway was restored on {on}: mark {mark}", **facts)
    return _("withdrawn from {to} on {on} by {who}: mark {mark}", **facts)
