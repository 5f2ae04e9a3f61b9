"""The socket of the web page, as systemd has it: where it listens, opened and closed."""

from __future__ import annotations

import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

SOCKET, SERVICE = "gardien-web.socket", "gardien-web.service"
EDITS = "gardien-edit.socket"
"""by which the agent has changes of its configuration written that the page asks for"""
UNIT = Path("/usr/lib/systemd/system") / SOCKET
"""of the Debian package gardien-web"""
HEAD = "# gardien-web(8)"
WITHIN = 60.0
"""seconds that systemd may take to start or stop a unit"""
FREEBIND = 15
"""IP_FREEBIND of ip(7): also an address that this machine does not have yet"""


def drop_in(addresses: Sequence[str]) -> str:
    """Return the drop-in of the socket that opens these addresses."""
    lines = [HEAD, "[Socket]", *(f"ListenStream={address}" for address in addresses)]
    return "\n".join(lines) + "\n"


def start(addresses: Sequence[str], *, changed: bool) -> None:
    """Have systemd listen on these addresses, now and after a start. Raises Refused.

    `changed`: the page must read its certificate again.
    """
    from agent.api.page import DROP_IN

    text = drop_in(addresses)
    with suppress(OSError):
        # people who use the page are not cut off by another set-up window
        if DROP_IN.read_text("utf-8") == text and not changed and _is_active():
            return
    _stop()
    try:
        DROP_IN.parent.mkdir(parents=True, exist_ok=True)
        DROP_IN.write_text(text, encoding="utf-8")
        DROP_IN.chmod(0o644)
    except OSError as error:
        raise Refused("{path}: {reason}", path=DROP_IN, reason=error) from error
    try:
        systemctl("daemon-reload")
        systemctl("enable", "--now", *_sockets())
    except Refused:
        shut()  # else it would be tried again at each start
        raise


def see_that_they_are_free(addresses: Sequence[str]) -> None:
    """Raise Refused if another program listens on one of these addresses."""
    from agent.api.page import read_opened

    ours = read_opened()
    for address in addresses:
        if address not in ours:
            _see_that_it_is_free(address)


def _see_that_it_is_free(address: str) -> None:
    from agent.config.web import ip_of

    ip, port = ip_of(address), int(address.rpartition(":")[2])
    family = socket.AF_INET6 if ":" in str(ip) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.setsockopt(socket.IPPROTO_IP, FREEBIND, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((str(ip), port))
        except OSError as error:
            raise Refused(
                "the page cannot listen on {address}: {reason}. Another port may be free: sudo"
                " gardien web open --listen {other}",
                address=address,
                reason=error,
                other=address.rpartition(":")[0] + f":{port + 1}",
            ) from error


def shut() -> None:
    """Close the page: stop its units, also for the next start. Raises Refused."""
    from agent.api.page import DROP_IN

    if not UNIT.exists() and not DROP_IN.exists():
        return
    if UNIT.exists():
        systemctl("disable", *_sockets())
        _stop()
    with suppress(OSError):
        DROP_IN.unlink(missing_ok=True)
        DROP_IN.parent.rmdir()
    systemctl("daemon-reload")


def _sockets() -> list[str]:
    return [name for name in (SOCKET, EDITS) if UNIT.with_name(name).exists()]


def _stop() -> None:
    # without an address the page's socket is no unit that could be stopped
    names = _sockets() if _is_active() else _sockets()[1:]
    systemctl("stop", SERVICE, *names)


def _is_active() -> bool:
    command = ("systemctl", "is-active", "--quiet", SOCKET)
    return subprocess.run(command, check=False, timeout=WITHIN).returncode == 0  # noqa: S603


def systemctl(*arguments: str) -> None:
    """Run systemctl. Raises Refused with what it says."""
    command = ("systemctl", "--quiet", *arguments)
    typed = " ".join(("systemctl", *arguments))
    try:
        done = subprocess.run(  # noqa: S603
            command, check=False, capture_output=True, text=True, timeout=WITHIN
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused("{command}: {reason}", command=typed, reason=error) from error
    if done.returncode:
        reason = done.stderr.strip() or str(done.returncode)
        raise Refused("{command}: {reason}", command=typed, reason=reason)
