"""`gardien control`: what may be adjusted, what is in force, and how to stop it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli import vote
from agent.cli.grants import grants
from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    Json,
    State,
    as_json,
    ask,
    day,
    state_of,
    table,
    when,
    wrapped,
)
from agent.errors import Refused
from agent.i18n import N_
from agent.units import spoken

if TYPE_CHECKING:
    from agent.control.releaser import ReleaseResult

app = typer.Typer(
    no_args_is_help=True, help="What may be adjusted, what is in force, and how to stop it."
)
Name = Annotated[str, typer.Argument(help="The control, as it is called under `controls`.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, in words; it is recorded.")]
WITHIN = 18.0
"""seconds for a give-back from the journal: systemd waits for 30"""
READ_WITHIN = 4.0
"""seconds of these in which the disk must have given what it knows"""
UNREADABLE = (
    "it could not be read: what it knows beyond its copy in /run is given back once it can be"
)

NOT_YOURS = N_(
    "{folder} is not for this account: sudo gardien control release --all, while the agent is"
    " stopped. Where it runs, an operator gives back one control: gardien control release NAME"
)


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Show every control: what is in force, what comes, what forbids it.

    Exit status 1 where something must be looked at.
    """
    answer = ask(config, state, "control.list")["controls"]
    if json:
        as_json(answer)
    elif not answer:
        typer.echo("nothing may be adjusted here: see `controls` in the configuration")
    else:
        table(("control", "state", "value", "until", "by", "guards"), map(_row, answer.items()))
        for name, one in answer.items():
            for words in _remarks(one):
                typer.echo(f"! {name}: {words}")
    raise typer.Exit(1 if any(one["alarm"] for one in answer.values()) else 0)


def _row(item: tuple[str, dict[str, Any]]) -> tuple[str, ...]:
    name, one = item
    guards = ", ".join(f"{guard} {said}" for guard, said in one["guards"].items())
    value = f"{one['value']} {spoken(one['unit'])}" if one["value"] else "–"
    until = when(one["until"]) if one["until"] else "–"
    return (name, one["state"], value, until, one["by"] or "–", guards or "–")


def _remarks(one: dict[str, Any]) -> list[str]:
    said = [] if one["tested"] else ["not tested: no command is taken before `control test`"]
    said += [one["alarm"]] if one["alarm"] else []
    said += [one["opted_out"] or one["forbidden"]] if one["forbidden"] else []
    said += [f"{order['value']} from {when(order['begin'])}" for order in one["next"]]
    return said


@app.command()
def release(
    name: Annotated[str, typer.Argument(help="The control; leave it out with --all.")] = "",
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Everything that the journal knows, while the agent is stopped: no configuration"
            " is read, and nothing is written to the disk, which may fail. Limits get their"
            " failsafe value, unless the disk fails.",
        ),
    ] = False,
    limits: Annotated[
        bool, typer.Option("--limits", help="With --all: give limits back too.")
    ] = False,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="VALUE",
            help="What stood in a register, where the journal is new or was lost.",
        ),
    ] = "",
    abandon: Annotated[
        str,
        typer.Option(
            "--abandon",
            metavar="REASON",
            help="Close what cannot be given back any more; what stands at the device stays.",
        ),
    ] = "",
    reason: Reason = "",
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Give back what is in force at a control now, and cancel what is to come.

    Exit status 1 while the device has not confirmed.
    """
    if to and (every or abandon):
        raise typer.BadParameter("--to is about one control, by itself")
    if every == bool(name):
        raise typer.BadParameter("name a control, or give --all")
    if every:
        _release_all(config, state, limits=limits, json=json)
        return
    if abandon:
        answer = ask(config, state, "control.abandon", named=named, name=name, reason=abandon)
        said = "closed by hand" if answer["closed"] else "released, confirmed"
        as_json(answer) if json else typer.echo(f"{name}: {said}")
        return
    if to:
        words = {"name": name, "to": to, "reason": reason}
        answer = ask(config, state, "control.hand_back", named=named, **words)
        said = "confirmed" if answer["ok"] else f"not confirmed yet: {answer['pending'][0]}"
        as_json(answer) if json else typer.echo(f"{name}: put back to {answer['to']}, {said}")
        raise typer.Exit(0 if answer["ok"] else 1)
    answer = ask(config, state, "control.release", named=named, name=name, reason=reason)
    if json:
        as_json(answer)
    elif not answer["ended"]:
        typer.echo(f"{name}: nothing was in force")
    else:
        said = "released, confirmed" if answer["ok"] else "not confirmed yet; it is tried again"
        typer.echo(f"{name}: {said}")
    raise typer.Exit(0 if answer["ok"] else 1)


def _release_all(config: Path, state: Path | None, *, limits: bool, json: bool) -> None:
    from dataclasses import asdict

    folder = state_of(config, state)
    if not _owns(folder):
        raise Refused(NOT_YOURS, folder=str(folder))
    given = given_back(folder, limits=limits)
    if json:
        as_json([asdict(one) for one in given])
    else:
        for one in given:
            typer.echo(f"{one.control}: {one.words}")
    raise typer.Exit(0 if all(one.done for one in given) else 1)


def _owns(state: Path) -> bool:
    """Whether this account may work on a state's files: root, or whose it is."""
    if not os.geteuid():
        return True
    try:
        return state.stat().st_uid == os.geteuid()
    except PermissionError:
        return False
    except OSError:  # of a disk that fails: what the copy knows is given back all the same
        return True


