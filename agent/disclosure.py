"""What the gateway has on its disk of values of dwellings, for each recipient: what waits, what was
received, what was erased. And what it cannot know.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING

from agent.buffer.disclosures import tokens_of
from agent.buffer.orphaned_spools import kept, kept_for, recipients_of, record, spool_of
from agent.buffer.thread import in_own_thread
from agent.channels import channels
from agent.clock import stamp
from agent.errors import Refused, StorageFailed
from agent.model import ValueKind
from agent.pipeline.midnight_readings import MidnightReadings
from agent.pipeline.slots import multiplier
from agent.recipient import directory_of, open_outlet, shelf_opening
from agent.registry.dates import DAY
from agent.registry.letter import (
    DisclosedValues,
    Erasure,
    HeldValue,
    KnowledgeGap,
    RecipientKnowledge,
    overlaps,
)
from agent.registry.records import EXACT, covers
from agent.registry.schemes import scheme

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence

    from agent.buffer.announcements import Item
    from agent.buffer.disclosures import Disclosure
    from agent.buffer.unassigned_store import UnassignedValue
    from agent.gateway import Gateway, Recipient
    from agent.model import Point, Reading
    from agent.registry.records import Consent, Occupancy


DISK_FAILS = "the disk fails"


@dataclass
class Records:
    """What was found, for all recipients."""

    disclosed: list[DisclosedValues] = field(default_factory=list)
    erasures: list[Erasure] = field(default_factory=list)
    held: list[HeldValue] = field(default_factory=list)
    """of the people who were asked for"""
    known: list[RecipientKnowledge] = field(default_factory=list)
    """what recipients know besides values"""
    gaps: list[KnowledgeGap] = field(default_factory=list)
    """what cannot be known"""


async def records(
    house: Gateway, place: str | None = None, home: Occupancy | None = None
) -> Records:
    """Read what is recorded of one dwelling (by id), or of all; `home`: of these people alone.

    A spool that is not open is opened for it, and so takes back first what it must. Where no daemon
    runs, devices are known by the serial numbers that they last said from here on.
    """
    found, state = Records(), house.config.state
    concerned = _concerned(house, home)
    known = {*_uplinks(house), *recipients_of(state), *kept_for(state), *(concerned or ())}
    for recipient in sorted(known):
        await _of_recipient(found, house, recipient, place, home)
        if concerned is None or recipient in concerned:
            found.gaps += _doubts(house, recipient)
    if home is not None:
        consents = house.registry.consents()
        found.disclosed = [one for one in found.disclosed if _theirs(one, home, consents)]
        found.erasures = [one for one in found.erasures if _of(one, home)]
        found.held += await _registers(house, home)
    found.gaps += await _of_the_gateway(house, home)
    found.disclosed.sort(key=attrgetter("day", "recipient", "place", "channel"))
    found.erasures.sort(key=attrgetter("asked", "recipient"))
    return found


def _uplinks(house: Gateway) -> dict[str, str]:
    """The names of the uplinks, by recipient."""
    return {str(one.settings.recipient): name for name, one in house.config.uplinks.items()}


async def _of_recipient(
    found: Records, house: Gateway, recipient: str, place: str | None, home: Occupancy | None
) -> None:
    """Add what is recorded of one recipient."""
    state, name = house.config.state, _uplinks(house).get(recipient)
    known, _ = kept(state, recipient)
    erasures: dict[str, int | None] = {}
    try:
        if name is None:
            words = tokens_of(house.identity, recipient)
            left = await asyncio.to_thread(record, state, recipient, place or "", words)
            if left is not None:
                known, erasures = known + left.disclosures, left.erasures
                if left.waits:
                    found.gaps.append(KnowledgeGap("leftover", recipient, str(left.waits)))
            elif not known and recipient in (_concerned(house, home) or ()):
                found.gaps.append(KnowledgeGap("no_uplink", recipient))
        elif name in house.outlets or spool_of(state, recipient).exists():
            async with _outlet(house, name) as outlet:
                if outlet.kept:
                    found.gaps.append(KnowledgeGap("unreadable", recipient, DISK_FAILS))
                for spool, thread in outlet.spools:
                    known += await thread.run(spool.disclosures, place or "")
                    said = await thread.run(spool.erasures)
                    erasures |= {id_: n for id_, n in said.items() if erasures.get(id_) is None}
                found.held += await _waiting(outlet, home)
                found.known += await _known(house, outlet, place, home)
                _identify(house, outlet)
    except (OSError, Refused, StorageFailed) as error:
        found.gaps.append(KnowledgeGap("unreadable", recipient, str(error)))
    mine = [one for one in known if place in (None, one.place)]
    received = {one.place for one in mine}
    found.erasures += _erasures(house, recipient, erasures, received, place)
    found.disclosed += _disclosed(mine, recipient)


def _doubts(house: Gateway, recipient: str) -> Iterator[KnowledgeGap]:
    """What is recorded of a recipient, and does not say all."""
    spool, name = spool_of(house.config.state, recipient), _uplinks(house).get(recipient)
    _, complete = kept(house.config.state, recipient)
    if not complete or spool.with_name(f"{spool.name}.damaged").exists():
        yield KnowledgeGap("damaged", recipient)
    if name is not None and getattr(house.config.uplinks[name].settings, "receipt", "") == "broker":
        yield KnowledgeGap("broker", recipient)


async def identify(house: Gateway) -> list[KnowledgeGap]:
    """Where no daemon runs, know devices by the serial numbers that they last said; what cannot be
    known.
    """
    gaps = []
    for recipient, name in _uplinks(house).items():
        if name not in house.outlets and spool_of(house.config.state, recipient).exists():
            try:
                async with _outlet(house, name) as outlet:
                    _identify(house, outlet)
            except Refused as error:
                gaps.append(KnowledgeGap("unreadable", recipient, str(error)))
    return gaps


def _concerned(house: Gateway, home: Occupancy | None) -> set[str] | None:
    """Who ever had a right to values of these people; None: nobody in particular is asked for."""
    if home is None:
        return None
    given = {one.recipient for one in house.registry.consents() if one.occupancy == home.id}
    return given | {one.recipient for one in house.registry.duties() if overlaps(one, home)}


@asynccontextmanager
async def _outlet(house: Gateway, name: str) -> AsyncIterator[Recipient]:
    """The open outlet of an uplink, or one that is opened for this."""
    async with AsyncExitStack() as stack:
        if (found := house.outlets.get(name)) is None:
            found = await stack.enter_async_context(open_outlet(house, name))
        yield found


async def _known(
    house: Gateway, outlet: Recipient, place: str | None, home: Occupancy | None
) -> list[RecipientKnowledge]:
    """What a recipient was told, or will be, of a dwelling and these people besides values."""
    if place is None:
        return []
    items, recipient = await _announced(house, outlet), str(outlet.settings.recipient)
    return facts_of(items, recipient, place, home, house.registry.consents())


async def _announced(house: Gateway, outlet: Recipient) -> dict[str, Item]:
    told = await outlet.thread.run(outlet.spool.announced)
    return {**told, **directory_of(house, outlet)}


async def announced(house: Gateway, recipient: str) -> dict[str, Item]:
    """All that a recipient was told, or will be, besides values; empty: it is not known."""
    name = _uplinks(house).get(recipient)
    if name is None or not spool_of(house.config.state, recipient).exists():
        return {}
    try:
        async with _outlet(house, name) as outlet:
            return await _announced(house, outlet)
    except (OSError, Refused, StorageFailed):
        return {}  # `records` says why


async def lying(house: Gateway) -> dict[str, int]:
    """How many values wait for recipients now, and how many indexes of midnight are kept; what
    cannot be counted is left out.
    """
    found: dict[str, int] = {}
    try:
        for recipient, name in _uplinks(house).items():
            if name in house.outlets or spool_of(house.config.state, recipient).exists():
                async with _outlet(house, name) as outlet:
                    await outlet.intake.commit()
                    for spool, thread in outlet.spools:
                        now = await thread.run(spool.backlog)
                        found["spool"] = found.get("spool", 0) + now.rows + now.batch_rows
    except (OSError, Refused, StorageFailed):
        found.pop("spool", None)
    return found


def facts_of(
    items: Mapping[str, Item],
    recipient: str,
    place: str,
    home: Occupancy | None,
    consents: Sequence[Consent],
) -> list[RecipientKnowledge]:
    """What of these was of a dwelling and these people."""
    mine = {f"bases/{one.id}" for one in consents if home and one.occupancy == home.id}
    names = items.get(f"places/{place}", {}).get("aliases", ())
    knows = {
        "place": f"places/{place}" in items,
        "aliases": bool(names),
        "meter": any(
            key.startswith("installations/") and item.get("place") == place
            for key, item in items.items()
        ),
        "occupancy": home is not None and f"occupancies/{home.id}" in items,
        "consents": bool(mine & items.keys()),
    }
    facts = tuple(fact for fact, known in knows.items() if known)
    schemes = tuple(sorted({scheme(str(one["scheme"])).title for one in names}))
    return [RecipientKnowledge(recipient, facts, schemes)] if facts else []


def _identify(house: Gateway, outlet: Recipient) -> None:
    for line in house.lines.values():
        for (device, _), mark in outlet.ledger.marks.items():
            if mark.serial and device in line.devices and line.devices[device].serial is None:
                line.devices[device].serial = mark.serial


async def _waiting(outlet: Recipient, home: Occupancy | None) -> list[HeldValue]:
    if home is None:
        return []
    await outlet.intake.commit()
    rows = []
    for spool, thread in outlet.spools:
        rows += await thread.run(spool.held_of, home.id)
    return [_waits(row, str(outlet.settings.recipient)) for row in rows]


def _waits(row: Reading, recipient: str) -> HeldValue:
    series = row.series
    period = series.kind in (ValueKind.INT, ValueKind.AVG)
    value = "" if row.value is None else format(row.value, "f")
    said = [row.why or "", f"{row.span} slots" if row.span > 1 else "", row.flags]
    return HeldValue(
        recipient, series.basis, series.channel, series.step,
        row.t - series.step if period else None, row.t,
        value, series.unit, row.quality, " ".join(filter(None, said)),
    )  # fmt: skip


async def _registers(house: Gateway, home: Occupancy) -> list[HeldValue]:
    """The midnight indexes of these people that are kept for a duty, also where no daemon runs."""
    async with AsyncExitStack() as stack:
        registers, file = house.registers, house.config.state / "registers.db"
        if registers is None:
            if house.identity is None or not file.exists():
                return []
            opening = shelf_opening(house, file)
            shelf, thread = await stack.enter_async_context(in_own_thread("registers", opening))
            registers = MidnightReadings(house.registry, shelf, thread)
        found = await registers.of(home.place, house.point)
        return [_register(*one) for one in found if covers(home, one[0].slot)]


def _register(one: UnassignedValue, point: Point) -> HeldValue:
    value = format(EXACT.multiply(Decimal(one.value), multiplier(point)), "f")
    channel = str(point.channel)
    unit = channels()[channel].unit
    return HeldValue("", "", channel, DAY, None, one.slot, value, unit, one.quality, "")


def _disclosed(counts: Iterable[Disclosure], recipient: str) -> list[DisclosedValues]:
    """The counts of one recipient; of one day and quantity in one line."""
    found: dict[tuple[str, str, str, str, str], int] = {}
    for one in counts:
        key = (one.day, one.place, one.channel, one.basis, one.occupancy)
        found[key] = found.get(key, 0) + one.values
    return [
        DisclosedValues(day, recipient, place, channel, basis, values, occupancy)
        for (day, place, channel, basis, occupancy), values in found.items()
    ]


def _erasures(
    house: Gateway,
    recipient: str,
    confirmed: dict[str, int | None],
    received: Collection[str],
    place: str | None,
) -> list[Erasure]:
    """What was taken back from a recipient: as the registry says, with the recipient's answer."""
    linked = recipient in _uplinks(house)
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
        )
        for _, taken in house.registry.effects(0)
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


