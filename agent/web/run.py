"""Serve the sockets that systemd has opened, over TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path

from agent.core.state import HANDED_OVER
from agent.core.systemd import notify

AWAY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def main() -> None:
    """Serve until systemd stops it."""
    asyncio.run(_serve(Path(os.environ.get("STATE_DIRECTORY", "/var/lib/gardien-web"))))


async def _serve(folder: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    for handle in range(HANDED_OVER, HANDED_OVER + int(os.environ["LISTEN_FDS"])):
        await asyncio.start_server(_answer, sock=socket.socket(fileno=handle), ssl=tls)
    notify("READY=1")
    await asyncio.Event().wait()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(AWAY)
    await writer.drain()
    writer.close()
