"""EQUIPMENT: nothing is commanded without authority, beyond its end or bound; people come first.

Which clauses, and what each check lets pass: tests.sim.judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.sim.facts import DAY, NEVER, Facts, second
from tests.sim.finding import Finding

RELEASED = 120.0
"""rule H2: so long after its end, or after agent and device are available again"""
FAILSAFE = 25 * 3600.0
"""rule H12: a failsafe lasts at most 24 h, and at least until messages have come for 120 s"""
HINDRANCES = (
    "device", "line", "disk", "guard", "inhibit", "priority", "opt-out", "silence", "uplink",
    "order", "release", "reload", "upgrade", "cancel",
)  # fmt: skip
"""what may forbid a failsafe, or give another value, for a day"""
NEAR = 5.0
"""seconds that a write and its record may lie apart"""
SEEN = 90.0
"""a guard or a switch is noticed within this: read each minute, checked every 10 s (rule H3)"""
PROBED = 75.0
"""seconds until a disk that cannot be written is noticed while something is held (rule A12)"""
GRACE = {"H3": 30.0}
"""seconds in which what was noticed is released, by clause; of others two minutes (rule H2)"""


@dataclass
class Order:
    """What was ordered, in the gateway's time; `asked`: true time at which it was given."""

    jti: str
    value: float
    begin: float
    end: float
    duration: float
    asked: float


@dataclass
class Write:
    """A value that came to a point; `value` None: our priority was cleared. `base`: what the point
    had before it was held; `releases`: the agent wrote that, or cleared its priority.
    """

    at: float
    wall: float
    before: Any
    value: Any
    by: str
    index: int
    base: Any = None
    releases: bool = False


@dataclass
class Hold:
    """The time in which a point had a value of the agent's."""

    begin: Write
    writes: list[Write] = field(default_factory=list)
    end: float = NEVER
    by: str = ""


def judged(facts: Facts) -> Iterator[Finding]:
    """All findings about the controls."""
    for control in facts.building.get("controls", ()):
        name = control["control"]
        yield from _control(facts, control, _writes(facts, control), _orders(facts, name))


def _writes(facts: Facts, control: Mapping[str, Any]) -> list[Write]:
    """The writes to a control. What a person writes at another priority is not ours to see."""
    writes, base = [], control.get("original")
    for at, what, index in facts.writes:
        by, slot = what["by"], what.get("slot")
        if what.get("control") != control["control"] or (slot is not None and by != "agent"):
            continue
        value = what["written"] if slot is not None else what["value"]
        write = Write(at, at + facts.apart(at), what.get("before"), value, by, index, base)
        if by == "agent":
            write.releases = value is None or _same(value, base) or _is_original(control, value)
        else:
            base = value
        writes.append(write)
    return writes


def _is_original(control: Mapping[str, Any], value: Any) -> bool:
    return _same(value, control.get("original"))


def _orders(facts: Facts, name: str) -> list[Order]:
    orders = []
    for asked, _, fact, _ in facts.stated:
        if fact["fact"] == "order" and fact["control"] == name:
            begin = second(fact["begin"])
            end = begin + fact["random"] + fact["duration"]
            order = Order(fact["jti"], fact["value"], begin, end, fact["duration"], asked)
            orders.append(order)
    return sorted(orders, key=lambda order: order.begin)


def _same(value: Any, other: Any) -> bool:
    if value in (None, "") or other in (None, ""):
        return value is other
    return abs(float(value) - float(other)) < 1e-6


def _control(
    facts: Facts, control: Mapping[str, Any], writes: list[Write], orders: list[Order]
) -> Iterator[Finding]:
    for write in writes:
        if write.by == "agent" and not write.releases:
            yield from _commanded(facts, control, write, orders)
    yield from _starved(facts, control, writes)
    holds = _holds(writes)
    for hold in holds:
        yield from _ended(facts, control, hold, orders)
        yield from _ramp(facts, control, hold)
    yield from _failsafe(facts, control, writes)
    yield from _people(control, writes, orders)
    yield from _quotas(facts, control, holds)
    for begin, end in facts.untrusted():
        for hold in holds:
            limit = _same(hold.begin.value, control.get("failsafe"))
            if begin < hold.begin.at < end and not limit:
                text = f"{control['control']}: an order begins by a wrong clock"
                yield _found("H26", text, hold.begin.at, hold.begin.index)
    yield from _stopped(facts, control, holds)
    yield from _on_a_failing_disk(facts, control, holds)
    yield from _released_again(facts, control, writes)


