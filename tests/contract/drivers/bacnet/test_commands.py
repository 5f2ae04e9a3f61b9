"""Guards rule G6 (given back) on the driver's side. BAC0, not our driver, looks at what stands
in the controller: another library's word, in a process of its own."""

import asyncio
import json
import signal
import subprocess
import sys
from decimal import Decimal

import pytest

from agent.core.errors import Refused, WriteRefused
from hil.bacnet.controller import (
    Faults,
    analog_command,
    analog_input,
    binary_command,
    free_udp_port,
    mode,
    timed_output,
)
from tests.contract.drivers.bacnet.net import net, point, values

OFFSET, INHIBIT, MODE = point("analog-value,7"), point("binary-value,3"), point("19,1")
PUMP = point("binary-output,1")


def plant():
    return [
        analog_command(7, "offset", 0.5, "delta-degrees-kelvin"),
        binary_command(3, "inhibit"),
        mode(1, "mode", ["off", "eco", "comfort"]),
        timed_output(1, "pump", 2),
        analog_input(1, "t", 20, "degrees-celsius"),
    ]


BAC0_LOOKS = """
import asyncio, json, logging, sys, warnings
warnings.simplefilter("ignore")
import BAC0
async def main(ours, controller):
    BAC0.log_level("silence")
    async with BAC0.start(ip="127.0.0.1/8", port=int(ours), ping=False) as it:
        said = {}
        for name in ("analogValue 7", "binaryValue 3", "multiStateValue 1"):
            array = await it.read(f"{controller} {name} priorityArray")
            said[name] = {
                n: str(getattr(one, one._choice))
                for n, one in enumerate(array, 1)
                if one._choice != "null"
            }
            said[name]["now"] = str(await it.read(f"{controller} {name} presentValue"))
        print("SAID " + json.dumps(said), flush=True)
asyncio.run(main(*sys.argv[1:]))
"""


async def bac0_sees(on, tmp_path):
    """What BAC0 reads from the first controller, as BAC0 prints it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BAC0_LOOKS, str(free_udp_port()), on.addresses[0],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    out, err = await process.communicate()
    lines = [line for line in out.decode().splitlines() if line.startswith("SAID ")]
    assert lines, out.decode() + err.decode()
    return json.loads(lines[0][5:])


def test_bac0_sees_what_we_wrote_and_that_we_gave_only_ours_back(tmp_path):
    """Rule F6."""
    pytest.importorskip("BAC0")

    async def attack():
        async with net() as on:
            one = await on.add(1201, plant())
            line = await on.driver()
            one.command("analog-value", 7, 15, 2.0)
            await line.write(OFFSET, Decimal("-1.5"), 13)
            await line.write(OFFSET, Decimal(-2), 10)
            await line.write(INHIBIT, Decimal(1), 13)
            await line.write(MODE, Decimal(2), 13)
            during = await bac0_sees(on, tmp_path)
            await line.write(OFFSET, None, 10)
            await line.write(INHIBIT, None, 13)
            between = await bac0_sees(on, tmp_path)
            await line.write(OFFSET, None, 13)
            await line.write(MODE, None, 13)
            return during, between, await bac0_sees(on, tmp_path)

    during, between, after = asyncio.run(attack())
    assert during["analogValue 7"] == {"10": "-2.0", "13": "-1.5", "15": "2.0", "now": "-2.0"}
    assert during["binaryValue 3"] == {"13": "1", "now": "active"}
    assert during["multiStateValue 1"] == {"13": "2", "now": "2"}
    assert between["analogValue 7"] == {"13": "-1.5", "15": "2.0", "now": "-1.5"}
    assert between["binaryValue 3"] == {"now": "inactive"}
    assert after["analogValue 7"] == {"15": "2.0", "now": "2.0"}
    assert after["multiStateValue 1"] == {"now": "1"}


def test_who_outranks_us_is_seen_and_the_devices_own_hold_is_told_apart():
    async def attack():
        async with net() as on:
            one = await on.add(1201, plant())
            line = await on.driver()
            await line.write(OFFSET, Decimal(1), 13)
            one.command("analog-value", 7, 8, 3.0)
            held = await line.held(OFFSET)
            assert held.ours == {13: Decimal(1), 10: None}
            assert held.others == {8: Decimal(3)}
            assert held.outranking(13) == 8
            await line.write(PUMP, Decimal(1), 13)
            pump = await line.held(PUMP)
            assert (pump.ours[13], pump.minimum, pump.outranking(13)) == (1, 1, None)
            await line.write(PUMP, None, 13)
            assert values(await line.read([PUMP])) == [Decimal(1)]  # its minimum on time
            async with asyncio.timeout(20):
                while values(await line.read([PUMP])) != [Decimal(0)]:
                    await asyncio.sleep(0.05)

    asyncio.run(attack())


LEAVES = """
import asyncio, sys
from decimal import Decimal
from agent.drivers.bacnet.bus import Bacnet
from agent.drivers.bacnet.settings import BacnetSettings
from agent.core.model import Point
async def main(port, controller):
    settings = BacnetSettings(address="127.0.0.1/8", port=int(port), ask=(controller,))
    async with Bacnet.open(settings) as line:
        offset = Point("boiler", "offset", "1201", "analog-value,7", 60, writable=True)
        await line.write(offset, Decimal("-2"), 13)
        print("written", flush=True)
        await asyncio.sleep(60)
