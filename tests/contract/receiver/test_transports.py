"""What the receiver does over each transport beside batches: statuses, backups, objects, and whom
it lets write. Guards rules T1, T12, T23, T24, T30.
"""

import asyncio
import gzip
import hashlib
import http.client
import json
import queue
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from select import select

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from agent.trust.jws import parse_jws
from agent.trust.sign import Signer as Agent
from agent.uplink.files.container import Envelope
from hil.broker import broker
from hil.ca import CA, bundle
from hil.process import Child, free_port
from receiver.databases import open_store, prepare
from receiver.files import FilesSettings, Pickup, folders
from receiver.https import HttpsSettings, Server
from receiver.run import main
from receiver.sign import decoded
from tests.contract.receiver.batches import GATEWAY, RECIPIENT, document, packed, series, sha256
from tests.contract.uplink.test_documented import rights

DOWN = f"gardien/{GATEWAY}/{RECIPIENT}/down"
UP = f"gardien/{GATEWAY}/{RECIPIENT}/up"
ROWS = {"series": [series("D1", ["2026-03-01T10:00:00Z"], [1.5])]}


def status_of(**more):
    about = {"schema": "gardien/status/1", "gateway": GATEWAY, "recipient": RECIPIENT}
    return json.dumps(about | {"state": "online"} | more).encode()


@asynccontextmanager
async def receiving(database, *options):
    run = (sys.executable, "-m", "receiver", "run", "--db", database)
    async with Child((*run, *options), "ready") as child:
        yield child


def selected(database, sql):
    with closing(open_store(database)) as store:
        return [tuple(row) for row in store.execute(sql)]


@pytest.fixture
def path(tmp_path):
    address = str(tmp_path / "receiver.db")
    prepare(address)
    return address


# -- MQTT


@contextmanager
def gateway_at(port):
    """A gateway's client; what it hears on `down/#`, with each topic's last word."""
    heard, ready = queue.Queue(), threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, "gateway", protocol=MQTTv5)
    client.on_message = lambda _c, _u, message: heard.put(
        (message.topic.rpartition("/")[2], message.payload, message.properties)
    )
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe(f"{DOWN}/#", 1)
    assert ready.wait(30)
    try:
        yield client, lambda: heard.get(timeout=60)
    finally:
        client.disconnect()
        client.loop_stop()


def over_mqtt(path, scene):
    """Play a scene of a gateway against a receiver that runs."""

    async def scenario():
        async with broker() as server, receiving(path, "--mqtt", server.url, "--workers", "1"):
            with gateway_at(server.port) as (client, heard):
                await asyncio.to_thread(scene, client, heard)

    asyncio.run(scenario())


CONTENT = bytes(range(256)) * 500


def sends_a_backup(client, heard):
    """In parts, after one that cannot be read; it is receipted."""
    head = {"schema": "gardien/building-part/1", "gateway": GATEWAY, "recipient": RECIPIENT,
            "made": "2026-03-01T00:00:00Z", "revision": 7, "size": len(CONTENT),
            "sha256": hashlib.sha256(CONTENT).hexdigest()}  # fmt: skip
    client.publish(f"{UP}/building", b"no json\n", 1)
    for start in range(0, len(CONTENT), 50_000):
        part = json.dumps(head | {"from": start}).encode() + b"\n" + CONTENT[start : start + 50_000]
        client.publish(f"{UP}/building", part, 1)
    topic, payload, *_ = heard()
    assert (topic, json.loads(payload)["sha256"]) == ("receipts", head["sha256"])


def backup_of(path):
    ((kept, revision),) = selected(path, "SELECT content, revision FROM building")
    return bytes(kept), revision


def test_a_backup_in_parts_is_kept_whole_and_receipted(path):
    over_mqtt(path, sends_a_backup)
    assert backup_of(path) == (CONTENT, 7)
    assert selected(path, "SELECT what, n FROM tally") == [("unreadable", 1)]


