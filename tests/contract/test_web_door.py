"""The web page at the door: its account, logins, roles; real accounts on the real socket."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent import local
from agent.api.calls import CALLS
from agent.api.logins import caller_of, checked_reason
from agent.api.registry import Caller
from agent.api.roles import (
    EVERY_ROLE,
    HELD,
    NEEDS,
    OF_ROOT,
    OF_SCRAPERS,
    OF_THE_PAGE,
    WITH_A_LOGIN,
    Role,
)
from agent.app import opened, visited
from agent.config import Config, load
from agent.core.clock import Clock
from agent.core.errors import Refused
from agent.core.state import daemon_answers
from tests.contract.test_roles import ACCOUNTS, CONFIG, GROUPS
from tests.contract.visiting import filled
from tests.waiting import until

OPENED = CONFIG + ('web: {{listen: ["127.0.0.1:8443"]}}\n' if "web" in Config.model_fields else "")
KEY = "00" * 32
PAGE = "gardien-web"
WORDS = {"key": KEY, "address": "192.168.1.20"}


def on_one_machine(folder, *steps):
    """As `visits` of test_roles, on a machine that has the page's account, in a role's group."""
    if os.geteuid():
        pytest.skip("only root may act as another account")
    config = folder / "config.yaml"
    (folder / "state").mkdir()
    text = OPENED.replace("reader: [paul]", "reader: [paul, gardien-web]")
    config.write_text(text.format(state=folder / "state"))
    accounts, groups = folder / "passwd", folder / "group"
    people = ACCOUNTS | {PAGE: 7020}
    accounts.write_text(
        "root:x:0:0:root:/root:/bin/sh\ngardien:x:7010:7010::/:/bin/false\n"
        + "".join(f"{name}:x:{uid}:100::/:/bin/sh\n" for name, uid in people.items())
    )
    groups.write_text(GROUPS.replace("7101:marie", "7101:marie,gardien-web"))
    mounted = 'mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/group && shift 2'
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", f'{mounted} && exec "$@"', "bash", accounts,
         groups, sys.executable, "-m", "tests.contract.visitors", config, groups],
        input=json.dumps(steps), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def written(folder):
    """The configuration of a gateway without lines, whose page is open."""
    (folder / "state").mkdir()
    config = folder / "config.yaml"
    config.write_text(OPENED.format(state=folder / "state"))
    return config


@pytest.fixture
def visits(tmp_path):
    """Ask as the page or as root, whose accounts the door has told: as the door does behind it."""
    config = written(tmp_path)

    async def answered(house, step):
        roles = EVERY_ROLE if step["as"] == "root" else frozenset()
        caller = Caller(step["as"], None, roles)
        try:
            who = caller_of(house, caller, step, for_others=True)
        except Refused as error:
            return json.loads("".join(local._pieces(local._refusal(error))))
        answer = await local.answer(house, step, who, for_others=True)
        return json.loads("".join(local._pieces(answer)))

    async def all_of_them(steps):
        found = []
        async with visited(config) as house:
            for step in steps:
                found.append(await answered(house, filled(step, found)))
        return found

    return lambda *steps: asyncio.run(all_of_them(steps))


def ask(who, which, login=None, **args):
    step = {"as": who, "call": which, "args": args}
    return step if login is None else step | {"login": login}


def person(name, *roles, first=0):
    """Steps in which root invites somebody, who chooses a password: answer `first + 1` logs in."""
    return (
        ask("root", "web.person.add", name=name, roles=list(roles), named="Eva"),
        ask(PAGE, "web.choose", code=f"${first}.code", **WORDS),
    )


def test_the_kernel_tells_who_is_the_page_and_only_it_and_root_may_bring_a_login(open_folder):
    """Whatever groups and roles the page's account has been given. Rules W1, W2."""
    asked = [call for call in CALLS if call not in OF_THE_PAGE]
    nobody = [ask(PAGE, call, login) for call in asked for login in (None, "forged")]
    answers = on_one_machine(
        open_folder,
        *person("Marie Dupont", "manager"),
        ask("marie", "status", "$1.login"),
        ask("jean", "status", "$1.login"),
        ask("dupont", "place.list") | {"reason": "out of curiosity"},
        ask("marie", "web.enter", name="Marie Dupont", **WORDS),
        ask("alice", "web.person.add", name="X", roles=["reader"]),
        ask(PAGE, "place.list", "$1.login"),
        ask("root", "place.list", "$1.login"),
        *nobody,
        ask(PAGE, "web.greet") | {"files": {"nix": 9}},
        ask(PAGE, "nix"),
        {"as": PAGE, "waits": 20},
        ask(PAGE, "web.greet"),
        ask("root", "web.greet"),
    )
    marie, jean, dupont, alone, alice, page, root, *refused, full, greeted = answers[2:]
    for answer in (marie, dupont):
        assert "may not act for people of the web page" in answer["refused"]
    assert "has no role" in jean["refused"]
    assert "only the web page's own account" in alone["refused"]
    assert "only root may do this" in alice["refused"]
    assert page["result"]["places"] == root["result"]["places"] == []
    assert all(answer.get("login") is False for answer in refused)
    assert {answer["refused"] for answer in refused} == {"your login has ended: log in again"}
    # so that commands are answered whatever the page does
    assert "16 other calls are being answered" in full["refused"]
    assert greeted["result"] == {
        "building": "Test", "zone": "Europe/Paris", "open": True, "setup_s": 0, "persons": True,
        "timezone": "Europe/Paris",
    }  # fmt: skip


