"""The gateway's key and certificate: calls about them, and renewal from two thirds of its life."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from threading import Lock
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.core.clock import ClockTrust, stamp
from agent.core.errors import Refused
from agent.core.i18n import Text
from agent.core.log_fields import LogEvent, fields
from agent.enrolment import credential
from agent.enrolment.credential import Credential

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from agent.core.clock import Clock
    from agent.enrolment.est import ApprovalPending, Est
    from agent.enrolment.settings import Enrolment

log = logging.getLogger(__name__)

USES = x509.ExtendedKeyUsage(
    [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION]
)
SIGNS = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)

_lock = Lock()
"""the automatic renewal runs in another thread"""
SPREAD = 1 / 18
"""share of its life, 5 of 90 days: gateways enrolled together must not renew together"""
AGAIN = 86_400.0
LONGEST_UNPROVED = 30 * 86_400.0
"""seconds for which the previous certificate is kept if no platform accepts the new one"""
LOOK = 3600.0
"""seconds between two checks"""


def show(state: Path, gateway: str, now: float) -> dict[str, Any]:
    """The certificate and its validity; `certificate` is None if there is none."""
    waits = credential.standing_key(state) is not None
    answer: dict[str, Any] = {"gateway": gateway, "waits": waits, "certificate": None}
    if not credential.path(state).exists():
        return answer
    shown = about(credential.load(state), gateway, now)
    unproved = credential.before(state) is not None
    return answer | {
        "certificate": shown,
        "file": str(credential.path(state)),
        "before": Text("kept until the new one has worked") if unproved else "",
    }


def about(own: Credential, gateway: str, now: float) -> dict[str, Any]:
    """Details of a certificate, for people and programs."""
    certificate = own.certificate
    return {
        "subject": credential.subject(certificate),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "sha256": certificate.fingerprint(SHA256()).hex(),
        "not_before": stamp(credential.begins(certificate)),
        "not_after": stamp(credential.ends(certificate)),
        "days_left": credential.days_left(certificate, now),
        "uses": sorted(credential.uses(certificate)),
        "chain": len(own.chain),
        "validity": credential.validity(certificate, now),
        "alarm": credential.unfit(certificate, gateway) or credential.alarm(certificate, now),
    }


def csr(state: Path, gateway: str) -> dict[str, Any]:
    """A certificate signing request; its key is kept until the certificate arrives."""
    with _lock:
        signing_request = _request(credential.waiting_key(state), gateway)
    return {"gateway": gateway, "csr": signing_request.public_bytes(Encoding.PEM).decode()}


def install(state: Path, gateway: str, now: float, text: str) -> dict[str, Any]:
    """Install a certificate (PEM, its issuers' may follow) that a CA issued for our request."""
    offered = credential.certificates(text.encode())
    with _lock:
        keys = [key for key in (credential.standing_key(state), _present_key(state)) if key]
        for key in keys:
            if own := next((one for one in offered if credential.same_key(one, key)), None):
                return take(state, gateway, now, Credential(key, credential.in_order(own, offered)))
    if not keys:
        raise Refused(
            "this gateway has not requested a certificate yet. Make a request: gardien key csr"
        )
    raise Refused(
        "nothing was installed: this certificate of {owner} belongs to another key, and this"
        " gateway is {gateway}. Have the CA sign the request of this gateway: gardien key csr",
        owner=credential.subject(offered[0]) or Text("nobody"),
        gateway=gateway,
    )


def take(state: Path, gateway: str, now: float, own: Credential) -> dict[str, Any]:
    """Store a certificate that is for this gateway and has not expired.

    One that is not valid yet is stored as well: the clock may be wrong, and the CA will not issue
    it twice.
    """
    problem = credential.unfit(own.certificate, gateway)
    if not problem and now > credential.ends(own.certificate):
        problem = credential.untimely(own.certificate, now)
    if problem:
        raise Refused(problem)
    credential.keep(state, own)
    return show(state, gateway, now)


def has_worked(state: Path, installed: int) -> bool:
    """Destroy the previous key if certificate `installed` is still in use; returns
    whether it is.
    """
    with _lock:
        if credential.installed(state) != installed:
            return False
        credential.has_worked(state)
        return True


def go_back(state: Path, installed: int) -> bool:
    """Replace certificate `installed`, which is refused, with the previous one.

    Returns False if there is no previous one, or if another certificate is in use by now.
    """
    with _lock:
        return credential.installed(state) == installed and credential.go_back(state)


def enroll(
    state: Path, gateway: str, now: float, settings: Enrolment, token: str
) -> dict[str, Any]:
    """Enrol for the first certificate with a one-time token; `wait`: seconds until the next try."""
    from agent.enrolment.est import Est  # noqa: PLC0415 -- an HTTP client costs memory that few gateways need

    with _lock:
        server, key = Est(settings), credential.waiting_key(state)
        issued = server.enroll(_request(key, gateway), gateway, token)
        return _taken(state, gateway, now, key, issued, server)


def renew(state: Path, gateway: str, now: float, settings: Enrolment) -> dict[str, Any]:
    """Renew the certificate with a new key; the present one authenticates. `wait`: as above."""
    from agent.enrolment.est import Est  # noqa: PLC0415

    with _lock:
        credential.load(state)
        key, server = credential.waiting_key(state), Est(settings, credential.path(state))
        issued = server.reenroll(_request(key, gateway))
        return _taken(state, gateway, now, key, issued, server)


def _taken(  # noqa: PLR0913, PLR0917 -- one step of two calls
    state: Path,
    gateway: str,
    now: float,
    key: EllipticCurvePrivateKey,
    issued: Sequence[x509.Certificate] | ApprovalPending,
    server: Est,
) -> dict[str, Any]:
    from agent.enrolment.est import ApprovalPending  # noqa: PLC0415

    if isinstance(issued, ApprovalPending):
        return {"gateway": gateway, "wait": issued.seconds}
    own = next((one for one in issued if credential.same_key(one, key)), None)
    if own is None:
        raise Refused(
            "enrolment: the server issued a certificate for another key: ask its operator"
        )
    chain = credential.in_order(own, [*issued, *server.cacerts()])
    return take(state, gateway, now, Credential(key, chain))


def _present_key(state: Path) -> EllipticCurvePrivateKey | None:
    return credential.load(state).key if credential.path(state).exists() else None


def _request(key: EllipticCurvePrivateKey, gateway: str) -> x509.CertificateSigningRequest:
    """A signing request (PKCS #10) for the common name `gateway`, signed with `key`."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, gateway)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    builder = builder.add_extension(USES, critical=False).add_extension(SIGNS, critical=True)
    return builder.sign(key, SHA256())


def due(certificate: x509.Certificate, gateway: str) -> float:
    """When to renew, in seconds since 1970: after two thirds of its life, plus a delay that depends
    on the gateway's id. Pure.
    """
    begin, life = (
        credential.begins(certificate),
        credential.ends(certificate) - credential.begins(certificate),
    )
    draw = int.from_bytes(hashlib.sha256(gateway.encode()).digest()[4:8], "big") / 2**32
    return begin + life * (2 / 3 + draw * SPREAD)


async def keep_valid(
    state: Path, gateway: str, clock: Clock, settings: Callable[[], Enrolment | None]
) -> None:
    """Renew the certificate in time if an EST server is configured, and log its expiry; for ever.

    Transports read the file at each opening. If a key waits for a certificate beside the present
    one, a person has asked for it (`gardien key rotate`), and its enrolment is continued.
    """
    reported, next_try = "", 0.0
    while True:
        reported = _log_problem(state, gateway, clock.now(), reported)
        await asyncio.to_thread(_destroy_previous, state, clock)
        server = settings()
        # with a wrong clock every certificate seems due or expired
        ready = server is not None and clock.trust is not ClockTrust.UNTRUSTED
        if server and ready and clock.steady() >= next_try and _is_due(state, gateway, clock.now()):
            wait = await asyncio.to_thread(_renew, state, gateway, clock.now(), server)
            next_try = clock.steady() + wait
        await asyncio.sleep(LOOK)


def _is_due(state: Path, gateway: str, now: float) -> bool:
    try:
        own = credential.load(state).certificate
        return now >= due(own, gateway) or credential.standing_key(state) is not None
    except Refused:
        return False  # there is no certificate yet, and the first one needs a person and a token


def _destroy_previous(state: Path, clock: Clock) -> None:
    installed, previous = credential.installed(state), credential.before(state)
    if previous is None or clock.trust is ClockTrust.UNTRUSTED:
        return
    age = clock.now() - installed / 1e9
    over = age > LONGEST_UNPROVED or clock.now() > credential.ends(previous.certificate)
    if over and has_worked(state, installed):
        log.warning(
            "the previous key is destroyed",
            extra=fields(LogEvent.CERTIFICATE_RENEWED),
        )


def _renew(state: Path, gateway: str, now: float, settings: Enrolment) -> float:
    """Try to renew; returns seconds until the next try."""
    try:
        answer = renew(state, gateway, now, settings)
    except Refused as error:
        log.error(  # noqa: TRY400 -- no bug
            "the certificate could not be renewed and is tried again tomorrow: %s", error,
            extra=fields(LogEvent.CERTIFICATE_PROBLEM),
        )  # fmt: skip
        return AGAIN
    if "wait" in answer:
        log.warning(
            "the new certificate waits for approval by the CA",
            extra=fields(LogEvent.CERTIFICATE_PENDING),
        )
        return float(answer["wait"])
    log.warning(
        "the certificate is renewed: %s", answer["certificate"]["validity"],
        extra=fields(LogEvent.CERTIFICATE_RENEWED),
    )  # fmt: skip
    return AGAIN


def _log_problem(state: Path, gateway: str, now: float, reported: str) -> str:
    try:
        own = credential.load(state).certificate
    except Refused:
        return ""
    problem = credential.unfit(own, gateway) or credential.alarm(own, now)
    if problem and problem != reported:
        log.error("%s", problem, extra=fields(LogEvent.CERTIFICATE_PROBLEM))
    return problem
