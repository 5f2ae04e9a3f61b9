"""Gateways that send to three nats-servers under load, of which the leader is killed: everything
that was read is stored, once. Guards rules G1, T16, T20.
"""

import asyncio
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import nats
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.uplink.base import GatewayFacts
from hil.ca import CA, bundle
from hil.cut import cut
from hil.nats import nats_servers
from receiver.databases import prepare
from receiver.jetstream import STREAM, NatsSettings, users
from tests.contract.receiver.test_transports import receiving, selected
from tests.contract.uplink.house import RECIPIENT, delivering, house
from tests.depth import depth

DWELLINGS = 10
GATEWAYS = [f"GTEST{n:010d}" for n in range(depth(3, 9))]
KILLS = depth(1, 6)


class Load:
    """Gateways that read and send all the time, each over a line to one of the servers."""

    def __init__(self, cluster, houses, lines):
        self.cluster, self.houses, self.lines = cluster, houses, lines
        self.ended = asyncio.Event()

    async def feed(self):
        while not self.ended.is_set():
            await asyncio.gather(*(at.read(DWELLINGS) for at in self.houses))
            await asyncio.sleep(0.1)

    async def kill(self, server):
        """Kill a server; its gateways find another one, as a name with several addresses leads."""
        others = [one for one in self.cluster if one is not server]
        for n, line in enumerate(self.lines):
            if line.target == server.port:
                line.target = others[n % 2].port
        await server.kill()

    async def goes_on(self):
        """Wait until each gateway has a receipt for one batch more."""
        before = [(at, at.delivery.settled + 1) for at in self.houses]
        for at, settled in before:
            await at.until(lambda at=at, settled=settled: at.delivery.settled >= settled)


@asynccontextmanager
async def under_load(folder, cluster, fleet, ca):
    async with AsyncExitStack() as stack:
        houses, lines = [], []
        for n, gateway in enumerate(GATEWAYS):
            (folder / gateway).mkdir()
            houses.append(await stack.enter_async_context(house(folder / gateway, gateway)))
            lines.append(await stack.enter_async_context(cut(cluster[n % 3].port)))
            facts = GatewayFacts(gateway, fleet.gateway(gateway, folder / gateway))
            more = {"url": f"mqtts://127.0.0.1:{lines[n].port}", "ca": ca}
            await stack.enter_async_context(delivering(houses[n], 0, station=facts, **more))
        load = Load(cluster, houses, lines)
        feeding = asyncio.create_task(load.feed())
        try:
            await load.goes_on()
            yield load
        finally:
            load.ended.set()
            await feeding  # cancelled, it would not count what it appended last
        for at in houses:
            await at.settled()


async def leader(cluster, settings):
    """The server that leads the stream which all batches are in."""
    connection = await nats.connect(cluster.nats_urls.split(","), tls=settings.tls())
    found = (await connection.jetstream().stream_info(STREAM)).cluster.leader
    await connection.close()
    return next(server for server in cluster if server.name == found)


def kill_a_worker(receiver):
    """Kill -9 the worker that was started first."""
    children = Path(f"/proc/{receiver.pid}/task/{receiver.pid}/children").read_text().split()
    names = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
    os.kill(next(pid for pid, name in names.items() if "spawn_main" in name), signal.SIGKILL)


@pytest.mark.timeout(600)
def test_what_gateways_read_is_stored_once_though_the_leader_of_three_servers_is_killed(tmp_path):
    fleet, ours, path = CA("Fleet CA"), CA("Platform CA"), str(tmp_path / "receiver.db")
    prepare(path)
    ca, key = ours.file(tmp_path), ec.generate_private_key(ec.SECP256R1())
    own = bundle(tmp_path / "own.pem", key, fleet.issue(RECIPIENT, key.public_key()))
    settings = NatsSettings("", recipient=RECIPIENT, cert=own, ca=ca)

    async def scenario():
        rights = users(RECIPIENT, GATEWAYS)
        async with nats_servers(3, (fleet, ours), rights) as cluster:
            options = ("--nats", cluster.nats_urls, "--mqtt", cluster.urls,
                       "--recipient", RECIPIENT, "--cert", str(own), "--ca", str(ca))  # fmt: skip
            async with (
                receiving(path, *options) as receiver,
                under_load(tmp_path, cluster, fleet, ca) as load,
            ):
                for _ in range(KILLS):
                    killed = await leader(cluster, settings)
                    await load.kill(killed)
                    kill_a_worker(receiver)
                    await load.goes_on()
                    if KILLS > 1:
                        await killed.start()
                        await load.goes_on()
            return {gateway: at.rows for gateway, at in zip(GATEWAYS, load.houses, strict=True)}

    produced = asyncio.run(scenario())
    stored = selected(path, "SELECT p.gateway, count(*), count(DISTINCT r.t) FROM reading r"
                            " JOIN series s ON s.id = r.series JOIN sender p ON p.id = s.sender"
                            " GROUP BY p.gateway")  # fmt: skip
    assert {gateway: rows for gateway, rows, _ in stored} == produced
    assert {slots * DWELLINGS for _, _, slots in stored} == set(produced.values())
    print(produced, selected(path, "SELECT gateway, what, n FROM tally"))
