"""A pretend building before its first visit: 40 flats, two serial lines, and five faults to find.

    python -m hil.first_visit [FOLDER]

It writes the syndic's workbook to FOLDER, if one is named (that needs openpyxl), prints one line of
JSON (`ports`, `workbook`, `control`) and serves until it is ended. Each flat has an electricity
meter (Eastron SDM120, Modbus RTU) and a heat meter (M-Bus). The control port takes one question a
line and answers in JSON:

    display A-3-12 heat      what a person reads on the meter in that flat, now
    display A-3-12 elec.imp
    plate A-3-12 heat        the number on its plate
    faults                   what was planted, for the judge

Planted: two heat meters swapped between their flats, a dead meter, a meter whose index register is
ten times what its display shows, and two meters at one address. `faults` is the only place that
names them; workbook and lines only behave so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hil.curves import DAY, Load, load
from hil.mbus.encode import HEAT, Plate, energy_wh
from hil.mbus.line import Bus
from hil.mbus.serve import pty
from hil.mbus.slave import Slave
from hil.meter import Meter
from hil.serial_line import SerialLine
from hil.uart import Framing
from hil.visits import visits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STAIRCASES, FLOORS, DOORS = "AB", 5, 4
SEED = 21
ELECTRICITY, HEATING = "elec.imp", "heat"
SERIAL, KWH = 21_900_000, 45_210_000
"""the first serial number of the electricity meters, and of the heat meters"""
SWAPPED = ("A-2-3", "B-1-2")
DEAD = "A-4-1"
TEN_TIMES = "B-3-4"
SAME_ADDRESS = ("B-4-1", "B-4-2")
RTU_BAUDRATE, MBUS_BAUDRATE = 9600, 2400
WORKBOOK = "Liste des lots.xlsx"


@dataclass
class Flat:
    """One flat, and what is installed in it."""

    label: str
    unit: int
    """Modbus address of the electricity meter"""
    electricity: Meter
    heat: Load
    heat_serial: str
    """of the heat meter that hangs in the flat; the workbook may say another"""
    listed_heat: str = ""
    """of the heat meter that the workbook lists"""
    factor: float = 1.0
    """what the index register shows, by what the display shows"""

    def display(self, channel: str, t: float) -> float:
        """What a person reads in the flat at `t`: kWh with one digit, and with three of heat."""
        if channel == ELECTRICITY:
            return int(self.electricity.load.energy(t) * 10) / 10
        if channel == HEATING:
            return int(self.heat.energy(t) * 1000) / 1000
        raise ValueError(f"no meter of {channel} in {self.label}")


@dataclass
class FirstVisit:
    """The open building."""

    flats: dict[str, Flat]
    ports: dict[str, str] = field(default_factory=dict)
    """`modbus` and `mbus`: the paths of the serial ports"""
    workbook: Path | None = None

    @classmethod
    def planned(cls) -> Self:
        """Give the building without its lines: what hangs where is always the same."""
        return cls(_flats())

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path | None = None, *, paced: bool = True) -> AsyncIterator[Self]:
        """Serve both lines, and write the workbook into `folder`. Not `paced`: without the time
        that bytes take on a wire.
        """
        building = cls.planned()
        if folder:
            building.workbook = building.write_workbook(folder / WORKBOOK)
        bus = Bus(building.heat_meters(), baudrate=MBUS_BAUDRATE, paced=paced)
        async with (
            SerialLine.open(RTU_BAUDRATE if paced else 0, framing=Framing(RTU_BAUDRATE)) as line,
            pty(bus, strict=True) as heat,
        ):
            for flat in building.flats.values():
                if flat.label != DEAD:
                    line.add(flat.unit, partial(_electricity, flat))
            building.ports = {"modbus": line.port, "mbus": heat}
            yield building

    def heat_meters(self) -> list[Slave]:
        """The slaves of the M-Bus line."""
        return [
            Slave(Plate(flat.heat_serial, medium=HEAT), partial(_heat, flat))
            for flat in self.flats.values()
        ]

    def write_workbook(self, path: Path) -> Path:
        """Write what the syndic's software exports: lots with names, and a sheet of meters."""
        from openpyxl import Workbook  # noqa: PLC0415 -- a clean Debian does not have it

        book = Workbook()
        lots = book.active
        assert lots is not None
        lots.title = "Lots"
        lots.append(["Résidence Les Alpins - liste des lots au 01/11/2026"])
        lots.append([])
        lots.append(["N° lot", "Bât.", "Étage", "Porte", "Nature", "Occupant", "Entrée", "Surface"])
        for number, label in enumerate(self.flats, 1):
            staircase, floor, door = label.split("-")
            who, since = f"OCCUPANT {number}", f"01/{1 + number % 12:02d}/{2015 + number % 9}"
            row = [number, staircase, floor, door, "Appartement", who, since, 45 + number]
            lots.append(row)
            lots.append([100 + number, staircase, "SS", "", "Cave", who, "", 4])
        lots.append(["Total", len(self.flats)])
        meters = book.create_sheet("Compteurs")
        meters.append(["Matricule", "Bât.", "Étage", "Porte", "Grandeur", "Date de pose"])
        for flat in self.flats.values():
            place = flat.label.split("-")
            serial = str(flat.electricity.serial)
            meters.append([serial, *place, "Électricité", "12/05/2021"])
            meters.append([flat.listed_heat, *place, "Chauffage", "12/05/2021"])
        book.save(path)
        return path

    def faults(self) -> dict[str, Any]:
        """What was planted."""
        dead, ten = self.flats[DEAD], self.flats[TEN_TIMES]
        return {
            "swapped": {label: self.flats[label].heat_serial for label in SWAPPED},
            "dead": {"label": dead.label, "serial": str(dead.electricity.serial)},
            "factor": {"label": ten.label, "serial": str(ten.electricity.serial), "times": 10},
            "address": {
                "unit": self.flats[SAME_ADDRESS[0]].unit,
                "labels": list(SAME_ADDRESS),
                "serials": [str(self.flats[one].electricity.serial) for one in SAME_ADDRESS],
            },
        }

    def obey(self, question: str) -> dict[str, Any]:
        """Answer one question of the control port."""
        match question.split():
            case ["display", label, channel] if label in self.flats:
                try:
                    return {"shows": self.flats[label].display(channel, time.time())}
                except ValueError as error:
                    return {"error": str(error)}
            case ["plate", label, channel] if label in self.flats:
                flat = self.flats[label]
                heat = channel == HEATING
                return {"number": flat.heat_serial if heat else str(flat.electricity.serial)}
            case ["faults"]:
                return self.faults()
        return {"error": f"not understood: {question.strip()!r}"}


