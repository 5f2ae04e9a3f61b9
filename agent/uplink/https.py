"""HTTPS: a batch is POSTed, and the answer to it is the receipt; signed objects are fetched.

Only a 200 or 201 whose body is a receipt counts. A new session at each opening, so that a new
certificate is taken up.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from agent.buffer.receipts import parse
from agent.clock import monotonic, seconds
from agent.enrolment.tls import context, doubt
from agent.errors import BatchRejected, NotRecorded, NotStored, TooLarge, UplinkLost
from agent.log_fields import LogEvent, fields
from agent.uplink.backup_message import held
from agent.uplink.http_client import asking
from agent.uplink.publish_codes import SealedOtherwise
from agent.uplink.request_worker import in_turns, within
from agent.uplink.response_codes import STORED, judge
from agent.uplink.settings.https import Settings
from agent.uplink.status import condition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pydantic import BaseModel

    from agent.buffer.thread import OneThread
    from agent.model import BatchId, Receipt, SealedBatch
    from agent.uplink.backup_message import BackupMessage
    from agent.uplink.base import GatewayFacts, Turn
    from agent.uplink.http_client import PlatformRequests

log = logging.getLogger(__name__)

LARGEST_PAYLOAD = 60_000
"""bytes, as for every other live transport"""
TRIES = 3
"""before a batch whose bytes the platform refuses is put aside"""
UNHEARD = {0, 404, 405, 501}
"""answers of a platform that has no place for how we are; 0: none"""
TOLD_AGAIN = 3_600.0
"""seconds"""
LATEST = "gardien-objects"
"""header of an answer to a batch: the cursor of the last signed object there is; none: empty"""
LONGEST_UNASKED = 900.0
"""seconds for which a platform's word that there is nothing new is believed"""


