"""Whatever bytes come: one point is marked, nothing raises, and the next good answer is read.
Rule F13.
"""

import asyncio
import random
import socket
import struct
from decimal import Decimal

import pytest

from agent.core.model import Why
from hil.bacnet.controller import analog_input
from tests.contract.drivers.bacnet.liar import frame, liar
from tests.contract.drivers.bacnet.net import net, point, values
from tests.depth import depth

ROUNDS = depth(300, 3000)
GOOD = bytes.fromhex("0c000000011e29554e4441a400004f296f4e8204004f1f")
"""a ReadPropertyMultiple answer: analog-input 1 is 20.5, no flags"""


def max_apdu(invoke):
    return frame(bytes([0x30, invoke, 12]) + bytes.fromhex("0c020004b1193e3e2205c43f"))


def answering(make):
    """A device 1201 that answers reads of several properties with what `make` gives."""

    def answer(invoke, service, _):
        return [max_apdu(invoke)] if service == 12 else make(invoke)

    return answer


def ack(invoke, data=GOOD):
    return frame(bytes([0x30, invoke, 14]) + data)


async def read_from(make, asked=("analog-input,1",)):
    async with net() as on, liar(answering(make)) as there:
        line = await on.driver(timeout=0.3)
        return await line.read([point(at, f"1201@{there}") for at in asked])


def test_a_good_answer_of_the_liar_is_read():
    (good,) = asyncio.run(read_from(lambda n: [ack(n)]))
    assert good.value == Decimal("20.5")


def item(hexed):
    """The answer with another value."""
    return GOOD.replace(bytes.fromhex("4441a40000"), bytes.fromhex(hexed))


@pytest.mark.parametrize(
    ("hexed", "said"),
    [
        ("447fc00000", "not a number (nan)"),
        ("44ff800000", "not a number (-inf)"),
        ("00", "no value (NULL)"),
        ("910c", Decimal(12)),  # an enumeration out of every range
        ("95" + "0a" + "ff" * 10, "not readable (an integer of 10 bytes)"),
        ("7504" + "05e9e8fc", "éèü"),  # ISO 8859-1
        ("7505" + "0400e900fc", "éü"),  # UCS-2
        ("7504" + "00e96c6c", "éll"),  # sold as UTF-8, written as Windows does
        ("7503" + "026162", "not readable (text in character set 2)"),
        ("7505" + "0103a7e961", "not readable"),
        ("43414141", "not readable"),  # a real of three bytes
        ("20", "not readable (an integer of 0 bytes)"),
        ("3e4441a400003f", "a constructed value, which gardien does not read"),
        ("4441a400004441a40000", "2 values where one was expected"),
        ("", "0 values where one was expected"),
        ("d4", "2 values"),
        ("f411111111", "another request"),
    ],
)
def test_a_value_that_makes_no_sense_is_said_and_never_guessed(hexed, said):
    (got,) = asyncio.run(read_from(lambda n: [ack(n, item(hexed))]))
    assert got.value == said or (got.why is Why.BAD and str(said) in got.detail)


@pytest.mark.parametrize("cut", range(len(GOOD)))
def test_an_answer_cut_short_anywhere_is_bad_or_says_less(cut):
    (got,) = asyncio.run(read_from(lambda n: [ack(n, GOOD[:cut])]))
    assert got.why is Why.BAD or got.value == Decimal("20.5")


def test_an_answer_to_another_request_is_not_taken_for_ours():
    async def attack():
        def late(invoke):
            wrong = GOOD.replace(struct.pack(">I", 1), struct.pack(">I", 2))
            return [ack((invoke - 1) % 256), ack(invoke, wrong), ack(invoke)]

        return await read_from(late)

    (got,) = asyncio.run(attack())
    assert got.detail == "left out of the answer"


def test_answers_come_twice_and_of_other_services_and_nothing_is_lost():
    def twice(invoke):
        return [ack(invoke), ack(invoke), frame(bytes([0x20, invoke, 15]))]

    (got,) = asyncio.run(read_from(twice))
    assert got.value == Decimal("20.5")
    (other,) = asyncio.run(read_from(lambda n: [frame(bytes([0x20, n, 15]))]))
    assert other.detail == "answer to another request"


@pytest.mark.parametrize(
    ("apdu", "said"),
    [
        ("50{n}0e9101911f", "unknown object"),
        ("50{n}0e", "refused, with an unreadable reason"),
        ("50{n}0e91019402000000", "error"),
        ("60{n}05", "missing required parameter"),
        ("60{n}ff", "reason 255"),
        ("71{n}09", "out of resources"),
        ("71{n}c8", "abort 200"),
    ],
)
def test_refusals_of_every_kind_are_said_in_words(apdu, said):
    def refuse(invoke, service, _):
        if service == 12 and not seen:
            seen.append(1)
            return [max_apdu(invoke)]
        return [frame(bytes.fromhex(apdu.format(n=f"{invoke:02x}")))]

    seen = []

    async def attack():
        async with net() as on, liar(refuse) as there:
            line = await on.driver(timeout=0.3)
            return await line.read([point("analog-input,1", f"1201@{there}")])

    (got,) = asyncio.run(attack())
    assert said in got.detail
    assert got.why is Why.BAD


def test_garbage_on_the_port_does_not_disturb_anybody():
    chance = random.Random(7)

    def mutated():
        heads = [b"\x81\x0a\x00\x10\x01\x00", b"\x81\x0b\x00\x20\x01\x20\xff\xff\x00\xff", b""]
        body = bytes([chance.choice((0x00, 0x10, 0x20, 0x30, 0x3C, 0x40, 0x50, 0x60, 0x70, 0xFF))])
        packet = chance.choice(heads) + body + chance.randbytes(chance.randrange(60))
        if len(packet) > 4 and chance.random() < 0.7:
            packet = packet[:2] + len(packet).to_bytes(2, "big") + packet[4:]
        return packet

    async def attack():
        troubles = []
        asyncio.get_running_loop().set_exception_handler(lambda _, said: troubles.append(said))
        async with net() as on:
            await on.add(1201, [analog_input(1, "t", 20, "degrees-celsius")])
            line = await on.driver()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind(("127.0.8.8", 0))
                for round_ in range(ROUNDS):
                    stranger.sendto(mutated(), ("127.0.0.1", on.ours))
                    if round_ % 50 == 0:
                        got = values(await line.read([point("analog-input,1")]))
                        assert got == [Decimal(20)]
            await asyncio.sleep(0.1)
            assert line.health()["strays"] > 0
        return troubles

    assert asyncio.run(attack()) == []


def test_nobody_reads_writes_or_finds_anything_in_us():
    requests = {
        "0044{n}0c0c02000001194b": 0x60,  # ReadProperty of a device
        "0044{n}0f0c0000000119553e44000000003f": 0x60,  # WriteProperty
        "0044{n}140900": 0x60,  # ReinitializeDevice
        "0044{n}1109051901": 0x60,  # DeviceCommunicationControl
    }

    async def attack():
        async with net() as on:
            await on.driver()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind(("127.0.8.8", 0))
                stranger.settimeout(1)
                us, to_thread = ("127.0.0.1", on.ours), asyncio.to_thread
                stranger.sendto(frame(bytes.fromhex("1008")), us)  # Who-Is: nobody
                for n, (request, kind) in enumerate(requests.items()):
                    stranger.sendto(frame(bytes.fromhex(request.format(n=f"{n:02x}"))), us)
                    answer = (await to_thread(stranger.recv, 1000))[6:]
                    assert answer == bytes([kind, n, 9])

    asyncio.run(attack())
