"""When a restored gateway may speak. Guards rule T9."""

from agent.gateway.backup import FILE, LISTENS, PostRestoreGate, Way, close_gate

NOW, MADE = 1_790_000_000.0, "2026-11-20T10:00:00Z"
PROVED, AWAY = Way(complete=True, since=None), Way(complete=False, since=None)


def listened(seconds):
    return Way(complete=False, since=NOW - seconds)


def found(folder):
    close_gate(folder, MADE)
    return PostRestoreGate(folder)


def test_a_state_that_was_never_restored_waits_for_nobody(tmp_path):
    assert PostRestoreGate(tmp_path).judge({"a": AWAY}, NOW)
    assert not (tmp_path / FILE).exists()


def test_each_uplink_must_be_heard_whether_the_others_were_or_not(tmp_path):
    one = found(tmp_path)
    assert not one.judge({"a": PROVED, "b": AWAY}, NOW)
    assert not one.judge({"a": PROVED, "b": listened(LISTENS - 1)}, NOW)
    assert PostRestoreGate(tmp_path).listens
    assert one.judge({"a": PROVED, "b": PROVED}, NOW)
    assert not (tmp_path / FILE).exists()
    assert one.judge({"a": AWAY}, NOW), "and then it is over"


def test_who_could_not_prove_it_is_remembered_until_he_does(tmp_path):
    one = found(tmp_path)
    assert one.judge({"a": PROVED, "b": listened(LISTENS), "c": listened(LISTENS)}, NOW)
    again = PostRestoreGate(tmp_path)
    assert (again.made, again.unproved, again.listens) == (MADE, {"b", "c"}, False)
    assert again.judge({"a": AWAY, "b": AWAY, "c": AWAY}, NOW), "it does not listen twice"
    assert again.judge({"b": PROVED, "c": AWAY}, NOW)
    assert PostRestoreGate(tmp_path).unproved == {"c"}
    assert again.judge({"b": AWAY, "c": PROVED}, NOW)
    assert not (tmp_path / FILE).exists()


def test_a_mark_of_an_earlier_version_still_holds_everything_up(tmp_path):
    (tmp_path / FILE).touch()
    assert PostRestoreGate(tmp_path).listens


def test_a_clock_that_steps_back_does_not_shorten_the_wait(tmp_path):
    assert not found(tmp_path).judge({"a": listened(-3600)}, NOW)
