"""Prove a new certificate: it works once each uplink has received a receipt over it.

Until then the previous certificate is kept, and used again if a platform refuses the new one.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import sleep
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256

from agent.core.errors import CertificateRefused, UplinkLost
from agent.core.log_fields import LogEvent, fields
from agent.enrolment import calls, credential, judge

if TYPE_CHECKING:
    from pathlib import Path

    from agent.gateway.gateway import Gateway, Recipient

log = logging.getLogger(__name__)

LOOK = 1.0
"""seconds between two checks for a new certificate or a receipt"""
REFUSALS = 2
"""refusals in a row before the previous certificate is used again: some platforms hang up without
a reason
"""
WENT_BACK = (
    "a platform refuses the new certificate, so the previous one is in use again. Have the new key"
    " certified (gardien key csr), then run: gardien key install, or gardien key renew"
)


class Proving:
    """Evidence from one uplink that the present certificate works."""

    def __init__(self, gateway: Gateway, recipient: Recipient) -> None:
        self._gateway, self._recipient = gateway, recipient
        self._state = gateway.config.state
        self._shown = self._settled = self._refusals = 0

    def opening(self) -> None:
        """Note which certificate the next connection uses."""
        # refusals of the certificate before do not count against the new one
        if (shown := credential.installed(self._state)) != self._shown:
            self._shown, self._refusals = shown, 0
        # receipts up to now came over earlier connections, and prove nothing of this certificate
        self._settled = self._recipient.delivery.settled

    async def lost(self, error: UplinkLost) -> None:
        """Return to the previous certificate if the platform keeps refusing the new one."""
        refused = isinstance(error, CertificateRefused)
        self._refusals = self._refusals + 1 if refused else 0
        previous = credential.before(self._state) if self._refusals >= REFUSALS else None
        # an expired previous certificate would be refused as well
        if previous is None or judge.ends(previous.certificate) < self._gateway.clock.now():
            return
        self._refusals, sha256 = 0, _sha256(self._state)
        if await asyncio.to_thread(calls.go_back, self._state, self._shown):
            self._gateway.certificate_said = WENT_BACK
            self._gateway.audit("certificate.back", {"sha256": sha256})
            log.error(
                "uplink %s refuses the new certificate (%s): the previous one is used again",
                self._recipient.name, error,
                extra=fields(LogEvent.CERTIFICATE_PROBLEM, **self._recipient.names),
            )  # fmt: skip

    async def watch(self) -> None:
        """Record when the certificate has worked on this uplink; runs for ever.

        Raises UplinkLost when a newer certificate is installed than the connection uses.
        """
        gateway = self._gateway
        while True:
            await sleep(LOOK)
            if not (self._state / credential.BEFORE).exists():
                continue
            if (own := credential.installed(self._state)) != self._shown:
                raise UplinkLost("a new certificate is installed: reconnecting with it")
            if self._recipient.delivery.settled == self._settled:
                continue
            gateway.proved[self._recipient.name] = own
            everywhere = all(gateway.proved.get(name) == own for name in gateway.config.uplinks)
            if everywhere and await asyncio.to_thread(calls.has_worked, self._state, own):
                gateway.certificate_said = ""
                gateway.audit("certificate.worked", {"sha256": _sha256(self._state)})
                log.warning(
                    "the new certificate works: the previous key is destroyed",
                    extra=fields(LogEvent.CERTIFICATE_RENEWED),
                )


def _sha256(state: Path) -> str:
    return credential.load(state).certificate.fingerprint(SHA256()).hex()
