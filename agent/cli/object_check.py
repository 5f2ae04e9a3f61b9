"""`gardien object check`: what a signed object states, and what of it is right; no gateway runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from agent.cli.sign_objects import bytes_of, public
from agent.cli.terminal import wrapped
from agent.control.decide import duration_text, role_name
from agent.control.history import evidence_text
from agent.control.orders import grant_of
from agent.core.clock import ClockTrust, seconds
from agent.core.errors import Refused
from agent.core.i18n import Text, _, in_language, text_of
from agent.inbox.registry_adapter import own_fault, read_map
from agent.registry.consent_policy import policy
from agent.trust import claims, trust_list
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.jws import Key, parse_jws
from agent.trust.verify import Audience, VerificationContext, examine, verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agent.trust.trust_list import TrustList
    from agent.trust.verify import Verified

STRICTEST = "FR-1"
"""the privacy policy by which steps are checked; a gateway may have another one"""


@dataclass
class CheckedObject:
    """What is known of one file."""

    file: Path
    about: Text | None = None
    """its type, id and issuer; None: they cannot be read"""
    right: list[Text] = field(default_factory=list)
    effect: list[Text] = field(default_factory=list)
    wrong: Text | None = None
    code: str = ""
    unchecked: list[Text] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=dict)
    """its `typ`, `jti` and `iss`"""

    def document(self) -> dict[str, Any]:
        """The same as JSON; its sentences are in the reader's language."""
        sentences = {
            name: [in_language(sentence) for sentence in getattr(self, name)]
            for name in ("right", "effect", "unchecked")
        }
        wrong = in_language(self.wrong) if self.wrong else None
        about = {"file": str(self.file), **self.names, "code": self.code or None}
        return about | sentences | {"wrong": wrong}


def show(report: CheckedObject) -> None:
    """Print it."""
    about = in_language(report.about) if report.about else _("no signed object")
    typer.echo(wrapped(_("{file}: {reason}", file=report.file, reason=about)))
    lines = [_("checked: {sentence}", sentence=sentence) for sentence in report.right]
    lines += [_("effect: {sentence}", sentence=sentence) for sentence in report.effect]
    lines += [_("not checked: {sentence}", sentence=sentence) for sentence in report.unchecked]
    if report.wrong:
        lines.append(_("wrong: {sentence}", sentence=report.wrong))
    for line in lines:
        typer.echo(wrapped(f"  {line}"))


def checked(file: Path, trust: Path | None, keys: Sequence[Path], aud: str | None) -> CheckedObject:
    """Check one file. Raises Refused if it, the trust list or a key cannot be read."""
    report, raw = CheckedObject(file), bytes_of(file)
    known = trust_list.read(bytes_of(trust)) if trust else None
    signers = [(jwk["name"], Key.read(jwk)) for jwk in map(public, keys)]
    try:
        if raw.lstrip()[:1] == b"{":
            _check_list(report, trust_list.read(raw), known)
        else:
            _check_object(report, raw, known, signers, aud)
    except Forged as error:
        report.code, report.wrong = (
            error.code,
            Text("{error}. {step}", error=error, step=error.step),
        )
    except Refused as error:
        report.code, report.wrong = ObjectCode.REGISTRY, text_of(error)
    return report


def _check_object(
    report: CheckedObject,
    raw: bytes,
    known: TrustList | None,
    signers: Sequence[tuple[str, Key]],
    aud: str | None,
) -> None:
    compact = parse_jws(raw)
    report.names = {"typ": compact.typ} | {
        name: compact.claims.get(name) for name in ("jti", "iss")
    }
    report.about = Text(
        "{typ}, id (jti) {jti}, of {issuer}",
        typ=compact.typ, jti=compact.claims.get("jti"), issuer=compact.claims.get("iss"),
    )  # fmt: skip
    verified = examine(raw, seconds())
    report.right.append(Text("form and dates, by the clock and the time zone of this computer"))
    report.effect += effects(verified)
    if reason := own_fault(verified, policy(STRICTEST)):
        raise Forged(ObjectCode.REGISTRY, reason)
    _check_audience(report, verified, aud)
    if known:
        _check_with_list(report, verified, known)
    elif by := [name for name, key in signers if key.kid == verified.kid]:
        _check_signature(report, verified, by[0], next(k for n, k in signers if n == by[0]))
    else:
        report.unchecked.append(Text(
            "the signature, because the key {kid} is not known here. Add: --trust FILE or"
            " --key NAME.pub", kid=verified.kid,
        ))  # fmt: skip
    report.unchecked.append(Text(
        "what only the gateway knows: its records, grants and revocations, and whether the id"
        " was used before"
    ))  # fmt: skip


