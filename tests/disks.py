"""A disk that fails in the ways of an SD card: ext4 on a loop device, for root alone."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN: from now on every request is answered EIO"""
NO_LOG_FLUSH = 2
FREEZE, THAW = 0xC0045877, 0xC0045878
"""FIFREEZE, FITHAW"""
SIZE = 24 * 1024 * 1024


class Disk:
    """A mounted file system that can be made to fail, and to recover."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.image, self.folder = image, folder
        self.frozen = False
        self._mount()

    def _mount(self) -> None:
        run("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.folder))
        self.device = run("findmnt", "-no", "SOURCE", str(self.folder)).strip()

    def read_only(self) -> None:
        """What ext4 does by itself when the card returns an error: also while files are open."""
        name = Path(self.device).name
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("by a test")

    def fails(self) -> None:
        """EIO, whatever is asked."""
        self._ioctl(SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))

    def freeze(self) -> None:
        """Who writes waits, and cannot be killed while it does."""
        self._ioctl(FREEZE, struct.pack("I", 0))
        self.frozen = True

    def thaw(self) -> None:
        self._ioctl(THAW, struct.pack("I", 0))
        self.frozen = False

    def _ioctl(self, request: int, argument: bytes) -> None:
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(handle, request, argument)
        finally:
            os.close(handle)

    def fill(self) -> None:
        """A neighbour takes every byte."""
        with (self.folder / "hog").open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while file.write(b"x" * size) == size:
                        pass
                except OSError:
                    continue

    def recover(self) -> None:
        """Mounted anew, as after a reboot or a new card; nobody may have a file open.

        A copy is mounted: who took a mount namespace of its own meanwhile, also in another test,
        keeps the file system that failed, and Linux would mount that again.
        """
        self.close()
        self.image = Path(shutil.copyfile(self.image, self.image.with_name(f"{self.image.name}+")))
        subprocess.run(["/usr/sbin/fsck.ext4", "-p", "-f", str(self.image)], check=False,
                       capture_output=True)  # fmt: skip
        self._mount()

    def close(self) -> None:
        if self.frozen:
            self.thaw()
        for _ in range(200):
            if not subprocess.run(
                ["umount", self.folder], check=False, capture_output=True
            ).returncode:
                return
            time.sleep(0.05)  # whoever had a file open is about to end
        run("umount", str(self.folder))


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def available() -> bool:
    """Whether this machine lets us mount."""
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        return False
    try:
        with disk():
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def disk() -> Iterator[Disk]:
    """A new one, mounted."""
    with tempfile.TemporaryDirectory(prefix="disk") as parent:
        image, folder = Path(parent) / "image", Path(parent) / "disk"
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(SIZE)
        run("mkfs.ext4", "-q", "-b", "1024", str(image))
        made = Disk(image, folder)
        try:
            yield made
        finally:
            made.close()
