"""One pretend controller: real BACnet objects on a port of its own, and how it can misbehave."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bacpypes3.app import Application
from bacpypes3.basetypes import BinaryPV, EngineeringUnits, PriorityValue, Scale
from bacpypes3.errors import ExecutionError, PropertyError, UnrecognizedService
from bacpypes3.local.analog import AnalogInputObject, AnalogOutputObject, AnalogValueObject
from bacpypes3.local.binary import BinaryInputObject, BinaryOutputObject, BinaryValueObject
from bacpypes3.local.cmd import Commandable
from bacpypes3.local.cov import GenericCriteria
from bacpypes3.local.device import DeviceObject
from bacpypes3.local.multistate import MultiStateValueObject
from bacpypes3.local.networkport import NetworkPortObject
from bacpypes3.local.object import Object as LocalObject
from bacpypes3.object import AccumulatorObject

from hil.process import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

MINIMUM_ON_OFF = 5
"""index of priority 6 in a priority array"""


@dataclass(slots=True)
class Faults:
    """How a controller misbehaves; may be changed while it runs."""

    silent: bool = False
    slow: float = 0.0
    """seconds by which every answer is late"""
    lost: float = 0.0
    """share of the packets to it that get lost"""
    no_multiple: bool = False
    """it does not know ReadPropertyMultiple"""
    no_cov: bool = False
    no_writes: bool = False
    seed: int = 1


class Withholding:
    """An object that answers some of its properties with an error."""

    withheld: dict[str, str] = {}  # noqa: RUF012 -- replaced by `withhold`, never changed
    """error code by property, such as `units: read-access-denied`"""
    reads = 0
    """how often its units or its scale were asked for"""

    async def read_property(self, attr: Any, index: int | None = None) -> Any:
        """Read one property, or raise the error that stands for it."""
        name = str(attr)
        if name in {"units", "scale"}:
            object.__setattr__(self, "reads", self.reads + 1)
        if name in self.withheld:
            raise PropertyError(errorCode=self.withheld[name])
        return await super().read_property(attr, index)  # type: ignore[misc]


class AnalogSensor(Withholding, AnalogInputObject):  # type: ignore[misc]
    """A sensor."""


class PulseCounter(Withholding, LocalObject, AccumulatorObject):  # type: ignore[misc]
    """A counter whose present value is multiplied by its `scale`."""

    _cov_criteria = GenericCriteria


class CommandableAnalog(Withholding, Commandable, AnalogValueObject):  # type: ignore[misc]
    """A setpoint that may be commanded."""


class CommandableBinary(Commandable, BinaryValueObject):  # type: ignore[misc]
    """A switch that may be commanded."""


class CommandableState(Commandable, MultiStateValueObject):  # type: ignore[misc]
    """A mode that may be commanded."""


class TimedOutput(BinaryOutputObject):  # type: ignore[misc]
    """A pump or burner with minimum on and off times: after a change it holds itself, in slot 6."""

    hold_s = 0.0
    _holding = False

    def recalculating(self) -> None:
        """Follow the priority array, and hold what it became for the minimum time."""
        before = self.presentValue
        super().recalculating()
        if self.hold_s and not self._holding and self.presentValue != before:
            self._holding = True
            self.priorityArray[MINIMUM_ON_OFF] = PriorityValue(self.presentValue)
            asyncio.get_running_loop().call_later(self.hold_s, self._let_go)

    def _let_go(self) -> None:
        self.priorityArray[MINIMUM_ON_OFF] = PriorityValue(null=())
        self._holding = False


class Controller(Application):  # type: ignore[misc]
    """A controller with its objects; made by `controller`."""

    faults: Faults
    station = ""
    """where it is, `IP:PORT`"""
    requests = 0
    """packets that came, answered or not"""

    async def do_ReadPropertyMultipleRequest(self, apdu: Any) -> None:  # noqa: N802 -- bacpypes3's
        """Answer, if it knows how to."""
        if self.faults.no_multiple:
            raise UnrecognizedService("it is an old one")
        await super().do_ReadPropertyMultipleRequest(apdu)

    async def do_SubscribeCOVRequest(self, apdu: Any) -> None:  # noqa: N802
        """Subscribe, if it offers that."""
        if self.faults.no_cov:
            raise ExecutionError(errorClass="services", errorCode="covSubscriptionFailed")
        await super().do_SubscribeCOVRequest(apdu)

    async def do_WritePropertyRequest(self, apdu: Any) -> None:  # noqa: N802
        """Be written to, if it lets itself be."""
        if self.faults.no_writes:
            raise ExecutionError(errorClass="property", errorCode="writeAccessDenied")
        await super().do_WritePropertyRequest(apdu)

    def there(self, kind: str, instance: int) -> Any:
        """One of its objects, such as `analog-input`, 3."""
        return next(
            one for one in self.iter_objects() if str(one.objectIdentifier) == f"{kind},{instance}"
        )

    def command(self, kind: str, instance: int, slot: int, value: float | None) -> None:
        """Somebody else's hand: put a real value into a slot, or NULL."""
        made = PriorityValue(null=()) if value is None else PriorityValue(real=value)
        self.there(kind, instance).priorityArray[slot - 1] = made

    def reboot(self) -> None:
        """Forget who subscribed, and what was commanded."""
        for detection in list(self._cov_detections.values()):
            for one in list(detection.cov_subscriptions):
                self.cancel_subscription(one)
        for one in self.iter_objects():
            if isinstance(one, Commandable):
                for slot in range(16):
                    one.priorityArray[slot] = PriorityValue(null=())

    @property
    def subscriptions(self) -> int:
        """How many subscriptions it holds."""
        return sum(len(one.cov_subscriptions) for one in self._cov_detections.values())


