"""Calls about controls, orders, grants and the votes of an assembly.

`who` is the name of the caller, which is recorded.

The vote of an assembly that has no key needs `trust.witnessed: true` in the configuration. One
account records the vote. Another one confirms it with the code on paper. Neither may be an account
that several people use.
"""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from agent.api.registry import in_person, passing, shared
from agent.control import schedule
from agent.control.context import unsigned
from agent.control.guard import fresh, measured, plain
from agent.control.history import concerned, order_reports, sentences, within
from agent.control.hold import FOREVER
from agent.control.model import FAILSAFE, Acceptance, No, OrderCode, OrderState, next_step
from agent.control.orders import grant_of, order_of
from agent.control.records import OPTED_OUT_FOR, Phase
from agent.core.clock import stamp
from agent.core.errors import (
    AgentError,
    LinkLost,
    Refused,
    SpoolFull,
    StorageFailed,
    WriteRefused,
)
from agent.core.i18n import N_, Text
from agent.gateway.controls import NoControls
from agent.gateway.lines import read_guards
from agent.inbox.inbox import BY_HAND
from agent.registry.parsers import LONGEST_LABEL
from agent.registry.parsers import text as checked_text
from agent.trust import claims, store
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.sign import Signer, new_jti
from agent.trust.store import CONFIRMED_WITHIN, Vote
from agent.trust.verify import authenticate, must_be_in_time, verify

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from zoneinfo import ZoneInfo

    from agent.api.registry import Call, Caller
    from agent.control.controller import Controller
    from agent.control.journal import Journal
    from agent.control.model import ConfiguredControl, Grant, Moment
    from agent.control.records import HoldRecord, Memo, Outcome
    from agent.control.settings import Control, WatchdogSettings
    from agent.gateway.controls import Steering
    from agent.gateway.gateway import Gateway
    from agent.trust.verify import Member

YEARS = range(2000, 2100)
"""a year outside this range is a typing error"""
LONGEST_PAUSE = 366 * 86_400.0
"""seconds: the longest pause by the operator; a longer one belongs into the configuration"""
NO_CONTROL = N_('there is no control "{name}"; configured are: {known}')
NO_WITNESS = N_(
    "this gateway does not witness votes. Have the grant signed with a key of the residents'"
    " council, or set `trust: {witnessed: true}` in the configuration"
)
SHARED_ACCOUNT = N_(
    'several people use the account "{account}": record a vote from your own account, and let'
    " another person confirm it from theirs"
)
NO_SHEET = N_(
    "{name} has no sheet to sign. Write the section `sheet` of this control into the configuration"
    " (docs/control.md)"
)
CHANGED_SINCE = N_(
    "the signed page of {name} has version {version}, but version {current} is in force: what was"
    " agreed has changed since it was printed. Nothing was recorded. Print it again and have it"
    " signed: gardien control sheet {name}"
)
SAID = frozenset({"sub", "nbf", "exp", "scope", "lim", "evid"})
"""claims that a person gives; the gateway adds the others"""


def _on_controls(call: Callable[..., Awaitable[dict[str, Any]]]) -> Call:
    """Wrap a call so that it gets the open controls and the account of the caller."""

    @passing(call)
    async def wrapper(gateway: Gateway, caller: Caller, **args: Any) -> dict[str, Any]:
        if not gateway.steering:
            raise Refused(NoControls.REASON)
        return await call(gateway.steering, caller.who, **args)

    return wrapper


def _by_a_person(call: Callable[..., Awaitable[dict[str, Any]]]) -> Call:
    """Wrap a call that changes something: a person must make it, and the controls record who."""
    return in_person(_on_controls(call))


async def _guards_read(gateway: Gateway, name: str) -> None:
    """Read the guards of a control once if no daemon polls them."""
    if name in gateway.config.controls and not gateway.daemon:
        try:
            await read_guards(gateway.lines, gateway.config, name)
        except LinkLost as error:
            raise Refused(str(error)) from error


