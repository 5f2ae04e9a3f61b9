"""The gateway as a machine: a boot, a card, and gardien on it as systemd starts and ends it.

The machine is a mount namespace: its card is ext4 on a loop device, its /run and /dev/shm are
memory that a power cut empties, and it has a boot id of its own. With the process that holds the
namespace all mounts and loop devices go, also where a test is killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .platforms import DIES_WITH_US

if TYPE_CHECKING:
    from collections.abc import Iterator

GARDIEN = Path(sys.executable).with_name("gardien")
GIVEN_BACK_WITHIN = 20.0
"""seconds from the agent's death (docs/control.md, When something dies)"""
FLUSH = 0.2
"""seconds that a reading is in memory alone (docs/configuration.md); so the configuration has it"""
UNWRITTEN = FLUSH + 2.0
"""seconds before a death within which a reading may not be on the disk yet: its flush, and what a
busy machine takes for the commit"""
SHUTDOWN, DROP_THE_LOG = 0x8004587D, 2
"""EXT4_IOC_SHUTDOWN and EXT4_GOING_FLAGS_NOLOGFLUSH: the device gets nothing more, also no log"""
FREEZE, THAW = 0xC0045877, 0xC0045878
"""FIFREEZE and FITHAW"""
FILE_SYSTEMS = {
    "ext4": (64 << 20, ("mkfs.ext4", "-q", "-b", "1024")),
    "f2fs": (128 << 20, ("mkfs.f2fs", "-q")),
}
"""bytes of a card, and what makes it; f2fs shuts down by the same call and number as ext4"""


def run(*words: object, **more: object) -> str:
    done = subprocess.run(
        list(map(str, words)), check=False, capture_output=True, text=True, **more
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@dataclass
class Machine:
    """One gateway's hardware."""

    folder: Path
    holder: subprocess.Popen[bytes]

    @property
    def card(self) -> Path:
        """Where the card is mounted, by its name inside."""
        return self.folder / "card"

    def inside(self, *words: object) -> list[str]:
        return [*DIES_WITH_US, "nsenter", "-t", str(self.holder.pid), "-m", "--", *map(str, words)]

    @property
    def seen(self) -> Path:
        """The card from outside."""
        return Path(f"/proc/{self.holder.pid}/root{self.card}")

    def boot(self) -> None:
        """Power on: memory is empty, and the card is mounted after its log was replayed."""
        (self.folder / "boot").write_text(f"{uuid.uuid4()}\n")
        run(*self.inside(
            "sh", "-ec",
            "umount /run /dev/shm 2>/dev/null || true\n"
            "mount -t tmpfs -o mode=755 tmpfs /run; mount -t tmpfs -o mode=1777 tmpfs /dev/shm\n"
            "mkdir -m 700 /run/gardien\n"
            'mount --bind "$1/boot" /proc/sys/kernel/random/boot_id\n',
            "boot", self.folder,
        ))  # fmt: skip
        self.insert()

    def insert(self) -> None:
        """Mount the card."""
        image = self.folder / "image"
        run(*self.inside("mount", "-o", "loop,errors=remount-ro", image, self.card))

    def ioctl(self, request: int, argument: int = 0) -> None:
        handle = os.open(self.seen, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(handle, request, struct.pack("I", argument))
        finally:
            os.close(handle)

    def cut(self) -> None:
        """The card gets nothing more of what is in memory."""
        self.ioctl(SHUTDOWN, DROP_THE_LOG)

    def everyone(self) -> dict[int, str]:
        """Who runs here: process id and command line."""
        mine = Path(f"/proc/{self.holder.pid}/ns/mnt").readlink()
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "ns/mnt").readlink() == mine:
                    words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(folder.name)] = words.decode(errors="replace")
        found.pop(self.holder.pid, None)
        return found

    def freeze(self) -> None:
        self.ioctl(FREEZE)

    def thaw(self) -> None:
        with suppress(OSError):
            self.ioctl(THAW)

    def read_only(self) -> None:
        """What ext4 does by itself (errors=remount-ro), also while files are open."""
        device = run(*self.inside("findmnt", "-no", "SOURCE", self.card)).strip()
        trigger = Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
        trigger.write_text("a test")

    def fill(self) -> None:
        """Somebody else takes every byte."""
        with (self.seen / "neighbour").open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                with suppress(OSError):
                    while file.write(b"x" * size) == size:
                        pass

    def empty(self) -> None:
        (self.seen / "neighbour").unlink()

    def eject(self, repair: bool = False) -> None:
        """Unmount the card; nobody has a file open any more, or is about to have none."""
        end = time.monotonic() + 20
        while subprocess.run(
            self.inside("umount", self.card), check=False, capture_output=True
        ).returncode:
            assert time.monotonic() < end, ("somebody keeps a file open", self.everyone())
            time.sleep(0.02)
        if repair:
            subprocess.run(
                ["/usr/sbin/fsck.ext4", "-p", "-f", self.folder / "image"], check=False,
                capture_output=True,
            )  # fmt: skip


