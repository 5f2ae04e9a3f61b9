"""A withdrawal that was lost in a power cut while the disk failed comes back from a recipient.
Rule D12.
"""

import json
from types import SimpleNamespace

import pytest

from agent.buffer.spool import Spool
from agent.core.model import FOR_GOOD, Quality, Reading, Series
from agent.gateway.recipient import recover_withdrawals
from agent.registry.consent_policy import policy
from agent.registry.inputs import NewConsent, NewPlace, NewWithdrawal
from agent.registry.registry import Registry
from agent.registry.retractions import lost_withdrawals, withdrawal_id
from hil.platform.ledger import opened
from hil.platform.unpack import unpack
from tests.contract.buffer.conftest import HEAD, KEY
from tests.contract.buffer.far import receipt_for, seal_all

NOW = 1_790_000_000
BY = ("alice", "a test", float(NOW))
FR = policy("FR-1")


@pytest.fixture
def registry(tmp_path):
    registry = Registry.open(tmp_path / "registry.json")
    registry.add_places([NewPlace("A-3-12", "dwelling", "D84G7ZWYRD6Z1GQ")], *BY)
    row = NewConsent("A-3-12", HEAD.recipient, ("heat", "cw"), 1800, "advice")
    registry.consent([row], *BY, FR)
    return registry


def rows(consent, channel, *slots, ver=None):
    of = Series(consent.place, channel, "REG", "kWh", 1800, "m", consent.occupancy, consent.id)
    return [Reading(of, NOW + n * 1800, None, Quality.MISSING, why="agent", ver=ver) for n in slots]


def deliver(spool, ledger):
    """Everything that the spool has, and what of the receipts it does not know."""
    batches = seal_all(spool)
    if spool._retracting.waiting():
        batches.append(spool.retract(NOW, "trusted"))
    strange = []
    for batch in batches:
        held = ledger.store(unpack(batch.payload), len(batch.payload))
        word = ledger.word(batch.id, held)
        retracted = tuple((id_, n) for id_, n in word.get("retracted", ()))
        strange += spool.settle(receipt_for(batch, retracted=retracted), NOW).retracted
    return strange


@pytest.mark.parametrize("channels", [(), ("heat",)])
def test_a_withdrawal_that_is_lost_comes_back_with_the_receipt(registry, tmp_path, channels):
    """Rule A9: whatever `ver` and whenever the rows are, they stay out, the receipt says why."""
    (given,) = registry.consents()
    kept = json.dumps(registry.stored())
    with opened(tmp_path / "ledger.db") as ledger:
        with Spool.open(tmp_path / "spool.db", KEY, HEAD, 50_000_000) as spool:
            spool.append(rows(given, "heat", 1, 2), {}, NOW)
            assert not deliver(spool, ledger)
            registry.withdraw([NewWithdrawal(given.id, channels=channels)], *BY)
            for revision, taken in registry.effects(0):
                spool.apply(revision, taken, NOW)
            assert not deliver(spool, ledger)  # it told them itself

        (tmp_path / "registry.json").write_text(kept)  # the power went before the disk had it
        after = Registry.open(tmp_path / "registry.json")
        (forgotten,) = after.consents()
        assert forgotten.withdrawn is None
        with Spool.open(tmp_path / "new.db", KEY, HEAD, 50_000_000) as spool:
            far_future = 10 * 365 * 48
            late = rows(given, "heat", far_future, ver=FOR_GOOD)
            spool.append(rows(given, "heat", 3) + late + rows(given, "cw", 3), {}, NOW)
            strange = deliver(spool, ledger)
        found = list(lost_withdrawals(after.consents(), HEAD.recipient, strange))
        assert found == [(forgotten, channels)]
        held = ledger._db.execute("SELECT DISTINCT channel FROM row").fetchall()
        assert held == ([("cw",)] if channels else [])
        after.withdraw([NewWithdrawal(forgotten.id, channels=channels)], *BY)
        assert not list(lost_withdrawals(after.consents(), HEAD.recipient, strange))


def test_another_recipient_withdraws_nothing(registry):
    (given,) = registry.consents()
    registry.withdraw([NewWithdrawal(given.id)], *BY)
    ids = [one.id for _, taken in registry.effects(0) for one in taken]
    assert ids
    assert not list(lost_withdrawals([given], "other.example", ids))
    assert list(lost_withdrawals([given], HEAD.recipient, ids)) == [(given, ())]


def test_two_consents_of_the_same_people_that_were_withdrawn_are_both_withdrawn_again(registry):
    """One withdrawal ends both, so that a second one would find nothing, and refuse the first."""
    row = NewConsent("A-3-12", HEAD.recipient, ("heat",), 86_400, "research")
    registry.consent([row], *BY, FR)
    ids = {withdrawal_id(one) for one in registry.consents()}
    assert len(ids) == 2
    clock = SimpleNamespace(now=lambda: NOW + 60.0)
    recover_withdrawals(registry, clock, HEAD.recipient, ids)
    assert all(one.withdrawn for one in registry.consents())
    (mark,) = registry.marks(registry.occupancies()[0].id)
    assert mark.word.who == HEAD.recipient
