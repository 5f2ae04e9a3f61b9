"""`gardien key`: who this gateway is, and the certificate by which it proves that."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, As, Config, Json, State, as_json, ask, state_of, when
from agent.i18n import N_, _

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
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Print a certificate request for a CA: P-256, the gateway's id as its common name.

    The key stays here, the same until its certificate is installed.
    """
    from agent.errors import Refused

    text = ask(config, state, "key.csr", named=named)["csr"]
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
    named: As = None,
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
    answer = ask(config, state, "key.install", named=named, text=text)
    as_json(answer) if json else _show(answer)


@app.command()
def enroll(
    token_file: Annotated[
        Path | None,
        typer.Option(help="Where the one-time token is; else asked for.", show_default=False),
    ] = None,
    wait: Annotated[bool, WAIT] = True,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Get the first certificate from the EST server of the configuration, by a one-time token."""
    words = {"named": named, "token": _token(token_file, config)}
    _until_issued(config, state, "key.enroll", wait, json, **words)


@app.command()
def renew(
    wait: Annotated[bool, WAIT] = True,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Get the next certificate now. The agent does it by itself at two thirds of its life."""
    _until_issued(config, state, "key.renew", wait, json, named=named)


@app.command()
def rotate(
    what: Annotated[
        str, typer.Argument(metavar="[spool|certificate]", help="Only one of the two.")
    ] = "",
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Put new keys in the place of the spool key and of the certificate's; nothing that waits is
    lost.

    The agent goes on meanwhile. What is on the disk is sealed anew, then the old spool key is
    destroyed. The certificate's old key is used until its new certificate has worked.
    """
    from agent.local import ask as ask_either

    arguments = {"what": what, "named": named}
    answer = ask_either(config, state_of(config, state), "key.rotate", arguments, _far)
    if json:
        as_json(answer)
    else:
        _say_rotated(answer)
    if (answer["certificate"] or {}).get("wait") and not json:
        _until_issued(config, state, "key.renew", wait=True, json=json, named=named)
    waits = answer["spool"] and not answer["spool"]["done"]
    raise typer.Exit(1 if waits or (answer["certificate"] or {}).get("why") else 0)


def _far(words: dict[str, Any]) -> None:
    """How far a rotation is, told by numbers: the agent does not know the reader's language."""
    typer.echo(_sealed_anew(words), err=True)


def _sealed_anew(words: dict[str, Any]) -> str:
    done, total = (-(-words[name] // 1_000_000) for name in ("passed", "of"))
    return _("sealed anew: {done} of about {total} MB", done=done, total=total)


def _say_rotated(answer: dict[str, Any]) -> None:
    spool, certificate = answer["spool"], answer["certificate"]
    if spool:
        typer.echo(_said_of_spool(spool))
        for name in spool["damaged"]:
            typer.echo(_("{name} was set aside as damaged, and is not sealed anew.", name=name))
    if certificate:
        typer.echo(_(CERTIFICATE_SAID[certificate["how"]], why=certificate.get("why", "")))
        if certificate.get("certificate"):
            _show(certificate)


def _said_of_spool(spool: dict[str, Any]) -> str:
    if not spool["done"]:
        return _(
            "The spool key is being rotated, and that waits: {why}. It goes on by itself. The old"
            " key is kept until it is done.",
            why=(spool["standing"] or {}).get("waits", ""),
        )
    size = -(-spool["bytes"] // 1_000_000)
    if not spool["begun"]:
        return _(
            "A rotation of the spool key was under way and is done now: the old key is destroyed."
        )
    return _(
        "The spool key is rotated: {size} MB in {files} files are under the new one, and the old"
        " one is destroyed. A card may keep a copy of the old one where no program reaches it.",
        size=size,
        files=spool["files"],
    )


CERTIFICATE_SAID = {
    "none": N_("There is no certificate, so no key of one to rotate."),
    "est": N_(
        "The EST server was asked for a certificate of a new key. The old one is kept until every"
        " platform has taken the new one."
    ),
    "asked again": N_(
        "The EST server gave no certificate for a new key: {why}. The old key stays in use. The"
        " agent asks again once a day; at once: `gardien key renew`."
    ),
    "csr": N_(
        "A new key waits for its certificate; the old one stays in use. The request for the CA:"
        " `gardien key csr`. What the CA makes of it: `gardien key install FILE`."
    ),
}


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
    if rotating := answer.get("rotation"):
        since = when(rotating["since"])
        words = _("the spool key, since {since}; {far}", since=since, far=_sealed_anew(rotating))
        waits = f"; {rotating['waits']}" if rotating["waits"] else ""
        typer.echo(f"rotating     {words}{waits}")
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
    if answer.get("before"):
        typer.echo(f"the one before  {answer['before']}")
    if one["alarm"]:
        typer.echo(f"! {one['alarm']}")
