"""What has just been read is sent as live data, however old its slot is (rule T14)."""

import asyncio
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from agent.core.model import Reading, Series
from hil.process import free_port
from tests.contract.gateway.running import at_work, configured

HOURLY = Series("CZS2YFSTBQQ5WDC", "elec.imp", "REG", "kWh", 3600, "m1", None, "common")


def test_a_value_that_was_read_late_in_its_hour_is_live_and_a_late_version_is_backlog(
    tmp_path: Path,
):
    async def scenario() -> None:
        config = configured(tmp_path, f"mqtt://127.0.0.1:{free_port()}", seal="60s")
        async with at_work(config) as house:
            recipient, now = house.recipients["centre"], int(time.time())
            fresh = Reading(HOURLY, now - 1800, Decimal(1), "V")
            late = replace(fresh, t=now - 5400, ver=now)
            for row, waits in ((fresh, (1, 0)), (late, (1, 1))):
                await recipient.intake.put([row], {})
                await recipient.intake.commit()
                assert await recipient.thread.run(recipient.spool.waiting, now - 120) == waits

    asyncio.run(scenario())
