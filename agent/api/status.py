"""The gateway's own part of the status, and the alarms that follow from a status."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.storage import SPOOL
from agent.enrolment import calls, credential
from agent.gateway import key_rotation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.config import Config
    from agent.gateway.gateway import Gateway, Recipient, Recipients

AHEAD = 1.1
"""ratio of used data to the month's share from which a warning is shown"""


LEAST_FREE = 4_000_000
"""bytes: a disk with less free space counts as full, whatever the reserve"""


def own_status(gateway: Gateway) -> dict[str, Any]:
    """Configuration, disk, certificate and the rotation of the spool key."""
    config, usage = gateway.config, shutil.disk_usage(gateway.config.state)
    return {
        "configuration": config.fingerprint,
        "disk": {"free": usage.free, "total": usage.total},
        "disk_said": full(config, usage.free, gateway.recipients),
        "certificate": certificate(gateway),
        "rotation": key_rotation.standing(gateway),
    }


def full(config: Config, free: int, recipients: Recipients) -> str:
    """What a full disk costs and what to do; empty: the disk is not full."""
    lacking = max(config.spool.reserve, LEAST_FREE) - free
    if lacking <= 0:
        return ""
    deleting = any(one.spool.disk_full for one in recipients.values())
    effect = (
        "the oldest unsent readings are deleted to make room for new ones"
        if deleting
        else "nothing is deleted yet, but the spools can no longer grow"
    )
    return (
        f"the disk of {config.state} is full: {effect}; current readings are still sent."
        f" Free at least {-(-lacking // 10**7) * 10} MB"
    )


def certificate(gateway: Gateway) -> dict[str, Any] | None:
    """The certificate and its validity; None: no certificate is installed."""
    state = gateway.config.state
    if not gateway.identity or not credential.path(state).exists():
        return None
    try:
        own = credential.load(state)
    except Refused as error:
        return {"not_after": None, "days_left": 0, "validity": str(error), "alarm": str(error)}
    summary = calls.about(own, gateway.identity.gateway, gateway.clock.now())
    return summary | {"alarm": summary["alarm"] or gateway.certificate.problem}


def moved(gateway: Gateway, recipient: Recipient) -> dict[str, Any]:
    """Data used by a recipient's line this month, and its budget, in bytes."""
    now = gateway.clock.now()
    counter = gateway.traffic.of(recipient.settings.recipient, now)
    options = gateway.config.uplinks.get(recipient.name)
    allowed = options.data if options else None
    warning = ""
    if allowed and counter.used >= allowed:
        warning = "this month's data budget is used up: only urgent data are sent"
    # at least a tenth: on the first days of a month each batch would be ahead of its share
    elif allowed and counter.used > AHEAD * allowed * max(gateway.traffic.share(now), 0.1):
        warning = "this month's data are used faster than planned: batches are sent less often"
    return {"month": counter.month, "used": counter.used, "budget": allowed, "said": warning}


class Alarm(NamedTuple):
    """One condition that needs attention."""

    code: str
    """for programs"""
    text: str
    """for people"""
    uplink: str | None = None
    """the uplink it concerns; None: all"""
    here: str = ""
    """the text for people at the gateway, who may see names of devices; empty: `text`"""


def events(answer: Mapping[str, Any]) -> list[Alarm]:
    """All alarms, those of the gateway itself first."""
    alarms = [*_gateway(answer)]
    for name, link in answer["links"].items():
        alarms += _link(name, link)
    for name, control in answer.get("controls", {}).items():
        if control["alarm"]:
            alarms.append(Alarm("control", f"control {name}: {control['alarm']}"))
    for name, uplink in answer["uplinks"].items():
        alarms += _uplink(name, uplink)
    return alarms


