"""The words that claims are written in: names, numbers, moments, durations. Nothing is forgiven."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
DURATION = re.compile(
    r"P(?:(\d{1,4})D)?(?:T(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,8})S)?)?", re.ASCII
)
UNITS = (86_400, 3600, 60, 1)
LATEST = 253_402_300_799
"""9999-12-31: what can still be shown"""
LARGEST_AT, FINEST_AT = 12, -30
"""powers of ten between which the digits of a number lie"""


def moment(text: str) -> int:
    """Unix seconds of `2026-11-24T18:00:00Z`. Raises ValueError."""
    if not MOMENT.fullmatch(text):
        raise ValueError("expected a moment in UTC such as 2026-11-24T18:00:00Z")
    return int(datetime.fromisoformat(text).timestamp())


def seconds(text: str) -> int:
    """Seconds of an ISO 8601 duration such as `PT30M` or `P1D`. Raises ValueError."""
    match = DURATION.fullmatch(text)
    if not match or text.endswith(("P", "T")):
        raise ValueError("expected a duration such as PT30M, PT1H30M or P1D")
    return sum(int(part or 0) * unit for part, unit in zip(match.groups(), UNITS, strict=True))


def _a_moment(text: str) -> str:
    moment(text)
    return text


def _a_duration(text: str) -> str:
    seconds(text)
    return text


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("expected words on one line")
    return text


def _ordinary(value: int | Decimal) -> int | Decimal:
    """No larger and no finer than anything that is measured or set: 1e9999999 costs memory."""
    size = value.adjusted() if isinstance(value, Decimal) else len(str(abs(value))) - 1
    finest = value.as_tuple().exponent if isinstance(value, Decimal) else 0
    if not isinstance(finest, int) or size >= LARGEST_AT or finest < FINEST_AT:
        raise ValueError("expected a number below 10^12, of 30 digits behind the point at most")
    return value


Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
"""of an owner of a key, as the trust list calls it"""
Text = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_printable)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")]
Jti = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{7,63}$")]
"""what makes an object this one: a UUIDv7, or any 8 to 64 characters never used before"""
Kid = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seconds = Annotated[int, Field(ge=0, le=LATEST)]
"""since 1970 UTC"""
Moment = Annotated[str, AfterValidator(_a_moment)]
Duration = Annotated[str, AfterValidator(_a_duration)]
Day = Annotated[str, Field(pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")]
"""of every year: `06-30`"""
Number = Annotated[int | Decimal, AfterValidator(_ordinary)]
Place = Annotated[str, Field(pattern=r"^[DCB][0-9A-Z]{14}$")]
Building = Annotated[str, Field(pattern=r"^B[0-9A-Z]{14}$")]
Occupancy = Annotated[str, Field(pattern=r"^H[0-9A-Z]{14}$")]
Recipient = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]


EXAMPLES = {
    **dict.fromkeys(("iat", "nbf", "exp", "given_at", "withdrawn_at", "at"),
                    "Unix seconds, a whole number such as 1795000000"),
    **dict.fromkeys(("from", "to", "start"), "text in UTC such as 2026-11-24T18:00:00Z"),
    **dict.fromkeys(("dur", "rand", "max_dur", "min_gap", "max_time_day", "notice", "step"),
                    "a duration such as PT30M"),
    **dict.fromkeys(("val", "min", "max"), "a number such as -1.5, not text"),
    "billing": "a list of days, each month and day such as 06-30",
    "date": "a day such as 2026-05-12",
    "sha256": "64 digits of 0-9 a-f",
    "jti": "8 to 64 of A-Z a-z 0-9 . _ - that begin with a letter or digit",
    "kid": "the 43 characters of a key's thumbprint",
    "place": "an id such as D84G7ZWYRD6Z1GQ, without dashes",
    **dict.fromkeys(("occ", "sub"), "an id such as H84G7ZWYRD6Z11W, without dashes"),
    "recipient": "a DNS name in lower case",
    "recipients": "a list of one DNS name in lower case",
}  # fmt: skip
"""what a claim must be, by its name"""
WHOLE = "a whole number"
"""what `from` and `to` of a request must be, and are not a time there"""
OF_WRONG_TYPE = ("_type", "_parsing", "pattern_mismatch", "_equal", "_from_float")
"""how the kinds of error end where a value is not of its claim's form"""


def _needed(name: str, kind: str) -> str | None:
    """What a claim of this name must be, where an error of this kind says so."""
    if name in {"from", "to"} and not kind.startswith(("string", "value_error")):
        return WHOLE
    if name == "sub" and kind != "string_pattern_mismatch":
        return None  # of a grant it is the name of a key
    return EXAMPLES.get(name)


def fault_of(error: ValidationError) -> str:
    """What is wrong with the first claim that does not fit its model, and what it must be."""
    first = error.errors(include_url=False, include_input=False)[0]
    names = [part for part in first["loc"] if isinstance(part, str)]
    while names and names[-1] not in EXAMPLES and not EXAMPLES.keys().isdisjoint(names):
        names.pop()  # which of several types was tried
    where = f"`{'.'.join(names)[:80]}`" if names else ""
    kind, needed = first["type"], _needed(names[-1] if names else "", first["type"])
    if names and kind == "extra_forbidden":
        return f"{where} is no claim of it: remove it"
    if names and kind == "missing":
        return f"the claim {where} is missing" + (f": {needed}" if needed else "")
    if needed and kind.endswith(OF_WRONG_TYPE):
        late = " (this looks like milliseconds)" if kind == "less_than_equal" else ""
        return f"{where} must be {needed}{late}"
    return f"{where}: {first['msg']}" if where else str(first["msg"])


class ClaimsModel(BaseModel):
    """A mapping in the claims; a word it does not know is an error: it might be a limit."""

    # built when the first of a kind comes: most gateways see few kinds, and memory is short
    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", populate_by_name=False, defer_build=True
    )
