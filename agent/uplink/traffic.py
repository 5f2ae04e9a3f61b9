"""How much a TCP connection has moved, by the kernel's own count: what a metered line is billed."""

from __future__ import annotations

import socket
import struct

HEADERS = 52
"""bytes of IPv4 and TCP with time stamps, of each segment"""
RECEIVED, SEGMENTS, SENT = 128, 136, 200
"""where `struct tcp_info` (linux/tcp.h, 4.19 and later) has bytes received, segments, bytes sent"""
SIZE = 208


def used(wire: socket.socket) -> int:
    """Bytes sent and received, what was sent twice among them, with the headers; 0: unknown."""
    try:
        told = wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SIZE)
    except OSError:
        return 0
    if len(told) < SIZE:
        return 0
    (received,) = struct.unpack_from("=Q", told, RECEIVED)
    out, came = struct.unpack_from("=II", told, SEGMENTS)
    (sent,) = struct.unpack_from("=Q", told, SENT)
    return int(received + sent + HEADERS * (out + came))
