import random
import sys

import pytest

from agent.errors import Refused
from agent.registry import identity
from tests import powercut


def test_what_was_minted_is_loaded(tmp_path):
    made, loaded = identity.mint(tmp_path / "state"), identity.load(tmp_path / "state")
    assert loaded.gateway.startswith("G")
    assert (loaded.gateway, loaded.state, loaded.spool_key) == (
        made.gateway,
        made.state,
        made.spool_key,
    )
    made.signing_key.public_key().verify(loaded.signing_key.sign(b"x"), b"x")


def test_a_second_identity_is_refused_and_the_first_one_stays(tmp_path):
    first = identity.mint(tmp_path)
    with pytest.raises(Refused, match="has its keys already"):
        identity.mint(tmp_path)
    assert identity.load(tmp_path).gateway == first.gateway


def test_without_keys_the_command_that_makes_them_is_named(tmp_path):
    with pytest.raises(Refused, match="run `gardien key new`"):
        identity.load(tmp_path)


def test_keys_are_for_their_owner_only(tmp_path):
    identity.mint(tmp_path)
    keys = tmp_path / "keys"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (keys, *keys.iterdir()))
    (keys / "spool.key").chmod(0o640)
    with pytest.raises(Refused, match="may be read by others"):
        identity.load(tmp_path)


@pytest.mark.parametrize("name", ["identity.json", "spool.key", "gateway.pem"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"null", b"xxxx" * 9])
def test_damaged_keys_are_refused_in_words(tmp_path, name, content):
    identity.mint(tmp_path)
    path = tmp_path / "keys" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(Refused, match="is damaged"):
        identity.load(tmp_path)


def test_no_secret_is_in_its_repr(tmp_path):
    made = identity.mint(tmp_path)
    assert "key" not in repr(made)


@pytest.mark.skipif(not powercut.available(), reason="strace is not here")
def test_a_power_cut_leaves_all_keys_or_none(tmp_path):
    state, after = tmp_path / "state", tmp_path / "after"
    state.mkdir()
    child = [sys.executable, "-m", "tests.contract.registry.newkeys", str(state)]
    trace = powercut.record(child, state)
    for cut in trace.cuts(80, random.Random(5)):
        cut.restore(after)
        if cut.acks or (after / "keys").exists():
            (after / "keys").chmod(0o700)
            for path in (after / "keys").iterdir():
                path.chmod(0o600)
            made = identity.load(after).gateway
            assert cut.acks in ([], [made])
        else:
            identity.mint(after)
    assert cut.acks
