"""`gardien trust`: the trust list, which says whose signatures count."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.grants import show_left_out
from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    Json,
    State,
    as_json,
    ask,
    plural,
    table,
    when,
)
from agent.core.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True, help="Show and accept the trust list: whose signatures are valid here."
)


@app.command()
def show(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Show the trust list in force, and the audience (`aud`) of this gateway for orders."""
    answer = ask(config, state, "trust.show")
    if json:
        as_json(answer)
        return
    typer.echo(f"audience (aud) for orders: {answer['audience']}")
    if not answer["list"]:
        typer.echo("no trust list yet, so no signature is valid: gardien trust accept FILE")
        raise typer.Exit(1)
    _show_list(answer["list"])
    if answer["alarm"]:
        typer.echo(answer["alarm"], err=True)


@app.command()
def accept(
    file: Annotated[Path, typer.Argument(help="A trust list that its roots have signed.")],
    sha256: Annotated[
        str | None,
        typer.Option(help="The SHA-256 of the list that you compared; skips the question."),
    ] = None,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Accept a trust list.

    For the first list, compare its root keys with those that their owners tell you.

    Exit status 1 if it was not accepted.
    """
    try:
        answer = _accepted(file, sha256, named, (config, state), json=json)
    except Refused as error:
        if not json:
            # some refusals name the file already
            why = str(error).removeprefix(f"{file}: ")
            raise Refused(f"{file}: not accepted: {why}") from error
        as_json({"accepted": False, "refused": str(error)})
        raise typer.Exit(1) from None
    if json:
        as_json(answer | {"accepted": True})
    elif answer.get("again"):
        typer.echo(f"version {answer['ver']} is in force already; nothing was changed")
    else:
        typer.echo(f"accepted: version {answer['ver']} is in force")


def _accepted(
    file: Path, sha256: str | None, named: str | None, at: tuple[Path, Path | None], *, json: bool
) -> dict[str, Any]:
    """Show a list and accept it; return the answer of `trust.accept`. Raises Refused."""
    text = signed_text(file)
    preview = ask(*at, "trust.look", text=text)
    if not json:
        typer.echo(f"{file}:")
        _show_list(preview)
    if sha256 is not None and sha256 != preview["sha256"]:
        raise Refused(
            f"the file is not the list that was compared; its SHA-256: {preview['sha256']}"
        )
    # a later list is signed by roots that are trusted already
    if preview["first"] and sha256 is None:
        sha256 = _confirmed_roots(preview, may_ask=not json and sys.stdin.isatty())
    return ask(*at, "trust.accept", text=text, sha256=sha256, named=named)


def _confirmed_roots(preview: dict[str, Any], *, may_ask: bool) -> str:
    """Have a person confirm the root keys; return the list's SHA-256. Raises Refused."""
    if not may_ask:
        raise Refused(
            "for the first trust list, a person must compare the root keys with their owners. Then:"
            f" gardien trust accept FILE --sha256 {preview['sha256']}"
        )
    typer.echo(
        "\nThis is the first trust list here. The owners of its root keys decide whose orders"
        "\nthis gateway obeys. Ask each owner, by telephone or on paper, for their root key, and"
        "\ncompare every character."
    )
    if not typer.confirm("Do all root keys agree with what their owners say?"):
        raise Refused("its root keys do not agree with what their owners say")
    return str(preview["sha256"])


def _show_list(trust_list: dict[str, Any]) -> None:
    roots = [member for member in trust_list["members"] if member["role"] == "root"]
    typer.echo(
        f"trust list version {trust_list['ver']} by {trust_list['by']}, valid until"
        f" {when(trust_list['expires'])}; a change needs {trust_list['threshold']} of"
        f" {plural(len(roots), 'root')}"
    )
    signed = trust_list.get("signed")
    for root in roots:
        mark = "" if signed is None else "  signed" if root["kid"] in signed else "  not signed"
        typer.echo(f"  root {root['name']}: {root['kid']}{mark}")
    table(("name", "role", "valid until", "only for"), _rows(trust_list["members"]))
    show_left_out(trust_list["left_out"])


def _rows(members: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            member["name"],
            member["role"].replace("_", " "),
            when(member["until"]) if member["counts"] else "not valid",
            _restrictions(member["scope"]),
        )
        for member in members
        if member["role"] != "root"
    ]


def _restrictions(scope: dict[str, list[str] | None]) -> str:
    parts = [", ".join(members) or "nothing" for members in scope.values() if members is not None]
    return "; ".join(parts)


def signed_text(file: Path) -> str:
    """Return the text of a file with a signed object. Raises Refused."""
    try:
        return file.read_bytes().decode("utf-8")
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise Refused(f"{file}: not a signed object, because it is not text") from None
