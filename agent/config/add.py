"""Write devices that a scan found into the configuration: added behind those there, all else kept.

Text is inserted, nothing is rewritten: comments, order and style of the file stay as they are.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML, MappingNode, ScalarNode

from agent.config.load import load, parse
from agent.drivers import TAKEN_FOR, family
from agent.errors import ConfigError, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping


def add_devices(path: Path, new: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Add entries under `devices:`; returns their names, made unlike those there are.

    Entries whose device the file has already, or of which nobody knows what to read, are left out.
    The file is changed in one step, or not at all: raises Refused, with what to do instead.
    """
    config = load(path)
    known = {(one.link, one.address) for one in config.devices.values()}
    added: dict[str, Mapping[str, Any]] = {}
    for name, entry in new.items():
        spoken = family(config.links[entry["link"]].driver)
        if not entry.keys() & {"profile", "points"} and spoken not in TAKEN_FOR:
            continue  # nobody knows yet what is to be read from it
        if (entry["link"], str(entry["address"])) not in known:
            added[_unlike(name, {*config.devices, *added})] = entry
    if not added:
        return []
    text = path.read_text(encoding="utf-8")
    longer = inserted(text, added, str(path))
    try:
        parse(longer, str(path))
    except ConfigError as error:
        raise Refused(f"{path} was not changed, for it would not be right:\n{error}") from error
    _replace(path, longer)
    return list(added)


def _unlike(name: str, taken: set[str]) -> str:
    tries = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
    return next(one for one in tries if one not in taken)


def inserted(text: str, entries: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """The text with more devices in it. Raises Refused where they cannot be put behind others."""
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    row, indent = _end_of_devices(text, name)
    if row is None:
        lines += ["\n", "devices:\n"]
        row = len(lines)
    while row > 0 and (not lines[row - 1].strip() or lines[row - 1].startswith("#")):
        row -= 1
    written = [_written(key, entry, " " * indent) for key, entry in entries.items()]
    return "".join([*lines[:row], *written, *lines[row:]])


def _end_of_devices(text: str, name: str) -> tuple[int | None, int]:
    """The row behind the last device, and the column at which devices stand."""
    root = YAML(pure=True).compose(text)
    for key, value in root.value if isinstance(root, MappingNode) else ():
        if not isinstance(key, ScalarNode) or key.value != "devices":
            continue
        if isinstance(value, ScalarNode) and not value.value:
            return key.start_mark.line + 1, 2
        if not isinstance(value, MappingNode) or value.flow_style or not value.value:
            row = key.start_mark.line + 1
            raise Refused(f"{name}:{row}: devices are not written one a line: paste them yourself")
        last = value.value[-1][1].end_mark
        return last.line + (1 if last.column else 0), value.value[0][0].start_mark.column
    return None, 2


def _written(name: str, entry: Mapping[str, Any], indent: str) -> str:
    """A device on one line; one with points of its own on a line for each."""
    points = entry.get("points")
    if not points:
        return f"{indent}{name}: {_flow(entry)}\n"
    rest = [f"{key}: {_scalar(value)}" for key, value in entry.items() if key != "points"]
    lines = [f"{name}:", *(f"  {one}" for one in rest), "  points:"]
    lines += [f"    {key}: {_flow(options)}" for key, options in points.items()]
    return "".join(f"{indent}{line}\n" for line in lines)


def _flow(entry: Mapping[str, Any]) -> str:
    words = ", ".join(f"{key}: {_scalar(value)}" for key, value in entry.items())
    return f"{{{words}}}"


def _scalar(value: Any) -> str:
    """A word or number as YAML takes it: quoted where it might be taken for something else."""
    text = str(value)
    plain = isinstance(value, int) or (text[:1].isalpha() and text.replace("-", "").isalnum())
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return text if plain else f'"{quoted}"'


def _replace(path: Path, text: str) -> None:
    """Put a file in another's place in one step, with its owner and mode."""
    path = path.resolve()
    was = path.stat()
    handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), was.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), was.st_uid, was.st_gid)
            os.fsync(file.fileno())
        Path(made).replace(path)
    except OSError as error:
        Path(made).unlink(missing_ok=True)
        raise Refused(f"{path} cannot be changed: {error.strerror}") from error
