"""Field buses: one folder a driver, all behind the protocols of base.py."""

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
        "modbus-tcp": "agent.drivers.modbus.tcp:ModbusTcp",
        "modbus-rtu": "agent.drivers.modbus.serialline:ModbusRtu",
        "modbus-rtu-tcp": "agent.drivers.modbus.serialline:ModbusRtuTcp",
    }
)
"""the name written under `driver:`, and where its class is; imported only where it is used"""

TAKEN_FOR: Mapping[str, tuple[str, str]] = MappingProxyType({"mbus": ("mbus-heat", "mbus")})
"""by family: the profile of a device that names none, and of one that names points of its own"""


def family(name: str) -> str:
    """What is spoken, over whatever wire: `modbus-tcp` is modbus. Profiles are for a family."""
    return name.partition("-")[0]


def driver(name: str) -> type[Reads]:
    """Import the driver called `name`. Raises KeyError if there is none: see DRIVERS."""
    module, _, attribute = DRIVERS[name].partition(":")
    return cast("type[Reads]", getattr(import_module(module), attribute))
