"""`gardien profile`: what is known of makes of devices, and a manager's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, Json, as_json, plural, table
from agent.errors import ConfigError, Refused

if TYPE_CHECKING:
    from agent.config.profiles import Profiles
    from agent.drivers.profile import Profile

app = typer.Typer(
    no_args_is_help=True,
    help="What is known of makes of devices: gardien's profiles, and yours in `profiles/` beside "
    "the configuration.",
)


def _shelf(config: Path) -> Profiles:
    from agent.config.profiles import FOLDER, Profiles

    return Profiles(config.parent / FOLDER)


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Name all profiles: for which devices, over what, how many values."""
    from agent.drivers.profile import Profile

    shelf, rows = _shelf(config), []
    for name in shelf.names():
        made, whose = shelf.take(name), "yours" if name in shelf.own else ""
        if isinstance(made, Profile):
            about = f"{made.manufacturer} {made.model}"
            rows.append((name, about, made.driver, str(len(made.points)), whose))
        else:
            rows.append((name, "has mistakes: gardien profile check", "", "", whose))
    if json:
        as_json(
            [
                dict(zip(("name", "about", "driver", "values", "whose"), r, strict=True))
                for r in rows
            ]
        )
    else:
        table(("profile", "for", "driver", "values", ""), rows)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A profile's name.")],
    yaml: Annotated[
        bool, typer.Option("--yaml", help="Its file, to begin one of your own with.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Say what a profile reads, where its figures are from, and what nobody has checked yet."""
    from agent.config.profiles import whole
    from agent.drivers.profile import text_of

    shelf = _shelf(config)
    if name not in shelf.names():
        from agent.config.problem import did_you_mean

        near = did_you_mean(name, shelf.names()) or "; `gardien profile list` names them"
        raise Refused(f'no profile "{name}"{near}')
    path = shelf.path(name)
    if yaml:
        typer.echo(path.read_text(encoding="utf-8") if path else text_of(name), nl=False)
        return
    made: Any = whole(path) if path else shelf.take(name)
    if json:
        as_json(_plain(made))
    else:
        _show(made)


def _plain(made: Profile) -> Any:
    from pydantic import TypeAdapter

    from agent.drivers.profile import Profile

    return TypeAdapter(Profile).dump_python(made, mode="json", exclude={"test"})


def _show(made: Profile) -> None:
    from agent.channels import channel_of_quantity

    typer.echo(f"{made.manufacturer} {made.model}, {made.driver}")
    serial = [("serial", made.serial)] if made.serial else []
    rows = [
        (
            name,
            "read" if name in made.defaults else "",
            offer.at.split()[0],
            offer.unit if offer.scale == 1 else f"{offer.unit} × {offer.scale}",
            channel_of_quantity().get(name, ""),
        )
        for name, offer in [*serial, *made.points.items()]
    ]
    table(("point", "", "at", "unit", "channel"), rows)
    typer.echo(f"from: {made.source}")
    typer.echo(f"certainty: {made.confidence}")
    offers = dict([*serial, *made.points.items()])
    doubts = {"": made.verify, **{name: offer.verify for name, offer in offers.items()}}
    for name, doubt in doubts.items():
        if doubt:
            typer.echo(f"not checked: {name}{': ' if name else ''}{doubt}")


@app.command()
def check(
    file: Annotated[
        Path, typer.Argument(help="The profile's file, such as profiles/my-meter.yaml.")
    ],
) -> None:
    """Check a profile as strictly as gardien's own, and read its test values.

    Exit status 1 if anything is wrong with it: each mistake with its line.
    """
    from agent.config.profiles import whole

    try:
        made = whole(file)
    except ConfigError as error:
        typer.echo(f"{error}\n{plural(len(str(error).splitlines()), 'problem')}", err=True)
        raise typer.Exit(1) from error
    known = made.points.keys() | ({"serial"} if made.serial else set())
    read = "and all are" if (tested := len(made.test["reads"])) == len(known) else f"{tested} are"
    typer.echo(
        f"{file} is fine: {plural(len(known), 'value')}, {read} read from its test as it says"
    )
    if untested := sorted(known - made.test["reads"].keys()):
        typer.echo(f"without a test: {', '.join(untested)}")
