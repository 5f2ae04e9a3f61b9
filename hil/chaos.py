"""Chaos on 60 dwellings: everything is killed at random, and nothing is lost or stored twice.

    python -m hil.chaos                     all transports, ten minutes in all (in `make torture`)
    python -m hil.chaos --seconds 60 --transport mqtt --seed 7

For each transport: a simulated building, the agent, a broker or server, gardien-receiver with its
workers, and PostgreSQL. A plan drawn from the seed kills -9 each of them, again and again, several
at once. In the middle meters are exchanged and consents withdrawn, with the agent killed at that
moment. At the end everything runs, and it must hold that

    produced = stored    each slot that the building's own log answers has exactly one right row
    owed = delivered     the receiver's view `missing` is empty
    erased               nothing is left of a withdrawn dwelling, nor its indexes at an exchange

A run in which a kind of kill did not happen proves nothing, and fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.trust.sign import Signer, trust_list
from agent.trust.trust_list import read
from hil.postgres import ACCOUNT, kill_and_start, postgres
from hil.process import Child, free_port
from hil.proof import Row, Verdict, prove
from hil.stage import RECIPIENT, stage
from receiver.databases import open_store
from receiver.jetstream import users

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from hil.stage import Dwelling, Stage
    from receiver.store import Store

TRANSPORTS = ("mqtt", "nats", "https", "sftp")
NAMES = {"mqtt": "MQTT", "nats": "NATS", "https": "HTTPS", "sftp": "files"}
SIGNED = {"mqtt", "nats"}
"""where receipts count only with the platform's signature"""
KINDS = {
    "mqtt": ("worker", "receiver", "broker", "database", "agent"),
    "nats": ("worker", "receiver", "broker", "database", "agent"),
    "https": ("worker", "receiver", "database", "agent"),
    "sftp": ("worker", "receiver", "broker", "database", "agent"),
}
"""what is killed. `broker`: one of three servers with NATS, the sshd with files; HTTPS has none"""
SECONDS = 600.0
GAP = (1.0, 5.0)
"""seconds between two kills"""
AWAY = (0.0, 4.0)
"""seconds before what was killed is started again"""
PATIENCE = 120.0
"""seconds in which all must be there after the last kill"""
YEAR = 31_536_000
READINGS = """SELECT s.place, s.step, SEC(r.t), r.last, r.ver, r.value, r.q, r.why, r.delay, o.basis
FROM reading r JOIN series s ON s.id = r.series JOIN source o ON o.id = r.source
WHERE s.channel = 'elec.imp' AND s.step > 0"""
EXCHANGES = """SELECT s.place, o.meter, r.value, r.flags FROM reading r
JOIN series s ON s.id = r.series JOIN source o ON o.id = r.source WHERE s.step = 0
AND NOT EXISTS (SELECT 1 FROM reading n
    WHERE n.series = r.series AND n.t = r.t AND n.ver > r.ver)
ORDER BY s.place, SEC(r.t)"""
NEAR = """SELECT SEC(r.t), r.last, s.step, o.meter, r.value, r.q, r.why, r.flags, r.ver
FROM reading r JOIN series s ON s.id = r.series JOIN source o ON o.id = r.source
WHERE s.place = ? AND s.channel = 'elec.imp'
AND coalesce(r.last, SEC(r.t)) >= ? AND SEC(r.t) <= ? ORDER BY SEC(r.t), r.ver"""
NEWEST = """SELECT s.place, max(SEC(r.t)) FROM reading r JOIN series s ON s.id = r.series
WHERE s.channel = 'elec.imp' AND s.step > 0 GROUP BY s.place"""


@dataclass(frozen=True)
class Kill:
    """One line of the plan."""

    at: float
    """seconds after the beginning"""
    kind: str
    away: float
    """seconds until it is started again"""


def plan(dice: random.Random, kinds: Sequence[str], seconds: float) -> Iterator[Kill]:
    """Kills up to `seconds`. Each kind comes once in each round, in an order of its own; the agent
    in every second one, so that most slots have a value also where its start takes seconds.
    """
    at = 0.0
    for number in count():
        spared = {"agent"} if number % 2 else set()
        for kind in dice.sample(kinds, len(kinds)):
            if kind in spared:
                continue
            at += dice.uniform(*GAP)
            if at > seconds:
                return
            yield Kill(round(at, 2), kind, round(dice.uniform(*AWAY), 2))


