"""Python's calls on files of a simulated disk.

`install` puts shims in the place of the functions of `os`, of `open` and of `io.open`, also where
code has taken them for a default argument or a name of its own before. Of paths and descriptors
that are not on the disk they know nothing, and call the system. Folders are listed in order.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import stat
import sys
import types
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from tests.sim import seams
from tests.sim.disk import NAME, PAGE, SYNC, WRITE, Disk, Handle, real

if TYPE_CHECKING:
    from collections.abc import Callable

really_open = io.open
_disk: Disk | None = None
_rebound: list[Callable[[], None]] = []
"""what brings each function back"""


def install(disk: Disk) -> None:
    global _disk  # noqa: PLW0603 -- one disk a process
    assert _disk is None
    _disk = disk
    for name, shim in SHIMS.items():
        _set(os, name, shim)
    _set(io, "open", _open)
    _set(builtins, "open", _open)
    _rebind_names({
        **{getattr(real, name): shim for name, shim in SHIMS.items()}, really_open: _open,
    })  # fmt: skip


def uninstall() -> None:
    global _disk  # noqa: PLW0603
    while _rebound:
        _rebound.pop()()
    _disk = None


def _set(owner: Any, name: str, value: Any) -> None:
    before = getattr(owner, name)
    setattr(owner, name, value)
    _rebound.append(lambda: setattr(owner, name, before))


def _rebind_names(shims: dict[Any, Any]) -> None:
    """Where the agent has bound one of the functions at import."""
    names, functions = bound(seams.modules())
    for module, name in names:
        if (value := getattr(module, name)) in shims:
            _set(module, name, shims[value])
    for function in functions:
        defaults = function.__defaults__ or ()
        if any(_is_bound(default, shims) for default in defaults):
            _set(function, "__defaults__", tuple(
                shims[default] if _is_bound(default, shims) else default for default in defaults
            ))  # fmt: skip


@lru_cache(maxsize=1)
def bound(
    modules: tuple[str, ...],
) -> tuple[list[tuple[types.ModuleType, str]], list[types.FunctionType]]:
    """Names of built-in functions in these modules, and functions with one as a default argument.

    Searched for before the first life, and then known in each.
    """
    names, functions = [], []
    for module in map(sys.modules.__getitem__, modules):
        for name, value in list(vars(module).items()):
            if isinstance(value, types.BuiltinFunctionType):
                names.append((module, name))
            functions += [
                function
                for function in _functions(value, module.__name__)
                if any(map(_is_built_in, function.__defaults__ or ()))
            ]
    return names, functions


def _is_built_in(value: Any) -> bool:
    return isinstance(value, types.BuiltinFunctionType)


def _is_bound(default: Any, shims: dict[Any, Any]) -> bool:
    return _is_built_in(default) and default in shims


def _functions(value: Any, module: str) -> list[types.FunctionType]:
    if getattr(value, "__module__", None) != module:
        return []
    if isinstance(value, types.FunctionType):
        return [value]
    if not isinstance(value, type):
        return []
    members = [getattr(member, "__func__", member) for member in list(vars(value).values())]
    return [member for member in members if isinstance(member, types.FunctionType)]


def _the_disk() -> Disk:
    assert _disk is not None
    return _disk


# files


def _os_open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    disk = _the_disk()
    where = disk.inside(path, dir_fd)
    if where is None:
        handle = real.open(path, flags, mode, dir_fd=dir_fd)
        disk.handles.pop(handle, None)
        return handle
    exists = os.path.lexists(where)
    after = _may_open(disk, where, flags, exists=exists)
    handle = real.open(where, flags & ~os.O_TRUNC, mode)
    status = real.fstat(handle)
    inode = None
    if stat.S_ISREG(status.st_mode):
        inode = status.st_ino
        if not exists:
            disk.created(where, inode)
            _touch(handle)
            disk.moment(NAME, where)
        elif inode not in disk.inodes:
            return handle  # shared memory of SQLite
        disk.opened(inode)
    disk.handles[handle] = Handle(where, inode, bool(flags & os.O_APPEND))
    disk.block(after)
    if flags & os.O_TRUNC and status.st_size:
        _ftruncate(handle, 0)
    return handle


def _may_open(disk: Disk, path: str, flags: int, *, exists: bool) -> float:
    if not exists and flags & os.O_CREAT:
        disk.moment(NAME, path)
        after = disk.admit(NAME)
        disk.create()
        return after
    if flags & (os.O_WRONLY | os.O_RDWR) and disk.readonly:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
    return disk.admit("open")


def _close(handle: int) -> None:
    known = _the_disk().handles.pop(handle, None)
    real.close(handle)
    if known is not None and known.inode is not None:
        _the_disk().closed(known.inode)


def _dup(handle: int) -> int:
    made = real.dup(handle)
    disk = _the_disk()
    disk.handles.pop(made, None)
    if handle in disk.handles:
        known = disk.handles[made] = disk.handles[handle]
        if known.inode is not None:
            disk.opened(known.inode)
    return made


def _file(handle: Any) -> tuple[str, int] | None:
    """Path and inode of a descriptor on the disk."""
    known = _the_disk().handles.get(handle)
    return None if known is None or known.inode is None else (known.path, known.inode)


def _read(handle: int, size: int) -> bytes:
    if _the_disk().faults and _file(handle):
        _the_disk().block(_the_disk().admit("read"))
    return real.read(handle, size)


def _pread(handle: int, size: int, at: int) -> bytes:
    if _the_disk().faults and _file(handle):
        _the_disk().block(_the_disk().admit("read"))
    return real.pread(handle, size, at)


def _write(handle: int, data: Any) -> int:
    known = _file(handle)
    if known is None:
        return real.write(handle, data)
    disk = _the_disk()
    append = disk.handles[handle].append
    at = disk.inodes[known[1]].size if append else real.lseek(handle, 0, os.SEEK_CUR)
    written = _written(handle, *known, bytes(data), at)
    if not append:
        real.lseek(handle, at + written, os.SEEK_SET)
    return written


def _pwrite(handle: int, data: Any, at: int) -> int:
    known = _file(handle)
    if known is None:
        return real.pwrite(handle, data, at)
    return _written(handle, *known, bytes(data), at)


def _written(handle: int, path: str, inode: int, data: bytes, at: int) -> int:
    disk = _the_disk()
    disk.moment(WRITE, path)
    after = disk.admit(WRITE)
    data = data[: disk.room(inode, at, len(data))]
    disk.before_change(inode, at, at + len(data), _reader(handle))
    # a kill ends a long write between two pages
    first = len(data) if disk.hook is None or len(data) <= PAGE else PAGE - at % PAGE
    _put(disk, handle, inode, data[:first], at)
    if first < len(data):
        disk.moment(WRITE, path)
        _put(disk, handle, inode, data[first:], at + first)
    _touch(handle)
    disk.block(after)
    disk.moment(WRITE, path)
    return len(data)


def _put(disk: Disk, handle: int, inode: int, data: bytes, at: int) -> None:
    if disk.handles[handle].append:
        real.write(handle, data)
    else:
        real.pwrite(handle, data, at)
    disk.wrote(inode, at, data)


def _reader(handle: int) -> Callable[[int, int], bytes]:
    def read(at: int, size: int) -> bytes:
        try:
            return real.pread(handle, size, at)
        except OSError:  # it is open for writing only
            again = real.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                return real.pread(again, size, at)
            finally:
                real.close(again)

    return read


def _sendfile(to: int, source: int, offset: int | None, count: int, *more: Any) -> int:
    if _file(to) is None and _file(source) is None:
        return real.sendfile(to, source, offset, count, *more)
    data = _read(source, count) if offset is None else _pread(source, count, offset)
    return _write(to, data)


def _ftruncate(handle: int, size: int) -> None:
    known = _file(handle)
    if known is None:
        return real.ftruncate(handle, size)
    path, inode = known
    disk = _the_disk()
    disk.moment(WRITE, path)
    after = disk.admit(WRITE)
    disk.truncate(inode, size, _reader(handle), lambda: real.ftruncate(handle, size))
    _touch(handle)
    disk.block(after)
    disk.moment(WRITE, path)
    return None


def _truncate(path: Any, size: int) -> None:
    if isinstance(path, int):
        return _ftruncate(path, size)
    if _the_disk().inside(path) is None:
        return real.truncate(path, size)
    handle = _os_open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        _ftruncate(handle, size)
    finally:
        _close(handle)
    return None


def _posix_fallocate(handle: int, at: int, size: int) -> None:
    known = _file(handle)
    if known is None:
        return real.posix_fallocate(handle, at, size)
    path, inode = known
    disk = _the_disk()
    disk.moment(WRITE, path)
    after = disk.admit(WRITE)
    length = disk.inodes[inode].size
    if at + size > length:
        if disk.room(inode, length, at + size - length) < at + size - length:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        grown = at + size
        disk.truncate(inode, grown, _reader(handle), lambda: real.ftruncate(handle, grown))
        _touch(handle)
    disk.block(after)
    disk.moment(WRITE, path)
    return None


def _fsync(handle: Any) -> None:
    number = handle if isinstance(handle, int) else handle.fileno()
    disk = _the_disk()
    known = disk.handles.get(number)
    if known is None:
        return real.fsync(number)
    disk.moment(SYNC, known.path)
    after = disk.admit(SYNC, known.inode)
    if known.inode is None:
        disk.sync_names(known.path)
    else:
        disk.synced(known.inode)
    disk.block(after)
    disk.moment(SYNC, known.path)
    return None


def _touch(handle: int) -> None:
    """The time of a file's last change."""
    disk = _the_disk()
    if disk.wall is not None:
        at = int(disk.wall() * 1e6) * 1000 + disk.moments % 1000
        real.utime(handle, ns=(at, at))


