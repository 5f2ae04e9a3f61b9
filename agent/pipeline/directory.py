"""What one recipient needs to read the rows it gets, and to know which slots it is owed. Pure.

Only what belongs to a place of which a basis lets him know; an occupancy only with a basis for him.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.clock import stamp
from agent.model import ValueKind
from agent.registry.aggregate import ID

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from agent.pipeline.slots import ExpectedSeries
    from agent.registry.consent_policy import Policy
    from agent.registry.records import Alias, Consent, Duty, Installation, Occupancy, Place
    from agent.registry.registry import Registry

    Items = dict[str, dict[str, Any]]


def directory(  # noqa: PLR0913, PLR0917 -- what it is made of
    registry: Registry,
    policy: Policy,
    recipient: str,
    owed: Mapping[ExpectedSeries, int],
    told: Mapping[str, Mapping[str, Any]],
    zone: str,
    said: Container[str] = (),
    name: str = "",
    sums: Iterable[str] = (),
) -> Items:
    """Every item by its key: the building's time zone, places with their aliases, installations,
    occupancies, bases, and the series of which each slot is owed. `told`: what the recipient was
    told before. `said`: the serial numbers, in their comparable form, that devices say. `name`:
    the building's, where sums over its dwellings are sent. `sums`: of which channels.
    """
    consents, duties = _bases(registry, recipient)
    homes = {one.occupancy for one in consents}
    homes |= {home.id for home in registry.occupancies() for duty in duties if _meet(home, duty)}
    lived_in = {home.place for home in registry.occupancies() if home.id in homes}
    places = {one.place for one in consents} | {series.place for series in owed} | lived_in
    found: Items = {"zone/": {"timezone": zone}, **_measured(registry, places, said)}
    for home in registry.occupancies():
        if home.id in homes:
            found[f"occupancies/{home.id}"] = _occupancy(home)
    for consent in consents:
        found[f"bases/{consent.id}"] = _consent(consent)
    for duty in duties:
        found[f"bases/{duty.id}"] = _duty(duty)
    if policy.common is not None:
        evidence, since = policy.common.evidence, stamp(policy.common.since)
        found["bases/common"] = {"id": "common", "evidence": evidence, "since": since}
    series = dict(_series(owed, told))
    known = {*sums, *told.get(f"bases/{ID}", {}).get("channels", ())}
    return dict(_rest(series, policy, name, known)) | found | series


def _measured(registry: Registry, places: Container[str], said: Container[str]) -> Items:
    """The places that a recipient may know of, and what measures them."""
    found: Items = {}
    names: dict[str, list[Alias]] = {}
    for alias in registry.aliases():
        names.setdefault(alias.place, []).append(alias)
    for place in registry.places():
        if place.id in places:
            found[f"places/{place.id}"] = _place(place, names.get(place.id, []))
    for one in registry.installations():
        if one.place in places and one.serial is not None:
            found[f"installations/{one.id}"] = _installation(one, said)
    return found


def _bases(registry: Registry, recipient: str) -> tuple[list[Consent], list[Duty]]:
    mine = [one for one in registry.consents() if one.recipient == recipient]
    duties = [one for one in registry.duties() if one.recipient == recipient]
    return [one for one in mine if one.withdrawn is None], duties


def _meet(home: Occupancy, duty: Duty) -> bool:
    """Whether a duty may deliver an index of these people."""
    begins, ends = max(home.since, duty.since), [end for end in (home.until, duty.until) if end]
    return home.until != home.since and (not ends or begins <= min(ends))


def _series(
    owed: Mapping[ExpectedSeries, int], told: Mapping[str, Mapping[str, Any]]
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


def _rest(
    series: Items, policy: Policy, name: str, channels: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The basis of sums over dwellings, and the building as their place."""
    sums = [
        one for one in series.values() if one["place"][:1] == "B" and one["kind"] == ValueKind.INT
    ]
    sums = [one for one in sums if one["channel"] in channels]
    for place in {one["place"] for one in sums}:
        yield f"places/{place}", {"id": place, "type": "building", "label": name}
        mine = [one for one in sums if one["place"] == place]
        since = min(one["since"] for one in mine)
        names = sorted({one["channel"] for one in mine})
        words = {"id": ID, "place": place, "channels": names, "fewest": policy.fewest}
        yield f"bases/{ID}", words | {"since": since}


def _place(place: Place, aliases: list[Alias]) -> dict[str, Any]:
    words: dict[str, Any] = {"id": place.id, "type": place.type, "label": place.label}
    names = [
        {"scheme": one.scheme, "value": one.value} | _interval(one.since, one.until)
        for one in aliases
    ]
    return words | ({"aliases": names} if names else {})


def _installation(one: Installation, said: Container[str]) -> dict[str, Any]:
    by = "device" if one.pinned else "person"
    words: dict[str, Any] = {"id": one.id, "place": one.place, "meter": one.serial}
    words |= {"recorded_by": by, "proof": one.proof(said)}
    if one.channel:
        words["channel"] = one.channel
    if one.multiplier != 1:
        words["multiplier"] = format(one.multiplier, "f")
    return words | _interval(one.since, one.until)


def _occupancy(home: Occupancy) -> dict[str, Any]:
    return {"id": home.id, "place": home.place} | _interval(home.since, home.until)


def _consent(one: Consent) -> dict[str, Any]:
    words = {"id": one.id, "occupancy": one.occupancy, "place": one.place}
    scope = {"channels": list(one.channels), "step": one.step, "purpose": one.purpose}
    return words | scope | _interval(one.since, one.until)


def _duty(one: Duty) -> dict[str, Any]:
    words = {"id": one.id, "duty": one.reference, "channels": list(one.channels)}
    return words | {"billing": list(one.billing)} | _interval(one.since, one.until)


def _interval(since: int, until: int | None) -> dict[str, Any]:
    """Half-open, [since, until); without `until`: open."""
    return {"since": stamp(since)} | ({"until": stamp(until)} if until is not None else {})
