"""Facts of the registry as plain data to be shown: labels beside ids, dates in RFC 3339."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.clock import stamp
from agent.registry.documents import covers
from agent.registry.place import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.registry.documents import Consent, Installation, Occupancy, Place, Word
    from agent.registry.registry import Registry

Answer = dict[str, Any]


def places(registry: Registry, rows: Sequence[Place], homes: Sequence[Occupancy | None]) -> Answer:
    """Show places, each with one of its occupancies."""
    return {
        "revision": registry.revision,
        "places": [_place(place, home) for place, home in zip(rows, homes, strict=True)],
    }


def places_added(registry: Registry, added: Sequence[Place]) -> Answer:
    """Show places just recorded, each with its first occupancy."""
    homes = {home.place: home for home in registry.occupancies()}
    return places(registry, added, [homes.get(place.id) for place in added])


def meters(registry: Registry, rows: Sequence[Installation], now: float) -> Answer:
    """Show installations."""
    labels = {place.id: place.label for place in registry.places()}
    return {
        "revision": registry.revision,
        "meters": [_meter(meter, labels.get(meter.place, ""), now) for meter in rows],
    }


def consents(registry: Registry, rows: Sequence[Consent], now: float) -> Answer:
    """Show consents."""
    labels = {place.id: place.label for place in registry.places()}
    return {
        "revision": registry.revision,
        "consents": [_consent(each, labels.get(each.place, ""), now) for each in rows],
    }


def _place(place: Place, home: Occupancy | None) -> Answer:
    return {
        "id": place.id,
        "shown": shown(place.id),
        "label": place.label,
        "type": place.type,
        "occupancy": home.id if home else None,
        "occupied_since": stamp(home.since) if home else None,
        **_word(place.word),
    }


def _meter(meter: Installation, label: str, now: float) -> Answer:
    if meter.serial is None:
        state = "not yet said by the device"
    else:
        state = "as the device said" if meter.pinned else "as people recorded"
    return {
        "id": meter.id,
        "device": meter.device,
        "serial": meter.serial,
        "channel": meter.channel,
        "place": meter.place,
        "label": label,
        "state": state,
        **_interval(meter, now),
        **_word(meter.word),
    }


def _consent(consent: Consent, label: str, now: float) -> Answer:
    return {
        "id": consent.id,
        "place": consent.place,
        "label": label,
        "occupancy": consent.occupancy,
        "recipient": consent.recipient,
        "channels": list(consent.channels),
        "step": consent.step,
        "purpose": consent.purpose,
        **_interval(consent, now),
        **_word(consent.word),
    }


def _interval(document: Installation | Consent, now: float) -> Answer:
    return {
        "since": stamp(document.since),
        "until": None if document.until is None else stamp(document.until),
        "in_force": covers(document, int(now)),
    }


def _word(word: Word) -> Answer:
    return {"who": word.who, "when": stamp(word.when), "source": word.source}
