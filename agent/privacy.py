"""What people may ask about personal data: what leaves and why, of whom, and who has looked."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

from agent.aggregate_report import summed
from agent.clock import stamp
from agent.disclosure import identify, records
from agent.errors import Refused
from agent.gateway import policy_of
from agent.log_fields import LogEvent, fields
from agent.pipeline.row_assignment import RowAssignment
from agent.pipeline.totals import Totals
from agent.pipeline.totals import file_of as totals_of
from agent.protection import calls as breach_calls
from agent.protection.published import (
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
from agent.protection.stores import check_language
from agent.registry import answers, parsers
from agent.registry.access_log import EVERYBODY
from agent.registry.explain import ConfiguredReading, explain
from agent.registry.inputs import NewWithdrawal
from agent.registry.letter import (
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
from agent.registry_api import author, device_of, passing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.gateway import Gateway
    from agent.registry.access_log import AccessEntry
    from agent.registry.explain import Explanation
    from agent.registry.letter import Erasure
    from agent.registry.page import Page
    from agent.registry.records import Consent, Occupancy, Place
    from agent.registry_api import Call, Caller

STAYS = "it stayed here for a while, and the next index would tell what few used meanwhile"
log = logging.getLogger(__name__)

DAY = 86_400


def reads(house: Gateway) -> list[ConfiguredReading]:
    """Everything that is configured to be read and has a channel."""
    found: list[ConfiguredReading] = []
    for line in house.lines.values():
        for device in line.devices.values():
            found += [
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
    return found


def recipients(house: Gateway) -> list[str]:
    """Who is configured to receive anything, and is not being closed."""
    known = {str(one.settings.recipient) for one in house.config.uplinks.values()}
    return sorted(one for one in known if one not in house.closing)


def seen(what: str, call: Call) -> Call:
    """The same call, noted as a look by a person at the dwelling that it shows, if it shows one."""
    takes_name = "named" in signature(call).parameters

    @passing(call)
    async def made(
        house: Gateway, asker: Caller, *, named: str | None = None, **args: Any
    ) -> dict[str, Any]:
        plant = "device" in args and is_common(house, args["device"])
        who = asker.who if plant else author(house, asker, named)
        answer = await call(house, asker, **args, **({"named": named} if takes_name else {}))
        place = _shown(house, args)
        if place is not None and not plant:
            note(house, who, what, place)
        return answer

    return made


def note(house: Gateway, who: str, what: str, place: str = EVERYBODY) -> None:
    """Record a look, before anything is shown. Where the disk takes no note, the log says so."""
    if house.looks is None:
        return
    try:
        house.looks.note(who, what, place, house.clock.now())
    except OSError as error:
        log.error(  # noqa: TRY400 -- no bug
            "%s saw %s of %s unrecorded: %s", who, what, place, error,
            extra=fields(LogEvent.LOOK_NOT_RECORDED),
        )  # fmt: skip


def is_common(house: Gateway, name: str) -> bool:
    """Whether a device measures common plant alone, or is commanded and no dwelling's."""
    if name in {one.point.partition("/")[0] for one in house.config.controls.values()}:
        return _shown(house, {"device": name}) is None
    points = house.config.points().get(name, ())
    return bool(points) and all(one.place for one in points)


def _shown(house: Gateway, args: Mapping[str, Any]) -> str | None:
    """The dwelling whose data a call shows; None: of none."""
    if "device" in args:
        now = int(house.clock.now())
        meters = (one for one in house.registry.installations() if covers(one, now))
        device = args["device"]
        place = next((one.place for one in meters if device_of(house, one) == device), None)
    else:
        place = house.registry.place(args["place"]).id
    return place if place is not None and place[0] == "D" else None


async def privacy_disclosures(house: Gateway, asker: Caller, *, place: str = "") -> dict[str, Any]:
    """List how many values of dwellings, or of one, were received by whom: no values."""
    del asker
    id_ = house.registry.place(place).id if place else None
    labels = {one.id: one.label for one in house.registry.places()}
    found = await records(house, id_)
    erasures: dict[tuple[str, str], list[Erasure]] = {}
    for one in found.erasures:
        erasures.setdefault((one.recipient, one.place), []).append(one)
    rows = [
        replace(one, erasure=erasure_state(one, erasures.get((one.recipient, one.place), ())))
        for one in found.disclosed
    ]
    return {
        "disclosures": [asdict(one) | {"label": labels.get(one.place, "")} for one in rows],
        "unknown": [one._asdict() for one in found.gaps],
    }


async def privacy_access(house: Gateway, asker: Caller, *, place: str = "") -> dict[str, Any]:
    """List who has looked at the data of dwellings, or of one, here at the gateway."""
    del asker
    id_ = house.registry.place(place).id if place else None
    looks = house.looks.of(id_) if house.looks else []
    labels = {one.id: one.label for one in house.registry.places()} | {EVERYBODY: "all dwellings"}
    return {
        "looks": [asdict(one) | {"label": labels.get(one.place, "")} for one in looks],
    }


