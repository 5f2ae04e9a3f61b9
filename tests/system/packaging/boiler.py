"""A pretend boiler controller with a register that may be commanded, and who commands it.

`python -m boiler PORT FILE` serves it; FILE gets a line for each value written: {"at", "value"}. It
judges what was given back: nobody else knows what stands in the register.
"""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from hil.modbus_server import ILLEGAL_ADDRESS, READ_INPUT, Reply, asked, refuse, serving

OFFSET, ROOM = 7, 4
WRITE, WRITE_SEVERAL = 6, 16
NAME = "boiler-offset"
BEFORE, ORDERED = 15, -15
"""tenths of a kelvin: what stands in the register at first, which no order could have set"""
LINK = "  plant: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 500ms}}\n"
DEVICE = """\
  boiler:
    link: plant
    address: 1
    points:
      offset: {at: "holding/7/int16", unit: K, scale: 0.1, every: 10s, writable: true}
      room: {at: "input/4/int16", unit: Cel, scale: 0.1, every: 10s}
"""
CONTROLS = """\
controls:
  boiler-offset:
    point: boiler/offset
    equipment: heating
    modality: {action: offset, min: -20, max: 1, max_duration: 2h}
    guards: [{name: stairwell, point: boiler/room, min: 18.0}]
    require: [building_manager]
    restore: preimage
    device_watchdog: none-accepted
trust: {threshold: 1}
"""


def standing(file):
    """What stands in the register, and since when: {value, at}."""
    lines = Path(file).read_text().splitlines()
    return json.loads(lines[-1]) if lines else {"value": BEFORE, "at": 0.0}


def serve(port, file):
    file.touch()
    registers = {OFFSET: standing(file)["value"], ROOM: 205}

    def answer(_unit, pdu):
        if pdu[0] in {WRITE, WRITE_SEVERAL}:
            address = int.from_bytes(pdu[1:3], "big")
            if address != OFFSET:
                return Reply(refuse(pdu[0], ILLEGAL_ADDRESS))
            registers[OFFSET] = int.from_bytes(pdu[-2:], "big", signed=True)
            with file.open("a") as log:
                log.write(json.dumps({"at": time.time(), "value": registers[OFFSET]}) + "\n")
            return Reply(pdu[:5])
        wanted = asked(pdu)
        if isinstance(wanted, bytes):
            return Reply(wanted)
        function, address, count = wanted
        only = ROOM if function == READ_INPUT else OFFSET
        if (address, count) != (only, 1):
            return Reply(refuse(function, ILLEGAL_ADDRESS))
        return Reply(bytes([function, 2]) + registers[only].to_bytes(2, "big", signed=True))

    async def for_ever():
        async with serving(answer, port):
            await asyncio.Event().wait()

    asyncio.run(for_ever())


class Centre:
    """Who orders: a trust list with a grant, then order after order, by the command line."""

    def __init__(self, folder, gardien="gardien"):
        from hil.signers import Signers

        self.folder, self.command, self.people = Path(folder), gardien, Signers()
        self.audience = ""

    def gardien(self, *words):
        done = subprocess.run((self.command, *words), check=False, text=True, capture_output=True)
        print(
            "$", *words, "->", done.returncode, done.stdout[-800:], done.stderr[-800:], flush=True
        )
        return done

    def _file(self, name, content):
        (self.folder / name).write_bytes(content)
        return str(self.folder / name)

    def trusted(self):
        file = self._file("trust.jws", self.people.trust())
        sha256 = self.gardien("trust", "accept", file).stderr.split("--sha256 ")[1].split()[0]
        self.gardien("trust", "accept", file, "--sha256", sha256)
        self.audience = json.loads(self.gardien("trust", "show", "--json").stdout)["audience"]
        gateway = self.audience.partition(".")[0]
        grant = self.people.grant("building_manager", gateway, min=-20, unit="K")
        self.gardien("object", "accept", self._file("grant.jwt", grant))

    def orders(self, seconds=600):
        """Until the boiler's guard is known an order is refused."""
        raw = self.people.order(self.audience, [NAME], str(ORDERED / 10), seconds)
        self.gardien("object", "accept", self._file("order.jwt", raw))

    def control(self):
        done = self.gardien("control", "list", "--json")
        return json.loads(done.stdout)[NAME] if done.stdout.startswith("{") else None


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
