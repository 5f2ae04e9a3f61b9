"""Who sent an object hears what became of it, and nobody hears of another's. Rule O20."""

import asyncio
from contextlib import nullcontext, suppress
from types import SimpleNamespace

import pytest

from agent.core.errors import NotRecorded
from agent.core.tasks import Change
from agent.gateway.controls import NoControls
from agent.gateway.delivery import hurry_outcomes
from agent.gateway.signed_objects import SignedObjects
from agent.inbox.inbox import LATEST, ObjectStatus
from agent.registry.place import mint
from agent.trust.error_codes import Forged
from tests.unit.trust.objects import DAY, NAMES, NOW, SIGNERS, signed
from tests.virtual_time import run


def told(here, uplink, recipient=""):
    status = here.inbox.object_status
    entries = status.to(uplink, recipient)
    assert status.urgent(uplink, recipient) == entries.keys()
    return [(one["typ"], one["state"], one.get("code")) for one in entries.values()]


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
    asyncio.run(here.inbox.retry_waiting())
    assert told(here, "accueil-mqtt") == [*said, ("consent+jwt", "ACCEPTED", None)]
    assert told(here, "elsewhere", "another.example") == []


def test_a_heartbeat_is_reported_and_hurries_no_batch_unless_it_is_refused(here):
    here.accept(here.signed("time+jwt"), "metropole")
    status = here.inbox.object_status
    (entry,) = status.to("metropole", "").values()
    assert (entry["typ"], entry["state"]) == ("time+jwt", "ACCEPTED")
    assert status.urgent("metropole", "") == frozenset()
    with pytest.raises(Forged):
        here.accept(here.signed("time+jwt")[:-8] + b"AAAAAAAA", "metropole")
    assert len(status.urgent("metropole", "")) == 1


def test_a_refusal_is_sent_at_once_as_an_acceptance_is(here):
    """Rule O20: a refusal waited for the next look at objects that wait, for up to a minute."""

    async def the_disk_answers() -> None:
        pass

    async def story() -> None:
        objects = SignedObjects(here.registry, here.notes, the_disk_answers, dict, NoControls)
        gateway = SimpleNamespace(decided=Change(), objects=objects, steering=NoControls())
        sent, now = asyncio.Queue(), asyncio.get_running_loop().time
        delivery = SimpleNamespace(send_now=lambda: sent.put_nowait(now()))
        settings = SimpleNamespace(recipient="r.example")
        centre = SimpleNamespace(name="metropole", settings=settings, delivery=delivery)
        with objects.open(lambda: nullcontext(here.inbox)):
            hurrying = asyncio.create_task(hurry_outcomes(gateway, centre))
            for raw in (here.signed("duty+jwt"), b"no object at all"):
                await asyncio.sleep(1)
                sent_at = now()
                await objects.carried(raw, "metropole")
                assert await asyncio.wait_for(sent.get(), 60) == sent_at
            hurrying.cancel()

    run(story())


def test_what_is_not_recorded_and_sent_again_has_arrived_the_first_time(here):
    """Rule C13: a signed time that the disk did not store is sent again each minute."""
    arrivals = []

    async def at_once() -> bool:
        return False

    async def accept(_raw, _via, arrived):
        arrivals.append(arrived)
        if len(arrivals) < 3:
            raise NotRecorded("the disk does not answer")
        return {"outcome": "the clock agrees"}

    async def story() -> None:
        objects = SignedObjects(here.registry, here.notes, at_once, dict, NoControls)
        inbox = SimpleNamespace(accept=accept, retry_waiting=at_once)
        with objects.open(lambda: nullcontext(inbox)):
            for _ in range(4):
                with suppress(NotRecorded):
                    await objects.carried(b"a signed time", "metropole")

    asyncio.run(story())
    assert arrivals[0] == arrivals[1] == arrivals[2] < arrivals[3]


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
    (one,) = [
        one for one in here.inbox.object_status.to("metropole", "").values() if "typ" not in one
    ]
    assert len(one["sha256"]) == 64


def test_what_was_told_outlives_a_restart_bounded(here):
    with pytest.raises(Forged):
        here.accept(signed("consent+jwt", "building_manager", place="D0000000000000"), "metropole")
    before = here.inbox.object_status.to("metropole", "")
    (one,) = before.values()
    assert set(one) <= {"id", "typ", "jti", "sha256", "state", "code", "words", "at"}
    assert ObjectStatus(here.inbox.trust_store, here.registry.mark).to("metropole", "") == before
    for n in range(LATEST + 5):
        here.inbox.object_status.add(n, ("x", ""), ("t", "j", str(n)), "REJECTED E_SIG", "words")
    for table in ("told", "told_words"):
        (kept,) = here.inbox.trust_store.db.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert kept == LATEST


def test_no_sentence_names_what_its_sender_may_not_know(here):
    """Neither a name of the trust list nor anything that is recorded of a dwelling."""
    dwelling, occ = here.place("Martin, 3e gauche"), mint("H")
    here.accept(here.signed("occupancy+jwt", place=dwelling, occ=occ, ref="bail Martin"))
    (council,) = (one for role, one in SIGNERS.items() if role == "residents_council")
    sent = [
        here.signed("consent+jwt", place=dwelling, sub=mint("H"))[:-8] + b"AAAAAAAA",
        here.signed("occupancy+jwt", place=dwelling, occ=mint("H")),
        here.signed("dr-revoke+jwt", "occupant", iss=NAMES["occupant"], rev=[{"kid": council.kid}]),
        here.signed("consent+jwt", "occupant", iss="Jeanne Martin"),
    ]
    for raw in sent:
        with pytest.raises(Forged):
            here.accept(raw)
    found = [one for one in here.inbox.object_status.to("metropole", "").values() if "words" in one]
    assert [one["code"] for one in found] == ["E_SIG", "E_REGISTRY", "E_KID", "E_KID"]
    words = " ".join(one["words"] for one in found)
    for name in ("Martin", *NAMES.values()):
        assert name not in words


def test_what_is_wrong_with_the_object_itself_is_said_exactly(here):
    sent = {
        "the year is not between 2000 and 2100": {"typ": "duty+jwt", "to": "2101-01-01T00:00:00Z"},
        "check characters": {"typ": "occupancy+jwt", "place": "D00000000000000"},
        "36 months at most": {"typ": "consent+jwt", "exp": NOW + 1200 * DAY},
        "`audience` of the gateway's status": {"typ": "request+jwt", "aud": "G84G7ZWYRD6Z1GQ.1"},
        "data.step": {"typ": "consent+jwt", "data": {"channels": ["heat"], "step": "30 min"}},
    }
    dwelling, occ = here.place(), mint("H")
    here.accept(here.signed("occupancy+jwt", place=dwelling, occ=occ))
    for words, said in sent.items():
        typ, place = said.pop("typ"), {}
        if typ in {"consent+jwt", "occupancy+jwt"}:
            place = {"place": dwelling, **({"sub": occ} if typ == "consent+jwt" else {})}
        with pytest.raises(Forged):
            here.accept(here.signed(typ, **(place | said)))
        *_, latest = here.inbox.object_status.to("metropole", "").values()
        assert words in latest["words"]
