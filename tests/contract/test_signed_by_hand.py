"""A small site from its first key to a consent that counts, by the commands that people type."""

import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from agent.registry import place as ids
from agent.registry.place import mint
from agent.trust.jws import parse_jws
from tests.command import gardien

RECIPIENT = "energie.metropole.example"


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUDO_USER", raising=False)
    (tmp_path / "c.yaml").write_text(
        f"building: {{name: Test}}\nstate: {tmp_path / 'state'}\nclock: {{source: system}}\n"
    )
    return tmp_path


def run(*words, refused=None):
    found = gardien(*words)
    if refused is not None:
        said = f"{found.exception} {found.output}"
        assert refused in said, said
        assert found.exit_code
        return said
    if found.exception is not None:
        raise AssertionError(f"{words}: {found.exception} {found.output}")
    return found.stdout


def since():
    """Yesterday: somebody lives there since then."""
    return f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"


def here(*words, **how):
    return run(*words, "-c", "c.yaml", **how)


def keys():
    for name in ("racine 1", "racine 2", "Dupont", RECIPIENT):
        run("sign", "key", name)


def trust(*more):
    run("sign", "trust-list", "--root", "racine-1.key", "--other-root", "racine-2.pub",
        "--member", "building_manager=Dupont.pub", "-o", "t.jws", *more)  # fmt: skip


def test_a_place_map_that_is_brought_by_hand_is_shown_before_it_is_taken(site):
    keys()
    here("key", "new")
    trust()
    run("sign", "co-sign", "t.jws", "--root", "racine-2.key", "-o", "t.jws")
    said = here("trust", "accept", "t.jws", "--as", "me", refused="a person must compare")
    here(
        "trust", "accept", "t.jws", "--as", "me", "--sha256", said.split("--sha256 ")[1].split()[0]
    )
    here("place", "new", "A-1", "--type", "dwelling", "--since", since(), "--as", "me")
    place = json.loads(here("place", "check", "A-1", "--json"))["id"]
    new = mint("D")
    heading = "place_id;type;parent;label;scheme;value;valid_from;valid_to"
    (site / "m.csv").write_text(f"{heading}\n{new};D;;B-1;fr.lot;7;;\n{place};D;;A-1;;;;\n")
    run("sign", "place-map", "-k", "Dupont.key", "--ver", "1", "m.csv", "-o", "m.jws")
    said = here("object", "accept", "--preview", "m.jws")
    assert "1 place and 1 name would be recorded; nothing was changed" in said
    assert "B-1" in said
    assert "B-1" not in here("place", "list")
    run("sign", "time", "-k", "Dupont.key", "-o", "time.jwt")
    here("object", "accept", "--preview", "time.jwt", refused="would not be accepted")
    here("object", "accept", "m.jws", "--as", "me")
    assert "accepted before: nothing would change" in here("object", "accept", "--preview", "m.jws")
    assert "B-1" in here("place", "list")


def _agree_again_and_refuse(give):
    run(*give, "-o", "unknowing.jwt")
    said = here("object", "accept", "unknowing.jwt", "--as", "me", refused="E_AFTER")
    (mark,) = json.loads(here("consent", "marks", "A-3-12", "--json"))["marks"]
    assert mark["mark"] in said
    run(*give, "--after", mark["mark"], "-o", "knowing.jwt")
    here("object", "accept", "knowing.jwt", "--as", "me")
    run(*give, "--refuse", "-o", "no.jwt")
    here("object", "accept", "no.jwt", "--as", "me")
    assert "refused" in here("consent", "marks", "A-3-12")
    consents = json.loads(here("consent", "list", "--json"))["consents"]
    assert [one["in_force"] for one in consents] == [False, False]


def _restored_everybody_is_asked_again(moved):
    said = run("object", "accept", "given.jwt", "back.jwt", "--as", "me", *moved,
               refused="(E_REVOKED)")  # fmt: skip
    assert "back.jwt: consent+jwt: recorded before" in said
    marks = json.loads(run("consent", "marks", "A-3-12", "--json", *moved))["marks"]
    assert "restored" in [one["cause"] for one in marks]
    run("object", "accept", "unknowing.jwt", "--as", "me", *moved, refused="E_AFTER")


