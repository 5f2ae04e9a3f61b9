"""The ledger that the demo puts beside the receiver keeps what comes, and answers nothing."""

import asyncio
import json
import queue

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from hil.broker import broker
from hil.platform.child import Platform
from tests.contract.receiver.batches import GATEWAY, RECIPIENT, document, packed, series

ROWS = {"series": [series("D1", ["2026-03-01T10:00:00Z"], [1.5])]}
TOPIC = f"gardien/{GATEWAY}/{RECIPIENT}"


def test_a_ledger_that_listens_only_keeps_the_batch_and_sends_no_receipt(tmp_path):
    asyncio.run(listens(tmp_path / "ledger.db"))


async def listens(db):
    receipts, subscribed = queue.Queue(), queue.Queue()
    async with broker() as server, Platform(server.port, db) as ledger:
        await ledger.only_listen()
        gateway = Client(CallbackAPIVersion.VERSION2, "gateway", protocol=MQTTv5)
        gateway.on_message = lambda *facts: receipts.put(json.loads(facts[2].payload))
        gateway.on_subscribe = lambda *_: subscribed.put(True)
        gateway.connect("127.0.0.1", server.port)
        gateway.subscribe(f"{TOPIC}/down/#", qos=1)
        gateway.loop_start()
        try:
            await asyncio.to_thread(subscribed.get, timeout=30)
            gateway.publish(f"{TOPIC}/up/live", packed(document(1, **ROWS)), qos=1)
            await ledger.holds(1)
            await ledger.stop()
            async with Platform(server.port, db.with_name("answers.db")):
                gateway.publish(f"{TOPIC}/up/live", packed(document(2, **ROWS)), qos=1)
                first = await asyncio.to_thread(receipts.get, timeout=60)
        finally:
            gateway.disconnect()
            gateway.loop_stop()
    # of the one that answers, and of its batch: nobody has answered the first one
    assert [seq for seq, _ in first["stored"]] == [2]
