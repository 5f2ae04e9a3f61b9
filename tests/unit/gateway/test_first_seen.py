"""Since when a finding is there: from its first diagnosis on, through restarts and clock steps."""

from agent.core.atomic_write import later
from agent.core.clock import Clock, stamp
from agent.core.finding import Finding, Severity
from agent.core.i18n import Text
from agent.gateway.first_seen import AFTER_START, FILE, FirstSeen

NOW = 1_795_500_000.0


def finding(code, **more):
    return Finding(code=code, subject=Text(code), what=Text(code), severity=Severity.LATER, **more)


DISK, PORT = finding("disk"), finding("port", about="flat-A-1")


class Gateway:
    """A state directory, and the clocks of the machine."""

    def __init__(self, folder):
        self.folder, self.wall, self.up = folder, NOW, 100.0
        self.start()

    def start(self):
        clock = Clock("system", None, lambda: self.wall, lambda: self.up)
        self.seen = FirstSeen(self.folder, clock)

    def passes(self, seconds):
        self.wall += seconds
        self.up += seconds

    def dated(self, *findings):
        return {one.code: one.since for one in self.seen.dated(findings, keep=True)}


def test_a_finding_states_when_it_was_made_first_also_after_a_restart(tmp_path):
    gateway = Gateway(tmp_path)
    assert gateway.dated(DISK) == {"disk": stamp(NOW)}
    gateway.passes(60)
    assert gateway.dated(DISK, PORT) == {"disk": stamp(NOW), "port": stamp(NOW + 60)}
    assert later.settle(5)
    gateway.passes(600)
    gateway.start()
    assert gateway.dated(PORT) == {"port": stamp(NOW + 60)}
    gateway.passes(600)
    # the first diagnoses after a start do not know everything yet
    assert gateway.dated(DISK, PORT) == {"disk": stamp(NOW), "port": stamp(NOW + 60)}
    assert "flat" not in (tmp_path / FILE).read_text()


def test_a_finding_that_comes_back_begins_anew(tmp_path):
    gateway = Gateway(tmp_path)
    gateway.dated(DISK)
    gateway.dated()
    gateway.passes(60)
    assert gateway.dated(DISK) == {"disk": stamp(NOW + 60)}
    assert later.settle(5)
    gateway.start()
    gateway.passes(AFTER_START)
    gateway.dated()
    assert gateway.dated(DISK) == {"disk": stamp(gateway.wall)}


def test_what_was_seen_first_by_a_wrong_clock_is_dated_anew_when_the_clock_is_set(tmp_path):
    gateway = Gateway(tmp_path)
    gateway.wall = 86_400.0  # a board without a battery
    gateway.start()
    assert gateway.dated(DISK) == {"disk": "1970-01-02T00:00:00Z"}
    gateway.passes(120)
    gateway.wall = NOW
    assert gateway.dated(DISK) == {"disk": stamp(NOW - 120)}


def test_a_beginning_that_the_finding_knows_itself_counts(tmp_path):
    known = finding("disk", since="2026-01-01T00:00:00Z")
    assert Gateway(tmp_path).dated(known) == {"disk": known.since}
