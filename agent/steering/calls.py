"""What can be asked of the controls; each call is made by somebody, whose name goes with it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from agent.clock import stamp
from agent.control import hours, schedule
from agent.control.claims import order_of
from agent.control.guard import fresh, measured, plain
from agent.control.history import sentences
from agent.control.hold_record import Phase
from agent.control.model import No, OrderState
from agent.control.stamps import elapsed
from agent.control.stop import OPTED_OUT_FOR
from agent.errors import Refused
from agent.trust import claims
from agent.trust.error_codes import ObjectCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.control.configured_control import ConfiguredControl
    from agent.control.controller import Controller
    from agent.control.hold_record import HoldRecord
    from agent.control.settings import WatchdogSettings
    from agent.steering.setup import Steering
    from agent.trust.verify import Verified


def held(steering: Steering) -> dict[str, Any]:
    """How every control is, and what is not given back yet of one that is configured no more."""
    keeper = steering.keeper
    gone = {row.control: row for row in list(keeper.journal.rows.values())}
    return {
        **{name: _control(steering, name, fit) for name, fit in keeper.fits.items()},
        **{name: _gone(row, keeper) for name, row in gone.items() if name not in keeper.fits},
    }


def _gone(row: HoldRecord, keeper: Controller) -> dict[str, Any]:
    words = "it is configured no more, and not given back yet"
    return {
        "point": row.place.name, "action": None, "unit": row.place.unit,
        "state": "being given back", "value": _value(row), "until": None, "by": None,
        "jti": row.jti, "next": [], "guards": {}, "forbidden": "", "opted_out": "", "tested": True,
        "agreed": row.agreed, "alarm": keeper.alarms.get(row.control, words), "failsafe": None,
        "fell_back_s": None,
    }  # fmt: skip


def _value(row: HoldRecord | None) -> str | None:
    return plain(row.target) if row and not isinstance(row.target, str) else None


def _control(steering: Steering, name: str, fit: ConfiguredControl) -> dict[str, Any]:
    keeper, journal, now = steering.keeper, steering.keeper.journal, steering.keeper.world.now()
    memo, agreed = journal.memo(fit.key), fit.modality
    rows = [row for row in journal.open_rows(fit.key) if row.control == name]
    row = rows[0] if rows else None
    events = journal.of(fit.key)
    event = journal.events.get((row.jti, name)) if row else None
    later = [one for one in events if one.state in schedule.WAITING and one.begin > now.wall]
    out = memo.opted_out is not None and elapsed(memo.opted_out, now) < memo.opt_lasts
    return {
        "point": "/".join(fit.key),
        "action": agreed.action,
        "unit": agreed.unit,
        "state": _state(row.phase if row else None, row.jti if row else ""),
        "value": _value(row),
        "until": stamp(event.end) if event else None,
        "by": event.order.by if event else (row.jti if row else None),
        "jti": row.jti if row else None,
        "next": [
            {"jti": one.order.jti, "begin": stamp(one.begin), "end": stamp(one.end),
             "value": plain(one.order.value) if one.order.value is not None else None}
            for one in sorted(later, key=lambda one: one.begin)
        ],
        "guards": {
            guard.name: _said(steering, guard.device, guard.point, guard.unit)
            for guard in agreed.guards
        },
        "forbidden": str(no.words) if (no := keeper.forbidden(fit)) else "",
        "opted_out": memo.opt_words if out else "",
        "tested": memo.tested == fit.fingerprint,
        "agreed": agreed.version,
        "alarm": keeper.alarms.get(name, ""),
        "failsafe": memo.watch.since is not None if agreed.failsafe else None,
        "fell_back_s": memo.fell_back_s,
    }  # fmt: skip


def _state(phase: Phase | None, jti: str) -> str:
    if phase is None:
        return "free"
    if phase is Phase.RELEASING:
        return "being given back"
    return "failsafe" if jti == "failsafe" else "held"


def _said(steering: Steering, device: str, point: str, unit: str) -> str:
    value = fresh(steering.keeper.world.look(device, point))
    return "unknown" if value is None else measured(value, unit)


def _named(steering: Steering, name: str) -> ConfiguredControl:
    fits = steering.keeper.fits
    if name not in fits:
        known = ", ".join(fits) or "none"
        raise Refused(f'no control "{name}" is configured; there are: {known}')
    return fits[name]


async def dry_run(steering: Steering, verified: Verified) -> dict[str, Any]:
    """What would become of an order now, target by target; nothing is kept. Raises Refused, and
    Forged where its number was used by another.
    """
    said = verified.model
    if not isinstance(said, claims.Command) or said.gives_back:
        raise Refused("only an order can be tried so: a grant or a release changes no equipment")
    before = await steering.writer.call(steering.keeper.journal.first, verified)
    if before is not None:
        return {"jti": said.jti, "by": verified.owner, "targets": _taken(before["targets"])}
    now = steering.keeper.world.now().wall
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(said.cmd.tgt):
        order = order_of(verified, said, name, now)
        event = steering.desk.consider(verified, order)
        if isinstance(event, No):
            found[name] = {"would": "be refused", "code": str(event), "words": event.words}
            continue
        fit = steering.keeper.fits[name]
        others = [
            one for one in steering.keeper.journal.of(fit.key) if one.state in schedule.WAITING
        ]
        rival = schedule.winner([event, *schedule.in_time(others, event.begin)])
        found[name] = {
            "would": "be done" if rival is event else "lose against a stronger order",
            "value": plain(order.value) if order.value is not None else None,
            "unit": fit.modality.unit,
            "begin": stamp(order.start),
            "end": stamp(order.latest_end),
            "drawn_s": int(order.rand),
            "grants": [steering.keeper.journal.grants[jti].evidence for jti in event.grants],
        }
    return {"jti": said.jti, "by": verified.owner, "targets": found}


def _taken(targets: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What is said of an order whose very bytes were taken before: they change nothing."""
    return {
        name: {"would": "change nothing", "code": str(ObjectCode.REPLAY),
               "words": f"these very bytes were taken already, and it was {one['state']} then"}
        for name, one in targets.items()
    }  # fmt: skip


