"""The pretend boiler room: boiler, stairs, ventilation and meter, each a BACnet controller.

    python -m hil.bacnet --faster 60

It prints one line of JSON (the stations and what is on them) and serves on loopback until it is
ended. Time runs as fast as it does outside, or faster.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from bacpypes3.apdu import ErrorRejectAbortNack
from bacpypes3.basetypes import BinaryPV, PriorityValue
from bacpypes3.primitivedata import Real, Unsigned

from hil.bacnet.controller import (
    Controller,
    accumulator,
    analog_command,
    analog_input,
    analog_output,
    binary_command,
    controller,
    free_udp_port,
    timed_output,
)
from hil.bacnet.plant import Plant, outdoor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STEP_S = 0.5
BOILER, STAIRS, VENTILATION, METER = 1201, 1202, 1203, 1204


def objects() -> dict[int, tuple[str, list[Any]]]:
    """What each controller has, by its instance number."""
    return {
        BOILER: (
            "Chaufferie",
            [
                analog_input(1, "T depart", 53, "degrees-celsius", "départ chauffage"),
                analog_input(2, "T retour", 41, "degrees-celsius", "retour chauffage"),
                analog_input(3, "T exterieure", 5, "degrees-celsius"),
                analog_input(4, "Compteur chaleur", 48_211, "kilowatt-hours"),
                analog_command(7, "Decalage", 0, "delta-degrees-kelvin"),
                binary_command(3, "DR inhibit"),
                binary_command(4, "DR active"),
                analog_command(8, "DR value", 0, "delta-degrees-kelvin"),
                analog_command(9, "DR minutes", 0, "minutes"),
                analog_command(10, "DR by", 0, "no-units"),
                analog_command(11, "DR alive", 0, "no-units"),
                timed_output(1, "Pompe", 5.0),
            ],
        ),
        STAIRS: (
            "Escalier",
            [
                analog_input(4, "T escalier", 20, "degrees-celsius"),
                analog_input(5, "CO2 escalier", 420, "parts-per-million"),
            ],
        ),
        VENTILATION: ("VMC", [analog_output(1, "Vitesse", 60, "percent")]),
        METER: (
            "Compteur elec",
            [
                analog_input(1, "Energie", 3_120, "kilowatt-hours", "électricité chaufferie"),
                analog_input(2, "Puissance", 400, "watts"),
                accumulator(1, "Chaleur impulsions", 482_110, "kilowatt-hours", integer_scale=-1),
                accumulator(2, "Gaz", 123_456, "cubic-meters", float_scale=0.01),
            ],
        ),
    }


@asynccontextmanager
async def boiler_room(faster: float = 1.0) -> AsyncIterator[dict[int, Controller]]:
    """Serve all controllers, alive, until the block is left."""
    port = free_udp_port()
    async with AsyncExitStack() as stack:
        made = {}
        for n, (instance, (name, things)) in enumerate(objects().items()):
            at = f"127.0.2.{n + 1}/32:{port}"
            one = await stack.enter_async_context(controller(at, instance, things, name=name))
            made[instance] = one
        pump = made[BOILER].there("binary-output", 1)
        pump.priorityArray[15] = PriorityValue(enumerated=BinaryPV("active"))
        life = asyncio.create_task(_live(made, faster))
        stack.callback(life.cancel)
        yield made


async def _live(made: dict[int, Controller], faster: float) -> None:
    plant, began = Plant(), time.time()
    while True:
        now = began + (time.time() - began) * faster
        boiler = made[BOILER]
        speed = float(made[VENTILATION].there("analog-output", 1).presentValue)
        inhibited = int(boiler.there("binary-value", 3).presentValue)
        offset = 0.0 if inhibited else float(boiler.there("analog-value", 7).presentValue)
        pump = bool(int(boiler.there("binary-output", 1).presentValue))
        plant.step(now, STEP_S * faster, offset=offset, pump=pump, speed=speed)
        _show(made, plant, now, speed=speed, pump=pump)
        await asyncio.sleep(STEP_S)


def _show(
    made: dict[int, Controller], plant: Plant, now: float, *, speed: float, pump: bool
) -> None:
    shown = {
        BOILER: {1: plant.supply, 2: plant.back, 3: outdoor(now), 4: plant.heat_kwh},
        STAIRS: {4: plant.room, 5: plant.co2(now, speed)},
        METER: {1: plant.pump_kwh, 2: 400.0 if pump else 20.0},
    }
    for instance, values in shown.items():
        for number, value in values.items():
            made[instance].there("analog-input", number).presentValue = Real(round(value, 2))
    pulses = Unsigned(int(plant.heat_kwh * 10))
    made[METER].there("accumulator", 1).presentValue = pulses


def describe(made: dict[int, Controller]) -> dict[str, Any]:
    """Say where everything is."""
    return {
        "controllers": [
            {"instance": instance, "station": one.station, "address": f"{instance}@{one.station}"}
            for instance, one in made.items()
        ]
    }


def _quiet(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A subscriber that was killed answers no notification: no reason to say anything."""
    if not isinstance(context.get("exception"), ErrorRejectAbortNack):
        loop.default_exception_handler(context)


async def serve(faster: float) -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    asyncio.get_running_loop().set_exception_handler(_quiet)
    async with boiler_room(faster) as made:
        print(json.dumps(describe(made)), flush=True)
        await ended.wait()


def main() -> None:
    """Run the pretend boiler room from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hil.bacnet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--faster", type=float, default=1.0, help="how much faster time runs there")
    asyncio.run(serve(parser.parse_args().faster))


if __name__ == "__main__":
    main()
