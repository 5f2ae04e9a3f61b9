"""A real mosquitto on a private loopback port: `python -m hil.broker --help`.

It has no persistence, so whatever it took and has not handed on dies with it: the hard case.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hil.process import START_SECONDS, Child, accepts, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

MOSQUITTO = "/usr/sbin/mosquitto"
PLAIN = ("persistence false", "allow_anonymous true", "log_dest stderr", "log_type error")


class Broker(Child):
    """A mosquitto; `kill` and `start` leave it on the same port."""

    def __init__(self, config: Path, port: int) -> None:
        super().__init__((MOSQUITTO, "-c", str(config)))
        self.port = port

    @property
    def url(self) -> str:
        """As the agent's configuration writes it."""
        return f"mqtt://127.0.0.1:{self.port}"

    async def start(self, within: float = START_SECONDS) -> None:
        """Start, and wait until it accepts connections. Raises TimeoutError."""
        await super().start(within)
        await accepts(self.port, within)


@asynccontextmanager
async def broker(port: int = 0, more: Sequence[str] = ()) -> AsyncIterator[Broker]:
    """Run a mosquitto, with `more` lines of configuration, for as long as the block."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="broker-") as folder:
        config = Path(folder) / "mosquitto.conf"
        lines = (f"listener {port} 127.0.0.1", *PLAIN, *more)
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        async with Broker(config, port) as running:
            yield running


async def _run(port: int, more: Sequence[str]) -> None:
    async with broker(port, more) as running:
        print(f"ready {running.url}", flush=True)
        ended = asyncio.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(sign, ended.set)
        await ended.wait()  # so that no broker outlives us


def main() -> None:
    """Run until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m hil.broker", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; default: a free one")
    parser.add_argument("--with", dest="more", action="append", default=[], metavar="LINE",
                        help="one more line of mosquitto.conf")  # fmt: skip
    chosen = parser.parse_args()
    asyncio.run(_run(chosen.port, chosen.more))


if __name__ == "__main__":
    main()
