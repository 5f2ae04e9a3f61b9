"""The letter to the people of a dwelling: it says what is so, or that it cannot be known."""

import asyncio
import datetime as dt
import html
import json
import re
import time
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from agent.api.calls import CALLS
from agent.api.registry import Caller
from agent.app import visited
from agent.buffer.database import in_own_thread
from agent.buffer.disclosures import tokens_of
from agent.buffer.orphaned_spools import destroy, spool_of
from agent.buffer.unassigned_store import UnassignedStore, UnassignedValue
from agent.core.clock import stamp
from agent.core.model import Lane, Reading, Series, SlotMark
from agent.gateway.gateway import policy_of
from agent.gateway.recipient import memory_of, open_recipient, take_left_records
from agent.registry import identity
from agent.registry.dates import day_written_out, written_out
from agent.registry.forms import Box
from agent.registry.inputs import (
    NewAlias,
    NewAnswer,
    NewConsent,
    NewDuty,
    NewInstallation,
    NewOccupancy,
    NewPlace,
)
from agent.registry.place import shown
from tests.command import gardien
from tests.contract.buffer.far import FOREVER, receipt_for

DAY = 86_400
US, MANAGER = "centre.example", "syndic.example"
NOTHING = "No value measured in your dwelling leaves the building today."
CONFIG = """\
building: {{name: Les Alpins}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: 9}}
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120, every: 15min}}
uplinks:
  centre: {{recipient: {us}, transport: mqtt, url: "mqtt://127.0.0.1:9"{more}}}
  other: {{recipient: other.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}}
privacy: {{policy: FR-1}}
clock: {{source: system}}
state: {state}
"""


class Gateway:
    """A gateway whose agent is stopped, with one dwelling; its meter is known by its number."""

    def __init__(self, folder):
        self.path, self.state, self.folder = folder / "config.yaml", folder / "state", folder
        self.state.mkdir()
        identity.mint(self.state)
        self.now = int(time.time())
        self.since = self.now - 30 * DAY
        self.write()
        self.inside(self._furnish)

    def write(self, more="", uplink=None):
        text = CONFIG.format(us=US, state=self.state, more=more)
        self.path.write_text(text if uplink is None else text.replace(f"recipient: {US}", uplink))

    def inside(self, call):
        async def visit():
            async with visited(self.path) as house:
                return await call(house)

        return asyncio.run(visit())

    async def _furnish(self, house):
        registry, by = house.registry, ("marie", "a list")
        registry.add_places([NewPlace("A-1", "dwelling", since=self.since)], *by, self.since)
        meter = NewInstallation("A-1", serial="45", since=self.since)
        registry.install([meter], *by, self.since)
        self.place = registry.place("A-1").id
        (self.home,) = registry.occupancies_of(self.place)

    def consent(self, since=None, until=None, recipient=US):
        async def given(house):
            row = NewConsent(
                "A-1", recipient, ("elec.imp",), DAY, "advice",
                since=self.since if since is None else since, until=until,
            )  # fmt: skip
            by = ("marie", "a list", float(self.since))
            (found,) = house.registry.consent([row], *by, policy_of(house.config))
            return found

        return self.inside(given)

    def duty(self, recipient=MANAGER, since=None, until=None):
        async def added(house):
            since_ = self.since - DAY if since is None else since
            row = NewDuty(
                recipient, "décret 2020-886", ("elec.imp",), since=since_, until=until,
                billing=("06-30",),
            )  # fmt: skip
            (found,) = house.registry.oblige([row], "marie", "a list", float(self.since))
            return found

        return self.inside(added)

    def spool(self, use, name="centre"):
        """What `use` does with the open spool, in its own thread."""

        async def opened(house):
            async with open_recipient(house, name) as recipient:
                return await recipient.thread.run(use, recipient.spool)

        return self.inside(opened)

    def row(self, basis, t=None, occupancy=None):
        whose = occupancy or self.home.id
        series = Series(self.place, "elec.imp", "REG", "kWh", DAY, "45", whose, basis)
        return Reading(series, self.now - DAY if t is None else t, Decimal("12.50"), "V")

    def keep(self, *rows, name="centre"):
        """Rows that wait, and what the device said last."""
        marks = {("m-1", 900): SlotMark(self.now, heard=True, serial="45")}
        self.spool(lambda spool: spool.append(rows, marks), name)

    def deliver(self, name="centre", now=None):
        """All that waits is received."""

        at = float(self.now if now is None else now)
        self.spool(lambda spool: delivered(spool, at), name)

    def receive_from_memory(self, *rows):
        """All of these rows is received while the disk fails; the device is known."""
        self.keep()

        async def received(house):
            house.registry.mute = True  # as if the disk failed
            async with open_recipient(house, "centre") as recipient:
                assert recipient.kept
                await recipient.thread.run(recipient.spool.append, rows, {}, float(self.now))
                await recipient.thread.run(delivered, recipient.spool, float(self.now))

        self.inside(received)

    def erase(self, *, confirm):
        """Tell the recipient what to erase; it answers, or not."""

        def told(spool):
            batch = spool.retract(float(self.now), "trusted")
            (id_,) = spool.erasures()
            answer = {"retracted": ((id_, 1),)} if confirm else {}
            spool.settle(receipt_for(batch, **answer), float(self.now))

        self.spool(told)

    def answer(self, **asked):
        async def ask(house):
            call, words = CALLS["privacy.person"], {"place": "A-1", "language": "en"}
            return await call(house, Caller("alice", None), **words | asked)

        found = self.inside(ask)
        return text_of(found["letter"]), found

    def command(self, *words, language="en"):
        given = [str(one) for one in ("privacy", *words, "-c", self.path)]
        return gardien(*given, env={"LANGUAGE": language})


