"""The web page as a process, with a certificate of its own."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hil.ca import CA

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Sequence

PAGE_SIZE = 4096
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""as systemd does before it starts a service for a socket (sd_listen_fds(3))"""
LISTENING = r"https://127\.0\.0\.1:(\d+)"


class PageServer:
    """A running page."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port
        self.url = f"https://127.0.0.1:{port}"

    @property
    def memory(self) -> int:
        """Bytes that it holds in memory (RSS)."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1]
        return int(pages) * PAGE_SIZE


def certified(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1; return the folder that the page wants."""
    tls = folder / "tls"
    tls.mkdir(exist_ok=True)
    both = CA("Page").server(tls)
    for name in ("certificate.pem", "key.pem"):
        shutil.copy(both, tls / name)
    return tls


async def activated(
    listener: socket.socket, folder: Path, state: Path, *more: str, before: Sequence[str] = ()
) -> asyncio.subprocess.Process:
    """Start the page as systemd does when somebody connects. `before`: a command that starts it.

    The caller ends it. `folder` must be `certified`; its log is `page.log`.
    """
    with (folder / "page.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *before, sys.executable, "-SE", "-c", HAND_OVER, str(listener.fileno()),
            sys.executable, "-m", "agent.web.run", "--state", str(state), "--tls",
            str(folder / "tls"), *more, stderr=log, pass_fds=[listener.fileno()],
        )  # fmt: skip


@asynccontextmanager
async def page_of(folder: Path, state: Path, *more: str) -> AsyncIterator[PageServer]:
    """Serve the page of the agent with this state on a free port, until the end of the block."""
    tls = certified(folder)
    with (folder / "page.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent.web.run", "--state", str(state), "--tls", str(tls),
            "--listen", "127.0.0.1:0", *more, stderr=log,
        )  # fmt: skip
    try:
        yield PageServer(process, await _port(process, folder / "page.log"))
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await process.wait()


async def _port(process: asyncio.subprocess.Process, log: Path) -> int:
    """Wait until the page says where it listens. Raises RuntimeError if it ends before."""
    async with asyncio.timeout(60):
        while not (at := re.search(LISTENING, text := await asyncio.to_thread(log.read_text))):
            if process.returncode is not None:
                raise RuntimeError(f"the page ended: {text}")
            await asyncio.sleep(0.05)
    return int(at[1])
