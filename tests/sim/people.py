"""The people of a building, and what they ask of the agent through its own calls.

What somebody wants is an errand: plain data that outlives the agent. An errand is done in stages,
each of which is one call. Whoever gets no answer, because the agent was killed, comes back and asks
again; whoever is refused because of the disk comes back later.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from agent import local
from agent.api.registry import Caller
from tests.sim import building, houses, platform

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from agent.gateway.gateway import Gateway
    from hil.platform.unpack import Row
    from tests.sim.houses import Home, Lever
    from tests.sim.world import World

    Errand = dict[str, Any]
    Facts = list[dict[str, Any]]
    Claims = dict[str, Any]

MINUTE, HOUR, DAY = 60, 3600, 86_400
MONTH = 30 * DAY
WHO = "marie"
PATIENCE = 300.0
"""seconds for which somebody waits for an answer"""
AGAIN_AFTER = 20 * MINUTE
"""seconds until somebody comes back who was refused because of the disk"""
TRIES = 60
"""how often somebody comes back"""
METERS = ("exchange", "remove")
"""what becomes of a meter, and is recorded in this order"""
LAST_LOOK = 40 * MINUTE
"""seconds at least before the end in which somebody asks once more what waits: until then it leaves
"""
ONCE_READ = 80.0
"""seconds after a slot in which that is asked: what was read waits, unless it is sealed at once"""
NEVER_LEFT = DAY
"""seconds after which a withdrawal aimed at a batch is made anyway"""
HALF_HOUR, FORM_YEARS = 1800, 2
"""of what each form asks for (tests.sim.houses): load curves, for 24 months"""
SCOPES = {"monthly": MONTH, "daily": DAY, "loadcurve": 10 * MINUTE}
CHANNELS = ("elec.imp", "heat", "cw")


@dataclass
class People:
    errands: list[Errand] = field(default_factory=list)
    aimed: list[Errand] = field(default_factory=list)
    """withdrawals that wait for a batch of what they are about"""
    given: dict[str, Claims] = field(default_factory=dict)
    """consents as the agent has answered them, by id"""
    signed: dict[str, Claims] = field(default_factory=dict)
    """consents that the manager has signed, by number"""
    duties: list[tuple[str, int, str]] = field(default_factory=list)
    """id, recipient and reference"""
    handed: dict[str, list[Any]] = field(default_factory=dict)
    """what was handed in before: lists, forms, objects"""
    orders: dict[str, str] = field(default_factory=dict)
    """by control, the number of the last order"""
    number: int = 0
    seq: int = 0
    """of orders"""


# Moments and names


def stamp(at: float) -> str:
    """A time as people give it to a call."""
    return dt.datetime.fromtimestamp(int(at), dt.UTC).isoformat().replace("+00:00", "Z")


def unix(text: str | None) -> int | None:
    """A time as the agent answers it."""
    return None if text is None else int(dt.datetime.fromisoformat(text).timestamp())


def length(seconds: float) -> str:
    return f"PT{int(seconds)}S"


def home(world: World, number: int) -> Home:
    one = world.house.homes[number % len(world.house.homes)]
    if one.leaves is not None and one.leaves <= world.now():
        one.occupancy, one.leaves = "", None
    return one


def recipient(world: World, number: int) -> str:
    return world.house.recipients[number % len(world.house.recipients)]


def add(world: World, do: str, due: float | None = None, **more: Any) -> Errand:
    """Somebody wants something, now or later."""
    world.people.number += 1
    errand = {
        "number": world.people.number, "do": do, "stage": 0, "tries": 0, "asked": None,
        "due": world.now() if due is None else due, **more,
    }  # fmt: skip
    world.people.errands.append(errand)
    _wake()
    return errand


# Events of a plan


def _consent(world: World, event: dict[str, Any], rng: random.Random) -> None:
    by, to = event["by"], event["recipient"] % len(world.house.recipients)
    if by == "signed":
        _sign_consent(world, event, to, rng)
        return
    if by == "form":
        add(
            world, "form", home=event["dwelling"], to=to, tick="yes", wait=rng.uniform(60, 6 * HOUR)
        )
        return
    add(world, "consent", home=event["dwelling"], to=to, step=event["step"],
        days=event["until"], listed=by == "list", marks=[], channels=_channels(event),
        own=" apart" if event.get("apart") else "", ago=event.get("given"))  # fmt: skip


def _channels(event: dict[str, Any]) -> list[str]:
    """What a consent names: one channel, or all."""
    return [event["only"]] if "only" in event else list(CHANNELS)


def _withdraw(world: World, event: dict[str, Any], rng: random.Random) -> None:
    del rng
    of = event["recipient"]
    to = -1 if of < 0 else of % len(world.house.recipients)
    wish = {"home": event["dwelling"], "to": to, "by": event["by"]}
    if event["aim"] == "in-flight":
        if any(_is_of(world, wish, name, pairs) for name, pairs in _in_flight(world)):
            _withdraws(world, wish)
            return
        world.people.number += 1
        wish["ticket"] = world.people.number
        world.people.aimed.append(wish)
        world.then(world.now() + NEVER_LEFT, "withdraw.anyway", ticket=wish["ticket"])
        return
    _withdraws(world, wish)


def _in_flight(world: World) -> list[tuple[str, list[Any]]]:
    """What has left the building and has no receipt, by recipient."""
    return [
        (one.name, pairs) for one in world.platform.receivers for pairs in one.unanswered.values()
    ]


def _is_of(world: World, wish: dict[str, Any], name: str, pairs: list[Any]) -> bool:
    """Whether a batch for a recipient has rows that a withdrawal is about."""
    to = wish["to"]
    whose = home(world, wish["home"]).place
    return (to < 0 or recipient(world, to) == name) and any(place == whose for place, _ in pairs)


def batch_leaves(world: World, name: str, rows: list[Row]) -> None:
    """A batch leaves the building: whoever has waited for it withdraws now."""
    pairs = sorted({(row.place, row.occupancy or "") for row in rows})
    for wish in list(world.people.aimed):
        if _is_of(world, wish, name, pairs):
            world.people.aimed.remove(wish)
            _withdraws(world, wish)


def _anyway(world: World, event: dict[str, Any], rng: random.Random) -> None:
    del rng
    for wish in list(world.people.aimed):
        if wish["ticket"] == event["ticket"]:
            world.people.aimed.remove(wish)
            _withdraws(world, wish)


def _withdraws(world: World, wish: dict[str, Any]) -> None:
    to = wish["to"]
    if wish["by"] == "signed":
        for one in range(len(world.house.recipients)) if to < 0 else (to,):
            _sign_withdrawal(world, home(world, wish["home"]), one)
    elif wish["by"] == "list" and to >= 0:
        add(world, "form", home=wish["home"], to=to, tick="no", wait=0.0)
    else:
        add(world, "withdraw", home=wish["home"], to=to)


def _again(world: World, event: dict[str, Any], rng: random.Random) -> None:
    """Somebody hands in what was handed in before."""
    before = world.people.handed.get(event["what"])
    if not before:
        return
    one = rng.choice(before)
    if event["what"] == "object":
        to, typ, claims, raw = one
        platform.send_object(world, to, typ, claims, raw, means=[], again=True)
    else:
        add(world, "again", call=one[0], args=one[1], states=one[2])


def _move(world: World, event: dict[str, Any], rng: random.Random) -> None:
    """The occupants of a dwelling move out; others move in at once, or after a while."""
    del rng
    notice = event["notice"]
    at = world.now() + max(0.0, -notice)
    told = world.now() + max(0.0, notice)
    add(
        world, "move", due=told, home=event["dwelling"], at=int(at), enters=int(at + event["empty"])
    )


def _exchange(world: World, event: dict[str, Any], rng: random.Random) -> None:
    """A meter is exchanged now; somebody records it some time later."""
    number = event["device"] % (2 * len(world.house.homes))
    at, of = int(world.now()) + 1, world.house.fittings[number]
    if of.name in world.building.removed:
        return  # nothing is there any more
    shown = building.exchange(world, number, rng)
    more = {} if event["indexes"] else {"closing": None, "opening": None}
    if event.get("record") == "now":
        more |= {"now": True}
    add(world, "exchange", due=_due(world, event, of), home=of.home, at=at, **shown | more)


def _remove(world: World, event: dict[str, Any], rng: random.Random) -> None:
    """A meter is taken out now, for good; somebody records it some time later."""
    del rng
    number = event["device"] % (2 * len(world.house.homes))
    at, of = int(world.now()) + 1, world.house.fittings[number]
    if of.name in world.building.removed:
        return
    shown = building.remove(world, number)
    more = {} if event["indexes"] else {"closing": None}
    add(world, "remove", due=_due(world, event, of), home=of.home, at=at, **shown | more)


def _due(world: World, event: dict[str, Any], of: houses.Fitting) -> float:
    """When somebody records what became of a meter: in their order, whoever records them."""
    due = world.now() + event["notice"] if event["notice"] >= 0 else float("inf")
    before = [each["due"] for each in world.people.errands
              if each["do"] in METERS and each["device"] == of.name]  # fmt: skip
    return max([due, *(each + 1 for each in before), world.now() + 2])


def _duty(world: World, event: dict[str, Any], rng: random.Random) -> None:
    del rng
    to = event["recipient"] % len(world.house.recipients)
    world.people.number += 1
    add(world, "duty", to=to, reference=f"charges {world.people.number}")


def _duty_end(world: World, event: dict[str, Any], rng: random.Random) -> None:
    del rng
    at = world.wall() - event["notice"] if "notice" in event else None
    add(world, "duty.end", to=event["recipient"] % len(world.house.recipients), at=at)


def _opt_out(world: World, event: dict[str, Any], rng: random.Random) -> None:
    """For some time, or seldom until the end of today at the building."""
    name = building.lever(world, event["control"]).name
    today = rng.random() < 0.15
    add(world, "opt-out", control=name, hours=event["for"] / HOUR, today=today)


def _opt_out_ended(world: World, event: dict[str, Any]) -> None:
    """It ends by itself."""


def _release(world: World, event: dict[str, Any], rng: random.Random) -> None:
    del rng
    add(world, "release", control=building.lever(world, event["control"]).name)


def _look(world: World, event: dict[str, Any], rng: random.Random) -> None:
    del event
    number = rng.randrange(len(world.house.homes))
    for what in ("status", "explain", "dossier", "disclosures"):
        add(world, "look", what=what, home=number)


# What is signed


def _send(  # noqa: PLR0913, PLR0917 -- what is sent, by whom and how
    world: World, to: int, typ: str, claims: Claims, by: str, means: Facts, flaw: str = ""
) -> None:
    """Have an object signed and delivered; with a flaw, it must change nothing."""
    raw = world.house.holder(by).sign(typ, claims)
    if flaw == "signature":
        raw = raw[:-5] + (b"A" if raw[-5:-4] != b"A" else b"B") + raw[-4:]
    more: dict[str, Any] = {"means": [] if flaw else means} | ({"flaw": flaw} if flaw else {})
    if flaw == "replay":  # its number is free if the object that has it was refused (rule O8)
        more["instead"] = means
    platform.send_object(world, to, typ, claims, raw, **more)
    if not flaw:
        world.people.handed.setdefault("object", []).append([to, typ, claims, raw])


def _sign_consent(world: World, event: dict[str, Any], to: int, rng: random.Random) -> None:
    one, flaw = home(world, event["dwelling"]), event.get("flaw", "")
    if not one.occupancy:
        return
    now, name = int(world.now()), recipient(world, to)
    # for the same purpose it may contradict one that was recorded otherwise
    own = " by post" if rng.random() < 0.7 else ""
    own = " apart" if event.get("apart") else own
    channels = _channels(event)
    step = {"monthly": "P1M", "daily": "P1D", "loadcurve": "PT10M"}[event["step"]]
    claims = {
        "iss": houses.MANAGER, "jti": platform.number(world), "iat": now, "sub": one.occupancy,
        "place": one.place, "status": "given", "recipients": [name],
        "purpose": houses.purpose(to) + own, "data": {"channels": channels, "step": step},
        "nbf": now, "exp": int(now + event["until"] * DAY), "given_at": now,
    }  # fmt: skip
    known = [jti for jti, what in world.people.signed.items()
             if what.get("status") == "withdrawn" and what["sub"] == one.occupancy
             and name in what["for"]]  # fmt: skip
    if known:
        claims["withdrawals"] = known[-20:]
    if flaw == "audience":
        claims["aud"] = "GXXXXXXXXXXXXXX"
    means = [{"fact": "consent", "id": claims["jti"], "place": one.place,
              "occupancy": one.occupancy, "recipient": name, "channels": channels,
              "step": SCOPES[event["step"]], "since": now, "until": claims["exp"],
              "purpose": claims["purpose"]}]  # fmt: skip
    _send(world, to, "consent+jwt", claims, houses.MANAGER, means, flaw)
    if not flaw:
        world.people.signed[claims["jti"]] = claims | {"for": [name]}


def _sign_withdrawal(world: World, one: Home, to: int) -> None:
    """The manager withdraws a consent that they have signed; without one, they state a refusal."""
    if not one.occupancy:
        return
    now, name = int(world.now()), recipient(world, to)
    prev = [jti for jti, what in world.people.signed.items()
            if what["status"] == "given" and what["sub"] == one.occupancy
            and name in what["for"]]  # fmt: skip
    claims: Claims = {"iss": houses.MANAGER, "jti": platform.number(world), "iat": now,
                      "sub": one.occupancy, "place": one.place}  # fmt: skip
    claims["recipients"] = [name]
    if prev:
        claims |= {"status": "withdrawn", "prev": prev[-1], "withdrawn_at": now}
    else:
        claims |= {"status": "refused", "purpose": houses.purpose(to)}
    means = [{"fact": "withdraw", "place": one.place, "occupancy": one.occupancy,
              "recipient": name}]  # fmt: skip
    _send(world, to, "consent+jwt", claims, houses.MANAGER, means)
    world.people.signed[claims["jti"]] = claims | {"status": "withdrawn", "for": [name]}


def _order(world: World, event: dict[str, Any], rng: random.Random) -> None:
    of, flaw = building.lever(world, event["control"]), event.get("flaw", "")
    if flaw == "replay" and of.name not in world.people.orders:
        flaw = ""  # the first order repeats none
    now, value = int(world.now()), float(building.value_of(of, event["value"]))
    duration, begin = int(event["duration"]), now + int(event["in"])
    sender, world.people.seq = recipient(world, 0), world.people.seq + 1
    seconds = max(duration, 60)
    if flaw == "beyond":
        value, seconds = of.most + 20, of.longest + 3600
    by = houses.MANAGER if flaw == "no-grant" else sender
    act = event["kind"] if rng.random() < 0.1 else of.action
    cmd: Claims = {"act": act, "tgt": [of.name], "val": value, "unit": of.unit,
                   "dur": length(seconds)}  # fmt: skip
    if event["in"]:
        cmd["start"] = stamp(begin)
    if event["random"]:
        cmd["rand"] = length(event["random"])
    ends = begin + seconds + HOUR
    claims: Claims = {
        "iss": by, "jti": platform.number(world), "iat": now,
        "exp": now - HOUR if flaw == "expired" else min(now + 47 * HOUR, ends),
        "aud": "GXXXXXXXXXXXXXX.0" if flaw == "audience" else world.house.audience,
        "seq": world.people.seq, "cmd": cmd, "why": "la pointe de 18 h",
    }  # fmt: skip
    if flaw == "expired":
        claims["iat"] = now - 2 * HOUR
    if flaw == "replay":
        claims["jti"] = world.people.orders[of.name]
    means = [{"fact": "order", "jti": claims["jti"], "control": of.name, "value": value,
              "begin": begin, "duration": seconds, "random": int(event["random"]),
              "sender": by}] if act == of.action else []  # fmt: skip
    _send(world, 0, "dr-command+jwt", claims, by, means, flaw)
    if not flaw:
        world.people.orders[of.name] = claims["jti"]


def _cancel(world: World, event: dict[str, Any], rng: random.Random) -> None:
    del rng
    of = building.lever(world, event["control"])
    jti = world.people.orders.get(of.name)
    if jti is None:
        return
    now, sender = int(world.now()), recipient(world, 0)
    world.people.seq += 1
    claims = {
        "iss": sender, "jti": platform.number(world), "iat": now, "exp": now + 47 * HOUR,
        "aud": world.house.audience, "seq": world.people.seq,
        "cmd": {"act": "cancel", "tgt": [of.name], "ref": jti},
    }  # fmt: skip
    means = [{"fact": "cancel", "control": of.name, "of": jti}]
    _send(world, 0, "dr-command+jwt", claims, sender, means)


def _revoke(world: World, event: dict[str, Any], rng: random.Random) -> None:
    """The manager revokes the grant for a control."""
    del rng
    of = building.lever(world, event["control"])
    grants = list(of.grants.values())
    if not grants:
        return
    now = int(world.now())
    world.people.seq += 1
    claims = {"iss": houses.MANAGER, "jti": platform.number(world), "iat": now,
              "ver": world.people.seq, "rev": [{"jti": jti} for jti in grants]}  # fmt: skip
    means = [{"fact": "revoke", "control": of.name}]
    _send(world, 0, "dr-revoke+jwt", claims, houses.MANAGER, means)


DO = {
    "consent": _consent, "withdraw": _withdraw, "withdraw.anyway": _anyway, "again": _again,
    "move": _move, "exchange": _exchange, "remove": _remove, "duty": _duty, "duty.end": _duty_end,
    "opt-out": _opt_out, "release": _release, "look": _look, "order": _order, "cancel": _cancel,
    "revoke": _revoke,
}  # fmt: skip
END = {"opt-out": _opt_out_ended}


def heal(world: World) -> None:
    """What somebody would record only after the end is recorded now."""
    for wish in world.people.aimed:
        _withdraws(world, wish)
    world.people.aimed = []
    for errand in world.people.errands:
        errand["due"] = min(errand["due"], world.now() + HOUR)
    slot = (world.finish_at - LAST_LOOK - ONCE_READ) // (10 * MINUTE) * 10 * MINUTE
    if slot > world.now():
        add(world, "look", due=slot + ONCE_READ, what="status", home=0)
    _wake()


# Errands: the call of a stage, and what its answer means


def _ask_consent(world: World, of: Errand) -> tuple[str, Claims] | None:
    one, name = home(world, of["home"]), recipient(world, of["to"])
    if of["stage"] == 0:
        return "consent.marks", {"places": [one.label], "recipient": name}
    until, purpose = stamp(of["begun"] + of["days"] * DAY), houses.purpose(of["to"]) + of["own"]
    given = "" if of["ago"] is None else stamp(of["begun"] - of["ago"])
    if not of["listed"]:
        more = {"step": "10min"} if of["step"] == "loadcurve" else {}
        more |= {"given": given} if given else {}
        return "consent.give", {
            "places": [one.label], "recipient": name, "channels": of["channels"],
            "purpose": purpose, "scope": of["step"], "until": until,
            "after": of["marks"], "replace": True, **more,
        }  # fmt: skip
    step = "10min" if of["step"] == "loadcurve" else ""
    row = [one.label, name, ", ".join(of["channels"]), of["step"], step, purpose,
           until, given, ", ".join(of["marks"])]  # fmt: skip
    text = "place;recipient;channels;scope;step;purpose;until;given;after\n" + ";".join(row) + "\n"
    return "consent.give", {"text": text, "name": f"list-{of['number']}.csv", "replace": True}


def _told_consent(world: World, of: Errand, result: Claims) -> Facts:
    if of["stage"] == 0:
        of["marks"] = [mark["mark"] for mark in result["marks"]][-1:]
        of["begun"] = int(world.wall())
        of["stage"] = 1
        return []
    of["stage"] = None
    asked = {
        "place": home(world, of["home"]).place, "recipient": recipient(world, of["to"]),
        "channels": of["channels"], "step": SCOPES[of["step"]],
        "purpose": houses.purpose(of["to"]) + of["own"],
        "until": int(of["begun"] + of["days"] * DAY),
    }  # fmt: skip
    if of["ago"] is not None:
        asked["given"] = int(of["begun"] - of["ago"])
    if of["listed"]:
        _hand_in(world, "list", of, asked)
    return _consents(world, result, asked)


def _consents(world: World, result: Claims, asked: Claims) -> Facts:
    """The facts of an answer with consents: given now, as it was asked, or withdrawn now. Only the
    answer has the id, the second from which it counts, and the id of the people who live there.
    """
    facts: Facts = []
    for one in result["consents"]:
        known = world.people.given.get(one["id"])
        if one["withdrawn"] is not None or one["replaced_by"] is not None:
            if one["replaced_by"] is None and (known is None or not known["withdrawn"]):
                names = ("place", "occupancy", "recipient")
                facts.append({"fact": "withdraw", **{name: one[name] for name in names}})
        elif known is None:
            facts.append({
                "fact": "consent", "id": one["id"], "occupancy": one["occupancy"],
                "since": unix(one["since"]), **asked,
            })  # fmt: skip
        world.people.given[one["id"]] = {
            "place": one["place"], "occupancy": one["occupancy"], "recipient": one["recipient"],
            "withdrawn": one["withdrawn"] is not None,
        }  # fmt: skip
    return facts


def _ask_form(world: World, of: Errand) -> tuple[str, Claims] | None:
    one = home(world, of["home"])
    if of["stage"] == 0:
        return "consent.forms", {"places": [one.label]}
    ticks = ["" for _ in world.house.recipients]
    ticks[of["to"]] = {"yes": "oui", "no": "non"}[of["tick"]]
    names = ";".join(str(n + 1) for n in range(len(ticks)))
    text = f"form;signed;{names}\n{of['form']};{of['signed']};{';'.join(ticks)}\n"
    return "consent.answers", {"text": text, "name": f"forms-{of['number']}.csv"}


def _told_form(world: World, of: Errand, result: Claims) -> Facts:
    one, name = home(world, of["home"]), recipient(world, of["to"])
    if of["stage"] == 0:
        if not result["forms"]:
            of["stage"] = None
            return []
        of["form"], of["stage"] = result["forms"][0]["form"], 1
        of["occupancy"] = one.occupancy
        of["due"] = world.now() + of["wait"]
        of["signed"] = stamp(world.wall())
        return []
    of["stage"] = None
    signed = dt.datetime.fromisoformat(of["signed"])
    asked = {
        "place": one.place, "recipient": name, "channels": list(CHANNELS), "step": HALF_HOUR,
        "purpose": houses.purpose(of["to"]),
        "until": int(signed.replace(year=signed.year + FORM_YEARS).timestamp()),
        "given": int(signed.timestamp()),
    }  # fmt: skip
    _hand_in(world, "form", of, asked)
    facts = _consents(world, result, asked)
    if of["tick"] == "no":
        fact = {"fact": "withdraw", "place": one.place, "occupancy": of["occupancy"],
                "recipient": name}  # fmt: skip
        facts += [fact] if fact not in facts else []
    return facts


def _hand_in(world: World, what: str, of: Errand, asked: Claims) -> None:
    world.people.handed.setdefault(what, []).append([of["call"], of["args"], asked])


def _ask_again(world: World, of: Errand) -> tuple[str, Claims] | None:
    del world
    return of["call"], of["args"]


def _told_again(world: World, of: Errand, result: Claims) -> Facts:
    of["stage"] = None
    return _consents(world, result, of["states"])


def _ask_withdraw(world: World, of: Errand) -> tuple[str, Claims] | None:
    more = {} if of["to"] < 0 else {"recipient": recipient(world, of["to"])}
    return "consent.withdraw", {"place": home(world, of["home"]).label, **more}


def _told_withdraw(world: World, of: Errand, result: Claims) -> Facts:
    of["stage"] = None
    _consents(world, result, {})
    one = home(world, of["home"])
    name = None if of["to"] < 0 else recipient(world, of["to"])
    return [{"fact": "withdraw", "place": one.place, "occupancy": one.occupancy,
             "recipient": name}]  # fmt: skip


def _ask_move(world: World, of: Errand) -> tuple[str, Claims] | None:
    one = home(world, of["home"])
    if of.get("check"):
        return "occupancy.list", {"place": one.label}
    if of["stage"] == 0:
        return "occupancy.move_out", {"place": one.label, "at": stamp(of["at"])}
    return "occupancy.move_in", {"place": one.label, "since": stamp(of["enters"])}


def _told_move(world: World, of: Errand, result: Claims) -> Facts:
    one = home(world, of["home"])
    known = result["occupancies"]
    if of.pop("check", False):
        name, at = ("until", of["at"]) if of["stage"] == 0 else ("since", of["enters"])
        known = [each for each in known if unix(each[name]) == at]
        if not known:  # somebody else has recorded something else
            of["stage"] = None
            return []
    occupancy = known[-1]
    if of["stage"] == 0:
        of["stage"], of["due"] = 1, max(world.now(), of["enters"])
        if occupancy["id"] == one.occupancy:
            one.leaves = of["at"]
        return [{"fact": "leave", "place": one.place, "occupancy": occupancy["id"],
                 "at": of["at"]}]  # fmt: skip
    of["stage"], one.occupancy, one.leaves = None, occupancy["id"], None
    return [{"fact": "enter", "place": one.place, "occupancy": occupancy["id"],
             "at": of["enters"]}]  # fmt: skip


def _ask_exchange(world: World, of: Errand) -> tuple[str, Claims] | None:
    if of.get("now") and not of.get("sure"):
        of["at"] = int(world.wall())
    shown = {name: [f"{of['channel']}={of[name]}"] for name in ("closing", "opening") if of[name]}
    args = {"place": home(world, of["home"]).label, "old": of["old"], "serial": of["new"],
            "at": stamp(of["at"]), **shown}  # fmt: skip
    fitted = next(one for one in world.house.fittings if one.name == of["device"])
    if not fitted.serial_at:
        del args["serial"]
        args |= {"old": of["device"], "device": of["device"]}
    if of.get("sure"):
        args["confirm"] = of["sure"]
    return "meter.exchange", args


def _told_exchange(world: World, of: Errand, result: Claims) -> Facts:
    del result
    of["stage"] = None
    names = ("channel", "device", "old", "new", "at", "closing", "opening")
    fitted = next(one for one in world.house.fittings if one.name == of["device"])
    return [{"fact": "exchange", "place": home(world, of["home"]).place, "offset": "0",
             "multiplier": fitted.multiplier, **{name: of[name] for name in names}}]  # fmt: skip


def _ask_remove(world: World, of: Errand) -> tuple[str, Claims] | None:
    shown = {"closing": [f"{of['channel']}={of['closing']}"]} if of["closing"] else {}
    fitted = next(one for one in world.house.fittings if one.name == of["device"])
    args = {"place": home(world, of["home"]).label, "at": stamp(of["at"]), **shown,
            "old": of["old"] if fitted.serial_at else of["device"]}  # fmt: skip
    if of.get("sure"):
        args["confirm"] = of["sure"]
    return "meter.remove", args


def _told_remove(world: World, of: Errand, result: Claims) -> Facts:
    del result
    of["stage"] = None
    names = ("channel", "device", "old", "at", "closing")
    return [{"fact": "removal", "place": home(world, of["home"]).place,
             **{name: of[name] for name in names}}]  # fmt: skip


def _ask_duty(world: World, of: Errand) -> tuple[str, Claims] | None:
    return "duty.add", {"reference": of["reference"], "recipient": recipient(world, of["to"]),
                        "channels": ["heat"]}  # fmt: skip


def _told_duty(world: World, of: Errand, result: Claims) -> Facts:
    of["stage"] = None
    (duty,) = result["duties"]
    world.people.duties.append((duty["id"], of["to"], of["reference"]))
    return [{"fact": "duty", "id": duty["id"], "recipient": recipient(world, of["to"]),
             "channels": ["heat"], "since": unix(duty["since"])}]  # fmt: skip


def _ask_duty_end(world: World, of: Errand) -> tuple[str, Claims] | None:
    mine = [id_ for id_, to, _ in world.people.duties if to == of["to"]]
    if not mine:
        return None
    of["duty"] = of.get("duty") or mine[0]
    return "duty.end", {"duty": of["duty"], **({"at": stamp(of["at"])} if of["at"] else {})}


def _told_duty_end(world: World, of: Errand, result: Claims) -> Facts:
    of["stage"] = None
    world.people.duties = [one for one in world.people.duties if one[0] != of["duty"]]
    (duty,) = result["duties"]
    at = unix(duty["until"]) if of["at"] is None else int(of["at"])
    return [{"fact": "duty.end", "id": of["duty"], "recipient": recipient(world, of["to"]),
             "at": at}]  # fmt: skip


def _ask_opt_out(world: World, of: Errand) -> tuple[str, Claims] | None:
    args = {"name": of["control"], "reason": "trop froid"}
    if of["today"]:
        local = dt.datetime.fromtimestamp(world.wall(), ZoneInfo(houses.ZONE))
        day = local.replace(hour=0, minute=0, second=0, microsecond=0) + dt.timedelta(days=1)
        of["until"] = int(day.timestamp())
        return "control.opt_out", args | {"until": f"{local:%Y-%m-%d}"}
    return "control.opt_out", args | {"hours": of["hours"]}


def _told_opt_out(world: World, of: Errand, result: Claims) -> Facts:
    del world, result
    of["stage"] = None
    asked = {"until": of["until"]} if of["today"] else {"lasts": of["hours"] * HOUR}
    return [{"fact": "opt-out", "control": of["control"], **asked}]


def _told_release(world: World, of: Errand, result: Claims) -> Facts:
    del world, result
    of["stage"] = None
    return [{"fact": "release", "control": of["control"]}]


def _ask_release(world: World, of: Errand) -> tuple[str, Claims] | None:
    del world
    return "control.release", {"name": of["control"], "reason": "visite"}


LOOKS: dict[str, Callable[[Home], tuple[str, Claims]]] = {
    "status": lambda _: ("status", {}),
    "explain": lambda one: ("privacy.explain", {"place": one.label}),
    "dossier": lambda one: ("privacy.person", {"place": one.label}),
    "disclosures": lambda one: ("privacy.disclosures", {"place": one.label}),
}


def _ask_look(world: World, of: Errand) -> tuple[str, Claims] | None:
    return LOOKS[of["what"]](home(world, of["home"]))


def _told_look(world: World, of: Errand, result: Claims) -> Facts:
    of["stage"] = None
    short = {name: value for name, value in result.items() if name != "html"}
    world.note("status", what=of["what"], place=home(world, of["home"]).place,
               answer=json.loads(json.dumps(short, default=str)))  # fmt: skip
    return []


ERRANDS: Mapping[str, tuple[Any, Any]] = {
    "consent": (_ask_consent, _told_consent),
    "form": (_ask_form, _told_form),
    "again": (_ask_again, _told_again),
    "withdraw": (_ask_withdraw, _told_withdraw),
    "move": (_ask_move, _told_move),
    "exchange": (_ask_exchange, _told_exchange),
    "remove": (_ask_remove, _told_remove),
    "duty": (_ask_duty, _told_duty),
    "duty.end": (_ask_duty_end, _told_duty_end),
    "opt-out": (_ask_opt_out, _told_opt_out),
    "release": (_ask_release, _told_release),
    "look": (_ask_look, _told_look),
}
"""by what somebody wants: the call of the present stage, and what its answer means"""
QUIET_CALLS = ("consent.marks", "consent.forms", "status", "privacy.explain", "privacy.person",
               "privacy.disclosures")  # fmt: skip
"""calls that state nothing; only their refusal goes to the journal"""


# Making the calls

_WAKE: list[asyncio.Event] = []


def _wake() -> None:
    for event in _WAKE:
        event.set()


async def _progress(told: dict[str, Any]) -> None:
    """Nobody watches."""


CALLER = Caller(WHO, _progress)


def install(world: World) -> None:
    """Let withdrawals meet the batches that leave."""
    del world
    platform.WATCHING[:] = [batch_leaves]
    _WAKE[:] = []


async def serve(world: World, gateway: Gateway, state: Any) -> None:
    """Be the people at the gateway's socket until cancelled."""
    del state
    try:
        await _serve(world, gateway)
    except Exception:
        # not the agent's: its supervisor would only start this again
        world._live.broken(traceback.format_exc())
        raise


