"""The loop of a life: what waits for a disk that does not answer."""

import asyncio
import random

from agent.registry.background_change import _without_garbage_collection
from tests.sim.loop import SimLoop


def test_a_thread_that_only_computes_does_not_wait_for_a_disk_and_the_others_do():
    ends = 900.0
    loop = SimLoop(random.Random(1), stalled=lambda: ends if loop.time() < ends else None)

    async def both():
        computed = asyncio.to_thread(
            _without_garbage_collection, lambda draft: draft.stage(), Draft
        )
        assert (await computed, loop.time() < 1) == ("computed", True)
        return await asyncio.to_thread(loop.time)

    class Draft:
        @staticmethod
        def stage():
            return "computed"

    try:
        assert loop.run_until_complete(both()) >= ends
    finally:
        loop.close()