# names


def _two(path: Any, to: Any, from_folder: int | None, to_folder: int | None) -> tuple[Any, Any]:
    disk = _the_disk()
    return disk.inside(path, from_folder), disk.inside(to, to_folder)


def _rename(
    path: Any, to: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    disk = _the_disk()
    old, new = _two(path, to, src_dir_fd, dst_dir_fd)
    if old is None and new is None:
        return real.rename(path, to, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
    if old is None or new is None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path, None, to)
    status = os.lstat(old)  # raises what a missing one does
    disk.moment(NAME, new)
    after = disk.admit(NAME)
    if os.path.lexists(new) and os.path.samestat(status, os.lstat(new)):
        return None  # two names of one file: nothing happens
    disk.before_drop(new)
    real.rename(old, new)
    disk.moved(old, new)
    disk.block(after)
    disk.moment(NAME, new)
    return None


def _unlink(path: Any, *, dir_fd: int | None = None) -> None:
    disk = _the_disk()
    where = disk.inside(path, dir_fd)
    if where is None:
        return real.unlink(path, dir_fd=dir_fd)
    os.lstat(where)
    disk.moment(NAME, where)
    after = disk.admit(NAME)
    drop(disk, where)
    disk.block(after)
    disk.moment(NAME, where)
    return None


def drop(disk: Disk, path: str) -> None:
    """Remove the name of a file."""
    disk.before_drop(path)
    real.unlink(path)
    disk.dropped(path)


def _rmdir(path: Any, *, dir_fd: int | None = None) -> None:
    disk = _the_disk()
    where = disk.inside(path, dir_fd)
    if where is None:
        return real.rmdir(path, dir_fd=dir_fd)
    disk.moment(NAME, where)
    after = disk.admit(NAME)
    real.rmdir(where)
    disk.dropped(where)
    disk.block(after)
    return None


def _mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    disk = _the_disk()
    where = disk.inside(path, dir_fd)
    if where is None or os.path.lexists(where):
        return real.mkdir(path, mode, dir_fd=dir_fd)
    disk.moment(NAME, where)
    after = disk.admit(NAME)
    disk.create()
    real.mkdir(where, mode)
    disk.made(where)
    disk.block(after)
    disk.moment(NAME, where)
    return None


def _link(path: Any, to: Any, **options: Any) -> None:
    disk = _the_disk()
    old, new = disk.inside(path), disk.inside(to)
    if old is None and new is None:
        return real.link(path, to, **options)
    if old is None or new is None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path, None, to)
    disk.moment(NAME, new)
    after = disk.admit(NAME)
    disk.create()
    real.link(old, new)
    inode = disk.now.get(old)
    if inode is not None:
        disk.linked(new, inode)
    disk.block(after)
    disk.moment(NAME, new)
    return None


