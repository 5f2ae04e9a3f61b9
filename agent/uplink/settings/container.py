"""How a file is closed, as the configuration says it."""

from __future__ import annotations

from enum import StrEnum

from agent.i18n import N_


class Container(StrEnum):
    """How far a file proves who wrote it, and hides what it says."""

    CMS = "cms"
    """signed, AES-256-GCM: altered bytes open to nothing"""
    COMPAT = "cms-compat"
    """signed, AES-256-CBC for RSA readers"""
    NONE = "none"
    """neither"""


WEAKER = {
    Container.COMPAT: N_("weaker: an altered file is noticed by its signature only"),
    Container.NONE: N_("weakest: files are neither encrypted nor signed, whoever has one reads it"),
}
"""what is said of them wherever they show"""
