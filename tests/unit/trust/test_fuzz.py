"""Whatever arrives, it is refused with a code or it is right: nothing else ever comes out.

The long form (GARDIEN_TORTURE=1) goes on for minutes. Rule O30.
"""

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.trust import trust_list
from agent.trust.claims import KINDS
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.verify import Verified
from tests.depth import examples
from tests.unit.trust.objects import RIGHT, SIGNERS, checked, claims, signed

often = examples(40, 50_000)
kinds = st.sampled_from(sorted(KINDS))
words = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def judged(raw: bytes) -> Verified | ObjectCode:
    try:
        return checked(raw)
    except Forged as error:
        return error.code


@often
@given(st.binary(max_size=400))
def test_any_bytes_are_refused(raw):
    assert isinstance(judged(raw), ObjectCode)
    try:
        trust_list.read(raw)
    except Forged:
        return
    raise AssertionError("a list of nothing")


@often
@given(kinds, st.data())
def test_any_change_of_the_bytes_is_refused(typ, data):
    raw = bytearray(signed(typ))
    at = data.draw(st.integers(0, len(raw) - 1))
    how = data.draw(st.sampled_from(("put", "cut", "add")))
    byte = data.draw(st.integers(0, 255))
    before = bytes(raw)
    if how == "put":
        raw[at] = byte
    elif how == "cut":
        del raw[at]
    else:
        raw.insert(at, byte)
    found = judged(bytes(raw))
    assert isinstance(found, ObjectCode) or bytes(raw).rstrip(b"\r\n") == before


@often
@given(kinds, st.text(max_size=12), words)
def test_any_claim_a_right_key_signs_is_right_or_refused(typ, name, value):
    signer = SIGNERS[RIGHT[typ][0]]
    known = sorted(claims(typ))
    for member in (name, known[len(name) % len(known)]):
        said = json.dumps(claims(typ) | {member: value})
        text = f"{_b64(_header(typ))}.{_b64(said.encode('utf-8', 'surrogatepass'))}"
        raw = f"{text}.{_b64(signer.private.sign(text.encode()))}".encode()
        found = judged(raw)
        if isinstance(found, Verified):
            assert found.model.iss == signer.name
            assert found.owner == signer.name


@often
@given(kinds, st.dictionaries(st.text(max_size=6), words, max_size=3))
def test_any_other_header_is_refused(typ, more):
    signer = SIGNERS[RIGHT[typ][0]]
    head = json.loads(_header(typ)) | more
    text = f"{_b64(json.dumps(head).encode())}.{_b64(json.dumps(claims(typ)).encode())}"
    raw = f"{text}.{_b64(signer.private.sign(text.encode()))}".encode()
    assert isinstance(judged(raw), ObjectCode) or head == json.loads(_header(typ))


digits = st.integers(1, 6000).map("9".__mul__)
numbers = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(("", "-")),
    digits,
    st.just("") | digits.map(".{}".format),
    st.just("") | st.builds("{}{}".format, st.sampled_from(("e", "E+", "e-")), digits),
)
nests = st.integers(13, 2_500).map("[".__mul__) | st.integers(13, 2_500).map('{"a":'.__mul__)


@often
@given(kinds, numbers | nests, st.sampled_from(("text", "header", "payload", "list")))
@example("time+jwt", "1E9999999999999999999", "text")
def test_no_number_and_no_nesting_does_anything_but_to_be_refused(typ, token, where):
    inside = f'{{"a":{token}}}'.encode()
    header = inside if where == "header" else _header(typ)
    raw = ".".join((_b64(header), _b64(inside), _b64(bytes(64)))).encode()
    if where == "text":
        raw = inside
    elif where == "list":
        head = json.loads(_header(typ)) | {"typ": trust_list.TYP}
        signature = {"protected": _b64(json.dumps(head).encode()), "signature": "A" * 86}
        raw = json.dumps({"payload": _b64(inside), "signatures": [signature]}).encode()
    assert isinstance(judged(raw), ObjectCode)
    with pytest.raises(Forged):
        trust_list.read(raw)


def _header(typ: str) -> bytes:
    return json.dumps({"alg": "EdDSA", "kid": SIGNERS[RIGHT[typ][0]].kid, "typ": typ}).encode()


def _b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
