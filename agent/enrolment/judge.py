"""Checks of a certificate: owner, uses and validity. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.core.clock import BUILT, stamp

if TYPE_CHECKING:
    from datetime import timedelta

DAY = 86_400
ALARMS = (14, 3)
"""days before the end at which a warning and an alarm are raised"""


def subject(certificate: x509.Certificate) -> str:
    """The common name of the owner; empty: it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def uses(certificate: x509.Certificate) -> frozenset[str]:
    """Permitted uses out of `tls` and `files`; without the extension, both."""
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
    """Why this gateway can never use the certificate; empty: it can."""
    if (whose := subject(certificate)) != gateway:
        return (
            f'the certificate is for "{whose}", but this gateway is {gateway}.'
            " Have the request of this gateway signed: gardien key csr"
        )
    if "tls" not in uses(certificate):
        return (
            "the certificate is not for TLS clients. Have the CA issue it with the extended key"
            " usages clientAuth and emailProtection"
        )
    return ""


def untimely(certificate: x509.Certificate, now: float) -> str:
    """Why the certificate is not valid at `now` (wall clock); empty: it is valid."""
    begin, end = begins(certificate), ends(certificate)
    if now < begin:
        return (
            f"the certificate is not valid before {stamp(begin)}, and the clock of this gateway"
            f" says {_moment(now)}{CLOCK if now < BUILT else ''}"
        )
    if now > end:
        return (
            f"the certificate expired at {stamp(end)}; the clock of this gateway says"
            f" {_moment(now)}"
        )
    return ""


CLOCK = ": the clock has lost the time (empty battery?); see: gardien doctor"


def begins(certificate: x509.Certificate) -> float:
    """Start of its validity in seconds since 1970."""
    return certificate.not_valid_before_utc.timestamp()


def ends(certificate: x509.Certificate) -> float:
    """End of its validity in seconds since 1970."""
    return certificate.not_valid_after_utc.timestamp()


def days_left(certificate: x509.Certificate, now: float) -> int:
    """Whole days until it expires; negative after that."""
    return int((ends(certificate) - now) // DAY)


def alarm(certificate: x509.Certificate, now: float) -> str:
    """A warning about its expiry; empty: none is needed yet."""
    if problem := untimely(certificate, now):
        return problem
    left = days_left(certificate, now)
    if left < ALARMS[-1]:
        end = stamp(ends(certificate))
        return f"the certificate expires at {end}, and deliveries stop then: renew it"
    if left < ALARMS[0]:
        return f"the certificate expires in {left} days and has not been renewed"
    return ""


def validity(certificate: x509.Certificate, now: float) -> str:
    """Its validity for people: `valid until 2027-02-22, 80 days left`."""
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
    # a clock without a battery starts in 1970, so only the year is meaningful
    day = datetime.fromtimestamp(now, UTC)
    return str(day.year) if now < BUILT else _day(day)