def _flats() -> dict[str, Flat]:
    began = time.time() // DAY * DAY
    labels = [
        f"{staircase}-{floor}-{door}"
        for staircase in STAIRCASES
        for floor in range(1, FLOORS + 1)
        for door in range(1, DOORS + 1)
    ]
    flats = {}
    for number, label in enumerate(labels, 1):
        meter = Meter(0, number, SERIAL + number, load(SEED, 1, number, began))
        flats[label] = Flat(
            label, number, meter, load(SEED, 2, number, began), f"{KWH + number:08d}"
        )
    for flat in flats.values():
        flat.listed_heat = flat.heat_serial
    first, second = (flats[label] for label in SWAPPED)
    first.listed_heat, second.listed_heat = second.heat_serial, first.heat_serial
    flats[TEN_TIMES].factor = 10.0
    flats[SAME_ADDRESS[1]].unit = flats[SAME_ADDRESS[0]].unit
    return flats


def _electricity(flat: Flat, pdu: bytes) -> bytes:
    meter = flat.electricity
    if flat.factor != 1:
        true = meter.load
        parts = tuple(_Times(part, flat.factor) for part in true.parts)
        meter = replace(meter, load=replace(true, parts=parts, index=true.index * flat.factor))
    answer, _ = meter.answer(pdu, time.time())
    return answer


@dataclass(frozen=True, slots=True)
class _Times:
    """A part of a load whose energy is counted in another unit; its power is right."""

    part: Any
    factor: float

    def power(self, t: float) -> float:
        return float(self.part.power(t))

    def energy(self, t: float) -> float:
        return float(self.part.energy(t)) * self.factor


def _heat(flat: Flat) -> list[bytes]:
    return [energy_wh(int(flat.heat.energy(time.time()) * 1000))]


async def serve(folder: Path | None, *, paced: bool) -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with FirstVisit.open(folder, paced=paced) as building:

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while question := await reader.readline():
                answer = json.dumps(building.obey(question.decode()))
                writer.write(answer.encode() + b"\n")
                await writer.drain()

        async with visits(listen) as control:
            workbook = building.workbook and str(building.workbook)
            said = {"ports": building.ports, "workbook": workbook, "control": control}
            print(json.dumps(said), flush=True)
            await ended.wait()


def main() -> None:
    """Run the pretend building from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hil.first_visit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, nargs="?", help="where the workbook is written")
    parser.add_argument("--at-once", action="store_true", help="bytes take no time on the wire")
    wanted = parser.parse_args()
    asyncio.run(serve(wanted.folder, paced=not wanted.at_once))


if __name__ == "__main__":
    main()
