"""What `gardien doctor` asks of the network: names, connections, certificates."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.cli.examine import Finding, closed
from agent.clock import seconds
from agent.enrolment import credential, tls
from agent.errors import LinkLost, UplinkLost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.config import Config

WITHIN = 5.0
"""seconds for one connection"""
PORTS = {"mqtt": 1883, "mqtts": 8883, "http": 80, "https": 443, "sftp": 22}
TLS = {"mqtts", "https"}
SOON = 30
"""days before its end at which a certificate is told"""


def lines(config: Config, held: set[str]) -> Iterator[Finding]:
    """Whether each line that is a host can be reached, and a BACnet port of ours be had.

    Those that the agent holds open are left alone: many take one connection only.
    """
    for name, link in config.links.items():
        if name in held:
            yield Finding(f"line {name}", True, "the agent has it open")
            continue
        if link.driver == "bacnet":
            yield _ours(f"line {name}", link.settings.address, link.settings.port)
            continue
        host = getattr(link.settings, "host", None)
        port = getattr(link.settings, "port", None)
        if isinstance(host, str) and isinstance(port, int):
            yield _reached(f"line {name}", host, port, "is it powered, and in this network?")


def uplinks(config: Config, state: Path) -> Iterator[Finding]:
    """Whether each recipient can be reached, and proves to be who it should be."""
    for name, uplink in config.uplinks.items():
        parts = urlsplit(str(getattr(uplink.settings, "url", "")))
        if not parts.hostname or parts.scheme not in PORTS:
            continue
        what, port = f"uplink {name}", parts.port or PORTS[parts.scheme]
        remedy = f"does the firewall let TCP {port} out?"
        found = _reached(what, parts.hostname, port, remedy)
        yield found
        if found.fine and parts.scheme in TLS:
            ca = getattr(uplink.settings, "ca", None)
            yield _proved(what, parts.hostname, port, ca, credential.path(state))


def _ours(what: str, address: str, port: int) -> Finding:
    from bacpypes3.pdu import IPv4Address  # both take a while to import

    from agent.drivers.bacnet.settings import station
    from agent.drivers.bacnet.wire import alone

    try:
        at = station(address, port)
        alone(IPv4Address(at))
    except LinkLost as error:
        return Finding(what, False, str(error))
    return Finding(what, True, f"{at} is an address of ours, and free")


def _reached(what: str, host: str, port: int, remedy: str) -> Finding:
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        said = f"the name {host} is not found ({error.strerror}): is it right, does DNS work?"
        return Finding(what, False, said)
    address = addresses[0][4][0]
    try:
        socket.create_connection((host, port), timeout=WITHIN).close()
    except OSError as error:
        why = error.strerror or str(error)
        return Finding(what, False, f"{host} ({address}) port {port}: {why}: {remedy}")
    return Finding(what, True, f"{host} ({address}) port {port} takes connections")


def _proved(what: str, host: str, port: int, ca: Path | None, own: Path) -> Finding:
    """Whether both sides prove who they are; nothing is sent."""
    try:
        context = tls.context(ca, own if os.access(own, os.R_OK) else None)
        with (
            socket.create_connection((host, port), timeout=WITHIN) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            told = secure.getpeercert() or {}
            how = secure.version()
            _heard(secure)
    except UplinkLost as error:
        if ca is not None and isinstance(error.__cause__, PermissionError):
            return closed(what, ca)
        return Finding(what, False, str(error))
    except (OSError, ValueError) as error:
        if own.exists() and not os.access(own, os.R_OK):
            return closed(what, own)  # it may want our certificate
        return Finding(what, False, tls.explain(error, f"{host}:{port}", seconds()))
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(told["notAfter"])), UTC)
    left = (ends - datetime.now(UTC)).days
    said = f"{how}, its certificate is good for {left} days"
    return Finding(
        what, left > SOON, said + ("" if left > SOON else ": the platform must renew it")
    )


def _heard(secure: ssl.SSLSocket) -> None:
    """Listen for a moment: what it thinks of our certificate is said only now (RFC 8446, 4.4.2.4).

    Raises OSError.
    """
    secure.settimeout(1.0)
    with suppress(TimeoutError):
        if not secure.recv(1):
            raise OSError("it ends the connection; perhaps it refuses our certificate")