async def everything(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Describe every control."""
    del caller
    return {"controls": held(gateway.steering) if gateway.steering else {}}


async def granted(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """List all grants."""
    del caller
    if not gateway.steering:
        return {"grants": []}
    inbox = gateway.objects.inbox
    members = inbox.known().members if inbox else {}
    return {"grants": grants(gateway.steering, members)}


def grants(steering: Steering, members: Mapping[str, Member]) -> list[dict[str, Any]]:
    """Every recorded grant. `members`: the members whose keys count now, by kid."""
    journal, now = steering.controller.journal, steering.controller.dependencies.now()
    return [
        {
            "jti": one.jti,
            "by": one.by,
            "role": one.role,
            "to": one.to,
            "acts": [*one.actions],
            "assets": [*one.assets],
            "min": None if one.limits.least is None else plain(one.limits.least),
            "max": None if one.limits.most is None else plain(one.limits.most),
            "unit": one.unit,
            "since": stamp(one.since),
            "until": stamp(one.until),
            "evidence": one.evidence,
            "kid": one.kid,
            "listed": one.kid in members,
            "stands": not (why := _why_not(one, journal, now)),
            "why": why,
        }
        for one in sorted(journal.grants.values(), key=lambda one: (one.role, one.since, one.jti))
    ]


def _why_not(grant: Grant, journal: Journal, now: Moment) -> str:
    if grant.kid == journal.mute:
        return Text("this gateway does not witness votes")
    if grant.revoked is not None:
        return Text("revoked")
    if grant.until <= now.wall:
        return Text("expired")
    if now.wall < grant.since:
        return Text("not valid before {time}", time=stamp(grant.since))
    return ""


def left_out(steering: Steering, members: Mapping[str, Member]) -> list[dict[str, Any]]:
    """Keys that are not among these members, with the number of valid or future grants of each."""
    journal, now = steering.controller.journal, steering.controller.dependencies.now()
    counts = Counter(
        (one.by, one.role, one.kid)
        for one in journal.grants.values()
        if one.kid not in members and one.revoked is None and now.wall < one.until
    )
    return [
        {"name": name, "role": role, "kid": kid, "grants": count}
        for (name, role, kid), count in sorted(counts.items())
    ]


def held(steering: Steering) -> dict[str, Any]:
    """The state of each control, and of removed controls that are not released yet."""
    controller = steering.controller
    gone = {record.control: record for record in list(controller.journal.records.values())}
    return {
        **{
            name: _control(steering, name, control) for name, control in controller.controls.items()
        },
        **{
            name: _gone(record, controller)
            for name, record in gone.items()
            if name not in controller.controls
        },
    }


def _gone(record: HoldRecord, controller: Controller) -> dict[str, Any]:
    alarm = Text("the control is no longer configured, and not released yet")
    return {
        "point": record.place.name,
        "action": None,
        "unit": record.place.unit,
        "state": Text("being given back"),
        "value": _value(record),
        "until": None,
        "by": None,
        "jti": record.jti,
        "next": [],
        "guards": {},
        "forbidden": "",
        "opted_out": "",
        "opted_out_until": None,
        "sheet": None,
        "tested": True,
        "agreed": record.agreed,
        "alarm": controller.alarms.get(record.control, alarm),
        "failsafe": None,
        "fell_back_s": None,
    }


def _value(record: HoldRecord | None) -> str | None:
    return plain(record.target) if record and not isinstance(record.target, str) else None


def _control(steering: Steering, name: str, control: ConfiguredControl) -> dict[str, Any]:
    controller, journal, now = (
        steering.controller,
        steering.controller.journal,
        steering.controller.dependencies.now(),
    )
    memo, modality = journal.memo(control.key), control.modality
    records = [record for record in journal.open_records(control.key) if record.control == name]
    record = records[0] if records else None
    events = journal.of(control.key)
    event = journal.events.get((record.jti, name)) if record else None
    later = [one for one in events if one.state in schedule.WAITING and one.begin > now.wall]
    return {
        "point": "/".join(control.key),
        "action": modality.action,
        "unit": modality.unit,
        "state": _state(record.phase if record else None, record.jti if record else ""),
        "value": _value(record),
        "until": stamp(event.end) if event else None,
        "by": event.order.by if event else (record.jti if record else None),
        "jti": record.jti if record else None,
        "next": [
            {"jti": one.order.jti, "begin": stamp(one.begin), "end": stamp(one.end),
             "value": plain(one.order.value) if one.order.value is not None else None}
            for one in sorted(later, key=lambda one: one.begin)
        ],
        "guards": {
            guard.name: _guard_value(steering, guard.device, guard.point, guard.unit)
            for guard in modality.guards
        },
        "forbidden": no.reason if (no := controller.forbidden(control)) else "",
        "opted_out": memo.pause(now),
        "opted_out_until": stamp(memo.pause_end(now)) if memo.pause(now) else None,
        "sheet": _acceptance(control, memo, controller.dependencies.zone),
        "tested": memo.tested == control.fingerprint,
        "agreed": modality.version,
        "alarm": controller.alarms.get(name, ""),
        "failsafe": memo.watch.since is not None if modality.failsafe else None,
        "fell_back_s": memo.fell_back_s,
    }  # fmt: skip


def _acceptance(control: ConfiguredControl, memo: Memo, zone: ZoneInfo) -> dict[str, Any] | None:
    """The sheet in force, and the latest one that was accepted; None: none is to be signed."""
    if not control.to_sign and memo.acceptance is None:
        return None
    signed = memo.acceptance
    latest = signed and {
        "version": signed.version,
        "by": signed.by,
        "on": signed.on,
        "recorded_by": signed.recorded_by,
        "recorded_on": f"{datetime.fromtimestamp(signed.at, zone):%Y-%m-%d}",
        "scan": signed.scan,
    }
    return {
        "version": control.modality.version,
        "accepted": memo.accepts(control.to_sign),
        "latest": latest,
        "why": unsigned(control, memo),
    }


def _state(phase: Phase | None, jti: str) -> str:
    if phase is None:
        return Text("free")
    if phase is Phase.RELEASING:
        return Text("being given back")
    return Text("failsafe") if jti == FAILSAFE else Text("held")


def _guard_value(steering: Steering, device: str, point: str, unit: str) -> str:
    value = fresh(steering.controller.dependencies.look(device, point))
    return Text("unknown") if value is None else measured(value, unit)


def _named(steering: Steering, name: str) -> ConfiguredControl:
    controls = steering.controller.controls
    if name not in controls:
        known = ", ".join(controls) or Text("no control at all")
        raise Refused(NO_CONTROL, name=name, known=known)
    return controls[name]


def with_next_steps(targets: dict[str, dict[str, Any]], gateway: Gateway) -> dict[str, Any]:
    """Add to each refusal by a control what a person at the gateway can do: `next`."""
    for name, target in targets.items():
        if target.get("code") == OrderCode.ASSET:
            near = get_close_matches(name, gateway.config.controls, n=1)
            known = near or [*gateway.config.controls]
            again = Text("Sign it again for one of these: {controls}", controls=known)
            target["next"] = again if known else Text("No control is configured at this gateway")
        elif step := next_step(str(target["code"])) if "code" in target else None:
            target["next"] = step
    return targets


async def dry_run(gateway: Gateway, caller: Caller, *, text: str) -> dict[str, Any]:
    """What would become of a signed order now, for each control; nothing is recorded.

    Raises Refused if the object is not an order, Forged if it does not verify or if another object
    has used its id.
    """
    del caller
    steering = gateway.steering
    if not steering:
        raise Refused(NoControls.REASON)
    context, journal = gateway.objects.inbox.known(), steering.controller.journal
    try:
        verified = authenticate(text.encode(), context)
        before = await steering.writer.call(journal.earlier, verified)
        if before is None:
            must_be_in_time(verified, context)
    except Forged as error:
        raise error.for_a_person() from error
    command = verified.model
    if not isinstance(command, claims.Command) or command.gives_back:
        raise Refused(N_("dry-run takes an order only: a grant or a release commands no equipment"))
    if before is not None:
        return {"jti": command.jti, "by": verified.owner, "targets": _taken(before["targets"])}
    await steering.writer.call(journal.first, verified)  # raises if its id is another's
    for name in gateway.config.controls:
        await _guards_read(gateway, name)
    now = steering.controller.dependencies.now().wall
    answers: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(command.cmd.tgt):
        order = order_of(verified, command, name, now)
        event = steering.orders.consider(verified, order)
        if isinstance(event, No):
            answers[name] = {"would": "be refused", "code": str(event), "words": event.reason}
            continue
        control = steering.controller.controls[name]
        others = [
            one
            for one in steering.controller.journal.of(control.key)
            if one.state in schedule.WAITING
        ]
        rival = schedule.winner([event, *schedule.in_time(others, event.begin)])
        answers[name] = {
            "would": "be done" if rival is event else "lose against a stronger order",
            "value": plain(order.value) if order.value is not None else None,
            "unit": control.modality.unit,
            "begin": stamp(order.start),
            "end": stamp(order.latest_end),
            "drawn_s": int(order.rand),
            "grants": [steering.controller.journal.grants[jti].evidence for jti in event.grants],
        }
    with_next_steps(answers, gateway)
    return {"jti": command.jti, "by": verified.owner, "targets": answers}


def _taken(targets: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The answer for an order that was taken before: the same bytes change nothing."""
    return {
        name: {"would": "change nothing", "code": str(ObjectCode.REPLAY),
               "words": Text("the same order was taken before, and was {state} then",
                             state=one["state"])}
        for name, one in targets.items()
    }  # fmt: skip


def with_reason(what: Text, reason: str) -> Text:
    """What a person did, with the reason that they gave."""
    return Text("{what}: {why}", what=what, why=reason) if reason else what


async def release(steering: Steering, who: str, *, name: str, reason: str = "") -> dict[str, Any]:
    """End all holds and orders of a control. Raises Refused if there is no such control."""
    _named(steering, name)
    reason_text = with_reason(Text("released by {who}", who=who), reason)
    ended = await steering.controller.cancel(name, reason_text)
    steering.controller.dependencies.audit(
        "control.released", {"control": name, "by": who, "ended": ended}
    )
    left = _not_released(steering, name)
    return {"control": name, "ended": ended, "pending": left, "ok": not left}


def _not_released(steering: Steering, name: str) -> list[str]:
    """Why the holds of a control are not released yet."""
    controller, slow = steering.controller, Text("its device has not answered yet")
    return [
        controller.alarms.get(name) or record.alarm or slow
        for record in controller.journal.records.values()
        if record.control == name
    ]


async def hand_back(
    steering: Steering, who: str, *, name: str, to: str, reason: str = ""
) -> dict[str, Any]:
    """Release a register to a value that a person names, if the journal cannot know it (rule H24).

    Raises Refused.
    """
    _named(steering, name)
    try:
        value = Decimal(to)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        raise Refused(N_('"{value}" is not a value such as 32 or 21.5'), value=to)
    reason_text = Text("released to {value} by {who}", value=plain(value), who=who)
    reason_text = with_reason(reason_text, reason)
    left = await steering.controller.hand_back(name, value, reason_text)
    steering.controller.dependencies.audit("control.handed_back", {"control": name, "by": who})
    return {"control": name, "to": plain(value), "pending": left, "ok": not left}


async def abandon(steering: Steering, who: str, *, name: str, reason: str) -> dict[str, Any]:
    """Close by hand a hold that cannot be released any more. Raises Refused if there is none."""
    if all(record.control != name for record in steering.controller.journal.records.values()):
        raise Refused(N_("{name} has no hold that waits for its release"), name=name)
    closed = await steering.controller.abandon(
        name, with_reason(Text("abandoned by {who}", who=who), reason)
    )
    steering.controller.dependencies.audit("control.abandoned", {"control": name, "by": who})
    return {"control": name, "closed": closed}


async def accept(  # noqa: PLR0913 -- what stands on the page
    steering: Steering, who: str, *, name: str, version: str, by: str, on: str, scan: str = ""
) -> dict[str, Any]:
    """Record that the operator has signed the sheet of a control. Raises Refused (rule H35).

    `version`: at the foot of the signed page; `by`: who signed; `on`: the day of the signature;
    `scan`: SHA-256 of the scanned page.
    """
    control = _named(steering, name)
    if not control.to_sign:
        raise Refused(NO_SHEET, name=name)
    now = steering.controller.dependencies.now()
    if not now.trusted:
        raise Refused(N_("the clock is not trusted, so no signature is recorded: gardien clock"))
    current = control.modality.version
    if version != current:
        raise Refused(CHANGED_SINCE, name=name, version=version, current=current)
    if _day(on, steering.config.zone) > now.wall:
        raise Refused(N_("the day of the signature, {day}, is in the future"), day=on)
    signed = Acceptance(
        control.to_sign, checked_text(by, "--by", LONGEST_LABEL), on, now.wall, who, scan
    )
    try:
        await steering.controller.accept(control, signed)
    except (SpoolFull, StorageFailed) as error:
        raise Refused(N_("not recorded: {error}"), error=str(error)) from error
    body = {"control": name, "by": who, "sha256": control.to_sign} | (
        {"scan": scan} if scan else {}
    )
    steering.controller.dependencies.audit("control.sheet_accepted", body)
    return {"control": name, "version": version, "by": signed.by, "on": on}


async def opt_out(  # noqa: PLR0913 -- a time in one of two forms
    steering: Steering,
    who: str,
    *,
    name: str,
    reason: str = "",
    hours: float = 0.0,
    until: str = "",
) -> dict[str, Any]:
    """Stop at once, and forbid orders until the end of the order in force, or for some hours.

    `until`: a day; no order begins before that day is over (rule H36). It needs no line: what
    cannot be released now is released as soon as the device answers.
    """
    control = _named(steering, name)
    memo, moment = (
        steering.controller.journal.memo(control.key),
        steering.controller.dependencies.now(),
    )
    before = {"before": stamp(memo.pause_end(moment)) if memo.pause(moment) else None}
    now = moment.wall
    if until:
        return await _pause(steering, who, control, reason, until) | before
    ends = [
        one.end - now
        for one in steering.controller.journal.of(control.key)
        if one.state is OrderState.STARTED
    ]
    lasts = hours * 3600 or max(ends, default=OPTED_OUT_FOR)
    reason_text = with_reason(Text("{who} has opted out", who=who), reason)
    ends_at = await steering.controller.opt_out(control, lasts, reason_text)
    steering.controller.dependencies.audit("control.opted_out", {"control": name, "by": who})
    return await _stopped(steering, name, ends_at) | before


async def _pause(
    steering: Steering, who: str, control: ConfiguredControl, reason: str, until: str
) -> dict[str, Any]:
    now, zone = steering.controller.dependencies.now(), steering.config.zone
    _day(until, zone)  # refuses what is no day
    end = schedule.bounds(schedule.day_of(_day(until, zone), zone), zone)[1]
    if now.trusted and end <= now.wall:
        raise Refused(N_("the last day of the pause, {day}, is over"), day=until)
    if now.trusted and end > now.wall + LONGEST_PAUSE:
        raise Refused(N_("a pause lasts at most a year, until {day} is longer"), day=until)
    reason_text = Text("{who} has paused it until {day}", who=who, day=date.fromisoformat(until))
    reason_text = with_reason(reason_text, reason)
    ends_at = await steering.controller.opt_out(control, 0.0, reason_text, end)
    body = {"control": control.name, "by": who, "until": until}
    steering.controller.dependencies.audit("control.opted_out", body)
    return await _stopped(steering, control.name, ends_at)


async def _stopped(steering: Steering, name: str, until: float) -> dict[str, Any]:
    """Release what is held; report what the device has not confirmed and the disk not taken."""
    controller = steering.controller
    await controller.check_now(name)
    left = _not_released(steering, name)
    failing = controller.dependencies.failing()
    return {
        "control": name,
        "until": stamp(until),
        "pending": left,
        "unrecorded": failing,
        "ok": not left and not failing,
    }


async def opt_in(steering: Steering, who: str, *, name: str) -> dict[str, Any]:
    """End an opt-out. Raises Refused before the journal was read."""
    control = _named(steering, name)
    try:
        await steering.controller.opt_in(control)
    except StorageFailed as error:
        raise Refused(N_("not recorded: {error}"), error=str(error)) from error
    steering.controller.dependencies.audit("control.opted_in", {"control": name, "by": who})
    return {"control": name}


async def history(
    steering: Steering, who: str, *, name: str = "", since: str = "", until: str = ""
) -> dict[str, Any]:
    """What was done between two local days: sentences, and the outcomes themselves."""
    del who
    zone, now = steering.config.zone, steering.controller.dependencies.now().wall
    first = _day(since, zone) if since else now - 30 * 86_400
    # the last second of the day, which may have 23 or 25 hours
    last = schedule.bounds(schedule.day_of(_day(until, zone), zone), zone)[1] - 1 if until else now
    kept = await _outcomes(steering, name)
    outcomes = [one for one in kept if first <= one.at <= last]
    units = _units(steering)
    lines = sentences(kept, zone, units, (first, last))
    return {
        "since": stamp(first),
        "until": stamp(last),
        "sentences": lines,
        "concerned": concerned(kept, (first, last)),
        "names": steering.config.privacy.names,
        "timezone": str(zone),
        "orders": [
            order.document() | {"unit": units.get(order.control, "")}
            for order in within(kept, (first, last))
        ],
        "outcomes": [
            {"at": stamp(one.at), "jti": one.jti, "control": one.control, "state": one.state,
             "code": one.code, "words": one.words, "value": one.value, "before": one.before,
             "after": one.after, "by": one.by}
            for one in outcomes
        ],
    }  # fmt: skip


async def _outcomes(steering: Steering, name: str = "") -> list[Outcome]:
    """All outcomes that the journal keeps: an order may have been accepted long before it began."""
    outcomes = await steering.writer.call(steering.controller.journal.history, 0.0, FOREVER)
    return [one for one in outcomes if name in {"", one.control}]


def _units(steering: Steering) -> dict[str, str]:
    return {one: control.modality.unit for one, control in steering.controller.controls.items()}


def _first_of(month: str, now: datetime) -> datetime:
    """The first moment of a month of the building. Raises Refused."""
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)
    if month in {"", "last"}:
        return (first - timedelta(days=1)).replace(day=1) if month else first
    try:
        named = datetime.strptime(month, "%Y-%m").replace(tzinfo=now.tzinfo)
    except ValueError:
        named = None
    if named is None or named.year not in YEARS:
        raise Refused(N_('"{month}" is not a month such as 2026-10'), month=month)
    return named


