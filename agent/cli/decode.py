"""`gardien decode`: what a frame from a meter says."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from agent.cli.terminal import Json

app = typer.Typer(no_args_is_help=True, help="Say what a frame from a meter means.")


@app.callback()
def _group() -> None:
    """Keep `mbus` a word of its own though it stands alone."""


@app.command()
def mbus(
    frames: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FRAME]...",
            help="Each a frame in hex, or one byte by byte, 68 … 16; without any: one a line on"
            " standard input.",
        ),
    ] = None,
    json: Json = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say byte by byte what means what.")
    ] = False,
) -> None:
    """Decode frames of wired meters (M-Bus). Exit status 1 if one of them is none."""
    from agent.cli.decoded import run

    if frames and all(len(word) == len("16") for word in frames):
        frames = ["".join(frames)]  # one, as a log has it, byte by byte
    raise typer.Exit(run(frames or sys.stdin, json, explain, sys.stdout))
