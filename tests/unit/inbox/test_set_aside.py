"""A fault of our own code stops one object only; what the disk did not take comes again.
Rule O22.
"""

import asyncio
import decimal
import errno
import os
import sqlite3

import pytest

from agent.api.diagnosis import running
from agent.buffer.database import Damaged
from agent.core.errors import NotRecorded, Refused, SpoolFull
from agent.inbox.inbox import REFUSALS_AN_HOUR
from agent.inbox.registry_adapter import RegistryAdapter
from agent.registry.consent_policy import policy
from agent.registry.place import mint
from agent.registry.registry import Registry
from agent.trust import store
from agent.trust.error_codes import LONGEST_SENTENCE, Forged, ObjectCode
from tests.unit.inbox.desk import Here, new_jti
from tests.unit.inbox.test_inbox import home, refused, withdrawn

ASKED = "request+jwt"
SENDER = "metropole"


def raising(here, error):
    """Let the evaluation of requests raise; how often it was tried."""
    tried = []

    async def seat(verified):
        tried.append(verified.jti)
        raise error

    here.inbox.handlers[ASKED] = seat
    return tried


def told(here):
    return [
        (one["state"], one.get("code")) for one in here.inbox.object_status.to(SENDER, "").values()
    ]


FAULTS = (
    decimal.InvalidOperation(), ZeroDivisionError("x"), RecursionError(), KeyError("missing"),
    AttributeError("no"), OverflowError(), UnicodeError("half"), AssertionError(),
    sqlite3.ProgrammingError("of ours"), OSError(errno.ENAMETOOLONG, "of the object"),
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_fault_of_our_own_sets_the_object_aside_and_tells_its_sender(here, fault):
    tried = raising(here, fault)
    raw = here.signed(ASKED)
    assert refused(here, raw) is ObjectCode.INTERNAL
    assert told(here) == [("REJECTED", "E_INTERNAL")]
    assert here.records("object.refused")[-1]["body"]["code"] == "E_INTERNAL"
    (one,) = store.list_set_aside(here.inbox.trust_store.db)
    assert one["via"] == SENDER
    assert one["error"].startswith(type(fault).__name__)
    assert here.inbox.status()["set_aside"] == 1
    assert len(tried) == 1
    assert here.accept(here.signed("time+jwt")), "the next one is taken"


def test_it_is_not_tried_again_after_a_restart_but_by_hand_once_that_is_mended(tmp_path):
    here = Here(tmp_path).believed()
    tried = raising(here, ZeroDivisionError())
    raw = here.signed(ASKED)
    for line_end in (b"", b"\n"):
        assert refused(here, raw + line_end) is ObjectCode.INTERNAL
    here.close()
    here = Here(tmp_path)

    async def mended(verified):
        tried.append(verified.jti)
        return {"outcome": "done"}

    here.inbox.handlers[ASKED] = mended
    assert refused(here, raw) is ObjectCode.INTERNAL
    assert len(tried) == 1
    assert here.accept(raw, "hand")["outcome"] == "done"
    assert here.inbox.status()["set_aside"] == 0
    assert here.accept(raw)["outcome"] == "done"
    here.close()


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, Damaged])
def test_what_ends_the_process_is_no_fault_of_an_object(here, error):
    raising(here, error())
    with pytest.raises(error):
        here.accept(here.signed(ASKED))
    assert told(here) == []
    assert here.inbox.status()["set_aside"] == 0


SHORT_OF = (
    SpoolFull("full"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), NotRecorded("x"),
    MemoryError(), RuntimeError("can't start new thread"),
)  # fmt: skip


@pytest.mark.parametrize("error", SHORT_OF, ids=lambda error: type(error).__name__)
def test_what_the_disk_or_machine_does_not_take_is_neither_refused_nor_set_aside(here, error):
    tried = raising(here, error)
    raw = here.signed(ASKED)
    for _ in range(2):
        with pytest.raises(NotRecorded):
            here.accept(raw)
    assert len(tried) == 2
    assert told(here) == []
    assert here.inbox.status()["set_aside"] == 0


def test_a_withdrawal_that_the_disk_of_the_registry_does_not_take_is_taken_later(here):
    place, occ = home(here)
    consent = here.signed("consent+jwt", place=place, sub=occ, jti=(jti := new_jti(here.wall)))
    here.accept(consent)
    good, raw = here.inbox.registry_adapter, withdrawn(here, place, occ, jti)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    registry = Registry(here.state / "registry.json", full)
    here.inbox.registry_adapter = RegistryAdapter(registry, policy("FR-1"))
    with pytest.raises(NotRecorded):
        here.accept(raw)
    assert ("REJECTED", "E_REGISTRY") not in told(here)
    here.inbox.registry_adapter = good
    assert here.accept(raw)["outcome"] == "withdrawn"


