"""Bytes moved by a TCP connection, as the kernel counts them; this is what a metered line bills."""

from __future__ import annotations

import socket
import struct

HEADERS = 52
"""bytes of the IPv4 and TCP headers of a segment, with timestamps"""
RECEIVED, SEGMENTS, SENT = 128, 136, 200
"""offsets in `struct tcp_info` (linux/tcp.h, 4.19 and later)"""
SIZE = 208


def used(wire: socket.socket) -> int:
    """Bytes sent and received, with retransmissions and headers; 0: unknown."""
    try:
        info = wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SIZE)
    except OSError:
        return 0
    # an older kernel returns fewer fields
    if len(info) < SIZE:
        return 0
    (received,) = struct.unpack_from("=Q", info, RECEIVED)
    out, came = struct.unpack_from("=II", info, SEGMENTS)
    (sent,) = struct.unpack_from("=Q", info, SENT)
    return int(received + sent + HEADERS * (out + came))
