"""Find lines behind network addresses: Modbus TCP, serial lines behind a converter, BACnet/IP.

Only the hosts and networks that a person names are asked, and only by requests to read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

from agent.core.clock import monotonic
from agent.core.errors import LinkLost, Refused
from agent.core.i18n import Plural, Text
from agent.core.model import Why
from agent.core.settings import took
from agent.drivers.bacnet.settings import INTERFACE, station
from agent.drivers.base import Progress
from agent.drivers.line_search import FIRST, PROBE, FoundLine, NothingFound, PortSearch, meters_at
from agent.drivers.modbus.rtu import Speed
from agent.drivers.modbus.stream import tcp_stream
from agent.drivers.modbus.wire import TcpWire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from agent.drivers.line_search import Step

MODBUS_PORT, BACNET_PORT = 502, 47808
MOST_HOSTS = 1024
CONNECTS_WITHIN, ANSWERS_WITHIN = 0.7, 1.0
AT_ONCE = 32
"""hosts asked at the same time; more may overload a small router"""
UNITS = (255, 1, 0, 2, 247)
"""unit ids that a host answers to for itself, or that a gateway often has behind it"""
ANNOUNCED_WITHIN = 3.0
"""seconds in which devices answer a Who-Is"""
WHO_IS = bytes.fromhex("810b000c0120ffff00ff1008")
"""a global Who-Is of any number (ASHRAE 135, clauses 6.2, 16.10 and annex J.2.11)"""
TO_ONE = bytes.fromhex("810a000801001008")
"""the same to one station"""
I_AM = bytes.fromhex("1000c4")
"""the beginning of an I-Am, before its device instance"""


class Where(NamedTuple):
    """One address that is asked."""

    host: str
    port: int
    named: bool
    """the person named this port, so that any protocol may be behind it"""


def places(hosts: Iterable[str]) -> tuple[list[Where], list[tuple[str, str, int]]]:
    """The addresses to connect to, and where to send a Who-Is: own address, target and port.

    `hosts`: names, addresses, HOST:PORT, networks such as 192.168.1.0/24, and interfaces. Raises
    Refused.
    """
    where: list[Where] = []
    broadcasts: list[tuple[str, str, int]] = []
    for written in hosts:
        if (network := _network(written)) is None:
            host, _, port = written.partition(":")
            if port and not (port.isdecimal() and 0 < int(port) < 1 << 16):
                raise Refused("{written} is not a host, HOST:PORT, network or interface",
                              written=written)  # fmt: skip
            where.append(Where(host, int(port or MODBUS_PORT), bool(port)))
            broadcasts.append(("", host, int(port or BACNET_PORT)))
            continue
        own, net = network
        if net.num_addresses > MOST_HOSTS:
            raise Refused(
                "{written} has {number} addresses, and at most {most} are asked: name a part of"
                " it, such as {part}",
                written=written,
                number=net.num_addresses,
                most=MOST_HOSTS,
                part=f"{net.network_address}/24",
            )
        where += [Where(str(one), MODBUS_PORT, False) for one in net.hosts() if str(one) != own]
        broadcasts.append((own, str(net.broadcast_address), BACNET_PORT))
    return where, broadcasts


def _network(written: str) -> tuple[str, ipaddress.IPv4Network] | None:
    """Own address and network of an interface, or a written network; None: it is a host."""
    if "/" in written:
        try:
            net = ipaddress.IPv4Network(written, strict=False)
        except ValueError as error:
            raise Refused("{written} is not a host, HOST:PORT, network or interface",
                          written=written) from error  # fmt: skip
        return "", net
    known = {name for _index, name in socket.if_nameindex()}
    if not INTERFACE.fullmatch(written) or written not in known:
        return None
    try:
        own = ipaddress.IPv4Interface(station(written, 0).rpartition(":")[0])
    except LinkLost as error:
        raise Refused(error.text) from error
    return str(own.ip), own.network


async def search_hosts(hosts: Iterable[str]) -> AsyncIterator[Step]:
    """Search the named hosts and networks. Yields progress and what was found. Raises Refused."""
    where, broadcasts = places(hosts)
    pending = {asyncio.ensure_future(_who_is(*one)) for one in broadcasts}
    slots = asyncio.Semaphore(AT_ONCE)
    many = len(where) > len(broadcasts)
    pending |= {asyncio.ensure_future(_host(one, slots, many)) for one in where}
    total, began = len(pending), monotonic()
    try:
        while pending:
            done = total - len(pending)
            left = math.ceil(len(pending) / AT_ONCE) * CONNECTS_WITHIN + ANNOUNCED_WITHIN
            left = left if not done else min(left, (monotonic() - began) * len(pending) / done + 1)
            what = Text("{number} of {total} addresses asked; about {left} to go", number=done,
                        total=total, left=took(round(left)))  # fmt: skip
            yield Progress(done, total, what)
            ended, pending = await asyncio.wait(
                pending, timeout=1.0, return_when=asyncio.FIRST_COMPLETED
            )
            for task in ended:
                if (result := task.result()) is not None:
                    yield result
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _host(
    where: Where, slots: asyncio.Semaphore, many: bool
) -> FoundLine | NothingFound | None:
    """What answers at one address. A silent address of a whole network is not mentioned."""
    name = f"{where.host}:{where.port}"
    async with slots:
        try:
            async with tcp_stream(where.host, where.port, CONNECTS_WITHIN) as stream:
                units = await _modbus_units(TcpWire(stream, ANSWERS_WITHIN))
        except LinkLost as error:
            if many or not where.named:
                return None if many else NothingFound(name, error.text)
            units = []
        if units:
            return _modbus_tcp(where, units)
        line = await _behind_converter(where) if where.named else None
    return line or NothingFound(
        name, Text("the port is open, but nothing answers there that gardien can read")
    )


async def _modbus_units(wire: TcpWire) -> list[int]:
    """The unit ids that answer to a read; an exception of the device is an answer too."""
    units: list[int] = []
    for unit in UNITS:
        answer = await wire.exchange(unit, PROBE)
        if answer.why is not Why.SILENT or answer.unit is not None:
            units.append(unit if answer.unit is None else answer.unit)
        elif not units and unit == UNITS[2]:
            break
    return sorted(set(units))


def _modbus_tcp(where: Where, units: list[int]) -> FoundLine:
    settings: dict[str, str | int] = {"host": where.host}
    if where.port != MODBUS_PORT:
        settings["port"] = where.port
    devices = tuple(map(str, units))
    sentence = Text("Modbus TCP at {host}: unit {units} answers", host=where.host,
                    units=", ".join(devices))  # fmt: skip
    return FoundLine(_named("modbus", where.host), "modbus-tcp", settings, devices, sentence)


async def _behind_converter(where: Where) -> FoundLine | None:
    """A serial line behind a converter that passes bytes on unchanged."""
    settings = {"host": where.host, "port": where.port}
    with suppress(LinkLost):
        async with tcp_stream(where.host, where.port, CONNECTS_WITHIN) as stream:
            search = PortSearch(stream, f"{where.host}:{where.port}", math.inf)
            units = [unit for unit in FIRST if await search.unit(unit, ANSWERS_WITHIN / 2)]
            if units:
                devices = tuple(map(str, units))
                sentence = Text(
                    "Modbus RTU behind the converter {host}: unit {units} answers",
                    host=where.host,
                    units=", ".join(devices),
                )
                name = _named("modbus", where.host)
                return FoundLine(name, "modbus-rtu-tcp", settings, devices, sentence)
            search.speed = Speed(2400, "even")
            if meters := await meters_at(search):
                name = _named("mbus", where.host)
                return FoundLine(name, "mbus-tcp", settings, meters.devices, meters.sentence)
    return None


async def _who_is(own: str, target: str, port: int) -> FoundLine | NothingFound | None:
    """The BACnet devices that answer a Who-Is; None: none does."""
    loop, name = asyncio.get_running_loop(), f"{target}:{port}"
    broadcast = bool(own) or target.endswith(".255")
    own = own or await _own_address(target)
    instances: set[int] = set()
    with ExitStack() as stack:
        try:
            sockets = [
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                for _ in range(1 + broadcast)
            ]
            for bound in sockets:
                bound.setblocking(False)
            sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sockets[0].bind((own, port))
            if broadcast:  # devices announce themselves to all
                sockets[1].bind((target, port))
            sockets[0].sendto(WHO_IS if broadcast else TO_ONE, (target, port))
        except OSError as error:
            text = Text("BACnet could not be asked: {why}", why=error.strerror or str(error))
            return NothingFound(name, text)
        until = monotonic() + ANNOUNCED_WITHIN
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(max(0.0, until - monotonic())):
                await asyncio.gather(*(_announced(loop, bound, instances) for bound in sockets))
    if not instances:
        return None
    devices = tuple(map(str, sorted(instances)))
    settings: dict[str, object] = {"address": _with_prefix(own)}
    if port != BACNET_PORT:
        settings["port"] = port
    if not broadcast:
        settings["ask"] = [target]
    sentence = Plural(
        "BACnet/IP: 1 device answers, {devices}",
        "BACnet/IP: {number} devices answer, {devices}",
        len(devices),
        devices=", ".join(devices),
    )
    return FoundLine("bms", "bacnet", settings, devices, sentence)


async def _announced(
    loop: asyncio.AbstractEventLoop, bound: socket.socket, instances: set[int]
) -> None:
    while True:
        data = await loop.sock_recv(bound, 1500)
        at = data.find(I_AM)
        if data[:1] == b"\x81" and at > 0 and len(data) >= at + 7:
            instances.add(int.from_bytes(data[at + 3 : at + 7], "big") & 0x3FFFFF)


async def _own_address(target: str) -> str:
    """The gateway's address on the way to a target; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        probe.setblocking(False)
        await asyncio.get_running_loop().sock_connect(probe, (target, 9))
        return str(probe.getsockname()[0])
    return ""


def _with_prefix(own: str) -> str:
    """The own address as a BACnet line needs it: the interface that has it, else with a prefix."""
    for _index, name in socket.if_nameindex():
        with suppress(LinkLost):
            if station(name, 0).partition("/")[0] == own:
                return name
    return f"{own}/24"


def _named(kind: str, host: str) -> str:
    """A name for the line: `modbus-192-168-1-20`."""
    return f"{kind}-{''.join(c if c.isalnum() else '-' for c in host)}"[:64].rstrip("-")
