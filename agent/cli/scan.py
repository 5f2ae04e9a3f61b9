"""`gardien scan`: what is on a line, as YAML ready to paste."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    Config,
    Json,
    State,
    as_json,
    plural,
    state_of,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def scan(
    link: Annotated[str, typer.Argument(help="A line of the configuration.")],
    first: Annotated[str, typer.Option(help="The address to begin with.")] = "",
    last: Annotated[str, typer.Option(help="The address to end with.")] = "",
    expect: Annotated[
        Path | None,
        typer.Option(help="CSV with a column serial: these meters are asked for first."),
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Write what is new into the configuration.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Search a line for devices; nothing is written to any of them.

    Prints what the configuration would say under `devices:`. Exit status 1 if nothing was found.
    """
    from agent.local import ask

    expected = _serials(expect) if expect else []
    args = {"link": link, "first": first, "last": last, "expected": expected}
    answer = ask(config, state_of(config, state), "scan", args, show_progress)
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", err=True, nl=False)
    devices = answer["devices"]
    if json:
        as_json(answer)
    else:
        _show(devices)
    if add:
        from agent.config.add import add_devices

        new = {one["name"]: one["entry"] for one in devices if not one["configured"]}
        added = add_devices(config, new)
        typer.echo(f"{plural(len(added), 'device')} added to {config}", err=True)
        if left := len(new) - len(added):
            typer.echo(f"{left} left out: say what to read from them, and add them", err=True)
        if added:
            typer.echo("The running agent reads them once it is told to: gardien reload", err=True)
    raise typer.Exit(0 if devices else 1)


def _show(devices: Sequence[dict[str, Any]]) -> None:
    for one in devices:
        for warning in one["warnings"]:
            typer.echo(f"! {one['name']}: {warning}", err=True)
    new = [one for one in devices if not one["configured"]]
    typer.echo(
        f"{plural(len(devices), 'device')} found, {len(new)} not in the configuration yet", err=True
    )
    if new:
        typer.echo(yaml_of(new), nl=False)


def yaml_of(devices: Sequence[dict[str, Any]]) -> str:
    """What the configuration would say, each device with a comment that says what it is."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    written, entries = YAML(), CommentedMap()
    written.width = 1000
    for one in devices:
        entry = CommentedMap(one["entry"])
        if points := one["entry"].get("points"):
            entry["points"] = CommentedMap({key: _on_one_line(of) for key, of in points.items()})
        else:
            entry.fa.set_flow_style()
        entries[one["name"]] = entry
        entries.yaml_add_eol_comment(one["about"], one["name"])
    out = io.StringIO()
    written.indent(mapping=2)
    written.dump(CommentedMap(devices=entries), out)
    return out.getvalue()


def _on_one_line(options: dict[str, Any]) -> Any:
    from ruamel.yaml.comments import CommentedMap

    made = CommentedMap(options)
    made.fa.set_flow_style()
    return made


def _serials(path: Path) -> list[str]:
    from agent.registry.sheet import read

    lines = read(text_of(path), str(path), {"serial": "serial"}, ("serial",))
    return [line.cells["serial"] for line in lines if line.cells.get("serial")]


def show_progress(words: dict[str, Any]) -> None:
    """One line that is written over while it grows, or a line a step where nobody looks."""
    if "text" in words:
        typer.echo(words["text"], err=True)
    elif sys.stderr.isatty():
        typer.echo(f"\r{words['done']}/{words['total']} {words['words']}\x1b[K", err=True, nl=False)