def delivered(spool, at):
    while batch := spool.seal(Lane.BACKFILL, at, "trusted", FOREVER):
        spool.settle(receipt_for(batch), at)


def day_of(moment):
    """A day of the building as an English letter writes it."""
    return written_out(moment, ZoneInfo("Europe/Paris"), "en")


def text_of(letter):
    body = letter.split("</style>")[1]
    for tag, mark in (("</t[dh]>", " | "), ("</(tr|p|h1|h2|li|table)>", "\n")):
        body = re.sub(tag, mark, body)
    # lines do not end at spaces before French punctuation
    return html.unescape(re.sub("<[^>]+>", "", body)).replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture
def gateway(tmp_path):
    return Gateway(tmp_path)


def kinds(answer):
    return [(one["kind"], one["recipient"]) for one in answer["unknown"]]


def test_a_stopped_agent_knows_the_meter_by_what_it_said_last(gateway):
    gateway.keep()
    gateway.consent()
    letter, answer = gateway.answer()
    assert kinds(answer) == []
    assert f"{US} | electricity taken from the grid | one index a day | advice" in letter
    assert "If a meter is exchanged, its last index and the first one of the new meter" in letter
    assert NOTHING not in letter


@pytest.mark.parametrize("language", ["en", "fr"])
def test_a_meter_that_never_said_who_it_is_leaves_the_letter_incomplete(gateway, language):
    gateway.consent()
    words = ("person", "A-1", "--language", language, "--to", gateway.folder)
    said = gateway.command(*words, language=language)
    letter = text_of((gateway.folder / "A-1.html").read_text())
    assert said.exit_code == 1
    assert "gardien meter list" in said.output
    if language == "en":
        assert "meter 45 is not identified yet" in said.output
        assert "This letter is incomplete" in letter
        assert "it cannot say that nothing leaves the building" in letter
        assert "Nothing else is measured" not in letter
    else:
        assert "le compteur 45 n'est pas encore identifié" in said.output
        assert "Cette lettre est incomplète" in letter
        assert "elle ne peut pas dire que rien ne quitte l'immeuble" in letter


