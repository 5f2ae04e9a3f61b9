"""The status document for one recipient (docs/status.schema.json). Pure.

It has counts and names of lines, but no names of dwellings, devices or other recipients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

VOLATILE = ("at", "backlog", "data", "disk")
"""members that change all the time, and do not count as news"""


def document(answer: Mapping[str, Any], uplink: str) -> dict[str, Any]:
    """The document for one uplink's recipient, from the answer to `status`."""
    mine = answer["uplinks"][uplink]
    devices, links = answer["devices"].values(), answer["links"]
    silent = sum(one["failures"] > 0 for one in devices)
    # member by member: a new member of the answer must not reach recipients by itself (rule P24)
    members: dict[str, Any] = {
        "at": answer["now"],
        "started": answer["started"],
        "version": answer["version"],
        "configuration": answer["configuration"],
        "clock": answer["clock"],
        "epoch": mine["epoch"],
        "links": [
            {"name": name, **{word: one[word] for word in ("open", "devices", "silent")}}
            for name, one in links.items()
        ],
        "devices": {
            "up": len(answer["devices"]) - silent,
            "silent": silent,
            "held_back": mine["held_devices"],
        },
        "backlog": _backlog(mine),
        "disk": answer["disk"],
        "holds": answer["holds"],
        "faults": [
            {word: one[word] for word in ("component", "since", "error", "next_try")}
            for one in answer["faults"]
            if one["uplink"] in {None, uplink}
        ],
        "events": [
            {"code": one["code"], "text": one["text"]}
            for one in answer["events"]
            if one["uplink"] in {None, uplink}
        ],
    }
    if certificate := answer["certificate"]:
        members["certificate"] = {word: certificate[word] for word in ("not_after", "days_left")}
    if audience := (answer.get("authority") or {}).get("audience"):
        members["audience"] = audience
    if (restored := answer.get("restored")) and not restored["uplinks"][uplink]["complete"]:
        members["restored"] = {"audience": audience or "", "made": restored["made"]}
    if "data" in mine:
        members["data"] = {word: mine["data"][word] for word in ("month", "used", "budget")}
    return members


def news(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a change should be sent at once."""
    return _lasting(before) != _lasting(now)


def _backlog(mine: Mapping[str, Any]) -> dict[str, Any]:
    held = mine["backlog"]
    names = ("rows", "slots", "batches", "batch_rows", "quarantined", "oldest", "used", "cap")
    return {word: held[word] for word in names} | {"shed": mine["shed_rows"]}


def _lasting(of: Mapping[str, Any]) -> dict[str, Any]:
    lasting = {word: value for word, value in of.items() if word not in VOLATILE}
    held = [(one["control"], one["until"]) for one in of.get("holds", ())]
    # without the next attempt, which changes each time and would count as news
    faults = [(one["component"], one["error"]) for one in of.get("faults", ())]
    return lasting | {"holds": held, "faults": faults}
