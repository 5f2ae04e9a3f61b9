"""Change of value: followed where offered, believed only while confirmed, never lost for long.
Rule F12.
"""

import asyncio
import time
from decimal import Decimal

import pytest
from bacpypes3.apdu import ConfirmedCOVNotificationRequest, RejectPDU
from bacpypes3.basetypes import PropertyValue, StatusFlags
from bacpypes3.constructeddata import Any
from bacpypes3.primitivedata import Real

from agent.core.model import Why
from agent.drivers.bacnet import devices
from hil.bacnet.controller import Faults, analog_input
from tests.contract.drivers.bacnet.net import net, point, values
from tests.waiting import until

TEMPERATURE = point("analog-input,1", every=1, channel="temp", unit="Cel")


def sensor():
    return [analog_input(1, "t1", 20, "degrees-celsius"), analog_input(2, "e", 7, "kilowatt-hours")]


async def until_told(line, value):
    """What was told before may still be under way, and says what was."""
    end = time.monotonic() + 20
    while values(await line.read([TEMPERATURE])) != [value]:
        assert time.monotonic() < end, "it was not told"
        await asyncio.sleep(0.02)


async def followed(on, lifetime=60, pause=devices.PAUSE, believed=devices.BELIEVED, **more):
    one = await on.add(1201, sensor(), **more)
    line = await on.driver(cov=lifetime)
    line.following.pause, line.following.believed = pause, believed
    await line.read([TEMPERATURE])
    return one, line


def test_what_changes_is_told_and_not_asked_for():
    async def attack():
        async with net() as on:
            one, line = await followed(on)
            await until(lambda: line.health()["followed"] == 1)
            one.there("analog-input", 1).presentValue = 21.5
            await until(lambda: line.health()["notifications"] >= 2)
            before = one.requests
            assert values(await line.read([TEMPERATURE])) == [Decimal("21.5")]
            assert one.requests == before
            (detection,) = one._cov_detections.values()
            detection.statusFlags = StatusFlags([0, 0, 0, 1])  # bacpypes3 itself forgets to
            detection.send_cov_notifications()
            await until(lambda: line.health()["notifications"] >= 3)
            assert values(await line.read([TEMPERATURE])) == ["out of service; it shows 21.5"]

    asyncio.run(attack())


def test_an_index_and_what_is_read_seldom_are_read_not_followed():
    async def attack():
        async with net() as on:
            one = await on.add(1201, sensor())
            line = await on.driver(cov=60)
            index = point("analog-input,2", every=1, channel="elec.imp", unit="kWh")
            await line.read([index, point("analog-input,1", every=900, channel="temp")])
            await asyncio.sleep(0.2)
            assert one.subscriptions == 0

    asyncio.run(attack())


def test_it_resumes_within_one_lifetime_after_the_device_started_again():
    lifetime = 4

    async def attack():
        async with net() as on:
            one, line = await followed(on, lifetime)
            await until(lambda: one.subscriptions == 1)
            one.faults.silent = True
            one.reboot()
            await asyncio.sleep(0.7)
            one.faults.silent = False
            began = time.monotonic()
            await until(lambda: one.subscriptions == 1, lifetime)
            took = time.monotonic() - began
            one.there("analog-input", 1).presentValue = 25
            heard = line.health()["notifications"]
            await until(lambda: line.health()["notifications"] > heard)
            await until_told(line, Decimal(25))
            return took

    assert asyncio.run(attack()) < lifetime


def test_a_reboot_that_nobody_noticed_is_mended_by_the_renewal():
    async def attack():
        async with net() as on:
            one, _ = await followed(on, 4)
            await until(lambda: one.subscriptions == 1)
            one.reboot()
            assert one.subscriptions == 0
            await until(lambda: one.subscriptions == 1)

    asyncio.run(attack())


def test_a_device_that_says_it_has_started_is_subscribed_to_at_once():
    async def attack():
        async with net() as on:
            one, line = await followed(on, pause=0.1)
            await until(lambda: one.subscriptions == 1)
            one.reboot()
            one.i_am(address=line.wire.address)
            await until(lambda: one.subscriptions == 1)

    asyncio.run(attack())


def test_what_nobody_repeats_is_read_again_and_a_dead_device_is_not_believed():
    async def attack():
        async with net() as on:
            one, line = await followed(on, believed=2.0)
            await until(lambda: line.health()["followed"] == 1)
            one.faults.silent = True
            assert values(await line.read([TEMPERATURE])) == [Decimal(20)]
            await asyncio.sleep(2.1)
            (dead,) = await line.read([TEMPERATURE])
            assert dead.why is Why.SILENT
            one.faults.silent = False
            assert values(await line.read([TEMPERATURE])) == [Decimal(20)]
            await until(lambda: line.health()["followed"] == 1)

    asyncio.run(attack())


def test_a_device_that_refuses_is_read_and_status_says_so():
    async def attack():
        async with net() as on:
            one, line = await followed(on, faults=Faults(no_cov=True))
            await until(lambda: line.health()["refused"] == 1)
            before = one.requests
            assert values(await line.read([TEMPERATURE])) == [Decimal(20)]
            assert one.requests == before + 1
            assert "1 subscriptions refused" in line.health()["words"]

    asyncio.run(attack())


@pytest.mark.parametrize("stranger", ["another process", "another address", "another object"])
def test_notifications_that_nobody_asked_for_are_rejected(stranger):
    async def attack():
        async with net() as on:
            one, line = await followed(on)
            await until(lambda: line.health()["followed"] == 1)
            two = await on.add(1202, sensor())
            lie = ConfirmedCOVNotificationRequest(
                subscriberProcessIdentifier=5 if stranger == "another process" else devices.PROCESS,
                initiatingDeviceIdentifier=("device", 1201),
                monitoredObjectIdentifier=(
                    "analog-input",
                    2 if stranger == "another object" else 1,
                ),
                timeRemaining=60,
                listOfValues=[
                    PropertyValue(propertyIdentifier="presentValue", value=Any(Real(99)))
                ],
                destination=line.wire.address,
            )
            with pytest.raises(RejectPDU):
                await (two if stranger == "another address" else one).request(lie)
            assert line.health()["strays"] == 1
            assert values(await line.read([TEMPERATURE])) == [Decimal(20)]

    asyncio.run(attack())
