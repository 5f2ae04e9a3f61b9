"""Who makes a call through the web page: the person of its login, with that person's roles only.

The page is a process of its own with an account that may call nothing by itself. It sends the login
of the person for whom it asks beside each call. Root and the service's own account may do the same.
Rules W1, W2.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.api.roles import (
    OF_SCRAPERS,
    OF_THE_PAGE,
    WITH_A_LOGIN,
    Role,
    see_that_it_may,
)
from agent.core.errors import LoginNeeded, Refused
from agent.core.i18n import N_
from agent.gateway.page_logins import LoginKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.api.registry import Caller
    from agent.gateway.gateway import Gateway

PAGE = "gardien-web"
"""the account of the web page"""
MEMBERS = ("login", "reason", "live")
"""members of a request that only the page sends"""
SHORTEST_REASON, LONGEST_REASON = 5, 200
"""characters"""
LONGEST_TOKEN = 100
"""characters of a login"""

LOG_IN = N_("your login has ended: log in again")
NOT_THE_PAGE = N_(
    'nothing was done: the account "{account}" may not act for people of the web page. Call without'
    " `login` and `reason`"
)
CLOSED = N_(
    "the web page is closed: the configuration has no section `web`. To open it: sudo gardien web"
    " open"
)


def is_page(account: str) -> bool:
    """Whether an account is that of the web page, which has no role whatever groups it is in."""
    return account == PAGE


def acts_for_others(uid: int, account: str) -> bool:
    """Whether an account may send the login of somebody else."""
    return uid in {0, os.getuid()} or is_page(account)


def is_open(gateway: Gateway) -> bool:
    """Whether the configuration opens the page."""
    return gateway.config.web is not None


def caller_of(
    gateway: Gateway, caller: Caller, request: Mapping[str, Any], *, for_others: bool
) -> Caller:
    """Return who makes a request: the caller, or the person of its login.

    `for_others`: whether the caller may send a login. Raises Refused if not, or if the page is
    closed; LoginNeeded if the login is unknown or has ended, or if the page has none for a call
    that needs one.
    """
    given = any(name in request for name in MEMBERS)
    if given and not for_others:
        raise Refused(NOT_THE_PAGE, account=caller.who)
    token, reason = request.get("login", ""), request.get("reason", "")
    if not isinstance(token, str) or not isinstance(reason, str):
        raise Refused("not a call: `login` and `reason` must be texts")
    if not token and not is_page(caller.who):
        return caller
    call = request.get("call")
    if not is_open(gateway) and call != "web.greet":
        raise Refused(CLOSED)
    # nobody is logged in where these are called, and none of them has a file
    if isinstance(call, str) and call in OF_THE_PAGE and not request.get("files"):
        return caller
    if not token:
        raise LoginNeeded(LOG_IN)
    used = gateway.page.use(token[:LONGEST_TOKEN], counts=not request.get("live"))
    if used is None:
        raise LoginNeeded(LOG_IN)
    key, login, roles = used
    return replace(
        caller,
        who=f"{login.name} (web)",
        roles=frozenset(role for role in Role if role in roles),
        page=True,
        reason=checked_reason(reason),
        login="" if login.kind is LoginKind.SCRAPER else key,
    )


def checked_reason(reason: str) -> str:
    """Return a reason in one line; empty if it is none that can be recorded."""
    line = " ".join(reason.split())
    right = SHORTEST_REASON <= len(line) <= LONGEST_REASON and line.isprintable()
    return line if right else ""


def check_may(caller: Caller, call: str, *, for_others: bool) -> None:
    """Check that a caller may make a call, before its arguments are looked at. Raises Refused.

    Raises LoginNeeded for a call that only a person of the page can make.
    """
    if call in OF_THE_PAGE:
        if not for_others or caller.page:
            raise Refused("nothing was done: only the web page's own account makes this call")
    elif caller.page and not caller.login:
        if call not in OF_SCRAPERS:
            raise Refused("nothing was done: a token for numbers opens nothing else")
    elif call in WITH_A_LOGIN:
        if not caller.page:
            raise LoginNeeded(LOG_IN)
    else:
        see_that_it_may(caller.who, caller.roles, call, page=caller.page)
