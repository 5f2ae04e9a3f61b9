"""`gardien backup`, `restore` and `factory-reset`: replace a gateway that is lost, or empty it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    State,
    ask,
    confirmed,
    state_of,
    write_file,
)
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import _, n_

if TYPE_CHECKING:
    from cryptography import x509

SAMPLE = Path("/usr/share/gardien/config.example.yaml")
STOP_TIMEOUT = 60.0
"""seconds for the daemon to end"""


def backup(
    out: Annotated[Path, typer.Argument(help="The backup file to write.")],
    to: Annotated[
        Path | None,
        typer.Option(
            help="The recovery certificate (PEM), whose key is kept in a safe; default: `backup.to`"
            " of the configuration."
        ),
    ] = None,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Write a backup: all that people entered here, encrypted; no readings.

    The private keys are not in it: after a restore, the gateway needs a new certificate.
    """
    import base64

    from agent.api import backup

    to = to or _recovery_certificate(config)
    # read in this process, with the rights of the person who asks
    fields = {"certificate": _text(to), "files": backup.texts(config)}
    answer = ask(config, state, "backup", named=named, **fields)
    write_file(out, base64.b64decode(answer["file"]))
    typer.echo(
        _(
            "{out}: backup up to change {revision}, for the key of {to}",
            out=out,
            revision=answer["revision"],
            to=to,
        )
    )


def _recovery_certificate(config: Path) -> Path:
    """Return the certificate that the configuration names. Raises Refused if it names none."""
    from agent.config.load import load

    options = load(config).backup
    if options is None:
        raise Refused(
            "no backup was written: it is encrypted for a recovery certificate, and {config} names"
            " none. Make one on your own computer, put recovery.key into a safe, and copy"
            " recovery.crt to this gateway.\nTo make it: openssl req -x509 -newkey ec -pkeyopt"
            " ec_paramgen_curve:P-256 -nodes -days 7300 -subj /CN=recovery -keyout recovery.key"
            " -out recovery.crt\nName it in the configuration, `backup: {{to:"
            " /etc/gardien/recovery.crt}}`, or now: gardien backup FILE --to recovery.crt",
            config=config,
        )
    return options.to


