"""The configuration of an uplink over HTTPS."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from agent.core.i18n import Text
from agent.core.settings import Duration, FromTheRoot, checked_host, is_loopback
from agent.uplink.base import Recipient
from agent.uplink.pacing import Rhythm


def address(url: str) -> str:
    """The platform's URL without a final slash. Raises ValueError with a message for people."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(Text('expected a platform such as "https://platform.example/gardien"'))
    checked_host(parts.hostname)
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            Text("a URL must not contain a user or a password, because they would be logged")
        )
    if parts.query or parts.fragment:
        raise ValueError(
            Text("the URL must end with the path: /batches and /objects are appended to it")
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(
            Text(
                "http:// is not encrypted: readings and password could be read on the way, so it is"
                " allowed only on this machine. Write https://{host}",
                host=parts.hostname,
            )
        )
    return url.rstrip("/")


def _proxy(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.port is None or parts.password:
        raise ValueError(
            Text('expected a proxy such as "http://192.168.10.2:3128", without a password')
        )
    checked_host(parts.hostname)
    return url


class Settings(BaseModel):
    """One uplink over HTTPS, without `transport:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipient: Recipient
    url: Annotated[str, AfterValidator(address)] = Field(
        description="the platform: batches go to URL/batches, objects come from URL/objects",
        examples=["https://platform.example/gardien"],
    )
    ca: FromTheRoot | None = Field(
        default=None,
        description="the certificate of the CA that issued the platform's certificate;"
        " without it, the CAs of the system",
        examples=["/etc/gardien/platform-ca.pem"],
    )
    proxy: Annotated[str, AfterValidator(_proxy)] | None = Field(
        default=None,
        description="the proxy to use; proxy settings of the environment are ignored",
        examples=["http://192.168.10.2:3128"],
    )
    receipt: Literal["platform", "signed"] = Field(
        default="platform",
        description="who confirms a batch: the platform, or the platform with its signature, even"
        " while the trust list names no key for it",
        examples=["platform"],
    )
    seal: Duration = Field(
        default=60.0,
        ge=0.02,
        le=86_400,
        description="how often new readings are sent",
        examples=["60s"],
    )
    poll: Duration = Field(
        default=60.0,
        ge=0.02,
        le=86_400,
        description="how often gardien looks for signed objects",
        examples=["60s"],
    )
    timeout: Duration = Field(
        default=30.0,
        ge=0.1,
        le=600,
        description="how long to wait for a complete answer of the platform until the connection is"
        " lost; an answer with more than 5 kB a second may take longer",
        examples=["30s"],
    )

    @property
    def rhythm(self) -> Rhythm:
        """The intervals and limits of batches."""
        return Rhythm(seal=self.seal)
