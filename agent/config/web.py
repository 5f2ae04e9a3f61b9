"""The section `web`: on which addresses the page of this gateway listens."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from agent.config.models import Section
from agent.core.i18n import Text
from agent.core.settings import Duration, shown

PORT = 8443
"""of an address without a port: accounts need no right for it, and people remember it"""
HIGHEST_PORT = 65_535
WRITTEN = re.compile(
    r"\[(?P<v6>[^\]]*)\](:(?P<port6>[0-9]{1,5}))?|(?P<v4>[^:]+)(:(?P<port4>[0-9]{1,5}))?"
)
"""`192.168.1.10:8443`, `[fd00::10]:8443`, each also without the port"""


def listen_address(text: str) -> str:
    """Return an address as `ADDRESS:PORT` or `[ADDRESS]:PORT`. Raises ValueError."""
    match = WRITTEN.fullmatch(text.strip())
    host = (match["v6"] or match["v4"]) if match else text.strip()
    port = int((match["port6"] or match["port4"] or PORT) if match else PORT)
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(
            Text(
                "expected an address of this gateway such as 192.168.1.10:8443 or"
                " [fd00::10]:8443, found {found}",
                found=shown(text),
            )
        ) from None
    # a link-local address needs the name of an interface, and browsers take none
    if (
        ip.is_multicast
        or (isinstance(ip, ipaddress.IPv6Address) and ip.is_link_local)
        or not 0 < port <= HIGHEST_PORT
    ):
        raise ValueError(Text("{address} is no address that a browser can open", address=text))
    return joined(ip, port)


def joined(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> str:
    """Return an address and a port as people and systemd write them."""
    return f"[{ip}]:{port}" if isinstance(ip, ipaddress.IPv6Address) else f"{ip}:{port}"


def ip_of(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IP address of what `listen_address` has returned."""
    return ipaddress.ip_address(address.rpartition(":")[0].strip("[]"))


def _listed(written: object) -> object:
    """Take a single address without brackets for a list of one."""
    return [written] if isinstance(written, str) else written


Address = Annotated[str, AfterValidator(listen_address)]


class Web(Section):
    """The web page; without this section it is closed. See docs/web.md."""

    listen: Annotated[
        tuple[Address, ...],
        BeforeValidator(_listed, json_schema_input_type=str | tuple[Address, ...]),
    ] = Field(min_length=1, max_length=8, examples=[["192.168.1.10:8443"]])
    """the addresses of this gateway on which the page listens; the port is 8443 unless stated"""
    anywhere: bool = Field(False, examples=[True])
    """permits 0.0.0.0 and [::] in `listen`: all addresses that this gateway has or will have, also
    those of a modem"""
    setup: Annotated[Duration, Field(ge=900, le=7_200)] = Field(1_800.0, examples=["30min"])
    """how long the set-up window is open that `gardien web open` begins: 15min to 2h"""

    @property
    def public(self) -> tuple[str, ...]:
        """The addresses that the whole internet can reach, unless a firewall is between."""
        return tuple(one for one in self.listen if ip_of(one).is_global)

    @model_validator(mode="after")
    def _named_addresses(self) -> Self:
        wide = [one for one in self.listen if ip_of(one).is_unspecified]
        if wide and not self.anywhere:
            raise ValueError(
                Text(
                    "{address} is every address of this gateway, also those of a modem: name the"
                    " address of the building's network, or write `anywhere: true` beside it",
                    address=wide[0],
                )
            )
        if len(set(self.listen)) < len(self.listen):
            raise ValueError(Text("an address stands in `listen` twice"))
        return self
