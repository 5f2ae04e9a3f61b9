"""Clock periods let in one after the other, and what a wrong clock closed taken back.

Nothing is dated in a period of the clock before every spool has begun it: what was closed before is
on the disk by then, and what turns out to have been closed by a wrong clock is taken back first
(rules C2, C5; docs/decisions/013).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.clock import span_of, stamp
from agent.errors import Refused, SpoolFull, StorageFailed
from agent.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.buffer.periods import Wrong
    from agent.buffer.spool import Spool
    from agent.clock import Clock, Period
    from agent.pipeline.ingest import Ingest
    from agent.pipeline.poller import Poller
    from agent.pipeline.slots import SlotLedger
    from agent.pipeline.sums import ConfiguredSums, Sums, Taken

log = logging.getLogger(__name__)

LOOK = 1.0
"""seconds between two looks"""


Run = Callable[..., Awaitable[Any]]
"""runs a call of the spool in its thread"""


class SlotBook:
    """What the clock closes slots in, for one recipient."""

    def __init__(  # noqa: PLR0913, PLR0917 -- what stands in it
        self,
        recipient: str,
        ledger: SlotLedger,
        intake: Ingest,
        spool: Spool,
        run: Run,
        sums: Sums | None = None,
        asked: ConfiguredSums | None = None,
        draining: Sequence[tuple[Spool, Run]] = (),
    ) -> None:
        self.recipient, self.ledger, self.intake = recipient, ledger, intake
        self._spool, self._run, self._sums, self._asked = spool, run, sums, asked
        self._draining = draining
        """spools that get no more rows, and still have some to send"""

    @property
    def highest(self) -> int:
        """The last slot that is closed."""
        slots = [mark.slot for mark in self.ledger.marks.values()]
        return max([*slots, self._sums.highest if self._sums else 0], default=0)

    async def enter(self, period: Period, *, agreed: bool) -> Wrong | None:
        """Begin a period, durably; what is proved to have been closed by a wrong clock."""
        found: Wrong | None = await self._run(partial(self._spool.enter, period, agreed=agreed))
        return found

    async def wrong_since(self, moment: float) -> Wrong:
        """What was closed since then."""
        found: Wrong = await self._run(self._spool.wrong_since, moment)
        return found

    async def take_back(self, found: Wrong, now: float) -> int:
        """Take back what a wrong clock closed, in one commit, and go on from before it; how many
        series. Raises SpoolFull.
        """
        ranges, rows, marks = self.ledger.taken_back(found, now)
        of_sums: Taken = ([], [], {})
        if self._sums is not None and self._asked is not None:
            of_sums = self._sums.taken_back(found, self._asked, now)
        ranges, rows = ranges + of_sums[0], rows + of_sums[1]
        for spool, run in self._draining:
            await run(spool.set_back, found._replace(entries=()), ranges, [], {}, now)
        await self._run(self._spool.set_back, found, ranges, rows, {**marks, **of_sums[2]}, now)
        self.ledger.set_back(marks)
        if self._sums is not None:
            self._sums.set_back(of_sums[2], now)
        return len(ranges)


class SetBack(NamedTuple):
    """What was done for one recipient."""

    recipient: str
    series: int
    """of which rows are taken back"""
    ahead: float
    """seconds by which its marks lay ahead of the clock"""


class Timekeeper:
    """One for all recipients and lines: they share the clock."""

    def __init__(
        self,
        clock: Clock,
        books: Callable[[], Iterable[SlotBook]],
        pollers: Callable[[], Iterable[Poller]],
        audit: Callable[[str, Mapping[str, object]], None] = lambda _kind, _body: None,
    ) -> None:
        self._clock, self._books, self._pollers, self._audit = clock, books, pollers, audit
        self._agreed = False
        self._one_at_a_time = asyncio.Lock()
        clock.await_entry()

    async def serve(self) -> None:
        """Look every second, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """Let the present period in, once somebody vouches for the clock."""
        clock = self._clock
        if not clock.entered:
            clock.closed_to(max((book.highest for book in self._books()), default=0))
        anew = clock.agreed and not self._agreed
        if not clock.believed or (clock.entered and not anew):
            self._agreed = clock.agreed
            return
        async with self._one_at_a_time:
            try:
                await self._let_in()
            except (SpoolFull, StorageFailed):
                log.warning(
                    "a clock period begins once the spools take it",
                    extra=fields(LogEvent.RECORD_NOT_WRITTEN),
                )

    async def joined(self) -> None:
        """A spool was opened: it begins the present period, too, before anything is dated in it."""
        self._clock.await_entry()
        await self.look()

    async def _let_in(self) -> None:
        clock, books = self._clock, list(self._books())
        number, period, agreed = len(clock.steps), clock.period, clock.agreed
        clock.await_entry()
        for book in books:
            await book.intake.commit()
            if book.intake.waits:  # closed in the period before, and not on the disk yet
                raise SpoolFull("rows wait")
            if (found := await book.enter(period, agreed=agreed)) is not None:
                await self._take_back(book, found, "proved")
        self._agreed = agreed
        self._open(number, books)

    def _open(self, number: int, books: Sequence[SlotBook]) -> None:
        if number == len(self._clock.steps):
            highest = max((book.highest for book in books), default=0)
            self._clock.let_in(number, highest)

    async def reset(self, moment: float) -> list[SetBack]:
        """A person says that the clock is right, and was wrong since `moment`: take back what was
        closed since. Raises Refused where that lies ahead, or a spool has no room for it.
        """
        clock = self._clock
        if moment > clock.now():
            raise Refused(f"{stamp(moment)} has not come yet: the clock says {stamp(clock.now())}")
        async with self._one_at_a_time:
            clock.set_right()
            clock.await_entry()
            number, books, done = len(clock.steps), list(self._books()), []
            try:
                for book in books:
                    await book.intake.commit()
                    await book.enter(clock.period, agreed=False)
                    done.append(await self._take_back(book, await book.wrong_since(moment), "said"))
            except SpoolFull as error:
                raise Refused("a spool has no room for it: free some, and say it again") from error
            self._open(number, books)
            return done

    async def _take_back(self, book: SlotBook, found: Wrong, how: str) -> SetBack:
        now, highest = self._clock.now(), book.highest
        series = await book.take_back(found, now)
        for poller in self._pollers():
            poller.set_back(found.since)
        done = SetBack(book.recipient, series, max(0.0, highest - now))
        log.warning(
            "%s: the clock was wrong: %d series are taken back; marks lay %s ahead",
            book.recipient, series, span_of(done.ahead),
            extra=fields(LogEvent.CLOCK_CORRECTED, recipient=book.recipient),
        )  # fmt: skip
        since = min(found.since.values(), default=0)
        body = {"recipient": book.recipient, "since": stamp(since), "until": stamp(highest)}
        self._audit("clock.set_back", {**body, "how": how, "series": series})
        return done
