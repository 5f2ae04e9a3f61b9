"""Mistakes that people make, each with the place it is found at and the words it is told in.
Rule U1.
"""

from __future__ import annotations

import pytest

from agent.config import load, parse
from agent.config.compose import compose
from agent.config.crosscheck import pointcheck
from agent.config.files import ProblemReport, read
from agent.config.models import LinkConfig
from agent.config.profiles import Profiles
from agent.core.errors import ConfigError
from agent.core.quantities import channels
from tests.unit.config.samples import EXAMPLE, LOOPBACK, SMALL, changed

TWO = changed(
    "  sdm-12: {link: plant, address: 12, profile: eastron-sdm120}\n",
    "  sdm-12: {link: plant, address: 12, profile: eastron-sdm120}\n"
    "  sdm-13: {link: plant, address: 13, profile: eastron-sdm120}\n",
)
METER = "profile: eastron-sdm120}"
POINTS = "points: {heat: {at: holding/0/int32, channel: heat, unit: kWh}}}"
PLANT = changed(METER, POINTS)

CONTROLLER = SMALL + "privacy: {controller: {name: Régie Dupont, contact: donnees@regie.example}}\n"

FORMS = (
    SMALL
    + """\
privacy:
  forms:
    asks:
      - recipient: us.example
        name: Us
        purpose: advice
        words: {fr: a, en: b}
        channels: [heat]
        why: {fr: a, en: b}
      - recipient: us.example
        name: Us
        purpose: comparing
        words: {fr: a, en: b}
        channels:
          - heat
          - cw
        why: {fr: a, en: b}
"""
)

