"""The section `syndic`: where the building manager's software leaves its leases and moves, and how
it calls the columns.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from agent.config.models import Section, Text
from agent.i18n import _
from agent.settings import Duration, FromTheRoot, Secret, shown
from agent.uplink.settings.files import address, check_way

DAY = 86_400


class SyndicColumns(Section):
    """What the software calls each column: on the left gardien's word, on the right its heading.

    Columns that are not named here are not read.
    """

    dwelling: Text = Field(examples=["N° lot"])
    """the dwelling, by its label here or another of its names"""
    reference: Text | None = Field(None, examples=["N° bail"])
    """the number of the lease"""
    since: Text | None = Field(None, examples=["Date d'entrée"])
    """the first day of the lease"""
    until: Text | None = Field(None, examples=["Date de sortie"])
    """the end of the lease; empty: it has none"""
    move: Text | None = Field(None, examples=["Mouvement"])
    """in a list of moves: whether somebody moves in or out"""
    date: Text | None = Field(None, examples=["Date du mouvement"])
    """in a list of moves: when"""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        leases, moves = (self.reference, self.since, self.until), (self.move, self.date)
        if not all(leases) and not all(moves):
            raise ValueError(
                _(
                    "a list of leases has `reference`, `since` and `until`, one of moves `move` and"
                    " `date`: write all of one of them"
                )
            )
        if (any((self.since, self.until)) and not all(leases)) or (any(moves) and not all(moves)):
            raise ValueError(
                _("`reference`, `since` and `until` go together, and so do `move` and `date`")
            )
        written = [heading.casefold() for heading in self.headings.values()]
        if len(set(written)) < len(written):
            raise ValueError(_("two columns have one heading"))
        return self

    @property
    def headings(self) -> dict[str, str]:
        """The headings by our word for each."""
        headings = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: heading for name, heading in headings.items() if heading}


class Syndic(Section):
    """The building manager's software, which leaves its leases and moves as CSV every night."""

    path: FromTheRoot | None = Field(None, examples=["/var/spool/syndic"])
    """a folder of this machine, into which the software writes"""
    url: Annotated[str, AfterValidator(address)] | None = Field(
        None, examples=["sftp://gateway-7@sftp.syndic.example/exports"]
    )
    """or the SFTP server and folder from which the files are fetched"""
    host_key: str = Field(
        "",
        max_length=2_000,
        examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Wm5mEr0V9b2Xk8aQ2V7tZ4d1n6Yc3uHs5Lq8R"],
    )
    """the server's public key, as `ssh-keyscan` shows it and its operator confirms"""
    key: Secret | None = Field(None, examples=["credential:gardien_syndic-key"])
    """our private key for it, without a passphrase: where it is kept"""
    timeout: Annotated[Duration, Field(ge=0.1, le=600)] = Field(30.0, examples=["30s"])
    """how long the server may take for an answer until it counts as lost"""
    files: Text = Field("*.csv", examples=["baux*.csv"])
    """which files are read, by their names"""
    every: Annotated[Duration, Field(ge=1, le=DAY)] = Field(3600.0, examples=["1h"])
    """how often it is looked whether there is a new one"""
    overdue: Annotated[Duration, Field(ge=3600)] = Field(3.0 * DAY, examples=["3d"])
    """after how long without a new export `gardien status` says so"""
    columns: SyndicColumns = Field(
        examples=[{"dwelling": "Lot", "reference": "Bail", "since": "Entrée", "until": "Sortie"}]
    )
    """what the software calls each column"""
    last_day: bool = Field(False, examples=[True])
    """whether `until`, and the date of a move out, is the last day on which they live there; else
    it is the day after"""
    move_in: tuple[Text, ...] = Field(("entrée", "emménagement", "move in", "in"), examples=[["E"]])
    """what stands in the column `move` where somebody moves in"""
    move_out: tuple[Text, ...] = Field(
        ("sortie", "déménagement", "move out", "out"), examples=[["S"]]
    )
    """and where somebody moves out"""
    only: dict[Text, tuple[Text, ...]] = Field({}, examples=[{"Immeuble": ["0457"]}])
    """which rows are read, by what stands under a heading of the software's: of this building, of
    flats; others are counted"""
    late: Annotated[Duration, Field(ge=0)] = Field(3.0 * DAY, examples=["3d"])
    """a change whose date is longer ago than this waits for a person if readings have left since,
    which it would take back"""

    @model_validator(mode="after")
    def _together(self) -> Self:
        check_way(self.url, self.path, self.host_key, self.key)
        read = {heading.casefold() for heading in self.columns.headings.values()}
        for heading in self.only:
            if heading.casefold() in read:
                raise ValueError(
                    _(
                        "{heading} stands under `columns`, too: `only` is for other columns",
                        heading=shown(heading),
                    )
                )
        return self
