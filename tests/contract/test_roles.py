"""Who may ask what at the door: real accounts and groups of a machine, on the real socket."""

import asyncio
import json
import os
import pwd
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent import local
from agent.api import control as control_api
from agent.api.calls import CALLS
from agent.api.diagnosis import machine
from agent.api.registry import Caller
from agent.api.roles import (
    EVERY_ROLE,
    HELD,
    NEEDS,
    OF_ROOT,
    OF_THE_PAGE,
    WITH_A_LOGIN,
    Right,
    Role,
    see_that_it_may,
)
from agent.app import visited
from agent.cli import command_line, control, trust
from agent.config.models import Building
from agent.control.model import Acceptance
from agent.core.errors import Refused
from agent.core.state import acting_as
from agent.registry import identity
from agent.registry.access_log import EVERYBODY, AccessLog
from agent.trust.audit import Chain
from tests.contract.control.test_orders import Bench

TOP = Path(__file__).parents[2]
CONFIG = """\
building:
  name: Test
  shared_accounts: [omar]
  roles: {{reader: [paul], operator: ["%chauffage"]}}
clock: {{source: system}}
state: {state}
"""
ACCOUNTS = {"marie": 7001, "alice": 7002, "omar": 7003, "dupont": 7004, "paul": 7005, "jean": 7006}
GROUPS = (
    "root:x:0:\ngardien-installer:x:7101:marie\ngardien-manager:x:7102:alice\n"
    "chauffage:x:7103:omar\ngardien-dpo:x:7104:dupont\nusers:x:100:jean\n"
)
ROLES = {"marie": "installer", "alice": "manager", "omar": "operator", "dupont": "dpo",
         "paul": "reader"}  # fmt: skip

OF_ALL = {"status", "metrics", "uplink.list", "clock.show", "key.show", "trust.show"}
SEEN = {"control.list", "control.history", "control.grants", "object.list"}
PEOPLE = {"occupancy.list", "consent.list", "consent.marks", "privacy.explain", "privacy.access"}
MOVES = {"occupancy.move_in", "occupancy.move_out", "occupancy.correct", "occupancy.import"}
STOPS = {"consent.withdraw", "privacy.person"}
PLANT = {"control.release", "control.hand_back", "control.abandon", "control.opt_out",
         "control.opt_in"}  # fmt: skip
KEYS = {"key.csr", "key.install", "key.enroll", "key.renew", "key.rotate", "trust.accept"}
LINES = {"reload", "scan", "line.find", "configuration", "uplink.retry", "clock.reset"}
METERS = {"meter.assign", "meter.exchange", "meter.remove", "meter.import", "meter.verify",
          "meter.correct"}  # fmt: skip
MAY = {
    "marie": OF_ALL | SEEN | KEYS | LINES | METERS | {"uplink.close", "place.new", "control.test"},
    "alice": OF_ALL | SEEN | PEOPLE | MOVES | STOPS | {"consent.give", "place.new", "backup"},
    "omar": OF_ALL | SEEN | PLANT | {"control.test", "control.dry_run", "read"},
    "dupont": OF_ALL | SEEN | PEOPLE | STOPS | {"uplink.close", "backup"},
    "paul": OF_ALL,
}
MAY_NOT = {
    "marie": PEOPLE | MOVES | STOPS | PLANT | {"consent.give", "backup"},
    "alice": KEYS | LINES | METERS | PLANT | {"control.test", "read"},
    "omar": PEOPLE | MOVES | STOPS | KEYS | LINES | METERS | {"place.list", "meter.list"},
    "dupont": MOVES | KEYS | LINES | METERS | PLANT | {"consent.give", "control.test", "read"},
    "paul": (SEEN | PEOPLE | MOVES | STOPS | KEYS | LINES | METERS | PLANT)
    | {"place.list", "meter.list", "read", "backup", "object.accept"},
}


