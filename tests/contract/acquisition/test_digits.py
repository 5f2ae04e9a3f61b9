"""Guards the digits: what stands in a meter's registers stands in the platform's row, unchanged.

Registers of a device on a real socket, read by the driver, closed by the ledger, kept and sealed by
the spool, opened by the pretend platform. No step may round, shorten or lengthen a number. Rule R1.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.acquisition.slots import SlotLedger
from agent.buffer.batch import BatchHead
from agent.buffer.spool import Spool
from agent.core.model import Lane, Point, Why
from agent.drivers.modbus.bus import ModbusTcp
from agent.drivers.modbus.master import NEVER_COUNTED
from hil.modbus_server import Reply, serving
from hil.platform.unpack import unpack
from hil.serial_line import Registers
from tests.contract.drivers.modbus.peer import settings as line_settings
from tests.depth import examples
from tests.unit.acquisition.house import NOW, RECIPIENT, Town

HOLDING = 3
BOUNDS = {"uint16": 16, "int32": 31, "uint32": 32, "int64": 63, "uint64": 64}


def cells(raw):
    return struct.unpack(f">{len(raw) // 2}H", raw)


def integer(kind, number):
    size = {"16": 2, "32": 4, "64": 8}[kind.removeprefix("u").removeprefix("int")]
    return cells(number.to_bytes(size, "big", signed=not kind.startswith("u")))


@st.composite
def whole(draw):
    """An integer register with a power of ten: `1230` at 0.01 is shown as 12.30."""
    kind = draw(st.sampled_from(list(BOUNDS)))
    numbers = st.integers(0, 2 ** BOUNDS[kind] - 1)
    number = draw(numbers.filter(lambda number: number not in NEVER_COUNTED.get(kind, ())))
    places = draw(st.integers(0, 6))
    shown = format(Decimal(number).scaleb(-places), "f")
    return integer(kind, number), kind, Decimal(1).scaleb(-places), "kWh", shown


@st.composite
def floating(draw):
    """A float32 that shows as many figures as it surely keeps."""
    figures = draw(st.integers(1, 999_999))
    shown = Decimal(figures).scaleb(draw(st.integers(-6, 0)))
    text = format(shown.normalize(), "f")
    return cells(struct.pack(">f", float(shown))), "float32", Decimal(1), "kWh", text


@st.composite
def converted(draw):
    """Watt-hours and megawatt-hours become kilowatt-hours with the digits they had."""
    number = draw(st.integers(0, 2**32 - 1))
    unit, places = draw(st.sampled_from([("Wh", 3), ("MWh", -3)]))
    shown = Decimal(number).scaleb(-places)
    text = format(shown, "f") if places > 0 else str(number * 1000)
    return integer("uint32", number), "uint32", Decimal(1), unit, text


SLOTS = itertools.count(NOW // 10 * 10, 10)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    head = BatchHead("GTEST", RECIPIENT, "DEMO-1")
    with Spool.open(folder / "spool.db", bytes(32), head, 50_000_000) as spool:
        yield Town(folder, dwellings=1), spool


@examples(100, 1_000)
@given(register=st.one_of(whole(), floating(), converted()))
def test_decimal_strings_go_from_the_registers_to_the_platform_unchanged(house, register):
    written, kind, scale, unit, shown = register
    town, spool = house
    device = Registers({(HOLDING, 100 + n): cell for n, cell in enumerate(written)})
    of = Point("m1", "x", "1", f"holding/100/{kind}", 10, "elec.imp", unit, scale=scale)

    async def read():
        async with (
            serving(lambda _unit, pdu: Reply(device(pdu))) as port,
            ModbusTcp.open(line_settings(port)) as line,
        ):
            return await line.read([of])

    slot = next(SLOTS)
    ledger = SlotLedger(town.gate(), {("m1", 10): [of]}, {})
    rows = ledger.close(("m1", 10), slot, asyncio.run(read()), "1001", Why.BUSY)
    spool.append(rows, {})
    sealed = spool.seal(Lane.LIVE, slot + 5, "trusted", 0)
    (row,) = [one for one in unpack(sealed.payload).rows if one.t == slot]
    assert row.v == shown
