import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.buffer.keys import SealBroken, SpoolKeys

KEYS = SpoolKeys(b"k" * 32, "G1", "r.example")
BOX = KEYS.sealer("batch")


@given(st.binary(max_size=300))
def test_a_sealed_body_opens_under_its_own_name_and_shows_nothing(body):
    sealed = BOX.seal(body, "1")
    assert BOX.unseal(sealed, "1") == body
    assert len(sealed) == len(body) + 28
    assert sealed != BOX.seal(body, "1")


@given(st.data())
def test_one_flipped_bit_anywhere_is_noticed(data):
    sealed = bytearray(BOX.seal(b"heat 1234.567", "1"))
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[at // 8] ^= 1 << at % 8
    with pytest.raises(SealBroken):
        BOX.unseal(bytes(sealed), "1")


@pytest.mark.parametrize(
    "other",
    [
        KEYS.sealer("block"),
        SpoolKeys(b"k" * 32, "G2", "r.example").sealer("batch"),
        SpoolKeys(b"k" * 32, "G1", "s.example").sealer("batch"),
        SpoolKeys(b"l" * 32, "G1", "r.example").sealer("batch"),
    ],
)
def test_no_other_purpose_gateway_recipient_or_key_opens_it(other):
    with pytest.raises(SealBroken):
        other.unseal(BOX.seal(b"x", "1"), "1")


@pytest.mark.parametrize(
    "sealed", [b"", b"short", BOX.seal(b"x", "2")], ids=["nothing", "short", "another row"]
)
def test_what_is_cut_short_or_of_another_row_does_not_open(sealed):
    with pytest.raises(SealBroken):
        BOX.unseal(sealed, "1")


def test_a_key_too_short_to_be_one_is_refused():
    with pytest.raises(ValueError, match="at least 16"):
        SpoolKeys(b"short", "G1", "r.example")
