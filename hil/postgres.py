"""A real PostgreSQL 17 for as long as a block: on a socket in a folder of its own, on no port.

As root it runs as Debian's account `postgres`, since it refuses to run as root; otherwise as us.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path("/usr/lib/postgresql/17/bin")
ACCOUNT = "postgres"
"""the account that owns the server, and the name of its first user and database"""
START_SECONDS = 60.0
NEW = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
SETTINGS = (
    "-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c autovacuum=off"
)


@contextmanager
def postgres() -> Iterator[str]:
    """Run an empty server. Yields the folder of its socket, which is the `host` of a connection.

    Nothing it holds survives the block. Raises CalledProcessError if it does not start.
    """
    # the path of a socket is short, wherever TMPDIR leads
    folder = Path(tempfile.mkdtemp(prefix="gardien-postgres-", dir="/tmp"))
    if os.geteuid() == 0:
        owner = pwd.getpwnam(ACCOUNT)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    data = str(folder / "data")
    options = SETTINGS.format(folder=folder)
    try:
        _as_owner("initdb", "-D", data, "-U", ACCOUNT, *NEW)
        _as_owner("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield str(folder)
        finally:
            _as_owner("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _as_owner(program: str, *arguments: str, errors: int | None = None) -> None:
    account = ACCOUNT if os.geteuid() == 0 else None
    subprocess.run(
        (str(PROGRAMS / program), *arguments),
        check=True, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=errors,
        user=account, group=account, extra_groups=[] if account else None,
    )  # fmt: skip


def kill_and_start(host: str) -> None:
    """Kill -9 the server, as a machine that loses power would, and start it again."""
    folder = Path(host)
    (pid, *_) = (folder / "data/postmaster.pid").read_text().split()
    os.kill(int(pid), signal.SIGKILL)
    options = SETTINGS.format(folder=folder)
    end = time.monotonic() + START_SECONDS
    while True:
        # while its processes have not noticed, a new server does not start
        with suppress(subprocess.CalledProcessError):
            _as_owner("pg_ctl", "-D", str(folder / "data"), "-w", "-l", str(folder / "log"),
                      "-o", options, "start", errors=subprocess.DEVNULL)  # fmt: skip
            return
        if time.monotonic() > end:
            raise TimeoutError((folder / "log").read_text()[-2_000:])