def test_nothing_leaves_is_said_where_it_is_known(gateway):
    gateway.keep()
    letter, answer = gateway.answer()
    assert NOTHING in letter
    assert "If a meter is exchanged" not in letter
    assert answer["unknown"] == []
    assert gateway.command("person", "A-1", "--to", gateway.folder).exit_code == 0


def test_that_a_recipient_is_told_what_is_withheld_stands_in_the_letter(gateway):
    gateway.write(more=", withheld: true")
    gateway.keep()
    letter, answer = gateway.answer()
    assert f"{US} | electricity taken from the grid (no value: only that this" in letter
    assert NOTHING not in letter
    assert f"withheld;;{US};elec.imp;86400;" in answer["csv"]
    said = gateway.command("explain", "A-1").output
    assert (
        f"A-1, elec.imp: {US} is notified daily, without a value, that the data is withheld" in said
    )


def test_a_duty_without_an_uplink_is_named_and_what_it_brought_is_not_known(gateway):
    gateway.keep()
    gateway.consent()
    gateway.duty()
    words = ("person", "A-1", "--stop", "--as", "marie", "--language", "en")
    said = gateway.command(*words, "--to", gateway.folder, language="fr")
    letter = text_of((gateway.folder / "A-1.html").read_text())
    assert said.exit_code == 1
    assert f"{MANAGER} n'a pas de liaison, et il n'en reste aucune trace" in said.output
    assert "continues without consent" not in said.output
    assert f"Remains possible without your consent: {MANAGER}" in letter
    assert "Continues without your consent" not in letter
    assert NOTHING not in letter
    assert f"{MANAGER} | electricity taken from the grid | décret 2020-886 | 30 June" in letter
    assert "in force, but no uplink is configured" in letter
    said = gateway.command("explain", "A-1")
    assert f"{MANAGER} may receive indexes without consent (décret 2020-886)" in said.output
    assert said.exit_code == 1  # as the letter: what it received is not known


def test_duties_stand_in_the_letter_with_their_dates_also_when_they_have_ended(gateway):
    gateway.keep()
    gateway.duty(US, until=gateway.now - DAY)
    gateway.duty("other.example", since=gateway.now + DAY)
    letter, answer = gateway.answer(stop=True)
    began, ended = day_of(gateway.since - DAY), day_of(gateway.now - DAY)
    assert f"décret 2020-886 | 30 June | {began} | {ended} | ended" in letter
    assert f"| 30 June | {day_of(gateway.now + DAY)} |  | not begun yet" in letter
    assert "There was no consent left to withdraw" in letter
    assert "Continues without your consent" not in letter
    assert answer["goes_on"] == []


def test_a_duty_goes_on_also_where_there_was_no_consent_to_withdraw(gateway):
    gateway.keep()
    gateway.duty(US)
    letter, answer = gateway.answer(stop=True)
    assert f"Continues without your consent: {US} receives the index" in letter
    assert f"{US} | electricity taken from the grid | one index a month" in letter
    assert [one["uplink"] for one in answer["goes_on"]] == [True]


def test_what_was_received_and_erased_is_said_to_be_erased_once_that_is_confirmed(gateway):
    consent = gateway.consent()
    gateway.keep(gateway.row(consent.id))
    gateway.deliver()
    day = day_written_out(stamp(gateway.now)[:10], "en")  # received values are counted by UTC day
    line = f"{day} | {US} | electricity taken from the grid | 1 |"
    assert f"{line} no erasure asked for" in gateway.answer()[0]
    asked, answer = gateway.answer(stop=True)
    assert f"{line} asked to erase, not yet confirmed" in asked
    assert (answer["unconfirmed"], answer["unasked"]) == ([US], [])
    gateway.erase(confirm=False)
    assert f"{line} asked to erase, not yet confirmed" in gateway.answer()[0]
    said = gateway.command("person", "A-1", "--to", gateway.folder)
    assert f"{US} was asked to erase its data, and has not confirmed it yet" in said.output
    assert said.exit_code == 0


