"""An event loop in virtual time, without sockets, pipes and threads.

Time passes by itself a little with each round, and jumps to the next timer where nothing is ready.
How long a round, a wake-up and a call in another thread take is drawn from a stream: so tasks meet
in another order with another seed, and in the same order with the same one. What asyncio promises
is kept: callbacks run in the order of `call_soon`, timers in the order of their times.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import base_events, events, futures
from collections import Counter, deque
from concurrent.futures import Future
from contextvars import Context, copy_context
from functools import partial

ROUND = 0.000_15
"""seconds that a round takes, on average"""
LATE = 0.002
"""seconds by which a timer may come late"""
IN_A_ROW = 200_000
"""rounds without a moment in which nothing was ready: half a minute of a busy processor"""
PER_HOUR = 1_500_000
"""rounds in one hour; the busiest hour of a start or a long outage has a tenth of it"""
WATCHED = 4_000
"""callbacks that are counted by name once the loop spins"""
DRAWN = 4_096
"""delays drawn at once"""


class Spins(BaseException):
    """The loop runs and runs, and no time passes. Its text names who runs."""


class Deadlock(BaseException):
    """Nothing is ready, and no timer will ever be."""


class Task(asyncio.Task):
    """A task whose place in a set does not depend on its address in memory."""

    number = 0

    def __init__(self, *args, **kwargs):
        Task.number += 1
        self._number = Task.number
        super().__init__(*args, **kwargs)

    def __hash__(self):
        return self._number


class Soon(events.Handle):
    """As asyncio's own, without its search for mistakes: there are a million in a simulated day."""

    __slots__ = ()

    def __init__(self, callback, args, loop, context):
        self._context = copy_context() if context is None else context
        self._loop, self._callback, self._args = loop, callback, args
        self._cancelled, self._repr, self._source_traceback = False, None, None

    def cancel(self):
        if not self._cancelled:
            self._cancelled, self._callback, self._args = True, None, None


class Timer(events.TimerHandle):
    __slots__ = ()

    def __init__(self, when, callback, args, loop, context):
        self._context = copy_context() if context is None else context
        self._loop, self._callback, self._args = loop, callback, args
        self._cancelled, self._repr, self._source_traceback = False, None, None
        self._when, self._scheduled = when, True

    def cancel(self):
        if not self._cancelled:
            self._cancelled, self._callback, self._args = True, None, None
            self._loop._timer_cancelled_count += self._scheduled


def make_task(loop, coro, **kwargs):
    return Task(coro, loop=loop, **kwargs)


