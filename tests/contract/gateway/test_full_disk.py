"""The configuration is taken anew while the disk is full. Guards rule G2."""

import asyncio
import time
from pathlib import Path

from agent.core.model import SlotMark
from hil.platform.ledger import opened
from hil.platform.listen import Desk
from hil.platform.report import report, rows
from hil.process import free_port
from tests.contract.buffer.far import receipt_for, seal
from tests.contract.buffer.test_full_disk import hog
from tests.contract.gateway.running import at_work, configured
from tests.waiting import until

DEVICE = """links:
  plant: {driver: modbus-tcp, host: 127.0.0.1, port: 9, timeout: 500ms}
devices:
  boiler:
    {link: plant, address: 1, profile: eastron-sdm120, every: 1s, place: CZS2Y-FSTBQ-Q5WDC}
"""


def test_a_reload_on_a_full_disk_states_no_slot_twice(small_disk: Path):
    """Rule U8."""

    async def scenario() -> None:
        config = configured(small_disk, f"mqtt://127.0.0.1:{free_port()}")
        text = config.read_text().replace("flush: 200ms", "flush: 200ms, reserve: 0B")
        config.write_text(text + DEVICE)
        async with at_work(config) as house:
            recipient = house.recipients["centre"]
            key = ("boiler", 1)

            async def slots() -> int:
                """Up to which slot all is closed, in memory and on the disk."""
                mark = recipient.ledger.marks.get(key)
                return mark.slot if mark else 0

            await until(slots)
            hog(small_disk)
            closed = await slots()
            await house.daemon.reload()
            assert await slots() >= closed

            async def went_on() -> bool:
                return await slots() > closed + 1

            await until(went_on)
            (small_disk / "hog").unlink()
            await recipient.intake.commit()
            last = (await recipient.thread.run(recipient.spool.marks))[key].slot

            def deliver() -> None:
                spool = recipient.spool
                series = spool.announced()
                with opened(small_disk / "platform.db") as ledger:
                    while batch := spool.announce(series, time.time(), "trusted") or seal(spool):
                        at = f"gardien/{batch.id.gateway}/{batch.id.recipient}/up/backfill"
                        assert Desk(ledger).answer(at, batch.payload)
                        spool.settle(receipt_for(batch), 0.0)

            await recipient.thread.run(deliver)
        counted = report(small_disk / "platform.db")
        assert (counted["alarms"], counted["overlapping_slots"]) == (0, 0)
        first = min(row.t for row in rows(small_disk / "platform.db"))
        assert counted["slots"] == last - first + 1

    asyncio.run(scenario())


def test_an_agent_starts_on_a_disk_without_room_and_states_the_slots_it_missed(small_disk: Path):
    """Guards rules G2, G8."""
    key = ("boiler", 1)

    async def start(reserve: str, mark: SlotMark | None = None) -> tuple[SlotMark, SlotMark]:
        """Start with so much left free; the mark on the disk, and the one in memory."""
        config = configured(small_disk, f"mqtt://127.0.0.1:{free_port()}")
        text = config.read_text().replace("flush: 200ms", f"flush: 200ms, reserve: {reserve}")
        config.write_text(text + ("" if mark else DEVICE))
        async with at_work(config) as house:
            recipient = house.recipients["centre"]
            if mark is not None:
                await recipient.thread.run(recipient.spool.append, [], {key: mark})
            stored = await recipient.thread.run(recipient.spool.marks)
            return stored[key], recipient.ledger.marks.get(key, stored[key])

    async def scenario() -> None:
        before = SlotMark(int(time.time()) - 100, heard=True)
        await start("0B", before)
        stored, known = await start("50MB")  # more than the disk has
        assert known.slot >= stored.slot > before.slot

    asyncio.run(scenario())
