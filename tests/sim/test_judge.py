"""The judge finds one fault in an otherwise right journal, and nothing in a right one."""

import copy
import datetime as dt
import re
from collections import Counter
from decimal import Decimal

import pytest

from agent.local import FAILED
from tests.sim.facts import Facts, Record
from tests.sim.judge import BROKE_OFF, judge
from tests.unit.test_rules import TOP, clauses

BEGIN = 1_798_761_600  # 2027-01-01 00:00 UTC
HOUR, DAY = 3600, 86_400
PLACE, STAY, METER, TO = "D84G7ZWYRD6Z1GQ", "H3K9Q0XJ5T7WZ2M", "11000001", "metropole.example"
CONSENT, CONTROL = "K1", "boiler"
DAYS = 3
END = BEGIN + (DAYS + 2) * DAY
EVERY = 1800

DIRECTORY = {
    "places": [{"id": PLACE}],
    "installations": [{"id": "i", "place": PLACE, "meter": METER}],
    "occupancies": [{"id": STAY, "place": PLACE, "since": "2025-01-01T00:00:00Z"}],
    "bases": [{"id": CONSENT, "place": PLACE, "occupancy": STAY, "step": EVERY,
               "channels": ["elec.imp"], "since": "2027-01-01T00:01:00Z"}],
    "series": [{"place": PLACE, "channel": "elec.imp", "kind": "REG", "step": EVERY,
                "since": "2027-01-01T00:30:00Z"}],
}  # fmt: skip


def shown(t):
    return str(Decimal(100_000 + (t - BEGIN) // 60).scaleb(-3))


class Story:
    """A journal that is right, and the ways to make it wrong."""

    def __init__(self):
        self.plan = {
            "schema": 1, "seed": 1, "kind": "people", "begin": BEGIN, "days": DAYS,
            "building": {"dwellings": 1, "recipients": 1, "lines": ["modbus"], "controls": 1},
            "events": [],
        }  # fmt: skip
        self.records = []
        self.note(BEGIN - HOUR, "life.begun", life=1, boot="a", apart=0.0)
        self.note(BEGIN - HOUR + 2, "life.ready", life=1)
        self.note(
            BEGIN - 60, "building", gateway="G1", zone="Europe/Paris", recipients=[TO],
            places=[{"place": PLACE, "occupancy": STAY, "since": BEGIN - 400 * DAY}],
            meters=[{"device": "e", "line": 0, "meter": METER, "place": PLACE,
                     "channel": "elec.imp", "every": EVERY, "since": BEGIN - 400 * DAY}],
            common=None, withheld=False, sums={}, flush=5,
            controls=[{"control": CONTROL, "device": "p", "point": "offset", "min": -3.0,
                       "max": 2.0, "original": "0", "min_gap": 600, "max_per_day": 4}],
        )  # fmt: skip
        self.call(BEGIN + 60, "consent", means=[{
            "fact": "consent", "id": CONSENT, "place": PLACE, "occupancy": STAY, "recipient": TO,
            "channels": ["elec.imp"], "step": EVERY, "since": BEGIN + 60, "until": END + 900 * DAY,
        }])  # fmt: skip
        self.seq, self.gap, self.reason = 0, (), {}

    def note(self, at, kind, **what):
        self.records.append(Record(float(at), kind, what))

    def call(self, at, name, means=(), outcome="accepted", **more):
        self.note(at, "call", name=name, asked=at - 0.5, means=list(means), outcome=outcome, **more)

    def row(self, t, **more):
        return {
            "place": PLACE, "channel": "elec.imp", "kind": "REG", "step": EVERY, "t": t, "q": "R",
            "v": shown(t), "d": 2, "meter": METER, "occupancy": STAY, "basis": CONSENT, **more,
        }  # fmt: skip

    def batch(self, at, rows, **more):
        """A batch that is stored and receipted at once; the first one has the directory."""
        self.seq += 1
        seq = more.pop("seq", self.seq)
        sha, epoch = more.pop("sha256", f"{seq:064x}"), more.pop("epoch", "e")
        self.note(at, "sent", recipient=TO, epoch=epoch, seq=seq, sha256=sha, bytes=900, rows=rows,
                  retract=more.pop("retract", []),
                  directory=more.pop("directory", {} if self.seq > 1 else DIRECTORY),
                  void=more.pop("void", None), **more)  # fmt: skip
        self.note(at + 1, "stored", recipient=TO, epoch=epoch, seq=seq, sha256=sha)
        self.note(at + 2, "receipt", recipient=TO, epoch=epoch, stored=[[seq, sha]])
        return sha

    def readings(self, until=END, silent=(), change=lambda row: row, again=60):
        """`again`: seconds after which a silent meter is asked again."""
        for t in range(BEGIN, until - EVERY, EVERY):
            if t in silent:
                for later in range(2, EVERY, again):
                    self.note(t + later, "silent", line=0, device="e")
            else:
                self.note(t + 2, "answer", line=0, device="e", meter=METER, channel="elec.imp",
                          value=shown(t), wall=t + 2.0)  # fmt: skip
            row = change(self.row(t))
            if row is not None and t > BEGIN + 60:
                self.batch(t + 300, [row])
        return self

    def judged(self, end=END):
        records = sorted(self.records, key=lambda record: record.at)
        records.append(Record(float(end), "end", {}))
        findings = judge(copy.deepcopy(self.plan), records)
        assert all(0 <= index < len(records) for one in findings for index in one.near)
        return findings

    def sorts(self):
        return {one.sort for one in self.judged()}


@pytest.fixture
def story():
    return Story()


def at(n):
    """A slot far from any event."""
    return BEGIN + DAY + n * EVERY


def in_place_of(t, **more):
    """A change of one row; None: it is left out."""
    return lambda row: (row | more if more else None) if row["t"] == t else row


def test_a_right_journal_has_no_finding(story):
    assert story.readings().judged() == []


@pytest.mark.parametrize(("first", "second"), [(901, 900), (900, 901)])
def test_an_item_of_a_later_batch_stays_whichever_arrives_first(story, first, second):
    """docs/platform.md: only what is in force owes the slot."""
    (basis, *_) = DIRECTORY["bases"]
    ended = basis | {"withdrawn": "2027-01-01T01:00:00Z"}
    story.readings(change=in_place_of(at(5)))
    story.batch(at(9), [], seq=first, directory={"bases": [ended]})
    story.batch(at(9) + 60, [], seq=second, directory={"bases": [basis]})
    assert (("CONSERVATION", "R16") in story.sorts()) is (first < second)


def test_a_slot_without_a_row_is_found(story):
    found = story.readings(change=in_place_of(at(5))).judged()
    assert {one.sort for one in found} == {("CONSERVATION", "G2"), ("CONSERVATION", "R16")}
    assert all(str(at(5)) in one.text for one in found)


def test_a_row_before_its_directory_and_a_dwelling_without_a_basis_are_found(story):
    story.seq = 1
    story.readings()
    assert {("CONSERVATION", "T21"), ("CONSERVATION", "T1")} == story.sorts()
    other = Story().readings()
    places = {"places": [{"id": "D0000000000000X"}]}
    other.batch(END - DAY, [], directory=places)
    assert other.sorts() == {("SENT", "P21")}


def test_a_value_that_the_meter_never_showed_is_found(story):
    assert story.readings(change=in_place_of(at(5), v="1.000")).sorts() == {("CONSERVATION", "M10")}


def test_the_value_of_another_slot_is_found(story):
    wrong = in_place_of(at(5), v=shown(at(4)))
    assert story.readings(change=wrong).sorts() == {("CONSERVATION", "M10")}


def test_a_value_that_was_read_in_a_calm_time_and_is_missing_is_found(story):
    wrong = in_place_of(at(5), q="M", v=None, why="silent")
    assert ("CONSERVATION", "G1") in story.readings(change=wrong).sorts()


def test_what_a_clock_that_steps_during_a_request_makes_of_a_reading_is_not_owed(story):
    story.readings(change=in_place_of(at(40), q="M", v=None, why="agent"))
    ahead = at(40) - at(5)
    asked = next(one for one in story.records if one.kind == "answer" and one.at == at(5) + 2)
    asked.what["wall"] += ahead
    late = next(one for one in story.records if one.kind == "answer" and one.at == at(40) + 2)
    assert ("CONSERVATION", "G1") in story.sorts()
    story.records.remove(late)
    assert ("CONSERVATION", "G1") in story.sorts()
    story.note(at(5) + 1, "clock", apart=ahead, service=True, kept=False)
    story.note(at(5) + 90, "clock", apart=0.0, service=True, kept=True)
    assert ("CONSERVATION", "G1") not in story.sorts()


def test_what_flowed_in_a_step_and_has_no_row_is_found(story):
    """Rule G2."""
    (meter,) = next(one for one in story.records if one.kind == "building").what["meters"]
    meter["kinds"] = ["REG", "INT"]
    found = story.readings().judged()
    assert {one.sort for one in found} == {("CONSERVATION", "G2")}
    assert all("INT" in one.text for one in found)


def told_of_another_dwelling(midnights):
    """A journal with a dwelling on which nobody has a basis, of whose meter W rows tell."""
    story, other = Story(), "D00000000000003"
    building = next(one for one in story.records if one.kind == "building").what
    building["withheld"] = True
    building["meters"].append(
        building["meters"][0] | {"device": "f", "meter": "11000002", "place": other}
    )
    story.readings()
    for t in midnights:
        row = {"place": other, "channel": "elec.imp", "kind": "REG", "step": DAY, "t": t, "q": "W",
               "v": None, "why": "consent", "basis": ""}  # fmt: skip
        story.batch(t + 300, [row])
    return story


def test_a_midnight_that_is_withheld_and_of_which_nothing_is_told_is_found():
    """Rule P20."""
    midnights = [BEGIN + n * DAY - HOUR for n in range(1, DAYS + 3)]
    assert told_of_another_dwelling(midnights).judged() == []
    (found,) = told_of_another_dwelling([midnights[0], *midnights[2:]]).judged()
    assert found.sort == ("CONSERVATION", "P20")
    assert str(midnights[1]) in found.text


@pytest.mark.parametrize(
    ("lost", "found"),
    [
        ({}, True),
        ({"args": {"recipient": TO}}, False),
        ({"args": {"recipient": "b.example"}}, True),
    ],
)
def test_a_basis_whose_answer_was_lost_may_give_the_midnight_that_is_not_withheld(lost, found):
    """Rule P20."""
    midnights = [BEGIN + n * DAY - HOUR for n in range(1, DAYS + 3)]
    story = told_of_another_dwelling(midnights[:1])
    if lost:
        story.call(midnights[1] - 6 * HOUR, "duty.add", outcome="lost", lost=True, **lost)
    assert (("CONSERVATION", "P20") in story.sorts()) is found


NEW, CLOSED, OPENED = "11000009", "101.592", "0.480"


def with_flows(*, read=True, **sent):
    """A journal in which a meter of which flows are sent is exchanged. `read`: people have read the
    indexes of both. `sent`: what is wrong with the consumption over the exchange.
    """
    story, when = Story(), at(5) + 100
    next(one for one in story.records if one.kind == "building").what["meters"][0]["kinds"] = [
        "REG", "INT"
    ]  # fmt: skip
    fact = {"fact": "exchange", "place": PLACE, "channel": "elec.imp", "device": "e", "at": when,
            "old": METER, "new": NEW, "closing": CLOSED if read else None,
            "opening": OPENED if read else None}  # fmt: skip
    story.note(when, "meter", device="e", channel="elec.imp", old=METER, new=NEW)
    story.call(when + 60, "meter.exchange", means=[fact])
    series = [DIRECTORY["series"][0] | {"kind": kind} for kind in ("REG", "INT")]
    places = [*DIRECTORY["installations"], {"id": "n", "place": PLACE, "meter": NEW}]
    directory = DIRECTORY | {"series": series, "installations": places}
    last = None
    for t in range(BEGIN, END - EVERY, EVERY):
        meter = METER if t < when else NEW
        value = shown(t) if t < when else str(Decimal(OPENED) + Decimal(t - when).scaleb(-6))
        story.note(t + 2, "answer", line=0, device="e", meter=meter, channel="elec.imp",
                   value=value, wall=t + 2.0)  # fmt: skip
        rows = [story.row(t, v=value, meter=meter)]
        flow = {"q": "K", "v": str(Decimal(value) - Decimal(last or 0))}
        if t == at(6):
            whole = Decimal(CLOSED) - Decimal(last) + Decimal(value) - Decimal(OPENED)
            flow = {"q": "K", "v": str(whole)} if read else {"q": "E", "v": "0"}
            flow |= {"flags": "EXCH"} | sent
        if last is not None:
            rows.append(story.row(t, kind="INT", meter=meter, **flow))
        if t > BEGIN + 2 * EVERY:
            story.batch(t + 300, rows, directory=directory if story.seq == 0 else {})
        last = value
    index = {"step": 0, "d": 0, "flags": "EXCH+MAN", "ver": when + 60}
    rows = [(when - 1, CLOSED, METER), (when, OPENED, NEW)] if read else []
    story.batch(when + 70, [story.row(t, v=v, meter=meter, **index) for t, v, meter in rows])
    return story


def test_a_wrong_consumption_over_an_exchange_is_found():
    """Rule M7."""
    assert with_flows().judged() == []
    assert with_flows(v="101.000").sorts() == {("CONSERVATION", "M7")}
    assert with_flows(q="E").sorts() == {("CONSERVATION", "M7")}
    assert ("CONSERVATION", "M7") in with_flows(flags="").sorts()
    assert with_flows(read=False).judged() == []
    assert with_flows(read=False, v="0.100").sorts() == {("CONSERVATION", "M7")}
    assert with_flows(read=False, q="K").sorts() == {("CONSERVATION", "M7")}


@pytest.mark.parametrize(("index", "found"), [(CLOSED, False), ("99.999", True)])
def test_the_indexes_of_an_exchange_whose_answer_was_lost_may_be_sent(index, found):
    """Rule R14."""
    story = with_flows()
    asked = next(one for one in story.records if one.what.get("name") == "meter.exchange")
    asked.what.update(outcome="lost", lost=True)
    asked.what["means"][0]["closing"] = index
    assert (("CONSERVATION", "R14") in story.sorts()) is found


def test_no_consumption_over_an_exchange_that_was_recorded_in_time_is_found():
    """Rule M7."""
    assert ("CONSERVATION", "M7") in with_flows(q="M", v=None, why="bad", flags="").sorts()
    disturbed = with_flows(q="M", v=None, why="bad", flags="")
    disturbed.note(
        at(5) + 200, "event", index=0, do="device", device=0, how="late", **{"for": 60.0}
    )
    disturbed.note(at(5) + 260, "event", index=0, ended=True, do="device")
    assert ("CONSERVATION", "M7") not in disturbed.sorts()


def test_a_silent_meter_is_right_and_another_reason_is_found(story):
    right = in_place_of(at(5), q="M", v=None, why="silent")
    assert story.readings(silent={at(5)}, change=right).judged() == []
    for why in ("link", "agent", "bad", "early", "busy", "shed", "clock", "uplink", "odd"):
        wrong = in_place_of(at(5), q="M", v=None, why=why)
        assert Story().readings(silent={at(5)}, change=wrong).sorts() == {("CONSERVATION", "M3")}


@pytest.mark.parametrize(("slot", "found"), [(9, set()), (20, {("CONSERVATION", "M3")})])
def test_a_number_that_is_not_asked_again_after_a_garbled_answer_is_found(story, slot, found):
    """Rule I16."""
    fault(story, at(5), at(7), "device", device=0, how="garbage")
    bad = in_place_of(at(slot), q="M", v=None, why="bad")
    sorts = {sort for sort in story.readings(change=bad).sorts() if sort[1] == "M3"}
    assert sorts == found


def test_a_slot_during_a_kill_is_m_agent(story):
    story.note(at(5) - 10, "life.ended", life=1, how="kill")
    story.note(at(5) + 2000, "life.begun", life=2, boot="a", apart=0.0)
    story.note(at(5) + 2002, "life.ready", life=2)
    right = in_place_of(at(5), q="M", v=None, why="agent")
    assert story.readings(change=right).judged() == []


@pytest.mark.parametrize(("missing", "found"), [(10, {("CONSERVATION", "G2")}), (999, set())])
def test_slots_while_the_agent_was_down_and_its_uplink_was_removed_are_not_owed(
    story, missing, found
):
    """Rule T27: they are stated once the uplink is back."""
    story.note(at(20) + 5, "life.ended", life=1, how="kill")
    story.note(at(94), "configured", change="recipient", every={"e": EVERY}, flush=5,
               recipients=[], readable=True)  # fmt: skip
    story.note(at(94) + 60, "life.begun", life=2, boot="a", apart=0.0)
    story.note(at(94) + 61, "life.ready", life=2)
    story.readings(until=at(21), change=in_place_of(at(missing)))
    assert story.sorts() - {("EQUIPMENT", "H12")} == found


@pytest.mark.parametrize(
    ("fails", "ended", "right"),
    [((3, 99), 20, True), ((3, 89), 20, False), ((30, 99), 20, False), ((3, 99), None, False)],
)
def test_slots_that_only_the_disk_can_state_are_not_owed_if_its_uplink_was_removed_meanwhile(
    story, fails, ended, right
):
    """Rules A4, T27: the agent was down in slot 21, and the disk failed until after the removal."""
    fault(story, at(fails[0]), at(fails[1]), names=False)
    if ended:
        story.note(at(ended) + 1500, "life.ended", life=1, how="kill")
        story.note(at(22) - 60, "life.begun", life=2, boot="a", apart=0.0)
        story.note(at(22) - 50, "life.ready", life=2)
    story.note(at(94), "configured", change="recipient", every={"e": EVERY}, flush=5,
               recipients=[], readable=True)  # fmt: skip
    story.readings(until=at(93), change=lambda row: None if row["t"] == at(21) else row)
    assert story.sorts() & BOTH == (set() if right else BOTH)


@pytest.mark.parametrize(
    ("until", "starts", "right"), [(99, True, True), (80, True, False), (99, False, False)]
)
def test_slots_that_wait_for_a_recipient_whose_uplink_a_start_takes_out_are_not_owed(
    story, until, starts, right
):
    """Rule T27: they are delivered once the uplink is back."""
    fault(story, at(30), at(until), do="uplink", recipient=0, how="down")
    story.note(at(94), "configured", change="recipient", every={"e": EVERY}, flush=5,
               recipients=[], readable=True)  # fmt: skip
    if starts:
        ends(story, at(94) + 200, "kill")
    story.readings(until=at(93), change=lambda row: row if row["t"] < at(30) else None)
    assert (("CONSERVATION", "G2") not in story.sorts()) == right


BOTH = {("CONSERVATION", "G2"), ("CONSERVATION", "R16")}


@pytest.mark.parametrize(
    ("ended", "missing", "found"),
    [
        (5, None, set()),
        (None, None, {("CONSERVATION", "R16")}),  # whether later slots are owed nobody knows
        (4, None, {("CONSERVATION", "R16")}),  # it has a row of slot 4
        (5, 4, {("CONSERVATION", "R16")}),
        (5, 6, {("CONSERVATION", "R16")}),  # the first one of the new period
        (5, 40, BOTH),
    ],
)
@pytest.mark.parametrize("failed", [False, True])
def test_at_another_period_the_series_ends_and_the_next_one_goes_on(
    story, ended, missing, found, failed
):
    """Rule M3: also if the agent was down at the change. `failed`: a start before it has failed."""
    story.note(at(5) + 5, "life.ended", life=1, how="kill")
    if failed:
        story.note(at(20), "life.begun", life=2, boot="a", apart=0.0)
        story.note(at(20) + 90, "life.ended", life=2, how="error", text="it did not become ready")
    life, n = (3, 20) if failed else (2, 5)
    story.note(at(n) + 100, "configured", change="period", every={"e": 2 * EVERY}, flush=5,
               recipients=[TO], readable=True)  # fmt: skip
    story.note(at(n) + 2000, "life.begun", life=life, boot="a", apart=0.0)
    story.note(at(n) + 2002, "life.ready", life=life)

    def slower(row):
        if row["t"] == at(missing or 999) or (row["t"] >= at(5) and row["t"] % (2 * EVERY)):
            return None
        return row | {"step": 2 * EVERY} if row["t"] >= at(5) else row

    before = DIRECTORY["series"][0] | ({"until": at(ended)} if ended else {})
    after = before | {"step": 2 * EVERY, "since": at(6), "until": None}
    story.batch(BEGIN + 90, [], directory=DIRECTORY | {"series": [before, after]})
    story.readings(change=slower)
    assert story.sorts() - {("SPIN", "G11")} == found


@pytest.mark.parametrize(("how", "n"), [("power", 5), ("kill", 20)])
def test_what_was_closed_in_memory_only_is_unknown_after_a_power_cut(story, how, n):
    """Rules M3, A2: from which slot on another period counts."""
    for when, more in ((at(5), {}), (at(22), {"ended": True})):
        story.note(when, "event", index=0, do="disk", how="eio", **{"for": 9000}, **more)
    story.note(at(20), "life.ended", life=1, how=how)
    story.note(at(20) + 60, "configured", change="period", every={"e": 2 * EVERY}, flush=5,
               recipients=[TO], readable=True)  # fmt: skip
    story.note(at(23), "life.begun", life=2, boot="b" if how == "power" else "a", apart=0.0)
    story.note(at(23) + 2, "life.ready", life=2)
    story.note(END, "end")
    facts = Facts(story.plan, sorted(story.records, key=lambda record: record.at))
    assert facts.other_period_from(facts.fitted[0]) == at(n) - EVERY


@pytest.mark.parametrize(("missing", "found"), [(at(94), BOTH), (0, set())])
def test_a_midnight_is_owed_whatever_period_the_meter_is_read_at_now(story, missing, found):
    """Rule M3."""
    story.records[-1].what["means"][0]["step"] = DAY
    end = END + 2 * DAY
    midnights = {at(46) + n * DAY for n in range(-1, DAYS + 2)} - {missing}
    basis, series = DIRECTORY["bases"][0] | {"step": DAY}, DIRECTORY["series"][0] | {"step": DAY}
    story.batch(BEGIN + 90, [], directory=DIRECTORY | {"bases": [basis], "series": [series]})
    story.note(at(5), "configured", change="period", every={"e": 2 * EVERY}, flush=5,
               recipients=[TO], readable=True)  # fmt: skip
    story.readings(end, change=lambda row: row | {"step": DAY} if row["t"] in midnights else None)
    assert {one.sort for one in story.judged(end)} == found


def test_a_run_of_values_is_found_and_one_of_missing_slots_is_right(story):
    """Rule R8."""
    silent = {at(5), at(6)}
    run = [(at(5), {"q": "M", "v": None, "why": "silent", "span": 2})]
    story.readings(silent=silent, change=lambda row: None if row["t"] in silent else row)
    story.batch(at(7), [story.row(t, **more) for t, more in run])
    assert story.judged() == []
    story.records[-3].what["rows"][0].update(q="R", v=shown(at(5)))
    assert ("CONSERVATION", "R8") in story.sorts()


def test_an_agent_that_boots_on_a_failing_disk_may_lose_what_it_reads(story):
    """Rule A8: nobody told it what has ended."""
    story.note(at(3), "event", index=0, do="disk", how="eio", **{"for": 9000})
    story.note(at(20), "event", index=0, do="disk", how="eio", ended=True, **{"for": 9000})
    story.readings(change=in_place_of(at(12), q="M", v=None, why="agent", again=True))
    assert story.sorts() == {("CONSERVATION", "A2")}
    story.note(at(4), "life.ended", life=1, how="kill")
    for boot, complaint in (("a", True), ("b", False)):
        story.records = [one for one in story.records if one.what.get("life") != 2]
        story.note(at(4) + 10, "life.begun", life=2, boot=boot, apart=0.0)
        story.note(at(4) + 20, "life.ready", life=2)
        assert (("CONSERVATION", "A2") in story.sorts()) is complaint


@pytest.mark.parametrize(("works", "complaint"), [(-30, False), (-150, True)])
def test_what_is_read_before_the_agent_finds_that_the_disk_works_may_be_lost(
    story, works, complaint
):
    """Rules A8, A4: it tries each minute."""
    fault(story, at(3), at(12) + works, how="readonly")
    begins_again(story, at(4), how="power", boot="b")
    story.readings(change=in_place_of(at(12), q="M", v=None, why="agent", again=True))
    assert (("CONSERVATION", "A2") in story.sorts()) is complaint


def test_a_row_at_no_slot_of_its_step_is_found(story):
    story.readings()
    for more in ({"step": 86_400}, {"step": 30 * DAY}, {"t": at(5) + 60}):
        other = Story().readings()
        other.batch(at(9), [other.row(at(5), v=shown(at(5) + 60)) | more])
        assert ("CONSERVATION", "M9") in other.sorts()


def test_a_value_that_was_read_while_the_disk_failed_and_is_missing_is_found(story):
    story.plan["events"] = [{"do": "disk", "how": "eio", "for": 9000, "at": 0, "seed": 1}]
    for when, more in ((at(3), {}), (at(8), {"ended": True})):
        fault = {"index": 0, "do": "disk", "how": "eio", "for": 9000} | more
        story.note(when, "event", **fault)
    lost = in_place_of(at(5), q="M", v=None, why="agent", again=True)
    story.readings(change=lost)
    assert story.sorts() == {("CONSERVATION", "A2")}
    of_memory(story, at(9), [story.row(at(5), ver=at(9))])
    assert story.judged() == []


def test_a_value_that_was_kept_survives_a_later_cut(story):
    story.readings(change=in_place_of(at(5), q="M", v=None, why="agent"))
    story.note(at(5) + 130, "life.ended", life=1, how="power")
    story.note(at(5) + 140, "life.begun", life=2, boot="b", apart=0.0)
    story.note(at(5) + 142, "life.ready", life=2)
    assert story.sorts() == {("CONSERVATION", "G1")}


def test_two_rows_of_one_key_are_found_and_again_is_right(story):
    story.readings()
    story.batch(at(9), [story.row(at(5), again=True)])
    assert story.judged() == []
    story.batch(at(9), [story.row(at(5))])
    assert story.sorts() == {("CONSERVATION", "T6")}


def test_a_row_of_a_void_that_is_sealed_again_and_does_not_say_so_is_found(story):
    story.readings(change=in_place_of(at(5)))
    story.batch(at(5) + 300, [story.row(at(5))])
    void = story.seq
    del story.records[-2:]  # neither stored nor receipted
    story.batch(at(6), [], seq=void, sha256="f" * 64, void="withdrawn")
    story.batch(at(7), [story.row(at(5), again=True)])
    assert ("CONSERVATION", "T6") not in story.sorts()
    story.batch(at(8), [story.row(at(5))])
    assert ("CONSERVATION", "T6") in story.sorts()


def test_a_missing_seq_is_found(story):
    story.readings()
    story.seq += 1
    story.batch(END - DAY, [])
    assert story.sorts() == {("CONSERVATION", "T1")}


def test_two_contents_of_an_id_and_an_original_after_its_void_are_found(story):
    story.readings()
    story.batch(at(9), [], seq=story.seq, sha256="f" * 64)
    assert ("CONSERVATION", "T2") in story.sorts()
    other = Story().readings()
    sha = other.batch(END - DAY, [])
    other.batch(END - DAY + 60, [], seq=other.seq, sha256="f" * 64, void="withdrawn")
    assert other.judged() == []
    other.note(END - DAY + 90, "sent", recipient=TO, epoch="e", seq=other.seq - 1, sha256=sha)
    assert other.sorts() == {("SENT", "T5")}


def withdraw(story, when, **more):
    fact = {"fact": "withdraw", "place": PLACE, "occupancy": STAY, "recipient": None}
    story.call(when, "withdraw", means=[fact], **more)
    if not more:
        since = BEGIN - 400 * DAY
        story.batch(when + 30, [], retract=[{
            "id": "w", "place": PLACE, "channel": None, "occupancy": STAY, "basis": CONSENT,
            "meter": None, "since": since, "until": None, "ver": 2**53 - 1, "reason": "withdrawn",
        }])  # fmt: skip


def test_a_withdrawal_with_its_retraction_is_right(story):
    story.readings(until=at(5))
    withdraw(story, at(6))
    assert story.judged() == []


def test_a_row_sent_after_its_withdrawal_was_answered_is_found(story):
    story.readings(until=at(5))
    withdraw(story, at(6))
    story.batch(at(6) + 1, [story.row(at(4), again=True)])
    assert ("SENT", "P13") in story.sorts()


def test_a_withdrawal_that_nobody_was_told_of_binds_nobody(story):
    withdraw(story, at(6), outcome="lost", lost=True)
    assert {clause for _, clause in story.readings().sorts()} == {"U10"}, "it had no answer"


def test_rows_of_a_withdrawn_consent_that_are_not_retracted_are_found(story):
    story.readings(until=at(5))
    fact = {"fact": "withdraw", "place": PLACE, "occupancy": STAY, "recipient": TO}
    story.call(at(6), "withdraw", means=[fact])
    assert story.sorts() == {("SENT", "A9")}


@pytest.mark.parametrize(
    ("hours", "of", "found"), [(4, {}, False), (4, {"basis": "K2"}, True), (28, {}, True)]
)
def test_a_retraction_that_the_recipient_rejected_may_wait_for_a_day(story, hours, of, found):
    """Rules T4, T17, A9: after the day it is sent under another id."""
    when = END - hours * HOUR
    story.readings(until=when - HOUR)
    fact = {"fact": "withdraw", "place": PLACE, "occupancy": STAY, "recipient": TO}
    story.call(when, "withdraw", means=[fact])
    right = taken_back(reason="withdrawn", since=BEGIN, until=None, ver=2**53 - 1, basis=CONSENT)
    story.seq += 1
    batch = {"recipient": TO, "epoch": "e"}
    story.note(when + 30, "sent", **batch, seq=story.seq, sha256="f" * 64, bytes=900, rows=[],
               retract=[right | of], directory={}, void=None)  # fmt: skip
    story.note(when + 32, "receipt", **batch, rejected=[[story.seq, "f" * 64, "for a trial"]])
    assert (("SENT", "A9") in story.sorts()) == found


@pytest.mark.parametrize("again", [False, True])
def test_a_recipient_whose_uplink_was_removed_cannot_be_asked_to_erase(story, again):
    story.readings(until=at(5))
    story.note(at(5) + 60, "configured", change="recipient", recipients=[], every={})
    if again:
        story.note(at(7), "configured", change="recipient", recipients=[TO], every={})
    fact = {"fact": "withdraw", "place": PLACE, "occupancy": STAY, "recipient": TO}
    story.call(at(6), "withdraw", means=[fact])
    assert (("SENT", "A9") in story.sorts()) == again


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"basis": "K2"}, "G3"),
        ({"occupancy": "H0000000000000X"}, "P4"),
        ({"channel": "heat"}, "P4"),
        ({"step": 600}, "P4"),
        ({"step": 60}, "P2"),
        ({"meter": "99999999"}, "G4"),
        ({"place": "X84G7ZWYRD6Z1GQ"}, "I5"),
        ({"q": "W", "v": None, "why": "consent", "meter": None, "basis": ""}, "P20"),
        ({"place": "C84G7ZWYRD6Z1GQ", "basis": "common"}, "P11"),
    ],
)
def test_a_row_that_nobody_may_have_is_found(story, change, clause):
    story.readings()
    story.batch(at(9), [story.row(at(5), **change)])
    assert ("SENT", clause) in story.sorts()


