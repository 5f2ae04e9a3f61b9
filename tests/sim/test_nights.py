"""Nights go on where the last one has ended, and add up what all have found."""

import json
import subprocess

from tests.sim import nights
from tests.sim.run import Outcome


def outcome(seed, *faults, **more):
    of = {
        "kind": "disk",
        "seconds": 86_400.0,
        "lives": 2,
        "ends": {"kill": 1, "end": 1},
        "cpu": 2.0,
    }
    return Outcome(seed, faults=list(faults), **(of | more))


def ran(*outcomes, commit="aaaaaaaa", entries=None, days=None):
    entries = [] if entries is None else entries
    for one in outcomes:
        nights.add(entries, one, commit, days)
    return entries


P13 = "SENT: P13 at 2027-01-01 00:00:00.000+00:00: D1 elec.imp: text [3]"


def test_a_night_goes_on_with_the_seed_after_the_last(tmp_path):
    files = tmp_path / "nights.json", tmp_path / "docs/page.md"
    seeds = []

    def three(plans):
        for plan in plans:
            seeds.append(plan["seed"])
            yield outcome(plan["seed"])
            if len(seeds) % 3 == 0:
                return

    for _ in range(2):
        assert nights.night(1, files, three, lambda one: one.status) == 0
    assert seeds == [1, 2, 3, 4, 5, 6]
    (entry,) = json.loads(files[0].read_text())
    assert (entry["from"], entry["to"], entry["runs"], entry["lives"]) == (1, 6, 6, 12)
    assert "| seeds | 6 (1 to 6) |" in files[1].read_text()


def test_a_night_that_is_over_begins_no_run(tmp_path):
    files = tmp_path / "nights.json", tmp_path / "page.md"
    runs = lambda plans: [outcome(plan["seed"]) for plan in plans]  # noqa: E731
    assert nights.night(0, files, runs, lambda one: one.status) == 0
    assert not files[0].exists()


def test_most_plans_of_a_night_are_as_long_as_their_kind_needs():
    days = [nights.days_of(seed) for seed in range(1_000)]
    assert days.count(None) == 990
    assert set(days) == {None, *range(3, 10)}


def test_a_complaint_is_kept_with_what_finds_it_again_and_what_it_was():
    entries = ran(outcome(7, P13, P13.replace("D1", "D2"), "TRUTH: P28 at x: text"), outcome(8))
    sorts = [(one["seed"], one["days"], one["sort"]) for one in entries[0]["complaints"]]
    assert sorts == [(7, None, "SENT: P13"), (7, None, "TRUTH: P28")]
    entries[0]["complaints"][0]["became"] = "mended: cases/withdrawn.json"
    ran(outcome(9, P13), commit="bbbbbbbb", entries=entries, days=3)
    page = nights.page_of(entries)
    assert "| SENT: P13 | 1 | 7 (aaaaaaaa) | mended: cases/withdrawn.json |" in page
    assert "| SENT: P13 | 1 | 9 (3 d, bbbbbbbb) |  |" in page
    assert "| runs with a complaint | 2 |" in page


def test_runs_since_the_last_complaint_are_counted_over_commits():
    assert nights.clean([]) == 0
    entries = ran(outcome(1, P13), outcome(2))
    ran(outcome(3), outcome(4), commit="bbbbbbbb", entries=entries)
    assert nights.clean(entries) == 3
    ran(outcome(5, broken="it took too long"), commit="bbbbbbbb", entries=entries)
    assert nights.clean(entries) == 0
    assert "| BROKEN: it took too long | 1 |" in nights.page_of(entries)


def test_changed_code_is_marked_and_the_results_of_nights_are_no_code(tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    assert nights.commit(tmp_path / "nowhere") == "unknown"
    git("init", "-q")
    code, results = tmp_path / "agent/app.py", tmp_path / nights.RESULTS
    for file in code, results:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "-q", "-m", "a")
    of = nights.commit(tmp_path)
    results.write_text("2")
    assert nights.commit(tmp_path) == of
    assert len(of) == 8
    code.write_text("2")
    assert nights.commit(tmp_path) == f"{of}-dirty"
