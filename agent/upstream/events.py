"""What somebody must look at, out of the answer to `status`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agent.clock import stamp
from agent.storage import SPOOL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Event(NamedTuple):
    """One thing that is not as it should be."""

    code: str
    """for programs"""
    text: str
    """for people"""
    uplink: str | None = None
    """the uplink it concerns; None: all"""
    here: str = ""
    """the same for people at the gateway, with names of devices, which nobody else is told; empty:
    `text`
    """


def events(answer: Mapping[str, Any]) -> list[Event]:
    """Everything that somebody must look at, the building's own matters first."""
    found = [*_gateway(answer)]
    for name, link in answer["links"].items():
        found += _link(name, link)
    for name, control in answer.get("controls", {}).items():
        if control["alarm"]:
            found.append(Event("control", f"control {name}: {control['alarm']}"))
    for name, uplink in answer["uplinks"].items():
        found += _uplink(name, uplink)
    return found


def _gateway(answer: Mapping[str, Any]) -> Iterator[Event]:
    if why := answer["clock_said"]:
        yield Event("clock", f"readings wait to be dated: {why}")
    if why := answer.get("disk_said"):
        yield Event("disk", why)
    authority = answer.get("authority") or {}
    if authority.get("alarm"):
        yield Event("trust", authority["alarm"])
    if authority.get("unwritten"):
        unwritten = _count(authority["unwritten"], "decision")
        yield Event("audit", f"{unwritten} could not be written into the audit chain")
    if number := authority.get("set_aside"):
        objects = _count(number, "signed object")
        yield Event(
            "object",
            f"{objects} could not be evaluated because of an error in gardien, and is set aside:"
            " `gardien object list` names it"
            if number == 1
            else f"{objects} could not be evaluated because of an error in gardien, and are set"
            " aside: `gardien object list` names them",
        )
    yield from _faults(answer.get("faults", ()))
    yield from _storage(answer)
    yield from _restored(answer.get("restored"))
    if why := answer.get("backup_said"):
        yield Event("backup", f"the building file is not up to date: {why}")
    yield from _syndic(answer.get("syndic"))
    certificate = answer.get("certificate")
    if certificate and certificate["alarm"]:
        yield Event("certificate", certificate["alarm"])


