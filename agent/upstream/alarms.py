"""What somebody must look at, out of the answer to `status`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agent.clock import stamp
from agent.storage import SPOOL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Alarm(NamedTuple):
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


def events(answer: Mapping[str, Any]) -> list[Alarm]:
    """Everything that somebody must look at, the building's own matters first."""
    found = [*_gateway(answer)]
    for name, link in answer["links"].items():
        found += _link(name, link)
    for name, control in answer.get("controls", {}).items():
        if control["alarm"]:
            found.append(Alarm("control", f"control {name}: {control['alarm']}"))
    for name, uplink in answer["uplinks"].items():
        found += _uplink(name, uplink)
    return found


def _gateway(answer: Mapping[str, Any]) -> Iterator[Alarm]:
    if why := answer["clock_said"]:
        yield Alarm("clock", f"readings wait to be dated: {why}")
    if why := answer.get("disk_said"):
        yield Alarm("disk", why)
    authority = answer.get("authority") or {}
    if authority.get("alarm"):
        yield Alarm("trust", authority["alarm"])
    if authority.get("unwritten"):
        unwritten = _count(authority["unwritten"], "decision")
        yield Alarm("audit", f"{unwritten} could not be written into the audit chain")
    if number := authority.get("set_aside"):
        objects = _count(number, "signed object")
        yield Alarm(
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
        yield Alarm("backup", f"the building file is not up to date: {why}")
    yield from _syndic(answer.get("syndic"))
    certificate = answer.get("certificate")
    if certificate and certificate["alarm"]:
        yield Alarm("certificate", certificate["alarm"])


def _faults(found: Sequence[Mapping[str, Any]]) -> Iterator[Alarm]:
    """Components that do not work; their words may name devices, and are not for recipients."""
    for component in dict.fromkeys(fault["component"] for fault in found):
        faults = [fault for fault in found if fault["component"] == component]
        kinds = ", ".join(sorted({fault["error"] for fault in faults}))
        yield Alarm(
            "fault",
            f"{component}: an unexpected error ({kinds}); what it stopped is tried again by itself",
            faults[0]["uplink"],
        )


def _storage(answer: Mapping[str, Any]) -> Iterator[Alarm]:
    """Which stores cannot be written, and what that means."""
    found = answer.get("storage")
    if found is None:
        return
    faults = dict(found["faults"])
    in_memory = [name for name, one in answer["uplinks"].items() if one.get("kept")]
    reasons = [faults.pop(f"{SPOOL}{name}", {}).get("reason", "") for name in in_memory]
    if in_memory:
        why = next(filter(None, reasons), "the disk fails")
        yield Alarm(
            "storage",
            "what is read now waits in memory, and what is not delivered is lost when the power"
            f" goes: {why}. Replace the disk or card: docs/replace.md",
        )
    if why := found["controls"]:
        yield Alarm(
            "storage",
            f"controls: released, because {why}; no order is carried out until it can be written."
            " Replace the disk or card: docs/replace.md",
        )
        return
    for name, fault in faults.items():
        yield Alarm(
            "storage",
            f"{name} cannot be written since {fault['since']}: {fault['reason']}."
            " If it stays so, replace the disk or card: docs/replace.md",
            name.removeprefix(SPOOL) if name.startswith(SPOOL) else None,
        )


def _syndic(found: Mapping[str, Any] | None) -> Iterator[Alarm]:
    """Of the exports of the syndic's software; what they say is nobody else's."""
    if found is None:
        return
    if why := found["unreachable"]:
        text = "the exports of the syndic's software are not taken"
        yield Alarm("syndic", text, here=f"{text}: {why}")
    if why := found["refused"]:
        text = "the last export of the syndic's software was refused, and nothing of it taken"
        yield Alarm("syndic", text, here=f"{text}: {why}")
    if number := found["waiting"]:
        rows = "1 row waits" if number == 1 else f"{number} rows wait"
        yield Alarm(
            "syndic",
            f"syndic export: {rows} for a person to decide: gardien occupancy proposed",
        )
    if since := found["overdue_since"]:
        yield Alarm("syndic", f"there is no new export of the syndic's software since {since}")


def _restored(found: Mapping[str, Any] | None) -> Iterator[Alarm]:
    """Of a restored state that may not have heard yet what was withdrawn since."""
    if found is None:
        return
    if found["listens"]:
        since = f" since {found['made']}" if found["made"] else ""
        yield Alarm(
            "restored",
            f"nothing is sent after the restore before all that was said{since} has come",
        )
    for name, one in found["uplinks"].items():
        if found["listens"] and one["waits"]:
            wait = _count(-(-one["waits"] // 60), "minute")
            yield Alarm(
                "restored",
                f"uplink {name} has not brought all signed objects that can be known of: all, or"
                f" {wait} more of connection, is waited for",
                name,
            )
        elif one["unproved"]:
            yield Alarm(
                "restored-unproved",
                f"uplink {name}: its platform never said that all signed objects have come since"
                " the restore: compare what was withdrawn; `gardien object all-came` ends this",
                name,
            )


def _link(name: str, link: Mapping[str, Any]) -> Iterator[Alarm]:
    if not link["open"]:
        yield Alarm("line-down", f"line {name} is down: {link['error']}")
    elif link["silent"]:
        yield Alarm("device-silent", f"line {name}: {_count(link['silent'], 'device')} silent")
    for proposal in link["proposals"]:
        text = f"line {name}: a meter is silent and an unknown one answers"
        yield Alarm("exchange", text, here=f"line {name}: {proposal}")
    for one in link["disturbers"]:
        yield Alarm("line-disturbed", f"line {name}: a device breaks the line", here=_breaks(one))
    if (found := link["disturbed"])["devices"]:
        yield Alarm(
            "line-disturbed",
            f"line {name} is disturbed as a whole",
            here=f"line {name} is disturbed: errors with {found['devices']} of"
            f" {_count(found['of'], 'device')}: check termination, shield and power of the line",
        )
    if worry := link["health"].get("worry"):
        yield Alarm("line-worry", f"line {name}: {worry}")


def _breaks(one: Mapping[str, Any]) -> str:
    """Who breaks a line, how often, how, and what to do."""
    who = one["device"] or f"the device at address {one['address']}, which is not configured,"
    times = {0: "not", 1: "once"}.get(one["today"], f"{one['today']} times")
    asked = "; until it is well it is asked last, and less often" if one["device"] else ""
    return (
        f"{who} breaks the line: {times} today. It {one['how']}. Check its wiring, termination and"
        f" address, or take it off the line{asked}"
    )


def _uplink(name: str, uplink: Mapping[str, Any]) -> Iterator[Alarm]:
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
        yield Alarm(code, text, name)


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
