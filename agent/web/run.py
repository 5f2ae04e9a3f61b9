"""The program `gardien-web`: serves the page until nobody uses it any more.

systemd passes the listening sockets (gardien-web.socket) and starts it when somebody connects.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import signal
import socket
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from agent.core.state import PACKAGED
from agent.core.systemd import log_handler, notify
from agent.web.client import Client
from agent.web.form_fields import LARGEST
from agent.web.pages import add_pages
from agent.web.serve import House
from agent.web.site import SITE, Site, answered

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

FIRST_HANDED_OVER = 3
"""the first socket of systemd (sd_listen_fds(3))"""
UNUSED, UNUSED_BY_PERSONS = 300.0, 20.0
"""seconds without a person until it exits: after its last person, and if there was none, only a
scraper
"""
ENDED_WITHIN = 2.0
"""seconds for requests that are being answered when it is asked to end"""
LOOK = 5.0
"""seconds between two looks at whether it is used"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the page. Exit status 0: nobody has used it for a while, or it was asked to end; 1:
    it has no address, or no certificate that can be used.
    """
    options = _options(arguments)
    handler = log_handler()
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    handed_over = _handed_over()
    listeners = handed_over or [_listening(at) for at in options.listen]
    if not listeners:
        raise SystemExit("gardien-web: no address to listen on. As root: gardien web open")
    context = tls_of(options.tls)
    unused = options.unused or (UNUSED if handed_over else math.inf)
    asyncio.run(serve(options.state, listeners, context, unused))


def tls_of(folder: Path) -> ssl.SSLContext:
    """Return TLS with the page's certificate. Raises SystemExit if it cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    try:
        # without a password: a key that has one would ask for it at a terminal
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SystemExit(
            f"gardien-web: the page cannot be shown, since {certificate} and {key} cannot be used:"
            f" {error}. For a new one: sudo gardien web open --new-certificate"
        ) from None
    return context


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("gardien-web", description="Serve gardien's web page.")
    parser.add_argument("--state", type=Path, default=PACKAGED, help="folder of the agent")
    parser.add_argument(
        "--tls",
        type=Path,
        default=Path(os.environ.get("STATE_DIRECTORY") or "/var/lib/gardien-web"),
        help="folder with certificate.pem and key.pem",
    )
    parser.add_argument(
        "--listen",
        action="append",
        default=[],
        metavar="ADDRESS:PORT",
        help="if systemd passes no socket; may be repeated",
    )
    parser.add_argument(
        "--unused",
        type=float,
        help="seconds without use after which it exits (default: never,"
        " or 300 if systemd starts it)",
    )
    return parser.parse_args(arguments)


async def serve(
    state: Path,
    listeners: Sequence[socket.socket],
    context: ssl.SSLContext,
    unused: float = UNUSED,
) -> None:
    """Serve until nobody uses the page, or until SIGTERM."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    app = application(state)
    # pages that wait for live values never end by themselves
    runner = web.AppRunner(
        app, handle_signals=False, access_log=None, shutdown_timeout=ENDED_WITHIN
    )
    await runner.setup()
    house = asyncio.create_task(House(runner, context).serve(listeners))
    notify("READY=1")
    for listener in listeners:
        log.info("the page: https://%s", address_of(listener))
    watch = asyncio.create_task(_until_unused(app[SITE], unused))
    wait = asyncio.create_task(ended.wait())
    await asyncio.wait({house, watch, wait}, return_when=asyncio.FIRST_COMPLETED)
    notify("STOPPING=1")
    for task in (house, watch, wait):
        task.cancel()
    await asyncio.gather(house, watch, wait, return_exceptions=True)
    await runner.cleanup()


def application(state: Path) -> web.Application:
    """Return the page for the agent with this state."""
    app = web.Application(middlewares=[answered], client_max_size=LARGEST)
    app[SITE] = Site(Client(state))
    add_pages(app)
    return app


async def _until_unused(shared: Site, unused: float) -> None:
    if math.isinf(unused):
        await asyncio.Event().wait()
    begun = shared.used
    while True:
        await asyncio.sleep(min(LOOK, unused))
        limit = unused if shared.used > begun else min(unused, UNUSED_BY_PERSONS)
        if not (shared.watching or shared.jobs.held) and time.monotonic() - shared.used >= limit:
            return


def _handed_over() -> list[socket.socket]:
    """Return the listening sockets that systemd has passed."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return [
        socket.socket(fileno=number)
        for number in range(FIRST_HANDED_OVER, FIRST_HANDED_OVER + count)
    ]


def address_of(listener: socket.socket) -> str:
    """Return the address of a listening socket as a URL has it."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listening(at: str) -> socket.socket:
    address, _colon, port = at.rpartition(":")
    host = address.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, int(port)), family=family, backlog=64)


if __name__ == "__main__":
    main()
