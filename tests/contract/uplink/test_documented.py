"""What docs/platform.md prints for a team that has never heard of us does what it says."""

import asyncio
import re
import subprocess
from pathlib import Path

from agent.uplink.base import GatewayFacts
from hil.broker import broker
from hil.ca import CA
from tests.contract.uplink.house import GATEWAY, RECIPIENT, delivering, house
from tests.contract.uplink.test_tls import secured

PAGE = (Path(__file__).parents[3] / "docs/platform.md").read_text(encoding="utf-8")


def printed(language: str, about: str) -> str:
    """The block of code in which these words stand."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (found,) = (text for text in blocks if about in text)
    return found


def typed(commands: str, folder: Path) -> str:
    """What somebody sees who types that in; AssertionError where a command fails."""
    done = subprocess.run(
        ("bash", "-euo", "pipefail", "-c", commands),
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def rights(recipient: str) -> str:
    """The broker's list of rights as it is printed."""
    found = re.findall(r"^    ((?:user|topic|pattern) .*)$", PAGE, re.MULTILINE)
    return "\n".join(found).replace("you.example", recipient) + "\n"


def test_a_batch_is_taken_and_receipted_by_hand_under_the_printed_rights(tmp_path: Path):
    """mosquitto's commands, zstd and sha256sum alone; the printed rights let the two meet."""
    ca, at_broker, ours = CA(), tmp_path / "far", tmp_path / "ours"
    pem = ca.gateway(GATEWAY, tmp_path / "state")
    own = ca.gateway(RECIPIENT, ours)
    lines = secured(at_broker, ca, None, f"acl_file {at_broker / 'rights'}")
    (at_broker / "rights").write_text(rights(RECIPIENT), encoding="utf-8")
    (at_broker / "rights").chmod(0o600)
    take, look, answer = re.split(r"\n(?=zstd|mosquitto_pub)", printed("sh", "-N -C 1"))

    async def scenario() -> None:
        async with broker(more=lines) as far, house(tmp_path) as at:
            tls = f"-h localhost -p {far.port} --cafile {ca.file(ours)} --cert {own} --key {own}"

            def by_hand(command: str, *found: str) -> str:
                command = command.replace("you.example", RECIPIENT).replace("G…", GATEWAY)
                command = command.replace("-h broker", tls).replace("up/live", "up/+")
                blanks = ("<from F>", "<seq from F>", "<sha256>")
                for blank, word in zip(blanks, found, strict=False):
                    assert blank in command
                    command = command.replace(blank, word)
                return typed(command, ours)

            kept = take.replace("-h broker", "-h broker -V 5 -c -x 600 -i ours")
            by_hand(kept.replace("-C 1 > F.zst", "-E"))  # from now on the broker keeps what comes
            more = {"url": f"mqtts://localhost:{far.port}", "ca": ca.file(ours)}
            async with delivering(at, far.port, station=GatewayFacts(GATEWAY, pem), **more):
                await at.read()
                await asyncio.to_thread(by_hand, kept)
                batch, _, sha256 = by_hand(look).rpartition("}")
                ((epoch, seq),) = re.findall(r'"epoch":"(\w+)","seq":(\d+)', batch)
                by_hand(answer, epoch, seq, sha256.split()[0])
                await at.settled()

    asyncio.run(scenario())
