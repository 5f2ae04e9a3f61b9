"""Tasks: run them together, end them reliably, reopen lost connections, park failed components.

This is the only retry policy: `keep_open` handles expected losses, `Supervisor` all other errors.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import traceback
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from agent.core.errors import AgentError
from agent.core.i18n import text_of
from agent.core.log_fields import LogEvent, LogNames, fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

log = logging.getLogger(__name__)
T = TypeVar("T")

LONGEST_WAIT = 60.0
"""longest wait in seconds between two attempts; a connection that lasted longer counts as good"""
LONGEST_WORDS = 300
"""most characters kept of an error: a far side may have chosen its text"""
CLOSED_WITHIN = 20.0
"""seconds that a component has to close what it holds before it is cancelled once more"""
LOOK = 15.0
"""seconds between two looks at what nothing announces: a file, the age of a certificate. It is the
period of systemd's watchdog, so that all these looks and its notification are one wake"""
SLIVER = 0.001
"""seconds by which a timer may fire too early"""


async def until(event: asyncio.Event, seconds: float) -> bool:
    """Wait until an event is set or `seconds` have passed. Return whether it is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(None if seconds == math.inf else max(0.0, seconds)):
            await event.wait()
    return event.is_set()


def to_next(period: float) -> float:
    """Return the seconds until the next multiple of a period on the loop's clock.

    Looks of the same period, or of its multiples, then share one wake.
    """
    left = period - asyncio.get_running_loop().time() % period
    return left if left > SLIVER else left + period


async def pause(period: float) -> None:
    """Sleep until the next multiple of a period; see `to_next`."""
    await asyncio.sleep(to_next(period))


class Change:
    """Something that changes now and then, and wakes the tasks that depend on it."""

    def __init__(self) -> None:
        self.count = 0
        """how often it has changed"""
        self.waiting: dict[asyncio.Future[None], None] = {}
        """what the tasks await that depend on it, in the order in which they fell asleep"""

    def tell(self) -> None:
        """Wake the tasks that depend on it. Call this on the event loop, after the change."""
        self.count += 1
        for sleep in self.waiting:
            _end(sleep)


def _end(sleep: asyncio.Future[None]) -> None:
    if not sleep.done():
        sleep.set_result(None)


class Wakeup:
    """Lets a task sleep until something has changed or is due (docs/decisions/058).

    A change counts from the last return of `wait`, or of `look`: what changes while the task works
    ends its next sleep at once.
    """

    def __init__(self, *changes: Change) -> None:
        self._changes = changes
        self._seen = self._counts()

    def _counts(self) -> list[int]:
        return [change.count for change in self._changes]

    def look(self) -> None:
        """Ignore the changes until now: the task looks at everything after this call."""
        self._seen = self._counts()

    async def wait(self, seconds: float = math.inf) -> None:
        """Return after the next change, or after `seconds`."""
        loop = asyncio.get_running_loop()
        sleep: asyncio.Future[None] = loop.create_future()
        if self._counts() != self._seen:
            seconds = 0.0
        timer = None if seconds == math.inf else loop.call_later(max(0.0, seconds), _end, sleep)
        for change in self._changes:
            change.waiting[sleep] = None
        try:
            await sleep
        finally:
            if timer is not None:
                timer.cancel()
            for change in self._changes:
                del change.waiting[sleep]
        self._seen = self._counts()


async def together(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run jobs until the first one ends, end the others, and raise what the first one raised.

    This is not a TaskGroup: before Python 3.13 a TaskGroup that fails while it is being cancelled
    loses the cancellation (gh-116720), and a retry loop around it could never be ended.
    """
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # Read the exception of every task: asyncio logs one that nobody reads, at a random time.
        failed = [e for task in done if not task.cancelled() and (e := task.exception())]
        if failed:
            raise failed[0]
    finally:
        await end(tasks)
        for task in tasks:  # the same for a task that failed while it was being ended
            _ = task.cancelled() or task.exception()


