"""The configuration of an uplink over files: a folder, its server, and the host key."""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from agent.core.i18n import N_, Text
from agent.core.settings import Duration, FromTheRoot, Secret, checked_host
from agent.uplink.base import Recipient
from agent.uplink.pacing import Rhythm

EXPECTED = N_('expected a public key such as "ssh-ed25519 AAAAC3Nza…", as printed by `ssh-keyscan`')
SEAL_ROWS, SEAL_BYTES = 50_000, 1_600_000
"""limits of a batch before packing; its file has about 5 MB at most"""
LONGEST_RECIPIENT = 150
"""characters; with more, file names would be too long for a file system"""
CONSUMED = 4
"""seal intervals without a receipt until an alarm is raised"""


def host_key(written: str) -> tuple[str, bytes]:
    """Type and bytes of a public key in OpenSSH format. Raises ValueError with a message for
    people.
    """
    fields = written.split()
    if len(fields) < 2:  # noqa: PLR2004 -- type, key and perhaps a comment
        raise ValueError(Text(EXPECTED))
    try:
        raw = base64.b64decode(fields[1], validate=True)
    except binascii.Error:
        raise ValueError(Text(EXPECTED)) from None
    if not raw.startswith(len(fields[0]).to_bytes(4, "big") + fields[0].encode()):
        raise ValueError(Text(EXPECTED))
    return fields[0], raw


class Container(StrEnum):
    """How a file is signed and encrypted."""

    CMS = "cms"
    """signed, AES-256-GCM: an altered file cannot be decrypted"""
    COMPAT = "cms-compat"
    """signed, AES-256-CBC for RSA readers"""
    NONE = "none"
    """neither signed nor encrypted"""


WEAKER = {
    Container.COMPAT: N_("weaker: only the signature shows that a file was altered"),
    Container.NONE: N_(
        "weakest: files are neither encrypted nor signed; anybody who has a file can read it"
    ),
}
"""the warning that is shown beside the option"""


def address(url: str) -> str:
    """The URL of an SFTP server, checked. Raises ValueError with a message for people."""
    parts = urlsplit(url)
    if parts.scheme != "sftp" or not parts.hostname or not parts.username:
        raise ValueError(
            Text('expected a server such as "sftp://gateway-7@sftp.platform.example/"')
        )
    checked_host(parts.hostname)
    if parts.password is not None:
        raise ValueError(
            Text("a URL must not contain a password, because it would be logged. Write `key`")
        )
    if parts.query or parts.fragment:
        raise ValueError(Text("the URL must end with the path"))
    return url


def check_way(url: str | None, path: object, known: str, key: Secret | None) -> None:
    """Check that the settings name either a complete SFTP server or a folder.

    Raises ValueError with a message for people.
    """
    if (url is None) == (path is None):
        raise ValueError(Text("write either `url` (an SFTP server) or `path` (a folder)"))
    if url and not (known and key):
        raise ValueError(Text("an SFTP server needs `host_key` and `key`"))
    if path and (known or key):
        raise ValueError(Text("a folder has no `host_key` and no `key`"))
    if known:
        host_key(known)


class Settings(BaseModel):
    """One uplink by files, without `transport:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipient: Annotated[Recipient, Field(max_length=LONGEST_RECIPIENT)]
    url: Annotated[str, AfterValidator(address)] | None = Field(
        default=None,
        description="the SFTP server, with our user name and the folder that contains in/ and out/",
        examples=["sftp://gateway-7@sftp.platform.example/"],
    )
    path: FromTheRoot | None = Field(
        default=None,
        description="or a folder on this machine, such as a mounted share, with in/ and out/",
        examples=["/mnt/exchange"],
    )
    host_key: str = Field(
        default="",
        max_length=2_000,
        description="the server's public key, as `ssh-keyscan` shows it and its operator confirms",
        examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Wm5mEr0V9b2Xk8aQ2V7tZ4d1n6Yc3uHs5Lq8R"],
    )
    key: Secret | None = Field(
        default=None,
        description="where our private key for the server is stored; it must have no passphrase",
        examples=["credential:gardien_sftp-key"],
    )
    container: Container = Field(
        default=Container.CMS,
        description="cms: signed, and encrypted for those under `encrypt_for`; cms-compat: weaker,"
        " for readers that support only RSA and AES-CBC; none: weakest, not signed or encrypted",
        examples=["cms"],
    )
    encrypt_for: tuple[FromTheRoot, ...] = Field(
        default=(),
        max_length=10,
        description="the certificates (PEM) of those who can open the files",
        examples=[["/etc/gardien/platform.crt"]],
    )
    rows: Literal["csv", "json"] = Field(
        default="csv",
        description="how a batch with rows is written: csv, a table; json, as over MQTT and HTTPS",
        examples=["csv"],
    )
    receipt: Literal["platform", "signed"] = Field(
        default="platform",
        description="who confirms a batch: the platform, or the platform with its signature, even"
        " while the trust list names no key for it",
        examples=["platform"],
    )
    seal: Duration = Field(
        default=900.0,
        ge=0.02,
        le=86_400,
        description="how often new readings are sent",
        examples=["15min"],
    )
    poll: Duration = Field(
        default=60.0,
        ge=0.02,
        le=86_400,
        description="how often gardien looks for receipts and signed objects",
        examples=["60s"],
    )

    timeout: Duration = Field(
        default=30.0,
        ge=0.1,
        le=600,
        description="how long to wait for an answer of the server until the connection is lost",
        examples=["30s"],
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        check_way(self.url, self.path, self.host_key, self.key)
        if (self.container is Container.NONE) == bool(self.encrypt_for):
            raise ValueError(
                Text(
                    "`encrypt_for` needs at least one certificate (PEM), of those who can open the"
                    " files. With `container: none` it must be empty"
                )
            )
        return self

    @property
    def weaker(self) -> str:
        """The warning about a weaker container; empty for `cms`."""
        remark = WEAKER.get(self.container)
        return Text(remark) if remark else ""

    @property
    def rhythm(self) -> Rhythm:
        """The intervals and limits of files; a platform may fetch them late."""
        return Rhythm(
            seal=self.seal,
            most_rows=SEAL_ROWS,
            most_bytes=SEAL_BYTES,
            patience=max(30.0, self.seal),
            quick=max(30.0, self.seal) + 2 * self.poll,
            longest_patience=max(600.0, 24 * self.seal),
            alarm=max(300.0, CONSUMED * self.seal),
        )
