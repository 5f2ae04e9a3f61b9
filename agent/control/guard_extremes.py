"""The worst value of each guard during a hold, for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control.guard import fresh, measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from decimal import Decimal

    from agent.control.guard import GuardReading
    from agent.control.model import Guard


class GuardExtremes:
    """The worst values by control; they are kept until `tell` returns them."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, Decimal]] = {}

    def note(
        self, name: str, guards: Iterable[Guard], look: Callable[[str, str], GuardReading | None]
    ) -> None:
        """Keep the values that are worse than those before."""
        extremes = self._seen.setdefault(name, {})
        for guard in guards:
            value = fresh(look(guard.device, guard.point))
            if value is not None:
                before = extremes.get(guard.name, value)
                low = guard.least is not None
                extremes[guard.name] = min(before, value) if low else max(before, value)

    def tell(self, name: str, guards: Iterable[Guard]) -> str:
        """The worst values as text; they are forgotten."""
        extremes = self._seen.pop(name, {})
        return ", ".join(
            f"{'lowest' if guard.least is not None else 'highest'} {guard.name}"
            f" {measured(extremes[guard.name], guard.unit)}"
            for guard in guards
            if guard.name in extremes
        )
