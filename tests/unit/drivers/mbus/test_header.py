from __future__ import annotations

import pytest

from agent.drivers.mbus.telegram import ApplicationError, MbusError, manufacturer, read

LONG = bytes.fromhex("78 56 34 12 2D 2C 01 04 55 10 34 12")


def test_the_long_header_tells_who_speaks():
    header, rest = read(0x72, LONG + b"\x2f")
    assert (header.manufacturer, header.id, header.version) == ("KAM", "12345678", 1)
    assert (header.medium, header.access, header.status) == (4, 0x55, 0x10)
    assert (header.configuration, rest) == (0x1234, b"\x2f")


def test_mode_2_has_the_most_significant_byte_first():
    header, _ = read(0x76, bytes.fromhex("12 34 56 78 2C 2D 01 04 55 10 12 34"))
    assert (header.manufacturer, header.id, header.configuration) == ("KAM", "12345678", 0x1234)


def test_an_id_may_have_letters():
    assert read(0x72, b"\xef\xcd\xab\x12" + LONG[4:])[0].id == "12ABCDEF"


def test_the_short_header_does_not_tell_who():
    header, rest = read(0x7A, bytes.fromhex("55 10 34 12 2F"))
    assert (header.manufacturer, header.id, header.medium) == (None, None, None)
    assert (header.access, header.status, header.configuration) == (0x55, 0x10, 0x1234)
    assert rest == b"\x2f"


def test_no_header_is_no_header():
    assert read(0x78, b"\x2f") == (read(0x78, b"")[0], b"\x2f")
    assert read(0x78, b"")[0].id is None


def test_manufacturers_are_three_letters_in_fifteen_bits():
    assert manufacturer(0x2C2D) == "KAM"
    assert manufacturer(0x4DCD) == "SNM"
    assert manufacturer(0) == "@@@"


@pytest.mark.parametrize(("ci", "length"), [(0x72, 11), (0x76, 0), (0x7A, 3), (0x73, 15)])
def test_a_header_cut_short_is_refused(ci, length):
    with pytest.raises(MbusError, match=r"cut short|16 bytes"):
        read(ci, bytes(length))


@pytest.mark.parametrize("ci", [0x00, 0x50, 0x51, 0x52, 0x5A, 0x79, 0x7B, 0xB8, 0xFF])
def test_another_ci_field_is_refused_by_name(ci):
    with pytest.raises(MbusError, match=f"{ci:02X}"):
        read(ci, bytes(20))


APPLICATION = """
00 unspecified error
01 CI field not implemented
02 buffer too long
03 too many records
04 premature end of record
05 more than 10 DIFEs
06 more than 10 VIFEs
08 too busy
09 too many readouts
10 access denied
11 command unknown
12 parameter missing
13 receiver address unknown
14 decryption failed
15 encryption method
16 signature method
F0 dynamic
07 reserved
77 reserved
"""


@pytest.mark.parametrize("line", APPLICATION.strip().splitlines())
def test_an_application_error_is_told_in_words(line):
    code, _, words = line.partition(" ")
    with pytest.raises(ApplicationError, match=words) as caught:
        read(0x70, bytes.fromhex(code))
    assert caught.value.code == int(code, 16)
    assert f"({code}h)" in str(caught.value)


@pytest.mark.parametrize(
    ("ci", "payload"), [(0x70, b""), (0x6E, LONG[8:]), (0x6F, LONG), (0x70, b"\x77")]
)
def test_an_application_error_is_one_with_any_header_and_any_code(ci, payload):
    with pytest.raises(ApplicationError):
        read(ci, payload)


@pytest.mark.parametrize(("ci", "payload"), [(0x71, b"\x03"), (0x74, LONG[8:]), (0x75, LONG)])
def test_an_alarm_is_not_a_readout(ci, payload):
    with pytest.raises(MbusError, match="alarm"):
        read(ci, payload)
