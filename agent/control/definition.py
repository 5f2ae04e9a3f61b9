"""What the configuration agreed on for a control, as the rest of this part knows it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control import hours
from agent.control.model import Failsafe, Guard, Limits, LossRule, Modality
from agent.control.settings import SHORTEST, SWITCHES, split

if TYPE_CHECKING:
    from agent.control.settings import Control, FailsafeOptions, GuardOptions


def modality(name: str, options: Control, unit: str, every: dict[str, tuple[int, str]]) -> Modality:
    """What the configuration agreed on; `every`: period and unit of each point by DEVICE/POINT."""
    said = options.modality
    switching = SHORTEST if said.action in SWITCHES else 0.0
    return Modality(
        name=name,
        action=said.action,
        kind=LossRule.LIMIT if said.action == "limit" else LossRule.SHIFT,
        unit=unit,
        limits=Limits(
            least=said.min,
            most=said.max,
            duration=said.max_duration,
            gap=said.min_gap,
            a_day=said.max_per_day,
            time_a_day=said.max_time_per_day,
            notice=said.min_notice,
            windows=tuple(hours.window(one) for one in said.windows),
            season=hours.season(said.season) if said.season else None,
            emergency=said.emergency,
        ),
        equipment=options.equipment,
        choices=said.choices,
        step=said.step,
        on=switching if said.min_on is None else said.min_on,
        off=switching if said.min_off is None else said.min_off,
        ramp=said.ramp_per_min,
        spread=said.restore_random,
        guards=tuple(_guard(one, every) for one in options.guards),
        inhibit=split(options.inhibit) if options.inhibit else None,
        require=options.require,
        failsafe=_failsafe(said.failsafe),
        tolerance=said.tolerance,
        version=options.version,
    )


def _guard(one: GuardOptions, every: dict[str, tuple[int, str]]) -> Guard:
    period, unit = every[one.point]
    return Guard(one.name or one.point, *split(one.point), period, one.min, one.max, unit)


def _failsafe(said: FailsafeOptions | None) -> Failsafe | None:
    return Failsafe(said.value, said.min_duration, said.heartbeat) if said else None
