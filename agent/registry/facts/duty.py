"""A duty: a law or a contract that entitles the building manager to indexes without a consent."""

from __future__ import annotations

from agent.registry.facts.declaration import AT, REQUIRED, SINCE, UNTIL, FactCommand, Field, Kind

ADD = FactCommand(
    "duty.add",
    (
        Field(
            "reference",
            'The law or contract, such as "décret 2020-886".',
            default=REQUIRED,
            argument=True,
        ),
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
    ),
)
END = FactCommand(
    "duty.end", (Field("duty", "The duty's reference or id.", default=REQUIRED, argument=True), AT)
)
LIST = FactCommand("duty.list", changes=False)
