"""Roles at the local socket: each call needs one right, and each right belongs to some roles.

The members of the group `gardien-ROLE` have a role, and so do the accounts that the configuration
names (`building: {roles: …}`). The kernel tells the account of a caller. Its groups are read from
the machine's group database at each call, so `adduser` and `deluser` take effect at once. Root and
the service's own account have every role (docs/decisions/035).
"""

from __future__ import annotations

import grp
import os
import pwd
from enum import StrEnum, auto
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.core.i18n import N_, Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.config.models import Building

GROUP = "gardien-"
"""first part of a role's group, such as `gardien-manager`"""
OLD_GROUP = "gardien-admin"
"""up to version 0.1.0 its members had every right; they keep each role that nobody else has"""
CONFIGURED = "building.roles"
OF_THE_PAGE = frozenset({"web.greet", "web.salt", "web.enter", "web.code", "web.choose"})
"""what the web page's own account may call while nobody is logged in"""
WITH_A_LOGIN = frozenset({"web.me", "web.leave"})
"""what everybody may call who is logged in to the page"""
OF_SCRAPERS = frozenset({"metrics", "web.me"})
"""what a program may call that fetches numbers by the page"""
OF_ROOT = frozenset({
    "web.open", "web.close", "web.person.add", "web.person.list", "web.person.remove", "web.token",
})  # fmt: skip
"""what needs every role, and is never done through the page: nobody there gives roles"""

NOT_YOURS = N_(
    'nothing was done: the account "{account}" may not run `gardien {command}`. These roles may:'
    " {roles}. An administrator can give one, in `building: {{roles: …}}` of the configuration or"
    " with: sudo adduser {account} {group}"
)
NO_ROLE = N_(
    'nothing was done: the account "{account}" has no role at this gateway. An administrator can'
    " give one, such as to see the status: sudo adduser {account} {group}"
)
NO_ROLE_FOR = N_(
    'nothing was done: the account "{account}" has no role at this gateway. These roles may run'
    " `gardien {command}`: {roles}. An administrator can give one: sudo adduser {account} {group}"
)
NOT_AT_THE_PAGE = N_(
    "nothing was done: {person} may not do this. These roles may: {roles}. An administrator can"
    " give one: sudo gardien web person add NAME --role {role}"
)
ONLY_ROOT = N_(
    "nothing was done: only root may do this, at the command line: sudo gardien {command}"
)


class Role(StrEnum):
    """What a person does for the building."""

    INSTALLER = auto()
    MANAGER = auto()
    OPERATOR = auto()
    """of the boiler and other plant"""
    DPO = auto()
    """the data protection officer"""
    READER = auto()

    @property
    def group(self) -> str:
        """The group of this machine whose members have the role."""
        return f"{GROUP}{self}"


EVERY_ROLE = frozenset(Role)
INSTALLER, MANAGER, OPERATOR, DPO, READER = Role
NAMES: Mapping[Role, str] = {
    INSTALLER: N_("installer (group gardien-installer)"),
    MANAGER: N_("manager (group gardien-manager)"),
    OPERATOR: N_("operator (group gardien-operator)"),
    DPO: N_("data protection officer (group gardien-dpo)"),
    READER: N_("reader (group gardien-reader)"),
}
"""their names for people"""
PERSONS: Mapping[Role, str] = {
    INSTALLER: N_("installer"),
    MANAGER: N_("manager"),
    OPERATOR: N_("operator"),
    DPO: N_("data protection officer"),
    READER: N_("reader"),
}
"""the same without groups, for the people of the web page"""


class Right(StrEnum):
    """What a caller may do. Each call needs exactly one right."""

    SEE_GATEWAY = auto()
    """see the state of the gateway, without anything about dwellings"""
    SEE_PLANT = auto()
    """see what is commanded, by whom and why; the reasons may name people"""
    SEE_PLACES = auto()
    """see places, their names, and their meters"""
    SEE_PEOPLE = auto()
    """see occupancies, consents, what is sent about dwellings, and the access log"""
    READ = auto()
    """read values of common plant; those of dwellings also need METERS"""
    PLACES = auto()
    """record places and aliases"""
    METERS = auto()
    """record and prove meters, and read their values"""
    PEOPLE = auto()
    """record occupancies, consents and duties"""
    STOP = auto()
    """withdraw consents, end duties, and write letters to occupants"""
    EXPORT = auto()
    """read the backup and notifications of breaches"""
    LINES = auto()
    """change lines, configuration and clock, and retry refused batches"""
    KEYS = auto()
    """change the gateway's keys and its trust list"""
    CLOSE = auto()
    """close an uplink"""
    OBJECTS = auto()
    """bring objects that others have signed: only their signature makes them count"""
    TRY = auto()
    """test a control or an order"""
    COMMAND = auto()
    """release controls and opt out"""
    RECORD_VOTE = auto()
    """record the vote of an assembly"""
    ACKNOWLEDGE = auto()
    """acknowledge findings; those of others are refused by the call"""
    CONFIRM_VOTE = auto()
    """confirm a vote with the code on paper; never held by a role that may command"""


