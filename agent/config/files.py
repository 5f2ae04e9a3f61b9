"""The texts of the configuration file and of those that it includes. Each file is read once.

A change is made in memory first. A file is replaced in one step or not at all.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path, PurePath

from agent.config.problem import Problem, SourcePosition
from agent.core import atomic_write
from agent.core.errors import ConfigError, Refused
from agent.core.i18n import _
from agent.core.settings import harmless, shown

LARGEST = 1_000_000
"""bytes of one file; 10,000 devices need about 800,000"""
MOST_FILES = 20


class Files:
    """The texts of one configuration, by path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._texts: dict[Path, str] = {}
        self._read: dict[Path, tuple[int, ...]] = {}

    def text(self, path: Path | None = None) -> str:
        """The text of a file; default: the main file. Raises ConfigError."""
        path = self.path if path is None else path
        if path not in self._texts:
            if len(self._texts) >= MOST_FILES:
                raise ConfigError(
                    _(
                        "{path}: more than {most} files are included; merge some of them",
                        path=path,
                        most=MOST_FILES,
                    )
                )
            self._texts[path], was = _read(path)
            self._read[path] = _version(was)
        return self._texts[path]

    def must_be_whole(self) -> None:
        """Check that no file was being written while it was read. Raises ConfigError.

        A file that ends within a line may be half written. A file that has changed since it was
        read is not the one that was checked.
        """
        for path in self._read:
            if not self._texts[path].endswith("\n"):
                line = self._texts[path].count("\n") + 1
                what = _("the file ends within this line and may be half written: end the line")
                raise ConfigError(str(Problem(str(path), line, 1, "", what)))
            try:
                now = _version(path.stat())
            except OSError:
                now = ()
            if now != self._read[path]:
                raise ConfigError(
                    _("{path}: the file changed while it was read: try again", path=path)
                )

    def beside(self, name: str) -> Path:
        """The path of an included file, which must be in the same folder. Raises Refused."""
        if not name or name in {".", ".."} or PurePath(name).name != name:
            raise Refused(
                _(
                    "expected a file in the same folder, such as devices.yaml, found {name}",
                    name=shown(name),
                )
            )
        return self.path.parent / name

    def include(self, name: str) -> str:
        """The text of an included file. Raises Refused."""
        return self.text(self.beside(name))

    def paths(self) -> tuple[Path, ...]:
        """The files that were read so far."""
        return tuple(self._texts)

    def with_text(self, path: Path, text: str) -> Files:
        """A copy of these files with one text changed, in memory only."""
        other = Files(self.path)
        other._texts = {**self._texts, path: text}
        # the changed text is not on the disk: `must_be_whole` must not compare it
        other._read = {one: was for one, was in self._read.items() if one != path}
        return other

    def write(self, path: Path) -> None:
        """Write a text to its file, which keeps its owner and mode. Raises Refused."""
        self._write(path, path, self.text(path))

    def keep(self, path: Path, copy: Path) -> None:
        """Copy a file as it is on the disk, with its owner and mode. Raises Refused."""
        self._write(path, copy, read_text(path))

    @staticmethod
    def _write(like: Path, path: Path, text: str) -> None:
        try:
            # resolved, so that a link keeps pointing to the file instead of being replaced by it
            _put_in_place(path.resolve(), text, like.stat())
        except OSError as error:
            raise Refused(
                _("{path} cannot be written: {reason}", path=path, reason=error.strerror)
            ) from error


def read_text(path: Path) -> str:
    """The text of a file of limited size. Raises ConfigError."""
    return _read(path)[0]


def _version(was: os.stat_result) -> tuple[int, ...]:
    """A value that changes when a file is written or replaced."""
    return was.st_dev, was.st_ino, was.st_size, was.st_mtime_ns


def _read(path: Path) -> tuple[str, os.stat_result]:
    try:
        # one byte more shows that the file is too large, without reading all of it
        written, was = atomic_write.read(path, LARGEST + 1)
    except (atomic_write.NoFile, IsADirectoryError) as error:
        raise ConfigError(
            _("{path}: not a regular file but a folder, a pipe or a device: name a file", path=path)
        ) from error
    except OSError as error:
        raise ConfigError(
            _("{path}: cannot be read: {reason}", path=path, reason=error.strerror)
        ) from error
    if len(written) > LARGEST:
        raise ConfigError(
            _(
                "{path}: larger than {most:,} bytes, too large for a configuration",
                path=path,
                most=LARGEST,
            )
        )
    try:
        # Windows editors put a byte order mark first, which would become part of the first key
        return written.decode("utf-8-sig"), was
    except UnicodeDecodeError as error:
        place, what = _not_utf8(written, error.start)
        raise ConfigError(str(Problem(str(path), place.line, place.column, "", what))) from error


def _not_utf8(written: bytes, start: int) -> tuple[SourcePosition, str]:
    before = written[:start]
    line_start = before.rfind(b"\n") + 1
    column = len(before[line_start:].decode("utf-8", "replace")) + 1
    character = written[start : start + 1].decode("cp1252", "replace")
    what = _(
        'not UTF-8 from here on (perhaps "{character}" of Windows-1252): save as UTF-8',
        character=harmless(character),
    )
    if written[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        what = _("this file is in UTF-16: save it as UTF-8")
    elif b"\0" in written:
        what = _("this is not a text file")
    return SourcePosition(before.count(b"\n") + 1, column), what


def _put_in_place(path: Path, text: str, was: os.stat_result) -> None:
    # in the same folder: no rename replaces a file of another file system in one step
    handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        # newline="" keeps the line ends of the file (rule U7)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), was.st_mode & 0o7777)
            # otherwise the file would be for root alone, and the agent could not read it
            if os.geteuid() == 0:
                os.fchown(file.fileno(), was.st_uid, was.st_gid)
            # before the rename: a power cut could otherwise leave an empty file under this name
            os.fsync(file.fileno())
        Path(made).replace(path)
    except OSError:
        Path(made).unlink(missing_ok=True)
        raise
