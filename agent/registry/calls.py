"""What the commands ask of the registry, in plain words; answers are plain data, to be shown.

Every call takes the registry, who asks, and the time. What the CLI reads from a file comes as its
text and its name. Raises Refused, for people, and then nothing was changed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.errors import Refused
from agent.registry import answers, sheet
from agent.registry.dates import moment
from agent.registry.entries import NewConsent, NewInstallation, NewPlace
from agent.registry.gate import policy as named_policy
from agent.registry.place import PLACES, agrees, parse, shown, squeeze
from agent.settings import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.registry.answers import Answer
    from agent.registry.registry import Registry

PLACE_COLUMNS = {
    **{name: name for name in ("label", "type", "id", "since")},
    **dict.fromkeys(("libellé", "logement", "appartement", "désignation", "dwelling"), "label"),
    **dict.fromkeys(("identifiant", "place"), "id"),
    **dict.fromkeys(("depuis", "date d'entrée", "entrée"), "since"),
}
METER_COLUMNS = {
    **{name: name for name in ("serial", "device", "dwelling", "channel", "since")},
    **dict.fromkeys(
        ("serial number", "n° de série", "numéro de série", "n° série", "n° compteur",
         "numéro de compteur", "matricule"), "serial",
    ),
    **dict.fromkeys(("logement", "appartement", "label", "place"), "dwelling"),
    **dict.fromkeys(("appareil",), "device"),
    **dict.fromkeys(("grandeur",), "channel"),
    **dict.fromkeys(("depuis", "date de pose", "pose"), "since"),
}  # fmt: skip
CONSENT_COLUMNS = {"place": "place", "label": "place", "logement": "place", "appartement": "place"}
EATEN = re.compile(r"[0-9]+(?:[.,][0-9]+)?[eE]\+?[0-9]+")
"""what a spreadsheet program makes of a long number: 4,51E+07"""
FRENCH_DAY = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})")


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
    """Record one place, with an id minted here or, as `id`, elsewhere."""
    row = NewPlace(label, type, id, _since(since, zone))
    return answers.places_added(registry, registry.add_places([row], who, "gardien place new", now))


def place_check(registry: Registry, *, who: str, now: float, text: str) -> Answer:  # noqa: ARG001 -- all calls are made alike
    """Say what an id or a label names; an id may be right and yet not of this building."""
    if agrees(squeeze(text)):
        id_ = parse(text)
        known = next((place for place in registry.places() if place.id == id_), None)
        label = known.label if known else None
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
    zone: str | None = None,
    preview: bool = False,
) -> Answer:
    """Record the places of a table `label;type`, optionally `id` and `since`: all or none.

    `preview`: check all of it, show what would be recorded, and record nothing.
    """
    rows = []
    for line in sheet.read(text, name, PLACE_COLUMNS, ("label", "type")):
        cells, (since, fault) = line.cells, _dated(line, zone)
        row = NewPlace(
            cells.get("label", ""), cells.get("type", ""), cells.get("id"), since, line.where, fault
        )
        rows.append(row)
    unread = {"not_read": sheet.unread(text, name, PLACE_COLUMNS)}
    if preview:
        would = registry.would_add(rows, who, name, now)
        return answers.places(registry, would, [None] * len(would)) | unread
    return answers.places_added(registry, registry.add_places(rows, who, name, now)) | unread


def place_list(registry: Registry, *, who: str, now: float) -> Answer:  # noqa: ARG001
    """List all places with who lives there now."""
    homes = [registry.occupancy_at(place.id, int(now)) for place in registry.places()]
    return answers.places(registry, registry.places(), homes)


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
    """Record the meters of a table `serial;dwelling`, `device;dwelling` or with both: all or none.

    Optional columns are `channel` and `since`. `preview` as for places.
    """
    rows = []
    for line in sheet.read(text, name, METER_COLUMNS, ("dwelling",)):
        cells, (since, fault) = line.cells, _dated(line, zone)
        row = NewInstallation(
            place=cells.get("dwelling", ""),
            device=cells.get("device"),
            serial=cells.get("serial"),
            channel=cells.get("channel"),
            since=since,
            where=line.where,
            fault=fault or _eaten(cells.get("serial", "")),
        )
        rows.append(row)
    unread = {"not_read": sheet.unread(text, name, METER_COLUMNS)}
    found = (registry.would_install if preview else registry.install)(rows, who, name, now)
    return answers.meters(registry, found, now) | unread


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
    zone: str | None = None,
) -> Answer:
    """Record whose one device is; `serial` is what people read on the meter.

    Without it the installation waits for the serial number that the device says first.
    """
    row = NewInstallation(dwelling, device, serial, channel, _since(since, zone))
    return answers.meters(registry, registry.install([row], who, "gardien meter assign", now), now)


def meter_list(registry: Registry, *, who: str, now: float) -> Answer:  # noqa: ARG001
    """List all installations."""
    return answers.meters(registry, registry.installations(), now)


def consent_give(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    recipient: str,
    channels: Sequence[str],
    step: str,
    purpose: str,
    places: Sequence[str] = (),
    text: str | None = None,
    name: str = "",
    since: str | None = None,
    until: str | None = None,
    zone: str | None = None,
    policy: str = "FR-1",
) -> Answer:
    """Record one consent for the people of each place, of `places` and of a table with a column
    `place` or `label`: all or none. `step` as `30min`; `policy` by its name.
    """
    targets = [(place, "", "") for place in places]
    if text is not None:
        lines = sheet.read(text, name, CONSENT_COLUMNS, ("place",))
        targets += [(line.cells.get("place", ""), line.where, line.fault) for line in lines]
    if not targets:
        raise Refused("whose consent? name places, or a file with a column `place` or `label`")
    begins, ends, finest = _since(since, zone), _since(until, zone), _step(step)
    rows = [
        NewConsent(place, recipient, tuple(channels), finest, purpose, begins, ends, where, fault)
        for place, where, fault in targets
    ]
    given = registry.consent(rows, who, "gardien consent give", now, named_policy(policy))
    return answers.consents(registry, given, now)


def consent_list(registry: Registry, *, who: str, now: float) -> Answer:  # noqa: ARG001
    """List all consents, those in force and those that are not."""
    return answers.consents(registry, registry.consents(), now)


def _since(text: str | None, zone: str | None) -> int | None:
    try:
        return None if text is None else moment(text, zone)
    except ValueError as error:
        raise Refused(str(error)) from error


def _step(text: str) -> int:
    try:
        seconds = duration(text)
    except ValueError as error:
        raise Refused(f"step: {error}") from error
    if seconds != int(seconds) or seconds < 1:
        raise Refused(f"step: {text} is not a whole number of seconds")
    return int(seconds)


def _dated(line: sheet.Line, zone: str | None) -> tuple[int | None, str]:
    """When the row's fact begins, and what is wrong with the row."""
    written = line.cells.get("since")
    if written and (day := FRENCH_DAY.fullmatch(written)):
        written = f"{day[3]}-{int(day[2]):02}-{int(day[1]):02}"
    try:
        return _since(written, zone), line.fault
    except Refused as error:
        return None, f"since: {error}"


def _eaten(serial: str) -> str:
    if not EATEN.fullmatch(serial):
        return ""
    return (
        f'serial: the spreadsheet program has made "{serial}" of a long number, and its last digits'
        " are lost: format the column as text and type the serial number again"
    )
