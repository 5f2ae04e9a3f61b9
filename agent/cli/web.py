"""`gardien web`: open and close the web page, and say who may log in there.

The page is a process of its own, which systemd starts when somebody connects (gardien-web.socket).
Opening it writes the addresses into a drop-in of that socket.
"""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from agent.cli import page_socket
from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    Json,
    State,
    as_json,
    read_here,
    state_of,
    table,
    when,
    wrapped,
)
from agent.core.errors import AgentError, Refused
from agent.core.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True,
    help="Open and close the web page, and say who may log in there.",
)
person = typer.Typer(no_args_is_help=True, help="Invite people to the web page, and remove them.")
app.add_typer(person, name="person")

HOST_NAME = re.compile(r"[A-Za-z0-9-]{1,63}", re.ASCII)
NOT_INSTALLED = N_("the web page is not installed: sudo apt install gardien-web")
NOT_RUNNING = N_(
    "gardien is not running, and the page shows what it answers. Start it: sudo systemctl enable"
    " --now gardien"
)
LEAST, MOST = 15, 120
"""minutes of a set-up window"""
MINUTES = Annotated[
    int | None,
    typer.Option(
        help="How long the set-up window is open, 15 to 120; default: `web.setup` in the"
        " configuration.",
        show_default=False,
    ),
]


