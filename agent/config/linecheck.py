"""Check whether lines and batteries allow the schedule."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from agent.config.batteries import DAY, batteries
from agent.config.midnightcheck import misses
from agent.config.models import DeviceOptions
from agent.config.points import point, wanted
from agent.core.i18n import _
from agent.core.settings import FROM_A_FILE, shown, took, written
from agent.drivers.base import Budgets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.config.compose import ConfigDraft
    from agent.config.models import DeviceConfig, LinkConfig
    from agent.core.model import Point

STEPS = (60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 14_400, 21_600, 43_200, DAY)
"""seconds: the round steps that messages propose"""


def linecheck(draft: ConfigDraft) -> None:
    """Report devices that are read more often than their line or battery allows."""
    for together, most in batteries(draft.devices, draft.links):
        _battery(draft, together, most)
    for name, link in draft.links.items():
        if isinstance(link.settings, Budgets):
            _capacity(draft, name, link)


def _battery(draft: ConfigDraft, together: Sequence[str], most: int) -> None:
    devices = [draft.devices[name] for name in together]
    number = sum(map(_reads_a_day, devices))
    if number <= most or not all(_whole(draft, name) for name in together):
        return
    slower = next(
        step for step in _steps(draft) if len(devices) * DAY <= most * step or step == DAY
    )
    what = _(
        "{number} readings a day empty the battery of this meter, which is designed for"
        " {most}: write `every: {slower}`, or `reads_a_day:` if its manufacturer allows"
        " more",
        number=number,
        most=most,
        slower=written(slower),
    )
    if len(together) > 1:
        what += _(" (of {names} together: it is one device)", names=", ".join(together))
    name = together[-1]
    if "every" in draft.entry("devices", name):
        draft.report.value(("devices", name, "every"), what)
    else:
        draft.report.key(("devices", name), what)


def _whole(draft: ConfigDraft, name: str) -> bool:
    """Whether a device is valid: the step of an invalid one is only the default."""
    entry = {key: value for key, value in draft.entry("devices", name).items() if key != "points"}
    try:
        DeviceOptions.model_validate(entry, context=FROM_A_FILE)
    except ValidationError:
        return False
    return True


def _reads_a_day(device: DeviceConfig) -> int:
    """Readings a day of a device; points that are due at the same time are one reading."""
    steps = {int(one.every or device.every) for one in wanted(device).values()}
    return len({slot for step in steps for slot in range(0, DAY, step)})


def _steps(draft: ConfigDraft) -> list[int]:
    """The steps to propose: those with a slot at midnight in summer and in winter."""
    zone = ZoneInfo(draft.building.timezone if draft.building else "UTC")
    return [step for step in STEPS if step == DAY or not misses(step, zone)]


def _capacity(draft: ConfigDraft, name: str, link: LinkConfig) -> None:
    reads = []
    for points in _devices_on(draft, name):
        with suppress(ValueError):  # an invalid address: pointcheck reports it
            reads.append((link.settings.seconds(points), min(one.every for one in points)))
    # the share of time for which the line is busy; above 1, slots are missed every day
    load = sum(seconds / step for seconds, step in reads)
    if load <= 1:
        return
    around, asked = sum(seconds for seconds, _ in reads), min(step for _, step in reads)
    slower = next(step for step in _steps(draft) if around <= step or step == DAY)
    what = _(
        "{name} cannot read its {number} devices so often: to read all once takes {around}, and"
        " the shortest step is {asked}. Write `every: {slower}`, or split the line",
        name=shown(name),
        around=took(around),
        number=len(reads),
        asked=written(asked),
        slower=written(slower),
    )
    draft.report.key(("links", name), what)


def _devices_on(draft: ConfigDraft, link: str) -> Iterator[list[Point]]:
    for name, device in draft.devices.items():
        options = wanted(device).items() if device.link == link else ()
        points = [point(name, device, one, said) for one, said in options if said.at]
        if points:
            yield points
