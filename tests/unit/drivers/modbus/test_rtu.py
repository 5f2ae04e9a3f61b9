"""Frames are found among whatever a line carried; one that has begun is known for what it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drivers.modbus.rtu import began_in, find, framed

ASKED = b"\3\0\7\0\2"
"""two registers from 7 on"""
ANSWER = framed(5, b"\3\4\1\2\3\4")


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_an_answer_is_found_among_noise(before: bytes, behind: bytes) -> None:
    assert find(before + ANSWER + behind, 5, ASKED).pdu == ANSWER[1:-2]


@pytest.mark.parametrize("at", range(len(ANSWER)))
@pytest.mark.parametrize("bit", range(8))
def test_no_answer_with_a_wrong_bit_is_believed(at: int, bit: int) -> None:
    spoilt = bytearray(ANSWER)
    spoilt[at] ^= 1 << bit
    assert not find(spoilt, 5, ASKED).pdu


def test_an_answer_that_has_begun_is_known_by_unit_function_and_length() -> None:
    assert began_in(b"?" + ANSWER[:-1], 5, ASKED)
    assert not began_in(b"????????????", 5, ASKED)
    for other in (framed(5, b"\3\6\1\2\3\4\5\6"), framed(6, ANSWER[1:-2]), framed(5, b"\x83\2")):
        assert not began_in(other, 5, ASKED)
    assert began_in(framed(5, b"\6\0\7\0\1")[:-1], 5, b"\6\0\7\0\1")
    assert not began_in(framed(5, b"\6\0\x08\0\1"), 5, b"\6\0\7\0\1")
