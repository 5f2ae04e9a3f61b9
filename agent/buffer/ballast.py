"""A file of no use but its size: on a full disk it makes room to go on settling and sealing.

On a file system without room SQLite cannot even delete (its log must grow), so a spool whose
neighbours filled the disk could never drain. Measured: 2 MB more, and it goes on.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 2 * 1024 * 1024


class Ballast:
    """Stands while there is room on the disk; while it does not, no new rows are taken."""

    def __init__(self, spool: Path, reserve: int = 0) -> None:
        """`reserve`: bytes of the disk that are not for readings."""
        self._folder, self._reserve = spool.parent, reserve
        self._path = spool.with_name(f"{spool.name}.ballast")
        self._standing = self._path.exists() and self._path.stat().st_size == SIZE

    def spare(self) -> int:
        """Bytes that the disk has beyond the reserve."""
        return max(0, shutil.disk_usage(self._folder).free - self._reserve)

    def stand(self) -> bool:
        """Whether it stands, put up again if the disk has room for it."""
        if not self._standing:
            self._standing = self._put_up()
        return self._standing

    def drop(self) -> bool:
        """Give its room to the spool; False if there was none to give."""
        stood, self._standing = self._standing, False
        self._path.unlink(missing_ok=True)
        return stood

    def _put_up(self) -> bool:
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(handle, 0, SIZE)
            finally:
                os.close(handle)
        except OSError:  # ENOSPC or EDQUOT, mostly; whichever it is, there is no ballast
            self._path.unlink(missing_ok=True)
            return False
        return True