MISTAKES = {
    "a form that asks for a quantity that there is not": (
        changed("- cw", "- foo", FORMS),
        (
            '23:13: privacy.forms.asks.2.channels.2: "foo" is no quantity for which people are'
            f" asked; these are: {', '.join(n for n, one in channels().items() if one.en)}"
        ),
    ),
    "a form's step in French": (
        changed("channels: [heat]", "channels: [heat]\n        scope: journalier", FORMS),
        (
            '16:16: privacy.forms.asks.1.scope: expected "monthly", "daily" or "loadcurve",'
            ' found "journalier"'
        ),
    ),
    "a form's words in a third language": (
        changed(
            "comparing\n        words: {fr: a, en: b",
            "comparing\n        words: {fr: a, en: b, de: c",
            FORMS,
        ),
        "20:31: privacy.forms.asks.2.words.de: no such option; known: fr, en",
    ),
    "a container that there is not": (
        changed(
            "uplinks:\n",
            "uplinks:\n  f: {recipient: f.example, transport: files, path: /f, container: pgp}\n",
        ),
        '7:68: uplinks.f.container: expected "cms", "cms-compat" or "none", found "pgp"',
    ),
    "a controller that nobody can reach": (
        changed("donnees@regie.example", "demander au gardien", CONTROLLER),
        (
            "8:53: privacy.controller.contact: expected an e-mail address or a telephone number,"
            ' such as "donnees@regie.example" or "+33 4 76 00 00 00"'
        ),
    ),
    "a controller without a name": (
        changed("name: Régie Dupont, ", "", CONTROLLER),
        (
            "8:11: privacy.controller: `name` is missing (a person, a company or an office),"
            " such as `name: Régie Dupont`"
        ),
    ),
    "a data protection officer with a telephone of letters": (
        changed("controller:", "dpo:", CONTROLLER).replace("donnees@regie.example", "poste 12"),
        (
            "8:46: privacy.dpo.contact: expected an e-mail address or a telephone number,"
            ' such as "donnees@regie.example" or "+33 4 76 00 00 00"'
        ),
    ),
    "a misspelt section": (
        changed("uplinks:", "uplink:"),
        '6:1: uplink: no such option; did you mean "uplinks"?',
    ),
    "a misspelt option": (
        changed("profile:", "profil:"),
        '5:38: devices.sdm-12.profil: no such option; did you mean "profile"?',
    ),
    "a misspelt option of the driver": (
        changed("host: 192.168.10.20", "host: 192.168.10.20, prt: 502"),
        '3:52: links.plant.prt: no such option; did you mean "port"?',
    ),
    "a misspelt option of the transport": (
        changed("url:", "uri:"),
        '7:70: uplinks.metropole.uri: no such option; did you mean "url"?',
    ),
    "an option of nothing": (
        changed("profile:", "colour: red, profile:"),
        (
            "5:38: devices.sdm-12.colour: no such option;"
            " known: link, address, profile, every, reads_a_day, place, points"
        ),
    ),
    "a profile that is not there": (
        changed("eastron-sdm120", "eastron-sdm12"),
        '5:47: devices.sdm-12.profile: no profile "eastron-sdm12"; did you mean "eastron-sdm120"?',
    ),
    "a line that is not there": (
        changed("link: plant", "link: plnt"),
        '5:18: devices.sdm-12.link: no line "plnt"; did you mean "plant"?',
    ),
    "a driver that is not there": (
        changed("modbus-tcp", "modbus_tcp"),
        '3:19: links.plant.driver: no driver "modbus_tcp"; did you mean "modbus-tcp"?',
    ),
    "a transport that is not there": (
        changed("transport: mqtt", "transport: mqttt"),
        '7:64: uplinks.metropole.transport: no transport "mqttt"; did you mean "mqtt"?',
    ),
    "a line without its host": (
        changed(", host: 192.168.10.20", ""),
        (
            "3:3: links.plant: `host` is missing (name or address of the meter or gateway),"
            " such as `host: 192.168.10.20`"
        ),
    ),
    "a line without its driver": (
        changed("driver: modbus-tcp, ", ""),
        (
            "3:3: links.plant: `driver` is missing (the driver of this line, which determines its"
            " protocol), such as `driver: modbus-tcp`"
        ),
    ),
    "a line that is one word": (
        changed("{driver: modbus-tcp, host: 192.168.10.20}", "192.168.10.20"),
        '3:10: links.plant: expected a mapping, one `name: …` a line, found "192.168.10.20"',
    ),
    "devices as a list": (
        changed("  sdm-12: {link", "  - {name: sdm-12, link"),
        "5:3: devices: expected a mapping, one `name: …` a line, found a list",
    ),
    "a duration without a unit": (
        changed(METER, "profile: eastron-sdm120, every: 15}"),
        (
            "5:70: devices.sdm-12.every: expected a duration such as 15min, found 15;"
            ' write "15s" if that is what you mean'
        ),
    ),
    "a duration in a unit of its own": (
        changed(METER, "profile: eastron-sdm120, every: 15m}"),
        (
            "5:70: devices.sdm-12.every: expected a duration such as 15min"
            ' (units: ms, s, min, h, d), found "15m"; write 15min'
        ),
    ),
    "a step that does not cut a day": (
        changed(METER, "profile: eastron-sdm120, every: 7min}"),
        (
            "5:70: devices.sdm-12.every: a day cannot be divided into equal steps of 7min: write"
            " 6min or 8min"
        ),
    ),
    "a step that passes midnight by": (
        changed(METER, "profile: eastron-sdm120, every: 2h}"),
        (
            "5:70: devices.sdm-12.every: a step of 2h has no slot at midnight in Europe/Paris, so"
            " daily and monthly values would be missing: write 1h or 1d"
        ),
    ),
    "a step finer than a second": (
        changed(METER, "profile: eastron-sdm120, every: 500ms}"),
        "5:70: devices.sdm-12.every: must be at least 1s, the shortest step",
    ),
    "a backup for somebody who is not there": (
        changed("uplinks:", "backup: {to: /a.crt, uplinks: [metropol]}\nuplinks:"),
        '6:31: backup.uplinks: no uplink "metropol"; did you mean "metropole"?',
    ),
    "a step longer than a day": (
        changed(METER, "profile: eastron-sdm120, every: 7d}"),
        "5:70: devices.sdm-12.every: must be at most 1d: a device is read at least once a day",
    ),
    "a port in words": (
        changed("host: 192.168.10.20", "host: 192.168.10.20, port: modbus"),
        '3:58: links.plant.port: expected a whole number, found "modbus"',
    ),
    "an address that is none": (
        changed("192.168.10.20", "192.168.10.320"),
        (
            '3:37: links.plant.host: "192.168.10.320" is not an IPv4 address: write four numbers'
            " from 0 to 255, such as 192.168.10.20"
        ),
    ),
    "an address with its port": (
        changed("192.168.10.20", "192.168.10.20:502"),
        (
            '3:37: links.plant.host: "192.168.10.20:502" is not an IPv4 address: write four numbers'
            " from 0 to 255, such as 192.168.10.20"
        ),
    ),
    "an address that is none in a url": (
        changed("mqtts://192.168.10.5", "mqtts://192.168.10.256"),
        (
            '7:75: uplinks.metropole.url: "192.168.10.256" is not an IPv4 address: write four'
            " numbers from 0 to 255, such as 192.168.10.20"
        ),
    ),
    "a port that is none": (
        changed("host: 192.168.10.20", "host: 192.168.10.20, port: 70000"),
        "3:58: links.plant.port: expected at most 65535, found 70000",
    ),
    "a number where text belongs": (
        changed("name: Les Alpins", "name: 38"),
        '1:18: building.name: expected text, found 38; write it in quotes: "38"',
    ),
    "a wrong check character": (
        changed("{name: Les Alpins}", "{name: Les Alpins, place: B6ASQ-Z1Y2K-SAA3Z}"),
        (
            '1:37: building.place: "B6ASQ-Z1Y2K-SAA3Z" is not an id:'
            " it has a typing error, for its check characters do not match; the ids of this"
            " building are shown by: gardien place list"
        ),
    ),
    "a common area as the building": (
        changed("{name: Les Alpins}", "{name: Les Alpins, place: CZS2Y-FSTBQ-Q5WDC}"),
        '1:37: building.place: "CZS2Y-FSTBQ-Q5WDC" is the id of a common, not of a building',
    ),
    "a time zone that is not there": (
        changed("{name: Les Alpins}", "{name: Les Alpins, timezone: Europe/Pari}"),
        '1:40: building.timezone: no time zone "Europe/Pari"; did you mean "Europe/Paris"?',
    ),
    "a dwelling among the devices": (
        changed(METER, "profile: eastron-sdm120, place: d84g7 zwyrd 6z1gq}"),
        (
            "5:70: devices.sdm-12.place: a dwelling must not be named here, because occupants"
            " change: delete this line and run: gardien meter assign sdm-12 D84G7-ZWYRD-6Z1GQ"
        ),
    ),
    "a dwelling's label among the devices": (
        changed(METER, "profile: eastron-sdm120, place: A-3-12}"),
        (
            '5:70: devices.sdm-12.place: "A-3-12" is not an id: it has 4 characters, and an id has'
            " 15; meters of dwellings are assigned in the registry, not here: gardien meter"
            " import, or gardien meter assign"
        ),
    ),
    "a serial port on a network line": (
        changed("host: 192.168.10.20", "port: /dev/ttyUSB0"),
        (
            '3:37: links.plant.port: "/dev/ttyUSB0" is a serial port, and the driver modbus-tcp is'
            " for the network: write `driver: modbus-rtu` for a serial line, or `host:` in place of"
            " the port"
        ),
    ),
    "two devices on one address": (
        changed("address: 13", "address: 12", TWO),
        (
            '6:34: devices.sdm-13.address: "12" on "plant" is already the address of "sdm-12"'
            " in line 5: change one of the two addresses"
        ),
    ),
    "two devices on one address, one with a zero before it": (
        changed("address: 13", "address: 012", TWO),
        (
            '6:34: devices.sdm-13.address: "012" on "plant" is already the address of "sdm-12"'
            " in line 5: change one of the two addresses"
        ),
    ),
    "an address that the driver cannot reach": (
        changed("address: 12", "address: 300"),
        '5:34: devices.sdm-12.address: "300" is not a unit id, 0 to 255',
    ),
    "two lines to one host": (
        changed("devices:", "  plant-2: {driver: modbus-tcp, host: 192.168.10.20}\ndevices:"),
        '4:3: links.plant-2: the same line as "plant" in line 3: put its devices there',
    ),
    "two lines on one serial port": (
        changed(
            "devices:",
            "  a: {driver: modbus-rtu, port: /dev/ttyUSB0}\n"
            "  b: {driver: mbus, port: /dev/ttyUSB0}\ndevices:",
        ),
        '5:3: links.b: the same line as "a" in line 4: put its devices there',
    ),
    "a device of which nothing is read": (
        changed(", profile: eastron-sdm120", ""),
        (
            "5:3: devices.sdm-12: no value is configured: name a `profile`, or list values under"
            " `points`"
        ),
    ),
    "a point that the profile has not": (
        changed(METER, "profile: eastron-sdm120, points: {voltag: }}"),
        (
            '5:72: devices.sdm-12.points.voltag: "eastron-sdm120" has no "voltag";'
            ' did you mean "voltage"? (one of your own needs `at`)'
        ),
    ),
    "a point that says nowhere where it is": (
        changed("at: holding/0/int32, ", "", PLANT),
        (
            "5:47: devices.sdm-12.points.heat: `at` is missing: where the value is on the device,"
            " such as `at: input/72/float32`"
        ),
    ),
    "a register type that is not there": (
        changed("int32", "int24", PLANT),
        (
            '5:58: devices.sdm-12.points.heat.at: "int24" is not a type; the types are uint16,'
            " int16, uint32, int32, uint64, int64, float32, float64, stringN (N characters) and"
            " bcdN (N digits)"
        ),
    ),
    "a channel that is not there": (
        changed("channel: heat", "channel: heet", PLANT),
        '5:84: devices.sdm-12.points.heat.channel: no channel "heet"; did you mean "heat"?',
    ),
    "a unit that is not there": (
        changed("unit: kWh", "unit: kwh", PLANT),
        '5:96: devices.sdm-12.points.heat.unit: no unit "kwh"; did you mean "kWh"?',
    ),
    "a unit of something else": (
        changed("unit: kWh", "unit: m3", PLANT),
        "5:96: devices.sdm-12.points.heat.unit: m3 cannot be converted to kWh, the unit of heat",
    ),
    "a degree sign": (
        changed("channel: heat, unit: kWh", "channel: temp, unit: °C", PLANT),
        '5:96: devices.sdm-12.points.heat.unit: no unit "°C"; did you mean "Cel"?',
    ),
    "a channel without its unit": (
        changed(", unit: kWh", "", PLANT),
        (
            "5:47: devices.sdm-12.points.heat: `unit` is missing: what the device counts in,"
            " such as `unit: kWh`"
        ),
    ),
    "a scale of nothing": (
        changed("unit: kWh", "unit: kWh, scale: 0", PLANT),
        "5:108: devices.sdm-12.points.heat.scale: a scale is a number other than 0, found 0",
    ),
    "a decimal comma": (
        changed("unit: kWh", 'unit: kWh, scale: "0,1"', PLANT),
        '5:108: devices.sdm-12.points.heat.scale: expected a number, found "0,1"; write 0.1',
    ),
    "one quantity read twice": (
        changed("kWh}}}", "kWh}, again: {at: holding/2/int32, channel: heat, unit: MWh}}}", PLANT),
        (
            "5:102: devices.sdm-12.points.again: devices.sdm-12.points.heat in line 5 already reads"
            " heat of this place every 15min"
        ),
    ),
    "a mean of an index": (
        changed("unit: kWh", "unit: kWh, mean: 1h", PLANT),
        (
            "5:107: devices.sdm-12.points.heat.mean: heat is an index:"
            " what it counts in a step is `intervals: true`"
        ),
    ),
    "a mean of one read": (
        changed("channel: heat, unit: kWh", "channel: temp, unit: Cel, mean: 10min", PLANT),
        (
            "5:107: devices.sdm-12.points.heat.mean: a mean over 10min needs several reads:"
            " write `every: 1min`, or a longer `mean`"
        ),
    ),
    "two uplinks to one recipient": (
        SMALL + "  second: {recipient: energie.metropole.example, transport: mqtt,"
        ' url: "mqtts://192.168.10.6"}\n',
        (
            '8:23: uplinks.second.recipient: "energie.metropole.example" already receives through'
            ' "metropole" in line 7: a recipient has one uplink, so delete one of the two'
        ),
    ),
    "a policy that is not there": (
        SMALL + "privacy: {policy: FR1}\n",
        '8:19: privacy.policy: expected "FR-1" or "DEMO-1", found "FR1"; did you mean "FR-1"?',
    ),
    "the demonstration's policy in a real building": (
        SMALL + "privacy: {policy: DEMO-1}\n",
        (
            '8:19: privacy.policy: DEMO-1 is for a demonstration: write "FR-1",'
            " since links.plant is not on loopback"
        ),
    ),
    "the computer's clock in a real building": (
        SMALL + "clock: {source: system}\n",
        (
            '8:17: clock.source: "system" is for a demonstration, for it trusts a clock'
            ' that may be wrong: write "ntp",'
            " since links.plant is not on loopback"
        ),
    ),
    "a demonstration whose platform is elsewhere": (
        changed("mqtt://127.0.0.1:1883", "mqtts://127.0.0.1.example.com:1883", LOOPBACK),
        (
            '10:19: privacy.policy: DEMO-1 is for a demonstration: write "FR-1",'
            " since uplinks.here is not on loopback"
        ),
    ),
    "a demonstration that puts files into a folder": (
        changed(
            'mqtt, url: "mqtt://127.0.0.1:1883"', "files, container: none, path: /srv/out", LOOPBACK
        ),
        (
            '10:19: privacy.policy: DEMO-1 is for a demonstration: write "FR-1",'
            " since uplinks.here is a folder, which others may fetch from"
        ),
    ),
    "a basis without its date": (
        SMALL + "privacy: {common: {basis: AG du 12 mai}}\n",
        (
            "8:11: privacy.common: `from` is missing (the first day on which they may be sent),"
            " such as `from: 2026-07-12`"
        ),
    ),
    "a date as it is said in French": (
        SMALL + "privacy: {common: {basis: AG, from: 12/07/2026}}\n",
        '8:37: privacy.common.from: expected a date such as 2026-07-12, found "12/07/2026"',
    ),
    "a day that does not exist": (
        SMALL + "privacy: {common: {basis: AG, from: 2026-02-30}}\n",
        '8:37: privacy.common.from: no such day: "2026-02-30"',
    ),
    "a size without a unit": (
        SMALL + "spool: {max: 200}\n",
        (
            "8:14: spool.max: expected a size such as 200MB, found 200;"
            ' write "200MB" if that is what you mean'
        ),
    ),
    "a spool too small to work": (
        SMALL + "spool: {max: 200kB}\n",
        "8:14: spool.max: expected at least 4MB, found 200kB",
    ),
    "a flush too short": (
        SMALL + "spool: {flush: 10ms}\n",
        "8:16: spool.flush: expected at least 100ms, found 10ms",
    ),
    "a folder from nowhere": (
        SMALL + "state: var/lib/gardien\n",
        '8:8: state: expected an absolute path, /…, found "var/lib/gardien"',
    ),
    "a name with a blank": (
        changed("sdm-12:", "sdm 12:"),
        "5:3: devices.sdm 12: a name has letters, digits, - and _ only, at most 64 of them",
    ),
    "a key given twice": (
        changed("address: 12", "address: 12, address: 13"),
        ("5:38: devices.sdm-12.address: this key occurs twice, first in line 5: keep one of them"),
    ),
    "a section given twice": (
        SMALL + "links: {}\n",
        (
            "8:1: links: `links:` occurs twice, first in line 2: delete this line, and put what is"
            " below it under the first one"
        ),
    ),
    "a tag of another program": (
        changed("{name: Les Alpins}", "!secret building"),
        '1:11: building: the tag "!secret" is not supported: delete it',
    ),
    "a template that was not filled in": (
        changed("{name: Les Alpins}", "{{ building }}"),
        "1:12: building: a key is one word; if `{{ … }}` stands here, a template was not filled in",
    ),
    "no building": (
        changed("building: {name: Les Alpins}\n", ""),
        "1:1: `building` is missing, such as `building: {name: Résidence Les Alpins}`",
    ),
}

