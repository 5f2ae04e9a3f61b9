"""Calls about breaches of personal data. Each step is recorded with the person who took it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from agent.api.disclosures import announced, known_facts, records, waiting_counts
from agent.api.protection.breach import (
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
    check_names,
    missing,
    whole_day,
)
from agent.api.protection.breach_pages import Case, gap_text, letter, notification, step_text
from agent.api.protection.stores import KEYS, check_language, field_label, periods, stores
from agent.api.registry import author
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import Text
from agent.core.i18n import language as terminal_language
from agent.registry import parsers
from agent.registry.dates import DAY, date_alone
from agent.registry.page import LANGUAGES, printed
from agent.registry.place import OCCUPANCY, parse, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.api.disclosures import Records
    from agent.api.protection.breach import Concerned
    from agent.api.registry import Call, Caller
    from agent.config import Config
    from agent.gateway.gateway import Gateway
    from agent.registry.dossier import RecipientKnowledge
    from agent.registry.records import Dated, Place

LISTS = {"kinds": "kind", "stores": "store", "keys": "key", "recipients": "recipient"}
"""members of a record that hold lists, with the option that adds to each"""
TIMES = ("noticed", "began", "ended", "notified", "told")
WHOLE_DAYS = ("ended", "notified", "told")
"""members for which a date without a time means the end of that day"""
AHEAD = 300
"""seconds by which a given time may be ahead of the gateway's clock"""


async def breach_new(
    gateway: Gateway,
    caller: Caller,
    *,
    facts: dict[str, Any],
    named: str | None = None,
) -> dict[str, Any]:
    """Open the record of a breach. Raises Refused."""
    who, now = author(gateway, caller, named), gateway.clock.now()
    if not facts.get("what"):
        raise Refused("the description is missing: say in one sentence what happened")
    await gateway.disk.ask()
    # second 59 would make the time count as a whole day, and the deadline would be shown without
    # its hour
    noticed = _time(gateway, facts, "noticed") or int(now) - whole_day(int(now))
    year = datetime.fromtimestamp(noticed, gateway.config.zone).year
    # the id of a record that is missing from the file must not be used again
    given = await _compare_with_chain(gateway.config)
    begun = Breach(Breaches(gateway.config.state).next_number(year, given), noticed)
    breach = _changed(gateway, begun, {**facts, "noticed": stamp(noticed)})
    _save(gateway, breach.with_step(now, who, "new"))
    return await _shown(gateway, breach.id)


async def breach_add(
    gateway: Gateway,
    caller: Caller,
    *,
    id: str,  # noqa: A002 -- the word people write
    facts: dict[str, Any],
    named: str | None = None,
) -> dict[str, Any]:
    """Add facts or actions to a record. Raises Refused if nothing is new or the record is
    closed.
    """
    who, now = author(gateway, caller, named), gateway.clock.now()
    await gateway.disk.ask()
    states = await _compare_with_chain(gateway.config)
    before = _open(gateway.config, id)
    after = _changed(gateway, before, facts)
    if after == before:
        raise Refused(
            "all of this is recorded already; nothing was changed; to see the record:"
            " gardien privacy breach show {id}",
            id=id,
        )
    _save(gateway, after.with_step(now, who, "add", before=before), states)
    return await _shown(gateway, id)


