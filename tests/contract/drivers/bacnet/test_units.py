"""The units and the scale of real BACnet objects (bacpypes3): applied exactly, and compared.
Rule F11.
"""

import asyncio
import time
from contextlib import nullcontext
from decimal import Decimal

import pytest
from bacpypes3.basetypes import EngineeringUnits, Scale
from bacpypes3.primitivedata import Unsigned

from agent.control.model import WriteTarget
from agent.control.point_access import PointAccess, look_whole
from agent.core.errors import Refused, WriteRefused
from agent.core.model import Why
from agent.drivers.base import Found, Wish
from hil.bacnet.controller import (
    Faults,
    accumulator,
    analog_command,
    analog_input,
    withhold,
)
from tests.contract.drivers.bacnet.liar import frame, liar
from tests.contract.drivers.bacnet.net import net, point, values

INDEX = point("accumulator,3", channel="elec.imp", unit="kWh")
HEAT = point("analog-input,1", channel="heat", unit="kWh")
HALL = point("analog-input,2", channel="temp", unit="Cel")
COLD = point("analog-input,3", channel="cool", unit="kWh")
UNREAD = (
    "the object's scale could not be read (read access denied): the count has no meaning without it"
)
SETPOINT = point("analog-value,7", unit="Cel")


def plant():
    return [
        accumulator(3, "Elec", 123_456, "kilowatt-hours", integer_scale=-1),
        accumulator(4, "Gaz", 4_294_967_295, "cubic-meters", float_scale=0.01),
        accumulator(5, "Pompe", 12, "watt-hours", integer_scale=3),
        analog_input(1, "Chaleur", 12.5, "megawatt-hours"),
        analog_input(2, "Hall", 68, "degrees-fahrenheit"),
        analog_input(3, "Froid", 77, "no-units"),
        analog_command(7, "Consigne", 68, "degrees-fahrenheit"),
        analog_command(8, "Decalage", 0, "delta-degrees-kelvin"),
    ]


@pytest.mark.parametrize("multiple", [True, False], ids=["modern", "one by one"])
def test_a_count_is_multiplied_by_its_scale_exactly(multiple):
    async def attack():
        async with net() as on:
            await on.add(1201, plant(), faults=Faults(no_multiple=not multiple))
            line = await on.driver()
            return await line.read(
                [
                    INDEX,
                    point("accumulator,4", channel="gas", unit="m3"),
                    point("accumulator,5", channel="heat", unit="Wh"),
                    point("accumulator,4/max-pres-value", unit="m3"),
                    point("accumulator,3/scale"),
                    point("accumulator,3", channel="elec.imp", unit="kWh", scale=Decimal("0.1")),
                ]
            )

    samples = asyncio.run(attack())
    assert [str(value) for value in values(samples)] == [
        "12345.6", "42949672.95", "12000", "42949672.95", "0.1",
        "123456",  # × the point's own scale, 0.1, as it was right before
    ]  # fmt: skip
    assert "leave `scale` out" in samples[-1].detail


def test_another_unit_than_the_configured_one_is_bad_and_says_what_to_write():
    async def attack():
        async with net() as on:
            await on.add(1201, plant())
            line = await on.driver()
            right = [
                point("analog-input,1", channel="heat", unit="MWh"),
                point("analog-input,1", channel="heat", unit="kWh", scale=Decimal(1000)),
                point("analog-input,2"),
            ]
            return await line.read([HEAT, HALL, COLD, *right])

    samples = asyncio.run(attack())
    assert [sample.why for sample in samples] == [Why.BAD, Why.BAD, None, None, None, None]
    heat, hall = values(samples)[:2]
    assert heat == "the object is in MWh, and `unit` says kWh: write `unit: MWh`; it shows 12.5"
    assert hall == (
        "the object is in degrees-fahrenheit, and `unit` says Cel; gardien does not convert that:"
        " set the object to °C in the controller; it shows 68"
    )
    assert values(samples)[2:] == [77, Decimal("12.5"), Decimal("12.5"), 68]
    assert [sample.detail for sample in samples[2:]] == [
        "the object says no-units; kWh is taken from the configuration", "", "",
        "the object is in degrees-fahrenheit, and no unit is configured",
    ]  # fmt: skip


