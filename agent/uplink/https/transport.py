"""The HTTPS transport: batches are POSTed, the answer is the receipt; signed objects are polled.

Only a 200 or 201 whose body is a receipt settles a batch. Each opening makes a new session, so that
a new certificate is used.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from agent.buffer.receipts import LARGEST, parse
from agent.core.clock import monotonic, seconds
from agent.core.errors import (
    BatchRejected,
    CertificateRefused,
    NotRecorded,
    NotStored,
    TooLarge,
    UplinkLost,
)
from agent.core.i18n import Text, text_of
from agent.core.log_fields import LogEvent, fields
from agent.enrolment.http_client import HttpClient
from agent.enrolment.tls import context, doubt
from agent.trust.strict import json_of
from agent.uplink.base import STORED, SealedOtherwise, condition, held, judge_response
from agent.uplink.https.settings import Settings
from agent.uplink.request_worker import in_turns, within

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator, Mapping

    from pydantic import BaseModel

    from agent.buffer.database import OneThread
    from agent.core.model import BatchId, Receipt, SealedBatch
    from agent.uplink.base import BackupMessage, GatewayFacts, Turn
    from agent.uplink.request_worker import Connection

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
RECEIPT = "gardien-receipt"
"""header in the answer to a batch: the receipt, signed"""
LONGEST_UNASKED = 900.0
"""seconds without a poll, however often the header says that there is nothing new"""
LARGEST_PAGE = 4_000_000
LONGEST_CURSOR = 1_000
"""bytes"""
OPENING = 6_000
"""bytes of TCP and TLS of a new connection"""
GONE = 410
"""the platform does not know the cursor: it was set up again"""


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
            raise TooLarge(
                "{number} B is too large; the limit is {most_bytes} B",
                number=len(batch.payload),
                most_bytes=self.most_bytes,
            )
        status, headers, body = await self._thread.run(self._platform.post, batch)
        self._note_latest(headers.get(LATEST))
        try:
            judge_response(status, headers, seconds())
        except BatchRejected as error:
            tries = self._refused[batch.id] = self._refused.get(batch.id, 0) + 1
            large, size = isinstance(error, TooLarge), len(batch.payload)
            # once a size was refused three times, each larger batch is split at its first refusal
            if tries < TRIES and not (large and size >= self._too_large):
                raise NotStored(text_of(error)) from error
            if large:
                self._too_large = min(self._too_large, size)
            raise
        try:
            unsigned = parse(body)
            signed = self._facts.receipt(headers[RECEIPT].encode()) if RECEIPT in headers else None
            self._inbox.put_nowait(signed or unsigned)
        except ValueError as error:
            raise NotStored(
                "the platform answers {status} without a receipt: {error}",
                status=status,
                error=error,
            ) from error

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
            raise NotStored("the platform answers {status}", status=status)
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

        After one that cannot be recorded the others follow too: a later one may be a withdrawal
        (rule A7). The next poll begins again with the one that was not recorded.
        """
        if _version(self._facts) != self._credential:
            raise UplinkLost("this gateway has a new certificate and connects again with it")
        source, cursors = (self._settings.recipient, self._settings.url), self._facts.cursors
        settled, trust = cursors.of(*source), cursors.trust
        self._platform.cursor, whole = settled, True
        while page := await self._thread.run(self._platform.objects):
            asked_after = self._platform.cursor
            for cursor, raw in page:
                whole = await self._recorded(raw, report=whole) and whole
                self._platform.cursor = cursor
                settled = cursor if whole else settled
            if trust != cursors.trust:  # the former list may have caused refusals: start again
                settled, trust = "", cursors.trust
                self._platform.cursor, whole = settled, True
                continue
            cursors.keep(*source, settled)  # once a page, to spare the flash
            if self._platform.cursor == asked_after:
                break  # the platform ignores cursors, and would repeat this page for ever
        cursors.keep(*source, self._platform.cursor if whole else settled)
        if whole and self._platform.listed:
            self._facts.complete()
        self._asked = monotonic()
        self._next_poll = self._asked + self._settings.poll

    async def _recorded(self, raw: bytes, *, report: bool) -> bool:
        """Pass on a signed object; whether the disk has recorded it."""
        try:
            await self._facts.objects(raw)
        except NotRecorded as error:
            recipient = self._settings.recipient
            if report:  # one of all that are tried again
                log.warning(
                    "recipient %s: a signed object could not be recorded and is fetched again: %s",
                    recipient, error,
                    extra=fields(
                        LogEvent.OBJECT_DELAYED, uplink=self._facts.uplink, recipient=recipient
                    ),
                )  # fmt: skip
            return False
        return True


