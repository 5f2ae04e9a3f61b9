"""What an uplink's schedule needs of a metered line, and what a budget makes of its settings."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from agent.channels import channels
from agent.config.points import wanted
from agent.settings import written, written_size
from agent.uplink.budget import KEEPALIVES, Load, a_month, stretched
from agent.words import _

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config.compose import Draft
    from agent.config.config import Config
    from agent.config.models import Device, Uplink

LEAST = 1_000_000
"""bytes that a message rounds to"""


def affordable(config: Config, name: str) -> Any:
    """The settings of an uplink, with the seal interval and keep-alive that its budget allows."""
    uplink = config.uplinks[name]
    plan = planned(uplink, config.devices)
    if plan is None or plan == load(uplink, config.devices):
        return uplink.settings
    slower = {"seal": plan.seal, "keepalive": plan.keepalive, "poll": plan.keepalive}
    known = {word: value for word, value in slower.items() if hasattr(uplink.settings, word)}
    return uplink.settings.model_copy(update=known)


def planned(uplink: Uplink, devices: Mapping[str, Device]) -> Load | None:
    """The schedule that fits the budget; None where there is no budget, or none fits."""
    if uplink.data is None:
        return None
    limits = getattr(uplink.settings, "limits", None)
    longest = float(limits.keepalive[1]) if limits else KEEPALIVES[-1]
    return stretched(load(uplink, devices), uplink.data, longest)


def load(uplink: Uplink, devices: Mapping[str, Device]) -> Load:
    """What an uplink would carry as it is written, if everything may leave."""
    series: Counter[int] = Counter()
    for device in devices.values():
        for options in wanted(device).values():
            known = channels().get(options.channel or "")
            if known and not known.at_changes:
                step = int(options.every or device.every)
                series[step] += 2 if options.intervals else 1
                if options.mean:
                    series[int(options.mean)] += 1
    settings = uplink.settings
    sign = getattr(settings, "keepalive", getattr(settings, "poll", 0.0))
    return Load(uplink.transport, series, float(settings.seal), float(sign))


def datacheck(draft: Draft) -> None:
    """Add to the report what no stretching brings into its budget."""
    for name, uplink in draft.uplinks.items():
        if uplink.data is not None and planned(uplink, draft.devices) is None:
            slowest = load(uplink, draft.devices)
            draft.report.value(("uplinks", name, "data"), _too_little(uplink.data, slowest))


def said(uplink: Uplink, devices: Mapping[str, Device]) -> list[str]:
    """What `check` says of the data that an uplink needs, and of what was stretched for it."""
    asked = load(uplink, devices)
    need = _("about {a_month} a month on the wire", a_month=_size(a_month(asked)))
    if uplink.data is None or (plan := planned(uplink, devices)) is None:
        return [need]
    allowed = written_size(uplink.data)
    if plan == asked:
        return [_("{need}, of {allowed}", need=need, allowed=allowed)]
    slower = []
    if plan.seal != asked.seal:
        slower.append(_("a batch every {seal}", seal=written(plan.seal)))
    if plan.keepalive != asked.keepalive:
        slower.append(_("a sign of life every {keepalive}", keepalive=written(plan.keepalive)))
    words = _(" and ").join(slower)
    return [
        _("{need}: over {allowed}, so slowed down to", need=need, allowed=allowed),
        f"{words}: {_size(a_month(plan))}",
    ]


def _too_little(allowed: int, asked: Load) -> str:
    return _(
        "{allowed} a month do not carry this schedule, which needs {a_month} as"
        " it is written, however slowly it is sent: read less often (`every:`),"
        " or allow more",
        allowed=written_size(allowed),
        a_month=_size(a_month(asked)),
    )


def _size(number: int) -> str:
    return f"{max(1, round(number / LEAST)):,} MB"
