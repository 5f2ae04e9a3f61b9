"""Findings about a running gateway: a pure function of the answer to `status`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from agent.buffer.upkeep import TRIED_ANEW
from agent.core.clock import NO_TIME_SERVICE, stamp
from agent.core.errors import StorageFailed
from agent.core.finding import DOCTOR, Actor, Finding, Severity, as_text, component_text
from agent.core.i18n import N_, Plural, Text
from agent.core.storage import SPOOL
from agent.enrolment.tls import UNKNOWN_ISSUER
from agent.uplink.base import WRONG_LOGIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MOST_NAMES = 8
"""devices that one sentence names"""
LONG_OUTAGE = 365
"""days; a spool that can take a longer outage is not mentioned"""
PAGE_CERTIFICATE_ENDS = timedelta(days=30)
"""before its end from which a warning is shown"""
DISK = "disk"
"""the common cause of everything that a disk does"""
REPLACE_DISK = N_("If this persists, replace the disk or card: docs/replace.md")
SET_CLOCK = "sudo timedatectl set-ntp true"
BUNDLE = "sudo gardien support-bundle --out FILE"


def findings(answer: Mapping[str, Any]) -> list[Finding]:
    """Return all findings, those of the gateway itself first."""
    made = [*_gateway(answer)]
    for name, link in answer["links"].items():
        on = {
            device: facts
            for device, facts in answer["devices"].items()
            if facts.get("link", name) == name
        }
        made += _link(name, link, on)
    for name, control in answer.get("controls", {}).items():
        made += _control(name, control)
    up = [one["delivery"]["connected_since"] for one in answer["uplinks"].values()]
    for name, uplink in answer["uplinks"].items():
        made += _uplink(name, uplink, answer["started"], all_down=up[1:] != [] and not any(up))
    return made


def names_of(names: Sequence[str]) -> Text:
    """Return names in one line, not more than a person reads."""
    shown, more = list(names[:MOST_NAMES]), len(names) - MOST_NAMES
    if more <= 0:
        return as_text(", ".join(shown))
    return Text("{names} and {number} more", names=shown, number=more)


def _gateway(answer: Mapping[str, Any]) -> Iterator[Finding]:
    if why := answer["clock_said"]:
        yield Finding(
            code="clock",
            subject=Text("clock"),
            what=Text("readings are kept undated"),
            severity=Severity.WAITING,
            since=answer.get("clock_since"),
            cost=Text(
                "Reason: {why}. They are sent once the clock is right; a restart before that loses"
                " them",
                why=why,
            ),
            cause="clock",
            actor=Actor.INSTALLER,
            command=SET_CLOCK if why == NO_TIME_SERVICE else "gardien clock",
        )
    elif until := answer.get("clock_person_until"):
        yield Finding(
            code="clock",
            subject=Text("clock"),
            what=Text("only a person's word keeps the clock"),
            severity=Severity.LATER,
            until=until,
            cost=Text(
                "Orders and signed permissions wait for a time service; after that day, readings"
                " wait too. State the time again before: gardien clock set"
            ),
            cause="clock",
            actor=Actor.INSTALLER,
            command=SET_CLOCK,
        )
    if full := answer.get("disk_full"):
        yield disk_full(full)
    yield from _authority(answer.get("authority") or {}, answer["now"])
    # what a failing disk stops is told by its own findings
    disk_fails = bool(answer.get("storage") and answer["storage"]["faults"])
    yield from _faults(
        fault
        for fault in answer.get("faults", ())
        if not (disk_fails and fault["error"] == StorageFailed.__name__)
        # without keys no spool can be opened: `no_keys` of machine.py tells it
        and not (answer.get("gateway", "") is None and fault["component"].startswith("spool "))
    )
    yield from _storage(answer)
    yield from _restored(answer.get("restored"))
    if why := answer.get("backup_said"):
        yield Finding(
            code="backup",
            subject=Text("backup"),
            what=Text("the backup is not up to date: {why}", why=why),
            severity=Severity.LATER,
            since=answer.get("backup_since"),
            cost=Text("If this gateway is replaced, later records must be entered again"),
            actor=Actor.INSTALLER,
        )
    yield from _syndic(answer.get("syndic"))
    yield from _page(answer.get("page") or {})
    yield from _page_open(answer.get("web"), answer["now"])
    if (certificate := answer.get("certificate")) and certificate["alarm"]:
        ended = certificate["days_left"] < 0
        yield Finding(
            code="certificate",
            subject=Text("certificate"),
            what=as_text(certificate["alarm"]),
            severity=Severity.WAITING if ended else Severity.LATER,
            actor=Actor.INSTALLER,
            command="gardien key renew" if certificate["not_after"] else "gardien key enroll",
            **{"since" if ended else "until": certificate["not_after"]},
        )


def _page(page: Mapping[str, Any]) -> Iterator[Finding]:
    """Findings about who may use the web page. No recipient gets them."""
    if until := page.get("setup_until"):
        yield Finding(
            code="page-setup",
            subject=Text("web page"),
            what=Text("a set-up window admits an installer without a password"),
            severity=Severity.NOTE,
            until=until,
            private=True,
            command="sudo gardien web close",
        )
    if locked := page.get("locked"):
        yield Finding(
            code="page-locked",
            subject=Text("web page"),
            what=Plural(
                "{number} person of the web page must wait after wrong passwords",
                "{number} persons of the web page must wait after wrong passwords",
                locked,
            ),
            severity=Severity.LATER,
            until=page["locked_until"],
            cost=Text(
                "Somebody may be guessing the password. Who has forgotten it needs a new invitation"
            ),
            count=locked,
            actor=Actor.MANAGER,
            private=True,
            command="sudo gardien web person list",
        )


def disk_full(full: Mapping[str, Any]) -> Finding:
    """Return the finding for a disk that is full; `full`: see `agent.api.status.full`."""
    deleting, free = full["deleting"], full["free_at_least_MB"]
    lost = Text(
        "The oldest unsent readings are deleted to make room for new ones; current readings are"
        " still sent. Free at least {size} MB",
        size=free,
    )
    grows = Text(
        "Nothing is deleted yet, but the spools can no longer grow; current readings are still"
        " sent. Free at least {size} MB",
        size=free,
    )
    return Finding(
        code="disk",
        subject=Text("disk"),
        what=Text("the disk of {folder} is full", folder=full["folder"]),
        severity=Severity.LOST if deleting else Severity.LATER,
        cost=lost if deleting else grows,
        actor=Actor.INSTALLER,
        cause=DISK,
        command=f"sudo du -xh --max-depth=3 {full['folder']}",
    )


def _authority(authority: Mapping[str, Any], now: str) -> Iterator[Finding]:
    if authority.get("alarm"):
        expired = authority["expires"] < now
        yield Finding(
            code="trust",
            subject=Text("trust list"),
            what=as_text(authority["alarm"]),
            severity=Severity.LATER,
            actor=Actor.PLATFORM,
            **{"since" if expired else "until": authority["expires"]},
            command="gardien trust show",
        )
    if number := authority.get("unwritten"):
        yield Finding(
            code="audit",
            subject=Text("audit chain"),
            what=Plural(
                "1 decision could not be written to the audit chain",
                "{number} decisions could not be written to the audit chain",
                number,
            ),
            severity=Severity.LATER,
            cost=Text("What was decided is in force, but its record is missing"),
            cause=DISK,
            actor=Actor.INSTALLER,
            command="gardien audit verify",
            count=number,
        )
    if number := authority.get("set_aside"):
        yield Finding(
            code="object",
            subject=Text("signed objects"),
            what=Plural(
                "1 signed object could not be evaluated because of an error in gardien, and is"
                " kept",
                "{number} signed objects could not be evaluated because of an error in gardien,"
                " and are kept",
                number,
            ),
            severity=Severity.LATER,
            actor=Actor.INSTALLER,
            command="gardien object list",
            count=number,
        )


def _faults(faulty: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """One finding for each failed component.

    The error text is for people at the gateway: it may name devices, and recipients must not learn
    those.
    """
    reported = list(faulty)
    for component in dict.fromkeys(fault["component"] for fault in reported):
        faults = [fault for fault in reported if fault["component"] == component]
        kinds = ", ".join(sorted({fault["error"] for fault in faults}))
        what = Text(
            "{component} stopped after an unexpected error ({error}); it is restarted"
            " automatically",
            component=component_text(component),
            error=kinds,
        )
        yield Finding(
            code="fault",
            subject=component_text(component),
            what=what,
            severity=Severity.LATER,
            since=min(fault["since"] for fault in faults),
            cost=Text("All other components continue. Report the error, with a support file"),
            command=BUNDLE,
            count=len(faults),
            uplink=faults[0]["uplink"],
        )


def _storage(answer: Mapping[str, Any]) -> Iterator[Finding]:
    """Stores that cannot be written, and the consequences."""
    storage = answer.get("storage")
    if storage is None:
        return
    faults = dict(storage["faults"])
    since = min((fault["since"] for fault in faults.values()), default=None)
    in_memory = [name for name, uplink in answer["uplinks"].items() if uplink.get("kept")]
    # popped: spools in memory have the finding below, and need none of their own
    reasons = [faults.pop(f"{SPOOL}{name}", {}).get("reason", "") for name in in_memory]
    common: dict[str, Any] = {
        "code": "storage",
        "subject": Text("disk"),
        "cause": DISK,
        "actor": Actor.INSTALLER,
    }
    if in_memory:
        why = next(filter(None, reasons), Text("the disk fails"))
        yield Finding(
            **common,
            what=Text("new readings are kept in memory only, because {why}", why=why),
            severity=Severity.WAITING,
            since=since,
            cost=Text(
                "Undelivered readings are lost in a power cut. Replace the disk or card:"
                " docs/replace.md"
            ),
        )
    if why := storage["controls"]:
        yield Finding(
            **common,
            what=Text("all controls are released, because {why}", why=why),
            severity=Severity.EQUIPMENT,
            since=since,
            cost=Text(
                "No order is carried out until the disk works. Replace the disk or card:"
                " docs/replace.md"
            ),
        )
        return
    for name, fault in faults.items():
        yield Finding(
            **common,
            what=Text("{port} cannot be written: {why}", port=name, why=fault["reason"]),
            severity=Severity.LATER,
            since=fault["since"],
            cost=Text(REPLACE_DISK),
            uplink=name.removeprefix(SPOOL) if name.startswith(SPOOL) else None,
        )


def _syndic(syndic: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Exports of the building manager's software; their content is shown at the gateway only."""
    if syndic is None:
        return
    common: dict[str, Any] = {
        "code": "syndic",
        "subject": Text("syndic export"),
        "severity": Severity.LATER,
        "actor": Actor.MANAGER,
        "command": "gardien occupancy proposed",
    }
    if why := syndic["unreachable"]:
        text = Text("the exports of the syndic's software cannot be fetched")
        here = Text("{what}: {why}", what=text, why=why)
        yield Finding(**common, what=here, outside=text, about="unreachable")
    if why := syndic["refused"]:
        text = Text("the last export of the syndic's software was refused; none of it was recorded")
        here = Text("{what}: {why}", what=text, why=why)
        since = syndic["last"]["at"]
        yield Finding(**common, what=here, outside=text, since=since)
    if number := syndic["waiting"]:
        what: Text = Plural(
            "syndic export: 1 row needs a decision",
            "syndic export: {number} rows need a decision",
            number,
        )
        yield Finding(**common, what=what, count=number, about="waiting")
    if since := syndic["overdue_since"]:
        what = Text("no new export of the syndic's software has arrived")
        yield Finding(**common, what=what, since=since)


