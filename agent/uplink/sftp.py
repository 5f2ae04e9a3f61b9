"""SFTP as the far side, by paramiko: synchronous, for a thread of its own.

Each write is answered before the next: a pipelined one loses the answer that the disk is full. The
host proves itself by the one key that was written down, whatever name it has.
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import socket
import stat
import struct
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from agent.errors import NotStored, Refused, UplinkLost
from agent.uplink.file_transfer import IN, OUT, RemoteFile
from agent.uplink.hostkey import host_key
from agent.uplink.sftp_packets import ENDLESS, MOST, BoundedSocket, Checked
from agent.uplink.traffic import used

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.settings import Secret
    from agent.uplink.request_worker import Connection

PIECE = 32_768
"""bytes of one write: what every server takes"""
GARBLED = (paramiko.SFTPError, struct.error, ValueError, LookupError, TypeError)
"""what paramiko raises on a packet that is none"""
logging.getLogger("paramiko").setLevel(logging.CRITICAL)
"""what fails is raised here, and told once by whoever reacts"""


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is, who we are there, and by what it proves itself."""

    host: str
    port: int
    user: str
    path: str
    host_key: str
    """type and key in base64, as in a public key file"""
    key: Secret
    timeout: float
    """seconds for an answer"""


class Sftp:
    """Files of one server (agent.uplink.file_transfer.Far)."""

    def __init__(self, wire: BoundedSocket, channel: paramiko.Channel, address: Server) -> None:
        """Raises what paramiko raises where the other end does not speak SFTP."""
        self._wire, self._said_on = wire, Checked(channel)
        self._client = paramiko.SFTPClient(cast("paramiko.Channel", self._said_on))
        self._address = address

    def used(self) -> int:
        """Bytes on the wire since it was opened, in both directions."""
        return used(self._wire)

    def entry(self, path: str) -> RemoteFile | None:
        """What is there under a path."""
        with self._said(path):
            try:
                facts = self._client.stat(self._at(path))
            except FileNotFoundError:
                return None
            return RemoteFile(path.rpartition("/")[2], facts.st_size or 0, facts.st_mtime or 0)

    def entries(self, folder: str) -> list[RemoteFile]:
        """Every file in a folder."""
        with self._said(folder):
            try:
                found = self._client.listdir_attr(self._at(folder))
            except FileNotFoundError:
                return []
            files = (one for one in found if stat.S_ISREG(one.st_mode or stat.S_IFREG))
            return [RemoteFile(one.filename, one.st_size or 0, one.st_mtime or 0) for one in files]

    def read(self, path: str, most: int) -> bytes | None:
        """At most so many bytes of a file."""
        with self._said(path):
            try:
                with self._client.open(self._at(path), "rb") as file:
                    return bytes(file.read(most))
            except FileNotFoundError:
                return None

    def append(self, path: str, offset: int, content: bytes) -> None:
        """Write on, each piece answered for."""
        with self._said(path), self._client.open(self._at(path), "r+b" if offset else "wb") as file:
            file.set_pipelined(False)
            file.seek(offset)
            for start in range(0, len(content), PIECE):
                file.write(content[start : start + PIECE])

    def rename(self, path: str, to: str) -> None:
        """Give a file another name, over the one that has it."""
        with self._said(to):
            self._client.posix_rename(self._at(path), self._at(to))

    def remove(self, path: str) -> None:
        """Remove a file."""
        with self._said(path), suppress(FileNotFoundError):
            self._client.remove(self._at(path))

    def _gone(self) -> bool:
        """Whether the connection is closed: for that paramiko has no number ."""
        channel = self._client.get_channel()
        return channel is None or channel.closed or not channel.get_transport().is_active()

    def _at(self, path: str) -> str:
        return f"{self._address.path}{path}"

    @contextmanager
    def _said(self, path: str) -> Iterator[None]:
        host = self._address.host
        self._wire.left, self._said_on.names = MOST, 0
        try:
            yield
        except PermissionError as error:
            raise NotStored(f"{host}: {path}: not allowed: may this user write there?") from error
        except FileNotFoundError as error:
            raise NotStored(f"{host}: {path}: there is no such folder") from error
        except (ConnectionError, TimeoutError, EOFError, paramiko.SSHException) as error:
            said = ENDLESS if self._wire.endless else _words(error)
            raise UplinkLost(f"{host}: {said}") from error
        except UnicodeDecodeError as error:
            raise NotStored(f"{host}: {path}: a name there is no UTF-8: remove it") from error
        except GARBLED as error:
            raise UplinkLost(f"{host}: it does not speak SFTP as it should: {error}") from error
        except OSError as error:
            if error.errno or self._gone():
                raise UplinkLost(f"{host}: {error.strerror or _words(error)}") from error
            # "Failure" is all that SFTP 3 can say of a full disk (draft-ietf-secsh-filexfer-02, 7)
            raise NotStored(
                f"{host}: {path}: the server says {_words(error)!r}: is its disk full, or a quota"
                " reached?"
            ) from error


