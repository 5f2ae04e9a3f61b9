"""Names of drivers and transports, and their settings models, which are imported when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from agent.config.problem import did_you_mean, or_list
from agent.core.i18n import N_, _
from agent.core.settings import shown
from agent.drivers import DRIVERS, driver

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

TRANSPORTS = {
    "files": "agent.uplink.settings.files:Settings",
    "https": "agent.uplink.settings.https:Settings",
    "mqtt": "agent.uplink.settings.mqtt:Settings",
}
"""the name of a transport, and where its settings model is"""


def driver_word(name: str) -> str:
    """Return the name if it is a driver's. Raises ValueError with a similar name."""
    if name not in DRIVERS:
        raise ValueError(_unknown(N_("driver"), name, DRIVERS))
    return name


def transport_word(name: str) -> str:
    """Return the name if it is a transport's. Raises ValueError with a similar name."""
    if name not in TRANSPORTS:
        raise ValueError(_unknown(N_("transport"), name, TRANSPORTS))
    return name


def driver_settings(name: object) -> type[BaseModel] | None:
    """The settings model of a driver; None: there is no driver of this name."""
    if not isinstance(name, str) or name not in DRIVERS:
        return None
    return cast("type[BaseModel]", driver(name).Settings)


def transport_settings(name: object) -> type[BaseModel] | None:
    """The settings model of a transport; None: there is no transport of this name."""
    if not isinstance(name, str) or name not in TRANSPORTS:
        return None
    module, _, attribute = TRANSPORTS[name].partition(":")
    return cast("type[BaseModel]", getattr(import_module(module), attribute))


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = did_you_mean(name, names) or _("; there is {names}", names=or_list(names))
    return _("no {kind} {word}{near}", kind=_(kind), word=shown(name), near=near)
