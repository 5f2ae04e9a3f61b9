"""Guards rules G5, G3: every forgery is refused with its code."""

import base64
import hashlib
import hmac
import json
from contextlib import nullcontext
from dataclasses import replace
from decimal import Decimal

import pytest

from agent.core.clock import ClockTrust
from agent.trust.claims import KINDS
from agent.trust.error_codes import NEXT_STEPS, REMEDIES, Forged, ObjectCode
from agent.trust.jws import LARGEST
from agent.trust.sign import Signer
from agent.trust.verify import (
    Audience,
    Member,
    Scope,
    VerificationContext,
    receipt_signed_by,
    verify,
)
from tests.unit.trust.objects import (
    DAY,
    MEMBERS,
    NAMES,
    NOW,
    RIGHT,
    SIGNERS,
    US,
    checked,
    claims,
    scoped,
    signed,
)

every_kind = pytest.mark.parametrize("typ", sorted(KINDS))
ADDRESSED = ("dr-command+jwt", "request+jwt", "uplink-move+jws")


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def parts(raw: bytes) -> tuple[dict, str, str]:
    head, payload, signature = raw.decode().split(".")
    return json.loads(base64.urlsafe_b64decode(head + "==")), payload, signature


def resigned(typ: str, header: dict | str, payload: str) -> bytes:
    """An object whose header and payload are exactly these, signed by the right key."""
    signer = SIGNERS[RIGHT[typ][0]]
    head = header if isinstance(header, str) else json.dumps(header)
    text = f"{b64(head.encode())}.{b64(payload.encode())}"
    return f"{text}.{b64(signer.private.sign(text.encode()))}".encode()


def header(typ: str, **changed: object) -> dict:
    return {"alg": "EdDSA", "kid": SIGNERS[RIGHT[typ][0]].kid, "typ": typ, **changed}


def refused(raw: bytes, **changed: object) -> ObjectCode:
    with pytest.raises(Forged) as caught:
        checked(raw, **changed)
    assert str(caught.value).startswith(f"{caught.value.code}: ")
    return caught.value.code


def test_every_kind_has_a_right_object_in_these_tests():
    assert RIGHT.keys() == KINDS.keys()


@every_kind
def test_the_right_object_is_taken(typ):
    raw = signed(typ)
    found = checked(raw)
    assert (found.typ, found.role, found.owner) == (typ, RIGHT[typ][0], NAMES[RIGHT[typ][0]])
    assert found.raw == raw
    assert found.sha256 == hashlib.sha256(raw).hexdigest()
    # and so it is where a transport has put a line end after it
    assert checked(raw + b"\r\n").sha256 == found.sha256


def test_every_code_has_a_remedy_for_the_sender_and_a_step_for_a_person():
    assert REMEDIES.keys() == NEXT_STEPS.keys() == set(ObjectCode)
    said = Forged(ObjectCode.REPLAY, "it was used before").for_a_person()
    assert str(said) == (
        "it was used before (E_REPLAY). Nothing was changed. Sign it again with a new `jti`."
    )


@every_kind
def test_a_key_that_nobody_knows_is_refused(typ):
    """Rule O1."""
    stranger = Signer.new(NAMES[RIGHT[typ][0]])
    assert refused(stranger.sign(typ, claims(typ))) is ObjectCode.KID


@every_kind
def test_a_key_that_borrows_the_number_of_another_is_refused(typ):
    stranger = Signer.new("somebody")
    head, payload, _ = parts(stranger.sign(typ, claims(typ)))
    head["kid"] = SIGNERS[RIGHT[typ][0]].kid
    text = f"{b64(json.dumps(head).encode())}.{payload}"
    forged = f"{text}.{b64(stranger.private.sign(text.encode()))}"
    assert refused(forged.encode()) is ObjectCode.SIG


@every_kind
def test_claims_changed_after_signing_are_refused(typ):
    head, _, signature = signed(typ).decode().split(".")
    other = b64(json.dumps(claims(typ, iat=NOW - 1)).encode())
    assert refused(f"{head}.{other}.{signature}".encode()) is ObjectCode.SIG


@every_kind
@pytest.mark.parametrize("alg", ["none", "None", "", "HS256", "RS256", "ES256", "Ed448", "eddsa"])
def test_another_algorithm_is_refused(typ, alg):
    """Rule O2."""
    forged = resigned(typ, header(typ, alg=alg), json.dumps(claims(typ)))
    assert refused(forged) is ObjectCode.SIG


