"""A search finds who is there, and what it prints can be pasted and passes the check."""

import asyncio

import pytest

from agent.core.errors import Refused
from agent.drivers.base import Found, Progress, Wish
from hil.bacnet.controller import Faults, analog_command, analog_input, binary_command, mode
from tests.contract.drivers.bacnet.net import net


def boiler():
    return [
        analog_input(1, "T depart chauffage", 60, "degrees-celsius"),
        analog_input(2, "T retour", 45, "degrees-celsius"),
        analog_input(3, "Compteur chaleur", 1234, "megawatt-hours"),
        analog_input(4, "Hall", 20, "degrees-celsius", "température du hall"),
        analog_input(5, "Escalier", 19, "degrees-celsius"),
        analog_input(6, "Pression", 1.5, "bars"),
        analog_command(7, "Décalage", 0, "delta-degrees-kelvin"),
        binary_command(3, "DR inhibit"),
        mode(1, "Mode", ["off", "eco"]),
    ]


async def found_by(on, wish=None, **more):
    line = await on.driver(**more)
    steps = [step async for step in line.discover(wish or Wish())]
    return [s for s in steps if isinstance(s, Found)], [s for s in steps if isinstance(s, Progress)]


@pytest.mark.parametrize("kind", ["modern", "no segments", "one by one"])
def test_names_units_and_channels_are_said_whatever_the_controller_can_do(kind):
    more = {
        "modern": {},
        "no segments": {"max_apdu": 206, "segments": False},
        "one by one": {"faults": Faults(no_multiple=True)},
    }[kind]

    async def attack():
        async with net() as on:
            await on.add(1201, boiler(), name="Chaufferie", **more)
            return await found_by(on)

    (found,), progress = asyncio.run(attack())
    assert found.name == "chaufferie"
    assert "hil pretend Chaufferie (1201 at 127.0.1.1" in found.about
    assert "1 further value" in found.about  # the pressure
    assert found.entry == {
        "address": "1201",
        "points": {
            "t-depart-chauffage": {
                "at": "analog-input,1", "channel": "temp.supply", "unit": "Cel",
            },
            "t-retour": {"at": "analog-input,2", "channel": "temp.return", "unit": "Cel"},
            "compteur-chaleur": {"at": "analog-input,3", "channel": "heat", "unit": "MWh"},
            "hall": {"at": "analog-input,4", "channel": "temp", "unit": "Cel"},
            "escalier": {"at": "analog-input,5", "unit": "Cel"},
            "decalage": {"at": "analog-value,7", "unit": "K"},
            "dr-inhibit": {"at": "binary-value,3", "unit": "1"},
            "mode": {"at": "multi-state-value,1", "unit": "1"},
        },
    }  # fmt: skip
    assert any("escalier may be temp too" in warning for warning in found.warnings)
    assert progress


def test_a_range_is_searched_and_a_wrong_one_refused():
    async def attack():
        async with net() as on:
            for instance in (10, 20, 30):
                await on.add(instance, boiler())
            line = await on.driver()
            found, _ = [], None
            async for step in line.discover(Wish(first="15", last="25")):
                found += [step] if isinstance(step, Found) else []
            with pytest.raises(Refused, match="not an instance number"):
                async for _ in line.discover(Wish(first="top")):
                    pass
            return [one.entry["address"] for one in found]

    assert asyncio.run(attack()) == ["20"]


def test_devices_of_one_name_are_told_apart_by_their_number():
    async def attack():
        async with net() as on:
            await on.add(7, boiler(), name="AHU")
            await on.add(8, boiler(), name="AHU")
            return await found_by(on)

    found, _ = asyncio.run(attack())
    assert [one.name for one in found] == ["ahu", "ahu-8"]


def test_two_devices_with_one_number_are_warned_of():
    async def attack():
        async with net() as on:
            await on.add(7, boiler())
            await on.add(7, boiler())
            return await found_by(on)

    (found,), _ = asyncio.run(attack())
    assert any("two devices have the number 7" in warning for warning in found.warnings)


def test_a_device_that_falls_silent_is_reported_and_the_others_are_found():
    async def attack():
        async with net() as on:
            mute = await on.add(7, boiler())
            await on.add(8, boiler())
            line = await on.driver()
            found = []
            async for step in line.discover(Wish()):
                if isinstance(step, Progress) and step.words == "device 7":
                    mute.faults.silent = True
                found += [step] if isinstance(step, Found) else []
            return found

    mute, good = asyncio.run(attack())
    assert "no answer" in mute.warnings[0]
    assert good.entry["points"]


def test_a_list_of_five_thousand_is_read_by_index_where_it_must():
    async def attack():
        async with net() as on:
            many = [analog_input(n, f"x{n}", n, "no-units") for n in range(1, 5001)]
            await on.add(1201, many, segments=False)
            line = await on.driver(timeout=3)
            return [step async for step in line.discover(Wish())]

    steps = asyncio.run(attack())
    (found,) = [step for step in steps if isinstance(step, Found)]
    assert "5000 further values" in found.about
    assert len(steps) > 100


def test_more_than_one_answer_can_carry_are_all_found():
    async def attack():
        async with net() as on:
            for instance in range(100, 170):
                await on.add(instance)
            return await found_by(on)

    found, _ = asyncio.run(attack())
    assert [one.entry["address"] for one in found] == [str(n) for n in range(100, 170)]


def test_devices_whose_answers_come_one_after_the_other_are_all_found():
    """On a slow network the answers to one Who-Is take longer than half a timeout."""

    async def attack():
        async with net() as on:
            slow = [
                await on.add(100 + number, faults=Faults(slow=0.08 * number)) for number in range(7)
            ]
            line, found = await on.driver(), []
            async for step in line.discover(Wish()):
                found += [step.entry["address"]] if isinstance(step, Found) else []
                if isinstance(step, Progress) and step.words.startswith("device"):
                    for one in slow:
                        one.faults.slow = 0.0
            return found

    assert asyncio.run(attack()) == [str(100 + number) for number in range(7)]
