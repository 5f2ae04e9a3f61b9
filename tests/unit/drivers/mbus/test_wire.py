"""What comes at the last moment counts."""

from __future__ import annotations

import asyncio

from agent.drivers.mbus.line import MbusWire


def test_bytes_that_come_in_the_moment_in_which_their_time_ends_are_heard():
    async def heard(data):
        wire = MbusWire("line")
        if data:
            asyncio.get_running_loop().call_soon(wire.feed, data)
        return await wire.news(0.0), bytes(wire.received)

    assert asyncio.run(heard(b"\xe5")) == (True, b"\xe5")
    assert asyncio.run(heard(b"")) == (False, b"")
