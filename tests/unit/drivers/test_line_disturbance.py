"""Whose bytes were heard, by turns, and who is named for it. Rule F9."""

from agent.drivers.line_disturbance import (
    APART,
    FORGOTTEN,
    LONGEST_REST,
    MOST,
    QUIET,
    REST,
    Disturbed,
    How,
    Listener,
    Turn,
)

WALL = 1_800_000_000.0
M = [str(n) for n in range(1, 26)]


def asked(listener, address, now, busy=False):
    listener.asks(address, now, busy=busy)


def test_bytes_count_against_whose_turn_they_begin_in():
    listener = Listener()
    asked(listener, "7", 10.0)
    assert listener.noise(10.1)


def test_what_goes_on_into_the_next_turn_does_not_count_against_the_next():
    listener = Listener()
    asked(listener, "7", 10.0)
    listener.noise(10.1)
    asked(listener, "8", 10.1 + QUIET / 2)
    assert not listener.noise(10.4)
    asked(listener, "9", 10.4 + QUIET / 2)
    assert not listener.noise(10.6)


def test_who_is_asked_though_somebody_speaks_is_not_to_blame():
    listener = Listener()
    asked(listener, "8", 10.0, busy=True)
    assert not listener.noise(10.1)


def test_after_a_silence_or_a_clean_answer_what_is_heard_has_another_cause():
    listener = Listener()
    asked(listener, "7", 10.0)
    listener.noise(10.1)
    asked(listener, "8", 10.1 + QUIET)
    assert listener.noise(10.5)
    asked(listener, "9", 10.6)
    listener.clean()
    asked(listener, "10", 10.7)
    assert listener.noise(10.8)


def test_one_and_the_same_noise_counts_against_nobody_when_its_turn_comes_round_again():
    listener = Listener()
    asked(listener, "7", 0.0)
    assert listener.noise(0.1)
    for n in range(1, 50):
        asked(listener, str(n % 25), n * 0.2)
        assert not listener.noise(n * 0.2 + 0.1)


class Line:
    """Twenty-five devices, a round a minute."""

    def __init__(self):
        self.disturbed, self.rounds = Disturbed(), 0

    def round(self, *broke, how=How.NOISE, answered=False, loud=False, noisy=()):
        self.rounds += 1
        for one in M:
            bad = one in broke
            turn = Turn({one: how} if bad else {}, one in noisy, bad and loud)
            self.disturbed.ended(one, turn, self.now, WALL + self.now, answered=not bad or answered)

    @property
    def now(self):
        return self.rounds * 60.0

    @property
    def named(self):
        return [one for one, _, _ in self.disturbed.named(WALL + self.now)]


def test_it_is_asked_last_after_two_turns_and_named_after_three():
    line = Line()
    line.round("7")
    assert not line.disturbed.goes_last("7", line.now)
    line.round("7")
    assert line.disturbed.goes_last("7", line.now)
    assert line.named == []
    line.round("7")
    assert line.named == ["7"]
    assert not line.disturbed.goes_last("8", line.now)


def test_it_has_its_turn_after_an_hour_however_full_the_line():
    line = Line()
    line.round("7")
    line.round("7")
    assert not line.disturbed.goes_last("7", line.now + LONGEST_REST)


def test_its_rest_grows_to_an_hour_and_ends_with_one_answer():
    line, rests = Line(), []
    for _ in range(12):
        line.round("7")
        rests.append(line.disturbed.rest("7"))
    assert rests[:6] == [0.0, 0.0, REST, 2 * REST, 4 * REST, 8 * REST]
    assert rests[-1] == LONGEST_REST
    line.round()
    assert line.disturbed.rest("7") == 0.0


def test_one_that_answers_all_the_same_is_named_and_not_left_alone():
    line = Line()
    for _ in range(5):
        line.round("7", how=How.TWICE, answered=True)
    assert line.named == ["7"]
    assert line.disturbed.rest("7") == 0.0


def test_what_belongs_to_many_is_the_lines_and_names_nobody():
    line = Line()
    for n in range(10):
        line.round("7", *M[n % 3 :: 3], noisy=M[n % 3 :: 3])
    assert line.named == []
    assert line.disturbed.noisy() == (25, 25)


def test_a_few_sparks_of_others_do_not_hide_one_that_disturbs():
    line = Line()
    for n in range(9):
        line.round("7", *(["12"] if n == 4 else []))
    assert line.named == ["7"]
    assert line.disturbed.noisy() == (0, 25)


def test_well_again_it_is_forgotten_and_counted_for_the_day():
    line = Line()
    for _ in range(3):
        line.round("7")
    for _ in range(7):
        line.round()
    assert list(line.disturbed.named(WALL)) == [("7", How.NOISE, 3)]
    line.round()
    assert line.named == []
    line.round()
    assert not line.disturbed.goes_last("7", line.now)


def test_such_as_go_on_and_on_take_turns_a_minute_apart_and_spare_the_others_their_rest():
    line = Line()
    line.round("7", "8", loud=True)
    assert line.disturbed.waits("7", line.now)
    assert line.disturbed.spares("9", line.now)
    assert not line.disturbed.spares("8", line.now)
    assert not line.disturbed.waits("7", line.now + APART)
    assert not line.disturbed.spares("9", line.now + APART)


def test_a_turn_in_which_it_was_silent_says_nothing_until_something_is_heard_of_it():
    line = Disturbed()
    for n in range(3):
        line.ended("7", Turn(), n * 120.0, WALL, answered=False)
        line.ended("8", Turn({"7": How.LATE}), n * 120.0 + 1, WALL, answered=True)
    assert [one for one, _, _ in line.named(WALL)] == ["7"]
    for n in range(3, 30):
        line.ended("7", Turn(), n * 120.0, WALL, answered=False)
    assert [one for one, _, _ in line.named(WALL)] == ["7"]


def test_what_bytes_on_a_line_say_fills_no_memory_and_who_is_gone_is_forgotten():
    listener, line = Listener(), Disturbed()
    listener.asks("1", 0.0, busy=False)
    for n in range(3 * MOST):
        listener.blame(f"{n:08d}", How.SPEAKS)
        line.ended("1", listener.take(), float(n), WALL, answered=True)
    assert len(listener.watched) <= MOST + 1
    assert len(line._devices) <= MOST + 1
    for n in range(3):
        line.ended("2", Turn({"2": How.NOISE}), 4000.0 + n, WALL, answered=False)
    line.ended("1", Turn(), 4000.0 + FORGOTTEN + 3, WALL, answered=True)
    assert list(line._devices) == ["1"]
