"""A seed becomes a plan: what happens to one building, and when.

A plan is plain JSON (README.md). Its *kind* decides which faults are frequent. Events cluster: a
cluster has a centre, and its events lie around it at distances from a second to half a day, so that
a withdrawal comes during an outage during a disk fault. `check` refuses a plan that the world could
not carry out, with every reason at once; shrinking and mutants rely on it.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

Plan = dict[str, Any]
Event = dict[str, Any]
Draw = Callable[[random.Random, Plan], Any]

SCHEMA = 1
PARIS = ZoneInfo("Europe/Paris")
MINUTE, HOUR, DAY = 60, 3600, 86_400
LINES = ("modbus", "mbus", "bacnet")
SPEAKING = ("modbus", "mbus")
"""lines whose meters tell their numbers"""
PARTS = ("schema", "seed", "begin", "days", "building", "events")
QUIET = 4 * HOUR
"""seconds of a drawn plan once every fault has ended: the judge leaves out what was read in the
last three hours (facts.SETTLES), and a life may need one to begin"""
QUARANTINED = 28 * HOUR
"""of some plans with rows that a recipient refuses: the agent offers them for a day (rule T17)"""
STATUS, EACH_MINUTE = 600.0, 0.1
"""seconds between two looks of the agent at its own state in a drawn plan, and the part of plans in
which it is a minute, as in the field: the looks are two fifths of what an idle building costs"""
PARTS_OF_A_DAY = 64
"""a drawn plan has a whole number of them: so its days are an exact number of seconds"""
LONG = 60
"""days from which a plan is of the kind `year`"""
LONGEST = 400
"""days that a plan may have"""
SWITCHES = (dt.date(2027, 3, 28), dt.date(2027, 10, 31))
"""days of 23 and 25 hours in Paris"""


# What may happen: the parameters of each `do`, with what they may be


@dataclass(frozen=True)
class Number:
    """A number in [low, high]; `whole`: an integer."""

    low: float
    high: float
    whole: bool = False

    def admits(self, value: object) -> bool:
        kinds = (int,) if self.whole else (int, float)
        return (
            isinstance(value, kinds)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
        )

    def __str__(self):
        return f"{'an integer' if self.whole else 'a number'} from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Choice:
    """One of these."""

    of: tuple[object, ...]

    def admits(self, value: object) -> bool:
        return any(value == each and type(value) is type(each) for each in self.of)

    def __str__(self):
        return "one of " + ", ".join(map(str, self.of))


INDEX = Number(0, 999, whole=True)
ANY_OR_INDEX = Number(-1, 999, whole=True)
FOR = Number(0.001, 70 * DAY)
BACK = Number(0, 70 * DAY)
NOTICE = Number(-DAY, 30 * DAY)
OFTEN = Number(0, 1)
AIMS = Choice(("any", "write", "sync", "send", "answer", "commit", "write-answer"))
BY_GIVE = Choice(("form", "list", "command", "signed"))

UPLINK_FAULTS = (
    "down",
    "late",
    "duplicate",
    "lost-receipts",
    "lost-batches",
    "foreign",
    "unsigned",
    "refuses",
    "too-large",
)

EVENTS: dict[str, dict[str, Number | Choice]] = {
    "kill": {"aim": AIMS, "nth": Number(1, 500, whole=True), "back": BACK},
    "power": {
        "aim": AIMS,
        "nth": Number(1, 500, whole=True),
        "back": BACK,
        "wall": Number(-40 * DAY, 40 * DAY),
    },
    "stop": {"back": BACK},
    "reload": {"change": Choice(("period", "line", "recipient", "flush", "wrong"))},
    "upgrade": {"change": Choice(("period", "flush", "none")), "back": BACK},
    "disk": {"how": Choice(("full", "readonly", "eio", "stall")), "for": FOR},
    "clock.step": {"by": Number(-40 * DAY, 40 * DAY)},
    "clock.service": {"on": Choice((True, False))},
    "device": {
        "device": INDEX,
        "how": Choice(("silent", "late", "slow", "wrong-unit", "reboot", "garbage", "protected")),
        "for": FOR,
    },
    "line": {"line": INDEX, "for": FOR},
    "priority": {"control": INDEX, "value": Number(-100, 100)},
    "guard": {"control": INDEX, "for": FOR},
    "exchange": {"device": INDEX, "notice": NOTICE, "indexes": Choice((True, False))},
    "remove": {"device": INDEX, "notice": NOTICE, "indexes": Choice((True, False))},
    "move": {"dwelling": INDEX, "notice": NOTICE, "empty": Number(0, 60 * DAY)},
    "consent": {
        "dwelling": INDEX,
        "recipient": INDEX,
        "step": Choice(("monthly", "daily", "loadcurve")),
        "until": Number(0.01, 1000),
        "by": BY_GIVE,
    },
    "withdraw": {
        "dwelling": INDEX,
        "recipient": ANY_OR_INDEX,
        "by": Choice(("list", "command", "signed")),
        "aim": Choice(("any", "in-flight")),
    },
    "again": {"what": Choice(("list", "form", "object"))},
    "duty": {"recipient": INDEX},
    "duty.end": {"recipient": INDEX},
    "uplink": {
        "recipient": INDEX,
        "how": Choice((*UPLINK_FAULTS, "slow")),
        "for": FOR,
    },
    "order": {
        "control": INDEX,
        "value": Number(-100, 100),
        "in": Number(0, 2 * DAY),
        "duration": Number(1, DAY),
        "kind": Choice(("offset", "setpoint", "limit")),
        "random": Number(0, HOUR),
    },
    "cancel": {"control": INDEX},
    "revoke": {"control": INDEX},
    "opt-out": {"control": INDEX, "for": FOR},
    "inhibit": {"control": INDEX, "for": FOR},
    "release": {"control": INDEX},
    "silence": {"recipient": INDEX, "for": FOR},
    "look": {},
}
OPTIONAL = {
    "order": {
        "flaw": Choice(("", "signature", "audience", "expired", "no-grant", "beyond", "replay"))
    },
    "consent": {
        "flaw": Choice(("", "signature", "audience")),
        "only": Choice(("elec.imp", "heat", "cw")),
        "given": Number(0, 60 * DAY),
        "apart": Choice((True, False)),
    },
    "disk": {
        "room": Number(0, 1 << 30, whole=True),
        "names": Choice((True, False)),
        "read": OFTEN,
        "write": OFTEN,
        "sync": OFTEN,
        "evict": Choice((True, False)),
        "writes": Choice((True, False)),
    },
    "clock.service": {"wrong": Number(-90 * DAY, 90 * DAY)},
    "duty.end": {"notice": NOTICE},
    "exchange": {"record": Choice(("then", "now"))},
}
"""what an event may have beside its parameters; `flaw`: why this object must have no effect.