class HttpsUplink:
    """An open way to one recipient's platform (agent.uplink.base.Uplink)."""

    Settings: type[BaseModel] = Settings
    most_bytes = LARGEST_PAYLOAD

    def __init__(
        self, far: PlatformRequests, thread: OneThread, settings: Any, station: GatewayFacts
    ) -> None:
        self._far, self._thread = far, thread
        self._settings, self._station = settings, station
        self._inbox: asyncio.Queue[Receipt] = asyncio.Queue()
        self._refused: dict[BatchId, int] = {}
        self._too_large = sys.maxsize
        """bytes: the smallest batch that was refused for its size, as often as it may be"""
        self._next_poll = self._asked = 0.0
        self._credential = _version(station)
        self._heard_from = 0.0

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Any, station: GatewayFacts) -> AsyncIterator[Self]:
        """Connect, and fetch what signed objects there are. Raises UplinkLost if it cannot."""
        secure = settings.url.startswith("https:")
        tls = context(settings.ca, station.credential) if secure else None
        own = doubt(station.credential, station.gateway, seconds()) if secure else ""
        opening = partial(asking, settings, tls, own)
        async with in_turns("https", opening, settings.timeout) as (far, thread):
            uplink = cls(far, thread, settings, station)
            try:
                async with asyncio.timeout(within(settings.timeout)):
                    await uplink._fetch()
            except TimeoutError:
                raise UplinkLost("its list of objects has no end: it goes on from here") from None
            yield uplink

    @classmethod
    def packing(cls, settings: Any, station: GatewayFacts) -> None:
        """Batches are sent as they are sealed."""
        del settings, station

    async def send(self, batch: SealedBatch) -> None:
        """POST one batch; the receipt that answers it comes by `receipts`.

        Raises NotStored (Later: not before …), UplinkLost, or BatchRejected once the platform has
        refused these bytes several times.
        """
        if batch.form:
            raise SealedOtherwise
        if len(batch.payload) > self.most_bytes:
            raise TooLarge(f"{len(batch.payload)} B: at most {self.most_bytes} B are sent")
        status, headers, body = await self._thread.run(self._far.post, batch)
        self._heed(headers.get(LATEST))
        try:
            judge(status, headers, seconds())
        except BatchRejected as error:
            tries = self._refused[batch.id] = self._refused.get(batch.id, 0) + 1
            large, size = isinstance(error, TooLarge), len(batch.payload)
            if tries < TRIES and not (large and size >= self._too_large):
                raise NotStored(str(error)) from error
            if large:
                self._too_large = min(self._too_large, size)
            raise
        try:
            self._inbox.put_nowait(parse(body))
        except ValueError as error:
            raise NotStored(f"the platform answers {status} without a receipt: {error}") from error

    async def tell(self, status: Mapping[str, Any]) -> None:
        """Say how the gateway is; for an hour no more to a platform that has no place for it, or
        does not answer to it: batches must not suffer for that.
        """
        if monotonic() < self._heard_from:
            return
        body = condition(self._station.gateway, self._settings.recipient, "online", status)
        try:
            answer = await self._thread.run(self._far.tell, self._station.gateway, body)
        except UplinkLost as error:
            recipient = self._settings.recipient
            log.info(
                "%s: it is not told how we are: %s", recipient, error,
                extra=fields(uplink=self._station.uplink, recipient=recipient),
            )  # fmt: skip
            answer = 0
        if answer in UNHEARD:
            self._heard_from = monotonic() + TOLD_AGAIN

    async def offer(self, one: BackupMessage, turn: Turn) -> None:
        """Hand the building file over. Raises NotStored or UplinkLost."""
        await turn()
        status, _, body = await self._thread.run(self._far.put, one)
        if status not in STORED:
            raise NotStored(f"it answers {status}")
        if sha256 := held(body, one.gateway, one.recipient):
            self._station.kept(sha256)

    def _heed(self, latest: str | None) -> None:
        """The platform says what there is: to be fetched at once, or not asked for again."""
        now = monotonic()
        if latest == self._station.cursors.of(self._settings.recipient, self._settings.url):
            until = self._asked + max(self._settings.poll, LONGEST_UNASKED)
            self._next_poll = min(now + self._settings.poll, until)
        elif latest is not None:
            self._next_poll = now

    def used(self) -> int:
        """Bytes on the wire since it was opened, in both directions, as far as one can know."""
        return self._far.moved

    async def receipts(self) -> AsyncIterator[Receipt]:
        """The answers to what was sent; between them signed objects are fetched.

        Raises UplinkLost.
        """
        while True:
            try:
                async with asyncio.timeout(max(0.0, self._next_poll - monotonic())):
                    receipt = await self._inbox.get()
            except TimeoutError:
                await self._fetch()
                continue
            yield receipt

    async def _fetch(self) -> None:
        """Hand on every signed object that is new since the last one.

        One that the disk does not take ends it: the next poll goes on from there.
        """
        if _version(self._station) != self._credential:
            raise UplinkLost("this gateway has a new certificate: connecting with it")
        told, cursors = (self._settings.recipient, self._settings.url), self._station.cursors
        self._far.cursor, trust = cursors.of(*told), cursors.trust
        whole = True
        while page := await self._thread.run(self._far.objects):
            asked_after = self._far.cursor
            try:
                for cursor, raw in page:
                    await self._station.objects(raw)
                    self._far.cursor = cursor
            except NotRecorded as error:
                log.warning(
                    "%s: a signed object is fetched again: %s", told[0], error,
                    extra=fields(
                        LogEvent.OBJECT_DELAYED, uplink=self._station.uplink, recipient=told[0]
                    ),
                )  # fmt: skip
                whole = False
                break
            if trust != cursors.trust:  # what the list before made us refuse is judged anew
                self._far.cursor, trust = "", cursors.trust
                continue
            cursors.keep(*told, self._far.cursor)  # once a page: flash wears out
            if self._far.cursor == asked_after:
                break  # it heeds no cursor, and would send these for ever
        cursors.keep(*told, self._far.cursor)
        if whole and self._far.listed:
            self._station.complete()
        self._asked = monotonic()
        self._next_poll = self._asked + self._settings.poll


def _version(station: GatewayFacts) -> int:
    """What tells one certificate file from another; 0 where there is none."""
    try:
        return station.credential.stat().st_mtime_ns if station.credential else 0
    except OSError:
        return 0
