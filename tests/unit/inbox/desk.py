"""A inbox with a real registry, clock, book and chain, in a folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from agent.core.clock import Clock, ClockEvidence
from agent.inbox.registry_adapter import RegistryAdapter
from agent.inbox.setup import open_inbox, open_notes
from agent.registry import identity
from agent.registry.consent_policy import policy
from agent.registry.inputs import NewPlace
from agent.registry.registry import Registry
from agent.trust.audit import FOLDER, segments
from agent.trust.sign import Signer, trust_list
from agent.trust.trust_list import TrustSettings
from tests.unit.trust import objects
from tests.unit.trust.objects import DAY, NOW, SIGNERS, new_jti

BUILDING = "B6ASQZ1Y2KSAA3Y"
ROOTS = [Signer.new("racine 1"), Signer.new("racine 2"), Signer.new("racine 3")]


class Here:
    """See the module."""

    def __init__(self, state: Any, *, kept: bool = True, threshold: int = 2) -> None:
        self.state, self.wall, self.kept = state, float(NOW), kept
        self.stack = contextlib.ExitStack()
        if not (state / identity.KEYS).exists():
            identity.mint(state)
        self.who, self.moved = identity.bind(state, "machine")
        self.clock = Clock(
            "ntp", state / "clock.json", lambda: self.wall, lambda: self.wall - NOW + 1000,
            lambda: ClockEvidence(kernel=self.kept, touched=None), lambda: None,
        )  # fmt: skip
        self.registry = Registry.open(state / "registry.json")
        self.notes = open_notes(state, self.clock, self.who, moved=self.moved)
        papers = RegistryAdapter(self.registry, policy("FR-1"))
        self.inbox = self.stack.enter_context(
            open_inbox(
                state, self.who, BUILDING, TrustSettings(threshold=threshold), papers, self.clock,
                self.notes,
            )
        )  # fmt: skip

    def trust(self, **changed: Any) -> bytes:
        """A list of everybody there is."""
        keys = [
            {
                "kid": one.kid, "jwk": dict(one.key.jwk), "role": role, "name": one.name,
                "scope": {}, "nbf": NOW - DAY, "exp": NOW + 300 * DAY,
            }
            for role, one in SIGNERS.items() if role != "root"
        ]  # fmt: skip
        said = {
            "ver": 1, "iss": "Métropole", "iat": NOW - DAY, "exp": NOW + 300 * DAY,
            "roots": [root.public_jwk() for root in ROOTS], "threshold": 2, "keys": keys, **changed,
        }  # fmt: skip
        return trust_list(json.dumps(said), ROOTS[:2])

    def believed(self) -> Here:
        """With the list accepted."""
        from agent.trust.trust_list import read

        raw = self.trust()
        self.inbox.renew_trust(raw, read(raw).sha256)
        return self

    def place(self, label: str = "A-3-12", *, occupied: bool = False) -> str:
        """A dwelling."""
        (made,) = self.registry.add_places(
            [NewPlace(label, "dwelling", since=NOW - 100 * DAY, occupied=occupied)],
            "gerant", "test", NOW,
        )  # fmt: skip
        return made.id

    def accept(self, raw: bytes, via: str = "metropole") -> dict[str, Any]:
        """What becomes of an object."""
        return asyncio.run(self.inbox.accept(raw, via))

    def signed(self, typ: str, by: str | None = None, **changed: Any) -> bytes:
        """A right object for this gateway."""
        if "aud" in objects.RIGHT[typ][1] and "aud" not in changed:
            changed["aud"] = self.inbox.audience.exact
        return objects.signed(typ, by, **changed)

    def records(self, type_: str = "") -> list[dict[str, Any]]:
        """What was written down."""
        lines = [
            json.loads(line)
            for file in segments(self.state / FOLDER)
            for line in file.read_bytes().splitlines()
        ]
        return [line for line in lines if type_ in ("", line["type"])]

    def close(self) -> None:
        """Let go of the folder."""
        self.stack.close()


__all__ = ["BUILDING", "DAY", "NOW", "ROOTS", "SIGNERS", "Here", "new_jti"]
