"""What the platform knows of a building from batches alone: whose each row is, and what is owed."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400
MONTH = 30 * DAY
"""the step of monthly rows; their slots are the building's midnights of each 1st"""

DISORDER = """
SELECT a.list, a.id FROM told a JOIN told b USING (gateway, recipient, epoch) WHERE b.at > a.at
AND (b.list = 'places' AND b.id = a.place OR b.list = 'occupancies' AND b.id = a.occupancy)
"""


@dataclass
class Plan:
    """What is wrong with the rows by the directory; nothing, where both are right."""

    series: int = 0
    rows: int = 0
    unknown: list[str] = field(default_factory=list)
    """rows whose place, meter, occupancy or basis the directory does not know for that time"""
    unstated: list[str] = field(default_factory=list)
    """slots owed, of which no row says anything"""
    unowed: list[str] = field(default_factory=list)
    """slots stated that nobody is owed"""
    disorder: list[str] = field(default_factory=list)
    """items of the directory that came before what they refer to"""


def judge(path: Path) -> Plan:
    """Hold every row against the directory, and every series owed against the rows."""
    with closing(sqlite3.connect(path)) as db:
        return judged(db)


def judged(db: sqlite3.Connection) -> Plan:
    """As `judge`, of an open ledger."""
    with closing(db.cursor()):
        known: dict[str, dict[str, dict[str, Any]]] = {}
        for name, key, body in db.execute("SELECT list, id, body FROM directory"):
            known.setdefault(name, {})[key] = json.loads(body)
        rows = db.execute(
            "SELECT place, channel, kind, step, t, span, meter, occupancy, basis FROM row"
            " WHERE basis != ''"  # what is withheld is of none, and nobody was told to expect it
        ).fetchall()
        disorder = [f"{name} {key}" for name, key in db.execute(DISORDER)]
        stretches: dict[str, list[dict[str, Any]]] = {}
        for key, body in db.execute("SELECT id, body FROM stretch"):
            stretches.setdefault(key, []).append(json.loads(body))
    plan = Plan(series=len(known.get("series", {})), rows=len(rows), disorder=disorder)
    stated: dict[Any, set[int]] = {}
    for *words, step, t, span, meter, occupancy, basis in rows:
        key = (*words, step)
        _whose(plan, known, key, t, meter, occupancy, basis)
        stated.setdefault(key, set()).update(t + n * step for n in range(span))
    _owed(plan, known, stretches, stated)
    return plan


def _whose(  # noqa: PLR0913, PLR0917 -- what a row says
    plan: Plan, known: Any, key: Any, t: int, meter: str | None, occupancy: str | None, basis: str
) -> None:
    place, channel, kind, step = key
    wrong = []
    if place not in known.get("places", {}):
        wrong.append("place")
    installed = [
        one
        for one in known.get("installations", {}).values()
        if (one["place"], one["meter"]) == (place, meter) and _covers(one, t)
    ]
    if not step and kind == "REG":  # an index at an exchange: a meter's first or last second
        edges = {edge for one in installed for edge in (_second(one["since"]), _end(one) - 1)}
        wrong += [] if t in edges else ["exchange"]
    listed = any(one["place"] == place for one in known.get("installations", {}).values())
    # of common plant the configuration says which meter it is, and nobody installs it
    if meter is not None and not installed and (listed or place[:1] == "D"):
        wrong.append("meter")
    home = known.get("occupancies", {}).get(occupancy)
    if occupancy is not None and not (home and home["place"] == place and _covers(home, t)):
        wrong.append("occupancy")
    by = known.get("bases", {}).get(basis)
    if not (by and _covers(by, t) and channel in by.get("channels", [channel])):
        wrong.append("basis")
    elif step and step < by.get("step", 0):
        wrong.append("step")
    elif "withdrawn" in by:
        wrong.append("withdrawn")
    if wrong:
        plan.unknown.append(f"{key} {t}: {', '.join(wrong)}")


