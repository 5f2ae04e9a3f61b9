"""Why a signed object is refused: a code for programs, a sentence for people."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.core.i18n import N_, Text

if TYPE_CHECKING:
    from collections.abc import Sequence


class ObjectCode(StrEnum):
    """The codes of rule H13 that concern the object itself, and five more."""

    FORM = "E_FORM"
    """the bytes, the header or the claims are invalid"""
    SIG = "E_SIG"
    """no known key has signed these bytes"""
    KID = "E_KID"
    """the key is unknown, expired or revoked, or may not sign this"""
    AUD = "E_AUD"
    """it is addressed to another gateway, another building or an earlier state"""
    TYP = "E_TYP"
    """this gateway accepts no objects of this type"""
    REPLAY = "E_REPLAY"
    """its id was used before for other bytes, or the object is too old to know"""
    EXPIRED = "E_EXPIRED"
    NOT_YET = "E_NOTYET"
    CLOCK = "E_CLOCK"
    """the clock is not trusted and the object depends on it; it may be sent again"""
    REVOKED = "E_REVOKED"
    """its author, or somebody else with the right, has revoked it before"""
    VERSION = "E_VERSION"
    """its version is not newer than the current one; versions never go back"""
    AFTER = "E_AFTER"
    """a consent given without knowledge of a withdrawal, a refusal or a restore"""
    REGISTRY = "E_REGISTRY"
    """validly signed, but it contradicts recorded facts"""
    REQUEST = "E_REQUEST"
    """validly signed, but the request cannot be carried out here"""
    STORAGE = "E_STORAGE"
    """the disk fails, so nothing that grants a right is accepted; it may be sent again"""
    EPOCH = "E_EPOCH"
    """a request for batches that this gateway never sealed"""
    OFTEN = "E_OFTEN"
    """its issuer has made too many requests; it may be sent again later"""
    INTERNAL = "E_INTERNAL"
    """an error in gardien prevented its evaluation; it is kept and not tried again"""


LONGEST_SENTENCE = 400
"""characters of the sentence that a sender gets with a code"""
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
"""codes whose detail names only the object's own claims and this gateway, so the sender may see it;
details of other codes may name people or facts that the sender must not know
"""
SAFE_REASONS = {
    ObjectCode.SIG: "The signature does not match these bytes and the key that `kid` names",
    ObjectCode.KID: "The key that `kid` names may not sign this object here",
    ObjectCode.REPLAY: "The issuer has used this `jti` for another object before",
    ObjectCode.REVOKED: "It was revoked before it arrived",
    ObjectCode.AFTER: "The occupants have withdrawn or refused since, or the gateway was restored",
    ObjectCode.REGISTRY: "It contradicts facts recorded at the gateway",
    ObjectCode.REQUEST: "The request cannot be carried out at this gateway",
    ObjectCode.STORAGE: "The gateway's disk fails, so nothing that grants a right can be recorded",
    ObjectCode.INTERNAL: "The gateway could not evaluate this object because of an error in its own"
    " software; it keeps the object and will not try it again",
}
"""what the sender is told for the other codes, unless the error has its own sentence"""
REMEDIES = {
    ObjectCode.FORM: "Correct it and sign it again with a new `jti`.",
    ObjectCode.SIG: "Send the bytes exactly as they were signed, or sign them again.",
    ObjectCode.KID: "Compare `kid`, `iss` and the role of the key with the gateway's trust list.",
    ObjectCode.AUD: "Copy `audience` of the gateway's status into `aud` and sign it again. A grant"
    " may name the building instead; a fact about a dwelling needs no `aud`.",
    ObjectCode.TYP: "Check `typ` in the header.",
    ObjectCode.REPLAY: "Sign it again with a new `jti`.",
    ObjectCode.EXPIRED: "Sign it again with later times. Renew an expired trust list first.",
    ObjectCode.NOT_YET: "Check the clock of the computer that signs, or send it again later.",
    ObjectCode.CLOCK: "Send the same object again later.",
    ObjectCode.REVOKED: "Have a new one signed by somebody who may grant it.",
    ObjectCode.VERSION: "Sign it again with a higher `ver`.",
    ObjectCode.AFTER: "`marks` lists them. Ask the occupants. If they agree now, sign a new consent"
    " with the last of these marks in `after` and a new `jti`.",
    ObjectCode.REGISTRY: "Compare it with the latest directory, or ask the operator of the gateway,"
    " whose log names both facts.",
    ObjectCode.REQUEST: "Correct the request and sign it again with a new `jti`.",
    ObjectCode.STORAGE: "Send the same object again later.",
    ObjectCode.EPOCH: "Copy `epoch` and the numbers from batches that this gateway sent to you.",
    ObjectCode.OFTEN: "Send the same object again later.",
    ObjectCode.INTERNAL: "Do not send it again. Report its sha256 to the operator of the gateway.",
}
NEXT_STEPS = {
    ObjectCode.FORM: N_("Have it corrected and signed again with a new `jti`."),
    ObjectCode.SIG: N_("Get the file again exactly as it was signed, or have it signed again."),
    ObjectCode.KID: N_(
        "Sign it with a key that is in the trust list and may sign this, or have this key added to"
        " the list by its roots. The keys of the list: gardien trust show"
    ),
    ObjectCode.AUD: N_(
        "Sign it again with the audience of this gateway, which shows it with: gardien trust show"
    ),
    ObjectCode.TYP: N_("Check `typ` in its header, and sign it again."),
    ObjectCode.REPLAY: N_("Sign it again with a new `jti`."),
    ObjectCode.EXPIRED: N_(
        "Ask whoever signed it for a new one. If the trust list has expired, have its roots renew"
        " it first: gardien trust show"
    ),
    ObjectCode.NOT_YET: N_(
        "Check the clock of the computer that signed it, or bring it again later."
    ),
    ObjectCode.CLOCK: N_("Set the clock right, then bring the same file again: gardien clock"),
    ObjectCode.REVOKED: N_("Have a new one signed by somebody who may grant it."),
    ObjectCode.VERSION: N_(
        "Ask whoever signed it for the latest version. What is in force: gardien trust show"
    ),
    ObjectCode.AFTER: N_(
        "Ask the occupants. If they agree now, have a new consent signed that names in `after` what"
        " they have withdrawn."
    ),
    ObjectCode.REGISTRY: N_("Compare it with what is recorded: gardien place list"),
    ObjectCode.REQUEST: N_("Have the request corrected, and signed again with a new `jti`."),
    ObjectCode.STORAGE: N_("Bring the same file again once the disk works: gardien status"),
    ObjectCode.EPOCH: N_("Copy `epoch` and the numbers from batches of this gateway."),
    ObjectCode.OFTEN: N_("Bring the same file again later."),
    ObjectCode.INTERNAL: N_(
        "Report the error with a support file: sudo gardien support-bundle --out FILE"
    ),
}
"""what a person who brought the object to the gateway can do"""


class Forged(Refused):
    """A signed object is refused, and nothing was done. `code`: the reason, for programs.

    `detail`: the reason for people at the gateway. `wrong`: the reason for the sender, which must
    not name people or facts that the sender may not know; default: a safe one for the code.
    `remedy`: what the sender can do; default: the remedy for the code. `step`: the same for a
    person at the gateway. `marks`: ids of withdrawals that a consent does not take into account.
    """

    def __init__(  # noqa: PLR0913 -- what its sender and a person are told
        self,
        code: ObjectCode,
        detail: Text,
        wrong: str = "",
        remedy: str = "",
        *,
        step: Text | None = None,
        marks: Sequence[str] = (),
    ) -> None:
        super().__init__(N_("{code}: {detail}"), code=code, detail=detail)
        self.code, self.marks = code, tuple(marks)
        self.detail = detail
        self._wrong = wrong or (detail if code in ABOUT_ITSELF else SAFE_REASONS[code])
        self._remedy = remedy or REMEDIES[code]
        self.step = step or Text(NEXT_STEPS[code])

    @property
    def sentence(self) -> str:
        """Reason and remedy for the sender of the object, on one line of limited length."""
        # parts come from the object: its line ends and control characters must not get through
        plain = "".join(c if c.isprintable() else " " for c in self._wrong)
        # the reason is cut and the remedy never is
        wrong = plain[: LONGEST_SENTENCE - len(self._remedy) - 2].rstrip(". ")
        if wrong.partition(" ")[0].isalpha():  # do not capitalize an id or the name of a claim
            wrong = f"{wrong[:1].upper()}{wrong[1:]}"
        return f"{wrong}. {self._remedy}"

    def for_a_person(self) -> Refused:
        """Return the refusal for a person who has brought the object, with the next step."""
        return Refused(
            "{detail} ({code}). Nothing was changed. {step}",
            detail=self.detail,
            code=self.code,
            step=self.step,
        )
