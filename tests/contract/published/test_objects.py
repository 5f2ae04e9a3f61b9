"""docs/objects.schema.json and the gateway judge signed objects alike: rules O3, O4.

Ajv reads the schema in its strict mode, and Python's jsonschema too; the gateway verifies each
object as it would arrive, signed by a key that may sign it.
"""

import base64
import copy
import json
import re
from pathlib import Path

import jsonschema

from agent.control.orders import grant_of
from agent.trust import trust_list
from agent.trust.claims import (
    KINDS,
    LONGEST_ACCEPTANCE,
    LONGEST_STANDING,
    Dated,
    GrantClaims,
)
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.sign import trust_list as signed_list
from agent.trust.trust_list import TYP
from hil.signers import Signers
from tests.ajv import verdicts
from tests.depth import LONG
from tests.unit.trust.objects import HOME, NOW, RIGHT, SIGNERS, checked, claims

DOCS = Path(__file__).parents[3] / "docs"
SCHEMA = json.loads((DOCS / "objects.schema.json").read_text(encoding="utf-8"))
PAGES = "".join(
    (DOCS / name).read_text(encoding="utf-8") for name in ("authority.md", "platform.md")
)
TYPES = [*KINDS, TYP]
SHA = "0" * 64


def payload(raw: bytes) -> dict:
    part = raw.split(b".")[1]
    return json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))


def member(role: str, **scope: list[str]) -> dict:
    one = SIGNERS[role]
    return {"kid": one.kid, "jwk": dict(one.key.jwk), "role": role, "name": one.name,
            "scope": scope, "nbf": NOW, "exp": NOW + 9}  # fmt: skip


LIST = {
    "ver": 1, "iss": "Métropole", "iat": NOW, "exp": NOW + 9, "threshold": 1,
    "roots": [SIGNERS["root"].public_jwk()],
    "keys": [member("registry", buildings=["B1"], assets=["kind:heating"], kinds=["time+jwt"])],
}  # fmt: skip
CONSENT = {
    "iss": "accueil",
    "jti": "0199f0c2-more",
    "iat": NOW,
    "sub": HOME,
    "place": "D" + HOME[1:],
}
MORE: list[tuple[str, dict]] = [
    (TYP, LIST),
    ("consent+jwt", claims(
        "consent+jwt", prev="0199f0c2-consent", after="9f2c41d07be35a68",
        withdrawals=["0199f0c2-w"], notice={"version": "2", "sha256": SHA, "lang": "fr"},
        proof={"ref": "n° 3", "sha256": SHA}, controller="Métropole", method="paper",
    )),
    ("consent+jwt", CONSENT | {"status": "refused", "recipients": ["a.example"], "purpose": "x"}),
    ("consent+jwt", CONSENT | {"status": "withdrawn", "prev": "0199f0c2-c", "withdrawn_at": NOW}),
    ("request+jwt", claims("request+jwt", act="resend", epoch="5f1c09a3b7e2", to=9, **{"from": 1})),
    ("duty+jwt", claims(
        "duty+jwt", billing=["06-30"], to=None, **{"from": "2026-11-01T00:00:00Z"})),
    ("dr-revoke+jwt", claims("dr-revoke+jwt", rev=[{"kid": SIGNERS["root"].kid, "at": 1}])),
    ("dr-command+jwt", claims(
        "dr-command+jwt", auth=["0199f0c2-g"], prio=0, emerg=True, why="18 h")),
]  # fmt: skip
"""right objects with the claims that the printed examples do not have"""


def printed() -> list[tuple[str, dict]]:
    """The examples of docs/authority.md, by the heading above them."""
    sections = re.findall(r"### `([a-z+-]+)`\n(.*?)(?=\n##)", PAGES, re.DOTALL)
    return [
        (typ, json.loads(text))
        for typ, section in sections
        for text in re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    ]


def simulated() -> list[tuple[str, dict]]:
    """What the people of hil sign."""
    people = Signers()
    outer = json.loads(people.trust())
    return [
        (TYP, payload(b"." + outer["payload"].encode())),
        ("dr-grant+jwt", payload(people.grant(
            "boiler_operator", "G1.s", min=-2, max=1, unit="K", max_dur="PT2H", min_gap="P1D",
            max_day=2, max_time_day="PT4H", notice="PT10M", windows=["Mon-Fri 06:00-22:00"],
            season="10-15..04-15", emerg=True,
        ))),
        ("dr-command+jwt", payload(people.order("G1.s", ["boiler"], "-1.5", 60, rand="PT5M"))),
    ]  # fmt: skip


