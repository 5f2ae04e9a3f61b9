"""Random streams, each independent of all others: a draw of one changes no other."""

from __future__ import annotations

import hashlib
import random


class Stream(random.Random):
    """A stream that can be pickled, also while `random` is that of a simulated life."""


class Chance:
    """All streams of a run. They are kept from one life to the next."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, Stream] = {}

    def of(self, name: str) -> Stream:
        """The stream of this name, where its last draw left it."""
        if name not in self._streams:
            self._streams[name] = seeded(f"{self.seed}/{name}")
        return self._streams[name]


def seeded(text: object) -> Stream:
    """A new stream; texts that differ in anything give streams that differ in everything."""
    return Stream(int.from_bytes(hashlib.sha256(str(text).encode()).digest()[:8], "big"))
