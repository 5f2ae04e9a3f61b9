"""Breaches of personal data: what is recorded of each, what is still missing, and whose data are
concerned (GDPR, articles 33 and 34).

All records are in one file. Nothing is ever deleted from it: each step states what it changed.
Times are seconds since 1970 UTC.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from agent.api.protection.stores import KEYS, opened_by, periods, stores
from agent.core.atomic_write import StateFile
from agent.core.errors import Refused
from agent.core.i18n import N_, Text
from agent.registry.records import Consent
from agent.registry.sheet import did_you_mean
from agent.trust import audit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from agent.api.protection.stores import Store
    from agent.config import Config
    from agent.config.models import Privacy
    from agent.registry.dossier import DisclosedValues
    from agent.registry.records import Duty, Occupancy
    from agent.registry.registry import Registry

FILE = "breaches.json"
SCHEMA = "gardien/breaches/1"
AUTHORITY_WITHIN = 72 * 3600
"""seconds after the controller became aware within which the authority must be notified (GDPR,
article 33)
"""
KINDS = ("confidentiality", "integrity", "availability")
RISKS = ("none", "risk", "high")
"""the controller's judgement: `none` need not be notified; with `high` the people must be informed
"""
FRENCH = {
    "confidentialité": "confidentiality", "intégrité": "integrity",
    "disponibilité": "availability", "aucun": "none", "risque": "risk", "élevé": "high",
}  # fmt: skip
"""French names of these values, as a person may write them"""
TEXTS = ("what", "consequences", "measures", "delay")
"""free texts, each in one or more languages"""
LONGEST_TEXT = 4_000
NEVER = float("-inf")
ALL = "all"
"""stands for every store on the gateway, or for every key on it"""


@dataclass(frozen=True, slots=True)
class Step:
    """One action on the record of a breach."""

    at: int
    who: str
    what: str
    """name of the action; its text is `step_…` in words.yaml"""
    detail: str = ""
    changes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """by member: its value before and after this step; `what:fr` is a text in one language"""


@dataclass(frozen=True, slots=True)
class Breach:
    """The record of one breach, as far as it is known."""

    id: str
    """the year and a number within the year, such as `2026-3`"""
    noticed: int
    """when the controller became aware of it"""
    what: Mapping[str, str] = field(default_factory=dict)
    """text by language, as are the next three members"""
    consequences: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, str] = field(default_factory=dict)
    delay: Mapping[str, str] = field(default_factory=dict)
    """why the authority was notified late"""
    began: int | None = None
    ended: int | None = None
    kinds: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    """dwellings to which the breach is limited, by id; empty: all that the stores hold"""
    homes: tuple[str, ...] = ()
    """occupancies to which the breach is limited, by id; empty: as for `places`"""
    risk: str = ""
    notified: int | None = None
    reference: str = ""
    """number of the authority's acknowledgement"""
    told: int | None = None
    """when the people concerned were informed"""
    closed: int | None = None
    reason: str = ""
    """why the record was closed although something was missing, or opened by mistake"""
    mistake: bool = False
    """whether it was recorded by mistake"""
    steps: tuple[Step, ...] = ()

    @property
    def deadline(self) -> int:
        """When the authority must have been notified."""
        return self.noticed + AUTHORITY_WITHIN

    @property
    def scope(self) -> tuple[str, ...]:
        """The stores concerned: those that are named, and those that a lost key opens."""
        named = {*self.stores, *(store for key in self.keys for store in opened_by(key))}
        return tuple(one for one in stores() if one in named)

    @property
    def located(self) -> bool:
        """Whether the record says which data are concerned."""
        return bool(self.stores or self.keys or self.recipients or self.places or self.homes)

    @property
    def hash(self) -> str:
        """Hash of the whole record, as noted in the audit chain."""
        return _hash(asdict(self))

    @property
    def noticed_before(self) -> tuple[int, ...]:
        """Earlier values of `noticed`, in the order in which they were replaced."""
        return tuple(one.changes["noticed"][0] for one in self.steps if "noticed" in one.changes)

    @property
    def owed(self) -> bool:
        """Whether the authority must still be notified."""
        return not self.mistake and self.risk != "none" and self.notified is None

    def text(self, part: str, language: str) -> str:
        """A free text in this language, or else in another one; empty if it is in none."""
        texts: Mapping[str, str] = getattr(self, part)
        return texts.get(language) or next(iter(texts.values()), "")

    def with_step(
        self, at: float, who: str, what: str, detail: str = "", before: Breach | None = None
    ) -> Breach:
        """A copy with one more step; `before` is the record before that step."""
        changes = {} if before is None else _changes(before, self)
        return replace(self, steps=(*self.steps, Step(int(at), who, what, detail, changes)))


