"""`gardien history`: the small history of common areas, plant and the gateway, and of orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    Config,
    Json,
    State,
    as_json,
    ask,
    table,
    when,
    wrapped,
    zone_of_answers,
)
from agent.core.i18n import _, in_language, number, short_date, size
from agent.core.quantities import spoken

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

app = typer.Typer(
    no_args_is_help=True,
    help="Show the small history of common areas, plant and the gateway. Nothing of dwellings is"
    " kept.",
)
Since = Annotated[
    str, typer.Option("--from", help="First day, 2026-11-24, or a time, 2026-11-24T17:30.")
]
Until = Annotated[str, typer.Option("--to", help="Last day, or a time.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print a table for spreadsheet programs.")]
HEADS = ("at", "min", "mean", "max", "quantity", "index", "value")


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """List the series, with their first and last time."""
    answer = ask(config, state, "history.series")
    if json:
        as_json(answer)
        return
    if not answer["series"]:
        typer.echo(
            _("there is no series yet; the first values are kept after a quarter of an hour")
        )
        return
    rows = [
        (row["id"], spoken(row["unit"]), when(row["since"]), when(row["last"]))
        for row in answer["series"]
    ]
    table((_("series"), _("unit"), _("since"), _("last")), rows, _("series"))


@app.command()
def show(
    series: Annotated[
        list[str], typer.Argument(help="Series, as `gardien history list` has them.")
    ],
    since: Since = "",
    until: Until = "",
    step: Annotated[
        str, typer.Option("--step", help="15m, kept for 35 days; or 1d, kept for 13 months.")
    ] = "15m",
    csv: Csv = False,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show the values of series; default: the last 24 hours by 15m, all days by 1d."""
    answer = ask(config, state, "history.read", series=series, since=since, until=until, step=step)
    if json:
        as_json(answer)
        return
    for shown in answer["series"]:
        shown["name"] = shown["id"]
    if csv:
        _csv(answer["series"])
        return
    for shown in answer["series"]:
        _table(shown, days=step == "1d")


@app.command()
def order(
    name: Annotated[str, typer.Argument(help="The control's name.")],
    jti: Annotated[str, typer.Argument(help="Id of the order; default: the latest.")] = "",
    since: Since = "",
    until: Until = "",
    csv: Csv = False,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show the course of an order: what was requested, and what device and guards measured."""
    answer = ask(config, state, "control.course", name=name, jti=jti, since=since, until=until)
    if json:
        as_json(answer)
        return
    unit, columns = answer["unit"], ["at", "value"]
    parts = [
        {"name": _("requested"), "unit": unit, "columns": columns, "rows": answer["requested"]},
        {"name": _("at the device"), "unit": unit, "columns": columns, "rows": answer["written"]},
        *(point for point in answer["points"] if point["kept"]),
    ]
    if csv:
        _csv(parts)
        return
    for shown in parts:
        _table(shown, days=False)
    if answer["no_points"]:
        typer.echo(wrapped(f"! {in_language(answer['no_points'])}"))
    for point in answer["points"]:
        if not point["kept"] and not answer["no_points"]:
            remark = _(
                "! {name}: no values are kept, because the configuration names no common place for"
                " its device",
                name=point["name"],
            )
            typer.echo(wrapped(remark))


def _table(shown: dict[str, Any], *, days: bool) -> None:
    # sizes are shown with their unit
    unit = "" if shown["unit"] == "B" else spoken(shown["unit"])
    typer.echo(f"{shown['name']} ({unit})" if unit else shown["name"])
    if not shown["rows"]:
        typer.echo(f"  {_('no values in this time')}")
        return
    heads = [_heading(name) for name in shown["columns"]]
    shape = size if shown["unit"] == "B" else number
    rows = (
        [_time(at, days=days), *("–" if value is None else shape(value) for value in values)]
        for at, *values in shown["rows"]
    )
    table(heads, rows)


def _heading(name: str) -> str:
    headings = {
        "at": _("time"), "min": _("lowest"), "mean": _("mean"), "max": _("highest"),
        "quantity": _("quantity"), "index": _("index"), "value": _("value"),
    }  # fmt: skip
    return headings[name]


def _time(at: float, *, days: bool = False) -> str:
    from datetime import datetime

    here = datetime.fromtimestamp(at, zone_of_answers())
    return short_date(here.date() if days else here)


def _csv(parts: Sequence[dict[str, Any]]) -> None:
    """Print all rows in one table: the columns are the same whatever is asked for."""
    typer.echo(";".join(("series", "unit", *HEADS)))
    for shown in parts:
        for row in shown["rows"]:
            cells = dict(zip(shown["columns"], row, strict=True))
            typer.echo(";".join((shown["name"], shown["unit"], *_cells(cells))))


def _cells(cells: dict[str, Any]) -> Iterable[str]:
    from datetime import datetime

    for name in HEADS:
        value = cells.get(name)
        if name == "at" and value is not None:
            yield datetime.fromtimestamp(value, zone_of_answers()).isoformat()
        else:
            yield "" if value is None else str(value)
