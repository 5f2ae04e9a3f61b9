"""Lets clock periods begin one after the other, and retracts what a wrong clock closed.

Nothing is dated in a clock period before every spool has begun it. Then everything that was closed
before is on the disk, and what a wrong clock closed is retracted first (rules C2, C5;
docs/decisions/013).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.acquisition.directory import series_items
from agent.core.clock import UNTOLD, span_of, stamp
from agent.core.errors import Refused, SpoolFull, StorageFailed
from agent.core.log_fields import LogEvent, fields
from agent.core.tasks import Wakeup

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from agent.acquisition.ingest import Ingest
    from agent.acquisition.poller import Poller
    from agent.acquisition.row_assignment import ExpectedSeries
    from agent.acquisition.slots import SlotLedger
    from agent.acquisition.sums import ConfiguredSums, Sums, Taken
    from agent.buffer.schema import Wrong
    from agent.buffer.spool import Spool
    from agent.core.clock import Clock, Period

log = logging.getLogger(__name__)

Run = Callable[..., Awaitable[Any]]
"""runs a call of the spool in the spool's thread"""


class SlotBook:
    """The slots and sums of one recipient, as the clock periods affect them."""

    def __init__(  # noqa: PLR0913, PLR0917 -- what it consists of
        self,
        recipient: str,
        ledger: SlotLedger,
        ingest: Ingest,
        spool: Spool,
        run: Run,
        sums: Sums | None = None,
        sums_config: ConfiguredSums | None = None,
        draining: Sequence[tuple[Spool, Run]] = (),
        stored: Callable[[Mapping[ExpectedSeries, int]], None] = lambda _owed: None,
        series: Callable[[], Collection[ExpectedSeries]] = tuple,
        reopen: Callable[[Collection[ExpectedSeries]], None] = lambda _series: None,
    ) -> None:
        """`stored`: called when there is something new to send, with the first slot of each series
        that is owed as of these rows. `series`: all that the recipient knows. `reopen`: called with
        those whose ends were taken back; they may end earlier.
        """
        self.recipient, self.ledger, self.ingest = recipient, ledger, ingest
        self._spool, self._run, self._sums, self._sums_config = spool, run, sums, sums_config
        self._series, self._reopen = series, reopen
        self._stored, self._draining = stored, draining
        """spools that get no new rows and still have rows to send"""

    @property
    def highest(self) -> int:
        """The last slot that is closed."""
        slots = [mark.slot for mark in self.ledger.marks.values()]
        return max([*slots, self._sums.highest if self._sums else 0], default=0)

    async def enter(self, period: Period, *, agreed: bool) -> Wrong | None:
        """Begin a period durably. Return what a wrong clock is proved to have closed."""
        wrong: Wrong | None = await self._run(partial(self._spool.enter, period, agreed=agreed))
        return wrong

    async def wrong_since(self, moment: float) -> Wrong:
        """What was closed since `moment`, seconds since 1970."""
        wrong: Wrong = await self._run(self._spool.wrong_since, moment)
        return wrong

    async def take_back(self, wrong: Wrong, now: float) -> int:
        """Retract what a wrong clock closed, in one commit, and continue from before it. Return the
        number of series. Raises SpoolFull.
        """
        # Only calculated here: ledger and sums move after the commit below, so after SpoolFull they
        # are as before.
        series = self._series()
        ranges, rows, marks = self.ledger.taken_back(wrong, now, series)
        of_sums: Taken = ([], [], {})
        if self._sums is not None and self._sums_config is not None:
            of_sums = self._sums.taken_back(wrong, self._sums_config, now)
        ranges, rows = ranges + of_sums[0], rows + of_sums[1]
        for spool, run in self._draining:
            # Before the recipient's own spool, whose periods are marked as put right in the last
            # commit: after an error in between all of it is done again.
            await run(spool.set_back, wrong._replace(entries=()), ranges, [], {}, now)
        owed = self.ledger.owed_in(rows)
        all_marks = {**marks, **of_sums[2]}
        await self._run(
            self._spool.set_back, wrong, ranges, rows, all_marks, now, series_items(owed)
        )
        self.ledger.set_back(marks)
        if ended := self.ledger.closed_by(series, marks.keys() & self.ledger.left.keys()):
            self._reopen(ended)
        if self._sums is not None:
            self._sums.set_back(of_sums[2], now)
        self._stored(owed)
        return len(ranges)


class SetBack(NamedTuple):
    """The result for one recipient."""

    recipient: str
    series: int
    """number of series with retracted rows"""
    ahead: float
    """seconds by which its marks lay ahead of the clock"""


async def _nothing_kept(_wrong: Wrong) -> None:
    pass