def test_a_row_of_former_occupants_after_their_move_was_recorded_is_found(story):
    leave = {"fact": "leave", "place": PLACE, "occupancy": STAY, "at": at(3)}
    story.readings(until=at(6))
    story.call(at(7), "move-out", means=[leave])
    assert story.sorts() == {("SENT", "I22")}
    story.batch(at(7) + 1, [story.row(at(4), again=True)])
    assert ("SENT", "P12") in story.sorts()


def test_a_consent_that_was_signed_before_its_people_moved_in_is_no_basis(story):
    first = BEGIN - HOUR + DAY  # a midnight in Paris
    story.records[2].what["places"][0]["since"] = first + 9 * HOUR
    fact = story.records[3].what["means"][0]
    story.readings(change=lambda row: row if row["t"] >= at(24) else None)
    assert not {clause for _, clause in story.sorts()} & {"P6"}
    fact["given"] = first + 60  # on the day of the move
    assert not {clause for _, clause in story.sorts()} & {"P6"}
    fact["given"] = first - 60
    assert ("SENT", "P6") in story.sorts()


MIDNIGHT = BEGIN + 2 * DAY - HOUR
"""at the building"""


def on_duty(story, hour=0):
    """The manager has a duty, and whoever lives there moves out on a day, recorded late."""
    story.records[2].what["meters"][0]["channel"] = "heat"
    story.records[3] = Record(BEGIN + 60.0, "call", {
        "name": "duty", "asked": BEGIN + 59.5, "outcome": "accepted",
        "means": [{"fact": "duty", "id": CONSENT, "recipient": TO, "channels": ["heat"],
                   "since": BEGIN + 60}],
    })  # fmt: skip
    for t in range(BEGIN, END, EVERY):
        story.note(t + 2, "answer", line=0, device="e", meter=METER, channel="heat",
                   value=shown(t), wall=t + 2.0)  # fmt: skip
    leave = {"fact": "leave", "place": PLACE, "occupancy": STAY, "at": MIDNIGHT + hour * HOUR}
    story.call(MIDNIGHT + 9 * HOUR, "move-out", means=[leave])
    series = [{"place": PLACE, "channel": "heat", "kind": "REG", "step": EVERY,
               "since": "2028-01-01T00:00:00Z"}]  # fmt: skip
    duty = {"id": CONSENT, "duty": "charges", "channels": ["heat"]}
    return DIRECTORY | {"series": series, "bases": [duty]}


@pytest.mark.parametrize("hour", [0, 1, 9])
def test_the_index_of_00_00_on_the_day_of_a_move_is_owed_on_a_duty(story, hour):
    directory = on_duty(story, hour)
    assert story.sorts() == {("CONSERVATION", "P9")}
    index = story.row(MIDNIGHT, channel="heat", step=DAY, ver=MIDNIGHT + 9 * HOUR + 1, flags="LATE")
    story.batch(MIDNIGHT + 10 * HOUR, [index], directory=directory)
    assert story.judged() == []


def test_the_index_of_another_midnight_on_a_duty_is_found(story):
    directory = on_duty(story)
    story.batch(MIDNIGHT - DAY + 300, [story.row(MIDNIGHT - DAY, channel="heat", step=DAY)],
                directory=directory)  # fmt: skip
    assert ("SENT", "P9") in story.sorts()


@pytest.mark.parametrize(("ended", "found"), [("U2", False), (CONSENT, True)])
def test_the_end_of_a_duty_ends_no_other_duty_of_its_recipient(story, ended, found):
    """Rules P9, I22."""
    directory = on_duty(story)
    end = {"fact": "duty.end", "id": ended, "recipient": TO, "at": MIDNIGHT - HOUR}
    story.call(MIDNIGHT - HOUR, "duty.end", means=[end])
    index = story.row(MIDNIGHT, channel="heat", step=DAY, ver=MIDNIGHT + 9 * HOUR + 1, flags="LATE")
    story.batch(MIDNIGHT + 10 * HOUR, [index], directory=directory)
    assert (("SENT", "P4") in story.sorts()) is found


def test_who_never_had_a_basis_is_not_told_that_nobody_lives_there(story):
    story.records[2].what["withheld"] = True
    other = "D0000000000000X"
    row = {"place": other, "channel": "heat", "kind": "REG", "step": DAY, "t": BEGIN + DAY - HOUR,
           "q": "W", "why": "consent", "basis": ""}  # fmt: skip
    story.readings()
    story.batch(at(9), [row])
    assert story.judged() == []
    story.batch(at(9), [row | {"why": "vacant", "t": row["t"] + DAY}])
    assert story.sorts() == {("SENT", "P20")}
    story.batch(at(9), [row | {"why": "vacant", "place": PLACE}])
    assert [one.text.count(other) for one in story.judged()] == [1]


def order(story, when, value=-2.0, begin=None, duration=HOUR):
    fact = {"fact": "order", "jti": f"o{when}", "control": CONTROL, "value": value,
            "begin": begin or when, "duration": duration, "random": 0, "sender": TO}  # fmt: skip
    story.note(when, "object", typ="order+jwt", jti=f"o{when}", recipient=TO, means=[fact])
    story.note(when + 1, "object", typ="order+jwt", jti=f"o{when}", recipient=TO, acked=True)


def write(story, when, value, before="0", by="agent"):
    story.note(when, "write", device="p", point="offset", control=CONTROL, before=before,
               value=value, by=by)  # fmt: skip


def test_an_order_that_is_carried_out_and_released_is_right(story):
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    write(story, at(0) + HOUR, "0", "-2")
    assert story.readings().judged() == []


@pytest.mark.parametrize(
    ("what", "clause"),
    [
        ([(2, "-2"), (HOUR + 300, "0")], "G6"),
        ([(2, "-2")], "G6"),
        ([(2, "-2.5"), (HOUR, "0")], "O17"),
        ([(2, "-4"), (HOUR, "0")], "O17"),
        ([(-7200, "-2"), (-7100, "0")], "G5"),
        ([(2, "-2"), (600, "0"), (700, "-2"), (HOUR, "0")], "H4"),
    ],
)
def test_a_hold_without_right_is_found(story, what, clause):
    order(story, at(0))
    for after, value in what:
        write(story, at(0) + after, value)
    assert ("EQUIPMENT", clause) in story.readings().sorts()


def test_a_value_of_a_person_stays(story):
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    write(story, at(0) + 600, "1", "-2", by="person")
    assert story.readings().judged() == []
    write(story, at(0) + 1200, "-2", "1")
    write(story, at(0) + HOUR, "0", "-2")
    assert story.sorts() == {("EQUIPMENT", "H10")}


@pytest.mark.parametrize(("again", "wrong"), [(1650, {"H10"}), (1900, set())])
def test_what_a_person_sets_stays_until_the_end_of_the_order_whose_value_it_replaced(
    story, again, wrong
):
    order(story, at(0), value=-1.0, duration=2 * HOUR)
    order(story, at(0) + 60, duration=1740)
    order(story, at(0) + again, value=-1.5, duration=600)
    write(story, at(0) + 62, "-2")
    write(story, at(0) + 1000, "1", "-2", by="person")
    write(story, at(0) + again, "-1.5", "1")
    write(story, at(0) + again + 600, "1", "-1.5")
    assert {clause for _, clause in story.readings().sorts()} == wrong


@pytest.mark.parametrize(("state", "wrong"), [("SUPERSEDED", set()), ("STARTED", {"H10"})])
def test_an_order_that_gave_way_is_not_the_one_that_a_person_has_ended(story, state, wrong):
    """Rules H8, H15: three limits one after the other, the third with the value of the first."""
    for seconds, value, duration in ((0, -2.0, HOUR), (60, -1.0, HOUR), (120, -2.0, 1200)):
        order(story, at(0) + seconds, value=value, duration=duration)
        write(story, at(0) + seconds + 2, str(value))
    write(story, at(0) + 1000, "1", "-2", by="person")
    order(story, at(0) + 1900, value=-1.5, duration=600)
    write(story, at(0) + 1902, "-1.5", "1")
    write(story, at(0) + 2500, "1", "-1.5")
    told(story, at(5), "STARTED", state)
    assert {clause for _, clause in story.readings().sorts() if clause == "H10"} == wrong