class Backoff:
    """The waits between attempts: full jitter, with a limit that doubles from 1 s to `longest`."""

    def __init__(self, longest: float = LONGEST_WAIT) -> None:
        self._longest, self._most = longest, 1.0

    def next(self) -> float:
        """Return the seconds until the next attempt."""
        wait = random.uniform(0, self._most)
        self._most = min(self._most * 2, self._longest)
        return wait

    def start_over(self) -> None:
        """Begin again with a short wait, after a success."""
        self._most = 1.0


@dataclass(frozen=True, slots=True)
class ComponentFault:
    """An unexpected error that stopped a component or a part of it."""

    component: str
    error: str
    """the class of the error, which names no person or place"""
    text: str
    """for people at the gateway; may name devices and places"""
    since: float
    """by the loop's clock"""
    next_try: float | None = None
    """by the loop's clock; None: the component runs"""
    uplink: str | None = None
    """the uplink to which the component belongs, if any"""


class Faults:
    """The present faults, by component and part of it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], ComponentFault] = {}
        self._seen: set[tuple[str, str, str]] = set()
        """errors whose traceback was logged: component, class, and line that raised it"""

    def note(
        self,
        component: str,
        error: BaseException,
        part: str = "",
        *,
        uplink: str | None = None,
        next_try: float | None = None,
    ) -> None:
        """Record a fault for `status`. Log it when it begins and when its error changes.

        The traceback is logged the first time.
        """
        text = error_text(error) if not part else f"{part}: {error_text(error)}"
        before = self._known.get((component, part))
        since = before.since if before else asyncio.get_running_loop().time()
        kind = type(error).__name__
        fault = ComponentFault(component, kind, text, since, next_try, uplink)
        self._known[component, part] = fault
        if before is None or before.text != text:
            why = f"{component} has failed and is tried again: {text}"
            self.log(error, why, component, part, uplink=uplink)

    @contextmanager
    def alone(
        self, component: str, part: str, uplink: str | None = None
    ) -> Iterator[Callable[[], bool]]:
        """Record an unexpected error of the block as a fault of the part, and go on after it.

        Without an error the part's fault is over. Gives a function that tells, after the block,
        whether the part works.
        """
        try:
            yield lambda: (component, part) not in self._known
        except Exception as error:  # noqa: BLE001 -- recorded; the other parts go on
            self.note(component, error, part, uplink=uplink)
        else:
            self.over(component, part)

    def log(
        self,
        error: BaseException,
        message: str,
        component: str,
        part: str = "",
        *,
        uplink: str | None = None,
    ) -> None:
        """Log an unexpected error, with its traceback once for each line that raises it."""
        key = component, type(error).__name__, _place(error)
        # An AgentError says enough by its text: a traceback is for errors that nobody expected.
        new = key not in self._seen and not isinstance(error, AgentError)
        self._seen.add(key)
        names = _names(component, part, uplink)
        log.error(
            "%s", message, exc_info=error if new else None,
            extra=fields(LogEvent.COMPONENT_FAILED, **names),
        )  # fmt: skip

    def over(self, component: str, part: str = "") -> None:
        """Remove a fault: the component or part works again."""
        if (fault := self._known.pop((component, part), None)) is not None:
            names = _names(component, part, fault.uplink)
            log.warning(
                "%s works again", component if not part else f"{component}, {part},",
                extra=fields(LogEvent.COMPONENT_RECOVERED, **names),
            )  # fmt: skip

    def forget(self, component: str) -> None:
        """Remove all faults of a component that no longer exists."""
        self._known = {key: one for key, one in self._known.items() if key[0] != component}

    def all(self) -> list[ComponentFault]:
        """Return all present faults, the oldest first."""
        return sorted(self._known.values(), key=lambda fault: fault.since)


def error_text(error: BaseException) -> str:
    """Return an error as one line of text; an unexpected one with its class."""
    text = " ".join(str(error).split())[:LONGEST_WORDS]
    if isinstance(error, AgentError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(error: BaseException) -> str:
    """Return the file and line that raised an error."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


