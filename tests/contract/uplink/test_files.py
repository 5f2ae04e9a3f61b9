"""Files at the far side: what is in them, who may open them, and what a bad far side does not do.
Guards rules G1, G2, G3: nothing is lost or deleted for whatever is said out there."""

import asyncio
import csv
import gzip
import io
import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.buffer.batch import Stamp, write
from agent.buffer.outbox import digest
from agent.core.errors import BatchRejected, NotStored, UplinkLost
from agent.core.model import BatchId, Lane, Reading, SealedBatch
from agent.uplink.base import Cursors, GatewayFacts, SealedOtherwise
from agent.uplink.files.folder import name
from agent.uplink.files.transport import FilesUplink
from hil.ca import CA, DAY, bundle
from hil.platform.files import OPEN, Reader, parcel
from hil.platform.ledger import tell_to_reject
from hil.platform.unpack import UnreadableError
from hil.sshd import sftp_server
from receiver.batch import of_csv, of_json
from tests.contract.uplink.house import GATEWAY, RECIPIENT, house, series, serving
from tests.contract.uplink.sides import Side, listening, papers, settings_of, side, so
from tests.contract.uplink.test_transports import once, packs, sealed
from tests.depth import LONG

far_sides = pytest.mark.parametrize("word", ["folder", "sftp"])
AS_ROOT = os.geteuid() == 0
LINE_WORDS = ("F.p7m", "platform.key", "platform.crt", "fleet-ca.crt", "signer.pem")
DOCUMENTED = Path(__file__).parents[3] / "docs/platform.md"


def exchange(folder: Path) -> Path:
    root = folder / "exchange"
    (root / "in").mkdir(parents=True)
    (root / "out/objects").mkdir(parents=True)
    return root


def packed(settings, station, rows=None, batch: SealedBatch | None = None) -> SealedBatch:
    """A batch as it is sent."""
    id_ = BatchId(GATEWAY, RECIPIENT, "0123456789ab", 1)
    rows = rows or [Reading(series(1), 1_764_000_000, None, "M", why="silent", span=3)]
    payload = write(Stamp(id_, Lane.LIVE, 1.8e9, "trusted", "FR-1"), rows)
    batch = batch or SealedBatch(id_, Lane.LIVE, payload, digest(payload), len(rows))
    form, body = FilesUplink.packing(settings, station)(batch)
    return replace(batch, form=form, payload=body, sha256=digest(body))


