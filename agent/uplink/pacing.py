"""Delays and limits of sending (from the simulation of decision 006); an uplink's state."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.core.clock import monotonic
from agent.core.i18n import Text
from agent.core.log_fields import LogEvent, fields
from agent.core.tasks import Change

if TYPE_CHECKING:
    from agent.buffer.receipts import Settled
    from agent.core.model import BatchId

log = logging.getLogger(__name__)

IDLE = 300.0
"""seconds between two seals while nothing waits: only the time itself changes the directory then,
and each batch of rows brings it along
"""
SPACING = 0.2
"""least seconds between two batches; cloud services accept five batches a second"""
LONGEST_SPACING = 600.0
"""seconds; the longest delay that one receipt can ask for"""
PATIENCE = 30.0
LONGEST_PATIENCE = 600.0
ALARM = 300.0
QUICK_RECEIPT = 5.0
SHORTEST_GAP, LONGEST_GAP = 1.0, 600.0
GAP_PER_RECEIPT = 20.0
"""the longest gap, in receipt times: a platform that always needs 6 s is not overloaded
(python -m bench.herd)"""
LONGEST_BACKOFF = 300.0
SMOOTHING = 0.125
"""weight of the newest receipt time, as in TCP (RFC 6298, 2.3)"""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often one uplink seals a batch, and its limits."""

    seal: float = 60.0
    """seconds"""
    phase: float = 0.0
    """offset within the interval in seconds, so that gateways do not all send at the full minute"""
    most_rows: int = 5_000
    most_bytes: int = 48_000
    most_live: int = 8
    """unreceipted live batches; for backfill the limit is always one (rule T14)"""
    patience: float = PATIENCE
    """seconds until a batch without a receipt is sent a second time"""
    longest_patience: float = LONGEST_PATIENCE
    """the longest such wait in seconds, however often the batch was sent"""
    quick: float = QUICK_RECEIPT
    """seconds within which an idle platform sends a receipt"""
    alarm: float = ALARM
    """seconds without a receipt for sent batches until an alarm is raised"""


def phase(gateway: str, seal: float) -> float:
    """The offset of a gateway in the seal interval, in seconds; the same at every start."""
    digest = hashlib.sha256(gateway.encode()).digest()
    return seal * int.from_bytes(digest[:4], "big") / 2**32


def until_seal(wall: float, rhythm: Rhythm) -> float:
    """Seconds from the wall time `wall` to the next seal, at most `rhythm.seal`."""
    return rhythm.seal - (wall - rhythm.phase) % rhythm.seal


