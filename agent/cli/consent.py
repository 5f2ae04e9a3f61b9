"""`gardien consent`: what the people of a dwelling let whom have."""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
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
    not_occupied,
    not_read,
    plural,
    stands,
    table,
    text_of,
    write_page,
)
from agent.i18n import _

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True, help="What the people of a dwelling let whom have. Without it: nothing."
)


def _show(consents: Sequence[dict[str, Any]]) -> None:
    rows = [
        (
            *(c["label"], c["recipient"], c["purpose"]),
            *(f"{', '.join(c['channels'])}, {_scope(c)}", _until(c), c["id"]),
        )
        for c in sorted(consents, key=lambda one: str(one["label"]))
    ]
    heads = (_("dwelling"), _("recipient"), _("for"), _("quantities"), _("until"), _("id"))
    table(heads, rows, whole=_("id"))


def _scope(consent: dict[str, Any]) -> str:
    if consent["scope"] != "loadcurve":
        return str(consent["scope"])
    step = int(consent["step"])
    return f"{step // 60} min" if step % 60 == 0 else f"{step} s"


def _until(consent: dict[str, Any]) -> str:
    if consent["withdrawn"]:
        return _("withdrawn")
    if consent.get("never"):
        return _("never in force")
    if consent.get("moved_out"):
        return _("moved out {day}", day=day(consent["moved_out"])[:10])
    return day(consent["until"])[:10]


def _shown(answer: dict[str, Any], json: bool, done: str) -> None:
    if json:
        as_json(answer)
        return
    if answer["consents"]:
        _show(answer["consents"])
    if done:
        typer.echo(f"{plural(len(answer['consents']), 'consent')} {done}{stands(answer)}")
    for words in answer.get("without_effect", ()):
        typer.echo(_("no effect: {words}", words=words))
    for name in answer.get("without_uplink", ()):
        typer.echo(f"no uplink delivers to {name}: nothing leaves on that until one does")
    not_read(answer)


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each scanned page in a folder, by the number in its file's name."""
    from agent.errors import Refused
    from agent.registry.forms import NUMBER
    from agent.registry.place import parse

    found: dict[str, str] = {}
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise Refused(f"{folder}: {error.strerror}") from error
    for path in paths:
        with suppress(Refused):
            found[parse(path.name.split(".")[0], NUMBER)] = digest(path)
    if not found:
        raise Refused(_("{folder}: no file here is called by the number of a form", folder=folder))
    return found


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _knowing(known: Sequence[dict[str, Any]]) -> list[str]:
    """The marks that a person at the terminal has seen and confirmed that people know of."""
    if not known or not sys.stdin.isatty():
        return []
    _show_marks(known)
    if not confirmed(_("Have they agreed again since then, knowing of this?")):
        raise typer.Abort
    return [str(one["mark"]) for one in known]


def _show_marks(known: Sequence[dict[str, Any]]) -> None:
    what = {"withdrawn": _("withdrawn"), "refused": _("refused"), "restored": _("restored")}
    rows = [
        (m["label"] or m["occupancy"], what[m["cause"]], m["recipient"] or _("all"),
         day(m["when"])[:10], m["who"], m["mark"])
        for m in known
    ]  # fmt: skip
    heads = (_("dwelling"), _("what"), _("recipient"), _("on"), _("by"), _("mark"))
    table(heads, rows, whole=_("mark"))


