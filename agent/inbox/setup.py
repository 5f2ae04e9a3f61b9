"""The chain and the reception of one state directory, opened together."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from agent.errors import NotRecorded
from agent.inbox.audit_thinning import Repeated
from agent.inbox.inbox import Inbox
from agent.log_fields import LogEvent, fields
from agent.storage import volatile
from agent.trust.audit import FOLDER, Broken, Chain
from agent.trust.key import Key
from agent.trust.object_types import WITNESS
from agent.trust.signer import Member
from agent.trust.store import FILE, TrustStore
from agent.trust.verify import Audience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent.clock import Clock
    from agent.inbox.registry_adapter import RegistryAdapter
    from agent.registry.identity import Identity
    from agent.registry.registry import Registry
    from agent.trust.settings import TrustSettings

log = logging.getLogger(__name__)

MACHINE = Path("/etc/machine-id")


def machine_id() -> str:
    """What systemd calls this machine; empty where it has no name."""
    try:
        return MACHINE.read_text(encoding="ascii").strip()
    except OSError:
        return ""


REFUSALS = frozenset({"object.refused", "control.refused"})
BY_PEOPLE_HERE = frozenset(
    f"control.{word}"
    for word in ("released", "handed_back", "abandoned", "opted_out", "opted_in", "tested")
)


MOST_ASKED = 10_000
"""decisions that wait for a disk that stands still"""


def _by_others(type_: str) -> bool:
    """Whether what is written was caused by who sends signed objects."""
    return type_.startswith(("object.", "control.")) and type_ not in BY_PEOPLE_HERE


class AuditNotes:
    """Writes decisions into the chain; a disk that does not take them stops nothing.

    Of what others cause, repeated refusals are counted (agent/inbox/audit_thinning.py), and nothing
    is written while the chain has no room for it (`Chain.takes_of_others`).
    """

    def __init__(self, chain: Chain, steady: Callable[[], float]) -> None:
        self.chain, self._steady = chain, steady
        self._one_at_a_time = RLock()
        self._asked: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._repeated = Repeated(steady())
        self.lost = 0
        """decisions that could not be written down"""
        self.held_back = 0
        """what others caused, and the chain had no room for"""

    def __call__(self, type_: str, body: Mapping[str, Any]) -> None:
        """Write one down; from any thread.

        Nobody waits for another thread, whose disk may stand still: that one writes this, too.
        """
        if len(self._asked) >= MOST_ASKED:
            self.lost += 1
            return
        self._asked.append((type_, body))
        while self._asked and self._one_at_a_time.acquire(blocking=False):
            try:
                while self._asked:
                    self._note(*self._asked.popleft())
            finally:
                self._one_at_a_time.release()

    def _note(self, type_: str, body: Mapping[str, Any]) -> None:
        now = self._steady()
        for of, counted in self._repeated.due(now):
            self._write(of, counted)
        # what was accepted before has grants: its refusal is a decision of its own
        alone = type_ not in REFUSALS or "grants" in body
        if alone or self._repeated.writes(type_, body, now):
            self._write(type_, body)

    def _write(self, type_: str, body: Mapping[str, Any]) -> None:
        if _by_others(type_) and not self.chain.takes_of_others:
            if not self.held_back:
                log.error(
                    "the audit chain is three quarters full: what senders of signed objects cause"
                    " is not written until its oldest records may go",
                    extra=fields(LogEvent.AUDIT_CHAIN_FULL),
                )
            self.held_back += 1
            return
        try:
            self.chain.append(type_, body)
        except OSError as error:
            self.lost += 1
            log.error(  # noqa: TRY400 -- no bug
                "%s could not be written into the audit chain: %s", type_, error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, store=FOLDER),
            )  # fmt: skip
        if self.chain.thinned:
            thinned, self.chain.thinned = self.chain.thinned, 0
            log.warning(
                "the audit chain is full: its %d oldest records are gone", thinned,
                extra=fields(LogEvent.AUDIT_CHAIN_FULL),
            )  # fmt: skip
            self("audit.thinned", {"records": thinned})

    def receipted(self, digest: str | None) -> None:
        """A recipient has receipted a batch with this hash; None: with none."""
        if digest is None or not self._one_at_a_time.acquire(blocking=False):
            return  # it is told again
        try:
            self.chain.receipted(digest)
        except (NotRecorded, Broken, OSError) as error:
            log.warning(
                "what was receipted of the audit chain is noted later: %s", error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, store=FOLDER),
            )  # fmt: skip
        finally:
            self._one_at_a_time.release()

    def registry_changed(self, registry: Registry) -> None:
        """Write down what the registry has recorded since this was last asked, and how many
        refusals were counted. Where another thread writes just now, it is done the next time.
        """
        if self._one_at_a_time.acquire(blocking=False):
            try:
                self._registry_changed(registry)
            finally:
                self._one_at_a_time.release()

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


def open_notes(state: Path, clock: Clock, identity: Identity | None, *, moved: bool) -> AuditNotes:
    """Open the chain, and write down who we are if that is not what it says."""
    notes = AuditNotes(Chain(state, clock.now), clock.steady)
    if notes.chain.torn:
        notes("audit.torn", {"bytes": notes.chain.torn})
    if identity is not None:
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
    """Open the book of authority."""
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
