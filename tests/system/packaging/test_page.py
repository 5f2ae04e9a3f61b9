"""gardien-web on a Debian 13 that boots: nothing listens before somebody opens the page."""

import re
import subprocess
from datetime import datetime

import pytest

from tests.system.packaging.test_package import step

pytestmark = [
    pytest.mark.timeout(900), pytest.mark.alone, pytest.mark.usefixtures("living"),
]  # fmt: skip
PAGE = "127.0.0.1:8443"


def plain(fingerprint):
    return fingerprint.replace(":", "").lower()


def test_nothing_listens_after_both_packages_are_installed(seen):
    """Rule G10."""
    found = step(seen, "install_new")
    assert found["before"] == found["after"]
    assert found["closed"] == 1
    assert "sudo gardien web open" in found["said"]


def test_templates_are_compiled_when_the_page_is_installed_after_the_agent(seen):
    there, compiled = step(seen, "install_new")["templates"]
    assert there == compiled > 40


def test_on_a_gateway_with_the_sample_only_the_building_is_asked_for_and_the_agent_is_started(seen):
    found = step(seen, "install_new")
    addresses, said = found["begun"]
    assert addresses == [f"https://{PAGE}"]
    assert "Name of the building?" in said
    assert found["building"] == "Les Alpins"
    assert f'web: {{listen: ["{PAGE}"]}}' in found["config"]
    assert found["browsed"].startswith("HTTP/1.1 ")
    assert found["enabled"] == "enabled"


def test_exactly_the_named_address_is_opened_and_nothing_runs_before_somebody_connects(seen):
    found = step(seen, "page")
    assert found["only"] == [PAGE]
    assert found["idle"] == "inactive"
    assert found["opened"]["addresses"] == [f"https://{PAGE}"]
    assert f'web: {{listen: ["{PAGE}"]}}' in found["config"]


def test_the_browser_gets_the_certificate_whose_fingerprint_was_shown(seen):
    found = step(seen, "page")
    line, sha256 = found["browsed"]
    assert line.startswith("HTTP/1.1 ")
    assert sha256 == plain(found["opened"]["certificate"]["fingerprint"])
    assert found["status"]["listening"] == [PAGE]
    assert plain(found["status"]["certificate"]["fingerprint"]) == sha256


def test_the_page_has_an_account_of_its_own_and_sees_and_writes_nothing_of_the_agent(seen):
    found = step(seen, "page")
    assert found["owner"] == "gardien-web"
    assert found["modes"] == {"certificate.pem": "644 gardien-web", "key.pem": "600 gardien-web"}
    assert 0 not in found["hidden"]
    assert set(found["writable"]) == {"/tmp", "/var/tmp", "/var/lib/gardien-web"}
    assert found["verify"] == ""
    assert float(found["score"].split(": ")[1].split()[0]) <= 1.5
    assert found["limits"] == [str(192 * 1024**2), "0"]


def test_a_page_that_was_killed_is_there_for_the_next_connection(seen):
    found = step(seen, "page")
    assert found["again"] == found["browsed"]


def test_an_address_that_another_program_has_is_refused_and_the_page_stays_open(seen):
    found = step(seen, "page")
    status, said = found["taken"]
    assert status == 1
    assert "the page cannot listen on 127.0.0.1:21883" in said
    assert found["stays"] == [PAGE]


def test_the_certificate_of_the_building_s_ca_is_used(seen):
    shown, got = step(seen, "page")["issued"]
    assert plain(shown) == got
    assert got != step(seen, "page")["browsed"][1]


def test_the_set_up_code_is_shown_and_closing_ends_its_window(seen):
    found = step(seen, "page")
    assert re.fullmatch("[0-9A-Z]{4}-[0-9A-Z]{4}", found["opened"]["code"])
    until = datetime.fromisoformat(found["opened"]["until"]).timestamp()
    assert 25 * 60 < until - found["began"] < 35 * 60
    assert found["window"] is None


def test_a_person_is_invited_with_a_code_and_listed(seen):
    invited, people = step(seen, "page")["people"]
    assert re.search("(?m)^    [0-9A-Z-]{9,}$", invited)
    assert re.search("Claire +manager, dpo +invited until", " ".join(people.split("\n")))


def test_closed_means_that_nothing_listens_now_or_after_a_start(seen):
    found = step(seen, "page")
    assert found["closed"]
    assert found["enabled"] == "disabled"
    assert not found["drop_in"]
    (note,) = found["note"]
    assert note["severity"] == "note"


def test_a_purge_closes_the_page_and_leaves_nothing(seen):
    found = step(seen, "page_gone")
    assert found["open"]
    assert not found["listens"]
    assert found["left"] == []


def test_lintian_has_nothing_to_say(built):
    web = built.with_name(built.name.replace("gardien_", "gardien-web_"))
    try:
        done = subprocess.run(
            ("lintian", "--allow-root", str(web)), check=False, text=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("missing: apt-get install lintian")
    assert done.stdout == ""
    assert done.returncode == 0
