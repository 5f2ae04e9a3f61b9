"""Whether a new certificate works: once each uplink has had a receipt over a connection with it.

Until then the one before is kept, and is used again where a platform refuses the new one.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import sleep
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256

from agent.enrolment import calls, credential, judge
from agent.errors import UplinkLost
from agent.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from pathlib import Path

    from agent.gateway import Gateway, Recipient

log = logging.getLogger(__name__)

LOOK = 1.0
"""seconds between two looks for a new certificate, or for a receipt"""
REFUSALS = 2
"""attempts in a row that a platform refuses before the certificate before is used again: some hang
up without a word
"""
REFUSED = ("refuses us", "refuses our certificate", "does not let this gateway in")
"""what transports say where it may be the certificate"""
WENT_BACK = (
    "a platform refuses the new certificate, and the one before is in use again: once the platform"
    " knows the new key (`gardien key csr`), `gardien key install` or `gardien key renew`"
)


class Proving:
    """What one uplink shows of the present certificate."""

    def __init__(self, house: Gateway, outlet: Recipient) -> None:
        self._house, self._outlet = house, outlet
        self._state = house.config.state
        self._shown = self._settled = self._refusals = 0

    def opening(self) -> None:
        """Note what the next connection shows."""
        if (shown := credential.installed(self._state)) != self._shown:
            self._shown, self._refusals = shown, 0
        self._settled = self._outlet.delivery.settled

    async def lost(self, words: str) -> None:
        """Use the certificate before again where the far side keeps refusing a new one."""
        refused = any(one in words for one in REFUSED)
        self._refusals = self._refusals + 1 if refused else 0
        found = credential.before(self._state) if self._refusals >= REFUSALS else None
        if found is None or judge.ends(found.certificate) < self._house.clock.now():
            return
        self._refusals, sha256 = 0, _sha256(self._state)
        if await asyncio.to_thread(calls.go_back, self._state, self._shown):
            self._house.certificate_said = WENT_BACK
            self._house.audit("certificate.back", {"sha256": sha256})
            log.error(
                "uplink %s refuses the new certificate (%s): back to the one before",
                self._outlet.name, words,
                extra=fields(LogEvent.CERTIFICATE_PROBLEM, **self._outlet.names),
            )  # fmt: skip

    async def watch(self) -> None:
        """Tell when the certificate has worked here; for ever. Raises UplinkLost where the
        connection shows another one than it would now.
        """
        house = self._house
        while True:
            await sleep(LOOK)
            if not (self._state / credential.BEFORE).exists():
                continue
            if (own := credential.installed(self._state)) != self._shown:
                raise UplinkLost("there is a new certificate: it is shown from here on")
            if self._outlet.delivery.settled == self._settled:
                continue
            house.proved[self._outlet.name] = own
            everywhere = all(house.proved.get(name) == own for name in house.config.uplinks)
            if everywhere and await asyncio.to_thread(calls.has_worked, self._state, own):
                house.certificate_said = ""
                house.audit("certificate.worked", {"sha256": _sha256(self._state)})
                log.warning(
                    "the new certificate has worked: the key before is destroyed",
                    extra=fields(LogEvent.CERTIFICATE_RENEWED),
                )


def _sha256(state: Path) -> str:
    return credential.load(state).certificate.fingerprint(SHA256()).hex()
