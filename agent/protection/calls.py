"""Calls about breaches of personal data: recorded step by step, each with who did it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from agent.clock import stamp
from agent.disclosure import announced, known_facts, records, waiting_counts
from agent.errors import Refused
from agent.i18n import _
from agent.i18n import language as spoken
from agent.protection.breach import (
    ALL,
    FRENCH,
    LONGEST_TEXT,
    RISKS,
    TEXTS,
    UNLIKE,
    Breach,
    Breaches,
    Concern,
    Step,
    check_words,
    missing,
    whole_day,
)
from agent.protection.breach_pages import Case, gap_words, letter, notification, step_words
from agent.protection.stores import KEYS, field_words, periods, spoken_here, stores
from agent.registry import parsers
from agent.registry.catalogue import LANGUAGES
from agent.registry.dates import DAY, date_alone, said_here
from agent.registry.page import printed
from agent.registry.place import OCCUPANCY, parse, shown
from agent.registry_api import author

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.disclosure import Records
    from agent.gateway import Gateway
    from agent.protection.breach import Concerned
    from agent.registry.letter import RecipientKnowledge
    from agent.registry.records import Dated, Place
    from agent.registry_api import Call, Caller

LISTS = {"kinds": "kind", "stores": "store", "keys": "key", "recipients": "recipient"}
"""members of a record by the options that add to them"""
TIMES = ("noticed", "began", "ended", "notified", "told")
WHOLE_DAYS = ("ended", "notified", "told")
"""a date alone means that whole day"""
AHEAD = 300
"""seconds by which a person's clock may be ahead of the gateway's"""


async def breach_new(
    house: Gateway,
    asker: Caller,
    *,
    facts: dict[str, Any],
    named: str | None = None,
) -> dict[str, Any]:
    """Open the record of a breach. Raises Refused."""
    who, now = author(house, asker, named), house.clock.now()
    if not facts.get("what"):
        raise Refused(_("say what happened, in a sentence"))
    await house.ask_disk()
    noticed = _time(house, facts, "noticed") or int(now) - whole_day(int(now))
    year = datetime.fromtimestamp(noticed, house.config.zone).year
    # one that is gone from the file does not give its number to another
    given = await _standing(house)
    begun = Breach(Breaches(house.config.state).number(year, given), noticed)
    found = _changed(house, begun, {**facts, "noticed": stamp(noticed)})
    _keep(house, found.stepped(now, who, "new"))
    return await _shown(house, found.id)


async def breach_add(
    house: Gateway,
    asker: Caller,
    *,
    id: str,  # noqa: A002 -- the word people write
    facts: dict[str, Any],
    named: str | None = None,
) -> dict[str, Any]:
    """Add facts to a record, or what was done. Raises Refused."""
    who, now = author(house, asker, named), house.clock.now()
    await house.ask_disk()
    standing = await _standing(house)
    before = _open(house, id)
    after = _changed(house, before, facts)
    if after == before:
        raise Refused(_("nothing of this is new: gardien privacy breach show {id}", id=id))
    _keep(house, after.stepped(now, who, "add", before=before), standing)
    return await _shown(house, id)


async def breach_list(house: Gateway, asker: Caller) -> dict[str, Any]:
    """List all breaches that were recorded here."""
    del asker
    standing = await _standing(house)
    found = Breaches(house.config.state).all()
    return {
        "timezone": house.config.building.timezone,
        "breaches": [_row(house, one, standing) for one in found],
        "gone": [id_ for id_, how in standing.items() if how == "gone"],
    }


async def breach_show(house: Gateway, asker: Caller, *, id: str) -> dict[str, Any]:  # noqa: A002
    """Show a breach: until when what must be done, what is missing, who is concerned."""
    del asker
    return await _shown(house, id)


async def breach_notification(
    house: Gateway,
    asker: Caller,
    *,
    id: str,  # noqa: A002
    language: str = "fr",
    named: str | None = None,
) -> dict[str, Any]:
    """Write the notification to the supervisory authority. Raises Refused."""
    spoken_here(language)
    who, now = author(house, asker, named), house.clock.now()
    breach = Breaches(house.config.state).get(id).stepped(now, who, "notification")
    case = await _case(house, breach)
    page = notification(case, language)
    standing = await _stepped(house, id, now, who, "notification")
    return {
        "id": id,
        "html": printed(page),
        "text": page.text,
        "missing": case.missing,
        "record": standing.get(id, "unknown"),
    }


async def breach_letters(
    house: Gateway,
    asker: Caller,
    *,
    id: str,  # noqa: A002
    language: str | None = None,
    named: str | None = None,
) -> dict[str, Any]:
    """Write the letter to the people of each dwelling concerned, in one language or in both; not
    said: in those in which it is written what happened. Raises Refused.
    """
    who, now = author(house, asker, named), house.clock.now()
    breach = Breaches(house.config.state).get(id)
    languages = (
        language.split(",") if language else [one for one in LANGUAGES if one in breach.what]
    )
    for one in languages:
        spoken_here(one)
    case = await _case(house, breach)
    if not breach.located:
        raise Refused(
            _(
                "breach {id}: it is not said yet which data are concerned: gardien privacy breach"
                " add {id} --store, --key, --recipient or --dwelling",
                id=id,
            )
        )
    # a large building has a thousand households: nothing waits for their letters
    letters = await asyncio.to_thread(_letters, case, now, languages)
    standing = await _stepped(house, id, now, who, "letters", str(len(letters)))
    return {
        "id": id,
        "letters": letters,
        "nobody": [case.labels[one.place] for one in case.concerned if one.home is None],
        "missing": case.missing,
        "record": standing.get(id, "unknown"),
    }


def _letters(case: Case, now: float, languages: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "label": case.labels[one.place],
            "occupancy": one.home.id,
            "gone": one.home.until is not None and one.home.until <= now,
            "html": printed(*(letter(case, one, now, language) for language in languages)),
        }
        for one in case.concerned
        if one.home is not None
    ]


async def breach_close(  # noqa: PLR0913 -- as many options
    house: Gateway,
    asker: Caller,
    *,
    id: str,  # noqa: A002
    reason: str = "",
    mistake: bool = False,
    without_notification: bool = False,
    named: str | None = None,
) -> dict[str, Any]:
    """Close a record; `reason`: why, where something is missing; `mistake`: it should not have been
    opened; `without_notification`: the authority is not told. Raises Refused.
    """
    who, now = author(house, asker, named), house.clock.now()
    await house.ask_disk()
    standing = await _standing(house)
    breach = _open(house, id)
    lacks = [] if mistake else missing(breach, house.config.privacy)
    if mistake and not reason.strip():
        raise Refused(_("--mistake: say --reason what the mistake is"))
    if "notified" in lacks and not without_notification:
        raise Refused(
            _(
                "breach {id}: the authority was not told, and must be by {until} unless the risk is"
                " none (add --notified or --risk none). To close it all the same:"
                " --without-notification and --reason; what was recorded by mistake: --mistake and"
                " --reason",
                id=id,
                until=_here(house, breach.deadline),
            )
        )
    if lacks and not reason.strip():
        names = ", ".join(field_words(one, spoken()) for one in lacks)
        raise Refused(
            _(
                "breach {id}: something is missing ({names}): add it, or say --reason why it is"
                " closed without",
                id=id,
                names=names,
            )
        )
    why = _text(reason, "--reason")
    closed = replace(breach, closed=int(now), reason=why, mistake=mistake)
    step = "mistake" if mistake else "unnotified" if "notified" in lacks else "close"
    _keep(house, closed.stepped(now, who, step, why), standing)
    return await _shown(house, id)


def _open(house: Gateway, id_: str) -> Breach:
    """A record that is not closed. Raises Refused."""
    breach = Breaches(house.config.state).get(id_)
    if breach.closed is not None:
        raise Refused(_("breach {id} is closed: open another one for what is new", id=id_))
    return breach


def _changed(house: Gateway, breach: Breach, facts: Mapping[str, Any]) -> Breach:
    """A record with these facts. Raises Refused."""
    known = {*TEXTS, *TIMES, *LISTS.values(), "dwelling", "risk", "reference", "language"}
    if strange := sorted(facts.keys() - known):
        names = ", ".join(sorted(known))
        raise Refused(_('a breach has no "{name}"; it has: {names}', name=strange[0], names=names))
    facts = {**facts, "kind": [_english(one) for one in _list(facts, "kind")]}
    facts["risk"] = _english(facts.get("risk"))
    check_words({name: _list(facts, name) for name in ("kind", "store", "key")})
    language = facts.get("language", LANGUAGES[0])
    spoken_here(language)
    found: dict[str, Any] = {
        name: {**getattr(breach, name), language: _text(facts[name], f"--{name}")}
        for name in TEXTS
        if facts.get(name)
    }
    for name in TIMES:
        if (at := _time(house, facts, name)) is not None:
            found[name] = at
    every = {"stores": tuple(stores()), "keys": tuple(one for one in KEYS if one != "recovery")}
    for name, option in LISTS.items():
        given = _list(facts, option)
        given = list(every[name]) if name in every and ALL in given else given
        found[name] = tuple(dict.fromkeys((*getattr(breach, name), *given)))
    ids = [_dwelling(house, one) for one in _list(facts, "dwelling")]
    for name, kind in (("places", "D"), ("homes", "H")):
        named = (one for one in ids if one.startswith(kind))
        found[name] = tuple(dict.fromkeys((*getattr(breach, name), *named)))
    _known_recipients(house, _list(facts, "recipient"))
    if facts.get("risk"):
        if facts["risk"] not in RISKS:
            names = ", ".join(RISKS)
            raise Refused(
                _('--risk: "{given}" is none of {names}', given=facts["risk"], names=names)
            )
        found["risk"] = facts["risk"]
    if facts.get("reference"):
        found["reference"] = _text(facts["reference"], "--reference")
    return _in_order(house, replace(breach, **found))


def _dwelling(house: Gateway, text: str) -> str:
    """The id of a dwelling, or of an occupancy (H…). Raises Refused."""
    registry = house.registry
    homes = {one.id for one in registry.occupancies()}
    with suppress(Refused):
        if (id_ := parse(text, OCCUPANCY)) in homes:
            return id_
    place = registry.place(text)
    if place.type != "dwelling":
        raise Refused(_("{label} is no dwelling: it has no people", label=place.label))
    return place.id


def _in_order(house: Gateway, breach: Breach) -> Breach:
    """Raises Refused where one time contradicts another."""
    pairs = (("began", "noticed"), ("began", "ended"), ("noticed", "notified"), ("noticed", "told"))
    for first, then in pairs:
        early, late = getattr(breach, first), getattr(breach, then)
        if early is not None and late is not None and early > late:
            words = {"then": then, "late": _here(house, late), "first": first}
            words["early"] = _here(house, early)
            raise Refused(
                _("--{then} {late} lies before --{first} {early}: one of them is wrong", **words)
            )
    at = breach.notified
    if at is not None and whole_day(at) and at > breach.deadline > at - DAY:
        until = _here(house, breach.deadline)
        raise Refused(_("--notified: say the time, too: the deadline is {until}", until=until))
    return breach


def _here(house: Gateway, at: int) -> str:
    """A moment as it is read at the building."""
    return said_here(stamp(at), house.config.building.timezone)


def _known_recipients(house: Gateway, recipients: Sequence[str]) -> None:
    registry = house.registry
    known = {str(one.settings.recipient) for one in house.config.uplinks.values()}
    known |= {one.recipient for one in registry.consents()}
    known |= {one.recipient for one in registry.duties()}
    for one in recipients:
        if one not in known:
            names = ", ".join(sorted(known)) or "none"
            raise Refused(
                _(
                    '--recipient: nothing goes or went to "{one}"; there are: {names}',
                    one=one,
                    names=names,
                )
            )


def _english(word: Any) -> Any:
    return FRENCH.get(word.lower(), word) if isinstance(word, str) else word


def _list(facts: Mapping[str, Any], name: str) -> list[str]:
    found = facts.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise Refused(_("--{name}: a list of texts is expected", name=name))
    return found


def _text(given: Any, option: str) -> str:
    if not isinstance(given, str) or len(given) > LONGEST_TEXT:
        raise Refused(
            _(
                "{option}: a text of at most {most} characters is expected",
                option=option,
                most=LONGEST_TEXT,
            )
        )
    if not all(letter.isprintable() or letter == "\n" for letter in given):
        raise Refused(_("{option}: a character in it cannot be printed", option=option))
    return given.strip()


def _time(house: Gateway, facts: Mapping[str, Any], name: str) -> int | None:
    """A moment that has come; of what ends with a day said without a time, its last second.
    Raises Refused.
    """
    text = facts.get(name)
    at = parsers.when(text, house.config.building.timezone, f"--{name}")
    if at is None:
        return None
    if at > house.clock.now() + AHEAD:
        raise Refused(_("--{name}: {at} has not come yet", name=name, at=_here(house, at)))
    if name in WHOLE_DAYS and date_alone(str(text)):
        day = datetime.fromtimestamp(at, house.config.zone)
        return int((day + timedelta(days=1)).timestamp()) - 1
    return at - whole_day(at)  # a program may write seconds


async def _stepped(  # noqa: PLR0913, PLR0917 -- a step has as many parts
    house: Gateway, id_: str, now: float, who: str, what: str, detail: str = ""
) -> dict[str, str]:
    """Record a step of a breach, of which others may have been recorded meanwhile; how records
    stood before.
    """
    await house.ask_disk()
    standing = await _standing(house)
    breach = Breaches(house.config.state).get(id_)
    _keep(house, breach.stepped(now, who, what, detail), standing)
    return standing


async def _standing(house: Gateway) -> dict[str, str]:
    """How the records compare with the audit chain, of which there may be years."""
    breaches = Breaches(house.config.state)
    found = await asyncio.to_thread(breaches.standing)
    # a step may have been recorded between the reading of the one and of the other
    return breaches.standing() if UNLIKE.keys() & {*found.values()} else found


def _keep(house: Gateway, breach: Breach, standing: Mapping[str, str] | None = None) -> None:
    """Record it, then note in the audit chain which state it is in; between reading a record and
    this nothing is awaited, or a step of somebody else were lost. What was not the record that was
    written (`standing`) is a step of its own, for the chain confirms the next one.
    Raises NotRecorded.
    """
    how, last = (standing or {}).get(breach.id), breach.steps[-1]
    if how in UNLIKE:
        unlike = Step(last.at, "gardien", "unlike", str(how))
        breach = replace(breach, steps=(*breach.steps[:-1], unlike, last))
    Breaches(house.config.state).keep(breach)
    house.audit(
        "breach",
        {
            "breach": breach.id,
            "step": last.what,
            "steps": len(breach.steps),
            "sha256": breach.hash,
            "by": last.who,
        },
    )


async def _case(house: Gateway, breach: Breach) -> Case:
    found = await records(house)
    now = int(house.clock.now())
    people: list[Concerned] = []
    if breach.located:
        finder = Concern(breach, house.registry, house.config, found.disclosed, now)
        people = finder.all()
    received = _values(house, breach, people, found)
    waiting = None
    if {"spool", "quarantine"} & {*breach.scope} and "restored" not in {
        one.kind for one in found.gaps
    }:
        waiting = (await waiting_counts(house)).get("spool")
    return Case(
        breach,
        house.config,
        people,
        {one.id: one.label for one in house.registry.places()},
        sum(received.values()),
        received,
        await _knows(house, people),
        waiting,
        _staff(house, breach),
        [one for one in found.gaps if _matters(breach, one.recipient)],
        missing(breach, house.config.privacy),
    )


async def _knows(
    house: Gateway, people: Sequence[Concerned]
) -> dict[tuple[str, str], RecipientKnowledge]:
    """What each recipient concerned was told of each household besides values."""
    found, consents = {}, house.registry.consents()
    for recipient in {name for one in people for name in one.recipients}:
        items = await announced(house, recipient)
        for one in people:
            if one.home and recipient in one.recipients:
                for known in known_facts(items, recipient, one.place, one.home, consents):
                    found[recipient, one.home.id] = known
    return found


def _staff(house: Gateway, breach: Breach) -> int:
    """How many people who act on the gateway are named here, where a store concerned has names."""
    if not any(stores()[one].staff for one in breach.scope):
        return 0
    registry = house.registry
    facts: list[Dated | Place] = [
        *registry.places(), *registry.installations(), *registry.occupancies(),
        *registry.consents(), *registry.duties(),
    ]  # fmt: skip
    steps = [step.who for one in Breaches(house.config.state).all() for step in one.steps]
    looks = [one.who for one in house.looks.of()] if house.looks else []
    names = [*(one.word.who for one in facts), *steps, *looks]
    # `marie (root)`: a name, and the account
    return len({name.partition(" (")[0] for name in names} - {"gardien"})


def _matters(breach: Breach, recipient: str) -> bool:
    return not breach.recipients or recipient in ("", *breach.recipients)


def _values(
    house: Gateway, breach: Breach, people: Sequence[Concerned], found: Records
) -> dict[tuple[str, str], int]:
    """How many values of these people the recipients concerned have received in the time that the
    stores concerned go back to, by recipient and occupancy.
    """
    reach, began = periods(house.config), breach.noticed if breach.began is None else breach.began
    backs = [stores()[one].reach for one in breach.scope]
    since = min((began - reach[one] for one in backs if one), default=began)
    day = "" if breach.recipients or None in backs else stamp(since)[:10]
    until = stamp(house.clock.now() if breach.ended is None else breach.ended)[:10]
    mine = {(one.place, one.home.id) for one in people if one.home}
    counted: dict[tuple[str, str], int] = {}
    for one in found.disclosed:
        whose = (one.place, one.occupancy) in mine or (
            not one.occupancy and one.place in dict(mine)
        )
        if whose and day <= one.day <= until and _matters(breach, one.recipient):
            key = (one.recipient, one.occupancy)
            counted[key] = counted.get(key, 0) + one.values
    return counted


def _row(house: Gateway, breach: Breach, standing: Mapping[str, str]) -> dict[str, Any]:
    now = house.clock.now()
    return {
        "id": breach.id,
        "record": standing.get(breach.id, "unknown"),
        "what": breach.what,
        "noticed": stamp(breach.noticed),
        "deadline": stamp(breach.deadline),
        "seconds_left": int(breach.deadline - now),
        "risk": breach.risk or None,
        "notified": None if breach.notified is None else stamp(breach.notified),
        "told": None if breach.told is None else stamp(breach.told),
        "closed": None if breach.closed is None else stamp(breach.closed),
        "mistake": breach.mistake,
        "owed": breach.owed,
        "missing": missing(breach, house.config.privacy),
    }


async def _shown(house: Gateway, id_: str) -> dict[str, Any]:
    breach = Breaches(house.config.state).get(id_)
    case = await _case(house, breach)
    return _row(house, breach, await _standing(house)) | {
        "timezone": house.config.building.timezone,
        "noticed_before": [stamp(one) for one in breach.noticed_before],
        "consequences": breach.consequences,
        "measures": breach.measures,
        "began": None if breach.began is None else stamp(breach.began),
        "ended": None if breach.ended is None else stamp(breach.ended),
        "kinds": breach.kinds,
        "stores": breach.scope,
        "keys": breach.keys,
        "recipients": breach.recipients,
        "reference": breach.reference,
        "reason": breach.reason,
        "values": case.values,
        "waiting": case.waiting,
        "staff": case.staff,
        "unsure": [
            one._asdict() | {"said": {of: gap_words(one, of) for of in LANGUAGES}}
            for one in case.unsure
        ],
        "concerned": [
            {
                "label": case.labels[one.place],
                "place": one.place,
                "occupancy": shown(one.home.id) if one.home else None,
                "reference": (one.home.reference or "") if one.home else "",
                "since": stamp(one.home.since) if one.home else None,
                "until": stamp(one.home.until) if one.home and one.home.until else None,
                "stores": one.stores,
                "recipients": one.recipients,
            }
            for one in case.concerned
        ],
        "steps": [
            {
                "at": stamp(one.at),
                "who": one.who,
                "what": one.what,
                "detail": one.detail,
                "changes": one.changes,
                "said": {of: step_words(case, one, of) for of in LANGUAGES},
            }
            for one in breach.steps
        ],
    }


CALLS: Mapping[str, Call] = {
    "privacy.breach.new": breach_new,
    "privacy.breach.add": breach_add,
    "privacy.breach.list": breach_list,
    "privacy.breach.show": breach_show,
    "privacy.breach.notification": breach_notification,
    "privacy.breach.letters": breach_letters,
    "privacy.breach.close": breach_close,
}
"""calls by their names"""
