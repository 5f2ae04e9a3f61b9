"""MQTT: workers that share one subscription to batches, and the post office for everything else.

Each worker has a session of its own at the broker, which redelivers what it had not acknowledged
when it ended. The session is short: the broker gives a worker that is gone its share of the batches
until the session ends. Nothing depends on the broker: gateways send until they have a receipt.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from socket import gethostname
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from receiver.batch import Rejected
from receiver.databases import open_store
from receiver.intake import Terms, attempted
from receiver.sign import receipts

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.client import MQTTMessage

    from receiver.store import SignedObject, Store

GROUP = "gardien-receiver"
SESSION_SECONDS = 300
POST_SECONDS = 7 * 86_400
IN_FLIGHT = 10
KEEPALIVE = 30
LOOK_SECONDS = 1.0
"""between two looks for objects to publish"""
PUBLISH_SECONDS = 60.0
"""after this time what is not with the broker is published again"""
SUCCESS = 0
"""0x10: nobody is subscribed, so the broker has thrown it away"""
LARGEST_BUILDING = 64 * 1024 * 1024


@dataclass(frozen=True)
class MqttSettings(Terms):
    """Where the broker is, and who we are."""

    url: str
    """or several, separated by commas: of servers that are one broker"""
    five: bool = True
    """MQTT 5; else 3.1.1"""

    def client(self, name: object) -> str:
        """A client id that is the same at each start, and another one on each machine."""
        return f"{GROUP}-{self.only or 'all'}-{gethostname()}-{name}"


def work(settings: MqttSettings, database: str, number: int, ready: Callable[[], object]) -> None:
    """Take batches until something fails; then start again: the session has what was not stored."""
    store = open_store(database)
    client = _client(settings, settings.client(number), SESSION_SECONDS)

    def arrived(_client: Client, _userdata: object, message: MQTTMessage) -> None:
        _, gateway, recipient, *_ = message.topic.split("/")
        receipt = attempted(store, message.payload, (gateway, recipient))
        if receipt is not None:
            # the topic is the sender's own, whatever the batch states
            for text in receipts(receipt, settings.signer):
                client.publish(f"gardien/{gateway}/{recipient}/down/receipts", text, qos=1)
        client.ack(message.mid, message.qos)

    up = f"$share/{GROUP}/gardien/+/{settings.recipient}/up"
    _serve(client, settings, [f"{up}/live", f"{up}/backfill"], arrived, ready)


def post(settings: MqttSettings, database: str, ready: Callable[[], object]) -> None:
    """Keep statuses and backups, publish signed objects, until something fails. One process."""
    office = _PostOffice(open_store(database), settings.five)
    client = _client(settings, settings.client("post"), POST_SECONDS)
    office.publish = client.publish
    client.on_publish = office.published

    def arrived(_client: Client, _userdata: object, message: MQTTMessage) -> None:
        office.arrived(message.topic, message.payload)
        client.ack(message.mid, message.qos)

    # not shared: the broker gives retained messages to no shared subscription, and the parts of a
    # backup must all come to one process
    topics = [f"gardien/+/{settings.recipient}/{end}" for end in ("status", "up/building")]
    _serve(client, settings, topics, arrived, ready, office.look)


class _PostOffice:
    """Statuses, backups and objects."""

    def __init__(self, store: Store, five: bool) -> None:
        self._store, self._five = store, five
        self._parts: dict[tuple[str, str], dict[int, bytes]] = {}
        """of backups, by gateway and hash: what has come, by where it begins"""
        self._ended: set[str] = set()
        """restored gateways that were told that they have all objects"""
        self._there: set[str] = set()
        """gateways of which a status has come, which they send once they are subscribed"""
        self._looked = 0.0
        self._under_way: dict[int, float] = {}
        """objects that were published, by number, and when"""
        self._messages: dict[int, int] = {}
        """their numbers, by message"""
        self.publish: Callable[..., Any]

    def arrived(self, topic: str, payload: bytes) -> None:
        """Take a status, or a part of a backup."""
        _, gateway, recipient, *_, last = topic.split("/")
        try:
            if last == "status":
                self._status(gateway, recipient, payload)
            else:
                self._part(gateway, recipient, payload)
        except (Rejected, ValueError, TypeError, LookupError) as error:
            with self._store.transaction():
                self._store.count(gateway, "unreadable", f"{last}: {error}")

    def _status(self, gateway: str, recipient: str, payload: bytes) -> None:
        status = self._store.keep_status(gateway, recipient, payload)
        self._there.add(gateway)
        self._under_way.clear()  # it may be there now for what nobody was subscribed to
        restored = status.get("restored")
        if restored is None or restored["audience"] in self._ended:
            return
        self._ended.add(restored["audience"])
        objects = self._store.objects(gateway, 0, time.time())
        for one in sorted(objects, key=lambda one: (not one.typ.startswith("trust"), one.n)):
            self._send(one)
        end = {"schema": "gardien/objects-end/1", "audience": restored["audience"]}
        self.publish(f"gardien/{gateway}/{recipient}/down/objects", json.dumps(end), qos=1)

    def _part(self, gateway: str, recipient: str, payload: bytes) -> None:
        head, _, body = payload.partition(b"\n")
        facts = json.loads(head)
        if (facts["gateway"], facts["recipient"]) != (gateway, recipient):
            raise ValueError("a backup of another gateway or recipient")
        if facts["size"] > LARGEST_BUILDING:
            raise ValueError(f"a backup of {facts['size']} bytes")
        for other in [
            key for key in self._parts if key[0] == gateway and key[1] != facts["sha256"]
        ]:
            del self._parts[other]
        parts = self._parts.setdefault((gateway, facts["sha256"]), {})
        parts[int(facts["from"])] = body
        size = sum(map(len, parts.values()))
        if size < facts["size"]:
            return
        del self._parts[gateway, facts["sha256"]]
        content = b"".join(parts[start] for start in sorted(parts))
        receipt = self._store.keep_building(
            gateway, recipient, str(facts["made"]), int(facts["revision"]), content
        )
        self.publish(f"gardien/{gateway}/{recipient}/down/receipts", json.dumps(receipt), qos=1)

    def look(self) -> None:
        """Publish the objects that wait."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        late = time.monotonic() - PUBLISH_SECONDS
        self._under_way = {n: at for n, at in self._under_way.items() if at > late}
        for one in self._store.unsent(time.time()):
            # MQTT 3.1.1 does not say that nobody was there
            if one.n not in self._under_way and (self._five or one.gateway in self._there):
                self._send(one)

    def published(
        self, _client: object, _userdata: object, mid: int, reason: Any, _p: object
    ) -> None:
        """Note that an object is with the broker, unless nobody is subscribed to it."""
        n = self._messages.pop(mid, None)
        if n is not None and reason.value == SUCCESS:
            self._store.sent(n, time.time())

    def _send(self, one: SignedObject) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if one.expires is not None:
            # an order that waits at the broker must not arrive after its time
            properties.MessageExpiryInterval = max(1, one.expires - int(time.time()))
        topic = f"gardien/{one.gateway}/{one.recipient}/down/objects"
        self._messages[self.publish(topic, one.body, qos=1, properties=properties).mid] = one.n
        self._under_way[one.n] = time.monotonic()


