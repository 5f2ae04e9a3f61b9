"""A key that may sign: its owner, role, scope and validity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.trust.claim_types import LATEST

if TYPE_CHECKING:
    from agent.trust.key import Key


@dataclass(frozen=True, slots=True)
class Scope:
    """Limits of a key. None: all that its role allows; empty: nothing."""

    buildings: frozenset[str] | None = None
    """ids of buildings or gateways"""
    assets: frozenset[str] | None = None
    """controls by name, or `kind:heating`"""
    kinds: frozenset[str] | None = None
    """types of objects, by typ"""

    def allows(self, typ: str, here: frozenset[str]) -> bool:
        """Whether the key may sign objects of this type for this building."""
        return (self.buildings is None or bool(self.buildings & here)) and (
            self.kinds is None or typ in self.kinds
        )

    def covers(self, control: str, equipment: str = "") -> bool:
        """Whether the key may sign objects about a control with this name or equipment."""
        return self.assets is None or control in self.assets or f"kind:{equipment}" in self.assets


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Member:
    """One key of the trust list."""

    key: Key
    name: str
    """of its owner"""
    role: str
    scope: Scope = EVERYTHING
    since: float = 0
    until: float = LATEST
