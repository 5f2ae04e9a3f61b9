"""Reading from controllers that are real BACnet devices (bacpypes3) and behave as such do."""

import asyncio
import time
from decimal import Decimal

import pytest

from agent.core.errors import LinkLost
from agent.core.model import Why
from agent.drivers import driver
from agent.drivers.bacnet.bus import Bacnet
from agent.drivers.base import Discovers, ObservableBus, Writes
from hil.bacnet.controller import (
    Faults,
    analog_input,
    binary_input,
    controller,
    free_udp_port,
    mode,
)
from tests.contract.drivers.bacnet.net import net, point, values


def sensors(count, unit="degrees-celsius"):
    return [analog_input(n, f"t{n}", 20 + n / 10, unit) for n in range(1, count + 1)]


def every_sensor(count):
    return [point(f"analog-input,{n}") for n in range(1, count + 1)]


def told(count):
    return [Decimal(f"{20 + n / 10:g}") for n in range(1, count + 1)]


def test_it_reads_searches_commands_and_says_how_it_is():
    found = driver("bacnet")
    assert found is Bacnet
    for capability in (Discovers, ObservableBus, Writes):
        assert issubclass(found, capability)


def test_forty_values_of_different_kinds_come_in_one_request():
    """Rule F3."""

    async def attack():
        async with net() as on:
            objects = [*sensors(38), binary_input(1, "pump", active=True), mode(1, "mode", "ab")]
            one = await on.add(1201, objects)
            line = await on.driver()
            wanted = [*every_sensor(38), point("binary-input,1"), point("multi-state-value,1")]
            assert values(await line.read(wanted)) == [*told(38), Decimal(1), Decimal(1)]
            before = one.requests
            await line.read(wanted)
            assert one.requests - before == 1

    asyncio.run(attack())


def test_other_properties_and_elements_of_arrays_are_read_by_name_and_number():
    async def attack():
        async with net() as on:
            await on.add(1201, [mode(1, "mode", ["off", "eco", "Tag & Nacht é"])])
            line = await on.driver()
            asked = [
                point("multi-state-value,1/state-text[3]"),
                point("19,1/110[0]"),
                point("device,1201/vendor-name"),
                point("multi-state-value,1/state-text"),
                point("device,1201/object-identifier"),
            ]
            assert values(await line.read(asked)) == [
                "Tag & Nacht é",
                Decimal(3),
                "hil",
                "3 values where one was expected",
                "device,1201",
            ]

    asyncio.run(attack())


@pytest.mark.parametrize("kind", ["no multiple reads", "short answers, no segments"])
def test_old_controllers_are_read_in_the_way_they_know(kind):
    old = kind == "no multiple reads"

    async def attack():
        async with net() as on:
            more = {"faults": Faults(no_multiple=True)} if old else {"max_apdu": 128}
            one = await on.add(1201, sensors(40), segments=False, **more)
            line = await on.driver()
            assert values(await line.read(every_sensor(40))) == told(40)
            before = one.requests
            await line.read(every_sensor(40))
            assert one.requests - before == (80 if old else 10)

    asyncio.run(attack())


def test_a_long_text_halves_the_request_and_the_rest_is_read_all_the_same():
    async def attack():
        async with net() as on:
            wordy = [analog_input(n, f"t{n}", n, "percent", "word " * 40) for n in range(1, 21)]
            one = await on.add(1201, wordy, max_apdu=480, segments=False)
            line = await on.driver()
            asked = [point(f"analog-input,{n}/description") for n in range(1, 21)]
            assert {str(v)[:9] for v in values(await line.read(asked))} == {"word word"}
            before = one.requests
            await line.read(asked)
            assert one.requests - before == 10  # it has learnt what fits

    asyncio.run(attack())


def test_one_bad_point_is_marked_and_nothing_else_suffers():
    async def attack():
        async with net() as on:
            one = await on.add(1201, sensors(6))
            one.there("analog-input", 2).reliability = "no-sensor"
            one.there("analog-input", 3).outOfService = True
            one.there("analog-input", 4).eventState = "high-limit"
            one.there("analog-input", 5).presentValue = float("nan")
            line = await on.driver()
            asked = [*every_sensor(6), point("analog-input,99"), point("analog-input,1/4711")]
            assert values(await line.read(asked)) == [
                Decimal("20.1"),
                "fault; it shows 20.2",
                "out of service; it shows 20.3",
                Decimal("20.4"),
                "not a number (nan)",
                Decimal("20.6"),
                "unknown object",
                "unknown property",
            ]

    asyncio.run(attack())


def test_a_device_is_found_by_its_number_by_its_address_and_never_mistaken():
    async def attack():
        async with net() as on:
            await on.add(1201, sensors(1))
            await on.add(1202, sensors(2))
            line = await on.driver()
            assert values(await line.read([point("analog-input,2", 1202)])) == [Decimal("20.2")]
            static = await on.stack.enter_async_context(
                Bacnet.open(on.settings(ask=(), port=free_udp_port()))
            )
            there = f"1201@{on.addresses[0]}"
            assert values(await static.read([point("analog-input,1", there)])) == [Decimal("20.1")]
            other = await static.read([point("analog-input,1", f"1209@{on.addresses[0]}")])
            assert other[0].why is Why.SILENT
            assert "the device at" in other[0].detail

    asyncio.run(attack())


