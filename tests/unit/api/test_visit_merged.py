"""A visit at the terminal and on the page at the same time: neither undoes what the other did."""

from agent.api.visit_steps import merged

BASE = {"steps": {"building": 1, "list": 2}, "answers": 3, "factors": {"i-1": "10"}}


def test_what_only_one_of_two_has_changed_is_kept_of_both():
    mine = {**BASE, "steps": {**BASE["steps"], "scan": 5}, "answers": 9}
    theirs = {**BASE, "steps": {**BASE["steps"], "flats": 7}, "factors": {}, "warnings": ["w"]}
    assert merged(BASE, mine, theirs) == {
        "steps": {"building": 1, "list": 2, "scan": 5, "flats": 7},
        "answers": 9,
        "factors": {},
        "warnings": ["w"],
    }


def test_of_a_step_that_both_have_made_the_last_writer_counts():
    mine, theirs = {"steps": {"scan": 8}}, {"steps": {"scan": 6}}
    assert merged({}, mine, theirs) == mine


def test_a_visit_that_begins_again_forgets_only_the_steps_that_were_there():
    mine, theirs = {"steps": {"building": 9}}, {"steps": {"building": 1, "list": 2, "scan": 4}}
    assert merged(BASE, mine, theirs) == {"steps": {"building": 9, "scan": 4}}


def test_alone_nothing_is_merged():
    assert merged(BASE, BASE, BASE) == BASE
    assert merged({}, BASE, {}) == BASE