class SimLoop(base_events.BaseEventLoop):
    """The loop of one life. `now`: its time at the beginning; `stalled`: see Pool."""

    def __init__(self, rng, now=0.0, stalled=None):
        self._now = now
        super().__init__()
        self._clock_resolution = 1e-9
        self._rng, self._delays, self._drawn, self._timers = rng, [], 0, 0
        self._draw()
        self.handlers = {}
        self.rounds = self.wakes = self.callbacks = 0
        self._busy_since, self._hour, self._hour_began = 0, 0, now
        self.stalled = stalled or (lambda: None)
        """until when the disk does not answer, in time of this loop; None: it answers"""
        self.held = {}
        """what waits for the disk: future to (timer, step)"""
        self._pool = Pool(self)
        self.set_task_factory(make_task)
        self.watchdog = self.bitten = None
        """until when the loop may be blocked, and what is called then"""
        self.each = None
        """called before each callback while somebody counts them"""

    def time(self):
        return self._now

    def delay(self):
        """A fraction between 0 and 1, mostly small."""
        self._drawn += 1
        if self._drawn >= DRAWN:
            self._draw()
        return self._delays[self._drawn]

    def _draw(self):
        draw = self._rng.random
        self._delays, self._drawn = [draw() ** 3 for _ in range(DRAWN)], 0

    def jump(self, until):
        """Let time pass while the loop itself is blocked: no callback runs meanwhile."""
        if self.watchdog is not None and until > (end := self.watchdog()):
            self._now = max(self._now, end)
            self.bitten()
        self._now = max(self._now, until)

    def hold(self, future, until, step):
        """Take a step at the end of a stall, or when the disk answers earlier."""
        self.held[future] = self.call_at(until, step), step

    def answer(self):
        """The disk may answer again, before the time at which it was to."""
        for future, (timer, step) in list(self.held.items()):
            timer.cancel()
            self.hold(future, self.time(), step)

    def call_at(self, when, callback, *args, context=None):
        timer = Timer(when, callback, args, self, context)
        self._timers += 1
        heapq.heappush(self._scheduled, (when, self._timers, timer))
        return timer

    def call_later(self, delay, callback, *args, context=None):
        when = self._now + delay
        timer = Timer(when, callback, args, self, context)
        self._timers += 1
        heapq.heappush(self._scheduled, (when, self._timers, timer))
        return timer

    def call_soon(self, callback, *args, context=None):
        handle = Soon(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def _run_once(self):
        ready = self._ready
        self.rounds += 1
        self._let_time_pass()
        scheduled, now = self._scheduled, self._now
        while scheduled and scheduled[0][0] <= now:
            handle = heapq.heappop(scheduled)[2]
            handle._scheduled = False
            if not handle._cancelled:
                ready.append(handle)
            else:
                self._timer_cancelled_count -= 1
        count = len(ready)
        self.callbacks += count
        take = ready.popleft
        for _ in range(count):
            handle = take()
            if handle._cancelled:
                continue
            if self.each is not None:
                self.each()
            try:
                handle._context.run(handle._callback, *handle._args)
            except Exception as error:  # noqa: BLE001 -- as asyncio does it
                what = {"message": f"Exception in {name_of(handle)}", "exception": error}
                self.call_exception_handler(what)

    def _let_time_pass(self):
        """A little if something is ready; else until the next timer."""
        scheduled = self._scheduled
        if self._timer_cancelled_count > 100 and self._timer_cancelled_count * 2 > len(scheduled):
            scheduled[:] = [item for item in scheduled if not item[2]._cancelled]
            heapq.heapify(scheduled)
            self._timer_cancelled_count = 0
        while scheduled and scheduled[0][2]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)
        if self._ready:
            self._now += ROUND * self.delay() * 4
            if self.rounds - self._busy_since > IN_A_ROW:
                self._spins("no moment in which nothing was ready")
        elif not scheduled:
            if not self._stopping:
                raise Deadlock
        elif (when := scheduled[0][0]) > self._now:
            self._now = when + LATE * self.delay()
            self._busy_since = self.rounds
            self.wakes += 1
        if self._now - self._hour_began > 3600:
            self._hour, self._hour_began = self.rounds, self._now
        elif self.rounds - self._hour > PER_HOUR:
            self._spins(f"{PER_HOUR} rounds in one hour")

    def _spins(self, why):
        """Raise Spins with the names of those who run now."""
        names = Counter()
        while names.total() < WATCHED and (self._ready or self._scheduled):
            if not self._ready:
                handle = heapq.heappop(self._scheduled)[2]
                handle._scheduled = False
                self._now = max(self._now, handle._when)
                self._ready.append(handle)
            handle = self._ready.popleft()
            if not handle._cancelled:
                names[name_of(handle)] += 1
                handle._run()
        most = ", ".join(f"{name} {count}" for name, count in names.most_common(8))
        raise Spins(f"{why}. Of {names.total()} callbacks: {most}")

    # What asyncio asks of a loop beside time

    def _process_events(self, _):
        raise AssertionError

    def _write_to_self(self):
        pass

    def call_soon_threadsafe(self, callback, *args, context=None):
        return self.call_soon(callback, *args, context=context)

    def add_signal_handler(self, sig, callback, *args):
        self.handlers[int(sig)] = callback, args

    def remove_signal_handler(self, sig):
        return self.handlers.pop(int(sig), None) is not None

    def signal(self, sig):
        """Send a signal. False: nobody listens, so it would have ended the process."""
        if int(sig) not in self.handlers:
            return False
        callback, args = self.handlers[int(sig)]
        self.call_soon(callback, *args)
        return True

    def run_in_executor(self, executor, func, *args):
        pool = executor if isinstance(executor, Pool) else self._pool
        return futures.wrap_future(pool.submit(func, *args), loop=self)

    async def shutdown_default_executor(self, timeout=None):  # noqa: ASYNC109 -- asyncio's own
        pass

    def add_reader(self, *args):
        raise NotImplementedError("the simulation has no file descriptors that can be waited for")

    add_writer = remove_reader = remove_writer = add_reader

    async def _refused(self, *args, **kwargs):
        raise NotImplementedError("the simulation has no network and starts no programs")

    getaddrinfo = getnameinfo = create_connection = create_server = _refused
    create_unix_connection = create_unix_server = create_datagram_endpoint = _refused
    sock_connect = sock_recv = sock_sendall = sock_accept = _refused
    subprocess_exec = subprocess_shell = connect_read_pipe = connect_write_pipe = _refused


