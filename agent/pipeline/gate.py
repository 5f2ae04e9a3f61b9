"""Which series a slot of a point belongs to, for one recipient: whose it is, and may it leave."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from agent.channels import channels
from agent.model import Kind, Series, Why
from agent.registry.gate import Basis, may_leave
from agent.registry.index import Unknown

if TYPE_CHECKING:
    from agent.model import Point
    from agent.registry.gate import Policy
    from agent.registry.registry import Registry

TEN_YEARS = 10 * 366 * 86_400


@dataclass(frozen=True, slots=True)
class Held:
    """Why a point's rows stay here; for people, never sent."""

    words: str


class _Known(NamedTuple):
    revision: int
    since: int
    until: int
    answer: Series | Held


class Gate:
    """The registry's answers for one recipient, asked once per stretch in which nothing changes."""

    def __init__(self, registry: Registry, policy: Policy, recipient: str) -> None:
        self.registry, self.policy, self.recipient = registry, policy, recipient
        self._known: dict[tuple[str, str, str | None], _Known] = {}

    def series(self, point: Point, serial: str | None, t: int) -> Series | Held:
        """The series of the slot `t` of a point on a device that says `serial`, or why it is held.

        A change in the registry counts from the next call on.
        """
        key = (point.device, point.name, serial)
        known = self._known.get(key)
        if (
            known is None
            or known.revision != self.registry.revision
            or not known.since <= t < known.until
        ):
            answer = self._ask(point, serial, t)
            until = self.turns(t, t + TEN_YEARS, point)[0]
            known = self._known[key] = _Known(self.registry.revision, t, until, answer)
        return known.answer

    def turns(self, start: int, end: int, point: Point | None = None) -> list[int]:
        """Instants in (start, end] at which an answer may change, and `end` itself.

        A quantity over a period must lie whole within its basis, so of a derived point's each
        instant counts again a step later.
        """
        common, step = self.policy.common, point.every if point and point.derived else 0
        found = {*self.registry.turns(start - step, end)}
        if common is not None:
            found.add(common.since)
        found |= {turn + step for turn in found}
        return sorted({*(turn for turn in found if start < turn < end), end})

    def _ask(self, point: Point, serial: str | None, t: int) -> Series | Held:
        if point.channel is None:
            return Held("no channel is configured for it")
        channel = channels()[point.channel]
        if point.derived:
            channel = replace(channel, kind=Kind.INT)
        place, meter = point.place, None
        if place is None:
            installation = self.registry.whose(point.device, serial, channel.name, t)
            if isinstance(installation, Unknown):
                return Held(installation.value)
            place, meter = installation.place, installation.serial or serial
        basis = may_leave(
            self.registry, self.policy, place, channel, point.every, t, self.recipient
        )
        if not isinstance(basis, Basis):
            return Held(_held_words()[basis])
        return Series(
            place=place,
            channel=channel.name,
            kind=channel.kind,
            unit=channel.unit,
            step=point.every,
            meter=meter,
            occupancy=basis.occupancy,
            basis=basis.id,
        )


@cache
def _held_words() -> dict[Why, str]:
    return {
        Why.CONSENT: "no consent covers it",
        Why.OCCUPANCY: "nobody is recorded as living there",
        Why.VACANT: "the dwelling is vacant",
    }