def test_a_withdrawal_is_taken_later_where_the_registry_cannot_be_read(here):
    place, occ = home(here)
    here.accept(here.signed("consent+jwt", place=place, sub=occ, jti=(jti := new_jti(here.wall))))
    raw, path = withdrawn(here, place, occ, jti), here.state / "registry.json"
    path.rename(path.with_suffix(".there"))
    path.mkdir()  # reading it fails, as on a card that gives an error
    with pytest.raises(NotRecorded):
        here.accept(raw)
    assert not [one for one in here.registry.consents() if one.withdrawn is None]  # in force
    path.rmdir()
    path.with_suffix(".there").rename(path)
    assert here.accept(raw)["outcome"] == "recorded before"
    assert here.registry.written


def test_one_that_cannot_be_evaluated_is_set_aside_in_a_flood_too(here):
    tried = raising(here, ZeroDivisionError())
    for number in range(REFUSALS_AN_HOUR):
        refused(here, b"noise %d" % number)
    raw = here.signed(ASKED)
    for _ in range(3):
        assert refused(here, raw) is ObjectCode.INTERNAL
    assert len(tried) == 1


def test_one_that_waits_and_cannot_be_evaluated_stops_no_other(here):
    place = here.place()
    first, second = mint("H"), mint("H")
    for occ in (first, second):
        here.accept(here.signed("consent+jwt", place=place, sub=occ))
    good = here.inbox.registry_adapter

    class Failing:
        policy = good.policy
        known = staticmethod(good.known)

        def record(self, verified, now):
            if verified.model.sub == first:
                raise ZeroDivisionError
            return good.record(verified, now)

    here.accept(here.signed("occupancy+jwt", place=place, occ=second))
    here.inbox.registry_adapter = Failing()
    assert asyncio.run(here.inbox.retry_waiting()) == 2
    # they were made in one second, and so have no order
    assert sorted(told(here)[-2:]) == [("ACCEPTED", None), ("REJECTED", "E_INTERNAL")]
    assert here.inbox.trust_store.waiting() == []


def test_what_is_set_aside_is_bounded_in_number_and_in_bytes(here):
    db = here.inbox.trust_store.db
    for n in range(store.MOST + 5):
        store.set_aside(db, f"{n:064}", (SENDER, b"x" * 100), "E" * 1000, n)
    store.set_aside(db, "f" * 64, (SENDER, b"x" * store.MOST_BYTES), "E", n + 1)
    (rows, size, error) = db.execute(
        "SELECT count(*), sum(length(raw)), max(length(error)) FROM set_aside"
    ).fetchone()
    assert (rows, size) == (store.MOST, store.MOST_BYTES)
    assert error == store.LONGEST_ERROR
    assert store.is_set_aside(db, f"{store.MOST + 4:064}")
    assert not store.is_set_aside(db, f"{0:064}")


def test_after_60_days_nothing_but_the_hash_of_one_is_left(here):
    raising(here, KeyError("Martin"))
    raw = here.signed(ASKED)
    refused(here, raw)
    here.wall += 61 * 86_400
    asyncio.run(here.inbox.retry_waiting())
    db = here.inbox.trust_store.db
    assert db.execute("SELECT error, raw FROM set_aside").fetchall() == [("", b"")]
    assert store.list_set_aside(db) == []
    assert here.inbox.status()["set_aside"] == 0
    assert refused(here, raw) is ObjectCode.INTERNAL


def test_somebody_at_the_gateway_hears_of_it():
    answer = {"clock_said": "", "links": {}, "uplinks": {}, "authority": {"set_aside": 2}}
    answer["now"] = "2026-11-28T12:00:00Z"
    (event,) = running.findings(answer)
    assert event.code == "object"
    assert "2 signed objects" in event.text
    assert "gardien object list" in event.text


def test_what_a_seat_refuses_is_told_too(here):
    raising(here, Refused("no device x; there are: Martin-3e, boiler"))
    assert refused(here, here.signed(ASKED)) is ObjectCode.REQUEST
    (one,) = here.inbox.object_status.to(SENDER, "").values()
    assert one["code"] == "E_REQUEST"
    assert one["words"].startswith("The request cannot be carried out at this gateway. ")


@pytest.mark.parametrize("code", ObjectCode)
def test_every_code_has_a_sentence_of_one_bounded_line(code):
    """Rule O20."""
    words = Forged(code, "long\n" * 500).sentence
    assert words.isprintable()
    assert words.endswith(".")
    assert len(words) <= LONGEST_SENTENCE
    assert Forged(code, "", "the place is not known").sentence.startswith("The place is not known.")