def name_of(handle):
    """Who is called: the coroutine of a task, or the function."""
    task = getattr(handle._callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        coro = task.get_coro()
        frames = []
        while coro is not None and len(frames) < 4:
            frames.append(getattr(coro, "__qualname__", type(coro).__name__))
            coro = getattr(coro, "cr_await", None)
        return " > ".join(frames)
    return getattr(handle._callback, "__qualname__", repr(handle._callback))


COMPUTED = {"_without_garbage_collection", "letter", "printed"}
"""functions that the agent gives to a thread because they take long, not because of the disk"""


class Pool:
    """What ThreadPoolExecutor is for a life: calls are carried out whole, in the loop's thread.

    A call begins a little after it was given, and its caller learns of its end a little later: a
    kill may fall between. With one worker the calls come one after the other. While the disk does
    not answer, the next call is held back: it counts as begun, the others as not yet. The thread of
    the spool in memory is not held back: its file is not on the disk.
    """

    current = None
    """the loop of this life"""
    ended = staticmethod(lambda: None)
    """called after each call"""

    def __init__(self, max_workers=None, name="", initializer=None):
        self.loop = max_workers if isinstance(max_workers, SimLoop) else None
        self._single, self._on_disk = max_workers == 1, name != "memory"
        self._begin = initializer
        self._waiting, self._busy, self._closed = deque(), False, False
        self._step = None

    def submit(self, func, /, *args, **kwargs):
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = Future()
        item = future, func, args, kwargs
        if not self._single:
            self._after(self._carry_out, item)
        else:
            self._waiting.append(item)
            if not self._busy:
                self._next()
        return future

    def _after(self, step, *args):
        loop = self.loop or Pool.current
        handle = loop.call_later(LATE * loop.delay(), step, *args)
        self._step = handle, step, args

    def _next(self):
        self._busy = bool(self._waiting)
        if self._waiting:
            self._after(self._carry_out, self._waiting.popleft())

    def _carry_out(self, item):
        if item[0].set_running_or_notify_cancel():
            self._carry_on(item)
        elif self._single:
            self._next()

    def _carry_on(self, item):
        future, func, args, kwargs = item
        loop = self.loop or Pool.current
        loop.held.pop(future, None)
        owner = getattr(func, "__self__", None)
        until = loop.stalled() if self._on_disk and not _computes(func) else None
        if until is not None and until > loop.time():
            if getattr(owner, "_since", 0) is None:
                owner._since = loop.time()  # the call has begun and waits for the disk
            loop.hold(future, until, partial(self._carry_on, item))
            self._step = None, self._carry_on, (item,)
            return
        if self._begin is not None:
            self._begin()
        # a call that has begun is carried out, although its caller has given up meanwhile
        failed = getattr(owner, "failed", "") if getattr(owner, "_since", None) is not None else ""
        if failed:
            owner.failed = ""
        try:
            result, error = func(*args, **kwargs), None
        except Exception as raised:  # noqa: BLE001 -- handed to who waits
            result, error = None, raised
        finally:
            Pool.ended()
        if failed:
            owner.failed = owner.failed or failed
        self._after(self._end, future, result, error)

    def _end(self, future, result, error):
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
        if self._single:
            self._next()

    def shutdown(self, wait=True, *, cancel_futures=False):
        """End after the calls that were given. `wait`: the loop is blocked meanwhile."""
        self._closed = True
        if cancel_futures:
            for future, *_ in self._waiting:
                future.cancel()
            self._waiting.clear()
        while wait and self._busy:
            handle, step, args = self._step
            loop = self.loop or Pool.current
            if handle is None:
                handle, _ = loop.held.pop(args[0][0])
            handle.cancel()
            if (until := loop.stalled()) is not None:
                loop.jump(until)
            step(*args)


def _computes(call):
    """Whether a call of `asyncio.to_thread` only computes (COMPUTED): it waits for no disk."""
    while isinstance(call, partial):
        if isinstance(getattr(call.func, "__self__", None), Context):
            call = call.args[0]  # what runs in the context of its task
        else:
            call = call.func
    return getattr(call, "__name__", "") in COMPUTED


def running():
    """The loop that runs, or None."""
    return events._get_running_loop()
