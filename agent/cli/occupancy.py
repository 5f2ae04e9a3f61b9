"""`gardien occupancy`: who lives where from when to when, without their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    At,
    Config,
    Json,
    Preview,
    Since,
    State,
    as_json,
    ask,
    day,
    not_occupied,
    not_read,
    plural,
    table,
    text_of,
    when,
    wrapped,
)
from agent.i18n import _, n_

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True, help="Who lives where from when to when. Nobody's name is known here."
)

Dwelling = Annotated[str, typer.Argument(help="The dwelling's label or id.")]
Id = Annotated[str | None, typer.Option("--id", metavar="H…", help="This one of its occupancies.")]
Reference = Annotated[str | None, typer.Option(help="Your own, such as the number of the lease.")]


def _show(occupancies: Sequence[dict[str, Any]]) -> None:
    rows = [
        (o["label"], o["reference"] or "–", o["shown"], day(o["since"]), _until(o))
        for o in occupancies
    ]
    heads = (_("dwelling"), _("your reference"), _("occupancy"), _("since"), _("until"))
    table(heads, rows)


def _until(occupancy: dict[str, Any]) -> str:
    return _("never lived there") if occupancy.get("never") else day(occupancy["until"])


@app.command("move-in")
def move_in(
    dwelling: Dwelling,
    since: Since = None,
    until: Annotated[str | None, typer.Option(help="Until when; default: open.")] = None,
    reference: Reference = None,
    id: Annotated[  # noqa: A002 -- the word people write
        str | None, typer.Option("--id", metavar="H…", help="An id minted elsewhere.")
    ] = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record that somebody moves in. Who lived there before must have moved out."""
    words = {"place": dwelling, "since": since, "until": until, "reference": reference, "id": id}
    answer = ask(config, state, "occupancy.move_in", named=as_, **words)
    as_json(answer) if json else _show(answer["occupancies"])


@app.command("move-out")
def move_out(
    dwelling: Dwelling,
    at: At = None,
    id: Id = None,  # noqa: A002
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record that who lives there moves out, or did: what was sent since is taken back."""
    answer = ask(config, state, "occupancy.move_out", named=as_, place=dwelling, at=at, id=id)
    as_json(answer) if json else _show(answer["occupancies"])


@app.command()
def correct(
    dwelling: Dwelling,
    since: Annotated[str | None, typer.Option(help="They moved in then.")] = None,
    until: Annotated[str | None, typer.Option(help="They moved out then; as since: never.")] = None,
    stays: Annotated[
        bool, typer.Option("--stays", help="They have not moved out: it was a mistake.")
    ] = False,
    reference: Reference = None,
    id: Id = None,  # noqa: A002
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record that somebody lived there at other times than was said."""
    words = {"place": dwelling, "since": since, "until": until, "reference": reference, "id": id}
    answer = ask(config, state, "occupancy.correct", named=as_, stays=stays, **words)
    if json:
        as_json(answer)
        return
    _show(answer["occupancies"])
    if stays:
        typer.echo("read from now on by their consents; what was destroyed meanwhile is gone")


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(help="CSV or .xlsx with the columns dwelling;reference;since;until."),
    ],
    preview: Preview = False,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Take over your list of leases, known ones brought up to date: the whole file or nothing."""
    words = {"text": text_of(file), "name": str(file), "preview": preview}
    answer = ask(config, state, "occupancy.import", named=as_, **words)
    if json:
        as_json(answer)
        return
    if answer["occupancies"]:
        _show(answer["occupancies"])
    done = "would be recorded" if preview else "recorded; all others stand as they were"
    typer.echo(f"{plural(len(answer['occupancies']), 'change')} {done}")
    not_read(answer)


@app.command("list")
def list_(
    dwelling: Annotated[str, typer.Argument(help="Only this one.", show_default=False)] = "",
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """List who lives and lived where, and which dwellings are vacant or unknown."""
    answer = ask(config, state, "occupancy.list", place=dwelling)
    if json:
        as_json(answer)
        return
    _show(answer["occupancies"])
    not_occupied(answer["not_occupied"])


@app.command()
def proposed(
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """List what the syndic's exports say that a person must decide: accept it, or dismiss it."""
    answer = ask(config, state, "occupancy.proposed")
    if json:
        as_json(answer)
        return
    for one in answer["proposed"]:
        typer.echo(f"{one['id']}  {one['label']}: {_stated(one)} ({one['source']})")
        typer.echo(f"          {_doubtful(one)}")
        for home in one["homes"]:
            typer.echo(f"          {_('recorded: {home}', home=_lives(home))}")
    if answer["proposed"]:
        typer.echo(
            _("gardien occupancy accept ID records it; gardien occupancy dismiss ID passes over it")
        )
    else:
        typer.echo(_("nothing waits"))
    for report in answer["exports"][-1:]:
        typer.echo(_export(report))


