"""Pages that the manager publishes or files: the catalogue of personal data, the register of
processing activities, and the facts for an impact assessment. Pure.

What the gateway cannot know is marked as something to complete. It is never guessed.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.api.protection.stores import (
    backup_holders,
    facts,
    page_texts,
    period_text,
    periods,
    stores,
)
from agent.core.quantities import channels
from agent.registry.dates import day_written_out
from agent.registry.page import Page, colon, indexed, joined, label, shows, step_words, texts_of
from agent.registry.parsers import scope_of
from agent.registry.records import covers
from agent.registry.sheet import harmless

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.config import Config
    from agent.config.models import Contact, UplinkConfig
    from agent.registry.explain import ConfiguredReading
    from agent.registry.records import Consent, Duty
    from agent.registry.registry import Registry

INTERNAL = ("registry", "evidence", "operation", "control", "breach")
"""activities of the gateway itself, whichever recipients there are"""
HELD_BY = {
    "consent": ("spool", "quarantine", "kept"),
    "duty": ("spool", "quarantine", "kept", "registers"),
    "sums": ("memory", "spool", "kept"),
    "registry": ("registry", "syndic", "syndic_files"),
    "evidence": ("marks", "disclosed", "disclosed_before", "audit", "looks"),
    "operation": (
        "unclaimed",
        "history",
        "set_aside",
        "objects",
        "configuration",
        "log",
        "building",
    ),
    "control": ("orders",),
    "breach": ("breaches",),
}
"""the stores that each activity fills; their retention periods are the activity's"""
SCOPES = ("monthly", "daily", "loadcurve")


@dataclass(frozen=True, slots=True)
class Processing:
    """What the gateway knows of the processing: its configuration, its registry and what it
    reads.
    """

    config: Config
    registry: Registry
    reads: Sequence[ConfiguredReading]
    now: int

    @property
    def day(self) -> str:
        """Today in the building's time zone, as `2026-05-12`."""
        return datetime.fromtimestamp(self.now, self.config.zone).strftime("%Y-%m-%d")

    @property
    def consents(self) -> list[Consent]:
        """Consents in force or beginning later, of people who still live there."""
        gone = {
            one.id
            for one in self.registry.occupancies()
            if one.until is not None and one.until <= self.now
        }
        return [
            one
            for one in self.registry.consents()
            if one.withdrawn is None
            and one.until > max(one.since, self.now)
            and one.occupancy not in gone
        ]

    @property
    def duties(self) -> list[Duty]:
        """Duties in force."""
        return [one for one in self.registry.duties() if covers(one, self.now)]

    @property
    def read(self) -> list[str]:
        """Channels of dwellings that are read and that the catalogue explains, in the catalogue's
        order.
        """
        read = {one.channel for one in self.reads if one.place is None}
        return [name for name, one in channels().items() if name in read and one.en is not None]

    def called(self, recipient: str) -> str:
        """A recipient's DNS name, preceded by its name if the forms give one."""
        forms = self.config.privacy.forms
        names = {one.recipient: one.name for one in forms.asks} if forms else {}
        return f"{names[recipient]} ({recipient})" if recipient in names else recipient

    def uplinks(self) -> Iterator[tuple[str, UplinkConfig, str]]:
        """Each uplink with its name and its recipient."""
        for name, uplink in self.config.uplinks.items():
            yield name, uplink, str(uplink.settings.recipient)


def contact(person: Contact | None, key: str, language: str) -> str:
    """Name and address of a person; or a note that the configuration must name them."""
    says = page_texts(language)
    if person is None:
        return str(says["unnamed"].format(what=says[f"{key}_what"], key=key))
    return ", ".join(filter(None, (person.name, person.address, person.contact)))


def responsible(config: Config, language: str) -> list[str]:
    """The controller and the data protection officer, one line each."""
    says, privacy = page_texts(language), config.privacy
    return [
        f"{says[key]}{colon(language)} {contact(one, key, language)}"
        for key, one in (("controller", privacy.controller), ("dpo", privacy.dpo))
    ]


