"""The far sides of all transports, each with its platform, for one suite of tests."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec

from agent.core.tasks import end
from agent.uplink import transport
from agent.uplink.base import GatewayFacts
from hil.broker import broker
from hil.ca import CA, bundle
from hil.cut import Cut, cut
from hil.platform.child import Fetching, Keeper, Platform, Serving
from hil.platform.files import Reader
from hil.process import free_port
from hil.sshd import sftp_server
from tests.contract.uplink.house import GATEWAY, RECIPIENT, SEAL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent.core.model import Receipt
    from agent.uplink.base import Uplink
    from hil.process import Child

TRANSPORTS = ("mqtt", "https", "folder", "sftp")
OVER_A_LINE = tuple(word for word in TRANSPORTS if word != "folder")
PLATFORM = "platform.example"


@dataclass
class Side:
    """One transport, and what is at its other end."""

    kind: type[Uplink]
    settings: Any
    station: GatewayFacts
    platform: Keeper
    line: Cut | None = None
    """the proxy between us and it; None: there is no line"""
    server: Child | None = None
    """what stands between us and the platform, if anything does"""
    root: Path | None = None
    """the folder that the platform fetches from"""
    objects: list[bytes] = field(default_factory=list)
    """signed objects that came down"""


@asynccontextmanager
async def side(word: str, folder: Path, sign: Path | None = None) -> AsyncIterator[Side]:
    """Set up one far side, its platform running."""
    objects: list[bytes] = []

    async def take(raw: bytes) -> None:
        objects.append(raw)

    async with AsyncExitStack() as stack:
        if word == "mqtt":
            made = await _mqtt(stack, folder, sign)
        elif word == "https":
            made = await _https(stack, folder, sign)
        else:
            made = await _files(stack, folder, word, sign)
        made.objects = objects
        made.station = GatewayFacts(GATEWAY, made.station.credential, take)
        yield made


@asynccontextmanager
async def listening(uplink: Uplink) -> AsyncIterator[list[Receipt]]:
    """What the uplink hears as long as the block. Its end cuts off a look that is under way, and
    with it a connection for files: nothing more is asked of that uplink.
    """
    heard: list[Receipt] = []

    async def listen() -> None:
        async for receipt in uplink.receipts():
            heard.append(receipt)  # noqa: PERF401 -- it is looked at meanwhile

    task = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        await end([task])
        _ = task.cancelled() or task.result()  # what ended it is not passed over


async def so(fact: Callable[[], object], within: float = 60.0) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(within):
        while not fact():
            await asyncio.sleep(0.02)


def settings_of(word: str, **told: object) -> Any:
    """Settings of a transport, checked as a file's would be."""
    return transport(word).Settings.model_validate({"recipient": RECIPIENT, "seal": SEAL} | told)


async def _mqtt(stack: AsyncExitStack, folder: Path, sign: Path | None) -> Side:
    server = await stack.enter_async_context(broker())
    line = await stack.enter_async_context(cut(server.port))
    platform = await stack.enter_async_context(
        Platform(server.port, folder / "platform.db", sign=sign)
    )
    settings = settings_of("mqtt", url=f"mqtt://127.0.0.1:{line.port}", keepalive=5)
    return Side(transport("mqtt"), settings, GatewayFacts(GATEWAY), platform, line, server)


async def _https(stack: AsyncExitStack, folder: Path, sign: Path | None) -> Side:
    fleet, ours, port = CA("Fleet CA"), CA("Platform CA"), free_port()
    own, known = ours.server(folder), fleet.file(folder)
    identity = fleet.gateway(GATEWAY, folder / "state")
    platform = Serving(port, folder / "platform.db", own, known, sign)
    await stack.enter_async_context(platform)
    line = await stack.enter_async_context(cut(port))
    settings = settings_of(
        "https", url=f"https://127.0.0.1:{line.port}", ca=ours.file(folder), poll=0.2
    )
    return Side(
        transport("https"), settings, GatewayFacts(GATEWAY, identity), platform, line, platform
    )


async def _files(stack: AsyncExitStack, folder: Path, word: str, sign: Path | None) -> Side:
    reader, told, identity = papers(folder)
    told["poll"] = 0.1
    if word == "folder":
        root = folder / "exchange"
        (root / "in").mkdir(parents=True)
        (root / "out/objects").mkdir(parents=True)
        settings = settings_of("files", path=root, **told)
        line, server = None, None
    else:
        server = await stack.enter_async_context(sftp_server())
        line = await stack.enter_async_context(cut(server.port))
        root = server.root
        settings = settings_of(
            "files",
            url=server.url(line.port),
            host_key=server.host_key,
            key=f"file:{server.own_key}",
            **told,
        )
    platform = await stack.enter_async_context(
        Fetching(root, folder / "platform.db", reader, sign=sign)
    )
    station = GatewayFacts(GATEWAY, identity)
    return Side(transport("files"), settings, station, platform, line, server, root)


def papers(folder: Path) -> tuple[Reader, dict[str, Any], Path]:
    """Certificates: what the platform opens with, what the agent is told, and its own."""
    fleet, ours = CA("Fleet CA"), CA("Platform CA")
    key = ec.generate_private_key(ec.SECP256R1())
    own = ours.issue(PLATFORM, key.public_key())
    kept = bundle(folder / "platform.pem", key, own)
    reader = Reader(kept, kept, fleet.file(folder))
    return reader, {"encrypt_for": [kept]}, fleet.gateway(GATEWAY, folder / "state")
