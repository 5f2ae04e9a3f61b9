"""Guards rule G6 where the disk under the journal turns read-only, fails, fills or freezes.

docs/control.md, "When the disk fails". A_i and A_j are the counter-examples that the rules remove.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.buffer.database import OneThread
from agent.cli.control import given_back
from agent.control.failsafe import Watch
from agent.control.journal import Journal
from agent.control.model import OrderCode, OrderState, WriteTarget
from agent.control.records import LEFT, Outcome, Transaction
from agent.control.writer import STORE, Bounds, JournalCopy
from agent.core.atomic_write import SILENT, STALLED_AFTER
from agent.core.clock import monotonic
from agent.core.errors import Refused, StorageFailed
from agent.core.model import Point
from agent.core.storage import FAILING, READ_ONLY, Storage, volatile
from agent.core.tasks import Supervisor, together
from agent.drivers.bacnet.bus import Bacnet
from agent.drivers.bacnet.settings import BacnetSettings
from agent.gateway.liveness import late as hanging
from agent.trust import verify
from hil.bacnet.controller import free_udp_port
from hil.bacnet.process import BoilerRoom
from hil.charger import Charger
from hil.modbus_server import Reply, serving
from tests import disks
from tests.contract.buffer.test_full_disk import hog
from tests.contract.control import test_last_hand as last_hand
from tests.contract.control.plant import BEFORE, TARGET, plant, register
from tests.depth import LONG
from tests.waiting import until

PATIENCE = 60.0
MOUNTS = disks.available()
needs_a_disk = pytest.mark.skipif(
    not MOUNTS, reason="a disk that fails needs root and loop devices"
)
WAYS = {"read_only": READ_ONLY, "fails": FAILING, "freeze": SILENT}


def clean(folder):
    for left in volatile(folder).glob("*"):
        left.unlink()
    if volatile(folder).exists():
        volatile(folder).rmdir()


@pytest.fixture
def disk():
    with disks.disk() as made:
        yield made
        clean(made.folder)


class Wallbox:
    """A Modbus register, and what its own memory says."""

    slot = None

    def __init__(self, port: int, charger: Charger) -> None:
        self.place, self._charger = register(port), charger

    async def standing(self) -> Decimal:
        return Decimal(self._charger.limit) / 1000

    def person_sets(self, value: Decimal) -> None:
        self._charger.limit = int(value * 1000)

    free = BEFORE


@asynccontextmanager
async def modbus():
    charger = Charger(wanted=32_000)
    async with serving(lambda _, pdu: Reply(charger(pdu))) as port:
        yield Wallbox(port, charger)


class Boiler:
    """Our priority of a BACnet object, asked over a line of its own."""

    slot, free = 13, None

    def __init__(self, room: BoilerRoom) -> None:
        self._room = room
        settings = self._settings().model_dump_json()
        self.place = WriteTarget("bms", "bacnet", settings, "boiler", "offset", "1201",
                           "analog-value,7", "K")  # fmt: skip

    def _settings(self) -> BacnetSettings:
        asked = tuple(one["station"] for one in self._room.controllers)
        return BacnetSettings(address="127.0.0.1/8", port=free_udp_port(), timeout=2.0, ask=asked)

    async def standing(self) -> Decimal | None:
        point = Point("boiler", "offset", "1201", "analog-value,7", 0, writable=True)
        async with Bacnet.open(self._settings()) as bus:
            return (await bus.held(point)).ours[13]


@asynccontextmanager
async def bacnet():
    async with BoilerRoom() as room:
        yield Boiler(room)


@asynccontextmanager
async def kept(here):
    rounds = asyncio.create_task(together(*(run() for run in here.controller.rounds().values())))
    try:
        yield
        assert not rounds.done(), rounds
    finally:
        rounds.cancel()


@needs_a_disk
@pytest.mark.parametrize(("way", "bus"), [*((way, modbus) for way in WAYS), ("read_only", bacnet)],
                         ids=lambda one: one if isinstance(one, str) else one.__name__)  # fmt: skip
def test_a_disk_that_fails_during_a_hold_ends_it_and_the_daemon_gives_back_itself(disk, way, bus):
    """Rule A12."""

    async def attack():
        storage = Storage()
        async with bus() as device:
            opening = plant(disk.folder, device.place, device.slot, storage=storage)
            async with opening as here:
                await here.hold()
                assert await device.standing() == TARGET
                getattr(disk, way)()
                here.quick()
                async with kept(here):
                    began = time.monotonic()
                    await until(lambda: not here.writer.journal.records)
                    took = time.monotonic() - began
                    assert await device.standing() == device.free
                    assert storage.faults[STORE].reason == WAYS[way]
                    assert here.controller.forbidden(here.fit).code == OrderCode.STORAGE
                    with pytest.raises(StorageFailed):
                        await here.take(here.order("two"))
                    assert not await here.writer.tend()
                    later = Outcome("later", "it", OrderState.EXPIRED, 0.0)
                    await here.writer.note(Transaction(outcomes=[later]))
                    assert here.writer.journal.recent.pop().jti == "later"  # told from memory
                    if disk.frozen:
                        disk.thaw()
                told = [(one.state, one.words) for one in here.writer.journal.recent]
                return told, took

    told, took = asyncio.run(attack())
    assert told[-1][0] is OrderState.ABORTED
    assert any(WAYS[way] in one and one.startswith("storage: ") for _, one in told), told
    assert took < 20.0  # by bounds of 0.3 and 0.8 s, and what a busy machine adds


@needs_a_disk
def test_a_disk_that_is_silent_for_less_than_the_bound_ends_no_hold_and_is_named(disk):
    """Rule A12."""

    async def attack():
        storage = Storage()
        bounds = Bounds(stalled=0.2, ends=PATIENCE, probed=0.1, tried=0.1, noted=0.1)
        async with (
            modbus() as device,
            plant(disk.folder, device.place, storage=storage) as here,
        ):
            await here.hold()
            here.quick(bounds)
            disk.freeze()
            async with kept(here):
                await until(lambda: STORE in storage.faults)
                assert here.writer.journal.records
                disk.thaw()
                await until(lambda: STORE not in storage.faults)
            assert here.writer.journal.records
            assert await device.standing() == TARGET

    asyncio.run(attack())


@needs_a_disk
def test_a_planned_end_does_not_wait_for_a_frozen_disk(disk):
    async def attack():
        bounds = Bounds(stalled=PATIENCE, ends=PATIENCE, probed=PATIENCE, noted=0.1)
        async with modbus() as device, plant(disk.folder, device.place) as here:
            await here.hold()
            here.quick(bounds)
            disk.freeze()
            here.later = 601.0
            began = time.monotonic()
            await here.controller.tend("it")
            took = time.monotonic() - began
            assert await device.standing() == BEFORE
            disk.thaw()
            assert took < PATIENCE / 4
            return here.writer.journal.recent[-1].state

    assert asyncio.run(attack()) is OrderState.COMPLETED


@needs_a_disk
def test_a_disk_that_recovers_is_told_first_what_was_closed_and_holds_begin_again(disk):
    """Rule A14."""

    async def attack():
        storage = Storage()
        async with modbus() as device, plant(disk.folder, device.place, storage=storage) as here:
            await here.hold()
            here.quick()
            disk.freeze()
            async with kept(here):
                await until(lambda: not here.writer.journal.records)
                here.quick(Bounds(tried=0.1))
                disk.thaw()
                await until(lambda: not here.writer.failing and not here.controller.recovering)
                assert not storage.faults
                closed = await here.writer.call(
                    lambda: here.writer.journal._db.read("SELECT closed FROM hold")
                )
                assert closed == [(1,)]
                assert not here.writer.copy.records()
                told = [one.state for one in await here.writer.call(
                    here.writer.journal.history, 0, 1e12)]  # fmt: skip
                assert told[:2] == [OrderState.STARTED, OrderState.ABORTED]
                await here.hold(here.order("two"))
                assert await device.standing() == TARGET

    asyncio.run(attack())


@needs_a_disk
def test_on_a_full_disk_a_hold_goes_on_and_its_end_is_recorded(disk):
    async def attack():
        storage = Storage()
        async with modbus() as device:
            async with plant(disk.folder, device.place, storage=storage) as here:
                await here.hold()
                disk.fill()
                async with kept(here):
                    for _ in range(3):
                        await here.controller.try_storage()
                    assert await device.standing() == TARGET
                    for n in range(40):
                        await here.take(here.order(f"more-{n}"))
                    assert not storage.faults
                here.later = 601.0
                await here.controller.tend("it")
                assert await device.standing() == BEFORE
            with Journal.open(disk.folder / "control.sqlite", lambda _: None) as journal:
                assert not journal.records
                return journal.events["one", "it"].state, len(journal.events)

    state, events = asyncio.run(attack())
    assert state is OrderState.COMPLETED
    assert events == 41


class Worker:
    """`plant.py` as a program."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.contract.control.plant"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[3],
        )  # fmt: skip

    def ask(self, *words):
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def worker():
    made = Worker()
    yield made
    made.end()


