"""`gardien control`: the controls, what is in force at each, how to stop it, and votes."""

from __future__ import annotations

import hashlib
import os
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.sign_objects import (
    DAY,
    Begins,
    Days,
    Hours,
    Largest,
    LongestOrder,
    OrdersADay,
    Season,
    ShortestNotice,
    ShortestPause,
    Smallest,
    TimeADay,
    UnitOfLimits,
    bytes_of,
    moment,
    number,
)
from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    Json,
    State,
    as_json,
    ask,
    confirmed,
    day,
    read_here,
    state_of,
    suffix_of,
    table,
    when,
    wrapped,
    write_page,
)
from agent.cli.trust import grants
from agent.core.errors import Refused
from agent.core.i18n import N_, Text, _, in_language, joined
from agent.core.i18n import language as language_of_terminal
from agent.core.quantities import spoken

if TYPE_CHECKING:
    from agent.control.recovery import ReleaseResult
    from agent.registry.page import Page

app = typer.Typer(
    no_args_is_help=True, help="Show controls and what is in force; stop, test and authorize them."
)
Name = Annotated[
    str, typer.Argument(help="The control's name under `controls` in the configuration.")
]
Reason = Annotated[str, typer.Option("--reason", help="The reason; it is recorded.")]
PageLanguage = Annotated[
    str,
    typer.Option(
        "--language", help="Language: fr or en; default: of the terminal.", show_default=False
    ),
]
PageFile = Annotated[
    Path | None,
    typer.Option(
        "--to", help="Write it to this file, .html (to print) or .txt.", show_default=False
    ),
]
LAST_MONTH = "last"
"""the last whole month of the building, for `control.report`"""
WITHIN = 18.0
"""seconds for a release from the journal: systemd waits for 30"""
READ_WITHIN = 4.0
"""seconds of these for reading the journal from the disk"""
UNREADABLE = N_(
    "it cannot be read. Controls that its copy in /run does not have are released once it can be"
    " read"
)

