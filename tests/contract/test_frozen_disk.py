"""A freeze that begins between the disk's last answer and a write (rule A7).

Who writes for the event loop waits for `Disk.patience` at most; the write counts as not made, and
may be made all the same once the disk answers. A real ext4 is frozen; a timer thaws it if
somebody waits for it longer.
"""

import threading
import time
from contextlib import contextmanager

import pytest

from agent import app
from agent.config import load
from agent.core import atomic_write
from agent.core.atomic_write import SILENT
from agent.core.errors import NotRecorded, StorageFailed
from agent.core.state import AGENT, owned
from agent.registry import identity
from agent.registry.access_log import AccessLog
from agent.registry.consent_policy import policy
from agent.registry.inputs import NewConsent, NewPlace, NewWithdrawal
from agent.registry.registry import Registry
from agent.trust.audit import FOLDER, Chain, verify
from agent.trust.store import FILE, TrustStore
from tests import disks

NOW = 1_795_000_000.0
BY = ("me", "a test", NOW)
PATIENCE, LONG = 0.3, 10.0

pytestmark = pytest.mark.skipif(not disks.available(), reason="mounting is for root")


@pytest.fixture
def disk():
    with disks.disk() as made:
        yield made
        settled()


def settled():
    """Return once the disk's thread has made all that waits."""
    atomic_write.DiskWriter.begin(lambda: None).result(60)


@contextmanager
def frozen(disk):
    """Frozen: whoever waits for the disk here fails the test, and does not hang it.

    Only here is patience short: a busy machine's disk may be slow before and after.
    """
    patience, atomic_write.DiskWriter.patience = atomic_write.DiskWriter.patience, PATIENCE
    disk.freeze()
    timer = threading.Timer(LONG, disk.thaw)
    timer.start()
    began = time.monotonic()
    try:
        yield
        took = time.monotonic() - began
    finally:
        timer.cancel()
        if disk.frozen:
            disk.thaw()
        atomic_write.DiskWriter.patience = patience
        settled()
    assert took < LONG / 2, "somebody waited for the disk"


def test_a_withdrawal_holds_and_nothing_is_allowed(disk):
    path, notes = disk.folder / "registry.json", disk.folder.parent / "notes"
    registry = Registry.open(path, notes)
    registry.add_places([NewPlace("A-1", "D", since=int(NOW) - 1000)], *BY)
    row = NewConsent("A-1", "a.example", ("heat",), 1800, "advice")
    (given,) = registry.consent([row], *BY, policy("FR-1"))
    with frozen(disk):
        registry.withdraw([NewWithdrawal(id=given.id)], *BY)
        assert not registry.consents_of(given.occupancy, given.recipient)
        with pytest.raises(NotRecorded, match=SILENT):
            registry.add_places([NewPlace("A-2", "D")], *BY)
        assert {one.kind for one in registry.unrecorded} == {"consent", "mark"}
    # the write that nobody waited for is made, and what was refused is taken back
    assert registry.retry()
    again = Registry.open(path)
    assert [place.label for place in again.places()] == ["A-1"]
    assert not again.consents_of(given.occupancy, given.recipient)


def test_an_agent_starts_and_nothing_of_dwellings_is_allowed(disk):
    """Rules A16, A8."""
    state, config = disk.folder / "state", disk.folder.parent / "config.yaml"
    state.mkdir(mode=0o700)
    identity.mint(state)
    config.write_text(f"building: {{name: Les Alpins}}\nstate: {state}\n", encoding="utf-8")
    with owned(state, AGENT), app.opened(load(config)):
        pass
    with frozen(disk), owned(state, AGENT) as holds, app.opened(load(config)) as gateway:
        assert holds()
        assert app._asked(state) == SILENT
        with pytest.raises(StorageFailed, match=SILENT):
            gateway.disk.thread("a store")
    with owned(state, AGENT), app.opened(load(config)):
        assert not app._asked(state)


def test_what_was_refused_and_came_to_the_disk_later_is_gone_after_a_kill(disk):
    path, notes = disk.folder / "registry.json", disk.folder.parent / "notes"
    registry = Registry.open(path, notes)
    registry.add_places([NewPlace("A-1", "D")], *BY)
    with frozen(disk), pytest.raises(NotRecorded):
        registry.add_places([NewPlace("A-2", "D")], *BY)
    (log,) = path.parent.glob("registry-*.log")
    assert "A-2" in log.read_text()
    assert [place.label for place in Registry.open(path, notes).places()] == ["A-1"]


def test_the_chain_goes_on_from_the_record_that_came_late(disk):
    chain = Chain(disk.folder, lambda: NOW)
    chain.append("one", {})
    with frozen(disk):
        for word in ("two", "never"):
            with pytest.raises(OSError, match=SILENT):
                chain.append(word, {})
    chain.append("three", {})
    assert verify(disk.folder / FOLDER).last == 3
    assert chain.latest("two") == {}
    assert chain.latest("never") is None


def test_the_book_goes_on_in_memory_and_is_opened_anew(disk):
    beside = disk.folder.parent / "run"
    beside.mkdir(mode=0o700)
    with TrustStore.open(disk.folder / FILE, beside) as book:
        book.remember(["before"], (), (), NOW)
        with frozen(disk):
            with pytest.raises(NotRecorded, match=SILENT):
                book.remember(["late"], (), (), NOW)
            assert book.volatile
            book.remember(["a kid"], (), (), NOW)
            assert {"before", "a kid"} <= book.revoked
    with TrustStore.open(disk.folder / FILE, beside) as again:
        assert {"before", "a kid"} <= again.revoked
        assert not again.volatile


def test_a_book_that_memory_has_no_room_for_takes_nothing(disk):
    with TrustStore.open(disk.folder / FILE) as book, frozen(disk):
        for _ in range(2):
            with pytest.raises(NotRecorded):
                book.remember(["a kid"], (), (), NOW)


def test_nobody_waits_for_a_book_to_close(disk):
    """A stop waited for the disk, and was ended by systemd."""
    opening = TrustStore.open(disk.folder / FILE)
    opening.__enter__().remember(["a kid"], (), (), NOW)
    with frozen(disk):
        opening.__exit__(None, None, None)
    with TrustStore.open(disk.folder / FILE) as again:
        assert "a kid" in again.revoked


def test_small_files_wait_for_nobody(disk):
    looks = AccessLog(disk.folder / "looks.jsonl", NOW)
    with frozen(disk):
        with pytest.raises(OSError, match=SILENT):
            looks.note("me", "bases", "A-1", NOW)
        began = time.monotonic()
        with pytest.raises(NotRecorded, match=SILENT):
            atomic_write.write(disk.folder / "small", b"")
        assert time.monotonic() - began < PATIENCE  # it is known not to answer
        atomic_write.later.write(disk.folder / "traffic.json", b"{}")
    assert atomic_write.later.settle(60)
    assert (disk.folder / "traffic.json").read_bytes() == b"{}"