HELD: Mapping[Right, frozenset[Role]] = {
    Right.SEE_GATEWAY: EVERY_ROLE,
    Right.SEE_PLANT: EVERY_ROLE - {READER},
    Right.SEE_PLACES: frozenset({INSTALLER, MANAGER, DPO}),
    Right.SEE_PEOPLE: frozenset({MANAGER, DPO}),
    Right.READ: frozenset({INSTALLER, OPERATOR}),
    Right.PLACES: frozenset({INSTALLER, MANAGER}),
    Right.METERS: frozenset({INSTALLER}),
    Right.PEOPLE: frozenset({MANAGER}),
    Right.STOP: frozenset({MANAGER, DPO}),
    Right.EXPORT: frozenset({MANAGER, DPO}),
    Right.LINES: frozenset({INSTALLER}),
    Right.KEYS: frozenset({INSTALLER}),
    Right.CLOSE: frozenset({INSTALLER, DPO}),
    Right.OBJECTS: frozenset({INSTALLER, MANAGER, OPERATOR, DPO}),
    Right.TRY: frozenset({INSTALLER, OPERATOR}),
    Right.COMMAND: frozenset({OPERATOR}),
    Right.RECORD_VOTE: frozenset({MANAGER}),
    Right.ACKNOWLEDGE: frozenset({INSTALLER, MANAGER, OPERATOR}),
    Right.CONFIRM_VOTE: frozenset({MANAGER, READER}),
}

