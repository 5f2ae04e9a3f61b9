"""A building's people with their keys, and one right object of each kind, to be forged from."""

from __future__ import annotations

from typing import Any

from agent.core.clock import ClockTrust
from agent.trust.sign import Signer, new_jti
from agent.trust.verify import Audience, Member, Scope, VerificationContext, Verified, verify

NOW = 1_795_000_000
US = Audience("G84G7ZWYRD6Z1GQ", "5f1c9e0a", "B6ASQZ1Y2KSAA3Y")
DWELLING, HOME = "D84G7ZWYRD6Z1GQ", "H84G7ZWYRD6Z1GQ"
DAY = 86_400

NAMES = {
    "grid_operator": "energie.metropole.example",
    "building_manager": "Régie Dupont",
    "boiler_operator": "Chaleur & Fils",
    "residents_council": "conseil syndical",
    "occupant": "A-3-12",
    "consent_collector": "accueil",
    "registry": "registre.metropole.example",
    "updater": "mises à jour",
    "root": "racine 1",
}


def signer(name: str) -> Signer:
    """Somebody with a key, whose kid could also be the number of an object (it begins so)."""
    return next(one for one in iter(lambda: Signer.new(name), None) if one.kid[0].isalnum())


SIGNERS = {role: signer(name) for role, name in NAMES.items()}
MEMBERS = {s.kid: Member(s.key, s.name, role) for role, s in SIGNERS.items()}

EVIDENCE = {"kind": "vote", "ref": "AG, résolution 14", "date": "2026-05-12", "sha256": "0" * 64}
RIGHT: dict[str, tuple[str, dict[str, Any]]] = {
    "dr-command+jwt": (
        "grid_operator",
        {
            "aud": US.exact,
            "exp": NOW + 3600,
            "seq": 1,
            "cmd": {
                "act": "offset",
                "tgt": ["boiler-offset"],
                "val": -1.5,
                "unit": "K",
                "start": "2026-11-18T18:00:00Z",
                "dur": "PT1H30M",
            },
        },
    ),
    "dr-grant+jwt": (
        "residents_council",
        {
            "sub": NAMES["grid_operator"],
            "aud": US.building,
            "nbf": NOW,
            "exp": NOW + 300 * DAY,
            "role": "residents_council",
            "scope": {"assets": ["kind:heating"], "acts": ["offset"]},
            "lim": {"min": -2, "max": 1, "unit": "K", "max_dur": "PT2H"},
            "evid": EVIDENCE,
        },
    ),
    "dr-revoke+jwt": ("residents_council", {"ver": 1, "rev": [{"jti": "0192-old-grant"}]}),
    "consent+jwt": (
        "consent_collector",
        {
            "sub": HOME,
            "place": DWELLING,
            "status": "given",
            "recipients": [NAMES["grid_operator"]],
            "purpose": "suivi de la consommation",
            "data": {"channels": ["heat"], "step": "PT30M"},
            "nbf": NOW - DAY,
            "exp": NOW + 300 * DAY,
            "given_at": NOW - DAY,
        },
    ),
    "occupancy+jwt": (
        "building_manager",
        {"place": DWELLING, "occ": HOME, "event": "move_in", "from": "2026-11-01T00:00:00Z"},
    ),
    "duty+jwt": (
        "building_manager",
        {"recipient": "regie.example", "channels": ["heat"], "reference": "décret 2020-886"},
    ),
    "place-map+jws": ("building_manager", {"ver": 1, "csv": "place_id;type\n"}),
    "time+jwt": ("registry", {}),
    "request+jwt": (
        "registry",
        {"aud": US.exact, "exp": NOW + 60, "act": "directory", "recipient": "metropole.example"},
    ),
    "uplink-move+jws": (
        "registry",
        {"aud": US.exact, "exp": NOW + 60, "recipient": "metropole.example", "url": "mqtts://a:1"},
    ),
}


def claims(typ: str, **changed: Any) -> dict[str, Any]:
    """The claims of a right object with some changed; `...` takes one away."""
    role, said = RIGHT[typ]
    whole = {"iss": NAMES[role], "jti": new_jti(NOW), "iat": NOW, **said, **changed}
    return {name: value for name, value in whole.items() if value is not ...}


def signed(typ: str, by: str | None = None, **changed: Any) -> bytes:
    """A right object with some claims changed, rightly signed."""
    return SIGNERS[by or RIGHT[typ][0]].sign(typ, claims(typ, **changed))


def known(**changed: Any) -> VerificationContext:
    """What the gateway knows."""
    words: dict[str, Any] = {
        "members": MEMBERS, "audience": US, "now": NOW, "clock": ClockTrust.TRUSTED, **changed
    }  # fmt: skip
    return VerificationContext(**words)


def scoped(role: str, **scope: Any) -> dict[str, Member]:
    """The members, with one key confined."""
    signer = SIGNERS[role]
    return {**MEMBERS, signer.kid: Member(signer.key, signer.name, role, Scope(**scope))}


def checked(raw: bytes, **changed: Any) -> Verified:
    """What `verify` makes of it."""
    return verify(raw, known(**changed))