async def privacy_explain(
    house: Gateway, asker: Caller, *, place: str = "", at: str | None = None
) -> dict[str, Any]:
    """Say what leaves, for whom and why, and what is held back and why, at a date."""
    del asker
    zone = house.config.building.timezone
    t = parsers.when(at, zone, "at") or int(house.clock.now())
    id_ = house.registry.place(place).id if place else None
    gaps = await identify(house)
    told = _told(house, t)
    labels = {one.id: one.label for one in house.registry.places()}
    rows = [_row(one, labels) for one in told if id_ in (None, one.place)]
    sums = [asdict(one) for one in summed(house, t) if id_ is None or id_ in one.members]
    for one in sums:
        one["others"] = 0
        if id_ is not None:  # whoever asks of one dwelling is not told which others there are
            one["others"] = len(one["members"]) - 1
            one["members"] = (id_,)
        one["labels"] = sorted(labels.get(member, member) for member in one["members"])
    notices = [
        one._asdict() | {"label": labels.get(one.place, "")}
        for one in _notices(house, t, None if id_ is None else {row["device"] for row in rows})
        if id_ in (None, one.place)
    ]
    gaps += _unidentified(house, id_, t) if id_ else []
    return {
        "at": stamp(t),
        "policy": house.config.privacy.policy,
        "recipients": recipients(house),
        "not_occupied": answers.not_occupied(house.registry, t, id_),
        "sums": sums,
        "rows": sorted(rows, key=lambda row: (row["label"] or "~", row["channel"])),
        "notices": notices,
        "duties": [
            {"recipient": one.recipient, "reference": one.reference, "since": stamp(one.since)}
            for one in house.registry.duties()
            if covers(one, t) and one.recipient not in _linked(house)
        ],
        "unknown": [one._asdict() for one in gaps],
    }


async def privacy_person(  # noqa: PLR0913 -- as many options
    house: Gateway,
    asker: Caller,
    *,
    place: str,
    language: str = "fr",
    stop: bool = False,
    occupancy: str | None = None,
    named: str | None = None,
) -> dict[str, Any]:
    """Write a letter to the people of a dwelling, and the same facts as CSV.

    `occupancy`: of those who lived there before, of whom values may still wait. `stop`: first
    withdraw all that they agreed to. Raises Refused.
    """
    check_language(language)
    who, now = author(house, asker, named), house.clock.now()
    registry = house.registry
    found = registry.place(place)
    if found.type != "dwelling":
        raise Refused(f"{found.label} is a {found.type}: only a dwelling has people")
    home = present = registry.occupancy_at(found.id, int(now))
    if occupancy is not None:
        home = _lived(house, found, occupancy)
    here = home == present
    stopped: list[Consent] = []
    if stop and home is not None:
        rows = [NewWithdrawal(occupancy=home.id)]  # of what is still on its way, too
        stopped = registry.withdraw(rows, who, "gardien privacy person --stop", now)
        await house.registry_changed()
        await house.obey()
    person = await _person(house, found, home, here=here, stop=stop, stopped=stopped)
    person = replace(person, responsible=responsible(house.config, language))
    waits = {one.recipient for one in person.erasures if one.rows is None}
    return {
        "label": found.label,
        "occupancy": None if home is None else shown(home.id),
        "letter": letter(person, now, house.config.zone, language),
        "csv": table(person, house.config.zone),
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
    house: Gateway,
    place: Place,
    home: Occupancy | None,
    *,
    here: bool,
    stop: bool,
    stopped: Sequence[Consent],
) -> Person:
    """All that the gateway knows of a dwelling and of these people."""
    registry, now = house.registry, house.clock.now()
    t = int(now)
    found = await records(house, place.id, home)
    told = [one for one in _told(house, t) if here and one.place == place.id]
    devices = [one for line in house.lines.values() for one in line.devices.values()]
    unidentified = _unidentified(house, place.id, t) if here else []
    duties = registry.duties()
    notices = _notices(house, t, {one.device for one in told})
    return Person(
        building=house.config.building.name,
        place=place,
        home=home,
        vacant_since=registry.occupancy_state(place.id, t)[1] if home is None else None,
        meters=[one for one in registry.meters_of(place.id) if home is None or overlaps(one, home)],
        explanations=told,
        consents=[
            # a withdrawal is a later version: who gave it did so when it was first recorded
            one if one.given is not None else replace(one, given=registry.first_recorded_at(one.id))
            for one in registry.consents()
            if home and one.occupancy == home.id
        ],
        marks=registry.marks(home.id) if home else [],
        forms=[one for one in registry.forms() if home and one.occupancy == home.id],
        duties=[one for one in duties if (overlaps(one, home) if home else covers(one, t))],
        disclosed=found.disclosed if home else [],
        summed=[
            one
            for one in summed(house, t)
            if here and place.id in one.members and one.recipient not in house.closing
        ],
        keep_days=round(house.config.spool.keep / DAY),
        held=found.held,
        serials={serial_key(one.serial) for one in devices if one.serial},
        stopped=stopped,
        now=now,
        here=here,
        stop=stop,
        linked=_linked(house),
        notices=[one for one in notices if one.place == place.id],
        known=found.known,
        erasures=found.erasures if home else [],
        looks=_looks_at(house, place, home),
        gaps=[*unidentified, *found.gaps],
    )


