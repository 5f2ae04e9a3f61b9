"""Why a signed object was refused: one code for programs, and words for people."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence


class ObjectCode(StrEnum):
    """Codes of rule H13, as far as the object itself is concerned, and five more."""

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
    AFTER = "E_AFTER"
    """a consent that does not know of a withdrawal, a refusal or a restore"""
    REGISTRY = "E_REGISTRY"
    """rightly signed, but what it says contradicts what is recorded here"""
    REQUEST = "E_REQUEST"
    """rightly signed, but what it asks for cannot be done here"""
    STORAGE = "E_STORAGE"
    """the gateway's disk fails, and nothing that allows something is taken: it may come again"""
    EPOCH = "E_EPOCH"
    """a request for batches of an epoch, or with numbers, that there never were here"""
    OFTEN = "E_OFTEN"
    """its issuer has asked for too much lately: it may come again later"""
    INTERNAL = "E_INTERNAL"
    """our own code failed to evaluate it; it is set aside and not tried again"""


LONGEST_SENTENCE = 400
"""characters that a sender is told beside a code"""
ABOUT_ITSELF = frozenset(
    {
        ObjectCode.FORM,
        ObjectCode.TYP,
        ObjectCode.AUD,
        ObjectCode.EXPIRED,
        ObjectCode.NOT_YET,
        ObjectCode.CLOCK,
        ObjectCode.VERSION,
        ObjectCode.EPOCH,
        ObjectCode.OFTEN,
    }
)
"""their details name what the object itself says and this gateway, and so may be told its sender;
others may name people or facts that the sender must not know
"""
WRONG = {
    ObjectCode.SIG: "The signature does not belong to these bytes and the key that `kid` names",
    ObjectCode.KID: "The key that `kid` names may not sign this object here",
    ObjectCode.REPLAY: "The issuer has used this `jti` for another object before",
    ObjectCode.REVOKED: "It was revoked before it came",
    ObjectCode.AFTER: "The people have withdrawn or refused since, or the gateway was restored",
    ObjectCode.REGISTRY: "It contradicts what is recorded at the gateway",
    ObjectCode.REQUEST: "What it asks for cannot be done at this gateway",
    ObjectCode.STORAGE: "The gateway's disk fails, so that nothing that allows something can be"
    " recorded",
    ObjectCode.INTERNAL: "An error in the gateway's own software: it could not evaluate this"
    " object, has set it aside and will not try it again",
}
"""what is told of the other codes where nothing more exact was given"""
REMEDIES = {
    ObjectCode.FORM: "Correct it and sign it again with a new `jti`.",
    ObjectCode.SIG: "Send the bytes exactly as they were signed, or sign them again.",
    ObjectCode.KID: "Compare `kid`, `iss` and the role of the key with the gateway's trust list.",
    ObjectCode.AUD: "Take `aud` from the member `audience` of the gateway's status and sign it"
    " again; a"
    " grant may name the building, and a fact about a dwelling needs none.",
    ObjectCode.TYP: "Check `typ` in the header.",
    ObjectCode.REPLAY: "Sign it again with a new `jti`.",
    ObjectCode.EXPIRED: "Sign it again with later times; an expired trust list must be renewed"
    " first.",
    ObjectCode.NOT_YET: "Check the clock of the computer that signs, or send it again later.",
    ObjectCode.CLOCK: "Send the same object again later.",
    ObjectCode.REVOKED: "Whoever may grant it must sign a new one.",
    ObjectCode.VERSION: "Sign it again with a higher `ver`.",
    ObjectCode.AFTER: "`marks` names each. Ask them; if they agree now, sign a new consent with the"
    " last"
    " of these marks in `after`, and a new `jti`.",
    ObjectCode.REGISTRY: "Compare it with the latest directory, or ask whoever looks after the"
    " gateway:"
    " its log names both sides.",
    ObjectCode.REQUEST: "Correct what it asks for and sign it again with a new `jti`.",
    ObjectCode.STORAGE: "Send the same object again later.",
    ObjectCode.EPOCH: "Take `epoch` and the numbers from batches of this gateway that were sent to"
    " you.",
    ObjectCode.OFTEN: "Send the same object again later.",
    ObjectCode.INTERNAL: "Do not send it again; report its sha256 to whoever looks after the"
    " gateway.",
}


class Forged(Refused):
    """A signed object is not what it must be; nothing was done. `code` says why, for programs.

    `detail` is for people at the gateway. `wrong`: what its sender is told instead, which must not
    name people or facts that the sender may not know; without it, what is safe by the code.
    `remedy`: what the sender can do, where the code's own remedy does not fit. `marks`: what a
    consent does not know, by id.
    """

    def __init__(
        self,
        code: ObjectCode,
        detail: str,
        wrong: str = "",
        remedy: str = "",
        *,
        marks: Sequence[str] = (),
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.marks = code, tuple(marks)
        self.detail = detail
        self._wrong = wrong or (detail if code in ABOUT_ITSELF else WRONG[code])
        self._remedy = remedy or REMEDIES[code]

    @property
    def sentence(self) -> str:
        """What is wrong and what to do, for whoever sent the object; one bounded line."""
        plain = "".join(c if c.isprintable() else " " for c in self._wrong)
        wrong = plain[: LONGEST_SENTENCE - len(self._remedy) - 2].rstrip(". ")
        if wrong.partition(" ")[0].isalpha():  # no id and no name of a claim
            wrong = f"{wrong[:1].upper()}{wrong[1:]}"
        return f"{wrong}. {self._remedy}"