def test_a_person_of_the_page_may_what_the_roles_of_the_command_line_may(visits):
    """With an argument that no call takes. Rule W2."""
    roles = list(Role)
    logins = [step for n, role in enumerate(roles) for step in person(role, role, first=2 * n)]
    asked = [
        (n, which, who)
        for n, _ in enumerate(roles)
        for which in (*NEEDS, *OF_ROOT, *WITH_A_LOGIN)
        for who in (PAGE, "root")
    ]
    answers = visits(*logins, *(ask(who, which, f"${2 * n + 1}.login", nix=1)
                                for n, which, who in asked))[len(logins):]  # fmt: skip
    may = {
        (roles[n], which, who)
        for (n, which, who), answer in zip(asked, answers, strict=True)
        if "no argument `nix`" in answer["refused"]
    }
    assert may == {
        (roles[n], which, who)
        for n, which, who in asked
        if which in WITH_A_LOGIN or (which in NEEDS and roles[n] in HELD[NEEDS[which]])
    }
    refusals = [answer["refused"] for answer in answers if "web person add" in answer["refused"]]
    assert any(
        "reader (web) may not do this. These roles may: installer. An administrator can give one:"
        " sudo gardien web person add NAME --role installer" in refusal
        for refusal in refusals
    )


def test_nobody_at_the_page_gives_roles_not_even_who_has_all(visits):
    """Rule W2."""
    *_, away, root = visits(
        *person("Marie Dupont", *Role),
        ask(PAGE, "web.person.add", "$1.login", name="X", roles=["reader"], named="Eva"),
        ask("root", "web.person.add", "$1.login", name="X", roles=["reader"], named="Eva"),
    )
    for answer in (away, root):
        assert "only root may do this" in answer["refused"]


def test_roles_and_persons_change_at_once_for_who_is_logged_in(visits):
    """Rules W1, W2."""
    *_, before, _, after, _, again, _, gone = visits(
        *person("Marie Dupont", "manager"),
        ask(PAGE, "occupancy.list", "$1.login"),
        ask("root", "web.person.add", name="marie DUPONT", roles=["reader"], named="Eva"),
        ask(PAGE, "occupancy.list", "$1.login"),
        ask(PAGE, "web.choose", code="$3.code", **WORDS),
        ask(PAGE, "occupancy.list", "$5.login"),
        ask("root", "web.person.remove", name="Marie Dupont", named="Eva"),
        ask(PAGE, "status", "$5.login"),
    )
    assert before["result"]["occupancies"] == []
    assert after["login"] is False
    assert "Marie Dupont (web) may not do this" in again["refused"]
    assert gone["login"] is False


