"""`gardien status`: the state of the running agent, on one screen."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.finding import acknowledged
from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    Json,
    State,
    as_json,
    broken,
    day,
    read_here,
    state_of,
    table,
    when,
    wrapped,
)
from agent.core.finding import (
    ACTORS,
    Finding,
    Severity,
    component_text,
    exit_status,
    to_type,
    worst_first,
)
from agent.core.i18n import N_, _, in_language, n_
from agent.core.quantities import spoken

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

WIDTH, HEIGHT = 80, 23
"""columns and lines of the screen that a status fits on; the last line is for the prompt"""
TRUST = {
    "trusted": N_("trusted"),
    "holdover": N_("trusted, not synchronized now"),
    "untrusted": N_("NOT TRUSTED"),
    "person": N_("by a person's word"),
}
CONNECTION = {
    "yes": N_("{uplink} connected, {receipt}"),
    "silent": N_("{uplink} does not answer, {receipt}"),
    "no": N_("{uplink} not connected, {receipt}"),
}
CONNECTED = {"yes": N_("yes"), "silent": N_("no answer"), "no": N_("no")}
FEW = 3
"""parts that an answer to a question names"""
AND = N_("; ")
"""between the parts of a line"""
SHORT = 20
"""characters of a name that is not broken over two lines of a table"""
LONG_OUTAGE = 365
"""days; a spool that can take a longer outage is not mentioned"""

All = Annotated[
    bool, typer.Option("--all", help="Show every finding, line, device, uplink and control.")
]


def status(
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    every: All = False,
    json: Json = False,
) -> None:
    """Show whether data are lost or wait, whether equipment is held, and who must act.

    Exit status 1 if something needs attention, or if the agent is not running. The command asks the
    agent and does not load the configuration, so it works even if the configuration file
    has mistakes. Only installers see the values of dwellings (--json); each access is logged.
    """
    from agent.cli.doctor import not_running
    from agent.local import ask_daemon

    folder = state_of(config, state)
    answer = ask_daemon(folder, "status", {"named": named}, lambda _: None)
    if answer is None:
        how = "sudo systemctl enable --now gardien"
        if config != DEFAULT_CONFIG:  # the service runs another one
            how = f"gardien run -c {quote(str(config))}"
        typer.echo(wrapped(not_running(folder, how).text.in_language()), err=True)
        raise typer.Exit(1)
    findings = worst_first(map(Finding.of, answer["events"]))
    if json:
        as_json(answer)
    else:
        show(read_here(answer), findings, every=every)
    raise typer.Exit(exit_status(findings))


def show(answer: dict[str, Any], findings: Sequence[Finding], *, every: bool) -> None:
    """Print a status: one screen, or everything."""
    head = [*_gateway(answer), "", *_answers(answer, findings), ""]
    foot = [*_summary(answer, every=every)]
    for line in head:
        typer.echo(wrapped(line))
    room = HEIGHT - sum(map(_height, head)) - sum(map(_height, foot))
    for line in _listed(findings, None if every else room):
        typer.echo(wrapped(line))
    for line in foot:
        typer.echo(wrapped(line))
    if every:
        _details(answer)


def _height(line: str) -> int:
    """Return how many lines of the screen a line takes."""
    return broken(line, WIDTH).count("\n") + 1


def _gateway(answer: dict[str, Any]) -> Iterator[str]:
    from agent.registry.place import shown

    yield _(
        "{building}, gateway {gateway}, gardien {version}, running since {since}",
        building=answer["building"],
        gateway=shown(answer["gateway"] or "") or _("without keys"),
        version=answer["version"],
        since=when(answer["started"]),
    )


def _answers(answer: dict[str, Any], findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the answers to the four questions with which people come."""
    questions = (_("Data lost now?"), _("Data waiting?"), _("Equipment held?"), _("Who must act?"))
    answers = (
        _lost(findings),
        _waiting(answer, findings),
        _held(answer, findings),
        _actors(findings),
    )
    wide = max(map(len, questions))
    for question, text in zip(questions, answers, strict=True):
        yield f"{question:<{wide}}  {text}"


def _of(findings: Sequence[Finding], severity: Severity) -> list[Finding]:
    return [finding for finding in findings if finding.severity is severity]


def _lost(findings: Sequence[Finding]) -> str:
    lost = _of(findings, Severity.LOST)
    if not lost:
        return _("no")
    subjects = dict.fromkeys(finding.subject.in_language() for finding in lost)
    return _("YES: {subjects}", subjects=_few(list(subjects)))


def _few(parts: Sequence[str]) -> str:
    """Return parts in one line of the screen; what does not fit is counted."""
    if len(parts) <= FEW:
        return ", ".join(parts)
    return ", ".join([*parts[:FEW], _("{number} more", number=len(parts) - FEW)])


