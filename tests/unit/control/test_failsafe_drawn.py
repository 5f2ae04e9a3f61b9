"""EEBUS LPC 911, 916, 921 and TS-012 as sentences, held against drawn lives of centre and agent
(rule H12). The judge keeps its own books: words heard, time applied, limits come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from agent.control import failsafe
from agent.control.failsafe import Watch
from agent.control.model import Failsafe, Moment
from tests.depth import examples

RULE = Failsafe(Decimal(6), 7200.0, 60.0)
LOST, UNBROKEN, TICK = 120.0, 120.0, 10.0


@dataclass
class Judge:
    """What the sentences are about."""

    at: float = 0.0
    booted: float = -100.0
    boot: str = "a"
    applied_since: float | None = None
    entered: float = 0.0
    words: list[float] = field(default_factory=list)
    """since the start"""
    over_in_silence: bool = False
    limits: list[float] = field(default_factory=list)

    @property
    def now(self) -> Moment:
        return Moment(1.8e9 + self.at, self.at - self.booted, self.boot, trusted=True)

    @property
    def heard(self) -> bool:
        return bool(self.words) and self.at - self.words[-1] <= LOST

    @property
    def unbroken(self) -> bool:
        begun = self.at
        for word in reversed(self.words):
            if begun - word > LOST:
                break
            begun = word
        return self.heard and self.at - begun >= UNBROKEN

    @property
    def long_enough(self) -> bool:
        return self.applied_since is not None and self.at - self.applied_since >= RULE.lasts

    @property
    def following(self) -> bool:
        return any(self.entered <= one <= self.at < one + 900 for one in self.limits)

    def judge(self, before: Watch, after: Watch) -> None:
        """One step of the agent."""
        was, applies = before.since is not None, after.since is not None
        if was:
            by_limit = self.heard and self.following  # LPC-916: at once
            by_beats = self.long_enough and self.unbroken  # LPC-921: not before its duration
            by_silence = self.long_enough and not self.heard  # LPC-TS-012
            assert applies == (not (by_limit or by_beats or by_silence))
            if not applies:
                self.applied_since = None
                self.over_in_silence = not by_limit and by_silence
            return
        # LPC-911: a lost heartbeat, and not again after an end in silence before the next word
        assert applies == (not self.heard and not self.over_in_silence)
        if applies:
            self.applied_since = self.entered = self.at

    def restarted(self, after: Watch) -> None:
        """LPC-911: also at every start; what was under way goes on, with its age."""
        self.words.clear()
        assert (after.since is not None) == (not self.over_in_silence)
        if after.since is not None:
            if self.applied_since is None:
                self.applied_since = self.at
            # nobody has listened before: two periods of it are left at least
            self.applied_since = max(self.applied_since, self.at - (RULE.lasts - LOST))
            self.entered = self.at
            assert abs(failsafe.applied(after, self.now) - (self.at - self.applied_since)) < 1


acts = st.sampled_from(["beats", "silence", "word", "limit", "restart", "reboot"])
spans = st.sampled_from([TICK, 50.0, 130.0, 900.0, 7300.0])


@examples(40, 2_000)
@given(st.lists(st.tuples(acts, spans), min_size=1, max_size=12))
def test_the_failsafe_is_entered_kept_and_left_as_the_sentences_say(life):
    judge = Judge()
    watch = failsafe.started(Watch(), RULE, judge.now)
    judge.restarted(watch)
    for act, span in life:
        if act in {"restart", "reboot"}:
            judge.at += span if act == "reboot" else TICK
            if act == "reboot":
                judge.booted, judge.boot = judge.at - 5, judge.boot + "x"
            watch = failsafe.started(watch, RULE, judge.now)
            judge.restarted(watch)
            continue
        if act == "limit":
            judge.limits.append(judge.at)
        until, beat = judge.at + span, judge.at
        while judge.at < until:
            if (act == "word" and judge.at == beat) or (act == "beats" and judge.at >= beat):
                beat = judge.at + 60
                watch = failsafe.hear(watch, RULE, judge.now)
                judge.words.append(judge.at)
                judge.over_in_silence = False
            after = failsafe.step(watch, RULE, judge.now, limit_since=judge.following)
            judge.judge(watch, after)
            watch = failsafe.aged(after, judge.now) if int(judge.at) % 600 == 0 else after
            judge.at += TICK
