from agent.cli.terminal import day, read_here, when


def test_moments_are_shown_as_the_building_has_them_whatever_the_machine_thinks():
    read_here({"timezone": "Pacific/Auckland"})
    assert when("2020-01-10T11:30:00Z") == "2020-01-11 00:30"
    assert day("2020-01-10T11:00:00Z") == "2020-01-11"
    read_here({"timezone": "Europe/Paris"})
    assert day("2020-01-10T11:00:00Z") == "2020-01-10 12:00"
