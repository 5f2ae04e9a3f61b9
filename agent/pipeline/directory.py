"""What one recipient needs to read the rows it gets, and to know which slots it is owed. Pure.

Only what belongs to a place of which a basis lets him know; an occupancy only with a basis for him.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.clock import stamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.pipeline.ledger import Owed
    from agent.registry.documents import Consent, Installation, Occupancy, Place
    from agent.registry.gate import Policy
    from agent.registry.registry import Registry

    Items = dict[str, dict[str, Any]]


def directory(  # noqa: PLR0913, PLR0917 -- what it is made of
    registry: Registry,
    policy: Policy,
    recipient: str,
    owed: Mapping[Owed, int],
    told: Mapping[str, Mapping[str, Any]],
    zone: str,
) -> Items:
    """Every item by its key: the building's time zone, places, installations, occupancies, bases,
    and the series of which each slot is owed. `told`: what the recipient was told before.
    """
    consents = [one for one in registry.consents() if one.recipient == recipient]
    homes = {one.occupancy for one in consents}
    places = {one.place for one in consents} | {series.place for series in owed}
    found: Items = {"zone/": {"timezone": zone}}
    for place in registry.places():
        if place.id in places:
            found[f"places/{place.id}"] = _place(place)
    for one in registry.installations():
        if one.place in places and one.serial is not None:
            found[f"installations/{one.id}"] = _installation(one)
    for home in registry.occupancies():
        if home.id in homes:
            found[f"occupancies/{home.id}"] = _occupancy(home)
    for consent in consents:
        found[f"bases/{consent.id}"] = _consent(consent)
    if policy.common is not None:
        evidence, since = policy.common.evidence, stamp(policy.common.since)
        found["bases/common"] = {"id": "common", "evidence": evidence, "since": since}
    return found | dict(_series(owed, told))


def _series(
    owed: Mapping[Owed, int], told: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A series is owed from its first slot on, though the agent has started anew since."""
    mine = {
        "/".join(("series", one.place, one.channel, one.kind, str(one.step))): (one, since)
        for one, since in owed.items()
    }
    for key, item in told.items():
        if key.startswith("series/") and key not in mine:
            yield key, dict(item)
    for key, (one, since) in mine.items():
        begins = min(stamp(since), str(told[key]["since"])) if key in told else stamp(since)
        yield key, one._asdict() | {"since": begins}


def _place(place: Place) -> dict[str, Any]:
    return {"id": place.id, "type": place.type, "label": place.label}


def _installation(one: Installation) -> dict[str, Any]:
    by = "device" if one.pinned else "person"
    words = {"id": one.id, "place": one.place, "meter": one.serial, "recorded_by": by}
    channel = {"channel": one.channel} if one.channel else {}
    return words | channel | _interval(one.since, one.until)


def _occupancy(home: Occupancy) -> dict[str, Any]:
    return {"id": home.id, "place": home.place} | _interval(home.since, home.until)


def _consent(one: Consent) -> dict[str, Any]:
    words = {"id": one.id, "occupancy": one.occupancy, "place": one.place}
    scope = {"channels": list(one.channels), "step": one.step, "purpose": one.purpose}
    return words | scope | _interval(one.since, one.until)


def _interval(since: int, until: int | None) -> dict[str, Any]:
    """Half-open, [since, until); without `until`: open."""
    return {"since": stamp(since)} | ({"until": stamp(until)} if until is not None else {})
