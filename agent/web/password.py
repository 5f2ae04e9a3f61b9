"""The slow hash of passwords. The page computes it, so that the daemon needs no memory for it."""

from __future__ import annotations

import asyncio

from argon2.low_level import Type, hash_secret_raw

MEMORY, PASSES, LENGTH = 7_168, 5, 32
"""KiB, passes and bytes of argon2id with one lane: of the pairs that OWASP advises, the smallest"""
_one_at_a_time = asyncio.Semaphore(1)


async def slow_key(password: str, salt: bytes) -> str:
    """Return what the daemon compares, in hexadecimal. One is computed at a time."""
    async with _one_at_a_time:
        key: bytes = await asyncio.to_thread(
            hash_secret_raw, password.encode()[:1024], salt, PASSES, MEMORY, 1, LENGTH, Type.ID
        )
    return key.hex()