@contextmanager
def apart(bus):
    """The device, served by a thread; gives it and a way to ask what stands there."""
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), []

    async def serve():
        async with bus() as device:
            done = asyncio.Event()
            found.extend((device, done))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(PATIENCE)
    device, done = found
    standing = lambda: asyncio.run_coroutine_threadsafe(device.standing(), loop).result()  # noqa: E731
    try:
        yield device, standing
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


KILLED = -9
EVERY = 1 if LONG else 7
SHORT = [("fails", modbus), ("freeze", modbus), ("read_only", bacnet)]
CUTS = [(way, bus) for way in WAYS for bus in (modbus, bacnet)] if LONG else SHORT


@needs_a_disk
@pytest.mark.parametrize(
    ("way", "bus"), CUTS, ids=lambda one: one if isinstance(one, str) else one.__name__
)
def test_A_i_killed_at_any_step_and_the_disk_fails_nothing_stays_commanded(  # noqa: N802
    way, bus, worker
):
    """Every seventh step in the short form, each way beginning at another one. Rules A11, A13."""
    cuts, held = 0, 0
    first = 1 if LONG else 1 + 2 * CUTS.index((way, bus)) % EVERY
    with apart(bus) as (device, standing):
        for fatal in range(first, 1000, EVERY):
            with disks.disk() as disk:
                folder = str(disk.folder)
                ended = worker.ask("run", folder, asdict(device.place), device.slot, fatal)
                held += standing() == TARGET
                getattr(disk, way)()
                began = time.monotonic()
                given = worker.ask("release", folder)
                assert time.monotonic() - began < 18.0
                assert standing() == device.free, (fatal, given)
                if way == "read_only":
                    assert all(one["done"] for one in given), (fatal, given)
                clean(disk.folder)
            if ended != KILLED:
                assert ended == 0
                break
            cuts += 1
    assert cuts >= 27 // EVERY
    assert held >= 1


