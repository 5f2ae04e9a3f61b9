"""`gardien support-bundle`: what somebody far away needs to help; no readings and no secrets."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, State, state_of

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = {
    "log.txt": ("journalctl", "-u", "gardien", "-n", "20000", "-o", "short-iso", "--no-pager"),
    "unit.txt": ("systemctl", "cat", "--no-pager", "gardien.service", "gardien.socket"),
    "unit-state.txt": ("systemctl", "show", "--no-pager", "gardien.service"),
    "time.txt": ("timedatectl", "show", "--all"),
    "disks.txt": ("df", "-h"),
    "addresses.txt": ("ip", "-brief", "address"),
    "package.txt": ("dpkg-query", "-s", "gardien"),
}
WITHIN = 30.0
"""seconds for one of them"""


def support_bundle(
    out: Annotated[Path, typer.Option("--out", help="The file to write; must not exist yet.")],
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Write one file with log, status, findings and redacted configuration.

    Readings, keys and passwords are not in it; names of devices and numbers of meters are.
    """
    from agent.cli.redact import redact
    from agent.errors import Refused

    folder = state_of(config, state)
    known = list(_secrets(config))
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Refused(f"{out}: {error.strerror}") from error
    names = []
    with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, text in _parts(config, folder):
            _add(tar, name, redact(text, known))
            names.append(name)
    typer.echo(f"{out}: {', '.join(names)}")
    typer.echo("no readings and no secrets are in it; look before you send it: tar xzOf", nl=False)
    typer.echo(f" {out}")


def _add(tar: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    entry = tarfile.TarInfo(f"gardien-support/{name}")
    entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
    tar.addfile(entry, io.BytesIO(data))


def _parts(config: Path, state: Path) -> Iterator[tuple[str, str]]:
    import json

    folder = config.parent
    for path in sorted({config, *folder.glob("*.yaml"), *folder.glob("profiles/*.yaml")}):
        yield f"config/{path.relative_to(folder)}", _read(path)
    yield "status.json", json.dumps(_status(state), indent=1, ensure_ascii=False)
    yield "doctor.json", _doctor(config, state)
    yield "state.txt", _listing(state)
    for name, command in COMMANDS.items():
        yield name, _said(command)


def _status(state: Path) -> Any:
    """The daemon's status without a single reading."""
    from agent.errors import AgentError
    from agent.local import ask_daemon

    try:
        status = ask_daemon(state, "status", {}, lambda _: None)
    except AgentError as error:
        return {"refused": str(error)}
    for device in (status or {}).get("devices", {}).values():
        device["latest"] = sorted(device.get("latest") or ())
    for control in (status or {}).get("controls", {}).values():
        said = control["guards"].items()
        control["guards"] = {name: "unknown" if one == "unknown" else "known" for name, one in said}
        control["forbidden"] = bool(control["forbidden"])  # it may say what a guard has seen
    return status


def _doctor(config: Path, state: Path) -> str:
    import json
    from dataclasses import asdict

    from agent.cli.doctor import findings

    return json.dumps([asdict(one) for one in findings(config, state)], indent=1)


def _listing(state: Path) -> str:
    """Names, sizes, owners and modes, never contents."""
    return _said(("ls", "-lanR", str(state)))


def _said(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 -- fixed words, no shell
            command, check=False, capture_output=True, timeout=WITHIN
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}\n"
    return (done.stdout + done.stderr).decode(errors="replace")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"{path}: {error.strerror}\n"


def _secrets(config: Path) -> Iterator[str]:
    """Every secret that lies where secrets lie, so that none is in any text, wherever it went."""
    import re

    for path in (config.parent / "credentials").glob("*"):
        yield from _read(path).splitlines() if path.is_file() else ()
    written = _read(config)
    for kind, name in re.findall(r"\b(file|env):([^\s\"',}#]+)", written):
        if kind == "env":
            yield os.environ.get(name, "")
        elif Path(name).is_file():
            yield from _read(Path(name)).splitlines()
