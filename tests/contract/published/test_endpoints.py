"""docs/openapi.json and docs/asyncapi.json are valid, and state what gateway and receiver do.

`asyncapi-3.0.0.schema.json` is the official schema: @asyncapi/specs 6.11.1, Apache-2.0, unchanged.
"""

import asyncio
import http.client
import json
import ssl
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import jsonschema
import zstandard
from openapi_spec_validator import validate
from referencing import Registry, Resource

from agent.core.model import BatchId, Lane, SealedBatch
from agent.enrolment.http_client import HttpClient
from agent.uplink.base import BackupMessage
from agent.uplink.https.transport import PlatformRequests
from hil.broker import broker
from hil.ca import CA
from hil.platform.child import Platform
from hil.process import free_port
from receiver.databases import open_store, prepare
from receiver.https import ENDPOINTS, HttpsSettings, Server
from receiver.store import Unavailable
from tests.contract.gateway.running import at_work, configured, put, settled
from tests.contract.gateway.test_signed import NOW, TRUST, believe, signed, tell
from tests.contract.receiver.batches import GATEWAY, RECIPIENT, document, packed
from tests.waiting import until

DOCS = Path(__file__).parents[3] / "docs"
OPENAPI = json.loads((DOCS / "openapi.json").read_text(encoding="utf-8"))
ASYNCAPI = json.loads((DOCS / "asyncapi.json").read_text(encoding="utf-8"))
OFFICIAL = json.loads(Path(__file__).with_name("asyncapi-3.0.0.schema.json").read_text())
FILES = {file.name: json.loads(file.read_text()) for file in DOCS.glob("*.schema.json")}
REGISTRY = Registry().with_resources(
    (name, Resource.from_contents(schema)) for name, schema in FILES.items()
)
STATUS = {"schema": "gardien/status/1", "gateway": GATEWAY, "recipient": RECIPIENT}


def fits(content, schema):
    """The content is as a schema says, which may name a file of docs/."""
    jsonschema.Draft202012Validator(schema, registry=REGISTRY).validate(content)


# -- the documents


def test_the_documents_are_valid():
    validate(OPENAPI, base_uri=(DOCS / "openapi.json").as_uri())
    official = jsonschema.Draft7Validator(OFFICIAL)
    official.validate(ASYNCAPI)
    assert not official.is_valid(ASYNCAPI | {"operations": {"x": {"action": "shout"}}})
    for message in ASYNCAPI["components"]["messages"].values():
        payload = message["payload"]
        schema = payload.get("schema", payload)
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.Draft202012Validator(schema, registry=REGISTRY).is_valid({})  # its file is there


# -- over HTTPS


@contextmanager
def receiver(folder):
    """A receiver with TLS: its store, its server, and a context for each gateway."""
    fleet, ours, database = CA("Fleet CA"), CA("Platform CA"), str(folder / "receiver.db")
    prepare(database)
    settings = HttpsSettings(
        "127.0.0.1",
        free_port(),
        recipient=RECIPIENT,
        cert=ours.server(folder),
        ca=fleet.file(folder),
    )

    def tls(name):
        context = ssl.create_default_context(cafile=ours.file(folder))
        context.load_cert_chain(fleet.gateway(name, folder / name))
        return context

    with Server(settings, database) as server, closing(open_store(database)) as store:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield store, server, tls
        finally:
            server.shutdown()
            thread.join()


def ask(server, tls, method, path, sent):
    """Status, headers and body of one answer."""
    port = server.server_address[1]
    with closing(http.client.HTTPSConnection("127.0.0.1", port, context=tls)) as connection:
        connection.request(method, path, *sent)
        answer = connection.getresponse()
        text = answer.read()
    return answer.status, dict(answer.headers), json.loads(text)


class Broken:
    """A database that is not there, or an error of the receiver's own."""

    def __init__(self, error):
        self.error = error

    def store(self):
        raise self.error

    def close(self):
        pass


class Operation:
    """An endpoint, and the statuses that it has answered."""

    def __init__(self, server, method, template, right):
        self.server, self.method, self.seen = server, method, set()
        self.path, self.body, self.headers = right
        self.stated = OPENAPI["paths"][template][method.lower()]["responses"]

    def check(self, tls, after="", **more):
        """The answer is as the document says."""
        body, headers = more.get("body", self.body), more.get("headers", self.headers)
        to = (self.server, tls, self.method, self.path + after)
        status, found, content = ask(*to, (body, headers))
        self.seen.add(status)
        answer = self.stated[str(status)]
        if "content" in answer:
            fits(content, answer["content"]["application/json"]["schema"])
        assert set(answer.get("headers", ())) <= set(found)