def _page_open(web: Mapping[str, Any] | None, now: str) -> Iterator[Finding]:
    """A web page that is open where it should not be, or closed where it should be open."""
    if web is None:
        return
    common: dict[str, Any] = {
        "code": "page",
        "subject": Text("web page"),
        "actor": Actor.INSTALLER,
        "private": True,
    }
    strange = [one for one in web["listening"] if one not in web["listen"]]
    if strange:
        what = Text("the web page listens on {addresses}, which `web` in the configuration does not"
                    " name", addresses=strange)  # fmt: skip
        cost = Text("Whoever connects there is refused")
        yield Finding(**common, what=what, severity=Severity.LATER, cost=cost, about="open",
                      command="sudo gardien web close")  # fmt: skip
    if silent := [one for one in web["listen"] if one not in web["listening"]]:
        what = Text("the web page does not listen on {addresses}, which `web` in the configuration"
                    " names", addresses=silent)  # fmt: skip
        # a person has closed it, or has not opened it yet
        closed = not web["opened"]
        yield Finding(**common | ({"actor": Actor.NOBODY} if closed else {}), what=what,
                      severity=Severity.NOTE if closed else Severity.LATER, about="closed",
                      command="sudo gardien web open")  # fmt: skip
    if web["listening"] and (certificate := web["certificate"]):
        yield from _page_certificate(certificate, now, common)


