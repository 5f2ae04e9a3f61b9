"""Taking signed orders, grants and revocations: each is decided and recorded.

A decision and its answer are committed together, so the same bytes get the same answer again (rule
O8).
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agent.control import schedule
from agent.control.decide import decide, role_name
from agent.control.guard import plain
from agent.control.model import (
    AcceptedOrder,
    ControlOrder,
    Grant,
    Limits,
    No,
    OrderCode,
    OrderState,
)
from agent.control.records import Outcome, Transaction
from agent.core.clock import stamp
from agent.core.errors import NotRecorded, StorageFailed
from agent.core.i18n import Text, text_of
from agent.core.log_fields import LogEvent, fields
from agent.trust import claims, verify
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.object_id import number_of, of_issuer

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.buffer.database import Database
    from agent.control.controller import Controller
    from agent.control.model import ConfiguredControl
    from agent.trust.verify import Verified


log = logging.getLogger(__name__)

EARLY_KEPT = 72 * 3600.0
"""seconds for which a cancellation is kept that arrived before its order (rule H9)"""
CENTRE = frozenset({"grid_operator", "registry"})
"""roles that may end any hold"""
NAMED = 20
"""controls of one refused order that the audit chain names, for each code"""
DRAWS = random.SystemRandom()


@dataclass
class Orders:
    """See the module."""

    controller: Controller
    refuse: Callable[[Verified], None] = lambda _: None
    """makes the journal delete an object that was refused, but may be on the disk all the same"""
    patience: float = 1.0
    """seconds to wait for the disk before a release or a revocation is carried out without it"""

    def __post_init__(self) -> None:
        """Make the lock: the same object may arrive over two transports at once."""
        self._lock = asyncio.Lock()

    async def take(self, verified: Verified) -> dict[str, Any]:
        """Take one object. Returns the answer for its sender. Raises Forged, SpoolFull.

        While the disk fails, an order or a grant is refused (E_STORAGE). A release, a cancellation
        or a revocation counts at once; NotRecorded then says that it must be sent again.
        """
        content = verified.model
        ends = isinstance(content, claims.Revocation) or (
            isinstance(content, claims.Command) and content.gives_back
        )
        async with self._lock:
            before = await self._asked(self.controller.journal.first, verified, ends=ends)
            if before is not None:
                return self._again(verified, before)
            try:
                return await self._take(verified)
            except StorageFailed as error:
                if ends:
                    raise NotRecorded(
                        "in force, and not recorded yet: {error}", error=error
                    ) from error
                self.refuse(verified)
                raise Forged(ObjectCode.STORAGE, text_of(error)) from error

    async def earlier(self, verified: Verified) -> dict[str, Any] | None:
        """The answer to a copy of an object, which may have expired since; None: it was not taken
        before. Raises Forged: E_REVOKED, E_STORAGE.
        """
        async with self._lock:
            before = await self._asked(self.controller.journal.earlier, verified)
        return None if before is None else self._again(verified, before)

    def _again(self, verified: Verified, before: dict[str, Any]) -> dict[str, Any]:
        self._check_not_revoked(verified)
        return before | {"again": True}

    async def _asked(
        self,
        ask: Callable[[Verified], dict[str, Any] | None],
        verified: Verified,
        *,
        ends: bool = False,
    ) -> dict[str, Any] | None:
        """The answer that the same bytes got before; None: they are new, or the disk is silent.

        `ends`: the object ends something. It must not wait for a disk that does not answer.
        """
        try:
            async with asyncio.timeout(self.patience if ends else None):
                before: dict[str, Any] | None = await self.controller.dependencies.call(
                    ask, verified
                )
        except (StorageFailed, TimeoutError) as error:
            if ends:
                return None
            if self._counts(verified):  # it is answered once the journal can be read
                raise NotRecorded(
                    "accepted before, and not answered yet: {error}", error=error
                ) from error
            raise Forged(ObjectCode.STORAGE, text_of(error)) from error
        return before

    def _counts(self, verified: Verified) -> bool:
        """Whether exactly this grant or order was accepted, as far as memory knows."""
        journal, own = self.controller.journal, of_issuer(verified.jti, verified.owner)
        grants = [journal.grants.get(id_) for id_ in (verified.jti, own)]
        if isinstance(verified.model, claims.GrantClaims):
            return any(grant is not None and grant.by == verified.owner for grant in grants)
        orders = [event.order for (jti, _), event in journal.events.items() if jti == verified.jti]
        return any(order.by == verified.owner for order in orders)

    async def _take(self, verified: Verified) -> dict[str, Any]:
        content = verified.model
        if isinstance(content, claims.GrantClaims):
            return await self._grant(verified, content)
        if isinstance(content, claims.Revocation):
            return await self._revoke(verified, content)
        if isinstance(content, claims.Command):
            return await (self._end if content.gives_back else self._order)(verified, content)
        raise Forged(
            ObjectCode.TYP, Text("the controls take no object of type {typ}", typ=verified.typ)
        )

    # -- grants

    async def _grant(self, verified: Verified, content: claims.GrantClaims) -> dict[str, Any]:
        try:
            grant = grant_of(verified, content)
        except ValueError as error:
            raise Forged(ObjectCode.FORM, text_of(error)) from error
        for asset in grant.assets:
            if not self._covers(verified, asset):
                detail = f"the `scope` of this key in the trust list does not include {asset}"
                raise Forged(
                    ObjectCode.KID,
                    Text("the key of {owner} is not for {name}", owner=verified.owner, name=asset),
                    detail,
                )
        journal = self.controller.journal
        # two issuers may choose the same id: the later grant must not replace the other's
        if (other := journal.grants.get(grant.jti)) and other.by != grant.by:
            grant = replace(grant, jti=of_issuer(grant.jti, grant.by))
        answer = {"grant": content.jti, "role": grant.role, "revoked": journal.is_revoked(grant)}
        await self.controller.dependencies.call(
            journal.grant, grant, _record_answer(verified, answer)
        )
        self._audit("control.grant", jti=content.jti, kid=verified.kid)
        return answer

    def _check_not_revoked(self, verified: Verified) -> None:
        """Refuse a copy of a grant that was revoked meanwhile. Raises Forged E_REVOKED."""
        own = of_issuer(verified.jti, verified.owner)
        grants = self.controller.journal.grants
        copies = [one for id_ in (verified.jti, own) if (one := grants.get(id_))]
        for grant in copies:
            if grant.by == verified.owner and grant.revoked:  # 0: only its key is ignored here
                reason = Text(
                    "the grant {jti} was revoked on {date}",
                    jti=verified.jti,
                    date=stamp(grant.revoked),
                )
                raise Forged(ObjectCode.REVOKED, reason, reason)

    def _covers(self, verified: Verified, asset: str) -> bool:
        name, _, equipment = asset.partition(":")
        return verified.scope.covers(*(("", equipment) if name == "kind" else (asset, "")))

    async def _revoke(self, verified: Verified, content: claims.Revocation) -> dict[str, Any]:
        journal = self.controller.journal
        last = journal.versions.get(verified.owner, 0)
        if content.ver <= last:
            reason = Text(
                "{owner} has issued version {last} already, this one is {ver}",
                owner=verified.owner,
                last=last,
                ver=content.ver,
            )
            raise Forged(ObjectCode.VERSION, reason)
        revoked = verify.revoked_by(verified, content)
        for revocation in revoked:
            self._check_may_revoke(revocation)
        answer = {
            "revoked": [revocation.what for revocation in revoked],
            "unknown": [
                revocation.what
                for revocation in revoked
                if not revocation.key and not self._grants_with_number(revocation.what)
            ],
        }
        version = (verified.owner, content.ver)
        journal.believe(revoked)  # before the commit, which a failing disk may delay
        self.controller.wake_all()
        await self.controller.dependencies.call(
            journal.revoke, revoked, version, _record_answer(verified, answer)
        )
        self._audit("control.revoked", jti=content.jti, kid=verified.kid, revoked=answer["revoked"])
        return answer

    def _grants_with_number(self, number: str) -> list[Grant]:
        """The grants with this number, of all issuers."""
        grants = self.controller.journal.grants.values()
        return [grant for grant in grants if number_of(grant.jti) == number]

    def _check_may_revoke(self, revocation: verify.TakenBack) -> None:
        """Refuse a revocation by somebody who may not revoke this grant. Raises Forged E_KID.

        A grant that is not known yet may come later. Then it is decided whether the revocation
        applies.
        """
        named = () if revocation.key else self._grants_with_number(revocation.what)
        if named and not any(
            verify.may_end(revocation.owner, revocation.role, by.by, by.role) for by in named
        ):
            raise Forged(
                ObjectCode.KID,
                Text(
                    "{owner} cannot revoke a grant of {by}", owner=revocation.owner, by=named[0].by
                ),
                "a grant may be revoked by its issuer, by another key of that role, or by a root",
            )

    # -- orders

    async def _order(self, verified: Verified, command: claims.Command) -> dict[str, Any]:
        now = self.controller.dependencies.now()
        answers: dict[str, Any] = {}
        events: list[AcceptedOrder] = []
        outcomes: list[Outcome] = []
        refused: dict[str, list[str]] = {}
        for name in dict.fromkeys(command.cmd.tgt):
            order = order_of(verified, command, name, now.wall)
            decision = self.consider(verified, order)
            received = Outcome(
                order.jti, name, OrderState.RECEIVED, now.wall, by=order.by, words=order.why,
                value="" if order.value is None else plain(order.value),
            )  # fmt: skip
            outcomes.append(received)
            if isinstance(decision, No):
                code = str(decision)
                answers[name] = _refusal(decision)
                no = replace(
                    received, state=OrderState.REJECTED, code=code, words=decision.reason,
                    via=verified.via,
                )  # fmt: skip
                outcomes.append(no)
                refused.setdefault(code, []).append(name)
                continue
            events.append(decision)
            outcomes += self._accepted_outcomes(
                decision, received, self.controller.controls[name].modality.version
            )
            answers[name] = {
                "state": OrderState.SCHEDULED,
                "begin": stamp(decision.begin),
                "end": stamp(decision.end),
                "grants": [*decision.grants],
            }
        for code, names in refused.items():
            log.info(
                "the order %s of %s is refused at %s: %s",
                command.jti, verified.owner, ", ".join(names[:NAMED]), code,
                extra=fields(LogEvent.OBJECT_REFUSED, code=code),
            )  # fmt: skip
            self._audit(
                "control.refused", jti=command.jti, kid=verified.kid, code=code,
                controls=names[:NAMED], count=len(names),
            )  # fmt: skip
        answer = {"jti": command.jti, "targets": answers}
        change = Transaction(events=events, outcomes=outcomes)
        await self.controller.dependencies.save(change, _record_answer(verified, answer))
        # only after the commit: without the new order, the old one must stay
        for event in events:
            await self._replace(event.order)
            self.controller.wake(event.order.control)
        return answer

    async def _replace(self, order: ControlOrder) -> None:
        """Cancel the order that this one replaces, unless it has begun: then the stronger wins.

        If the agent dies before this, both orders stay. The one that begins is decided again, with
        the other one in view.
        """
        event = self.controller.journal.events.get((order.ref, order.control))
        if event and event.state is OrderState.SCHEDULED and not event.began:
            reason = Text("replaced by {order}", order=order.jti)
            await self.controller.cancel(order.control, reason, order.ref)

    def consider(self, verified: Verified | None, order: ControlOrder) -> AcceptedOrder | No:
        """Decide about one order, and make its draws. Nothing is recorded: a dry run uses it too.

        `verified`: the object; None: an order without a signature, of a test.
        """
        journal, control = self.controller.journal, self.controller.controls.get(order.control)
        if control is None:
            return _unknown(order.control)
        modality = control.modality
        if verified and not verified.scope.covers(modality.name, modality.equipment):
            reason = Text(
                "the key of {owner} is not for {name}", owner=verified.owner, name=modality.name
            )
            return No(OrderCode.KID, reason)
        if (order.jti, order.control) in journal.events:
            reason = Text("the id {id} was used before: use a new one", id=order.jti)
            return No(OrderCode.REPLAY, reason)
        if (order.jti, order.control) in journal.early:
            return No(OrderCode.REVOKED, Text("it was cancelled before it arrived"))
        now = self.controller.dependencies.now()
        decision = decide(order, modality, self.controller.facts(control, now))
        if isinstance(decision, No):
            return decision
        return AcceptedOrder(
            order,
            OrderState.SCHEDULED,
            begin=order.start + DRAWS.uniform(0, order.rand),
            back=DRAWS.uniform(0, modality.spread),
            grants=decision.grants,
            accepted=now.wall,
        )

    def _accepted_outcomes(
        self, event: AcceptedOrder, received: Outcome, version: str
    ) -> list[Outcome]:
        grants = [self.controller.journal.grants[jti] for jti in event.grants]
        evidence = "; ".join(dict.fromkeys(one.evidence for one in grants))
        order = event.order
        self._audit(
            "control.accepted", jti=order.jti, control=order.control, grants=[*event.grants],
            agreed=version,
        )  # fmt: skip
        return [
            replace(received, state=OrderState.ACCEPTED, evidence=evidence),
            replace(received, state=OrderState.SCHEDULED, words=stamp(event.begin)),
        ]

    # -- releasing

    async def _end(self, verified: Verified, command: claims.Command) -> dict[str, Any]:
        """Cancel one order, or release all holds of a control. It is always taken (rule H9)."""
        answers: dict[str, Any] = {}
        outcomes: list[Outcome] = []
        known = [
            name for name in dict.fromkeys(command.cmd.tgt) if name in self.controller.controls
        ]
        for name in dict.fromkeys(command.cmd.tgt):
            control = self.controller.controls.get(name)
            if control is not None and self._may_end(verified, control):
                answers[name] = {"state": OrderState.CANCELLED}
                continue
            if control is None:
                no = _unknown(name)
            else:
                reason = Text(
                    "a key of the role {role} may not end a hold of {name}",
                    role=role_name(verified.role), name=name,
                )  # fmt: skip
                no = No(OrderCode.KID, reason)
                known.remove(name)
            answers[name] = _refusal(no)
            at = self.controller.dependencies.now().wall
            rejected = Outcome(
                command.jti, name, OrderState.REJECTED, at, str(no), no.reason,
                by=verified.owner, via=verified.via,
            )  # fmt: skip
            outcomes.append(rejected)
        answer = {"jti": command.jti, "targets": answers}
        ref, journal = command.cmd.ref or "", self.controller.journal
        late = any((ref, name) in journal.events for name in known)
        keep = _record_answer(verified, answer)
        cancels = command.cmd.act == "cancel"
        reason = Text("cancelled by {who}" if cancels else "released by {who}", who=verified.owner)
        # Before the commit: a failing disk must not delay a release. If the object comes again, it
        # ends nothing twice.
        for name in known:
            await self.controller.cancel(name, reason, ref if command.cmd.act == "cancel" else "")
        save, change = self.controller.dependencies.save, Transaction(outcomes=outcomes)
        # the order that is cancelled has not arrived yet: it is refused when it does
        if ref and not late and known:
            until = self.controller.dependencies.now().wall + EARLY_KEPT
            await self.controller.dependencies.call(journal.refuse_later, ref, known, until, keep)
            await save(change)
        else:
            await save(change, keep)
        self._audit("control.ended", jti=command.jti, ref=ref, controls=known)
        return answer

    def _may_end(self, verified: Verified, control: ConfiguredControl) -> bool:
        modality = control.modality
        could = verified.role in modality.require or verified.role in CENTRE
        return could and verified.scope.covers(modality.name, modality.equipment)

    def _audit(self, kind: str, **body: Any) -> None:
        self.controller.dependencies.audit(kind, body)


def _unknown(control: str) -> No:
    return No(OrderCode.ASSET, Text("there is no control {name} here", name=control))


def _refusal(no: No) -> dict[str, Any]:
    return {"state": OrderState.REJECTED, "code": str(no), "words": no.reason}


def _record_answer(verified: Verified, answer: dict[str, Any]) -> Callable[[Database], None]:
    return lambda database: database.by(lambda db: verify.keep_answer(db, verified, answer))


def grant_of(verified: Verified, content: claims.GrantClaims) -> Grant:
    """Read a grant.

    Raises ValueError if its windows or its season cannot be read, and if an occupant's grant does
    not name the occupancy with which it ends.
    """
    if content.role == "occupant" and content.occ is None:
        raise ValueError(Text("an occupant's grant must name its occupancy (`occ`)"))
    evidence = content.evid
    return Grant(
        jti=content.jti,
        role=content.role,
        by=verified.owner,
        to=content.sub,
        since=float(content.nbf if content.nbf is not None else content.iat),
        until=float(content.exp),
        assets=tuple(content.scope.assets),
        actions=tuple(content.scope.acts),
        limits=_limits(content.lim),
        unit=content.lim.unit,
        kid=verified.kid,
        occupancy=content.occ,
        evidence=f"{evidence.kind} {evidence.ref} of {evidence.date}",
    )


def _limits(lim: claims.Lim) -> Limits:
    return Limits(
        least=_number(lim.min),
        most=_number(lim.max),
        duration=_seconds(lim.max_dur),
        gap=_seconds(lim.min_gap),
        a_day=lim.max_day,
        time_a_day=_seconds(lim.max_time_day),
        notice=_seconds(lim.notice),
        windows=tuple(schedule.window(one) for one in lim.windows or ()),
        season=schedule.season(lim.season) if lim.season else None,
        emergency=lim.emerg,
    )


def order_of(verified: Verified, command: claims.Command, control: str, now: float) -> ControlOrder:
    """Read an order for one of its controls. An order without a start begins at `now`."""
    cmd = command.cmd
    value = cmd.val
    return ControlOrder(
        jti=command.jti,
        control=control,
        by=verified.owner,
        role=verified.role,
        action=cmd.act,
        value=_number(value) if isinstance(value, int | Decimal) else None,
        unit=cmd.unit,
        start=float(claims.moment(cmd.start)) if cmd.start else now,
        duration=_seconds(cmd.dur) or 0.0,
        rand=_seconds(cmd.rand) or 0.0,
        seq=command.seq,
        prio=command.prio,
        emergency=command.emerg,
        resume=cmd.resume,
        auth=tuple(command.auth),
        ref=cmd.ref or "",
        why=command.why or "",
        kid=verified.kid,
        received=now,
    )


def _number(value: int | Decimal | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _seconds(text: str | None) -> float | None:
    return None if text is None else float(claims.seconds(text))