NEEDS: Mapping[str, Right] = {
    "status": Right.SEE_GATEWAY,  # agent/api/calls.py leaves out what the asker may not see
    "metrics": Right.SEE_GATEWAY,
    "uplink.list": Right.SEE_GATEWAY,
    "control.list": Right.SEE_PLANT,
    "control.grants": Right.SEE_PLANT,
    "control.history": Right.SEE_PLANT,
    "control.report": Right.SEE_PLANT,
    "history.series": Right.SEE_GATEWAY,  # agent/api/history.py leaves out what is of the plant
    "history.read": Right.SEE_GATEWAY,
    "control.course": Right.SEE_PLANT,
    "clock.show": Right.SEE_GATEWAY,
    "key.show": Right.SEE_GATEWAY,
    "trust.show": Right.SEE_GATEWAY,
    "audit.verify": Right.SEE_GATEWAY,
    "privacy.catalogue": Right.SEE_GATEWAY,
    "privacy.register": Right.SEE_GATEWAY,
    "privacy.assessment": Right.SEE_GATEWAY,
    "place.list": Right.SEE_PLACES,
    "place.check": Right.SEE_PLACES,
    "dwelling.list": Right.SEE_PLACES,
    "alias.list": Right.SEE_PLACES,
    "meter.list": Right.SEE_PLACES,
    "report.commissioning": Right.SEE_PLACES,  # with indexes only for METERS
    "meter.proofs": Right.SEE_PLACES,
    "occupancy.list": Right.SEE_PEOPLE,
    "consent.list": Right.SEE_PEOPLE,
    "consent.count": Right.SEE_PEOPLE,
    "consent.marks": Right.SEE_PEOPLE,
    "consent.due": Right.SEE_PEOPLE,
    "occupancy.proposed": Right.SEE_PEOPLE,
    "duty.list": Right.SEE_PEOPLE,
    "privacy.breach.list": Right.SEE_PEOPLE,
    "privacy.breach.show": Right.SEE_PEOPLE,
    "audit.list": Right.SEE_PEOPLE,
    "privacy.explain": Right.SEE_PEOPLE,
    "privacy.disclosures": Right.SEE_PEOPLE,
    "privacy.access": Right.SEE_PEOPLE,
    "read": Right.READ,
    "profile.record": Right.READ,
    "bundle": Right.SEE_PLACES,  # its pseudonyms hide dwellings, as far as they are known
    "bundle.flight": Right.SEE_PLACES,
    "bundle.read": Right.SEE_PLACES,
    "config.show": Right.SEE_PLACES,  # names of devices may be labels of dwellings
    "place.new": Right.PLACES,
    "place.import": Right.PLACES,
    "alias.add": Right.PLACES,
    "alias.end": Right.PLACES,
    "alias.import": Right.PLACES,
    "meter.assign": Right.METERS,
    "meter.exchange": Right.METERS,
    "meter.remove": Right.METERS,
    "meter.correct": Right.METERS,
    "meter.import": Right.METERS,
    "meter.verify": Right.METERS,
    "meter.load": Right.METERS,
    "meter.match": Right.METERS,
    "meter.swap": Right.METERS,
    "meter.walk": Right.METERS,
    "visit.show": Right.METERS,
    "visit.keep": Right.METERS,
    "visit.open": Right.METERS,
    "occupancy.move_in": Right.PEOPLE,
    "occupancy.move_out": Right.PEOPLE,
    "occupancy.correct": Right.PEOPLE,
    "occupancy.import": Right.PEOPLE,
    "occupancy.accept": Right.PEOPLE,
    "occupancy.dismiss": Right.PEOPLE,
    "consent.give": Right.PEOPLE,
    "consent.forms": Right.PEOPLE,
    "consent.answers": Right.PEOPLE,
    "duty.add": Right.PEOPLE,
    "object.all_came": Right.PEOPLE,
    "consent.withdraw": Right.STOP,
    "duty.end": Right.STOP,
    "privacy.person": Right.STOP,
    "privacy.breach.new": Right.STOP,
    "privacy.breach.add": Right.STOP,
    "privacy.breach.close": Right.STOP,
    "backup": Right.EXPORT,
    "config.backup.to": Right.EXPORT,  # whose key opens every backup
    "privacy.breach.notification": Right.EXPORT,
    "privacy.breach.letters": Right.EXPORT,
    "scan": Right.LINES,
    "line.find": Right.LINES,
    "reload": Right.LINES,
    "configuration": Right.LINES,
    "config.lines.add": Right.LINES,
    "config.devices.add": Right.LINES,
    "config.uplink.add": Right.LINES,
    "device.try": Right.LINES,
    "clock.set": Right.LINES,
    "clock.reset": Right.LINES,
    "uplink.retry": Right.LINES,
    "uplink.carry": Right.LINES,
    "uplink.file": Right.LINES,
    "uplink.close": Right.CLOSE,
    "key.csr": Right.KEYS,
    "key.install": Right.KEYS,
    "key.enroll": Right.KEYS,
    "key.renew": Right.KEYS,
    "key.rotate": Right.KEYS,
    "trust.look": Right.KEYS,
    "trust.accept": Right.KEYS,
    "object.accept": Right.OBJECTS,
    "object.preview": Right.OBJECTS,
    "object.list": Right.OBJECTS,
    "finding.acknowledge": Right.ACKNOWLEDGE,
    "control.test": Right.TRY,
    "control.dry_run": Right.TRY,
    "control.release": Right.COMMAND,
    "control.hand_back": Right.COMMAND,
    "control.abandon": Right.COMMAND,
    "control.accept": Right.COMMAND,
    "control.opt_out": Right.COMMAND,
    "control.opt_in": Right.COMMAND,
    "control.witness": Right.RECORD_VOTE,
    "control.vote": Right.CONFIRM_VOTE,
    "control.confirm": Right.CONFIRM_VOTE,
}
"""the right that each call needs; a call that is missing here is refused to everybody"""

