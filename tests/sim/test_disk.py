"""The simulated disk keeps what was synced, loses what was not, and fails as real ones do."""

from __future__ import annotations

import errno
import io
import os
import pickle
import random
import shutil
import sqlite3
import sys
import tempfile
import textwrap
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import pytest

from agent.buffer import spool
from agent.buffer.batch import BatchHead
from agent.buffer.database import Database
from agent.core import atomic_write
from agent.core.atomic_write import DiskWriter
from agent.core.errors import StorageFailed
from agent.registry.storage import TABLE, RegistryStorage
from agent.trust.audit import Chain
from agent.trust.store import TrustStore
from tests import powercut
from tests.sim import disk as model
from tests.sim import small_spool
from tests.sim.disk import COMMIT, NAME, SYNC, WRITE, Disk
from tests.unit.buffer.rows import NOON, poll

SEEDS = range(12)


@contextmanager
def installed(disk, **how):
    disk.install(**how)
    try:
        yield disk
    finally:
        disk.uninstall()
    assert not disk.mistakes


@pytest.fixture
def root(tmp_path):
    """Short, and on the file system of the temporary files."""
    return tmp_path / "state"


# what a cut leaves, beside a simple reference


@dataclass
class Reference:
    """Each state of each file since its last sync, and each state of the names since theirs."""

    files: list[list[bytes]] = field(default_factory=list)
    names: list[dict[str, int]] = field(default_factory=lambda: [{}])

    def change(self, number, content):
        self.files[number].append(content)

    def name(self, **changes):
        after = {**self.names[-1], **changes}
        self.names.append({name: file for name, file in after.items() if file is not None})

    def allows(self, left: dict[str, bytes]) -> bool:
        return any(
            names.keys() == left.keys()
            and all(self._one_of(left[name], self.files[file]) for name, file in names.items())
            for names in self.names
        )

    @staticmethod
    def _one_of(content, states):
        """Each byte, and the length, is that of one of the states."""
        if len(content) not in {len(state) for state in states} and not (
            min(map(len, states)) <= len(content) <= max(map(len, states))
        ):
            return False
        return all(
            (content[at] == 0 and any(len(state) <= at for state in states))
            or any(at < len(state) and state[at] == content[at] for state in states)
            for at in range(0, len(content), 64)
        )  # fmt: skip


class Story:
    """Random changes of files in one folder, told to a reference."""

    def __init__(self, root, rng):
        self.root, self.rng, self.reference = root, rng, Reference()

    def begin(self):
        """What is there is safe."""
        files = {}
        for path in sorted(self.root.iterdir()):
            inode = path.stat().st_ino
            if inode not in files:
                files[inode] = len(files)
                self.reference.files.append([path.read_bytes()])
            self.reference.names[0][path.name] = files[inode]

    def step(self):
        names = self.reference.names[-1]
        kinds = [self.create, *([self.write] * 4), self.append, self.truncate, self.sync, self.sync,
                 self.rename, self.unlink, self.link, self.sync_folder]  # fmt: skip
        self.rng.choice(kinds)(self.rng.choice(sorted(names)) if names else None)

    def create(self, _):
        name = f"f{self.rng.randrange(1 << 30)}"
        (self.root / name).open("xb").close()
        self.reference.files.append([b""])
        self.reference.name(**{name: len(self.reference.files) - 1})

    def _now(self, name):
        return self.reference.files[self.reference.names[-1][name]][-1]

    def _changed(self, name, content):
        self.reference.change(self.reference.names[-1][name], content)

    def write(self, name):
        if name is None:
            return
        at, size = 64 * self.rng.randrange(160), 64 * self.rng.randrange(1, 160)
        data, before = bytes([self.rng.randrange(1, 256)]) * size, self._now(name)
        with (self.root / name).open("r+b") as file:
            file.seek(at)
            file.write(data)
        before = before.ljust(at, b"\0")
        self._changed(name, before[:at] + data + before[at + size :])

    def append(self, name):
        if name is None:
            return
        data = bytes([self.rng.randrange(1, 256)]) * 64 * self.rng.randrange(1, 40)
        with (self.root / name).open("ab") as file:
            file.write(data)
        self._changed(name, self._now(name) + data)

    def truncate(self, name):
        if name is None:
            return
        size = 64 * self.rng.randrange(200)
        os.truncate(self.root / name, size)
        self._changed(name, self._now(name)[:size].ljust(size, b"\0"))

    def sync(self, name):
        if name is None:
            return
        with (self.root / name).open("rb") as file:
            os.fsync(file.fileno())
        states = self.reference.files[self.reference.names[-1][name]]
        del states[:-1]

    def rename(self, name):
        if name is None:
            return
        names = self.reference.names[-1]
        to = self.rng.choice(sorted({*names, "new", "newer"}))
        (self.root / name).replace(self.root / to)
        if names.get(to) != names[name]:
            self.reference.name(**{name: None, to: names[name]})

    def unlink(self, name):
        if name is not None and self.rng.random() < 0.5:
            (self.root / name).unlink()
            self.reference.name(**{name: None})

    def link(self, name):
        to = f"l{self.rng.randrange(3)}"
        if name is not None and to not in self.reference.names[-1]:
            (self.root / to).hardlink_to(self.root / name)
            self.reference.name(**{to: self.reference.names[-1][name]})

    def sync_folder(self, _):
        atomic_write.sync_folder(self.root)
        del self.reference.names[:-1]


