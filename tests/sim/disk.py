"""A disk below the real agent: what is in the folder is what a running system sees of it.

    disk = Disk(root, seed)             # what is in the folder now is safe
    disk.install(clock=..., wall=...)   # in the process of a life, before the agent opens anything
    disk.begin(fault); disk.end(fault)  # full, readonly, eio, stall
    disk.killed()                       # between lives: the process is gone, the system is not
    disk.power_cut(rng)                 # between lives: the power is gone as well

The folder is a real one, and holds what was written last. The disk is as bad as POSIX allows a
journaling one to be (as in tests/powercut.py):
- bytes are safe once a sync of their file has returned; of later writes any pieces survive (512
  bytes or 4 KiB, in any combination), or the first few writes and a part of the next;
- a name (create, rename, unlink, mkdir) is safe once its folder was synced; of later changes to
  names the first few survive, in the order in which they were made;
- after a sync that failed, some of the bytes are lost, and no later sync saves them, except where
  they are written again.
Shared memory of SQLite and sockets are no part of it, and are gone after a cut. No real sync is
made. A device that lies about its flush is not modelled.

The state is plain data: it is pickled between lives. `disk_files` leads Python's calls through it,
`disk_sqlite` SQLite's. A file without any name is kept alive in a folder beside (`root.disk`).
"""

# ruff: noqa: PTH102, PTH109, PTH112, PTH120 -- calls as they reach the system

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.powercut import Op, folders_of, renamed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = 4096
"""bytes of a page of the system's cache, and of a block of the disk"""
TEARS = (512, 4096)
SIZE = 4 << 30
"""bytes of the disk"""
SINCE_SYNC = 8 << 20
"""bytes of unsynced writes of a file that are kept one by one; beyond, only the last state of each
page counts"""
MEMORY = ("-shm",)
"""endings of files that SQLite maps as shared memory: their content means nothing after a cut"""

WRITE, NAME, SYNC, COMMIT = "write", "name", "sync", "commit"
"""moments at which a life may be ended; a commit is a sync that SQLite waits for"""

real = SimpleNamespace(**{
    name: getattr(os, name)
    for name in (
        "open", "close", "read", "write", "pread", "pwrite", "ftruncate", "truncate", "fsync",
        "fdatasync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "link", "symlink",
        "posix_fallocate", "statvfs", "fstatvfs", "utime", "chmod", "dup", "sendfile", "fstat",
        "stat", "lseek", "listdir", "scandir",
    )
})  # fmt: skip
"""the system's own calls, whatever is installed"""


@dataclass(slots=True)
class Inode:
    """One file: what of it is safe, and what was done to it since."""

    safe: int = 0
    """safe length"""
    size: int = 0
    """length now"""
    old: dict[int, bytes] = field(default_factory=dict)
    """safe content of the pages within the safe length that were changed since the last sync"""
    writes: list[tuple[int, bytes | None]] = field(default_factory=list)
    """since the last sync: (offset, bytes), or (new length, None)"""
    volume: int = 0
    """bytes in `writes`; -1: too many, they are not kept"""
    lost: dict[int, bytes] = field(default_factory=dict)
    """what the disk has of pages whose sync failed, though the system holds them for written"""
    handles: int = 0

    @property
    def pending(self) -> bool:
        return bool(self.writes or self.lost or self.volume)


@dataclass(slots=True)
class Handle:
    """An open file or folder."""

    path: str
    inode: int | None
    """None: a folder"""
    append: bool = False


