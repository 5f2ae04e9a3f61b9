"""Calls about the people of the web page: logging in, and what root does about them.

Rules W1, W2, W3. A password never arrives here: the page sends `key = argon2id(password, salt)` in
hex. `address`: of the browser, by which attempts are counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.api.logins import is_open
from agent.api.registry import SHARED, in_person
from agent.api.roles import Role
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import N_
from agent.gateway.page_logins import LoginKind, is_window_code
from agent.registry.parsers import LONGEST_LABEL
from agent.registry.parsers import text as checked_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.api.registry import Call, Caller
    from agent.gateway.gateway import Gateway

KEY_BYTES = 32
SHORTEST_WINDOW, DEFAULT_WINDOW, LONGEST_WINDOW = 15.0, 30.0, 120.0
"""minutes"""
NOT_RUNNING = N_(
    "nothing was done: the set-up window is in the memory of the running gateway, and gardien is"
    " not running. Start it: sudo systemctl start gardien"
)


async def greet(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Return what the page shows to anybody: the building's name, and whether a login is possible.

    `open`: whether the configuration opens the page. `setup_s`: seconds for which the code of the
    set-up window is accepted; 0: it is not. `persons`: whether anybody has a password.
    """
    del caller
    building, page = gateway.config.building, gateway.page
    opened = is_open(gateway)
    return {
        "building": building.name,
        "zone": building.timezone,
        "open": opened,
        "setup_s": int(page.window_left()) if opened and page.admits() else 0,
        "persons": opened and any(one.verifier and not one.scraper for one in page.persons.all()),
    }


async def salt(gateway: Gateway, caller: Caller, *, name: str) -> dict[str, Any]:
    """Return the salt of a person's password; of an unknown name a false one that stays."""
    del caller
    return {"salt": gateway.page.persons.salt(name[:LONGEST_LABEL])}


async def enter(
    gateway: Gateway, caller: Caller, *, name: str, key: str, address: str
) -> dict[str, Any]:
    """Log in with a password. Raises Refused, with the same text for a wrong name and password."""
    del caller
    token, person = gateway.page.enter(name[:LONGEST_LABEL], _key(key), address)
    return _entered(gateway, token, person.name, person.roles)


async def code(
    gateway: Gateway, caller: Caller, *, code: str, address: str, name: str = ""
) -> dict[str, Any]:
    """Log in with the code of the set-up window, or begin to choose a password with an invitation.

    `name`: of the person who sets up, as the records will have it. Raises Refused.
    """
    del caller
    if not is_window_code(code):
        person = gateway.page.invited(code, address, gateway.clock.now())
        return {
            "choose": True,
            "name": person.name,
            "roles": _roles(person.roles),
            "salt": person.new_salt,
        }
    if not name.strip():
        raise Refused("enter your name too: it is recorded with every change")
    named = _name(name)
    token = gateway.page.enter_setup(code, named, address)
    return _entered(gateway, token, named, (str(Role.INSTALLER),)) | {"setup": True}


async def choose(
    gateway: Gateway, caller: Caller, *, code: str, key: str, address: str
) -> dict[str, Any]:
    """Set the password of an invited person, and log in. Raises Refused, NotRecorded."""
    del caller
    token, person = gateway.page.choose(code, _key(key), address, gateway.clock.now())
    gateway.audit("page.password", {"person": person.name})
    return _entered(gateway, token, person.name, person.roles)


def _entered(gateway: Gateway, token: str, name: str, roles: Sequence[str]) -> dict[str, Any]:
    gateway.page.record("page.entered", name, {"roles": _roles(roles)})
    used = gateway.page.use(token)
    left = gateway.page.left(used[1]) if used else 0.0
    return {
        "login": token,
        "name": name,
        "roles": _roles(roles),
        "until": stamp(gateway.clock.now() + left),
    }


def _roles(names: Sequence[str]) -> list[str]:
    return [str(role) for role in Role if role in names]


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise Refused("`key` must have {number} bytes in hex", number=KEY_BYTES)
    return key


def _name(text: str) -> str:
    """Return the name of a person as the records will have it. Raises Refused."""
    name = " ".join(checked_text(text, "name", LONGEST_LABEL).split())
    # records have the account behind a name: `Eva (web)`
    if set("()") & set(name) or name.casefold() in SHARED:
        raise Refused(
            'name: "{name}" cannot be the name of a person: write it without parentheses, such as'
            " Marie Dupont",
            name=name,
        )
    return name


