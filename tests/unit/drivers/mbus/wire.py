"""Telegrams for the tests, put together from the standard, not from the decoder's tables."""

from __future__ import annotations

from agent.drivers.mbus.decode import MeterValue, Telegram, decode

HEADER = "78 56 34 12 2D 2C 01 04 55 00 00 00"
"""id 12345678, KAM, version 1, heat, access number 55h, status 0, no security"""


def long_frame(payload: bytes, ci: int = 0x72, control: int = 0x08, address: int = 1) -> bytes:
    counted = bytes((control, address, ci)) + payload
    length = len(counted)
    return bytes((0x68, length, length, 0x68)) + counted + bytes((sum(counted) % 256, 0x16))


def telegram(records: str, ci: int = 0x72, header: str = HEADER) -> Telegram:
    return decode(long_frame(bytes.fromhex(header + records), ci))


def one(record: str, header: str = HEADER) -> MeterValue:
    (found,) = telegram(record, header=header).records
    return found