def objects_wait(path):
    with closing(open_store(path)) as store:
        store.add_object(GATEWAY, RECIPIENT, "order")
        store.add_object(GATEWAY, RECIPIENT, '{"payload": "trust"}')
        store.add_object("GOTHER", RECIPIENT, "another's")


def is_restored(client, heard):
    """It hears all objects once it is there, and again with the end after it was restored."""
    topic = f"gardien/{GATEWAY}/{RECIPIENT}/status"
    # before it was there, the broker had nobody to keep them for
    client.publish(topic, status_of(), 1, retain=True)
    assert {heard()[1] for _ in range(2)} == {b"order", b'{"payload": "trust"}'}
    restored = {"audience": "A1", "made": "2026-03-01T00:00:00Z"}
    client.publish(topic, status_of(restored=restored), 1, retain=True)
    bodies = [heard()[1] for _ in range(3)]
    assert bodies[:2] == [b'{"payload": "trust"}', b"order"]
    assert json.loads(bodies[2]) == {"schema": "gardien/objects-end/1", "audience": "A1"}


def audience_of(path):
    ((text,),) = selected(path, f"SELECT status FROM sender WHERE gateway = '{GATEWAY}'")
    return json.loads(text)["restored"]["audience"]


def test_a_restored_gateway_hears_all_objects_with_trust_lists_first_and_then_the_end(path):
    objects_wait(path)
    over_mqtt(path, is_restored)
    assert audience_of(path) == "A1"


def test_a_receiver_started_again_with_the_next_key_answers_a_resend_with_it(path, tmp_path):
    """Rule T37: the two keys overlap in the trust lists. Guards rule T36."""
    of, answers = document(1, **ROWS), []
    keys = {kid: file for file, kid in map(new_key, (tmp_path / "1.jwk", tmp_path / "2.pem"))}

    async def scenario():
        async with broker() as server:
            for file in keys.values():
                options = ("--mqtt", server.url, "--workers", "1", "--sign", str(file))
                async with receiving(path, *options):
                    with gateway_at(server.port) as (client, heard):
                        client.publish(f"{UP}/live", packed(of), 1)
                        answers.append([await asyncio.to_thread(heard) for _ in range(2)])

    asyncio.run(scenario())
    for kid, ((topic, unsigned, _), (beside, signed, _)) in zip(keys, answers, strict=True):
        assert topic == beside == "receipts"
        head = json.loads(decoded(signed.decode().split(".")[0]))
        assert head == {"alg": "EdDSA", "kid": kid, "typ": "receipt+jwt"}
        assert parse_jws(signed).payload == unsigned
        assert json.loads(unsigned)["stored"] == [[1, sha256(of)]]


def new_key(file):
    """A file with a new private key in the form of its suffix, and the key's kid."""
    new = Agent.new(RECIPIENT)
    text = json.dumps(new.private_jwk())
    if file.suffix == ".pem":
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        text = new.private.private_bytes(*form).decode()
    file.write_text(text)
    return file, new.kid


def test_a_key_that_is_none_is_said_at_the_start(tmp_path):
    file = tmp_path / "key"
    file.write_text('{"kty": "OKP"}')
    with pytest.raises(SystemExit, match="is no private Ed25519 key"):
        main(["run", "--db", str(tmp_path / "r.db"), "--sign", str(file)])


def test_a_batch_on_the_topic_of_another_gateway_is_rejected_there_and_harms_nobody(path):
    def scene(client, heard):
        of = document(1, gateway="GOTHER", **ROWS)
        client.publish(f"{UP}/live", packed(of), 1)
        topic, payload, _ = heard()
        assert (topic, json.loads(payload)["rejected"][0][:2]) == ("receipts", [1, sha256(of)])
        client.publish(f"{UP}/live", b"\x28\xb5\x2f\xfd", 1)
        mine = document(1, **ROWS)
        client.publish(f"{UP}/backfill", packed(mine), 1)
        assert json.loads(heard()[1])["stored"] == [[1, sha256(mine)]]

    over_mqtt(path, scene)
    assert selected(path, "SELECT gateway FROM sender") == [(GATEWAY,)]


