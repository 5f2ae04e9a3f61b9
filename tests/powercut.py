"""A power cut without a plug: record what a program does to a folder, then rebuild the folder as
a cut at any moment may leave it.

    trace = powercut.record([sys.executable, "child.py", str(folder)], folder)
    for cut in trace.cuts(150, random.Random(7)):
        cut.restore(fresh_folder)
        assert everything in cut.acks is in what opens from fresh_folder

The child makes its durable changes in `folder` (absolute paths, one process, no mmap) and after
each one does `powercut.ack("7")`; an ack counts for a cut only if it was written before the cut.

The disk is as bad as POSIX allows a journaling one to be:
- bytes are safe once fsync or fdatasync of their file returned; of later ones any 4 KiB pieces
  survive, in any combination;
- a name (create, rename, unlink, mkdir) is safe once its folder was fsynced; of later changes to
  names the first few survive, in the order in which they were made.
Not modelled: a device that lies about its flush, a 4 KiB piece torn in itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

PIECE = 4096
CALLS = (
    "openat,open,creat,close,write,pwrite64,writev,pwritev,lseek,dup,dup2,fsync,fdatasync,ftruncate,"
    "rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir"
)
CALL = re.compile(r"^(\d+)\s+(\w+)\((.*)\)\s+= (-?\d+)(?:<(.*)>)?(?:\s.*)?$")
HALF = re.compile(r"^(\d+)\s+(.*?)\s*<unfinished \.\.\.>$")
REST = re.compile(r"^(\d+)\s+<\.\.\. \w+ resumed>\s*(.*)$")
STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
FD = re.compile(r"^(\d+)(?:<|,|$)")
ACK = b"ack "


def available() -> bool:
    """Whether strace is there and may trace."""
    strace = shutil.which("strace")
    return (
        bool(strace)
        and subprocess.run([strace, "-o/dev/null", "true"], check=False).returncode == 0
    )


def ack(what: str) -> None:
    """For the child: what was promised to last; one write, so that it has one place in time."""
    os.write(1, ACK + what.encode() + b"\n")


@dataclass
class File:
    """One inode: the bytes that are safe, and what was done since."""

    safe: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(offset, bytes), or (new length, None) for a truncation"""
    size: int = 0

    def write(self, at: int, data: bytes) -> None:
        self.size = max(self.size, at + len(data))
        while data:
            room = PIECE - at % PIECE
            self.pending.append((at, data[:room]))
            at, data = at + room, data[room:]

    def truncate(self, size: int) -> None:
        self.size = size
        self.pending.append((size, None))

    def sync(self) -> None:
        self.safe, self.pending = _apply(self.safe, self.pending), []


@dataclass(frozen=True)
class Cut:
    """What one cut leaves."""

    acks: list[str]
    files: dict[str, bytes | None]
    """content by path relative to the folder; None: a folder"""

    def restore(self, into: Path) -> None:
        """Write it into a folder, emptied first."""
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        for name, content in sorted(self.files.items()):
            path = into / name
            if content is None:
                path.mkdir(exist_ok=True)
            elif path.parent.is_dir():
                path.write_bytes(content)


Op = tuple[str, ...]
"""("link", path, inode number) | ("drop", path) | ("move", from, to) | ("mkdir", path)"""