@pytest.mark.parametrize(("again", "wrong"), [(4, set()), (60, {"H4", "H10"})])
def test_a_value_that_a_person_sets_before_the_read_back_is_taken_for_the_devices(
    story, again, wrong
):
    """Rule H33."""
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    write(story, at(0) + 3, "1", "-2", by="person")
    write(story, at(0) + again, "-2", "1")
    write(story, at(0) + HOUR, "0", "-2")
    assert {clause for _, clause in story.readings().sorts()} == wrong


@pytest.mark.parametrize(("set_by_agent", "wrong"), [("-1", set()), ("-1.5", {"H10"})])
def test_a_value_that_the_agent_has_set_in_the_same_hold_is_nobodys(story, set_by_agent, wrong):
    """Rule H33."""
    order(story, at(0))
    write(story, at(0) + 2, set_by_agent)
    write(story, at(0) + 62, "-2", set_by_agent)
    write(story, at(0) + 600, "-1", "-2", by="person")
    write(story, at(0) + 1200, "-2", "-1")
    write(story, at(0) + HOUR, "0", "-2")
    assert {clause for _, clause in story.readings().sorts()} == wrong


@pytest.mark.parametrize(("after", "wrong"), [(2 * HOUR, set()), (600, {"G6"})])
def test_a_hold_whose_device_has_fallen_back_is_over_with_its_order(story, after, wrong):
    """Rule H33: what a person sets then is theirs, whatever the agent has set before."""
    fault(story, at(0) + 200, at(0) + 310, do="device", device=1, how="silent")
    order(story, at(0))
    write(story, at(0) + 2, "-1")
    write(story, at(0) + 300, "0", "-1", by="watchdog")
    write(story, at(0) + after, "-1", "0", by="person")
    order(story, at(20))
    write(story, at(20) + 2, "-2", "-1")
    write(story, at(20) + HOUR, "-1", "-2")
    assert {clause for _, clause in story.readings().sorts()} == wrong


@pytest.mark.parametrize(
    ("first", "second", "wrong"),
    [
        ("REJECTED", None, set()),
        (None, None, {"O17"}),
        ("REJECTED", "REJECTED", {"G5", "G6"}),
    ],
)
def test_the_number_of_an_object_that_was_refused_is_free(story, first, second, wrong):
    """Rule O8: an order may have it then."""
    order(story, at(0), value=-1.0)
    jti = f"o{at(0)}"
    story.records[-2].what["sha256"] = "a"
    (fact,) = story.records[-2].what["means"]
    story.note(at(0) + 5, "object", typ="order+jwt", jti=jti, recipient=TO, sha256="b", means=[],
               flaw="replay", instead=[fact | {"value": -2.0}])  # fmt: skip
    story.note(at(0) + 6, "object", typ="order+jwt", jti=jti, recipient=TO, acked=True)
    outcomes = [
        {"jti": jti, "typ": "order+jwt", "sha256": sha, "state": state, "code": "E_CLOCK"}
        for sha, state in (("a", first), ("b", second))
        if state
    ]
    if second is None:
        outcomes.append({"jti": jti, "control": CONTROL, "id": "1", "state": "ACCEPTED",
                         "at": utc(at(0) + 5)})  # fmt: skip
    story.readings().batch(at(1), [], directory={"outcomes": outcomes})
    write(story, at(0) + 8, "-2")
    write(story, at(0) + HOUR, "0", "-2")
    assert {clause for _, clause in story.sorts()} == wrong


@pytest.mark.parametrize(
    ("fact", "clause"), [("opt-out", "H7"), ("release", "H9"), ("cancel", "H9")]
)
def test_a_hold_that_goes_on_after_it_was_stopped_is_found(story, fact, clause):
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    write(story, at(0) + HOUR, "0", "-2")
    until = at(0) + HOUR
    story.call(at(0) + 600, fact, means=[
        {"fact": fact, "control": CONTROL, "until": until, "of": f"o{at(0)}"}
    ])  # fmt: skip
    assert story.readings().sorts() == {("EQUIPMENT", clause)}


@pytest.mark.parametrize("asked", [{"lasts": HOUR}, {"until": BEGIN + DAY + HOUR}])
def test_an_opt_out_lasts_as_long_as_was_asked_whatever_its_answer_says(story, asked):
    half = 3000
    answered = dt.datetime.fromtimestamp(at(0) + half / 2, dt.UTC).isoformat()
    story.call(at(0), "control.opt_out", result={"until": answered},
               means=[{"fact": "opt-out", "control": CONTROL, **asked}])  # fmt: skip
    order(story, at(0) + half)
    write(story, at(0) + half + 2, "-2")
    write(story, at(0) + half + HOUR, "0", "-2")
    assert ("EQUIPMENT", "H7") in story.readings().sorts()


@pytest.mark.parametrize(
    ("how", "fails", "found"), [("kill", 900, True), ("power", 900, False), ("power", 300, True)]
)
def test_an_opt_out_without_a_record_counts_until_the_machine_crashes(story, how, fails, found):
    """Rule A12: the disk has it once it takes anything again."""
    fault(story, at(0) - 60, at(0) + fails, how="readonly")
    asked = {"fact": "opt-out", "control": CONTROL, "lasts": 3 * HOUR}
    story.call(at(0), "control.opt_out", result={"unrecorded": "disk", "until": utc(at(3))},
               means=[asked])  # fmt: skip
    begins_again(story, at(0) + 600, how=how, boot="b" if how == "power" else "a")
    order(story, at(0) + HOUR)
    write(story, at(0) + HOUR + 2, "-2")
    write(story, at(0) + 2 * HOUR, "0", "-2")
    assert (("EQUIPMENT", "H7") in story.readings().sorts()) == found


def utc(t):
    return dt.datetime.fromtimestamp(t, dt.UTC).isoformat().replace("+00:00", "Z")


def opted_out(answered, **asked):
    story = Story().readings()
    fact = {"fact": "opt-out", "control": CONTROL, **asked}
    story.call(at(0), "control.opt_out", result={"until": utc(answered)}, means=[fact])
    return story.sorts()


@pytest.mark.parametrize("asked", [{"lasts": HOUR}, {"until": BEGIN + DAY + HOUR}])
def test_the_answer_to_an_opt_out_states_what_was_asked(asked):
    assert opted_out(at(0) + HOUR, **asked) == set()
    assert opted_out(at(0) + HOUR / 2, **asked) == {("TRUTH", "H7")}
    assert opted_out(at(0) + HOUR + 60, **asked) == {("TRUTH", "H7")}


def test_an_opt_out_that_is_shorter_than_the_present_one_is_answered_with_that_one():
    story = Story().readings()
    for n, lasts in enumerate((2 * HOUR, HOUR)):
        story.call(at(0) + n, "control.opt_out", result={"until": utc(at(0) + 2 * HOUR)},
                   means=[{"fact": "opt-out", "control": CONTROL, "lasts": lasts}])  # fmt: skip
    assert story.sorts() == set()


TRUE_ANSWER = {
    "id": "K2", "place": PLACE, "occupancy": STAY, "recipient": "b.example", "step": 600,
    "channels": ["heat"], "since": utc(at(1)), "until": utc(END), "given": utc(at(1) - DAY),
}  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "clauses"),
    [
        ({}, set()),
        ({"step": 1800}, {"P4"}),
        ({"channels": ["cw", "heat"]}, {"P4"}),
        ({"recipient": TO}, {"P4"}),
        ({"occupancy": "H0000000000000X"}, {"P4"}),
        ({"since": utc(at(1) - HOUR)}, {"P4"}),
        ({"until": utc(END + DAY)}, {"P5"}),
        ({"given": utc(at(1))}, {"P22"}),
    ],
)
def test_the_answer_to_a_consent_states_what_was_asked(story, wrong, clauses):
    item = TRUE_ANSWER | wrong
    fact = {"fact": "consent", "id": "K2", "place": PLACE, "occupancy": item["occupancy"],
            "recipient": "b.example", "channels": ["heat"], "step": 600, "since": at(1),
            "until": END, "given": at(1) - DAY}  # fmt: skip
    story.readings().call(at(1), "consent.give", means=[fact], result={"consents": [item]})
    assert {one.clause for one in story.judged() if one.oracle == "TRUTH"} == clauses


def withdrawn(story, **wrong):
    item = {"id": CONSENT, "place": PLACE, "occupancy": STAY, "recipient": TO,
            "withdrawn": utc(at(6)), "given": utc(BEGIN + 60), **wrong}  # fmt: skip
    fact = {"fact": "withdraw", "place": PLACE, "occupancy": STAY, "recipient": TO}
    items = [] if item["id"] is None else [item]
    story.call(at(6), "consent.withdraw", means=[fact], result={"consents": items})
    return {one.clause for one in story.judged() if one.text.startswith("consent.withdraw")}


@pytest.mark.parametrize(
    ("wrong", "clauses"),
    [
        ({}, set()),
        ({"given": utc(at(6))}, {"P22"}),
        ({"recipient": "b.example"}, {"D1"}),
        ({"id": None}, {"P13"}),
    ],
)
def test_the_answer_to_a_withdrawal_names_what_has_ended(story, wrong, clauses):
    assert withdrawn(story.readings(until=at(5)), **wrong) == clauses


def test_what_is_answered_as_not_recorded_without_a_fault_of_the_disk_is_found(story):
    story.readings().call(at(1), "occupancy.move_out", unrecorded=True)
    assert story.sorts() == {("TRUTH", "A7")}
    fault(story, at(0), at(3), how="readonly")
    assert ("TRUTH", "A7") not in story.sorts()


@pytest.mark.parametrize(("wrong", "clauses"), [(0, set()), (HOUR, {"P9"})])
def test_the_answer_to_a_duty_and_its_end_states_what_was_asked(story, wrong, clauses):
    duty = {"id": "U1", "recipient": TO, "channels": ["heat"], "since": utc(at(1) + wrong)}
    begin = {"fact": "duty", "id": "U1", "recipient": TO, "channels": ["heat"], "since": at(1)}
    story.readings().call(at(1), "duty.add", means=[begin], result={"duties": [duty]})
    end = {"fact": "duty.end", "id": "U1", "recipient": TO, "at": at(4)}
    ended = duty | {"until": utc(at(4) + wrong)}
    story.call(at(5), "duty.end", args={"at": utc(at(4))}, means=[end], result={"duties": [ended]})
    wrongly = [one.clause for one in story.judged() if one.oracle == "TRUTH"]
    assert (set(wrongly), len(wrongly)) == (clauses, 2 * len(clauses))


NEW = "H0000000000000X"
"""who moves in after others"""


def move(story, when, what, who, since, **more):
    """Somebody tells of a move, and gets the right answer."""
    name, call = ("until", "move_out") if what == "leave" else ("since", "move_in")
    fact = {"fact": what, "place": PLACE, "occupancy": who, "at": since}
    answer = {"result": {"occupancies": [{"id": who, "place": PLACE, name: utc(since)}]}}
    story.call(when, f"occupancy.{call}", means=[fact], **(answer | more))


def agree(story, when, who):
    item = TRUE_ANSWER | {"occupancy": who, "since": utc(when), "id": f"K{when}{who}"}
    fact = {"fact": "consent", "id": item["id"], "place": PLACE, "occupancy": who,
            "recipient": "b.example", "channels": ["heat"], "step": 600, "since": when,
            "until": END}  # fmt: skip
    story.call(when, "consent.give", means=[fact], result={"consents": [item]})


def not_there(story):
    """The times of consents and moves that are judged to be of people who did not live there."""
    return [one.at for one in story.judged() if "live there" in one.text]


def test_who_lives_at_a_place_is_judged_by_what_was_recorded_when_it_was_asked(story):
    agree(story, at(3), STAY)
    move(story, at(4), "leave", STAY, at(4))
    agree(story, at(4) + 600, STAY)
    move(story, at(5), "enter", NEW, at(4))
    agree(story, at(5) + 600, NEW)
    agree(story, at(5) + 660, STAY)
    move(story, at(6), "leave", STAY, at(2))  # late: they had left before
    agree(story, at(7), STAY)
    move(story, at(8), "leave", STAY, at(4))
    assert not_there(story) == [at(4) + 600, at(5) + 660, at(7), at(8)]


def test_who_lives_at_a_place_is_open_while_an_answer_about_it_is_lost(story):
    lost = {"outcome": "lost", "lost": True, "result": None}
    move(story, at(3), "leave", STAY, at(3))
    move(story, at(4), "enter", "", at(3), **lost)
    agree(story, at(5), NEW)
    move(story, at(6), "enter", NEW, at(3))
    move(story, at(7), "leave", NEW, at(9), **lost)
    agree(story, at(8), STAY)
    move(story, at(9), "leave", NEW, at(8))
    agree(story, at(10), NEW)
    agree(story, at(11), NEW)
    assert not_there(story) == [at(8), at(10), at(11)]


@pytest.mark.parametrize("wrong", [0, HOUR])
def test_the_answer_to_a_move_states_what_was_asked(story, wrong):
    stay = {"id": STAY, "place": PLACE, "until": utc(at(9) + wrong)}
    fact = {"fact": "leave", "place": PLACE, "occupancy": STAY, "at": at(9)}
    story.readings(until=at(9))
    story.call(at(9), "occupancy.move_out", means=[fact], result={"occupancies": [stay]})
    assert (("TRUTH", "P4") in story.sorts()) is bool(wrong)


def test_an_opt_out_until_a_day_ends_by_the_wall_clock(story):
    story.note(at(0) + 600, "clock", apart=1800.0, service=True)
    story.call(at(0), "control.opt_out",
               means=[{"fact": "opt-out", "control": CONTROL, "until": at(0) + HOUR}])  # fmt: skip
    order(story, at(0) + 2400)
    write(story, at(0) + 2402, "-2")
    write(story, at(0) + 2400 + HOUR, "0", "-2")
    assert ("EQUIPMENT", "H7") not in story.readings().sorts()


@pytest.mark.parametrize(
    ("removed", "back", "passes"),
    [(1, None, True), (1, 2, False), (12, None, False)],
    ids=["at once", "and back", "long after"],
)
def test_an_object_whose_uplink_is_removed_is_not_brought_again(story, removed, back, passes):
    story.readings().note(at(0), "object", typ="consent+jwt", jti="x", recipient=TO, means=[])
    for n, recipients in ((removed, []), (back, [TO])):
        if n is not None:
            story.note(at(n), "configured", change="recipient", every={"e": EVERY}, flush=5,
                       recipients=recipients, readable=True)  # fmt: skip
    assert (("LIVENESS", "T26") not in story.sorts()) is passes


def test_what_is_never_stored_or_acknowledged_or_answered_is_found(story):
    story.readings()
    story.records = [
        one for one in story.records if one.what.get("seq") != 40 or one.kind == "sent"
    ]
    assert ("LIVENESS", "T16") in story.sorts()
    other = Story().readings()
    other.note(at(0), "object", typ="consent+jwt", jti="x", recipient=TO, means=[])
    assert other.sorts() == {("LIVENESS", "T26")}
    third = Story().readings()
    third.call(END - DAY, "consent", outcome="lost", lost=True)
    assert third.sorts() == {("LIVENESS", "U10")}


def test_a_call_is_answered_during_a_fault_unless_the_agent_ends_meanwhile(story):
    story.readings()
    story.call(at(5), "status", outcome="lost", lost=True)
    assert story.sorts() == {("LIVENESS", "U10")}
    story.note(at(5) - 0.2, "life.ended", life=1, how="kill")
    story.note(at(5) - 0.1, "life.begun", life=2, boot="b", apart=0.0)
    story.note(at(5), "life.ready", life=2)
    assert ("LIVENESS", "U10") not in story.sorts()


def test_a_batch_that_is_sent_for_ever_is_found(story):
    story.readings()
    sha = story.batch(END - DAY, [])
    story.note(END - HOUR, "sent", recipient=TO, epoch="e", seq=story.seq, sha256=sha)
    assert story.sorts() == {("LIVENESS", "T16")}


def test_a_batch_without_a_receipt_that_counts_is_found(story):
    story.readings()
    story.batch(at(9), [])
    del story.records[-1]  # its receipt
    assert story.sorts() == {("LIVENESS", "T16")}
    other = Story()
    other.records[2].what["signed"] = True
    assert other.readings().sorts() == {("LIVENESS", "T35")}
    other.records = [
        record._replace(what=record.what | {"signed": True}) if record.kind == "receipt" else record
        for record in other.records
    ]
    assert other.judged() == []


def test_a_refusal_that_is_signed_ends_the_sending_too(story):
    story.records[2].what["signed"] = True
    sha = story.batch(at(9), [])
    receipt = story.records[-1].what
    for signed in (False, True):
        receipt.update(stored=[], rejected=[[story.seq, sha, "refused"]], signed=signed)
        assert (("LIVENESS", "T35") in story.sorts()) is not signed


def test_what_is_sealed_or_begins_by_a_wrong_clock_is_found(story):
    story.note(at(3), "clock", apart=7200.0, service=False)
    story.note(at(30), "clock", apart=0.0, service=True)
    order(story, at(5), begin=at(5) + 7200)
    write(story, at(5) + 2, "-2")
    write(story, at(5) + 900, "0", "-2")
    assert {("SENT", "C12"), ("EQUIPMENT", "H26")} <= story.readings().sorts()


def test_what_is_sent_while_the_disk_cannot_be_written_is_found(story):
    story.plan["events"] = [{"do": "disk", "how": "readonly", "for": 9000, "at": 0, "seed": 1}]
    story.note(at(3), "event", index=0, do="disk", how="readonly")
    story.records[-1].what["for"] = 9000
    story.note(at(8), "event", index=0, do="disk", how="readonly", ended=True)
    assert story.readings().sorts() == {("SENT", "A5")}


def test_a_void_of_memory_is_sent_while_the_disk_cannot_be_written(story):
    """A void does not say `kept`: its epoch does."""
    fault(story, at(3), at(8), how="readonly")
    story.readings(change=lambda row: row if not at(3) <= row["t"] <= at(8) else None)
    of_memory(story, at(5), [])
    of_memory(story, at(6), [], seq=2, void="withdrawn")
    assert ("SENT", "A5") not in story.sorts()
    story.batch(at(6), [], void="withdrawn")
    assert ("SENT", "A5") in story.sorts()


def test_a_batch_of_memory_that_does_not_say_so_is_found(story):
    story.readings()
    of_memory(story, at(5), [])
    assert story.judged() == []
    of_memory(story, at(6), [], seq=2, kept=None)
    assert story.sorts() == {("SENT", "A2")}


def of_memory(story, when, rows, seq=1, **more):
    """A batch of a spool in memory, in an epoch of its own."""
    memory = {"kept": None if "void" in more else "memory", "directory": DIRECTORY, **more}
    story.batch(when, rows, epoch="m", seq=seq, sha256=f"m{seq}", **memory)
    story.seq -= 1


def test_a_life_that_ends_with_an_error_or_for_ever_or_spins_is_found(story):
    story.readings()
    story.note(END - DAY, "wakes", life=1, rounds=10**9, wakes=1, callbacks=1, seconds=1000.0)
    assert story.sorts() == {("SPIN", "G12")}
    story.note(END - DAY, "life.ended", life=1, how="error", text="ValueError")
    assert {("SPIN", "G11"), ("LIVENESS", "G11")} <= story.sorts()


