"""Bounds for what an SFTP server sends, checked before paramiko parses it.

paramiko trusts counts and lengths: twenty bytes that claim four billion names fill the memory, as
many attributes take hours, and an SSH packet may claim four gigabytes. A timeout does not help,
since no read is waiting. So a packet must contain what it counts, and the bytes that answer one
request are limited.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from paramiko import SFTPError, SSHException
from paramiko.sftp import CMD_ATTRS, CMD_NAME
from paramiko.sftp_attr import SFTPAttributes as Attributes

if TYPE_CHECKING:
    from paramiko import Channel

LARGEST = 1_000_000
"""bytes of one packet; servers send 32 kB, and OpenSSH lists names in 256 kB at most"""
MOST_NAMES = 50_000
"""names in the answers to one request; paramiko needs 1 kB of memory for each"""
GREETING, MOST = 1_000_000, 32_000_000
"""bytes of SSH before the login is accepted, and in answer to one request. The largest file that we
read has 1.1 MB, and `MOST_NAMES` names take 10 MB
"""
ENDLESS = "it sends more than was requested"


class BoundedSocket(socket.socket):
    """A socket that limits how many bytes it receives for one request."""

    left = GREETING
    endless = False
    """the limit was exceeded, by this request or an earlier one"""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As `socket.recv`; raises SSHException, which paramiko passes on, beyond the limit."""
        data = super().recv(size, flags)
        self.left -= len(data)
        if self.left < 0:
            self.endless = True
            raise SSHException(ENDLESS)
        return data


class Checked:
    """An SFTP channel that refuses packets shorter than they claim."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._rest = b""
        self.names = 0
        """names received since the request began"""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def recv(self, size: int) -> bytes:
        """As `Channel.recv`; raises EOFError at the end, and SFTPError on a malformed packet."""
        if not self._rest:
            self._rest = self._packet()
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def _packet(self) -> bytes:
        head = self._exactly(4)
        if (size := int.from_bytes(head)) > LARGEST:
            raise SFTPError(f"a packet of {size} bytes")
        body = self._exactly(size)
        self.names += counted(body)
        if self.names > MOST_NAMES:
            raise SFTPError(f"more than {MOST_NAMES} names in one folder")
        return head + body

    def _exactly(self, size: int) -> bytes:
        buffer = bytearray()
        while len(buffer) < size:
            if not (data := self._channel.recv(size - len(buffer))):
                raise EOFError
            buffer += data
        return bytes(buffer)


def counted(packet: bytes) -> int:
    """The number of names in a packet (without its length field).

    Raises SFTPError if the packet is shorter than it claims (draft-ietf-secsh-filexfer-02, 5, 7).
    """
    kind, at = packet[:1], 5  # after the type and the request id
    if kind == bytes((CMD_ATTRS,)):
        _attributes(packet, at)
    if kind != bytes((CMD_NAME,)):
        return 0
    count, at = _number(packet, at)
    for _ in range(count):
        at = _attributes(packet, _text(packet, _text(packet, at)))
    return count


def _attributes(packet: bytes, at: int) -> int:
    flags, at = _number(packet, at)
    numbers = {
        Attributes.FLAG_SIZE: 8,
        Attributes.FLAG_UIDGID: 8,
        Attributes.FLAG_PERMISSIONS: 4,
        Attributes.FLAG_AMTIME: 8,
    }
    at += sum(size for flag, size in numbers.items() if flags & flag)
    pairs = 0
    if flags & Attributes.FLAG_EXTENDED:
        pairs, at = _number(packet, at)
    for _ in range(pairs):
        at = _text(packet, _text(packet, at))
    return _within(packet, at)


def _text(packet: bytes, at: int) -> int:
    size, at = _number(packet, at)
    return _within(packet, at + size)


def _number(packet: bytes, at: int) -> tuple[int, int]:
    return int.from_bytes(packet[at : at + 4]), _within(packet, at + 4)


def _within(packet: bytes, at: int) -> int:
    if at > len(packet):
        raise SFTPError("a packet is shorter than it claims")
    return at
