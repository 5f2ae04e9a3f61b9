"""A sound frame is found in whatever surrounds it; nothing else is taken for one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.drivers.mbus import frame
from agent.drivers.mbus.frame import acknowledged, foreign, sound, without_echo
from tests.unit.drivers.mbus.wire import HEADER, long_frame

FRAME = long_frame(bytes.fromhex(HEADER + "0C 06 01 00 00 00"))
ASK = frame.ask(0xFD, fcb=True)
NOISE = st.binary(max_size=40).filter(lambda some: sound(some) is None)


@given(NOISE, st.binary(max_size=40))
def test_a_frame_is_found_among_noise(before, behind):
    found = sound(before + FRAME + behind)
    # noise and frame together may begin an earlier frame, but by chance only
    assert found == FRAME or (found and (before + FRAME).find(found) < len(before))


@given(st.binary(max_size=300))
def test_any_bytes_are_searched(data):
    found = sound(data)
    assert found is None or found in data
    assert acknowledged(data) is None or 0xE5 in data
    foreign(data)
    assert len(without_echo(data, ASK)) <= len(data)


def test_a_start_within_noise_does_not_hide_the_frame_behind_it():
    assert sound(b"\x68\x68\x68\x68\x68\xff\xff\x68" + FRAME) == FRAME


def test_a_master_s_frame_is_no_answer_but_somebody_else_s_talk():
    select = frame.selection("1FFFFFFF")
    assert sound(select) is None
    assert foreign(select)
    assert foreign(b"\x00" + ASK)
    assert foreign(FRAME)
    assert not foreign(FRAME[:-1] + b"\x10\x7b\xfd\x00\x16")


def test_the_echo_is_taken_off_wherever_it_comes():
    assert without_echo(ASK + FRAME, ASK) == FRAME
    assert without_echo(b"\x00" + ASK + b"\xe5", ASK) == b"\x00\xe5"
    assert without_echo(ASK[:3], ASK) == b""
    assert without_echo(b"\xe5", ASK) == b"\xe5"


def test_one_changed_byte_is_never_a_sound_frame():
    for at in range(len(FRAME)):
        for bit in range(8):
            changed = bytearray(FRAME)
            changed[at] ^= 1 << bit
            assert sound(bytes(changed)) is None or not changed[4] & 0x40
            assert sound(bytes(changed)) is None
