"""What a guided visit makes of answers, the same at the terminal and on the page. Pure.

A visit is the dictionary that `visit.keep` stores. It names no dwelling.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agent.core.errors import Refused
from agent.core.finding import as_text
from agent.core.i18n import N_, Text
from agent.drivers.base import readable
from agent.registry.records import serial_key
from agent.registry.sheet import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.registry.recognition import Column

Answer = dict[str, Any]
TITLES: Mapping[str, str] = {
    "building": N_("The building"),
    # before the search, which asks the listed meters first
    "list": N_("The syndic's list"),
    "lines": N_("The lines"),
    "scan": N_("The devices on the lines"),
    "match": N_("List and devices compared"),
    "flats": N_("From flat to flat"),
    "delivery": N_("Delivery, certificate, backup"),
    "report": N_("The commissioning report"),
}
"""the steps of a visit in order, each with its title"""
LAST, MARGIN = 247, 5
"""the last unit id of Modbus, and how many are asked behind the last one that has answered"""
PULSES = {
    "cw": "mbus-pulse-cold-water",
    "dhw": "mbus-pulse-warm-water",
    "elec.imp": "mbus-pulse-electricity",
}
"""profiles of an input of a pulse collector, by channel"""


def line_entry(driver: str, where: str, baudrate: str = "", parity: str = "") -> Answer:
    """Return the entry of a line in `links:`. `where`: a serial port, a host or HOST:PORT.

    `driver`: `modbus` stands for that of the port or the host. Raises Refused.
    """
    if not driver or not where:
        raise Refused("a line needs a driver and an address, such as modbus-tcp 192.168.10.20")
    if driver == "modbus":
        driver = "modbus-rtu" if where.startswith("/dev/") else "modbus-tcp"
    entry: Answer = {"driver": driver}
    if where.startswith("/dev/"):
        entry["port"] = where
        entry |= {"baudrate": int(baudrate)} if baudrate.isdecimal() else {}
        entry |= {"parity": parity} if parity else {}
    elif driver == "bacnet":
        entry["address"] = where
    else:
        host, _colon, port = where.partition(":")
        entry |= {"host": host} | ({"port": int(port)} if port.isdecimal() else {})
    return entry


def remember_last(visit: Answer, name: str, line: Mapping[str, Any]) -> None:
    """Keep up to which address a found Modbus line is to be searched."""
    units = [int(one) for one in line["devices"] if one.isdigit()]
    if line["driver"] == "modbus-rtu" and units:
        visit.setdefault("last", {})[name] = min(LAST, max(units) + MARGIN)


def remember_search(
    visit: Answer, link: str, devices: Sequence[Answer], odd: Sequence[Answer]
) -> None:
    """Keep what a later step needs of a search: warnings, and devices without known values."""
    # what is usual in a search, or named with its device, is no finding of its own
    warnings = [(one["name"], warning, not one["number"] and not readable(one["entry"]))
                for one in devices for warning in one["warnings"]]  # fmt: skip
    named = {str(one["entry"].get("address")) for one in devices if one["warnings"]}
    warnings += [(one["name"] or f"{link} {one['device']}", one["sentence"], False)
                 for one in odd if not one["expected"] and one["device"] not in named]  # fmt: skip
    kept = visit.setdefault("warnings", [])
    for name, warning, unknown in warnings:
        text = as_text(warning).wire()
        entry = next((one for one in kept if one["text"] == text), None)
        if entry is None:
            kept.append(entry := {"text": text, "devices": [], "unknown": unknown})
        entry["devices"] += [name] * (name not in entry["devices"])
    collectors = visit.setdefault("collectors", {})
    for device in devices:
        if not readable(device["entry"]):
            collectors[str(device["entry"]["address"])] = link


def remember_columns(visit: Answer, columns: Sequence[Column], meanings: Sequence[str]) -> None:
    """Keep what a person has confirmed about the columns of a list."""
    visit.setdefault("columns", {}).update(
        {plain(column.heading): meaning for column, meaning in zip(columns, meanings, strict=True)}
    )


def merged(base: Mapping[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Answer:
    """Return a visit that two have changed since `base`: each member as whoever changed it has it,
    and as `mine` if both did. Of members that are mappings, such as `steps`, each of their members.
    """
    visit: Answer = {}
    for name in {**theirs, **mine}:
        old, own, other = (one.get(name) for one in (base, mine, theirs))
        if isinstance(own, dict) and isinstance(other, dict):
            visit[name] = merged(old if isinstance(old, dict) else {}, own, other)
        elif own != old:
            if name in mine:
                visit[name] = own
        elif name in theirs:
            visit[name] = other
    return visit


def remember_factor(visit: Answer, installation: str, result: Mapping[str, Any]) -> None:
    """Keep by what a meter reads more than its display, for the findings of the visit."""
    if result["times"]:
        visit.setdefault("factors", {})[installation] = result["times"]


def inputs_of_collectors(
    visit: Answer, meters: Sequence[Answer], silent: Sequence[Answer]
) -> tuple[dict[str, Answer], list[str]]:
    """Return the entries of the inputs of pulse collectors that a list names, and the names of
    those of which it does not say what they count.

    `meters`: as `meter.list` lists them; `silent`: as `meter.match` does.
    """
    collectors = {serial_key(one): (one, link) for one, link in visit.get("collectors", {}).items()}
    channels = {one["serial"]: one["channel"] for one in meters if one["serial"]}
    inputs = [
        (*collectors[serial_key(number)], place, PULSES.get(channels.get(one["meter"], "")))
        for one in silent
        for number, slash, place in (one["meter"].partition("/"),)
        if slash and serial_key(number) in collectors
    ]
    entries, unclear = dict[str, Answer](), list[str]()
    for address, link, number, profile in inputs:
        name = f"mbus-{address.lower()}-{number}"
        if profile is None:
            unclear.append(name)
            continue
        together = sum(one[0] == address for one in inputs)
        entries[name] = {
            "link": link,
            "address": f"{address}/{number}",
            "profile": profile,
            # the battery of a collector bears 24 readings a day, of all its inputs together
            "every": "1h" if together == 1 else "1d",
        }
    return entries, unclear


UNCLEAR_INPUT = N_(
    "{name}: the list does not say what this input counts (cold water, hot water, electricity)"
)


# what a display has shown (`meter.verify`)


def wrong_factor(result: Mapping[str, Any]) -> Text | None:
    """Say what a display has shown about the meter's own factor; None unless it is wrong."""
    if (factor := result["factor"] or {}).get("proof") == "wrong":
        return Text(
            "{problem}. {remedy}", problem=factor["sentence"], remedy=factor["remedy"]
        )  # fmt: skip
    return Text(TIMES, factor=result["times"]) if result["times"] else None


