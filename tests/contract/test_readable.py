"""Root asks whether the daemon's account can read its configuration: `check` and `doctor`."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest

from agent.api.diagnosis import machine
from agent.config.check import check
from agent.config.files import Files
from agent.config.load import checked

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask for another account")

NOBODY = pwd.getpwnam("nobody")
CONFIG = """\
building: {name: x}
devices: !include devices.yaml
uplinks:
  p:
    recipient: p.ville.example
    transport: mqtt
    url: mqtts://p.ville.example
    ca: FOLDER/ca.pem
    user: gw
    password: file:FOLDER/word
state: FOLDER/state
"""


@pytest.fixture
def folder():
    """A folder that everybody may enter, with a state directory of the account `nobody`."""
    made = Path(tempfile.mkdtemp(prefix="gardien-readable-", dir="/tmp"))
    made.chmod(0o755)
    state = made / "state"
    (state / "keys").mkdir(parents=True)
    (state / "keys/identity.json").write_text("{}")
    for path in (state, state / "keys", state / "keys/identity.json"):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    for name, text in {
        "config.yaml": CONFIG.replace("FOLDER", str(made)),
        "devices.yaml": "{}\n",
        "ca.pem": "a certificate\n",
        "word": "secret\n",
    }.items():
        (made / name).write_text(text)
        (made / name).chmod(0o644)
    yield made
    shutil.rmtree(made)


def judged(folder):
    """What check and doctor say of permissions: the same lines, and fine only together."""
    files = Files(folder / "config.yaml")
    status, text = check(files.path)
    found = list(machine.permissions(files, checked(files)))
    if status == 0:
        assert [one.fine for one in found] == [True]
        return []
    lines = text.splitlines()[:-1]
    assert [(one.fine, one.text) for one in found] == [(False, line) for line in lines]
    return lines


def test_what_the_account_can_read_is_fine(folder):
    assert judged(folder) == []


@pytest.mark.parametrize(
    ("name", "option", "remedy"),
    [
        ("config.yaml", "", "sudo chgrp nogroup {path} && sudo chmod g+r {path}"),
        ("devices.yaml", "", "sudo chgrp nogroup {path} && sudo chmod g+r {path}"),
        ("ca.pem", " (uplinks.p.ca)", "sudo chgrp nogroup {path} && sudo chmod g+r {path}"),
        ("word", " (uplinks.p.password)", "sudo chown nobody {path} && sudo chmod 600 {path}"),
    ],
)
def test_a_file_for_root_alone_is_named_with_what_to_type(folder, name, option, remedy):
    path = folder / name
    path.chmod(0o600)
    (line,) = judged(folder)
    why = "the agent runs as nobody, which cannot read this. Run: "
    assert line == f"{path}{option}: {why}{remedy.format(path=path)}"
    for command in remedy.format(path=path).replace("sudo ", "").split(" && "):
        assert os.system(command) == 0
    assert judged(folder) == []


def test_a_closed_folder_on_the_way_is_named(folder):
    closed = folder / "certificates"
    closed.mkdir(mode=0o700)
    (folder / "ca.pem").rename(closed / "ca.pem")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("/ca.pem", "/certificates/ca.pem"))
    (line,) = judged(folder)
    assert (
        f"which cannot enter {closed}. Run: sudo chgrp nogroup {closed} && sudo chmod g+rx" in line
    )


def test_a_certificate_in_a_closed_folder_elsewhere_is_to_be_copied(folder):
    with tempfile.TemporaryDirectory(dir="/tmp") as elsewhere:  # mode 0700
        (folder / "ca.pem").rename(f"{elsewhere}/ca.pem")
        config = folder / "config.yaml"
        config.write_text(config.read_text().replace(f"{folder}/ca.pem", f"{elsewhere}/ca.pem"))
        (line,) = judged(folder)
    copy = f"sudo install -g nogroup -m 640 {elsewhere}/ca.pem {folder}/ca.pem"
    assert line.endswith(
        f"which cannot enter {elsewhere}. Name a copy of it in the configuration. Run: {copy}"
    )


def test_a_link_leads_to_what_is_judged(folder):
    (folder / "hidden").mkdir(mode=0o700)
    (folder / "ca.pem").rename(folder / "hidden/ca.pem")
    (folder / "ca.pem").symlink_to(folder / "hidden/ca.pem")
    (line,) = judged(folder)
    assert f"cannot enter {folder / 'hidden'}. Run: " in line


def test_root_copies_nothing_that_the_account_has_chosen(folder):
    """A link there could lead to /etc/shadow, and the copy would be the account's to read."""
    (folder / "shadow").write_text("secret\n")
    (folder / "shadow").chmod(0o600)
    link = folder / "state/ca.pem"
    link.symlink_to(folder / "shadow")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(folder / "devices.yaml", elsewhere)
    config = elsewhere / "config.yaml"
    config.write_text((folder / "config.yaml").read_text().replace(f"{folder}/ca.pem", str(link)))
    _, said = check(config)
    assert "Put the file itself, and no link, into" in said
    assert "sudo install" not in said


def test_a_file_of_root_in_the_state_that_gardien_does_not_use_is_nobodys_concern(folder):
    (folder / "state/removed").touch(mode=0o600)
    assert judged(folder) == []


def test_a_secret_in_the_folder_of_systemd_is_named_by_its_credential(folder):
    (folder / "credentials").mkdir(mode=0o700)
    (folder / "word").rename(folder / "credentials/word")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("/word", "/credentials/word"))
    (line,) = judged(folder)
    assert "Write credential:gardien_word instead of file:" in line


def test_a_key_that_root_put_into_the_state_is_named(folder):
    key = folder / "state/keys/gateway.pem"
    key.write_text("a key")
    key.chmod(0o600)
    (line,) = judged(folder)
    assert line.startswith(
        f"{key}: the agent runs as nobody, which cannot read and write this. So the agent cannot"
        " start. Run: "
    )
    assert line.endswith(f"sudo chown -R nobody:nogroup {folder}/state")


def test_root_opens_no_database_that_the_account_has_linked(folder):
    """`check` looks into spools that are left over; one may be a link to a file of root's."""
    target = folder / "roots.db"
    with sqlite3.connect(target) as db:
        db.executescript(
            "PRAGMA journal_mode=wal; CREATE TABLE block (slots); INSERT INTO block VALUES (7);"
            "CREATE TABLE batch (rows, state);"
        )
    db.close()
    target.chmod(0o600)
    (folder / "state/spool-other.example.db").symlink_to(target)
    assert judged(folder) == []
    assert not list(folder.glob("roots.db-*"))


def test_this_process_is_root_again_afterwards(folder):
    groups = os.getgroups()
    check(folder / "config.yaml")
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, os.getgid(), groups)