def test_the_records_have_the_name_of_the_login_whatever_name_is_given(visits):
    """Rule W6."""
    *_, made, listed, audited = visits(
        *person("Marie Dupont", "manager", "dpo"),
        ask(PAGE, "place.new", "$1.login", label="A-1", type="dwelling", named="Eva"),
        ask(PAGE, "place.list", "$1.login"),
        ask(PAGE, "audit.list", "$1.login"),
    )
    assert "result" in made
    assert "Marie Dupont (web)" in json.dumps(listed, ensure_ascii=False)
    assert "Eva (Marie" not in json.dumps([made, listed, audited])
    records = {one["type"]: one["body"] for one in audited["result"]["records"]}
    assert records["page.person_added"] == {
        "person": "Marie Dupont", "roles": ["manager", "dpo"], "by": "Eva (root)",
    }  # fmt: skip
    assert records["page.entered"]["person"] == "Marie Dupont"


def test_a_scraper_gets_numbers_and_nothing_else(visits):
    _, me, *others, _, gone = visits(
        ask("root", "web.token", name="prometheus", named="Eva"),
        ask(PAGE, "web.me", "$0.login"),
        *(ask(PAGE, call, "$0.login") for call in CALLS if call not in OF_SCRAPERS | OF_THE_PAGE),
        ask("root", "web.person.remove", name="prometheus", named="Eva"),
        ask(PAGE, "web.me", "$0.login"),
    )
    assert me["result"]["scraper"] is True
    assert me["result"]["roles"] == []
    assert {answer["refused"] for answer in others} == {
        "nothing was done: a token for numbers opens nothing else"
    }
    assert gone["login"] is False


def test_a_name_that_could_be_an_accounts_is_no_persons(visits):
    """Rule W6."""
    answers = visits(
        *(ask("root", "web.person.add", name=name, roles=["reader"], named="Eva")
          for name in ("root", "Gardien", "Eva (root)", "", "x" * 300, "a\nb")),
        ask("root", "web.person.add", name="Marie", roles=["nix"], named="Eva"),
        ask("root", "web.person.add", name="Marie", roles=[], named="Eva"),
        ask("root", "web.person.add", name="Marie", roles=["reader"]),
        ask("root", "web.open", named="Eva"),
    )  # fmt: skip
    assert all("refused" in answer for answer in answers)
    assert "give your name" in answers[-2]["refused"]
    assert "gardien is not running" in answers[-1]["refused"]


@pytest.mark.parametrize("key", ["", "zz", "00", "00" * 33, "é" * 64])
def test_a_key_of_another_form_is_refused(visits, key):
    (answer,) = visits(ask(PAGE, "web.enter", name="Marie", key=key, address="::1"))
    assert "32 bytes" in answer["refused"]


@pytest.mark.parametrize(
    "members", [{"login": 5}, {"login": ["x"]}, {"login": "x", "reason": {}}, {"reason": 5}]
)
def test_a_login_of_another_form_is_refused(visits, members):
    (answer,) = visits(ask(PAGE, "status") | members)
    assert "must be texts" in answer["refused"]


# -- the daemon itself


def knock(state: Path, request: dict) -> dict:
    """What the daemon answers to one request."""
    with socket.socket(socket.AF_UNIX) as knocked:
        knocked.settimeout(30)
        knocked.connect(str(state / "gardien.sock"))
        lines = knocked.makefile("rb")
        assert "here" in json.loads(lines.readline())
        knocked.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(lines.readline())


