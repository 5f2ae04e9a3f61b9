"""`gardien check` and `gardien config`: check, compare, change and describe the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, State, as_json, read_here, state_of, when
from agent.core.errors import AgentError, Refused
from agent.core.finding import Finding
from agent.core.i18n import _

app = typer.Typer(no_args_is_help=True, help="Compare, change and describe the configuration file.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the file, for editors that check while you type."""
    from agent.config.schema import schema as made

    as_json(made())


@app.command()
def diff(
    other: Annotated[
        Path | None,
        typer.Argument(
            help="The file to compare with; default: the configuration of the running agent."
        ),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Show what a reload of the file would change: - removed, + added, ~ changed.

    Exit status 1 if there is a difference.
    """
    from agent.config import load
    from agent.config.edit import differences

    new = load(config).written
    old = load(other).written if other else _running(state_of(config, state))
    lines = list(differences(_plain(old), _plain(new)))
    typer.echo("\n".join(lines) or _("nothing differs"))
    raise typer.Exit(1 if lines else 0)


def _running(state: Path) -> Any:
    from agent.local import ask_daemon

    answer = ask_daemon(state, "configuration", {}, lambda _: None)
    if answer is None:
        raise Refused("gardien is not running on {state}. Name a file to compare with", state=state)
    return answer["written"]


def _plain(data: Any) -> Any:
    # dates and paths compare as they are written
    return json.loads(json.dumps(data, default=str))


@app.command("set")
def set_(
    path: Annotated[str, typer.Argument(help="The keys from the top: devices.sdm-12.every")],
    value: Annotated[
        str, typer.Argument(help="The value as you would write it in the file: 15min")
    ],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Change or add one value in the file; comments and the order of lines are kept.

    A change that would make the file wrong is refused, and the file is not changed.
    """
    from agent.config.edit import differences, put
    from agent.config.files import Files
    from agent.config.load import checked
    from agent.core.errors import ConfigError

    files = Files(config)
    # before the change: mistakes that the file has already must not be blamed on it
    before = checked(files)
    changed, home = put(files, tuple(path.split(".")), value)
    try:
        after = checked(changed)
    except ConfigError as error:
        refusal = _("{home} was not changed, because the result would have mistakes:", home=home)
        raise Refused("{refusal}\n{error}", refusal=refusal, error=error) from error
    lines = list(differences(_plain(before.written), _plain(after.written)))
    if lines:
        changed.write(home)
        typer.echo("\n".join(lines))
        typer.echo(
            _("The running agent still uses the old configuration: gardien reload"), err=True
        )
    else:
        typer.echo(_("the file has this value already; nothing was changed"))


@app.command()
def migrate(config: Config = DEFAULT_CONFIG) -> None:
    """Convert a configuration file that was written for an older version of gardien.

    Comments and the order of lines are kept. The old file is kept beside the new one.
    """
    from agent.config.edit import migrate as bring_up_to_date

    had, kept = bring_up_to_date(config)
    if kept is None:
        typer.echo(_("{config} has the current format ({had}) already", config=config, had=had))
    else:
        typer.echo(
            _(
                "{config} was converted from format {had}; the old file is {kept}",
                config=config,
                had=had,
                kept=kept,
            )
        )


def check(config: Config = DEFAULT_CONFIG, state: State = None) -> None:
    """Check the configuration; show each mistake with its line and a remedy.

    With sudo, the files are opened as the account that runs the agent. No connection is opened.
    Exit status 1 if there is a mistake.
    """
    from agent.config.check import check as examine

    status, text = examine(config)
    typer.echo(text, err=status != 0)
    if status == 0:
        for finding in _not_applied(state_of(config, state)):
            typer.echo(f"\n{finding.sentence(when).in_language()}")
    raise typer.Exit(status)


def _not_applied(state: Path) -> list[Finding]:
    """Return the finding that a running agent does not use this configuration yet."""
    from agent.local import ask_daemon

    try:
        answer = ask_daemon(state, "status", {}, lambda _: None)
    except AgentError:
        return []  # this account may not ask it
    events = read_here(answer)["events"] if answer else ()
    return [Finding.of(event) for event in events if event["code"] == "edits"]
