"""`gardien decode`: decodes frames from meters."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from agent.cli.terminal import Json

app = typer.Typer(no_args_is_help=True, help="Decode a frame from a meter.")


@app.callback()
def _group() -> None:
    """Keep `mbus` a subcommand, although it is the only one."""


@app.command()
def mbus(
    frames: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FRAME]...",
            help="Frames in hex, or the bytes of one frame: 68 … 16. Default: one frame per line"
            " from standard input.",
        ),
    ] = None,
    json: Json = False,
    explain: Annotated[bool, typer.Option("--explain", help="Explain each byte.")] = False,
) -> None:
    """Decode frames of wired meters (M-Bus).

    Exit status 1 if a frame cannot be decoded, 2 if there is none.
    """
    from agent.cli.decoded import run

    if frames and all(len(word) == len("16") for word in frames):
        frames = ["".join(frames)]  # the bytes of one frame, as a log shows them
    raise typer.Exit(run(frames or sys.stdin, json, explain, sys.stdout))
