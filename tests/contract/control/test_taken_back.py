"""Guards rule G5: a revocation ends what its signer may end, whenever it comes, and no more.
Rule O14.
"""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from agent.control.model import OrderState
from agent.trust.sign import Signer
from agent.trust.verify import Member, verify
from tests.contract.control.test_orders import NOW, Bench
from tests.unit.trust.objects import MEMBERS, NAMES, SIGNERS, claims, known, signed

COUNCIL = "residents_council"
STANDS = {"iat": NOW, "nbf": NOW - 60, "exp": NOW + 90 * 86_400}
LATER = "0192-a-grant-that-comes-later"


@pytest.fixture
def bench():
    with closing(Bench()) as made:
        made.granted("building_manager")
        yield made


def revoke(bench: Bench, by: str, *rev: dict[str, str], ver: int = 1):
    return bench.take(signed("dr-revoke+jwt", by, iss=NAMES[by], iat=NOW, ver=ver, rev=list(rev)))


def council_grants(bench: Bench, jti: str = LATER):
    return bench.take(signed("dr-grant+jwt", **STANDS, jti=jti))


def ordered(bench: Bench) -> str:
    found = bench.take(bench.order())["targets"]["boiler-offset"]
    return found.get("code") or found["state"]


@pytest.mark.parametrize("by", ["occupant", "building_manager", "boiler_operator", "grid_operator"])
def test_nobody_forbids_a_grant_of_another_role_before_it_comes(bench, by):
    assert revoke(bench, by, {"jti": LATER})["unknown"] == [LATER]
    assert not council_grants(bench)["revoked"]
    bench.restart()
    assert ordered(bench) == "SCHEDULED"


@pytest.mark.parametrize("by", [COUNCIL, "root"])
def test_who_could_end_a_grant_forbids_it_before_it_comes_also_after_others_tried(bench, by):
    revoke(bench, "occupant", {"jti": LATER})
    revoke(bench, by, {"jti": LATER})
    bench.restart()
    assert council_grants(bench)["revoked"]
    assert ordered(bench) == "E_REVOKED(residents_council)"


@pytest.mark.parametrize(("role", "hits"), [(COUNCIL, True), ("occupant", False)])
def test_another_key_of_the_role_forbids_it_before_it_comes_and_a_neighbour_does_not(
    bench, role, hits
):
    other = Signer.new("A-3-13")
    members = MEMBERS | {other.kid: Member(other.key, other.name, role)}
    rev = claims("dr-revoke+jwt", iss=other.name, iat=NOW, rev=[{"jti": LATER}])
    raw = other.sign("dr-revoke+jwt", rev)
    asyncio.run(bench.orders.take(verify(raw, known(now=NOW, members=members))))
    grant = {**STANDS, "iss": NAMES[role], "role": role, "occ": "H84G7ZWYRD6Z1GQ", "jti": LATER}
    assert bench.take(signed("dr-grant+jwt", role, **grant))["revoked"] is hits


def test_a_number_that_looks_like_a_key_takes_no_key_back(bench):
    council_grants(bench)
    assert ordered(bench) == "SCHEDULED"
    bench.tend()
    orders, grants = SIGNERS["grid_operator"].kid, SIGNERS[COUNCIL].kid
    revoke(bench, "boiler_operator", {"jti": orders}, {"jti": grants})
    bench.restart()
    bench.tend()
    assert OrderState.ABORTED not in bench.states
    # nor where the number is that of a grant of one's own
    own = {**STANDS, "iss": NAMES["boiler_operator"], "role": "boiler_operator", "jti": grants}
    bench.take(signed("dr-grant+jwt", "boiler_operator", **own))
    revoke(bench, "boiler_operator", {"jti": grants}, ver=2)
    bench.tend()
    assert OrderState.ABORTED not in bench.states
    assert bench.site.journal.grants[LATER].revoked is None
    assert bench.site.journal.grants[grants].revoked is not None


