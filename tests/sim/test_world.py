"""What could silently be wrong in the simulated building, its recipients and its people."""

from __future__ import annotations

import asyncio
import hashlib
import json
import pickle
from collections import Counter
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from itertools import combinations
from types import SimpleNamespace

import pytest
import zstandard

from agent.buffer.receipts import parse
from agent.config import load
from agent.core.errors import (
    AgentError,
    BatchRejected,
    LinkLost,
    NotRecorded,
    NotStored,
    TooLarge,
    UplinkLost,
    WriteRefused,
)
from agent.core.model import BatchId, Lane, Point, SealedBatch, Why
from agent.drivers.bacnet.bus import Bacnet
from agent.drivers.modbus.bus import ModbusTcp
from agent.trust import trust_list
from agent.trust.jws import Key
from agent.uplink.base import GatewayFacts
from tests.sim import building, houses, people, plan, platform, world
from tests.sim.chance import Chance, seeded
from tests.sim.loop import SimLoop

BEGIN = 1_798_758_000
HOUR, DAY = 3600, 86_400


class Stage:
    """A world without lives: its time is that of a loop."""

    def __init__(self, folder, seed=3, **more):
        asked = {"dwellings": 3, "recipients": 2, "lines": ["modbus", "mbus", "bacnet"],
                 "controls": 2, "sums": False, "withheld": False, "common": True,
                 "signed": False}  # fmt: skip
        self.plan = {"seed": seed, "begin": BEGIN, "days": 9, "building": asked | more}
        self.folder, self.chance = folder, Chance(seed)
        self.loop = SimLoop(seeded("test"), 0.0)
        self.journal, self.moments, self.later = [], [], []
        houses.begin(self)
        building.install(self)
        platform.install(self)
        people.install(self)

    def now(self):
        return BEGIN + self.loop.time()

    wall = now

    def note(self, kind, /, **what):
        self.journal.append((kind, what))

    def moment(self, kind):
        self.moments.append(kind)

    def then(self, at, do, **params):
        self.later.append((at, do, params))

    def run(self, coroutine):
        asyncio.set_event_loop(self.loop)
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 100 * DAY))

    def noted(self, kind):
        return [what for known, what in self.journal if known == kind]


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """The parts put themselves into the agent: that must end with the test."""
    monkeypatch.setattr("agent.drivers.DRIVERS", building.agent.drivers.DRIVERS)
    monkeypatch.setattr("agent.uplink.TRANSPORTS", platform.agent.uplink.TRANSPORTS)
    stages = []

    def made(**more):
        folder = tmp_path / str(len(stages))
        folder.mkdir()
        stages.append(Stage(folder, **more))
        return stages[-1]

    yield made
    for one in stages:
        one.loop.close()
    asyncio.set_event_loop(None)
    building._OF.clear()
    platform._OF.clear()
    platform._OPEN.clear()


# Houses


@pytest.mark.parametrize("kind", sorted(plan.KINDS))
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_agent_takes_the_configuration_of_every_kind_of_building(tmp_path, kind, seed):
    drawn = plan.drawn(seed, kind)
    house = houses.house(drawn)
    houses.lay_out(house, tmp_path)
    config = load(tmp_path / "config.yaml")
    assert len(config.devices) == len(house.fittings) + len(house.levers)
    assert len(house.fittings) == 2 * drawn["building"]["dwellings"] + 1
    for one in house.fittings:
        (point, *_) = config.points()[one.name]
        assert (point.at, point.channel, point.every) == (one.at, one.channel, one.every)
        assert bool(config.serial_point(one.name)) == bool(one.serial_at)


def test_a_changed_file_has_the_time_of_the_world(stage):
    """A status tells it: with a real time no run would be like another."""
    world = stage()
    world.loop.jump(DAY)
    houses.configure(world, "flush", seeded("flush"))
    assert (world.folder / "config.yaml").stat().st_mtime == BEGIN + DAY


def test_the_same_seed_makes_the_same_building_and_another_seed_another():
    drawn = plan.drawn(5, "people")
    assert houses.house(drawn) == houses.house(drawn)
    other = houses.house(drawn | {"seed": 6})
    assert other.gateway != houses.house(drawn).gateway
    assert other.holder("Racine").kid != houses.house(drawn).holder("Racine").kid


def test_the_agent_believes_the_trust_list_and_knows_the_keys(stage):
    one = stage(signed=True)
    raw = houses.trust_list(one.house, BEGIN)
    read = trust_list.read(raw)
    assert read.signed_by(read.roots) == set(read.roots)
    holder = one.house.holder(houses.MANAGER)
    assert Key.of(houses.private(one.house.seed, houses.MANAGER).public_key()).kid == holder.kid
    names = {(member.name, member.role) for member in read.members.values()}
    assert (one.house.recipients[0], "recipient") in names


def test_no_two_devices_share_a_line_and_an_address_or_a_number():
    for seed in range(30):
        house = houses.house(plan.drawn(seed, "aggregates"))
        where = [(one.line, one.address) for one in (*house.fittings, *house.levers)]
        assert len(set(where)) == len(where)
        assert len({one.serial for one in house.fittings}) == len(house.fittings)