@needs_a_disk
@pytest.mark.parametrize("by", ["releaser", "start"])
def test_A_j_what_is_closed_in_the_copy_is_not_given_back_again(disk, by):  # noqa: N802
    """A person has set exactly our value since: it is theirs. Rule A11."""

    async def attack():
        async with modbus() as device:
            async with plant(disk.folder, device.place) as here:
                await here.hold()
            disk.read_only()
            (given,) = await asyncio.to_thread(given_back, disk.folder, limits=False)
            assert given.done
            assert await device.standing() == BEFORE
            device.person_sets(TARGET)
            if by == "releaser":
                assert await asyncio.to_thread(given_back, disk.folder, limits=False) == []
            else:
                async with plant(disk.folder, device.place) as here:
                    assert here.writer.failing == READ_ONLY
                    await here.controller.recover()
                    assert not here.writer.journal.records
            assert await device.standing() == TARGET
            disk.recover()
            async with plant(disk.folder, device.place) as here:
                await here.controller.recover()
                assert not here.writer.failing
                assert not here.writer.copy.records()
                (last,) = [one for one in here.writer.journal.recent if one.closed]
            assert await device.standing() == TARGET
            return last.state, last.words

    state, words = asyncio.run(attack())
    assert (state, words) == (OrderState.ABORTED, "the agent does not run")


