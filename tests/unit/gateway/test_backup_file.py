"""Which platform holds the backup, and when it is offered (again). Rule K11."""

import pytest

from agent.gateway.backup import AGAIN, LONGEST, BuildingFile
from agent.uplink.budget import spare

NOW = 1_790_000_000


def sealed(folder, content=b"first", revision=1):
    file = BuildingFile(folder)
    file.renew(content, f"says {content!r}", NOW, revision)
    return file


def test_it_is_offered_until_the_platform_names_its_hash_and_after_each_change(tmp_path):
    file = sealed(tmp_path)
    assert file.due("a", 0.0)
    assert not file.took("a", "0" * 64, NOW), "another one's hash"
    assert file.took("a", file.latest.sha256, NOW)
    assert not file.took("a", file.latest.sha256, NOW + 1), "no news"
    assert not file.due("a", 0.0)
    assert file.due("b", 0.0)
    again = BuildingFile(tmp_path)
    assert again.held_by("a")
    assert again.content() == b"first"
    again.renew(b"second", "says second", NOW, 2)
    assert again.due("a", 0.0)
    assert (again.held_by("a"), again.taken_at("a")) == (False, NOW)


def test_who_does_not_answer_is_asked_ever_more_rarely_also_after_a_change(tmp_path):
    file, at, waits = sealed(tmp_path), 0.0, []
    for number in range(12):
        file.tried("a", at)
        file.renew(b"%d" % number, f"says {number}", NOW, number)
        waits.append(next(s for s in range(600, 90_000, 600) if file.due("a", at + s)))
        at += waits[-1]
    assert waits[:3] == [AGAIN, 2 * AGAIN, 4 * AGAIN]
    assert waits[-1] == LONGEST
    file.took("a", file.latest.sha256, NOW)
    file.renew(b"new", "says new", NOW, 99)
    assert file.due("a", at), "it has answered: the next change goes at once"


@pytest.mark.parametrize("harm", ["body", "note", "gone"])
def test_what_does_not_fit_together_is_written_anew(tmp_path, harm):
    sealed(tmp_path)
    match harm:
        case "body":
            (tmp_path / "building.p7m").write_bytes(b"torn")
        case "note":
            (tmp_path / "building.json").write_text('{"latest": []}')
        case "gone":
            (tmp_path / "building.p7m").unlink()
    assert BuildingFile(tmp_path).latest is None


def test_a_metered_line_has_room_for_it_only_while_the_month_is_not_ahead():
    budget = 10_000_000
    assert spare(60_000, used=0, budget=budget, share=0.0)
    assert not spare(60_000, used=990_000, budget=budget, share=0.0)
    assert spare(60_000, used=5_500_000, budget=budget, share=0.5)
    assert not spare(60_000, used=6_000_000, budget=budget, share=0.5)
    assert not spare(60_000, used=9_990_000, budget=budget, share=1.0)
