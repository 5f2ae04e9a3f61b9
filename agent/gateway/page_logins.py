"""Who is logged in to the web page, and the set-up window: in memory, so a restart ends them all.

Times are monotonic, so a step of the clock neither extends nor ends a login. A login is known by
the hash of its token; the token itself is kept nowhere.
"""

from __future__ import annotations

import hmac
import logging
import math
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any

from agent.core.errors import Refused
from agent.core.i18n import N_
from agent.core.log_fields import LogEvent, fields
from agent.gateway.attempts import Lockouts, Rate, address_key
from agent.gateway.page_persons import (
    INVITED_FOR,
    WINDOW,
    PagePersons,
    draw_code,
    hashed,
    name_key,
    new_token,
    token_key,
)
from agent.registry.place import squeeze

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.gateway.page_persons import PagePerson

log = logging.getLogger(__name__)

UNUSED, LONGEST = 1_800.0, 43_200.0
"""seconds after which a login ends: without use, and in all"""
EXTENDED, WHOLE = 900.0, 14_400.0
"""seconds: each use keeps the set-up window open so long; it is never open longer than WHOLE"""
WRONG_CODES, WRONG_FROM_ONE = 10, 3
"""wrong codes after which the set-up window admits nobody more; wrong codes that count from one
address, whose further ones are refused without a look"""
MOST_LOGINS, MOST_OF_ONE = 200, 10
"""logins at the same time, in all and of one person; the one that was used least lately ends"""
FROM_ONE, FROM_ALL = (20, 15.0), (100, 2.0)
"""attempts at once and the seconds for each further one: of one address, and of all together"""
ADDRESSES = 500
"""addresses, and other keys that people choose, of which attempts are remembered"""
READINGS = (10, 8_640.0)
"""how often the indexes of a dwelling are shown at once, and the seconds for each further time: no
curve can be drawn from that"""
DWELLINGS = 5_000
"""dwellings of which this is remembered: more than a building has"""
REASONS = (2_000, 43.2)
"""how many looks with a reason one person may make at once, and the seconds for each further one:
each is an entry on the disk"""

RECORDS = (3, 600.0)
"""records of one kind and person in the audit chain at once; the seconds for each further one"""

TRY_LATER = N_("too many attempts: wait {seconds} s and try again")
LOCKED = N_(
    "too many wrong passwords for this name: wait {minutes} min. At once it is possible with a new"
    " invitation (sudo gardien web person add) or in a set-up window (sudo gardien web open)"
)
WRONG = N_(
    "name or password is wrong. Whoever has forgotten the password gets a new one from the"
    " administrator: sudo gardien web person add NAME"
)
WRONG_CODE = N_(
    "the code is wrong, used or expired. An administrator makes a new one: sudo gardien web open,"
    " or sudo gardien web person add NAME"
)


class LoginKind(StrEnum):
    """How a login was made."""

    PASSWORD = auto()
    SETUP = auto()
    """with the code of the set-up window; it ends with the window"""
    SCRAPER = auto()
    """with the token of a program that fetches numbers; it never expires"""


@dataclass(slots=True)
class Login:
    """One login. Its person's roles are looked up at each use."""

    kind: LoginKind
    name: str
    began: float
    used: float


@dataclass(slots=True)
class SetupWindow:
    """The time in which an installer without a password is admitted by a code."""

    code: str
    """its hash; empty: it admits nobody more, and who is inside may finish"""
    began: float
    until: float
    wrong: dict[str, int] = field(default_factory=dict)
    """wrong codes by address"""


