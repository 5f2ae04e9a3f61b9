"""The trust store beside a disk that fails: in memory, or shut."""

import pytest

from agent.core.atomic_write import DiskWriter, Late
from agent.core.errors import NotRecorded
from agent.trust.store import FILE, TrustStore


def test_what_was_taken_back_while_the_disk_failed_is_kept_once_it_is_well(tmp_path):
    beside = tmp_path / "run"
    beside.mkdir(mode=0o700)
    with TrustStore.open(beside / FILE) as copy:
        copy.remember(["a kid"], (), (), 1_795_000_000.0)
    with TrustStore.open(tmp_path / FILE, beside) as book:
        assert "a kid" in book.revoked
    assert not (beside / FILE).exists()
    with TrustStore.open(tmp_path / FILE, beside) as book:
        assert "a kid" in book.revoked


def test_a_store_without_a_copy_is_empty_until_it_is_opened_again(tmp_path, monkeypatch):
    """A call that only reads it, such as a withdrawal, goes on; nothing is accepted, and what was
    revoked stays so: a receipt is verified then as well.
    """
    with TrustStore.open(tmp_path / FILE) as store:
        store.remember(["a kid"], (), (), 1_795_000_000.0)
        with monkeypatch.context() as patched:
            patched.setattr(DiskWriter, "make", _late)
            with pytest.raises(NotRecorded):
                store.remember(["another"], (), (), 1_795_000_000.0)
        assert (store.waiting(), store.versions()) == ([], [])
        assert "a kid" in store.revoked
        for refused in (store.must_be_open, lambda: store.remember(["a third"], (), (), 0.0)):
            with pytest.raises(NotRecorded):
                refused()
    with TrustStore.open(tmp_path / FILE) as again:
        assert again.revoked == {"a kid"}


def _late(_action):
    raise Late("the disk does not answer")
