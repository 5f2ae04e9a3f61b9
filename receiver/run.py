"""`gardien-receiver`: runs the workers, each in a process of its own, and answers questions.

A worker that meets an error ends, and is started again after a second: what it had not stored, the
broker or the gateway sends again.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import multiprocessing
import os
import signal
import socket
import ssl
import sys
import threading
import time
import traceback
from contextlib import closing, contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from receiver import conf
from receiver.conf import Refused, account
from receiver.databases import is_postgres, open_store, prepare
from receiver.store import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.context import SpawnProcess

    from receiver.store import Store

AGAIN_SECONDS = 1.0
DAY = 86_400
DEFAULT_HTTP = "127.0.0.1:8470"
PIP = "It is part of gardien's extra `receiver`; for --nats: pip install nats-py"
END_WITH_PARENT = 1
"""PR_SET_PDEATHSIG"""
SPAWN = multiprocessing.get_context("spawn")

SILENT_SECONDS = 3_600
"""a gateway sends its status every 15 minutes, and only a broker states that it is away"""

TALLIES = {
    "other-bytes": "batches with other bytes under a known number (the first are kept)",
    "rejected": "rejected batches",
    "rows-twice": "rows that were there already (the first are kept)",
    "unreadable": "messages that could not be read",
}
"""what `tally` counts, for people"""

Job = tuple[str, "Callable[..., None]"]
"""a name for people, and what to run with `ready` as its argument"""


def main(arguments: Sequence[str] | None = None, default_conf: str = "") -> None:
    """Do what the command line states; exit status 1 if it fails.

    `default_conf`: the configuration file, if it exists and `--conf` names no other.
    """
    file = default_conf if Path(default_conf).is_file() else None
    first = argparse.ArgumentParser(add_help=False, fromfile_prefix_chars="@", allow_abbrev=False)
    first.add_argument("--conf", default=file)
    file = first.parse_known_args(arguments)[0].conf
    try:
        chosen = command_line(file and Path(file)).parse_args(arguments)
        sys.exit(chosen.do(chosen))
    except Refused as error:
        sys.exit(f"Nothing was done. {error}")
    except Unavailable as error:
        sys.exit(f"The database {_public(chosen.db)} cannot be used, nothing was done: {error}")
    except ModuleNotFoundError as error:  # of what only some need, and Debian does not have
        sys.exit(f"Not started: the Python package {error.name} is missing. {PIP}")
    except BrokenPipeError:
        sys.exit(1)


def run(chosen: argparse.Namespace) -> int:
    """Accept batches until it is ended (SIGTERM, Ctrl-C)."""
    _readable(chosen)
    try:
        jobs = list(_jobs(chosen))
    except ValueError as error:
        sys.exit(f"Not started: {error}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _until_there(chosen.db)
    _notify("READY=1\nSTATUS=starts its workers")
    ready = SPAWN.Semaphore(0)
    workers = [_Worker(*job, ready) for job in jobs]
    threading.Thread(target=_announce, args=(ready, len(jobs)), daemon=True).start()
    try:
        while True:
            for worker in workers:
                worker.keep_up()
            wait([worker.process.sentinel for worker in workers], 1.0)
    except KeyboardInterrupt:
        return 0
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(5)


class _Worker:
    """A process, started again when it has ended."""

    def __init__(self, name: str, job: Callable[..., None], ready: Any) -> None:
        self._name, self._job, self._ready = name, job, ready
        self._started = 0.0
        self.process: SpawnProcess = self._new()

    def _new(self) -> SpawnProcess:
        self._started = time.monotonic()
        process = SPAWN.Process(
            target=_worker, args=(self._name, self._job, self._ready, os.getpid())
        )
        process.daemon = True
        process.start()
        return process

    def keep_up(self) -> None:
        """Start it again if it has ended."""
        if not self.process.is_alive():
            time.sleep(max(0.0, self._started + AGAIN_SECONDS - time.monotonic()))
            self.process = self._new()


def _worker(name: str, job: Callable[..., None], ready: Any, parent: int) -> None:
    """The process of one worker. It ends with its parent, even if that was killed."""
    ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if os.getppid() != parent:
        return
    try:
        job(ready=ready.release)
    except (Unavailable, OSError) as error:
        sys.exit(f"{name}: {error}; starts again in {AGAIN_SECONDS:.0f} s")
    except Exception:  # noqa: BLE001 -- whatever it is, the batch comes again
        sys.exit(f"{name}: starts again in {AGAIN_SECONDS:.0f} s after\n{traceback.format_exc()}")


def _announce(ready: Any, workers: int) -> None:
    for _ in range(workers):
        ready.acquire()
    _notify("STATUS=ready")
    print("ready", flush=True)


def _notify(state: str) -> None:
    """Tell systemd, if it has started us (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
            to.sendall(state.encode())


def _readable(chosen: argparse.Namespace) -> None:
    """Raise Refused if a file or folder that the workers need cannot be used."""
    for name in ("cert", "ca"):
        path, tls = getattr(chosen, name), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            if path and name == "cert":
                tls.load_cert_chain(path)
            elif path:
                tls.load_verify_locations(path)
        except ssl.SSLError as error:
            what = "a key and its certificate" if name == "cert" else "certificates"
            raise Refused(f"{name}: {path} does not contain {what} (PEM)") from error
        except OSError as error:
            raise Refused(f"{name}: {path}: {error.strerror}") from error
    broker = urlsplit(chosen.mqtt or "mqtt://none")
    if broker.scheme not in {"mqtt", "mqtts"} or not broker.hostname:
        raise Refused(f"mqtt: write mqtts://HOST:8883 or mqtt://HOST:1883, not {chosen.mqtt}")
    if chosen.files and not chosen.files.is_dir():
        raise Refused(f"files: there is no folder {chosen.files}")


def _until_there(database: str) -> None:
    """Make the tables, as soon as the database can be reached. Each reason is printed once."""
    printed = ""
    while True:
        try:
            prepare(database)
        except Exception as error:  # noqa: BLE001 -- the libraries have one each for "not there"
            if str(error) != printed:
                print(
                    f"The database {_public(database)} cannot be used yet: {error}", file=sys.stderr
                )
            printed = str(error)
            # an installation or a boot must not wait for that
            _notify("READY=1\nSTATUS=waits for the database")
            time.sleep(AGAIN_SECONDS)
        else:
            return


def _jobs(chosen: argparse.Namespace) -> list[Job]:
    """What to run; at least something. The transports import their libraries here only."""
    jobs: list[Job] = []
    secure = {"recipient": chosen.recipient, "cert": chosen.cert, "ca": chosen.ca}
    if chosen.sign:
        from receiver.sign import Signer  # noqa: PLC0415

        secure["signer"] = Signer.read(chosen.sign)
    if chosen.nats and not chosen.mqtt:
        raise ValueError(
            "--nats is for batches only: add --mqtt with the MQTT ports of the servers"
        )
    if chosen.mqtt:
        from receiver import mqtt  # noqa: PLC0415

        to = mqtt.MqttSettings(chosen.mqtt, **secure, five=not chosen.nats)
        if chosen.nats:
            from receiver import jetstream  # noqa: PLC0415

            at = jetstream.NatsSettings(chosen.nats, **secure)
            jobs += [(f"nats worker {n}", partial(jetstream.work, at, chosen.db))
                     for n in range(1, chosen.workers + 1)]  # fmt: skip
        else:
            jobs += [(f"mqtt worker {n}", partial(mqtt.work, to, chosen.db, n))
                     for n in range(1, chosen.workers + 1)]  # fmt: skip
        jobs.append(("mqtt post office", partial(mqtt.post, to, chosen.db)))
    if chosen.files:
        from receiver import files  # noqa: PLC0415

        folder = files.FilesSettings(chosen.files, every=chosen.every, **secure)
        jobs.append(("files", partial(files.watch, folder, chosen.db)))
    if chosen.https or not jobs:
        from receiver import https  # noqa: PLC0415

        host, _, port = (chosen.https or DEFAULT_HTTP).rpartition(":")
        if not host or not port.isdigit():
            raise Refused(f"https: write HOST:PORT, such as {DEFAULT_HTTP}, not {chosen.https}")
        listen = https.HttpsSettings(host.strip("[]"), int(port), **secure)
        jobs += [(f"https worker {n}", partial(https.serve, listen, chosen.db))
                 for n in range(1, chosen.workers + 1)]  # fmt: skip
        print(f"listens on http{'s' * bool(chosen.cert)}://{host}:{port}", file=sys.stderr)
    return jobs


def query(chosen: argparse.Namespace) -> int:
    """Print the result of an SQL statement as CSV; it can only read."""
    out = csv.writer(sys.stdout, lineterminator="\n")
    with _store(chosen) as store:
        try:
            found = store.select(chosen.sql)
        except Exception as error:  # noqa: BLE001 -- each database has its own
            sys.exit(f"The statement was refused: {error}")
        out.writerow([column[0] for column in found.description or ()])
        out.writerows(found)
    return 0


def status(chosen: argparse.Namespace) -> int:
    """Print the state of each gateway, and what was refused."""
    with _store(chosen) as store:
        if not store.gateways():
            print("No gateway has sent anything yet.")
        else:
            heads = ("gateway", "state", "heard (UTC)", "last batch", "batches", "missing")
            print("{:<16} {:<7} {:<16} {:<16} {:>7} {:>7}  recipient".format(*heads))
        lines = store.execute(
            "SELECT g.gateway, coalesce(g.status ->> 'state', '-'), SEC(g.status_at),"
            " max(SEC(b.arrived)), count(b.seq),"
            " (SELECT coalesce(sum(x.last - x.first + 1), 0)"
            " FROM gaps x WHERE x.gateway = g.gateway AND x.recipient = g.recipient), g.recipient"
            " FROM sender g LEFT JOIN batch b ON b.sender = g.id GROUP BY g.id ORDER BY 1"
        )
        silent = int(time.time()) - SILENT_SECONDS
        for gateway, stated, status_at, last, batches, missing, recipient in lines:
            heard = max(status_at or 0, last or 0)
            state = "silent" if stated == "online" and heard < silent else stated
            print(f"{gateway:<16} {state:<7} {_minute(heard):<16} {_minute(last):<16} {batches:>7}"
                  f" {missing:>7}  {recipient}")  # fmt: skip
        for gateway, what, n, words in store.execute(
            "SELECT gateway, what, n, words FROM tally WHERE what <> 'copies' ORDER BY 1, 2"
        ):
            print(f"{gateway or '?'}: {TALLIES.get(what, what)}: {n}; the latest: {words}")
    return 0


def add_object(chosen: argparse.Namespace) -> int:
    """Put a signed object on the list of a gateway."""
    try:
        body = chosen.file.read_text("ascii")
    except (OSError, ValueError) as error:
        raise Refused(f"{chosen.file}: {getattr(error, 'strerror', None) or error}") from error
    with _store(chosen) as store:
        n = store.add_object(chosen.gateway, chosen.recipient, body)
    print(f"object {n} waits for {chosen.gateway}")
    return 0


def backup(chosen: argparse.Namespace) -> int:
    """Write the latest backup of a gateway to a file."""
    with _store(chosen) as store:
        found = store.execute(
            "SELECT content FROM building WHERE gateway = ? ORDER BY made DESC LIMIT 1",
            (chosen.gateway,),
        ).fetchone()
    if found is None:
        sys.exit(f"There is no backup of {chosen.gateway}.")
    try:
        chosen.out.write_bytes(found[0])
    except OSError as error:
        raise Refused(f"{chosen.out}: {error.strerror}") from error
    return 0


def compact(chosen: argparse.Namespace) -> int:
    """Write months that are over in less space."""
    with _store(chosen) as store:
        try:
            for sentence in store.compact(int(time.time()) - chosen.days * DAY, chosen.tablespace):
                print(sentence)
        except ValueError as error:
            sys.exit(f"Nothing was written anew: {error}")
    return 0


def export(chosen: argparse.Namespace) -> int:
    """Write rows with their versions, and retractions, as a feed for a copy elsewhere."""
    from receiver import export as feed  # noqa: PLC0415

    try:
        # the file first: it belongs to who asks for it, not to the account of the database
        with feed.writing(chosen.format, chosen.out) as write, _store(chosen) as store:
            rows, retractions, last = feed.export(store, chosen.since, write)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        sys.exit(f"Not exported: {_sentence(error)}")
    print(
        f"{retractions} retractions and {rows} rows up to change {last}. Next: --since {last}",
        file=sys.stderr,
    )
    return 0


def _minute(second: int | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(second)) if second else "-"


def _sentence(error: Exception) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)


