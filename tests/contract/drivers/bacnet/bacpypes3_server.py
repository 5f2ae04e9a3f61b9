"""A device of plain bacpypes3 as a process, without anything of hil/: accumulators with scale.

`python bacpypes3_server.py IP/BITS:PORT`, prints "ready" when it serves.
"""

import asyncio
import sys
from pathlib import Path

from bacpypes3.app import Application
from bacpypes3.basetypes import Scale
from bacpypes3.local.device import DeviceObject
from bacpypes3.local.networkport import NetworkPortObject
from bacpypes3.local.object import Object as LocalObject
from bacpypes3.object import AccumulatorObject, ScheduleObject

BASE = {"statusFlags": [0, 0, 0, 0], "eventState": "normal", "outOfService": False}


class Counter(LocalObject, AccumulatorObject):
    pass


class Times(LocalObject, ScheduleObject):
    pass


def bound(address: str) -> bool:
    """Whether a socket of this machine has this UDP port; the endpoint opens in its own task."""
    port = int(address.rpartition(":")[2])
    sockets = Path("/proc/net/udp").read_text(encoding="ascii").splitlines()[1:]
    return any(int(line.split()[1].rpartition(":")[2], 16) == port for line in sockets)


async def main() -> None:
    device = DeviceObject(
        objectIdentifier=("device", 4711), objectName="Compteurs", vendorIdentifier=999
    )
    heat = Counter(
        objectIdentifier=("accumulator", 1), objectName="Energie chauffage", presentValue=482_110,
        scale=Scale(integerScale=-1), units="kilowattHours", maxPresValue=4_294_967_295, **BASE,
    )  # fmt: skip
    gas = Counter(
        objectIdentifier=("accumulator", 2), objectName="Gaz", presentValue=123_456,
        scale=Scale(floatScale=0.01), units="cubicMeters", maxPresValue=4_294_967_295, **BASE,
    )  # fmt: skip
    times = Times(objectIdentifier=("schedule", 3), objectName="Nuit")
    port = NetworkPortObject(sys.argv[1], objectIdentifier=("network-port", 1), objectName="port")
    app = Application.from_object_list([device, port, heat, gas, times])
    while not bound(sys.argv[1]):
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.Event().wait()
    app.close()


if __name__ == "__main__":
    asyncio.run(main())
