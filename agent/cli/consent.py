"""`gardien consent` and `gardien duty`: what a recipient may receive, and on which basis."""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.facts import Answer, Sheet, command
from agent.cli.terminal import (
    DEFAULT_CONFIG,
    RECORDED,
    WOULD_BE_RECORDED,
    As,
    Config,
    Json,
    Language,
    Preview,
    State,
    as_json,
    ask,
    confirmed,
    day,
    free_names,
    make_folder,
    show_ignored_columns,
    show_not_occupied,
    table,
    text_of,
    unchanged,
    wrapped,
    write_page,
)
from agent.core.errors import Refused
from agent.core.i18n import N_, _, n_
from agent.registry.facts import consent, duty
from agent.registry.facts.declaration import CONFIRM, columns

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True,
    help="Record what the occupants of a dwelling allow a recipient to receive.",
)
duties = typer.Typer(
    no_args_is_help=True,
    help="Record duties: legal obligations for which the building manager receives indexes "
    "without consent, at each month's end and at 00:00 of a change of occupants or a billing day.",
)


def _show(answer: Answer, _args: Answer | None = None) -> None:
    rows = [
        (
            *(c["label"], c["recipient"], c["purpose"]),
            *(f"{', '.join(c['channels'])}, {_scope(c)}", _until(c), c["id"]),
        )
        for c in sorted(answer["consents"], key=lambda one: str(one["label"]))
    ]
    heads = (_("dwelling"), _("recipient"), _("for"), _("quantities"), _("until"), _("id"))
    table(heads, rows, whole=_("id"))