def test_a_small_site_from_its_first_key_to_a_consent_that_counts(site):
    keys()
    run("sign", "key", "Dupont", refused="exists already")
    assert (site / "Dupont.key").stat().st_mode & 0o077 == 0
    here("key", "new")
    trust()
    here("trust", "accept", "t.jws", "--as", "me", refused="1 of its own roots have signed it; 2")
    run("sign", "co-sign", "t.jws", "--root", "racine-2.key", "-o", "t.jws")
    said = here("trust", "accept", "t.jws", "--as", "me", refused="a person must compare")
    sha256 = said.split("--sha256 ")[1].split()[0]
    here(
        "trust",
        "accept",
        "t.jws",
        "--sha256",
        "0" * 64,
        "--as",
        "me",
        refused="not the list that was compared",
    )
    here("trust", "accept", "t.jws", "--as", "me", "--sha256", sha256)
    shown = json.loads(here("trust", "show", "--json"))
    assert shown["version"] == 1

    here("place", "new", "A-3-12", "--type", "dwelling", "--since", since(), "--as", "me")
    (home,) = json.loads(here("occupancy", "list", "--json"))["occupancies"]
    place = json.loads(here("place", "check", "A-3-12", "--json"))["id"]
    give = ["sign", "consent", "-k", "Dupont.key", "--place", place, "--recipient", RECIPIENT,
            "--channel", "heat", "--purpose", "suivi"]  # fmt: skip
    run(*give, "--occ", home["id"], "-o", "given.jwt")
    run(*give, "--occ", mint("H"), "-o", "early.jwt")
    run(*give, "--occ", "nobody", refused="is not an id")
    said = here("object", "accept", "given.jwt", "early.jwt", "--as", "me", refused="waits")
    assert "early.jwt: consent+jwt: not accepted yet: it waits: occupancy" in said
    assert "; then: consent recorded" in here("object", "accept", "given.jwt", "--as", "me")
    assert "early" not in here("object", "list")
    (waiting,) = json.loads(here("object", "list", "--json"))["waiting"]
    assert "is not recorded yet" in waiting["why"]
    (consent,) = json.loads(here("consent", "list", "--json"))["consents"]

    run("sign", "consent", "-k", "Dupont.key", "--place", place, "--occ", home["id"],
        "--withdraw", consent["id"], "-o", "back.jwt")  # fmt: skip
    here("object", "accept", "back.jwt", "--as", "me")
    (consent,) = json.loads(here("consent", "list", "--json"))["consents"]
    assert not consent["in_force"]
    here("object", "accept", "given.jwt", "--as", "me", refused="(E_REVOKED)")
    (consent,) = json.loads(here("consent", "list", "--json"))["consents"]
    assert not consent["in_force"]
    _agree_again_and_refuse([*give, "--occ", home["id"]])

    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", "safe.key", "-out", "safe.crt", "-subj", "/CN=recovery"],
        check=True, capture_output=True,
    )  # fmt: skip
    here("backup", "b", "--to", "safe.crt")
    moved = ("--state", site / "new", "-c", "c.yaml")
    _restored_by_name(moved)
    (still,) = json.loads(run("object", "list", "--json", *moved))["waiting"]
    assert still["jti"] == waiting["jti"], "what waits was told this building, too"
    _restored_everybody_is_asked_again(moved)

    verdict = json.loads(here("audit", "verify", "--json"))
    assert verdict["first"] == 1
    here("audit", "verify", "--hash", verdict["hash"])
    here("audit", "verify", "--hash", "0" * 64, refused="no record here")
    (chain,) = (site / "state" / "audit").iterdir()
    chain.write_bytes(chain.read_bytes().replace(b"consent+jwt", b"consemt+jwt", 1))
    run("audit", "verify", chain, refused="does not follow")


def _restored_by_name(moved):
    """Rule I31: --yes does not say which gateway is meant."""
    backup = ("restore", "b", "--key", "safe.key", "--yes")
    said = run(*backup, *moved, refused="nobody has said that this one is meant")
    own = said.split("--gateway ")[1].split()[0]
    run(*backup, "--gateway", mint("G"), *moved, refused="not of G")
    run(*backup, "--gateway", "A-3-12", *moved, refused="is not an id")
    run(*backup, "--gateway", own, *moved)


def test_a_person_types_when_a_consent_was_signed(site):
    here("key", "new")
    here("place", "new", "A-3-12", "--since", since(), "--as", "me")
    (home,) = json.loads(here("occupancy", "list", "--json"))["occupancies"]
    earlier = f"{datetime.now(UTC) - timedelta(days=400):%Y-%m-%dT12:00:00Z}"
    give = ["consent", "give", "A-3-12", "--recipient", RECIPIENT, "--channel", "heat",
            "--purpose", "suivi", "--as", "me"]  # fmt: skip
    here(*give, "--given", "2062-11-27", refused="given: 2062-11-27 is in the future")
    here(*give, "--given", earlier, refused=f"(--lease {home['shown']})")
    here(*give, "--given", earlier, "--lease", home["shown"])
    (consent,) = json.loads(here("consent", "list", "--json"))["consents"]
    assert consent["given"] == earlier

    run("sign", "key", "Dupont")
    run("sign", "consent", "-k", "Dupont.key", "--place", home["place"], "--occ", home["id"],
        "--recipient", RECIPIENT, "--channel", "heat", "--purpose", "suivi",
        "--given", "2026-07-12T00:00:00Z", "-o", "given.jwt")  # fmt: skip
    assert parse_jws((site / "given.jwt").read_bytes()).claims["given_at"] == 1_783_814_400


