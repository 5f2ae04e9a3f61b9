"""`gardien policy`: what is done about missing, late and implausible values, in words."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="What is done about missing and implausible values.")


class Language(StrEnum):
    """What it can be said in."""

    EN = "en"
    FR = "fr"


@app.callback()
def _group() -> None:
    """A group of its own, though it has one command."""


@app.command()
def show(
    lang: Annotated[
        Language | None,
        typer.Option(help="The language; by default the terminal's.", show_default=False),
    ] = None,
) -> None:
    """Say MDP-1 in words, in English or French."""
    from agent.i18n import language
    from agent.pipeline.policy import TEXTS

    typer.echo(TEXTS[lang or language()], nl=False)
