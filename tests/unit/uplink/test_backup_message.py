"""The platform's word on a backup, from bytes that anybody may have sent."""

import json

import pytest

from agent.uplink.base import held

WORD = {"schema": "gardien/building-receipt/1", "gateway": "G1", "recipient": "r.example",
        "sha256": "a" * 64}  # fmt: skip


def test_it_names_what_is_held_of_this_gateway_for_this_recipient():
    assert held(json.dumps(WORD).encode(), "G1", "r.example") == "a" * 64
    assert held(json.dumps(WORD).encode(), "G2", "r.example") is None
    assert held(json.dumps(WORD).encode(), "G1", "other.example") is None


@pytest.mark.parametrize(
    "other",
    [b"", b"{}", json.dumps(WORD).encode()[:-1], b'["gardien/building-receipt/1"]',
     b"[" * 1_950 + b'"gardien/building-receipt/1"',
     json.dumps(WORD | {"x": "y" * 2_000}).encode()],
)  # fmt: skip
def test_whatever_else_comes_there_is_none(other: bytes):
    assert held(other, "G1", "r.example") is None