def given_back(folder: Path, *, limits: bool) -> list[ReleaseResult]:
    """Give back what the journal of a stopped agent knows; what became of each.

    The disk is read and not written: it may be read-only, failing, full or frozen. Where it is
    known to fail, limits are given back too. Raises Refused where an agent runs.
    """
    import asyncio
    from contextlib import suppress

    from agent.clock import monotonic, seconds
    from agent.control.journal_copy import JournalCopy
    from agent.control.releaser import ReleaseResult, open_records, release_all
    from agent.control.stamps import Moment
    from agent.state import owned_unwritten
    from agent.steering.setup import FILE
    from agent.storage import is_read_only, volatile
    from agent.timesync import boot_id

    boot = boot_id()

    def now() -> Moment:
        return Moment(seconds(), monotonic(), boot, trusted=False)

    hint = "`gardien control release NAME` gives back while it runs"
    try:
        with owned_unwritten(folder, "gardien control release --all", 2.0):
            copy = JournalCopy(volatile(folder))
            with suppress(OSError):  # without a folder in /run, it is done all the same
                if not copy.lock():
                    raise Refused(f"{folder} is in use by another process")
            try:
                journal, readable = open_records(folder / FILE, copy, now, READ_WITHIN)
                limits = limits or not readable or is_read_only(folder)
                doing = release_all(journal, copy, now, WITHIN - READ_WITHIN, limits=limits)
                given = asyncio.run(doing)
            finally:
                copy.close()
    except Refused as error:
        raise Refused(f"{error}; {hint}") from error
    if not readable:
        given.append(ReleaseResult("the journal", done=False, words=UNREADABLE))
    return given


@app.command("opt-out")
def opt_out(
    name: Name,
    reason: Reason = "",
    hours: Annotated[
        float,
        typer.Option("--hours", min=0, help="For how long; else to the end of what is in force."),
    ] = 0.0,
    back: Annotated[bool, typer.Option("--end", help="End an opting out.")] = False,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Stop what is in force at once, and let nothing begin until it would have ended."""
    if back:
        answer = ask(config, state, "control.opt_in", named=named, name=name)
    else:
        words = {"name": name, "reason": reason, "hours": hours}
        answer = ask(config, state, "control.opt_out", named=named, **words)
    if json:
        as_json(answer)
    elif back:
        typer.echo(f"{name} may be adjusted again")
    else:
        typer.echo(f"{name}: nothing is adjusted until {when(answer['until'])}")


@app.command()
def history(
    name: Annotated[str, typer.Argument(help="One control only.")] = "",
    since: Annotated[str, typer.Option("--from", help="First day, 2026-11-24.")] = "",
    until: Annotated[str, typer.Option("--to", help="Last day.")] = "",
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Say what was done, a sentence an order; the last 30 days, if no day is named."""
    answer = ask(config, state, "control.history", name=name, since=since, until=until)
    if json:
        as_json(answer)
        return
    for sentence in answer["sentences"]:
        typer.echo(wrapped(sentence))
    if not answer["sentences"]:
        span = f"between {day(answer['since'])} and {day(answer['until'])}"
        typer.echo(f"no order was applied {span}")


@app.command()
def sheet(
    name: Name,
    language: Annotated[
        str, typer.Option("--language", help="fr, en, or both.", metavar="fr|en|both")
    ] = "both",
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Print what an assembly and an operator sign: how far, how often, how to stop it, what each
    loss means, what risk stays. From the configuration alone.
    """
    from agent.config import load
    from agent.config.control_definitions import fits
    from agent.control.authorization_form import sheet as page

    if language not in {"fr", "en", "both"}:
        raise typer.BadParameter("fr, en or both", param_hint="--language")
    found = load(config)
    if name not in found.controls:
        raise Refused(f'no control "{name}"; there are: {", ".join(found.controls) or "none"}')
    fit = fits(found)[name]
    array = fit.slots[0] is not None
    made = page(found.building.name, found.controls[name], fit.modality, array=array)
    if json:
        as_json({"control": name, "fr": made.french, "en": made.english})
        return
    pages = {"fr": made.french, "en": made.english}
    typer.echo("\n\n".join(text for lang, text in pages.items() if language in {lang, "both"}))


@app.command("dry-run")
def dry_run(
    file: Annotated[Path, typer.Argument(help="A signed order.")],
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Say what a signed order would do now, and why or why not; nothing is kept or written.

    Exit status 1 where a part of it would be refused.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{file}: {error}") from error
    answer = ask(config, state, "control.dry_run", text=text)
    if json:
        as_json(answer)
    else:
        for name, one in answer["targets"].items():
            if "code" in one:
                typer.echo(f"{name} would be refused: {one['code']}: {one['words']}")
                continue
            span = f"from {when(one['begin'])} to {when(one['end'])}"
            if one["drawn_s"]:
                span += f", its begin drawn from the first {one['drawn_s']} s"
            typer.echo(f"{name} would {one['would']}: {one['value']} {spoken(one['unit'])} {span}")
            for evidence in one["grants"]:
                typer.echo(f"    on the {evidence}")
    raise typer.Exit(1 if any("code" in one for one in answer["targets"].values()) else 0)


@app.command("test")
def try_(
    name: Name,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Apply a small value, read it back, give it back; once more from the journal alone; and, where
    the device has a watchdog of its own, once more and let that run out.

    Only a control that passed takes commands. Be in sight of the equipment.
    """
    answer = ask(config, state, "control.test", named=named, name=name)
    if json:
        as_json(answer)
        return
    typer.echo(
        f"{name} passed\n"
        f"    applied in                   {answer['applied_s']} s\n"
        f"    given back in                {answer['released_s']} s\n"
        f"    from the journal alone in    {answer['recovered_s']} s"
    )
    if answer["fell_back_s"] is not None:
        typer.echo(f"    by the device itself after   {answer['fell_back_s']} s")


app.command()(grants)
vote.add_to(app)
