"""The audit chain under kill -9: what was acknowledged is there, and the chain is whole.
Rule O27.
"""

import signal
import subprocess
import sys

import pytest

from agent.trust.audit import FOLDER, Chain, verify
from tests.depth import depth

ROUNDS = depth(4, 40)
WRITER = """
import sys
from pathlib import Path
from agent.trust.audit import Chain
chain = Chain(Path(sys.argv[1]), lambda: 1.8e9, segment=20_000)
while True:
    print(chain.append("object.accepted", {"jti": "x" * (chain.length % 400)}), flush=True)
"""


@pytest.mark.parametrize("after", [1, 50])
def test_no_acknowledged_record_is_lost_to_a_kill(tmp_path, after):
    acknowledged = []
    for n in range(ROUNDS):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True
        ) as writer:
            acknowledged += [writer.stdout.readline().strip() for _ in range(after + n)]
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().split("\n")
            acknowledged += [line for line in rest if len(line) == 64]
        verdict = verify(tmp_path / FOLDER, acknowledged)
        assert set(acknowledged) <= verdict.hashes
    assert Chain(tmp_path, lambda: 1.8e9).length == verdict.last
