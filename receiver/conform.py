"""`gardien-receiver conform`: acts as a gateway against anybody's platform, and judges its answers.

All that is known of the platform are its receipts. How many rows it holds is asked by retractions:
it must state how many rows each removes. Every check uses dwellings of its own.
"""

from __future__ import annotations

import hashlib
import random
import secrets
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from receiver.batch import HIGHEST, written
from receiver.sign import public_keys, verified

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from receiver.gateway import Link

STEP = 900
LONG_AGO = "1970-01-01T00:00:00Z"
FULL_BYTES = 59_000
REFUSALS = (400, 415, 422)
WHO = "Who sends and to whom is stated with --gateway and --recipient"
MEMBERS = {
    "schema",
    "gateway",
    "recipient",
    "epoch",
    "stored",
    "rejected",
    "retracted",
    "slow_down",
}


class Reply(NamedTuple):
    """What came back for one batch."""

    receipt: dict[str, Any] | None
    """None: none in time, or a refusal"""
    status: int | None = None
    """of HTTP"""
    signed: str = ""
    """the signed receipt; empty: none came"""
    problem: str = ""
    """why the connection failed"""


class Fault(Exception):
    """The platform does not conform: a sentence that begins with the rule's number."""


class Rejects(Fault):
    """The platform rejects a batch that it must store."""