def valid() -> list[tuple[str, dict]]:
    right = [(typ, claims(typ)) for typ in RIGHT]
    return [*printed(), *simulated(), *right, *MORE]


def code(typ: str, text: str) -> ObjectCode | None:
    """Why a gateway refuses this payload, rightly signed; None: it does not."""
    try:
        if typ == TYP:
            trust_list.read(signed_list(text, [SIGNERS["root"]]))
            return None
        verified = checked(SIGNERS[RIGHT[typ][0]].sign_text(typ, text))
        if isinstance(verified.model, GrantClaims):
            grant_of(verified, verified.model)
    except Forged as error:
        return error.code
    except ValueError:  # of a grant, which the gateway answers with E_FORM
        return ObjectCode.FORM
    return None


def judged(cases: list[tuple[str, str]]) -> list[bool]:
    """What Ajv says; Python's jsonschema must say the same.

    Except of a line end at the end of a text, which Python's own `$` overlooks.
    """
    answers = verdicts(SCHEMA, [(f"#/$defs/{typ}", text) for typ, text in cases])
    other = {
        typ: jsonschema.Draft202012Validator(SCHEMA | {"anyOf": [{"$ref": f"#/$defs/{typ}"}]})
        for typ, _ in cases
    }
    for (typ, text), answer in zip(cases, answers, strict=True):
        if not re.search(r'\\n"', text):
            assert other[typ].is_valid(json.loads(text)) == answer, (typ, text)
    return answers


def places(content, at=()):
    """Each place in a payload."""
    yield at
    if isinstance(content, dict | list):
        of = content.items() if isinstance(content, dict) else enumerate(content)
        for key, inner in of:
            yield from places(inner, (*at, key))


def changed(content, at, value):
    """The payload with one member replaced; `...` removes it."""
    made = whole = copy.deepcopy(content)
    for key in at[:-1]:
        whole = whole[key]
    if value is ...:
        del whole[at[-1]]
    else:
        whole[at[-1]] = value
    return made


VALUES = (
    None, True, False, 0, -1, 1.5, -1e11, 1e12, 10**15, 10**20, "", " ", "x", "x\n", " x", "x ",
    "a\tb", "é", "a\u00a0b", "a\u200bb", "x" * 100, "x" * 101, "x" * 501, [], [1], ["x"],
    ["x", "y"], {}, {"x": 1}, "given", "refused", "withdrawn", "ended", "occupant", "registry",
    "P1M", "P1D", "P", "PT", "P1DT", "PT1H1M", "PT1.5H", "PT1M1H", "2026-13-01T00:00:00Z",
    "2026-04-31T00:00:00Z", "2028-02-29T00:00:00Z", "2026-11-01T24:00:00Z",
    "2026-11-01T00:00:60Z", "2026-11-01T00:00:00+00:00", "0000-01-01T00:00:00Z", "2026-11-01",
    "06-31", "6-3", "\u0660\u0661-\u0660\u0661", HOME, HOME.lower(), SHA, "A" * 43,
    "A" * 42 + "B", "A" * 44, "Mon-Fri 06:00-22:00", "Mon-Fri 06:00-25:00", "10-15..04-15",
)  # fmt: skip


def mutations(examples, every: int):
    """Changes at each place of each type, as text: removed, something added, or replaced by each
    n-th value."""
    done, n = set(), 0
    for typ, content in examples:
        for at in places(content):
            inner = content
            for key in at:
                inner = inner[key]
            if at:
                yield typ, json.dumps(changed(content, at, ...))
            if (typ, *(key for key in at if isinstance(key, str))) in done:
                continue
            done.add((typ, *(key for key in at if isinstance(key, str))))
            if isinstance(inner, dict):
                yield typ, json.dumps(changed(content, (*at, "surplus"), 1))
            for value in VALUES if at else ():
                n += 1
                if n % every == 0:
                    yield typ, json.dumps(changed(content, at, value))


