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
    Finding,
    component_text,
    exit_status,
    to_type,
    worst_first,
)
from agent.core.i18n import N_, _, n_
from agent.core.quantities import spoken

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

WIDTH, HEIGHT = 80, 23
"""columns and lines of the screen that a status fits on; the last line is for the prompt"""
CONNECTED = {"yes": N_("yes"), "silent": N_("no answer"), "no": N_("no")}
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
    from agent.api.overview import questions

    rows = [(one.text.in_language(), one.answer.in_language())
            for one in questions(answer, findings, when)]  # fmt: skip
    wide = max(len(question) for question, _text in rows)
    for question, text in rows:
        yield f"{question:<{wide}}  {text}"


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
    from agent.api import overview

    lines = [part.text.in_language() for part in overview.lines(answer["links"])]
    if not every and len(answer["links"]) > 1:
        lines = [*_answering(answer["links"])]
    uplinks = [part.text.in_language() for part in overview.uplinks(answer["uplinks"], when)]
    gateway = [part.text.in_language() for part in overview.gateway(answer)]
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


def _answering(links: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield how many devices answer, and the lines on which not all do."""
    from agent.api.overview import answering as answering_of

    counts = {name: (answering_of(link), link["devices"]) for name, link in links.items()}
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
    from agent.api import overview

    counts = overview.dwellings(states).in_language()
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
    from agent.api.overview import connection

    delivery, backlog = uplink["delivery"], uplink["backlog"]
    return (
        name,
        _(CONNECTED[connection(delivery)]),
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
