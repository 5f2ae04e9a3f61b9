"""What a schedule needs: data of an uplink, writes to the flash card, room for an outage."""

from __future__ import annotations

from collections import Counter, defaultdict
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.buffer.capacity import WANTED, DailyLoad, days, enough
from agent.config.config import point, wanted
from agent.core.i18n import _
from agent.core.model import ValueKind
from agent.core.quantities import channels
from agent.core.settings import written, written_size
from agent.drivers.base import Budgets
from agent.registry.consent_policy import FLOORS
from agent.uplink.budget import KEEPALIVES, ReadStream, UplinkLoad, a_month, slowest, stretched

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from agent.config.compose import ConfigDraft
    from agent.config.config import Config
    from agent.config.models import UplinkConfig
    from agent.core.model import Point

DAY, YEAR = 86_400, 365
LEAST = 1_000_000
"""bytes to which messages round"""
USUAL_SECONDS = 0.1
"""seconds to read a device on a line that cannot estimate it, such as Modbus TCP"""
COMMIT = 15_000
"""bytes that one commit of a spool writes to the card. Measured on ext4: 9 kB with 2 rows, 19 kB
with 500; a batch of 50 rows and its receipt, which are two commits, 37 kB
"""
CARD, REWRITES, INSIDE = 8_000_000_000, 1_000, 10
"""a common small card: its bytes, how often each can be rewritten, and how many bytes it writes for
each byte that it receives; makers do not state the last, and ten is a cautious estimate
"""
HISTORY, HISTORY_SERIES = 1_000_000, 46
"""bytes a day that the small history writes at most, measured with so many series (python -m
bench.history)
"""
LONG = 20
"""years, after which other parts fail first"""


def affordable(config: Config, name: str) -> Any:
    """The settings of an uplink, with the seal interval and the keep-alive that its budget allows.

    If none fits, the slowest ones.
    """
    uplink = config.uplinks[name]
    asked = uplink_load(uplink, config)
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
    return stretched(uplink_load(uplink, building), uplink.data, _longest(uplink))


def _longest(uplink: UplinkConfig) -> float:
    """The longest keep-alive that the broker allows, in seconds."""
    limits = getattr(uplink.settings, "limits", None)
    return float(limits.keepalive[1]) if limits else KEEPALIVES[-1]


def uplink_load(uplink: UplinkConfig, building: Config | ConfigDraft) -> UplinkLoad:
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
            asked = uplink_load(uplink, draft)
            draft.report.value(("uplinks", name, "data"), _too_little(uplink.data, asked))


def report(uplink: UplinkConfig, config: Config) -> list[str]:
    """Lines for `check`: the data that an uplink needs, and the longer intervals for its budget."""
    asked = uplink_load(uplink, config)
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
        _("{name}: {text}", name=changes, text=_size(a_month(plan))),
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


def wear(config: Config) -> list[str]:
    """Lines on the bytes written a day and the life of a card; empty if nothing is stored."""
    commits = sum(_commits(config, uplink.settings.seal) for uplink in config.uplinks.values())
    if not commits:
        return []
    history = _history(config)
    a_day = commits * COMMIT + history
    years = CARD * REWRITES / (a_day * INSIDE * YEAR)
    lasts = (
        _("over {number} years", number=LONG)
        if years > LONG
        else _("some {number:.2g} years", number=max(years, 0.1))
    )
    spares = _("a `flush` over {flush} makes it last longer", flush=written(config.spool.flush))
    return [
        _("some {size} a day, in {commits:,} commits", size=_card_size(a_day), commits=commits),
        _("{size} of it for the history of common areas and plant", size=_card_size(history)),
        _(
            "a card of {card} GB for {rewrites:,} rewrites lasts {lasts}",
            card=CARD // 10**9,
            rewrites=REWRITES,
            lasts=lasts,
        ),
        *([spares] if years <= LONG else []),
    ]


def _history(config: Config) -> int:
    """Bytes a day for the history: of the gateway itself, and of devices in common areas."""
    points = [one for of in config.points().values() for one in of if one.place and not one.derived]
    return ceil(HISTORY * max(1, len(points) / HISTORY_SERIES))


def _commits(config: Config, seal: float) -> int:
    """Commits a day for one recipient: of readings, batches and receipts."""
    read = [point for of in config.points().values() for point in of if not point.derived]
    points = [point for point in read if point.channel]
    at_most = DAY / config.spool.flush
    # devices that are read within one flush interval share a commit
    rows = min(at_most, sum(_windows(config, step, points) for step in {p.every for p in points}))
    batches = min(DAY / seal, rows)
    return ceil(rows + 2 * batches)


def _windows(config: Config, step: int, points: list[Point]) -> float:
    """Flush intervals a day in which rows of one step arrive; lines are read at the same time."""
    takes: dict[str, float] = {}
    by_device: dict[str, list[Point]] = {}
    for read in points:
        if read.every == step:
            by_device.setdefault(read.device, []).append(read)
    for device, of in by_device.items():
        link = config.devices[device].link
        settings = config.links[link].settings
        seconds = settings.seconds(of) if isinstance(settings, Budgets) else 0.0
        takes[link] = takes.get(link, 0.0) + seconds
    longest = min(step, max(takes.values(), default=0.0))
    return DAY / step * max(1, ceil(longest / config.spool.flush))


def _card_size(number: float) -> str:
    if number >= 10**9:
        return _("{number:.1f} GB", number=number / 1e9)
    return _("{number:,} MB", number=round(number / 1e6))


def daily_load(config: Config) -> DailyLoad:
    """What one recipient's spool stores in a day if every row may be sent."""
    floor = FLOORS[config.privacy.policy]
    kept = [
        point
        for points in config.points().values()
        for point in points
        if point.channel and (point.place is not None or point.every >= floor)
        if not channels()[point.channel].at_changes
    ]
    # each device may be in a dwelling of its own; common plant counts as one place
    of_dwellings = {point.device for point in kept if point.place is None}
    common = any(point.place is not None for point in kept)
    return DailyLoad(sum(DAY // point.every for point in kept), len(of_dwellings) + common)


def left(config: Config, waiting: int) -> int | None:
    """Whole days of outage until one recipient's spool is full; `waiting`: rows that wait there.

    None: nothing is ever stored.
    """
    lasts = days(config.spool.max, daily_load(config), waiting)
    return None if lasts is None else int(lasts)


def outage(config: Config) -> list[str]:
    """Lines on how long an outage may last before readings are deleted for space."""
    lasts = left(config, 0)
    if lasts is None or not config.uplinks:
        return []
    if lasts >= YEAR:
        return [_("an outage of over a year loses no readings")]
    if lasts >= WANTED:
        return [_("an outage of about {days} days loses no readings", days=lasts)]
    return [
        _(
            "! an outage of more than about {days} days loses readings; recommended: {wanted}",
            days=lasts,
            wanted=WANTED,
        ),
        _(
            "  write `max: {size}` under `spool`, or read less often",
            size=written_size(enough(daily_load(config))),
        ),
    ]