def test_a_consent_that_was_withdrawn_was_given_when_it_was_given(gateway):
    gateway.keep()
    gateway.consent()
    given, today = day_of(gateway.since), day_of(gateway.now)
    letter, _ = gateway.answer(stop=True)
    assert f"| advice | {given} | {given} |" in letter
    assert f"| withdrawn on {today} |" in letter


def test_what_they_refused_and_the_form_that_asked_stand_in_letter_and_table(gateway):
    async def refuse(house):
        at, by = float(gateway.now), ("marie", "a list")
        boxes = [Box(US, "advice", ("elec.imp",), DAY, 12)]
        (form,) = house.registry.print_forms(["A-1"], boxes, "marie", at)
        answer = [NewAnswer(form.id, ("no",), gateway.now)]
        house.registry.answer(answer, *by, at, policy_of(house.config), without_effect=[])
        return shown(form.id)

    number, today = gateway.inside(refuse), day_of(gateway.now)
    letter, found = gateway.answer()
    assert f"{today} | {US} | a request refused" in letter
    assert f"{number} | {today} | {today}" in letter
    assert re.search(rf"^mark;\w+;{US};.*;a request refused;", found["csv"], re.MULTILINE)
    assert f"form;{number};" in found["csv"]


def test_a_confirmed_erasure_stands_in_letter_table_and_list(gateway):
    consent = gateway.consent()
    gateway.keep(gateway.row(consent.id))
    gateway.deliver()
    gateway.answer(stop=True)
    gateway.erase(confirm=True)
    letter, answer = gateway.answer()
    assert "| 1 | erasure confirmed" in letter
    assert "consent withdrawn | erasure confirmed (rows erased: 1)" in letter
    assert "1 values; erasure confirmed" in answer["csv"]
    assert answer["unconfirmed"] == []
    assert "effacement confirmé (lignes effacées : 1)" in gateway.answer(language="fr")[0]
    assert "erasure confirmed" in " ".join(gateway.command("disclosures", "A-1").output.split())


def test_values_of_an_ended_consent_that_wait_may_still_leave(gateway):
    consent = gateway.consent(until=gateway.now - DAY + 60)
    gateway.keep(gateway.row(consent.id))
    letter, _ = gateway.answer()
    assert "Nothing new is sent, but values that were measured already may still be" in letter
    assert f"Values for {US} that wait here" in letter
    assert "| ended |" in letter
    assert NOTHING not in letter


def test_a_consent_that_begins_later_stands_in_the_letter(gateway):
    gateway.keep()
    gateway.consent(since=gateway.now + DAY)
    letter, _ = gateway.answer()
    assert NOTHING in letter
    assert "| not begun yet |" in letter


def test_what_those_before_had_sent_is_not_in_the_letter_to_those_after(gateway):
    """Rule P22."""
    duty = gateway.duty(US)
    moved = gateway.now - 10 * DAY

    async def move(house):
        rows = [
            NewOccupancy("move_out", "A-1", until=moved),
            NewOccupancy("move_in", "A-1", since=moved),
        ]
        house.registry.occupy(rows, "marie", "a list", float(moved))

    gateway.inside(move)
    gateway.keep(gateway.row(duty.id, t=moved - DAY))
    gateway.deliver()  # long after they moved
    assert "No recipient has confirmed the receipt" in gateway.answer()[0]
    before, _ = gateway.answer(occupancy=gateway.home.id)
    assert f"{US} | electricity taken from the grid | 1 |" in before
    assert "No new value is sent for you: you do not live in this dwelling today." in before
    assert f"| from {day_of(gateway.since)} to {day_of(moved)} |" in before  # the meter, for them
    assert NOTHING not in before  # the people who live there now may have consented
    listed = gateway.command("disclosures", "A-1").output
    assert "elec.imp" not in listed
    assert f"--id {shown(gateway.home.id)}" in listed
    assert "elec.imp" in gateway.command("disclosures", "A-1", "--id", gateway.home.id).output


