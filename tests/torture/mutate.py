"""Bytes made wrong: the ways in which foreign bytes differ from right ones."""

from __future__ import annotations

import random
import re

NUMBER = re.compile(rb"-?[0-9][0-9.]*")
EXTREMES = (
    b"0", b"-1", b"255", b"65536", b"4294967296", b"9007199254740993", b"18446744073709551616",
    b"-9223372036854775809", b"1e999", b"1E-400", b"1e9999999999999999999", b"NaN", b"9" * 5_000,
    b"0.1", b"00", b"0x10", b"1_0",
)  # fmt: skip
NESTS = (b"[", b'{"a":', b"(", b"- ", b"<a>", b"{", b'["', b"&a ", b"\x3e")
LENGTHS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def flip(raw: bytearray, dice: random.Random, _: bytes) -> None:
    """Some bits."""
    for _n in range(dice.randint(1, 4)):
        if raw:
            raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)


def put(raw: bytearray, dice: random.Random, _: bytes) -> None:
    """Some bytes of no meaning."""
    at = dice.randint(0, len(raw))
    raw[at : at + dice.randint(0, 8)] = dice.randbytes(dice.randint(0, 8))


def cut(raw: bytearray, dice: random.Random, _: bytes) -> None:
    """The end."""
    del raw[dice.randint(0, len(raw)) :]


def drop(raw: bytearray, dice: random.Random, _: bytes) -> None:
    """A part in the middle."""
    at = dice.randint(0, len(raw))
    del raw[at : at + dice.randint(1, 40)]


def splice(raw: bytearray, dice: random.Random, other: bytes) -> None:
    """A part of another one in the place of some of it."""
    at, start = dice.randint(0, len(raw)), dice.randint(0, len(other))
    raw[at : at + dice.randint(0, 40)] = other[start : start + dice.randint(1, 200)]


def repeat(raw: bytearray, dice: random.Random, _: bytes) -> None:
    """A part over and over."""
    at = dice.randint(0, len(raw))
    part = bytes(raw[at : at + dice.randint(1, 60)])
    raw[at:at] = part * dice.choice((1, 2, 9, 200))


def length(raw: bytearray, dice: random.Random, _: bytes) -> None:
    """A field of one, two or four bytes at an extreme: most of them are lengths and counts."""
    size = dice.choice((1, 1, 2, 2, 4))
    if len(raw) >= size:
        at = dice.randrange(min(len(raw), 64) if dice.random() < 0.5 else len(raw))
        value = dice.choice(LENGTHS) & ((1 << 8 * size) - 1)
        raw[at : at + size] = value.to_bytes(size, dice.choice(("big", "little")))


def number(raw: bytearray, dice: random.Random, _: bytes) -> None:
    """A written number at an extreme."""
    if found := list(NUMBER.finditer(raw)):
        one = dice.choice(found)
        raw[one.start() : one.end()] = dice.choice(EXTREMES)


def nest(raw: bytearray, dice: random.Random, _: bytes) -> None:
    """Brackets in brackets."""
    at = dice.randint(0, len(raw))
    raw[at:at] = dice.choice(NESTS) * dice.choice((5, 13, 60, 1_100))


OPERATORS = (flip, put, cut, drop, splice, repeat, length, number, nest)


def mutated(seeds: list[bytes], dice: random.Random, most: int) -> bytes:
    """One of the seeds, changed in one to three ways; at most so many bytes."""
    raw = bytearray(dice.choice(seeds))
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        dice.choice(OPERATORS)(raw, dice, dice.choice(seeds))
    return bytes(raw[:most])
