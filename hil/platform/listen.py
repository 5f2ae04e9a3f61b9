"""The platform at its broker: take a batch, keep it, say what is held, then acknowledge."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from hil.platform.answer import receipt, signed
from hil.platform.buildings import Buildings
from hil.platform.unpack import UnreadableError, unpack

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

    from hil.platform.ledger import Ledger
    from hil.platform.unpack import Id

UP, STATUS = "gardien/+/+/up/+", "gardien/+/+/status"
WEEK = 7 * 86_400
KEEPALIVE = 10
AGAIN_SECONDS = 0.5
"""between two attempts to reach the broker"""


class Desk:
    """One message in, at most one receipt out."""

    def __init__(self, ledger: Ledger, slow_down: int = 0, home: Path | None = None) -> None:
        self._ledger = ledger
        self._slow_down = slow_down
        home = home or Path("/nonexistent")
        self._folder = home / "objects"
        """with signed objects for gateways, in the order of their names"""
        self.buildings = Buildings(home / "buildings")
        self._told: set[str] = set()

    def answer(self, topic: str, payload: bytes) -> tuple[str, bytes] | None:
        """Topic and bytes of the receipt, once what it says is on disk; None: nobody to answer."""
        try:
            parcel = unpack(payload)
            if topic.split("/")[1:3] != [parcel.id.gateway, parcel.id.recipient]:
                raise UnreadableError("the topic is another gateway's or recipient's")
            held = self._ledger.store(parcel, len(payload))
        except UnreadableError as error:
            return self._refuse(error, payload)
        return self._receipt(parcel.id, self._ledger.word(parcel.id, held))

    def objects(self, topic: str, payload: bytes) -> list[tuple[str, bytes]]:
        """All signed objects, and the word that these were all, where a restored gateway asks."""
        wanted = json.loads(payload or b"{}").get("restored")
        if wanted is None or wanted["audience"] in self._told:
            return []
        self._told.add(wanted["audience"])
        down = topic.removesuffix("status") + "down/objects"
        files = sorted(self._folder.iterdir()) if self._folder.is_dir() else []
        end = {"schema": "gardien/objects-end/1", "audience": wanted["audience"]}
        bodies = [file.read_bytes() for file in files]
        return [(down, body) for body in (*bodies, json.dumps(end).encode())]

    def _refuse(self, error: UnreadableError, payload: bytes) -> tuple[str, bytes] | None:
        self._ledger.count("rejected_batches" if error.id else "unreadable")
        if error.id is None:
            return None
        digest = hashlib.sha256(payload).hexdigest()
        return self._receipt(error.id, {"rejected": [[error.id.seq, digest, str(error)]]})

    def _receipt(self, about: Id, word: dict[str, Any]) -> tuple[str, bytes]:
        pause = {"slow_down": self._slow_down} if self._slow_down else {}
        body = receipt(self._ledger, about, word | pause)
        return f"gardien/{about.gateway}/{about.recipient}/down/receipts", body


def listen(port: int, desk: Desk, sign: Path | None = None, silent: bool = False) -> None:
    """Serve for ever, through any number of broker restarts; says `ready` when subscribed.

    `silent`: keep what comes, and send nothing: another platform answers.
    """
    client = Client(
        CallbackAPIVersion.VERSION2, "pretend-platform", protocol=MQTTv5, manual_ack=True
    )

    def took(_client: Client, _userdata: object, message: MQTTMessage) -> None:
        said: list[tuple[str, bytes] | None]
        if message.topic.endswith("/status"):
            said = [*desk.objects(message.topic, message.payload)]
        elif message.topic.endswith("/up/building"):
            said = [desk.buildings.part(message.topic, message.payload)]
        elif answer := desk.answer(message.topic, message.payload):
            proof = signed(answer[1], sign)
            said = [answer, (answer[0], proof) if proof else None]
        else:
            said = []
        for one in filter(None, () if silent else said):
            client.publish(*one, qos=1)
        client.ack(message.mid, message.qos)

    def connected(*_facts: object) -> None:
        client.subscribe([(UP, 1), (STATUS, 1)])

    def subscribed(*_facts: object) -> None:
        print(f"ready {UP}", flush=True)

    client.on_connect = connected
    client.on_subscribe = subscribed
    client.on_message = took
    client.reconnect_delay_set(AGAIN_SECONDS, AGAIN_SECONDS)  # type: ignore[arg-type] # it only adds
    client.connect_async("127.0.0.1", port, KEEPALIVE, clean_start=False, properties=_session())
    client.loop_forever(retry_first_connection=True)


def _session() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = WEEK
    # one at a time: the rest waits at the broker and is lost with it; in our socket's buffer it
    # would outlive a dead broker, and an agent that takes a PUBACK for a delivery would pass
    properties.ReceiveMaximum = 1
    return properties