def story(root, seed, disk=None):
    """Whether all that several cuts leave is allowed, and what was undone."""
    shutil.rmtree(root, ignore_errors=True)
    rng = random.Random(seed)
    disk, undone = (disk or Disk)(str(root), seed), []
    for _ in range(4):
        acts = Story(Path(disk.root), rng)
        acts.begin()
        with installed(disk):
            for _ in range(rng.randrange(40)):
                acts.step()
                now = acts.reference.names[-1]
                assert contents(root) == {
                    name: acts.reference.files[file][-1] for name, file in now.items()
                }
        assert disk.used == sum(
            -(-len(acts.reference.files[file][-1]) // 4096)
            for file in set(acts.reference.names[-1].values())
        )
        disk = pickle.loads(pickle.dumps(disk))
        undone += disk.power_cut(rng)
        assert not disk.mistakes
        if not acts.reference.allows(contents(root)):
            return False, undone
    return True, undone


def contents(root):
    return {path.name: path.read_bytes() for path in Path(root).iterdir()} if root.exists() else {}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_leaves_synced_bytes_and_names_and_any_part_of_the_others(root, seed):
    allowed, undone = story(root, seed)
    assert allowed
    assert undone


class Forgets(Disk):
    """A wrong one: it may lose what was synced."""

    def synced(self, inode):
        if self.dice.random() < 0.5:
            super().synced(inode)


class ForgetsNames(Disk):
    """A wrong one: a folder's sync does nothing."""

    def sync_names(self, folder):
        pass


@pytest.mark.parametrize("wrong", [Forgets, ForgetsNames])
def test_a_disk_that_drops_what_was_synced_is_noticed(root, wrong):
    assert not all(story(root, seed, wrong)[0] for seed in range(40))


def test_without_a_sync_each_part_of_a_write_can_be_lost(root):
    left = set()
    for seed in range(40):
        shutil.rmtree(root, ignore_errors=True)
        disk = Disk(str(root))
        with installed(disk):
            (root / "a").write_bytes(b"1" * 1024)
            with (root / "a").open("rb") as file:
                os.fsync(file.fileno())
            atomic_write.sync_folder(root)
            with (root / "a").open("r+b") as file:
                file.write(b"2" * 1024)
        disk.power_cut(random.Random(seed))
        left.add((root / "a").read_bytes())
    halves = {a * 512 + b * 512 for a in (b"1", b"2") for b in (b"1", b"2")}
    assert left == halves


def left_of(root, before, after):
    """What cuts leave of a file that had safe content, once `after` has changed it."""
    for seed in range(40):
        shutil.rmtree(root, ignore_errors=True)
        disk = Disk(str(root))
        with installed(disk):
            atomic_write._write(root / "a", before)
            after(root / "a")
        disk.power_cut(random.Random(seed))
        yield (root / "a").read_bytes()


def write_twice(path):
    with path.open("r+b", buffering=0) as file:
        file.write(b"2" * 100)
        file.write(b"3" * 100)
        file.seek(50)
        file.write(b"4" * 9000)


def shorten_and_write(path):
    os.truncate(path, 10)
    with path.open("ab") as file:
        file.write(b"5" * 6000)


@pytest.mark.parametrize("change", [write_twice, shorten_and_write])
def test_some_cuts_undo_all_changes_of_a_file_and_some_none(root, change):
    before = b"1" * 10_000
    left = set(left_of(root, before, change))
    now = root.with_name("now")
    now.write_bytes(before)
    change(now)
    assert {before, now.read_bytes()} < left


def test_some_cuts_undo_all_writes_of_sqlite_and_some_none(root):
    def content(path):
        return path.read_bytes()[100:]  # without SQLite's header, which counts changes

    def update(path, value):
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            for pragma in ("journal_mode=OFF", "synchronous=OFF"):
                db.execute(f"PRAGMA {pragma}").fetchall()
            db.execute("CREATE TABLE IF NOT EXISTS t(body BLOB)")
            db.execute("DELETE FROM t")
            db.execute("INSERT INTO t VALUES(?)", (value * 20_000,))

    left, safe, now = set(), set(), set()
    for seed in range(30):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        update(root / "a.db", b"1")
        safe.add(content(root / "a.db"))
        disk = Disk(str(root))
        with installed(disk):
            update(root / "a.db", b"2")
        now.add(content(root / "a.db"))
        disk.power_cut(random.Random(seed))
        left.add(content(root / "a.db"))
    assert len(safe) == len(now) == 1
    assert safe | now < left


def test_a_folders_sync_makes_no_later_name_of_another_safe(root):
    left = set()
    for seed in range(20):
        shutil.rmtree(root, ignore_errors=True)
        disk = Disk(str(root))
        with installed(disk):
            (root / "folder").mkdir()
            (root / "a").touch()
            (root / "folder" / "b").touch()
            atomic_write.sync_folder(root)
            atomic_write.sync_folder(root / "folder")
            (root / "c").touch()
            (root / "folder" / "b").rename(root / "folder" / "d")
            atomic_write.sync_folder(root)
        disk.power_cut(random.Random(seed))
        left.add(" ".join(sorted(path.name for path in root.rglob("*"))))
    assert left == {"a b c folder", "a c d folder"}


def test_a_kill_loses_nothing(root):
    disk = Disk(str(root))
    with installed(disk):
        (root / "a").write_bytes(b"1")
    disk.killed()
    assert contents(root) == {"a": b"1"}


# the same as the record of a program's calls


CHILD = """
import os, sys
root = sys.argv[1]
def write(name, data, sync=False, flags=os.O_CREAT):
    handle = os.open(f"{root}/{name}", os.O_WRONLY | flags, 0o600)
    os.write(handle, data)
    if sync:
        os.fsync(handle)
    os.close(handle)
def folder():
    handle = os.open(root, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
write("a", b"1", sync=True)
folder()
write("b.new", b"2", sync=True)
os.rename(f"{root}/b.new", f"{root}/a")
write("a", b"3", flags=os.O_APPEND)
write("c", b"4")
os.unlink(f"{root}/c")
"""


@pytest.mark.skipif(not powercut.available(), reason="strace may not trace here")
def test_it_leaves_what_the_record_of_system_calls_says(root, tmp_path):
    traced = tmp_path / "traced"
    traced.mkdir()
    trace = powercut.record([sys.executable, "-c", CHILD, str(traced)], traced)
    expected = {tuple(sorted(cut.files.items())) for cut in trace.cuts(1500, random.Random(3))}

    def work(_):
        sys.argv[1:] = [str(root)]
        exec(textwrap.dedent(CHILD), {})

    left = set()
    for _ in cuts(root, work, repeat=12):
        left.add(tuple(sorted(contents(root).items())))
    assert left == expected
    assert len(left) > 8


def cuts(root, work, *, kinds=None, repeat=1, step=1, power=True):  # noqa: PLR0913
    """Do the work again and again, in a process that ends at each of its moments in turn; give what
    it had acknowledged, once the folder is as a cut leaves it.
    """
    nth = 0
    for nth in range(1, 100_000, step):
        for again in range(repeat):
            shutil.rmtree(root, ignore_errors=True)
            disk = Disk(str(root), nth)
            ended, disk, acks = life(disk, work, nth, kinds)
            if power:
                disk.power_cut(random.Random(nth * 1000 + again))
            else:
                disk.killed()
            assert not disk.mistakes, disk.mistakes[0]
            yield acks
        if ended:
            return


def life(disk, work, nth, kinds=None):
    """Do the work in a process; whether it came to its end before its nth moment."""
    with tempfile.TemporaryFile() as back:
        if not (child := os.fork()):
            acks, left = [], [nth]
            # the disk's thread of an earlier test stays behind in the parent
            DiskWriter._thread, DiskWriter._calls = None, SimpleQueue()
            DiskWriter._late, DiskWriter.silent = None, str

            def end(ended):
                model.real.write(back.fileno(), pickle.dumps((ended, disk, acks)))
                os._exit(0)

            def hook(kind, _):
                left[0] -= kinds is None or kind in kinds
                if not left[0]:
                    end(ended=False)

            try:
                disk.install()
                disk.hook = hook
                work(acks.append)
                end(ended=True)
            except BaseException as error:  # noqa: BLE001 -- the parent reports it
                print(repr(error), file=sys.stderr)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        back.seek(0)
        return pickle.load(back)


# SQLite


def transactions(path, journal, synchronous, many=4):
    """A work: commits, each acknowledged; 1024 bytes a page, as the spools have."""

    def work(ack):
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            for pragma in ("page_size=1024", f"journal_mode={journal}",
                           f"synchronous={synchronous}", "wal_autocheckpoint=6"):  # fmt: skip
                db.execute(f"PRAGMA {pragma}").fetchall()
            db.execute("CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, body BLOB)")
            for n in range(many):
                db.execute("BEGIN IMMEDIATE")
                db.execute("INSERT INTO t VALUES(?, ?)", (n, bytes([n]) * 1500))
                db.execute("UPDATE t SET body = ? WHERE n = ?", (bytes([n]) * 900, n - 1))
                db.execute("COMMIT")
                ack(n)

    return work


def rows_in(path):
    """What the database has; it must be whole."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return []
        rows = db.execute("SELECT n, body FROM t ORDER BY n").fetchall()
    for n, body in rows[:-1]:
        assert body == bytes([n + 1]) * 900
    return [n for n, _ in rows]


def losses(root, journal, synchronous, **how):
    """How many acknowledged commits each cut has lost, or a second one right after the start."""
    path = root / "a.db"
    for acks in cuts(root, transactions(path, journal, synchronous), **how):
        has = rows_in(path) if path.exists() else []
        assert has == list(range(len(has)))
        assert len(has) <= len(acks) + 1
        yield len(acks) - len(has)


@pytest.mark.parametrize(("journal", "synchronous"), [("WAL", "FULL"), ("DELETE", "EXTRA")])
def test_sqlite_keeps_each_acknowledged_commit_through_a_cut_at_any_moment(
    root, journal, synchronous
):
    lost = list(losses(root, journal, synchronous))
    assert len(lost) > 80
    assert max(lost) <= 0


def test_a_rollback_journal_whose_removal_is_not_synced_loses_the_last_commit_at_most(root):
    lost = list(losses(root, "DELETE", "FULL", step=2))
    assert max(lost) == 1


@pytest.mark.parametrize(("journal", "synchronous"), [("WAL", "NORMAL"), ("WAL", "OFF")])
def test_sqlite_without_a_sync_for_each_commit_loses_some(root, journal, synchronous):
    most = 0
    with suppress(sqlite3.DatabaseError):  # with OFF the file itself may be damaged
        most = max(losses(root, journal, synchronous, step=3))
    assert most > 0 or synchronous == "OFF"


def test_a_kill_at_any_moment_loses_no_commit_of_sqlite(root):
    lost = losses(root, "WAL", "NORMAL", power=False, step=5)
    assert max(lost) <= 0


def test_a_kill_can_come_between_a_commit_and_the_moment_its_caller_learns_of_it(root):
    lost = list(losses(root, "WAL", "FULL", power=False, kinds={COMMIT}))
    assert -1 in lost


def test_sqlite_takes_its_chance_and_its_time_from_the_disk(root):
    def asked(seed):
        shutil.rmtree(root, ignore_errors=True)
        with (
            installed(Disk(str(root), seed), wall=lambda: 0.0),
            closing(sqlite3.connect(root / "a.db")) as db,
        ):
            return db.execute("SELECT hex(randomblob(8)), datetime('now')").fetchone()

    assert asked(1) == asked(1)
    assert asked(1)[0] != asked(2)[0]
    assert asked(1)[1] == "1970-01-01 00:00:00"


# the agent's own files


def test_a_small_file_is_the_old_or_the_new_one_after_a_cut_at_any_moment(root):
    def work(ack):
        for number in range(3):
            atomic_write._write(root / "a.json", bytes([65 + number]) * 9000)
            ack(number)

    left = set()
    for acks in cuts(root, work, repeat=3):
        content = (root / "a.json").read_bytes() if (root / "a.json").exists() else b""
        number = content[0] - 65 if content else -1
        assert content == bytes([65 + number]) * 9000 or not content
        assert number >= len(acks) - 1
        left.add(number - len(acks))
    assert left == {-1, 0}


def test_the_registry_and_the_audit_chain_keep_what_they_acknowledged(root):
    def work(ack):
        registry, chain = RegistryStorage(root / "registry.json"), Chain(root, lambda: 1e9)
        registry.logs = True
        registry._write({TABLE: {}})
        for number in range(3):
            registry._append({str(number): {"n": number, "body": "x" * 5000}})
            ack("row")
            chain.append("n", {"n": number})
            ack("record")

    for acks in cuts(root, work, step=2):
        path = root / "registry.json"
        documents = (RegistryStorage(path).read() if path.exists() else None) or {TABLE: {}}
        assert len(documents[TABLE]) >= acks.count("row")
        assert Chain(root, lambda: 1e9).length >= acks.count("record")


def test_a_spools_file_keeps_what_it_acknowledged_through_two_cuts(root):
    path = root / "spool.sqlite"

    def work(ack):
        database = Database(path, 1 << 22, 1 << 16, 1 << 16)
        with database.transaction():
            database.write("CREATE TABLE IF NOT EXISTS t(n INTEGER)")
        has = [n for (n,) in database.read("SELECT n FROM t ORDER BY n")]
        ack(has)
        for n in range(len(has), len(has) + 4):
            with database.transaction():
                database.write("INSERT INTO t VALUES(?)", n)
            ack([*has, *range(len(has), n + 1)])
        database.fold()
        database.close()

    for nth in range(1, 400, 60):
        shutil.rmtree(root, ignore_errors=True)
        disk, known = Disk(str(root), nth), []
        for again in (nth, 150, 10_000):
            _, disk, acks = life(disk, work, again)
            # what was there after the cut is what was acknowledged, and one more at most
            assert not acks or acks[0] == list(range(len(acks[0])))
            assert not acks or len(known) <= len(acks[0]) <= len(known) + 1
            known = acks[-1] if acks else known
            disk.power_cut(random.Random(nth))
            assert not disk.mistakes, disk.mistakes[0]
        assert len(known) >= 4


def test_functions_bound_at_import_lead_to_the_disk_and_back(root):
    before = RegistryStorage.__init__.__defaults__
    disk = Disk(str(root))
    with installed(disk):
        RegistryStorage(root / "registry.json")._write({TABLE: {}})
        assert RegistryStorage.__init__.__defaults__ != before
    assert RegistryStorage.__init__.__defaults__ == before
    assert disk.counts[SYNC] >= 2
    assert os.fsync is model.real.fsync
    assert open is io.open


# faults


@contextmanager
def failing(root, **fault):
    disk = Disk(str(root), 1)
    clock = [100.0]
    with installed(disk, clock=lambda: clock[0], blocked=lambda wait: clock.__setitem__(0, clock[0] + wait)):  # fmt: skip  # noqa: E501
        (root / "a").write_bytes(b"1" * 5000)
        db = sqlite3.connect(root / "a.db", isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            db.execute(f"PRAGMA {pragma}").fetchall()
        db.execute("CREATE TABLE t(body BLOB)")
        disk.begin(fault)
        with closing(db):
            yield disk, db, clock


def insert(db, size):
    """The name of SQLite's error; empty: committed."""
    try:
        db.execute("INSERT INTO t VALUES(?)", (os.urandom(size),))
    except sqlite3.Error as error:
        return error.sqlite_errorname
    return ""


def test_a_full_disk_takes_what_it_has_room_for_and_no_more(root):
    with failing(root, how="full", room=3 * 4096, names=False) as (disk, db, _):
        assert shutil.disk_usage(root).free == 3 * 4096
        handle = os.open(root / "b", os.O_WRONLY | os.O_CREAT)
        assert os.write(handle, bytes(20_000)) == 3 * 4096
        with pytest.raises(OSError, match="No space") as full:
            os.write(handle, b"1")
        assert full.value.errno == errno.ENOSPC
        assert os.write(handle, b"") == 0
        os.close(handle)
        (root / "a").open("r+b").write(b"2" * 5000)  # it has its blocks
        assert insert(db, 50_000) == "SQLITE_FULL"
        (root / "b").unlink()
        assert shutil.disk_usage(root).free > 0
        disk.end()
        assert not insert(db, 50_000)


def test_a_full_disk_may_refuse_new_names_as_well(root):
    with failing(root, how="full", room=0, names=True) as _:
        with pytest.raises(OSError, match="No space"):
            (root / "b").touch()
        with pytest.raises(sqlite3.OperationalError) as error:
            sqlite3.connect(root / "b.db").execute("CREATE TABLE t(n)")
        assert error.value.sqlite_errorname == "SQLITE_CANTOPEN"


def test_a_disk_that_became_read_only_can_be_read(root):
    with failing(root, how="readonly") as (disk, db, _):
        assert os.statvfs(root).f_flag & os.ST_RDONLY
        for call in (
            lambda: (root / "a").open("r+b"),
            (root / "new").touch,
            (root / "a").unlink,
            lambda: (root / "a").replace(root / "b"),
            (root / "folder").mkdir,
        ):
            with pytest.raises(OSError, match="Read-only"):
                call()
        assert insert(db, 10) == "SQLITE_IOERR_WRITE"
        assert len((root / "a").read_bytes()) == 5000
        assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
        disk.end()
        (root / "new").touch()


def test_a_database_opened_on_a_read_only_disk_is_open_for_reading(root):
    disk = Disk(str(root), 1)
    with installed(disk):
        with closing(sqlite3.connect(root / "a.db")) as db:
            db.execute("CREATE TABLE t(body BLOB)")
        disk.begin({"how": "readonly"})
        with closing(sqlite3.connect(root / "a.db", isolation_level=None)) as db:
            assert insert(db, 10) == "SQLITE_READONLY"


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ({"sync": 1.0}, "SQLITE_IOERR_FSYNC"),
        ({"write": 1.0}, "SQLITE_IOERR_WRITE"),
        ({"read": 1.0}, "SQLITE_IOERR_READ"),
    ],
)
def test_errors_of_the_disk_reach_sqlite(root, fault, name):
    none = {"read": 0.0, "write": 0.0, "sync": 0.0, "evict": False}
    with failing(root, how="eio", **{**none, **fault}) as (disk, db, _):
        assert asked(root / "a.db" if "read" in fault else db) == name
        disk.end()
        assert not asked(db)


