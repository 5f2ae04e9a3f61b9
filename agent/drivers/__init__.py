"""Drivers of field buses, one folder for each bus. All implement the protocols of base.py."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.drivers.base import Reads

DRIVERS: Mapping[str, str] = MappingProxyType(
    {
        "bacnet": "agent.drivers.bacnet.bus:Bacnet",
        "mbus": "agent.drivers.mbus.bus:MbusSerial",
        "mbus-tcp": "agent.drivers.mbus.bus:MbusTcp",
        "modbus-tcp": "agent.drivers.modbus.bus:ModbusTcp",
        "modbus-rtu": "agent.drivers.modbus.bus:ModbusRtu",
        "modbus-rtu-tcp": "agent.drivers.modbus.bus:ModbusRtuTcp",
    }
)
"""by the name written under `driver:`, where its class is. Imported only when it is used: a gateway
without BACnet saves the memory of bacpypes3
"""

TAKEN_FOR: Mapping[str, tuple[str, str]] = MappingProxyType({"mbus": ("mbus-heat", "mbus")})
"""by family, the profiles taken for a device that names none: without points, and with its own"""


def family(name: str) -> str:
    """The protocol of a driver, whatever the transport: `modbus-tcp` is `modbus`. A profile is for
    one family.
    """
    return name.partition("-")[0]


def driver(name: str) -> type[Reads]:
    """Import the driver called `name`. Raises KeyError if there is none: see DRIVERS."""
    module, _, attribute = DRIVERS[name].partition(":")
    return cast("type[Reads]", getattr(import_module(module), attribute))
