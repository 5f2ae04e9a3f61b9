"""The life of the package on a Debian 13 that boots (systemd-nspawn), and the package as a file.

Guards rules G1, G2, G6 through watchdog, SIGKILL, upgrade and rollback, and
10.
"""

import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from agent.core.log_fields import LogEvent
from tests.system.packaging import machine
from tests.system.packaging.boiler import BEFORE, NAME, ORDERED

pytestmark = [
    pytest.mark.timeout(900), pytest.mark.alone, pytest.mark.usefixtures("living"),
]  # fmt: skip


METERS = 4


def step(seen, name):
    """What a step saw; its failure, with the machine's log, where it failed."""
    found = seen.get(name, {"failed": "never reached"})
    assert "failed" not in found, f"{name}: {found['failed']}"
    return found


def test_a_fresh_clone_gives_the_same_bytes(built, tmp_path):
    if not Path("/usr/lib/python3/dist-packages/pip").exists():
        pytest.skip("missing: apt-get install python3-pip")
    clone, out = tmp_path / "clone", tmp_path / "dist"
    machine.run(("git", "clone", "--quiet", str(machine.TOP), str(clone)))
    machine.run((str(clone / "packaging/build-deb.sh"), str(out)))
    again = out / built.name
    assert again.read_bytes() == built.read_bytes()
    bom = built.with_suffix(".cdx.json").name
    assert (out / bom).read_bytes() == (built.parent / bom).read_bytes()


def test_it_is_small_and_its_checksums_hold(built):
    # 1,441 kB with ends of series and looks at files in threads of their own: docs/decisions/012
    assert built.stat().st_size < 1_460_000
    done = subprocess.run(
        ("sha256sum", "--strict", "-c", "SHA256SUMS"), cwd=built.parent, check=False
    )
    assert done.returncode == 0


def test_the_sbom_names_what_travels_inside_with_its_hash(built):
    bom = json.loads(built.with_suffix(".cdx.json").read_text())
    inside = {one["name"] for one in bom["components"] if one["purl"].startswith("pkg:pypi/")}
    assert "bacpypes3" in inside
    assert all(one["hashes"] for one in bom["components"] if one["name"] in inside)
    assert any(one["name"] == "python3-pydantic" for one in bom["components"])