async def me(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Return who is logged in, and until when at the latest if nothing more is done."""
    login = gateway.page.login(caller.login)
    if login is None:  # a scraper's token is no login
        return {"name": caller.who, "roles": [], "until": None, "setup": False, "scraper": True}
    return {
        "name": login.name,
        "roles": _roles([*caller.roles]),
        "until": stamp(gateway.clock.now() + gateway.page.left(login)),
        "setup": login.kind is LoginKind.SETUP,
        "scraper": False,
    }


async def leave(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """End the login of the caller."""
    gateway.page.end(caller.login)
    return {}


async def open_window(
    gateway: Gateway, caller: Caller, *, minutes: float = DEFAULT_WINDOW
) -> dict[str, Any]:
    """Open the set-up window, in which a code admits an installer without a password.

    Its code is shown once, here. Raises Refused.
    """
    if not gateway.daemon:
        raise Refused(NOT_RUNNING)
    if not is_open(gateway):
        raise Refused("the configuration does not open the page: add the section `web` first")
    if not SHORTEST_WINDOW <= minutes <= LONGEST_WINDOW:
        raise Refused(
            "the set-up window is open for {shortest:.0f} to {longest:.0f} minutes, not"
            " {minutes:g}",
            shortest=SHORTEST_WINDOW, longest=LONGEST_WINDOW, minutes=minutes,
        )  # fmt: skip
    drawn, seconds = gateway.page.open_window(minutes * 60)
    until = stamp(gateway.clock.now() + seconds)
    gateway.audit("page.opened", {"minutes": str(round(minutes)), "by": caller.who})
    return {"code": drawn, "until": until}


async def close(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Close the set-up window, and end all logins."""
    gateway.page.close()
    gateway.audit("page.closed", {"by": caller.who})
    return {}


async def add(
    gateway: Gateway, caller: Caller, *, name: str, roles: Sequence[str]
) -> dict[str, Any]:
    """Invite a person, or one who has forgotten the password or gets other roles; return the code.

    An earlier password and its logins end at once. Raises Refused, NotRecorded.
    """
    named, known = _name(name), [str(role) for role in Role]
    if not roles or not set(roles) <= set(known):
        raise Refused(
            "give one or more roles: {names}. Such as: gardien web person add {person} --role"
            " manager",
            names=", ".join(known), person=named,
        )  # fmt: skip
    now = int(gateway.clock.now())
    code, until = gateway.page.invite(named, tuple(_roles(roles)), caller.who, now)
    body = {"person": named, "roles": _roles(roles), "by": caller.who}
    gateway.audit("page.person_added", body)
    return {"code": code, "until": stamp(until)}


async def listed(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """List the persons and scrapers of the page, and say how long the set-up window is open."""
    del caller
    page, now = gateway.page, gateway.clock.now()
    locked = dict(page.locked())
    left = page.window_left()
    return {
        "persons": [
            {
                "name": one.name,
                "roles": _roles(one.roles),
                "scraper": one.scraper,
                "added": stamp(one.added),
                "by": one.by,
                "password": bool(one.verifier) and not one.scraper,
                "invited_until": stamp(one.invited_until) if one.invitation else None,
                "locked_until": stamp(now + locked[one.name]) if one.name in locked else None,
                "logins": page.count(one.name),
            }
            for one in page.persons.all()
        ],
        "setup_until": stamp(now + left) if left else None,
        "setup_admits": page.admits(),
    }


async def remove(gateway: Gateway, caller: Caller, *, name: str) -> dict[str, Any]:
    """Remove a person or a scraper. Their logins end at once. Raises Refused, NotRecorded."""
    person = gateway.page.remove(name[:LONGEST_LABEL])
    gateway.audit("page.person_removed", {"person": person.name, "by": caller.who})
    return {"name": person.name}


async def scraper(gateway: Gateway, caller: Caller, *, name: str) -> dict[str, Any]:
    """Make a token for a program that fetches numbers; one that it had ends. It is shown once.

    Raises Refused, NotRecorded.
    """
    named, now = _name(name), int(gateway.clock.now())
    token = gateway.page.persons.add_scraper(named, caller.who, now)
    gateway.audit("page.scraper_added", {"name": named, "by": caller.who})
    return {"name": named, "login": token}


def standing(gateway: Gateway) -> dict[str, Any]:
    """Return what `status` says of the page: until when it admits, and how many must wait.

    Without names: the status is in every support bundle.
    """
    page, now = gateway.page, gateway.clock.now()
    left, waits = page.window_left(), [wait for _, wait in page.locked()]
    return {
        "setup_until": stamp(now + left) if left else None,
        "locked": len(waits),
        "locked_until": stamp(now + max(waits)) if waits else None,
    }


CALLS: Mapping[str, Call] = {
    "web.greet": greet,
    "web.salt": salt,
    "web.enter": enter,
    "web.code": code,
    "web.choose": choose,
    "web.me": me,
    "web.leave": leave,
    "web.open": in_person(open_window),
    "web.close": in_person(close),
    "web.person.add": in_person(add),
    "web.person.list": listed,
    "web.person.remove": in_person(remove),
    "web.token": in_person(scraper),
}
"""calls by name"""
