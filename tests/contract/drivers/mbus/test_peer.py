"""An independent master from the package index reads our pretend line."""

from __future__ import annotations

import asyncio
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from hil.mbus.line import Bus
from hil.mbus.serve import pty
from tests.contract.drivers.mbus.setting import heat, water

PEER = Path(__file__).with_name("peer.py")


@pytest.mark.skipif(not find_spec("meterbus"), reason="pymeterbus is not installed")
def test_pymeterbus_reads_our_line_by_number_and_by_primary_address():
    meters = [heat(f"451200{n:02d}", primary=n, base=1000 * n) for n in range(1, 20)]
    meters.append(water("99120020", primary=20, base=20_000))
    wanted = [one.plate.id + (f":{one.primary}" if one.primary % 2 else "") for one in meters]

    async def go():
        async with pty(Bus(meters, 38_400)) as port:
            process = await asyncio.create_subprocess_exec(
                sys.executable, PEER, port, *wanted,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await process.communicate()
            assert process.returncode == 0, err.decode()
            return [json.loads(line) for line in out.splitlines()]

    said = asyncio.run(go())
    assert len(said) == 20
    for meter, one in zip(meters, said, strict=True):
        number = one["said"]["header"]["identification"]
        assert number.replace("0x", "").replace(", ", "") == meter.plate.id
        first = one["said"]["records"][0]
        expected = 20.0 if meter.plate.id.startswith("99") else 1000.0 * meter.primary * 1000
        assert float(first["value"]) == expected
