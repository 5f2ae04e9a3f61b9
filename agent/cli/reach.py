"""What `gardien doctor` asks of the network: names, connections, certificates."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.cli.examine import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config import Config

WITHIN = 5.0
"""seconds for one connection"""
PORTS = {"mqtt": 1883, "mqtts": 8883, "http": 80, "https": 443, "sftp": 22}
TLS = {"mqtts", "https"}
SOON = 30
"""days before its end at which a certificate is told"""


def lines(config: Config, held: set[str]) -> Iterator[Finding]:
    """Whether each line that is a host can be reached.

    Those that the agent holds open are left alone: many take one connection only.
    """
    for name, link in config.links.items():
        if name in held:
            yield Finding(f"line {name}", True, "the agent has it open")
            continue
        host = getattr(link.settings, "host", None)
        port = getattr(link.settings, "port", None)
        if isinstance(host, str) and isinstance(port, int):
            yield _reached(f"line {name}", host, port, "is it powered, and in this network?")


def uplinks(config: Config) -> Iterator[Finding]:
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
            yield _proved(what, parts.hostname, port, str(ca) if ca else None)


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


def _proved(what: str, host: str, port: int, ca: str | None) -> Finding:
    try:
        context = ssl.create_default_context(cafile=ca)
        with (
            socket.create_connection((host, port), timeout=WITHIN) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            told = secure.getpeercert() or {}
            how = secure.version()
    except ssl.SSLCertVerificationError as error:
        return Finding(what, False, f"{host} does not prove who it is: {error.verify_message}")
    except (OSError, ValueError) as error:
        return Finding(what, False, f"{host} port {port} does not speak TLS: {error}")
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(told["notAfter"])), UTC)
    left = (ends - datetime.now(UTC)).days
    said = f"{how}, certificate good for {left} days"
    return Finding(
        what, left > SOON, said + ("" if left > SOON else ": the platform must renew it")
    )