async def report(
    steering: Steering, who: str, *, month: str = "", name: str = ""
) -> dict[str, Any]:
    """What was done in a month, for each control: each order, and each order that was refused.

    `month`: `2026-10`, `last` for the last whole month, empty for the present one.

    Raises Refused.
    """
    del who
    zone, controller = steering.config.zone, steering.controller
    now = controller.dependencies.now().wall
    if name:
        _named(steering, name)
    first = _first_of(month, datetime.fromtimestamp(now, zone))
    span = first.timestamp(), (first + timedelta(days=32)).replace(day=1).timestamp()
    if span[0] > now:
        raise Refused(N_("{month} has not begun yet"), month=month)
    outcomes = await _outcomes(steering)
    # the journal drops its oldest outcomes: a month that it does not reach back to is not whole
    lost = bool(outcomes) and outcomes[0].n > 1 and outcomes[0].at > span[0]
    kept = [one for one in order_reports(outcomes) if span[0] <= one.at < span[1]]
    names = [name] if name else sorted({*controller.controls, *(one.control for one in kept)})
    states = held(steering)
    return {
        "month": f"{first:%Y-%m}", "building": steering.config.building.name,
        "timezone": str(zone), "until": stamp(min(now, span[1])),
        "ended": now >= span[1], "complete": not lost,
        "names": steering.config.privacy.names,
        "controls": {
            one: {
                "unit": _units(steering).get(one, ""),
                "action": str(controller.controls[one].modality.action)
                if one in controller.controls
                else "",
                **_from_sheet(steering.config.controls.get(one)),
                "opted_out_until": states[one]["opted_out_until"] if one in states else None,
                "sheet": states[one]["sheet"] if one in states else None,
                "orders": [order.document() for order in kept if order.control == one],
            }
            for one in names
        },
    }  # fmt: skip


