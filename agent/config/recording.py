"""Recordings: what a real device answered and what its display showed, as a test of its profile.

A recording is a file `NAME.recorded.yaml` beside the profiles. It never holds the serial number.
"""

from __future__ import annotations

import datetime as dt  # noqa: TC003 -- pydantic reads the annotations
import hashlib
from dataclasses import field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic.dataclasses import dataclass

from agent.core.errors import Refused
from agent.core.i18n import Text, _
from agent.core.model import ValueKind
from agent.core.quantities import channel_of_quantity, channels
from agent.drivers.profile import STRICT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.drivers.profile import Offer, Profile

VERSION = 12
"""characters of the SHA-256 of a profile's text that name its version"""
MINUTES = 10
"""minutes that may pass between a look at the display and the reading"""
MOMENTARY = Decimal("0.05")
"""share by which a momentary value may change meanwhile"""
FEWEST_DIGITS = 4
"""a number with fewer digits is in every file, and identifies nothing"""
HEADING = """\
# Recorded from a device by `gardien profile record`: its answers, without its serial number and
# without times, and what its display showed. Test it: gardien profile check FILE
"""


@dataclass(frozen=True, slots=True, config=STRICT)
class Recording:
    """One device, recorded."""

    profile: str
    """the profile with which it was read"""
    version: str
    """beginning of the SHA-256 of that profile's text"""
    recorded: dt.date
    by: str
    """who compared it with the display"""
    display: dict[str, Decimal]
    """what the display showed, by point, in the unit of the point"""
    number_agrees: bool | None = None
    """whether the number on the device is the one that it reported; None: not compared"""
    test: dict[str, Any] = field(default_factory=dict)
    """as in a profile"""

    def confirms(self, profile: Profile) -> bool:
        """Whether its display showed every point that the profile reads by default, and the number
        on it was not another one.
        """
        shown = bool(profile.defaults) and set(profile.defaults) <= self.display.keys()
        return shown and self.number_agrees is not False


def version_of(text: str) -> str:
    """The version of a profile with this text."""
    return hashlib.sha256(text.encode()).hexdigest()[:VERSION]


def agrees(name: str, offer: Offer, read: Decimal, shown: Decimal) -> bool:
    """Whether a reading is what the display showed some minutes before or after it.

    A display may round or cut its last digit. Meanwhile an index counts on, as fast as the rating
    of the profile allows, and a momentary value changes.
    """
    exponent = shown.as_tuple().exponent
    slack = Decimal(1).scaleb(exponent if isinstance(exponent, int) else 0)
    channel = channel_of_quantity().get(name)
    if channel and channels()[channel].kind is ValueKind.REG:
        slack += (offer.rating or Decimal(0)) * MINUTES / 60
    else:
        slack += abs(shown) * MOMENTARY
    return abs(read - shown) <= slack


def differs(read: object, shown: Decimal, unit: str) -> Text:
    """The sentence that a display differs."""
    return Text(
        "the display shows {shown} {unit}, and {read} {unit} is read. The profile does not"
        " fit this device, or another device was read",
        shown=format(shown, "f"), unit=unit, read=str(read),
    )  # fmt: skip


def text_of_recording(recording: Recording, serial: str | None) -> str:
    """The file of a recording. Raises Refused if the serial number would be in it."""
    lines = [
        f"profile: {recording.profile}",
        f'version: "{recording.version}"',
        f"recorded: {recording.recorded.isoformat()}",
        f"by: {_quoted(recording.by)}",
    ]
    if recording.number_agrees is not None:
        lines.append(f"number_agrees: {str(recording.number_agrees).lower()}")
    lines.append("display:" if recording.display else "display: {}")
    lines += [f"  {name}: {value:f}" for name, value in recording.display.items()]
    lines.append("test:")
    for key, value in recording.test.items():
        lines += _test_lines(key, value)
    text = HEADING + "\n".join(lines) + "\n"
    if serial and _holds(text, recording.test, serial):
        raise Refused(
            "nothing was written: the recording would show the serial number, or a value that has"
            " the same digits. Record the device again when its values have changed"
        )
    return text


def _test_lines(key: str, value: object) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"  {key}: {_quoted(value) if isinstance(value, str) else value}"
        return
    yield f"  {key}:"
    for name, entry in value.items():
        if isinstance(entry, list):
            yield f"    {name}: [{', '.join(f'0x{int(str(cell), 0):04X}' for cell in entry)}]"
        elif isinstance(entry, Decimal | float | int):
            yield f"    {name}: {Decimal(str(entry)):f}"
        else:
            yield f"    {name}: {_quoted(str(entry))}"


def _quoted(text: str) -> str:
    import json  # noqa: PLC0415 -- only commands write recordings

    return json.dumps(text, ensure_ascii=False)  # JSON's strings are YAML's


def _holds(text: str, test: Mapping[str, Any], serial: str) -> bool:
    """Whether a serial number is in a recording, in any form in which a device may send it."""
    digits = "".join(letter for letter in serial if letter.isalnum()).casefold()
    if len(digits.lstrip("0")) < FEWEST_DIGITS:
        return False
    letters = "".join(letter for letter in text if letter.isalnum()).casefold()
    spaced = text.casefold()
    if serial.casefold() in spaced or digits in spaced or _in_text(test, digits):
        return True
    sent = list(_bytes(test))
    return any(form in run for form in _forms(serial, digits) for run in sent) or (
        len(digits) > 2 * FEWEST_DIGITS and digits in letters
    )


def _in_text(test: Mapping[str, Any], digits: str) -> bool:
    reads = test.get("reads", {})
    return any(digits in str(value).casefold().replace(".", "") for value in reads.values())


def _bytes(test: Mapping[str, Any]) -> Iterator[bytes]:
    """What the device sent, in each order of words and bytes."""
    for entry in test.values():
        for run in entry.values() if isinstance(entry, dict) else ():
            if isinstance(run, list):
                for order in ("big", "little"):
                    pairs = [int(str(cell), 0).to_bytes(2, order) for cell in run]
                    yield b"".join(pairs)
                    yield b"".join(reversed(pairs))
    if isinstance(records := test.get("records"), str):
        yield bytes.fromhex(records)
        yield bytes.fromhex(records)[::-1]


def _forms(serial: str, digits: str) -> Iterator[bytes]:
    yield serial.encode()
    yield "".join(f"\0{letter}" for letter in serial).encode()
    if digits.isdecimal():
        number = int(digits)
        yield number.to_bytes(max(4, (number.bit_length() + 7) // 8), "big")
        yield bytes.fromhex(digits.zfill(len(digits) + len(digits) % 2))


def sentence(recording: Recording) -> str:
    """Who compared a device with its display, and when."""
    return _("{day}, {who}", day=recording.recorded, who=recording.by)
