"""The book beside a disk that failed: what was taken back meanwhile counts once it is well."""

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
