"""A word to systemd (sd_notify(3)): ready, still alive, stopping. Silent where nobody listens."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send one assignment, such as `READY=1`, to the supervisor that started us, if any."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall(state.encode())


def watchdog_period() -> float | None:
    """Seconds between two `WATCHDOG=1`, half of what systemd asks for; None where it does not."""
    wanted = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(wanted) / 2_000_000 if wanted.isdigit() and ours else None
