"""The records of the audit chain as sentences."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent.core.i18n import N_, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

SENTENCES = {
    "audit.begun": N_("A new chain was begun, because the former one was damaged"),
    "audit.torn": N_("The last record was incomplete after a power cut"),
    "audit.thinned": N_("Old records were deleted to make room"),
    "backup": N_("A backup was made"),
    "backup.kept": N_("{recipient} keeps the backup"),
    "bundle": N_("A support bundle was made"),
    "certificate.back": N_("The former certificate is used again"),
    "certificate.enrolled": N_("The first certificate was requested and installed"),
    "certificate.installed": N_("A certificate was installed"),
    "certificate.renewed": N_("The certificate was renewed"),
    "certificate.requested": N_("A certificate was requested"),
    "certificate.rotation": N_("A change of the certificate's key was begun"),
    "certificate.worked": N_("The new certificate works"),
    "clock.reset": N_("What a wrong clock had dated was corrected"),
    "clock.set": N_("The time was stated by hand"),
    "clock.set_back": N_("The clock was set back"),
    "configuration.changed": N_("The configuration was changed"),
    "configuration.reloaded": N_("The configuration was loaded again"),
    "control.abandoned": N_("{control}: the release was given up"),
    "control.aborted": N_("{control}: an order was broken off"),
    "control.accepted": N_("{control}: an order was accepted"),
    "control.cancelled": N_("{control}: an order was cancelled"),
    "control.completed": N_("{control}: an order was carried out to its end"),
    "control.ended": N_("An order was ended by its sender"),
    "control.expired": N_("{control}: an order expired"),
    "control.failed": N_("{control}: an order failed"),
    "control.given_back": N_("{control}: the device has its own value again"),
    "control.grant": N_("An authorization of orders was recorded"),
    "control.handed_back": N_("{control}: released to a value that was stated by hand"),
    "control.left": N_("{control}: the device had another value, which was left to it"),
    "control.opted_in": N_("{control} takes orders again"),
    "control.opted_out": N_("{control}: opted out"),
    "control.received": N_("{control}: an order was received"),
    "control.refused": N_("{control}: an order was refused"),
    "control.rejected": N_("{control}: an order was refused"),
    "control.release_pending": N_("{control}: the device has not confirmed its release yet"),
    "control.released": N_("{control}: released by hand"),
    "control.restoring": N_("{control}: an order ends, and its value is being given back"),
    "control.revoked": N_("An authorization of orders was withdrawn"),
    "control.scheduled": N_("{control}: an order was planned"),
    "control.sheet_accepted": N_("{control}: the signature of its sheet was recorded"),
    "control.started": N_("{control}: an order came into force"),
    "control.superseded": N_("{control}: an order was overruled by another one"),
    "control.tested": N_("{control} was tested"),
    "epoch.begun": N_("The count of batches to {recipient} was begun anew"),
    "finding.acknowledged": N_("A finding was acknowledged"),
    "key": N_("The gateway's key was recorded"),
    "key.rotated": N_("The keys of the spools were changed"),
    "key.rotation": N_("A change of the keys of the spools was begun"),
    "object.accepted": N_("A signed object was accepted"),
    "object.brought": N_("A signed object was brought by hand"),
    "object.forgotten": N_("A signed object that waited was dropped"),
    "object.refused": N_("A signed object was refused"),
    "object.waits": N_("A signed object waits for others"),
    "registry": N_("Dwellings, meters, occupancies or consents were recorded"),
    "page.closed": N_("The set-up window of the web page was closed"),
    "page.code_void": N_("The code of the set-up window was given up after too many wrong ones"),
    "page.entered": N_("{person} logged in to the web page"),
    "page.locked": N_("Logging in to the web page was locked after wrong passwords"),
    "page.opened": N_("A set-up window of the web page was opened"),
    "page.password": N_("{person} has chosen a password"),
    "page.person_added": N_("{person} was invited to the web page"),
    "page.person_removed": N_("{person} was removed from the web page"),
    "page.scraper_added": N_("A program for monitoring was admitted to the web page"),
    "report": N_("A commissioning report was made"),
    "restored": N_("The gateway was restored from a backup"),
    "restored.confirmed": N_("It was confirmed that all withdrawals since the backup have arrived"),
    "restored.heard": N_("All withdrawals since the backup have arrived"),
    "state.moved": N_("The state was moved to another machine"),
    "trust": N_("A trust list came into force"),
    "trust.brought": N_("A trust list was brought by hand"),
    "trust.confirmed": N_("The first trust list was compared and accepted"),
    "trust.refused": N_("A trust list was refused"),
    "uplink.carried": N_("Batches of an uplink were carried by hand"),
    "uplink.closed": N_("An uplink was closed"),
    "uplink.retried": N_("Refused batches of an uplink were sent again"),
    "vote.confirmed": N_("The vote of an assembly was confirmed"),
    "vote.recorded": N_("The vote of an assembly was recorded"),
}
"""by type; their fields are members of the record"""
KINDS = {
    "control": N_("orders and controls"),
    "registry": N_("dwellings, meters, consents"),
    "object": N_("signed objects"),
    "trust": N_("trust list"),
    "vote": N_("votes"),
    "configuration": N_("configuration"),
    "finding": N_("findings"),
    "uplink": N_("uplinks"),
    "certificate": N_("certificate"),
    "key": N_("keys"),
    "clock": N_("clock"),
    "backup": N_("backup"),
    "page": N_("this page"),
}
"""kinds to choose from, by the first part of a type"""


def sentence(type_: str, body: Mapping[str, Any]) -> Text:
    """Return what a record says. Of a type that is not known here: its own name."""
    message = SENTENCES.get(type_)
    if message is None:
        return Text("{type}", type=type_)
    controls = body.get("control") or body.get("controls") or "–"
    values = {
        "control": controls,
        "recipient": body.get("recipient") or "–",
        "person": body.get("person") or "–",
    }
    return Text(message, **{name: one for name, one in values.items() if f"{{{name}}}" in message})


def members(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the members of a record as they are in the chain."""
    return [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in body.items()
    ]