@needs_a_disk
def test_a_start_on_a_journal_that_cannot_be_read_gives_back_by_its_copy_and_goes_on_later(disk):
    async def held(device):
        async with plant(disk.folder, device.place) as here:
            await here.hold()
            return here.writer.copy.records()

    async def failed(device):
        storage = Storage()
        async with plant(disk.folder, device.place, storage=storage) as here:
            assert here.writer.failing == FAILING
            await here.controller.recover()
            assert await device.standing() == BEFORE
            assert storage.faults[STORE].reason == FAILING
            assert not await here.controller.writer.tend()
            with pytest.raises(StorageFailed):
                await here.take(here.order("two"))

    async def recovered(device):
        async with plant(disk.folder, device.place) as here:
            assert not here.writer.journal.records
            await here.controller.recover()
            await here.hold(here.order("two"))
            assert await device.standing() == TARGET
            return here.writer.journal.recent[0].state

    async def attack():
        async with modbus() as device:
            copied = await held(device)
            assert len(copied) == 1
            disk.fails()
            await failed(device)
            disk.recover()
            return await recovered(device)

    assert asyncio.run(attack()) is OrderState.STARTED


OWNER = """
import json, os, sys, threading, time
from pathlib import Path
from agent.control.writer import JournalCopy
from agent.core.state import owned
from agent.core.storage import volatile
folder = Path(sys.argv[1])
with owned(folder, "gardien run"):
    assert JournalCopy(volatile(folder)).lock()
    print("owns", flush=True)
    sys.stdin.readline()
    threading.Thread(target=lambda: (folder / "stuck").write_text("x")).start()
    print("stuck", flush=True)
    time.sleep(600)
"""