def asked(db):
    """The name of the error of a commit, by a connection or a new one."""
    if not isinstance(db, Path):
        return insert(db, 3000)
    try:
        with closing(sqlite3.connect(db)) as new:
            return insert(new, 3000)
    except sqlite3.Error as error:
        return error.sqlite_errorname


def test_bytes_whose_sync_failed_are_not_saved_by_the_next_sync(root):
    def left(seed, *, rewrite):
        shutil.rmtree(root, ignore_errors=True)
        disk = Disk(str(root), seed)
        with installed(disk):
            (root / "a").write_bytes(b"1" * 8192)
            file = (root / "a").open("r+b", buffering=0)
            os.fsync(file.fileno())
            atomic_write.sync_folder(root)
            file.write(b"2" * 8192)
            disk.begin({"how": "eio", "read": 0.0, "write": 0.0, "sync": 1.0, "evict": False})
            with pytest.raises(OSError, match="Input/output"):
                os.fsync(file.fileno())
            disk.end()
            if rewrite:
                file.seek(0)
                file.write(b"3")
                file.seek(5000)
                file.write(b"3")
            os.fsync(file.fileno())
            file.close()
        disk.power_cut(random.Random(seed))
        return (root / "a").read_bytes()

    assert {left(seed, rewrite=False)[::4096] for seed in range(30)} == {b"11", b"12", b"21", b"22"}
    assert {left(seed, rewrite=True) for seed in range(9)} == {
        b"3" + b"2" * 4999 + b"3" + b"2" * 3191
    }


