"""Signed objects on their real way: the platform publishes, the running agent takes or refuses.
Rule O1.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.registry.place import mint
from agent.trust.sign import Signer, new_jti
from agent.trust.trust_list import read
from hil.signers import Signers
from tests.system.test_daemon import House
from tests.waiting import wait_until

RECIPIENT = "centre.example"


@pytest.fixture
def far():
    """A broker."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hil.broker"], stdout=subprocess.PIPE, text=True
    )
    yield int(process.stdout.readline().rsplit(":", 1)[1])
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture
def house(tmp_path, far):
    house = House(tmp_path, 9)
    text = house.config.read_text().replace("mqtt://127.0.0.1:9", f"mqtt://127.0.0.1:{far}")
    house.config.write_text(text + "trust: {threshold: 1}\n")
    house("key", "new")
    yield house
    for daemon in house.daemons:
        daemon.kill()
        daemon.wait()


def told(house, type_):
    folder = house.state / "audit"
    texts = [file.read_text() for file in sorted(folder.iterdir())]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    return [one["body"] for one in lines if one["type"] == type_]


def test_a_consent_published_by_the_platform_counts_once_and_a_forged_one_never(house, far):
    people = Signers()
    list_ = Path(house.folder / "t.jws")
    list_.write_bytes(people.trust())
    house("trust", "accept", str(list_), "--sha256", read(list_.read_bytes()).sha256, "--as", "me")
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    house("place", "new", "A-3-12", "--since", now, "--as", "me")
    place = json.loads(house("place", "check", "A-3-12", "--json"))["id"]
    (home,) = json.loads(house("occupancy", "list", "--json"))["occupancies"]
    daemon = house.up()
    shown = json.loads(house("status", "--json", status=1))
    gateway = shown["gateway"]
    topic = f"gardien/{gateway}/{RECIPIENT}/down/objects"

    def publish(raw):
        subprocess.run(
            ["mosquitto_pub", "-p", str(far), "-q", "1", "-t", topic, "-s"], input=raw, check=True
        )

    def connected():
        said = house("status", "--json", status=1)
        if "not running" in said:
            return False
        return json.loads(said)["uplinks"]["centre"]["delivery"]["connected_since"]

    def consents():
        return json.loads(house("consent", "list", "--json"))["consents"]

    wait_until(connected)
    manager = people.people["building_manager"]
    now = int(home_since(home))
    said = {
        "iss": manager.name, "jti": new_jti(), "iat": now, "sub": home["id"], "place": place,
        "status": "given", "recipients": [RECIPIENT], "purpose": "suivi", "given_at": now,
        "data": {"channels": ["elec.imp"], "step": "PT30M"}, "nbf": now, "exp": now + 10_000_000,
    }  # fmt: skip
    publish(Signer.new(manager.name).sign("consent+jwt", said))
    wait_until(lambda: told(house, "object.refused"))
    assert told(house, "object.refused")[0]["code"] == "E_KID"
    assert not consents()

    given = manager.sign("consent+jwt", said)
    publish(given)
    wait_until(consents)
    daemon.kill()
    daemon.wait()
    house.up()
    wait_until(connected)
    publish(given)
    publish(manager.sign("consent+jwt", {**said, "jti": new_jti(), "sub": mint("H")}))
    wait_until(lambda: json.loads(house("object", "list", "--json"))["waiting"])
    assert [one["id"] for one in consents()] == [said["jti"]]
    assert len([one for one in told(house, "object.accepted") if one["jti"] == said["jti"]]) == 1
    assert "1 signed object waiting" in house("status", status=1)
    house("audit", "verify")


def home_since(home):
    from datetime import datetime

    return datetime.fromisoformat(home["since"]).timestamp()
