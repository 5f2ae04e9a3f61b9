"""Exports of the manager's software: fetch them and compare them with the registry.

Clear changes are recorded. Doubtful ones wait for a person (docs/decisions/033).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
from contextlib import suppress
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.api import answers
from agent.api.disclosures import records
from agent.api.registry import author
from agent.core.clock import monotonic, stamp
from agent.core.errors import NotRecorded, NotStored, Refused, StorageFailed, UplinkLost
from agent.core.log_fields import LogEvent, fields
from agent.core.settings import harmless
from agent.core.tasks import Wakeup
from agent.gateway.export_log import ExportReport
from agent.gateway.lines import record_serials
from agent.registry.admission import Author
from agent.registry.admit_people import admit_occupancies
from agent.registry.background_change import change_in_background
from agent.registry.dates import in_local_time
from agent.registry.dossier import is_of_occupancy
from agent.registry.syndic_export import (
    AUTHOR,
    MOST_DOUBTS,
    Doubt,
    Lease,
    accepted,
    compare,
    parse,
)
from agent.registry.workbook import LARGEST, text_of
from agent.uplink.files.folder import place
from agent.uplink.request_worker import in_turns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.api.registry import Call, Caller
    from agent.config.models import Syndic
    from agent.gateway.export_log import Exports, Proposal
    from agent.gateway.gateway import Gateway
    from agent.registry.index import RegistryIndex
    from agent.registry.inputs import NewOccupancy
    from agent.registry.records import Occupancy
    from agent.registry.syndic_export import ClearChange, Comparison, Export, ExportRow
    from agent.uplink.files.folder import RemoteFile

log = logging.getLogger(__name__)

COMPONENT = AUTHOR
"""name of the component, and author of the changes that it records"""
TRIES = 5
"""most comparisons of one export: each refused or late change needs another one"""
LONGEST_NAME = 100
LOCAL = "."
"""the folder in which the connection begins"""
Waits = dict[str, tuple[Doubt, str]]


async def keep(gateway: Gateway) -> None:
    """Fetch each new export. Never returns."""
    before: Syndic | None = None
    looked = 0.0
    clock = gateway.clock
    wakeup = Wakeup(gateway.reloaded, clock.changed)
    while True:
        settings, exports = gateway.config.syndic, gateway.exports
        due = settings != before or (settings and monotonic() - looked >= settings.every)
        if due and clock.dates:
            before, looked = settings, monotonic()
            why = await _check(gateway, settings) if settings else ""
            if why and why != exports.unreachable:
                log.warning(
                    "the manager's exports cannot be fetched or recorded: %s", why,
                    extra=fields(LogEvent.EXPORT_REFUSED),
                )  # fmt: skip
            exports.unreachable = why
        left = looked + settings.every - monotonic() if settings else math.inf
        await wakeup.wait(clock.bound(left))


async def _check(gateway: Gateway, settings: Syndic) -> str:
    """Process new exports. Return why that failed, empty if not; a failure is tried again."""
    try:
        await _take_new(gateway, settings)
    except (UplinkLost, NotStored, Refused) as error:
        return str(error).partition("\n")[0]
    return ""


async def _take_new(gateway: Gateway, settings: Syndic) -> None:
    """Fetch each file that is new or has changed, the oldest first."""
    exports = gateway.exports
    exports.begin(_mapping(settings), gateway.clock.now())
    opening = partial(place, settings, folders=())
    async with in_turns(COMPONENT, opening, settings.timeout) as (folder, thread):
        entries = await thread.run(folder.entries, LOCAL)
        matching = [one for one in entries if fnmatchcase(one.name, settings.files)]
        for entry in sorted(matching, key=lambda one: (one.changed, one.name)):
            if exports.knows(entry):
                continue
            content = await thread.run(folder.read, entry.name, LARGEST + 1)
            whole = content is not None and len(content) == min(entry.size, LARGEST + 1)
            # A file that is still being written changes meanwhile. It is read at the next round.
            if whole and await thread.run(folder.entry, entry.name) == entry:
                await _take(
                    gateway, settings, entry, content or b"", [one.name for one in matching]
                )
    if exports.proposals and exports.revision != gateway.registry.revision:
        await _record(gateway, settings, [one.row for one in exports.proposals], "")


def _mapping(settings: Syndic) -> str:
    """Hash the settings that decide how a file is read."""
    how = settings.model_dump(
        mode="json", include={"columns", "last_day", "only", "move_in", "move_out"}
    )
    return hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()


async def _take(
    gateway: Gateway, settings: Syndic, entry: RemoteFile, content: bytes, there: Sequence[str]
) -> None:
    """Compare a file and record its clear changes. A file that is no export is reported once."""
    exports, now = gateway.exports, gateway.clock.now()
    sha256 = hashlib.sha256(content).hexdigest()
    if exports.again(entry, sha256, now):
        return
    name = harmless(entry.name)[:LONGEST_NAME]
    report = ExportReport(name, int(now))
    try:
        zone = gateway.config.building.timezone
        export = await asyncio.to_thread(_parsed, content, name, settings, zone)
        subjects = {row.subject for row in export.rows}
        kept = [one.row for one in exports.proposals if one.row.subject not in subjects]
        comparison, report.proposed = await _record(gateway, settings, [*export.rows, *kept], name)
        report.recorded, report.same, report.left = (
            len(comparison.changes),
            comparison.same,
            export.left,
        )
    except NotRecorded:
        raise
    except Refused as error:
        report.refused = str(error).partition("\n")[0]
        log.warning(
            "an export of the manager's software was refused; nothing of it was recorded",
            extra=fields(LogEvent.EXPORT_REFUSED),
        )
    # Only now: if the disk did not record the changes, the file must be read again.
    exports.took(entry, sha256, report, there)
    if report.recorded or report.proposed:
        log.warning(
            "syndic export: %d changes recorded, %d rows wait for a person: gardien occupancy"
            " proposed", report.recorded, report.proposed,
            extra=fields(LogEvent.EXPORT_RECORDED),
        )  # fmt: skip


def _parsed(content: bytes, name: str, settings: Syndic, zone: str) -> Export:
    states = dict.fromkeys(settings.move_in, str(Lease.IN))
    states |= dict.fromkeys(settings.move_out, str(Lease.OUT))
    return parse(
        text_of(content, name, tuple(settings.columns.headings.values())),
        name,
        settings.columns.headings,
        zone,
        move_words=states,
        last_day=settings.last_day,
        only=settings.only,
    )


async def _record(
    gateway: Gateway, settings: Syndic, rows: Sequence[ExportRow], name: str
) -> tuple[Comparison, int]:
    """Record the clear changes of these rows, and let the rest wait for a person.

    Return the comparison and the number of new waiting rows. Raises Refused if so many rows are
    doubtful that the export must be of another building.
    """
    exports = gateway.exports
    # Rows held because there were too many changes at once stay held after a person has decided
    # some of them: fewer rows do not make the others clear.
    many = (one for one in exports.proposals if one.why == Doubt.MANY)
    held = {one.row.key: (Doubt.MANY, one.other) for one in many}
    open_ones = [row for row in rows if row.key not in exports.dismissed]
    for _tried in range(TRIES):
        now, index = gateway.clock.now(), gateway.registry.state()[-1]
        comparison = await asyncio.to_thread(compare, index, open_ones, now, held)
        if len(comparison.doubts) > MOST_DOUBTS:
            raise Refused(
                "{name}: {number} rows do not match the registry, so nothing was recorded."
                " Check that the file is of this building; `syndic.only` selects its rows",
                name=name,
                number=len(comparison.doubts),
            )
        if late := await _already_sent(gateway, comparison, now - settings.late, now):
            held |= late
            continue
        try:
            if comparison.changes:
                await gateway.disk.ask()
                notices = [change.notice for change in comparison.changes]
                await change_in_background(
                    gateway.registry,
                    lambda draft: draft.occupy(notices, AUTHOR, name, now),  # noqa: B023 -- awaited
                )
                await _apply_everywhere(gateway)
        except NotRecorded:
            raise
        except Refused as error:
            # The registry records all changes or none. Find those that it refuses, hold them for a
            # person, and compare again without them.
            zone = gateway.config.building.timezone
            refused = await asyncio.to_thread(
                _refused_changes, index, comparison.changes, now, str(error)
            )
            held |= {
                key: (why, in_local_time(words, zone)) for key, (why, words) in refused.items()
            }
            continue
        return comparison, exports.propose(comparison.doubts, gateway.registry.revision, now)
    raise Refused(
        "{name}: the registry still refuses it after all refused rows are left out", name=name
    )


async def _apply_everywhere(gateway: Gateway) -> None:
    """Apply recorded changes to all spools before anything else is sent."""
    record_serials(gateway.lines, gateway.registry, gateway.clock.now())
    await gateway.objects.registry_changed()
    with suppress(StorageFailed):  # such a spool applies them when it is opened again
        await gateway.recipients.catch_up()


async def _already_sent(
    gateway: Gateway, comparison: Comparison, longest: float, now: float
) -> Waits:
    """Return old changes that would retract readings already sent: they wait for a person."""
    late = {}
    for change in comparison.changes:
        if change.takes is None or change.takes[1] >= min(longest, now):
            continue
        home, first = change.takes
        if await _have_left(gateway, home, first):
            late[change.row.key] = (Doubt.LEFT, stamp(first))
    return late


async def _have_left(gateway: Gateway, home: Occupancy, first: int) -> bool:
    """Whether values of an occupancy since a moment were received or may be on their way."""
    result = await records(gateway, home.place, home)
    consents = gateway.registry.consents()
    received = any(
        one.day >= stamp(first)[:10]
        for one in result.disclosed
        if is_of_occupancy(one, home, consents)
    )
    waits = any(one.recipient and one.t > first for one in result.held)
    return received or waits or any(gap.kind == "unreadable" for gap in result.gaps)


def _refused_changes(
    index: RegistryIndex, changes: Sequence[ClearChange], now: float, why: str
) -> Waits:
    """Return the changes that the registry refuses, by dwelling, with the reason."""
    of: dict[str, list[ClearChange]] = {}
    for change in changes:
        of.setdefault(change.place.id, []).append(change)
    held = Waits()
    by = Author(AUTHOR, "", now, 0)
    for some in of.values():
        try:
            admit_occupancies(index, [one.notice for one in some], by)
        except Refused as error:
            held |= {one.row.key: (Doubt.REFUSED, str(error).partition("\n")[0]) for one in some}
    return held or {one.row.key: (Doubt.REFUSED, why.partition("\n")[0]) for one in changes}


def standing(gateway: Gateway) -> dict[str, Any] | None:
    """Describe the state of the exports; None if none are configured."""
    settings, exports = gateway.config.syndic, gateway.exports
    if settings is None:
        return None
    last = exports.reports[-1] if exports.reports else None
    late = (
        exports.seen
        and gateway.clock.dates
        and gateway.clock.now() - exports.seen > settings.overdue
    )
    return {
        "unreachable": exports.unreachable,
        "waiting": len(exports.proposals),
        "refused": last.refused if last else "",
        "last": {**asdict(last), "at": stamp(last.at)} if last else None,
        "overdue_since": stamp(exports.seen) if late else None,
    }


async def proposed(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """List the rows that wait for a person, and the results of the last exports."""
    del caller
    exports = gateway.exports
    proposals = [_shown(one) for one in exports.proposals]
    reports = [{**asdict(one), "at": stamp(one.at)} for one in exports.reports]
    return {"proposed": proposals, "exports": reports}


def _shown(proposal: Proposal) -> dict[str, Any]:
    row = proposal.row
    return {
        "id": row.id,
        "label": proposal.label,
        "states": row.states,
        "dwelling": row.dwelling,
        "reference": row.reference,
        "since": _moment(row.since),
        "until": _moment(row.until),
        "why": proposal.why,
        "other": proposal.other,
        "homes": [
            {**home, "since": _moment(home["since"]), "until": _moment(home["until"])}
            for home in proposal.homes
        ],
        "source": row.where,
        "told": stamp(proposal.first),
    }


def _moment(at: int | None) -> str | None:
    return None if at is None else stamp(at)


async def accept(
    gateway: Gateway,
    caller: Caller,
    *,
    row: str,
    named: str | None = None,
) -> dict[str, Any]:
    """Record a waiting row, with the person who accepts it as author. Raises Refused."""
    who, proposal = author(gateway, caller, named), _proposal(gateway.exports, row)
    await gateway.disk.ask()
    now = gateway.clock.now()
    notices: list[NewOccupancy] = accepted(gateway.registry.state()[-1], proposal.row, now)
    homes = gateway.registry.occupy(notices, who, proposal.row.where, now) if notices else []
    if homes:
        await _apply_everywhere(gateway)
    gateway.exports.settled(proposal)
    also = _other_dwellings(gateway.registry.occupancies(), homes, int(now))
    return {
        "id": proposal.row.id,
        **answers.occupancies(gateway.registry, homes, now),
        "also": answers.occupancies(gateway.registry, also, now)["occupancies"],
    }


def _other_dwellings(
    known: Sequence[Occupancy], recorded: Sequence[Occupancy], now: int
) -> list[Occupancy]:
    """Return the current occupancies of other dwellings under the leases just recorded."""
    places = {one.reference: one.place for one in recorded if one.reference}
    return [
        one
        for one in known
        if one.place != places.get(one.reference or "", one.place)
        and (one.until is None or one.until > max(now, one.since))
    ]


async def dismiss(
    gateway: Gateway,
    caller: Caller,
    *,
    row: str,
    named: str | None = None,
) -> dict[str, Any]:
    """Dismiss a waiting row: the same row is ignored from now on. Raises Refused."""
    who, proposal = author(gateway, caller, named), _proposal(gateway.exports, row)
    gateway.exports.dismiss(proposal, who, gateway.clock.now())
    return {"id": proposal.row.id}


def _proposal(exports: Exports, id_: str) -> Proposal:
    return exports.find(id_)


CALLS: Mapping[str, Call] = {
    "occupancy.proposed": proposed,
    "occupancy.accept": accept,
    "occupancy.dismiss": dismiss,
}
