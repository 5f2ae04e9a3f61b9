"""Guards rule G5: a key is taken from its owner by those who may, whenever they say it.
Rule O14.
"""

from __future__ import annotations

from contextlib import closing

import pytest

from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.sign import Signer
from agent.trust.verify import verify
from tests.unit.inbox.desk import DAY, NOW, ROOTS, SIGNERS, Here, new_jti
from tests.unit.trust.objects import NAMES, claims

NEW = Signer.new("Régie Martin")


@pytest.fixture
def here(tmp_path):
    with closing(Here(tmp_path).believed()) as made:
        yield made


def revoke(here: Here, by: str, kid: str, ver: int = 1):
    signer = ROOTS[0] if by == "root" else SIGNERS[by]
    said = {"iss": NAMES[by], "jti": new_jti(NOW), "iat": NOW, "ver": ver, "rev": [{"kid": kid}]}
    return here.accept(signer.sign("dr-revoke+jwt", said))


def listed(here: Here, ver: int = 2, role: str = "building_manager") -> None:
    """The key of a new manager comes into the list, beside all others."""
    old = here.inbox.trust_store.trust.members
    keys = [(one.key, one.name, one.role) for one in old.values() if one.role != "root"]
    keys = [one for one in keys if one[1] != NEW.name]
    here.inbox.renew_trust(
        here.trust(
            ver=ver,
            keys=[
                {"kid": key.kid, "jwk": dict(key.jwk), "role": role, "name": name, "scope": {},
                 "nbf": NOW - DAY, "exp": NOW + 300 * DAY}
                for key, name, role in [*keys, (NEW.key, NEW.name, role)]
            ],
        )
    )  # fmt: skip


def counts(here: Here) -> bool:
    said = claims("occupancy+jwt", iss=NEW.name)
    try:
        verify(NEW.sign("occupancy+jwt", said), here.inbox.known())
    except Forged as error:
        return error.code is not ObjectCode.KID
    return True


@pytest.mark.parametrize(
    ("by", "hits"),
    [("occupant", False), ("boiler_operator", False), ("grid_operator", False),
     ("building_manager", True), ("root", True)],
)  # fmt: skip
def test_a_key_that_is_revoked_before_it_is_known_is_so_by_who_could_revoke_it_then(
    tmp_path, by, hits
):
    with closing(Here(tmp_path).believed()) as here:
        assert revoke(here, by, NEW.kid)["outcome"] == "revoked"
    with closing(Here(tmp_path)) as here:
        listed(here)
        assert counts(here) is not hits


def test_a_root_key_to_come_is_revoked_by_no_root(here):
    root = Signer.new("racine 4")
    revoke(here, "root", root.kid)
    roots = [root.public_jwk(), *(one.public_jwk() for one in ROOTS)]
    here.inbox.renew_trust(here.trust(ver=2, roots=roots))
    said = {"iss": "racine 4", "jti": new_jti(NOW), "iat": NOW}
    roots[0]["name"] = "racine 4"
    assert here.accept(root.sign("time+jwt", said))["outcome"] == "the clock agrees"


def test_a_key_that_was_revoked_when_it_was_known_stays_so_whoever_it_is_said_to_be_later(here):
    listed(here)
    revoke(here, "building_manager", NEW.kid)
    assert not counts(here)
    listed(here, ver=3, role="registry")
    assert not counts(here)