def heading(processing: Processing, page: Page, language: str) -> None:
    """Write which building and day the page is about, and who is responsible."""
    says, privacy = page_texts(language), processing.config.privacy
    building = processing.config.building.name
    day = day_written_out(processing.day, language)
    page.paragraph(says["written"].format(building=building, day=day, policy=privacy.policy))
    for line in responsible(processing.config, language):
        page.paragraph(line)


def catalogue_of(processing: Processing, language: str) -> dict[str, Any]:
    """The catalogue as data: each channel and each store, with its texts in one language."""
    privacy, read = processing.config.privacy, processing.read
    return {
        "building": processing.config.building.name,
        "policy": privacy.policy,
        "controller": privacy.controller and privacy.controller.model_dump(),
        "dpo": privacy.dpo and privacy.dpo.model_dump(),
        "channels": [
            {
                "channel": name,
                "label": label(name, language),
                "unit": channel.unit,
                "shows": shows(name, language),
                "read_here": name in read,
                "uses": list(_uses(processing, name, language)),
            }
            for name, channel in channels().items()
            if channel.en is not None
        ],
        "stores": [
            {"store": one.id, "files": one.files, "sealed": bool(one.keys)}
            | dict(one.texts(processing.config, language))
            for one in stores().values()
        ],
        "periods": dict(periods(processing.config)),
    }


def _uses(processing: Processing, channel: str, language: str) -> Iterator[str]:
    """Why and to whom a channel is sent, each purpose once."""
    says, uses = page_texts(language), dict[str, None]()
    for consent in processing.consents:
        if channel in consent.channels:
            step = step_words(consent.step, language)
            use = says["use_consent"].format(
                purpose=consent.purpose, recipient=processing.called(consent.recipient), step=step
            )
            uses[use] = None
    for duty in processing.duties:
        if channel in duty.channels:
            use = says["use_duty"].format(
                reference=duty.reference,
                recipient=processing.called(duty.recipient),
                billing=_billing(duty, language),
            )
            uses[use] = None
    for _, uplink, recipient in processing.uplinks():
        if channel in uplink.sums:
            uses[says["use_sum"].format(recipient=processing.called(recipient))] = None
    yield from uses


def _billing(duty: Duty, language: str) -> str:
    """The billing days of a duty as text; empty if it has none."""
    if not duty.billing:
        return ""
    days = ", ".join(day_written_out(day, language) for day in duty.billing)
    return str(page_texts(language)["billing"].format(days=days))


def catalogue_page(processing: Processing, language: str) -> Page:
    """The catalogue as a page, ready to publish."""
    says, known = page_texts(language), facts(processing.config, language)
    data, page = (
        catalogue_of(processing, language),
        Page(language, page_texts(language)["catalogue_title"]),
    )
    heading(processing, page, language)
    page.paragraph(says["catalogue_intro"])
    page.paragraph(says["catalogue_rule"].format(**known))
    page.heading(says["channels"])
    here = [one for one in data["channels"] if one["read_here"]]
    rows = [
        (_capital(one["label"]), one["shows"], joined(one["uses"], language) or says["use_none"])
        for one in here
    ]
    if rows:
        page.grid(rows, says["channels_columns"])
        page.paragraph(says["channel_long"].format(**known))
        page.paragraph(says["channel_reason"])
    else:
        page.paragraph(says["channels_none"])
    if names := sorted({processing.called(recipient) for _, _, recipient in processing.uplinks()}):
        page.paragraph(says["channel_far"].format(names=", ".join(names)))
    others = [one["label"] for one in data["channels"] if not one["read_here"]]
    page.paragraph(says["channels_others"].format(names=joined(others, language)))
    page.heading(says["stores"])
    for store in stores().values():
        text = store.texts(processing.config, language)
        parts = ("what", "why", "whom", "long", "reason")
        columns = says["store_columns"].split("|")
        cells = [*(text[part] for part in parts), store.place(language)]
        page.entry(text["name"], list(zip(map(_capital, columns), cells, strict=True)))
    same_as_in_letter = texts_of("letter", language)
    page.heading(same_as_in_letter["rights"])
    page.paragraph(same_as_in_letter["rights_words"])
    return page


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def safeguards(processing: Processing, language: str) -> list[str]:
    """The security measures, as built and as configured."""
    says, config = page_texts(language), processing.config
    measures = [says["safe_rest"]]
    for name, uplink, recipient in processing.uplinks():
        how = joined((says[f"safe_{one}"] for one in _transport(uplink.settings)), language)
        measures.append(says["safe_transport"].format(uplink=name, recipient=recipient, how=how))
    measures += [says["safe_access"], says["safe_audit"], says["safe_signed"]]
    measures.append(says["safe_backup" if config.backup else "safe_backup_none"])
    measures.append(says["safe_updates" if config.updates else "safe_updates_people"])
    return measures


