"""Whether lines and batteries can bear the schedule: found before it is found out."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from agent.config.points import point, profile_of, wanted
from agent.drivers.base import Budgets
from agent.settings import shown, written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.compose import Draft
    from agent.config.models import Device, Link
    from agent.model import Point

DAY = 86_400
STEPS = (60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 14_400, 21_600, 43_200, DAY)
"""what to ask for instead: steps that people think in"""


def linecheck(draft: Draft) -> None:
    """Add to the report what is read more often than its line or its battery can bear."""
    for name, device in draft.devices.items():
        _battery(draft, name, device)
    for name, link in draft.links.items():
        if isinstance(link.settings, Budgets):
            _capacity(draft, name, link)


def _battery(draft: Draft, name: str, device: Device) -> None:
    profile = profile_of(device)
    most = device.reads_a_day or (profile.reads_a_day if profile else None)
    steps = [int(one.every or device.every) for one in wanted(device).values()]
    if not most or not steps or DAY // min(steps) <= most:
        return
    slower = next((step for step in STEPS if DAY // step <= most), DAY)
    what = (
        f"{DAY // min(steps)} readings a day empty the battery of this meter, which is made for"
        f" {most}: write `every: {written(slower)}`, or `reads_a_day:` as its maker says"
    )
    path = ("devices", name, "every") if "every" in draft.entry("devices", name) else ()
    if path:
        draft.report.value(path, what)
    else:
        draft.report.key(("devices", name), what)


def _capacity(draft: Draft, name: str, link: Link) -> None:
    reads = []
    for points in _devices_on(draft, name):
        with suppress(ValueError):  # an address that is none: pointcheck has told
            reads.append((link.settings.seconds(points), min(one.every for one in points)))
    load = sum(seconds / step for seconds, step in reads)
    if load <= 1:
        return
    around, asked = sum(seconds for seconds, _ in reads), min(step for _, step in reads)
    slower = next((step for step in STEPS if around <= step), DAY)
    what = (
        f"{shown(name)} needs {took(around)} to read its {len(reads)} devices once, and is asked"
        f" for more than that: every {written(asked)}; read them `every: {written(slower)}`"
    )
    draft.report.key(("links", name), what)


def _devices_on(draft: Draft, link: str) -> Iterator[list[Point]]:
    for name, device in draft.devices.items():
        options = wanted(device).items() if device.link == link else ()
        points = [point(name, device, one, said) for one, said in options if said.at]
        if points:
            yield points


def took(seconds: float) -> str:
    """Write a time as people say it."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 3600:.1f} h"
