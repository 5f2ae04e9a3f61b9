"""What stands behind the agent on stage: a line, a server and a platform, for each transport."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec

from hil.broker import broker
from hil.ca import CA, bundle
from hil.cut import Cut, cut
from hil.nats import nats_servers
from hil.platform.child import Fetching, Keeper, Platform, Serving
from hil.platform.files import Reader
from hil.process import Child, free_port
from hil.sshd import sftp_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from hil.nats import Cluster


@dataclass
class Behind:
    """All of it, running."""

    uplink: str
    """the transport's options, as the agent's configuration writes them"""
    server: Child
    """what takes batches for the platform; over HTTPS the platform itself"""
    line: Cut
    platform: Keeper
    fleet: CA | None = None
    """who issues the gateway's certificate; None: it needs none"""
    cluster: Cluster | None = None
    """of nats-servers; the platform is elsewhere then, and has nothing to do"""


def behind(
    transport: str, folder: Path, broker_says: Sequence[str] = ()
) -> AbstractAsyncContextManager[Behind]:
    """Set up the far side of `mqtt`, `mqtts`, `nats`, `https` or `sftp`."""
    if transport == "mqtt":
        return _mqtt(folder, broker_says)
    return {"mqtts": _mqtts, "nats": _nats, "https": _https, "sftp": _sftp}[transport](folder)


@asynccontextmanager
async def _mqtt(folder: Path, broker_says: Sequence[str]) -> AsyncIterator[Behind]:
    async with (
        broker(more=broker_says) as server,
        cut(server.port) as line,
        Platform(server.port, folder / "platform.db") as platform,
    ):
        options = f'transport: mqtt, url: "mqtt://127.0.0.1:{line.port}", receipt: platform'
        yield Behind(options, server, line, platform)


@asynccontextmanager
async def _mqtts(folder: Path) -> AsyncIterator[Behind]:
    """A broker that takes gateways with certificates; the platform beside it needs none."""
    fleet, ours, port = CA("Fleet CA"), CA("Platform CA"), free_port()
    own, known = ours.server(folder), fleet.file(folder)
    secure = (f"listener {port} 127.0.0.1", f"cafile {known}", f"certfile {own}", f"keyfile {own}")
    async with (
        broker(more=(*secure, "require_certificate true", "user root")) as server,
        cut(port) as line,
        Platform(server.port, folder / "platform.db") as platform,
    ):
        url = f"mqtts://127.0.0.1:{line.port}"
        options = f'transport: mqtt, url: "{url}", ca: {ours.file(folder)}'
        yield Behind(options, server, line, platform, fleet)


@asynccontextmanager
async def _nats(folder: Path) -> AsyncIterator[Behind]:
    """Three servers that nobody has rights at yet; the line leads to the first one."""
    fleet, ours = CA("Fleet CA"), CA("Platform CA")
    async with (
        nats_servers(3, (fleet, ours)) as cluster,
        broker() as idle,
        cut(cluster[0].port) as line,
        Platform(idle.port, folder / "platform.db") as platform,
    ):
        options = f'transport: mqtt, url: "mqtts://127.0.0.1:{line.port}", ca: {ours.file(folder)}'
        yield Behind(options, idle, line, platform, fleet, cluster)


@asynccontextmanager
async def _https(folder: Path) -> AsyncIterator[Behind]:
    fleet, ours, port = CA("Fleet CA"), CA("Platform CA"), free_port()
    own, known = ours.server(folder), fleet.file(folder)
    async with (
        Serving(port, folder / "platform.db", own, known) as platform,
        cut(port) as line,
    ):
        url = f"https://127.0.0.1:{line.port}"
        options = f'transport: https, url: "{url}", ca: {ours.file(folder)}, poll: 1s'
        yield Behind(options, platform, line, platform, fleet)


@asynccontextmanager
async def _sftp(folder: Path) -> AsyncIterator[Behind]:
    fleet, ours = CA("Fleet CA"), CA("Platform CA")
    key = ec.generate_private_key(ec.SECP256R1())
    kept = bundle(folder / "platform.pem", key, ours.issue("platform", key.public_key()))
    reader = Reader(kept, kept, fleet.file(folder))
    async with (
        sftp_server() as server,
        cut(server.port) as line,
        Fetching(server.root, folder / "platform.db", reader) as platform,
    ):
        options = (
            f'transport: files, url: "{server.url(line.port)}", host_key: "{server.host_key}",'
            f' key: "file:{server.own_key}", encrypt_for: [{kept}], poll: 200ms'
        )
        yield Behind(options, server, line, platform, fleet)
