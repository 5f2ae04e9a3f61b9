"""What holds for all tests."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.depth import LONG, depth

# tests may run as root, which is an account that several people use: they say who they are
os.environ.setdefault("GARDIEN_AS", "the tests")

# what is printed, and who may read a new file, is the same whatever account and terminal ask
for _word in ("COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "JOURNAL_STREAM", "LANGUAGE", "LC_ALL",
              "LC_MESSAGES", "LINES", "NOTIFY_SOCKET", "NO_COLOR", "PY_COLORS", "TTY_COMPATIBLE",
              "WATCHDOG_USEC"):  # fmt: skip
    os.environ.pop(_word, None)
os.environ["LANG"] = "C.UTF-8"
# each of the many commands that tests run would compile the agent anew
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.umask(0o022)

# how long an example takes says something of the machine, and nothing of the code. The examples
# of a commit are the same wherever it is tested; what nobody thought of, the torture looks for
settings.register_profile(
    "gardien",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not LONG,
    max_examples=depth(25, 500),
)
settings.load_profile("gardien")


@pytest.fixture
def open_folder():
    """In /tmp whatever TMPDIR says: anybody may enter, and the path of a socket is short enough."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def small_disk(tmp_path):
    """16 MB of their own for a spool and its neighbours."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", tmp_path],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"no mount here: {made.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)
