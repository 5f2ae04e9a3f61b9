"""The calls of the guided visit (`gardien commission`): how far it is, and what is still open."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.api import commission, keys
from agent.api.commission import SWAP
from agent.api.proofs import WRONG, proofs
from agent.core.atomic_write import StateFile
from agent.core.errors import Refused
from agent.core.finding import Actor, Finding, Severity
from agent.core.i18n import Plural, Text
from agent.registry.records import covers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.api.registry import Call, Caller
    from agent.gateway.gateway import Gateway

FILE = "visit.json"
"""in the state directory: steps that are done, columns of lists, time and answers; no names"""
FEW = 8
"""names in one finding"""
SWAP_SHOWN = 30 * 86_400
"""seconds for which the correction of a list is shown, so that somebody tells the syndic"""


def _file(gateway: Gateway) -> StateFile[dict[str, Any]]:
    return StateFile(gateway.config.state / FILE, dict, dict, _damaged)


def _damaged(error: Exception) -> dict[str, Any]:
    # a visit that seems not to have begun would be begun again in place of this one
    if isinstance(error, OSError):
        raise Refused("{file}: {reason}", file=FILE, reason=error) from error
    return {}


async def show(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Return how far the visit is; empty: none has begun. Raises Refused if the disk fails."""
    del caller
    return {"visit": await gateway.disk.read(_file(gateway).load)}


async def keep(gateway: Gateway, caller: Caller, *, visit: dict[str, Any]) -> dict[str, Any]:
    """Record how far the visit is. It is on the disk when this returns. Raises NotRecorded."""
    del caller
    await asyncio.to_thread(_file(gateway).save, visit)
    return {}


