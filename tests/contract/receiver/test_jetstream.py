"""The receiver at a nats-server: it conforms with the rights that it prints, takes and sends what
is no batch, and each gateway writes and reads under its own id only; its signed receipts settle.
Guards rules T1, T12, T16, T35, T36.
"""

import asyncio
import json
import queue
import subprocess
import sys
from contextlib import contextmanager

import nats
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.client import Client, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from agent.trust.sign import Signer
from hil.ca import CA, bundle
from hil.nats import nats_servers
from receiver.databases import prepare
from receiver.jetstream import NatsSettings
from receiver.run import main
from tests.contract.gateway.running import at_work, configured, put, settled
from tests.contract.gateway.test_signed_receipts import accept, listing, trusting
from tests.contract.receiver.batches import GATEWAY, RECIPIENT, document, packed
from tests.contract.receiver.test_transports import (
    CONTENT,
    audience_of,
    backup_of,
    is_restored,
    objects_wait,
    receiving,
    selected,
    sends_a_backup,
)
from tests.waiting import until

OTHER = "GTEST0000000002"
UNREADABLE = "SELECT gateway, n FROM tally WHERE what = 'unreadable' ORDER BY 1"


class Fleet:
    """Certificates, and the rights for them as the command prints them."""

    def __init__(self, folder, capsys):
        self.folder = folder
        self.fleet, self.ours = CA("Fleet CA"), CA("Platform CA")
        key = ec.generate_private_key(ec.SECP256R1())
        issued = self.fleet.issue(RECIPIENT, key.public_key())
        self.own = bundle(folder / "platform.pem", key, issued)
        self.ca = self.ours.file(folder)
        self.users = self.printed(capsys, GATEWAY, OTHER)

    def printed(self, capsys, *gateways):
        with pytest.raises(SystemExit):
            main(["nats-users", "--recipient", RECIPIENT, *gateways])
        return capsys.readouterr().out

    def gateway(self, name):
        return self.fleet.gateway(name, self.folder / name)

    def options(self, cluster):
        return ("--nats", cluster.nats_urls, "--mqtt", cluster.urls, "--recipient", RECIPIENT,
                "--cert", str(self.own), "--ca", str(self.ca))  # fmt: skip


@contextmanager
def gateway_at(fleet, server, name):
    """A gateway's client, what it hears, and whether a subscription of it is refused."""
    heard, answers = queue.Queue(), queue.Queue()
    client = Client(CallbackAPIVersion.VERSION2, f"gardien-{name}", protocol=MQTTv311)
    client.on_message = lambda _c, _u, message: heard.put(
        (message.topic.rpartition("/")[2], message.payload)
    )
    client.on_subscribe = lambda _c, _u, _mid, codes, _p: answers.put(codes[0].is_failure)
    pem = str(fleet.gateway(name))
    client.tls_set(str(fleet.ca), pem, pem)
    client.connect("127.0.0.1", server.port)
    client.loop_start()

    def refused(topic):
        client.subscribe(topic, 1)
        return answers.get(timeout=30)

    try:
        yield client, lambda: heard.get(timeout=60), refused
    finally:
        client.disconnect()
        client.loop_stop()


def test_without_its_library_it_states_what_to_install():
    code = "import sys; sys.modules['nats'] = None; from receiver.run import main; main()"
    run = (sys.executable, "-c", code, "run", "--nats", "nats://127.0.0.1", "--mqtt", "mqtt://x")
    ended = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Not started: the Python package nats is missing.")


@pytest.mark.parametrize(
    "arguments", [("--recipient", RECIPIENT, GATEWAY, "*"), (GATEWAY,)]
)  # either would be the right to all
def test_rights_to_everything_are_not_printed(arguments, capsys):
    with pytest.raises(SystemExit, match="Nothing printed"):
        main(["nats-users", *arguments])
    assert capsys.readouterr().out == ""