DONE = N_("{name} would be done: {value} from {begin} to {end}")
LOST = N_("{name} would lose against a stronger order: {value} from {begin} to {end}")
NO_CONTROL = N_('there is no control "{name}"; configured are: {known}')
EDITED = N_(
    "the agent does not have the present configuration of {name} yet, so it cannot state who has"
    " accepted this sheet: gardien reload"
)
NOT_YOURS = N_(
    "this account may not write {folder}. While the agent runs, an operator releases one control:"
    " gardien control release NAME. While it is stopped: sudo gardien control release --all"
)


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Show every control: what is in force, what is scheduled, what prevents orders.

    Exit status 1 if a control needs attention.
    """
    answer = ask(config, state, "control.list")["controls"]
    if json:
        as_json(answer)
    elif not answer:
        typer.echo(_("no control is configured: see `controls` in the configuration"))
    else:
        columns = (_("control"), _("state"), _("value"), _("until"), _("by"), _("guards"))
        table(columns, map(_row, answer.items()))
        for name, control in answer.items():
            for remark in _remarks(control):
                typer.echo(wrapped(_("! {name}: {remark}", name=name, remark=remark)))
    raise typer.Exit(1 if any(control["alarm"] for control in answer.values()) else 0)


def _row(item: tuple[str, dict[str, Any]]) -> tuple[str, ...]:
    name, control = item
    guards = ", ".join(
        f"{guard} {in_language(reading)}" for guard, reading in control["guards"].items()
    )
    value = (
        f"{in_language(Decimal(control['value']))} {spoken(control['unit'])}"
        if control["value"]
        else "–"
    )
    until = when(control["until"]) if control["until"] else "–"
    return (name, in_language(control["state"]), value, until, control["by"] or "–", guards or "–")


def _remarks(control: dict[str, Any]) -> list[str]:
    untested = _("not tested, so no order is accepted: gardien control test")
    sheet = control["sheet"]
    remarks = [] if control["tested"] else [untested]
    remarks += [_unsigned(sheet)] if sheet and not sheet["accepted"] else []
    remarks += [in_language(control["alarm"])] if control["alarm"] else []
    forbidden = in_language(control["opted_out"] or control["forbidden"])
    remarks += [forbidden] if control["forbidden"] else []
    remarks += [
        _("{value} from {time}", value=order["value"], time=when(order["begin"]))
        for order in control["next"]
    ]
    return remarks


def _unsigned(sheet: dict[str, Any]) -> str:
    """Why no order is accepted before the operator has signed."""
    if not (latest := sheet["latest"]):
        text = N_("no order before its operator has signed version {version} of its sheet")
        return _(text, version=sheet["version"])
    return _(
        "no order: {by} signed version {before} of its sheet, and version {version} is in force",
        by=latest["by"],
        before=latest["version"],
        version=sheet["version"],
    )


@app.command()
def release(
    name: Annotated[str, typer.Argument(help="The control; omit it with --all.")] = "",
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Release all that the journal has in force, while the agent is stopped. Works"
            " without the configuration, and on a failing disk, since nothing is written to the"
            " disk. Capacity limits (`action: limit`) get their failsafe value instead; if the disk"
            " fails, they are released.",
        ),
    ] = False,
    limits: Annotated[
        bool, typer.Option("--limits", help="With --all: release capacity limits, too.")
    ] = False,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="VALUE",
            help="For a register whose original value gardien does not know, because the journal is"
            " new or was lost: the value to write.",
        ),
    ] = "",
    abandon: Annotated[
        str,
        typer.Option(
            "--abandon",
            metavar="REASON",
            help="Give up a release that can no longer succeed. The device keeps the value that it"
            " has, such as that of an order.",
        ),
    ] = "",
    reason: Reason = "",
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Release a control now, and cancel its scheduled orders.

    Exit status 1 if the device has not confirmed the release.
    """
    if to and (every or abandon):
        raise typer.BadParameter(_("--to needs one control, without --all and --abandon"))
    if every == bool(name):
        raise typer.BadParameter(_("name a control, or give --all"))
    if every:
        _release_all(config, state, limits=limits, json=json)
        return
    if abandon:
        answer = ask(config, state, "control.abandon", named=named, name=name, reason=abandon)
        outcome = (
            _("the release was given up; the device keeps its value")
            if answer["closed"]
            else _("released, confirmed")
        )
        as_json(answer) if json else typer.echo(_("{name}: {outcome}", name=name, outcome=outcome))
        return
    if to:
        fields = {"name": name, "to": to, "reason": reason}
        answer = ask(config, state, "control.hand_back", named=named, **fields)
        outcome = (
            _("{name}: set back to {value}, confirmed", name=name, value=answer["to"])
            if answer["ok"]
            else _(
                "{name}: set back to {value}, not confirmed yet: {alarm}",
                name=name,
                value=answer["to"],
                alarm=in_language(answer["pending"][0]),
            )
        )
        as_json(answer) if json else typer.echo(outcome)
        raise typer.Exit(0 if answer["ok"] else 1)
    answer = ask(config, state, "control.release", named=named, name=name, reason=reason)
    if json:
        as_json(answer)
    elif not answer["ended"]:
        typer.echo(_("{name}: nothing was in force", name=name))
    else:
        outcome = (
            _("released, confirmed")
            if answer["ok"]
            else _("release not confirmed yet; the agent tries again")
        )
        typer.echo(_("{name}: {outcome}", name=name, outcome=outcome))
    raise typer.Exit(0 if answer["ok"] else 1)


def _release_all(config: Path, state: Path | None, *, limits: bool, json: bool) -> None:
    from dataclasses import asdict

    folder = state_of(config, state)
    if not _owns(folder):
        raise Refused(NOT_YOURS, folder=str(folder))
    released = given_back(folder, limits=limits)
    if json:
        as_json([asdict(release) for release in released])
    else:
        for release in released:
            outcome = _("{name}: {outcome}", name=release.control, outcome=release.words)
            typer.echo(outcome)
    raise typer.Exit(0 if all(release.done for release in released) else 1)


def _owns(state: Path) -> bool:
    """Whether this account may work on the state's files: root, or their owner."""
    if not os.geteuid():
        return True
    try:
        return state.stat().st_uid == os.geteuid()
    except PermissionError:
        return False
    except OSError:  # the disk fails: the copy in /run can still be released
        return True