def test_both_are_read_with_the_first_values_and_daily_and_not_between():
    async def attack():
        async with net() as on:
            one = await on.add(1201, plant())
            meter, hall = one.there("accumulator", 3), one.there("analog-input", 2)
            line = await on.driver()
            await line.read([HALL])  # it is found
            before = one.requests
            await line.read([INDEX, HALL])
            assert (one.requests - before, meter.reads, hall.reads) == (1, 2, 1)
            meter.scale, hall.units = Scale(integerScale=0), EngineeringUnits("degrees-celsius")
            assert values(await line.read([INDEX])) == [Decimal("12345.6")]
            assert (meter.reads, hall.reads) == (2, 1)
            line.own.refresh = 0.0  # the day is over after each read
            line.own.ask_again(1201)
            await line.read([INDEX, HALL])
            meter.presentValue = Unsigned(123_457)
            assert values(await line.read([INDEX, HALL])) == [Decimal(123_457), Decimal(68)]
            assert (meter.reads, hall.reads) == (6, 3)

    asyncio.run(attack())


def test_a_scale_that_cannot_be_read_is_no_reason_to_leave_it_out():
    async def attack():
        async with net() as on:
            one = await on.add(1201, plant())
            meter = one.there("accumulator", 3)
            line = await on.driver()
            withhold(meter, scale="read-access-denied")
            assert values(await line.read([INDEX])) == [f"{UNREAD}; it shows 123456"]
            withhold(meter)
            assert values(await line.read([INDEX])) == [Decimal("12345.6")]
            withhold(meter, scale="read-access-denied", units="read-access-denied")
            line.own.ask_again(1201)
            assert values(await line.read([INDEX])) == [Decimal("12345.6")]

    asyncio.run(attack())


def test_an_object_without_units_or_scale_is_read_as_it_is():
    async def attack():
        async with net() as on:
            one = await on.add(1201, plant())
            for thing in (one.there("accumulator", 3), one.there("analog-input", 1)):
                withhold(thing, units="unknown-property", scale="unknown-property")
            line = await on.driver()
            return await line.read([INDEX, HEAT])

    index, heat = asyncio.run(attack())
    assert (index.value, heat.value, heat.detail) == (123_456, Decimal("12.5"), "")
    assert "no scale" in index.detail


@pytest.mark.parametrize("asked", [75, 0xBB], ids=["units", "scale"])
def test_a_device_that_falls_silent_before_it_has_said_them_gives_no_value(asked):
    """It answers each property by itself: the value, its flags, and then no more."""
    contents = {85: "213c", 111: "820400", 62: "2205c4", 187: "19ff", 117: "9113"}
    names = {75: 117, 0xBB: 187}

    def answer(invoke, service, parameters):
        if service == 14:
            return [frame(bytes([0x60, invoke, 9]))]
        number = parameters[6]
        if number == names[asked]:
            return []
        content = bytes.fromhex(f"3e{contents[number]}3f")
        return [frame(bytes([0x30, invoke, 12]) + parameters + content)]

    async def attack():
        async with net() as on, liar(answer) as there:
            line = await on.driver(timeout=0.3)
            wanted = point("accumulator,3", f"1201@{there}", channel="elec.imp", unit="kWh")
            return await line.read([wanted])

    (sample,) = asyncio.run(attack())
    assert (sample.why, sample.value) == (Why.SILENT, None)