async def _serve(world: World, gateway: Gateway) -> None:
    event = asyncio.Event()
    _WAKE[:] = [event]
    if not world.house.settled:
        await settle(world, gateway)
    for errand in world.people.errands:
        if errand["asked"] is not None:
            _lost(world, errand)
    while True:
        event.clear()
        due = sorted(
            (one for one in world.people.errands if one["due"] <= world.now()), key=_order_of
        )
        for errand in due:
            await _do(world, gateway, errand)
        if due:
            continue
        waits = [one["due"] - world.now() for one in world.people.errands]
        soonest = min(waits, default=float("inf"))
        try:
            async with asyncio.timeout(max(0.01, soonest) if soonest < 10 * DAY else None):
                await event.wait()
        except TimeoutError:
            pass


def _order_of(errand: Errand) -> tuple[float, int]:
    return errand["due"], errand["number"]


def _lost(world: World, errand: Errand) -> None:
    """The agent died before it answered: nobody knows whether it was recorded."""
    world.note("call", name=errand["call"], args=errand["args"], asked=errand["asked"], lost=True,
               means=_wished(world, errand), outcome="lost", errand=errand["number"])  # fmt: skip
    errand["asked"], errand["due"], errand["lost"] = None, world.now() + 5, True


def _wished(world: World, errand: Errand) -> Facts:
    """What a call states whose answer nobody has seen."""
    one = home(world, errand["home"]) if errand.get("home") is not None else None
    if errand["do"] in {"withdraw", "form"} and errand.get("tick") != "yes" and one:
        if errand["do"] == "form" and errand["stage"] == 0:
            return []  # it was only to be printed
        to = None if errand["to"] < 0 else recipient(world, errand["to"])
        return [{"fact": "withdraw", "place": one.place, "occupancy": one.occupancy,
                 "recipient": to}]  # fmt: skip
    if errand["do"] == "move" and one:
        what = ("leave", one.occupancy, errand["at"]) if errand["stage"] == 0 else (
            "enter", "", errand["enters"])  # fmt: skip
        return [{"fact": what[0], "place": one.place, "occupancy": what[1], "at": what[2]}]
    if errand["do"] == "again" or (errand["do"] in {"consent", "form"} and errand["stage"]):
        return [_successor(world, errand)]
    if errand["do"] in {*METERS, "opt-out"}:
        facts: Facts = ERRANDS[errand["do"]][1](world, dict(errand), {})
        return facts
    return []


