"""gardien-web under systemd, used by people: logins, root's program, the report, an upgrade."""

import pytest

from tests.system.packaging.test_package import step

pytestmark = [
    pytest.mark.timeout(900), pytest.mark.alone, pytest.mark.usefixtures("living"),
]  # fmt: skip
SEE_OTHER, CONFLICT = 303, 409


@pytest.fixture
def used(seen):
    return step(seen, "page_used")


def test_the_code_of_the_set_up_window_and_a_password_log_people_in_and_others_do_not(used):
    assert used["refused"] == CONFLICT
    assert used["began"] == [SEE_OTHER, "/"]
    assert used["me"] == [200, True]
    assert used["chosen"] == [SEE_OTHER, "/"]
    assert used["again"] == [SEE_OTHER] * 3
    assert used["wrong"][0] == CONFLICT


def test_the_process_of_the_page_stays_small(used):
    print(used["memory"], used["handed_over"]["memory"])
    now, highest, _anonymous = used["handed_over"]["memory"]
    assert now < 60
    assert highest < 60  # a password for a moment, and pages of every topic


def test_a_device_is_tried_and_added_through_root_s_program(used):
    found = used["change"]
    assert found["tried"] == [SEE_OTHER, "/visit/search/tried"]
    assert found["shown"][0] == 200
    assert "The device answers" in found["shown"][1]
    assert found["added"] == [SEE_OTHER, "/visit/search"]
    assert "1 device was added to /etc/gardien/config.yaml" in found["said"]
    assert "cellar:" in found["config"]
    assert found["read"]
    assert found["same_owner"]
    assert found["copies"] == 1


def test_without_root_s_program_nothing_is_changed_and_the_page_tells_what_to_do(used):
    code, said, unchanged = used["change"]["absent"]
    assert code == CONFLICT
    assert "sudo gardien web open" in said
    assert unchanged


def test_root_s_program_can_write_the_configuration_and_nothing_else(used):
    found = used["helper"]
    assert set(found["writable"]) - {"/tmp", "/var/tmp"} == {"/etc/gardien"}
    assert float(found["score"].split(": ")[1].split()[0]) <= 1.5


def test_the_report_is_made_beside_the_page_and_a_pdf_needs_weasyprint(used):
    found = used["handed_over"]
    assert found["report"] == [200, True]
    assert 0 < found["report_peak_MB"] < 100
    code, said = found["pdf"]
    assert code == CONFLICT
    assert "weasyprint" in said


def test_the_support_bundle_comes_out_of_both_sandboxes(used):
    code, size, begins = used["handed_over"]["bundle"]
    assert code == 200
    assert size > 1_000
    assert begins == "1f8b"  # gzip


def test_a_scraper_s_token_gives_the_numbers_and_another_gives_nothing(used):
    (code, text), other = used["handed_over"]["numbers"]
    assert code == 200
    assert "gardien_" in text
    assert other[0] == 401


def test_an_upgrade_while_people_use_the_page_ends_logins_and_leaves_it_open(used):
    found = used["upgrade"]
    assert found["answer"] == [SEE_OTHER, "/login"]
    assert found["new_page"]
    assert found["new_daemon"]
    assert found["listens"]
    assert found["helper"] == "active"


def test_it_exits_when_nobody_uses_it_and_the_next_connection_starts_it(used):
    found = used["idle"]
    print(found)
    assert found["result"] == "success"
    assert found["again"] == 200


def test_closing_ends_the_page_and_the_logins_of_who_uses_it(used):
    found = used["closed"]
    assert found["logged_in"] == 200
    assert found["refused"]
    assert found["process"] == "inactive"
    assert not found["helper"]
    assert found["again"] == [SEE_OTHER, "/login?back=/me"]


def test_the_page_has_warned_of_nothing(used):
    assert used["page_log"] == ""
