"""`gardien ede`: what an integrator's list of BACnet objects says, as YAML ready to paste."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.scanned import warn, yaml_of
from agent.cli.terminal import Json, as_json, plural


def ede(
    file: Annotated[Path, typer.Argument(help="The EDE file with the objects, a CSV.")],
    link: Annotated[str, typer.Option(help="The BACnet line of the configuration.")] = "bms",
    json: Json = False,
) -> None:
    """Turn an EDE file into devices and points; nothing is asked of any device.

    Prints what the configuration would say under `devices:`, with the channels that units and
    names suggest. Exit status 1 if the file has no object in it.
    """
    from agent.drivers.bacnet.ede import read, text_of
    from agent.errors import Refused

    try:
        content = file.read_bytes()
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from error
    found = read(text_of(content), file.name)
    entries = [
        {"name": one.name, "entry": {"link": link, **one.entry}, "about": one.about,
         "warnings": list(one.warnings)}
        for one in found
    ]  # fmt: skip
    if json:
        as_json({"devices": entries})
        return
    warn(entries)
    typer.echo(f"{plural(len(found), 'device')} in {file}", err=True)
    typer.echo(yaml_of(entries), nl=False)
