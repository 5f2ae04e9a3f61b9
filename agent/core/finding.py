"""Findings: what is wrong with a gateway, what it costs, and the one command that helps.

`gardien status`, `doctor`, `check` and the status for platforms are made of findings only. The
checks that make them are in `agent/api/diagnosis/` and `agent/config/check.py`.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from agent.core.i18n import N_, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Severity(StrEnum):
    """What a finding costs now, the worst first."""

    LOST = "lost"
    """readings are being lost"""
    EQUIPMENT = "equipment"
    """a control is not as it should be"""
    WAITING = "waiting"
    """readings are kept, but not delivered"""
    LATER = "later"
    """nothing yet; it costs something if nobody acts"""
    NOTE = "note"
    """nothing, and nobody must act"""
    FINE = "fine"
    """a check that found nothing wrong"""
    UNKNOWN = "unknown"
    """a check that this account may not make"""


class Actor(StrEnum):
    """Who must act on a finding."""

    INSTALLER = "installer"
    MANAGER = "manager"
    PLATFORM = "platform"
    NOBODY = "nobody"
    """gardien tries again by itself"""


ACTORS = {
    Actor.INSTALLER: N_("installer"),
    Actor.MANAGER: N_("building manager"),
    Actor.PLATFORM: N_("platform"),
}
DOCTOR = "sudo gardien doctor"
"""the command that searches further for the cause"""
RANK = {severity: rank for rank, severity in enumerate(Severity)}


def as_text(value: object) -> Text:
    """Return a text that was made elsewhere, or the text of an error, as it is."""
    text = getattr(value, "text", value)
    return text if isinstance(text, Text) else Text("{text}", text=str(text))


COMPONENTS = {
    "backup": N_("backup"),
    "certificate": N_("renewal of the certificate"),
    "clock": N_("clock"),
    "clock periods": N_("dating of the readings after the clock was set"),
    "control": N_("control {name}"),
    "controls": N_("controls"),
    "controls left": N_("release of controls that were removed"),
    "diagnosis": N_("minute check of the gateway's state"),
    "event loop": N_("gardien itself"),
    "history": N_("history of common areas and plant"),
    "journal pruning": N_("tidying of the journal of orders"),
    "journal storage": N_("storage of the journal of orders"),
    "factors": N_("proof of the factors of meters"),
    "key rotation": N_("change of the keys of the spools"),
    "line": N_("line {name}"),
    "local socket": N_("answers to what people type"),
    "move": N_("move of the uplink {name} to another address"),
    "poll": N_("reading of the line {name}"),
    "receipt keys": N_("check of the keys of receipts"),
    "records": N_("records of what was received while the disk failed"),
    "registers": N_("midnight readings"),
    "registry log": N_("tidying of the registry"),
    "reload": N_("reload of the configuration"),
    "rows": N_("readings for the uplink {name}"),
    "search": N_("search for replaced meters"),
    "shelf": N_("readings of meters without a place"),
    "signed objects": N_("signed objects"),
    "spool": N_("spool of the uplink {name}"),
    "storage": N_("check of the disk"),
    "sums": N_("sums for the uplink {name}"),
    "syndic export": N_("syndic export"),
    "upkeep": N_("tidying of the spool of the uplink {name}"),
    "uplink": N_("uplink {name}"),
    "watchdog": N_("report to systemd that gardien works"),
    "withdrawals": N_("withdrawals for the uplink {name}"),
}
"""what each component does, by its name in the log or the word that its name begins with"""


def component_text(component: str) -> Text:
    """Return the name of a component as people read it."""
    kind, _, name = component.partition(" ")
    if whole := COMPONENTS.get(component):
        return Text(whole)
    return Text(COMPONENTS[kind], name=name) if kind in COMPONENTS else as_text(component)


ALWAYS_COUNT = (Severity.LOST, Severity.EQUIPMENT)
"""what nobody can acknowledge away: readings are lost, or equipment is not as it should be"""
REPLACED = (N_("DATE"), N_("DWELLING"), N_("FILE"), N_("NAME"), N_("NEW"), N_("OCCUPANCY"))
"""words of a command in whose place people type their own"""


def to_type(command: str) -> Text:
    """Return a command with these words in the reader's language."""
    values = {word: Text(word) for word in REPLACED if "{" not in command}
    message = re.sub(rf"\b({'|'.join(REPLACED)})\b", r"{\1}", command) if values else command
    return Text(message, **values)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Somebody knows of a finding, and works on it."""

    who: str
    when: str
    """RFC 3339, as `until`"""
    until: str
    """when it ends by itself"""
    note: str
    """what they wrote; empty for those who may not see names"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact about the gateway that somebody must know."""

    code: str
    """for programs"""
    subject: Text
    """the part of the gateway: `line hall-b`, `keys`"""
    what: Text
    severity: Severity
    cost: Text | None = None
    """what it costs now, and what to do if that is no command"""
    since: str | None = None
    """RFC 3339; None: unknown"""
    until: str | None = None
    """when gardien itself does something about it"""
    cause: str = ""
    """findings with the same cause are shown as one; empty: a cause of its own"""
    about: str = ""
    """tells it apart from others with its code and subject; for `FirstSeen` only"""
    actor: Actor = Actor.NOBODY
    command: str = ""
    """what to type; empty: no command helps"""
    count: int = 1
    """how many devices, batches or dwellings are concerned"""
    uplink: str | None = None
    """the uplink that it concerns; None: all"""
    outside: Text | None = None
    """said instead of `what` to those who may not see names of devices (rule P24); None: `what`"""
    private: bool = False
    """not told to recipients at all"""
    also: tuple[Text, ...] = ()
    """what else has the same cause"""
    id: str = ""
    """the same as long as it lasts; set by `FirstSeen`"""
    acknowledged: Acknowledgement | None = None

    @property
    def fine(self) -> bool | None:
        """Whether nobody must look at it, or somebody does already; None: unknown."""
        if self.severity is Severity.UNKNOWN:
            return None
        if self.acknowledged and self.severity not in ALWAYS_COUNT:
            return True
        return RANK[self.severity] >= RANK[Severity.NOTE]

    @property
    def text(self) -> Text:
        """The whole finding in one line."""
        return self.sentence()

    def sentence(self, spell: Callable[[str], str] = str) -> Text:
        """Return the whole finding in one line; `spell` writes a time."""
        text = self.what
        if self.since:
            text = Text("{what}, since {since}", what=text, since=spell(self.since))
        if self.until:
            text = Text("{what}, until {until}", what=text, until=spell(self.until))
        if self.cost:
            text = Text("{what}. {cost}", what=text, cost=self.cost)
        if self.command:
            text = Text("{what}. Run: {command}", what=text, command=to_type(self.command))
        return text

    def without_names(self) -> Finding:
        """Return the finding for those who may not see names of devices and dwellings."""
        known = self.acknowledged and replace(self.acknowledged, note="")
        if self.outside is None:
            same = not self.also and known == self.acknowledged
            return self if same else replace(self, also=(), acknowledged=known)
        return replace(
            self, what=self.outside, outside=None, command="", cause="", also=(), acknowledged=known
        )

    def wire(self) -> dict[str, Any]:
        """Return the JSON form. `text` is for recipients, `here` for people at the gateway."""
        shared = self.without_names()
        return {
            "code": self.code,
            "severity": str(self.severity),
            "text": str(shared.text),
            "here": "" if shared is self else str(self.text),
            "subject": self.subject.wire(),
            "what": self.what.wire(),
            "outside": self.outside and self.outside.wire(),
            "cost": self.cost and self.cost.wire(),
            "also": [text.wire() for text in self.also],
            "since": self.since,
            "until": self.until,
            "cause": self.cause,
            "actor": str(self.actor),
            "command": self.command,
            "count": self.count,
            "uplink": self.uplink,
            "private": self.private,
            "id": self.id,
            "acknowledged": self.acknowledged and asdict(self.acknowledged),
        }

    @classmethod
    def of(cls, wire: Mapping[str, Any]) -> Finding:
        """Rebuild a finding from its JSON form, or from an event of an earlier version."""
        if "what" not in wire:
            text, subject = Text(wire.get("here") or wire["text"]), Text(wire["code"])
            return cls(code=wire["code"], subject=subject, what=text, severity=Severity.LATER)
        return cls(
            code=wire["code"],
            subject=Text.of(wire["subject"]),
            what=Text.of(wire["what"]),
            outside=Text.of(wire["outside"]) if wire.get("outside") else None,
            severity=Severity(wire["severity"]),
            cost=Text.of(wire["cost"]) if wire["cost"] else None,
            since=wire["since"],
            until=wire["until"],
            cause=wire["cause"],
            actor=Actor(wire["actor"]),
            command=wire["command"],
            count=wire["count"],
            uplink=wire["uplink"],
            private=wire["private"],
            also=tuple(map(Text.of, wire["also"])),
            # an earlier version has neither
            id=wire.get("id", ""),
            acknowledged=Acknowledgement(**known) if (known := wire.get("acknowledged")) else None,
        )


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return one finding for each cause, the worst first; among equals, in their order."""
    causes: dict[object, list[Finding]] = {}
    for number, finding in enumerate(findings):
        # what is fine, or unknown, is never part of a problem
        alone = not finding.cause or finding.severity in {Severity.FINE, Severity.UNKNOWN}
        causes.setdefault(number if alone else finding.cause, []).append(finding)
    merged = [_merged(group) for group in causes.values()]
    return sorted(merged, key=_place_in_order)


def _place_in_order(finding: Finding) -> int:
    """What is acknowledged and does not count stands among the notes."""
    settled = finding.acknowledged and finding.fine
    return max(RANK[finding.severity], RANK[Severity.NOTE]) if settled else RANK[finding.severity]


def _merged(group: list[Finding]) -> Finding:
    # among equals, the one that needs no further search for its cause
    worst, *others = sorted(group, key=lambda it: (RANK[it.severity], it.command == DOCTOR))
    if not others:
        return worst
    whats = dict.fromkeys(finding.what for finding in others if finding.what != worst.what)
    return replace(
        worst,
        since=min((finding.since for finding in group if finding.since), default=None),
        also=tuple(whats),
        # a further finding with this cause is news
        acknowledged=worst.acknowledged if all(one.acknowledged for one in group) else None,
    )


def exit_status(findings: Iterable[Finding]) -> int:
    """Return 1 if anything costs something now or will later, else 0."""
    return int(any(finding.fine is False for finding in findings))