NOT_YAML = {
    "a tab": (
        changed("  sdm-12", "\tsdm-12"),
        "5:1: this line is indented with a tab: use two spaces for each level",
    ),
    "a tab among spaces": (
        changed("  sdm-12", "  \tsdm-12"),
        "5:3: this line is indented with a tab: use two spaces for each level",
    ),
    "a tab in a value": (
        changed("Les Alpins", "Les\tAlpins"),
        "1:21: there is a tab here: replace it with a space",
    ),
    "a tab behind a value": (
        SMALL + "state: /tmp/x\t# for now\n",
        "8:14: there is a tab here: replace it with a space",
    ),
    "a tab behind a colon": (
        SMALL + "state:\t/tmp/x\n",
        "8:7: there is a tab here: replace it with a space",
    ),
    "an open quote": (
        'building:\n  name: "Alpins\n',
        "2:9: the quote that opens here is never closed",
    ),
    "an open bracket": (
        changed("host: 192.168.10.20}", "host: 192.168.10.20"),
        "4:8: a `,` or the closing `}` is missing before this",
    ),
    "a value with a colon": (
        "building:\n  name: Alpins: the south\n",
        (
            "2:15: a `key:` cannot stand here: this line is indented deeper than the line before,"
            " or that line lacks its `:`, or a value that contains `: ` needs quotes around it"
        ),
    ),
    "a line out of line": (
        "building:\n  name: x\n timezone: Europe/Paris\n",
        (
            "3:2: this line does not line up with the lines before it: lines that belong together"
            " begin in the same column"
        ),
    ),
    "a colon left out": (
        "building:\n  name: x\n  place\n",
        "3:3: a `:` is missing: each line reads `key: value`",
    ),
    "an at sign": (
        changed("Les Alpins", "@home"),
        "1:18: a value cannot begin with `@`: put it in quotes",
    ),
    "a Windows path in double quotes": (
        SMALL + 'state: "C:\\gardien"\n',
        (
            "8:12: in double quotes `\\` begins an escape: write `\\\\`, or put the text in single"
            " quotes"
        ),
    ),
    "a character that does not exist": (
        SMALL + 'state: "\\UFFFFFFFF"\n',
        "8:7: what follows cannot be read as YAML: write it differently",
    ),
    "brackets without end": (
        SMALL + "state: " + "[" * 2000 + "\n",
        "8:29: nested too deeply for a configuration",
    ),
    "an alias of nothing": (
        changed("Les Alpins", "*name"),
        "1:18: no `&name` stands before this `*name`",
    ),
    "an alias of itself": (
        "building: &b {name: *b}\n",
        "1:11: this alias contains itself: write out its content",
    ),
    "two documents": (
        SMALL + "---\nlinks: {}\n",
        "8:1: a second document begins here (`---`): the file holds one",
    ),
    "a control character": (
        changed("Les Alpins", "Les\x07Alpins"),
        "1:21: the character U+0007 cannot stand in a configuration: delete it",
    ),
    "an empty file": ("", "1:1: the file is empty: begin with a copy of config.example.yaml"),
    "only comments": (
        "# nothing yet\n",
        "1:1: the file is empty: begin with a copy of config.example.yaml",
    ),
    "a list": (
        "- building\n",
        "1:1: expected a mapping, one `name: …` a line from the first column on, found a list",
    ),
    "a sentence": (
        "see config.example.yaml\n",
        (
            "1:1: expected a mapping, one `name: …` a line from the first column on,"
            ' found "see config.example.yaml"'
        ),
    ),
}


