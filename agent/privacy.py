"""What people may ask about personal data: what leaves and why, of whom, and who has looked."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, replace
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from agent.channels import channels
from agent.clerk import author, device_of
from agent.clock import stamp
from agent.errors import Refused
from agent.house import policy_of
from agent.model import Kind
from agent.outlet import open_outlet
from agent.pipeline.ledger import multiplier
from agent.pipeline.totals import Totals
from agent.pipeline.totals import file_of as totals_of
from agent.registry import catalogue, written
from agent.registry.documents import EXACT, covers, serial_key
from agent.registry.entries import NewWithdrawal
from agent.registry.explain import Read, explain
from agent.registry.letter import Disclosed, Held, Person, letter, table
from agent.registry.looks import EVERYBODY
from agent.registry.place import OCCUPANCY, parse, shown
from agent.summed import summed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from agent.buffer.shelf import Kept
    from agent.clerk import Asker, Call
    from agent.house import House, Outlet
    from agent.model import Point, Reading
    from agent.registry.documents import Consent, Occupancy, Place
    from agent.registry.explain import Told

STAYS = "it stayed here for a while, and the next index would tell what few used meanwhile"
log = logging.getLogger(__name__)

DAY = 86_400


def reads(house: House) -> list[Read]:
    """Everything that is configured to be read and has a channel."""
    found: list[Read] = []
    for line in house.lines.values():
        for device in line.devices.values():
            found += [
                Read(device.name, device.serial, point.channel, point.every, point.derived,
                     point.place, device.serial_point is not None)
                for point in device.points
                if point.channel is not None
            ]  # fmt: skip
    return found


def recipients(house: House) -> list[str]:
    """Who is configured to receive anything."""
    return sorted({str(one.settings.recipient) for one in house.config.uplinks.values()})


def seen(what: str, call: Call) -> Call:
    """The same call, noted as a look at the dwelling that it shows, if it shows one.

    It is noted before anything is shown. Where the disk takes no note, that is told in the log.
    """

    async def made(house: House, asker: Asker, **args: Any) -> dict[str, Any]:
        answer = await call(house, asker, **args)
        place = _shown(house, what, args)
        if place is not None and house.looks is not None:
            try:
                house.looks.note(asker.who, what, place, house.clock.now())
            except OSError as error:
                log.error("%s saw %s of %s unrecorded: %s", asker.who, what, place, error)  # noqa: TRY400 -- no bug
        return answer

    return made


def _shown(house: House, what: str, args: Mapping[str, Any]) -> str | None:
    """The dwelling whose data a call shows; None: of none."""
    if what == "status":
        devices = [one for line in house.lines.values() for one in line.devices.values()]
        values = any(one.latest for one in devices if not any(p.place for p in one.points))
        return EVERYBODY if values else None
    if "device" in args:
        now = int(house.clock.now())
        meters = (one for one in house.registry.installations() if covers(one, now))
        device = args["device"]
        place = next((one.place for one in meters if device_of(house, one) == device), None)
    else:
        place = house.registry.place(args["place"]).id
    return place if place is not None and place[0] == "D" else None


async def disclosed(house: House, place: str | None = None) -> list[Disclosed]:
    """How many values of dwellings, or of one (by id), each recipient has received, day by day.

    A spool that is not open is opened for it, and so takes back first what it must.
    """
    found: list[Disclosed] = []
    async with _spools(house) as outlets:
        for outlet in outlets:
            counts = await outlet.thread.run(outlet.spool.disclosures)
            recipient = str(outlet.settings.recipient)
            found += [
                Disclosed(one.day, recipient, one.place, one.channel, one.basis, one.values)
                for one in counts
                if place in (None, one.place)
            ]
    return sorted(found, key=attrgetter("day", "recipient", "place", "channel"))


@asynccontextmanager
async def _spools(house: House) -> AsyncIterator[list[Outlet]]:
    """Every recipient's spool that there is."""
    found: list[Outlet] = []
    async with AsyncExitStack() as stack:
        for name, uplink in house.config.uplinks.items():
            outlet = house.outlets.get(name)
            spool = house.config.state / f"spool-{uplink.settings.recipient}.db"
            if outlet is None and spool.exists():
                outlet = await stack.enter_async_context(open_outlet(house, name))
            if outlet is not None:
                found.append(outlet)
        yield found