def beyond(typ: str, text: str) -> bool:
    """What the schema says that it cannot state and the changes contain."""
    content = json.loads(text)
    if typ == TYP:
        known = [(key["kid"], key["jwk"]["x"]) for key in LIST["keys"]]
        other = [(key["kid"], key["jwk"]["x"]) for key in content["keys"]] != known
        if other or content["threshold"] > len(content["roots"]):
            return True
        kind = None
    else:
        kind = KINDS[typ].dated
    begin = content["iat"]
    if kind in {Dated.STANDING, Dated.RECORD} and content.get("nbf") is not None:
        begin = content["nbf"]
    longest = {Dated.ACCEPTANCE: LONGEST_ACCEPTANCE, Dated.STANDING: LONGEST_STANDING}
    end, first = content.get("exp"), max(begin, content.get("nbf") or 0)
    if end is not None and (end <= first or end - begin > longest.get(kind, end)):
        return True
    return "1000000000000.0" in text  # a whole number with a point


def test_the_schema_is_strict_and_takes_every_example_and_all_that_the_simulators_sign():
    cases = [(typ, json.dumps(content)) for typ, content in valid()]
    assert {typ for typ, _ in cases} == set(TYPES)
    refused = [case for case, answer in zip(cases, judged(cases), strict=True) if not answer]
    assert not refused
    assert all(verdicts(SCHEMA, [("", text) for _, text in cases]))


def test_what_is_changed_is_judged_alike_by_the_schema_and_by_the_gateway():
    """The schema refuses nothing that a gateway takes, and takes nothing that one refuses for its
    form, except what the schema says that it cannot state."""
    cases = list(dict.fromkeys(mutations([*printed(), *MORE], 1 if LONG else 5)))
    answers = judged(cases)
    assert answers.count(False) > len(cases) / 2
    for case, answer in zip(cases, answers, strict=True):
        found = code(*case)
        if answer:
            assert found is not ObjectCode.FORM or beyond(*case), case
        else:
            assert found is not None, case


LISTED = [
    ("dr-command+jwt", json.dumps(claims("dr-command+jwt", iat=float(NOW)))),
    ("dr-command+jwt", json.dumps(claims("dr-command+jwt", exp=NOW))),
    ("dr-command+jwt", json.dumps(claims("dr-command+jwt", exp=NOW + 49 * 3600))),
    ("dr-grant+jwt", json.dumps(claims("dr-grant+jwt", exp=NOW + 750 * 86_400))),
    ("dr-grant+jwt", json.dumps(claims("dr-grant+jwt", lim={"season": "02-30..04-15"}))),
    ("dr-grant+jwt", json.dumps(claims("dr-grant+jwt", lim={"windows": ["24:00-24:00"]}))),
    ("dr-grant+jwt", json.dumps(claims("dr-grant+jwt", lim={"min": 0})).replace(
        '"min": 0', f'"min": 0.{"0" * 30}1')),
    ("occupancy+jwt", json.dumps(claims("occupancy+jwt", to="2026-02-29T00:00:00Z"))),
    ("occupancy+jwt", json.dumps(claims("occupancy+jwt", ref="a\U0010fffe"))),
    ("occupancy+jwt", json.dumps(claims("occupancy+jwt"))[:-1] + ', "event": "correct"}'),
    (TYP, json.dumps(LIST | {"threshold": 2})),
    (TYP, json.dumps(LIST | {"keys": LIST["keys"] * 2})),
    (TYP, json.dumps(LIST | {"keys": [member("registry") | {"kid": "x"}]})),
]  # fmt: skip
"""one of each fault that the description of the schema lists"""


def test_each_limit_that_the_schema_cannot_state_is_one_of_those_that_it_lists():
    assert all(judged(LISTED))
    assert {code(*case) for case in LISTED} == {ObjectCode.FORM}


def test_the_header_and_the_signed_list_have_a_schema():
    people = Signers()
    head = base64.urlsafe_b64decode(people.grant("boiler_operator", "G1").split(b".")[0] + b"==")
    outer = people.trust().decode()
    cases = [
        ("#/$defs/header", head.decode()),
        ("#/$defs/header", head.decode().replace("EdDSA", "none")),
        ("#/$defs/signed-trust-list", outer),
        ("#/$defs/signed-trust-list", outer.replace('"signature"', '"signatur"')),
    ]
    assert verdicts(SCHEMA, cases) == [True, False, True, False]
