"""Controllers and our driver on loopback: each controller has an address, all of them one port."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from agent.core.model import Point
from agent.drivers.bacnet.bus import Bacnet
from agent.drivers.bacnet.settings import BacnetSettings
from hil.bacnet.controller import Controller, controller, free_udp_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.core.model import Sample

TIMEOUT = 0.6


class Net:
    """A port for controllers and one for us."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.port, self.ours, self.stack = free_udp_port(), free_udp_port(), stack
        self.addresses: list[str] = []

    def address(self, number: int) -> str:
        return f"127.0.{1 + number // 250}.{1 + number % 250}:{self.port}"

    async def add(self, instance: int, objects: Any = (), **more: Any) -> Controller:
        here = self.address(len(self.addresses))
        self.addresses.append(here)
        at = here.replace(":", "/32:")
        return await self.stack.enter_async_context(controller(at, instance, objects, **more))

    def settings(self, **more: Any) -> BacnetSettings:
        said = {"address": "127.0.0.1/8", "port": self.ours, "timeout": TIMEOUT, "cov": 0}
        return BacnetSettings(**{**said, "ask": tuple(self.addresses), **more})

    async def driver(self, **more: Any) -> Bacnet:
        return await self.stack.enter_async_context(Bacnet.open(self.settings(**more)))


@asynccontextmanager
async def net() -> AsyncIterator[Net]:
    async with AsyncExitStack() as stack:
        yield Net(stack)


def point(at: str, device: int | str = 1201, every: int = 60, **more: Any) -> Point:
    return Point(
        "boiler", at.replace(",", "-"), str(device), at, every, **{"writable": True} | more
    )


def values(samples: list[Sample]) -> list[Any]:
    """Each value, or why there is none."""
    return [sample.detail if sample.why else sample.value for sample in samples]
