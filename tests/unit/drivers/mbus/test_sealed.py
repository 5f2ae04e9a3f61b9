from __future__ import annotations

import random

import pytest

from agent.drivers.mbus.decode import decode
from agent.drivers.mbus.telegram import claimed
from tests.unit.drivers.mbus.wire import HEADER, long_frame, telegram

MODE_5_TWO_BLOCKS = HEADER[:-5] + "20 05"
VOLUME = "0C 13 27 04 85 02"
FIVE = VOLUME + "0B 3B 00 00 00 0A 5B 44 00 0A 5F 40 00 0A 62 40 00"


@pytest.mark.parametrize(
    ("configuration", "length", "claim"),
    [
        (0x0000, 32, (0, 0)),
        (0x0520, 32, (5, 32)),
        (0x8520, 40, (5, 32)),
        (0x0500, 32, (0, 0)),
        (0x0530, 32, (0, 0)),
        (0x0710, 32, (7, 16)),
        (0x0420, 32, (4, 32)),
        (0x0421, 64, (0, 0)),
        (0x0208, 32, (2, 8)),
        (0x0309, 32, (0, 0)),
        (0x0310, 32, (3, 16)),
        (0x0800, 20, (8, 20)),
        (0x0900, 20, (9, 20)),
        (0x0A00, 20, (10, 20)),
        (0x0D00, 20, (13, 20)),
        (0x0600, 32, (0, 0)),
        (0xB627, 32, (0, 0)),
    ],
)
def test_a_claim_of_encryption_fits_the_payload_or_is_none(configuration, length, claim):
    assert claimed(configuration, length) == claim


def test_an_encrypted_payload_is_said_to_be_so_and_not_decoded():
    noise = random.Random(5).randbytes(32)
    found = telegram(noise.hex() + VOLUME, header=MODE_5_TWO_BLOCKS)
    assert found.encrypted == "mode 5, 32 bytes"
    sealed, clear = found.records
    assert (sealed.quantity, sealed.value, sealed.data) == ("encrypted", None, noise)
    assert "no key" in sealed.error
    assert clear.quantity == "volume"


def test_a_signature_of_an_old_meter_is_not_taken_for_encryption():
    found = telegram(FIVE + "2F 2F 2F 2F 2F", header=MODE_5_TWO_BLOCKS)
    assert found.encrypted == ""
    assert [r.quantity for r in found.records][:2] == ["volume", "volume flow"]


FOUR = FIVE[: -len("0A 62 40 00")]
FILL = "2F" * 16


@pytest.mark.parametrize(
    ("records", "encrypted"),
    [
        (FIVE, False),
        (FOUR, True),
        (FOUR + "0F", True),
        (FIVE + "0C", True),
        (FIVE + "01 6F 00", True),
        (FIVE + "01 93 44 00", True),
        (FIVE + "0A 5B FF FF", True),
        (FIVE + "0A 5B FF FF" + "01 13 01" * 2, True),
        (FIVE + "0A 5B FF FF" + "01 13 01" * 3, False),
        (FIVE + "C1 BF 00 13 01", False),
        (FIVE + "C1 BF 03 13 01", False),
        (FIVE + "81 80 04 13 01", True),
        (FIVE + "81 B0 30 13 01", False),
        (FIVE + "81 80 80 10 13 01", True),
        (FIVE + "81 C0 C0 C0 40 13 01", False),
        (FIVE + "81 80 80 80 80 40 13 01", True),
    ],
)
def test_a_claim_is_believed_unless_the_records_make_sense(records, encrypted):
    found = telegram(records + FILL, header=MODE_5_TWO_BLOCKS)
    assert bool(found.encrypted) is encrypted


def test_noise_is_hardly_ever_taken_for_records():
    dice = random.Random(13757)
    header = bytes.fromhex(MODE_5_TWO_BLOCKS)
    taken = sum(not decode(long_frame(header + dice.randbytes(32))).encrypted for _ in range(5000))
    assert taken <= 3
