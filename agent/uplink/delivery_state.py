"""What is known about one uplink, across its connections: for `status` and for its alarms."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.clock import monotonic
from agent.log_fields import LogEvent, fields
from agent.uplink.pacing import ALARM

if TYPE_CHECKING:
    from agent.buffer.receipt_evaluation import Settled
    from agent.model import BatchId

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Delivery:
    """Facts of one uplink since the start; moments in seconds since 1970 UTC, None: never."""

    alarm_after: float = ALARM
    """seconds without any receipt for what was sent: somebody must look"""
    by_broker: bool = False
    """the broker's word settles a batch: weaker, for what the broker loses is lost"""
    connected_since: float | None = None
    """None: not connected now"""
    last_receipt: float | None = None
    receipt_seconds: float | None = None
    """smoothed, from sending to receipt"""
    sent: int = 0
    """batches handed to the transport and taken"""
    resent: int = 0
    """of these, such as had been sent before"""
    settled: int = 0
    rejected: int = 0
    """in quarantine by the word of the recipient or of the transport"""
    conflicts: int = 0
    lost: str = ""
    """why it is not connected, or was not the last time it was not"""
    last_error: str = ""
    """what went wrong last; empty again once a batch has gone through since"""
    last_error_at: float | None = None
    complains: bool = False
    """that is why something is not taken, and ends when something is"""
    owed_since: float | None = None
    """since when something is sent and no receipt has come for anything"""
    nobody_since: float | None = None
    """since when the broker says that nobody is subscribed"""
    heard: float = field(default_factory=monotonic)
    """monotonic: when the recipient's last word came, else the start; an outage begins there"""
    turned: float = field(default_factory=monotonic)
    """monotonic: when its sender was last seen at work, or an attempt to open it ended"""
    hurry: bool = False
    """seal what waits at once, without waiting for the interval"""
    idle: bool = False
    """no batch is under way, and no backlog waits"""
    complete: bool = False
    """all signed objects that the platform has for us had been dealt with once since the start"""
    breaks: tuple[BatchId | None, int] = None, 0
    """over which batch the connection broke off last, and how often since the last receipt"""
    heard_here: bool = False
    """a receipt has come since the last opening, or since `good` was asked"""
    uplink: str = ""
    recipient: str = ""
    """the name of the uplink and its recipient, for the log"""

    def _fields(self, event: LogEvent, batch: BatchId | None = None) -> dict[str, str]:
        return fields(event, uplink=self.uplink, recipient=self.recipient, batch=batch)

    def good(self) -> bool:
        """Whether the connection just lost had delivered: the sign of health for `keep_open`, which
        asks after every attempt.

        True once only, or attempts that do not even open would count as healthy ones.
        """
        self.turned = monotonic()
        heard, self.heard_here = self.heard_here, False
        return heard

    def all_came(self) -> None:
        """Note that the platform has no signed object that was not dealt with."""
        self.complete = True

    def complain(self, error: str, now: float) -> None:
        """Note why something was not taken; logged once, as it may go on for days."""
        if self.last_error != error:
            log.warning(
                "uplink %s: trying again for as long as it takes: %s", self.uplink, error,
                extra=self._fields(LogEvent.DELIVERY_DELAYED),
            )  # fmt: skip
        self.last_error, self.last_error_at, self.complains = error, now, True

    def _ended(self, ended: bool) -> None:
        """An error that has ended is not shown any more."""
        if ended:
            self.last_error, self.last_error_at, self.complains = "", None, False

    def refuse(self, id_: BatchId, error: str, now: float) -> None:
        """Note that the transport can never send a batch."""
        self.rejected += 1
        self.last_error, self.last_error_at, self.complains = error, now, False
        log.error(
            "batch %s/%d is in quarantine: %s", id_.epoch, id_.seq, error,
            extra=self._fields(LogEvent.BATCH_QUARANTINED, id_),
        )  # fmt: skip

    def shrink(self, id_: BatchId, error: str, most: int | None, now: float) -> None:
        """Note that a batch was too large, and how large the next ones are at most."""
        self.last_error, self.last_error_at = error, now
        log.warning(
            "batch %s/%d is sent anew in smaller ones, of at most %s B: %s",
            id_.epoch, id_.seq, most, error,
            extra=self._fields(LogEvent.BATCH_SPLIT, id_),
        )  # fmt: skip

    def count(self, now: float, *, resent: bool, owed: bool) -> None:
        """Note that the transport took a batch; `owed`: its receipt has not come yet."""
        self._ended(self.complains)
        self.sent += 1
        self.resent += resent
        self.nobody_since = None
        if self.owed_since is None and owed:
            self.owed_since = now

    def broken(self, id_: BatchId) -> int:
        """Note that the connection broke off over a batch; how often it did so in a row."""
        last, times = self.breaks
        self.breaks = id_, times + 1 if id_ == last else 1
        return self.breaks[1]

    def lives(self, receipt_seconds: float | None, owed: bool, now: float) -> None:
        """Note a word of the recipient on what was sent; `owed`: more of it waits for one."""
        self.last_receipt, self.heard, self.heard_here = now, monotonic(), True
        self.breaks = None, 0
        self.receipt_seconds = receipt_seconds
        self.owed_since = now if owed else None

    def learn(self, settled: Settled, now: float) -> None:
        """Note what a receipt has ended, and what it says that somebody must look at."""
        for batch in settled.quarantined:
            log.error(
                "batch %s/%d is in quarantine by the recipient", batch.epoch, batch.seq,
                extra=self._fields(LogEvent.BATCH_QUARANTINED, batch),
            )  # fmt: skip
        self.settled += len(settled.settled)
        self.rejected += len(settled.quarantined)
        self.conflicts += settled.conflict is not None
        self._ended(bool(settled.settled))
        for event in filter(None, (settled.conflict, settled.ahead, settled.alarm)):
            self.last_error, self.last_error_at, self.complains = event, now, False
            log.error(
                "uplink %s: %s", self.uplink, event, extra=self._fields(LogEvent.DELIVERY_ALARM)
            )

    def lose(self, why: str) -> None:
        """Note why the connection is lost, or could not be opened."""
        self.lost = why

    def alarm(self, now: float) -> str:
        """What somebody must look at, in words; empty if nothing. `now` as the moments."""
        if self.nobody_since is not None:
            return "the platform is not consuming: it is not subscribed at the broker"
        if self.owed_since is not None and now - self.owed_since >= self.alarm_after:
            minutes = int((now - self.owed_since) // 60)
            return f"the platform is not consuming: no receipt for {minutes} min"
        return ""
