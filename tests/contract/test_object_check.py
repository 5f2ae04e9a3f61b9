"""`gardien object check` judges signed objects as a gateway does, and needs none."""

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli import app
from agent.core.clock import seconds
from agent.trust.sign import Signer, trust_list

NOW = int(seconds())
HOME, PLACE = "H84G7ZWYRD6Z11W", "D84G7ZWYRD6Z1GQ"
ROOT, MANAGER, OTHER = Signer.new("racine"), Signer.new("Régie Dupont"), Signer.new("Autre")
AUD = "G84G7ZWYRD6Z1GQ.5f1c9e0a"
EVIDENCE = {"kind": "vote", "ref": "AG", "date": "2026-05-12", "sha256": "0" * 64}
GIVEN = {
    "sub": HOME, "place": PLACE, "status": "given", "recipients": ["r.example"], "purpose": "suivi",
    "data": {"channels": ["heat"], "step": "PT30M"}, "nbf": NOW - 9, "exp": NOW + 9_999,
    "given_at": NOW - 9,
}  # fmt: skip
MOVE = {"place": PLACE, "occ": HOME}
ORDER = {"aud": AUD, "exp": NOW + 3_000, "seq": 1}
CMD = {"act": "offset", "tgt": ["boiler-offset"], "val": -1.5, "unit": "K", "dur": "PT1H30M"}
ASK = {"aud": AUD, "exp": NOW + 3_000, "recipient": "r.example"}
LINES = "place_id;type;parent;label;scheme;value;valid_from;valid_to\n"
EFFECTS = [
    ("consent+jwt", GIVEN, "r.example may get heat of the occupants H84G7ZWYRD6Z11W"),
    ("consent+jwt", {"sub": HOME, "place": PLACE, "status": "refused", "recipients": ["r.example"],
                     "purpose": "suivi"}, "refuse r.example for suivi"),
    ("consent+jwt", {"sub": HOME, "place": PLACE, "status": "withdrawn", "prev": "0199f0c2-c",
                     "withdrawn_at": NOW}, "withdraw the consent 0199f0c2-c"),
    ("occupancy+jwt", MOVE | {"event": "move_in"}, "move into D84G7ZWYRD6Z1GQ on"),
    ("occupancy+jwt", MOVE | {"event": "move_out"}, "move out of D84G7ZWYRD6Z1GQ on arrival"),
    ("occupancy+jwt", MOVE | {"event": "correct", "to": None}, "from as recorded to open"),
    ("duty+jwt", {"recipient": "r.example", "channels": ["heat"], "reference": "décret"},
     "gets indexes of heat of all dwellings, as décret requires"),
    ("duty+jwt", {"recipient": "r.example", "channels": ["heat"], "reference": "décret",
                  "status": "ended"}, "the duty décret to r.example ends"),
    ("place-map+jws", {"ver": 1, "csv": f"{LINES}{PLACE};dwelling;;A-1;fr.lot;7;;\n"},
     "1 places and 1 names are recorded"),
    ("dr-grant+jwt", {"sub": "r.example", "aud": "B6ASQZ1Y2KSAA3Y", "exp": NOW + 9_999,
                      "role": "building_manager", "evid": EVIDENCE, "lim": {"min": -2, "unit": "K"},
                      "scope": {"assets": ["kind:heating"], "acts": ["offset"]}},
     "r.example may offset kind:heating at B6ASQZ1Y2KSAA3Y"),
    ("dr-command+jwt", ORDER | {"cmd": CMD}, "offset -1.5 K at boiler-offset, from the arrival of"),
    ("dr-command+jwt", ORDER | {"cmd": {"act": "cancel", "tgt": ["x"], "ref": "0199f0c2-o"}},
     "the order 0199f0c2-o at x is cancelled"),
    ("dr-command+jwt", ORDER | {"cmd": {"act": "release", "tgt": ["x"]}}, "all orders at x end"),
    ("dr-revoke+jwt", {"ver": 1, "rev": [{"jti": "0199f0c2-g"}, {"kid": MANAGER.kid}]},
     "the grant 0199f0c2-g ends, and what is held under it is released"),
    ("request+jwt", ASK | {"act": "resend", "epoch": "5f1c", "from": 1, "to": 9},
     "gets the batches 1 to 9 of the epoch 5f1c again"),
    ("request+jwt", ASK | {"act": "read-now"}, "devices are read again at once, for r.example"),
    ("request+jwt", ASK | {"act": "directory"}, "gets places, meters, occupancies and series"),
    ("uplink-move+jws", ASK | {"url": "mqtts://b:1"}, "the uplink to r.example moves to mqtts://b:1"),
    ("time+jwt", {}, "it states that it is"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for one in (MANAGER, OTHER):
        (tmp_path / f"{one.name}.pub").write_text(json.dumps(one.public_jwk()))
    member = {"kid": MANAGER.kid, "jwk": dict(MANAGER.key.jwk), "role": "building_manager",
              "name": MANAGER.name, "scope": {"buildings": ["B6ASQZ1Y2KSAA3Y"]},
              "nbf": NOW - 9, "exp": NOW + 9_999}  # fmt: skip
    said = {"ver": 3, "iss": "Métropole", "iat": NOW, "exp": NOW + 9_999, "threshold": 1,
            "roots": [ROOT.public_jwk()], "keys": [member]}  # fmt: skip
    (tmp_path / "trust.jws").write_bytes(trust_list(json.dumps(said), [ROOT]))
    monkeypatch.setenv("LANGUAGE", "en")
    return tmp_path


def signed(typ, claims, by=MANAGER):
    return by.sign(typ, {"iss": MANAGER.name, "jti": "0199f0c2-object", "iat": NOW} | claims)


def check(raw, options="", file="o.jwt"):
    Path(file).write_bytes(raw)
    done = CliRunner().invoke(app, ["object", "check", file, *shlex.split(options)])
    return done.exit_code, done.output


@pytest.mark.parametrize(("typ", "claims", "effect"), EFFECTS)
def test_what_an_object_does_is_stated_and_what_was_not_checked(typ, claims, effect):
    status, printed = check(signed(typ, claims))
    assert (status, effect in printed) == (0, True), printed
    assert f"o.jwt: {typ}, id (jti) 0199f0c2-object, of Régie Dupont\n" in printed
    assert f"not checked: the signature, because the key {MANAGER.kid} is not known" in printed
    assert "not checked: what only the gateway knows" in printed


def test_with_a_key_the_signature_is_checked():
    raw = signed("consent+jwt", GIVEN)
    status, printed = check(raw, "--key Autre.pub --key 'Régie Dupont.pub'")
    assert (status, "checked: signed with the key of Régie Dupont" in printed) == (0, True)
    assert "not checked: whether the trust list lets this key sign it" in printed
    altered = raw[:-4] + (b"AAAA" if raw[-4:] != b"AAAA" else b"BAAA")
    status, printed = check(altered, "--key 'Régie Dupont.pub'")
    assert (status, "wrong: E_SIG: the key of Régie Dupont has not signed" in printed) == (1, True)
    status, printed = check(signed("consent+jwt", GIVEN, OTHER), "--key Autre.pub")
    assert (status, "has signed in the name of Régie Dupont" in printed) == (1, True)


def test_with_a_trust_list_the_signer_and_the_role_are_checked():
    status, printed = check(signed("consent+jwt", GIVEN), "--trust trust.jws")
    assert (status, "signed by Régie Dupont (building manager), as version 3" in printed) == (
        0,
        True,
    )
    assert "one for which the key may sign: B6ASQZ1Y2KSAA3Y" in printed
    status, printed = check(signed("time+jwt", {}), "--trust trust.jws")
    assert (status, "wrong: E_KID" in printed) == (1, True)
    status, printed = check(signed("consent+jwt", GIVEN, OTHER), "--trust trust.jws")
    assert (status, "wrong: E_KID: nobody in the trust list" in printed) == (1, True)


@pytest.mark.parametrize(
    ("stated", "aud", "status", "words"),
    [
        (AUD, AUD, 0, f"checked: audience: {AUD}"),
        (AUD, "G84G7ZWYRD6Z1GQ.000000", 1, "wrong: E_AUD"),
        (AUD, "", 0, f"not checked: whether {AUD} is the gateway that is meant. Add: --aud"),
        ("B6ASQZ1Y2KSAA3Y", "", 1, "wrong: E_AUD: `aud` must name one gateway in its present"),
    ],
)
def test_the_audience_is_compared_if_it_is_known(stated, aud, status, words):
    options = f"--aud {aud} --trust trust.jws" if aud else "--trust trust.jws"
    found, printed = check(signed("dr-command+jwt", ORDER | {"aud": stated, "cmd": CMD}), options)
    assert (found, words in printed) == (status, True), printed


@pytest.mark.parametrize(
    ("typ", "claims", "code"),
    [
        ("consent+jwt", GIVEN | {"surplus": 1}, "E_FORM"),
        ("consent+jwt", GIVEN | {"place": PLACE[:-1] + "A"}, "E_REGISTRY"),
        ("consent+jwt", GIVEN | {"data": {"channels": ["heat"], "step": "PT1S"}}, "E_REGISTRY"),
        ("dr-command+jwt", ORDER | {"exp": NOW - 300, "iat": NOW - 600, "cmd": CMD}, "E_EXPIRED"),
        (
            "dr-command+jwt",
            ORDER | {"iat": NOW + 3_600, "exp": NOW + 4_000, "cmd": CMD},
            "E_NOTYET",
        ),
        ("dr-grant+jwt", EFFECTS[9][1] | {"lim": {"windows": ["6h-7h"]}}, "E_FORM"),
        ("place-map+jws", {"ver": 1, "csv": "place_id;type\n"}, "E_REGISTRY"),
        ("strange+jwt", {}, "E_TYP"),
    ],
)
def test_a_fault_is_named_with_its_code_and_the_exit_status_says_so(typ, claims, code):
    status, printed = check(signed(typ, claims), "--json")
    (found,) = json.loads(printed)
    assert (status, found["code"], bool(found["wrong"])) == (1, code, True)


def test_what_is_no_signed_object_is_no_crash():
    for raw in (b"", b"x", b"\xff\xfe", b"{}", b"a.b.c"):
        status, printed = check(raw)
        assert (status, "wrong: E_FORM" in printed) == (1, True)


def test_a_trust_list_is_checked_and_shows_who_may_sign(keys):
    raw = (keys / "trust.jws").read_bytes()
    status, printed = check(raw)
    assert (status, "signatures of 1 of its roots" in printed) == (0, True)
    assert "effect: Régie Dupont may sign as building manager until" in printed
    assert "not checked: whether it may replace the list in force" in printed
    assert check(raw, "--trust trust.jws")[0] == 0
    unsigned = json.loads(raw)
    unsigned["signatures"][0]["signature"] = "A" * 86
    assert check(json.dumps(unsigned).encode())[0] == 1


def test_in_french(monkeypatch):
    monkeypatch.setenv("LANGUAGE", "fr")
    status, printed = check(signed("consent+jwt", GIVEN))
    assert status == 0
    assert "vérifié : la forme et les dates" in printed
    assert "effet : r.example peut recevoir heat des occupants" in printed
