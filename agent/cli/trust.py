"""`gardien trust`: whose signature counts here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.grants import say_left_out
from agent.cli.terminal import DEFAULT_CONFIG, As, Config, Json, State, as_json, ask, table, when
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(no_args_is_help=True, help="Whose signature counts here, and in which role.")


@app.command()
def show(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Show the trust list that stands, and how others address this gateway."""
    answer = ask(config, state, "trust.show")
    if json:
        as_json(answer)
        return
    typer.echo(f"address orders to {answer['audience']}")
    if not answer["list"]:
        typer.echo("no trust list yet: nobody's signature counts; gardien trust accept FILE")
        raise typer.Exit(1)
    _tell(answer["list"])
    if answer["alarm"]:
        typer.echo(answer["alarm"], err=True)


@app.command()
def accept(
    file: Annotated[Path, typer.Argument(help="A trust list, as its roots have signed it.")],
    sha256: Annotated[
        str | None,
        typer.Option(help="For programs: the list that was compared, instead of the question."),
    ] = None,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Let a trust list stand. The first one needs a person who compares its root keys.

    Exit status 1 where it was not accepted.
    """
    try:
        answer = _accepted(file, sha256, named, (config, state), json=json)
    except Refused as error:
        if not json:
            why = str(error).removeprefix(f"{file}: ")
            raise Refused(f"{file}: not accepted: {why}") from error
        as_json({"accepted": False, "refused": str(error)})
        raise typer.Exit(1) from None
    if json:
        as_json(answer | {"accepted": True})
    elif answer.get("again"):
        typer.echo(f"version {answer['ver']} stands already: nothing was changed")
    else:
        typer.echo(f"accepted: version {answer['ver']} stands")


def _accepted(
    file: Path, sha256: str | None, named: str | None, at: tuple[Path, Path | None], *, json: bool
) -> dict[str, Any]:
    """What became of a list once it was looked at. Raises Refused."""
    text = signed_text(file)
    look = ask(*at, "trust.look", text=text)
    if not json:
        typer.echo(f"{file} says:")
        _tell(look)
    if sha256 is not None and sha256 != look["sha256"]:
        raise Refused(f"this is another list than the one that was compared: {look['sha256']}")
    if look["first"] and sha256 is None:
        sha256 = _compared(look, may_ask=not json and sys.stdin.isatty())
    return ask(*at, "trust.accept", text=text, sha256=sha256, named=named)


def _compared(look: dict[str, Any], *, may_ask: bool) -> str:
    """The person's word that the roots are the right ones. Raises Refused."""
    if not may_ask:
        raise Refused(
            "the first trust list needs a person who compares the root keys with what their owners"
            f" say; then: gardien trust accept FILE --sha256 {look['sha256']}"
        )
    typer.echo(
        "\nThis is the first trust list here. Whoever holds its root keys decides whose orders"
        "\nthis gateway obeys. Ask each of them, on the telephone or on paper, to read their key"
        "\naloud, and compare every character."
    )
    if not typer.confirm("Are all root keys as their owners say?"):
        raise Refused("its root keys are not as their owners say")
    return str(look["sha256"])


def _tell(one: dict[str, Any]) -> None:
    roots = [member for member in one["members"] if member["role"] == "root"]
    typer.echo(
        f"trust list version {one['ver']} of {one['by']}, until {when(one['expires'])};"
        f" {one['threshold']} of {len(roots)} roots sign a change"
    )
    signed = one.get("signed")
    for root in roots:
        mark = "" if signed is None else "  signed" if root["kid"] in signed else "  not signed"
        typer.echo(f"  root {root['name']}: {root['kid']}{mark}")
    table(("name", "role", "until", "only for"), _rows(one["members"]))
    say_left_out(one["left_out"])


def _rows(members: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            member["name"],
            member["role"].replace("_", " "),
            when(member["until"]) if member["counts"] else "does not count",
            _confined(member["scope"]),
        )
        for member in members
        if member["role"] != "root"
    ]


def _confined(scope: dict[str, list[str] | None]) -> str:
    said = [", ".join(words) or "nothing" for words in scope.values() if words is not None]
    return "; ".join(said)


def signed_text(file: Path) -> str:
    """The text of a file with a signed object. Raises Refused."""
    try:
        return file.read_bytes().decode("utf-8")
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise Refused(f"{file}: this is no signed object: it is not text") from None
