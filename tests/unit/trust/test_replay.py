"""Rule O9: the number of an object is kept for as long as somebody could use it again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest

from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.verify import KEPT_AFTER, REPLAY_SCHEMA, first_answer, keep_answer, prune_used

NOW = 1_795_000_000


@pytest.fixture
def db():
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(REPLAY_SCHEMA)
        yield database


def verified(jti, exp=None, owner="centre", sha256="a"):
    return SimpleNamespace(owner=owner, jti=jti, sha256=sha256, exp=exp)


def refused(db, one):
    with pytest.raises(Forged) as error:
        first_answer(db, one)
    return error.value.code


def test_a_number_is_kept_until_a_day_after_its_end(db):
    one, outcome = verified("one", NOW), {"outcome": "taken"}
    assert first_answer(db, one) is None
    keep_answer(db, one, outcome)
    assert prune_used(db, NOW + KEPT_AFTER) == 0
    assert first_answer(db, one) == outcome
    assert refused(db, verified("one", NOW, sha256="b")) is ObjectCode.REPLAY
    assert prune_used(db, NOW + KEPT_AFTER + 1) == 1


def test_what_ended_no_later_than_a_number_that_was_forgotten_is_a_replay(db):
    keep_answer(db, verified("one", NOW), {})
    keep_answer(db, verified("two", NOW - 60), {})
    assert prune_used(db, NOW + KEPT_AFTER + 1) == 2
    for jti, exp in (("one", NOW), ("two", NOW - 60), ("never seen", NOW - 1)):
        assert refused(db, verified(jti, exp)) is ObjectCode.REPLAY
    assert first_answer(db, verified("later", NOW + 1)) is None
    # a later round that forgets less does not lower the bound
    keep_answer(db, verified("three", NOW - 3600), {})
    prune_used(db, NOW + KEPT_AFTER + 1)
    assert refused(db, verified("one", NOW)) is ObjectCode.REPLAY


def test_a_number_without_an_end_is_kept_for_ever(db):
    keep_answer(db, verified("a consent"), {"outcome": "recorded"})
    assert prune_used(db, NOW + 3650 * KEPT_AFTER) == 0
    assert first_answer(db, verified("a consent")) == {"outcome": "recorded"}


def test_two_issuers_number_for_themselves(db):
    keep_answer(db, verified("one", NOW), {"outcome": "taken"})
    assert first_answer(db, verified("one", NOW + 1, owner="another", sha256="b")) is None
