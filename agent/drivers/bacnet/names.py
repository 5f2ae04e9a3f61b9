"""Names of BACnet's numbers: objects, properties, errors, units (135-2020, clauses 12 and 21).

Only those that occur in buildings. Any other object or property can be written as its number.
"""

from __future__ import annotations

from types import MappingProxyType

from agent.core.quantities import spoken

OBJECTS = MappingProxyType(
    {
        "analog-input": 0, "analog-output": 1, "analog-value": 2, "binary-input": 3,
        "binary-output": 4, "binary-value": 5, "calendar": 6, "command": 7, "device": 8,
        "event-enrollment": 9, "file": 10, "group": 11, "loop": 12, "multi-state-input": 13,
        "multi-state-output": 14, "notification-class": 15, "program": 16, "schedule": 17,
        "averaging": 18, "multi-state-value": 19, "trend-log": 20, "life-safety-point": 21,
        "life-safety-zone": 22, "accumulator": 23, "pulse-converter": 24, "event-log": 25,
        "global-group": 26, "trend-log-multiple": 27, "load-control": 28, "structured-view": 29,
        "access-door": 30, "timer": 31, "bitstring-value": 39, "characterstring-value": 40,
        "date-value": 42, "datetime-value": 44, "integer-value": 45, "large-analog-value": 46,
        "octetstring-value": 47, "positive-integer-value": 48, "time-value": 50,
        "notification-forwarder": 51, "channel": 53, "lighting-output": 54,
        "binary-lighting-output": 55, "network-port": 56, "elevator-group": 57, "escalator": 58,
        "lift": 59, "staging": 60,
    }
)  # fmt: skip

PROPERTIES = MappingProxyType(
    {
        "active-text": 4, "apdu-timeout": 11, "application-software-version": 12,
        "cov-increment": 22, "description": 28, "event-state": 36, "firmware-revision": 44,
        "inactive-text": 46,
        "local-date": 56, "local-time": 57, "location": 58, "max-apdu-length-accepted": 62,
        "max-pres-value": 65, "min-pres-value": 69, "model-name": 70, "number-of-states": 74,
        "object-identifier": 75, "object-list": 76, "object-name": 77, "object-type": 79,
        "out-of-service": 81, "present-value": 85, "priority-array": 87, "reliability": 103,
        "relinquish-default": 104, "segmentation-supported": 107, "state-text": 110,
        "status-flags": 111, "system-status": 112, "units": 117, "vendor-identifier": 120,
        "vendor-name": 121, "scale": 187, "minimum-on-time": 67, "minimum-off-time": 66,
        "serial-number": 372,
    }
)  # fmt: skip

PRESENT_VALUE = PROPERTIES["present-value"]
STATUS_FLAGS = PROPERTIES["status-flags"]
PRIORITY_ARRAY = PROPERTIES["priority-array"]
RELINQUISH_DEFAULT = PROPERTIES["relinquish-default"]
OBJECT_LIST = PROPERTIES["object-list"]
OBJECT_NAME = PROPERTIES["object-name"]
DESCRIPTION = PROPERTIES["description"]
UNITS = PROPERTIES["units"]
SCALE = PROPERTIES["scale"]
MAX_APDU = PROPERTIES["max-apdu-length-accepted"]
DEVICE = OBJECTS["device"]
ACCUMULATOR = OBJECTS["accumulator"]

TYPE_NAMES = MappingProxyType({number: name for name, number in OBJECTS.items()})
PROPERTY_NAMES = MappingProxyType({number: name for name, number in PROPERTIES.items()})

UNRECOGNIZED_SERVICE = 9
REJECTED = -1
"""a reject for reason n has the code REJECTED - n, so that it differs from the codes of errors"""
REJECTS = (
    "reject: other", "buffer overflow", "inconsistent parameters", "invalid parameter datatype",
    "invalid tag", "missing required parameter", "parameter out of range", "too many arguments",
    "undefined enumeration", "unrecognized service",
)  # fmt: skip
ABORTS = (
    "abort: other", "buffer overflow", "invalid in this state", "preempted",
    "segmentation not supported", "security error", "insufficient security",
    "window size out of range",
    "application exceeded reply time", "out of resources", "timed out", "too long",
)  # fmt: skip
ERRORS = MappingProxyType(
    {
        0: "other error", 2: "configuration in progress", 3: "device busy", 9: "invalid data type",
        13: "invalid parameter data type", 20: "no space to write", 25: "operational problem",
        27: "read access denied", 29: "service request denied", 30: "timeout",
        31: "unknown object", 32: "unknown property", 36: "unsupported object type",
        37: "value out of range", 40: "write access denied", 41: "character set not supported",
        42: "invalid array index", 43: "subscription failed", 44: "not a COV property",
        45: "not supported", 47: "datatype not supported", 50: "property is not an array",
        19: "no space for another subscription", 72: "value not initialized",
        79: "unknown subscription", 82: "busy", 83: "communication disabled", 85: "access denied",
        132: "not configured", 133: "out of memory", 138: "invalid value in this state",
    }
)  # fmt: skip
UNKNOWN_OBJECT, UNKNOWN_PROPERTY = 31, 32

ENGINEERING_UNITS = MappingProxyType(
    {
        3: "A", 2: "mA", 5: "V", 124: "mV", 6: "kV", 7: "MV",
        47: "W", 132: "mW", 48: "kW", 49: "MW", 18: "Wh", 19: "kWh", 146: "MWh", 16: "J",
        17: "kJ", 126: "MJ", 8: "VA", 9: "kVA",
        10: "MVA", 11: "var", 12: "kvar", 13: "Mvar", 203: "varh", 204: "kvarh", 205: "Mvarh",
        242: "varh", 243: "kvarh", 244: "Mvarh", 239: "VAh", 240: "kVAh", 241: "MVAh",
        27: "Hz", 129: "kHz", 130: "MHz", 53: "Pa", 133: "mbar",  # a hectopascal
        54: "kPa", 134: "mbar", 55: "bar", 80: "m3", 82: "l", 197: "ml", 135: "m3/h",
        136: "l/h", 88: "l/min", 87: "l/s", 73: "s", 72: "min", 71: "h", 95: "1", 98: "%",
        96: "ppm", 97: "ppb", 29: "%RH", 37: "lx", 199: "dB", 62: "Cel", 63: None, 121: "K",
        90: "deg", 14: "deg", 15: "1",
    }
)  # fmt: skip
"""by BACnet's number of an engineering unit, the unit in gardien; None: no exact conversion"""
NO_UNITS = 95


def type_name(number: int) -> str:
    """The name of an object type, or its number if it has no name here."""
    return TYPE_NAMES.get(number, str(number))


def unit_name(number: int) -> str:
    """The name of an engineering unit for people, or its name in the standard."""
    from bacpypes3.basetypes import EngineeringUnits  # noqa: PLC0415 -- large, seldom needed

    ours = ENGINEERING_UNITS.get(number)
    if ours is None or ours == "1":
        return str(EngineeringUnits(number))
    return spoken(ours)


def reason_text(texts: tuple[str, ...], code: int) -> str:
    """The text for the reason of a reject or abort."""
    return texts[code] if code < len(texts) else f"reason {code}"
