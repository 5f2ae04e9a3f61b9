"""The stores of readings that no slot takes yet: of unassigned meters, and at midnight."""

from __future__ import annotations

import logging
from asyncio import sleep
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from agent.acquisition.unsent_readings import MidnightReadings, UnassignedReadings
from agent.buffer.database import in_own_thread
from agent.core.errors import SpoolFull, StorageFailed
from agent.core.log_fields import LogEvent, fields
from agent.core.tasks import error_text, together
from agent.gateway.gateway import point_of
from agent.gateway.recipient import OBEY_EVERY, store_opening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from agent.gateway.gateway import Gateway

log = logging.getLogger(__name__)

SHELVE_EVERY = 300.0
"""seconds that unassigned readings stay in memory before they are stored"""


class ReadingStores:
    """Opens and serves both stores. `opened` is called when one of them is open."""

    def __init__(self, gateway: Gateway, opened: Callable[[], None]) -> None:
        self._gateway, self._opened = gateway, opened

    async def open(self) -> None:
        """Open the stores of unassigned readings and of midnight readings."""
        jobs = self._gateway.jobs
        await jobs.open("shelf", partial(self._hold, "shelf", UnassignedReadings))
        await jobs.open("registers", partial(self._hold, "registers", MidnightReadings))

    @asynccontextmanager
    async def _hold(
        self, name: str, kind: type[UnassignedReadings | MidnightReadings]
    ) -> AsyncIterator[Awaitable[object]]:
        gateway, unsent = self._gateway, cast("dict[str, Any]", self._gateway.unsent)
        disk_thread, file = gateway.disk.thread(name), gateway.config.state / f"{name}.db"
        opening = store_opening(gateway.identity, file)
        async with in_own_thread(name, opening, disk_thread) as (store, thread):
            readings = unsent.setdefault(name, kind(gateway.registry, store, thread))
            readings.store, readings.thread = store, thread
            async with self._serve(readings) as broken:
                yield broken

    @asynccontextmanager
    async def _serve(
        self, readings: UnassignedReadings | MidnightReadings
    ) -> AsyncIterator[Awaitable[object]]:
        self._opened()
        try:
            yield together(self._assign(readings), readings.thread.broken())
        finally:
            try:
                await readings.commit()
            except Exception as error:  # noqa: BLE001 -- the store is closed all the same
                self._gateway.jobs.faults.log(
                    error, f"readings stay in memory: {error_text(error)}", "shelf"
                )

    async def _assign(self, readings: UnassignedReadings | MidnightReadings) -> None:
        """Assign stored readings once the registry knows their place. Never returns.

        These are readings of unassigned meters, and the midnight readings that a duty needs after a
        change of occupants was recorded late.
        """
        gateway, waited = self._gateway, 0.0
        while True:
            changed = readings.asked != gateway.registry.revision
            due = changed or readings.full or waited >= SHELVE_EVERY
            if due and gateway.clock.dates and gateway.clock.ages:
                try:
                    # Retractions come before the rows that replace them.
                    await gateway.recipients.catch_up()
                    # While one spool is closed, assigning would have to be repeated for it later,
                    # and the other recipients would get the rows twice.
                    if gateway.recipients.unopened:
                        await readings.commit()
                    else:
                        await readings.tend(
                            gateway.clock.now(),
                            gateway.recipients.accounts(),
                            lambda device, name: point_of(gateway.config, device, name),
                        )
                except (SpoolFull, StorageFailed) as error:
                    log.warning(
                        "stored readings could not be assigned and are tried again: %s", error,
                        extra=fields(LogEvent.RECORD_NOT_WRITTEN, store="shelf"),
                    )  # fmt: skip
                    await sleep(SHELVE_EVERY)
                waited = 0.0
            await sleep(OBEY_EVERY)
            waited += OBEY_EVERY
