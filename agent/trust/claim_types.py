"""The types of claims: names, numbers, times, durations. All are validated strictly."""

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
"""9999-12-31: the last time that can be shown"""
LARGEST_AT, FINEST_AT = 12, -30
"""powers of ten that limit the digits of a number"""


def moment(text: str) -> int:
    """Unix seconds of `2026-11-24T18:00:00Z`. Raises ValueError."""
    # fromisoformat also takes other forms, which another reader may understand differently
    if not MOMENT.fullmatch(text):
        raise ValueError("expected a time in UTC such as 2026-11-24T18:00:00Z")
    return int(datetime.fromisoformat(text).timestamp())


def seconds(text: str) -> int:
    """Seconds of an ISO 8601 duration such as `PT30M` or `P1D`. Raises ValueError."""
    match = DURATION.fullmatch(text)
    # all parts of the pattern are optional, so `P` and `PT` would mean 0 s
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
        raise ValueError("expected text on one line")
    return text


def _ordinary(value: int | Decimal) -> int | Decimal:
    """Limit size and digits of a number: arithmetic with 1e9999999 would exhaust the memory."""
    size = value.adjusted() if isinstance(value, Decimal) else len(str(abs(value))) - 1
    finest = value.as_tuple().exponent if isinstance(value, Decimal) else 0
    if not isinstance(finest, int) or size >= LARGEST_AT or finest < FINEST_AT:
        raise ValueError("expected a number below 10^12 with at most 30 digits behind the point")
    return value


Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
"""name of a key owner, as in the trust list"""
Text = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_printable)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")]
Jti = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{7,63}$")]
"""id of an object: a UUIDv7, or any 8 to 64 characters never used before"""
Kid = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seconds = Annotated[int, Field(ge=0, le=LATEST)]
"""since 1970 UTC"""
Moment = Annotated[str, AfterValidator(_a_moment)]
Duration = Annotated[str, AfterValidator(_a_duration)]
Day = Annotated[str, Field(pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")]
"""month and day: `06-30`"""
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
"""the expected form of a claim, by its name"""
WHOLE = "a whole number"
"""expected form of `from` and `to` in a request, where they are not times"""
OF_WRONG_TYPE = ("_type", "_parsing", "pattern_mismatch", "_equal", "_from_float")
"""endings of pydantic's error types for a value of the wrong form"""


def _needed(name: str, kind: str) -> str | None:
    """The expected form of a claim, if it fits this kind of error."""
    if name in {"from", "to"} and not kind.startswith(("string", "value_error")):
        return WHOLE
    if name == "sub" and kind != "string_pattern_mismatch":
        return None  # in a grant `sub` is the name of a key
    return EXAMPLES.get(name)


def fault_of(error: ValidationError) -> str:
    """What is wrong with the first invalid claim, and which form it must have."""
    first = error.errors(include_url=False, include_input=False)[0]
    names = [part for part in first["loc"] if isinstance(part, str)]
    while names and names[-1] not in EXAMPLES and not EXAMPLES.keys().isdisjoint(names):
        names.pop()  # pydantic's name of the union member that it tried
    where = f"`{'.'.join(names)[:80]}`" if names else ""
    kind, needed = first["type"], _needed(names[-1] if names else "", first["type"])
    if names and kind == "extra_forbidden":
        return f"{where} is not a claim of this type: remove it"
    if names and kind == "missing":
        return f"the claim {where} is missing" + (f": {needed}" if needed else "")
    if needed and kind.endswith(OF_WRONG_TYPE):
        late = " (this looks like milliseconds)" if kind == "less_than_equal" else ""
        return f"{where} must be {needed}{late}"
    return f"{where}: {first['msg']}" if where else str(first["msg"])


class ClaimsModel(BaseModel):
    """A mapping in the claims. An unknown member is an error, since it might be a limit."""

    # built at first use: most gateways see few types, and memory is short
    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", populate_by_name=False, defer_build=True
    )