def _on_a_failing_disk(
    facts: Facts, control: Mapping[str, Any], holds: list[Hold]
) -> Iterator[Finding]:
    """A12: on a disk that cannot be written no hold begins, and each ends within two minutes."""
    for fault in facts.during(0, NEVER, "disk"):
        if fault.what.get("how") != "readonly":
            continue
        due = _available(facts, fault.begin + PROBED + RELEASED)
        for hold in holds:
            if _same(hold.begin.value, control.get("failsafe")) or _testing(facts, hold.begin.at):
                continue
            begins = fault.begin + NEAR < hold.begin.at < fault.end
            stays = hold.begin.at <= fault.begin and min(hold.end, fault.end) > due
            if begins or stays:
                text = f"{control['control']} is held at {hold.begin.value} from "
                text += f"{hold.begin.at:.0f} to {_until(hold)} on a disk that cannot be written"
                yield _found("A12", text, max(due, hold.begin.at), fault.index, hold.begin.index)


def _released_again(
    facts: Facts, control: Mapping[str, Any], writes: list[Write]
) -> Iterator[Finding]:
    """A14: what a person sets after a release stays; a release is repeated only after a crash of
    the machine.
    """
    for number, write in enumerate(writes):
        before = writes[number - 1] if number else None
        if write.by != "person" or before is None or before.by != "agent" or not before.releases:
            continue
        later = next(iter(writes[number + 1 :]), None)
        if later is None or later.by != "agent" or not later.releases:
            continue
        if facts.rebooted(before.at, later.at) or _same(later.value, write.value):
            continue
        text = f"{control['control']} is released again, {later.at - write.at:.0f} s after a person"
        text += f" has set {write.value}"
        yield _found("A14", text, later.at, write.index, later.index)


def _found(clause: str, text: str, at: float, *near: int) -> Finding:
    return Finding("EQUIPMENT", clause, text, at, near)


def _testing(facts: Facts, at: float) -> bool:
    """Whether a control is tested: in the set-up, or by a call."""
    if at < facts.plan["begin"]:
        return True
    return any(
        what["name"].startswith("control.test") and second(what["asked"]) - NEAR <= at <= end + NEAR
        for end, what, _ in facts.calls
    )


def _covering(write: Write, orders: list[Order]) -> list[Order]:
    """Orders that may be in force at a write, by the gateway's clock or by the true one."""
    return [
        order
        for order in orders
        if order.asked <= write.at + NEAR
        and (
            order.begin - NEAR <= write.wall <= order.end + NEAR
            or order.begin - NEAR <= write.at <= order.end + NEAR
        )
    ]


def _commanded(
    facts: Facts, control: Mapping[str, Any], write: Write, orders: list[Order]
) -> Iterator[Finding]:
    """G5, O17: only what an order in force asks for, within the modality."""
    if _testing(facts, write.at) or _same(write.value, control.get("failsafe")):
        return
    name = control["control"]
    low, high = control.get("min"), control.get("max")
    if low is not None and not float(low) <= float(write.value) <= float(high):
        yield _found(
            "O17", f"{name} is set to {write.value}, beyond {low}..{high}", write.at, write.index
        )
    covering = _covering(write, orders)
    if not covering:
        yield _found(
            "G5", f"{name} is set to {write.value} without an order", write.at, write.index
        )
        return
    start = float(write.base or 0)
    for order in covering:
        least, most = sorted((start, float(order.value)))
        if least - 1e-6 <= float(write.value) <= most + 1e-6:
            return
    text = f"{name} is set to {write.value}, which no order in force asks for"
    yield _found("O17", text, write.at, write.index)


def _holds(writes: list[Write]) -> list[Hold]:
    holds: list[Hold] = []
    open_: Hold | None = None
    for write in writes:
        if write.by == "agent" and not write.releases:
            if open_ is None:
                open_ = Hold(write)
                holds.append(open_)
            open_.writes.append(write)
        elif open_ is not None:
            if write.by == "person" and _same(write.value, open_.writes[-1].value):
                continue  # rule H33: the same value
            open_.end, open_.by = write.at, write.by
            open_ = None
    return holds


