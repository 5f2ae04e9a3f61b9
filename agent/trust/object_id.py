"""Ids of objects: an object is identified by its issuer and its `jti`.

Older versions stored objects under `jti` alone, and those keep their id. So the first issuer of a
`jti` has that id here; objects of other issuers with the same `jti` get an id with an issuer part.
"""

from __future__ import annotations

import hashlib

SIGN = "~"
"""never part of a `jti` (agent/trust/claims.py)"""


def of_issuer(number: str, issuer: str) -> str:
    """The id of an object whose `jti` another issuer has used here before."""
    return f"{number}{SIGN}{hashlib.sha256(issuer.encode()).hexdigest()[:12]}"


def number_of(id_: str) -> str:
    """The `jti` from an id."""
    return id_.partition(SIGN)[0]