def test_an_uplink_that_was_removed_is_not_forgotten(gateway):
    consent = gateway.consent()
    gateway.keep(gateway.row(consent.id))
    gateway.deliver()
    gateway.keep(gateway.row(consent.id, t=gateway.now - 60))
    gateway.write(uplink="recipient: new.example")
    letter, answer = gateway.answer(stop=True)
    assert kinds(answer)[-1] == ("leftover", US)
    assert f"{US} | electricity taken from the grid | 1 | erasure still to be asked for" in letter
    assert f"Consent withdrawn: {US}, electricity taken from the grid" in letter
    assert "is destroyed" not in letter.split("What is measured")[0]
    assert answer["unasked"] == [US]
    said = gateway.command("disclosures")
    assert (said.exit_code, f"gardien uplink close {US} --drop" in said.output) == (1, True)


@pytest.mark.parametrize("again", [False, True], ids=["without an uplink", "with a new one"])
def test_what_was_received_is_known_after_the_spool_was_destroyed(gateway, again):
    consent = gateway.consent()
    gateway.keep(gateway.row(consent.id))
    gateway.deliver()
    words = tokens_of(identity.load(gateway.state), US)
    destroy(gateway.state, US, float(gateway.now), words)
    if again:
        gateway.keep()
    else:
        gateway.write(uplink="recipient: new.example")
    letter, _ = gateway.answer()
    assert f"{US} | electricity taken from the grid | 1 | no erasure asked for" in letter


def received_of(gateway):
    """How many values the dossier says were received, and how many a recipient still has."""

    async def ask(house):
        answer = await CALLS["privacy.disclosures"](house, Caller("alice", None), place="A-1")
        return [(one["received"], one["least"], one["most"]) for one in answer["holdings"]]

    return gateway.inside(ask)


@pytest.mark.parametrize("left", ["alone", "recorded", "interrupted", "destroyed"])
def test_what_was_received_from_memory_is_known_after_the_uplink_was_removed(gateway, left):
    """Rules P18, P28, A4: once the disk has the record, also after a reboot."""
    gateway.receive_from_memory(gateway.row(gateway.consent().id))
    file = memory_of(gateway.state, US)
    gateway.write(uplink="recipient: new.example")
    if left == "destroyed":
        destroy(gateway.state, US, float(gateway.now), tokens_of(identity.load(gateway.state), US))
    elif left != "alone":
        whole = file.read_bytes()
        gateway.inside(take_left_records)
        if left == "recorded":
            file.unlink()
        else:  # killed before memory knew that the disk has it
            file.write_bytes(whole)
            for name in ("wal", "shm"):
                file.with_name(f"{file.name}-{name}").unlink(missing_ok=True)
    assert file.exists() is (left in {"alone", "interrupted"})
    assert received_of(gateway) == [(1, 1, 1)]


@pytest.mark.parametrize("waits", [True, False])
def test_the_disk_has_the_record_of_memory_as_soon_as_it_works(gateway, waits):
    """Rule P18: also while memory still delivers, and if its uplink is removed by then."""
    row = gateway.row(gateway.consent().id)
    gateway.receive_from_memory(row)

    async def works(house):
        async with open_recipient(house, "centre") as recipient:
            memory, thread = recipient.in_memory
            if waits:
                later = replace(row, t=row.t - DAY)
                await thread.run(memory.append, [later], {}, float(gateway.now))
                await thread.run(delivered, memory, float(gateway.now))

    gateway.inside(works)
    memory_of(gateway.state, US).unlink()
    gateway.write(uplink="recipient: new.example")
    assert received_of(gateway)[0][0] == 1 + waits