def _symlink(path: Any, to: Any, *more: Any, **options: Any) -> None:
    if _the_disk().inside(to, options.get("dir_fd")) is not None:
        raise NotImplementedError("the simulated disk has no symbolic links")
    return real.symlink(path, to, *more, **options)


def _utime(path: Any, *more: Any, **options: Any) -> None:
    on_disk = _file(path) if isinstance(path, int) else _the_disk().inside(path)
    if on_disk and _the_disk().readonly:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
    return real.utime(path, *more, **options)


def _chmod(path: Any, mode: int, **options: Any) -> None:
    on_disk = _file(path) if isinstance(path, int) else _the_disk().inside(path)
    if on_disk and _the_disk().readonly:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
    return real.chmod(path, mode, **options)


def _statvfs(path: Any) -> os.statvfs_result:
    disk = _the_disk()
    where = path in disk.handles if isinstance(path, int) else disk.inside(path)
    status = real.statvfs(path)
    if not where:
        return status
    from tests.sim.disk import SIZE

    free = disk.free // PAGE
    flags = status.f_flag & ~os.ST_RDONLY | (os.ST_RDONLY if disk.readonly else 0)
    return os.statvfs_result((
        PAGE, PAGE, SIZE // PAGE, free, free, 1 << 20, 1 << 19, 1 << 19, flags, 255, 0,
    ))  # fmt: skip


def _listdir(path: Any = ".") -> list[Any]:
    return sorted(real.listdir(path))


