"""`gardien support-bundle`: what somebody far away needs to help; no readings and no secrets.

Dwellings, who lives there, meters and devices have pseudonyms in it, the same ones throughout.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, State, ask, state_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.cli.redact import Pseudonyms

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
ASKED = ("place.list", "alias.list", "occupancy.list", "meter.list", "consent.list")
"""what names dwellings, where the registry's own file is not readable"""
MEANT = "with dwellings"
"""what a person types who wants their names in it"""


def support_bundle(
    out: Annotated[Path, typer.Option("--out", help="The file to write; must not exist yet.")],
    with_dwellings: Annotated[
        bool,
        typer.Option("--with-dwellings", help="With the names of dwellings, meters and devices."),
    ] = False,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Write one file with log, status, findings and redacted configuration.

    Readings, keys, passwords and comments are not in it. Dwellings, who lives there, meters and
    devices are called dwelling-1, occupancy-1, meter-1, device-1 throughout. --with-dwellings
    leaves their names, and asks whether that is meant.
    """
    from agent.cli.redact import Pseudonyms, redact, take_out
    from agent.errors import Refused

    if with_dwellings:
        _confirm()
    folder = state_of(config, state)
    known = list(_secrets(config))
    names_of = None if with_dwellings else _pseudonyms(Pseudonyms(), config, folder)
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Refused(f"{out}: {error.strerror}") from error
    names = []
    with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, whole in _parts(config, folder):
            shown, text = name, take_out(whole, known)  # before a name in one is replaced
            if names_of is not None:
                shown, text = _without_names(name, text, names_of)
            _add(tar, shown, redact(text))
            names.append(shown)
    typer.echo(f"{out}: {', '.join(names)}")
    dwellings = "dwellings are named in it" if with_dwellings else "it names no dwelling"
    typer.echo(f"no readings and no secrets are in it, and {dwellings};", nl=False)
    typer.echo(f" look before you send it: tar xzOf {out}")


def _confirm() -> None:
    """Raises Abort unless a person types that it is meant."""
    typer.echo(
        "The file will name dwellings, meters and devices: whoever has it can tell whose they are."
        " Send it to nobody who may not know."
    )
    if typer.prompt(f'Type "{MEANT}" if you mean it').strip() != MEANT:
        typer.echo("nothing was written")
        raise typer.Abort


def _pseudonyms(names_of: Pseudonyms, config: Path, state: Path) -> Pseudonyms:
    """Know every name of a dwelling, a meter or a device that the registry and the files have.

    Raises Refused where the registry's names cannot be had: what it does not know stays in texts.
    """
    import json
    import re

    from agent.errors import AgentError, Refused

    try:
        names_of.learn(json.loads((state / "registry.json").read_bytes()))
    except FileNotFoundError:
        pass  # nothing was ever recorded
    except (OSError, ValueError) as error:
        try:
            for call in ASKED:
                names_of.learn(ask(config, state, call))
        except AgentError:
            raise Refused(
                f"the names of dwellings are not readable ({error}), so they cannot be taken out:"
                " run it with sudo, or with --with-dwellings"
            ) from error
    status = (_status(state) or {}).get("devices") or {}
    written, plant = _devices(config)
    for device in {*written, *status} - plant:
        names_of.of("device", device)
    for device in status.values():
        names_of.learn({"serial": device.get("serial")})
    for path in config.parent.glob("*.yaml"):
        for serial in re.findall(r"\bserial[\"']?:\s*[\"']?([^\s\"',}#]+)", _read(path)):
            names_of.learn({"serial": serial})
    return names_of


def _devices(config: Path) -> tuple[set[str], set[str]]:
    """Names of the devices that are configured, and of common plant among them: what is commanded,
    and what measures only where nobody lives. Of a file that does not load nobody knows.
    """
    from agent.cli.redact import is_common
    from agent.config import load
    from agent.errors import AgentError

    try:
        loaded = load(config)
    except AgentError:
        return set(_written_devices(config)), set()
    plant = {control.point.partition("/")[0] for control in loaded.controls.values()}
    for name, points in loaded.points().items():
        if points and all(point.place and is_common(point.place) for point in points):
            plant.add(name)
    return set(loaded.devices), plant


def _written_devices(config: Path) -> Iterator[str]:
    """What stands below `devices:`, and the first words of files that hold nothing else."""
    import re

    for path in (config, *config.parent.glob("*.yaml")):
        text = _read(path)
        block = re.search(r"(?m)^devices:[^\n]*\n((?:[ \t]+[^\n]*\n?|[ \t]*\n)*)", text)
        lines = (block[1] if block else "" if path == config else text).splitlines()
        depth = min((len(one) - len(one.lstrip()) for one in lines if one.strip()), default=0)
        for line in lines:
            if found := re.match(rf"[ \t]{{{depth}}}[\"']?([^\s\"':#{{}}]+)[\"']?\s*:", line):
                yield found[1]


def _without_names(name: str, text: str, names_of: Pseudonyms) -> tuple[str, str]:
    """A part of the bundle, its own name too, that names no dwelling."""
    import json

    from agent.cli.redact import without_comments

    if name.endswith(".json"):
        told = names_of.in_place(json.loads(text))
        return name, json.dumps(told, indent=1, ensure_ascii=False)
    if written := name.startswith("config/"):
        text = without_comments(text)
    return names_of.replace(name), names_of.replace(text, numbers=written or name == "log.txt")


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
