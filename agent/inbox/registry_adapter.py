"""Signed facts about dwellings go through the registry's own checks, like every other door's.

`who` is the owner of the key, and the source the object itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.clock import stamp
from agent.errors import NotRecorded, Refused
from agent.inbox.placemap import MOST_NAMES, MOST_PLACES, NewMap, read_map
from agent.registry import fields
from agent.registry.dates import MONTH, day_of_the_year, sane
from agent.registry.inputs import NewConsent, NewDuty, NewOccupancy, NewWithdrawal
from agent.registry.marks import Unknowing
from agent.registry.place import OCCUPANCY, parse
from agent.trust import claims
from agent.trust.claim_types import moment, seconds
from agent.trust.error_codes import REMEDIES, Forged, ObjectCode
from agent.trust.object_id import number_of, of_issuer

if TYPE_CHECKING:
    from agent.registry.consent_policy import Policy
    from agent.registry.records import Consent
    from agent.registry.registry import Registry
    from agent.trust.verify import Verified


COLLECTOR = "consent_collector"
"""a role that withdraws what it has collected; a building manager also what others have"""


@dataclass(frozen=True, slots=True)
class RegistryAdapter:
    """Puts signed facts into the registry."""

    registry: Registry
    policy: Policy
    most_places: int = MOST_PLACES
    most_names: int = MOST_NAMES
    """that there may be here once a map is recorded"""

    def record(self, verified: Verified, now: float) -> str:
        """Record what an object says; in a word what was done, for people.

        Raises Refused where it contradicts what stands, NotYet where it may fit later, NotRecorded
        where the disk does not take it; what takes something away is in force all the same.
        """
        outcome = self._record(verified, now)
        self._on_the_disk(outcome)
        return outcome

    def _on_the_disk(self, outcome: str) -> None:
        if not self.registry.retry():
            raise NotRecorded(f"{outcome}: in force, and not recorded yet: the disk fails")

    def _record(self, verified: Verified, now: float) -> str:
        said, who, source = verified.said, verified.owner, f"{verified.typ} {verified.jti}"
        match said:
            case claims.ConsentClaims(status="withdrawn"):
                return self._withdrawal(said, verified.role, (who, source, now))
            case claims.ConsentClaims():
                return self._consent(said, (who, source, now))
            case claims.OccupancySaid():
                return self._occupancy(said, (who, source, now))
            case claims.DutyClaims():
                return self._duty(said, (who, source, now))
            case claims.PlaceMap():
                return self._map(said, (who, source, now))
            case _:
                raise Forged(ObjectCode.TYP, f"{verified.typ} is nothing for the registry")

    def known(self, verified: Verified) -> bool:
        """Whether the registry has it already: a kill came between it and the note of it, or the
        note is gone with a state that was restored. Nothing is done twice that may have been
        corrected since. Raises NotRecorded where the disk does not have it yet.
        """
        if self.registry.recorded(verified.owner, f"{verified.typ} {verified.jti}"):
            self._on_the_disk("recorded before")
            return True
        said = verified.said
        if isinstance(said, claims.ConsentClaims | claims.DutyClaims) and said.status == "given":
            return self.registry.author(self._id(said.jti, verified.owner)) is not None
        if isinstance(said, claims.OccupancySaid) and said.event == "move_in":
            return any(
                (one.id, one.place, one.since) == (said.occ, said.place, _at(said.from_))
                for one in self.registry.occupancies()
            )
        return False

    def since(self, verified: Verified, now: float) -> str:
        """What has become, since it was recorded, of what an object said; empty: it stands.

        Raises Forged E_REVOKED where it was a consent that was withdrawn (rule D5).
        """
        said = verified.said
        if isinstance(said, claims.ConsentClaims) and said.status == "given":
            id_ = self._id(said.jti, verified.owner)
            found = next((one for one in self.registry.consents() if one.id == id_), None)
            if found is not None and found.withdrawn is not None:
                words = f"the consent {said.jti} was withdrawn on {stamp(found.withdrawn)}"
                remedy = (
                    "If the people agree again, sign a new consent with a new `jti` and the last of"
                    " `marks` in `after`."
                )
                marks = self.registry.marks(found.occupancy, found.recipient)
                ids = [one.id for one in marks]
                raise Forged(ObjectCode.REVOKED, words, words, remedy, marks=ids)
            if found is not None and found.replaced is not None:
                return f"replaced by {number_of(found.replaced)} on {stamp(found.until)}"
            return f"ended on {stamp(found.until)}" if found and found.until <= now else ""
        if isinstance(said, claims.DutyClaims) and said.status == "given":
            id_ = self._id(said.jti, verified.owner)
            ends = [one.until for one in self.registry.duties() if one.id == id_]
        elif isinstance(said, claims.OccupancySaid) and said.event == "move_in":
            ends = [one.until for one in self.registry.occupancies() if one.id == said.occ]
        else:
            return ""
        return f"ended on {stamp(ends[0])}" if ends and ends[0] and ends[0] <= now else ""

    def _id(self, number: str, issuer: str) -> str:
        """Under what id an issuer's consent or duty stands here, or will: the number itself belongs
        to whoever used it first.
        """
        if self.registry.author(number) in {None, issuer}:
            return number
        return of_issuer(number, issuer)

    def _withdrawal(self, said: claims.ConsentClaims, role: str, by: tuple[str, str, float]) -> str:
        assert said.prev is not None
        number, own = said.prev, self._id(said.prev, by[0])
        known = [one for one in self.registry.consents() if number_of(one.id) == number]
        theirs = [one for one in known if (one.occupancy, one.place) == (said.sub, said.place)]
        mine = [one for one in known if one.id == own]
        if theirs:
            meant = next((one.id for one in mine if one in theirs), theirs[0].id)
        elif mine or (known and role != COLLECTOR):
            raise _of_others(said, (mine or known)[0])
        else:
            meant = own
        recipient = said.recipients[0] if said.recipients else None
        row = NewWithdrawal(meant, occupancy=said.sub, recipient=recipient, number=said.jti)
        found = self.registry.withdraw([row], *by)
        return "withdrawn" if found or theirs else "withdrawn before it came: it will not be taken"

    def _refusal(self, said: claims.ConsentClaims, by: tuple[str, str, float]) -> str:
        home = next((one for one in self.registry.occupancies() if one.id == said.sub), None)
        if home is not None and home.place != said.place:
            words = "`place` differs from the place of the occupancy that `sub` names"
            raise Forged(ObjectCode.REGISTRY, f"{said.jti}: {words}", words)
        assert said.recipients is not None
        row = NewWithdrawal(
            occupancy=said.sub, recipient=said.recipients[0], number=said.jti, refused=True
        )
        ended = self.registry.withdraw([row], *by)
        return f"refused: {len(ended)} consents end" if ended else "refused: nothing may leave"

    def _consent(self, said: claims.ConsentClaims, by: tuple[str, str, float]) -> str:
        if said.status == "refused":
            return self._refusal(said, by)
        assert said.given_at is not None
        if said.given_at > by[2] + fields.CLOCKS_DIFFER:
            given, now = stamp(said.given_at), stamp(by[2])
            words = f"given_at is {given}, and it is {now} here: write when it was signed"
            raise Forged(ObjectCode.NOT_YET, words)
        assert said.data is not None
        assert said.recipients is not None
        row = NewConsent(
            place=said.place,
            recipient=said.recipients[0],
            channels=tuple(said.data.channels),
            step=MONTH if said.data.step == "P1M" else seconds(said.data.step),
            purpose=str(said.purpose),
            since=said.nbf,
            until=said.exp,
            occupancy=said.sub,
            id=self._id(said.jti, by[0]),
            given=said.given_at,
            method=said.method or "",
            proof=said.proof.ref if said.proof else "",
            after=(said.after,) if said.after else (),
            withdrawals=tuple(said.withdrawals or ()),
            replaces=said.prev and self._id(said.prev, by[0]),
        )
        self.registry.consent([row], *by, self.policy)
        return "consent recorded"

    def _occupancy(self, said: claims.OccupancySaid, by: tuple[str, str, float]) -> str:
        row = NewOccupancy(
            event=said.event,
            place=said.place,
            id=said.occ,
            since=_at(said.from_),
            until=_at(said.to),
            reference=said.ref,
            stays=said.event == "correct" and said.to is None and "to" in said.model_fields_set,
        )
        self.registry.occupy([row], *by)
        return said.event.replace("_", " ")

    def _duty(self, said: claims.DutyClaims, by: tuple[str, str, float]) -> str:
        if said.status == "ended":
            meant = self._id(said.prev, by[0]) if said.prev else said.reference
            self.registry.end_duty(meant, _at(said.to), *by)
            return "ended"
        row = NewDuty(
            recipient=said.recipient,
            reference=said.reference,
            channels=tuple(said.channels),
            since=_at(said.from_),
            until=_at(said.to),
            billing=tuple(said.billing or ()),
            id=self._id(said.jti, by[0]),
        )
        self.registry.oblige([row], *by)
        return "duty recorded"

    def preview(self, verified: Verified, now: float) -> dict[str, Any]:
        """What a place map would bring, and record nothing.

        Raises Refused where it contradicts what stands.
        """
        said = verified.said
        assert isinstance(said, claims.PlaceMap)
        found = self._read(said)
        by = (verified.owner, f"{verified.typ} {verified.jti}", now)
        self._bring(found, by, preview=True)
        known = {(one.place, one.scheme, one.value) for one in self.registry.aliases()}
        named = [one for one in found.names if (one.place, one.scheme, one.value) not in known]
        return {
            "places": [
                {"id": one.id, "label": one.label, "type": one.type} for one in found.places
            ],
            "names": [
                {"place": one.place, "scheme": one.scheme, "value": one.value} for one in named
            ],
            "unchanged": len(found.names) - len(named),
        }

    def _map(self, said: claims.PlaceMap, by: tuple[str, str, float]) -> str:
        found = self._read(said)
        self._bring(found, by)
        return f"{len(found.places)} places are new, {len(found.names)} names are known"

    def _read(self, said: claims.PlaceMap) -> NewMap:
        """What a map says. Raises Refused where there would be too much here after it."""
        places = {place.id for place in self.registry.places()}
        found = read_map(said.csv, said.jti, places)
        for what, many, most in (
            ("places", len(places) + len(found.places), self.most_places),
            ("names of places", len(self.registry.aliases()) + len(found.names), self.most_names),
        ):
            if many > most:
                words = f"with this map there would be {many:,} {what} here; {most:,} are allowed"
                raise Forged(
                    ObjectCode.REGISTRY, words, words, "Leave out what is not of this building."
                )
        return found

    def _bring(self, found: NewMap, by: tuple[str, str, float], *, preview: bool = False) -> None:
        if found.places:
            self.registry.add_places(found.places, *by, lots=found.names, preview=preview)
        elif found.names:
            self.registry.name(found.names, *by, preview=preview)


def _of_others(said: claims.ConsentClaims, meant: Consent) -> Forged:
    """A withdrawal names other people than the consent that it would end: which claims differ."""
    differs = [
        f"`{claim}`"
        for claim, here, theirs in (
            ("sub", meant.occupancy, said.sub), ("place", meant.place, said.place),
        )
        if here != theirs
    ]  # fmt: skip
    verb = "differs" if len(differs) == 1 else "differ"
    wrong = f"{' and '.join(differs)} {verb} from the consent that `prev` names"
    remedy = "Take `sub`, `place` and `prev` from one consent and sign it again with a new `jti`."
    return Forged(ObjectCode.REGISTRY, f"{said.prev}: {wrong}", wrong, remedy)


def _at(text: str | None) -> int | None:
    try:
        return None if text is None else sane(moment(text))
    except ValueError as error:
        raise Refused(f"{text}: {error}") from error


AS_CLAIMS = {"until:": "`exp`:", "step:": "`data.step`:", "given:": "`given_at`:"}
"""what the columns of a list are called in an object"""
CONTRADICTS = {
    "consent+jwt": "it contradicts what is recorded at the gateway: `place` is not known, the"
    " occupancy is another place's or is not there at `nbf`, this consent is known or was withdrawn"
    " already, or another one stands for the same recipient and purpose",
    "occupancy+jwt": "it contradicts what is recorded at the gateway: `place` is not a dwelling"
    " known there, somebody else lives there at that time, or `occ` is known already (move_in) or"
    " not known (move_out, correct)",
    "duty+jwt": "it contradicts what is recorded at the gateway: this duty is known already,"
    " another recipient has one for the same time, or there is none to end",
    "place-map+jws": "the place map contradicts what is recorded at the gateway: `conflicts` gives"
    " the lines where they are known",
}


def contradiction(error: Refused, verified: Verified, policy: Policy) -> Forged:
    """What the registry said against it, with a code, and what its sender may be told of that."""
    if isinstance(error, Forged):
        return error
    if isinstance(error, Unknowing):
        return Forged(ObjectCode.AFTER, str(error), marks=[one.id for one in error.marks])
    fault = own_fault(verified, policy)
    for ours, claim in AS_CLAIMS.items():
        fault = f"{claim}{fault.removeprefix(ours)}" if fault.startswith(ours) else fault
    if fault:
        return Forged(ObjectCode.REGISTRY, str(error), fault, REMEDIES[ObjectCode.FORM])
    return Forged(ObjectCode.REGISTRY, str(error), CONTRADICTS[verified.typ])


def own_fault(verified: Verified, policy: Policy) -> str:
    """What is wrong with an object whatever is recorded here; empty: nothing is."""
    said = verified.said
    try:
        match said:
            case claims.ConsentClaims(
                data=claims.ConsentData() as data, recipients=list() as recipients
            ):
                parse(said.sub, OCCUPANCY)
                parse(said.place)
                fields.recipient(recipients[0])
                fields.personal(data.channels)
                fields.step(MONTH if data.step == "P1M" else seconds(data.step), policy)
                fields.until(said.exp, sane(said.nbf or 0), sane(said.given_at or 0))
            case claims.OccupancySaid():
                parse(said.occ, OCCUPANCY)
                parse(said.place)
                for moment_said in (said.from_, said.to):
                    _at(moment_said)
            case claims.DutyClaims():
                for moment_said in (said.from_, said.to):
                    _at(moment_said)
                fields.recipient(said.recipient)
                fields.registers(said.channels)
                for day in said.billing or ():
                    day_of_the_year(day)
            case claims.PlaceMap():
                read_map(said.csv, said.jti, ())
    except (Refused, ValueError) as error:
        return str(error)
    return ""