def test_a_list_whose_entries_are_wrong_is_not_called_too_short():
    (only,) = told(changed("channels: [heat]", "channels: [foo]", FORMS))
    assert "privacy.forms.asks.1.channels.1" in only
    (short,) = told(changed("channels: [heat]", "channels: []", FORMS))
    assert "expected at least so many entries: 1" in short


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_place_and_a_remedy(mistake):
    """Rules P2, C15, U2, U6."""
    text, expected = MISTAKES[mistake]
    assert f"config.yaml:{expected}" in told(text)


@pytest.mark.parametrize(
    ("line", "device"),
    [
        ("driver: mbus, port: COM3", 'address: "45123456", every: 1h'),
        ("driver: m-bus, port: /dev/ttyUSB0", 'address: "45123456"'),
        ("driver: mbus, port: /dev/ttyUSB0", 'address: "45123456", every: daily'),
    ],
)
def test_one_mistake_is_not_told_as_two(line, device):
    text = changed("driver: modbus-tcp, host: 192.168.10.20", line)
    assert len(told(text.replace("address: 12, profile: eastron-sdm120", device))) == 1


@pytest.mark.parametrize("mistake", NOT_YAML)
def test_what_is_no_yaml_is_told_in_our_own_words(mistake):
    text, expected = NOT_YAML[mistake]
    assert told(text) == [f"config.yaml:{expected}"]