@every_kind
def test_an_object_without_signature_is_refused(typ):
    head, payload, _ = signed(typ).decode().split(".")
    assert refused(f"{head}.{payload}.".encode()) is ObjectCode.SIG
    unsigned = b64(json.dumps(header(typ, alg="none")).encode())
    assert refused(f"{unsigned}.{payload}.".encode()) is ObjectCode.SIG


@every_kind
def test_an_hmac_with_the_public_key_is_refused(typ):
    signer = SIGNERS[RIGHT[typ][0]]
    public = signer.private.public_key().public_bytes_raw()
    text = f"{b64(json.dumps(header(typ, alg='HS256')).encode())}.{parts(signed(typ))[1]}"
    mac = hmac.digest(public, text.encode(), "sha256")
    assert refused(f"{text}.{b64(mac)}".encode()) is ObjectCode.SIG
    # the same with the right algorithm in its header, and 64 bytes
    text = f"{b64(json.dumps(header(typ)).encode())}.{parts(signed(typ))[1]}"
    mac = hmac.digest(public, text.encode(), "sha512")
    assert refused(f"{text}.{b64(mac)}".encode()) is ObjectCode.SIG


@every_kind
@pytest.mark.parametrize(
    "more",
    [
        {"jwk": Signer.new("x").public_jwk()},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MII"]},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"zip": "DEF"},
        {"cty": "json"},
    ],
    ids="+".join,
)
def test_a_header_that_says_more_than_alg_kid_and_typ_is_refused(typ, more):
    """Rule O2."""
    assert refused(resigned(typ, header(typ, **more), json.dumps(claims(typ)))) is ObjectCode.FORM


@every_kind
def test_a_key_inside_the_object_is_not_its_key(typ):
    stranger = Signer.new(NAMES[RIGHT[typ][0]])
    head = json.dumps(header(typ, kid=stranger.kid, jwk=stranger.public_jwk()))
    text = f"{b64(head.encode())}.{b64(json.dumps(claims(typ)).encode())}"
    forged = f"{text}.{b64(stranger.private.sign(text.encode()))}"
    assert refused(forged.encode()) is ObjectCode.FORM


@every_kind
def test_a_key_said_twice_is_refused_in_header_and_claims(typ):
    """Rule O2."""
    head = json.dumps(header(typ))
    twice = head[:-1] + f', "kid": "{SIGNERS["grid_operator"].kid}"}}'
    assert refused(resigned(typ, twice, json.dumps(claims(typ)))) is ObjectCode.FORM
    said = json.dumps(claims(typ))
    assert refused(resigned(typ, head, said[:-1] + ', "iat": 1}')) is ObjectCode.FORM
    inside = said.replace('"jti"', '"iss": {"a": 1, "a": 2}, "jti"', 1)
    assert refused(resigned(typ, head, inside)) is ObjectCode.FORM


@every_kind
def test_an_object_of_17_kb_is_refused_and_a_place_map_up_to_1_mib_is_not(typ):
    # right in all but its length: JSON may have spaces after it
    """Rule O2."""
    said = json.dumps(claims(typ))
    raw = resigned(typ, header(typ), said + " " * 12_500)
    assert len(raw) > LARGEST
    assert checked(resigned(typ, header(typ), said + " " * 10_000))
    if typ == "place-map+jws":
        assert checked(raw)
        assert checked(resigned(typ, header(typ), said + " " * 700_000))
        assert refused(resigned(typ, header(typ), said + " " * 800_000)) is ObjectCode.FORM
    else:
        assert refused(raw) is ObjectCode.FORM


@every_kind
def test_an_object_for_another_gateway_building_or_earlier_state_is_refused(typ):
    """Rule O5."""
    for aud in (
        "GFOREIGN0000000.5f1c9e0a",
        "GFOREIGN0000000",
        "BFOREIGN0000000",
        f"{US.gateway}.otherstate",
    ):
        assert refused(signed(typ, aud=aud)) is ObjectCode.AUD
    restored = Audience(US.gateway, "new", US.building)
    assert refused(signed(typ, aud=US.exact), audience=restored) is ObjectCode.AUD


@pytest.mark.parametrize("typ", ADDRESSED)
def test_an_order_must_name_this_gateway_in_its_present_state(typ):
    """Rule O5."""
    assert refused(signed(typ, aud=US.gateway)) is ObjectCode.AUD
    assert refused(signed(typ, aud=US.building)) is ObjectCode.AUD
    assert refused(signed(typ, aud=...)) is ObjectCode.FORM


