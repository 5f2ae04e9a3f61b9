"""One running gateway for many recipes: meters, boiler, broker, platform, agent, and who signs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent.core.state import connect
from agent.local import ask_daemon
from agent.trust.sign import Signer, new_jti, trust_list
from hil.cellar import cellar
from hil.signers import CENTRE, YEAR, Signers
from hil.stage import stage
from tests.mistakes.terminal import ended, forked

READY_WITHIN = 180.0


@dataclass
class People(Signers):
    """Everybody who signs, and a second key of the centre, which was revoked."""

    laptop: Signer = field(default_factory=lambda: Signer.new(CENTRE))

    def trust(self) -> bytes:
        """Say who counts, in version 2."""
        return self._trust(2, int(time.time()) - 60, YEAR)

    def former(self) -> bytes:
        """Return the list of two years ago."""
        return self._trust(1, int(time.time()) - 2 * YEAR, YEAR)

    def _trust(self, version: int, at: int, lasts: int) -> bytes:
        signers = [
            ("grid_operator", self.centre), ("grid_operator", self.laptop), *self.people.items()
        ]  # fmt: skip
        keys = [
            {"kid": one.kid, "jwk": dict(one.key.jwk), "role": role, "name": one.name, "scope": {},
             "nbf": at - 86_400, "exp": at + lasts}
            for role, one in signers
        ]  # fmt: skip
        said = {
            "ver": version, "iss": "Métropole", "iat": at, "exp": at + lasts,
            "roots": [self.root.public_jwk()], "threshold": 1, "keys": keys,
        }  # fmt: skip
        return trust_list(json.dumps(said), [self.root])

    def revocation(self) -> bytes:
        """Revoke the key on the lost laptop."""
        said = {"iss": self.root.name, "jti": new_jti(), "iat": int(time.time()), "ver": 1,
                "rev": [{"kid": self.laptop.kid, "reason": "stolen"}]}  # fmt: skip
        return self.root.sign("dr-revoke+jwt", said)


@dataclass
class Shared:
    """The running gateway, as recipes see it."""

    folder: Path
    people: People
    audience: str
    control: int
    pid: int

    @classmethod
    def start(cls, folder: Path) -> Shared:
        """Set everything up, and return once controls are tested and grants accepted."""
        folder.mkdir()
        people, ready = People(), folder / "ready.json"
        pid = forked(lambda: asyncio.run(_play(folder, people, ready)), folder / "shared.log")
        deadline = time.monotonic() + READY_WITHIN
        while not ready.exists():
            if os.waitpid(pid, os.WNOHANG)[0] or time.monotonic() > deadline:
                raise RuntimeError((folder / "shared.log").read_text()[-4000:])
            time.sleep(0.05)
        facts = json.loads(ready.read_text())
        return cls(folder, people, facts["audience"], facts["control"], pid)

    @property
    def config(self) -> Path:
        """The configuration of the gateway."""
        return self.folder / "config.yaml"

    @property
    def state(self) -> Path:
        """Its state directory."""
        return self.folder / "state"

    def close(self) -> None:
        """End everything."""
        ended(self.pid)

    def tell(self, words: str) -> None:
        """Give the simulated building an order. Raises RuntimeError."""
        with socket.create_connection(("127.0.0.1", self.control)) as line:
            line.sendall(words.encode() + b"\n")
            answer = json.loads(line.makefile().readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])

    def order(self, control: str, value: str, by: str) -> bytes:
        """Sign an order of the centre; see provoke.py for `by`."""
        now = int(time.time())
        audience = "GYWVF-FPVZ6-YMHZ1.0123456789ab" if by == "other-audience" else self.audience
        signer = {"stranger": self.people.stranger, "revoked": self.people.laptop}
        said = {
            "iss": CENTRE, "jti": new_jti(now), "iat": now, "exp": now + 600, "aud": audience,
            "seq": time.time_ns() // 1_000_000 % 1_000_000_000, "why": "la pointe de 18 h",
            "cmd": {"act": "offset", "tgt": [control], "val": Decimal(value), "unit": "K",
                    "dur": "PT10M"},
        }  # fmt: skip
        return signer.get(by, self.people.centre).sign("dr-command+jwt", said)

    def expired_grant(self) -> bytes:
        """Sign a grant of the boiler's operator for the last heating season."""
        now, by = int(time.time()), self.people.people["boiler_operator"]
        said = {
            "iss": by.name, "jti": new_jti(now - YEAR), "iat": now - YEAR, "nbf": now - YEAR,
            "exp": now - YEAR // 2, "aud": self.audience.partition(".")[0], "sub": CENTRE,
            "role": "boiler_operator", "scope": {"assets": ["kind:heating"], "acts": ["offset"]},
            "lim": {"unit": "K", "min": -2},
            "evid": {"kind": "contract", "ref": "avenant 3", "date": "2025-10-01",
                     "sha256": "0" * 64},
        }  # fmt: skip
        return by.sign("dr-grant+jwt", said)

    def old_trust_list(self) -> bytes:
        """Return a trust list that has expired."""
        return self.people.former()


async def _play(folder: Path, people: People, ready: Path) -> None:
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    os.environ["GARDIEN_AS"] = "marie"
    async with stage(folder, lines=2, meters=6, without_consent=1) as on, cellar(on) as below:
        below.demand.people = people
        await on.start_agent()
        while connect_none(on.state):
            await asyncio.sleep(0.05)
        await below.demand.prepare()
        revoked = {"text": people.revocation().decode(), "named": "the platform"}
        await asyncio.to_thread(ask_daemon, on.state, "object.accept", revoked, lambda _: None)
        facts: dict[str, Any] = {
            "audience": below.demand.audience, "control": on.building["control"]
        }  # fmt: skip
        new = ready.with_suffix(".new")
        new.write_text(json.dumps(facts))
        new.replace(ready)
        await end.wait()


def connect_none(state: Path) -> bool:
    """Whether no agent answers yet."""
    door = connect(state)
    if door is not None:
        door.close()
    return door is None