def test_a_controller_that_was_silent_is_asked_for_its_units_again():
    async def attack():
        async with net() as on:
            one = await on.add(1201, plant())
            line = await on.driver()
            await line.read([HALL])
            one.faults.silent = True
            assert (await line.read([HALL]))[0].why is Why.SILENT
            one.faults.silent = False
            one.there("analog-input", 2).units = EngineeringUnits("degrees-celsius")
            return await line.read([HALL])

    assert values(asyncio.run(attack())) == [Decimal(68)]


def test_what_comes_by_change_is_scaled_and_compared_too():
    count = point("accumulator,3", every=1, unit="kWh")
    hall = point("analog-input,2", every=1, channel="temp", unit="Cel")

    async def attack():
        async with net() as on:
            one = await on.add(1201, plant())
            line = await on.driver(cov=60)
            await line.read([count, hall])
            end = time.monotonic() + 20
            while line.health()["followed"] < 2:
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
            one.there("accumulator", 3).presentValue = Unsigned(200_000)
            before = one.requests
            while (samples := await line.read([count, hall]))[0].value != 20_000:
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
            assert one.requests - before <= 1  # the notification is acknowledged, nothing is read
            assert samples[1].why is Why.BAD
            line.own.ask_again(1201)
            await line.read([count, hall])
            assert one.requests - before == 2  # the day is over: all is read once

    asyncio.run(attack())


def test_an_order_in_another_unit_is_refused_and_giving_back_is_not():
    place = WriteTarget(
        "bms", "bacnet", "{}", "boiler", "setpoint", "1201", "analog-value,7", "Cel",
        serial="device,1201/model-name",
    )  # fmt: skip

    async def attack():
        async with net() as on:
            one = await on.add(1201, plant())
            one.command("analog-value", 7, 13, 70.0)  # held from before the units were compared
            line = await on.driver()
            with pytest.raises(Refused, match="is in degrees-fahrenheit, and `unit` says Cel"):
                await line.write(SETPOINT, Decimal(20), 13)
            access = PointAccess(lambda: nullcontext(line), place, 13)
            with pytest.raises(WriteRefused, match="degrees-fahrenheit"):
                await look_whole(access)
            standing = await access.look(whole=True)
            assert (standing.ours, standing.identity) == (70, "pretend")
            await access.write(None)
            assert (await access.look()).ours is None
            await line.write(point("analog-value,8", unit="K"), Decimal(-2), 13)
            one.faults = Faults(silent=True)
            silent = point("analog-value,9", unit="K")
            with pytest.raises(WriteRefused) as refused:
                await line.write(silent, Decimal(-2), 13)
            assert "the value may be in force" not in str(refused.value)  # nothing was written
            assert one.there("analog-value", 8).presentValue == -2

    asyncio.run(attack())


def test_a_scan_proposes_the_units_of_the_objects_and_names_what_has_none():
    async def attack():
        async with net() as on:
            one = await on.add(1201, plant())
            withhold(one.there("accumulator", 4), scale="read-access-denied")
            line = await on.driver()
            (found,) = [s async for s in line.discover(Wish()) if isinstance(s, Found)]
            proposed = [
                point(entry["at"], channel=entry.get("channel"), unit=entry["unit"])
                for entry in found.entry["points"].values()
            ]
            return found, await line.read(proposed)

    found, samples = asyncio.run(attack())
    shown = zip(found.entry["points"].items(), values(samples), strict=True)
    assert {name: (value, entry["unit"]) for (name, entry), value in shown} == {
        "elec": (Decimal("12345.6"), "kWh"),
        "gaz": (f"{UNREAD}; it shows 4294967295", "m3"),
        "chaleur": (Decimal("12.5"), "MWh"),
        "consigne": (68, "1"),
        "decalage": (0, "K"),
    }
    words = "\n".join(found.warnings)
    assert "gaz: its scale could not be read (read access denied)" in words
    assert "no units in the controller, so not proposed: Froid (analog-input,3)" in words
    assert "consigne is in degrees-fahrenheit, which gardien does not convert" in words
