"""An uplink moves once the new address has proved itself, and can fall back for seven days."""

from pathlib import Path

import pytest

from agent.core.errors import Refused
from agent.gateway.uplink_state import (
    FALL_BACK,
    MOVES_FILE,
    PROBE_EVERY,
    Move,
    Moves,
    address,
    over,
)

DAY = 86_400
OLD, NEW = "mqtts://old.example", "mqtts://new.example"
BEGUN = Move(OLD, NEW, since=0)
PROVED = Move(OLD, NEW, since=0, proved=10)


def test_an_unproved_address_is_tried_once_an_hour_and_the_old_one_serves_meanwhile():
    assert address(BEGUN, 0, 0, PROBE_EVERY) == NEW
    assert address(BEGUN, 0, 1, 10) == OLD
    assert address(BEGUN, 0, 2, PROBE_EVERY + 1) == NEW


def test_a_proved_address_is_used_and_the_old_one_stands_by_for_seven_days():
    """Rule T28."""
    assert address(PROVED, 100, 0, 0) == NEW
    assert address(PROVED, 100, 3, 0) == OLD
    assert address(PROVED, 100, 4, 0) == NEW
    assert address(PROVED, 11 + FALL_BACK, 3, 0) == NEW, "nobody is there any more by then"


@pytest.mark.parametrize(
    ("move", "configured", "now", "ended"),
    [
        (BEGUN, OLD, DAY, False),
        (BEGUN, OLD, 8 * DAY, True),
        (PROVED, OLD, 30 * DAY, False),
        (PROVED, NEW, DAY, True),
        (PROVED, "mqtts://third.example", DAY, True),
    ],
)
def test_the_configuration_has_the_last_word(move, configured, now, ended):
    assert over(move, configured, now) is ended


def test_a_move_survives_a_restart_and_is_forgotten_when_it_is_over(tmp_path: Path):
    Moves(tmp_path).order("r.example", OLD, NEW, 0)
    again = Moves(tmp_path)
    assert again.of("r.example", OLD, 1) == BEGUN
    again.prove("r.example", 10)
    assert Moves(tmp_path).of("r.example", OLD, 30 * DAY) == PROVED
    assert Moves(tmp_path).of("r.example", NEW, 30 * DAY) is None
    assert Moves(tmp_path).of("r.example", OLD, 1) is None
    with pytest.raises(Refused):
        again.order("r.example", OLD, OLD, 0)


def test_a_damaged_note_of_moves_moves_nothing(tmp_path: Path):
    for text in ("", "[]", '{"r.example": {"old": 1}}', "\x00"):
        (tmp_path / MOVES_FILE).write_text(text, encoding="utf-8")
        assert Moves(tmp_path).of("r.example", OLD, 0) is None
