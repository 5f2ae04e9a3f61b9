"""What an SFTP server says, looked at before paramiko believes it.

paramiko takes counts and lengths at their word: twenty bytes with four billion names in them are a
list that fills the memory, as many attributes are hours of work, and a packet of SSH may say that
it has four gigabytes. No limit of time ends that, for nobody waits on the wire. So a packet must
hold what it counts, and what comes in answer to one question has a bound.
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
"""bytes of one packet: servers say 32 kB, and OpenSSH's lists of names are 256 kB at most"""
MOST_NAMES = 50_000
"""in answer to one question; paramiko needs 1 kB of memory for each"""
GREETING, MOST = 1_000_000, 32_000_000
"""bytes of SSH until we are let in, and in answer to one question; the largest that we ask for has
1.1 MB, and so many names 10 MB
"""
ENDLESS = "it says more than anybody asked"


class BoundedSocket(socket.socket):
    """A connection on which so much comes for one question, and no more."""

    left = GREETING
    endless = False
    """more has come, for this question or one before"""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As any socket's. Raises SSHException, which paramiko hands on, on what nobody can have
        asked for.
        """
        said = super().recv(size, flags)
        self.left -= len(said)
        if self.left < 0:
            self.endless = True
            raise SSHException(ENDLESS)
        return said


class Checked:
    """A channel of SFTP on which each packet holds what it counts; else as the channel is."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._rest = b""
        self.names = 0
        """counted since a question began"""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def recv(self, size: int) -> bytes:
        """As the channel's, but raises EOFError at its end, and SFTPError on a packet that lies."""
        if not self._rest:
            self._rest = self._packet()
        said, self._rest = self._rest[:size], self._rest[size:]
        return said

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
        found = bytearray()
        while len(found) < size:
            if not (said := self._channel.recv(size - len(found))):
                raise EOFError
            found += said
        return bytes(found)


def counted(packet: bytes) -> int:
    """How many names there are in a packet without its length. Raises SFTPError where it ends
    before what it counts (draft-ietf-secsh-filexfer-02, 5 and 7).
    """
    kind, at = packet[:1], 5  # behind the number of the question
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
        raise SFTPError("a packet counts more than it has")
    return at
