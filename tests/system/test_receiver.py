"""The receiver as the platform of a whole agent: every slot that the building answered is stored
once, and what the view calls owed was delivered, though workers, database and broker are killed.
Guards rules G1, G2, T16, T20.
"""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.trust.trust_list import read
from hil.postgres import ACCOUNT, kill_and_start, postgres
from hil.process import Child, free_port
from hil.proof import Row, prove
from hil.signers import Signers
from hil.stage import RECIPIENT, stage
from receiver.databases import open_store
from receiver.jetstream import users
from tests.contract.receiver.owed import owed
from tests.depth import LONG, depth

SIZE = {"lines": 4, "meters": 15, "without_consent": 3} if LONG else {
    "lines": 1, "meters": 4, "without_consent": 1}  # fmt: skip
HELD = """SELECT s.place, s.step, SEC(r.t), r.last, r.value, r.q, r.why, r.delay, o.basis
FROM reading r JOIN series s ON s.id = r.series JOIN source o ON o.id = r.source
WHERE s.channel = 'elec.imp'"""


class Receiver(Child):
    """`gardien-receiver run`, and what it holds."""

    def __init__(self, database, *options):
        run = (sys.executable, "-m", "receiver", "run", "--db", database, "--workers", "2")
        super().__init__((*run, *options), "ready")
        self.database = database

    def rows(self):
        """All rows of electricity, as the proof reads them."""
        store = open_store(self.database)
        try:
            return [
                Row(place, t, None if value is None else str(value), q, why, delay or 0,
                    ((last or t) - t) // step + 1, basis)
                for place, step, t, last, value, q, why, delay, basis in store.execute(HELD)
            ]  # fmt: skip
        finally:
            store.close()

    def missing(self, last_slot):
        """Owed slots up to the last one of which nothing is stored, and how many are owed."""
        store = open_store(self.database)
        try:
            as_written(store)
            ask = "SELECT label, slot FROM missing WHERE slot <= ?"
            missing = store.execute(ask, (last_slot,)).fetchall()
            count = store.execute("SELECT count(*) FROM owed WHERE slot <= ?", (last_slot,))
            return missing, count.fetchone()[0]
        finally:
            store.close()

    async def holds(self, on, slot):
        """Wait until it holds this slot, or a later one, of each dwelling that consented."""
        wanted = {one.place for one in on.dwellings if one.consents}
        async with asyncio.timeout(100):
            while True:
                rows = await asyncio.to_thread(self.rows)
                if wanted <= {row.place for row in rows if row.t >= slot}:
                    return
                await asyncio.sleep(0.2)

    def kill_a_worker(self):
        """Kill -9 one of its processes: the one that was started last."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)


def as_written(store):
    """The view calls owed what docs/platform.md calls owed (rule R16)."""
    lists = {}
    for name, body in store.execute("SELECT list, body FROM directory"):
        item = body if isinstance(body, dict) else json.loads(body)
        lists.setdefault(name, []).append(item)
    ((last, zone),) = store.execute("SELECT last_slot, zone FROM sender").fetchall()
    view = store.execute("SELECT place, channel, kind, step, slot FROM owed").fetchall()
    assert sorted(map(tuple, view)) == sorted(owed(lists, last, ZoneInfo(zone)))


async def received(on, transport, database, blows):
    receiver = Receiver(database, *await options(on, transport))
    await on.platform.stop()
    people = await trusted(on)
    async with receiver:
        await on.start_agent()
        await receiver.holds(on, 0)
        for blow in blows:
            await blow(on, receiver)
            await receiver.holds(on, int(time.time()) + 1)
        await answered(on, receiver, people)
        last_slot = int(time.time())
        await receiver.holds(on, last_slot + 1)
        async with asyncio.timeout(100):
            while (verdict := judged(on, receiver, last_slot)).missing:
                await asyncio.sleep(0.3)
        assert await on.stop_agent() == 0
        return verdict, receiver.missing(last_slot)


async def trusted(on):
    """People whose keys the gateway knows."""
    people, path = Signers(), on.folder / "trust.jws"
    on.config.write_text(on.config.read_text("utf-8") + "trust: {threshold: 1}\n", "utf-8")
    path.write_bytes(people.trust())
    digest = read(path.read_bytes()).sha256
    await on.command("trust", "accept", str(path), "--sha256", digest)
    return people


async def answered(on, receiver, people):
    """A signed object reaches the agent, and what the agent makes of it comes back in a batch."""
    gateway = gateway_of(on)
    order = people.order(f"{gateway}.0", ["heating"], "1", 60, people.stranger)
    with closing(open_store(receiver.database)) as store:
        store.add_object(gateway, RECIPIENT, order.decode())
        async with asyncio.timeout(60):
            while (outcome := store.execute("SELECT outcome FROM object").fetchone()[0]) is None:
                await asyncio.sleep(0.2)
    outcome = outcome if isinstance(outcome, dict) else json.loads(outcome)
    assert (outcome["state"], outcome["code"]) == ("REJECTED", "E_KID")


def gateway_of(on):
    return json.loads((on.state / "keys/identity.json").read_text())["gateway"]


def judged(on, receiver, last_slot):
    return prove(replace(on.evidence(last_slot), rows=receiver.rows()))


async def options(on, transport):
    """What the receiver is started with; where it listens itself, the agent is told."""
    folder = on.folder
    if transport == "mqtt":
        return ("--mqtt", on.broker.url)
    if transport == "nats":
        on.cluster.grant(users(RECIPIENT, [gateway_of(on)]))
        addresses = ("--nats", on.cluster.nats_urls, "--mqtt", on.cluster.urls)
        proof = ("--cert", str(folder / "receiver/identity.pem"))
        return (
            *addresses,
            *proof,
            "--ca",
            str(folder / "platform-ca.pem"),
            "--recipient",
            RECIPIENT,
        )
    secure = ("--ca", str(folder / "fleet-ca.pem"), "--cert")
    if transport == "sftp":
        return (
            "--files",
            str(on.broker.root),
            "--every",
            "0.1",
            *secure,
            str(folder / "platform.pem"),
        )
    port = free_port()
    text = on.config.read_text(encoding="utf-8")
    on.config.write_text(
        text.replace(f"127.0.0.1:{on.cut.port}", f"127.0.0.1:{port}"), encoding="utf-8"
    )
    (own,) = folder.glob("server-*.pem")
    return ("--https", f"127.0.0.1:{port}", *secure, str(own))


async def kill_a_worker(_on, receiver):
    receiver.kill_a_worker()


async def kill_the_broker(on, _receiver):
    await on.broker.kill()
    await on.broker.start()


async def kill_the_server_of_the_gateway(on, _receiver):
    """The line leads to another one then, as a name with several addresses does."""
    first, second, _ = on.cluster
    on.cut.target = second.port
    await first.kill()


async def kill_each_other_server(on, _receiver):
    """One after the other; two of three are always there."""
    for back, gone, left in ((0, 1, 2), (1, 2, 0)):
        await on.cluster[back].start()
        on.cut.target = on.cluster[left].port
        await on.cluster[gone].kill()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("transport", ["mqtt", "https", "sftp", *depth([], ["nats"])])
def test_what_the_building_answered_is_stored_once_whatever_is_killed(tmp_path, transport):
    async def scenario():
        with ExitStack() as stack:
            database, blows = str(tmp_path / "receiver.db"), [kill_a_worker]
            if transport in {"mqtt", "nats"}:
                host = stack.enter_context(postgres())
                database = f"postgresql://{ACCOUNT}@/{ACCOUNT}?host={host}"

                async def kill_the_database(_on, _receiver):
                    await asyncio.to_thread(kill_and_start, host)

                blows += [kill_the_database]
            if transport == "mqtt":
                blows += [kill_the_broker]
            if transport == "nats":
                blows += [kill_the_server_of_the_gateway, kill_each_other_server]
            async with stage(tmp_path, transport=transport, **SIZE) as on:
                return await received(on, transport, database, blows)

    verdict, (missing, owed) = asyncio.run(scenario())
    print(verdict.line(), dict(verdict.reasons), owed)
    assert verdict.proved, verdict.line() + "\n" + "\n".join(verdict.findings)
    assert missing == []
    assert owed >= verdict.slots
