"""The option `container:` of the files transport."""

from __future__ import annotations

from enum import StrEnum

from agent.core.i18n import N_


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
