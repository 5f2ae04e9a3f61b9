"""The chain and the reception of one state directory, opened together."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from agent.authority.audit import Chain
from agent.authority.book import FILE, Book
from agent.authority.key import Key
from agent.authority.kinds import WITNESS
from agent.authority.member import Member
from agent.authority.verify import Audience
from agent.reception.reception import Reception

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.authority.settings import Trust
    from agent.clock import Clock
    from agent.reception.papers import Papers
    from agent.registry.identity import Identity
    from agent.registry.registry import Registry

log = logging.getLogger(__name__)

MACHINE = Path("/etc/machine-id")


def machine_id() -> str:
    """What systemd calls this machine; empty where it has no name."""
    try:
        return MACHINE.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Notes:
    """Writes decisions into the chain; a disk that does not take them stops nothing."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self._one_at_a_time = Lock()
        self.lost = 0
        """decisions that could not be written down"""

    def __call__(self, type_: str, body: Mapping[str, Any]) -> None:
        """Write one down; from any thread."""
        try:
            with self._one_at_a_time:
                self.chain.append(type_, body)
        except OSError as error:
            self.lost += 1
            log.error("%s could not be written into the audit chain: %s", type_, error)  # noqa: TRY400

    def registry_changed(self, registry: Registry) -> None:
        """Write down what the registry has recorded since this was last asked."""
        before = self.chain.latest("registry")
        since = int(before["revision"]) if before else 0
        if since > registry.revision:
            self("registry", {"revision": registry.revision, "ids": [], "was": since})
        elif ids := registry.ids_after(since):
            for revision, of in ids.items():
                self("registry", {"revision": revision, "ids": of[:100], "count": len(of)})


def open_notes(state: Path, clock: Clock, identity: Identity | None, *, moved: bool) -> Notes:
    """Open the chain, and write down who we are if that is not what it says."""
    notes = Notes(Chain(state, clock.now))
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
def open_reception(  # noqa: PLR0913, PLR0917 -- each a part of its own
    state: Path,
    identity: Identity,
    building: str | None,
    trust: Trust,
    papers: Papers,
    clock: Clock,
    notes: Notes,
) -> Iterator[Reception]:
    """Open the book of authority."""
    key = Key.of(identity.signing_key.public_key())
    with Book.open(state / FILE) as book:
        yield Reception(
            book,
            papers,
            clock,
            Audience(identity.gateway, identity.state, building),
            notes,
            trust.threshold,
            trust.pinned(),
            Member(key, identity.gateway, WITNESS) if trust.witnessed else None,
        )
