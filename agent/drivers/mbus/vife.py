"""The modifiers that VIFEs add to a VIF: the combinable (orthogonal) table of EN 13757-3 as text.

A row is `bits | text | effect`. Effects: `per X` and `by X` change the unit, `scale N` shifts the
exponent by n + N, `add N` adds 10^(n+N) of the unit, `date`, `time` and `count` replace the VIF's
quantity, `profile` makes the value a list, `C` and `D` make it unsigned. Letters: `u` lower or
upper, `f` first or last, `b` begin or end, `n` a number, `p` a channel.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.drivers.mbus.tables import matches

COMBINABLE = """
0010010|average|
0010011|inverse compact profile|profile
0010100|relative deviation|
0011101|standard conform data content|
0011110|compact profile with register numbers|profile
0011111|compact profile|profile
0100000|per second|per s
0100001|per minute|per min
0100010|per hour|per h
0100011|per day|per d
0100100|per week|per week
0100101|per month|per month
0100110|per year|per year
0100111|per revolution|per rev
010100p|per input pulse on channel {p}|per pulse
010101p|per output pulse on channel {p}|per pulse
0101100|per litre|per l
0101101|per m3|per m3
0101110|per kg|per kg
0101111|per K|per K
0110000|per kWh|per kWh
0110001|per GJ|per GJ
0110010|per kW|per kW
0110011|per K and litre|per (K.l)
0110100|per V|per V
0110101|per A|per A
0110110|multiplied by s|by s
0110111|multiplied by s/V|by s/V
0111000|multiplied by s/A|by s/A
0111001|start of|date
0111010|uncorrected|
0111011|positive contributions only|
0111100|negative contributions only, absolute|
0111101|non-metric units|
0111110|at base conditions|
0111111|OBIS declaration|
100u000|{u} limit|
100u001|exceeds of {u} limit|count
100uf1b|{b} of {f} {u} limit exceed|date
101ufnn|duration of {f} {u} limit exceed|time
1100fnn|duration of {f}|time
1101u00|during {u} limit exceed|
1101001|leakage|
1101101|overflow|
1101f1b|{b} of {f}|date
1110nnn||scale -6
11110nn|corrected by a constant|add -3
1111101||scale 3
1111110|future value|
"""

EXTENSION = """
0000001|phase L1|
0000010|phase L2|
0000011|phase L3|
0000100|neutral|
0000101|between L1 and L2|
0000110|between L2 and L3|
0000111|between L3 and L1|
0001000|quadrant Q1|
0001001|quadrant Q2|
0001010|quadrant Q3|
0001011|quadrant Q4|
0001100|import minus export|
0001101|non-metric units|
0001110|secondary sensor|
0001111|higher resolution|
0010000|absolute value of both contributions|
0010001|unsigned|C
0010010|bits|D
"""
"""codes after FC; those that differ between editions (13h and higher) are left reserved"""

ERRORS = {
    0x00: "",
    0x01: "too many DIFEs",
    0x02: "storage number not implemented",
    0x03: "subunit not implemented",
    0x04: "tariff not implemented",
    0x05: "function not implemented",
    0x06: "data class not implemented",
    0x07: "data size not implemented",
    0x0B: "too many VIFEs",
    0x0C: "illegal VIF group",
    0x0D: "illegal VIF exponent",
    0x0E: "VIF does not fit DIF",
    0x0F: "action not implemented",
    0x15: "no data available",
    0x16: "data overflow",
    0x17: "data underflow",
    0x18: "data error",
    0x1C: "premature end of record",
}
"""VIFE E00x xxxx: the error that a meter reports for the record"""

ERROR_CODES = range(0x20)


class Vife(NamedTuple):
    """The meaning of one VIFE."""

    text: str
    """for people; "": the value itself already shows it"""
    effect: str = ""
    by: str = ""
    """parameter of the effect: a unit, an exponent or an error text"""


def _expand(text: str) -> tuple[Vife | None, ...]:
    lines = [line.split("|") for line in text.split("\n") if line]
    return tuple(_vife(lines, code) for code in range(128))


def _vife(lines: list[list[str]], code: int) -> Vife | None:
    for bits, text, effect in lines:
        letters = matches(bits, code)
        if letters is not None:
            return _filled(text, effect, letters)
    return None


def _filled(template: str, effect: str, letters: dict[str, int]) -> Vife:
    n = letters.get("n", 0)
    text = template.format(
        u=("lower", "upper")[letters.get("u", 0)],
        f=("first", "last")[letters.get("f", 0)],
        b=("begin", "end")[letters.get("b", 0)],
        p=letters.get("p", 0),
    )
    verb, _, by = effect.partition(" ")
    if verb == "time":
        by = ("s", "min", "h", "d")[n]
    elif verb in ("scale", "add"):
        by = str(int(by) + n)
    return Vife(text, verb, by)


def _error(code: int) -> Vife:
    text = ERRORS.get(code, f"reserved error code {code:02X}h")
    return Vife(text, "error", text)


COMBINABLE_PAGE = tuple(
    vife or (_error(code) if code in ERROR_CODES else Vife(f"reserved VIFE {code:02X}h"))
    for code, vife in enumerate(_expand(COMBINABLE))
)
EXTENSION_PAGE = tuple(
    vife or Vife(f"reserved VIFE FC {code:02X}h") for code, vife in enumerate(_expand(EXTENSION))
)
