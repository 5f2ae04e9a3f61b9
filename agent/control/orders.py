"""Where signed orders, grants and revocations are taken, decided and written down.

What was decided and that it was decided are on the disk together: the same bytes again get the
first answer again (rule O8).
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.clock import stamp
from agent.control.claims import grant_of, order_of
from agent.control.decide import decide
from agent.control.guard import plain
from agent.control.model import AcceptedOrder, No, OrderCode, OrderState
from agent.control.records import Outcome, Transaction
from agent.errors import NotRecorded, StorageFailed
from agent.trust import claims, replay, revocations
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.object_id import number_of, of_issuer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.buffer.database import Database
    from agent.control.configured_control import ConfiguredControl
    from agent.control.controller import Controller
    from agent.control.model import ControlOrder, Grant
    from agent.trust.verify import Verified

EARLY_KEPT = 72 * 3600.0
"""seconds for which a cancellation that came before its order is kept"""
CENTRE = frozenset({"grid_operator", "registry"})
"""who may end whatever stands"""
NAMED = 20
"""controls of one refused order that the audit chain names, of each code"""
DRAWS = random.SystemRandom()


@dataclass
class Orders:
    """See the module. `run` makes a call in the journal's own thread."""

    keeper: Controller
    run: Callable[..., Awaitable[Any]]
    refuse: Callable[[Verified], None] = lambda _: None
    """has an order or a grant forgotten that may be on the disk though it was refused"""
    patience: float = 1.0
    """seconds in which the disk must say whether what ends something came before"""

    def __post_init__(self) -> None:
        """Two ways may bring the same object at once."""
        self._one_at_a_time = asyncio.Lock()

    async def take(self, verified: Verified) -> dict[str, Any]:
        """Take one object; the answer says what became of it. Raises Forged, SpoolFull.

        While the disk fails, an order or a grant is refused (E_STORAGE); what gives back or takes
        back counts at once, and NotRecorded says that it must come again.
        """
        said = verified.model
        ends = isinstance(said, claims.Revocation) or (
            isinstance(said, claims.Command) and said.gives_back
        )
        async with self._one_at_a_time:
            before = await self._first(verified, ends=ends)
            if before is not None:
                self._must_stand(verified)
                return dict(before) | {"again": True}
            try:
                return await self._take(verified)
            except StorageFailed as error:
                if ends:
                    raise NotRecorded(f"in force, and not recorded yet: {error}") from error
                self.refuse(verified)
                raise Forged(ObjectCode.STORAGE, str(error)) from error

    async def _first(self, verified: Verified, *, ends: bool) -> dict[str, Any] | None:
        """What became of it before; what ends something does not wait for a disk to say so."""
        try:
            async with asyncio.timeout(self.patience if ends else None):
                before: dict[str, Any] | None = await self.run(self.keeper.journal.first, verified)
        except (StorageFailed, TimeoutError) as error:
            if not ends:
                raise Forged(ObjectCode.STORAGE, str(error)) from error
            return None
        return before

    async def _take(self, verified: Verified) -> dict[str, Any]:
        said = verified.model
        if isinstance(said, claims.GrantClaims):
            return await self._grant(verified, said)
        if isinstance(said, claims.Revocation):
            return await self._revoke(verified, said)
        if isinstance(said, claims.Command):
            return await (self._end if said.gives_back else self._order)(verified, said)
        raise Forged(ObjectCode.TYP, f"{verified.typ} is nothing for the controls")

    # -- grants

    async def _grant(self, verified: Verified, said: claims.GrantClaims) -> dict[str, Any]:
        try:
            grant = grant_of(verified, said)
        except ValueError as error:
            raise Forged(ObjectCode.FORM, str(error)) from error
        for asset in grant.assets:
            if not self._covers(verified, asset):
                words = f"its `scope` in the trust list does not let this key speak for {asset}"
                raise Forged(
                    ObjectCode.KID, f"the key of {verified.owner} is not for {asset}", words
                )
        journal = self.keeper.journal
        if (other := journal.grants.get(grant.jti)) and other.by != grant.by:
            grant = replace(grant, jti=of_issuer(grant.jti, grant.by))
        answer = {"grant": said.jti, "role": grant.role, "revoked": journal.is_taken(grant)}
        await self.run(journal.grant, grant, _keep(verified, answer))
        self._audit("control.grant", jti=said.jti, kid=verified.kid)
        return answer

    def _must_stand(self, verified: Verified) -> None:
        """Answer a copy of a grant with what has become of it. Raises Forged E_REVOKED."""
        own = of_issuer(verified.jti, verified.owner)
        grants = self.keeper.journal.grants
        found = [one for id_ in (verified.jti, own) if (one := grants.get(id_))]
        for grant in found:
            if grant.by == verified.owner and grant.revoked:  # 0: its key counts no more here
                words = f"the grant {verified.jti} was revoked on {stamp(grant.revoked)}"
                raise Forged(ObjectCode.REVOKED, words, words)

    def _covers(self, verified: Verified, asset: str) -> bool:
        name, _, equipment = asset.partition(":")
        return verified.scope.covers(*(("", equipment) if name == "kind" else (asset, "")))

    async def _revoke(self, verified: Verified, said: claims.Revocation) -> dict[str, Any]:
        journal = self.keeper.journal
        last = journal.versions.get(verified.owner, 0)
        if said.ver <= last:
            words = f"version {last} of {verified.owner} came before, this is {said.ver}"
            raise Forged(ObjectCode.VERSION, words)
        some = revocations.revoked_by(verified, said)
        for one in some:
            self._may_take_back(one)
        answer = {
            "revoked": [one.what for one in some],
            "unknown": [one.what for one in some if not one.key and not self._numbered(one.what)],
        }
        version = (verified.owner, said.ver)
        journal.believe(some)  # before it is kept, which a disk may delay
        self.keeper.wake_all()
        await self.run(journal.revoke, some, version, _keep(verified, answer))
        self._audit("control.revoked", jti=said.jti, kid=verified.kid, revoked=answer["revoked"])
        return answer

    def _numbered(self, number: str) -> list[Grant]:
        """The grants of this number, of whatever issuers."""
        grants = self.keeper.journal.grants.values()
        return [grant for grant in grants if number_of(grant.jti) == number]

    def _may_take_back(self, one: revocations.TakenBack) -> None:
        """An unknown one may come later; then it is judged who has taken it back."""
        named = () if one.key else self._numbered(one.what)
        if named and not any(
            revocations.may_end(one.owner, one.role, by.by, by.role) for by in named
        ):
            raise Forged(
                ObjectCode.KID,
                f"{one.owner} cannot take back what {named[0].by} said",
                "a grant is revoked by who gave it, by another key of that role, or by a root",
            )

    # -- orders

    async def _order(self, verified: Verified, said: claims.Command) -> dict[str, Any]:
        now = self.keeper.world.now()
        answers: dict[str, Any] = {}
        events: list[AcceptedOrder] = []
        outcomes: list[Outcome] = []
        refused: dict[str, list[str]] = {}
        for name in dict.fromkeys(said.cmd.tgt):
            order = order_of(verified, said, name, now.wall)
            found = self.consider(verified, order)
            told = Outcome(
                order.jti, name, OrderState.RECEIVED, now.wall, by=order.by, words=order.why,
                value="" if order.value is None else plain(order.value),
            )  # fmt: skip
            outcomes.append(told)
            if isinstance(found, No):
                code = str(found)
                answers[name] = {"state": OrderState.REJECTED, "code": code, "words": found.words}
                outcomes.append(
                    replace(told, state=OrderState.REJECTED, code=code, words=found.words)
                )
                refused.setdefault(code, []).append(name)
                continue
            events.append(found)
            outcomes += self._taken(found, told, self.keeper.fits[name].modality.version)
            answers[name] = {
                "state": OrderState.SCHEDULED, "begin": stamp(found.begin), "end": stamp(found.end),
                "grants": [*found.grants],
            }  # fmt: skip
        for code, names in refused.items():
            self._audit(
                "control.refused", jti=said.jti, kid=verified.kid, code=code,
                controls=names[:NAMED], count=len(names),
            )  # fmt: skip
        answer = {"jti": said.jti, "targets": answers}
        change = Transaction(events=events, outcomes=outcomes)
        await self.keeper.world.save(change, _keep(verified, answer))
        for event in events:
            await self._replace(event.order)
            self.keeper.wake(event.order.control)
        return answer

    async def _replace(self, order: ControlOrder) -> None:
        """What it takes the place of goes, unless that has begun: then the stronger wins.

        Cut off before this, both stand, and who begins is decided again beside the other.
        """
        event = self.keeper.journal.events.get((order.ref, order.control))
        if event and event.state is OrderState.SCHEDULED and not event.began:
            await self.keeper.cancel(order.control, f"replaced by {order.jti}", order.ref)

    def consider(self, verified: Verified | None, order: ControlOrder) -> AcceptedOrder | No:
        """The decision on one order, with its draws; also for a dry run, which keeps nothing."""
        journal, fit = self.keeper.journal, self.keeper.fits.get(order.control)
        if fit is None:
            return decide_unknown(order)
        agreed = fit.modality
        if verified and not verified.scope.covers(agreed.name, agreed.equipment):
            return No(OrderCode.KID, f"the key of {verified.owner} is not for {agreed.name}")
        if (order.jti, order.control) in journal.events:
            return No(OrderCode.REPLAY, f"the number {order.jti} was used before: take another")
        if (order.jti, order.control) in journal.early:
            return No(OrderCode.REVOKED, "it was cancelled before it came")
        now = self.keeper.world.now()
        found = decide(order, agreed, self.keeper.facts(fit, now))
        if isinstance(found, No):
            return found
        return AcceptedOrder(
            order,
            OrderState.SCHEDULED,
            begin=order.start + DRAWS.uniform(0, order.rand),
            back=DRAWS.uniform(0, agreed.spread),
            grants=found.grants,
            accepted=now.wall,
        )

    def _taken(self, event: AcceptedOrder, told: Outcome, agreed: str) -> list[Outcome]:
        grants = [self.keeper.journal.grants[jti] for jti in event.grants]
        evidence = "; ".join(dict.fromkeys(one.evidence for one in grants))
        order = event.order
        self._audit(
            "control.accepted", jti=order.jti, control=order.control, grants=[*event.grants],
            agreed=agreed,
        )  # fmt: skip
        return [
            replace(told, state=OrderState.ACCEPTED, evidence=evidence),
            replace(told, state=OrderState.SCHEDULED, words=stamp(event.begin)),
        ]

    # -- giving back

    async def _end(self, verified: Verified, said: claims.Command) -> dict[str, Any]:
        """Cancel one order, or release whatever is held: always taken (rule H9)."""
        answers: dict[str, Any] = {}
        outcomes: list[Outcome] = []
        known = [name for name in dict.fromkeys(said.cmd.tgt) if name in self.keeper.fits]
        for name in dict.fromkeys(said.cmd.tgt):
            fit = self.keeper.fits.get(name)
            if fit is not None and self._may_end(verified, fit):
                answers[name] = {"state": OrderState.CANCELLED}
                continue
            if fit is None:
                no = No(OrderCode.ASSET, f"nothing called {name} may be commanded here")
            else:
                no = No(
                    OrderCode.KID,
                    f"a key of the role {verified.role} may not end what {name} holds",
                )
                known.remove(name)
            answers[name] = {"state": OrderState.REJECTED, "code": str(no), "words": no.words}
            at = self.keeper.world.now().wall
            outcomes.append(
                Outcome(
                    said.jti, name, OrderState.REJECTED, at, str(no), no.words, by=verified.owner
                )
            )
        answer = {"jti": said.jti, "targets": answers}
        ref, journal = said.cmd.ref or "", self.keeper.journal
        late = any((ref, name) in journal.events for name in known)
        keep = _keep(verified, answer)
        words = f"{said.cmd.act} by {verified.owner}"
        for name in known:  # before it is kept; it may come again, and ends nothing twice
            await self.keeper.cancel(name, words, ref if said.cmd.act == "cancel" else "")
        save, change = self.keeper.world.save, Transaction(outcomes=outcomes)
        if ref and not late and known:
            until = self.keeper.world.now().wall + EARLY_KEPT
            await self.run(journal.refuse_later, ref, known, until, keep)
            await save(change)
        else:
            await save(change, keep)
        self._audit("control.ended", jti=said.jti, ref=ref, controls=known)
        return answer

    def _may_end(self, verified: Verified, fit: ConfiguredControl) -> bool:
        agreed = fit.modality
        could = verified.role in agreed.require or verified.role in CENTRE
        return could and verified.scope.covers(agreed.name, agreed.equipment)

    def _audit(self, kind: str, **body: Any) -> None:
        self.keeper.world.audit(kind, body)


def decide_unknown(order: ControlOrder) -> No:
    """What is said of a control there is none of."""
    return No(OrderCode.ASSET, f"nothing called {order.control} may be commanded here")


def _keep(verified: Verified, answer: dict[str, Any]) -> Callable[[Database], None]:
    return lambda database: database.by(lambda db: replay.keep(db, verified, answer))