def _gateway(answer: Mapping[str, Any]) -> Iterator[Alarm]:
    if why := answer["clock_said"]:
        yield Alarm("clock", f"readings are kept undated: {why}")
    if why := answer.get("disk_said"):
        yield Alarm("disk", why)
    authority = answer.get("authority") or {}
    if authority.get("alarm"):
        yield Alarm("trust", authority["alarm"])
    if authority.get("unwritten"):
        unwritten = _count(authority["unwritten"], "decision")
        yield Alarm("audit", f"{unwritten} could not be written to the audit chain")
    if number := authority.get("set_aside"):
        objects = _count(number, "signed object")
        yield Alarm(
            "object",
            f"{objects} could not be evaluated because of an error in gardien, and is kept: list it"
            " with `gardien object list`"
            if number == 1
            else f"{objects} could not be evaluated because of an error in gardien, and are"
            " kept: list them with `gardien object list`",
        )
    yield from _faults(answer.get("faults", ()))
    yield from _storage(answer)
    yield from _restored(answer.get("restored"))
    if why := answer.get("backup_said"):
        yield Alarm("backup", f"the backup is not up to date: {why}")
    yield from _syndic(answer.get("syndic"))
    certificate = answer.get("certificate")
    if certificate and certificate["alarm"]:
        yield Alarm("certificate", certificate["alarm"])


def _faults(reported: Sequence[Mapping[str, Any]]) -> Iterator[Alarm]:
    """One alarm for each failed component.

    The error text stays here: it may name devices, and recipients must not learn those.
    """
    for component in dict.fromkeys(fault["component"] for fault in reported):
        faults = [fault for fault in reported if fault["component"] == component]
        kinds = ", ".join(sorted({fault["error"] for fault in faults}))
        yield Alarm(
            "fault",
            f"{component} stopped after an unexpected error ({kinds}); it is restarted"
            " automatically",
            faults[0]["uplink"],
        )


def _storage(answer: Mapping[str, Any]) -> Iterator[Alarm]:
    """Stores that cannot be written, and the consequences."""
    storage = answer.get("storage")
    if storage is None:
        return
    faults = dict(storage["faults"])
    in_memory = [name for name, one in answer["uplinks"].items() if one.get("kept")]
    # popped: spools in memory have the alarm below, and need none of their own
    reasons = [faults.pop(f"{SPOOL}{name}", {}).get("reason", "") for name in in_memory]
    if in_memory:
        why = next(filter(None, reasons), "the disk fails")
        yield Alarm(
            "storage",
            f"new readings are kept in memory only, because {why}; undelivered ones are lost in a"
            " power cut. Replace the disk or card: docs/replace.md",
        )
    if why := storage["controls"]:
        yield Alarm(
            "storage",
            f"all controls are released, because {why}; no order is carried out until the disk"
            " works. Replace the disk or card: docs/replace.md",
        )
        return
    for name, fault in faults.items():
        yield Alarm(
            "storage",
            f"{name} cannot be written since {fault['since']}: {fault['reason']}."
            " If this persists, replace the disk or card: docs/replace.md",
            name.removeprefix(SPOOL) if name.startswith(SPOOL) else None,
        )


def _syndic(syndic: Mapping[str, Any] | None) -> Iterator[Alarm]:
    """Exports of the building manager's software; their content is shown at the gateway only."""
    if syndic is None:
        return
    if why := syndic["unreachable"]:
        text = "the exports of the syndic's software cannot be fetched"
        yield Alarm("syndic", text, here=f"{text}: {why}")
    if why := syndic["refused"]:
        text = "the last export of the syndic's software was refused; none of it was recorded"
        yield Alarm("syndic", text, here=f"{text}: {why}")
    if number := syndic["waiting"]:
        rows = "1 row needs" if number == 1 else f"{number} rows need"
        yield Alarm(
            "syndic",
            f"syndic export: {rows} a decision: gardien occupancy proposed",
        )
    if since := syndic["overdue_since"]:
        yield Alarm("syndic", f"no new export of the syndic's software has arrived since {since}")