@pytest.mark.parametrize("text", [TWO, PLANT, SMALL, LOOPBACK, CONTROLLER])
def test_what_the_mistakes_were_made_in_is_right_without_them(text):
    parse(text, "config.yaml")


@pytest.mark.parametrize(
    ("zone", "meant"),
    [
        ("Europe/Pari", "Europe/Paris"),
        ("america/chicgo", "America/Chicago"),
        ("rome", "Europe/Rome"),
    ],
)
def test_a_misspelt_time_zone_is_suggested(zone, meant):
    (line,) = told(changed("Les Alpins}", f"Les Alpins, timezone: {zone}}}"))
    assert line.endswith(f'no time zone "{zone}"; did you mean "{meant}"?')


@pytest.mark.parametrize(
    "zone", ["Europe/Lyon", "Europe/Marseille", "France", "Lyon", "x/y/z", "CEST", "GMT+1"]
)
def test_a_city_without_a_time_zone_is_not_taken_for_another_city(zone):
    (line,) = told(changed("Les Alpins}", f"Les Alpins, timezone: {zone}}}"))
    assert "did you mean" not in line
    assert 'For France write "Europe/Paris"' in line


@pytest.mark.parametrize("host", ["10.0.0.5", "::1", "3com.example", "meter-3", "192-168.local"])
def test_names_and_addresses_are_hosts(host):
    parse(changed("192.168.10.20", f'"{host}"'), "config.yaml")


