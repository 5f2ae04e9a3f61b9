"""Lines that docs/platform.md prints for other teams, run as they stand."""

import json
import re
from decimal import Decimal

import zstandard

from tests.contract.uplink.test_documented import PAGE


def test_the_printed_line_in_python_keeps_all_digits_of_a_batch():
    (line,) = re.findall(r"^\| Python, \*zstandard\* \| `(.*)` \|$", PAGE, re.MULTILINE)
    body = zstandard.compress(b'{"v": [123456789012345678901.2300, 0.10, 42]}')
    names = {"json": json, "zstandard": zstandard, "Decimal": Decimal, "body": body}
    exec(line, names)
    assert [str(value) for value in names["batch"]["v"]] == [
        "123456789012345678901.2300", "0.10", "42",
    ]  # fmt: skip
