from __future__ import annotations

import pytest

from agent.drivers.mbus.frame import checksum, unwrap
from agent.drivers.mbus.telegram import MbusError
from tests.unit.drivers.mbus.wire import long_frame

SOUND = long_frame(b"\x0f", ci=0x78, control=0x18, address=42)


def test_a_sound_frame_is_opened():
    link = unwrap(SOUND)
    assert (link.control, link.address, link.ci, link.payload) == (0x18, 42, 0x78, b"\x0f")


def test_a_control_frame_has_no_payload():
    assert unwrap(bytes.fromhex("68 03 03 68 08 01 78 81 16")).payload == b""


def test_the_checksum_is_the_sum_without_carry():
    assert checksum(b"\xff\x02") == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("", "no bytes"),
        ("E5", "acknowledgement"),
        ("E5 E5", "starts with E5"),
        ("10 40 01 41 16", "short frame"),
        ("68 03 03 68 08 01 78 81", "too short"),
        ("68 03 04 68 08 01 78 81 16", "damaged"),
        ("68 03 03 69 08 01 78 81 16", "damaged"),
        ("68 04 04 68 08 01 78 81 16", "L field says 10"),
        ("68 03 03 68 08 01 78 81 16 16", "L field says 9"),
        ("68 02 02 68 08 01 78 81 16", "L field says 8"),
        ("68 03 03 68 08 01 78 81 17", "not 16"),
        ("68 03 03 68 08 01 78 82 16", "checksum is 82, the bytes add up to 81"),
        ("68 03 03 68 53 01 51 A5 16", "request of the master"),
        ("00 68 03 03 68 08 01 78 81 16", "starts with 00"),
    ],
)
def test_what_is_no_answer_is_refused_and_the_message_says_why(data, said):
    with pytest.raises(MbusError, match=said):
        unwrap(bytes.fromhex(data))


def test_any_single_wrong_byte_is_noticed():
    for at in range(len(SOUND)):
        for flip in (0x01, 0x80):
            damaged = bytearray(SOUND)
            damaged[at] ^= flip
            with pytest.raises(MbusError):
                unwrap(bytes(damaged))
