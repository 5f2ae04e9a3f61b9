"""SQLite's files on a simulated disk: a VFS of our own around that of the system.

The VFS becomes the default one of the process, so that `sqlite3.connect` takes it unchanged. Files
that are not on the disk are left to the system's. An open file keeps the system's object; only its
table of methods is replaced by one that leads writes, truncations, syncs and (while reading fails)
reads through the disk. The shared memory of a log stays the system's.
"""

# ruff: noqa: PTH120 -- calls as they reach the system

from __future__ import annotations

import ctypes
import errno
import os
import random
import sqlite3
import traceback
from contextlib import suppress
from ctypes import (
    CFUNCTYPE,
    POINTER,
    PYFUNCTYPE,
    Structure,
    byref,
    c_char_p,
    c_int,
    c_int64,
    c_void_p,
    cast,
)  # fmt: skip
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.sim.disk import COMMIT, NAME, PAGE, SYNC, WRITE, Disk, real
from tests.sim.disk_files import drop

if TYPE_CHECKING:
    from collections.abc import Callable

OK, FULL, CANTOPEN = 0, 13, 14
SHORT_READ, IOERR = 522, 10
READ, WRITING, FSYNC, DIR_FSYNC, TRUNCATE, DELETE, DELETE_NOENT, FSTAT = (
    IOERR | n << 8 for n in (1, 3, 4, 5, 6, 10, 23, 7)
)
OPEN_READONLY, OPEN_READWRITE, OPEN_CREATE = 0x1, 0x2, 0x4
JOURNALS = 0x800 | 0x4000 | 0x80000
"""main journal, super journal, WAL: with the first sync of one SQLite syncs its folder"""
JULIAN = 210866760000000
"""milliseconds from SQLite's epoch to Unix's"""


class Methods(Structure):
    _fields_ = [("version", c_int)] + [
        (name, c_void_p)
        for name in (
            "close", "read", "write", "truncate", "sync", "size", "lock", "unlock", "reserved",
            "control", "sector", "traits", "shm_map", "shm_lock", "shm_barrier", "shm_unmap",
            "fetch", "unfetch",
        )
    ]  # fmt: skip


class File(Structure):
    _fields_ = [("methods", POINTER(Methods))]


class Vfs(Structure):
    _fields_ = [
        ("version", c_int), ("file_bytes", c_int), ("longest_path", c_int), ("next", c_void_p),
        ("name", c_char_p), ("data", c_void_p),
        *((name, c_void_p) for name in (
            "open", "delete", "access", "full_path", "dl_open", "dl_error", "dl_sym", "dl_close",
            "randomness", "sleep", "current_time", "last_error", "current_time_ms",
            "set_call", "get_call", "next_call",
        )),
    ]  # fmt: skip


OPEN = (c_int, c_void_p, c_void_p, c_void_p, c_int, POINTER(c_int))
DELETING = (c_int, c_void_p, c_char_p, c_int)
RANDOM = (c_int, c_void_p, c_int, c_void_p)
SLEEP = (c_int, c_void_p, c_int)
TIME = (c_int, c_void_p, POINTER(c_int64))
CLOSE = (c_int, c_void_p)
MOVE = (c_int, c_void_p, c_void_p, c_int, c_int64)
LENGTH = (c_int, c_void_p, c_int64)
SYNCING = (c_int, c_void_p, c_int)


class Opened:
    """One file that SQLite has open."""

    __slots__ = ("calls", "inode", "path", "syncs_folder")

    def __init__(self, path: str, inode: int, calls: Calls, syncs_folder: bool) -> None:
        self.path, self.inode, self.calls, self.syncs_folder = path, inode, calls, syncs_folder

    def reader(self, pointer: int) -> Callable[[int, int], bytes]:
        def read(at: int, size: int) -> bytes:
            buffer = ctypes.create_string_buffer(size)
            code = self.calls.read(pointer, ctypes.addressof(buffer), size, at)
            if code not in {OK, SHORT_READ}:
                raise OSError(errno.EIO, f"SQLite's own read: {code}")
            left = _disk().inodes[self.inode].size - at  # a short one is filled with zeros
            return buffer.raw[: max(0, min(size, left))]

        return read


class Calls:
    """The system's methods of one kind of file, and the table that replaces them."""

    def __init__(self, methods: Methods) -> None:
        self.close = PYFUNCTYPE(*CLOSE)(methods.close)
        self.read = PYFUNCTYPE(*MOVE)(methods.read)
        self.write = PYFUNCTYPE(*MOVE)(methods.write)
        self.truncate = PYFUNCTYPE(*LENGTH)(methods.truncate)
        self.table = Methods()
        ctypes.memmove(byref(self.table), byref(methods), ctypes.sizeof(Methods))
        self.real_read = methods.read
        for name, callback in CALLBACKS.items():
            setattr(self.table, name, cast(callback, c_void_p).value)
        self.reads(False)

    def reads(self, through: bool) -> None:
        """Lead reads through the disk, or not: they are the most frequent calls."""
        self.table.read = cast(READ_CALLBACK, c_void_p).value if through else self.real_read