def test_a_call_that_an_unexpected_error_stops_is_found(story):
    """Rule G11. The text is the agent's own."""
    story.call(at(5), "consent.withdraw", refused="the disk reports errors", outcome="waiting")
    assert story.readings().judged() == []
    assert FAILED.startswith(BROKE_OFF)
    story.call(at(6), "consent.withdraw", refused=FAILED, outcome="waiting")
    assert story.sorts() == {("SPIN", "G11")}


def ended(story):
    return next(one for one in story.records if one.kind == "life.ended")


@pytest.mark.parametrize("text", ["it did not become ready", "watchdog", "ValueError"])
def test_a_life_that_a_failing_disk_has_ended_is_found(story, text):
    fault(story, at(3), at(9), how="stall")
    story.readings()
    begins_again(story, at(5), how="error")
    ended(story).what["text"] = text
    assert {("LIVENESS", "A1"), ("SPIN", "G11")} <= story.sorts()
    other = Story()
    fault(other, at(3), at(9), how="stall")
    other.readings()
    begins_again(other, at(5), how="kill")
    assert not {("LIVENESS", "A1"), ("SPIN", "G11")} & other.sorts()


@pytest.mark.parametrize(("do", "text", "right"), [
    ("disk", "/state cannot be opened: the disk reports errors", True),
    ("disk", "keys/identity.json is damaged", False),
    ("power", "keys/identity.json is damaged", False),
    ("reload", "links.line-0: it is not known", True),
])  # fmt: skip
def test_a_start_is_refused_for_the_disk_only_if_it_says_so(story, do, text, right):
    fault(story, at(3), at(9), do=do, how="eio")
    story.readings()
    begins_again(story, at(5), how="refused")
    ended(story).what["text"] = text
    assert (("SPIN", "G11") not in story.sorts()) == right


def look(story, when, what, **answer):
    story.note(when, "status", what=what, place=PLACE, answer=answer)


def explained(**more):
    consent = {"id": CONSENT, "standing": "in_force"} | more
    return {"consents": [consent], "occupancy": {"occupancy": STAY}, "rows": []}


def test_what_people_are_told_is_compared_with_what_happened(story):
    story.readings()
    look(story, at(5), "explain", **explained(given="2027-01-01T00:01:00Z"))
    held = {"recipient": TO, "channel": "elec.imp", "basis": CONSENT, "least": 40, "most": 60}
    look(story, at(5), "disclosures", holdings=[held])
    assert story.judged() == []
    look(story, at(5), "disclosures", holdings=[held | {"most": 41}])
    assert story.sorts() == {("TRUTH", "P28")}


@pytest.mark.parametrize(
    ("what", "answer", "clause"),
    [
        ("explain", explained(standing="ended"), "P28"),
        ("explain", explained() | {"consents": []}, "P22"),
        ("explain", explained(given="2027-01-01T02:00:00Z"), "P22"),
        ("explain", explained() | {"occupancy": None}, "I14"),
        ("explain", explained() | {"rows": [{"leaves": True, "basis": CONSENT, "channel": "heat",
                                             "recipient": TO}]}, "P28"),
        ("disclosures", {"holdings": []}, "P18"),
        ("disclosures", {"holdings": [], "unknown": [{"kind": "meter"}]}, "P18"),
        ("disclosures", {"holdings": [], "unknown": [{"kind": "unreadable"}]}, "P22"),
        ("status", {"now": "2027-01-02T02:30:00Z", "dwellings": {"occupied": 2}}, "I14"),
        ("status", {"now": "2027-01-02T03:30:00Z"}, "C7"),
    ],
)  # fmt: skip
def test_an_untrue_answer_is_found(story, what, answer, clause):
    story.readings()
    look(story, at(5), what, **answer)
    assert story.sorts() == {("TRUTH", clause)}


def test_what_was_received_without_a_receipt_is_counted(story):
    """Rule P28."""
    story.readings()
    story.records = [one for one in story.records if one.kind != "receipt"]
    look(story, at(5), "disclosures", holdings=[])
    assert ("TRUTH", "P28") in story.sorts()
    held = {"recipient": TO, "channel": "elec.imp", "basis": CONSENT, "least": 0, "most": 60}
    story.records = [one for one in story.records if one.kind != "status"]
    look(story, at(5), "disclosures", holdings=[held])
    assert "TRUTH" not in {oracle for oracle, _ in story.sorts()}


@pytest.mark.parametrize("lost", [True, False])
def test_what_a_duty_gave_of_people_who_left_is_not_in_the_dossier_of_those_who_came(story, lost):
    """P28: also if nobody has heard the answer to the move in."""
    fact = {"fact": "duty", "id": "duty", "recipient": TO, "channels": ["elec.imp"]}
    story.call(BEGIN + 30, "duty.add", means=[fact | {"since": BEGIN + 30}])
    story.batch(at(2), [story.row(at(1), basis="duty")])
    move(story, at(3), "leave", STAY, at(3))
    if lost:
        move(story, at(4), "enter", "", at(4), outcome="lost", lost=True, result=None)
    move(story, at(4) + 9, "enter", NEW, at(4))
    held = {"recipient": TO, "channel": "elec.imp", "basis": "duty", "least": 1, "most": 1}
    look(story, at(6), "disclosures", holdings=[])
    assert untrue(story) == set()
    look(story, at(6), "disclosures", holdings=[held])
    assert untrue(story) == {"P28"}
    story.batch(at(7), [story.row(at(5), basis="duty", occupancy=NEW)])
    look(story, at(8), "disclosures", holdings=[])
    assert untrue(story) == {"P28", "P18"}


def untrue(story):
    """The clauses of what people were told wrongly."""
    return {one.clause for one in story.judged() if one.oracle == "TRUTH"}


@pytest.mark.parametrize("lost", [True, False])
def test_what_was_received_from_memory_is_counted_unless_its_record_was_lost(story, lost):
    """P28: the disk fails, and the power is cut before, or long after, it works again."""
    story.note(at(5) - 600, "event", index=0, do="disk", how="readonly", **{"for": 1200.0})
    story.note(at(5) + 600, "event", index=0, do="disk", ended=True)
    cut = at(5) + (900 if lost else 9000)
    story.note(cut, "life.ended", life=1, how="power")
    story.note(cut + 60, "life.begun", life=2, boot="b", apart=0.0)
    story.note(cut + 62, "life.ready", life=2)
    for t in range(BEGIN + EVERY, at(12), EVERY):
        if t == at(5):
            of_memory(story, t + 300, [story.row(t, ver=t + 5)])
        story.note(t + 2, "answer", line=0, device="e", meter=METER, channel="elec.imp",
                   value=shown(t), wall=t + 2.0)  # fmt: skip
        if t != at(5):
            story.batch(t + 300, [story.row(t)])
    held = {"recipient": TO, "channel": "elec.imp", "basis": CONSENT, "least": 40, "most": 59}
    look(story, at(11) + 600, "disclosures", holdings=[held])
    assert ("TRUTH", "P28") not in story.sorts()
    look(story, at(11) + 600, "disclosures", holdings=[held | {"most": 58}])
    assert (("TRUTH", "P28") in story.sorts()) != lost


@pytest.mark.parametrize(("undone", "again"), [(True, False), (True, True), (False, False)])
def test_what_a_withdrawal_has_deleted_may_be_counted_once_a_crash_has_undone_it(
    story, undone, again
):
    """P28: the retraction is sent from memory, the power is cut before the disk works again, and
    the withdrawal is then recorded again.
    """
    story.readings(until=at(3))
    fault(story, at(4), at(9), how="readonly")
    withdraw(story, at(5), unrecorded=True)
    for_good = taken_back(id="w", basis=CONSENT, reason="withdrawn", until=None, ver=2**53 - 1)
    of_memory(story, at(5) + 30, [], retract=[for_good | {"since": BEGIN}])
    begins_again(story, at(7), how="power" if undone else "kill", boot="b" if undone else "a")
    if again:
        withdraw(story, at(11) + 300)
    held = {"recipient": TO, "channel": "elec.imp", "basis": CONSENT, "least": 0, "most": 60}
    look(story, at(11) + 600, "disclosures", holdings=[held])
    assert ("TRUTH", "P28") not in story.sorts()
    look(story, at(11) + 600, "disclosures", holdings=[held | {"least": 40}])
    assert (("TRUTH", "P28") in story.sorts()) == (again or not undone)


def test_a_consent_that_is_told_to_be_in_force_after_its_withdrawal_is_found(story):
    story.readings(until=at(5))
    withdraw(story, at(6))
    look(story, at(8), "explain", **explained())
    assert story.sorts() == {("TRUTH", "P28")}


def test_a_sum_of_too_few_or_that_nobody_asked_for_or_too_high_is_found(story):
    story.readings()
    _add_dwellings(story, 11)
    total = {"place": "B6ASQZ1Y2KSAA3Y", "kind": "INT", "basis": "rest", "q": "K", "v": "0.360",
             "meter": None, "occupancy": None}  # fmt: skip
    few = story.row(at(5), **total, n=11)
    directory = {
        "places": [{"id": few["place"]}], "bases": [{"id": "rest"}],
        "series": [{"place": few["place"], "channel": "elec.imp", "kind": "INT", "step": EVERY,
                    "since": "2028-01-01T00:00:00Z"}],
    }  # fmt: skip
    story.batch(at(9), [few], directory=directory)
    assert story.sorts() == {("SENT", "S1")}
    story.records[2].what["sums"] = {TO: ["elec.imp"]}
    assert story.judged() == []
    story.batch(at(9), [few | {"v": "0.361", "t": at(7)}])
    assert story.sorts() == {("CONSERVATION", "S7")}
    story.batch(at(9), [few | {"n": 10, "t": at(6)}])
    texts = [one.text.partition(": ")[2] for one in story.judged() if one.oracle == "SENT"]
    assert texts == [
        "10 dwellings, but 11 of the group were read", "10 dwellings, of which 10 count"
    ]  # fmt: skip


def _add_dwellings(story, number, since=BEGIN - 400 * DAY):
    """More dwellings with meters that show the same, of which nobody has consented."""
    what = story.records[2].what
    for n in range(number):
        place = f"D{n:014}"
        what["places"].append({"place": place, "occupancy": f"H{n:014}", "since": since})
        what["meters"].append(what["meters"][0] | {"place": place})
    return [place["place"] for place in what["places"][1:]]


def _sum_of(story, n, **more):
    story.records[2].what["sums"] = {TO: ["elec.imp"]}
    total = {"place": "B6ASQZ1Y2KSAA3Y", "kind": "INT", "basis": "rest", "q": "K", "v": "0.060",
             "meter": None, "occupancy": None, "n": n}  # fmt: skip
    story.batch(at(9), [story.row(at(5), **total) | more])
    return {one.text.partition("): ")[2] for one in story.judged() if one.clause[0] == "S"}


def test_a_sum_with_a_dwelling_that_is_sent_alone_or_that_is_vacant_is_found(story):
    _add_dwellings(story.readings(), 11)
    assert _sum_of(story, 12) == {"12 dwellings, but no more than 11 can be in it"}
    other = Story().readings()
    places = _add_dwellings(other, 12)
    leave = {"fact": "leave", "place": places[0], "occupancy": "H" + places[0][1:], "at": at(1)}
    other.call(at(1), "move-out", means=[leave])
    assert _sum_of(other, 12) == {"12 dwellings, but no more than 11 can be in it"}


def test_a_sum_of_too_small_a_part_of_its_group_is_found(story):
    for place in _add_dwellings(story.readings(), 14)[:3]:
        leave = {"fact": "leave", "place": place, "occupancy": "H" + place[1:], "at": at(1)}
        story.call(at(1), "move-out", means=[leave])
    assert _sum_of(story, 11) == {"11 of a group of 14"}


def test_whoever_was_sent_alone_in_the_month_does_not_count_though_it_was_taken_back(story):
    (place, *_) = _add_dwellings(story.readings(), 11)
    consent = {"fact": "consent", "id": "K9", "place": place, "occupancy": "H" + place[1:],
               "recipient": TO, "channels": ["elec.imp"], "step": EVERY, "since": at(0),
               "until": END}  # fmt: skip
    story.call(at(0) + 1, "consent", means=[consent])
    story.batch(at(1) + 60, [story.row(at(1), place=place, occupancy="H" + place[1:], basis="K9")])
    story.call(at(2), "withdraw", means=[consent | {"fact": "withdraw"}])
    assert "11 dwellings, of which 10 count" in _sum_of(story, 11)


@pytest.mark.parametrize(("n", "right"), [(13, True), (14, False)])
def test_a_group_is_formed_at_the_first_midnight_that_the_agent_saw(story, n, right):
    """Who consents later stays in the sum."""
    story.records[0] = Record(BEGIN - HOUR - 60.0, *story.records[0][1:])
    (place, *_) = _add_dwellings(story.readings(), 12)
    consent = {"fact": "consent", "id": "K9", "place": place, "occupancy": "H" + place[1:],
               "recipient": TO, "channels": ["elec.imp"], "step": EVERY, "since": at(0),
               "until": END}  # fmt: skip
    story.call(at(0) + 1, "consent", means=[consent])
    assert (_sum_of(story, n) == set()) == right


@pytest.mark.parametrize(("n", "right"), [(11, True), (12, False)])
def test_a_midnight_at_which_no_agent_ran_forms_no_group(story, n, right):
    """Who consents after it, and before the next midnight, is not in the sum."""
    story.records[0] = Record(BEGIN - HOUR - 60.0, *story.records[0][1:])
    (place, *_) = _add_dwellings(story.readings(), 12)
    story.note(BEGIN - HOUR - 30, "life.ended", life=1, how="power")
    story.note(BEGIN - HOUR + 30, "life.begun", life=2, boot="b", apart=0.0)
    story.note(BEGIN - HOUR + 31, "life.ready", life=2)
    consent = {"fact": "consent", "id": "K9", "place": place, "occupancy": "H" + place[1:],
               "recipient": TO, "channels": ["elec.imp"], "step": EVERY, "since": BEGIN,
               "until": END}  # fmt: skip
    story.call(BEGIN, "consent", means=[consent])
    assert (_sum_of(story, n) == set()) == right


def test_a_sum_of_which_one_dwelling_used_most_is_found(story):
    _add_dwellings(story.readings(), 11)
    story.records[2].what["meters"][1]["multiplier"] = "40"
    assert _sum_of(story, 11) == {"one dwelling used 0.80 of all of the day"}


@pytest.mark.parametrize(("odd", "used", "texts"), [
    (5, "9999", set()),
    (4, "0", set()),
    (3, "0", set()),  # the value after it may be suspect
    (2, "0", {"11 dwellings, but 12 of the group were read"}),
])  # fmt: skip
def test_a_suspect_value_is_in_no_sum(story, odd, used, texts):
    """Rules M5, S6, S3: of twelve dwellings the meter of one is broken for a moment."""
    _add_dwellings(story.readings(), 12)
    story.records[2].what["meters"][1]["meter"] = "11000002"
    for one in [one for one in story.records if one.kind == "answer"]:
        what = one.what | {"meter": "11000002"}
        what |= {"value": used, "odd": True} if one.at == at(odd) + 2 else {}
        story.note(one.at, "answer", **what)
    assert _sum_of(story, 11) == texts


@pytest.mark.parametrize("what", ["guard", "inhibit"])
def test_a_hold_that_a_guard_does_not_end_is_found(story, what):
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    write(story, at(0) + 700, "0", "-2")
    story.plan["events"] = [{"do": what, "at": 0, "control": 0, "for": 240, "seed": 1}]
    for when, more in ((500, {}), (740, {"ended": True})):
        fault = {"index": 0, "do": what, "control": 0, "for": 240} | more
        story.note(at(0) + when, "event", **fault)
    assert story.readings().sorts() == {("EQUIPMENT", "H3")}
    story.records = [one for one in story.records if one.what.get("value") != "0"]
    write(story, at(0) + 580, "0", "-2")
    assert story.judged() == []


def test_a_value_that_was_read_after_its_step_is_found(story):
    t = at(5)
    story.readings(change=in_place_of(t, d=EVERY + 5))
    assert ("CONSERVATION", "M20") in story.sorts()


def test_a_slot_that_was_closed_twice_is_found(story):
    story.readings()
    late = at(5) + EVERY + 900
    story.note(at(5) + 600, "answer", line=0, device="e", meter=METER, channel="elec.imp",
               value=shown(at(5) + 600), wall=float(at(5) + 600))  # fmt: skip
    story.batch(late, [story.row(at(5), v=shown(at(5) + 600), d=600, ver=late)])
    assert story.sorts() == {("CONSERVATION", "M10")}


@pytest.mark.parametrize(("how", "forgotten"), [("power", True), ("kill", False)])
def test_a_slot_of_memory_that_a_power_cut_made_forgotten_may_be_closed_again(how, forgotten):
    """A, remaining risks."""
    story, late = Story(), at(5) + 60
    story.note(at(2), "event", index=0, do="disk", how="eio", **{"for": 4 * HOUR})
    of_memory(story, late, [story.row(at(5), ver=late)])
    story.note(late + 10, "life.ended", life=1, how=how)
    story.note(late + 20, "life.begun", life=2, boot="b" if forgotten else "a", apart=0.0)
    story.note(late + 22, "life.ready", life=2)
    story.readings(change=in_place_of(at(5), v=shown(at(5) + 200), d=200))
    story.note(at(5) + 200, "answer", line=0, device="e", meter=METER, channel="elec.imp",
               value=shown(at(5) + 200), wall=float(at(5) + 200))  # fmt: skip
    assert any("read at +" in one.text for one in story.judged()) is not forgotten


def test_a_checked_value_of_a_broken_meter_is_found(story):
    story.readings()
    for n, record in enumerate(story.records):
        if record.kind == "answer" and record.at == at(5) + 2:
            story.records[n] = Record(record.at, "answer", record.what | {"odd": True})
        if record.kind == "sent" and record.what["rows"][0]["t"] == at(5):
            record.what["rows"][0]["q"] = "S"
            row = record.what["rows"][0]
    assert story.judged() == []
    row["q"] = "V"
    assert story.sorts() == {("CONSERVATION", "M8")}


BROKEN, TRUE = "999999.999", None


@pytest.mark.parametrize(
    ("values", "quality", "right"),
    [
        ([BROKEN, BROKEN, BROKEN], "SRV", True),
        ([BROKEN, BROKEN], "SV", False),
        (["0", BROKEN, BROKEN], "SSV", False),
        ([BROKEN, TRUE, BROKEN], "SVV", False),
        ([BROKEN, BROKEN, TRUE, BROKEN], "SRSV", True),
        ([BROKEN, BROKEN, TRUE, TRUE, BROKEN], "SRSRV", False),
        ([BROKEN, BROKEN, "0"], "SRV", True),  # it has rolled over (M6)
        (["0", "0", BROKEN], "SRV", False),
        (["-17.25", "-17.25", "-17.25"], "SSV", False),
        ([BROKEN, "-17.25", BROKEN, BROKEN], "SSSV", False),
    ],
)
def test_what_a_broken_meter_says_again_and_again_is_compared_with_it(values, quality, right):
    """Rule M13."""
    assert of_a_broken_meter(values, quality) == (set() if right else {"M8"})


def test_what_a_meter_shows_is_compared_not_the_index_that_it_means():
    """Rule I20: an index below 0 stays suspect, also where the meter began above."""
    values = [BROKEN, BROKEN, "-17.25", "-17.25", BROKEN]
    assert of_a_broken_meter(values, "SRSSV", offset="100") == set()
    assert of_a_broken_meter(values, "SRSSS", offset="100") == set()
    assert of_a_broken_meter(["0", *values[2:]], "SSSV", offset="100") == {"M8"}