class Trial:
    """A gateway with its epoch, and what it sends."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.epoch = secrets.token_hex(6)
        self._seq = 0
        # a retraction counts for ever: the dwellings of an earlier trial take no rows any more
        self._run = secrets.token_hex(3).upper()
        self.start = int(time.time()) // 86_400 * 86_400 - 86_400

    def seq(self) -> int:
        """The next number."""
        self._seq += 1
        return self._seq

    def place(self, letter: str) -> str:
        """The id of a dwelling of this trial."""
        return f"DCONFORM{self._run}{letter}"

    def again_from(self, epoch: str) -> None:
        """Begin another epoch."""
        self.epoch, self._seq = epoch, 0

    def document(self, seq: int | None = None, **members: object) -> dict[str, Any]:
        """A batch; without series unless given."""
        about: dict[str, Any] = {"schema": "gardien/batch/1", "gateway": self.link.gateway}
        about |= {"recipient": self.link.recipient, "epoch": self.epoch, "seq": seq or self.seq()}
        if "void" in members:
            return about | members
        facts = {"lane": "live", "created": written(int(time.time())), "clock": "trusted"}
        return about | facts | {"privacy": "CONFORM-1", "series": []} | members

    def rows(self, place: str, slots: list[int], **members: object) -> dict[str, Any]:
        """A series of rows, in steps of a quarter of an hour from the start of yesterday."""
        series: dict[str, Any] = {
            "place": place,
            "channel": "elec.imp",
            "kind": "REG",
            "unit": "kWh",
        }
        series |= {"step": STEP}
        series |= {"meter": "M1", "occupancy": "H1", "basis": "K1", "t0": written(self.start)}
        cells = {"t": [slot * STEP for slot in slots], "q": "V" * len(slots)}
        return series | cells | {"v": [100 + slot / 8 for slot in slots]} | members

    def retraction(self, place: str, **members: object) -> dict[str, Any]:
        """Everything of a place, unless `members` say less."""
        word: dict[str, Any] = {"id": secrets.token_hex(8), "place": place, "from": LONG_AGO}
        word |= {"ver": HIGHEST}
        return word | {"reason": "withdrawn"} | members

    def at(self, slot: float) -> str:
        """The moment of a slot."""
        return written(int(self.start + slot * STEP))

    # -- what is sent, and what must come back

    def stored(self, document: dict[str, Any], rule: str = "T20") -> dict[str, Any]:
        """Deliver a batch that must be stored as it is; the receipt. Raises Fault."""
        payload = self.link.payload(document)
        reply = self.deliver(document, payload)
        self.states(reply, document, payload, rule)
        assert reply.receipt is not None
        return reply.receipt

    def deliver(self, document: dict[str, Any], payload: bytes) -> Reply:
        """Send bytes until something comes back, three times at most. Rule T16."""
        for _ in range(3):
            reply = self.link.deliver(document, payload)
            if reply.receipt is not None:
                strict(reply.receipt, document)
                if self.link.keys:
                    proved(reply, self.link.keys, document["seq"])
                return reply
            if reply.status in REFUSALS:
                return reply
        seq = document["seq"]
        state = reply.problem or (
            f"status {reply.status}" if reply.status else f"nothing in {self.link.patience:.0f} s"
        )
        raise Fault(f"T16: batch {seq} was sent three times, and no receipt came ({state}).")

    @staticmethod
    def states(reply: Reply, document: dict[str, Any], payload: bytes, rule: str) -> None:
        """The receipt must state these bytes as stored. Raises Fault."""
        seq, sha256 = document["seq"], hashlib.sha256(payload).hexdigest()
        entries = (reply.receipt or {}).get("stored", [])
        if [seq, sha256] not in entries:
            for number, _, *reason in (reply.receipt or {}).get("rejected", []):
                if number == seq:
                    raise Rejects(f"{rule}: the platform rejects batch {seq}: {', '.join(reason)}.")
            got = reply.receipt if reply.receipt is not None else f"status {reply.status}"
            raise Fault(
                f"{rule}: batch {seq} ({sha256[:12]}…) must be stated as stored; it was {got}."
            )

    def removed(self, receipt: dict[str, Any], retraction: dict[str, Any], why: str) -> int:
        """How many rows the receipt states for a retraction. Raises Fault."""
        for name, n in receipt.get("retracted", []):
            if name == retraction["id"]:
                return int(n)
        raise Fault(f"T19: the receipt of {why} must name the retraction under `retracted`.")

    def holds(self, place: str, rows: set[int], rule: str, why: str) -> None:
        """The platform must hold this number of rows of a place; they are removed by that."""
        probe = self.retraction(place)
        n = self.removed(self.stored(self.document(retract=[probe])), probe, "a retraction")
        if n not in rows:
            expected = " or ".join(map(str, sorted(rows)))
            raise Fault(f"{rule}: {why}; {expected} rows must be there, and {n} are.")


def strict(receipt: dict[str, Any], document: dict[str, Any]) -> None:
    """A receipt as a gateway reads it. Raises Fault."""
    if unknown := receipt.keys() - MEMBERS:
        raise Fault(
            f"T22: a receipt has no member {min(unknown)!r}; a gateway refuses the whole receipt."
        )
    for name in ("gateway", "recipient", "epoch"):
        if receipt.get(name) != document[name]:
            raise Fault(
                f"T3: the receipt has {name} {receipt.get(name)!r}, the batch {document[name]!r}."
            )
    if receipt.get("schema") != "gardien/receipt/1":
        raise Fault(
            f"T22: the receipt's schema is {receipt.get('schema')!r}, not 'gardien/receipt/1'."
        )
    numbers = [entry[0] for name in ("stored", "rejected") for entry in receipt.get(name, [])]
    if len(numbers) != len(set(numbers)):
        raise Fault("T22: a receipt states one batch twice.")


def proved(reply: Reply, keys: dict[str, Ed25519PublicKey], seq: int) -> None:
    """The signed receipt must state the same under one of the keys. Raises Fault."""
    if not reply.signed:
        raise Fault(f"T36: no signed receipt of batch {seq} came beside the unsigned one.")
    try:
        receipt = verified(reply.signed, keys)
    except ValueError as error:
        raise Fault(f"T36: the signed receipt of batch {seq} does not count: {error}.") from error
    if receipt != reply.receipt:
        raise Fault(f"T36: the signed receipt of batch {seq} states something else: {receipt}.")


# -- the checks, in their order


def first_batches(at: Trial) -> None:
    """The directory, in two parts."""
    since = at.at(0)
    at.stored(at.document(directory={
        "zone": [{"timezone": "Europe/Paris"}],
        "places": [{"id": at.place("1"), "type": "dwelling", "label": "CONFORM-1"}],
        "bases": [{"id": "K1", "channels": ["elec.imp"], "step": STEP, "since": since}],
    }), "T21")  # fmt: skip
    series = {"place": at.place("1"), "channel": "elec.imp", "kind": "REG", "unit": "kWh"}
    at.stored(at.document(directory={
        "occupancies": [{"id": "H1", "place": at.place("1"), "since": since}],
        "series": [series | {"step": STEP, "since": since}],
    }), "T21")  # fmt: skip


def directory_in_another_order(at: Trial) -> None:
    """Batches overtake each other, so an item may arrive before what it refers to; it may end."""
    place, since = at.place("J"), at.at(0)
    first, second = at.seq(), at.seq()
    later = at.document(second, directory={
        "bases": [{"id": "K2", "place": place, "occupancy": "H2", "since": since,
                   "until": at.at(9), "withdrawn": at.at(9)}],
    })  # fmt: skip
    at.stored(later, "T33")
    at.stored(at.document(first, directory={
        "places": [{"id": place, "type": "dwelling", "label": "CONFORM-2"}],
        "occupancies": [{"id": "H2", "place": place, "since": since}],
        "bases": [{"id": "K2", "place": place, "occupancy": "H2", "since": since}],
    }), "T33")  # fmt: skip


def exchanged_meters(at: Trial) -> None:
    """The two indexes at an exchange are rows of step 0, a second apart, and retracted as such."""
    place = at.place("K")
    at.stored(at.document(series=[
        at.rows(place, [0, 1]), *(
            at.rows(place, [0], step=0, t=[t], v=[v], q="R", meter=meter, ver={"0": 1_000},
                    flags={"0": "EXCH+MAN"})
            for t, v, meter in ((299, 104.5, "M1"), (300, 0, "M2"))
        ),
    ]))  # fmt: skip
    retraction = at.retraction(
        place, meter="M1", **{"from": at.at(0), "to": written(at.start + 300)}
    )
    n = at.removed(at.stored(at.document(retract=[retraction])), retraction, "a retraction")
    if n != 2:  # noqa: PLR2004 -- the row of the slot, and the last index of the old meter
        raise Fault(
            "R14: the last index of a meter (step 0) is a row of its own, a second before the"
            " first one of the next; a retraction up to then must remove 2 rows of the old meter,"
            f" not {n}."
        )
    at.holds(place, {2}, "R14", "a later slot and the first index of the new meter are left")


def rows_and_copies(at: Trial) -> None:
    """Rows are stored once, however often they come."""
    document = at.document(series=[at.rows(at.place("2"), [0, 1, 2, 3])])
    first = at.stored(document)
    for _ in range(2):
        if at.stored(document, "T3") != first:
            raise Fault("T3: a copy is answered with another receipt than the first.")
    at.holds(at.place("2"), {4}, "T20", "a batch with four rows came three times")


def other_bytes(at: Trial) -> None:
    """The first bytes under an id stay."""
    document = at.document(series=[at.rows(at.place("3"), [0, 1])])
    payload = at.link.payload(document)
    at.states(at.deliver(document, payload), document, payload, "T20")
    other = at.document(document["seq"], series=[at.rows(at.place("3"), [0, 1, 2])])
    reply = at.deliver(other, at.link.payload(other))
    at.states(reply, document, payload, "T3")
    at.holds(at.place("3"), {2}, "T20", "other bytes came under the id of a stored batch")


def voids(at: Trial) -> None:
    """A void replaces nothing that is stored; a late original replaces no void."""
    document = at.document(series=[at.rows(at.place("4"), [0, 1])])
    payload = at.link.payload(document)
    at.states(at.deliver(document, payload), document, payload, "T20")
    void = at.document(document["seq"], void="withdrawn")
    at.states(at.deliver(void, at.link.payload(void)), document, payload, "T5")
    at.holds(at.place("4"), {2}, "T5", "a void came after its original")
    void = at.document(void="withdrawn")
    at.stored(void, "T5")
    late = at.document(void["seq"], series=[at.rows(at.place("5"), [0, 1])])
    at.states(at.deliver(late, at.link.payload(late)), void, at.link.payload(void), "T5")
    at.holds(at.place("5"), {0}, "T5", "an original came after its void")


def wrong_order(at: Trial) -> None:
    """A later number may arrive first."""
    first, second = at.seq(), at.seq()
    at.stored(at.document(second, series=[at.rows(at.place("6"), [1])]), "T16")
    at.stored(at.document(first, series=[at.rows(at.place("6"), [0])]), "T16")
    at.holds(at.place("6"), {2}, "T20", "two batches came in the wrong order")


def retraction_first(at: Trial) -> None:
    """A retraction also refuses what arrives later."""
    place = at.place("7")
    retraction = at.retraction(place, basis="K1")
    receipt = at.stored(at.document(retract=[retraction]))
    if at.removed(receipt, retraction, "a batch with a retraction") != 0:
        raise Fault("T19: a retraction of a dwelling without rows must state 0 rows removed.")
    document = at.document(series=[at.rows(place, [0, 1]), at.rows(place, [2], basis="K2")])
    for why in ("a batch with rows that a retraction covers", "a copy of such a batch"):
        at.removed(at.stored(document), retraction, why)
    at.holds(place, {1}, "T19", "two of three rows are covered by an earlier retraction")


def edges(at: Trial) -> None:
    """Which slots a retraction covers depends on the kind."""
    inside = {"from": at.at(1), "to": at.at(3)}
    for kind, beside, place in (
        ("REG", (3, 4), at.place("8")),
        ("INT", (0, 1), at.place("9")),
    ):
        at.stored(at.document(series=[at.rows(place, [1, 2, 3], kind=kind)]))
        retraction = at.retraction(place, **inside)
        n = at.removed(at.stored(at.document(retract=[retraction])), retraction, "a retraction")
        other = at.retraction(place, **{"from": at.at(beside[0]), "to": at.at(beside[1])})
        left = at.removed(at.stored(at.document(retract=[other])), other, "a retraction")
        if (n, left) != (2, 1):
            covered = "from <= t < to" if kind == "REG" else "from < t <= to"
            raise Fault(
                f"T19: rows {kind} are covered if {covered}; of three {n} went, and {left} stayed."
            )


def versions(at: Trial) -> None:
    """A retraction spares higher versions, then and later."""
    place = at.place("A")
    at.stored(at.document(series=[
        at.rows(place, [0, 1]), at.rows(place, [0, 1], ver={"0": 1_000, "1": 2_000}),
    ]))  # fmt: skip
    retraction = at.retraction(place, ver=1_500)
    n = at.removed(at.stored(at.document(retract=[retraction])), retraction, "a retraction")
    if n != 3:  # noqa: PLR2004 -- two without version, one with a lower one
        raise Fault(
            f"T19: a retraction covers versions up to its ver; of four rows 3 must go, not {n}."
        )
    at.stored(at.document(series=[at.rows(place, [0, 1], ver={"0": 1_400, "1": 1_600})]))
    at.holds(
        place,
        {2},
        "T19",
        "one row with a higher version was there, one came later, one with a lower version too",
    )


def again(at: Trial) -> None:
    """Of two rows with one key the first stays."""
    place = at.place("B")
    at.stored(at.document(series=[at.rows(place, [0, 1])]))
    at.stored(at.document(series=[at.rows(place, [1, 2], again=True)]))
    at.holds(place, {3}, "T6", "one of two rows marked `again` was stored before")


def spans(at: Trial) -> None:
    """Each slot of a span counts separately."""
    place = at.place("C")
    missing = {"v": [None], "q": "M", "why": {"0": "silent"}, "span": {"0": 6}}
    at.stored(at.document(series=[at.rows(place, [0], **missing)]))
    retraction = at.retraction(place, **{"from": at.at(2), "to": at.at(4)})
    n = at.removed(at.stored(at.document(retract=[retraction])), retraction, "a retraction")
    if n not in {1, 2}:  # a platform may store a span as one row
        raise Fault(
            f"T19: a retraction of two slots of a span must remove them; it removed {n} rows."
        )
    at.stored(at.document(series=[at.rows(place, [1], v=[None], q="M", again=True)]))
    at.holds(place, {2, 4}, "T19", "four of six slots of a span are left")


def full_batch(at: Trial) -> None:
    """60,000 bytes are accepted."""
    rng, document, payload, slots = random.Random(1), at.document(), b"", 2_000
    while len(payload) < FULL_BYTES:
        slots += 1_000
        values = [rng.randrange(10**12) / 1_000 for _ in range(slots)]
        rows = at.rows(at.place("D"), list(range(slots)), v=values)
        bigger = at.link.payload(document | {"series": [rows]})
        if len(bigger) > FULL_BYTES + 900 and payload:
            break
        document, payload = document | {"series": [rows]}, bigger
    reply = at.deliver(document, payload)
    at.states(reply, document, payload, "T15")
    sent = len(document["series"][0]["q"])
    at.holds(at.place("D"), {sent}, "T15", f"a batch with {sent} rows came")


def lost_receipts(at: Trial) -> None:
    """A receipt that is lost costs a copy."""
    document = at.document(series=[at.rows(at.place("E"), [0, 1])])
    payload = at.link.payload(document)
    at.link.send_only(document, payload)
    at.states(at.deliver(document, payload), document, payload, "T16")
    at.holds(at.place("E"), {2}, "T20", "the first receipt of a batch was lost")


def to_be_rejected(at: Trial) -> None:
    """Bytes that are no batch are refused, and their void is stored."""
    document = at.document(series=[at.rows(at.place("F"), [0])]) | {"schema": "gardien/batch/9"}
    payload = at.link.payload(document)
    reply = at.deliver(document, payload)
    sha256 = hashlib.sha256(payload).hexdigest()
    entries = [entry[:2] for entry in (reply.receipt or {}).get("rejected", [])]
    if reply.status not in REFUSALS and [document["seq"], sha256] not in entries:
        raise Fault(
            "T4: a batch of an unknown schema must be answered with `rejected` and its sha256."
        )
    at.stored(at.document(document["seq"], void="rejected"), "T4")


def of_another(at: Trial) -> None:
    """A gateway writes only under its own id."""
    if not at.link.named:
        return
    document = at.document() | {"gateway": "GCONFORM0000009"}
    reply = at.link.deliver(document, at.link.payload(document))
    if (reply.receipt or {}).get("stored"):
        raise Fault(
            "T1: a batch of another gateway was stored; compare it with certificate, topic or name."
        )
    at.stored(at.document(document["seq"]), "T1")


def altered_files(at: Trial) -> None:
    """A file is believed if it is whole, and signed by the gateway of its name."""
    link = at.link
    if not link.sealed:
        return
    place = at.place("J")
    document = at.document(series=[at.rows(place, [0])])
    right = link.payload(document)
    middle = len(right) // 2
    altered = right[:middle] + bytes([right[middle] ^ 1]) + right[middle + 1 :]
    for why, payload in (
        ("that was altered on its way", altered),
        ("that a stranger signed with the gateway's name", link.forged(document)),
    ):
        if (link.deliver(document, payload).receipt or {}).get("stored"):
            raise Fault(f"R11: a file {why} was stored.")
    at.stored(document, "R11")
    at.holds(place, {1}, "R11", "the right file came after two that are not to be believed")


def later_members(at: Trial) -> None:
    """Unknown members and reasons are no reason to refuse a batch."""
    missing = {"v": [None], "q": "M", "why": {"0": "a-new-reason"}}
    rows = at.rows(at.place("G"), [0], **missing) | {"member-of-later": 1}
    at.stored(at.document(series=[rows], later=True), "T20")
    at.holds(at.place("G"), {1}, "T20", "a row with an unknown member and reason came")


def new_epoch(at: Trial) -> None:
    """After a restore a new epoch begins with 1, and retractions stay."""
    place = at.place("H")
    last = at.document(series=[at.rows(place, [0, 1])])
    at.stored(last)
    retraction = at.retraction(place, to=at.at(1))
    at.stored(at.document(retract=[retraction]))
    before = [at.epoch, at.seq() - 1]
    at.again_from(secrets.token_hex(6))
    at.stored(
        at.document(directory={"before": before, "zone": [{"timezone": "Europe/Paris"}]}), "T1"
    )
    receipt = at.stored(at.document(series=[at.rows(place, [0, 1, 2], again=True)]), "T1")
    at.removed(
        receipt, retraction, "a batch of the new epoch with a row that an older retraction covers"
    )
    at.holds(
        place,
        {2},
        "T19",
        "of three rows sent again one was retracted in the epoch before, one is there already",
    )


CHECKS: tuple[Callable[[Trial], None], ...] = (
    first_batches, directory_in_another_order, exchanged_meters, rows_and_copies,
    other_bytes, voids, wrong_order, retraction_first, edges, versions, again, spans, full_batch,
    lost_receipts, to_be_rejected, of_another, altered_files, later_members, new_epoch,
)  # fmt: skip


def judge(link: Link, checks: Sequence[Callable[[Trial], None]] = CHECKS) -> list[str]:
    """The sentences of all faults. Raises Fault if the platform does not answer at all."""
    at, faults = Trial(link), []
    for check in checks:
        try:
            check(at)
        except Fault as fault:
            first = check is first_batches
            if first and isinstance(fault, Rejects):
                raise Fault(f"{fault} Nothing else was tried. {WHO}") from fault
            if first and str(fault).startswith("T16"):
                raise
            faults.append(str(fault))
    return faults


def conforms(endpoint: str, chosen: argparse.Namespace) -> int:
    """Print PASS, or what does not conform; the exit status."""
    from receiver.gateway import connected  # noqa: PLC0415 -- it imports paho

    recipient = "conform.example" if chosen.recipient == "+" else chosen.recipient
    try:
        keys = public_keys(chosen.receipt_key) if chosen.receipt_key else {}
        with connected(endpoint, chosen.gateway, recipient, chosen) as link:
            link.keys = keys
            faults = judge(link)
    except Fault as fault:
        faults = [str(fault)]
    except ValueError as error:
        sys.exit(f"Not tried: {error}")
    except OSError as error:
        lost = [path for path in (chosen.cert, chosen.ca) if path and not path.is_file()]
        sys.exit(f"Not tried: {lost[0]}: no such file" if lost else f"Not tried: {error}")
    for sentence in faults:
        print(sentence)
    print(
        "PASS"
        if not faults
        else f"FAIL: {len(faults)} of {len(CHECKS)} checks. The rules are in docs/rules"
    )
    return bool(faults)