@contextmanager
def machine(folder: Path, file_system: str = "ext4") -> Iterator[Machine]:
    """A machine with an empty card."""
    size, words = FILE_SYSTEMS[file_system]
    (folder / "card").mkdir(parents=True)
    with (folder / "image").open("wb") as image:
        image.truncate(size)
    run(*words, folder / "image")
    held = ("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep inf")
    holder = subprocess.Popen([*DIES_WITH_US, *held], stdout=subprocess.PIPE)
    made = Machine(folder, holder)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline(), "no namespaces here"
        made.boot()
        yield made
    finally:
        made.thaw()
        holder.kill()
        holder.communicate()


def available() -> bool:
    """Whether this machine lets us make one; and the other programs are there."""
    programs = ("setpriv", "unshare", "nsenter", "mkfs.ext4", "gcc", "openssl", "ssh-keygen")
    if os.geteuid() or not all(map(shutil.which, programs)):
        return False
    mount = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    done = subprocess.run(mount, check=False, capture_output=True)
    return not done.returncode and Path("/dev/loop-control").exists()


def f2fs() -> bool:
    """Whether this kernel has f2fs, and this machine what makes one."""
    with suppress(OSError):
        subprocess.run(["modprobe", "-q", "f2fs"], check=False, capture_output=True)
    kernel = "f2fs" in Path("/proc/filesystems").read_text().split()
    return kernel and bool(shutil.which("mkfs.f2fs"))


@dataclass
class Death:
    """One end of the program that it did not choose."""

    died: float
    """Unix seconds"""
    memory: float
    """seconds: what was read so long before may have been in memory alone, and gone with it"""
    up: float = float("inf")
    """Unix seconds: started again"""


@dataclass
class Gardien:
    """The installed program, in that machine."""

    machine: Machine
    config: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    deaths: list[Death] = field(default_factory=list)

    def words(self, *words: object) -> list[str]:
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        return self.machine.inside("env", "GARDIEN_AS=harness", *settings, GARDIEN, *words)

    def does(self, *words: object, status: int = 0) -> str:
        done = subprocess.run(
            self.words(*words, "-c", self.config), check=False, capture_output=True, text=True
        )
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout

    def start(self) -> None:
        with (self.machine.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.words("run", "-c", self.config), stdout=log, stderr=log
            )
        if self.deaths:
            self.deaths[-1].up = time.time()

    def kill(self, memory: float = UNWRITTEN, patience: float = 20.0) -> float:
        """`kill -9`; the monotonic time of it. Who waits for a frozen disk ends later."""
        assert self.process is not None
        assert self.process.poll() is None, (self.machine.folder / "log").read_text()[-4000:]
        self.process.send_signal(signal.SIGKILL)
        died = time.monotonic()
        self.deaths.append(Death(time.time(), memory))
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        return died

    def stopped_post(self, killed_after: float | None = None) -> None:
        """What systemd runs after any end: ExecStopPost of the unit, whose failure it ignores."""
        words = self.words("control", "release", "--all", "--config", self.config)
        with (self.machine.folder / "log").open("ab") as log:
            releaser = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            releaser.wait(60 if killed_after is None else killed_after)
        except subprocess.TimeoutExpired:
            releaser.kill()
            releaser.wait()
            assert killed_after is not None, "the releaser does not end"

    def power_goes(self, memory: float = UNWRITTEN) -> float:
        """All at once: the program is stopped where it is, and the card gets nothing more."""
        assert self.process is not None
        assert self.process.poll() is None, (self.machine.folder / "log").read_text()[-4000:]
        self.process.send_signal(signal.SIGSTOP)
        died = time.monotonic()
        self.deaths.append(Death(time.time(), memory))
        self.machine.cut()
        self.machine.thaw()
        for number in self.machine.everyone():  # what the program had started has no power either
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait()
        self.machine.eject()
        return died

    def end(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)


# certificates: a CA of the fleet, which has certified the platform and certifies the gateway


def certified(
    name: str, public: ec.EllipticCurvePublicKey, by: tuple[str, ec.EllipticCurvePrivateKey],
    ca: bool = False,
) -> x509.Certificate:  # fmt: skip
    def called(words: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, words)])

    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(called(name)).issuer_name(called(by[0]))
        .public_key(public).serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by[1].public_key()), critical=False
        )
    )  # fmt: skip
    if ca:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = made.add_extension(usage, critical=True)
    else:
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH,
                ExtendedKeyUsageOID.EMAIL_PROTECTION]  # fmt: skip
        made = made.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        made = made.add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False
        )
    return made.sign(by[1], hashes.SHA256())


@dataclass
class Certificates:
    folder: Path
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def make(self) -> None:
        self.folder.mkdir()
        here = ("Fleet", self.key)
        own = certified("Fleet", self.key.public_key(), here, ca=True)
        (self.folder / "ca.pem").write_bytes(pem(own))
        for name in ("server", "platform"):
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = pem(certified(name, key.public_key(), here))
            (self.folder / f"{name}.crt").write_bytes(certificate)
            (self.folder / f"{name}.pem").write_bytes(private(key) + certificate)

    def answer(self, request: str) -> bytes:
        """Certify a gateway's request under the name that it gives."""
        asked = x509.load_pem_x509_csr(request.encode())
        (name,) = asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        public = asked.public_key()
        return pem(certified(str(name.value), public, ("Fleet", self.key)))


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )  # fmt: skip
