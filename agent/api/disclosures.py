"""What the disk records about values of dwellings, for each recipient: waiting, received, erased.

Also the gaps: what cannot be known, and why.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.acquisition.slots import multiplier
from agent.acquisition.unsent_readings import MidnightReadings
from agent.buffer.database import in_own_thread
from agent.buffer.disclosures import tokens_of
from agent.buffer.orphaned_spools import kept, kept_for, recipients_of, record, spool_of
from agent.core.errors import Refused, StorageFailed
from agent.core.i18n import Text
from agent.core.model import ValueKind
from agent.core.quantities import channels
from agent.gateway.disk import LONG_LOOK
from agent.gateway.gateway import point_of
from agent.gateway.recipient import directory_of, open_recipient, store_opening
from agent.registry.dates import DAY
from agent.registry.dossier import (
    DisclosedValues,
    Erasure,
    HeldValue,
    KnowledgeGap,
    ReceivedRuns,
    RecipientKnowledge,
    overlaps,
)
from agent.registry.doubts import LastReading
from agent.registry.labels import scheme
from agent.registry.records import EXACT, covers, serial_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence

    from agent.buffer.announcements import Item
    from agent.buffer.disclosures import Disclosure, ReceivedSlots
    from agent.buffer.spool import Spool
    from agent.buffer.unassigned_store import UnassignedValue
    from agent.config import Config
    from agent.core.model import Point, Reading
    from agent.gateway.gateway import Gateway, Recipient
    from agent.gateway.lines import Lines
    from agent.registry.records import Consent, Installation, Occupancy
    from agent.registry.registry import Registry


DISK_FAILS = Text("the disk fails")


@dataclass
class Records:
    """The records of all recipients."""

    disclosed: list[DisclosedValues] = field(default_factory=list)
    received: list[ReceivedRuns] = field(default_factory=list)
    unconfirmed: list[ReceivedRuns] = field(default_factory=list)
    """what recipients may have received without having confirmed it"""
    erasures: list[Erasure] = field(default_factory=list)
    held: list[HeldValue] = field(default_factory=list)
    """values that wait or are kept; only if one occupancy was asked for"""
    known: list[RecipientKnowledge] = field(default_factory=list)
    """what recipients know in addition to values"""
    gaps: list[KnowledgeGap] = field(default_factory=list)
    """what cannot be known"""
    closed: dict[str, int] = field(default_factory=dict)
    """the last closed slot, by device"""


class _ContentNow(NamedTuple):
    """What a spool knows of a dwelling and its occupants, as of one moment (rule P28)."""

    disclosures: list[Disclosure]
    received: list[ReceivedSlots]
    unconfirmed: list[ReceivedSlots]
    erasures: dict[str, int | None]
    clock_retractions: list[dict[str, Any]]
    held: list[Reading]

    @classmethod
    def of(cls, spool: Spool, place: str | None, home: Occupancy | None) -> _ContentNow:
        """Call it in the spool's thread."""
        return cls(
            spool.disclosures(place or ""),
            spool.received_slots(),
            spool.unconfirmed_slots(),
            spool.erasures(),
            spool.clock_retractions(),
            spool.held_of(home.id) if home else [],
        )


async def records(
    gateway: Gateway, place: str | None = None, occupancy: Occupancy | None = None
) -> Records:
    """Collect the records of one dwelling (by id) or of all. `occupancy`: also the values that are
    still here of these people, and only the gaps that concern them.

    A spool that is not open is opened for this, which first applies the retractions that it lacks.
    If no daemon runs, devices get the serial numbers that they last gave.
    """
    result, state = Records(), gateway.config.state
    concerned = _entitled(gateway.registry, occupancy)
    known = {*_uplinks(gateway.config), *recipients_of(state), *kept_for(state), *(concerned or ())}
    for recipient in sorted(known):
        await _of_recipient(result, gateway, recipient, place, occupancy)
        if concerned is None or recipient in concerned:
            result.gaps += _gaps(gateway, recipient)
    if occupancy is not None:
        readings = await _midnights(gateway, occupancy.place)
        result.held += [_midnight_value(*one) for one in readings if covers(occupancy, one[0].slot)]
    result.gaps += await _of_the_gateway(gateway, occupancy)
    result.disclosed.sort(key=attrgetter("day", "recipient", "place", "channel"))
    result.erasures.sort(key=attrgetter("asked", "recipient"))
    return result


def _uplinks(config: Config) -> dict[str, str]:
    """Return the names of the uplinks by recipient."""
    return {str(one.settings.recipient): name for name, one in config.uplinks.items()}