@pytest.mark.parametrize("what", ["period", "line", "recipient", "flush"])
def test_each_change_of_the_configuration_changes_what_the_agent_reads(stage, what):
    one = stage()
    before = load(one.folder / "config.yaml")
    done = houses.configure(one, what, seeded(1))
    assert done == what
    after = load(one.folder / "config.yaml")
    assert after.written != before.written
    assert one.noted("configured")[-1]["readable"]
    for seed in range(8):
        houses.configure(one, what, seeded(seed))
        load(one.folder / "config.yaml")


def test_a_wrong_file_cannot_be_read_until_it_is_mended(stage):
    one = stage()
    houses.configure(one, "wrong", seeded(1))
    with pytest.raises(AgentError):
        load(one.folder / "config.yaml")
    assert houses.mend(one)
    assert not houses.mend(one)
    load(one.folder / "config.yaml")


# Events


def test_everything_in_a_plan_has_somebody_who_does_it():
    parts = (building, platform, people)
    for do, parameters in plan.EVENTS.items():
        own = hasattr(world.World, "_event_" + do.replace(".", "_"))
        doing = [part for part in parts if do in part.DO]
        assert len(doing) + own == 1, do
        if "for" in parameters and not own:
            assert do in doing[0].END, do
    assert sum(map(len, (part.DO for part in parts))) == len(
        {*building.DO, *platform.DO, *people.DO}
    )


@pytest.mark.parametrize("over", [False, True])
def test_what_is_due_after_the_end_of_a_run_does_not_wake_an_agent_that_stops(over):
    done = []
    life = object.__new__(world.Life)
    life.loop, life._timer = SimLoop(seeded("test"), 0.0), None
    life.world = SimpleNamespace(
        queue=[(BEGIN + 1.0, 0, "then", ({},))], over=over, booted=BEGIN,
        now=lambda: BEGIN + life.loop.time(), _do_then=done.append,
    )  # fmt: skip
    life.world.due = lambda: world.World.due(life.world)
    life.wake()
    asyncio.set_event_loop(life.loop)
    life.loop.run_until_complete(asyncio.sleep(2.0))
    life.loop.close()
    asyncio.set_event_loop(None)
    assert done == ([] if over else [{}])
    assert life.loop.rounds < 20


def test_all_that_is_kept_between_two_lives_can_be_pickled(stage):
    one = stage()
    everything_once(one)
    kept = (one.house, one.building, one.platform, one.people, one.chance)
    again = pickle.loads(pickle.dumps(kept))
    assert again[:4] == kept[:4]


def everything_once(one):
    """Let everything happen that needs no life."""
    event = {
        "device": 1, "line": 0, "control": 0, "dwelling": 1, "recipient": 0, "how": "silent",
        "value": 1.0, "for": 60.0, "step": "daily", "until": 30, "aim": "any", "by": "signed",
        "what": "object", "notice": 60.0, "empty": 0.0, "indexes": True, "in": 0.0,
        "duration": 600.0, "kind": "offset", "random": 0.0,
    }  # fmt: skip
    for home in one.house.homes:
        home.occupancy = houses.id_of("H", seeded(home.label))
    for part in (building, platform, people):
        for do, act in part.DO.items():
            more = {"how": "late"} if do == "uplink" else {}
            more |= {"device": one.house.levers[0].device} if do == "starved" else {}
            act(one, {**event, "do": do, "ticket": 0, **more}, seeded(do))


# Meters


def test_no_two_meters_ever_show_the_same_and_none_runs_backwards(stage):
    meters = stage().building.meters
    moments = [BEGIN + n * 1801 for n in range(400)]
    shown = {name: [meter.index(at) for at in moments] for name, meter in meters.items()}
    for one, other in combinations(shown.values(), 2):
        assert not set(one) & set(other)
    for values in shown.values():
        assert values == sorted(values)
        assert values[-1] > values[0]
    assert len({values[-1] - values[0] for values in shown.values()}) == len(meters)


def test_an_exchanged_meter_has_another_number_and_another_index(stage):
    one = stage()
    old = one.building.meters["elec-0"]
    shown = building.exchange(one, 0, seeded(1))
    new = one.building.meters["elec-0"]
    assert (shown["old"], shown["new"]) == (old.serial, new.serial)
    assert Decimal(shown["closing"]) > Decimal(shown["opening"])
    serials = {old.serial, new.serial}
    assert building.exchange(one, 0, seeded(2))["new"] not in serials
    assert one.noted("meter")[0] == shown


# Lines


def points(one, name):
    """What the agent reads of a device: its index and its number."""
    fitted = next(fitting for fitting in one.house.fittings if fitting.name == name)
    wanted = [fitted.at, fitted.serial_at] if fitted.serial_at else [fitted.at]
    return [Point(name, at, fitted.address, at, 600) for at in wanted]


def read(one, name, do=lambda: None):
    """Open the line of a device, let something happen, and read the device."""
    fitted = next(fitting for fitting in one.house.fittings if fitting.name == name)
    config = load(one.folder / "config.yaml")
    line = config.links[houses.line_name(fitted.line)]

    async def reading():
        driver = building.agent.drivers.driver(houses.DRIVERS[fitted.kind])
        async with driver.open(line.settings) as bus:
            do()
            return await bus.read(points(one, name))

    return one.run(reading())