def test_the_first_value_of_a_life_is_compared_with_nothing():
    """Rule M8."""
    assert of_a_broken_meter([BROKEN, BROKEN], "RV", starts=True) == set()
    assert of_a_broken_meter([BROKEN, BROKEN], "RV") == {"M8"}
    assert of_a_broken_meter([TRUE, BROKEN], "RV", starts=True) == {"M8"}


@pytest.mark.parametrize(
    ("slot", "apart", "right"), [(8, 0.0, True), (10, 0.0, False), (2, 0.0, False), (2, 9.0, True)]
)
def test_what_is_read_while_the_clock_is_doubted_may_be_compared_with_nothing(slot, apart, right):
    """Rules M10, M13: its slot may be closed. Marks may lie ahead as long as it is not proven that
    a service was wrong (rule C3).
    """
    values, quality = [BROKEN, BROKEN, TRUE, TRUE, BROKEN], "SRSRV"
    found = of_a_broken_meter(values, quality, doubted=(at(slot) - 60, apart))
    assert ("M8" not in found) == right


def of_a_broken_meter(values, quality, *, starts=False, doubted=None, offset="0"):
    """What is judged of these values from slot 5 on; `starts`: the agent before the first;
    `doubted`: from when on for two minutes the clock is kept by nobody, or is kept so wrong;
    `offset`: of the index to what the meter shows.
    """
    story = Story()
    (building,) = (one.what for one in story.records if one.kind == "building")
    building["meters"][0]["offset"] = offset
    if doubted is not None:
        since, apart = doubted
        story.note(since, "clock", apart=apart, service=bool(apart), kept=bool(apart))
        story.note(since + 120, "clock", apart=0.0, service=True, kept=True)
    if starts:
        ends(story, at(4) + 600, "kill", back=10)
    odd = {at(5 + n): value for n, value in enumerate(values) if value}
    letters = {at(5 + n): letter for n, letter in enumerate(quality)}

    def change(row):
        shows = Decimal(odd.get(row["t"], row["v"]))
        return row | {"v": str(shows + Decimal(offset)), "q": letters.get(row["t"], row["q"])}

    story.readings(change=change)
    for n, record in enumerate(story.records):
        if record.kind == "answer" and record.at - 2 in odd:
            what = record.what | {"value": odd[record.at - 2], "odd": True}
            story.records[n] = Record(record.at, "answer", what)
    return {clause for _, clause in story.sorts()}


def test_a_negative_consumption_is_found(story):
    story.readings()
    story.batch(at(6), [story.row(at(5), kind="INT", q="K", v="-0.030", ver=at(6))])
    assert ("CONSERVATION", "M6") in story.sorts()


@pytest.mark.parametrize(
    ("shows", "flow", "flags", "right"),
    [
        ("999999.999", "0.001", ["ROLL"], True),
        ("999999.999", "0.001", [], False),
        ("999999.999", "0.002", ["ROLL"], False),
        ("900000.001", "99999.999", ["ROLL"], True),
        ("900000.000", "100000.000", ["ROLL"], False),
        ("0.000", "0.000", [], True),
        ("0.000", "0.000", ["ROLL"], False),
    ],
)
def test_what_flows_is_the_difference_of_two_indexes_also_over_their_end(
    story, shows, flow, flags, right
):
    """Rules M2, M6, I20: the end is that of what the meter shows."""
    (building,) = (one.what for one in story.records if one.kind == "building")
    building["meters"][0]["multiplier"] = "40"
    values = {at(5) + 2: shows, at(6) + 2: "0.000"}
    story.readings(change=lambda _: None)
    for n, record in enumerate(story.records):
        if record.kind == "answer":
            what = record.what | {"value": values.get(record.at, "1.000")}
            story.records[n] = Record(record.at, "answer", what)
    flowed = str(Decimal(flow) * 40)
    row = story.row(at(6), kind="INT", q="K", v=flowed, flags=flags, d=0)
    story.batch(at(6) + 300, [row])
    assert (("CONSERVATION", "M2") not in story.sorts()) == right


def test_a_silent_meter_that_is_not_asked_again_is_found(story):
    t = at(5)
    lost = {"q": "M", "v": None, "why": "silent", "d": 0}
    change = in_place_of(t, **lost)
    assert story.readings(silent=(t,), change=change).judged() == []
    once = Story().readings(silent=(t,), change=change, again=EVERY)
    assert once.sorts() == {("CONSERVATION", "M3")}
    once.note(t + 63, "number", line=0, device="e", meter=METER)
    assert once.judged() == []


@pytest.mark.parametrize(("how", "reports", "found"), [
    ("late", False, True), ("reboot", False, False), ("reboot", True, True),
])  # fmt: skip
def test_a_meter_without_a_number_may_have_been_asked_again_for_no_value(
    story, how, reports, found
):
    t = at(5)
    story.records[2].what["meters"][0]["reports"] = reports
    fault(story, t - 60, t + 900, do="device", how=how)
    story.readings(
        silent=(t,), change=in_place_of(t, q="M", v=None, why="silent", d=0), again=EVERY
    )
    assert (("CONSERVATION", "M3") in story.sorts()) == found


def served_wrong(story, since, until):
    """A time service that sets the clock two hours ahead, and right again."""
    story.note(at(-2), "clock", apart=0.0, service=True, kept=True)
    story.note(since, "clock", apart=7200.0, service=True, kept=True)
    story.note(until, "clock", apart=0.0, service=True, kept=True)


def taken_back(**more):
    return {"id": "r", "place": PLACE, "since": at(0), "until": at(40), "ver": at(30),
            "reason": "clock", **more}  # fmt: skip


def test_what_a_wrong_clock_has_dated_is_taken_back_once_that_is_proven(story):
    served_wrong(story, at(10), at(20))
    story.note(at(15) + 2, "answer", line=0, device="e", meter=METER, channel="elec.imp",
               value="7.777", wall=at(19) + 2.0)  # fmt: skip
    story.readings()
    story.batch(at(15) + 9, [story.row(at(19), v="7.777", ver=at(19))])
    assert ("CONSERVATION", "C5") in story.sorts()
    story.batch(at(30), [], retract=[taken_back()])
    assert ("CONSERVATION", "C5") not in story.sorts()


@pytest.mark.parametrize(("removed", "found"), [(19, False), (50, True)])
def test_what_a_wrong_clock_has_dated_stays_where_no_uplink_leads(story, removed, found):
    """Rule C5."""
    served_wrong(story, at(10), at(20))
    story.note(at(15) + 2, "answer", line=0, device="e", meter=METER, channel="elec.imp",
               value="7.777", wall=at(19) + 2.0)  # fmt: skip
    story.readings()
    story.batch(at(15) + 9, [story.row(at(19), v="7.777", ver=at(19))])
    story.note(at(removed), "configured", change="recipient", every={"e": EVERY}, flush=5,
               recipients=[], readable=True)  # fmt: skip
    assert (("CONSERVATION", "C5") in story.sorts()) == found


def test_an_end_that_a_wrong_clock_stated_and_that_is_not_stated_anew_is_found(story):
    """Rule C5."""
    served_wrong(story, at(10), at(20))
    (series,) = DIRECTORY["series"]
    story.readings()
    for when, until in ((15, 22), (25, 9)):
        story.batch(at(when) + 9, [], directory={"series": [series | {"until": at(until)}]})
        if when == 15:
            story.batch(at(24), [], retract=[taken_back(since=at(10), channel="elec.imp")])
            assert "in time that a wrong clock made" in str(story.judged())
    assert "in time that a wrong clock made" not in str(story.judged())


def test_rows_that_are_taken_back_although_nothing_proves_a_wrong_clock_are_found(story):
    story.batch(at(30), [], retract=[taken_back()])
    assert ("CONSERVATION", "C3") in story.sorts()
    other = Story()
    served_wrong(other, at(10), at(20))
    other.batch(at(30), [], retract=[taken_back()])
    assert ("CONSERVATION", "C3") not in other.sorts()


@pytest.mark.parametrize(
    ("boot", "back", "kept", "proven"),
    [
        ("a", 4.0, True, True),
        ("a", 60.0, True, False),
        ("a", 4.0, False, False),
        ("b", 4.0, True, False),
    ],
)
def test_a_step_and_its_reversal_prove_a_wrong_clock_over_lives_of_one_boot(
    boot, back, kept, proven
):
    """Rule C4: also if no service kept what it stepped to, and a life ended in between."""
    story = Story()
    story.note(at(-2), "clock", apart=0.0, service=True, kept=True)
    story.note(at(10), "life.ended", life=1, how="kill")
    story.note(at(10) + 5, "clock", apart=-127.2, service=True, kept=False)
    story.note(at(10) + 9, "life.begun", life=2, boot=boot, apart=-127.2)
    story.note(at(10) + 10, "life.ready", life=2)
    story.note(at(11), "clock", apart=back, service=True, kept=kept)
    story.batch(at(30), [], retract=[taken_back()])
    assert (("CONSERVATION", "C3") not in story.sorts()) == proven


def test_a_row_that_falls_under_an_earlier_retraction_is_found(story):
    served_wrong(story, at(10), at(20))
    story.batch(at(30), [], retract=[taken_back()])
    story.batch(at(31), [story.row(at(12), ver=at(30) + 1)])
    assert ("CONSERVATION", "C6") not in story.sorts()
    story.batch(at(32), [story.row(at(13))])
    assert ("CONSERVATION", "C6") in story.sorts()


@pytest.mark.parametrize("wrong", [{"until": at(40)}, {"ver": at(30)}])
def test_a_retraction_of_a_withdrawal_with_an_end_or_a_version_above_it_is_found(story, wrong):
    right = taken_back(reason="withdrawn", until=None, ver=2**53 - 1)
    story.batch(at(30), [], retract=[right])
    assert ("SENT", "A9") not in story.sorts()
    story.batch(at(31), [], retract=[right | wrong])
    assert ("SENT", "A9") in story.sorts()


def test_a_retraction_of_a_move_that_does_not_end_is_found(story):
    story.batch(at(30), [], retract=[taken_back(reason="moved", occupancy="H", until=at(30))])
    assert ("CONSERVATION", "I23") not in story.sorts()
    story.batch(at(31), [], retract=[taken_back(reason="moved", occupancy="H", until=None)])
    assert ("CONSERVATION", "I23") in story.sorts()


def test_a_value_that_was_read_while_the_clock_was_doubted_is_dated_afterwards(story):
    story.note(at(3), "clock", apart=0.0, service=False, kept=False)
    story.note(at(8) + 60, "clock", apart=0.0, service=True, kept=True)
    story.readings(change=in_place_of(at(5), ver=at(8) + 61, flags="CLK"))
    assert story.judged() == []
    other = Story()
    other.records += [one for one in story.records if one.kind == "clock"]
    lost = {"q": "M", "v": None, "why": "clock", "d": 0}
    other.readings(change=in_place_of(at(5), **lost))
    assert other.sorts() == {("CONSERVATION", "C11")}


@pytest.mark.parametrize(
    ("asked", "taken_out", "right"),
    [
        ((), None, False),
        ((-3, EVERY + 20), None, True),  # as often as before, by the monotonic clock
        ((-60, EVERY + 20), None, False),
        ((900,), None, True),
        ((), 900, True),
        ((), 2 * EVERY, False),
    ],
)
def test_a_meter_that_is_there_is_read_while_nothing_can_be_dated(story, asked, taken_out, right):
    """Rule C3."""
    story.note(at(3), "clock", apart=0.0, service=False, kept=False)
    story.note(at(8) + 60, "clock", apart=0.0, service=True, kept=True)
    story.readings(change=in_place_of(at(5), q="M", v=None, why="clock", d=0))
    unread = [at(n) + 2 for n in (4, 5, 6)]
    story.records = [one for one in story.records if one.kind != "answer" or one.at not in unread]
    for moment in asked:
        story.note(at(5) + moment, "silent", line=0, device="e")
    if taken_out is not None:
        story.note(at(5) + taken_out, "meter", device="e", channel="elec.imp", old=METER,
                   new="11000002")  # fmt: skip
    found = {one for one in story.judged() if one.clause == "C3" and str(at(5)) in one.text}
    assert bool(found) != right


def test_a_value_that_is_dated_by_a_clock_that_nobody_keeps_is_found(story):
    story.note(at(3), "clock", apart=7200.0, service=False, kept=False, rtc=7200.0)
    story.note(at(9), "clock", apart=0.0, service=True, kept=True, rtc=0.0)
    story.readings()
    assert story.judged() == []
    value = shown(at(5))
    story.batch(at(9) + 5, [story.row(at(9), v=value, ver=at(9), flags="CLK")])
    assert ("CONSERVATION", "M10") in story.sorts()


def test_a_clock_that_nothing_keeps_for_weeks_seals_nothing(story):
    story.plan["days"] = 20
    story.note(at(3), "clock", apart=0.0, service=False, kept=False)
    story.note(END + 9 * DAY, "clock", apart=0.0, service=True, kept=True)
    assert ("SENT", "C12") not in story.sorts()
    story.batch(END + 8 * DAY, [])
    story.note(END + 10 * DAY, "wakes", life=1, rounds=1, seconds=1.0)
    records = sorted(story.records, key=lambda one: one.at)
    findings = judge(story.plan, [*records, Record(float(END + 10 * DAY), "end", {})])
    assert "C12" in {one.clause for one in findings}


def test_an_end_of_a_duty_that_was_recorded_late_is_taken_back(story):
    t = at(5)
    duty = {"fact": "duty", "id": "Y", "recipient": TO, "channels": ["elec.imp"], "since": BEGIN}
    story.call(BEGIN + 70, "duty", means=[duty])
    story.readings()
    month = story.row(t, step=DAY, basis="Y")
    story.batch(t + 100, [month])
    end = {"fact": "duty.end", "id": "Y", "recipient": TO, "at": t - 600}
    story.call(t + 600, "duty.end", means=[end])
    findings = [one for one in story.judged() if one.clause not in {"M9", "P9", "T21"}]
    assert {one.sort for one in findings} == {("SENT", "I22")}


def exchanged(  # noqa: PLR0913
    story, *, stated=True, released=True, indexes=True, each=1, read=2, end=END
):
    """A meter that was exchanged at slot 10, and recorded at slot 30. `each`: only every so manieth
    slot is one, since slot 2 by the file, unless the meter is read later than by that; `read`: that
    many seconds after it.
    """
    new, late = "11000002", at(30) + 60
    story.readings(until=at(10))
    if each > 1 and read < EVERY:
        story.note(at(2) + 60, "configured", change="period", every={"e": each * EVERY}, flush=5,
                   recipients=[TO], readable=True)  # fmt: skip
    for n in range(10, 60, each):
        t = at(n)
        value = str(Decimal(n) / 1000)
        story.note(t + read, "answer", line=0, device="e", meter=new, channel="elec.imp",
                   value=value, wall=float(t + read))  # fmt: skip
        if n > 30:
            story.batch(t + 300, [story.row(t, v=value, meter=new, step=each * EVERY)])
            continue
        given = (n > 10 and released) or n == 30
        row = {"v": value} if given else {"v": None, "q": "M", "why": "agent", "d": 0}
        if stated or n == 30:
            row |= {"step": each * EVERY, "flags": "LATE"}
            story.batch(late + 100 + n, [story.row(t, ver=late, meter=new, **row)])
    if indexes:
        shown_ = ((METER, at(10) - 1, "105.0"), (new, at(10), "0.001"))
        for meter, t, value in shown_:
            row = story.row(t, step=0, v=value, d=0, ver=late, meter=meter, flags="EXCH+MAN")
            story.batch(late + 90, [row])
    fact = {"fact": "exchange", "place": PLACE, "channel": "elec.imp", "device": "e", "old": METER,
            "new": new, "at": at(10), "closing": "105.0", "opening": "0.001"}  # fmt: skip
    story.call(late, "meter.exchange", means=[fact])
    clauses_ = {one.clause for one in story.judged(end)}
    return clauses_ & {"M22", "I21", "R14"}


def test_an_exchange_that_was_recorded_late_restates_its_slots_and_gives_what_was_kept():
    assert exchanged(Story()) == set()
    assert exchanged(Story(), stated=False) == {"M22"}
    assert exchanged(Story(), released=False) == {"I21"}
    assert exchanged(Story(), indexes=False) == {"R14"}


@pytest.mark.parametrize(("removed", "owed"), [(20, set()), (59, {"R14"})])
def test_no_index_of_an_exchange_is_owed_that_was_told_after_the_uplink_was_removed(removed, owed):
    story = Story()
    story.note(at(removed), "configured", change="recipient", flush=5, recipients=[],
               every={"e": EVERY}, readable=True)  # fmt: skip
    assert exchanged(story, indexes=False) == owed


@pytest.mark.parametrize(("left", "owed"), [(5, set()), (40, {"R14"})])
def test_whoever_left_before_an_exchange_leaves_nothing_of_the_new_meter_owed(left, owed):
    story = Story()
    leave = {"fact": "leave", "place": PLACE, "occupancy": STAY, "at": at(left)}
    story.call(at(left), "occupancy.move_out", means=[leave])
    assert exchanged(story, indexes=False) == owed


def test_an_exchange_after_a_change_of_the_period_restates_the_slots_of_the_present_one():
    assert exchanged(Story(), each=2) == set()
    assert exchanged(Story(), each=2, stated=False) == {"M22"}
    assert exchanged(Story(), each=2, released=False) == {"I21"}


@pytest.mark.parametrize(("read", "owed"), [(2, {"I21"}), (EVERY + 2, set())])
def test_what_is_read_after_a_slot_of_the_meter_is_not_owed_in_a_coarser_one(story, read, owed):
    """Rules M10, P3."""
    story.records[3].what["means"][0]["step"] = 2 * EVERY
    assert exchanged(story, each=2, released=False, read=read) == owed


@pytest.mark.parametrize(("refuses", "owed"), [(None, {"M22"}), (40, set()), (29, set())])
def test_what_a_late_exchange_restates_may_be_in_quarantine_for_a_day(story, refuses, owed):
    """Rule T17."""
    if refuses is not None:
        fault(story, at(refuses), at(refuses) + 9000, do="uplink", how="refuses", recipient=0)
    assert exchanged(story, stated=False, end=at(62)) == owed


def test_a_meter_after_one_that_reports_no_number_reports_none_either():
    story = Story()
    story.records[2].what["meters"][0]["reports"] = False
    assert exchanged(story, stated=False) == set()


@pytest.mark.parametrize("fails", [at(5) + 300, at(5) + 1000])
def test_a_slot_that_is_closed_twice_is_found_whenever_the_disk_failed(story, fails):
    """Rules M10, A17."""
    story.note(fails, "event", index=0, do="disk", how="readonly", **{"for": 9000.0})
    story.note(at(5) + 900, "life.ended", life=1, how="kill")
    story.note(at(5) + 1100, "life.begun", life=2, boot="a", apart=0.0)
    story.note(at(5) + 1102, "life.ready", life=2)
    story.readings()
    story.note(at(5) + 1110, "answer", line=0, device="e", meter=METER, channel="elec.imp",
               value=shown(at(5) + 1110), wall=at(5) + 1110.0)  # fmt: skip
    again = story.row(at(5), v=shown(at(5) + 1110), d=1110, ver=at(5) + 1111)
    story.batch(at(5) + 1120, [again], kept="memory", epoch="m", seq=1, sha256="f" * 64)
    assert ("CONSERVATION", "M10") in story.sorts()