@pytest.mark.usefixtures("site")
def test_a_list_that_is_not_accepted_is_not_called_accepted():
    keys()
    here("key", "new")
    trust("--root", "racine-2.key")
    said = here(
        "trust",
        "accept",
        "t.jws",
        "--as",
        "me",
        refused="t.jws: not accepted: for the first trust list",
    )
    sha256 = said.split("--sha256 ")[1].split()[0]
    wrong = ("trust", "accept", "t.jws", "--sha256", "0" * 64, "--as", "me")
    here(*wrong, refused="t.jws: not accepted: the file is not the list that was compared")
    here(*wrong, "--json", refused='"accepted": false')
    said = here("trust", "accept", "t.jws", "--as", "me", "--sha256", sha256)
    assert said.endswith("\naccepted: version 1 is in force\n")
    said = here("trust", "accept", "t.jws", "--as", "me")
    assert said.endswith("\nversion 1 is in force already; nothing was changed\n")
    here(*wrong, refused="not the list that was compared")
    said = here("object", "accept", "Dupont.pub", "t.jws", "--as", "me", refused="E_FORM")
    assert "Dupont.pub: not accepted: it is JSON without a signature (E_FORM)" in said
    assert "Nothing was changed. Sign it first, an order for example with: gardien sign" in said
    assert "t.jws: trust-list+jws: arrived before, nothing was changed" in said
    here("object", "accept", "Dupont.pub", "--json", "--as", "me", refused='"accepted": false')


def test_a_next_list_follows_by_its_roots_and_what_is_left_out_counts_no_more(site):
    keys()
    here("key", "new")
    trust("--root", "racine-2.key")
    said = here("trust", "accept", "t.jws", "--as", "me", refused="a person must compare")
    here(
        "trust", "accept", "t.jws", "--as", "me", "--sha256", said.split("--sha256 ")[1].split()[0]
    )
    kid = json.loads((site / "Dupont.pub").read_text())["kid"]
    run("sign", "trust-list", "--from", "t.jws", "--without", kid, "--root", "racine-1.key",
        "--root", "racine-2.key", "--member", f"grid_operator={RECIPIENT.replace('.', '-')}.pub",
        "-o", "t2.jws")  # fmt: skip
    here("object", "accept", "t2.jws", "--as", "me")
    roles = {one["role"] for one in json.loads(here("trust", "show", "--json"))["list"]["members"]}
    assert roles == {"root", "grid_operator"}
    here("object", "accept", "t.jws", "--as", "me", refused="E_VERSION")