async def still_open(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Return what a visit has left open, as findings with the command that continues.

    `meters`: as `meter.walk` lists them.
    """
    matching = await commission.meter_match(gateway, caller)
    walk = await commission.walk(gateway)
    kept = (await show(gateway, caller))["visit"]
    certified = False
    with suppress(Refused):  # it has no keys either
        certified = (await keys.show(gateway, caller))["certificate"] is not None
    found_open = [
        *_faults(gateway, kept, matching, walk),
        *_findings(gateway, matching, walk, certified=certified),
    ]
    return {"findings": [finding.wire() for finding in found_open], "meters": walk}


def begun(gateway: Gateway) -> bool:
    """Whether a guided visit was ever made here."""
    return (gateway.config.state / FILE).exists()


def _faults(
    gateway: Gateway,
    kept: Mapping[str, Any],
    matching: Mapping[str, Any],
    walk: Sequence[Mapping[str, Any]],
) -> Iterator[Finding]:
    """What the visit has found wrong with meters and their list."""
    lost = _few([f"{one['meter']} ({one['label']})" for one in matching["silent"]])
    proven = {one["device"] for one in walk if one["proof"] != "none"}
    for warning in kept.get("warnings", ()):
        # the display has shown what the search could only guess
        devices = [name for name in warning["devices"] if name not in proven]
        if not devices:
            continue
        what = Text("{names}: {warning}", names=_few(devices), warning=Text.of(warning["text"]))
        if warning.get("unknown") and matching["silent"]:
            what = Text("{what}. These may be among the meters of the list that were not found:"
                        " {names}", what=what, names=lost)  # fmt: skip
        yield _finding("device", Text("lines"), what, "gardien commission scan")
    owners = {one.id: one for one in gateway.registry.installations()}
    first = gateway.registry.first_provenance(owners)
    since = gateway.clock.now() - SWAP_SHOWN
    swapped = [
        one
        for one in owners.values()
        if covers(one, int(gateway.clock.now()))
        and first[one.id].source == SWAP
        and first[one.id].when > since
    ]
    if swapped:
        names = [Text("{name} measures {label}", name=one.meter,
                      label=gateway.registry.label(one.place) or one.place)
                 for one in swapped]  # fmt: skip
        what = Text("the list had the wrong dwellings for meters, which is corrected here: {names}."
                    " Bills made by the list were wrong: tell the syndic, and have the list"
                    " corrected", names=_few(names))  # fmt: skip
        finding = _finding("swapped", Text("meters"), what, "gardien meter list")
        yield replace(finding, actor=Actor.MANAGER)
    wrong = [
        Text("{name}: {text}", name=f"{one['label']} {one['serial'] or one['device']}",
             text=one["sentence"])
        for one in proofs(gateway)
        if one["proof"] == WRONG
    ] or [
        Text("{name}: it reads {factor} times what its display shows",
             name=f"{one['label']} {one['serial'] or one['device']}", factor=factor)
        for one in walk
        if (factor := kept.get("factors", {}).get(one["installation"])) and one["proof"] == "none"
    ]  # fmt: skip
    if wrong:
        what = Text("unit or factor is wrong, and the dwelling would be billed wrongly: {names}",
                    names=_few(wrong))  # fmt: skip
        yield _finding("factor", Text("meters"), what, "gardien commission flats")
    missing = [
        f"{one['label']} {one['serial'] or one['device']}"
        for one in proofs(gateway)
        if one["needed"] and one["proof"] == "none"
    ]
    if missing:
        what = Plural("the factor of {number} meter is not proven: {names}",
                      "the factors of {number} meters are not proven: {names}",
                      len(missing), names=_few(missing))  # fmt: skip
        yield _finding("proof", Text("meters"), what, "gardien meter proofs")
    clock = gateway.clock.standing()
    if clock["trust"] != "trusted" and not clock["person"] and gateway.daemon:
        what = Text("no time service confirms the clock: readings wait for a date")
        yield _finding("clock", Text("clock"), what, "sudo gardien clock set 2026-07-12T09:30")


def _finding(code: str, subject: Text, what: Text, command: str) -> Finding:
    return Finding(code=f"visit.{code}", subject=subject, what=what, command=command,
                   severity=Severity.LATER, actor=Actor.INSTALLER)  # fmt: skip


def _findings(
    gateway: Gateway,
    matching: Mapping[str, Any],
    walk: Sequence[Mapping[str, Any]],
    *,
    certified: bool,
) -> list[Finding]:
    config, dwellings = gateway.config, gateway.registry.dwellings()
    unproven = [one for one in walk if one["proof"] == "none"]
    measured = {one["label"] for one in walk}
    labels = [gateway.registry.label(place) or place for place in dwellings]
    bare = [label for label in labels if label not in measured]
    lines = Text("lines")
    meters = Text("meters")
    made = [
        (
            not config.links, "lines", lines, Text("no line is configured"),
            "gardien commission lines",
        ),
        (
            config.links and not config.devices, "devices", lines,
            Text("no device is configured on the lines"), "gardien commission scan",
        ),
        (
            not dwellings, "places", Text("dwellings"), Text("no dwelling is recorded"),
            "gardien commission list",
        ),
        (
            matching["silent"], "silent", meters,
            Plural("{number} meter of the list was not found: {names}",
                   "{number} meters of the list were not found: {names}",
                   len(matching["silent"]),
                   names=_few([Text("{name} ({label}): {why}", name=one["meter"],
                                    label=one["label"], why=one["why"])
                               for one in matching["silent"]])),
            "gardien commission scan",
        ),
        (
            matching["unlisted"], "unlisted", meters,
            Plural("{number} device answers, but is on no list: {names}",
                   "{number} devices answer, but are on no list: {names}",
                   len(matching["unlisted"]),
                   names=_few([one["serial"] or one["device"] for one in matching["unlisted"]])),
            "gardien commission list",
        ),
        (
            matching["doubled"], "doubled", meters,
            Text("found twice: {names}", names=_few(matching["doubled"])),
            "gardien meter list",
        ),
        (
            bare and walk, "unmeasured", Text("dwellings"),
            Plural("{number} dwelling has no meter: {names}",
                   "{number} dwellings have no meter: {names}", len(bare), names=_few(bare)),
            "gardien commission list",
        ),
        (
            unproven, "unproven", meters,
            Text("{number} of {all} meters were not compared with their display: {names}",
                 number=len(unproven), all=len(walk),
                 names=_few([f"{one['label']} {one['serial'] or one['device']}"
                             for one in unproven])),
            "gardien commission flats",
        ),
        (
            not config.uplinks, "uplink", Text("delivery"),
            Text("no uplink is configured, so nothing is sent"), "gardien commission delivery",
        ),
        (
            not certified, "certificate", Text("delivery"),
            Text("the gateway has no certificate"), "gardien commission delivery",
        ),
        (
            config.backup is None, "recovery", Text("backup"),
            Text("no recovery certificate: nobody could replace this gateway"),
            "gardien commission delivery",
        ),
        (
            not gateway.daemon, "daemon", Text("agent"),
            Text("gardien is not running, so no meter is read"),
            "sudo systemctl enable --now gardien",
        ),
    ]  # fmt: skip
    return [
        _finding(code, subject, what, command)
        for wrong, code, subject, what, command in made
        if wrong
    ]


def _few(names: Sequence[str]) -> list[str]:
    """Names as a value of a text. A list, because a report nests texts only so deep."""
    return [*names[:FEW], *["…"][: len(names) > FEW]]


CALLS: Mapping[str, Call] = {"visit.show": show, "visit.keep": keep, "visit.open": still_open}
"""calls by name"""
