"""Meters on one line, read as the poller reads them."""

from __future__ import annotations

import asyncio
import os
import termios
import time
from decimal import Decimal

import pytest

from agent.core.errors import LinkLost
from agent.core.model import Why
from agent.drivers.mbus.bus import PAUSE, MbusSerial, MbusTcp
from agent.drivers.mbus.frame import selection
from agent.drivers.mbus.settings import MbusTcpSettings, SerialSettings
from hil.mbus.encode import Plate, energy_kwh, hca_units, long_frame, pulses_litres, volume_litres
from hil.mbus.line import Bus
from hil.mbus.serve import pty, tcp
from hil.mbus.slave import Slave
from hil.visits import visits
from tests.contract.drivers.mbus.setting import heat, on_serial, on_tcp, points, water

ON = pytest.mark.parametrize("on", [on_tcp, on_serial])


def read(slaves, *asked, on=on_tcp, times=1, pause=PAUSE, **bus):
    async def go():
        async with on(Bus(slaves, 38_400, **bus)) as driver:
            driver.master.pause = pause
            for _ in range(times):
                said = [await driver.read(one) for one in asked]
            return said

    return asyncio.run(go())


@ON
@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("paced", [False, True])
def test_a_meter_is_read_by_its_number_with_and_without_echo(on, echo, paced):
    meters = [heat("45120042"), water("45120043")]
    ((energy, volume, temperature, number), (cold,)) = read(
        meters,
        [*points("45120042", "heat:energy", "volume", "id"),
         *points("45120042", "flow-temperature", unit="Cel")][:2]
        + points("45120042", "flow-temperature", unit="Cel") + points("45120042", "id"),
        points("45120043", "cold-water:volume"),
        on=on, echo=echo, paced=paced,
    )  # fmt: skip
    # they count on with each answer, and a busy machine may need two
    assert str(energy.value)[:-1] == "735100"
    assert str(volume.value)[:-1] == "7351.00"
    assert str(temperature.value) == "65.3"
    assert number.value == "45120042"
    assert str(cold.value)[:-1] == "7351.00"


def test_each_poll_of_a_primary_address_has_the_other_frame_count_bit():
    meter = heat("45120042", primary=5)
    ((energy,),) = read([meter], points("5"), times=7)
    assert (energy.value, meter.repetitions) == (7_351_006, 0)


def test_a_meter_at_a_late_moment_is_still_heard():
    said = []
    for _ in range(3):  # a busy machine may hear it at the second question, not each time
        meter = heat("45120042")
        meter.late = 319
        ((energy,),) = read([meter], points("45120042"), paced=True)
        said.append(energy.value)
    assert 7_351_000 in said


def test_a_silent_meter_costs_three_timeouts_and_says_so():
    """Rule F2."""
    ((one, two),) = read([], points("45120042", "heat:energy", "id"))
    assert (one.why, two.why) == (Why.SILENT, Why.SILENT)
    assert "does not answer" in one.detail


def test_a_meter_of_another_medium_is_not_read_as_heat():
    ((one,),) = read([water("45120042")], points("45120042"))
    assert one.why is Why.BAD
    assert one.detail == "the meter measures water, not heat"


def test_what_a_meter_does_not_have_is_bad_and_the_rest_is_read():
    ((one, two),) = read([heat("45120042")], points("45120042", "heat:energy/tariff=1", "volume"))
    assert (one.why, one.detail) == (Why.BAD, "the meter has no such register")
    assert two.value == Decimal("7351.000")


def test_records_of_later_telegrams_are_read_and_only_then_asked_for():
    meter = Slave(Plate("45120042"), lambda: [energy_kwh(1), volume_litres(2), hca_units(3)])
    for address in ("45120042", "0"):
        (first,) = read([meter], points(address))
        assert (first[0].value, meter.answers) == (1, 1)
        (all_three,) = read([meter], points(address, "heat:energy", "hca-units", unit="1")[1:])
        assert (all_three[0].value, meter.answers) == (3, 4)
        meter.answers = 0


