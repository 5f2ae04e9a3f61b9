"""Ids that people can read aloud: places, occupancies, gateways (rule I1).

One letter for what it names, 12 random symbols of Crockford's base 32, two check characters of
ISO 7064 MOD 1271-36, which catch every single wrong character and every swap of two neighbours.
"""

from __future__ import annotations

import secrets

from agent.core.errors import Refused
from agent.core.i18n import N_, Text, joined

PLACES = {"D": N_("dwelling"), "C": N_("common"), "B": N_("building")}
OCCUPANCY, GATEWAY = "H", "G"
LENGTH = 15

SYMBOLS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NEVER_MINTED = frozenset("ILOU")
MODULUS, RADIX = 1271, 36

_VALUE = {character: value for value, character in enumerate(ALPHABET)}
_FORGIVEN = str.maketrans({"O": "0", "I": "1", "L": "1", **dict.fromkeys(" -_.\u00a0")})


def check_characters(body: str) -> str:
    """The two check characters for a body of 0-9 and A-Z (ISO 7064 MOD 1271-36)."""
    left = (1 - _remainder(body) * RADIX * RADIX) % MODULUS
    return ALPHABET[left // RADIX] + ALPHABET[left % RADIX]


def agrees(squeezed: str) -> bool:
    """Whether this is a valid id of any kind: its last two characters check the rest."""
    return (
        len(squeezed) == LENGTH
        and all(character in _VALUE for character in squeezed)
        and _remainder(squeezed) == 1
    )


def mint(prefix: str) -> str:
    """A new id of 60 random bits; in practice it is unique."""
    while True:
        # 256 is a multiple of the number of symbols, so all symbols are equally likely
        drawn = secrets.token_bytes(LENGTH - 3)
        body = prefix + "".join(SYMBOLS[byte % len(SYMBOLS)] for byte in drawn)
        check = check_characters(body)
        # ids never have the letters I, L, O and U, which people misread; one draw in five has one
        if not NEVER_MINTED & set(check):
            return body + check


def squeeze(text: str) -> str:
    """An id without differences that do not count: case, spaces, dashes, dots, O for 0, I and L for
    1.
    """
    return text.upper().translate(_FORGIVEN)


def looks_like_id(text: str) -> bool:
    """Whether a text is meant as a place id and not as a label."""
    squeezed = squeeze(text)
    return len(squeezed) == LENGTH and squeezed[0] in PLACES and squeezed.isalnum()


def parse(text: str, prefixes: str = "DCB") -> str:
    """The 15 characters of an id as a person wrote it. Raises Refused with what is wrong."""
    squeezed = squeeze(text)
    if "U" in squeezed:
        raise Refused('"{text}" is not an id: ids have no letter U', text=text)
    if len(squeezed) != LENGTH:
        raise Refused(
            '"{text}" is not an id: it has {squeezed} characters, and an id has {length}',
            text=text,
            squeezed=len(squeezed),
            length=LENGTH,
        )
    if not agrees(squeezed):
        raise Refused(
            '"{text}" is not an id: it has a typing error, for its check characters do not match;'
            " the ids of this building are shown by: gardien place list",
            text=text,
        )
    if squeezed[0] not in prefixes:
        raise Refused(
            '"{text}" is the id of a {noun}, not of a {nouns}',
            text=text,
            noun=_noun(squeezed[0]),
            nouns=_nouns(prefixes),
        )
    return squeezed


def shown(place: str) -> str:
    """An id as people read it, in groups of five."""
    return "-".join(place[start : start + 5] for start in range(0, len(place), 5))


def _remainder(text: str) -> int:
    remainder = 0
    for character in text:
        remainder = (remainder * RADIX + _VALUE[character]) % MODULUS
    return remainder


def _noun(prefix: str) -> str:
    others = {OCCUPANCY: N_("occupancy"), GATEWAY: N_("gateway")}
    known = {**PLACES, **others}.get(prefix)
    return Text(known) if known else Text('unknown object ("{prefix}")', prefix=prefix)


def _nouns(prefixes: str) -> str:
    return joined(Text(" or "), map(_noun, prefixes))
