"""A recipient is told of each series before its rows, whatever ends the agent, and of its end.
Rule T21.
"""

import asyncio
import time
from decimal import Decimal
from pathlib import Path

from agent.acquisition.row_assignment import ExpectedSeries
from agent.core.clock import stamp
from agent.core.model import Reading, Series, SlotMark
from agent.gateway.recipient import directory_of
from agent.registry.inputs import NewConsent, NewExchange, NewInstallation, NewPlace
from hil.process import free_port
from tests.contract.gateway.running import RECIPIENT, at_work, configured
from tests.unit.acquisition.house import LONG_AGO, point

HEAT = Series("CZS2YFSTBQQ5WDC", "heat", "REG", "kWh", 3600, "m1", None, "common")
KEY = "series/CZS2YFSTBQQ5WDC/heat/REG/3600"


def test_a_series_is_owed_from_its_first_stored_row_on_after_a_restart_too(tmp_path: Path):
    slot = int(time.time()) // 3600 * 3600

    async def scenario() -> None:
        config = configured(tmp_path, f"mqtt://127.0.0.1:{free_port()}", seal="60s")
        async with at_work(config) as house:
            recipient = house.recipients["centre"]
            recipient.ledger.owe(HEAT, slot)
            # it could still be lost in a power cut, and no mark would make it missing
            assert KEY not in directory_of(house, recipient)
            await recipient.intake.put([Reading(HEAT, slot, Decimal(1), "V")], {})
            await recipient.intake.commit()
            before = directory_of(house, recipient)
            assert before[KEY] == ExpectedSeries.of(HEAT)._asdict() | {"since": stamp(slot)}
        async with at_work(config) as house:
            assert directory_of(house, house.recipients["centre"]) == before

    asyncio.run(scenario())


def test_a_series_that_nothing_makes_any_more_has_an_end_and_may_begin_anew(tmp_path: Path):
    """Rule M3: the mark is of a device that the file no longer names."""
    slot = int(time.time()) // 3600 * 3600
    item = ExpectedSeries.of(HEAT)._asdict() | {"since": stamp(slot)}
    marks = {("boiler", 3600): SlotMark(slot, heard=True, serial="m1")}

    async def scenario() -> None:
        config = configured(tmp_path, f"mqtt://127.0.0.1:{free_port()}", seal="60s")
        async with at_work(config) as house:
            recipient = house.recipients["centre"]
            recipient.ledger.owe(HEAT, slot)
            await recipient.intake.put([Reading(HEAT, slot, Decimal(1), "V")], marks)
            await recipient.intake.commit()
            assert directory_of(house, recipient)[KEY] == item
            # as after a reload
            recipient.ledger.renew({}, marks, recipient.ledger.assignment.policy, None)
            after = item | {"until": stamp(slot + 3600)}
            assert directory_of(house, recipient)[KEY] == after
            assert directory_of(house, recipient)[KEY] == after
        for _ in range(2):
            async with at_work(config) as house:
                recipient = house.recipients["centre"]
                assert directory_of(house, recipient)[KEY] == after
                assert directory_of(house, recipient)[KEY] == after
        async with at_work(config) as house:
            recipient = house.recipients["centre"]
            assert directory_of(house, recipient)[KEY] == after
            recipient.ledger.owe(HEAT, slot + 7200)
            await recipient.intake.put([Reading(HEAT, slot + 7200, Decimal(1), "V")], {})
            await recipient.intake.commit()
            assert directory_of(house, recipient)[KEY] == item | {"since": stamp(slot + 7200)}

    asyncio.run(scenario())


def test_a_series_is_owed_if_its_first_rows_are_those_of_an_exchange_that_is_recorded_late(
    tmp_path: Path,
):
    """Rules M22, T21: the consent is younger than all slots that were closed so far."""
    step, now = 900, int(time.time())
    last, by = now // step * step, ("test", "test", now)
    points = {("m1", step): [point("m1", every=step)]}
    marks = {("m1", step): SlotMark(last, heard=True, serial="9")}

    async def scenario() -> None:
        config = configured(tmp_path, f"mqtt://127.0.0.1:{free_port()}", seal="60s")
        async with at_work(config) as house:
            recipient, registry = house.recipients["centre"], house.registry
            ledger = recipient.ledger
            ledger.renew(points, marks, ledger.assignment.policy, None)
            registry.add_places([NewPlace("D1", "dwelling", since=LONG_AGO)], *by)
            registry.install([NewInstallation("D1", serial="1001", since=LONG_AGO)], *by)
            terms = NewConsent("D1", RECIPIENT, ("elec.imp",), step, "advice", since=last - step)
            registry.consent([terms], *by, ledger.assignment.policy)
            await recipient.outbox.catch_up()
            dwelling = registry.place("D1").id
            key = f"series/{dwelling}/elec.imp/REG/{step}"
            assert key not in directory_of(house, recipient)
            registry.exchange([NewExchange("D1", serial="9", at=last - 3 * step)], *by)
            await recipient.outbox.catch_up()
            before = directory_of(house, recipient)
            assert before[key]["since"] == stamp(last - step)
        async with at_work(config) as house:
            assert directory_of(house, house.recipients["centre"])[key] == before[key]

    asyncio.run(scenario())
