"""The five calls: each is answered in sentences to read out, of one dwelling alone."""

import datetime as dt
import json
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from agent.control.model import FAILSAFE, OrderState
from agent.control.records import Outcome, Transaction
from agent.registry.inputs import NewInstallation, NewOccupancy, NewPlace, NewWithdrawal
from tests.command import gardien
from tests.contract.test_letter import DAY, US, Gateway

ZONE = ZoneInfo("Europe/Paris")
CONTROLS = """\
controls:
  boiler-offset:
    point: boiler/offset
    equipment: heating
    modality: {action: offset, min: -3, max: 1, max_duration: 4h}
    guards: [{point: boiler/room, min: 18}]
    require: [building_manager]
    restore: preimage
    device_watchdog: none-accepted
  thermostat:
    point: m-2/setpoint
    equipment: heating
    modality: {action: setpoint, min: 16, max: 21, max_duration: 4h}
    guards: [{point: boiler/room, min: 18}]
    require: [building_manager]
    restore: preimage
    device_watchdog: none-accepted
"""
DEVICES = """\
  boiler:
    link: riser
    address: 50
    points:
      offset: {at: holding/1/int16, unit: K, writable: true}
      room: {at: holding/2/int16, unit: Cel, every: 10s}
  m-2:
    link: riser
    address: 2
    profile: eastron-sdm120
    points: {setpoint: {at: holding/90/int16, unit: Cel, writable: true}}
"""


class Building(Gateway):
    """Two dwellings, a boiler and a thermostat in the other dwelling; the agent is stopped."""

    def write(self, more="", uplink=None):
        super().write(more, uplink)
        text = self.path.read_text().replace("uplinks:", f"{DEVICES}uplinks:")
        self.path.write_text(text + CONTROLS)

    async def _furnish(self, house):
        await super()._furnish(house)
        by = ("marie", "a list", float(self.since))
        house.registry.add_places([NewPlace("A-2", "dwelling", since=self.since)], *by)
        meter = NewInstallation("A-2", device="m-2", serial="46", since=self.since)
        house.registry.install([meter], *by)

    def did(self, *outcomes):
        async def note(house):
            await house.steering.writer.save(Transaction(outcomes=outcomes))

        self.inside(note)

    def says(self, question, *words, language="en", status=0, dwelling="A-1"):
        given = ("hotline", question, dwelling, *words, "-c", str(self.path))
        answer = gardien(*map(str, given), env={"LANGUAGE": language})
        assert answer.exit_code == status, answer.output
        return answer.output


@pytest.fixture
def building(tmp_path):
    made = Building(tmp_path)
    made.keep()
    return made


def outcomes(at, control="boiler-offset", by="metropole", value="-1.5"):
    def step(state, later, **more):
        return Outcome("order-1", control, state, at + later, by=by, value=value, **more)

    return [
        step(OrderState.RECEIVED, 0, words="evening peak"),
        step(OrderState.ACCEPTED, 0, evidence="vote AG 12 of 2026-05-12"),
        step(OrderState.STARTED, 60),
        step(
            OrderState.COMPLETED, 7260, words="released, confirmed", closed=True,
            seen="lowest stairwell 18.4 °C",
        ),
    ]  # fmt: skip


def test_the_heating_was_cold_and_it_was_an_order(building):
    building.did(*outcomes(building.now - 2 * DAY))
    said = building.says("heating")
    assert "Yes, the gateway gave 1 order" in said
    assert "the set-point of heating was shifted by −1.5 °C. Requested by: metropole." in said
    assert "Authorization: vote AG 12 of 12 May 2026. Stated reason: evening peak." in said
    assert "Measured meanwhile: lowest stairwell 18.4 °C. It ended as planned." in said
    assert "The equipment has confirmed the release." in said
    french = building.says("heating", language="fr")
    assert "la consigne (heating) a été décalée de −1,5 °C. Demandé par : metropole." in french
    assert "stairwell 18,4 °C au plus bas" in french


def test_an_order_of_another_day_was_not_it(building):
    at = building.now - 3 * DAY
    building.did(*outcomes(at))
    day = f"{dt.datetime.fromtimestamp(at + 60, ZONE):%Y-%m-%d}"
    assert "Yes" in building.says("heating", "--on", day)
    before = f"{dt.datetime.fromtimestamp(at - 2 * DAY, ZONE):%Y-%m-%d}"
    said = building.says("heating", "--on", before)
    assert "gave no order to the heating" in said
    assert "metropole" not in said


def test_an_order_in_another_dwelling_concerns_nobody_else(building):
    """Rule P22."""
    building.did(*outcomes(building.now - DAY, control="thermostat", value="17"))
    assert "gave no order" in building.says("heating")
    assert "was set to 17 °C" in building.says("heating", dwelling="A-2")
    assert "thermostat" not in building.answer()[1]["csv"]


def test_a_release_that_the_equipment_has_not_confirmed_is_said(building):
    *before, done = outcomes(building.now - DAY)
    words = "guard: stairs is 17 °C"
    building.did(*before, replace(done, state=OrderState.ABORTED, words=words, closed=False))
    said = building.says("heating")
    assert "It was broken off: stairs is 17 °C." in said
    assert "NOT confirmed the release" in said


