"""docs/authority.md describes the claims as the code reads them: its examples are taken at once."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent.control.orders import grant_of, order_of
from agent.registry.inputs import NewPlace
from agent.registry.place import OCCUPANCY, check_characters, parse
from agent.trust.claims import KINDS, Cmd, ConsentEvidence, GrantScope, Lim, Revoked, kind_of
from agent.trust.sign import Signer
from agent.trust.verify import Verified
from tests.unit.inbox.desk import DAY, Here
from tests.unit.trust.objects import DWELLING, NAMES, NOW, SIGNERS, checked

PAGE = (Path(__file__).parents[3] / "docs/authority.md").read_text(encoding="utf-8")
(CLAIMS,) = re.findall(r"## The claims of each object\n(.*?)\n## ", PAGE, re.DOTALL)
FACTS = ("occupancy+jwt", "consent+jwt", "duty+jwt")
CONTROLS = ("dr-grant+jwt", "dr-command+jwt", "dr-revoke+jwt")
EVERY = {"iss", "jti", "iat"}


def section(typ: str) -> str:
    (found,) = re.findall(rf"### `{re.escape(typ)}`\n(.*?)(?=\n### |\Z)", CLAIMS, re.DOTALL)
    return found


def examples(typ: str) -> list[dict]:
    return [json.loads(one) for one in re.findall(r"```json\n(.*?)```", section(typ), re.DOTALL)]


def signer(said: dict) -> Signer:
    (role,) = (role for role, name in NAMES.items() if name == said["iss"])
    return SIGNERS[role]


def signed(typ: str, said: dict) -> bytes:
    return signer(said).sign(typ, said)


def taken(typ: str) -> list[Verified]:
    """What `verify` makes of each example, for the gateway that they name."""
    return [checked(signed(typ, said)) for said in examples(typ)]


@pytest.fixture
def here(tmp_path):
    """A gateway at the moment of the examples, with the dwelling that they name."""
    assert examples("consent+jwt")[0]["iat"] == NOW
    made = Here(tmp_path).believed()
    place = NewPlace("A-1", "dwelling", DWELLING, NOW - 100 * DAY, occupied=False)
    made.registry.add_places([place], "gerant", "test", NOW)
    yield made
    made.close()


def test_the_examples_of_facts_are_taken_in_their_order(here):
    moved_in, moved_out = examples("occupancy+jwt")
    given, refused, withdrawn = examples("consent+jwt")
    duty, ended = examples("duty+jwt")

    def outcome(typ, said):
        return here.accept(signed(typ, said))["outcome"]

    assert outcome("occupancy+jwt", moved_in) == "move in"
    (home,) = here.registry.occupancies()
    assert (home.id, home.reference) == (moved_in["occ"], moved_in["ref"])
    assert outcome("consent+jwt", given) == "consent recorded"
    (consent,) = here.registry.consents()
    assert (consent.given, consent.withdrawn) == (given["given_at"], None)
    assert outcome("consent+jwt", refused) == "refused: 1 consent ends"
    assert here.registry.consents()[0].withdrawn is not None
    assert outcome("consent+jwt", withdrawn) == "withdrawn"
    assert [one.cause for one in here.registry.marks(home.id)] == ["refused", "withdrawn"]
    assert outcome("duty+jwt", duty) == "duty recorded"
    assert here.registry.duties()[0].billing == tuple(duty["billing"])
    assert outcome("duty+jwt", ended) == "ended"
    assert outcome("occupancy+jwt", moved_out) == "move out"


def test_the_examples_of_grants_orders_and_revocations_say_what_the_page_says():
    (verified,) = taken("dr-grant+jwt")
    grant = grant_of(verified, verified.model)
    assert (grant.to, grant.role) == (NAMES["grid_operator"], "residents_council")
    assert (grant.limits.duration, grant.limits.a_day) == (7200.0, 2)
    assert grant.limits.windows
    assert grant.limits.season
    order, cancel = taken("dr-command+jwt")
    made = order_of(order, order.model, "boiler-offset", NOW)
    assert (str(made.value), made.unit, made.duration) == ("-1.5", "K", 5400.0)
    assert cancel.model.gives_back
    assert cancel.model.cmd.ref == order.jti
    (revocation,) = taken("dr-revoke+jwt")
    assert revocation.model.rev[0].jti == grant.jti


def named(cells: str) -> set[str]:
    """The claims that a table describes, by the first cell of its lines."""
    lines = re.findall(r"^\| (.*?) \|", cells, re.MULTILINE)
    return {name for line in lines for name in re.findall(r"`([a-z_.]+)`", line)}


@pytest.mark.parametrize("typ", FACTS + CONTROLS)
def test_the_page_names_every_claim_that_the_code_reads_and_no_other(typ):
    model = kind_of(typ).model
    fields = {field.alias or name for name, field in model.model_fields.items()} - EVERY
    if typ in {"occupancy+jwt", "duty+jwt", "dr-revoke+jwt", "consent+jwt"}:
        fields -= {"aud"}  # the page says of all facts what an `aud` does
    if typ in {"occupancy+jwt", "duty+jwt", "dr-revoke+jwt"}:
        fields -= {"nbf", "exp"}  # they bound nothing there
    if typ == "dr-command+jwt":
        fields = (fields - {"cmd"}) | {f"cmd.{name}" for name in Cmd.model_fields}
    if typ == "dr-revoke+jwt":
        fields |= {"at", "reason"}
    assert named(section(typ)) == fields


@pytest.mark.parametrize(
    ("typ", "model"),
    [
        ("dr-grant+jwt", GrantScope),
        ("dr-grant+jwt", Lim),
        ("dr-grant+jwt", ConsentEvidence),
        ("dr-revoke+jwt", Revoked),
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_the_page_names_every_member_of_a_claim(typ, model):
    words = set(re.findall(r"`([a-z_0-9]+)`", section(typ)))
    assert words >= set(model.model_fields)


@pytest.mark.parametrize("typ", FACTS + CONTROLS)
def test_times_that_are_unix_seconds_are_never_text_and_the_others_never_numbers(typ):
    for said in examples(typ):
        inner = said | said.get("cmd", {})
        for name, value in inner.items():
            if name in {"iat", "nbf", "exp", "given_at", "withdrawn_at", "at"}:
                assert isinstance(value, int)
            if name in {"from", "to", "start"}:
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value)


def test_the_printed_program_makes_ids_that_are_taken(here):
    (code,) = re.findall(r"```python\n(.*?)```", CLAIMS, re.DOTALL)
    made = [
        subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
        for _ in range(5)
    ]
    ids = {one.stdout.strip() for one in made}
    assert len(ids) == len(made)
    assert {parse(one, OCCUPANCY) for one in ids} == ids
    said = examples("occupancy+jwt")[0] | {"occ": ids.pop()}
    assert here.accept(signed("occupancy+jwt", said))["outcome"] == "move in"
    assert check_characters("H84G7ZWYRD6Z1") == "1W"


def test_the_table_of_objects_names_every_kind():
    for typ in KINDS:
        assert f"`{typ}`" in PAGE
