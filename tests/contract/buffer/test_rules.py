"""Guards rules G1, G2, G3 against whatever order things happen in, with withdrawals.

Any copy of anything ever sent may arrive at any time, or never; receipts too. The ledger of the
pretend platform judges: at the end what may leave is there exactly once, what was taken back not.
"""

import hashlib
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.buffer.batch import read
from agent.buffer.spool import Spool
from agent.core.model import Lane, Receipt, Retraction, Void
from hil.platform.ledger import TABLES, Ledger
from hil.platform.unpack import unpack
from tests.contract.buffer.conftest import HEAD, KEY
from tests.contract.buffer.far import FOREVER, receipt_for
from tests.depth import depth
from tests.unit.buffer.rows import NOON, reading, series

pytestmark = pytest.mark.timeout(600)

DAY = 86_400.0
CAP = 20_000_000
METERS = 3
KEPT = 60 * DAY


def key(row):
    return (row.series.place, row.t, row.ver, row.series.basis)


class Life(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.slot, self.now, self.revision = 0, NOON + DAY, 0
        self.basis = dict.fromkeys(range(METERS), 0)
        """the number of each dwelling's consent in force"""
        self.accepted, self.taken, self.sent, self.words = {}, [], [], []
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.executescript(TABLES)
        self.ledger = Ledger(self.db)
        self.bytes = {}
        self.open()

    def open(self):
        self.door = Spool.open(Path(self.folder.name) / "spool.db", KEY, HEAD, CAP)
        self.spool = self.door.__enter__()

    # what the building and its people do

    @rule(meters=st.sets(st.integers(0, METERS - 1), min_size=1), span=st.integers(1, 4))
    def append(self, meters, span):
        rows = []
        for meter in meters:
            of = series(meter)._replace(basis=f"K{meter}.{self.basis[meter]}")
            row = reading(meter, self.slot, f"{self.slot}.50" if span == 1 else None, span=span)
            rows.append(replace(row, series=of, why=None if span == 1 else "silent"))
        self.slot += span
        self.spool.append(rows, {})
        for row in rows:
            for i in range(row.span):
                one = replace(row, t=row.t + i * 60, span=1)
                self.accepted[key(one)] = one

    @rule(meter=st.integers(0, METERS - 1))
    def withdraw(self, meter):
        """And consent anew, under another number."""
        one = series(meter)
        self._take_back(
            Retraction(
                f"W{self.revision}",
                HEAD.recipient,
                one.place,
                None,
                one.occupancy,
                f"K{meter}.{self.basis[meter]}",
                None,
                0,
                None,
                int(self.now),
                "withdrawn",
            )
        )
        self.basis[meter] += 1

    @precondition(lambda self: self.slot)
    @rule(meter=st.integers(0, METERS - 1), data=st.data())
    def move(self, meter, data):
        """A late notice: a range goes, whatever basis it has."""
        first = data.draw(st.integers(0, self.slot))
        last = data.draw(st.integers(first, self.slot))
        since, until = NOON + first * 60, NOON + last * 60
        self._take_back(
            Retraction(
                f"M{self.revision}",
                None,
                series(meter).place,
                None,
                None,
                None,
                None,
                since,
                until,
                int(self.now),
                "moved",
            )
        )

    def _take_back(self, retraction):
        self.revision += 1
        self.taken.append(retraction)
        voided = self.spool.apply(self.revision, [retraction], self.now)
        assert all(one.void for one in self.spool.unreceipted() if one.id in voided)

    # what goes to and fro

    @rule(lane=st.sampled_from(Lane), back=st.integers(-1, 6), most=st.integers(1, 12))
    def seal(self, lane, back, most):
        live_after = NOON + (self.slot - back) * 60
        self._note(self.spool.seal(lane, self.now, "trusted", live_after, most_rows=most))

    @rule()
    def tell(self):
        self._note(self.spool.retract(self.now, "trusted"))

    def _note(self, batch):
        if batch is not None:
            self.sent.append(batch)

    @rule()
    def send_all(self):
        """What is unreceipted is on its way, voids too; it may arrive or not."""
        self.sent += [one for one in self.spool.unreceipted() if one not in self.sent]

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def arrive(self, data):
        """A copy of anything ever sent arrives; the answer is on its way."""
        self.words.append(self._deliver(data.draw(st.sampled_from(self.sent))))

    def _deliver(self, batch):
        held = self.ledger.store(unpack(batch.payload), len(batch.payload))
        id_ = batch.id
        retracted = self.ledger.word(unpack(batch.payload).id, held).get("retracted", ())
        return Receipt(*id_[:3], ((id_.seq, held),), (), tuple((name, n) for name, n in retracted))

    @precondition(lambda self: self.words)
    @rule(data=st.data())
    def hear(self, data):
        self.spool.settle(data.draw(st.sampled_from(self.words)), self.now)

    @precondition(lambda self: self.spool.unreceipted())
    @rule(data=st.data())
    def reject(self, data):
        """The bytes are refused, as rejected ones may have been stored before all the same."""
        batch = data.draw(st.sampled_from(self.spool.unreceipted()))
        no = receipt_for(batch, stored=(), rejected=((batch.id.seq, batch.sha256, "no"),))
        assert bool(self.spool.settle(no, self.now).quarantined) is (batch.void is None)

    @precondition(lambda self: self.spool.unreceipted())
    @rule(data=st.data())
    def too_large(self, data):
        """A copy is refused for its size; another may have been stored before all the same."""
        batch = data.draw(st.sampled_from(self.spool.unreceipted()))
        if batch.void is not None:
            self.spool.forget_limit()
            return
        smaller = self.spool.split(batch, "413", self.now)
        stands = [one for one in self.spool.unreceipted() if one.id == batch.id]
        assert [one.void for one in stands] == ([Void.REJECTED] if smaller else [])

    @precondition(lambda self: self.spool.unreceipted())
    @rule(data=st.data())
    def refuse(self, data):
        """The transport takes it for none, or a proxy does so by mistake."""
        batch = data.draw(st.sampled_from(self.spool.unreceipted()))
        self.spool.refuse(batch.id, "400", self.now)

    @rule()
    def retry(self):
        self.spool.retry()
        assert not self.spool.backlog().quarantined

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def ask_again(self, data):
        batch = data.draw(st.sampled_from(self.sent))
        self.spool.resend(batch.id.epoch, batch.id.seq, batch.id.seq, self.now)
        for lane in Lane:
            self._note(self.spool.asked(lane))

    # what befalls the gateway

    @rule()
    def restart(self):
        self.door.__exit__(None, None, None)
        self.open()

    @rule()
    def tend(self):
        self.spool.tend(self.now, KEPT)

    @rule()
    def a_day_goes_by(self):
        self.now += DAY + 1

    @rule()
    def forget(self):
        self.spool.forget(self.now + 1)

    @rule(name=st.sampled_from("ab"))
    def restored(self, name):
        self.spool.belongs_to(name)

    # what must hold

    @invariant()
    def an_id_has_two_forms_at_most_and_the_void_is_the_last(self):
        for batch in self.spool.unreceipted():
            forms = self.bytes.setdefault(batch.id, [])
            if batch.sha256 not in [one.sha256 for one in forms]:
                forms.append(batch)
            assert hashlib.sha256(batch.payload).hexdigest() == batch.sha256
            assert forms[-1].sha256 == batch.sha256
            # one that was kept long enough and is asked for after that is a further one: `gone`
            kept = [one for one in forms if one.void is not Void.GONE]
            assert sum(one.void is not None for one in kept) <= 1
            assert len(kept) <= 2

    @invariant()
    def nothing_that_was_taken_back_is_sealed(self):
        for batch in self.spool.unreceipted():
            for row in read(batch.payload):
                assert not any(self._covered(one, row) for one in self.taken)

    def _covered(self, one, row):
        if row.ver is not None and row.ver > one.ver:
            return False
        slots = [replace(row, t=row.t + i * 60, span=1) for i in range(row.span)]
        # what was made after it, on schedule, is another slot or another basis, save for `moved`
        return any(one.covers(HEAD.recipient, slot.series, slot.t) for slot in slots)

    def teardown(self):
        for _ in range(60):
            self.now += DAY + 1
            self.spool.tend(self.now, 1e12)
            while self.spool.retract(self.now, "trusted"):
                pass
            while self.spool.seal(Lane.BACKFILL, self.now, "trusted", FOREVER):
                pass
            waiting = self.spool.unreceipted()
            backlog = self.spool.backlog()
            if not (waiting or backlog.rows or backlog.quarantined or backlog.retractions):
                break
            for batch in waiting:
                self.spool.settle(self._deliver(batch), self.now)
        else:
            raise AssertionError(f"never settled: {backlog}")
        for batch in self.sent:  # and all that was held back arrives now
            self._deliver(batch)
        self.door.__exit__(None, None, None)
        self.folder.cleanup()
        try:
            self._judge()
        finally:
            self.db.close()

    def _judge(self):
        held = {}
        for place, t, ver, basis, span in self.db.execute(
            "SELECT place, t, ver, basis, span FROM row"
        ):
            for i in range(span):
                one = (place, t + i * 60, None if ver < 0 else ver, basis)
                assert one not in held
                held[one] = True
        may = {
            name
            for name, row in self.accepted.items()
            if not any(self._covered(one, row) for one in self.taken)
        }
        assert held.keys() - may == set(), "held though taken back"
        assert may - held.keys() == set(), "lost"
        alarms = self.db.execute("SELECT n FROM tally WHERE what='alarms'").fetchone()
        assert alarms is None


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=depth(20, 300),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
