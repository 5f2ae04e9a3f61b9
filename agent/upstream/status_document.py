"""What the gateway says of itself to one recipient (docs/status.schema.json). Pure.

Numbers and names of lines, never those of dwellings, devices or other recipients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSING = ("at", "backlog", "data", "disk")
"""members that change all the time, and are no news"""


def document(answer: Mapping[str, Any], uplink: str) -> dict[str, Any]:
    """The members for one uplink's recipient, out of the answer to `status`."""
    mine = answer["uplinks"][uplink]
    devices, links = answer["devices"].values(), answer["links"]
    silent = sum(one["failures"] > 0 for one in devices)
    made: dict[str, Any] = {
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
        made["certificate"] = {word: certificate[word] for word in ("not_after", "days_left")}
    if audience := (answer.get("authority") or {}).get("audience"):
        made["audience"] = audience
    if (found := answer.get("restored")) and not found["uplinks"][uplink]["complete"]:
        made["restored"] = {"audience": audience or "", "made": found["made"]}
    if "data" in mine:
        made["data"] = {word: mine["data"][word] for word in ("month", "used", "budget")}
    return made


def news(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether something has changed that should not wait."""
    return _lasting(before) != _lasting(now)


def _backlog(mine: Mapping[str, Any]) -> dict[str, Any]:
    held = mine["backlog"]
    words = ("rows", "slots", "batches", "batch_rows", "quarantined", "oldest", "used", "cap")
    return {word: held[word] for word in words} | {"shed": mine["shed_rows"]}


def _lasting(of: Mapping[str, Any]) -> dict[str, Any]:
    lasting = {word: value for word, value in of.items() if word not in PASSING}
    held = [(one["control"], one["until"]) for one in of.get("holds", ())]
    faults = [(one["component"], one["error"]) for one in of.get("faults", ())]
    return lasting | {"holds": held, "faults": faults}
