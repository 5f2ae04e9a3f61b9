"""Whether the web page is open: what was opened, what listens, and its certificate."""

from __future__ import annotations

import ipaddress
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.config.web import ip_of, joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DROP_IN = Path("/etc/systemd/system/gardien-web.socket.d/listen.conf")
"""what `gardien web open` writes, and `gardien web close` removes"""
LISTEN = re.compile(r"^ListenStream=(\S+)$", re.MULTILINE)
SOCKETS = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
V4 = 4
LISTENING = "0A"
"""the state of a listening socket in these files (proc_pid_net(5))"""


def standing(
    configured: Sequence[str],
    drop_in: Path = DROP_IN,
    folder: Path | None = None,
    sockets: Iterable[Path] = SOCKETS,
) -> dict[str, Any] | None:
    """Return where the page is open; None: it is not configured, and was not opened.

    `listen`: the addresses of the configuration; `opened`: those that were opened; `listening`:
    those of both that listen now; `certificate`: see `page_certificate.facts`.
    """
    opened = tuple(read_opened(drop_in))
    if not configured and not opened:
        return None
    from agent.enrolment import page_certificate  # noqa: PLC0415 -- few gateways have a page

    now = set(listening(sockets))
    return {
        "listen": list(configured),
        "opened": list(opened),
        "listening": [one for one in dict.fromkeys((*opened, *configured)) if one in now],
        "certificate": page_certificate.facts(folder or page_certificate.FOLDER),
    }


def read_opened(drop_in: Path = DROP_IN) -> list[str]:
    """Return the addresses that were opened; none if the page is closed."""
    with suppress(OSError):
        return LISTEN.findall(drop_in.read_text(encoding="utf-8", errors="replace"))
    return []


def listening(sockets: Iterable[Path] = SOCKETS) -> Iterator[str]:
    """Yield each address on which this machine listens for TCP, as `ADDRESS:PORT`."""
    for path in sockets:
        with suppress(OSError):
            for line in path.read_text(encoding="ascii").splitlines()[1:]:
                _number, local, _remote, state = line.split()[:4]
                if state == LISTENING:
                    yield _address(local)


def _address(local: str) -> str:
    """Return an address of these files: hex digits, each 32 bits in the order of the processor."""
    digits, _, port = local.partition(":")
    raw = b"".join(
        int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8)
    )
    return joined(ipaddress.ip_address(raw), int(port, 16))


def machine_addresses(
    routes: Path = Path("/proc/self/net/fib_trie"), v6: Path = Path("/proc/self/net/if_inet6")
) -> list[str]:
    """Return the IP addresses of this machine, without those of loopback and link-local IPv6."""
    texts = []
    with suppress(OSError):
        text = routes.read_text(encoding="ascii")
        texts += re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", text)
    with suppress(OSError):
        for line in v6.read_text(encoding="ascii").splitlines():
            texts.append(str(ipaddress.ip_address(bytes.fromhex(line.split()[0]))))
    addresses = [ipaddress.ip_address(text) for text in dict.fromkeys(texts)]
    usable = [
        ip for ip in addresses if not ip.is_loopback and (ip.version == V4 or not ip.is_link_local)
    ]
    # those of a building's network first
    return [str(ip) for ip in sorted(usable, key=lambda ip: (not ip.is_private, ip.version))]


def urls(addresses: Iterable[str]) -> list[str]:
    """Return what people type into the browser, for the addresses on which the page listens."""
    made = []
    for address in addresses:
        ip, port = ip_of(address), int(address.rpartition(":")[2])
        named = [ip]
        if ip.is_unspecified:  # nobody can type that
            every = map(ipaddress.ip_address, machine_addresses())
            named = [one for one in every if one.version == ip.version] or named
        made += [f"https://{joined(one, port)}" for one in named]
    return made
