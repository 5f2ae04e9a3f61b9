"""The HTTPS transport: batches are POSTed, the answer is the receipt; signed objects are polled.

Only a 200 or 201 whose body is a receipt settles a batch. Each opening makes a new session, so that
a new certificate is used.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from agent.buffer.receipts import parse
from agent.core.clock import monotonic, seconds
from agent.core.errors import BatchRejected, NotRecorded, NotStored, TooLarge, UplinkLost
from agent.core.log_fields import LogEvent, fields
from agent.enrolment.tls import context, doubt
from agent.uplink.base import condition, held
from agent.uplink.https.settings import Settings
from agent.uplink.platform_requests import asking
from agent.uplink.request_worker import in_turns, within
from agent.uplink.response_codes import STORED, SealedOtherwise, judge_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pydantic import BaseModel

    from agent.buffer.database import OneThread
    from agent.core.model import BatchId, Receipt, SealedBatch
    from agent.uplink.base import BackupMessage, GatewayFacts, Turn
    from agent.uplink.platform_requests import PlatformRequests

log = logging.getLogger(__name__)

LARGEST_PAYLOAD = 60_000
"""bytes, as for MQTT"""
TRIES = 3
"""refusals of its content until a batch is put in quarantine"""
UNHEARD = {0, 404, 405, 501}
"""HTTP statuses of a platform that takes no status document; 0: no answer"""
TOLD_AGAIN = 3_600.0
"""seconds until the status document is tried again"""
LATEST = "gardien-objects"
"""header in the answer to a batch: cursor of the last signed object; empty if there is none"""
LONGEST_UNASKED = 900.0
"""seconds without a poll, however often the header says that there is nothing new"""


class HttpsUplink:
    """An open connection to one recipient's platform (agent.uplink.base.Uplink)."""

    Settings: type[BaseModel] = Settings
    most_bytes = LARGEST_PAYLOAD

    def __init__(
        self, platform: PlatformRequests, thread: OneThread, settings: Any, facts: GatewayFacts
    ) -> None:
        self._platform, self._thread = platform, thread
        self._settings, self._facts = settings, facts
        self._inbox: asyncio.Queue[Receipt] = asyncio.Queue()
        self._refused: dict[BatchId, int] = {}
        self._too_large = sys.maxsize
        """bytes: the smallest batch that was refused for its size `TRIES` times"""
        self._next_poll = self._asked = 0.0
        self._credential = _version(facts)
        self._status_muted_until = 0.0

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Any, facts: GatewayFacts) -> AsyncIterator[Self]:
        """Connect, and fetch the signed objects. Raises UplinkLost."""
        secure = settings.url.startswith("https:")
        tls = context(settings.ca, facts.credential) if secure else None
        certificate_doubt = doubt(facts.credential, facts.gateway, seconds()) if secure else ""
        opening = partial(asking, settings, tls, certificate_doubt)
        async with in_turns("https", opening, settings.timeout) as (platform, thread):
            uplink = cls(platform, thread, settings, facts)
            try:
                async with asyncio.timeout(within(settings.timeout)):
                    await uplink._fetch()
            except TimeoutError:
                raise UplinkLost(
                    "fetching signed objects took too long; it continues at the next connection"
                ) from None
            yield uplink

    @classmethod
    def packing(cls, settings: Any, facts: GatewayFacts) -> None:
        """Batches are sent as they are sealed."""
        del settings, facts

    async def send(self, batch: SealedBatch) -> None:
        """POST one batch; `receipts` yields the receipt in the answer.

        Raises NotStored (NotNow: with a delay), UplinkLost, or BatchRejected once the platform has
        refused the content `TRIES` times.
        """
        if batch.form:
            raise SealedOtherwise
        if len(batch.payload) > self.most_bytes:
            raise TooLarge(f"{len(batch.payload)} B is too large; the limit is {self.most_bytes} B")
        status, headers, body = await self._thread.run(self._platform.post, batch)
        self._note_latest(headers.get(LATEST))
        try:
            judge_response(status, headers, seconds())
        except BatchRejected as error:
            tries = self._refused[batch.id] = self._refused.get(batch.id, 0) + 1
            large, size = isinstance(error, TooLarge), len(batch.payload)
            # once a size was refused three times, each larger batch is split at its first refusal
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
        """Send the status document. After a failure, wait an hour: a platform that takes none, or
        does not answer, must not delay batches.
        """
        if monotonic() < self._status_muted_until:
            return
        body = condition(self._facts.gateway, self._settings.recipient, "online", status)
        try:
            answer = await self._thread.run(self._platform.tell, self._facts.gateway, body)
        except UplinkLost as error:
            recipient = self._settings.recipient
            log.info(
                "recipient %s: the status document could not be sent: %s", recipient, error,
                extra=fields(uplink=self._facts.uplink, recipient=recipient),
            )  # fmt: skip
            answer = 0
        if answer in UNHEARD:
            self._status_muted_until = monotonic() + TOLD_AGAIN

    async def offer(self, message: BackupMessage, turn: Turn) -> None:
        """Send the backup. Raises NotStored or UplinkLost."""
        await turn()
        status, _, body = await self._thread.run(self._platform.put, message)
        if status not in STORED:
            raise NotStored(f"the platform answers {status}")
        if sha256 := held(body, message.gateway, message.recipient):
            self._facts.kept(sha256)

    def _note_latest(self, latest: str | None) -> None:
        """Poll at once if the header shows a new object; else postpone the next poll."""
        now = monotonic()
        if latest == self._facts.cursors.of(self._settings.recipient, self._settings.url):
            until = self._asked + max(self._settings.poll, LONGEST_UNASKED)
            self._next_poll = min(now + self._settings.poll, until)
        elif latest is not None:
            self._next_poll = now

    def used(self) -> int:
        """Bytes sent and received since the connection was opened, as an estimate."""
        return self._platform.moved

    async def receipts(self) -> AsyncIterator[Receipt]:
        """Receipts in the answers to batches; signed objects are polled in between.

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
        """Pass on all signed objects after the cursor.

        An object that cannot be recorded ends the loop; the next poll resumes there.
        """
        if _version(self._facts) != self._credential:
            raise UplinkLost("this gateway has a new certificate and connects again with it")
        source, cursors = (self._settings.recipient, self._settings.url), self._facts.cursors
        self._platform.cursor, trust = cursors.of(*source), cursors.trust
        whole = True
        while page := await self._thread.run(self._platform.objects):
            asked_after = self._platform.cursor
            try:
                for cursor, raw in page:
                    await self._facts.objects(raw)
                    self._platform.cursor = cursor
            except NotRecorded as error:
                log.warning(
                    "recipient %s: a signed object could not be recorded and is fetched again: %s",
                    source[0], error,
                    extra=fields(
                        LogEvent.OBJECT_DELAYED, uplink=self._facts.uplink, recipient=source[0]
                    ),
                )  # fmt: skip
                whole = False
                break
            if trust != cursors.trust:  # the former list may have caused refusals: start again
                self._platform.cursor, trust = "", cursors.trust
                continue
            cursors.keep(*source, self._platform.cursor)  # once a page, to spare the flash
            if self._platform.cursor == asked_after:
                break  # the platform ignores cursors, and would repeat this page for ever
        cursors.keep(*source, self._platform.cursor)
        if whole and self._platform.listed:
            self._facts.complete()
        self._asked = monotonic()
        self._next_poll = self._asked + self._settings.poll


def _version(facts: GatewayFacts) -> int:
    """Modification time of the certificate file; 0 if there is none."""
    try:
        return facts.credential.stat().st_mtime_ns if facts.credential else 0
    except OSError:
        return 0
