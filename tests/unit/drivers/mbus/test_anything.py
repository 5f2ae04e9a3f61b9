"""Any bytes at all: the decoder answers, or raises its one error, and never guesses. Rule F13."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal

from hypothesis import example, given
from hypothesis import strategies as st

from agent.drivers.mbus.decode import MbusError, decode
from agent.drivers.mbus.explain import dumps, explained
from tests.depth import examples
from tests.unit.drivers.mbus.wire import HEADER, long_frame

REAL = bytes.fromhex(
    HEADER + "04 06 E7 91 00 00 0C 78 17 58 85 06 84 80 40 14 00 00 00 00 04 6D 1A 2F 65 11"
    "02 FC 03 48 52 25 74 34 12 02 FD C8 FF 01 D1 08 0D FD 0B 03 33 32 31 05 2E B1 D1 2E BE"
    "42 6C 5F 1C 0C 2A DD B4 EB DD 0D 93 1F 03 61 01 0C 1F 01 02"
)
VALID = long_frame(REAL)
"""times as many frames in the long form"""
CIS = st.sampled_from((0x72, 0x76, 0x78, 0x7A, 0x73, 0x77, 0x70, 0x6E, 0x6F, 0x71, 0x74, 0x75))


def check(frame):
    """Decode and say it in every form; whatever is wrong must be an MbusError."""
    with suppress(MbusError):
        list(explained(frame))
    with suppress(MbusError):
        check_forms(decode(frame))


def check_forms(telegram):
    answer = json.loads(dumps(telegram), parse_float=Decimal)
    for record, said in zip(telegram.records, answer["records"], strict=True):
        assert (record.value is None) == bool(record.error)
        assert said["value"] == record.value or said["value"] == Decimal(record.value)
        assert bytes.fromhex(said["data"]) == record.data


@examples(100, 100_000)
@given(st.binary(max_size=300))
@example(b"")
@example(b"\x68")
@example(b"\x68\x68\x68\x68\x68\x68\x68\x68\x68")
def test_any_bytes_are_decoded_or_refused(data):
    check(data)


@examples(100, 100_000)
@given(st.binary(max_size=252), CIS)
def test_any_payload_in_a_sound_frame_is_decoded_or_refused(payload, ci):
    check(long_frame(payload, ci))


@examples(100, 100_000)
@given(st.binary(max_size=200))
def test_any_records_behind_a_sound_header_are_decoded(payload):
    frame = long_frame(bytes.fromhex(HEADER) + payload)
    check(frame)
    assert decode(frame).id == "12345678"


@examples(100, 75_000)
@given(st.lists(st.tuples(st.integers(0, len(REAL) - 1), st.integers(0, 255)), max_size=4))
def test_a_mutated_frame_with_its_checksum_put_right_is_decoded_or_refused(changes):
    payload = bytearray(REAL)
    for at, byte in changes:
        payload[at] = byte
    check(long_frame(bytes(payload)))


def test_a_frame_cut_anywhere_is_refused():
    for length in range(len(VALID)):
        try:
            decode(VALID[:length])
        except MbusError:
            continue
        raise AssertionError(length)


def test_records_cut_anywhere_keep_those_before_the_cut():
    whole = decode(VALID).records
    for length in range(12, len(REAL)):
        found = decode(long_frame(REAL[:length])).records
        sound = [record for record in found if record.quantity != "malformed"]
        kept = whole[: len(sound)]
        assert [r.identity for r in sound] == [r.identity for r in kept]
        assert [r.value for r in sound[:-1]] == [r.value for r in kept[:-1]]
        assert len(found) - len(sound) <= 1


@given(st.integers(0, len(VALID) - 1), st.integers(1, 255))
def test_a_damaged_byte_never_becomes_another_meters_telegram(at, flip):
    damaged = bytearray(VALID)
    damaged[at] ^= flip
    try:
        decode(bytes(damaged))
    except MbusError:
        return
    raise AssertionError((at, flip))