def _transport(settings: Any) -> Iterator[str]:
    """How data are protected on the way to a recipient, as names of texts in words.yaml."""
    scheme = urlsplit(str(settings.url or "")).scheme
    if scheme in {"mqtts", "https"}:
        yield "tls"
    elif scheme == "sftp":
        yield "sftp"
    elif scheme:
        yield "plain"
    if container := getattr(settings, "container", None):
        yield str(container)


def _host(settings: Any) -> tuple[str, str]:
    """The name of the text that states the destination, and the server or folder."""
    if settings.url:
        return "transfer", str(urlsplit(str(settings.url)).hostname)
    return "transfer_folder", str(settings.path)


def register(processing: Processing, language: str) -> list[dict[str, str]]:
    """The register of processing activities: for each activity what article 30 requires."""
    privacy = processing.config.privacy
    shared = {
        "controller": contact(privacy.controller, "controller", language),
        "dpo": contact(privacy.dpo, "dpo", language),
        "safeguards": joined(
            (one.rstrip(".") for one in safeguards(processing, language)), language
        ),
    }
    return [shared | row for row in _activities(processing, language)]


COLUMNS = (
    "activity", "controller", "dpo", "purpose", "basis", "people", "data", "recipients",
    "transfers", "periods", "safeguards",
)  # fmt: skip
"""keys of the register, in the order of its headings in `register_columns`"""


def _activities(processing: Processing, language: str) -> Iterator[dict[str, str]]:
    says = page_texts(language)
    known, named = facts(processing.config, language), says["activities"]
    where = {recipient: _host(uplink.settings) for _, uplink, recipient in processing.uplinks()}

    def sent(
        activity: str, recipient: str, channels_: Sequence[str], **more: str
    ) -> dict[str, str]:
        labels = ", ".join(label(one, language) for one in channels_)
        if any(map(indexed, channels_)):
            labels += says["at_exchange"]
        how, host = where.get(recipient, ("transfer_unlinked", ""))
        long = _retention(processing, HELD_BY[activity], language)
        return {
            "activity": named[activity]["name"].format(**more),
            "purpose": named[activity]["purpose"].format(**known, **more),
            "basis": says[f"basis_{more.get('basis', activity)}"].format(**more),
            "people": says["people"],
            "data": named[activity]["data"].format(channels=labels, **more),
            "recipients": processing.called(recipient),
            "transfers": says[how].format(host=host),
            "periods": f"{long} {_capital(says['far_period'])}.",
        }

    grouped: dict[tuple[str, str], list[Consent]] = {}
    for consent in processing.consents:
        grouped.setdefault((consent.recipient, consent.purpose), []).append(consent)
    for (recipient, purpose), given in sorted(grouped.items()):
        names = sorted({name for one in given for name in one.channels})
        steps = sorted({one.step for one in given}, reverse=True)
        fine = ", ".join(step_words(step, language) for step in steps)
        yield sent("consent", recipient, names, purpose=purpose, step=fine)
    for duty in processing.duties:
        billing = _billing(duty, language)
        yield sent("duty", duty.recipient, duty.channels, reference=duty.reference, billing=billing)
    for _, uplink, recipient in processing.uplinks():
        if uplink.sums:
            yield sent("sums", recipient, uplink.sums, basis="interest")
    for activity in INTERNAL:
        if activity != "control" or processing.config.controls:
            yield _internal_activity(processing, activity, language)


