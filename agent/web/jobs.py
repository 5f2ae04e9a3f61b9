"""Long calls, such as a search: they go on while the page that shows them is loaded again.

Each belongs to a login, which has one job of each name. What a job has brought is kept until its
login ends, or for KEPT seconds. Nothing is on the disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.core.errors import Refused
from agent.core.i18n import Text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

log = logging.getLogger(__name__)

AT_ONCE, AT_ONCE_EACH = 4, 2
"""jobs that run at the same time: in all, and of one login. The page makes 12 calls at once"""
MOST_EACH, MOST = 12, 48
"""jobs that are kept: of one login, and in all"""
KEPT = 1_800.0
"""seconds for which the result of a job is kept"""
LONGEST = 4 * 3_600.0
"""seconds after which a job is ended"""
MOST_ITEMS = 2_000
"""partial results that are kept of a job"""
FAILED = Text(
    "an error in gardien ended this. Its log has the error: journalctl -u gardien-web"
)  # fmt: skip


@dataclass(eq=False)
class Job:
    """One long piece of work, running or ended."""

    name: str
    about: dict[str, Any] = field(default_factory=dict)
    """what it was asked to do, for the page that shows it"""
    done: int = 0
    total: int = 0
    text: str = ""
    """a sentence about its progress"""
    items: list[dict[str, Any]] = field(default_factory=list)
    """partial results in their order, such as `{"device": …}`"""
    last: dict[str, Any] = field(default_factory=dict)
    """lists among its messages, each with all that is known so far"""
    result: Any = None
    """what it has returned; None: it has not ended, was stopped or refused"""
    refused: str = ""
    """why it did not come to its end"""
    stopped: bool = False
    """whether a person ended it"""
    used: float = field(default_factory=time.monotonic)
    """when it last made progress or was looked at"""
    holds: bool = True
    """whether its result is worth that the page does not exit before its person has seen it"""
    task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self.task is not None and not self.task.done()

    @property
    def state(self) -> str:
        """How it stands: changes when the page must be loaded again."""
        return "running" if self.running else f"ended {id(self)}"

    async def take(self, messages: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
        """Follow a call to its end and return its answer, keeping its progress here.

        Raises Refused as the daemon says.
        """
        async with aclosing(messages) as following:  # type: ignore[type-var]  # a generator
            async for message in following:
                self.used = time.monotonic()
                if "result" in message:
                    answer: dict[str, Any] = message["result"]
                    return answer
                self._show(message.get("progress") or {})
        raise Refused("gardien was stopped before it answered. Try again in a minute")

    def _show(self, progress: dict[str, Any]) -> None:
        if "text" in progress:
            self.text = progress["text"]
        if "done" in progress:
            self.done, self.total = progress["done"], progress["total"]
            self.text = progress.get("words") or self.text
        parts = {n: value for n, value in progress.items() if isinstance(value, dict)}
        self.last |= {n: value for n, value in progress.items() if isinstance(value, list)}
        if parts:
            self.items = [*self.items[1 - MOST_ITEMS :], parts]


class Jobs:
    """The jobs of all logins."""

    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, Job]] = {}

    def begin(
        self, login: str, name: str, work: Callable[[Job], Awaitable[Any]], **about: Any
    ) -> Job:
        """Begin a job in place of the ended one of this name. `work` gets the job, to report its
        progress there, and returns its result. Raises Refused if it runs already, or too many do.
        """
        before, everybody = self.of(login, name), list(self._all())
        if before is not None and before.running:
            raise Refused("this runs already: wait for its end, or stop it")
        running = [job for job in everybody if job.running]
        mine = [job for job in self._jobs.get(login, {}).values() if job.running]
        if len(mine) >= AT_ONCE_EACH or len(running) >= AT_ONCE:
            raise Refused("too much is going on at the same time: wait for the end of the others")
        job = self.keep(login, name, None, **about)
        job.task = asyncio.create_task(_run(job, work))
        return job

    def keep(self, login: str, name: str, result: Any, **about: Any) -> Job:
        """Keep something for a login as the result of a job that has ended, such as an upload."""
        self._make_room(login)
        job = Job(name, about, result=result)
        self._jobs.setdefault(login, {})[name] = job
        return job

    def of(self, login: str, name: str) -> Job | None:
        """Return a job of a login; None: there is none, or it was too long ago."""
        self._forget_old()
        job = self._jobs.get(login, {}).get(name)
        if job is not None:
            job.used = time.monotonic()
        return job

    def of_login(self, login: str) -> list[Job]:
        """Return all jobs of a login."""
        self._forget_old()
        return list(self._jobs.get(login, {}).values())

    async def stop(self, login: str, name: str) -> None:
        """End a job; what it has brought so far is kept. It has ended when this returns."""
        job = self._jobs.get(login, {}).get(name)
        if job is None or job.task is None or not job.running:
            return
        job.stopped = True
        job.task.cancel()
        await asyncio.wait({job.task}, timeout=5.0)

    def forget(self, login: str, name: str = "") -> None:
        """End and forget a job, or all of a login that has ended."""
        jobs = self._jobs.get(login, {})
        for job in [jobs[name]] if name in jobs else [] if name else list(jobs.values()):
            if job.task is not None:
                job.task.cancel()
            del jobs[job.name]
        if not jobs:
            self._jobs.pop(login, None)

    @property
    def held(self) -> bool:
        """Whether anything runs or waits for its person: the page must not exit meanwhile."""
        self._forget_old()
        return any(job.running or job.holds for job in self._all())

    def _all(self) -> list[Job]:
        return [job for jobs in self._jobs.values() for job in jobs.values()]

    def _forget_old(self) -> None:
        over = time.monotonic() - KEPT
        for login, jobs in list(self._jobs.items()):
            for job in list(jobs.values()):
                if not job.running and job.used < over:
                    self.forget(login, job.name)

    def _make_room(self, login: str) -> None:
        """Forget the ended jobs that were not looked at for the longest time."""
        self._forget_old()
        for jobs, most in ((self._jobs.get(login, {}), MOST_EACH), (None, MOST)):
            known = self._all() if jobs is None else list(jobs.values())
            oldest = sorted((one for one in known if not one.running), key=lambda one: one.used)
            for job in oldest[: max(0, len(known) - most + 1)]:
                of = next(one for one, theirs in self._jobs.items() if job in theirs.values())
                self.forget(of, job.name)


async def _run(job: Job, work: Callable[[Job], Awaitable[Any]]) -> None:
    try:
        async with asyncio.timeout(LONGEST):
            job.result = await work(job)
    except Refused as refusal:
        job.refused = refusal.text
    except TimeoutError:
        job.refused = Text("this took too long and was ended")
    except Exception:
        log.exception("the job %s failed because of an error in gardien", job.name)
        job.refused = FAILED
    finally:
        job.used = time.monotonic()
