"""`gardien occupancy`: when which occupants live in which dwelling, without names."""

from __future__ import annotations

from typing import Any

import typer

from agent.cli.facts import Answer, command
from agent.cli.terminal import (
    RECORDED,
    WOULD_BE_RECORDED,
    day,
    show_ignored_columns,
    show_left_out,
    show_not_occupied,
    table,
    when,
    wrapped,
)
from agent.core.i18n import _, n_
from agent.registry.facts import occupancy

app = typer.Typer(
    no_args_is_help=True, help="Record when occupants move in and out. No names are stored."
)


def _show(answer: Answer, _args: Answer | None = None) -> None:
    rows = [
        (o["label"], o["reference"] or "–", o["shown"], day(o["since"]), _until(o))
        for o in answer["occupancies"]
    ]
    heads = (_("dwelling"), _("your reference"), _("occupancy"), _("since"), _("until"))
    table(heads, rows)


def _until(home: dict[str, Any]) -> str:
    return _("never lived there") if home.get("never") else day(home["until"])


command(app, occupancy.MOVE_IN)(_show)
command(app, occupancy.MOVE_OUT)(_show)


@command(app, occupancy.CORRECT)
def _show_correction(answer: Answer, args: Answer) -> None:
    _show(answer)
    if args["stays"]:
        typer.echo(
            _("their consents apply again from now on; data that was destroyed meanwhile is lost")
        )


@command(app, occupancy.IMPORT)
def _show_import(answer: Answer, args: Answer) -> None:
    if answer["occupancies"]:
        _show(answer)
    many = n_("{number} change", "{number} changes", len(answer["occupancies"]))
    others = "" if args["preview"] else _("; all others are unchanged")
    typer.echo(_(WOULD_BE_RECORDED if args["preview"] else RECORDED, many=many, unchanged=others))
    show_left_out(answer["left_out"])
    show_ignored_columns(answer)


@command(app, occupancy.LIST)
def _show_list(answer: Answer, _args: Answer) -> None:
    _show(answer)
    show_not_occupied(answer["not_occupied"])


@command(app, occupancy.PROPOSED)
def _show_proposed(answer: Answer, _args: Answer) -> None:
    for row in answer["proposed"]:
        typer.echo(f"{row['id']}  {row['label']}: {_event(row)} ({row['source']})")
        typer.echo(f"          {_reason(row)}")
        for home in row["homes"]:
            typer.echo(f"          {_('recorded: {home}', home=_lease(home))}")
    if answer["proposed"]:
        typer.echo(
            _("record a row: gardien occupancy accept ID; ignore it: gardien occupancy dismiss ID")
        )
    else:
        typer.echo(_("no row waits for a decision"))
    for report in answer["exports"][-1:]:
        typer.echo(_export_summary(report))


@command(app, occupancy.ACCEPT)
def _show_accepted(answer: Answer, _args: Answer) -> None:
    _show(answer)
    for other in answer["also"]:
        typer.echo(
            wrapped(
                _(
                    "! lease {reference} is also recorded for {label}, since {since}. If they have"
                    " left {label}: gardien occupancy move-out {label} --id {id} --at DATE",
                    reference=other["reference"],
                    label=other["label"],
                    since=day(other["since"]),
                    id=other["shown"],
                )
            )
        )


@command(app, occupancy.DISMISS)
def _show_dismissed(_answer: Answer, _args: Answer) -> None:
    typer.echo(_("dismissed"))


def _event(row: dict[str, Any]) -> str:
    """Return what a row states, in words."""
    lease = _("lease {reference}", reference=row["reference"]) if row["reference"] else ""
    if row["states"] == "move_in":
        event = _("they move in on {day}", day=day(row["since"]) or "?")
    elif row["states"] == "move_out":
        event = _("they move out on {day}", day=day(row["until"]) or "?")
    else:
        return _lease(row)
    return f"{event}, {lease}" if lease else event


def _lease(row: dict[str, Any]) -> str:
    """Return a lease, or `no lease`, with its dates."""
    lease = _("no lease")
    if row["reference"]:
        lease = _("lease {reference}", reference=row["reference"])
    since, until = day(row["since"]) or "?", day(row["until"])
    if until:
        return _("{lease} from {since} until {until}", lease=lease, since=since, until=until)
    return _("{lease} from {since}, without an end", lease=lease, since=since)


def _reason(row: dict[str, Any]) -> str:
    """Return why a row waits for a decision."""
    other, why = row["other"], str(row["why"])
    # all texts below are made, whichever is shown: only for `left` is `other` a time
    left = day(other) if why == "left" else ""
    return {
        "unreadable": _("the row cannot be read: {other}", other=other),
        "no_dwelling": _(
            "no dwelling has that name. Add the name to a dwelling: gardien place alias add"
            ' DWELLING bis:syndic "{name}"',
            name=row["dwelling"],
        ),
        "ambiguous": _("several dwellings may have that name: {other}", other=other),
        "common": _("this is not a dwelling, so it has no occupants"),
        "no_lease": _("the row names no lease; nothing is recorded or removed"),
        "undated": _("the row has no date"),
        "twice": _("{other} gives other dates for the same lease", other=other),
        "together": _("{other} gives another lease of that dwelling at the same time", other=other),
        "overlap": _("other occupants are recorded there at that time, without a move-out"),
        "elsewhere": _("that lease is recorded for {other}", other=other),
        "dates": _("the dates contradict the recorded ones, or each other"),
        "end_gone": _("an end is recorded, but the export no longer has one"),
        "never": _("a person has recorded that they never lived there"),
        "nobody": _("no occupants are recorded there before that day"),
        "left": _("readings were sent since {day}, and would have to be erased", day=left),
        "many": _("{other} leases would end at once; is the export complete?", other=other),
        "refused": _("the registry refuses it: {other}", other=other),
    }.get(why, why)  # fmt: skip


def _export_summary(report: dict[str, Any]) -> str:
    """Return the result of an export in one line."""
    at = when(report["at"])
    if report["refused"]:
        return _("last export, {at}: refused: {why}", at=at, why=report["refused"])
    changes = n_("{number} change recorded", "{number} changes recorded", report["recorded"])
    same = n_("{number} row unchanged", "{number} rows unchanged", report["same"])
    left = n_("{number} row not evaluated", "{number} rows not evaluated", report["left"])
    return _(
        "last export, {file} of {at}: {said}",
        file=report["file"],
        at=at,
        said=f"{changes}, {same}, {left}",
    )