async def _of_recipient(
    result: Records, gateway: Gateway, recipient_id: str, place: str | None, home: Occupancy | None
) -> None:
    """Add the records of one recipient. What cannot be read becomes a gap."""
    state, name = gateway.config.state, _uplinks(gateway.config).get(recipient_id)
    known, _ = kept(state, recipient_id)
    erasures: dict[str, int | None] = {}
    slots: list[ReceivedSlots] = []
    unconfirmed: list[ReceivedSlots] = []
    try:
        if name is None:
            cipher_words = tokens_of(gateway.identity, recipient_id)
            orphaned = await gateway.disk.read(
                record, state, recipient_id, place or "", cipher_words
            )
            if orphaned is not None:
                known, erasures = known + orphaned.disclosures, orphaned.erasures
                slots = orphaned.slots
                if orphaned.waits:
                    result.gaps.append(KnowledgeGap("leftover", recipient_id, str(orphaned.waits)))
            elif not known and recipient_id in (_entitled(gateway.registry, home) or ()):
                result.gaps.append(KnowledgeGap("no_uplink", recipient_id))
        elif name in gateway.recipients or spool_of(state, recipient_id).exists():
            async with _open_recipient(gateway, name) as recipient:
                if recipient.kept:
                    result.gaps.append(KnowledgeGap("unreadable", recipient_id, DISK_FAILS))
                for now in await _contents(recipient, place, home):
                    known += now.disclosures
                    slots += now.received
                    unconfirmed += now.unconfirmed
                    answers = now.erasures
                    erasures |= {id_: n for id_, n in answers.items() if erasures.get(id_) is None}
                    items = now.clock_retractions
                    result.erasures += _of_the_clock(items, recipient_id, place, erasures)
                    result.held += [_held_value(row, recipient_id) for row in now.held]
                result.known += await _known(gateway, recipient, place, home)
                _identify(gateway.lines, recipient)
                for (device, _), mark in recipient.ledger.marks.items():
                    result.closed[device] = max(mark.slot, result.closed.get(device, 0))
    except (OSError, Refused, StorageFailed) as error:
        result.gaps.append(KnowledgeGap("unreadable", recipient_id, str(error)))
    result.received += [ReceivedRuns(recipient_id, *one) for one in slots if one.place == place]
    result.unconfirmed += [
        ReceivedRuns(recipient_id, *one) for one in unconfirmed if one.place == place
    ]
    disclosures = [one for one in known if place in (None, one.place)]
    received = {one.place for one in disclosures}
    result.erasures += _erasures(gateway, recipient_id, erasures, received, place)
    result.disclosed += _disclosed(disclosures, recipient_id)


def _gaps(gateway: Gateway, recipient: str) -> Iterator[KnowledgeGap]:
    """Yield the reasons why the records of a recipient may be incomplete."""
    spool, name = spool_of(gateway.config.state, recipient), _uplinks(gateway.config).get(recipient)
    _, complete = kept(gateway.config.state, recipient)
    if not complete or spool.with_name(f"{spool.name}.damaged").exists():
        yield KnowledgeGap("damaged", recipient)
    if (
        name is not None
        and getattr(gateway.config.uplinks[name].settings, "receipt", "") == "broker"
    ):
        yield KnowledgeGap("broker", recipient)


async def identify(gateway: Gateway) -> list[KnowledgeGap]:
    """Give devices the serial numbers that they last gave, if no daemon runs; return the gaps."""
    gaps = []
    for recipient_id, name in _uplinks(gateway.config).items():
        if name not in gateway.recipients and spool_of(gateway.config.state, recipient_id).exists():
            try:
                async with _open_recipient(gateway, name) as recipient:
                    _identify(gateway.lines, recipient)
            except Refused as error:
                gaps.append(KnowledgeGap("unreadable", recipient_id, str(error)))
    return gaps


def _entitled(registry: Registry, home: Occupancy | None) -> set[str] | None:
    """Return the recipients that ever had a basis for values of an occupancy; None for all."""
    if home is None:
        return None
    given = {one.recipient for one in registry.consents() if one.occupancy == home.id}
    return given | {one.recipient for one in registry.duties() if overlaps(one, home)}


@asynccontextmanager
async def _open_recipient(gateway: Gateway, name: str) -> AsyncIterator[Recipient]:
    """Give the open recipient of an uplink, or open it for this call."""
    async with AsyncExitStack() as stack:
        if (recipient := gateway.recipients.get(name)) is None:
            recipient = await stack.enter_async_context(open_recipient(gateway, name))
        yield recipient


async def _contents(
    recipient: Recipient, place: str | None, home: Occupancy | None
) -> list[_ContentNow]:
    if home is not None:
        await recipient.intake.commit()  # rows in memory wait too, and must be in the answer
    # One call for each spool: between two, a receipt would make received what still waited.
    return [
        await thread.run(_ContentNow.of, spool, place, home) for spool, thread in recipient.spools
    ]