def _client(settings: MqttSettings, name: str, session: int) -> Client:
    version, clean = (MQTTv5, None) if settings.five else (MQTTv311, False)
    client = Client(CallbackAPIVersion.VERSION2, name, clean, None, version, manual_ack=True)
    to = urlsplit(random.choice(settings.url.split(",")))
    if to.username:
        client.username_pw_set(unquote(to.username), unquote(to.password or ""))
    if to.scheme == "mqtts":
        cert = str(settings.cert) if settings.cert else None
        client.tls_set(str(settings.ca) if settings.ca else None, cert, cert)
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = session
    # what is in our socket when we are killed comes again only after the broker has noticed
    properties.ReceiveMaximum = IN_FLIGHT
    five: dict[str, Any] = {"clean_start": False, "properties": properties} if settings.five else {}
    port = to.port or (8883 if to.scheme == "mqtts" else 1883)
    client.connect(to.hostname or "", port, KEEPALIVE, **five)
    return client


def _serve(  # noqa: PLR0913, PLR0917 -- what one connection is made of
    client: Client,
    settings: MqttSettings,
    topics: list[str],
    arrived: Callable[[Client, object, MQTTMessage], None],
    ready: Callable[[], object],
    between: Callable[[], object] = lambda: None,
) -> None:
    """Serve one connection to its end. Raises ConnectionError then; errors of the callbacks too."""

    def connected(
        _client: Client, _userdata: object, _flags: object, reason: Any, _p: object
    ) -> None:
        if reason.is_failure:
            raise ConnectionError(f"the broker refuses the connection: {reason}")
        options: Any = SubscribeOptions(qos=1) if settings.five else 1
        client.subscribe([(topic, options) for topic in topics])

    def subscribed(_client: Client, _userdata: object, _mid: int, reasons: Any, _p: object) -> None:
        if refused := [str(reason) for reason in reasons if reason.is_failure]:
            raise ConnectionError(f"the broker refuses the subscription to {topics}: {refused[0]}")
        ready()

    client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, arrived
    while (code := client.loop(0.5)) == MQTT_ERR_SUCCESS:
        between()
    raise ConnectionError(f"the connection to {client.host} ended: {code}")
