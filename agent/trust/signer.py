"""One who may sign: a key, whose it is, in which role, for what and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.trust.claim_types import LATEST

if TYPE_CHECKING:
    from agent.trust.key import Key


@dataclass(frozen=True, slots=True)
class Scope:
    """What a key may speak of. None: whatever its role may; empty: nothing."""

    buildings: frozenset[str] | None = None
    """ids of buildings or gateways"""
    assets: frozenset[str] | None = None
    """controls by name, or `kind:heating`"""
    kinds: frozenset[str] | None = None
    """of objects, by typ"""

    def allows(self, typ: str, here: frozenset[str]) -> bool:
        """Whether it may speak of such things in this building."""
        return (self.buildings is None or bool(self.buildings & here)) and (
            self.kinds is None or typ in self.kinds
        )

    def covers(self, control: str, equipment: str = "") -> bool:
        """Whether it may speak of a control of this name or equipment."""
        return self.assets is None or control in self.assets or f"kind:{equipment}" in self.assets


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Member:
    """One key that counts."""

    key: Key
    name: str
    """of its owner"""
    role: str
    scope: Scope = EVERYTHING
    since: float = 0
    until: float = LATEST
