"""Signed facts about dwellings go through the registry's own checks, like every other door's.

`who` is the owner of the key, and the source the object itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.authority import claims
from agent.authority.refused import REMEDIES, Code, Forged
from agent.authority.words import moment, seconds
from agent.clock import stamp
from agent.errors import NotRecorded, Refused
from agent.reception.placemap import read_map
from agent.registry import fields
from agent.registry.dates import MONTH, day_of_the_year, sane
from agent.registry.entries import NewConsent, NewDuty, NewOccupancy, NewWithdrawal
from agent.registry.place import OCCUPANCY, parse

if TYPE_CHECKING:
    from agent.authority.verify import Verified
    from agent.registry.gate import Policy
    from agent.registry.registry import Registry


@dataclass(frozen=True, slots=True)
class Papers:
    """Puts signed facts into the registry."""

    registry: Registry
    policy: Policy

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
            case claims.Consent():
                return self._consent(said, (who, source, now))
            case claims.OccupancySaid():
                return self._occupancy(said, (who, source, now))
            case claims.Duty():
                return self._duty(said, (who, source, now))
            case claims.PlaceMap():
                return self._map(said, (who, source, now))
            case _:
                raise Forged(Code.TYP, f"{verified.typ} is nothing for the registry")

    def known(self, verified: Verified) -> bool:
        """Whether the registry has it already: a kill came between it and the note of it, or the
        note is gone with a state that was restored. Nothing is done twice that may have been
        corrected since. Raises NotRecorded where the disk does not have it yet.
        """
        if self.registry.recorded(verified.owner, f"{verified.typ} {verified.jti}"):
            self._on_the_disk("recorded before")
            return True
        said = verified.said
        if isinstance(said, claims.Consent) and said.status == "given":
            return any(one.id == said.jti for one in self.registry.consents())
        if isinstance(said, claims.Duty) and said.status == "given":
            return any(one.id == said.jti for one in self.registry.duties())
        if isinstance(said, claims.OccupancySaid) and said.event == "move_in":
            return any(
                (one.id, one.place, one.since) == (said.occ, said.place, _at(said.from_))
                for one in self.registry.occupancies()
            )
        return False

    def _consent(self, said: claims.Consent, by: tuple[str, str, float]) -> str:
        if said.status == "refused":
            return "noted: nothing was asked for, and nothing may leave"
        if said.status == "withdrawn":
            assert said.prev is not None
            self._same_people(said)
            found = self.registry.withdraw([NewWithdrawal(id=said.prev)], *by)
            return "withdrawn" if found else "withdrawn before it came: it will not be taken"
        assert said.given_at is not None
        if said.given_at > by[2] + fields.CLOCKS_DIFFER:
            given, now = stamp(said.given_at), stamp(by[2])
            words = f"given_at is {given}, and it is {now} here: write when it was signed"
            raise Forged(Code.NOT_YET, words)
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
            id=said.jti,
            given=said.given_at,
            method=said.method or "",
            proof=said.proof.ref if said.proof else "",
            replaces=said.prev,
        )
        self.registry.consent([row], *by, self.policy)
        return "consent recorded"

    def _same_people(self, said: claims.Consent) -> None:
        """Refuse a withdrawal that names other people than those of the consent that it ends."""
        meant = next((one for one in self.registry.consents() if one.id == said.prev), None)
        if meant is None or (meant.occupancy, meant.place) == (said.sub, said.place):
            return
        wrong = "the consent that `prev` names is not of the people that `sub` and `place` name"
        raise Forged(Code.REGISTRY, f"{said.prev}: {wrong}", wrong, REMEDIES[Code.FORM])

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

    def _duty(self, said: claims.Duty, by: tuple[str, str, float]) -> str:
        if said.status == "ended":
            self.registry.end_duty(said.prev or said.reference, _at(said.to), *by)
            return "ended"
        row = NewDuty(
            recipient=said.recipient,
            reference=said.reference,
            channels=tuple(said.channels),
            since=_at(said.from_),
            until=_at(said.to),
            billing=tuple(said.billing or ()),
            id=said.jti,
        )
        self.registry.oblige([row], *by)
        return "duty recorded"

    def _map(self, said: claims.PlaceMap, by: tuple[str, str, float]) -> str:
        found = read_map(said.csv, said.jti, {place.id for place in self.registry.places()})
        if found.places:
            self.registry.add_places(found.places, *by, lots=found.names)
        elif found.names:
            self.registry.name(found.names, *by)
        return f"{len(found.places)} places are new, {len(found.names)} names are known"


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
    fault = own_fault(verified, policy)
    for ours, claim in AS_CLAIMS.items():
        fault = f"{claim}{fault.removeprefix(ours)}" if fault.startswith(ours) else fault
    if fault:
        return Forged(Code.REGISTRY, str(error), fault, REMEDIES[Code.FORM])
    return Forged(Code.REGISTRY, str(error), CONTRADICTS[verified.typ])


def own_fault(verified: Verified, policy: Policy) -> str:
    """What is wrong with an object whatever is recorded here; empty: nothing is."""
    said = verified.said
    try:
        match said:
            case claims.Consent(data=claims.ConsentData() as data, recipients=list() as recipients):
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
            case claims.Duty():
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