def _theirs(one: DisclosedValues, home: Occupancy, consents: Sequence[Consent]) -> bool:
    """Whether what was received was of these people, and not of those before or after them."""
    if one.occupancy:
        return one.occupancy == home.id
    given = {consent.id: consent.occupancy for consent in consents}
    if one.basis in given:
        return given[one.basis] == home.id
    until = None if home.until is None else stamp(home.until)[:10]
    return one.day >= stamp(home.since)[:10] and (until is None or one.day <= until)


def _of(one: Erasure, home: Occupancy) -> bool:
    """Whether an erasure takes rows of these people."""
    if one.occupancy is not None:
        return one.occupancy == home.id
    ends = one.until is None or one.until > home.since
    return ends and (home.until is None or one.since <= home.until)


async def _of_the_gateway(house: Gateway, home: Occupancy | None) -> list[KnowledgeGap]:
    """What cannot be known because of what happened to the gateway itself."""
    found = []
    body = None
    if house.notes is not None:  # it may have to read years of files
        body = await asyncio.to_thread(house.notes.chain.latest, "restored")
    made = str(body.get("made", "")) if body else ""
    if made and (home is None or home.since < datetime.fromisoformat(made).timestamp()):
        found.append(KnowledgeGap("restored", "", made[:10]))
    if house.close is not None and not house.clock.dates:
        found.append(KnowledgeGap("clock"))
    return found