def test_it_conforms_with_the_printed_rights_and_each_gateway_is_kept_to_its_own_id(
    tmp_path, capsys
):
    fleet, path = Fleet(tmp_path, capsys), str(tmp_path / "receiver.db")
    prepare(path)
    objects_wait(path)
    secure = (fleet.fleet, fleet.ours)

    def itself(server):
        with gateway_at(fleet, server, GATEWAY) as (client, heard, refused):
            assert not refused(f"gardien/{GATEWAY}/{RECIPIENT}/down/+")
            is_restored(client, heard)
            sends_a_backup(client, heard)

    def another(server):
        """What a gateway tries under the id of another one."""
        with gateway_at(fleet, server, OTHER) as (client, _, refused):
            assert not refused(f"gardien/{OTHER}/{RECIPIENT}/down/+")
            topics = (f"gardien/{GATEWAY}/{RECIPIENT}/down/receipts", "gardien/+/+/up/live", "#",
                      "$MQTT/sub/#", "$MQTT/msgs/#")  # fmt: skip
            assert [topic for topic in topics if not refused(topic)] == []
            # the acknowledgement of MQTT 3.1.1 cannot state that it is refused
            for topic in ("up/live", "status", "down/objects"):
                whole = f"gardien/{GATEWAY}/{RECIPIENT}/{topic}"
                client.publish(whole, packed(document(99)), 1, topic == "status")
            own = client.publish(f"gardien/{OTHER}/{RECIPIENT}/up/live", b"mine", 1)
            own.wait_for_publish(30)  # before it disconnects

    async def as_a_client_of_nats(server):
        settings = NatsSettings("", recipient=RECIPIENT, cert=fleet.gateway(OTHER), ca=fleet.ca)
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
            await nats.connect(server.nats_url, tls=settings.tls(), allow_reconnect=False,
                               error_cb=ignore)  # fmt: skip

    async def scenario():
        async with (
            nats_servers(1, secure, fleet.users) as cluster,
            receiving(path, *fleet.options(cluster)),
        ):
            await asyncio.to_thread(itself, cluster[0])
            arguments = ("conform", cluster[0].url, "--gateway", GATEWAY, "--recipient", RECIPIENT,
                         "--cert", str(fleet.gateway(GATEWAY)), "--ca", str(fleet.ca))  # fmt: skip
            with pytest.raises(SystemExit) as ended:
                await asyncio.to_thread(main, arguments)
            # the workers pull by now: nats-server keeps nothing that nobody waits for
            await asyncio.to_thread(another, cluster[0])
            await as_a_client_of_nats(cluster[0])
            await until(lambda: len(selected(path, UNREADABLE)) > 1)
            return ended.value.code

    async def ignore(_error):
        pass

    assert (asyncio.run(scenario()), capsys.readouterr().out) == (0, "PASS\n")
    assert selected(path, UNREADABLE) == [(GATEWAY, 1), (OTHER, 1)]
    assert selected(path, "SELECT count(*) FROM batch WHERE seq = 99") == [(0,)]
    assert (audience_of(path), backup_of(path)) == ("A1", (CONTENT, 7))


def test_a_gateway_that_wants_signed_receipts_is_settled_over_nats(tmp_path, capsys):
    key, path = Signer.new(RECIPIENT), str(tmp_path / "receiver.db")
    private, public = tmp_path / "private.jwk", tmp_path / "key.jwk"
    private.write_text(json.dumps(key.private_jwk()))
    public.write_text(json.dumps(key.public_jwk()))
    prepare(path)

    async def scenario():
        async with (
            nats_servers(1) as cluster,
            receiving(path, "--nats", cluster.nats_urls, "--mqtt", cluster.urls,
                      "--sign", str(private)),
        ):  # fmt: skip
            async with at_work(trusting(configured(tmp_path, cluster.urls))) as house:
                accept(house, listing(key))
                await put(house, 3)
                await settled(house)
            with pytest.raises(SystemExit) as ended:
                await asyncio.to_thread(
                    main, ("conform", cluster.urls, "--receipt-key", str(public))
                )
            return ended.value.code

    assert (asyncio.run(scenario()), capsys.readouterr().out) == (0, "PASS\n")
    held = "SELECT count(*) FROM readings WHERE gateway <> 'GCONFORM0000001'"
    assert selected(path, held) == [(3,)]