def until_idle_seal(wall: float, rhythm: Rhythm) -> float:
    """The same while nothing waits: at one of the regular seals, about once in `IDLE` seconds."""
    return until_seal(wall, replace(rhythm, seal=rhythm.seal * max(1, IDLE // rhythm.seal)))


def live_after(wall: float, rhythm: Rhythm) -> int:
    """The wall time after which slots count as live: two seal intervals ago (rule T14)."""
    return math.floor(wall - 2 * rhythm.seal)


def full(rows: int, bytes_per_row: float, rhythm: Rhythm) -> bool:
    """Whether so many rows fill a batch, given the size of rows sealed before."""
    return rows >= rhythm.most_rows or rows * bytes_per_row >= rhythm.most_bytes


def patience(smoothed: float | None, resends: int, rhythm: Rhythm) -> float:
    """Seconds to wait for a receipt before sending again; doubled at each resend."""
    # three times the usual receipt time, so that a slow platform does not get copies
    first = max(rhythm.patience, 3 * (smoothed or 0.0))
    # a batch is never given up: after 1,024 resends the power would overflow
    return min(rhythm.longest_patience, first * 2.0 ** min(resends, 10))


def smooth(smoothed: float | None, seconds: float) -> float:
    """The receipt time after one more receipt."""
    return seconds if smoothed is None else smoothed + SMOOTHING * (seconds - smoothed)


def backoff(refusals: int, draw: float) -> float:
    """Seconds to pause after so many refusals in a row; `draw` is random in [0, 1)."""
    return draw * min(LONGEST_BACKOFF, 2.0 ** min(refusals - 1, 10))


def settling(outage: float, draw: float) -> float:
    """Seconds from opening to the first backfill batch: a new connection may soon fail again, and
    gateways must not start together.
    """
    return min(60.0, outage / 4) + draw * min(900.0, outage / 4)


def first_gap(outage: float) -> float:
    """The first gap between two backfill batches, in seconds."""
    return min(10.0, max(SHORTEST_GAP, outage / 4))


def next_gap(gap: float, receipt_time: float, quick: float = QUICK_RECEIPT) -> float:
    """The gap after a receipt: a tenth shorter if the receipt was quick, else doubled, up to a
    multiple of the receipt time.
    """
    if receipt_time < quick:
        return max(SHORTEST_GAP, gap * 0.9)
    return max(SHORTEST_GAP, min(LONGEST_GAP, gap * 2, GAP_PER_RECEIPT * receipt_time))


def jittered(gap: float, draw: float) -> float:
    """A random gap, 0.5 to 1.5 times `gap`; `draw` is random in [0, 1)."""
    return gap * (0.5 + draw)


def spacing(slow_down: float) -> float:
    """Seconds between two batches, as the last receipt asks."""
    return min(LONGEST_SPACING, max(SPACING, slow_down))


UNSIGNED_AFTER = 60.0
"""seconds without a valid signed receipt until unsigned ones are reported: they may come first"""


@dataclass(slots=True)
class Delivery:
    """The state of one uplink since the start. Times are seconds since 1970 UTC; None: never."""

    alarm_after: float = ALARM
    """seconds without a receipt for sent batches until an alarm is raised"""
    patience: float = PATIENCE
    """seconds until a batch without a receipt is sent a second time"""
    by_broker: bool = False
    """the broker's acknowledgement settles a batch; weaker: what the broker loses is lost"""
    connected_since: float | None = None
    """None: not connected"""
    lost_since: float | None = None
    """when the last connection ended"""
    last_receipt: float | None = None
    receipt_seconds: float | None = None
    """smoothed, from sending to receipt"""
    sent: int = 0
    """batches that the transport accepted"""
    resent: int = 0
    """of these, batches that had been sent before"""
    settled: int = 0
    rejected: int = 0
    """batches put in quarantine by the recipient or the transport"""
    conflicts: int = 0
    lost: str = ""
    """why the connection was lost, or could not be opened, the last time"""
    last_error: str = ""
    """the last error; empty again once a batch was accepted"""
    last_error_at: float | None = None
    complains: bool = False
    """`last_error` says why batches are not accepted; it ends when one is"""
    asked_since: float | None = None
    """since when the other side has taken none of the batches that are being sent"""
    owed_since: float | None = None
    """since when sent batches wait without any receipt"""
    nobody_since: float | None = None
    """since when the broker reports no subscriber"""
    unsigned_since: float | None = None
    """since when receipts arrive without a signature that they need (rule T35)"""
    signature_problem: str = ""
    """why the signature of a receipt did not count the last time"""
    heard: float = field(default_factory=monotonic)
    """monotonic: time of the last receipt, else of the start; an outage is counted from it"""
    turned: float = field(default_factory=monotonic)
    """monotonic: when the sending loop last ran, or will run while it sleeps; or when an attempt to
    open the uplink ended
    """
    hurry: bool = False
    """seal waiting rows at once, before the interval ends"""
    wanted: Change = field(default_factory=Change)
    """there is something to seal, at the next interval or at once"""
    idle: bool = False
    """no batch waits for a receipt, and no backlog waits"""
    advanced: Change = field(default_factory=Change)
    """a receipt has arrived, or `idle` has changed"""
    complete: bool = False
    """all signed objects of the platform were settled at least once since the start"""
    breaks: tuple[BatchId | None, int] = None, 0
    """the batch during which the connection was lost last, and how often since the last receipt"""
    heard_here: bool = False
    """a receipt has arrived since the last opening, or since the last call of `good`"""
    uplink: str = ""
    recipient: str = ""
    """the name of the uplink and its recipient, for the log"""

    def _fields(self, event: LogEvent, batch: BatchId | None = None) -> dict[str, str]:
        return fields(event, uplink=self.uplink, recipient=self.recipient, batch=batch)

    def send_now(self) -> None:
        """Have waiting rows sealed at once, before the interval ends."""
        self.hurry = True
        self.wanted.tell()

    def stored(self) -> None:
        """Note that rows were stored, or that the directory may have changed."""
        self.wanted.tell()

    def rest(self, *, idle: bool) -> None:
        """Note whether something is under way."""
        if idle is not self.idle:
            self.idle = idle
            self.advanced.tell()

    def good(self) -> bool:
        """Whether the lost connection had delivered; `keep_open` calls this after each attempt.

        True only once, so that attempts that fail to open do not count as healthy.
        """
        self.turned = monotonic()
        heard, self.heard_here = self.heard_here, False
        return heard

    def all_came(self) -> None:
        """Note that all signed objects of the platform are settled."""
        self.complete = True

    def complain(self, error: str, now: float) -> None:
        """Note why a batch was not accepted; log each reason once, since it may last for days."""
        if self.last_error != error:
            log.warning(
                "uplink %s: a batch was not accepted and is sent again until it is: %s",
                self.uplink, error,
                extra=self._fields(LogEvent.DELIVERY_DELAYED),
            )  # fmt: skip
        self.last_error, self.last_error_at, self.complains = error, now, True

    def _ended(self, ended: bool) -> None:
        """Clear an error that has ended."""
        if ended:
            self.last_error, self.last_error_at, self.complains = "", None, False

    def refuse(self, id_: BatchId, error: str, now: float) -> None:
        """Note that the transport rejected a batch."""
        self.rejected += 1
        self.last_error, self.last_error_at, self.complains = error, now, False
        log.error(
            "batch %s/%d is in quarantine: %s", id_.epoch, id_.seq, error,
            extra=self._fields(LogEvent.BATCH_QUARANTINED, id_),
        )  # fmt: skip

    def shrink(self, id_: BatchId, error: str, most: int | None, now: float) -> None:
        """Note that a batch was too large, and the new limit in bytes."""
        self.last_error, self.last_error_at = error, now
        log.warning(
            "batch %s/%d is too large and is sent again in batches of at most %s B: %s",
            id_.epoch, id_.seq, most, error,
            extra=self._fields(LogEvent.BATCH_SPLIT, id_),
        )  # fmt: skip

    def count(self, now: float, *, resent: bool, owed: bool) -> None:
        """Note that the transport accepted a batch; `owed`: its receipt has not arrived yet."""
        self._ended(self.complains)
        self.sent += 1
        self.resent += resent
        self.nobody_since = None
        if self.owed_since is None and owed:
            self.owed_since = now

    def asks(self, now: float) -> None:
        """Note that a batch is being sent."""
        self.asked_since = self.asked_since or now

    def answered(self, now: float, *, asking: bool) -> None:
        """Note that the other side has answered; `asking`: further batches are being sent."""
        self.asked_since = now if asking else None

    def silent_since(self, now: float) -> float | None:
        """Since when the other side has not answered, although it should have by now."""
        if self.asked_since is not None and now - self.asked_since >= self.patience / 2:
            return self.asked_since
        # the first receipt of all may take as long as the platform needs to be set up
        if self.owed_since is None or self.receipt_seconds is None:
            return None
        late = max(self.patience, 3 * self.receipt_seconds)
        return self.owed_since if now - self.owed_since >= late else None

    def broken(self, id_: BatchId) -> int:
        """Note that the connection was lost during a batch; return how often in a row."""
        last, times = self.breaks
        self.breaks = id_, times + 1 if id_ == last else 1
        return self.breaks[1]

    def lives(self, receipt_seconds: float | None, owed: bool, now: float) -> None:
        """Note a receipt; `owed`: other sent batches still wait for one."""
        self.last_receipt, self.heard, self.heard_here = now, monotonic(), True
        self.breaks = None, 0
        self.receipt_seconds = receipt_seconds
        # counted from this receipt: the alarm is about a platform that is silent, not about one
        # batch
        self.owed_since = now if owed else None
        self.advanced.tell()

    def unsigned(self, now: float) -> str:
        """Why batches wait for signed receipts, for people; empty: they do not."""
        if self.unsigned_since is None or now - self.unsigned_since < UNSIGNED_AFTER:
            return ""
        return self.signature_problem or Text("only receipts without a signature arrive")

    def learn(self, settled: Settled, now: float) -> None:
        """Note which batches a receipt settled or quarantined, and log its alarms."""
        for batch in settled.quarantined:
            log.error(
                "batch %s/%d is in quarantine by the recipient", batch.epoch, batch.seq,
                extra=self._fields(LogEvent.BATCH_QUARANTINED, batch),
            )  # fmt: skip
        if settled.signed:
            self.unsigned_since, self.signature_problem = None, ""
        elif settled.unsigned and self.unsigned_since is None:
            self.unsigned_since = now
        self.settled += len(settled.settled)
        self.advanced.tell()
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
        """The alarm of this uplink for people; empty if there is none. `now`: seconds since
        1970 UTC.
        """
        if self.nobody_since is not None:
            return Text("the platform is not consuming: it is not subscribed at the broker")
        if self.owed_since is not None and now - self.owed_since >= self.alarm_after:
            minutes = int((now - self.owed_since) // 60)
            return Text(
                "the platform is not consuming: no receipt for {minutes} min", minutes=minutes
            )
        return ""