@dataclass
class Disk:
    """One state folder on it."""

    root: str
    seed: int = 0
    inodes: dict[int, Inode] = field(default_factory=dict)
    safe: dict[str, int | None] = field(default_factory=dict)
    """path to inode; None: a folder"""
    now: dict[str, int | None] = field(default_factory=dict)
    pending: list[Op] = field(default_factory=list)
    """changes of names whose folder was not synced"""
    named: Counter[int] = field(default_factory=Counter)
    """inode to how many names it has now"""
    handles: dict[int, Handle] = field(default_factory=dict)
    """by file descriptor"""
    used: int = 0
    """blocks"""
    faults: list[dict[str, Any]] = field(default_factory=list)
    dice: random.Random = field(default_factory=random.Random)
    mistakes: list[str] = field(default_factory=list)
    """what went wrong in the model itself: a run with any is worth nothing"""
    moments: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """how often each kind of call was made, and refused: for people"""

    adopted: list[str] = field(default_factory=list)
    """paths that have no simulated time of their last change yet"""
    hook: Callable[[str, str], None] | None = None
    """called with kind and path before and after each write, name and sync, and in the middle of
    long writes; may end the process"""
    clock: Callable[[], float] | None = None
    """true seconds, for stalls"""
    wall: Callable[[], float] | None = None
    """Unix seconds, for the times of files"""
    blocked: Callable[[float], None] | None = None
    """waits for so many seconds in the calling thread"""

    def __post_init__(self) -> None:
        self.root = os.path.realpath(self.root)
        self.beside = f"{self.root}.disk"
        self.dice = random.Random(self.seed)
        Path(self.root).mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(self.beside, ignore_errors=True)
        os.mkdir(self.beside, 0o700)
        self.adopt()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "hook": None, "clock": None, "wall": None, "blocked": None}

    def adopt(self) -> None:
        """Take for safe what others have put into the folder."""
        self.now.setdefault(self.root, None)
        self.safe.setdefault(self.root, None)
        for path in _tree(self.root):
            status = os.lstat(path)
            if path in self.now or not _modelled(path, status):
                continue
            inode = None if stat.S_ISDIR(status.st_mode) else status.st_ino
            self.now[path] = self.safe[path] = inode
            self.adopted.append(path)
            if inode is not None:
                self.named[inode] += 1
                if inode not in self.inodes:
                    self.inodes[inode] = Inode(status.st_size, status.st_size)
                    self.used += _blocks(status.st_size)

    def install(
        self,
        clock: Callable[[], float] | None = None,
        wall: Callable[[], float] | None = None,
        blocked: Callable[[float], None] | None = None,
    ) -> None:
        """Lead the calls of this process through the disk."""
        from tests.sim import disk_files, disk_sqlite

        self.clock, self.wall, self.blocked = clock, wall, blocked
        if wall is not None:
            for path in self.adopted:
                real.utime(path, (wall(), wall()))
            self.adopted.clear()
        disk_sqlite.install(self)
        disk_files.install(self)

    @staticmethod
    def uninstall() -> None:
        from tests.sim import disk_files, disk_sqlite

        disk_files.uninstall()
        disk_sqlite.uninstall()

    # paths

    def inside(self, path: Any, folder: int | None = None) -> str | None:
        """The absolute path if it is on this disk, else None."""
        try:
            text = os.fsdecode(path)
        except TypeError:
            return None
        if not text.startswith("/"):
            if folder is None:
                base = os.getcwd()
            elif folder in self.handles:
                base = self.handles[folder].path
            else:
                return None
            text = f"{base}/{text}"
        if "/." in text or "//" in text or text.endswith("/"):
            text = os.path.normpath(text)
        if text == self.root or text.startswith(f"{self.root}/"):
            return text
        return None

    def moment(self, kind: str, path: str) -> None:
        """A life may end here."""
        self.moments += 1
        if self.hook is not None:
            self.hook(kind, path)

    # bytes

    def before_change(
        self, inode: int, at: int, end: int, read: Callable[[int, int], bytes]
    ) -> None:
        """Keep the safe content of what is about to be changed. `read(at, size)` reads the file."""
        file = self.inodes[inode]
        for page in range(at // PAGE, -(-end // PAGE)):
            start = page * PAGE
            if page in file.lost:  # the whole page becomes dirty once more
                body = read(start, PAGE)
                file.old[page] = file.lost.pop(page)
                self._note(file, start, body)
            elif start < file.safe and page not in file.old:
                file.old[page] = read(start, PAGE)

    def wrote(self, inode: int, at: int, data: bytes) -> None:
        """The bytes are in the file."""
        if not data:
            return
        file = self.inodes[inode]
        self._note(file, at, data)
        self._resize(inode, max(file.size, at + len(data)))

    def _note(self, file: Inode, at: int, data: bytes) -> None:
        if file.volume < 0:
            return
        file.writes.append((at, data))
        file.volume += len(data)
        if file.volume > SINCE_SYNC:
            file.writes.clear()
            file.volume = -1

    def truncate(
        self, inode: int, size: int, read: Callable[[int, int], bytes], do: Callable[[], None]
    ) -> None:
        """Change the length of a file; `do` does it."""
        file = self.inodes[inode]
        if size == file.size:
            do()
            return
        self.before_change(inode, min(size, file.safe), file.safe, read)
        do()
        for page in [page for page in file.lost if page * PAGE >= size]:
            file.old[page] = file.lost.pop(page)
        if file.volume >= 0:
            file.writes.append((size, None))
            file.volume += 1
        self._resize(inode, size)

    def _resize(self, inode: int, size: int) -> None:
        file = self.inodes[inode]
        self.used += _blocks(size) - _blocks(file.size)
        file.size = size

    def synced(self, inode: int) -> None:
        """All bytes of a file are safe, except those that an earlier sync has lost."""
        file = self.inodes[inode]
        file.old.clear()
        file.writes.clear()
        file.volume, file.safe = 0, file.size

    def sync_failed(self, inode: int, dice: random.Random) -> None:
        """The system tried to write; what it could not write it holds for written all the same."""
        file = self.inodes[inode]
        keeps = dice.choice((0.0, 0.5, 1.0))
        lost = {page: body for page, body in file.old.items() if dice.random() >= keeps}
        for page in range(_blocks(file.safe), _blocks(file.size)):
            if page not in file.old and dice.random() >= keeps:
                lost[page] = b""
        self.synced(inode)
        file.lost.update(lost)

    def evict(self, dice: random.Random) -> None:
        """The system forgets what it holds of the disk: from now on lost bytes are read as lost."""
        for inode, file in list(self.inodes.items()):
            if file.lost and dice.random() < 0.5:
                path = self._any_path(inode)
                with _really_open(path, os.O_RDWR) as handle:
                    for page, body in file.lost.items():
                        if page * PAGE < file.size:
                            room = min(PAGE, file.size - page * PAGE)
                            real.pwrite(handle, body[:room].ljust(room, b"\0"), page * PAGE)
                file.lost.clear()

    # names

    def created(self, path: str, inode: int) -> None:
        """There is a new, empty file."""
        self.inodes[inode] = Inode()
        self.linked(path, inode)

    def linked(self, path: str, inode: int) -> None:
        self.named[inode] += 1
        self._name("link", path, str(inode))

    def made(self, path: str) -> None:
        self._name("mkdir", path)

    def before_drop(self, path: str) -> None:
        """Keep a file alive that is about to lose a name: a cut may bring the name back."""
        inode = self.now.get(path)
        if inode is not None and not os.path.lexists(f"{self.beside}/{inode}"):
            real.link(path, f"{self.beside}/{inode}")

    def dropped(self, path: str) -> None:
        """A name is gone, of a file or of an empty folder."""
        if path not in self.now:
            return
        inode = self.now[path]
        self._name("drop", path)
        if inode is not None:
            self._unnamed(inode)

    def moved(self, old: str, new: str) -> None:
        """`new` leads where `old` did."""
        replaced = self.now.get(new)
        if old not in self.now:
            return
        self._name("move", old, new)
        if replaced is not None:
            self._unnamed(replaced)

    def _unnamed(self, inode: int) -> None:
        self.named[inode] -= 1
        if self.named[inode] <= 0:
            del self.named[inode]
            self._freed(inode)

    def _freed(self, inode: int) -> None:
        file = self.inodes.get(inode)
        if file is not None and not file.handles and not self.named[inode]:
            self.used -= _blocks(file.size)
            self._forgotten(inode)

    def _forgotten(self, inode: int) -> None:
        """Forget a file that no name leads to, not even one that a cut brings back."""
        if self.named[inode] or self.inodes[inode].handles or inode in self.safe.values():
            return
        if any(op[0] == "link" and int(op[2]) == inode for op in self.pending):
            return
        del self.inodes[inode]
        with _suppressed(FileNotFoundError):
            real.unlink(f"{self.beside}/{inode}")

    def _name(self, *op: str) -> None:
        self.pending.append(op)
        renamed(self.now, op)

    def sync_names(self, folder: str) -> None:
        """Names of this folder are safe, and (one ordered journal) all changes made before them."""
        mine = [i for i, op in enumerate(self.pending, 1) if folder in folders_of(op)]
        last = max(mine, default=0)
        for op in self.pending[:last]:
            renamed(self.safe, op)
        del self.pending[:last]
        for inode in [int(name) for name in real.listdir(self.beside)] if last else ():
            if inode in self.inodes:
                self._forgotten(inode)
                if self.named[inode]:  # renamed over and linked again, or the like
                    real.unlink(f"{self.beside}/{inode}")

    def opened(self, inode: int) -> None:
        self.inodes[inode].handles += 1

    def closed(self, inode: int) -> None:
        file = self.inodes.get(inode)
        if file is not None:
            file.handles -= 1
            self._freed(inode)

    def _any_path(self, inode: int) -> str:
        beside = f"{self.beside}/{inode}"
        if os.path.lexists(beside):
            return beside
        return next(path for path, named in self.now.items() if named == inode)

    # faults

    def begin(self, fault: dict[str, Any], now: float | None = None) -> None:
        """A fault begins; what it does not fix itself comes from its seed.

        full: `room` bytes are left, `names`: no file can be created either. readonly: as ext4 after
        an error. eio: `read`, `write`, `sync`: how often they fail, `evict`: lost bytes show once
        it ends. stall: nothing returns for `for` seconds from `now`; `writes`: writes neither.
        """
        dice = random.Random(fault.get("seed", self.dice.random()))
        how = fault["how"]
        drawn: dict[str, Any] = {"dice": dice, "given": fault}
        if how == "full":
            drawn |= {
                "room": dice.choice((0, 0, dice.randrange(1 << 13), dice.randrange(1 << 20))),
                "names": dice.random() < 0.3,
            }
        elif how == "eio":
            drawn |= dice.choice((
                {"read": 0.0, "write": 0.0, "sync": 1.0},
                {"read": 0.0, "write": 0.3, "sync": 0.3},
                {"read": 0.2, "write": 0.0, "sync": 0.0},
                {"read": 1.0, "write": 1.0, "sync": 1.0},
            ))  # fmt: skip
            drawn |= {"evict": dice.random() < 0.5}
        elif how == "stall":
            drawn |= {"writes": dice.random() < 0.5}
            if now is None:
                assert self.clock is not None
                now = self.clock()
            drawn["until"] = now + fault["for"]
        drawn |= fault
        if how == "full":
            drawn["most"] = self.used * PAGE + drawn["room"]
        self.faults.append(drawn)
        self.lead_reads()

    def end(self, fault: dict[str, Any] | None = None) -> None:
        """A fault ends; None: all."""
        for ended in [one for one in self.faults if fault is None or one["given"] == fault]:
            self.faults.remove(ended)
            if ended.get("evict"):
                self.evict(ended["dice"])
        self.lead_reads()

    def lead_reads(self) -> None:
        """Have SQLite's reads asked for, while they may fail; they are its most frequent calls."""
        from tests.sim import disk_sqlite

        disk_sqlite.reads_through(any(fault["read"] for fault in self.having("eio")))

    def having(self, how: str) -> Iterator[dict[str, Any]]:
        return (fault for fault in self.faults if fault["how"] == how)

    @property
    def free(self) -> int:
        """Bytes that can still be taken."""
        most = min((fault["most"] for fault in self.having("full")), default=SIZE)
        return max(0, most - self.used * PAGE)

    def sizes(self, begin: str) -> dict[str, int]:
        """The bytes of the databases whose names begin so; not those of their logs."""
        return {
            path.removeprefix(f"{self.root}/"): self.inodes[inode].size
            for path, inode in sorted(self.now.items())
            if inode is not None
            and path.startswith(f"{self.root}/{begin}")
            and path.endswith(".db")
        }

    @property
    def readonly(self) -> bool:
        return any(self.having("readonly"))

    def admit(self, kind: str, inode: int | None = None) -> float:
        """Let a call of a kind (open, read, write, name, sync) through, or raise OSError.

        Returns for how many seconds the call blocks once its effect is there.
        """
        self.counts[kind] += 1
        if not self.faults:
            return 0.0
        after = self._stalls(kind)
        if kind in {"write", "name", "sync"} and self.readonly:
            self._refuse(kind, errno.EROFS)
        for fault in self.having("eio"):
            often = fault["write" if kind == "name" else kind] if kind != "open" else 0.0
            if often and fault["dice"].random() < often:
                if kind == "sync" and inode is not None:
                    self.sync_failed(inode, fault["dice"])
                self._refuse(kind, errno.EIO)
        return after

    def _refuse(self, kind: str, number: int) -> None:
        self.counts[f"{kind} {errno.errorcode[number]}"] += 1
        raise OSError(number, os.strerror(number))

    def _stalls(self, kind: str) -> float:
        after = 0.0
        for fault in list(self.having("stall")):
            if kind in {"open", "read"} or (kind in {"write", "name"} and not fault["writes"]):
                continue
            assert self.clock is not None
            seconds = fault["until"] - self.clock()
            if seconds <= 0:
                continue
            if fault["dice"].random() < 0.5:
                self.block(seconds)
            else:
                after = max(after, seconds)
        return after

    def block(self, seconds: float) -> None:
        """The calling thread waits for the disk."""
        if seconds > 0 and self.blocked is not None:
            self.counts["blocked"] += 1
            self.blocked(seconds)

    def stalled_until(self, now: float) -> float | None:
        """When calls return again, on the caller's clock; None: at once."""
        ends = [fault["until"] for fault in self.having("stall")]
        if not ends or self.clock is None or max(ends) <= self.clock():
            return None
        return now + max(ends) - self.clock()

    @contextmanager
    def unblocked(self) -> Iterator[None]:
        """Calls made inside have their effect at once: their caller waits by other means."""
        before, self.blocked = self.blocked, None
        try:
            yield
        finally:
            self.blocked = before

    def create(self) -> None:
        """Let a name be made for a new file or folder. Raises OSError."""
        if any(fault["names"] for fault in self.having("full")):
            self._refuse("name", errno.ENOSPC)

    def room(self, inode: int, at: int, size: int) -> int:
        """How many of `size` bytes at an offset find room. Raises OSError if none does."""
        file = self.inodes[inode]
        has = _blocks(file.size) * PAGE
        if not any(self.having("full")) or at + size <= has:
            return size
        end = has + self.free // PAGE * PAGE
        if end <= at:
            self._refuse("write", errno.ENOSPC)
        return min(size, end - at)

    # between lives

    def killed(self) -> None:
        """The process has ended: its handles are closed. Notes what escaped the model."""
        self._note_escaped()
        self.handles.clear()
        for inode, file in list(self.inodes.items()):
            if file.handles:
                file.handles = 0
                self._freed(inode)

    def power_cut(self, dice: random.Random) -> list[str]:
        """Leave the folder as a cut at this moment may leave it. Returns what was undone."""
        self.killed()
        names = dict(self.safe)
        kept = dice.choice((0, len(self.pending), dice.randint(0, len(self.pending))))
        for op in self.pending[:kept]:
            renamed(names, op)
        undone = [f"{' '.join(op)}" for op in self.pending[kept:]]
        for inode, file in self.inodes.items():
            if file.pending and inode in names.values():
                path = self._any_path(inode)
                before = _really_read(path)
                after = survivor(file, before, dice)
                if after != before:
                    _really_replace(path, after)
                    undone.append(f"bytes of {path}")
        self._rebuild(names)
        self.now, self.safe, self.pending = dict(names), dict(names), []
        self._forget_all()
        return undone

    def _note_escaped(self) -> None:
        for path in _tree(self.root):
            if path not in self.now and _modelled(path, os.lstat(path)):
                self.mistakes.append(f"{path} was made past the disk")
        for path, inode in self.now.items():
            if not os.path.lexists(path) or (inode and os.lstat(path).st_ino != inode):
                self.mistakes.append(f"{path} was changed past the disk")

    def _rebuild(self, names: dict[str, int | None]) -> None:
        """Give the folder these names; those in a folder that is not there are left out."""
        for path in list(_tree(self.root)):
            if path not in self.now and not os.path.isdir(path):
                real.unlink(path)  # shared memory, sockets
        if names == self.now:
            return
        modes = {path: os.lstat(path).st_mode & 0o7777 for path, i in self.now.items() if i is None}
        for inode in {inode for inode in names.values() if inode is not None}:
            if not os.path.lexists(f"{self.beside}/{inode}"):
                real.link(self._any_path(inode), f"{self.beside}/{inode}")
        for path in sorted(set(self.now) - {self.root}, reverse=True):
            (real.rmdir if self.now[path] is None else real.unlink)(path)
        for path in sorted(set(names) - {self.root}):
            if os.path.dirname(path) not in names:
                del names[path]
            elif names[path] is None:
                real.mkdir(path, modes.get(path, 0o700))
            else:
                real.link(f"{self.beside}/{names[path]}", path)

    def _forget_all(self) -> None:
        """What is there now is safe; nothing else was ever there."""
        for name in real.listdir(self.beside):
            real.unlink(f"{self.beside}/{name}")
        self.named = Counter(inode for inode in self.now.values() if inode is not None)
        self.inodes = {}
        for path, inode in self.now.items():
            if inode is not None:
                size = os.lstat(path).st_size
                self.inodes[inode] = Inode(size, size)
        self.used = sum(_blocks(file.size) for file in self.inodes.values())


def survivor(file: Inode, content: bytes, dice: random.Random) -> bytes:
    """What a cut may leave of a file whose content is this now."""
    body = bytearray(content)
    pages = {**file.old, **file.lost}
    _length(body, max(len(body), file.safe))
    for page, old in pages.items():
        _put(body, page * PAGE, old.ljust(min(PAGE, max(0, len(body) - page * PAGE)), b"\0"))
    _length(body, file.safe)
    if file.volume < 0:  # nobody knows any more what was written when
        for page in range(_blocks(len(content))):
            if page not in file.lost and dice.random() < 0.5:
                _put(body, page * PAGE, content[page * PAGE : (page + 1) * PAGE])
        return bytes(body)
    tear = dice.choice(TEARS)
    if dice.random() < 0.3:  # in order: the first few, and a part of the next
        pieces = [piece for write in file.writes for piece in _pieces(write, tear)]
        kept = pieces[: dice.randint(0, len(pieces))]
    else:
        luck = dice.choice((0.0, 0.5, 1.0))
        pieces = [piece for write in file.writes for piece in _pieces(write, tear)]
        kept = [piece for piece in pieces if dice.random() < luck]
    for at, data in kept:
        if data is None:
            _length(body, at)
        else:
            _put(body, at, data)
    return bytes(body)


def _pieces(write: tuple[int, bytes | None], tear: int) -> Iterator[tuple[int, bytes | None]]:
    at, data = write
    if data is None:
        yield write
        return
    while data:
        room = tear - at % tear
        yield at, data[:room]
        at, data = at + room, data[room:]


def _put(body: bytearray, at: int, data: bytes) -> None:
    if data:
        _length(body, max(len(body), at + len(data)))
        body[at : at + len(data)] = data


def _length(body: bytearray, size: int) -> None:
    del body[size:]
    body.extend(bytes(size - len(body)))


def _blocks(size: int) -> int:
    return -(-size // PAGE)


def _modelled(path: str, status: os.stat_result) -> bool:
    return not path.endswith(MEMORY) and (
        stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    )


def _tree(root: str) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *files]):
            yield f"{folder}/{name}"


def _really_read(path: str) -> bytes:
    with _really_open(path, os.O_RDONLY) as handle:
        return real.pread(handle, real.fstat(handle).st_size, 0)


def _really_replace(path: str, content: bytes) -> None:
    with _really_open(path, os.O_RDWR) as handle:
        changed = real.fstat(handle).st_mtime_ns
        real.ftruncate(handle, 0)
        real.pwrite(handle, content, 0)
        real.utime(handle, ns=(changed, changed))


class _really_open:  # noqa: N801 -- used as a function
    def __init__(self, path: str, flags: int) -> None:
        self.handle = real.open(path, flags | os.O_CLOEXEC)

    def __enter__(self) -> int:
        return self.handle

    def __exit__(self, *_: object) -> None:
        real.close(self.handle)


class _suppressed:  # noqa: N801 -- used as a function
    def __init__(self, *kinds: type[BaseException]) -> None:
        self.kinds = kinds

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self.kinds)
