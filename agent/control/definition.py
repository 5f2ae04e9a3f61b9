"""The modality of a control, made from its configuration. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control import hours
from agent.control.model import Failsafe, Guard, Limits, LossRule, Modality
from agent.control.settings import SHORTEST, SWITCHES, split

if TYPE_CHECKING:
    from agent.control.settings import Control, FailsafeOptions, GuardOptions


def modality(name: str, options: Control, unit: str, every: dict[str, tuple[int, str]]) -> Modality:
    """The modality that the configuration states.

    `unit`: of the control's point; `every`: period and unit of each point, by DEVICE/POINT.
    """
    agreed = options.modality
    switching = SHORTEST if agreed.action in SWITCHES else 0.0
    return Modality(
        name=name,
        action=agreed.action,
        kind=LossRule.LIMIT if agreed.action == "limit" else LossRule.SHIFT,
        unit=unit,
        limits=Limits(
            least=agreed.min,
            most=agreed.max,
            duration=agreed.max_duration,
            gap=agreed.min_gap,
            a_day=agreed.max_per_day,
            time_a_day=agreed.max_time_per_day,
            notice=agreed.min_notice,
            windows=tuple(hours.window(one) for one in agreed.windows),
            season=hours.season(agreed.season) if agreed.season else None,
            emergency=agreed.emergency,
        ),
        equipment=options.equipment,
        choices=agreed.choices,
        step=agreed.step,
        on=switching if agreed.min_on is None else agreed.min_on,
        off=switching if agreed.min_off is None else agreed.min_off,
        ramp=agreed.ramp_per_min,
        spread=agreed.restore_random,
        guards=tuple(_guard(one, every) for one in options.guards),
        inhibit=split(options.inhibit) if options.inhibit else None,
        require=options.require,
        failsafe=_failsafe(agreed.failsafe),
        tolerance=agreed.tolerance,
        version=options.version,
    )


def _guard(options: GuardOptions, every: dict[str, tuple[int, str]]) -> Guard:
    period, unit = every[options.point]
    return Guard(
        options.name or options.point, *split(options.point), period, options.min, options.max, unit
    )


def _failsafe(options: FailsafeOptions | None) -> Failsafe | None:
    return Failsafe(options.value, options.min_duration, options.heartbeat) if options else None