def test_a_dossier_is_of_one_moment(gateway):
    """Rule P28: a receipt that came between two looks at the spool hid the value from both."""
    gateway.keep(gateway.row(gateway.consent().id))

    class Receives:
        """The thread of a spool, in which a receipt is next after each call."""

        def __init__(self, spool, thread):
            self.spool, self.thread = spool, thread

        async def run(self, call, *args):
            result = await self.thread.run(call, *args)
            batches = await self.thread.run(self.spool.unreceipted)
            for batch in batches:
                await self.thread.run(self.spool.settle, receipt_for(batch), float(gateway.now))
            return result

    async def ask(house):
        async with open_recipient(house, "centre") as recipient:
            at = float(gateway.now)
            await recipient.thread.run(recipient.spool.seal, Lane.BACKFILL, at, "trusted", FOREVER)
            recipient.thread = Receives(recipient.spool, recipient.thread)
            house.recipients["centre"] = recipient
            call = CALLS["privacy.disclosures"]
            return await call(house, Caller("alice", None), place="A-1")

    (holding,) = gateway.inside(ask)["holdings"]
    assert (holding["least"], holding["most"]) in {(0, 1), (1, 1)}


def damage(gateway):
    spool_of(gateway.state, US).with_name(f"spool-{US}.db.suspect").touch()


def by_broker(gateway):
    gateway.write(more=", receipt: broker")


def restored(gateway):
    async def note(house):
        house.audit("restored", {"made": stamp(gateway.now - DAY)})

    gateway.inside(note)


def unreadable(gateway):
    spool_of(gateway.state, US).write_bytes(b"")
    spool_of(gateway.state, US).unlink()
    spool_of(gateway.state, US).mkdir()


@pytest.mark.parametrize(
    ("happens", "kind", "recipient"),
    [
        (damage, "damaged", US),
        (by_broker, "broker", US),
        (restored, "restored", ""),
        (unreadable, "unreadable", US),
    ],
)
def test_what_cannot_be_known_is_said(gateway, happens, kind, recipient):
    """Rule P22."""
    gateway.keep(name="other")
    gateway.keep()
    gateway.consent()
    happens(gateway)
    letter, answer = gateway.answer()
    assert kinds(answer) == [(kind, recipient)]
    assert "This letter is incomplete" in letter
    assert "No recipient has confirmed the receipt" not in letter
    assert gateway.command("person", "A-1", "--to", gateway.folder).exit_code == 1


def test_a_running_agent_that_is_not_sure_of_the_date_says_so(gateway):
    gateway.keep()
    text = gateway.path.read_text()
    gateway.path.write_text(text.replace("clock: {source: system}", "clock: {source: ntp}"))

    async def ask(house):
        house.daemon = SimpleNamespace()
        return await CALLS["privacy.person"](house, Caller("alice", None), place="A-1")

    assert kinds(gateway.inside(ask)) == [("clock", "")]


def test_a_start_that_has_not_admitted_its_period_yet_is_sure_of_the_date(gateway):
    """Rules P22, C2."""
    gateway.keep()

    async def ask(house):
        house.daemon = SimpleNamespace()
        house.clock.await_entry()
        assert not house.clock.dates
        return await CALLS["privacy.person"](house, Caller("alice", None), place="A-1")

    assert kinds(gateway.inside(ask)) == []


def test_indexes_kept_for_a_duty_are_in_the_letter_while_the_agent_is_stopped(gateway):
    gateway.keep()
    gateway.duty(US)

    async def shelve(house):
        def opening():
            return UnassignedStore.open(gateway.state / "registers.db", house.identity.spool_key)

        one = UnassignedValue(
            "m-1", "energy_import", 900, gateway.now - DAY, "45", "8412", 0.0, "V", ()
        )
        async with in_own_thread("registers", opening) as (shelf, thread):
            await thread.run(shelf.add_each, {gateway.place: [one]})

    gateway.inside(shelve)
    letter, answer = gateway.answer()
    assert "Midnight readings kept for a duty (law or contract): 1." in letter
    assert ";8412;kWh;V" in answer["csv"]


def test_a_recipient_that_is_being_closed_gets_nothing_new(gateway):
    gateway.keep()
    gateway.consent()

    async def close(house):
        house.recipients.closing.begin(US, house.clock.now())

    gateway.inside(close)
    assert NOTHING in gateway.answer()[0]