def nats_users(chosen: argparse.Namespace) -> int:
    """Print for nats-server who may write what: you, and each gateway under its own id."""
    from receiver.jetstream import users  # noqa: PLC0415

    if chosen.recipient == "+":
        sys.exit("Nothing printed: give your name, --recipient you.example")
    if wrong := [one for one in chosen.gateways if not one.isalnum()]:
        sys.exit(f"Nothing printed: no ids of gateways: {', '.join(wrong)}")
    print(users(chosen.recipient, chosen.gateways))
    return 0


def conform(chosen: argparse.Namespace) -> int:
    """Act as a gateway, and judge the platform."""
    from receiver.conform import conforms  # noqa: PLC0415

    return conforms(chosen.endpoint, chosen)


def init(chosen: argparse.Namespace) -> int:
    """Make a CA for gateways, the server's key, and receiver.conf.

    If there is a CA already it is kept, and the server gets a new key and certificate.
    """
    from receiver import certificates  # noqa: PLC0415

    return certificates.init(chosen)


def admit(chosen: argparse.Namespace) -> int:
    """Sign the certificate request of a gateway, as `gardien key csr` writes it."""
    from receiver import certificates  # noqa: PLC0415

    return certificates.admit(chosen)


@contextmanager
def _store(chosen: argparse.Namespace) -> Iterator[Store]:
    """The database, as the account of the service where the configuration names it."""
    with account(chosen.db):
        try:
            missing = not is_postgres(chosen.db) and not Path(chosen.db).exists()
        except PermissionError as error:
            raise Refused(f"{chosen.db}: put `sudo` before the command") from error
        if missing:
            raise Refused(f"There is no database {chosen.db}: start gardien-receiver, or give --db")
        with closing(open_store(chosen.db)) as store:
            try:
                made = store.execute("SELECT views FROM made").fetchone()
            except Exception as error:  # each database has its own for "no table"
                if isinstance(error, Unavailable) and "no such table" not in str(error):
                    raise
                made = None
            if made is None:
                raise Refused(
                    f"The database {_public(chosen.db)} has no tables yet."
                    " `gardien-receiver run` makes them at its start"
                )
            yield store