def test_a_file_opens_with_the_documented_line_and_a_flipped_byte_gives_nothing(tmp_path: Path):
    """Of the outer framing a dozen bytes (version numbers) mean nothing to openssl: altered there
    it gives what was sent, never anything else. Rule R11."""
    line = OPEN.split("\n", 1)[1].strip()
    for word, said in zip("12345", LINE_WORDS, strict=True):
        line = line.replace(f'"${word}"', said)
    assert line in DOCUMENTED.read_text()
    reader, told, identity = papers(tmp_path)
    settings = settings_of("files", path=tmp_path, **told)
    batch = packed(settings, GatewayFacts(GATEWAY, identity))
    file = tmp_path / name(batch)
    file.write_bytes(batch.payload)
    table = list(csv.DictReader(io.StringIO(reader.open(file, GATEWAY).decode()), delimiter=";"))
    assert table[0]["batch"] == f"{GATEWAY}/{RECIPIENT}/0123456789ab/1"
    assert (table[0]["q"], table[0]["why"], table[0]["span"], table[0]["value"]) == (
        "M", "silent", "3", "",
    )  # fmt: skip
    with pytest.raises(UnreadableError, match="signed by"):
        reader.open(file, "GOTHER")
    whole, gave_nothing = reader.open(file, GATEWAY), 0
    flips = range(0, len(batch.payload), 1 if LONG else len(batch.payload) // 25)
    for at in flips:
        broken = bytearray(batch.payload)
        broken[at] ^= 1
        file.write_bytes(broken)
        words = (file, reader.key, reader.certificate, reader.ca, tmp_path / "signer")
        done = subprocess.run(
            ("bash", "-c", OPEN, "bash", *map(str, words)), capture_output=True, check=False
        )
        if done.returncode:
            assert done.stdout == b"", at
            gave_nothing += 1
        else:
            assert done.stdout == whole, at
    assert gave_nothing > len(flips) * 0.85


def test_gardien_batch_open_shows_who_signed_what_and_refuses_what_is_another_s(tmp_path: Path):
    reader, told, identity = papers(tmp_path)
    settings = settings_of("files", path=tmp_path, **told)
    batch = packed(settings, GatewayFacts(GATEWAY, identity))
    file = tmp_path / name(batch)
    file.write_bytes(batch.payload)
    words = ("--key", reader.key, "--cert", reader.certificate, "--ca", reader.ca)

    def opened(path: Path, *more: object) -> subprocess.CompletedProcess[str]:
        command = (Path(sys.executable).with_name("gardien"), "batch", "open", path, *more)
        return subprocess.run(tuple(map(str, command)), capture_output=True, text=True, check=False)

    shown = opened(file, *words)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"signed by {GATEWAY}" in shown.stdout
    assert "elec.imp   2025-11-24T16:00:00Z   silent ×3" in shown.stdout
    assert json.loads(opened(file, *words, "--json").stdout)["rows"][0]["why"] == "silent"
    assert "Add --key" in opened(file).stderr
    renamed = file.with_name(file.name.replace(GATEWAY, "GOTHER"))
    renamed.write_bytes(batch.payload)
    assert "contains another batch" in opened(renamed, *words).stderr
    file.write_bytes(batch.payload[:-40])
    broken = opened(file, *words)
    assert (broken.returncode, broken.stdout) == (1, "")
    assert "was altered" in broken.stderr


def test_every_reader_opens_it_with_their_own_key_and_nobody_else_does(tmp_path: Path):
    """Rule R11."""
    fleet, ours = CA("Fleet CA"), CA("Platform CA")
    keys = {"ec": ec.generate_private_key(ec.SECP256R1()),
            "rsa": rsa.generate_private_key(65537, 2048)}  # fmt: skip
    kept = {
        word: bundle(tmp_path / f"{word}.pem", key, ours.issue(word, key.public_key()))
        for word, key in keys.items()
    }
    other = ec.generate_private_key(ec.SECP256R1())
    stranger = bundle(tmp_path / "x.pem", other, ours.issue("x", other.public_key()))
    settings = settings_of("files", path=tmp_path, encrypt_for=list(kept.values()))
    identity, ca = fleet.gateway(GATEWAY, tmp_path / "state"), fleet.file(tmp_path)
    batch = packed(settings, GatewayFacts(GATEWAY, identity))
    file = tmp_path / name(batch)
    file.write_bytes(batch.payload)
    texts = {Reader(one, one, ca).open(file, GATEWAY) for one in kept.values()}
    assert len(texts) == 1
    with pytest.raises(UnreadableError):
        Reader(stranger, stranger, ca).open(file, GATEWAY)
    told = subprocess.run(
        ("openssl", "cms", "-cmsout", "-print", "-inform", "DER", "-in", file),
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for wanted in (
        "aes-256-gcm",
        "dhSinglePass-stdDH-sha256kdf-scheme",
        "rsaesOaep",
        "aes256-wrap",
    ):
        assert wanted in told


def test_compat_is_for_rsa_readers_and_says_so(tmp_path: Path):
    key = rsa.generate_private_key(65537, 2048)
    kept = bundle(tmp_path / "r.pem", key, CA("P").issue("r", key.public_key()))
    fleet = CA("Fleet CA")
    identity = fleet.gateway(GATEWAY, tmp_path / "state")
    settings = settings_of("files", path=tmp_path, container="cms-compat", encrypt_for=[kept])
    batch = packed(settings, GatewayFacts(GATEWAY, identity))
    file = tmp_path / name(batch)
    file.write_bytes(batch.payload)
    assert Reader(kept, kept, fleet.file(tmp_path)).open(file, GATEWAY).startswith(b"batch;row;")
    _, told, _ = papers(tmp_path)
    settings = settings_of("files", path=tmp_path, container="cms-compat", **told)
    with pytest.raises(UplinkLost, match="must be RSA"):
        packed(settings, GatewayFacts(GATEWAY, identity))


def test_without_a_container_a_table_is_a_table(tmp_path: Path):
    """Rule R10."""
    settings = settings_of("files", path=tmp_path, container="none")
    batch = packed(settings, GatewayFacts(GATEWAY))
    assert batch.form == "csv.gz"
    assert gzip.decompress(batch.payload).startswith(b"batch;row;place;channel;obis;kind;t_start")
    assert packed(settings, GatewayFacts(GATEWAY)).payload == batch.payload


@pytest.mark.parametrize("container", ["none", "cms"])
def test_rows_may_be_json_with_the_digits_of_the_meter(tmp_path: Path, container: str):
    """The same JSON as over MQTT and HTTPS; the platforms of hil and the receiver read both."""
    reader, told, identity = papers(tmp_path)
    told = told if container == "cms" else {"container": "none"}
    rows = [Reading(series(1), 1_764_000_000, Decimal("123456789012345678.90"), "V")]
    taken = {}
    for form in ("csv", "json"):
        settings = settings_of("files", path=tmp_path, rows=form, **told)
        batch = packed(settings, GatewayFacts(GATEWAY, identity), rows)
        assert batch.form.startswith(f"{form}.gz")
        file = tmp_path / name(batch)
        file.write_bytes(batch.payload)
        opened = (
            reader.open(file, GATEWAY) if container == "cms" else gzip.decompress(batch.payload)
        )
        (row,) = parcel(file.name, opened, batch.sha256).rows
        read = of_json if form == "json" else of_csv
        ((source, _), (ours,)) = read(opened, batch.sha256, len(opened)).rows.popitem()
        assert row.v == ours.value == "123456789012345678.90"
        taken[form] = (row, source, ours)
    assert taken["csv"] == taken["json"]


def test_a_cell_is_never_a_formula(tmp_path: Path):
    """Rule R10."""
    settings = settings_of("files", path=tmp_path, container="none")
    for text in ('=HYPERLINK("x")', "+1", "-1", "@a", "'q", "a;b", 'a"b'):
        of = series(1)._replace(meter=text)
        batch = packed(settings, GatewayFacts(GATEWAY), [Reading(of, 60, None, "M", why="bad")])
        table = gzip.decompress(batch.payload).decode()
        row = next(csv.DictReader(io.StringIO(table), delimiter=";"))
        assert row["meter"].removeprefix("'" if text[0] in "=+-@'" else "") == text
        assert not row["meter"].startswith(("=", "+", "-", "@"))


def test_settings_that_make_no_sense_are_refused_in_words(tmp_path: Path):
    sftp = {"url": "sftp://g@h.example/", "key": "file:/k", "container": "none"}
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Wm5mEr0V9b2Xk8aQ2V7tZ4d1n6Yc3uHs5Lq8R"
    settings_of("files", host_key=host_key, **sftp)
    for told, words in (
        ({}, "either `url`"),
        ({"path": tmp_path, "url": sftp["url"], "container": "none"}, "either `url`"),
        ({"url": "sftp://g@h/", "container": "none"}, "needs `host_key` and `key`"),
        (sftp | {"host_key": "nonsense"}, "ssh-keyscan"),
        (sftp | {"host_key": "ssh-rsa " + host_key.split()[1]}, "ssh-keyscan"),
        (sftp | {"url": "sftp://g:pass@h/"}, "must not contain a password"),
        (sftp | {"url": "ftp://h/"}, "expected a server"),
        ({"path": tmp_path}, "encrypt_for"),
        ({"path": tmp_path, "container": "none", "encrypt_for": [tmp_path]}, "encrypt_for"),
        ({"path": Path("x"), "container": "none"}, "an absolute path"),
    ):
        with pytest.raises(ValueError, match=words):
            settings_of("files", **told)


@far_sides
def test_an_upload_that_broke_off_goes_on_where_it_stopped_and_appears_only_whole(
    tmp_path: Path, word: str
):
    """Rule T12."""

    async def scenario() -> None:
        async with side(word, tmp_path) as far:
            assert far.root is not None
            await far.platform.stop()
            batch = packed(far.settings, far.station)
            file = far.root / "in" / name(batch)
            part = file.with_name(f"{file.name}.{batch.sha256[:8]}.part")
            part.write_bytes(batch.payload[:300])
            part.chmod(0o666)
            born = part.stat().st_ino
            async with far.kind.open(far.settings, far.station) as uplink:
                await uplink.send(batch)
            assert file.read_bytes() == batch.payload
            assert file.stat().st_ino == born
            assert [one.name for one in (far.root / "in").iterdir()] == [file.name]

    asyncio.run(scenario())


@far_sides
def test_a_void_removes_the_original_and_its_part_before_it_follows(tmp_path: Path, word: str):
    """Rule T12."""

    async def scenario() -> None:
        async with side(word, tmp_path) as far:
            assert far.root is not None
            await far.platform.stop()
            batch = packed(far.settings, far.station)
            other = replace(batch, id=batch.id._replace(seq=10))
            void = replace(batch, rows=0, form="json.gz.p7m", payload=b"void", sha256="f" * 64)
            async with far.kind.open(far.settings, far.station) as uplink:
                await uplink.send(other)
                await uplink.send(batch)
                left = far.root / "in" / f"{name(batch)}.{batch.sha256[:8]}.part"
                left.write_bytes(b"half")
                await uplink.send(void)
            there = {one.name for one in (far.root / "in").iterdir()}
            assert there == {name(void), name(other)}

    asyncio.run(scenario())


@far_sides
def test_receipts_that_are_foreign_broken_or_claim_too_much_settle_nothing(
    tmp_path: Path, word: str
):
    async def scenario() -> None:
        async with side(word, tmp_path) as far, house(tmp_path) as at:
            assert far.root is not None
            await far.platform.stop()
            await packs(at, far)
            await at.read()
            (batch,) = await sealed(at)
            out = far.root / "out" / f"{name(batch)}.receipt.json"
            mine = {"schema": "gardien/receipt/1", "gateway": GATEWAY, "recipient": RECIPIENT,
                    "epoch": batch.id.epoch, "stored": [[batch.id.seq, batch.sha256]]}  # fmt: skip
            async with (
                far.kind.open(far.settings, far.station) as uplink,
                aclosing(uplink.receipts()) as receipts,
                asyncio.timeout(30),
            ):
                await uplink.send(batch)
                for told in (
                    {"gateway": "GOTHER"}, {"recipient": "other.example"},
                    {"epoch": "0" * 12}, {"stored": [[batch.id.seq + 9, "0" * 64]], "epoch": "0" * 12},  # noqa: E501
                ):  # fmt: skip
                    out.write_text(json.dumps(mine | told))
                    await at.outbox.settle(await anext(receipts))
                    assert await at.unsettled() == 10
                heard = asyncio.ensure_future(anext(receipts))
                for body in (b"{", b"x" * 1_500_000, json.dumps(mine)[:-3].encode()):
                    out.write_bytes(body)
                    await asyncio.sleep(0.4)
                    assert not heard.done(), "that was no receipt"
                out.write_text(json.dumps(mine))
                await at.outbox.settle(await heard)
            assert await at.unsettled() == 0

    asyncio.run(scenario())


def test_files_signed_by_a_stranger_are_rejected_and_kept(tmp_path: Path):
    """The certificate of another fleet: no file opens, nothing is believed, no row is lost."""

    async def scenario() -> None:
        async with side("folder", tmp_path) as far, house(tmp_path) as at:
            foreign = CA("Other fleet").gateway(GATEWAY, tmp_path / "foreign")
            far.station = GatewayFacts(GATEWAY, foreign)
            await packs(at, far)
            await at.read()
            await sealed(at)
            await once(at, far)
            backlog = await at.thread.run(at.spool.backlog)
            assert (backlog.quarantined, backlog.batches) == (1, 0)
            counted = await far.platform.report()
            assert (counted["rows"], counted["rejected_batches"]) == (0, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize(("word", "size"), [("https", 60_001), ("folder", 10_000_001)])
def test_what_is_larger_than_anybody_takes_is_never_sent(tmp_path: Path, word: str, size: int):
    """Rule T15."""

    async def scenario() -> None:
        async with side(word, tmp_path) as far:
            batch = SealedBatch(
                BatchId(GATEWAY, RECIPIENT, "0123456789ab", 1), Lane.LIVE, b"x" * size, "0" * 64, 1,
                form="csv.gz.p7m" if far.root else "",
            )  # fmt: skip
            async with far.kind.open(far.settings, far.station) as uplink:
                with pytest.raises(BatchRejected, match="too large"):
                    await uplink.send(batch)
            assert (await far.platform.report())["unreadable"] == 0

    asyncio.run(scenario())


@far_sides
def test_signed_objects_are_handed_on_once_byte_for_byte(tmp_path: Path, word: str):
    async def scenario() -> None:
        async with side(word, tmp_path) as far:
            assert far.root is not None
            largest = b"x" * (1 << 20)
            (far.root / "out/objects/1.jws").write_bytes(b"a.b.c")
            (far.root / "out/objects/2.jws").write_bytes(largest)
            async with (
                far.kind.open(far.settings, far.station) as uplink,
                listening(uplink),
            ):
                await so(lambda: len(far.objects) >= 2)
                await asyncio.sleep(0.3)
                assert far.objects == [b"a.b.c", largest]

    asyncio.run(scenario())


def test_the_end_of_the_folder_is_a_proof_that_all_objects_have_come(tmp_path: Path):
    """Guards rule T9."""
    root, told, trust = exchange(tmp_path), [], ["first"]

    async def take(raw: bytes) -> None:
        told.append(raw)
        if raw == b"b":
            trust[0] = "second"

    async def scenario(last: bytes) -> None:
        settings = settings_of("files", path=root, container="none", encrypt_for=(), poll=0.05)
        kept = Cursors(trust=lambda: trust[0])
        station = GatewayFacts(GATEWAY, None, take, kept, complete=lambda: told.append(b"all"))
        async with FilesUplink.open(settings, station) as uplink, listening(uplink):
            await so(lambda: last in told)
            await asyncio.sleep(0.2)

    for name_, body in (("1", b"a"), ("2", b"b")):
        (root / "out/objects" / name_).write_bytes(body)
    asyncio.run(scenario(b"all"))
    assert sorted(told[:4]) == [b"a", b"a", b"b", b"b"], "judged again by the new trust list"
    assert set(told[4:]) == {b"all"}
    told.clear()
    (root / "out/objects/3").touch()
    asyncio.run(scenario(b"b"))
    assert b"all" not in told, "one is being written"


@contextmanager
def tiny(path: Path):
    """A disk of 16 kB under a path, as root."""
    done = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", "size=16k,mode=777", "tmpfs", path), check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(("umount", path), check=True)


@pytest.mark.skipif(not AS_ROOT, reason="a tiny disk is mounted by root only")
@far_sides
def test_a_full_disk_at_the_far_side_is_told_and_loses_nothing(tmp_path: Path, word: str):
    async def scenario() -> None:
        async with side(word, tmp_path) as far, house(tmp_path) as at:
            assert far.root is not None
            await packs(at, far)
            await at.backlog(400)
            (batch, *_) = await sealed(at)
            assert len(batch.payload) > 16_384
            with tiny(far.root / "in"):
                async with far.kind.open(far.settings, far.station) as uplink:
                    for _ in range(2):
                        with pytest.raises(NotStored, match=r"space|full"):
                            await uplink.send(batch)
                    assert not (far.root / "in" / name(batch)).exists()
            await once(at, far)
            assert await at.unsettled() == 0
            assert (await far.platform.report())["rows"] == at.rows

    asyncio.run(scenario())


def test_another_host_key_is_refused_and_nothing_is_sent(tmp_path: Path):
    """Rule K9."""

    async def scenario() -> None:
        async with side("sftp", tmp_path) as far:
            server = far.server
            batch = packed(far.settings, far.station)
            await server.stop()  # type: ignore[union-attr]
            await server.new_host_key()  # type: ignore[union-attr]
            await server.start()  # type: ignore[union-attr]
            with pytest.raises(UplinkLost, match="another host key"):
                async with far.kind.open(far.settings, far.station) as uplink:
                    await uplink.send(batch)
            assert list((far.root / "in").iterdir()) == []  # type: ignore[operator]

    asyncio.run(scenario())


def test_what_is_wrong_with_a_server_or_our_key_is_told_in_words(tmp_path: Path):
    async def told(far: Side, **wrong: object) -> str:
        settings = far.settings.model_copy(update=wrong)
        with pytest.raises(UplinkLost) as error:
            async with far.kind.open(settings, far.station):
                pass
        return str(error.value)

    async def scenario() -> None:
        cases: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("old", "the certificate expired", {"begins": -9 * DAY, "lasts": DAY}),
            ("early", "not valid before", {"begins": 9 * DAY}),
            ("tls", "emailProtection", {"uses": (ExtendedKeyUsageOID.CLIENT_AUTH,)}),
        )
        async with AsyncExitStack() as stack:
            far = await stack.enter_async_context(side("sftp", tmp_path))
            other = await stack.enter_async_context(sftp_server())
            strange = type(far.settings.key).parse(f"file:{other.own_key}")
            nothing = type(far.settings.key).parse("file:/nonexistent")
            assert "refuses our key for user" in await told(far, key=strange)
            assert "cannot be read" in await told(far, key=nothing)
            assert "no folder" in await told(far, url=far.settings.url + "elsewhere")
            assert "encrypt_for" in await told(far, encrypt_for=(tmp_path / "none.pem",))
            for folder, words, wrong in cases:
                identity = CA("Fleet CA").gateway(GATEWAY, tmp_path / folder, **wrong)
                far.station = GatewayFacts(GATEWAY, identity)
                assert words in await told(far)
            far.station = GatewayFacts("GOTHER", identity)
            assert "this gateway is" in await told(far)
            far.station = GatewayFacts(GATEWAY, tmp_path / "void/identity.pem")
            assert "no certificate yet" in await told(far)

    asyncio.run(scenario())


@pytest.mark.skipif(not AS_ROOT, reason="as root the server's user is another one")
def test_a_folder_we_may_not_write_into_is_told_and_the_batch_stays(tmp_path: Path):
    async def scenario() -> None:
        async with side("sftp", tmp_path) as far:
            batch = packed(far.settings, far.station)
            os.chown(far.root / "in", 0, 0)  # type: ignore[operator]
            async with far.kind.open(far.settings, far.station) as uplink:
                with pytest.raises(NotStored, match="permission denied"):
                    await uplink.send(batch)

    asyncio.run(scenario())


@pytest.mark.parametrize("word", ["mqtt", "https", "folder"])
def test_a_batch_sealed_for_another_transport_waits_and_is_not_put_aside(tmp_path: Path, word: str):
    async def scenario() -> None:
        async with side(word, tmp_path) as far:
            settings = settings_of("files", path=tmp_path, container="none")
            other = packed(settings, GatewayFacts(GATEWAY))
            if word == "folder":
                other = replace(other, form="")
            async with far.kind.open(far.settings, far.station) as uplink:
                with pytest.raises(SealedOtherwise, match="another `transport`"):
                    await uplink.send(other)

    asyncio.run(scenario())


@pytest.mark.parametrize(("word", "before"), [("folder", None), ("https", ("csv.gz", b"a file"))])
def test_the_kind_of_transport_may_be_changed_while_batches_wait(
    tmp_path: Path, word: str, before: tuple[str, bytes] | None
):
    """A broker is gone for good, and files are sent from now on, or the other way round.
    Rule T29.
    """

    async def scenario() -> None:
        async with side(word, tmp_path) as far, house(tmp_path) as at:
            await at.thread.run(at.spool.packs, (lambda _: before) if before else None)
            await at.read()
            assert len(await sealed(at)) == 1
            async with serving(at, far.kind, far.settings, far.station):
                await at.read()
                await at.settled()
            counted = await far.platform.report()
            assert (counted["rows"], counted["voids"], counted["alarms"]) == (20, 1, 0)
            assert counted["differing_batches"] == counted["seq_gaps"] == 0

    asyncio.run(scenario())


def test_an_empty_mount_point_is_no_far_side(tmp_path: Path):
    async def scenario() -> None:
        settings = settings_of("files", path=tmp_path, container="none")
        with pytest.raises(UplinkLost, match="Is it mounted"):
            async with FilesUplink.open(settings, GatewayFacts(GATEWAY)):
                pass

    asyncio.run(scenario())


@far_sides
def test_a_batch_put_aside_on_an_earlier_connection_is_settled_by_a_later_word(
    tmp_path: Path, word: str
):
    """Rule T4: a quarantined batch ends by a later `stored`."""

    async def scenario() -> None:
        async with side(word, tmp_path) as far, house(tmp_path) as at:
            assert far.root is not None
            await packs(at, far)
            tell_to_reject(tmp_path / "platform.db", 1)
            await at.read()
            (batch,) = await sealed(at)
            await once(at, far)
            assert (await at.thread.run(at.spool.backlog)).quarantined == 1
            said = {"schema": "gardien/receipt/1", "gateway": GATEWAY, "recipient": RECIPIENT,
                    "epoch": batch.id.epoch, "stored": [[batch.id.seq, batch.sha256]]}  # fmt: skip
            answer = far.root / "out" / f"{name(batch)}.receipt.json"
            answer.unlink()
            answer.write_text(json.dumps(said))
            async with serving(at, far.kind, far.settings, far.station):
                async with asyncio.timeout(20):
                    while (await at.thread.run(at.spool.backlog)).quarantined:
                        await asyncio.sleep(0.1)
            assert (await at.thread.run(at.spool.backlog)).batches == 0

    asyncio.run(scenario())


def test_receipts_are_looked_for_only_as_long_as_another_word_may_come(tmp_path: Path):
    """A gateway is connected for months: what was settled must cost no question a minute."""

    async def scenario() -> None:
        async with side("folder", tmp_path) as far, house(tmp_path) as at:
            await packs(at, far)
            async with far.kind.open(far.settings, far.station) as uplink:
                for slot in range(3):
                    await at.read(slot=1_764_000_000 + slot)
                    (batch,) = await sealed(at)
                    await uplink.send(batch)
                    async with asyncio.timeout(20), aclosing(uplink.receipts()) as receipts:
                        while await at.unsettled():
                            await at.outbox.settle(await anext(receipts))
                    assert uplink._awaited == {}

    asyncio.run(scenario())