def given_back(folder: Path, *, limits: bool) -> list[ReleaseResult]:
    """Release all holds in the journal of a stopped agent; return the outcome of each.

    The disk is only read, because it may be read-only, failing, full or frozen. If it cannot be
    read or is read-only, limits are released too. Raises Refused if an agent runs.
    """
    import asyncio
    from contextlib import suppress

    from agent.control.model import Moment
    from agent.control.recovery import ReleaseResult, open_records, release_all
    from agent.control.writer import FILE, JournalCopy
    from agent.core.clock import boot_id, monotonic, seconds
    from agent.core.state import owned_unwritten
    from agent.core.storage import is_read_only, volatile

    # monotonic times in the journal count only within the boot that wrote them
    boot = boot_id()

    def now() -> Moment:
        # without the agent nobody has checked the clock
        return Moment(seconds(), monotonic(), boot, trusted=False)

    try:
        with owned_unwritten(folder, "gardien control release --all", 2.0):
            copy = JournalCopy(volatile(folder))
            # without a folder in /run there is no copy to lock
            with suppress(OSError):
                if not copy.lock():
                    raise Refused("{folder} is in use by another process", folder=folder)
            try:
                journal, readable = open_records(folder / FILE, copy, now, READ_WITHIN)
                # nothing may be held without a journal: on a failing disk no limit stays in force
                limits = limits or not readable or is_read_only(folder)
                doing = release_all(journal, copy, now, WITHIN - READ_WITHIN, limits=limits)
                released = asyncio.run(doing)
            finally:
                copy.close()
    except Refused as error:
        raise Refused(
            "{error}; while it runs, release one control: gardien control release NAME",
            error=error,
        ) from error
    # the copy in /run may lack holds that only the journal has: exit status 1, not success
    if not readable:
        released.append(ReleaseResult(Text("the journal"), done=False, words=Text(UNREADABLE)))
    return released


