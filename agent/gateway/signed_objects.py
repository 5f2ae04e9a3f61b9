"""Takes signed objects from all uplinks and from people, and has the trust store open."""

from __future__ import annotations

import hashlib
import logging
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from agent.buffer.database import Damaged
from agent.core.clock import monotonic
from agent.core.errors import Absent, NotRecorded, Refused
from agent.core.i18n import N_
from agent.core.log_fields import LogEvent, fields
from agent.core.storage import is_damage
from agent.core.tasks import Change
from agent.inbox.inbox import BY_HAND, Inbox
from agent.trust.jws import MAP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from agent.gateway.controls import Steering
    from agent.inbox.inbox import Earlier, Handler
    from agent.inbox.setup import AuditNotes
    from agent.registry.registry import Registry
    from agent.trust.verify import Verified

log = logging.getLogger(__name__)

MOST_UNRECORDED = 1000
"""unrecorded objects whose arrival is remembered"""
OF_THE_CONTROLS = ("dr-command+jwt", "dr-grant+jwt", "dr-revoke+jwt")
"""types of signed objects that go to the controls"""


class NoInbox(Absent, Inbox):
    """In place of the inbox while this gateway has no identity."""

    REASON = N_("this gateway has no identity. What to do: sudo gardien doctor")


class SignedObjects:
    """The inbox, which is opened again if its trust store cannot be read any more.

    `ask_disk`: returns once the disk answers or is known to hang. `report`: how the registry and
    the devices on the lines fit together.
    """

    def __init__(
        self,
        registry: Registry,
        audit: AuditNotes,
        ask_disk: Callable[[], Awaitable[None]],
        report: Callable[[], dict[str, Any]],
        steering: Callable[[], Steering],
    ) -> None:
        self._registry, self._audit, self._ask_disk = registry, audit, ask_disk
        self.report, self._steering = report, steering
        self._open = ExitStack()
        self._opening: Callable[[], AbstractContextManager[Inbox]]
        self.inbox: Inbox = NoInbox()
        self.handlers: dict[str, Handler] = {}
        """handlers of further types, by typ; each opened inbox has them"""
        self.earlier: dict[str, Earlier] = {}
        """what those of the controls have answered before"""
        self.is_broken = False
        """whether the trust store cannot be read any more and must be opened again"""
        self.broke = Change()
        """told when that happens"""
        self._arrived: dict[bytes, float] = {}
        """when objects that are not recorded first arrived, by their SHA-256"""
        self.changed = Change()
        """a signed object was accepted or refused, or tried again"""

    def open(self, opening: Callable[[], AbstractContextManager[Inbox]]) -> ExitStack:
        """Open the inbox. Return what closes it."""
        self._opening = opening
        self.reopen()
        return self._open

    def reopen(self) -> None:
        """Open the trust store again. A file that cannot be read is renamed and replaced.

        Raises NotRecorded if the copy in memory cannot be opened either. Until the next attempt the
        store before answers what it knows in memory, and nothing is accepted.
        """
        self._open.close()  # the trust store that was open before, if any
        try:
            self.inbox = self._open.enter_context(self._opening())
        except Exception:
            if self.inbox:
                self._open.enter_context(closing(self.inbox.trust_store.shut()))
            raise
        self.inbox.handlers, self.inbox.earlier = self.handlers, self.earlier
        self.is_broken = False

    def note_broken(self) -> None:
        """Note that the trust store cannot be read any more: it is opened again soon."""
        self.is_broken = True
        self.broke.tell()

    async def accept(self, raw: bytes, via: str) -> dict[str, Any]:
        """Accept a signed object that arrived by `via`; return its outcome.

        Raises Forged if it does not verify, and NotRecorded if the disk did not store it.
        """
        inbox_accept, arrived = self.inbox.accept, self._first_arrival(raw)
        if steering := self._steering():
            # Each time: the controls may have been reopened since the last object.
            self.handlers.update(dict.fromkeys(OF_THE_CONTROLS, steering.orders.take))
            self.earlier.update(dict.fromkeys(OF_THE_CONTROLS, steering.orders.earlier))
        await self._ask_disk()
        try:
            answer = await inbox_accept(raw, via, arrived)
        except Refused as error:
            if not isinstance(error, NotRecorded):
                self._recorded(raw)
            self.changed.tell()  # its sender is told why as soon as of an acceptance
            raise
        self._recorded(raw)
        # An object proves that the platform is alive, which ends a failsafe. What a person brings
        # by hand proves nothing, unless it is an order.
        lives = via != BY_HAND or answer.get("typ") == OF_THE_CONTROLS[0]
        if (steering := self._steering()) and lives and not answer.get("again"):
            steering.controller.heard()
        await self.registry_changed()
        return answer | ({"report": self.report()} if answer.get("typ") == MAP else {})

    def _first_arrival(self, raw: bytes) -> float:
        """When an object first arrived, by the monotonic clock: one that was not recorded is sent
        again and again, and a signed time does not become later by that (rule C13).
        """
        digest = hashlib.sha256(raw).digest()
        if digest not in self._arrived and len(self._arrived) >= MOST_UNRECORDED:
            self._arrived.pop(next(iter(self._arrived)))
        return self._arrived.setdefault(digest, monotonic())

    def _recorded(self, raw: bytes) -> None:
        self._arrived.pop(hashlib.sha256(raw).digest(), None)

    async def carried(self, raw: bytes, via: str) -> None:
        """Accept a signed object from a transport. When this returns, the object is settled.

        Raises NotRecorded if the disk did not store it: the transport must deliver it again.
        """
        if self.is_broken:
            raise NotRecorded("the trust store cannot be read and is being opened again")
        try:
            await self.accept(raw, via)
        except (NotRecorded, Damaged):
            raise
        except Refused as error:
            log.debug("a signed object from %s was refused: %s", via, error)
        except Exception as error:
            if is_damage(error):
                self.note_broken()
                raise
            # The object is verified and on the disk. Raising would make the platform send it again
            # for ever. What failed is tried again with the next object.
            log.exception(
                "a signed object from %s was stored, but applying it failed", via,
                extra=fields(LogEvent.OBJECT_FAILED, uplink=via),
            )  # fmt: skip

    def without_controls(self) -> None:
        """Note that the journal is closed: orders get NotRecorded, and must be sent again."""
        self.handlers.update(dict.fromkeys(OF_THE_CONTROLS, _no_journal))
        self.earlier.update(dict.fromkeys(OF_THE_CONTROLS, _no_journal))

    async def registry_changed(self) -> None:
        """Audit what the registry has recorded; try the objects again that waited for it."""
        self._audit.registry_changed(self._registry)
        if self.inbox and await self.inbox.retry_waiting():
            self._audit.registry_changed(self._registry)
        self.changed.tell()


async def _no_journal(_: Verified) -> dict[str, Any]:
    raise NotRecorded("the journal of the controls is not open: send the order again later")