def test_a_key_that_is_in_no_list_is_taken_back_by_those_who_may_and_by_nobody_else(bench):
    """It was rolled out of the list, and its grants stand: they end with it."""
    council_grants(bench)
    gone = known(now=NOW, members={kid: m for kid, m in MEMBERS.items() if m.role != COUNCIL})
    kid = SIGNERS[COUNCIL].kid

    def said(by: str):
        raw = signed("dr-revoke+jwt", by, iss=NAMES[by], iat=NOW, ver=1, rev=[{"kid": kid}])
        asyncio.run(bench.orders.take(verify(raw, gone)))

    said("boiler_operator")
    assert ordered(bench) == "SCHEDULED"
    bench.tend()
    assert bench.site.device.slots[13] is not None
    said("root")
    bench.tend()
    assert bench.site.device.slots[13] is None
    assert ordered(bench) == "E_REVOKED(residents_council)"


def test_a_grant_takes_no_place_of_another_that_has_its_number(bench):
    council_grants(bench)
    squats = {**STANDS, "iss": NAMES["boiler_operator"], "role": "boiler_operator", "jti": LATER}
    bench.take(signed("dr-grant+jwt", "boiler_operator", **squats))  # it stands beside it
    assert bench.site.journal.grants[LATER].by == NAMES[COUNCIL]
    assert ordered(bench) == "SCHEDULED"
    revoke(bench, "boiler_operator", {"jti": LATER})
    assert ordered(bench) == "SCHEDULED"
    revoke(bench, COUNCIL, {"jti": LATER})
    bench.restart()
    assert ordered(bench) == "E_REVOKED(residents_council)"


def test_an_order_takes_no_place_of_another_that_has_its_number(bench):
    council_grants(bench)
    for role in ("building_manager", COUNCIL):
        mine = {"iss": NAMES[role], "role": role, "sub": NAMES["building_manager"]}
        bench.take(signed("dr-grant+jwt", role, **STANDS, **mine))
    bench.take(bench.order(jti="0192-the-first"))
    bench.tend()
    again = bench.take(bench.order("building_manager", jti="0192-the-first", cmd={"val": 1}))
    assert again["targets"]["boiler-offset"]["code"] == "E_REPLAY"
    event = bench.site.journal.events["0192-the-first", "boiler-offset"]
    assert event.order.by == NAMES["grid_operator"]
    assert event.state is OrderState.STARTED


def test_a_cancellation_before_its_order_ends_only_what_its_sender_could_end(bench):
    council_grants(bench)
    fits = bench.site.controller.controls
    other = bench.another("charger", require=("boiler_operator",))
    bench.site.controller.controls = fits | {"charger": other}
    stop = {"act": "cancel", "val": ..., "unit": ..., "dur": ..., "ref": "0192-not-yet-here"}
    stop |= {"tgt": ["boiler-offset", "charger"]}
    answer = bench.take(bench.order("boiler_operator", cmd=stop))["targets"]
    assert answer["boiler-offset"]["code"] == "E_KID"
    assert answer["charger"]["state"] == "CANCELLED"
    raw = bench.order(jti="0192-not-yet-here", cmd={"tgt": ["boiler-offset", "charger"]})
    found = bench.take(raw)["targets"]
    assert found["boiler-offset"]["state"] == "SCHEDULED"
    assert found["charger"]["code"] == "E_REVOKED"


def test_what_a_version_before_kept_without_a_name_counts_on(bench):
    with bench.site.journal._db.transaction():
        bench.site.journal._db.write("INSERT INTO revoked VALUES(?,?)", LATER, float(NOW))
    bench.restart()
    assert council_grants(bench)["revoked"]


def test_what_was_taken_back_before_there_was_a_journal_is_learnt_and_kept(bench):
    council_grants(bench)
    revoke(bench, COUNCIL, {"jti": LATER})
    some = bench.site.journal.taken.all()
    with closing(Bench()) as new:
        new.granted("building_manager")
        new.site.journal.learn(some)
        new.site.journal.learn(some)
        assert len(new.site.journal.taken.all()) == 1
        new.restart()
        assert council_grants(new)["revoked"]