@pytest.mark.parametrize("address", ["45120042", "0"])
def test_what_stands_in_a_telegram_that_is_lost_is_silent_and_comes_with_the_next_reading(address):
    meter = Slave(Plate("45120042"), lambda: [energy_kwh(1), volume_litres(2000), hca_units(3)])
    asked = points(address) + points(address, "volume") + points(address, "hca-units", unit="1")

    async def go():
        bus = Bus([meter], 38_400)
        async with on_tcp(bus) as driver:
            ask, lost = bus.ask, 0

            def deaf(frame):
                nonlocal lost
                if meter.answers == 1 and frame[0] == 0x10 and lost < 3:
                    lost += 1
                    return 0.0, b""
                return ask(frame)

            bus.ask = deaf
            return await driver.read(asked), await driver.read(asked)

    (energy, volume, units), again = asyncio.run(go())
    assert energy.value == 1
    assert {one.why for one in (volume, units)} == {Why.SILENT}
    assert volume.detail.startswith("telegram 2 is missing")
    assert [one.value for one in again] == [1, 2, 3]


def test_a_meter_that_says_it_is_busy_is_left_alone_for_a_while():
    meter = Slave(Plate("45120042"), lambda: [energy_kwh(1), volume_litres(2000)])
    data, asked_at = meter._data, []

    def busy(station, fcb):
        asked_at.append(time.monotonic())
        frame = data(station, fcb)
        return long_frame(frame[5], frame[7:-2], frame[6], frame[4] | 0x10)

    meter._data = busy
    ((energy, volume),) = read(
        [meter], points("45120042") + points("45120042", "volume"), pause=0.3
    )
    assert (energy.value, volume.value) == (1, 2)
    assert asked_at[1] - asked_at[0] >= 0.3


def test_each_meter_is_asked_at_its_own_speed_and_the_others_at_the_lines():
    async def go():
        async with pty(Bus([heat("45120042"), heat("45120043")])) as port:
            settings = SerialSettings(port=port, baudrate=2400, listen=0)
            line = os.open(port, os.O_RDWR | os.O_NOCTTY)  # before the driver has it alone
            async with MbusSerial.open(settings) as driver:
                speeds = []
                for address in ("45120042@300", "45120043", "45120042@300"):
                    assert (await driver.read(points(address)))[0].value
                    speeds.append(termios.tcgetattr(line)[5])
            os.close(line)
            return speeds

    assert asyncio.run(go()) == [termios.B300, termios.B2400, termios.B300]


def test_a_line_on_which_the_noise_never_ends_is_silent_all_the_same():
    async def babble(reader, writer):
        while not reader.at_eof():
            writer.write(b"\x68\x00")
            await asyncio.sleep(0.002)

    async def go():
        async with visits(babble) as port, asyncio.timeout(60):
            settings = MbusTcpSettings(host="127.0.0.1", port=port, baudrate=38_400, listen=0)
            async with MbusTcp.open(settings) as driver:
                return await driver.read(points("45120042"))

    assert [one.why for one in asyncio.run(go())] == [Why.SILENT]


def test_the_echo_of_a_question_is_nobody():
    async def go():
        async with on_tcp(Bus([heat("45120042")], 38_400, echo=True)) as driver:
            both = [selection("99FFFFFF"), selection("45FFFFFF")]
            return [(await driver.line.chorus(one)).noise for one in both]

    assert asyncio.run(go()) == [b"", b"\xe5"]


def test_an_endless_meter_is_cut_off():
    meter = Slave(Plate("45120042"), lambda: [energy_kwh(1)] * 1000)
    ((one,),) = read([meter], points("45120042", "volume"))
    assert (one.why, meter.answers) == (Why.BAD, 32)


def test_a_storage_number_names_the_due_date():
    ((one,),) = read([heat("45120042")], points("45120042", "heat:energy/storage=1"))
    assert one.value == 9


def test_an_application_error_is_said_at_once_in_its_words():
    meter = heat("45120042", primary=3)
    meter.error = 0x09
    for address in ("45120042", "3"):
        ((one,),) = read([meter], points(address))
        assert one.why is not None
    assert "too many readouts" in one.detail


def test_one_collector_counts_for_several_meters():
    collector = Slave(
        Plate("45120042", medium=0x0F), lambda: [pulses_litres(1, 1111) + pulses_litres(2, 2222)]
    )
    ats = "volume", "id"
    one, two, three = read([collector], *(points(f"45120042/{n}", *ats) for n in (1, 2, 3)))
    assert [str(one[0].value), str(two[0].value)] == ["1.111", "2.222"]
    assert [one[1].value, two[1].value] == ["45120042/1", "45120042/2"]
    assert three[0].why is Why.BAD


def test_two_meters_with_one_number_are_told_apart_by_maker_version_and_medium():
    meters = [heat("45120042", manufacturer="KAM"), heat("45120042", base=5, version=2)]
    one, two, both = read(
        meters, points("45120042-KAM"), points("45120042-GDN-02-04"), points("45120042")
    )
    assert (one[0].value, two[0].value) == (7_351_000, 5)
    assert both[0].value is None