@pytest.mark.parametrize(("moves", "wrong"), [((1.9,), False), ((1.5, 1.5), False), ((2.5,), True)])
def test_a_value_that_a_clock_has_dated_that_moved_a_little_is_right(story, moves, wrong):
    """Rule C8: a clock that moves by no more than 2 s has not stepped."""
    apart = 0.0
    story.note(BEGIN, "clock", apart=0.0, service=True, kept=True, rtc=0.0)
    for n, move in enumerate(moves):
        apart += move
        story.note(at(1) + 60 * n, "clock", apart=apart, service=False, kept=False, rtc=0.0)
    story.readings(until=at(4))
    t = at(5)  # read before it, by the true time
    story.note(t - apart + 0.1, "answer", line=0, device="e", meter=METER, channel="elec.imp",
               value="100.9", wall=t + 0.1)  # fmt: skip
    story.batch(t + 300, [story.row(t, v="100.9", d=0)])
    assert (("CONSERVATION", "M10") in story.sorts()) == wrong


@pytest.mark.parametrize(
    "sent",
    ["kept", "waited", "stepped while it waited", "retracted", "without signed time",
     "too long under way", "sent again"],
)  # fmt: skip
def test_what_signed_time_has_dated_is_right_until_it_is_proven_wrong(story, sent):
    """Rules C13, C5: a clock that is 20 s ahead has dated a slot."""
    story.note(BEGIN, "clock", apart=0.0, service=True, kept=True, rtc=None)
    before = 60.0 if sent == "stepped while it waited" else 20.0
    story.note(at(4) + 60, "clock", apart=before, service=True, kept=False, rtc=None)
    story.note(at(5) + 20, "clock", apart=20.0, service=True, kept=False, rtc=None)
    story.note(at(5) + 600, "clock", apart=0.0, service=True, kept=True, rtc=None)
    if sent != "without signed time":
        heard = at(5) + 30 if "waited" in sent else at(4) + 90
        signed = heard - (101 if sent in {"too long under way", "sent again"} else 99)
        for came in (at(4) + 30, heard) if sent == "sent again" else (heard,):
            story.note(came, "heartbeat", recipient=TO, signed=signed)
    story.readings(change=in_place_of(at(5)))
    t = at(5)
    story.note(t - 19.9, "answer", line=0, device="e", meter=METER, channel="elec.imp",
               value="100.9", wall=t + 0.1)  # fmt: skip
    story.batch(t + 300, [story.row(t, v="100.9", d=0)])
    if sent == "retracted":
        one = {"id": "x", "place": PLACE, "since": t, "until": t + 1, "ver": t + 700,
               "reason": "clock"}  # fmt: skip
        story.batch(t + 700, [story.row(t, q="M", v=None, why="clock", ver=t + 701)], retract=[one])
    found = {clause for _, clause in story.sorts()} & {"M10", "C5", "C3"}
    expected = {"retracted": set(), "without signed time": {"M10"}, "too long under way": {"M10"}}
    assert found == expected.get(sent, {"C5"})


@pytest.mark.parametrize(("moves", "right"), [(1.9, True), (2.5, False)])
def test_what_signed_time_has_kept_stays_kept_when_the_clock_moves_a_little(story, moves, right):
    """Rules C13, C8."""
    wrong = 119.0 + moves  # more than what a signed time that comes then may differ
    story.note(BEGIN, "clock", apart=0.0, service=True, kept=True, rtc=None)
    story.note(at(4) + 60, "clock", apart=119.0, service=True, kept=False, rtc=None)
    story.note(at(4) + 90, "heartbeat", recipient=TO, signed=at(4) + 90)
    story.note(at(4) + 120, "clock", apart=wrong, service=True, kept=False, rtc=None)
    story.note(at(5) + 600, "clock", apart=0.0, service=True, kept=True, rtc=None)
    story.readings(change=in_place_of(at(5)))
    story.note(at(5) + 0.1 - wrong, "answer", line=0, device="e", meter=METER, channel="elec.imp",
               value="100.9", wall=at(5) + 0.1)  # fmt: skip
    story.batch(at(5) + 300, [story.row(at(5), v="100.9", d=0)])
    assert (("CONSERVATION", "M10") not in story.sorts()) == right


def with_used_meter(*, asked=BEGIN - 30, less="0", **event):
    """From slot 10 on another meter is read under the number of the one before; `less`: by how much
    its first index is lower.
    """
    story = Story()
    story.note(asked, "number", line=0, device="e", meter=METER)
    for at_, kind, what in event.get("events", ()):
        story.note(at_, kind, **what)
    story.readings(until=at(10))
    for n in range(10, 30):
        t, value = at(n), str(Decimal(shown(at(n))) - (Decimal(less) if n == 10 else 0))
        story.note(t + 2, "answer", line=0, device="e", meter="11000002", channel="elec.imp",
                   value=value, wall=t + 2.0)  # fmt: skip
        story.batch(t + 300, [story.row(t, v=value)])
    return {one.clause for one in story.judged()} & {"M10"}


@pytest.mark.parametrize(
    "event",
    [
        (at(5), "silent", {"line": 0, "device": "e"}),
        (at(5), "opened", {"line": 0}),
        (at(10) + 1, "number", {"line": 0, "device": "e", "meter": "11000002"}),
        (at(9) + 60, "life.begun", {"life": 2, "boot": "a", "apart": 0.0}),
    ],
)
def test_another_meter_may_be_taken_for_the_one_before_until_it_must_be_asked(event):
    """Rules I16, I33."""
    asked = at(0)
    assert with_used_meter(asked=asked) == set()
    assert with_used_meter(asked=asked, events=[event]) == {"M10"}
    assert with_used_meter(asked=asked, less="50") == {"M10"}
    assert with_used_meter(asked=at(29) - DAY) == {"M10"}


@pytest.mark.parametrize("lost", [True, False])
def test_a_consent_whose_answer_was_lost_may_have_replaced_an_earlier_one(story, lost):
    withheld = {"q": "W", "v": None, "why": "consent", "basis": None, "d": None}
    story.records[2].what["withheld"] = True
    story.readings(change=lambda row: row | withheld if row["t"] >= at(6) else row)
    fact = {"fact": "consent.lost", "place": PLACE, "occupancy": STAY, "recipient": TO}
    if lost:
        story.call(at(6), "consent.give", means=[fact], outcome="lost", lost=True)
    story.call(at(6) + 5, "consent.give", outcome="refused", refused="they overlap")
    assert (("CONSERVATION", "P20") in story.sorts()) != lost


def test_a_list_that_is_handed_in_again_gives_no_consent_after_a_withdrawal(story):
    story.readings(until=at(5))
    withdraw(story, at(6))
    consent = story.records[3].what["means"][0]
    story.call(at(8), "consent.give", means=[], do="again")
    assert story.judged() == []
    story.call(at(9), "consent.give", means=[consent | {"id": "K2"}], do="again")
    assert ("SENT", "D4") in story.sorts()
    other = Story().readings()
    more = {"id": "K2", "occupancy": "H0000000000000X"}
    other.call(at(9), "consent.give", means=[consent | more], do="again")
    assert ("SENT", "D10") in other.sorts()


@pytest.mark.parametrize(("first", "right"), [(7, True), (5, False), (None, False)])
@pytest.mark.parametrize("answer", [{}, {"outcome": "lost", "lost": True}])
def test_a_list_that_was_first_handed_in_after_the_withdrawal_knew_of_it(
    story, first, right, answer
):
    """Rules D2, D4."""
    story.readings(until=at(5))
    withdraw(story, at(6))
    consent, args = story.records[3].what["means"][0], {"text": "a list"}
    if first is not None:
        means = [] if answer or not right else [consent | {"id": "K2", "since": at(first)}]
        story.call(at(first), "consent.give", args=args, means=means, do="consent", **answer)
    again = consent | {"id": "K3", "since": at(9)}
    story.call(at(9), "consent.give", args=args, means=[again], do="again")
    assert (("SENT", "D4") not in story.sorts()) is right


@pytest.mark.parametrize(("apart", "missing"), [(0.0, True), (-9 * DAY, False)])
def test_a_clock_that_is_behind_may_end_a_replaced_consent_before_it_began(story, apart, missing):
    """docs/clock.md: what is recorded takes effect from its date."""
    story.note(at(30), "clock", apart=apart, service=True, kept=False, rtc=None)
    consent = story.records[3].what["means"][0]
    later = consent | {"id": "K2", "since": at(30) + apart + 60, "step": DAY}
    story.call(at(30) + 60, "consent.give", args={}, means=[later])
    story.note(at(31), "clock", apart=0.0, service=True, kept=True, rtc=None)
    story.readings(until=at(5))
    assert (("CONSERVATION", "G2") in story.sorts()) is missing


def test_a_value_that_changes_faster_than_its_ramp_is_found(story):
    story.records[2].what["controls"][0]["ramp_per_min"] = 0.5
    order(story, at(0))
    for minute, value in enumerate(("-0.5", "-1.0", "-1.5", "-2")):
        write(story, at(0) + 2 + 60 * minute, value)
    write(story, at(0) + HOUR, "0", "-2")
    assert story.readings().judged() == []
    write(story, at(0) + 65, "-2")
    assert story.sorts() == {("EQUIPMENT", "H5")}


def ramped(*, second, slot=None, end=400, back=None):
    """Half a degree up, and from `second` on a ramp down to one degree below, by a second order.
    `back`: what is written at the end of the first, at which it is given back or passed.
    """
    story = Story()
    controlled(story, ramp_per_min=0.5, min_gap=600)
    order(story, at(0), value=0.5, duration=end)
    order(story, at(0) + second, value=-1.0)
    writes = [(2, "0.5", "0"), (398, back, "0.5"), (458, "-0.5", "0"), (518, "-1.0", "-0.5")]
    for after, value, before in [*writes, (second + HOUR, None if slot else "0", "-1.0")]:
        story.note(at(0) + after, "write", device="p", point="offset", control=CONTROL, slot=slot,
                   before=before, value=value or "0", written=value, by="agent")  # fmt: skip
    return {clause for _, clause in story.readings().sorts()}


def test_a_ramp_over_the_original_value_is_no_release():
    """Rules H4, H5: orders that overlap are one event. At a priority only its clearing gives the
    point back.
    """
    for slot in (None, 13):
        assert ramped(second=390, slot=slot, back="0") == set()
        assert ramped(second=300, slot=slot, back="0.0") == set()
    assert ramped(second=450, slot=13) == {"H4"}
    assert ramped(second=450, back="0") == {"H4"}


def test_an_original_value_at_a_priority_that_is_not_cleared_is_found(story):
    """Rule G6."""
    order(story, at(0))
    for after, value, before in ((2, "-2", "0"), (HOUR, "0", "-2")):
        story.note(at(0) + after, "write", device="p", point="offset", control=CONTROL, slot=13,
                   before=before, value=value, written=value, by="agent")  # fmt: skip
    assert story.readings().sorts() == {("EQUIPMENT", "G6")}


def test_a_limit_without_its_failsafe_after_a_start_is_found(story):
    story.records[2].what["controls"][0] |= {"min": 0.0, "max": 11.0, "original": "11",
                                             "failsafe": "6", "min_gap": 0}  # fmt: skip
    story.readings()
    story.note(at(5) + 601, "life.ended", life=1, how="kill")
    story.note(at(5) + 603, "life.begun", life=2, boot="a", apart=0.0)
    story.note(at(5) + 604, "life.ready", life=2)
    assert story.sorts() == {("EQUIPMENT", "H12")}
    write(story, at(5) + 604, "6", "11")
    write(story, at(5) + 3 * HOUR, "11", "6")
    assert story.judged() == []


@pytest.mark.parametrize("back", [HOUR, 2 * HOUR])
@pytest.mark.parametrize("after", [3, 610])
def test_a_failsafe_goes_on_for_two_periods_after_a_start_however_long_the_agent_was_down(
    story, after, back
):
    controlled(story, **LIMIT)
    story.readings(silent=range(at(5), at(12)))
    write(story, at(4), "6", "11")
    ends(story, at(5), "power", back)
    write(story, at(5) + back + after, "11", "6")
    h12 = {one for one in story.sorts() if one[1] == "H12"}
    assert h12 == ({("EQUIPMENT", "H12")} if after == 3 else set())


def test_a_watchdog_that_runs_out_while_all_is_well_is_found(story):
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    write(story, at(0) + 900, "0", "-2", by="watchdog")
    assert story.readings().sorts() == {("EQUIPMENT", "H23")}


def test_an_order_that_goes_on_after_a_fall_back_is_no_new_hold(story):
    """Rules H4, A12."""
    controlled(story, watchdog=60, min_gap=600, max_per_day=1)
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    for minute in range(15, 45, 10):
        story.note(at(0) + minute * 60 - 80, "event", index=0, do="line", line=0, **{"for": 70})
        story.note(at(0) + minute * 60 - 10, "event", index=0, ended=True, do="line", line=0)
        write(story, at(0) + minute * 60, "0", "-2", by="watchdog")
        write(story, at(0) + minute * 60 + 2, "-2")
    write(story, at(0) + HOUR, "0", "-2")
    assert story.readings().judged() == []
    order(story, at(0) + HOUR + 300)
    write(story, at(0) + HOUR + 302, "-2")
    write(story, at(0) + 2 * HOUR, "0", "-2")
    assert story.sorts() == {("EQUIPMENT", "H4")}


def controlled(story, **more):
    """Change what the building says of the control."""
    story.records[2].what["controls"][0] |= more


LIMIT = {"min": 0.0, "max": 11.0, "original": "11", "failsafe": "6", "min_gap": 0,
         "action": "limit", "heartbeat": 300, "failsafe_for": 7200}  # fmt: skip


def ends(story, when, how, back=60):
    """A life ends, and the next one begins."""
    story.note(when, "life.ended", life=1, how=how)
    story.note(when + back, "life.begun", life=2, boot="a", apart=0.0)
    story.note(when + back + 2, "life.ready", life=2)


@pytest.mark.parametrize(("by_person", "found"), [("4", False), ("5", True)])
def test_a_limit_that_leaves_the_value_from_before_is_held_all_the_same(story, by_person, found):
    """Rules H12, H33: it has set this value in the same hold."""
    controlled(story, **LIMIT | {"heartbeat": 0})
    write(story, at(0) - 600, "4", "11", by="person")
    order(story, at(0), value=7.0)
    write(story, at(0) + 2, "4", "4")
    order(story, at(0) + 600, value=3.0)
    write(story, at(0) + 602, "3", "4")
    write(story, at(0) + 900, by_person, "3", by="person")
    write(story, at(0) + 910, "3", by_person)
    write(story, at(0) + HOUR, "4", "3")
    story.readings()
    assert story.judged() == [] if not found else ("EQUIPMENT", "H10") in story.sorts()


@pytest.mark.parametrize(("second", "found"), [(1200, False), (None, True)])
def test_with_a_doubtful_clock_an_order_takes_over_without_a_write(story, second, found):
    """Rule H28: a hold is over after the durations of its orders."""
    story.note(at(0) - DAY / 2, "clock", apart=0.0, service=False, kept=False)
    order(story, at(0), duration=1800)
    write(story, at(0) + 2, "-2")
    if second:
        order(story, at(0) + second, duration=1800)
    write(story, at(0) + 1200 + 1800, "0", "-2")
    assert (("EQUIPMENT", "G6") in story.readings().sorts()) == found


@pytest.mark.parametrize(("after", "found"), [(240, False), (300, True)])
def test_a_slow_device_carries_out_a_write_late(story, after, found):
    fault(story, at(0) + 900, at(0) + HOUR + 400, do="device", device=1, how="slow")
    order(story, at(0))
    write(story, at(0) + HOUR + after, "-2")
    write(story, at(0) + HOUR + after + 1, "0", "-2")
    assert (("EQUIPMENT", "G5") in story.readings().sorts()) == found


def test_what_a_release_has_written_stands_there_whoever_set_another_value(story):
    """Rule H33: between the comparison and the write a person may act unnoticed."""
    controlled(story, **LIMIT | {"heartbeat": 0})
    order(story, at(0), value=3.0)
    write(story, at(0) + 2, "3", "11")
    write(story, at(0) + HOUR - 1, "2", "3", by="person")
    write(story, at(0) + HOUR, "11", "2")
    order(story, at(20), value=3.0)
    write(story, at(20) + 2, "3", "11")
    write(story, at(20) + HOUR, "11", "3")
    assert ("EQUIPMENT", "H12") not in story.readings().sorts()


def test_an_order_that_passes_the_value_of_an_earlier_time_releases_nothing(story):
    """Rule H33: a person has set another value since, and that is the one from before."""
    controlled(story)
    write(story, BEGIN + 3, "0.5", "0", by="person")
    order(story, at(0))
    write(story, at(0) + 2, "0", "0.5")
    write(story, at(0) + HOUR, "0.5", "0")
    assert story.readings().sorts() == set()


def test_an_order_without_the_rest_after_a_hold_is_found(story):
    controlled(story, min_off=900, min_gap=0)
    for begin, value in ((0, "-2"), (HOUR, "0"), (2 * HOUR, "-2"), (3 * HOUR, "0")):
        write(story, at(0) + begin, value)
    order(story, at(0))
    order(story, at(0) + 2 * HOUR)
    assert story.readings().judged() == []
    order(story, at(0) + HOUR + 600)
    write(story, at(0) + HOUR + 600, "-2")
    write(story, at(0) + HOUR + 700, "0")
    assert story.sorts() == {("EQUIPMENT", "H4")}


@pytest.mark.parametrize("before", ["REJECTED", "WAITING", ""])
def test_a_consent_that_was_refused_or_waits_is_expected_once_it_is_accepted(story, before):
    """Rule A10: it is sent again, with the same bytes. O7: it waits for the time, and nobody
    acknowledges it again.
    """
    first, again = at(1), at(9)
    consent = dict(story.records[3].what["means"][0], id="later", since=first)
    sent = {"typ": "consent+jwt", "jti": "later", "recipient": TO}
    story.note(first, "object", means=[consent], **sent)
    told = [(before, first + 1)] if before else []
    for when in (first + 1,) if before == "WAITING" else (first + 1, again):
        story.note(when, "object", acked=True, **sent)
    for n, (state, when) in enumerate([*told, ("ACCEPTED", again if before else first + 1)]):
        outcome = {"id": f"o{n}", "typ": "consent+jwt", "jti": "later", "state": state,
                   "at": dt.datetime.fromtimestamp(when, dt.UTC).isoformat()}  # fmt: skip
        story.batch(when + 1, [], directory={"outcomes": [outcome]})
    story.readings()
    look(story, at(5), "explain", **explained())
    assert (("TRUTH", "P22") in story.sorts()) != bool(before)
    look(story, at(10), "explain", **explained())
    assert ("TRUTH", "P22") in story.sorts()


@pytest.mark.parametrize(("killed", "right"), [(0.5, True), (2.0, False)])
def test_a_consent_that_was_taken_before_a_kill_may_be_refused_later(story, killed, right):
    """Rule O8: its outcome was not recorded, and a copy gets the answer that applies by then."""
    first = at(1)
    consent = dict(story.records[3].what["means"][0], id="early", since=first)
    sent = {"typ": "consent+jwt", "jti": "early", "recipient": TO}
    story.note(first, "object", means=[consent], **sent)
    ends(story, first + killed, "kill", back=10)
    for when in (first + 1, at(9)) if killed > 1 else (at(9),):
        story.note(when, "object", acked=True, **sent)
    refused = {"id": "o", "typ": "consent+jwt", "jti": "early", "state": "REJECTED",
               "at": utc(at(9))}  # fmt: skip
    story.batch(at(9) + 1, [], directory={"outcomes": [refused]})
    story.readings(change=in_place_of(at(5), basis="early"))
    assert (("SENT", "G3") not in story.sorts()) == right