def _faults(found: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
    """Components that do not work; their words may name devices, and are not for recipients."""
    for component in dict.fromkeys(fault["component"] for fault in found):
        faults = [fault for fault in found if fault["component"] == component]
        kinds = ", ".join(sorted({fault["error"] for fault in faults}))
        yield Event(
            "fault",
            f"{component}: an unexpected error ({kinds}); what it stopped is tried again by itself",
            faults[0]["uplink"],
        )


def _storage(answer: Mapping[str, Any]) -> Iterator[Event]:
    """Which stores cannot be written, and what that means."""
    found = answer.get("storage")
    if found is None:
        return
    faults = dict(found["faults"])
    in_memory = [name for name, one in answer["uplinks"].items() if one.get("kept")]
    reasons = [faults.pop(f"{SPOOL}{name}", {}).get("reason", "") for name in in_memory]
    if in_memory:
        why = next(filter(None, reasons), "the disk fails")
        yield Event(
            "storage",
            "what is read now waits in memory, and what is not delivered is lost when the power"
            f" goes: {why}. Replace the disk or card: docs/replace.md",
        )
    if why := found["controls"]:
        yield Event(
            "storage",
            f"controls: released, because {why}; no order is carried out until it can be written."
            " Replace the disk or card: docs/replace.md",
        )
        return
    for name, fault in faults.items():
        yield Event(
            "storage",
            f"{name} cannot be written since {fault['since']}: {fault['reason']}."
            " If it stays so, replace the disk or card: docs/replace.md",
            name.removeprefix(SPOOL) if name.startswith(SPOOL) else None,
        )


def _syndic(found: Mapping[str, Any] | None) -> Iterator[Event]:
    """Of the exports of the syndic's software; what they say is nobody else's."""
    if found is None:
        return
    if why := found["unreachable"]:
        text = "the exports of the syndic's software are not taken"
        yield Event("syndic", text, here=f"{text}: {why}")
    if why := found["refused"]:
        text = "the last export of the syndic's software was refused, and nothing of it taken"
        yield Event("syndic", text, here=f"{text}: {why}")
    if number := found["waiting"]:
        rows = "1 row waits" if number == 1 else f"{number} rows wait"
        yield Event(
            "syndic",
            f"syndic export: {rows} for a person to decide: gardien occupancy proposed",
        )
    if since := found["overdue_since"]:
        yield Event("syndic", f"there is no new export of the syndic's software since {since}")


def _restored(found: Mapping[str, Any] | None) -> Iterator[Event]:
    """Of a restored state that may not have heard yet what was withdrawn since."""
    if found is None:
        return
    if found["listens"]:
        since = f" since {found['made']}" if found["made"] else ""
        yield Event(
            "restored",
            f"nothing is sent after the restore before all that was said{since} has come",
        )
    for name, one in found["uplinks"].items():
        if found["listens"] and one["waits"]:
            wait = _count(-(-one["waits"] // 60), "minute")
            yield Event(
                "restored",
                f"uplink {name} has not brought all signed objects that can be known of: all, or"
                f" {wait} more of connection, is waited for",
                name,
            )
        elif one["unproved"]:
            yield Event(
                "restored-unproved",
                f"uplink {name}: its platform never said that all signed objects have come since"
                " the restore: compare what was withdrawn; `gardien object all-came` ends this",
                name,
            )


def _link(name: str, link: Mapping[str, Any]) -> Iterator[Event]:
    if not link["open"]:
        yield Event("line-down", f"line {name} is down: {link['error']}")
    elif link["silent"]:
        yield Event("device-silent", f"line {name}: {_count(link['silent'], 'device')} silent")
    for proposal in link["proposals"]:
        text = f"line {name}: a meter is silent and an unknown one answers"
        yield Event("exchange", text, here=f"line {name}: {proposal}")
    for one in link["disturbers"]:
        yield Event("line-disturbed", f"line {name}: a device breaks the line", here=_breaks(one))
    if (found := link["disturbed"])["devices"]:
        yield Event(
            "line-disturbed",
            f"line {name} is disturbed as a whole",
            here=f"line {name} is disturbed: errors with {found['devices']} of"
            f" {_count(found['of'], 'device')}: check termination, shield and power of the line",
        )
    if worry := link["health"].get("worry"):
        yield Event("line-worry", f"line {name}: {worry}")


def _breaks(one: Mapping[str, Any]) -> str:
    """Who breaks a line, how often, how, and what to do."""
    who = one["device"] or f"the device at address {one['address']}, which is not configured,"
    times = {0: "not", 1: "once"}.get(one["today"], f"{one['today']} times")
    asked = "; until it is well it is asked last, and less often" if one["device"] else ""
    return (
        f"{who} breaks the line: {times} today. It {one['how']}. Check its wiring, termination and"
        f" address, or take it off the line{asked}"
    )


def _uplink(name: str, uplink: Mapping[str, Any]) -> Iterator[Event]:
    delivery, backlog = uplink["delivery"], uplink["backlog"]
    said: list[tuple[str, str]] = []
    if not delivery["connected_since"]:
        said.append(("uplink-down", f"uplink {name} is not connected{_why(delivery)}"))
    if delivery["alarm"]:
        said.append(("not-consuming", f"uplink {name}: {delivery['alarm']}"))
    if backlog["quarantined"]:
        said.append(("quarantine", f"uplink {name}: {_refused(name, backlog)}"))
    if uplink["shed_rows"]:
        dropped = _count(uplink["shed_rows"], "value")
        said.append(("shed", f"uplink {name}: {dropped} dropped for space"))
    file = uplink.get("building")
    if file and file["late"]:
        made = f"the building file of {file['made'][:10]}"
        said.append(("backup", f"uplink {name}: its platform has not said that it holds {made}"))
    if over := uplink.get("data", {}).get("said"):
        said.append(("data", f"uplink {name}: {over}"))
    for code, text in said:
        yield Event(code, text, name)


def _refused(name: str, backlog: Mapping[str, Any]) -> str:
    since = backlog["quarantined_since"]
    number = backlog["quarantined"]
    text = f"{number} batch refused" if number == 1 else f"{number} batches refused"
    if since is not None:
        text += f" since {stamp(since)}"
    if why := backlog["quarantined_why"]:
        text += f": {why}"
    return (
        f"{text}; what they hold is kept, and tried again by itself after a day at the latest;"
        f" `gardien uplink retry {name}` tries it at once"
    )


def _why(delivery: Mapping[str, Any]) -> str:
    return f": {why}" if (why := delivery.get("lost")) else ""


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