def test_each_device_answers_for_itself_at_its_own_address(stage):
    one = stage()
    assert {fitted.kind for fitted in one.house.fittings} == {"modbus", "mbus", "bacnet"}
    for fitted in one.house.fittings:
        value, *serial = read(one, fitted.name)
        assert value.value == one.building.meters[fitted.name].index(one.now())
        assert [str(sample.value) for sample in serial] == [fitted.serial] * len(serial)
        answer = one.noted("answer")[-1]
        assert (answer["meter"], answer["value"]) == (fitted.serial, str(value.value))


def test_the_drivers_are_the_agents_own_with_their_settings_and_checks():
    assert issubclass(building.SimModbus, ModbusTcp)
    assert building.SimModbus.Settings is ModbusTcp.Settings
    assert building.SimModbus.check.__func__ is ModbusTcp.check.__func__
    assert issubclass(building.SimBacnet, Bacnet)
    assert building.SimBacnet.at_once == Bacnet.at_once


def test_a_device_with_a_fault_does_not_answer_as_before(stage):
    one = stage()
    for how, why in {"silent": {Why.SILENT}, "wrong-unit": {Why.SILENT},
                     "late": {None, Why.SILENT}, "garbage": {None, Why.BAD},
                     "slow": {None}}.items():  # fmt: skip
        event = {"device": 0, "how": how}
        building.DO["device"](one, event, seeded(1))
        began = one.now()
        samples = [read(one, "elec-0")[0] for _ in range(30)]
        assert (one.now() - began > 30 * building.SLOW[0]) == (how == "slow")
        assert {sample.why for sample in samples} == why, how
        if how == "garbage":
            true = one.building.meters["elec-0"].index(one.now())
            values = {sample.value for sample in samples if sample.why is None}
            assert any(abs(value - true) > 10 for value in values)
            odd = [what for what in one.noted("answer") if abs(Decimal(what["value"]) - true) > 10]
            assert odd
            assert all(what["odd"] for what in odd)
        building.END["device"](one, event)
        assert read(one, "elec-0")[0].why is None, how
    assert {what["device"] for what in one.noted("silent")} == {"elec-0"}


def test_a_restarted_device_says_nothing_and_then_nothing_valid(stage):
    one = stage()
    building.DO["device"](one, {"device": 0, "how": "reboot"}, seeded(1))
    assert read(one, "elec-0")[0].why is Why.SILENT
    one.loop.jump(one.loop.time() + 60)
    assert read(one, "elec-0")[0].why is Why.BAD
    forgets = [stage(seed=3) for _ in range(8)]
    for seed, each in enumerate(forgets):
        building.DO["device"](each, {"device": 0, "how": "reboot"}, seeded(seed))
    assert {each.building.meters["elec-0"].lost > 0 for each in forgets} == {True, False}


def test_a_line_that_is_down_can_neither_be_opened_nor_read(stage):
    one = stage()
    line = {"line": 0}
    with pytest.raises(LinkLost):
        read(one, "elec-0", lambda: building.DO["line"](one, line, seeded(1)))
    with pytest.raises(LinkLost):
        read(one, "elec-0")
    building.END["line"](one, line)
    assert read(one, "elec-0")[0].why is None


# Equipment


@pytest.fixture
def commanded(stage):
    """A control on each bus, as the agent's driver reaches it."""
    one = stage(seed=0)
    config = load(one.folder / "config.yaml")

    def on(kind, act):
        lever = next(each for each in one.house.levers if each.kind == kind)
        scale = Decimal("0.1" if kind == "modbus" else "1")
        at = houses.REGISTERS[kind]
        set_, dog = (Point(lever.device, at[name], lever.address, at[name], 0, scale=of,
                           writable=True)
                     for name, of in (("set", scale), ("dog", Decimal(1))))  # fmt: skip

        async def acting():
            driver = building.agent.drivers.driver(houses.DRIVERS[kind])
            async with driver.open(config.links[houses.line_name(lever.line)].settings) as bus:
                return await act(bus, set_, dog)

        return one.run(acting())

    return one, on


def test_equipment_does_what_is_written_and_a_persons_priority_is_stronger(commanded):
    one, on = commanded

    async def act(bus, point, _):
        await bus.write(point, Decimal(-1), 13)
        return (await bus.held(point)).ours

    assert on("bacnet", act)[13] == -1
    number = next(n for n, each in enumerate(one.house.levers) if each.kind == "bacnet")
    building.DO["priority"](one, {"control": number, "value": 0.5}, seeded(1))
    plant = one.building.plants[one.house.levers[number].device]
    wanted = building.value_of(plant.lever, 0.5)
    assert plant.effective == wanted
    assert [what["by"] for what in one.noted("write")] == ["agent", "person"]

    async def again(bus, point, _):
        await bus.write(point, None, 13)
        return await bus.held(point)

    held = on("bacnet", again)
    assert held.ours[13] is None
    assert held.others == {8: wanted}
    building.heal(one)
    assert plant.effective == Decimal(plant.lever.original)


@pytest.mark.parametrize(("do", "point"), [("guard", "room"), ("inhibit", "off")])
def test_what_stops_a_control_twice_at_once_lasts_until_the_last_of_both(commanded, do, point):
    one, _ = commanded
    plant = one.building.plants[one.house.levers[0].device]
    seen = [getattr(plant, point)]
    for known in (building.DO, building.END):
        for _ in range(2):
            more = (seeded(1),) if known is building.DO else ()
            known[do](one, {"control": 0}, *more)
            seen.append(getattr(plant, point))
    right, wrong = seen[:2]
    assert right != wrong
    assert seen == [right, wrong, wrong, wrong, right]