class PageLogins:
    """The page's persons, logins and set-up window, and how often somebody may try."""

    def __init__(
        self, state: Path, steady: Callable[[], float], audit: Callable[[str, dict[str, Any]], None]
    ) -> None:
        self.persons = PagePersons(state)
        self._audit = audit
        self._records = Rate(*RECORDS, ADDRESSES)
        self.readings = Rate(*READINGS, DWELLINGS)
        """how often the indexes of each dwelling may be shown"""
        self.reasons = Rate(*REASONS, ADDRESSES)
        """how many reasons each person may give"""
        self._steady = steady
        self._lockouts = Lockouts()
        self._from_one = Rate(*FROM_ONE, ADDRESSES)
        self._from_all = Rate(*FROM_ALL, 1)
        self._trusted: OrderedDict[str, None] = OrderedDict()
        """addresses from which somebody has logged in: strangers cannot use up their attempts"""
        self._logins: OrderedDict[str, Login] = OrderedDict()
        """by the hash of their token; the one that was used last is at the end"""
        self._window: SetupWindow | None = None

    # -- logging in

    def enter(self, name: str, key: bytes, address: str) -> tuple[str, PagePerson]:
        """Log in with a password; return the token. Raises Refused.

        A name that nobody has takes the same path as a wrong password, with the same texts.
        """
        now = self._steady()
        self._count_attempt(address, now)
        if wait := self._lockouts.wait(name_key(name), now):
            raise Refused(LOCKED, minutes=_minutes(wait))
        person = self.persons.fits(name, key)
        if person is None:
            known = self.persons.get(name) is not None
            wait = self._lockouts.wrong(name_key(name), now, known=known)
            if wait and known:
                log.warning(
                    "wrong passwords for a person of the web page: it must wait %d min, last from"
                    " %s", _minutes(wait), address_key(address),
                    extra=fields(LogEvent.PAGE_LOCKED),
                )  # fmt: skip
                self.record("page.locked", name_key(name), {"minutes": _minutes(wait)})
            raise Refused(WRONG)
        self._give_back(address)
        self._right(name, address)
        return self._begin(LoginKind.PASSWORD, person.name, now), person

    def choose(self, code: str, key: bytes, address: str, wall: float) -> tuple[str, PagePerson]:
        """Set the password of an invited person and log in. Raises Refused, NotRecorded."""
        person = self.invited(code, address, wall)
        chosen = self.persons.choose(person, key)
        self.end_of(chosen.name)
        self._right(chosen.name, address)
        return self._begin(LoginKind.PASSWORD, chosen.name, self._steady()), chosen

    def invited(self, code: str, address: str, wall: float) -> PagePerson:
        """Return the person whom a code invites. `wall`: Unix seconds. Raises Refused."""
        self._count_attempt(address, self._steady())
        person = self.persons.invited(code, wall)
        if person is None:
            raise Refused(WRONG_CODE)
        self._give_back(address)
        return person

    def enter_setup(self, code: str, name: str, address: str) -> str:
        """Log in with the code of the set-up window; return the token. Raises Refused.

        `name`: as the records will have it; nobody's of those who have a password.
        """
        now, where = self._steady(), address_key(address)
        self._count_attempt(address, now)
        window = self.window()
        if window is None or not window.code or window.wrong.get(where, 0) >= WRONG_FROM_ONE:
            raise Refused(WRONG_CODE)
        if not hmac.compare_digest(window.code, hashed(code)):
            self._wrong_code(window, where)
            raise Refused(WRONG_CODE)
        if self.persons.get(name) is not None:
            raise Refused(
                "{name} has a password of their own: log in with it, or give another name",
                name=name,
            )
        self._give_back(address)
        self._right(name, address)
        return self._begin(LoginKind.SETUP, name, now)

    def _wrong_code(self, window: SetupWindow, where: str) -> None:
        window.wrong[where] = window.wrong.get(where, 0) + 1
        if sum(window.wrong.values()) >= WRONG_CODES:
            window.code = ""
            log.warning(
                "the set-up window of the web page admits nobody more: %d wrong codes, from %s. A"
                " new one: sudo gardien web open", WRONG_CODES, ", ".join(sorted(window.wrong)),
                extra=fields(LogEvent.PAGE_CODE_VOID),
            )  # fmt: skip
            self.record("page.code_void", "", {"wrong": WRONG_CODES})

    def _count_attempt(self, address: str, now: float) -> None:
        where = address_key(address)
        wait = self._from_one.wait(where, now)
        if not wait and where not in self._trusted:
            wait = self._from_all.wait("", now)
        if wait:
            raise Refused(TRY_LATER, seconds=int(wait) + 1)

    def _give_back(self, address: str) -> None:
        where = address_key(address)
        self._from_one.give_back(where)
        if where not in self._trusted:  # else none was taken
            self._from_all.give_back("")

    def _right(self, name: str, address: str) -> None:
        where = address_key(address)
        self._lockouts.clear(name_key(name))
        self._trusted[where] = None
        self._trusted.move_to_end(where)
        if len(self._trusted) > ADDRESSES:
            self._trusted.popitem(last=False)

    def record(self, kind: str, person: str, body: dict[str, Any]) -> None:
        """Write a record to the audit chain, seldom for one person: strangers cause some."""
        if not self._records.wait(f"{kind} {person}", self._steady()):
            self._audit(kind, ({"person": person} if person else {}) | body)

    # -- logins

    def _begin(self, kind: LoginKind, name: str, now: float) -> str:
        token = new_token()
        own = [key for key, login in self._logins.items() if login.name == name]
        if len(own) >= MOST_OF_ONE:
            del self._logins[own[0]]
        if len(self._logins) >= MOST_LOGINS:
            self._logins.popitem(last=False)
        self._logins[token_key(token)] = Login(kind, name, now, now)
        return token

    def use(self, token: str, *, counts: bool = True) -> tuple[str, Login, tuple[str, ...]] | None:
        """Return the key and the login of a token, with the roles of its person now; None: it is
        unknown or has ended.

        `counts`: a person acts. False for what a page asks by itself: it does not keep a login.
        """
        key, now = token_key(token), self._steady()
        if (scraper := self.persons.scraper(key)) is not None:
            return key, Login(LoginKind.SCRAPER, scraper.name, now, now), ()
        login = self._logins.get(key)
        if login is None or not self.left(login):
            self._logins.pop(key, None)
            return None
        if counts:
            login.used = now
            self._logins.move_to_end(key)
        if login.kind is LoginKind.SETUP:
            if counts and (window := self.window()):
                window.until = _extended(window, now)
            return key, login, ("installer",)
        person = self.persons.get(login.name)
        return None if person is None else (key, login, person.roles)

    def left(self, login: Login) -> float:
        """Return the seconds until a login ends, if it is not used; 0: it has ended."""
        if login.kind is LoginKind.SETUP:
            return self.window_left()
        now = self._steady()
        return max(0.0, min(login.used + UNUSED, login.began + LONGEST) - now)

    def login(self, key: str) -> Login | None:
        """Return a login by its key; None: there is none."""
        return self._logins.get(key)

    def end(self, key: str) -> None:
        """End a login, by its key."""
        self._logins.pop(key, None)

    def end_of(self, name: str) -> None:
        """End all logins of a person."""
        for key in [key for key, login in self._logins.items() if login.name == name]:
            del self._logins[key]

    def count(self, name: str) -> int:
        """Count the logins of a person that have not ended."""
        return sum(login.name == name and self.left(login) > 0 for login in self._logins.values())

    # -- what root does

    def open_window(self, seconds: float) -> tuple[str, float]:
        """Open the set-up window; return its code and the seconds for which it is open.

        A window that is open goes on with the new code, and who is inside stays.
        """
        now, code = self._steady(), draw_code(WINDOW)
        self.window()  # ends the logins of a window that is over
        self._window = SetupWindow(hashed(code), now, now + seconds)
        return code, seconds

    def close(self) -> None:
        """Close the set-up window and end all logins."""
        self._window = None
        self._logins.clear()

    def window(self) -> SetupWindow | None:
        """Return the set-up window; None: none is open, and its logins have ended."""
        if self._window and self._window.until <= self._steady():
            self._window = None
            for key in [key for key, it in self._logins.items() if it.kind is LoginKind.SETUP]:
                del self._logins[key]
        return self._window

    def window_left(self) -> float:
        """Return the seconds for which the set-up window is still open; 0: it is closed."""
        window = self.window()
        return window.until - self._steady() if window else 0.0

    def admits(self) -> bool:
        """Whether the set-up window admits somebody with its code."""
        window = self.window()
        return bool(window and window.code)

    def invite(self, name: str, roles: tuple[str, ...], by: str, now: int) -> tuple[str, int]:
        """Add or renew a person; return the code and its end. What was of the person before ends.

        `now`: Unix seconds, as is the end. Raises Refused, NotRecorded.
        """
        code = self.persons.invite(name, roles, by, now)
        self._fresh(name)
        return code, now + INVITED_FOR

    def remove(self, name: str) -> PagePerson:
        """Remove a person or a scraper, whose logins end. Raises Refused, NotRecorded."""
        person = self.persons.remove(name)
        self._fresh(person.name)
        return person

    def _fresh(self, name: str) -> None:
        person = self.persons.get(name)
        self.end_of(person.name if person else name)
        self._lockouts.clear(name_key(name))

    def locked(self) -> Iterator[tuple[str, float]]:
        """Yield each person who must wait after wrong passwords, with the seconds."""
        for key, wait in sorted(self._lockouts.locked(self._steady()).items()):
            if person := self.persons.get(key):
                yield person.name, wait


def is_window_code(code: str) -> bool:
    """Whether a code has the form of the set-up window's."""
    return len(squeeze(code)) == WINDOW


def _extended(window: SetupWindow, now: float) -> float:
    return min(max(window.until, now + EXTENDED), window.began + WHOLE)


def _minutes(seconds: float) -> int:
    return math.ceil(seconds / 60)
