"""TLS to the platform: verification on both sides, and explanations of its errors.

Verification cannot be switched off.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.core.clock import BUILT
from agent.core.errors import CertificateRefused, Refused, UplinkLost
from agent.core.i18n import N_, Text, text_of
from agent.enrolment.credential import load, unfit, untimely

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NOT_YET, EXPIRED = 9, 10
"""X509_V_ERR_CERT_NOT_YET_VALID, …_HAS_EXPIRED (openssl/x509_vfy.h)"""
UNKNOWN_CA = {18, 19, 20, 21}
UNKNOWN_ISSUER = N_("its certificate was issued by an unknown CA")
NO_CERTIFICATE = Text("it requires a certificate of this gateway. Get one: gardien key enroll")
ALERTS: Mapping[str, str] = {
    "CERTIFICATE_REQUIRED": NO_CERTIFICATE,
    "CERTIFICATE_EXPIRED": Text("our certificate has expired according to its clock"),
    "CERTIFICATE_REVOKED": Text("our certificate was revoked"),
    "CERTIFICATE_UNKNOWN": Text("it does not accept our certificate"),
    "BAD_CERTIFICATE": Text("it does not accept our certificate"),
    "UNSUPPORTED_CERTIFICATE": Text("our certificate is not for this use"),
    "UNKNOWN_CA": Text("it does not know the issuer of our certificate"),
    "ACCESS_DENIED": Text("it does not let this gateway in"),
    "HANDSHAKE_FAILURE": Text("it requires another kind of TLS, or a certificate of this gateway"),
    "PROTOCOL_VERSION": Text("it requires another version of TLS"),
    "WRONG_VERSION_NUMBER": Text("it does not speak TLS on this port"),
}
"""meaning of the server's TLS alerts (RFC 8446, 6.2), by OpenSSL's name of the alert"""


def context(ca: Path | None, credential: Path | None) -> ssl.SSLContext:
    """A TLS context with the server's CA (None: the system's), our key and certificates.

    The file `credential` may be missing; then the server decides whether it accepts us. Raises
    UplinkLost if a file cannot be used.
    """
    try:
        made = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise UplinkLost(
            "ca: {ca} cannot be used: {reason}", ca=ca, reason=_reason(error)
        ) from error
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    # as Python 3.13 does by default: a CA certificate must have the critical CA extension
    made.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    if credential is not None and credential.exists():
        try:
            made.load_cert_chain(credential)
        except (OSError, ssl.SSLError) as error:
            raise UplinkLost(
                "{credential} cannot be used: {reason}",
                credential=credential,
                reason=_reason(error),
            ) from error
    return made


def doubt(credential: Path | None, gateway: str, now: float) -> str:
    """What is wrong with our own certificate; empty: nothing.

    Raises UplinkLost if it is not for this gateway.
    """
    if credential is None:
        return ""
    try:
        certificate = load(credential.parent).certificate
    except Refused as error:
        return text_of(error)
    if problem := unfit(certificate, gateway):
        raise UplinkLost(
            problem
        )  # even if the server accepted it, we would send under another name
    return untimely(certificate, now)


def explain(error: BaseException, host: str, now: float) -> Text:
    """Why TLS with a host failed; `now`: wall clock."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Text(
            "{host} could not be authenticated: {unproved}",
            host=host,
            unproved=_unproved(error, host, now),
        )
    if isinstance(error, ssl.SSLError):
        return refusal(str(error.reason or error), host)
    perhaps = (
        Text("; does it speak TLS on this port?") if isinstance(error, ConnectionResetError) else ""
    )
    return Text("{host}: {reason}{perhaps}", host=host, reason=_reason(error), perhaps=perhaps)


def refusal(reason: str, host: str) -> Text:
    """The meaning of a host's alert, from OpenSSL's text for it."""
    name = _openssl_name(reason)
    for alert, explanation in ALERTS.items():
        if alert in name:
            return (
                Text("{host} refuses us: {explanation}", host=host, explanation=explanation)
                if refuses(reason)
                else Text("{host}: {reason}", host=host, reason=Text(explanation))
            )
    return Text("{host}: TLS failed: {reason}", host=host, reason=reason)


def refuses(reason: str) -> bool:
    """Whether OpenSSL's text for an error is a known alert of the host."""
    name = _openssl_name(reason)
    # an alert is what the host says of us; without it we ended the handshake ourselves
    return "ALERT" in name and any(alert in name for alert in ALERTS)


def lost(error: BaseException) -> type[UplinkLost]:
    """The class of the error to raise when TLS with a host failed."""
    if isinstance(error, ssl.SSLCertVerificationError) or not isinstance(error, ssl.SSLError):
        return UplinkLost
    return CertificateRefused if refuses(str(error.reason or error)) else UplinkLost


def _openssl_name(reason: str) -> str:
    return reason.upper().replace(" ", "_")


def _unproved(error: ssl.SSLCertVerificationError, host: str, now: float) -> str:
    if error.verify_code in UNKNOWN_CA:
        return Text(UNKNOWN_ISSUER)
    if error.verify_code == NOT_YET or (error.verify_code == EXPIRED and now < BUILT):
        return Text(
            "its certificate is not valid yet, and the clock of this gateway says {stamp}:"
            " is that right? See: gardien doctor",
            stamp=datetime.fromtimestamp(now, UTC).date(),
        )
    if error.verify_code == EXPIRED:
        return Text(
            "its certificate has expired; the clock of this gateway says {stamp}",
            stamp=datetime.fromtimestamp(now, UTC).date(),
        )
    if "ostname mismatch" in error.verify_message or "IP address mismatch" in error.verify_message:
        return Text("its certificate is for another name than {host}: is `url` right?", host=host)
    return error.verify_message


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or error)
