import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.buffer.receipts import parse
from agent.core.model import Receipt

A, B = "a" * 64, "b" * 64
GOOD = {
    "schema": "gardien/receipt/1",
    "gateway": "G7Q2MXW4T",
    "recipient": "energie.metropole.example",
    "epoch": "5f1c09a3b7e2",
    "stored": [[42, A]],
    "rejected": [[43, B, "row 3:\n unknown place"]],
    "retracted": [["R1", 17]],
    "slow_down": 30,
}
SCHEMA = json.loads((Path(__file__).parents[3] / "docs/receipt.schema.json").read_text())


def said(**other):
    return json.dumps(GOOD | other).encode()


def test_a_receipt_says_what_is_stored_and_what_is_rejected():
    assert parse(said()) == Receipt(
        gateway="G7Q2MXW4T",
        recipient="energie.metropole.example",
        epoch="5f1c09a3b7e2",
        stored=((42, A),),
        rejected=((43, B, "row 3:  unknown place"),),
        retracted=(("R1", 17),),
        slow_down=30,
    )


def test_a_receipt_is_as_published():
    """Rule R9."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(GOOD, SCHEMA)


BAD = [
    {"schema": "gardien/receipt/2"},
    {"stored": [[True, A]]},
    {"stored": [[-1, A]]},
    {"stored": [[2**60, A]]},
    {"stored": [["42", A]]},
    {"stored": [[42, A[:-1]]]},
    {"stored": [[42, A.upper()]]},
    {"stored": [[42]]},
    {"stored": [[42, A, "x"]]},
    {"stored": {"42": A}},
    {"stored": [42]},
    {"rejected": [[43, B]]},
    {"rejected": [[43, B, None]]},
    {"retracted": [["R1"]]},
    {"retracted": [["R1", -1]]},
    {"slow_down": -1},
    {"slow_down": 86_401},
    {"slow_down": True},
    {"slow_down": "30"},
    {"gateway": ""},
    {"gateway": 5},
    {"epoch": None},
    {"epoch": "5f1c 09a3"},
    {"recipient": "a/b"},
    {"note": "hello"},
]


@pytest.mark.parametrize("wrong", BAD, ids=str)
def test_what_is_not_exactly_a_receipt_is_refused_here_and_by_the_published_schema(wrong):
    """Rule T22."""
    with pytest.raises(ValueError):
        parse(said(**wrong))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(GOOD | wrong, SCHEMA)


@pytest.mark.parametrize("name", ["schema", "gateway", "recipient", "epoch"])
def test_a_receipt_that_does_not_say_whose_it_is_is_refused(name):
    with pytest.raises(ValueError):
        parse(json.dumps({key: word for key, word in GOOD.items() if key != name}).encode())


@pytest.mark.parametrize("again", [{"stored": [[42, A], [42, B]]}, {"rejected": [[42, B, ""]]}])
def test_a_receipt_that_says_two_things_of_one_batch_is_refused(again):
    """Rule T22."""
    with pytest.raises(ValueError, match="each seq once"):
        parse(said(**again))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"schema":' * 100_000,
        b'{"stored": [], ' + said()[1:],
        said()[:-2],
        said().replace(b"30", b"NaN"),
        said().replace(b"30", b"9" * 5000),
        said().replace(b"30", b"1e400"),
        said().decode().encode("utf-16"),
        b"\xff" + said(),
        b" " * 1_000_001,
        b"null",
        b"",
    ],
    ids=lambda body: repr(body[:30]),
)
def test_bytes_meant_to_harm_are_refused(body):
    with pytest.raises(ValueError):
        parse(body)


def test_a_reason_with_half_a_character_can_be_logged():
    receipt = parse(
        json.dumps(GOOD | {"rejected": [[43, B, "\ud800\x1b[31m" + "x" * 900]]}).encode()
    )
    reason = receipt.rejected[0][2]
    assert reason.startswith("  [31mxx")
    assert len(reason) == 200


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(A),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=200))
@example(b"{")
def test_any_bytes_are_a_receipt_or_a_value_error(body):
    with pytest.raises(ValueError):
        parse(body)


@given(st.sampled_from(sorted(GOOD)), anything)
def test_any_member_is_a_receipt_or_a_value_error(name, what):
    try:
        parse(said(**{name: what}))
    except ValueError:
        return
    jsonschema.validate(GOOD | {name: what}, SCHEMA)
