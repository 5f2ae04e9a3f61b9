"""Whether a guard has tripped, or the operator's off switch is set. Pure (rule H3).

A value that cannot be used counts as tripped: from a sensor that is silent, bad, older than twice
its period, or not plausible (agent/gateway/controls.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control.model import No, OrderCode
from agent.core.i18n import N_, Text, joined
from agent.core.quantities import spoken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.control.model import Guard, Modality


LOWEST, HIGHEST = N_("lowest {guard} {value}"), N_("highest {guard} {value}")
SLACK = 5.0
"""seconds beyond two periods, because a read takes time"""


@dataclass(frozen=True, slots=True)
class GuardReading:
    """The last reading of a point, in its unit."""

    value: Decimal | None
    """None: silent, bad, or never read"""
    age: float
    """seconds; negative if the clock was set back since"""
    every: int
    """seconds between two reads"""
    doubt: Text | None = None
    """why the value is not used, as the rest of a sentence; None: it is used, or missing"""


def fresh(seen: GuardReading | None) -> Decimal | None:
    """The value, if it is valid and recent enough; else None."""
    # a negative age (the clock was set back) does not show that a value is recent
    if seen is None or abs(seen.age) > 2 * seen.every + SLACK:
        return None
    return seen.value


def tripped(
    guards: tuple[Guard, ...], look: Callable[[str, str], GuardReading | None]
) -> No | None:
    """The refusal of the first guard that has tripped; None: none has."""
    for guard in guards:
        seen = look(guard.device, guard.point)
        value = fresh(seen)
        if value is None:
            doubt = (seen.doubt if seen else None) or Text("has no recent value")
            reason = Text("{guard} {doubt}", guard=guard.name, doubt=doubt)
            return No(OrderCode.GUARD, reason, field=guard.name)
        if guard.least is not None and value < guard.least:
            reason = Text(
                "{guard} is {value}, below {limit}",
                guard=guard.name, value=measured(value, guard.unit), limit=guard.least,
            )  # fmt: skip
            return No(OrderCode.GUARD, reason, field=guard.name)
        if guard.most is not None and value > guard.most:
            reason = Text(
                "{guard} is {value}, above {limit}",
                guard=guard.name, value=measured(value, guard.unit), limit=guard.most,
            )  # fmt: skip
            return No(OrderCode.GUARD, reason, field=guard.name)
    return None


def inhibited(modality: Modality, look: Callable[[str, str], GuardReading | None]) -> No | None:
    """The refusal while the operator's off switch is set or cannot be read; None: it is not set."""
    if modality.inhibit is None:
        return None
    value, switch = fresh(look(*modality.inhibit)), "/".join(modality.inhibit)
    if value is None:
        reason = Text("{switch} cannot be read: it counts as set", switch=switch)
        return No(OrderCode.INHIBITED, reason)
    if value != 0:
        return No(OrderCode.INHIBITED, Text("the operator has set {switch}", switch=switch))
    return None


def measured(value: Decimal, unit: str) -> Text:
    """A value for people, with its unit."""
    number = Decimal(plain(value))
    if not unit:
        return Text("{number}", number=number)
    return Text("{number} {unit}", number=number, unit=spoken(unit))


def plain(value: Decimal) -> str:
    """A number for people: no exponent, no needless zeros."""
    return format(value.normalize(), "f") if value else "0"


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
        return joined(
            ", ",
            [
                Text(
                    LOWEST if guard.least is not None else HIGHEST,
                    guard=guard.name, value=measured(extremes[guard.name], guard.unit),
                )
                for guard in guards
                if guard.name in extremes
            ],
        )  # fmt: skip