def _changes(before: Breach, after: Breach) -> dict[str, list[Any]]:
    changes: dict[str, list[Any]] = {}
    for member in fields(Breach):
        old, new = getattr(before, member.name), getattr(after, member.name)
        if member.name == "steps" or old == new:
            continue
        if member.name in TEXTS:
            languages = [of for of in new if old.get(of) != new[of]]
            changes |= {f"{member.name}:{of}": [old.get(of), new[of]] for of in languages}
        elif isinstance(new, tuple):
            changes[member.name] = [[*old], [*new]]
        else:
            changes[member.name] = [old, new]
    return changes


def missing(breach: Breach, privacy: Privacy) -> list[str]:
    """Names of what must still be added or done before the record is complete."""
    lacking = [name for name in ("controller", "dpo") if getattr(privacy, name) is None]
    texts = [part for part in TEXTS if part != "delay"]
    late = breach.notified is not None and breach.notified > breach.deadline
    texts += ["delay"] if late else []
    # one language is enough: a page in another one shows the text that exists
    lacking += [part for part in texts if not any(getattr(breach, part).values())]
    lacking += [] if breach.began is not None else ["began"]
    lacking += [] if breach.kinds else ["kinds"]
    lacking += [] if breach.located else ["scope"]
    # a recipient's data are known; for a dwelling, or a key that opens no store, name the stores
    if breach.located and not breach.scope and not breach.recipients:
        lacking.append("stores")
    lacking += [] if breach.risk else ["risk"]
    if breach.owed:
        lacking.append("notified")
    if breach.risk == "high" and breach.told is None:
        lacking.append("told")
    return lacking


def untranslated(breach: Breach, language: str) -> list[str]:
    """Names of the texts that exist, but not in this language."""
    texts = [(part, getattr(breach, part)) for part in TEXTS]
    return [
        f"{part}:{language}"
        for part, translations in texts
        if translations and not translations.get(language)
    ]


@dataclass(frozen=True, slots=True)
class Concerned:
    """A dwelling whose data are concerned, with the people who lived there at the time."""

    place: str
    home: Occupancy | None
    """None: nobody is known to have lived there at the time"""
    stores: tuple[str, ...]
    """the stores concerned that hold data of these people"""
    recipients: tuple[str, ...]
    """the recipients concerned that have or had a right to data of these people"""
    channels: tuple[str, ...] = ()
    """channels that their consents or a duty name; other channels cannot be among the data"""