Of a consent: `only`: the one channel that it names; `given`: seconds since its paper was signed;
`apart`: for a purpose of its own, so that it stands beside another.
Of a disk: what `Disk.begin` else draws from the event's seed.
Of a time service: `wrong`: by how many seconds it sets the clock wrong. Of an exchange: `record`:
for its time, or for now.
"""
BUILDING: dict[str, Number | Choice] = {
    "dwellings": Number(1, 40, whole=True),
    "recipients": Number(1, 4, whole=True),
    "controls": Number(0, 3, whole=True),
    "sums": Choice((True, False)),
    "withheld": Choice((True, False)),
    "common": Choice((True, False)),
    "signed": Choice((True, False)),
}
"""`common`: common plant with a meter and its basis; `withheld`: recipients ask for W rows;
`signed`: receipts are signed"""


def check(plan: Mapping[str, Any]) -> list[str]:
    """Why the world could not carry out this plan; empty: it can."""
    wrong = [
        f"no {name}" for name in ("seed", "begin", "days", "building", "events") if name not in plan
    ]
    if wrong or plan.get("schema") != SCHEMA:
        return wrong or [f"schema is {plan.get('schema')!r}, not {SCHEMA}"]
    if not Number(0, LONGEST).admits(plan["days"]):
        return [*wrong, f"days is {plan['days']!r}"]
    if not Number(0, LONGEST * DAY).admits(plan.get("quiet", 0)):
        wrong.append(f"quiet is {plan['quiet']!r}")
    if not Number(1_767_222_000, 1_893_456_000, whole=True).admits(plan["begin"]):
        wrong.append(f"begin is {plan['begin']!r}: a whole second of 2026 to 2029")
    if not Number(1, HOUR).admits(plan.get("status", STATUS)):
        wrong.append(f"status is {plan['status']!r}")
    wrong += _wrong_building(plan["building"])
    for index, event in enumerate(plan["events"]):
        wrong += [f"event {index}: {reason}" for reason in _wrong_event(event, plan)]
    return wrong


def _wrong_building(building: Mapping[str, Any]) -> list[str]:
    wrong = [
        f"building: {name} is {building.get(name)!r}, not {kind}"
        for name, kind in BUILDING.items()
        if not kind.admits(building.get(name))
    ]
    lines = building.get("lines")
    if not lines or any(line not in LINES for line in lines):
        wrong.append(f"building: lines are {lines!r}")
    elif building.get("controls") and not {"modbus", "bacnet"} & set(lines):
        wrong.append("building: a control needs modbus or bacnet")
    if building.get("small", False) not in {True, False}:
        wrong.append(f"building: small is {building['small']!r}")
    if extra := building.keys() - {*BUILDING, "lines", "small"}:
        wrong.append(f"building: unknown {', '.join(sorted(extra))}")
    return wrong


def _wrong_event(event: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    known = EVENTS.get(event.get("do", ""))
    if known is None:
        return [f"do is {event.get('do')!r}"]
    at, wrong = event.get("at"), []
    if not Number(0, plan["days"] * DAY).admits(at):
        wrong.append(f"at is {at!r}, outside the days of the plan")
    if not Number(0, 2**53, whole=True).admits(event.get("seed")):
        wrong.append(f"seed is {event.get('seed')!r}")
    wrong += [
        f"{name} is {event.get(name)!r}, not {kind}"
        for name, kind in known.items()
        if not kind.admits(event.get(name))
    ]
    optional = OPTIONAL.get(event["do"], {})
    wrong += [
        f"{name} is {event[name]!r}, not {kind}"
        for name, kind in optional.items()
        if name in event and not kind.admits(event[name])
    ]
    if extra := event.keys() - {"at", "do", "seed", *known, *optional}:
        wrong.append(f"unknown {', '.join(sorted(extra))}")
    if {"control"} <= known.keys() and not plan["building"].get("controls"):
        wrong.append("the building has no control")
    return wrong


def dump(plan: Plan) -> str:
    """A plan as text, an event on each line."""
    head = {name: value for name, value in plan.items() if name != "events"}
    lines = ",\n  ".join(json.dumps(event) for event in plan["events"])
    return json.dumps(head)[:-1] + ', "events": [\n  ' + lines + "\n]}\n"


def load(path: str | Path) -> Plan:
    """A plan from a file. Raises ValueError with all that is wrong with it."""
    plan = json.loads(Path(path).read_text(encoding="utf-8"))
    if wrong := check(plan):
        raise ValueError(f"{path}: " + "; ".join(wrong))
    return plan


# Drawing one


def plan(seed: int, days: float | None = None) -> Plan:
    """The plan of a seed; the same for ever as long as this module stays as it is.

    `days`: how long it is; without it, hours or days as its kind needs them.
    """
    rng = random.Random(f"plan/{seed}")
    long = days is not None and days >= LONG
    kind = rng.choice([name for name in KINDS if long or name != "year"])
    return drawn(seed, kind, rng, days)


def drawn(
    seed: int, kind: str, rng: random.Random | None = None, days: float | None = None
) -> Plan:
    """A plan of that kind."""
    rng = rng or random.Random(f"plan/{seed}/{kind}")
    of = KINDS[kind]
    shortest, longest = of.hours
    hours = _log(rng, shortest, longest)
    parts = hours / 24 * PARTS_OF_A_DAY if days is None else days * PARTS_OF_A_DAY
    length = max(1, round(parts)) * DAY // PARTS_OF_A_DAY
    drawing: Plan = {
        "schema": SCHEMA,
        "seed": seed,
        "kind": kind,
        "begin": _begin(rng, length),
        "days": length / DAY,
        "quiet": QUIET,
        "status": STATUS,
        "building": of.building(rng),
        "events": [],
    }
    events = _settled(rng, drawing)
    for _ in range(rng.randint(*of.clusters)):
        events += _cluster(rng, drawing, of)
    if drawing["building"]["controls"]:
        for _ in range(rng.randint(1, 2 + length // (4 * DAY))):
            at = rng.uniform(_settling(length), length - _settling(length) / 2)
            events.append(_event(rng, drawing, "order", at))
    events += [
        _event(rng, drawing, "look", rng.uniform(_settling(length), length))
        for _ in range(rng.randint(1, 4))
    ]
    drawing["events"] = sorted(events, key=lambda event: event["at"])
    if any(event.get("how") in REFUSING for event in events) and rng.random() < 0.25:
        drawing["quiet"] = QUARANTINED
    if rng.random() < EACH_MINUTE:
        del drawing["status"]
    return drawing


REFUSING = ("refuses", "too-large")
"""faults of an uplink after which rows are in quarantine"""


def _begin(rng: random.Random, length: int) -> int:
    """Often a day of 23 or 25 hours, the first of a month or another midnight lies inside."""
    day = dt.date(2027, 1, 1) + dt.timedelta(days=rng.randrange(300))
    hour, inside = 0, True
    if rng.random() < 0.3:
        day, hour = rng.choice(SWITCHES), rng.choice((0, 3))
    elif rng.random() < 0.5:
        day = dt.date(2027, rng.randint(2, 11), 1)
    else:
        inside = rng.random() < 0.5
    moment = dt.datetime(day.year, day.month, day.day, hour, tzinfo=PARIS).timestamp()
    before = rng.uniform(0.1, 0.9) * length if inside else -rng.randrange(DAY)
    return int(moment - rng.choice((0, before, before, before)))


def _settling(length: float) -> float:
    """Seconds at the begin of a plan in which consents are given: an hour, if there is time."""
    return min(HOUR, length / 4)


def _settled(rng: random.Random, drawing: Plan) -> list[Event]:
    """Consents and duties of the first hour, so that there is something to deliver."""
    building, events, until = drawing["building"], [], _settling(drawing["days"] * DAY)
    for dwelling in range(building["dwellings"]):
        for recipient in range(building["recipients"]):
            if rng.random() < (0.35 if building["sums"] else 0.75):
                event = _event(rng, drawing, "consent", rng.uniform(60, until))
                events.append(event | {"dwelling": dwelling, "recipient": recipient})
    if rng.random() < 0.5:
        events.append(_event(rng, drawing, "duty", rng.uniform(60, until)))
    return events


REMOVED = 6
"""of so many exchanges one is a removal; a sum over dwellings would be of fewer then"""
DISTURBED = ("withdraw", "move", "consent", "exchange", "order", "cancel", "opt-out", "again")
DISTURBING = ("kill", "kill", "kill", "power", "power", "disk")
"""what may come seconds after a change, to meet it halfway"""


def _cluster(rng: random.Random, drawing: Plan, kind: Kind) -> list[Event]:
    """Several events around one moment, most of them about one dwelling, recipient or control."""
    last = drawing["days"] * DAY
    centre = rng.uniform(_settling(last), last)
    if rng.random() < 0.25:  # near a midnight of the building, where much is due
        centre = _midnight_near(drawing["begin"], centre)
    of = {name: _of(name)(rng, drawing) for name in ("dwellings", "recipients", "controls")}
    events = []
    for _ in range(rng.randint(2, kind.most)):
        do = _possible(rng, drawing, _pick(rng, kind.weights))
        apart = rng.choice((-1, 1, 1)) * _log(rng, 0.5, min(12 * HOUR, last / 3))
        event = _event(rng, drawing, do, min(max(60.0, centre + apart), last))
        for name, number in of.items():
            if event.get(name[:-1], -1) >= 0 and rng.random() < 0.6:
                event[name[:-1]] = number
        events.append(event)
        if do in DISTURBED and rng.random() < 0.4:
            at = min(event["at"] + _log(rng, 0.5, 300), last)
            events.append(_event(rng, drawing, rng.choice(DISTURBING), at))
    return events


def _possible(rng: random.Random, drawing: Plan, do: str) -> str:
    """Without a control, something else in the place of an event of a control."""
    if "control" in EVENTS[do] and not drawing["building"]["controls"]:
        return rng.choice(("kill", "withdraw", "uplink", "move"))
    return do


def _midnight_near(begin: int, at: float) -> float:
    moment = dt.datetime.fromtimestamp(begin + at, PARIS)
    midnight = dt.datetime(moment.year, moment.month, moment.day, tzinfo=PARIS)
    return max(60.0, midnight.timestamp() - begin)


def _pick(rng: random.Random, weights: Mapping[str, float]) -> str:
    return rng.choices(tuple(weights), tuple(weights.values()))[0]


def _log(rng: random.Random, low: float, high: float) -> float:
    """A duration: each power of ten is as likely as any other."""
    return round(math.exp(rng.uniform(math.log(low), math.log(high))), 1)


def _event(rng: random.Random, drawing: Plan, do: str, at: float) -> Event:
    event: Event = {"at": round(at, 1), "do": do, "seed": rng.randrange(2**32)}
    for name, draw in DRAWS[do].items():
        event[name] = draw(rng, drawing)
    # drawn without a further number, so that the plans of all other seeds stay as they are
    if do == "exchange" and event["seed"] % REMOVED == 0 and not drawing["building"]["sums"]:
        event["do"] = "remove"
    if do == "order" and rng.random() < 0.2:
        event["flaw"] = rng.choice(OPTIONAL["order"]["flaw"].of[1:])
    if do == "consent" and event["by"] == "signed" and rng.random() < 0.1:
        event["flaw"] = rng.choice(OPTIONAL["consent"]["flaw"].of[1:])
    return event


def _one(*values: object) -> Draw:
    return lambda rng, _: rng.choice(values)


def _span(low: float, high: float) -> Draw:
    """A duration that is seldom longer than the plan."""
    return lambda rng, drawing: _log(rng, low, _within(drawing, high))


def _within(drawing: Plan, high: float) -> float:
    return min(high, max(HOUR, drawing["days"] * DAY))


def _whole(low: int, high: int) -> Draw:
    return lambda rng, _: rng.randint(low, high)


def _of(name: str) -> Draw:
    """Which dwelling, recipient, line or control."""
    return lambda rng, drawing: rng.randrange(max(1, _count(drawing["building"], name)))


def _count(building: Mapping[str, Any], name: str) -> int:
    if name == "devices":
        return 2 * building["dwellings"] + 2
    return len(building["lines"]) if name == "lines" else building[name]


def _maybe_all(rng: random.Random, drawing: Plan) -> int:
    return -1 if rng.random() < 0.3 else rng.randrange(drawing["building"]["recipients"])


def _wrong_by(rng: random.Random, _: Plan) -> float:
    """Seconds by which a clock is wrong: mostly seconds to hours, seldom a month."""
    return rng.choice((-1, 1)) * _log(rng, 1, rng.choice((300, 6 * HOUR, 35 * DAY)))


def _wall(rng: random.Random, drawing: Plan) -> float:
    return 0.0 if rng.random() < 0.6 else _wrong_by(rng, drawing)


def _notice(rng: random.Random, drawing: Plan) -> float:
    soon, late = _within(drawing, 6 * DAY), 2 * _within(drawing, 10 * DAY)
    return rng.choice((0.0, -3600.0, _log(rng, 60, soon), _log(rng, HOUR, late)))


def _order_value(rng: random.Random, _: Plan) -> float:
    return rng.choice((-3.0, -2.0, -1.5, -1.0, 0.5, 1.0, 2.0))


DRAWS: dict[str, dict[str, Draw]] = {
    "kill": {
        "aim": _one(
            "any", "any", "write", "sync", "send", "answer", "commit", "commit", "write-answer"
        ),
        "nth": _whole(1, 40),
        "back": _span(1, 6 * HOUR),
    },
    "power": {
        "aim": _one("any", "any", "write", "sync", "send", "answer", "commit", "write-answer"),
        "nth": _whole(1, 40),
        "back": _span(5, DAY),
        "wall": _wall,
    },
    "stop": {"back": _span(1, 6 * HOUR)},
    "reload": {"change": _one("period", "line", "recipient", "flush", "wrong")},
    "upgrade": {"change": _one("period", "flush", "none"), "back": _span(2, 120)},
    "disk": {"how": _one("full", "readonly", "eio", "stall"), "for": _span(1, 18 * HOUR)},
    "clock.step": {"by": _wrong_by},
    "clock.service": {"on": _one(True, False)},
    "device": {
        "device": _of("devices"),
        "how": _one(
            "silent", "silent", "late", "slow", "wrong-unit", "reboot", "garbage", "protected"
        ),
        "for": _span(1, 2 * DAY),
    },
    "line": {"line": _of("lines"), "for": _span(1, 12 * HOUR)},
    "priority": {"control": _of("controls"), "value": _one(-1.0, 0.0, 0.5, 1.5)},
    "guard": {"control": _of("controls"), "for": _span(5, 6 * HOUR)},
    "exchange": {"device": _of("devices"), "notice": _notice, "indexes": _one(True, False)},
    "remove": {"device": _of("devices"), "notice": _notice, "indexes": _one(True, False)},
    "move": {
        "dwelling": _of("dwellings"),
        "notice": _notice,
        "empty": lambda rng, of: rng.choice((0.0, 0.0, _log(rng, 1800, _within(of, 10 * DAY)))),
    },
    "consent": {
        "dwelling": _of("dwellings"),
        "recipient": _of("recipients"),
        "step": _one("monthly", "daily", "loadcurve", "loadcurve"),
        "until": lambda rng, _: rng.choice((1, 3, rng.randint(2, 30), 700)),
        "by": _one("form", "list", "command", "signed"),
    },
    "withdraw": {
        "dwelling": _of("dwellings"),
        "recipient": _maybe_all,
        "by": _one("list", "command", "signed"),
        "aim": _one("any", "in-flight", "in-flight"),
    },
    "again": {"what": _one("list", "form", "object")},
    "duty": {"recipient": _of("recipients")},
    "duty.end": {"recipient": _of("recipients")},
    "uplink": {
        "recipient": _of("recipients"),
        "how": _one(*UPLINK_FAULTS, "slow", "down", "down", "lost-receipts"),
        "for": _span(2, 3 * DAY),
    },
    "order": {
        "control": _of("controls"),
        "value": _order_value,
        "in": lambda rng, of: rng.choice((0.0, _log(rng, 1, _within(of, 12 * HOUR)))),
        "duration": _span(30, 3 * HOUR),
        "kind": _one("offset", "offset", "setpoint", "limit"),
        "random": lambda rng, _: rng.choice((0.0, _log(rng, 5, 1800))),
    },
    "cancel": {"control": _of("controls")},
    "revoke": {"control": _of("controls")},
    "opt-out": {"control": _of("controls"), "for": _span(30, DAY)},
    "inhibit": {"control": _of("controls"), "for": _span(30, 12 * HOUR)},
    "release": {"control": _of("controls")},
    "silence": {"recipient": _of("recipients"), "for": _span(30, 6 * HOUR)},
    "look": {},
}


@dataclass(frozen=True)
class Kind:
    """What a plan is about: how often each event is drawn, in what building, for how long.

    `hours`: what happens to controls and lines happens within hours; people and their rows need
    midnights.
    """

    weights: Mapping[str, float]
    building: Callable[[random.Random], dict[str, Any]]
    hours: tuple[float, float] = (3, 24)
    clusters: tuple[int, int] = (1, 4)
    most: int = 6


def _house(dwellings: tuple[int, int], recipients: tuple[int, int], **more: object) -> Any:
    """A building with so many dwellings and recipients; the rest at random, or as stated."""

    def build(rng: random.Random) -> dict[str, Any]:
        lines = [rng.choice(SPEAKING)]  # of a meter without a number nothing is sent
        lines += [line for line in LINES if line not in lines and rng.random() < 0.4]
        building: dict[str, Any] = {
            "dwellings": rng.randint(*dwellings),
            "recipients": rng.randint(*recipients),
            "lines": lines,
            "controls": rng.choice((0, 0, 1)),
            "sums": False,
            "withheld": rng.random() < 0.25,
            "common": rng.random() < 0.5,
            "signed": rng.random() < 0.2,
        } | more
        if building["controls"] and not {"modbus", "bacnet"} & set(building["lines"]):
            building["lines"] = [*building["lines"], rng.choice(("modbus", "bacnet"))]
        return building

    return build


PEOPLE = {"withdraw": 6.0, "consent": 4, "move": 4, "exchange": 2, "again": 2, "duty": 0.5,
          "duty.end": 0.5, "look": 1}  # fmt: skip
LIVES = {"kill": 3.0, "power": 2, "stop": 1, "reload": 1.5, "upgrade": 0.5}
UPLINKS = {"uplink": 8.0, "silence": 0.5}
DISKS = {"disk": 6.0}
CLOCKS = {"clock.step": 3.0, "clock.service": 2}
FIELD = {"device": 4.0, "line": 2}
CONTROL = {"order": 6.0, "priority": 2, "guard": 2, "cancel": 1.5, "revoke": 0.4, "opt-out": 1,
           "inhibit": 1, "release": 1, "silence": 1}  # fmt: skip


def _mix(**times: float) -> dict[str, float]:
    """Groups of events, each as often as stated."""
    groups = {"people": PEOPLE, "lives": LIVES, "uplinks": UPLINKS, "disks": DISKS,
              "clocks": CLOCKS, "field": FIELD, "control": CONTROL}  # fmt: skip
    weights: dict[str, float] = {}
    for group, factor in times.items():
        total = sum(groups[group].values())
        for do, weight in groups[group].items():
            weights[do] = weights.get(do, 0) + factor * weight / total
    return weights


KINDS = {
    "outages": Kind(_mix(uplinks=5, people=3, lives=2), _house((1, 6), (1, 3))),
    "disk": Kind(_mix(disks=4, people=3, lives=2, uplinks=2), _house((1, 5), (1, 2))),
    "power": Kind(_mix(lives=6, people=3, uplinks=2, disks=1), _house((1, 5), (1, 2))),
    "clocks": Kind(_mix(clocks=5, lives=2, people=2, uplinks=1), _house((1, 4), (1, 2))),
    "people": Kind(_mix(people=7, uplinks=3, lives=2), _house((2, 8), (1, 3)), hours=(6, 72)),
    "control": Kind(
        _mix(control=6, lives=2, disks=1, clocks=1, field=1, uplinks=1),
        _house((1, 3), (1, 2), controls=1, lines=["modbus", "bacnet"]),
        hours=(2, 8),
    ),
    "field": Kind(_mix(field=6, lives=2, people=2, uplinks=1), _house((2, 6), (1, 2))),
    "everything": Kind(
        _mix(people=4, lives=3, uplinks=3, disks=2, clocks=1.5, field=2, control=1.5),
        _house((1, 6), (1, 3)),
        hours=(4, 24),
        clusters=(2, 6),
        most=8,
    ),
    "aggregates": Kind(
        _mix(people=5, lives=2, uplinks=2, field=2),
        _house((11, 14), (1, 2), sums=True, controls=0),
        hours=(4, 36),
    ),
    "year": Kind(
        _mix(people=5, lives=2, uplinks=2, field=1),
        _house((1, 2), (1, 2), controls=0, lines=["mbus"]),
        hours=(24 * LONG, 24 * 365),
        clusters=(2, 4),
        most=4,
    ),
}