def test_each_endpoint_answers_what_is_stated_and_nothing_else(tmp_path):
    backup = {"Gardien-Recipient": RECIPIENT, "Gardien-Made": "2026-03-01T00:00:00Z"}
    paths = {
        "/batches": ("/batches", packed(document(1)), {}),
        "/objects": ("/objects", None, {}),
        "/status/{gateway}": (f"/status/{GATEWAY}", json.dumps(STATUS).encode(), {}),
        "/buildings/{gateway}": (f"/buildings/{GATEWAY}", b"backup", backup),
    }
    with receiver(tmp_path) as (store, server, tls):
        store.add_object(GATEWAY, RECIPIENT, "an object")
        mine, theirs = tls(GATEWAY), tls("GOTHER")
        for (method, template), stated in ENDPOINTS.items():
            to = Operation(server, method, template, paths[template])
            to.check(mine)
            if method == "GET":
                to.check(mine, after="?after=999")
            else:
                to.check(mine, body=b"{}", headers={})
                to.check(mine, body=iter([b"x"]), headers={"Transfer-Encoding": "chunked"})
                to.check(mine, body=b"", headers={"Content-Length": str(10**9)})
            if "{gateway}" in template:
                to.check(theirs)
            whole = server.pool
            for error in (Unavailable("gone"), RuntimeError("ours")):
                server.pool = Broken(error)
                to.check(mine)
            server.pool = whole
            assert to.seen == set(stated), (method, template)
        for method, path in (("POST", "/other"), ("PUT", f"/other/{GATEWAY}"), ("GET", "/other")):
            assert ask(server, mine, method, path, (b"{}", {}))[0] == 404
    assert {(method.upper(), path) for path, of in OPENAPI["paths"].items() for method in of} == (
        set(ENDPOINTS)
    )


def test_the_gateways_own_requests_are_answered_by_the_receiver(tmp_path):
    """Its code, over TLS, on each path; the document was made from the same code."""
    batch = SealedBatch(
        BatchId(GATEWAY, RECIPIENT, document(1)["epoch"], 1), Lane.LIVE, packed(document(1)), "", 0
    )
    with receiver(tmp_path) as (store, server, tls):
        store.add_object(GATEWAY, RECIPIENT, "an object")
        url = f"https://127.0.0.1:{server.server_address[1]}"
        with HttpClient.open("platform", tls(GATEWAY), 10.0) as client:
            platform = PlatformRequests(client, url)
            assert [raw for _, raw in platform.objects()] == [b"an object"]
            status, headers, body = platform.post(batch)
            assert (status, headers["gardien-objects"]) == (200, "1")
            fits(json.loads(body), {"$ref": "receipt.schema.json"})
            assert platform.tell(GATEWAY, json.dumps(STATUS).encode()) == 200
            message = BackupMessage(GATEWAY, RECIPIENT, "2026-03-01T00:00:00Z", 3, "", b"backup")
            status, _, body = platform.put(message)
            assert status == 200
            fits(json.loads(body), {"$ref": "building.schema.json#/$defs/receipt"})


# -- over MQTT


def test_a_gateway_and_a_platform_use_the_stated_topics_and_payloads(tmp_path):
    """All that a real gateway and its platform publish, heard at the broker."""
    heard = []

    async def scenario():
        async with broker() as server, Platform(server.port, tmp_path / "platform.db"):
            words = ("mosquitto_sub", "-p", str(server.port), "-t", "gardien/#", "-F", "%t %r %x")
            listener = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)

            async def listen():
                async for line in listener.stdout:
                    topic, _retained, payload = line.decode().rstrip("\n").split(" ")
                    heard.append((topic, bytes.fromhex(payload)))

            ears = asyncio.create_task(listen())
            config = configured(tmp_path / "here", server.url)
            config.write_text(config.read_text() + TRUST)
            async with at_work(config) as house:
                aud = believe(house)
                gateway = house.identity.gateway
                await put(house, 5, NOW - 3 * 86_400)
                await put(house, 5, NOW - 900)
                await settled(house)
                await tell(server, house, signed("request+jwt", aud, act="directory"))

                async def all_there():
                    return len({topic for topic, _ in heard}) >= 5

                await until(all_there)
            listener.terminate()
            await ears
            return gateway

    (tmp_path / "here").mkdir()
    gateway = asyncio.run(scenario())
    channels = {
        one["address"].format(gateway=gateway, recipient="r.example"): [
            ASYNCAPI["components"]["messages"][name] for name in one["messages"]
        ]
        for one in ASYNCAPI["channels"].values()
    }
    assert {topic for topic, _ in heard} <= set(channels)
    assert {topic.split("/", 3)[3] for topic, _ in heard} >= {
        "up/live", "up/backfill", "status", "down/receipts", "down/objects",
    }  # fmt: skip
    for topic, payload in heard:
        assert any(carries(message, payload) for message in channels[topic]), (topic, payload)


def carries(message, payload):
    """Whether the payload is one of these messages."""
    if message["contentType"] == "application/jose":
        return payload.count(b".") == 2
    if message["contentType"] == "application/octet-stream":
        payload = payload.partition(b"\n")[0]
    if message["contentType"] == "application/zstd":
        payload = zstandard.ZstdDecompressor().decompress(payload, max_output_size=10**8)
    schema = message["payload"]["schema"]
    return jsonschema.Draft202012Validator(schema, registry=REGISTRY).is_valid(json.loads(payload))