class Concern:
    """Finds whose data a breach concerns: all people who lived in a dwelling in the time that the
    data in the stores reach back to.

    It names too many people rather than too few. It does not read the stores, because the gateway
    may have been stolen, or the data destroyed.
    """

    def __init__(
        self,
        breach: Breach,
        registry: Registry,
        config: Config,
        disclosed: Iterable[DisclosedValues],
        now: int,
    ) -> None:
        self._breach, self._registry, self._periods = breach, registry, periods(config)
        self._began = breach.noticed if breach.began is None else breach.began
        self._until = now if breach.ended is None else breach.ended
        self._duties = registry.duties()
        self._consents: dict[str, list[Consent]] = {}
        for consent in registry.consents():
            self._consents.setdefault(consent.occupancy, []).append(consent)
        self._received: dict[tuple[str, str], set[str]] = {}
        for count in disclosed:
            key = (count.place, count.occupancy)
            self._received.setdefault(key, set()).add(count.recipient)

    def all(self) -> list[Concerned]:
        """All people concerned, in the order of the labels of their dwellings."""
        registry, concerned = self._registry, list[Concerned]()
        labels = {one.id: one.label for one in registry.places()}
        named = self._breach.places
        of_homes = {one.place for one in registry.occupancies() if one.id in self._breach.homes}
        # no limit was recorded: every dwelling may be concerned
        places = {*named, *of_homes} or registry.dwellings()
        for place in sorted(places, key=labels.__getitem__):
            people = [
                self._concerned(place, home)
                for home in registry.occupancies_of(place)
                if place in named or not of_homes or home.id in self._breach.homes
            ]
            touched = [one for one in people if one is not None]
            if place in of_homes - {*named}:
                concerned += touched
            elif not touched and (unoccupied := self._concerned(place, None)) is not None:
                concerned.append(unoccupied)
            else:
                concerned += touched
        return concerned

    def _concerned(self, place: str, home: Occupancy | None) -> Concerned | None:
        """What data of these people are concerned; None: none."""
        breach = self._breach
        hit_stores = tuple(
            one for one in breach.scope if self._in_store(stores()[one], place, home)
        )
        # a recipient may still have all that it ever received, so its data reach back without a
        # limit
        receivers = tuple(
            one for one in breach.recipients if home and self._entitled(place, home, NEVER, (one,))
        )
        named = breach.places and not breach.scope and not breach.recipients
        named_alone = home is not None and home.id in breach.homes
        if hit_stores or receivers or named_alone or (named and self._lived(home, self._began)):
            rights = [*self._duties, *self._consents.get(home.id, ())] if home else []
            channels = {
                channel
                for one in rights
                if not breach.recipients or one.recipient in breach.recipients
                for channel in one.channels
            }
            return Concerned(place, home, hit_stores, receivers, tuple(sorted(channels)))
        return None

    def _in_store(self, store: Store, place: str, home: Occupancy | None) -> bool:
        if store.concerns == "nobody":
            return False
        since = self._began - self._periods[store.reach] if store.reach else NEVER
        if not self._lived(home, since):
            return False
        if store.concerns == "all":
            return True
        if home is None:
            return False
        if store.concerns == "duty":
            return any(self._overlaps(one, since, home) for one in self._duties)
        return self._entitled(place, home, since, self._breach.recipients)

    def _lived(self, home: Occupancy | None, since: float) -> bool:
        if home is None:
            return True
        return home.since <= self._until and (home.until is None or home.until > since)

    def _entitled(
        self, place: str, home: Occupancy, since: float, recipients: Collection[str]
    ) -> bool:
        """Whether any of these recipients (empty: any at all) had a right to data of these people
        since then, or has received some.
        """
        rights = [*self._duties, *self._consents.get(home.id, ())]
        if any(
            self._overlaps(one, since, home)
            for one in rights
            if not recipients or one.recipient in recipients
        ):
            return True
        received = self._received.get((place, home.id), set())
        # an earlier version recorded receipts without the occupancy
        received = received | self._received.get((place, ""), set())
        return bool(received & set(recipients) if recipients else received)

    def _overlaps(self, right: Consent | Duty, since: float, home: Occupancy) -> bool:
        withdrawn = right.withdrawn if isinstance(right, Consent) else None
        ends = [end for end in (right.until, withdrawn, home.until) if end is not None]
        return max(right.since, home.since) <= self._until and min(ends, default=since + 1) > since


def whole_day(at: int) -> bool:
    """Whether a time stands for a whole day, given without a time; it is stored as the last second
    of the day.
    """
    return at % 60 == 59  # noqa: PLR2004 -- nobody types seconds


def check_names(given: Mapping[str, Iterable[str]]) -> None:
    """Check the names of kinds, stores and keys. Raises Refused, with the known names."""
    known = {"kind": KINDS, "store": (*stores(), ALL), "key": (*KEYS, ALL)}
    for option, names in known.items():
        for name in given.get(option, ()):
            if name not in names:
                raise Refused(
                    '--{option}: "{one}" is unknown{near}; known values: {names}',
                    option=option,
                    one=name,
                    near=did_you_mean(name, names),
                    names=", ".join(names),
                )


UNLIKE = {
    "changed": N_("its content was changed"),
    "older": N_("it is an older version"),
    "unnoted": N_("its last step is not in the audit chain"),
    "gone": N_("it is missing from the file"),
}
"""how a record can differ from what the audit chain says was written"""