@dataclass(eq=False)
class _Component:
    """A component, which may fail without the others."""

    name: str
    run: Callable[[], Awaitable[None]]
    """starts it and serves until cancelled"""
    backoff: Backoff
    uplink: str | None
    passes: tuple[type[Exception], ...] = ()
    """exceptions that go to its caller and do not park it"""
    holds: bool = False
    """it holds something open that others use, so it is closed after them"""
    task: asyncio.Task[None] | None = None
    parked: bool = False
    ending: bool = False
    began: float = 0.0
    """by the loop's clock: when it began to open or to close"""
    opened: bool = False
    """what it holds is open"""
    closing: bool = False
    """what it holds is being closed"""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """set when it is open, or when the first attempt has failed"""
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Runs components, each of which may fail without the others (docs/decisions/030).

    An unexpected error parks a component: what it holds is closed, the fault is recorded, and after
    a wait (see Backoff) it is started again. The fault is over once it has run for `well` seconds.
    """

    def __init__(self, longest: float = LONGEST_WAIT, well: float = LONGEST_WAIT) -> None:
        self.faults = Faults()
        self._longest, self.well = longest, well
        self._components: dict[str, _Component] = {}
        self.failures: Counter[str] = Counter()
        """by component, how often an unexpected error has stopped it"""

    def start(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        uplink: str | None = None,
        longest: float | None = None,
    ) -> None:
        """Run a component until it is stopped. `longest`: longest wait between two attempts (s)."""
        self._begin(_Component(name, run, Backoff(longest or self._longest), uplink))

    async def open(
        self,
        name: str,
        make: Callable[[], AbstractAsyncContextManager[Awaitable[object]]],
        *,
        uplink: str | None = None,
    ) -> None:
        """Run a component that holds something open for others, until it is stopped.

        `make` opens it and gives an awaitable. When that ends, it is closed and opened again: at
        once, or after a wait if it raises. Returns when it is open or when the first attempt has
        failed; further attempts go on in the background.
        """

        async def hold() -> None:
            while not made.ending:
                try:
                    async with make() as broken:
                        made.opened = True
                        made.settled.set()
                        try:
                            await broken
                        finally:
                            made.opened, made.closing = False, True
                            made.began = asyncio.get_running_loop().time()
                finally:
                    made.closing = False

        made = _Component(name, hold, Backoff(self._longest), uplink, holds=True)
        self._begin(made)
        await made.settled.wait()

    async def alone(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        passes: type[AgentError],
        *,
        uplink: str | None = None,
    ) -> None:
        """Run a component inside its caller: return when `run` returns, raise `passes` if it does.

        Any other error parks only this component, not its caller.
        """
        part = _Component(name, run, Backoff(self._longest), uplink, (passes,))
        self._components[name] = part
        try:
            await self._keep(part)
        finally:
            self._components.pop(name, None)
            self.faults.forget(name)

    def _begin(self, component: _Component) -> None:
        assert component.name not in self._components, component.name
        self._components[component.name] = component
        component.task = asyncio.ensure_future(self._keep(component))

    async def _keep(self, component: _Component) -> None:
        loop = asyncio.get_running_loop()
        while True:
            component.parked, component.began = False, loop.time()
            stands = loop.call_later(self.well, self._stood, component)
            try:
                await component.run()
                if component.ending or component.passes:
                    return
                # A component that returns would silently be missing. Treat it as an error.
                raise RuntimeError(f"{component.name} ended by itself")
            except asyncio.CancelledError as error:
                if component.ending or _is_cancelled():
                    raise
                # Not our own cancellation: something that the component awaited was cancelled.
                wait = self._park(component, error)
            except Exception as error:
                if component.ending or isinstance(error, component.passes):
                    raise
                wait = self._park(component, error)
            finally:
                stands.cancel()
            await until(component.wake, wait)

    def _park(self, component: _Component, error: BaseException) -> float:
        self.failures[component.name] += 1
        wait = component.backoff.next()
        next_try = asyncio.get_running_loop().time() + wait
        self.faults.note(component.name, error, uplink=component.uplink, next_try=next_try)
        component.parked = True
        component.wake.clear()
        component.settled.set()  # `open` must return although the first attempt has failed
        return wait

    def _stood(self, component: _Component) -> None:
        component.backoff.start_over()
        self.faults.over(component.name)

    def names(self, beginning: str = "") -> list[str]:
        """Return the names of the components that begin with `beginning`."""
        return [name for name in self._components if name.startswith(beginning)]

    def runs(self, name: str) -> bool:
        """Whether there is a component with this name, parked or not."""
        return name in self._components

    def parked(self, name: str) -> bool:
        """Whether a component waits for its next attempt."""
        return name in self._components and self._components[name].parked

    def opening(self) -> dict[str, float]:
        """Return the components that are opening or closing now, and since when (loop's clock)."""
        return {
            one.name: one.began
            for one in self._components.values()
            if one.holds and not one.parked and not one.opened
        }

    def retry(self, name: str) -> None:
        """Try a parked component again at once."""
        if self.parked(name):
            self._components[name].wake.set()

    async def stop(self, name: str, patience: float = 0.0) -> None:
        """End a component, after `patience` seconds in which it may end by itself.

        An error at its end is logged. A name without component is ignored.
        """
        component = self._components.pop(name, None)
        if component is None or component.task is None:
            return
        component.ending = True
        if component.closing:  # by an error of its own: a cancellation would leave it half closed
            patience = CLOSED_WITHIN
        if patience and not component.parked:
            await asyncio.wait([component.task], timeout=patience)
        await end([component.task], CLOSED_WITHIN if component.holds else 1.0)
        if not component.task.cancelled() and (error := component.task.exception()):
            self.faults.log(error, f"{name} failed while it ended: {error_text(error)}", name)
        self.faults.forget(name)

    async def end(self) -> None:
        """End all components: first those that use what others hold open, then those others."""
        for holds in (False, True):
            names = [one.name for one in self._components.values() if one.holds is holds]
            await asyncio.gather(*(self.stop(name) for name in names))


def _names(component: str, part: str = "", uplink: str | None = None) -> LogNames:
    """Return the log fields of a component. The part of a poller is a device."""
    names: LogNames = {"component": component, "uplink": uplink or ""}
    kind, _, name = component.partition(" ")
    match kind:
        case "line":
            names["line"] = name
        case "poll":
            names |= {"line": name, "device": part}
        case "control":
            names["control"] = name
        case "spool":
            names["uplink"] = name
    return names


def _is_cancelled() -> bool:
    """Whether the current task itself was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def end(tasks: Iterable[asyncio.Future[Any]], again: float = 1.0) -> None:
    """Cancel tasks until all are done, again every `again` seconds.

    Once is not enough: `asyncio.wait_for` of Python 3.11 swallows a cancellation that coincides
    with the result (39 of 300 with pymodbus).
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=again)