def _retention(processing: Processing, held: Sequence[str], language: str) -> str:
    """How long each of these stores keeps its data, as text."""
    texts = (stores()[one].texts(processing.config, language) for one in held)
    return " ".join(f"{text['name']}{colon(language)} {text['long']}." for text in texts)


def _internal_activity(processing: Processing, activity: str, language: str) -> dict[str, str]:
    """The register's row for an activity of the gateway itself."""
    says = page_texts(language)
    named = says["activities"][activity]
    held = [stores()[one].texts(processing.config, language) for one in HELD_BY[activity]]
    staff = any(stores()[one].staff for one in HELD_BY[activity])
    people = [says["people"], *([says["people_staff"]] if staff else [])]
    basis = {"evidence": "law", "breach": "law", "control": "control"}.get(activity, "interest")
    recipients = backup_holders(processing.config) if activity == "operation" else []
    if activity == "registry" and processing.config.uplinks:
        recipients = [says["told"]]
    if activity in {"evidence", "control", "breach"}:  # the recipients that the stores' texts name
        recipients = [joined(dict.fromkeys(text["whom"] for text in held), language)]
    abroad = (
        recipients
        and activity != "breach"
        and (activity == "operation" or processing.config.uplinks)
    )
    return {
        "activity": named["name"],
        "purpose": named["purpose"],
        "basis": says[f"basis_{basis}"],
        "people": ", ".join(people),
        "data": joined((text["what"] for text in held), language),
        "recipients": ", ".join(recipients) or says["nobody"],
        "transfers": says["transfer_told" if abroad else "transfer_none"],
        "periods": _retention(processing, HELD_BY[activity], language),
    }


def register_page(processing: Processing, language: str) -> Page:
    """The register as a page, one activity after the other."""
    says = page_texts(language)
    page = Page(language, says["register_title"])
    heading(processing, page, language)
    columns = says["register_columns"].split("|")
    for row in register(processing, language):
        cells = [(_capital(columns[n]), row[key]) for n, key in enumerate(COLUMNS)]
        # without the first three columns: the page has the responsible persons at its top
        page.entry(row["activity"], [cells[n] for n in range(3, len(COLUMNS) - 1)])
    page.heading(_capital(columns[-1]))
    page.bullets(safeguards(processing, language))
    return page


def register_table(processing: Processing, language: str) -> str:
    """The register as CSV (UTF-8, semicolons), one activity a line, with building and day."""
    says, out = page_texts(language), io.StringIO()
    out.write("\ufeff")  # byte order mark, or spreadsheet programs assume another encoding
    writer = csv.writer(out, delimiter=";", lineterminator="\n")
    writer.writerow([*says["register_of"].split("|"), *says["register_columns"].split("|")])
    # a name that begins with = would be run as a formula by a spreadsheet
    whose = [harmless(processing.config.building.name), processing.day]
    rows = register(processing, language)
    writer.writerows([*whose, *(harmless(row[key]) for key in COLUMNS)] for row in rows)
    return out.getvalue()


def assessment(processing: Processing, language: str) -> dict[str, Any]:
    """The facts for an impact assessment, as data."""
    registry, now, config = processing.registry, processing.now, processing.config
    dwellings = registry.dwellings()
    fine = [
        one.every
        for one in processing.reads
        if one.place is None and one.channel in processing.read
    ]
    scopes = [scope_of(one.step) for one in processing.consents if covers(one, now)]
    marks = {mark.id for one in registry.occupancies() for mark in registry.marks(one.id)
             if mark.cause != "restored"}  # fmt: skip
    return {
        "dwellings": len(dwellings),
        "occupied": sum(registry.occupancy_at(one, now) is not None for one in dwellings),
        "meters": sum(covers(one, now) and one.place[0] == "D" for one in registry.installations()),
        "channels": processing.read,
        "finest": min(fine, default=None),
        "floor": periods(config)["floor"],
        "consents": {one: scopes.count(one) for one in SCOPES},
        "withdrawals": len(marks),
        "duties": [one.reference for one in processing.duties],
        "recipients": sorted({recipient for _, _, recipient in processing.uplinks()}),
        "fewest": config.privacy.fewest,
        "controls": list(config.controls),
        "flows": [
            {"recipient": recipient, "how": list(_transport(uplink.settings)), "what": what}
            for _, uplink, recipient in processing.uplinks()
            for what in [list(_flow(processing, uplink, recipient, language))]
        ],
        "safeguards": safeguards(processing, language),
        "to_complete": [page_texts(language)[f"ask_{n}"] for n in range(1, 7)],
    }


