"""Builds the directory of one recipient: the data that it needs to read its rows and to know which
slots it is owed. Pure.

The directory contains only places for which the recipient has a basis, and an occupancy only with a
basis for this recipient.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agent.acquisition.row_assignment import FOREVER, ExpectedSeries
from agent.buffer.announcements import ENDS, series_key
from agent.core.clock import stamp
from agent.core.model import ValueKind
from agent.registry.aggregate import ID
from agent.registry.dates import moment
from agent.registry.records import EXACT, serial_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
    from decimal import Decimal

    from agent.registry.consent_policy import Policy
    from agent.registry.records import Alias, Consent, Duty, Installation, Occupancy, Place
    from agent.registry.registry import Registry

    Items = dict[str, dict[str, Any]]
    Moduli = Mapping[str, Mapping[str, Decimal]]

LONGEST_SLOT = 1.05
"""a slot of a day has up to 25 hours, one of a month up to 31 days of the 30 of its step"""
LISTS = ("zone", "places", "installations", "occupancies", "bases", "series")
"""the order of items: each comes after what it refers to (rule T33)"""


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
    moduli: Moduli = MappingProxyType({}),
    now: float = 0,
    factors: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Items:
    """Every item by its key: the building's time zone, places with their aliases, installations,
    occupancies, bases, and the series of which each slot is owed.

    `owed`: the first slot of each series that is stored, seconds since 1970. `announced`: the items
    that the recipient has or is to have (`Spool.announced`). `device_serials`: the serial numbers
    that devices report, in their comparable form. `name`: the building's name, where sums over
    dwellings are sent. `sums`: the channels of these sums. `moduli`: as `SlotLedger.moduli`. `now`:
    which bases have ended. `factors`: by installation and channel, how its factor is proven.

    An item whose key begins with ENDS is the end of one that the recipient may have (rule T34).
    """
    consents, duties = _bases(registry, recipient)
    withdrawn = [one for one in registry.consents() if one.recipient == recipient and one.withdrawn]
    ends = _ends(registry, [*consents, *withdrawn], duties)
    homes = {consent.occupancy for consent in consents}
    homes |= {home.id for home in registry.occupancies() for duty in duties if _meet(home, duty)}
    lived_in = {home.place for home in registry.occupancies() if home.id in homes}
    series = dict(_series(owed, announced))
    places = {consent.place for consent in consents} | lived_in
    # Of a dwelling only a basis speaks: its series stay owed when the last basis was withdrawn.
    places |= {item["place"] for item in series.values() if item["place"][:1] != "D"}
    series = {key: item for key, item in series.items() if item["place"] in places}
    items: Items = {"zone/": {"timezone": zone}}
    items |= _measured(registry, places, device_serials)
    for home in registry.occupancies():
        # With the last basis ends what the recipient may know of these people.
        over = ends.get(home.id, FOREVER)
        until = home.until if over > now else min(home.until or over, over)
        if home.id in homes:
            items[f"occupancies/{home.id}"] = _occupancy(replace(home, until=until))
    for home in _when_withdrawn(registry, withdrawn):
        if home.id not in homes:
            over = ends[home.id]
            items[f"{ENDS}occupancies/{home.id}"] = {"until": stamp(min(home.until or over, over))}
    for consent in withdrawn:
        at = consent.withdrawn or 0
        end = stamp(max(consent.since, min(consent.until, at)))
        items[f"{ENDS}bases/{consent.id}"] = {"until": end, "withdrawn": stamp(at)}
    recorded = registry.first_recorded() if consents or duties else {}
    of_bases = [*map(_consent, consents), *map(_duty, duties)]
    for basis in of_bases:
        # Slots that were closed before are not made again, so they are not owed (rule R16).
        items[f"bases/{basis['id']}"] = basis | {"recorded": stamp(recorded[basis["id"]])}
    if policy.common is not None:
        evidence, since = policy.common.evidence, stamp(policy.common.since)
        items["bases/common"] = {"id": "common", "evidence": evidence, "since": since}
    known = {*sums, *announced.get(f"bases/{ID}", {}).get("channels", ())}
    _add_moduli(registry, items, series, announced, moduli)
    for key, item in items.items():
        if list_of(key) == "installations" and (
            # of a meter that is gone: as the recipient has it
            proofs := factors.get(item["id"]) or announced.get(key, {}).get("factors")
        ):
            item["factors"] = proofs
    items |= dict(_rest(series, policy, name, known)) | series
    return dict(sorted(items.items(), key=lambda item: LISTS.index(list_of(item[0]))))


def _when_withdrawn(registry: Registry, withdrawn: Iterable[Consent]) -> Iterable[Occupancy]:
    """The occupancies of withdrawn consents, as they were recorded at the last withdrawal: a move
    that is recorded later, for whatever date, is not for this recipient.
    """
    last: dict[str, int] = {}
    for consent in withdrawn:
        last[consent.occupancy] = max(consent.word.revision, last.get(consent.occupancy, 0))
    return registry.occupancies_at(last).values() if last else ()


def _add_moduli(
    registry: Registry,
    items: Items,
    series: Items,
    announced: Mapping[str, Mapping[str, Any]],
    moduli: Moduli,
) -> None:
    """Where the index of a place begins again from 0 (rule R15): of each meter, and of a series
    whose place has none.
    """
    for meter in registry.installations():
        item = items.get(key := f"installations/{meter.id}")
        if item is None:
            continue
        now = {
            channel: format(EXACT.multiply(modulus, meter.multiplier).normalize(), "f")
            for channel, modulus in moduli.get(serial_key(str(meter.serial)), {}).items()
            if meter.channel in (None, channel)
        }
        # of a meter that is gone: as the recipient has it
        if known := {**announced.get(key, {}).get("modulus", {}), **now}:
            item["modulus"] = known
    for item in series.values():
        own = moduli.get(item["place"], {}).get(item["channel"])
        if own is not None and item["kind"] == ValueKind.REG:
            item["modulus"] = format(own.normalize(), "f")


def list_of(key: str) -> str:
    """The list of an item."""
    return key.removeprefix(ENDS).partition("/")[0]


def _ends(
    registry: Registry, consents: Iterable[Consent], duties: Iterable[Duty]
) -> dict[str, int]:
    """By occupancy, when the last basis on which its rows are sent ends."""
    basis_ends = [(one.occupancy, one.until if one.withdrawn is None else one.withdrawn)
             for one in consents]  # fmt: skip
    basis_ends += [
        (home.id, FOREVER if duty.until is None else duty.until)
        for duty in duties
        for home in registry.occupancies()
        if _meet(home, duty)
    ]
    ends: dict[str, int] = {}
    for home_id, end in basis_ends:
        ends[home_id] = max(end, ends.get(home_id, 0))
    return ends


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
    """The series owed. A series stays owed from its first slot on, even after a restart, until it
    ends. One that ended and is made again begins anew, unless no slot was left out.
    """
    expected = series_items(owed)
    for key, item in announced.items():
        if key.startswith("series/") and key not in expected:
            yield key, dict(item)
    for key, item in expected.items():
        known = announced.get(key, item)
        anew = item["since"] > known.get("until", item["since"])
        yield key, item if anew else item | {"since": min(item["since"], known["since"])}


def end_series(
    announced: Mapping[str, Mapping[str, Any]],
    owed: Mapping[ExpectedSeries, int],
    ends: Callable[[Collection[ExpectedSeries]], Mapping[ExpectedSeries, int]],
    begun_again: Mapping[ExpectedSeries, int] = MappingProxyType({}),
    now: float = FOREVER,
) -> tuple[Items, list[ExpectedSeries]]:
    """The series that have ended, as the recipient is to have them, and which of `owed` those are.

    `ends` and `begun_again`: as those of `SlotLedger`. Sums over dwellings are made of no point:
    they do not end. An end after the slot that begins next at `now` is of a wrong clock: it is
    stated anew (rule C5).
    """
    open_series = {
        key: item
        for key, item in _series(owed, announced)
        if "until" not in item or moment(item["until"]) > now + LONGEST_SLOT * item["step"]
    }
    rest = announced.get(f"bases/{ID}", {})
    of = {
        _expected(item): key
        for key, item in open_series.items()
        if not (
            item["place"] == rest.get("place")
            and item["kind"] == ValueKind.INT
            and item["channel"] in rest.get("channels", ())
        )
    }
    ended = ends(of)
    items = {of[one]: open_series[of[one]] | {"until": stamp(t)} for one, t in ended.items()}
    for series in ended.keys() & begun_again.keys():
        items[of[series]]["since"] = stamp(begun_again[series])
    return items, [one for one in ended if one in owed]


def first_slots(announced: Mapping[str, Mapping[str, Any]]) -> dict[ExpectedSeries, int]:
    """The first slot of each series of a directory."""
    return {
        _expected(item): moment(item["since"])
        for key, item in announced.items()
        if key.startswith("series/")
    }


def _expected(item: Mapping[str, Any]) -> ExpectedSeries:
    return ExpectedSeries(*(item[name] for name in ExpectedSeries._fields))


def series_items(owed: Mapping[ExpectedSeries, int]) -> Items:
    """Series by their keys, each from its first slot on."""
    return {
        series_key(of.place, of.channel, of.kind, of.step): of._asdict() | {"since": stamp(first)}
        for of, first in owed.items()
    }


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
