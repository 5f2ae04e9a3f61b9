"""Dwellings: their meters with proof, occupancies and bases. Never values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from agent.api.roles import Right
from agent.core.i18n import N_, Text, in_language
from agent.core.model import Why
from agent.registry.facts.place import described
from agent.web.pages.lines import device_of
from agent.web.pages.recipients import quantities, step_text
from agent.web.site import ask, page, visitor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.web.client import Answer

MOST = 50
"""dwellings of one page"""
LONGEST_NUMBER = 6
"""digits of the number of a page"""
OCCUPANCY = {
    "occupied": ("fine", N_("occupied")),
    "vacant": ("note", N_("vacant")),
    "unknown": ("warn", N_("unknown")),
}
"""mark and name of each state of occupancy"""
PROOFS = {
    "display": N_("its display was compared with the value read"),
    "load": N_("it counted an appliance that was switched on in the dwelling"),
    "serial": N_("it reports the number that was recorded for the dwelling"),
    "none": N_("not verified"),
}
"""how a meter was proven to be that of a dwelling"""
FILTERS = {
    "": N_("all"),
    "unproven": N_("a meter without proof"),
    "no-meter": N_("without a meter"),
    "vacant": N_("vacant"),
    "unknown": N_("unknown occupancy"),
}


async def show(request: web.Request) -> web.StreamResponse:
    """List the dwellings that fit a search, 50 on a page, as people sort labels."""
    asks = visitor(request)
    search, only = request.query.get("q", "").strip()[:100], request.query.get("only", "")
    only, number = only if only in FILTERS else "", _number(request)
    wanted: dict[str, Any] = {"search": search, "only": only, "number": MOST}
    answer = await ask(request, "dwelling.list", first=(number - 1) * MOST, **wanted)
    pages = max(1, -(-answer["total"] // MOST))
    if number > pages:  # there are fewer than before
        number = pages
        answer = await ask(request, "dwelling.list", first=(number - 1) * MOST, **wanted)
    places = answer["dwellings"]
    meters = by_place(answer["meters"])
    bases = {}
    if asks.may(Right.SEE_PEOPLE):
        ids = [place["id"] for place in places]
        bases = by_place((await ask(request, "consent.count", places=ids))["places"])
    return await page(
        request,
        "dwellings.html",
        rows=[
            {**place, "meters": meters.get(place["id"], []), "bases": bases.get(place["id"], [])}
            for place in places
        ],
        columns_of_people=asks.may(Right.SEE_PEOPLE),
        total=answer["total"],
        search=search,
        only=only,
        filters=FILTERS,
        number=number,
        pages=pages,
        first=(number - 1) * MOST,
        states=OCCUPANCY,
        proofs=PROOFS,
    )


def by_place(documents: Iterable[Answer]) -> dict[str, list[Answer]]:
    """Return documents by the id of their place."""
    places: dict[str, list[Answer]] = {}
    for document in documents:
        places.setdefault(document["place"], []).append(document)
    return places


def _number(request: web.Request) -> int:
    """Return the number of the page that the address names."""
    written = request.query.get("page", "1")[:LONGEST_NUMBER]
    return max(1, int(written)) if written.isascii() and written.isdecimal() else 1


async def dwelling(request: web.Request) -> web.StreamResponse:
    """Show a dwelling: its meters with proof, and what is sent of it to whom and why."""
    asks, id_ = visitor(request), request.match_info["id"]
    answer = await ask(request, "dwelling.list", place=id_)
    (place,), meters = answer["dwellings"], answer["meters"]
    factors = (await ask(request, "meter.proofs", place=place["id"]))["proofs"]
    explained = None
    if asks.may(Right.SEE_PEOPLE):
        explained = await ask(request, "privacy.explain", place=place["id"])
    return await page(
        request,
        "dwelling.html",
        place=place,
        meters=meters,
        factors=factors,
        devices=await _devices_of(request, meters) if meters else {},
        particulars=described(place, asks.language),
        explained=explained,
        sent=[] if explained is None else sent(explained["rows"], asks.language),
        notices=[] if explained is None else notices(explained["notices"], asks.language),
        states=OCCUPANCY,
        proofs=PROOFS,
        step_text=step_text,
        may_people=asks.may(Right.PEOPLE),
        may_stop=asks.may(Right.STOP),
    )


async def _devices_of(request: web.Request, meters: Sequence[Answer]) -> dict[str, Answer]:
    """Return the device of each meter by the meter's id, as far as a device has told its number."""
    status = await ask(request, "status")
    devices = [device_of(name, state, status) for name, state in status["devices"].items()]
    return {
        meter["id"]: device
        for meter in meters
        for device in devices
        if device["name"] == meter["device"]
        or (meter["serial"] and device["serial"] == meter["serial"])
    }


def sent(rows: Sequence[Answer], language: str) -> list[dict[str, Any]]:
    """Return one row for all quantities that go to a recipient on the same terms."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for row in rows:
        if row["recipient"]:
            why = in_language(row["why"], language)
            why = why if row["leaves"] else Text(why).in_language(language)
            names = groups.setdefault((row["recipient"], row["leaves"], row["step"], why), [])
            if row["channel"] not in names:
                names.append(row["channel"])
    return [
        {
            "recipient": recipient,
            "leaves": leaves,
            "step": step_text(step) if step is not None else Text("not sent"),
            "why": why,
            "quantities": quantities(names, language),
        }
        for (recipient, leaves, step, why), names in groups.items()
    ]


def notices(rows: Sequence[Answer], language: str) -> list[str]:
    """Return what recipients are notified of, without values."""
    if not rows:
        return []
    from agent.registry.explain import HELD  # noqa: PLC0415 -- it takes memory and is seldom used

    return [
        Text(
            "{recipient} is notified {step}, without a value, that {quantity} is withheld: {why}",
            recipient=row["recipient"],
            step=step_text(row["step"]),
            quantity=quantities([row["channel"]], language),
            why=Text(HELD[Why(row["why"])]),
        ).in_language(language)
        for row in rows
    ]


ROUTES = [web.get("/dwellings", show), web.get("/dwellings/{id}", dwelling)]
