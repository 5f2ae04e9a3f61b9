"""Rule T11 (`receipt: broker`): the broker's word says that it took something, and never
which of two payloads stands at the platform. Guards rules G1, G2, G3 where there is no more.
"""

import asyncio
import time
from pathlib import Path

from agent.core.model import Retraction, Series
from agent.uplink.outbox import SpoolOutbox
from hil.platform.unpack import unpack
from tests.contract.uplink.house import House, delivering, house, series
from tests.contract.uplink.stub import Stub, stub


class Registry:
    """What the people of one dwelling took back."""

    def __init__(self) -> None:
        self.number = 0
        self.taken: list[Retraction] = []

    def revision(self) -> int:
        return self.number

    recorded = revision

    def stands(self, of: Series, t: int) -> bool:
        del t
        return all(one.place != of.place for one in self.taken)

    def taken_back(self, after: int) -> tuple[int, list[Retraction]]:
        return self.number, self.taken if after < self.number else []

    def withdraw(self, number: int) -> None:
        one, now = series(number), int(time.time())
        self.taken.append(
            Retraction(
                f"R{number}", None, one.place, None, one.occupancy, one.basis, None, 0, None, now,
                "withdrawn",
            )
        )  # fmt: skip
        self.number += 1


class Answers:
    """A broker that answers only as long as it is not told to be late."""

    def __init__(self) -> None:
        self.late = False

    def __call__(self, topic: str) -> int | None:
        return None if self.late and "/up/" in topic else 0


def kept(at: Stub) -> list[tuple[int, int, str | None, list[tuple[str, bool]]]]:
    """What came: packet, seq, whether it is a void, and the dwellings of its rows with `again`."""
    found = [(packet, unpack(payload)) for packet, payload in at.payloads]
    return [
        (packet, one.id.seq, one.void, [(row.place, row.again) for row in one.rows])
        for packet, one in found
    ]


async def standing(at: House) -> tuple[int, int, int]:
    """What a receipt could change: rows that wait, batches that wait, receipts so far."""
    backlog = await at.thread.run(at.spool.backlog)
    return backlog.rows, backlog.batches, at.delivery.settled


def test_a_void_settles_on_the_brokers_word_and_a_late_word_for_its_original_settles_nothing(
    tmp_path: Path,
):
    async def scenario() -> None:
        answers, registry = Answers(), Registry()
        async with stub(answer=answers) as far, house(tmp_path) as at:
            outbox = SpoolOutbox(at.spool, at.thread, at.clock, bases=registry)
            # longer than this test: no late word because the line was taken for dead
            async with delivering(at, far.port, outbox, keepalive=60.0, receipt="broker"):
                await at.read()
                await at.settled()  # by nobody's word but the broker's
                before = len(far.payloads)

                answers.late = True
                await at.read()
                await at.until(lambda: len(far.payloads) > before)
                original, seq, void, rows = kept(far)[before]
                assert (void, len(rows)) == (None, 10)
                registry.withdraw(3)
                await at.until(lambda: any(v for _, _, v, _ in kept(far)))
                (voided,) = [one for one in kept(far) if one[2]]
                assert voided[1:] == (seq, "withdrawn", [])
                assert not [one for one in kept(far)[before + 1 :] if one[3]], "they must wait"

                await at.until(
                    lambda: len(far.unanswered) == 3
                )  # the third tells of the withdrawal
                held = await standing(at)
                far.puback(original, 0)
                await asyncio.sleep(0.5)
                assert await standing(at) == held, "the late word is for what is no more"
                assert not [one for one in kept(far)[before + 1 :] if one[3]]

                answers.late = False
                for packet in [one for one in far.unanswered if one != original]:
                    far.puback(packet, 0)
                await at.settled()
                anew = [one for one in kept(far)[before + 1 :] if one[3]]
                assert len(anew) == 1, "sealed anew once"
                assert anew[0][1] > seq
                untouched = {series(n).place for n in range(10) if n != 3}
                assert {place for place, again in anew[0][3] if again} == untouched
                assert len(anew[0][3]) == 9

                done, count = await standing(at), len(far.payloads)
                far.puback(original, 0)
                await asyncio.sleep(0.7)
                assert (await standing(at), len(far.payloads)) == (done, count)
                assert at.delivery.conflicts == 0

    asyncio.run(scenario())


def test_what_the_broker_never_answers_for_is_sent_again_until_it_does(tmp_path: Path):
    async def scenario() -> None:
        answers = Answers()
        async with stub(answer=answers) as far, house(tmp_path) as at:
            answers.late = True
            async with delivering(at, far.port, receipt="broker"):
                await at.read()
                await at.until(lambda: len(far.payloads) == 1)
            assert await at.unsettled() == 10
            answers.late = False
            async with delivering(at, far.port, receipt="broker"):
                await at.settled()
            (_, first), (_, second) = far.payloads
            assert first == second, "byte for byte"

    asyncio.run(scenario())
