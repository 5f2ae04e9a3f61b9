"""SFTP packets that hold what they count, and those that do not."""

import socket
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko import SFTPError, SSHException

from agent.uplink.files.sftp import MOST, BoundedSocket, counted

ATTRS, NAME, DATA = 105, 104, 103
texts = st.binary(max_size=20)
attributes = st.builds(
    lambda size, ids, mode, times, pairs: (
        struct.pack(">I", size | ids << 1 | mode << 2 | times << 3 | (pairs is not None) << 31)
        + bytes(8 * size + 8 * ids + 4 * mode + 8 * times)
        + (b"" if pairs is None else number(len(pairs)) + b"".join(map(text, sum(pairs, ()))))
    ),
    *[st.booleans()] * 4,
    st.none() | st.lists(st.tuples(texts, texts), max_size=3),
)
names = st.lists(st.tuples(texts, texts, attributes), max_size=5)


def number(of: int) -> bytes:
    return struct.pack(">I", of)


def text(of: bytes) -> bytes:
    return number(len(of)) + of


def packet(kind: int, *parts: bytes) -> bytes:
    return bytes((kind,)) + number(1) + b"".join(parts)


def listed(found: list[tuple[bytes, bytes, bytes]], more: int = 0) -> bytes:
    parts = (text(name) + text(long) + facts for name, long, facts in found)
    return packet(NAME, number(len(found) + more), *parts)


@given(names, attributes)
def test_what_servers_say_is_let_through_and_cut_short_it_is_not(found, facts):
    for said, there in ((listed(found), len(found)), (packet(ATTRS, facts), 0)):
        assert counted(said) == there
        for end in range(5, len(said)):
            with pytest.raises(SFTPError, match="shorter than it claims"):
                counted(said[:end])


@given(names, st.integers(1, 2**32 - 100))
def test_a_packet_that_counts_more_names_than_it_has_is_refused(found, more):
    with pytest.raises(SFTPError, match="shorter than it claims"):
        counted(listed(found, more))


@given(st.integers(1, 2**32 - 1), st.binary(max_size=7))
def test_attributes_without_end_are_refused(pairs, rest):
    with pytest.raises(SFTPError, match="shorter than it claims"):
        counted(packet(ATTRS, number(1 << 31), number(pairs), rest))


@given(st.sampled_from((ATTRS, NAME, DATA)), st.binary(max_size=300))
def test_whatever_it_is_no_more_names_are_counted_than_fit(kind, said):
    with suppress(SFTPError):
        assert counted(packet(kind, said)) * 12 <= len(said)


def test_data_may_look_like_anything():
    assert counted(packet(DATA, text(listed([], 9)))) == 0


def test_no_more_comes_over_a_connection_than_can_have_been_asked_for():
    near, far = socket.socketpair()
    with BoundedSocket(fileno=near.detach()) as wire, far:
        wire.left = 5
        far.sendall(b"0123456789")
        assert wire.recv(5) == b"01234"
        with pytest.raises(SSHException, match="more than was requested"):
            wire.recv(5)
        wire.left = MOST
        far.sendall(b"ab")
        assert wire.recv(5) == b"ab"