class Timekeeper:
    """Begins clock periods for all recipients and lines: they share one clock."""

    def __init__(
        self,
        clock: Clock,
        books: Callable[[], Iterable[SlotBook]],
        pollers: Callable[[], Iterable[Poller]],
        audit: Callable[[str, Mapping[str, object]], None] = lambda _kind, _body: None,
        set_back: Callable[[Wrong], Awaitable[None]] = _nothing_kept,
    ) -> None:
        """`set_back`: destroys what else was kept of slots that a wrong clock closed; it raises
        nothing.
        """
        self._clock, self._books, self._pollers, self._audit = clock, books, pollers, audit
        self._set_back = set_back
        self._agreed = False
        self._refused = False
        """a spool could not record the present period: it is logged once"""
        self._one_at_a_time = asyncio.Lock()
        clock.await_entry()

    async def serve(self) -> None:
        """Look at each change of the clock, for ever; each second while a period is not begun."""
        wakeup = Wakeup(self._clock.changed)
        while True:
            await self.look()
            await wakeup.wait(self._clock.bound(math.inf if self._clock.entered else UNTOLD))

    async def look(self) -> None:
        """Begin the present period once the clock is trusted."""
        clock = self._clock
        if not clock.entered:
            # Marks ahead of the clock show that the clock was or is wrong.
            clock.closed_to(max((book.highest for book in self._books()), default=0))
        newly_agreed = clock.agreed and not self._agreed
        if not clock.believed or (clock.entered and not newly_agreed):
            self._agreed = clock.agreed
            return
        async with self._one_at_a_time:
            try:
                await self._let_in()
            except (SpoolFull, StorageFailed):
                if not self._refused:
                    log.warning(
                        "readings are not dated until every spool has recorded the clock period",
                        extra=fields(LogEvent.RECORD_NOT_WRITTEN),
                    )
                self._refused = True
            else:
                self._refused = False

    async def joined(self) -> None:
        """A spool was opened: it must begin the present period before anything is dated in it."""
        self._clock.await_entry()
        await self.look()

    async def _let_in(self) -> None:
        clock, books = self._clock, list(self._books())
        # Read together before the first await: the clock may be stepped meanwhile.
        number, period, agreed = len(clock.steps), clock.period, clock.agreed
        clock.await_entry()
        for book in books:
            await book.ingest.commit()
            if book.ingest.waits:  # closed in the earlier period and not on the disk yet
                raise SpoolFull("rows wait")
            if (wrong := await book.enter(period, agreed=agreed)) is not None:
                await self._take_back(book, wrong, "proved")
        self._agreed = agreed
        self._open(number, books)

    def _open(self, number: int, books: Sequence[SlotBook]) -> None:
        # After a step meanwhile the next `look` begins that period instead.
        if number == len(self._clock.steps):
            highest = max((book.highest for book in books), default=0)
            self._clock.let_in(number, highest)

    async def reset(self, moment: float) -> list[SetBack]:
        """A person states that the clock is right now and was wrong since `moment`. Retract what
        was closed since. Raises Refused if that lies in the future, or if a spool has no room.
        """
        clock = self._clock
        if moment > clock.now():
            raise Refused(
                "{stamp} lies in the future: the clock shows {stamp_2}",
                stamp=stamp(moment),
                stamp_2=stamp(clock.now()),
            )
        async with self._one_at_a_time:
            clock.set_right()
            clock.await_entry()
            number, books, done = len(clock.steps), list(self._books()), []
            try:
                for book in books:
                    await book.ingest.commit()
                    await book.enter(clock.period, agreed=False)
                    done.append(await self._take_back(book, await book.wrong_since(moment), "said"))
            except SpoolFull as error:
                raise Refused(
                    "a spool has no room for the retractions: make room on the disk, and repeat the"
                    " command"
                ) from error
            self._open(number, books)
            return done

    async def _take_back(self, book: SlotBook, wrong: Wrong, how: str) -> SetBack:
        now, highest = self._clock.now(), book.highest
        # Before the spool's periods are marked as put right: after a kill all of it is done again.
        await self._set_back(wrong)
        series = await book.take_back(wrong, now)
        # Each poller compares with values that were dated by the wrong clock.
        for poller in self._pollers():
            poller.set_back(wrong.since)
        done = SetBack(book.recipient, series, max(0.0, highest - now))
        log.warning(
            "%s: the clock was wrong: %d series are retracted and sent again; slots were closed"
            " %s ahead",
            book.recipient, series, span_of(done.ahead),
            extra=fields(LogEvent.CLOCK_CORRECTED, recipient=book.recipient),
        )  # fmt: skip
        since = min(wrong.since.values(), default=0)
        body = {"recipient": book.recipient, "since": stamp(since), "until": stamp(highest)}
        self._audit("clock.set_back", {**body, "how": how, "series": series})
        return done