def test_meters_that_share_all_but_the_fabrication_number_are_selected_by_it():
    meters = [heat("45120042"), heat("45120042", base=5)]
    meters[0].fabrication, meters[1].fabrication = "00000017", "00000018"
    one, two = read(meters, points("45120042+00000017"), points("45120042+00000018"))
    assert (one[0].value, two[0].value) == (7_351_000, 5)


def test_meters_at_one_primary_address_are_never_taken_for_one():
    ((one,),) = read([heat("45120042", primary=5), heat("45120043", 5, 1_234)], points("5"))
    assert one.value is None


def test_who_answers_at_a_primary_address_may_not_change_in_silence():
    first, second = heat("45120042", primary=5), heat("45120043", primary=5, base=100)
    second.silent = True

    async def go():
        async with on_tcp(Bus([first, second], 38_400)) as driver:
            (before,) = await driver.read(points("5"))
            first.silent, second.silent = True, False
            (between,) = await driver.read(points("5"))
            number, after = await driver.read(points("5", "id", "heat:energy"))
            return before, between, number, after

    before, between, number, after = asyncio.run(go())
    assert before.value == 7_351_000
    assert (between.why, between.detail) == (
        Why.SILENT,
        "was meter 45120042 before, and is 45120043 now",
    )
    assert (number.value, after.value is not None) == ("45120043", True)


def test_a_late_answer_of_one_meter_is_not_taken_for_the_next_one_s():
    slow = heat("45120042", base=111)
    slow.late = 38_400 * 0.09  # beyond the time it has
    fast = heat("45120043", base=222)

    async def go():
        seen = []
        async with on_tcp(Bus([slow, fast], 38_400, paced=True)) as driver:
            for _ in range(5):
                seen += [(await driver.read(points(n)))[0] for n in ("45120042", "45120043")]
        return seen

    seen = asyncio.run(go())
    assert all(one.value is None for one in seen[::2])
    assert all(one.value is None or 222 <= one.value < 300 for one in seen[1::2])


def test_a_converter_that_goes_away_is_a_lost_link_and_comes_back():
    async def go():
        bus = Bus([heat("45120042")], 38_400)
        async with tcp(bus) as port:
            settings = MbusTcpSettings(host="127.0.0.1", port=port, latency=0.01)
            async with MbusTcp.open(settings) as driver:
                (before,) = await driver.read(points("45120042"))
                gone = driver
            # the same port is free again once the server is closed
        with pytest.raises(LinkLost):
            await gone.read(points("45120042"))
        with pytest.raises(LinkLost, match="cannot be reached"):
            async with MbusTcp.open(settings):
                pass
        async with tcp(bus, port), MbusTcp.open(settings) as driver:
            (after,) = await driver.read(points("45120042"))
        return before, after

    before, after = asyncio.run(go())
    assert (before.value, after.value) == (7_351_000, 7_351_001)


def test_a_serial_port_that_is_pulled_is_a_lost_link():
    async def go():
        async with pty(Bus([heat("45120042")], 2400)) as port:
            opening = MbusSerial.open(SerialSettings(port=port, latency=0.01))
            driver = await opening.__aenter__()
            (before,) = await driver.read(points("45120042"))
        await asyncio.sleep(0.01)  # the kernel's word that it is gone
        with pytest.raises(LinkLost):
            await driver.read(points("45120042"))
        await opening.__aexit__(None, None, None)
        return before

    assert asyncio.run(go()).value == 7_351_000


def test_a_port_that_is_not_there_is_a_lost_link():
    async def go():
        async with MbusSerial.open(SerialSettings(port="/dev/ttyNOT")):
            pass

    with pytest.raises(LinkLost, match="/dev/ttyNOT cannot be opened"):
        asyncio.run(go())


def test_the_meters_own_clock_is_told_with_the_time_at_which_it_said_so():
    meter = heat("45120042")
    energy = meter.says
    meter.says = lambda: [energy()[0] + bytes.fromhex("046D0C2A7835")]

    async def go():
        async with on_tcp(Bus([meter], 38_400)) as driver:
            (sample,) = await driver.read(points("45120042"))
            return sample, driver.health()["clocks"]["45120042"], driver.health()["nameplates"]

    sample, (said, at), plates = asyncio.run(go())
    assert (said, at) == ("2027-05-24T10:12", sample.at)
    assert plates == {"45120042": {"maker": "GDN", "version": "1"}}
