"""What became of values that a recipient has received."""

import pytest

from agent.core.model import Flag, Why
from agent.registry.dossier import DisclosedValues, Erasure, erasure_state
from agent.registry.page import texts_of

ASKED = 1_790_000_000
DAY = "2026-09-21"
VALUES = DisclosedValues(DAY, "us.example", "D1", "heat", "c1", 75, "H1")


def erasure(**other):
    words = {
        "recipient": "us.example", "place": "D1", "channel": None, "basis": "c1",
        "occupancy": "H1", "since": 0, "until": None, "reason": "withdrawn",
        "asked": ASKED, "rows": 75, "linked": True,
    }  # fmt: skip
    return Erasure(**words | other)


MOVED = {"reason": "moved", "basis": None}


@pytest.mark.parametrize(
    ("erasures", "state"),
    [
        ([], "none"),
        ([erasure()], "confirmed"),
        ([erasure(rows=0)], "confirmed"),
        ([erasure(rows=None)], "asked"),
        ([erasure(rows=None, linked=False)], "cannot_ask"),
        ([erasure(channel="heat")], "confirmed"),
        ([erasure(channel="cw")], "none"),
        ([erasure(basis="c2")], "none"),
        ([erasure(recipient="other.example")], "none"),
        ([erasure(occupancy="H2", basis=None, reason="moved")], "none"),
        ([erasure(**MOVED)], "confirmed_part"),
        ([erasure(**MOVED, rows=None)], "asked_part"),
        ([erasure(**MOVED), erasure(rows=None)], "asked"),
        ([erasure(asked=ASKED - 86_400)], "confirmed"),
        ([erasure(**MOVED, asked=ASKED - 86_400)], "none"),
    ],
)
def test_values_are_erased_once_the_recipient_says_so(erasures, state):
    """What was withdrawn is refused for ever, also where it came after the withdrawal. Rule P23."""
    assert erasure_state(VALUES, erasures) == state


@pytest.mark.parametrize("language", ["en", "fr"])
def test_each_reason_and_remark_of_a_value_has_words(language):
    says = texts_of("letter", language)
    assert all(f"why_{why}" in says or f"held_{why}" in says for why in Why)
    assert all(f"held_{flag}" in says for flag in Flag)
