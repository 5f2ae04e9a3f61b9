"""Guards rule G2 against whatever order things happen in: every row delivered exactly once.

Messages may be lost, repeated, late; the far side may hold other bytes under an id; the agent may
start anew at any time. What must hold is checked by the platform's own unique key.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.buffer.batch import read
from agent.buffer.spool import Spool
from agent.core.model import Lane
from tests.contract.buffer.conftest import HEAD, KEY
from tests.contract.buffer.far import FOREVER, Far, receipt_for, seal_all
from tests.depth import depth
from tests.unit.buffer.rows import NOON, reading

DAY = 86_400.0
CAP = 20_000_000


class Life(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.slot, self.now, self.version = 0, DAY, 0
        self.accepted, self.sealed, self.bytes = [], [], {}
        self.far, self.receipts = Far(), []
        self.key, self.key_before = KEY, None
        self.open()

    def open(self):
        path, before = Path(self.folder.name) / "spool.db", self.key_before
        self.door = Spool.open(path, self.key, HEAD, CAP, before=before)
        self.spool = self.door.__enter__()

    def teardown(self):
        self.deliver_all()
        self.door.__exit__(None, None, None)
        self.folder.cleanup()
        wanted = {
            (row.series.place, row.t + i * row.series.step): row
            for row in self.accepted
            for i in range(row.span)
        }
        got = {(key[0], key[4]): row for key, (row, _) in self.far.rows.items()}
        assert got.keys() == wanted.keys()
        for (place, t), row in wanted.items():
            assert got[place, t] == replace(row, t=t, span=1)
        assert self.far.twice == []

    def deliver_all(self):
        for _ in range(50):
            self.now += DAY
            seal_all(self.spool, Lane.BACKFILL, FOREVER)
            waiting = self.spool.unreceipted()
            if not waiting:
                break
            for batch in waiting:
                self.spool.settle(self.far.store(batch), self.now)
        backlog = self.spool.backlog()
        assert (backlog.rows, backlog.batches, backlog.quarantined) == (0, 0, 0)

    @rule(
        meters=st.integers(1, 4),
        span=st.integers(1, 5),
        late=st.booleans(),
        version=st.booleans(),
        delay=st.none() | st.integers(-60, 600),
    )
    def append(self, meters, span, late, version, delay):
        rows = []
        for meter in range(meters):
            missing = span > 1
            row = reading(meter, self.slot, None if missing else f"{self.slot}.50", span=span)
            rows.append(replace(row, why="silent") if missing else row)
        self.slot += span
        if late:
            rows.reverse()
        if version:
            self.version += 1  # no two are alike (rule C1): an equal one would be raised
            rows[0] = replace(rows[0], ver=self.version)
        self.spool.append(rows, {}, None if delay is None else NOON + self.slot * 60 + delay)
        self.accepted += rows

    @rule(lane=st.sampled_from(Lane), back=st.integers(-1, 6), most=st.integers(1, 12))
    def seal(self, lane, back, most):
        live_after = NOON + (self.slot - back) * 60
        live, backfill = self.spool.waiting(live_after)
        batch = self.spool.seal(lane, self.now, "trusted", live_after, most_rows=most)
        assert (batch is not None) == ((live if lane is Lane.LIVE else backfill) > 0)
        if batch:
            assert batch.id.seq == 1 + sum(b.id.epoch == batch.id.epoch for b in self.sealed)
            self.sealed.append(batch)
            slots = {}
            for row in read(batch.payload):
                if not row.again:
                    assert slots.get(row.series, 0) < row.t + (row.span - 1) * 60
                    slots[row.series] = row.t

    @precondition(lambda self: self.sealed)
    @rule(data=st.data())
    def arrive(self, data):
        """A copy of any batch ever sealed arrives; its receipt is on its way."""
        self.receipts.append(self.far.store(data.draw(st.sampled_from(self.sealed))))

    @precondition(lambda self: self.receipts)
    @rule(data=st.data())
    def hear(self, data):
        """Any receipt ever sent arrives, once more perhaps."""
        receipt = data.draw(st.sampled_from(self.receipts))
        self.spool.settle(receipt, self.now)

    @precondition(lambda self: self.spool.unreceipted())
    @rule(data=st.data())
    def contradict(self, data):
        """The far side holds other bytes under an id of ours: somebody else's were first, or it
        was restored; the rows it may have all the same.
        """
        batch = data.draw(st.sampled_from(self.spool.unreceipted()))
        self.far.held[batch.id] = "f" * 64
        self.receipts.append(self.far.store(batch))

    @precondition(lambda self: self.spool.unreceipted())
    @rule(data=st.data())
    def reject(self, data):
        batch = data.draw(st.sampled_from(self.spool.unreceipted()))
        rejected = ((batch.id.seq, batch.sha256, "not today"),)
        self.spool.settle(receipt_for(batch, stored=(), rejected=rejected), self.now)
        self.receipts.append(self.far.store(batch))
        self.spool.settle(self.receipts[-1], self.now + DAY)
        self.now += DAY

    @rule()
    def look_ahead(self):
        seq = 1_000
        nothing = receipt_for(*self.sealed[-1:]) if self.sealed else None
        if nothing:
            stored = ((seq, "e" * 64),)
            self.spool.settle(replace(nothing, epoch=self.spool.epoch, stored=stored), self.now)

    @rule()
    def forget(self):
        self.spool.forget(self.now + 1)

    @rule()
    def restart(self):
        self.door.__exit__(None, None, None)
        self.open()

    @precondition(lambda self: self.key_before is None)
    @rule()
    def rotate(self):
        """A kill may come before anything in the file is under the new key."""
        self.key, self.key_before = bytes([self.key[0] + 1]) * 32, self.key

    @precondition(lambda self: self.key_before is not None)
    @rule(lots=st.integers(0, 9))
    def seal_anew(self, lots):
        self.spool.rekey(self.key)
        for _ in range(lots):
            if not self.spool.rekey_step():
                self.key_before = None
                break

    @invariant()
    def nothing_is_resent_otherwise_than_it_was_sealed(self):
        for batch in self.spool.unreceipted():
            assert self.bytes.setdefault(batch.id, batch) == batch


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=depth(60, 500),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
