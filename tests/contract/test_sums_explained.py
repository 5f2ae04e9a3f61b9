"""What people are told of sums over dwellings: `gardien privacy explain`, and the letter."""

import asyncio
import json
import re
import time
from contextlib import asynccontextmanager

import pytest

from agent.acquisition import sums
from agent.api import privacy
from agent.api.dossier import NOT_READ, OWN_METER, STAYS
from agent.api.registry import Caller
from agent.app import visited
from agent.gateway.gateway import policy_of
from agent.registry.inputs import NewConsent, NewInstallation, NewPlace
from agent.registry.place import shown

WHOLE = "B6ASQZ1Y2KSAA3Y"
US = "centre.example"
ME = Caller("marie", lambda _: asyncio.sleep(0))
CONFIG = """\
building: {{name: Les Alpins, place: {whole}}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: 9}}
devices:
{devices}
  whole:
    link: riser
    address: 200
    place: {whole}
    points: {{energy: {{at: "input/72/float32", channel: heat, unit: kWh}}}}
uplinks:
  centre:
    {{recipient: {us}, transport: mqtt, url: "mqtt://127.0.0.1:9", sums: [elec.imp, heat, cw]}}
privacy: {{policy: FR-1, common: {{basis: AG du 12 mai, from: 2026-01-01}}}}
clock: {{source: system}}
state: {state}
"""


@asynccontextmanager
async def house(folder, dwellings):
    devices = "\n".join(
        f"  m-{n}: {{link: riser, address: {n + 1}, profile: eastron-sdm120, every: 15min}}"
        for n in range(dwellings)
    )
    path, state = folder / "config.yaml", folder / "state"
    state.mkdir(exist_ok=True)
    path.write_text(CONFIG.format(whole=WHOLE, us=US, devices=devices, state=state))
    async with visited(path) as found:
        now = time.time()
        since = int(now) - 40 * 86_400
        rows = [NewPlace(f"A-{n}", "dwelling", since=since) for n in range(dwellings)]
        found.registry.add_places(rows, "me", "a test", now)
        meters = [
            NewInstallation(f"A-{n}", device=f"m-{n}", serial=f"9{n}", since=since)
            for n in range(dwellings)
        ]
        found.registry.install(meters, "me", "a test", now)
        yield found


def told(folder, dwellings, change=lambda _: None, **asked):
    async def life():
        async with house(folder, dwellings) as found:
            change(found)
            said = await privacy.privacy_explain(found, ME, **asked)
            letter = await privacy.privacy_person(found, ME, place="A-0", language="en")
            return said, letter

    return asyncio.run(life())


def of(said, channel):
    return next(one for one in said["sums"] if one["channel"] == channel)


def test_a_sum_is_named_with_who_is_in_it_and_how_many_count(tmp_path):
    said, letter = told(tmp_path, 12)
    one = of(said, "elec.imp")
    assert (one["recipient"], one["step"], one["counts"]) == (US, 1800, 12)
    assert one["members"] == 12
    assert "What counts in a sum" in letter["letter"]
    assert "one of 12 dwellings in a sum" in letter["csv"]


def test_why_there_is_none(tmp_path):
    """Rule S11."""
    said, letter = told(tmp_path, 3)
    assert of(said, "heat")["why"] == OWN_METER
    assert of(said, "cw")["why"] == NOT_READ
    one = of(said, "elec.imp")
    assert (one["why"], one["members"], one["step"]) == (
        "there are fewer than 11 dwellings",
        0,
        None,
    )
    assert "What counts in a sum" not in letter["letter"]


def test_who_is_sent_alone_is_not_in_it_and_too_few_are_not_sent(tmp_path):
    def agree(found):
        rows = [
            NewConsent(f"A-{n}", US, ("elec.imp",), 86_400, "advice", since=int(time.time()) - 9)
            for n in range(2)
        ]
        found.registry.consent(rows, "me", "a test", time.time(), policy_of(found.config))

    said, letter = told(tmp_path, 12, agree)
    one = of(said, "elec.imp")
    assert (one["counts"], one["step"]) == (10, None)
    assert "10 of these dwellings count, fewer than 11" in one["why"]
    assert one["members"] == 10
    assert "What counts in a sum" not in letter["letter"]


def test_the_group_of_the_month_is_the_one_on_the_disk(tmp_path):
    def fix(found):
        members = [one.id for one in found.registry.places() if one.label != "A-11"]
        now = int(time.time())
        said = {"elec.imp": [[now - 86_400, now + 86_400, members]]}
        sums.groups_file(found.config.state, US).write_text(json.dumps(said))

    said, _ = told(tmp_path, 12, fix)
    assert of(said, "elec.imp")["members"] == 11


@pytest.mark.parametrize("held", [False, True])
def test_a_total_of_the_building_that_stays_for_good_is_said_to(tmp_path, held):
    def hold(found):
        words = json.dumps({f"{WHOLE}/heat": "held" if held else "sent"})
        sums.totals_file(found.config.state, US).write_text(words)

    said, _ = told(tmp_path, 12, hold)
    (row,) = [row for row in said["rows"] if row["device"] == "whole"]
    assert row["leaves"] != held
    assert (row["why"] == STAYS) == held


def test_a_total_of_few_dwellings_stays(tmp_path):
    said, _ = told(tmp_path, 3)
    (row,) = [row for row in said["rows"] if row["device"] == "whole"]
    assert not row["leaves"]
    assert "too few of the dwellings" in row["why"]


def test_who_asks_of_one_dwelling_is_told_how_many_others_count_and_not_which(tmp_path):
    said, _ = told(tmp_path, 12, place="A-0")
    one = of(said, "elec.imp")
    assert (one["dwellings"], one["counts"]) == (12, 12)
    assert "A-3" not in json.dumps(said)


def test_no_answer_about_one_dwelling_names_another(tmp_path):
    """Rules P22, P28."""

    async def life():
        async with house(tmp_path, 12) as found:
            others = [one for one in found.registry.places() if one.label not in {"A-0", "whole"}]
            homes = [found.registry.occupancies_of(one.id)[0].id for one in others]
            names = [*(one.label for one in others), *(one.id for one in others), *homes]
            names += [shown(one) for one in names[11:]] + [f"m-{n}" for n in range(1, 12)]
            row = NewConsent("A-3", US, ("elec.imp",), 86_400, "advice", since=int(time.time()) - 9)
            by = ("me", "a test", time.time(), policy_of(found.config))
            found.registry.consent([row], *by)
            found.access_log.note("alice", "read", others[3].id, time.time())
            asked = [
                await privacy.privacy_explain(found, ME, place="A-0"),
                await privacy.privacy_disclosures(found, ME, place="A-0"),
                await privacy.privacy_access(found, ME, place="A-0"),
                await privacy.privacy_person(found, ME, place="A-0"),
            ]
            whole = await privacy.privacy_explain(found, ME)
            return names, json.dumps(asked), json.dumps(whole["sums"])

    names, text, sums_text = asyncio.run(life())
    assert len(names) == 11 * 6
    assert [name for name in names if re.search(rf"\b{name}\b", text + sums_text)] == []
