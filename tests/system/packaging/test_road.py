"""From two clean systems to kWh per dwelling by docs/receiver.md; the package gardien-receiver."""

import csv
import io
import subprocess

import pytest

pytestmark = [
    pytest.mark.timeout(900), pytest.mark.alone, pytest.mark.usefixtures("living"),
]  # fmt: skip


def test_the_road_of_the_manual_ends_with_kwh_of_the_dwelling(walked):
    print(walked["minutes"])
    (row,) = csv.DictReader(
        io.StringIO(walked[8].partition("label,")[1] + walked[8].partition("label,")[2])
    )
    assert (row["label"], row["unit"]) == ("A-1", "kWh")
    assert float(row["amount"]) > 0


def test_an_export_is_in_the_folder_where_it_was_typed_and_a_trial_leaves_no_readings(walked):
    assert "Next: --since 1" in walked["export --out feed-1.csv"]
    assert walked["openssl req"].endswith("PASS\n")
    assert set(walked["daily"].split()) == {"label", "A-1"}


def test_it_runs_in_a_tight_sandbox_as_its_own_account(walked):
    assert walked["user"] == "gardien-receiver"
    assert walked["verify"] == ""
    assert float(walked["score"].split(": ")[1].split()[0]) <= 1.5


def test_only_root_reads_the_key_of_the_ca_and_only_the_service_its_own(walked):
    modes = dict(line.rsplit(" ", 1)[::-1] for line in walked["modes"].splitlines())
    folder = "/etc/gardien-receiver/"
    assert modes[f"{folder}ca.key"] == "600 root:root"
    for name in ("server.pem", "receiver.conf"):
        assert modes[f"{folder}{name}"] == "640 root:gardien-receiver"


def test_a_mistake_in_the_configuration_is_in_the_journal_with_its_line(walked):
    assert "there is no option `recipent`; did you mean `recipient`?" in walked["mistake"]
    assert "/etc/gardien-receiver/receiver.conf:8: " in walked["mistake"]
    assert "Traceback" not in walked["mistake"]


def test_an_upgrade_restarts_it_and_keeps_the_configuration(walked):
    assert walked["upgraded"] == {
        "version": "gardien-receiver 0.1.1\n", "restarted": True, "conf_kept": True,
    }  # fmt: skip


def test_a_removal_keeps_the_configuration_and_a_purge_nothing(walked):
    assert walked["removed"] == {"conf": True, "code": False, "units": "inactive"}
    assert walked["left"] == ""


def test_lintian_has_nothing_to_say_of_the_receiver(built):
    deb = next(built.parent.glob("gardien-receiver_*.deb"))
    done = subprocess.run(
        ("lintian", "--no-tag-display-limit", "--allow-root", str(deb)),
        check=False, text=True, capture_output=True,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("", 0)
