"""A duty: a law or a contract that entitles the building manager to indexes without a consent."""

from __future__ import annotations

from agent.registry.facts.declaration import (
    AT,
    CONFIRM,
    REQUIRED,
    SINCE,
    UNTIL,
    Field,
    Kind,
    argument,
    listed,
    stated,
)

ADD = stated(
    "duty.add",
    "Record a duty.",
    argument("reference", 'The law or contract, such as "décret 2020-886".'),
    Field("recipient", "The building manager, by DNS name.", default=REQUIRED),
    Field(
        "channels",
        "A channel with an index, such as heat or cw; may be repeated.",
        Kind.TEXTS,
        default=REQUIRED,
        option="channel",
    ),
    Field("billing", "A billing day, such as 06-30; may be repeated.", Kind.TEXTS),
    SINCE,
    UNTIL,
    CONFIRM,
)
END = stated(
    "duty.end",
    "Record that a duty ends or has ended.",
    argument("duty", "The duty's reference or id."),
    AT,
)
LIST = listed("duty.list", "List all duties.")
