"""A support bundle: the flight recorder's records, and what building the configuration describes.

A bundle comes from elsewhere, so whatever is in it is only data, of limited size; nothing of it is
unpacked or run.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from dataclasses import dataclass, field

from agent.config.files import YamlUnreadable
from agent.config.files import read as read_yaml
from agent.core.errors import AgentError
from agent.gateway.flight_recorder import FlightRecord, devices_hash, ordered
from tests.sim import houses, plan

FLIGHT, CONFIG = "gardien-support/flight.json", "gardien-support/config/"
LARGEST, MOST_PARTS = 40_000_000, 400
"""bytes of all parts of a bundle, and parts, that are read"""
LATEST = 2**33
"""Unix seconds that a record may have"""
SIMULATED = ("modbus", "mbus", "bacnet")


class Unusable(Exception):
    """Nothing can be replayed; its text says why, in one sentence."""


def contents(bundle):
    """Texts of flight.json and of the configuration's files, by name. Raises Unusable."""
    parts, size = {}, 0
    try:
        with tarfile.open(bundle, "r|gz") as tar:
            for number, part in enumerate(tar):
                size += part.size
                if size > LARGEST or number >= MOST_PARTS:
                    raise tarfile.TarError("too large")
                if part.isreg() and part.name.startswith((FLIGHT, CONFIG)):
                    parts[part.name] = tar.extractfile(part).read().decode()
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise Unusable(f"{bundle}: {error.strerror}") from error
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        raise Unusable(f"{bundle} is torn, or no support bundle of gardien") from error
    if FLIGHT not in parts:
        raise Unusable(f"{bundle} has no flight.json: it is older than the flight recorder, or no"
                       " support bundle")  # fmt: skip
    return parts


def records_of(text):
    """The records, in their order, and how many could not be read. Raises Unusable."""
    try:
        documents = json.loads(text)
    except (ValueError, RecursionError):
        documents = None
    if not isinstance(documents, list):
        raise Unusable("flight.json is torn, or not written by gardien")
    records = []
    for document in documents:
        try:
            record = FlightRecord.of(document)
        except (ValueError, AttributeError, OverflowError):
            continue
        numbers = (record.life, record.up, record.at, record.count, record.lasted)
        if all(0 <= number < 2**40 for number in numbers) and record.at < LATEST:
            records.append(record)
    if not records:
        raise Unusable("flight.json has no records: nothing is known of this gateway's past")
    return ordered(records), len(documents) - len(records)


def configuration(parts):
    """The redacted configuration as a dict. Raises Unusable."""
    files = {name.removeprefix(CONFIG): text for name, text in parts.items()}
    for name, text in files.items():
        if "/" in name:
            continue
        try:
            tree = read_yaml(text, lambda other: files.get(other, "{}")).data
        except (AgentError, YamlUnreadable):
            continue
        if isinstance(tree, dict) and ("links" in tree or "devices" in tree):
            return tree
    raise Unusable("the bundle has no configuration that can be read")


def mapping(value):
    """The members of a dict that are dicts, in their order."""
    members = value.items() if isinstance(value, dict) else ()
    return {str(name): member for name, member in members if isinstance(member, dict)}


@dataclass
class Site:
    """The gateway's building as far as it can be simulated, and its names for what is in it."""

    building: dict
    """of the plan"""
    lines: dict
    """numbers in the plan, by the gateway's names; so of recipients and controls"""
    recipients: dict
    """by the name of the uplink, and by that of the recipient"""
    controls: dict
    hash: str
    """of the devices"""
    notes: list = field(default_factory=list)
    """what could not be taken over"""
    fitted: dict = field(default_factory=dict)
    """numbers in the plan of the devices of each line"""


def site_of(config, seed):
    """The site that a configuration describes."""
    links, devices = mapping(config.get("links")), mapping(config.get("devices"))
    uplinks, controls = mapping(config.get("uplinks")), mapping(config.get("controls"))
    drivers = {name: str(link.get("driver")).partition("-")[0] for name, link in links.items()}
    names = [name for name, driver in drivers.items() if driver in SIMULATED]
    lines = [drivers[name] for name in names] or ["modbus"]
    who = {name: str(uplink.get("recipient")) for name, uplink in uplinks.items()}
    whom = {name: n for n, name in enumerate(dict.fromkeys(who.values()))}
    plant = {str(control.get("point")).partition("/")[0] for control in controls.values()}
    can = bool({"modbus", "bacnet"} & set(lines))
    building = {
        "dwellings": min(max(len(devices.keys() - plant) // 2, 1), 40),
        "recipients": min(max(len(whom), 1), 4),
        "lines": lines,
        "controls": min(len(controls), 3) if can else 0,
        "sums": any("sums" in uplink for uplink in uplinks.values()),
        "withheld": any(uplink.get("withheld") is True for uplink in uplinks.values()),
        "common": "common" in mapping(config).get("privacy", {}),
        "signed": any(uplink.get("receipt") == "signed" for uplink in uplinks.values()),
    }
    first = next(iter(links), "")
    used = [
        (str(one.get("link", first)), str(one.get("profile") or "")) for one in devices.values()
    ]
    site = Site(
        building,
        {name: n for n, name in enumerate(names)},
        whom | {name: whom[recipient] for name, recipient in who.items()},
        {name: n for n, name in enumerate(controls)},
        devices_hash(used),
    )
    house = houses.house({"seed": seed, "begin": 0, "days": 1, "building": building})
    for n, fitting in enumerate(house.fittings):
        site.fitted.setdefault(fitting.line, []).append(n)
    there = {"devices": (len(devices), len(house.fittings) + len(house.levers)),
             "recipients": (len(whom), building["recipients"]),
             "controls": (len(controls), building["controls"]),
             "lines": (len(links), len(lines))}  # fmt: skip
    site.notes += [f"{had} {what} are configured, {has} are simulated"
                   for what, (had, has) in there.items() if had != has]  # fmt: skip
    site.notes.append("profiles, periods, data budgets and transports are the simulation's own")
    if not set(plan.SPEAKING) & set(lines):
        site.notes.append("meters on BACnet tell no number, so nothing of them is sent")
    return site