class Receiver(Child):
    """`gardien-receiver run`, with the workers that can be killed."""

    def __init__(self, database: str, *options: str) -> None:
        run = (sys.executable, "-m", "receiver", "run", "--db", database, "--workers", "2")
        super().__init__((*run, *options), "ready")

    def workers(self) -> list[int]:
        """The processes that take batches or deliver objects."""
        with suppress(OSError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            return [int(pid) for pid in children if b"spawn_main" in _command(pid)]
        return []


def _command(pid: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@dataclass
class Result:
    """What one transport came to."""

    transport: str
    seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    owed: int = 0
    delivered: int = 0
    removed: int = 0
    """rows that retractions removed"""
    facts: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    load: float = 0.0
    """of the machine, at most"""

    @property
    def proved(self) -> bool:
        """Everything holds."""
        return self.verdict.proved and not self.wrong

    def lines(self) -> Iterator[str]:
        """For people, in 80 columns."""
        kills = ", ".join(f"{kind} {n}" for kind, n in sorted(self.kills.items()))
        yield f"{NAMES[self.transport]}: {self.seconds:.0f} s, killed: {kills}"
        yield f"  produced {self.verdict.slots}, stored {self.verdict.stored}, owed {self.owed},"
        yield f"  delivered {self.delivered}, removed by retractions {self.removed}"
        slots, reasons = self.verdict.slots, self.verdict.reasons
        share = 100 * (slots - reasons.total()) / slots if slots else 0.0
        missing = ", ".join(f"{why} {n}" for why, n in sorted(reasons.items()))
        yield f"  {share:.0f} % of the slots have a value; rightly without: {missing or 'none'}"
        yield f"  load of the machine: up to {self.load:.1f}"
        if early := self.verdict.early:
            yield f"  {early} rows of slots before the first answer of a meter"
        for fact in self.facts:
            yield f"  {fact}"
        for wrong in (*self.verdict.findings, *self.wrong):
            yield f"  WRONG: {wrong}"
        yield f"  {self.verdict.line()}"


class Chaos:
    """One transport, everything running, and who kills it."""

    def __init__(self, on: Stage, transport: str, host: str, dice: random.Random) -> None:
        self.on, self.transport, self.host, self.dice = on, transport, host, dice
        self.database = f"postgresql://{ACCOUNT}@/{ACCOUNT}?host={host}"
        self.receiver: Receiver
        self.result = Result(transport)
        self.withdrawn: list[Dwelling] = []
        self.exchanged: dict[str, list[tuple[str, str]]] = {}
        """by place: serial number and index of both meters"""
        self.began = 0.0
        self._busy: dict[str, asyncio.Lock] = {kind: asyncio.Lock() for kind in KINDS[transport]}

    def say(self, words: str) -> None:
        """One line of the account of a run."""
        print(f"{time.time() - self.began:7.2f} {words}", flush=True)

    async def run(self, seconds: float) -> Result:
        """Begin, kill, let it come to rest, prove."""
        await self.on.platform.stop()
        options = await _options(self)
        self.receiver = Receiver(self.database, *options)
        kills = list(plan(self.dice, KINDS[self.transport], seconds))
        async with self.receiver:
            await self.on.start_agent()
            await self.hold_all(0)
            self.began = time.time()
            self.say(f"{NAMES[self.transport]}: begins; {len(kills)} kills are planned")
            watching = asyncio.create_task(self._watch())
            await asyncio.gather(
                *(self._kill(kill, seconds) for kill in kills), self._people(seconds)
            )
            self.result.seconds = time.time() - self.began
            last_slot = int(time.time()) + 2
            self.say("the last kill is over")
            await self._come_to_rest(last_slot)
            status = await self.on.stop_agent()
            if status != 0:
                self.result.wrong.append(f"the agent ended with {status}")
            await asyncio.to_thread(self._judge, last_slot)
            watching.cancel()
        return self.result

    async def _watch(self) -> None:
        while True:
            self.result.load = max(self.result.load, os.getloadavg()[0])
            await asyncio.sleep(1)

    # what is killed

    async def _kill(self, kill: Kill, seconds: float) -> None:
        await asyncio.sleep(max(0.0, self.began + kill.at - time.time()))
        async with self._busy[kill.kind]:
            if time.time() < self.began + seconds:  # what is killed often comes back late
                await self._strike(kill.kind, kill.away)

    async def _strike(self, kind: str, away: float) -> None:
        blow: dict[str, Callable[[float], Awaitable[str]]] = {
            "worker": self._kill_worker,
            "receiver": self._kill_receiver,
            "broker": self._kill_server if self.transport == "nats" else self._kill_broker,
            "database": self._kill_database,
            "agent": self._kill_agent,
        }
        what = await blow[kind](away)
        self.result.kills[kind] += 1
        self.say(what)

    async def _kill_worker(self, _: float) -> str:
        while not (pids := self.receiver.workers() if _runs(self.receiver) else []):
            await asyncio.sleep(0.1)  # they come back after a second
        pid = self.dice.choice(pids)
        os.kill(pid, signal.SIGKILL)
        return f"killed worker {pid}"

    async def _kill_receiver(self, away: float) -> str:
        await self.receiver.kill()
        await asyncio.sleep(away)
        await self.receiver.start(PATIENCE)
        return f"killed the receiver, away {away:.1f} s"

    async def _kill_broker(self, away: float) -> str:
        await self.on.broker.kill()
        await asyncio.sleep(away)
        await self.on.broker.start()
        return f"killed the {'sshd' if self.transport == 'sftp' else 'broker'}, away {away:.1f} s"

    async def _kill_server(self, away: float) -> str:
        """One of three; the gateway's line leads to another one, as a name with several does."""
        assert self.on.cluster is not None
        server = self.dice.choice(self.on.cluster)
        others = [one for one in self.on.cluster if one is not server]
        if self.on.cut.target == server.port:
            self.on.cut.target = self.dice.choice(others).port
        await server.kill()
        await asyncio.sleep(away)
        await server.start()
        return f"killed server {server.name}, away {away:.1f} s"

    async def _kill_database(self, _: float) -> str:
        await asyncio.to_thread(kill_and_start, self.host)
        return "killed the database"

    async def _kill_agent(self, away: float) -> str:
        await self.on.kill_agent()
        await asyncio.sleep(away)
        await self.on.start_agent()
        return f"killed the agent, away {away:.1f} s"

    # what people do meanwhile

    async def _people(self, seconds: float) -> None:
        """Exchange the meters of two dwellings; withdraw the consents of one of them, and of one
        more. The agent is killed while each is recorded, or just after.
        """
        stays, leaves, both = self.dice.sample(
            [one for one in self.on.dwellings if one.consents], 3
        )
        acts: list[tuple[float, Callable[[Dwelling], Awaitable[None]], Dwelling]] = [
            (0.20, self._exchange, both),
            (0.35, self._exchange, stays),
            (0.50, self._withdraw, leaves),
            (0.65, self._withdraw, both),
        ]
        for when, act, dwelling in acts:
            await asyncio.sleep(max(0.0, self.began + when * seconds - time.time()))
            doing = asyncio.create_task(_done(act(dwelling)))
            await asyncio.sleep(self.dice.uniform(0.0, 2.5))
            async with self._busy["agent"]:
                await self._strike("agent", self.dice.uniform(*AWAY))
            await doing

    async def _exchange(self, dwelling: Dwelling) -> None:
        silent = (await self.on.tell(f"silence {dwelling.line} {dwelling.unit}"))["t"]
        await asyncio.sleep(self.dice.uniform(2.0, 4.0))  # no meter is there
        told = await self.on.tell(f"exchange {dwelling.line} {dwelling.unit}")
        self.on.silences[dwelling.place].append((silent, told["t"]))
        old, new = dwelling.serial, str(int(told["serial"]))
        dwelling.meters.append(new)
        closing, opening = f"{told['closing']:.3f}", f"{told['opening']:.3f}"
        self.exchanged[dwelling.place] = [(old, closing), (new, opening)]

        async def recorded() -> bool:
            meters = await self.on.command("meter", "list")
            return new in json.dumps(meters)

        indexes = ("--closing", f"elec.imp={closing}", "--opening", f"elec.imp={opening}")
        at = datetime.fromtimestamp(int(told["t"]), UTC).isoformat()
        words = ("meter", "exchange", dwelling.label, "--serial", new, "--old", old, "--at", at,
                 *indexes)  # fmt: skip
        await self._insist(words, recorded)
        self.say(f"the meter of {dwelling.label} was exchanged: {old} at {closing}, {new}")

    async def _withdraw(self, dwelling: Dwelling) -> None:
        async def recorded() -> bool:
            listed = await self.on.command("consent", "list", dwelling.label)
            return all(one.get("withdrawn") for one in listed["consents"])

        await self._insist(("consent", "withdraw", dwelling.label), recorded)
        self.withdrawn.append(dwelling)
        self.say(f"the consent of {dwelling.label} was withdrawn")

    async def _insist(self, words: Sequence[str], recorded: Callable[[], Awaitable[bool]]) -> None:
        """Type a command until it is recorded: the daemon may be killed while it answers."""
        refused = "it was never listed"
        for attempt in range(20):
            try:
                if await recorded():
                    return
                await self.on.command(*words)
            except RuntimeError as error:
                refused = str(error).strip()
                self.say(f"typed again: {refused[-300:]}")
                await asyncio.sleep(0.2 * attempt)  # as a person does, who reads the answer
        raise RuntimeError(refused)

    # the end

    async def hold_all(self, slot: int) -> None:
        """Wait until the database has this slot, or a later one, of each dwelling that consents."""
        gone = {one.place for one in self.withdrawn}
        wanted = {one.place for one in self.on.dwellings if one.consents} - gone
        async with asyncio.timeout(PATIENCE):
            while True:
                newest = dict(await asyncio.to_thread(self.ask, NEWEST))
                if wanted <= {place for place, t in newest.items() if t >= slot}:
                    return
                await asyncio.sleep(0.3)

    async def _come_to_rest(self, last_slot: int) -> None:
        try:
            await self.hold_all(last_slot + 1)
            async with asyncio.timeout(PATIENCE):
                while await asyncio.to_thread(self._waits, last_slot):
                    await asyncio.sleep(1)
        except TimeoutError:
            self.result.wrong.append(f"not all was there after {PATIENCE:.0f} s")
            self.result.wrong.append(json.dumps(await self.on.status())[:2_000])

    def _waits(self, last_slot: int) -> bool:
        """Whether something is owed that is not there."""
        return bool(
            self.ask("SELECT 1 FROM missing WHERE slot <= ? LIMIT 1", last_slot)
            or self._prove(last_slot).missing
        )

    def ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a statement finds."""
        store: Store = open_store(self.database)
        try:
            return [tuple(row) for row in store.execute(sql, values).fetchall()]
        finally:
            store.close()

    def _rows(self) -> list[Row]:
        """The rows that count of each slot: those of its highest version (rule R7). A value that
        came late may lie within a run of missing slots.
        """
        gone = {one.place for one in self.withdrawn}
        of_slot: dict[tuple[str, int], tuple[int, list[Row]]] = {}
        for place, step, t, last, ver, value, q, why, delay, basis in self.ask(READINGS):
            shown = None if value is None else str(value)
            if not (place in gone and value is None and not basis):
                for slot in range(t, (last or t) + 1, step):
                    row = Row(place, slot, shown, q, why, delay or 0, 1, basis)
                    highest, rows = of_slot.get((place, slot), (ver, []))
                    if ver >= highest:
                        kept = rows if ver == highest else []
                        of_slot[place, slot] = ver, [*kept, row]
        return [row for _, rows in of_slot.values() for row in rows]

    def _prove(self, last_slot: int) -> Verdict:
        gone = {one.place for one in self.withdrawn}
        evidence = self.on.evidence(last_slot)
        consented = {p: basis for p, basis in evidence.consented.items() if p not in gone}
        return prove(replace(evidence, rows=self._rows(), consented=consented))

    def _judge(self, last_slot: int) -> None:
        result, wrong = self.result, self.result.wrong
        result.verdict = self._prove(last_slot)
        ((result.owed,),) = self.ask("SELECT count(*) FROM owed WHERE slot <= ?", last_slot)
        missing = self.ask("SELECT label, slot, channel FROM missing WHERE slot <= ?", last_slot)
        result.delivered = result.owed - len(missing)
        wrong += [f"owed and not delivered: {one}" for one in missing[:10]]
        places = {one.label: one.place for one in self.on.dwellings}
        found = [(places[label], slot) for label, slot, _ in missing]
        found += [(place, int(slot)) for words in result.verdict.findings
                  for place, slot in (re.findall(r"^(\w+) (\d+):", words))]  # fmt: skip
        wrong += [f"  near {place} {slot}: {row}" for place, slot in found[:3]
                  for row in self._near(place, slot)]  # fmt: skip
        if result.owed < result.verdict.slots:
            wrong.append(f"only {result.owed} slots are owed")
        if never := set(KINDS[self.transport]) - set(result.kills):
            wrong.append(f"never killed: {', '.join(sorted(never))}")
        wrong += [f"batches that never came: {one}" for one in self.ask("SELECT * FROM gaps")]
        self._judge_exchanges()
        self._judge_withdrawals()
        ((batches,),) = self.ask("SELECT count(*) FROM batch")
        ((versions,),) = self.ask("SELECT count(*) FROM reading WHERE ver > 0")
        tally = self.ask("SELECT what, sum(n) FROM tally GROUP BY what ORDER BY what")
        counted = ", ".join(f"{what} {n}" for what, n in tally)
        result.facts.append(f"{batches} batches; {versions} rows of a later version; {counted}")

    def _near(self, place: str, slot: int) -> list[tuple[Any, ...]]:
        """What the database holds around a slot: rows of all versions, and the retractions."""
        retractions = "SELECT 'retraction', meter, since, until, ver, reason FROM retraction"
        return self.ask(NEAR, place, slot - 6, slot + 6) + self.ask(
            f"{retractions} WHERE place = ?", place)  # fmt: skip

    def _judge_exchanges(self) -> None:
        """Both indexes of each exchange are there once, and none of a withdrawn dwelling."""
        gone = {one.place for one in self.withdrawn}
        want = sorted(
            (place, meter, float(index), "EXCH+MAN")
            for place, both in self.exchanged.items() if place not in gone for meter, index in both
        )  # fmt: skip
        have = sorted((place, meter, float(v), f) for place, meter, v, f in self.ask(EXCHANGES))
        if have != want:
            self.result.wrong.append(f"indexes at exchanges: {have}, expected {want}")
        self.result.facts.append(f"{len(have)} indexes at exchanges")

    def _judge_withdrawals(self) -> None:
        for one in self.withdrawn:
            retracted = self.ask("SELECT removed FROM retraction WHERE place = ? AND basis = ?"
                                 " AND reason = 'withdrawn' AND until IS NULL",
                                 one.place, one.consent)  # fmt: skip
            ended = self.ask("SELECT body ->> 'until', body ->> 'withdrawn' FROM directory"
                             " WHERE list = 'bases' AND id = ?", one.consent)  # fmt: skip
            if not retracted or not ended or None in ended[0]:
                self.result.wrong.append(f"{one.label}: retracted {retracted}, ended {ended}")
            self.result.removed += sum(removed for (removed,) in retracted)
        self.result.facts.append(f"{len(self.withdrawn)} bases ended in the directory")


async def _done(work: Awaitable[None]) -> None:
    await work


def _runs(child: Child) -> bool:
    with suppress(RuntimeError):
        return child.pid > 0
    return False


async def _options(chaos: Chaos) -> tuple[str, ...]:
    """What the receiver is started with; what the agent must know of it is in its configuration."""
    on, folder = chaos.on, chaos.on.folder
    text = on.config.read_text(encoding="utf-8")
    options: tuple[str, ...]
    gateway = json.loads((on.state / "keys/identity.json").read_text())["gateway"]
    secure = ("--ca", str(folder / "fleet-ca.pem"), "--cert")
    if chaos.transport == "mqtt":
        options = ("--mqtt", on.broker.url)  # type: ignore[attr-defined]
    elif chaos.transport == "nats":
        assert on.cluster is not None
        on.cluster.grant(users(RECIPIENT, [gateway]))
        options = (
            "--nats", on.cluster.nats_urls, "--mqtt", on.cluster.urls, "--recipient", RECIPIENT,
            "--cert", str(folder / "receiver/identity.pem"),
            "--ca", str(folder / "platform-ca.pem"),
        )  # fmt: skip
    elif chaos.transport == "sftp":
        root = str(on.broker.root)  # type: ignore[attr-defined]
        options = ("--files", root, "--every", "0.2", *secure, str(folder / "platform.pem"))
    else:
        port = free_port()
        text = text.replace(f"127.0.0.1:{on.cut.port}", f"127.0.0.1:{port}")
        (own,) = folder.glob("server-*.pem")
        options = ("--https", f"127.0.0.1:{port}", *secure, str(own))
    if chaos.transport in SIGNED:
        options += ("--sign", await _signed(on))
        text = text.replace(", receipt: platform", "")
        text = text.replace(", seal: 1s}", ", receipt: signed, seal: 1s}")
        text += "trust: {threshold: 1}\n"
    on.config.write_text(text, encoding="utf-8")
    if chaos.transport in SIGNED:
        path = folder / "trust.jws"
        digest = read(path.read_bytes()).sha256
        await on.command("trust", "accept", str(path), "--sha256", digest)
    return options


async def _signed(on: Stage) -> str:
    """Write the receiver's key, and the trust list that names it; the path of the key."""
    root, key, now = Signer.new("Racine"), Signer.new(RECIPIENT), int(time.time())
    member = {"kid": key.kid, "jwk": dict(key.key.jwk), "role": "recipient", "name": RECIPIENT,
              "scope": {}, "nbf": now - 86_400, "exp": now + YEAR}  # fmt: skip
    said = {"ver": 1, "iss": "Métropole", "iat": now - 60, "exp": now + YEAR, "threshold": 1,
            "roots": [root.public_jwk()], "keys": [member]}  # fmt: skip
    (on.folder / "trust.jws").write_bytes(trust_list(json.dumps(said), [root]))
    path = on.folder / "receipts.jwk"
    path.write_text(json.dumps(key.private_jwk()), encoding="utf-8")
    return str(path)


def run(
    folder: Path, transport: str, seconds: float, seed: int, size: tuple[int, int] = (4, 15)
) -> Result:
    """One transport from an empty folder to its verdict. `size`: lines, and meters on each."""
    return asyncio.run(_run(folder, transport, seconds, seed, size))


async def _run(
    folder: Path, transport: str, seconds: float, seed: int, size: tuple[int, int]
) -> Result:
    dice = random.Random(f"{seed}/{transport}")
    refusing = max(1, size[0] * size[1] // 20)
    with ExitStack() as stack:
        host = stack.enter_context(postgres())
        async with stage(folder, *size, refusing, transport=transport) as on:
            return await Chaos(on, transport, host, dice).run(seconds)


def main() -> int:
    """Exit status 0 if everything was proved, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m hil.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of chaos, in all (600)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the plan")
    parser.add_argument("--transport", action="append", choices=TRANSPORTS, help="default: all")
    parser.add_argument("--lines", type=int, default=4, help="lines (4)")
    parser.add_argument("--meters", type=int, default=15, help="meters on each (15)")
    parser.add_argument("--keep", type=Path, help="a new folder for all that is made; kept")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what it has started
    transports = chosen.transport or TRANSPORTS
    print(f"seed {chosen.seed}; load {os.getloadavg()[0]:.1f}", flush=True)
    results = []
    with ExitStack() as stack:
        top = chosen.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        for transport in transports:
            folder = top / transport
            folder.mkdir(parents=True)
            result = run(folder, transport, chosen.seconds / len(transports), chosen.seed,
                         (chosen.lines, chosen.meters))  # fmt: skip
            print("\n".join(result.lines()), flush=True)
            results.append(result)
    return 0 if all(result.proved for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
