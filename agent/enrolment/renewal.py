"""Automatic renewal of the certificate: from two thirds of its life, daily until it succeeds."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING

from agent.core.clock import ClockTrust
from agent.core.errors import Refused
from agent.core.log_fields import LogEvent, fields
from agent.enrolment import calls, credential, judge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography import x509

    from agent.core.clock import Clock
    from agent.enrolment.settings import Enrolment

log = logging.getLogger(__name__)

SPREAD = 1 / 18
"""share of its life, 5 of 90 days: gateways enrolled together must not renew together"""
AGAIN = 86_400.0
LONGEST_UNPROVED = 30 * 86_400.0
"""seconds for which the previous certificate is kept if no platform accepts the new one"""
LOOK = 3600.0
"""seconds between two checks"""


def due(certificate: x509.Certificate, gateway: str) -> float:
    """When to renew, in seconds since 1970: after two thirds of its life, plus a delay that depends
    on the gateway's id. Pure.
    """
    begin, life = judge.begins(certificate), judge.ends(certificate) - judge.begins(certificate)
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
    over = age > LONGEST_UNPROVED or clock.now() > judge.ends(previous.certificate)
    if over and calls.has_worked(state, installed):
        log.warning(
            "the previous key is destroyed",
            extra=fields(LogEvent.CERTIFICATE_RENEWED),
        )


def _renew(state: Path, gateway: str, now: float, settings: Enrolment) -> float:
    """Try to renew; returns seconds until the next try."""
    try:
        answer = calls.renew(state, gateway, now, settings)
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
    problem = judge.unfit(own, gateway) or judge.alarm(own, now)
    if problem and problem != reported:
        log.error("%s", problem, extra=fields(LogEvent.CERTIFICATE_PROBLEM))
    return problem
