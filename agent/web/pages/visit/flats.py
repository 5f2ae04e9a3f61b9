"""The meters of a visit: matched with the list, and compared with their displays in each flat.

No value that was read is shown before the person has typed what the display shows.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import web

from agent.api.visit_steps import (
    UNCLEAR_INPUT,
    comparison,
    inputs_of_collectors,
    meter_name,
    remember_factor,
    swap_question,
    wrong_factor,
)
from agent.core.errors import Refused
from agent.core.i18n import Text
from agent.core.quantities import MEASURED, channels, spoken
from agent.web.pages.visit.steps import (
    changing,
    done,
    job,
    kept,
    needed_reason,
    on_to,
    step_page,
    tell,
    to,
)
from agent.web.site import ask, form, site, visitor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.web.client import Answer
    from agent.web.jobs import Job

AHEAD = 2
"""dwellings whose meters are read while the person is in the one before"""


# list and devices compared


async def match(request: web.Request) -> web.StreamResponse:
    """Show how the meters of the list match the devices on the lines."""
    matching = job(request, "match")
    return await step_page(request, "visit_match.html", "match", matching=matching,
                           channels=list(MEASURED.items()))  # fmt: skip


async def begin_match(request: web.Request) -> web.StreamResponse:
    """Begin to match; inputs of pulse collectors that the list names are added."""
    await form(request)
    daemon, login = site(request).daemon, visitor(request).login

    async def work(running: Job) -> Answer:
        running.text = Text("reading the serial numbers of the meters …")
        answer = await running.take(daemon.follow("meter.match", login))
        visit, meters = await kept(request), (await ask(request, "meter.list"))["meters"]
        entries, unclear = inputs_of_collectors(visit, meters, answer["silent"])
        added: Sequence[str] = []
        if entries:
            added = (await ask(request, "config.devices.add", devices=entries))["added"]
            answer = await running.take(daemon.follow("meter.match", login))
        await done(request, "match")
        return answer | {
            "added": len(added),
            "unclear": [Text(UNCLEAR_INPUT, name=one) for one in unclear],
        }

    site(request).jobs.begin(login, "match", work)
    raise to("/visit/match")


async def swap(request: web.Request) -> web.StreamResponse:
    """Record that another device measures a dwelling, and its meter the other dwelling."""
    fields = await form(request)
    text = {name: str(value).strip() for name, value in fields.items()}
    swapped = await ask(
        request, "meter.swap", place=text.get("place", ""), channel=text.get("channel", ""),
        device=text.get("device", ""),
    )  # fmt: skip
    tell(request, "fine", Text("recorded: {labels}", labels=swapped["labels"]))
    async with changing(request, 1):
        pass
    raise to("/visit/match")


# from flat to flat


async def flats(request: web.Request) -> web.StreamResponse:
    """Show which flats are still to be visited."""
    walk = (await ask(request, "meter.walk"))["meters"]
    places = list(dict.fromkeys(one["place"] for one in walk))
    rows = [_flat_row([one for one in walk if one["place"] == place]) for place in places]
    return await step_page(
        request,
        "visit_flats.html",
        "flats",
        rows=rows,
        meters=len(walk),
        proven=sum(one["proof"] != "none" for one in walk),
        upcoming=next((row["place"] for row in rows if row["open"]), ""),
        absent=[one for one in walk if one["proof"] == "none" and not _on_the_line(one)],
    )


def _flat_row(meters: Sequence[Answer]) -> dict[str, Any]:
    return {
        "place": meters[0]["place"],
        "label": meters[0]["label"],
        "meters": len(meters),
        "proven": sum(one["proof"] != "none" for one in meters),
        "absent": sum(not _on_the_line(one) for one in meters),
        "open": sum(one["proof"] == "none" and _on_the_line(one) for one in meters),
    }


def _on_the_line(meter: Answer) -> bool:
    return bool(meter["device"] and meter["channel"])


async def flat(request: web.Request) -> web.StreamResponse:
    """Show the meters of one dwelling, each with a field for what its display shows."""
    place = request.match_info["place"]
    walk = (await ask(request, "meter.walk"))["meters"]
    mine = [one for one in walk if one["place"] == place]
    if not mine:
        raise Refused("no meter of this dwelling is recorded")
    order = list(dict.fromkeys(one["place"] for one in walk))
    at = order.index(place)
    _read_ahead(request, order[at : at + AHEAD + 1])
    outcome = job(request, "flat")
    results = outcome.result if outcome and outcome.about["place"] == place else []
    return await step_page(
        request,
        "visit_flat.html",
        "flats",
        place=place,
        label=mine[0]["label"],
        meters=[_field(one, results) for one in mine],
        before=order[at - 1] if at else "",
        after=order[at + 1] if at + 1 < len(order) else "",
    )


def _field(meter: Answer, results: Sequence[Answer]) -> dict[str, Any]:
    """What the page shows of a meter: no value but what was typed, and the sentence about it."""
    channel = meter["channel"]
    return {
        "key": _key(meter),
        "number": meter_name(meter),
        "name": MEASURED.get(channel, channel) if channel else "",
        "channel": channel,
        "unit": spoken(channels()[channel].unit) if channel else "",
        "on_the_line": _on_the_line(meter),
        "silent": meter["silent"],
        "proof": meter["proof"],
        "outcome": next((one for one in results if one["key"] == _key(meter)), None),
    }


def _key(meter: Answer) -> str:
    return f"{meter['installation']}/{meter['channel']}"


def _read_ahead(request: web.Request, places: Sequence[str]) -> None:
    """Have the meters of the next flats read, so that their comparison answers at once."""
    jobs, login = site(request).jobs, visitor(request).login
    ahead = jobs.of(login, "ahead")
    known = set(ahead.about["places"]) if ahead else set()
    coming = [place for place in places if place not in known]
    if not coming or (ahead and ahead.running):
        return

    async def work(_running: Job) -> bool:
        for place in coming:
            await ask(request, "meter.walk", places=[place], ahead=True)
        return True

    with suppress(Refused):  # other jobs run: the comparison reads by itself
        jobs.begin(login, "ahead", work, places=[*coming]).holds = False


async def compare(request: web.Request) -> web.StreamResponse:
    """Compare what was typed with the meters of a dwelling."""
    fields, place = await form(request), request.match_info["place"]
    why = needed_reason(request, fields)
    meters = (await ask(request, "meter.walk", places=[place], ahead=False))["meters"]
    typed = {
        _key(one): (one, text)
        for one in meters
        if _on_the_line(one) and (text := str(fields.get(f"shown-{_key(one)}", "")).strip())
    }
    if not typed:
        raise Refused("type what a display shows")
    results = await _compared_together(request, list(typed.values()), why)
    await _keep(request, place, results, len(typed))
    if all(one["agrees"] for one in results):
        raise on_to(request, await _next(request, place), why)
    raise on_to(request, f"/visit/flats/{place}", why)


async def _next(request: web.Request, place: str) -> str:
    """Return the page of the next flat with an open meter, and say that this one is in order."""
    walk = (await ask(request, "meter.walk"))["meters"]
    order = list(dict.fromkeys(one["place"] for one in walk))
    open_ones = {one["place"] for one in walk if one["proof"] == "none" and _on_the_line(one)}
    if place in open_ones:  # its other meter
        return f"/visit/flats/{place}"
    label = next(one["label"] for one in walk if one["place"] == place)
    tell(request, "fine", Text("{label}: the displays agree with the meters", label=label))
    at = order.index(place)
    following = next((one for one in (*order[at + 1 :], *order[:at]) if one in open_ones), "")
    if not following:
        await done(request, "flats", 0)
    return f"/visit/flats/{following}" if following else "/visit/flats"


async def _compared_together(
    request: web.Request, typed: Sequence[tuple[Answer, str]], why: str
) -> list[Answer]:
    """Compare displays of one dwelling with their meters, in one call: each call is a look that the
    daemon counts and notes.
    """
    first = {meter["channel"]: (meter, text) for meter, text in reversed(typed)}
    rest = [pair for pair in typed if pair not in first.values()]  # a second water meter
    pairs = list(first.values())
    try:
        answer = await ask(
            request, "meter.verify", reason=why, place=pairs[0][0]["place"],
            shown={channel: text for channel, (_meter, text) in first.items()},
        )  # fmt: skip
    except Refused as refusal:
        if len(pairs) == 1:
            results = [_outcome(*pairs[0]) | {"sentences": [refusal.text], "unread": True}]
        else:  # one of them is misspelt: the others count
            results = [
                result
                for pair in pairs
                for result in await _compared_together(request, [pair], why)
            ]
    else:
        results = [
            _compared(*pair, result) for pair, result in zip(pairs, answer["results"], strict=True)
        ]
    return results + (await _compared_together(request, rest, why) if rest else [])


def _outcome(meter: Answer, typed: str) -> Answer:
    return {
        "key": _key(meter),
        "typed": typed,
        "agrees": False,
        "sentences": [],
        "wrong": False,
        "unread": False,
        "swap": None,
        "others": [],
        "factor": None,
    }


def _compared(meter: Answer, typed: str, result: Answer) -> Answer:
    """Say how one display and its meter compare."""
    outcome, others = _outcome(meter, typed), result["shown_by"]
    wrong = None if result["agrees"] else wrong_factor(result)
    outcome |= {
        "agrees": result["agrees"],
        "wrong": wrong is not None,
        "factor": result["times"],
        "result": result,
        "installation": meter["installation"],
    }
    if result["agrees"]:
        proof = [result["factor"]["sentence"]] if result["factor"] else []
        return outcome | {"sentences": proof}
    channel: str = meter["channel"]
    named = result | {"channel": Text(MEASURED.get(channel, channel))}
    sentences: list[Text] = [] if wrong else [comparison(named)]
    if not others and not wrong and result["read"] is None:
        sentences = [Text("The meter does not answer, and no other one shows this value.")]
    if len(others) == 1:
        shows, question = swap_question(meter["label"], result["meter"], others[0])
        outcome |= {"swap": question, "others": others}
        sentences = [shows]
    elif others:
        outcome |= {"others": others}
        sentences = [
            Text("The recorded meter shows another value, but {number} others show it:",
                 number=len(others))
        ]  # fmt: skip
    # the values of others may fit by chance: the factor of the own meter comes first
    return outcome | {"sentences": [*([wrong] if wrong else []), *sentences]}


async def _keep(request: web.Request, place: str, results: Sequence[Answer], answers: int) -> None:
    """Keep the results for the page of the flat, and wrong factors for the findings."""
    async with changing(request, answers) as visit:
        for result in results:
            if not result["agrees"] and result["factor"]:
                remember_factor(visit, result["installation"], result["result"])
    site(request).jobs.keep(
        visitor(request).login, "flat", list(results), place=place
    ).holds = False


async def swap_here(request: web.Request) -> web.StreamResponse:
    """Record that the meter with this display is another one, and compare again."""
    fields, place = await form(request), request.match_info["place"]
    why, device = needed_reason(request, fields), str(fields.get("device", ""))
    key, typed = str(fields.get("key", "")), str(fields.get("typed", ""))
    if not device:
        raise Refused("choose the number that is on the plate")
    meters = (await ask(request, "meter.walk", places=[place]))["meters"]
    meter = next((one for one in meters if _key(one) == key), None)
    if meter is None:
        raise Refused("this meter is not recorded here any more: load the page again")
    swapped = await ask(
        request, "meter.swap", place=place, channel=meter["channel"], device=device
    )  # fmt: skip
    tell(request, "fine", Text("recorded: {labels}", labels=swapped["labels"]))
    meters = (await ask(request, "meter.walk", places=[place]))["meters"]
    now = next(one for one in meters if one["channel"] == meter["channel"])
    (result,) = await _compared_together(request, [(now, typed)], why)
    await _keep(request, place, [result], 1)
    raise on_to(
        request, await _next(request, place) if result["agrees"] else f"/visit/flats/{place}", why
    )


ROUTES = [
    web.get("/visit/match", match),
    web.post("/visit/match", begin_match),
    web.post("/visit/match/swap", swap),
    web.get("/visit/flats", flats),
    web.get("/visit/flats/{place}", flat),
    web.post("/visit/flats/{place}", compare),
    web.post("/visit/flats/{place}/swap", swap_here),
]
