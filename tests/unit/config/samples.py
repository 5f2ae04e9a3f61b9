"""The sample and small files made from it."""

from __future__ import annotations

from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "config.example.yaml"

OWN_VALUES = {
    "Résidence Les Alpins": "Les Ecrins",
    "  place: B6ASQ-Z1Y2K-SAA3Y ": "  # place: none ",
    "place: CZS2Y-FSTBQ-Q5WDC": "# place: none",
    "energie.metropole.example": "energie.ville.example",
    "//platform.example": "//platform.ville.example",
    "AG du 12 mai 2026, résolution 14": "AG du 3 juin 2026, résolution 2",
    "//pki.example": "//pki.ville.example",
}
"""what a building writes instead of the sample's values"""

SMALL = """\
building: {name: Les Alpins}
links:
  plant: {driver: modbus-tcp, host: 192.168.10.20}
devices:
  sdm-12: {link: plant, address: 12, profile: eastron-sdm120}
uplinks:
  metropole: {recipient: energie.metropole.example, transport: mqtt, url: "mqtts://192.168.10.5"}
"""

LOOPBACK = """\
building: {name: Demo}
links:
  one: {driver: modbus-tcp, host: 127.0.0.1, port: 1502}
  two: {driver: modbus-tcp, host: "::1"}
  three: {driver: modbus-tcp, host: localhost}
devices:
  sdm-1: {link: one, address: 1, profile: eastron-sdm120, every: 1s}
uplinks:
  here: {recipient: platform.example, transport: mqtt, url: "mqtt://127.0.0.1:1883", seal: 1s}
privacy: {policy: DEMO-1}
clock: {source: system}
state: /tmp/gardien-demo
spool: {flush: 1s}
"""


def changed(before: str, after: str, text: str = SMALL) -> str:
    """The text with one thing changed; fails where there is nothing to change."""
    assert text.count(before) == 1, before
    return text.replace(before, after)


def edited_sample() -> str:
    """The sample as a building uses it: nothing in it but its own values."""
    text = EXAMPLE.read_text(encoding="utf-8")
    for sample, own in OWN_VALUES.items():
        assert sample in text, sample
        text = text.replace(sample, own)
    return text