def restore(
    file: Annotated[Path, typer.Argument(help="The backup file.")],
    key: Annotated[Path, typer.Option(help="The private key of the recovery certificate.")],
    signed_by: Annotated[
        Path | None,
        typer.Option(
            help="The certificate (PEM) of the lost gateway, or of the CA that issued it. A backup"
            " that was not signed with this certificate, or with one issued by this CA, is refused."
            " A CA issues certificates to many gateways: with it, name the lost one (--gateway)."
        ),
    ] = None,
    lost: Annotated[
        str | None,
        typer.Option(
            "--gateway",
            metavar="G…",
            help="The id of the lost gateway. A backup of another gateway is refused.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Skip confirmation. Without the gateway's own certificate (--signed-by),"
            " --gateway must name the gateway.",
        ),
    ] = False,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Make this machine the replacement of a lost gateway, from a backup.

    It gets the id of the lost gateway, what people recorded there, and new keys. The configuration
    is restored if there is none, or only the package's sample. Otherwise it is written beside the
    existing file.
    """
    from agent.api import backup
    from agent.api.registry import person
    from agent.core.state import owned
    from agent.local import account
    from agent.registry.place import shown

    author = person(account(os.getuid()), named)
    contents, signer = backup.opened(_bytes(file), key, signed_by)
    folder = _state(config, state, contents["files"])
    backup.refuse_existing(folder)
    gateway, made = shown(contents["gateway"]), contents["made"]
    typer.echo(
        _(
            "{gateway}, backup of {made}, change {revision}",
            gateway=gateway,
            made=made,
            revision=contents["revision"],
        )
    )
    typer.echo(_signed(signer))
    if signed_by is not None:
        typer.echo(_("  the signature was verified with {signed_by}", signed_by=signed_by))
    own = signed_by is not None and backup.is_certificate(signed_by, signer)
    _must_be_of(contents["gateway"], lost, must_name=not own)
    if signed_by is None and not yes and not confirmed(_("Is this the right backup?")):
        raise typer.Abort
    # a running agent would go on with the registry that it has in memory
    with owned(folder, "gardien restore"):
        restored = backup.restore(contents, folder, author)
    for path in _write_configuration(config, contents["files"]):
        typer.echo(_("{path}: configuration from the backup", path=path))
    typer.echo(
        _(
            "this gateway is now {gateway} as of {made}, with new keys. Next steps:\n  before"
            " anything is sent, enter all later withdrawals, revocations and moves out:\n"
            "  gardien object accept, consent withdraw, occupancy move-out\n  gardien check;"
            " gardien key enroll (or csr, install); systemctl enable --now gardien\n  give its"
            " new audience to all who sign orders: {gateway_2}.{state}",
            gateway=shown(restored.gateway),
            made=made,
            gateway_2=restored.gateway,
            state=restored.state,
        )
    )


def _must_be_of(gateway: str, lost: str | None, *, must_name: bool) -> None:
    """Compare the gateway of a backup with the one that a person names. Raises Refused.

    `must_name`: no certificate of that gateway was given. A CA signs for every gateway of a fleet.
    """
    from agent.registry.place import GATEWAY, parse, shown

    if lost is None and not must_name:
        return
    if lost is None and sys.stdin.isatty():
        lost = typer.prompt(_("Type the id of the lost gateway (G…)"))
    if lost is None:
        raise Refused(
            _(
                "nothing was restored: this backup is of gateway {gateway}, and nobody has said"
                " that this one is meant (--yes does not). If it is: --gateway {gateway}",
                gateway=shown(gateway),
            )
        )
    if parse(lost, GATEWAY) != gateway:
        raise Refused(
            _(
                "nothing was restored: this backup is of gateway {gateway}, not of {lost}. Find"
                " the backup of {lost}",
                gateway=shown(gateway),
                lost=shown(parse(lost, GATEWAY)),
            )
        )


def _signed(signer: x509.Certificate | None) -> str:
    """Return who signed a backup."""
    from cryptography.hazmat.primitives.hashes import SHA256

    from agent.enrolment.credential import begins, ends

    if signer is None:
        return _(
            "  NOT SIGNED: anybody who has the recovery certificate, which is not secret, may\n"
            "  have written it. Have somebody who knows the building check its content"
        )
    return _(
        "  signed with the gateway's certificate, valid {stamp} to {stamp_2},\n  issued"
        " by {rfc4514_string}, SHA-256 {hex}",
        stamp=stamp(begins(signer)),
        stamp_2=stamp(ends(signer)),
        rfc4514_string=signer.issuer.rfc4514_string(),
        hex=signer.fingerprint(SHA256()).hex(),
    )


def _state(config: Path, state: Path | None, files: dict[str, str]) -> Path:
    """Return the state directory: as given, as configured here, or as in the backup."""
    import tempfile

    if state is not None or config.exists():
        return state_of(config, state)
    # `state_of` reads a file
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "config.yaml"
        before.write_text(files.get("config.yaml", ""), encoding="utf-8")
        return state_of(before, None)


def _write_configuration(config: Path, files: dict[str, str]) -> list[Path]:
    written = []
    for name, text in files.items():
        path = config if name == "config.yaml" else config.parent / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if path.exists() and not _is_sample(path):
            # somebody may have begun to configure this machine
            path = path.with_name(f"{path.name}.restored")
        try:
            # a new machine has no folder profiles/ yet
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Refused("{path}: {reason}", path=path, reason=error) from error
        written.append(path)
    return written


def _is_sample(path: Path) -> bool:
    return SAMPLE.exists() and path.read_bytes() == SAMPLE.read_bytes()


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("{path}: this is not text", path=path) from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused("{path}: {reason}", path=path, reason=error) from error


def factory_reset(
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    yes: Annotated[bool, typer.Option("--yes", help="Skip confirmation.")] = False,
) -> None:
    """Destroy keys, registry, readings, secrets and configuration; the gateway gets a new id.

    Controls are released first. Readings that no recipient has confirmed yet are
    lost. The package
    stays installed.
    """
    from agent.cli import page_socket
    from agent.core.errors import Refused
    from agent.enrolment import page_certificate

    folder = state_of(config, state)
    if not folder.is_dir():
        raise Refused("{folder} does not exist, so there is nothing to reset", folder=folder)
    if not os.access(folder, os.W_OK):
        raise Refused(
            "this account may not write {folder}: sudo gardien factory-reset", folder=folder
        )
    if not yes:
        waits = _waits(folder)
        lost = (
            _(
                "; {values} without a receipt will be lost",
                values=n_("{number} value", "{number} values", waits),
            )
            if waits
            else ""
        )
        if not confirmed(_("Destroy everything in {folder}{lost}?", folder=folder, lost=lost)):
            raise typer.Abort
    # the agent must not run: it would own the journal, and write to devices again
    if config == DEFAULT_CONFIG:
        _stop()
        with suppress(Refused):  # `gardien status` names a page that is still open
            page_socket.shut()
    _release_all(folder)
    try:
        who = _wipe(folder)
        if config == DEFAULT_CONFIG:
            page_certificate.destroy()
            _clear_configuration(config)
    except OSError as error:
        raise Refused(
            "not everything is destroyed: {file}: {reason}. Repeat this command once the disk"
            " works, or destroy the disk or card",
            file=error.filename,
            reason=error,
        ) from error
    if config == DEFAULT_CONFIG:
        typer.echo(
            _("{config} is the sample again; all files beside it are deleted", config=config)
        )
    else:
        typer.echo(_("{config} was not changed", config=config))
    typer.echo(_("{folder} is empty; the new id of this gateway is {who}", folder=folder, who=who))


def _waits(state: Path) -> int:
    from agent.core.errors import AgentError
    from agent.local import ask_daemon

    try:
        status = ask_daemon(state, "status", {}, lambda _: None) or {}
    except AgentError:
        return 0  # the question is asked without the number
    backlogs = [uplink["backlog"] for uplink in status.get("uplinks", {}).values()]
    return sum(int(one["slots"]) + int(one["batch_rows"]) for one in backlogs)


def _stop() -> None:
    command = ("systemctl", "disable", "--now", "gardien.service")
    if shutil.which(command[0]):
        subprocess.run(command, check=False, capture_output=True, timeout=STOP_TIMEOUT)  # noqa: S603


def _release_all(state: Path) -> None:
    """Release all controls, limits too. Raises Refused if a release is not confirmed."""
    # afterwards the journal is gone, and nothing could release what is left at a device
    from agent.cli.control import given_back
    from agent.core.errors import Refused

    unconfirmed = [release for release in given_back(state, limits=True) if not release.done]
    if unconfirmed:
        failures = "\n".join(f"{release.control}: {release.words}" for release in unconfirmed)
        raise Refused(
            "{failures}\nNothing was destroyed. Repeat this command once the equipment"
            " answers, or give up the release: gardien control release {control} --abandon"
            ' "why"',
            failures=failures,
            control=unconfirmed[0].control,
        )


def _wipe(state: Path) -> str:
    """Empty the state directory, keys first, and create a new identity; return its id.

    Raises Refused while a daemon owns it. Flash memory may keep deleted data: to be sure, destroy
    the card.
    """
    from agent.core.state import owned
    from agent.registry import identity
    from agent.registry.place import shown

    with owned(state, "gardien factory-reset"):
        # without its keys, a state that is erased only in part cannot be read
        if (state / identity.KEYS).exists():
            shutil.rmtree(state / identity.KEYS)
        for path in state.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != "lock":  # held by `owned`
                path.unlink()
        return shown(identity.mint(state).gateway)


def _clear_configuration(config: Path) -> None:
    """Delete all files beside the configuration, and restore the sample."""
    # included files, lists and keys that a path names may lie in any folder there
    for path in config.parent.rglob("*"):
        if path != config and not path.is_dir():
            path.unlink()
    if SAMPLE.exists() and config.exists():
        config.write_bytes(SAMPLE.read_bytes())  # in place: owner and mode stay