def _version(facts: GatewayFacts) -> int:
    """Modification time of the certificate file; 0 if there is none."""
    try:
        return facts.credential.stat().st_mtime_ns if facts.credential else 0
    except OSError:
        return 0


class PlatformRequests:
    """Requests to one platform. All calls raise UplinkLost."""

    def __init__(self, client: HttpClient, url: str) -> None:
        self._client, self._url = client, url
        self._host = urlsplit(url).hostname or ""
        self.moved = OPENING
        """bytes sent and received"""
        self.cursor = ""
        """of the last object that was passed on"""
        self.listed = False
        """the platform answered the last request for objects with a list"""

    def post(self, batch: SealedBatch) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body of the answer to one batch."""
        headers = {
            "Content-Type": "application/zstd",
            "Idempotency-Key": ":".join(map(str, batch.id)),
        }
        return self._request("POST", "/batches", LARGEST, data=batch.payload, headers=headers)

    def tell(self, gateway: str, status: bytes) -> int:
        """Send the status document; return the HTTP status."""
        headers = {"Content-Type": "application/json"}
        return self._request("PUT", f"/status/{gateway}", LARGEST, data=status, headers=headers)[0]

    def put(self, message: BackupMessage) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to a backup."""
        headers = {
            "Content-Type": "application/pkcs7-mime",
            "Gardien-Recipient": message.recipient,
            "Gardien-Made": message.made,
            "Gardien-Revision": str(message.revision),
        }
        path = f"/buildings/{message.gateway}"
        return self._request("PUT", path, LARGEST, data=message.content, headers=headers)

    def objects(self) -> list[tuple[str, bytes]]:
        """Signed objects after the cursor, each with its cursor; empty if the platform has none."""
        parameters = {"after": self.cursor} if self.cursor else {}
        self.listed = False
        status, _, body = self._request("GET", "/objects", LARGEST_PAGE, params=parameters)
        if status in {401, 403}:
            raise CertificateRefused(
                "{host} does not let this gateway in ({status})", host=self._host, status=status
            )
        if status == GONE:
            self.cursor = ""  # restart at the next poll; an immediate restart could loop for ever
        if status != 200:  # noqa: PLR2004 -- OK
            return []
        try:
            if len(body) > LARGEST_PAGE:
                raise ValueError(Text("more than {largest_page} bytes", largest_page=LARGEST_PAGE))
            listed = json_of(body, "it")["objects"]
            # an object with an invalid character is passed on and refused by the inbox: it must not
            # hold up the others
            page = [
                (_cursor(item["cursor"]), str(item["object"]).encode("utf-8", "surrogatepass"))
                for item in listed
            ]
        except (ValueError, LookupError, TypeError) as error:
            raise UplinkLost(
                "{host}: the answer of /objects is not a list of objects: {error}",
                host=self._host,
                error=repr(error),
            ) from error
        self.listed = True
        return page

    def _request(
        self, method: str, path: str, most: int, **more: Any
    ) -> tuple[int, dict[str, str], bytes]:
        answer = self._client.request(method, self._url + path, most, **more)
        self.moved += answer.moved
        return answer.status, answer.headers, answer.body


def _cursor(value: object) -> str:
    """A cursor short enough for a URL. Raises ValueError."""
    cursor = str(value)
    if len(cursor.encode()) > LONGEST_CURSOR:
        raise ValueError(
            Text("a cursor has at most {longest_cursor} bytes", longest_cursor=LONGEST_CURSOR)
        )
    return cursor


@contextmanager
def asking(
    settings: Any, tls: ssl.SSLContext | None, own: str, connection: Connection
) -> Iterator[PlatformRequests]:
    """A session with one platform; `own`: what is known to be wrong with our certificate."""
    host = urlsplit(settings.url).hostname or ""
    with HttpClient.open(
        host, tls, settings.timeout, proxy=settings.proxy, own=own, watch=connection.watch
    ) as client:
        yield PlatformRequests(client, settings.url)