@pytest.mark.parametrize("more", [b"", b"2" * 5000])
def test_a_sync_that_fails_loses_nothing_that_was_safe_before(root, more):
    for seed in range(20):
        shutil.rmtree(root, ignore_errors=True)
        disk = Disk(str(root), seed)
        with installed(disk):
            (root / "a").write_bytes(b"1" * 5000)
            with (root / "a").open("r+b", buffering=0) as file:
                os.fsync(file.fileno())
                atomic_write.sync_folder(root)
                if more:
                    file.seek(5000)
                    file.write(more)
                disk.begin({"how": "eio", "read": 0.0, "write": 0.0, "sync": 1.0, "evict": False})
                with pytest.raises(OSError, match="Input/output"):
                    os.fsync(file.fileno())
                disk.end()
        disk.power_cut(random.Random(seed))
        assert (root / "a").read_bytes()[:5000] == b"1" * 5000


def test_lost_bytes_may_show_once_the_system_forgets_what_it_holds(root):
    shown = set()
    for seed in range(20):
        shutil.rmtree(root, ignore_errors=True)
        disk = Disk(str(root), seed)
        with installed(disk):
            (root / "a").write_bytes(b"1")
            with (root / "a").open("r+b", buffering=0) as file:
                os.fsync(file.fileno())
                file.write(b"2")
                disk.begin({"how": "eio", "read": 0.0, "write": 0.0, "sync": 1.0, "evict": True})
                with pytest.raises(OSError, match="Input/output"):
                    os.fsync(file.fileno())
                disk.end()
            shown.add((root / "a").read_bytes())
    assert shown == {b"1", b"2"}


