"""What a person asks about the gateway's key and certificate. Synchronous; each raises Refused."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from agent.clock import stamp
from agent.enrolment import credential, judge
from agent.enrolment.credential import Credential
from agent.enrolment.request import request
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from agent.enrolment.est import ApprovalPending, Est
    from agent.enrolment.settings import Enrolment

_alone = Lock()
"""the renewal works in a thread of its own"""


def show(state: Path, gateway: str, now: float) -> dict[str, Any]:
    """The certificate and how long it holds; `certificate` is None where there is none."""
    waits = credential.standing_key(state) is not None
    answer: dict[str, Any] = {"gateway": gateway, "waits": waits, "certificate": None}
    if not credential.path(state).exists():
        return answer
    shown = about(credential.load(state), gateway, now)
    unproved = credential.before(state) is not None
    return answer | {
        "certificate": shown,
        "file": str(credential.path(state)),
        "before": "kept until the new one has worked" if unproved else "",
    }


def about(own: Credential, gateway: str, now: float) -> dict[str, Any]:
    """What is to be known of a certificate, for people and programs."""
    certificate = own.certificate
    return {
        "subject": judge.subject(certificate),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "sha256": certificate.fingerprint(SHA256()).hex(),
        "not_before": stamp(judge.begins(certificate)),
        "not_after": stamp(judge.ends(certificate)),
        "days_left": judge.days_left(certificate, now),
        "uses": sorted(judge.uses(certificate)),
        "chain": len(own.chain),
        "validity": judge.validity(certificate, now),
        "alarm": judge.unfit(certificate, gateway) or judge.alarm(certificate, now),
    }


def csr(state: Path, gateway: str) -> dict[str, Any]:
    """The request for a certificate, of a key that is kept until its certificate comes."""
    with _alone:
        wanted = request(credential.waiting_key(state), gateway)
    return {"gateway": gateway, "csr": wanted.public_bytes(Encoding.PEM).decode()}


def install(state: Path, gateway: str, now: float, text: str) -> dict[str, Any]:
    """Take a certificate (PEM, those of its issuers may follow) that a CA made of our request."""
    offered = credential.certificates(text.encode())
    with _alone:
        keys = [key for key in (credential.standing_key(state), _present(state)) if key]
        for key in keys:
            if own := next((one for one in offered if credential.same_key(one, key)), None):
                return take(state, gateway, now, Credential(key, credential.in_order(own, offered)))
    if not keys:
        raise Refused("this gateway has asked for no certificate yet: `gardien key csr`")
    raise Refused(
        "the certificate belongs to another key: it must be made from the request that"
        " `gardien key csr` shows, on this gateway"
    )


def take(state: Path, gateway: str, now: float, own: Credential) -> dict[str, Any]:
    """Keep a certificate that is this gateway's and not over.

    One that is not valid yet is kept: the clock may be wrong, and it will not be issued twice.
    """
    problem = judge.unfit(own.certificate, gateway)
    if not problem and now > judge.ends(own.certificate):
        problem = judge.untimely(own.certificate, now)
    if problem:
        raise Refused(problem)
    credential.keep(state, own)
    return show(state, gateway, now)


def has_worked(state: Path, installed: int) -> bool:
    """Destroy the key before the certificate of that number; False: there is another by now."""
    with _alone:
        if credential.installed(state) != installed:
            return False
        credential.has_worked(state)
        return True


def go_back(state: Path, installed: int) -> bool:
    """Put the certificate before in the place of the one of that number, which is refused; False:
    there is none, or another by now.
    """
    with _alone:
        return credential.installed(state) == installed and credential.go_back(state)


def enroll(
    state: Path, gateway: str, now: float, settings: Enrolment, token: str
) -> dict[str, Any]:
    """The first certificate, by a one-time token; `wait`: ask again after so many seconds."""
    from agent.enrolment.est import Est  # noqa: PLC0415 -- http.client is 3 MB that few gateways need

    with _alone:
        server, key = Est(settings), credential.waiting_key(state)
        issued = server.enroll(request(key, gateway), gateway, token)
        return _taken(state, gateway, now, key, issued, server)


def renew(state: Path, gateway: str, now: float, settings: Enrolment) -> dict[str, Any]:
    """The next certificate, with a new key, by the present one; `wait` as above."""
    from agent.enrolment.est import Est  # noqa: PLC0415

    with _alone:
        credential.load(state)
        key, server = credential.waiting_key(state), Est(settings, credential.path(state))
        issued = server.reenroll(request(key, gateway))
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
        raise Refused("enrolment: the certificate that came is for another key than ours")
    chain = credential.in_order(own, [*issued, *server.cacerts()])
    return take(state, gateway, now, Credential(key, chain))


def _present(state: Path) -> EllipticCurvePrivateKey | None:
    return credential.load(state).key if credential.path(state).exists() else None