@needs_a_disk
def test_an_agent_that_was_killed_and_cannot_die_for_a_frozen_disk_bars_no_release(disk):
    """Rule A13."""
    (disk.folder / "lock").touch()
    owner = subprocess.Popen([sys.executable, "-c", OWNER, disk.folder], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert owner.stdout.readline() == "owns\n"
        with pytest.raises(Refused, match="while it runs, release one control"):
            given_back(disk.folder, limits=False)
        disk.freeze()
        owner.stdin.write("\n")
        owner.stdin.flush()
        assert owner.stdout.readline() == "stuck\n"
        waiting = Path(f"/proc/{owner.pid}/task")

        def stuck():
            states = [one.read_text().rpartition(")")[2].split()[0]
                      for one in waiting.glob("*/stat")]  # fmt: skip
            return "D" in states

        asyncio.run(until(stuck))
        owner.kill()
        assert given_back(disk.folder, limits=False) == []
        assert owner.poll() is None  # the disk holds it
    finally:
        if disk.frozen:
            disk.thaw()
        owner.kill()
        owner.communicate()


@needs_a_disk
def test_a_limit_is_given_back_too_where_the_disk_fails(disk):
    """Its failsafe would be a new hold, which must be written down before."""

    async def attack():
        async with modbus() as device:
            async with plant(disk.folder, device.place) as here:
                await here.hold()
                (row,) = here.writer.journal.records.values()
                await here.writer.save(Transaction(replace(row, failsafe=Decimal(10))))
            disk.fails()
            given = await asyncio.to_thread(given_back, disk.folder, limits=False)
            return given, await device.standing()

    (given, journal), stands = asyncio.run(attack())
    assert given.done
    assert (journal.control, journal.done) == ("the journal", False)
    assert stands == BEFORE


@needs_a_disk
def test_a_call_that_a_frozen_disk_holds_is_a_fault_of_its_store_and_no_hanging_part(disk):
    def write():
        (disk.folder / "spool").write_text("x")

    async def attack():
        thread = OneThread("spool")
        disk.freeze()
        call = thread.begin(write)
        await until(lambda: thread._since is not None)
        began = monotonic()
        soon, late = thread.stalled(began + STALLED_AFTER - 2), thread.stalled(began + 600)
        known = hanging(SimpleNamespace(
            lines={}, steering=None, jobs=Supervisor(),
            config=SimpleNamespace(spool=SimpleNamespace(flush=5.0)),
            recipients={"metropole": SimpleNamespace(
                intake=SimpleNamespace(turned=began), delivery=SimpleNamespace(turned=began),
                thread=thread)},
        ), began + 600)  # fmt: skip
        disk.thaw()
        await call
        thread.close()
        return soon, late, known, thread.stalled(began + 600)

    assert asyncio.run(attack()) == (False, True, [], False)


def test_a_copy_closes_a_row_without_any_room_and_reads_no_half_file(small_disk):
    made = replace(last_hand.row(1502), number=7)
    copy = JournalCopy(small_disk / "run")
    assert copy.lock()
    copy.save("a" * 16, made)
    hog(small_disk)
    with pytest.raises(OSError, match="No space left"):
        copy.save("a" * 16, replace(made, number=8, words="x" * 5000))
    copy.close_record(
        "a" * 16, made.releasing(OrderState.ABORTED, "storage: " + "x" * 5000), left=True
    )
    (found,) = copy.records()
    assert (found.journal, found.record.number, found.state) == ("a" * 16, 7, LEFT)
    assert list((small_disk / "run").glob("*-8.new"))  # half of it, and nobody reads that
    copy.close()


def test_a_folder_in_run_that_is_not_ours_alone_is_refused_and_nothing_begins(tmp_path):
    async def attack():
        (tmp_path / "state").mkdir()
        folder = volatile(tmp_path / "state")
        folder.mkdir(mode=0o755)
        try:
            async with modbus() as device, plant(tmp_path / "state", device.place) as here:
                assert "not a folder of this account alone" in here.writer.failing
                with pytest.raises(StorageFailed):
                    await here.take(here.order())
                folder.chmod(0o700)
                assert await here.writer.tend()
                await here.hold()
                assert await device.standing() == TARGET
        finally:
            clean(tmp_path / "state")

    asyncio.run(attack())


def test_a_hold_whose_journal_is_damaged_is_given_back_by_its_copy(tmp_path):
    async def attack():
        async with modbus() as device:
            async with plant(tmp_path, device.place) as here:
                await here.hold()
                before = here.writer.journal.id
            (tmp_path / "control.sqlite").write_bytes(b"no journal at all" * 100)
            async with plant(tmp_path, device.place) as here:
                assert here.writer.journal.set_aside
                assert here.writer.journal.id != before
                (copied,) = here.writer.copy.records()
                assert copied.journal == here.writer.journal.id
                await here.controller.recover()
                assert await device.standing() == BEFORE
                assert not here.writer.copy.records()

    asyncio.run(attack())


@dataclass
class Taken:
    """What the journal keeps of a signed object."""

    jti = sha256 = "refused"
    owner, exp, model = "metropole", None, None

    def keep(self, db) -> None:
        verify.keep_answer(db, self, {})


@needs_a_disk
def test_an_order_that_was_refused_for_its_commit_failed_is_not_carried_out_later(disk):
    """The commit had taken effect all the same."""

    async def attack():
        async with modbus() as device, plant(disk.folder, device.place) as here:
            await here.take(here.order("first"))
            here.quick()
            change, object_ = Transaction(events=[here.order("refused")]), Taken()
            disk.freeze()
            with pytest.raises(StorageFailed):
                await here.writer.save(change, lambda db: db.by(object_.keep))
            here.writer.refuse(object_)
            here.quick(Bounds(tried=0.1))
            disk.thaw()
            while not await here.writer.tend():
                await asyncio.sleep(0.05)
            kept = await here.writer.call(
                lambda: here.writer.journal._db.read("SELECT jti FROM event")
            )
            first = await here.writer.call(here.writer.journal.first, object_)
            return kept, set(here.writer.journal.events), first

    assert asyncio.run(attack()) == ([("first",)], {("first", "it")}, None)


SPENT = Watch(since=None, spent=True)


@contextmanager
def journal_unread(folder):
    """Nobody can open the journal of this folder; yields a call that ends this."""
    path, away = folder / "control.sqlite", folder / "away.sqlite"

    def again():
        path.unlink()
        away.rename(path)

    path.rename(away)
    os.mknod(path, stat.S_IFSOCK | 0o600)  # to open it fails as a device that is gone does
    yield again


@pytest.mark.parametrize("late", [False, True], ids=["before", "while it is opened"])
def test_what_forbids_orders_counts_also_if_it_was_noted_before_the_journal_was_read(
    tmp_path, late
):
    """Rules A12, H7, H36, H3, H12; what the file knows is kept."""
    place, season = register(1), 200 * 86_400.0

    async def attack():
        async with plant(tmp_path, place) as here:
            await here.take(here.order())
        with journal_unread(tmp_path) as again:
            async with plant(tmp_path, place) as here:
                assert here.writer.failing
                with pytest.raises(StorageFailed):
                    await here.controller.opt_in(here.fit)
                busy, opened = threading.Event(), None
                if late:
                    again()
                    here.writer.behind(busy.wait)
                    opened = asyncio.create_task(here.writer.tend())
                    await until(lambda: here.writer._reopening)
                await here.controller.opt_out(here.fit, 3600.0, "cold", here.now().wall + season)
                memo = here.writer.journal.memo(here.fit.key)
                locked = replace(memo, locked=here.now(), lock_lasts=600.0, watch=SPENT)
                await here.controller.remember(here.fit.key, locked)
                busy.set()
                if not late:
                    again()
                assert await (opened or here.writer.tend())
                kept = here.writer.journal.memo(here.fit.key)
                await here.controller.opt_out(here.fit, 60.0, "shorter")
        async with plant(tmp_path, place) as here:
            stored = here.writer.journal.memo(here.fit.key)
            assert stored.pause_end(here.now()) > here.now().wall + season - PATIENCE
            await here.controller.opt_in(here.fit)
            assert not here.writer.journal.memo(here.fit.key).pause(here.now())
            return kept, stored, here.now()

    for memo in (found := asyncio.run(attack()))[:2]:
        assert (memo.tested, memo.opt_words, memo.watch.spent) == ("v1", "cold", True)
        assert memo.locked_for(found[2]) > 600.0 - PATIENCE


def test_of_two_opt_outs_the_longer_counts_also_if_the_journal_was_read_between(tmp_path):
    """Rule H36."""
    place, season = register(1), 200 * 86_400.0

    async def attack():
        async with plant(tmp_path, place) as here:
            await here.controller.opt_out(here.fit, season, "season", here.now().wall + season)
        with journal_unread(tmp_path) as again:
            async with plant(tmp_path, place) as here:
                await here.controller.opt_out(here.fit, 60.0, "a minute")
                again()
                assert await here.writer.tend()
                return here.writer.journal.memo(here.fit.key).opt_words

    assert asyncio.run(attack()) == "season"


def test_an_opt_out_that_the_disk_does_not_have_survives_the_end_of_the_agent(tmp_path):
    """Rules A12, H36: also before the journal can be read. The disk has it: no copy is left."""
    place = register(1)

    def paused(here):
        memo = here.writer.journal.memo(here.fit.key)
        return memo.pause(here.now()), memo.tested

    async def attack():
        async with plant(tmp_path, place) as here:
            await here.take(here.order())
            here.writer._fail(FAILING)
            await here.controller.opt_out(here.fit, 3600.0, "cold")
        with journal_unread(tmp_path) as again:
            async with plant(tmp_path, place) as here:
                assert here.writer.failing
                assert paused(here)[0] == "cold"
            again()
        async with plant(tmp_path, place) as here:
            assert paused(here) == ("cold", "v1")
            assert not here.writer.copy.memos()
        assert not volatile(tmp_path).exists()
        async with plant(tmp_path, place) as here:
            assert paused(here) == ("cold", "v1")

    asyncio.run(attack())
