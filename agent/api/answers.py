"""Documents of the registry as plain data for display: labels beside ids, dates in RFC 3339."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.core.clock import stamp
from agent.core.i18n import Text
from agent.registry.facts.place import particulars
from agent.registry.labels import label_key, scheme
from agent.registry.parsers import scope_of
from agent.registry.place import parse, shown
from agent.registry.records import OccupancyState, covers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Mapping, Sequence
    from typing import TypeVar

    from agent.registry.inputs import NewAlias
    from agent.registry.records import (
        Alias,
        Consent,
        ConsentMark,
        Dated,
        Duty,
        Indexes,
        Installation,
        Occupancy,
        Place,
        Provenance,
    )
    from agent.registry.registry import Registry

Answer = dict[str, Any]


if TYPE_CHECKING:
    T = TypeVar("T", Alias, Consent, Installation, Occupancy)


def places(
    registry: Registry, rows: Sequence[Place], homes: Sequence[Occupancy | None], now: float
) -> Answer:
    """Places, each with one of its occupancies, its occupancy state now, and its aliases."""
    names: dict[str, list[str]] = {}
    for alias in registry.aliases():
        if alias.until is None:
            names.setdefault(alias.place, []).append(f"{scheme(alias.scheme).title} {alias.value}")
    pairs = zip(rows, homes, strict=True)
    return {
        "revision": registry.revision,
        "places": [
            {**_place(place, home, names.get(place.id, [])), **_state(registry, place, now)}
            for place, home in pairs
        ],
    }


def _state(registry: Registry, place: Place, now: float) -> Answer:
    """The occupancy state of a dwelling now, and since when."""
    if place.type != "dwelling":
        return _stated(None)
    state, since = registry.occupancy_state(place.id, int(now))
    later = registry.lived_in_from(place.id, int(now))
    return _stated(state, since, None if state is OccupancyState.OCCUPIED else later)


def _stated(
    state: OccupancyState | None, since: int | None = None, later: int | None = None
) -> Answer:
    """Members for an occupancy state, its beginning, and the next recorded beginning."""
    return {
        "occupancy_state": None if state is None else str(state),
        "occupancy_state_since": None if since is None else stamp(since),
        "lived_in_from": None if later is None else stamp(later),
    }


def not_occupied(registry: Registry, now: float, place: str | None = None) -> list[Answer]:
    """Each dwelling that is vacant or unknown, by label; or only this one (by id)."""
    dwellings = [
        {"place": one.id, "label": one.label, **_state(registry, one, now)}
        for one in registry.places()
        if one.type == "dwelling" and place in (None, one.id)
    ]
    return [one for one in dwellings if one["occupancy_state"] != OccupancyState.OCCUPIED]


def places_added(registry: Registry, added: Sequence[Place], now: float) -> Answer:
    """Places just recorded, each with its first occupancy."""
    homes = {home.place: home for home in registry.occupancies()}
    return places(registry, added, [homes.get(place.id) for place in added], now)


def places_foreseen(  # noqa: PLR0913, PLR0917 -- all that is foreseen
    registry: Registry,
    added: Sequence[Place],
    given_ids: Collection[str],
    lots: Sequence[NewAlias],
    since: Mapping[str, int],
    now: float,
) -> Answer:
    """Places as an import would record them. An id that is neither recorded nor in `given_ids`
    would be drawn. `since`: by label, the beginning of the occupancy, past or future.
    """
    ids = {parse(one) for one in given_ids}
    recorded = {place.id: place for place in registry.places()}
    begins = {label_key(label): at for label, at in since.items()}
    answer = places(registry, added, [None] * len(added), 0)
    for place in answer["places"]:
        at = begins.get(label_key(place["label"])) if place["type"] == "dwelling" else None
        if at is not None and at <= now:
            place.update(_stated(OccupancyState.OCCUPIED, at))
        elif at is not None:
            place.update(_stated(OccupancyState.UNKNOWN, later=at))
        mine = label_key(place["label"])
        more = [f"lot {lot.value}" for lot in lots if label_key(lot.place) == mine]
        if known := recorded.get(place["id"]):
            place.update(_state(registry, known, now), aliases=place["aliases"] + more)
            continue
        place["aliases"] = more
        if place["id"] not in ids:
            place["id"], place["shown"] = None, "new"
    return answer


def aliases(registry: Registry, rows: Sequence[Alias], now: float) -> Answer:
    """Aliases of places."""
    return _listed(registry, "aliases", rows, now, _alias)


def meters(
    registry: Registry, rows: Sequence[Installation], now: float, serials: Container[str] = ()
) -> Answer:
    """Installations; `serials`: the serial numbers that devices report, in comparable form."""

    def meter(installation: Installation) -> Answer:
        return _meter(installation, serials)

    return _listed(registry, "meters", rows, now, meter)


def occupancies(registry: Registry, rows: Sequence[Occupancy], now: float) -> Answer:
    """Occupancies."""
    return _listed(registry, "occupancies", rows, now, _occupancy)


def consents(registry: Registry, rows: Sequence[Consent], now: float) -> Answer:
    """Consents. `recorded` has who recorded each first; `who` is the author of its latest version,
    such as a withdrawal. A consent ends with the occupancy that gave it.
    """
    first = registry.first_provenance({one.id for one in rows})
    ends = {home.id: home.until for home in registry.occupancies() if home.until is not None}

    def consent(document: Consent) -> Answer:
        recorded = first.get(document.id, document.word)
        return (
            _consent(document, recorded)
            | {"recorded": _provenance(recorded)}
            | _moved_out(document, ends.get(document.occupancy), now)
        )

    return _listed(registry, "consents", rows, now, consent)


def _moved_out(consent: Consent, left: int | None, now: float) -> Answer:
    if left is None or consent.until <= left:
        return {}
    # a move-out does not change the consent's own dates, although it ends it
    ended = {"in_force": False} if left <= now else {}
    return ended | {"moved_out": stamp(left)}


def duties(registry: Registry, rows: Sequence[Duty], now: float) -> Answer:
    """Duties, which apply to all dwellings."""
    items = [{**_duty(one), **_interval(one, now), **_provenance(one.word)} for one in rows]
    return {"revision": registry.revision, "duties": items}


def _listed(
    registry: Registry, name: str, rows: Sequence[T], now: float, show: Callable[[T], Answer]
) -> Answer:
    labels = {place.id: place.label for place in registry.places()}
    return {
        "revision": registry.revision,
        name: [_whole(one, labels, now, show(one)) for one in rows],
    }


def _whole(
    document: Alias | Consent | Installation | Occupancy,
    labels: Mapping[str, str],
    now: float,
    own: Answer,
) -> Answer:
    place = {"place": document.place, "label": labels.get(document.place, "")}
    return {
        "id": document.id,
        **place,
        **_interval(document, now),
        **own,
        **_provenance(document.word),
    }


def _place(place: Place, home: Occupancy | None, names: Sequence[str]) -> Answer:
    return {
        "id": place.id,
        "shown": shown(place.id),
        "label": place.label,
        "type": place.type,
        "aliases": list(names),
        "occupancy": home.id if home else None,
        "occupied_since": stamp(home.since) if home else None,
        "reference": home.reference if home else None,
        **particulars(place),
        **_provenance(place.word),
    }


def _alias(alias: Alias) -> Answer:
    return {
        "scheme": alias.scheme,
        "said": scheme(alias.scheme).title,
        "value": alias.value,
        "note": alias.note,
    }


def _meter(meter: Installation, serials: Container[str]) -> Answer:
    if meter.serial is None:
        state = Text("not yet said by the device")
    else:
        state = Text("as the device said") if meter.pinned else Text("as people recorded")
    return {
        "device": meter.device,
        "serial": meter.serial,
        "channel": meter.channel,
        "state": state,
        "multiplier": format(meter.multiplier, "f"),
        "offset": format(meter.offset, "f"),
        "opened": _indexes(meter.opened),
        "closed": _indexes(meter.closed),
        "proof": meter.proof(serials),
    }


def _indexes(indexes: Indexes) -> dict[str, str]:
    return {channel: format(value, "f") for channel, value in indexes}


def _occupancy(home: Occupancy) -> Answer:
    return {"shown": shown(home.id), "reference": home.reference}


def _consent(consent: Consent, recorded: Provenance) -> Answer:
    withdrawn = consent.withdrawn
    # a withdrawal is a later version: nobody has given the consent by it
    given = recorded.when if consent.given is None else consent.given
    return {
        "occupancy": consent.occupancy,
        "recipient": consent.recipient,
        "channels": list(consent.channels),
        "scope": scope_of(consent.step),
        "step": consent.step,
        "purpose": consent.purpose,
        "given": stamp(given),
        "method": consent.method,
        "proof": consent.proof,
        "withdrawn": None if withdrawn is None else stamp(withdrawn),
        "replaced_by": consent.replaced,
        **({"in_force": False} if withdrawn is not None else {}),
    }


def marks(registry: Registry, rows: Sequence[ConsentMark]) -> Answer:
    """Withdrawals and refusals, by their marks."""
    homes = {home.id: home.place for home in registry.occupancies()}
    return {
        "marks": [
            {
                "mark": one.id,
                "label": registry.label(homes[one.occupancy]) if one.occupancy in homes else None,
                "occupancy": one.occupancy,
                "recipient": one.recipient,
                "cause": one.cause,
                **_provenance(one.word),
            }
            for one in rows
        ]
    }


def _duty(duty: Duty) -> Answer:
    return {
        "id": duty.id,
        "reference": duty.reference,
        "recipient": duty.recipient,
        "channels": list(duty.channels),
        "billing": list(duty.billing),
    }


def _interval(document: Dated, now: float) -> Answer:
    until = document.until
    return {
        "since": stamp(document.since),
        "until": None if until is None else stamp(until),
        "in_force": covers(document, int(now)),
        **({"never": True} if until == document.since else {}),
    }


def _provenance(provenance: Provenance) -> Answer:
    return {"who": provenance.who, "when": stamp(provenance.when), "source": provenance.source}
