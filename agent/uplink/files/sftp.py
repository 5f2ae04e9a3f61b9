"""A folder on an SFTP server, with bounds that are checked before paramiko parses a packet.

paramiko trusts counts and lengths: twenty bytes that claim four billion names fill the memory, as
many attributes take hours, and an SSH packet may claim four gigabytes. A timeout does not help,
since no read is waiting. So a packet must contain what it counts, and the bytes that answer one
request are limited.
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
from typing import TYPE_CHECKING, Any, cast

import paramiko
from paramiko import SFTPError, SSHException
from paramiko.sftp import CMD_ATTRS, CMD_NAME
from paramiko.sftp_attr import SFTPAttributes as Attributes
from paramiko.ssh_exception import IncompatiblePeer

from agent.core.errors import NotStored, Refused, UplinkLost
from agent.core.i18n import Text
from agent.uplink.base import used
from agent.uplink.files.folder import IN, OUT, RemoteFile
from agent.uplink.files.settings import host_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paramiko import Channel

    from agent.core.settings import Secret
    from agent.uplink.request_worker import Connection

LARGEST = 1_000_000
"""bytes of one packet; servers send 32 kB, and OpenSSH lists names in 256 kB at most"""
MOST_NAMES = 50_000
"""names in the answers to one request; paramiko needs 1 kB of memory for each"""
GREETING, MOST = 1_000_000, 32_000_000
"""bytes of SSH before the login is accepted, and in answer to one request. The largest file that we
read has 1.1 MB, and `MOST_NAMES` names take 10 MB
"""
ENDLESS = Text("it sends more than was requested")
PIECE = 32_768
"""bytes of one write; every server accepts this size"""
GARBLED = (paramiko.SFTPError, struct.error, ValueError, LookupError, TypeError)
"""what paramiko raises on a malformed packet"""


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


logging.getLogger("paramiko").setLevel(logging.CRITICAL)
"""a failure is raised here, and logged once by the code that reacts to it"""


@dataclass(frozen=True, slots=True)
class SftpServer:
    """Address of a server, our account there, and its host key."""

    host: str
    port: int
    user: str
    path: str
    host_key: str
    """type and key in base64, as in a public key file"""
    key: Secret
    timeout: float
    """seconds to wait for an answer"""


class Sftp:
    """Files on one server (agent.uplink.files.folder.RemoteFolder)."""

    def __init__(self, wire: BoundedSocket, channel: paramiko.Channel, server: SftpServer) -> None:
        """Raises what paramiko raises if the server does not speak SFTP."""
        self._wire, self._channel = wire, Checked(channel)
        self._client = paramiko.SFTPClient(cast("paramiko.Channel", self._channel))
        self._server = server

    def used(self) -> int:
        """Bytes sent and received since the connection was opened."""
        return used(self._wire)

    def entry(self, path: str) -> RemoteFile | None:
        """The file at a path, or None."""
        with self._translated(path):
            try:
                facts = self._client.stat(self._at(path))
            except FileNotFoundError:
                return None
            return RemoteFile(path.rpartition("/")[2], facts.st_size or 0, facts.st_mtime or 0)

    def entries(self, folder: str) -> list[RemoteFile]:
        """All files in a folder."""
        with self._translated(folder):
            try:
                listed = self._client.listdir_attr(self._at(folder))
            except FileNotFoundError:
                return []
            # a server may leave the mode out: then take the entry for a file
            files = (item for item in listed if stat.S_ISREG(item.st_mode or stat.S_IFREG))
            return [
                RemoteFile(item.filename, item.st_size or 0, item.st_mtime or 0) for item in files
            ]

    def read(self, path: str, most: int) -> bytes | None:
        """At most `most` bytes of a file, or None if there is no such file."""
        with self._translated(path):
            try:
                with self._client.open(self._at(path), "rb") as file:
                    return bytes(file.read(most))
            except FileNotFoundError:
                return None

    def append(self, path: str, offset: int, content: bytes) -> None:
        """Write from `offset` on; wait for the answer to each piece."""
        with (
            self._translated(path),
            self._client.open(self._at(path), "r+b" if offset else "wb") as file,
        ):
            file.set_pipelined(False)
            file.seek(offset)
            for start in range(0, len(content), PIECE):
                file.write(content[start : start + PIECE])

    def rename(self, path: str, to: str) -> None:
        """Rename a file, replacing the file that has the name."""
        with self._translated(to):
            # SFTP's own rename fails if the name exists (draft-ietf-secsh-filexfer-02, 6.5)
            self._client.posix_rename(self._at(path), self._at(to))

    def remove(self, path: str) -> None:
        """Remove a file."""
        with self._translated(path), suppress(FileNotFoundError):
            self._client.remove(self._at(path))

    def _is_closed(self) -> bool:
        """Whether the connection is closed; paramiko has no errno for this."""
        channel = self._client.get_channel()
        return channel is None or channel.closed or not channel.get_transport().is_active()

    def _at(self, path: str) -> str:
        return f"{self._server.path}{path}"

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        host = self._server.host
        self._wire.left, self._channel.names = MOST, 0
        try:
            yield
        except PermissionError as error:
            raise NotStored(
                "{host}: {path}: permission denied. Give this user the right to write there",
                host=host,
                path=path,
            ) from error
        except FileNotFoundError as error:
            raise NotStored(
                "{host}: {path}: the folder does not exist", host=host, path=path
            ) from error
        except (ConnectionError, TimeoutError, EOFError, paramiko.SSHException) as error:
            reason = ENDLESS if self._wire.endless else _reason(error)
            raise UplinkLost("{host}: {reason}", host=host, reason=reason) from error
        except UnicodeDecodeError as error:
            raise NotStored(
                "{host}: {path}: a file name there is not UTF-8. Rename or remove that file",
                host=host,
                path=path,
            ) from error
        except GARBLED as error:
            raise UplinkLost(
                "{host}: the server violates the SFTP protocol: {error}", host=host, error=error
            ) from error
        except OSError as error:
            if error.errno or self._is_closed():
                raise UplinkLost(
                    "{host}: {value}", host=host, value=error.strerror or _reason(error)
                ) from error
            # "Failure" is all that SFTP 3 can say of a full disk (draft-ietf-secsh-filexfer-02, 7)
            raise NotStored(
                "{host}: {path}: the server reports {reason!r}. Its disk may be full, or a quota"
                " reached",
                host=host,
                path=path,
                reason=_reason(error),
            ) from error


@contextmanager
def connected(
    server: SftpServer, connection: Connection, folders: tuple[str, ...] = (IN, OUT)
) -> Iterator[Sftp]:
    """Connect, compare the host key, log in, and check that the folders exist.

    Raises UplinkLost with a message for people.
    """
    wire, transport = _connect(server, connection)
    try:
        try:
            _log_in(transport, server)
            channel = transport.open_session()
            channel.invoke_subsystem("sftp")
            remote = Sftp(wire, channel, server)
        except (OSError, EOFError, paramiko.SSHException, *GARBLED) as error:
            raise UplinkLost(
                "{host}: {login_reason}",
                host=server.host,
                login_reason=_login_reason(error, server),
            ) from error
        channel.settimeout(server.timeout)
        _check_folders(remote, server, folders)
        yield remote
    finally:
        _close(transport)


def _connect(
    server: SftpServer, connection: Connection
) -> tuple[BoundedSocket, paramiko.Transport]:
    try:
        connected_socket = socket.create_connection((server.host, server.port), server.timeout)
    except OSError as error:
        where = f"{server.host}:{server.port}"
        raise UplinkLost(
            "cannot connect to {where}: {value}", where=where, value=error.strerror or error
        ) from error
    wire = BoundedSocket(fileno=connected_socket.detach())
    connection.watch(lambda: wire)
    wire.settimeout(server.timeout)
    transport = paramiko.Transport(wire)
    transport.banner_timeout = transport.auth_timeout = server.timeout
    return wire, transport


def _log_in(transport: paramiko.Transport, server: SftpServer) -> None:
    kind, pinned = host_key(server.host_key)
    transport.get_security_options().key_types = _signatures(transport, kind)
    transport.start_client(timeout=server.timeout)
    server_key = transport.get_remote_server_key()
    if server_key.asbytes() != pinned:
        raise UplinkLost(
            "{host} has another host key than `host_key` states ({get_name} {fingerprint})."
            " Nothing is sent. Ask its operator whether the key was changed",
            host=server.host,
            get_name=server_key.get_name(),
            fingerprint=_fingerprint(server_key.asbytes()),
        )
    transport.auth_publickey(server.user, _own_key(server.key))


def _signatures(transport: paramiko.Transport, kind: str) -> tuple[str, ...]:
    """Algorithms of the configured host key; with others the server would present another key."""
    wanted = {"rsa-sha2-512", "rsa-sha2-256"} if kind == "ssh-rsa" else {kind}
    offered = tuple(k for k in transport.get_security_options().key_types if k in wanted)
    if not offered:
        raise UplinkLost("host_key: keys of type {kind} are not supported", kind=kind)
    return offered


def _own_key(secret: Secret) -> paramiko.PKey:
    try:
        text = secret.reveal()
        return _parsed(text)
    except Refused as error:
        raise UplinkLost("key: {error}", error=error) from error


def _parsed(text: str) -> paramiko.PKey:
    kinds: tuple[type[paramiko.PKey], ...] = (
        paramiko.Ed25519Key,
        paramiko.ECDSAKey,
        paramiko.RSAKey,
    )
    for kind in kinds:
        with suppress(paramiko.SSHException, ValueError, IndexError):
            return kind.from_private_key(io.StringIO(text + "\n"))
    raise UplinkLost("key: the file is not an SSH private key, or it has a passphrase")


def _check_folders(remote: Sftp, server: SftpServer, folders: tuple[str, ...]) -> None:
    for folder in folders:
        if remote.entry(folder) is None:
            raise UplinkLost(
                "{host} has no folder {path}{folder}. Ask its operator to create it",
                host=server.host,
                path=server.path,
                folder=folder,
            )


def _login_reason(error: Exception, server: SftpServer) -> str:
    if isinstance(error, paramiko.BadAuthenticationType | paramiko.AuthenticationException):
        return Text(
            "it refuses our key for user {user!r}. Ask its operator to add the key",
            user=server.user,
        )
    if isinstance(error, IncompatiblePeer):
        return Text("it has no host key of the type that `host_key` states ({error})", error=error)
    return _reason(error)


def _reason(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return Text("the connection was lost")
    if isinstance(error, TimeoutError):
        return Text("no answer")
    return str(error) or type(error).__name__


def _fingerprint(raw: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")


def _close(transport: paramiko.Transport) -> None:
    """Close without waiting for the server."""
    wire = transport.sock
    with suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)
    transport.close()