def test_a_failsafe_was_requested_by_nobody_and_the_letter_has_the_orders(building):
    at = building.now - DAY
    steps = [(OrderState.STARTED, ""), (OrderState.COMPLETED, "heard again")]
    building.did(
        *(
            Outcome(FAILSAFE, "boiler-offset", state, at, words=why, value="-1")
            for state, why in steps
        ),
        *outcomes(at + 3600),
    )
    said = building.says("heating")
    assert "gave 2 orders" in said
    assert "Nobody requested it: the limit applied because the platform was not heard." in said
    letter, answer = building.answer()
    assert "| heating | set-point shifted by −1 °C | nobody: the failsafe applied |" in letter
    row = "| metropole | vote AG 12 of 12 May 2026 | evening peak |"
    assert f"| heating | set-point shifted by −1.5 °C {row}" in letter
    assert "order;boiler-offset;" in answer["csv"]


def test_no_data_since_a_consent_was_withdrawn(building):
    consent = building.consent()
    building.keep(building.row(consent.id))
    building.deliver()

    async def end(house):
        rows = [NewWithdrawal(place="A-1", channels=())]
        house.registry.withdraw(rows, "marie", "a list", float(building.now))

    building.inside(end)
    said = building.says("no-data")
    assert "The gateway's software is stopped" in said
    assert f"{US} is not sent electricity taken from the grid: the consent was withdrawn on" in said
    assert "Nothing of A-1 alone is sent to anybody today." in said
    assert said.rstrip().splitlines()[-1].endswith("gardien consent forms A-1")


def test_no_data_of_a_vacant_dwelling(building):
    async def leave(house):
        rows = [NewOccupancy("move_out", "A-1", until=building.now - DAY)]
        house.registry.occupy(rows, "marie", "a list", float(building.now))

    building.inside(leave)
    said = building.says("no-data")
    assert "A-1 has been vacant since" in said
    assert "gardien occupancy move-in A-1" in said


def test_values_that_wait_are_not_lost(building):
    consent = building.consent()
    building.keep(building.row(consent.id))
    said = building.says("no-data")
    assert f"{US} has not received any value of this dwelling." in said
    assert f"1 value waits here for {US}. It is not lost" in said
    assert "consent form" not in said


def test_whose_meter_it_is_and_how_it_was_proven(building):
    building.consent()
    said = building.says("which-meter")
    assert "The meter of A-1 is number 45, since" in said
    assert "Proof: it reports the number that was recorded for the dwelling." in said
    assert "Nobody has proven on site that meter 45 is yours" in said
    assert f"{US} is sent electricity taken from the grid, one index a day, for: advice." in said
    assert not any(name in said for name in ("A-2", "46", "m-2"))


def test_a_meter_that_was_proven_on_site_is_not_mixed_up(building):
    async def proven(house):
        (meter,) = house.registry.meters_of(building.place)
        house.registry.verify([meter.id], "load", "marie", "a test", float(building.now))

    building.inside(proven)
    said = building.says("which-meter")
    assert "it counted an appliance that was switched on in the dwelling" in said
    assert "A mix-up is ruled out" in said


def test_who_has_seen_and_who_has_received(building):
    consent = building.consent()
    building.keep(building.row(consent.id))
    building.deliver()
    assert "nobody is recorded as having seen" in building.says("who-has-seen")
    building.answer()
    said = building.says("who-has-seen")
    assert "At the gateway, alice saw data of your dwelling on 1 day" in said
    assert f"{US} has confirmed 1 value of electricity taken from the grid, and now has 1." in said


def test_delete_everything_says_what_would_end_what_remains_and_deletes_nothing(building):
    consent = building.consent()
    duty = building.duty(US)
    building.keep(building.row(consent.id), building.row(duty.id, t=building.now - 2 * DAY))
    building.deliver()
    building.keep(building.row(consent.id, t=building.now - 60))
    said = building.says("delete-everything")
    assert f"Your consent for {US} ends at once (electricity taken from the grid; advice)." in said
    assert f"1 value that waits here for {US} is destroyed" in said
    assert f"{US} is asked to erase what it still has of electricity taken from the grid (1" in said
    assert f"{US} keeps what it received of electricity taken from the grid without consent" in said
    assert "Remains, because a law or a contract requires it (décret 2020-886)" in said
    assert "gardien privacy person A-1 --stop --as NAME" in said
    assert "ends at once" in building.says("delete-everything")  # nothing has happened


def test_what_cannot_be_known_ends_with_what_to_do(building):
    building.duty("syndic.example")
    said = building.says("who-has-seen", status=1)
    assert "syndic.example has no uplink" in said
    assert "No recipient has confirmed having received" not in said


def test_programs_get_the_sentences_and_the_dossier(building):
    answer = json.loads(building.says("which-meter", "--json"))
    assert answer["sentences"][0].startswith("The meter of A-1 is number 45")
    assert answer["dossier"]["meters"][0]["proof"] == "serial"


def test_common_areas_have_nobody_who_calls(building):
    async def add(house):
        place = NewPlace("stairs", "common")
        house.registry.add_places([place], "marie", "a list", float(building.now))

    building.inside(add)
    answer = gardien("hotline", "no-data", "stairs", "-c", str(building.path))
    assert "stairs is no dwelling" in str(answer.exception)