def test_it_conforms_under_the_rights_that_are_printed(path, tmp_path, capsys):
    fleet, ours, port = CA("Fleet CA"), CA("Platform CA"), free_port()
    key = ec.generate_private_key(ec.SECP256R1())
    own = bundle(tmp_path / "platform.pem", key, fleet.issue(RECIPIENT, key.public_key()))
    gateway = fleet.gateway(GATEWAY, tmp_path / "gateway")
    acl = tmp_path / "acl"
    acl.write_text(rights(RECIPIENT))
    server = ours.server(tmp_path)
    lines = (f"listener {port} 127.0.0.1", f"cafile {fleet.file(tmp_path)}", f"certfile {server}",
             f"keyfile {server}", "require_certificate true", "use_identity_as_username true",
             f"acl_file {acl}", "user root")  # fmt: skip
    url, ca = f"mqtts://127.0.0.1:{port}", str(ours.file(tmp_path))

    async def scenario():
        secure = ("--mqtt", url, "--recipient", RECIPIENT, "--cert", str(own), "--ca", ca)
        async with broker(more=lines), receiving(path, *secure):
            arguments = ["conform", url, "--gateway", GATEWAY, "--recipient", RECIPIENT,
                         "--cert", str(gateway), "--ca", ca]  # fmt: skip
            with pytest.raises(SystemExit) as ended:
                await asyncio.to_thread(main, arguments)
            return ended.value.code

    assert (asyncio.run(scenario()), capsys.readouterr().out) == (0, "PASS\n")


# -- HTTPS


@pytest.fixture
def https(path, tmp_path):
    """A server with certificates, and a function that asks it as a gateway."""
    fleet, ours = CA("Fleet CA"), CA("Platform CA")
    settings = HttpsSettings(
        "127.0.0.1",
        free_port(),
        recipient=RECIPIENT,
        cert=ours.server(tmp_path),
        ca=fleet.file(tmp_path),
    )
    with Server(settings, path) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()

        def ask(method, to, body=None, name=GATEWAY, headers=()):
            context = ssl.create_default_context(cafile=ours.file(tmp_path))
            context.load_cert_chain(fleet.gateway(name, tmp_path / name))
            connection = http.client.HTTPSConnection("127.0.0.1", settings.port, context=context)
            with closing(connection):
                connection.request(method, to, body, dict(headers))
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read()), answer.headers

        yield ask, server
        server.shutdown()
        thread.join()


def test_the_certificate_states_whose_batch_status_and_backup_it_may_be(https, path):
    ask, _ = https
    of = document(1, **ROWS)
    assert ask("POST", "/batches", packed(of))[1]["stored"] == [[1, sha256(of)]]
    _, receipt, _ = ask("POST", "/batches", packed(document(2, **ROWS)), "GOTHER")
    assert receipt["rejected"][0][0] == 2
    assert ask("POST", "/batches", b"junk")[0] == 400
    assert ask("PUT", f"/status/{GATEWAY}", status_of())[0] == 200
    assert ask("PUT", f"/status/{GATEWAY}", status_of(), "GOTHER")[0] == 403
    facts = {
        "Gardien-Recipient": RECIPIENT,
        "Gardien-Made": "2026-03-01T00:00:00Z",
        "Gardien-Revision": "3",
    }
    assert ask("PUT", f"/buildings/{GATEWAY}", b"backup", headers=facts)[1]["gateway"] == GATEWAY
    assert ask("PUT", f"/buildings/{GATEWAY}", b"backup", "GOTHER", facts)[0] == 403
    assert selected(path, "SELECT gateway, batches FROM sender") == [(GATEWAY, 1)]
    assert selected(path, "SELECT revision FROM building") == [(3,)]