def _successor(world: World, errand: Errand) -> Claims:
    """A consent that may replace earlier ones. Only its answer would have its id."""
    if errand["do"] == "again":
        place, to = errand["states"]["place"], errand["states"]["recipient"]
    else:
        place, to = home(world, errand["home"]).place, recipient(world, errand["to"])
    homes = (home(world, number) for number in range(len(world.house.homes)))
    lived = next(one.occupancy for one in homes if one.place == place)
    return {"fact": "consent.lost", "place": place, "occupancy": lived, "recipient": to}


async def _do(world: World, gateway: Gateway, errand: Errand) -> None:
    """Make the call of the present stage of an errand."""
    ask, told = ERRANDS[errand["do"]]
    call = ask(world, errand)
    if call is None:
        world.people.errands.remove(errand)
        return
    errand["call"], errand["args"] = call
    errand["asked"] = asked = world.now()
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await _answered(gateway, *call)
    except TimeoutError:
        _lost(world, errand)
        errand["due"] = world.now() + AGAIN_AFTER
        return
    world.moment("answer")
    errand["asked"] = None
    record = {"name": call[0], "args": call[1], "asked": asked, "lost": False,
              "errand": errand["number"], "do": errand["do"]}  # fmt: skip
    if "refused" in answer:
        _refused(world, errand, answer, record)
        return
    means = told(world, errand, answer["result"])
    errand.pop("lost", None)
    if call[0] not in QUIET_CALLS:
        result = {name: value for name, value in answer["result"].items() if name != "html"}
        world.note("call", **record, result=json.loads(json.dumps(result, default=str)),
                   means=means, outcome="accepted", unrecorded="unrecorded" in answer)  # fmt: skip
    if errand["stage"] is None:
        world.people.errands.remove(errand)


