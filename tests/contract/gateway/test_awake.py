"""What sleeps is woken by what it depends on (docs/decisions/058)."""

import asyncio
from pathlib import Path

from agent.core.clock import Clock
from agent.registry.inputs import NewPlace
from tests.contract.gateway.running import at_work, configured
from tests.waiting import until


def test_each_change_of_the_registry_reaches_an_open_spool_at_once(tmp_path: Path) -> None:
    """Rule P13: nobody has to call for it, and the uplink may be down."""

    async def scenario() -> None:
        clock = Clock("system")
        serving = asyncio.ensure_future(clock.serve())  # without it all look every second
        await until(lambda: clock.bound(60.0) > 1)
        async with at_work(configured(tmp_path, "mqtt://127.0.0.1:9"), clock) as house:
            outbox = house.recipients["centre"].outbox
            for label in ("A-1", "A-2"):
                place = NewPlace(label=label, type="common")
                house.registry.add_places([place], "marie", "t", 1.8e9)
                assert outbox.behind
                await until(lambda: not outbox.behind, 20)
        serving.cancel()

    asyncio.run(scenario())
