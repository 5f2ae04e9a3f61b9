"""Calls of the web page about dwellings: some at a time, with their meters; consents as numbers.

A building may have 2,000 dwellings. The page shows 50 of them, so it asks for 50.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from agent.api import answers
from agent.core.errors import Refused
from agent.registry.labels import in_order, plain_key
from agent.registry.place import shown
from agent.registry.records import OccupancyState, covers, serial_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from agent.api.registry import Call, Caller
    from agent.gateway.gateway import Gateway
    from agent.registry.records import Consent, Installation, Place
    from agent.registry.registry import Registry

SHOWN = ("id", "place", "label", "device", "serial", "channel", "proof", "since")
"""members of a meter: not the indexes at its changes"""
LARGEST = 200
"""most dwellings of an answer"""


async def dwelling_list(  # noqa: PLR0913 -- which of them
    gateway: Gateway,
    caller: Caller,
    *,
    place: str = "",
    search: str = "",
    only: str = "",
    first: float = 0,
    number: float = 50,
) -> dict[str, Any]:
    """List dwellings as people sort labels, each with its meters and without any value.

    `place`: this place alone. `search`: part of a label, id, alias or serial number. `only`:
    `unproven`, `no-meter`, `vacant` or `unknown`. `first`, `number`: the part of the list. `total`:
    how many there are. Raises Refused.
    """
    del caller
    registry, now = gateway.registry, int(gateway.clock.now())
    serials = {serial_key(device.serial) for device in gateway.lines.devices() if device.serial}
    if only not in (kinds := _kinds(registry, serials, now)):
        known = ", ".join(filter(None, kinds))
        raise Refused('only: "{only}" is not one of {known}', only=only, known=known)
    if place:
        fitting = [registry.place(place)]
    else:
        fitting = [
            dwelling
            for dwelling in _fitting(registry, plain_key(search), now)
            if kinds[only](dwelling)
        ]
        fitting.sort(key=lambda dwelling: in_order(dwelling.label))
    begin = max(0, int(first))
    part = fitting[begin : begin + min(max(1, int(number)), LARGEST)]
    homes = [registry.occupancy_at(dwelling.id, now) for dwelling in part]
    meters = [meter for dwelling in part for meter in _meters(registry, dwelling.id, now)]
    return {
        "dwellings": answers.places(registry, part, homes, now)["places"],
        "meters": [
            {name: value for name, value in meter.items() if name in SHOWN}
            for meter in answers.meters(registry, meters, now, serials)["meters"]
        ],
        "total": len(fitting),
    }


def _fitting(registry: Registry, search: str, now: int) -> Iterator[Place]:
    """Yield the dwellings that have a text in their label, id, an alias or a serial number."""
    names: dict[str, list[str]] = {}
    if search:
        for alias in registry.aliases():
            if alias.until is None:
                names.setdefault(alias.place, []).append(alias.value)
        for meter in registry.installations():
            if covers(meter, now):
                names.setdefault(meter.place, []).append(meter.serial or meter.device or "")
    for place in registry.places():
        if place.type == "dwelling":
            texts = (place.label, place.id, shown(place.id), *names.get(place.id, ()))
            if not search or any(search in plain_key(text) for text in texts):
                yield place


def _kinds(registry: Registry, serials: set[str], now: int) -> dict[str, Callable[[Place], bool]]:
    """Return the kinds of dwellings that a list may be restricted to."""

    def state(place: Place) -> OccupancyState:
        return registry.occupancy_state(place.id, now)[0]

    return {
        "": lambda _: True,
        "unproven": lambda place: any(
            meter.proof(serials) == "none" for meter in _meters(registry, place.id, now)
        ),
        "no-meter": lambda place: not _meters(registry, place.id, now),
        "vacant": lambda place: state(place) is OccupancyState.VACANT,
        "unknown": lambda place: state(place) is OccupancyState.UNKNOWN,
    }


def _meters(registry: Registry, place: str, now: int) -> list[Installation]:
    return [meter for meter in registry.meters_of(place) if covers(meter, now)]


async def consent_count(
    gateway: Gateway, caller: Caller, *, places: Sequence[str] = ()
) -> dict[str, Any]:
    """Count the consents in force: of each recipient by purpose, quantities and step, and of each
    of some places (by id) by recipient.
    """
    del caller
    registry, now, wanted = gateway.registry, int(gateway.clock.now()), set(places)
    ends = {home.id: home.until for home in registry.occupancies() if home.until is not None}
    in_force = [one for one in registry.consents() if _in_force(one, ends, now)]
    counts = Counter((one.recipient, one.purpose, one.channels, one.step) for one in in_force)
    of_places = Counter((one.place, one.recipient) for one in in_force if one.place in wanted)
    return {
        "consents": [
            {"recipient": recipient, "purpose": purpose, "channels": list(channels), "step": step,
             "number": number}
            for (recipient, purpose, channels, step), number in counts.items()
        ],
        "places": [
            {"place": place, "recipient": recipient, "number": number}
            for (place, recipient), number in of_places.items()
        ],
    }  # fmt: skip


def _in_force(consent: Consent, ends: Mapping[str, int | None], now: int) -> bool:
    """Whether a consent is in force: it also ends with the occupancy that gave it."""
    left = ends.get(consent.occupancy)
    return consent.withdrawn is None and covers(consent, now) and (left is None or now < left)


CALLS: Mapping[str, Call] = {"dwelling.list": dwelling_list, "consent.count": consent_count}
