"""Whatever numbers a platform writes, its answers are read or refused: nothing else comes out."""

import itertools

import pytest

from agent.buffer.receipts import parse
from agent.uplink.base import LONGEST, held, retry_after
from agent.uplink.mqtt.transport import all_sent

NUMBERS = (
    b"1E9999999999999999999", b"1e-9999999999999999999", b"9" * 5000, b"-" + b"9" * 5000, b"1e400",
    b"NaN", b"-Infinity", b"1.5", b"[" * 50_000, b'{"a":' * 50_000, b'"\\ud800"', b"null",
)  # fmt: skip
RECEIPT = (
    b'{"schema": "gardien/receipt/1", "gateway": "G", "recipient": "r", "epoch": "e", "%s": %s}'
)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda one: one[:24].decode())
def test_a_receipt_of_hostile_numbers_is_refused(number):
    entries = {
        b"stored": (b"[[%s, 1]]", b"[%s]"), b"rejected": (b"[[1, %s, 1]]",),
        b"retracted": (b'[["a", %s]]',), b"slow_down": (b"%s",), b"epoch": (b"%s",),
    }  # fmt: skip
    for name, forms in entries.items():
        for form in forms:
            with pytest.raises(ValueError, match=r".+"):
                parse(RECEIPT % (name, form % number))


@pytest.mark.parametrize("number", NUMBERS, ids=lambda one: one[:24].decode())
def test_no_hostile_number_makes_a_receipt_of_a_building_file_nor_the_end_of_a_list(number):
    for body in (
        b'{"schema": "gardien/building-receipt/1", "gateway": %s}',
        b'{"schema": "gardien/objects-end/1", "audience": %s}',
        b'[%s, "gardien/building-receipt/1", "gardien/objects-end/1"]',
    ):
        assert held(body % number, "G", "r") is None
        assert not all_sent(body % number, "G.s")


@pytest.mark.parametrize(
    "words",
    ["9" * 400, "9" * 5000, "²", "1e999", "-1", "nan", "Fri, 27 Nov 99999 10:00:00 GMT", "\x00"]
    + [" ".join(two) for two in itertools.permutations(("Fri,", "27", "Nov", "+9999", "(a"), 3)],
)
def test_a_retry_after_of_any_words_is_a_bounded_wait(words):
    assert 0 <= retry_after({"retry-after": words}, 1.8e9) <= LONGEST
