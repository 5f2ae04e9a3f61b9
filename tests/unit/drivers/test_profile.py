"""Profiles are data: complete, readable by their driver, in units the channel can take. Rule F8."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from agent.core.model import Point
from agent.core.quantities import channel_of_quantity, channels, factor, units
from agent.drivers import DRIVERS, driver, family
from agent.drivers.profile import Offer, Profile, Source, profile, profiles


def test_the_sdm120_is_one_of_them() -> None:
    assert "eastron-sdm120" in profiles()


def test_an_unknown_profile_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        profile("../channels")


@pytest.mark.parametrize("name", profiles())
def test_every_value_of_a_profile_is_one_its_driver_can_read(name: str) -> None:
    made = profile(name)
    for reader in (driver(name) for name in DRIVERS if family(name) == family(made.driver)):
        for quantity, offer in {**made.points, "serial": made.serial}.items():
            if offer:
                reader.check(Point("device", quantity, "1", offer.at, 60))


@pytest.mark.parametrize("name", profiles())
def test_every_quantity_of_a_profile_is_in_a_unit_its_channel_can_take(name: str) -> None:
    """Rule R3."""
    made = profile(name)
    for quantity, offer in made.points.items():
        assert offer.unit in units()
        if quantity in channel_of_quantity():
            assert factor(offer.unit, channels()[made.channel(quantity)].unit) is not None


@pytest.mark.parametrize("name", profiles())
def test_what_is_read_by_default_is_offered(name: str) -> None:
    made = profile(name)
    assert made.defaults or made.model == "any"
    assert set(made.defaults) <= set(made.points)
    assert made.identity == ("number" if made.serial else "plate")
    assert made.sources
    for source in made.sources:
        assert source.where
        assert source.confirms
        assert set(source.confirms) <= {*made.points, "all", "serial"}
    assert len({source.where for source in made.sources}) == len(made.sources)
    assert made.test["reads"]


def test_the_sdm120_reads_the_import_index_by_default_and_says_what_is_unverified() -> None:
    sdm120 = profile("eastron-sdm120")
    assert sdm120.defaults == ("energy_import",)
    assert sdm120.channel("energy_import") == "elec.imp"
    assert sdm120.points["energy_import"] == Offer(
        "input/72/float32", "kWh", Decimal(1), rating=Decimal("10.4")
    )
    assert sdm120.serial == Offer("holding/64512/uint32")


def test_thirty_modbus_meters_and_a_charger_come_with_it_each_value_tested() -> None:
    modbus = [made for made in map(profile, profiles()) if made.driver == "modbus"]
    assert len([made for made in modbus if not made.watchdog]) == 30
    assert [made.model for made in modbus if made.watchdog] == ["KeContact P30 c-series, x-series"]
    for made in modbus:
        serial = {"serial"} if made.serial else set()
        assert set(made.points) | serial == set(made.test["reads"])


@pytest.mark.parametrize(
    ("name", "models", "scale"),
    [
        ("socomec-countis-e", "COUNTIS E34, E44", "0.01"),
        ("socomec-countis-e2", "COUNTIS E23, E24, E27, E28", "0.001"),
    ],
)
def test_the_frequency_of_a_countis_e_has_the_scale_of_its_model(
    name: str, models: str, scale: str
) -> None:
    made = profile(name)
    assert made.model == models
    assert made.points["frequency"] == Offer("holding/50526/uint32", "Hz", Decimal(scale))
    others = {quantity: offer for quantity, offer in made.points.items() if quantity != "frequency"}
    assert others.items() <= profile("socomec-countis-e").points.items()


def test_twenty_of_the_thirty_modbus_meters_report_which_one_they_are() -> None:
    modbus = [made for made in map(profile, profiles()) if made.driver == "modbus"]
    assert len([made for made in modbus if made.serial and not made.watchdog]) == 20


SOURCES = (Source("a", ("all",)), Source("b", ("energy", "serial")))


@pytest.mark.parametrize(
    ("sources", "defaults", "confirmed"),
    [
        (SOURCES, ("energy",), True),
        (SOURCES, ("energy", "power"), False),
        (SOURCES[:1], ("energy",), False),
        ((Source("standard", ("all",), standard=True),), ("energy", "power"), True),
        ((), ("energy",), False),
    ],
)
def test_a_profile_is_confirmed_by_two_sources_for_all_that_it_reads_by_default(
    sources: tuple[Source, ...], defaults: tuple[str, ...], confirmed: bool
) -> None:
    points = {name: Offer("holding/0/uint16") for name in ("energy", "power")}
    made = Profile("Acme", "M1", "modbus", points, defaults, sources=sources)
    assert made.confirmed is confirmed
    assert made.confirmations("serial") == (sources == SOURCES)
    assert replace(made, compared=("today, alice",)).confirmed


def test_the_em24_din_reads_the_total_counter_and_not_the_one_that_people_reset() -> None:
    """Source 2 of the profile; source 1 reads 66."""
    assert profile("carlo-gavazzi-em24").points["energy_import"].at == "input/62/int32/little"


def test_the_em24_e1_names_the_register_of_its_application_and_its_value() -> None:
    made = profile("carlo-gavazzi-em24-e1")
    assert made.points["application"].at == "holding/40960/uint16"
    assert "holding/40960 must say 7 (application H)" in made.verify


def test_the_finder_7e23_says_its_serial_number_and_has_its_limits() -> None:
    made = profile("finder-7e23")
    assert made.serial
    assert made.serial.at == "holding/15/uint32 most=20"
    for quantity in ("energy_import", "energy_export"):
        offer = made.points[quantity]
        assert (offer.rating, offer.rolls_at) == (Decimal("7.4"), Decimal(1_000_000))
        assert offer.at.endswith(" most=20")


@pytest.mark.parametrize("name", DRIVERS)
def test_every_driver_in_the_table_can_be_imported(name: str) -> None:
    assert driver(name).Settings.model_json_schema()["properties"]


@pytest.mark.parametrize("name", [name for name in profiles() if profile(name).watchdog])
def test_a_watchdog_is_in_seconds_and_falls_back_to_a_value_of_the_same_profile(name: str) -> None:
    made = profile(name)
    assert made.watchdog
    assert made.points[made.watchdog.point].unit == "s"
    assert made.watchdog.fallback in made.points
    assert made.watchdog.timeout >= 2