def _public(address: str) -> str:
    """An address without its password."""
    head, at, tail = address.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else address


def command_line(file: Path | None = None) -> argparse.ArgumentParser:
    """The command line, with the defaults of a configuration file.

    If that cannot be used, each command that needs it raises Refused.
    """
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--db", default="receiver.db", metavar="FILE|URL",
                        help="SQLite file, or postgresql://…; default: receiver.db")  # fmt: skip
    shared.add_argument("--conf", metavar="FILE",
                        help="file with an option of `run` in each line, as NAME = VALUE; default "
                        f"of the Debian package: {conf.FOLDER / 'receiver.conf'}")  # fmt: skip
    far = argparse.ArgumentParser(add_help=False)
    far.add_argument("--recipient", default="+", metavar="NAME",
                     help="your DNS name, as in consents; default: any")  # fmt: skip
    far.add_argument(
        "--cert", type=Path, metavar="PEM", help="your key and certificate in one file"
    )
    far.add_argument("--ca", type=Path, metavar="PEM", help="the CA of the other side")
    parser = argparse.ArgumentParser(
        prog="gardien-receiver",
        description="Accepts the batches of gardien's gateways, and stores each once.",
        fromfile_prefix_chars="@",
        epilog="`gardien-receiver COMMAND --help` describes a command. An argument @FILE stands"
        " for the lines of a file, one argument each. Documentation: docs/receiver.md, or"
        " /usr/share/doc/gardien-receiver",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str,
        do: Callable[[argparse.Namespace], int],
        parents: Sequence[argparse.ArgumentParser] = (shared,),
    ) -> argparse.ArgumentParser:
        words = do.__doc__ or ""
        new = commands.add_parser(
            name, parents=parents, help=words.partition("\n")[0], description=words
        )
        new.set_defaults(do=do)
        return new

    it = command("run", run, (shared, far))
    it.add_argument(
        "--mqtt", metavar="URL", help="mqtt://host:1883, or mqtts://host:8883 with --cert and --ca"
    )
    it.add_argument("--nats", metavar="URL,URL,…",
                    help="take batches from nats-servers; --mqtt: their MQTT ports")  # fmt: skip
    it.add_argument("--https", metavar="HOST:PORT",
                    help=f"listen here; without any transport: {DEFAULT_HTTP}")  # fmt: skip
    it.add_argument("--files", type=Path, metavar="FOLDER",
                    help="a folder with in/ and out/, or with one for each gateway")  # fmt: skip
    it.add_argument(
        "--every", type=float, default=1.0, metavar="S", help="seconds between two looks at files"
    )
    it.add_argument(
        "--workers",
        type=int,
        default=2,
        metavar="N",
        help="processes of each transport; default: 2",
    )
    it.add_argument(
        "--sign", type=Path, metavar="KEY", help="sign receipts with this key (JWK or PEM)"
    )
    _database_commands(command)
    it = command("nats-users", nats_users, (far,))
    it.add_argument("gateways", nargs="*", metavar="G…", help="ids of gateways, or @FILE")
    _conform_options(command("conform", conform, (far,)))
    _certificate_commands(command)
    if file:
        own = {"conform", "init", "admit"}
        using = [it for name, it in commands.choices.items() if name not in own]
        try:
            conf.apply(file, commands.choices["run"], *using)
        except Refused as error:  # help, and what needs no configuration, go on
            for it in using:
                it.set_defaults(do=partial(_refuse, error))
    return parser


