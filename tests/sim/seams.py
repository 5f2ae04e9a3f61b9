"""Time, randomness, ids and the machine of one life, all of them the world's.

`install` is called in the process of a life, before the agent opens anything, and never undone: the
process ends with the life. What the agent imports later finds the same things.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import platform
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections import defaultdict, deque
from concurrent.futures import Future
from dataclasses import astuple
from functools import lru_cache
from typing import ClassVar

from tests.sim.chance import Stream
from tests.sim.loop import LATE, Pool

PERIOD = 15.0
"""seconds between two signs of life: half of the unit's WatchdogSec"""
STATUS = 60.0
"""seconds between two looks of the agent at its own state, unless the plan says something else"""
PROCESS = 1200
"""process id of the first life"""


def install(world, loop):
    """Let this process live in the world. `loop`: of the life."""
    clocks(world, loop)
    dice(world)
    machine(world)
    clock_seams(world)
    writer(loop)
    pools(loop)
    no_way_out()


def modules():
    """Names of the modules of the agent that are imported."""
    return tuple(name for name in sys.modules if name == "agent" or name.startswith("agent."))


@lru_cache(maxsize=1)
def named(names):
    """By which names these modules know each object, by its id. Searched for before the first life,
    and then known in each.
    """
    by_id = defaultdict(list)
    for module in map(sys.modules.__getitem__, names):
        for name, value in vars(module).items():
            by_id[id(value)].append((module, name))
    return dict(by_id)


def everywhere(original, replacement):
    """Replace an object under each name by which a module of the agent knows it."""
    for module, name in named(modules()).get(id(original), ()):
        if getattr(module, name) is original:
            setattr(module, name, replacement)


def clocks(world, loop):
    wall = world.wall
    now = loop.time
    time.time = wall
    time.time_ns = lambda: int(wall() * 1e6) * 1000
    time.monotonic = time.perf_counter = now
    time.monotonic_ns = time.perf_counter_ns = lambda: int(now() * 1e9)
    time.process_time = time.thread_time = now
    time.sleep = lambda seconds: loop.jump(now() + seconds)
    gmtime, localtime, strftime = time.gmtime, time.localtime, time.strftime
    time.gmtime = lambda seconds=None: gmtime(wall() if seconds is None else seconds)
    time.localtime = lambda seconds=None: localtime(wall() if seconds is None else seconds)
    time.strftime = lambda form, at=None: strftime(form, localtime(wall()) if at is None else at)

    class AnyDatetime(type):
        def __instancecheck__(cls, instance):
            return isinstance(instance, dt.datetime)

    class Now(dt.datetime, metaclass=AnyDatetime):
        @classmethod
        def now(cls, tz=None):
            return dt.datetime.fromtimestamp(wall(), tz)

    for name in ("agent.api.diagnosis.network",):
        if (module := sys.modules.get(name)) is not None:
            module.datetime = Now


def dice(world):
    """All chance of the process comes from the world; the keys of people and platforms do not."""
    stream = world.chance.of("urandom")
    random.seed(stream.getrandbits(64))
    os.urandom = stream.randbytes
    random._urandom = stream.randbytes  # of SystemRandom, and so of `secrets`

    class Drawn(types.ModuleType):
        def __getattr__(self, name):
            return getattr(random, name)

    def fresh(seed=None):
        return Stream(stream.getrandbits(64) if seed is None else seed)

    proxy = Drawn("random")
    proxy.Random = fresh
    everywhere(random, proxy)
    tempfile._Random = fresh
    tempfile._name_sequence = None
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    def generate():
        return Ed25519PrivateKey.from_private_bytes(stream.randbytes(32))

    Ed25519PrivateKey.generate = staticmethod(generate)


def machine(world):
    """Files of the system that the agent reads, in a folder of the run."""
    host = world.folder / "host"
    host.mkdir(exist_ok=True)
    (host / "machine-id").write_text(f"{world.machine}\n")
    (host / "mountinfo").write_text("")
    (host / "mounts").write_text("/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n")
    shm = world.folder / "shm"
    shm.mkdir(mode=0o700, exist_ok=True)
    os.getpid = lambda: world.pid
    os.getppid = lambda: 1
    os.getloadavg = lambda: (0.1, 0.1, 0.1)
    os.cpu_count = lambda: 4
    socket.gethostname = lambda: "gateway"
    known = platform.uname()._replace(
        system="Linux", node="gateway", release="6.12.0", machine="aarch64"
    )
    platform.uname = lambda: known
    platform.node = lambda: "gateway"
    for name in (
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "SUDO_USER",
        "JOURNAL_STREAM",
        "LISTEN_PID",
        "LISTEN_FDS",
    ):
        os.environ.pop(name, None)
    os.environ["GARDIEN_BOOT"] = world.boot
    os.environ["TZ"] = "UTC"
    time.tzset()
    import agent.api.diagnosis.machine
    import agent.app
    import agent.core.process
    import agent.core.storage
    import agent.core.systemd
    import agent.gateway.gateway
    import agent.gateway.liveness
    import agent.inbox.setup

    agent.core.storage.RUN = host / "run"  # never there
    agent.core.storage.SHARED_MEMORY = shm
    agent.core.storage.MOUNTS = host / "mountinfo"
    agent.inbox.setup.MACHINE = host / "machine-id"
    no = host / "none"
    by_default(agent.core.process.usage, no)
    by_default(agent.core.process.temperatures, no)
    looks = agent.api.diagnosis.machine
    looks.MOUNTS = host / "mounts"
    for function in vars(looks).values():
        if callable(function) and getattr(function, "__defaults__", None):
            function.__defaults__ = tuple(
                {"/sys/class/block": no, "/proc/self/mounts": host / "mounts"}.get(
                    str(value), value
                )
                for value in function.__defaults__
            )
    waits = agent.gateway.gateway.Waits
    by_default(waits.__init__, *astuple(waits(status=world.plan.get("status", STATUS))))
    everywhere(agent.core.systemd.notify, world.notified)
    agent.gateway.liveness.watchdog_period = lambda: PERIOD