@every_kind
def test_an_object_from_the_future_is_refused_unless_it_needs_no_clock(typ):
    """Rule O6."""
    raw = signed(typ, iat=NOW + 61, exp=NOW + 3600 if typ in ADDRESSED else ...)
    if typ in ("dr-revoke+jwt", "time+jwt"):
        assert checked(raw).iat == NOW + 61
    elif "exp" in RIGHT[typ][1] and typ not in ADDRESSED:
        assert refused(signed(typ, iat=NOW + 61)) is ObjectCode.NOT_YET
    else:
        assert refused(raw) is ObjectCode.NOT_YET
    assert (
        refused(signed("dr-grant+jwt", iat=NOW + 61), clock=ClockTrust.TRUSTED)
        is ObjectCode.NOT_YET
    )
    assert checked(signed("dr-grant+jwt", iat=NOW + 61), clock=ClockTrust.HOLDOVER)


@pytest.mark.parametrize("typ", [*ADDRESSED, "dr-grant+jwt"])
def test_an_expired_object_is_refused(typ):
    raw = signed(typ, iat=NOW - 7200, nbf=..., exp=NOW - 61)
    assert refused(raw) is ObjectCode.EXPIRED
    assert checked(signed(typ, iat=NOW - 7200, nbf=..., exp=NOW - 59))


@pytest.mark.parametrize("typ", ADDRESSED)
def test_an_order_that_does_not_count_yet_is_refused(typ):
    assert refused(signed(typ, nbf=NOW + 61, exp=NOW + 3600)) is ObjectCode.NOT_YET
    assert checked(signed(typ, nbf=NOW + 59, exp=NOW + 3600))


def test_a_grant_that_begins_later_is_taken_now():
    assert checked(signed("dr-grant+jwt", nbf=NOW + 60 * DAY)).exp == NOW + 300 * DAY


@pytest.mark.parametrize("typ", ADDRESSED)
def test_an_order_that_may_be_accepted_for_more_than_48_hours_is_refused(typ):
    """Rule O6."""
    assert refused(signed(typ, exp=NOW + 48 * 3600 + 1)) is ObjectCode.FORM
    assert refused(signed(typ, exp=NOW - 1)) is ObjectCode.FORM


def test_a_grant_for_more_than_two_years_is_refused():
    """Rule O6."""
    assert refused(signed("dr-grant+jwt", exp=NOW + 800 * DAY)) is ObjectCode.FORM


@every_kind
def test_while_the_clock_is_untrusted_only_what_takes_back_is_taken(typ):
    """Rule O7."""
    if typ in ("dr-revoke+jwt", "time+jwt"):
        assert checked(signed(typ), clock=ClockTrust.UNTRUSTED)
    else:
        assert refused(signed(typ), clock=ClockTrust.UNTRUSTED) is ObjectCode.CLOCK


@pytest.mark.parametrize("act", ["release", "cancel"])
@pytest.mark.parametrize("clock", list(ClockTrust))
def test_giving_back_is_always_taken_also_late_and_from_any_role_that_could_have_authorized(
    act, clock
):
    """Rules O12, H9."""
    cmd = {"act": act, "tgt": ["boiler-offset"]}
    for role in ("grid_operator", "boiler_operator", "residents_council", "occupant"):
        raw = signed(
            "dr-command+jwt", role, iss=NAMES[role], cmd=cmd, iat=NOW - 9 * DAY, exp=NOW - 8 * DAY
        )
        assert checked(raw, clock=clock, expires=NOW - DAY).claims["cmd"]["act"] == act


def test_a_withdrawal_of_a_consent_needs_no_clock():
    raw = signed(
        "consent+jwt", status="withdrawn", prev="0192-consent", withdrawn_at=NOW, recipients=...,
        purpose=..., data=..., nbf=..., exp=..., given_at=...,
    )  # fmt: skip
    assert checked(raw, clock=ClockTrust.UNTRUSTED).claims["status"] == "withdrawn"


def test_an_expired_trust_list_allows_nothing_new_but_what_is_recorded_goes_on():
    """Rule O12."""
    for typ in ("dr-command+jwt", "dr-grant+jwt", "uplink-move+jws"):
        assert refused(signed(typ), expires=NOW - 1) is ObjectCode.EXPIRED
    for typ in ("consent+jwt", "occupancy+jwt", "dr-revoke+jwt", "request+jwt"):
        assert checked(signed(typ), expires=NOW - 1)


