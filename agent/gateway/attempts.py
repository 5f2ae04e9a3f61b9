"""How often somebody may try a password or a code. Pure: the time is an argument.

All times are monotonic seconds, so a step of the clock neither shortens nor lengthens a wait. What
is remembered is bounded, because a stranger chooses the names and addresses that he tries.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

FREE = 5
"""wrong passwords of one name before it must wait"""
FIRST_WAIT, LONGEST_WAIT = 60.0, 3600.0
"""seconds: each further wrong password doubles the wait"""
FORGOTTEN = 86_400.0
"""seconds after the last wrong password of a name, after which it counts no more"""
STRANGERS = 200
"""names that nobody has, of which wrong passwords are remembered"""


class Rate:
    """Allows `burst` attempts of each key at once, then one each `every` seconds."""

    def __init__(self, burst: int, every: float, most_keys: int) -> None:
        self._burst, self._every, self._most_keys = burst, every, most_keys
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """attempts left at a time, by key; the key that was used last is at the end"""

    def wait(self, key: str, now: float) -> float:
        """Take one attempt of a key: return 0, or the seconds until there is one again."""
        left, at = self._left.pop(key, (float(self._burst), now))
        left = min(float(self._burst), left + (now - at) / self._every)
        wait = 0.0 if left >= 1 else (1 - left) * self._every
        self._left[key] = (left if wait else left - 1, now)
        if len(self._left) > self._most_keys:
            self._left.popitem(last=False)
        return wait

    def give_back(self, key: str) -> None:
        """Return the last attempt of a key: it was right."""
        if key in self._left:
            left, at = self._left[key]
            self._left[key] = (min(float(self._burst), left + 1), at)


@dataclass(slots=True)
class WrongPasswords:
    """The wrong passwords of one name."""

    count: int = 0
    until: float = 0.0
    """when the next password may be tried"""
    last: float = 0.0
    """when the last one was tried"""


class Lockouts:
    """Which names must wait, after too many wrong passwords."""

    def __init__(self, strangers: int = STRANGERS) -> None:
        self._most_strangers = strangers
        self._persons: dict[str, WrongPasswords] = {}
        self._strangers: OrderedDict[str, WrongPasswords] = OrderedDict()

    def wait(self, name: str, now: float) -> float:
        """Return the seconds that a name must wait; 0: it may try."""
        wrong = self._persons.get(name) or self._strangers.get(name)
        return max(0.0, wrong.until - now) if wrong else 0.0

    def wrong(self, name: str, now: float, *, known: bool) -> float:
        """Count a wrong password; return the seconds that the name must wait now.

        `known`: a person has this name. Their counts are kept apart, so that nobody can have them
        forgotten by trying many names that do not exist.
        """
        names = self._persons if known else self._strangers
        wrong = names.pop(name, None) or WrongPasswords()
        if now - wrong.last > FORGOTTEN:
            wrong = WrongPasswords()
        wrong.count += 1
        wrong.last = now
        if wrong.count >= FREE:
            # bounded before the power: a count has no limit of its own
            doubled = FIRST_WAIT * 2 ** min(wrong.count - FREE, 10)
            wrong.until = now + min(LONGEST_WAIT, doubled)
        names[name] = wrong
        if len(self._strangers) > self._most_strangers:
            self._strangers.popitem(last=False)
        return self.wait(name, now)

    def clear(self, name: str) -> None:
        """Forget the wrong passwords of a name: the right one was given, or root renewed it."""
        self._persons.pop(name, None)
        self._strangers.pop(name, None)

    def locked(self, now: float) -> dict[str, float]:
        """Return the persons who must wait, with the seconds."""
        waits = {name: self.wait(name, now) for name in self._persons}
        return {name: wait for name, wait in waits.items() if wait}


def address_key(address: str) -> str:
    """Return the address by which attempts are counted: of IPv6 the network of one subscriber."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "?"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return str(ip.ipv4_mapped)
        return str(ipaddress.IPv6Network((ip, 64), strict=False))
    return str(ip)
