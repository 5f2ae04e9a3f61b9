"""What keyboards, word processors and habits put into a file: one message for each cause."""

from __future__ import annotations

import pytest

from agent.config import parse
from agent.core.errors import ConfigError
from tests.unit.config.samples import SMALL, changed

BLOCK = """\
building:
  name: Les Alpins
links:
  riser-a:
    driver: modbus-rtu
    port: /dev/ttyUSB0
    baudrate: 9600
devices:
  sdm-11:
    link: riser-a
    address: 11
    profile: eastron-sdm120
    every: 15min
uplinks:
  metropole:
    recipient: energie.metropole.example
    transport: mqtt
    url: mqtts://platform.example:8883
"""
DEVICE = """\
  sdm-11:
    link: riser-a
    address: 11
    profile: eastron-sdm120
    every: 15min
"""
EVERY = "13:12: devices.sdm-11.every: expected a duration such as 15min (units: ms, s, min, h, d)"
QUOTES = (
    "nothing can stand behind the closing quote: write a `'` inside '…' twice, and a `\"` inside"
    ' "…" as `\\"`, or leave the outer quotes out'
)


def block(before: str, after: str) -> str:
    return changed(before, after, BLOCK)


TYPED = {
    "a quarter": (block("15min", "1/4 h"), f'{EVERY}, found "1/4 h"; write 15min'),
    "a decimal comma": (block("15min", "0,25h"), f'{EVERY}, found "0,25h"; write 15min'),
    "a time of day": (block("15min", "00:15"), f'{EVERY}, found "00:15"; write 15min'),
    "hours and minutes": (block("15min", "1h30"), f'{EVERY}, found "1h30"; write 90min'),
    "a unit in French": (block("15min", "1 heure"), f'{EVERY}, found "1 heure"; write 1h'),
    "a unit of nothing": (block("15min", "15 pas"), f'{EVERY}, found "15 pas"'),
    "megabytes in French": (
        BLOCK + "spool: {max: 200 Mo}\n",
        (
            "19:14: spool.max: expected a size such as 200MB"
            ' (units: B, kB, MB, GB, KiB, MiB, GiB), found "200 Mo"; write 200MB'
        ),
    ),
    "a comma inside braces": (
        BLOCK + "spool: {max: 1,5GB, keep: 7d}\n",
        "19:14: spool.max: inside braces a comma begins the next option: write 1.5GB",
    ),
    "thousands set apart": (
        block("9600", "9 600"),
        '7:15: links.riser-a.baudrate: expected a whole number, found "9 600"; write 9600',
    ),
    "yes in French": (
        BLOCK + "    withheld: oui\n",
        '19:15: uplinks.metropole.withheld: expected true or false, found "oui"; write true',
    ),
    "a word processor's quotes": (
        block("mqtts://platform.example:8883", "“mqtts://platform.example:8883”"),
        (
            '18:10: uplinks.metropole.url: YAML reads the quotation marks around'
            ' “mqtts://platform.example:8883” as letters: use straight ones, "…", or none'
        ),
    ),
    "a no-break space as indent": (
        block("    address", "\u00a0\u00a0\u00a0\u00a0address"),
        (
            "11:1: this line is indented with U+00A0, which is not a space: use two spaces for each"
            " level"
        ),
    ),
    "no blank after a colon": (
        block("address: 11", "address:11"),
        "11:5: a space is missing after the `:`: write `address: 11`",
    ),
    "no blank after a colon in braces": (
        changed("address: 12", "address:12"),
        "5:25: devices.sdm-12.address:12: a space is missing after the `:`: write `address: 12`",
    ),
    "no blank after the only colon": (
        block("name: Les", "name:Les"),
        (
            '2:3: building: expected a mapping, one `name: …` a line, found "name:Les'
            ' Alpins"; a space is missing after the `:`: write `name: Les Alpins`'
        ),
    ),
    "a device at the left edge": (
        block(DEVICE, "".join(line[2:] + "\n" for line in DEVICE.splitlines())),
        "9:1: sdm-11: it is not indented enough: indent it below `devices:`",
    ),
    "options beside their device": (
        block(DEVICE, DEVICE.replace("    ", "  ")),
        (
            "9:3: devices.sdm-11: its options are not indented enough: indent link, address,"
            " profile, every below it"
        ),
    ),
    "a dash in front of one device": (
        BLOCK.replace("uplinks:", "  - sdm-12:\nuplinks:"),
        "14:3: a `- ` cannot stand here: the lines before it begin with a `key:`",
    ),
    "an apostrophe in single quotes": (block("Les Alpins", "'L'Alpin'"), f"2:12: {QUOTES}"),
    "quotes around the first word": (block("Les Alpins", '"Les" Alpins'), f"2:15: {QUOTES}"),
    "a fence of a chat": (
        f"```yaml\n{BLOCK}```\n",
        "1:1: a line of backquotes is not part of the file: delete it",
    ),
    "a port of Windows": (
        block("/dev/ttyUSB0", "COM3"),
        '6:11: links.riser-a.port: expected an absolute path, /…, found "COM3"',
    ),
    "a city": (
        block("Les Alpins", "Les Alpins\n  timezone: Paris"),
        '3:13: building.timezone: no time zone "Paris"; did you mean "Europe/Paris"?',
    ),
}  # fmt: skip


@pytest.mark.parametrize("typed", TYPED)
def test_what_was_typed_is_told_once_with_what_to_write(typed):
    text, expected = TYPED[typed]
    with pytest.raises(ConfigError) as refused:
        parse(text, "config.yaml")
    assert str(refused.value).splitlines() == [f"config.yaml:{expected}"]


@pytest.mark.parametrize("every", ["15 min", "15\u00a0min", "15\u202fmin", " 15min "])
def test_a_blank_of_any_kind_may_stand_before_a_unit(every):
    (device,) = parse(block("15min", f'"{every}"'), "config.yaml").devices.values()
    assert device.every == 900


def test_a_name_may_have_marks_of_its_own():
    assert parse(block("Les Alpins", "« Les Alpins »"), "x").building.name == "« Les Alpins »"
    assert parse(SMALL, "x").building.name == "Les Alpins"
