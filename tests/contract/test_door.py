"""The local door: systemd's socket, ours, and who may knock."""

import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import threading

import pytest

from agent import local
from agent.core import state
from agent.core.errors import Refused

HANDED = """
import os, socket, sys
from pathlib import Path
from agent.core import state
os.environ["LISTEN_PID"] = str(os.getpid())
state.listening(Path(sys.argv[1])).close()  # by an error; the next one finds it again
door = state.listening(Path(sys.argv[1]))
print(door.getsockname(), door.get_inheritable(), os.get_inheritable(3), flush=True)
"""


def test_a_socket_that_systemd_hands_over_is_taken_and_the_state_leads_to_it(tmp_path, open_folder):
    folder = tmp_path / "state"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(open_folder / "door.sock"))
        held.listen()
        # descriptor 3, as sd_listen_fds(3) has it
        done = subprocess.run(
            ("bash", "-c", f'exec "$@" 3<&{held.fileno()}', "bash",
             sys.executable, "-c", HANDED, str(folder)),
            env=os.environ | {"LISTEN_FDS": "1"}, pass_fds=(held.fileno(),),
            check=True, text=True, capture_output=True,
        )  # fmt: skip
        assert done.stdout.split() == [str(open_folder / "door.sock"), "False", "False"]
        assert (folder / "gardien.sock").readlink() == open_folder / "door.sock"
        door = state.connect(folder)
        assert door is not None
        door.close()


def test_a_socket_that_was_handed_to_another_process_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    door = state.listening(tmp_path)
    assert (tmp_path / "gardien.sock").is_socket()
    assert not (tmp_path / "gardien.sock").is_symlink()
    door.close()


def knocking(folder, answers):
    """A daemon that answers one knock with these lines, then hangs until told."""
    door = state.listening(folder)
    done = threading.Event()

    def serve():
        visitor, _ = door.accept()
        with visitor:
            for line in answers:
                visitor.sendall(json.dumps(line).encode() + b"\n")
            done.wait(10)

    threading.Thread(target=serve, daemon=True).start()
    return door, done


def test_a_daemon_that_cannot_start_is_told_instead_of_waited_for(tmp_path):
    door, done = knocking(tmp_path, [])
    with door, pytest.raises(Refused, match="journalctl -u gardien"):
        local.ask_daemon(tmp_path, "status", {}, lambda _: None, 0.3)
    done.set()


def test_a_daemon_that_is_here_may_take_its_time(tmp_path):
    door = state.listening(tmp_path)

    def serve():
        visitor, _ = door.accept()
        with visitor:
            visitor.sendall(b'{"here": 1}\n')
            threading.Event().wait(0.8)
            visitor.sendall(b'{"progress": {"text": "x"}}\n{"result": {"a": 1}}\n')

    threading.Thread(target=serve, daemon=True).start()
    said = []
    with door:
        assert local.ask_daemon(tmp_path, "read", {}, said.append, 0.3) == {"a": 1}
    assert said == [{"text": "x"}]


