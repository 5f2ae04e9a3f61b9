"""Waiting for something to be so."""

import asyncio
import time


async def until(fact, within=90.0):
    """Wait until `fact()`, which may be a coroutine, is true, and return it."""
    async with asyncio.timeout(within):
        while True:
            value = fact()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.05)


def wait_until(fact, within=90.0):
    """As `until`, where no loop runs."""
    end = time.monotonic() + within
    while not fact():
        assert time.monotonic() < end, fact
        time.sleep(0.05)
