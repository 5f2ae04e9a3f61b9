"""The requests of the HTTPS transport to one platform; synchronous, one after the other."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.buffer.receipts import LARGEST
from agent.core.errors import CertificateRefused, UplinkLost
from agent.enrolment.http_client import HttpClient
from agent.trust.strict import json_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from agent.core.model import SealedBatch
    from agent.uplink.base import BackupMessage
    from agent.uplink.request_worker import Connection

LARGEST_PAGE = 4_000_000
LONGEST_CURSOR = 1_000
"""bytes"""
OPENING = 6_000
"""bytes of TCP and TLS of a new connection"""
GONE = 410
"""the platform does not know the cursor: it was set up again"""


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
            raise CertificateRefused(f"{self._host} does not let this gateway in ({status})")
        if status == GONE:
            self.cursor = ""  # restart at the next poll; an immediate restart could loop for ever
        if status != 200:  # noqa: PLR2004 -- OK
            return []
        try:
            if len(body) > LARGEST_PAGE:
                raise ValueError(f"more than {LARGEST_PAGE} bytes")
            listed = json_of(body, "it")["objects"]
            # an object with an invalid character is passed on and refused by the inbox: it must not
            # hold up the others
            page = [
                (_cursor(item["cursor"]), str(item["object"]).encode("utf-8", "surrogatepass"))
                for item in listed
            ]
        except (ValueError, LookupError, TypeError) as error:
            raise UplinkLost(
                f"{self._host}: the answer of /objects is not a list of objects: {error!r}"
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
        raise ValueError(f"a cursor has at most {LONGEST_CURSOR} bytes")
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