class Library:
    """The SQLite of this process's `sqlite3`, with our VFS."""

    def __init__(self) -> None:
        self.lib = ctypes.PyDLL(str(_library()))
        self.lib.sqlite3_vfs_find.restype = c_void_p
        self.lib.sqlite3_vfs_find.argtypes = [c_char_p]
        self.lib.sqlite3_vfs_register.argtypes = [c_void_p, c_int]
        self.lib.sqlite3_vfs_unregister.argtypes = [c_void_p]
        self.lib.sqlite3_randomness.argtypes = [c_int, c_void_p]
        sqlite3.connect(":memory:").close()  # it is initialised now
        self.system = Vfs.from_address(self.lib.sqlite3_vfs_find(None))
        self.open = PYFUNCTYPE(*OPEN)(self.system.open)
        self.delete = PYFUNCTYPE(*DELETING)(self.system.delete)
        self.vfs = Vfs()
        ctypes.memmove(byref(self.vfs), byref(self.system), ctypes.sizeof(Vfs))
        self.vfs.next, self.vfs.name = None, b"simulated"
        for name, callback in VFS_CALLBACKS.items():
            setattr(self.vfs, name, cast(callback, c_void_p).value)
        self.calls: dict[int, Calls] = {}
        """by address of the system's table"""

    def become_default(self) -> None:
        assert not self.lib.sqlite3_vfs_register(byref(self.vfs), 1)
        self.lib.sqlite3_randomness(0, None)  # its generator takes its seed from the VFS anew

    def leave(self) -> None:
        assert not self.lib.sqlite3_vfs_unregister(byref(self.vfs))
        assert not self.lib.sqlite3_vfs_register(byref(self.system), 1)
        self.lib.sqlite3_randomness(0, None)

    def calls_of(self, file: File) -> Calls:
        address = ctypes.addressof(file.methods.contents)
        if address not in self.calls:
            self.calls[address] = Calls(file.methods.contents)
        return self.calls[address]


def _library() -> Path:
    """The file that has SQLite's functions: a library of the system, or Python's module itself."""
    import _sqlite3

    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    mapped = [Path(line.split(maxsplit=5)[5]) for line in maps if "libsqlite3" in line]
    return mapped[0] if mapped else Path(_sqlite3.__file__)


_installed: Disk | None = None
_library_: Library | None = None
_opened: dict[int, Opened] = {}
"""by address of SQLite's object"""
_salt = random.Random()
_really_connect = sqlite3.connect


def install(disk: Disk) -> None:
    global _installed, _library_  # noqa: PLW0603 -- one disk a process
    assert _installed is None
    _installed = disk
    _library_ = _library_ or Library()
    _salt.seed(disk.dice.random())
    _library_.become_default()
    disk.lead_reads()


def uninstall() -> None:
    global _installed  # noqa: PLW0603
    assert _library_ is not None
    _library_.leave()
    _installed = None


def reads_through(through: bool) -> None:
    """Lead reads through the disk, or not."""
    for calls in _library_.calls.values() if _library_ else ():
        calls.reads(through)


def _disk() -> Disk:
    assert _installed is not None
    return _installed


def _careful(otherwise: int) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """C cannot take an exception: an error of the disk is a code, any other a mistake of ours."""

    def wrap(function: Callable[..., int]) -> Callable[..., int]:
        @wraps(function)
        def call(*args: Any) -> int:
            try:
                return function(*args)
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT} and otherwise == WRITING:
                    return FULL
                if error.errno not in {errno.ENOSPC, errno.EROFS, errno.EIO, errno.ENOENT}:
                    _mistaken()
                return otherwise
            except BaseException:  # noqa: BLE001
                _mistaken()
                return otherwise

        return call

    return wrap


def _mistaken() -> None:
    if _installed is not None:
        _installed.mistakes.append(traceback.format_exc())


# methods of a file


@_careful(FSTAT)
def _close(pointer: int) -> int:
    file = _opened.pop(pointer)
    code = file.calls.close(pointer)
    if _installed is not None:
        _installed.closed(file.inode)
    return code


@_careful(READ)
def _read(pointer: int, buffer: int, size: int, at: int) -> int:
    file = _opened[pointer]
    if _installed is not None:
        _installed.block(_installed.admit("read"))
    return file.calls.read(pointer, buffer, size, at)


@_careful(WRITING)
def _write(pointer: int, buffer: int, size: int, at: int) -> int:
    file, disk = _opened[pointer], _disk()
    disk.moment(WRITE, file.path)
    after = disk.admit(WRITE)
    room = disk.room(file.inode, at, size) if disk.faults else size
    disk.before_change(file.inode, at, at + room, file.reader(pointer))
    # a kill ends a long write between two pages
    first = room if disk.hook is None or room <= PAGE else PAGE - at % PAGE
    _put(disk, file, pointer, buffer, first, at)
    if first < room:
        disk.moment(WRITE, file.path)
        _put(disk, file, pointer, buffer + first, room - first, at + first)
    disk.block(after)
    disk.moment(WRITE, file.path)
    if room < size:
        disk.room(file.inode, at + room, size - room)  # raises: SQLite goes on until nothing fits
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return OK


