"""Whether this gateway's certificate is one that files go by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.clock import seconds
from agent.enrolment import credential
from agent.enrolment.judge import uses
from agent.enrolment.tls import doubt
from agent.errors import Refused, UplinkLost

if TYPE_CHECKING:
    from agent.uplink.base import GatewayFacts


def may_sign(station: GatewayFacts) -> None:
    """Raise UplinkLost, in words, unless this gateway has a certificate that files go by."""
    if station.credential is None:
        raise UplinkLost("this gateway has no certificate to sign files with")
    try:
        own = credential.load(station.credential.parent).certificate
    except Refused as error:
        raise UplinkLost(str(error)) from error
    if said := doubt(station.credential, station.gateway, seconds()):
        raise UplinkLost(said)
    if "files" not in uses(own):
        raise UplinkLost(
            "the certificate is not for signing files: the CA must issue it with the extended key"
            " usages clientAuth and emailProtection"
        )
