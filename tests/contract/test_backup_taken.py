"""Guards rule G5: what was revoked at a gateway stays so at the one that takes its place.
Rule O15.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import closing

import pytest

from agent.api import backup
from agent.app import visited
from agent.control.writer import FILE
from agent.core.errors import NotRecorded
from agent.registry import identity
from agent.trust import trust_list
from agent.trust.jws import parse_jws
from agent.trust.sign import Signer, new_jti
from agent.trust.sign import trust_list as signed_list
from tests.unit.trust.objects import DAY, RIGHT

ROOT, COUNCIL, COMES = (Signer.new(name) for name in ("racine", "conseil syndical", "présidente"))
NOW = int(time.time())


@pytest.fixture
def site(tmp_path):
    for name in ("old", "new"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text(
            f"building: {{name: Test}}\nstate: {folder / 'state'}\nclock: {{source: system}}\n"
            "trust: {threshold: 1}\n"
        )
        (folder / "state").mkdir()
    identity.mint(tmp_path / "old/state")
    return tmp_path


def listing(ver: int, *signers: Signer) -> bytes:
    keys = [
        {"kid": one.kid, "jwk": dict(one.key.jwk), "role": "residents_council", "name": one.name,
         "scope": {}, "nbf": NOW - DAY, "exp": NOW + 300 * DAY}
        for one in signers
    ]  # fmt: skip
    said = {"ver": ver, "iss": "Métropole", "iat": NOW - DAY, "exp": NOW + 300 * DAY,
            "roots": [ROOT.public_jwk()], "threshold": 1, "keys": keys}  # fmt: skip
    return signed_list(json.dumps(said), [ROOT])


def object_(typ: str, by: Signer, **said) -> bytes:
    whole = {**RIGHT[typ][1], "iss": by.name, "jti": new_jti(NOW), "iat": NOW - 60, **said}
    return by.sign(typ, whole)


def test_a_grant_that_comes_again_after_a_restore_is_revoked_still(site):
    who = identity.load(site / "old/state").gateway
    grants = [
        object_("dr-grant+jwt", COUNCIL, aud=who, nbf=NOW - 60, exp=NOW + DAY) for _ in range(2)
    ]
    jti = [parse_jws(raw).claims["jti"] for raw in grants]
    first = object_("dr-revoke+jwt", COUNCIL, ver=1, rev=[{"jti": jti[0]}, {"kid": COMES.kid}])
    later = object_("dr-revoke+jwt", COUNCIL, ver=2, rev=[{"jti": jti[1]}])

    async def lives() -> dict:
        (site / "old/state" / FILE).touch()
        async with visited(site / "old/config.yaml") as house:
            raw = listing(1, COUNCIL)
            house.objects.inbox.renew_trust(raw, trust_list.read(raw).sha256)
            for one in (*grants, first):
                await house.objects.accept(one, "metropole")
            return json.loads(json.dumps(backup._content(house, {})))

    async def goes_on() -> None:
        (site / "new/state" / FILE).touch()
        async with visited(site / "new/config.yaml") as house:
            assert (await house.objects.accept(grants[0], "metropole"))["revoked"]
            assert not (await house.objects.accept(grants[1], "metropole"))["revoked"]
            # what was said again, and what was said since
            for one in (first, later):
                assert (await house.objects.accept(one, "metropole"))["outcome"] == "revoked"
            assert all(one.revoked for one in house.steering.controller.journal.grants.values())
            house.objects.inbox.renew_trust(listing(2, COUNCIL, COMES))
            assert COMES.kid in house.objects.inbox.known().revoked

    content = asyncio.run(lives())
    backup.restore(content, site / "new/state", "me")
    asyncio.run(goes_on())


def test_no_backup_is_taken_without_what_the_trust_store_holds(site):
    async def lives() -> None:
        (site / "old/state" / FILE).touch()
        async with visited(site / "old/config.yaml") as house:
            assert backup._content_hash(house, {}, ("", False))
            store = house.objects.inbox.trust_store
            with closing(store.db), closing(store.shut()):
                with pytest.raises(NotRecorded, match="cannot be read now"):
                    backup._content(house, {})
                with pytest.raises(NotRecorded, match="cannot be read now"):
                    backup._content_hash(house, {}, ("", False))

    asyncio.run(lives())
