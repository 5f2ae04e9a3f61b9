"""`gardien config`: the file itself, for editors, and changed without losing a comment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, State, as_json, state_of
from agent.errors import Refused
from agent.i18n import _

app = typer.Typer(
    no_args_is_help=True, help="The configuration file: compared, changed, described."
)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the file, for editors that check while one types."""
    from agent.config.schema import schema as made

    as_json(made())


@app.command()
def diff(
    other: Annotated[
        Path | None,
        typer.Argument(help="The file to compare with; else what the running agent goes by."),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Say what the file would change: value by value, - gone, + new, ~ changed.

    Exit status 1 if anything differs.
    """
    from agent.config import load
    from agent.config.differ import differences

    new = load(config).written
    old = load(other).written if other else _running(state_of(config, state))
    lines = list(differences(_plain(old), _plain(new)))
    typer.echo("\n".join(lines) or _("nothing differs"))
    raise typer.Exit(1 if lines else 0)


def _running(state: Path) -> Any:
    from agent.local import ask_daemon

    answer = ask_daemon(state, "configuration", {}, lambda _: None)
    if answer is None:
        raise Refused(f"gardien is not running on {state}: name a file to compare with")
    return answer["written"]


def _plain(data: Any) -> Any:
    return json.loads(json.dumps(data, default=str))


@app.command("set")
def set_(
    path: Annotated[str, typer.Argument(help="The keys from the top: devices.sdm-12.every")],
    value: Annotated[str, typer.Argument(help="As it would stand in the file: 15min")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Change one value in the file, or add it; comments and order stay as they are.

    What would not be right is refused with its mistakes, and the file stays as it was.
    """
    from agent.config.differ import differences
    from agent.config.edit import put
    from agent.config.files import Files
    from agent.config.load import checked
    from agent.errors import ConfigError

    files = Files(config)
    before = checked(files)
    changed, home = put(files, tuple(path.split(".")), value)
    try:
        after = checked(changed)
    except ConfigError as error:
        raise Refused(
            _("{home} was not changed, because the result would be invalid:", home=home)
            + f"\n{error}"
        ) from error
    lines = list(differences(_plain(before.written), _plain(after.written)))
    if lines:
        changed.write(home)
        typer.echo("\n".join(lines))
        typer.echo(_("The running agent goes by it once it is told to: gardien reload"), err=True)
    else:
        typer.echo(_("it said so already"))


@app.command()
def migrate(config: Config = DEFAULT_CONFIG) -> None:
    """Bring a file of an older gardien up to date; comments and order stay, the old one is kept."""
    from agent.config.migrate import migrate as bring_up_to_date

    had, kept = bring_up_to_date(config)
    if kept is None:
        typer.echo(f"{config} has the present form ({had}) already")
    else:
        typer.echo(f"{config} was of form {had} and is up to date; the old one is {kept}")