def test_a_stalled_disk_blocks_its_caller_until_it_answers(root):
    with failing(root, how="stall", **{"for": 30.0}, writes=False) as (disk, db, clock):
        assert disk.stalled_until(5.0) == 35.0
        (root / "a").read_bytes()
        assert clock == [100.0]
        with disk.unblocked():
            assert not insert(db, 10)
        assert clock == [100.0]
        assert not insert(db, 10)
        assert clock == [130.0]
        assert disk.stalled_until(5.0) is None


def test_files_have_the_time_of_the_simulated_clock(root):
    root.mkdir()
    (root / "before").touch()
    disk = Disk(str(root))
    with installed(disk, wall=lambda: 1_800_000_000.0):
        (root / "a").write_bytes(b"1")
        atomic_write.sync_folder(root)
    disk.power_cut(random.Random(1))
    assert {int(path.stat().st_mtime) for path in root.iterdir()} == {1_800_000_000}
    assert len(contents(root)) == 2


def test_a_file_made_past_the_disk_is_noticed(root):
    disk = Disk(str(root))
    with installed(disk):
        model.real.close(model.real.open(root / "a", os.O_CREAT | os.O_WRONLY))
    disk.killed()
    assert disk.mistakes


def test_moments_of_each_kind_are_told(root):
    kinds = set()
    disk = Disk(str(root))
    with installed(disk):
        disk.hook = lambda kind, path: kinds.add((kind, Path(path).name))
        transactions(root / "a.db", "WAL", "FULL", 1)(lambda _: None)
        atomic_write._write(root / "b", b"1")
    assert {
        (WRITE, "a.db-wal"), (COMMIT, "a.db-wal"), (NAME, "b"), (SYNC, "b.new"), (SYNC, "state"),
    } <= kinds  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_a_spool_that_the_disk_cannot_read_is_not_set_aside(root, seed):
    head = BatchHead("G84G7ZWYRD6Z1GQ", "metropole.example", "FR-1", str)
    opening = partial(spool.Spool.open, root / "spool.db", bytes(32), head, 4_000_000)
    with failing(root, how="full", room=1 << 30, names=False) as (disk, *_):
        with opening() as before:
            before.append(poll(1), {}, NOON + 60.0)
        fault = {"how": "eio", "read": 0.3, "write": 0.0, "sync": 0.0, "evict": False}
        disk.begin(fault | {"seed": seed})
        with suppress(StorageFailed), opening():
            pass
        disk.end()
        with opening() as after:
            assert sum(after.waiting(0)) == 10
            assert not after.set_aside