async def breach_list(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """List all breaches recorded on this gateway."""
    del caller
    states = await _compare_with_chain(gateway.config)
    breaches = Breaches(gateway.config.state).all()
    return {
        "timezone": gateway.config.building.timezone,
        "breaches": [_summary(gateway, one, states) for one in breaches],
        "gone": [id_ for id_, how in states.items() if how == "gone"],
    }


async def breach_show(gateway: Gateway, caller: Caller, *, id: str) -> dict[str, Any]:  # noqa: A002
    """Show a breach: its deadline, what is missing and who is concerned."""
    del caller
    return await _shown(gateway, id)


async def breach_notification(
    gateway: Gateway,
    caller: Caller,
    *,
    id: str,  # noqa: A002
    language: str = "fr",
    named: str | None = None,
) -> dict[str, Any]:
    """Write the notification to the supervisory authority. Raises Refused."""
    check_language(language)
    who, now = author(gateway, caller, named), gateway.clock.now()
    # the page lists its own writing; the step is saved only once the page is made
    breach = Breaches(gateway.config.state).get(id).with_step(now, who, "notification")
    case = await _case(gateway, breach)
    page = notification(case, language)
    states = await _save_step(gateway, id, now, who, "notification")
    return {
        "id": id,
        "html": await asyncio.to_thread(printed, page),
        "text": page.text,
        "missing": case.missing,
        "record": states.get(id, "unknown"),
    }


async def breach_letters(
    gateway: Gateway,
    caller: Caller,
    *,
    id: str,  # noqa: A002
    language: str | None = None,
    named: str | None = None,
) -> dict[str, Any]:
    """Write the letter to the people of each dwelling concerned. `language`: `fr`, `en` or both
    with a comma; None: each language in which the record says what happened. Raises Refused.
    """
    who, now = author(gateway, caller, named), gateway.clock.now()
    breach = Breaches(gateway.config.state).get(id)
    languages = (
        language.split(",") if language else [one for one in LANGUAGES if one in breach.what]
    )
    for code in languages:
        check_language(code)
    case = await _case(gateway, breach)
    if not breach.located:
        raise Refused(
            "breach {id}: the data concerned are not recorded yet, so no letter can be"
            " written; add them: gardien privacy breach add {id} --store, --key,"
            " --recipient or --dwelling",
            id=id,
        )
    # a thousand letters take seconds: written in a thread, they do not delay readings
    letters = await asyncio.to_thread(_letters, case, now, languages)
    states = await _save_step(gateway, id, now, who, "letters", str(len(letters)))
    return {
        "id": id,
        "letters": letters,
        "nobody": [case.labels[one.place] for one in case.concerned if one.home is None],
        "missing": case.missing,
        "record": states.get(id, "unknown"),
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
    gateway: Gateway,
    caller: Caller,
    *,
    id: str,  # noqa: A002
    reason: str = "",
    mistake: bool = False,
    without_notification: bool = False,
    named: str | None = None,
) -> dict[str, Any]:
    """Close a record. `reason` explains what is missing or the mistake; `mistake`: the record
    should not have been opened; `without_notification`: the authority is not notified. Raises
    Refused.
    """
    who, now = author(gateway, caller, named), gateway.clock.now()
    await gateway.disk.ask()
    states = await _compare_with_chain(gateway.config)
    breach = _open(gateway.config, id)
    lacks = [] if mistake else missing(breach, gateway.config.privacy)
    if mistake and not reason.strip():
        raise Refused("--mistake: explain the mistake with --reason")
    if "notified" in lacks and not without_notification:
        raise Refused(
            "breach {id}: the authority was not notified. It must be notified by"
            " {until}, unless the risk is none: add --notified or --risk none. To close"
            " the breach without a notification: --without-notification and --reason."
            " If the breach was recorded by mistake: --mistake and --reason",
            id=id,
            until=stamp(breach.deadline),
        )
    if lacks and not reason.strip():
        names = ", ".join(field_label(one, terminal_language()) for one in lacks)
        raise Refused(
            "breach {id}: this is missing: {names}. Add it, or explain with --reason"
            " why the breach is closed without it",
            id=id,
            names=names,
        )
    why = _text(reason, "--reason")
    closed = replace(breach, closed=int(now), reason=why, mistake=mistake)
    step = "mistake" if mistake else "unnotified" if "notified" in lacks else "close"
    _save(gateway, closed.with_step(now, who, step, why), states)
    return await _shown(gateway, id)


def _open(config: Config, id_: str) -> Breach:
    """A record that is still open. Raises Refused."""
    breach = Breaches(config.state).get(id_)
    if breach.closed is not None:
        raise Refused(
            "breach {id} is closed and cannot be changed; record new facts as another"
            " breach: gardien privacy breach new",
            id=id_,
        )
    return breach


def _changed(gateway: Gateway, breach: Breach, facts: Mapping[str, Any]) -> Breach:
    """The record with these facts added. Raises Refused."""
    known = {*TEXTS, *TIMES, *LISTS.values(), "dwelling", "risk", "reference", "language"}
    if strange := sorted(facts.keys() - known):
        names = ", ".join(sorted(known))
        raise Refused(
            'a breach has no field "{name}"; its fields are: {names}', name=strange[0], names=names
        )
    facts = {**facts, "kind": [_english(one) for one in _list(facts, "kind")]}
    facts["risk"] = _english(facts.get("risk"))
    check_names({name: _list(facts, name) for name in ("kind", "store", "key")})
    language = facts.get("language", LANGUAGES[0])
    check_language(language)
    changes: dict[str, Any] = {
        name: {**getattr(breach, name), language: _text(facts[name], f"--{name}")}
        for name in TEXTS
        if facts.get(name)
    }
    for name in TIMES:
        if (at := _time(gateway, facts, name)) is not None:
            changes[name] = at
    every = {"stores": tuple(stores()), "keys": tuple(one for one in KEYS if one != "recovery")}
    for name, option in LISTS.items():
        given = _list(facts, option)
        given = list(every[name]) if name in every and ALL in given else given
        changes[name] = tuple(dict.fromkeys((*getattr(breach, name), *given)))
    ids = [_dwelling(gateway, one) for one in _list(facts, "dwelling")]
    for name, kind in (("places", "D"), ("homes", "H")):
        named = (one for one in ids if one.startswith(kind))
        changes[name] = tuple(dict.fromkeys((*getattr(breach, name), *named)))
    _known_recipients(gateway, _list(facts, "recipient"))
    if facts.get("risk"):
        if facts["risk"] not in RISKS:
            names = ", ".join(RISKS)
            raise Refused(
                '--risk: "{given}" is not one of {names}', given=facts["risk"], names=names
            )
        changes["risk"] = facts["risk"]
    if facts.get("reference"):
        changes["reference"] = _text(facts["reference"], "--reference")
    return _in_order(replace(breach, **changes))


def _dwelling(gateway: Gateway, text: str) -> str:
    """The id of a dwelling, or of an occupancy (`H…`). Raises Refused."""
    registry = gateway.registry
    homes = {one.id for one in registry.occupancies()}
    with suppress(Refused):
        if (id_ := parse(text, OCCUPANCY)) in homes:
            return id_
    place = registry.place(text)
    if place.type != "dwelling":
        raise Refused(
            "{label} is not a dwelling, so it has no occupants; name a dwelling", label=place.label
        )
    return place.id


def _in_order(breach: Breach) -> Breach:
    """Check that the times of a record do not contradict each other. Raises Refused."""
    pairs = (("began", "noticed"), ("began", "ended"), ("noticed", "notified"), ("noticed", "told"))
    for first, then in pairs:
        early, late = getattr(breach, first), getattr(breach, then)
        if early is not None and late is not None and early > late:
            values = {"then": then, "late": stamp(late), "first": first}
            values["early"] = stamp(early)
            raise Refused(
                "--{then} {late} is earlier than --{first} {early}: correct one of them", **values
            )
    at = breach.notified
    # the deadline lies within that day: without the hour it is unknown whether it was met
    if at is not None and whole_day(at) and at > breach.deadline > at - DAY:
        until = stamp(breach.deadline)
        raise Refused(
            "--notified: give the time as well as the date: the deadline is {until}", until=until
        )
    return breach


def _known_recipients(gateway: Gateway, recipients: Sequence[str]) -> None:
    registry = gateway.registry
    known = {str(one.settings.recipient) for one in gateway.config.uplinks.values()}
    known |= {one.recipient for one in registry.consents()}
    known |= {one.recipient for one in registry.duties()}
    for recipient in recipients:
        if recipient not in known:
            names = ", ".join(sorted(known)) or Text("none")
            raise Refused(
                '--recipient: "{one}" is not and was not a recipient; known recipients: {names}',
                one=recipient,
                names=names,
            )


def _english(text: Any) -> Any:
    return FRENCH.get(text.lower(), text) if isinstance(text, str) else text


def _list(facts: Mapping[str, Any], name: str) -> list[str]:
    texts = facts.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise Refused("--{name}: this must be a list of texts", name=name)
    return texts


def _text(given: Any, option: str) -> str:
    if not isinstance(given, str) or len(given) > LONGEST_TEXT:
        raise Refused(
            "{option}: this must be a text of at most {most} characters",
            option=option,
            most=LONGEST_TEXT,
        )
    if not all(letter.isprintable() or letter == "\n" for letter in given):
        raise Refused(
            "{option}: the text contains a character that cannot be printed", option=option
        )
    return given.strip()


def _time(gateway: Gateway, facts: Mapping[str, Any], name: str) -> int | None:
    """A time that is not in the future, in seconds. For members of WHOLE_DAYS a date alone gives
    the last second of that day. Raises Refused.
    """
    text = facts.get(name)
    at = parsers.when(text, gateway.config.building.timezone, f"--{name}")
    if at is None:
        return None
    if at > gateway.clock.now() + AHEAD:
        raise Refused("--{name}: {at} is in the future", name=name, at=stamp(at))
    if name in WHOLE_DAYS and date_alone(str(text)):
        day = datetime.fromtimestamp(at, gateway.config.zone)
        return int((day + timedelta(days=1)).timestamp()) - 1
    # second 59 marks a whole day, so a time with seconds must not have it
    return at - whole_day(at)


async def _save_step(  # noqa: PLR0913, PLR0917 -- a step has as many parts
    gateway: Gateway, id_: str, now: float, who: str, what: str, detail: str = ""
) -> dict[str, str]:
    """Add a step to the newest version of a record. Returns how the records compared with the audit
    chain before.
    """
    await gateway.disk.ask()
    states = await _compare_with_chain(gateway.config)
    breach = Breaches(gateway.config.state).get(id_)
    _save(gateway, breach.with_step(now, who, what, detail), states)
    return states


async def _compare_with_chain(config: Config) -> dict[str, str]:
    """How the records compare with the audit chain; in a thread, because the chain may hold
    years.
    """
    breaches = Breaches(config.state)
    states = await asyncio.to_thread(breaches.compare_with_chain)
    # a step may have been recorded between reading the file and the chain: compare again
    return breaches.compare_with_chain() if UNLIKE.keys() & {*states.values()} else states


def _save(gateway: Gateway, breach: Breach, states: Mapping[str, str] | None = None) -> None:
    """Write a record, then note its state in the audit chain. If the record differed from what had
    been written (`states`), that becomes a step of its own, because the chain confirms the record
    from now on. Raises NotRecorded.

    The caller must not await between reading the record and this call, or a step of somebody else
    would be lost.
    """
    how, last = (states or {}).get(breach.id), breach.steps[-1]
    # record the difference itself, because the chain will confirm the changed record
    if how in UNLIKE:
        unlike = Step(last.at, "gardien", "unlike", str(how))
        breach = replace(breach, steps=(*breach.steps[:-1], unlike, last))
    Breaches(gateway.config.state).save(breach)
    gateway.audit(
        "breach",
        {
            "breach": breach.id,
            "step": last.what,
            "steps": len(breach.steps),
            "sha256": breach.hash,
            "by": last.who,
        },
    )


async def _case(gateway: Gateway, breach: Breach) -> Case:
    disclosures = await records(gateway)
    now = int(gateway.clock.now())
    people: list[Concerned] = []
    if breach.located:
        finder = Concern(breach, gateway.registry, gateway.config, disclosures.disclosed, now)
        people = finder.all()
    received = _values(gateway, breach, people, disclosures)
    waiting = None
    # after a restore the spool says nothing about what waited at the time of the breach
    if {"spool", "quarantine"} & {*breach.scope} and "restored" not in {
        one.kind for one in disclosures.gaps
    }:
        waiting = (await waiting_counts(gateway)).get("spool")
    return Case(
        breach,
        gateway.config,
        people,
        {one.id: one.label for one in gateway.registry.places()},
        sum(received.values()),
        received,
        await _knows(gateway, people),
        waiting,
        _staff(gateway, breach),
        [one for one in disclosures.gaps if _matters(breach, one.recipient)],
        missing(breach, gateway.config.privacy),
    )


async def _knows(
    gateway: Gateway, people: Sequence[Concerned]
) -> dict[tuple[str, str], RecipientKnowledge]:
    """What each recipient concerned was told of each occupancy besides values."""
    knowledge, consents = {}, gateway.registry.consents()
    for recipient in {name for one in people for name in one.recipients}:
        items = await announced(gateway, recipient)
        for concerned in people:
            if concerned.home and recipient in concerned.recipients:
                for known in known_facts(
                    items, recipient, concerned.place, concerned.home, consents
                ):
                    knowledge[recipient, concerned.home.id] = known
    return knowledge


def _staff(gateway: Gateway, breach: Breach) -> int:
    """How many people who act on the gateway are named on it; 0 if no store concerned holds such
    names.
    """
    if not any(stores()[one].staff for one in breach.scope):
        return 0
    registry = gateway.registry
    facts: list[Dated | Place] = [
        *registry.places(), *registry.installations(), *registry.occupancies(),
        *registry.consents(), *registry.duties(),
    ]  # fmt: skip
    steps = [step.who for one in Breaches(gateway.config.state).all() for step in one.steps]
    looks = [one.who for one in gateway.access_log.of()]
    names = [*(one.word.who for one in facts), *steps, *looks]
    # `marie (root)` is a name with the account: count the name once
    return len({name.partition(" (")[0] for name in names} - {"gardien"})


def _matters(breach: Breach, recipient: str) -> bool:
    return not breach.recipients or recipient in ("", *breach.recipients)


def _values(
    gateway: Gateway, breach: Breach, people: Sequence[Concerned], disclosures: Records
) -> dict[tuple[str, str], int]:
    """How many values of these people the recipients concerned received in the time that the stores
    concerned reach back to, by recipient and occupancy.
    """
    reach, began = periods(gateway.config), breach.noticed if breach.began is None else breach.began
    backs = [stores()[one].reach for one in breach.scope]
    since = min((began - reach[one] for one in backs if one), default=began)
    # the empty text is before every day: no limit
    day = "" if breach.recipients or None in backs else stamp(since)[:10]
    until = stamp(gateway.clock.now() if breach.ended is None else breach.ended)[:10]
    mine = {(one.place, one.home.id) for one in people if one.home}
    counted: dict[tuple[str, str], int] = {}
    for count in disclosures.disclosed:
        # an earlier version did not record the occupancy: count it for anybody in the dwelling
        whose = (count.place, count.occupancy) in mine or (
            not count.occupancy and count.place in dict(mine)
        )
        if whose and day <= count.day <= until and _matters(breach, count.recipient):
            key = (count.recipient, count.occupancy)
            counted[key] = counted.get(key, 0) + count.values
    return counted


def _summary(gateway: Gateway, breach: Breach, states: Mapping[str, str]) -> dict[str, Any]:
    now = gateway.clock.now()
    return {
        "id": breach.id,
        "record": states.get(breach.id, "unknown"),
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
        "missing": missing(breach, gateway.config.privacy),
    }


async def _shown(gateway: Gateway, id_: str) -> dict[str, Any]:
    breach = Breaches(gateway.config.state).get(id_)
    case = await _case(gateway, breach)
    return _summary(gateway, breach, await _compare_with_chain(gateway.config)) | {
        "timezone": gateway.config.building.timezone,
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
            one._asdict() | {"said": {of: gap_text(one, of, iso=of == "en") for of in LANGUAGES}}
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
                "said": {of: step_text(case, one, of, iso=of == "en") for of in LANGUAGES},
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
"""all calls by name"""
