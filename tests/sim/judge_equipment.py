"""EQUIPMENT: nothing is commanded without authority, beyond its end or bound; people come first.

Which clauses, and what each check lets pass: tests.sim.judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from typing import Any, NamedTuple

from tests.sim.facts import DAY, NEVER, SETTLES, Facts, Life, Trouble, second
from tests.sim.finding import Finding

HOUR = 3600.0
RELEASED = 120.0
"""rule H2: so long after its end, or after agent and device are available again"""
FAILSAFE = 25 * 3600.0
"""rule H12: a failsafe lasts at most 24 h, and at least until messages have come for 120 s"""
UNBROKEN = 120.0
"""rule H12: so long must messages have come without a gap"""
STOPPED = 25.0
"""rule H20: 20 s after the end of the agent all is released, with 5 s until that begins"""
UNREAD = 140.0
"""rule H3: a guard that is read each minute, silent for two periods and 5 s; checked every 10 s"""
HINDRANCES = (
    "device", "line", "disk", "guard", "inhibit", "priority", "opt-out", "silence", "uplink",
    "order", "release", "reload", "upgrade", "cancel",
)  # fmt: skip
"""what may forbid a failsafe, or give another value, for a day"""
NEAR = 5.0
"""seconds that a write and its record may lie apart"""
TOLD = 1500.0
"""seconds in which a state of an order is delivered, if no uplink and no disk ever failed; if one
did: SETTLES"""
SEEN = 90.0
"""a guard or a switch is noticed within this: read each minute, checked every 10 s (rule H3)"""
TAKEN = {"ACCEPTED", "SCHEDULED", "STARTED"}
FINAL = {"COMPLETED", "CANCELLED", "SUPERSEDED", "ABORTED", "OPTED_OUT", "EXPIRED", "FAILED"}
"""rule H11: states in which an order ends"""
NO_ORDER = {"H9", "H27"}
"""clauses about orders: a failsafe is none"""
SLOW = 280.0
"""seconds until a slow device has carried out what was written to it"""
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
    seq: int = 0
    states: set[str] = field(default_factory=set)
    """what recipients were told of it"""


class Stop(NamedTuple):
    """From `since` to `until` nothing may begin; `ends`: a hold ends, however soon that is over."""

    clause: str
    since: float
    until: float
    index: int
    ends: bool = False


@dataclass
class Write:
    """A value that came to a point; `value` None: our priority was cleared. `base`: what the point
    had before it was held; `slot`: the priority at which it was written; `releases`: the agent has
    given the point back.
    """

    at: float
    wall: float
    before: Any
    value: Any
    by: str
    index: int
    slot: Any = None
    base: Any = None
    releases: bool = False


@dataclass
class _Before:
    """What a hold knew before a person set a value: it goes on with that if the watchdog of the
    device replaces the value until then.
    """

    until: float
    base: Any
    own: list[Any]


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
        orders = _orders(facts, control)
        yield from _control(facts, control, _writes(facts, control, orders), orders)


def _writes(facts: Facts, control: Mapping[str, Any], orders: list[Order]) -> list[Write]:
    """The writes to a control. What a person writes at another priority is not ours to see, nor a
    value that the agent has set in the same hold, nor one that the device's watchdog has replaced
    before the agent did anything (rule H33), nor one that came before the read-back of its own, and
    that it then replaced as if the device had rounded: that hold goes on. A watchdog that runs out
    later was fed meanwhile, so a hold began from that value (a limit that it suits writes nothing).
    `fallen`: where the device itself went back to the value from before, the hold is over without a
    write.
    """
    writes, base, own = [], control.get("original"), []
    replaced = fallen = None
    seen = _seen(facts, control)
    for write, later in zip_longest(seen, seen[1:]):
        write.base, value = base, write.value
        if write.by == "agent":
            left = _not_ended_by_a_start(facts, write, writes, orders)
            write.releases = _releases(control, write, later, left)
            stays = _stays(facts, control, write, writes)
            if write.releases and value is not None and not _begins(write, writes, orders):
                base = value  # it stands there, whoever set another (H33)
            own, replaced = [] if write.releases and not stays else [*own, value], None
            fallen = None
        elif write.by == "person":  # what a watchdog falls back to is a consequence of the hold
            over = fallen is not None and _is_over(facts, fallen, write, orders)
            if any(_same(value, one) for one in own) and not over:
                continue
            if later is not None and later.by == "agent" and _just_written(writes, later):
                continue
            replaced = replaced or _Before(0.0, base, own)
            base, own = value, []
            replaced.until = write.at + _runs_out(facts, control, write.at)
        elif write.by == "watchdog" and replaced is not None:
            if write.at <= replaced.until:
                base, own = replaced.base, replaced.own
            replaced = None
        elif _same(value, base):
            fallen = write
        writes.append(write)
    return writes


def _runs_out(facts: Facts, control: Mapping[str, Any], at: float) -> float:
    """Seconds after which a watchdog that was fed before `at` has run out (rule H23)."""
    slow = SLOW if facts.during(at - SLOW, at + SLOW, "device", "line") else 0.0
    return 1.1 * float(control.get("watchdog") or 60) + NEAR + slow


def _begins(write: Write, earlier: list[Write], orders: list[Order]) -> bool:
    """Whether an order may begin at a write, so that its value is none from before a hold."""
    ours = [one for one in earlier if one.by == "agent" and not one.releases]
    return any(
        not any(_covering(one, [order]) for one in ours) for order in _covering(write, orders)
    )


def _stays(facts: Facts, control: Mapping[str, Any], write: Write, earlier: list[Write]) -> bool:
    """Whether a limit is held at the value from before, which it does not raise (rule H12). A
    release is written again only after a crash of the machine (rule A14).
    """
    last = earlier[-1] if earlier else None
    unchanged = control.get("action") == "limit" and _same(write.before, write.value)
    held = last is not None and last.by == "agent" and not last.releases
    crashed = last is not None and facts.rebooted(last.at, write.at)
    return unchanged and not held and not crashed


def _is_over(facts: Facts, fallen: Write, write: Write, orders: list[Order]) -> bool:
    """Whether the hold whose device has fallen back is over at a later write: no order of that time
    is in force, or the agent has started again (rule H17).
    """
    restarted = _life(facts, fallen.at) < _life(facts, write.at)
    return restarted or not _covering(write, _covering(fallen, orders))


def _seen(facts: Facts, control: Mapping[str, Any]) -> list[Write]:
    """All writes to a control that the agent can see."""
    return [
        Write(
            at, at + facts.apart(at), what.get("before"),
            what["value"] if what.get("slot") is None else what["written"],
            what["by"], index, what.get("slot"),
        )
        for at, what, index in facts.writes
        if what.get("control") == control["control"]
        and (what.get("slot") is None or what["by"] == "agent")
    ]  # fmt: skip


def _just_written(writes: list[Write], again: Write) -> bool:
    """Whether the agent set a value so shortly before another that it had not been read back."""
    last = writes[-1] if writes else again
    return last.by == "agent" and not last.releases and 0 < again.at - last.at <= NEAR


def _not_ended_by_a_start(
    facts: Facts, write: Write, earlier: list[Write], orders: list[Order]
) -> list[Order]:
    """H17: the orders but those that had begun in an earlier life."""
    life = _life(facts, write.at)
    before = [one for one in earlier if one.by == "agent" and _life(facts, one.at) < life]
    return [order for order in orders if not any(_covering(one, [order]) for one in before)]


def _releases(
    control: Mapping[str, Any], write: Write, later: Write | None, orders: list[Order]
) -> bool:
    """Whether the agent gives the point back: its priority is cleared. Where there are none, the
    value is that before the hold, and no ramp has only passed it (rule H5).
    """
    if write.value is None or write.slot is not None:
        return write.value is None
    before_it = _same(write.value, write.base) or _is_original(control, write.value)
    return before_it and not _passes(write, later, orders)


def _passes(write: Write, later: Write | None, orders: list[Order]) -> bool:
    """Whether an order that is in force at both writes, and so no later event (rule H4), goes on
    beyond this value.
    """
    if later is None or later.by != "agent" or None in (write.before, later.value):
        return False
    middle = float(write.value)
    beyond = (middle - float(write.before)) * (float(later.value) - middle) > 0
    return beyond and bool(_covering(later, _covering(write, orders)))


def _is_original(control: Mapping[str, Any], value: Any) -> bool:
    return _same(value, control.get("original"))


def _orders(facts: Facts, control: Mapping[str, Any]) -> list[Order]:
    """The orders that may be carried out: none that is too long, none that was refused at once."""
    orders, longest = [], control.get("max_duration") or NEVER
    for asked, known, fact, index in facts.stated:
        if fact["fact"] == "order" and fact["control"] == control["control"]:
            begin, jti = second(fact["begin"]), fact["jti"]
            claims = facts.journal[index].what.get("claims")
            end = begin + fact["random"] + fact["duration"]
            if claims and known is not None and "start" not in claims.get("cmd", {"start": begin}):
                end = max(end, known + end - begin)  # it begins when it is accepted
            order = Order(jti, fact["value"], begin, end, fact["duration"], asked)
            order.seq, order.states = (claims or {}).get("seq", 0), facts.outcomes.get(jti, set())
            refused = "REJECTED" in order.states and not order.states & TAKEN
            if not refused and order.duration <= longest:
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
    yield from _raised(facts, control, writes)
    yield from _beside_people(facts, control)
    yield from _again(facts, control, writes, orders)
    yield from _outcomes(facts, control, writes, orders)
    holds = _holds(writes)
    yield from _after_ends(facts, control, holds)
    for hold in holds:
        yield from _ended(facts, control, hold, orders)
        yield from _ramp(facts, control, hold)
    yield from _failsafe(facts, control, writes)
    yield from _unheard(facts, control, writes)
    yield from _people(control, writes, orders)
    begun = _continued(holds, orders)
    yield from _quotas(facts, control, begun)
    for begin, end in facts.untrusted():
        for hold in begun:
            limit = _same(hold.begin.value, control.get("failsafe"))
            if begin < hold.begin.at < end and not limit:
                text = f"{control['control']}: an order begins by a wrong clock"
                yield _found("H26", text, hold.begin.at, hold.begin.index)
    yield from _stopped(facts, control, holds)
    yield from _on_a_failing_disk(facts, control, begun)
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


def _late(facts: Facts, control: Mapping[str, Any], at: float) -> float:
    """Seconds by which its device may carry out a write late."""
    faults = facts.during(at - SLOW, at, "device")
    slow = any(one.what["how"] == "slow" and _at_its_device(facts, control, one) for one in faults)
    return SLOW if slow else 0.0


def _at_its_device(facts: Facts, control: Mapping[str, Any], trouble: Trouble) -> bool:
    """Whether a fault of a device is one of the control's."""
    number, many = facts.building["controls"].index(control), len(facts.building["controls"])
    device = len(facts.building["meters"]) + number
    return bool(trouble.what["device"] % (device - number + many) == device)