asyncio.run(main(*sys.argv[1:]))
"""


def test_what_a_killed_agent_left_is_found_and_given_back_at_the_next_start():
    async def attack():
        async with net() as on:
            one = await on.add(1201, plant())
            one.command("analog-value", 7, 15, 1.25)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", LEAVES, str(on.ours), on.addresses[0], stdout=subprocess.PIPE
            )
            assert process.stdout
            assert await process.stdout.readline() == b"written\n"
            process.send_signal(signal.SIGKILL)
            await process.wait()
            assert one.there("analog-value", 7).presentValue == -2.0
            line = await on.driver()
            (swept,) = await line.sweep([OFFSET, INHIBIT])
            assert (swept.slot, swept.value, swept.empty) == (13, Decimal(-2), True)
            assert one.there("analog-value", 7).presentValue == 1.25
            assert await line.sweep([OFFSET, INHIBIT]) == []

    asyncio.run(attack())


def test_a_sweep_of_a_silent_device_stays_due():
    async def attack():
        async with net() as on:
            one = await on.add(1201, plant(), faults=Faults(silent=True))
            line = await on.driver()
            (due,) = await line.sweep([OFFSET])
            assert (due.slot, due.empty) == (None, False)
            one.faults.silent = False
            assert await line.sweep([OFFSET]) == []

    asyncio.run(attack())


def test_a_device_that_refuses_or_says_nothing_is_no_success():
    """Rule F5."""

    async def attack():
        async with net() as on:
            one = await on.add(1201, plant(), faults=Faults(no_writes=True))
            line = await on.driver()
            with pytest.raises(WriteRefused, match="write access denied"):
                await line.write(OFFSET, Decimal(1), 13)
            one.faults = Faults(silent=True)
            with pytest.raises(WriteRefused, match="the value may be in force"):
                await line.write(OFFSET, Decimal(1), 13)
            with pytest.raises(WriteRefused):
                await line.held(point("analog-input,1"))

    asyncio.run(attack())


@pytest.mark.parametrize(
    ("at", "value", "slot"),
    [
        ("analog-value,7", Decimal(1), 8),
        ("analog-value,7", Decimal(1), None),
        ("analog-value,7", None, 16),
        ("analog-input,1", Decimal(1), 13),
        ("analog-value,7/priority-array", Decimal(1), 13),
        ("analog-value,7", "warm", 13),
        ("analog-value,7", Decimal("NaN"), 13),
        ("analog-value,7", Decimal("1e39"), 13),
        ("binary-value,3", Decimal("0.5"), 13),
        ("binary-value,3", Decimal(-1), 13),
    ],
)
def test_what_is_not_ours_to_write_is_refused_before_anything_is_sent(at, value, slot):
    """Rule F4."""

    async def attack():
        async with net() as on:
            one = await on.add(1201, plant())
            line = await on.driver()
            with pytest.raises(Refused):
                await line.write(point(at), value, slot)
            with pytest.raises(Refused, match="not marked writable"):
                await line.write(point("analog-value,7", writable=False), Decimal(1), 13)
            assert one.requests == 0

    asyncio.run(attack())