def _from_sheet(options: Control | None) -> dict[str, Any]:
    sheet = options.sheet if options else None
    phones = [f"{one.name} {one.number}" for one in sheet.phones] if sheet else []
    return {
        "operator": sheet.operator if sheet else "",
        "object": (sheet.object if sheet else None) or "",
        "phones": phones,
    }


def _day(text: str, zone: Any) -> float:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=zone)
    except ValueError:
        day = None
    if day is None or day.year not in YEARS:
        raise Refused(N_('"{text}" is not a day such as 2026-11-24'), text=text)
    return day.timestamp()


async def test(gateway: Gateway, caller: Caller, *, name: str) -> dict[str, Any]:
    """Test a control: apply, read back, release, and again from the journal alone.

    It reports progress. Raises Refused if the test fails.
    """

    async def say(text: str) -> None:
        await caller.progress({"text": text})

    async def call(steering: Steering, who: str, *, name: str) -> dict[str, Any]:
        _named(steering, name)
        await _guards_read(gateway, name)
        try:
            passed = await steering.controller.test(name, say)
        except (Refused, LinkLost, WriteRefused) as error:
            raise _not_passed(steering, name, error) from error
        fell = None if passed.fell_back_s is None else round(passed.fell_back_s, 1)
        body = {"control": name, "by": who} | ({} if fell is None else {"fell_back_s": str(fell)})
        steering.controller.dependencies.audit("control.tested", body)
        if warning := _left_to_see(steering.config.controls[name].device_watchdog):
            await say(warning)
        return {
            "control": name,
            "value": plain(passed.value),
            "applied_s": round(passed.applied_s, 3),
            "released_s": round(passed.released_s, 3),
            "recovered_s": round(passed.recovered_s, 3),
            "fell_back_s": fell,
        }

    return await _on_controls(call)(gateway, caller, name=name)


