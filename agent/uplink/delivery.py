"""What is known about one uplink, across its connections: for `status` and for its alarms."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.clock import monotonic

CONSUMING_SECONDS = 300.0
"""without a receipt for what was sent: somebody must look"""


@dataclass(slots=True)
class Delivery:
    """Facts of one uplink since the start; moments in seconds since 1970 UTC, None: never."""

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
    last_error: str = ""
    last_error_at: float | None = None
    owed_since: float | None = None
    """since when something is sent and no receipt has come for anything"""
    nobody_since: float | None = None
    """since when the broker says that nobody is subscribed"""
    heard: float = field(default_factory=monotonic)
    """monotonic: when the recipient's last word came, else the start; an outage begins there"""
    turned: float = field(default_factory=monotonic)
    """monotonic: when its sender was last seen at work, or an attempt to open it ended"""
    heard_here: bool = False
    """a receipt has come since the last opening, or since `good` was asked"""

    def good(self) -> bool:
        """Whether the connection just lost had delivered: the sign of health for `keep_open`, which
        asks after every attempt.

        True once only, or attempts that do not even open would count as healthy ones.
        """
        self.turned = monotonic()
        heard, self.heard_here = self.heard_here, False
        return heard

    def alarm(self, now: float) -> str:
        """What somebody must look at, in words; empty if nothing. `now` as the moments."""
        if self.nobody_since is not None:
            return "the platform is not consuming: it is not subscribed at the broker"
        if self.owed_since is not None and now - self.owed_since >= CONSUMING_SECONDS:
            minutes = int((now - self.owed_since) // 60)
            return f"the platform is not consuming: no receipt for {minutes} min"
        return ""