@every_kind
def test_a_key_whose_role_may_not_say_this_is_refused(typ):
    """Rule O4."""
    for role, signer in SIGNERS.items():
        if role in KINDS[typ].roles:
            continue
        said = {"role": role} if typ == "dr-grant+jwt" and role != "root" else {}
        assert refused(signer.sign(typ, claims(typ, iss=signer.name, **said))) is ObjectCode.KID


@every_kind
def test_a_key_cannot_speak_in_the_name_of_another_owner(typ):
    """Rule O4."""
    assert refused(signed(typ, iss="somebody else")) is ObjectCode.KID


def test_the_manager_cannot_grant_in_the_name_of_the_residents():
    """Rule O18."""
    forged = signed("dr-grant+jwt", "building_manager", iss=NAMES["building_manager"])
    assert refused(forged) is ObjectCode.KID
    witness = Member(SIGNERS["updater"].key, "G84G7ZWYRD6Z1GQ", "witness")
    members = {**MEMBERS, witness.key.kid: witness}
    as_witness = signed("dr-grant+jwt", "updater", iss="G84G7ZWYRD6Z1GQ")
    assert checked(as_witness, members=members).role == "witness"
    beyond = signed("dr-grant+jwt", "updater", iss="G84G7ZWYRD6Z1GQ", role="boiler_operator")
    assert refused(beyond, members=members) is ObjectCode.KID


def test_a_key_is_revoked_by_its_owner_by_its_role_or_by_root():
    """Rule O14."""
    council, manager = SIGNERS["residents_council"].kid, SIGNERS["building_manager"].kid
    assert refused(signed("dr-revoke+jwt", rev=[{"kid": manager}])) is ObjectCode.KID
    checked(signed("dr-revoke+jwt", rev=[{"kid": council}]))
    checked(signed("dr-revoke+jwt", rev=[{"kid": "A" * 43}]))  # of nobody: it may come later
    checked(signed("dr-revoke+jwt", "root", iss=NAMES["root"], rev=[{"kid": manager}]))
    other = Signer.new("présidente du conseil")
    members = MEMBERS | {other.kid: Member(other.key, other.name, "residents_council")}
    checked(signed("dr-revoke+jwt", rev=[{"kid": other.kid}]), members=members)
    members = MEMBERS | {other.kid: Member(other.key, other.name, "occupant")}
    neighbour = signed("dr-revoke+jwt", "occupant", iss=NAMES["occupant"], rev=[{"kid": other.kid}])
    assert refused(neighbour, members=members) is ObjectCode.KID


@every_kind
def test_a_revoked_key_and_one_out_of_its_time_are_refused(typ):
    signer = SIGNERS[RIGHT[typ][0]]
    assert refused(signed(typ), revoked={signer.kid}) is ObjectCode.KID
    for since, until in ((NOW + 61, NOW + DAY), (0, NOW - 61)):
        late = Member(signer.key, signer.name, RIGHT[typ][0], since=since, until=until)
        members = {**MEMBERS, signer.kid: late}
        if typ not in ("dr-revoke+jwt", "time+jwt"):
            assert refused(signed(typ), members=members) is ObjectCode.KID


@every_kind
def test_a_key_for_other_buildings_or_other_objects_is_refused(typ):
    """Rule O4."""
    role = RIGHT[typ][0]
    foreign = scoped(role, buildings=frozenset({"BFOREIGN0000000"}))
    assert refused(signed(typ), members=foreign) is ObjectCode.KID
    other = scoped(role, kinds=frozenset({"something+jwt"}))
    assert refused(signed(typ), members=other) is ObjectCode.KID
    assert refused(signed(typ), members=scoped(role, kinds=frozenset())) is ObjectCode.KID
    ours = scoped(role, buildings=frozenset({US.building}), kinds=frozenset({typ}))
    assert checked(signed(typ), members=ours)


@every_kind
def test_a_claim_that_this_version_does_not_know_is_refused_it_might_be_a_limit(typ):
    """Rule O3."""
    assert refused(signed(typ, only_on_sundays=True)) is ObjectCode.FORM