def test_objects_are_given_after_a_cursor_and_an_unknown_cursor_is_gone(https, path):
    ask, _ = https
    with closing(open_store(path)) as store:
        for body in ("one", "two"):
            store.add_object(GATEWAY, RECIPIENT, body)
        store.add_object("GOTHER", RECIPIENT, "another's")
    _, first, _ = ask("GET", "/objects")
    assert [one["object"] for one in first["objects"]] == ["one", "two"]
    cursor = first["objects"][0]["cursor"]
    assert [one["object"] for one in ask("GET", f"/objects?after={cursor}")[1]["objects"]] == [
        "two"
    ]
    assert ask("GET", "/objects?after=999")[0] == 410
    _, _, headers = ask("POST", "/batches", packed(document(1)))
    assert headers["Gardien-Objects"] == first["objects"][1]["cursor"]


def test_a_batch_that_is_too_large_or_of_unknown_size_is_refused(https):
    ask, _ = https
    assert ask("POST", "/batches", bytes(1_000_001))[0] == 413
    assert ask("POST", "/batches", iter([b"x"]), headers={"Transfer-Encoding": "chunked"})[0] == 411
    assert ask("GET", "/elsewhere")[0] == 404


def test_while_the_database_cannot_write_the_gateway_is_told_to_wait(https, path):
    ask, _ = https
    import sqlite3

    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE batch RENAME TO gone")
        db.commit()
        status, _, headers = ask("POST", "/batches", packed(document(1, **ROWS)))
        assert (status, headers["Retry-After"]) == (503, "10")
        db.execute("ALTER TABLE gone RENAME TO batch")
        db.commit()
    assert ask("POST", "/batches", packed(document(1, **ROWS)))[0] == 200


def test_clients_that_send_nothing_cost_the_others_nothing(https):
    ask, server = https
    with (
        closing(socket.create_connection(server.server_address)),
        closing(socket.create_connection(server.server_address)),
    ):
        assert ask("POST", "/batches", packed(document(1, **ROWS)))[0] == 200


@contextmanager
def bounded(path, **bounds):
    """A server on this machine, with other bounds, and connections to it."""
    with Server(
        HttpsSettings("127.0.0.1", free_port(), recipient=RECIPIENT, **bounds), path
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()

        def connected():
            return closing(socket.create_connection(server.server_address, 30))

        yield connected
        server.shutdown()
        thread.join()


def ends(connection, drop=b""):
    """Send a byte now and then until the other side hangs up; what it had answered."""
    answer = b""
    with suppress(ConnectionError):
        while True:
            if drop:
                connection.send(drop)
            if select([connection], [], [], 0.02)[0]:
                if not (part := connection.recv(1_000)):
                    break
                answer += part
    return answer


HEAD = b"POST /batches HTTP/1.1\r\nContent-Length: "


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("bounds", "head", "drop"),
    [
        ({"idle": 0.2}, b"", b""),  # sends nothing
        ({"idle": 0.2}, HEAD, b"0"),  # a byte of its headers now and then
        ({"body": 0.2}, HEAD + b"900\r\n\r\n", b"x"),  # of its batch
        ({"body": 0.2}, HEAD + b"900\r\n\r\n", b""),
    ],
)
def test_a_client_that_is_silent_or_slow_is_disconnected_in_time(path, bounds, head, drop):
    with bounded(path, **bounds) as connected, connected() as client:
        client.sendall(head)
        began = time.monotonic()
        assert ends(client, drop) == b""
        assert 0.1 < time.monotonic() - began < 10


@pytest.mark.timeout(30)
def test_a_client_that_never_shakes_hands_is_disconnected_in_time(path, tmp_path):
    pem = CA("Platform CA").server(tmp_path)
    with bounded(path, cert=pem, idle=0.2) as connected, connected() as client:
        assert ends(client) == b""


@pytest.mark.timeout(30)
def test_connections_above_the_bound_are_closed_and_those_within_it_are_served(path):
    batch = packed(document(1, **ROWS))
    request = HEAD + str(len(batch)).encode() + b"\r\n\r\n" + batch
    with bounded(path, connections=2) as connected, connected() as first:
        with connected() as second:
            for client in (first, second):
                client.sendall(request)
                assert client.recv(1_000).startswith(b"HTTP/1.1 200")
            for _ in range(20):
                with connected() as further:
                    assert ends(further) == b""
        while True:  # until the server has seen that the second one is gone
            with connected() as another, suppress(ConnectionError):
                another.sendall(request)
                if another.recv(1_000).startswith(b"HTTP/1.1 200"):
                    break


