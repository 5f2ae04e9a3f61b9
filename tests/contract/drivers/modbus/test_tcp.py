"""The driver on the pretend building: real sockets, an independent server and client."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import struct
import time
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from agent.core.errors import LinkLost
from agent.core.model import Point, Why
from agent.core.tasks import keep_open, together
from agent.drivers import driver, link
from agent.drivers.modbus.bus import ModbusTcp, ModbusTcpSettings
from agent.drivers.modbus.codec import parse, plan
from agent.drivers.profile import profile, profiles
from hil.building import Building
from hil.modbus_server import READ_HOLDING, Reply, serving
from hil.process import free_port
from hil.serial_line import Registers
from tests.contract.drivers.modbus.peer import point, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.drivers.base import Reads

SDM120 = profile("eastron-sdm120")


@asynccontextmanager
async def opened(**wanted: int) -> AsyncIterator[tuple[Building, ModbusTcp]]:
    async with (
        Building.open(**{"lines": 1, "meters": 3, **wanted}) as building,
        ModbusTcp.open(settings(building.ports[0])) as opened_driver,
    ):
        yield building, opened_driver


def every_point(unit: int = 1) -> list[Point]:
    offers = {**SDM120.points, "serial": SDM120.serial}
    return [Point("m", name, str(unit), o.at, 60) for name, o in offers.items() if o]


def test_a_whole_sdm120_is_read_in_three_requests() -> None:
    async def attack() -> None:
        async with opened() as (building, line):
            samples = {s.point.name: s for s in await line.read(every_point(2))}
            assert building.requests == 3
            assert all(sample.why is None for sample in samples.values())
            assert samples["serial"].value == Decimal(building.serial(0, 2))
            assert Decimal(220) < samples["voltage"].value < Decimal(240)  # type: ignore[operator]
            # the building lives on between two requests
            apart = samples["energy_total"].value - samples["energy_import"].value  # type: ignore[operator]
            assert 0 <= apart < Decimal("0.01")
            assert samples["energy_export"].value == Decimal(0)

    asyncio.run(attack())


def test_samples_come_in_the_order_of_the_points() -> None:
    async def attack() -> None:
        async with opened() as (_, line):
            points = every_point()[::-1]
            assert [s.point for s in await line.read(points)] == points

    asyncio.run(attack())


def test_the_buildings_log_holds_the_four_bytes_that_were_read(tmp_path: Path) -> None:
    async def attack() -> Decimal:
        log = tmp_path / "answers.jsonl"
        async with (
            Building.open(lines=2, meters=2, log=log) as building,
            ModbusTcp.open(settings(building.ports[1])) as line,
        ):
            (sample,) = await line.read([point(SDM120.points["energy_import"].at, unit=2)])
            entry = json.loads(log.read_text().splitlines()[-1])
            assert entry["serial"] == building.serial(1, 2)
            assert (entry["line"], entry["unit"]) == (1, 2)
            assert 0 <= sample.at - entry["t"] < 0.05
            assert isinstance(sample.value, Decimal)
            assert struct.pack(">f", float(sample.value)).hex() == entry["raw"]
            return sample.value

    assert 10 <= asyncio.run(attack()) < 200


def test_a_refused_register_marks_one_point_and_is_not_asked_for_with_others_again() -> None:
    async def attack() -> None:
        async with opened() as (building, line):
            building.refuse(0, 1, 24)
            samples = await line.read(every_point())
            bad = {s.point.name: s for s in samples if s.why}
            assert set(bad) == {"reactive_power"}
            assert bad["reactive_power"].why is Why.BAD
            assert bad["reactive_power"].detail == "illegal data address"
            assert [s.point.name for s in samples if s.absent] == ["reactive_power"]
            learning, building.requests = building.requests, 0
            assert [s.why for s in await line.read(every_point())] == [s.why for s in samples]
            assert building.requests < learning
            settled, building.requests = building.requests, 0
            await line.read(every_point())
            assert building.requests == settled <= 7

    asyncio.run(attack())


def test_a_hole_that_may_not_be_read_costs_no_point() -> None:
    async def attack() -> None:
        async with opened() as (building, line):
            building.refuse(0, 1, 50)
            assert all(s.why is None for s in await line.read(every_point()))
            building.requests = 0
            assert all(s.why is None for s in await line.read(every_point()))
            assert building.requests == 4

    asyncio.run(attack())


def test_what_one_unit_refuses_is_still_asked_of_another() -> None:
    async def attack() -> None:
        async with opened() as (building, line):
            building.refuse(0, 1, 24)
            await line.read(every_point(1))
            building.requests = 0
            assert all(s.why is None for s in await line.read(every_point(2)))
            assert building.requests == 3

    asyncio.run(attack())


def test_a_silent_meter_costs_its_neighbours_one_timeout_and_no_more() -> None:
    async def attack() -> None:
        async with (
            Building.open(lines=1, meters=3) as building,
            ModbusTcp.open(settings(building.ports[0], timeout=0.5)) as line,
        ):
            building.silence(0, 2)
            building.requests = 0
            samples = [(await line.read(every_point(unit)))[0] for unit in (1, 2, 3)]
            assert [s.why for s in samples] == [None, Why.SILENT, None]
            assert building.requests == 3 + 1 + 3
            building.speak(0, 2)
            assert all(s.why is None for s in await line.read(every_point(2)))

    asyncio.run(attack())


def test_a_slow_meters_late_answers_are_never_its_neighbours() -> None:
    async def attack() -> None:
        async with (
            Building.open(lines=1, meters=2) as building,
            ModbusTcp.open(settings(building.ports[0], timeout=0.03)) as line,
        ):
            serial = point("holding/64512/uint32", unit=2)
            building.slow(0, 1, 0.031)
            for _ in range(30):
                await line.read([point("holding/64512/uint32", unit=1)])
                (sample,) = await line.read([serial])
                assert sample.value in {Decimal(building.serial(0, 2)), None}

    asyncio.run(attack())


def test_a_unit_that_is_not_there_is_silent() -> None:
    async def attack() -> None:
        async with opened() as (_, line):
            (sample,) = await line.read([point("input/72/float32", unit=9)])
            assert sample.why is Why.SILENT

    asyncio.run(attack())


def test_the_kernel_gives_the_line_up_when_the_host_acknowledges_nothing() -> None:
    async def attack() -> None:
        async with opened() as (_, line):
            transport = line.wire.stream._transport
            assert transport
            ours = transport.get_extra_info("socket")
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000

    asyncio.run(attack())


def test_a_line_that_comes_back_is_opened_again_by_keep_open() -> None:
    """Rule F2."""

    async def attack() -> None:
        done = asyncio.Event()
        opened_times = 0
        port = free_port()  # one that nobody is given while nobody has it

        async def serve(line: ModbusTcp) -> None:
            nonlocal opened_times
            opened_times += 1
            assert (await line.read(every_point()))[0].why is None
            done.set()

        async def come_back() -> None:
            await asyncio.sleep(0.2)
            async with Building.open(lines=1, meters=1, ports=[port]):
                await done.wait()

        async with asyncio.timeout(20):
            await together(
                keep_open("riser", lambda: ModbusTcp.open(settings(port)), serve, LinkLost),
                come_back(),
            )
        assert opened_times == 1

    asyncio.run(attack())


@pytest.mark.parametrize(
    ("address", "at", "words"),
    [
        ("256", "input/0/uint16", "not a unit id"),
        ("twelve", "input/0/uint16", "not a unit id"),
        ("", "input/0/uint16", "not a unit id"),
        ("-1", "input/0/uint16", "not a unit id"),
        ("1", "input/0/uint12", "not a type"),
    ],
)
def test_a_point_it_cannot_read_is_refused_without_a_connection(
    address: str, at: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        ModbusTcp.check(Point("m", "p", address, at, 60))


def test_settings_take_durations_and_refuse_what_they_do_not_know() -> None:
    assert ModbusTcpSettings.model_validate({"host": "h", "timeout": "500ms"}).timeout == 0.5
    assert ModbusTcpSettings(host="h").port == 502
    for wrong in ({}, {"host": ""}, {"host": "h", "port": 0}, {"host": "h", "retries": 3}):
        with pytest.raises(ValueError):
            ModbusTcpSettings.model_validate(wrong)


def test_it_is_a_driver_that_reads() -> None:
    found: type[Reads] = driver("modbus-tcp")
    assert found is ModbusTcp


MODBUS = [name for name in profiles() if profile(name).driver == "modbus"]


@pytest.mark.parametrize("name", MODBUS)
def test_every_profile_reads_its_test_cells_as_it_says(name: str) -> None:
    """A pretend device of nothing but the cells in the profile's own test. Rule F8."""
    made = profile(name)
    tables = (("holding", READ_HOLDING), ("input", READ_HOLDING + 1))
    device = Registers(
        {
            (function, first + n): cell
            for table, function in tables
            for first, run in made.test.get(table, {}).items()
            for n, cell in enumerate(run)
        },
        fills=True,
    )

    async def attack() -> dict[str, object]:
        wanted = {n: o for n, o in {**made.points, "serial": made.serial}.items() if o}
        asked = [Point("m", n, "1", o.at, 60) for n, o in wanted.items()]
        async with (
            serving(lambda _, pdu: Reply(device(pdu))) as port,
            ModbusTcp.open(settings(port)) as line,
        ):
            samples = await line.read(asked)
        assert [s.detail for s in samples if s.why] == []
        return {
            s.point.name: s.value * wanted[s.point.name].scale
            if isinstance(s.value, Decimal)
            else s.value
            for s in samples
        }

    expected = {
        n: value if isinstance(value, str) else Decimal(str(value))
        for n, value in made.test["reads"].items()
    }
    assert asyncio.run(attack()) == expected


