"""A site: equipment, a gateway, three platforms; how it is set up, and how it is judged."""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .equipment import DEVICE, Equipment, equipment
from .gateway import FLUSH, Certificates, Death, Gardien, machine
from .platforms import Ledger, Platform, platforms
from .signing import People

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CONTROLS = ("boiler", "air")
CONFIG = """\
building: {{name: Torture}}
links:
  line: {{driver: modbus-tcp, host: 127.0.0.1, port: {modbus}, timeout: 1s}}
  net: {{driver: bacnet, address: 127.0.0.1/8, port: {own}, timeout: 1s, cov: 0s}}
devices:
  meter-1:
    {{link: line, address: 1, every: 1s, place: {places[0]},
     points: {{index: {{at: holding/0/uint32, channel: elec.imp, unit: kWh}}}}}}
  meter-2:
    {{link: line, address: 2, every: 1s, place: {places[1]},
     points: {{index: {{at: holding/0/uint32, channel: elec.imp, unit: kWh}}}}}}
  boiler:
    link: line
    address: 3
    place: {places[0]}
    points:
      setpoint: {{at: holding/10/int16, unit: Cel, scale: 0.1, every: 10s, writable: true}}
      room: {{at: holding/20/int16, unit: Cel, scale: 0.1, every: 2s}}
  air:
    link: net
    address: {device}@127.0.0.1:{bacnet}
    place: {places[2]}
    points:
      index: {{at: "analog-input,1", channel: heat, unit: kWh, every: 1s}}
      setpoint: {{at: "analog-value,7", unit: Cel, every: 10s, writable: true}}
      duct: {{at: "analog-input,4", unit: Cel, every: 2s}}
uplinks:
{uplinks}privacy: {{policy: DEMO-1, common: {{basis: AG du 12 mai, from: 2020-01-01}}}}
controls:
  boiler:
    point: boiler/setpoint
    equipment: heating
    modality: {{action: setpoint, min: 15, max: 25, max_duration: 24h}}
    guards: [{{point: boiler/room, min: 10}}]
    require: [building_manager]
    restore: preimage
    device_watchdog: none-accepted
  air:
    point: air/setpoint
    equipment: heating
    modality: {{action: setpoint, min: 15, max: 25, max_duration: 24h}}
    guards: [{{point: air/duct, min: 10}}]
    require: [building_manager]
    restore: relinquish
    device_watchdog: none-accepted
trust: {{threshold: 1}}
clock: {{source: system}}
state: {state}
spool: {{max: 4MB, reserve: 1MB, flush: {flush}s}}
"""
STARTS_WITHIN = 15.0
"""seconds that a busy machine may take from the program's start to its first readings"""
CAUGHT_UP_WITHIN = 16 * 60 + 60
"""seconds after which a backlog begins at the latest (docs/platform.md), and a minute to send it"""