TIMES = N_(
    "The meter reads {factor} times what the display shows: `scale` or `unit` of its point"
    " in the file is wrong, or its multiplier (gardien meter correct). Not"
    " recorded as proven."
)


def comparison(result: Mapping[str, Any]) -> Text:
    """Say in one line how a display and its meter compare, with the values of both."""
    shown = Decimal(result["shown"])
    subject = Text("{channel} {value}: ", channel=result["channel"], value=shown)
    if result["agrees"]:
        return Text(
            "{subject}agrees: meter {meter} reads {read}",
            subject=subject,
            meter=result["meter"],
            read=Decimal(result["read"]),
        )
    read = Text(
        "meter {meter} reads {value}",
        meter=result["meter"],
        value=Decimal(result["read"]) if result["read"] else Text("no such channel"),
    )
    others = [
        Text("{meter} ({place})", meter=meter_name(one), place=one["label"] or Text("unassigned"))
        for one in result["shown_by"]
    ]
    if not others:
        return Text(
            "{subject}differs: {read}, and no other meter reads this value",
            subject=subject,
            read=read,
        )
    return Text(
        "{subject}differs: {read}; this value is read from {names}",
        subject=subject,
        read=read,
        names=others,
    )


def meter_name(meter: Mapping[str, Any]) -> str:
    """Return what is on the plate of a meter; without a serial number its name in the file."""
    name: str = meter["serial"] or meter["device"] or "–"
    return name


def swap_question(label: str, mine: str, other: Mapping[str, Any]) -> tuple[Text, Text]:
    """Say that another meter shows what the display of a place does, and ask whether the two are
    swapped. `mine`: the number of the recorded meter of the place `label`.
    """
    number = meter_name(other)
    if other["label"]:
        return (
            Text("This is what {number} ({label}) shows: the two meters seem to be swapped.",
                 number=number, label=other["label"]),
            Text("Record that {number} measures {here}, and {mine} measures {there}?",
                 number=number, here=label, mine=mine, there=other["label"]),
        )  # fmt: skip
    return (
        Text("This is what {number} shows, which is recorded for no dwelling.", number=number),
        Text("Record that {number} measures {here} instead of {mine}?",
             number=number, here=label, mine=mine),
    )  # fmt: skip
