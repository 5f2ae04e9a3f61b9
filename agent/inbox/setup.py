"""Open the audit chain and the inbox of one state directory."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from agent.core.errors import NotRecorded
from agent.core.log_fields import LogEvent, fields
from agent.core.storage import volatile
from agent.inbox.inbox import Inbox
from agent.trust.audit import FOLDER, Broken, Chain
from agent.trust.claims import WITNESS
from agent.trust.jws import Key
from agent.trust.store import FILE, TrustStore
from agent.trust.verify import Audience, Member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent.core.clock import Clock
    from agent.inbox.registry_adapter import RegistryAdapter
    from agent.registry.identity import Identity
    from agent.registry.registry import Registry
    from agent.trust.trust_list import TrustSettings

log = logging.getLogger(__name__)

SINGLE_RECORDS = 5
"""refusals of one sender with one code that get records of their own in an hour"""
HOUR = 3600.0
BURST = 200
"""records that may be written in a row"""
AT_START = 20
"""of them after a start, so that forcing restarts gains nothing"""
A_DAY = 48
"""records a day in the long run: 20 MB in five years"""
DAY = 86_400.0
MOST_SENDERS = 100
"""pairs of sender and code that are counted separately"""
OTHERS = ("object.refused", "", "")

RefusalKey = tuple[str, str, str]
"""type of the record, sender, code"""
MACHINE = Path("/etc/machine-id")


REFUSALS = frozenset({"object.refused", "control.refused"})
BY_PEOPLE_HERE = frozenset(
    f"control.{word}"
    for word in (
        "sheet_accepted",
        "released",
        "handed_back",
        "abandoned",
        "opted_out",
        "opted_in",
        "tested",
    )
)


MOST_PENDING = 10_000
"""records that wait while the disk does not answer"""


@dataclass(slots=True)
class _Counted:
    since: float
    written: int = 0
    more: int = 0


class Repeated:
    """Counts refusals without a record of their own, by sender and code."""

    def __init__(self, now: float) -> None:
        self._left, self._at = float(AT_START), now
        self._of: dict[RefusalKey, _Counted] = {}

    def writes(self, type_: str, body: Mapping[str, Any], now: float) -> bool:
        """Whether a refusal gets its own record now; otherwise it is counted."""
        key = (type_, str(body.get("kid") or body.get("via", "")), str(body["code"]))
        # bounded: a trust list may name 200 keys, and each can be refused with many codes
        if key not in self._of and len(self._of) >= MOST_SENDERS:
            key = OTHERS
        counted = self._of.setdefault(key, _Counted(now))
        if counted.written < SINGLE_RECORDS and not counted.more and self._allowed(now):
            counted.written += 1
            return True
        counted.more += int(body.get("count", 1))
        return False

    def due(self, now: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """Type and body of a summary record for each count that is an hour old."""
        for key, counted in list(self._of.items()):
            if now - counted.since < HOUR:
                continue
            # the count stays until a record is allowed: no refusal is forgotten
            if counted.more and not self._allowed(now):
                return
            del self._of[key]
            if counted.more:
                type_, sender, code = key
                yield type_, {"from": sender, "code": code, "more": str(counted.more)}

    def _allowed(self, now: float) -> bool:
        self._left = min(BURST, self._left + max(0.0, now - self._at) * A_DAY / DAY)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def machine_id() -> str:
    """Systemd's id of this machine; empty: it has none."""
    try:
        return MACHINE.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _by_senders(type_: str) -> bool:
    """Whether senders of signed objects have caused a record."""
    return type_.startswith(("object.", "control.")) and type_ not in BY_PEOPLE_HERE


