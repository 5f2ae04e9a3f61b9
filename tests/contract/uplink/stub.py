"""A broker of ours that does what a real one does only in its worst hours (MQTT 5.0).

It speaks just enough: CONNACK with given properties, SUBACK, and for each PUBLISH the reason code
that it was told, or none at all.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x80, 0x90
RECEIVE_MAXIMUM, SERVER_KEEP_ALIVE, MAXIMUM_PACKET = 0x21, 0x13, 0x27


class Stub:
    """What it saw, and what it is to say."""

    def __init__(
        self, properties: bytes, answer: Callable[[str], int | None], versions: tuple[int, ...]
    ) -> None:
        self.port = 0
        self.keepalives: list[int] = []
        """of each CONNECT"""
        self.published: list[tuple[str, int]] = []
        """topic and packet id of each PUBLISH"""
        self.payloads: list[tuple[int, bytes]] = []
        """packet id and what was said, of each batch"""
        self.unanswered: list[int] = []
        self.version = 0
        """of the last CONNECT"""
        self._versions = versions
        self._properties = properties
        self._answer = answer
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                kind, body = await _packet(reader)
                self._react(kind & 0xF0, body, writer)
        writer.transport.abort()

    def puback(self, packet_id: int, code: int) -> None:
        assert self._writer is not None
        reason = bytes([code, 0]) if self.version == 5 else b""
        head = bytes([PUBACK, 2 + len(reason)])
        self._writer.write(head + packet_id.to_bytes(2, "big") + reason)

    def _react(self, kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == CONNECT:
            self.keepalives.append(int.from_bytes(body[8:10], "big"))
            self.version = body[6]
            if self.version not in self._versions:
                writer.write(bytes([CONNACK, 2, 0, 1]))  # 3.1.1, 3.1.2.2: so, and hang up
                writer.close()
                return
            rest = bytes([0, 0])
            if self.version == 5:
                rest += bytes([len(self._properties)]) + self._properties
            writer.write(bytes([CONNACK, len(rest)]) + rest)
        elif kind == SUBSCRIBE:
            none = bytes([0]) if self.version == 5 else b""
            writer.write(bytes([SUBACK, 3 + len(none)]) + body[:2] + none + bytes([1]))
        elif kind == PUBLISH:
            size = int.from_bytes(body[:2], "big")
            topic = body[2 : 2 + size].decode()
            packet_id = int.from_bytes(body[2 + size : 4 + size], "big")
            self.published.append((topic, packet_id))
            if "/up/" in topic:
                none = 1 if self.version == 5 else 0  # 3.3.2.3: we send no properties
                self.payloads.append((packet_id, body[4 + size + none :]))
            code = 0 if topic.endswith("/status") else self._answer(topic)
            if code is None:
                self.unanswered.append(packet_id)
            else:
                self.puback(packet_id, code)

    @property
    def batches(self) -> list[int]:
        return [packet_id for topic, packet_id in self.published if "/up/" in topic]


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind, size, shift = (await reader.readexactly(1))[0], 0, 0
    while True:
        byte = (await reader.readexactly(1))[0]
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return kind, await reader.readexactly(size)


@asynccontextmanager
async def stub(
    properties: bytes = b"",
    answer: Callable[[str], int | None] = lambda _: 0,
    versions: tuple[int, ...] = (4, 5),
) -> AsyncIterator[Stub]:
    """Listen on loopback for as long as the block."""
    it = Stub(properties, answer, versions)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        if it._writer:
            it._writer.transport.abort()
        await asyncio.sleep(0)
