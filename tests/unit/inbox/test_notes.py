"""Decisions are written down in order, from any thread, and nobody waits for another's disk."""

import json
import threading
import time

from agent.inbox.setup import AuditNotes
from agent.trust.audit import FOLDER, Chain, segments

WITHIN = 30.0


def written(folder):
    lines = [line for file in segments(folder / FOLDER) for line in file.read_bytes().splitlines()]
    return [json.loads(line)["type"] for line in lines]


class Frozen:
    """A chain whose disk does not answer one thread until `thaw`."""

    def __init__(self, folder, **bounds):
        self.notes = AuditNotes(Chain(folder, time.time), time.monotonic, **bounds)
        self.thaw, self._waits = threading.Event(), threading.Event()
        self._append = self.notes.chain.append
        self.notes.chain.append = self._slowly
        self._thread = threading.Thread(target=self.notes, args=("control.started", {"jti": "j"}))
        self._thread.start()
        assert self._waits.wait(WITHIN)

    def _slowly(self, type_, body):
        self._waits.set()
        assert self.thaw.wait(WITHIN)
        self._append(type_, body)

    def thawed(self):
        self.thaw.set()
        self._thread.join(WITHIN)


def test_a_decision_does_not_wait_for_a_thread_whose_disk_stands_still(tmp_path):
    chain = Frozen(tmp_path)
    chain.notes("object.accepted", {"jti": "k"})
    chain.notes("key", {"kid": "k"})
    chain.notes.receipted("0" * 64)
    assert not chain.thaw.is_set()
    chain.thawed()
    assert written(tmp_path) == ["control.started", "object.accepted", "key"]


def test_what_would_wait_without_end_is_counted_as_lost(tmp_path):
    chain = Frozen(tmp_path, most_pending=3)
    for n in range(5):
        chain.notes("object.accepted", {"jti": f"k{n}"})
    chain.thawed()
    assert chain.notes.lost == 2
    assert len(written(tmp_path)) == 4


def test_a_disk_that_fails_is_logged_once_for_each_sort_of_record(tmp_path, caplog):
    notes = AuditNotes(Chain(tmp_path, time.time), time.monotonic)
    append, works = notes.chain.append, False

    def failing(type_, body):
        if not works:
            raise OSError(30, "Read-only file system")
        return append(type_, body)

    notes.chain.append = failing
    for _ in range(3):
        notes("key", {"kid": "k"})
        notes("state.moved", {"state": "s"})
    assert len(caplog.records) == 2
    assert notes.lost == 6
    works = True
    notes("key", {"kid": "k"})
    works = False
    notes("key", {"kid": "k"})
    assert len(caplog.records) == 3
