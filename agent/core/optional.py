"""Debian packages that only some gateways need: gardien suggests them, and says where one lacks."""

from __future__ import annotations

from importlib.util import find_spec

from agent.core.i18n import Text

PACKAGES = {"paramiko": "python3-paramiko"}
"""by the module that is imported"""
INSTALL = "sudo apt install --no-install-recommends"


def command(module: str) -> str:
    """The command that installs a module which is not installed; empty if it is there."""
    return "" if find_spec(module) else f"{INSTALL} {PACKAGES[module]}"


def lacking(module: str) -> Text:
    """The message for people whose request needs a module that is not installed."""
    return Text(
        "a Debian package that this needs is not installed. Install it: {command}",
        command=f"{INSTALL} {PACKAGES[module]}",
    )
