"""The judge: what the recipients, the devices and the people got, against what really happened.

It reads a plan and the journal of its run, and docs/rules; nothing of the agent. An oracle is
strict where a rule is strict. Where a rule leaves something open, or the world cannot know it, the
oracle lets both pass; this page states which, so that nobody believes that more was judged.

CONSERVATION
  G1   a value that was read in a calm time (one life, no event from half an hour before until two
    flushes and a minute after it was read) is held, not an M, whatever happens later. Passes:
    values read near an event; there M1 to M24 decide.
  A2   nor is one an M that was read while only the disk failed, if the machine did not lose its
    power, and no uplink was down, until two hours after the disk had recovered.
  G2   each slot of an undoubted consent and of common plant has a row. Passes: slots within two
    steps of a change of the place, recipients that were removed, slots older than 60 days, slots
    within an hour or two steps of a clock that is wrong or kept by nobody (C1 to C12 leave open
    which of them are dated). Rows that were refused within the last 27 hours (T17). Flows (INT)
    have a row too, if the consent is for the step of the readings.
  G4   the row is of the meter that was recorded there.
  T1   seq has no gaps (except in an epoch of memory). T2: one content under one id. R8: runs are
    M or W, and have no value.
  T6   no two rows with one key, neither `again`. T13: on the basis that is in force; a duty may go
    first, and does for the index of a month; a consent for another purpose may, if it is more
    durable. T8: no two epochs within half a day.
  T27  a recipient with a backlog that a reload takes out gets its rows once it can be reached.
  M9   a row is at a slot of its step: a midnight, a first of the month, a multiple.
  M8   what a broken meter shows is never V, unless it is compared with such a value (M13). M6: no
    consumption is negative. M20: no value is later than its step. M10: no two readings of one
    meter for a slot (unless a clock was wrong).
  M10, C8, C10, C11, R13, F1, R1  a value is one that this meter gave, in that slot, within 30 s of
    the stated delay, by the true time or by the gateway's clock as a service had set it.
  C11  what was read while nothing could be dated is held, if the clock was set right and kept
    within the life. C3: while marks lie ahead it is read, and held once signed time agrees.
  C5   what only a wrong clock has dated is not held three hours before the end, if the clock was
    proven wrong within one life. C3: rows are taken back because of the clock only then.
  C6, I23  nothing falls under a retraction that was sent before it. A retraction of a move ends.
  M22, I21, R14  of a meter that was recorded late each slot has a row, what was read after its
    number was known is held, and so are the stated indexes. Passes: if the place had another change
    meanwhile.
  M2   a flow K is the difference of two answers around its begin and its end; over an exchange of
    which both indexes were read, of both meters (M7). Passes: with a disturbed clock. R14: an index
    at an exchange is a stated one, or one that the meter gave.
  M3   each reason can be true: `agent` only if no life covered the step and two minutes, or the
    disk failed within the hour, or the place had a change; `silent` only if the device was silent
    in the step, and, with no other fault, was asked again within 200 s (M14); `link`, `bad`,
    `busy`, `shed`, `uplink`, `clock`, `early`: only with a cause in the plan.
  P9   on a duty, the index of each midnight at which somebody moved, recorded late or not, if it
    was read in a calm time.
  P20  an owed slot is not withheld. Who asked for withheld rows is told of each midnight in a calm
    time of a dwelling on which it never had a basis. Passes: other W rows that are missing, and
    midnights after somebody may have given it a basis without having seen the answer.
  R16  each slot that docs/platform.md lets a recipient conclude.
  T34  of a meter that was removed without a successor, the series of whoever has a consent until
    the end state the first slot that is not owed. Passes: with a disturbed clock. R14: the last
    index of such a meter is no index at an exchange, and is not expected.
  T21  a row comes after place, meter, occupancy, basis and series (except at a move or an
    exchange), in its epoch. S7: a sum is not
    above what all dwellings used. Passes: which dwellings are in it.
SENT   (each time that a batch leaves, and for what is held at the end)
  G3, P1, P4, P11, P12, P20, I5, P2  a basis of that recipient, channel, step, occupancy and time.
  P6   not on a consent of an earlier day than the move-in. P9: on a duty only month's ends, and
    midnights of moves. P20: who never had a basis is told no reason but `consent`.
  P13  not after the withdrawal was answered. A withdrawal that was not answered may be in force or
    not. T2: nor is a transfer completed then. A7: nor after a withdrawal or a move-out that was
    only noted, until the machine crashes. A10: nor on a consent that was accepted unrecorded. A8:
    nor after a boot on a read-only disk.
  P14  not after 60 days and three hours (the purge is hourly). Passes: with a disturbed clock
    (C14).
  G4, I22  not of a meter or of people of whom the gateway knew that they were not there.
  A9   nothing of a withdrawn basis is held at the end; I22: nor what was recorded late. Passes:
    rows whose retraction the recipient rejected within the last 27 hours (T17).
  C12  nothing is sealed while the clock is wrong by more than five minutes and no service keeps it.
    A5: nothing new is sent from a disk that cannot be written for two minutes (only `readonly`).
    A2: all batches of an epoch of memory say `kept`, but for voids.
  D4, D10  a list that is handed in again gives no consent after a withdrawal, nor to other people.
  T5   no original after its void. T15: 60,000 bytes. P21: a directory names no dwelling without a
    basis on it. Passes: with W rows. T34: nor people of whom all was withdrawn before.
  S1, S4, S5  a sum that was asked for, of eleven dwellings besides those that were sent alone since
    the group began, and of 80 % of the group. S3, S8: of no more dwellings than may be in it, and
    of no fewer than must. S6: none of them used more than 60 % of the day.
EQUIPMENT
  G5, O17  a value that is written is between the original and that of an order in force, within the
    modality, as is its duration; what is only reported as refused is no order. Passes: the
    control's test, and its failsafe value.
  G6, H2, H28  released two minutes after the end of the orders, by the earlier of both clocks, or
    after agent, line and device are back.
  H3, H7, H9, H27  an operator's switch, a guard (out of its bounds, or silent), an opt-out, a
    release, a cancellation and a revoked grant end a hold, and none begins meanwhile.
  H8, H10  what a person sets stays until the planned end, and nothing is written under a stronger
    priority. H33: passes within five seconds, or a value of the same hold; what the
    device's watchdog replaces is gone. An order that is reported as superseded had a stronger one
    beside it (by `seq`).
  H5   no faster than the ramp. H12: a limit has its failsafe after a start, and two periods after
    the last message, unless an order, a person or a fault explains another value; it is over two
    hours after its cause. It never raises a value.
  H11  an order that was surely carried out is reported as over (common plant).
  H17, H20  25 s after an end of the agent, and two minutes after a start, nothing is held as before
    but failsafe values; no order that had begun is carried out again. Passes: during faults.
  A12  on a read-only disk no hold begins, and none goes on. A14: no second release over what a
    person has set.
  H26  no order begins while the clock is wrong by more than five minutes and no service keeps it.
  H23  no watchdog runs out in a calm time.
  H4   min_gap, min_off; twice max_per_day in any 24 hours (the rule counts days of the building
    from acceptance).
LIVENESS (once all faults have ended)
  G2, T16, T35  each batch is stored, and has a receipt that counts, or is still sent; none is sent
    for two hours after its receipt was given. T26: each object is acknowledged, O22: none with an
    error in gardien. T14, T19: of the rows and retractions that wait at a look in a calm time,
    the last one 40 minutes before the end, all are sent. A1: no life ends by itself, or is not
    ready in time, because the disk fails. B11: withdrawals on a full disk are recorded. G11: the
    agent is there.
  U10  each call is answered, also during faults, if the agent lives for 300 s after it was asked.
SPIN
  G11  no life ends with an error, or with a refusal without cause; one that the disk causes names
    the disk. No call is stopped by an error. G12: none runs without end.
TRUTH (with a clock that was right until then)
  P28  the dossier lists each undoubted consent as in force, and none in force that was withdrawn;
    what it says is sent has a basis. What a recipient holds of those who live there lies between
    `least` and `most`. P18: what was settled a minute before is listed. P22: no consent is given
    after it was recorded. I14: who lives there, how many dwellings there are. T31: in a calm time
    (no event, fault, change of a place or wrong clock in three hours) the backlog is what leaves
    afterwards: its slots, at least the values that were read before, the oldest one, and the
    batches without a receipt, with their rows. Passes: the letter's text.
  A7, D1, H7, H36, P4, P5, P9, P13, P22  the answer to a call states what was asked, and no more: an
    opt-out its end, a consent its place, recipient, purpose, channels, step, end and signature, and
    those who live there by what was recorded then; a withdrawal each consent that it ends; a move
    and a duty their dates. What counts from now on counts from a second between question and
    answer. Nothing is unrecorded without a fault of the disk. Passes: an opt-out longer than asked,
    after a start of the machine, a person at the equipment or with a disturbed clock; ids; who
    lives there while an occupancy may have begun whose id nobody has seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.sim import (
    judge_answers,
    judge_backlog,
    judge_directory,
    judge_equipment,
    judge_further,
    judge_rows,
    judge_truth,
)
from tests.sim.facts import DAY, NEVER, SETTLES, Batch, Facts, Life
from tests.sim.finding import Finding

__all__ = ["Finding", "judge"]

STARTS = 900.0
"""seconds within which a life is ready, unless it ended before"""
BUSY = 50.0
"""iterations of the loop a second of simulated time, over a life: more is a loop without a wait"""


def judge(plan: Mapping[str, Any], journal: Sequence[Any]) -> list[Finding]:
    """All that was not as the rules say, in the order of time."""
    facts = Facts(plan, journal)
    if not facts.building:
        return [Finding("LIVENESS", "G11", "the building was never set up", facts.end)]
    findings = [
        *judge_rows.judged(facts),
        *judge_directory.judged(facts),
        *judge_further.judged(facts),
        *judge_equipment.judged(facts),
        *_liveness(facts),
        *_spin(facts),
        *judge_truth.judged(facts),
        *judge_answers.judged(facts),
        *judge_backlog.judged(facts),
    ]
    return sorted(findings, key=lambda finding: finding.at)


# LIVENESS


def _liveness(facts: Facts) -> Iterator[Finding]:
    last = facts.lives[-1] if facts.lives else None
    if last is None or last.ready == NEVER:
        yield Finding("LIVENESS", "G11", "the last life never was ready", facts.end)
    elif last.end < facts.end - 600:
        text = f"the agent is gone: {last.how} {last.text}"
        yield Finding("LIVENESS", "G11", text, last.end, (last.index,))
    yield from _ended_by_the_disk(facts)
    yield from _undelivered(facts)
    yield from _unsettled(facts)
    yield from _sent_for_ever(facts)
    yield from _removed_with_a_backlog(facts)
    yield from _without_room(facts)
    yield from _into_the_reserve(facts)
    yield from _unacknowledged(facts)
    for batch in facts.batches.values():
        for item in batch.directory.get("outcomes", ()):
            if item.get("code") == "E_INTERNAL":
                text = f"{item['jti']} met an error in gardien"
                yield Finding("LIVENESS", "O22", text, batch.sent[0][0], (batch.index,))
    yield from _copies_expired(facts)
    for at, what, index in facts.calls:
        died = any(what["asked"] <= life.end <= at for life in facts.lives)
        if what.get("lost") and (at > facts.calm_from or not died):
            text = f"the call {what['name']} was never answered"
            yield Finding("LIVENESS", "U10", text, at, (index,))


def _copies_expired(facts: Facts) -> Iterator[Finding]:
    """O8, D5: a copy of what was accepted is not refused as expired while its number is kept."""
    accepted: dict[str, float] = {}
    for batch in sorted(facts.batches.values(), key=lambda one: one.sent[0][0]):
        at = batch.sent[0][0]
        for item in batch.directory.get("outcomes", ()):
            jti = str(item.get("jti"))
            if item.get("state") == "ACCEPTED":
                accepted.setdefault(jti, at)
            of_control = "control" in item  # decided again at its begin (rule H26)
            if item.get("code") != "E_EXPIRED" or of_control or jti in facts.flawed:
                continue
            _, what, _ = facts.objects.get(jti, (0.0, {}, 0))
            kept = float((what.get("claims") or {}).get("exp", NEVER)) + DAY
            if accepted.get(jti, NEVER) < at < kept:
                text = f"{jti} was accepted, and a copy is refused as expired"
                yield Finding("LIVENESS", "O8", text, at, (batch.index,))


def _ended_by_the_disk(facts: Facts) -> Iterator[Finding]:
    """A1: a failing disk ends no process, and a start on it is ready in time."""
    for life in facts.lives:
        if life.how == "error" and facts.during(life.begin, life.end, "disk"):
            text = f"life {life.number} ended while the disk failed: {life.text[-400:]}"
            yield Finding("LIVENESS", "A1", text, life.end, (life.index,))


def _unacknowledged(facts: Facts) -> Iterator[Finding]:
    """T26: a signed object arrives again until it is recorded. Passes: one whose uplink was removed
    for good before it had time to be.
    """
    for jti, (at, what, index) in facts.objects.items():
        waits = jti not in facts.acked and at < facts.end - SETTLES and not what.get("replaced")
        if waits and facts.unlinked_from(what["recipient"]) >= at + SETTLES:
            text = f"{what.get('typ')} {jti} was never acknowledged"
            yield Finding("LIVENESS", "T26", text, at, (index,))


def _undelivered(facts: Facts) -> Iterator[Finding]:
    ids: dict[Any, list[Batch]] = {}
    for batch in facts.batches.values():
        ids.setdefault(batch.id, []).append(batch)
    for id_, batches in ids.items():
        first = min(at for batch in batches for at, _ in batch.sent)
        if min(facts.removed_from(id_[0]), facts.refused_from(id_[0])) < NEVER:
            continue
        waits = all(batch.stored == NEVER for batch in batches)
        if _contradicted(facts, batches):
            continue
        if waits and first < facts.end - SETTLES and not batches[0].of_memory:
            text = f"{id_} was sent, and never stored"
            yield Finding("LIVENESS", "T16", text, first, (batches[0].index,))


def _contradicted(facts: Facts, batches: Sequence[Batch]) -> bool:
    """T8: a receipt has named other bytes under this id, so its rows are owed under another."""
    recipient, epoch, seq = batches[0].id
    ours = {batch.sha256 for batch in batches}
    return any(
        (what["recipient"], what.get("epoch")) == (recipient, epoch)
        and number == seq
        and sha256 not in ours
        for _, what, _ in facts.receipts
        for number, sha256, *_ in what.get("stored") or ()
    )


def _unsettled(facts: Facts) -> Iterator[Finding]:
    """T16, T35: each batch has a receipt that counts, be it a refusal (T17); without one it is
    sent again.
    """
    signed = facts.building["recipients"][0] if facts.building.get("signed") else None
    settled, answered = set(), set()
    for _, what, _ in facts.receipts:
        for seq, *_ in (*(what.get("stored") or ()), *(what.get("rejected") or ())):
            answered.add((what["recipient"], what.get("epoch"), seq))
            if what["recipient"] != signed or what.get("signed"):
                settled.add((what["recipient"], what.get("epoch"), seq))
    for batch in facts.batches.values():
        if batch.of_memory or facts.removed_from(batch.recipient) < NEVER or batch.id in settled:
            continue
        first, last = batch.sent[0][0], batch.sent[-1][0]
        if batch.stored < NEVER and last < facts.end - SETTLES and first < facts.calm_from:
            clause = "T35" if batch.id in answered else "T16"
            text = f"{batch.id} has no receipt that counts, and is not sent any more"
            yield Finding("LIVENESS", clause, text, last, (batch.index,))


def _sent_for_ever(facts: Facts) -> Iterator[Finding]:
    """T3, T16: a receipt that was given in the quiet time ends the sending."""
    quiet = facts.calm_from + 3600
    given: dict[Any, float] = {}
    for at, what, _ in facts.receipts:
        for seq, sha256, *_ in what.get("stored") or ():
            if at > quiet and what.get("counts", True):
                given.setdefault((what["recipient"], what.get("epoch"), seq, sha256), at)
    for batch in facts.batches.values():
        at = given.get((*batch.id, batch.sha256))
        late = [index for sent, index in batch.sent if at is not None and sent > at + 7200]
        if late:
            text = f"{batch.id} is sent again {len(late)} times after its receipt"
            yield Finding("LIVENESS", "T16", text, batch.sent[-1][0], (late[0],))


def _removed_with_a_backlog(facts: Facts) -> Iterator[Finding]:
    """T27: an uplink whose values wait, because its recipient was down for an hour, is not taken
    out by a reload: once the recipient is back, they are sent.
    """
    names = list(facts.building["recipients"])
    for down in facts.during(0, NEVER, "uplink"):
        name = names[down.what["recipient"] % len(names)]
        removed = [at for at, what in facts.configured if name not in what["recipients"]]
        removed = [at for at in removed if down.begin + 3600 <= at <= down.end]
        owed = any(
            (basis.kind, basis.recipient) == ("consent", name)
            and basis.known is not None
            and basis.known < down.begin
            and basis.ended > down.end
            and basis.step <= 3600
            for basis in facts.bases.values()
        )
        if down.what.get("how") != "down" or not removed or not owed:
            continue
        until = down.end + 3600
        lived = not facts.down(removed[0] - 3600, until)
        moments = (at for one in facts.batches.values() for at, _ in one.sent
                   if one.recipient == name)  # fmt: skip
        if lived and not any(down.end < at < until for at in moments):
            text = f"the uplink of {name} was taken out although values waited for it"
            yield Finding("CONSERVATION", "T27", text, removed[0], (down.index,))


def _into_the_reserve(facts: Facts) -> Iterator[Finding]:
    """B10: on a disk that has no more left than the reserve of the spools, none of them grows."""
    for fault in facts.during(0, NEVER, "disk"):
        asked = [at for at, *_ in (*facts.calls, *facts.objects.values())]
        if "room" not in fault.what or any(fault.begin < at < fault.end for at in asked):
            continue  # a record may have used the reserve of records, which leaves room
        seen = [it for it in facts.spools if fault.begin - 1 <= it[0] <= fault.end + 1]
        for _, what, index in seen[-1:]:
            before = seen[0][1]["bytes"]
            grown = [name for name, size in what["bytes"].items() if size > before.get(name, size)]
            if grown:
                text = f"{', '.join(grown)} has grown on a full disk"
                yield Finding("LIVENESS", "B10", text, fault.end, (seen[0][2], index))


def _without_room(facts: Facts) -> Iterator[Finding]:
    """B11: the reserve has room for withdrawals on a full disk."""
    for fault in facts.during(0, NEVER, "disk"):
        stated = fault.what.get("how") == "full" and fault.what.get("names") is False
        asked = [
            (at, what, index)
            for at, what, index in facts.calls
            if fault.begin < at < fault.end and what.get("do") == "withdraw"
        ]
        others = [one for one in facts.during(0, fault.end, "disk") if one is not fault]
        if not stated or not asked or others:
            continue
        for at, what, index in asked:
            if "refused" in what or what.get("unrecorded"):
                text = f"a withdrawal on a full disk is not recorded: {what.get('refused')}"
                yield Finding("LIVENESS", "B11", text, at, (fault.index, index))
                break


# SPIN


BROKE_OFF = "an error in gardien itself"
"""how a call is answered that an unexpected error has stopped"""


def _may_refuse(facts: Facts, life: Life) -> bool:
    """A1: a start that the disk prevents states the disk as its reason. G8: a file may be wrong."""
    since = life.begin - 3600
    of_disk = "disk" in life.text and facts.during(since, life.end, "disk")
    return bool(of_disk or facts.during(since, life.end, "reload", "upgrade"))


def _spin(facts: Facts) -> Iterator[Finding]:
    for life in facts.lives:
        if life.how in ("error", "spun"):
            clause = "G12" if life.how == "spun" else "G11"
            text = f"life {life.number}: {life.how}: {life.text[-400:]}"
            yield Finding("SPIN", clause, text, life.end, (life.index,))
        elif life.how == "refused" and not _may_refuse(facts, life):
            text = f"life {life.number} refused to start: {life.text[-400:]}"
            yield Finding("SPIN", "G11", text, life.end, (life.index,))
        if min(life.ready, life.end) > life.begin + STARTS and not facts.during(
            life.begin, life.begin + STARTS, "disk"
        ):
            text = f"life {life.number} was not ready within {STARTS:.0f} s"
            yield Finding("SPIN", "H17", text, life.begin, (life.index,))
    for at, what, index in facts.calls:
        if str(what.get("refused", "")).startswith(BROKE_OFF):
            text = f"{what['name']}: {what['refused'][:200]}"
            yield Finding("SPIN", "G11", text, at, (index,))
    for at, what, index in facts.wakes:
        simulated = max(float(what["seconds"]), 600.0)
        if float(what["rounds"]) / simulated > BUSY:
            text = f"life {what.get('life')}: {what['rounds']} rounds in {simulated:.0f} s"
            yield Finding("SPIN", "G12", text, at, (index,))