class AuditNotes:
    """Writes decisions to the audit chain; a failing disk does not stop the caller.

    Repeated refusals are counted (agent/inbox/setup.py). Records that senders cause are
    dropped while the chain has no room for them (`Chain.has_room_for_senders`).
    """

    def __init__(
        self, chain: Chain, steady: Callable[[], float], most_pending: int = MOST_PENDING
    ) -> None:
        self.chain, self._steady, self._most_pending = chain, steady, most_pending
        self._lock = RLock()
        self._pending: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._repeated = Repeated(steady())
        self.lost = 0
        """records that could not be written"""
        self.held_back = 0
        """records of senders for which the chain had no room"""
        self._reported: set[tuple[str, str]] = set()
        """type and error of what was logged since the last record that was written: those of the
        registry are tried again each minute"""

    def __call__(self, type_: str, body: Mapping[str, Any]) -> None:
        """Write a record, from any thread.

        A thread does not wait while another one writes, since the disk may not answer: the record
        is queued, and the other thread writes it.
        """
        if len(self._pending) >= self._most_pending:
            self.lost += 1
            return
        self._pending.append((type_, body))
        # again after the release: a record that came just before it would wait for the next one
        while self._pending and self._lock.acquire(blocking=False):
            try:
                while self._pending:
                    self._note(*self._pending.popleft())
            finally:
                self._lock.release()

    def _note(self, type_: str, body: Mapping[str, Any]) -> None:
        now = self._steady()
        for of, counted in self._repeated.due(now):
            self._write(of, counted)
        # an order with grants was accepted before, so its refusal must not be merged with others
        single = type_ not in REFUSALS or "grants" in body
        if single or self._repeated.writes(type_, body, now):
            self._write(type_, body)

    def _write(self, type_: str, body: Mapping[str, Any]) -> None:
        if _by_senders(type_) and not self.chain.has_room_for_senders:
            if not self.held_back:
                log.error(
                    "the audit chain is three quarters full: records caused by senders of signed"
                    " objects are not written until its oldest records may be deleted",
                    extra=fields(LogEvent.AUDIT_CHAIN_FULL),
                )
            self.held_back += 1
            return
        try:
            self.chain.append(type_, body)
        except OSError as error:
            self.lost += 1
            if (type_, str(error)) not in self._reported:
                self._reported.add((type_, str(error)))
                log.error(  # noqa: TRY400 -- no bug
                    "%s could not be written to the audit chain: %s", type_, error,
                    extra=fields(LogEvent.RECORD_NOT_WRITTEN, store=FOLDER),
                )  # fmt: skip
        else:
            self._reported.clear()
        if self.chain.thinned:
            thinned, self.chain.thinned = self.chain.thinned, 0
            log.warning(
                "the audit chain is full: its %d oldest records were deleted", thinned,
                extra=fields(LogEvent.AUDIT_CHAIN_FULL),
            )  # fmt: skip
            self("audit.thinned", {"records": thinned})

    def receipted(self, digest: str | None) -> None:
        """Note that a recipient has receipted a batch with this hash; None: without a hash."""
        if digest is None or not self._lock.acquire(blocking=False):
            return  # a later receipt has a later hash
        try:
            self.chain.receipted(digest)
        except (NotRecorded, Broken, OSError) as error:
            log.warning(
                "the receipted hash of the audit chain is stored later: %s", error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, store=FOLDER),
            )  # fmt: skip
        finally:
            self._lock.release()

    def registry_changed(self, registry: Registry) -> None:
        """Write records of the registry's latest changes and of counted refusals.

        If another thread writes at the moment, the next call does it.
        """
        if self._lock.acquire(blocking=False):
            try:
                self._registry_changed(registry)
            finally:
                self._lock.release()

    def _registry_changed(self, registry: Registry) -> None:
        for type_, counted in self._repeated.due(self._steady()):
            self._write(type_, counted)
        before = self.chain.latest("registry")
        since = int(before["revision"]) if before else 0
        if since > registry.revision:
            self("registry", {"revision": registry.revision, "ids": [], "was": since})
        elif ids := registry.ids_after(since):
            for revision, of in ids.items():
                self("registry", {"revision": revision, "ids": of[:100], "count": len(of)})


def open_notes(state: Path, clock: Clock, identity: Identity, *, moved: bool) -> AuditNotes:
    """Open the audit chain, and record the gateway's ids and key if they have changed."""
    notes = AuditNotes(Chain(state, clock.now), clock.steady)
    if notes.chain.torn:
        notes("audit.torn", {"bytes": notes.chain.torn})
    if identity:
        kid = Key.of(identity.signing_key.public_key()).kid
        who = {"gateway": identity.gateway, "state": identity.state, "kid": kid}
        if notes.chain.latest("key") != who:
            notes("key", who)
        if moved:
            notes("state.moved", {"state": identity.state})
    return notes


@contextmanager
def open_inbox(  # noqa: PLR0913, PLR0917 -- each a part of its own
    state: Path,
    identity: Identity,
    building: str | None,
    trust: TrustSettings,
    registry_adapter: RegistryAdapter,
    clock: Clock,
    notes: AuditNotes,
) -> Iterator[Inbox]:
    """Open the trust store and the inbox."""
    key = Key.of(identity.signing_key.public_key())
    with TrustStore.open(state / FILE, volatile(state)) as trust_store:
        yield Inbox(
            trust_store,
            registry_adapter,
            clock,
            Audience(identity.gateway, identity.state, building),
            notes,
            trust.threshold,
            trust.pinned(),
            Member(key, identity.gateway, WITNESS) if trust.witnessed else None,
        )