def _refuse(error: Refused, _: argparse.Namespace) -> int:
    raise error


def _database_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    it = command("query", query)
    it.add_argument("sql", metavar="SQL", help="such as: SELECT * FROM daily")
    command("status", status)
    it = command("object", add_object)
    it.add_argument("file", type=Path, metavar="FILE", help="the signed object")
    it.add_argument("--gateway", required=True, metavar="G…", help="for which gateway")
    it.add_argument(
        "--recipient", default="+", metavar="NAME", help="your DNS name, as in consents"
    )
    it = command("backup", backup)
    it.add_argument("gateway", metavar="G…", help="of which gateway")
    it.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write it")
    it = command("compact", compact)
    it.add_argument("--days", type=int, default=35, metavar="N",
                    help="only months that ended so long ago; default: 35")  # fmt: skip
    it.add_argument("--tablespace", metavar="NAME", help="of PostgreSQL: where to put them")
    it = command("export", export)
    it.add_argument("--format", choices=("csv", "parquet"), default="csv",
                    help="default: csv; parquet needs pyarrow")  # fmt: skip
    it.add_argument("--since", type=int, default=0, metavar="CHANGE",
                    help="only what was stored after this change; default: everything")  # fmt: skip
    it.add_argument("--out", type=Path, metavar="FILE", help="where to write; default: stdout")


