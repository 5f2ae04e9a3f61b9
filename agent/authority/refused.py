"""Why a signed object was refused: one code for programs, and words for people."""

from __future__ import annotations

from enum import StrEnum

from agent.errors import Refused


class Code(StrEnum):
    """Codes of domain.md 3.3, rule 13, as far as the object itself is concerned, and three more."""

    FORM = "E_FORM"
    """it is no object of ours: its bytes, its header or its claims are not what they must be"""
    SIG = "E_SIG"
    """nobody we know has signed these bytes"""
    KID = "E_KID"
    """the key is unknown, out of its time or revoked, or may not say this"""
    AUD = "E_AUD"
    """it is meant for another gateway, another building or an earlier state"""
    TYP = "E_TYP"
    """no such kind of object is taken here"""
    REPLAY = "E_REPLAY"
    """its number was used before, by other bytes or too long ago to know"""
    EXPIRED = "E_EXPIRED"
    NOT_YET = "E_NOTYET"
    CLOCK = "E_CLOCK"
    """the clock cannot be relied on, and it matters for this one: it may come again"""
    REVOKED = "E_REVOKED"
    """its author, or somebody with the right to, has taken it back before"""
    VERSION = "E_VERSION"
    """an older version than the one that stands: nothing rolls back"""
    REGISTRY = "E_REGISTRY"
    """rightly signed, but what it says contradicts what is recorded here"""


class Forged(Refused):
    """A signed object is not what it must be; nothing was done. `code` says why, for programs."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
