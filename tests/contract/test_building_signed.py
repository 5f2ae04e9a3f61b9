"""A backup says who wrote it: whoever has the recovery certificate could have written one
that nobody signed, and the new gateway would believe what stands in it."""

import asyncio
import base64
import datetime as dt
import gzip
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from agent.api import backup
from agent.api.registry import Caller
from agent.app import visited
from agent.core.errors import Refused
from agent.gateway.gateway import Waits
from agent.registry import identity
from agent.uplink.files.container import Envelope
from hil.ca import CA, DAY, bundle
from tests.command import gardien

ME = Caller("dupont", None)
FLEET, STRANGER = CA("Fleet CA"), CA("Fleet CA")


@pytest.fixture
def site(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    bundle(tmp_path / "safe.pem", key, CA("Safe").issue("recovery", key.public_key()))
    (tmp_path / "c.yaml").write_text(
        f"building: {{name: Test}}\nstate: {tmp_path / 'state'}\nclock: {{source: system}}\n"
        f"backup: {{to: {tmp_path / 'safe.pem'}}}\n"
    )
    (tmp_path / "state").mkdir()
    identity.mint(tmp_path / "state")
    return tmp_path


def written(site):
    """A backup, as a person has it written."""

    async def asked():
        async with visited(site / "c.yaml") as house:
            texts = backup.texts(site / "c.yaml")
            words = {"certificate": (site / "safe.pem").read_text(), "files": texts}
            return await backup.CALLS["backup"](house, ME, **words)

    answer = asyncio.run(asked())
    return answer["gateway"], base64.b64decode(answer["file"])


def opened(site, sealed, by=None):
    return backup.opened(sealed, site / "safe.pem", by)


def test_it_is_signed_by_the_gateways_certificate_and_believed_by_it_or_its_ca(site):
    """Rule K10."""
    gateway, unsigned = written(site)
    assert opened(site, unsigned)[1] is None
    # long over when it is needed, and not meant for files
    long_ago = {"begins": -90 * DAY, "lasts": 80 * DAY, "uses": ()}
    identity_file = FLEET.gateway(gateway, site / "state", **long_ago)
    gateway, sealed = written(site)
    fleet = FLEET.file(site)
    for by in (None, fleet, identity_file):
        found, signer = opened(site, sealed, by)
        assert found["gateway"] == gateway
        assert signer.not_valid_after_utc < dt.datetime.now(dt.UTC)


def test_a_forged_one_is_refused_where_somebody_must_vouch_for_it(site):
    """By anybody who has the recovery certificate, which lies at each gateway. Rule K12."""
    gateway, _ = written(site)
    own = FLEET.gateway(gateway, site / "state")
    _, sealed = written(site)
    fleet, readers = FLEET.file(site), (site / "safe.pem",)
    text = json.dumps(opened(site, sealed)[0]).encode().replace(b"Test", b"Evil")
    packed = gzip.compress(text)
    stranger = STRANGER.gateway(gateway, site / "stranger")
    neighbour = FLEET.gateway("GOTHER", site / "neighbour")
    unsigned = Envelope(own, readers).encrypt(packed)
    with pytest.raises(Refused, match="is not signed"):
        opened(site, unsigned, fleet)
    strange = Envelope(stranger, readers).close(packed)
    with pytest.raises(Refused, match="is not valid"):
        opened(site, strange, fleet)
    with pytest.raises(Refused, match="is not valid"):
        opened(site, strange, own)
    with pytest.raises(Refused, match="GOTHER signed it"):
        opened(site, Envelope(neighbour, readers).close(packed), fleet)
    _, signer = opened(site, strange)
    assert signer.fingerprint(SHA256()) != opened(site, sealed)[1].fingerprint(SHA256())


def test_who_restores_sees_whose_and_of_when_it_is_before_anything_is_made_of_it(site):
    gateway, unsigned = written(site)
    FLEET.gateway(gateway, site / "state")
    _, signed = written(site)
    (site / "unsigned").write_bytes(unsigned)
    (site / "signed").write_bytes(signed)
    found, signer = opened(site, signed)
    new = ("--key", site / "safe.pem", "--state", site / "new", "-c", site / "new.yaml")

    def restored(*words, typed=""):
        done = gardien("restore", *map(str, (*words, *new)), typed=typed)
        return done.exit_code, done.output

    for file, said in (
        ("unsigned", "NOT SIGNED"), ("signed", signer.fingerprint(SHA256()).hex())
    ):  # fmt: skip
        code, told = restored(site / file, typed="n\n")
        assert code == 1
        assert said in told
        assert found["made"][:10] in told
        assert not (site / "new").exists()
    # a CA signs for many gateways: which one is lost must be said
    code, told = restored(site / "signed", "--signed-by", FLEET.file(site), "--yes")
    assert code == 1
    assert not (site / "new").exists()
    lost = found["gateway"]
    words = ("--signed-by", FLEET.file(site), "--gateway", lost)
    code, told = restored(site / "signed", *words)
    assert code == 0, told
    assert "the signature was verified with" in told
    assert (site / "new/registry.json").exists() or (site / "new/keys").exists()


def test_the_one_that_is_kept_is_sealed_anew_once_there_is_a_certificate(site):
    async def scenario():
        async with visited(site / "c.yaml") as house, asyncio.timeout(30):
            house.waits = Waits(backup=0.02)
            job = asyncio.ensure_future(backup.keep(house, site / "c.yaml"))
            while house.building.latest is None:
                await asyncio.sleep(0.02)
            assert opened(site, house.building.content())[1] is None
            FLEET.gateway(house.identity.gateway, site / "state")
            while opened(site, house.building.content())[1] is None:
                await asyncio.sleep(0.1)
            job.cancel()
            await asyncio.wait([job])

    asyncio.run(scenario())
