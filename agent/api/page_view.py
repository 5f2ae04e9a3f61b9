"""What the web page shows of dwellings. A call that is not decided on here is refused there.

- Values of comfort sensors and load curves of dwellings are never shown.
- An index of a dwelling is shown to a person who says why. The reason goes to the access log.
- Data about people without values is shown to those who have the right, and noted once a day.

The command line follows its own rules (docs/decisions/035, 052). Rules W4, W5.
"""

from __future__ import annotations

import math
from enum import StrEnum, auto
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.api import privacy
from agent.api.roles import command_of
from agent.core.errors import AgentError, ReasonNeeded, Refused
from agent.core.i18n import N_, Text
from agent.core.model import ValueKind
from agent.core.quantities import channels
from agent.registry import parsers
from agent.registry.access_log import EVERYBODY
from agent.registry.doubts import NeedsConfirmation
from agent.registry.place import OCCUPANCY, parse
from agent.registry.records import covers, serial_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent.api.registry import Call, Caller
    from agent.gateway.gateway import Gateway

    Answer = dict[str, Any]

NOT_RECORDED = ""
"""place of an entry about a meter that no dwelling is recorded for"""

WHY = N_(
    "these are values of a dwelling. State why you must see them, in 5 to 200 characters: the"
    " reason is written to the access log, which the occupants may read"
)
TOO_OFTEN = N_(
    "the indexes of a dwelling are not shown so often at the page, because a curve could be drawn"
    " from them. Wait {minutes} min, or read the meter at the command line"
)
NOT_HERE = N_("this is not done at the page. At the command line: gardien {command}")
NO_TRACE = N_(
    "a trace has the readings of all devices of the line, so the page records none. At the command"
    " line: gardien {command} --trace"
)
GUARDED = N_(
    "a guard of {names} is a sensor in a dwelling, and the page shows no values of it. At the"
    " command line: gardien control history"
)
ONLY_INDEXES = N_(
    "{channel} is no index, and of a dwelling the page shows indexes only. At the command line:"
    " gardien meter verify"
)
HIDDEN = N_("not shown at the page: it is in a dwelling")


class Shows(StrEnum):
    """What a call shows of dwellings."""

    NO_PEOPLE = auto()
    """nothing about people, and no values"""
    PEOPLE = auto()
    """data about people without values: the access log notes it"""
    INDEXES = auto()
    """indexes, at least with some arguments: these need a reason"""
    TOO_MUCH = auto()
    """what the page never shows, or what needs an account of this machine: refused"""


DECIDED: Mapping[str, Shows] = {
    **dict.fromkeys(
        (
            "status", "uplink.list", "control.list", "control.grants", "control.history",
            "control.report", "control.test", "control.dry_run", "clock.show", "key.show",
            "trust.show", "audit.verify", "privacy.catalogue", "privacy.register", "dwelling.list",
            "privacy.assessment", "place.list", "place.check", "alias.list", "meter.proofs",
            "place.new", "place.import", "alias.add", "alias.end", "alias.import", "meter.match",
            "meter.swap", "meter.walk", "visit.show", "visit.keep", "visit.open",
            "occupancy.move_in", "occupancy.move_out", "occupancy.correct", "occupancy.import",
            "occupancy.accept", "occupancy.dismiss", "consent.give", "consent.answers", "duty.add",
            "object.all_came", "consent.withdraw", "duty.end", "scan", "line.find", "reload",
            "configuration", "clock.set", "clock.reset", "uplink.retry", "uplink.carry",
            "uplink.file", "uplink.close", "key.csr", "key.install", "key.enroll", "key.renew",
            "key.rotate", "trust.look", "trust.accept", "object.accept", "object.preview",
            "object.list", "control.release", "control.hand_back", "control.abandon",
            "control.accept", "control.opt_out", "control.opt_in", "web.me", "web.leave",
            "config.show", "config.lines.add", "config.devices.add", "config.uplink.add",
            "config.backup.to", "bundle", "bundle.flight", "bundle.read",
            "finding.acknowledge", "metrics", "history.series", "history.read", "control.course",
        ),
        Shows.NO_PEOPLE,
    ),
    **dict.fromkeys(
        (
            "occupancy.list", "occupancy.proposed", "consent.list", "consent.marks", "consent.due",
            "consent.count", "consent.forms", "duty.list",
            "audit.list", "privacy.explain", "privacy.disclosures",
            "privacy.access", "privacy.breach.new", "privacy.breach.add", "privacy.breach.close",
            "privacy.breach.list", "privacy.breach.show", "privacy.breach.notification",
            "privacy.breach.letters",
        ),
        Shows.PEOPLE,
    ),
    **dict.fromkeys(
        (
            "read", "device.try", "profile.record", "report.commissioning", "meter.verify",
            "meter.load",
            "meter.list", "meter.assign", "meter.exchange", "meter.remove", "meter.import",
            "meter.correct",
        ),
        Shows.INDEXES,
    ),
    **dict.fromkeys(
        # the letter has all values that wait, the backup all of the registry for a key that the
        # caller chooses, and a vote needs two accounts of this machine
        ("privacy.person", "backup", "control.witness", "control.vote", "control.confirm"),
        Shows.TOO_MUCH,
    ),
}  # fmt: skip
"""every call that a person of the page may make; a call that is missing here is refused there"""

