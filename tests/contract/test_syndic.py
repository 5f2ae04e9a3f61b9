"""The syndic's exports, by a folder and by a real SFTP server: what is clear is recorded, what is
doubtful waits for a person, and nothing is lost to a file that is none.
"""

import asyncio
import contextlib
import os
import time

import pytest

from agent.api import syndic
from agent.api.calls import CALLS, NOBODY, status
from agent.api.registry import Caller
from agent.app import visited
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.gateway.gateway import policy_of
from agent.registry.inputs import NewConsent, NewOccupancy, NewPlace
from agent.registry.place import shown
from agent.registry.syndic_export import ClearChange, Doubt
from hil.sshd import sftp_server
from tests.command import gardien
from tests.contract.test_letter import DAY, Gateway
from tests.waiting import until

CONFIG = """\
building: {{name: Les Alpins}}
state: {state}
clock: {{source: system}}
syndic:
  {where}
  files: "b*.csv"
  every: 1s
  columns: {{dwelling: Lot, reference: N° bail, since: Entrée, until: Sortie}}
"""
HEAD = "Nom;Lot;N° bail;Entrée;Sortie\n"
MARIE = Caller("marie", None)


class Site:
    """A gateway without a daemon, whose exports lie in a folder."""

    def __init__(self, folder):
        self.folder, self.state = folder / "exports", folder / "state"
        self.config = folder / "config.yaml"
        self.folder.mkdir()
        self.state.mkdir()
        self.write(f"path: {self.folder}")
        self.age = 0

    def write(self, where):
        self.config.write_text(CONFIG.format(state=self.state, where=where))

    def export(self, *rows, name="baux.csv", end="\n"):
        """A new export, written later than those before it."""
        self.age += 10
        path = self.folder / name
        path.write_text(HEAD + "\n".join(f"Mme X;{row}" for row in rows) + end)
        os.utime(path, (time.time() - 900 + self.age,) * 2)

    async def taken(self, house):
        """Once all that lies there was looked at; what status says then."""
        house.exports.unreachable = await syndic._check(house, house.config.syndic)
        return (await status(house, NOBODY))["syndic"]


def homes(house, label="A-1"):
    place = house.registry.place(label)
    return [
        (one.reference, one.until is None, one.word.who, one.word.source)
        for one in house.registry.occupancies_of(place.id)
    ]


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)

    async def furnish():
        async with visited(made.config) as house:
            rows = [NewPlace(f"A-{n}", "dwelling", occupied=False) for n in range(1, 6)]
            house.registry.add_places(rows, "marie", "p.csv", time.time())

    asyncio.run(furnish())
    return made


def inside(site, scenario):
    async def visit():
        async with visited(site.config) as house:
            return await scenario(house)

    return asyncio.run(visit())


def test_clear_changes_are_recorded_with_file_and_line_and_the_same_export_changes_nothing(site):
    async def scenario(house):
        site.export("A-1;B-1;2020-01-01;", "A-2;B-2;2021-01-01;")
        said = await site.taken(house)
        assert (said["last"]["recorded"], said["waiting"]) == (2, 0)
        assert homes(house) == [("B-1", True, "syndic export", "baux.csv:2")]
        revision = house.registry.revision
        site.export("A-1;B-1;2020-01-01;", "A-2;B-2;2021-01-01;")
        await site.taken(house)
        assert len(house.exports.reports) == 1, "told once"
        site.export("A-2;B-2;2021-01-01;", "A-1;B-3;2030-02-01;", "A-1;B-1;2020-01-01;2030-02-01")
        assert (await site.taken(house))["last"]["recorded"] == 2
        assert house.registry.revision == revision + 1
        assert homes(house) == [
            ("B-1", False, "syndic export", "baux.csv:4"),
            ("B-3", True, "syndic export", "baux.csv:3"),
        ]
        site.export("A-1;B-3;2030-02-01;")
        assert (await site.taken(house))["waiting"] == 0, "a row that is missing removes nothing"
        assert homes(house, "A-2") == [("B-2", True, "syndic export", "baux.csv:3")]

    inside(site, scenario)