def test_a_silent_device_costs_one_timeout_and_is_looked_for_anew():
    async def attack():
        async with net() as on:
            one = await on.add(1201, sensors(3))
            line = await on.driver(timeout=1)
            await line.read(every_sensor(3))
            one.faults.silent = True
            began = time.monotonic()
            assert {s.why for s in await line.read(every_sensor(3))} == {Why.SILENT}
            assert time.monotonic() - began < 2
            began = time.monotonic()
            (lost,) = await line.read(every_sensor(1))
            assert lost.detail == "device 1201 does not answer Who-Is"
            assert time.monotonic() - began < 2
            one.faults.silent = False
            assert values(await line.read(every_sensor(3))) == told(3)

    asyncio.run(attack())


def test_lost_packets_are_sent_again_within_the_timeout():
    async def attack():
        async with net() as on:
            one = await on.add(1201, sensors(3), faults=Faults(lost=0.2, seed=3))
            line = await on.driver()
            good = 0
            for _ in range(30):
                good += all(s.why is None for s in await line.read(every_sensor(3)))
            assert good >= 28
            assert one.requests > 33

    asyncio.run(attack())


def test_slow_and_dead_devices_do_not_delay_the_others():
    async def attack():
        async with net() as on:
            for n in range(10):
                await on.add(1201 + n, sensors(5))
            on.addresses.append(on.address(99))
            line = await on.driver()
            slow = await on.add(1299, sensors(5), faults=Faults(slow=0.15))
            line = await on.stack.enter_async_context(
                Bacnet.open(on.settings(port=free_udp_port(), timeout=2))
            )
            wanted = [[point("analog-input,1", 1201 + n)] for n in range(10)]
            dead, late = [point("analog-input,1", 1666)], [point("analog-input,1", 1299)]
            others = asyncio.gather(line.read(dead), line.read(late))
            await asyncio.sleep(0)
            got = await asyncio.gather(*(line.read(one) for one in wanted))
            assert not others.done(), "nobody waited for the dead one"
            assert {str(one[0].value) for one in got} == {"20.1"}
            (gone,), (came,) = await others
            assert gone.why is Why.SILENT
            assert came.value == Decimal("20.1")
            assert slow.requests

    asyncio.run(attack())


def test_a_port_that_another_program_has_is_said_and_not_shared():
    async def attack():
        async with net() as on:
            await on.driver()
            with pytest.raises(LinkLost, match="another program has it"):
                await on.driver()
            async with controller(f"127.0.0.1/32:{free_udp_port()}", 1) as other:
                taken = other.link_layers[next(iter(other.link_layers))].server.local_address[1]
                with pytest.raises(LinkLost, match="another program has it"):
                    await on.driver(port=taken)

    asyncio.run(attack())


@pytest.mark.parametrize(
    ("address", "words"), [("10.255.255.1/24", "not an address"), ("nosuch0", "nosuch0")]
)
def test_an_address_or_interface_that_is_not_there_is_said_at_once(address, words):
    async def attack():
        async with net() as on:
            with pytest.raises(LinkLost, match=words):
                await on.driver(address=address)

    asyncio.run(attack())


def test_an_interface_may_be_named_instead_of_an_address():
    async def attack():
        async with net() as on:
            await on.add(1201, sensors(1))
            line = await on.driver(address="lo")
            assert values(await line.read(every_sensor(1))) == told(1)

    asyncio.run(attack())


def test_five_thousand_objects_are_only_read_where_they_are_asked_for():
    async def attack():
        async with net() as on:
            await on.add(1201, sensors(5000))
            line = await on.driver(timeout=3)
            few = [point(f"analog-input,{n}") for n in (1, 2500, 5000)]
            assert values(await line.read(few)) == [Decimal(v) for v in ("20.1", "270", "520")]

    asyncio.run(attack())


def test_cancelled_in_mid_request_it_reads_on():
    async def attack():
        async with net() as on:
            await on.add(1201, sensors(3), faults=Faults(slow=0.002))
            line = await on.driver()
            for n in range(60):
                reading = asyncio.create_task(line.read(every_sensor(3)))
                await asyncio.sleep(0.0002 * n)
                reading.cancel()
                try:
                    await reading
                except asyncio.CancelledError:
                    continue
            assert values(await line.read(every_sensor(3))) == told(3)

    asyncio.run(attack())


def test_a_port_that_is_let_go_while_it_is_opened_leaves_no_complaint():
    async def attack():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
        async with net() as on:
            opening = asyncio.create_task(on.driver())
            await asyncio.sleep(0)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            await on.driver()  # nobody has the port any more
        assert not complaints

    asyncio.run(attack())