async def _known(
    gateway: Gateway, recipient: Recipient, place: str | None, home: Occupancy | None
) -> list[RecipientKnowledge]:
    """Return what the directory of a recipient says about a dwelling and its occupancy."""
    if place is None:
        return []
    items, recipient_id = await _announced(gateway, recipient), str(recipient.settings.recipient)
    return known_facts(items, recipient_id, place, home, gateway.registry.consents())


async def _announced(gateway: Gateway, recipient: Recipient) -> dict[str, Item]:
    items = await recipient.thread.run(recipient.spool.announced)
    return {**items, **directory_of(gateway, recipient)}


async def announced(gateway: Gateway, recipient_id: str) -> dict[str, Item]:
    """Return all items of the directory that a recipient has or will get; empty if not readable."""
    name = _uplinks(gateway.config).get(recipient_id)
    if name is None or not spool_of(gateway.config.state, recipient_id).exists():
        return {}
    try:
        async with _open_recipient(gateway, name) as recipient:
            return await _announced(gateway, recipient)
    except (OSError, Refused, StorageFailed):
        return {}  # `records` gives the reason as a gap


async def waiting_counts(gateway: Gateway) -> dict[str, int]:
    """Count the values that wait for recipients, by store, except stores that cannot be read."""
    counts: dict[str, int] = {}
    try:
        for recipient_id, name in _uplinks(gateway.config).items():
            if name in gateway.recipients or spool_of(gateway.config.state, recipient_id).exists():
                async with _open_recipient(gateway, name) as recipient:
                    await recipient.intake.commit()
                    for spool, thread in recipient.spools:
                        now = await thread.run(spool.backlog)
                        counts["spool"] = counts.get("spool", 0) + now.rows + now.batch_rows
    except (OSError, Refused, StorageFailed):
        # A partial sum would look like the whole: rather no number than a wrong one.
        counts.pop("spool", None)
    return counts


def known_facts(
    items: Mapping[str, Item],
    recipient: str,
    place: str,
    home: Occupancy | None,
    consents: Sequence[Consent],
) -> list[RecipientKnowledge]:
    """Return which facts about a dwelling and an occupancy these items contain."""
    own_bases = {f"bases/{one.id}" for one in consents if home and one.occupancy == home.id}
    names = items.get(f"places/{place}", {}).get("aliases", ())
    knows = {
        "place": f"places/{place}" in items,
        "aliases": bool(names),
        "meter": any(
            key.startswith("installations/") and item.get("place") == place
            for key, item in items.items()
        ),
        "occupancy": home is not None and f"occupancies/{home.id}" in items,
        "consents": bool(own_bases & items.keys()),
    }
    facts = tuple(fact for fact, known in knows.items() if known)
    schemes = tuple(sorted({scheme(str(one["scheme"])).title for one in names}))
    return [RecipientKnowledge(recipient, facts, schemes)] if facts else []


def _identify(lines: Lines, recipient: Recipient) -> None:
    for line in lines.values():
        for (device, _), mark in recipient.ledger.marks.items():
            if mark.serial and device in line.devices and line.devices[device].serial is None:
                line.devices[device].serial = mark.serial


def _held_value(row: Reading, recipient: str) -> HeldValue:
    series = row.series
    period = series.kind in (ValueKind.INT, ValueKind.AVG)
    value = "" if row.value is None else format(row.value, "f")
    notes = [row.why or "", f"span={row.span}" if row.span > 1 else "", row.flags]
    return HeldValue(
        recipient, series.basis, series.channel, series.step,
        row.t - series.step if period else None, row.t,
        value, series.unit, row.quality, " ".join(filter(None, notes)),
    )  # fmt: skip


async def last_indexes(gateway: Gateway, meter: Installation) -> dict[str, LastReading]:
    """Return by channel the last index of a meter that is kept here, as the meter shows it."""
    readings = [
        (str(point.channel), EXACT.multiply(Decimal(kept.value), multiplier(point)), kept.slot)
        for kept, point in await _midnights(gateway, meter.place)
        if meter.serial and kept.serial and serial_key(kept.serial) == serial_key(meter.serial)
    ]
    # the rows of a meter with a factor have the index of the place, not that of the meter
    if meter.serial and meter.measured(Decimal(2)) == 2:  # noqa: PLR2004 -- of any index
        readings += [
            (row.series.channel, Decimal(row.value or 0), row.t)
            for row in await _rows_of_the_meter(gateway, meter.serial)
        ]
    points = {one.channel: one for one in gateway.config.points().get(meter.device or "", ())}
    last: dict[str, LastReading] = {}
    for channel, value, at in sorted(readings, key=itemgetter(2)):
        point = points.get(channel)
        more = (point.rating, point.rolls_at) if point else (None, None)
        last[channel] = LastReading(value, at, *more)
    return last