def test_what_is_doubtful_waits_is_told_once_and_a_person_decides(site):
    async def scenario(house):
        site.export("A-1;B-1;2020-01-01;", "A-2;B-2;2021-01-01;")
        await site.taken(house)
        rows = ["A-1;B-9;2025-01-01;", "A-7;B-7;2025-01-01;", "A-2;B-2;2021-05-01;"]
        site.export(*rows)
        said = await site.taken(house)
        assert (said["waiting"], said["last"]["proposed"], said["last"]["recorded"]) == (3, 3, 0)
        events = (await status(house, NOBODY))["events"]
        assert any("3 rows need a decision" in one["text"] for one in events)
        site.export(*rows, "A-3;B-3;2025-01-01;")
        said = await site.taken(house)
        assert (said["waiting"], said["last"]["proposed"], said["last"]["recorded"]) == (3, 0, 1)
        of = {one["label"]: one for one in (await proposed(house))["proposed"]}
        assert {one["why"] for one in of.values()} == {"overlap", "no_dwelling", "dates"}
        await CALLS["occupancy.accept"](house, MARIE, row=of["A-1"]["id"][:6])
        assert homes(house) == [
            ("B-1", False, "marie", "baux.csv:2"),
            ("B-9", True, "marie", "baux.csv:2"),
        ]
        await CALLS["occupancy.dismiss"](house, MARIE, row=of["A-2"]["id"])
        alias = {"place": "A-5", "scheme": "bis:syndic", "value": "A-7"}
        await CALLS["alias.add"](house, MARIE, **alias)
        assert (await site.taken(house))["waiting"] == 0
        assert homes(house, "A-5") == [("B-7", True, "syndic export", "baux.csv:3")]
        site.export(*rows)
        assert (await site.taken(house))["waiting"] == 0, "what was dismissed is passed over"
        assert house.registry.occupancies_of(house.registry.place("A-2").id)[0].reference == "B-2"
        site.export("A-2;B-2;2021-06-01;")
        assert (await site.taken(house))["waiting"] == 1, "another date is another row"

    inside(site, scenario)
    inside(site, lambda house: proposed(house, 1))  # a restart forgets nothing


async def proposed(house, many=None):
    answer = await CALLS["occupancy.proposed"](house, NOBODY)
    assert many in (None, len(answer["proposed"]))
    return answer


def test_a_file_that_is_none_or_half_written_is_refused_and_loses_nothing(site):
    async def scenario(house):
        site.export("A-1;B-1;2020-01-01;", "A-2;B-2;2021-01-01;")
        await site.taken(house)
        before = house.registry.revision
        site.export("A-1;B-1;2020-01-01;2026-0", end="")
        assert "baux.csv:2: the file ends within" in (await site.taken(house))["refused"]
        events = [one for one in (await status(house, NOBODY))["events"] if one["code"] == "syndic"]
        assert len(events) == 1
        assert "baux.csv" not in events[0]["text"], "platforms are told no names"
        for content in (b"\0" * 4096, b"PK\x03\x04nothing", b"\xff\xfe", b"a;b\n1;2\n", b'"' * 99):
            site.age += 10
            path = site.folder / "baux.csv"
            path.write_bytes(content)
            os.utime(path, (time.time() - 900 + site.age,) * 2)
            assert (await site.taken(house))["refused"].startswith("baux.csv")
        rows = [f"Z-{n};L-{n};2025-01-01;" for n in range(600)]
        site.export(*rows)
        assert "Check that the file is of this building" in (await site.taken(house))["refused"]
        assert (house.registry.revision, house.exports.proposals) == (before, [])
        (site.folder / "b-link.csv").symlink_to("/etc/passwd")
        os.mkfifo(site.folder / "b-pipe.csv")
        site.export("A-1;B-1;2020-01-01;2030-01-01", name="baux-2.csv")
        said = await site.taken(house)
        assert (said["refused"], said["last"]["recorded"]) == ("", 1)

    inside(site, scenario)


