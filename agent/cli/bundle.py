"""`gardien support-bundle`: one file for remote support, without readings and secrets.

Dwellings, occupancies, meters and devices have pseudonyms in it, the same ones throughout.
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
COMMAND_TIMEOUT = 30.0
"""seconds for one of `COMMANDS`"""
NAMING_CALLS = ("place.list", "alias.list", "occupancy.list", "meter.list", "consent.list")
"""calls that return the names of dwellings, if the registry's own file is not readable"""
PHRASE = "with dwellings"
"""what a person types to confirm that the names stay"""


def support_bundle(
    out: Annotated[Path, typer.Option("--out", help="The file to write; it must not exist.")],
    with_dwellings: Annotated[
        bool,
        typer.Option("--with-dwellings", help="Keep the names of dwellings, meters and devices."),
    ] = False,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Write one file with log, status, findings and redacted configuration.

    It contains no readings, keys, passwords or comments. Dwellings, occupancies, meters and devices
    are called dwelling-1, occupancy-1, meter-1, device-1 throughout. With --with-dwellings they
    keep their names, after confirmation.
    """
    from agent.cli.redact import Pseudonyms, redact, take_out
    from agent.core.errors import Refused

    if with_dwellings:
        _confirm()
    folder = state_of(config, state)
    known = list(_secrets(config))
    names_of = None if with_dwellings else _pseudonyms(Pseudonyms(), config, folder)
    try:
        # new and unreadable for others from the start: names may be in it
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Refused(f"{out}: {error.strerror}") from error
    names = []
    with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, whole in _parts(config, folder):
            # secrets first: a replaced name inside a secret would hide it from the search
            shown, text = name, take_out(whole, known)
            if names_of is not None:
                shown, text = _without_names(name, text, names_of)
            _add(tar, shown, redact(text))
            names.append(shown)
    typer.echo(f"{out}: {', '.join(names)}")
    dwellings = "It names dwellings" if with_dwellings else "It does not name dwellings"
    typer.echo(f"{dwellings}, and has no readings and no secrets.", nl=False)
    typer.echo(f" Read it before you send it: tar xzOf {out}")


def _confirm() -> None:
    """Ask for confirmation. Raises Abort if the person does not confirm."""
    typer.echo(
        "The file will name dwellings, meters and devices, so it can be linked to people. Send it"
        " only to those who may know them."
    )
    if typer.prompt(f'Type "{PHRASE}" to confirm').strip() != PHRASE:
        typer.echo("nothing was written")
        raise typer.Abort


def _pseudonyms(names_of: Pseudonyms, config: Path, state: Path) -> Pseudonyms:
    """Learn every name of a dwelling, meter or device in the registry and the configuration.

    Raises Refused if the registry cannot be read: a name that is not known would stay in the texts.
    """
    import re

    from agent.core.errors import AgentError, NotRecorded, Refused
    from agent.registry.storage import RegistryStorage

    try:
        names_of.learn(RegistryStorage(state / "registry.json").read() or {})
    except NotRecorded as error:
        try:
            for call in NAMING_CALLS:
                names_of.learn(ask(config, state, call))
        except AgentError:
            raise Refused(
                f"the names of dwellings cannot be read ({error}), so they cannot be removed. Run"
                " the command with sudo, or with --with-dwellings"
            ) from error
    status = (_status(state) or {}).get("devices") or {}
    written, plant = _devices(config)
    # common plant keeps its names: without them nobody could help with controls
    for device in {*written, *status} - plant:
        names_of.of("device", device)
    for device in status.values():
        names_of.learn({"serial": device.get("serial")})
    # serial numbers that are configured, but not in the registry yet
    for path in config.parent.glob("*.yaml"):
        for serial in re.findall(r"\bserial[\"']?:\s*[\"']?([^\s\"',}#]+)", _read(path)):
            names_of.learn({"serial": serial})
    return names_of


def _devices(config: Path) -> tuple[set[str], set[str]]:
    """Return the names of the configured devices, and of those that are common plant: devices that
    controls command, and devices that measure only common areas.

    If the file does not load, no device counts as common plant.
    """
    from agent.cli.redact import is_common
    from agent.config import load
    from agent.core.errors import AgentError

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
    """Yield the keys below `devices:`, and the top keys of included files, from the plain text."""
    import re

    for path in (config, *config.parent.glob("*.yaml")):
        text = _read(path)
        block = re.search(r"(?m)^devices:[^\n]*\n((?:[ \t]+[^\n]*\n?|[ \t]*\n)*)", text)
        lines = (block[1] if block else "" if path == config else text).splitlines()
        depth = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        for line in lines:
            if key := re.match(rf"[ \t]{{{depth}}}[\"']?([^\s\"':#{{}}]+)[\"']?\s*:", line):
                yield key[1]


def _without_names(name: str, text: str, names_of: Pseudonyms) -> tuple[str, str]:
    """Return a part's name and text without any name of a dwelling."""
    import json

    from agent.cli.redact import without_comments

    if name.endswith(".json"):
        document = names_of.in_place(json.loads(text))
        return name, json.dumps(document, indent=1, ensure_ascii=False)
    if is_config := name.startswith("config/"):
        text = without_comments(text)
    return names_of.replace(name), names_of.replace(text, numbers=is_config or name == "log.txt")


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
        yield name, _output_of(command)


def _status(state: Path) -> Any:
    """Return the daemon's status without readings."""
    from agent.core.errors import AgentError
    from agent.local import ask_daemon

    try:
        status = ask_daemon(state, "status", {}, lambda _: None)
    except AgentError as error:
        return {"refused": str(error)}
    # the names of the values stay: they show which points are read
    for device in (status or {}).get("devices", {}).values():
        device["latest"] = sorted(device.get("latest") or ())
    for control in (status or {}).get("controls", {}).values():
        guards = control["guards"].items()
        control["guards"] = {
            name: "unknown" if value == "unknown" else "known" for name, value in guards
        }
        # its text may contain a guard's reading
        control["forbidden"] = bool(control["forbidden"])
    return status


def _doctor(config: Path, state: Path) -> str:
    import json

    from agent.cli.doctor import findings

    return json.dumps([one.members() for one in findings(config, state)], indent=1)


def _listing(state: Path) -> str:
    """Return names, sizes, owners and modes of the state's files, without contents."""
    return _output_of(("ls", "-lanR", str(state)))


def _output_of(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 -- fixed words, no shell
            command, check=False, capture_output=True, timeout=COMMAND_TIMEOUT
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
    """Yield every secret in the known places, so that it is removed wherever it was copied."""
    import re

    # line by line: a log may have copied one line of a secret that has several
    for path in (config.parent / "credentials").glob("*"):
        yield from _read(path).splitlines() if path.is_file() else ()
    written = _read(config)
    for kind, name in re.findall(r"\b(file|env):([^\s\"',}#]+)", written):
        if kind == "env":
            yield os.environ.get(name, "")
        elif Path(name).is_file():
            yield from _read(Path(name)).splitlines()
