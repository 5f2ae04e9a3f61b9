"""Serves one recipient: its address, its status, its signed requests, and the backup.

Here a new certificate is proven too, before it replaces the old one.

Each request takes effect once; the same bytes again get the first answer. A request releases no
data that would stay without it: rows pass the same checks, and a reading on request fills a slot
that is still open. A recipient may only ask for its own data.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import ValidationError

from agent.buffer.receipts import parse
from agent.config.estimates import affordable
from agent.core.clock import monotonic, stamp
from agent.core.errors import CertificateRefused, NotRecorded, NotStored, Refused, UplinkLost
from agent.core.finding import Finding, worst_first
from agent.core.i18n import Text, text_of
from agent.core.log_fields import LogEvent, fields
from agent.core.tasks import (
    LOOK,
    ConnectionFields,
    Wakeup,
    keep_open,
    pause,
    to_next,
    together,
)
from agent.enrolment import calls, credential
from agent.gateway.recipient import needs_signature, urgent_outcomes
from agent.gateway.uplink_state import PROBE_EVERY, address
from agent.trust import verify
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.store import take_allowance
from agent.uplink import budget, pacing, transport
from agent.uplink.base import BackupMessage, GatewayFacts
from agent.uplink.budget import spare
from agent.uplink.forward import forward

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping

    from agent.acquisition.device import Device
    from agent.core.model import Receipt
    from agent.gateway.backup import BuildingFile
    from agent.gateway.gateway import Daemon, Gateway, Recipient, Recipients
    from agent.gateway.lines import Lines, LinkDevices
    from agent.gateway.uplink_state import Move
    from agent.inbox.inbox import Handler
    from agent.trust.claims import Request, UplinkMove
    from agent.trust.verify import Verified
    from agent.uplink.base import Uplink
    from agent.uplink.pacing import Delivery

log = logging.getLogger(__name__)

VOLATILE = ("at", "backlog", "data", "disk", "metrics")
"""members that change all the time, and do not count as news"""
UNPROVED = "no receipt arrived over the new address: returning to the old one"
REFUSALS = 2
"""refusals in a row before the previous certificate is used again: some platforms hang up without
a reason
"""
WENT_BACK = Text(
    "a platform refuses the new certificate, so the previous one is in use again. Have the new key"
    " certified (gardien key csr), then run: gardien key install, or gardien key renew"
)
DAY = 86_400
LONGEST_WAIT = 300.0
"""seconds between two attempts at an uplink: a fleet must not reconnect all at once"""
EVENT = ("code", "text", "severity", "since", "until", "actor", "count")
"""members of a finding that a recipient gets"""


def document(answer: Mapping[str, Any], uplink: str) -> dict[str, Any]:
    """The document for one uplink's recipient, from the answer to `status` with `metrics`."""
    mine = answer["uplinks"][uplink]
    devices, links = answer["devices"].values(), answer["links"]
    silent = sum(one["failures"] > 0 for one in devices)
    # member by member: a new member of the answer must not reach recipients by itself (rule P24)
    members: dict[str, Any] = {
        "at": answer["now"],
        "started": answer["started"],
        "version": answer["version"],
        "configuration": answer["configuration"],
        "clock": answer["clock"],
        "epoch": mine["epoch"],
        "links": [
            {"name": name, **{word: one[word] for word in ("open", "devices", "silent")}}
            for name, one in links.items()
        ],
        "devices": {
            "up": len(answer["devices"]) - silent,
            "silent": silent,
            "held_back": mine["held_devices"],
        },
        "backlog": _backlog(mine),
        "disk": answer["disk"],
        "holds": answer["holds"],
        "faults": [
            {word: one[word] for word in ("component", "since", "error", "next_try")}
            for one in answer["faults"]
            if one["uplink"] in {None, uplink}
        ],
        "events": _events(answer, uplink),
    }
    if certificate := answer["certificate"]:
        members["certificate"] = {word: certificate[word] for word in ("not_after", "days_left")}
    if audience := (answer.get("authority") or {}).get("audience"):
        members["audience"] = audience
    if (restored := answer.get("restored")) and not restored["uplinks"][uplink]["complete"]:
        members["restored"] = {"audience": audience or "", "made": restored["made"]}
    if "data" in mine:
        members["data"] = {word: mine["data"][word] for word in ("month", "used", "budget")}
    # they would cost a metered line megabytes a month
    if (numbers := answer.get("metrics", {}).get(uplink)) and not mine["data"]["budget"]:
        members["metrics"] = numbers
    return members


