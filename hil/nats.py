"""Real nats-servers on private loopback ports: a cluster with JetStream and MQTT, with the
configuration that docs/receiver-scale.md prints.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from hil.ca import GATEWAY_USES, SERVER_USES
from hil.process import START_SECONDS, Child, accepts, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hil.ca import CA

NATS_SERVER = "/usr/sbin/nats-server"
PAGE = Path(__file__).parents[1] / "docs/receiver-scale.md"


class NatsServer(Child):
    """A nats-server; `kill` and `start` leave it on the same ports and the same disk."""

    def __init__(self, config: Path, port: int, mqtt_port: int, watch: int, secure: str) -> None:
        self.name = config.stem
        super().__init__((NATS_SERVER, "-c", str(config), "-l", str(config.with_suffix(".log"))))
        self.port = mqtt_port
        self.url = f"mqtt{secure}://127.0.0.1:{mqtt_port}"
        self.nats_url = f"nats://127.0.0.1:{port}"
        self._watch = f"http://127.0.0.1:{watch}/jsz"

    async def start(self, within: float = START_SECONDS) -> None:
        """Start, and wait until it accepts connections. Raises TimeoutError."""
        await super().start(within)
        await accepts(self.port, within)

    def meta(self) -> dict[str, Any]:
        """What it knows of the cluster."""
        with urlopen(self._watch, timeout=START_SECONDS) as answer:
            known: dict[str, Any] = json.loads(answer.read())["meta_cluster"]
        return known

    def reload(self) -> None:
        """Let it read its configuration again."""
        self._running().send_signal(signal.SIGHUP)


class Cluster(list[NatsServer]):
    """Servers that run; `urls` and `nats_urls` are what a receiver is given."""

    folder: Path

    def grant(self, users: str) -> None:
        """Let them know other rights."""
        (self.folder / "users.conf").write_text(users, encoding="utf-8")
        for server in self:
            server.reload()

    async def whole(self) -> bool:
        """Whether the one that they elect leads all of them."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                for server in self:
                    state = await asyncio.to_thread(server.meta)
                    if state["cluster_size"] < len(self):
                        return False
                    if len(state.get("replicas", ())) == len(self) - 1:
                        return True
                await asyncio.sleep(0.1)

    @property
    def urls(self) -> str:
        """Their MQTT ports."""
        return ",".join(server.url for server in self)

    @property
    def nats_urls(self) -> str:
        """Their ports for clients of NATS."""
        return ",".join(server.nats_url for server in self)


@asynccontextmanager
async def nats_servers(
    servers: int = 3, secure: tuple[CA, CA] | None = None, users: str = ""
) -> AsyncIterator[Cluster]:
    """Run a cluster for as long as the block. `secure`: the CAs of gateways and of the platform,
    with the rights of `users`; without, everybody may do everything.
    """
    (printed,) = re.findall(r"```nats\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    ports = [[free_port() for _ in range(4)] for _ in range(servers)]
    routes = ", ".join(f'"nats://127.0.0.1:{route}"' for *_, route, _ in ports)
    with tempfile.TemporaryDirectory(prefix="nats-") as name:
        folder = Path(name)
        if secure is None:
            printed = re.sub(r".*(tls:|include).*\n", "", printed)
        else:
            secure[0].file(folder).rename(folder / "fleet-ca.pem")
            secure[1].file(folder).rename(folder / "platform-ca.pem")
            (folder / "users.conf").write_text(users, encoding="utf-8")
            secure[1].server(folder, uses=SERVER_USES + GATEWAY_USES).rename(folder / "server.pem")
        if servers == 1:
            printed = re.sub(r"cluster: \{.*?\n\}", "", printed, flags=re.DOTALL)
        async with AsyncExitStack() as running:
            cluster = Cluster()
            cluster.folder = folder
            for n, (port, mqtt_port, route, watch) in enumerate(ports, 1):
                text = re.sub(r"routes: .*", f"routes: [{routes}]", printed)
                for old, new in (
                    ("nats1", f"nats{n}"),
                    ("0.0.0.0:4222", f"127.0.0.1:{port}"),
                    ("0.0.0.0:8883", f"127.0.0.1:{mqtt_port}"),
                    ("0.0.0.0:6222", f"127.0.0.1:{route}"),
                    ("stream_replicas: 3", f"stream_replicas: {servers}"),
                    ("/var/lib/nats", f"{folder}/nats{n}"),
                    ("/etc/nats", str(folder)),
                ):
                    text = text.replace(old, new)
                path = folder / f"nats{n}.conf"
                path.write_text(f'{text}\nhttp: "127.0.0.1:{watch}"\n', encoding="utf-8")
                cluster.append(NatsServer(path, port, mqtt_port, watch, "s" * bool(secure)))
            await asyncio.gather(*(running.enter_async_context(server) for server in cluster))
            while servers > 1 and not await cluster.whole():
                # started at the same moment, 2.10.27 sometimes counts two servers, for ever
                for server in cluster:
                    await server.kill()
                    shutil.rmtree(folder / server.name)
                await asyncio.gather(*(server.start() for server in cluster))
            yield cluster
