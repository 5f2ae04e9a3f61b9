"""`gardien decode mbus`, without its command line: frames in, lines and an exit status out."""

from __future__ import annotations

import io
import json

import pytest

from agent.cli.decode import run
from tests.command import gardien
from tests.unit.drivers.mbus.test_anything import VALID
from tests.unit.drivers.mbus.wire import HEADER, long_frame

FRAME = VALID.hex(" ")


def answer(frames, as_json=False, explain=False):
    out = io.StringIO()
    return run(frames, as_json, explain, out), out.getvalue()


def test_the_table_fits_80_columns_and_shows_every_record():
    status, text = answer([FRAME])
    assert status == 0
    assert "KAM 12345678: heat, version 1, address 1" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    for words in ("37351000 Wh", "06855817", "46.60 %RH", "2011-01-05T15:26"):
        assert words in text
    assert "none: BCD error digits DDEBB4DD" in text
    assert "more records follow" in text


def test_json_is_one_line_a_frame_in_order_and_empty_lines_are_none():
    status, text = answer([FRAME, "\n", "e5", "zz", FRAME.replace(" ", "")], as_json=True)
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["ok"] for line in lines] == [True, False, False, True]
    assert "acknowledgement" in lines[1]["error"]
    assert "hexadecimal" in lines[2]["error"]
    assert status == 1


def test_no_frame_at_all_is_wrong_use():
    assert answer([" ", ""]) == (2, "")


def test_an_explanation_ends_with_the_reason_where_there_is_one():
    status, text = answer([long_frame(b"\x08", ci=0x70).hex()], explain=True)
    assert status == 1
    assert text.startswith("68 04 04 68")
    assert text.splitlines()[-1].startswith("not decoded: the meter reports")


def test_texts_of_a_meter_cannot_move_the_cursor():
    evil = long_frame(bytes.fromhex(HEADER + "0D FD 10 05 41 6D 32 5B 1B"))
    for explain in (False, True):
        _, text = answer([evil.hex()], explain=explain)
        assert "\x1b" not in text
        assert "·[2mA" in text


def test_an_encrypted_telegram_is_said_to_be_so():
    sealed = long_frame(bytes.fromhex(HEADER[:-5] + "10 05" + "A7" * 16))
    _, text = answer([sealed.hex()])
    assert "encrypted (mode 5, 16 bytes): no key, not decoded" in text


@pytest.mark.parametrize("words", [[FRAME], FRAME.split(), []])
def test_frames_come_as_arguments_or_on_standard_input(words):
    done = gardien("decode", "mbus", "--json", *words, typed=f"{FRAME}\n\n")
    assert (done.exit_code, json.loads(done.output)["id"]) == (0, "12345678")