def test_a_watchdog_runs_out_unless_it_is_fed(commanded):
    one, on = commanded

    async def act(bus, point, dog):
        await bus.write(point, Decimal(35), None)
        for _ in range(3):
            await bus.write(dog, Decimal(60), None)

    on("modbus", act)
    plant = next(each for each in one.building.plants.values() if each.lever.kind == "modbus")
    assert plant.effective == Decimal("3.5")
    ((due, do, params),) = one.later  # somebody looks once, however often it is fed
    assert 59 < due - one.now() <= 60
    one.loop.jump(due - BEGIN)
    plant.fed += 30
    building.DO[do](one, params, seeded(1))
    assert plant.effective == Decimal("3.5")
    (due, do, params) = one.later[-1]
    one.loop.jump(due - BEGIN)
    building.DO[do](one, params, seeded(1))
    assert plant.effective == Decimal(plant.lever.fallback)
    assert one.noted("write")[-1]["by"] == "watchdog"


def test_a_silent_device_confirms_no_write_and_may_have_taken_it(commanded):
    one, on = commanded
    name = next(each.device for each in one.house.levers if each.kind == "modbus")
    one.building.faults[name] = ["silent"]

    async def act(bus, point, _):
        with pytest.raises(WriteRefused):
            await bus.write(point, Decimal(30), None)

    taken = set()
    for _ in range(20):
        one.building.plants[name].register = Decimal(9)
        on("modbus", act)
        taken.add(one.building.plants[name].register == 3)
    assert taken == {True, False}


def test_a_protected_device_answers_and_takes_nothing(commanded):
    one, on = commanded
    name = next(each.device for each in one.house.levers if each.kind == "modbus")
    one.building.faults[name] = ["protected"]

    async def act(bus, point, _):
        with pytest.raises(WriteRefused):
            await bus.write(point, Decimal(30), None)
        return (await bus.held(point)).ours[0]

    before = one.building.plants[name].register
    assert on("modbus", act) * Decimal("0.1") == before == one.building.plants[name].effective


# Recipients


def sealed(one, seq=1, rows=(), epoch="abcdefabcdef", **more):
    """A batch as the agent would send it to the first recipient."""
    recipient = one.house.recipients[0]
    document = {"schema": "gardien/batch/1", "gateway": one.house.gateway, "recipient": recipient,
                "epoch": epoch, "seq": seq, "lane": "live", "created": "2027-01-01T00:00:00Z",
                "series": list(rows)} | more  # fmt: skip
    payload = zstandard.ZstdCompressor().compress(json.dumps(document).encode())
    id_ = BatchId(one.house.gateway, recipient, epoch, seq)
    return SealedBatch(id_, Lane.LIVE, payload, hashlib.sha256(payload).hexdigest(), len(rows))


def series(place, *values):
    return {"place": place, "channel": "heat", "kind": "REG", "unit": "kWh", "step": 3600,
            "t0": "2027-01-01T00:00:00Z", "meter": "1", "occupancy": "H", "basis": "c",
            "t": [3600 * n for n in range(len(values))], "v": list(values),
            "q": ["R"] * len(values)}  # fmt: skip


def retract(place, id_="r1", ver=2**53 - 1):
    return {"id": id_, "place": place, "from": "2027-01-01T00:00:00Z", "ver": ver,
            "reason": "withdrawn"}  # fmt: skip


def delivered(one, *batches, seconds=1200.0, objects=None, faults=()):
    """Send batches over an open connection; the receipts that came, and what was raised."""
    receipts, raised = [], []
    settings = SimpleNamespace(recipient=one.house.recipients[0])
    one.platform.receivers[0].faults = list(faults)

    async def taken(raw):
        if objects is not None:
            objects.append(raw)

    def signed(body):
        return replace(
            parse(json.dumps({"schema": "gardien/receipt/1", **body_of(body)}).encode()), kid="k"
        )

    facts = GatewayFacts(one.house.gateway, objects=taken, receipt=signed)

    async def listen(uplink):
        async for receipt in uplink.receipts():
            receipts.append(receipt)  # noqa: PERF401 -- it is cancelled in the middle

    async def sending():
        async with platform.SimUplink.open(settings, facts) as uplink:
            listening = asyncio.ensure_future(listen(uplink))
            for batch in batches:
                try:
                    await uplink.send(batch)
                except AgentError as error:
                    raised.append(error)
            await asyncio.wait([listening], timeout=seconds)
            listening.cancel()
            if listening.done() and not listening.cancelled():
                raised.append(listening.exception())

    one.run(sending())
    return receipts, [error for error in raised if error is not None]


def body_of(signed):
    """The claims of a signed receipt, whoever signed it."""
    payload = signed.split(b".")[1]
    text = platform.houses.base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4))
    return {name: value for name, value in json.loads(text).items() if name != "schema"}


def test_a_recipient_answers_by_what_it_stored_first(stage):
    one = stage()
    first, other = sealed(one), sealed(one, created="2027-01-02T00:00:00Z")
    receipts, raised = delivered(one, first, first, other)
    assert not raised
    assert [receipt.stored for receipt in receipts] == [((1, first.sha256),)] * 3
    assert [what["again"] for what in one.noted("stored")] == [False, True]
    assert one.noted("differs")[0]["sha256"] == other.sha256
    sent = one.noted("sent")
    assert [("rows" in what) for what in sent] == [True, False, True]


