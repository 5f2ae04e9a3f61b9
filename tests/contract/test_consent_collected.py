"""The programs that docs/platform.md prints for who collects consents, run as they stand."""

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.registry.inputs import NewWithdrawal
from agent.registry.place import mint
from agent.trust.error_codes import Forged, ObjectCode
from tests.unit.inbox.desk import Here
from tests.unit.trust.objects import NAMES, SIGNERS

PAGE = (Path(__file__).parents[2] / "docs/platform.md").read_text(encoding="utf-8")
(SECTION,) = re.findall(r"### Consents that you collect\n(.*?)\n\*\*Heartbeat", PAGE, re.DOTALL)
RUN = {"python": [sys.executable, "-c"], "js": ["node", "-e"]}


def payload(raw: bytes) -> dict:
    """What a signed object says."""
    part = raw.split(b".")[1]
    return json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))


@pytest.mark.parametrize("language", RUN)
def test_the_printed_program_signs_a_consent_that_knows_of_the_withdrawal(
    tmp_path, monkeypatch, language
):
    if not shutil.which(RUN[language][0]):
        pytest.skip(f"{RUN[language][0]} is not installed")
    (program,) = re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    here, to = Here(tmp_path).believed(), NAMES["grid_operator"]
    place, occ = here.place(), mint("H")
    here.accept(here.signed("occupancy+jwt", place=place, occ=occ))
    here.registry.withdraw([NewWithdrawal(occupancy=occ, recipient=to)], "alice", "", here.wall)
    raw = here.signed("consent+jwt", place=place, sub=occ)
    with pytest.raises(Forged) as refusal:
        here.accept(raw)
    assert refusal.value.code is ObjectCode.AFTER
    *_, outcome = here.inbox.object_status.to("metropole", to).values()
    key = SIGNERS["consent_collector"].private
    files = {
        "sign.pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "refused.json": json.dumps(payload(raw)),
        "outcome.json": json.dumps(outcome),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    said = subprocess.run(
        [*RUN[language], program], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert said.split() == ["withdrawn", outcome["marks"][0]["at"], "the", "building"]
    consent = (tmp_path / "consent.jwt").read_bytes()
    monkeypatch.setattr(here, "wall", float(payload(consent)["iat"]))
    assert here.accept(consent)["outcome"] == "consent recorded"
    here.close()
