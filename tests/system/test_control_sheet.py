"""The sheet that the operator of a simulated boiler signs: before, after, and once it has changed.

The judge of what stands in the boiler is its controller, asked over a line of its own.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from agent.core.errors import Refused
from hil.bacnet.process import BoilerRoom
from tests.system.test_control import Building, held, holds
from tests.waiting import until

SHEET = """\
    sheet:
      operator: Chaleur & Fils
      object: chaudière gaz n° 1, circuit de chauffage
      phones: [{name: Astreinte, number: "+33 4 76 00 00 00"}]
      excluded: [hot-water, legionella]
      lowest_supply: {point: boiler/supply, min: 40}
    restore: relinquish
"""
LAST_DAY = f"{datetime.now(UTC) + timedelta(days=150):%Y-%m-%d}"
SIGNED = ("--by", "Marc Durand", "--on", "2026-10-01", "--as", "a test")


@asynccontextmanager
async def signed_boiler(folder, faster=1.0):
    """A tested control with a sheet that nobody has signed yet."""
    async with BoilerRoom(faster) as room:
        here = Building(folder, room)
        here.configure("5")
        here.configure_otherwise("    restore: relinquish\n", SHEET)
        await here.gardien("key", "new")
        await here.start()
        try:
            here.trusted()
            here.asked("control.test", name="boiler-offset", named="a test")
            yield here
            await here.end()
        finally:
            if here.agent is not None:
                here.agent.kill()
                await here.agent.wait()


async def sheet(here):
    printed = await here.gardien("control", "sheet", "boiler-offset", "--language", "fr")
    assert max(map(len, printed.splitlines())) <= 80
    return " ".join(printed.split())


def state(here):
    return here.asked("control.list")["controls"]["boiler-offset"]


def orders(here):
    report = here.asked("control.report", month=f"{datetime.now(UTC):%Y-%m}")
    return report["controls"]["boiler-offset"]["orders"]


async def reload(here, before, after):
    here.configure_otherwise(before, after)
    here.asked("reload", named="a test")


def test_a_boiler_follows_what_its_operator_signed_and_nothing_else(tmp_path):
    """Rules H34, H35, H36, H38: unsigned, signed, too cold, changed, paused while nobody runs."""

    async def attack():
        # At this speed a boiler that the warmest hour asks for 27 °C needs seven seconds from 40 to
        # 30 °C: the guard, which looks every second, may be late by some of them on a busy machine.
        async with signed_boiler(tmp_path, faster=120.0) as here:
            assert here.accept(here.order())["code"] == "E_UNSIGNED"
            wrong = {"name": "boiler-offset", "by": "Marc Durand", "on": "2026-10-01"}
            with pytest.raises(Refused, match="has changed since it was printed"):
                here.asked("control.accept", version="0123456789", named="a test", **wrong)
            assert here.accept(here.order())["code"] == "E_UNSIGNED"
            version = state(here)["sheet"]["version"]
            await here.gardien("control", "accept", "boiler-offset", "--version", version, *SIGNED)
            printed = await sheet(here)
            assert "acceptée par Marc Durand pour Chaleur & Fils le 1er octobre 2026" in printed
            assert "objet analog-value,7 de l'automate 1201" in printed

            # the boiler cools down by the order itself
            assert here.accept(here.order("-20", 7200))["state"] == "SCHEDULED"
            await until(lambda: orders(here)[-1]["released"])
            assert not await holds(here)

            await until(lambda: supply(here) > 42)
            assert here.accept(here.order("-1.5"))["state"] == "SCHEDULED"
            await until(lambda: held(here, Decimal("-1.5")))
            await reload(here, "76 00 00 00", "76 99 99 99")
            await until(lambda: held(here, None))
            assert here.accept(here.order())["code"] == "E_UNSIGNED"
            printed = await sheet(here)
            assert "PLUS ACCEPTÉE : Marc Durand a accepté la version" in printed
            assert "acceptée par" not in printed

            # what was signed is in force again, and so is the signature
            await reload(here, "76 99 99 99", "76 00 00 00")
            assert here.accept(here.order("-1.5"))["state"] == "SCHEDULED"
            await until(lambda: holds(here))
            told = orders(here)

            # nobody runs, and the line is down: the pause is recorded, and says what is left
            await here.kill()
            here.room.freeze()
            pause = ("control", "opt-out", "boiler-offset", "--until", LAST_DAY, "--as", "a test")
            said = await here.gardien(*pause, status=1)
            assert "is not released yet" in " ".join(said.split())
            here.room.thaw()
            assert await holds(here)
            await here.start()
            await until(lambda: held(here, None))
            assert here.accept(here.order())["code"] == "E_OVERRIDDEN"
            here.asked("control.opt_out", name="boiler-offset", hours=1.0, named="a test")
            assert state(here)["opted_out_until"] > LAST_DAY
            here.asked("control.opt_in", name="boiler-offset", named="a test")
            assert here.accept(here.order())["state"] == "SCHEDULED"
            return told

    told = asyncio.run(attack())
    assert [order["code"] for order in told] == [
        "E_UNSIGNED",
        "E_UNSIGNED",
        "",
        "",
        "E_UNSIGNED",
        "",
    ]
    assert {order["why"] for order in told} == {"la pointe de 18 h"}
    # how far it has fallen when the guard looks depends on the machine
    assert number_after("guard:supply: supply is ", told[2]["outcome"]) < 40
    assert number_after("lowest supply ", told[2]["seen"]) < 40
    assert "lowest supply" in told[3]["seen"]  # also of a hold that ends before its next check


def number_after(words, text):
    return float(re.search(rf"{re.escape(words)}(\d+(\.\d+)?)", str(text))[1])


def supply(here):
    return float(state(here)["guards"]["supply"].split()[0])