def test_a_recipient_forgets_for_ever_what_was_taken_back(stage):
    one = stage()
    place = one.house.homes[0].place
    batches = [
        sealed(one, 1, [series(place, 1, 2, 3)]),
        sealed(one, 2, [], retract=[retract(place)]),
        sealed(one, 3, [series(place, 4)]),
    ]
    receipts, _ = delivered(one, *batches)
    of = {receipt.stored[0][0]: receipt.retracted for receipt in receipts}
    assert of == {1: (), 2: (("r1", 3),), 3: (("r1", 3),)}
    assert one.platform.receivers[0].rows[place] == []


def raised_are(*kinds):
    return lambda _one, _came, raised: set(map(type, raised)) == set(kinds)


def some_are_foreign(one, came, _raised):
    ours = (one.house.gateway, one.house.recipients[0], "abcdefabcdef")
    return any((each.gateway, each.recipient, each.epoch) != ours for each in came)


def some_are_lost(one, _came, raised):
    return len(one.noted("stored")) < 20 and not raised


def some_are_unanswered(one, came, _raised):
    return len(one.noted("stored")) == 20 and len(came) < 12


def some_are_refused(_one, came, raised):
    return {NotStored, BatchRejected} == set(map(type, raised)) and any(
        each.rejected for each in came
    )


FAULTS = {
    "lost-batches": some_are_lost,
    "lost-receipts": some_are_unanswered,
    "duplicate": lambda _one, came, _raised: len(came) > 20,
    "foreign": some_are_foreign,
    "refuses": some_are_refused,
    "too-large": raised_are(TooLarge),
}


@pytest.mark.parametrize("how", sorted(FAULTS))
def test_a_recipient_with_a_fault_does_what_the_fault_says(stage, how):
    one = stage()
    places = [houses.id_of("D", seeded(n)) for n in range(150)]
    rows = [series(place, 1) for place in places] if how == "too-large" else []
    batches = [sealed(one, seq, rows) for seq in range(1, 21)]
    came, raised = delivered(one, *batches, faults=[how])
    assert FAULTS[how](one, came, raised), (how, len(came), Counter(map(type, raised)))
    healthy, raised = delivered(one, sealed(one, 21), faults=[])
    assert any(receipt.stored and receipt.stored[0][0] == 21 for receipt in healthy)
    assert not raised


def test_a_recipient_that_lies_answers_batches_that_it_never_got(stage):
    one = stage()
    batches = [sealed(one, seq) for seq in range(1, 21)]
    came, _ = delivered(one, *batches, faults=["lost-batches", "foreign"])
    held = {(what["epoch"], what["seq"]) for what in one.noted("stored")}
    lies = [each for each in came if (each.epoch, each.stored[0][0]) not in held]
    assert len({(each.gateway, each.recipient, each.epoch) for each in lies}) > 2
    assert any(set(each.stored[0][1]) == {"0"} for each in lies)


def test_a_slow_line_takes_a_batch_to_its_end_after_many_seconds(stage):
    one = stage()
    came, raised = delivered(one, sealed(one, 1), seconds=1.0, faults=["slow"])
    assert one.now() - BEGIN > platform.SLOW[0]
    assert came
    assert not raised


def test_a_late_recipient_answers_later(stage):
    one = stage()
    batches = [sealed(one, seq) for seq in range(1, 11)]
    came, _ = delivered(one, *batches, seconds=30.0, faults=["late"])
    assert len(came) < 10
    rest, _ = delivered(one, seconds=1000.0)
    assert len(came) + len(rest) == 10


def test_a_recipient_that_is_down_takes_no_connection_and_loses_the_open_one(stage):
    one = stage()
    event = {"recipient": 0, "how": "down"}

    def fails():
        platform.DO["uplink"](one, event, seeded(1))

    one.loop.call_later(5.0, fails)
    _, raised = delivered(one)
    assert set(map(type, raised)) == {UplinkLost}
    with pytest.raises(UplinkLost):
        delivered(one, faults=["down"])


def test_a_signing_recipient_signs_and_a_stranger_signs_where_it_does_not(stage):
    one = stage(signed=True)
    delivered(one, sealed(one))
    kids = []

    def kid_of(entry):
        head = entry.split(b".")[0]
        text = platform.houses.base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4))
        kids.append(json.loads(text)["kid"])

    assert one.noted("receipt")[0]["signed"]
    receiver = one.platform.receivers[0]
    uplink_like = platform.SimUplink(one, receiver, None)
    for faults in ([], ["unsigned"], ["unsigned"], ["unsigned"], ["unsigned"], ["unsigned"]):
        receiver.faults, receiver.receipts = faults, []
        uplink_like._give({"gateway": "g"}, 0.0)
        (entry,) = receiver.receipts
        if entry["signed"]:
            kid_of(entry["signed"].encode())
    own = houses.receipts_by(one.house, 0).kid
    assert kids[0] == own
    assert kids[1:]
    assert own not in kids[1:]