def test_more_ends_at_once_than_can_be_believed_wait_for_a_person(site):
    async def scenario(house):
        site.export(*(f"A-{n};B-{n};2020-01-01;" for n in range(1, 6)))
        await site.taken(house)
        site.export(*(f"A-{n};B-{n};2020-01-01;2026-01-01" for n in range(1, 6)))
        said = await site.taken(house)
        assert (said["waiting"], said["last"]["recorded"]) == (5, 0)
        one, two, *_ = (await proposed(house))["proposed"]
        await CALLS["occupancy.accept"](house, MARIE, row=one["id"])
        assert homes(house, one["label"])[0][1:3] == (False, "marie")
        await CALLS["occupancy.dismiss"](house, MARIE, row=two["id"])
        assert (await site.taken(house))["waiting"] == 3, "three would be few enough by themselves"
        by_hand = NewOccupancy("move_out", "A-3", until=int(time.time()))
        house.registry.occupy([by_hand], "marie", "by hand", time.time())
        site.export(*(f"A-{n};B-{n};2020-01-01;2026-01-01" for n in range(1, 6)), "A-1;X;;")
        assert (await site.taken(house))["waiting"] == 4
        assert [homes(house, f"A-{n}")[0][1] for n in (4, 5)] == [True, True]

    inside(site, scenario)


def test_a_change_that_the_registry_refuses_waits_and_the_others_are_recorded(site):
    async def scenario(house):
        now, by = int(time.time()), ("marie", "a list")
        came = NewOccupancy("move_in", "A-1", since=now - 200 * DAY)
        house.registry.occupy([came], *by, now)
        given = NewConsent("A-1", "us.example", ("heat",), DAY, "advice", given=now - 100 * DAY)
        house.registry.consent([given], *by, now, policy_of(house.config))
        begins = stamp(now - 50 * DAY)  # after they signed: it is the lease of others, or a mistake
        site.export(f"A-1;B-1;{begins};", "A-2;B-2;2021-01-01;")
        said = await site.taken(house)
        assert (said["waiting"], said["last"]["recorded"]) == (1, 1)
        (one,) = (await proposed(house))["proposed"]
        assert (one["why"], one["label"]) == ("dates", "A-1")
        with pytest.raises(Refused, match="signed a consent"):
            await CALLS["occupancy.accept"](house, MARIE, row=one["id"])
        (kept,) = house.exports.proposals
        notice = NewOccupancy("lease", "A-1", since=kept.row.since, reference="B-1")
        change = ClearChange(kept.row, notice, house.registry.place("A-1"))
        held = syndic._refused_changes(house.registry.state()[-1], [change], now, "")
        assert held[kept.row.key][0] is Doubt.REFUSED
        assert "signed a consent" in held[kept.row.key][1]

    inside(site, scenario)


def test_an_accepted_overlap_does_not_come_back_and_refusals_are_french_with_local_dates(
    site, monkeypatch
):
    async def scenario(house):
        site.export("A-1;B-1;2020-01-01;")
        await site.taken(house)
        rows = ("A-1;B-1;2020-01-01;", "A-1;B-2;2025-07-01;")
        site.export(*rows)
        await site.taken(house)
        (one,) = (await proposed(house))["proposed"]
        await CALLS["occupancy.accept"](house, MARIE, row=one["id"])
        site.export(*rows, "A-5;B-5;2025-01-01;")
        assert (await site.taken(house))["waiting"] == 0
        site.export("A-1;B-1;2020-01-01;2026-01-01")  # while B-2 live there
        await site.taken(house)
        (one,) = (await proposed(house))["proposed"]
        return one["id"], house.registry.occupancies_of(house.registry.place("A-1").id)[1].id

    id_, other = inside(site, scenario)
    words = ["occupancy", "accept", id_, "--as", "marie", "-c", str(site.config)]
    done = gardien(*words)
    monkeypatch.setenv("LANGUAGE", "fr")
    said = done.exception.text.in_language()
    assert f"est occupé par {shown(other)} (B-2), 1er juillet 2025 → …" in said
    assert f"gardien occupancy correct A-1 --id {shown(other)} --since DATE" in said
    assert "T22:00:00Z" not in said


def test_a_lease_that_another_dwelling_has_too_is_named_when_it_is_accepted(site):
    async def scenario(house):
        site.export("A-1;B-1;2020-01-01;")
        await site.taken(house)
        site.export("A-2;B-1;2025-01-01;")
        await site.taken(house)
        (one,) = (await proposed(house))["proposed"]
        return one["id"]

    id_ = inside(site, scenario)
    words = ["occupancy", "accept", id_, "--as", "marie", "-c", str(site.config)]
    done = gardien(*words, env={"LANGUAGE": "fr", "COLUMNS": "200"})
    assert "le bail B-1 est enregistré aussi pour A-1, depuis le 01/01/2020" in done.output