def test_what_a_recipient_learns_besides_values_stands_in_the_letter(gateway):
    """Also of a consent that has not begun: the recipient is told of the dwelling at once."""
    gateway.keep()
    assert "Besides values" not in gateway.answer()[0]
    gateway.consent(since=gateway.now + DAY)

    async def name(house):
        row = NewAlias("A-1", "PRM", "19123456789012")
        house.registry.name([row], "marie", "a list", float(gateway.since))

    gateway.inside(name)
    letter, answer = gateway.answer()
    assert NOTHING in letter
    assert (
        f"Besides values, {US} knows or will know: the dwelling's id and label, the"
        " dwelling's other references (PRM), the numbers of your meters, and since when they are"
        " there, the id and the dates of your occupancy, your consents." in letter
    )
    assert f"known;;{US};;;;;told besides values: the dwelling's id and label, " in answer["csv"]


def test_no_duty_goes_on_for_people_who_have_left(gateway):
    gateway.keep()
    gateway.duty(US)

    async def leave(house):
        row = NewOccupancy("move_out", "A-1", until=gateway.now - DAY)
        house.registry.occupy([row], "marie", "a list", float(gateway.now - DAY))

    gateway.inside(leave)
    letter, answer = gateway.answer(occupancy=gateway.home.id, stop=True)
    assert "Continues without your consent" not in letter
    assert answer["goes_on"] == []
    assert "| ended |" in letter


def test_the_letter_of_those_before_lies_beside_that_of_those_who_live_there_now(gateway):
    gateway.keep()
    gateway.inside(lambda house: _others_moved_in(gateway, house))
    to, before = gateway.folder / "letters" / "may", shown(gateway.home.id)
    for words in ((), ("--id", before)):
        assert gateway.command("person", "A-1", *words, "--to", to).exit_code == 0
    names = [f"A-1{name}{ending}" for name in ("", f"-{before}") for ending in (".csv", ".html")]
    assert sorted(file.name for file in to.iterdir()) == sorted(names)
    assert before not in (to / "A-1.html").read_text()


async def _others_moved_in(gateway, house):
    at, by = gateway.now - DAY, ("marie", "a list", float(gateway.now))
    house.registry.occupy([NewOccupancy("move_out", "A-1", until=at)], *by)
    house.registry.occupy([NewOccupancy("move_in", "A-1", since=at)], *by)


def test_letter_and_table_name_who_is_responsible(gateway):
    gateway.keep()
    assert "Controller: to be completed" in gateway.answer()[0]
    text = gateway.path.read_text()
    who = "controller: {name: Régie Dupont, contact: donnees@regie.example}"
    gateway.path.write_text(text.replace("policy: FR-1", f"policy: FR-1, {who}"))
    letter, answer = gateway.answer()
    assert "Controller: Régie Dupont, donnees@regie.example" in letter
    assert ";Controller: Régie Dupont, donnees@regie.example;" in answer["csv"]


def test_who_looked_while_they_live_there_stands_in_letter_and_table(gateway):
    gateway.keep()
    gateway.answer()
    today = day_of(gateway.now)
    letter, answer = gateway.answer()
    assert f"alice | this letter | 1 | {today} | {today}" in letter
    assert ";alice: this letter;" in answer["csv"]
    gateway.inside(lambda house: _others_moved_in(gateway, house))
    assert "No access is recorded." in gateway.answer(occupancy=gateway.home.id)[0]


def test_a_look_at_those_who_left_stands_in_their_letter_only(gateway):
    gateway.keep()
    gateway.inside(lambda house: _others_moved_in(gateway, house))
    gateway.answer(occupancy=shown(gateway.home.id))
    assert "No access is recorded." in gateway.answer()[0]
    today = day_of(gateway.now)
    before, _ = gateway.answer(occupancy=gateway.home.id)
    assert f"alice | this letter | 1 | {today} | {today}" in before


