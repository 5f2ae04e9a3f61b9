"""A recipient in a few lines: keeps what it stored first, one row a key, and says so."""

import hashlib
from dataclasses import replace

from agent.buffer.batch import read
from agent.core.model import Lane, Receipt

FOREVER = 2**40
"""later than any slot: all rows are backfill"""


class Far:
    def __init__(self):
        self.held = {}
        self.rows = {}
        self.twice = []

    def store(self, batch):
        """Take a batch over, and say what is held under its id from now on."""
        id_ = batch.id
        if id_ not in self.held:
            self.held[id_] = hashlib.sha256(batch.payload).hexdigest()
            for row in read(batch.payload):
                self._keep(row)
        return Receipt(id_.gateway, id_.recipient, id_.epoch, ((id_.seq, self.held[id_]),))

    def _keep(self, row):
        for i in range(row.span):
            one = replace(row, t=row.t + i * row.series.step, span=1, again=False)
            key = (row.series.place, row.series.channel, row.series.kind, row.series.step)
            before = self.rows.setdefault((*key, one.t, row.ver), (one, row.again))
            if before[0] is not one and not (row.again or before[1]):
                self.twice.append(one)


def seal(spool, lane=Lane.BACKFILL, live_after=FOREVER, now=1_700_000_000.0, **limits):
    return spool.seal(lane, now, "trusted", live_after, **limits)


def seal_all(spool, lane=Lane.BACKFILL, live_after=FOREVER, **limits):
    found = []
    while batch := seal(spool, lane, live_after, **limits):
        found.append(batch)
    return found


def receipt_for(*batches, **other):
    id_ = batches[0].id
    words = {"stored": tuple((batch.id.seq, batch.sha256) for batch in batches)}
    return Receipt(id_.gateway, id_.recipient, id_.epoch, **words | other)
