"""The whole agent on a boiler room that speaks BACnet: it reads, it follows, and says so."""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

from hil.bacnet.controller import free_udp_port
from hil.bacnet.process import BoilerRoom

GARDIEN = Path(sys.executable).with_name("gardien")


async def gardien(config, *words):
    process = await asyncio.create_subprocess_exec(
        GARDIEN, *words, "--config", str(config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return out.decode(), err.decode()


async def until_followed(config, running, count):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        out, _ = await gardien(config, "status", "--json")
        if out.startswith("{"):
            said = json.loads(out)
            if said["links"]["bms"]["health"].get("followed", 0) >= count:
                return said
        assert running.returncode is None
        await asyncio.sleep(0.3)
    raise AssertionError(out)


def test_what_a_scan_adds_is_a_right_configuration(tmp_path):
    async def attack():
        async with BoilerRoom() as room:
            config = tmp_path / "config.yaml"
            config.write_text(
                f"building: {{name: Les Alpins}}\nlinks:\n{room.link(free_udp_port())}\n"
                f"privacy: {{policy: DEMO-1}}\nclock: {{source: system}}\nstate: {tmp_path}/state\n"
            )
            out, err = await gardien(config, "scan", "bms", "--add")
            checked, _ = await gardien(config, "check")
            return out, err, checked, config.read_text()

    out, err, checked, text = asyncio.run(attack())
    assert "4 devices added" in err
    for said in (out, text):
        assert 't-depart: {at: "analog-input,1", channel: "temp.supply", unit: Cel}' in said
        assert 'chaleur-impulsions: {at: "accumulator,1", channel: heat, unit: kWh}' in said
        assert 'gaz: {at: "accumulator,2", channel: gas, unit: m3}' in said
    assert "bms: bacnet, 4 devices" in checked


def test_a_boiler_room_is_read_and_followed_and_status_says_so(tmp_path):
    async def attack():
        async with BoilerRoom() as room:
            config = tmp_path / "config.yaml"
            config.write_text(
                "building: {name: Les Alpins}\n"
                f"links:\n{room.link(free_udp_port())}\ndevices:\n{room.devices()}\n"
                f"privacy: {{policy: DEMO-1}}\nclock: {{source: system}}\nstate: {tmp_path}/state\n"
            )
            out, err = await gardien(config, "check")
            assert "bms: bacnet, 3 devices" in out, err
            running = await asyncio.create_subprocess_exec(
                GARDIEN, "run", "--config", str(config), stderr=asyncio.subprocess.PIPE
            )
            try:
                said = await until_followed(config, running, 6)
                read, _ = await gardien(config, "read", "boiler", "--json")
                words, _ = await gardien(config, "status", "--all")
                running.send_signal(signal.SIGTERM)
                assert await running.wait() == 0
                return said, json.loads(read), words
            finally:
                if running.returncode is None:
                    running.kill()
                    await running.wait()

    said, read, words = asyncio.run(attack())
    assert {name: device["failures"] for name, device in said["devices"].items()} == {
        "boiler": 0,
        "stairs": 0,
        "boiler-room-meter": 0,
    }
    assert 50 < float(read["points"]["supply"]["value"]) < 56
    assert float(read["points"]["heat"]["value"]) >= 48_211
    assert "values subscribed, 0 subscriptions refused" in words


def test_another_unit_than_the_controllers_is_told_by_read_and_status(tmp_path):
    async def attack():
        async with BoilerRoom() as room:
            config = tmp_path / "config.yaml"
            devices = room.devices().replace("elec.power, unit: W,", "elec.power, unit: kW,")
            by = '      by: {at: "analog-value,10", unit: min, every: 10s}\n'
            config.write_text(
                "building: {name: Les Alpins}\n"
                f"links:\n{room.link(free_udp_port())}\n"
                f"devices:\n{devices.replace('      offset:', by + '      offset:')}\n"
                f"privacy: {{policy: DEMO-1}}\nclock: {{source: system}}\nstate: {tmp_path}/state\n"
            )
            running = await asyncio.create_subprocess_exec(
                GARDIEN, "run", "--config", str(config), stderr=asyncio.subprocess.PIPE
            )
            try:
                said = await until_followed(config, running, 6)
                meter, _ = await gardien(config, "read", "boiler-room-meter", "--json")
                note, _ = await gardien(config, "read", "boiler/by")
                heat, _ = await gardien(config, "read", "boiler/heat", "--json")
                return said, json.loads(meter)["points"], " ".join(note.split()), json.loads(heat)
            finally:
                running.send_signal(signal.SIGTERM)
                await running.wait()

    said, meter, note, heat = asyncio.run(attack())
    words = "the object is in W, and `unit` says kW: write `unit: W`"
    assert (meter["power"]["value"], meter["power"]["why"]) == (None, "bad")
    assert words in meter["power"]["detail"]
    assert f"power: {words}" in said["devices"]["boiler-room-meter"]["said"]
    index = float(heat["points"]["heat"]["value"])
    assert abs(float(meter["pulses"]["value"]) - index) < 1
    assert "the object says no-units; min is taken from the configuration" in note
