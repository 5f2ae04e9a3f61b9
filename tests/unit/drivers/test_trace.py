"""A trace says who was asked, who answered, and what was odd, from the bytes alone."""

from types import SimpleNamespace

import pytest

from agent.core.errors import Refused
from agent.drivers import DRIVERS
from agent.drivers.analysis import Observations, analyser
from agent.drivers.modbus.rtu import framed
from agent.drivers.trace import CAME, NOTE, SENT, Event, Recorder, heading, parsed
from hil.mbus.encode import Plate, energy_kwh, long_frame

READ = b"\x03\0\x10\0\x02"  # two holding registers from 16
ANSWER = b"\x03\x04\0\x01\0\x02"


def explained(driver, *events, **settings):
    """Frames, and odd answers as (device, kind)."""
    explaining, frames = analyser(driver, {"timeout": 1, **settings}), []
    for event in events:
        frames += explaining.feed(event)
    frames += explaining.end()
    heard = Observations()
    heard.take(frames)
    return frames, [(one["device"], one["kind"]) for one in heard.odd_by_device()]


def sent(at, data, peer=""):
    return Event(at, SENT, data, peer)


def came(at, data, peer=""):
    return Event(at, CAME, data, peer)


def test_a_trace_is_read_as_it_was_written():
    events = [
        sent(0.0, framed(3, READ)),
        came(0.025, framed(3, ANSWER)),
        Event(1.5, NOTE, b"", note="the line was opened again"),
        sent(2.0, b"\x81\x0b\0\x04", "*"),
        came(2.25, b"\x81\x0a\0\x04", "10.0.0.5:47808"),
    ]
    settings = SimpleNamespace(baudrate=9600, parity="even", timeout=0.5, host="10.0.0.9")
    lines = [*heading("riser", "modbus-rtu", "2026-11-28T12:00:00Z", settings)]
    trace = parsed([*lines, *(event.line() for event in events)], "riser.trace")
    assert trace.events == events
    assert trace.driver == "modbus-rtu"
    assert trace.facts["parity"] == "even"
    assert "10.0.0.9" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0.1 > 03"], "not a trace of gardien"),
        ([], "not a trace of gardien"),
        (["# gardien trace 1", "0.1 > 03", "0.2 ? 04"], "t:3: not a line of a trace"),
        (["# gardien trace 1", "0.1 > 0x03"], "t:2: not a line of a trace"),
        (["# gardien trace 1", "soon > 03"], "t:2: not a line of a trace"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_line(lines, message):
    with pytest.raises(Refused, match=message):
        parsed(lines, "t")


def test_a_recorder_keeps_only_so_much_and_says_that_bytes_are_missing():
    recorder = Recorder()
    for _ in range(20_010):
        recorder(CAME, b"\0", "")
    events = recorder.take()
    assert len(events) == 20_001
    assert events[-1].note == "bytes are missing here"
    assert not recorder.take()


def test_an_answer_that_is_as_it_should_be_gives_its_values_and_is_not_odd():
    frames, odd = explained(
        "modbus-rtu", sent(0.0, framed(3, READ)), came(0.02, framed(3, ANSWER)[:4]),
        came(0.03, framed(3, ANSWER)[4:]), baudrate=9600,
    )  # fmt: skip
    assert not odd
    assert [str(frame.sentence) for frame in frames] == [
        "unit 3 is asked for holding 16 to 17",
        "unit 3 answers after 20 ms",
    ]
    assert [(one["at"], one["value"]) for one in frames[1].values] == [
        ("holding/16", 1), ("holding/17", 2),
    ]  # fmt: skip


GOOD, OTHER = framed(3, ANSWER), framed(4, ANSWER)
NEXT = framed(4, READ)
RTU = {
    "silence is no answer, and not odd": ([], []),
    "short": ([came(0.1, GOOD[:5])], [("3", "short")]),
    "only its unit": ([came(0.1, GOOD[:1])], [("3", "short")]),
    "checksum": ([came(0.1, GOOD[:-1] + b"\x55")], [("3", "checksum")]),
    "length": ([came(0.1, framed(3, b"\x03\x02\0\x01"))], [("3", "length")]),
    "another unit": ([came(0.1, OTHER)], [("3", "unit")]),
    "twice": ([came(0.1, GOOD + GOOD)], [("3", "twice")]),
    "twice, in pieces": ([came(0.1, GOOD), came(0.2, GOOD)], [("3", "twice")]),
    "late in its own turn": ([came(1.6, GOOD)], [("3", "late")]),
    "late in the next turn": (
        [sent(1.1, NEXT), came(1.2, GOOD), came(1.3, OTHER)], [("3", "late")],
    ),
    "late when nobody else answers": ([sent(1.1, NEXT), came(1.2, GOOD)], [("3", "late")]),
    "one answer behind": (
        [came(0.1, GOOD), sent(0.5, framed(3, b"\x04" + READ[1:])), came(0.6, framed(3, ANSWER))],
        [("3", "late")],
    ),
    "a late refusal": ([came(1.6, framed(3, b"\x83\x02"))], [("3", "late")]),
    "noise before": ([came(0.1, b"\xff\xfe\xfd\xfc" + GOOD)], [("", "noise")]),
    "noise instead": ([came(0.1, b"\xff\xfe\xfd\xfc")], [("3", "noise")]),
    "exception": ([came(0.1, framed(3, b"\x83\x06"))], [("3", "exception")]),
    "another master": ([came(0.1, GOOD + framed(9, READ))], [("9", "master")]),
    "an echo is not odd": ([came(0.1, framed(3, READ) + GOOD)], []),
}  # fmt: skip


@pytest.mark.parametrize(("events", "expected"), RTU.values(), ids=RTU)
def test_what_is_odd_on_rtu_is_named_by_device(events, expected):
    _, odd = explained("modbus-rtu", sent(0.0, framed(3, READ)), *events, baudrate=9600)
    assert odd == expected


def test_an_exception_is_told_with_its_meaning():
    events = sent(0.0, framed(3, READ)), came(0.1, framed(3, b"\x83\x06"))
    frames, _ = explained("modbus-rtu-tcp", *events)
    assert frames[1].sentence == "unit 3 refuses: exception 6, device busy"
    assert frames[1].code == 6
    assert not frames[1].expected
    refused = sent(0.0, framed(3, READ)), came(0.1, framed(3, b"\x83\x02"))
    assert explained("modbus-rtu", *refused)[0][1].expected  # a search asks for what is not there


def mbap(transaction, unit, pdu):
    return transaction.to_bytes(2, "big") + b"\0\0" + bytes((0, len(pdu) + 1, unit)) + pdu


TCP = {
    "right": ([came(0.1, mbap(1, 3, ANSWER))], []),
    "short": ([came(0.1, mbap(1, 3, ANSWER)[:9])], [("3", "short")]),
    "length": ([came(0.1, mbap(1, 3, b"\x03\x02\0\x01"))], [("3", "length")]),
    "another unit": ([came(0.1, mbap(1, 255, ANSWER))], [("3", "unit")]),
    "a gateway that reached nobody": (
        [came(0.1, mbap(1, 0, b"\x83\x0b"))], [("3", "exception")],
    ),
    "twice": ([came(0.1, mbap(1, 3, ANSWER) * 2)], [("3", "twice")]),
    "late": ([came(1.2, mbap(1, 3, ANSWER))], [("3", "late")]),
    "late in the next turn": (
        [sent(1.1, mbap(2, 4, READ)), came(1.2, mbap(1, 3, ANSWER)),
         came(1.3, mbap(2, 4, ANSWER))], [("3", "late")],
    ),
    "unknown transaction": ([came(0.1, mbap(77, 3, ANSWER))], [("3", "noise")]),
    "no frame": ([came(0.1, b"HTTP/1.1 400 Bad Request")], [("3", "noise")]),
    "another function": ([came(0.1, mbap(1, 3, b"\x04\x04\0\x01\0\x02"))], [("3", "function")]),
}  # fmt: skip


@pytest.mark.parametrize(("events", "expected"), TCP.values(), ids=TCP)
def test_what_is_odd_on_tcp_is_named_by_device(events, expected):
    assert explained("modbus-tcp", sent(0.0, mbap(1, 3, READ)), *events)[1] == expected


def select(number):
    counted = b"\x73\xfd\x52" + bytes.fromhex(number)[::-1] + b"\xff\xff\xff\xff"
    head = bytes((0x68, len(counted), len(counted), 0x68))
    return head + counted + bytes((sum(counted) % 256, 0x16))


def short(control, address):
    return bytes((0x10, control, address, (control + address) % 256, 0x16))


METER, SECOND = Plate("45123456"), Plate("45123457")


def telegram(plate=METER, address=0, records=b""):
    return long_frame(address, plate.header(1) + (records or energy_kwh(8412)))


ASKED = [sent(0.0, select("45123456")), came(0.05, b"\xe5"), sent(0.1, short(0x7B, 0xFD))]
CHANGED = telegram()[:-3] + b"\x99" + telegram()[-2:]
MBUS = {
    "right": ([*ASKED, came(0.2, telegram())], []),
    "in pieces": ([*ASKED, came(0.2, telegram()[:9]), came(0.3, telegram()[9:])], []),
    "another number": ([*ASKED, came(0.2, telegram(SECOND))], [("45123456", "number")]),
    "short": ([*ASKED, came(0.2, telegram()[:20])], [("45123456", "short")]),
    "checksum": ([*ASKED, came(0.2, CHANGED)], [("45123456", "checksum")]),
    "noise": ([*ASKED, came(0.2, b"\x01\x02\x03")], [("45123456", "noise")]),
    "noise before": ([*ASKED, came(0.2, b"\x01\x02" + telegram())], [("45123456", "noise")]),
    "twice": ([*ASKED, came(0.2, telegram() * 2)], [("45123456", "twice")]),
    "no data": ([*ASKED, came(0.2, b"\xe5")], [("45123456", "short")]),
    "refuses": (
        [*ASKED, came(0.2, long_frame(0, b"\x08", ci=0x70))], [("45123456", "exception")],
    ),
    "silent, then the next one": (
        [*ASKED, sent(1.0, select("45123457")), came(1.1, b"\xe5"),
         sent(1.2, short(0x7B, 0xFD)), came(1.3, telegram(SECOND))], [],
    ),
    "late in the next turn": (
        [*ASKED, sent(1.0, short(0x7B, 7)), came(1.1, telegram())], [("45123456", "late")],
    ),
    "another address": (
        [sent(0.0, short(0x7B, 7)), came(0.1, telegram(address=8))], [("7", "address")],
    ),
    "another meter than before": (
        [sent(0.0, short(0x7B, 7)), came(0.1, telegram(address=7)),
         sent(1.0, short(0x5B, 7)), came(1.1, telegram(SECOND, 7))], [("45123457", "serial")],
    ),
    "any number": ([sent(0.0, select("EEEEEEEE")), came(0.1, b"\xe5")], [("EEEEEEEE", "any")]),
    "any address": ([sent(0.0, short(0x40, 252)), came(0.1, b"\xe5")], [("252", "any")]),
    "several": ([sent(0.0, select("45FFFFFF")), came(0.1, b"\xe1\x05")], [("45FFFFFF", "several")]),
    "another master": ([*ASKED, came(0.2, short(0x7B, 9))], [("", "master")]),
}  # fmt: skip


@pytest.mark.parametrize(("events", "expected"), MBUS.values(), ids=MBUS)
def test_what_is_odd_on_mbus_is_named_by_meter(events, expected):
    assert explained("mbus-tcp", *events)[1] == expected


def test_every_record_of_a_meter_is_given_also_what_is_not_understood():
    unknown = b"\x04\xef\x01\x02\x03\x04\x05"  # a reserved VIF
    events = [*ASKED, came(0.2, telegram(records=energy_kwh(8412) + unknown))]
    values = explained("mbus", *events)[0][-1].values
    assert next((one["value"], one["understood"]) for one in values) == ("8412000", True)
    assert not values[1]["understood"]
    assert values[1]["hex"] == "02 03 04 05"


def packet(apdu):
    return b"\x81\x0a" + (len(apdu) + 6).to_bytes(2, "big") + b"\x01\x04" + apdu


THERE, ELSEWHERE = "10.0.0.5:47808", "10.0.0.6:47808"
I_AM = packet(bytes.fromhex("10 00 C4 02 00 04 B1 22 05 C4 91 03 22 03 E7"))
ASK = packet(bytes.fromhex("00 05 07 0C 0C 00 00 00 01 19 55"))  # analog-input,1 present-value
GIVES = packet(bytes.fromhex("30 07 0C 0C 00 00 00 01 19 55 3E 44 42 54 00 00 3F"))
BACNET = {
    "right": ([came(0.1, GIVES, THERE)], []),
    "twice": ([came(0.1, GIVES, THERE), came(0.2, GIVES, THERE)], [("1201", "twice")]),
    "late": ([came(1.3, GIVES, THERE)], [("1201", "late")]),
    "unasked": ([came(0.1, GIVES, ELSEWHERE)], [(ELSEWHERE, "noise")]),
    "refuses": (
        [came(0.1, packet(bytes.fromhex("50 07 0C 91 01 91 1F")), THERE)], [("1201", "exception")],
    ),
    "two of one number": ([came(0.1, I_AM, ELSEWHERE)], [("1201", "duplicate")]),
    "cut short": ([came(0.1, GIVES[:-4], THERE)], [("1201", "unreadable")]),
    "value cut short": (
        [came(0.1, packet(GIVES[6:-4]), THERE)], [("1201", "unreadable")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("events", "expected"), BACNET.values(), ids=BACNET)
def test_what_is_odd_on_bacnet_is_named_by_device(events, expected):
    announced = came(0.0, I_AM, THERE), sent(0.01, ASK, THERE)
    assert explained("bacnet", *announced, *events)[1] == expected


def test_bacnet_values_are_given_with_object_and_property():
    frames, _ = explained(
        "bacnet", came(0.0, I_AM, THERE), sent(0.01, ASK, THERE), came(0.1, GIVES, THERE)
    )
    assert frames[1].sentence == "1201 is asked: analog-input,1 present-value"
    assert frames[2].values == ({"at": "analog-input,1 present-value", "value": "53"},)


def test_a_driver_without_an_analyser_is_traced_all_the_same():
    frames, odd = explained("another", sent(0.0, b"\x01\x02"), came(0.1, b"\x03"))
    assert [str(frame.sentence) for frame in frames] == ["2 bytes", "1 bytes"]
    assert not odd


def test_every_driver_of_gardien_has_its_analyser():
    assert {type(analyser(name, {})).__name__ for name in DRIVERS} == {
        "RtuAnalyser", "TcpAnalyser", "MbusAnalyser", "BacnetAnalyser",
    }  # fmt: skip


@pytest.mark.parametrize("driver", ["modbus-rtu", "modbus-tcp", "mbus-tcp", "bacnet"])
def test_no_bytes_whatever_raise_anything(driver):
    import random

    dice = random.Random(7)
    good = [framed(3, READ), GOOD, mbap(1, 3, READ), telegram(), select("45FFFFFF"), ASK, GIVES]
    for _ in range(300):
        events = []
        for at in range(8):
            data = dice.choice([dice.randbytes(dice.randrange(40)), dice.choice(good)])
            if data and dice.random() < 0.5:
                where = dice.randrange(len(data))
                data = data[:where] + dice.randbytes(1) + data[where + 1 :]
            events.append(Event(at / 10, dice.choice([SENT, CAME]), data, THERE))
        explained(driver, *events)
