"""A folder that others can write into: only files are read and written, and not too many."""

import os
import threading

import pytest

from agent.core.errors import NotStored
from agent.uplink.files.folder import Folder


@pytest.fixture
def far(tmp_path):
    root = tmp_path / "exchange"
    for name in ("in", "out", "out/objects"):
        (root / name).mkdir(parents=True)
    return Folder(root)


@pytest.fixture
def odd(tmp_path, far):
    """Names of what is no file, in a folder of its own kind each; a secret that one leads to."""
    out = far._root / "out/objects"
    secret = tmp_path / "secret"
    secret.write_text("key")
    os.mkfifo(out / "pipe")
    (out / "link").symlink_to(secret)
    (out / "folder").mkdir()
    if os.geteuid() == 0:
        os.mknod(out / "device", 0o20666, os.makedev(1, 3))
    (out / "file").write_text("content")
    return secret


def soon(call, *args):
    """What a call raises or returns; it may not wait."""
    found = []

    def run():
        try:
            found.append(call(*args))
        except Exception as error:  # noqa: BLE001 -- handed to the test
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert found, "it waits"
    return found[0]


def test_links_pipes_and_devices_are_neither_listed_nor_read(far, odd, tmp_path):
    assert [one.name for one in soon(far.entries, "out/objects")] == ["file"]
    assert soon(far.read, "out/objects/file", 99) == b"content" != odd.read_bytes()
    for path in (tmp_path / "exchange/out/objects").iterdir():
        if path.name != "file":
            assert soon(far.entry, f"out/objects/{path.name}") is None
            assert isinstance(soon(far.read, f"out/objects/{path.name}", 99), NotStored), path


def test_nothing_is_written_through_a_link_or_into_a_pipe(far, odd, tmp_path):
    for path in (tmp_path / "exchange/out/objects").iterdir():
        for offset in (0, 1):
            if path.name != "file":
                written = soon(far.append, f"out/objects/{path.name}", offset, b"x")
                assert isinstance(written, NotStored), path
    assert odd.read_text() == "key"


def test_a_folder_of_too_many_files_is_told(far):
    few = Folder(far._root, most_names=5)
    for number in range(5):
        (far._root / f"out/objects/{number}").touch()
    assert len(few.entries("out/objects")) == 5
    (far._root / "out/objects/5").touch()
    with pytest.raises(NotStored, match="more than 5 files"):
        few.entries("out/objects")
