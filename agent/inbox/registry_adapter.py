"""Record signed facts in the registry, through the same checks as all other facts.

The author of a fact is the owner of the key, and its source is the object.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.core.clock import stamp
from agent.core.errors import NotRecorded, Refused
from agent.core.i18n import N_, Plural, Text, text_of
from agent.registry import parsers
from agent.registry.dates import MONTH, day_of_the_year, sane
from agent.registry.index import Unknowing
from agent.registry.inputs import (
    NewAlias,
    NewConsent,
    NewDuty,
    NewOccupancy,
    NewPlace,
    NewWithdrawal,
)
from agent.registry.place import OCCUPANCY, PLACES, parse
from agent.trust import claims
from agent.trust.claims import moment, seconds
from agent.trust.error_codes import REMEDIES, Forged, ObjectCode
from agent.trust.object_id import number_of, of_issuer

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.registry.consent_policy import Policy
    from agent.registry.records import Consent
    from agent.registry.registry import Registry
    from agent.trust.verify import Verified

MOST_LINES = 25_000
"""lines of one map, which has 1 MiB at most"""
MOST_PLACES, MOST_NAMES = 60_000, 120_000
"""limits for the registry after a map is recorded"""
COLUMNS = ["place_id", "type", "parent", "label", "scheme", "value", "valid_from", "valid_to"]
COLLECTOR = "consent_collector"
RECORDED_BEFORE = Text("recorded before")
"""role that may withdraw only consents it has collected; a building manager may withdraw any"""


AS_CLAIMS = {"until:": "`exp`:", "step:": "`data.step`:", "given:": "`given_at`:"}
"""columns of a list, and the claims with the same meaning"""
CONTRADICTS = {
    "consent+jwt": "it contradicts what is recorded at the gateway: `place` is not known, the"
    " occupancy is of another place or does not exist at `nbf`, this consent is recorded or was"
    " withdrawn already, or another one is in force for the same recipient and purpose",
    "occupancy+jwt": "it contradicts what is recorded at the gateway: `place` is not a dwelling"
    " known there, somebody else lives there at that time, or `occ` is known already (move_in) or"
    " not known (move_out, correct)",
    "duty+jwt": "it contradicts what is recorded at the gateway: this duty is known already,"
    " another recipient has one for the same time, or there is none to end",
    "place-map+jws": "the place map contradicts what is recorded at the gateway, or a new label"
    " cannot be told from that of another place: `conflicts` gives the lines where they are known",
}


@dataclass
class NewMap:
    """The rows of a map, for the registry."""

    places: list[NewPlace] = field(default_factory=list)
    names: list[NewAlias] = field(default_factory=list)


def read_map(text: str, name: str, known: Collection[str]) -> NewMap:
    """Read a map; `known`: ids of recorded places. Raises Refused with the wrong line."""
    lines = csv.reader(io.StringIO(text), delimiter=";", strict=True)
    place_map, seen = NewMap(), set(known)
    try:
        heading = next(lines, [])
        if heading != COLUMNS:
            raise Refused(
                "{name}:1: a place map has the columns {names}", name=name, names=";".join(COLUMNS)
            )
        for number, cells in enumerate(lines, start=2):
            if number > MOST_LINES + 1:
                raise Refused(
                    "{name}:{number}: a place map has {most_lines:,} lines at most",
                    name=name,
                    number=number,
                    most_lines=MOST_LINES,
                )
            if cells:
                _line(cells, f"{name}:{number}", place_map, seen)
    except csv.Error as error:
        raise Refused(
            "{name}:{line_num}: {error}", name=name, line_num=lines.line_num, error=error
        ) from None
    return place_map


def _line(cells: list[str], where: str, place_map: NewMap, seen: set[str]) -> None:
    if len(cells) != len(COLUMNS):
        raise Refused(
            "{where}: {number} cells instead of {number_2}",
            where=where,
            number=len(cells),
            number_2=len(COLUMNS),
        )
    id_, type_, _, label, scheme, value, since, until = cells
    try:
        place = parse(id_)
        begins, ends = _moment(since), _moment(until)
    except (Refused, ValueError) as error:
        raise Refused("{where}: {error}", where=where, error=error) from None
    if type_ not in {place[0], PLACES[place[0]]}:
        raise Refused(
            "{where}: {id} is a {places}, not a {type}",
            where=where,
            id=id_,
            places=PLACES[place[0]],
            type=type_,
        )
    if place not in seen:
        place_map.places.append(
            NewPlace(
                label, PLACES[place[0]], place, occupied=False, where=where, confirmed=frozenset()
            )
        )
        seen.add(place)
    if scheme:
        place_map.names.append(NewAlias(place, scheme, value, begins, ends, where=where))


def _moment(text: str) -> int | None:
    return moment(text) if text else None


@dataclass(frozen=True, slots=True)
class RegistryAdapter:
    """Records signed facts in the registry."""

    registry: Registry
    policy: Policy
    most_places: int = MOST_PLACES
    most_names: int = MOST_NAMES
    """limits for the registry after a map is recorded"""

    def record(self, verified: Verified, now: float) -> str:
        """Record the fact of an object; returns what was done, for people.

        Raises Refused if it contradicts recorded facts, NotYet if it may fit later, NotRecorded if
        the disk fails. A withdrawal is in force even then.
        """
        outcome = self._record(verified, now)
        self._must_be_on_disk(outcome)
        return outcome

    def _must_be_on_disk(self, outcome: str) -> None:
        if not self.registry.retry():
            raise NotRecorded(
                "{outcome}: in force, but not recorded yet, because the disk fails", outcome=outcome
            )

    def _record(self, verified: Verified, now: float) -> str:
        model, who, source = verified.model, verified.owner, f"{verified.typ} {verified.jti}"
        match model:
            case claims.ConsentClaims(status="withdrawn"):
                return self._withdrawal(model, verified.role, (who, source, now))
            case claims.ConsentClaims():
                return self._consent(model, (who, source, now))
            case claims.OccupancyClaims():
                return self._occupancy(model, (who, source, now))
            case claims.DutyClaims():
                return self._duty(model, (who, source, now))
            case claims.PlaceMap():
                return self._map(model, (who, source, now))
            case _:
                raise Forged(
                    ObjectCode.TYP, Text("{typ} is not a fact for the registry", typ=verified.typ)
                )

    def known(self, verified: Verified) -> bool:
        """Whether the registry has the fact already, although its `jti` is not stored.

        That happens if a kill comes between both writes, or after a restore. Recording it again
        might undo a later correction. Raises NotRecorded if it is not on the disk yet.
        """
        if self.registry.recorded(verified.owner, f"{verified.typ} {verified.jti}"):
            self._must_be_on_disk(RECORDED_BEFORE)
            return True
        model = verified.model
        if isinstance(model, claims.ConsentClaims | claims.DutyClaims) and model.status == "given":
            return self.registry.author(self._id(model.jti, verified.owner)) is not None
        if isinstance(model, claims.OccupancyClaims) and model.event == "move_in":
            return any(
                (one.id, one.place, one.since) == (model.occ, model.place, _at(model.from_))
                for one in self.registry.occupancies()
            )
        return False

    def since(self, verified: Verified, now: float) -> str:
        """What has changed since the fact of an object was recorded; empty: it is still valid.

        Raises Forged E_REVOKED if it is a consent that was withdrawn since (rule D5).
        """
        model = verified.model
        if isinstance(model, claims.ConsentClaims) and model.status == "given":
            id_ = self._id(model.jti, verified.owner)
            consent = next((one for one in self.registry.consents() if one.id == id_), None)
            if consent is not None and consent.withdrawn is not None:
                reason = Text(
                    "the consent {jti} was withdrawn on {date}",
                    jti=model.jti,
                    date=stamp(consent.withdrawn),
                )
                remedy = (
                    "If the occupants agree again, sign a new consent with a new `jti` and the last"
                    " of `marks` in `after`."
                )
                marks = self.registry.marks(consent.occupancy, consent.recipient)
                ids = [one.id for one in marks]
                raise Forged(ObjectCode.REVOKED, reason, reason, remedy, marks=ids)
            if consent is not None and consent.replaced is not None:
                by, on = number_of(consent.replaced), stamp(consent.until)
                return Text("replaced by {consent} on {day}", consent=by, day=on)
            return _ended(consent.until, now) if consent else ""
        if isinstance(model, claims.DutyClaims) and model.status == "given":
            id_ = self._id(model.jti, verified.owner)
            ends = [one.until for one in self.registry.duties() if one.id == id_]
        elif isinstance(model, claims.OccupancyClaims) and model.event == "move_in":
            ends = [one.until for one in self.registry.occupancies() if one.id == model.occ]
        else:
            return ""
        return _ended(ends[0], now) if ends and ends[0] else ""

    def _id(self, number: str, issuer: str) -> str:
        """The id of an issuer's consent or duty here (agent/trust/claims.py)."""
        if self.registry.author(number) in {None, issuer}:
            return number
        return of_issuer(number, issuer)

    def _withdrawal(
        self, consent: claims.ConsentClaims, role: str, by: tuple[str, str, float]
    ) -> str:
        assert consent.prev is not None
        number, own = consent.prev, self._id(consent.prev, by[0])
        known = [one for one in self.registry.consents() if number_of(one.id) == number]
        # issuers may use the same number: `sub` and `place` tell which consent is meant
        theirs = [
            one for one in known if (one.occupancy, one.place) == (consent.sub, consent.place)
        ]
        mine = [one for one in known if one.id == own]
        if theirs:
            consent_id = next((one.id for one in mine if one in theirs), theirs[0].id)
        elif mine or (known and role != COLLECTOR):
            raise _of_others(consent, (mine or known)[0])
        else:
            consent_id = own
        recipient = consent.recipients[0] if consent.recipients else None
        row = NewWithdrawal(
            consent_id, occupancy=consent.sub, recipient=recipient, number=consent.jti
        )
        withdrawn = self.registry.withdraw([row], *by)
        return (
            "withdrawn"
            if withdrawn or theirs
            else "withdrawn before it arrived: it will not be accepted"
        )

    def _refusal(self, refusal: claims.ConsentClaims, by: tuple[str, str, float]) -> str:
        home = next((one for one in self.registry.occupancies() if one.id == refusal.sub), None)
        if home is not None and home.place != refusal.place:
            reason = "`place` is not the place of the occupancy that `sub` names"
            raise Forged(
                ObjectCode.REGISTRY, Text("{jti}: {reason}", jti=refusal.jti, reason=reason), reason
            )
        assert refusal.recipients is not None
        row = NewWithdrawal(
            occupancy=refusal.sub, recipient=refusal.recipients[0], number=refusal.jti, refused=True
        )
        ended = self.registry.withdraw([row], *by)
        if ended:
            return Plural(
                "refused: {number} consent ends", "refused: {number} consents end", len(ended)
            )
        return Text("refused: nothing may leave")

    def _consent(self, consent: claims.ConsentClaims, by: tuple[str, str, float]) -> str:
        if consent.status == "refused":
            return self._refusal(consent, by)
        assert consent.given_at is not None
        if consent.given_at > by[2] + parsers.CLOCKS_DIFFER:
            given, now = stamp(consent.given_at), stamp(by[2])
            reason = Text(
                "`given_at` is {given}, but it is {now} here: give the time of the signature",
                given=given,
                now=now,
            )
            raise Forged(ObjectCode.NOT_YET, reason)
        assert consent.data is not None
        assert consent.recipients is not None
        row = NewConsent(
            place=consent.place,
            recipient=consent.recipients[0],
            channels=tuple(consent.data.channels),
            step=MONTH if consent.data.step == "P1M" else seconds(consent.data.step),
            purpose=str(consent.purpose),
            since=consent.nbf,
            until=consent.exp,
            occupancy=consent.sub,
            id=self._id(consent.jti, by[0]),
            given=consent.given_at,
            method=consent.method or "",
            proof=consent.proof.ref if consent.proof else "",
            after=(consent.after,) if consent.after else (),
            withdrawals=tuple(consent.withdrawals or ()),
            replaces=consent.prev and self._id(consent.prev, by[0]),
        )
        self.registry.consent([row], *by, self.policy)
        return Text("consent recorded")

    def _occupancy(self, occupancy: claims.OccupancyClaims, by: tuple[str, str, float]) -> str:
        row = NewOccupancy(
            event=occupancy.event,
            place=occupancy.place,
            id=occupancy.occ,
            since=_at(occupancy.from_),
            until=_at(occupancy.to),
            reference=occupancy.ref,
            # `to: null` means that they still live there; without `to` the recorded end stays
            stays=occupancy.event == "correct"
            and occupancy.to is None
            and "to" in occupancy.model_fields_set,
        )
        self.registry.occupy([row], *by)
        return occupancy.event.replace("_", " ")

    def _duty(self, duty: claims.DutyClaims, by: tuple[str, str, float]) -> str:
        if duty.status == "ended":
            ended_duty = self._id(duty.prev, by[0]) if duty.prev else duty.reference
            self.registry.end_duty(ended_duty, _at(duty.to), *by)
            return Text("ended")
        row = NewDuty(
            recipient=duty.recipient,
            reference=duty.reference,
            channels=tuple(duty.channels),
            since=_at(duty.from_),
            until=_at(duty.to),
            billing=tuple(duty.billing or ()),
            id=self._id(duty.jti, by[0]),
        )
        self.registry.oblige([row], *by)
        return Text("duty recorded")

    def preview(self, verified: Verified, now: float) -> dict[str, Any]:
        """What a place map would change; nothing is recorded.

        Raises Refused if it contradicts recorded facts.
        """
        model = verified.model
        assert isinstance(model, claims.PlaceMap)
        place_map = self._read(model)
        by = (verified.owner, f"{verified.typ} {verified.jti}", now)
        self._add(place_map, by, preview=True)
        known = {(one.place, one.scheme, one.value) for one in self.registry.aliases()}
        named = [one for one in place_map.names if (one.place, one.scheme, one.value) not in known]
        return {
            "places": [
                {"id": one.id, "label": one.label, "type": one.type} for one in place_map.places
            ],
            "names": [
                {"place": one.place, "scheme": one.scheme, "value": one.value} for one in named
            ],
            "unchanged": len(place_map.names) - len(named),
        }

    def _map(self, model: claims.PlaceMap, by: tuple[str, str, float]) -> str:
        place_map = self._read(model)
        self._add(place_map, by)
        return Text(
            "{places} places are new, {names} names are known",
            places=len(place_map.places),
            names=len(place_map.names),
        )

    def _read(self, model: claims.PlaceMap) -> NewMap:
        """Read a map. Raises Refused if the registry would exceed its limits with it."""
        places = {place.id for place in self.registry.places()}
        place_map = read_map(model.csv, model.jti, places)
        for what, many, most in (
            (N_("places"), len(places) + len(place_map.places), self.most_places),
            (
                N_("names of places"),
                len(self.registry.aliases()) + len(place_map.names),
                self.most_names,
            ),
        ):
            if many > most:
                reason = Text(
                    "with this map there would be {many:,} {what}; {most:,} are allowed",
                    many=many,
                    what=Text(what),
                    most=most,
                )
                raise Forged(
                    ObjectCode.REGISTRY, reason, reason, "Leave out places of other buildings."
                )
        return place_map

    def _add(self, place_map: NewMap, by: tuple[str, str, float], *, preview: bool = False) -> None:
        if place_map.places:
            self.registry.add_places(place_map.places, *by, lots=place_map.names, preview=preview)
        elif place_map.names:
            self.registry.name(place_map.names, *by, preview=preview)


