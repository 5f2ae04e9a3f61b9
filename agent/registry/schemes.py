"""Systems of aliases, and the form of their values (rule I6)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.registry.problems import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable


class Cardinality(Enum):
    """How many places and values may belong together at any one time."""

    ONE_TO_ONE = "one place has one value"
    PARTS = "one place may have several, such as the lots of a flat and its cellar"
    SHARED = "all places of a building share it: it finds none of them"


@dataclass(frozen=True, slots=True)
class Scheme:
    """One system of aliases."""

    name: str
    title: str
    """its name for people"""
    names: Cardinality
    example: str
    pattern: re.Pattern[str]
    checks: Callable[[str], bool] | None = None


def _malo(value: str) -> bool:
    digits = [int(digit) for digit in value]
    total = sum(digits[0:10:2]) + 2 * sum(digits[1:10:2])
    return digits[10] == -total % 10


def _cups(value: str) -> bool:
    letters = "TRWAGMYFPDXBNJZSQVHLCKE"
    high, low = divmod(int(value[2:18]) % 529, 23)
    return value[18:20] == letters[high] + letters[low]


def _scheme(  # noqa: PLR0913, PLR0917 -- a row of the table below
    name: str,
    title: str,
    names: Cardinality,
    example: str,
    pattern: str,
    checks: Callable[[str], bool] | None = None,
) -> Scheme:
    return Scheme(name, title, names, example, re.compile(pattern), checks)


# Check digits are verified only if their rule is published. The GS1 examples of the operators
# themselves have wrong check digits, so only the form of a GSRN is checked.
SCHEMES = {
    scheme.name: scheme
    for scheme in (
        _scheme("fr.rnb", "RNB", Cardinality.SHARED, "D8T7TQQ4JHMY", r"[1-9A-HJKMNP-TV-Z]{12}"),
        _scheme(
            "fr.ban",
            "BAN",
            Cardinality.SHARED,
            "01093_0041_00131",
            r"[0-9][0-9AB][0-9]{3}_[0-9A-Z]{4}_[0-9]{5}(_[a-z0-9]+)?",
        ),
        _scheme("fr.rnic", "RNIC", Cardinality.SHARED, "AA1234567", r"[A-Z]{2}[0-9]{7}"),
        _scheme(
            "fr.invariant",
            "numéro fiscal",
            Cardinality.ONE_TO_ONE,
            "381850123456",
            r"([0-9]{2}|2A|2B)[0-9]{10}",
        ),
        _scheme("fr.prm", "PRM", Cardinality.ONE_TO_ONE, "19123456789012", r"[0-9]{14}"),
        _scheme(
            "fr.pce", "PCE", Cardinality.ONE_TO_ONE, "21123456789012", r"[0-9]{8,14}|GI[0-9]{6}"
        ),
        _scheme("fr.lot", "lot", Cardinality.PARTS, "34", r"[0-9]{1,6}"),
        _scheme("uk.uprn", "UPRN", Cardinality.ONE_TO_ONE, "100023336956", r"[0-9]{1,12}"),
        _scheme("gs1.gsrn", "GSRN", Cardinality.ONE_TO_ONE, "541400000000000000", r"[0-9]{18}"),
        _scheme("de.malo", "MaLo", Cardinality.ONE_TO_ONE, "41373559241", r"[1-9][0-9]{10}", _malo),
        _scheme(
            "eu.zpb33",
            "Messpunkt",
            Cardinality.ONE_TO_ONE,
            "CH1234567890100000000000000012345",
            r"[A-Z]{2}[0-9]{11}[0-9A-Z]{20}",
        ),
        _scheme(
            "es.cups",
            "CUPS",
            Cardinality.ONE_TO_ONE,
            "ES1234123456789012JY",
            r"ES[0-9]{16}[A-Z]{2}([0-9][FPRCXYZ])?",
            _cups,
        ),
    )
}
VENDOR = re.compile(r"bis:[a-z0-9][a-z0-9.-]{0,30}")
"""the building management system's own key: `bis:desigo`"""
LONGEST_KEY = 200


def scheme(name: str) -> Scheme:
    """A scheme by its name, `fr.prm`, or its title, `PRM`. Raises Refused."""
    plain = name.strip().casefold()
    if plain in SCHEMES:
        return SCHEMES[plain]
    if VENDOR.fullmatch(plain):
        return Scheme(
            plain, plain, Cardinality.PARTS, "bldg/3/12", re.compile(r"[^\x00-\x1f\x7f]+")
        )
    for candidate in SCHEMES.values():
        if plain == candidate.title.casefold():
            return candidate
    known = [*SCHEMES, "bis:<system>"]
    near = did_you_mean(name, known) or f"; there are: {', '.join(known)}"
    raise Refused(f'scheme: there is no "{name}"{near}')


def value_of(scheme: Scheme, written: str) -> str:
    """A value as people write it, in its canonical form. Raises Refused with what is wrong."""
    value = written.strip()
    if not scheme.name.startswith("bis:"):
        value = re.sub(r"[\s.]" if scheme.name == "fr.ban" else r"[\s._-]", "", value)
        # only a BAN key has small letters
        value = value if scheme.name == "fr.ban" else value.upper()
    if scheme.name == "fr.lot":
        # spreadsheets drop leading zeros: 034 and 34 are one lot
        value = value.lstrip("0") or "0"
    if len(value) > LONGEST_KEY or not scheme.pattern.fullmatch(value):
        raise Refused(_wrong(scheme, written, value))
    if scheme.checks and not scheme.checks(value):
        raise Refused(f'{scheme.title}: the check characters of "{written}" do not match')
    return value


def _wrong(scheme: Scheme, written: str, value: str) -> str:
    message = f'{scheme.title}: "{written}" does not look like {scheme.example}'
    zeros = value.replace("O", "0")
    if "O" in value and scheme.pattern.fullmatch(zeros):
        return f"{message}: it has a letter O where a zero belongs"
    if value.isdigit() and (wanted := len(scheme.example)) != len(value):
        return f"{message}: it has {len(value)} characters, not {wanted}"
    return message
