"""Settings of the EST server that issues the gateway's certificates."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from agent.core.i18n import Text
from agent.core.settings import FromTheRoot, Secret, checked_host, shown

WELL_KNOWN = "/.well-known/est"


def _https(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(
            Text(
                'expected an EST server such as "{example}", found {url}',
                example=EXAMPLE,
                url=shown(url),
            )
        )
    checked_host(parts.hostname)
    if parts.username is not None or parts.password is not None:
        raise ValueError(Text("no user or password in a URL: it would be logged"))
    if parts.query or parts.fragment:
        raise ValueError(Text("a URL of an EST server ends with its path: remove the rest"))
    return url


EXAMPLE = f"https://pki.example{WELL_KNOWN}"


class Enrolment(BaseModel):
    """The EST server (RFC 7030) that issues this gateway's certificate and renews it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, defer_build=True
    )

    url: Annotated[str, AfterValidator(_https)] = Field(examples=[EXAMPLE])
    """the URL of the EST server; default path: /.well-known/est"""
    ca: FromTheRoot | None = Field(None, examples=["/etc/gardien/platform-ca.pem"])
    """the file with the CA certificate for verifying the EST server; default: the system's CAs"""
    token: Secret | None = Field(None, examples=["credential:gardien_token"])
    """where the one-time token for the first enrolment is kept; default: the command asks for it"""
