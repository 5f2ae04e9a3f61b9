"""Checks that this gateway's certificate can sign files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.clock import seconds
from agent.core.errors import Refused, UplinkLost
from agent.enrolment import credential
from agent.enrolment.judge import uses
from agent.enrolment.tls import doubt

if TYPE_CHECKING:
    from agent.uplink.base import GatewayFacts


def may_sign(facts: GatewayFacts) -> None:
    """Raise UplinkLost unless this gateway has a certificate that can sign files."""
    if facts.credential is None:
        raise UplinkLost(
            "this gateway has no certificate, so it cannot sign files. Get one: gardien key enroll"
        )
    try:
        own = credential.load(facts.credential.parent).certificate
    except Refused as error:
        raise UplinkLost(str(error)) from error
    if problem := doubt(facts.credential, facts.gateway, seconds()):
        raise UplinkLost(problem)
    if "files" not in uses(own):
        raise UplinkLost(
            "the certificate cannot sign files. The CA must issue it with the extended key usages"
            " clientAuth and emailProtection"
        )