def test_an_installer_sets_up_the_real_daemon_and_a_restart_ends_the_login(open_folder):
    """Rules W1, W3."""
    config, state = open_folder / "config.yaml", open_folder / "state"
    config.write_text(OPENED.format(state=state).replace(', operator: ["%chauffage"]', ""))

    def start() -> subprocess.Popen:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("gardien"), "run", "-c", config],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        asyncio.run(until(lambda: asyncio.to_thread(daemon_answers, state)))
        return process

    def ended(process: subprocess.Popen) -> None:
        process.terminate()
        process.wait(20)

    process = start()
    try:
        opened = local.ask_daemon(state, "web.open", {"minutes": 15, "named": "Eva"}, print)
        assert knock(state, {"call": "web.greet"})["result"]["setup_s"] > 890
        wrong = knock(state, {"call": "web.code", "args": {"code": "ZZZZ-ZZZZ", "name": "Jean",
                                                           "address": "::1"}})  # fmt: skip
        assert "code is wrong" in wrong["refused"]
        words = {"code": opened["code"].lower(), "name": "Jean", "address": "::1"}
        entered = knock(state, {"call": "web.code", "args": words})["result"]
        assert (entered["roles"], entered["setup"]) == (["installer"], True)
        login = {"login": entered["login"]}
        me = knock(state, {"call": "web.me"} | login)["result"]
        assert (me["name"], me["setup"], me["until"]) == ("Jean", True, entered["until"])
        made = knock(state, {"call": "place.new", "args": {"label": "A-1", "type": "dwelling"}}
                     | login)  # fmt: skip
        assert "result" in made
        status = knock(state, {"call": "status"} | login)["result"]
        (finding,) = [one for one in status["events"] if one["code"] == "page-setup"]
        assert finding["severity"] == "note"
        knock(state, {"call": "web.leave"} | login)
        assert knock(state, {"call": "web.me"} | login)["login"] is False
        login = {"login": knock(state, {"call": "web.code", "args": words})["result"]["login"]}
        assert "result" in knock(state, {"call": "web.me"} | login)
        ended(process)
        process = start()
        assert knock(state, {"call": "web.me"} | login)["login"] is False
        assert "code is wrong" in knock(state, {"call": "web.code", "args": words})["refused"]
    finally:
        ended(process)


def test_the_state_says_that_the_page_admits_and_that_somebody_must_wait_and_names_nobody(visits):
    """Rules P24, W3."""
    *_, status, listed = visits(
        *person("Marie Dupont", "manager"),
        *(ask(PAGE, "web.enter", name="Marie Dupont", key="11" * 32, address="10.0.0.1")
          for _ in range(5)),
        ask("root", "status"),
        ask("root", "web.person.list"),
    )  # fmt: skip
    (finding,) = [one for one in status["result"]["events"] if one["code"] == "page-locked"]
    assert finding["severity"] == "later"
    assert finding["private"]
    assert finding["until"]
    assert "Marie" not in json.dumps(status)
    (marie,) = listed["result"]["persons"]
    assert marie["name"] == "Marie Dupont"
    assert marie["locked_until"] == finding["until"]
    assert (marie["password"], marie["invited_until"], marie["logins"]) == (True, None, 1)


def test_a_step_of_the_clock_neither_ends_nor_lengthens_a_login(tmp_path):
    """Rule W1."""
    wall, steady = 1_790_000_000.0, 5_000.0
    clock = Clock("system", None, lambda: wall, lambda: steady)
    with opened(load(written(tmp_path)), clock) as house:
        code, _ = house.page.open_window(900)
        setup = house.page.enter_setup(code, "Jean", "::1")
        invitation, _ = house.page.invite("Marie", ("reader",), "Eva (root)", int(wall))
        login, _ = house.page.choose(invitation, bytes(32), "::1", wall)
        for wall in (0.0, 4e9):  # noqa: B007 -- the clock reads it
            assert house.page.use(setup, counts=False)
            assert house.page.use(login, counts=False)
        steady += 900
        assert house.page.use(setup) is None
        steady += 901
        assert house.page.use(login) is None


def test_nobody_may_call_for_the_page_while_the_configuration_does_not_open_it(tmp_path):
    async def scenario() -> None:
        async with visited(written(tmp_path)) as house:
            house.config = house.config.model_copy(update={"web": None})
            code, _ = house.page.open_window(900)
            page = Caller(PAGE, None, frozenset())
            for which in sorted(OF_THE_PAGE - {"web.greet"}):
                with pytest.raises(Refused, match="the web page is closed"):
                    caller_of(house, page, {"call": which}, for_others=True)
            token = house.page.enter_setup(code, "Jean", "::1")
            with pytest.raises(Refused, match="the web page is closed"):
                caller_of(house, page, {"call": "status", "login": token}, for_others=True)
            greeted = await local.answer(house, {"call": "web.greet"}, page, for_others=True)
            assert greeted["result"]["open"] is False
            assert greeted["result"]["setup_s"] == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("une fuite est signalée", "une fuite est signalée"),
        ("  a  leak\nis\treported ", "a leak is reported"),
        ("abcd", ""), ("     ", ""), ("x" * 201, ""), ("leak\x1b[31m here", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_reason_is_a_line_of_5_to_200_characters(given, kept):
    """Rule W4."""
    assert checked_reason(given) == kept