def _covering(write: Write, orders: list[Order], late: float = 0.0) -> list[Order]:
    """Orders that may be in force at a write, by the gateway's clock or by the true one. `late`:
    seconds by which the device may have carried it out late.
    """
    return [
        order
        for order in orders
        if order.asked <= write.at + NEAR
        and (
            order.begin - NEAR <= write.wall <= order.end + NEAR + late
            or order.begin - NEAR <= write.at <= order.end + NEAR + late
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
    covering = _covering(write, orders, _late(facts, control, write.at))
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


def _ordered(facts: Facts, control: Mapping[str, Any], writes: list[Write]) -> Iterator[Write]:
    """The writes of the agent that only an order can have asked for."""
    for write in writes:
        failsafe = _same(write.value, control.get("failsafe"))
        if write.by == "agent" and not (write.releases or failsafe or _testing(facts, write.at)):
            yield write


def _raised(facts: Facts, control: Mapping[str, Any], writes: list[Write]) -> Iterator[Finding]:
    """H12: a limit never raises the value that was there before."""
    for write in writes:
        raised = write.by == "agent" and not write.releases and control.get("action") == "limit"
        most = float(write.base) + 1e-6 if raised else NEVER
        if raised and float(write.value) > most and not _testing(facts, write.at):
            text = f"{control['control']}, a limit, raises {write.base} to {write.value}"
            yield _found("H12", text, write.at, write.index)


def _beside_people(facts: Facts, control: Mapping[str, Any]) -> Iterator[Finding]:
    """H8: nothing is written beside a stronger priority of a person."""
    since = NEVER
    for at, what, index in facts.writes:
        if what.get("control") != control["control"] or what.get("slot") is None:
            continue
        if what["by"] == "person":
            since = NEVER if what["written"] is None else at
        elif facts.during(at - 600, at, "device"):  # it may have answered long before
            continue
        elif what["by"] == "agent" and what["written"] is not None and at > since + NEAR:
            text = f"{control['control']} is set to {what['written']} under a person's priority"
            yield _found("H8", text, at, index)


def _life(facts: Facts, at: float) -> int:
    """The number of lives that had begun."""
    return sum(life.begin <= at for life in facts.lives)


def _again(
    facts: Facts, control: Mapping[str, Any], writes: list[Write], orders: list[Order]
) -> Iterator[Finding]:
    """H17: no order that had begun is carried out again after a restart."""
    begun: dict[str, int] = {}
    for write in _ordered(facts, control, writes):
        covering, life = _covering(write, orders), _life(facts, write.at)
        if covering and all(begun.get(one.jti, life) < life for one in covering):
            text = f"{control['control']} is set to {write.value}: its order began before a restart"
            yield _found("H17", text, write.at, write.index)
        elif len(covering) == 1:
            begun.setdefault(covering[0].jti, life)


def _outcomes(
    facts: Facts, control: Mapping[str, Any], writes: list[Write], orders: list[Order]
) -> Iterator[Finding]:
    """H8, H11: the stronger of two orders is in force; recipients are told how each order ends."""
    if not control.get("common"):
        return
    limit = control.get("failsafe") not in (None, "")
    fallen_back = limit and "STARTED" in facts.outcomes.get("failsafe", ())
    settled = facts.end - (SETTLES if facts.during(0, NEVER, "uplink") else TOLD)
    calm = facts.calm_from < settled and not _removed(facts) and not facts.during(0, NEVER, "disk")
    for order in orders:
        stronger = any(
            other.seq > order.seq and other.begin <= order.end and order.begin <= other.end
            for other in orders
        )
        if "SUPERSEDED" in order.states and not (stronger or fallen_back):
            text = f"{control['control']}: {order.jti} gave way, but none was stronger"
            yield _found("H8", text, order.begin)
        steps = facts.steps.get((order.jti, control["control"]), {})
        ends = [state for state in steps.values() if state in FINAL - {"SUPERSEDED"}]
        if len(ends) > 1 and not (facts.during(0, NEVER, "disk") or facts.rebooted(0, NEVER)):
            text = f"{control['control']}: {order.jti} ended more than once: {', '.join(ends)}"
            yield _found("H11", text, order.begin)
    for write in _ordered(facts, control, writes):
        covering = _covering(write, orders)
        late = max(order.end for order in covering) if covering else NEVER
        untold = len(covering) == 1 and not covering[0].states & FINAL
        if untold and late < settled and calm:
            text = f"{control['control']}: nobody was told how {covering[0].jti} ended"
            yield _found("H11", text, late, write.index)


def _removed(facts: Facts) -> bool:
    """Whether a recipient was removed, or refuses what it is sent."""
    names = facts.building["recipients"]
    return any(min(facts.removed_from(name), facts.refused_from(name)) < NEVER for name in names)


def _after_ends(facts: Facts, control: Mapping[str, Any], holds: list[Hold]) -> Iterator[Finding]:
    """H17, H20: after the end of the agent, and at its next start, nothing is held any more. A13:
    nor where the disk fails, since the release reads the copy.
    """
    for life in facts.lives:
        if life.begin < facts.plan["begin"]:
            started = NEVER
        else:
            started = _available(facts, life.ready + NEAR)
        ended = life.end + STOPPED
        for hold in holds:
            yield from _limit_released(facts, control, hold, life)
            value = [one.value for one in hold.writes if one.at <= started][-1:]
            stays = hold.begin.at < life.begin and started < min(hold.end, life.end) - NEAR
            stays = stays and not _falls_back(control, hold, life.begin, started)
            if stays and _quiet(facts, life.begin, started):
                text = f"{control['control']} is held at {value[0]}, as before the restart"
                yield _found("H17", text, started, hold.begin.index, life.index)
            value = [one.value for one in hold.writes if one.at <= ended][-1:]
            stays = hold.begin.at <= life.end and ended < min(hold.end, facts.end)
            spoiled = facts.during(life.end - STOPPED, ended, "device", "line", "power")
            disks = facts.during(life.end - STOPPED, ended, "disk")
            spoiled += [one for one in disks if one.what.get("how") not in ("eio", "readonly")]
            calm = life.how not in ("power", "end") and not spoiled
            errors = any(one.what.get("how") == "eio" for one in disks)
            calm = calm and not (errors and _unread(facts, life))
            if stays and calm and not _falls_back(control, hold, life.end, ended):
                text = f"{control['control']} is held at {value[0]}, and no agent runs"
                yield _found("A13" if disks else "H20", text, ended, hold.begin.index, life.index)


def _unread(facts: Facts, life: Life) -> bool:
    """Whether no life since the boot was ready: then a disk that fails may have given the journal
    to nobody, and a register stays commanded (A, remaining risks).
    """
    ready = max((one.ready for one in facts.lives if one.ready <= life.end), default=0.0)
    return facts.rebooted(ready, life.end)


def _limit_released(
    facts: Facts, control: Mapping[str, Any], hold: Hold, life: Life
) -> Iterator[Finding]:
    """H17: a start changes a limit to its failsafe, and does not release it first."""
    at_start = hold.begin.at < life.begin < hold.end < life.ready + RELEASED
    recent = hold.writes[-1].at > life.begin - 1.5 * HOUR  # an older failsafe may be over
    if not (at_start and recent and hold.by == "agent" and control.get("failsafe")):
        return
    calm = _quiet(facts, life.begin, hold.end) and facts.clock_doubted_from > hold.end
    if calm and not _failsafe_forbidden(facts, control, life.begin - HOUR, hold.end):
        text = f"{control['control']} is released at a start, in place of its failsafe"
        yield _found("H17", text, hold.end, hold.begin.index, life.index)


def _falls_back(control: Mapping[str, Any], hold: Hold, since: float, until: float) -> bool:
    """Whether a limit has its failsafe value at any time from `since` to `until`. What comes after
    it needs an order of its own (G5), which has not begun before (H17).
    """
    at_first = [write for write in hold.writes if write.at <= since][-1:]
    later = [write for write in hold.writes if since < write.at <= until]
    return any(_same(write.value, control.get("failsafe")) for write in (*at_first, *later))


def _quiet(facts: Facts, since: float, until: float) -> bool:
    """Whether nothing was wrong with lines, devices, disk and power."""
    return not facts.during(since, until, "device", "line", "disk", "power")


def _failsafe_forbidden(facts: Facts, control: Mapping[str, Any], last: float, due: float) -> bool:
    """H7, H12: whether something may forbid a failsafe that is due, or delay it."""
    own = [
        trouble
        for trouble in facts.troubles
        if "control" not in trouble.what or _is_of(facts, control, trouble)
    ]
    times = dict.fromkeys(("device", "line", "disk", "guard", "inhibit", "uplink"), due - 3600)
    times |= {"reload": due - 3600, "upgrade": due - 3600, "release": last, "priority": due - DAY}
    spoiled = any(
        trouble.begin <= due and times[trouble.do] <= trouble.end + RELEASED
        for trouble in own
        if trouble.do in times
    )
    return spoiled or _opted_out(facts, control, due)


def _is_of(facts: Facts, control: Mapping[str, Any], trouble: Trouble) -> bool:
    """Whether an event is about this control."""
    controls = facts.building["controls"]
    return trouble.what["control"] % len(controls) == controls.index(control)


def _unheard(facts: Facts, control: Mapping[str, Any], writes: list[Write]) -> Iterator[Finding]:
    """H12: two periods after the last message of the platform a limit has its failsafe value."""
    failsafe, heartbeat = control.get("failsafe"), control.get("heartbeat")
    if failsafe in (None, "") or not heartbeat:
        return
    heard = [one.at for one in facts.journal if one.kind == "heartbeat"]
    heard += [*facts.acked.values(), *(at for at, _, _ in facts.objects.values()), facts.end]
    for last, following in pairwise(sorted(heard)):
        due = last + 2 * heartbeat + SEEN
        ready = any(life.ready <= last - RELEASED and due <= life.end for life in facts.lives)
        if following <= due or not ready or facts.clock_doubted_from < due:
            continue
        if _failsafe_forbidden(facts, control, last, due):
            continue
        until_then = [write for write in writes if write.at <= due]
        value = until_then[-1].value if until_then else control.get("original")
        if value is None or float(value) > float(failsafe):
            text = f"{control['control']} is {value}, and nobody was heard since {last:.0f}"
            yield _found("H12", text, due, *[one.index for one in until_then[-1:]])


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
            open_.end, open_.by = write.at, write.by
            open_ = None
    return holds


def _continued(holds: list[Hold], orders: list[Order]) -> list[Hold]:
    """The holds as they began: where the device has fallen back, the same order goes on."""
    begun: list[Hold] = []
    for hold in holds:
        last = begun[-1] if begun else hold
        same = _covering(hold.begin, _covering(last.writes[-1], orders))
        if last.by == "watchdog" and last is not hold and same:
            begun[-1] = Hold(last.begin, [*last.writes, *hold.writes], hold.end, hold.by)
        else:
            begun.append(hold)
    return begun


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
        # an order that asks for no less takes over without a write
        due = _due(hold, orders, _failsafe_over(facts, control, hold))
    elif _testing(facts, last.at):
        due = last.at + 600
    elif facts.clock_doubted_from < begin.at + DAY:
        due = min(_by_durations(hold, orders), _by_the_wall(facts, hold, orders))
    else:
        due = _due(hold, orders)
    due = _available(facts, due + RELEASED)
    if min(hold.end, facts.end) > due + NEAR:
        text = f"{control['control']} keeps {last.value} until {_until(hold)}, due at {due:.0f}"
        yield _found("G6", text, due, begin.index, last.index)


def _failsafe_over(facts: Facts, control: Mapping[str, Any], hold: Hold) -> float:
    """H12: when a failsafe is over, at the latest."""
    last = hold.writes[-1]
    starts = [life.ready for life in facts.lives if last.at <= life.ready < hold.end]
    entered = max([last.at, *starts])
    heartbeat, lasts = control.get("heartbeat") or 0, control.get("failsafe_for") or DAY
    due = entered + lasts + 2 * heartbeat + UNBROKEN
    unsure = facts.during(entered - DAY, due, "silence", "uplink", "disk")
    return entered + FAILSAFE if unsure or facts.clock_doubted_from < due else due


def _by_the_wall(facts: Facts, hold: Hold, orders: list[Order]) -> float:
    """H28: when the last order that may be in force is over by the gateway's clock."""
    last = hold.writes[-1]
    over = min(hold.end, facts.end)
    latest = max(over, over + facts.apart(over))
    ends = [
        # an order without a begin begins when it arrives, by that clock
        one.end + max(0.0, facts.apart(max(one.asked, facts.acked.get(one.jti, 0.0))))
        for one in orders
        if one.asked <= over and one.begin <= latest
    ]
    return facts.reached(max(ends, default=NEVER), last.at)


def _by_durations(hold: Hold, orders: list[Order]) -> float:
    """H28: when the hold is over by the monotonic clock: what may have begun at its last write
    lasts from then on, what comes later may take over when the order before ends, without a write.
    """
    last = hold.writes[-1]

    def later(order: Order) -> bool:
        return order.asked > last.at + NEAR or order.begin > last.wall + NEAR

    due = last.at
    for order in sorted(orders, key=lambda order: (later(order), order.asked)):
        if order.asked <= due + NEAR:
            lasts = order.end - order.begin
            due = due + lasts if later(order) else max(due, last.at + lasts)
    return due


def _until(hold: Hold) -> str:
    return "the end" if hold.end == NEVER else f"{hold.end:.0f}"


def _due(hold: Hold, orders: list[Order], since: float = 0.0) -> float:
    """The end of the orders that follow each other without a gap, from the last write on, or from
    what was in force without an order until `since`.
    """
    due = max(hold.writes[-1].at, since)
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
    """H8, H10: what a person has set stays, until the planned end of the order that it ended: of
    those that may be in force and that gave way to no other the one whose value was there.
    """
    for number, write in enumerate(writes):
        ours = (control.get("failsafe"), control.get("original"))
        if write.by != "person" or any(_same(write.value, value) for value in ours):
            continue  # rule H33: what gardien or the device's watchdog would have set
        in_force = [order for order in _covering(write, orders) if order.begin <= write.wall + NEAR]
        in_force = [one for one in in_force if "SUPERSEDED" not in one.states] or in_force
        last = writes[number - 1].value if number else None
        ended = [order for order in in_force if _same(order.value, last)] or in_force
        until = max((order.end for order in ended), default=0.0)
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
    """H4: min_gap, min_off, and at most so many a day."""
    gap, most, rest = control.get("min_gap"), control.get("max_per_day"), control.get("min_off")
    real = [hold for hold in holds if not _testing(facts, hold.begin.at)]
    real = [hold for hold in real if not _same(hold.begin.value, control.get("failsafe"))]
    if facts.clock_doubted_from < NEVER:
        return
    for last, hold in pairwise(real):
        apart = hold.begin.at - last.end
        if gap and apart < gap - NEAR:
            text = f"{control['control']}: {apart:.0f} s after the last hold, min_gap is {gap}"
            yield _found("H4", text, hold.begin.at, last.begin.index, hold.begin.index)
        elif rest and last.by == "agent" and apart < rest - NEAR:
            text = f"{control['control']}: {apart:.0f} s after the last hold, min_off is {rest}"
            yield _found("H4", text, hold.begin.at, last.begin.index, hold.begin.index)
    for number, hold in enumerate(real):
        within = [one for one in real[number:] if one.begin.at < hold.begin.at + DAY]
        if most and len(within) > 2 * most:
            text = f"{control['control']}: {len(within)} holds in 24 h, max_per_day is {most}"
            yield _found("H4", text, hold.begin.at, hold.begin.index)
            return


def _stopped(facts: Facts, control: Mapping[str, Any], holds: list[Hold]) -> Iterator[Finding]:
    """H3, H7, H9, H27: an opt-out, a release, a switch, a guard or a revocation ends a hold, and
    lets none begin.
    """
    for clause, since, until, index, ends in _stops(facts, control):
        due = _available(facts, since + GRACE.get(clause, RELEASED))
        for hold in holds:
            if _testing(facts, hold.begin.at):
                continue
            late = _late(facts, control, hold.begin.at)
            begins = since + NEAR + late < hold.begin.at < until
            stays = hold.begin.at <= since and hold.end > due and (until > due or ends)
            then = [hold.begin, *(write for write in hold.writes if write.at <= due)]
            failsafe = clause in NO_ORDER and any(
                _same(write.value, control.get("failsafe")) for write in (then[0], then[-1])
            )
            if (begins or stays) and not failsafe:
                text = f"{control['control']} is held at {hold.begin.value} from "
                text += f"{hold.begin.at:.0f} to {_until(hold)}, but was stopped at {since:.0f}"
                yield _found(clause, text, max(since, hold.begin.at), index, hold.begin.index)


def _cancels(
    facts: Facts, control: Mapping[str, Any], known: float, fact: Mapping[str, Any]
) -> bool:
    """Whether a cancellation leaves no order that may be in force."""
    if fact["fact"] != "cancel" or facts.clock_doubted_from < known:
        return False
    others = [order for order in _orders(facts, control) if order.jti != fact.get("of")]
    return not any(
        order.begin - RELEASED < known + RELEASED < order.end + RELEASED for order in others
    )


def opted_out_until(
    facts: Facts, asked: float, known: float | None, fact: Mapping[str, Any]
) -> float:
    """H7, H36: until when an opt-out surely lasts, in true time, by what the person asked for: a
    time of the wall clock, or so many seconds. Over a start of the machine these are counted by a
    trusted wall clock, or end later.
    """
    if fact.get("until"):
        return facts.reached(second(fact["until"]), asked if known is None else known)
    until = asked + float(fact.get("lasts") or 0)
    if facts.rebooted(asked, until):
        until = min(until, facts.reached(until + facts.apart(asked), asked))
    return until


def _lost(facts: Facts, known: float, index: int) -> float:
    """A12: when the machine crashes before the disk has an opt-out that is not recorded."""
    if not (facts.journal[index].what.get("result") or {}).get("unrecorded"):
        return NEVER
    cuts = [cut for cut in facts.cuts if cut >= known]
    return min((cut for cut in cuts if facts.during(cut - PROBED, cut, "disk")), default=NEVER)


def _opted_out(facts: Facts, control: Mapping[str, Any], at: float) -> bool:
    """Whether an opt-out may be in force; after a start of the machine it may last longer (H4)."""
    return any(
        fact["fact"] == "opt-out"
        and fact["control"] == control["control"]
        and asked <= at
        and (
            at <= opted_out_until(facts, asked, known, fact) + RELEASED or facts.rebooted(asked, at)
        )
        for asked, known, fact, _ in facts.stated
    )


def _stops(facts: Facts, control: Mapping[str, Any]) -> Iterator[Stop]:
    """When nothing may be held."""
    name = control["control"]
    for asked, known, fact, index in facts.stated:
        if fact.get("control") != name or known is None:
            continue
        if fact["fact"] == "opt-out":
            until = min(opted_out_until(facts, asked, known, fact), _lost(facts, known, index))
            yield Stop("H7", known, until, index)
        elif fact["fact"] == "release" or _cancels(facts, control, known, fact):
            yield Stop("H9", known, known, index, ends=True)
        elif fact["fact"] == "revoke":
            yield Stop("H27", known, NEVER, index)
    for trouble in facts.troubles:
        since = trouble.begin + UNREAD
        at_device = trouble.do == "device" and trouble.what["how"] in {"silent", "wrong-unit"}
        if at_device and _at_its_device(facts, control, trouble):
            watched = any(life.ready <= trouble.begin and since <= life.end for life in facts.lives)
            if trouble.end > since and watched:
                yield Stop("H3", since, since, trouble.index, ends=True)
            continue
        mine = trouble.do in ("inhibit", "guard") and _is_of(facts, control, trouble)
        if mine and trouble.end > trouble.begin + SEEN:
            yield Stop("H3", trouble.begin + SEEN, trouble.end, trouble.index)