@pytest.mark.parametrize("said", [b"", b'{"here": 1}\n', b'{"here": 1}\n{"result": {"a', b"\0\n"])
def test_a_daemon_that_dies_while_it_answers_is_told_in_words(tmp_path, said):
    door = state.listening(tmp_path)

    def serve():
        visitor, _ = door.accept()
        visitor.sendall(said)
        visitor.close()  # what was asked is not read: the kernel resets the connection

    threading.Thread(target=serve, daemon=True).start()
    with door, pytest.raises(Refused, match="closed the connection before it answered"):
        local.ask_daemon(tmp_path, "status", {"filler": "x" * 5_000}, lambda _: None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as another account")
def test_root_writes_as_the_account_that_owns_the_state(open_folder):
    folder = open_folder / "state"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    with state.owned(folder, "gardien place new"):
        (folder / "made").touch()
        assert os.geteuid() == 65534
    assert os.geteuid() == 0
    assert os.getegid() == 0
    assert (folder / "made").stat().st_uid == 65534
    assert (folder / "lock").stat().st_uid == 65534


NEVER = 3_600.0
"""seconds: who waits for so long has not been told"""


@pytest.mark.parametrize(
    ("holder", "other", "remedy"),
    [
        (state.AGENT, state.AGENT, "nothing was started. To see its state: gardien status"),
        (state.AGENT, "gardien read", "it is starting or ending: try again in a moment"),
        ("gardien scan plc", "gardien read", "wait for its end, or end it"),
    ],
)
def test_who_cannot_have_the_state_is_told_at_once_who_has_it(
    tmp_path, monkeypatch, holder, other, remedy
):
    monkeypatch.setenv("SUDO_USER", "alice")
    name = "the agent" if holder == state.AGENT else f"`{holder}`"
    with (
        state.owned(tmp_path, holder),
        pytest.raises(Refused) as refused,
        state.owned(tmp_path, other, NEVER),
    ):
        pass
    assert f"{name} (process {os.getpid()}, started by alice 0 s ago)" in str(refused.value)
    assert remedy in str(refused.value)


def test_a_command_beside_an_agent_that_answers_is_told_to_stop_it(tmp_path):
    with (
        state.owned(tmp_path, state.AGENT),
        state.listening(tmp_path),
        pytest.raises(Refused, match="stop it first: sudo systemctl stop gardien"),
        state.owned(tmp_path, "gardien factory-reset", NEVER),
    ):
        pass


def test_a_starting_agent_waits_for_a_command_and_says_so(tmp_path, caplog):
    """Rule G13."""
    started, said = threading.Event(), threading.Event()
    monitor = logging.Handler()
    monitor.emit = lambda _: said.set()
    logging.getLogger("agent.core.state").addHandler(monitor)

    def agent():
        with state.owned(tmp_path, state.AGENT, NEVER):
            started.set()

    starting = threading.Thread(target=agent, daemon=True)
    with state.owned(tmp_path, "gardien scan plc"):
        starting.start()
        assert said.wait(10)
        assert not started.is_set()
    logging.getLogger("agent.core.state").removeHandler(monitor)
    assert started.wait(10)
    assert "is in use by `gardien scan plc` (process" in caplog.text


def test_what_a_killed_owner_wrote_down_is_not_believed(tmp_path):
    gone = subprocess.Popen(("true",))
    gone.wait()
    with (tmp_path / "lock").open("w+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(json.dumps([gone.pid, state.AGENT, "alice", 0]))
        lock.flush()
        with (
            pytest.raises(Refused, match="in use by another process: try again in a moment"),
            state.owned(tmp_path, state.AGENT, 0.1),
        ):
            pass


@pytest.mark.parametrize(
    "written",
    [
        '[1, "gardien x", "root", 1]', '[0, "gardien x", "root", 1]', '[-1, "x", "root", 1]',
        '[PID, "gardien x", "root", NaN]', '[PID, "gardien x", "root", 1e999]', "[1e999, 1, 1, 1]",
        '[9223372036854775808, "x", "root", 1]', "4711", "[]", "",
    ],
)  # fmt: skip
def test_text_in_the_lock_that_no_owner_wrote_names_nobody(tmp_path, written):
    """The daemon's account may write what it likes there, and root reads it."""
    with (tmp_path / "lock").open("w+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(written.replace("PID", str(os.getpid())))
        lock.flush()
        with (
            pytest.raises(Refused, match="in use by another process: try again in a moment"),
            state.owned(tmp_path, "gardien read", 0.1),
        ):
            pass


def test_root_is_not_sent_to_kill_what_is_not_gardien(tmp_path):
    """Nor do control characters reach the terminal."""
    with subprocess.Popen(("sleep", "60")) as other, (tmp_path / "lock").open("w+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(json.dumps([other.pid, "gardien scan \x1b[31m", "root", 1]))
        lock.flush()
        with pytest.raises(Refused) as refused, state.owned(tmp_path, "gardien read", 0.1):
            pass
        other.kill()
    assert "or end it where it was started" in str(refused.value)
    assert "sudo kill" not in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("many", [0, 1, local.ROWS, local.ROWS + 1, 3 * local.ROWS])
def test_a_long_answer_is_said_in_pieces(many):
    rows = [{"label": f"É-{n}", "lots": ["1", None]} for n in range(many)]
    said = {"result": {"rows": rows, "of": {"rows": rows, 'a "b"': {}}, "none": []}, "more": True}
    pieces = list(local._pieces(said))
    assert json.loads("".join(pieces)) == said
    assert max(piece.count("label") for piece in pieces) <= local.ROWS
    assert "".join(local._pieces({})) == "{}"


def test_who_is_turned_away_in_the_middle_of_a_long_request_hears_why(tmp_path):
    door = state.listening(tmp_path)

    def serve():
        visitor, _ = door.accept()
        visitor.sendall(b'{"here": 1}\n{"refused": "no role"}\n')
        visitor.recv(100_000)  # the rest waits to be sent
        visitor.close()  # what was asked is not read: the kernel resets the connection

    threading.Thread(target=serve, daemon=True).start()
    with door, pytest.raises(Refused, match="no role"):
        local.ask_daemon(tmp_path, "place.import", {"text": "x" * 5_000_000}, lambda _: None)
