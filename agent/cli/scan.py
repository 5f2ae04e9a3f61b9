"""`gardien scan`: searches a line for devices, and prints configuration for them."""

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
from agent.core.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence


def scan(
    link: Annotated[str, typer.Argument(help="The name of the line in the configuration.")],
    first: Annotated[
        str,
        typer.Option(
            help="The first address. On M-Bus also a pattern for serial numbers: 45FFFFFF searches"
            " those that begin with 45."
        ),
    ] = "",
    last: Annotated[str, typer.Option(help="The last address.")] = "",
    expect: Annotated[
        Path | None,
        typer.Option(help="CSV with a column serial; these meters are searched for first."),
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add new devices to the configuration.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Search a line for devices. Nothing is written to a device.

    Prints YAML to paste under `devices:`. Exit status 1 if no device was found.
    """
    from agent.local import ask

    ticker, devices_so_far = Ticker(), []

    def on_progress(progress: dict[str, Any]) -> None:
        if "device" in progress:
            devices_so_far.append(progress["device"])
        ticker(progress)

    expected = _serials(expect) if expect else []
    args = {"link": link, "first": first, "last": last, "expected": expected}
    try:
        answer = ask(config, state_of(config, state), "scan", args, on_progress)
    except (KeyboardInterrupt, Refused):  # a slow line takes hours: show what was found so far
        ticker.end()
        if devices_so_far and not json:
            _show(devices_so_far, ["the search was interrupted; these devices were found so far"])
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

        entries = {one["name"]: one["entry"] for one in devices if not one["configured"]}
        added, home = add_devices(config, entries)
        typer.echo(f"{plural(len(added), 'device')} added to {home}", err=True)
        if left := len(entries) - len(added):
            typer.echo(f"{left} not added: write what to read from them by hand", err=True)
        if added:
            typer.echo("The running agent does not read them yet: gardien reload", err=True)
    raise typer.Exit(0 if devices else 1)


def _show(devices: Sequence[dict[str, Any]], remarks: Sequence[str]) -> None:
    for remark in remarks:
        typer.echo(f"! {remark}", err=True)
    warn(devices)
    new = [one for one in devices if not one["configured"]]
    typer.echo(
        f"{plural(len(devices), 'device')} found, {len(new)} of them not configured yet", err=True
    )
    if new:
        typer.echo(yaml_of(new), nl=False)


def _serials(path: Path) -> list[str]:
    from agent.registry.sheet import read

    lines = read(text_of(path), str(path), {"serial": "serial"}, ("serial",))
    return [line.cells["serial"] for line in lines if line.cells.get("serial")]
