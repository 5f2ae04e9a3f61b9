"""`gardien policy`: how missing, late and implausible values are treated."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="Show how missing, late and implausible values are treated."
)


class Language(StrEnum):
    """The languages of the policy's text."""

    EN = "en"
    FR = "fr"


@app.callback()
def _group() -> None:
    """Keep `show` a subcommand, although it is the only one."""


@app.command()
def show(
    lang: Annotated[
        Language | None,
        typer.Option(help="The language; default: the terminal's.", show_default=False),
    ] = None,
) -> None:
    """Print MDP-1, the rules for missing, late and doubtful values, in English or French."""
    from agent.core.i18n import language
    from agent.registry.page import render

    typer.echo(render("acquisition/policy.txt", language=lang or language()), nl=False)
