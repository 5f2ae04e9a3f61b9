"""Everything on stage: building, broker, cut, platform and the agent, each its own process.

The agent is set up as a user would set it up, with its commands and spreadsheets; what happens to
it afterwards (killed, cut off, its broker killed) is for the demo and the tests to direct.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.core.errors import Refused
from agent.local import ask_daemon
from hil.behind import behind
from hil.platform.report import rows as platform_rows
from hil.process import Child
from hil.proof import Answer, Evidence, Row, Verdict, prove

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from hil.behind import Behind
    from hil.cut import Cut
    from hil.nats import Cluster
    from hil.platform.child import Keeper
    from hil.platform.report import Held

RECIPIENT = "energie.metropole.example"
GARDIEN = Path(sys.executable).with_name("gardien")
PATIENCE = 100.0

CONFIG = """\
building: {{name: Résidence Les Alpins, timezone: Europe/Paris}}
links:
{links}
devices:
{devices}
uplinks:
  metropole:
    {{recipient: {recipient}, {uplink}, seal: 1s}}
privacy: {{policy: DEMO-1}}
clock: {{source: system}}
state: {state}
spool: {{max: 50MB, flush: 1s}}
"""
CHANNELS = ("elec.imp", "heat", "cw", "dhw")


@dataclass
class Dwelling:
    """One dwelling with its meter, as the lists that were handed to the agent say."""

    label: str
    line: int
    unit: int
    serial: str
    consents: bool
    place: str = ""
    consent: str = ""
    meters: list[str] = field(default_factory=list)
    """serial numbers of further meters, since an exchange"""


@dataclass
class Stage:
    """The pieces, and what was done to them and when."""

    folder: Path
    building: dict[str, Any]
    """ports, serial numbers and control port, as the building said at its start"""
    broker: Child
    """what takes batches for the platform: a broker, an sshd; over HTTPS the platform itself"""
    cut: Cut
    platform: Keeper
    dwellings: list[Dwelling]
    agent: asyncio.subprocess.Process | None = None
    downs: list[tuple[float, float]] = field(default_factory=list)
    killed: float = 0.0
    cluster: Cluster | None = None
    """of nats-servers"""
    silences: dict[str, list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @property
    def config(self) -> Path:
        """The agent's configuration file."""
        return self.folder / "config.yaml"

    @property
    def state(self) -> Path:
        """The agent's state directory."""
        return self.folder / "state"

    @property
    def log(self) -> Path:
        """The agent's log."""
        return self.folder / "agent.log"

    async def command(self, *words: str) -> Any:
        """What a command of gardien answers with --json. Raises RuntimeError if it fails."""
        process = await asyncio.create_subprocess_exec(
            GARDIEN, *words, "--config", str(self.config), "--json",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "GARDIEN_AS": "stage manager"},
        )  # fmt: skip
        out, err = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"gardien {' '.join(words)}: {err.decode()}")
        return json.loads(out)

    async def start_agent(self) -> None:
        """Start the daemon; returns once it runs, which says nothing of being ready."""
        started = time.time()
        with self.log.open("ab") as log:
            self.agent = await asyncio.create_subprocess_exec(
                GARDIEN, "run", "--config", str(self.config), stdout=log, stderr=log
            )
        if self.killed:
            self.downs.append((self.killed, started))
            self.killed = 0.0

    async def kill_agent(self) -> None:
        """Kill -9."""
        assert self.agent is not None
        self.killed = time.time()
        self.agent.kill()
        await self.agent.wait()
        self.agent = None

    async def stop_agent(self) -> int | None:
        """SIGTERM; its exit status."""
        if self.agent is None:
            return None
        self.agent.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            status = await self.agent.wait()
        self.agent = None
        return status

    async def status(self) -> dict[str, Any] | None:
        """What `gardien status` says; None while no agent answers."""
        try:
            return await asyncio.to_thread(ask_daemon, self.state, "status", {}, lambda _: None)
        except (OSError, ValueError, Refused):
            return None  # there is none, or it was killed while it answered

    async def tell(self, words: str) -> dict[str, Any]:
        """Give the building an order, such as `silence 0 3`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.building["control"])
        writer.write(words.encode() + b"\n")
        answer: dict[str, Any] = json.loads(await reader.readline())
        writer.close()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    async def silence(self, dwelling: Dwelling, seconds: float) -> None:
        """Let a meter be silent for a while, and note when."""
        begin = (await self.tell(f"silence {dwelling.line} {dwelling.unit}"))["t"]
        await asyncio.sleep(seconds)
        end = (await self.tell(f"speak {dwelling.line} {dwelling.unit}"))["t"]
        self.silences[dwelling.place].append((begin, end))

    async def backlog(self) -> int | None:
        """Values that the platform has not receipted; None while no agent answers."""
        status = await self.status()
        if status is None:
            return None
        waits = status["uplinks"]["metropole"]["backlog"]
        return int(waits["slots"]) + int(waits["batch_rows"])

    async def begun(self) -> None:
        """Return once the platform holds anything of every consented dwelling.

        When the agent reads for the first time is the machine's affair: slots before that nobody
        owes. AssertionError as `delivered`.
        """
        await self._held("anything", lambda _: True)

    async def delivered(self, last_slot: int) -> None:
        """Return once the platform holds the last slot of every consented dwelling.

        What waited before it goes behind what is live, and is given its time; what is lost stays
        missing. AssertionError, with what the agent says of itself, where it does not come to that.
        """
        await self._held(
            f"slot {last_slot}", lambda row: row.t <= last_slot < row.t + row.span * row.step
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while (await asyncio.to_thread(self.prove, last_slot)).missing:
                    await asyncio.sleep(0.5)

    async def _held(self, what: str, fits: Callable[[Held], bool]) -> None:
        wanted = {one.place for one in self.dwellings if one.consents}
        try:
            async with asyncio.timeout(PATIENCE):
                while wanted:
                    wanted -= await asyncio.to_thread(self._places, fits)
                    await asyncio.sleep(0.2)
        except TimeoutError as error:
            says = json.dumps(await self.status(), indent=1)
            raise AssertionError(f"{len(wanted)} dwellings never had {what}: {says}") from error

    def _places(self, fits: Callable[[Held], bool]) -> set[str]:
        return {
            row.place
            for row in platform_rows(self.platform.db)
            if row.channel == "elec.imp" and fits(row)
        }

    def evidence(self, last_slot: int) -> Evidence:
        """All that was seen, for the proof."""
        place_of = {
            serial: one.place for one in self.dwellings for serial in (one.serial, *one.meters)
        }
        answers: dict[str, list[Answer]] = defaultdict(list)
        for line in (self.folder / "answers.jsonl").read_text().splitlines():
            said = json.loads(line)
            if "raw" in said:
                answer = Answer(said["t"], bytes.fromhex(said["raw"]), said["since"])
                answers[place_of[said["serial"]]].append(answer)
        return Evidence(
            answers={place: sorted(said) for place, said in answers.items()},
            rows=[
                Row(row.place, row.t, row.value, row.q, row.why, row.delay, row.span, row.basis)
                for row in platform_rows(self.platform.db)
                if row.channel == "elec.imp"
            ],
            consented={one.place: one.consent for one in self.dwellings if one.consents},
            last_slot=last_slot,
            step=1,
            flush=1.0,
            downs=self.downs,
            silences=self.silences,
        )

    def values(self, place: str) -> list[str]:
        """What the platform holds of a dwelling's meter, in the order of time."""
        held = (row for row in platform_rows(self.platform.db) if row.place == place)
        rows = [row for row in held if row.channel == "elec.imp" and row.value is not None]
        return [str(row.value) for row in sorted(rows, key=lambda row: row.t)]

    def prove(self, last_slot: int) -> Verdict:
        """The verdict on every slot up to the last one."""
        return prove(self.evidence(last_slot))


