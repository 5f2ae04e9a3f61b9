"""Occupied, vacant, unknown: three words, said alike wherever a dwelling is named."""

import asyncio
import json
import time

import pytest

from agent.api.calls import CALLS, NOBODY, status
from agent.app import visited
from agent.core.errors import Refused
from agent.registry.consent_policy import steps_wanted
from agent.registry.inputs import NewConsent, NewPlace
from agent.registry.registry import Registry
from tests.command import gardien
from tests.unit.registry.building import FR, HEAT

DAY = 86_400
CONFIG = """\
building: {{name: Les Alpins}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: 9}}
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120, every: 15min}}
  m-2: {{link: riser, address: 2, profile: eastron-sdm120, every: 15min}}
  m-3: {{link: riser, address: 3, profile: eastron-sdm120, every: 15min}}
uplinks:
  centre: {{recipient: centre.example, transport: mqtt, url: "mqtt://127.0.0.1:9", withheld: true}}
clock: {{source: system}}
state: {state}
"""
UNKNOWN, VACANT = "it is unknown whether somebody lives there", "the dwelling is vacant"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A-1 is occupied, A-2 vacant since ten days, A-3 unknown: it was imported without a date.
    Only the last test that has it changes anything.
    """
    tmp_path = tmp_path_factory.mktemp("site")
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(state=tmp_path / "state"))
    (tmp_path / "state").mkdir()

    def run(*words, code=0, language="C.UTF-8"):
        done = gardien(*words, "-c", config, env={"LANG": language, "COLUMNS": "200"})
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    run("key", "new")
    list_ = tmp_path / "p.csv"
    list_.write_text("label;type;since\nA-1;D;2026-01-01\nA-2;D;2026-01-01\nA-3;D;\nHall;C;\n")
    run("place", "import", str(list_))
    left = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 10 * DAY))
    run("occupancy", "move-out", "A-2", "--at", left)
    for n in (1, 2, 3):
        run("meter", "assign", f"m-{n}", f"A-{n}", "--serial", f"4{n}")
    run.left, run.config = left, config
    return run


def test_lists_say_it_with_the_same_three_words(site):
    answer = json.loads(site("place", "list", "--json"))
    found = {one["label"]: one["occupancy_state"] for one in answer["places"]}
    assert found == {"A-1": "occupied", "A-2": "vacant", "A-3": "unknown", "Hall": None}
    answer = json.loads(site("occupancy", "list", "--json"))
    rest = [(one["label"], one["occupancy_state"]) for one in answer["not_occupied"]]
    assert rest == [("A-2", "vacant"), ("A-3", "unknown")]
    assert len(answer["occupancies"]) == 2
    shown = site("place", "list")
    assert f"vacant since {site.left}" in shown
    assert "unknown" in shown
    marks = site("consent", "marks", "A-2", "A-3")
    for said in (site("occupancy", "list"), site("privacy", "explain"), marks):
        assert f"A-2: vacant since {site.left}" in said
        assert "occupancy unknown, so no personal data is sent" in said
        assert "A-3" in said
    assert "vacant depuis le" in site("occupancy", "list", "A-2", language="fr_FR.UTF-8")
    said = site("occupancy", "list", "A-3", language="fr_FR.UTF-8")
    assert "occupation inconnue, aucune donnée personnelle n'est donc envoyée" in said


def test_status_counts_them(site):
    async def asked():
        async with visited(site.config) as house:
            return (await status(house, NOBODY))["dwellings"]

    assert asyncio.run(asked()) == {"occupied": 1, "vacant": 1, "unknown": 1}


def test_what_is_held_back_and_the_letter_say_why(site):
    rows = json.loads(site("privacy", "explain", "--json"))["rows"]
    whys = {one["label"]: one["why"] for one in rows}
    assert (whys["A-2"], whys["A-3"]) == (VACANT, UNKNOWN)
    for label, french, english in (
        ("A-2", "Ce logement est vacant depuis le", "This dwelling has been vacant since"),
        (
            "A-3",
            "La passerelle ne sait pas si quelqu&#x27;un habite",
            "The gateway does not know whether somebody",
        ),
    ):
        for language, words in (("fr", french), ("en", english)):
            here = ("--to", str(site.config.parent))
            site("privacy", "person", label, "--language", language, *here)
            letter = (site.config.parent / f"{label}.html").read_text()
            assert words in letter, letter


def test_a_consent_of_nobody_is_refused_with_the_state(site):
    give = ["consent", "give", "--recipient", "centre.example", "--channel", "elec.imp",
            "--purpose", "advice"]  # fmt: skip

    async def refused(label):
        async with visited(site.config) as house:
            words = {"recipient": "centre.example", "channels": ["elec.imp"], "purpose": "advice"}
            with pytest.raises(Refused) as error:
                await CALLS["consent.give"](house, NOBODY, named="me", places=[label], **words)
            return str(error.value)

    assert f"occupants left on {site.left}" in asyncio.run(refused("A-2"))
    assert "is vacant" in asyncio.run(refused("A-2"))
    assert UNKNOWN in asyncio.run(refused("A-3"))
    site("occupancy", "move-in", "A-3")
    site(*give, "A-3")
    added = json.loads(site("place", "new", "A-4", "--json"))["places"]
    assert [one["occupancy_state"] for one in added] == ["unknown"]
    added = json.loads(site("place", "new", "A-5", "--since", "2026-01-01", "--json"))["places"]
    assert [one["occupancy_state"] for one in added] == ["occupied"]
    site("occupancy", "correct", "A-5", "--until", "2026-01-01")
    assert "2026-01-01 never lived there" in site("occupancy", "list", "A-5")
    site("occupancy", "move-in", "A-4", "--since", "2036-01-01", "--confirm", "2036-01-01")
    said = site("occupancy", "list", "A-4", language="fr_FR.UTF-8")
    assert "A-4 : occupé à partir du 01/01/2036" in said
    assert "on ne sait pas" not in said


def test_what_an_earlier_version_took_to_be_occupied_stays_so(tmp_path):
    """It recorded people for each dwelling of a list; consents stand on them, and go on."""
    file, now = tmp_path / "registry.json", 1_790_000_000
    old = Registry.open(file)
    (place,) = old.add_places([NewPlace("A-1", "dwelling", where="p.csv:2")], "marie", "p.csv", now)
    given = NewConsent("A-1", "centre.example", ("heat",), 1800, "advice")
    (consent,) = old.consent([given], "marie", "c.csv", now + 60, FR)
    new = Registry.open(file)
    assert new.occupancy_state(place.id, now + DAY) == ("occupied", now)
    wanted = steps_wanted(new, FR, place.id, HEAT, 900, now + DAY, "centre.example")
    assert {step: basis.id for step, basis in wanted.items()} == {1800: consent.id}