def test_a_consent_that_waited_is_in_force_from_the_second_in_which_the_clock_was_set(story):
    """Rule O7: the correction and the acceptance are in the same second."""
    consent = dict(story.records[3].what["means"][0], id="later", since=at(1))
    sent = {"typ": "consent+jwt", "jti": "later", "recipient": TO}
    story.note(at(1), "object", means=[consent], **sent)
    story.note(at(1) + 1, "object", acked=True, **sent)
    story.note(at(1) - 60, "clock", apart=-700.0, service=True, kept=False)
    story.note(at(2) + 0.3, "clock", apart=0.0, service=True, kept=True)
    for n, (state, when) in enumerate([("WAITING", at(1)), ("ACCEPTED", at(2))]):
        outcome = {"id": f"o{n}", "typ": "consent+jwt", "jti": "later", "state": state,
                   "at": utc(when)}  # fmt: skip
        story.batch(at(2) + 9 + n, [], directory={"outcomes": [outcome]})
    records = [*sorted(story.records, key=lambda one: one.at), Record(float(END), "end", {})]
    begins = {basis.id: basis.known for basis in Facts(story.plan, records).bases.values()}
    assert begins["later"] == at(2) + 1


def test_a_consent_that_waited_ends_by_a_withdrawal_in_the_second_of_its_acceptance(story):
    """Rules O7, P13: both waited for the clock."""
    mine = story.records[3].what["means"][0]
    consent = dict(mine, id="later", recipient="energy.example", since=at(1))
    gone = {"fact": "withdraw", "place": PLACE, "occupancy": STAY, "recipient": "energy.example"}
    for jti, when, fact in (("later", at(1), consent), ("gone", at(2) + 0.4, gone)):
        sent = {"typ": "consent+jwt", "jti": jti, "recipient": TO}
        story.note(when, "object", means=[fact], **sent)
        story.note(when + 0.1, "object", acked=True, **sent)
    told_of = (
        ("later", "WAITING", at(1)),
        ("later", "ACCEPTED", at(2)),
        ("gone", "ACCEPTED", at(2)),
    )
    for n, (jti, state, when) in enumerate(told_of):
        outcome = {"id": f"o{n}", "typ": "consent+jwt", "jti": jti, "state": state, "at": utc(when)}
        story.batch(at(2) + 9 + n, [], directory={"outcomes": [outcome]})
    records = [*sorted(story.records, key=lambda one: one.at), Record(float(END), "end", {})]
    ended = {basis.id: basis.gone for basis in Facts(story.plan, records).bases.values()}
    assert ended["later"] == at(2) + 0.5


def test_an_order_that_is_too_long_or_was_refused_gives_no_right(story):
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    write(story, at(0) + HOUR, "0", "-2")
    assert story.readings().judged() == []
    controlled(story, max_duration=600)
    assert ("EQUIPMENT", "G5") in story.sorts()
    controlled(story, max_duration=2 * HOUR)
    told(story, at(1), "REJECTED")
    assert ("EQUIPMENT", "G5") in story.sorts()


def told(story, when, *states, of=0, jti=None):
    """Recipients are told the states of an order."""
    outcomes = [{"id": f"{when}{state}", "jti": jti or f"o{at(of)}", "control": CONTROL,
                 "state": state} for state in states]  # fmt: skip
    story.batch(when, [], directory={"outcomes": outcomes})


def test_an_order_without_a_begin_begins_when_it_arrives(story):
    order(story, at(0), duration=600)
    for one in story.records:
        if one.what.get("jti") == f"o{at(0)}":
            claims = {"cmd": {"start": "2027-01-02T00:00:00Z"}}
            one.what.update(typ="dr-command+jwt", claims=claims)
    acked = story.records.pop()
    story.records.append(Record(at(0) + HOUR, acked.kind, acked.what))
    write(story, at(0) + HOUR + 1, "-2")
    write(story, at(0) + HOUR + 590, "0")
    assert ("EQUIPMENT", "G5") in story.readings().sorts()
    for one in story.records:
        one.what.get("claims", {}).get("cmd", {}).clear()
    assert story.judged() == []


def test_a_weaker_order_that_is_in_force_is_found(story):
    controlled(story, common=True)
    order(story, at(0))
    order(story, at(0) + 600)
    for seq, when in enumerate((at(0), at(0) + 600)):
        next(one for one in story.records if one.what.get("jti") == f"o{when}").what["claims"] = {
            "seq": seq
        }
    write(story, at(0) + 2, "-2")
    write(story, at(0) + HOUR + 600, "0", "-2")
    story.readings()
    told(story, at(1), "STARTED", "SUPERSEDED")
    assert story.sorts() == set()
    told(story, at(1) + 10, "SUPERSEDED", jti=f"o{at(0) + 600}")
    assert story.sorts() == {("EQUIPMENT", "H8")}


def test_an_order_of_which_nobody_is_told_how_it_ended_is_found(story):
    controlled(story, common=True)
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    write(story, at(0) + HOUR, "0", "-2")
    story.readings()
    told(story, at(0) + 60, "ACCEPTED", "STARTED")
    assert story.sorts() == {("EQUIPMENT", "H11")}
    told(story, at(3), "COMPLETED")
    assert story.judged() == []
    told(story, at(3) + 60, "COMPLETED")
    assert story.sorts() == {("EQUIPMENT", "H11")}


def test_an_order_that_began_before_a_restart_and_is_carried_out_again_is_found(story):
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    ends(story, at(0) + 600, "kill")
    write(story, at(0) + 610, "0", "-2")
    assert story.readings().judged() == []
    controlled(story, min_gap=0)
    write(story, at(0) + 900, "-2")
    write(story, at(0) + 1900, "0", "-2")
    assert story.sorts() == {("EQUIPMENT", "H17")}


def test_a_start_that_releases_towards_the_value_of_the_next_order_carries_nothing_out_again(story):
    """Rule H17."""
    controlled(story, min_gap=0, watchdog=60)
    order(story, at(0), value=-3.0)
    write(story, at(0) + 2, "-3")
    ends(story, at(0) + 600, "kill")
    write(story, at(0) + 601, "0", "-3")
    write(story, at(0) + 660, "1", "0", by="watchdog")
    write(story, at(0) + 668, "0", "1")
    order(story, at(0) + 700)
    write(story, at(0) + 702, "-2", "0")
    write(story, at(0) + 702 + HOUR, "0", "-2")
    assert story.readings().judged() == []


@pytest.mark.parametrize(("how", "clauses"), [("kill", {"H17", "H20"}), ("power", {"H17"})])
def test_a_hold_that_outlasts_the_end_of_the_agent_is_found(story, how, clauses):
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    ends(story, at(0) + 600, how)
    write(story, at(0) + HOUR, "0", "-2")
    assert story.readings().sorts() == {("EQUIPMENT", clause) for clause in clauses}


@pytest.mark.parametrize("how", ["kill", "power"])
def test_a_limit_that_follows_the_failsafe_soon_after_a_start_is_right(story, how):
    controlled(story, **LIMIT)
    story.readings()
    for minute in range(-DAY, 4 * DAY, 240):
        story.note(at(0) + minute, "heartbeat", recipient=TO, signed=at(0) + minute)
    order(story, at(0), value=4.0)
    write(story, at(0) + 2, "4", "11")
    ends(story, at(0) + 600, how, back=10)
    order(story, at(0) + 616, value=3.0)
    write(story, at(0) + 618, "3", "4")
    write(story, at(0) + 616 + HOUR, "11", "3")
    clauses = {"H17", "H20"} if how == "kill" else {"H17"}
    assert {clause for _, clause in story.sorts()} == clauses
    write(story, at(0) + 611, "6", "4")
    assert story.judged() == []


def test_a_limit_that_is_released_at_a_start_is_found(story):
    controlled(story, **LIMIT)
    story.readings()
    story.note(at(0) - 2, "heartbeat", recipient=TO, signed=at(0) - 2)
    order(story, at(0), value=4.0)
    for minute in range(0, 4 * HOUR, 120):
        story.note(at(0) + minute, "heartbeat", recipient=TO, signed=at(0) + minute)
    write(story, at(0) + 2, "4", "11")
    ends(story, at(0) + 600, "power")
    write(story, at(0) + 661, "6", "4")
    write(story, at(0) + 3 * HOUR, "11", "6")
    assert "H17" not in {clause for _, clause in story.sorts()}
    write(story, at(0) + 660.5, "11", "4")
    assert ("EQUIPMENT", "H17") in story.sorts()


def test_a_limit_that_raises_a_value_is_found(story):
    controlled(story, **LIMIT | {"failsafe": ""})
    write(story, at(0) - HOUR, "3", "11", by="person")
    order(story, at(0), value=8.0)
    assert story.readings().judged() == []
    write(story, at(0) + 2, "8", "3")
    write(story, at(0) + HOUR, "3", "8")
    assert story.sorts() == {("EQUIPMENT", "H12")}


@pytest.mark.parametrize("replaced", [True, False])
def test_a_hold_goes_on_after_the_watchdog_has_replaced_what_a_person_set(story, replaced):
    """Rule H33: then the value from before the hold is the one that a limit must not raise."""
    controlled(story, **LIMIT)
    story.readings()
    write(story, BEGIN + 3, "6", "11")
    write(story, at(0), "5.5", "6", by="person")
    if replaced:
        write(story, at(0) + 30, "6", "5.5", by="watchdog")
    order(story, at(1), value=8.0)
    write(story, at(1) + 2, "8", "6" if replaced else "5.5")
    write(story, at(1) + HOUR, "11", "8")
    raised = [one for one in story.judged() if "raises" in one.text]
    assert {one.clause for one in raised} == (set() if replaced else {"H12"})


def test_a_limit_that_a_persons_value_suits_is_held_without_a_write(story):
    """Rule H12: only its watchdog is fed. The device falls back, and that value is held again."""
    controlled(story, **LIMIT | {"watchdog": 60})
    story.readings()
    for minute in range(-DAY, 4 * DAY, 240):
        story.note(at(0) + minute, "heartbeat", recipient=TO, signed=at(0) + minute)
    write(story, at(0), "4", "11", by="person")
    order(story, at(0) + 200, value=6.0)
    ends(story, at(0) + 202, "kill", back=300)
    write(story, at(0) + 265, "6", "4", by="watchdog")
    write(story, at(0) + 503, "4", "6")
    assert story.judged() == []


def test_a_limit_whose_platform_fell_silent_and_a_failsafe_without_end_are_found(story):
    controlled(story, **LIMIT)
    story.readings()
    for minute in range(-DAY, 4 * DAY, 240):
        if not 1000 < minute < 3000:
            story.note(at(0) + minute, "heartbeat", recipient=TO, signed=at(0) + minute)
    assert story.sorts() == {("EQUIPMENT", "H12")}
    write(story, at(0) + 1600, "6", "11")
    write(story, at(0) + 1600 + 7200, "11", "6")
    assert story.judged() == []
    story.records.remove(next(one for one in story.records if one.what.get("before") == "6"))
    write(story, at(0) + 1600 + 4 * HOUR, "11", "6")
    assert story.sorts() == {("EQUIPMENT", "G6")}


def test_an_order_takes_over_what_a_failsafe_has_set(story):
    """Rule H12: one that asks for the same value writes nothing."""
    controlled(story, **LIMIT | {"failsafe_for": 2 * HOUR})
    story.readings()
    for minute in range(-DAY, 4 * DAY, 240):
        if not 1000 < minute < 1500:
            story.note(at(0) + minute, "heartbeat", recipient=TO, signed=at(0) + minute)
    write(story, at(0) + 1600, "6", "11")
    order(story, at(0) + 1600 + HOUR, value=6.0, duration=2 * HOUR)
    write(story, at(0) + 1600 + 3 * HOUR, "11", "6")
    assert ("EQUIPMENT", "G6") not in story.sorts()
    story.records.pop()
    write(story, at(0) + 1600 + 4 * HOUR, "11", "6")
    assert ("EQUIPMENT", "G6") in story.sorts()


def test_the_value_of_a_watchdog_is_nobodys_wish(story):
    controlled(story, **LIMIT | {"watchdog": 60})
    write(story, BEGIN - 200, "6", "11", by="watchdog")
    write(story, BEGIN - 190, "11", "6")
    write(story, BEGIN - 180, "6", "11")
    for minute in range(-300, 5 * DAY, 240):
        story.note(BEGIN + minute, "heartbeat", recipient=TO, signed=BEGIN + minute)
    assert story.readings().sorts() == {("EQUIPMENT", "G6")}


def test_a_hold_that_a_silent_guard_or_a_revoked_grant_does_not_end_is_found(story):
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    write(story, at(0) + HOUR, "0", "-2")
    assert story.readings().judged() == []
    story.plan["events"] = [{"do": "device", "at": 0, "device": 1, "how": "silent", "for": 300}]
    for when, more in ((600, {}), (900, {"ended": True})):
        fault = {"index": 0, "do": "device", "device": 1, "how": "silent", "for": 300} | more
        story.note(at(0) + when, "event", **fault)
    assert story.sorts() == {("EQUIPMENT", "H3")}
    other = Story().readings()
    order(other, at(0))
    write(other, at(0) + 2, "-2")
    write(other, at(0) + HOUR, "0", "-2")
    other.call(at(0) + 600, "revoke", means=[{"fact": "revoke", "control": CONTROL}])
    assert other.sorts() == {("EQUIPMENT", "H27")}


def test_what_is_written_under_a_persons_priority_is_found(story):
    order(story, at(0))
    story.note(at(0) - 60, "write", device="p", point="offset", control=CONTROL, before="0",
               value="1", written="1", by="person", slot=8)  # fmt: skip
    assert story.readings().judged() == []
    for when, value in ((2, "-2"), (HOUR, None)):
        story.note(at(0) + when, "write", device="p", point="offset", control=CONTROL,
                   before="1", value="1", written=value, by="agent", slot=13)  # fmt: skip
    assert story.sorts() == {("EQUIPMENT", "H8")}


def test_a_hold_lasts_to_the_earlier_of_its_ends_by_both_clocks(story):
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    story.note(at(0) + 600, "clock", apart=1200.0, service=False)
    story.note(at(0) + 2 * HOUR, "clock", apart=0.0, service=True)
    write(story, at(0) + HOUR - 1200, "0", "-2")
    assert "G6" not in {clause for _, clause in story.readings().sorts()}
    story.records = [one for one in story.records if one.what.get("value") != "0"]
    write(story, at(0) + HOUR - 300, "0", "-2")
    assert ("EQUIPMENT", "G6") in story.sorts()


def test_a_building_that_was_never_set_up_is_found(story):
    story.records = story.records[:2]
    assert story.sorts() == {("LIVENESS", "G11")}


def fault(story, begin, end, do="disk", **what):
    """An event of the plan that lasts."""
    index = len(story.plan["events"])
    event = {"do": do, "for": float(end - begin), **what}
    story.plan["events"].append(event | {"at": float(begin - BEGIN), "seed": 1})
    story.note(begin, "event", index=index, **event)
    story.note(end, "event", index=index, ended=True, **event)


def begins_again(story, when, how="kill", back=10.0, boot="a"):
    """A life ends, and the next one begins."""
    number = sum(one.kind == "life.begun" for one in story.records)
    story.note(when, "life.ended", life=number, how=how)
    story.note(when + back, "life.begun", life=number + 1, boot=boot, apart=0.0)
    story.note(when + back + 2, "life.ready", life=number + 1)


def test_a_transfer_that_goes_on_after_the_withdrawal_of_its_rows_is_found(story):
    story.readings(until=at(5))
    story.batch(at(6) - 1, [story.row(at(3), again=True)])
    slow = next(one for one in story.records[::-1] if one.kind == "stored")
    withdraw(story, at(6))
    assert story.judged() == []
    story.records.remove(slow)
    story.records.append(slow._replace(at=at(6) + 10.0))
    assert ("SENT", "T2") in story.sorts()


def test_a_withdrawal_that_is_only_noted_is_in_force_until_the_machine_crashes(story):
    story.readings(until=at(5))
    withdraw(story, at(6), unrecorded=True)
    begins_again(story, at(8))
    begins_again(story, at(10), how="power", boot="b")
    story.batch(at(12), [story.row(at(3), again=True)])
    assert ("SENT", "A7") not in story.sorts()
    story.batch(at(9), [story.row(at(3), again=True)])
    assert ("SENT", "A7") in story.sorts()


def test_a_move_out_that_is_only_noted_is_in_force_until_the_machine_crashes(story):
    """Rule A7."""
    leave = {"fact": "leave", "place": PLACE, "occupancy": STAY, "at": at(4)}
    story.readings(until=at(5))
    story.call(at(6), "move-out", means=[leave], unrecorded=True)
    begins_again(story, at(8))
    begins_again(story, at(10), how="power", boot="b")
    story.batch(at(12), [story.row(at(5), again=True)])
    story.batch(at(9), [story.row(at(3), again=True)])
    assert ("SENT", "A7") not in story.sorts()
    story.batch(at(9) + 60, [story.row(at(5), again=True)])
    assert ("SENT", "A7") in story.sorts()


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_withdrawal_after_a_crash_is_of_whom_only_notes_had_moved_out(story, cut, recorded):
    """Rule A7: the crash has undone the move-out, unless it was recorded meanwhile."""
    leave = {"fact": "leave", "place": PLACE, "occupancy": STAY, "at": at(18)}
    story.readings(until=at(20), change=in_place_of(at(10)))
    story.call(at(20), "move-out", means=[leave], unrecorded=True)
    begins_again(story, at(24), **({"how": "power", "boot": "b"} if cut else {}))
    if recorded:
        story.call(at(26), "move-out", means=[leave])
    fact = {"fact": "withdraw", "place": PLACE, "occupancy": "", "recipient": TO}
    story.call(at(30), "withdraw", means=[fact])
    assert (("CONSERVATION", "G2") in story.sorts()) == (recorded or not cut)


@pytest.mark.parametrize("cut", [True, False])
def test_a_withdrawal_that_is_only_noted_is_undone_by_a_crash_while_no_agent_runs(story, cut):
    """Rule A7."""
    story.readings(until=at(5))
    withdraw(story, at(6), unrecorded=True)
    begins_again(story, at(8), back=7200.0, boot="b" if cut else "a")
    if cut:
        story.plan["events"].append({"at": at(9) - BEGIN, "do": "power", "seed": 1})
        story.note(at(9), "event", index=0, do="power")
    story.batch(at(13), [story.row(at(3), again=True)])
    assert (("SENT", "A7") in story.sorts()) != cut


def test_a_lost_withdrawal_is_in_force_once_a_receipt_has_named_its_retraction(story):
    story.readings(until=at(5))
    withdraw(story, at(6), unrecorded=True)
    for_good = taken_back(id="w", basis=CONSENT, reason="withdrawn", until=None, ver=2**53 - 1)
    story.batch(at(6) + 30, [], retract=[for_good])
    begins_again(story, at(10), how="power", boot="b")
    story.batch(at(12), [story.row(at(3), again=True)])
    receipt = story.records[-1]
    story.batch(at(14), [story.row(at(4), again=True)])
    assert ("SENT", "P13") not in story.sorts()
    receipt.what["retracted"] = [["w", 1]]
    assert ("SENT", "P13") in story.sorts()


@pytest.mark.parametrize(("how", "owed"), [("too-large", True), ("refuses", False)])
def test_what_was_too_large_is_owed_within_the_day_and_what_was_refused_is_not(story, how, owed):
    since = END - 20 * HOUR
    fault(story, since, since + 2 * HOUR, do="uplink", how=how, recipient=0)
    story.readings(change=in_place_of(since + HOUR))
    assert (("CONSERVATION", "G2") in story.sorts()) is owed


def test_a_consent_before_a_slot_is_no_reason_why_the_agent_has_no_value(story):
    story.readings(change=in_place_of(BEGIN + 4 * HOUR, q="M", v=None, why="agent"))
    assert ("CONSERVATION", "M3") in story.sorts()