@app.command("open")
def open_(
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="An address of this gateway on which the page listens, such as 192.168.1.10 or"
            " 192.168.1.10:8443. It is added to `web.listen` in the configuration.",
            show_default=False,
        ),
    ] = None,
    minutes: MINUTES = None,
    no_setup: Annotated[
        bool, typer.Option("--no-setup", help="Open the page without a set-up window.")
    ] = False,
    certificate: Annotated[
        Path | None,
        typer.Option(help="A certificate from the building's CA (PEM), with --key."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Its private key (PEM), without password.")
    ] = None,
    new_certificate: Annotated[
        bool,
        typer.Option(
            "--new-certificate",
            help="Make a new certificate: browsers warn once more.",
        ),
    ] = False,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Open the web page on addresses of this gateway, and show the code for its set-up.

    With the code, an installer can log in until the set-up window ends; then people log in with
    their own names (gardien web person add). Repeat the command for another window.
    """
    from agent.api.page import urls
    from agent.enrolment.page_certificate import facts

    _as_root("open")
    if (certificate is None) != (key is None) or (certificate and new_certificate):
        raise typer.BadParameter(_("--certificate and --key go together, without another one"))
    if minutes is not None and not LEAST <= minutes <= MOST:
        raise typer.BadParameter(_("a set-up window is open for 15 to 120 minutes"))
    if not page_socket.UNIT.exists():
        raise Refused(NOT_INSTALLED)
    addresses = _addresses(config, listen or [])
    # before anything is changed
    page_socket.see_that_they_are_free(addresses)
    named = _name(named)
    folder = _begun(config, state)
    setup = _configure(config, folder, addresses, named)
    changed = _certificate(addresses, certificate, key, anew=new_certificate)
    page_socket.start(addresses, changed=changed)
    answer: dict[str, Any] = {"addresses": urls(addresses)}
    answer |= {"certificate": facts()}
    if not no_setup:
        minutes = minutes or round(setup / 60)
        answer |= _ask(folder, "web.open", minutes=minutes, named=named)
    if json:
        as_json(answer)
    else:
        _show_open(answer)


def _show_open(answer: dict[str, Any]) -> None:
    from agent.cli.status import in_two

    typer.echo(_("The page is open:"))
    for address in answer["addresses"]:
        typer.echo(f"    {address}")
    if facts := answer["certificate"]:
        typer.echo(_("Its certificate has the fingerprint (SHA-256):"))
        for half in in_two(facts["fingerprint"]).split():
            typer.echo(f"    {half}")
        if facts["own"]:
            typer.echo(
                wrapped(
                    _(
                        "The browser warns, because no CA knows this certificate: compare the"
                        " fingerprint that it shows, then continue to the page."
                    )
                )
            )
    if "code" in answer:
        until = when(answer["until"])
        typer.echo(_("Set-up code, until {until} and while it is used:", until=until))
        typer.echo(f"    {answer['code']}")


@app.command()
def close(
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Close the web page: nothing listens any more. People and passwords are kept.

    `web` stays in the configuration, so that `gardien web open` opens the same addresses again.
    """
    _as_root("close")
    page_socket.shut()
    try:
        _ask(state_of(config, state), "web.close", named=_name(named))
    except AgentError as error:
        # where no agent runs there is no window
        if error.text.message != NOT_RUNNING:
            typer.echo(error.text.in_language(), err=True)
    if json:
        as_json({"closed": True})
    else:
        typer.echo(_("The page is closed: nothing listens."))


@app.command()
def status(json: Json = False) -> None:
    """Show where the page listens, and its certificate. Exit status 1 if it is closed."""
    from agent.api.page import standing, urls
    from agent.cli.status import in_two

    now = standing(())
    listening = now["listening"] if now else []
    if json:
        as_json({"installed": page_socket.UNIT.exists()} | (now or {"opened": [], "listening": []}))
    elif not page_socket.UNIT.exists():
        typer.echo(_(NOT_INSTALLED))
    elif not listening:
        typer.echo(_("The page is closed: nothing listens. To open it: sudo gardien web open"))
    else:
        typer.echo(_("The page is open:"))
        for address in urls(listening):
            typer.echo(f"    {address}")
        if now and (facts := now["certificate"]):
            typer.echo(_("Its certificate has the fingerprint (SHA-256):"))
            for half in in_two(facts["fingerprint"]).split():
                typer.echo(f"    {half}")
            typer.echo(_("It is valid until {day}.", day=when(facts["not_after"])))
    raise typer.Exit(0 if listening else 1)


@person.command()
def add(
    name: Annotated[str, typer.Argument(help="The name with which the person logs in.")],
    role: Annotated[
        list[str],
        typer.Option(help="installer, manager, operator, dpo or reader; repeat it for several."),
    ],
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Invite a person to the page: show a code with which the person chooses a password.

    For a person who is known already, the code replaces a forgotten password, and the roles are
    those given here.
    """
    answer = _ask(state_of(config, state), "web.person.add", name=name, roles=role, named=named)
    if json:
        as_json(answer)
        return
    typer.echo(_("Invitation of {name}, until {until}:", name=name, until=when(answer["until"])))
    typer.echo(f"    {answer['code']}")
    typer.echo(
        wrapped(_("The person opens the page, types the code and chooses a password. Tell it to"
                  " nobody else."))
    )  # fmt: skip


@person.command("list")
def list_(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """List who may log in at the page, with roles, and the programs that fetch metrics."""
    answer = _ask(state_of(config, state), "web.person.list")
    if json:
        as_json(answer)
        return
    if not answer["persons"]:
        typer.echo(
            _("Nobody may log in. To invite a person: gardien web person add NAME --role ROLE")
        )
    else:
        table(
            (_("name"), _("roles"), _("state"), _("logged in")),
            [
                (one["name"], ", ".join(one["roles"]), _state(one), str(one["logins"]))
                for one in answer["persons"]
            ],
            whole=_("name"),
        )
    if until := answer["setup_until"]:
        typer.echo(_("The set-up window is open until {until}.", until=when(until)))


def _state(person: dict[str, Any]) -> str:
    """Return what a person must do before the next login, in a few words."""
    if person["scraper"]:
        return _("token for metrics")
    if person["locked_until"]:
        return _("must wait until {until}", until=when(person["locked_until"]))
    if person["invited_until"]:
        return _("invited until {until}", until=when(person["invited_until"]))
    return _("has a password") if person["password"] else _("the invitation has ended")


@person.command()
def remove(
    name: Annotated[str, typer.Argument(help="The name with which the person logs in.")],
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Remove a person, or the token of a program. Logins that are in use end at once."""
    _ask(state_of(config, state), "web.person.remove", name=name, named=named)
    typer.echo(_("{name} may not log in at the page any more", name=name))


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="A name for the program, such as prometheus.")],
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Make a token with which a program fetches the metrics of this gateway, and nothing else."""
    answer = _ask(state_of(config, state), "web.token", name=name, named=named)
    if json:
        as_json(answer)
    else:
        typer.echo(answer["login"])


def _as_root(command: str) -> None:
    if os.geteuid():
        raise Refused("only root opens and closes the page: sudo gardien web {command}",
                      command=command)  # fmt: skip


def _name(named: str | None) -> str | None:
    """Ask at a terminal who this is, as root is an account that several people use."""
    from agent.cli.dialogue import Dialogue

    if named or not os.isatty(0):
        return named
    return Dialogue().ask("as", _("Your name? It is recorded with every change."))


def _ask(folder: Path, call: str, **args: Any) -> dict[str, Any]:
    """Return the answer of the running agent: what it keeps of logins is in its memory only.

    Raises Refused.
    """
    from agent.local import ask_daemon

    answer = ask_daemon(folder, call, args, lambda _: None, typed=call)
    if answer is None:
        raise Refused(NOT_RUNNING)
    return read_here(answer)


def _addresses(config: Path, listen: Sequence[str]) -> list[str]:
    """Return the addresses of the configuration and those given. Raises Refused if none is."""
    from agent.config.web import ip_of, listen_address
    from agent.core.errors import ConfigError
    from agent.core.i18n import text_of

    try:
        given = [listen_address(text) for text in listen]
    except ValueError as error:
        raise Refused(text_of(error)) from error
    configured: list[str] = []
    # mistakes are reported when the configuration is changed
    with suppress(ConfigError):
        from agent.config.load import load

        web = load(config).web
        configured = list(web.listen) if web else []
    addresses = list(dict.fromkeys((*configured, *given)))
    if not addresses:
        _name_one()
    here = _here()
    for address in addresses:
        ip = ip_of(address)
        if not (ip.is_loopback or ip.is_unspecified or str(ip) in here):
            # a network that is plugged in later, or a mistake
            text = _("! this machine does not have the address {ip} now", ip=ip)
            typer.echo(wrapped(text), err=True)
        if ip.is_global:
            text = _("! {ip} is an address of the internet, where strangers try passwords", ip=ip)
            typer.echo(wrapped(text), err=True)
    return addresses


def _here() -> list[str]:
    from agent.api.page import machine_addresses

    return machine_addresses()


def _name_one() -> NoReturn:
    """Refuse to open the page without an address, and name those that this machine has."""
    commands = "\n".join(f"    sudo gardien web open --listen {ip}" for ip in _here())
    if not commands:
        raise Refused(
            "this machine has no address in a network. Connect it to the building's network, then:"
            " sudo gardien web open --listen ADDRESS"
        )
    raise Refused(
        "state the address on which the page listens, that of the building's network:\n{commands}",
        commands=commands,
    )


def _begun(config: Path, state: Path | None) -> Path:
    """Begin the configuration where there is only the sample, and start the agent.

    Returns its state directory.
    """
    from agent.cli.commission import begin_building
    from agent.cli.dialogue import Dialogue

    folder = state or state_of(config, state)
    if begin_building(Dialogue(), config, folder) and config == DEFAULT_CONFIG:
        page_socket.systemctl("enable", "--now", "gardien.service")
    return state_of(config, state)


def _configure(config: Path, folder: Path, addresses: Sequence[str], named: str | None) -> float:
    """Write the addresses into the configuration unless they are there, and have it loaded.

    Returns the length of a set-up window, in seconds. Raises Refused.
    """
    import json

    from agent.config.edit import put
    from agent.config.files import Files
    from agent.config.load import checked

    files = Files(config)
    web = checked(files).web
    if web and list(web.listen) == list(addresses):
        return web.setup
    changed, home = put(files, ("web", "listen"), json.dumps(list(addresses)))
    after = checked(changed).web
    assert after
    changed.write(home)
    _ask(folder, "reload", named=named)
    return after.setup


def _certificate(
    addresses: Sequence[str], certificate: Path | None, key: Path | None, *, anew: bool
) -> bool:
    """Install a certificate if one is given or there is none; whether one was installed.

    The gateway's own stays when its addresses change: people have compared its fingerprint.
    """
    from agent.config.web import ip_of
    from agent.enrolment import page_certificate

    if certificate and key:
        pair = page_certificate.issued(certificate, key, time.time())
    elif anew or page_certificate.facts() is None:
        names = [str(ip_of(one)) for one in addresses if not ip_of(one).is_unspecified]
        if len(names) < len(addresses):
            names += _here()
        host = socket.gethostname().partition(".")[0]
        if HOST_NAME.fullmatch(host):
            names += [host, f"{host}.local"]
        pair = page_certificate.make(dict.fromkeys(names), time.time())
    else:
        return False
    page_certificate.keep(pair)
    return True
