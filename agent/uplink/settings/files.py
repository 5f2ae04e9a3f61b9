"""One uplink by files, as the configuration has it."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from agent.i18n import _
from agent.settings import Duration, FromTheRoot, Secret, checked_host
from agent.uplink.hostkey import host_key
from agent.uplink.options import Recipient  # noqa: TC001 -- pydantic reads it
from agent.uplink.pacing import Rhythm
from agent.uplink.settings.container import WEAKER, Container

SEAL_ROWS, SEAL_BYTES = 50_000, 1_600_000
"""of a batch before it is packed: some 5 MB of file at most"""
LONGEST_RECIPIENT = 150
"""characters, or the file names would be longer than a file system takes"""
CONSUMED = 4
"""seal intervals without a receipt, after which somebody must look"""


def address(url: str) -> str:
    """The URL of an SFTP server. Raises ValueError in words for people."""
    parts = urlsplit(url)
    if parts.scheme != "sftp" or not parts.hostname or not parts.username:
        raise ValueError(_('expected a server such as "sftp://gateway-7@sftp.platform.example/"'))
    checked_host(parts.hostname)
    if parts.password is not None:
        raise ValueError(_("no password in a URL: it would be logged; write `key`"))
    if parts.query or parts.fragment:
        raise ValueError(_("nothing may follow the path"))
    return url


def check_way(url: str | None, path: object, known: str, key: Secret | None) -> None:
    """See that it is either an SFTP server with all that it needs, or a folder. Raises ValueError
    in words for people.
    """
    if (url is None) == (path is None):
        raise ValueError(_("write either `url` (an SFTP server) or `path` (a folder)"))
    if url and not (known and key):
        raise ValueError(_("an SFTP server needs `host_key` and `key`"))
    if path and (known or key):
        raise ValueError(_("a folder has no `host_key` and no `key`"))
    if known:
        host_key(known)


class Settings(BaseModel):
    """One uplink by files, without its `transport:` word."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipient: Annotated[Recipient, Field(max_length=LONGEST_RECIPIENT)]
    url: Annotated[str, AfterValidator(address)] | None = Field(
        default=None,
        description="the SFTP server, with our user and the folder that holds in/ and out/",
        examples=["sftp://gateway-7@sftp.platform.example/"],
    )
    path: FromTheRoot | None = Field(
        default=None,
        description="or a folder of this machine (a mounted share) that holds in/ and out/",
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
        description="our private key for it, without a passphrase: where it is kept",
        examples=["credential:gardien_sftp-key"],
    )
    container: Container = Field(
        default=Container.CMS,
        description="cms: signed, and encrypted for those under `encrypt_for`; cms-compat: weaker,"
        " for readers that know RSA and AES-CBC only; none: weakest, neither",
        examples=["cms"],
    )
    encrypt_for: tuple[FromTheRoot, ...] = Field(
        default=(),
        max_length=10,
        description="the certificates (PEM) of those who may open the files",
        examples=[["/etc/gardien/platform.crt"]],
    )
    seal: Duration = Field(
        default=900.0,
        ge=0.02,
        le=86_400,
        description="how often what is new is sent",
        examples=["15min"],
    )
    poll: Duration = Field(
        default=60.0,
        ge=0.02,
        le=86_400,
        description="how often receipts and signed objects are looked for",
        examples=["60s"],
    )

    timeout: Duration = Field(
        default=30.0,
        ge=0.1,
        le=600,
        description="how long the server may take for an answer until it counts as lost",
        examples=["30s"],
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        check_way(self.url, self.path, self.host_key, self.key)
        if (self.container is Container.NONE) == bool(self.encrypt_for):
            raise ValueError(
                _(
                    "`encrypt_for` names the certificates (PEM) of who may open the files: at least"
                    " one, and none where `container: none` leaves them open"
                )
            )
        return self

    @property
    def weaker(self) -> str:
        """What is to be said of the container wherever it shows; empty for the one to have."""
        said = WEAKER.get(self.container)
        return _(said) if said else ""

    @property
    def rhythm(self) -> Rhythm:
        """How often files go, and how large; a platform takes its time to fetch them."""
        return Rhythm(
            seal=self.seal,
            most_rows=SEAL_ROWS,
            most_bytes=SEAL_BYTES,
            patience=max(30.0, self.seal),
            quick=max(30.0, self.seal) + 2 * self.poll,
            longest_patience=max(600.0, 24 * self.seal),
            alarm=max(300.0, CONSUMED * self.seal),
        )
