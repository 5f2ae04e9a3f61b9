"""Certificates from a server: Enrollment over Secure Transport (RFC 7030). Blocking.

The server is authenticated by TLS before anything is sent to it; this cannot be switched off.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from cryptography.x509 import DuplicateExtension, InvalidVersion, UnsupportedGeneralNameType

from agent.core.errors import Refused, UplinkLost
from agent.core.i18n import Text, text_of
from agent.enrolment import tls
from agent.enrolment.credential import certificates
from agent.enrolment.http_client import HttpClient
from agent.enrolment.settings import WELL_KNOWN

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

    from agent.enrolment.settings import Enrolment

WITHIN = 30.0
"""seconds for one complete answer"""
LARGEST = 1_000_000
"""bytes of one answer"""
DIGITS = 9
"""digits of a Retry-After that is accepted"""
OK, ACCEPTED = 200, 202
RETRY = (60, 86_400)
"""seconds: limits of the time until the next try"""
NO_CERTIFICATES = (
    ValueError, Refused, UnsupportedAlgorithm, InvalidVersion, DuplicateExtension,
    UnsupportedGeneralNameType,
)  # fmt: skip
"""errors when an answer has no certificates"""
EXPLANATIONS = {
    400: Text("it does not accept the request"),
    401: Text("it refuses the token, which is wrong, used or expired: ask for a new one"),
    403: Text("it refuses this gateway: is it registered there?"),
    404: Text("there is no EST server at this address: is `url` right?"),
}


class ApprovalPending(NamedTuple):
    """The request waits for approval by the CA."""

    seconds: int
    """seconds until the next try"""


class Est:
    """One EST server; `credential`: the present key and certificates, for authentication."""

    def __init__(
        self, settings: Enrolment, credential: Path | None = None, within: float = WITHIN
    ) -> None:
        """`within`: seconds for one answer."""
        parts = urlsplit(settings.url)
        self._where = f"{parts.hostname}:{parts.port or 443}"
        self._url = f"https://{parts.netloc}{parts.path.rstrip('/') or WELL_KNOWN}"
        self._ca, self._credential, self._within = settings.ca, credential, within

    def cacerts(self) -> list[x509.Certificate]:
        """The certificates of the CA that issues ours. Raises Refused."""
        status, body, _ = self._ask("GET", "cacerts", {})
        return _certificates(self._good(status, body))

    def enroll(
        self, request: x509.CertificateSigningRequest, user: str, token: str
    ) -> list[x509.Certificate] | ApprovalPending:
        """Get the first certificate with a one-time token. Raises Refused."""
        basic = base64.b64encode(f"{user}:{token}".encode()).decode()
        return self._post("simpleenroll", request, {"Authorization": f"Basic {basic}"})

    def reenroll(
        self, request: x509.CertificateSigningRequest
    ) -> list[x509.Certificate] | ApprovalPending:
        """Get the next certificate; the present one authenticates. Raises Refused."""
        return self._post("simplereenroll", request, {})

    def _post(
        self, what: str, request: x509.CertificateSigningRequest, more: dict[str, str]
    ) -> list[x509.Certificate] | ApprovalPending:
        body = base64.encodebytes(request.public_bytes(Encoding.DER))
        form = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
        status, answer, retry = self._ask("POST", what, form | more, body)
        if status == ACCEPTED:
            # limited: a server that asks for 0 s or for years must be neither flooded nor forgotten
            wait = int(retry) if retry.isdecimal() and len(retry) <= DIGITS else 0
            return ApprovalPending(max(RETRY[0], min(RETRY[1], wait)))
        return _certificates(self._good(status, answer))

    def _ask(
        self, method: str, what: str, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[int, bytes, str]:
        """Status, body and Retry-After of one answer."""
        try:
            secure = tls.context(self._ca, self._credential)
        except UplinkLost as error:
            raise Refused(text_of(error)) from error
        try:
            with HttpClient.open(self._where, secure, self._within) as client:
                url = f"{self._url}/{what}"
                answer = client.request(method, url, LARGEST, headers=headers, data=body)
        except UplinkLost as error:
            raise Refused("enrolment: {error}", error=error) from error
        return answer.status, answer.body, answer.headers.get("retry-after", "")

    def _good(self, status: int, body: bytes) -> bytes:
        if status == OK and len(body) <= LARGEST:
            return body
        detail = body[:200].decode("utf-8", "replace").strip()
        explanation = EXPLANATIONS.get(status, f"it answers {status}")
        # the HTML page of a proxy would hide the explanation
        more = f" ({detail})" if detail.isprintable() and detail and "<" not in detail else ""
        raise Refused(
            "enrolment: {where}: {explanation}{more}",
            where=self._where,
            explanation=explanation,
            more=more,
        )


def _certificates(body: bytes) -> list[x509.Certificate]:
    try:
        bundle = load_der_pkcs7_certificates(
            base64.b64decode(b"".join(body.split()), validate=True)
        )
        return [one for raw in bundle for one in certificates(raw.public_bytes(Encoding.DER))]
    except NO_CERTIFICATES as error:
        raise Refused(
            "enrolment: the answer has no readable certificates: {error}", error=error
        ) from error
