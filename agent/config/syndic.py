"""The section `syndic`: where the building manager's software exports leases and moves, and the
headings of its columns.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from agent.config.models import Section, Text
from agent.core.i18n import _
from agent.core.settings import Duration, FromTheRoot, Secret, shown
from agent.uplink.settings.files import address, check_way

DAY = 86_400


class SyndicColumns(Section):
    """The columns of the export: gardien's name on the left, the heading on the right.

    Columns that are not named here are not read.
    """

    dwelling: Text = Field(examples=["N° lot"])
    """the dwelling, by its label or an alias"""
    reference: Text | None = Field(None, examples=["N° bail"])
    """the number of the lease"""
    since: Text | None = Field(None, examples=["Date d'entrée"])
    """the first day of the lease"""
    until: Text | None = Field(None, examples=["Date de sortie"])
    """the end of the lease; an empty cell: no end"""
    move: Text | None = Field(None, examples=["Mouvement"])
    """in a list of moves: a move in or a move out"""
    date: Text | None = Field(None, examples=["Date du mouvement"])
    """in a list of moves: the date"""

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
        """The configured headings, by gardien's name of the column."""
        headings = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: heading for name, heading in headings.items() if heading}


class Syndic(Section):
    """The building manager's software, which exports leases and moves as CSV files."""

    path: FromTheRoot | None = Field(None, examples=["/var/spool/syndic"])
    """the folder on this machine to which the software writes"""
    url: Annotated[str, AfterValidator(address)] | None = Field(
        None, examples=["sftp://gateway-7@sftp.syndic.example/exports"]
    )
    """instead of `path`: the SFTP server and folder from which the files are fetched"""
    host_key: str = Field(
        "",
        max_length=2_000,
        examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Wm5mEr0V9b2Xk8aQ2V7tZ4d1n6Yc3uHs5Lq8R"],
    )
    """the server's public key as `ssh-keyscan` shows it; compare it with its operator"""
    key: Secret | None = Field(None, examples=["credential:gardien_syndic-key"])
    """where our private key for the server is stored; it must have no passphrase"""
    timeout: Annotated[Duration, Field(ge=0.1, le=600)] = Field(30.0, examples=["30s"])
    """how long to wait for an answer of the server until the connection is lost"""
    files: Text = Field("*.csv", examples=["baux*.csv"])
    """the pattern of the names of files that are read"""
    every: Annotated[Duration, Field(ge=1, le=DAY)] = Field(3600.0, examples=["1h"])
    """how often gardien looks for a new export"""
    overdue: Annotated[Duration, Field(ge=3600)] = Field(3.0 * DAY, examples=["3d"])
    """the time without a new export after which `gardien status` has an alarm"""
    columns: SyndicColumns = Field(
        examples=[{"dwelling": "Lot", "reference": "Bail", "since": "Entrée", "until": "Sortie"}]
    )
    """the headings of the columns"""
    last_day: bool = Field(False, examples=[True])
    """whether `until` and the date of a move out give the last day of the occupancy; otherwise they
    give the day after it"""
    move_in: tuple[Text, ...] = Field(("entrée", "emménagement", "move in", "in"), examples=[["E"]])
    """values of the column `move` that mean a move in"""
    move_out: tuple[Text, ...] = Field(
        ("sortie", "déménagement", "move out", "out"), examples=[["S"]]
    )
    """values of the column `move` that mean a move out"""
    only: dict[Text, tuple[Text, ...]] = Field({}, examples=[{"Immeuble": ["0457"]}])
    """values by heading: only rows with one of them are read, such as those of this building; the
    others are only counted"""
    late: Annotated[Duration, Field(ge=0)] = Field(3.0 * DAY, examples=["3d"])
    """a change with an older date waits for a person's decision if readings that it concerns have
    been sent since that date"""

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