@contextmanager
def connected(
    address: Server, line: Connection, folders: tuple[str, ...] = (IN, OUT)
) -> Iterator[Sftp]:
    """Connect, see that the host is the right one and has these folders, log in. Raises UplinkLost
    in words.
    """
    wire, transport = _reached(address, line)
    try:
        try:
            _let_in(transport, address)
            channel = transport.open_session()
            channel.invoke_subsystem("sftp")
            far = Sftp(wire, channel, address)
        except (OSError, EOFError, paramiko.SSHException, *GARBLED) as error:
            raise UplinkLost(f"{address.host}: {_refused(error, address)}") from error
        channel.settimeout(address.timeout)
        _furnished(far, address, folders)
        yield far
    finally:
        _close(transport)


def _reached(address: Server, line: Connection) -> tuple[BoundedSocket, paramiko.Transport]:
    try:
        found = socket.create_connection((address.host, address.port), address.timeout)
    except OSError as error:
        where = f"{address.host}:{address.port}"
        raise UplinkLost(f"cannot connect to {where}: {error.strerror or error}") from error
    wire = BoundedSocket(fileno=found.detach())
    line.watch(lambda: wire)
    wire.settimeout(address.timeout)
    transport = paramiko.Transport(wire)
    transport.banner_timeout = transport.auth_timeout = address.timeout
    return wire, transport


def _let_in(transport: paramiko.Transport, address: Server) -> None:
    kind, pinned = host_key(address.host_key)
    transport.get_security_options().key_types = _signatures(transport, kind)
    transport.start_client(timeout=address.timeout)
    shown = transport.get_remote_server_key()
    if shown.asbytes() != pinned:
        raise UplinkLost(
            f"{address.host} shows another host key than the one written under `host_key`"
            f" ({shown.get_name()} {_fingerprint(shown.asbytes())}): nothing is sent; ask its"
            " operator whether it was changed"
        )
    transport.auth_publickey(address.user, _own_key(address.key))


def _signatures(transport: paramiko.Transport, kind: str) -> tuple[str, ...]:
    """Only what the written key can answer with, or the server would show one of its others."""
    wanted = {"rsa-sha2-512", "rsa-sha2-256"} if kind == "ssh-rsa" else {kind}
    offered = tuple(k for k in transport.get_security_options().key_types if k in wanted)
    if not offered:
        raise UplinkLost(f"host_key: a key of type {kind} is not spoken here")
    return offered


def _own_key(secret: Secret) -> paramiko.PKey:
    try:
        text = secret.reveal()
        return _parsed(text)
    except Refused as error:
        raise UplinkLost(f"key: {error}") from error


def _parsed(text: str) -> paramiko.PKey:
    kinds: tuple[type[paramiko.PKey], ...] = (
        paramiko.Ed25519Key,
        paramiko.ECDSAKey,
        paramiko.RSAKey,
    )
    for kind in kinds:
        with suppress(paramiko.SSHException, ValueError, IndexError):
            return kind.from_private_key(io.StringIO(text + "\n"))
    raise UplinkLost("key: that file is no SSH private key without a passphrase")


def _furnished(far: Sftp, address: Server, folders: tuple[str, ...]) -> None:
    for folder in folders:
        if far.entry(folder) is None:
            raise UplinkLost(
                f"{address.host} has no folder {address.path}{folder}: its operator must make it"
            )


def _refused(error: Exception, address: Server) -> str:
    if isinstance(error, paramiko.BadAuthenticationType | paramiko.AuthenticationException):
        return f"it does not let user {address.user!r} in by our key: has its operator put it in?"
    if isinstance(error, IncompatiblePeer):
        return f"it has no host key of the kind written under `host_key` ({error})"
    return _words(error)


def _words(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "the connection broke off"
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(error) or type(error).__name__


def _fingerprint(raw: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")


def _close(transport: paramiko.Transport) -> None:
    """Never longer than a moment, also on a frozen line."""
    wire = transport.sock
    with suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)
    transport.close()