def told(text):
    with pytest.raises(ConfigError) as refused:
        parse(text, "config.yaml")
    return str(refused.value).splitlines()


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file():
    text = changed("Les Alpins}", "Les Alpins, place: X}", TWO)
    text = changed("192.168.10.20", "192.168.10.20, port: x", text)
    text = changed("address: 13, profile: eastron-sdm120", "adress: 13", text)
    text = changed(
        "address: 12, profile: eastron-sdm120", "address: 12, profile: y, every: 1", text
    )
    lines = told(text + "clock: {source: gps}\n")
    assert [int(line.split(":")[1]) for line in lines] == [1, 3, 5, 5, 6, 9]


def test_a_wrong_point_hides_nothing_of_the_other_points():
    points = "points: {a: {at: x}, b: {at: holding/1/int16, every: 3}, c: {scale: none}}}"
    told_of = " ".join(told(changed(METER, points)))
    assert all(f"devices.sdm-12.points.{name}" in told_of for name in "abc")


def test_after_a_hundred_problems_the_rest_is_left_out():
    many = "".join(f"k{number}: 1\n" for number in range(300))
    assert len(told(many)) == 100


def test_a_profile_for_another_driver_is_refused_with_both_named():
    report = ProblemReport("config.yaml", read(SMALL))
    draft = compose(read(SMALL).data, report, Profiles())
    draft.links["plant"] = LinkConfig.model_construct(driver="mbus", settings=None)
    pointcheck(draft)
    (problem,) = report.problems()
    assert str(problem) == (
        "config.yaml:5:47: devices.sdm-12.profile:"
        ' "eastron-sdm120" is a profile for modbus, but "plant" speaks mbus'
    )