async def _rows_of_the_meter(gateway: Gateway, serial: str) -> list[Reading]:
    rows: list[Reading] = []
    for recipient_id, name in _uplinks(gateway.config).items():
        if (
            name not in gateway.recipients
            and not spool_of(gateway.config.state, recipient_id).exists()
        ):
            continue
        try:
            async with _open_recipient(gateway, name) as recipient:
                for spool, thread in recipient.spools:
                    rows += (await thread.run(spool.last_indexes, serial)).values()
        except (OSError, Refused, StorageFailed):
            continue  # a doubt less; the diagnosis reports the spool
    return rows


async def _midnights(gateway: Gateway, place: str) -> list[tuple[UnassignedValue, Point]]:
    """Return the midnight readings of a dwelling that are kept for a duty."""
    async with AsyncExitStack() as stack:
        midnights, file = gateway.unsent.get("registers"), gateway.config.state / "registers.db"
        if midnights is None:
            if not gateway.identity or not file.exists():
                return []
            opening = store_opening(gateway.identity, file)
            store, thread = await stack.enter_async_context(in_own_thread("registers", opening))
            midnights = MidnightReadings(gateway.registry, store, thread)
        return await midnights.of(place, partial(point_of, gateway.config))


def _midnight_value(reading: UnassignedValue, point: Point) -> HeldValue:
    value = format(EXACT.multiply(Decimal(reading.value), multiplier(point)), "f")
    channel = str(point.channel)
    unit = channels()[channel].unit
    return HeldValue("", "", channel, DAY, None, reading.slot, value, unit, reading.quality, "")


def _disclosed(counts: Iterable[Disclosure], recipient: str) -> list[DisclosedValues]:
    """Add up the counts of one recipient by day, place, channel, basis and occupancy."""
    totals: dict[tuple[str, str, str, str, str], int] = {}
    for count in counts:
        key = (count.day, count.place, count.channel, count.basis, count.occupancy)
        totals[key] = totals.get(key, 0) + count.values
    return [
        DisclosedValues(day, recipient, place, channel, basis, values, occupancy)
        for (day, place, channel, basis, occupancy), values in totals.items()
    ]


def _erasures(
    gateway: Gateway,
    recipient: str,
    confirmed: dict[str, int | None],
    received: Collection[str],
    place: str | None,
) -> list[Erasure]:
    """List what the registry has retracted from a recipient, with the recipient's answer."""
    linked = recipient in _uplinks(gateway.config)
    return [
        Erasure(
            recipient,
            one.place,
            one.channel,
            one.basis,
            one.occupancy,
            one.since,
            one.until,
            one.reason,
            one.asked,
            confirmed.get(one.id, confirmed.get(one.former)),
            linked,
            one.meter,
            one.ver,
        )
        for _, taken in gateway.registry.effects(0)
        for one in taken
        if one.place[:1] == "D"
        and place in (None, one.place)
        and one.recipient in (None, recipient)
        and (
            {one.id, one.former} & confirmed.keys()
            or one.recipient == recipient
            or one.place in received
        )
    ]


def _of_the_clock(
    items: Iterable[Mapping[str, Any]],
    recipient: str,
    place: str | None,
    confirmed: Mapping[str, int | None],
) -> Iterator[Erasure]:
    """Yield what a wrong clock closed and was retracted, from the form in which it was sent."""
    for item in items:
        if item["place"][:1] == "D" and place in (None, item["place"]):
            since, until = (
                int(datetime.fromisoformat(item[name]).timestamp()) for name in ("from", "to")
            )
            scope = (item["place"], item["channel"], None, None, since, until, "clock")
            rows, ver = confirmed.get(item["id"]), int(item["ver"])
            yield Erasure(recipient, *scope, ver, rows, linked=True, ver=ver)


async def _of_the_gateway(gateway: Gateway, home: Occupancy | None) -> list[KnowledgeGap]:
    """List the gaps that come from the gateway itself: a restore, or an untrusted clock."""
    gaps = []
    latest = gateway.audit.chain.latest
    body = await gateway.disk.read(latest, "restored", patience=LONG_LOOK)
    made = str(body.get("made", "")) if body else ""
    if made and (home is None or home.since < datetime.fromisoformat(made).timestamp()):
        gaps.append(KnowledgeGap("restored", "", made[:10]))
    clock = gateway.clock  # one whose period is not admitted yet is right: only readings wait (C2)
    if gateway.daemon and not (clock.believed and clock.ahead <= 0):
        gaps.append(KnowledgeGap("clock"))
    return gaps