def _check_signature(report: CheckedObject, verified: Verified, name: str, key: Key) -> None:
    if not key.signed(verified.raw.rstrip(b"\r\n").decode()):
        raise Forged(
            ObjectCode.SIG, Text("the key of {name} has not signed these bytes", name=name)
        )
    if name != verified.owner:
        raise Forged(ObjectCode.KID, Text(
            "the key of {name} has signed in the name of {issuer}", name=name,
            issuer=verified.owner,
        ))  # fmt: skip
    report.right.append(Text("signed with the key of {name}", name=name))
    report.unchecked.append(Text("whether the trust list lets this key sign it: add --trust FILE"))


def _check_with_list(report: CheckedObject, verified: Verified, known: TrustList) -> None:
    """Verify it as a gateway with this list would. Its records of buildings are not known."""
    gateway, _dot, state = (verified.model.aud or "").partition(".")
    everywhere = {
        kid: replace(member, scope=replace(member.scope, buildings=None))
        for kid, member in known.members.items()
    }
    here = Audience(gateway, state, None if state else gateway)
    context = VerificationContext(everywhere, here, seconds(), ClockTrust.TRUSTED)
    signer = verify(verified.raw, replace(context, expires=known.expires))
    report.right.append(
        Text(
            "signed by {owner} ({role}), as version {version} of the trust list permits",
            owner=signer.owner,
            role=role_name(signer.role),
            version=str(known.ver),
        )
    )
    if buildings := known.members[verified.kid].scope.buildings:
        names = ", ".join(sorted(buildings))
        report.unchecked.append(
            Text("whether the gateway is one for which the key may sign: {names}", names=names)
        )


def _check_audience(report: CheckedObject, verified: Verified, aud: str | None) -> None:
    stated = verified.model.aud
    one_state = claims.kind_of(verified.typ).addressed is claims.Addressed.STATE
    if stated is None:
        report.right.append(Text("audience: any gateway that knows the place"))
    elif one_state and "." not in stated:
        wrong = Text(
            "`aud` must name one gateway in its present state, not {stated}", stated=stated
        )
        raise Forged(ObjectCode.AUD, wrong)
    elif aud is None or (stated.startswith("B") and not aud.startswith("B")):
        report.unchecked.append(
            Text("whether {stated} is the gateway that is meant. Add: --aud G…", stated=stated)
            if aud is None
            else Text("whether {stated} is the building of {aud}", stated=stated, aud=aud)
        )
    elif stated not in {aud, aud.partition(".")[0]}:
        wrong = Text("it is addressed to {stated}, not to {aud}", stated=stated, aud=aud)
        raise Forged(ObjectCode.AUD, wrong)
    else:
        report.right.append(Text("audience: {stated}", stated=stated))


def _check_list(report: CheckedObject, made: TrustList, known: TrustList | None) -> None:
    report.about = Text(
        "trust list, version {version}, of {issuer}", version=str(made.ver), issuer=made.name
    )
    same = known is not None and known.sha256 == made.sha256
    trust_list.admit(made, None if same else known, made.threshold, seconds())
    report.right.append(Text(
        "form, and the signatures of {number} of its roots", number=len(made.signed_by(made.roots))
    ))  # fmt: skip
    report.effect += [
        Text(
            "{name} may sign as {role} until {until}",
            name=member.name, role=role_name(member.role), until=_local(member.until),
        )
        for member in made.members.values()
        if member.key.kid not in made.roots
    ]  # fmt: skip
    report.effect.append(Text("it expires on {expires}", expires=_local(made.expires)))
    if known is None:
        report.unchecked.append(Text("whether it may replace the list in force: add --trust FILE"))


def _local(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC).astimezone()


def _stated(moment: str | None) -> datetime | None:
    return _local(claims.moment(moment)) if moment else None


def effects(verified: Verified) -> Iterator[Text]:
    """What an object does at a gateway that accepts it, a sentence each. Raises Forged."""
    match verified.model:
        case claims.GrantClaims() as grant:
            yield from _grant(verified, grant)
        case claims.Command() as order:
            yield _order(order)
        case claims.Revocation() as revocation:
            for revoked in revocation.rev:
                if revoked.kid:
                    yield Text("the key {kid} can sign nothing more", kid=revoked.kid)
                else:
                    yield Text(
                        "the grant {jti} ends, and what is held under it is released",
                        jti=revoked.jti,
                    )
        case claims.Request() as request:
            yield _request(request)
        case claims.UplinkMove() as move:
            yield Text(
                "the uplink to {recipient} moves to {url}", recipient=move.recipient, url=move.url
            )
        case claims.Time():
            yield Text("it states that it is {time}", time=_local(verified.iat))
        case _:
            yield from _facts(verified)


