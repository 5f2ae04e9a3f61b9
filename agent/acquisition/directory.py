"""Builds the directory of one recipient: the data that it needs to read its rows and to know which
slots it is owed. Pure.

The directory contains only places for which the recipient has a basis, and an occupancy only with a
basis for this recipient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.core.clock import stamp
from agent.core.model import ValueKind
from agent.registry.aggregate import ID

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from agent.acquisition.slots import ExpectedSeries
    from agent.registry.consent_policy import Policy
    from agent.registry.records import Alias, Consent, Duty, Installation, Occupancy, Place
    from agent.registry.registry import Registry

    Items = dict[str, dict[str, Any]]


def directory(  # noqa: PLR0913, PLR0917 -- what it is made of
    registry: Registry,
    policy: Policy,
    recipient: str,
    owed: Mapping[ExpectedSeries, int],
    announced: Mapping[str, Mapping[str, Any]],
    zone: str,
    device_serials: Container[str] = (),
    name: str = "",
    sums: Iterable[str] = (),
) -> Items:
    """Every item by its key: the building's time zone, places with their aliases, installations,
    occupancies, bases, and the series of which each slot is owed.

    `owed`: the first slot of each series, seconds since 1970. `announced`: the items that the
    recipient has. `device_serials`: the serial numbers that devices report, in their comparable
    form. `name`: the building's name, where sums over dwellings are sent. `sums`: the channels of
    these sums.
    """
    consents, duties = _bases(registry, recipient)
    homes = {consent.occupancy for consent in consents}
    homes |= {home.id for home in registry.occupancies() for duty in duties if _meet(home, duty)}
    lived_in = {home.place for home in registry.occupancies() if home.id in homes}
    places = {consent.place for consent in consents} | lived_in
    places |= {series.place for series in owed}
    items: Items = {"zone/": {"timezone": zone}, **_measured(registry, places, device_serials)}
    for home in registry.occupancies():
        if home.id in homes:
            items[f"occupancies/{home.id}"] = _occupancy(home)
    for consent in consents:
        items[f"bases/{consent.id}"] = _consent(consent)
    for duty in duties:
        items[f"bases/{duty.id}"] = _duty(duty)
    if policy.common is not None:
        evidence, since = policy.common.evidence, stamp(policy.common.since)
        items["bases/common"] = {"id": "common", "evidence": evidence, "since": since}
    series = dict(_series(owed, announced))
    known = {*sums, *announced.get(f"bases/{ID}", {}).get("channels", ())}
    return dict(_rest(series, policy, name, known)) | items | series


def _measured(registry: Registry, places: Container[str], device_serials: Container[str]) -> Items:
    """The places that a recipient may know of, and the installations there."""
    items: Items = {}
    aliases_of: dict[str, list[Alias]] = {}
    for alias in registry.aliases():
        aliases_of.setdefault(alias.place, []).append(alias)
    for place in registry.places():
        if place.id in places:
            items[f"places/{place.id}"] = _place(place, aliases_of.get(place.id, []))
    for installation in registry.installations():
        if installation.place in places and installation.serial is not None:
            items[f"installations/{installation.id}"] = _installation(installation, device_serials)
    return items


def _bases(registry: Registry, recipient: str) -> tuple[list[Consent], list[Duty]]:
    consents = [record for record in registry.consents() if record.recipient == recipient]
    duties = [record for record in registry.duties() if record.recipient == recipient]
    return [record for record in consents if record.withdrawn is None], duties


def _meet(home: Occupancy, duty: Duty) -> bool:
    """Whether a duty may deliver an index of this occupancy."""
    begins, ends = max(home.since, duty.since), [end for end in (home.until, duty.until) if end]
    return home.until != home.since and (not ends or begins <= min(ends))


def _series(
    owed: Mapping[ExpectedSeries, int], announced: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The series owed. A series stays owed from its first slot on, even after a restart."""
    expected = {
        "/".join(("series", series.place, series.channel, series.kind, str(series.step))): (
            series,
            since,
        )
        for series, since in owed.items()
    }
    for key, item in announced.items():
        if key.startswith("series/") and key not in expected:
            yield key, dict(item)
    for key, (series, since) in expected.items():
        begins = (
            min(stamp(since), str(announced[key]["since"])) if key in announced else stamp(since)
        )
        yield key, series._asdict() | {"since": begins}


def _rest(
    series: Items, policy: Policy, name: str, channels: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The basis of sums over dwellings, and the building as their place."""
    sums = [
        item
        for item in series.values()
        if item["place"][:1] == "B"
        and item["kind"] == ValueKind.INT
        and item["channel"] in channels
    ]
    for place in {item["place"] for item in sums}:
        yield f"places/{place}", {"id": place, "type": "building", "label": name}
        of_place = [item for item in sums if item["place"] == place]
        since = min(item["since"] for item in of_place)
        channel_names = sorted({item["channel"] for item in of_place})
        basis = {"id": ID, "place": place, "channels": channel_names, "fewest": policy.fewest}
        yield f"bases/{ID}", basis | {"since": since}


def _place(place: Place, aliases: list[Alias]) -> dict[str, Any]:
    item: dict[str, Any] = {"id": place.id, "type": place.type, "label": place.label}
    names = [
        {"scheme": alias.scheme, "value": alias.value} | _interval(alias.since, alias.until)
        for alias in aliases
    ]
    return item | ({"aliases": names} if names else {})


def _installation(installation: Installation, device_serials: Container[str]) -> dict[str, Any]:
    by = "device" if installation.pinned else "person"
    item: dict[str, Any] = {
        "id": installation.id,
        "place": installation.place,
        "meter": installation.serial,
    }
    item |= {"recorded_by": by, "proof": installation.proof(device_serials)}
    if installation.channel:
        item["channel"] = installation.channel
    if installation.multiplier != 1:
        item["multiplier"] = format(installation.multiplier, "f")
    return item | _interval(installation.since, installation.until)


def _occupancy(home: Occupancy) -> dict[str, Any]:
    return {"id": home.id, "place": home.place} | _interval(home.since, home.until)


def _consent(consent: Consent) -> dict[str, Any]:
    item = {"id": consent.id, "occupancy": consent.occupancy, "place": consent.place}
    scope = {"channels": list(consent.channels), "step": consent.step, "purpose": consent.purpose}
    return item | scope | _interval(consent.since, consent.until)


def _duty(duty: Duty) -> dict[str, Any]:
    item = {"id": duty.id, "duty": duty.reference, "channels": list(duty.channels)}
    return item | {"billing": list(duty.billing)} | _interval(duty.since, duty.until)


def _interval(since: int, until: int | None) -> dict[str, Any]:
    """Half-open, [since, until); without `until`: open."""
    return {"since": stamp(since)} | ({"until": stamp(until)} if until is not None else {})
