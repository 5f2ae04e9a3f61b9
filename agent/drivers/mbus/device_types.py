"""Names of device types and status bits (EN 13757-7)."""

from __future__ import annotations

MEDIA = {
    0x00: "other",
    0x01: "oil",
    0x02: "electricity",
    0x03: "gas",
    0x04: "heat",
    0x05: "steam",
    0x06: "warm water",
    0x07: "water",
    0x08: "heat cost allocator",
    0x09: "compressed air",
    0x0A: "cooling (outlet)",
    0x0B: "cooling (inlet)",
    0x0C: "heat (inlet)",
    0x0D: "heat and cooling",
    0x0E: "bus or system component",
    0x0F: "unknown",
    0x10: "irrigation water",
    0x11: "water data logger",
    0x12: "gas data logger",
    0x13: "gas converter",
    0x14: "calorific value",
    0x15: "hot water",
    0x16: "cold water",
    0x17: "dual water",
    0x18: "pressure",
    0x19: "A/D converter",
    0x1A: "smoke detector",
    0x1B: "room sensor",
    0x1C: "gas detector",
    0x20: "breaker (electricity)",
    0x21: "valve (gas or water)",
    0x25: "customer unit",
    0x28: "waste water",
    0x29: "garbage",
    0x31: "communication controller",
    0x32: "unidirectional repeater",
    0x33: "bidirectional repeater",
    0x36: "radio converter (system side)",
    0x37: "radio converter (meter side)",
}

MAKERS = (
    *("ABB", "ACW", "AMT", "APA", "AQU", "AXI", "BAR", "BER", "BHG", "BMT", "CET", "CLO"),
    *("DME", "DZG", "EDC", "EFE", "EGM", "ELR", "ELS", "ELV", "EMH", "EMU", "ENT", "ESY"),
    *("EVL", "GAV", "GDN", "GMC", "GWF", "HYD", "INV", "ISK", "IST", "ITR", "ITW", "JAN"),
    *("KAM", "LGB", "LGZ", "LSE", "LUG", "MET", "NES", "NZR", "PAD", "PII", "QDS", "RAY"),
    *("REL", "SBC", "SCH", "SEN", "SEO", "SIE", "SLB", "SON", "SPX", "SVM", "TCH", "TEC"),
    *("TRL", "UAG", "VTK", "WEP", "WMO", "ZAG", "ZRI"),
)
"""makers of wired meters. A selection cannot have wildcards inside a maker, so all are tried"""

_STATES = ("", "application busy", "application error", "alarm")
_BITS = ((0x04, "power low"), (0x08, "permanent error"), (0x10, "temporary error"))


def medium(code: int | None) -> str:
    """The name of a device type."""
    return "unknown" if code is None else MEDIA.get(code, f"reserved ({code:02X}h)")


def status(code: int | None) -> str:
    """A status byte in words; the manufacturer defines its upper three bits."""
    if code is None:
        return "not given"
    parts = [_STATES[code & 0x03], *(text for bit, text in _BITS if code & bit)]
    if code >> 5:
        parts.append(f"manufacturer's bits {code & 0xE0:02X}h")
    return ", ".join(text for text in parts if text) or "no error"