@pytest.mark.parametrize("seed", range(12))
def test_a_trust_store_that_the_disk_cannot_read_is_not_set_aside(root, tmp_path, seed):
    """Rules A1, O29: a copy in memory goes on, and no list is lost. SQLite's own check of a file
    reports a page that cannot be read like one whose content is wrong.
    """
    beside = tmp_path / "beside"
    opening = partial(TrustStore.open, root / "authority.sqlite", beside)
    with failing(root, how="full", room=1 << 30, names=False) as (disk, *_):
        with opening() as before:
            before.remember(["a kid"], (), (), NOON)
        # the copy of this boot, from an earlier failure
        beside.mkdir(mode=0o700)
        shutil.copyfile(root / "authority.sqlite", beside / "authority.sqlite")
        fault = {"how": "eio", "read": 0.05, "write": 0.0, "sync": 0.0, "evict": False}
        disk.begin(fault | {"seed": seed})
        with opening() as meanwhile:
            assert "a kid" in meanwhile.revoked
        disk.end()
        with opening() as after:
            assert "a kid" in after.revoked
    assert not list(root.glob("*.damaged*"))


# small spools


def test_the_sizes_of_databases_are_those_of_their_files(root):
    with failing(root, how="full", room=1 << 20, names=False) as (disk, db, _):
        before = disk.sizes("a")
        assert before.keys() == {"a.db"}
        insert(db, 50_000)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        assert disk.sizes("a")["a.db"] > before["a.db"] + 50_000
        assert not disk.sizes("b")


def test_a_small_spool_is_full_after_some_hours_and_stays_small(tmp_path, monkeypatch):
    for module, name in small_spool.CHANGED:
        monkeypatch.setattr(module, name, getattr(module, name))
    small_spool.install()
    head = BatchHead("G84G7ZWYRD6Z1GQ", "metropole.example", "FR-1", str)
    with spool.Spool.open(tmp_path / "a.db", bytes(32), head, 200_000_000) as small:
        for slot in range(1200):
            small.append(poll(slot), {}, NOON + 60.0 * slot)
        assert sum(small.waiting(0)) < 12_000
    assert (tmp_path / "a.db").stat().st_size <= small_spool.SIZE