def _looks_at(house: Gateway, place: Place, home: Occupancy | None) -> list[AccessEntry]:
    """Who looked at the data of a dwelling here while these people lived there."""
    found = house.looks.of(place.id) if house.looks and home else []
    return [
        one
        for one in found
        if home and home.since <= one.at and (home.until is None or one.at < home.until)
    ]


def _linked(house: Gateway) -> frozenset[str]:
    """The recipients with an uplink."""
    return frozenset(str(one.settings.recipient) for one in house.config.uplinks.values())


def _unidentified(house: Gateway, place: str, t: int) -> list[KnowledgeGap]:
    """Meters of a dwelling of which it is not known yet which device they are, or whether any."""
    devices = {
        one.name: (one.serial, one.serial_point is not None)
        for line in house.lines.values()
        for one in line.devices.values()
    }
    said = {serial_key(serial) for serial, _ in devices.values() if serial}
    found = []
    for meter in house.registry.meters_of(place):
        if not covers(meter, t):
            continue
        if meter.device is None:
            unknown = serial_key(str(meter.serial)) not in said
        else:  # it is bound to the number that the device says first
            unknown = meter.serial is None and devices.get(meter.device) == (None, True)
        if unknown:
            found.append(KnowledgeGap("meter", "", meter.meter))
    return found


def _notices(house: Gateway, t: int, devices: set[str] | None) -> list[WithheldNotice]:
    """What recipients are told to be withheld, without values, as it stands at t: of these devices,
    or of all.
    """
    found = []
    points = [
        (point, device.serial)
        for line in house.lines.values()
        for device in line.devices.values()
        for point in device.points
        if point.channel is not None and (devices is None or device.name in devices)
    ]
    for uplink in house.config.uplinks.values():
        recipient = str(uplink.settings.recipient)
        if not uplink.withheld or recipient in house.closing:
            continue
        totals = Totals(totals_of(house.config.state, recipient))
        words = (house.registry, policy_of(house.config), recipient)
        gate = RowAssignment(*words, withholds=True, held=totals.held)
        found += [
            WithheldNotice(recipient, series.place, series.channel, series.step, str(why))
            for point, serial in points
            for series, why in gate.at(point, serial, t).withheld
        ]
    return list(dict.fromkeys(found))


async def privacy_catalogue(
    house: Gateway, asker: Caller, *, language: str = "fr"
) -> dict[str, Any]:
    """List the personal data that may be known of a dwelling and where they are kept, as people are
    told of it; and the same as a page. Raises Refused.
    """
    del asker
    of = _processing(house, language)
    return catalogue_of(of, language) | _written(catalogue_page(of, language))


async def privacy_register(
    house: Gateway, asker: Caller, *, language: str = "fr"
) -> dict[str, Any]:
    """Write the register of processing activities (GDPR, article 30). Raises Refused."""
    del asker
    of = _processing(house, language)
    pages = _written(register_page(of, language)) | {"csv": register_table(of, language)}
    return {"activities": register(of, language)} | pages


async def privacy_assessment(
    house: Gateway, asker: Caller, *, language: str = "fr"
) -> dict[str, Any]:
    """Write the facts for an impact assessment (GDPR, article 35). Raises Refused."""
    del asker
    of = _processing(house, language)
    return {"facts": assessment(of, language)} | _written(assessment_page(of, language))


def _processing(house: Gateway, language: str) -> Processing:
    check_language(language)
    return Processing(house.config, house.registry, reads(house), int(house.clock.now()))


def _written(page: Page) -> dict[str, Any]:
    return {"text": page.text, "html": printed(page)}


def _told(house: Gateway, t: int) -> list[Explanation]:
    found = explain(house.registry, policy_of(house.config), reads(house), recipients(house), t)
    state = house.config.state
    known = {name: Totals(totals_of(state, name)) for name in recipients(house)}
    return [
        replace(one, step=None, basis="", why=STAYS)
        if _an_index_of_the_whole(one) and known[one.recipient].held(str(one.place), one.channel)
        else one
        for one in found
    ]


def _an_index_of_the_whole(one: Explanation) -> bool:
    """Whether it is an index of the building's own that leaves, as far as the registry knows."""
    return one.step is not None and not one.derived and str(one.place)[0] == "B"


def _lived(house: Gateway, place: Place, text: str) -> Occupancy:
    """Somebody who lives or lived in a dwelling, by their id. Raises Refused."""
    id_ = parse(text, OCCUPANCY)
    found = (one for one in house.registry.occupancies_of(place.id) if one.id == id_)
    if (home := next(found, None)) is None:
        raise Refused(f"nobody is known to have lived in {place.label} as {shown(id_)}")
    return home


def _row(one: Explanation, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "label": labels.get(one.place or ""),
        "place": one.place,
        "shown": shown(one.place) if one.place else None,
        "device": one.device,
        "channel": one.channel,
        "recipient": one.recipient,
        "leaves": one.step is not None,
        "step": one.step,
        "basis": one.basis or None,
        "why": one.why,
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
"""calls by their names"""
