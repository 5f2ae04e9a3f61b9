"""What a frame must be to be believed, and what an exception code means for the samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.model import Why
from agent.drivers.modbus.answer import in_step, refusal, whole


def frame(pdu: bytes) -> bytes:
    return b"\0\7\0\0" + (len(pdu) + 1).to_bytes(2, "big") + b"\1" + pdu


@given(st.lists(st.binary(min_size=1, max_size=253), max_size=4))
def test_whole_frames_leave_the_stream_in_step(pdus: list[bytes]) -> None:
    assert in_step(b"".join(frame(pdu) for pdu in pdus))


@given(st.binary(min_size=2, max_size=253), st.data())
def test_a_frame_cut_short_leaves_it_out_of_step(pdu: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(frame(pdu)) - 1))
    assert not in_step(frame(pdu)[:cut])


def test_another_protocol_leaves_it_out_of_step() -> None:
    assert not in_step(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("pdu", [b"\4\2\0\1", b"\1\3\0\1\0", b"\x84\2", b"\3\0"])
def test_a_pdu_that_agrees_with_itself_is_whole(pdu: bytes) -> None:
    assert whole(pdu)


@pytest.mark.parametrize(
    "pdu", [b"", b"\4", b"\4\3\0\1\0", b"\x84", b"\4\4\0\1", b"\4\2\0\1\0\1", b"\4\2\0"]
)
def test_a_pdu_that_contradicts_itself_is_not_whole(pdu: bytes) -> None:
    assert not whole(pdu)


@pytest.mark.parametrize(
    ("code", "why", "words", "divide"),
    [
        (1, Why.BAD, "illegal function", False),
        (2, Why.BAD, "illegal data address", True),
        (3, Why.BAD, "illegal data value", True),
        (4, Why.BAD, "device failure", False),
        (6, Why.BAD, "device busy", False),
        (10, Why.BAD, "gateway path unavailable", False),
        (11, Why.SILENT, "gateway target device failed to respond", False),
        (99, Why.BAD, "exception 99", False),
    ],
)
def test_an_exception_says_why_there_is_no_value(
    code: int, why: Why, words: str, divide: bool
) -> None:
    answer = refusal(code, 5.0)
    assert (answer.why, answer.detail, answer.range_refused) == (why, words, divide)
    assert answer.at == 5.0
