"""Certificates from a server: Enrollment over Secure Transport (RFC 7030). Blocking.

The server proves itself by TLS before it is told anything; there is no way to switch that off.
"""

from __future__ import annotations

import base64
import http.client
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from cryptography.x509 import DuplicateExtension, InvalidVersion, UnsupportedGeneralNameType

from agent.clock import seconds
from agent.enrolment import tls
from agent.enrolment.credential import certificates
from agent.enrolment.response import BoundedResponse
from agent.enrolment.settings import WELL_KNOWN
from agent.errors import Refused, UplinkLost

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

    from agent.enrolment.settings import Enrolment

WITHIN = 30.0
"""seconds for one answer altogether"""
LARGEST = 1_000_000
"""bytes of one answer"""
DIGITS = 9
"""of a Retry-After that is believed"""
OK, ACCEPTED = 200, 202
RETRY = (60, 86_400)
"""seconds: the least and the most that we let ourselves be put off"""
NO_CERTIFICATES = (
    ValueError, Refused, UnsupportedAlgorithm, InvalidVersion, DuplicateExtension,
    UnsupportedGeneralNameType,
)  # fmt: skip
"""what reading an answer raises that holds none"""
EXPLANATIONS = {
    400: "it does not take the request",
    401: "it does not let us in: the token is wrong, used already, or over; ask for a new one",
    403: "it does not let us in: is this gateway known there?",
    404: "there is no EST at this address: is the url right?",
}


class ApprovalPending(NamedTuple):
    """The request waits for somebody's approval."""

    seconds: int
    """after which to ask again"""


class Est:
    """One EST server; `credential`: our present key and certificates, to prove who asks."""

    def __init__(
        self, settings: Enrolment, credential: Path | None = None, within: float = WITHIN
    ) -> None:
        """`within`: seconds for one answer."""
        parts = urlsplit(settings.url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._path = parts.path.rstrip("/") or WELL_KNOWN
        self._ca, self._credential, self._within = settings.ca, credential, within

    def cacerts(self) -> list[x509.Certificate]:
        """The certificates of the CA that issues ours. Raises Refused."""
        status, body, _ = self._ask("GET", "cacerts", {})
        return _certificates(self._good(status, body))

    def enroll(
        self, request: x509.CertificateSigningRequest, user: str, token: str
    ) -> list[x509.Certificate] | ApprovalPending:
        """The certificate for a request, the first by a one-time token. Raises Refused."""
        basic = base64.b64encode(f"{user}:{token}".encode()).decode()
        return self._post("simpleenroll", request, {"Authorization": f"Basic {basic}"})

    def reenroll(
        self, request: x509.CertificateSigningRequest
    ) -> list[x509.Certificate] | ApprovalPending:
        """The next certificate, by the present one. Raises Refused."""
        return self._post("simplereenroll", request, {})

    def _post(
        self, what: str, request: x509.CertificateSigningRequest, more: dict[str, str]
    ) -> list[x509.Certificate] | ApprovalPending:
        body = base64.encodebytes(request.public_bytes(Encoding.DER))
        form = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
        status, answer, retry = self._ask("POST", what, form | more, body)
        if status == ACCEPTED:
            wait = int(retry) if retry.isdecimal() and len(retry) <= DIGITS else 0
            return ApprovalPending(max(RETRY[0], min(RETRY[1], wait)))
        return _certificates(self._good(status, answer))

    def _ask(
        self, method: str, what: str, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[int, bytes, str]:
        """Status, body and Retry-After of one answer."""
        try:
            secure = tls.context(self._ca, self._credential)
            line = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._within, context=secure
            )
            line.response_class = BoundedResponse
            try:
                line.request(method, f"{self._path}/{what}", body, headers)
                answer = line.getresponse()
                content = answer.read(LARGEST + 1), answer.headers.get("Retry-After", "")
                return answer.status, *content
            finally:
                line.close()
        except UplinkLost as error:
            raise Refused(str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            explanation = tls.explain(error, self._where, seconds())
            raise Refused(f"enrolment: {explanation}") from error

    @property
    def _where(self) -> str:
        return f"{self._host}:{self._port}"

    def _good(self, status: int, body: bytes) -> bytes:
        if status == OK and len(body) <= LARGEST:
            return body
        detail = body[:200].decode("utf-8", "replace").strip()
        explanation = EXPLANATIONS.get(status, f"it answers {status}")
        more = f" ({detail})" if detail.isprintable() and detail and "<" not in detail else ""
        raise Refused(f"enrolment: {self._where}: {explanation}{more}")


def _certificates(body: bytes) -> list[x509.Certificate]:
    try:
        bundle = load_der_pkcs7_certificates(
            base64.b64decode(b"".join(body.split()), validate=True)
        )
        return [one for raw in bundle for one in certificates(raw.public_bytes(Encoding.DER))]
    except NO_CERTIFICATES as error:
        raise Refused(f"enrolment: the answer holds no certificates: {error}") from error