def _put(disk: Disk, file: Opened, pointer: int, buffer: int, size: int, at: int) -> None:  # noqa: PLR0913, PLR0917
    data = ctypes.string_at(buffer, size)
    code = file.calls.write(pointer, buffer, size, at)
    if code != OK:
        raise AssertionError(f"the system's own write of {file.path}: {code}")
    disk.wrote(file.inode, at, data)


@_careful(TRUNCATE)
def _truncate(pointer: int, size: int) -> int:
    file, disk = _opened[pointer], _disk()
    disk.moment(WRITE, file.path)
    after = disk.admit(WRITE)

    def cut() -> None:
        if code := file.calls.truncate(pointer, size):
            raise AssertionError(f"the system's own truncation of {file.path}: {code}")

    disk.truncate(file.inode, size, file.reader(pointer), cut)
    disk.block(after)
    disk.moment(WRITE, file.path)
    return OK


@_careful(FSYNC)
def _sync(pointer: int, _flags: int) -> int:
    file, disk = _opened[pointer], _disk()
    disk.moment(COMMIT, file.path)
    after = disk.admit(SYNC, file.inode)
    disk.synced(file.inode)
    if file.syncs_folder:
        disk.sync_names(os.path.dirname(file.path))
        file.syncs_folder = False
    disk.block(after)
    disk.moment(COMMIT, file.path)
    return OK


CALLBACKS: dict[str, Any] = {
    "close": CFUNCTYPE(*CLOSE)(_close),
    "write": CFUNCTYPE(*MOVE)(_write),
    "truncate": CFUNCTYPE(*LENGTH)(_truncate),
    "sync": CFUNCTYPE(*SYNCING)(_sync),
}
READ_CALLBACK = CFUNCTYPE(*MOVE)(_read)


# methods of the VFS


@_careful(CANTOPEN)
def _vfs_open(vfs: int, name: int | None, pointer: int, flags: int, out: Any) -> int:
    assert _library_ is not None
    path = ctypes.string_at(name) if name else None
    where = _disk().inside(path) if path else None
    if where is None:
        return _library_.open(vfs, name, pointer, flags, out)
    disk, exists, after = _disk(), os.path.lexists(where), 0.0
    if flags & OPEN_READWRITE and disk.readonly:
        flags = flags & ~(OPEN_READWRITE | OPEN_CREATE) | OPEN_READONLY  # as SQLite itself does
    if not exists and flags & OPEN_CREATE:
        disk.moment(NAME, where)
        after = disk.admit(NAME)
        disk.create()
    elif disk.faults:
        after = disk.admit("open")
    code = _library_.open(vfs, name, pointer, flags, out)
    if code != OK:
        return code
    status = real.stat(where)
    if not exists:
        disk.created(where, status.st_ino)
        disk.moment(NAME, where)
    disk.opened(status.st_ino)
    file = File.from_address(pointer)
    calls = _library_.calls_of(file)
    disk.lead_reads()
    syncs_folder = bool(flags & OPEN_CREATE and flags & JOURNALS)
    _opened[pointer] = Opened(where, status.st_ino, calls, syncs_folder)
    file.methods = ctypes.pointer(calls.table)
    disk.block(after)
    return OK


@_careful(DELETE)
def _vfs_delete(vfs: int, name: bytes, sync_folder: int) -> int:
    assert _library_ is not None
    where = _disk().inside(name)
    if where is None or where.endswith("-shm"):
        return _library_.delete(vfs, name, sync_folder)
    disk = _disk()
    if not os.path.lexists(where):
        return DELETE_NOENT
    disk.moment(NAME, where)
    after = disk.admit(NAME)
    drop(disk, where)
    disk.moment(NAME, where)
    if sync_folder:
        try:
            after = max(after, disk.admit(SYNC))
        except OSError:
            return DIR_FSYNC
        disk.sync_names(os.path.dirname(where))
        disk.moment(COMMIT, where)
    disk.block(after)
    return OK


@_careful(0)
def _randomness(_vfs: int, size: int, buffer: int) -> int:
    ctypes.memmove(buffer, _salt.randbytes(size), size)
    return size


@_careful(0)
def _sleep(_vfs: int, microseconds: int) -> int:
    return microseconds


@_careful(1)
def _time(_vfs: int, out: Any) -> int:
    import time

    wall = _installed.wall if _installed and _installed.wall else time.time
    out[0] = JULIAN + int(wall() * 1000)
    return OK


VFS_CALLBACKS: dict[str, Any] = {
    "open": CFUNCTYPE(*OPEN)(_vfs_open),
    "delete": CFUNCTYPE(*DELETING)(_vfs_delete),
    "randomness": CFUNCTYPE(*RANDOM)(_randomness),
    "sleep": CFUNCTYPE(*SLEEP)(_sleep),
    "current_time_ms": CFUNCTYPE(*TIME)(_time),
}
with suppress(ImportError):
    import _sqlite3  # noqa: F401 -- the library is mapped from here on
