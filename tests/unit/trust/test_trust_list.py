"""Guards rule G5: who may sign is only said by enough of the roots, and never rolls back.
Rule O10.
"""

import json

import pytest

from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.sign import Signer, trust_list
from agent.trust.trust_list import admit, read
from tests.unit.trust.objects import DAY, NOW, SIGNERS

ROOTS = [Signer.new(f"racine {n}") for n in range(1, 4)]
OTHERS = [Signer.new(f"neue {n}") for n in range(1, 4)]


def member(of, **changed):
    signer = SIGNERS[of]
    return {
        "kid": signer.kid, "jwk": dict(signer.key.jwk), "role": of, "name": signer.name,
        "scope": {}, "nbf": NOW - DAY, "exp": NOW + 300 * DAY, **changed,
    }  # fmt: skip


def payload(**changed):
    return {
        "ver": 1, "iss": "Métropole", "iat": NOW - DAY, "exp": NOW + 300 * DAY,
        "roots": [root.public_jwk() for root in ROOTS], "threshold": 2,
        "keys": [member("grid_operator"), member("building_manager")], **changed,
    }  # fmt: skip


def made(by=ROOTS[:2], **changed):
    return trust_list(json.dumps(payload(**changed)), by)


def refused(raw, current=None, least=2, now=NOW):
    with pytest.raises(Forged) as caught:
        admit(read(raw), current, least, now)
    return caught.value.code


def test_a_list_signed_by_enough_roots_stands():
    found = read(made())
    admit(found, None, 2, NOW)
    assert found.members[SIGNERS["grid_operator"].kid].role == "grid_operator"
    assert found.members[ROOTS[0].kid].role == "root"
    assert found.signed_by(found.roots) == {ROOTS[0].kid, ROOTS[1].kid}


def test_one_root_twice_counts_once():
    assert refused(made([ROOTS[0], ROOTS[0]])) is ObjectCode.SIG


def test_a_bad_or_strange_signature_beside_enough_good_ones_does_no_harm_and_counts_nothing():
    whole = json.loads(made(ROOTS[:2]))
    strange = json.loads(made([Signer.new("x")]))["signatures"]
    bad = [{**whole["signatures"][0], "signature": whole["signatures"][1]["signature"]}]
    admit(read(json.dumps(whole | {"signatures": bad + strange + whole["signatures"]}).encode()),
          None, 2, NOW)  # fmt: skip
    one = whole["signatures"][1:]
    assert (
        refused(json.dumps(whole | {"signatures": bad + strange + one}).encode()) is ObjectCode.SIG
    )


def test_no_signature_or_members_signing_instead_of_roots_is_refused():
    assert refused(made([SIGNERS["registry"], SIGNERS["grid_operator"]])) is ObjectCode.SIG
    whole = json.loads(made())
    assert refused(json.dumps(whole | {"signatures": []}).encode()) is ObjectCode.SIG


def test_a_version_never_rolls_back():
    standing = read(made(ver=7))
    for ver in (1, 6, 7):
        assert refused(made(ver=ver), standing) is ObjectCode.VERSION
    admit(read(made(ver=8)), standing, 2, NOW)


def test_new_roots_need_the_old_ones_and_the_new():
    standing = read(made())
    roots = [root.public_jwk() for root in OTHERS]
    assert refused(made(OTHERS[:2], ver=2, roots=roots), standing) is ObjectCode.SIG
    assert refused(made(ROOTS[:2], ver=2, roots=roots), standing) is ObjectCode.SIG
    assert refused(made([ROOTS[0], *OTHERS[:2]], ver=2, roots=roots), standing) is ObjectCode.SIG
    admit(read(made([*ROOTS[:2], *OTHERS[:2]], ver=2, roots=roots)), standing, 2, NOW)


def test_a_lower_threshold_needs_the_old_number_of_signatures_and_the_configuration():
    standing = read(made())
    assert refused(made(ROOTS[:1], ver=2, threshold=1), standing, least=1) is ObjectCode.SIG
    assert refused(made(ROOTS[:2], ver=2, threshold=1), standing, least=2) is ObjectCode.SIG
    admit(read(made(ROOTS[:2], ver=2, threshold=1)), standing, 1, NOW)


def test_an_expired_list_is_refused_where_the_clock_is_known():
    old = made(iat=NOW - 10 * DAY, exp=NOW - DAY)
    assert refused(old) is ObjectCode.EXPIRED
    admit(read(old), None, 2, None)


@pytest.mark.parametrize(
    "changed",
    [
        {"threshold": 4},
        {"threshold": 0},
        {"ver": 0},
        {"ver": "2"},
        {"ver": True},
        {"roots": []},
        {"roots": [ROOTS[0].public_jwk(), ROOTS[0].public_jwk()]},
        {"roots": [ROOTS[0].private_jwk(), ROOTS[1].public_jwk()]},
        {"roots": [{"kty": "oct", "k": "AAAA"}, ROOTS[1].public_jwk()]},
        {"roots": [{"kty": "OKP", "crv": "Ed448", "x": "A" * 76}, ROOTS[1].public_jwk()]},
        {"keys": [member("registry"), member("registry")]},
        {"keys": [member("registry", kid=SIGNERS["occupant"].kid)]},
        {"keys": [member("registry", role="king")]},
        {"keys": [member("registry", role="root")]},
        {"keys": [member("registry", role="witness")]},
        {"keys": [member("registry", jwk=dict(ROOTS[0].key.jwk), kid=ROOTS[0].kid)]},
        {"keys": [member("registry", scope={"cities": []})]},
        {"exp": NOW - 2 * DAY},
        {"more": 1},
    ],
    ids=lambda changed: next(iter(changed)),  # keys are new at each run
)
def test_a_list_that_is_not_whole_is_refused(changed):
    assert refused(made(**changed)) is ObjectCode.FORM


def test_a_list_in_another_shape_is_refused():
    whole = json.loads(made())
    first = whole["signatures"][0]
    for wrong in (
        whole | {"header": {}},
        {"payload": whole["payload"], **first},
        whole | {"signatures": [first | {"header": {"kid": "x"}}]},
        whole | {"signatures": "x"},
        whole | {"payload": 1},
    ):
        assert refused(json.dumps(wrong).encode()) in (ObjectCode.FORM, ObjectCode.SIG)
    text = json.dumps(whole)
    assert refused(text.replace('"payload"', '"payload": "e30", "payload"', 1).encode()) is (
        ObjectCode.FORM
    )
    assert refused((text + " " * 17 * 1024).encode()) is ObjectCode.FORM
    assert refused(b"[1]") is ObjectCode.FORM


def test_a_signature_made_for_another_kind_of_object_does_not_count():
    text = json.dumps(payload())
    compact = ROOTS[0].sign_text("JWT", text).decode().split(".")
    good = json.loads(made(ROOTS[1:2]))["signatures"]
    forged = {"protected": compact[0], "signature": compact[2]}
    raw = json.dumps({"payload": compact[1], "signatures": [forged, *good]}).encode()
    assert refused(raw) is ObjectCode.TYP


def test_scopes_are_kept():
    scope = {"buildings": ["B6ASQZ1Y2KSAA3Y"], "assets": [], "kinds": None}
    found = read(made(keys=[member("registry", scope=scope)]))
    kept = found.members[SIGNERS["registry"].kid].scope
    assert kept.buildings == {"B6ASQZ1Y2KSAA3Y"}
    assert kept.assets == frozenset()
    assert kept.kinds is None