def _restored(restored: Mapping[str, Any] | None) -> Iterator[Alarm]:
    """A restored state that may not know yet of later withdrawals."""
    if restored is None:
        return
    if restored["listens"]:
        since = f" since {restored['made']}" if restored["made"] else ""
        yield Alarm(
            "restored",
            f"after the restore nothing is sent until all signed objects{since} have arrived",
        )
    for name, uplink in restored["uplinks"].items():
        if restored["listens"] and uplink["waits"]:
            wait = _count(-(-uplink["waits"] // 60), "minute")
            yield Alarm(
                "restored",
                f"uplink {name} has not delivered all signed objects yet; sending starts once it"
                f" has, or after {wait} more of connection",
                name,
            )
        elif uplink["unproved"]:
            yield Alarm(
                "restored-unproved",
                f"uplink {name}: its platform has not confirmed that all signed objects arrived"
                " after the restore. Compare the withdrawals with the platform, then run:"
                " gardien object all-came",
                name,
            )


def _link(name: str, link: Mapping[str, Any]) -> Iterator[Alarm]:
    if not link["open"]:
        yield Alarm("line-down", f"line {name} is down: {link['error']}")
    elif link["silent"]:
        yield Alarm("device-silent", f"line {name}: {_count(link['silent'], 'device')} silent")
    for proposal in link["proposals"]:
        # `text` goes to recipients, which must not learn the names of devices (rule P24)
        text = f"line {name}: a meter is silent and an unknown meter answers"
        yield Alarm("exchange", text, here=f"line {name}: {proposal}")
    for disturber in link["disturbers"]:
        yield Alarm(
            "line-disturbed", f"line {name}: a device disturbs the line", here=_breaks(disturber)
        )
    if (disturbed := link["disturbed"])["devices"]:
        yield Alarm(
            "line-disturbed",
            f"line {name} is disturbed as a whole",
            here=f"line {name} is disturbed: errors with {disturbed['devices']} of"
            f" {_count(disturbed['of'], 'device')}. Check termination, shield and power supply",
        )
    if worry := link["health"].get("worry"):
        yield Alarm("line-worry", f"line {name}: {worry}")


def _breaks(disturber: Mapping[str, Any]) -> str:
    """Which device disturbs a line, how often, how, and what to do."""
    address, today = disturber["address"], disturber["today"]
    who = disturber["device"] or f"the device at address {address}, which is not configured,"
    times = {0: "not", 1: "once"}.get(today, f"{today} times")
    rest = "; until it recovers it is read last and less often" if disturber["device"] else ""
    return (
        f"{who} disturbs the line: {times} today. It {disturber['how']}. Check its wiring,"
        f" termination and address, or disconnect it{rest}"
    )


def _uplink(name: str, uplink: Mapping[str, Any]) -> Iterator[Alarm]:
    delivery, backlog = uplink["delivery"], uplink["backlog"]
    alarms: list[tuple[str, str]] = []
    if not delivery["connected_since"]:
        alarms.append(("uplink-down", f"uplink {name} is not connected{_why(delivery)}"))
    if delivery["alarm"]:
        alarms.append(("not-consuming", f"uplink {name}: {delivery['alarm']}"))
    if backlog["quarantined"]:
        alarms.append(("quarantine", f"uplink {name}: {_refused(name, backlog)}"))
    if uplink["shed_rows"]:
        dropped = _count(uplink["shed_rows"], "value")
        alarms.append(("shed", f"uplink {name}: {dropped} deleted because the spool is full"))
    file = uplink.get("building")
    if file and file["late"]:
        made = f"the backup of {file['made'][:10]}"
        alarms.append(("backup", f"uplink {name}: its platform has not confirmed {made}"))
    if over := uplink.get("data", {}).get("said"):
        alarms.append(("data", f"uplink {name}: {over}"))
    for code, text in alarms:
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
        f"{text}; their rows are kept and sent again within a day. To send them now:"
        f" gardien uplink retry {name}"
    )


def _why(delivery: Mapping[str, Any]) -> str:
    return f": {why}" if (why := delivery.get("lost")) else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
