"""Guards rule G5: an assembly without a key is heard by two people's word, or not at all.
Rule O19.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from types import SimpleNamespace

import pytest

from agent.api import control
from agent.api import trust as trust_api
from agent.api.registry import Caller
from agent.core.errors import Refused
from agent.trust.claims import WITNESS
from agent.trust.jws import Key
from agent.trust.store import CONFIRMED_WITHIN
from agent.trust.verify import Member
from tests.contract.control.test_orders import NOW, Bench
from tests.unit.inbox.desk import Here
from tests.unit.trust.objects import DAY, NAMES

VOTE = {
    "sub": NAMES["grid_operator"], "nbf": NOW - 60, "exp": NOW + 300 * DAY,
    "scope": {"assets": ["kind:heating"], "acts": ["offset"]},
    "lim": {"min": -2, "max": 1, "unit": "K"},
    "evid": {"kind": "vote", "ref": "AG, résolution 14", "date": "2026-05-12",
             "result": "61 pour, 12 contre", "majority": "article 25", "sha256": "0" * 64},
}  # fmt: skip


class Site:
    """A house with a real book, clock, inbox and desk."""

    def __init__(self, folder, *, witnessed: bool = True) -> None:
        self.bench, self.here = Bench(), Here(folder)
        self.here.wall = float(NOW)
        inbox, who = self.here.inbox, self.here.who
        self.own = Key.of(who.signing_key.public_key())
        inbox.witness = Member(self.own, who.gateway, WITNESS) if witnessed else None
        inbox.handlers["dr-grant+jwt"] = self.bench.orders.take
        self.trust = SimpleNamespace(witnessed=witnessed)
        self.house = SimpleNamespace(
            config=SimpleNamespace(
                trust=self.trust, building=SimpleNamespace(shared_accounts=("installer",))
            ),
            clock=self.here.clock, identity=who, steering=self.bench.orders,
            objects=SimpleNamespace(inbox=inbox, accept=inbox.accept),
            audit=self.here.inbox.audit,
        )  # fmt: skip

    def ask(self, call, who, **args):
        asker = Caller(who, control)
        return asyncio.run(control.CALLS[f"control.{call}"](self.house, asker, **args))

    def order(self):
        return self.bench.take(self.bench.order())["targets"]["boiler-offset"]

    def end(self):
        self.bench.site.close()
        self.here.stack.close()


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    made.bench.granted("building_manager")
    yield made
    made.end()


def test_what_one_records_and_another_confirms_stands_for_the_residents(site):
    assert "residents_council" in str(site.order())
    code = site.ask("witness", "dupont", grant=VOTE)["code"]
    assert site.order()["state"] == "REJECTED"
    assert site.ask("vote", "martin", code=code)["evid"] == VOTE["evid"]
    answer = site.ask("confirm", "martin", code=code.lower().replace("-", " "))
    taken = site.order()
    assert taken["state"] == "SCHEDULED"
    assert answer["grant"] in taken["grants"]
    site.here.believed()
    shown = asyncio.run(trust_api.trust_show(site.house, Caller("dupont", control)))["list"]
    assert shown["left_out"] == []  # our own key is in no list, and counts by the configuration
    site.bench.site.controller.journal.silence(
        site.own.kid
    )  # the configuration forbids it meanwhile
    assert site.order()["code"] == "E_REVOKED(residents_council)"
    site.bench.site.controller.journal.silence(None)
    assert site.order()["state"] == "SCHEDULED"


def test_who_recorded_a_vote_does_not_confirm_it(site):
    code = site.ask("witness", "dupont", grant=VOTE)["code"]
    for who, words in (
        ("dupont", "another person must"), ("root", "several people"), ("installer", "several")
    ):  # fmt: skip
        with pytest.raises(Refused, match=words):
            site.ask("confirm", who, code=code)
    assert site.order()["state"] == "REJECTED"
    with pytest.raises(Refused, match="several people"):
        site.ask("witness", "root", grant=VOTE)


def test_a_code_works_once_and_not_for_ever(site):
    code = site.ask("witness", "dupont", grant=VOTE)["code"]
    with pytest.raises(Refused, match="no vote waits"):
        site.ask("confirm", "martin", code="00000-00000")
    site.ask("confirm", "martin", code=code)
    with pytest.raises(Refused, match="no vote waits"):
        site.ask("confirm", "martin", code=code)
    late = site.ask("witness", "dupont", grant=VOTE)["code"]
    site.here.wall += CONFIRMED_WITHIN + 1
    with pytest.raises(Refused, match="no vote waits"):
        site.ask("confirm", "martin", code=late)


def test_a_code_is_not_called_wrong_while_the_trust_store_is_shut(site):
    code = site.ask("witness", "dupont", grant=VOTE)["code"]
    trust_store = site.house.objects.inbox.trust_store
    with (
        closing(trust_store.db),
        closing(trust_store.shut()),
        pytest.raises(Refused, match="cannot be read now"),
    ):
        site.ask("confirm", "martin", code=code)


def test_a_kill_before_the_code_is_used_up_leaves_one_grant(site, monkeypatch):
    code = site.ask("witness", "dupont", grant=VOTE)["code"]
    with monkeypatch.context() as cut:
        cut.setattr(control.store, "drop_vote", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            site.ask("confirm", "martin", code=code)
    assert site.ask("confirm", "martin", code=code)["again"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"evid": VOTE["evid"] | {"result": None}},
        {"evid": VOTE["evid"] | {"kind": "form"}},
        {"role": "boiler_operator"},
        {"iss": "Régie Dupont"},
        {"lim": {"windows": ["whenever"]}},
        {"exp": NOW + 900 * DAY},
    ],
)
def test_a_vote_that_would_not_be_taken_is_refused_before_the_paper_is_printed(site, wrong):
    with pytest.raises(Refused):
        site.ask("witness", "dupont", grant=VOTE | wrong)


def test_nothing_is_witnessed_where_the_configuration_does_not_allow_it(site):
    code = site.ask("witness", "dupont", grant=VOTE)["code"]
    site.trust.witnessed = False
    for call, args in (("witness", {"grant": VOTE}), ("vote", {"code": code}),
                       ("confirm", {"code": code})):  # fmt: skip
        with pytest.raises(Refused, match="does not witness votes"):
            site.ask(call, "martin", **args)
    site.trust.witnessed = True
    site.house.objects.inbox.witness = None
    with pytest.raises(Refused, match="does not witness votes"):
        site.ask("confirm", "martin", code=code)
