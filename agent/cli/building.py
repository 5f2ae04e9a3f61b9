"""`gardien backup` and `gardien restore`: a building survives its gateway."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.reset import SAMPLE
from agent.cli.terminal import DEFAULT_CONFIG, As, Config, State, ask, state_of
from agent.clock import stamp
from agent.errors import Refused

if TYPE_CHECKING:
    from cryptography import x509


def backup(
    out: Annotated[Path, typer.Argument(help="The building file to write.")],
    to: Annotated[
        Path, typer.Option(help="The recovery certificate (PEM); its key lies in a safe.")
    ],
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Write the building file: all that people told this gateway, encrypted; no readings.

    Its private keys stay here: who restores it on another machine asks for a new certificate.
    """
    import base64

    from agent import backup

    words = {"certificate": _text(to), "files": backup.texts(config)}
    answer = ask(config, state, "backup", named=named, **words)
    try:
        out.write_bytes(base64.b64decode(answer["file"]))
    except OSError as error:
        raise Refused(f"{out}: {error.strerror}") from error
    typer.echo(f"{out}: the building as of change {answer['revision']}, for the key of {to}")


def restore(
    file: Annotated[Path, typer.Argument(help="A building file.")],
    key: Annotated[Path, typer.Option(help="The private key of the recovery certificate.")],
    signed_by: Annotated[
        Path | None,
        typer.Option(
            help="The certificate (PEM) of the gateway that is gone, or of the CA that issued it:"
            " nothing that it does not vouch for is restored."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is the right one.")] = (
        False
    ),
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Take the place of a gateway that is gone: the same id and places, new keys, a new epoch.

    The configuration is written where there is none, or only the package's sample; else beside the
    one there is.
    """
    from agent import backup
    from agent.local import account
    from agent.registry.place import shown
    from agent.registry_api import person
    from agent.state import owned

    by = person(account(os.getuid()), named)
    found, signer = backup.opened(_bytes(file), key, signed_by)
    typer.echo(f"{shown(found['gateway'])} as of {found['made']}, change {found['revision']}")
    typer.echo(_signed(signer))
    if signed_by is not None:
        typer.echo(f"  {signed_by} vouches for it")
    elif not yes:
        typer.confirm("Is it the right one?", abort=True)
    folder = _state(config, state, found["files"])
    with owned(folder, "gardien restore"):
        who = backup.restore(found, folder, by)
    for path in _written(config, found["files"]):
        typer.echo(f"{path}: the configuration as it was")
    typer.echo(
        f"this gateway is {shown(who.gateway)} as of {found['made']}, with new keys; now:"
        "\n  before it sends anything: what was withdrawn, revoked or moved out since then,"
        "\n  gardien object accept, consent withdraw, occupancy move-out"
        "\n  gardien check; gardien key enroll (or csr, install); systemctl enable --now gardien"
        f"\n  tell who signs orders its new address: {who.gateway}.{who.state}"
    )


def _signed(signer: x509.Certificate | None) -> str:
    """Who wrote a building file, as far as it can tell."""
    from cryptography.hazmat.primitives.hashes import SHA256

    from agent.enrolment.judge import begins, ends

    if signer is None:
        return (
            "  NOBODY SIGNED IT: whoever has the recovery certificate, which is no secret, may\n"
            "  have written it; compare what it says with somebody who knows"
        )
    return (
        f"  signed by a certificate of its name, {stamp(begins(signer))} to {stamp(ends(signer))}\n"
        f"  of {signer.issuer.rfc4514_string()}, SHA-256 {signer.fingerprint(SHA256()).hex()}"
    )


def _state(config: Path, state: Path | None, files: dict[str, str]) -> Path:
    """Where the state is to lie: as said, as configured here, or as it was."""
    import tempfile

    if state is not None or config.exists():
        return state_of(config, state)
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "config.yaml"
        before.write_text(files.get("config.yaml", ""), encoding="utf-8")
        return state_of(before, None)


def _written(config: Path, files: dict[str, str]) -> list[Path]:
    made = []
    for name, text in files.items():
        path = config if name == "config.yaml" else config.parent / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if path.exists() and not _sample(path):
            path = path.with_name(f"{path.name}.restored")
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Refused(f"{path}: {error.strerror}") from error
        made.append(path)
    return made


def _sample(path: Path) -> bool:
    return SAMPLE.exists() and path.read_bytes() == SAMPLE.read_bytes()


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(f"{path}: this is not text") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