@pytest.mark.parametrize(
    ("name", "most"),
    [("eastron-sdm630", 4), ("schneider-iem3155", 6), ("abb-b23-b24", 4), ("finder-7m38", 2)],
)
def test_a_whole_meter_is_read_in_at_least_five_times_fewer_requests_than_values(
    name: str, most: int
) -> None:
    offers = profile(name).points.values()
    blocks = plan(tuple(parse(offer.at.split()[0]) for offer in offers))
    assert len(blocks) <= most
    assert 5 * len(blocks) <= len(offers) or len(blocks) <= 4


@pytest.mark.skipif(not shutil.which("mbpoll"), reason="mbpoll is not installed")
def test_mbpoll_reads_the_same_from_the_building_as_the_driver() -> None:
    async def attack() -> None:
        async with opened() as (building, line):
            values = {s.point.at: s.value for s in await line.read(every_point(2))}
            serial = await mbpoll(building.ports[0], "4:int", 64513)
            assert Decimal(serial) == values["holding/64512/uint32"]
            for at in (30, 74, 78):  # what stands still, in all the figures mbpoll shows
                shown = await mbpoll(building.ports[0], "3:float", at + 1)
                assert float(shown) == pytest.approx(float(values[f"input/{at}/float32"]), rel=1e-5)
            energy = float(await mbpoll(building.ports[0], "3:float", 73))
            # it shows six figures: rounded, it may be less than what was read before
            assert -1e-3 < energy - float(values["input/72/float32"]) < 0.01

    asyncio.run(attack())