async def _answered(gateway: Gateway, name: str, args: Claims) -> dict[str, Any]:
    request = json.loads(json.dumps({"call": name, "args": args}))
    return await local.answer(gateway, request, CALLER)


def _refused(world: World, errand: Errand, answer: Claims, record: Claims) -> None:
    """Whoever is asked whether they are sure is; the disk may work later; all else is final."""
    text = answer["refused"]
    doubts = [one["value"] for one in answer.get("doubts", ())]
    errand["tries"] += 1
    outcome = "refused"
    if doubts and errand["do"] in METERS and not errand.get("sure"):
        errand["sure"], outcome = doubts, "waiting"
        errand["due"] = world.now() + 5
    elif errand["do"] == "move" and errand.pop("lost", False):
        # perhaps the call whose answer nobody has seen was recorded
        errand["check"], outcome = True, "waiting"
        errand["due"] = world.now() + 5
    elif _later(text) and errand["tries"] < TRIES:
        outcome = "waiting"
        errand["due"] = world.now() + AGAIN_AFTER
    else:
        world.people.errands.remove(errand)
    world.note("call", **record, refused=text, means=[], outcome=outcome)


def _later(text: str) -> bool:
    """Whether the reason of a refusal may pass."""
    return any(reason in text.lower() for reason in ("disk", "not recorded", "try again", "clock"))


