"""`gardien key`: who this gateway is."""

from __future__ import annotations

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, State, state_of

app = typer.Typer(no_args_is_help=True, help="Who this gateway is: its id and its keys.")


@app.callback()
def _group() -> None:
    """Keep `new` a word of its own though it stands alone."""


@app.command()
def new(config: Config = DEFAULT_CONFIG, state: State = None) -> None:
    """Mint this gateway's id and keys, once, in its state directory."""
    from agent.registry import identity
    from agent.registry.place import shown
    from agent.state import owned

    folder = state_of(config, state)
    with owned(folder, patience=5):
        minted = identity.mint(folder)
    typer.echo(f"this gateway is {shown(minted.gateway)}; its keys are in {folder / 'keys'}")
