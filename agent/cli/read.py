"""`gardien read`: reads a device now."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, As, Config, Json, State, as_json, ask, table, when

Wanted = Annotated[
    str,
    typer.Argument(
        metavar="DEVICE", help="A configured device, or one of its values: sdm-11/voltage."
    ),
]


def read(
    what: Wanted,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Read a device now. The agent's scheduled readings continue.

    Exit status 1 if a value is missing.
    """
    device, _, point = what.partition("/")
    answer = ask(config, state, "read", device=device, point=point, named=named)
    if json:
        as_json(answer)
    else:
        typer.echo(f"{answer['device']} on {answer['link']}")
        rows = [
            (name, str(one["value"] if one["value"] is not None else "–"), one["unit"],
             one["channel"] or "",
             f"{one['why']}: {one['detail']}" if one["why"] else when(one["at"]) + _note(one))
            for name, one in answer["points"].items()
        ]  # fmt: skip
        table(("point", "value", "unit", "channel", "read at"), rows)
        if all(one["why"] == "silent" for one in answer["points"].values()):
            typer.echo(
                "the device does not answer. Check its address, speed and wiring.\n"
                f"Search the line for devices: gardien scan {answer['link']}"
            )
    raise typer.Exit(0 if answer["ok"] else 1)


def _note(value: dict[str, Any]) -> str:
    """Return a remark on a good value, or an empty text."""
    return f"; {value['detail']}" if value["detail"] else ""
