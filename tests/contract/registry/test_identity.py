import os
import random
import sys

import pytest

from agent.core.errors import Refused
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
    """Rule I4."""
    first = identity.mint(tmp_path)
    with pytest.raises(Refused, match="already has keys"):
        identity.mint(tmp_path)
    assert identity.load(tmp_path).gateway == first.gateway


def test_without_keys_the_command_that_makes_them_is_named(tmp_path):
    with pytest.raises(Refused, match="Create it: gardien key new"):
        identity.load(tmp_path)


@pytest.mark.parametrize("kept", ["registry.json", "spool-r.example.db"])
def test_where_the_keys_are_gone_new_ones_are_never_advised(tmp_path, kept):
    (tmp_path / kept).touch()
    with pytest.raises(Refused) as refused:
        identity.load(tmp_path)
    assert "key new" not in str(refused.value)
    assert "restore the backup (docs/replace.md)" in str(refused.value)


def test_keys_are_for_their_owner_only(tmp_path):
    """Rule K1."""
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
    """Rule K2."""
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


def test_while_it_is_rotated_both_keys_are_there_and_then_the_new_one_alone(tmp_path):
    first = identity.mint(tmp_path)
    during = identity.begin_rotation(tmp_path, first)
    loaded = identity.load(tmp_path)
    assert (loaded.spool_key, loaded.spool_key_before) == (during.spool_key, first.spool_key)
    assert loaded.rotating_since == during.rotating_since is not None
    with pytest.raises(Refused, match="being rotated already"):
        identity.begin_rotation(tmp_path, loaded)
    identity.end_rotation(tmp_path, loaded)
    after = identity.load(tmp_path)
    assert (after.spool_key, after.spool_key_before) == (during.spool_key, None)
    assert after.spool_key != first.spool_key
    assert (after.gateway, after.state) == (first.gateway, first.state)


@pytest.mark.parametrize("died", [False, True])
def test_the_blocks_of_the_key_before_are_overwritten(tmp_path, died):
    """`died`: a rotation that a kill ended before it began has left what it had written."""
    who, keys = identity.mint(tmp_path), tmp_path / "keys"
    if died:
        (keys / "spool.new").write_bytes(bytes(range(32)) + who.spool_key)
        os.link(keys / "spool.new", tmp_path / "left")
    os.link(keys / "spool.key", tmp_path / "first")
    during = identity.begin_rotation(tmp_path, who)
    os.link(keys / "spool.key", tmp_path / "second")
    identity.end_rotation(tmp_path, during)
    for name in ("first", "second", *(["left"] if died else [])):
        assert who.spool_key not in (tmp_path / name).read_bytes()


@pytest.mark.skipif(not powercut.available(), reason="strace is not here")
def test_a_power_cut_in_a_rotation_leaves_one_key_or_both(tmp_path):
    state, after = tmp_path / "state", tmp_path / "after"
    key = identity.mint(state).spool_key
    child = [sys.executable, "-m", "tests.contract.registry.rotates", str(state)]
    found = set()
    for cut in powercut.record(child, state).cuts(60, random.Random(5)):
        cut.restore(after)
        (after / "keys").chmod(0o700)
        for path in (after / "keys").iterdir():
            path.chmod(0o600)
        who = identity.load(after)
        if who.spool_key_before is not None:
            assert who.spool_key_before == key
            found.add("both")
        else:
            found.add("old" if who.spool_key == key else "new")
        assert "begun" not in cut.acks or who.spool_key != key
        assert "ended" not in cut.acks or who.spool_key_before is None
    assert found == {"old", "both", "new"}