def _ended(until: float, now: float) -> str:
    return Text("ended on {day}", day=stamp(until)) if until <= now else ""


def _of_others(withdrawal: claims.ConsentClaims, consent: Consent) -> Forged:
    """The error for a withdrawal whose claims do not match the consent that it names."""
    differs = [
        f"`{claim}`"
        for claim, here, theirs in (
            ("sub", consent.occupancy, withdrawal.sub), ("place", consent.place, withdrawal.place),
        )
        if here != theirs
    ]  # fmt: skip
    verb = "differs" if len(differs) == 1 else "differ"
    wrong = f"{' and '.join(differs)} {verb} from the consent that `prev` names"
    remedy = "Take `sub`, `place` and `prev` from one consent and sign it again with a new `jti`."
    return Forged(
        ObjectCode.REGISTRY,
        Text("{prev}: {wrong}", prev=withdrawal.prev, wrong=wrong),
        wrong,
        remedy,
    )


def _at(text: str | None) -> int | None:
    try:
        return None if text is None else sane(moment(text))
    except ValueError as error:
        raise Refused("{text}: {error}", text=text, error=error) from error


def contradiction(error: Refused, verified: Verified, policy: Policy) -> Forged:
    """Convert a refusal of the registry into Forged, with a reason that the sender may see."""
    if isinstance(error, Forged):
        return error
    if isinstance(error, Unknowing):
        return Forged(ObjectCode.AFTER, error.text, marks=[one.id for one in error.marks])
    fault: str = own_fault(verified, policy)
    for ours, claim in AS_CLAIMS.items():
        fault = f"{claim}{fault.removeprefix(ours)}" if fault.startswith(ours) else fault
    if fault:
        return Forged(ObjectCode.REGISTRY, error.text, fault, REMEDIES[ObjectCode.FORM])
    return Forged(ObjectCode.REGISTRY, error.text, CONTRADICTS[verified.typ])


def own_fault(verified: Verified, policy: Policy) -> Text:
    """A fault of an object that does not depend on recorded facts; empty: none."""
    model = verified.model
    try:
        match model:
            case claims.ConsentClaims(
                data=claims.ConsentData() as data, recipients=list() as recipients
            ):
                parse(model.sub, OCCUPANCY)
                parse(model.place)
                parsers.recipient(recipients[0])
                parsers.personal(data.channels)
                parsers.checked_step(MONTH if data.step == "P1M" else seconds(data.step), policy)
                parsers.until(model.exp, sane(model.nbf or 0), sane(model.given_at or 0))
            case claims.OccupancyClaims():
                parse(model.occ, OCCUPANCY)
                parse(model.place)
                for moment_said in (model.from_, model.to):
                    _at(moment_said)
            case claims.DutyClaims():
                for moment_said in (model.from_, model.to):
                    _at(moment_said)
                parsers.recipient(model.recipient)
                parsers.registers(model.channels)
                for day in model.billing or ():
                    day_of_the_year(day)
            case claims.PlaceMap():
                read_map(model.csv, model.jti, ())
    except (Refused, ValueError) as error:
        return text_of(error)
    return Text("")
