"""Whether a certificate is this gateway's and good for what it is used for. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.clock import BUILT, stamp

if TYPE_CHECKING:
    from datetime import timedelta

DAY = 86_400
ALARMS = (14, 3)
"""days before the end at which somebody is told, ever more loudly"""


def subject(certificate: x509.Certificate) -> str:
    """Whose it is: its common name; empty where it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def uses(certificate: x509.Certificate) -> frozenset[str]:
    """What it may be used for, of `tls` and `files`; without a word on it, for both."""
    known = {
        ExtendedKeyUsageOID.CLIENT_AUTH: {"tls"},
        ExtendedKeyUsageOID.EMAIL_PROTECTION: {"files"},
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: {"tls", "files"},
    }
    try:
        named = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return frozenset({"tls", "files"})
    return frozenset(use for oid in named for use in known.get(oid, ()))


def unfit(certificate: x509.Certificate, gateway: str) -> str:
    """Why it can never speak for this gateway, in words; empty if it can."""
    if (whose := subject(certificate)) != gateway:
        return (
            f'the certificate is for "{whose}", and this gateway is {gateway}:'
            " ask for one by the request of this gateway (`gardien key csr`)"
        )
    if "tls" not in uses(certificate):
        return (
            "the certificate is not for TLS clients: the CA must issue it with the extended key"
            " usages clientAuth and emailProtection"
        )
    return ""


def untimely(certificate: x509.Certificate, now: float) -> str:
    """Why it does not hold at this moment, in words; empty if it does. `now`: of the wall clock."""
    begin, end = begins(certificate), ends(certificate)
    if now < begin:
        return (
            f"the certificate is not valid before {stamp(begin)}, and this gateway believes it is"
            f" {_moment(now)}{CLOCK if now < BUILT else ''}"
        )
    if now > end:
        return (
            f"the certificate ended at {stamp(end)}, and this gateway believes it is {_moment(now)}"
        )
    return ""


CLOCK = ": its clock has lost the time (flat battery?); see `gardien doctor`"


def begins(certificate: x509.Certificate) -> float:
    """From when it holds: seconds since 1970."""
    return certificate.not_valid_before_utc.timestamp()


def ends(certificate: x509.Certificate) -> float:
    """Until when it holds: seconds since 1970."""
    return certificate.not_valid_after_utc.timestamp()


def days_left(certificate: x509.Certificate, now: float) -> int:
    """Whole days until its end; negative once it is over."""
    return int((ends(certificate) - now) // DAY)


def alarm(certificate: x509.Certificate, now: float) -> str:
    """What somebody must be told of its end; empty while there is time."""
    if problem := untimely(certificate, now):
        return problem
    left = days_left(certificate, now)
    if left < ALARMS[-1]:
        return f"the certificate ends at {stamp(ends(certificate))}: deliveries stop then"
    if left < ALARMS[0]:
        return f"the certificate ends in {left} days and has not been renewed"
    return ""


def validity(certificate: x509.Certificate, now: float) -> str:
    """How long it holds, in words: `valid until 2027-02-22, 80 days left`."""
    return untimely(certificate, now) or (
        f"valid until {_day(certificate.not_valid_after_utc)},"
        f" {_spell(certificate.not_valid_after_utc - datetime.fromtimestamp(now, UTC))} left"
    )


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _spell(span: timedelta) -> str:
    if span.days == 1:
        return "1 day"
    return f"{span.days} days" if span.days else f"{span.seconds // 3600} hours"


def _moment(now: float) -> str:
    # a clock without a battery begins in 1970, and its days say nothing
    day = datetime.fromtimestamp(now, UTC)
    return str(day.year) if now < BUILT else _day(day)
