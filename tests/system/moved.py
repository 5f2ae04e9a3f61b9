"""A wall clock that all programs of a test share and that the test moves."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

GCC = shutil.which("gcc")


class Moved:
    """From now on every program that is started lives at the time that `to` has said last."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file, library = folder / "moved", folder / "moved.so"
        source = Path(__file__).with_name("moved.c")
        assert GCC
        subprocess.run([GCC, "-O2", "-Wall", "-shared", "-fPIC", "-o", library, source], check=True)
        self.to(time.time())
        monkeypatch.setenv("LD_PRELOAD", str(library))
        monkeypatch.setenv("MOVED", str(self._file))

    def to(self, moment: float) -> None:
        """Let it be this Unix time now, for those who run already too."""
        by = struct.pack("=q", int(moment - time.time()))
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(by)
