"""`gardien meter`: which meter measures which dwelling."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    Config,
    Json,
    Preview,
    State,
    as_json,
    ask,
    not_read,
    plural,
    table,
    text_of,
    when,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(no_args_is_help=True, help="Which meter measures which dwelling.")


def _show(meters: Sequence[dict[str, Any]]) -> None:
    rows = [
        (m["serial"] or "–", m["device"] or "", m["label"], m["channel"] or "all", when(m["since"]),
         m["state"] if m["in_force"] else "not in force")
        for m in meters
    ]  # fmt: skip
    table(("serial", "device", "place", "channel", "since", ""), rows)


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(help="CSV or .xlsx with the columns serial;dwelling or device;dwelling."),
    ],
    preview: Preview = False,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record the meters of a spreadsheet: the whole file or nothing."""
    words = {"text": text_of(file), "name": str(file), "preview": preview}
    answer = ask(config, state, "meter.import", **words)
    if json:
        as_json(answer)
    else:
        _show(answer["meters"])
        done = "would be recorded" if preview else "recorded"
        typer.echo(f"{plural(len(answer['meters']), 'meter')} {done}")
        not_read(answer)


@app.command()
def assign(
    device: Annotated[str, typer.Argument(help="A device of the configuration.")],
    dwelling: Annotated[str, typer.Argument(help="The dwelling's label or id.")],
    serial: Annotated[
        str | None,
        typer.Option(help="What is printed on the meter; default: what it says itself first."),
    ] = None,
    channel: Annotated[str | None, typer.Option(help="Only this quantity of it.")] = None,
    since: Annotated[str | None, typer.Option(help="From when on; default: now.")] = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record whose one device is."""
    answer = ask(
        config, state, "meter.assign",
        device=device, dwelling=dwelling, serial=serial, channel=channel, since=since,
    )  # fmt: skip
    as_json(answer) if json else _show(answer["meters"])


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """List all meters with the places they measure."""
    answer = ask(config, state, "meter.list")
    as_json(answer) if json else _show(answer["meters"])
