from __future__ import annotations

from decimal import Decimal

import pytest

from agent.drivers.mbus.blocks import cut
from tests.unit.drivers.mbus.wire import HEADER, one, telegram

VOLUME = "0C 13 27 04 85 02 "
OF_ELVACO = HEADER.replace("2D 2C", "96 15")


def test_blocks_know_where_they_begin():
    blocks = list(cut(bytes.fromhex("2F 2F 01 13 05 2F 02 13 01 00 2F"), text_first=False))
    assert [(b.start, b.dib, b.vib, b.data) for b in blocks] == [
        (2, b"\x01", b"\x13", b"\x05"),
        (6, b"\x02", b"\x13", b"\x01\x00"),
    ]


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        ("0C", "no bytes|ends inside"),
        ("8C", "ends inside"),
        ("8C 80", "ends inside"),
        ("0C 93", "ends inside"),
        ("0C 13 01 02 03", "4 bytes has only 3 left"),
        ("0D 13", "before the LVAR"),
        ("0D 13 05 41", "5 bytes has only 1 left"),
        ("0D 13 F7", "LVAR F7 is reserved"),
        ("3F", "DIF 3F is reserved"),
        ("7F", "DIF 7F is reserved"),
        ("8F 01", "DIF 8F is reserved"),
        ("84" + "80" * 10 + "00 13 01 00 00 00", "more than 10 DIFEs"),
        ("04" + "93" + "FC" * 10 + "01 01 00 00 00", "more than 10 VIFEs"),
        ("01 7C", "before the text"),
        ("01 7C 05 41", "text of a VIF is cut short"),
        ("01 FC 05 41", "text of a VIF is cut short|ends inside"),
        ("01 7C 02 41 07 00", "not printable"),
    ],
)
def test_a_malformed_tail_keeps_the_records_before_it(tail, why):
    found = telegram(VOLUME + tail)
    first, last = found.records[0], found.records[-1]
    assert len(found.records) == 2
    assert (first.quantity, first.value, first.error) == ("volume", Decimal("2850.427"), None)
    assert (last.quantity, last.value) == ("malformed", None)
    assert any(part in last.error for part in why.split("|"))
    assert last.data == bytes.fromhex(tail)


@pytest.mark.parametrize("vif", ["FB", "FD", "EF", "FDFD"])
def test_an_extension_that_leads_nowhere_is_malformed(vif):
    assert telegram(f"01 {vif}").records[-1].quantity == "malformed"


def test_ten_difes_and_ten_vifes_are_allowed():
    record = one("84" + "80" * 9 + "00" + "93" + "FC81" * 4 + "FC02" + "01 00 00 00")
    assert record.value == Decimal("0.001")
    assert record.modifiers == ("phase L1",) * 4 + ("phase L2",)


def test_manufacturer_data_is_kept_as_it_is():
    found = telegram(VOLUME + "0F 01 02 03")
    assert found.records[1].value == "01 02 03"
    assert (found.records[1].dib, found.more) == (b"\x0f", False)


def test_more_records_follow_where_the_meter_says_so():
    assert telegram(VOLUME + "1F").more
    assert telegram(VOLUME + "1F 01 02").records[1].data == b"\x01\x02"
    assert not telegram(VOLUME).more


def test_filler_is_nothing():
    assert telegram("2F 2F " + VOLUME + "2F 2F").records == telegram(VOLUME).records


def test_a_plain_text_unit_follows_its_vif():
    record = one("02 7C 03 48 52 25 D2 04")
    assert (record.quantity, record.unit, record.value) == ("plain text", "%RH", 1234)
    assert record.vib == bytes.fromhex("7C 03 48 52 25")


def test_a_plain_text_unit_may_be_the_last_byte():
    record = one("00 7C 03 48 52 25")
    assert (record.unit, record.error) == ("%RH", "no data")


@pytest.mark.parametrize("header", [HEADER, OF_ELVACO])
@pytest.mark.parametrize("vib", ["FC 03 48 52 25 74", "FC 74 03 48 52 25"])
def test_text_and_vifes_are_read_in_either_order(header, vib):
    record = one(f"02 {vib} D2 04", header=header)
    assert (record.unit, record.value) == ("%RH", Decimal("12.34"))
    assert record.vib == bytes.fromhex(vib)


def test_where_both_orders_fit_the_manufacturer_decides():
    record = "02 FC 3A 41 " + "42" * 70
    standard = telegram(record).records[0]
    elvaco = telegram(record, header=OF_ELVACO).records[0]
    assert (standard.unit, standard.modifiers) == ("B" * 65, ("uncorrected",))
    assert elvaco.vif_unit == "B" * 57 + "A"
