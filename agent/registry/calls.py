"""Calls of the commands about places and meters. Arguments are plain text, answers plain data for
display; calls_people.py, calls_bases.py and calls_forms.py have the other topics.

Every call takes the registry, who asks, and the time. A file that the CLI reads comes as its text
and name. Raises Refused with a message for people; then nothing was changed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.registry import answers, fields, lots, parsers, sheet
from agent.registry.inputs import NewAlias, NewExchange, NewInstallation, NewPlace
from agent.registry.place import PLACES, agrees, parse, shown, squeeze
from agent.registry.records import serial_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.registry.answers import Answer
    from agent.registry.registry import Registry

PLACE_COLUMNS = {
    **{name: name for name in ("label", "type", "id", "since", "lot")},
    **dict.fromkeys(("libellé", "logement", "appartement", "désignation", "dwelling"), "label"),
    **dict.fromkeys(("identifiant", "place"), "id"),
    **dict.fromkeys(("depuis", "date d'entrée", "entrée"), "since"),
    **dict.fromkeys(("n° de lot", "numéro de lot", "n° lot"), "lot"),
}
ALIAS_COLUMNS = {
    **{name: name for name in ("place", "scheme", "value", "since", "until", "note")},
    **dict.fromkeys(("place_id", "label", "logement", "appartement", "dwelling"), "place"),
    **dict.fromkeys(("référentiel", "système"), "scheme"),
    **dict.fromkeys(("valeur", "identifiant", "numéro"), "value"),
    **dict.fromkeys(("valid_from", "depuis"), "since"),
    **dict.fromkeys(("valid_to", "jusqu'au"), "until"),
}
METER_COLUMNS = {
    **{name: name for name in (
        "serial", "device", "dwelling", "channel", "since", "multiplier", "offset", "index",
    )},
    **dict.fromkeys(
        ("serial number", "n° de série", "numéro de série", "n° série", "n° compteur",
         "numéro de compteur", "matricule"), "serial",
    ),
    **dict.fromkeys(("logement", "appartement", "label", "place"), "dwelling"),
    **dict.fromkeys(("appareil",), "device"),
    **dict.fromkeys(("grandeur",), "channel"),
    **dict.fromkeys(("depuis", "date de pose", "pose"), "since"),
    **dict.fromkeys(("coefficient", "rapport tc"), "multiplier"),
    **dict.fromkeys(("index de pose", "index à la pose"), "index"),
}  # fmt: skip


def place_new(  # noqa: PLR0913 -- as many options
    registry: Registry,
    *,
    who: str,
    now: float,
    label: str,
    type: str,  # noqa: A002 -- the word people write
    id: str | None = None,  # noqa: A002
    since: str | None = None,
    zone: str | None = None,
) -> Answer:
    """Record one place. `id`: minted elsewhere; None: minted here. Without `since` it is unknown
    whether anybody lives there.
    """
    begins = parsers.when(since, zone)
    row = NewPlace(label, type, id, begins, occupied=begins is not None)
    added = registry.add_places([row], who, "gardien place new", now)
    return answers.places_added(registry, added, now)


def place_check(registry: Registry, *, who: str, now: float, text: str) -> Answer:  # noqa: ARG001 -- all calls are made alike
    """Tell which place an id or a label names. An id may be valid and yet not belong to this
    building.
    """
    if agrees(squeeze(text)):
        id_ = parse(text)
        label = registry.label(id_)
        return {"id": id_, "shown": shown(id_), "type": PLACES[id_[0]], "label": label}
    place = registry.place(text)
    return {"id": place.id, "shown": shown(place.id), "type": place.type, "label": place.label}


def place_import(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    text: str,
    name: str,
    types: Sequence[str] = (),
    zone: str | None = None,
    preview: bool = False,
) -> Answer:
    """Record the places of a table `label;type`, optionally with `id`, `since` and `lot`: all rows
    or none.

    A row for a cellar or a parking space is not a place: its lot becomes an alias of the dwelling
    with that label. `types`: record only rows of these types and count the others. Without `since`
    it is unknown whether anybody lives in a dwelling. `preview`: check everything and show what
    would be recorded, but record nothing.
    """
    lines = sheet.read(text, name, PLACE_COLUMNS, ("label", "type"))
    taken, left = lots.of_types(lines, types)
    places, parts = lots.split_lots(taken)
    rows = []
    for line in places:
        cells = line.cells
        (since,), fault = parsers.dated(line, zone, "since")
        row = NewPlace(
            cells.get("label", ""), cells.get("type", ""), cells.get("id"), since,
            occupied=since is not None, where=line.where,
            fault=fault or parsers.made_a_date(cells.get("label", ""), "label"),
        )  # fmt: skip
        rows.append(row)
    known = lots.known(registry.places(), registry.aliases(), parts, now)
    added = registry.add_places(rows, who, name, now, lots=parts, preview=preview)
    if preview:
        ids = {row.id for row in rows if row.id}
        begins = {row.label: row.since for row in rows if row.since is not None}
        answer = answers.places_foreseen(registry, added, ids, parts, begins, now)
    else:
        answer = answers.places_added(registry, added, now)
    new_lots, standing = len(parts) - known, len(rows) - len(added) + known
    return (
        answer | _rest(text, name, PLACE_COLUMNS, standing) | {"lots": new_lots, "not_taken": left}
    )


def place_list(registry: Registry, *, who: str, now: float) -> Answer:  # noqa: ARG001
    """List all places with their occupants now, or that they are vacant or unknown."""
    homes = [registry.occupancy_at(place.id, int(now)) for place in registry.places()]
    return answers.places(registry, registry.places(), homes, now)


def alias_add(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    place: str,
    scheme: str,
    value: str,
    since: str | None = None,
    until: str | None = None,
    zone: str | None = None,
) -> Answer:
    """Record an alias of a place."""
    begins, ends = parsers.when(since, zone, "since"), parsers.when(until, zone, "until")
    row = NewAlias(place, scheme, value, begins, ends)
    named = registry.name([row], who, "gardien place alias add", now)
    return answers.aliases(registry, named, now)


def alias_end(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    place: str,
    scheme: str,
    value: str | None = None,
    at: str | None = None,
    zone: str | None = None,
) -> Answer:
    """Record that an alias of a place has ended."""
    row = NewAlias(place, scheme, value or "", until=parsers.when(at, zone, "at"), ends=True)
    named = registry.name([row], who, "gardien place alias end", now)
    return answers.aliases(registry, named, now)


def alias_import(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    text: str,
    name: str,
    zone: str | None = None,
    preview: bool = False,
) -> Answer:
    """Record the aliases of a table `place;scheme;value`: all rows or none."""
    rows = []
    for line in sheet.read(text, name, ALIAS_COLUMNS, ("place", "scheme", "value")):
        cells = line.cells
        (since, until), fault = parsers.dated(line, zone, "since", "until")
        row = NewAlias(
            cells.get("place", ""), cells.get("scheme", ""), cells.get("value", ""), since, until,
            cells.get("note", ""), where=line.where,
            fault=fault or parsers.lost_digits(cells.get("value", ""), "value"),
        )  # fmt: skip
        rows.append(row)
    named = registry.name(rows, who, name, now, preview=preview)
    rest = _rest(text, name, ALIAS_COLUMNS, len(rows) - len(named))
    return answers.aliases(registry, named, now) | rest


def alias_list(registry: Registry, *, who: str, now: float, place: str = "") -> Answer:  # noqa: ARG001
    """List all aliases, or those of one place, including ended ones."""
    id_ = registry.place(place).id if place else None
    rows = [one for one in registry.aliases() if id_ in (None, one.place)]
    return answers.aliases(registry, rows, now)


def meter_import(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    text: str,
    name: str,
    zone: str | None = None,
    preview: bool = False,
) -> Answer:
    """Record the meters of a table `serial;dwelling`, `device;dwelling` or both: all rows or none.

    Optional columns are `channel`, `since`, and, only with a channel, `multiplier`, `offset` and
    `index`. `preview`: as in `place_import`.
    """
    lines = sheet.read(text, name, METER_COLUMNS, ("dwelling",))
    rows = [_meter(line, zone) for line in lines]
    installed = registry.install(rows, who, name, now, preview=preview)
    rest = _rest(text, name, METER_COLUMNS, len(rows) - len(installed))
    return answers.meters(registry, installed, now) | rest


def meter_assign(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    device: str,
    dwelling: str,
    serial: str | None = None,
    channel: str | None = None,
    since: str | None = None,
    multiplier: str | None = None,
    offset: str | None = None,
    index: Sequence[str] = (),
    known: Sequence[str] = (),
    zone: str | None = None,
    preview: bool = False,
) -> Answer:
    """Record which place a device measures. `serial` is what people read on the meter.

    Without it the installation takes the first serial number that the device reports. `index`: what
    the meter showed at `since`; `known`: the channels that it measures.
    """
    row = NewInstallation(
        dwelling, device, serial, channel, parsers.when(since, zone),
        fields.multiplier(multiplier) if multiplier else None,
        fields.offset(offset) if offset else None,
        parsers.indexes(index, [channel] if channel else known, "index"),
    )  # fmt: skip
    source = "gardien meter assign"
    installed = registry.install([row], who, source, now, preview=preview)
    return answers.meters(registry, installed, now)


def meter_exchange(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    place: str,
    old: str | None = None,
    channel: str | None = None,
    device: str | None = None,
    serial: str | None = None,
    at: str | None = None,
    closing: Sequence[str] = (),
    opening: Sequence[str] = (),
    multiplier: str | None = None,
    offset: str | None = None,
    known: Sequence[str] = (),
    zone: str | None = None,
) -> Answer:
    """Record that another meter took the place of one. `known`: the channels that it measures.

    Without a closing index the old meter's last good reading is used, as an estimate.
    """
    quantities = [channel] if channel else known
    row = NewExchange(
        place, old, channel, device, serial, parsers.when(at, zone, "at"),
        parsers.indexes(closing, quantities, "closing"),
        parsers.indexes(opening, quantities, "opening"),
        fields.multiplier(multiplier) if multiplier else None,
        fields.offset(offset) if offset else None,
    )  # fmt: skip
    changed = registry.exchange([row], who, "gardien meter exchange", now)
    return answers.meters(registry, changed, now)


def meter_remove(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    place: str,
    old: str | None = None,
    channel: str | None = None,
    at: str | None = None,
    never: bool = False,
    closing: Sequence[str] = (),
    known: Sequence[str] = (),
    zone: str | None = None,
) -> Answer:
    """Record that a meter no longer measures a place; `never`: that it never did."""
    quantities = [channel] if channel else known
    row = NewExchange(
        place, old, channel, at=parsers.when(at, zone, "at"), followed=False, never=never,
        closing=parsers.indexes(closing, quantities, "closing"),
    )  # fmt: skip
    changed = registry.exchange([row], who, "gardien meter remove", now)
    return answers.meters(registry, changed, now)


def meter_list(
    registry: Registry,
    *,
    who: str,  # noqa: ARG001
    now: float,
    serials: Sequence[str] = (),
) -> Answer:
    """List all installations; `serials`: the serial numbers that devices report."""
    keys = {serial_key(serial) for serial in serials}
    return answers.meters(registry, registry.installations(), now, keys)


def _rest(text: str, name: str, columns: Mapping[str, str], unchanged: int) -> Answer:
    """The headings of a list that are not read, and how many of its rows changed nothing."""
    return {"not_read": sheet.unread(text, name, columns), "unchanged": unchanged}


def _meter(line: sheet.SheetRow, zone: str | None) -> NewInstallation:
    cells = line.cells
    (since,), fault = parsers.dated(line, zone, "since")
    fault = fault or parsers.lost_digits(cells.get("serial", ""), "serial")
    row = NewInstallation(
        place=cells.get("dwelling", ""),
        device=cells.get("device"),
        serial=cells.get("serial"),
        channel=cells.get("channel"),
        since=since,
        where=line.where,
        fault=fault,
    )
    known = [cells["channel"]] if "channel" in cells else []
    try:
        return replace(
            row,
            multiplier=fields.multiplier(cells["multiplier"]) if "multiplier" in cells else None,
            offset=fields.offset(cells["offset"]) if "offset" in cells else None,
            index=parsers.indexes(cells.get("index", "").split(), known, "index"),
        )
    except Refused as error:
        return replace(row, fault=fault or str(error))