def test_the_commands_say_what_waits_in_the_reader_s_language(site, monkeypatch):
    async def scenario(house):
        site.export("A-1;B-1;2020-01-01;", "A-1;B-2;2021-01-01;", "A-2;B-2;2021-01-01;")
        await site.taken(house)

    inside(site, scenario)

    def said(*words):
        done = gardien("occupancy", *words, "-c", str(site.config))
        assert done.exit_code == 0, done.output
        return done.output

    found = said("proposed")
    assert "A-1: lease B-1 from 2020-01-01, without an end (baux.csv:2)" in found
    assert "baux.csv:3 gives another lease of that dwelling at the same time" in found
    assert "last export, baux.csv of" in found
    monkeypatch.setenv("LANG", "fr_FR.UTF-8")
    assert "baux.csv:3 donne un autre bail du même logement en même temps" in said("proposed")
    id_ = found.split()[0]
    assert "B-1" in said("accept", id_)
    assert "écarté" in said("dismiss", said("proposed").split()[0])
    assert "aucune ligne n'attend de décision" in said("proposed")


def test_exports_come_by_sftp_and_a_server_that_is_away_is_told(site):
    async def scenario():
        async with sftp_server() as server:
            site.folder = server.root / "out"
            site.write(
                f"url: {server.url()}out\n  key: file:{server.own_key}\n"
                f"  host_key: {server.host_key}"
            )
            site.export("A-1;B-1;2020-01-01;")
            async with visited(site.config) as house:
                job = asyncio.create_task(syndic.keep(house))
                await until(lambda: homes(house) == [("B-1", True, "syndic export", "baux.csv:2")])
                await server.kill()
                await until(lambda: house.exports.unreachable)
                events = (await status(house, NOBODY))["events"]
                assert any("cannot connect" in one["here"] for one in events)
                await server.start()
                site.export("A-1;B-1;2020-01-01;", "A-2;B-2;2021-01-01;")
                await until(lambda: homes(house, "A-2") and not house.exports.unreachable)
                await server.new_host_key()
                await server.kill()
                await server.start()
                await until(lambda: "another host key" in house.exports.unreachable)
                job.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await job

    asyncio.run(scenario())


def test_a_move_dated_before_readings_that_left_waits_unless_it_is_of_these_days(tmp_path):
    gateway = Gateway(tmp_path)
    consent = gateway.consent()
    row = NewOccupancy("lease", "A-1", None, gateway.since, None, "B-1")
    exports = tmp_path / "exports"
    exports.mkdir()
    columns = "{dwelling: Lot, reference: N° bail, since: Entrée, until: Sortie}"
    section = f"syndic: {{path: {exports}, columns: {columns}}}\n"
    gateway.path.write_text(gateway.path.read_text() + section)

    def ends(days):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(gateway.now - days * DAY))
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(gateway.since))
        (exports / "b.csv").write_text(f"Lot;N° bail;Entrée;Sortie\nA-1;B-1;{since};{stamp}\n")

    async def taken(house):
        house.registry.occupy([row], "marie", "a list", gateway.now)
        await syndic._check(house, house.config.syndic)
        return [(one.why, one.row.key) for one in house.exports.proposals]

    ends(10)
    assert gateway.inside(taken) == [], "nothing had left"
    gateway.inside(lambda house: corrected(house, gateway))
    gateway.keep(gateway.row(consent.id))
    gateway.deliver()
    ends(11)
    (found,) = gateway.inside(taken)
    assert found[0] == "left"
    ends(1)
    assert gateway.inside(taken) == [], "the newer row takes the older one's place, and is clear"
    (home,) = gateway.inside(lambda house: listed(house, gateway))
    assert home.until == gateway.now - DAY


async def corrected(house, gateway):
    row = NewOccupancy("correct", "A-1", gateway.home.id, stays=True)
    house.registry.occupy([row], "marie", "a list", gateway.now)


async def listed(house, gateway):
    return house.registry.occupancies_of(gateway.place)
