"""The state directory: what in it counts, and what does not."""

from agent.core.state import on_trial


def test_a_version_is_judged_while_roots_mark_is_there(tmp_path):
    state, marks = tmp_path / "state", tmp_path / "marks"
    assert not on_trial(state, marks)
    state.mkdir()
    marks.mkdir()
    assert not on_trial(state, marks)
    (marks / "upgrade").touch()
    assert on_trial(state, marks)


def test_a_plain_file_of_an_older_gardien_upgrade_still_counts_and_a_link_does_not(tmp_path):
    (tmp_path / "elsewhere").touch()
    mark = tmp_path / "upgrade"
    mark.symlink_to(tmp_path / "elsewhere")
    assert not on_trial(tmp_path, tmp_path / "none")
    mark.unlink()
    mark.touch()
    assert on_trial(tmp_path, tmp_path / "none")
