"""Compile what lies in a folder into its `compiled.zip`; packaging/gardien.py reads it.

    python3 -I -X no_debug_ranges pack.py /usr/share/gardien

Without the columns that tracebacks underline: lines are enough, memory and card are small.
"""

import py_compile
import sys
from importlib.util import cache_from_source
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZipFile


def pack(folder: Path) -> None:
    """Write it anew; what reads the one before goes on with that."""
    made = folder / "compiled.zip"
    new = made.with_suffix(".new")
    with (
        TemporaryDirectory() as work,
        # a gateway without a clock may believe that it is 1970
        ZipFile(new, "w", ZIP_DEFLATED, strict_timestamps=False) as packed,
    ):
        compiled = Path(work, "compiled")
        for source in sorted(folder.rglob("*.py")):
            py_compile.compile(str(source), str(compiled), doraise=True)
            packed.write(compiled, cache_from_source(str(source.relative_to(folder))))
    new.replace(made)


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