def test_an_object_is_delivered_until_it_is_recorded(stage):
    one = stage(controls=0)
    refusals = [NotRecorded("the disk is full"), NotRecorded("the disk is full")]
    taken = []

    async def objects(raw):
        if refusals:
            raise refusals.pop()
        taken.append(raw)

    platform.send_object(one, 0, "consent+jwt", {"jti": "j-1"}, b"raw", means=[])

    async def serving():
        settings = SimpleNamespace(recipient=one.house.recipients[0])
        facts = GatewayFacts(one.house.gateway, objects=objects)
        async with platform.SimUplink.open(settings, facts):
            await asyncio.sleep(600)

    one.run(serving())
    assert taken == [b"raw"]
    assert [what["acked"] for what in one.noted("object")] == [False, True]
    assert not one.platform.receivers[0].objects


def test_a_limit_is_kept_in_force_by_heartbeats_until_its_sender_is_silent(stage):
    one = stage(seed=0)
    assert any(each.heartbeat for each in one.house.levers)
    objects = []
    delivered(one, seconds=3600.0, objects=objects)
    assert len(objects) >= 3600 / 300
    platform.DO["silence"](one, {"recipient": 0}, seeded(1))
    before = len(objects)
    delivered(one, seconds=3600.0, objects=objects)
    assert len(objects) == before
    platform.END["silence"](one, {"recipient": 0})
    delivered(one, seconds=3600.0, objects=objects)
    assert len(objects) > before


def test_signed_time_is_noted_each_time_that_it_is_brought(stage):
    """Rule C13: it keeps the clock, also when the disk cannot record it."""
    one, brought = stage(seed=0), []

    async def unrecorded(raw):
        brought.append(raw)
        if len(brought) < 3:
            raise NotRecorded("the disk is full")

    async def serving():
        settings = SimpleNamespace(recipient=one.house.recipients[0])
        facts = GatewayFacts(one.house.gateway, objects=unrecorded)
        async with platform.SimUplink.open(settings, facts):
            await asyncio.sleep(2 * platform.RETRY + 10)

    one.run(serving())
    assert brought == brought[:1] * 3
    assert len(one.noted("heartbeat")) == len(brought)


# People


def withdraws(one, aim, **more):
    event = {"dwelling": 1, "recipient": 0, "by": "command", "aim": aim, **more}
    people.DO["withdraw"](one, event, seeded(1))


def wanted(one):
    return [(errand["do"], errand.get("home")) for errand in one.people.errands]


def test_a_withdrawal_in_flight_waits_for_a_batch_of_that_dwelling(stage):
    one = stage()
    withdraws(one, "in-flight")
    delivered(one, sealed(one, 1, [series(one.house.homes[0].place, 1)]))
    assert not wanted(one)
    delivered(one, sealed(one, 2, [series(one.house.homes[1].place, 1)]))
    assert wanted(one) == [("withdraw", 1)]
    assert not one.people.aimed


def test_a_withdrawal_in_flight_comes_at_once_where_a_batch_has_no_receipt(stage):
    one = stage()
    delivered(one, sealed(one, 1, [series(one.house.homes[1].place, 1)]), faults=["lost-batches"])
    seq = 1
    while not one.platform.receivers[0].unanswered:  # it may not have been lost
        seq += 1
        delivered(one, sealed(one, seq, [series(one.house.homes[1].place, 1)]),
                  faults=["lost-batches"])  # fmt: skip
    withdraws(one, "in-flight")
    assert wanted(one) == [("withdraw", 1)]


def test_a_withdrawal_that_meets_no_batch_is_made_anyway(stage):
    one = stage()
    withdraws(one, "in-flight")
    (at, do, params) = one.later[-1]
    assert at == one.now() + people.NEVER_LEFT
    people.DO[do](one, params, seeded(1))
    assert wanted(one) == [("withdraw", 1)]


def served(one, answers, monkeypatch, seconds=3600.0):
    """Be the people for a while; `answers`: the agent's, in their order."""
    one.house.settled = True
    asked = []

    async def answer(_gateway, request, _caller):
        asked.append(request)
        made = answers.pop(0)
        if isinstance(made, BaseException):
            raise made
        return made

    monkeypatch.setattr("agent.local.answer", answer)

    async def serving():
        async with asyncio.timeout(seconds):
            await people._serve(one, None)

    with pytest.raises(TimeoutError):
        one.run(serving())
    return asked


def test_a_call_whose_answer_was_lost_is_made_again(stage, monkeypatch):
    one = stage()
    withdraws(one, "any")
    errand = one.people.errands[0]
    errand |= {"asked": one.now(), "call": "consent.withdraw", "args": {"place": "A-02"}}
    asked = served(one, [{"result": {"consents": []}}], monkeypatch)
    assert [request["call"] for request in asked] == ["consent.withdraw"]
    assert [(what["outcome"], what["lost"]) for what in one.noted("call")] == [
        ("lost", True), ("accepted", False),
    ]  # fmt: skip
    lost = one.noted("call")[0]["means"]
    assert lost[0]["fact"] == "withdraw"
    assert not one.people.errands


def test_whoever_is_refused_because_of_the_disk_comes_back(stage, monkeypatch):
    one = stage()
    withdraws(one, "any")
    answers = [{"refused": "nothing was recorded: the disk is full"}, {"result": {"consents": []}}]
    asked = served(one, answers, monkeypatch)
    assert len(asked) == 2
    assert [what["outcome"] for what in one.noted("call")] == ["waiting", "accepted"]