def test_without_certificates_it_listens_on_this_machine_only():
    with pytest.raises(ValueError, match="anybody could write"):
        HttpsSettings("192.0.2.1", 443, recipient="+")
    with pytest.raises(SystemExit, match="Not started: anybody could write"):
        main(["run", "--https", "0.0.0.0:443"])


# -- files


def pick_up(root, path, **more):
    with closing(open_store(path)) as store:
        for folder, gateway in folders(root):
            Pickup(folder, gateway, FilesSettings(root, recipient="+", **more), store).once()


def test_in_a_folder_of_one_gateway_only_its_files_are_taken(tmp_path, path):
    root = tmp_path / "root"
    for name in (GATEWAY, "GOTHER"):
        (root / name / "in").mkdir(parents=True)
        (root / name / "out").mkdir()
    with closing(open_store(path)) as store:
        n = store.add_object(GATEWAY, RECIPIENT, "an object")
    of = document(1, retract=[])
    text = gzip.compress(json.dumps(of).encode())
    name = f"{GATEWAY}_{RECIPIENT}_{of['epoch']}_1.json.gz"
    for folder in (GATEWAY, "GOTHER"):
        (root / folder / "in" / name).write_bytes(text)
    (root / GATEWAY / "in" / f"{name}.part").write_bytes(b"grows")
    (root / GATEWAY / "in" / f"{GATEWAY}_{RECIPIENT}.status.json.gz").write_bytes(
        gzip.compress(status_of())
    )
    (root / GATEWAY / "in" / f"{GATEWAY}_{RECIPIENT}.building").write_bytes(b"backup")
    pick_up(root, path)
    receipts = {folder: json.loads((root / folder / "out" / f"{name}.receipt.json").read_text())
                for folder in (GATEWAY, "GOTHER")}  # fmt: skip
    assert receipts[GATEWAY]["stored"][0][0] == 1
    assert receipts["GOTHER"]["rejected"][0][0] == 1
    assert [one.name for one in (root / GATEWAY / "in").iterdir()] == [f"{name}.part"]
    assert (root / GATEWAY / "out/objects" / f"{n:012d}.object").read_text() == "an object"
    assert not (root / "GOTHER/out/objects").exists()
    assert selected(path, "SELECT status IS NOT NULL FROM sender") == [(1,)]
    assert selected(path, "SELECT gateway FROM building") == [(GATEWAY,)]


def test_a_file_that_is_not_signed_by_the_gateway_of_its_name_is_rejected(tmp_path, path):
    fleet, ours = CA("Fleet CA"), CA("Platform CA")
    key = ec.generate_private_key(ec.SECP256R1())
    own = bundle(tmp_path / "platform.pem", key, ours.issue("platform", key.public_key()))
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for seq, signer in ((1, GATEWAY), (2, "GOTHER")):
        pem = fleet.gateway(signer, tmp_path / signer)
        plain = tmp_path / "plain"
        plain.write_bytes(gzip.compress(json.dumps(document(seq)).encode()))
        signed, name = (
            tmp_path / "signed",
            f"{GATEWAY}_{RECIPIENT}_{document(1)['epoch']}_{seq}.json.gz.p7m",
        )
        cms = ("openssl", "cms", "-binary", "-outform", "DER")
        sign = ("-sign", "-nodetach", "-in", plain, "-signer", pem, "-inkey", pem, "-out", signed)
        seal = ("-encrypt", "-aes-256-gcm", "-in", signed, "-out", tmp_path / "in" / name)
        subprocess.run((*cms, *sign), check=True)
        subprocess.run((*cms, *seal, "-recip", own), check=True)
    (tmp_path / "in" / f"{GATEWAY}_{RECIPIENT}_{document(1)['epoch']}_3.json.gz").write_bytes(
        plain.read_bytes()
    )
    pick_up(tmp_path, path, cert=own, ca=fleet.file(tmp_path))
    answers = [
        json.loads(one.read_text()) for one in sorted((tmp_path / "out").glob("*.receipt.json"))
    ]
    assert [list(answer)[4] for answer in answers] == ["stored", "rejected", "rejected"]
    assert "signed by" in answers[1]["rejected"][0][2]


