"""The meaning of VIF and VIFE codes: the tables of EN 13757-3 as text, expanded once at import.

A row is `bits | quantity | unit | exponent | kind`. A letter in the bits is a bit that varies. The
number in the bits `n` is added to the exponent; if the exponent is a key of `WALKS`, it selects the
unit there instead. `f` as exponent is the factor 2^-12 of heat cost allocators. Kinds: `C`
unsigned, `D` bits (unsigned), `T` date or time by its length, `I` identification (digits are text),
`X` bytes shown as they are; none: `B`, signed.
"""

from __future__ import annotations

from typing import NamedTuple

WALKS = {
    "time": ("s", "min", "h", "d"),
    "long": ("h", "d", "month", "year"),
    "end": ("month", "year"),
}

PRIMARY = """
0000nnn|energy|Wh|-3
0001nnn|energy|J|0
0010nnn|volume|m3|-6
0011nnn|mass|kg|-3
01000nn|on time||time
01001nn|operating time||time
0101nnn|power|W|-3
0110nnn|power|J/h|0
0111nnn|volume flow|m3/h|-6
1000nnn|volume flow|m3/min|-7
1001nnn|volume flow|m3/s|-9
1010nnn|mass flow|kg/h|-3
10110nn|flow temperature|Cel|-3
10111nn|return temperature|Cel|-3
11000nn|temperature difference|K|-3
11001nn|external temperature|Cel|-3
11010nn|pressure|bar|-3
110110p|time point||0|T
1101110|HCA units|1|0
11100nn|averaging duration||time
11101nn|actuality duration||time
1111000|fabrication number||0|I
1111001|enhanced identification||0|I
1111010|bus address||0|C
1111110|any VIF||0
1111111|manufacturer specific||0
"""
"""EN 13757-3, primary VIF codes; 7B, 7C, 7D and 6F lead to other tables"""

FB = """
000000n|energy|Wh|5
000001n|reactive energy|varh|3
000010n|apparent energy|VAh|3
000100n|energy|J|8
00011nn|energy|cal|5
001000n|volume|m3|2
00101nn|reactive power|var|0
001100n|mass|kg|5
001101n|relative humidity|%RH|-1
0100000|volume|ft3|0
0100001|volume|ft3|-1
0100010|volume|gal|-1
0100011|volume|gal|0
0100100|volume flow|gal/min|-3
0100101|volume flow|gal/min|0
0100110|volume flow|gal/h|0
010100n|power|W|5
0101010|phase U-U|deg|-1
0101011|phase U-I|deg|-1
01011nn|frequency|Hz|-3
011000n|power|J/h|8
01101nn|apparent power|VA|0
10110nn|flow temperature|degF|-3
10111nn|return temperature|degF|-3
11000nn|temperature difference|degF|-3
11001nn|external temperature|degF|-3
1101000|resulting rating factor K|1|f
1101001|thermal output rating factor KQ|W|0
1101010|overall thermal coupling rating factor KC|1|f
1101011|room side thermal coupling rating factor KCR|1|f
1101100|heater side thermal coupling rating factor KCH|1|f
1101101|low temperature rating factor KT|1|f
1101110|display output scaling factor KD|1|f
11100nn|temperature limit|degF|-3
11101nn|temperature limit|Cel|-3
1111nnn|cumulated maximum of power|W|-3
"""
"""first extension (FB); the non-metric rows are of the editions before 2018"""

FD = """
00000nn|credit|currency|-3
00001nn|debit|currency|-3
0001000|access number||0|C
0001001|device type||0|C
0001010|manufacturer||0|C
0001011|parameter set identification||0|C
0001100|model version||0|C
0001101|hardware version||0|C
0001110|firmware version||0|C
0001111|software version||0|C
0010000|customer location||0|C
0010001|customer||0|C
0010010|access code of user||0|C
0010011|access code of operator||0|C
0010100|access code of system operator||0|C
0010101|access code of developer||0|C
0010110|password||0|C
0010111|error flags||0|D
0011000|error mask||0|D
0011001|security key||0|X
0011010|digital output||0|D
0011011|digital input||0|D
0011100|baud rate|Bd|0|C
0011101|response delay time|bit times|0|C
0011110|retries|1|0|C
0011111|remote control||0|D
0100000|first storage number||0|C
0100001|last storage number||0|C
0100010|size of storage block|1|0|C
0100011|descriptor of tariff and subunit||0|D
01001nn|storage interval||time
0101000|storage interval|month|0
0101001|storage interval|year|0
0101010|operator specific data||0|X
0101011|time point, second|s|0
01011nn|time since last readout||time
0110000|start of tariff||0|T
01100nn|duration of tariff||time
01101nn|period of tariff||time
0111000|period of tariff|month|0
0111001|period of tariff|year|0
0111010|dimensionless|1|0
0111011|wireless M-Bus container||0|X
01111nn|period of nominal transmission||time
100nnnn|voltage|V|-9
101nnnn|current|A|-12
1100000|reset counter|1|0
1100001|cumulation counter|1|0
1100010|control signal||0
1100011|day of week||0
1100100|week number||0
1100101|time of day change||0|T
1100110|state of parameter activation||0
1100111|supplier information||0
11010nn|time since last cumulation||long
11011nn|battery operating time||long
1110000|battery change||0|T
1110001|RF level|dBm|0
1110010|daylight saving||0|X
1110011|listening window||0|X
1110100|remaining battery life|d|0
1110101|meter stops|1|0
1110110|manufacturer's container||0|X
"""
"""second extension (FD)"""

FDFD = """
0000000|selected application||0
000001n|remaining battery life||end
"""
"""second level of the second extension (FD FD)"""


class CodeMeaning(NamedTuple):
    """The meaning of one code."""

    quantity: str
    unit: str = ""
    exponent: int = 0
    kind: str = "B"
    factor: int = 1
    """multiplies the integer, before the exponent"""


RESERVED = CodeMeaning("reserved")


def matches(bits: str, code: int) -> dict[str, int] | None:
    """The value of each letter of `bits` in a 7-bit code; None if a fixed bit differs."""
    letters: dict[str, int] = {}
    for wanted, bit in zip(bits, f"{code:07b}", strict=True):
        if wanted in "01":
            if wanted != bit:
                return None
        else:
            letters[wanted] = letters.get(wanted, 0) * 2 + int(bit)
    return letters


def page(text: str) -> tuple[CodeMeaning, ...]:
    """The meanings of the 128 codes; for each, the first line of the text that matches counts."""
    lines = [line.split("|") for line in text.split("\n") if line]
    return tuple(_row(lines, code) for code in range(128))


def _row(lines: list[list[str]], code: int) -> CodeMeaning:
    for bits, quantity, unit, exponent, *kind in lines:
        letters = matches(bits, code)
        if letters is None:
            continue
        if exponent in WALKS:
            return CodeMeaning(quantity, WALKS[exponent][letters["n"]])
        if exponent == "f":
            # 2^-12 = 5^12 / 10^12, so that the value stays an exact decimal
            return CodeMeaning(quantity, unit, -12, "B", 5**12)
        return CodeMeaning(
            quantity, unit, int(exponent) + letters.get("n", 0), kind[0] if kind else "B"
        )
    return RESERVED


PRIMARY_PAGE, FB_PAGE, FD_PAGE, FDFD_PAGE = page(PRIMARY), page(FB), page(FD), page(FDFD)
