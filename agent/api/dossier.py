"""Collects what dossiers are made of: the configuration, open lines, spools, logs and the journal.

Without a daemon the stores are opened for the call.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.acquisition.row_assignment import RowAssignment
from agent.acquisition.sums import Groups, Sums, Totals, groups_file
from agent.acquisition.sums import totals_file as totals_of
from agent.acquisition.timetable import following, running_slot
from agent.api.disclosures import Records, identify, records
from agent.api.protection.published import responsible
from agent.control.history import evidence_text, how_ended
from agent.control.model import FAILSAFE, FINAL, TEST, OrderState, split
from agent.core.i18n import N_, Text
from agent.gateway.gateway import policy_of
from agent.registry.aggregate import Group, formed, sent_alone
from agent.registry.dates import DAY, MONTH
from agent.registry.dossier import (
    AggregateEntry,
    DeviceState,
    DossierSources,
    PastOrder,
    RecipientState,
    WithheldNotice,
)
from agent.registry.explain import ConfiguredReading, explain
from agent.registry.records import Installation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.control.records import Outcome
    from agent.gateway.gateway import Gateway
    from agent.registry.explain import Explanation
    from agent.registry.records import Occupancy

ORDERS = 366 * DAY
"""seconds back from now for which a dossier has orders"""
STAYS = N_(
    "it was withheld for a time, and the next index would reveal what few dwellings used then"
)


OWN_METER = N_("the building has its own meter for this quantity, and its total is sent instead")
FEW_DWELLINGS = N_("there are fewer than {fewest} dwellings")
NOT_READ = N_("no dwelling has a meter for this quantity")
FEW = N_("{count} of these dwellings count, fewer than {fewest}: nothing is sent")
SENT = N_("where at least {fewest} of them count")


def reads(gateway: Gateway) -> list[ConfiguredReading]:
    """Return all configured points that have a channel."""
    readings: list[ConfiguredReading] = []
    for line in gateway.lines.values():
        for device in line.devices.values():
            readings += [
                ConfiguredReading(
                    device.name,
                    device.serial,
                    point.channel,
                    point.every,
                    point.derived,
                    point.place,
                    device.serial_point is not None,
                )
                for point in device.points
                if point.channel is not None
            ]
    return readings


def recipients(gateway: Gateway) -> list[str]:
    """Return the ids of the configured recipients, except those that are being closed."""
    known = _configured(gateway)
    return sorted(one for one in known if one not in gateway.recipients.closing)


def _configured(gateway: Gateway) -> set[str]:
    return {str(one.settings.recipient) for one in gateway.config.uplinks.values()}


async def collected(  # noqa: PLR0913 -- what is wanted
    gateway: Gateway,
    at: int,
    *,
    place: str | None = None,
    home: Occupancy | None = None,
    language: str = "en",
    whole: bool = True,
) -> DossierSources:
    """Collect everything that dossiers as of `at` (Unix seconds) are made of.

    `place`: only of this place (by id). `home`: also the values that are still here of these
    occupants. `whole` false: without what was received, seen and ordered.
    """
    recorded = (
        await records(gateway, place, home) if whole else Records(gaps=await identify(gateway))
    )
    explanations = _explanations(gateway, at)
    devices = None if place is None else {one.device for one in explanations if one.place == place}
    config, now = gateway.config, gateway.clock.now()
    return DossierSources(
        building=config.building.name,
        zone=config.zone,
        now=now,
        explanations=explanations,
        notices=_notices(gateway, at, devices),
        sums=aggregate_entries(gateway, at),
        devices=[
            DeviceState(
                *(device.name, device.serial, device.serial_point is not None, device.answered),
                *(device.failures, device.problem, recorded.closed.get(device.name)),
            )
            for device in gateway.lines.devices()
        ],
        recipients=_recipients(gateway),
        running=bool(gateway.daemon),
        closing=frozenset(one for one in _configured(gateway) if one in gateway.recipients.closing),
        disclosed=recorded.disclosed,
        received=recorded.received,
        unconfirmed=recorded.unconfirmed,
        erasures=recorded.erasures,
        held=recorded.held,
        known=recorded.known,
        gaps=recorded.gaps,
        looks=gateway.access_log.of() if whole else (),
        orders=await _orders(gateway, now) if whole else (),
        keep_days=round(config.spool.keep / DAY),
        responsible=responsible(config, language),
        names=config.privacy.names,
    )


def _recipients(gateway: Gateway) -> list[RecipientState]:
    """Return the state of the delivery to each recipient with an uplink."""
    states = []
    for name, uplink in gateway.config.uplinks.items():
        recipient = gateway.recipients.get(name)
        facts: tuple[Any, ...] = ()
        if recipient is not None:
            delivery = recipient.delivery
            lost = "" if delivery.connected_since else delivery.lost
            facts = (delivery.connected_since, delivery.last_receipt, lost)
        states.append(RecipientState(str(uplink.settings.recipient), *facts))
    return states


async def _orders(gateway: Gateway, now: float) -> list[PastOrder]:
    """Return what was done with equipment in the last year, oldest first."""
    if not gateway.steering:
        return []
    steering = gateway.steering
    journal = steering.controller.journal
    outcomes: Sequence[Outcome] = await steering.writer.call(journal.history, now - ORDERS, now)
    groups: dict[tuple[str, str, int], list[Outcome]] = {}
    failsafes = 0
    for outcome in outcomes:
        if outcome.jti in {"", TEST}:  # a test is no order
            continue
        failsafes += outcome.jti == FAILSAFE and outcome.state is OrderState.STARTED
        number = failsafes if outcome.jti == FAILSAFE else 0
        groups.setdefault((outcome.jti, outcome.control, number), []).append(outcome)
    return [_order(gateway, group) for group in groups.values()]


def _order(gateway: Gateway, group: Sequence[Outcome]) -> PastOrder:
    first = group[0]
    control = gateway.config.controls.get(first.control)
    configured = gateway.steering.controller.controls.get(first.control)
    device = next((one.device for one in group if one.device), "")
    device = device or (split(control.point)[0] if control else "")
    begun = next((one.at for one in group if one.state is OrderState.STARTED), None)
    ended = next((one for one in reversed(group) if one.state in FINAL), None)
    received = first.words if first.state is OrderState.RECEIVED else ""
    return PastOrder(
        place=_place_of(gateway, device, int(first.at)),
        control=first.control,
        # the words on the operator's sheet, which also the notice in the stairwell uses
        equipment=((control.sheet and control.sheet.object) or control.equipment)
        if control
        else "",
        value=_first(one.value for one in group),
        unit=configured.modality.unit if configured else "",
        by=_first(one.by for one in group),
        failsafe=first.jti == FAILSAFE,
        authorization=evidence_text(_first(one.evidence for one in group)),
        reason=received,
        received=first.at,
        begun=begun,
        ended=ended.at if ended else None,
        state=str((ended or group[-1]).state),
        result=how_ended(ended.words) if ended else "",
        seen=_first(one.seen for one in group),
        released=any(one.closed for one in group),
        action=str(configured.modality.action) if configured else "",
    )


def _first(texts: Iterable[str]) -> str:
    return next(filter(None, texts), "")


def _place_of(gateway: Gateway, device: str, at: int) -> str | None:
    """Return the id of the place of a device at a time; empty: it measures no dwelling; None: it is
    not known.
    """
    points, settings = gateway.config.points().get(device, ()), gateway.config.devices.get(device)
    if settings is not None and settings.place:
        return str(settings.place)
    serial = gateway.lines.serial(device)
    measures = [point.channel for point in points if point.channel and not point.place]
    for channel in measures:
        meter = gateway.registry.whose(device, serial, channel, at)
        if isinstance(meter, Installation):
            return meter.place
    # Without a recorded meter it may be in any dwelling, and these people must not learn of it.
    return None if measures or settings is None else ""


def _notices(gateway: Gateway, t: int, devices: set[str] | None) -> list[WithheldNotice]:
    """Return the notices of withheld rows at time t that recipients get, for some devices or all.

    A notice has a reason and no value.
    """
    notices = []
    points = [
        (point, device.serial)
        for line in gateway.lines.values()
        for device in line.devices.values()
        for point in device.points
        if point.channel is not None and (devices is None or device.name in devices)
    ]
    for uplink in gateway.config.uplinks.values():
        recipient = str(uplink.settings.recipient)
        if not uplink.withheld or recipient in gateway.recipients.closing:
            continue
        totals = Totals(totals_of(gateway.config.state, recipient))
        terms = (gateway.registry, policy_of(gateway.config), recipient)
        assignment = RowAssignment(*terms, withholds=True, held=totals.held)
        notices += [
            WithheldNotice(recipient, series.place, series.channel, series.step, str(why))
            for point, serial in points
            for series, why in assignment.at(point, serial, t).withheld
        ]
    return list(dict.fromkeys(notices))  # several points of a place give the same notice


def _explanations(gateway: Gateway, t: int) -> list[Explanation]:
    explanations = explain(
        gateway.registry, policy_of(gateway.config), reads(gateway), recipients(gateway), t
    )
    state = gateway.config.state
    known = {name: Totals(totals_of(state, name)) for name in recipients(gateway)}
    return [
        replace(one, step=None, basis="", why=STAYS)
        if _is_building_index(one) and known[one.recipient].held(str(one.place), one.channel)
        else one
        for one in explanations
    ]


def _is_building_index(explanation: Explanation) -> bool:
    """Whether the registry allows sending this index of the building as a whole."""
    return (
        explanation.step is not None
        and not explanation.derived
        and str(explanation.place)[0] == "B"
    )


def aggregate_entries(gateway: Gateway, t: int) -> list[AggregateEntry]:
    """Describe every configured sum at time t (Unix seconds), as far as the registry knows now.

    Where the group of that month is not fixed yet, the group is formed as it would be now.
    """
    return [
        _entry(gateway, name, channel, t)
        for name, uplink in gateway.config.uplinks.items()
        for channel in uplink.sums
    ]


def _entry(gateway: Gateway, uplink: str, channel: str, t: int) -> AggregateEntry:
    sums_config, registry = gateway.sums.configured(gateway.config)[uplink], gateway.registry
    recipient_id, recipient = str(gateway.config.uplinks[uplink].settings.recipient), None
    recipient = gateway.recipients.get(uplink)
    if (absence := _absence_reason(gateway, uplink, channel)) is not None:
        return AggregateEntry(recipient_id, channel, None, absence)
    sums = recipient.sums if recipient else _stored_sums(gateway, recipient_id)
    group = next((one for one in sums.groups.of(channel) if one.since <= t < one.until), None)
    fixed = group is not None
    # If the group of this month is not stored yet, show the one that would be formed now. Do not
    # store it: a report must not decide who is in the group.
    if group is None:
        since = running_slot(MONTH, t, sums_config.zone)
        until = following(since, MONTH, sums_config.zone)
        measured = sums.measured(sums_config, channel, t)
        now = formed(registry, measured, channel, t, until, recipient_id)
        group = Group(since, until, now.members)
    counts = sum(
        registry.occupancy_at(place, t) is not None
        and not sent_alone(registry, place, channel, group.since if fixed else t, t, recipient_id)
        for place in group.members
    )
    template = FEW if counts < sums_config.fewest else SENT
    why = Text(template, count=counts, fewest=sums_config.fewest)
    last_sum = sums.last_closed.get(channel) if fixed else None
    return AggregateEntry(
        recipient_id,
        channel,
        sums_config.steps()[channel] if counts >= sums_config.fewest else None,
        why,
        group.since,
        group.until,
        tuple(sorted(group.members)),
        counts,
        last_sum[0] if last_sum else None,
        last_sum[1] if last_sum else None,
    )


def _absence_reason(gateway: Gateway, uplink: str, channel: str) -> Text | None:
    """Say why a configured sum is never made; None if it is made."""
    sums_config = gateway.sums.configured(gateway.config)[uplink]
    if channel not in sums_config.points:
        own = any(one.channel == channel for one in sums_config.whole)
        return Text(OWN_METER if own else NOT_READ)
    if len(gateway.registry.dwellings()) < sums_config.fewest:
        return Text(FEW_DWELLINGS, fewest=sums_config.fewest)
    return None


def _stored_sums(gateway: Gateway, recipient: str) -> Sums:
    """Load the groups that a daemon stored, for a call that runs without a daemon."""
    groups = Groups(groups_file(gateway.config.state, recipient))
    return Sums(gateway.registry, recipient, groups, gateway.sums.indexes, {}, gateway.lines.serial)