def _page_certificate(
    certificate: Mapping[str, Any], now: str, common: Mapping[str, Any]
) -> Iterator[Finding]:
    ends = datetime.fromisoformat(certificate["not_after"])
    left = ends - datetime.fromisoformat(now)
    if left > PAGE_CERTIFICATE_ENDS:
        return
    own = "--new-certificate" if certificate["own"] else "--certificate FILE --key FILE"
    over = left < timedelta(0)
    yield Finding(
        **common,
        what=Text("the certificate of the web page has ended")
        if over
        else Text("the certificate of the web page ends soon"),
        severity=Severity.LATER,
        cost=Text("Browsers refuse the page then, or warn each time"),
        about="certificate",
        command=f"sudo gardien web open --no-setup {own}",
        **{"since" if over else "until": certificate["not_after"]},
    )


def _restored(restored: Mapping[str, Any] | None) -> Iterator[Finding]:
    """A restored state that may not know yet of later withdrawals."""
    if restored is None:
        return
    common: dict[str, Any] = {
        "code": "restored",
        "subject": Text("restored state"),
        "severity": Severity.WAITING,
        "cause": "restored",
    }
    if restored["listens"]:
        yield Finding(
            **common,
            what=Text(
                "after the restore nothing is sent until all later signed objects have arrived"
            ),
            cost=Text("Readings wait on the disk"),
            command="gardien object all-came",
        )
    for name, uplink in restored["uplinks"].items():
        if restored["listens"] and uplink["waits"]:
            what: Text = Plural(
                "uplink {uplink} has not delivered all signed objects yet; sending starts once"
                " it has, or after 1 minute more of connection",
                "uplink {uplink} has not delivered all signed objects yet; sending starts once"
                " it has, or after {number} minutes more of connection",
                -(-uplink["waits"] // 60),
                uplink=name,
            )
            yield Finding(**common, what=what, uplink=name)
        elif uplink["unproved"]:
            yield Finding(
                code="restored-unproved",
                subject=common["subject"],
                what=Text(
                    "uplink {uplink}: its platform has not confirmed that all signed objects"
                    " arrived after the restore",
                    uplink=name,
                ),
                severity=Severity.LATER,
                cost=Text("Compare the withdrawals with the platform, then confirm them"),
                actor=Actor.MANAGER,
                command="gardien object all-came",
                uplink=name,
            )


def _link(
    name: str, link: Mapping[str, Any], devices: Mapping[str, Mapping[str, Any]]
) -> Iterator[Finding]:
    common: dict[str, Any] = {
        "subject": Text("line {bus}", bus=name),
        "actor": Actor.INSTALLER,
        "cause": f"line {name}",
    }
    if not link["open"]:
        number = link["devices"]
        down = Text("line {line} is down: {why}", line=name, why=link["error"])
        yield Finding(
            **common,
            code="line-down",
            what=Text("{what}. Not read: {names}", what=down, names=names_of([*devices]))
            if number
            else down,
            outside=down,
            severity=Severity.LOST if number else Severity.LATER,
            since=link.get("down_since"),
            cost=_not_read(number, name) if number else None,
            command=DOCTOR,
            count=max(number, 1),
        )
    elif silent := link["silent"]:
        yield _silent(common, name, link, devices, silent)
    for proposal in link["proposals"]:
        # recipients must not learn the names of devices (rule P24)
        yield Finding(
            **common | {"cause": f"{name} {proposal}"},
            code="exchange",
            what=Text("line {line}: {proposal}", line=name, proposal=proposal),
            outside=Text("line {line}: a meter is silent and an unknown meter answers", line=name),
            severity=Severity.LATER,
        )
    for disturber in link["disturbers"]:
        yield Finding(
            **common | {"cause": f"line {name} disturbed"},
            code="line-disturbed",
            what=_disturbs(name, disturber),
            about=str(disturber["address"]),
            outside=Text("line {line}: a device disturbs the line", line=name),
            severity=Severity.LATER,
            cost=Text("Check its wiring, termination and address, or disconnect it"),
        )
    if (disturbed := link["disturbed"])["devices"]:
        yield Finding(
            **common | {"cause": f"line {name} disturbed"},
            code="line-disturbed",
            what=Text(
                "line {line} is disturbed: errors with {number} of {all} devices",
                line=name,
                number=disturbed["devices"],
                all=disturbed["of"],
            ),
            outside=Text("line {line} is disturbed as a whole", line=name),
            severity=Severity.LATER,
            cost=Text("Check termination, shield and power supply"),
            count=disturbed["devices"],
        )
    for device, facts in devices.items():
        for odd in facts.get("odd", ()):
            yield _odd(name, device, odd)
    if worry := link["health"].get("worry"):
        yield Finding(
            **common | {"cause": ""},
            code="line-worry",
            what=Text("line {line}: {worry}", line=name, worry=worry),
            severity=Severity.LATER,
        )


def _not_read(number: int, line: str) -> Text:
    return Plural(
        "1 device is not read. Switch the converter or adapter on and connect it, or correct its"
        " address in `links.{line}`",
        "{number} devices are not read. Switch the converter or adapter on and connect it, or"
        " correct its address in `links.{line}`",
        number,
        line=line,
    )


def _silent(
    common: Mapping[str, Any],
    name: str,
    link: Mapping[str, Any],
    devices: Mapping[str, Mapping[str, Any]],
    silent: int,
) -> Finding:
    """Return the finding for the devices of an open line that do not answer."""
    mute = {device: facts for device, facts in devices.items() if facts["failures"]}
    answered = [facts["answered"] for facts in mute.values() if facts.get("answered")]
    if silent == link["devices"] and silent > 1:
        what: Text = Plural(
            "line {line} does not answer: {number} devices wait",
            "line {line} does not answer: {number} devices wait",
            silent,
            line=name,
        )
        shared = None
        cost = Text("Check the converter, the wiring and the power supply of the line")
    else:
        shared = Plural(
            "line {line}: 1 of {all} devices is silent",
            "line {line}: {number} of {all} devices are silent",
            silent,
            line=name,
            all=link["devices"],
        )
        what = Text("{name}: {text}", name=shared, text=names_of(list(mute)))
        cost = Text("Their values are missing meanwhile. Check their power, wiring and address")
    return Finding(
        **common,
        code="device-silent",
        what=what,
        outside=shared,
        severity=Severity.LOST,
        since=min(answered, default=None),
        cost=cost,
        count=silent,
        command=f"sudo gardien scan {name}",
    )


CONTRADICTIONS = {
    "month-end": (
        N_("{device}: the month-end index that it stored is above its present index ({points})"),
        N_(
            "One of the two is wrong: the meter was reset or replaced, or its memory is damaged."
            " Compare both with its display"
        ),
    ),
    "hotter-return": (
        N_("{device}: its return has been hotter than its supply for days"),
        N_(
            "It counts too little heat or none. Its temperature sensors or its pipes are swapped:"
            " have them checked"
        ),
    ),
    "beyond-fuse": (
        N_("{device}: its power is beyond what its fuse allows"),
        N_(
            "The factor or the current transformers' ratio is wrong, or `rating` in the"
            " configuration. Compare the power with its display"
        ),
    ),
}
"""what is said of readings that contradict each other, and what to do, by kind"""


def _odd(line: str, device: str, odd: Mapping[str, Any]) -> Finding:
    """Return the finding for a device whose readings contradict each other."""
    what, cost = CONTRADICTIONS[odd["kind"]]
    return Finding(
        code="implausible",
        subject=Text("line {bus}", bus=line),
        what=Text(what, device=device, points=", ".join(odd["points"])),
        about=f"{device} {odd['kind']}",
        # recipients must not learn the names of devices (rule P24)
        outside=Text("line {line}: the readings of a device contradict each other", line=line),
        severity=Severity.LATER,
        since=odd["since"],
        cost=Text(cost),
        actor=Actor.INSTALLER,
        command=f"sudo gardien read {device}",
    )


def _disturbs(line: str, disturber: Mapping[str, Any]) -> Text:
    """Return which device disturbs a line, how often and how."""
    address, today = disturber["address"], disturber["today"]
    who = (
        as_text(disturber["device"])
        if disturber["device"]
        else Text("the device at address {address}, which is not configured,", address=address)
    )
    what: Text = Plural(
        "{device} disturbs line {line}: once today. It {how}",
        "{device} disturbs line {line}: {number} times today. It {how}",
        today,
        device=who,
        line=line,
        how=Text(disturber["how"]),
    )
    if not disturber["device"]:
        return what
    return Text("{what}; until it recovers it is read last and less often", what=what)


def _control(name: str, control: Mapping[str, Any]) -> Iterator[Finding]:
    if control["alarm"]:
        yield Finding(
            code="control",
            subject=Text("control {control}", control=name),
            what=Text("control {control}: {alarm}", control=name, alarm=control["alarm"]),
            severity=Severity.EQUIPMENT,
            actor=Actor.INSTALLER,
            command="gardien control list",
        )


def _uplink(
    name: str, uplink: Mapping[str, Any], started: str, *, all_down: bool
) -> Iterator[Finding]:
    delivery, backlog = uplink["delivery"], uplink["backlog"]
    common: dict[str, Any] = {"subject": Text("uplink {uplink}", uplink=name), "uplink": name}
    if not delivery["connected_since"]:
        what = Text("uplink {uplink} is not connected", uplink=name)
        why = delivery.get("lost")
        actor, step, command = _reconnect(why, uplink.get("files", {}))
        waits = _waits(uplink)
        yield Finding(
            **common,
            code="uplink-down",
            what=Text("{what}: {why}", what=what, why=why) if why else what,
            severity=Severity.WAITING,
            since=delivery.get("lost_since") or started,
            cost=Text("{waits}. {step}", waits=waits, step=step) if step else waits,
            # if all are cut off, the network is
            cause="network" if all_down else f"uplink {name}",
            actor=actor,
            command=command,
        )
    elif why := delivery.get("unsigned"):
        yield Finding(
            **common,
            code="unsigned",
            what=Text(
                "uplink {uplink}: the receipts of {recipient} are not signed, so batches wait:"
                " {why}",
                uplink=name,
                recipient=uplink["recipient"],
                why=as_text(why),
            ),
            severity=Severity.WAITING,
            since=delivery.get("unsigned_since"),
            cost=Text(
                "{waits}. The platform must sign with a key of role `recipient` in the trust list",
                waits=_waits(uplink),
            ),
            actor=Actor.PLATFORM,
            command="gardien trust show",
        )
    elif delivery["alarm"]:
        yield Finding(
            **common,
            code="not-consuming",
            what=Text("uplink {uplink}: {alarm}", uplink=name, alarm=delivery["alarm"]),
            severity=Severity.WAITING,
            since=delivery.get("owed_since"),
            cost=_waits(uplink),
            actor=Actor.PLATFORM,
        )
    elif since := delivery.get("silent_since"):
        yield Finding(
            **common,
            code="no-answer",
            what=Text("uplink {uplink}: what was sent has not been answered", uplink=name),
            severity=Severity.WAITING,
            since=since,
            cost=Text(
                "{waits}. If no answer comes, gardien connects again by itself",
                waits=_waits(uplink),
            ),
            cause=f"uplink {name}",
        )
    if backlog["quarantined"]:
        yield _quarantined(common, name, backlog)
    if number := uplink["shed_rows"]:
        yield Finding(
            **common,
            code="shed",
            what=Plural(
                "uplink {uplink}: 1 value deleted because the spool is full",
                "uplink {uplink}: {number} values deleted because the spool is full",
                number,
                uplink=name,
            ),
            severity=Severity.LOST,
            cost=Text("The oldest readings are given up until the recipient receives again"),
            actor=Actor.INSTALLER,
            command="gardien uplink list",
            count=number,
        )
    if (file := uplink.get("building")) and file["late"]:
        yield Finding(
            **common,
            code="backup",
            what=Text(
                "uplink {uplink}: its platform has not confirmed the backup of {day}",
                uplink=name,
                day=file["made"][:10],
            ),
            severity=Severity.LATER,
            actor=Actor.PLATFORM,
        )
    if over := uplink.get("data", {}).get("said"):
        yield Finding(
            **common,
            code="data",
            what=Text("uplink {uplink}: {over}", uplink=name, over=over),
            severity=Severity.WAITING,
            actor=Actor.INSTALLER,
            command="gardien uplink list",
        )


def _reconnect(why: object, files: Mapping[str, str]) -> tuple[Actor, Text | None, str]:
    """Return who must act so that an uplink connects again, what they do, and the command."""
    messages = {*_messages(why)}
    if UNKNOWN_ISSUER in messages:
        step = Text(
            "Get the certificate of its CA from the platform, and name the file as `ca` of the"
            " uplink"
        )
        command = f"sudo install -m 644 NEW-CA.pem {files['ca']}" if "ca" in files else ""
        return Actor.INSTALLER, step, command
    if WRONG_LOGIN in messages:
        step = Text(
            "Get user and password from the platform, and write the password into this file"
        )
        kind, _, path = files.get("password", "").partition(":")
        if kind == "credential":
            path = f"/etc/gardien/credentials/{path.removeprefix('gardien_')}"
        command = f"sudoedit {path}" if kind in {"file", "credential"} else ""
        restart = " && sudo systemctl restart gardien" if kind == "credential" else ""
        return Actor.INSTALLER, step, command + restart
    if "Connection refused" in messages:
        step = Text(
            "The platform must be started again, or `url` names another port than the platform's."
            " Then the gateway connects by itself"
        )
        return Actor.PLATFORM, step, ""
    return Actor.INSTALLER, None, DOCTOR


def _messages(text: object) -> Iterator[str]:
    """Yield the messages of which a text is made, its own first."""
    if isinstance(text, Text):
        yield text.message
        for value in text.values.values():
            yield from _messages(value)


def _waits(uplink: Mapping[str, Any]) -> Text:
    """What an uplink that does not deliver costs; it names no number, which always changes."""
    days = uplink.get("bears_days")
    if days is None or days >= LONG_OUTAGE:
        return Text("Its readings wait on this gateway")
    return Plural(
        "Its readings wait on this gateway; after about {number} day more, the oldest are deleted",
        "Its readings wait on this gateway; after about {number} days more, the oldest are"
           " deleted",
        days,
    )  # fmt: skip


def _quarantined(common: Mapping[str, Any], name: str, backlog: Mapping[str, Any]) -> Finding:
    number, since = backlog["quarantined"], backlog["quarantined_since"]
    what: Text = Plural("1 batch refused", "{number} batches refused", number)
    if why := backlog["quarantined_why"]:
        what = Text("{what}: {why}", what=what, why=why)
    return Finding(
        **common,
        code="quarantine",
        what=Text("uplink {uplink}: {what}", uplink=name, what=what),
        severity=Severity.WAITING,
        since=stamp(since) if since is not None else None,
        until=stamp(since + TRIED_ANEW) if since is not None else None,
        cost=Text("Their rows are kept and sent again automatically; a command sends them now"),
        actor=Actor.PLATFORM,
        command=f"gardien uplink retry {name}",
        count=number,
    )
