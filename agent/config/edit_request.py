"""Write one change of the configuration for the agent, which may not write the file itself.

systemd starts this program as root for one connection of the agent's account (`gardien-edit@`). It
trusts nothing of what it reads (docs/decisions/056): only the edits below exist, the request names
no files, and nothing but new entries may differ afterwards. The first line of the connection is
`{"edit": …, "args": …, "by": …}`, answered by `{"result": …}` or `{"refused": …, "text": …}`. A
second line, `"undo"`, restores the file; anything else, also the end of the connection, keeps it.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import re
import socket
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.config.edit import Edited, put, shown_value, with_devices, with_lines
from agent.config.files import LARGEST, Files, YamlUnreadable, read, read_text
from agent.config.load import checked
from agent.config.models import NAME
from agent.core.errors import AgentError, ConfigError, Refused
from agent.core.i18n import N_, Text, to_wire
from agent.trust.strict import bound

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

LINE_WITHIN = 10.0
"""seconds for the request to be complete"""
VERDICT_WITHIN = 120.0
"""seconds for the agent to use the change, or to have it undone"""
MOST_ENTRIES = 2_000
LONGEST = 500
"""characters of one value"""
COPIES = 20
"""dated copies of a file that are kept; older ones are removed"""
MOST_MARKS = 500_000
OPTION = re.compile(r"[a-z][a-z_]{0,31}", re.ASCII)
PORT = re.compile(r"/dev/[A-Za-z0-9_][A-Za-z0-9_.:+/-]{0,200}", re.ASCII)
"""the only files that an entry may name"""
NEVER = {"slots"}
"""options of lines that decide who wins over whom at equipment: people write them into the file"""
DEVICE = {"link", "address", "profile", "every", "reads_a_day", "place", "points"}
POINT = {
    *("at", "channel", "unit", "scale", "every", "rating", "rolls_at", "intervals", "mean"),
}  # fmt: skip
"""not `writable`: nothing from the page makes a point writable"""
RECIPIENT = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){1,8}", re.ASCII)
CERTIFICATE = "recovery.crt"
"""file beside the configuration"""
LARGEST_CERTIFICATE = 20_000


@dataclass(frozen=True, slots=True)
class WrittenChange:
    """A change that is on the disk."""

    answer: dict[str, Any]
    """`added`: names; `file`: the file that was changed; `copy`: the file as it was before"""
    undo: Callable[[], None]
    """restores the file. Raises Refused if somebody has changed it since"""


def write(path: Path, request: Any) -> WrittenChange:
    """Carry out one edit of the configuration at `path`. It is on the disk when this returns.

    Raises Refused, and then nothing was changed.
    """
    if not isinstance(request, dict) or not isinstance(request.get("args"), dict):
        raise Refused("not an edit: the request and its arguments must be objects")
    edit = EDITS.get(str(request.get("edit")))
    if edit is None:
        raise Refused("this version has no edit {name}", name=_printed(request.get("edit")))
    for file in (path, path.parent):
        _must_be_safe(file)
    files = Files(path)
    checked(files)  # mistakes that the file has already must not be blamed on the change
    before = read(files.text(), files.include).data
    certificate = path.with_name(CERTIFICATE)
    edited = edit(files, certificate, request["args"])
    if not edited.added:
        return WrittenChange({"added": [], "file": str(edited.home), "copy": None}, lambda: None)
    _nothing_else(before, edited)
    return _written(files, edited)


def _written(files: Files, edited: Edited) -> WrittenChange:
    home = edited.home
    _must_be_safe(home)
    old = files.text(home)
    # whoever edits it at this moment would lose their change, and so would we
    files.must_be_whole()
    copy = home.with_name(f"{home.name}.web-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}")
    if not copy.exists():
        files.keep(home, copy)
    edited.files.write(home)
    _tidy(home)

    def undo() -> None:
        if read_text(home) != edited.files.text(home):
            raise Refused("{home} was changed meanwhile, so it stays as it is", home=home)
        edited.files.with_text(home, old).write(home)

    names = [one.partition("/")[2] for one in edited.added]
    answer = {"added": names, "file": str(home), "copy": str(copy)}
    return WrittenChange(answer, undo)


def _tidy(home: Path) -> None:
    """Remove the oldest copies that earlier changes have left: they could fill the disk."""
    ours = re.compile(rf"{re.escape(home.name)}\.web-\d{{8}}T\d{{6}}Z")
    copies = sorted(one for one in home.parent.iterdir() if ours.fullmatch(one.name))
    for old in copies[:-COPIES]:
        old.unlink(missing_ok=True)


def _must_be_safe(file: Path) -> None:
    """Refuse a link, which may lead out of the folder, and what other accounts may change."""
    try:
        mode = file.lstat().st_mode
    except OSError as error:
        raise Refused("{path}: {reason}", path=file, reason=error.strerror) from error
    if stat.S_ISLNK(mode):
        raise Refused("{path} is a symbolic link: change the file by hand", path=file)
    if os.geteuid() == 0 and mode & 0o022:
        raise Refused("{path} can be changed by other accounts than root: sudo chmod go-w {path}",
                      path=file)  # fmt: skip


def _nothing_else(before: Any, edited: Edited) -> None:
    """Check that new entries are the only difference. Raises Refused."""
    try:
        after = read(edited.files.text(), edited.files.include).data
    except YamlUnreadable as error:
        raise Refused("{what}", what=error.what) from error
    expected = {section: dict(entries) for section, entries in _sections(before).items()}
    for section, name in (one.split("/", 1) for one in edited.added):
        expected.setdefault(section, {})[name] = _sections(after).get(section, {}).get(name)
    rest = {key: value for key, value in before.items() if key not in SECTIONS}
    rest_after = {key: value for key, value in after.items() if key not in SECTIONS}
    if rest != rest_after or {k: v for k, v in expected.items() if v} != _sections(after):
        raise Refused("nothing was changed: the edit would change more than its own entries")


SECTIONS = ("links", "devices", "uplinks", "backup")


def _sections(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: data[name] for name in SECTIONS if data.get(name)}


# the edits


def _lines(files: Files, _certificate: Path, args: dict[str, Any]) -> Edited:
    """Add lines, as a search has found them or as a person has typed them."""
    entries = _entries(args, "lines")
    for name, entry in entries.items():
        _flat(name, entry, None)
        if not isinstance(entry.get("driver"), str):
            raise Refused("{name}: a line needs its `driver`", name=name)
    return _named("links", with_lines(files, entries))


def _devices(files: Files, _certificate: Path, args: dict[str, Any]) -> Edited:
    """Add devices, as a scan lists them; also the inputs of pulse collectors."""
    return _named("devices", with_devices(files, device_entries(args)))


def device_entries(args: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the entries of `{"devices": {name: entry}}`, checked. Raises Refused."""
    entries = _entries(args, "devices")
    for name, entry in entries.items():
        points = entry.get("points", {})
        if not isinstance(points, dict):
            raise Refused("{name}: `points` must be an object", name=name)
        _flat(name, {key: value for key, value in entry.items() if key != "points"}, DEVICE)
        link, address = entry.get("link"), entry.get("address")
        if not isinstance(link, str) or not isinstance(address, str | int):
            raise Refused("{name}: a device needs `link` and `address`", name=name)
        for point, options in points.items():
            _flat(f"{name}/{_name(point)}", options, POINT)
    return entries