def test_whoever_is_refused_for_good_does_not_come_back(stage, monkeypatch):
    one = stage()
    withdraws(one, "any")
    asked = served(one, [{"refused": "there is no such dwelling"}], monkeypatch)
    assert len(asked) == 1
    assert one.noted("call")[0]["means"] == []
    assert not one.people.errands


def test_a_flawed_order_states_nothing_and_differs_from_a_right_one(stage):
    one = stage()
    event = {"control": 0, "value": 1.0, "in": 0.0, "duration": 600.0, "kind": "offset",
             "random": 0.0}  # fmt: skip
    one.house.audience = f"{one.house.gateway}.00"
    for flaw in ("", "signature", "audience", "expired", "no-grant", "beyond", "replay"):
        people.DO["order"](one, event | {"flaw": flaw}, seeded(3))
    right, *flawed = one.platform.receivers[0].objects
    assert right["more"]["means"]
    assert "flaw" not in right["more"]
    assert all(each["more"]["means"] == [] and each["more"]["flaw"] for each in flawed)
    by_flaw = {each["more"]["flaw"]: each for each in flawed}
    assert by_flaw["audience"]["claims"]["aud"] != one.house.audience
    assert by_flaw["expired"]["claims"]["exp"] < one.now()
    assert by_flaw["no-grant"]["claims"]["iss"] == houses.MANAGER
    lever = one.house.levers[0]
    assert by_flaw["beyond"]["claims"]["cmd"]["val"] > lever.most
    assert by_flaw["replay"]["claims"]["jti"] == right["claims"]["jti"]
    broken = by_flaw["signature"]
    whole = one.house.holder(broken["claims"]["iss"]).sign("dr-command+jwt", broken["claims"])
    assert broken["raw"] != whole
    assert broken["raw"][:50] == whole[:50]


def test_a_first_order_that_should_repeat_another_is_a_right_one(stage):
    one = stage()
    one.house.audience = f"{one.house.gateway}.00"
    event = {"control": 0, "value": 1.0, "in": 0.0, "duration": 600.0, "kind": "offset",
             "random": 0.0, "flaw": "replay"}  # fmt: skip
    people.DO["order"](one, event, seeded(3))
    people.DO["order"](one, event, seeded(4))
    first, second = one.platform.receivers[0].objects
    assert first["more"]["means"]
    assert "flaw" not in first["more"]
    assert second["more"]["flaw"] == "replay"
    assert second["claims"]["jti"] == first["claims"]["jti"]
    refused = {"jti": first["claims"]["jti"], "state": "REJECTED"}
    platform.SimUplink(one, one.platform.receivers[0], None)._free_numbers([refused])
    people.DO["order"](one, event, seeded(5))
    *_, third = one.platform.receivers[0].objects
    assert "flaw" not in third["more"]  # the first one was refused, so nothing is repeated


def test_a_consent_after_a_withdrawal_knows_of_it(stage, monkeypatch):
    one = stage()
    event = {"dwelling": 0, "recipient": 0, "step": "daily", "until": 30, "by": "command"}
    people.DO["consent"](one, event, seeded(1))
    marks = {"result": {"marks": [{"mark": "m-1"}, {"mark": "m-2"}]}}
    given = {"id": "c-1", "place": one.house.homes[0].place, "occupancy": "H", "recipient": "r",
             "channels": ["heat"], "step": DAY, "since": "2027-01-01T00:00:00Z",
             "until": "2027-02-01T00:00:00Z", "withdrawn": None, "replaced_by": None}  # fmt: skip
    asked = served(one, [marks, {"result": {"consents": [given]}}], monkeypatch)
    assert asked[1]["args"]["after"] == ["m-2"]
    (fact,) = one.noted("call")[0]["means"]
    assert (fact["fact"], fact["id"], fact["step"]) == ("consent", "c-1", DAY)


def test_a_consent_whose_answer_nobody_saw_may_replace_earlier_ones(stage, monkeypatch):
    one = stage()
    one.house.homes[0].occupancy = "H-1"
    event = {"dwelling": 0, "recipient": 0, "step": "daily", "until": 30, "by": "command"}
    people.DO["consent"](one, event, seeded(1))
    (errand,) = one.people.errands
    errand |= {"stage": 1, "asked": one.now(), "call": "consent.give", "args": {}}
    errand |= {"marks": [], "begun": int(one.wall())}
    served(one, [{"refused": "they overlap"}], monkeypatch)
    lost, refused = one.noted("call")
    (fact,) = lost["means"]
    assert (fact["fact"], fact["occupancy"], refused["means"]) == ("consent.lost", "H-1", [])


def test_a_move_that_was_recorded_although_nobody_saw_it_is_looked_up(stage, monkeypatch):
    one = stage()
    one.house.homes[0].occupancy = "H-1"
    event = {"dwelling": 0, "notice": 0.0, "empty": 0.0}
    people.DO["move"](one, event, seeded(1))
    (errand,) = one.people.errands
    errand |= {"stage": 1, "asked": one.now(), "call": "occupancy.move_in", "args": {}}
    entered = {"id": "H-2", "since": people.stamp(errand["enters"]), "until": None}
    answers = [{"refused": "that is recorded already"}, {"result": {"occupancies": [entered]}}]
    asked = served(one, answers, monkeypatch)
    assert [request["call"] for request in asked] == ["occupancy.move_in", "occupancy.list"]
    assert [what["outcome"] for what in one.noted("call")] == ["lost", "waiting", "accepted"]
    assert one.noted("call")[-1]["means"][0]["occupancy"] == "H-2"
    assert one.house.homes[0].occupancy == "H-2"


