"""Calls about personal data: what is sent and why, what is withheld, and who has looked."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

from agent.acquisition.row_assignment import RowAssignment
from agent.acquisition.sums import Groups, Sums, Totals, groups_file
from agent.acquisition.sums import totals_file as totals_of
from agent.acquisition.timetable import following, running_slot
from agent.api import answers
from agent.api.disclosures import identify, records
from agent.api.protection import calls as breach_calls
from agent.api.protection.published import (
    Processing,
    assessment,
    assessment_page,
    catalogue_of,
    catalogue_page,
    register,
    register_page,
    register_table,
    responsible,
)
from agent.api.protection.stores import check_language
from agent.api.registry import author, device_of, passing
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.log_fields import LogEvent, fields
from agent.gateway.gateway import policy_of
from agent.registry import parsers
from agent.registry.access_log import EVERYBODY
from agent.registry.aggregate import Group, formed, sent_alone
from agent.registry.dates import MONTH
from agent.registry.explain import ConfiguredReading, explain
from agent.registry.facts.place import particulars
from agent.registry.inputs import NewWithdrawal
from agent.registry.letter import (
    AggregateEntry,
    KnowledgeGap,
    Person,
    WithheldNotice,
    erasure_state,
    letter,
    overlaps,
    table,
)
from agent.registry.page import printed
from agent.registry.place import OCCUPANCY, parse, shown
from agent.registry.records import covers, serial_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.api.registry import Call, Caller
    from agent.config import Config
    from agent.gateway.gateway import Gateway
    from agent.registry.access_log import AccessEntry, AccessLog
    from agent.registry.explain import Explanation
    from agent.registry.letter import Erasure
    from agent.registry.page import Page
    from agent.registry.records import Consent, Occupancy, Place
    from agent.registry.registry import Registry

log = logging.getLogger(__name__)

STAYS = "it was withheld for a time, and the next index would reveal what few dwellings used then"


DAY = 86_400
OWN_METER = "the building has its own meter for this quantity, and its total is sent instead"
FEW_DWELLINGS = "there are fewer than {fewest} dwellings"
NOT_READ = "no dwelling has a meter for this quantity"
FEW = "{count} of these dwellings count, fewer than {fewest}: nothing is sent"
SENT = "where at least {fewest} of them count"


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
    known = {str(one.settings.recipient) for one in gateway.config.uplinks.values()}
    return sorted(one for one in known if one not in gateway.recipients.closing)


def seen(what: str, call: Call) -> Call:
    """Wrap a call so that the access log notes who made it, if it shows data of a dwelling."""
    takes_name = "named" in signature(call).parameters

    @passing(call)
    async def wrapper(
        gateway: Gateway, caller: Caller, *, named: str | None = None, **args: Any
    ) -> dict[str, Any]:
        plant = "device" in args and is_common(gateway, args["device"])
        who = caller.who if plant else author(gateway, caller, named)
        # `author` comes before the call: a shared account without a name must see nothing.
        answer = await call(gateway, caller, **args, **({"named": named} if takes_name else {}))
        place = _dwelling_of(gateway, args)
        if place is not None and not plant:
            note(gateway, who, what, place)
        return answer

    return wrapper


def note(gateway: Gateway, who: str, what: str, place: str = EVERYBODY) -> None:
    """Write an entry to the access log, before anything is shown.

    If the disk fails, the look goes to the system log instead, and the data is shown all the same.
    """
    try:
        gateway.access_log.note(who, what, place, gateway.clock.now())
    except OSError as error:
        log.error(  # noqa: TRY400 -- no bug
            "%s saw %s of %s; the access log could not be written: %s", who, what, place, error,
            extra=fields(LogEvent.LOOK_NOT_RECORDED),
        )  # fmt: skip


def is_common(gateway: Gateway, name: str) -> bool:
    """Whether a device measures only common plant, or is commanded and in no dwelling."""
    if name in {one.point.partition("/")[0] for one in gateway.config.controls.values()}:
        return _dwelling_of(gateway, {"device": name}) is None
    points = gateway.config.points().get(name, ())
    return bool(points) and all(one.place for one in points)


def _dwelling_of(gateway: Gateway, args: Mapping[str, Any]) -> str | None:
    """Return the id of the dwelling whose data a call shows; None if it shows none."""
    if "device" in args:
        now = int(gateway.clock.now())
        meters = (one for one in gateway.registry.installations() if covers(one, now))
        device = args["device"]
        place = next((one.place for one in meters if device_of(gateway, one) == device), None)
    else:
        place = gateway.registry.place(args["place"]).id
    return place if place is not None and place[0] == "D" else None


async def privacy_disclosures(
    gateway: Gateway, caller: Caller, *, place: str = ""
) -> dict[str, Any]:
    """Count the values of all dwellings or of one that each recipient has received."""
    del caller
    id_ = gateway.registry.place(place).id if place else None
    labels = {one.id: one.label for one in gateway.registry.places()}
    result = await records(gateway, id_)
    erasures: dict[tuple[str, str], list[Erasure]] = {}
    for erasure in result.erasures:
        erasures.setdefault((erasure.recipient, erasure.place), []).append(erasure)
    rows = [
        replace(one, erasure=erasure_state(one, erasures.get((one.recipient, one.place), ())))
        for one in result.disclosed
    ]
    return {
        "disclosures": [asdict(one) | {"label": labels.get(one.place, "")} for one in rows],
        "unknown": [one._asdict() for one in result.gaps],
    }


async def privacy_access(gateway: Gateway, caller: Caller, *, place: str = "") -> dict[str, Any]:
    """List the access log of all dwellings or of one."""
    del caller
    id_ = gateway.registry.place(place).id if place else None
    looks = gateway.access_log.of(id_)
    labels = {one.id: one.label for one in gateway.registry.places()} | {EVERYBODY: "all dwellings"}
    return {
        "looks": [asdict(one) | {"label": labels.get(one.place, "")} for one in looks],
    }


async def privacy_explain(
    gateway: Gateway, caller: Caller, *, place: str = "", at: str | None = None
) -> dict[str, Any]:
    """Say what is sent to whom and why, and what is withheld and why, at a date."""
    del caller
    zone = gateway.config.building.timezone
    t = parsers.when(at, zone, "at") or int(gateway.clock.now())
    id_ = gateway.registry.place(place).id if place else None
    gaps = await identify(gateway)
    explanations = _explanations(gateway, t)
    labels = {one.id: one.label for one in gateway.registry.places()}
    rows = [_explanation_row(one, labels) for one in explanations if id_ in (None, one.place)]
    sums = [
        asdict(one) for one in aggregate_entries(gateway, t) if id_ is None or id_ in one.members
    ]
    for entry in sums:
        entry["others"] = 0
        if id_ is not None:  # an answer about one dwelling does not name the others of its sum
            entry["others"] = len(entry["members"]) - 1
            entry["members"] = (id_,)
        entry["labels"] = sorted(labels.get(member, member) for member in entry["members"])
    notices = [
        one._asdict() | {"label": labels.get(one.place, "")}
        for one in _notices(gateway, t, None if id_ is None else {row["device"] for row in rows})
        if id_ in (None, one.place)
    ]
    gaps += _unidentified(gateway, id_, t) if id_ else []
    return {
        "at": stamp(t),
        "policy": gateway.config.privacy.policy,
        "recipients": recipients(gateway),
        "recorded": particulars(gateway.registry.place(id_)) if id_ else {},
        "not_occupied": answers.not_occupied(gateway.registry, t, id_),
        "sums": sums,
        "rows": sorted(rows, key=lambda row: (row["label"] or "~", row["channel"])),
        "notices": notices,
        "duties": [
            {"recipient": one.recipient, "reference": one.reference, "since": stamp(one.since)}
            for one in gateway.registry.duties()
            if covers(one, t) and one.recipient not in _with_uplink(gateway.config)
        ],
        "unknown": [one._asdict() for one in gaps],
    }


async def privacy_person(  # noqa: PLR0913 -- as many options
    gateway: Gateway,
    caller: Caller,
    *,
    place: str,
    language: str = "fr",
    stop: bool = False,
    occupancy: str | None = None,
    named: str | None = None,
) -> dict[str, Any]:
    """Write the letter to the occupants of a dwelling, and the same facts as CSV.

    `occupancy`: former occupants, of whom values may still wait. `stop`: withdraw all their
    consents first. Raises Refused.
    """
    check_language(language)
    who, now = author(gateway, caller, named), gateway.clock.now()
    registry = gateway.registry
    dwelling = registry.place(place)
    if dwelling.type != "dwelling":
        raise Refused(f"{dwelling.label} is a {dwelling.type}: only a dwelling has occupants")
    home = present = registry.occupancy_at(dwelling.id, int(now))
    if occupancy is not None:
        home = _occupancy_of(gateway.registry, dwelling, occupancy)
    here = home == present
    stopped: list[Consent] = []
    if stop and home is not None:
        rows = [NewWithdrawal(occupancy=home.id)]  # its mark also stops consents still on the way
        stopped = registry.withdraw(rows, who, "gardien privacy person --stop", now)
        await gateway.objects.registry_changed()
        # The letter says that nothing is sent any more: make it true first.
        await gateway.recipients.catch_up()
    person = await _person(gateway, dwelling, home, here=here, stop=stop, stopped=stopped)
    person = replace(person, responsible=responsible(gateway.config, language))
    waits = {one.recipient for one in person.erasures if one.rows is None}
    return {
        "label": dwelling.label,
        "occupancy": None if home is None else shown(home.id),
        "letter": await asyncio.to_thread(letter, person, now, gateway.config.zone, language),
        "csv": table(person, gateway.config.zone),
        "withdrawn": [{"recipient": one.recipient, "purpose": one.purpose} for one in stopped],
        "goes_on": [
            {
                "recipient": one.recipient,
                "reference": one.reference,
                "uplink": one.recipient in person.linked,
            }
            for one in person.duties
            if here and covers(one, int(now))
        ],
        "unconfirmed": sorted(waits & person.linked),
        "unasked": sorted(waits - person.linked),
        "unknown": [one._asdict() for one in person.gaps],
    }


async def _person(  # noqa: PLR0913 -- what was asked
    gateway: Gateway,
    place: Place,
    home: Occupancy | None,
    *,
    here: bool,
    stop: bool,
    stopped: Sequence[Consent],
) -> Person:
    """Collect all that the gateway knows about a dwelling and an occupancy."""
    registry, now = gateway.registry, gateway.clock.now()
    t = int(now)
    result = await records(gateway, place.id, home)
    explanations = [one for one in _explanations(gateway, t) if here and one.place == place.id]
    devices = [one for line in gateway.lines.values() for one in line.devices.values()]
    unidentified = _unidentified(gateway, place.id, t) if here else []
    duties = registry.duties()
    notices = _notices(gateway, t, {one.device for one in explanations})
    return Person(
        building=gateway.config.building.name,
        place=place,
        home=home,
        vacant_since=registry.occupancy_state(place.id, t)[1] if home is None else None,
        meters=[one for one in registry.meters_of(place.id) if home is None or overlaps(one, home)],
        explanations=explanations,
        consents=[
            # A withdrawal is a later version of the consent: take the date of the first version.
            one if one.given is not None else replace(one, given=registry.first_recorded_at(one.id))
            for one in registry.consents()
            if home and one.occupancy == home.id
        ],
        marks=registry.marks(home.id) if home else [],
        forms=[one for one in registry.forms() if home and one.occupancy == home.id],
        duties=[one for one in duties if (overlaps(one, home) if home else covers(one, t))],
        disclosed=result.disclosed if home else [],
        summed=[
            one
            for one in aggregate_entries(gateway, t)
            if here and place.id in one.members and one.recipient not in gateway.recipients.closing
        ],
        keep_days=round(gateway.config.spool.keep / DAY),
        held=result.held,
        serials={serial_key(one.serial) for one in devices if one.serial},
        stopped=stopped,
        now=now,
        here=here,
        stop=stop,
        linked=_with_uplink(gateway.config),
        notices=[one for one in notices if one.place == place.id],
        known=result.known,
        erasures=result.erasures if home else [],
        looks=_access_entries(gateway.access_log, place, home),
        gaps=[*unidentified, *result.gaps],
    )


def _access_entries(
    access_log: AccessLog, place: Place, home: Occupancy | None
) -> list[AccessEntry]:
    """Return the entries of the access log for a dwelling during an occupancy."""
    looks = access_log.of(place.id) if home else []
    return [
        one
        for one in looks
        if home and home.since <= one.at and (home.until is None or one.at < home.until)
    ]


def _with_uplink(config: Config) -> frozenset[str]:
    """Return the ids of all recipients with an uplink."""
    return frozenset(str(one.settings.recipient) for one in config.uplinks.values())


def _unidentified(gateway: Gateway, place: str, t: int) -> list[KnowledgeGap]:
    """Return a gap for each meter of a dwelling that is not matched with a device yet."""
    devices = {
        one.name: (one.serial, one.serial_point is not None)
        for line in gateway.lines.values()
        for one in line.devices.values()
    }
    serials = {serial_key(serial) for serial, _ in devices.values() if serial}
    gaps = []
    for meter in gateway.registry.meters_of(place):
        if not covers(meter, t):
            continue
        if meter.device is None:
            unknown = serial_key(str(meter.serial)) not in serials
        else:  # it will be bound to the first serial number that the device gives
            unknown = meter.serial is None and devices.get(meter.device) == (None, True)
        if unknown:
            gaps.append(KnowledgeGap("meter", "", meter.meter))
    return gaps


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


async def privacy_catalogue(
    gateway: Gateway, caller: Caller, *, language: str = "fr"
) -> dict[str, Any]:
    """List the personal data that may be stored about a dwelling, and where; also as a page.

    Raises Refused.
    """
    del caller
    of = _processing(gateway, language)
    return catalogue_of(of, language) | await _page_forms(catalogue_page(of, language))


async def privacy_register(
    gateway: Gateway, caller: Caller, *, language: str = "fr"
) -> dict[str, Any]:
    """Write the register of processing activities (GDPR, article 30). Raises Refused."""
    del caller
    of = _processing(gateway, language)
    pages = await _page_forms(register_page(of, language)) | {"csv": register_table(of, language)}
    return {"activities": register(of, language)} | pages


async def privacy_assessment(
    gateway: Gateway, caller: Caller, *, language: str = "fr"
) -> dict[str, Any]:
    """Write the facts for an impact assessment (GDPR, article 35). Raises Refused."""
    del caller
    of = _processing(gateway, language)
    return {"facts": assessment(of, language)} | await _page_forms(assessment_page(of, language))


def _processing(gateway: Gateway, language: str) -> Processing:
    check_language(language)
    return Processing(gateway.config, gateway.registry, reads(gateway), int(gateway.clock.now()))


async def _page_forms(page: Page) -> dict[str, Any]:
    # in a thread: loading the template engine takes a small gateway seconds
    return {"text": page.text, "html": await asyncio.to_thread(printed, page)}


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


def _occupancy_of(registry: Registry, place: Place, text: str) -> Occupancy:
    """Return a present or former occupancy of a dwelling by its id. Raises Refused."""
    id_ = parse(text, OCCUPANCY)
    matches = (one for one in registry.occupancies_of(place.id) if one.id == id_)
    if (home := next(matches, None)) is None:
        raise Refused(f"{place.label} has no occupancy {shown(id_)}")
    return home


def _explanation_row(explanation: Explanation, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "label": labels.get(explanation.place or ""),
        "place": explanation.place,
        "shown": shown(explanation.place) if explanation.place else None,
        "device": explanation.device,
        "channel": explanation.channel,
        "recipient": explanation.recipient,
        "leaves": explanation.step is not None,
        "step": explanation.step,
        "basis": explanation.basis or None,
        "why": explanation.why,
    }


CALLS: Mapping[str, Call] = {
    "privacy.explain": privacy_explain,
    "privacy.person": seen("privacy.person", privacy_person),
    "privacy.access": privacy_access,
    "privacy.disclosures": privacy_disclosures,
    "privacy.catalogue": privacy_catalogue,
    "privacy.register": privacy_register,
    "privacy.assessment": privacy_assessment,
    **breach_calls.CALLS,
}
"""calls by name"""


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
    why = template.format(count=counts, fewest=sums_config.fewest)
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


def _absence_reason(gateway: Gateway, uplink: str, channel: str) -> str | None:
    """Say why a configured sum is never made; None if it is made."""
    sums_config = gateway.sums.configured(gateway.config)[uplink]
    if channel not in sums_config.points:
        own = any(one.channel == channel for one in sums_config.whole)
        return OWN_METER if own else NOT_READ
    if len(gateway.registry.dwellings()) < sums_config.fewest:
        return FEW_DWELLINGS.format(fewest=sums_config.fewest)
    return None


def _stored_sums(gateway: Gateway, recipient: str) -> Sums:
    """Load the groups that a daemon stored, for a call that runs without a daemon."""
    groups = Groups(groups_file(gateway.config.state, recipient))
    return Sums(gateway.registry, recipient, groups, gateway.sums.indexes, {}, gateway.lines.serial)
