"""`gardien key`: who this gateway is, and the certificate by which it proves that."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, Json, State, as_json, ask, state_of

app = typer.Typer(no_args_is_help=True, help="Who this gateway is: its id, keys and certificate.")

WAIT = typer.Option("--wait/--no-wait", help="Go on asking while somebody has to approve it.")
WITHIN = 7 * 86_400


@app.command()
def new(config: Config = DEFAULT_CONFIG, state: State = None) -> None:
    """Mint this gateway's id and keys, once, in its state directory."""
    from agent.registry import identity
    from agent.registry.place import shown
    from agent.state import owned

    folder = state_of(config, state)
    with owned(folder, "gardien key new"):
        minted = identity.mint(folder)
    typer.echo(f"this gateway is {shown(minted.gateway)}; its keys are in {folder / 'keys'}")


@app.command()
def show(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Show the certificate and how long it holds; exit status 1 if somebody must look."""
    answer = ask(config, state, "key.show")
    as_json(answer) if json else _show(answer)
    one = answer["certificate"]
    raise typer.Exit(1 if one is None or one["alarm"] else 0)


@app.command()
def csr(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write it to this file.", show_default=False)
    ] = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Print a certificate request for a CA: P-256, the gateway's id as its common name.

    The key stays here, the same until its certificate is installed.
    """
    from agent.errors import Refused

    text = ask(config, state, "key.csr")["csr"]
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="ascii")
    except OSError as error:
        raise Refused(f"{out}: {error.strerror}") from error
    typer.echo(f"{out} is for the CA; what it makes of it: gardien key install FILE")


@app.command()
def install(
    file: Annotated[Path, typer.Argument(help="PEM; those of the issuers may follow. - : stdin.")],
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Take the certificate that a CA made of `gardien key csr`."""
    from agent.errors import Refused

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("latin-1")
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from error
    answer = ask(config, state, "key.install", text=text)
    as_json(answer) if json else _show(answer)


@app.command()
def enroll(
    token_file: Annotated[
        Path | None,
        typer.Option(help="Where the one-time token is; else asked for.", show_default=False),
    ] = None,
    wait: Annotated[bool, WAIT] = True,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Get the first certificate from the EST server of the configuration, by a one-time token."""
    _until_issued(config, state, "key.enroll", wait, json, token=_token(token_file, config))


@app.command()
def renew(
    wait: Annotated[bool, WAIT] = True,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Get the next certificate now. The agent does it by itself at two thirds of its life."""
    _until_issued(config, state, "key.renew", wait, json)


def _token(file: Path | None, config: Path) -> str:
    """A token is never a word of the command line, where every account could read it."""
    from agent.config import load
    from agent.errors import Refused

    try:
        if file is not None:
            return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise Refused(f"{file} cannot be read: {error}") from error
    enrolment = load(config).enrolment
    if enrolment is None or enrolment.token is not None or not sys.stdin.isatty():
        return ""
    return str(typer.prompt("one-time token", hide_input=True)).strip()


def _until_issued(
    config: Path, state: Path | None, call: str, wait: bool, json: bool, **args: Any
) -> None:
    began = time.monotonic()
    while "wait" in (answer := ask(config, state, call, **args)):
        seconds = answer["wait"]
        if not wait or time.monotonic() - began > WITHIN:
            typer.echo(f"it waits for approval; give the command again in {seconds} s", err=True)
            raise typer.Exit(1)
        typer.echo(f"it waits for approval at the platform; asked again in {seconds} s", err=True)
        time.sleep(seconds)
    as_json(answer) if json else _show(answer)


def _show(answer: dict[str, Any]) -> None:
    from agent.registry.place import shown

    typer.echo(f"gateway      {shown(answer['gateway'])}")
    if answer["waits"]:
        typer.echo("waiting      for the certificate of a new key: gardien key install, or enroll")
    one = answer["certificate"]
    if one is None:
        typer.echo("certificate  none yet: gardien key enroll, or gardien key csr")
        return
    typer.echo(f"certificate  {one['validity']}")
    typer.echo(f"issued by    {one['issuer']}")
    typer.echo(f"good for     {' and '.join(one['uses'])}")
    digits = one["sha256"].upper()
    for title, part in (("SHA-256", digits[:32]), ("", digits[32:])):
        typer.echo(f"{title:<12} {':'.join(part[n : n + 2] for n in range(0, 32, 2))}")
    typer.echo(f"lies in      {answer['file']}")
    if one["alarm"]:
        typer.echo(f"! {one['alarm']}")