def test_a_consent_that_the_disk_could_not_record_is_no_basis(story):
    consent = next(one for one in story.records if one.what.get("name") == "consent")
    consent.what["unrecorded"] = True
    assert ("SENT", "A10") in story.readings().sorts()


def test_what_is_sent_after_a_boot_on_a_read_only_disk_is_found(story):
    fault(story, at(3), at(9), how="readonly")
    begins_again(story, at(5) + 600, boot="b", how="power")
    story.readings(change=lambda row: row if row["t"] < at(3) or row["t"] > at(9) else None)
    assert ("SENT", "A8") not in story.sorts()
    of_memory(story, at(7), [story.row(at(4))])
    assert ("SENT", "A8") in story.sorts()


def test_epochs_that_begin_within_a_day_are_found(story):
    story.readings()
    for number, epoch in enumerate(("f", "g")):
        sha = story.batch(at(9) + number * HOUR, [], sha256=epoch * 64)
        for one in story.records[-3:]:
            one.what.update(epoch=epoch, seq=1)
        story.records[-1].what["stored"] = [[1, sha]]
        story.seq -= 1
        if not number:
            assert story.judged() == []
    assert story.sorts() == {("CONSERVATION", "T8")}
    fault(story, at(5), at(5) + 1, how="eio")
    assert ("CONSERVATION", "T8") not in story.sorts()


def test_a_batch_that_a_receipt_contradicts_is_owed_under_another_id(story):
    story.readings()
    story.batch(END - DAY, [])
    del story.records[-2:]
    assert ("LIVENESS", "T16") in story.sorts()
    story.note(END - DAY + 9, "receipt", recipient=TO, epoch="e", stored=[[story.seq, "f" * 64]])
    assert story.judged() == []


def test_an_index_of_a_month_that_a_duty_covers_is_not_on_a_consent(story):
    first = BEGIN - HOUR  # 00:00 in Paris of the 1st
    story.plan["begin"] = BEGIN - 9 * HOUR
    fact = {"fact": "duty", "id": "U1", "recipient": TO, "channels": ["elec.imp"],
            "since": BEGIN - 8 * HOUR}  # fmt: skip
    story.call(BEGIN - 8 * HOUR, "duty.add", means=[fact])
    bases = [*DIRECTORY["bases"], {"id": "U1", "since": "2026-12-31T00:00:00Z"}]
    series = [{**DIRECTORY["series"][0], "step": 30 * DAY}]
    more = {"bases": bases, "series": DIRECTORY["series"] + series}
    story.batch(BEGIN + 90, [], directory=DIRECTORY | more)
    story.note(first + 2, "answer", line=0, device="e", meter=METER, channel="elec.imp",
               value=shown(first), wall=first + 2.0)  # fmt: skip
    story.readings()
    row = story.row(first, step=30 * DAY, basis="U1", occupancy=STAY)
    story.batch(at(9), [row])
    assert story.sorts() <= {("CONSERVATION", "R16")}
    row["basis"] = CONSENT
    assert ("CONSERVATION", "T13") in story.sorts()
    row["basis"] = "U2"
    story.call(BEGIN - 7 * HOUR, "duty.add", means=[fact | {"id": "U2"}])
    assert ("CONSERVATION", "T13") not in story.sorts(), "of two duties either will do"


@pytest.mark.parametrize(
    ("later", "right"),
    [
        ({}, True),
        ({"purpose": "advice"}, False),  # it replaces the one before
        ({"until": END + 990 * DAY}, False),
        ({"step": 60}, True),
        ({"step": 1800, "until": END}, True),
    ],
)
def test_of_consents_for_two_purposes_the_more_durable_one_counts(story, later, right):
    first = story.records[-1].what["means"][0]
    first["purpose"] = "advice"
    second = first | {"id": "K2", "since": at(2), "until": END, "purpose": "advice by post"}
    story.call(at(2), "consent.give", means=[second | later])
    assert (("CONSERVATION", "T13") not in story.readings().sorts()) is right


def test_a_hold_on_a_disk_that_cannot_be_written_is_found(story):
    order(story, at(0), duration=2 * HOUR)
    write(story, at(0) + 2, "-2")
    fault(story, at(0) + 600, at(0) + 2 * HOUR, how="readonly")
    kept = lambda row: row if row["t"] < at(0) else None  # noqa: E731
    story.readings(change=kept)
    assert ("EQUIPMENT", "A12") in story.sorts()
    write(story, at(0) + 670, "0", "-2")
    assert ("EQUIPMENT", "A12") not in story.sorts()
    order(story, at(0) + 1800, value=-1.0, duration=600)
    write(story, at(0) + 1802, "-1")
    write(story, at(0) + 2400, "0", "-1")
    assert ("EQUIPMENT", "A12") in story.sorts()


@pytest.mark.parametrize(("how", "found"), [("eio", False), ("readonly", True)])
def test_a_journal_that_nobody_could_read_since_the_boot_releases_nothing(story, how, found):
    """A, remaining risks."""
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    write(story, at(0) + HOUR, "0", "-2")
    fault(story, at(0) + 60, at(0) + HOUR, how=how)
    story.note(at(0) + 70, "life.ended", life=1, how="power")
    for number, (begin, end) in enumerate(((130, 131), (190, 191)), 2):
        story.note(at(0) + begin, "life.begun", life=number, boot="b", apart=0.0)
        story.note(at(0) + end, "life.ended", life=number, how="refused")
    assert (("EQUIPMENT", "A13") in story.readings(until=at(0)).sorts()) == found


def test_what_is_held_after_an_end_on_a_failing_disk_is_found(story):
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    write(story, at(0) + HOUR, "0", "-2")
    fault(story, at(0) + 60, at(0) + HOUR, how="eio")
    begins_again(story, at(0) + 70, back=HOUR)
    assert ("EQUIPMENT", "A13") in story.readings(until=at(0)).sorts()
    write(story, at(0) + 80, "0", "-2")
    assert ("EQUIPMENT", "A13") not in story.sorts()


def test_a_release_over_the_value_of_a_person_is_found_unless_the_machine_has_crashed(story):
    order(story, at(0))
    write(story, at(0) + 2, "-2")
    write(story, at(0) + 600, "0", "-2")
    write(story, at(0) + 900, "-2", "0", by="person")
    story.readings()
    assert story.judged() == []
    write(story, at(0) + 1200, "0", "-2")
    assert story.sorts() == {("EQUIPMENT", "A14")}
    begins_again(story, at(0) + 1000, how="power", boot="b")
    assert ("EQUIPMENT", "A14") not in story.sorts()


def test_an_uplink_that_is_taken_out_with_a_backlog_is_found(story):
    fault(story, at(3), at(9), do="uplink", recipient=0, how="down")
    story.note(at(6), "configured", change="recipient", recipients=[], every={})
    down = lambda row: row if not at(3) <= row["t"] < at(9) else None  # noqa: E731
    story.readings(change=lambda row: down(row) if row["t"] < at(9) else None)
    assert ("CONSERVATION", "T27") in story.sorts()
    story.batch(at(9) + 60, [story.row(at(4))])
    assert ("CONSERVATION", "T27") not in story.sorts()


def test_a_withdrawal_that_finds_no_room_on_a_full_disk_is_found(story):
    fault(story, at(3), at(9), how="full", names=False)
    story.readings()
    story.call(at(5), "withdraw", do="withdraw", outcome="waiting", refused="the disk is full")
    assert story.sorts() == {("LIVENESS", "B11")}
    story.records[-1].what.pop("refused")
    assert story.judged() == []


def test_people_of_whom_a_recipient_is_told_first_when_all_is_withdrawn_are_found(story):
    story.readings(until=at(5))
    withdraw(story, at(6))
    ended = {**DIRECTORY["occupancies"][0], "until": "2027-01-02T03:00:00Z"}
    story.batch(at(9), [], directory={"occupancies": [ended]})
    assert story.judged() == []
    story.batch(at(10), [], directory={"occupancies": [ended]})
    for one in story.records[-3:]:
        one.what.update(epoch="f", seq=1)
    assert ("SENT", "T34") in story.sorts()
    lost = {"outcome": "lost", "lost": True}
    story.call(at(7), "duty.add", args={"recipient": "b.example"}, **lost)
    assert ("SENT", "T34") in story.sorts()
    story.call(at(8), "duty.add", args={"recipient": TO}, **lost)
    assert ("SENT", "T34") not in story.sorts()


def test_a_spool_that_grows_on_a_full_disk_is_found(story):
    story.readings()
    fault(story, at(3), at(9), how="full", room=100)
    story.note(at(3), "spools", bytes={"spool-a.db": 4096})
    story.note(at(9), "spools", bytes={"spool-a.db": 4096, "spool-b.db": 4096})
    assert story.judged() == []
    story.records[-1].what["bytes"]["spool-a.db"] = 8192
    assert story.sorts() == {("LIVENESS", "B10")}


def test_values_are_shed_where_a_small_spool_waits_for_its_recipient(story):
    shed = in_place_of(at(5), q="M", v=None, why="shed")
    story.readings(silent={at(5)}, change=shed)
    story.plan["building"]["small"] = True
    assert story.sorts() == {("CONSERVATION", "M3")}
    fault(story, at(3), at(9), do="uplink", recipient=0, how="down")
    assert story.judged() == []


def test_an_object_that_met_an_error_is_found(story):
    story.readings()
    outcome = {"jti": "x", "state": "REJECTED", "code": "E_INTERNAL"}
    story.batch(at(9), [], directory={"outcomes": [outcome]})
    assert story.sorts() == {("LIVENESS", "O22")}


@pytest.mark.parametrize(
    ("accepted", "found"), [(at(8), {("LIVENESS", "O8")}), (at(9) + 60, set())]
)
@pytest.mark.parametrize("flaw", [{}, {"flaw": "replay"}])
def test_a_copy_of_an_accepted_object_that_is_refused_as_expired_is_found(accepted, found, flaw):
    story = Story().readings()
    story.note(at(7), "object", typ="request+jwt", jti="x", recipient=TO, means=[], **flaw)
    story.note(at(7) + 1, "object", typ="request+jwt", jti="x", recipient=TO, acked=True)
    for when, outcome in ((accepted, {"state": "ACCEPTED"}),
                          (at(9), {"state": "REJECTED", "code": "E_EXPIRED"})):  # fmt: skip
        story.batch(when, [], directory={"outcomes": [outcome | {"jti": "x"}]})
    assert story.sorts() == (set() if flaw else found)


@pytest.mark.parametrize(("stated", "right"), [
    (at(21), True), (at(20), False), (at(22), False), (None, False),
])  # fmt: skip
def test_a_series_that_does_not_end_with_a_meter_that_was_removed_is_found(story, stated, right):
    when = at(20) + 600
    story.readings(until=at(22)).call(when + 30, "meter.remove", means=[{
        "fact": "removal", "place": PLACE, "channel": "elec.imp", "device": "e", "old": METER,
        "at": when, "closing": None}])  # fmt: skip
    series = dict(DIRECTORY["series"][0])
    if stated is not None:
        series["until"] = dt.datetime.fromtimestamp(stated, dt.UTC).isoformat()
    story.batch(when + 90, [], directory={"series": [series]})
    assert (("CONSERVATION", "T34") not in story.sorts()) is right
    assert story.sorts() == set() or not right


@pytest.mark.parametrize(
    ("row", "late", "found"),
    [("W", True, False), ("W", False, True), ("R", True, True)],
)
def test_a_row_of_a_series_that_ended_is_found_unless_it_was_withheld_before(
    story, row, late, found
):
    """Rules R16, P20, I22: the removal is recorded after the slot, or before it."""
    withheld = {"q": "W", "v": None, "why": "consent", "basis": "", "meter": None, "d": None}
    next(one for one in story.records if one.kind == "building").what["withheld"] = True
    series = DIRECTORY["series"][0] | {"until": utc(at(21))}
    story.readings(until=at(20))
    story.call(at(21) + 900 if late else at(21) - 60, "meter.remove", means=[{
        "fact": "removal", "place": PLACE, "channel": "elec.imp", "device": "e", "old": METER,
        "at": at(20) + 600, "closing": None}])  # fmt: skip
    story.batch(at(21) + 300, [story.row(at(21)) | (withheld if row == "W" else {})])
    story.batch(at(21) + 990, [], directory={"series": [series]})
    assert (("CONSERVATION", "R16") in story.sorts()) is found


@pytest.mark.parametrize(
    ("row", "again", "found"),
    [("W", True, False), ("W", False, True), ("R", True, True)],
)
def test_a_row_of_a_series_that_ended_may_be_withheld_once_its_meter_is_read_at_that_period_again(
    story, row, again, found
):
    """Rules R16, P20: the directory lists no series of what is withheld."""
    withheld = {"q": "W", "v": None, "why": "consent", "basis": "", "meter": None, "d": None}
    next(one for one in story.records if one.kind == "building").what["withheld"] = True
    series = DIRECTORY["series"][0] | {"until": utc(at(7))}
    story.readings(until=at(5))
    for n, every in ((6, 2 * EVERY), (9, EVERY))[: 2 if again else 1]:
        story.note(at(n) + 60, "configured", change="period", every={"e": every}, flush=5,
                   recipients=[TO], readable=True)  # fmt: skip
    story.batch(at(8), [], directory={"series": [series]})
    story.batch(at(11), [story.row(at(10)) | (withheld if row == "W" else {})])
    assert any("that ended" in one.text for one in story.judged()) is found


@pytest.mark.parametrize(("how", "forgotten"), [("power", True), ("kill", False)])
def test_a_row_of_memory_that_a_power_cut_made_forgotten_may_follow_the_end(story, how, forgotten):
    """A, remaining risks."""
    story.note(at(2), "event", index=0, do="disk", how="eio", **{"for": 90 * HOUR})
    story.readings(until=at(20))
    story.batch(at(22), [], directory={"series": [DIRECTORY["series"][0] | {"until": utc(at(21))}]})
    of_memory(story, at(21) + 60, [story.row(at(21), ver=at(21))])
    story.note(at(21) + 70, "life.ended", life=1, how=how)
    story.note(at(21) + 80, "life.begun", life=2, boot="b" if forgotten else "a", apart=0.0)
    story.note(at(21) + 82, "life.ready", life=2)
    assert any("ended" in one.text for one in story.judged()) is not forgotten


def waits(story, when, **more):
    """What the gateway says to wait when one value was read, and is not sealed yet."""
    names = ("batches", "batch_rows", "quarantined", "quarantined_rows", "retractions")
    backlog = dict.fromkeys(names, 0) | {"rows": 1, "slots": 1, "oldest": when // EVERY * EVERY}
    now = dt.datetime.fromtimestamp(when, dt.UTC).isoformat()
    uplinks = {"u": {"recipient": TO, "backlog": backlog | more}}
    story.note(when, "status", what="status", place="", answer={"now": now, "uplinks": uplinks})
    return story


@pytest.mark.parametrize("when", [at(9) + 200, END - EVERY - HOUR + 200])
@pytest.mark.parametrize(("wrong", "found"), [
    ({}, set()), ({"rows": 2, "slots": 2}, {("LIVENESS", "T14")}),
    ({"rows": 2, "slots": 7}, {("LIVENESS", "T14")}), ({"retractions": 1}, {("LIVENESS", "T19")}),
    *((wrong, {("TRUTH", "T31")}) for wrong in (
        {"rows": 0, "slots": 0}, {"rows": 0}, {"batches": 1}, {"quarantined": 1},
        {"batch_rows": 2}, {"oldest": None}, {"oldest": BEGIN}, {"oldest": END},
    )),
])  # fmt: skip
def test_what_waits_and_is_not_sent_or_not_stated_is_found(story, when, wrong, found):
    assert waits(story.readings(), when, **wrong).sorts() == found


@pytest.mark.parametrize(
    ("conflicts", "fails", "waiting"),
    [
        ([], False, {1}),
        ([("e", 30)], False, {0}),
        ([("e", 900), ("e", 30)], False, {0}),
        ([("f", 900), ("e", 30)], False, {1}),
        ([("f", 15000), ("e", 30)], False, {1}),
        ([("f", 15000), ("e", 30)], True, {0, 1}),
        ([("f", 900), ("f", 45), ("e", 30)], False, {1}),
        ([("f", 45), ("e", 30)], False, {0}),
        ([("m", 900), ("e", 30)], False, {0}),
    ],
)
def test_a_batch_without_a_receipt_waits(conflicts, fails, waiting):
    """T31, T8: also at the second conflict within a day. At the first one it is sealed again, and
    at each one of an epoch that has ended. The spool in memory counts its own, and a disk that
    fails may record none.
    """
    story = Story().readings()
    when = at(9) + 301
    seq = next(one.what["seq"] for one in story.records if (one.kind, one.at) == ("sent", when - 1))
    story.records = [
        record._replace(at=when + HOUR) if (record.kind, record.at) == ("receipt", when + 1)
        else record._replace(at=when - 60) if (record.kind, record.at) == ("sent", when - 1)
        else record for record in story.records
    ]  # fmt: skip
    of_memory(story, when - 1000, [], seq=seq - 1)
    two_epochs = any(epoch == "f" for epoch, _ in conflicts)
    for record in story.records:
        if two_epochs and record.at < when - 60 and record.what.get("epoch") == "e":
            record.what["epoch"] = "f"
    for epoch, before in conflicts:
        one = seq if before == 30 else seq - 1 - before // EVERY
        story.note(when - before, "receipt", recipient=TO, epoch=epoch, stored=[[one, "f" * 64]])
    for stated in (0, 1):
        one = copy.deepcopy(story)
        waits(one, when, rows=0, slots=0, batches=stated, batch_rows=stated, oldest=None)
        if fails:
            disk = {"do": "disk", "how": "eio", "for": 30.0}
            one.note(when - 15020, "event", index=0, **disk)
            one.note(when - 14990, "event", index=0, ended=True, **disk)
        assert (("TRUTH", "T31") in one.sorts()) == (stated not in waiting)


@pytest.mark.parametrize(("fails", "found"), [(True, set()), (False, {("TRUTH", "T31")})])
def test_a_batch_of_which_a_copy_was_refused_may_wait_if_its_receipt_was_lost(story, fails, found):
    if fails:
        story.note(at(9) + 295, "event", index=0, do="disk", how="eio", **{"for": 20.0})
        story.note(at(9) + 315, "event", index=0, do="disk", how="eio", ended=True, **{"for": 20.0})
    waits(story.readings(), END - EVERY - HOUR + 200, quarantined=1, quarantined_rows=1)
    sent = next(one.what for one in story.records if (one.kind, one.at) == ("sent", at(9) + 300))
    story.note(at(9) + 400, "receipt", recipient=TO, epoch="e", stored=[],
               rejected=[[sent["seq"], sent["sha256"], "no"]])  # fmt: skip
    assert story.sorts() == found


def test_what_waits_near_an_event_or_a_change_is_not_judged(story):
    begins_again(story, at(8))
    assert waits(story.readings(), at(9) + 200, slots=7).sorts() == set()
    other = Story().readings()
    other.call(at(9), "leave", means=[{"fact": "leave", "place": "D9", "occupancy": "H9",
                                       "at": END}])  # fmt: skip
    assert waits(other, at(9) + 200, slots=7).sorts() == set()


def test_the_review_of_the_judge_has_each_clause_once_with_its_oracle_or_reason():
    page = (TOP / "docs/simulation-judge.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| ([A-Z]\d+) \| .* \| (.+) \|$", page, re.MULTILINE)
    assert Counter(clause for clause, _ in lines) == Counter(one.id for one in clauses())
    oracles = "CONSERVATION|SENT|EQUIPMENT|LIVENESS|SPIN|TRUTH"
    start = rf"(not in the world|passes|the platform is ours|{oracles})\b"
    assert [line for line in lines if not re.match(start, line[1])] == []