# What is told once


async def settle(world: World, gateway: Gateway) -> None:
    """What installer and manager do on the first day."""
    house = world.house

    async def call(name: str, /, **args: Any) -> Claims:
        answer = await _answered(gateway, name, args)
        if "refused" in answer:
            raise RuntimeError(f"{name}: {answer['refused']}")
        result: Claims = answer["result"]
        return result

    lines = ["label;type;id;since"]
    lines += [f"{one.label};dwelling;{one.place};{houses.SINCE}" for one in house.homes]
    lines += [f"immeuble;building;{house.place};"]
    common = next(one.place for one in house.fittings if one.home is None)
    lines += [f"communs;common;{common};"]
    await call("place.import", text="\n".join(lines) + "\n", name="places.csv", reviewed=True)
    lines = ["serial;device;dwelling;channel;since;multiplier;offset"]
    lines += [
        f"{one.serial if one.serial_at else ''};{one.name if not one.serial_at else ''};"
        f"{house.homes[one.home].label};{one.channel};{houses.SINCE}"
        f";{one.multiplier if one.multiplier != '1' else ''};{one.offset.strip('0')}"
        for one in house.fittings
        if one.home is not None
    ]
    await call("meter.import", text="\n".join(lines) + "\n", name="meters.csv", join_lines=False)
    places = (await call("place.list"))["places"]
    for one in house.homes:
        one.occupancy = next(known["occupancy"] for known in places if known["id"] == one.place)
    raw = houses.trust_list(house, int(world.now()))
    digest = houses.sha256(raw)
    await call("trust.accept", text=raw.decode(), sha256=digest)
    house.audience = (await call("trust.show"))["audience"]
    for lever in house.levers:
        await _settle_control(world, call, lever)
    house.settled = True
    _note_building(world)