def _not_passed(steering: Steering, name: str, error: AgentError) -> Refused:
    """Return the refusal of a failed test: what it means, and what is written at the equipment."""
    control, journal = steering.controller.controls[name], steering.controller.journal
    counts = journal.memo(control.key).tested == control.fingerprint
    held = bool(journal.open_records(control.key))
    return Refused(
        "{error}. {orders} {written} Switch on or correct what is named, then: gardien control test"
        " {name}",
        error=error,
        name=name,
        orders=Text("The test has failed; an earlier one still counts.")
        if counts
        else Text("The test has failed: no order is carried out before it has passed."),
        written=Text("A value is still written at the equipment; the agent tries to release it.")
        if held
        else Text("Nothing is written at the equipment now."),
    )


def _left_to_see(watchdog: WatchdogSettings) -> str:
    """A remark on what releases the equipment if this gateway fails, if no test can show it."""
    if watchdog.logic:
        return Text(
            "not tested: {logic}. Try this once with the gateway off the line", logic=watchdog.logic
        )
    if watchdog.accepted:
        return Text(
            "nothing releases the equipment if this gateway fails for good: the operator has"
            " accepted this"
        )
    return ""


async def record_vote(gateway: Gateway, caller: Caller, *, grant: dict[str, Any]) -> dict[str, Any]:
    """Record a vote until another person confirms it; return the code for the paper.

    Raises Refused, Forged.
    """
    account, now = _voting_person(gateway, caller), gateway.clock.now()
    if unknown := grant.keys() - SAID:
        raise Refused(N_("a vote may not contain: {names}"), names=", ".join(sorted(unknown)))
    evidence = grant.get("evid") or {}
    if not (evidence.get("kind") == "vote" and evidence.get("result") and evidence.get("majority")):
        raise Refused(N_("the result of the vote or its majority is missing"))
    us = gateway.objects.inbox.audience
    payload = {
        "iss": us.gateway, "jti": new_jti(now), "iat": int(now), "role": "residents_council",
        "aud": us.building or us.gateway, **grant,
    }  # fmt: skip
    _signed_grant(gateway, payload)  # refuse a wrong grant now, before people sign the paper
    code, vote = store.draw_code(), Vote(account, int(now) + CONFIRMED_WITHIN, payload)
    with gateway.objects.inbox.trust_store.transaction() as db:
        store.keep_vote(db, code, vote, now)
    gateway.audit(
        "vote.recorded", {"jti": payload["jti"], "sha256": evidence["sha256"], "by": account}
    )
    return {"code": code, **_shown_vote(vote)}


