"""The platform's word that it has sent all signed objects: for this state of the gateway only."""

import json

import pytest

from agent.uplink.mqtt.transport import all_sent

US = "G84G7ZWYRD6Z1GQ.5f1c9e0a"


def word(**changed):
    return json.dumps({"schema": "gardien/objects-end/1", "audience": US} | changed).encode()


def test_it_counts_for_the_state_that_it_names():
    assert all_sent(word(), US) is True
    assert all_sent(word(audience="G84G7ZWYRD6Z1GQ.before"), US) is False
    assert all_sent(word(audience=""), "") is False


@pytest.mark.parametrize(
    "other",
    [b"", b"eyJ.eyJ.sig", b'{"ver": 3}', word(schema="gardien/objects-end/2"), word() + b"x",
     b'{"schema": "gardien/objects-end/1"}', b"[" * 970 + b'"gardien/objects-end/1"',
     word(more="x" * 2000)],
)  # fmt: skip
def test_whatever_else_comes_there_is_a_signed_object_to_be_judged(other):
    assert all_sent(other, US) is None