async def _settle_control(world: World, call: Any, lever: Lever) -> None:
    name = recipient(world, 0)
    jti = platform.number(world)
    raw = houses.grant(world.house, lever, name, int(world.now()), jti)
    await call("object.accept", text=raw.decode())
    lever.grants[name] = jti
    await asyncio.sleep(90)  # until its guard has been read
    await call("control.test", name=lever.name)


def _note_building(world: World) -> None:
    house = world.house
    world.note(
        "building", gateway=house.gateway, zone=houses.ZONE, building=house.place,
        recipients=house.recipients, flush=house.flush, seal=house.seal,
        withheld=house.withheld, signed=house.signed,
        common=_since() if house.common else None,
        sums={name: houses.summed(house, n) for n, name in enumerate(house.recipients)},
        places=[
            {"place": one.place, "occupancy": one.occupancy, "since": _since()}
            for one in house.homes
        ],
        meters=[
            {"device": one.name, "line": one.line, "meter": one.serial, "place": one.place,
             "channel": one.channel, "kinds": ["REG", "INT"] if one.intervals else ["REG"],
             "every": one.every, "since": _since(), "reports": bool(one.serial_at),
             "multiplier": one.multiplier, "offset": one.offset}
            for one in house.fittings
        ],
        controls=[
            {"control": one.name, "device": one.device, "point": "set", "action": one.action,
             "min": one.least, "max": one.most, "max_duration": one.longest,
             "restore_random": one.random, "max_per_day": one.a_day, "min_gap": one.gap,
             "original": one.original, "watchdog": one.watchdog, "heartbeat": one.heartbeat,
             "failsafe": one.failsafe, "bus": one.kind, "ramp_per_min": one.ramp,
             "min_off": one.rest, "common": True,
             "failsafe_for": 2 * HOUR if one.failsafe else 0}
            for one in house.levers
        ],
    )  # fmt: skip


def _since() -> int:
    """The midnight at the building from which everything is recorded."""
    return int(dt.datetime.fromisoformat(f"{houses.SINCE}T00:00+01:00").timestamp())