def _uplink(files: Files, _certificate: Path, args: dict[str, Any]) -> Edited:
    """Add an uplink with a recipient and its address, and nothing else."""
    recipient, url = args.get("recipient"), args.get("url")
    if set(args) - {"recipient", "url"} or not isinstance(recipient, str):
        raise Refused("an uplink needs its `recipient` and its `url`, and nothing else")
    if not RECIPIENT.fullmatch(recipient):
        raise Refused("a recipient is a DNS name, such as energie.metropole.example")
    if not isinstance(url, str) or not url.startswith(("mqtts://", "https://", "mqtt://")):
        raise Refused("the address of a platform begins with mqtts:// or https://")
    _flat(recipient, {"url": url}, None)
    name = recipient.partition(".")[0]
    if name in checked(files).uplinks:
        raise Refused("there is an uplink {name} already: change it in the file", name=name)
    transport = "mqtt" if url.startswith("mqtt") else "https"
    value = shown_value({"recipient": recipient, "transport": transport, "url": url})
    changed, home = put(files, ("uplinks", name), value)
    _check(changed, home)
    return Edited([f"uplinks/{name}"], home, changed)


def _recovery(files: Files, certificate: Path, args: dict[str, Any]) -> Edited:
    """Name the recovery certificate, which is written beside the configuration. Only the first:
    who replaces it decides who can open the backups.
    """
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415 -- one edit needs it

    text = args.get("certificate")
    if set(args) != {"certificate"} or not isinstance(text, str):
        raise Refused("the recovery certificate is missing")
    if checked(files).backup is not None:
        raise Refused("a recovery certificate is configured already: change it in the file")
    try:
        load_pem_x509_certificate(text.encode("ascii")[:LARGEST_CERTIFICATE])
    except ValueError as error:
        raise Refused("this is no certificate (PEM)") from error
    if certificate.is_symlink() or (certificate.exists() and read_text(certificate) != text):
        raise Refused("{path} is another certificate: name it in the file", path=certificate)
    changed, home = put(files, ("backup", "to"), str(certificate))
    _check(changed, home)
    if not certificate.exists():
        certificate.touch(0o644, exist_ok=False)
        Files(certificate).with_text(certificate, text).write(certificate)
    return Edited(["backup/to"], home, changed)


