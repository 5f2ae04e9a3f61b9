"""The calls about facts: one fact, a list of them from a table, and all that are recorded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from agent.api import answers
from agent.core.errors import Refused
from agent.core.i18n import Text, text_of
from agent.registry import lots, parsers, sheet
from agent.registry.consent_policy import policy as named_policy
from agent.registry.doubts import confirmations
from agent.registry.facts import alias, consent, duty, meter, occupancy, place
from agent.registry.facts.declaration import CONFIRM, columns, exact, given, required
from agent.registry.inputs import (
    NewAlias,
    NewConsent,
    NewDuty,
    NewExchange,
    NewInstallation,
    NewMultiplier,
    NewOccupancy,
    NewPlace,
    NewWithdrawal,
)
from agent.registry.labels import label_key
from agent.registry.place import PLACES, agrees, parse, shown, squeeze
from agent.registry.records import serial_key
from agent.registry.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from inspect import Parameter

    from agent.api.answers import Answer
    from agent.registry.doubts import LastReading
    from agent.registry.facts.declaration import FactCommand, Field
    from agent.registry.inputs import Input
    from agent.registry.records import Consent, Place

C = TypeVar("C", bound="Call")
PREVIEW = given("preview", "bool", default=False)


CALLS: dict[str, tuple[FactCommand, Call]] = {}
"""the calls of all commands about facts, by name"""


if TYPE_CHECKING:
    Call = Callable[..., Answer]
    Record = Callable[..., list[Any]]
    Show = Callable[..., Answer]


def of(command: FactCommand, *more: Parameter) -> Callable[[C], C]:
    """Make a function the call of a command, and give it the command's signature; `more`: what only
    the gateway gives.
    """

    def mark(call: C) -> C:
        call.__signature__ = command.signature(*more)  # type: ignore[attr-defined]
        CALLS[command.call] = command, call
        return call

    return mark


def _recording(
    command: FactCommand,
    make: Callable[..., Input],
    record: Record,
    show: Show,
    *more: Parameter,
    **fixed: Any,
) -> Call:
    """The call of a command that states one fact; `fixed`: members that the command implies."""

    @of(command, *more)
    def call(  # noqa: PLR0913 -- what every call takes
        registry: Registry,
        *,
        who: str,
        now: float,
        zone: str | None = None,
        known: Sequence[str] = (),
        preview: bool = False,
        last: Mapping[str, LastReading] | None = None,
        recipients: Sequence[str] = (),
        **stated: Any,
    ) -> Answer:
        members = parsers.members(command.fields, stated, zone, known) | fixed
        members["confirmed"] = confirmations(stated.get(CONFIRM.name) or (), zone)
        # what only the gateway knows
        members |= {"last": last} if last else {}
        members |= {"configured": frozenset(recipients)} if recipients else {}
        row = make(**members)
        previewed = {"preview": True} if preview else {}
        changed = record(registry, [row], who, command.source, now, **previewed)
        return show(registry, changed, now)

    return call


def _importing(  # noqa: PLR0913 -- the parts of a list
    command: FactCommand,
    fields: Sequence[Field],
    make: Callable[..., Input],
    record: Record,
    show: Show,
    *,
    counted: bool = True,
    more: Sequence[Field] = (*place.WHERE, place.LOT),
    **fixed: Any,
) -> Call:
    """The call that records the rows of a table: all of them or none. A row that repeats what is
    recorded changes nothing. `preview`: check everything, but record nothing. `counted`: whether
    the answer has the number of rows that changed nothing. `more`: further columns, which say of
    which dwelling a row is.
    """

    @of(command)
    def call(  # noqa: PLR0913
        registry: Registry,
        *,
        who: str,
        now: float,
        text: str,
        name: str,
        confirm: Sequence[str] = (),
        zone: str | None = None,
        preview: bool = False,
    ) -> Answer:
        headings = columns((*fields, *more))
        present = sheet.present(sheet.headings(text, name, headings)[1], headings)
        needed = lots.required_in(required(fields), present)
        lines = sheet.read(text, name, headings, needed, notes=set(headings.values()))
        entries, left = lots.of_dwellings(lines, required(fields), present)
        confirmed = confirmations(confirm, zone)
        rows = parsers.rows(partial(make, **fixed, confirmed=confirmed), fields, entries, zone)
        changed = record(registry, rows, who, name, now, preview=preview)
        counts = {"unchanged": len(rows) - len(changed)} if counted else {}
        unread = {"not_read": sheet.unread(text, name, headings), "left_out": _left_out(left)}
        return show(registry, changed, now) | unread | counts

    return call


def _listing(
    command: FactCommand,
    read: Callable[[Registry], Sequence[Any]],
    show: Show,
    more: Callable[[Registry, float, str | None], Answer] = lambda *_: {},
) -> Call:
    """The call that lists all documents of a kind, or those of one place, ended ones included;
    `more`: further members of the answer.
    """

    @of(command)
    def call(registry: Registry, *, who: str, now: float, place: str = "") -> Answer:
        del who
        id_ = registry.place(place).id if place else None
        rows = [document for document in read(registry) if id_ in (None, document.place)]
        return show(registry, rows, now) | more(registry, now, id_)

    return call


def _new_place(**members: Any) -> NewPlace:
    """Without `since` it is unknown whether anybody lives there."""
    return NewPlace(**members, occupied=members["since"] is not None)


def _add_places(registry: Registry, rows: Sequence[NewPlace], *by: Any, **more: Any) -> list[Place]:
    """Record places. Raises Refused while an upgrade is on trial if the previous version could then
    not read the registry.
    """
    stated = (
        name for row in rows for name, value in place.particulars(row).items() if value is not None
    )
    if not registry.marked and (name := next(stated, "")):
        raise Refused(
            "an upgrade is on trial, so `{name}` cannot be recorded; record it once the upgrade"
            " is confirmed",
            name=name,
        )
    return registry.add_places(rows, *by, **more)


place_new = _recording(place.NEW, _new_place, _add_places, answers.places_added)


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


@of(place.IMPORT)
def place_import(  # noqa: PLR0913 -- as many options
    registry: Registry,
    *,
    who: str,
    now: float,
    text: str,
    name: str,
    types: Sequence[str] = (),
    confirm: Sequence[str] = (),
    zone: str | None = None,
    preview: bool = False,
    reviewed: bool = False,
) -> Answer:
    """Record the places of a table: all rows or none.

    A row for a cellar or a parking space is not a place: its lot becomes an alias of the dwelling
    with that label. `types`: record only rows of these types and count the others. `preview`: check
    everything and show what would be recorded, but record nothing. `reviewed`: a person has seen
    what is left out, and what the labels are made of; without it such a list is refused.
    """
    headings = columns((*place.SHEET, *place.LOTS))
    line, first = sheet.headings(text, name, headings)
    present = sheet.present(first, headings)
    lines = sheet.read(
        text, name, headings, _required(present),
        sheet.EXACTLY | exact(place.SHEET) | frozenset(columns(place.LOTS)),
        notes={"label", "type", "id"},
    )  # fmt: skip
    known = {label_key(one.label) for one in registry.places()}
    here = ZoneInfo(zone) if zone else UTC
    list_ = lots.read(lines, present, types, known, f"{datetime.fromtimestamp(now, here):%Y-%m-%d}")
    made_of = [sheet.heading(first, headings, name) for name in list_.made_of]
    seen = bool(list_.left or list_.remarks or list_.made_of)
    make = partial(_new_place, confirmed=confirmations(confirm, zone))
    rows = parsers.rows(make, place.SHEET, list_.places, zone)
    recorded = lots.known_lots(registry.places(), registry.aliases(), list_.parts, now)
    # everything is checked before a person is asked
    added = _add_places(
        registry,
        rows,
        who,
        name,
        now,
        lots=list_.parts,
        preview=preview or (seen and not reviewed),
    )
    if seen and not reviewed and not preview:
        raise lots.unconfirmed(name, list_, made_of)
    if preview:
        ids = {row.id for row in rows if row.id}
        begins = {row.label: row.since for row in rows if row.since is not None}
        answer = answers.places_foreseen(registry, added, ids, list_.parts, begins, now)
    else:
        answer = answers.places_added(registry, added, now)
    return answer | {
        # names of people are compared with words such as `vacant`, and not kept
        "not_read": sheet.unread(text, name, columns((*place.SHEET, *place.LOTS[:-4]))),
        "unchanged": len(rows) - len(added) + recorded,
        "lots": len(list_.parts) - recorded,
        "not_taken": dict(list_.not_taken),
        "headings_line": line,
        "labels_made_of": made_of,
        "left_out": _left_out(list_.left),
        "remarks": [{"label": label, "why": why} for label, why in list_.remarks],
    }


def _left_out(rows: Sequence[lots.LeftOut]) -> list[Answer]:
    return [{"where": row.where, "what": row.what, "why": row.why} for row in rows]


def _required(present: Collection[str]) -> list[str]:
    """The columns that a list of places must have: of alternatives one."""
    whereabouts = {column.name for column in place.WHERE} & {*present}
    named = whereabouts or {"label", "lot"} & {*present}
    # a column for labels may have types, if other columns say where a lot is
    typed = {"type", "nature"} & {*present} or (whereabouts and "label" in present)
    return ["label"] * (not named) + ["type"] * (not typed)


@of(place.LIST)
def place_list(registry: Registry, *, who: str, now: float) -> Answer:  # noqa: ARG001
    """List all places with their occupants now, or that they are vacant or unknown."""
    homes = [registry.occupancy_at(place.id, int(now)) for place in registry.places()]
    return answers.places(registry, registry.places(), homes, now)


alias_add = _recording(alias.ADD, NewAlias, Registry.name, answers.aliases)


alias_end = _recording(alias.END, NewAlias, Registry.name, answers.aliases, ends=True)


alias_import = _importing(
    alias.IMPORT, alias.SHEET, NewAlias, Registry.name, answers.aliases, more=()
)


alias_list = _listing(alias.LIST, Registry.aliases, answers.aliases)


meter_assign = _recording(
    meter.ASSIGN, NewInstallation, Registry.install, answers.meters, meter.KNOWN, PREVIEW
)


meter_exchange = _recording(
    meter.EXCHANGE, NewExchange, Registry.exchange, answers.meters, meter.KNOWN, meter.LAST
)


meter_remove = _recording(
    meter.REMOVE, NewExchange, Registry.exchange, answers.meters, meter.KNOWN, meter.LAST,
    followed=False,
)  # fmt: skip


@of(meter.CORRECT, meter.ALL, meter.LAST)
def meter_correct(  # noqa: PLR0913 -- as many options
    registry: Registry,
    *,
    who: str,
    now: float,
    zone: str | None = None,
    all_channels: Sequence[str] = (),
    last: Mapping[str, LastReading] | None = None,
    **stated: Any,
) -> Answer:
    """Record the right multiplier of a meter.

    `all_channels`: of its device, if the meter is recorded for all of them.
    """
    members = parsers.members(meter.CORRECT.fields, stated, zone)
    members |= {"confirmed": confirmations(stated.get(CONFIRM.name) or (), zone), "last": last}
    row = NewMultiplier(**members, every=tuple(all_channels))
    changed = registry.correct_multiplier([row], who, meter.CORRECT.source, now)
    return answers.meters(registry, changed, now)


meter_import = _importing(
    meter.IMPORT, meter.SHEET, NewInstallation, Registry.install, answers.meters
)


@of(meter.LIST, given("serials", "Sequence[str]", ()))
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


occupancy_move_in = _recording(
    occupancy.MOVE_IN, NewOccupancy, Registry.occupy, answers.occupancies, event="move_in"
)


occupancy_move_out = _recording(
    occupancy.MOVE_OUT, NewOccupancy, Registry.occupy, answers.occupancies, event="move_out"
)


occupancy_correct = _recording(
    occupancy.CORRECT, NewOccupancy, Registry.occupy, answers.occupancies, event="correct"
)


# A recorded lease is updated. An occupancy without a reference becomes the lease that overlaps it.
occupancy_import = _importing(
    occupancy.IMPORT,
    occupancy.SHEET,
    NewOccupancy,
    Registry.occupy,
    answers.occupancies,
    counted=False,  # a lease may change two occupancies
    more=(*place.WHERE, place.LOT, place.NATURE, occupancy.TYPE),
    event="lease",
)


occupancy_list = _listing(
    occupancy.LIST,
    Registry.occupancies,
    answers.occupancies,
    lambda registry, now, place: {"not_occupied": answers.not_occupied(registry, now, place)},
)


@of(consent.GIVE, consent.POLICY, consent.RECIPIENTS, PREVIEW)
def consent_give(  # noqa: PLR0913 -- what concerns all rows
    registry: Registry,
    *,
    who: str,
    now: float,
    places: Sequence[str] = (),
    text: str | None = None,
    name: str = "",
    replace: bool = False,
    confirm: Sequence[str] = (),
    zone: str | None = None,
    policy: str = "FR-1",
    recipients: Sequence[str] = (),
    preview: bool = False,
    **stated: Any,
) -> Answer:
    """Record consents of the occupants of each place, named in `places` or in a table: all rows or
    none.

    A cell of the table overrides the argument of the same name. `replace`: a consent in force for
    the same purpose ends where the new one begins. `policy`: its name. `given`: date of the
    signature. `lease`: the reference of the lease of those who signed. `after`: marks of the
    withdrawals that they knew of.
    """
    common = {
        field.name: ", ".join(stated.get(field.name) or ())
        if field.repeated
        else stated.get(field.name) or ""
        for field in consent.COMMON
    }
    lines = [sheet.SheetRow("", {"place": place}) for place in places]
    unread = {}
    if text is not None:
        headings = columns(consent.SHEET)
        lines += sheet.read(text, name, headings, required(consent.SHEET))
        unread = {"not_read": sheet.unread(text, name, headings)}
    if not lines:
        raise Refused("no place is named: name places, or a file with a column `place` or `label`")
    by = confirmations(confirm, zone), frozenset(recipients)
    rows = [_consent(line, common, zone, "any" if replace else None, by) for line in lines]
    under = named_policy(policy, zone=ZoneInfo(zone) if zone else None)
    before = {document.id for document in registry.consents()}
    unknowing: list[Refused] = []
    recorded = registry.consent(
        rows, who, consent.GIVE.source, now, under, preview=preview, without_effect=unknowing
    )
    new = sum(document.id not in before for document in recorded)
    counts = {
        "unchanged": len(rows) - new - len(unknowing),
        "without_effect": [reason.text for reason in unknowing],
    }
    return answers.consents(registry, recorded, now) | unread | counts


def _consent(
    line: sheet.SheetRow,
    common: Mapping[str, str],
    zone: str | None,
    replaces: str | None,
    by: tuple[frozenset[str], frozenset[str]],
) -> NewConsent:
    cells = {**common, **line.cells}
    seconds, fault = 1, line.fault
    try:
        seconds = parsers.step(cells["scope"], cells["step"])
    except Refused as error:
        fault = fault or text_of(error)
    (since, until, signed), wrong = parsers.dated(
        replace(line, cells=cells, fault=fault), zone, "since", "until", "given"
    )
    return NewConsent(
        cells.get("place", ""),
        cells["recipient"],
        parsers.listed(cells["channels"]),
        seconds,
        cells["purpose"],
        since,
        until,
        given=signed,
        method=cells.get("method", ""),
        proof=cells.get("proof", "") or cells.get("reference", ""),
        lease=cells["lease"] or None,
        after=tuple(cells["after"].replace(",", " ").split()),
        replaces=replaces,
        where=line.where,
        fault=wrong,
        confirmed=by[0],
        configured=by[1],
    )


def _withdraw(registry: Registry, rows: Sequence[NewWithdrawal], *by: Any) -> list[Consent]:
    """Record what the occupants of a place withdraw; without conditions, everything."""
    for row in rows:
        # a signed withdrawal may name a consent that has not arrived; a person mistypes
        if row.id is not None and all(consent.id != row.id for consent in registry.consents()):
            text = Text(
                "no consent has the id {id}; to see all ids: gardien consent list", id=row.id
            )
            raise Refused(text)
    return registry.withdraw(rows, *by)


consent_withdraw = _recording(
    consent.WITHDRAW, NewWithdrawal, _withdraw, answers.consents, consent.RECIPIENTS
)


@of(consent.MARKS)
def consent_marks(
    registry: Registry,
    *,
    who: str,  # noqa: ARG001
    now: float,
    places: Sequence[str],
    recipient: str | None = None,
) -> Answer:
    """List the withdrawals and refusals of the occupants of dwellings, latest last. A later consent
    counts only if it knows of them.
    """
    asked = [registry.place(place) for place in places]
    homes = [registry.occupancy_at(place.id, int(now)) for place in asked]
    rows = [mark for home in homes if home for mark in registry.marks(home.id, recipient)]
    rest = [state for place in asked for state in answers.not_occupied(registry, now, place.id)]
    return answers.marks(registry, rows) | {"not_occupied": rest}


consent_list = _listing(consent.LIST, Registry.consents, answers.consents)


duty_add = _recording(duty.ADD, NewDuty, Registry.oblige, answers.duties, consent.RECIPIENTS)


@of(duty.END)
def duty_end(  # noqa: PLR0913 -- as many options
    registry: Registry,
    *,
    who: str,
    now: float,
    duty: str,
    at: str | None = None,
    zone: str | None = None,
) -> Answer:
    """Record that a duty, by its reference or id, ends."""
    ended = registry.end_duty(duty, parsers.when(at, zone, "at"), who, "gardien duty end", now)
    return answers.duties(registry, ended, now)


@of(duty.LIST)
def duty_list(registry: Registry, *, who: str, now: float) -> Answer:  # noqa: ARG001
    """List all duties."""
    return answers.duties(registry, registry.duties(), now)