@asynccontextmanager
async def controller(  # noqa: PLR0913 -- as many ways to be a controller
    address: str,
    instance: int,
    objects: Sequence[Any] = (),
    *,
    name: str = "",
    faults: Faults | None = None,
    max_apdu: int = 1476,
    segments: bool = True,
) -> AsyncIterator[Controller]:
    """Serve a controller at `IP/BITS:PORT` until the block is left."""
    device = DeviceObject(
        objectIdentifier=("device", instance),
        objectName=name or f"controller-{instance}",
        vendorIdentifier=999,
        vendorName="hil",
        modelName="pretend",
        maxApduLengthAccepted=max_apdu,
        segmentationSupported="segmented-both" if segments else "no-segmentation",
        maxSegmentsAccepted=64,
    )
    port = NetworkPortObject(address, objectIdentifier=("network-port", 1), objectName="port")
    made: Controller = Controller.from_object_list([device, port, *objects])
    made.faults, made.station = (
        faults or Faults(),
        address.partition("/")[0] + ":" + address.rpartition(":")[2],
    )
    server = made.link_layers[port.objectIdentifier].server
    await asyncio.gather(*server._transport_tasks)  # noqa: SLF001 -- it has no word for being open
    _misbehave(made, server)
    try:
        yield made
    finally:
        made.reboot()
        made.close()
        await asyncio.sleep(0)


def _misbehave(made: Controller, server: Any) -> None:
    """Stand between the wire and the controller."""
    pass_on, chance = server.confirmation, random.Random(made.faults.seed)

    async def arrives(pdu: Any) -> None:
        made.requests += 1
        if made.faults.silent or chance.random() < made.faults.lost:
            return
        if made.faults.slow:
            await asyncio.sleep(made.faults.slow)
        await pass_on(pdu)

    server.confirmation = arrives


def free_udp_port() -> int:
    """A UDP port that nobody has, on any loopback address (hil.process.free_port)."""
    return free_port(socket.SOCK_DGRAM, "0.0.0.0")


def analog_input(instance: int, name: str, value: float, units: str, about: str = "") -> Any:
    """A sensor; a change of 0.1 is told to subscribers."""
    return AnalogSensor(
        objectIdentifier=("analog-input", instance),
        objectName=name,
        presentValue=value,
        units=EngineeringUnits(units),
        description=about or name,
        covIncrement=0.1,
        **PLAIN,
    )


def accumulator(  # noqa: PLR0913 -- as many properties
    instance: int,
    name: str,
    count: int,
    units: str,
    *,
    integer_scale: int | None = None,
    float_scale: float = 1.0,
) -> Any:
    """A meter that counts: its index is `count` × 10^`integer_scale`, or × `float_scale`."""
    scale = {"floatScale": float_scale}
    if integer_scale is not None:
        scale = {"integerScale": integer_scale}
    return PulseCounter(
        objectIdentifier=("accumulator", instance),
        objectName=name,
        presentValue=count,
        scale=Scale(**scale),
        units=EngineeringUnits(units),
        maxPresValue=4_294_967_295,
        description=name,
        **PLAIN,
    )


def withhold(thing: Any, **codes: str) -> None:
    """Answer these properties with an error: `withhold(meter, scale="unknown-property")`."""
    object.__setattr__(thing, "withheld", dict(codes))


def analog_output(instance: int, name: str, value: float, units: str) -> Any:
    """An actuator that may be commanded."""
    return _commandable(AnalogOutputObject, ("analog-output", instance), name, value, units)


def analog_command(instance: int, name: str, value: float, units: str) -> Any:
    """A setpoint that may be commanded."""
    return _commandable(CommandableAnalog, ("analog-value", instance), name, value, units)


def _commandable(
    kind: Any, identifier: tuple[str, int], name: str, value: float, units: str
) -> Any:
    return kind(
        objectIdentifier=identifier,
        objectName=name,
        presentValue=value,
        relinquishDefault=value,
        units=EngineeringUnits(units),
        description=name,
        covIncrement=0.1,
        **PLAIN,
    )


def binary_input(instance: int, name: str, *, active: bool = False) -> Any:
    """A contact."""
    return BinaryInputObject(
        objectIdentifier=("binary-input", instance),
        objectName=name,
        presentValue=BinaryPV(int(active)),
        polarity="normal",
        description=name,
        **PLAIN,
    )


def binary_command(instance: int, name: str) -> Any:
    """A switch that may be commanded."""
    return CommandableBinary(
        objectIdentifier=("binary-value", instance),
        objectName=name,
        presentValue="inactive",
        relinquishDefault="inactive",
        description=name,
        **PLAIN,
    )


def timed_output(instance: int, name: str, hold_s: float) -> Any:
    """A pump or burner with minimum on and off times."""
    made = TimedOutput(
        objectIdentifier=("binary-output", instance),
        objectName=name,
        presentValue="inactive",
        relinquishDefault="inactive",
        polarity="normal",
        description=name,
        **PLAIN,
    )
    object.__setattr__(made, "hold_s", hold_s)
    return made


def mode(instance: int, name: str, states: Sequence[str]) -> Any:
    """A mode that may be commanded."""
    return CommandableState(
        objectIdentifier=("multi-state-value", instance),
        objectName=name,
        presentValue=1,
        relinquishDefault=1,
        numberOfStates=len(states),
        stateText=list(states),
        description=name,
        **PLAIN,
    )


PLAIN = {"statusFlags": [0, 0, 0, 0], "eventState": "normal", "outOfService": False}