EDITS: Mapping[str, Callable[[Files, Path, dict[str, Any]], Edited]] = {
    "lines.add": _lines,
    "devices.add": _devices,
    "uplink.add": _uplink,
    "backup.to": _recovery,
}


def _named(section: str, edited: Edited) -> Edited:
    return Edited([f"{section}/{name}" for name in edited.added], edited.home, edited.files)


def _check(files: Files, home: Path) -> None:
    try:
        checked(files)
    except ConfigError as error:
        raise Refused(
            "{home} was not changed, because the result would have mistakes:\n{error}",
            home=home,
            error=error,
        ) from error


def _entries(args: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    entries = args.get(name)
    if set(args) != {name} or not isinstance(entries, dict) or len(entries) > MOST_ENTRIES:
        raise Refused(
            "expected `{name}`: at most {most} entries by name", name=name, most=MOST_ENTRIES
        )
    for key, entry in entries.items():
        _name(key)
        if not isinstance(entry, dict):
            raise Refused("{name}: an entry must be an object", name=key)
    return dict(entries)


def _name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise Refused("{name}: a name has letters, digits, - and _ only, at most 64 of them",
                      name=_printed(name))  # fmt: skip
    return name


def _flat(where: str, options: Any, known: Collection[str] | None) -> None:
    """Check options and values as plain data. `known`: the options; None: the driver's."""
    if not isinstance(options, dict):
        raise Refused("{name}: its options must be an object", name=where)
    for key, value in options.items():
        right = OPTION.fullmatch(key) and key not in NEVER and (known is None or key in known)
        if not right:
            raise Refused(
                "{name}: the option {option} can only be changed in the file",
                name=where,
                option=_printed(key),
            )
        for item in value if isinstance(value, list) else [value]:
            if not _plain(item):
                raise Refused(
                    "{name}: {option} must be a short text or a number, or a list of them",
                    name=where,
                    option=key,
                )


def _plain(value: Any) -> bool:
    """Whether a value is plain data that names no file but a port."""
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 10**15):
        return True
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable():
        return False
    return not value.startswith("/") or (PORT.fullmatch(value) is not None and ".." not in value)


def _printed(value: object) -> str:
    return json.dumps(value)[:80]


# the program


def _line(door: socket.socket, most: int) -> bytes:
    """Read one line; empty: the other side has ended. Raises Refused, TimeoutError."""
    line = bytearray()
    while not line.endswith(b"\n"):
        if not (piece := door.recv(65_536)):
            break
        line += piece
        if len(line) > most:
            raise Refused("the request has more than {most} bytes", most=most)
    return bytes(line)


def parsed(line: bytes) -> Any:
    """Return the JSON of a line. Raises Refused."""
    try:
        text = line.decode("utf-8")
        bound(text, MOST_MARKS)
        return json.loads(text)
    except (ValueError, RecursionError, AgentError) as error:
        raise Refused("not an edit that this version knows: {error}", error=error) from error


FAILED = N_("nothing more was done, because of an error in gardien: journalctl -u 'gardien-edit@*'")


def serve(door: socket.socket, path: Path) -> None:
    """Carry out the request of one connection, and undo it if that is asked."""
    folder = None
    try:
        door.settimeout(LINE_WITHIN)
        request = parsed(_line(door, LARGEST))
        # the program of the connection before may not have ended yet
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(folder, fcntl.LOCK_EX)
        change = write(path, request)
        _note(f"{_printed(request['edit'])}: {change.answer} by {_printed(request.get('by'))}")
        _send(door, {"result": change.answer})
        door.settimeout(VERDICT_WITHIN)
        if _line(door, 100) == b'"undo"\n':
            change.undo()
            _note("undone")
            _send(door, {"result": {}})
    except AgentError as error:
        _note(f"refused: {error}")
        _send(door, {"refused": str(error), "text": error.text})
    except OSError as error:  # the agent is gone or does not ask: what was written is whole
        _note(f"the connection has ended: {error}")
    except Exception as error:
        _send(door, {"refused": FAILED, "text": Text(FAILED)})
        _note(f"an error in gardien: {error!r}")
        raise
    finally:
        if folder is not None:
            os.close(folder)


def _send(door: socket.socket, message: dict[str, Any]) -> None:
    door.sendall(json.dumps(to_wire(message)).encode() + b"\n")


def _note(text: str) -> None:
    sys.stderr.write(f"{Text('{text}', text=text)}\n"[:1_000])


if __name__ == "__main__":
    serve(socket.socket(fileno=0), Path(sys.argv[1]))
