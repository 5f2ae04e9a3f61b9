"""Calls about personal data: what is sent and why, what is withheld, and who has looked."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import asdict, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

from agent.api import answers
from agent.api.disclosures import records
from agent.api.dossier import collected, reads, recipients
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
)
from agent.api.protection.stores import check_language
from agent.api.registry import author, device_of, passing
from agent.control.report import evidence, extremes
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import Text
from agent.core.log_fields import LogEvent, fields
from agent.registry import parsers
from agent.registry.access_log import EVERYBODY
from agent.registry.dossier import dossier, erasure_state
from agent.registry.facts.place import particulars
from agent.registry.inputs import NewWithdrawal
from agent.registry.letter import letter, table
from agent.registry.page import printed
from agent.registry.place import OCCUPANCY, parse, shown
from agent.registry.records import covers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.api.registry import Call, Caller
    from agent.gateway.gateway import Gateway
    from agent.registry.dossier import Dossier, Erasure, MeterState
    from agent.registry.explain import Explanation
    from agent.registry.page import Page
    from agent.registry.records import Consent, Dated, Duty, Occupancy, Place, Provenance
    from agent.registry.registry import Registry

log = logging.getLogger(__name__)


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
        place = dwelling_of(gateway, args)
        if place is not None and not plant:
            # refused by the call unless it is one of this dwelling
            named_home = args.get("occupancy")
            home = parse(named_home, OCCUPANCY) if named_home else ""
            note(gateway, who, what, place, home, caller.reason)
        return answer

    return wrapper


def note(  # noqa: PLR0913, PLR0917 -- the last three have defaults
    gateway: Gateway,
    who: str,
    what: str,
    place: str = EVERYBODY,
    occupancy: str = "",
    reason: str = "",
) -> None:
    """Write an entry to the access log, before anything is shown. `reason`: of the page's person.

    If the disk fails, the look goes to the system log instead, and the data is shown all the same.
    """
    try:
        gateway.access_log.note(who, what, place, gateway.clock.now(), occupancy, reason)
    except OSError as error:
        log.error(  # noqa: TRY400 -- no bug
            "%s saw %s of %s; the access log could not be written: %s", who, what, place, error,
            extra=fields(LogEvent.LOOK_NOT_RECORDED),
        )  # fmt: skip


def is_common(gateway: Gateway, name: str) -> bool:
    """Whether a device measures only common plant, or is commanded and in no dwelling."""
    if name in {one.point.partition("/")[0] for one in gateway.config.controls.values()}:
        return dwelling_of(gateway, {"device": name}) is None
    points = gateway.config.points().get(name, ())
    return bool(points) and all(one.place for one in points)


def dwelling_of(gateway: Gateway, args: Mapping[str, Any]) -> str | None:
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
    gateway: Gateway, caller: Caller, *, place: str = "", occupancy: str | None = None
) -> dict[str, Any]:
    """Count the values that each recipient has received, day by day: of all dwellings, or of the
    occupants of one.
    """
    del caller
    if place:
        of = await _dossier(gateway, place, occupancy)
        values, erasures, gaps = of.disclosed, of.erasures, of.gaps
    else:
        recorded = await records(gateway)
        values, erasures, gaps = recorded.disclosed, recorded.erasures, recorded.gaps
    labels = {one.id: one.label for one in gateway.registry.places()}
    taken: dict[tuple[str, str], list[Erasure]] = {}
    for erasure in erasures:
        taken.setdefault((erasure.recipient, erasure.place), []).append(erasure)
    rows = [
        replace(one, erasure=erasure_state(one, taken.get((one.recipient, one.place), ())))
        for one in values
    ]
    return {
        "disclosures": [asdict(one) | {"label": labels.get(one.place, "")} for one in rows],
        "holdings": [one._asdict() for one in of.holdings()] if place else [],
        "former": _former(of) if place else [],
        "unknown": [one._asdict() for one in gaps],
    }


async def privacy_access(
    gateway: Gateway, caller: Caller, *, place: str = "", occupancy: str | None = None
) -> dict[str, Any]:
    """List the access log: of all dwellings, or of the occupants of one."""
    del caller
    of = await _dossier(gateway, place, occupancy) if place else None
    looks = gateway.access_log.of() if of is None else of.looks
    labels: dict[str, str] = {one.id: one.label for one in gateway.registry.places()}
    labels[EVERYBODY] = Text("all dwellings")
    labels[""] = Text("a meter without a recorded dwelling")
    return {
        "looks": [asdict(one) | {"label": labels.get(one.place, "")} for one in looks],
        "former": [] if of is None else _former(of),
    }


async def privacy_explain(
    gateway: Gateway,
    caller: Caller,
    *,
    place: str = "",
    at: str | None = None,
    occupancy: str | None = None,
) -> dict[str, Any]:
    """Say what is sent to whom and why, and what is withheld and why, at a date; of one place
    everything that its dossier has, except values.
    """
    del caller
    stated = parsers.when(at, gateway.config.building.timezone, "at")
    t = int(gateway.clock.now()) if stated is None else stated
    labels = {one.id: one.label for one in gateway.registry.places()}
    answer: dict[str, Any] = {
        "at": stamp(t),
        "policy": gateway.config.privacy.policy,
        "recipients": recipients(gateway),
        "timezone": gateway.config.building.timezone,
    }
    if place:
        of = await _dossier(gateway, place, occupancy, stated)
        return (
            answer
            | {"not_occupied": answers.not_occupied(gateway.registry, of.at, of.place.id)}
            | document(of)
        )
    sources = await collected(gateway, t, whole=False)
    rows = [_explanation_row(one, labels.get(one.place or "")) for one in sources.explanations]
    return answer | {
        "recorded": {},
        "not_occupied": answers.not_occupied(gateway.registry, t),
        # Who is in a sum has not consented: they are counted, not named.
        "sums": [
            asdict(one) | {"why": str(one.why), "text": one.why.wire(), "members": len(one.members)}
            for one in sources.sums
        ],
        "rows": sorted(rows, key=lambda row: (row["label"] or "~", row["channel"])),
        "notices": [one._asdict() | {"label": labels.get(one.place)} for one in sources.notices],
        "duties": [
            _duty(one, linked=one.recipient in {two.recipient for two in sources.recipients})
            for one in gateway.registry.duties()
            if covers(one, t)
        ],
        "unknown": [one._asdict() for one in sources.gaps],
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
        raise Refused(
            "{label} is no dwelling, so nothing was written: only a dwelling has occupants",
            label=dwelling.label,
        )
    home = _home(gateway, dwelling, occupancy, int(now))
    stopped: list[Consent] | None = None
    if stop:
        stopped = []
    if stop and home is not None:
        rows = [NewWithdrawal(occupancy=home.id)]  # its mark also stops consents still on the way
        stopped = registry.withdraw(rows, who, "gardien privacy person --stop", now)
        await gateway.objects.registry_changed()
        # The letter says that nothing is sent any more: make it true first.
        await gateway.recipients.catch_up()
    sources = await collected(gateway, int(now), place=dwelling.id, home=home, language=language)
    of = dossier(registry, sources, dwelling, home, int(now), stopped=stopped)
    waits = {one.recipient for one in of.erasures if one.rows is None}
    return {
        "label": dwelling.label,
        "occupancy": None if home is None else shown(home.id),
        "letter": await asyncio.to_thread(letter, of, language, (evidence, extremes)),
        "csv": table(of, language),
        "withdrawn": [{"recipient": one.recipient, "purpose": one.purpose} for one in of.stopped],
        "goes_on": [
            {
                "recipient": one.recipient,
                "reference": one.reference,
                "uplink": one.recipient in of.linked,
            }
            for one in of.duties
            if of.here and covers(one, int(now)) and of.concerned_by(one)
        ],
        "unconfirmed": sorted(waits & of.linked),
        "unasked": sorted(waits - of.linked),
        "unknown": [one._asdict() for one in of.gaps],
    }


async def _dossier(
    gateway: Gateway, place: str, occupancy: str | None, at: int | None = None
) -> Dossier:
    """Return the dossier of a place, of its occupants at a time (now) or of former ones.

    Raises Refused.
    """
    of, now = gateway.registry.place(place), int(gateway.clock.now())
    past, at = at is not None and at < now, now if at is None else at
    home = _home(gateway, of, occupancy, at)
    sources = await collected(gateway, at, place=of.id, home=home)
    return dossier(gateway.registry, sources, of, home, at, past=past)


def _home(gateway: Gateway, place: Place, occupancy: str | None, at: int) -> Occupancy | None:
    """Return the occupancy at a time, or another one by its id. Raises Refused."""
    if occupancy is None:
        return gateway.registry.occupancy_at(place.id, at)
    return _occupancy_of(gateway.registry, place, occupancy)


def document(of: Dossier) -> dict[str, Any]:
    """Return a dossier as plain data, without any value that was measured."""
    home = of.home
    rows = [_explanation_row(one, of.place.label) for one in of.explanations]
    waiting = Counter(one.recipient for one in of.held)
    return {
        "label": of.place.label,
        "place": of.place.id,
        "type": of.place.type,
        "running": of.running,
        "recorded": particulars(of.place),
        "occupancy": None
        if home is None
        else {
            "occupancy": shown(home.id),
            "reference": home.reference,
            **_span(home),
            "moved_in": _provenance(of.moved_in),
            "moved_out": _provenance(of.moved_out),
        },
        "former": _former(of),
        "meters": [_meter(one) for one in of.meters],
        "rows": sorted(rows, key=lambda row: str(row["channel"])),
        "withheld": [_explanation_row(one, of.place.label) for one in of.withheld],
        "notices": [one._asdict() | {"label": of.place.label} for one in of.notices],
        "sums": [one._asdict() for one in of.summed],
        "consents": [
            {
                "id": one.id,
                "recipient": one.recipient,
                "channels": list(one.channels),
                "step": one.step,
                "purpose": one.purpose,
                "given": stamp(one.given_at),
                "withdrawn": None if one.withdrawn is None else stamp(one.withdrawn),
                "standing": of.standing(one) if one.withdrawn is None else "withdrawn",
                **_span(one),
            }
            for one in of.consents
        ],
        "duties": [
            _duty(one, linked=one.recipient in of.linked)
            | {"dates": [{"at": stamp(due.at), "why": due.why} for due in of.duty_dates(one)]}
            for one in of.duties
            if covers(one, of.at) and of.concerned_by(one)
        ],
        "holdings": [one._asdict() for one in of.holdings()],
        "last_received": {one.recipient: one.day for one in of.disclosed},
        "erasures": [
            {"recipient": one.recipient, "reason": one.reason, "asked": stamp(one.asked),
             "rows": one.rows, "linked": one.linked}
            for one in of.erasures
        ],
        "waiting": {name: count for name, count in waiting.items() if name},
        "midnights": waiting[""],
        "delivery": {
            one.recipient: {
                "connected_since": _at(one.connected_since),
                "last_receipt": _at(one.last_receipt),
                "problem": one.problem,
            }
            for one in of.recipients.values()
        },
        "looks": [asdict(one) for one in of.looks],
        "orders": [
            one._asdict()
            | {"received": stamp(one.received), "begun": _at(one.begun), "ended": _at(one.ended)}
            for one in of.orders
        ],
        "unknown": [one._asdict() for one in of.gaps],
        "names": dict(of.names),
    }  # fmt: skip


def _meter(meter: MeterState) -> dict[str, Any]:
    installation, device = meter.installation, meter.device
    return {
        "meter": installation.meter,
        "channel": installation.channel,
        **_span(installation),
        "proof": meter.proof,
        "recorded": _provenance(meter.recorded),
        "device": None if device is None else device.name,
        "answered": None if device is None else _at(device.answered),
        "closed": None if device is None else _at(device.closed),
        "failures": 0 if device is None else device.failures,
        "problem": "" if device is None else device.problem,
    }


def _duty(duty: Duty, *, linked: bool) -> dict[str, Any]:
    return {
        "recipient": duty.recipient,
        "reference": duty.reference,
        "channels": list(duty.channels),
        "uplink": linked,
        **_span(duty),
    }


def _former(of: Dossier) -> list[dict[str, Any]]:
    return [{"occupancy": shown(one.id)} | _span(one) for one in of.former]


def _span(of: Dated) -> dict[str, Any]:
    return {"since": stamp(of.since), "until": _at(of.until)}


def _at(at: float | None) -> str | None:
    return None if at is None else stamp(at)


def _provenance(provenance: Provenance | None) -> dict[str, str] | None:
    if provenance is None:
        return None
    return {"who": provenance.who, "when": stamp(provenance.when), "source": provenance.source}


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


def _occupancy_of(registry: Registry, place: Place, text: str) -> Occupancy:
    """Return a present or former occupancy of a dwelling by its id. Raises Refused."""
    id_ = parse(text, OCCUPANCY)
    matches = (one for one in registry.occupancies_of(place.id) if one.id == id_)
    if (home := next(matches, None)) is None:
        raise Refused(
            "{label} has no occupancy {id}, so nothing was written. To see its occupancies: gardien"
            " occupancy list {label}",
            label=place.label,
            id=shown(id_),
        )
    return home


def _explanation_row(explanation: Explanation, label: str | None) -> dict[str, Any]:
    return {
        "label": label,
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