def test_a_password_in_a_url_is_refused_without_a_word_of_it():
    lines = told(changed("mqtts://192.168.10.5", "mqtts://user:hunter2@192.168.10.5"))
    assert len(lines) == 1
    assert "uplinks.metropole.url" in lines[0]
    assert "hunter2" not in lines[0]


def test_what_a_value_holds_cannot_command_a_terminal_or_break_a_line():
    lines = told(changed("Les Alpins", '"x", place: "\\e[31m\\nB"'))
    assert len(lines) == 1
    assert lines[0].isprintable()


def test_half_a_character_is_told_and_does_no_harm():
    lines = told(changed("Les Alpins", '"x", place: "B\\uD800"'))
    assert "this is half a character" in lines[1]
    assert all(line.isprintable() for line in lines)


def test_a_file_in_another_encoding_is_told_at_its_first_foreign_byte(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_bytes(EXAMPLE.read_text(encoding="utf-8").encode("cp1252"))
    with pytest.raises(ConfigError, match=r":7:10: not UTF-8 from here on"):
        load(file)
    file.write_bytes(SMALL.encode("utf-16"))
    with pytest.raises(ConfigError, match=":1:1: this file is in UTF-16: save it as UTF-8"):
        load(file)


def test_a_byte_order_mark_and_windows_line_ends_are_nobodys_mistake(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load(file).building.name == "Les Alpins"


def test_a_file_of_a_megabyte_is_not_read(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="larger than 1,000,000 bytes"):
        load(file)