def _waiting(answer: dict[str, Any], findings: Sequence[Finding]) -> str:
    kept = [finding for finding in _of(findings, Severity.WAITING) if not finding.uplink]
    parts = list(dict.fromkeys(finding.subject.in_language() for finding in kept))
    for name, uplink in answer["uplinks"].items():
        backlog = uplink["backlog"]
        # an agent of an earlier version does not count those in quarantine
        refused = backlog.get("quarantined_rows", 0)
        number = backlog["slots"] + backlog["batch_rows"] + refused
        # what is only as old as the interval of sending lets it be does not wait
        if number and uplink.get("late", True):
            values = n_("{number:,} value", "{number:,} values", number)
            since = when(_stamp(backlog["oldest"])) if backlog["oldest"] else ""
            oldest = _(" since {since}", since=since) if since else ""
            parts.append(f"{name} {values}{oldest}")
    return _("yes: {parts}", parts=_few(parts)) if parts else _("no")


def _stamp(seconds: float) -> str:
    from agent.core.clock import stamp

    return stamp(seconds)


def _held(answer: dict[str, Any], findings: Sequence[Finding]) -> str:
    held = [
        f"{name} {in_language(Decimal(control['value']))} {spoken(control['unit'])}"
        + (_(" until {time}", time=when(control["until"])) if control["until"] else "")
        for name, control in answer["controls"].items()
        if control["value"] is not None
    ]
    wrong = [one.subject.in_language() for one in _of(findings, Severity.EQUIPMENT)]
    if not held and not wrong:
        return _("no")
    text = _("yes: {controls}", controls=_few(held)) if held else _("no")
    return text + _(AND) + _("LOOK AT {controls}", controls=_few(wrong)) if wrong else text


def _actors(findings: Sequence[Finding]) -> str:
    counts = {
        actor: sum(finding.actor is actor and finding.fine is False for finding in findings)
        for actor in ACTORS
    }
    named = [f"{_(ACTORS[actor])} ({number})" for actor, number in counts.items() if number]
    return ", ".join(named) or _("nobody")


def _listed(findings: Sequence[Finding], room: int | None) -> Iterator[str]:
    """Yield the findings that fit into so many lines; None: all of them, with all that is known."""
    if not findings:
        yield _("nothing to report")
        return
    blocks = [list(_block(finding)) for finding in findings]
    if room is not None:
        # the worst keep their costs; the first always does
        whole = len(blocks)
        while whole > 1 and sum(map(_height_of, blocks)) > room:
            whole -= 1
            blocks[whole] = list(_block(findings[whole], short=True))
        if sum(map(_height_of, blocks)) > room:
            blocks[0] = list(_block(replace(findings[0], also=())))
    for number, block in enumerate(blocks):
        if room is not None:
            # one line is kept to say how many there are more
            if _height_of(block) + (number + 1 < len(blocks)) > room:
                yield n_(
                    "{number} more finding: gardien status --all",
                    "{number} more findings: gardien status --all",
                    len(blocks) - number,
                )
                return
            room -= _height_of(block)
        yield from block


def _height_of(block: Sequence[str]) -> int:
    return sum(map(_height, block))


def _block(finding: Finding, *, short: bool = False) -> Iterator[str]:
    """Yield a finding: what, since when, what it costs, and the command; `short`: not the cost."""
    sign = "!" if finding.fine is False else "-"
    bare = replace(finding, cost=None, command="")
    yield f"{sign} {bare.sentence(when).in_language()}"
    if not short:
        if finding.cost:
            yield f"    {finding.cost.in_language()}"
        yield from (f"    {text.in_language()}" for text in finding.also)
    if text := acknowledged(finding):
        yield f"    {text}"
    if finding.command:
        yield f"    > {to_type(finding.command).in_language()}"