def place() -> str:
    """A new id (docs/authority.md)."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    while True:
        body = "C" + "".join(secrets.choice("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for _ in range(12))
        high, low = divmod((1 - int(body, 36) * 36 * 36) % 1271, 36)
        if not set("ILOU") & set(made := body + digits[high] + digits[low]):
            return made


@dataclass
class Site:
    gardien: Gardien
    equipment: Equipment
    platforms: tuple[Platform, ...]
    series: dict[tuple[str, str], str]
    """place and channel, to the meter behind"""
    people: People = field(default_factory=People)
    up: list[Platform] = field(default_factory=list)
    gateway: str = ""
    audience: str = ""

    def set_up(self, certificates: Certificates) -> None:
        """What an installer and the building manager do once."""
        does, folder = self.gardien.does, self.gardien.machine.folder
        does("key", "new")
        (folder / "gateway.pem").write_bytes(certificates.answer(does("key", "csr")))
        does("key", "install", folder / "gateway.pem")
        self.gardien.start()
        self.reads()
        raw = self.people.trust_list()
        (folder / "trust.jws").write_bytes(raw)
        digest = hashlib.sha256(raw).hexdigest()
        does("trust", "accept", folder / "trust.jws", "--sha256", digest)
        self.audience = re.findall(r"G[0-9A-Z]{14}\.[0-9a-f]+", does("trust", "show"))[0]
        self.gateway = self.audience.partition(".")[0]
        self.accept(self.people.grant(self.gateway), status=0)
        for control in CONTROLS:
            does("control", "test", control)

    def accept(self, raw: bytes, status: int | None = None) -> None:
        """By hand, at the gateway."""
        path = self.gardien.machine.folder / "object.jwt"
        path.write_bytes(raw)
        words = self.gardien.words("object", "accept", path, "-c", self.gardien.config)
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        assert status is None or done.returncode == status, done

    def reads(self, within: float = 30.0) -> None:
        """Each meter is read from now on."""
        before = {
            meter: len(self.equipment.served.get(meter, {})) for meter in self.series.values()
        }
        self.wait(
            lambda: all(len(self.equipment.served.get(m, {})) > n for m, n in before.items()),
            within,
        )

    def wait(self, fact: Callable[[], object], within: float) -> None:
        """For something that only another process can bring about."""
        end = time.monotonic() + within
        while not fact():
            assert time.monotonic() < end, (fact, self.log())
            assert self.gardien.process is None or self.gardien.process.poll() is None, self.log()
            time.sleep(0.05)

    def log(self) -> str:
        return (self.gardien.machine.folder / "log").read_text()[-6000:]

    def away(self, which: Sequence[Platform]) -> None:
        for one in self.platforms:
            if one in which and one in self.up:
                one.away()
                self.up.remove(one)
            elif one not in which and one not in self.up:
                one.back()
                self.up.append(one)

    def hold(self, seconds: int = 600, within: float = 40.0) -> None:
        """An order for both controls is in force; it comes by whatever way is open."""
        end = time.monotonic() + within
        if not self.up:
            self.reads()  # or the order would be taken by the command instead, and held by nobody
        while True:
            raw = self.people.order(self.audience, CONTROLS, seconds)
            if self.up:
                secrets.choice(self.up).order(raw)
            else:
                self.accept(raw)
            if self.equipment.wait(True, 2.0):
                return
            assert time.monotonic() < end, (self.equipment.held, self.log())
            assert self.gardien.process.poll() is None, self.log()

    def given_back(self, since: float, within: float) -> float:
        """Seconds from `since`, monotonic, until the equipment was free; fails beyond `within`."""
        free = self.equipment.wait(False, max(0.1, since + within - time.monotonic()))
        writes = [(round(at - since, 3), bus, held) for at, bus, held in self.equipment.writes]
        assert free, (f"stuck after {within} s: {self.equipment.held}", writes, self.log())
        times = [when - since for when in self.equipment.freed.values() if when > since]
        return max(times, default=0.0)

    def delivers(self, within: float = 60.0) -> None:
        """What is read from now on arrives at every platform that is not away."""
        now = time.time()

        def arrived() -> bool:
            return all(
                any(
                    slot > now and max(versions.items())[1][0] is not None
                    for slot, versions in slots_of(one.ledger, series).items()
                )
                for one in self.up
                for series in self.series
            )

        self.wait(arrived, within)

    def caught_up(self, within: float = CAUGHT_UP_WITHIN) -> int:
        """Every platform has every slot up to now; the last of them."""
        self.away(())
        last = int(time.time())

        def missing() -> bool:
            return not any(
                slot not in slots
                for one in self.platforms
                for series in self.series
                for slots in [slots_of(one.ledger, series)]
                for slot in range(one.ledger.since.get(series, last), last + 1)
            )

        end = time.monotonic() + within
        while not missing() and time.monotonic() < end:
            assert self.gardien.process.poll() is None, self.log()
            time.sleep(0.5)
        return last

    def judge(self, last: int) -> Verdict:
        verdict = Verdict()
        for one in self.platforms:
            for series, meter in self.series.items():
                assert series in one.ledger.since, (one.name, series, "was never owed")
                verdict.of_series(
                    one, series, self.equipment.served[meter], self.gardien.deaths, last
                )
            verdict.faults += [f"{one.name}: {fault}" for fault in one.ledger.faults]
            verdict.counts += one.ledger.counts
        return verdict


def slots_of(ledger: Ledger, series: tuple[str, str]) -> dict[int, dict]:
    with ledger.lock:
        return {
            key[4]: dict(versions) for key, versions in ledger.rows.items() if key[:2] == series
        }


@dataclass
class Verdict:
    """Per platform, place, quantity and slot."""

    counts: Counter[str] = field(default_factory=Counter)
    lost: list[object] = field(default_factory=list)
    """slots of which nothing came, and values that had been on the disk and did not come"""
    wrong: list[object] = field(default_factory=list)
    """values that the meter did not serve in that slot"""
    faults: list[str] = field(default_factory=list)
    """rows that came twice, and whatever else the platform must never see"""
    oldest: float = 0.0
    """seconds from a reading that did not come to the death that took it"""

    def of_series(
        self,
        platform: Platform,
        series: tuple[str, str],
        served: dict[int, float],
        deaths: Sequence[Death],
        last: int,
    ) -> None:
        slots = slots_of(platform.ledger, series)
        by_slot: dict[int, list[float]] = {}
        for when in served.values():
            by_slot.setdefault(int(when), []).append(when)
        for slot in range(platform.ledger.since[series], last + 1):
            where = (platform.name, *series, slot)
            versions = slots.get(slot)
            if not versions:
                self.lost.append((*where, "nothing came"))
                continue
            value, why, _ = versions[max(versions)]
            values = {entry[0] for entry in versions.values()} - {None}
            if value is not None:
                self.counts["values"] += 1
                read = served.get(int(value), 0.0)
                if len(values) > 1 or value != int(value) or not slot - 0.05 <= read < slot + 1.05:
                    self.wrong.append((*where, versions, read))
                continue
            if not why or values:
                self.wrong.append((*where, versions, "a gap without a reason, or over a value"))
            self.counts[f"gap {why}"] += 1
            reads = by_slot.get(slot, [])
            for read in reads:
                # what was asked for last may be served when who asked is dead already
                death = next((one for one in deaths if one.died >= read or read < one.up), None)
                age = max(0.0, death.died - read) if death else float("inf")
                if death and age <= death.memory:
                    self.oldest = max(self.oldest, age)
                    self.counts["read, and gone with the memory"] += 1
                else:
                    self.lost.append((*where, why, f"was read {age:.2f} s before a death"))
            off = any(one.died - 2 <= slot <= one.up + STARTS_WITHIN for one in deaths)
            if not reads and not off:
                self.counts["gaps while it ran"] += 1

    def __str__(self) -> str:
        counts = dict(sorted(self.counts.items()))
        return (
            f"lost {len(self.lost)}, wrong {len(self.wrong)}, faults {len(self.faults)},"
            f" oldest reading that a death took {self.oldest:.2f} s; {counts}"
        )

    def clean(self) -> None:
        assert not self.lost, (len(self.lost), self.lost[:20], str(self))
        assert not self.wrong, (len(self.wrong), self.wrong[:20], str(self))
        assert not self.faults, (len(self.faults), self.faults[:20], str(self))
        assert self.counts["gaps while it ran"] <= self.counts["values"] / 100 + 3, str(self)


@contextmanager
def site(folder: Path, eio: bool = False, file_system: str = "ext4") -> Iterator[Site]:
    """Set up and running; with `eio`, its disk can be told to answer EIO (`broken_disk.c`)."""
    with ExitStack() as stack:
        enter = stack.enter_context
        here = enter(machine(folder / "machine", file_system))
        certificates = Certificates(folder / "certificates")
        certificates.make()
        made = enter(equipment())
        (folder / "outside").mkdir()
        receiving = enter(platforms(folder / "outside", certificates.folder))
        places = [place() for _ in range(3)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.bind(("127.0.0.1", 0))
            port = own.getsockname()[1]
        config = folder / "config.yaml"
        config.write_text(CONFIG.format(
            **made.ports, own=port, device=DEVICE, places=places, state=here.card / "state",
            uplinks="".join(one.config_lines() for one in receiving), flush=FLUSH,
        ))  # fmt: skip
        gardien = Gardien(here, config)
        if eio:
            gardien.environment = broken(folder, here.card)
        series = {
            (places[0], "elec.imp"): "modbus-1", (places[1], "elec.imp"): "modbus-2",
            (places[2], "heat"): "bacnet",
        }  # fmt: skip
        found = Site(gardien, made, receiving, series, up=list(receiving))
        try:
            found.set_up(certificates)
            yield found
        finally:
            here.thaw()
            if gardien.process is not None and gardien.process.poll() is None:
                gardien.process.kill()
                gardien.process.wait()


def broken(folder: Path, below: Path) -> dict[str, str]:
    library, switch = folder / "broken_disk.so", folder / "broken"
    source = Path(__file__).with_name("broken_disk.c")
    words = [shutil.which("gcc"), "-O1", "-Wall", "-shared", "-fPIC", "-o", library, source]
    subprocess.run([*words, "-ldl"], check=True)
    switch.write_bytes(b"\0")
    return {"LD_PRELOAD": str(library), "BROKEN": str(switch), "BELOW": f"{below}/"}