NOTED_BY_THEMSELVES = frozenset(
    {"read", "device.try", "meter.verify", "meter.load", "report.commissioning"}
)
"""calls that note in the access log what they show of a dwelling"""


async def at_the_page(
    gateway: Gateway, caller: Caller, name: str, call: Call, args: Mapping[str, Any]
) -> dict[str, Any]:
    """Make a call for a person of the page, who sees of dwellings what is decided on above.

    Raises Refused; ReasonNeeded.
    """
    shows = DECIDED.get(name, Shows.TOO_MUCH)
    _check(gateway, name, shows, args)
    key = _index_key(gateway, caller, name, args) if shows is Shows.INDEXES else None
    made = partial(call, gateway, caller, **args)
    answer = await (made() if key is None else _with_reason(gateway, caller, name, key, made))
    if shows is Shows.PEOPLE:
        home = args.get("occupancy")
        place = gateway.registry.place(args["place"]).id if args.get("place") else EVERYBODY
        privacy.note(gateway, caller.who, name, place, parse(home, OCCUPANCY) if home else "")
    elif key is not None and (name not in NOTED_BY_THEMSELVES or key == NOT_RECORDED):
        privacy.note(gateway, caller.who, name, key, reason=caller.reason)
    filtered = FILTERS.get(name)
    return filtered(gateway, args, answer, key) if filtered else answer


async def _with_reason(
    gateway: Gateway, caller: Caller, name: str, key: str, made: Callable[[], Any]
) -> dict[str, Any]:
    """Make a call that shows indexes, if there is a reason and it is not made too often."""
    check_reason(gateway, caller, key)
    try:
        answer: dict[str, Any] = await made()
    except NeedsConfirmation:
        # a question about an index names the last reading
        privacy.note(gateway, caller.who, name, key, reason=caller.reason)
        raise
    except AgentError:
        gateway.page.readings.give_back(key)  # nothing was shown, and nothing is noted
        gateway.page.reasons.give_back(caller.who)
        raise
    return answer


def check_reason(gateway: Gateway, caller: Caller, key: str) -> None:
    """Count a look at indexes of a dwelling (a place or a device). Raises ReasonNeeded, Refused."""
    now = gateway.clock.steady()
    if not caller.reason:
        raise ReasonNeeded(WHY)
    wait = gateway.page.readings.wait(key, now)
    if not wait and (wait := gateway.page.reasons.wait(caller.who, now)):
        gateway.page.readings.give_back(key)  # another person may look
    if wait:
        raise Refused(TOO_OFTEN, minutes=math.ceil(wait / 60))


ORDERS_SHOWN = frozenset(
    {"control.history", "control.report", "control.course", "control.test", "control.dry_run"}
)
"""calls that show what guards measured"""


def _check(gateway: Gateway, name: str, shows: Shows, args: Mapping[str, Any]) -> None:
    """Refuse what the page does not do."""
    command = command_of(name)
    if shows is Shows.TOO_MUCH:
        raise Refused(NOT_HERE, command=command)
    if args.get("trace"):
        raise Refused(NO_TRACE, command=command)
    if name == "profile.record" and not is_plant(gateway, args["device"]):
        raise Refused(NOT_HERE, command=command)
    if name == "meter.verify":
        for channel in args["shown"]:
            checked = parsers.checked_channel(parsers.channel(channel))
            if channels()[checked].kind is not ValueKind.REG:
                raise Refused(ONLY_INDEXES, channel=checked)
    if name in {
        "control.history",
        "control.report",
        "control.course",
        "control.test",
        "control.dry_run",
    }:
        control = args.get("name") or ""
        if names := sorted(one for one in _guarded(gateway) if control in {"", one}):
            raise Refused(GUARDED, names=names)


def is_plant(gateway: Gateway, name: str) -> bool:
    """Whether a device is common plant, and is not the meter of a dwelling under another name.

    Else whoever may add devices at the page could add a second name for a meter, with a common area
    as its place, and see all that it measures.
    """
    if not privacy.is_common(gateway, name):
        return False
    _, device = gateway.lines.find(name)
    return not _is_of_a_dwelling(gateway, device.serial)


