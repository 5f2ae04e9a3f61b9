"""An SFTP server that says more than there is costs no memory, no hours, and is told in words.
Rule T30.
"""

import asyncio
import resource
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress

import paramiko
import pytest

from agent.core.errors import UplinkLost
from agent.uplink.base import GatewayFacts
from agent.uplink.files.transport import FilesUplink
from tests.contract.uplink.house import GATEWAY
from tests.contract.uplink.sides import settings_of

INIT, CLOSE, OPENDIR, READDIR, STAT = 1, 4, 11, 12, 17
VERSION, STATUS, HANDLE, NAME, ATTRS = 2, 101, 102, 104, 105
HOST, OWN = paramiko.RSAKey.generate(2048), paramiko.RSAKey.generate(2048)
FOUR_BILLION = struct.pack(">I", 2**32 - 1)
EMPTY = bytes(12)
"""a name of no character, with nothing behind it"""


class Welcoming(paramiko.ServerInterface):
    """An SSH server that lets everybody in."""

    def get_allowed_auths(self, _user):
        return "publickey"

    def check_auth_publickey(self, _user, _key):
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, _kind, _channel):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_subsystem_request(self, _channel, _name):
        return True


@contextmanager
def serving(serve: Callable[[socket.socket, threading.Event], None]):
    """A server of one connection; its port. The event is set at its end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def run() -> None:
            wire, _ = listener.accept()
            with wire:
                serve(wire, ended)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join()


@contextmanager
def welcoming(speak: Callable[[paramiko.Channel], None]):
    """A server that lets us in and then speaks as it is told."""

    def serve(wire: socket.socket, ended: threading.Event) -> None:
        transport = paramiko.Transport(wire)
        transport.add_server_key(HOST)
        with suppress(OSError, EOFError, paramiko.SSHException):  # whoever came may leave early
            transport.start_server(server=Welcoming())
            if channel := transport.accept(20):
                speak(channel)
        ended.wait()
        transport.close()

    with serving(serve) as port:
        yield port


def speaking(answers: dict[int, bytes]) -> Callable[[paramiko.Channel], None]:
    """SFTP: to each kind of question its answer, kind first; else what a server says."""
    usual = {CLOSE: bytes((STATUS,)) + bytes(12), OPENDIR: bytes((HANDLE,)) + b"\0\0\0\1h",
             STAT: bytes((ATTRS,)) + bytes(4)}  # fmt: skip

    def speak(channel: paramiko.Channel) -> None:
        stream = channel.makefile("rb")
        while head := stream.read(4):
            asked = stream.read(int.from_bytes(head))
            if asked[0] == INIT:
                said = bytes((VERSION,)) + struct.pack(">I", 3)
            else:
                answer = (usual | answers)[asked[0]]
                said = answer[:1] + asked[1:5] + answer[1:]
            channel.sendall(struct.pack(">I", len(said)) + said)

    return speak


def lost(tmp_path, port: int, timeout: float = 20.0) -> str:
    """How it is told that there is no uplink."""
    OWN.write_private_key_file(str(tmp_path / "own"))
    told = settings_of(
        "files", url=f"sftp://gateway@127.0.0.1:{port}/", container="none", timeout=timeout,
        host_key=f"ssh-rsa {HOST.get_base64()}", key=f"file:{tmp_path / 'own'}",
    )  # fmt: skip

    async def take(_raw: bytes) -> None:
        pass

    async def scenario() -> None:
        async with FilesUplink.open(told, GatewayFacts(GATEWAY, None, take)) as uplink:
            async for _ in uplink.receipts():
                pass

    with pytest.raises(UplinkLost) as found:
        asyncio.run(scenario())
    return str(found.value)


@pytest.mark.parametrize(
    ("word", "said", "patience"),
    [
        (b"", "did not end within", 0.4),  # of which it takes twenty, and greets within one
        (b"\0\0\0\5c\0\0\0\1", "Incompatible sftp", 20.0),
        (b"Welcome!", "a packet of 1466264675 bytes", 20.0),
    ],
    ids=["no word", "another protocol", "a greeting"],
)
def test_a_server_that_lets_us_in_and_speaks_no_sftp_is_given_up(
    tmp_path, word: bytes, said: str, patience: float
):
    with welcoming(lambda channel: channel.sendall(word)) as port:
        assert said in lost(tmp_path, port, patience)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({READDIR: bytes((NAME,)) + FOUR_BILLION + EMPTY}, "shorter than it claims"),
        ({STAT: bytes((ATTRS,)) + b"\x80\0\0\0" + FOUR_BILLION}, "shorter than it claims"),
        ({READDIR: bytes((NAME,)) + struct.pack(">I", 20_000) + EMPTY * 20_000}, "50000 names"),
        ({STAT: bytes((ATTRS,)) + bytes(5_000_000)}, "a packet of 5000005 bytes"),
    ],
    ids=["names", "attributes", "a folder without end", "a large packet"],
)
def test_a_server_that_counts_without_end_is_not_believed(tmp_path, answers, said):
    """paramiko would count along, for hours and until the memory is full."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with welcoming(speaking(answers)) as port:
        assert said in lost(tmp_path, port)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000, "kB"


def test_a_stream_without_end_is_cut_off(tmp_path):
    """Answers to a question that nobody put: paramiko passes over each, for ever."""
    sent = 0

    def speak(channel: paramiko.Channel) -> None:
        nonlocal sent
        channel.sendall(struct.pack(">I", 5) + bytes((VERSION,)) + struct.pack(">I", 3))
        while True:
            channel.sendall(struct.pack(">I", 500_005) + bytes((STATUS,)) + bytes(500_004))
            sent += 500_009

    with welcoming(speak) as port:
        assert "more than was requested" in lost(tmp_path, port)
    assert sent < 50_000_000


def test_what_comes_without_end_before_anybody_was_let_in_is_cut_off(tmp_path):
    """A packet of SSH that says it has four gigabytes."""
    sent = 0

    def serve(wire: socket.socket, ended: threading.Event) -> None:
        nonlocal sent
        with suppress(OSError):
            wire.sendall(b"SSH-2.0-x\r\n\xff\xff\xff\xfc")
            while not ended.is_set():
                sent += wire.send(bytes(100_000))

    with serving(serve) as port:
        assert "more than was requested" in lost(tmp_path, port)
    assert sent < 20_000_000