def _ramp(facts: Facts, control: Mapping[str, Any], hold: Hold) -> Iterator[Finding]:
    """H5: no value changes by more than `ramp_per_min` in a minute, as long as it is held."""
    ramp, last = float(control.get("ramp_per_min") or 0), hold.begin
    if not ramp or _testing(facts, last.at):
        return
    before, at = float(last.base or 0), last.at - 60
    for write in hold.writes:
        minutes = max(1.0, (write.at - at + NEAR) / 60)
        if abs(float(write.value) - before) > ramp * minutes + 1e-6:
            text = f"{control['control']} goes from {before} to {write.value} in {minutes:.1f} min"
            yield _found("H5", text, write.at, write.index)
            return
        before, at = float(write.value), write.at


def _failsafe(facts: Facts, control: Mapping[str, Any], writes: list[Write]) -> Iterator[Finding]:
    """H12: a start brings a limit to its failsafe, unless something of the last day forbids it."""
    failsafe = control.get("failsafe")
    if failsafe in (None, ""):
        return
    for life in facts.lives:
        due = life.ready + RELEASED
        spoiled = facts.during(life.begin - 26 * 3600, due, *HINDRANCES)
        unsure = due > min(life.end, facts.clock_doubted_from) or life.begin < facts.plan["begin"]
        if spoiled or unsure:
            continue
        until_then = [write for write in writes if write.at <= due]
        value = until_then[-1].value if until_then else control.get("original")
        if value is None or float(value) > float(failsafe):
            text = f"{control['control']} is {value} after a start, not its failsafe {failsafe}"
            yield _found("H12", text, due, life.index)


def _ended(
    facts: Facts, control: Mapping[str, Any], hold: Hold, orders: list[Order]
) -> Iterator[Finding]:
    """G6, H2, H28: released two minutes after its end, or after all is available again."""
    begin, last = hold.begin, hold.writes[-1]
    if _same(last.value, control.get("failsafe")):
        starts = [life.ready for life in facts.lives if last.at <= life.ready < hold.end]
        due = max([last.at, *starts]) + FAILSAFE
    elif _testing(facts, last.at):
        due = last.at + 600
    elif facts.clock_doubted_from < begin.at + DAY:
        longest = [order.end - order.begin for order in orders if order.asked <= last.at + NEAR]
        due = last.at + max(longest, default=0.0)
    else:
        due = _due(hold, orders)
    due = _available(facts, due + RELEASED)
    if min(hold.end, facts.end) > due + NEAR:
        text = f"{control['control']} keeps {last.value} until {_until(hold)}, due at {due:.0f}"
        yield _found("G6", text, due, begin.index, last.index)


def _until(hold: Hold) -> str:
    return "the end" if hold.end == NEVER else f"{hold.end:.0f}"


def _due(hold: Hold, orders: list[Order]) -> float:
    """The end of the orders that follow each other without a gap."""
    due = hold.writes[-1].at
    for order in orders:
        if order.begin - NEAR <= due and order.end > due and order.asked <= order.end:
            due = order.end
    return due


def _available(facts: Facts, due: float) -> float:
    """Later, by the times in which agent, line or device were not there."""
    spans = [
        (trouble.begin, trouble.end)
        for trouble in facts.troubles
        if trouble.do in ("device", "line")
    ]
    ends = [facts.plan["begin"] - DAY, *(life.end for life in facts.lives)]
    spans += [(end, life.ready) for end, life in zip(ends, facts.lives, strict=False)]
    for begin, end in sorted(spans):
        if begin <= due and end > due - RELEASED:
            due = end + RELEASED
    return due


def _starved(facts: Facts, control: Mapping[str, Any], writes: list[Write]) -> Iterator[Finding]:
    """H23: a hold in a calm time never lets the watchdog of the device run out."""
    for write in writes:
        fed = write.at - 2 * float(control.get("watchdog") or 60)
        ran_out = write.by == "watchdog" and not _testing(facts, write.at)
        if ran_out and facts.calm(fed, write.at):
            yield _found(
                "H23", f"the watchdog of {control['control']} ran out", write.at, write.index
            )


