"""The sheet that the operator of a simulated boiler signs: before, after, and once it has changed.

The judge of what stands in the boiler is its controller, asked over a line of its own.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

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
            await here.gardien("control", "test", "boiler-offset", "--as", "a test")
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


async def accept(here, version="", status=0):
    version = version or here.asked("control.list")["controls"]["boiler-offset"]["sheet"]["version"]
    words = ("control", "accept", "boiler-offset", "--version", version, *SIGNED)
    return await here.gardien(*words, status=status)


def test_no_order_before_the_operator_has_signed_this_very_sheet(tmp_path):
    """Rules H35, H38."""

    async def attack():
        async with signed_boiler(tmp_path) as here:
            printed = await sheet(here)
            assert "acceptée par" not in printed
            assert "aucun ordre n'est exécuté avant que Chaleur & Fils ait signé" in printed
            assert "objet analog-value,7 de l'automate 1201" in printed
            assert "priorité BACnet 13" in printed
            assert here.accept(here.order())["code"] == "E_UNSIGNED"
            said = await accept(here, "0123456789", status=1)
            assert "has changed since it was printed" in said
            assert here.accept(here.order())["code"] == "E_UNSIGNED"
            await accept(here)
            assert "acceptée par Marc Durand pour Chaleur & Fils le 1er octobre 2026" in (
                await sheet(here)
            )
            assert here.accept(here.order())["state"] == "SCHEDULED"
            await until(lambda: held(here, Decimal("-1.5")))

            # an edit of what was signed ends the acceptance, and the hold with it
            here.configure_otherwise("+33 4 76 00 00 00", "+33 4 76 99 99 99")
            await here.gardien("reload", "--as", "a test")
            await until(lambda: held(here, None))
            assert here.accept(here.order())["code"] == "E_UNSIGNED"
            printed = await sheet(here)
            assert "PLUS ACCEPTÉE : Marc Durand a accepté la version" in printed
            assert "acceptée par" not in printed
            said = await here.gardien("control", "list")
            assert "no order: Marc Durand signed version" in " ".join(said.split())

            # what was signed is in force again: so is the signature, also after a restart
            here.configure_otherwise("+33 4 76 99 99 99", "+33 4 76 00 00 00")
            await here.end()
            await here.start()
            assert here.accept(here.order())["state"] == "SCHEDULED"
            month = f"{datetime.now(UTC):%Y-%m}"
            report = ("control", "report", "--month", month, "--language")
            (tmp_path / "said").write_text(await here.gardien(*report, "fr"))
            return await here.gardien("control", "history"), json.loads(
                await here.gardien("control", "report", "--month", month, "--json")
            )

    history, report = asyncio.run(attack())
    assert "asked by energie.metropole.example (reason: la pointe de 18 h), on the vote" in history
    codes = [order["code"] for order in report["controls"]["boiler-offset"]["orders"]]
    assert codes.count("E_UNSIGNED") == 3
    printed = " ".join((tmp_path / "said").read_text().split())
    assert "motif : la pointe de 18 h" in printed
    assert "l'exploitant n'avait pas accepté la fiche en vigueur (E_UNSIGNED)" in printed


def test_below_the_lowest_supply_temperature_an_order_ends_and_none_begins(tmp_path):
    """Rule H34: the boiler cools down by the order itself."""

    async def attack():
        async with signed_boiler(tmp_path, faster=600.0) as here:
            await accept(here)
            await until(lambda: supply_above(here, 42))
            here.accept(here.order("-20", 7200))
            await until(lambda: ended(here))
            assert not await holds(here)
            report = here.asked("control.report", month=f"{datetime.now(UTC):%Y-%m}")
            # the boiler is warm again: now a limit that it never reaches
            here.configure_otherwise("min: 40}", "min: 70}")
            await here.gardien("reload", "--as", "a test")
            await accept(here)
            return here.accept(here.order("-20", 7200)), report

    again, report = asyncio.run(attack())
    order = report["controls"]["boiler-offset"]["orders"][0]
    assert order["outcome"].startswith("guard:supply: supply is 3")
    assert order["released"] is not None
    assert "lowest supply 3" in order["seen"]
    assert again["code"] == "E_GUARD(supply)"


def supply(here):
    guards = here.asked("control.list")["controls"]["boiler-offset"]["guards"]
    return float(guards["supply"].split()[0])


def supply_above(here, least):
    return supply(here) > least


async def ended(here):
    return "broken off: supply is 3" in await here.gardien("control", "history")


def test_a_pause_for_a_season_ends_the_order_and_outlives_crash_and_restart(tmp_path):
    """Rule H36."""

    async def attack():
        async with signed_boiler(tmp_path) as here:
            await accept(here)
            pause = ("control", "opt-out", "boiler-offset", "--until", LAST_DAY, "--as", "a test")
            here.accept(here.order())
            await until(lambda: holds(here))
            await here.kill()
            assert await holds(here)
            # nobody runs: the pause is recorded, and the equipment released, all the same
            assert "takes no orders before" in await here.gardien(*pause)
            assert not await holds(here)
            await here.start()
            assert here.accept(here.order())["code"] == "E_OVERRIDDEN"
            # a shorter opt-out does not shorten it
            await here.gardien(
                "control", "opt-out", "boiler-offset", "--hours", "1", "--as", "a test"
            )
            until_day = here.asked("control.list")["controls"]["boiler-offset"]["opted_out_until"]
            await here.gardien("control", "opt-out", "boiler-offset", "--end", "--as", "a test")
            assert here.accept(here.order())["state"] == "SCHEDULED"
            await until(lambda: holds(here))

            # the controllers are gone, and nobody runs: it is recorded, and says what is left
            await here.kill()
            here.room.freeze()
            said = await here.gardien(*pause, status=1)
            assert "is not released yet" in " ".join(said.split())
            here.room.thaw()
            await here.start()
            await until(lambda: held(here, None))
            return until_day, await here.gardien("control", "list")

    until_day, listed = asyncio.run(attack())
    assert until_day > LAST_DAY
    assert f"has paused it until {LAST_DAY}" in " ".join(listed.split())
