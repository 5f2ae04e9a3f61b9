"""A real sshd that gives a folder by SFTP on a private loopback port, its keys made anew.

As root the user `nobody` is shut into the folder (chroot), may write into `in/` and only read
`out/`, as a platform would set it up; otherwise the folder is ours.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hil.process import START_SECONDS, Child, accepts, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SSHD = "/usr/sbin/sshd"
PRIVILEGES = Path("/run/sshd")
"""an empty folder that sshd wants when it is root"""
CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {keys}/host
PidFile none
AuthorizedKeysFile {keys}/authorized
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
ForceCommand internal-sftp{start}
AllowTcpForwarding no
PerSourcePenalties no
MaxStartups 100
LogLevel ERROR
"""


class Sshd(Child):
    """The server; `kill` ends its sessions too, `start` leaves it on the same port."""

    def __init__(self, keys: Path, root: Path, port: int) -> None:
        super().__init__((SSHD, "-D", "-e", "-f", str(keys / "sshd_config")))
        self.keys, self.root, self.port = keys, root, port
        shut_in = os.geteuid() == 0
        self.user = "nobody" if shut_in else pwd.getpwuid(os.geteuid()).pw_name
        self.path = "/" if shut_in else f"{root}/"
        self.own_key = keys / "gateway"

    @property
    def host_key(self) -> str:
        """As the agent's configuration writes it."""
        return " ".join((self.keys / "host.pub").read_text().split()[:2])

    def url(self, port: int = 0) -> str:
        """As the agent's configuration writes it, perhaps through a proxy's port."""
        return f"sftp://{self.user}@127.0.0.1:{port or self.port}{self.path}"

    async def start(self, within: float = START_SECONDS) -> None:
        """Start, and wait until it accepts connections."""
        await super().start(within)
        await accepts(self.port, within)

    async def kill(self) -> None:
        """Kill -9, with every session."""
        for pid in _descendants(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await super().kill()

    async def new_host_key(self) -> None:
        """Make another host key; shown from the next start on."""
        (self.keys / "host").unlink()
        await _keygen(self.keys / "host")


@asynccontextmanager
async def sftp_server() -> AsyncIterator[Sshd]:
    """Run an sshd for as long as the block; its folder has `in`, `out` and `out/objects`."""
    place = Path("/run") if os.geteuid() == 0 else None  # /tmp is too open for a chroot
    folder = Path(tempfile.mkdtemp(prefix="gardien-sftp-", dir=place))
    try:
        server = _furnished(folder)
        await _keygen(server.keys / "host")
        await _keygen(server.own_key)
        shutil.copy(server.own_key.with_suffix(".pub"), server.keys / "authorized")
        async with server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _furnished(folder: Path) -> Sshd:
    keys, root, port = folder / "keys", folder / "root", free_port()
    keys.mkdir()
    (root / "out/objects").mkdir(parents=True)
    (root / "in").mkdir()
    folder.chmod(0o755)
    server = Sshd(keys, root, port)
    shut_in = os.geteuid() == 0
    text = CONFIG.format(port=port, keys=keys, start="" if shut_in else f" -d {root}")
    if shut_in:
        PRIVILEGES.mkdir(mode=0o755, exist_ok=True)
        text += f"ChrootDirectory {root}\n"
        who = pwd.getpwnam(server.user)
        os.chown(root / "in", who.pw_uid, who.pw_gid)
    (keys / "sshd_config").write_text(text)
    return server


async def _keygen(path: Path) -> None:
    words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path))
    process = await asyncio.create_subprocess_exec(*words)
    if await process.wait():
        raise RuntimeError("ssh-keygen failed")


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [one for child in map(int, children) for one in (child, *_descendants(child))]
