"""A recipient is told of each series before its rows, whatever ends the agent. Rule T21."""

import asyncio
import time
from decimal import Decimal
from pathlib import Path

from agent.acquisition.slots import ExpectedSeries
from agent.core.clock import stamp
from agent.core.model import Reading, Series
from agent.gateway.recipient import directory_of
from hil.process import free_port
from tests.contract.gateway.running import at_work, configured

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