def _flow(
    processing: Processing, uplink: UplinkConfig, recipient: str, language: str
) -> Iterator[str]:
    """What one recipient receives, as sentences."""
    says, common = page_texts(language), processing.config.privacy.common
    purposes = sorted({one.purpose for one in processing.consents if one.recipient == recipient})
    if purposes:
        yield says["flow_consents"].format(purposes=", ".join(purposes))
    for duty in processing.duties:
        if duty.recipient == recipient:
            yield says["flow_duty"].format(reference=duty.reference)
    if uplink.sums:
        names = (label(one, language) for one in uplink.sums)
        yield says["flow_sums"].format(channels=", ".join(names))
    if common is not None:
        yield says["flow_common"].format(basis=common.basis)


def assessment_page(processing: Processing, language: str) -> Page:
    """The facts for an impact assessment as a page, in the order of article 35(7)."""
    says, known, data = (
        page_texts(language),
        facts(processing.config, language),
        assessment(processing, language),
    )
    page = Page(language, says["assessment_title"])
    heading(processing, page, language)
    page.paragraph(says["assessment_intro"])
    page.heading(says["described"])
    labels = ", ".join(label(one, language) for one in data["channels"])
    rows = [
        (says["fact_dwellings"], str(data["dwellings"])),
        (says["fact_occupied"], str(data["occupied"])),
        (says["fact_meters"], str(data["meters"])),
        (says["fact_channels"], labels or "–"),
        (says["fact_finest"], period_text(data["finest"], language) if data["finest"] else "–"),
        (says["fact_floor"], known["floor"]),
        *(
            (says["fact_consents"].format(scope=says[f"scope_{one}"]), str(number))
            for one, number in data["consents"].items()
        ),
        (says["fact_withdrawals"], str(data["withdrawals"])),
        (says["fact_duties"], ", ".join(data["duties"]) or "–"),
        (says["fact_recipients"], ", ".join(data["recipients"]) or "–"),
        (says["fact_fewest"], str(data["fewest"])),
        (says["fact_controls"], ", ".join(data["controls"]) or "–"),
    ]
    page.grid(rows, says["facts_columns"])
    page.heading(says["flows"])
    flows = [
        (
            one["recipient"],
            joined((says[f"safe_{how}"] for how in one["how"]), language),
            joined(one["what"], language) or says["flow_nothing"],
        )
        for one in data["flows"]
    ]
    page.grid(flows, says["flows_columns"]) if flows else page.paragraph(says["flows_none"])
    page.heading(says["necessity"])
    needs = ("default", "thin", "sums", "withdraw", "move", "names")
    page.bullets([says[f"need_{one}"].format(**known) for one in needs])
    page.heading(says["exercised"])
    page.paragraph(says["exercise"])
    page.heading(says["retention"])
    texts = (one.texts(processing.config, language) for one in stores().values())
    page.grid([(t["name"], t["long"], t["reason"]) for t in texts], says["retention_columns"])
    page.heading(says["safeguards"])
    page.bullets(data["safeguards"])
    page.heading(says["residual"])
    risks = ("disk", "former", "habits", "far", "small", "collector", "unset")
    page.bullets([says[f"risk_{one}"].format(**known) for one in risks])
    page.heading(says["asked"])
    page.bullets(data["to_complete"])
    return page
