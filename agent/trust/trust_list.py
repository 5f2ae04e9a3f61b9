"""The trust list: who may sign what, signed by several root keys (rule O10). Pure.

It is a JWS in general JSON form with one signature for each root. Each signature is verified as a
compact object of its own, and distinct keys are counted. The library would count the same key
twice, and refuse a list with one bad signature (docs/decisions/020).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.core.clock import stamp
from agent.core.i18n import Text
from agent.core.settings import Secret
from agent.trust.claims import ROOT, ClaimsModel, Name, Role, Seconds, Word, fault_of
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.jws import LARGEST, Key, header_of
from agent.trust.strict import decoded, object_of, text_of
from agent.trust.verify import Member, Scope

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TYP = "trust-list+jws"
ALARM = 30 * 86_400.0
"""seconds before its expiry from which an alarm is raised"""


class ScopeClaims(ClaimsModel):
    """Limits of one key; an absent list limits nothing."""

    buildings: Annotated[list[Word], Field(max_length=1000)] | None = None
    assets: Annotated[list[Word], Field(max_length=1000)] | None = None
    kinds: Annotated[list[str], Field(max_length=50)] | None = None


class MemberClaims(ClaimsModel):
    """One key of the list."""

    kid: str
    jwk: dict[str, Any]
    role: Role
    name: Name
    scope: ScopeClaims = Field(default_factory=ScopeClaims)
    nbf: Seconds
    exp: Seconds


class TrustListClaims(ClaimsModel):
    """The claims of a trust list."""

    ver: Annotated[int, Field(ge=1, le=2**53)]
    iss: Name
    iat: Seconds
    exp: Seconds
    roots: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=20)]
    threshold: Annotated[int, Field(ge=1, le=20)]
    keys: Annotated[list[MemberClaims], Field(max_length=200)]


@dataclass(frozen=True, slots=True)
class TrustList:
    """One version of the list. Its signatures are verified only by `signed_by`."""

    ver: int
    name: str
    made: int
    expires: int
    roots: Mapping[str, Key]
    """by kid"""
    threshold: int
    members: Mapping[str, Member]
    """by kid, including the roots"""
    signatures: tuple[tuple[str, str], ...]
    """kid and compact form of each"""
    sha256: str
    raw: bytes

    def signed_by(self, roots: Mapping[str, Key]) -> frozenset[str]:
        """Kids of those keys that have signed it, each once."""
        return frozenset(
            kid for kid, text in self.signatures if kid in roots and roots[kid].signed(text)
        )


def read(raw: bytes) -> TrustList:
    """Parse a list strictly, without verifying its signatures. Raises Forged."""
    outer = object_of(text_of(raw, LARGEST), "text")
    if "signatures" not in outer:
        raise Forged(
            ObjectCode.FORM,
            Text("it is JSON without a signature"),
            step=Text("Sign it first, an order for example with: gardien sign command --help"),
        )
    if outer.keys() != {"payload", "signatures"} or not isinstance(outer["payload"], str):
        raise Forged(
            ObjectCode.FORM, Text("a trust list has `payload` and `signatures`, and nothing else")
        )
    signatures = tuple(_signature(outer["payload"], one) for one in _list(outer["signatures"]))
    try:
        payload = object_of(decoded(outer["payload"], "payload"), "payload")
        content = TrustListClaims.model_validate(payload)
    except ValidationError as error:
        raise Forged(
            ObjectCode.FORM, Text("it is not a valid trust list: {error}", error=fault_of(error))
        ) from None
    roots = _roots(content)
    if content.threshold > len(roots):
        raise Forged(
            ObjectCode.FORM,
            Text(
                "{threshold} signatures are required, but it names only {number} roots",
                threshold=content.threshold,
                number=len(roots),
            ),
        )
    if content.exp <= content.iat:
        raise Forged(ObjectCode.FORM, Text("it ends before it begins"))
    return TrustList(
        ver=content.ver,
        name=content.iss,
        made=content.iat,
        expires=content.exp,
        roots={kid: member.key for kid, member in roots.items()},
        threshold=content.threshold,
        members=roots | _members(content, roots),
        signatures=signatures,
        sha256=hashlib.sha256(raw.rstrip(b"\r\n")).hexdigest(),
        raw=raw,
    )


def _list(signatures: object) -> list[Any]:
    if not isinstance(signatures, list) or not signatures:
        raise Forged(ObjectCode.SIG, Text("it has no signature"), "it has no signature")
    return signatures


def _signature(payload: str, entry: object) -> tuple[str, str]:
    if not isinstance(entry, dict) or entry.keys() != {"protected", "signature"}:
        raise Forged(
            ObjectCode.FORM, Text("a signature has `protected` and `signature`, and nothing else")
        )
    protected, signature = str(entry["protected"]), str(entry["signature"])
    header = header_of(protected)
    # a signature that a root made for another type must not count here
    if header["typ"] != TYP:
        raise Forged(
            ObjectCode.TYP,
            Text("it was signed as {found}, not as {typ}", found=header["typ"][:40], typ=TYP),
        )
    decoded(signature, "signature")
    return header["kid"], f"{protected}.{payload}.{signature}"


def _roots(content: TrustListClaims) -> dict[str, Member]:
    roots: dict[str, Member] = {}
    for number, jwk in enumerate(content.roots, start=1):
        key = Key.read(jwk)
        if key.kid in roots:
            raise Forged(ObjectCode.FORM, Text("it names the root key {kid} twice", kid=key.kid))
        name = jwk.get("name", f"root {number}")
        if not isinstance(name, str) or not name.isprintable():
            raise Forged(ObjectCode.FORM, Text("the name of a root key is not printable text"))
        roots[key.kid] = Member(key, name, ROOT)
    return roots


def _members(content: TrustListClaims, roots: Mapping[str, Member]) -> dict[str, Member]:
    members: dict[str, Member] = {}
    for entry in content.keys:
        key = Key.read(entry.jwk)
        if key.kid != entry.kid:
            raise Forged(
                ObjectCode.FORM, Text("{kid} is not the thumbprint of its key", kid=entry.kid[:43])
            )
        if key.kid in members or key.kid in roots:
            raise Forged(ObjectCode.FORM, Text("it names the key {kid} twice", kid=key.kid))
        scope = Scope(*(_set(words) for words in entry.scope.model_dump().values()))
        members[key.kid] = Member(key, entry.name, entry.role, scope, entry.nbf, entry.exp)
    return members


def _set(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def admit(new: TrustList, current: TrustList | None, least: int, now: float | None) -> None:
    """Check signatures and version of a list that is to replace the current one. Raises Forged.

    `least`: the lowest threshold that the configuration allows; `now`: None if the clock is not
    trusted. A change of roots needs signatures of both the old and the new roots.
    """
    if new.threshold < least:
        reason = Text(
            "it requires only {threshold} signatures; `trust.threshold` is {least}",
            threshold=new.threshold,
            least=least,
        )
        raise Forged(ObjectCode.SIG, reason, reason)
    if current is not None:
        if new.ver <= current.ver:
            raise Forged(
                ObjectCode.VERSION,
                Text(
                    "it is version {ver} of {made}, and version {current} of {current_made} is in"
                    " force",
                    ver=str(new.ver),
                    made=datetime.fromtimestamp(new.made, UTC).date(),
                    current=str(current.ver),
                    current_made=datetime.fromtimestamp(current.made, UTC).date(),
                ),
                step=Text(
                    "The list in force stays. Ask its roots for the present list: a version above"
                    " {current}",
                    current=str(current.ver),
                ),
            )
        # otherwise anybody could put a list with roots of his own in its place
        _require_signatures(new, current.roots, current.threshold, Text("the current roots"))
    _require_signatures(new, new.roots, new.threshold, Text("its own roots"))
    if now is not None and new.expires < now:
        raise Forged(
            ObjectCode.EXPIRED,
            Text("it expired on {expired}", expired=stamp(new.expires)),
            step=Text("The list in force stays. Ask its roots for the present list"),
        )


def _require_signatures(
    new: TrustList, roots: Mapping[str, Key], threshold: int, whose: Text
) -> None:
    count = len(new.signed_by(roots))
    if count < threshold:
        reason = Text(
            "{count} of {whose} have signed it; {threshold} must sign",
            count=count,
            whose=whose,
            threshold=threshold,
        )
        raise Forged(ObjectCode.SIG, reason, reason)


def pinned(new: TrustList, roots: Collection[str]) -> bool:
    """Whether a first list names only roots of the configuration, if that names any."""
    return not roots or set(new.roots) <= set(roots)


def keys_of(text: bytes) -> dict[str, Key]:
    """The keys of a JWK set, by kid. Raises Forged."""
    jwks = object_of(text_of(text, LARGEST), "text").get("keys")
    if not isinstance(jwks, list) or not jwks:
        raise Forged(ObjectCode.FORM, Text('a file of keys must have the form {"keys": […]}'))
    keys = [Key.read(jwk) for jwk in jwks]
    return {key.kid: key for key in keys}


def payload_of(raw: bytes) -> dict[str, Any]:
    """The payload of a list, unverified. Raises Forged."""
    outer = object_of(text_of(raw, LARGEST), "text")
    return json.loads(decoded(str(outer.get("payload")), "payload"))  # type: ignore[no-any-return]


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