async def look_up_vote(gateway: Gateway, caller: Caller, *, code: str) -> dict[str, Any]:
    """Return the vote that a code would confirm. Raises Refused."""
    _voting_person(gateway, caller)
    return _shown_vote(_vote(gateway, code))


async def confirm_vote(gateway: Gateway, caller: Caller, *, code: str) -> dict[str, Any]:
    """Sign a recorded vote as witness, and accept it like any grant. Raises Refused, Forged."""
    account, vote = _voting_person(gateway, caller), _vote(gateway, code)
    if account == vote.account:
        raise Refused(
            N_('"{account}" has recorded this vote, so another person must confirm it'),
            account=account,
        )
    if not gateway.steering:
        raise Refused(NoControls.REASON)
    answer = await gateway.objects.accept(_signed_grant(gateway, vote.claims), BY_HAND)
    # Drop the code last. If the process is killed before, the same signed bytes are accepted again
    # with the first answer.
    with gateway.objects.inbox.trust_store.transaction() as db:
        store.drop_vote(db, code)
    gateway.audit("vote.confirmed", {"jti": vote.claims["jti"], "by": account})
    return answer


def _voting_person(gateway: Gateway, caller: Caller) -> str:
    """Return the caller's account. Raises Refused if it may not record or confirm votes."""
    if gateway.objects.inbox.witness is None or not gateway.config.trust.witnessed:
        raise Refused(NO_WITNESS)
    if caller.who in shared(gateway):
        raise Refused(SHARED_ACCOUNT, account=caller.who)
    return caller.who


