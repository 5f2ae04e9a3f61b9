"""The recipients, behind the interface of a transport.

A recipient keeps the first bytes of each id, answers copies by what it holds, and never forgets. It
delivers signed objects in their order, each until the agent has settled it, as a broker with a
session does. What leaves the building, what is stored, and each receipt go to the journal.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import zstandard

import agent.uplink
from agent.buffer.receipts import parse
from agent.core.errors import BatchRejected, NotRecorded, NotStored, TooLarge, UplinkLost
from agent.core.tasks import end
from hil.platform.ledger import _left
from hil.platform.unpack import Retract, Row, unpack
from tests.sim import houses, small_spool

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable, Iterable

    from agent.core.model import Receipt, SealedBatch
    from agent.uplink.base import GatewayFacts
    from tests.sim.world import World

LARGEST = 1200
"""bytes, while a recipient refuses what is too large"""
LARGEST_TEXT = 64 << 20
LATER = ("E_NOTYET", "E_CLOCK", "E_STORAGE", "E_OFTEN")
"""why an object may be refused for now (docs/authority.md, Copies)"""
SENT_AGAIN = 1800.0
SLOW = (20.0, 120.0)
"""seconds that a batch takes to a recipient whose line is slow"""
RETRY = 60.0
"""seconds until an object is delivered again that could not be recorded"""


@dataclass
class Receiver:
    """One recipient, for ever."""

    name: str
    held: dict[tuple[str, str, int], str] = field(default_factory=dict)
    """by gateway, epoch and seq: the sha256 of what came first"""
    rows: dict[str, list[Row]] = field(default_factory=dict)
    """by place"""
    retracts: list[Retract] = field(default_factory=list)
    erased: dict[str, int] = field(default_factory=dict)
    """by retraction: how many rows it has removed"""
    brought: dict[tuple[str, str, int], list[str]] = field(default_factory=dict)
    """by id of a batch: the retractions that it brought, or that refused rows of it"""
    seen: set[str] = field(default_factory=set)
    """sha256 of what has left the building for this recipient"""
    unanswered: dict[tuple[str, int], list[list[str]]] = field(default_factory=dict)
    """by epoch and seq: places and occupancies of rows in batches without a receipt"""
    receipts: list[dict[str, Any]] = field(default_factory=list)
    """what is on its way: when it is due, and what it says"""
    objects: list[dict[str, Any]] = field(default_factory=list)
    """signed objects that the agent has not settled"""
    faults: list[str] = field(default_factory=list)
    settled: dict[str, dict[str, Any]] = field(default_factory=dict)
    """facts about dwellings that the agent has settled, by their number"""
    silent: int = 0
    """no heartbeat while above 0"""
    beat: float = 0.0
    """true time of the last heartbeat"""


@dataclass
class Platform:
    receivers: list[Receiver]
    number: int = 0
    """of the last signed object"""

    def named(self, name: str) -> Receiver:
        return next(one for one in self.receivers if one.name == name)


def platform(house: houses.House) -> Platform:
    """The recipients of a building, of which nobody knows anything yet."""
    return Platform([Receiver(name) for name in house.recipients])


# What happens to them


def receiver(world: World, number: int) -> Receiver:
    return world.platform.receivers[number % len(world.platform.receivers)]


def _uplink(world: World, event: dict[str, Any], rng: random.Random) -> None:
    del rng
    receiver(world, event["recipient"]).faults.append(event["how"])
    _wake()


def _uplink_ended(world: World, event: dict[str, Any]) -> None:
    receiver(world, event["recipient"]).faults.remove(event["how"])
    _wake()


def _silence(world: World, event: dict[str, Any], rng: random.Random) -> None:
    del rng
    receiver(world, event["recipient"]).silent += 1


def _silence_ended(world: World, event: dict[str, Any]) -> None:
    receiver(world, event["recipient"]).silent -= 1


DO = {"uplink": _uplink, "silence": _silence}
END = {"uplink": _uplink_ended, "silence": _silence_ended}


def heal(world: World) -> None:
    """All faults end."""
    for one in world.platform.receivers:
        one.faults, one.silent = [], 0
    _wake()


def send_object(
    world: World, recipient: int, typ: str, claims: dict[str, Any], raw: bytes, **more: Any
) -> None:
    """Let a recipient deliver a signed object. `more`: goes to the journal."""
    entry = {"typ": typ, "claims": claims, "raw": raw, "due": world.now(), "noted": False}
    receiver(world, recipient).objects.append(entry | {"more": more})
    _wake()


def number(world: World) -> str:
    """A new number for an object."""
    world.platform.number += 1
    return f"sim-{world.house.seed}-{world.platform.number:06d}"


# The transport

_OF: list[World] = []
_OPEN: list[SimUplink] = []
"""the world of this process, and its open connections"""
WATCHING: list[Callable[[World, str, list[Row]], None]] = []
"""called with the recipient and the rows of each batch that leaves the building"""


def install(world: World) -> None:
    """Let the agent of this process reach these recipients."""
    _OF[:], _OPEN[:] = [world], []
    if world.plan["building"].get("small"):
        small_spool.install()
    agent.uplink.TRANSPORTS = {
        **agent.uplink.TRANSPORTS, "https": f"{__name__}:SimUplink"
    }  # fmt: skip


def _wake() -> None:
    for one in _OPEN:
        one.wake.set()
        one.objects_wake.set()


class SimUplink:
    """An open connection to one recipient (agent.uplink.base.Uplink)."""

    most_bytes = 60_000

    def __init__(self, world: World, to: Receiver, facts: GatewayFacts) -> None:
        self.world, self.to, self.facts = world, to, facts
        self.rng = world.chance.of(f"uplink/{to.name}")
        self.wake = asyncio.Event()
        self.objects_wake = asyncio.Event()
        self.number = [one.name for one in world.platform.receivers].index(to.name)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Any, facts: GatewayFacts) -> AsyncIterator[SimUplink]:
        """Connect. Raises UplinkLost while the recipient is down."""
        world = _OF[0]
        uplink = cls(world, world.platform.named(settings.recipient), facts)
        await uplink.network()
        _OPEN.append(uplink)
        delivering = asyncio.ensure_future(uplink.deliver())
        try:
            yield uplink
        finally:
            _OPEN.remove(uplink)
            await end([delivering])

    @classmethod
    def packing(cls, settings: Any, facts: GatewayFacts) -> None:
        """Batches are sent as they are sealed."""
        del settings, facts

    async def network(self) -> None:
        """Wait as long as a request takes. Raises UplinkLost."""
        self.must_be_up()
        await asyncio.sleep(self.rng.uniform(0.03, 0.4))
        self.must_be_up()

    def must_be_up(self) -> None:
        if "down" in self.to.faults:
            raise UplinkLost("no connection")

    # Batches

    async def send(self, batch: SealedBatch) -> None:
        """Send one batch; see `agent.uplink.base.Uplink`."""
        self.must_be_up()
        self._leaves(batch)
        self.world.moment("send")
        await asyncio.sleep(self.rng.uniform(0.03, 0.4))
        if "slow" in self.to.faults:
            await asyncio.sleep(self.rng.uniform(*SLOW))
        self.must_be_up()
        faults = self.to.faults
        if "lost-batches" in faults and self.rng.random() < 0.7:
            if "foreign" in faults:
                seq = batch.id.seq
                self._lie(self._receipt(batch) | {"stored": [[seq, batch.sha256]]}, seq)
            return
        if "too-large" in faults and len(batch.payload) > LARGEST:
            raise TooLarge("{size} bytes are too many", size=len(batch.payload))
        if "refuses" in faults and self.rng.random() < 0.7:
            self._refuse(batch)
            return
        self._store(batch)
        self.world.moment("send")
        if "down" in faults:
            raise UplinkLost("the connection was lost")

    def _leaves(self, batch: SealedBatch) -> None:
        gateway, recipient, epoch, seq = batch.id
        sha256 = hashlib.sha256(batch.payload).hexdigest()
        known: dict[str, Any] = {}
        parcel = unpack(batch.payload)
        if sha256 not in self.to.seen:
            self.to.seen.add(sha256)
            known = {
                "rows": [row._asdict() for row in parcel.rows],
                "retract": [one._asdict() for one in parcel.retract],
                "directory": parcel.directory, "void": parcel.void, "lane": parcel.lane,
                "kept": _document(batch.payload).get("kept"), "created": parcel.created,
            }  # fmt: skip
        self.world.note(
            "sent", recipient=recipient, gateway=gateway, epoch=epoch, seq=seq, sha256=sha256,
            bytes=len(batch.payload), **known,
        )  # fmt: skip
        self.to.unanswered[epoch, seq] = sorted(
            {(row.place, row.occupancy or "") for row in parcel.rows}
        )
        for watch in WATCHING:
            watch(self.world, self.to.name, parcel.rows)

    def _refuse(self, batch: SealedBatch) -> None:
        """Refuse it in one of the ways that a platform has. Raises NotStored or BatchRejected."""
        how = self.rng.choice(("not now", "content", "receipt"))
        if how == "not now":
            raise NotStored("the platform answers 503")
        if how == "content":
            raise BatchRejected("the platform answers 422")
        reason = [batch.id.seq, batch.sha256, "refused for a trial"]
        self._answer(batch, {"rejected": [reason]})

    def _store(self, batch: SealedBatch) -> None:
        """Keep the first bytes of an id, and answer by what is held."""
        gateway, recipient, epoch, seq = batch.id
        key, parcel = (gateway, epoch, seq), unpack(batch.payload)
        if tuple(parcel.id) != tuple(batch.id) or recipient != self.to.name:
            self.world.note("misdirected", recipient=self.to.name, id=list(parcel.id))
        held = self.to.held.get(key)
        if held is None:
            self.to.held[key] = held = parcel.sha256
            _keep(self.to, key, parcel)
            outcomes = parcel.directory.get("outcomes", ())
            self._send_again(outcomes)
            self._free_numbers(outcomes)
            self.world.note(
                "stored", recipient=recipient, epoch=epoch, seq=seq, sha256=held, again=False
            )
        elif held == parcel.sha256:
            self.world.note(
                "stored", recipient=recipient, epoch=epoch, seq=seq, sha256=held, again=True
            )
        else:
            self.world.note(
                "differs",
                recipient=recipient,
                epoch=epoch,
                seq=seq,
                sha256=parcel.sha256,
                held=held,
            )
        retracted = [[id_, self.to.erased[id_]] for id_ in self.to.brought.get(key, ())]
        self._answer(
            batch, {"stored": [[seq, held]]} | ({"retracted": retracted} if retracted else {})
        )

    # Receipts

    def _answer(self, batch: SealedBatch, what: dict[str, Any]) -> None:
        faults, rng = self.to.faults, self.rng
        honest = self._receipt(batch) | what
        if "foreign" in faults:
            self._lie(honest, batch.id.seq)
            if rng.random() < 0.5:
                return
        if "lost-receipts" in faults and rng.random() < 0.8:
            return
        late = rng.uniform(1, 900) if "late" in faults else rng.uniform(0.02, 0.5)
        self._give(honest, late)
        if "duplicate" in faults:
            for _ in range(rng.randint(1, 3)):
                self._give(honest, late + rng.uniform(0, 600))

    def _receipt(self, batch: SealedBatch) -> dict[str, Any]:
        gateway, recipient, epoch, _ = batch.id
        return {"schema": "gardien/receipt/1", "gateway": gateway, "recipient": recipient,
                "epoch": epoch}  # fmt: skip

    def _lie(self, honest: dict[str, Any], seq: int) -> None:
        """Give a receipt that is another gateway's or recipient's, or of another batch."""
        rng = self.rng
        other = houses.id_of("G", rng)
        lies = ({"gateway": other}, {"epoch": "0" * len(honest["epoch"])},
                {"recipient": "else.example"}, {"stored": [[seq, "0" * 64]]})  # fmt: skip
        self._give(honest | rng.choice(lies), rng.uniform(0.01, 1))

    def _give(self, body: dict[str, Any], seconds: float) -> None:
        raw, signed = json.dumps(body), ""
        if self.world.house.signed and self.number == 0:
            by = houses.receipts_by(self.world.house, 0)
            if "unsigned" in self.to.faults:
                by = self.world.house.holder(houses.STRANGER)
            if "unsigned" not in self.to.faults or self.rng.random() < 0.5:
                signed = by.sign("receipt+jwt", body).decode()
        self.to.receipts.append({"due": self.world.now() + seconds, "raw": raw, "signed": signed})
        self.wake.set()

    async def receipts(self) -> AsyncIterator[Receipt]:
        """Receipts, in the order in which they are due. Raises UplinkLost."""
        while True:
            self.wake.clear()
            self.must_be_up()
            now = self.world.now()
            due = sorted((one for one in self.to.receipts if one["due"] <= now), key=_due)
            for entry in due:
                self.to.receipts.remove(entry)
                if receipt := self._read(entry):
                    yield receipt
                    self._settled(receipt)
                    self.world.moment("answer")
            if due:
                continue
            waits = [one["due"] - now for one in self.to.receipts]
            try:
                async with asyncio.timeout(max(0.001, min(waits)) if waits else None):
                    await self.wake.wait()
            except TimeoutError:
                pass

    def _read(self, entry: dict[str, Any]) -> Receipt | None:
        """A receipt as a transport hands it on: signed where its signature counts."""
        body, signed = json.loads(entry["raw"]), False
        receipt = parse(entry["raw"].encode())
        if entry["signed"] and (better := self.facts.receipt(entry["signed"].encode())):
            receipt, signed = better, True
        self.world.note(
            "receipt", recipient=self.to.name, gateway=body["gateway"], of=body["recipient"],
            epoch=body["epoch"], stored=body.get("stored", []), rejected=body.get("rejected", []),
            retracted=body.get("retracted", []), signed=signed,
        )  # fmt: skip
        return receipt

    def _settled(self, receipt: Receipt) -> None:
        for seq, _ in receipt.stored:
            self.to.unanswered.pop((receipt.epoch, seq), None)

    # Signed objects

    async def deliver(self) -> None:
        """Give the agent what is signed for it, each object until it is settled; and heartbeats."""
        while True:
            if "down" in self.to.faults:
                await asyncio.sleep(1)
                continue
            await self._deliver_due()
            self._heartbeat()
            if not self.to.objects:
                self.facts.complete()
            await self._wait_for_objects()

    async def _deliver_due(self) -> None:
        for entry in list(self.to.objects):
            if entry["due"] > self.world.now() or entry not in self.to.objects:
                continue
            await asyncio.sleep(self.rng.uniform(0.03, 0.4))
            if "down" in self.to.faults:
                return
            self._note(entry)
            try:
                await self.facts.objects(entry["raw"])
            except NotRecorded:
                entry["due"] = self.world.now() + RETRY
                continue
            self.world.moment("answer")
            self.to.objects.remove(entry)
            if entry["typ"] == "consent+jwt":
                self.to.settled[entry["claims"]["jti"]] = entry
            if not entry.get("beat"):
                self._note(entry, acked=True)

    def _note(self, entry: dict[str, Any], *, acked: bool = False) -> None:
        if entry.get("beat"):  # signed time counts each time that it is brought (rule C13)
            signed = entry["claims"]["iat"]
            self.world.note("heartbeat", recipient=self.to.name, signed=signed)
            return
        if entry["noted"] and not acked:
            return
        entry["noted"] = True
        claims = entry["claims"]
        self.world.note(
            "object", typ=entry["typ"], jti=claims.get("jti", ""), claims=claims,
            sha256=hashlib.sha256(entry["raw"]).hexdigest(), recipient=self.to.name, acked=acked,
            **entry["more"],
        )  # fmt: skip

    def _send_again(self, outcomes: Iterable[dict[str, Any]]) -> None:
        """What the agent could not take at that time is delivered once more, later."""
        for outcome in outcomes:
            entry = self.to.settled.get(outcome["jti"])
            if outcome.get("code") in LATER and entry is not None and entry not in self.to.objects:
                self.to.objects.append(entry | {"due": self.world.now() + SENT_AGAIN})

    def _free_numbers(self, outcomes: Iterable[dict[str, Any]]) -> None:
        """Forget orders that were refused: who uses their number repeats nothing (rule O8)."""
        refused = {one["jti"] for one in outcomes if one.get("state") == "REJECTED"}
        people = self.world.people
        people.orders = {name: jti for name, jti in people.orders.items() if jti not in refused}

    def _heartbeat(self) -> None:
        """A limit stays in force while its sender is heard: the time, signed, now and then."""
        every = [one.heartbeat / 2 for one in self.world.house.levers if one.heartbeat]
        now = self.world.now()
        if not every or self.to.silent or self.number or now - self.to.beat < min(every):
            return
        if any(one.get("beat") for one in self.to.objects):
            return
        self.to.beat = now
        claims = {"iss": houses.REGISTRY, "jti": number(self.world), "iat": int(now)}
        raw = self.world.house.holder(houses.REGISTRY).sign("time+jwt", claims)
        self.to.objects.append({"typ": "time+jwt", "claims": claims, "raw": raw, "due": now,
                                "noted": False, "beat": True, "more": {}})  # fmt: skip

    async def _wait_for_objects(self) -> None:
        now = self.world.now()
        waits = [max(0.001, one["due"] - now) for one in self.to.objects]
        if not self.number and any(one.heartbeat for one in self.world.house.levers):
            waits.append(30.0)
        waits.append(600.0)
        self.objects_wake.clear()
        try:
            async with asyncio.timeout(min(waits)):
                await self.objects_wake.wait()
        except TimeoutError:
            pass

    async def tell(self, status: dict[str, Any]) -> None:
        """The status document."""
        del status
        await self.network()


def _document(payload: bytes) -> dict[str, Any]:
    text = zstandard.ZstdDecompressor().decompress(payload, max_output_size=LARGEST_TEXT)
    document: dict[str, Any] = json.loads(text)
    return document


def _due(entry: dict[str, Any]) -> float:
    return float(entry["due"])


def _keep(to: Receiver, key: tuple[str, str, int], parcel: Any) -> None:
    """Store rows and retractions of a batch; a retraction is for ever."""
    brought = to.brought.setdefault(key, [])
    for one in parcel.retract:
        brought.append(one.id)
        before = to.rows.get(one.place, [])
        after = [part for row in before for part in _left(row, [one])]
        erased = sum(_left(row, [one]) != [row] for row in before)
        to.rows[one.place] = after
        to.erased[one.id] = to.erased.get(one.id, 0) + erased
        if all(known.id != one.id for known in to.retracts):
            to.retracts.append(one)
    for row in parcel.rows:
        standing = [one for one in to.retracts if one.place == row.place]
        left = _left(row, standing)
        to.rows.setdefault(row.place, []).extend(left)
        if left != [row]:
            brought += [one.id for one in standing
                        if _left(row, [one]) != [row] and one.id not in brought]  # fmt: skip
    if not brought:
        del to.brought[key]