@asynccontextmanager
async def stage(  # noqa: PLR0913, PLR0917 -- the play has as many parts
    folder: Path,
    lines: int = 4,
    meters: int = 15,
    without_consent: int = 3,
    broker_says: Sequence[str] = (),
    transport: str = "mqtt",
) -> AsyncIterator[Stage]:
    """Set everything up, agent not started; on leaving, everything is ended.

    `broker_says`: further lines of the broker's configuration. `transport`: as hil.behind has it.
    """
    log = folder / "answers.jsonl"
    async with AsyncExitStack() as open_now:
        far = await open_now.enter_async_context(behind(transport, folder, broker_says))
        building = await open_now.enter_async_context(_building(lines, meters, log))
        said = json.loads(building.first)
        homes = _dwellings(said, without_consent)
        on = Stage(folder, said, far.server, far.line, far.platform, homes, cluster=far.cluster)
        try:
            await _set_up(on, far)
            yield on
        finally:
            await _end(on)


def _building(lines: int, meters: int, log: Path) -> Child:
    wanted = ("--lines", str(lines), "--meters", str(meters), "--log", str(log))
    return Child((sys.executable, "-m", "hil.building", *wanted), "{")


def _dwellings(building: dict[str, Any], without_consent: int) -> list[Dwelling]:
    homes = [
        (line["line"], meter["unit"], meter["serial"])
        for line in building["lines"]
        for meter in line["meters"]
    ]
    refusing = {len(homes) * n // max(1, without_consent) for n in range(without_consent)}
    return [
        Dwelling(f"{'ABCDEFGH'[line]}-{unit:02d}", line, unit, serial, n not in refusing)
        for n, (line, unit, serial) in enumerate(homes)
    ]


async def _set_up(on: Stage, far: Behind) -> None:
    """Write the configuration and the spreadsheets, and run the commands that a person would."""
    on.config.write_text(
        CONFIG.format(
            links="\n".join(
                f"  riser-{line['line']}: {{driver: modbus-tcp, host: 127.0.0.1, "
                f"port: {line['port']}, timeout: 500ms}}"
                for line in on.building["lines"]
            ),
            devices="\n".join(
                f"  meter-{one.label}: {{link: riser-{one.line}, address: {one.unit}, "
                f"profile: eastron-sdm120, every: 1s}}"
                for one in on.dwellings
            ),
            recipient=RECIPIENT,
            uplink=far.uplink,
            state=on.state,
        ),
        encoding="utf-8",
    )
    lived_in = [f"{one.label};dwelling;2020-01-01" for one in on.dwellings]
    places = sheet(on, "places.csv", "label;type;since", lived_in)
    meters = sheet(
        on, "meters.csv", "serial;dwelling", [f"{o.serial};{o.label}" for o in on.dwellings]
    )
    agreed = sheet(on, "consents.csv", "place", [o.label for o in on.dwellings if o.consents])
    minting = await asyncio.create_subprocess_exec(
        GARDIEN, "key", "new", "--config", str(on.config), stdout=asyncio.subprocess.DEVNULL
    )
    if await minting.wait():
        raise RuntimeError("gardien key new failed")
    if far.fleet:
        names = json.loads((on.state / "keys/identity.json").read_text())
        far.fleet.gateway(names["gateway"], on.state)
        far.fleet.gateway(RECIPIENT, on.folder / "receiver")
    ids = {
        place["label"]: place["id"]
        for place in (await on.command("place", "import", places))["places"]
    }
    await on.command("meter", "import", meters)
    given = await on.command(
        "consent", "give", "--file", agreed, "--recipient", RECIPIENT,
        *(word for channel in CHANNELS for word in ("--channel", channel)),
        "--step", "1s", "--purpose", "advice on consumption",
    )  # fmt: skip
    consents = {one["place"]: one["id"] for one in given["consents"]}
    for one in on.dwellings:
        one.place = ids[one.label]
        one.consent = consents.get(one.place, "")


def sheet(on: Stage, name: str, header: str, rows: Sequence[str]) -> str:
    """Write a spreadsheet for a command of gardien to read; its path."""
    path = on.folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


async def _end(on: Stage) -> None:
    if on.agent is not None and on.agent.returncode is None:
        on.agent.kill()
        await on.agent.wait()