async def release(steering: Steering, who: str, *, name: str, reason: str = "") -> dict[str, Any]:
    """End whatever is held or waits at a control. Raises Refused where there is none."""
    _named(steering, name)
    words = f"released by {who}" + (f": {reason}" if reason else "")
    ended = await steering.keeper.cancel(name, words)
    steering.keeper.world.audit("control.released", {"control": name, "by": who, "ended": ended})
    left = [row.alarm for row in steering.keeper.journal.rows.values() if row.control == name]
    return {"control": name, "ended": ended, "pending": left, "ok": not left}


async def hand_back(
    steering: Steering, who: str, *, name: str, to: str, reason: str = ""
) -> dict[str, Any]:
    """Give a register back to a value, where the journal cannot know what stood there."""
    _named(steering, name)
    try:
        value = Decimal(to)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        raise Refused(f'"{to}" is no value such as 32 or 21.5')
    words = f"put back to {plain(value)} by {who}" + (f": {reason}" if reason else "")
    left = await steering.keeper.hand_back(name, value, words)
    steering.keeper.world.audit("control.handed_back", {"control": name, "by": who})
    return {"control": name, "to": plain(value), "pending": left, "ok": not left}


async def abandon(steering: Steering, who: str, *, name: str, reason: str) -> dict[str, Any]:
    """Close by hand what cannot be given back any more."""
    if all(row.control != name for row in steering.keeper.journal.rows.values()):
        raise Refused(f"nothing of {name} waits to be given back")
    closed = await steering.keeper.abandon(name, f"abandoned by {who}: {reason}")
    steering.keeper.world.audit("control.abandoned", {"control": name, "by": who})
    return {"control": name, "closed": closed}


async def opt_out(
    steering: Steering, who: str, *, name: str, reason: str = "", hours: float = 0.0
) -> dict[str, Any]:
    """Stop at once, and forbid until the end of the event, or for so long."""
    fit = _named(steering, name)
    now = steering.keeper.world.now().wall
    ends = [
        one.end - now
        for one in steering.keeper.journal.of(fit.key)
        if one.state is OrderState.STARTED
    ]
    lasts = hours * 3600 or max(ends, default=OPTED_OUT_FOR)
    words = f"{who} has opted out" + (f": {reason}" if reason else "")
    await steering.keeper.opt_out(fit, lasts, words)
    steering.keeper.world.audit("control.opted_out", {"control": name, "by": who})
    await steering.keeper.tend(name)
    return {"control": name, "until": stamp(now + lasts)}


async def opt_in(steering: Steering, who: str, *, name: str) -> dict[str, Any]:
    """Take an opting out back."""
    fit = _named(steering, name)
    await steering.keeper.opt_out(fit, 0.0, "")
    steering.keeper.world.audit("control.opted_in", {"control": name, "by": who})
    return {"control": name}


async def history(
    steering: Steering, who: str, *, name: str = "", since: str = "", until: str = ""
) -> dict[str, Any]:
    """What was done between two days of the building, a sentence each."""
    del who
    zone, now = steering.config.zone, steering.keeper.world.now().wall
    first = _day(since, zone) if since else now - 30 * 86_400
    # the day's last second, also of a day of 23 or 25 hours
    last = hours.bounds(hours.day_of(_day(until, zone), zone), zone)[1] - 1 if until else now
    found = await steering.writer.call(steering.keeper.journal.history, first, last)
    found = [one for one in found if name in {"", one.control}]
    units = {one: fit.modality.unit for one, fit in steering.keeper.fits.items()}
    said = sentences(found, zone, units)
    return {
        "since": stamp(first),
        "until": stamp(last),
        "sentences": said,
        "outcomes": [
            {"at": stamp(one.at), "jti": one.jti, "control": one.control, "state": one.state,
             "code": one.code, "words": one.words, "value": one.value, "before": one.before,
             "after": one.after, "by": one.by}
            for one in found
        ],
    }  # fmt: skip


def _day(text: str, zone: Any) -> float:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()
    except ValueError:
        raise Refused(f'"{text}" is no day such as 2026-11-24') from None


async def test(
    steering: Steering, who: str, say: Callable[[str], Awaitable[None]], *, name: str
) -> dict[str, Any]:
    """Try a control: apply, read back, give back, and again from the journal alone."""
    _named(steering, name)
    passed = await steering.keeper.test(name, say)
    fell = None if passed.fell_back_s is None else round(passed.fell_back_s, 1)
    body = {"control": name, "by": who} | ({} if fell is None else {"fell_back_s": str(fell)})
    steering.keeper.world.audit("control.tested", body)
    if words := _left_to_see(steering.config.controls[name].device_watchdog):
        await say(words)
    return {
        "control": name,
        "value": plain(passed.value),
        "applied_s": round(passed.applied_s, 3),
        "released_s": round(passed.released_s, 3),
        "recovered_s": round(passed.recovered_s, 3),
        "fell_back_s": fell,
    }


def _left_to_see(dog: WatchdogSettings) -> str:
    """What gives back when this gateway is gone for good, where no test can show it."""
    if dog.logic:
        return f"not tested, see it once yourself with the gateway off the line: {dog.logic}"
    if dog.accepted:
        return (
            "nothing gives it back when this gateway is gone for good: the operator accepted that"
        )
    return ""
