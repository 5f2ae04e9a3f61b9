"""`gardien key`: the gateway's id, keys and certificate."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    Json,
    State,
    as_json,
    ask,
    state_of,
    when,
    write_file,
)
from agent.core.i18n import N_, _

app = typer.Typer(
    no_args_is_help=True, help="Create and show the gateway's id, keys and certificate."
)

WAIT = typer.Option("--wait/--no-wait", help="If somebody must approve the request, wait for it.")
APPROVAL_TIMEOUT = 7 * 86_400


@app.command()
def new(config: Config = DEFAULT_CONFIG, state: State = None) -> None:
    """Create this gateway's id and keys, once, in the state directory."""
    from agent.core.state import owned
    from agent.registry import identity
    from agent.registry.place import shown

    folder = state_of(config, state)
    with owned(folder, "gardien key new"):
        minted = identity.mint(folder)
    typer.echo(
        _(
            "this gateway is {gateway}; its keys are in {folder}",
            gateway=shown(minted.gateway),
            folder=folder / "keys",
        )
    )


@app.command()
def show(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Show the certificate and how long it is valid.

    Exit status 1 if there is none, or if it needs attention.
    """
    answer = ask(config, state, "key.show")
    as_json(answer) if json else _show(answer)
    certificate = answer["certificate"]
    raise typer.Exit(1 if certificate is None or certificate["alarm"] else 0)


@app.command()
def csr(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The file to write; default: standard output.", show_default=False
        ),
    ] = None,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Print a certificate request (CSR) for a CA. The common name is the gateway's id.

    The key is on the curve P-256. The private key stays on the gateway, and does not change until
    its certificate is installed.
    """
    text = ask(config, state, "key.csr", named=named)["csr"]
    if out is None:
        typer.echo(text, nl=False)
        return
    write_file(out, text.encode("ascii"))
    typer.echo(
        _("{out}: send it to the CA. Install its certificate: gardien key install FILE", out=out)
    )


@app.command()
def install(
    file: Annotated[
        Path,
        typer.Argument(help="The certificate (PEM), alone or followed by its issuers'. -: stdin."),
    ],
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Install the certificate that a CA issued for `gardien key csr`."""
    from agent.core.errors import Refused

    try:
        # latin-1 decodes every byte: comments beside the PEM blocks may be in any encoding
        text = sys.stdin.read() if str(file) == "-" else file.read_text("latin-1")
    except OSError as error:
        raise Refused("{file}: {reason}", file=file, reason=error) from error
    answer = ask(config, state, "key.install", named=named, text=text)
    as_json(answer) if json else _show(answer)


@app.command()
def enroll(
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="The file with the one-time token; default: ask for it.", show_default=False
        ),
    ] = None,
    wait: Annotated[bool, WAIT] = True,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Get the first certificate from the configured EST server, with a one-time token."""
    fields = {"named": named, "token": _token(token_file, config)}
    _until_issued(config, state, "key.enroll", wait, json, **fields)


@app.command()
def renew(
    wait: Annotated[bool, WAIT] = True,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Renew the certificate now. The agent renews it by itself at two thirds of its lifetime."""
    _until_issued(config, state, "key.renew", wait, json, named=named)


@app.command()
def rotate(
    what: Annotated[
        str, typer.Argument(metavar="[spool|certificate]", help="Rotate only this key.")
    ] = "",
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Replace the spool key and the certificate's key; no waiting data is lost.

    The agent continues meanwhile. All spools are encrypted with the new key, then the old spool key
    is destroyed. The certificate's old key is kept until every platform has accepted the new
    certificate.
    """
    from agent.local import ask as ask_either

    arguments = {"what": what, "named": named}
    answer = ask_either(config, state_of(config, state), "key.rotate", arguments, _show_progress)
    if json:
        as_json(answer)
    else:
        _show_rotated(answer)
    if (answer["certificate"] or {}).get("wait") and not json:
        _until_issued(config, state, "key.renew", wait=True, json=json, named=named)
    waits = answer["spool"] and not answer["spool"]["done"]
    raise typer.Exit(1 if waits or (answer["certificate"] or {}).get("why") else 0)


def _show_progress(sizes: dict[str, Any]) -> None:
    """Print the progress of a rotation. The agent sends numbers, since it does not know the
    reader's language.
    """
    typer.echo(_progress(sizes), err=True)


def _progress(sizes: dict[str, Any]) -> str:
    # rounded up: less than 1 MB must not show as 0
    done, total = (-(-sizes[name] // 1_000_000) for name in ("passed", "of"))
    return _("encrypted with the new key: {done} of about {total} MB", done=done, total=total)


def _show_rotated(answer: dict[str, Any]) -> None:
    spool, certificate = answer["spool"], answer["certificate"]
    if spool:
        typer.echo(_spool_outcome(spool))
        for name in spool["damaged"]:
            typer.echo(_("{name} was set aside as damaged; it keeps the old key.", name=name))
    if certificate:
        typer.echo(_(CERTIFICATE_OUTCOME[certificate["how"]], why=certificate.get("why", "")))
        if certificate.get("certificate"):
            _show(certificate)


def _spool_outcome(spool: dict[str, Any]) -> str:
    if not spool["done"]:
        return _(
            "The rotation of the spool key waits: {why}. It continues by itself. The old key is"
            " kept until the rotation is done.",
            why=(spool["standing"] or {}).get("waits", ""),
        )
    size = -(-spool["bytes"] // 1_000_000)
    if not spool["begun"]:
        return _(
            "The rotation of the spool key that was under way is done; the old key is destroyed."
        )
    return _(
        "The spool key is rotated: {size} MB in {files} files are encrypted with the new key, and"
        " the old key is destroyed. A flash card may keep a copy of it that no program can reach.",
        size=size,
        files=spool["files"],
    )


CERTIFICATE_OUTCOME = {
    "none": N_("There is no certificate, so there is no certificate key to rotate."),
    "est": N_(
        "The EST server was asked for a certificate for a new key. The old one is kept until every"
        " platform has accepted the new one."
    ),
    "asked again": N_(
        "The EST server issued no certificate for a new key: {why}. The old key stays in use. The"
        " agent asks again once a day. To ask now: gardien key renew"
    ),
    "csr": N_(
        "A new key waits for its certificate; the old key stays in use. Send the CA a request:"
        " gardien key csr. Then install its certificate: gardien key install FILE"
    ),
}


def _token(file: Path | None, config: Path) -> str:
    """Return the one-time token from a file or the terminal, or an empty text if it is configured.

    Raises Refused.
    """
    # no option for the token itself: every account can read command lines
    from agent.config import load
    from agent.core.errors import Refused

    try:
        if file is not None:
            return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise Refused("{file} cannot be read: {error}", file=file, error=error) from error
    enrolment = load(config).enrolment
    if enrolment is None or enrolment.token is not None or not sys.stdin.isatty():
        return ""
    return str(typer.prompt(_("one-time token"), hide_input=True)).strip()


def _until_issued(
    config: Path, state: Path | None, call: str, wait: bool, json: bool, **args: Any
) -> None:
    began = time.monotonic()
    # the same call again continues the same request: its key is kept
    while "wait" in (answer := ask(config, state, call, **args)):
        seconds = answer["wait"]
        if not wait or time.monotonic() - began > APPROVAL_TIMEOUT:
            typer.echo(
                _("waiting for approval; run the command again in {seconds} s", seconds=seconds),
                err=True,
            )
            raise typer.Exit(1)
        typer.echo(
            _("waiting for approval at the platform; next try in {seconds} s", seconds=seconds),
            err=True,
        )
        time.sleep(seconds)
    as_json(answer) if json else _show(answer)


def _show(answer: dict[str, Any]) -> None:
    from agent.registry.place import shown

    typer.echo(_("gateway      {gateway}", gateway=shown(answer["gateway"])))
    if rotating := answer.get("rotation"):
        since = when(rotating["since"])
        text = _("the spool key, since {since}; {far}", since=since, far=_progress(rotating))
        waits = f"; {rotating['waits']}" if rotating["waits"] else ""
        typer.echo(_("rotating     {text}{waits}", text=text, waits=waits))
    if answer["waits"]:
        typer.echo(_("waiting      certificate for a new key: gardien key install, or enroll"))
    certificate = answer["certificate"]
    if certificate is None:
        typer.echo(_("certificate  none yet: gardien key enroll, or gardien key csr"))
        return
    typer.echo(_("certificate  {validity}", validity=certificate["validity"]))
    typer.echo(_("issued by    {issuer}", issuer=certificate["issuer"]))
    typer.echo(_("usable as    {names}", names=" and ".join(certificate["uses"])))
    digits = certificate["sha256"].upper()
    for title, part in (("SHA-256", digits[:32]), ("", digits[32:])):
        typer.echo(f"{title:<12} {':'.join(part[n : n + 2] for n in range(0, 32, 2))}")
    typer.echo(_("file         {file}", file=answer["file"]))
    if answer.get("before"):
        typer.echo(_("previous     {before}", before=answer["before"]))
    if certificate["alarm"]:
        typer.echo(f"! {certificate['alarm']}")
