"""What the pretend building and platform prove against each other (hil/proof.py)."""

import struct

from hil.proof import Answer, Evidence, Row, prove

FIRST = 1_000


def answer(t, value):
    return Answer(t, struct.pack(">f", float(value)))


def row(t, value, delay=0):
    return Row("D", t, value, "V" if value else "M", None, delay, 1, "consent")


def verdict(answers, *rows):
    last = max(one.t for one in rows)
    return prove(Evidence({"D": answers}, rows, {"D": "consent"}, last_slot=last, step=1, flush=1))


def test_an_answer_handed_on_late_by_a_busy_machine_is_still_the_answer():
    answers = [answer(FIRST + 0.7, "1.5"), answer(FIRST + 1.6, "2.5")]
    assert verdict(answers, row(FIRST, "1.5", delay=1), row(FIRST + 1, "2.5")).proved


def test_no_answer_makes_two_rows_right():
    answers = [answer(FIRST + 0.7, "1.5"), answer(FIRST + 1.6, "2.5")]
    found = verdict(answers, row(FIRST, "1.5"), row(FIRST + 1, "1.5"))
    assert (found.wrong, found.proved) == (1, False)


def test_a_value_that_nobody_said_then_is_wrong():
    answers = [answer(FIRST + n + 0.5, n) for n in range(4)]
    rows = [row(FIRST + n, str(n)) for n in range(3)]
    assert verdict(answers, *rows).proved
    assert verdict(answers, *rows, row(FIRST + 3, "1")).wrong == 1
    assert verdict(answers[1:], row(FIRST + 1, "3"), row(FIRST + 2, "2")).wrong == 1


def test_a_slot_without_a_row_and_one_with_two_are_found():
    answers = [answer(FIRST + n + 0.5, n) for n in range(3)]
    found = verdict(answers, row(FIRST, "0"), row(FIRST + 2, "2"), row(FIRST + 2, "2"))
    assert (found.slots, found.missing, found.duplicate) == (3, 1, 1)


def test_a_meter_that_answers_who_is_dead_already_ends_no_outage():
    """On a busy machine an answer is logged after the kill, and even after the next start."""
    killed, started = FIRST + 3.4, FIRST + 3.5

    def judged(stray_since):
        answers = [
            *(answer(FIRST + n + 0.5, n) for n in range(3)),
            answer(FIRST + 3.6, 3)._replace(since=stray_since),
            answer(FIRST + 6.5, 6)._replace(since=FIRST + 6.0),
        ]
        down = [row(FIRST + n, None)._replace(why="agent") for n in range(3, 6)]
        rows = [row(FIRST, "0"), row(FIRST + 1, "1"), row(FIRST + 2, "2"), *down,
                row(FIRST + 6, "6")]  # fmt: skip
        evidence = Evidence({"D": answers}, rows, {"D": "consent"}, FIRST + 6, 1, 1,
                            [(killed, started)])  # fmt: skip
        return prove(evidence).wrong

    assert judged(FIRST) == 0
    assert judged(FIRST + 3.55) == 2


def test_slots_that_were_passed_over_before_a_kill_are_lost_with_the_read_that_closes_them():
    """A busy machine: after slot 1 the meter is read in slot 4 only, just before the kill."""
    answers = [answer(FIRST + n + 0.5, n) for n in (0, 1, 4, 8)]
    down = [row(FIRST + n, None)._replace(why="agent") for n in range(2, 8)]
    rows = [row(FIRST, "0"), row(FIRST + 1, "1"), *down, row(FIRST + 8, "8")]

    def judged(killed):
        evidence = Evidence({"D": answers}, rows, {"D": "consent"}, FIRST + 8, 1, 1,
                            [(killed, killed + 0.5)])  # fmt: skip
        return prove(evidence).wrong

    assert judged(FIRST + 5.2) == 0
    assert judged(FIRST + 6.8) == 3, "the read in slot 4 was on the disk"
