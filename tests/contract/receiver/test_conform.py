"""`gardien-receiver conform` passes a right platform and names the rule that a wrong one breaks.
Guards rules T1, T3, T4, T5, T6, T15, T16, T19, T20, T22, T33, T36,
R14.
"""

import asyncio
import gzip
import json
import subprocess
import sys
import threading
from argparse import Namespace
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.trust.sign import Signer as Agent
from hil.broker import broker
from hil.ca import CA, bundle
from hil.process import Child, free_port
from receiver.batch import HIGHEST, Rejected
from receiver.conform import (
    CHECKS,
    altered_files,
    first_batches,
    judge,
    later_members,
    rows_and_copies,
)
from receiver.databases import open_store, prepare
from receiver.files import FilesSettings
from receiver.files import Pickup as FilesPickup
from receiver.gateway import connected
from receiver.https import HttpsSettings, Server
from receiver.run import main
from receiver.sign import Signer, decoded, encoded
from receiver.sqlite import SqliteStore
from receiver.store import Unavailable
from tests.depth import LONG, depth

DECRYPT = ["openssl", "cms", "-decrypt", "-inform", "DER", "-inkey", "own.pem", "-recip", "own.pem"]
VERIFY = ["openssl", "cms", "-verify", "-inform", "DER", "-noverify"]


class Forgets(SqliteStore):
    def add(self, sender, batch):
        pass


class StatesWhatArrived(SqliteStore):
    def take(self, batch):
        return super().take(batch) | {"stored": [[batch.id.seq, batch.sha256]]}


class LetsVoidsReplace(SqliteStore):
    def take(self, batch):
        receipt = super().take(batch)
        return receipt | ({"stored": [[batch.id.seq, batch.sha256]]} if batch.void else {})


class ForgetsRetractions(SqliteStore):
    def standing(self, *_):
        return {}


class RefusesSilently(SqliteStore):
    def receipt(self, sender, about):
        receipt = super().receipt(sender, about)
        which = "WHERE sender = ? AND epoch = ? AND seq = ?"
        where = (sender, about.epoch, about.seq)
        brought = self.execute(f"SELECT id FROM retraction {which}", where).fetchall()
        return {name: value for name, value in receipt.items() if name != "retracted" or brought}


class IgnoresVersions(SqliteStore):
    def _remove(self, series, kind, step, sources, retraction):
        return super()._remove(series, kind, step, sources, retraction._replace(ver=HIGHEST))


class KnowsOneKind(SqliteStore):
    def _remove(self, series, _kind, step, sources, retraction):
        return super()._remove(series, "REG", step, sources, retraction)


class RemovesWholeSpans(SqliteStore):
    removing = False

    def _remove(self, *facts):
        self.removing = True
        removed = super()._remove(*facts)
        self.removing = False
        return removed

    def insert(self, rows, again):
        return 0 if self.removing else super().insert(rows, again)


class StoresAgainTwice(SqliteStore):
    def add(self, sender, batch):
        rows = {
            key: [row._replace(ver=row.ver + key[1]) for row in of]
            for key, of in batch.rows.items()
        }
        super().add(sender, replace(batch, rows=rows))


class KnowsOneEpoch(SqliteStore):
    def take(self, batch):
        receipt = super().take(replace(batch, id=batch.id._replace(epoch="eeeeeeeeeeee")))
        return receipt | {"epoch": batch.id.epoch}


class AddsMembers(SqliteStore):
    def take(self, batch):
        return super().take(batch) | {"rows": 1}


class TakesSmallBatches(SqliteStore):
    def take(self, batch):
        if batch.size > 50_000:
            raise Rejected("too large", batch.id)
        return super().take(batch)


class WantsOrder(SqliteStore):
    def take(self, batch):
        known = self.execute(
            "SELECT max(seq) FROM batch WHERE epoch = ?", (batch.id.epoch,)
        ).fetchone()
        if batch.id.seq > (known[0] or 0) + 1:
            raise Unavailable("the one before is missing")
        return super().take(batch)


class RefusesVoids(SqliteStore):
    def take(self, batch):
        if batch.void == "rejected":
            raise Rejected("a void", batch.id)
        return super().take(batch)


class WantsPlacesFirst(SqliteStore):
    def _learn(self, sender, batch):
        for basis in batch.directory.get("bases", ()):
            known = "SELECT 1 FROM directory WHERE list = 'places' AND id = ?"
            place = basis.get("place")
            here = "places" in batch.directory or self.execute(known, (place,)).fetchone()
            if place and not here:
                raise Rejected("an unknown place", batch.id)
        super()._learn(sender, batch)