def _is_of_a_dwelling(gateway: Gateway, serial: str | None) -> bool:
    """Whether a serial number is recorded for a dwelling now."""
    if not serial:
        return False
    now, key = int(gateway.clock.now()), serial_key(serial)
    return any(
        meter.place[0] == "D" and meter.serial and serial_key(meter.serial) == key
        for meter in gateway.registry.installations()
        if covers(meter, now)
    )


def _guarded(gateway: Gateway) -> Iterator[str]:
    """Yield the controls with a guard that may be in a dwelling: what they say has its value."""
    for name, control in gateway.config.controls.items():
        devices = {guard.point.partition("/")[0] for guard in control.watched}
        if not all(is_plant(gateway, device) for device in devices):
            yield name


def _index_key(gateway: Gateway, caller: Caller, name: str, args: Mapping[str, Any]) -> str | None:
    """Return what a call shows indexes of: a place, `*`, or NOT_RECORDED; None: no indexes."""
    key: str | None = None
    if name == "read":
        if not is_plant(gateway, args["device"]):
            key = privacy.dwelling_of(gateway, {"device": args["device"]}) or NOT_RECORDED
    elif name == "report.commissioning":
        key = EVERYBODY if args.get("readings", True) else None
    elif name in {"meter.verify", "meter.load"} or args.get("closing"):
        place = args.get("place")
        key = privacy.dwelling_of(gateway, {"place": place}) if place else EVERYBODY
    elif name == "device.try":
        key = str(args["entry"].get("address", "")) if caller.reason else None
    elif name != "profile.record" and caller.reason:
        key = EVERYBODY  # a list that is shown without indexes if no reason is given
    return key


def _only_indexes(
    gateway: Gateway, args: Mapping[str, Any], answer: Answer, key: str | None
) -> Answer:
    """Withhold all values of a device in a dwelling but its indexes and its serial number.

    Of a device whose answer shows only now that it is in a dwelling, also the indexes.
    """
    del args
    serial = answer["points"].get("serial", {}).get("value")
    if key is None and not _is_of_a_dwelling(gateway, serial):
        return answer
    withheld = [
        name
        for name, point in answer["points"].items()
        if name != "serial" and (key is None or not _is_index(point["channel"]))
    ]
    hidden = {"value": None, "detail": Text(HIDDEN)}
    points = {
        name: point | hidden if name in withheld else point
        for name, point in answer["points"].items()
    }
    return answer | {"points": points, "objects": [], "withheld": withheld}


def _is_index(channel: str | None) -> bool:
    return channel is not None and channels()[channel].kind is ValueKind.REG


def _without_load(
    gateway: Gateway, args: Mapping[str, Any], answer: Answer, key: str | None
) -> Answer:
    """Withhold how much a meter counted in the minute of a load test."""
    del gateway, args, key
    return answer | {"more": None}


def _no_objects(
    gateway: Gateway, args: Mapping[str, Any], answer: Answer, key: str | None
) -> Answer:
    """Withhold the values of found devices, except those of common plant."""
    del args, key
    devices = [
        device
        if device["configured"] and is_plant(gateway, device["name"])
        else device | {"objects": []}
        for device in answer["devices"]
    ]
    return answer | {"devices": devices}


def _meters(gateway: Gateway, args: Mapping[str, Any], answer: Answer, key: str | None) -> Answer:
    """Withhold the indexes at changes of meters, unless a reason was given."""
    del gateway, args
    if key is not None or "meters" not in answer:
        return answer
    return answer | {"meters": [one | {"opened": {}, "closed": {}} for one in answer["meters"]]}


def _controls(gateway: Gateway, args: Mapping[str, Any], answer: Answer, key: str | None) -> Answer:
    """Withhold the values of guards that may be in a dwelling."""
    del args, key
    for name in _guarded(gateway):
        if (control := answer["controls"].get(name)) is not None:
            control["guards"] = dict.fromkeys(control["guards"], Text(HIDDEN))
            if control["forbidden"]:
                control["forbidden"] = Text("forbidden now")
    return answer


def _orders(gateway: Gateway, args: Mapping[str, Any], answer: Answer, key: str | None) -> Answer:
    """Withhold what guards have measured, unless they are known to be in no dwelling."""
    del args, key
    shown = gateway.config.controls.keys() - set(_guarded(gateway))
    if "orders" not in answer:
        return answer
    hidden = {"seen": "", "result": Text(HIDDEN)}
    orders = [one if one["control"] in shown else one | hidden for one in answer["orders"]]
    return answer | {"orders": orders}


FILTERS: Mapping[str, Callable[..., Answer]] = {
    "read": _only_indexes,
    "scan": _no_objects,
    "meter.load": _without_load,
    "meter.list": _meters,
    "meter.assign": _meters,
    "meter.exchange": _meters,
    "meter.remove": _meters,
    "meter.correct": _meters,
    "meter.import": _meters,
    "status": _controls,
    "control.list": _controls,
    "privacy.explain": _orders,
}
"""what is withheld from the answers of calls"""