async def held_of(house: House, home: Occupancy) -> list[Held]:
    """The values of those people that are still here: not received yet, or kept for a duty."""
    found: list[Held] = []
    async with _spools(house) as outlets:
        for outlet in outlets:
            await outlet.intake.commit()
            rows = await outlet.thread.run(outlet.spool.held_of, home.id)
            found += [_waits(row, str(outlet.settings.recipient)) for row in rows]
    if house.registers is not None:
        kept = await house.registers.of(home.place, house.point)
        found += [_register(*one) for one in kept if covers(home, one[0].slot)]
    return found


def _waits(row: Reading, recipient: str) -> Held:
    series = row.series
    period = series.kind in (Kind.INT, Kind.AVG)
    value = "" if row.value is None else format(row.value, "f")
    said = [row.why or "", f"{row.span} slots" if row.span > 1 else "", row.flags]
    return Held(
        recipient, series.basis, series.channel, series.step,
        row.t - series.step if period else None, row.t,
        value, series.unit, row.quality, " ".join(filter(None, said)),
    )  # fmt: skip


def _register(kept: Kept, point: Point) -> Held:
    value = format(EXACT.multiply(Decimal(kept.value), multiplier(point)), "f")
    channel = str(point.channel)
    unit = channels()[channel].unit
    return Held("", "", channel, DAY, None, kept.slot, value, unit, kept.quality, "")


def _theirs(one: Disclosed, home: Occupancy | None, consents: Sequence[Consent]) -> bool:
    """Whether what was received was of these people, and not of those before them."""
    if home is None:
        return False
    given = {consent.id: consent.occupancy for consent in consents}
    if one.basis in given:
        return given[one.basis] == home.id
    until = None if home.until is None else stamp(home.until)[:10]
    return one.day >= stamp(home.since)[:10] and (until is None or one.day <= until)


async def privacy_disclosures(house: House, asker: Asker, *, place: str = "") -> dict[str, Any]:
    """List how many values of dwellings, or of one, were received by whom: no values."""
    del asker
    id_ = house.registry.place(place).id if place else None
    labels = {one.id: one.label for one in house.registry.places()}
    rows = await disclosed(house, id_)
    return {"disclosures": [asdict(one) | {"label": labels.get(one.place, "")} for one in rows]}


async def privacy_access(house: House, asker: Asker, *, place: str = "") -> dict[str, Any]:
    """List who has looked at the data of dwellings, or of one, here at the gateway."""
    del asker
    id_ = house.registry.place(place).id if place else None
    looks = house.looks.of(id_) if house.looks else []
    labels = {one.id: one.label for one in house.registry.places()} | {EVERYBODY: "all dwellings"}
    return {
        "looks": [asdict(one) | {"label": labels.get(one.place, "")} for one in looks],
    }


async def privacy_explain(
    house: House, asker: Asker, *, place: str = "", at: str | None = None
) -> dict[str, Any]:
    """Say what leaves, for whom and why, and what is held back and why, at a date."""
    del asker
    zone = house.config.building.timezone
    t = written.when(at, zone, "at") or int(house.clock.now())
    id_ = house.registry.place(place).id if place else None
    told = _told(house, t)
    labels = {one.id: one.label for one in house.registry.places()}
    rows = [_row(one, labels) for one in told if id_ in (None, one.place)]
    sums = [asdict(one) for one in summed(house, t) if id_ is None or id_ in one.members]
    for one in sums:
        one["labels"] = sorted(labels.get(member, member) for member in one["members"])
    return {
        "at": stamp(t),
        "policy": house.config.privacy.policy,
        "recipients": recipients(house),
        "sums": sums,
        "rows": sorted(rows, key=lambda row: (row["label"] or "~", row["channel"])),
    }