def _events(answer: Mapping[str, Any], uplink: str) -> list[dict[str, Any]]:
    """Return what a recipient may know of the findings, one for each cause as `status` has them."""
    findings = map(Finding.of, answer["events"])
    # that somebody at the building works on it changes nothing for a platform
    shared = [
        replace(one, acknowledged=None)
        for one in findings
        if one.uplink in {None, uplink} and not one.private
    ]
    events = (one.without_names().wire() for one in worst_first(shared))
    return [{name: event[name] for name in EVENT if event[name] is not None} for event in events]


def news(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a change should be sent at once."""
    return _lasting(before) != _lasting(now)


def _backlog(mine: Mapping[str, Any]) -> dict[str, Any]:
    held = mine["backlog"]
    names = ("rows", "slots", "batches", "batch_rows", "quarantined", "oldest", "used", "cap")
    return {word: held[word] for word in names} | {"shed": mine["shed_rows"]}


def _lasting(of: Mapping[str, Any]) -> dict[str, Any]:
    lasting = {word: value for word, value in of.items() if word not in VOLATILE}
    held = [(one["control"], one["until"]) for one in of.get("holds", ())]
    # without the next attempt, which changes each time and would count as news
    faults = [(one["component"], one["error"]) for one in of.get("faults", ())]
    return lasting | {"holds": held, "faults": faults}


class Route:
    """The addresses of one uplink, for as long as its task runs."""

    def __init__(self, gateway: Gateway, recipient: Recipient, settings: Any) -> None:
        self._moves, self._now = gateway.moves, gateway.clock.now
        self._recipient, self._settings, self._proof = recipient, settings, gateway.waits.proof
        self._failures = 0
        self._opened = monotonic()
        self._probed = self._opened - PROBE_EVERY
        self._proving = False
        self._move: Move | None = None

    def settings(self) -> Any:
        """The settings for the next opening."""
        if self._recipient.delivery.heard > self._opened:
            self._failures = 0
        self._opened, self._proving, self._move = monotonic(), False, self._ordered()
        move = self._move
        if move is None:
            return self._settings
        since = self._opened - self._probed
        url = address(move, self._now(), self._failures, since)
        self._failures += 1
        if url == move.new and move.proved is None:
            self._proving, self._probed = True, self._opened
        try:
            return at(self._settings, url)
        except Refused as error:
            raise UplinkLost(text_of(error)) from error

    async def watch(self) -> None:
        """Record the first receipt over a new address.

        Raises UplinkLost when another address must be tried: a move was ordered, no receipt arrived
        in time, or it is time to try the new address again.
        """
        if self._proving:
            await self._prove()
        wakeup = Wakeup(self._moves.changed)
        while self._ordered() == self._move:
            waits = self._move is not None and self._move.proved is None
            if waits and monotonic() - self._probed >= PROBE_EVERY:
                break
            await wakeup.wait(to_next(LOOK))
        raise UplinkLost("the uplink moves to another address")

    async def _prove(self) -> None:
        # the directory is sent again, or there might be nothing to receipt
        await self._recipient.thread.run(self._recipient.spool.tell_again)
        delivery = self._recipient.delivery
        delivery.send_now()
        wakeup = Wakeup(delivery.advanced)
        try:
            async with asyncio.timeout(self._proof):
                while delivery.heard <= self._opened:
                    await wakeup.wait()
        except TimeoutError:
            raise UplinkLost(UNPROVED) from None
        self._moves.prove(self._settings.recipient, self._now())
        self._move = self._ordered()

    def _ordered(self) -> Move | None:
        return self._moves.of(self._settings.recipient, standing(self._settings), self._now())


def standing(settings: Any) -> str:
    """The configured address; of a folder as a `file:` URL."""
    return settings.url or Path(settings.path).as_uri()


def _address_option(settings: Any, url: str) -> dict[str, Any]:
    """The option for an address. A folder can only move to a folder. Raises Refused."""
    if settings.url:
        return {"url": url}
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
        raise Refused(
            "{url} is not a folder: expected an address such as file:///mnt/exchange", url=url
        )
    return {"path": unquote(parts.path)}


def at(settings: Any, url: str) -> Any:
    """The same settings with another address. Raises Refused if the address is invalid."""
    # validated again as a whole: the ordered address must meet the rules of the configured one
    configured = {name: getattr(settings, name) for name in type(settings).model_fields}
    try:
        return type(settings).model_validate(configured | _address_option(settings, url))
    except ValidationError as error:
        what = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise Refused(
            "{url} is not a valid address for this uplink: {what}", url=url, what=what
        ) from error


async def move(gateway: Gateway, claims: UplinkMove) -> str:
    """Begin to move an uplink; returns what was done, for people.

    The uplink's own task makes the move, since this may be called from within that task. Raises
    Forged E_REQUEST, NotRecorded.
    """
    recipient = recipient_named(gateway.recipients, claims.recipient)
    settings = gateway.config.uplinks[recipient.name].settings
    try:
        at(settings, claims.url)
        gateway.moves.order(claims.recipient, standing(settings), claims.url, gateway.clock.now())
    except NotRecorded:
        raise
    except Refused as error:
        raise impossible(text_of(error)) from error
    return f"{claims.url} is tried now, and takes effect after its first receipt"


class Proving:
    """Evidence from one uplink that the present certificate works."""

    def __init__(self, gateway: Gateway, recipient: Recipient) -> None:
        self._gateway, self._recipient = gateway, recipient
        self._state = gateway.config.state
        self._shown = self._settled = self._refusals = 0

    def opening(self) -> None:
        """Note which certificate the next connection uses."""
        # refusals of the certificate before do not count against the new one
        if (shown := credential.installed(self._state)) != self._shown:
            self._shown, self._refusals = shown, 0
        # receipts up to now came over earlier connections, and prove nothing of this certificate
        self._settled = self._recipient.delivery.settled

    async def lost(self, error: UplinkLost) -> None:
        """Return to the previous certificate if the platform keeps refusing the new one."""
        refused = isinstance(error, CertificateRefused)
        self._refusals = self._refusals + 1 if refused else 0
        previous = credential.before(self._state) if self._refusals >= REFUSALS else None
        # an expired previous certificate would be refused as well
        if previous is None or credential.ends(previous.certificate) < self._gateway.clock.now():
            return
        self._refusals, sha256 = 0, _sha256(self._state)
        if await asyncio.to_thread(calls.go_back, self._state, self._shown):
            self._gateway.certificate.problem = WENT_BACK
            self._gateway.audit("certificate.back", {"sha256": sha256})
            log.error(
                "uplink %s refuses the new certificate (%s): the previous one is used again",
                self._recipient.name, error,
                extra=fields(LogEvent.CERTIFICATE_PROBLEM, **self._recipient.names),
            )  # fmt: skip

    async def watch(self) -> None:
        """Record when the certificate has worked on this uplink; runs for ever.

        Raises UplinkLost when a newer certificate is installed than the connection uses.
        """
        gateway, proved = self._gateway, self._gateway.certificate.proved
        wakeup, before = Wakeup(self._recipient.delivery.advanced), self._state / credential.BEFORE
        while True:
            await wakeup.wait(to_next(LOOK))  # another process may have installed it
            if not before.exists():
                continue
            if (own := credential.installed(self._state)) != self._shown:
                raise UplinkLost("a new certificate is installed: reconnecting with it")
            if self._recipient.delivery.settled == self._settled:
                continue
            proved[self._recipient.name] = own
            everywhere = all(proved.get(name) == own for name in gateway.config.uplinks)
            if everywhere and await asyncio.to_thread(calls.has_worked, self._state, own):
                gateway.certificate.problem = ""
                gateway.audit("certificate.worked", {"sha256": _sha256(self._state)})
                log.warning(
                    "the new certificate works: the previous key is destroyed",
                    extra=fields(LogEvent.CERTIFICATE_RENEWED),
                )


def _sha256(state: Path) -> str:
    return credential.load(state).certificate.fingerprint(SHA256()).hex()


def wanted(gateway: Gateway, name: str) -> bool:
    """Whether an uplink gets the backup."""
    options = gateway.config.backup
    if gateway.restored.listens:
        # a restored state lacks later withdrawals: its backup would replace a more complete one
        return False
    return options is not None and (options.uplinks is None or name in options.uplinks)


def backup_affordable(gateway: Gateway, recipient: Recipient) -> bool:
    """Whether the data budget allows the backup on this line now."""
    allowed, file = gateway.config.uplinks[recipient.name].data, gateway.building
    if allowed is None or file.latest is None:
        return True
    now, recipient_name = gateway.clock.now(), str(recipient.settings.recipient)
    last = file.taken_at(recipient_name)
    # a time in the future is from a wrong clock, and would block the backup for ever
    if last is not None and 0 <= now - last < DAY:
        return False
    used = gateway.traffic.of(recipient_name, now).used
    return spare(file.latest.size, used, allowed, gateway.traffic.share(now))


async def offer(gateway: Gateway, recipient: Recipient, uplink: Uplink) -> None:
    """Upload each new backup over one open uplink, for ever. Raises UplinkLost."""
    upload: Callable[..., Awaitable[None]] | None = getattr(uplink, "offer", None)
    recipient_name, file = str(recipient.settings.recipient), gateway.building
    batches_first = partial(_wait_for_batches, recipient.delivery, gateway.waits.batches)
    while True:
        await pause(gateway.waits.upload)
        if upload is None or not wanted(gateway, recipient.name):
            continue
        if not file.due(recipient_name, monotonic()) or not backup_affordable(gateway, recipient):
            continue
        # noted first: a platform that hangs up must not get the backup at each reconnection
        file.tried(recipient_name, monotonic())
        try:
            who = gateway.identity.gateway
            await upload(_message(file, who, recipient_name), batches_first)
        except (NotStored, OSError) as error:
            log.info(
                "%s did not store the backup: %s", recipient_name, error,
                extra=fields(LogEvent.BACKUP_NOT_TAKEN, **recipient.names),
            )  # fmt: skip


def _message(file: BuildingFile, gateway_id: str, recipient: str) -> BackupMessage:
    """The latest backup as a message. Raises OSError if it cannot be read."""
    latest = file.latest
    assert latest is not None
    about = (stamp(latest.made), latest.revision, latest.sha256)
    return BackupMessage(gateway_id, recipient, *about, file.content())


async def _wait_for_batches(delivery: Delivery, longest: float) -> None:
    """Wait until no batch is under way, for `longest` seconds at most."""
    until, wakeup = monotonic() + longest, Wakeup(delivery.advanced)
    while not delivery.idle and (left := until - monotonic()) > 0:
        await wakeup.wait(left)


def kept(gateway: Gateway, recipient: Recipient, sha256: str) -> None:
    """Record that a platform has confirmed the backup with this hash."""
    recipient_name, file = str(recipient.settings.recipient), gateway.building
    try:
        if not file.took(recipient_name, sha256, gateway.clock.now()):
            return
    except NotRecorded as error:
        log.warning(
            "the confirmation of %s for the backup is in memory only: %s", recipient_name, error,
            extra=fields(LogEvent.RECORD_NOT_WRITTEN, **recipient.names),
        )  # fmt: skip
        return
    assert file.latest is not None
    gateway.audit("backup.kept", {"recipient": recipient_name, "revision": file.latest.revision})


def upload_state(gateway: Gateway, recipient: Recipient) -> dict[str, Any] | None:
    """State of the backup at one platform; None: it gets none."""
    file = gateway.building
    if file.latest is None or not wanted(gateway, recipient.name):
        return None
    recipient_name, latest = str(recipient.settings.recipient), file.latest
    return {
        "made": stamp(latest.made),
        "revision": latest.revision,
        "held": file.held_by(recipient_name),
        "late": not file.held_by(recipient_name) and gateway.clock.now() - latest.made > DAY,
    }


def receipt_of(gateway: Gateway, recipient: Recipient, body: bytes) -> Receipt | None:
    """Read a receipt; None: it is signed, and its signature does not count. Raises ValueError."""
    if not body.startswith(b"ey"):  # a signed one begins with a header in base64url
        return parse(body)
    inbox, name = gateway.objects.inbox, recipient.settings.recipient
    try:
        kid, signed = verify.receipt_signed_by(body, name, inbox.known())
    except Refused as error:
        recipient.delivery.signature_problem = getattr(error, "detail", text_of(error))
        return None
    return replace(parse(signed), kid=kid)


async def deliver(gateway: Gateway, recipient: Recipient) -> None:
    """Send batches, status and backups, and count the data used; runs for ever."""
    recipient.delivery.turned = monotonic()
    gateway_id, delivery = gateway.identity.gateway, recipient.delivery
    chosen, settings = transport(recipient.transport), affordable(gateway.config, recipient.name)
    inbox = gateway.objects.inbox
    facts = GatewayFacts(
        gateway_id,
        credential.path(gateway.config.state),
        partial(gateway.objects.carried, via=recipient.name),
        gateway.cursors,
        inbox.audience.exact if inbox else "",
        partial(kept, gateway, recipient),
        delivery.all_came,
        recipient.name,
        partial(receipt_of, gateway, recipient),
        partial(needs_signature, gateway, settings),
    )
    for spool, thread in recipient.spools:
        await thread.run(spool.packs, chosen.packing(settings, facts))
    rhythm = settings.rhythm
    delivery.alarm_after, delivery.patience = rhythm.alarm, rhythm.patience
    delivery.by_broker = getattr(settings, "receipt", "") == "broker"

    clock, traffic, recipient_name = gateway.clock, gateway.traffic, settings.recipient
    route = Route(gateway, recipient, settings)
    proving = Proving(gateway, recipient)

    def pace(seal: float) -> float:
        allowed = gateway.config.uplinks[recipient.name].data
        return traffic.slowed(seal, recipient_name, allowed, clock.now())

    def count(sent: int) -> None:
        traffic.count(recipient_name, sent, clock.now())

    async def serve(uplink: Uplink) -> None:
        seal = pace(rhythm.seal)
        now = replace(rhythm, seal=seal, phase=pacing.phase(gateway_id, seal))
        sending = forward(recipient.outbox, uplink, now, delivery, clock, random.Random())
        jobs: dict[str, Callable[[], Awaitable[None]]] = {
            "traffic": partial(
                _count, uplink, count, lambda: pace(recipient.settings.seal), gateway.waits.usage
            ),
            "status": partial(
                _report, gateway.daemon, recipient.name, uplink, seal, gateway.waits.status
            ),
            "backup": partial(offer, gateway, recipient, uplink),
            "outcomes": partial(hurry_outcomes, gateway, recipient),
            "move": route.watch,
            "certificate": proving.watch,
        }
        # all but `sending` are supervised by themselves: their errors must not stop deliveries
        await together(sending, *(beside(what, run) for what, run in jobs.items()))

    def beside(what: str, run: Callable[[], Awaitable[None]]) -> Coroutine[Any, Any, None]:
        return gateway.jobs.alone(
            f"{what} {recipient.name}", run, UplinkLost, uplink=recipient.name
        )

    @asynccontextmanager
    async def opening() -> AsyncIterator[Uplink]:
        proving.opening()
        try:
            async with chosen.open(route.settings(), facts) as uplink:
                yield uplink
        except UplinkLost as error:
            await proving.lost(error)
            raise

    logged = ConnectionFields(
        fields(LogEvent.UPLINK_LOST, **recipient.names),
        fields(LogEvent.UPLINK_RESTORED, **recipient.names),
    )
    name, health = f"uplink {recipient.name}", (delivery.good, delivery.lose)
    await keep_open(name, opening, serve, UplinkLost, LONGEST_WAIT, *health, logged=logged)


async def _count(
    uplink: Uplink, count: Callable[[int], None], pace: Callable[[], float], every: float
) -> None:
    """Count the bytes that the line carries. `pace`: the seal interval by the budget.

    Raises UplinkLost, so that the uplink reopens more slowly, when the budget is far exceeded.
    """
    moved: Callable[[], int] = getattr(uplink, "used", lambda: 0)
    before, first_pace = 0, pace()
    try:
        while True:
            await pause(every)
            before, added = (total := moved()), total - before
            if not added:
                continue
            count(added)
            if pace() > 2 * first_pace:
                raise UplinkLost(
                    "this month's data are used up too fast: reopening with longer intervals"
                )
    finally:
        # on every end: otherwise the bytes since the last count would be missing in the budget
        count(moved() - before)


async def hurry_outcomes(gateway: Gateway, recipient: Recipient) -> None:
    """Have outcomes of orders sent at once, however slowly readings go over a metered line."""
    known: frozenset[str] = frozenset()
    wakeup = Wakeup(gateway.decided, gateway.objects.changed)
    while True:
        fresh = urgent_outcomes(gateway, recipient)
        if fresh - known:
            recipient.delivery.send_now()
        known = fresh
        await wakeup.wait()


async def _no_status(_: dict[str, Any]) -> None:
    """For transports that carry no status."""


async def _report(daemon: Daemon, name: str, uplink: Uplink, seal: float, look: float) -> None:
    """Send the status document: once a look finds a change, else at regular intervals. `look`:
    seconds between two looks.
    """
    send_status: Callable[[dict[str, Any]], Awaitable[None]] = getattr(uplink, "tell", _no_status)
    sent: dict[str, Any] = {}
    sent_at = monotonic() - budget.status_every(seal)
    while True:
        answer = await daemon.describe()
        if answer and name not in answer["uplinks"]:  # its spool is closed, and opened again soon
            await pause(look)
            continue
        fresh = document(answer, name) if answer else {}
        due = monotonic() - sent_at >= budget.status_every(seal)
        if due or news(sent, fresh):
            await send_status(fresh)
            sent, sent_at = fresh, monotonic()
        await pause(look)


if TYPE_CHECKING:
    Act = Callable[[Gateway, Any], Awaitable[str]]


async def obey(gateway: Gateway, request: Request) -> str:
    """Carry out a verified request; returns what was done, for people.

    Raises Forged E_REQUEST, whose sentence names no device except the requested one.
    """
    recipient = recipient_named(gateway.recipients, request.recipient)
    match request.act:
        case "resend":
            return await _resend(recipient, request, gateway.clock.now())
        case "directory":
            for spool, thread in recipient.spools:
                await thread.run(spool.tell_again)
            recipient.delivery.send_now()
            return "the directory is sent again"
        case "read-now":
            return await _read_now(gateway.lines, recipient, request.device)


KINDS: dict[str, Act] = {"request+jwt": obey, "uplink-move+jws": move}


def handlers(gateway: Gateway) -> dict[str, Handler]:
    """Return the handlers of the signed objects about uplinks, by type."""
    return {typ: partial(_once, gateway, act) for typ, act in KINDS.items()}


async def _once(gateway: Gateway, act: Act, verified: Verified) -> dict[str, Any]:
    """Carry out a verified object; the same bytes again get the first answer.

    Raises Forged E_KID if its issuer is not the recipient concerned, E_OFTEN if the issuer has made
    too many requests.
    """
    store = gateway.objects.inbox.trust_store
    # first, so that the same bytes again cost no allowance
    if first := verify.first_answer(store.db, verified):
        return first | {"again": True}
    must_be_its_own(gateway.recipients, verified)
    # committed before it is carried out: a request that fails must count as well
    with store.transaction() as db:
        take_allowance(db, verified.owner, gateway.clock.now())
    answer = {"typ": verified.typ, "jti": verified.jti}
    answer["outcome"] = await act(gateway, verified.model)
    with store.transaction() as db:
        verify.keep_answer(db, verified, answer)
    gateway.audit("object.accepted", answer | {"kid": verified.kid, "sha256": verified.sha256})
    return answer


def recipient_named(recipients: Recipients, recipient_name: str) -> Recipient:
    """The uplink to a recipient. Raises Forged E_REQUEST where there is none."""
    for recipient in recipients.values():
        if recipient.settings.recipient == recipient_name:
            return recipient
    raise impossible(Text("this gateway sends nothing to {recipient}", recipient=recipient_name))


def must_be_its_own(known: Recipients, verified: Verified) -> None:
    """Check that an object about an uplink comes from its recipient. Raises Forged E_KID,
    E_REQUEST.

    The signer is the recipient if the trust list gives its key the recipient's name. A signer with
    the name of no recipient acts for the uplink that brought the object, or for the only recipient.
    """
    recipient_name = verified.claims["recipient"]
    recipient = recipient_named(known, recipient_name)
    recipients = {str(one.settings.recipient) for one in known.values()}
    if verified.owner == recipient_name:
        return
    unnamed = verified.owner not in recipients
    if not (unnamed and (verified.via == recipient.name or len(recipients) == 1)):
        reason = Text(
            "only {recipient} may request what is sent to {recipient}: over its own uplink, or with"
            " a key that the trust list has under that name",
            recipient=recipient_name,
        )
        raise Forged(
            ObjectCode.KID, Text("{owner}: {reason}", owner=verified.owner, reason=reason), reason
        )


def impossible(reason: Text) -> Forged:
    """An E_REQUEST error with a reason that its sender may see."""
    return Forged(ObjectCode.REQUEST, reason, reason)


async def _resend(recipient: Recipient, request: Request, now: float) -> str:
    if (
        request.epoch is None
        or request.from_ is None
        or request.to is None
        or request.from_ > request.to
    ):
        raise impossible(
            Text("a resend needs `epoch`, `from` and `to`, and `from` must not exceed `to`")
        )
    try:
        number = await _ask_again(recipient, (request.epoch, request.from_, request.to, now))
    except LookupError as error:
        if recipient.kept:  # the batches may be in the spool on the disk, which is not open
            raise NotRecorded("the disk fails: its batches are sent again once it works") from error
        raise Forged(ObjectCode.EPOCH, text_of(error)) from error
    except ValueError as error:
        raise impossible(text_of(error)) from error
    recipient.delivery.send_now()
    return f"{number} batches are sent again"


async def _ask_again(recipient: Recipient, asked: tuple[str, int, int, float]) -> int:
    """Have the spool that knows the epoch resend; the number of batches.

    Raises LookupError, ValueError.
    """
    unknown: LookupError | None = None
    for spool, thread in recipient.spools:
        try:
            return await thread.run(spool.resend, *asked)
        except LookupError as error:
            unknown = unknown or error
    assert unknown is not None
    raise unknown


async def _read_now(lines: Lines, recipient: Recipient, wanted: str | None) -> str:
    """Read silent devices again now, and send what is stored without waiting for the interval."""
    if wanted is not None:
        try:
            lines.find(wanted)
        except Refused as error:  # its text lists all devices, which the sender must not see
            reason = f'no device "{wanted}" is configured at this gateway'
            raise Forged(ObjectCode.REQUEST, text_of(error), reason) from error
    asked = 0
    for line in lines.values():
        for device in line.devices.values():
            # a device that disturbs the line would cost the others their slots
            if wanted in {None, device.name} and device.failures and not _disturbs(line, device):
                device.rests_until, asked = 0.0, asked + 1
        if line.poller is not None:
            line.poller.wake()
    await asyncio.sleep(0)
    await recipient.intake.commit()
    recipient.delivery.send_now()
    return f"{asked} silent devices are read again, and the stored readings are sent"


def _disturbs(line: LinkDevices, device: Device) -> bool:
    return any(line.link.rest(point.address) for point in device.points[:1])
