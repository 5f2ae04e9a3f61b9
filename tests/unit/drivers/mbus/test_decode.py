from __future__ import annotations

from decimal import Decimal

import pytest

from agent.drivers.mbus.decode import ApplicationError, Function, MbusError, decode
from tests.unit.drivers.mbus.wire import HEADER, long_frame, one, telegram

HEAT = "04 06 E7 91 00 00 44 06 51 82 00 00 84 10 06 00 00 00 00 02 5B 5F 00 0F 01"


def test_a_telegram_tells_who_and_what():
    found = telegram(HEAT)
    assert (found.manufacturer, found.id, found.version, found.medium) == ("KAM", "12345678", 1, 4)
    assert (found.address, found.ci, found.access, found.status) == (1, 0x72, 0x55, 0)
    assert [(r.quantity, r.unit, r.value, r.storage, r.tariff) for r in found.records] == [
        ("energy", "Wh", Decimal(37351000), 0, 0),
        ("energy", "Wh", Decimal(33361000), 1, 0),
        ("energy", "Wh", Decimal(0), 0, 1),
        ("flow temperature", "Cel", Decimal(95), 0, 0),
        ("manufacturer data", "", "01", 0, 0),
    ]
    assert all(r.function is Function.INSTANTANEOUS for r in found.records)


def test_a_register_is_named_by_dib_and_vib():
    records = telegram(HEAT).records
    assert [r.identity.hex() for r in records[:3]] == ["0406", "4406", "841006"]


def test_the_most_significant_byte_comes_first_in_mode_2():
    header = "12 34 56 78 2C 2D 01 04 55 00 00 00"
    found = telegram("04 06 00 00 91 E7 02 6C 19 BC 0D FD 10 02 41 42", ci=0x76, header=header)
    assert [r.value for r in found.records] == [37351000, "2013-09-28", "AB"]
    assert found.records[0].data == bytes.fromhex("00 00 91 E7")


@pytest.mark.parametrize(("ci", "header"), [(0x78, ""), (0x7A, "55 00 00 00")])
def test_records_are_read_behind_any_header(ci, header):
    found = telegram("04 06 E7 91 00 00", ci=ci, header=header)
    assert (found.id, found.records[0].value) == (None, 37351000)


def test_a_telegram_may_have_no_records():
    assert telegram("").records == ()


def test_an_application_error_of_the_meter_is_an_error_of_its_own():
    with pytest.raises(ApplicationError, match="too busy") as caught:
        decode(long_frame(b"\x08", ci=0x70))
    assert caught.value.code == 8
    assert isinstance(caught.value, MbusError)
    assert isinstance(caught.value, ValueError)


def test_a_bytearray_is_as_good_as_bytes():
    frame = long_frame(bytes.fromhex(HEADER + HEAT))
    assert decode(bytearray(frame)) == decode(frame)


def test_a_record_error_keeps_its_register_and_its_data():
    record = one("C4 01 86 15 01 02 03 04")
    assert (record.value, record.error, record.storage) == (None, "no data available", 3)
    assert (record.dib.hex(), record.vib.hex(), record.data.hex()) == ("c401", "8615", "01020304")