def by_default(function, *values):
    function.__defaults__ = values


def clock_seams(world):
    """What a time service, the kernel and the battery-backed clock say."""
    import agent.core.clock as seam

    def evidence(timesyncd=None):
        del timesyncd
        return seam.ClockEvidence(world.keeps(), world.touched())

    def rtc(path=None):
        del path
        return world.rtc()

    def boot_id(path=None):
        del path
        return world.boot

    @contextlib.contextmanager
    def told_by_kernel(tell, at=None):
        del at
        if not world.announces:
            yield False
            return
        world.heard_by(tell)
        yield True

    known = {seam.evidence: evidence, seam.rtc: rtc, seam.boot_id: boot_id}
    known[seam.told_by_kernel] = told_by_kernel
    begin = seam.Clock.__init__
    begin.__defaults__ = tuple(
        known.get(value, value) if callable(value) else value for value in begin.__defaults__
    )
    for original, replacement in known.items():
        everywhere(original, replacement)


def pools(loop):
    """Threads that carry out calls one by one are the loop's pools."""
    import agent.core.atomic_write as files
    from agent.buffer import database
    from agent.control import recovery

    Pool.current = loop
    database.ThreadPoolExecutor = Pool
    answers = database._thread_local

    def ended():
        answers.call = None  # the next call may be another thread's

    Pool.ended = staticmethod(ended)

    def in_time(path, to, within):
        """As recovery's own, without a thread: a stalled disk lets the time pass."""
        if (until := loop.stalled()) is not None and until > loop.time() + within:
            loop.jump(loop.time() + within)
            return False
        import shutil

        with contextlib.suppress(OSError):
            for end in ("-wal", ""):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(f"{path}{end}", f"{to}{end}")
            return True
        return False

    recovery._copy_in_time = in_time

    def settle(self, within):
        if (until := loop.stalled()) is not None:
            loop.jump(min(until, loop.time() + within))
        Files.drain()
        return not self._waits

    files.WriteQueue.settle = settle


class Written(Future):
    """The result of a small file; who waits for it in the loop waits in virtual time."""

    def result(self, timeout=None):
        Files.drain()
        if not self.done() and timeout is not None:
            Files.loop.jump(min(Files.loop.stalled(), Files.loop.time() + timeout))
            Files.drain()
            timeout = 0
        return super().result(timeout)


class Files:
    """The disk's thread for small files, without a thread: see DiskWriter."""

    calls: ClassVar[deque] = deque()
    inside = False
    loop = None

    @classmethod
    def stalled(cls):
        until = cls.loop.stalled()
        return until is not None and until > cls.loop.time()

    @classmethod
    def put(cls, call):
        future = Written()
        cls.calls.append((call, future))
        return future

    @classmethod
    def drain(cls):
        """Carry out what waits, unless the disk does not answer."""
        while cls.calls and not cls.stalled() and not cls.inside:
            call, future = cls.calls.popleft()
            if future.cancelled():
                continue
            if not future.running():
                future.set_running_or_notify_cancel()
            cls.inside = True
            try:
                result, error = call(), None
            except Exception as raised:  # noqa: BLE001 -- handed to who waits
                result, error = None, raised
            finally:
                cls.inside = False
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    @classmethod
    def later(cls):
        """Carry out what waits once the loop comes to it."""
        if cls.stalled():
            if cls.calls and not cls.calls[0][1].running() and not cls.calls[0][1].cancelled():
                cls.calls[0][1].set_running_or_notify_cancel()
            cls.loop.hold(cls, cls.loop.stalled(), cls.later)
            return
        cls.loop.held.pop(cls, None)
        cls.drain()


def writer(loop):
    """Small files are written in the loop's own thread, a little after they were given."""
    import errno

    from agent.core.atomic_write import SILENT, DiskWriter, Late

    Files.loop = loop
    real_begin = loop.call_later

    def begin(call):
        future = Files.put(call)
        if events_run():
            real_begin(LATE * loop.delay(), Files.later)
        else:
            Files.drain()
        return future

    def make(call):
        DiskWriter.must_answer()
        if Files.inside:
            return call()
        future = Files.put(call)
        if Files.stalled():
            first = Files.calls[0][1]
            if not first.running() and not first.cancelled():
                first.set_running_or_notify_cancel()
            loop.jump(min(loop.stalled(), loop.time() + DiskWriter.patience))
        Files.drain()
        if future.done():
            return future.result()
        DiskWriter._late = Files.calls[0][1]
        loop.hold(Files, max(loop.stalled(), loop.time()), Files.later)
        error = OSError if future.cancel() else Late
        raise error(errno.EIO, SILENT)

    DiskWriter.begin, DiskWriter.make = staticmethod(begin), staticmethod(make)


def events_run():
    return asyncio._get_running_loop() is not None


def no_way_out():
    """Whatever would reach beyond the world is refused, loudly."""

    def refuse(*args, **kwargs):
        raise NotImplementedError("the simulation has no threads, programs and networks of its own")

    socket.socket.connect = refuse
    socket.socket.bind = refuse
    subprocess.Popen = refuse
    threading.Thread.start = refuse
    os.fork = refuse
