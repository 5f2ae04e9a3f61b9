"""The slow hash of passwords. The page computes it, so that the daemon needs no memory for it."""

from __future__ import annotations

import asyncio
import ctypes

from argon2.low_level import Type, hash_secret_raw

MEMORY, PASSES, LENGTH = 7_168, 5, 32
"""KiB, passes and bytes of argon2id with one lane: of the pairs that OWASP advises, the smallest"""
_one_at_a_time = asyncio.Semaphore(1)
_malloc_trim = ctypes.CDLL(None).malloc_trim


async def slow_key(password: str, salt: bytes) -> str:
    """Return what the daemon compares, in hexadecimal. One is computed at a time."""
    async with _one_at_a_time:
        return await asyncio.to_thread(_key, password.encode()[:1024], salt)


def _key(password: bytes, salt: bytes) -> str:
    # this is when the process is largest: what the pages before have left is given back first
    _malloc_trim(0)
    key: bytes = hash_secret_raw(password, salt, PASSES, MEMORY, 1, LENGTH, Type.ID)
    return key.hex()