def _scope(shown: dict[str, Any]) -> str:
    if shown["scope"] != "loadcurve":
        return _(str(shown["scope"]))
    step = int(shown["step"])
    return _("{step} min", step=step // 60) if step % 60 == 0 else f"{step} s"


def _until(shown: dict[str, Any]) -> str:
    if shown["withdrawn"]:
        return _("withdrawn")
    if shown.get("never"):
        return _("never in force")
    if shown.get("moved_out"):
        return _("moved out {day}", day=day(shown["moved_out"])[:10])
    return day(shown["until"])[:10]


def _show_result(answer: Answer, done: str) -> None:
    if answer["consents"]:
        _show(answer)
    if done:
        many = n_("{number} consent", "{number} consents", len(answer["consents"]))
        typer.echo(_(done, many=many, unchanged=unchanged(answer)))
    for reason in answer.get("without_effect", ()):
        typer.echo(_("no effect: {words}", words=reason))
    _show_without_uplink(answer)
    show_ignored_columns(answer)


def _show_without_uplink(answer: Answer) -> None:
    for name in answer.get("without_uplink", ()):
        typer.echo(
            _("{name} has no uplink: nothing is sent to it until you configure one", name=name)
        )


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each scanned page in a folder, by the form's number in the file name.

    Raises Refused if the folder cannot be read or has no such file.
    """
    from agent.registry.forms import NUMBER
    from agent.registry.place import parse

    digests: dict[str, str] = {}
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise Refused("{folder}: {reason}", folder=folder, reason=error) from error
    for path in paths:
        # other files may be in the folder, too: only names that begin with a form's number count
        with suppress(Refused):
            digests[parse(path.name.split(".")[0], NUMBER)] = digest(path)
    if not digests:
        raise Refused("{folder}: no file name here begins with a form's number", folder=folder)
    return digests


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _confirmed_marks(withdrawals: Sequence[dict[str, Any]]) -> list[str]:
    """Return the marks of withdrawals that a person at the terminal confirms as known.

    Empty without a terminal, or without withdrawals. Raises Refused if the person says no.
    """
    if not withdrawals or not sys.stdin.isatty():
        return []
    _show_marks(withdrawals)
    if not confirmed(_("Have the occupants agreed again since then, knowing of this?")):
        raise Refused(
            "nothing was recorded, and what they withdrew stays unsent. Ask the occupants. Once"
            " they have agreed, knowing of this, repeat the command with: {marks}",
            marks=" ".join(f"--after {mark['mark']}" for mark in withdrawals),
        )
    return [str(mark["mark"]) for mark in withdrawals]


def _show_marks(withdrawals: Sequence[dict[str, Any]]) -> None:
    what = {"withdrawn": _("withdrawn"), "refused": _("refused"), "restored": _("restored")}
    rows = [
        (m["label"] or m["occupancy"], what[m["cause"]], m["recipient"] or _("all"),
         day(m["when"])[:10], m["who"], m["mark"])
        for m in withdrawals
    ]  # fmt: skip
    heads = (_("dwelling"), _("what"), _("recipient"), _("on"), _("by"), _("mark"))
    table(heads, rows, whole=_("mark"))


def _ask_about_marks(args: Answer, config: Path, state: Path | None) -> None:
    """Show what the occupants withdrew before, and ask whether they agree again."""
    # only options are checked here: rows of a file name their marks in a column
    if args["places"] and not args["after"] and not args["lease"]:
        asked = {"places": args["places"], "recipient": args["recipient"]}
        args["after"] = _confirmed_marks(ask(config, state, "consent.marks", **asked)["marks"])


@command(app, consent.GIVE, prepare=_ask_about_marks)
def _show_given(answer: Answer, args: Answer) -> None:
    _show_result(answer, RECORDED)
    recorded = {name for given in answer["consents"] for name in given["channels"]}
    other_words = [name for name in args["channels"] if name not in recorded]
    if recorded and other_words:
        text = _(
            "{words} was understood as {channels}: that is what {recipient} receives. If it is"
            " meant, nothing must be done; else: gardien consent withdraw {place} --recipient"
            " {recipient}",
            words=", ".join(f'"{name}"' for name in other_words),
            channels=", ".join(sorted(recorded - set(args["channels"]))),
            recipient=args["recipient"],
            place=quote(args["places"][0]) if len(args["places"]) == 1 else "DWELLING",
        )
        typer.echo(wrapped(text))


@app.command()
def forms(
    places: Annotated[
        list[str] | None,
        typer.Argument(help="Only these dwellings, by label or id.", show_default=False),
    ] = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            help="Print all unanswered forms again; with a new number if people have withdrawn.",
        ),
    ] = False,
    due: Annotated[
        int, typer.Option(help="Only dwellings where a consent ends within DUE days; 0: all.")
    ] = 0,
    language: Language = "fr",
    to: Annotated[Path, typer.Option(help="The folder to write to.")] = Path(),
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Write a consent form for each dwelling, and a list for the answers.

    Without PLACES: for all dwellings whose occupants were never asked. The configuration says what
    the forms ask (privacy.forms). Import the completed list: gardien consent import.
    """
    answer = ask(
        config, state, "consent.forms", named=as_, places=places or [], language=language,
        again=again, due=due,
    )  # fmt: skip
    names = {"fr": ("formulaires", "reponses"), "en": ("forms", "answers")}[language]
    # a list that people have begun to fill in must not be overwritten
    files = free_names([to / f"{names[0]}.html", to / f"{names[1]}.csv"])
    if answer["forms"]:
        make_folder(to)
        for path, text in zip(files, (answer["html"], answer["list"]), strict=True):
            write_page(path, text)
    if json:
        as_json(answer)
        return
    for label in answer["nobody_known"]:
        typer.echo(_("{label}: no occupants are recorded; no form", label=label))
    if not answer["forms"]:
        typer.echo(
            _("no form without an answer. Print the first forms: leave out --again")
            if again
            else _("no form to print. Print again the forms without an answer: --again")
        )
        return
    for path in files:
        typer.echo(_("written: {file}", file=path))
    typer.echo(
        _(
            "forms printed: {forms}. Write the answers into {list}, then import it: gardien consent"
            " import {list}",
            forms=len(answer["forms"]), list=files[1],
        )
    )  # fmt: skip


@app.command()
def due(
    days: Annotated[int, typer.Option(help="Consents that end within DAYS days.")] = 60,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show forms without an answer, and consents that end soon."""
    answer = ask(config, state, "consent.due", days=days)
    if json:
        as_json(answer)
        return
    if answer["forms"]:
        rows = [(f["label"], f["form"], day(f["printed"])[:10]) for f in answer["forms"]]
        table((_("not answered"), _("form"), _("printed")), rows)
        for form in answer["forms"]:
            if form["without_effect"]:
                remark = _(
                    "{label}: the answer had no effect, because they withdrew before it. Print a"
                    " new form: --again",
                    label=form["label"],
                )
                typer.echo(remark)
        typer.echo(_("print them again: gardien consent forms --again"))
    if answer["consents"]:
        _show(answer)
        typer.echo(_("ask again: gardien consent forms --due {days}", days=days))
    if not answer["printed"]:
        typer.echo(_("no form has been printed yet: gardien consent forms"))
        if not answer["consents"]:
            typer.echo(_("no consent ends within {days} days", days=days))
    elif not answer["forms"] and not answer["consents"]:
        typer.echo(_("all forms are answered, and no consent ends soon"))


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV or .xlsx with the columns place;recipient;channels;scope;purpose, or the"
            " completed list of answers to forms."
        ),
    ],
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="End existing consents that conflict, even if they permit more."
        ),
    ] = False,
    scans: Annotated[
        Path | None,
        typer.Option(
            help="For answers to forms: the folder with the scanned pages, each named by its form's"
            " number; their SHA-256 is recorded.",
            show_default=False,
        ),
    ] = None,
    kept: Annotated[
        str, typer.Option(help="For answers to forms: where the signed pages are kept.")
    ] = "",
    confirm: Annotated[
        list[str] | None, typer.Option(metavar="VALUE", help=CONFIRM.help, show_default=False)
    ] = None,
    preview: Preview = False,
    sheet: Sheet = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record the consents in a spreadsheet, or the answers to forms: all rows or none."""
    from agent.registry.forms import is_answer_list

    text = text_of(file, tuple(columns(consent.SHEET)), sheet or "")
    if is_answer_list(text):
        fields = {
            "text": text, "name": str(file), "preview": preview, "kept": kept,
            "scans": hashes(scans) if scans else {},
        }  # fmt: skip
        answer = ask(config, state, "consent.answers", named=as_, **fields)
        if json:
            as_json(answer)
            return
        _show_result(answer, "")
        typer.echo(
            _(
                "forms read: {forms}; consents given: {given}, ended: {ended}, replaced:"
                " {replaced}; refusals: {no}; scans added: {proved}",
                forms=answer["answers"], given=answer["given"], ended=answer["ended"],
                replaced=answer["replaced"], no=answer["refused"], proved=answer["proved"],
            )
        )  # fmt: skip
        if preview:
            typer.echo(_("nothing was recorded, because of --preview"))
        for number in answer["without_scan"]:
            typer.echo(_("form {form}: the folder has no scan of it", form=number))
        return
    fields = {
        "text": text, "name": str(file), "replace": replace, "preview": preview,
        "confirm": confirm or [],
    }  # fmt: skip
    answer = ask(config, state, "consent.give", named=as_, **fields)
    if json:
        as_json(answer)
    else:
        _show_result(answer, WOULD_BE_RECORDED if preview else RECORDED)


@command(app, consent.WITHDRAW)
def _show_withdrawn(answer: Answer, _args: Answer) -> None:
    if answer["consents"]:
        _show_result(
            answer,
            N_("{many} withdrawn{unchanged}; recipients are asked to erase what they received"),
        )
    else:
        typer.echo(_("no consent was in force; it is recorded that they want nothing to be sent"))


@command(app, consent.MARKS)
def _show_known_marks(answer: Answer, _args: Answer) -> None:
    if answer["marks"]:
        _show_marks(answer["marks"])
    else:
        typer.echo(_("the occupants have withdrawn or refused nothing"))
    show_not_occupied(answer["not_occupied"])


command(app, consent.LIST)(_show)


def _show_duties(answer: Answer, _args: Answer | None = None) -> None:
    rows = [
        (d["reference"], d["recipient"], ", ".join(d["channels"]), ", ".join(d["billing"]),
         day(d["since"]), _("never") if d.get("never") else day(d["until"]))
        for d in answer["duties"]
    ]  # fmt: skip
    table((_("reference"), _("manager"), _("channels"), _("billing"), _("since"), _("until")), rows)
    _show_without_uplink(answer)


command(duties, duty.ADD)(_show_duties)


command(duties, duty.END)(_show_duties)


command(duties, duty.LIST)(_show_duties)