@app.command()
def accept(
    id: Annotated[str, typer.Argument(help="As gardien occupancy proposed shows it.")],  # noqa: A002
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record what a row of an export states: what was sent meanwhile of others is taken back."""
    answer = ask(config, state, "occupancy.accept", named=as_, row=id)
    if json:
        as_json(answer)
        return
    _show(answer["occupancies"])
    for one in answer["also"]:
        typer.echo(
            wrapped(
                _(
                    "! lease {reference} is still recorded of {label}, too, since {since}: if they"
                    " have left {label}: gardien occupancy move-out {label} --id {id} --at DATE",
                    reference=one["reference"],
                    label=one["label"],
                    since=day(one["since"]),
                    id=one["shown"],
                )
            )
        )


@app.command()
def dismiss(
    id: Annotated[str, typer.Argument(help="As gardien occupancy proposed shows it.")],  # noqa: A002
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Change nothing: the same row is passed over in later exports, too."""
    answer = ask(config, state, "occupancy.dismiss", named=as_, row=id)
    as_json(answer) if json else typer.echo(_("dismissed"))


def _stated(one: dict[str, Any]) -> str:
    """What a row states."""
    lease = _("lease {reference}", reference=one["reference"]) if one["reference"] else ""
    if one["states"] == "move_in":
        said = _("they move in on {day}", day=day(one["since"]) or "?")
    elif one["states"] == "move_out":
        said = _("they move out on {day}", day=day(one["until"]) or "?")
    else:
        return _lives(one)
    return f"{said}, {lease}" if lease else said


def _lives(one: dict[str, Any]) -> str:
    """A lease, or people without one, with its dates."""
    lease = _("no lease")
    if one["reference"]:
        lease = _("lease {reference}", reference=one["reference"])
    since, until = day(one["since"]) or "?", day(one["until"])
    if until:
        return _("{lease} from {since} until {until}", lease=lease, since=since, until=until)
    return _("{lease} from {since}, without an end", lease=lease, since=since)


def _doubtful(one: dict[str, Any]) -> str:
    """Why a row waits for a person."""
    other, why = one["other"], str(one["why"])
    left = day(other) if why == "left" else ""
    return {
        "unreadable": _("the row cannot be read: {other}", other=other),
        "no_dwelling": _(
            'no dwelling here has that name: gardien place alias add DWELLING bis:syndic "{name}"',
            name=one["dwelling"],
        ),
        "ambiguous": _("several dwellings may have that name: {other}", other=other),
        "common": _("this is no dwelling: nobody lives there"),
        "no_lease": _("the row names no lease; a lease that is missing removes nothing"),
        "undated": _("the row does not say when"),
        "twice": _("{other} says other dates of the same lease", other=other),
        "together": _("{other} says that another lease holds there at the same time", other=other),
        "overlap": _("others are recorded there at that time, and no move out of theirs"),
        "elsewhere": _("that lease is recorded of {other}", other=other),
        "dates": _("the dates contradict those that are recorded, or one another"),
        "end_gone": _("an end is recorded, and the export names none any more"),
        "never": _("a person has recorded that they never lived there"),
        "nobody": _("nobody is recorded there before that day"),
        "left": _("readings have left since {day}, and would be taken back", day=left),
        "many": _("{other} leases would end at once: is the export whole, and right?", other=other),
        "refused": _("the registry refuses it: {other}", other=other),
    }.get(why, why)  # fmt: skip


def _export(report: dict[str, Any]) -> str:
    """What became of an export."""
    at = when(report["at"])
    if report["refused"]:
        return _("last export, {at}: refused: {why}", at=at, why=report["refused"])
    changes = n_("{number} change recorded", "{number} changes recorded", report["recorded"])
    same = n_(
        "{number} row says what is recorded", "{number} rows say what is recorded", report["same"]
    )
    left = n_("{number} row not looked at", "{number} rows not looked at", report["left"])
    return _(
        "last export, {file} of {at}: {said}",
        file=report["file"],
        at=at,
        said=f"{changes}, {same}, {left}",
    )