def _certificate_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    it = command("init", init, ())
    it.add_argument("name", metavar="YOUR-DNS-NAME",
                    help="your DNS name, as in consents: you.example")  # fmt: skip
    it.add_argument("--host", action="append", metavar="NAME",
                    help="name or address by which gateways reach this server; may be repeated; "
                    "default: YOUR-DNS-NAME")  # fmt: skip
    it.add_argument("--db", default="", metavar="FILE|URL",
                    help="where readings are stored: postgresql://…; default: SQLite")  # fmt: skip
    it.add_argument("--folder", type=Path, default=conf.FOLDER, metavar="FOLDER",
                    help=f"where to write; default: {conf.FOLDER}")  # fmt: skip
    it = command("admit", admit, ())
    it.add_argument("gateway", metavar="G…", help="its id, as its installer has told you")
    it.add_argument("request", type=Path, metavar="CSR", help="the file of its request")
    it.add_argument("--out", type=Path, metavar="FILE", help="what to write; default: G….pem")
    it.add_argument("--days", type=int, default=730, metavar="N",
                    help="how long it is valid; default: 730")  # fmt: skip
    it.add_argument("--folder", type=Path, default=conf.FOLDER, metavar="FOLDER",
                    help=f"where the CA is; default: {conf.FOLDER}")  # fmt: skip


def _conform_options(it: argparse.ArgumentParser) -> None:
    it.add_argument(
        "endpoint",
        metavar="URL|BROKER|FOLDER",
        help="https://…, mqtt://…, or a folder with in/ and out/",
    )
    it.add_argument("--gateway", default="GCONFORM0000001", metavar="G…",
                    help="which gateway to be; the common name in --cert, if given")  # fmt: skip
    it.add_argument(
        "--encrypt-for", type=Path, metavar="PEM",
        help="for a folder, with --cert: the platform's certificate, for which files are encrypted",
    )  # fmt: skip
    it.add_argument(
        "--patience",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds to wait for a receipt; default: 30",
    )
    it.add_argument(
        "--receipt-key",
        type=Path,
        metavar="JWK",
        help="the platform's public key, or a set of them: its receipts must be signed",
    )


def _version() -> str:
    try:
        return f"gardien-receiver {version('gardien')}"
    except PackageNotFoundError:
        return "gardien-receiver, not installed"