class Disk:
    """The folder while the recorded calls are played."""

    def __init__(self, root: str, before: dict[str, bytes | None]) -> None:
        self.root = root
        self.inodes: list[File] = []
        self.safe: dict[str, int | None] = {root: None}
        """path to inode number; None: a folder"""
        for name, content in before.items():
            self.safe[f"{root}/{name}"] = None if content is None else self._new(content)
        self.now = dict(self.safe)
        self.pending: list[Op] = []
        self.fds: dict[int, tuple[str, int | None, int, bool]] = {}
        """path, inode number, position, O_APPEND"""
        self.acks: list[str] = []

    def _new(self, content: bytes = b"") -> int:
        self.inodes.append(File(safe=content, size=len(content)))
        return len(self.inodes) - 1

    def _name(self, *op: str) -> None:
        self.pending.append(op)
        renamed(self.now, op)

    def _inside(self, path: str) -> bool:
        return path == self.root or path.startswith(self.root + "/")

    def play(self, call: str, args: str, result: int, opened: str | None) -> None:
        """Do what one successful system call did."""
        texts = [_bytes(match) for match in STRING.findall(args)]
        if call in {"openat", "open", "creat"} and opened is not None:
            self._open(_bytes(opened).decode(), "O_TRUNC" in args or call == "creat", result, args)
        elif call.startswith(("rename", "unlink", "mkdir", "rmdir")):
            self._paths(call, [text.decode() for text in texts])
        elif (match := FD.match(args)) is not None:
            self._fd(call, int(match[1]), b"".join(texts), args, result)

    def _open(self, path: str, truncates: bool, fd: int, args: str) -> None:
        self.fds.pop(fd, None)
        if not self._inside(path):
            return
        if path not in self.now:
            self._name("link", path, str(self._new()))
        inode = self.now[path]
        if truncates and inode is not None and self.inodes[inode].size:
            self.inodes[inode].truncate(0)
        self.fds[fd] = (path, inode, 0, "O_APPEND" in args)

    def _paths(self, call: str, paths: list[str]) -> None:
        if not self._inside(paths[0]):
            return
        if call.startswith("rename"):
            self._name("move", paths[0], paths[1])
        else:
            self._name("mkdir" if call.startswith("mkdir") else "drop", paths[0])

    def _fd(self, call: str, fd: int, data: bytes, args: str, result: int) -> None:  # noqa: C901 -- one line a call
        if fd == 1 and data.startswith(ACK):
            self.acks.append(data.decode().split()[1])
        if fd not in self.fds:
            return
        path, inode, at, append = self.fds[fd]
        if call == "close":
            del self.fds[fd]
        elif call in {"dup", "dup2"}:
            self.fds[result] = self.fds[fd]
        elif inode is None:
            if call in {"fsync", "fdatasync"}:
                self._sync_names(path)
        elif call in {"fsync", "fdatasync"}:
            self.inodes[inode].sync()
        elif call == "ftruncate":
            self.inodes[inode].truncate(int(args.rsplit(",", 1)[1]))
        elif call.startswith("pwrite"):
            self.inodes[inode].write(int(args.rsplit(",", 1)[1]), data[:result])
        elif call.startswith("write"):
            at = self.inodes[inode].size if append else at
            self.inodes[inode].write(at, data[:result])
            self.fds[fd] = (path, inode, at + result, append)
        elif call == "lseek":
            self.fds[fd] = (path, inode, result, append)

    def _sync_names(self, folder: str) -> None:
        """Names of this folder are safe, and (one ordered journal) all changes made before them."""
        mine = [i for i, op in enumerate(self.pending, 1) if folder in folders_of(op)]
        last = max(mine, default=0)
        for op in self.pending[:last]:
            renamed(self.safe, op)
        del self.pending[:last]

    def cut(self, rng: random.Random) -> Cut:
        """The power goes now."""
        names = dict(self.safe)
        for op in self.pending[: rng.randint(0, len(self.pending))]:
            renamed(names, op)
        files: dict[str, bytes | None] = {}
        for path, inode in names.items():
            if path != self.root:
                content = None if inode is None else self._survivor(self.inodes[inode], rng)
                files[os.path.relpath(path, self.root)] = content
        return Cut(list(self.acks), files)

    @staticmethod
    def _survivor(file: File, rng: random.Random) -> bytes:
        luck = rng.choice((0.0, 0.5, 1.0))
        return _apply(file.safe, [piece for piece in file.pending if rng.random() < luck])


@dataclass(frozen=True)
class Trace:
    """What the child did to the folder, call by call."""

    root: str
    before: dict[str, bytes | None]
    calls: list[tuple[str, str, int, str | None]]

    def cuts(self, many: int, rng: random.Random) -> Iterator[Cut]:
        """Cuts at `many` random moments, the last one after everything."""
        moments = sorted(rng.choices(range(self._first(), len(self.calls) + 1), k=many - 1))
        disk, done = Disk(self.root, self.before), 0
        for moment in [*moments, len(self.calls)]:
            for call in self.calls[done:moment]:
                disk.play(*call)
            done = moment
            yield disk.cut(rng)

    def _first(self) -> int:
        """Where the child first touches the folder: the interpreter's start is of no interest."""
        root = "".join(f"\\x{byte:02x}" for byte in self.root.encode())
        return next(
            i for i, call in enumerate(self.calls) if root in call[1] or root in (call[3] or "")
        )


def record(argv: list[str], folder: Path, timeout: float = 60) -> Trace:
    """Run the child to its end under strace. Raises CalledProcessError when it fails."""
    root = str(folder.resolve())
    before = {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in folder.resolve().rglob("*")
    }
    log = folder.resolve().parent / f"{folder.name}.strace"
    strace = ["strace", "-f", "-y", "-xx", "-s", "16777216", "-e", "signal=none"]
    subprocess.run(
        [*strace, "-e", f"trace={CALLS}", "-o", str(log), *argv],
        check=True,
        timeout=timeout,
        stdout=subprocess.PIPE,
    )
    calls = list(_calls(log.read_text()))
    log.unlink()
    return Trace(root, before, calls)


def _calls(text: str) -> Iterator[tuple[str, str, int, str | None]]:
    halves: dict[str, str] = {}
    for line in text.splitlines():
        if half := HALF.match(line):
            halves[half[1]] = half[2]
            continue
        rest = REST.match(line)
        whole = f"{rest[1]} {halves.pop(rest[1])}{rest[2]}" if rest else line
        if (call := CALL.match(whole)) and int(call[4]) >= 0:
            yield call[2], call[3], int(call[4]), call[5]


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _apply(content: bytes, pieces: list[tuple[int, bytes | None]]) -> bytes:
    body = bytearray(content)
    for at, data in pieces:
        if data is None:
            del body[at:]
            body.extend(bytes(at - len(body)))
        else:
            body.extend(bytes(max(0, at - len(body))))
            body[at : at + len(data)] = data
    return bytes(body)


def folders_of(op: Op) -> set[str]:
    """The folders whose names a change changes."""
    paths = op[1:3] if op[0] == "move" else op[1:2]
    return {path.rpartition("/")[0] for path in paths}


def renamed(names: dict[str, int | None], op: Op) -> None:
    """Apply one change of names; what a later one of a lost folder asks is lost with it."""
    kind, path = op[0], op[1]
    if kind == "link":
        names[path] = int(op[2])
    elif kind == "mkdir":
        names[path] = None
    elif kind == "drop":
        names.pop(path, None)
    else:
        moved = [name for name in names if name == path or name.startswith(path + "/")]
        for name in moved:
            names[op[2] + name[len(path) :]] = names.pop(name)
