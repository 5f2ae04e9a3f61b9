"""Who sent an object hears what became of it, and nobody hears of another's."""

import asyncio

import pytest

from agent.authority.refused import Forged
from agent.reception.told import LATEST, Told
from agent.registry.place import mint
from tests.unit.authority.objects import NAMES, signed
from tests.unit.reception.desk import Here


@pytest.fixture
def here(tmp_path):
    made = Here(tmp_path).believed()
    yield made
    made.close()


def told(here, uplink, recipient=""):
    return [
        (one["typ"], one["state"], one.get("code"))
        for one in here.reception.told.to(uplink, recipient).values()
    ]


def test_a_collector_hears_that_its_consent_waits_and_then_counts(here):
    dwelling, occ = here.place(), mint("H")
    raw = here.signed("consent+jwt", "consent_collector", place=dwelling, sub=occ)
    here.accept(raw, "accueil-mqtt")
    here.accept(raw, "accueil-mqtt")
    said = [("consent+jwt", "WAITING", None)]
    assert told(here, "accueil-mqtt") == said
    move = here.signed("occupancy+jwt", "building_manager", place=dwelling, occ=occ)
    here.accept(move, "hand")
    assert told(here, "regie", NAMES["building_manager"]) == [("occupancy+jwt", "ACCEPTED", None)]
    asyncio.run(here.reception.again())
    assert told(here, "accueil-mqtt") == [*said, ("consent+jwt", "ACCEPTED", None)]
    assert told(here, "elsewhere", "another.example") == []


def test_who_brought_a_forgery_hears_its_code_and_whom_it_names_does_not(here):
    good = here.signed("consent+jwt", "consent_collector", place=here.place())
    forged = good[:-8] + b"AAAAAAAA"
    for _ in range(2):
        with pytest.raises(Forged):
            here.accept(forged, "metropole")
    assert told(here, "metropole") == [("consent+jwt", "REJECTED", "E_SIG")]
    assert told(here, "other", NAMES["consent_collector"]) == []
    with pytest.raises(Forged):
        here.accept(b"no object at all", "metropole")
    (one,) = [one for one in here.reception.told.to("metropole", "").values() if "typ" not in one]
    assert len(one["sha256"]) == 64


def test_what_was_told_says_no_words_and_outlives_a_restart_bounded(here):
    with pytest.raises(Forged):
        here.accept(signed("consent+jwt", "building_manager", place="D0000000000000"), "metropole")
    before = here.reception.told.to("metropole", "")
    (one,) = before.values()
    assert set(one) <= {"id", "typ", "jti", "sha256", "state", "code", "at"}
    assert Told(here.reception.book).to("metropole", "") == before
    for n in range(LATEST + 5):
        here.reception.told.add(n, ("x", ""), ("t", "j", str(n)), "ACCEPTED")
    (kept,) = here.reception.book.db.execute("SELECT count(*) FROM told").fetchone()
    assert kept == LATEST
