"""Findings of a gateway at work, each on the condition itself: brokers, batches, lines."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from agent.api.calls import NOBODY, status
from agent.cli.status import _summary
from agent.core.clock import Clock, stamp
from agent.core.finding import Finding, Severity
from agent.gateway.delivery import document
from hil.broker import broker
from hil.cut import cut
from hil.platform.child import Platform
from tests.contract.gateway.running import at_work, configured, put, settled
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from agent.gateway.gateway import Gateway


class Watch:
    """A wall clock that a test can set forward."""

    ahead = 0.0

    def clock(self) -> Clock:
        return Clock("system", None, lambda: time.time() + self.ahead)


async def found(house: Gateway, code: str) -> Finding | None:
    events = (await status(house, NOBODY))["events"]
    return next((Finding.of(one) for one in events if one["code"] == code), None)


def test_a_broker_that_is_frozen_is_told_from_one_that_answers(tmp_path: Path):
    watch = Watch()

    async def scenario() -> None:
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db"),
            cut(far.port) as line,
            at_work(configured(tmp_path, f"mqtt://127.0.0.1:{line.port}"), watch.clock()) as house,
        ):
            await put(house, 2)
            await settled(house)
            assert await found(house, "no-answer") is None
            await line.set("freeze")
            await put(house, 2, int(time.time()) + 100)
            delivery = house.recipients["centre"].delivery

            async def asked() -> bool:
                return delivery.asked_since is not None

            await until(asked)
            watch.ahead = 20.0
            problem = await found(house, "no-answer")
            assert problem is not None
            assert problem.severity is Severity.WAITING
            assert problem.since == stamp(delivery.asked_since or 0)
            answer = await status(house, NOBODY)
            (uplinks,) = [one for one in _summary(answer, every=False) if "last receipt" in one]
            assert "centre does not answer, last receipt" in uplinks
            told = document(answer, "centre")["events"]
            assert [one["since"] for one in told if one["code"] == "no-answer"] == [problem.since]
            await line.set("pass")
            await settled(house)
            assert await found(house, "no-answer") is None

    asyncio.run(scenario())
