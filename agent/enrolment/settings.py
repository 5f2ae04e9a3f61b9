"""What the configuration says about where certificates come from."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from agent.i18n import _
from agent.settings import FromTheRoot, Secret, checked_host, shown

WELL_KNOWN = "/.well-known/est"


def _https(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(
            _(
                'expected an EST server such as "{example}", found {url}',
                example=EXAMPLE,
                url=shown(url),
            )
        )
    checked_host(parts.hostname)
    if parts.username is not None or parts.password is not None:
        raise ValueError(_("no user or password in a URL: it would be logged"))
    if parts.query or parts.fragment:
        raise ValueError(_("nothing may follow the path of an EST server"))
    return url


EXAMPLE = f"https://pki.example{WELL_KNOWN}"


class Enrolment(BaseModel):
    """Where this gateway's certificate comes from, and is renewed by itself (EST, RFC 7030)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, defer_build=True
    )

    url: Annotated[str, AfterValidator(_https)] = Field(examples=[EXAMPLE])
    """the EST server; without a path, /.well-known/est"""
    ca: FromTheRoot | None = Field(None, examples=["/etc/gardien/platform-ca.pem"])
    """the file with the certificate of the CA that vouches for the EST server; the system's CAs, if
    not said"""
    token: Secret | None = Field(None, examples=["credential:gardien_token"])
    """the one-time word for the first enrolment: where it is kept; asked for, if not said"""
