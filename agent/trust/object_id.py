"""The identity of an object is its issuer and its number (`jti`).

What is kept under a number alone, as older versions do, keeps it: the first issuer to use a number
has it here. Another issuer's object of the same number is kept under the number and its issuer.
"""

from __future__ import annotations

import hashlib

SIGN = "~"
"""stands in no number (agent/trust/claim_types.py)"""


def of_issuer(number: str, issuer: str) -> str:
    """The id of an object whose number another issuer has here."""
    return f"{number}{SIGN}{hashlib.sha256(issuer.encode()).hexdigest()[:12]}"


def number_of(id_: str) -> str:
    """The number that an object's issuer gave it, of the id it has here."""
    return id_.partition(SIGN)[0]
