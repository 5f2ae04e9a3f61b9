"""Checks whether stored rows may still be kept and sent, for one recipient: before they are stored,
when they are sealed, and whenever the registry has changed (rules P12, T2, T7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.acquisition.row_assignment import TEN_YEARS
from agent.core.model import ValueKind
from agent.registry.consent_policy import still_covers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.acquisition.row_assignment import RowAssignment
    from agent.core.model import Reading, Retraction, Series


class _RecipientBases(NamedTuple):
    answers: tuple[int, bool]
    since: int
    until: int
    stands: bool


class RegistryBases:
    """Answers from the registry for one spool. The spool's thread calls `stands`, too."""

    def __init__(
        self, assignment: Callable[[], RowAssignment], last_closed: Callable[[], int] = int
    ) -> None:
        self._assignment, self._last_closed = assignment, last_closed
        """`_assignment` returns the current one: a new configuration brings a new one.
        `_last_closed` returns the last closed slot where that lies ahead of the clock, else 0.
        """
        self._cache: dict[Series, _RecipientBases] = {}

    def revision(self) -> int:
        """The number of the registry's last change."""
        return self._assignment().registry.revision

    @property
    def mute(self) -> bool:
        """Whether the registry cannot answer at present (see Registry.mute)."""
        return self._assignment().registry.mute

    def stands(self, series: Series, t: int) -> bool:
        """Whether a row of slot t may still leave, on the basis that it carries."""
        assignment = self._assignment()
        if not series.basis:  # the row says only that something is withheld
            return assignment.withholds
        answers, cached = assignment.registry.answers, self._cache.get(series)
        if cached is not None and cached.answers == answers and cached.since <= t < cached.until:
            return cached.stands
        stands = still_covers(
            assignment.registry, assignment.policy, series, t, assignment.recipient
        )
        # Quantities over a period are not cached: the basis must cover the whole period, so the
        # answer may change between two changes of the registry.
        if series.kind not in (ValueKind.INT, ValueKind.AVG):
            next_change = next(iter(assignment.registry.turns(t, t + TEN_YEARS)), t + TEN_YEARS)
            self._cache[series] = _RecipientBases(answers, t, next_change, stands)
        return stands

    def kept(self, rows: Sequence[Reading]) -> list[Reading]:
        """The rows that may still be stored."""
        return [row for row in rows if self.mute or self.stands(row.series, row.t)]

    def taken_back(self, after: int) -> tuple[int, list[Retraction]]:
        """The number of the registry's last change, and the retractions that this recipient is owed
        for the changes after number `after`.

        A recipient that never had a basis in a dwelling learns nothing of its changes.
        """
        assignment = self._assignment()
        revision = assignment.registry.revision
        retractions = [
            retraction
            for _, taken in assignment.registry.effects(after, self._last_closed())
            for retraction in taken
        ]
        return revision, [retraction for retraction in retractions if self._concerns(retraction)]

    def _concerns(self, retraction: Retraction) -> bool:
        registry, recipient = self._assignment().registry, self._assignment().recipient
        if retraction.recipient is not None or retraction.place[:1] != "D":
            return retraction.recipient in (None, recipient)
        if any(duty.recipient == recipient for duty in registry.duties()):
            return True
        given = (consent for consent in registry.consents() if consent.recipient == recipient)
        return any(consent.place == retraction.place for consent in given)