async def mbpoll(port: int, kind: str, reference: int) -> str:
    """One value of unit 2, as Debian's Modbus client (libmodbus, C) reads it."""
    command = f"mbpoll -m tcp -a 2 -p {port} -t {kind} -B -r {reference} -c 1 -1 -q 127.0.0.1"
    process = await asyncio.create_subprocess_exec(
        *command.split(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    lines = [line for line in out.decode().splitlines() if line.startswith("[")]
    assert lines, err
    return lines[0].split(":")[1].strip()


@pytest.mark.parametrize("idle", [0.0, 60.0], ids=["idle", "busy"])
def test_a_host_that_hangs_up_costs_no_slot_and_when_it_is_gone_it_is_waited_for_once(
    idle: float,
) -> None:
    answer = Registers({(3, 0): 7})
    wanted = [point("holding/0/uint16")]

    async def attack() -> None:
        async with serving(lambda _, pdu: Reply(answer(pdu))) as port:
            line = link.Link("hall", lambda: ModbusTcp.open(settings(port)))
            line.idle, line.opened_within = idle, 2.0
            serve = asyncio.ensure_future(line.serve())
            await line.tried()
            assert (await line.read(wanted))[0].value == 7
        async with serving(lambda _, pdu: Reply(answer(pdu)), port):
            assert (await line.read(wanted))[0].value == 7
        for waits in (True, False):
            began = time.monotonic()
            with pytest.raises(LinkLost):
                await line.read(wanted)
            assert waits or time.monotonic() - began < 1.0, "the others do not wait for it again"
        serve.cancel()
        await asyncio.wait([serve])

    asyncio.run(attack())