class Breaches:
    """The file of all breaches in the state directory, compared with the audit chain beside it."""

    def __init__(self, state: Path) -> None:
        self._chain, file = state / audit.FOLDER, state / FILE
        self._file = StateFile[list[dict[str, Any]]](
            file, partial(_records, file=file), list, partial(_unreadable, file=file),
            ensure_ascii=False, indent=1,
        )  # fmt: skip

    def all(self) -> list[Breach]:
        """All records, oldest first. Raises Refused if the file cannot be read."""
        return [_read(one) for one in self._file.load()]

    def compare_with_chain(self) -> dict[str, str]:
        """How each record compares with the audit chain, by id: `same`, `unknown` if the chain at
        hand does not mention it, or a key of `UNLIKE`. Raises Refused.
        """
        states: dict[str, str] = {}
        # the last entry of a breach counts: each step adds one
        entries = {str(one.get("breach")): one for one in audit.bodies(self._chain, "breach")}
        for written in self._file.load():
            breach, hash_ = _read(written), _hash(written)
            # what remains in `entries` is in the chain, but no longer in the file
            if (entry := entries.pop(breach.id, None)) is None:
                states[breach.id] = "unknown"
            elif entry.get("sha256") == hash_:
                states[breach.id] = "same"
            else:
                # fewer steps than noted: an older copy of the file was put back
                more = len(breach.steps) - int(entry.get("steps", 0))
                states[breach.id] = "older" if more < 0 else "unnoted" if more else "changed"
        return states | dict.fromkeys(entries, "gone")

    def get(self, id_: str) -> Breach:
        """One record by its id. Raises Refused if there is none."""
        by_number = {one.id: one for one in self.all()}
        if id_ not in by_number:
            known = ", ".join(by_number) or Text("none")
            raise Refused('there is no breach "{id}"; there are: {known}', id=id_, known=known)
        return by_number[id_]

    def next_number(self, year: int, others: Iterable[str] = ()) -> str:
        """The next free id of a year; `others` are further ids that are taken."""
        given = [one.partition("-") for one in (*others, *(one.id for one in self.all()))]
        numbers = [int(n) for of, _dash, n in given if of == str(year) and n.isdecimal()]
        return f"{year}-{max(numbers, default=0) + 1}"

    def save(self, breach: Breach) -> None:
        """Write one record, in place of its earlier version if there is one. Raises NotRecorded."""
        # read again: another record may have been written since the caller read the file
        all_ = self._file.load()
        known = [one["id"] for one in all_]
        if breach.id in known:
            all_[known.index(breach.id)] = asdict(breach)
        else:
            all_.append(asdict(breach))
        self._file.save({"schema": SCHEMA, "breaches": all_})


def _records(stored: Any, file: Path) -> list[dict[str, Any]]:
    """All records of the file; each can be parsed. Raises Refused."""
    if stored["schema"] != SCHEMA:
        raise Refused(
            "{file}: another version of gardien wrote this file; this version cannot read it",
            file=file,
        )
    records: list[dict[str, Any]] = stored["breaches"]
    for record in records:  # check all now, so that saving never drops one
        _read(record)
    return records


def _unreadable(error: Exception, file: Path) -> list[dict[str, Any]]:
    if isinstance(error, OSError):
        raise Refused("{file}: {reason}", file=file, reason=error) from error
    raise Refused(
        "{file} cannot be read ({error}): move it to another folder, keep it there, and record"
        " the breach again",
        file=file,
        error=error,
    ) from error


def _hash(written: Mapping[str, Any]) -> str:
    # sorted: a record from the file must have the same hash as the record that was written
    return sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()


def _read(written: dict[str, Any]) -> Breach:
    names = {one.name for one in fields(Breach)}
    lists = ("kinds", "stores", "keys", "recipients", "places", "homes")
    # a later version of gardien may have added members: ignore them
    members = {name: value for name, value in written.items() if name in names}
    members |= {name: tuple(written[name]) for name in lists if name in written}
    return Breach(**members | {"steps": tuple(Step(**one) for one in written["steps"])})