class HasNoRowsWithoutStep(SqliteStore):
    def add(self, sender, batch):
        rows = {key: of for key, of in batch.rows.items() if key[0].step}
        super().add(sender, replace(batch, rows=rows))


FAULTS = {
    Forgets: "T20", StatesWhatArrived: "T3", LetsVoidsReplace: "T5", ForgetsRetractions: "T19",
    RefusesSilently: "T19", IgnoresVersions: "T19", KnowsOneKind: "T19", RemovesWholeSpans: "T19",
    StoresAgainTwice: "T6", KnowsOneEpoch: "T1", AddsMembers: "T22", TakesSmallBatches: "T15",
    WantsOrder: "T16", RefusesVoids: "T4", WantsPlacesFirst: "T33", HasNoRowsWithoutStep: "R14",
}  # fmt: skip


@contextmanager
def platform(kind, folder, signer=None):
    """A server whose store is of that kind; its address."""
    path = str(folder / "receiver.db")
    prepare(path)
    store, lock = kind(path), threading.Lock()
    store.execute("PRAGMA synchronous = OFF")

    class OneStore:
        @contextmanager
        def store(self):
            with lock:
                yield store

        def close(self):
            store.close()

    with Server(
        HttpsSettings("127.0.0.1", free_port(), recipient="+", signer=signer), path
    ) as server:
        server.pool = OneStore()
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@contextmanager
def storing(kind, path):
    """A database with a store of that kind."""
    prepare(path)
    store = kind(path)
    store.execute("PRAGMA synchronous = OFF")
    with closing(store):
        yield store


@contextmanager
def working(once):
    """Do it again and again in a thread."""
    ended = threading.Event()

    def work():
        while not ended.wait(0.005):
            with suppress(Unavailable):  # a worker would end, and be started again
                once()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


def conform(endpoint, capsys, *more):
    with pytest.raises(SystemExit) as ended:
        main(["conform", endpoint, "--patience", "0.5", *more])
    return ended.value.code, capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("kind", [SqliteStore, *FAULTS])
def test_a_planted_fault_is_named_by_its_rule(tmp_path, capsys, kind):
    with platform(kind, tmp_path) as address:
        status, lines = conform(address, capsys)
        if kind is SqliteStore:  # whoever writes a platform tries it more than once
            assert conform(address, capsys) == (status, lines)
    if kind is SqliteStore:
        assert (status, lines) == (0, ["PASS"])
        left = "SELECT (SELECT count(*) FROM readings), (SELECT count(*) FROM gaps)"
        with closing(open_store(str(tmp_path / "receiver.db"))) as store:
            assert store.execute(left).fetchall() == [(0, 0)]  # nobody counts what was only a trial
    else:
        assert status == 1
        assert any(line.startswith(f"{FAULTS[kind]}:") for line in lines[:-1]), lines
        assert lines[-1].startswith("FAIL")


class BelievesAnybody(FilesPickup):
    def _content(self, _path, body, _gateway, known):
        signed = subprocess.run(DECRYPT, input=body, capture_output=True).stdout
        text = subprocess.run(VERIFY, input=signed, capture_output=True).stdout
        if not text:
            raise Rejected("it does not open", known)
        return gzip.decompress(text)


SEALED = (first_batches, rows_and_copies, altered_files, later_members)