class _Scan:
    """What `os.scandir` gives, in an order that does not depend on the machine."""

    def __init__(self, path: Any = ".") -> None:
        with real.scandir(path) as entries:
            self._entries = iter(sorted(entries, key=lambda entry: entry.name))

    def __iter__(self) -> _Scan:
        return self

    def __next__(self) -> os.DirEntry[Any]:
        return next(self._entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


# file objects


class _Raw(io.RawIOBase):
    """A file on the disk, or one of its descriptors."""

    def __init__(self, handle: int, name: Any, mode: str, closes: bool) -> None:
        self._handle, self.name, self._mode, self._closes = handle, name, mode, closes
        if "a" in mode:
            real.lseek(handle, 0, os.SEEK_END)

    @property
    def mode(self) -> str:
        kind = next(letter for letter in "xawr" if letter in self._mode)
        kind = {"w": "wb", "r": "rb", "a": "ab", "x": "xb"}[kind]
        return "rb+" if "+" in self._mode else kind

    def fileno(self) -> int:
        self._open_only()
        return self._handle

    def _open_only(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def readable(self) -> bool:
        self._open_only()
        return "r" in self._mode or "+" in self._mode

    def writable(self) -> bool:
        self._open_only()
        return self._mode.strip("bt") != "r"

    def seekable(self) -> bool:
        self._open_only()
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.readable():
            raise io.UnsupportedOperation("File not open for reading")
        data = _read(self._handle, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        pieces = []
        while piece := _read(self.fileno(), 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)

    def write(self, data: Any) -> int:
        if not self.writable():
            raise io.UnsupportedOperation("File not open for writing")
        return _write(self._handle, data)

    def seek(self, at: int, whence: int = os.SEEK_SET) -> int:
        return real.lseek(self.fileno(), at, whence)

    def tell(self) -> int:
        return real.lseek(self.fileno(), 0, os.SEEK_CUR)

    def truncate(self, size: int | None = None) -> int:
        if not self.writable():
            raise io.UnsupportedOperation("File not open for writing")
        length = self.tell() if size is None else size
        _ftruncate(self._handle, length)
        return length

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        if not self.closed:
            try:
                super().close()
            finally:
                if self._closes:
                    _close(self._handle)


def _open(  # noqa: PLR0913, PLR0917 -- as Python's own
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
) -> Any:
    disk = _the_disk()
    ours = file in disk.handles if isinstance(file, int) else disk.inside(file) is not None
    if not ours:
        if encoding is None and "b" not in mode:
            encoding = io.text_encoding(encoding, 2)
        return really_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    if isinstance(file, int):
        handle = file
    else:
        flags = _flags(mode)
        handle = opener(file, flags) if opener else _os_open(file, flags, 0o666)
    try:
        if disk.handles[handle].inode is None:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), file)
        raw = _Raw(handle, file, mode, closefd)
    except BaseException:
        if not isinstance(file, int):
            _close(handle)
        raise
    return _layered(raw, mode, buffering, encoding, errors, newline)


def _flags(mode: str) -> int:
    how = os.O_RDWR if "+" in mode else os.O_RDONLY if "r" in mode else os.O_WRONLY
    if "w" in mode:
        how |= os.O_CREAT | os.O_TRUNC
    elif "x" in mode:
        how |= os.O_CREAT | os.O_EXCL
    elif "a" in mode:
        how |= os.O_CREAT | os.O_APPEND
    return how | os.O_CLOEXEC


def _layered(  # noqa: PLR0913, PLR0917
    raw: _Raw,
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> Any:
    if buffering == 0:
        if "b" not in mode:
            raise ValueError("can't have unbuffered text I/O")
        return raw
    size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
    if "+" in mode:
        buffer: Any = io.BufferedRandom(raw, size)
    elif "r" in mode:
        buffer = io.BufferedReader(raw, size)
    else:
        buffer = io.BufferedWriter(raw, size)
    if "b" in mode:
        return buffer
    text = io.TextIOWrapper(buffer, io.text_encoding(encoding), errors, newline, buffering == 1)
    text.mode = mode
    return text


SHIMS: dict[str, Any] = {
    "open": _os_open, "close": _close, "dup": _dup, "read": _read, "pread": _pread,
    "write": _write, "pwrite": _pwrite, "sendfile": _sendfile, "ftruncate": _ftruncate,
    "truncate": _truncate, "posix_fallocate": _posix_fallocate, "fsync": _fsync,
    "fdatasync": _fsync, "replace": _rename, "rename": _rename, "unlink": _unlink,
    "remove": _unlink, "rmdir": _rmdir, "mkdir": _mkdir, "link": _link, "symlink": _symlink,
    "listdir": _listdir, "scandir": _Scan, "utime": _utime, "chmod": _chmod,
    "statvfs": _statvfs, "fstatvfs": _statvfs,
}  # fmt: skip
