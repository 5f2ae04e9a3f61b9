"""Train on an RS-485 line without a meter: a serial port of this machine with simulated meters.

    python -m hil.serial --meters 4 --silent 3

It prints the port, what to write in the configuration, and what to try, in French and English, and
serves until Ctrl-C. As on a real line, meters understand only their own speed, and answer slowly.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hil.curves import DAY, load
from hil.meter import Meter, serial_of
from hil.serial_line import RATES, SerialLine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FRENCH = """\
Un bus RS-485 pour s'exercer, avec {meters} compteurs Eastron SDM120 simulés (Ctrl-C l'arrête).
Port : {port}    Vitesse : {baudrate} bauds
{list}
À écrire dans la configuration :

{config}
Puis, dans un autre terminal :

    gardien scan essai           # trouve les compteurs ; --add les écrit dans la configuration
    gardien read essai-1         # relève le premier
"""
ENGLISH = """\
An RS-485 line to train on, with {meters} simulated Eastron SDM120 meters (Ctrl-C ends it).
Port: {port}    Speed: {baudrate} baud
{list}
Write into the configuration:

{config}
Then, in another terminal:

    gardien scan essai           # finds the meters; --add writes them into the configuration
    gardien read essai-1         # reads the first
"""
CONFIG = """\
    links:
      essai: {{driver: modbus-rtu, port: {port}, baudrate: {baudrate}}}
    devices:
      essai-1: {{link: essai, address: {first}, profile: eastron-sdm120}}
"""
WORDS = {
    FRENCH: ("adresse {unit}, n° de série {serial}", " : muet, comme un compteur débranché"),
    ENGLISH: ("address {unit}, serial number {serial}", ": silent, like a disconnected meter"),
}


def instructions(port: str, baudrate: int, meters: Sequence[Meter]) -> str:
    """What a person must know, in both languages."""
    first = next((meter.unit for meter in meters if not meter.silent), 1)
    config = CONFIG.format(port=port, baudrate=baudrate, first=first)
    texts = []
    for text, (line, silent) in WORDS.items():
        lines = [
            f"  {line.format(unit=meter.unit, serial=meter.serial)}{silent if meter.silent else ''}"
            for meter in meters
        ]
        texts.append(
            text.format(
                meters=len(meters), port=port, baudrate=baudrate, list="\n".join(lines),
                config=config,
            )
        )  # fmt: skip
    return "\n".join(texts)


async def serve(baudrate: int, meters: Sequence[Meter], port: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT; `port`: another name for the port, which stays the same."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with SerialLine.open(baudrate) as line:
        line.trouble.deaf = lambda: line.adapter != baudrate
        for meter in meters:
            if not meter.silent:
                line.add(meter.unit, partial(_answer, meter))
        with _named(port, line.port):
            print(instructions(str(port or line.port), baudrate, meters), flush=True)
            await ended.wait()


@contextmanager
def _named(port: Path | None, target: str) -> Iterator[None]:
    if port is None:
        yield
        return
    port.symlink_to(target)
    try:
        yield
    finally:
        port.unlink()


def _answer(meter: Meter, pdu: bytes) -> bytes:
    return meter.answer(pdu, time.time())[0]


def main() -> None:
    """Run the line from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hil.serial",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--meters", type=int, default=3, help="meters (default 3)")
    parser.add_argument(
        "--baudrate", type=int, default=9600, choices=RATES, help="their speed (default 9600)"
    )
    parser.add_argument(
        "--silent", type=int, nargs="*", default=[], metavar="ADDRESS", help="these do not answer"
    )
    parser.add_argument("--port", type=Path, help="a name for the port, such as /tmp/rs485")
    parser.add_argument("--seed", type=int, default=1, help="fixes serials and loads (default 1)")
    wanted = parser.parse_args()
    if not 1 <= wanted.meters <= 247:
        parser.error("1 to 247 meters")
    if wanted.port is not None and wanted.port.exists(follow_symlinks=False):
        parser.error(f"{wanted.port} exists already: remove it, or choose another name")
    began = time.time() // DAY * DAY
    meters = [
        Meter(
            0, unit, serial_of(wanted.seed, 0, unit), load(wanted.seed, 0, unit, began),
            silent=unit in wanted.silent,
        )
        for unit in range(1, wanted.meters + 1)
    ]  # fmt: skip
    asyncio.run(serve(wanted.baudrate, meters, wanted.port))


if __name__ == "__main__":
    main()
