"""What the configuration says about whose word counts."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from agent.settings import Secret  # noqa: TC001 -- pydantic reads it
from agent.trust.trust_list import keys_of


class TrustSettings(BaseModel):
    """Who may say who may sign: docs/authority.md."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, defer_build=True
    )

    roots: Secret | None = Field(None, examples=["file:/etc/gardien/roots.jwks"])
    """the only root keys that a first trust list may name; if not said, a person compares them"""
    threshold: Annotated[int, Field(ge=1, le=20)] = Field(2, examples=[2])
    """how many roots must sign a trust list at least; 1 is for a small site"""
    witnessed: bool = Field(False, examples=[True])
    """whether this gateway may witness the vote of an assembly in the residents' name"""

    def pinned(self) -> frozenset[str]:
        """The kids of the root keys that are named; none: whichever. Raises Refused."""
        return frozenset(keys_of(self.roots.reveal().encode())) if self.roots else frozenset()
