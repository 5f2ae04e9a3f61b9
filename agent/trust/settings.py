"""Settings for the trust list: which roots may sign it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from agent.core.settings import Secret
from agent.trust.trust_list import keys_of


class TrustSettings(BaseModel):
    """Who may sign the trust list, which names all other signers: docs/authority.md."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, defer_build=True
    )

    roots: Secret | None = Field(None, examples=["file:/etc/gardien/roots.jwks"])
    """the only root keys that the first trust list may name; default: a person compares them"""
    threshold: Annotated[int, Field(ge=1, le=20)] = Field(2, examples=[2])
    """the least number of roots that must sign a trust list; 1 is for a small site"""
    witnessed: bool = Field(False, examples=[True])
    """whether this gateway may sign an assembly's vote as witness, in the residents' name"""

    def pinned(self) -> frozenset[str]:
        """Kids of the configured root keys; empty: any root is allowed. Raises Refused."""
        return frozenset(keys_of(self.roots.reveal().encode())) if self.roots else frozenset()
