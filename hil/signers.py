"""The people around a building with their keys: root, centre, manager, operator, assembly.

Their keys are drawn anew each time; what they sign is what a trust list, a grant and an order are.
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agent.trust.sign import Signer, new_jti, trust_list

if TYPE_CHECKING:
    from collections.abc import Sequence

CENTRE = "energie.metropole.example"
GRANTING = {
    "building_manager": "Syndic Dupont",
    "boiler_operator": "Chaleur & Fils",
    "residents_council": "Conseil syndical",
}
YEAR = 365 * 86_400


@dataclass
class Signers:
    """Everybody who signs something."""

    root: Signer = field(default_factory=lambda: Signer.new("Racine"))
    centre: Signer = field(default_factory=lambda: Signer.new(CENTRE))
    people: dict[str, Signer] = field(
        default_factory=lambda: {role: Signer.new(name) for role, name in GRANTING.items()}
    )
    stranger: Signer = field(default_factory=lambda: Signer.new(CENTRE))
    """says that it is the centre, and is not"""
    _count: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def trust(self) -> bytes:
        """Say who counts."""
        now = int(time.time())
        roles = {"grid_operator": self.centre, **self.people}
        keys = [
            {"kid": one.kid, "jwk": dict(one.key.jwk), "role": role, "name": one.name, "scope": {},
             "nbf": now - 86_400, "exp": now + YEAR}
            for role, one in roles.items()
        ]  # fmt: skip
        said = {
            "ver": 1, "iss": "Métropole", "iat": now - 60, "exp": now + YEAR,
            "roots": [self.root.public_jwk()], "threshold": 1, "keys": keys,
        }  # fmt: skip
        return trust_list(json.dumps(said), [self.root])

    def grant(
        self, role: str, gateway: str, what: tuple[str, str] = ("heating", "offset"), **limits: Any
    ) -> bytes:
        """A standing word of one role."""
        now, by = int(time.time()), self.people[role]
        said = {
            "iss": by.name, "jti": new_jti(now), "iat": now, "nbf": now - 60, "exp": now + YEAR,
            "aud": gateway, "sub": self.centre.name, "role": role,
            "scope": {"assets": [f"kind:{what[0]}"], "acts": [what[1]]}, "lim": limits,
            "evid": {"kind": "vote", "ref": "AG, résolution 14", "date": "2026-05-12",
                     "sha256": "0" * 64},
        }  # fmt: skip
        return by.sign("dr-grant+jwt", said)

    def order(
        self,
        audience: str,
        targets: Sequence[str],
        value: str,
        seconds: int,
        by: Signer | None = None,
        **more: Any,
    ) -> bytes:
        """An order of the centre, or of who pretends to be it."""
        now = int(time.time())
        cmd = {"act": "offset", "tgt": list(targets), "val": Decimal(value), "unit": "K",
               "dur": f"PT{seconds}S", **more}  # fmt: skip
        said = {
            "iss": CENTRE, "jti": new_jti(now), "iat": now, "exp": now + 600, "aud": audience,
            "seq": next(self._count), "cmd": cmd, "why": "la pointe de 18 h",
        }  # fmt: skip
        return (by or self.centre).sign("dr-command+jwt", said)
