"""Lines and devices: how each line works, and the values of common plant as they arrive."""

from __future__ import annotations

from contextlib import suppress
from decimal import Context, InvalidOperation
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web

from agent.api.device_state import device_state
from agent.api.roles import Right
from agent.core.errors import Refused
from agent.core.finding import Finding
from agent.core.i18n import N_, Text, in_language
from agent.core.model import Flag, Quality, ValueKind
from agent.core.quantities import channels
from agent.registry.labels import in_order
from agent.registry.page import label
from agent.registry.place import looks_like_id, shown
from agent.web.history import SPANS, csv_text, figures, series_of, span_of
from agent.web.live import TEXTS
from agent.web.plot import csv_answer
from agent.web.site import Visitor, ask, form, local_time, page, visitor
from agent.web.words import number_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.web.client import Answer
    from agent.web.words import LocalTime

QUALITIES = {
    Quality.MEASURED: N_("measured and checked"),
    Quality.RAW: N_("measured, not fully checked"),
    Quality.SUSPECT: N_("suspect"),
    Quality.ESTIMATED: N_("estimated"),
    Quality.CORRECTED: N_("corrected"),
    Quality.CALCULATED: N_("calculated"),
}
FLAGS = {
    Flag.CLOCK: N_("dated afterwards, or the meter's clock is wrong"),
    Flag.ROLLED: N_("the index has rolled over to 0"),
    Flag.EXCHANGED: N_("the meter was exchanged"),
    Flag.RESET: N_("the index fell without rolling over"),
    Flag.RANGE: N_("outside the possible range"),
    Flag.FROZEN: N_("unchanged for longer than is likely"),
    Flag.SPIKE: N_("changed faster than is possible"),
    Flag.LATE: N_("read late"),
    Flag.UNPROVEN: N_("its factor is not proven"),
}
"""remarks on a value that help a person"""
NO_DEVICE = N_(
    "there is no device {device} on the line {line}, or your role does not see it. To list the"
    " devices, open the page of lines"
)
SERIAL = "serial"
"""the point of a device's serial number"""
DIGITS = 5
"""of a value that is no index"""


async def show(request: web.Request) -> web.StreamResponse:
    """Show each line with its devices."""
    status = await ask(request, "status")
    return await page(
        request, "lines.html", lines=lines_of(status),
        answering=answering, value_text=value_text,
    )  # fmt: skip


def lines_of(status: Answer) -> list[dict[str, Any]]:
    """Return the lines of a status as the template shows them."""
    lines = [
        {"name": name, **link, "shown": _devices(status, name)}
        for name, link in status["links"].items()
    ]
    return [line | _by_urgency(line) for line in lines]


def _by_urgency(line: dict[str, Any]) -> dict[str, Any]:
    """Return the devices to look at, and the others: a line may have two hundred."""
    quiet = [d for d in line["shown"] if not d["common"] and d["mark"] in {"fine", "note"}]
    return {
        "notable": [device for device in line["shown"] if device not in quiet],
        "quiet": quiet,
        "with_values": any(device["common"] for device in line["shown"]),
        "hidden": line["devices"] - len(line["shown"]),
    }


def _devices(status: Answer, line: str) -> list[dict[str, Any]]:
    """Return the devices of a line that the person sees: common plant, then by place and name."""
    devices = [
        device_of(name, device, status)
        for name, device in status["devices"].items()
        if device["link"] == line
    ]
    return sorted(
        devices,
        key=lambda device: (
            not device["common"],
            in_order(device["place"]),
            in_order(device["name"]),
        ),
    )


def device_of(name: str, device: Answer, status: Answer) -> dict[str, Any]:
    """Return a device of a status as the templates show it. Values only of common plant."""
    fault = device["failures"] or not status["links"][device["link"]]["open"]
    mark = "bad" if fault else "warn" if device["odd"] or device["said"] else "fine"
    if mark == "fine" and not device["answered"]:
        mark = "note"
    common, uplinks, place = device.get("common", False), status["uplinks"], device["place"] or ""
    if mark == "fine" and device["held"] and set(uplinks) <= device["held"].keys():
        mark = "note"
    return {
        **device,
        "name": name,
        "path": f"/lines/{quote(device['link'], safe='')}/{quote(name, safe='')}",
        "mark": mark,
        "place": shown(place) if looks_like_id(place) else place,
        "state": device_state(device, uplinks),
        "common": common,
        "points": {
            point: sample if common else sample | {"value": None, "detail": ""}
            for point, sample in device["latest"].items()
        },
    }


def value_text(sample: Answer, language: str) -> str:
    """Return the value of a point with its unit, or why there is none."""
    if sample["value"] is None:
        return "–"
    value, channel = sample["value"], channels().get(sample["channel"] or "")
    if channel is not None and channel.kind is not ValueKind.REG and isinstance(value, str):
        with suppress(InvalidOperation):
            # what is measured has no more digits; an index is shown as the meter gives it
            value = f"{Context(prec=DIGITS).create_decimal(value):f}"
    return number_text(value, sample["unit"], language)


def remark(sample: Answer, language: str) -> str:
    """Return what can be said of a value: its quality, remarks, or why there is none."""
    parts: list[str] = []
    if sample["value"] is not None:
        parts.append(QUALITIES.get(sample.get("quality", ""), ""))
        parts += [FLAGS[flag] for flag in sample.get("flags", ()) if flag in FLAGS]
    elif sample["why"]:
        parts.append(N_("no value"))
    texts = [Text(part).in_language(language) for part in parts if part]
    texts += [in_language(sample["detail"], language)] if sample["detail"] else []
    return ", ".join(texts)


