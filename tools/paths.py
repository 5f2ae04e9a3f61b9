"""How many files and functions one reading and one order pass through: `make house` shows it.

A gateway runs in the simulated building of tests/unit/test_architecture.py. What counts is what its
tasks run from the first line to the last of each numbered part of the two stories in
docs/architecture.md. With `-v` it names the files, with the number of their functions.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.traced import Recorder  # noqa: E402 -- below the path
from tests.unit.test_architecture import follow_both  # noqa: E402


def main() -> None:
    """Print a line for each story."""
    with tempfile.TemporaryDirectory() as folder:
        runs = follow_both(Recorder(ROOT), Path(folder))
    for heading, run in runs.items():
        functions = run.passed()
        files = Counter(file for file, _ in functions)
        print(f"{heading.lower():39}{len(files)} files, {len(functions)} functions")
        if "-v" in sys.argv:
            print(*(f"  {file} {count}" for file, count in sorted(files.items())), sep="\n")


if __name__ == "__main__":
    main()
