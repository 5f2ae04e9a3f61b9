"""A pretend router on loopback with controllers on a virtual network behind it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from bacpypes3.local.device import DeviceObject
from bacpypes3.local.networkport import NetworkPortObject
from bacpypes3.vlan import VirtualNetwork

from hil.bacnet.controller import Controller, Faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence


class Seen:
    """What went through the router."""

    def __init__(self) -> None:
        self.now = 0
        self.most_at_once = 0
        """requests that were under way at the same time, at most"""


class _Behind(Controller):
    """A controller behind the router: it takes its time, and counts who else is asked meanwhile."""

    seen: Seen

    async def indication(self, apdu: Any) -> None:
        self.seen.now += 1
        self.seen.most_at_once = max(self.seen.most_at_once, self.seen.now)
        try:
            await asyncio.sleep(self.faults.slow)
            await super().indication(apdu)
        finally:
            self.seen.now -= 1


def _device(instance: int, name: str) -> Any:
    return DeviceObject(
        objectIdentifier=("device", instance),
        objectName=name,
        vendorIdentifier=999,
        vendorName="hil",
        modelName="pretend",
        maxApduLengthAccepted=480,
        segmentationSupported="no-segmentation",
    )


def _virtual_port(network: str, number: int, mac: int) -> Any:
    return NetworkPortObject(
        objectIdentifier=("network-port", 2),
        objectName="virtual",
        networkType="virtual",
        networkInterfaceName=network,
        protocolLevel="bacnet-application",
        networkNumber=number,
        networkNumberQuality="configured",
        macAddress=bytes([mac]),
    )


@asynccontextmanager
async def routed(
    station: str, number: int, devices: Mapping[int, Sequence[Any]], faults: Faults
) -> AsyncIterator[Seen]:
    """Serve a router at `IP:PORT` to network `number`; the devices are stations 1, 2 and on."""
    name, seen = f"vlan-{station}", Seen()
    network = VirtualNetwork(name)
    port = NetworkPortObject(
        station.replace(":", "/32:"), objectIdentifier=("network-port", 1), objectName="ip",
        networkNumber=1, networkNumberQuality="configured",
    )  # fmt: skip
    router: Controller = Controller.from_object_list(
        [_device(4_000_000, "router"), port, _virtual_port(name, number, 0xFE)]
    )
    router.faults = Faults()
    made = [router]
    for mac, (instance, objects) in enumerate(devices.items(), 1):
        one: _Behind = _Behind.from_object_list(
            [_device(instance, f"behind-{mac}"), _virtual_port(name, 0, mac), *objects]
        )
        one.faults, one.seen = faults, seen
        made.append(one)
    server = router.link_layers[port.objectIdentifier].server
    await asyncio.gather(*server._transport_tasks)  # noqa: SLF001 -- it has no word for being open
    try:
        yield seen
    finally:
        for one in made:
            one.close()
        VirtualNetwork._networks.pop(network.name, None)  # noqa: SLF001 -- it keeps them for ever
        await asyncio.sleep(0)