@pytest.fixture
def visits(open_folder):
    """Ask as several accounts of a machine that has these, and these groups."""
    if os.geteuid():
        pytest.skip("only root may act as another account")
    config = open_folder / "config.yaml"
    (open_folder / "state").mkdir()
    config.write_text(CONFIG.format(state=open_folder / "state"))
    accounts, groups = open_folder / "passwd", open_folder / "group"
    accounts.write_text(
        "root:x:0:0:root:/root:/bin/sh\ngardien:x:7010:7010::/:/bin/false\n"
        + "".join(f"{name}:x:{uid}:100::/:/bin/sh\n" for name, uid in ACCOUNTS.items())
    )

    def made(*steps, groups_of=GROUPS):
        groups.write_text(groups_of)
        mounted = 'mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/group && shift 2'
        done = subprocess.run(
            ["unshare", "--mount", "bash", "-c", f'{mounted} && exec "$@"', "bash", accounts,
             groups, sys.executable, "-m", "tests.contract.visitors", config, groups],
            input=json.dumps(steps), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return made


def ask(who, call, **args):
    return {"as": who, "call": call, "args": args}


def turned_away(answer):
    """Whether an account was refused for what it is, before its words were looked at."""
    return " role" in answer["refused"]


def test_each_call_needs_one_right_and_each_right_is_held_and_needed():
    """Rule U12."""
    others = [OF_THE_PAGE, WITH_A_LOGIN, OF_ROOT]
    assert NEEDS.keys() | frozenset().union(*others) == CALLS.keys()
    assert len(NEEDS) + sum(map(len, others)) == len(CALLS)
    assert HELD.keys() == set(Right) == set(NEEDS.values())
    assert all(HELD.values())
    for role in Role:  # nobody but root may do everything
        assert {right for right, roles in HELD.items() if role in roles} < set(Right)


def test_each_call_is_named_by_the_command_that_makes_it():
    def commands(command, words=()):
        for name, one in getattr(command, "commands", {}).items():
            yield " ".join((*words, name))
            yield from commands(one, (*words, name))

    known = set(commands(command_line()))
    for call in NEEDS:
        with pytest.raises(Refused) as refused:
            see_that_it_may("paul", frozenset({"nothing"}), call)
        assert refused.value.text.values["command"] in known


def test_the_manual_names_each_role_and_the_package_makes_its_group():
    page = (TOP / "docs/install.md").read_text()
    groups = (TOP / "packaging/debian/gardien.sysusers").read_text()
    for role in Role:
        assert f"| `{role.group}` |" in page
        assert f"g {role.group} -" in groups


def test_each_role_may_do_what_is_its_own_and_nothing_else(visits):
    """With an argument that no call takes: who may is refused for that one. Rule U12."""
    asked = [(who, call) for who in (*ROLES, "root", "jean") for call in NEEDS]
    answers = visits(*(ask(who, call, nix=1) for who, call in asked))
    away = {pair for pair, answer in zip(asked, answers, strict=True) if turned_away(answer)}
    for who in ROLES:
        assert {call for call in MAY[who] if (who, call) in away} == set()
        assert {call for call in MAY_NOT[who] if (who, call) not in away} == set()
    assert away == {
        (who, call)
        for who, call in asked
        if who != "root" and ROLES.get(who) not in HELD[NEEDS[call]]
    }


def test_who_is_turned_away_hears_which_role_may_and_how_to_get_it(visits, monkeypatch):
    paul, jean, many = visits(
        ask("paul", "control.opt_out", name="x"), ask("jean", "status"), ask("paul", "meter.list")
    )
    assert 'the account "paul" may not run `gardien control opt-out`' in paul["refused"]
    assert "These roles may: operator (group gardien-operator)" in paul["refused"]
    assert "sudo adduser paul gardien-operator" in paul["refused"]
    assert "installer (group gardien-installer), manager" in many["refused"]
    assert "sudo adduser paul gardien-dpo" in many["refused"]  # it has the fewest rights of them
    assert "sudo adduser jean gardien-reader" in jean["refused"]
    monkeypatch.setenv("LANGUAGE", "fr")
    for answer, words in (
        (paul, "peuvent : exploitant "),
        (many, r"peuvent : installateur .*, gestionnaire .*, délégué "),
        (jean, "n'a aucun rôle"),
    ):
        with pytest.raises(Refused) as refused:
            local._answer([json.dumps(answer).encode()], print)
        assert re.search(words, refused.value.text.in_language())


def run(who, *words):
    return {"as": who, "run": words}


def test_each_role_follows_the_chain_through_the_agent_and_a_dpo_reads_it(visits, open_folder):
    chain = Chain(open_folder / "state", lambda: 1.8e9)
    chain.append("consent.given", {"by": "alice"})
    last = chain.append("consent.withdrawn", {"by": "alice"})
    verified = [run(who, "audit", "verify", "--hash", last) for who in (*ROLES, "jean")]
    listed = [
        run(who, "audit", "list", "--kind", "consent", "--json") for who in ("dupont", "omar")
    ]
    *roles, nobody, dpo, operator = visits(*verified, *listed)
    assert [(one["code"], one["err"]) for one in roles] == [(0, "")] * len(ROLES)
    assert last in roles[0]["out"]
    assert (nobody["code"], "has no role" in nobody["err"]) == (1, True)
    types = [one["type"] for one in json.loads(dpo["out"])["records"]]
    assert types == ["consent.given", "consent.withdrawn"]
    assert (operator["code"], "may not run `gardien audit list`" in operator["err"]) == (1, True)


def test_what_an_account_may_not_read_is_no_finding_of_the_doctor(visits, open_folder):
    state = open_folder / "state"
    identity.mint(state)
    (state / "identity.pem").touch(0o600)
    (open_folder / "etc").mkdir(mode=0o700)
    closed = (open_folder / "config.yaml").rename(open_folder / "etc" / "config.yaml")
    (open_folder / "config.yaml").write_text(closed.read_text())
    doctor = ("doctor", "--json", "--state", str(state))
    answers = visits(run("alice", *doctor), run("alice", *doctor, "-c", str(closed)))
    assert [answer["err"] for answer in answers] == ["", ""]
    found = [one for answer in answers for one in json.loads(answer["out"])]
    for what in ("keys", "certificate", "configuration"):
        own = [one["said"] for one in found if one["what"] == what and one["fine"] is None]
        assert any("sudo gardien doctor" in said for said in own), what


def test_without_an_agent_the_chain_is_for_root_and_the_command_says_so(open_folder):
    if os.geteuid():
        pytest.skip("only root may act as another account")
    state = open_folder / "state"
    Chain(state, lambda: 1.8e9)
    chain = {"config": open_folder / "config.yaml", "state": state}
    for mode, words in ((0o755, "is not running: sudo gardien audit"), (0o700, "systemctl start")):
        state.chmod(mode)
        with acting_as(pwd.getpwnam("nobody")), pytest.raises(Refused, match=words):
            trust.verify(**chain)


def test_what_the_journal_knows_is_given_back_by_root_and_nobody_is_told_that_it_is_unreadable(
    open_folder,
):
    if os.geteuid():
        pytest.skip("only root may act as another account")
    for mode in (0o755, 0o700):
        open_folder.chmod(mode)
        with (
            acting_as(pwd.getpwnam("nobody")),
            pytest.raises(Refused, match="sudo gardien control release --all"),
        ):
            control.release(every=True, state=open_folder)


def test_lists_speak_the_readers_language(visits, open_folder, monkeypatch):
    AccessLog(open_folder / "state" / "looks.jsonl", 0).note(
        "eva", "privacy.person", EVERYBODY, 1.8e9
    )
    monkeypatch.setenv("LANGUAGE", "fr")
    lists = ("place list", "meter list", "duty list", "privacy disclosures", "privacy access")
    answers = visits(*(run("dupont", *words.split()) for words in lists))
    heads = ("désignation", "n° de série", "gestionnaire", "destinataire", "lettre sur les données")
    assert [words in one["out"] for words, one in zip(heads, answers, strict=True)] == [True] * 5


def test_accounts_without_a_role_take_no_place_from_others(visits):
    waiting = {"as": "jean", "waits": 3 * local.MOST_VISITORS}
    (answer,) = visits(waiting, ask("paul", "status"))
    assert answer["result"]["building"] == "Test"


def test_an_upgrade_locks_nobody_out_and_each_role_that_is_given_leaves_the_old_group(visits):
    before = "users:x:100:\ngardien-admin:x:7100:marie\n"  # paul is a reader by the configuration
    given = f"{before}gardien-operator:x:7103:omar\n"
    calls = ("consent.give", "control.opt_out", "key.rotate")

    def asked(who):
        return [ask(who, call, nix=1) for call in calls]

    steps = (*asked("marie"), *asked("omar"), {"groups": given}, *asked("marie"), *asked("omar"))
    answers = [turned_away(one) for one in visits(*steps, groups_of=before)]
    assert answers[:6] == [False, False, False, True, True, True]
    assert answers[6:] == [False, True, False, True, False, True]  # at once: nobody logs in anew


def test_an_account_of_several_people_acts_in_the_name_of_one(visits):
    """Rule U13."""
    stop = ("control.opt_out", {"name": "x"})
    asked = [
        (who, more)
        for who in ("root", "gardien", "omar")
        for more in ({}, {"named": "root"}, {"named": "Eva"})
    ]
    groups = GROUPS + "gardien-operator:x:7105:gardien\n"
    answers = visits(*(ask(who, stop[0], **stop[1], **more) for who, more in asked),
                     groups_of=groups)  # fmt: skip
    for answer, (_, more) in zip(answers, asked, strict=True):
        unnamed = "give your name with --as" in answer["refused"]
        assert unnamed == (more != {"named": "Eva"}), answer


async def nobody(_):
    pass


@pytest.mark.parametrize(
    ("call", "words", "kind"),
    [
        ("opt_out", {"reason": "a baby"}, "control.opted_out"),
        ("opt_in", {}, "control.opted_in"),
        ("release", {}, "control.released"),
    ],
)
def test_the_record_of_a_stop_names_the_person_and_the_account(call, words, kind):
    bench, records = Bench(), []
    bench.site.controller.dependencies.audit = lambda *record: records.append(record)
    building = SimpleNamespace(shared_accounts=("installer",))
    house = SimpleNamespace(
        steering=SimpleNamespace(controller=bench.site.controller, config=None), reload=print,
        config=SimpleNamespace(building=building, controls={}),
    )  # fmt: skip

    def asked(who, **more):
        made = control_api.CALLS[f"control.{call}"]
        return asyncio.run(made(house, Caller(who, nobody), name="boiler-offset", **words, **more))

    for who in ("root", "installer"):
        with pytest.raises(Refused, match="give your name"):
            asked(who)
    asked("root", named="Eva")
    asked("omar")
    assert [body["by"] for one, body in records if one == kind] == ["Eva (root)", "omar"]
    bench.close()


def test_a_reader_sees_that_somebody_opted_out_and_not_in_whose_words(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(state=tmp_path))

    async def shown(bench):
        async with visited(config) as house:
            house.steering = SimpleNamespace(
                controller=bench.site.controller, writer=SimpleNamespace(failing=""), holds=list
            )
            words = {"name": "boiler-offset", "reason": "the baby of A-3-12 is ill"}
            (control,) = bench.site.controller.controls.values()
            signed = Acceptance("f" * 64, "Marc Durand", "2026-10-01", 0.0, "Eva (omar)")
            await bench.site.controller.accept(control, signed)
            await control_api.CALLS["control.opt_out"](
                house, Caller("omar", nobody), named="Eva", **words
            )
            askers = [Caller("paul", nobody, frozenset({role})) for role in ("operator", "reader")]
            found = [await CALLS["status"](house, asker) for asker in askers]
            house.steering = None
            return [one["controls"]["boiler-offset"] for one in found]

    bench = Bench()
    operator, reader = asyncio.run(shown(bench))
    bench.close()
    assert "Eva (omar) has opted out: the baby of A-3-12 is ill" in operator["opted_out"]
    assert (bool(operator["guards"]), bool(reader["guards"])) == (True, False)
    assert (operator["sheet"]["latest"]["by"], reader["sheet"]) == ("Marc Durand", None)
    assert (reader["opted_out"], reader["forbidden"]) == ("opted out", "forbidden now")


def doctor(monkeypatch, groups, **roles):
    """What the doctor says of these groups and their members, and of a configuration."""
    entries = {
        name: SimpleNamespace(gr_gid=9000 + number, gr_mem=members)
        for number, (name, members) in enumerate(groups.items())
    }
    monkeypatch.setattr("grp.getgrnam", lambda name: entries[name])
    found = machine.roles(Building(name="Test", roles=roles))
    return [(one.fine, one.text) for one in found]


def test_the_doctor_says_who_has_which_role_and_warns_of_the_old_group(monkeypatch):
    ((fine, said),) = doctor(monkeypatch, {})
    assert fine
    assert "only root has a role" in said
    groups = {"gardien-admin": ["marie"], "gardien-operator": ["omar"]}
    (_, said), (missing, who), (fine, remedy) = doctor(monkeypatch, groups, reader=["no-such"])
    assert "operator: omar (gardien-operator)" in said
    assert "installer: marie (gardien-admin)" in said
    assert "reader: no-such (building.roles)" in said
    assert (missing, "no-such" in who) == (False, True)
    assert fine is False
    assert "(installer, manager, dpo)" in remedy
    assert "sudo deluser NAME gardien-admin" in remedy
    every = {f"gardien-{role}": ["marie"] for role in EVERY_ROLE}
    *_, (fine, remedy) = doctor(monkeypatch, every | {"gardien-admin": ["marie"]})
    assert (fine, "sudo delgroup gardien-admin" in remedy) == (False, True)