def _vote(gateway: Gateway, code: str) -> Vote:
    gateway.objects.inbox.trust_store.must_be_open()
    vote = store.find_vote(gateway.objects.inbox.trust_store.db, code, gateway.clock.now())
    if vote is None:
        raise Refused(N_("no vote waits for this code: it is wrong, already used, or expired"))
    return vote


def _signed_grant(gateway: Gateway, payload: Mapping[str, Any]) -> bytes:
    """Sign the grant, and check that this gateway would accept it. Raises Refused, Forged."""
    assert gateway.identity
    raw = Signer(gateway.identity.gateway, gateway.identity.signing_key).sign(
        "dr-grant+jwt", payload
    )
    verified = verify(raw, gateway.objects.inbox.known())
    assert isinstance(verified.model, claims.GrantClaims)
    try:
        grant_of(verified, verified.model)
    except ValueError as error:
        raise Refused(str(error)) from error
    return raw


def _shown_vote(vote: Vote) -> dict[str, Any]:
    grant = vote.claims
    return {
        "by": vote.account,
        "until": stamp(vote.until),
        "jti": grant["jti"],
        "from": stamp(grant.get("nbf", grant["iat"])),
        "to": stamp(grant["exp"]),
        **{name: grant[name] for name in ("sub", "scope", "lim", "evid")},
    }


CALLS: Mapping[str, Call] = {
    "control.list": everything,
    "control.grants": granted,
    "control.release": _by_a_person(release),
    "control.hand_back": _by_a_person(hand_back),
    "control.abandon": _by_a_person(abandon),
    "control.accept": _by_a_person(accept),
    "control.opt_out": _by_a_person(opt_out),
    "control.opt_in": _by_a_person(opt_in),
    "control.history": _on_controls(history),
    "control.report": _on_controls(report),
    "control.test": in_person(test),
    "control.dry_run": dry_run,
    "control.witness": record_vote,
    "control.vote": look_up_vote,
    "control.confirm": confirm_vote,
}