class ConnectionFields(NamedTuple):
    """The fields of the two log records of a connection: when it is lost, and when it is back."""

    lost: Mapping[str, str] = {}
    restored: Mapping[str, str] = {}


WITHOUT_FIELDS = ConnectionFields()


async def keep_open(  # noqa: PLR0913, PLR0917 -- each is the caller's choice
    name: str,
    open_it: Callable[[], AbstractAsyncContextManager[T]],
    serve: Callable[[T], Awaitable[None]],
    lost: type[AgentError],
    longest: float = LONGEST_WAIT,
    good: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda _: None,
    level: int = logging.WARNING,
    logged: ConnectionFields = WITHOUT_FIELDS,
) -> None:
    """Open and serve a connection; when it is lost, wait and open it again. Never returns.

    The wait has full jitter and doubles up to `longest` seconds. It is short again after a
    connection that lasted a minute or for which `good()` is true, which is called after each
    attempt. A loss is logged at `level` when it begins and when its reason changes; `tell` is
    called for each. `logged`: the log fields.
    """
    now, backoff, why = asyncio.get_running_loop().time, Backoff(longest), ""
    while True:
        began = now()
        try:
            async with open_it() as resource:
                if why:
                    log.log(level, "%s is open again", name, extra=logged.restored)
                    why = ""
                await serve(resource)
        except lost as error:
            delivered = good()  # also after a long attempt: it may note that one has ended
            if delivered or now() - began > LONGEST_WAIT:
                backoff.start_over()
            tell(text_of(error))
            if str(error) != why:
                why = str(error)
                log.log(
                    level, "%s lost, trying again until it is open: %s", name, error,
                    extra=logged.lost,
                )  # fmt: skip
        await asyncio.sleep(backoff.next())