@every_kind
def test_claims_of_the_wrong_kind_are_refused(typ):
    for wrong in (
        {"iat": str(NOW)},
        {"iat": NOW + 0.5},
        {"iat": True},
        {"iat": -1},
        {"jti": "short"},
        {"jti": ["0192-0192-0192"]},
        {"iss": ""},
        {"iss": "two\nlines"},
        {"iss": ...},
        {"jti": ...},
        {"iat": ...},
    ):
        assert refused(signed(typ, **wrong)) is ObjectCode.FORM


def test_unknown_kinds_are_refused():
    signer = SIGNERS["grid_operator"]
    for typ in ("JWT", "jwt", "message+jwt", "outcome+jwt", "trust-list+jws", "DR-COMMAND+JWT", ""):
        assert refused(signer.sign(typ, claims("dr-command+jwt"))) is ObjectCode.TYP


def test_one_kind_cannot_pass_for_another():
    for typ in KINDS:
        for other in KINDS:
            if other == typ:
                continue
            raw = SIGNERS[RIGHT[typ][0]].sign(other, claims(typ))
            assert refused(raw) in (ObjectCode.FORM, ObjectCode.KID)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b".",
        b"..",
        b"...",
        b"a.b.c",
        b"\xff\xfe",
        b"{}",
        b"eyJ9.e30.AA",
        "é.é.é".encode(),
        b"e30.e30." + b"A" * 86,
        b"bnVsbA.bnVsbA." + b"A" * 86,
        b"W10.W10." + b"A" * 86,
    ],
)
def test_what_is_no_object_is_refused(raw):
    assert refused(raw) in (ObjectCode.FORM, ObjectCode.SIG)


def test_base64_has_one_form():
    """Rule O2."""
    raw = signed("dr-command+jwt")
    assert refused(raw + b"=") is ObjectCode.FORM
    assert refused(b" " + raw) is ObjectCode.FORM
    head, payload, signature = raw.decode().split(".")
    # the last character carries bits that nobody reads: other bytes for the same signature
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = last[last.index(signature[-1]) + 1]
    assert refused(f"{head}.{payload}.{signature[:-1]}{other}".encode()) is ObjectCode.FORM


def test_json_has_one_reading():
    typ = "dr-command+jwt"
    said = json.dumps(claims(typ))
    for word in ("NaN", "Infinity", "-Infinity"):
        assert refused(resigned(typ, header(typ), said.replace("-1.5", word))) is ObjectCode.FORM
    half = said.replace('"K"', '"\\ud83d"')
    assert refused(resigned(typ, header(typ), half)) is ObjectCode.FORM
    deep = said.replace('"K"', "[" * 3000 + "]" * 3000)
    assert refused(resigned(typ, header(typ), deep)) is ObjectCode.FORM
    huge = said.replace("-1.5", "1" * 5000)
    assert refused(resigned(typ, header(typ), huge)) is ObjectCode.FORM
    assert refused(resigned(typ, header(typ), "[]")) is ObjectCode.FORM
    assert refused(resigned(typ, header(typ), said + " x")) is ObjectCode.FORM
    bom = resigned(typ, header(typ), "\ufeff" + said)
    assert refused(bom) is ObjectCode.FORM


def test_numbers_keep_their_digits():
    said = json.dumps(claims("dr-command+jwt")).replace("-1.5", "-1.10")
    found = checked(resigned("dr-command+jwt", header("dr-command+jwt"), said))
    assert found.claims["cmd"]["val"] == Decimal("-1.10")
    assert str(found.claims["cmd"]["val"]) == "-1.10"


@pytest.mark.parametrize(
    "number", ["1e9999999", "-1e12", "1e-31", "1" * 4000, "0e9999999", "1e400"]
)
def test_a_number_that_nothing_measures_is_refused_before_it_costs_memory(number):
    """Rule O3."""
    typ = "dr-command+jwt"
    said = json.dumps(claims(typ))
    assert "-1.5" in said
    assert refused(resigned(typ, header(typ), said.replace("-1.5", number))) is ObjectCode.FORM
    assert checked(resigned(typ, header(typ), said.replace("-1.5", "-0.30000000000000004")))


def test_a_request_for_numbers_that_no_store_takes_is_refused():
    with pytest.raises(Forged) as caught:
        checked(signed("request+jwt", act="resend", epoch="a" * 12, to=10**30, **{"from": 10**30}))
    assert caught.value.code is ObjectCode.FORM