def _people(
    control: Mapping[str, Any], writes: list[Write], orders: list[Order]
) -> Iterator[Finding]:
    """H8, H10: what a person has set stays, until the planned end of the order that it ended."""
    for number, write in enumerate(writes):
        ours = (control.get("failsafe"), control.get("original"))
        if write.by != "person" or any(_same(write.value, value) for value in ours):
            continue  # rule H33: what gardien or the device's watchdog would have set
        in_force = [order for order in _covering(write, orders) if order.begin <= write.wall + NEAR]
        until = max((order.end for order in in_force), default=0.0)
        held = number and not writes[number - 1].releases and writes[number - 1].by == "agent"
        for later in writes[number + 1 :]:
            if later.by != "agent" or not held or later.at >= until:
                break
            if later.at > write.at + NEAR and not _same(later.value, write.value):
                text = f"{control['control']} is set to {later.value}, {later.at - write.at:.0f} s "
                text += f"after a person has set {write.value}"
                yield _found("H10", text, later.at, write.index, later.index)
                break


def _quotas(facts: Facts, control: Mapping[str, Any], holds: list[Hold]) -> Iterator[Finding]:
    """H4: min_gap, and at most so many a day."""
    gap, most = control.get("min_gap"), control.get("max_per_day")
    real = [hold for hold in holds if not _testing(facts, hold.begin.at)]
    real = [hold for hold in real if not _same(hold.begin.value, control.get("failsafe"))]
    if facts.clock_doubted_from < NEVER:
        return
    for last, hold in pairwise(real):
        apart = hold.begin.at - last.end
        if gap and apart < gap - NEAR:
            text = f"{control['control']}: {apart:.0f} s after the last hold, min_gap is {gap}"
            yield _found("H4", text, hold.begin.at, last.begin.index, hold.begin.index)
    for number, hold in enumerate(real):
        within = [one for one in real[number:] if one.begin.at < hold.begin.at + DAY]
        if most and len(within) > 2 * most:
            text = f"{control['control']}: {len(within)} holds in 24 h, max_per_day is {most}"
            yield _found("H4", text, hold.begin.at, hold.begin.index)
            return


def _stopped(facts: Facts, control: Mapping[str, Any], holds: list[Hold]) -> Iterator[Finding]:
    """H3, H7, H9: an opt-out, a release, a switch or a guard ends a hold, and lets none begin."""
    for clause, since, until, index in _stops(facts, control):
        due = _available(facts, since + GRACE.get(clause, RELEASED))
        for hold in holds:
            if _testing(facts, hold.begin.at):
                continue
            begins = since + NEAR < hold.begin.at < until
            stays = hold.begin.at <= since and hold.end > due and (until > due or clause == "H9")
            failsafe = _same(hold.begin.value, control.get("failsafe")) and clause == "H9"
            if (begins or stays) and not failsafe:
                text = f"{control['control']} is held at {hold.begin.value} from "
                text += f"{hold.begin.at:.0f} to {_until(hold)}, but was stopped at {since:.0f}"
                yield _found(clause, text, max(since, hold.begin.at), index, hold.begin.index)


def _cancels(facts: Facts, name: str, known: float, fact: Mapping[str, Any]) -> bool:
    """Whether a cancellation leaves no order that may be in force."""
    if fact["fact"] != "cancel" or facts.clock_doubted_from < known:
        return False
    others = [order for order in _orders(facts, name) if order.jti != fact.get("of")]
    return not any(
        order.begin - RELEASED < known + RELEASED < order.end + RELEASED for order in others
    )


def _stops(facts: Facts, control: Mapping[str, Any]) -> Iterator[tuple[str, float, float, int]]:
    """(clause, from, to, index): when nothing may be held."""
    name = control["control"]
    number = facts.building["controls"].index(control)
    many = len(facts.building["controls"])
    for _, known, fact, index in facts.stated:
        if fact.get("control") != name or known is None:
            continue
        if fact["fact"] == "opt-out":
            until = second(fact.get("until") or known)
            yield "H7", known, until - facts.apart(known), index
        elif fact["fact"] == "release" or _cancels(facts, name, known, fact):
            yield "H9", known, known, index
    for trouble in facts.troubles:
        mine = trouble.what.get("control", 0) % many == number
        if trouble.do in ("inhibit", "guard") and mine and trouble.end > trouble.begin + SEEN:
            yield "H3", trouble.begin + SEEN, trouble.end, trouble.index