def _summary(answer: dict[str, Any], *, every: bool) -> Iterator[str]:
    """Yield what works, in a few lines; `every`: with each part."""
    lines = [
        _(
            "{line} {answering} of {devices} devices answer",
            line=name,
            answering=link["devices"] - link["silent"] if link["open"] else 0,
            devices=link["devices"],
        )
        for name, link in answer["links"].items()
    ]
    if not every and len(answer["links"]) > 1:
        lines = [*_answering(answer["links"])]
    uplinks = [
        _(
            CONNECTION[_connection(uplink["delivery"])],
            uplink=name,
            receipt=_("last receipt {time}", time=when(last))
            if (last := uplink["delivery"]["last_receipt"])
            else _("no receipt since the start"),
        )
        for name, uplink in answer["uplinks"].items()
    ]
    clock = "person" if answer.get("clock_person_until") else answer["clock"]
    gateway = [_("clock {trust}", trust=_(TRUST.get(clock, clock)))]
    if certificate := answer["certificate"]:
        gateway.append(_("certificate {validity}", validity=certificate["validity"]))
    gateway.append(_("{number:,} MB free on the disk", number=answer["disk"]["free"] // 10**6))
    states = answer.get("dwellings") or {}
    for title, parts in (
        (_("lines"), lines),
        (_("uplinks"), uplinks),
        (_("dwellings"), [_dwellings(states)] if any(states.values()) else []),
        (_("gateway"), gateway),
    ):
        if parts:
            yield _row(title, parts, every=every)
    yield from _page(answer.get("web"))
    yield from _pending(answer)


def _page(web: dict[str, Any] | None) -> Iterator[str]:
    """Yield where the web page is open, and what people compare when their browser warns."""
    if not web or not web["listening"]:
        return
    addresses = ", ".join(f"https://{address}" for address in web["listening"])
    if certificate := web["certificate"]:
        marked = _("certificate {fingerprint}", fingerprint=in_two(certificate["fingerprint"]))
        addresses = _(AND).join((addresses, marked))
    yield f"{_('page'):<10} {addresses}"


def in_two(fingerprint: str) -> str:
    """Return a fingerprint with a space in the middle, where a line may be broken."""
    half = len(fingerprint) // 2 + 1
    return f"{fingerprint[:half]} {fingerprint[half:]}"


def _connection(delivery: dict[str, Any]) -> str:
    """Return the key of a connection's state in CONNECTION and CONNECTED."""
    if not delivery["connected_since"]:
        return "no"
    # a broker that is frozen keeps the connection open
    return "silent" if delivery.get("silent_since") else "yes"


def _answering(links: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield how many devices answer, and the lines on which not all do."""
    counts = {
        name: (link["devices"] - link["silent"] if link["open"] else 0, link["devices"])
        for name, link in links.items()
    }
    answering, devices = (sum(numbers) for numbers in zip(*counts.values(), strict=True))
    if answering == devices:
        yield _("all {devices} devices answer", devices=devices)
        return
    yield _("{answering} of {devices} devices answer", answering=answering, devices=devices)
    for name, (some, of) in counts.items():
        if some < of:
            yield _("{line} {answering} of {devices}", line=name, answering=some, devices=of)


def _row(title: str, parts: Sequence[str], *, every: bool) -> str:
    """Return a line of at most two lines on the screen; what does not fit is counted. `every`: it
    may be longer.
    """
    row = f"{title:<10}"
    for number, part in enumerate(parts):
        separator = _(AND) if number else " "
        if not every and len(row) + len(part) > 2 * WIDTH - 20:
            return row + separator + _("{number} more", number=len(parts) - number)
        row += separator + part
    return row


def _pending(answer: dict[str, Any]) -> Iterator[str]:
    """Yield what waits for people."""
    consents = answer.get("consents") or {"unanswered": 0, "ending": 0}
    if number := consents["unanswered"]:
        yield n_(
            "{number} form without an answer. List: gardien consent due",
            "{number} forms without an answer. List: gardien consent due",
            number,
        )
    if number := consents["ending"]:
        yield n_(
            "{number} consent ends soon, on {day}. List: gardien consent due",
            "{number} consents end soon, the first on {day}. List: gardien consent due",
            number,
            day=day(consents["first_end"])[:10],
        )
    if number := (answer.get("authority") or {"waiting": 0})["waiting"]:
        yield n_(
            "{number} signed object waiting. Reasons: gardien object list",
            "{number} signed objects waiting. Reasons: gardien object list",
            number,
        )


def _dwellings(states: dict[str, int]) -> str:
    """Return how many dwellings are occupied, vacant and unknown."""
    counts = _(
        "{occupied} occupied, {vacant} vacant, {unknown} of unknown occupancy",
        occupied=states["occupied"], vacant=states["vacant"], unknown=states["unknown"],
    )  # fmt: skip
    pointer = _("List: gardien occupancy list")
    return f"{counts}. {pointer}" if states["vacant"] or states["unknown"] else counts


def _details(answer: dict[str, Any]) -> None:
    """Print every uplink, device, line, control, fault and role."""
    if answer["uplinks"]:
        _show_uplinks(answer["uplinks"])
    if answer["devices"]:
        table(
            (_("line"), _("device"), _("place"), _("serial"), _("last answer"), _("state")),
            [_device_row(name, d, answer["uplinks"]) for name, d in answer["devices"].items()],
            whole=_("device") if max(map(len, answer["devices"])) <= SHORT else "",
        )
    for name, link in answer["links"].items():
        if remark := link["health"].get("words"):
            typer.echo(wrapped(_("line {line}: {remark}", line=name, remark=remark)))
    _show_controls(answer["controls"])
    if rotation := answer.get("rotation"):
        _show_rotation(rotation)
    for fault in answer.get("faults", ()):
        _show_fault(fault)
    # a daemon of an earlier version does not send this member
    if roles := roles_line(answer.get("roles", {})):
        typer.echo(wrapped(_("roles: {roles}", roles=roles)))


def _show_controls(controls: dict[str, Any]) -> None:
    for name, control in controls.items():
        if control["value"] is not None:
            until = _(" until {time}", time=when(control["until"])) if control["until"] else ""
            typer.echo(
                _(
                    "control {control}: {value} {unit}{until}, {state}, {author}",
                    control=name,
                    value=Decimal(control["value"]),
                    unit=spoken(control["unit"]),
                    until=until,
                    state=_(control["state"]),
                    author=control["by"],
                )
            )


def roles_line(roles: dict[str, list[str]]) -> str:
    """Return who has which role, in one line; empty if only root has one."""
    return _(AND).join(f"{role}: {', '.join(who)}" for role, who in roles.items() if who)


def _show_rotation(rotation: dict[str, Any]) -> None:
    text = _(
        "rotating the spool key since {since}: {done:,.1f} of about {total:,.1f} MB encrypted with"
        " the new key",
        since=when(rotation["since"]),
        done=rotation["passed"] / 1e6,
        total=rotation["of"] / 1e6,
    )
    waits = _(AND) + _("waiting: {reason}", reason=rotation["waits"]) if rotation["waits"] else ""
    typer.echo(wrapped(text + waits))


def _show_fault(fault: dict[str, Any]) -> None:
    retry = _("running again; listed until it has run for a while without this error")
    if fault["next_try"]:
        retry = _("next try at {time}", time=when(fault["next_try"]))
    typer.echo(
        _(
            "  {component}, since {since}, {retry}: {error}",
            component=component_text(fault["component"]),
            since=when(fault["since"]),
            retry=retry,
            error=fault["words"],
        )
    )


def _show_uplinks(uplinks: dict[str, Any]) -> None:
    for name, uplink in uplinks.items():
        recipient = uplink["recipient"]
        typer.echo(_("uplink {uplink} delivers to {recipient}", uplink=name, recipient=recipient))
        for line in filter(None, _remarks(uplink)):
            typer.echo(f"  {line}")
    table(
        (
            _("uplink"), _("connected"), _("last receipt"), _("waiting"), _("in batches"),
            _("held back"),
        ),
        [_uplink_row(name, uplink) for name, uplink in uplinks.items()],
    )  # fmt: skip


def _remarks(uplink: dict[str, Any]) -> Iterator[str]:
    if uplink["receipt"] == "broker":
        yield _("receipts come from its broker, not from the recipient: weaker proof")
    if uplink["receipt"] == "signed":
        yield _("only signed receipts count")
    yield uplink.get("weaker", "")
    data = uplink["data"]
    if data["budget"]:
        used, budget = data["used"] / 1e6, data["budget"] / 1e6
        yield _("{used:,.1f} of {budget:,.0f} MB transferred this month", used=used, budget=budget)
    elif data["used"]:
        yield _("{used:,.1f} MB transferred this month", used=data["used"] / 1e6)
    if file := uplink.get("building"):
        values = {"time": when(file["made"]), "number": file["revision"]}
        yield (
            _("the backup of {time} (change {number}) is stored there", **values)
            if file["held"]
            else _("the backup of {time} (change {number}) is not stored there yet", **values)
        )
    days = uplink["bears_days"]
    if days is not None and days < LONG_OUTAGE:
        yield n_(
            "room for an outage of {number} day before data is lost",
            "room for an outage of {number} days before data is lost",
            days,
        )
    if largest := uplink.get("largest_batch"):
        yield _(
            "batches are limited to {size:,} B, because larger ones were rejected", size=largest
        )


def _uplink_row(name: str, uplink: dict[str, Any]) -> tuple[str, ...]:
    delivery, backlog = uplink["delivery"], uplink["backlog"]
    return (
        name,
        _(CONNECTED[_connection(delivery)]),
        when(delivery["last_receipt"]),
        n_("{number:,} value", "{number:,} values", backlog["slots"]),
        str(backlog["batches"]),
        n_("{number:,} device", "{number:,} devices", uplink["held_devices"]),
    )


def _device_row(name: str, device: dict[str, Any], uplinks: Collection[str]) -> tuple[str, ...]:
    from agent.api.device_state import device_state

    return (
        *(device["link"], name, device["place"] or "–", device["serial"] or "–"),
        *(when(device["answered"]), device_state(device, uplinks).in_language()),
    )