def _owed(
    plan: Plan,
    known: Any,
    stretches: dict[str, list[dict[str, Any]]],
    stated: dict[Any, set[int]],
) -> None:
    """Between the first slot owed and the last stated, every slot that a basis covers is stated,
    and no other. A series that is made again begins anew: before that, it was owed until its end.
    """
    zone = ZoneInfo(known.get("zone", {"": {"timezone": "UTC"}}).popitem()[1]["timezone"])
    sums = {by["place"] for by in known.get("bases", {}).values() if by["id"] == "rest"}
    for id_, present in known.get("series", {}).items():
        key = (present["place"], present["channel"], present["kind"], present["step"])
        mine = stated.pop(key, set())
        expected, allowed = set[int](), set[int]()
        end, begun = _end(present), _second(present["since"])
        earlier = [one for one in stretches[id_] if _second(one["since"]) < begun]
        for one in [present, *sorted(earlier, key=lambda one: _second(one["since"]), reverse=True)]:
            end = min(_end(one), end)
            last = min(max(mine, default=0), end - 1)
            slots = _slots(_second(one["since"]), last, one["step"], zone)
            # one that nobody has ended before the next one began was lost with its epoch
            lost = one is not present and "until" not in one
            by_slot = {slot: _bases_for(known, one, slot, zone) for slot in slots}
            allowed |= {slot for slot, bases in by_slot.items() if bases}
            # what was closed before a basis was recorded is not made again, but may come late
            expected |= {
                slot
                for slot, bases in by_slot.items()
                if not lost
                and any("recorded" not in by or _second(by["recorded"]) < slot for by in bases)
            }
            end = min(end, _second(one["since"]))
        if present["kind"] != "EVT":  # of a state only what is new is stated
            plan.unstated += [f"{key} {slot}" for slot in sorted(expected - mine)]
        if present["place"] not in sums:
            plan.unowed += [f"{key} {slot}" for slot in sorted(mine - allowed)]
    # an index at an exchange of meters (step 0) is owed to nobody
    plan.unowed += [f"{key}: not in the plan" for key in stated if key[3] or key[2] != "REG"]


def _bases_for(known: Any, one: dict[str, Any], slot: int, zone: ZoneInfo) -> list[dict[str, Any]]:
    """The bases on which a slot of a series is owed."""
    return [
        by
        for by in known.get("bases", {}).values()
        if by["id"] != "rest"  # of few no sum is sent, and no row where none are wanted
        and "withdrawn" not in by
        and (by["id"] != "common" or one["place"][:1] != "D")
        and ("duty" not in by or one["step"] >= MONTH)
        and by.get("place", one["place"]) == one["place"]
        and one["channel"] in by.get("channels", [one["channel"]])
        and one["step"] >= by.get("step", 0)
        and _for(by, slot, one, zone)
        and _lived_in(known, by, one, slot, zone)
    ]


def _lived_in(
    known: Any, by: dict[str, Any], one: dict[str, Any], slot: int, zone: ZoneInfo
) -> bool:
    """Whether the people of a consent live there then, or for a duty anybody."""
    if "occupancy" not in by and "duty" not in by:
        return True
    homes = known.get("occupancies", {}).values()
    return any(
        home["place"] == one["place"]
        and by.get("occupancy", home["id"]) == home["id"]
        and _for(home, slot, one, zone)
        for home in homes
    )


def _for(one: dict[str, Any], slot: int, series: dict[str, Any], zone: ZoneInfo) -> bool:
    """Whether an interval has all of the time that a slot of a series is for."""
    if series["kind"] not in {"INT", "AVG"}:
        return _covers(one, slot)
    begin = slot - series["step"]
    if series["step"] >= DAY:
        day = dt.datetime.fromtimestamp(slot, zone).date() - dt.timedelta(days=1)
        day = day.replace(day=1) if series["step"] >= MONTH else day
        begin = int(dt.datetime.combine(day, dt.time(), zone).timestamp())
    return _second(one["since"]) <= begin and slot <= _end(one)


def _end(one: dict[str, Any]) -> int:
    return _second(one["until"]) if "until" in one else 1 << 62


def _slots(first: int, last: int, step: int, zone: ZoneInfo) -> set[int]:
    if step == MONTH:
        return {t for t in _slots(first, last, DAY, zone) if _begins_month(t, zone)}
    if step != DAY:
        return set(range(first, last + 1, step))
    day, slots = dt.datetime.fromtimestamp(first, zone).date(), set()
    while (slot := int(dt.datetime.combine(day, dt.time(), zone).timestamp())) <= last:
        slots.add(slot)
        day += dt.timedelta(days=1)
    return slots


def _begins_month(t: int, zone: ZoneInfo) -> bool:
    return dt.datetime.fromtimestamp(t, zone).day == 1


def _covers(one: dict[str, Any], t: int) -> bool:
    until = one.get("until")
    return _second(one["since"]) <= t and (until is None or t < _second(until))


def _second(written: str) -> int:
    return int(dt.datetime.fromisoformat(written).timestamp())