@app.command()
def give(
    places: Annotated[
        list[str] | None, typer.Argument(help="Labels or ids of dwellings.", show_default=False)
    ] = None,
    recipient: Annotated[
        str | None, typer.Option(help="Who may have it, by its DNS name.", show_default=False)
    ] = None,
    channel: Annotated[
        list[str] | None, typer.Option(help="A quantity; may be repeated.", show_default=False)
    ] = None,
    purpose: Annotated[
        str | None, typer.Option(help="For what, one purpose.", show_default=False)
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option(help="monthly, daily or loadcurve (the default).", show_default=False),
    ] = None,
    step: Annotated[
        str | None,
        typer.Option(
            help="Of a load curve: nothing finer; default 30min, 10min at the least.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="CSV or .xlsx with a column place; others say more than the options."),
    ] = None,
    since: Annotated[str | None, typer.Option(help="From when on; default: now.")] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Until when; default and most: 36 months after the signature."),
    ] = None,
    given: Annotated[
        str | None, typer.Option(help="When it was signed, such as 2026-07-12; default: now.")
    ] = None,
    lease: Annotated[
        str | None,
        typer.Option(
            help="The lease (your reference, or H…) of who signed before they moved in.",
            show_default=False,
        ),
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(
            help="They knew of this withdrawal (gardien consent marks); may be repeated.",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="End what stands against it, and narrow it so.")
    ] = False,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record what the people living in one or more dwellings have agreed to.

    Where they have withdrawn before, it is shown, and asked whether they agree again.
    """
    if places and not after and not lease:
        known = ask(config, state, "consent.marks", places=places, recipient=recipient)["marks"]
        after = _knowing(known)
    answer = ask(
        config, state, "consent.give", named=as_,
        places=places or [], recipient=recipient, channels=channel or [], purpose=purpose,
        scope=scope, step=step, text=text_of(file) if file else None, name=str(file or ""),
        since=since, until=until, given=given, lease=lease, replace=replace, after=after or [],
    )  # fmt: skip
    _shown(answer, json, "recorded")


@app.command()
def forms(
    places: Annotated[
        list[str] | None,
        typer.Argument(help="Only of these dwellings, by label or id.", show_default=False),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Print those that nobody has answered yet once more.")
    ] = False,
    due: Annotated[
        int, typer.Option(help="Only where a consent ends within so many days; 0: not.")
    ] = 0,
    language: Language = "fr",
    to: Annotated[Path, typer.Option(help="The folder to write to.")] = Path(),
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Print a consent form for each dwelling, and the list for the answers.

    Without names of dwellings: for all where somebody lives who was never asked. What the forms ask
    is in the configuration (privacy.forms). Bring the list back by `gardien consent import`.
    """
    answer = ask(
        config, state, "consent.forms", named=as_, places=places or [], language=language,
        again=again, due=due,
    )  # fmt: skip
    names = {"fr": ("formulaires", "reponses"), "en": ("forms", "answers")}[language]
    files = free_names([to / f"{names[0]}.html", to / f"{names[1]}.csv"])
    if answer["forms"]:
        for path, text in zip(files, (answer["html"], answer["list"]), strict=True):
            write_page(path, text)
    if json:
        as_json(answer)
        return
    for label in answer["nobody_known"]:
        typer.echo(_("{label}: nobody is known to live there; no form", label=label))
    if not answer["forms"]:
        typer.echo(_("no form to print; those that wait for an answer: --again"))
        return
    for path in files:
        typer.echo(_("written: {file}", file=path))
    typer.echo(
        _(
            "forms printed: {forms}. Write the answers into {list}, and bring it: gardien consent"
            " import {list}",
            forms=len(answer["forms"]), list=files[1],
        )
    )  # fmt: skip


@app.command()
def due(
    days: Annotated[int, typer.Option(help="What ends within so many days.")] = 60,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show who has not answered a form, and which consents end soon."""
    answer = ask(config, state, "consent.due", days=days)
    if json:
        as_json(answer)
        return
    if answer["forms"]:
        rows = [(one["label"], one["form"], day(one["printed"])[:10]) for one in answer["forms"]]
        table((_("not answered"), _("form"), _("printed")), rows)
        for one in answer["forms"]:
            if one["without_effect"]:
                words = _(
                    "{label}: the answer had no effect, since they had withdrawn; --again prints a"
                    " new form",
                    label=one["label"],
                )
                typer.echo(words)
        typer.echo(_("print them again: gardien consent forms --again"))
    if answer["consents"]:
        _show(answer["consents"])
        typer.echo(_("ask again: gardien consent forms --due {days}", days=days))
    if not answer["printed"]:
        typer.echo(_("no form was printed yet: gardien consent forms"))
    if not answer["forms"] and not answer["consents"]:
        typer.echo(_("no form waits for its answer, and no consent ends soon"))


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV or .xlsx with the columns place;recipient;channels;scope;purpose; or the list"
            " of answers to forms."
        ),
    ],
    replace: Annotated[bool, typer.Option("--replace", help="End what stands against it.")] = False,
    scans: Annotated[
        Path | None,
        typer.Option(
            help="Of answers to forms: the folder with the scanned pages, each called by the"
            " number of its form; their SHA-256 is recorded.",
            show_default=False,
        ),
    ] = None,
    kept: Annotated[
        str, typer.Option(help="Of answers to forms: where the signed pages lie.")
    ] = "",
    preview: Preview = False,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record the consents of a spreadsheet, or the answers to forms: the whole file or nothing."""
    from agent.registry.calls_forms import is_list

    text = text_of(file)
    if is_list(text):
        words = {
            "text": text, "name": str(file), "preview": preview, "kept": kept,
            "scans": hashes(scans) if scans else {},
        }  # fmt: skip
        answer = ask(config, state, "consent.answers", named=as_, **words)
        _shown(answer, json, "")
        if not json:
            typer.echo(
                _(
                    "forms read: {forms}; consents given: {given}, ended: {ended}, replaced:"
                    " {replaced}; boxes refused: {no}; scans added: {proved}",
                    forms=answer["answers"], given=answer["given"], ended=answer["ended"],
                    replaced=answer["replaced"], no=answer["refused"], proved=answer["proved"],
                )
            )  # fmt: skip
            if preview:
                typer.echo(_("nothing was recorded: --preview"))
        for number in () if json else answer["without_scan"]:
            typer.echo(_("form {form}: no scan of it lies in the folder", form=number))
        return
    words = {"text": text, "name": str(file), "replace": replace, "preview": preview}
    answer = ask(config, state, "consent.give", named=as_, **words)
    _shown(answer, json, "would be recorded" if preview else "recorded")


@app.command()
def withdraw(
    place: Annotated[
        str, typer.Argument(help="The dwelling's label or id.", show_default=False)
    ] = "",
    id: Annotated[  # noqa: A002 -- the word people write
        str | None,
        typer.Option(
            "--id",
            help="By one consent: with it ends all that they agreed to for its recipient.",
            show_default=False,
        ),
    ] = None,
    recipient: Annotated[
        str | None, typer.Option(help="Only what this one may have.", show_default=False)
    ] = None,
    purpose: Annotated[
        str | None, typer.Option(help="Only for this purpose.", show_default=False)
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(help="Only this quantity; may be repeated.", show_default=False),
    ] = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record that who lives there agrees no longer: at once, and for all that was sent."""
    words = {"place": place, "id": id, "recipient": recipient, "purpose": purpose}
    answer = ask(config, state, "consent.withdraw", named=as_, channels=channel or [], **words)
    if not answer["consents"] and not json:
        typer.echo(
            _("they had agreed to nothing any more; it is noted that they want nothing to leave")
        )
        return
    _shown(answer, json, "withdrawn; what is delivered on them is taken back")


@app.command()
def marks(
    places: Annotated[list[str], typer.Argument(help="Labels or ids of dwellings.")],
    recipient: Annotated[
        str | None, typer.Option(help="Only what counts for this one.", show_default=False)
    ] = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show what the people living there have withdrawn or refused, the last one last.

    A consent counts only if it was given knowing of that: it names the last mark.
    """
    answer = ask(config, state, "consent.marks", places=places, recipient=recipient)
    if json:
        as_json(answer)
    elif answer["marks"]:
        _show_marks(answer["marks"])
    else:
        typer.echo(_("nothing was withdrawn or refused by who lives there"))
    if not json:
        not_occupied(answer["not_occupied"])


@app.command("list")
def list_(
    place: Annotated[str, typer.Argument(help="Only of this dwelling.", show_default=False)] = "",
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """List all consents, those in force and those that are not."""
    answer = ask(config, state, "consent.list", place=place)
    as_json(answer) if json else _show(answer["consents"])