def test_a_batch_from_a_stick_has_the_hash_that_it_has_over_the_network(tmp_path, path, capsys):
    """Rule T39."""
    from receiver.intake import answer

    fleet = CA("Fleet CA")
    own = CA("Platform CA").server(tmp_path, uses=())
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    epoch = document(1)["epoch"]
    sealed = {seq: packed(document(seq, **ROWS)) for seq in (1, 2)}
    for seq, signer, content in ((1, GATEWAY, sealed[1]), (2, "GOTHER", sealed[2])):
        envelope = Envelope(fleet.gateway(signer, tmp_path / signer), (own,))
        name = f"{GATEWAY}_{RECIPIENT}_{epoch}_{seq}.json.zst.carried.p7m"
        (tmp_path / "in" / name).write_bytes(envelope.close(content))
    (tmp_path / "in" / name.replace("_2.", "_3.")).write_bytes(b"was pulled out")
    pick_up(tmp_path, path)
    assert len(list((tmp_path / "in").iterdir())) == 3
    assert "it waits for a start with --cert and --ca" in capsys.readouterr().err
    with closing(open_store(path)) as store:
        first = answer(store, sealed[1], (GATEWAY, None))  # the network was first
    pick_up(tmp_path, path, cert=own, ca=fleet.file(tmp_path))
    (receipt,) = (tmp_path / "out").glob("*.receipt.json")
    assert json.loads(receipt.read_text())["stored"] == first["stored"]
    assert first["stored"] == [[1, hashlib.sha256(sealed[1]).hexdigest()]]
    assert list((tmp_path / "in").iterdir()) == []
    assert selected(path, "SELECT count(*) FROM readings") == [(1,)]


# -- the command


def test_a_query_is_csv_and_status_names_what_was_refused(path, capsys):
    with closing(open_store(path)) as store:
        from receiver.intake import answer

        answer(store, packed(document(2, **ROWS)), (GATEWAY, None))
        answer(store, packed(document(3, gateway="GOTHER")), (GATEWAY, None))

    def printed(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--db", path])
        return ended.value.code, capsys.readouterr().out.splitlines()

    assert printed("query", "SELECT place, value, unit FROM readings") == (
        0,
        ["place,value,unit", "D1,1.5,kWh"],
    )
    code, (_, line, refused) = printed("status")
    assert code == 0
    gateway, state, *heard, batches, missing, recipient = line.split()
    assert (gateway, state, batches, missing, recipient) == (GATEWAY, "-", "1", "1", RECIPIENT)
    assert heard[:2] == heard[2:]  # the batch is all that was heard of it
    latest = f"{GATEWAY} sent a batch of GOTHER"
    assert refused == f"{GATEWAY}: rejected batches: 1; the latest: {latest}"


def test_a_gateway_that_was_not_heard_of_for_an_hour_is_silent(path, capsys):
    with closing(open_store(path)) as store:
        for gateway, ago in (("GHEARD", 60), ("GSILENT", 3_700)):
            online = {"gateway": gateway, "recipient": RECIPIENT, "state": "online"}
            store.keep_status(gateway, RECIPIENT, json.dumps(online).encode())
            at = int(time.time()) - ago
            store.execute("UPDATE sender SET status_at = AT(?) WHERE gateway = ?", (at, gateway))
    with pytest.raises(SystemExit):
        main(["status", "--db", path])
    states = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert states == [["GHEARD", "online"], ["GSILENT", "silent"]]
