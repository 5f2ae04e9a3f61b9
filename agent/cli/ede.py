"""`gardien ede`: turns an integrator's list of BACnet objects (EDE) into configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.scanned import warn, yaml_of
from agent.cli.terminal import Json, as_json, plural


def ede(
    file: Annotated[Path, typer.Argument(help="The EDE file (CSV) that lists the objects.")],
    link: Annotated[
        str, typer.Option(help="The name of the BACnet line in the configuration.")
    ] = "bms",
    json: Json = False,
) -> None:
    """Turn an EDE file into devices and points, without contacting any device.

    Prints YAML to paste under `devices:`, with the channels that units and names suggest. Exit
    status 1 if the file lists no object.
    """
    from agent.core.errors import Refused
    from agent.drivers.bacnet.ede import read, text_of

    try:
        content = file.read_bytes()
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from error
    devices = read(text_of(content), file.name)
    entries = [
        {"name": device.name, "entry": {"link": link, **device.entry}, "about": device.about,
         "warnings": list(device.warnings)}
        for device in devices
    ]  # fmt: skip
    if json:
        as_json({"devices": entries})
        return
    warn(entries)
    typer.echo(f"{plural(len(devices), 'device')} in {file}", err=True)
    typer.echo(yaml_of(entries), nl=False)
