"""The devices of a visit: searched on the lines, tried, and added to the configuration."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from agent.api.visit_steps import remember_search
from agent.core.errors import Refused
from agent.core.i18n import Plural, Text
from agent.drivers.base import readable
from agent.registry.records import serial_key
from agent.web.client import Answer
from agent.web.pages.visit.found_lines import configured
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
    from collections.abc import Mapping, Sequence

    from agent.web.client import Client
    from agent.web.jobs import Job

FEW = 3
"""numbers of meters that a sentence names"""


async def show(request: web.Request) -> web.StreamResponse:
    """Show which lines were searched, and what was found on them."""
    links, visit, scan = await configured(request), await kept(request), job(request, "scan")
    devices = devices_of(scan)
    numbers = await _listed(request)
    listed = bool(numbers)
    for device in devices:
        numbers.pop(serial_key(device["number"] or ""), None)
    return await step_page(
        request,
        "visit_search.html",
        "scan",
        links=links,
        searched=visit.get("scanned", {}),
        last=visit.get("last", {}),
        scan=scan,
        found=[one for one in devices if not one["configured"] and readable(one["entry"])],
        unknown=[one for one in devices if not readable(one["entry"])],
        configured_before=sum(one["configured"] for one in devices),
        odd=[one for one in (scan.last.get("odd", ()) if scan else ()) if not one["expected"]],
        missing=_missing(list(numbers.values())) if scan and listed else "",
        slow=[name for name, link in links.items() if _slow(link)],
    )


def devices_of(scan: Job | None) -> Sequence[Answer]:
    """Return the devices that a search has found so far."""
    return [one["device"] for one in scan.items if "device" in one] if scan else []


async def _listed(request: web.Request) -> dict[str, str]:
    """Return the serial numbers of the recorded meters, by their key."""
    meters = (await ask(request, "meter.list"))["meters"]
    return {serial_key(one["serial"]): one["serial"] for one in meters if one["serial"]}


def _slow(link: Mapping[str, Any]) -> bool:
    """Whether a line is searched by number, which takes minutes."""
    return str(link.get("driver", "")).startswith("mbus")


def _missing(numbers: Sequence[str]) -> Text:
    """A sentence about the meters of the list that no line has so far."""
    if not numbers:
        return Text("All meters of the list were found.")
    return Plural("{number} meter of the list was not found yet ({names}).",
                  "{number} meters of the list were not found yet ({names}).", len(numbers),
                  names=[*numbers[:FEW], *["…"][: len(numbers) > FEW]])  # fmt: skip


async def search(request: web.Request) -> web.StreamResponse:
    """Begin to search lines: those of M-Bus last, and there first for the meters of the list."""
    fields = await form(request)
    links = await configured(request)
    chosen = sorted(
        (one for one in map(str, fields.getall("link", [])) if one in links),
        key=lambda name: _slow(links[name]),
    )
    if not chosen:
        raise Refused("choose a line")
    numbers, others = await _listed(request), bool(fields.get("others"))
    wishes = [
        (name, bool(_slow(links[name]) and numbers and not others), _slow(links[name]))
        for name in chosen
    ]
    visit = await kept(request)

    async def work(running: Job) -> dict[str, str]:
        refused = dict[str, str]()
        for name, listed, slow in wishes:
            before = len(running.items)
            running.text, running.done, running.total = Text("searching {link} …", link=name), 0, 0
            wish = {
                "link": name,
                "expected": [] if slow and not listed else list(numbers.values()),
                "expected_only": listed,
                "listen": not (slow and others),
                "last": str(visit.get("last", {}).get(name) or ""),
            }
            try:
                await running.take(_followed(request, wish))
            except Refused as refusal:
                refused[name] = refusal.text
            finally:
                # a slow line takes hours: what was found before a person stopped it counts
                devices = [one["device"] for one in running.items[before:] if "device" in one]
                for device in devices:
                    numbers.pop(serial_key(device["number"] or ""), None)
                async with changing(request) as changed:
                    remember_search(changed, name, devices, running.last.pop("odd", ()))
                    if name not in refused:
                        changed.setdefault("scanned", {})[name] = time.time()
        return refused

    site(request).jobs.begin(visitor(request).login, "scan", work, lines=chosen)
    raise to("/visit/search")


def _followed(request: web.Request, wish: Mapping[str, Any]) -> Any:
    daemon: Client = site(request).daemon
    return daemon.follow("scan", visitor(request).login, **wish)


async def add(request: web.Request) -> web.StreamResponse:
    """Add the devices that a person has chosen, under the names that stand beside them."""
    fields = await form(request)
    devices, entries = devices_of(job(request, "scan")), dict[str, Answer]()
    for name in map(str, fields.getall("add", [])):
        device = next((one for one in devices if one["name"] == name), None)
        if device is not None and readable(device["entry"]):
            entries[str(fields.get(f"name-{name}", "")).strip() or name] = device["entry"]
    if not entries:
        raise Refused("no device was chosen")
    answer = await _added(request, entries)
    added = [entries[one] for one in answer["added"] if one in entries]
    for device in devices:
        device["configured"] = device["configured"] or device["entry"] in added
    raise to("/visit/search")


async def try_device(request: web.Request) -> web.StreamResponse:
    """Read a device that is not configured, so that a person sees whether it is the right one."""
    fields = await form(request)
    name, why = str(fields.get("try", "")), needed_reason(request, fields)
    device = next((one for one in devices_of(job(request, "scan")) if one["name"] == name), None)
    text = {key: str(value).strip() for key, value in fields.items()}
    if device is not None:
        entry, name = device["entry"], text.get(f"name-{name}") or name
    else:
        entry = {one: text[one] for one in ("link", "address", "profile") if text.get(one)}
        name = text.get("name", "") or f"{text.get('link')}-{text.get('address')}"
    answer = await ask(request, "device.try", reason=why, entry=entry)
    site(request).jobs.keep(visitor(request).login, "try", answer, called=name, entry=entry)
    raise on_to(request, "/visit/search/tried", why)


async def tried(request: web.Request) -> web.StreamResponse:
    """Show what a device has answered."""
    attempt = job(request, "try")
    if attempt is None:
        raise to("/visit/search")
    return await step_page(request, "visit_tried.html", "scan", attempt=attempt)


async def add_tried(request: web.Request) -> web.StreamResponse:
    """Add the device that was tried."""
    fields = await form(request)
    attempt = job(request, "try")
    if attempt is None:
        raise Refused("this was too long ago: try the device again")
    entry: Answer = attempt.about["entry"]
    await _added(request, {str(fields.get("name", "")).strip(): entry})
    for device in devices_of(job(request, "scan")):
        device["configured"] = device["configured"] or device["entry"] == entry
    site(request).jobs.forget(visitor(request).login, "try")
    raise to("/visit/search")


async def _added(request: web.Request, entries: Mapping[str, Answer]) -> Answer:
    answer = await ask(request, "config.devices.add", devices=entries)
    many = len(answer["added"])
    tell(request, "fine" if many else "note",
         Plural("{number} device was added to {file}", "{number} devices were added to {file}",
                many, file=answer["file"])
         if many else Text("these devices are configured already"))  # fmt: skip
    await done(request, "scan")
    return answer


ROUTES = [
    web.get("/visit/search", show),
    web.post("/visit/search", search),
    web.post("/visit/search/add", add),
    web.post("/visit/search/try", try_device),
    web.get("/visit/search/tried", tried),
    web.post("/visit/search/tried", add_tried),
]