TYPED: Mapping[str, str] = {
    "clock.show": "clock",
    "metrics": "status",
    "line.find": "scan",
    **dict.fromkeys(("bundle", "bundle.flight", "bundle.read"), "support-bundle"),
    "configuration": "config diff",
    "config.show": "check",
    "config.lines.add": "commission",
    "config.devices.add": "commission",
    **dict.fromkeys(("config.uplink.add", "config.backup.to"), "commission"),
    "device.try": "read",
    "history.series": "history list",
    "history.read": "history show",
    "control.course": "history order",
    **{f"alias.{word}": f"place alias {word}" for word in ("add", "end", "import", "list")},
    "consent.answers": "consent import",
    "consent.count": "consent list",
    "dwelling.list": "place list",
    "report.commissioning": "report",
    **dict.fromkeys(("meter.walk", "visit.show", "visit.keep", "visit.open"), "commission"),
    "trust.look": "trust accept",
    "uplink.file": "uplink carry",
    "object.preview": "object accept",
    "control.hand_back": "control release",
    "control.abandon": "control release",
    "control.opt_in": "control opt-out",
    "control.vote": "control confirm",
}
"""the command that makes a call, if its words differ from the call's name"""


def command_of(call: str) -> str:
    """Return the command that makes a call, as people type it after `gardien`."""
    return TYPED.get(call) or call.replace(".", " ").replace("_", "-")


def see_that_it_may(account: str, roles: frozenset[Role], call: str, *, page: bool = False) -> None:
    """Check that roles allow a call. Raises Refused, naming the roles and how to get one.

    `page`: the account is a person of the web page.
    """
    command = command_of(call)
    if call in OF_ROOT:
        # a person of the page may have every role, and still gives none
        if page or roles != EVERY_ROLE:
            raise Refused(ONLY_ROOT, command=command)
        return
    holders = HELD[NEEDS[call]]
    if not roles & holders:
        named = [one for one in Role if one in holders]
        # Propose the role with the fewest rights that is enough.
        least = min(named, key=_rights)
        if page:
            names = [Text(PERSONS[one]) for one in named]
            raise Refused(NOT_AT_THE_PAGE, person=account, roles=names, role=str(least))
        raise Refused(
            NOT_YOURS if roles else NO_ROLE_FOR,
            command=command,
            account=account,
            roles=[Text(NAMES[one]) for one in named],
            group=least.group,
        )


def _rights(role: Role) -> int:
    """Return how many rights a role has."""
    return sum(role in roles for roles in HELD.values())


def roles_of(uid: int, building: Building) -> frozenset[Role]:
    """Return the roles of an account of this machine; without any, it may make no call."""
    if uid in {0, os.getuid()}:
        return EVERY_ROLE
    try:
        account = pwd.getpwuid(uid)
        groups = set(map(_name, os.getgrouplist(account.pw_name, account.pw_gid)))
    except (KeyError, OSError):
        return frozenset()
    has = {account.pw_name, *(f"%{group}" for group in groups)}
    roles = {role for role in Role if has & {f"%{role.group}", *getattr(building.roles, role)}}
    # Until somebody has the new role, the old group keeps it: an upgrade must lock nobody out.
    if OLD_GROUP in groups:
        roles |= {role for role in Role if not any(_holders(role, building))}
    return frozenset(roles)


def holders(building: Building) -> dict[str, list[str]]:
    """Return who has each role, and by what: `marie (gardien-manager)`. Root is not named."""
    by_role = {role: sorted(set(_holders(role, building))) for role in Role}
    old = [f"{name} ({OLD_GROUP})" for name in _members(OLD_GROUP)]
    return {str(role): named or old for role, named in by_role.items()}


def of_the_old_group(building: Building) -> tuple[list[str], list[str]]:
    """Return the members of the old group, and the roles that they keep."""
    left = [str(role) for role in Role if not any(_holders(role, building))]
    return _members(OLD_GROUP), left


def missing(building: Building) -> list[str]:
    """Return the configured accounts and groups that this machine does not have."""
    return [entry for role in Role for entry in getattr(building.roles, role) if not _known(entry)]


def _known(entry: str) -> bool:
    try:
        grp.getgrnam(entry[1:]) if entry.startswith("%") else pwd.getpwnam(entry)
    except KeyError:
        return False
    return True


def _holders(role: Role, building: Building) -> Iterator[str]:
    for entry in (f"%{role.group}", *getattr(building.roles, role)):
        if entry.startswith("%"):
            yield from (f"{name} ({entry[1:]})" for name in _members(entry[1:]))
        else:
            yield f"{entry} ({CONFIGURED})"


def _members(group: str) -> list[str]:
    """Return the accounts that the group lists, and those whose primary group it is."""
    try:
        entry = grp.getgrnam(group)
    except KeyError:
        return []
    own = [one.pw_name for one in pwd.getpwall() if one.pw_gid == entry.gr_gid]
    return sorted({*entry.gr_mem, *own})


def _name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