def test_what_a_key_has_granted_outlives_its_place_in_the_list_and_not_its_revocation(site):
    """Rule O13."""
    keys()
    run("sign", "key", "Martin")
    here("key", "new")
    (site / "state/control.sqlite").touch()
    trust("--root", "racine-2.key")
    said = here("trust", "accept", "t.jws", "--as", "me", refused="a person must compare")
    here(
        "trust", "accept", "t.jws", "--as", "me", "--sha256", said.split("--sha256 ")[1].split()[0]
    )
    assert "no grant has arrived yet" in here("control", "grants")
    gateway = here("trust", "show").split("audience (aud) for orders: ")[1].split(".")[0]
    run("sign", "grant", "-k", "Dupont.key", "--to", RECIPIENT, "--role", "building_manager",
        "--aud", gateway, "--asset", "kind:heating", "--act", "offset", "--min", "-2", "--max", "1",
        "--unit", "K", "--evidence", "contract", "--ref", "mandat 7", "--date", "2026-05-12",
        "--document", "Dupont.pub", "-o", "g.jwt")  # fmt: skip
    here("object", "accept", "g.jwt", "--as", "me")
    shown = here("control", "grants")
    assert "Dupont (building manager): valid until" in shown
    assert f"{RECIPIENT} may offset kind:heating, -2 to 1 K" in shown
    assert "authorized by the contract mandat 7 of 2026-05-12" in shown
    assert "no more" not in shown

    exact = here("trust", "show").split("audience (aud) for orders: ")[1].split("\n")[0]
    run("sign", "command", "-k", "Dupont.key", "--aud", exact, "--target", "pump", "--act",
        "offset", "--value", "-1", "--unit", "K", "--dur", "PT1H", "-o", "order.jwt")  # fmt: skip
    for before in ("", "arrived before, nothing was changed; then: "):
        said = here("object", "accept", "order.jwt", "--as", "me", refused="E_ASSET")
        outcome = f"{before}not accepted by 1 of 1 control, so nothing was written there\n"
        assert f"order.jwt: dr-command+jwt: {outcome}" in said
        assert "there is no control pump here (E_ASSET). No control is configured" in said

    kid = json.loads((site / "Dupont.pub").read_text())["kid"]
    run("sign", "trust-list", "--from", "t.jws", "--without", kid, "--root", "racine-1.key",
        "--root", "racine-2.key", "--member", "building_manager=Martin.pub",
        "-o", "t2.jws")  # fmt: skip
    left = "a key of Dupont (building manager) is not in the list, but its one grant stays valid"
    assert left in here("trust", "accept", "t2.jws", "--as", "me")
    assert left in here("trust", "show")
    assert "the grant is valid until it is revoked" in here("control", "grants")

    run(
        "sign",
        "revoke",
        "-k",
        "Martin.key",
        "--ver",
        "1",
        "--grant",
        "0192-mistyped",
        "-o",
        "x.jwt",
    )
    assert "this gateway has no grant 0192-mistyped" in here(
        "object", "accept", "x.jwt", "--as", "me"
    )
    run("sign", "revoke", "-k", "Martin.key", "--ver", "2", "--kid", kid, "-o", "r.jwt")
    here("object", "accept", "r.jwt", "--as", "me")
    assert "Dupont (building manager): revoked" in here("control", "grants")
    assert left not in here("trust", "show")
    (one,) = json.loads(here("control", "grants", "--json"))
    assert (one["stands"], one["why"], one["listed"]) == (False, "revoked", False)


@pytest.mark.usefixtures("site")
def test_a_member_is_confined_as_said_and_a_move_is_for_the_address_shown():
    keys()
    here("key", "new")
    trust("--root", "racine-2.key", "--member",
          f"registry={RECIPIENT.replace('.', '-')}.pub;kinds=time+jwt,uplink-move+jws")  # fmt: skip
    said = here("trust", "accept", "t.jws", "--as", "me", refused="a person must compare")
    here(
        "trust", "accept", "t.jws", "--as", "me", "--sha256", said.split("--sha256 ")[1].split()[0]
    )
    shown = json.loads(here("trust", "show", "--json"))
    (member,) = [one for one in shown["list"]["members"] if one["role"] == "registry"]
    assert member["scope"]["kinds"] == ["time+jwt", "uplink-move+jws"]
    by = ("-k", f"{RECIPIENT.replace('.', '-')}.key")
    ask = ("--aud", shown["audience"], "--recipient", RECIPIENT)
    run("sign", "request", *by, *ask, "directory", "-o", "r.jwt")
    here("object", "accept", "r.jwt", "--as", "me", refused="is not for request+jwt")
    run("sign", "uplink-move", *by, *ask, "mqtts://new.example", "-o", "m.jwt")
    here("object", "accept", "m.jwt", "--as", "me", refused="E_TYP")  # no daemon moves anything
    run("sign", "trust-list", "--root", "racine-1.key", "--member", "registry=Dupont.pub;king=x",
        refused="buildings=…, assets=… or kinds=…")  # fmt: skip


def test_what_cannot_be_read_or_is_not_whole_is_said_in_words(site):
    keys()
    (site / "x").write_bytes(b"\xff\xfe")
    here("key", "new")
    here("object", "accept", "x", "nowhere", "--as", "me", refused="is not text")
    run("sign", "consent", "-k", "x", "--place", mint("D"), "--occ", mint("H"), refused="not a key")
    order = ("sign", "command", "-k", "Dupont.key", "--act", "fly", "--target", "x", "--dur", "2h")
    state = "0" * 32
    run(*order, "--aud", f"{mint('G')}.{state}", refused="cmd.act")
    for audience, fault in (
        (ids.shown(mint("D")), "is the id of a place"),
        (ids.shown(mint("G")), "lacks the id of the gateway's state"),
        (f"{mint('B')}.{state}", "is the id of a building, not of a gateway"),
        ("A-3-12", "is not an id"),
    ):
        assert fault in run(*order, "--aud", audience, refused="gardien trust show")
    run("sign", "trust-list", "--root", "racine-1.key", "--member", "king=Dupont.pub",
        refused="ROLE=FILE.pub")  # fmt: skip
