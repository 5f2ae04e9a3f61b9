"""Profiles are data: complete, readable by their driver, in units the channel can take."""

from __future__ import annotations

from decimal import Decimal

import pytest

from agent.channels import channels
from agent.drivers import DRIVERS, driver
from agent.drivers.profile import Offer, profile, profiles
from agent.model import Point


def test_the_sdm120_is_one_of_them() -> None:
    assert "eastron-sdm120" in profiles()


def test_an_unknown_profile_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        profile("../channels")


@pytest.mark.parametrize("name", profiles())
def test_every_value_of_a_profile_is_one_its_driver_can_read(name: str) -> None:
    made = profile(name)
    reader = driver(made.driver)
    for quantity, offer in {**made.points, "serial": made.serial}.items():
        if offer:
            reader.check(Point("device", quantity, "1", offer.at, 60))


@pytest.mark.parametrize("name", profiles())
def test_every_quantity_of_a_profile_has_a_channel_in_its_unit(name: str) -> None:
    made = profile(name)
    for quantity, offer in made.points.items():
        assert channels()[made.channel(quantity)].unit == offer.unit


@pytest.mark.parametrize("name", profiles())
def test_what_is_read_by_default_is_offered(name: str) -> None:
    made = profile(name)
    assert made.defaults or made.model == "any"
    assert set(made.defaults) <= set(made.points)
    assert made.source
    assert made.confidence
    assert made.test["reads"]


def test_the_sdm120_reads_the_import_index_by_default_and_says_what_is_unverified() -> None:
    sdm120 = profile("eastron-sdm120")
    assert sdm120.defaults == ("energy_import",)
    assert sdm120.channel("energy_import") == "elec.imp"
    assert sdm120.points["energy_import"] == Offer(
        "input/72/float32", "kWh", Decimal(1), rating=Decimal("10.4")
    )
    assert sdm120.serial == Offer("holding/64512/uint32", verify="from memory: VERIFY")


@pytest.mark.parametrize("name", DRIVERS)
def test_every_driver_in_the_table_can_be_imported(name: str) -> None:
    assert driver(name).Settings.model_json_schema()["properties"]
