"""The trust list: who may sign what, by the word of several root keys (rule O10). Pure.

JWS in general JSON form, one signature a root. Each is checked as a compact object of its own, and
distinct keys are counted: the library takes the same key twice for two, and one bad signature for
a bad list (docs/decisions/020).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from agent.clock import stamp
from agent.trust.claim_types import ClaimsModel, Name, Seconds, Word, fault_of
from agent.trust.claims import Role  # noqa: TC001 -- pydantic reads it
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.jws import LARGEST, header_of
from agent.trust.key import Key
from agent.trust.object_types import ROOT
from agent.trust.signer import Member, Scope
from agent.trust.strict import decoded, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TYP = "trust-list+jws"
ALARM = 30 * 86_400.0
"""seconds before its end from which a list is said to expire soon"""


class ScopeSaid(ClaimsModel):
    """What one key may speak of; a list that is absent confines nothing."""

    buildings: Annotated[list[Word], Field(max_length=1000)] | None = None
    assets: Annotated[list[Word], Field(max_length=1000)] | None = None
    kinds: Annotated[list[str], Field(max_length=50)] | None = None


class MemberSaid(ClaimsModel):
    """One key of the list."""

    kid: str
    jwk: dict[str, Any]
    role: Role
    name: Name
    scope: ScopeSaid = Field(default_factory=ScopeSaid)
    nbf: Seconds
    exp: Seconds


class ListSaid(ClaimsModel):
    """What the list says."""

    ver: Annotated[int, Field(ge=1, le=2**53)]
    iss: Name
    iat: Seconds
    exp: Seconds
    roots: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=20)]
    threshold: Annotated[int, Field(ge=1, le=20)]
    keys: Annotated[list[MemberSaid], Field(max_length=200)]


@dataclass(frozen=True, slots=True)
class TrustList:
    """One version of the list, its signatures not judged yet, save by `signed_by`."""

    ver: int
    name: str
    made: int
    expires: int
    roots: Mapping[str, Key]
    """by kid"""
    threshold: int
    members: Mapping[str, Member]
    """by kid, the roots among them"""
    signatures: tuple[tuple[str, str], ...]
    """kid and compact form of each"""
    sha256: str
    raw: bytes

    def signed_by(self, roots: Mapping[str, Key]) -> frozenset[str]:
        """Which of these keys have signed it, each counted once."""
        return frozenset(
            kid for kid, text in self.signatures if kid in roots and roots[kid].signed(text)
        )


def read(raw: bytes) -> TrustList:
    """Read a list, strictly; who signed it is another question. Raises Forged."""
    outer = object_of(text_of(raw, LARGEST), "text")
    if outer.keys() != {"payload", "signatures"} or not isinstance(outer["payload"], str):
        raise Forged(
            ObjectCode.FORM, "a trust list has `payload` and `signatures`, and nothing else"
        )
    signatures = tuple(_signature(outer["payload"], one) for one in _list(outer["signatures"]))
    try:
        payload = object_of(decoded(outer["payload"], "payload"), "payload")
        said = ListSaid.model_validate(payload)
    except ValidationError as error:
        raise Forged(ObjectCode.FORM, f"as a trust list it is wrong: {fault_of(error)}") from None
    roots = _roots(said)
    if said.threshold > len(roots):
        raise Forged(ObjectCode.FORM, f"{len(roots)} roots cannot make {said.threshold} signatures")
    if said.exp <= said.iat:
        raise Forged(ObjectCode.FORM, "it ends before it begins")
    return TrustList(
        ver=said.ver,
        name=said.iss,
        made=said.iat,
        expires=said.exp,
        roots={kid: member.key for kid, member in roots.items()},
        threshold=said.threshold,
        members=roots | _members(said, roots),
        signatures=signatures,
        sha256=hashlib.sha256(raw.rstrip(b"\r\n")).hexdigest(),
        raw=raw,
    )


def _list(signatures: object) -> list[Any]:
    if not isinstance(signatures, list) or not signatures:
        raise Forged(ObjectCode.SIG, "nobody has signed it", "nobody has signed it")
    return signatures


def _signature(payload: str, one: object) -> tuple[str, str]:
    if not isinstance(one, dict) or one.keys() != {"protected", "signature"}:
        raise Forged(
            ObjectCode.FORM, "a signature has `protected` and `signature`, and nothing else"
        )
    protected, signature = str(one["protected"]), str(one["signature"])
    header = header_of(protected)
    if header["typ"] != TYP:
        raise Forged(ObjectCode.TYP, f"it was signed as {header['typ'][:40]!r}, not as {TYP}")
    decoded(signature, "signature")
    return header["kid"], f"{protected}.{payload}.{signature}"


def _roots(said: ListSaid) -> dict[str, Member]:
    found: dict[str, Member] = {}
    for number, jwk in enumerate(said.roots, start=1):
        key = Key.read(jwk)
        if key.kid in found:
            raise Forged(ObjectCode.FORM, f"the root key {key.kid} stands in it twice")
        name = jwk.get("name", f"root {number}")
        if not isinstance(name, str) or not name.isprintable():
            raise Forged(ObjectCode.FORM, "the name of a root key is no name")
        found[key.kid] = Member(key, name, ROOT)
    return found


def _members(said: ListSaid, roots: Mapping[str, Member]) -> dict[str, Member]:
    found: dict[str, Member] = {}
    for one in said.keys:
        key = Key.read(one.jwk)
        if key.kid != one.kid:
            raise Forged(ObjectCode.FORM, f"{one.kid[:43]} is not the thumbprint of its key")
        if key.kid in found or key.kid in roots:
            raise Forged(ObjectCode.FORM, f"the key {key.kid} stands in it twice")
        scope = Scope(*(_set(words) for words in one.scope.model_dump().values()))
        found[key.kid] = Member(key, one.name, one.role, scope, one.nbf, one.exp)
    return found


def _set(words: list[str] | None) -> frozenset[str] | None:
    return None if words is None else frozenset(words)


def admit(new: TrustList, current: TrustList | None, least: int, now: float | None) -> None:
    """See whether a list may take the place of the current one, by its signatures and version.

    `least`: the smallest threshold that the configuration allows; `now`: None where the clock
    cannot be relied on. A change of roots needs both the old ones and the new. Raises Forged.
    """
    if new.threshold < least:
        words = f"it wants {new.threshold} signatures only; `trust.threshold` is {least}"
        raise Forged(ObjectCode.SIG, words, words)
    if current is not None:
        if new.ver <= current.ver:
            raise Forged(
                ObjectCode.VERSION, f"it is version {new.ver}; version {current.ver} stands"
            )
        _enough(new, current.roots, current.threshold, "the roots that stand")
    _enough(new, new.roots, new.threshold, "its own roots")
    if now is not None and new.expires < now:
        raise Forged(ObjectCode.EXPIRED, f"it expired on {stamp(new.expires)}")


def _enough(new: TrustList, roots: Mapping[str, Key], threshold: int, whose: str) -> None:
    count = len(new.signed_by(roots))
    if count < threshold:
        words = f"{count} of {whose} have signed it, {threshold} must"
        raise Forged(ObjectCode.SIG, words, words)


def pinned(new: TrustList, roots: Collection[str]) -> bool:
    """Whether a first list has no other roots than the configuration knows, if it knows any."""
    return not roots or set(new.roots) <= set(roots)


def keys_of(text: bytes) -> dict[str, Key]:
    """The keys of a JWK set, by kid. Raises Forged."""
    found = object_of(text_of(text, LARGEST), "text").get("keys")
    if not isinstance(found, list) or not found:
        raise Forged(ObjectCode.FORM, 'a file of keys says {"keys": […]}')
    keys = [Key.read(jwk) for jwk in found]
    return {key.kid: key for key in keys}


def payload_of(raw: bytes) -> dict[str, Any]:
    """What a list says, as it says it. Raises Forged."""
    outer = object_of(text_of(raw, LARGEST), "text")
    return json.loads(decoded(str(outer.get("payload")), "payload"))  # type: ignore[no-any-return]