SECONDS = "Unix seconds, a whole number such as 1795000000"
SENTENCES = {
    "milliseconds": (
        {"iat": NOW * 1000},
        f"`iat` must be {SECONDS} (this looks like milliseconds)",
    ),
    "a date for seconds": ({"nbf": "2026-11-24T18:00:00Z"}, f"`nbf` must be {SECONDS}"),
    "seconds for a date": (
        {"cmd": {"start": NOW}},
        "`cmd.start` must be text in UTC such as 2026-11-24T18:00:00Z",
    ),
    "seconds for a duration": (
        {"cmd": {"dur": 120}},
        "`cmd.dur` must be a duration such as PT30M",
    ),
    "a value that is none": (
        {"cmd": {"val": [1]}},
        "`cmd.val` must be a number such as -1.5, not text",
    ),
    "an unknown claim": ({"lang": "fr"}, "`lang` is not a claim of this type: remove it"),
    "a missing claim": ({"exp": ...}, f"the claim `exp` is missing: {SECONDS}"),
}


def sentence_of(typ: str, **changed: object) -> str:
    with pytest.raises(Forged) as refusal:
        checked(signed(typ, **changed))
    return refusal.value.sentence


def test_a_claim_of_one_name_is_explained_by_the_kind_of_its_object():
    request = {"act": "resend", "recipient": "r.example", "epoch": "5f1c"}
    said = sentence_of("request+jwt", **request, **{"from": "1", "to": 2})
    assert "`from` must be a whole number. " in said
    assert "must be text in UTC" in sentence_of("occupancy+jwt", **{"from": 1795000000})
    assert "an id such as H84G7ZWYRD6Z11W" in sentence_of("consent+jwt", sub="H84G7-ZWYRD-6Z11W")
    assert "H84G7ZWYRD6Z11W" not in sentence_of("dr-grant+jwt", sub=7)


@pytest.mark.parametrize("what", SENTENCES)
def test_a_claim_that_is_wrong_is_named_with_what_it_must_be(what):
    changed, sentence = SENTENCES[what]
    if "cmd" in changed:
        changed = {"cmd": claims("dr-command+jwt")["cmd"] | changed["cmd"]}
    with pytest.raises(Forged) as refusal:
        checked(signed("dr-command+jwt", **changed))
    assert refusal.value.sentence.startswith(f"It is not a valid dr-command+jwt: {sentence}. ")


def receipt_key(**limits):
    """A platform's key, and how it is known."""
    who = Signer.new("r.example")
    return who, Member(who.key, who.name, "recipient", **limits)


def receipts_at(member, now=NOW, clock=ClockTrust.TRUSTED, expires=None, revoked=()):
    members = MEMBERS | {member.key.kid: member}
    return VerificationContext(members, US, now, clock, revoked, expires)


def test_a_receipt_counts_though_the_list_has_expired_but_not_outside_its_keys_time():
    """Rule T37."""
    who, member = receipt_key(since=NOW - DAY, until=NOW + DAY)
    raw = who.sign_text("receipt+jwt", "{}")
    for now, clock, counts in (
        (NOW, ClockTrust.TRUSTED, True),
        (NOW + 2 * DAY, ClockTrust.TRUSTED, False),
        (NOW - 2 * DAY, ClockTrust.HOLDOVER, False),
        (NOW + 2 * DAY, ClockTrust.UNTRUSTED, True),
    ):
        context = receipts_at(member, now, clock, expires=NOW - DAY)
        with nullcontext() if counts else pytest.raises(Forged):
            assert receipt_signed_by(raw, "r.example", context) == (who.kid, b"{}")


def test_a_receipt_counts_under_a_key_of_its_recipient_and_role_and_scope_only():
    """Rule T35."""
    who, member = receipt_key()
    raw = who.sign_text("receipt+jwt", "{}")
    for context, recipient in (
        (receipts_at(member), "o.example"),
        (receipts_at(replace(member, role="registry")), "r.example"),
        (receipts_at(replace(member, scope=Scope(kinds=frozenset({"time+jwt"})))), "r.example"),
        (receipts_at(replace(member, scope=Scope(buildings=frozenset({"B"})))), "r.example"),
        (receipts_at(member, revoked={who.kid}), "r.example"),
    ):
        with pytest.raises(Forged):
            receipt_signed_by(raw, recipient, context)
    with pytest.raises(Forged):  # it is no object for the inbox
        verify(raw, receipts_at(member))
    assert receipt_signed_by(raw, "r.example", receipts_at(member))[0] == who.kid