def _request(request: claims.Request) -> Text:
    whom = request.recipient
    if request.act == "resend":
        return Text(
            "{recipient} gets the batches {first} to {last} of the epoch {epoch} again",
            recipient=whom,
            first=str(request.from_),
            last=str(request.to),
            epoch=request.epoch,
        )
    if request.act == "read-now":
        return Text("devices are read again at once, for {recipient}", recipient=whom)
    return Text("{recipient} gets places, meters, occupancies and series again", recipient=whom)


def _facts(verified: Verified) -> Iterator[Text]:
    match verified.model:
        case claims.ConsentClaims() as consent:
            yield from _consent(consent)
        case claims.OccupancyClaims() as move:
            events = {
                "move_in": Text("the occupants {occ} move into {place} on {since}",
                    occ=move.occ, place=move.place,
                    since=_stated(move.from_) or _local(verified.iat)),
                "move_out": Text("the occupants {occ} move out of {place} on {until}; what they"
                    " consented to ends", occ=move.occ, place=move.place,
                    until=_stated(move.to) or Text("arrival of the object")),
                "correct": Text("the dates of the occupants {occ} of {place} are corrected: from"
                    " {since} to {until}", occ=move.occ, place=move.place,
                    since=_stated(move.from_) or Text("as recorded"), until=_stated(move.to) or (
                        Text("open") if "to" in verified.claims else Text("as recorded"))),
            }  # fmt: skip
            yield events[move.event]
        case claims.DutyClaims() as duty if duty.status == "ended":
            yield Text("the duty {reference} to {recipient} ends", reference=duty.reference,
                       recipient=duty.recipient)  # fmt: skip
        case claims.DutyClaims() as duty:
            yield Text("{recipient} gets indexes of {channels} of all dwellings, as {reference}"
                " requires", recipient=duty.recipient, channels=", ".join(duty.channels),
                reference=duty.reference)  # fmt: skip
        case claims.PlaceMap() as place_map:
            made = read_map(place_map.csv, verified.jti, ())
            yield Text("version {version} of the places: {places} places and {names} names are"
                " recorded, if they are new", version=str(place_map.ver),
                places=len(made.places), names=len(made.names))  # fmt: skip


def _consent(consent: claims.ConsentClaims) -> Iterator[Text]:
    whom = ", ".join(consent.recipients or ())
    if consent.status == "withdrawn":
        yield Text("the occupants {occ} of {place} withdraw the consent {prev}, and all others for"
            " {recipient}; what was sent is asked to be erased", occ=consent.sub,
            place=consent.place, prev=consent.prev,
            recipient=whom or Text("its recipient"))  # fmt: skip
    elif consent.status == "refused":
        yield Text("the occupants {occ} of {place} refuse {recipient} for {purpose}; earlier"
            " consents for it end", occ=consent.sub, place=consent.place, recipient=whom,
            purpose=consent.purpose)  # fmt: skip
    elif consent.data:
        step = consent.data.step
        yield Text("{recipient} may get {channels} of the occupants {occ} of {place} for {purpose},"
            " at most every {step}, from {since} to {until}; signed on {given}", recipient=whom,
            channels=", ".join(consent.data.channels), occ=consent.sub, place=consent.place,
            purpose=consent.purpose, since=_local(consent.nbf or 0), until=_local(consent.exp or 0),
            step=Text("month") if step == "P1M" else duration_text(claims.seconds(step)),
            given=_local(consent.given_at or 0))  # fmt: skip


def _grant(verified: Verified, content: claims.GrantClaims) -> Iterator[Text]:
    try:
        grant = grant_of(verified, content)
    except ValueError as error:
        raise Forged(ObjectCode.FORM, text_of(error)) from error
    yield Text("{to} may {acts} {assets} at {aud}, from {since} to {until}", to=grant.to,
        acts=", ".join(grant.actions), assets=", ".join(grant.assets), aud=content.aud,
        since=_local(grant.since), until=_local(grant.until))  # fmt: skip
    limits = content.lim.model_dump(exclude_none=True, exclude_defaults=True)
    if limits:
        stated = ", ".join(f"{name} {value}" for name, value in limits.items())
        yield Text("within the limits: {limits}", limits=stated)
    evidence = evidence_text(grant.evidence)
    yield Text("authorized by the {evidence}", evidence=evidence)


def _order(order: claims.Command) -> Text:
    cmd = order.cmd
    targets = ", ".join(cmd.tgt)
    if order.gives_back and cmd.ref and cmd.act == "cancel":
        return Text("the order {ref} at {targets} is cancelled", ref=cmd.ref, targets=targets)
    if order.gives_back:
        return Text("all orders at {targets} end, and the equipment is released", targets=targets)
    return Text("{act} {value} {unit} at {targets}, from {begin}, for {duration}", act=cmd.act,
        value=str(cmd.val), unit=cmd.unit or "", targets=targets,
        begin=_stated(cmd.start) or Text("the arrival of the order"),
        duration=duration_text(claims.seconds(cmd.dur or "PT0S")))  # fmt: skip
