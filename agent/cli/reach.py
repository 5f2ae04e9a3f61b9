"""The checks of `gardien doctor` on the network: names, connections, certificates."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.cli.examine import Finding, no_access
from agent.core.clock import seconds
from agent.core.errors import LinkLost, UplinkLost
from agent.enrolment import credential, tls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.config import Config

CONNECT_TIMEOUT = 5.0
"""seconds for one connection"""
PORTS = {"mqtt": 1883, "mqtts": 8883, "http": 80, "https": 443, "sftp": 22}
TLS = {"mqtts", "https"}
EXPIRES_SOON = 30
"""days before its end at which a certificate is reported"""


def lines(config: Config, held: set[str]) -> Iterator[Finding]:
    """Check that each line that is a host can be reached, and that the BACnet port is free.

    Lines that the agent has open are not contacted: many devices accept one connection only.
    """
    for name, link in config.links.items():
        if name in held:
            yield Finding(f"line {name}", True, "the agent has it open")
            continue
        if link.driver == "bacnet":
            yield _local_port(f"line {name}", link.settings.address, link.settings.port)
            continue
        host = getattr(link.settings, "host", None)
        port = getattr(link.settings, "port", None)
        if isinstance(host, str) and isinstance(port, int):
            yield _connection(
                f"line {name}", host, port, "check that it is powered and in this network"
            )


def uplinks(config: Config, state: Path) -> Iterator[Finding]:
    """Check that each recipient can be reached and proves its identity."""
    for name, uplink in config.uplinks.items():
        parts = urlsplit(str(getattr(uplink.settings, "url", "")))
        if not parts.hostname or parts.scheme not in PORTS:
            continue
        what, port = f"uplink {name}", parts.port or PORTS[parts.scheme]
        remedy = f"check that the firewall lets TCP {port} out"
        finding = _connection(what, parts.hostname, port, remedy)
        yield finding
        # a host that does not answer would take the timeout a second time
        if finding.fine and parts.scheme in TLS:
            ca = getattr(uplink.settings, "ca", None)
            yield _tls_identity(what, parts.hostname, port, ca, credential.path(state))


def _local_port(what: str, address: str, port: int) -> Finding:
    from bacpypes3.pdu import IPv4Address  # both take a while to import

    from agent.drivers.bacnet.settings import station
    from agent.drivers.bacnet.wire import alone

    try:
        at = station(address, port)
        alone(IPv4Address(at))
    except LinkLost as error:
        return Finding(what, False, str(error))
    return Finding(what, True, f"{at} is an address of this machine, and free")


def _connection(what: str, host: str, port: int, remedy: str) -> Finding:
    try:
        # apart from the connection: a wrong name and a closed port have different remedies
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        text = f"the name {host} is not found ({error.strerror}): check the name and DNS"
        return Finding(what, False, text)
    address = addresses[0][4][0]
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        why = error.strerror or str(error)
        return Finding(what, False, f"{host} ({address}) port {port}: {why}: {remedy}")
    return Finding(what, True, f"{host} ({address}) port {port} accepts connections")


def _tls_identity(
    what: str, host: str, port: int, ca: Path | None, own_certificate: Path
) -> Finding:
    """Check that both sides prove their identity by TLS; no data is sent."""
    try:
        # an account that may not read our certificate tries without it
        context = tls.context(ca, own_certificate if os.access(own_certificate, os.R_OK) else None)
        with (
            socket.create_connection((host, port), timeout=CONNECT_TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            peer = secure.getpeercert() or {}
            tls_version = secure.version()
            _await_alert(secure)
    except UplinkLost as error:
        if ca is not None and isinstance(error.__cause__, PermissionError):
            return no_access(what, ca)
        return Finding(what, False, str(error))
    except (OSError, ValueError) as error:
        if own_certificate.exists() and not os.access(own_certificate, os.R_OK):
            # the error may be due to the certificate that this account could not present
            return no_access(what, own_certificate)
        return Finding(what, False, tls.explain(error, f"{host}:{port}", seconds()))
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(peer["notAfter"])), UTC)
    left = (ends - datetime.now(UTC)).days
    text = f"{tls_version}, its certificate is valid for {left} days"
    return Finding(
        what,
        left > EXPIRES_SOON,
        text + ("" if left > EXPIRES_SOON else ": the platform must renew it"),
    )


def _await_alert(secure: ssl.SSLSocket) -> None:
    """Wait up to 1 s for an alert. Raises OSError if the peer ends the connection.

    In TLS 1.3 a peer refuses our certificate only after the handshake (RFC 8446, 4.4.2.4).
    """
    secure.settimeout(1.0)
    with suppress(TimeoutError):
        if not secure.recv(1):
            raise OSError("it closes the connection; perhaps it refuses our certificate")
