"""Checks of the clock and the network: lines that are hosts, and the recipients of the uplinks."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.api.diagnosis.machine import EXPIRES_SOON, fine, no_access
from agent.config.check import lacking_packages
from agent.core.clock import evidence, seconds
from agent.core.errors import LinkLost, UplinkLost
from agent.core.finding import Actor, Finding, Severity, as_text
from agent.core.i18n import Text
from agent.enrolment import credential, tls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.config import Config

CONNECT_TIMEOUT = 5.0
"""seconds for one connection"""
PORTS = {"mqtt": 1883, "mqtts": 8883, "http": 80, "https": 443, "sftp": 22}
TLS = {"mqtts", "https"}


def clock(config: Config | None) -> Iterator[Finding]:
    """Check that a time service keeps the clock."""
    subject = Text("clock")
    if config is not None and config.clock.source == "system":
        text = Text("trusted without a time service (`clock: {source: system}`)")
        yield fine("clock", subject, text)
        return
    service = evidence()
    if service.kernel or service.touched is not None:
        yield fine("clock", subject, Text("set by a time service"))
        return
    yield Finding(
        code="clock",
        subject=subject,
        what=Text("no time service sets it"),
        severity=Severity.LATER,
        cost=Text(
            "Once it cannot be trusted, readings wait undated. Allow outgoing UDP 123 in the"
            " firewall"
        ),
        cause="clock",
        actor=Actor.INSTALLER,
        command="sudo apt install systemd-timesyncd",
    )


def lines(config: Config, held: set[str]) -> Iterator[Finding]:
    """Check that each line that is a host can be reached, and that the BACnet port is free.

    Lines that the agent has open are not contacted: many devices accept one connection only.
    """
    for name, link in config.links.items():
        subject = Text("line {bus}", bus=name)
        if name in held:
            yield fine("line", subject, Text("the agent has it open"))
            continue
        if link.driver == "bacnet":
            yield _local_port(subject, link.settings.address, link.settings.port)
            continue
        host = getattr(link.settings, "host", None)
        port = getattr(link.settings, "port", None)
        if isinstance(host, str) and isinstance(port, int):
            remedy = Text("Check that it is powered and in this network")
            option = f"links.{name}.port"
            yield _connection(subject, host, port, remedy, f"line {name}", Severity.LOST, option)


def uplinks(config: Config, state: Path) -> Iterator[Finding]:
    """Check that each recipient can be reached and proves its identity."""
    yield from lacking_packages(config)
    for name, uplink in config.uplinks.items():
        parts = urlsplit(str(getattr(uplink.settings, "url", "")))
        if not parts.hostname or parts.scheme not in PORTS:
            continue
        subject, port = Text("uplink {uplink}", uplink=name), parts.port or PORTS[parts.scheme]
        remedy = Text("Check that the firewall lets TCP {port} out", port=str(port))
        cause = f"uplink {name}"
        option = f"uplinks.{name}.url"
        finding = _connection(
            subject, parts.hostname, port, remedy, cause, Severity.WAITING, option
        )
        yield finding
        # a host that does not answer would take the timeout a second time
        if finding.fine and parts.scheme in TLS:
            ca = getattr(uplink.settings, "ca", None)
            yield _tls_identity(subject, (parts.hostname, port), ca, credential.path(state), cause)


def _local_port(subject: Text, address: str, port: int) -> Finding:
    from bacpypes3.pdu import IPv4Address  # noqa: PLC0415 -- both take a while to import

    from agent.drivers.bacnet.settings import station  # noqa: PLC0415
    from agent.drivers.bacnet.wire import alone  # noqa: PLC0415

    try:
        at = station(address, port)
        alone(IPv4Address(at))
    except LinkLost as error:
        return Finding(
            code="line",
            subject=subject,
            what=as_text(error),
            severity=Severity.LOST,
            cause=str(subject),
            actor=Actor.INSTALLER,
            command=f"sudo ss --udp --listening --processes 'sport = :{port}'",
        )
    return fine("line", subject, Text("{address} is an address of this machine, and free",
                                      address=str(at)))  # fmt: skip


def _connection(  # noqa: PLR0913, PLR0917 -- what is connected, and how it is described
    subject: Text,
    host: str,
    port: int,
    remedy: Text,
    cause: str,
    severity: Severity,
    option: str,
) -> Finding:
    problem = {"code": "connection", "subject": subject, "severity": severity, "cause": cause}
    try:
        # apart from the connection: a wrong name and a closed port have different remedies
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return Finding(
            **problem,  # type: ignore[arg-type]
            what=Text(
                "the name {host} is not found ({why})", host=host, why=error.strerror or str(error)
            ),
            cost=Text("Check the name and DNS"),
            actor=Actor.INSTALLER,
            command=f"resolvectl query {host}",
        )
    values = {"host": host, "address": str(addresses[0][4][0]), "port": str(port)}
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        # a host that refuses is there: `ping` would only show that
        refused = isinstance(error, ConnectionRefusedError)
        return Finding(
            **problem,  # type: ignore[arg-type]
            what=Text(
                "{host} ({address}) port {port}: {why}",
                **values,
                why=error.strerror or str(error),
            ),
            cost=Text(
                "The host answers, but nothing listens on this port. Start what should listen"
                " there, or correct the port, then reload"
            )
            if refused
            else remedy,
            actor=Actor.INSTALLER,
            command=f"sudo gardien config set {option} NEW" if refused else f"ping -c 3 {host}",
        )
    text = Text("{host} ({address}) port {port} accepts connections", **values)
    return fine("connection", subject, text)


def _tls_identity(
    subject: Text, host: tuple[str, int], ca: Path | None, own_certificate: Path, cause: str
) -> Finding:
    """Check that both sides prove their identity by TLS; no data is sent."""
    readable = os.access(own_certificate, os.R_OK, effective_ids=True)
    try:
        # an account that may not read our certificate tries without it
        context = tls.context(ca, own_certificate if readable else None)
        with (
            socket.create_connection(host, timeout=CONNECT_TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host[0]) as secure,
        ):
            peer = secure.getpeercert() or {}
            tls_version = secure.version()
            _await_alert(secure)
    except UplinkLost as error:
        if ca is not None and isinstance(error.__cause__, PermissionError):
            return no_access("tls", subject, ca)
        return _not_proved(subject, as_text(error), cause)
    except (OSError, ValueError) as error:
        if own_certificate.exists() and not readable:
            # the error may be due to the certificate that this account could not present
            return no_access("tls", subject, own_certificate)
        why = tls.explain(error, f"{host[0]}:{host[1]}", seconds())
        return _not_proved(subject, as_text(why), cause)
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(peer["notAfter"])), UTC)
    left = (ends - datetime.now(UTC)).days
    what = Text(
        "{version}, its certificate is valid for {days} days", version=tls_version, days=left
    )
    if left > EXPIRES_SOON:
        return fine("tls", subject, what)
    return Finding(
        code="tls",
        subject=subject,
        what=what,
        severity=Severity.LATER,
        until=f"{ends:%Y-%m-%dT%H:%M:%SZ}",
        cost=Text("The platform must renew it, or nothing is delivered then"),
        actor=Actor.PLATFORM,
    )


def _not_proved(subject: Text, what: Text, cause: str) -> Finding:
    return Finding(
        code="tls",
        subject=subject,
        what=what,
        severity=Severity.WAITING,
        cause=cause,
        actor=Actor.INSTALLER,
        command="sudo gardien key show",
    )


def _await_alert(secure: ssl.SSLSocket) -> None:
    """Wait up to 1 s for an alert. Raises OSError if the peer ends the connection.

    In TLS 1.3 a peer refuses our certificate only after the handshake (RFC 8446, 4.4.2.4).
    """
    secure.settimeout(1.0)
    with suppress(TimeoutError):
        if not secure.recv(1):
            raise OSError("it closes the connection; perhaps it refuses our certificate")