def test_people_whose_move_is_recorded_beforehand_live_there_until_then(stage, monkeypatch):
    one = stage()
    one.house.homes[0].occupancy = "H-1"
    people.DO["move"](one, {"dwelling": 0, "notice": -3600.0, "empty": 7200.0}, seeded(1))
    left = {"id": "H-1", "until": people.stamp(one.people.errands[0]["at"])}
    served(one, [{"result": {"occupancies": [left]}}], monkeypatch, seconds=60.0)
    withdrawal = {"dwelling": 0, "recipient": 0, "by": "command", "aim": "any"}
    for seconds, lives in ((60.0, "H-1"), (3600.0, "H-1"), (60.0, "")):
        people.DO["withdraw"](one, withdrawal, seeded(1))
        served(one, [{"result": {"consents": []}}], monkeypatch, seconds=seconds)
        assert one.noted("call")[-1]["means"][0]["occupancy"] == lives


def test_exchanges_of_a_meter_are_recorded_in_their_order(stage):
    one = stage()
    for notice in (9000.0, 60.0):
        event = {"device": 0, "notice": notice, "indexes": True}
        people.DO["exchange"](one, event, seeded(notice))
    first, second = one.people.errands
    assert first["due"] < second["due"]
    assert (first["new"], first["at"] <= second["at"]) == (second["old"], True)


def test_an_exchange_may_be_recorded_for_now_and_an_end_of_a_duty_for_earlier(stage):
    one = stage()
    event = {"device": 0, "notice": 600.0, "indexes": True, "record": "now"}
    people.DO["exchange"](one, event, seeded(1))
    (errand,) = one.people.errands
    one.run(asyncio.sleep(5000))
    assert people._ask_exchange(one, errand)[1]["at"] == people.stamp(one.wall())
    people.DO["duty.end"](one, {"recipient": 0, "notice": 3600.0}, seeded(1))
    one.people.duties.append(("Y", 0, "charges"))
    asked = people._ask_duty_end(one, one.people.errands[-1])
    assert asked == ("duty.end", {"duty": "Y", "at": people.stamp(one.wall() - 3600)})


def test_a_time_service_may_be_wrong_and_the_kernel_forgets_one_that_is_off(tmp_path):
    machine = world.World({"seed": 1, "begin": BEGIN, "days": 1, "events": []}, tmp_path)
    machine._event_clock_service({"on": True, "wrong": 7200.0}, seeded(1))
    machine._do_corrected(machine.correction)
    noted = machine.journal[-1].what
    assert (machine.apart, noted["apart"], noted["kept"]) == (7200.0, 7200.0, True)
    machine._event_clock_service({"on": False}, seeded(1))
    touched = machine.touched()
    assert machine.keeps()
    machine.at += world.UNKEPT + 1
    assert not machine.keeps()
    assert machine.touched() == touched


def test_a_used_meter_shows_a_little_more_than_the_one_before_it(stage):
    one = stage()
    shown = [building.exchange(one, 0, seeded(n)) for n in range(60)]
    more = [float(what["opening"]) - float(what["closing"]) for what in shown]
    assert any(more_ < 0 for more_ in more)
    assert any(0 <= more_ < 1 for more_ in more)


def test_what_was_refused_for_now_is_delivered_again(stage):
    one = stage(controls=0)
    objects = []
    platform.send_object(one, 0, "consent+jwt", {"jti": "j-1"}, b"raw", means=[])
    delivered(one, objects=objects)
    outcome = {"id": "o-1", "typ": "consent+jwt", "jti": "j-1", "state": "REJECTED"}
    for seq, code in enumerate(("E_REGISTRY", "E_STORAGE"), 1):
        directory = {"outcomes": [outcome | {"code": code}]}
        delivered(one, sealed(one, seq, directory=directory), seconds=2 * HOUR, objects=objects)
        assert len(objects) == seq


def test_a_step_by_a_person_does_not_look_like_the_work_of_a_time_service(tmp_path):
    """Else the agent would take the clock for kept: its evidence is when the file was touched."""
    one = world.World({"seed": 1, "begin": BEGIN, "days": 1, "events": []}, tmp_path)
    one.at = BEGIN + HOUR
    one._do_corrected(0)
    one.at += 2 * HOUR
    touched = one.touched()
    assert touched
    one._event_clock_service({"on": False}, seeded("off"))
    for by in (600.0, -300.0):
        one._event_clock_step({"by": by}, seeded("step"))
        one.at += HOUR
        assert one.touched() == touched
    one._corrected()
    assert one.touched() > touched


def test_what_waits_for_a_disk_goes_on_as_soon_as_it_answers_again():
    """A fault may end before the time that it was to last."""
    until = [100.0]
    loop = SimLoop(seeded("test"), 0.0, lambda: until[0])

    async def scenario():
        call = loop.run_in_executor(None, loop.time)
        await asyncio.sleep(30.0)
        assert not call.done()
        until[0] = None
        loop.answer()
        assert await call < 31.0
        await asyncio.sleep(100.0)

    with closing(loop):
        loop.run_until_complete(scenario())
        assert not loop.held
