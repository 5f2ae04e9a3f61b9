from __future__ import annotations

import json
from decimal import Decimal

from agent.drivers.mbus.explain import dumps, refusal
from tests.unit.drivers.mbus.wire import telegram


def first(records):
    return json.loads(dumps(telegram(records)), parse_float=Decimal)["records"][0]


def test_a_telegram_is_one_line():
    line = dumps(telegram("04 06 E7 91 00 00"))
    assert "\n" not in line
    answer = json.loads(line)
    assert answer["ok"] is True
    assert (answer["manufacturer"], answer["id"], answer["medium"]) == ("KAM", "12345678", 4)
    assert (answer["version"], answer["access"], answer["status"]) == (1, 0x55, 0)
    assert answer["records"][0] == {
        "function": "instantaneous",
        "storage": 0,
        "tariff": 0,
        "subunit": 0,
        "quantity": "energy",
        "unit": "Wh",
        "value": 37351000,
        "error": None,
        "modifiers": [],
        "dib": "04",
        "vib": "06",
        "data": "e7910000",
    }


def test_numbers_keep_all_their_digits_and_are_never_in_e_notation():
    assert '"value": 9223372036854775.807,' in dumps(telegram("07 13 FF FF FF FF FF FF FF 7F"))
    assert '"value": 0.000001,' in dumps(telegram("01 10 01"))


def test_the_unit_is_the_vifs_and_the_values_own_stands_beside_it():
    said = first("04 BE 50 71 BB B0 00")
    assert (said["unit"], said["value_unit"], said["value"]) == ("m3/h", "s", 11582321)
    assert "value_unit" not in first("04 3E 71 BB B0 00")


def test_a_value_that_is_none_is_null_with_an_error():
    assert (first("04 06 00 00 00 80")["value"], first("04 13 01 00 00 00")["error"]) == (
        None,
        None,
    )
    assert "not available" in first("04 06 00 00 00 80")["error"]


def test_texts_are_escaped():
    assert first("0D FD 10 03 22 0A 41")["value"] == 'A\n"'


def test_a_refusal_says_why():
    assert json.loads(refusal('no "frame"')) == {"ok": False, "error": 'no "frame"'}
