"""The data that an uplink's schedule needs, and settings that fit its data budget."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.config.points import point, wanted
from agent.core.channels import channels
from agent.core.i18n import _
from agent.core.model import ValueKind
from agent.core.settings import written, written_size
from agent.drivers.base import Budgets
from agent.registry.consent_policy import FLOORS
from agent.uplink.budget import KEEPALIVES, ReadStream, UplinkLoad, a_month, slowest, stretched

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from agent.config.compose import ConfigDraft
    from agent.config.config import Config
    from agent.config.models import UplinkConfig

DAY, YEAR = 86_400, 365
LEAST = 1_000_000
"""bytes to which messages round"""
USUAL_SECONDS = 0.1
"""seconds to read a device on a line that cannot estimate it, such as Modbus TCP"""


def affordable(config: Config, name: str) -> Any:
    """The settings of an uplink, with the seal interval and the keep-alive that its budget allows.

    If none fits, the slowest ones.
    """
    uplink = config.uplinks[name]
    asked = load(uplink, config)
    # `check` refuses a budget that is too small, but a gateway must also start with one
    plan = (
        asked
        if uplink.data is None
        else planned(uplink, config) or slowest(asked, _longest(uplink))
    )
    if plan == asked:
        return uplink.settings
    slower = {"seal": plan.seal, "keepalive": plan.keepalive, "poll": plan.keepalive}
    known = {word: value for word, value in slower.items() if hasattr(uplink.settings, word)}
    return uplink.settings.model_copy(update=known)


def planned(uplink: UplinkConfig, building: Config | ConfigDraft) -> UplinkLoad | None:
    """The schedule that fits the budget; None: there is no budget, or no schedule fits."""
    if uplink.data is None:
        return None
    return stretched(load(uplink, building), uplink.data, _longest(uplink))


def _longest(uplink: UplinkConfig) -> float:
    """The longest keep-alive that the broker allows, in seconds."""
    limits = getattr(uplink.settings, "limits", None)
    return float(limits.keepalive[1]) if limits else KEEPALIVES[-1]


def load(uplink: UplinkConfig, building: Config | ConfigDraft) -> UplinkLoad:
    """What an uplink carries with the configured schedule if every row may be sent."""
    floor = FLOORS.get(building.privacy.policy, 0) if building.privacy else 0
    rows = [row for name in building.devices for row in _rows(building, name, floor)]
    settings = uplink.settings
    # MQTT keeps the line open with a keep-alive; HTTPS and files poll for objects instead
    sign = getattr(settings, "keepalive", getattr(settings, "poll", 0.0))
    steps = sorted({row.step for row in rows})
    streams = tuple(_stream(step, rows, building) for step in steps)
    return UplinkLoad(uplink.transport, streams, float(settings.seal), float(sign))


class _Row(NamedTuple):
    """A series of a device."""

    device: str
    point: str
    channel: str
    momentary: bool
    of_dwelling: bool
    step: int


def _stream(step: int, rows: Sequence[_Row], building: Config | ConfigDraft) -> ReadStream:
    here = [row for row in rows if row.step == step]
    devices = {row.device for row in here}
    # the registry knows the dwellings, not the file: devices of one channel are counted instead,
    # since a dwelling seldom has two of them
    of_channel = Counter(
        channel for _, channel in {(r.device, r.channel) for r in here if r.of_dwelling}
    )
    takes: defaultdict[str, float] = defaultdict(float)
    for name in devices:
        points = {row.point for row in here if row.device == name}
        takes[building.devices[name].link] += _seconds(building, name, points)
    return ReadStream(
        step,
        max(of_channel.values(), default=0),
        len(devices),
        len(here),
        sum(row.momentary for row in here),
        max(takes.values()),  # lines are read at the same time
    )


def _rows(building: Config | ConfigDraft, name: str, floor: int) -> Iterator[_Row]:
    """The series of a device; `floor`: the finest step of a dwelling's rows, in seconds."""
    device = building.devices[name]
    of_dwelling = device.place is None
    for point_name, options in wanted(device).items():
        channel = channels().get(options.channel or "")
        if channel is None or channel.at_changes:
            continue
        if of_dwelling and channel.en is None:
            continue  # no consent can name it
        momentary = channel.kind is not ValueKind.REG
        row = _Row(name, point_name, channel.name, momentary, of_dwelling, 0)
        every = int(options.every or device.every)
        yield row._replace(step=_coarser(every, floor) if of_dwelling else every)
        calculated = [every] if options.intervals else []
        calculated += [int(options.mean)] if options.mean else []
        for step in calculated:
            if not of_dwelling or step >= floor:
                yield row._replace(step=step, momentary=True)


def _coarser(step: int, floor: int) -> int:
    """The step of the rows of a dwelling that is read every `step` seconds, in seconds."""
    rows = -(-floor // step) * step if step < floor else step
    # rows exist only for steps that divide a day
    while DAY % rows:
        rows += step
    return rows


def _seconds(building: Config | ConfigDraft, name: str, names: Collection[str]) -> float:
    """Seconds for which reading some points of a device occupies its line."""
    device, options = building.devices[name], wanted(building.devices[name])
    link = building.links.get(device.link)
    points = [point(name, device, one, options[one]) for one in sorted(names) if options[one].at]
    if link is None or not isinstance(link.settings, Budgets) or not points:
        return USUAL_SECONDS
    try:
        return link.settings.seconds(points)
    except ValueError:  # an invalid address: pointcheck reports it
        return USUAL_SECONDS


def datacheck(draft: ConfigDraft) -> None:
    """Report uplinks whose budget is too small even for the longest intervals."""
    for name, uplink in draft.uplinks.items():
        if uplink.data is not None and planned(uplink, draft) is None:
            asked = load(uplink, draft)
            draft.report.value(("uplinks", name, "data"), _too_little(uplink.data, asked))


def report(uplink: UplinkConfig, config: Config) -> list[str]:
    """Lines for `check`: the data that an uplink needs, and the longer intervals for its budget."""
    asked = load(uplink, config)
    need = _("about {a_month} a month on the wire", a_month=_size(a_month(asked)))
    if uplink.data is None or (plan := planned(uplink, config)) is None:
        return [need]
    allowed = written_size(uplink.data)
    if plan == asked:
        return [_("{need}, of {allowed}", need=need, allowed=allowed)]
    slower = []
    if plan.seal != asked.seal:
        slower.append(_("a batch every {seal}", seal=written(plan.seal)))
    if plan.keepalive != asked.keepalive:
        slower.append(_("a keep-alive every {keepalive}", keepalive=written(plan.keepalive)))
    changes = _(" and ").join(slower)
    return [
        _("{need}, more than {allowed}; reduced to", need=need, allowed=allowed),
        f"{changes}: {_size(a_month(plan))}",
    ]


def _too_little(allowed: int, asked: UplinkLoad) -> str:
    return _(
        "this schedule needs {a_month} a month as it is written, and does not fit into"
        " {allowed} even with the longest intervals: read less often (`every:`), or"
        " allow more",
        allowed=written_size(allowed),
        a_month=_size(a_month(asked)),
    )


def _size(number: int) -> str:
    return _("{number:,} MB", number=max(1, round(number / LEAST)))
