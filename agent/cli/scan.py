"""`gardien scan`: what is on a line, as YAML ready to paste."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.scanned import Ticker, warn, yaml_of
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
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence


def scan(
    link: Annotated[str, typer.Argument(help="A line of the configuration.")],
    first: Annotated[
        str,
        typer.Option(
            help="The address to begin with; on M-Bus also a beginning of the number: 45FFFFFF."
        ),
    ] = "",
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

    ticker, found = Ticker(), []

    def heard(words: dict[str, Any]) -> None:
        if "device" in words:
            found.append(words["device"])
        ticker(words)

    expected = _serials(expect) if expect else []
    args = {"link": link, "first": first, "last": last, "expected": expected}
    try:
        answer = ask(config, state_of(config, state), "scan", args, heard)
    except (KeyboardInterrupt, Refused):
        ticker.end()
        if found and not json:
            _show(found, ["the search was not brought to its end: this is what was found so far"])
        raise
    finally:
        ticker.end()
    devices = answer["devices"]
    if json:
        as_json(answer)
    else:
        _show(devices, answer["remarks"])
    if add:
        from agent.config.add import add_devices

        new = {one["name"]: one["entry"] for one in devices if not one["configured"]}
        added, home = add_devices(config, new)
        typer.echo(f"{plural(len(added), 'device')} added to {home}", err=True)
        if left := len(new) - len(added):
            typer.echo(f"{left} left out: say what to read from them, and add them", err=True)
        if added:
            typer.echo("The running agent reads them once it is told to: gardien reload", err=True)
    raise typer.Exit(0 if devices else 1)


def _show(devices: Sequence[dict[str, Any]], remarks: Sequence[str]) -> None:
    for remark in remarks:
        typer.echo(f"! {remark}", err=True)
    warn(devices)
    new = [one for one in devices if not one["configured"]]
    typer.echo(
        f"{plural(len(devices), 'device')} found, {len(new)} not in the configuration yet", err=True
    )
    if new:
        typer.echo(yaml_of(new), nl=False)


def _serials(path: Path) -> list[str]:
    from agent.registry.sheet import read

    lines = read(text_of(path), str(path), {"serial": "serial"}, ("serial",))
    return [line.cells["serial"] for line in lines if line.cells.get("serial")]
