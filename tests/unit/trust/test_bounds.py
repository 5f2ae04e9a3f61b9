"""JSON of other people is bounded before it is parsed: no input costs much memory or time.
Rule O30.
"""

import json
import time

import pytest

from agent.buffer import receipts
from agent.trust.strict import DEEPEST, json_of
from agent.uplink.base import held
from agent.uplink.mqtt.transport import all_sent
from tests.memory import forget, peak

FULL = 4_000_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * FULL, "nested deeper"),
        ('{"a":' * (DEEPEST + 1), "nested deeper"),
        ("[" + "[]," * 1_000_000 + "0]", "more members and entries"),
        ("{" + ",".join(f'"{n}":0' for n in range(200_000)) + "}", "more members and entries"),
        ("9" * FULL, "a number has 4000000 characters"),
        ("[1e9999999999999999999]", "exponent beyond"),
        ('{"a":1,"a":2}', "occurs twice"),
        ('"' * FULL, "more members and entries"),
        ('"\\' * (FULL // 2), "is not JSON"),
        ("[NaN]", "is not JSON"),
        ("", "is not JSON"),
    ],
)
def test_what_is_out_of_bounds_is_refused_without_being_parsed(text, words):
    raw, begun, before = text.encode(), time.process_time(), forget()
    with pytest.raises(ValueError, match=words):
        json_of(raw, "it")
    assert time.process_time() - begun < 6
    assert peak() - before < 40, "MB"


def test_marks_in_strings_count_for_nothing_and_long_strings_only_where_asked():
    said = {"a": "[{,:" * 100_000, "b": '"\\[' * 9}
    assert json_of(json.dumps(said), "it") == said
    with pytest.raises(ValueError, match="a string has 400000 characters"):
        json_of(json.dumps(said), "it", longest=1000)


def receipt(count: int) -> bytes:
    return json.dumps(
        {"schema": receipts.SCHEMA, "gateway": "G", "recipient": "r", "epoch": "e",
         "stored": [[seq, "0" * 64] for seq in range(count)]}, separators=(",", ":"),
    ).encode()  # fmt: skip


def test_a_receipt_names_thousands_of_batches_and_no_hundred_thousand():
    assert len(receipts.parse(receipt(12_000)).stored) == 12_000
    with pytest.raises(ValueError, match="at most"):
        receipts.parse(receipt(100_000))
    deep = receipt(1)[:-1] + b',"retracted":' + b"[" * 900_000
    with pytest.raises(ValueError, match="nested deeper"):
        receipts.parse(deep)


def test_what_is_no_word_of_the_platform_is_no_error():
    for schema, read in (
        (b"gardien/objects-end/1", lambda raw: all_sent(raw, "a")),
        (b"gardien/building-receipt/1", lambda raw: held(raw, "G", "r")),
    ):
        for more in (b"[" * 900, b'{"a":' * 100, b"\xff", b"1e999999999999999999999"):
            assert read(b'["' + schema + b'",' + more) is None