async def privacy_person(  # noqa: PLR0913 -- as many options
    house: House,
    asker: Asker,
    *,
    place: str,
    language: str = "fr",
    stop: bool = False,
    occupancy: str | None = None,
    named: str | None = None,
) -> dict[str, Any]:
    """Write a letter to the people of a dwelling, and the same facts as CSV.

    `occupancy`: of those who lived there before, of whom values may still wait. `stop`: first
    withdraw all that they agreed to. Raises Refused.
    """
    if language not in catalogue.LANGUAGES:
        raise Refused(f'language: "{language}" is none of {", ".join(catalogue.LANGUAGES)}')
    who, now = author(house, asker, named), house.clock.now()
    registry = house.registry
    found = registry.place(place)
    if found.type != "dwelling":
        raise Refused(f"{found.label} is a {found.type}: only a dwelling has people")
    home = present = registry.occupancy_at(found.id, int(now))
    if occupancy is not None:
        home = _lived(house, found, occupancy)
    here = home == present
    stopped: list[Consent] = []
    if stop and home is not None and (rows := _standing(house, home.id)):
        stopped = registry.withdraw(rows, who, "gardien privacy person --stop", now)
        await house.registry_changed()
        await house.obey()
    devices = [one for line in house.lines.values() for one in line.devices.values()]
    person = Person(
        building=house.config.building.name,
        place=found,
        home=home,
        meters=registry.meters_of(found.id),
        told=[one for one in _told(house, int(now)) if here and one.place == found.id],
        consents=[one for one in registry.consents() if home and one.occupancy == home.id],
        duties=[one for one in registry.duties() if covers(one, int(now))],
        disclosed=[
            one
            for one in await disclosed(house, found.id)
            if _theirs(one, home, registry.consents())
        ],
        summed=[one for one in summed(house, int(now)) if here and found.id in one.members],
        keep_days=round(house.config.spool.keep / DAY),
        held=[] if home is None else await held_of(house, home),
        said={serial_key(one.serial) for one in devices if one.serial},
        stopped=stopped,
    )
    return {
        "label": found.label,
        "letter": letter(person, now, house.config.zone, language),
        "csv": table(person),
        "withdrawn": [{"recipient": one.recipient, "purpose": one.purpose} for one in stopped],
        "goes_on": [
            {"recipient": one.recipient, "reference": one.reference} for one in person.duties
        ],
    }


async def privacy_catalogue(house: House, asker: Asker, *, language: str = "fr") -> dict[str, Any]:
    """List the personal data that may be known of a dwelling, as people are told of it."""
    del house, asker
    return {
        "channels": [
            {
                "channel": name,
                "label": catalogue.label(name, language),
                "unit": channel.unit,
                "shows": catalogue.shows(name, language),
            }
            for name, channel in channels().items()
            if channel.en is not None
        ]
    }


def _told(house: House, t: int) -> list[Told]:
    found = explain(house.registry, policy_of(house.config), reads(house), recipients(house), t)
    state = house.config.state
    known = {name: Totals(totals_of(state, name)) for name in recipients(house)}
    return [
        replace(one, step=None, basis="", why=STAYS)
        if _an_index_of_the_whole(one) and known[one.recipient].held(str(one.place), one.channel)
        else one
        for one in found
    ]


def _an_index_of_the_whole(one: Told) -> bool:
    """Whether it is an index of the building's own that leaves, as far as the registry knows."""
    return one.step is not None and not one.derived and str(one.place)[0] == "B"


def _standing(house: House, occupancy: str) -> list[NewWithdrawal]:
    """Withdrawals of all that those people have agreed to and not withdrawn yet."""
    return [
        NewWithdrawal(id=one.id)
        for one in house.registry.consents()
        if one.occupancy == occupancy and one.withdrawn is None
    ]


def _lived(house: House, place: Place, text: str) -> Occupancy:
    """Somebody who lives or lived in a dwelling, by their id. Raises Refused."""
    id_ = parse(text, OCCUPANCY)
    found = (one for one in house.registry.occupancies_of(place.id) if one.id == id_)
    if (home := next(found, None)) is None:
        raise Refused(f"nobody is known to have lived in {place.label} as {shown(id_)}")
    return home


def _row(one: Told, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "label": labels.get(one.place or ""),
        "place": one.place,
        "shown": shown(one.place) if one.place else None,
        "device": one.device,
        "channel": one.channel,
        "recipient": one.recipient,
        "leaves": one.step is not None,
        "step": one.step,
        "basis": one.basis or None,
        "why": one.why,
    }


CALLS: Mapping[str, Call] = {
    "privacy.explain": privacy_explain,
    "privacy.person": seen("privacy.person", privacy_person),
    "privacy.access": privacy_access,
    "privacy.disclosures": privacy_disclosures,
    "privacy.catalogue": privacy_catalogue,
}
"""calls by their names"""
