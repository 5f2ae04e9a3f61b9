"""How long an acknowledgement lasts: its days, and until its finding ends or becomes worse."""

from dataclasses import replace

import pytest

from agent.core.atomic_write import later
from agent.core.clock import Clock, stamp
from agent.core.finding import (
    Actor,
    Finding,
    Severity,
    exit_status,
    worst_first,
)
from agent.core.i18n import Text
from agent.gateway.acknowledged import DAY, FILE, Acknowledgements
from agent.gateway.first_seen import AFTER_START

NOW = 1_795_500_000.0


def finding(code, severity=Severity.LATER, **more):
    return Finding(code=code, subject=Text(code), what=Text(code), severity=severity,
                   id=f"{code}:1", **more)  # fmt: skip


DISK = finding("disk")
SILENT = finding("silent", Severity.WAITING, count=3)


class Gateway:
    """A state directory, and the clocks of the machine."""

    def __init__(self, folder):
        self.folder, self.wall, self.up = folder, NOW, 100.0
        self.start()

    def start(self):
        clock = Clock("system", None, lambda: self.wall, lambda: self.up)
        self.known = Acknowledgements(self.folder, clock)

    def passes(self, seconds):
        self.wall += seconds
        self.up += seconds

    def counts(self, *findings):
        """The codes of those that somebody must look at."""
        made = self.known.applied(findings, keep=True)
        return {one.code for one in made if one.fine is False}


@pytest.fixture
def gateway(tmp_path):
    made = Gateway(tmp_path)
    assert made.counts(DISK, SILENT) == {"disk", "silent"}
    made.known.add([SILENT], "Eva (web)", "new meter ordered", 7)
    return made


def test_it_lasts_its_days_also_through_a_restart(gateway):
    assert gateway.counts(DISK, SILENT) == {"disk"}
    (known,) = gateway.known.applied([SILENT], keep=True)
    assert (known.acknowledged.who, known.acknowledged.note) == ("Eva (web)", "new meter ordered")
    assert known.acknowledged.until == stamp(NOW + 7 * DAY)
    gateway.passes(6.9 * DAY)
    gateway.start()
    gateway.counts(DISK)  # the first diagnoses after a start do not know everything yet
    assert gateway.counts(DISK, SILENT) == {"disk"}
    gateway.passes(0.2 * DAY)
    assert gateway.counts(DISK, SILENT) == {"disk", "silent"}
    assert later.settle(5)
    assert (gateway.folder / FILE).read_text() == "{}"


def test_what_ends_and_comes_back_counts_again(gateway):
    gateway.passes(AFTER_START)
    assert gateway.counts(DISK) == {"disk"}
    assert gateway.counts(SILENT) == {"silent"}


def test_what_becomes_worse_counts_again_and_one_device_more_is_no_news(gateway):
    assert gateway.counts(replace(SILENT, count=5)) == set()
    assert gateway.counts(replace(SILENT, count=1)) == set()
    assert gateway.counts(replace(SILENT, severity=Severity.LATER)) == set()
    assert gateway.counts(replace(SILENT, count=6)) == {"silent"}
    assert gateway.counts(SILENT) == {"silent"}, "it was withdrawn by what became worse"
    gateway.known.add([SILENT], "Eva", "again", 7)
    assert gateway.counts(replace(SILENT, severity=Severity.LOST)) == {"silent"}


@pytest.mark.parametrize("severity", [Severity.LOST, Severity.EQUIPMENT])
def test_lost_readings_and_equipment_always_count_and_show_who_works_on_it(gateway, severity):
    lost = finding("lost", severity)
    gateway.known.add([lost], "Eva", "on my way", 7)
    assert gateway.counts(lost) == {"lost"}
    (known,) = gateway.known.applied([lost], keep=True)
    assert known.acknowledged.who == "Eva"


def test_with_0_days_it_counts_again_at_once(gateway):
    gateway.known.add([SILENT], "Eva", "it was another one", 0)
    assert gateway.counts(SILENT) == {"silent"}


def test_a_further_finding_with_the_same_cause_is_news_and_what_is_settled_comes_last(gateway):
    one, other = (
        finding(code, Severity.WAITING, cause="line", actor=Actor.INSTALLER)
        for code in ("line", "port")
    )
    gateway.known.add([one], "Eva", "cable", 7)
    made = gateway.known.applied([SILENT, DISK, one], keep=True)
    assert [one.code for one in worst_first(made)] == ["disk", "silent", "line"]
    assert exit_status(worst_first(made[:1])) == 0
    (merged,) = worst_first(gateway.known.applied([one, other], keep=False))
    assert merged.fine is False
    assert merged.acknowledged is None


def test_the_note_is_not_for_those_who_may_see_no_names(gateway):
    (known,) = gateway.known.applied([SILENT], keep=True)
    assert Finding.of(known.wire()) == known
    assert "ordered" not in str(known.without_names().wire())
    assert known.without_names().acknowledged.who == "Eva (web)"
    assert known.without_names().fine