@pytest.mark.parametrize(
    ("pickup", "store", "fault"),
    [
        (FilesPickup, SqliteStore, None),
        (BelievesAnybody, SqliteStore, "R11"),
        *((FilesPickup, kind, rule) for kind, rule in FAULTS.items() if LONG),
    ],
)
def test_over_signed_and_encrypted_files_too(tmp_path, monkeypatch, pickup, store, fault):
    """As with the files of a real gateway. The long form makes all checks, with all faults."""
    fleet, ours, key = CA("Fleet CA"), CA("Platform CA"), ec.generate_private_key(ec.SECP256R1())
    own = bundle(tmp_path / "own.pem", key, ours.issue("platform", key.public_key()))
    gateway, root = fleet.gateway("GCONFORM0000001", tmp_path / "gateway"), tmp_path / "root"
    for folder in ("in", "out"):
        (root / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    settings = FilesSettings(root, recipient="+", cert=own, ca=fleet.file(tmp_path))
    with storing(store, str(tmp_path / "receiver.db")) as opened:
        chosen = Namespace(patience=10.0, cert=gateway, encrypt_for=own)
        link = connected(str(root), "GCONFORM0000001", "conform.example", chosen)
        with working(pickup(root, None, settings, opened).once), link as at:
            faults = judge(at, depth(SEALED, CHECKS))
    assert bool(faults) == bool(fault), faults
    assert fault is None or any(one.startswith(f"{fault}:") for one in faults), faults


def test_files_with_a_certificate_need_a_reader(tmp_path):
    with pytest.raises(SystemExit, match="give --encrypt-for with --cert"):
        main(["conform", str(tmp_path), "--cert", "x.pem"])


@pytest.mark.parametrize("transport", ["mqtt", "files"])
def test_the_receiver_conforms(tmp_path, capsys, transport):
    key, private, public = Agent.new("r.example"), tmp_path / "private.jwk", tmp_path / "key.jwk"
    private.write_text(json.dumps(key.private_jwk()))
    public.write_text(json.dumps({"keys": [key.public_jwk()]}))
    options = ("--patience", "20", "--receipt-key", str(public))

    async def scenario():
        run = (sys.executable, "-m", "receiver", "run", "--db", str(tmp_path / "receiver.db"),
               "--sign", str(private))  # fmt: skip
        if transport == "mqtt":
            async with broker() as server, Child((*run, "--mqtt", server.url), "ready"):
                return await asyncio.to_thread(conform, server.url, capsys, *options)
        (tmp_path / "in").mkdir()
        (tmp_path / "out").mkdir()
        files = ("--files", str(tmp_path), "--every", "0.02")
        async with Child((*run, *files), "ready"):
            return await asyncio.to_thread(conform, str(tmp_path), capsys, *options)

    assert asyncio.run(scenario()) == (0, ["PASS"])


class SignsNothing(Signer):
    def sign(self, _receipt):
        return ""


class SignsAnotherHash(Signer):
    def sign(self, receipt):
        told = json.loads(receipt)
        told |= {"stored": [[seq, sha256[::-1]] for seq, sha256 in told.get("stored", [])]}
        return super().sign(json.dumps(told))


class SignsAsItsOwnType(Signer):
    def sign(self, receipt):
        head, payload, _ = super().sign(receipt).split(".")
        head = encoded(decoded(head).replace(b"receipt+jwt", b"JWT"))
        return f"{head}.{payload}.{encoded(bytes(64))}"


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [(Signer, ""), (SignsNothing, "T36: no signed receipt"),
     (SignsAnotherHash, "T36: the signed receipt of batch 1 states something else"),
     (SignsAsItsOwnType, "T36: the signed receipt of batch 1 does not count: its typ")],
)  # fmt: skip
def test_signed_receipts_are_asked_for_with_the_platforms_key(tmp_path, capsys, kind, sentence):
    key, public = Agent.new("r.example"), tmp_path / "key.jwk"
    public.write_text(json.dumps(key.public_jwk()))
    signer = kind(key.kid, key.private.private_bytes_raw())
    with platform(SqliteStore, tmp_path, signer) as address:
        status, lines = conform(address, capsys, "--receipt-key", str(public))
    assert status == bool(sentence)
    assert lines[0].startswith(sentence or "PASS"), lines
    with pytest.raises(SystemExit, match="no public Ed25519 key"):
        main(["conform", address, "--receipt-key", str(tmp_path / "receiver.db")])


def test_another_recipient_is_one_sentence(tmp_path, capsys):
    async def scenario():
        port = free_port()
        run = (sys.executable, "-m", "receiver", "run", "--db", str(tmp_path / "receiver.db"),
               "--recipient", "r.example", "--https", f"127.0.0.1:{port}")  # fmt: skip
        async with Child(run, "ready"):
            return await asyncio.to_thread(conform, f"http://127.0.0.1:{port}", capsys)

    status, lines = asyncio.run(scenario())
    assert (status, len(lines)) == (1, 2), lines
    assert lines[0].startswith("T21: the platform rejects batch 1: it is for conform.example")
    assert lines[0].endswith("--recipient")


def test_nobody_there_is_one_sentence(capsys):
    status, lines = conform(f"http://127.0.0.1:{free_port()}", capsys)
    assert status == 1
    assert lines[0].startswith("T16: batch 1 was sent three times")
    assert "Connection refused" in lines[0]
    with pytest.raises(SystemExit, match="lost\\.pem: no such file"):
        main(["conform", "https://127.0.0.1:1", "--cert", "lost.pem"])
    assert len(lines) == 2