def quantity(sample: Answer, language: str) -> str:
    """Return what a point measures."""
    return quantity_name(sample["channel"], language)


def quantity_name(channel: str | None, language: str) -> str:
    """Return the name of a channel for people; empty if there is none."""
    return label(channel, language) if channel is not None and channel in channels() else ""


async def device(request: web.Request) -> web.StreamResponse:
    """Show a device: its points, and of common plant its values and its history."""
    status, chosen = await _chosen(request)
    return await _device_page(request, status, chosen, {})


async def read_now(request: web.Request) -> web.StreamResponse:
    """Read a device and show what it answers. Of a dwelling's meter that needs a reason."""
    fields = await form(request)
    status, chosen = await _chosen(request)
    answer = await ask(
        request, "read", reason=str(fields.get("reason", "")).strip(), device=chosen["name"]
    )
    return await _device_page(request, status, chosen, answer)


async def _chosen(request: web.Request) -> tuple[Answer, dict[str, Any]]:
    """Return the status and the device that the address names. Raises Refused."""
    status = await ask(request, "status")
    line, name = request.match_info["line"], request.match_info["device"]
    configured = status["devices"].get(name)
    if configured is None or configured["link"] != line:
        raise Refused(NO_DEVICE, device=name, line=line)
    return status, device_of(name, configured, status)


async def _device_page(
    request: web.Request, status: Answer, chosen: dict[str, Any], answer: Answer
) -> web.StreamResponse:
    asks = visitor(request)
    plots, series = [], []
    if chosen["common"]:
        series = await series_of(request, chosen["name"])
        plots = await figures(request, series, f"{chosen['path']}/history.csv")
    return await page(
        request,
        "device.html",
        device=chosen,
        line=status["links"][chosen["link"]],
        rows=_rows(chosen["points"], asks.language),
        answer=answer,
        read=_rows(answer.get("points", {}), asks.language),
        proofs=await _proofs(request, asks, chosen),
        findings=[
            finding
            for finding in map(Finding.of, status["events"])
            if finding.what.values.get("device") == chosen["name"]
        ],
        may_read=asks.may(Right.READ) and (chosen["common"] or asks.may(Right.METERS)),
        plots=plots,
        spans=SPANS,
        span=span_of(request),
    )  # fmt: skip


def _rows(points: Mapping[str, Answer], language: str) -> list[dict[str, Any]]:
    return [
        {
            "point": name,
            "quantity": quantity(sample, language),
            # a serial number is no quantity
            "value": value_text(sample, language)
            if name != SERIAL
            else str(sample["value"] or "–"),
            "at": sample["at"],
            "remark": remark(sample, language) if name != SERIAL else "",
        }
        for name, sample in points.items()
    ]


async def _proofs(request: web.Request, asks: Visitor, chosen: dict[str, Any]) -> list[Answer]:
    """Return how the factors of a dwelling's meter are proven."""
    if chosen["common"] or not asks.may(Right.SEE_PLACES):
        return []
    proofs: list[Answer] = (await ask(request, "meter.proofs", device=chosen["name"]))["proofs"]
    return proofs


async def history(request: web.Request) -> web.StreamResponse:
    """Answer the history of a device of common plant as CSV."""
    _status, chosen = await _chosen(request)
    if not chosen["common"]:
        raise Refused("the gateway keeps no history of dwellings")
    return csv_answer(await csv_text(request, chosen["name"]), f"{chosen['name']}.csv")


async def _texts(request: web.Request) -> Mapping[str, str]:
    """Return what the page of lines or of a device shows now."""
    status, clock = await ask(request, "status"), await local_time(request)
    language = visitor(request).language
    texts: dict[str, str] = {}
    marks: list[object] = []
    wanted = request.query.get("device")
    for line in lines_of(status):
        marks.append((line["name"], line["open"], bool(line["health"].get("worry"))))
        texts |= _line_texts(line, language)
        for each in line["shown"]:
            if wanted in {None, each["name"]}:
                marks.append((each["name"], each["mark"], list(each["points"])))
                texts |= _device_texts(each, clock, language)
    return texts | {"state": repr(marks)}


def _line_texts(line: dict[str, Any], language: str) -> dict[str, str]:
    name = line["name"]
    return {
        f"answering/{name}": answering(line).in_language(language),
        f"words/{name}": in_language(line["health"].get("words", ""), language),
    }


def _device_texts(device: dict[str, Any], clock: LocalTime, language: str) -> dict[str, str]:
    name = device["name"]
    texts = {
        f"state/{name}": device["state"].in_language(language),
        f"at/{name}": clock.time(device["answered"]),
    }
    if device["common"]:
        for point, sample in device["points"].items():
            texts[f"value/{name}/{point}"] = value_text(sample, language)
            texts[f"time/{name}/{point}"] = clock.time(sample["at"])
            texts[f"remark/{name}/{point}"] = remark(sample, language)
    return texts


def answering(line: Mapping[str, Any]) -> Text:
    """Return how many devices of a line answer."""
    number = line["devices"] - line["silent"] if line["open"] else 0
    return Text("{number} of {devices} answer", number=number, devices=line["devices"])


TEXTS["lines"] = _texts
ROUTES = [
    web.get("/lines", show),
    web.get("/lines/{line}/{device}", device),
    web.post("/lines/{line}/{device}", read_now),
    web.get("/lines/{line}/{device}/history.csv", history),
]
