"""TLS to the platform: who it must prove to be, who we prove to be, and what went wrong in words.

There is no way to switch the verification off.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from agent.clock import BUILT, stamp
from agent.enrolment.credential import load
from agent.enrolment.judge import unfit, untimely
from agent.errors import Refused, UplinkLost

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NOT_YET, EXPIRED = 9, 10
"""X509_V_ERR_CERT_NOT_YET_VALID, …_HAS_EXPIRED (openssl/x509_vfy.h)"""
UNKNOWN_CA = {18, 19, 20, 21}
NO_CERTIFICATE = "it wants a certificate of this gateway: `gardien key enroll`"
ALERTS: Mapping[str, str] = {
    "CERTIFICATE_REQUIRED": NO_CERTIFICATE,
    "CERTIFICATE_EXPIRED": "our certificate has expired, by its clock",
    "CERTIFICATE_REVOKED": "our certificate was revoked",
    "CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "BAD_CERTIFICATE": "it does not accept our certificate",
    "UNSUPPORTED_CERTIFICATE": "our certificate is not for this use",
    "UNKNOWN_CA": "it does not know who issued our certificate",
    "ACCESS_DENIED": "it does not let this gateway in",
    "HANDSHAKE_FAILURE": "it wants another kind of TLS, or a certificate of this gateway",
    "PROTOCOL_VERSION": "it wants another version of TLS",
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port",
}
"""what the far side says in a TLS alert (RFC 8446, 6.2), by its name in OpenSSL's words"""


def context(ca: Path | None, credential: Path | None) -> ssl.SSLContext:
    """How to meet the far side: its CA (the system's where None), our key and certificates.

    `credential` may be missing: then we prove nothing, and it is for the far side to mind. Raises
    UplinkLost where a file cannot be used.
    """
    try:
        made = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise UplinkLost(f"ca: {ca} cannot be used: {_reason(error)}") from error
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    # what Python 3.13 does by itself: a CA is one only if it says so in a critical extension
    made.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    if credential is not None and credential.exists():
        try:
            made.load_cert_chain(credential)
        except (OSError, ssl.SSLError) as error:
            raise UplinkLost(f"{credential} cannot be used: {_reason(error)}") from error
    return made


def doubt(credential: Path | None, gateway: str, now: float) -> str:
    """What is known to be wrong with our own certificate, in words; empty if nothing is.

    Raises UplinkLost where it is not this gateway's at all.
    """
    if credential is None:
        return ""
    try:
        certificate = load(credential.parent).certificate
    except Refused as error:
        return str(error)
    if problem := unfit(certificate, gateway):
        raise UplinkLost(problem)  # whatever the far side says, it would be in another's name
    return untimely(certificate, now)


def explain(error: BaseException, host: str, now: float) -> str:
    """Why TLS with a host failed, in words; `now`: of the wall clock."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{host} does not prove who it is: {_unproved(error, host, now)}"
    if isinstance(error, ssl.SSLError):
        return refusal(str(error.reason or error), host)
    perhaps = "; does it speak TLS on this port?" if isinstance(error, ConnectionResetError) else ""
    return f"{host}: {_reason(error)}{perhaps}"


def refusal(reason: str, host: str) -> str:
    """What a host's alert means, from OpenSSL's words for it; empty if it is none we know."""
    name = reason.upper().replace(" ", "_")
    for alert, explanation in ALERTS.items():
        if alert in name:
            return (
                f"{host} refuses us: {explanation}" if "ALERT" in name else f"{host}: {explanation}"
            )
    return f"{host}: TLS failed: {reason}"


def _unproved(error: ssl.SSLCertVerificationError, host: str, now: float) -> str:
    if error.verify_code in UNKNOWN_CA:
        return "its certificate was issued by nobody we trust: is `ca:` the right file?"
    if error.verify_code == NOT_YET or (error.verify_code == EXPIRED and now < BUILT):
        return (
            "its certificate is not valid yet, and this gateway believes it is"
            f" {stamp(now)[:10]}: is the clock right? `gardien doctor` says"
        )
    if error.verify_code == EXPIRED:
        return f"its certificate has expired; this gateway believes it is {stamp(now)[:10]}"
    if "ostname mismatch" in error.verify_message or "IP address mismatch" in error.verify_message:
        return f"its certificate is for another name than {host}: is the url right?"
    return error.verify_message


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or error)