def test_the_table_keeps_the_purpose_of_a_withdrawn_consent_and_is_read_by_a_spreadsheet(gateway):
    gateway.keep()
    gateway.consent()
    words = ("person", "A-1", "--stop", "--as", "marie", "--to", gateway.folder)
    gateway.command(*words, "--language", "fr")
    content = (gateway.folder / "A-1.csv").read_bytes()
    assert content.startswith("\ufeffnature;".encode())
    since = dt.datetime.fromtimestamp(gateway.since, ZoneInfo("Europe/Paris")).isoformat()
    assert f";86400;{since};" in content.decode()
    assert ';"advice ; retiré 2' in content.decode()


def test_a_meter_that_no_configured_device_is_leaves_the_letter_incomplete(gateway):
    gateway.keep()

    async def list_(house):
        row = NewInstallation("A-1", serial="99", since=gateway.since)
        house.registry.install([row], "marie", "a list", float(gateway.since))

    gateway.inside(list_)
    letter, answer = gateway.answer()
    assert kinds(answer) == [("meter", "")]
    assert "Meter 99: no device has reported this serial number yet" in letter
    assert gateway.command("explain", "A-1").exit_code == 1


@pytest.mark.parametrize(
    ("language", "sentence", "line"),
    [
        (
            "en",
            "living area (m²): 67.5. This value is not sent to anybody.",
            "living area (m²): 67.5; it is not sent to anybody",
        ),
        (
            "fr",
            "surface habitable (m²) : 67,5. Cette valeur n'est envoyée à personne.",
            "surface habitable (m²) : 67,5 ; n'est envoyé à personne",
        ),
    ],
)
def test_the_area_of_a_dwelling_stands_in_its_letter_and_in_what_is_explained(
    gateway, language, sentence, line
):
    async def record(house):
        args = {"text": "label;type;surface\nA-1;logement;67,5\n", "name": "places.csv"}
        return await CALLS["place.import"](house, Caller("alice", None), **args)

    gateway.keep()
    gateway.consent()
    (place,) = gateway.inside(record)["places"]
    assert place["area_m2"] == 67.5
    written = ("person", "A-1", "--language", language, "--to", gateway.folder)
    assert gateway.command(*written).exit_code == 0
    assert sentence in text_of((gateway.folder / "A-1.html").read_text())
    csv = (gateway.folder / "A-1.csv").read_text(encoding="utf-8-sig")
    assert f";{gateway.place};;;;;;{sentence};" in csv
    english = re.search(r"answered|recorded by|told besides|no consent|this letter", csv)
    assert (english is None) == (language == "fr")
    assert line in gateway.command("explain", "A-1", language=language).output
    assert line not in gateway.command("explain", language=language).output


def test_what_is_explained_of_a_past_date_had_happened_by_then(gateway):
    consent = gateway.consent()
    gateway.keep(gateway.row(consent.id))
    gateway.deliver()
    gateway.keep(gateway.row(consent.id, t=gateway.now - 60))
    gateway.answer()
    now = json.loads(gateway.command("explain", "A-1", "--json").output)
    day = stamp(gateway.now - 5 * DAY)[:10]
    then = json.loads(gateway.command("explain", "A-1", "--at", day, "--json").output)
    counts = [
        (len(of["holdings"]), len(of["waiting"]), len(of["looks"]), len(of["consents"]))
        for of in (now, then)
    ]
    assert counts == [(1, 1, 1, 1), (0, 0, 0, 1)]


def test_a_common_area_has_a_dossier_without_people(gateway):
    async def add(house):
        house.registry.add_places([NewPlace("stairs", "common")], "marie", "a list", gateway.now)

    gateway.keep()
    gateway.inside(add)
    said = json.loads(gateway.command("explain", "stairs", "--json").output)
    assert (said["type"], said["occupancy"], said["duties"]) == ("common", None, [])
    assert gateway.command("explain", "stairs").exit_code == 0