@app.command("opt-out")
def opt_out(
    name: Name,
    reason: Reason = "",
    hours: Annotated[
        float,
        typer.Option(
            "--hours",
            min=0,
            metavar="NUMBER",
            help="For how many hours; default: until the planned end of the order in force; without"
            " one: 24.",
        ),
    ] = 0.0,
    until: Annotated[
        str,
        typer.Option(
            "--until",
            metavar="DAY",
            help="Pause until this day is over, such as 2027-04-30: the operator's own pause for a"
            " season.",
        ),
    ] = "",
    back: Annotated[bool, typer.Option("--end", help="End an opt-out.")] = False,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Stop the order in force at once, and start no other until its planned end.

    A pause (--until) is recorded also while the agent is stopped or the equipment does not answer;
    then it is released as soon as it can be. Exit status 1 if the device has not confirmed the
    release yet, or the disk has not recorded it.
    """
    if until and (hours or back):
        raise typer.BadParameter(_("--until is given without --hours and --end"))
    if back:
        answer = ask(config, state, "control.opt_in", named=named, name=name)
    else:
        fields = {"name": name, "reason": reason, "hours": hours, "until": until}
        answer = ask(config, state, "control.opt_out", named=named, **fields)
    if json:
        as_json(answer)
    elif back:
        typer.echo(_("{name} takes orders again", name=name))
    else:
        begin, before = when(answer["until"]), answer.get("before")
        text = N_("{name} takes no orders before {time}. To end this: {command}")
        if before:
            text = N_(
                "{name} was opted out already, until {before}; it takes no orders before {time}. To"
                " end this: {command}"
            )
        command = f"gardien control opt-out {name} --end"
        values = {"before": when(before), "time": begin, "command": command}
        typer.echo(wrapped(_(text, name=name, **values)))
        if why := answer["unrecorded"]:
            text = N_("! in force, but not recorded: {why}. Repeat it once the disk works")
            typer.echo(wrapped(_(text, why=why)))
        for alarm in answer["pending"]:
            typer.echo(
                wrapped(
                    _(
                        "! {name} is not released yet; the agent tries again until it is: {alarm}."
                        " While the agent is stopped: gardien control release --all",
                        name=name,
                        alarm=alarm,
                    )
                )
            )
    raise typer.Exit(0 if back or answer["ok"] else 1)


@app.command()
def history(
    name: Annotated[str, typer.Argument(help="Only this control.")] = "",
    since: Annotated[str, typer.Option("--from", help="First day, 2026-11-24.")] = "",
    until: Annotated[str, typer.Option("--to", help="Last day.")] = "",
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show what was done, one sentence for each order; default: the last 30 days."""
    answer = ask(config, state, "control.history", name=name, since=since, until=until)
    if json:
        as_json(answer)
        return
    read_here(answer)
    for sentence in answer["sentences"]:
        typer.echo(wrapped(in_language(sentence)))
    if not answer["sentences"]:
        since, until = day(answer["since"]), day(answer["until"])
        typer.echo(_("no order was applied between {since} and {until}", since=since, until=until))


@app.command()
def report(
    name: Annotated[str, typer.Argument(help="Only this control.")] = "",
    month: Annotated[
        str, typer.Option("--month", help="The month, 2026-10; default: the last whole month.")
    ] = "",
    language: PageLanguage = "",
    to: PageFile = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Print the monthly report for the operator: each order, who requested it, why, and what came.

    Orders that were refused are listed with the reason.
    """
    answer = ask(config, state, "control.report", name=name, month=month or LAST_MONTH)
    if json:
        as_json(answer)
        return
    from agent.control.report import monthly

    _print([monthly(answer, _language(language))], to)


@app.command()
def notice(
    name: Annotated[str, typer.Argument(help="Only this control.")] = "",
    month: Annotated[
        str, typer.Option("--month", help="The month, 2026-10; default: the present month.")
    ] = "",
    language: PageLanguage = "",
    to: PageFile = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Print the notice for the stairwells: what was changed or is planned, for whom, and why."""
    answer = ask(config, state, "control.report", name=name, month=month)
    from agent.control.report import stairwell

    _print([stairwell(answer, _language(language))], to)


def _language(given: str) -> str:
    if given not in {"", "fr", "en"}:
        raise typer.BadParameter(_("fr or en"), param_hint="--language")
    return given or language_of_terminal()


def _print(pages: list[Page], to: Path | None) -> None:
    """Print pages as text, or write them to a file: .html or .txt."""
    text = "\n\n".join(page.text for page in pages)
    if to is None:
        typer.echo(text)
        return
    if suffix_of(to, ".html", ".txt") == ".html":
        from agent.registry.page import printed

        text = printed(*pages)
    write_page(to, text)
    typer.echo(_("written: {file}", file=to))


@app.command()
def sheet(
    name: Name,
    language: Annotated[
        str, typer.Option("--language", help="Language: fr, en or both.", metavar="fr|en|both")
    ] = "both",
    to: PageFile = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Print the sheet that the operator of the equipment signs, and on which the assembly votes.

    It states what is written, the limits, what is excluded, how to stop an order, what happens in
    each failure, the remaining risk, and who has accepted it.
    """
    from agent.config import load
    from agent.config.config import control_definitions
    from agent.control.authorization_form import sheet as page

    if language not in {"fr", "en", "both"}:
        raise typer.BadParameter(_("fr, en or both"), param_hint="--language")
    loaded = load(config)
    if name not in loaded.controls:
        known = ", ".join(loaded.controls) or Text("none")
        raise Refused(NO_CONTROL, name=name, known=known)
    fit = control_definitions(loaded)[name]
    signed = _signed(config, state, name) if fit.to_sign else None
    if signed and signed["version"] != fit.modality.version:
        raise Refused(EDITED, name=name)
    form = page(loaded.building.name, loaded.controls[name], fit, signed)
    if json:
        texts = {"fr": form.french.text, "en": form.english.text}
        as_json({"control": name, "version": fit.modality.version, "signed": signed, **texts})
        return
    pages = {"fr": form.french, "en": form.english}
    _print([made for lang, made in pages.items() if language in {lang, "both"}], to)


def _signed(config: Path, state: Path | None, name: str) -> dict[str, Any] | None:
    """Who has accepted the sheet; None: it is not known here, as there is no gateway yet."""
    from agent.control.writer import FILE
    from agent.local import ask_daemon

    folder, call = state_of(config, state), "control.list"
    try:
        answer = ask_daemon(folder, call, {}, lambda _: None)
        if answer is None and (folder / FILE).exists():
            answer = ask(config, state, call)
    except (
        Refused,
        OSError,
    ):  # not for this account: the sheet itself needs only the configuration
        return None
    control: dict[str, Any] = (answer or {"controls": {}})["controls"].get(name) or {}
    return control.get("sheet")


@app.command()
def accept(
    name: Name,
    version: Annotated[str, typer.Option(help="The version on the signed page.")],
    by: Annotated[str, typer.Option("--by", help="Who signed: Marc Durand, Chauffage Dupont.")],
    on: Annotated[str, typer.Option("--on", help="The day of the signature: 2026-10-01.")],
    scan: Annotated[
        Path | None,
        typer.Option(help="The scanned page; only its SHA-256 is stored.", show_default=False),
    ] = None,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record that the operator has signed the sheet of a control: orders are accepted from now on.

    If anything changes that the sheet states, it is no longer accepted.
    """
    fields = {"name": name, "version": version, "by": by, "on": on}
    fields["scan"] = hashlib.sha256(bytes_of(scan)).hexdigest() if scan else ""
    answer = ask(config, state, "control.accept", named=named, **fields)
    if json:
        as_json(answer)
        return
    typer.echo(
        _(
            "{name}: sheet {version}, accepted by {by} on {on}",
            name=name,
            version=version,
            by=answer["by"],
            on=on,
        )
    )


@app.command("dry-run")
def dry_run(
    file: Annotated[Path, typer.Argument(help="A signed order.")],
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show what a signed order would do now, or why it would be refused. Nothing is changed.

    Exit status 1 if a part of it would be refused.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused("{file}: {reason}", file=file, reason=error) from error
    answer = ask(config, state, "control.dry_run", text=text)
    if json:
        as_json(answer)
    else:
        from agent.control.history import evidence_text

        for name, target in answer["targets"].items():
            if "code" in target:
                refused = _(
                    "{name} would be refused: {words} ({code})",
                    name=name,
                    code=target["code"],
                    words=target["words"],
                )
                if step := target.get("next"):
                    refused += f". {in_language(step)}"
                typer.echo(wrapped(refused))
                continue
            text = DONE if target["would"] == "be done" else LOST
            value = f"{target['value']} {spoken(target['unit'])}"
            begin, end = when(target["begin"]), when(target["end"])
            line = _(text, name=name, value=value, begin=begin, end=end)
            if drawn := target["drawn_s"]:
                line += _(", starting at random within the first {seconds} s", seconds=drawn)
            typer.echo(line)
            for evidence in target["grants"]:
                on = evidence_text(evidence)
                typer.echo("    " + _("authorized by the {evidence}", evidence=on))
    raise typer.Exit(1 if any("code" in target for target in answer["targets"].values()) else 0)


@app.command("test")
def try_(
    name: Name,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Test a control: apply a small value, read it back, release it. Stay near the equipment.

    The test is repeated with a release from the journal alone (as after a crash) and, if the device
    has its own watchdog, with a release by that watchdog. Orders for a control are accepted only
    after its test has passed.
    """
    answer = ask(config, state, "control.test", named=named, name=name)
    if json:
        as_json(answer)
        return
    typer.echo(
        _(
            "{name} passed\n"
            "    applied in                      {applied} s\n"
            "    released in                     {released} s\n"
            "    released from the journal in    {recovered} s",
            name=name,
            applied=answer["applied_s"],
            released=answer["released_s"],
            recovered=answer["recovered_s"],
        )
    )
    if (seconds := answer["fell_back_s"]) is not None:
        typer.echo(_("    released by the device after    {seconds} s", seconds=seconds))


app.command()(grants)


@app.command()
def witness(
    to: Annotated[str, typer.Option(help="Who may send orders: the name in the trust list.")],
    asset: Annotated[
        list[str], typer.Option(help="A control by name, or kind:heating; may be repeated.")
    ],
    act: Annotated[
        list[str], typer.Option(help="offset, setpoint, pause, mode or limit; may be repeated.")
    ],
    ref: Annotated[str, typer.Option(help="The resolution: AG du 12 mai 2026, résolution 14.")],
    date: Annotated[str, typer.Option(help="The date of the vote: 2026-05-12.")],
    result: Annotated[str, typer.Option(help="The result: 61 for, 12 against, 4 abstained.")],
    majority: Annotated[str, typer.Option(help="The majority rule: article 25.")],
    minutes: Annotated[Path, typer.Option(help="The minutes; only their SHA-256 is stored.")],
    least: Smallest = None,
    most: Largest = None,
    unit: UnitOfLimits = None,
    max_dur: LongestOrder = None,
    min_gap: ShortestPause = None,
    max_day: OrdersADay = None,
    max_time_day: TimeADay = None,
    notice: ShortestNotice = None,
    window: Hours = None,
    season: Season = None,
    begins: Begins = None,
    days: Days = 365,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record the vote of an assembly that has no key; a second person must confirm it.

    Prints a code. Give it on paper, with the minutes, to the president of the residents' council.
    Works only with `trust: {witnessed: true}` in the configuration.
    """
    lim = {
        "min": _plain(number(least)), "max": _plain(number(most)), "unit": unit,
        "max_dur": max_dur, "min_gap": min_gap, "max_day": max_day, "max_time_day": max_time_day,
        "notice": notice, "windows": window or None, "season": season,
    }  # fmt: skip
    nbf = moment(begins)
    grant = {
        "sub": to, "nbf": nbf, "exp": nbf + days * DAY,
        "scope": {"assets": asset, "acts": act},
        "lim": {name: value for name, value in lim.items() if value is not None},
        "evid": {
            "kind": "vote", "ref": ref, "date": date, "result": result, "majority": majority,
            # hashed here: the minutes themselves are not sent to the agent
            "sha256": hashlib.sha256(bytes_of(minutes)).hexdigest(),
        },
    }  # fmt: skip
    answer = ask(config, state, "control.witness", grant=grant)
    if json:
        as_json(answer)
        return
    _show_vote(answer)
    paper = _(
        "For the president of the residents' council, on paper, until {time}:",
        time=when(answer["until"]),
    )
    typer.echo(f"\n{paper}\n")
    typer.echo(f"    gardien control confirm {answer['code']}\n")
    typer.echo(
        wrapped(
            _(
                "The gateway signs the grant when another account than this one has run this"
                " command."
            )
        )
    )


@app.command()
def confirm(
    code: Annotated[str, typer.Argument(help="The code on the paper.")],
    yes: Annotated[bool, typer.Option("--yes", help="Skip confirmation.")] = False,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Confirm the vote of an assembly that somebody else has recorded. Compare it with the minutes.

    The code can be used once. The gateway then signs a grant, as a witness of this vote.
    """
    if not json:
        _show_vote(ask(config, state, "control.vote", code=code))
    if not yes:
        typer.echo()
        if not confirmed(_("Is this what the assembly voted?")):
            raise typer.Exit(1)
    answer = ask(config, state, "control.confirm", code=code)
    as_json(answer) if json else typer.echo(
        _("confirmed: the gateway has signed the grant {jti}", jti=answer["jti"])
    )


def _show_vote(vote: dict[str, Any]) -> None:
    scope, lim, evid = vote["scope"], vote["lim"], vote["evid"]
    fields = {
        _("vote"): _("{title}, of {day}", title=evid["ref"], day=evid["date"]),
        _("result"): in_language(joined("; ", (evid["result"], evid["majority"]))),
        "sha256": evid["sha256"],
        _("to"): vote["sub"],
        _("what"): f"{', '.join(scope['acts'])}: {', '.join(scope['assets'])}",
        _("limits"): ", ".join(f"{name} {_listed(value)}" for name, value in lim.items()) or "–",
        _("valid"): _("{begin} to {end}", begin=when(vote["from"]), end=when(vote["to"])),
        _("recorded"): _("by {name}", name=vote["by"]),
    }
    for name, text in fields.items():
        typer.echo(f"{name:11} {text}")


def _listed(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int) else float(value)
