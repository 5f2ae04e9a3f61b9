"""What the registry says of rows that are stored already, for one recipient: asked before they are
kept, when they are sealed, and whenever it has changed (rules P12, T2, T7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.model import ValueKind
from agent.pipeline.row_assignment import TEN_YEARS
from agent.registry.consent_policy import still_covers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.model import Reading, Retraction, Series
    from agent.pipeline.row_assignment import RowAssignment


class _RecipientBases(NamedTuple):
    answers: tuple[int, bool]
    since: int
    until: int
    stands: bool


class RegistryBases:
    """The registry in the words of the spool. `stands` is asked from the spool's thread, too."""

    def __init__(self, gate: Callable[[], RowAssignment], closed: Callable[[], int] = int) -> None:
        self._gate, self._closed = gate, closed
        """the one of now: a new configuration brings a new one; and the last slot that is closed,
        where that lies ahead of the clock, else 0
        """
        self._known: dict[Series, _RecipientBases] = {}

    def revision(self) -> int:
        """The number of the registry's last change."""
        return self._gate().registry.revision

    @property
    def mute(self) -> bool:
        """Whether nobody can say now what stands (see Registry.mute)."""
        return self._gate().registry.mute

    def stands(self, series: Series, t: int) -> bool:
        """Whether a row of slot t may still leave, on the basis that it carries."""
        gate = self._gate()
        if not series.basis:  # it says that something is withheld, and nothing else
            return gate.withholds
        answers, known = gate.registry.answers, self._known.get(series)
        if known is not None and known.answers == answers and known.since <= t < known.until:
            return known.stands
        stands = still_covers(gate.registry, gate.policy, series, t, gate.recipient)
        if series.kind not in (ValueKind.INT, ValueKind.AVG):
            turn = next(iter(gate.registry.turns(t, t + TEN_YEARS)), t + TEN_YEARS)
            self._known[series] = _RecipientBases(answers, t, turn, stands)
        return stands

    def kept(self, rows: Sequence[Reading]) -> list[Reading]:
        """Those of the rows that may still be stored."""
        return [row for row in rows if self.mute or self.stands(row.series, row.t)]

    def taken_back(self, after: int) -> tuple[int, list[Retraction]]:
        """What the changes after one take back from this recipient, and the number of the last.

        A recipient who never had a basis in a dwelling is not told what happens there.
        """
        gate = self._gate()
        revision = gate.registry.revision
        found = [one for _, taken in gate.registry.effects(after, self._closed()) for one in taken]
        return revision, [one for one in found if self._concerns(one)]

    def _concerns(self, one: Retraction) -> bool:
        registry, recipient = self._gate().registry, self._gate().recipient
        if one.recipient is not None or one.place[:1] != "D":
            return one.recipient in (None, recipient)
        if any(duty.recipient == recipient for duty in registry.duties()):
            return True
        given = (consent for consent in registry.consents() if consent.recipient == recipient)
        return any(consent.place == one.place for consent in given)
