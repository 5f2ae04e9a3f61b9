"""Rule P19."""

import json
import os

from agent.registry.access_log import EVERYBODY, AccessLog

NOW, DAY = 1_790_000_000.0, 86_400.0


def test_the_first_look_of_a_day_is_a_line_and_the_others_are_none(tmp_path):
    path = tmp_path / "looks.jsonl"
    looks = AccessLog(path, NOW)
    for second in range(100):
        looks.note("alice", "read", "D1", NOW + second)
    size = path.stat().st_size
    looks.note("alice", "read", "D1", NOW + 200)
    assert path.stat().st_size == size
    looks.note("bob", "read", "D1", NOW)
    looks.note("alice", "read", "D2", NOW)
    looks.note("alice", "read", "D1", NOW + DAY)
    again = AccessLog(path, NOW)
    assert again.of() == looks.of()
    assert [(look.who, look.when[:10]) for look in again.of("D1")] == [
        ("alice", "2026-09-21"), ("bob", "2026-09-21"), ("alice", "2026-09-22"),
    ]  # fmt: skip
    again.note("alice", "read", "D1", NOW + 5)
    assert len(again.of()) == 4
    assert path.stat().st_mode & 0o777 == 0o600


def test_who_looks_at_all_has_looked_at_each(tmp_path):
    looks = AccessLog(tmp_path / "looks.jsonl", NOW)
    looks.note("alice", "status", EVERYBODY, NOW)
    assert len(looks.of("D1")) == 1


def test_a_line_torn_by_a_power_cut_costs_itself_only(tmp_path):
    path = tmp_path / "looks.jsonl"
    AccessLog(path, NOW).note("alice", "read", "D1", NOW)
    os.truncate(path, path.stat().st_size - 9)
    torn = AccessLog(path, NOW)
    assert torn.of() == []
    torn.note("bob", "read", "D1", NOW)
    assert [look.who for look in AccessLog(path, NOW).of()] == ["bob"]


def test_what_is_older_than_five_years_goes(tmp_path):
    path = tmp_path / "looks.jsonl"
    looks = AccessLog(path, NOW)
    looks.note("alice", "read", "D1", NOW)
    looks.note("alice", "read", "D1", NOW + 100 * DAY)
    later = AccessLog(path, NOW + 5 * 366 * DAY + 1)
    assert len(later.of()) == len(AccessLog(path, NOW).of()) == 1


def test_whose_data_was_seen_is_kept_and_an_older_version_still_reads_the_look(tmp_path):
    path = tmp_path / "looks.jsonl"
    looks = AccessLog(path, NOW)
    looks.note("alice", "privacy.person", "D1", NOW)
    for second in range(2):  # a second look on that day adds nothing
        looks.note("alice", "privacy.person", "D1", NOW + second, "R1")
    assert [look.occupancy for look in AccessLog(path, NOW).of()] == ["", "R1"]
    lines = [json.loads(line) for line in path.read_text().split("\n") if line]
    old = [line for line in lines if set(line) == {"when", "who", "what", "place"}]
    assert (len(old), len(lines)) == (2, 3)


def test_the_reason_is_kept_and_an_older_version_still_reads_the_look(tmp_path):
    path = tmp_path / "looks.jsonl"
    looks = AccessLog(path, NOW)
    looks.note("Marie (web)", "read", "D1", NOW, reason="une fuite est signalée")
    looks.note("Marie (web)", "read", "D1", NOW + 9, reason="une fuite est signalée")
    looks.note("Marie (web)", "read", "D1", NOW + 10, "H1", "un relevé est contesté")
    again = AccessLog(path, NOW)
    assert again.of() == looks.of()
    assert [(look.reason, look.occupancy) for look in again.of()] == [
        ("une fuite est signalée", ""), ("un relevé est contesté", "H1"),
    ]  # fmt: skip
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    older = [line for line in lines if line.keys() == {"when", "who", "what", "place"}]
    assert [line["who"] for line in older] == ["Marie (web)"] * 2