def test_lintian_has_nothing_to_say(built):
    try:
        done = subprocess.run(
            ("lintian", "--no-tag-display-limit", "--allow-root", str(built)),
            check=False, text=True, capture_output=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("missing: apt-get install lintian")
    assert done.stdout == ""
    assert done.returncode == 0


def test_the_manual_page_tells_every_command_and_no_other(built, tmp_path):
    machine.run(("dpkg-deb", "-x", str(built), str(tmp_path)))
    manuals, pages = tmp_path / "usr/share/man", {}
    for language, folder in (("en", "man1"), ("fr", "fr/man1")):
        pages[language] = gzip.decompress((manuals / folder / "gardien.1.gz").read_bytes()).decode()
        for word in (
            "run",
            "check",
            "doctor",
            "support\\-bundle",
            "factory\\-reset",
            "place import",
            "commission",
            "watch",
            "report",
            "report verify",
            "meter proofs",
            "profile record",
            "decode trace",
        ):
            assert f".SS gardien {word}\n" in pages[language]
    assert ".SH EXIT STATUS\n" in pages["en"]
    assert ".SH CODE DE SORTIE\n" in pages["fr"]


def test_the_first_installation_mints_an_identity_and_starts_nothing(seen):
    """Rule U16."""
    found = step(seen, "install")
    assert (found["keys_owner"], found["keys_mode"]) == ("gardien", "0o700")
    assert found["config_mode"] == "0o640 gardien"
    assert found["sample"]
    assert (found["enabled"], found["active"]) == ("disabled", "inactive")


def test_the_first_installation_says_the_next_three_commands(seen):
    said = step(seen, "install")["said"]
    for words in ("sudoedit /etc/gardien/config.yaml", "gardien check", "enable --now gardien"):
        assert words in said


def test_the_unedited_sample_is_never_started(seen):
    found = step(seen, "sample_again")
    assert (found["enabled"], found["active"]) == ("disabled", "inactive")
    assert "is not started: sudo gardien check" in found["said"]
    assert "the configuration is the package's sample" in found["log"]
    assert step(seen, "install")["check"] == 1


def test_the_installation_is_quick_and_small(seen):
    found = step(seen, "install")
    assert found["cpu_s"] < 60  # what it takes where nothing else is to be done
    assert found["seconds"] < 240
    print(found)
    assert found["package_kB"] < 7_400
    assert found["installed_kB"] < 10_200  # with what is compiled
    assert found["strewn"] == []


def test_the_units_are_right_and_the_sandbox_is_tight(seen):
    found = step(seen, "install")
    assert found["verify"] == ""
    score = float(found["score"].split(": ")[1].split()[0])
    assert score <= 1.5
    assert float(found["upgrade_score"].split(": ")[1].split()[0]) < 3


def test_what_it_may_use_of_memory_is_three_times_its_need_and_no_swap(seen):
    """Enforced where the kernel has the controller; nspawn on cgroups of version 1 has not."""
    assert step(seen, "install")["memory"] == [str(200 * 1024 * 1024), "0"]


def test_what_root_writes_before_the_daemon_runs_belongs_to_the_daemon(seen):
    assert step(seen, "commissioning")["owners"] == ["gardien"]


def test_readings_are_delivered_from_within_the_sandbox(seen):
    found = step(seen, "start")
    assert found["rows"] >= 20
    assert found["user"] == "gardien"
    assert (found["caps"].strip("0"), found["no_new_privs"], found["seccomp"]) == ("", "1", "2")


def test_it_is_ready_soon_and_small_in_memory(seen):
    found = step(seen, "start")
    print(found)
    assert found["ready_cpu_s"] < 3  # what it takes where nothing else is to be done
    assert found["ready_s"] < 15
    assert found["rss_MB"] < 79.5


def test_it_listens_on_nothing_but_its_local_door(seen):
    """Rule G10."""
    assert step(seen, "start")["listens"] == []


def test_the_door_is_for_root_and_for_whoever_has_a_role(seen):
    found = step(seen, "door")
    assert found["root"] == found["member"] == "Résidence Les Alpins"
    status, said = found["stranger"]
    assert status == 1
    assert "sudo adduser jean gardien-reader" in said
    status, said = found["not_hers"]
    assert status == 1
    assert "sudo adduser marie gardien-installer" in said
    shown, warned = found["old_group"]
    assert "gateway      " in shown
    assert "sudo deluser NAME gardien-admin" in warned


def test_the_doctor_finds_all_fine(seen):
    found = step(seen, "doctor")
    assert found["status"] == 0, found["said"]
    for what in ("versions", "keys", "secrets", "disk", "clock", "line riser", "uplink metropole"):
        assert f"fine  {what}: " in found["said"]


def test_the_support_bundle_has_no_secret_and_no_reading(seen):
    """Rule G10."""
    assert step(seen, "bundle")["status"] == 0
    with tarfile.open(fileobj=io.BytesIO(step(seen, "bundle")["file"])) as tar:
        texts = {one.name: tar.extractfile(one).read().decode() for one in tar}
    assert "gardien-support/log.txt" in texts
    assert step(seen, "bundle")["planted"].count("planted") == 4
    assert "gardien-support/config/devices.yaml" in texts
    assert all("planted" not in text for text in texts.values())
    devices = json.loads(texts["gardien-support/status.json"])["devices"]
    meters = [one for name, one in devices.items() if name.startswith("device-")]
    assert len(meters) == METERS
    assert set(devices) - {"boiler"} == {f"device-{n}" for n in range(1, METERS + 1)}
    for device in meters:
        assert device["latest"]
        assert all(isinstance(name, str) for name in device["latest"])
    controls = json.loads(texts["gardien-support/status.json"])["controls"]
    assert controls[NAME].pop("value") is None  # what is ordered; nothing is
    assert controls[NAME]["guards"]["stairwell"] in {"known", "unknown"}
    assert texts["gardien-support/status.json"].count('"value"') == 1


def test_nothing_is_upgraded_while_something_is_commanded(seen):
    found = step(seen, "commanded")
    assert found["status"] == 1
    assert "not now: boiler-offset is held until" in found["said"]
    assert found["register"] == ORDERED


def test_one_that_hangs_is_ended_by_the_watchdog_and_started_anew(seen):
    found = step(seen, "watchdog")
    assert "atchdog timeout" in found["log"]
    assert found["waits"]
    assert found["back_s"] < 15


def test_the_drop_ins_of_the_manual_are_taken(seen):
    found = step(seen, "watchdog")
    assert len(found["drop_ins"]) == 4
    assert found["verified"] == ""
    assert found["sees"] == "/mnt/data/gardien /mnt/exchange"


def test_one_that_is_killed_comes_back(seen):
    found = step(seen, "killed")
    assert found["waits"]
    assert found["back_s"] < 20


@pytest.mark.parametrize(("death", "within"), [("watchdog", 25), ("killed", 20)])
def test_what_is_held_is_given_back_by_the_unit_whatever_the_daemon_died_of(seen, death, within):
    """By ExecStopPost, before another daemon is started; a watchdog of 3 s comes on top."""
    found = step(seen, death)
    assert "control release --all" in found["post"]
    assert "code=exited" in found["post"]
    assert "status=0" in found["post"]
    assert found["alone"]
    assert found["given_back_s"] < within


def test_an_upgrade_keeps_configuration_and_backlog(seen):
    found = step(seen, "upgrade")
    assert found["status"] == 0, found["said"]
    assert found["version"] != "0.0.9"
    assert found["config_kept"]
    assert 0 < found["backlog"] < found["backlog_after"]


def test_a_version_that_does_not_come_up_is_rolled_back(seen):
    """Rule U14."""
    found = step(seen, "failed_upgrade")
    assert found["status"] == 1
    assert "9.9.9 does not come up" in found["said"]
    assert "planted" in found["said"]
    assert found["version"] == step(seen, "upgrade")["version"]
    assert found["installed"].endswith("install ok installed")


def test_nothing_was_lost_through_all_of_that(seen):
    found = step(seen, "nothing_lost")
    report = found["report"]
    assert found["gaps"] == []
    assert set(found["why"]) - {"busy"} == {"value", "agent"}  # so is a machine that tests
    assert found["why"]["value"] >= 60
    for tally in ("differing_batches", "duplicate_rows", "alarms", "overlapping_slots", "seq_gaps"):
        assert report[tally] == 0, report
    assert len(report["epochs"]) == 1


def test_the_log_is_searched_by_fields_and_explained_by_the_catalog(seen):
    found = step(seen, "log_search")
    lost = [one for one in found["entries"] if one.get("MESSAGE_ID") == LogEvent.UPLINK_LOST]
    assert lost
    for one in lost:
        assert one["_SYSTEMD_UNIT"] == "gardien.service"
        assert one["RECIPIENT"] == "energie.metropole.example"
        assert one["MESSAGE"].startswith("WARNING uplink metropole lost")
    assert "Subject: Uplink metropole to energie.metropole.example" in found["explained"]


def test_systemd_python_sends_the_log_and_notifies(seen):
    assert step(seen, "log_search")["loaded"] == ["_journal", "_daemon"]


def test_an_update_of_a_library_restarts_the_agent(seen):
    assert step(seen, "library_update")["restarted"]


def test_going_back_by_hand_loses_nothing(seen):
    found = step(seen, "back")
    assert found["status"] == 0, found["said"]
    assert found["version"] == "0.1.1"
    assert found["back_to"] != "0.1.1"
    assert found["gaps"] == []


def test_a_version_that_is_judged_and_does_not_stand_loses_nothing(seen):
    found = step(seen, "judged")
    assert found["status"] == 1
    assert "0.2.0 does not come up" in found["said"]
    assert found["ran_judged"]
    assert not found["marker"]
    assert found["version"] == "0.1.0"
    assert found["gaps"] == []


def test_the_timer_takes_a_version_in_its_window_and_ring_only(seen):
    found = step(seen, "timely")
    assert found["timer"] == "active\n"
    assert found["without a word"][0] == "0.1.0"
    version, log = found["early"]
    assert version == "0.1.0"
    assert "ring 1 takes this version from" in log
    assert found["closed"][0] == "0.1.0"
    assert found["taken"][0] == "0.1.1", found["taken"][1]


def test_in_its_sandbox_the_timer_goes_back_from_a_version_that_does_not_come_up(seen):
    found = step(seen, "timely")
    version, log = found["broken"]
    assert "9.9.9 does not come up" in log
    assert "planted" in log, "its last words"
    assert "0.1.0 runs again; nothing is lost" in log
    assert (version, found["installed"]) == ("0.1.0", "0.1.0")


def test_only_a_person_at_a_terminal_goes_below_the_highest_version_that_ran(seen):
    """Rule U15."""
    found = step(seen, "back")
    plain, scripted, unmeant = found["refused"]
    assert [one[0] for one in found["refused"]] == [1, 1, 1]
    assert "0.1.0 is below 0.1.1, which ran here" in plain[1]
    assert "sudo gardien-upgrade --below-floor --back" in plain[1]
    assert "run it at a terminal" in scripted[1]
    assert "nothing is changed" in unmeant[1]
    assert found["stayed"] == ["0.1.1", "0.1.1"]
    assert found["floor"] == "0.1.0"


def test_it_stays_small_with_a_line_of_every_driver(seen):
    found = step(seen, "memory")
    print(found)
    assert all(line["open"] for name, line in found["lines"].items() if name != "heat")
    assert found["rss_MB"] < 84


def test_root_writes_through_no_link_that_the_account_of_the_daemon_made(seen):
    """Rule U17."""
    assert not step(seen, "upgrade")["planted"]
    assert not step(seen, "remove")["planted"]


def test_a_file_in_the_state_directory_forces_no_downgrade(seen):
    found = step(seen, "no_downgrade")
    assert found["same"], found["said"]
    assert "sudo gardien-upgrade --back" in found["said"]
    assert not found["mark"]


def test_removal_gives_back_what_is_held(seen):
    assert step(seen, "remove")["register"] == BEFORE


def test_removal_keeps_what_cannot_be_made_again(seen):
    found = step(seen, "remove")
    assert found["config"]
    assert found["keys"]
    assert found["active"] == "inactive" or found["group_gone"], found["ended"]
    assert not found["socket"]
    assert not found["code"]


def test_installed_again_it_goes_on_as_the_same_gateway(seen):
    assert step(seen, "reinstalled")["gateway"] == step(seen, "door")["gateway"]


def test_factory_reset_destroys_nothing_before_what_is_held_is_given_back(seen):
    """Rule K16."""
    found = step(seen, "reset")
    status, said, kept, held = found["refused"]
    assert status == 1
    assert "Nothing was destroyed" in said
    assert kept
    assert (held, found["register"]) == (ORDERED, BEFORE)


def test_factory_reset_leaves_a_new_gateway_and_nothing_of_the_building(seen):
    """Rule K16."""
    found = step(seen, "reset")
    assert found["status"] == 0, found["said"]
    assert found["active"] == "inactive"
    names = {path.removeprefix("/var/lib/gardien/").partition("/")[0] for path in found["left"]}
    assert names == {"keys", "lock"}
    assert found["sample"]
    assert found["beside"] == ["config.yaml", "credentials"]
    assert found["gateway"] != step(seen, "door")["gateway"]


def test_the_building_file_makes_the_same_gateway_of_a_new_machine(seen):
    before, found = step(seen, "backed_up"), step(seen, "replaced")
    assert found["told"] == before["told"]
    assert found["config"] == before["config"]
    assert found["roots"] == []
    assert "fine  configuration" in found["doctor"]


def test_the_disk_of_a_dead_gateway_makes_the_same_one_by_the_words_of_the_manual(seen):
    before, found = step(seen, "replaced"), step(seen, "dead")
    assert (found["told"], found["config"]) == (before["told"], before["config"])
    assert found["roots"] == []
    assert found["enabled"] == "enabled\n"


def test_purge_leaves_nothing_behind(seen):
    found = step(seen, "purge")
    assert found["left"] == []
    # where systemd keeps a name longer than we wait, no unit is behind it, and none runs
    units = [line.split()[1:4] for line in found["units"].splitlines()]
    assert [unit for unit in units if unit != ["not-found", "inactive", "dead"]] == []
