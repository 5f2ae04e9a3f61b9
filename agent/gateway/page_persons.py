"""The people who may use the web page, and the programs that fetch numbers from it.

The page computes `key = argon2id(password, salt)`; here is only `sha256(key)`, so each guess at a
stolen file still costs an argon2id, and the daemon needs none. A code of an invitation has 60
random bits, so its plain hash is enough. Roles are names here; `agent/api/roles.py` knows what they
mean.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import unicodedata
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from agent.core.atomic_write import StateFile
from agent.core.errors import Refused
from agent.core.log_fields import LogEvent, fields
from agent.registry.place import SYMBOLS, squeeze

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

FILE = "page-persons.json"
"""in the state directory, mode 0600"""
SALT_BYTES = 16
INVITED_FOR = 7 * 86_400
"""seconds for which the code of an invitation counts"""
INVITATION, WINDOW = 12, 8
"""characters of the codes: of an invitation, and of the set-up window"""
GROUP = 4
"""characters of a code that are written together"""
MOST = 100
"""persons and scrapers"""
CLOCK_BACK = 86_400
"""seconds by which the clock may stand before an invitation was made"""


@dataclass(frozen=True, slots=True)
class PagePerson:
    """A person with roles, or a scraper without."""

    name: str
    roles: tuple[str, ...]
    added: int
    """Unix seconds"""
    by: str
    """who added the person"""
    salt: str = ""
    """hex; empty: the person has not chosen a password"""
    verifier: str = ""
    """hex, `sha256(key)`; of a scraper the hash of its token"""
    scraper: bool = False
    invitation: str = ""
    """hex, the hash of the code; empty: no invitation waits"""
    invited: int = 0
    """Unix seconds: when the invitation was made"""
    new_salt: str = ""
    """hex, for the password that the invited person chooses"""

    @property
    def invited_until(self) -> int:
        """When the invitation ends, as a Unix second."""
        return self.invited + INVITED_FOR


class PagePersons:
    """The persons, by name without differences that do not count."""

    def __init__(self, state: Path) -> None:
        self._file = StateFile[tuple[bytes, list[PagePerson]]](
            state / FILE, _parsed, missing=_nobody, damaged=_damaged
        )
        self._take(self._file.load(self._take))

    def _take(self, stored: tuple[bytes, list[PagePerson]]) -> None:
        self._secret, persons = stored
        self._persons = {name_key(person.name): person for person in persons}

    def all(self) -> list[PagePerson]:
        """Return all persons and scrapers, by name."""
        return [self._persons[key] for key in sorted(self._persons)]

    def get(self, name: str) -> PagePerson | None:
        """Return the person with a name, however it is spelt; None: there is none."""
        return self._persons.get(name_key(name))

    def salt(self, name: str) -> str:
        """Return the salt of a person; of a name that nobody has, a false one that stays."""
        person = self.get(name)
        if person is not None and person.salt:
            return person.salt
        return hmac.digest(self._secret, name_key(name).encode(), "sha256")[:SALT_BYTES].hex()

    def invite(self, name: str, roles: tuple[str, ...], by: str, now: int) -> str:
        """Add a person, or give a person new roles; return the code to choose a password with.

        An earlier password ends at once. Raises Refused, NotRecorded.
        """
        code = draw_code(INVITATION)
        invited = {"invitation": hashed(code), "invited": now}
        person = PagePerson(name, roles, now, by, new_salt=_salt(), **invited)  # type: ignore[arg-type]
        if (before := self.get(name)) and not before.scraper:
            person = replace(person, name=before.name, added=before.added)
        self._keep(person)
        return code

    def add_scraper(self, name: str, by: str, now: int) -> str:
        """Add a scraper, or renew its token; return the token. Raises Refused, NotRecorded."""
        token = new_token()
        if (before := self.get(name)) and not before.scraper:
            raise Refused("{name} is a person: give the scraper another name", name=before.name)
        self._keep(PagePerson(name, (), now, by, verifier=token_key(token), scraper=True))
        return token

    def invited(self, code: str, now: float) -> PagePerson | None:
        """Return the person whom a code invites now; None: nobody."""
        given, match = hashed(code), None
        for person in self._persons.values():
            # all of them, in the same time whoever it is
            if hmac.compare_digest(person.invitation, given):
                match = person
        if match is None or not -CLOCK_BACK <= now - match.invited < INVITED_FOR:
            return None
        return match

    def choose(self, person: PagePerson, key: bytes) -> PagePerson:
        """Set the password of an invited person, and end the invitation. Raises NotRecorded."""
        chosen = replace(
            person, salt=person.new_salt, verifier=sha256(key).hexdigest(), invitation="",
            invited=0, new_salt="",
        )  # fmt: skip
        self._keep(chosen)
        return chosen

    def fits(self, name: str, key: bytes) -> PagePerson | None:
        """Return the person whose password gave this key; None: it is wrong, or there is nobody."""
        person = self.get(name)
        # a name that nobody has is compared too, so that it takes the same time
        kept = person.verifier if person and not person.scraper else ""
        right = hmac.compare_digest(kept or "0" * 64, sha256(key).hexdigest())
        return person if right and kept else None

    def scraper(self, hashed_token: str) -> PagePerson | None:
        """Return the scraper with a token, by its hash; None: there is none."""
        match = None
        for person in self._persons.values():
            if person.scraper and hmac.compare_digest(person.verifier, hashed_token):
                match = person
        return match

    def remove(self, name: str) -> PagePerson:
        """Remove a person or a scraper. Raises Refused if there is none; NotRecorded."""
        person = self.get(name)
        if person is None:
            known = ", ".join(one.name for one in self.all())
            raise Refused(
                'the page has no person "{name}". To see them: gardien web person list. Known:'
                " {known}",
                name=name, known=known or "-",
            )  # fmt: skip
        left = {key: one for key, one in self._persons.items() if one is not person}
        self._save(left)
        return person

    def _keep(self, person: PagePerson) -> None:
        persons = self._persons | {name_key(person.name): person}
        if len(persons) > MOST:
            raise Refused(
                "the page has {most} persons already: remove one first: gardien web person remove"
                " NAME",
                most=MOST,
            )
        self._save(persons)

    def _save(self, persons: dict[str, PagePerson]) -> None:
        # on the disk first: what was not recorded must not be in force
        content = {"secret": self._secret.hex(), "persons": [*map(asdict, persons.values())]}
        self._file.save(content)
        self._persons = persons


def name_key(name: str) -> str:
    """Return a name without differences that do not count: case, spaces, how accents are coded."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def draw_code(length: int) -> str:
    """Return a new code, with a hyphen after each four characters."""
    drawn = "".join(secrets.choice(SYMBOLS) for _ in range(length))
    return "-".join(drawn[at : at + GROUP] for at in range(0, length, GROUP))


def hashed(code: str) -> str:
    """Return the hash of a code, as people type it."""
    return sha256(squeeze(code).encode()).hexdigest()


def new_token() -> str:
    """Return a new token of 256 random bits."""
    return secrets.token_urlsafe(32)


def token_key(token: str) -> str:
    """Return the hash by which a token is known."""
    return sha256(token.encode()).hexdigest()


def _salt() -> str:
    return secrets.token_bytes(SALT_BYTES).hex()


def _nobody() -> tuple[bytes, list[PagePerson]]:
    return secrets.token_bytes(32), []


def _damaged(error: Exception) -> tuple[bytes, list[PagePerson]]:
    if not isinstance(error, OSError):
        log.error(
            "%s cannot be read, so nobody can log in to the page: %s. Add its people again: gardien"
            " web person add NAME", FILE, error, extra=fields(LogEvent.STORE_DAMAGED, store=FILE),
        )  # fmt: skip
    return _nobody()


def _parsed(stored: Any) -> tuple[bytes, list[PagePerson]]:
    persons = [PagePerson(**one | {"roles": tuple(one["roles"])}) for one in stored["persons"]]
    return bytes.fromhex(stored["secret"]), persons
